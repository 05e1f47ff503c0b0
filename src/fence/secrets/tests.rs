use rstest::rstest;
use serde_json::json;

use super::super::object::MAX_VIOLATIONS;
use super::super::testing::{set, workflow_object};
use super::*;

/// Declares `openai` by key, `vendor` whole, and `registry` for pulling.
fn workflow() -> AIWorkflow {
    let secrets = json!([
        {"name": "model-key", "secretRef": {"name": "openai", "keys": ["API_KEY"]}, "data": {"classification": "Restricted"}},
        {"name": "model-org", "secretRef": {"name": "openai", "keys": ["ORG"]}},
        {"name": "vendor", "secretRef": {"name": "vendor"}},
    ]);
    let object = set(workflow_object(), "/spec/secrets", secrets);
    let object = set(
        object,
        "/spec/identity",
        json!({"imagePullSecrets": [{"name": "registry"}]}),
    );
    serde_json::from_value(object).unwrap()
}

fn judged(spec: Value) -> Vec<Violation> {
    let pod = json!({"spec": spec});
    let template = Template {
        path: "spec.template",
        pod: &pod,
    };
    let mut violations = Vec::new();
    check(&template, None, ("triage", &workflow()), &mut violations);
    for violation in &violations {
        assert_eq!(violation.policy, RULE);
        assert!(violation.path.starts_with("spec.template.spec."), "{}", violation.path);
    }
    violations
}

/// Names and keys that are refused.
fn refused(spec: Value) -> Vec<String> {
    judged(spec)
        .into_iter()
        .map(|violation| violation.value.unwrap_or_else(|| "?".to_owned()))
        .collect()
}

fn env(name: &str, key: &str) -> Value {
    json!({"containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]}]})
}

fn mounted(secret: Value) -> Value {
    json!({"volumes": [{"name": "v", "secret": secret}]})
}

#[rstest]
#[case::none(json!({"containers": []}), &[])]
#[case::a_declared_key(env("openai", "API_KEY"), &[])]
#[case::a_key_of_the_other_entry(env("openai", "ORG"), &[])]
#[case::another_key(env("openai", "ADMIN_KEY"), &["ADMIN_KEY"])]
#[case::any_key_of_a_whole_one(env("vendor", "anything"), &[])]
#[case::undeclared(env("payroll", "API_KEY"), &["payroll"])]
#[case::an_entrys_name_is_no_secrets(env("model-key", "API_KEY"), &["model-key"])]
#[case::other_case(env("OpenAI", "API_KEY"), &["OpenAI"])]
#[case::all_of_keys(json!({"containers": [{"envFrom": [{"secretRef": {"name": "openai"}}]}]}), &["openai"])]
#[case::all_of_a_whole_one(json!({"containers": [{"envFrom": [{"secretRef": {"name": "vendor"}}]}]}), &[])]
#[case::optional_is_no_excuse(json!({"containers": [{"envFrom": [{"secretRef": {"name": "payroll", "optional": true}}]}]}), &["payroll"])]
#[case::mounted_by_key(mounted(json!({"secretName": "openai", "items": [{"key": "API_KEY", "path": "p"}]})), &[])]
#[case::mounted_by_one_key_too_many(mounted(json!({"secretName": "openai", "items": [{"key": "API_KEY"}, {"key": "ADMIN_KEY"}]})), &["ADMIN_KEY"])]
#[case::mounted_whole(mounted(json!({"secretName": "openai"})), &["openai"])]
#[case::mounted_with_no_items(mounted(json!({"secretName": "openai", "items": []})), &["openai"])]
#[case::a_whole_one_mounted(mounted(json!({"secretName": "vendor"})), &[])]
#[case::projected(json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "payroll"}}, {"secret": {"name": "vendor"}}]}}]}), &["payroll"])]
#[case::driver(json!({"volumes": [{"csi": {"driver": "d", "nodePublishSecretRef": {"name": "payroll"}}}]}), &["payroll"])]
#[case::driver_of_keys(json!({"volumes": [{"csi": {"driver": "d", "nodePublishSecretRef": {"name": "openai"}}}]}), &["openai"])]
#[case::declared_driver(json!({"volumes": [{"csi": {"driver": "d", "nodePublishSecretRef": {"name": "vendor"}}}]}), &[])]
#[case::pulled_with(json!({"imagePullSecrets": [{"name": "registry"}]}), &[])]
#[case::pulled_with_another(json!({"imagePullSecrets": [{"name": "registry"}, {"name": "payroll"}]}), &["payroll"])]
#[case::pulled_with_one_to_read(json!({"imagePullSecrets": [{"name": "vendor"}]}), &["vendor"])]
#[case::read_what_is_to_pull_with(mounted(json!({"secretName": "registry"})), &["registry"])]
#[case::what_cannot_be_read(json!({"containers": [{"env": [{"valueFrom": {"vaultRef": {"path": "x"}}}]}]}), &["?"])]
fn what_is_not_declared_is_refused(#[case] spec: Value, #[case] expected: &[&str]) {
    assert_eq!(refused(spec), expected);
}

#[test]
fn a_refusal_says_what_to_write() {
    let undeclared = judged(env("payroll", "API_KEY"));
    assert_eq!(
        undeclared[0].message,
        "is a Secret that AIWorkflow triage does not declare"
    );
    let entry = "spec.secrets: [{name: payroll, secretRef: {name: payroll, keys: [API_KEY]}}]";
    assert!(undeclared[0].fix.contains(entry), "{}", undeclared[0].fix);
    let key = judged(env("openai", "ADMIN_KEY"));
    assert!(
        key[0].message.ends_with("it declares API_KEY, ORG"),
        "{}",
        key[0].message
    );
    let whole = judged(mounted(json!({"secretName": "openai"})));
    assert!(whole[0].message.ends_with("only API_KEY, ORG"), "{}", whole[0].message);
    let pull = judged(json!({"imagePullSecrets": [{"name": "payroll"}]}));
    assert!(
        pull[0]
            .fix
            .contains("spec.identity.imagePullSecrets: [{name: payroll}]"),
        "{}",
        pull[0].fix
    );
}

#[test]
fn a_workflow_that_declares_none_has_none() {
    let plain: AIWorkflow = serde_json::from_value(workflow_object()).unwrap();
    let pod = json!({"spec": env("openai", "API_KEY")});
    let mut violations = Vec::new();
    check(
        &Template { path: "", pod: &pod },
        None,
        ("triage", &plain),
        &mut violations,
    );
    assert_eq!(violations.len(), 1);
}

#[test]
fn thousands_of_references_are_told_of_by_the_first() {
    let volumes: Vec<_> = (0..5000)
        .map(|at| json!({"name": "v", "secret": {"secretName": format!("s{at}")}}))
        .collect();
    assert_eq!(judged(json!({"volumes": volumes})).len(), MAX_VIOLATIONS);
}
