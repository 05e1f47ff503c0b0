//! Each field of the standard, one at a time: every value, nothing, null, and every object on the way to it missing, null and
//! empty; in every kind of container, in pods that differ in what they have beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::compared::{As, CHANGES, Sample, VERSIONS, compare};
use crate::fields::{self, Field, Of};
use crate::pods::{self, CONTAINERS};

const OTHER_TYPES: (&str, &str) = (
    "restrictedVolumes",
    "a volume of two types, or of one that is not known",
);

/// Every place of a field: its path, as keys and indices from the pod on.
pub fn places(field: &Field) -> Vec<Vec<String>> {
    let own = field.path.iter().map(|name| (*name).to_owned());
    match field.of {
        Of::Pod => vec![own.collect()],
        Of::Container => {
            let container = |(list, at): (&str, usize)| vec!["spec".to_owned(), list.to_owned(), at.to_string()];
            CONTAINERS
                .map(|place| container(place).into_iter().chain(own.clone()).collect())
                .into()
        }
    }
}

/// The pod with another value there; objects that are missing on the way are made. `None` takes the field away.
pub fn with(pod: &Value, path: &[String], value: Option<Value>) -> Value {
    fn set(at: &mut Value, path: &[String], value: Option<Value>) {
        let Some((name, rest)) = path.split_first() else {
            *at = value.unwrap_or_default();
            return;
        };
        let next = match at {
            Value::Array(items) => items
                .get_mut(name.parse::<usize>().expect("an index"))
                .expect("it is there"),
            Value::Object(fields) if rest.is_empty() && value.is_none() => {
                fields.remove(name);
                return;
            }
            Value::Object(fields) => fields.entry(name).or_insert(Value::Null),
            other => {
                *other = Value::Object(Map::new());
                return set(other, path, value);
            }
        };
        set(next, rest, value);
    }
    let mut changed = pod.clone();
    set(&mut changed, path, value);
    changed
}

/// Every sample of a field in a pod.
fn of_field(name: &str, pod: &Value, field: &Field) -> Vec<Sample> {
    let mut samples = Vec::new();
    for path in places(field) {
        let mut add = |path: &[String], value: Option<Value>| {
            let shown = value.as_ref().map_or_else(|| "absent".to_owned(), Value::to_string);
            samples.push(Sample {
                what: format!("{name}: {} {shown}", path.join(".")),
                pod: with(pod, path, value),
                stricter: None,
            });
        };
        for value in &field.values {
            add(&path, Some(value.clone()));
        }
        // What leads there, but not the containers themselves.
        let fixed = path.len() - field.path.len();
        for end in fixed + 1..=path.len() {
            let on_the_way = &path[..end];
            if on_the_way == ["spec"] {
                continue;
            }
            add(on_the_way, None);
            add(on_the_way, Some(Value::Null));
            if end < path.len() {
                add(on_the_way, Some(json!({})));
            }
        }
        // An API server knows fields by their names to the letter.
        let mut other = path.clone();
        let last = other.last_mut().expect("a name");
        *last = last[..1].to_uppercase() + &last[1..];
        for value in field.values.iter().take(2) {
            add(&other, Some(value.clone()));
        }
    }
    samples
}

fn with_spec(pod: &Value, fields: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().expect("an object");
    spec.extend(fields.as_object().expect("an object").clone());
    pod
}

/// Every sample of every field, each pod once.
fn all(name: &str, pod: &Value) -> Vec<Sample> {
    let mut samples: Vec<_> = fields::all()
        .iter()
        .flat_map(|field| of_field(name, pod, field))
        .collect();
    let mut seen = BTreeSet::new();
    samples.retain(|sample| seen.insert(sample.pod.to_string()));
    samples
}

fn hold(samples: &[Sample], at: As, versions: &[&str], at_least: usize) {
    let tally = compare(samples, at, versions);
    println!(
        "{} samples, {} verdicts compared, {} refuse",
        samples.len(),
        tally.compared,
        tally.refused
    );
    tally.none_differ();
    assert!(samples.len() >= at_least, "only {} samples", samples.len());
    assert!(tally.refused * 50 > tally.compared, "only {} refuse", tally.refused);
}

#[test]
fn in_a_restricted_pod() {
    hold(&all("good", &pods::good()), As::Pod, &VERSIONS, 900);
}

#[test]
fn in_a_pod_whose_containers_say_it_all() {
    hold(&all("by containers", &pods::by_containers()), As::Pod, &CHANGES, 900);
}

#[test]
fn in_a_pod_that_asks_for_nothing() {
    hold(&all("bare", &pods::bare()), As::Pod, &CHANGES, 900);
}

#[test]
fn in_a_pod_of_root() {
    hold(&all("rootful", &pods::rootful()), As::Pod, &CHANGES, 900);
}

#[test]
fn in_a_pod_for_windows() {
    let windows = json!({"os": {"name": "windows"}});
    hold(
        &all("windows", &with_spec(&pods::bare(), &windows)),
        As::Pod,
        &CHANGES,
        900,
    );
}

#[test]
fn in_a_pod_with_users_of_its_own() {
    let own = json!({"hostUsers": false});
    hold(
        &all("own users", &with_spec(&pods::rootful(), &own)),
        As::Pod,
        &CHANGES,
        900,
    );
}

#[test]
fn in_a_template() {
    let every_third = all("good", &pods::good()).into_iter().step_by(3).collect::<Vec<_>>();
    hold(&every_third, As::Template, &CHANGES, 300);
}

/// Where system and users meet, which no single field shows.
#[test]
fn what_is_loosened_together() {
    let systems = [json!(null), json!("windows"), json!("linux"), json!("Windows")];
    let users = [json!(null), json!(true), json!(false)];
    let pods = BTreeMap::from([
        ("good", pods::good()),
        ("by containers", pods::by_containers()),
        ("bare", pods::bare()),
        ("rootful", pods::rootful()),
    ]);
    let mut samples = Vec::new();
    for (name, pod) in &pods {
        for system in &systems {
            for users in &users {
                samples.push(Sample {
                    what: format!("{name}, os {system}, hostUsers {users}"),
                    pod: with_spec(pod, &json!({"os": {"name": system}, "hostUsers": users})),
                    stricter: None,
                });
            }
        }
    }
    hold(&samples, As::Pod, &VERSIONS, 48);
}

/// The one choice of ours. The standard's code looks for an allowed type and at nothing else; no API server stores a volume of two,
/// and a type that this one does not know yet is read as none.
#[test]
fn a_volume_of_two_types_or_of_an_unknown_one_is_refused() {
    let volume = |mut fields: Value, other: &str| {
        fields["name"] = json!("x");
        fields[other] = json!({});
        Sample {
            what: format!("a volume of {fields}"),
            pod: with_spec(&pods::good(), &json!({"volumes": [fields]})),
            stricter: Some(OTHER_TYPES),
        }
    };
    let two = ["hostPath", "nfs", "HostPath", "newer"].map(|other| volume(json!({"emptyDir": {}}), other));
    let unknown = ["HostPath", "emptydir", "newer"].map(|other| volume(json!({}), other));
    let samples = [two.to_vec(), unknown.to_vec()].concat();
    let tally = compare(&samples, As::Pod, &VERSIONS);
    tally.none_differ();
    let times = samples.len() * VERSIONS.len();
    assert_eq!(tally.stricter, BTreeMap::from([(OTHER_TYPES.1, times)]));
}
