//! What tells whether a declaration may be trusted yet: the registration, older pods, and an account that may join.

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject},
    runtime::events::EventType,
};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context, Reads, calls, lean::Lean};
use crate::{
    api::{AIWorkflow, WORKFLOW_LABEL, is_dns_subdomain},
    plan::{self, Child, Predecessors, Registration},
    scan::POD,
    webhook::{lookup::Live, pages::Ask},
};

/// Pages that are read; more pods than these hold count as older.
const PAGES: usize = 200;
/// Most pods that are looked at, and of each only its metadata.
const PODS: usize = 10_000;
/// Pods that have ended start nothing again, and need not be waited for.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

impl Reads {
    /// Reads the registration, past every cache: what is granted rests on its UID.
    pub async fn registration(&self) -> Result<Option<Registration>, CallError> {
        let resource = ApiResource {
            group: "admissionregistration.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "admissionregistration.k8s.io/v1".to_owned(),
            kind: "ValidatingWebhookConfiguration".to_owned(),
            plural: "validatingwebhookconfigurations".to_owned(),
        };
        let api = Api::<Lean<DynamicObject>>::all_with(self.client.clone(), &resource);
        let what = format!("read ValidatingWebhookConfiguration {}", self.registration);
        let found = calls::optional(calls::bounded(&what, api.get(&self.registration)).await)?;
        let found = found.map(|Lean(object)| calls::raw(&what, object)).transpose()?;
        Ok(found.as_ref().and_then(Registration::from_object))
    }
}

/// What stands under the name of the workflow's account and is not its own. An account of its own that lost its labels joins the children.
pub(super) async fn account(
    workflow: &AIWorkflow,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<Option<Value>, CallError> {
    let name = workflow.service_account_name();
    // What no account can be called becomes part of no URL.
    if has_own_account(workflow, children) || !is_dns_subdomain(name) {
        return Ok(None);
    }
    let namespace = workflow.namespace().unwrap_or_default();
    Ok(match reads.calls.get(Child::ServiceAccount, &namespace, name).await? {
        Some(found) if is_own(workflow, &found) => {
            children.push((Child::ServiceAccount, found));
            None
        }
        found => found,
    })
}

fn is_own(workflow: &AIWorkflow, object: &Value) -> bool {
    let uid = workflow.uid();
    uid.is_some() && plan::owner_uid(object) == uid.as_deref()
}

fn has_own_account(workflow: &AIWorkflow, children: &[(Child, Value)]) -> bool {
    let name = workflow.service_account_name();
    children.iter().any(|(child, object)| {
        *child == Child::ServiceAccount && plan::name_of(object) == name && is_own(workflow, object)
    })
}

/// Counts running pods page by page: those that are older than the workflow, where there can be any; and, where its account is yet to
/// be made, those of others that run as an account of that name, however old they are. Whatever runs as an account that joins is what
/// it joins for.
pub(super) async fn predecessors(
    workflow: &AIWorkflow,
    children: &[(Child, Value)],
    account: Option<&Value>,
    reads: &Reads,
) -> Result<(Predecessors, Predecessors), CallError> {
    let (mut older, mut strangers) = (Predecessors::default(), Predecessors::default());
    let name = workflow.name_any();
    let is_new = plan::may_have_predecessors(workflow, children);
    if is_new {
        let labelled = format!("{WORKFLOW_LABEL}={name}");
        let cut_off = pods(workflow, labelled, RUNNING.to_owned(), reads, |pod, created| {
            older.look_at(workflow, pod, created);
        })
        .await?;
        if cut_off {
            older.cut_off();
        }
    }
    let called = workflow.service_account_name();
    let is_there = account.is_some() || has_own_account(workflow, children);
    // What is no workflow's or no account's name becomes part of no query.
    if !is_there && is_dns_subdomain(called) && is_dns_subdomain(&name) {
        let running_as = format!("spec.serviceAccountName={called},{RUNNING}");
        let others = format!("{WORKFLOW_LABEL}!={name}");
        let cut_off = pods(workflow, others, running_as, reads, |pod, created| {
            strangers.add(pod);
            if is_new {
                older.look_at(workflow, pod, created);
            }
        })
        .await?;
        if cut_off {
            strangers.cut_off();
            if is_new {
                older.cut_off();
            }
        }
    }
    Ok((older, strangers))
}

/// Looks at pods; tells whether there are more than can be looked at.
async fn pods(
    workflow: &AIWorkflow,
    labels: String,
    fields: String,
    reads: &Reads,
    mut look_at: impl FnMut(&str, Option<Timestamp>),
) -> Result<bool, CallError> {
    let namespace = workflow.namespace().unwrap_or_default();
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let mut ask = Ask {
        labels,
        fields,
        metadata_only: true,
        ..Ask::all(POD, Some(&namespace))
    };
    let (mut seen, mut unread) = (0, false);
    for _ in 0..PAGES {
        let page = calls::page(&lists, &ask).await?;
        // Whatever cannot be read is not known to be younger, or another's.
        unread |= page.unread.is_some();
        seen += page.items.len();
        for pod in page.items.into_iter().map(Value::Object) {
            let created = plan::text_at(&pod, "/metadata/creationTimestamp").parse().ok();
            look_at(plan::name_of(&pod), created);
        }
        ask.first = page.first;
        match page.next {
            Some(next) if seen < PODS => ask.next = Some(next),
            Some(_) => return Ok(true),
            None => return Ok(unread),
        }
    }
    Ok(true)
}

/// Tells that an existing account is the workflow's from now on.
pub(super) async fn say_joined(workflow: &AIWorkflow, context: &Context) {
    let account = workflow.service_account_name();
    let namespace = workflow.namespace().unwrap_or_default();
    info!(
        namespace,
        workflow = workflow.name_any(),
        account,
        "an existing account has joined"
    );
    let note = format!("ServiceAccount {account} has joined with its UID; Ringfence keeps it from now on");
    context
        .events
        .say(workflow, EventType::Normal, "Adopted", "Reconcile", &note)
        .await;
}
