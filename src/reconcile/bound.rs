//! Bindings that wait for an account that is not there yet: who makes it gives it what they say.
//!
//! Must never: pass over a ClusterRoleBinding that could not be read.

use kube::ResourceExt;
use serde_json::Value;

use super::{CallError, Reads, calls};
use crate::api::AIWorkflow;
use crate::fence;
use crate::plan;
use crate::scan::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
use crate::webhook::lookup::Live;
use crate::webhook::pages::Ask;

/// Most that are named: one is enough.
const MAX_NAMED: usize = 5;

/// RoleBindings and ClusterRoleBindings of somebody else that name the workflow's account. What Ringfence made says so itself, and
/// nobody else may say it.
pub(super) async fn bound(workflow: &AIWorkflow, reads: &Reads) -> Result<Vec<String>, CallError> {
    let namespace = workflow.namespace().unwrap_or_default();
    let account = workflow.service_account_name();
    let lists = Live::new(reads.client.clone(), &reads.registration);
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
                if plan::owner_uid(&binding).is_none() && fence::names_account(&binding, &namespace, account) {
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
    found.truncate(MAX_NAMED);
    Ok(found)
}
