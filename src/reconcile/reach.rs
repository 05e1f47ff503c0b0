//! What other namespaces say of a workflow: the workflows that it names as peers, and the grants by which it holds rights there.
//!
//! Must never: take a list that was cut off for a whole one, because what is not in it counts as not granted; or let what others write keep
//! a workflow's own fence from being kept.

use std::collections::BTreeMap;

use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{CallError, PAGE, Reads, calls, lean::Lean, trim};
use crate::{
    api::{AIWorkflow, AIWorkflowGrant},
    plan,
    scan::GRANT,
    webhook::{lookup::Live, pages::Ask},
};

/// Most bytes of grants that are read for one workflow. Eight read at a time, and thousands of grants are less.
const MAX_BYTES: usize = 8 << 20;

pub(super) async fn peers(
    workflow: &AIWorkflow,
    reads: &Reads,
) -> Result<BTreeMap<(String, String), AIWorkflow>, CallError> {
    let us = (workflow.namespace().unwrap_or_default(), workflow.name_any());
    let mut found = BTreeMap::new();
    // Bounded by the CRD: at most 64 sources and 64 destinations. Of each, little is left before the next is read.
    for key in plan::peers_of(workflow) {
        let (namespace, name) = &key;
        let api = Api::<Lean<AIWorkflow>>::namespaced(reads.client.clone(), namespace);
        let what = format!("read AIWorkflow {namespace}/{name}");
        // One that cannot be read is no peer, and keeps nobody's own fence from being kept.
        if let Some(Lean(mut peer)) = calls::readable(calls::bounded(&what, api.get(name)).await)? {
            trim::peer(&mut peer, &us);
            found.insert(key, peer);
        }
    }
    Ok(found)
}

/// What is there by which a workflow holds rights elsewhere.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Grants that name it.
    pub(super) grants: Vec<AIWorkflowGrant>,
    /// Namespaces whose grants were not all read, and why.
    pub(super) unread: BTreeMap<String, String>,
}

/// Grants of the namespaces that the workflow declares rights in. What is there decides nothing here but what is said of it, so more than is
/// read is said too, and is no failure.
pub(super) async fn grants(workflow: &AIWorkflow, reads: &Reads) -> Result<Granted, CallError> {
    let us = (workflow.namespace().unwrap_or_default(), workflow.name_any());
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let (mut granted, mut left) = (Granted::default(), MAX_BYTES);
    // Bounded by the CRD: at most 16 namespaces.
    for namespace in plan::reached_into(workflow) {
        let mut ask = Ask {
            most: PAGE,
            ..Ask::all(GRANT, Some(namespace))
        };
        let why = loop {
            let page = calls::page(&lists, &ask).await?;
            for grant in page.items {
                match serde_json::from_value::<AIWorkflowGrant>(Value::Object(grant)) {
                    Ok(mut grant) if plan::names(&grant, &us.0, &us.1) => {
                        trim::metadata(&mut grant.metadata);
                        grant.status = None;
                        granted.grants.push(grant);
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let why = "one of them is not what its definition says";
                        granted.unread.insert(namespace.to_owned(), why.to_owned());
                    }
                }
            }
            if page.unread.is_some() {
                break page.unread;
            }
            let Some(rest) = left.checked_sub(page.bytes) else {
                break Some(format!("there are more than {} MiB of them", MAX_BYTES >> 20));
            };
            (left, ask.next, ask.first) = (rest, page.next, page.first);
            if ask.next.is_none() {
                break None;
            }
        };
        granted.unread.extend(why.map(|why| (namespace.to_owned(), why)));
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::http::{Request, Response};
    use kube::Client;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn reaching(namespaces: &[&str]) -> AIWorkflow {
        let entries = namespaces
            .iter()
            .map(|namespace| json!({"namespace": namespace, "rules": []}));
        let permissions = json!({"crossNamespace": entries.collect::<Vec<_>>()});
        let workflow = json!({"metadata": {"namespace": "ai", "name": "triage"}, "spec": {"launchers": [], "images": [], "permissions": permissions}});
        serde_json::from_value(workflow).unwrap()
    }

    /// An API server with that many grants in every namespace, each with a label of that size, and no more at a time than it is asked for. Tells
    /// how many bytes it gave.
    fn reads(count: usize, size: usize, named: &'static str) -> (Reads, Arc<AtomicUsize>) {
        let given = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&given);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let query = request.uri().query().unwrap_or_default();
            let asked = |name: &str| {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find_map(|(key, value)| if key == name { value.parse::<usize>().ok() } else { None })
            };
            let start = asked("continue").unwrap_or_default();
            let end = count.min(start + asked("limit").unwrap_or(count));
            // As text: what is to be read once is not made into values first.
            let label = "x".repeat(size);
            let item = |at: usize| {
                format!(
                    r#"{{"metadata":{{"namespace":"shop","name":"g{at}","labels":{{"x":"{label}"}}}},"spec":{{"from":[{{"namespace":"ai","name":"{named}"}}],"rules":[]}}}}"#
                )
            };
            let items = (start..end).map(item).collect::<Vec<_>>().join(",");
            let next = if end < count { end.to_string() } else { String::new() };
            let list = format!(r#"{{"metadata":{{"resourceVersion":"1","continue":"{next}"}},"items":[{items}]}}"#);
            counter.fetch_add(list.len(), Ordering::Relaxed);
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(list))))
        });
        let reads = Reads::new(Client::new(service, "default"), None, "ringfence".to_owned());
        (reads, given)
    }

    #[rstest]
    #[case::none(0)]
    #[case::a_page(50)]
    #[case::more_than_one_page(501)]
    #[case::thousands(5_000)]
    #[tokio::test]
    async fn no_grant_is_overlooked(#[case] count: usize) {
        let (reads, _) = reads(count, 1_000, "triage");
        let found = grants(&reaching(&["shop"]), &reads).await.unwrap();
        assert_eq!((found.grants.len(), found.unread), (count, BTreeMap::new()));
        let last = count.checked_sub(1).map(|last| format!("g{last}"));
        assert_eq!(found.grants.last().map(ResourceExt::name_any), last);
        assert!(found.grants.iter().all(|grant| grant.metadata.labels.is_none()));
        let others = grants(&reaching(&["shop"]), &self::reads(count, 0, "other").0)
            .await
            .unwrap();
        assert_eq!((others.grants.len(), others.unread.len()), (0, 0));
    }

    /// A gigabyte of grants, in each of two namespaces: whoever may write grants there.
    #[tokio::test]
    async fn what_is_too_much_is_left_unread_and_said() {
        let (reads, given) = reads(1_000, 1 << 20, "triage");
        let found = grants(&reaching(&["shop", "bank"]), &reads).await.unwrap();
        let said = "there are more than 8 MiB of them".to_owned();
        let unread = BTreeMap::from([("shop".to_owned(), said.clone()), ("bank".to_owned(), said)]);
        assert_eq!(found.unread, unread);
        let given = given.load(Ordering::Relaxed) >> 20;
        assert!(given < 200, "{given} MiB were asked for");
    }

    /// As large as their authors can make them, by what is declared and by who is said to own which field: a tenant names dozens of them.
    #[tokio::test]
    async fn of_peers_is_kept_that_they_name_the_workflow() {
        let service = tower::service_fn(|request: Request<kube::client::Body>| {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let rule = |at: usize, peer: Value| json!({"name": format!("r{at}"), "from": peer, "ports": [{"port": 1}]});
            let mut ingress: Vec<_> = (0..63)
                .map(|at| rule(at, json!({"cidrs": vec!["203.0.113.0/24"; 50]})))
                .collect();
            ingress.push(rule(63, json!({"workflow": {"namespace": "ai", "name": "triage"}})));
            let fields: serde_json::Map<_, _> = (0..1_000).map(|at| (format!("f:{at}"), json!({}))).collect();
            let peer = json!({
                "metadata": {"namespace": "big", "name": name, "managedFields": [{"manager": "m", "time": "no time", "fieldsV1": fields}]},
                "spec": {"launchers": [], "images": vec!["a.example/**"; 100], "network": {"ingress": ingress}},
            });
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(peer.to_string()))))
        });
        let egress = (0..64).map(|at| json!({"name": format!("r{at}"), "to": {"workflow": {"namespace": "big", "name": format!("w{at}")}}, "ports": [{"port": 1}]}));
        let network = json!({"egress": egress.collect::<Vec<_>>()});
        let us = json!({"metadata": {"namespace": "ai", "name": "triage"}, "spec": {"launchers": [], "images": [], "network": network}});
        let us: AIWorkflow = serde_json::from_value(us).unwrap();
        let reads = Reads::new(Client::new(service, "default"), None, "ringfence".to_owned());
        let found = peers(&us, &reads).await.unwrap();
        assert_eq!(found.len(), 64);
        for peer in found.values() {
            assert!(plan::is_peer(peer, &("ai".to_owned(), "triage".to_owned())));
            let kept = serde_json::to_string(peer).unwrap();
            assert!(kept.len() < 1 << 10, "{kept}");
        }
    }

    #[tokio::test]
    async fn a_list_that_fails_is_an_error_and_not_an_empty_one() {
        let service = tower::service_fn(|_: Request<kube::client::Body>| {
            let status = json!({"kind": "Status", "code": 500, "message": "etcd is away"}).to_string();
            let answer = Response::builder().status(500).body(Body::from(status)).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let reads = Reads::new(Client::new(service, "default"), None, "ringfence".to_owned());
        let error = grants(&reaching(&["shop"]), &reads).await.unwrap_err();
        assert!(error.explain().contains("etcd is away"), "{}", error.explain());
    }
}
