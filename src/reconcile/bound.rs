//! Bindings that wait for an account that is not there yet: who makes it gives it what they say.
//!
//! Must never: pass over a ClusterRoleBinding that could not be read.

use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{CallError, Reads, calls};
use crate::api::{AIWorkflow, AIWorkflowGrant, is_dns_subdomain};
use crate::fence;
use crate::findings::{Declared, Origin, Owners};
use crate::plan;
use crate::scan::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
use crate::webhook::lookup::Live;
use crate::webhook::pages::Ask;

/// Most that are named: one is enough.
const MAX_NAMED: usize = 5;

/// RoleBindings and ClusterRoleBindings of somebody else that name the workflow's account. What Ringfence made is what this workflow, or a
/// grant that names it, makes: that a binding says so is no proof, because whoever wrote it while nobody asked could say it too.
pub(super) async fn bound(workflow: &AIWorkflow, reads: &Reads) -> Result<Vec<String>, CallError> {
    let namespace = workflow.namespace().unwrap_or_default();
    let account = workflow.service_account_name();
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let mut owners = Owners::default();
    owners.add_workflow(&Declared {
        namespace: namespace.clone(),
        name: workflow.name_any(),
        uid: workflow.uid().unwrap_or_default(),
        generation: workflow.metadata.generation,
        account: account.to_owned(),
        secrets: Vec::new(),
    });
    let mut found = Vec::new();
    for kind in [ROLE_BINDING, CLUSTER_ROLE_BINDING] {
        let mut ask = Ask::all(kind, None);
        loop {
            let page = calls::page(&lists, &ask).await?;
            // One in a namespace gives rights there alone, and is told by the scan: nobody keeps all accounts from being made by writing one
            // that is too large.
            if let Some(unread) = page.unread.filter(|_| kind == CLUSTER_ROLE_BINDING) {
                return Err(CallError::Unread(unread));
            }
            for binding in page.items.into_iter().map(Value::Object) {
                // Each that is looked up is one that Ringfence made, or counts.
                if found.len() >= MAX_NAMED || !fence::names_account(&binding, &namespace, account) {
                    continue;
                }
                let origin = Origin::of(kind.kind, &binding);
                if !made(origin.as_ref(), &mut owners, reads).await? {
                    let of = plan::text_at(&binding, "/metadata/namespace");
                    let of = if of.is_empty() { String::new() } else { format!("{of}/") };
                    found.push(format!("{} {of}{}", kind.kind, plan::name_of(&binding)));
                }
            }
            match page.next {
                Some(next) if found.len() < MAX_NAMED => ask.next = Some(next),
                Some(_) | None => break,
            }
        }
    }
    Ok(found)
}

/// Whether the workflow made it, or the grant that it names.
async fn made(origin: Option<&Origin>, owners: &mut Owners, reads: &Reads) -> Result<bool, CallError> {
    let Some(origin) = origin else { return Ok(false) };
    if !owners.has(&origin.owner) && !origin.namespace.is_empty() && is_dns_subdomain(&origin.owner_name) {
        let Origin {
            namespace, owner_name, ..
        } = origin;
        let grants = Api::<AIWorkflowGrant>::namespaced(reads.client.clone(), namespace);
        let what = format!("read AIWorkflowGrant {namespace}/{owner_name}");
        let grant = calls::optional(calls::bounded(&what, grants.get(owner_name)).await)?;
        if let Some(grant) = grant.and_then(|grant| serde_json::to_value(grant).ok()) {
            owners.add_grant(&grant);
        }
    }
    Ok(owners.made(origin))
}
