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

/// Rules may name one thing many times, and there is an object for each workflow of the cluster.
#[test]
fn of_an_object_its_names_are_kept_each_once_as_they_count() {
    let mut names = stored(&["b.example", "a.example", "B.example", "a.example", "*.example", "x y"]);
    names.spec.rules = vec![names.spec.rules[0].clone(); 64];
    let counted = hosts(&names);
    keep_names(&mut names);
    let kept: Vec<_> = names.spec.rules.iter().flat_map(|rule| &rule.domains).collect();
    assert_eq!(kept, ["a.example", "b.example"]);
    assert_eq!(hosts(&names), counted);
    let many: Vec<_> = (0..1000).map(|name| format!("n{name}.example")).collect();
    let mut names = stored(&many.iter().map(String::as_str).collect::<Vec<_>>());
    keep_names(&mut names);
    assert_eq!(names.spec.rules[0].domains.len(), MAX_NAMES);
}

#[test]
fn older_ones_take_the_room_of_their_namespace_and_of_all() {
    let domains: Vec<_> = (0..MAX_NAMES).map(|name| format!("n{name}.example")).collect();
    let domains: Vec<_> = domains.iter().map(String::as_str).collect();
    let made = |namespace: &str, hour: usize, uid: usize| {
        let mut names = stored(&domains);
        names.metadata.namespace = Some(namespace.to_owned());
        names.metadata.uid = Some(format!("{uid:04}"));
        names.metadata.creation_timestamp =
            serde_json::from_value(json!(format!("2026-11-27T{hour:02}:00:00Z"))).unwrap();
        keep_names(&mut names);
        names
    };
    let (known, mut writer) = reflector::store();
    let mut add = |names: ResolvedNames| writer.apply_watcher_event(&watcher::Event::Apply(names));
    let mut named = 0;
    let mut of = |namespace: &str, hour: usize, count: usize| {
        for _ in 0..count {
            named += 1;
            let mut names = made(namespace, hour, named);
            names.metadata.name = Some(format!("n{named}"));
            add(names);
        }
    };
    let looked = |namespace: &str, hour: usize, uid: usize| room(&made(namespace, hour, uid), &known);
    assert_eq!(looked("ai", 9, 5000), OF_NAMESPACE);
    of("ai", 10, 3);
    assert_eq!(looked("ai", 9, 5000), OF_NAMESPACE, "these are younger");
    assert_eq!(looked("ai", 11, 5000), OF_NAMESPACE - 3 * MAX_NAMES);
    assert_eq!(looked("ai", 10, 2), OF_NAMESPACE - MAX_NAMES, "of one time, by UID");
    assert_eq!(looked("shop", 11, 5000), OF_NAMESPACE);
    of("ai", 10, 9);
    assert_eq!(looked("ai", 11, 5000), 0);
    of("other", 10, 26);
    assert_eq!(looked("shop", 11, 5000), IN_ALL - 38 * MAX_NAMES);
    of("other", 10, 100);
    assert_eq!(looked("shop", 11, 5000), 0);
    assert_eq!(looked("shop", 9, 5000), OF_NAMESPACE);
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
