use rstest::rstest;

use super::*;
use crate::{
    api::{ConditionStatus, ConditionType, Reason, find},
    plan::{
        Change, Outcome, Plan, name_of, owned_name, plan, same, status,
        tests::{kinds, observed, stored, workflow},
    },
};

const RELEASE: &str = "ringfence-system";

/// With these patterns in the class, and an egress proxy.
fn opening(patterns: &[&str]) -> Observed {
    let mut observed = observed();
    let class = observed.class.as_mut().unwrap();
    class.spec.network.as_mut().unwrap().domains = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    observed.egress_proxy = Some(RELEASE.to_owned());
    observed
}

fn to(name: &str, domains: &[&str]) -> Value {
    json!({"name": name, "to": {"domains": domains}, "ports": [{"port": 443}]})
}

fn declaring(egress: &[Value]) -> AIWorkflow {
    workflow(json!({"network": {"egress": egress}}))
}

fn is_way(object: &Value) -> bool {
    name_of(object) == owned_name("ai", "triage", "domains")
}

/// The policy that is made or replaced.
fn way(plan: &Plan) -> Option<Value> {
    let written = plan.changes.iter().filter_map(|change| match change {
        Change::Create(_, object) | Change::Replace(_, object) => Some(object),
        Change::Delete { .. } => None,
    });
    written.into_iter().find(|object| is_way(object)).cloned()
}

fn leads_to(way: &Value) -> Allowed {
    let text = way["metadata"]["annotations"][egress::ANNOTATION].as_str().unwrap();
    Allowed::read(text).unwrap()
}

/// Names of the rules in force.
fn in_force(plan: &Plan) -> Vec<String> {
    let rules = way(plan).map(|way| leads_to(&way).rules).unwrap_or_default();
    rules.into_iter().map(|rule| rule.name).collect()
}

fn says(
    workflow: &AIWorkflow,
    observed: &Observed,
    plan: &Plan,
    type_: ConditionType,
) -> (ConditionStatus, String, String) {
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(workflow, observed, plan, &Outcome::Applied(None), now);
    let said = find(&said.conditions, type_).unwrap();
    (said.status, said.reason.clone(), said.message.clone())
}

#[test]
fn one_policy_opens_the_way_to_the_proxy_and_says_where_it_leads() {
    let ports = json!([{"port": 443}, {"port": 8000, "endPort": 8010, "protocol": "TCP"}]);
    let llm = json!({"name": "llm", "to": {"domains": ["api.llm.example", "*.blob.example"]}, "ports": ports});
    let declared = declaring(&[llm, json!({"name": "api", "to": {"apiServer": {}}})]);
    let observed = opening(&["*"]);
    let plan = plan(&declared, &observed);
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let way = way(&plan).unwrap();
    let labels = json!({"app.kubernetes.io/name": "ringfence-egress", "app.kubernetes.io/component": "egress"});
    let proxy = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": RELEASE}},
        "podSelector": {"matchLabels": labels},
    });
    assert_eq!(
        way["spec"],
        json!({
            "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
            "policyTypes": ["Egress"],
            "ingress": [],
            "egress": [{"to": [proxy], "ports": [{"protocol": "TCP", "port": 3128}]}],
        })
    );
    let text = way["metadata"]["annotations"][egress::ANNOTATION].as_str().unwrap();
    let expected = r#"{"rules":[{"name":"llm","domains":["api.llm.example","*.blob.example"],"ports":[{"port":443},{"port":8000,"endPort":8010}]}]}"#;
    assert_eq!(text, expected);
    assert_eq!(egress_proxy_of(&stored(&plan.changes)), Some(RELEASE));

    // The policy of the other peers knows nothing of it, and what stands is left alone.
    let standing = Observed {
        children: stored(&plan.changes),
        ..observed
    };
    let allow = standing
        .children
        .iter()
        .find(|(_, object)| name_of(object) == owned_name("ai", "triage", "allow"));
    let allow = &allow.unwrap().1;
    assert_eq!(
        allow["spec"]["egress"].as_array().unwrap().len(),
        2,
        "DNS and the API server: {allow}"
    );
    assert!(allow["metadata"]["annotations"].get(egress::ANNOTATION).is_none());
    assert_eq!(crate::plan::plan(&declared, &standing).changes, []);
}

#[rstest]
#[case::nothing_opened(&[], &[], &["a", "b"])]
#[case::one_of_two(&["api.example.com"], &["a"], &["b"])]
#[case::both(&["*.example.com"], &["a", "b"], &[])]
#[case::any(&["*"], &["a", "b"], &[])]
#[case::a_pattern_that_cannot_be_read_opens_nothing(&["*.com", "API.example.com", "**"], &[], &["a", "b"])]
fn what_the_class_does_not_open_is_not_in_force(
    #[case] patterns: &[&str],
    #[case] expected: &[&str],
    #[case] outside: &[&str],
) {
    let declared = declaring(&[
        to("a", &["api.example.com"]),
        to("b", &["*.b.example.com", "c.example.com"]),
    ]);
    let observed = opening(patterns);
    let plan = plan(&declared, &observed);
    assert_eq!(in_force(&plan), expected);
    let reason = if outside.is_empty() {
        Reason::Accepted
    } else {
        Reason::OutsideClass
    };
    assert_eq!(plan.acceptance.reason, reason);
    for problem in &plan.acceptance.problems {
        assert!(
            problem.fix.contains("spec.network.domains of AIWorkflowClass default"),
            "{problem}"
        );
    }
    if patterns == ["api.example.com"] {
        let told: Vec<_> = plan
            .acceptance
            .problems
            .iter()
            .map(|problem| (problem.path.as_str(), problem.value.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("spec.network.egress[1].to.domains[0]", Some("*.b.example.com")),
                ("spec.network.egress[1].to.domains[1]", Some("c.example.com"))
            ]
        );
        assert!(
            plan.acceptance.message.contains("(it allows: api.example.com)"),
            "{}",
            plan.acceptance.message
        );
    }
}

#[test]
fn a_class_that_closes_a_domain_takes_it_away_and_the_last_one_takes_the_policy() {
    let declared = declaring(&[to("a", &["a.example.com"]), to("b", &["b.example.com"])]);
    let both = opening(&["*.example.com"]);
    let children = stored(&plan(&declared, &both).changes);
    let narrowed = |patterns: &[&str]| {
        let observed = Observed {
            children: children.clone(),
            ..opening(patterns)
        };
        plan(&declared, &observed)
    };
    let one = narrowed(&["b.example.com"]);
    assert_eq!(kinds(&one.changes), [("replace", "NetworkPolicy")]);
    assert_eq!(in_force(&one), ["b"]);
    let none = narrowed(&[]);
    let [Change::Delete { name, .. }] = none.changes.as_slice() else {
        panic!("{:?}", none.changes)
    };
    assert_eq!(*name, owned_name("ai", "triage", "domains"));
}

/// A declaration that is changed is no foreign edit, and a foreign edit is told as one.
#[rstest]
#[case::wider(json!({"rules": [{"name": "a", "domains": ["*.example.com"], "ports": [{"port": 443}]}]}).to_string())]
#[case::nothing(String::new())]
fn a_foreign_edit_of_where_it_leads_is_put_back(#[case] foreign: String) {
    let declared = declaring(&[to("a", &["a.example.com"])]);
    let mut observed = opening(&["*"]);
    observed.children = stored(&plan(&declared, &observed).changes);
    let (_, edited) = observed.children.iter_mut().find(|(_, object)| is_way(object)).unwrap();
    let before = edited.clone();
    edited["metadata"]["annotations"][egress::ANNOTATION] = json!(foreign);
    let edited = edited.clone();
    let put_back = plan(&declared, &observed);
    assert_eq!(kinds(&put_back.changes), [("replace", "NetworkPolicy")]);
    let way_back = way(&put_back).unwrap();
    assert!(same(&way_back, &before));
    assert!(crate::plan::is_foreign(&way_back, &edited));
    let more = plan(&declaring(&[to("a", &["a.example.com", "b.example.com"])]), &observed);
    assert!(!crate::plan::is_foreign(&way(&more).unwrap(), &before));
}

#[rstest]
#[case::upper_case(json!({"domains": ["API.example.com"]}), json!([{"port": 443}]), "to.domains[0]")]
#[case::address(json!({"domains": ["a.example.com", "192.0.2.1"]}), json!([{"port": 443}]), "to.domains[1]")]
#[case::service(json!({"domains": ["qdrant.vectors.svc"]}), json!([{"port": 443}]), "to.domains[0]")]
#[case::any(json!({"domains": ["*"]}), json!([{"port": 443}]), "to.domains[0]")]
#[case::empty(json!({"domains": []}), json!([{"port": 443}]), "to.domains")]
#[case::too_many(json!({"domains": vec!["a.example.com"; 26]}), json!([{"port": 443}]), "to.domains")]
#[case::no_ports(json!({"domains": ["a.example.com"]}), json!([]), "ports")]
#[case::udp(json!({"domains": ["a.example.com"]}), json!([{"port": 443, "protocol": "UDP"}]), "ports[0].protocol")]
#[case::two_peers(json!({"domains": ["a.example.com"], "apiServer": {}}), json!([{"port": 443}]), "to")]
fn what_is_no_domain_is_invalid_and_stays_closed(#[case] peer: Value, #[case] ports: Value, #[case] at: &str) {
    let rule = json!({"name": "x", "to": peer, "ports": ports});
    let plan = plan(&declaring(&[rule, to("a", &["a.example.com"])]), &opening(&["*"]));
    assert_eq!(plan.acceptance.reason, Reason::Invalid);
    let paths: Vec<_> = plan
        .acceptance
        .problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(paths, [format!("spec.network.egress[0].{at}")]);
    assert_eq!(in_force(&plan), ["a"], "the rule beside it stands");
}

#[test]
fn what_is_longer_than_the_proxy_reads_opens_nothing() {
    let long = |number: usize| format!("{}a{number}.example.com", "a.".repeat(110));
    let rules: Vec<_> = (0..64)
        .map(|rule| {
            let domains: Vec<_> = (0..25).map(|number| long(rule * 25 + number)).collect();
            json!({"name": rule.to_string(), "to": {"domains": domains}, "ports": [{"port": 443}]})
        })
        .collect();
    let plan = plan(&declaring(&rules), &opening(&["*"]));
    assert_eq!(plan.acceptance.reason, Reason::Invalid, "{}", plan.acceptance.message);
    assert!(
        plan.acceptance.message.contains("64 KiB"),
        "{}",
        plan.acceptance.message
    );
    assert_eq!(way(&plan), None);
}

#[test]
fn without_a_proxy_the_domains_stay_closed_and_it_is_said() {
    let declared = declaring(&[to("a", &["a.example.com"])]);
    let mut observed = opening(&["*"]);
    let served = plan(&declared, &observed);
    assert_eq!(says(&declared, &observed, &served, ConditionType::Ready).1, "Fenced");
    observed.children = stored(&served.changes);
    observed.egress_proxy = None;
    let plan_without = plan(&declared, &observed);
    assert_eq!(kinds(&plan_without.changes), [("delete", "NetworkPolicy")]);
    for type_ in [ConditionType::Programmed, ConditionType::Ready] {
        let (holds, reason, message) = says(&declared, &observed, &plan_without, type_);
        assert_eq!((holds, reason.as_str()), (ConditionStatus::False, "NoEgressProxy"));
        assert!(message.contains("egress.enabled"), "{message}");
    }
    // Who declares none, or none that is open, has nothing to wait for.
    let other = workflow(json!({}));
    let of_other = plan(&other, &observed);
    assert_eq!(says(&other, &observed, &of_other, ConditionType::Ready).1, "Fenced");
}

/// Held, because nobody reviewed the edit: what was given stays, and nothing comes.
#[test]
fn what_nobody_reviewed_leads_nowhere_new() {
    let mut observed = opening(&["*"]);
    let before = plan(
        &declaring(&[to("a", &["a.example.com"]), to("b", &["b.example.com"])]),
        &observed,
    );
    observed.children = stored(&before.changes);
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    let edited = |egress: &[Value]| {
        let mut edited = declaring(egress);
        edited.metadata.generation = Some(4);
        let reviewed = json!({"generation": 3, "registrationUID": "registration-uid"});
        edited.status = serde_json::from_value(json!({"reviewed": reviewed, "given": before.given})).unwrap();
        edited
    };
    let more = edited(&[
        to("a", &["a.example.com"]),
        to("b", &["b.example.com"]),
        to("c", &["c.example.com"]),
    ]);
    let held = plan(&more, &observed);
    assert_eq!((held.acceptance.reason, held.held), (Reason::NotReviewed, true));
    assert_eq!(held.changes, [], "{:?}", kinds(&held.changes));
    // What somebody put there since is taken out again.
    let mut written = observed.clone();
    let (_, way_there) = written.children.iter_mut().find(|(_, object)| is_way(object)).unwrap();
    let wide = json!({"rules": [
        {"name": "a", "domains": ["a.example.com"], "ports": [{"port": 443}]},
        {"name": "x", "domains": ["*.example.com"], "ports": [{"port": 443}]},
    ]});
    way_there["metadata"]["annotations"][egress::ANNOTATION] = json!(wide.to_string());
    assert_eq!(in_force(&plan(&more, &written)), ["a"]);
    // A wider rule is another one; and a class that closes all takes all.
    let wider = edited(&[to("a", &["*.example.com"]), to("b", &["b.example.com"])]);
    assert_eq!(in_force(&plan(&wider, &observed)), ["b"]);
    let closed = Observed {
        children: observed.children.clone(),
        registration: observed.registration.clone(),
        ..opening(&[])
    };
    assert_eq!(kinds(&plan(&more, &closed).changes), [("delete", "NetworkPolicy")]);
    // With nothing there before, nothing is made.
    let fresh = Observed {
        children: Vec::new(),
        registration: observed.registration.clone(),
        ..opening(&["*"])
    };
    assert_eq!(plan(&more, &fresh).changes, []);
}

#[test]
fn no_annotation_that_is_declared_passes_for_where_a_way_leads() {
    let mut observed = opening(&["*"]);
    let identity = json!({"annotations": [egress::ANNOTATION]});
    observed.class.as_mut().unwrap().spec.identity = serde_json::from_value(identity).unwrap();
    let declared = workflow(json!({"identity": {"annotations": {egress::ANNOTATION: "{\"rules\":[]}"}}}));
    let plan = plan(&declared, &observed);
    assert_eq!(plan.acceptance.reason, Reason::Invalid);
    let made = stored(&plan.changes);
    assert!(!made.is_empty());
    for (_, object) in made {
        assert!(
            object["metadata"]["annotations"].get(egress::ANNOTATION).is_none(),
            "{object}"
        );
    }
}

#[rstest]
#[case::usual(json!({}), json!([]), "Possible", "spec.cluster.dns.mode: ClusterOnly, or None, in AIWorkflowClass default")]
#[case::said_so(json!({"dns": {"mode": "Cluster"}}), json!([]), "Possible", "spec.cluster.dns.mode")]
#[case::elsewhere(json!({"dns": {"cidrs": ["192.0.2.53/32"]}}), json!([]), "Possible", "spec.cluster.dns.mode")]
#[case::none(json!({"dns": {"mode": "None"}}), json!([]), "Closed", "reach no DNS")]
#[case::none_and_domains(json!({"dns": {"mode": "None"}}), json!([to("a", &["a.example.com"])]), "Closed", "reach no DNS")]
#[case::cluster_only(json!({"dns": {"mode": "ClusterOnly"}}), json!([to("a", &["a.example.com"])]), "Closed", "ask the egress proxy alone for names")]
#[case::cluster_only_and_a_range_with_a_dns(
    json!({"dns": {"mode": "ClusterOnly"}}),
    json!([{"name": "b", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 53, "protocol": "UDP"}]}]),
    "Possible",
    "spec.network.egress[0] opens port 53"
)]
#[case::one_that_cannot_be_read(json!({"dns": {"cidrs": ["192.0.2.53"]}}), json!([]), "Closed", "reach no DNS")]
#[case::a_range_with_a_dns(
    json!({"dns": {"mode": "None"}}),
    json!([to("a", &["a.example.com"]), {"name": "b", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 1, "endPort": 100, "protocol": "UDP"}]}]),
    "Possible",
    "spec.network.egress[1] opens port 53"
)]
#[case::a_range_that_the_class_closes(
    json!({"dns": {"mode": "None"}}),
    json!([{"name": "b", "to": {"cidrs": ["2001:db8::/32"]}, "ports": [{"port": 53, "protocol": "UDP"}]}]),
    "Closed",
    "reach no DNS"
)]
fn whether_names_can_carry_data_out_is_said(
    #[case] cluster: Value,
    #[case] egress: Value,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let mut observed = opening(&["*"]);
    observed.class.as_mut().unwrap().spec.cluster = serde_json::from_value(cluster).unwrap();
    let declared = workflow(json!({"network": {"egress": egress}}));
    let plan = plan(&declared, &observed);
    let (holds, said, message) = says(&declared, &observed, &plan, ConditionType::DnsExfiltration);
    assert_eq!(
        (said.as_str(), holds == ConditionStatus::True),
        (reason, reason == "Possible")
    );
    assert!(message.contains(words), "{message}");
    assert_ne!(
        says(&declared, &observed, &plan, ConditionType::Ready).1,
        reason,
        "outside Ready"
    );
    let opened: Vec<_> = stored(&plan.changes)
        .into_iter()
        .filter(|(_, object)| name_of(object) == owned_name("ai", "triage", "allow"))
        .flat_map(|(_, object)| object["spec"]["egress"].as_array().cloned().unwrap())
        .filter(|rule| rule["ports"][0]["port"] == 53 && rule["ports"].as_array().unwrap().len() == 2)
        .collect();
    let of_class = reason == "Possible" && words.starts_with("spec.cluster");
    assert_eq!(
        opened.len(),
        usize::from(of_class),
        "the policy says the same: {opened:?}"
    );
}

#[test]
fn where_nothing_is_fenced_nothing_is_said_of_the_dns() {
    let mut observed = opening(&["*"]);
    let mut declared = workflow(json!({}));
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    declared.status = Some(status(
        &declared,
        &observed,
        &plan(&declared, &observed),
        &Outcome::Applied(None),
        now,
    ));
    observed.namespace.labels.clear();
    let said = status(
        &declared,
        &observed,
        &plan(&declared, &observed),
        &Outcome::Untouched,
        now,
    );
    assert_eq!(find(&said.conditions, ConditionType::DnsExfiltration), None);
}

#[rstest]
#[case::none_and_addresses(json!({"dns": {"mode": "None", "cidrs": ["169.254.20.10/32"]}}), &["spec.cluster.dns"])]
#[case::none_and_a_namespace(json!({"dns": {"mode": "None", "namespace": "x"}}), &["spec.cluster.dns"])]
#[case::cluster_only_and_addresses(json!({"dns": {"mode": "ClusterOnly", "cidrs": ["169.254.20.10/32"]}}), &["spec.cluster.dns"])]
#[case::none(json!({"dns": {"mode": "None"}}), &[])]
#[case::cluster_only(json!({"dns": {"mode": "ClusterOnly"}}), &[])]
fn a_class_says_one_thing_of_its_dns(#[case] cluster: Value, #[case] expected: &[&str]) {
    let mut observed = opening(&["*.com", "a.example", "*"]);
    let class = observed.class.as_mut().unwrap();
    class.spec.cluster = serde_json::from_value(cluster).unwrap();
    let found = crate::plan::class_problems(class);
    let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, [&["spec.network.domains[0]"][..], expected].concat());
}

/// What a policy opens of names: rules for port 53, and for that of the proxy.
fn opens_names(plan: &Plan) -> Vec<Value> {
    let allow = stored(&plan.changes)
        .into_iter()
        .find(|(_, object)| name_of(object) == owned_name("ai", "triage", "allow"));
    let rules = allow.unwrap().1["spec"]["egress"].as_array().cloned().unwrap();
    let is_of_names = |rule: &Value| [53, 1053].contains(&rule["ports"][0]["port"].as_i64().unwrap());
    rules.into_iter().filter(is_of_names).collect()
}

#[test]
fn pods_ask_the_proxy_for_names_and_no_dns_beside_it() {
    let mut observed = opening(&["*"]);
    let class = observed.class.as_mut().unwrap();
    class.spec.cluster = serde_json::from_value(json!({"dns": {"mode": "ClusterOnly"}})).unwrap();
    // It needs no domains.
    let declared = workflow(json!({}));
    let with = plan(&declared, &observed);
    let labels = json!({"app.kubernetes.io/name": "ringfence-egress", "app.kubernetes.io/component": "egress"});
    let proxy = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": RELEASE}},
        "podSelector": {"matchLabels": labels},
    });
    let ports = json!([{"protocol": "UDP", "port": 1053}, {"protocol": "TCP", "port": 1053}]);
    assert_eq!(opens_names(&with), [json!({"to": [proxy], "ports": ports})]);
    assert_eq!(
        says(&declared, &observed, &with, ConditionType::Programmed).1,
        "Applied"
    );

    // By Cilium, names of the world are asked of the cluster's DNS: that stays closed, and the proxy is asked for those of the cluster.
    let mut by_cilium = observed.clone();
    let egress = serde_json::from_value(json!({"backend": "Cilium"})).unwrap();
    by_cilium.class.as_mut().unwrap().spec.egress = Some(egress);
    by_cilium.cilium = crate::plan::PluginPolicies::Writable;
    let asking = declaring(&[to("a", &["a.example.com"])]);
    let planned = plan(&asking, &by_cilium);
    assert_eq!(opens_names(&planned), opens_names(&with));
    assert!(
        stored(&planned.changes)
            .iter()
            .all(|(child, _)| *child != Child::CiliumNetworkPolicy)
    );
    assert_eq!(
        says(&asking, &by_cilium, &planned, ConditionType::Programmed).1,
        "NoEgressBackend"
    );

    observed.egress_proxy = None;
    let without = plan(&declared, &observed);
    assert_eq!(opens_names(&without), [Value::Null; 0]);
    let (_, reason, message) = says(&declared, &observed, &without, ConditionType::Programmed);
    assert_eq!(reason, "NoEgressProxy");
    assert!(message.contains("until then pods reach no DNS"), "{message}");
    assert_eq!(
        says(&declared, &observed, &without, ConditionType::DnsExfiltration).1,
        "Closed"
    );
}

/// It is the class's word, whatever is declared: who waits for a review gets it where the class says so now, and not a rule of its own that
/// looks alike.
#[test]
fn the_way_to_names_is_the_classs_word_while_a_declaration_is_held() {
    let mut observed = opening(&["*"]);
    let mut declared = workflow(json!({}));
    observed.children = stored(&plan(&declared, &observed).changes);
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    declared.metadata.generation = Some(4);
    declared.status = Some(
        serde_json::from_value(json!({"reviewed": {"generation": 3, "registrationUID": "registration-uid"}})).unwrap(),
    );
    let class = observed.class.as_mut().unwrap();
    class.spec.cluster = serde_json::from_value(json!({"dns": {"mode": "ClusterOnly"}})).unwrap();
    let rule = dns::rule(class, Some(RELEASE)).unwrap();
    let held = plan(&declared, &observed);
    assert!(held.held);
    assert_eq!(opens_names(&held), std::slice::from_ref(&rule));
    let word = super::super::kept::Word::new(&declared, Some(rule.clone()));
    let read = |element: &Value| super::super::kept::read(Child::NetworkPolicy, element, &word);
    assert_eq!(read(&rule), None);
    let mut elsewhere = rule.clone();
    elsewhere["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = json!("vectors");
    assert!(read(&elsewhere).is_some());
}

/// Whoever may make a Service has a name there, and says where it leads.
#[test]
fn a_name_of_the_cluster_is_no_domain_whatever_its_names_are_below() {
    let mut observed = opening(&["*"]);
    let class = observed.class.as_mut().unwrap();
    let status = class.status.get_or_insert_default();
    status.cluster_domain = Some("k8s.corp.example".to_owned());
    status.cluster_domains = vec!["clusterset.local".to_owned(), "sets.partner.example".to_owned()];
    let declared = declaring(&[
        to("service", &["x.evil.svc.k8s.corp.example"]),
        to("below", &["*.k8s.corp.example"]),
        to("itself", &["k8s.corp.example"]),
        to("above", &["*.corp.example"]),
        to("beside", &["other-k8s.corp.example"]),
        to("of-the-set", &["x.evil.svc.sets.partner.example"]),
        to("above-the-set", &["*.partner.example"]),
    ]);
    let plan = plan(&declared, &observed);
    assert_eq!(in_force(&plan), ["above", "beside", "above-the-set"]);
    assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
    let told: Vec<_> = plan.acceptance.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told.iter().all(|told| told.contains("is a name of the cluster")),
        "{told:?}"
    );
    // What is opened by its pattern, and not name by name, opens those of the cluster with it.
    for backend in ["Cilium", "ClusterNetworkPolicy"] {
        let egress = json!({"backend": backend, "clusterNetworkPolicy": {"priority": 1}});
        observed.class.as_mut().unwrap().spec.egress = serde_json::from_value(egress).unwrap();
        let problems = super::super::plan(&declared, &observed).acceptance.problems;
        let values: Vec<_> = problems.iter().filter_map(|problem| problem.value.as_deref()).collect();
        assert!(values.contains(&"*.corp.example"), "{values:?}");
        assert!(values.contains(&"*.partner.example"), "{values:?}");
    }
}
