use rstest::rstest;

use super::*;
use crate::{
    api::{AIWorkflow, AIWorkflowStatus, ConditionType, find},
    plan::{
        Change, Child, Outcome, Plan, owner_uid, plan, status,
        tests::{is_put_back, kinds, observed, stored, workflow},
    },
};

/// Where any domain may be declared, and pods reach them by a ClusterNetworkPolicy.
fn place() -> Observed {
    let mut observed = observed();
    let spec = &mut observed.class.as_mut().unwrap().spec;
    spec.network.as_mut().unwrap().domains = vec!["*".to_owned()];
    spec.egress =
        serde_json::from_value(json!({"backend": "ClusterNetworkPolicy", "clusterNetworkPolicy": {"priority": 40}}))
            .unwrap();
    observed.cluster_policies = PluginPolicies::Writable;
    // These are there as well: what is named is replaced by none of them.
    observed.egress_proxy = Some("ringfence-system".to_owned());
    observed.cilium = PluginPolicies::Writable;
    observed
}

fn rule(name: &str, domains: &[&str], ports: Value) -> Value {
    json!({"name": name, "to": {"domains": domains}, "ports": ports})
}

fn https(name: &str, domain: &str) -> Value {
    rule(name, &[domain], json!([{"port": 443}]))
}

fn declaring(rules: &[Value]) -> AIWorkflow {
    workflow(json!({"network": {"egress": rules}}))
}

fn the(children: &[(Child, Value)]) -> Option<&Value> {
    let is_it = |(child, _): &&(Child, Value)| *child == Child::ClusterNetworkPolicy;
    children.iter().find(is_it).map(|(_, policy)| policy)
}

fn said(workflow: &AIWorkflow, observed: &Observed, plan: &Plan) -> AIWorkflowStatus {
    let now = "2026-11-28T08:00:00Z".parse().unwrap();
    status(workflow, observed, plan, &Outcome::Applied(None), now)
}

fn standing(workflow: &AIWorkflow, observed: &Observed) -> Observed {
    Observed {
        children: stored(&plan(workflow, observed).changes),
        ..observed.clone()
    }
}

/// A peer holds at most 25 ranges: with one more, the API server would take no such policy at all.
#[test]
fn what_hands_out_credentials_fits_into_a_peer_for_each_family() {
    for ranges in cidr::metadata() {
        assert!((1..=25).contains(&ranges.len()), "{ranges:?}");
    }
}

#[test]
fn it_accepts_what_is_declared_for_the_pods_of_the_workflow_and_says_nothing_else() {
    let ports = json!([{"port": 443}, {"port": 8000, "endPort": 8010}, {"port": 9, "endPort": 9}]);
    let declared = declaring(&[
        rule("llm", &["*.blob.example", "api.llm.example"], ports),
        rule("mail", &["mail.example.com"], json!([{"port": 587}])),
        json!({"name": "api", "to": {"apiServer": {}}}),
    ]);
    let observed = place();
    let planned = plan(&declared, &observed);
    let made = stored(&planned.changes);
    let policy = the(&made).unwrap();
    let tcp = |port: Value| json!({"tcp": {"destinationPort": port}});
    assert_eq!(
        policy["spec"],
        json!({
            "tier": "Admin", "priority": 40,
            "subject": {"pods": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ai"}},
                "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
            }},
            "egress": [
                {"name": "credentials", "action": "Deny", "to": cidr::metadata().map(|networks| json!({"networks": networks}))},
                {
                    "name": "llm", "action": "Accept", "to": [{"domainNames": ["*.blob.example", "api.llm.example"]}],
                    "protocols": [tcp(json!({"number": 443})), tcp(json!({"range": {"start": 8000, "end": 8010}})), tcp(json!({"number": 9}))],
                },
                {"name": "mail", "action": "Accept", "to": [{"domainNames": ["mail.example.com"]}], "protocols": [tcp(json!({"number": 587}))]},
            ],
        })
    );
    let metadata = &policy["metadata"];
    assert_eq!(policy["apiVersion"], "policy.networking.k8s.io/v1alpha2");
    assert_eq!(
        (&metadata["name"], metadata.get("namespace")),
        (&json!("ringfence.ai.triage"), None)
    );
    let owner = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "ai", "uid": "ns-uid"}]);
    assert_eq!(metadata["ownerReferences"], owner);
    assert_eq!(owner_uid(policy), declared.metadata.uid.as_deref());
    assert_eq!(metadata["labels"]["ringfence.dev/owner"], "triage");
    // The DNS is the cluster's, as the class says, and data can leave by it.
    let status = said(&declared, &observed, &planned);
    let exfiltration = find(&status.conditions, ConditionType::DnsExfiltration).unwrap();
    assert_eq!(exfiltration.reason, "Possible");
    let standing = standing(&declared, &observed);
    assert_eq!(plan(&declared, &standing).changes, []);
    // With its last domain it goes, and so it does where its class names another backend.
    let none = declaring(&[]);
    let gone = plan(&none, &standing).changes;
    assert!(kinds(&gone).contains(&("delete", "ClusterNetworkPolicy")), "{gone:?}");
    let mut other = standing;
    other.class.as_mut().unwrap().spec.egress = serde_json::from_value(json!({"backend": "Proxy"})).unwrap();
    let changes = plan(&declared, &other).changes;
    let order = [("delete", "ClusterNetworkPolicy"), ("create", "NetworkPolicy")];
    assert_eq!(kinds(&changes), order, "the old way goes first");
}

#[rstest]
#[case::not_served(|observed: &mut Observed| observed.cluster_policies = PluginPolicies::Unserved, "does not serve")]
#[case::not_allowed(|observed: &mut Observed| observed.cluster_policies = PluginPolicies::NotAllowed, "egress.clusterNetworkPolicy.enabled")]
#[case::only_warns(|observed: &mut Observed| {
    let class = observed.namespace.labels.remove("ringfence.dev/enforce").unwrap();
    observed.namespace.labels.insert("ringfence.dev/warn".to_owned(), class);
}, "ringfence.dev/enforce")]
#[case::no_place(|observed: &mut Observed| egress(observed).cluster_network_policy = None, "priority")]
#[case::no_place_of_the_kind(|observed: &mut Observed| egress(observed).cluster_network_policy.as_mut().unwrap().priority = 1001, "priority")]
#[case::no_dns(|observed: &mut Observed| dns(observed, "None"), "ask no DNS")]
#[case::the_proxys_dns(|observed: &mut Observed| dns(observed, "ClusterOnly"), "ask no DNS")]
fn what_it_takes_is_said_and_nothing_is_opened_without(#[case] lacking: fn(&mut Observed), #[case] expected: &str) {
    let declared = declaring(&[https("a", "a.example.com")]);
    let whole = place();
    let mut observed = standing(&declared, &whole);
    lacking(&mut observed);
    let planned = plan(&declared, &observed);
    let status = said(&declared, &observed, &planned);
    assert_eq!(
        status.egress.unwrap().backend,
        crate::api::Backend::ClusterNetworkPolicy
    );
    let programmed = find(&status.conditions, ConditionType::Programmed).unwrap();
    assert_eq!(programmed.reason, "NoEgressBackend");
    assert!(programmed.message.contains(expected), "{}", programmed.message);
    // What stood goes, and nothing comes in its place.
    assert!(kinds(&planned.changes).contains(&("delete", "ClusterNetworkPolicy")));
    assert!(
        planned
            .changes
            .iter()
            .all(|change| !matches!(change, Change::Create(..)))
    );
}

fn egress(observed: &mut Observed) -> &mut crate::api::ClassEgress {
    observed.class.as_mut().unwrap().spec.egress.as_mut().unwrap()
}

fn dns(observed: &mut Observed, mode: &str) {
    let cluster = serde_json::from_value(json!({"dns": {"mode": mode}})).unwrap();
    observed.class.as_mut().unwrap().spec.cluster = Some(cluster);
}

/// What does not fit, or cannot be named, is closed whole, and said: no rule is ever made smaller in silence.
#[test]
fn what_does_not_fit_is_said() {
    let names = |rules: std::ops::Range<usize>| rules.map(|at| format!("r{at}")).collect::<Vec<_>>();
    let rules: Vec<_> = names(0..27).iter().map(|name| https(name, "a.example.com")).collect();
    let (reason, message, opened) = opened(&rules);
    assert_eq!((reason.as_str(), opened), ("TooManyNames", names(0..24)));
    assert!(message.contains("the rules r24, r25, r26;"), "{message}");
    // Its definition has 25 ports in a rule: more are two rules, of one name.
    let ports: Vec<_> = (1..=32).map(|port| json!({"port": port})).collect();
    let wide = rule("wide", &["a.example.com"], json!(ports));
    let made = stored(&plan(&declaring(std::slice::from_ref(&wide)), &place()).changes);
    let egress = the(&made).unwrap()["spec"]["egress"].as_array().unwrap();
    let sizes = egress.iter().map(|rule| rule["protocols"].as_array().map(Vec::len));
    assert_eq!(sizes.collect::<Vec<_>>(), [None, Some(25), Some(7)]);
    // One that fits only in part is closed, and so is whatever comes after it.
    let mut rules: Vec<_> = names(0..23).iter().map(|name| https(name, "a.example.com")).collect();
    rules.extend([wide, https("last", "a.example.com")]);
    let (reason, message, opened) = self::opened(&rules);
    assert_eq!((reason.as_str(), opened), ("TooManyNames", names(0..23)));
    assert!(message.contains("the rules wide, last;"), "{message}");
    // The definition would refuse the whole policy.
    let odd = [https("odd", "a_.example.com"), https("even", "_a._tcp.x.example.com")];
    let (reason, message, opened) = self::opened(&odd);
    assert_eq!((reason.as_str(), opened), ("NoEgressBackend", vec!["even".to_owned()]));
    assert!(message.contains("nothing is opened for the rules odd"), "{message}");
}

/// Why `Programmed` is False, what it says, and the names of the rules that are opened.
fn opened(rules: &[Value]) -> (String, String, Vec<String>) {
    let (declared, observed) = (declaring(rules), place());
    let planned = plan(&declared, &observed);
    let status = said(&declared, &observed, &planned);
    let programmed = find(&status.conditions, ConditionType::Programmed).unwrap().clone();
    let made = stored(&planned.changes);
    let egress = the(&made).unwrap()["spec"]["egress"].as_array().unwrap();
    let opened = egress.iter().filter(|rule| is_opening(rule));
    let names = opened.map(|rule| rule["name"].as_str().unwrap().to_owned());
    (programmed.reason, programmed.message, names.collect())
}

#[rstest]
#[case::leads_to_credentials("/spec/egress/0/action", json!("Accept"))]
#[case::denies("/spec/egress/1/action", json!("Deny"))]
#[case::a_wider_name("/spec/egress/1/to/0/domainNames/0", json!("*.com"))]
#[case::everywhere("/spec/egress/1/to/0", json!({"networks": ["0.0.0.0/0"]}))]
#[case::any_port("/spec/egress/1/protocols", json!([]))]
#[case::a_rule_more("/spec/egress", json!([{"action": "Accept", "to": [{"namespaces": {}}]}]))]
#[case::a_way_in("/spec/ingress", json!([{"action": "Accept", "from": [{"namespaces": {}}]}]))]
#[case::other_pods("/spec/subject", json!({"namespaces": {}}))]
#[case::another_place("/spec/priority", json!(0))]
#[case::a_finalizer("/metadata/finalizers", json!(["a.example/b"]))]
#[case::no_owner("/metadata/ownerReferences", json!([]))]
fn what_somebody_else_writes_into_it_is_put_back(#[case] pointer: &str, #[case] foreign: Value) {
    let declared = declaring(&[https("a", "a.example.com")]);
    is_put_back(
        &declared,
        standing(&declared, &place()),
        Child::ClusterNetworkPolicy,
        (pointer, foreign),
    );
}

/// Nor what is edited to say the same as a declaration that nobody reviewed.
#[test]
fn what_nobody_reviewed_opens_nothing_new() {
    let declared = declaring(&[https("llm", "api.llm.example"), https("old", "old.example.com")]);
    let mut observed = place();
    let first = plan(&declared, &observed);
    observed.children = stored(&first.changes);
    let mut edited = declaring(&[https("llm", "api.llm.example"), https("evil", "evil.example")]);
    edited.status = Some(said(&declared, &observed, &first));
    edited.status.as_mut().unwrap().reviewed = None;
    edited.metadata.generation = Some(4);
    observed.registration.as_mut().unwrap().created = "2026-03-01T00:00:00Z".parse().unwrap();
    let names = |plan: &Plan| {
        let written = stored(&plan.changes);
        let egress = the(&written).map(|policy| policy["spec"]["egress"].clone());
        egress.map(|rules| {
            rules
                .as_array()
                .unwrap()
                .iter()
                .filter(|rule| is_opening(rule))
                .map(|rule| rule["name"].clone())
                .collect::<Vec<_>>()
        })
    };
    let held = plan(&edited, &observed);
    assert!(held.held, "{:?}", held.acceptance);
    assert_eq!(
        names(&held),
        Some(vec![json!("llm")]),
        "what is not declared any more goes"
    );
    // Whoever edited the one could edit the other.
    let is_it = |(child, _): &&mut (Child, Value)| *child == Child::ClusterNetworkPolicy;
    let (_, policy) = observed.children.iter_mut().find(is_it).unwrap();
    let evil = stored(&plan(&declaring(&[https("evil", "evil.example")]), &place()).changes);
    let evil = the(&evil).unwrap()["spec"]["egress"][1].clone();
    policy["spec"]["egress"].as_array_mut().unwrap().push(evil);
    assert_eq!(names(&plan(&edited, &observed)), Some(vec![json!("llm")]));
    // Where nothing is left of what was given, it goes.
    let mut other = declaring(&[https("evil", "evil.example")]);
    (other.status, other.metadata.generation) = (edited.status.clone(), Some(4));
    assert_eq!(
        kinds(&plan(&other, &observed).changes),
        [("delete", "ClusterNetworkPolicy")]
    );
}

#[rstest]
#[case("ringfence.ai.triage", Some(("ai", "triage")))]
#[case("ringfence.ai.tri.age", None)]
#[case("ringfence.ai.", None)]
#[case("ringfence..triage", None)]
#[case("ringfence.ai", None)]
#[case("ringfence-ai-triage", None)]
#[case("other.ai.triage", None)]
fn a_name_tells_of_one_workflow(#[case] name: &str, #[case] expected: Option<(&str, &str)>) {
    assert_eq!(cluster_policy_of(name), expected);
    if let Some((namespace, workflow)) = expected {
        assert_eq!(cluster_policy_name(namespace, workflow), name);
    }
}
