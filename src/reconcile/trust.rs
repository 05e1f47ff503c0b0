//! What tells whether a declaration may be trusted yet: the registration, older pods, and an account that may join.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    runtime::events::EventType,
};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context, Reads, calls};
use crate::{
    api::{AIWorkflow, WORKFLOW_LABEL, is_dns_subdomain},
    plan::{self, Child, Predecessors, Registration},
};

/// Pods in one page: of each only its metadata.
const PAGE: u32 = 500;
/// Pages that are read; more pods than that count as older.
const PAGES: usize = 20;
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
    let labelled = ListParams::default().labels(&format!("{WORKFLOW_LABEL}={name}"));
    older(workflow, labelled.fields(RUNNING), &mut found, reads).await?;
    let account = Some(workflow.service_account_name()).filter(|name| account.is_none() && is_dns_subdomain(name));
    if let Some(account) = account {
        let running_as = format!("spec.serviceAccountName={account},{RUNNING}");
        let others = ListParams::default().labels(&format!("{WORKFLOW_LABEL}!={name}"));
        older(workflow, others.fields(&running_as), &mut found, reads).await?;
    }
    Ok(found)
}

async fn older(
    workflow: &AIWorkflow,
    params: ListParams,
    found: &mut Predecessors,
    reads: &Reads,
) -> Result<(), CallError> {
    let namespace = workflow.namespace().unwrap_or_default();
    let api = Api::<Pod>::namespaced(reads.client.clone(), &namespace);
    let mut params = params.limit(PAGE);
    let what = format!("list pods of namespace {namespace}");
    for _ in 0..PAGES {
        let page = calls::bounded(&what, api.list_metadata(&params)).await?;
        for pod in page.items {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            found.look_at(workflow, &pod.name_any(), created);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
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
