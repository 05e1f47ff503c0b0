//! Whom to ask for names: each replica of the DNS that a class has pods ask.
//!
//! Must never: ask whom the class does not have pods ask, or read all pods of a namespace.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::{Expression, Selector},
};
use serde_json::Value;
use tokio::time::Instant;

use super::super::{
    CallError, calls,
    lean::{Lean, MAX_OBJECT},
};
use crate::{
    api::{AIWorkflowClass, LabelSelector, SelectorOperator},
    plan,
};

const DNS: u16 = 53;
/// How many replicas of the DNS are asked.
const SERVERS: usize = 32;
/// How many pods of the DNS are read.
const PODS: u32 = 100;
/// How long the replicas of a class's DNS are believed to be the same; and of how many DNSes these are kept.
const BELIEVED: Duration = Duration::from_secs(10);
const PLACES: usize = 16;

pub(super) struct Servers {
    /// To be asked instead of the DNS that a class names.
    named: Vec<SocketAddr>,
    /// Addresses of the pods of a DNS, by where they are.
    pods: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

impl Servers {
    pub(super) fn new(named: Vec<SocketAddr>) -> Self {
        Self {
            named,
            pods: Mutex::default(),
        }
    }

    /// The replicas of the DNS that a class has pods ask.
    pub(super) async fn of(&self, class: &AIWorkflowClass, client: &Client) -> Result<Vec<SocketAddr>, CallError> {
        let Some(asked) = plan::askable(class).filter(|_| self.named.is_empty()) else {
            return Ok(self.named.clone());
        };
        let pods = match &asked.pods {
            Some((namespace, labels)) => self.pods(namespace, &selector(labels), client).await?,
            None => Vec::new(),
        };
        Ok(chosen(pods, &asked.addresses))
    }

    /// Addresses of pods that are ready, read anew after a while.
    async fn pods(&self, namespace: &str, labels: &Selector, client: &Client) -> Result<Vec<IpAddr>, CallError> {
        let key = format!("{namespace}/{labels}");
        let lock = || self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = lock().get(&key).filter(|(read, _)| read.elapsed() < BELIEVED).cloned();
        if let Some((_, pods)) = believed {
            return Ok(pods);
        }
        // Not by its type: reading all of a pod takes code that nothing else needs.
        let resource = ApiResource::erase::<Pod>(&());
        let api = Api::<Lean<DynamicObject, MAX_OBJECT>>::namespaced_with(client.clone(), namespace, &resource);
        let params = ListParams::default().labels_from(labels).limit(PODS);
        let what = format!("list pods of the cluster's DNS in namespace {namespace}");
        let listed = calls::bounded(&what, api.list(&params)).await?;
        let found: Vec<_> = listed.items.iter().filter_map(|Lean(pod)| address(pod)).collect();
        let mut known = lock();
        if known.len() >= PLACES {
            known.clear();
        }
        known.insert(key, (Instant::now(), found.clone()));
        Ok(found)
    }
}

/// Pods and addresses, each once. One that is link-local answers on each node by itself, where it is installed, and is asked where nobody else
/// can be.
fn chosen(pods: Vec<IpAddr>, addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let is_of_node = |address: &IpAddr| matches!(address, IpAddr::V4(four) if four.is_link_local());
    let (of_nodes, others): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_of_node);
    let mut all: BTreeSet<IpAddr> = pods.into_iter().chain(others).collect();
    if all.is_empty() {
        all.extend(of_nodes);
    }
    let all = all.into_iter().take(SERVERS);
    all.map(|address| SocketAddr::new(address, DNS)).collect()
}

/// Where a pod answers, if it does.
fn address(pod: &DynamicObject) -> Option<IpAddr> {
    let status = pod
        .data
        .get("status")
        .filter(|_| pod.metadata.deletion_timestamp.is_none())?;
    let mut conditions = status.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let is_ready =
        conditions.any(|said| plan::text_at(said, "/type") == "Ready" && plan::text_at(said, "/status") == "True");
    plan::text_at(status, "/podIP").parse().ok().filter(|_| is_ready)
}

/// A selector as the API server takes it.
fn selector(labels: &LabelSelector) -> Selector {
    let equal = labels
        .match_labels
        .iter()
        .map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
    let terms = labels.match_expressions.iter().map(|term| {
        let (key, values) = (term.key.clone(), term.values.iter().cloned().collect());
        match term.operator {
            SelectorOperator::In => Expression::In(key, values),
            SelectorOperator::NotIn => Expression::NotIn(key, values),
            SelectorOperator::Exists => Expression::Exists(key),
            SelectorOperator::DoesNotExist => Expression::DoesNotExist(key),
        }
    });
    equal.chain(terms).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[rstest]
    #[case::pods(&["10.0.0.2", "10.0.0.1"], &["169.254.20.10"], &["10.0.0.1:53", "10.0.0.2:53"])]
    #[case::pods_and_an_address(&["10.0.0.1"], &["10.96.0.10", "169.254.20.10"], &["10.0.0.1:53", "10.96.0.10:53"])]
    #[case::node_local_alone(&[], &["169.254.20.10"], &["169.254.20.10:53"])]
    #[case::six(&["fd00::1"], &[], &["[fd00::1]:53"])]
    #[case::none(&[], &[], &[])]
    fn every_replica_is_asked(#[case] pods: &[&str], #[case] named: &[&str], #[case] expected: &[&str]) {
        let servers = chosen(addresses(pods), &addresses(named));
        assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pods_that_are_not_ready_or_are_going_are_not_asked() {
        let pod = |ready: &str, going: bool| -> DynamicObject {
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dns"},
                "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
            });
            if going {
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-27T20:00:00Z");
            }
            serde_json::from_value(pod).unwrap()
        };
        assert_eq!(address(&pod("True", false)), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(address(&pod("False", false)), None);
        assert_eq!(address(&pod("True", true)), None);
    }

    #[test]
    fn a_selector_is_asked_for_as_it_is_written() {
        let labels = json!({
            "matchLabels": {"k8s-app": "kube-dns"},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]},
                {"key": "b", "operator": "NotIn", "values": ["z"]},
                {"key": "c", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist"},
            ],
        });
        let labels: LabelSelector = serde_json::from_value(labels).unwrap();
        assert_eq!(
            selector(&labels).to_string(),
            "k8s-app=kube-dns,a in (x,y),b notin (z),c,!d"
        );
    }
}
