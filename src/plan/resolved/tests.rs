use rstest::rstest;

use super::*;
use crate::{
    api::{AIWorkflowStatus, ConditionType, find},
    plan::{
        Change, Outcome, Plan, plan, status,
        tests::{kinds, observed, stored, workflow},
    },
};

/// Where any domain may be declared, and pods reach them by resolved addresses.
fn place() -> Observed {
    let mut observed = observed();
    let spec = &mut observed.class.as_mut().unwrap().spec;
    spec.network.as_mut().unwrap().domains = vec!["*".to_owned()];
    spec.egress = serde_json::from_value(json!({"backend": "ResolvedAddresses"})).unwrap();
    // Both are there as well: what is named is replaced by neither, and neither by it.
    observed.egress_proxy = Some("ringfence-system".to_owned());
    observed.cilium = crate::plan::PluginPolicies::Writable;
    observed
}

fn rule(name: &str, domains: &[&str], port: u16) -> Value {
    json!({"name": name, "to": {"domains": domains}, "ports": [{"port": port}]})
}

fn declaring(rules: &[Value]) -> AIWorkflow {
    workflow(json!({"network": {"egress": rules}}))
}

fn llm() -> AIWorkflow {
    declaring(&[rule("llm", &["api.llm.example", "b.llm.example"], 443)])
}

/// The same, after its first plan, with these addresses of names in its ResolvedNames.
fn standing(workflow: &AIWorkflow, observed: &Observed, names: &[(&str, &[&str])]) -> Observed {
    let made = plan(workflow, observed);
    let mut standing = Observed {
        children: stored(&made.changes),
        ..observed.clone()
    };
    remember(&mut standing, names);
    standing
}

fn remember(observed: &mut Observed, names: &[(&str, &[&str])]) {
    let seen = |address: &&str| json!({"address": address, "ttlSeconds": 60, "lastSeen": "2026-11-27T20:00:00Z"});
    let name = |(name, addresses): &(&str, &[&str])| {
        let addresses: Vec<_> = addresses.iter().map(seen).collect();
        json!({"name": name, "ipv4": "Resolved", "ipv6": "NoAddress", "addresses": addresses})
    };
    let names: Vec<_> = names.iter().map(name).collect();
    the(&mut observed.children, Child::ResolvedNames)["status"] = json!({"names": names});
}

fn the(children: &mut [(Child, Value)], kind: Child) -> &mut Value {
    let name = owned_name("ai", "triage", "domains");
    let is_it = |(child, object): &&mut (Child, Value)| *child == kind && name_of(object) == name;
    &mut children.iter_mut().find(is_it).expect("it stands").1
}

/// Rules of the policy as it is written by these changes.
fn written(changes: &[Change]) -> Option<Value> {
    let name = owned_name("ai", "triage", "domains");
    changes.iter().find_map(|change| match change {
        Change::Create(Child::NetworkPolicy, object) | Change::Replace(Child::NetworkPolicy, object)
            if name_of(object) == name =>
        {
            Some(object["spec"]["egress"].clone())
        }
        _ => None,
    })
}

fn said(workflow: &AIWorkflow, observed: &Observed, plan: &Plan) -> AIWorkflowStatus {
    let now = "2026-11-27T20:00:00Z".parse().unwrap();
    status(workflow, observed, plan, &Outcome::Applied(None), now)
}

fn says(workflow: &AIWorkflow, observed: &Observed, type_: ConditionType) -> (String, String) {
    let plan = plan(workflow, observed);
    let said = said(workflow, observed, &plan);
    let condition = find(&said.conditions, type_).unwrap();
    (condition.reason.clone(), condition.message.clone())
}

fn opened(addresses: &[&str]) -> Vec<Value> {
    addresses
        .iter()
        .map(|cidr| json!({"ipBlock": {"cidr": cidr, "except": []}}))
        .collect()
}

#[test]
fn what_is_declared_is_resolved_and_what_was_seen_is_opened() {
    let (workflow, observed) = (llm(), place());
    let first = plan(&workflow, &observed);
    let mut children = stored(&first.changes);
    let names = the(&mut children, Child::ResolvedNames);
    let rule = json!({"name": "llm", "domains": ["api.llm.example", "b.llm.example"], "ports": [{"port": 443}]});
    assert_eq!(names["spec"], json!({"rules": [rule]}));
    assert_eq!(names["apiVersion"], "ringfence.dev/v1alpha1");
    assert_eq!(names["metadata"]["ownerReferences"][0]["kind"], "AIWorkflow");
    // Nothing is known, and nothing is open: not to everybody, either.
    assert_eq!(written(&first.changes), Some(json!([])));
    assert!(children.iter().all(|(child, _)| *child != Child::CiliumNetworkPolicy));

    let seen: &[(&str, &[&str])] = &[
        ("b.llm.example", &["2606:2800::1", "1.1.1.2"]),
        ("api.llm.example", &["1.1.1.1", "1.1.1.2"]),
        ("of.nobody.example", &["9.9.9.9"]),
    ];
    let observed = standing(&workflow, &observed, seen);
    let second = plan(&workflow, &observed);
    let to = opened(&["1.1.1.1/32", "1.1.1.2/32", "2606:2800::1/128"]);
    let ports = json!([{"protocol": "TCP", "port": 443}]);
    assert_eq!(written(&second.changes), Some(json!([{"to": to, "ports": ports}])));
    assert_eq!(kinds(&second.changes), [("replace", "NetworkPolicy")]);
    // What changes is the policy alone: nothing that its record or its status says.
    assert_eq!(first.given, second.given);
    let (before, after) = (said(&workflow, &observed, &first), said(&workflow, &observed, &second));
    assert_eq!(before, after);
    assert_eq!(json!(after.egress), json!({"backend": "ResolvedAddresses"}));
    let programmed = says(&workflow, &observed, ConditionType::Programmed);
    assert!(
        programmed.0 == "Applied" && programmed.1.contains("best effort"),
        "{programmed:?}"
    );
    assert_eq!(says(&workflow, &observed, ConditionType::DnsExfiltration).0, "Possible");
}

/// Whoever put them there.
#[test]
fn what_leads_inside_is_not_opened_although_it_is_remembered() {
    let workflow = llm();
    let inside: &[&str] = &[
        "172.16.0.5",
        "10.0.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "127.0.0.1",
        "::1",
        "::ffff:1.1.1.1",
        "64:ff9b::ac10:5",
        "fe80::1",
        "0.0.0.0",
        "0.0.0.0/0",
        "x",
    ];
    let observed = standing(
        &workflow,
        &place(),
        &[("api.llm.example", inside), ("b.llm.example", &["1.1.1.1"])],
    );
    let changes = plan(&workflow, &observed).changes;
    assert_eq!(written(&changes).unwrap()[0]["to"], json!(opened(&["1.1.1.1/32"])));
    // What becomes the cluster's goes as soon as a class knows it.
    let mut observed = standing(&workflow, &place(), &[("b.llm.example", &["1.1.1.1"])]);
    observed.class.as_mut().unwrap().status =
        serde_json::from_value(json!({"cluster": {"ranges": ["1.1.0.0/16"]}})).unwrap();
    let now = plan(&workflow, &observed);
    assert!(
        written(&now.changes).is_none_or(|rules| rules == json!([])),
        "{:?}",
        now.changes
    );
}

#[test]
fn an_object_of_another_owner_is_no_memory() {
    let workflow = llm();
    let mut observed = standing(&workflow, &place(), &[("b.llm.example", &["1.1.1.1"])]);
    the(&mut observed.children, Child::ResolvedNames)["metadata"]["annotations"]["ringfence.dev/owner-uid"] =
        json!("x");
    assert!(written(&plan(&workflow, &observed).changes).is_none_or(|rules| rules == json!([])));
}

#[rstest]
#[case::wildcard(vec![rule("llm", &["b.example"], 443), rule("blob", &["*.blob.example", "a.example"], 443)], "WildcardDomains", "rule blob")]
#[case::wildcard_alone(vec![rule("blob", &["*.blob.example"], 443)], "WildcardDomains", "Proxy")]
fn a_wildcard_is_told_and_its_rule_stays_closed(#[case] rules: Vec<Value>, #[case] reason: &str, #[case] told: &str) {
    let (workflow, mut observed) = (declaring(&rules), place());
    let made = plan(&workflow, &observed);
    let spec = made
        .changes
        .iter()
        .find(|change| change.child() == Child::ResolvedNames);
    assert_eq!(spec.is_some(), rules.len() > 1);
    if spec.is_some() {
        observed = standing(
            &workflow,
            &observed,
            &[("a.example", &["1.1.1.1"]), ("b.example", &["1.1.1.2"])],
        );
        let rules = written(&plan(&workflow, &observed).changes).unwrap();
        assert_eq!(rules.as_array().unwrap().len(), 1);
        assert_eq!(rules[0]["to"], json!(opened(&["1.1.1.2/32"])));
    } else {
        assert_eq!(written(&made.changes), None);
    }
    let (said, message) = says(&workflow, &observed, ConditionType::Programmed);
    assert!(said == reason && message.contains(told), "{said}: {message}");
    assert_eq!(says(&workflow, &observed, ConditionType::DnsExfiltration).0, "Possible");
}

#[rstest]
#[case::no_dns(json!({"dns": {"mode": "None"}, "clusterCIDRs": ["10.0.0.0/8"]}), "spec.cluster.dns")]
#[case::unreadable_ranges(json!({"clusterCIDRs": ["10.0.0.1/8"]}), "spec.cluster.clusterCIDRs")]
fn where_nothing_can_be_opened_nothing_is_and_what_is_remembered_stays(#[case] cluster: Value, #[case] told: &str) {
    let (workflow, mut observed) = (llm(), place());
    observed = standing(&workflow, &observed, &[("b.llm.example", &["1.1.1.1"])]);
    observed.class.as_mut().unwrap().spec.cluster = serde_json::from_value(cluster).unwrap();
    assert!(!resolves(observed.class.as_ref().unwrap()));
    let now = plan(&workflow, &observed);
    assert!(
        written(&now.changes).is_none_or(|rules| rules == json!([])),
        "{:?}",
        now.changes
    );
    assert!(now.changes.iter().all(|change| change.child() != Child::ResolvedNames));
    let (reason, message) = says(&workflow, &observed, ConditionType::Programmed);
    assert!(reason == "NoEgressBackend" && message.contains(told), "{message}");
}

#[test]
fn more_names_and_addresses_than_fit_are_told() {
    let domains =
        |from: usize| -> Vec<String> { (from..from + 25).map(|number| format!("a{number}.example")).collect() };
    let rule_of = |name: &str, from: usize| {
        let domains = domains(from);
        rule(name, &domains.iter().map(String::as_str).collect::<Vec<_>>(), 443)
    };
    let workflow = declaring(&[rule_of("a", 0), rule_of("b", 25), rule_of("c", 50), rule_of("again", 0)]);
    let (reason, message) = says(&workflow, &place(), ConditionType::Programmed);
    assert!(
        reason == "TooManyNames" && message.contains("rule c"),
        "{reason}: {message}"
    );
    let mut children = stored(&plan(&workflow, &place()).changes);
    let rules = the(&mut children, Child::ResolvedNames)["spec"]["rules"]
        .as_array()
        .unwrap();
    assert_eq!(
        rules
            .iter()
            .map(|rule| rule["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["a", "b", "again"]
    );

    let workflow = llm();
    let mut observed = standing(&workflow, &place(), &[("b.llm.example", &["1.1.1.1"])]);
    let names = the(&mut observed.children, Child::ResolvedNames);
    names["status"]["names"][0]["overflowed"] = json!("2026-11-27T20:00:00Z");
    let (reason, message) = says(&workflow, &observed, ConditionType::Programmed);
    assert!(
        reason == "TooManyAddresses" && message.contains("b.llm.example") && message.contains("Proxy"),
        "{message}"
    );
    let names = the(&mut observed.children, Child::ResolvedNames);
    names["status"]["names"][0]["ipv4"] = json!("BeyondBounds");
    assert_eq!(says(&workflow, &observed, ConditionType::Programmed).0, "TooManyNames");

    // Each of 64 rules names the same: what does not fit into one object stays closed, rule by rule.
    let many: Vec<_> = (0..64)
        .map(|number| rule(&format!("r{number}"), &["a.example", "b.example"], number + 1))
        .collect();
    let workflow = declaring(&many);
    let address = |number: usize| format!("1.2.{}.{}", number >> 8, number & 255);
    let (a, b): (Vec<_>, Vec<_>) = ((0..100).map(address).collect(), (100..200).map(address).collect());
    let texts = |all: &[String]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (texts(&a), texts(&b));
    let (a, b): (Vec<&str>, Vec<&str>) = (
        a.iter().map(String::as_str).collect(),
        b.iter().map(String::as_str).collect(),
    );
    let observed = standing(&workflow, &place(), &[("a.example", &a), ("b.example", &b)]);
    let rules = written(&plan(&workflow, &observed).changes).unwrap();
    assert_eq!(rules.as_array().unwrap().len(), MAX_BLOCKS / 200);
    let (reason, message) = says(&workflow, &observed, ConditionType::Programmed);
    assert!(
        reason == "TooManyAddresses" && message.contains("r40"),
        "{reason}: {message}"
    );
}

/// A domain that goes is closed with the next plan, whatever is remembered; and the backend's objects go with the last one.
#[test]
fn what_is_taken_back_is_closed_at_once() {
    let (workflow, class) = (llm(), place());
    let mut observed = standing(
        &workflow,
        &class,
        &[("api.llm.example", &["1.1.1.1"]), ("b.llm.example", &["1.1.1.2"])],
    );
    observed.children = stored_over(&observed, &plan(&workflow, &observed));
    let less = declaring(&[rule("llm", &["b.llm.example"], 443)]);
    let changes = plan(&less, &observed).changes;
    assert_eq!(written(&changes).unwrap()[0]["to"], json!(opened(&["1.1.1.2/32"])));
    let none = plan(&declaring(&[]), &observed);
    let gone = none
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Delete { .. }));
    assert_eq!(
        gone.map(Change::child).collect::<Vec<_>>(),
        [Child::ResolvedNames, Child::NetworkPolicy]
    );
    // Another backend takes it away as well.
    observed.class.as_mut().unwrap().spec.egress = None;
    let proxied = plan(&workflow, &observed);
    assert_eq!(
        kinds(&proxied.changes),
        [("delete", "ResolvedNames"), ("replace", "NetworkPolicy")]
    );
}

/// The children after a plan's replacements.
fn stored_over(observed: &Observed, plan: &Plan) -> Vec<(Child, Value)> {
    let mut children = observed.children.clone();
    for change in &plan.changes {
        if let Change::Replace(child, object) = change {
            let is_it = |(kind, seen): &&mut (Child, Value)| kind == child && name_of(seen) == name_of(object);
            let (_, seen) = children.iter_mut().find(is_it).unwrap();
            let status = seen["status"].clone();
            *seen = object.clone();
            if !status.is_null() {
                seen["status"] = status;
            }
        }
    }
    children
}

/// While nobody reviewed what is declared, what was given is kept up to date, and nothing new comes.
#[test]
fn what_nobody_reviewed_opens_nothing_new() {
    let (mut workflow, class) = (llm(), place());
    let mut observed = standing(
        &workflow,
        &class,
        &[("b.llm.example", &["1.1.1.1"]), ("evil.example", &["6.6.6.6"])],
    );
    let stood = plan(&workflow, &observed);
    workflow.status = Some(said(&workflow, &observed, &stood));
    observed.children = stored_over(&observed, &stood);
    let mut edited = declaring(&[
        rule("llm", &["api.llm.example", "b.llm.example"], 443),
        rule("evil", &["evil.example"], 443),
    ]);
    edited.status.clone_from(&workflow.status);
    // Its review is not on record, and the registration is younger than it.
    edited.metadata.generation = Some(4);
    observed.registration.as_mut().unwrap().created = "2026-03-01T00:00:00Z".parse().unwrap();
    edited.status.as_mut().unwrap().reviewed = None;
    let held = plan(&edited, &observed);
    assert!(held.held, "{:?}", held.acceptance);
    assert_eq!(held.changes, []);
    // Whoever edited the one could edit the other.
    let evil = json!({"name": "evil", "domains": ["evil.example"], "ports": [{"port": 443}]});
    let rules = &mut the(&mut observed.children, Child::ResolvedNames)["spec"]["rules"];
    rules.as_array_mut().unwrap().push(evil);
    let held = plan(&edited, &observed);
    assert_eq!(kinds(&held.changes), [("replace", "ResolvedNames")]);
    assert_eq!(written(&held.changes), None);
    // Where nothing is left of what was given, the object goes: there is none without a name.
    let mut other = declaring(&[rule("evil", &["evil.example"], 443)]);
    (other.status, other.metadata.generation) = (edited.status.clone(), Some(4));
    let gone = plan(&other, &observed).changes;
    assert_eq!(kinds(&gone), [("delete", "ResolvedNames"), ("delete", "NetworkPolicy")]);
    // Addresses of what was given are kept up to date.
    remember(
        &mut observed,
        &[("b.llm.example", &["1.1.1.9"]), ("evil.example", &["6.6.6.6"])],
    );
    let rules = written(&plan(&edited, &observed).changes).unwrap();
    assert_eq!(rules[0]["to"], json!(opened(&["1.1.1.9/32"])));
    assert_eq!(rules.as_array().unwrap().len(), 1);
}
