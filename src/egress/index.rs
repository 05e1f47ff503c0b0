//! Who calls, and what they may reach: from what the API server tells to a snapshot that answers for one address.
//!
//! Must never: take a pod for another, count one whose address is not its own (host network) or not its own any more (finished), or answer
//! for a workflow from anything but the policy that opens its way here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;

use super::allowed::{Allowed, Unreadable};
use super::snapshot::{Caller, InForce, Snapshot};

/// How many addresses of a pod count: one a family, and room for a mistake.
const MAX_ADDRESSES: usize = 4;

/// How many pods of one workflow count as having one address: one, and those whose objects do not say yet that they have ended.
const MAX_PODS: usize = 8;

/// Kinds of objects that are told of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Pods that carry the label of a workflow.
    Pods,
    /// Policies that Ringfence owns.
    Policies,
    /// Namespaces.
    Namespaces,
    /// Classes.
    Classes,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Pods, Self::Policies, Self::Namespaces, Self::Classes];

    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Policies => "networkpolicies",
            Self::Namespaces => "namespaces",
            Self::Classes => "aiworkflowclasses",
        }
    }
}

/// Namespace and name of an object; a namespace and a class have no namespace.
pub type Key = (String, String);

/// A pod, as far as it matters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its UID.
    pub uid: Arc<str>,
    /// Name of its workflow, by its label.
    pub workflow: String,
    /// Its addresses. Empty: it has none of its own, or none any more.
    pub addresses: Vec<IpAddr>,
    /// Its node, and since when it has its addresses there, by the clock of that node. A kubelet may be unable to tell that a pod has ended.
    pub since: Option<(Arc<str>, Timestamp)>,
}

/// A policy that opens the way to the proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Name of the workflow that owns it.
    pub workflow: String,
    /// What is in force.
    pub allowed: Result<Arc<Allowed>, Unreadable>,
}

/// What an object is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// A pod.
    Pod(Pod),
    /// A policy; `None` is one that does not lead here.
    Policy(Option<Policy>),
    /// A namespace: whether it is fenced.
    Namespace(bool),
    /// A class: the cluster's own ranges, as it knows them.
    Class(Vec<IpNet>),
}

/// What the API server tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// An object is there, or has changed.
    Seen(Key, Seen),
    /// An object is gone.
    Gone(Kind, Key),
    /// All objects of the kind are told again from here on.
    Again(Kind),
    /// All that there are have been told: what was not is gone.
    Whole(Kind),
}

/// A workflow.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Workflow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Workflow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What is known. Each entry is marked by the list in which it was last told of.
#[derive(Debug, Default)]
pub struct Index {
    pods: BTreeMap<Key, (u64, Pod)>,
    policies: BTreeMap<Key, (u64, Policy)>,
    namespaces: BTreeMap<Key, (u64, bool)>,
    classes: BTreeMap<Key, (u64, Vec<IpNet>)>,
    /// Of all classes.
    cluster: Arc<[IpNet]>,
    lists: BTreeMap<Kind, u64>,
    whole: BTreeSet<Kind>,
}

impl Index {
    /// Takes in what was told.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Again(kind) => *self.lists.entry(kind).or_default() += 1,
            Event::Whole(kind) => self.whole(kind),
            Event::Gone(kind, key) => self.forget(kind, &key),
            Event::Seen(key, Seen::Pod(mut pod)) => {
                pod.addresses.truncate(MAX_ADDRESSES);
                self.pods.insert(key, (self.list(Kind::Pods), pod));
            }
            Event::Seen(key, Seen::Policy(Some(policy))) => {
                self.policies.insert(key, (self.list(Kind::Policies), policy));
            }
            Event::Seen(key, Seen::Policy(None)) => self.forget(Kind::Policies, &key),
            Event::Seen(key, Seen::Namespace(is_fenced)) => {
                self.namespaces.insert(key, (self.list(Kind::Namespaces), is_fenced));
            }
            Event::Seen(key, Seen::Class(ranges)) => {
                self.classes.insert(key, (self.list(Kind::Classes), ranges));
                self.join();
            }
        }
    }

    fn list(&self, kind: Kind) -> u64 {
        self.lists.get(&kind).copied().unwrap_or_default()
    }

    fn forget(&mut self, kind: Kind, key: &Key) {
        match kind {
            Kind::Pods => drop(self.pods.remove(key)),
            Kind::Policies => drop(self.policies.remove(key)),
            Kind::Namespaces => drop(self.namespaces.remove(key)),
            Kind::Classes => {
                self.classes.remove(key);
                self.join();
            }
        }
    }

    /// There are few classes, and they change seldom.
    fn join(&mut self) {
        let ranges: Vec<IpNet> = self.classes.values().flat_map(|(_, ranges)| ranges).copied().collect();
        self.cluster = IpNet::aggregate(&ranges).into();
    }

    fn whole(&mut self, kind: Kind) {
        let list = self.list(kind);
        match kind {
            Kind::Pods => self.pods.retain(|_, (of, _)| *of == list),
            Kind::Policies => self.policies.retain(|_, (of, _)| *of == list),
            Kind::Namespaces => self.namespaces.retain(|_, (of, _)| *of == list),
            Kind::Classes => {
                self.classes.retain(|_, (of, _)| *of == list);
                self.join();
            }
        }
        self.whole.insert(kind);
    }

    /// Whether all objects of the kind have been told of once.
    pub fn is_whole(&self, kind: Kind) -> bool {
        self.whole.contains(&kind)
    }

    /// How many objects of the kind are known.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pods => self.pods.len(),
            Kind::Policies => self.policies.len(),
            Kind::Namespaces => self.namespaces.len(),
            Kind::Classes => self.classes.len(),
        }
    }

    /// What is known now, to be asked.
    pub fn snapshot(&self) -> Snapshot {
        let mut callers: HashMap<IpAddr, Caller> = HashMap::new();
        let mut known: BTreeSet<Arc<Workflow>> = BTreeSet::new();
        let mut contested: HashMap<IpAddr, Vec<Claim<'_>>> = HashMap::new();
        for ((namespace, _), (_, pod)) in self.pods.iter().filter(|(_, (_, pod))| !pod.addresses.is_empty()) {
            let workflow = Workflow {
                namespace: namespace.clone(),
                name: pod.workflow.clone(),
            };
            let workflow = known.get(&workflow).cloned().unwrap_or_else(|| Arc::new(workflow));
            known.insert(Arc::clone(&workflow));
            for address in &pod.addresses {
                let caller = callers.entry(address.to_canonical());
                match caller.or_insert_with(|| Caller::Of(Arc::clone(&workflow), Vec::new())) {
                    Caller::Of(other, pods) if *other == workflow => {
                        if pods.len() < MAX_PODS {
                            pods.push(Arc::clone(&pod.uid));
                        }
                    }
                    other => {
                        *other = Caller::Ambiguous;
                        contested.entry(address.to_canonical()).or_default();
                    }
                }
            }
        }
        if !contested.is_empty() {
            self.settle(&mut callers, contested, &known);
        }
        let mut in_force: HashMap<Workflow, InForce> = HashMap::new();
        for ((namespace, _), (_, policy)) in &self.policies {
            let workflow = Workflow {
                namespace: namespace.clone(),
                name: policy.workflow.clone(),
            };
            let one = in_force.entry(workflow).and_modify(|one| *one = InForce::Several);
            one.or_insert_with(|| InForce::One(policy.allowed.clone()));
        }
        let fenced = self.namespaces.iter().filter(|(_, (_, is_fenced))| *is_fenced);
        Snapshot {
            callers,
            in_force,
            fenced: fenced.map(|((_, name), _)| name.clone()).collect(),
            cluster: Arc::clone(&self.cluster),
            is_whole: Kind::ALL.iter().all(|kind| self.is_whole(*kind)),
        }
    }

    /// Of pods that claim one address, who has it. There are few.
    fn settle<'a>(
        &'a self,
        callers: &mut HashMap<IpAddr, Caller>,
        mut contested: HashMap<IpAddr, Vec<Claim<'a>>>,
        known: &BTreeSet<Arc<Workflow>>,
    ) {
        for ((namespace, _), (_, pod)) in &self.pods {
            for address in &pod.addresses {
                if let Some(claims) = contested.get_mut(&address.to_canonical()) {
                    claims.push((namespace.as_str(), pod));
                }
            }
        }
        for (address, claims) in contested {
            let Some((namespace, pod)) = youngest(&claims) else {
                continue;
            };
            let workflow = Workflow {
                namespace: namespace.to_owned(),
                name: pod.workflow.clone(),
            };
            if let Some(workflow) = known.get(&workflow) {
                callers.insert(address, Caller::Of(Arc::clone(workflow), vec![Arc::clone(&pod.uid)]));
            }
        }
    }
}

/// A pod that says it has an address, and its namespace.
type Claim<'a> = (&'a str, &'a Pod);

/// The one that was given the address last: a node gives none out that is in use there. Of two nodes, whose clocks may differ, or in the same
/// second, nobody can tell.
fn youngest<'a>(claims: &[Claim<'a>]) -> Option<Claim<'a>> {
    let since = |(_, pod): &Claim<'a>| pod.since.as_ref();
    let (node, _) = claims.first().and_then(since)?;
    let is_there = |claim: &Claim<'a>| since(claim).is_some_and(|(of, _)| of == node);
    if !claims.iter().all(is_there) {
        return None;
    }
    let latest = claims.iter().filter_map(since).map(|(_, at)| at).max()?;
    let mut last = claims
        .iter()
        .filter(|claim| since(claim).is_some_and(|(_, at)| at == latest));
    last.next().copied().filter(|_| last.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Denied, NoCaller, Passed, Rounds, Target, Withdrawn};

    const RULES: &str = r#"{"rules":[{"name":"llm","domains":["a.example"],"ports":[{"port":443}]}]}"#;

    fn key(name: &str) -> Key {
        ("ai".to_owned(), name.to_owned())
    }

    fn pod(name: &str, workflow: &str, address: &str) -> Event {
        let addresses = if address.is_empty() {
            Vec::new()
        } else {
            vec![address.parse().unwrap()]
        };
        let pod = Pod {
            uid: name.into(),
            workflow: workflow.to_owned(),
            addresses,
            since: None,
        };
        Event::Seen(key(name), Seen::Pod(pod))
    }

    fn pod_since(name: &str, workflow: &str, node: &str, second: i64) -> Event {
        let pod = Pod {
            uid: name.into(),
            workflow: workflow.to_owned(),
            addresses: vec!["10.1.0.1".parse().unwrap()],
            since: Some((node.into(), Timestamp::from_second(second).unwrap())),
        };
        Event::Seen(key(name), Seen::Pod(pod))
    }

    fn policy(name: &str, workflow: &str, text: &str) -> Event {
        let policy = Policy {
            workflow: workflow.to_owned(),
            allowed: Allowed::read(text).map(Arc::new),
        };
        Event::Seen(key(name), Seen::Policy(Some(policy)))
    }

    fn namespace(name: &str, is_fenced: bool) -> Event {
        Event::Seen((String::new(), name.to_owned()), Seen::Namespace(is_fenced))
    }

    fn index(events: impl IntoIterator<Item = Event>) -> Index {
        let mut index = Index::default();
        events.into_iter().for_each(|event| index.apply(event));
        index
    }

    /// What becomes of a connection from that address to `a.example:443`.
    fn outcome(index: &Index, address: &str) -> Result<String, String> {
        let snapshot = index.snapshot();
        let workflow = snapshot
            .caller(address.parse().unwrap())
            .map_err(|error| error.to_string())?;
        let target = Target::of_connect("a.example:443").unwrap();
        let permit = snapshot.decide(workflow, &target).map_err(|error| error.to_string())?;
        Ok(format!("{workflow} {}", permit.rule))
    }

    #[test]
    fn a_pod_is_known_by_its_address() {
        let index = index([
            namespace("ai", true),
            policy("p", "triage", RULES),
            pod("a", "triage", "10.1.0.1"),
        ]);
        assert_eq!(outcome(&index, "10.1.0.1").unwrap(), "ai/triage llm");
        assert_eq!(outcome(&index, "::ffff:10.1.0.1").unwrap(), "ai/triage llm");
        assert_eq!(outcome(&index, "10.1.0.2"), Err(NoCaller::Unknown.to_string()));
    }

    #[test]
    fn an_address_of_two_workflows_is_nobodys_until_one_is_gone() {
        let mut index = index([
            namespace("ai", true),
            policy("p", "triage", RULES),
            pod("a", "triage", "10.1.0.1"),
            pod("b", "other", "10.1.0.1"),
        ]);
        assert_eq!(outcome(&index, "10.1.0.1"), Err(NoCaller::Ambiguous.to_string()));
        // Its address is taken from it once it has finished.
        index.apply(pod("b", "other", ""));
        assert!(outcome(&index, "10.1.0.1").is_ok());
        index.apply(pod("b", "triage", "10.1.0.1"));
        assert!(
            outcome(&index, "10.1.0.1").is_ok(),
            "two pods of one workflow may reach the same"
        );
        index.apply(Event::Gone(Kind::Pods, key("a")));
        index.apply(Event::Gone(Kind::Pods, key("b")));
        assert_eq!(outcome(&index, "10.1.0.1"), Err(NoCaller::Unknown.to_string()));
    }

    /// A kubelet that can tell no more of a pod never says that it has ended, and its address is given out again.
    #[test]
    fn an_address_is_of_the_pod_that_was_given_it_last() {
        let of = |events: [Event; 2]| {
            let known = [namespace("ai", true), policy("p", "triage", RULES)];
            index(known.into_iter().chain(events))
        };
        for (old, new) in [("a", "b"), ("b", "a")] {
            let index = of([pod_since(old, "other", "n1", 10), pod_since(new, "triage", "n1", 11)]);
            assert_eq!(outcome(&index, "10.1.0.1").unwrap(), "ai/triage llm");
            let snapshot = index.snapshot();
            let pods = snapshot.pods_at("10.1.0.1".parse().unwrap());
            assert_eq!(pods.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), [new]);
        }
        let unsure = Err(NoCaller::Ambiguous.to_string());
        let at_once = of([pod_since("a", "other", "n1", 10), pod_since("b", "triage", "n1", 10)]);
        assert_eq!(outcome(&at_once, "10.1.0.1"), unsure);
        let elsewhere = of([pod_since("a", "other", "n1", 10), pod_since("b", "triage", "n2", 11)]);
        assert_eq!(outcome(&elsewhere, "10.1.0.1"), unsure);
        let unsaid = of([pod("a", "other", "10.1.0.1"), pod_since("b", "triage", "n1", 11)]);
        assert_eq!(outcome(&unsaid, "10.1.0.1"), unsure);
    }

    #[test]
    fn only_what_is_in_force_is_allowed() {
        let mut index = index([namespace("ai", true), pod("a", "triage", "10.1.0.1")]);
        let no_domains = Err(Denied::NoDomains.to_string());
        assert_eq!(outcome(&index, "10.1.0.1"), no_domains);
        index.apply(policy("p", "other", RULES));
        assert_eq!(outcome(&index, "10.1.0.1"), no_domains);
        index.apply(policy("q", "triage", r#"{"rules":[]}"#));
        assert_eq!(outcome(&index, "10.1.0.1"), no_domains);
        index.apply(policy("q", "triage", "rubbish"));
        assert!(outcome(&index, "10.1.0.1").unwrap_err().contains("one version"));
        index.apply(policy("q", "triage", RULES));
        assert!(outcome(&index, "10.1.0.1").is_ok());
        index.apply(policy("p", "triage", RULES));
        assert_eq!(outcome(&index, "10.1.0.1"), Err(Denied::TwoPolicies.to_string()));
        index.apply(Event::Seen(key("p"), Seen::Policy(None)));
        assert!(outcome(&index, "10.1.0.1").is_ok());
        index.apply(namespace("ai", false));
        assert_eq!(outcome(&index, "10.1.0.1"), Err(Denied::NotFenced.to_string()));
    }

    #[test]
    fn what_is_not_in_a_new_list_is_gone() {
        let mut index = index([
            Event::Again(Kind::Pods),
            pod("a", "triage", "10.1.0.1"),
            pod("b", "triage", "10.1.0.2"),
            Event::Whole(Kind::Pods),
            namespace("ai", true),
            policy("p", "triage", RULES),
        ]);
        assert!(index.is_whole(Kind::Pods) && !index.snapshot().is_whole());
        index.apply(Event::Again(Kind::Pods));
        index.apply(pod("b", "triage", "10.1.0.2"));
        // Until all of the list is there, nothing is forgotten.
        assert!(outcome(&index, "10.1.0.1").is_ok());
        index.apply(Event::Whole(Kind::Pods));
        assert!(outcome(&index, "10.1.0.1").is_err() && outcome(&index, "10.1.0.2").is_ok());
        assert_eq!(index.count(Kind::Pods), 1);
        for kind in [Kind::Namespaces, Kind::Policies, Kind::Classes] {
            index.apply(Event::Whole(kind));
        }
        assert!(index.snapshot().is_whole());
    }

    #[test]
    fn the_cluster_is_what_any_class_knows_of_it() {
        let knows = |index: &Index| {
            index
                .snapshot()
                .cluster()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut index = index([class("a", "198.18.0.0/24"), class("b", "198.18.1.0/24")]);
        assert_eq!(knows(&index), ["198.18.0.0/23"]);
        index.apply(class("b", "198.18.2.0/24"));
        assert_eq!(knows(&index), ["198.18.0.0/24", "198.18.2.0/24"]);
        index.apply(Event::Gone(Kind::Classes, (String::new(), "a".to_owned())));
        assert_eq!(knows(&index), ["198.18.2.0/24"]);
        index.apply(Event::Again(Kind::Classes));
        index.apply(Event::Whole(Kind::Classes));
        assert_eq!(knows(&index), [""; 0]);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let index = index([
            namespace("ai", true),
            policy(
                "p",
                "triage",
                r#"{"rules":[{"name":"x","domains":["b.example"],"ports":[{"port":443}]}]}"#,
            ),
            pod("a", "triage", "10.1.0.1"),
        ]);
        let refused = outcome(&index, "10.1.0.1").unwrap_err();
        assert_eq!(
            refused,
            "its declared domains are: b.example. Declare it in spec.network.egress of the AIWorkflow"
        );
    }

    fn class(name: &str, range: &str) -> Event {
        let ranges = vec![range.parse().unwrap()];
        Event::Seen((String::new(), name.to_owned()), Seen::Class(ranges))
    }

    fn passed(workflow: &str) -> Passed {
        Passed {
            address: "10.1.0.1".parse().unwrap(),
            workflow: Arc::new(Workflow {
                namespace: "ai".to_owned(),
                name: workflow.to_owned(),
            }),
            target: Target::of_connect("a.example:443").unwrap(),
            host: "93.184.216.34".parse().unwrap(),
        }
    }

    const OTHER_RULES: &str = r#"{"rules":[{"name":"llm","domains":["b.example"],"ports":[{"port":443}]}]}"#;

    #[test]
    fn what_was_let_through_goes_on_while_it_would_be_let_through() {
        let start = || {
            index([
                namespace("ai", true),
                policy("p", "triage", RULES),
                pod("a", "triage", "10.1.0.1"),
            ])
        };
        let cases = [
            (pod("a", "triage", "10.1.0.1"), Ok(())),
            (pod("b", "triage", "10.1.0.1"), Ok(())),
            (policy("p", "triage", RULES), Ok(())),
            (policy("q", "other", RULES), Ok(())),
            (policy("p", "triage", OTHER_RULES), Err(Withdrawn::NotDeclared)),
            (policy("p", "triage", "rubbish"), Err(Withdrawn::NotDeclared)),
            (policy("q", "triage", RULES), Err(Withdrawn::NotDeclared)),
            (Event::Gone(Kind::Policies, key("p")), Err(Withdrawn::NotDeclared)),
            (namespace("ai", false), Err(Withdrawn::NotFenced)),
            (Event::Gone(Kind::Pods, key("a")), Err(Withdrawn::NoPod)),
            (pod("a", "triage", ""), Err(Withdrawn::NoPod)),
            (pod("a", "triage", "10.1.0.2"), Err(Withdrawn::NoPod)),
            (pod("a", "other", "10.1.0.1"), Err(Withdrawn::OtherPod)),
            (pod("b", "other", "10.1.0.1"), Err(Withdrawn::OtherPod)),
            (class("a", "93.184.217.0/24"), Ok(())),
            (class("a", "93.184.216.0/24"), Err(Withdrawn::OfTheCluster)),
        ];
        for (event, expected) in cases {
            let (mut index, mut rounds) = (start(), Rounds::default());
            let passed = passed("triage");
            for _ in 0..2 {
                rounds.begin();
                assert_eq!(rounds.look(&index.snapshot(), &passed, false), Ok(()));
            }
            let told = format!("{event:?}");
            index.apply(event);
            let after = index.snapshot();
            assert_eq!(after.may_go_on(&passed), expected, "{told}");
            rounds.begin();
            assert_eq!(rounds.look(&after, &passed, false), expected, "{told}");
            // Nothing has changed since, and what was doubted is looked at all the same.
            rounds.begin();
            assert_eq!(rounds.look(&after, &passed, true), expected, "{told}");
        }
    }

    /// A connection that a round did not see: it was let through by what was in force between two of them.
    #[test]
    fn what_is_given_back_is_another_than_before() {
        let mut index = index([
            namespace("ai", true),
            policy("p", "triage", RULES),
            pod("a", "triage", "10.1.0.1"),
        ]);
        let (seen, mut unseen) = (passed("triage"), passed("triage"));
        unseen.target = Target::of_connect("b.example:443").unwrap();
        let mut rounds = Rounds::default();
        rounds.begin();
        assert_eq!(rounds.look(&index.snapshot(), &seen, false), Ok(()));
        index.apply(policy("p", "triage", OTHER_RULES));
        assert_eq!(index.snapshot().may_go_on(&unseen), Ok(()));
        index.apply(policy("p", "triage", RULES));
        rounds.begin();
        let now = index.snapshot();
        assert_eq!(rounds.look(&now, &seen, false), Ok(()));
        assert_eq!(rounds.look(&now, &unseen, false), Err(Withdrawn::NotDeclared));
    }
}
