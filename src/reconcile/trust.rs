//! What tells whether a declaration may be trusted yet: the registration, older pods, and an account that may join.

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject},
    runtime::events::EventType,
};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context, Reads, calls};
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
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &resource);
        let what = format!("read ValidatingWebhookConfiguration {}", self.registration);
        let found = calls::optional(calls::bounded(&what, api.get(&self.registration)).await)?;
        let found = found.map(|object| calls::raw(&what, object)).transpose()?;
        Ok(found.as_ref().and_then(Registration::from_object))
    }
}

/// What stands under the name of the workflow's account and is not its own. An account of its own that lost its labels joins the children.
pub(super) async fn account(
    workflow: &AIWorkflow,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<Option<Value>, CallError> {
    let (name, uid) = (workflow.service_account_name(), workflow.uid());
    let is_own = |object: &Value| uid.is_some() && plan::owner_uid(object) == uid.as_deref();
    let stands = |(child, object): &(Child, Value)| {
        *child == Child::ServiceAccount && plan::name_of(object) == name && is_own(object)
    };
    // What no account can be called becomes part of no URL.
    if children.iter().any(stands) || !is_dns_subdomain(name) {
        return Ok(None);
    }
    let namespace = workflow.namespace().unwrap_or_default();
    Ok(match reads.calls.get(Child::ServiceAccount, &namespace, name).await? {
        Some(found) if is_own(&found) => {
            children.push((Child::ServiceAccount, found));
            None
        }
        found => found,
    })
}

/// Counts running pods that are older than the workflow, page by page, where there can be any: those that carry its label, and,
/// where its account is yet to be made, those that run as an account of that name. Whatever runs as an account that joins is
/// what it joins for.
pub(super) async fn predecessors(
    workflow: &AIWorkflow,
    children: &[(Child, Value)],
    account: Option<&Value>,
    reads: &Reads,
) -> Result<Predecessors, CallError> {
    let mut found = Predecessors::default();
    if !plan::may_have_predecessors(workflow, children) {
        return Ok(found);
    }
    let name = workflow.name_any();
    let labelled = format!("{WORKFLOW_LABEL}={name}");
    older(workflow, labelled, RUNNING.to_owned(), &mut found, reads).await?;
    let account = Some(workflow.service_account_name()).filter(|name| account.is_none() && is_dns_subdomain(name));
    if let Some(account) = account {
        let running_as = format!("spec.serviceAccountName={account},{RUNNING}");
        let others = format!("{WORKFLOW_LABEL}!={name}");
        older(workflow, others, running_as, &mut found, reads).await?;
    }
    Ok(found)
}

async fn older(
    workflow: &AIWorkflow,
    labels: String,
    fields: String,
    found: &mut Predecessors,
    reads: &Reads,
) -> Result<(), CallError> {
    let namespace = workflow.namespace().unwrap_or_default();
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let mut ask = Ask {
        labels,
        fields,
        metadata_only: true,
        ..Ask::all(POD, Some(&namespace))
    };
    let mut pods = 0;
    for _ in 0..PAGES {
        let page = calls::page(&lists, &ask).await?;
        // Whatever cannot be read is not known to be younger.
        if page.unread.is_some() {
            found.cut_off();
        }
        pods += page.items.len();
        for pod in page.items.into_iter().map(Value::Object) {
            let created = plan::text_at(&pod, "/metadata/creationTimestamp").parse().ok();
            found.look_at(workflow, plan::name_of(&pod), created);
        }
        match page.next {
            Some(next) if pods < PODS => ask.next = Some(next),
            Some(_) => break,
            None => return Ok(()),
        }
    }
    found.cut_off();
    Ok(())
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
        .say(workflow, EventType::Normal, "Adopted", "Reconcile", &note)
        .await;
}
