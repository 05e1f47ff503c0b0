//! What other namespaces say of a workflow: the workflows that it names as peers, and the grants by which it holds rights there.
//!
//! Must never: take a list that was cut off for a whole one, because what is not in it counts as not granted.

use std::collections::BTreeMap;

use kube::{Api, api::ListParams};

use super::{CallError, Reads, calls};
use crate::{
    api::{AIWorkflow, AIWorkflowGrant},
    plan,
};

/// Most grants of one namespace: some megabytes. Whoever writes more of them is told so by the workflows that reach in.
const MAX_GRANTS: usize = 10_000;

pub(super) async fn peers(
    workflow: &AIWorkflow,
    reads: &Reads,
) -> Result<BTreeMap<(String, String), AIWorkflow>, CallError> {
    let mut found = BTreeMap::new();
    // Bounded by the CRD: at most 64 sources and 64 destinations.
    for key in plan::peers_of(workflow) {
        let (namespace, name) = &key;
        let api = Api::<AIWorkflow>::namespaced(reads.client.clone(), namespace);
        let what = format!("read AIWorkflow {namespace}/{name}");
        if let Some(peer) = calls::optional(calls::bounded(&what, api.get(name)).await)? {
            found.insert(key, peer);
        }
    }
    Ok(found)
}

/// Grants of the namespaces that the workflow declares rights in.
pub(super) async fn grants(workflow: &AIWorkflow, reads: &Reads) -> Result<Vec<AIWorkflowGrant>, CallError> {
    let mut found = Vec::new();
    // Bounded by the CRD: at most 16 namespaces.
    for namespace in plan::reached_into(workflow) {
        found.extend(grants_of(namespace, reads).await?);
    }
    Ok(found)
}

async fn grants_of(namespace: &str, reads: &Reads) -> Result<Vec<AIWorkflowGrant>, CallError> {
    let api = Api::<AIWorkflowGrant>::namespaced(reads.client.clone(), namespace);
    let what = format!("list AIWorkflowGrants of namespace {namespace}");
    let mut params = ListParams::default().limit(calls::PAGE);
    let mut found = Vec::new();
    loop {
        let page = calls::bounded(&what, api.list(&params)).await?;
        found.extend(page.items);
        if found.len() > MAX_GRANTS {
            let most = MAX_GRANTS;
            return Err(CallError::TooMany { what, most });
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use kube::{Client, ResourceExt};
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// An API server with that many grants in every namespace, which gives no more at a time than it is asked for.
    fn reads(count: usize) -> Reads {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| async move {
            let query = request.uri().query().unwrap_or_default();
            let asked = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find_map(|(key, value)| if key == name { value.parse::<usize>().ok() } else { None })
            };
            let start = asked("continue").unwrap_or_default();
            let end = count.min(start + asked("limit").unwrap_or(count));
            let items: Vec<_> = (start..end)
                .map(|at| json!({
                    "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": format!("g{at}")},
                    "spec": {"from": [], "rules": []},
                }))
                .collect();
            let next = if end < count { end.to_string() } else { String::new() };
            let list = json!({
                "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrantList",
                "metadata": {"resourceVersion": "1", "continue": next}, "items": items,
            });
            Ok::<_, Infallible>(Response::new(Body::from(list.to_string())))
        });
        Reads::new(Client::new(service, "default"), None, "ringfence".to_owned())
    }

    #[rstest]
    #[case::none(0)]
    #[case::a_page(250)]
    #[case::more_than_one_page(501)]
    #[case::the_most(MAX_GRANTS)]
    #[tokio::test]
    async fn no_grant_is_overlooked(#[case] count: usize) {
        let found = grants_of("shop", &reads(count)).await.unwrap();
        assert_eq!(found.len(), count);
        let last = count.checked_sub(1).map(|last| format!("g{last}"));
        assert_eq!(found.last().map(ResourceExt::name_any), last);
    }

    #[tokio::test]
    async fn more_than_are_read_are_an_error_and_not_absent() {
        let error = grants_of("shop", &reads(MAX_GRANTS + 1)).await.unwrap_err();
        assert_eq!(
            error.explain(),
            "cannot list AIWorkflowGrants of namespace shop: there are more than 10000"
        );
    }
}
