//! The account: its name, and what makes it somebody in a cloud or at a registry.

use std::collections::{BTreeMap, BTreeSet};

use super::{Notes, Section, enumerated, group::Group, labels, workload::pull_secrets};
use crate::api::{Identity, SecretName};

/// Most annotations of one declaration.
const MAX_ANNOTATIONS: usize = 16;
/// Most pull secrets of one declaration.
const MAX_PULL_SECRETS: usize = 8;
/// Prefixes of annotations by which a cloud, or a vault, knows an account. Source: the vendors' documents.
const CLOUD: [&str; 5] = [
    "azure.workload.identity/",
    "cloud.google.com/",
    "eks.amazonaws.com/",
    "iam.gke.io/",
    "vault.hashicorp.com/",
];
/// Annotations that are somebody's book-keeping.
const BOOK_KEEPING: [&str; 2] = ["kubectl.kubernetes.io/", "ringfence.dev/"];

pub(super) fn identity(group: &Group<'_>, notes: &mut Notes) -> Identity {
    let mut annotations = BTreeMap::new();
    let mut others = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for account in group.accounts() {
        secrets.extend(pull_secrets(account, "/imagePullSecrets"));
        for (key, value) in labels(account, "/metadata/annotations") {
            if BOOK_KEEPING.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            if CLOUD.iter().any(|prefix| key.starts_with(prefix)) && annotations.len() < MAX_ANNOTATIONS {
                annotations.insert(key, value);
            } else {
                others.insert(key);
            }
        }
    }
    let unread = group
        .account
        .today
        .iter()
        .filter(|(_, account)| account.is_none())
        .map(|(name, _)| name.as_str());
    let unread = enumerated(unread);
    if !unread.is_empty() {
        notes.say(
            Section::Identity,
            format!("ServiceAccount {unread} was not seen: its annotations and pull secrets are not in here."),
        );
    }
    if !annotations.is_empty() {
        notes.say(
            Section::Identity,
            "In a cloud these annotations are rights: the class must allow each key in spec.identity.annotations.",
        );
    }
    if !others.is_empty() {
        notes.say(
            Section::Identity,
            format!(
                "Not declared: annotations {}.",
                enumerated(others.iter().map(String::as_str))
            ),
        );
    }
    let of_pods: BTreeSet<&str> = group
        .sources
        .iter()
        .flat_map(|source| pull_secrets(source.pod, "/spec/imagePullSecrets"))
        .collect();
    let alone: BTreeSet<&str> = of_pods.difference(&secrets).copied().collect();
    if !alone.is_empty() {
        notes.say(
            Section::Identity,
            format!(
                "Its pods name the pull secrets {} themselves, beside the account's.",
                enumerated(alone)
            ),
        );
    }
    if secrets.len() > MAX_PULL_SECRETS {
        notes.say(
            Section::Identity,
            format!(
                "Not declared, for {MAX_PULL_SECRETS} is the most: pull secrets {}.",
                enumerated(secrets.iter().skip(MAX_PULL_SECRETS).copied())
            ),
        );
    }
    Identity {
        service_account_name: Some(group.account.name.clone()),
        annotations,
        image_pull_secrets: secrets
            .into_iter()
            .take(MAX_PULL_SECRETS)
            .map(|name| SecretName { name: name.to_owned() })
            .collect(),
        audiences: Vec::new(),
    }
}
