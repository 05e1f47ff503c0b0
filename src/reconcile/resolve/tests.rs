use kube::runtime::watcher;
use serde_json::json;

use super::*;

fn stored(domains: &[&str]) -> ResolvedNames {
    let rules = json!([{"name": "r", "domains": domains, "ports": [{"port": 443}]}]);
    let object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "ResolvedNames",
        "metadata": {"name": "n", "namespace": "ai", "uid": "1", "generation": 2},
        "spec": {"rules": rules},
    });
    serde_json::from_value(object).unwrap()
}

/// Whoever makes and withdraws objects has no more of them remembered than stand, and one.
#[test]
fn what_is_gone_is_forgotten() {
    let (known, mut writer) = reflector::store();
    let resolving = Resolving::new(Vec::new());
    let remembered = || resolving.turns.lock().unwrap().len();
    let mut before = None;
    for uid in 0..100 {
        let mut names = stored(&["a.example"]);
        names.metadata.uid = Some(uid.to_string());
        if let Some(before) = before.replace(names.clone()) {
            writer.apply_watcher_event(&watcher::Event::Delete(before));
        }
        writer.apply_watcher_event(&watcher::Event::Apply(names));
        resolving.forget(&known);
        resolving.turns.lock().unwrap().insert(uid.to_string(), Turns::new());
        assert!(remembered() <= 2, "{}", remembered());
    }
    resolving.forget(&known);
    assert_eq!(resolving.turns.lock().unwrap().keys().collect::<Vec<_>>(), ["99"]);
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
