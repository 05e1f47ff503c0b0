use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::fence::Named;
use crate::fence::testing::{facts, pod, unset};
use crate::findings::Tally;
use crate::plan::{Compliance, owned_name};
use crate::policy::PolicySet;
use crate::webhook::Pool;
use crate::webhook::admit::Admission;
use crate::webhook::lookup::{Fixed, Key};

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
    }
    binding
}

/// A binding that Ringfence made, and the Role that it made for it.
fn ours(part: &str, of: &str, owner: &str) -> (Value, Value) {
    let mut bound = binding(&owned_name("ai", "triage", part), of, Some(owner), triage());
    let role = owned_name("ai", "triage", &part.replace("binding", "role"));
    bound["roleRef"] = json!({"kind": "Role", "name": role});
    let annotations = json!({"ringfence.dev/owner-uid": owner});
    let role = json!({"metadata": {"name": role, "namespace": of, "annotations": annotations}});
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
    let extent = scanner.scan(None, false, &mut tally).await;
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
    scanner.scan(None, false, &mut tally).await;
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
