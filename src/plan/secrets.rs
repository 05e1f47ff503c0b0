//! What a workflow declares of Secrets: one reading, for `accept` and for `fence`.
//!
//! Must never: let an entry that cannot be read allow anything, or take an empty list of keys for all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Problem;
use crate::api::{AIWorkflow, DeclaredSecret, is_dns_subdomain};

/// Longest name of a Secret, and of a key of one, in bytes.
const MAX_NAME: usize = 253;

/// Keys that pods may take of a declared Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretKeys<'a> {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<&'a str>),
}

/// What pods of a workflow may take of a Secret; `None` where it declares nothing of it.
pub fn declared_secret<'a>(workflow: &'a AIWorkflow, name: &str) -> Option<SecretKeys<'a>> {
    let entries = workflow.spec.secrets.iter().filter(|entry| is_readable(entry));
    let mut only: Option<BTreeSet<&str>> = None;
    for entry in entries.filter(|entry| entry.secret_ref.name == name) {
        match &entry.secret_ref.keys {
            None => return Some(SecretKeys::All),
            Some(keys) => {
                let keys = keys.iter().map(String::as_str).filter(|key| is_secret_key(key));
                only.get_or_insert_default().extend(keys);
            }
        }
    }
    only.map(SecretKeys::Only)
}

/// Names of the Secrets by which the pods of a workflow may pull images.
pub fn pull_secrets(workflow: &AIWorkflow) -> impl Iterator<Item = &str> {
    let declared = workflow
        .spec
        .identity
        .iter()
        .flat_map(|identity| &identity.image_pull_secrets);
    declared
        .map(|secret| secret.name.as_str())
        .filter(|name| is_dns_subdomain(name))
}

fn is_readable(entry: &DeclaredSecret) -> bool {
    is_dns_subdomain(&entry.secret_ref.name) && entry.secret_ref.keys.as_ref().is_none_or(|keys| !keys.is_empty())
}

/// Whether a Secret can have that key.
pub fn is_secret_key(key: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !key.is_empty() && key.len() <= MAX_NAME && key != "." && !key.starts_with("..") && key.bytes().all(usual)
}

/// What is wrong with the declared Secrets by themselves.
pub(super) fn invalid(secrets: &[DeclaredSecret], problems: &mut Vec<Problem>) {
    let mut entries: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in secrets {
        *entries.entry(&entry.secret_ref.name).or_default() += 1;
    }
    let mut names = BTreeSet::new();
    for (index, entry) in secrets.iter().enumerate() {
        let path = format!("spec.secrets[{index}]");
        let mut problem = |field: &str, value: Option<&str>, message: &str, fix: &str| {
            problems.push(Problem::new(format!("{path}.{field}"), value, message, fix));
        };
        if entry.name.is_empty() || !names.insert(&entry.name) {
            problem(
                "name",
                Some(&entry.name),
                "is no name of its own in this list",
                "give each entry another one",
            );
        }
        let secret = entry.secret_ref.name.as_str();
        if !is_dns_subdomain(secret) {
            let fix = "use its name, as kubectl get secrets shows it";
            problem("secretRef.name", Some(secret), "is no name of a Secret", fix);
        }
        match &entry.secret_ref.keys {
            None if entries.get(secret).is_some_and(|entries| *entries > 1) => {
                let message = "is declared whole, and by another entry too";
                let fix = "give each entry of this Secret keys, or leave one entry";
                problem("secretRef.name", Some(secret), message, fix);
            }
            None => {}
            Some(keys) if keys.is_empty() => {
                let fix = "name the keys, or leave keys out to declare the whole Secret";
                problem("secretRef.keys", Some("[]"), "is empty, and empty never means all", fix);
            }
            Some(keys) => {
                for (at, key) in keys.iter().enumerate().filter(|(_, key)| !is_secret_key(key)) {
                    let fix = "use letters, digits, '-', '_' and '.', as kubectl describe secret shows it";
                    problem(
                        &format!("secretRef.keys[{at}]"),
                        Some(key),
                        "is no key of a Secret",
                        fix,
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::{tests::workflow, workflow_problems};
    use super::*;

    fn declaring(secrets: Value) -> AIWorkflow {
        workflow(json!({"secrets": secrets}))
    }

    fn entry(name: &str, secret: &str, keys: Value) -> Value {
        let reference = match keys {
            Value::Null => json!({"name": secret}),
            keys => json!({"name": secret, "keys": keys}),
        };
        json!({"name": name, "secretRef": reference})
    }

    #[rstest]
    #[case::none(json!([]), &[])]
    #[case::whole(json!([entry("a", "openai", Value::Null)]), &[])]
    #[case::keys(json!([entry("a", "openai", json!(["API_KEY", "tls.crt", ".dockerconfigjson"]))]), &[])]
    #[case::keys_in_two_entries(json!([entry("a", "openai", json!(["A"])), entry("b", "openai", json!(["B"]))]), &[])]
    #[case::two_secrets(json!([entry("a", "openai", Value::Null), entry("b", "vendor.example", Value::Null)]), &[])]
    #[case::no_keys(json!([entry("a", "openai", json!([]))]), &["[0].secretRef.keys"])]
    #[case::an_empty_key(json!([entry("a", "openai", json!(["A", ""]))]), &["[0].secretRef.keys[1]"])]
    #[case::a_wildcard(json!([entry("a", "openai", json!(["*"]))]), &["[0].secretRef.keys[0]"])]
    #[case::a_way_out(json!([entry("a", "openai", json!(["../x", ".", "..x"]))]), &["[0].secretRef.keys[0]", "[0].secretRef.keys[1]", "[0].secretRef.keys[2]"])]
    #[case::no_secret(json!([entry("a", "", Value::Null)]), &["[0].secretRef.name"])]
    #[case::every_secret(json!([entry("a", "*", Value::Null)]), &["[0].secretRef.name"])]
    #[case::of_another_namespace(json!([entry("a", "other/openai", Value::Null)]), &["[0].secretRef.name"])]
    #[case::whole_twice(json!([entry("a", "openai", Value::Null), entry("b", "openai", Value::Null)]), &["[0].secretRef.name", "[1].secretRef.name"])]
    #[case::whole_and_in_part(json!([entry("a", "openai", json!(["A"])), entry("b", "openai", Value::Null)]), &["[1].secretRef.name"])]
    #[case::one_name_twice(json!([entry("a", "x", Value::Null), entry("a", "y", Value::Null)]), &["[1].name"])]
    #[case::no_name(json!([entry("", "x", Value::Null)]), &["[0].name"])]
    fn a_declaration_says_which_secrets_and_what_of_them(#[case] secrets: Value, #[case] expected: &[&str]) {
        let problems = workflow_problems(&declaring(secrets));
        let paths: Vec<_> = problems
            .iter()
            .map(|problem| problem.path.replace("spec.secrets", ""))
            .collect();
        assert_eq!(paths, expected);
    }

    #[rstest]
    #[case::whole(json!([entry("a", "openai", Value::Null)]), Some(SecretKeys::All))]
    #[case::keys(json!([entry("a", "openai", json!(["A"]))]), Some(SecretKeys::Only(BTreeSet::from(["A"]))))]
    #[case::keys_of_two_entries(json!([entry("a", "openai", json!(["A"])), entry("b", "openai", json!(["B"]))]), Some(SecretKeys::Only(BTreeSet::from(["A", "B"]))))]
    #[case::another(json!([entry("openai", "other", Value::Null)]), None)]
    #[case::empty_is_not_all(json!([entry("a", "openai", json!([]))]), None)]
    #[case::no_key(json!([entry("a", "openai", json!(["*"]))]), Some(SecretKeys::Only(BTreeSet::new())))]
    fn what_is_declared_is_what_may_be_taken(#[case] secrets: Value, #[case] expected: Option<SecretKeys<'_>>) {
        assert_eq!(declared_secret(&declaring(secrets), "openai"), expected);
    }

    #[test]
    fn a_name_that_is_none_is_nobodys() {
        assert_eq!(
            declared_secret(&declaring(json!([entry("a", "", Value::Null)])), ""),
            None
        );
        let workflow = workflow(json!({"identity": {"imagePullSecrets": [{"name": "registry"}, {"name": ""}]}}));
        assert_eq!(pull_secrets(&workflow).collect::<Vec<_>>(), ["registry"]);
        assert_eq!(
            declared_secret(&workflow, "registry"),
            None,
            "to pull by is not to read"
        );
    }
}
