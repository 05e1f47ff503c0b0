use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::api::ValidationAction;
use crate::fence::Named;
use crate::fence::testing::{facts, pod, unset};
use crate::findings::Tally;
use crate::plan::{Compliance, owned_name};
use crate::policy::{PolicyInput, PolicySet, Verdict};
use crate::webhook::admit::Admission;
use crate::webhook::lookup::{Fixed, Key};
use crate::webhook::{Policies, Pool};

fn named(name: &str) -> Named {
    Named {
        namespace: "ai".into(),
        name: name.into(),
    }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "uid": format!("{name}-uid"), "labels": labels}})
}

fn enforced() -> Value {
    json!({"ringfence.dev/enforce": "default", "pod-security.kubernetes.io/enforce": "restricted"})
}

fn binding(name: &str, of: &str, owner: Option<&str>, subject: Value) -> Value {
    let mut binding = json!({
        "metadata": {"name": name, "namespace": of, "annotations": {}}, "subjects": [subject],
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
    });
    if let Some(owner) = owner {
        binding["metadata"]["annotations"]["ringfence.dev/owner-uid"] = owner.into();
        binding["metadata"]["labels"] = json!({"ringfence.dev/owner": "triage"});
    }
    binding
}

/// A binding that Ringfence made, and the Role that it made for it.
fn ours(part: &str, of: &str, owner: &str) -> (Value, Value) {
    let mut bound = binding(&owned_name("ai", "triage", part), of, Some(owner), triage());
    let role = owned_name("ai", "triage", &part.replace("binding", "role"));
    bound["roleRef"] = json!({"kind": "Role", "name": role});
    let labels = json!({"ringfence.dev/owner": if part == "binding" { "triage" } else { "g" }});
    bound["metadata"]["labels"] = labels.clone();
    let annotations = json!({"ringfence.dev/owner-uid": owner});
    let role = json!({"metadata": {"name": role, "namespace": of, "labels": labels, "annotations": annotations}});
    (bound, role)
}

fn grant(namespace: &str, uid: &str) -> Value {
    json!({
        "metadata": {"name": "g", "namespace": namespace, "uid": uid},
        "spec": {"from": [{"namespace": "ai", "name": "triage"}]},
    })
}

fn triage() -> Value {
    json!({"kind": "ServiceAccount", "namespace": "ai", "name": "triage"})
}

/// Namespace `ai` enforces and holds `triage`; `plain` has no mode.
fn cluster() -> Fixed {
    let facts = facts();
    let workflow = facts.workflow.unwrap();
    Fixed::default()
        .with(Key::Workflow(named("triage")), workflow.clone())
        .with(Key::Class("default".into()), facts.classes["default"].clone().unwrap())
        .listing(
            "namespaces",
            None,
            vec![namespace("ai", enforced()), namespace("plain", json!({}))],
        )
        .listing("aiworkflows", Some("ai"), vec![workflow.clone()])
        .listing("aiworkflows", None, vec![workflow])
}

fn none() -> Arc<Pool> {
    let policies = PolicySet::compile(Vec::new(), &Default::default()).unwrap();
    Arc::new(Pool::new(Arc::new(policies), 1, Arc::default()))
}

async fn scan(cluster: Fixed) -> Tally {
    let cluster = Arc::new(cluster);
    let policies = none();
    let admission = Admission::new(cluster.clone(), policies, "ringfence", Arc::default());
    let scanner = Scanner::new(Arc::new(admission), cluster.clone(), cluster);
    let mut tally = Tally::default();
    let extent = scanner.scan(None, &mut tally).await;
    tally.gap(extent);
    tally
}

fn of_triage(tally: &Tally) -> &Compliance {
    &tally.workflows[&("ai".to_owned(), "triage".to_owned())]
}

fn rules(tally: &Tally) -> Vec<(&str, usize)> {
    tally
        .rules
        .iter()
        .map(|(rule, count)| (rule.as_str(), *count))
        .collect()
}

#[tokio::test]
async fn namespaces_with_a_mode_are_scanned_and_no_others() {
    let bad = |name: &str| {
        let mut pod = unset(pod(), "/metadata/labels");
        pod["metadata"]["name"] = name.into();
        pod
    };
    let cluster = cluster()
        .listing("pods", Some("ai"), vec![bad("p"), bad("q")])
        .listing("pods", Some("plain"), vec![bad("r")])
        .listing("pods", Some("kube-system"), vec![bad("s")])
        .listing(
            "namespaces",
            None,
            vec![
                namespace("ai", enforced()),
                namespace("plain", json!({})),
                namespace("kube-system", enforced()),
                namespace("ringfence", enforced()),
            ],
        );
    let tally = scan(cluster).await;
    assert_eq!(rules(&tally), [("declared-workflow", 2)]);
    let pods: Vec<_> = of_triage(&tally).pods.names().collect();
    assert_eq!(pods, ["p", "q"], "they run as its account");
    assert_eq!((tally.extent.looked, tally.extent.refused), (2, 2));
}

#[tokio::test]
async fn the_namespace_itself_is_judged() {
    let tally = scan(cluster().listing(
        "namespaces",
        None,
        vec![namespace("ai", json!({"ringfence.dev/audit": "gone"}))],
    ))
    .await;
    assert_eq!(rules(&tally), [("namespace-mode", 1)]);
}

#[tokio::test]
async fn bindings_that_give_more_are_found_wherever_they_are() {
    let (own, role) = ours("binding", "ai", "workflow-uid");
    let (granted, granted_role) = ours("binding-g", "plain", "grant-uid");
    let cluster = cluster()
        .listing("roles", None, vec![role, granted_role])
        .listing(
            "rolebindings",
            None,
            vec![
                own,
                // Written while the guards were away, with an owner's UID copied onto it.
                binding("hidden", "ai", Some("workflow-uid"), triage()),
                binding("theirs", "plain", None, triage()),
                binding(
                    "of-somebody-else",
                    "plain",
                    None,
                    json!({"kind": "ServiceAccount", "namespace": "plain", "name": "x"}),
                ),
                granted,
            ],
        )
        .listing("aiworkflowgrants", None, vec![grant("plain", "grant-uid")])
        .listing(
            "clusterrolebindings",
            None,
            vec![binding(
                "all",
                "",
                None,
                json!({"kind": "Group", "name": "system:serviceaccounts:ai"}),
            )],
        );
    let tally = scan(cluster).await;
    assert_eq!(rules(&tally), [("extra-binding", 3)]);
    let bindings: Vec<_> = of_triage(&tally).bindings.names().collect();
    assert_eq!(
        bindings,
        [
            "ClusterRoleBinding all",
            "RoleBinding ai/hidden",
            "RoleBinding plain/theirs"
        ]
    );
}

#[tokio::test]
async fn what_has_lost_its_owner_is_found() {
    let role =
        json!({"metadata": {"name": "left", "namespace": "ai", "annotations": {"ringfence.dev/owner-uid": "gone"}}});
    let cluster = cluster().listing("roles", None, vec![role]).listing(
        "rolebindings",
        None,
        vec![binding("left", "ai", Some("gone"), triage())],
    );
    let tally = scan(cluster).await;
    assert_eq!(rules(&tally), [("extra-binding", 1), ("ownerless-object", 2)]);
    assert_eq!(
        of_triage(&tally).bindings.names().collect::<Vec<_>>(),
        ["RoleBinding ai/left"]
    );
}

/// It gives whatever stands under that name.
#[tokio::test]
async fn a_binding_of_ours_to_a_role_that_is_not_is_found() {
    let (bound, role) = ours("binding-g", "plain", "grant-uid");
    let with = |roles: Vec<Value>, now: Vec<Value>, still: Vec<Value>| {
        cluster()
            .listing("aiworkflowgrants", None, vec![grant("plain", "grant-uid")])
            .listing("rolebindings", None, vec![bound.clone()])
            .listing("roles", None, roles)
            .listing("roles", Some("plain"), now)
            .listing("rolebindings", Some("plain"), still)
    };
    let still = || vec![bound.clone()];
    let tally = scan(with(vec![role.clone()], vec![], still())).await;
    assert_eq!(rules(&tally), []);
    let mut foreign = role.clone();
    foreign["metadata"]["annotations"] = json!({});
    for now in [vec![], vec![foreign]] {
        let tally = scan(with(vec![], now, still())).await;
        assert_eq!(rules(&tally), [("extra-binding", 1)]);
        let bindings = of_triage(&tally).bindings.names().collect::<Vec<_>>().join(" ");
        assert!(
            bindings.starts_with("RoleBinding plain/ringfence-triage-binding-g-"),
            "{bindings}"
        );
    }
    let tally = scan(with(vec![], vec![role], still())).await;
    assert_eq!(rules(&tally), [], "made since");
    let tally = scan(with(vec![], vec![], vec![])).await;
    assert_eq!(rules(&tally), [], "both are gone since");
    let tally = scan(with(vec![], vec![], still()).not_listing("roles")).await;
    assert_eq!(rules(&tally), []);
    assert!(!tally.extent.gaps.is_empty(), "what cannot be read is said");
}

/// The owners are listed again before anybody is told that there is none.
#[tokio::test]
async fn an_owner_that_came_meanwhile_is_an_owner() {
    struct Later(Fixed, std::sync::atomic::AtomicBool);
    impl List for Later {
        fn list<'a>(
            &'a self,
            ask: &'a Ask,
        ) -> futures::future::BoxFuture<'a, Result<Page, crate::webhook::lookup::LookupError>> {
            if ask.kind.plural == "aiworkflowgrants" && self.1.swap(true, std::sync::atomic::Ordering::Relaxed) {
                let items = vec![grant("ai", "new").as_object().unwrap().clone()];
                return Box::pin(std::future::ready(Ok(Page {
                    items,
                    ..Page::default()
                })));
            }
            self.0.list(ask)
        }

        fn serves(
            &self,
            kind: Listed,
        ) -> futures::future::BoxFuture<'_, Result<bool, crate::webhook::lookup::LookupError>> {
            self.0.serves(kind)
        }
    }
    let (granted, role) = ours("binding-g", "ai", "new");
    let fixed = cluster()
        .listing("rolebindings", None, vec![granted])
        .listing("roles", None, vec![role]);
    let policies = none();
    let admission = Admission::new(Arc::new(fixed.clone()), policies, "ringfence", Arc::default());
    let lists = Arc::new(Later(fixed.clone(), Default::default()));
    let scanner = Scanner::new(Arc::new(admission), Arc::new(fixed), lists);
    let mut tally = Tally::default();
    scanner.scan(None, &mut tally).await;
    assert_eq!(rules(&tally), []);
}

/// Whoever may not read all owners would else be told to delete what stands.
#[tokio::test]
async fn nothing_has_no_owner_while_not_every_owner_can_be_read() {
    for plural in ["namespaces", "aiworkflows", "aiworkflowgrants"] {
        let role = json!({"metadata": {"name": "left", "namespace": "ai", "annotations": {"ringfence.dev/owner-uid": "gone"}}});
        let tally = scan(cluster().listing("roles", None, vec![role]).not_listing(plural)).await;
        assert_eq!(rules(&tally), [], "{plural}");
        assert!(!tally.extent.gaps.is_empty(), "{plural}");
    }
}

#[tokio::test]
async fn what_cannot_be_listed_keeps_a_workflow_from_being_called_compliant() {
    for plural in [
        "rolebindings",
        "clusterrolebindings",
        "roles",
        "pods",
        "aiworkflowgrants",
    ] {
        let tally = scan(cluster().not_listing(plural)).await;
        let gap = of_triage(&tally).gap.clone().unwrap_or_default();
        assert!(gap.starts_with(&format!("the {plural} of ")), "{plural}: {gap:?}");
    }
    let tally = scan(cluster().not_listing("namespaces")).await;
    assert!(
        tally
            .extent
            .gaps
            .iter()
            .any(|gap| gap.starts_with("the namespaces of ")),
        "{:?}",
        tally.extent
    );
}

#[tokio::test]
async fn a_policy_of_the_whole_cluster_is_told_where_it_is_served() {
    let policies = vec![json!({"metadata": {"name": "all"}})];
    let cluster = cluster().listing("adminnetworkpolicies", None, policies);
    assert_eq!(rules(&scan(cluster.clone()).await), []);
    let tally = scan(cluster.serving("policy.networking.k8s.io")).await;
    assert_eq!(rules(&tally), [("foreign-network-policy", 1)]);
    assert_eq!(
        of_triage(&tally).openings.names().count(),
        0,
        "it is nobody's fault here"
    );
}

/// Whose one is, its name and its owner's UID say; that a policy says it of itself is not enough.
#[tokio::test]
async fn a_policy_of_the_cluster_that_ringfence_made_is_no_finding() {
    let policy = |name: &str, uid: &str| {
        json!({"metadata": {
            "name": name, "labels": {"ringfence.dev/owner": "triage"}, "annotations": {"ringfence.dev/owner-uid": uid},
        }})
    };
    let mut workflow = facts().workflow.unwrap();
    workflow["status"]["egress"] = json!({"backend": "ClusterNetworkPolicy"});
    let uid = workflow["metadata"]["uid"].as_str().unwrap();
    let policies = vec![policy("ringfence.ai.triage", uid), json!({"metadata": {"name": "all"}})];
    let forged = vec![policy("ringfence.ai.triage", "gone"), policy("open", uid)];
    for (policies, expected) in [(policies, 1), (forged, 2)] {
        let cluster = cluster()
            .listing("aiworkflows", Some("ai"), vec![workflow.clone()])
            .listing("aiworkflows", None, vec![workflow.clone()])
            .listing("clusternetworkpolicies", None, policies);
        let tally = scan(cluster.serving("policy.networking.k8s.io")).await;
        assert_eq!(rules(&tally), [("foreign-network-policy", expected)]);
    }
}

/// Takes its time over whatever is in namespace `ai`.
struct Slow;

const A_WHILE: Duration = Duration::from_millis(30);

impl Policies for Slow {
    fn evaluate(&self, input: &PolicyInput<'_>, _: Duration) -> Vec<Verdict> {
        if input
            .namespace
            .is_some_and(|namespace| namespace["metadata"]["name"] == "ai")
        {
            std::thread::sleep(A_WHILE);
        }
        Vec::new()
    }

    fn action(&self, _: &str) -> ValidationAction {
        ValidationAction::Deny
    }

    fn revision(&self) -> &str {
        "slow"
    }
}

/// Namespace `ai` with forty pods that take long to judge, and `other` with one that does not fit.
fn slow() -> Scanner {
    let pods = (0..40).map(|number| {
        let mut pod = pod();
        pod["metadata"]["name"] = format!("p{number}").into();
        pod
    });
    let cluster = cluster()
        .listing(
            "namespaces",
            None,
            vec![namespace("ai", enforced()), namespace("other", enforced())],
        )
        .listing("pods", Some("ai"), pods.collect())
        .listing("pods", Some("other"), vec![unset(pod(), "/metadata/labels")]);
    let cluster = Arc::new(cluster);
    let admission = Admission::new(cluster.clone(), Arc::new(Slow), "ringfence", Arc::default());
    Scanner::new(Arc::new(admission), cluster.clone(), cluster)
}

/// The namespaces of a scan in their order, each with how much of it was looked at, and what the scan came to.
#[derive(Default)]
struct Order(Vec<(String, usize)>, Tally);

impl Sink for Order {
    fn found(&mut self, finding: Finding) {
        self.1.found(finding);
    }

    fn declared(&mut self, namespace: &str, workflow: &Declared) {
        self.1.declared(namespace, workflow);
    }

    fn looked_at_namespace(&mut self, namespace: &str, extent: &Extent) {
        self.0.push((namespace.to_owned(), extent.looked));
        self.1.looked_at_namespace(namespace, extent);
    }
}

async fn in_turns(scanner: &Scanner, turns: &mut Turns) -> Order {
    let mut order = Order::default();
    scanner.scan_in_turns(None, Some(turns), &mut order).await;
    order
}

#[tokio::test]
async fn a_namespace_that_takes_long_has_its_turn_and_no_more_and_what_is_left_is_said() {
    let scanner = slow();
    let mut turns = Turns::of(10 * A_WHILE, Duration::from_secs(60));
    let Order(looked, tally) = in_turns(&scanner, &mut turns).await;
    let [(first, some), (second, 1)] = looked.as_slice() else {
        panic!("{looked:?}");
    };
    assert_eq!((first.as_str(), second.as_str()), ("ai", "other"));
    // Half of its turn is rest.
    assert!((1..=7).contains(some), "{some}");
    assert_eq!(rules(&tally), [("declared-workflow", 1)], "what takes long fits");
    let gap = of_triage(&tally).gap.clone().unwrap_or_default();
    assert!(gap.contains("namespace ai takes long to judge"), "{gap}");
    assert!(tally.extent.cut && tally.extent.gaps == [gap]);

    let Order(looked, _) = in_turns(&scanner, &mut turns).await;
    let names: Vec<_> = looked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["other", "ai"], "it comes last from then on");
}

/// However many they are, the others' next scan comes.
#[tokio::test]
async fn namespaces_that_take_long_share_what_time_there_is_for_them() {
    let scanner = slow();
    let mut turns = Turns::of(10 * A_WHILE, Duration::ZERO);
    turns.looked("ai", true);
    let Order(looked, tally) = in_turns(&scanner, &mut turns).await;
    assert_eq!(looked, [("other".to_owned(), 1), ("ai".to_owned(), 0)]);
    assert!(
        tally.extent.gaps[0].contains("0 of its objects"),
        "{:?}",
        tally.extent.gaps
    );
    assert!(turns.is_late("ai"), "its turn is still to come");
}

/// Nobody who starts it by hand waits for half of an answer.
#[tokio::test]
async fn a_scan_that_somebody_waits_for_is_whole() {
    let scanner = slow();
    let mut order = Order::default();
    scanner.scan(None, &mut order).await;
    assert_eq!(order.0, [("ai".to_owned(), 40), ("other".to_owned(), 1)]);
    assert!(!order.1.extent.cut && order.1.extent.gaps.is_empty());
}
