//! `ringfence explain`: lines of the decision log, as somebody has them.

use std::fs;

use ringfence::{
    api::Mode,
    decisions::{Recorded, Seen, Shown, ShownClass},
    policy::{PolicySet, Target},
    review::Review,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::run::{Said, run, run_with};

fn line() -> Value {
    json!({
        "timestamp": "2026-11-26T12:00:00Z", "level": "INFO", "target": "ringfence::decision", "message": "decided",
        "webhook": "fence", "uid": "u-1", "user": "mia", "operation": "CREATE", "group": "batch", "resource": "jobs", "subresource": "",
        "namespace": "ai-secure", "name": "nightly", "dry_run": false, "verdict": "deny",
        "policies": "launcher,no-literal-secrets", "exceptions": "", "revision": revision(), "sha256": "ab", "seconds": 0.004,
    })
}

fn revision() -> String {
    PolicySet::embedded(&Default::default()).unwrap().revision().to_owned()
}

/// The same of a Ringfence that logs what it decides about.
fn line_with_input() -> Value {
    let pod = json!({
        "metadata": {"labels": {"ringfence.dev/workflow": "w"}},
        "spec": {"containers": [{"name": "c", "image": "a.example/b:1", "args": ["topsecret"], "env": [{"name": "OPENAI_API_KEY", "value": "topsecret"}]}]},
    });
    let request = json!({
        "uid": "u-1", "operation": "CREATE", "namespace": "ai-secure", "name": "nightly",
        "kind": {"group": "batch", "version": "v1", "kind": "Job"}, "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
        "userInfo": {"username": "mia"}, "object": {"metadata": {"name": "nightly"}, "spec": {"template": pod}},
    });
    let sent = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let review = Review::parse(sent.to_string().as_bytes()).unwrap();
    let namespace = json!({"metadata": {"name": "ai-secure", "labels": {"ringfence.dev/enforce": "default"}}});
    let class = json!({"metadata": {"name": "default"}, "spec": {"images": {"allowed": ["**"]}}});
    let seen = Seen::of(&Shown {
        target: Target::Pod,
        pod_path: Some("spec.template"),
        namespace: Some(&namespace),
        workflow: None,
        modes: &[(Mode::Enforce, "default".to_owned())],
        classes: &[ShownClass {
            name: "default",
            class: Some(&class),
            engine: None,
        }],
    });
    let Recorded::Input(input) = Recorded::of(&review, Some(&seen)) else {
        panic!("it fits")
    };
    let mut line = line();
    line["input"] = input.into();
    line
}

fn explain(input: &str, options: &[&str]) -> Said {
    run(&[&["explain", "-"], options].concat(), input.as_bytes())
}

#[test]
fn a_line_is_told_with_what_its_policies_demand() {
    let said = explain(&format!("starting\n{}\nstopped\n", line()), &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    for words in [
        "DENY  2026-11-26T12:00:00Z  mia asked to CREATE jobs.batch ai-secure/nightly\n",
        "  launcher (built-in rule)\n",
        "  no-literal-secrets (policy, critical): No literal secrets\n",
        "    Fix: Put the value into a Secret",
        "    Controls: CIS-Kubernetes-5.4.1, NIST-800-53-IA-5, ",
        "    File: policies/ai-workflow/no-literal-secrets/policy.rego\n",
        "  Note: it holds no input",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "a pipe has no colours");
}

#[test]
fn a_line_with_input_is_judged_again() {
    let said = explain(&line_with_input().to_string(), &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(
        said.out.contains(
            "- refuses: spec.template.spec.containers[0].env[0].value = \"(hidden, 22 characters)\" (masked here): "
        ),
        "{}",
        said.out
    );
    assert!(
        said.out
            .contains("Masked, so not judged by what they hold: spec.template.spec.containers[0].args[0]"),
        "{}",
        said.out
    );
    assert!(!said.out.contains("topsecret"), "{}", said.out);
}

#[test]
fn machines_get_the_same() {
    let text = format!("{}\n{}\n", line(), line_with_input());
    let said = explain(&text, &["-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let told: Value = serde_json::from_str(&said.out).unwrap();
    let [without, with] = told["decisions"].as_array().unwrap().as_slice() else {
        panic!("{told}")
    };
    assert_eq!(
        (&without["verdict"], &without["replay"]["done"]),
        (&json!("deny"), &json!(false))
    );
    assert_eq!(without["policies"][1]["described"][0]["kind"], "policy");
    assert_eq!(with["replay"]["done"], true);
    let finding = &with["policies"][1]["findings"][0];
    assert_eq!(finding["path"], "spec.template.spec.containers[0].env[0].value");
    assert_eq!(
        (&finding["effect"], &finding["masked"]),
        (&json!("refuses"), &json!(true))
    );
}

#[test]
fn policies_of_a_folder_explain_what_they_decided() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "# METADATA\n# title: Mine\n# description: Jobs are not nightly.\n# custom:\n#   name: mine\n#   severity: low\n\
                  #   remediation: Do it by day\n#   scope: pod\npackage p\ndeny contains \"at night\" if input.request.name == \"nightly\"\n";
    fs::write(folder.path().join("mine.rego"), policy).unwrap();
    let folder = folder.path().display().to_string();
    let mut line = line_with_input();
    line["policies"] = json!("mine");
    let said = run_with(
        &[("RINGFENCE_POLICIES", &folder)],
        &["explain"],
        line.to_string().as_bytes(),
    );
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "mine (policy, low): Mine",
        "Jobs are not nightly.",
        "- refuses: spec.template: at night",
        "were of revision ",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let unknown = explain(&line.to_string(), &[]);
    assert!(
        unknown.out.contains("No policy of that name is loaded"),
        "{}",
        unknown.out
    );
}

#[rstest]
#[case::empty(
    "",
    "there is no decision line in the input: a decision line is JSON with the target ringfence::decision"
)]
#[case::other_program(
    "{\"msg\": \"topsecret\", \"ts\": 1}",
    "JSON of another program, with the keys msg, ts; a decision line is"
)]
#[case::text_format(
    "2026-11-26T12:00:00Z INFO ringfence::decision: decided user=\"topsecret\"",
    "explain reads those of --log-format=json"
)]
fn what_holds_no_decision_line_is_code_2_with_a_hint(#[case] input: &str, #[case] why: &str) {
    let said = explain(input, &[]);
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains(why) && !said.err.contains("topsecret"), "{said:?}");
}

#[test]
fn a_broken_line_is_code_2_and_the_others_are_explained() {
    let whole = line().to_string();
    let said = explain(&format!("{whole}\n{}\n", &whole[..whole.len() - 20]), &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.out.starts_with("DENY  ")
            && said
                .err
                .starts_with("ringfence: line 2: this is no whole decision line"),
        "{said:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let said = run(&["explain", "tests/fixtures/no-such.log"], b"");
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains("no-such.log: cannot be read"), "{said:?}");
}

#[test]
fn names_in_a_line_do_not_speak_to_the_terminal() {
    let mut hostile = line();
    for field in [
        "user",
        "name",
        "policies",
        "exceptions",
        "webhook",
        "revision",
        "timestamp",
    ] {
        hostile[field] = json!("x\u{1b}[2J\u{202e}");
    }
    for options in [&[][..], &["-o", "json"]] {
        let said = explain(&hostile.to_string(), options);
        assert_eq!(said.code, 0, "{said:?}");
        let obeyed = |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
        assert_eq!(said.out.chars().find(obeyed), None, "{:?}", said.out);
    }
}

/// As somebody applied them, and as kubectl prints them: one that refuses, one that cannot be compiled, one that no API server takes.
fn rego_policies() -> Value {
    let policy = |name: &str, source: &str| {
        json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name, "uid": name, "generation": 2},
            "spec": {
                "description": "Images are ours", "remediation": "Use one of ours", "validationActions": ["Deny"], "templates": "Expand",
                "parameters": {"foreign": {"registry": "a.example/"}},
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
                "rego": {"modules": [{"name": "policy.rego", "source": source}]},
            },
        })
    };
    let good = "package p\ndeny contains {\"msg\": \"is not ours\", \"path\": \"spec.containers[0].image\"} if \
                startswith(input.review.object.spec.containers[0].image, input.parameters.foreign.registry)\n";
    let mut misspelt = policy("misspelt", good);
    misspelt["spec"]["remedy"] = json!("x");
    json!({"apiVersion": "v1", "kind": "List", "items": [policy("ours", good), policy("broken", "package p\ndeny := [\n"), misspelt]})
}

fn registered_line(webhook: &str) -> String {
    let mut line = line_with_input();
    line["webhook"] = json!(webhook);
    line["policies"] = json!("ours,broken,misspelt");
    line.to_string()
}

#[rstest]
#[case::refused("policies", "- refuses: ")]
#[case::audited("policies-audit", "- is only logged: ")]
fn what_rego_policies_decided_is_explained_by_those_of_a_file(#[case] webhook: &str, #[case] effect: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.yaml");
    fs::write(&file, rego_policies().to_string()).unwrap();
    let file = file.display().to_string();
    let said = explain(&registered_line(webhook), &["--rego-policies", &file]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    for words in [
        "  ours (RegoPolicy, Deny, failurePolicy Fail)\n    Images are ours\n    Fix: Use one of ours\n",
        &format!("    File: {file}\n"),
        &format!(
            "{effect}spec.template.spec.containers[0].image: is not ours (via Job/nightly)\n      Fix: Use one of ours\n"
        ),
        "  broken (RegoPolicy, Deny, failurePolicy Fail, broken)\n",
        "    Error: policy.rego:",
        "  misspelt (RegoPolicy, broken)\n    Images are ours\n",
        "    Error: it would be refused by the API server: spec.remedy: there is no such field\n",
        "    It was not asked again: it is broken.\n",
        "    It was not asked again: it is broken, and where Ringfence has no good version of it, it answers by its failurePolicy Fail.\n",
        "those that explain are of ",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let told = explain(&registered_line(webhook), &["--rego-policies", &file, "-o", "json"]);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    let described = &told["decisions"][0]["policies"][0]["described"][0];
    assert_eq!(described["kind"], "rego-policy");
    assert_eq!(
        (&described["validationActions"], &described["failurePolicy"]),
        (&json!(["Deny"]), &json!("Fail"))
    );
}

#[test]
fn without_rego_policies_it_says_how_to_get_them() {
    let said = explain(&registered_line("policies"), &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.contains("kubectl get regopolicies -o yaml > policies.yaml"),
        "{}",
        said.out
    );
}

#[rstest]
#[case::another_kind(
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}",
    "there is no RegoPolicy in it"
)]
#[case::another_version(
    "{apiVersion: ringfence.dev/v9, kind: RegoPolicy, metadata: {name: x}}",
    "document 1: ringfence.dev/v9 RegoPolicy is not known here"
)]
#[case::twice(
    "{apiVersion: ringfence.dev/v1alpha1, kind: RegoPolicy, metadata: {name: x}}\n---\n{apiVersion: ringfence.dev/v1alpha1, kind: RegoPolicy, metadata: {name: x}}",
    "document 2: RegoPolicy x is there twice"
)]
#[case::no_yaml("{", "this is no YAML")]
fn a_file_of_no_rego_policies_is_code_2(#[case] text: &str, #[case] why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policies.yaml");
    fs::write(&file, text).unwrap();
    let said = explain(
        &registered_line("policies"),
        &["--rego-policies", &file.display().to_string()],
    );
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(said.err.contains(why) && said.err.contains("policies.yaml"), "{said:?}");
}

#[test]
fn standard_input_is_one_thing_or_the_other() {
    let said = explain(&registered_line("policies"), &["--rego-policies", "-"]);
    assert!(said.code == 2 && said.err.contains("cannot be both"), "{said:?}");
}
