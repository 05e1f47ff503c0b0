//! `ringfence bench`: what it measures, and that it says what its figures are not good for. No figure is asserted but for what it means.

use std::collections::BTreeMap;
use std::fs;

use ringfence::policy::{PolicySet, Target};
use serde_json::{Value, json};

use crate::run::{Said, run};

const SHORT: [&str; 3] = ["bench", "--duration", "0.1"];

fn bench(arguments: &[&str]) -> Said {
    run(&[&SHORT, arguments].concat(), b"")
}

fn parsed(arguments: &[&str]) -> Value {
    let said = bench(&[arguments, &["-o", "json"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn every_policy_is_asked_in_every_round_and_has_its_share() {
    let json = parsed(&[]);
    let policies = json["policies"].as_array().unwrap();
    let shipped = PolicySet::embedded(&BTreeMap::new()).unwrap();
    let judging = shipped
        .policies()
        .filter(|policy| policy.metadata.target != Target::Object);
    for policy in judging {
        let name = policy.metadata.name.as_str();
        assert!(
            policies.iter().any(|policy| policy["policy"] == name),
            "{name} is not measured"
        );
    }
    let rounds = json["rounds"].as_u64().unwrap();
    assert!(rounds >= 10);
    let mut shares = 0.0;
    for policy in policies {
        let number = |field: &str| policy[field].as_f64().unwrap();
        assert_eq!(policy["evaluations"].as_u64().unwrap() % rounds, 0, "{policy}");
        assert!(0.0 < number("least_microseconds") && number("least_microseconds") <= number("p50_microseconds"));
        assert!(number("p50_microseconds") <= number("p99_microseconds"));
        assert_eq!(policy["errors"], 0);
        shares += number("share");
    }
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
    let said = bench(&[]);
    assert!(
        said.out.contains(" requests, ") && said.out.contains("all, for one request"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("before") && said.err.is_empty(), "{said:?}");
}

#[test]
fn requests_of_files_are_judged_and_compared_with_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: a}]}\n";
    fs::write(
        at("a.yaml"),
        format!("{pod}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: lab}}\n"),
    )
    .unwrap();
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "name": "d", "userInfo": {"username": "ann"},
        "object": {"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "b"}]}}}},
    }});
    fs::write(at("b.json"), review.to_string()).unwrap();
    let path = folder.path().display().to_string();
    let before = parsed(&[&path]);
    assert_eq!(before["requests"], 3);
    let rounds = before["rounds"].as_u64().unwrap();
    let evaluations = |name: &str| {
        let policies = before["policies"].as_array().unwrap();
        policies.iter().find(|policy| policy["policy"] == name).unwrap()["evaluations"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(
        (evaluations("approved-images"), evaluations("namespace-baseline")),
        (2 * rounds, rounds)
    );

    let baseline = tempfile::NamedTempFile::new().unwrap();
    let mut halved = before.clone();
    for policy in halved["policies"].as_array_mut().unwrap() {
        policy["p50_microseconds"] = json!(1e-3);
    }
    fs::write(baseline.path(), halved.to_string()).unwrap();
    let baseline = baseline.path().display().to_string();
    let after = parsed(&[&path, "--baseline", &baseline]);
    assert!(
        after["policies"]
            .as_array()
            .unwrap()
            .iter()
            .all(|policy| policy["ratio"].as_f64().unwrap() > 10.0),
        "{after}"
    );
    let said = bench(&["--baseline", &baseline]);
    assert!(
        said.out.contains("before") && said.err.contains("ratios compare unlike things"),
        "{said:?}"
    );
}

/// Whatever the labels of their namespace.
#[test]
fn policies_that_judge_objects_are_measured_on_what_they_match() {
    let folder = tempfile::tempdir().unwrap();
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\nrules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]\n";
    fs::write(folder.path().join("role.yaml"), role).unwrap();
    let json = parsed(&["--policies", "ai-workflow", &folder.path().display().to_string()]);
    let names: Vec<_> = json["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| &policy["policy"])
        .collect();
    assert_eq!(names, ["no-wildcard-rbac"]);
}

#[test]
fn a_policy_that_fails_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "# METADATA\n# title: T\n# description: D\n# custom:\n#   name: mine\n#   severity: low\n#   remediation: R\n\
                  #   scope: pod\npackage mine\ndeny contains \"x\" if startswith(input.pod.spec, \"a\")\n";
    fs::write(folder.path().join("mine.rego"), policy).unwrap();
    let said = bench(&["--policies", &folder.path().display().to_string()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("mine failed in ") && said.err.contains("says little of its cost"),
        "{said:?}"
    );
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        at("lease.yaml"),
        "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: a}\n",
    )
    .unwrap();
    fs::write(at("bad.yaml"), "kind: [\n").unwrap();
    fs::write(at("baseline.json"), "{}").unwrap();
    fs::write(at("review.json"), "{\"kind\": \"AdmissionReview\"}").unwrap();
    for (arguments, words) in [
        (
            vec![at("lease.yaml")],
            "none of the policies is asked about any of these 1 requests",
        ),
        (vec![at("bad.yaml")], "this is no YAML"),
        (vec![at("review.json")], "document 1: AdmissionReview: "),
        (vec![at("nothing")], "cannot be read"),
        (
            vec!["--baseline".to_owned(), at("baseline.json")],
            "is not what ringfence bench prints",
        ),
        (vec!["--policies".to_owned(), at("nothing")], "cannot read"),
    ] {
        let said = bench(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    let said = run(&["bench", "--duration", "nan"], b"");
    assert!(said.code == 2 && said.err.contains("from 0.1 to 3600"), "{said:?}");
}
