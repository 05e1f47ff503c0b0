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
    assert_eq!(selector(&labels), "k8s-app=kube-dns,a in (x,y),b notin (z),c,!d");
}

fn stored(domains: &[&str]) -> ResolvedNames {
    let rules = json!([{"name": "r", "domains": domains, "ports": [{"port": 443}]}]);
    let object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "ResolvedNames",
        "metadata": {"name": "n", "namespace": "ai", "uid": "1", "generation": 2},
        "spec": {"rules": rules},
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_was_not_looked_up_says_why_and_what_is_declared_no_more_is_forgotten() {
    let mut names = stored(&["a.example", "b.example", "c.example"]);
    let seen = json!([{"address": "1.1.1.1", "ttlSeconds": 60, "lastSeen": "2026-11-27T20:00:00Z"}]);
    let before = json!({"names": [
        {"name": "c.example", "ipv4": "Resolved", "ipv6": "NoAddress", "addresses": seen},
        {"name": "gone.example", "ipv4": "Resolved", "ipv6": "NoAddress", "addresses": seen},
    ]});
    names.status = serde_json::from_value(before).unwrap();
    let all = hosts(&names);
    let looked_up: BTreeSet<_> = all.iter().take(2).cloned().collect();
    let a = Host::named("a.example").unwrap();
    let failed = Replies {
        four: vec![None, Some(crate::egress::Reply::Failed(2))],
        six: vec![None, None],
    };
    let replies = HashMap::from([(a, failed)]);
    let now = "2026-11-27T23:00:00Z".parse().unwrap();
    let nothing = HashMap::new();
    let status = remembered(&names, (&all, &looked_up), &replies, &nothing, &[], now);
    let said: Vec<_> = status
        .names
        .iter()
        .map(|name| (name.name.as_str(), name.ipv4, name.addresses.len()))
        .collect();
    let expected = [
        ("a.example", LookUp::Failed, 0),
        ("b.example", LookUp::Pending, 0),
        ("c.example", LookUp::BeyondBounds, 1),
    ];
    assert_eq!(said, expected);
    assert_eq!(status.observed_generation, Some(2));
    let condition = &status.conditions[0];
    assert_eq!(
        (condition.status, condition.reason.as_str()),
        (ConditionStatus::False, "NotResolved")
    );
    // What could not be written yet is not lost when another name is looked up.
    let before = ResolvedNames {
        status: Some(status.clone()),
        ..names.clone()
    };
    let b = ResolvedName {
        ipv4: LookUp::NoName,
        ..status.names[1].clone()
    };
    let said = HashMap::from([("b.example".to_owned(), of_name(&b))]);
    let later = remembered(&before, (&all, &looked_up), &replies, &said, &[], now);
    assert_eq!(later.names[1].ipv4, LookUp::NoName);
    for told in [
        "a.example could not",
        "b.example has not been",
        "c.example is not looked up",
        "stays open",
    ] {
        assert!(condition.message.contains(told), "{}", condition.message);
    }
}
