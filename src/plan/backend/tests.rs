use rstest::rstest;
use serde_json::{Value, json};

use super::PluginPolicies::{NotAllowed, Unserved, Writable};
use super::*;
use crate::{
    api::{AIWorkflowStatus, ConditionStatus, ConditionType, find},
    plan::{
        Change, Child, Outcome, Plan, name_of, owned_name, plan, status,
        tests::{kinds, observed, stored, workflow},
    },
};

/// A class that opens any domain and says this of backends, an egress proxy or none, and Cilium or none.
fn place(backend: Option<&str>, proxy: bool, cilium: PluginPolicies) -> Observed {
    let mut observed = observed();
    let spec = &mut observed.class.as_mut().unwrap().spec;
    spec.network.as_mut().unwrap().domains = vec!["*".to_owned()];
    spec.egress = backend.map(|backend| serde_json::from_value(json!({"backend": backend})).unwrap());
    observed.egress_proxy = proxy.then(|| "ringfence-system".to_owned());
    observed.cilium = cilium;
    observed
}

/// A workflow that declares these domains, and by what its status says that they were reached.
fn declaring(domains: &[&str], said: Option<&str>) -> AIWorkflow {
    let rule = |domain: &&str| json!({"name": domain.replace('.', "-"), "to": {"domains": [domain]}, "ports": [{"port": 443}]});
    let egress: Vec<_> = domains.iter().map(rule).collect();
    let mut declared = workflow(json!({"network": {"egress": egress}}));
    declared.status = said.map(|backend| serde_json::from_value(json!({"egress": {"backend": backend}})).unwrap());
    declared
}

fn said(workflow: &AIWorkflow, observed: &Observed, plan: &Plan) -> AIWorkflowStatus {
    let now = "2026-11-27T20:00:00Z".parse().unwrap();
    status(workflow, observed, plan, &Outcome::Applied(None), now)
}

fn with_children(children: &[(Child, Value)], observed: Observed) -> Observed {
    Observed {
        children: children.to_vec(),
        ..observed
    }
}

/// Rules of the workflow's allow policy that open port 53, as it is made or stands.
fn opens_dns(plan: &Plan, observed: &Observed) -> bool {
    let is_allow = |object: &&Value| name_of(object) == owned_name("ai", "triage", "allow");
    let written = plan.changes.iter().find_map(|change| match change {
        Change::Create(_, object) | Change::Replace(_, object) => Some(object).filter(is_allow),
        Change::Delete { .. } => None,
    });
    let stands = || observed.children.iter().map(|(_, object)| object).find(is_allow);
    let allow = written.or_else(stands).expect("an allow policy");
    let rules = allow["spec"]["egress"].as_array().unwrap();
    rules.iter().any(|rule| rule["ports"][0]["port"] == 53)
}

#[rstest]
#[case::both(None, true, Writable, None, Some("Proxy"), None)]
#[case::auto_said(Some("Auto"), true, Writable, Some("Cilium"), Some("Proxy"), None)]
#[case::cilium_alone(None, false, Writable, None, Some("Cilium"), None)]
#[case::nothing(None, false, Unserved, None, None, Some("NoEgressProxy egress.enabled"))]
#[case::cilium_of_somebody_else(None, false, NotAllowed, None, None, Some("NoEgressProxy egress.cilium.enabled"))]
#[case::not_served_for_a_moment(
    None,
    false,
    Unserved,
    Some("Cilium"),
    Some("Cilium"),
    Some("NoEgressBackend does not serve")
)]
#[case::not_allowed_any_more(
    None,
    false,
    NotAllowed,
    Some("Cilium"),
    None,
    Some("NoEgressProxy egress.cilium.enabled")
)]
#[case::proxy_that_is_gone(None, false, Unserved, Some("Proxy"), None, Some("NoEgressProxy egress.enabled"))]
#[case::proxy_named(Some("Proxy"), true, Writable, None, Some("Proxy"), None)]
#[case::proxy_named_and_not_there(
    Some("Proxy"),
    false,
    Writable,
    None,
    Some("Proxy"),
    Some("NoEgressProxy egress.enabled")
)]
#[case::cilium_named(Some("Cilium"), true, Writable, None, Some("Cilium"), None)]
#[case::cilium_named_and_not_there(
    Some("Cilium"),
    true,
    Unserved,
    None,
    Some("Cilium"),
    Some("NoEgressBackend does not serve")
)]
#[case::cilium_named_and_not_allowed(
    Some("Cilium"),
    true,
    NotAllowed,
    None,
    Some("Cilium"),
    Some("NoEgressBackend egress.cilium.enabled")
)]
fn the_class_and_the_cluster_choose_and_what_is_not_there_is_said(
    #[case] named: Option<&str>,
    #[case] proxy: bool,
    #[case] cilium: PluginPolicies,
    #[case] before: Option<&str>,
    #[case] expected: Option<&str>,
    #[case] lacks: Option<&str>,
) {
    let observed = place(named, proxy, cilium);
    let declared = declaring(&["a.example.com"], before);
    let plan = plan(&declared, &observed);
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let said = said(&declared, &observed, &plan);
    let backend = said.egress.map(|egress| format!("{:?}", egress.backend));
    assert_eq!(backend.as_deref(), expected);
    let programmed = find(&said.conditions, ConditionType::Programmed).unwrap();
    let told = (
        programmed.status,
        format!("{} {}", programmed.reason, programmed.message),
    );
    match lacks {
        None => assert_eq!(told.0, ConditionStatus::True, "{}", told.1),
        Some(lacks) => {
            let (reason, words) = lacks.split_once(' ').unwrap();
            assert_eq!((told.0, programmed.reason.as_str()), (ConditionStatus::False, reason));
            assert!(told.1.contains(words), "{}", told.1);
        }
    }
    // What opens the way is there where it can be and nowhere else, and one of them at the most.
    let ways: Vec<_> = stored(&plan.changes)
        .into_iter()
        .filter(|(_, object)| name_of(object) == owned_name("ai", "triage", "domains"))
        .map(|(child, _)| child)
        .collect();
    let way = match (lacks, expected) {
        (None, Some("Proxy")) => vec![Child::NetworkPolicy],
        (None, _) => vec![Child::CiliumNetworkPolicy],
        (Some(_), _) => Vec::new(),
    };
    assert_eq!(ways, way);
    // And the DNS is opened for every name where it is not Cilium's to open.
    let is_cilium = expected == Some("Cilium");
    assert_eq!(opens_dns(&plan, &observed), !is_cilium);
    let exfiltration = find(&said.conditions, ConditionType::DnsExfiltration).unwrap();
    assert_eq!(exfiltration.reason, if is_cilium { "Closed" } else { "Possible" });
}

#[rstest]
#[case::named("Cilium", &["a.example.com"], None, &[Child::CiliumNetworkPolicy])]
#[case::nothing_declared("Cilium", &[], None, &[])]
#[case::of_before("Proxy", &[], Some("Cilium"), &[Child::CiliumNetworkPolicy])]
#[case::of_the_cluster("ClusterNetworkPolicy", &["a.example.com"], None, &[Child::ClusterNetworkPolicy])]
#[case::a_memory("ResolvedAddresses", &[], None, &[Child::ResolvedNames])]
#[case::changed("ResolvedAddresses", &["a.example.com"], Some("ClusterNetworkPolicy"), &[Child::ClusterNetworkPolicy, Child::ResolvedNames])]
#[case::for_the_operator_to_find_out("Auto", &["a.example.com"], None, &[])]
fn what_must_be_read_is_what_the_class_names_and_what_stood(
    #[case] named: &str,
    #[case] domains: &[&str],
    #[case] before: Option<&str>,
    #[case] expected: &[Child],
) {
    let declared = declaring(domains, before);
    let class = place(Some(named), true, Writable).class;
    let concerned = |(backend, _): &(Backend, Child)| is_concerned(&declared, class.as_ref(), *backend);
    let kinds: Vec<_> = KINDS_BESIDE
        .into_iter()
        .filter(concerned)
        .map(|(_, child)| child)
        .collect();
    assert_eq!(kinds, expected);
}

#[test]
fn cilium_without_a_dns_learns_no_address() {
    for (named, reason) in [(Some("Cilium"), "NoEgressBackend"), (None, "NoEgressProxy")] {
        let mut observed = place(named, false, Writable);
        let none = json!({"dns": {"mode": "None"}});
        observed.class.as_mut().unwrap().spec.cluster = serde_json::from_value(none).unwrap();
        let declared = declaring(&["a.example.com"], Some("Cilium"));
        let plan = plan(&declared, &observed);
        let said = said(&declared, &observed, &plan);
        let programmed = find(&said.conditions, ConditionType::Programmed).unwrap();
        assert_eq!(programmed.reason, reason, "{}", programmed.message);
        assert!(!kinds(&plan.changes).contains(&("create", "CiliumNetworkPolicy")));
        let exfiltration = find(&said.conditions, ConditionType::DnsExfiltration).unwrap();
        assert_eq!(exfiltration.reason, "Closed");
    }
}

/// Nothing of the old way is left, and the DNS opens after what had closed it is gone.
#[test]
fn one_way_goes_before_the_other_comes() {
    let declared = declaring(&["a.example.com"], Some("Cilium"));
    let by_cilium = stored(&plan(&declared, &place(Some("Cilium"), true, Writable)).changes);
    let to_proxy = with_children(&by_cilium, place(Some("Proxy"), true, Writable));
    let changes = plan(&declared, &to_proxy).changes;
    assert_eq!(
        kinds(&changes),
        [
            ("delete", "CiliumNetworkPolicy"),
            ("replace", "NetworkPolicy"),
            ("create", "NetworkPolicy")
        ]
    );
    let by_proxy = stored(&plan(&declared, &place(Some("Proxy"), true, Writable)).changes);
    let to_cilium = with_children(&by_proxy, place(Some("Cilium"), true, Writable));
    let changes = plan(&declared, &to_cilium).changes;
    assert_eq!(
        kinds(&changes),
        [
            ("delete", "NetworkPolicy"),
            ("replace", "NetworkPolicy"),
            ("create", "CiliumNetworkPolicy")
        ]
    );
    // With the last domain it goes too, by whatever it was reached.
    let none = declaring(&[], Some("Cilium"));
    let observed = with_children(&by_cilium, place(None, false, Writable));
    let changes = plan(&none, &observed);
    assert_eq!(
        kinds(&changes.changes),
        [("delete", "CiliumNetworkPolicy"), ("replace", "NetworkPolicy")]
    );
    assert_eq!(said(&none, &observed, &changes).egress, None);
}

/// Cilium looks at no name by itself, and opens whatever a wildcard stands for. A class that names it refuses that; where it was chosen by what is
/// there, nobody has.
#[test]
fn no_wildcard_opens_the_clusters_names_where_cilium_is_what_is_there() {
    let with_names = |mut observed: Observed| {
        let status = observed.class.as_mut().unwrap().status.get_or_insert_default();
        status.cluster_domain = Some("k8s.corp.example".to_owned());
        status.cluster_domains = vec!["sets.partner.example".to_owned()];
        observed
    };
    let place = |proxy| with_names(place(None, proxy, Writable));
    let told = |plan: &Plan, declared: &AIWorkflow, observed: &Observed| {
        let said = said(declared, observed, plan);
        assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
        let programmed = find(&said.conditions, ConditionType::Programmed).unwrap().clone();
        let exfiltration = find(&said.conditions, ConditionType::DnsExfiltration).unwrap().clone();
        (programmed, exfiltration)
    };
    let names_it = |children: &[(Child, Value)]| {
        let policies = children
            .iter()
            .filter(|(child, _)| *child == Child::CiliumNetworkPolicy);
        policies.map(|(_, policy)| policy.to_string()).collect::<Vec<_>>()
    };
    for (above, of_cluster) in [
        ("*.corp.example", "k8s.corp.example"),
        ("*.partner.example", "sets.partner.example"),
    ] {
        let declared = declaring(&[above, "*.beside.example"], None);
        let observed = place(false);
        let changes = plan(&declared, &observed);
        let [policy] = names_it(&stored(&changes.changes)).try_into().expect("one policy");
        assert!(policy.contains("**.beside.example"), "{policy}");
        let opens = format!("\"**{}\"", &above[1..]);
        assert!(!policy.contains(&opens), "neither opened nor asked for: {policy}");
        let (programmed, exfiltration) = told(&changes, &declared, &observed);
        assert_eq!(
            (programmed.status, programmed.reason.as_str()),
            (ConditionStatus::False, "WildcardDomains")
        );
        for words in [
            of_cluster,
            "name the hosts",
            &format!("rule {};", above.replace('.', "-")),
        ] {
            assert!(programmed.message.contains(words), "{words}: {}", programmed.message);
        }
        assert!(
            exfiltration.message.contains("Cilium cuts off all other questions"),
            "{}",
            exfiltration.message
        );

        // The proxy tells the cluster's names apart.
        let observed = place(true);
        let changes = plan(&declared, &observed);
        let (programmed, _) = told(&changes, &declared, &observed);
        assert_eq!(programmed.status, ConditionStatus::True, "{}", programmed.message);

        // What was opened while nobody knew goes; and with the last rule its policy, and the DNS opens as without domains.
        let stood = stored(&plan(&declared, &self::place(None, false, Writable)).changes);
        assert!(names_it(&stood)[0].contains(&opens));
        let declared = declaring(&[above, "*.beside.example"], Some("Cilium"));
        let observed = with_children(&stood, place(false));
        let changes = plan(&declared, &observed);
        let replaced = changes.changes.iter().find_map(|change| match change {
            Change::Replace(Child::CiliumNetworkPolicy, policy) => Some(policy.to_string()),
            _ => None,
        });
        assert!(!replaced.expect("a narrower policy").contains(&opens));
        let alone = declaring(&[above], Some("Cilium"));
        let changes = plan(&alone, &observed);
        assert!(kinds(&changes.changes).contains(&("delete", "CiliumNetworkPolicy")));
        assert!(opens_dns(&changes, &observed));
        let (programmed, exfiltration) = told(&changes, &alone, &observed);
        assert_eq!(
            (programmed.reason.as_str(), exfiltration.reason.as_str()),
            ("WildcardDomains", "Possible")
        );
    }
}

/// The chart does not let Ringfence write them any more: what it wrote still opens a way, so it is to go, and if it cannot, that is said.
#[test]
fn what_stays_behind_is_still_to_go() {
    let declared = declaring(&["a.example.com"], Some("Cilium"));
    let by_cilium = stored(&plan(&declared, &place(None, false, Writable)).changes);
    let observed = with_children(&by_cilium, place(None, false, NotAllowed));
    let plan = plan(&declared, &observed);
    assert!(kinds(&plan.changes).contains(&("delete", "CiliumNetworkPolicy")));
    let now = "2026-11-27T20:00:00Z".parse().unwrap();
    let failed = Outcome::Failed(Reason::Forbidden, "cannot delete it".to_owned());
    let said = status(&declared, &observed, &plan, &failed, now);
    assert_eq!(
        said.egress.map(|egress| egress.backend),
        Some(Backend::Cilium),
        "it is looked for again"
    );
    assert_eq!(
        find(&said.conditions, ConditionType::Ready).unwrap().reason,
        "Forbidden"
    );
}

/// Then what stands and what is declared say the same, and the record does not.
#[test]
fn what_was_edited_in_cilium_as_the_declaration_was_is_not_given_either() {
    let two = declaring(&["a.example.com", "b.example.com"], None);
    let made = plan(&two, &place(None, false, Writable));
    let given = said(&two, &place(None, false, Writable), &made).given;
    let mut edited = declaring(&["a.example.com", "evil.example"], Some("Cilium"));
    let alike = stored(&plan(&edited, &place(None, false, Writable)).changes);
    let mut observed = with_children(&alike, place(None, false, Writable));
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    edited.metadata.generation = Some(4);
    let status = edited.status.get_or_insert_default();
    status.given = given;
    status.reviewed = serde_json::from_value(json!({"generation": 3, "registrationUID": "registration-uid"})).unwrap();
    let held = plan(&edited, &observed);
    assert!(held.held);
    let [Change::Replace(Child::CiliumNetworkPolicy, policy)] = held.changes.as_slice() else {
        panic!("{:?}", held.changes)
    };
    let text = policy["spec"].to_string();
    assert!(text.contains("a.example.com") && !text.contains("evil"), "{text}");
    // Without a record nothing of it was given.
    edited.status.as_mut().unwrap().given = None;
    let text = format!("{:?}", plan(&edited, &observed).changes);
    assert!(!text.contains("a.example.com") && !text.contains("evil"), "{text}");
}

/// The class's rule for the DNS is the class's word where it is the class that opens it, and not where Cilium takes its place.
#[test]
fn the_dns_is_not_opened_beside_ciliums_rule_by_who_declares_it_unreviewed() {
    let before = declaring(&["a.example.com"], None);
    let by_cilium = stored(&plan(&before, &place(None, false, Writable)).changes);
    let mut observed = with_children(&by_cilium, place(None, false, Writable));
    let mut edited = declaring(&["a.example.com"], Some("Cilium"));
    let dns = dns::rule(observed.class.as_ref().unwrap(), None).unwrap();
    let pods = &dns["to"][0];
    let namespace = &pods["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    let peer = json!({"pods": {"namespace": namespace, "selector": pods["podSelector"]}});
    let declared = json!({"name": "dns", "to": peer, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]});
    let network = edited.spec.network.get_or_insert_default();
    network.egress.push(serde_json::from_value(declared).unwrap());
    let class = observed.class.as_mut().unwrap();
    let addresses = json!({"namespace": namespace, "selector": pods["podSelector"]});
    class.spec.cluster.get_or_insert_default().dns = serde_json::from_value(addresses).unwrap();
    let opened = json!({"namespaces": [namespace], "domains": ["*"]});
    class.spec.network = Some(serde_json::from_value(opened).unwrap());
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    edited.metadata.generation = Some(4);
    edited.status.get_or_insert_default().reviewed =
        serde_json::from_value(json!({"generation": 3, "registrationUID": "registration-uid"})).unwrap();
    let held = plan(&edited, &observed);
    assert!(held.held && held.takes_dns);
    // All that keeps it closed is that nobody reviewed it.
    let mut reviewed = edited.clone();
    reviewed.metadata.generation = Some(3);
    assert!(opens_dns(&plan(&reviewed, &observed), &observed));
    assert!(!opens_dns(&held, &observed), "{:?}", held.changes);
}

/// Somebody edits the declaration while nobody reviews: neither do domains open the DNS by going, nor close it by coming.
#[test]
fn what_nobody_reviewed_neither_opens_the_dns_nor_closes_it() {
    let held = |domains: &[&str], before: Option<&str>, children: &[(Child, Value)]| {
        let mut observed = with_children(children, place(None, false, Writable));
        let given = [&["a.example.com", "b.example.com"][..], &[]];
        let given = given.map(|domains| plan(&declaring(domains, None), &observed).given);
        observed.registration.as_mut().unwrap().uid = "another".to_owned();
        let mut edited = declaring(domains, before);
        edited.metadata.generation = Some(4);
        let status = edited.status.get_or_insert_default();
        status.given = Some(given.concat());
        status.reviewed =
            serde_json::from_value(json!({"generation": 3, "registrationUID": "registration-uid"})).unwrap();
        let plan = plan(&edited, &observed);
        assert!(plan.held);
        assert_eq!(said(&edited, &observed, &plan).egress, edited.status.unwrap().egress);
        (opens_dns(&plan, &observed), plan)
    };
    let two = declaring(&["a.example.com", "b.example.com"], None);
    let by_cilium = stored(&plan(&two, &place(None, false, Writable)).changes);
    let (opens, unchanged) = held(&["a.example.com", "b.example.com"], Some("Cilium"), &by_cilium);
    assert!(!opens && unchanged.changes.is_empty(), "{:?}", unchanged.changes);
    // One goes, and takes its name from what may be asked; one comes, and opens nothing.
    let (opens, edited) = held(&["a.example.com", "evil.example"], Some("Cilium"), &by_cilium);
    let [Change::Replace(Child::CiliumNetworkPolicy, policy)] = edited.changes.as_slice() else {
        panic!("{:?}", edited.changes)
    };
    let text = policy["spec"].to_string();
    assert!(!opens && text.contains("a.example.com"), "{text}");
    assert!(!text.contains("b.example.com") && !text.contains("evil"), "{text}");
    let (opens, all_gone) = held(&[], Some("Cilium"), &by_cilium);
    assert_eq!(kinds(&all_gone.changes), [("delete", "CiliumNetworkPolicy")]);
    assert!(!opens);
    let without = stored(&plan(&declaring(&[], None), &place(None, false, Writable)).changes);
    let (opens, added) = held(&["a.example.com"], None, &without);
    assert!(opens && added.changes.is_empty(), "{:?}", added.changes);
}
