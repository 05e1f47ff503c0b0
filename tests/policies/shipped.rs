//! Every shipped policy: its METADATA, its Rego tests, the generated page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ringfence::policy::{EntryPoint, PolicySet, Source, library, render_table, run_tests};

/// Pairs of policy and tests, by folder.
fn shipped() -> Vec<(Source, Source)> {
    let sources = PolicySet::embedded_sources();
    let find = |file: String| sources.iter().find(|source| source.file == file).cloned();
    let policies = sources.iter().filter(|source| !source.file.ends_with("_test.rego"));
    policies
        .map(|policy| {
            let tests = policy.file.replace("policy.rego", "policy_test.rego");
            let tests = find(tests.clone()).unwrap_or_else(|| panic!("{} has no tests: write {tests}", policy.file));
            (policy.clone(), tests)
        })
        .collect()
}

/// Every policy of every set.
fn library() -> PolicySet {
    let sources = PolicySet::embedded_sources();
    PolicySet::compile(sources, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors)))
}

fn folder(file: &str) -> &str {
    file.rsplit('/').nth(1).unwrap_or_default()
}

/// A policy that nobody tests would be believed all the same.
#[test]
fn every_rego_test_passes_and_each_policy_has_both_verdicts() {
    let mut failures = Vec::new();
    for (policy, tests) in shipped() {
        let outcomes = run_tests(&policy, &tests).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
        for test in &outcomes {
            let verdict = match &test.outcome {
                Ok(true) => "ok".to_owned(),
                Ok(false) => "FAILED".to_owned(),
                Err(error) => format!("FAILED: {error}"),
            };
            println!("{} {} ... {verdict}", tests.file, test.name);
            if test.outcome != Ok(true) {
                failures.push(format!("{} {}: {verdict}", tests.file, test.name));
            }
        }
        for prefix in ["test_admits_", "test_refuses_"] {
            let present = outcomes.iter().any(|test| test.name.starts_with(prefix));
            assert!(present, "{}: no test starts with {prefix}", tests.file);
        }
    }
    assert!(
        failures.is_empty(),
        "{} Rego tests failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A rule that can be switched off without a failing test is a rule that may have been switched off already.
#[test]
fn every_rule_that_refuses_or_warns_is_held_by_a_test() {
    let mut idle = Vec::new();
    for (policy, tests) in shipped() {
        for rule in ["deny contains finding if {", "warn contains finding if {"] {
            for (at, _) in policy.text.match_indices(rule) {
                let (before, after) = policy.text.split_at(at + rule.len());
                let weakened = Source {
                    text: format!("{before}\n\t1 == 2{after}"),
                    ..policy.clone()
                };
                let outcomes = run_tests(&weakened, &tests).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
                if outcomes.iter().all(|test| test.outcome == Ok(true)) {
                    idle.push(format!("{}:{}", policy.file, before.lines().count()));
                }
            }
        }
    }
    assert!(
        idle.is_empty(),
        "no test fails without these rules:\n{}",
        idle.join("\n")
    );
}

#[test]
fn a_failing_undefined_or_broken_rego_test_is_reported() {
    let (policy, _) = shipped().remove(0);
    let text = "package t\ntest_true if true\ntest_false := false\ntest_undefined if 1 == 2\ntest_text := \"true\"\n\
                test_error if startswith(1, \"a\")\nhelper := 1\n";
    let tests = Source {
        file: "t_test.rego".to_owned(),
        text: text.to_owned(),
    };
    let outcomes = run_tests(&policy, &tests).expect("tests run");
    let passed: Vec<_> = outcomes
        .iter()
        .map(|test| (test.name.as_str(), test.outcome.clone().ok()))
        .collect();
    let expected = [
        ("test_true", Some(true)),
        ("test_false", Some(false)),
        ("test_undefined", Some(false)),
        ("test_text", Some(false)),
        ("test_error", None),
    ];
    assert_eq!(passed, expected);
    let none = Source {
        file: "t_test.rego".to_owned(),
        text: "package t\nhelper := 1\n".to_owned(),
    };
    assert!(run_tests(&policy, &none).is_err(), "a file without tests passed");
}

#[test]
fn the_shipped_set_is_complete_and_every_policy_says_what_it_is() {
    let shipped = PolicySet::embedded(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let names: Vec<_> = shipped.policies().map(|policy| policy.metadata.name.as_str()).collect();
    let expected = [
        "approved-images",
        "approved-namespaces",
        "dedicated-service-account",
        "encrypted-storage",
        "namespace-baseline",
        "no-cluster-admin-binding",
        "no-exposed-services",
        "no-literal-secrets",
        "no-literal-secrets-in-configmaps",
        "no-wildcard-rbac",
        "resource-limits",
        "restricted-pod-security",
        "short-lived-tokens",
        "tls-only-ingress",
    ];
    assert_eq!(names, expected);
    for policy in library().policies() {
        let metadata = &policy.metadata;
        assert!(
            metadata.description.len() > 40,
            "{}: a description of a few words helps nobody",
            metadata.name
        );
        assert!(!metadata.controls.is_empty(), "{}: no controls", metadata.name);
        assert!(
            policy.entry_points.contains(&EntryPoint::Deny),
            "{}: never refuses",
            metadata.name
        );
        assert!(
            policy.file.ends_with("/policy.rego") && metadata.name.ends_with(folder(&policy.file)),
            "{} is in {}",
            metadata.name,
            policy.file
        );
    }
}

/// A policy is one file, so what a key looks like is written twice.
#[test]
fn pods_and_config_maps_are_searched_for_the_same_secrets() {
    let lists = ["no-literal-secrets", "no-literal-secrets-in-configmaps"].map(|name| {
        let (policy, _) = shipped()
            .into_iter()
            .find(|(policy, _)| folder(&policy.file) == name)
            .expect("there");
        let definitions = [
            "\nshapes := {",
            "\nwords := `",
            "\nends_secret := ",
            "\nlong_word := ",
            "\nis_random(",
        ];
        definitions.map(|begin| {
            let (_, rest) = policy.text.split_once(begin).expect(begin);
            rest.split("\n\n").next().map(str::to_owned)
        })
    });
    assert_eq!(lists[0], lists[1]);
}

/// The macro that embeds files does not notice a new one by itself; `build.rs` does.
#[test]
fn the_binary_carries_every_policy_file() {
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("policies are there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rego") {
                found.push(path);
            }
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut on_disk = Vec::new();
    files(&root.join("policies"), &mut on_disk);
    on_disk.sort();
    let mut embedded: Vec<_> = PolicySet::embedded_sources()
        .iter()
        .map(|source| root.join(&source.file))
        .collect();
    embedded.sort();
    assert_eq!(embedded, on_disk, "build.rs should have made Cargo notice");
}

/// Set `UPDATE_GENERATED` to write the page instead.
#[test]
fn the_page_of_policies_is_the_one_that_their_metadata_gives() {
    let page = render_table(&library::sets().expect("sets"), library().policies());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("policies/README.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let committed = std::fs::read_to_string(&path).expect("policies/README.md is there");
    assert!(
        committed == page,
        "policies/README.md is stale: run UPDATE_GENERATED=1 cargo test --test policies"
    );
}

pub fn joined(errors: &[ringfence::policy::LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
