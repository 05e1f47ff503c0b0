use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::ValidationAction;
use crate::fence::Named;
use crate::fence::testing::{facts, pod, set, unset, workload};
use crate::findings::Finding;
use crate::plan::owned_name;
use crate::policy::{PolicyInput, Verdict};
use crate::webhook::Policies;
use crate::webhook::lookup::{Fixed, Key};

struct NoPolicies;

impl Policies for NoPolicies {
    fn evaluate(&self, _: &PolicyInput<'_>, _: Duration) -> Vec<Verdict> {
        Vec::new()
    }

    fn action(&self, _: &str) -> ValidationAction {
        ValidationAction::Deny
    }

    fn revision(&self) -> &str {
        "none"
    }
}

#[derive(Default)]
struct Heard {
    findings: Vec<Finding>,
    pods: Vec<(Option<String>, String)>,
}

impl Sink for Heard {
    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn refused_pod(&mut self, _: &str, workflow: Option<&str>, name: &str) {
        self.pods.push((workflow.map(str::to_owned), name.to_owned()));
    }
}

impl Heard {
    /// Object, workflow and rule of each finding.
    fn told(&self) -> Vec<String> {
        let workflow = |finding: &Finding| finding.workflow.clone().unwrap_or_else(|| "-".into());
        let told = |finding: &Finding| {
            format!(
                "{}/{} {} {}",
                finding.kind,
                finding.name,
                workflow(finding),
                finding.rule
            )
        };
        self.findings.iter().map(told).collect()
    }
}

/// Namespace `ai` without a mode, and the workflow `triage` declared in it; nothing was made of it yet.
fn cluster() -> Fixed {
    let facts = facts();
    let triage = Named {
        namespace: "ai".into(),
        name: "triage".into(),
    };
    Fixed::default()
        .with(Key::Workflow(triage), facts.workflow.clone().unwrap())
        .with(Key::Class("default".into()), facts.classes["default"].clone().unwrap())
        .listing("aiworkflows", Some("ai"), vec![facts.workflow.unwrap()])
}

fn bounds() -> Bounds {
    Bounds {
        objects: usize::MAX,
        until: None,
        rests: false,
        itself: false,
        routes: true,
        audits: true,
    }
}

async fn look(cluster: Fixed, bounds: Bounds) -> (Heard, Extent) {
    let cluster = Arc::new(cluster);
    let admission = Admission::new(cluster.clone(), Arc::new(NoPolicies), "ringfence", Arc::default());
    let scanner = Scanner::new(Arc::new(admission), cluster.clone(), cluster);
    let labels = json!({"ringfence.dev/warn": "other", "pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": labels}});
    let mut heard = Heard::default();
    let extent = scanner.look(&namespace, "default", bounds, &mut heard).await;
    (heard, extent)
}

fn called(mut object: Value, name: &str, uid: &str) -> Value {
    object["metadata"]["name"] = name.into();
    object["metadata"]["uid"] = uid.into();
    object
}

fn made_by(mut object: Value, kind: &str, name: &str, uid: &str) -> Value {
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    object
}

fn other_image(object: Value, template: &str) -> Value {
    set(
        object,
        &format!("{template}/spec/containers/0/image"),
        json!("docker.io/evil/a"),
    )
}

fn unlabelled(object: Value) -> Value {
    unset(object, "/metadata/labels")
}

#[tokio::test]
async fn what_would_pass_under_enforce_is_not_told_whoever_launched_it() {
    let cluster = cluster()
        .listing("deployments", Some("ai"), vec![called(workload("d"), "d", "d-1")])
        .listing("pods", Some("ai"), vec![called(pod(), "p", "p-1")]);
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), [""; 0]);
    let whole = Extent {
        looked: 2,
        units: 2,
        ..Extent::default()
    };
    assert_eq!(extent, whole, "and neither account nor default-deny need be there yet");
}

#[tokio::test]
async fn an_account_that_is_somebody_elses_is_told() {
    let triage = Named {
        namespace: "ai".into(),
        name: "triage".into(),
    };
    let cluster = cluster()
        .with(
            Key::Account(triage),
            json!({"metadata": {"name": "triage", "uid": "1"}}),
        )
        .listing("pods", Some("ai"), vec![called(pod(), "p", "p-1")]);
    let (heard, _) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), ["Pod/p triage own-service-account"]);
}

#[tokio::test]
async fn every_kind_that_runs_something_is_looked_at() {
    let mut cluster = cluster();
    for kind in RUNNING {
        let object = match kind.kind {
            "Pod" => pod(),
            "CronJob" => json!({"metadata": {}, "spec": {"jobTemplate": {"spec": {"template": pod()}}}}),
            _ => workload("w"),
        };
        let one = called(unlabelled(object), "x", &format!("{}-1", kind.plural));
        cluster = cluster.listing(kind.plural, Some("ai"), vec![one]);
    }
    let (heard, extent) = look(cluster, bounds()).await;
    for kind in RUNNING {
        let told = format!("{}/x triage declared-workflow", kind.kind);
        assert!(
            heard.told().contains(&told) || kind.kind == "Pod",
            "{told} is not in {:?}",
            heard.told()
        );
    }
    assert!(
        heard.told().contains(&"Pod/x triage declared-workflow".to_owned()),
        "by its account: {:?}",
        heard.told()
    );
    assert_eq!((extent.looked, extent.units, extent.refused), (8, 8, 8));
}

#[tokio::test]
async fn pods_of_a_workload_count_with_it_and_tell_only_what_it_did_not() {
    let replica_set = |object: Value| made_by(called(object, "d-7", "rs-1"), "Deployment", "d", "d-1");
    let of_it = |name: &str, object: Value| made_by(called(object, name, name), "ReplicaSet", "d-7", "rs-1");
    let bad = other_image(workload("d"), "/spec/template");
    let cluster = cluster()
        .listing("deployments", Some("ai"), vec![called(bad.clone(), "d", "d-1")])
        .listing("replicasets", Some("ai"), vec![replica_set(bad)])
        .listing(
            "pods",
            Some("ai"),
            vec![
                of_it("d-7-a", other_image(pod(), "")),
                // An injector gave it another account after its template was written.
                of_it(
                    "d-7-b",
                    set(other_image(pod(), ""), "/spec/serviceAccountName", json!("other")),
                ),
                of_it("d-7-c", set(pod(), "/spec/serviceAccountName", json!("other"))),
            ],
        );
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(
        heard.told(),
        [
            "Deployment/d triage approved-images",
            "Deployment/d triage own-service-account"
        ]
    );
    assert!(
        heard.findings[1].message.ends_with("(in its pod d-7-b)"),
        "{:?}",
        heard.findings[1]
    );
    assert_eq!((extent.looked, extent.units, extent.refused), (5, 1, 1));
    let pods: Vec<_> = heard.pods.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(pods, ["d-7-a", "d-7-b", "d-7-c"], "each pod by name all the same");
}

#[tokio::test]
async fn who_claims_an_owner_that_is_not_there_is_judged_by_itself() {
    let orphan = made_by(
        called(unlabelled(workload("x")), "rs", "rs-1"),
        "Deployment",
        "gone",
        "gone-1",
    );
    let cluster = cluster().listing("replicasets", Some("ai"), vec![orphan]);
    let (heard, _) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), ["ReplicaSet/rs triage declared-workflow"]);
}

/// No Deployment makes a Job: what says that it does would be passed over with what the Deployment runs.
#[tokio::test]
async fn who_claims_an_owner_that_makes_no_such_thing_is_judged_by_itself() {
    let job = made_by(called(unlabelled(workload("j")), "j", "j-1"), "Deployment", "d", "d-1");
    let cluster = cluster()
        .listing("deployments", Some("ai"), vec![called(workload("d"), "d", "d-1")])
        .listing("jobs", Some("ai"), vec![job]);
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), ["Job/j triage declared-workflow"]);
    assert_eq!(extent.units, 2);
}

#[tokio::test]
async fn pods_of_a_kind_that_is_not_listed_go_by_their_controller() {
    let of_it = |name: &str| made_by(called(unlabelled(pod()), name, name), "Workflow", "flow", "flow-1");
    let cluster = cluster().listing("pods", Some("ai"), vec![of_it("a"), of_it("b"), of_it("c")]);
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), ["Workflow/flow triage declared-workflow"]);
    assert_eq!((extent.looked, extent.units, extent.refused), (3, 1, 1));
}

#[tokio::test]
async fn what_has_ended_is_left_alone() {
    let done = set(unlabelled(pod()), "/status", json!({"phase": "Succeeded"}));
    let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    let suspended = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    let cluster = cluster().listing("pods", Some("ai"), vec![done]).listing(
        "jobs",
        Some("ai"),
        vec![
            set(unlabelled(workload("a")), "/status", complete),
            called(set(unlabelled(workload("b")), "/status", suspended), "b", "b"),
        ],
    );
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), ["Job/b triage declared-workflow"]);
    assert_eq!(extent.looked, 1);
}

/// Whoever may write NetworkPolicies could else hide a wide one behind as many as are looked at.
#[tokio::test]
async fn a_wide_policy_is_not_hidden_by_narrow_ones() {
    let policy = |name: String, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let narrow = json!({"podSelector": {"matchLabels": {"app": "gone"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
    let mut policies: Vec<_> = (0..MAX_FOREIGN)
        .map(|at| policy(format!("a{at}"), narrow.clone()))
        .collect();
    policies.push(policy("zz-open".into(), json!({"podSelector": {}, "egress": [{}]})));
    let cluster = cluster().listing("networkpolicies", Some("ai"), policies).listing(
        "deployments",
        Some("ai"),
        vec![called(workload("d"), "d", "d-1")],
    );
    let (heard, extent) = look(cluster, bounds()).await;
    let told = heard.told();
    assert!(told.contains(&"NetworkPolicy/zz-open triage foreign-network-policy".to_owned()));
    assert_eq!((told.len(), extent.gaps.len()), (MAX_FOREIGN, 1), "{:?}", extent.gaps);
}

/// A selector may have as many values as fit into an object; kept of every policy, they would be gigabytes.
#[tokio::test]
async fn what_selectors_weigh_is_bounded_and_said() {
    let values = vec!["x"; 60_000];
    let heavy = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": values}]});
    let policy = |name: String, selector: &Value| json!({"metadata": {"name": name}, "spec": {"podSelector": selector, "ingress": [{}]}});
    let mut policies: Vec<_> = (0..8).map(|at| policy(format!("a{at}"), &heavy)).collect();
    policies.push(policy("zz-open".into(), &json!({})));
    let cluster = cluster().listing("networkpolicies", Some("ai"), policies);
    let (heard, extent) = look(cluster, bounds()).await;
    assert!(
        heard
            .told()
            .iter()
            .any(|told| told.starts_with("NetworkPolicy/zz-open"))
    );
    assert!((2..8).contains(&heard.told().len()), "{:?}", heard.told());
    assert!(
        extent.gaps.len() == 1 && extent.gaps[0].contains("their selectors are larger"),
        "{:?}",
        extent.gaps
    );
}

#[tokio::test]
async fn a_foreign_policy_is_told_with_each_workflow_whose_pods_it_opens() {
    let policy = |name: &str, selector: Value| json!({"metadata": {"name": name}, "spec": {"podSelector": selector, "ingress": [{}]}});
    let ours = json!({"metadata": {"name": owned_name("ai", "triage", "allow"), "namespace": "ai", "labels": {"ringfence.dev/owner": "triage"}, "annotations": {"ringfence.dev/owner-uid": "workflow-uid"}}, "spec": {"ingress": [{}]}});
    let cluster = cluster()
        .listing(
            "networkpolicies",
            Some("ai"),
            vec![
                ours,
                policy("all", json!({})),
                policy("none", json!({"matchLabels": {"app": "gone"}})),
            ],
        )
        .listing("deployments", Some("ai"), vec![called(workload("d"), "d", "d-1")]);
    let (heard, _) = look(cluster, bounds()).await;
    assert_eq!(
        heard.told(),
        [
            "NetworkPolicy/all triage foreign-network-policy",
            "NetworkPolicy/none - foreign-network-policy",
        ]
    );
    assert_eq!(
        (heard.findings[0].severity, heard.findings[1].severity),
        (Severity::Error, Severity::Warning)
    );
}

#[tokio::test]
async fn a_look_ends_at_its_bounds_and_says_so() {
    let pods = (0..9)
        .map(|at| called(unlabelled(pod()), &format!("p{at}"), ""))
        .collect();
    let few = Bounds { objects: 4, ..bounds() };
    let (heard, extent) = look(cluster().listing("pods", Some("ai"), pods), few).await;
    assert_eq!((heard.findings.len(), extent.looked, extent.cut), (4, 4, true));
    let late = Bounds {
        until: Some(Instant::now()),
        ..bounds()
    };
    let (heard, extent) = look(cluster().listing("pods", Some("ai"), vec![unlabelled(pod())]), late).await;
    assert_eq!((heard.findings.len(), extent.cut), (0, true));
}

#[rstest]
#[case::workflows("aiworkflows")]
#[case::policies("networkpolicies")]
#[case::services("services")]
#[case::routes("ingresses")]
#[case::endpoints("endpointslices")]
#[case::workloads("deployments")]
#[case::pods("pods")]
#[tokio::test]
async fn what_cannot_be_listed_is_named_and_the_rest_is_looked_at(#[case] plural: &'static str) {
    let cluster = cluster()
        .listing("jobs", Some("ai"), vec![called(unlabelled(workload("j")), "j", "j")])
        .not_listing(plural);
    let (heard, extent) = look(cluster, bounds()).await;
    assert!(
        heard.told().iter().any(|told| told.starts_with("Job/j ")),
        "{:?}",
        heard.told()
    );
    assert_eq!(
        extent.gaps,
        [format!(
            "the {plural} of namespace ai could not be read from the API server: it did not answer"
        )]
    );
}

#[tokio::test]
async fn what_cannot_be_judged_is_a_gap_and_not_a_pass() {
    let cluster =
        cluster()
            .failing(Key::Class("default".into()))
            .listing("pods", Some("ai"), vec![called(pod(), "p", "p")]);
    let (heard, extent) = look(cluster, bounds()).await;
    assert_eq!(heard.told(), [""; 0]);
    assert_eq!(extent.gaps.len(), 1);
    assert!(
        extent.gaps[0].starts_with("Pod ai/p could not be judged: AIWorkflowClass default could not be read"),
        "{:?}",
        extent.gaps
    );
}

/// As they stand from before the fence.
#[tokio::test]
async fn what_leads_traffic_in_or_overrules_the_policies_is_told() {
    let named = |name: &str| json!({"metadata": {"name": name}});
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let services = vec![
        service("plain", json!({"type": "ClusterIP", "selector": {"app": "x"}})),
        service(
            "open",
            json!({"type": "NodePort", "selector": {"ringfence.dev/workflow": "triage"}}),
        ),
        service("others", json!({"type": "LoadBalancer", "selector": {"app": "x"}})),
        service("blind", json!({"type": "ClusterIP"})),
    ];
    let slice = |name: &str, keeper: &str, service: &str| {
        let keeper = format!("{keeper}.k8s.io");
        json!({"metadata": {"name": name, "labels": {"endpointslice.kubernetes.io/managed-by": keeper, "kubernetes.io/service-name": service}}})
    };
    let slices = vec![
        named("by-hand"),
        slice("kept", "endpointslice-controller", "plain"),
        slice("named-alike", "endpointslice-controller", "blind"),
        slice("of-nothing", "endpointslice-controller", "gone"),
        slice("mirrored", "endpointslicemirroring-controller", "blind"),
        slice("mirrors-nothing", "endpointslicemirroring-controller", "plain"),
        slice("somebodys", "mesh", "plain"),
    ];
    let cluster = cluster()
        .listing("pods", Some("ai"), vec![called(pod(), "p", "p")])
        .listing("services", Some("ai"), services)
        .listing("ingresses", Some("ai"), vec![named("in"), named("in-2"), named("in-3")])
        .listing("httproutes", Some("ai"), vec![named("route")])
        .listing("endpointslices", Some("ai"), slices)
        .listing("ciliumnetworkpolicies", Some("ai"), vec![named("cilium")]);
    let (heard, extent) = look(cluster.clone(), bounds()).await;
    assert_eq!(extent.gaps, [""; 0]);
    let mut told = heard.told();
    told.retain(|told| !told.starts_with("Pod/"));
    told.sort();
    let plain = [
        "EndpointSlice/by-hand - foreign-endpoints",
        "EndpointSlice/mirrors-nothing - foreign-endpoints",
        "EndpointSlice/named-alike - foreign-endpoints",
        "EndpointSlice/of-nothing - foreign-endpoints",
        "EndpointSlice/somebodys - foreign-endpoints",
        "Ingress/in - exposed-route",
        "Ingress/in-2 - exposed-route",
        "Ingress/in-3 - exposed-route",
        "Service/blind - closed-service",
        "Service/open triage closed-service",
        "Service/others - closed-service",
    ];
    assert_eq!(told, plain, "what is not served is not asked for");
    let served = cluster.serving("cilium.io").serving("gateway.networking.k8s.io");
    let (heard, _) = look(served, bounds()).await;
    for told in [
        "CiliumNetworkPolicy/cilium triage foreign-network-policy",
        "HTTPRoute/route - exposed-route",
    ] {
        assert!(heard.told().contains(&told.to_owned()), "{:?}", heard.told());
    }
    assert_eq!(
        heard.told().iter().filter(|told| told.starts_with("Service/")).count(),
        3
    );
}

#[tokio::test]
async fn the_api_servers_own_service_leads_nowhere_else() {
    let kubernetes = vec![json!({"metadata": {"name": "kubernetes"}, "spec": {"type": "ClusterIP"}})];
    let fixed = Arc::new(
        Fixed::default()
            .listing("services", Some("default"), kubernetes.clone())
            .listing("endpointslices", Some("default"), kubernetes),
    );
    let admission = Admission::new(fixed.clone(), Arc::new(NoPolicies), "ringfence", Arc::default());
    let scanner = Scanner::new(Arc::new(admission), fixed.clone(), fixed);
    let mut heard = Heard::default();
    let namespace = json!({"metadata": {"name": "default"}});
    scanner.look(&namespace, "default", bounds(), &mut heard).await;
    assert_eq!(heard.told(), [""; 0]);
}

#[tokio::test]
async fn facts_are_asked_for_once() {
    struct Counting(Fixed, std::sync::atomic::AtomicUsize);
    impl Lookup for Counting {
        fn get<'a>(
            &'a self,
            key: &'a Key,
        ) -> futures::future::BoxFuture<'a, Result<Option<Value>, crate::webhook::lookup::LookupError>> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.get(key)
        }
    }
    let pods = (0..20).map(|at| called(pod(), &format!("p{at}"), "")).collect();
    let fixed = cluster().listing("pods", Some("ai"), pods);
    let counting = Arc::new(Counting(fixed.clone(), Default::default()));
    let admission = Admission::new(counting.clone(), Arc::new(NoPolicies), "ringfence", Arc::default());
    let scanner = Scanner::new(Arc::new(admission), counting.clone(), Arc::new(fixed));
    let namespace = json!({"metadata": {"name": "ai"}});
    scanner
        .look(&namespace, "default", bounds(), &mut Heard::default())
        .await;
    let asked = counting.1.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asked, 3, "workflow, class and account, for twenty pods");
}

/// What the guard lets plugins report is no part of what was made; what its author asks for is, whoever the record says wrote it.
#[tokio::test]
async fn what_plugins_report_is_not_told_and_what_pods_ask_for_is() {
    let with = |name: &str, key: &str| {
        let mut pod = called(pod(), name, "");
        pod["metadata"]["annotations"] = json!({key: "x"});
        let fields = json!({"f:metadata": {"f:annotations": {format!("f:{key}"): {}}}});
        pod["metadata"]["managedFields"] = json!([{"manager": "multus", "subresource": "status", "fieldsV1": fields}]);
        pod
    };
    let pods = vec![
        with("reported", "cni.projectcalico.org/podIP"),
        with("of-a-value", "cni.example.com/ip"),
        with("asks", "k8s.v1.cni.cncf.io/networks"),
    ];
    let expression = "['cni.example.com/']";
    let guard = json!({"metadata": {"name": "ringfence-subresources"}, "spec": {"variables": [{"name": "reports", "expression": expression}]}});
    let by_default = cluster().listing("pods", Some("ai"), pods);
    let by_value = by_default
        .clone()
        .listing("validatingadmissionpolicies", None, vec![guard]);
    for (cluster, wanted) in [
        (by_default.clone(), ["of-a-value", "asks"]),
        (
            by_default.not_listing("validatingadmissionpolicies"),
            ["of-a-value", "asks"],
        ),
        (by_value, ["reported", "asks"]),
    ] {
        let (heard, extent) = look(cluster, bounds()).await;
        assert_eq!(
            heard.told(),
            wanted.map(|name| format!("Pod/{name} triage pod-annotations"))
        );
        assert_eq!(extent.gaps, [""; 0]);
    }
}
