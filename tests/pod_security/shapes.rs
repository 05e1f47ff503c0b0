//! Pods that an API server cannot read, or does not store: refused by each policy that would have to judge what is wrong.

use serde_json::{Value, json};
use support::pod_security::PodSecurity;

use crate::compared::{As, CONTROLS, Ours, VERSIONS};
use crate::fields::{self, Of};
use crate::pods::{self, CONTAINERS};
use crate::samples::{places, with};

/// That what is called broken is: an API server cannot read it, or reads it as what no API server stores.
fn judged(pods: &[(String, Value, Vec<&str>)], unreadable: bool) {
    let mut standard = PodSecurity::start().expect("the checks start");
    let versions = ["v1.31", "latest"];
    let ours = versions.map(|version| Ours::load(&json!(version)));
    let mut passed = Vec::new();
    for (what, pod, policies) in pods {
        let theirs = standard.ask(pod, &VERSIONS).expect("an answer");
        assert_eq!(theirs.is_err(), unreadable, "{what}: {theirs:?}");
        for (version, ours) in versions.iter().zip(&ours) {
            let verdicts = ours.judge_by(pod, As::Pod, |policy| policies.contains(&policy));
            for policy in policies {
                match &verdicts[*policy] {
                    Ok(paths) if !paths.is_empty() => {}
                    said => passed.push(format!("{policy} {version} {what}: {said:?}")),
                }
            }
        }
    }
    println!("{} pods", pods.len());
    let few = passed.iter().take(40).cloned().collect::<Vec<_>>();
    assert!(
        passed.is_empty(),
        "{} were not refused:\n{}",
        passed.len(),
        few.join("\n")
    );
}

fn sample(path: &[String], value: Value, pod: &Value, policies: &[&'static str]) -> (String, Value, Vec<&'static str>) {
    (
        format!("{} {value}", path.join(".")),
        with(pod, path, Some(value)),
        policies.to_vec(),
    )
}

/// Of a field, and of everything on the way to it.
#[test]
fn a_field_that_cannot_be_read_is_refused() {
    let pod = pods::good();
    let mut samples = Vec::new();
    for field in fields::all() {
        if field.policies.is_empty() {
            continue;
        }
        for path in places(&field) {
            samples.extend(
                field
                    .broken
                    .iter()
                    .map(|value| sample(&path, value.clone(), &pod, &field.policies)),
            );
            let fixed = path.len() - field.path.len();
            for end in fixed + 1..path.len() {
                for value in [
                    json!("x"),
                    json!(""),
                    json!(true),
                    json!(1),
                    json!([]),
                    json!([{"privileged": true}]),
                ] {
                    samples.push(sample(&path[..end], value, &pod, &field.policies));
                }
            }
        }
    }
    // Nor where the standard would ask nothing of the field.
    for windows in samples.clone() {
        let (what, pod, policies) = windows;
        let os = ["spec".to_owned(), "os".to_owned()];
        let users = ["spec".to_owned(), "hostUsers".to_owned()];
        if pod["spec"].is_object() {
            let pod = with(
                &with(&pod, &os, Some(json!({"name": "windows"}))),
                &users,
                Some(json!(false)),
            );
            samples.push((format!("windows: {what}"), pod, policies));
        }
    }
    assert!(samples.len() > 2000, "only {}", samples.len());
    judged(&samples, true);
}

/// Policies that judge containers.
fn of_containers() -> Vec<&'static str> {
    let fields = fields::all();
    let of_containers = fields.iter().filter(|field| field.of == Of::Container);
    let mut policies: Vec<_> = of_containers.flat_map(|field| field.policies.clone()).collect();
    policies.sort_unstable();
    policies.dedup();
    policies
}

#[test]
fn containers_that_cannot_be_read_are_refused() {
    let pod = pods::good();
    let policies = of_containers();
    assert_eq!(policies.len(), 15);
    let mut samples = Vec::new();
    for (list, _) in CONTAINERS {
        let path = ["spec".to_owned(), list.to_owned()];
        for value in [
            json!("x"),
            json!({"0": {}}),
            json!({}),
            json!(true),
            json!(0),
            json!(["x"]),
            json!([[]]),
            json!([{}, 1]),
        ] {
            samples.push(sample(&path, value, &pod, &policies));
        }
    }
    judged(&samples, true);
}

/// An API server reads null as an empty container, and then stores no container without a name.
#[test]
fn a_container_or_a_volume_that_is_null_is_refused() {
    let pod = pods::good();
    let policies = of_containers();
    let path = |list: &str| ["spec".to_owned(), list.to_owned()];
    let mut samples: Vec<_> = CONTAINERS
        .map(|(list, _)| sample(&path(list), json!([null]), &pod, &policies))
        .into();
    let of_volumes = ["pss-baseline-host-path-volumes", "pss-restricted-volume-types"];
    samples.push(sample(&path("volumes"), json!([null]), &pod, &of_volumes));
    judged(&samples, false);
}

#[test]
fn a_pod_without_a_spec_is_refused_by_every_policy() {
    let all = CONTROLS.map(|(policy, _)| policy);
    let spec = ["spec".to_owned()];
    let absent = ("absent".to_owned(), with(&pods::good(), &spec, None), all.to_vec());
    judged(&[absent, sample(&spec, json!(null), &pods::good(), &all)], false);
    let broken = [json!("x"), json!([]), json!(true), json!(1)];
    judged(&broken.map(|value| sample(&spec, value, &pods::good(), &all)), true);
}
