//! The account: its name, and what makes it somebody in a cloud or at a registry.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Notes, Section, enumerated, group::Group, labels, list, text, workload::pull_secrets};
use crate::api::{Audience, Identity, SecretName};

/// Most annotations of one declaration.
const MAX_ANNOTATIONS: usize = 16;
/// Most audiences of one declaration.
const MAX_AUDIENCES: usize = 8;
/// Shortest and longest life of a token that may be declared, in seconds.
const TOKEN_SECONDS: (i64, i64) = (600, 86_400);
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

/// What keeps an account from being adopted, beside annotations and pull secrets.
fn obstacles(group: &Group<'_>, notes: &mut Notes) {
    if !group.account.exists {
        return;
    }
    for account in group.accounts() {
        let tokens = enumerated(pull_secrets(account, "/secrets"));
        if !tokens.is_empty() {
            notes.say(
                Section::Identity,
                format!("The account lists the Secrets {tokens}: tokens without an end. Delete them, or it cannot be adopted."),
            );
        }
        for field in ["finalizers", "ownerReferences"] {
            if list(account, &format!("/metadata/{field}")).next().is_some() {
                notes.say(
                    Section::Identity,
                    format!("The account has {field}: whoever set them must let go of it, or it cannot be adopted."),
                );
            }
        }
    }
}

/// Whom the mounted tokens are for, the API server aside.
fn audiences(group: &Group<'_>, notes: &mut Notes) -> Vec<Audience> {
    let mut found: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for source in &group.sources {
        let volumes = list(source.pod, "/spec/volumes");
        for token in volumes
            .flat_map(|volume| list(volume, "/projected/sources"))
            .filter_map(|source| source.get("serviceAccountToken"))
        {
            let audience = text(token, "/audience");
            if !audience.is_empty() {
                let seconds = token.get("expirationSeconds").and_then(Value::as_i64);
                let longest = found.entry(audience).or_default();
                *longest = (*longest).max(seconds);
            }
        }
    }
    if !found.is_empty() {
        notes.say(
            Section::Identity,
            "The class must allow each audience in spec.identity.audiences.",
        );
    }
    if found.len() > MAX_AUDIENCES {
        notes.say(
            Section::Identity,
            format!(
                "Not declared, for {MAX_AUDIENCES} is the most: audiences {}.",
                enumerated(found.keys().skip(MAX_AUDIENCES).copied())
            ),
        );
    }
    let declared = |(audience, seconds): (&str, Option<i64>)| Audience {
        audience: audience.to_owned(),
        max_expiration_seconds: seconds.map(|seconds| seconds.clamp(TOKEN_SECONDS.0, TOKEN_SECONDS.1)),
    };
    found.into_iter().take(MAX_AUDIENCES).map(declared).collect()
}

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
        let others = enumerated(others.iter().map(String::as_str));
        notes.say(
            Section::Identity,
            format!("Not declared: annotations {others}. Declare them or take them off the account, or it cannot be adopted."),
        );
    }
    obstacles(group, notes);
    let alone: BTreeSet<&str> = super::secrets::pulled_with(group)
        .difference(&secrets)
        .copied()
        .collect();
    if !alone.is_empty() && group.account.exists {
        notes.say(
            Section::Identity,
            format!(
                "Its pods name the pull secrets {} themselves. Put them into imagePullSecrets of the account too, or it cannot be adopted.",
                enumerated(alone.iter().copied())
            ),
        );
    }
    secrets.extend(alone);
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
        audiences: audiences(group, notes),
        annotations,
        image_pull_secrets: secrets
            .into_iter()
            .take(MAX_PULL_SECRETS)
            .map(|name| SecretName { name: name.to_owned() })
            .collect(),
    }
}
