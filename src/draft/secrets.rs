//! The Secrets that the pods refer to: by name, and by key as far as they take single keys.
//!
//! Must never: ask for what is in them, or declare a Secret whole of which only keys are taken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Notes, Section, enumerated, group::Group};
use crate::{
    api::{DeclaredSecret, SecretReference, is_dns_subdomain},
    fence::{Takes, each_secret},
    plan::is_secret_key,
};

/// Most entries of one declaration.
const MAX_ENTRIES: usize = 32;
/// Most keys of one entry.
const MAX_KEYS: usize = 16;
/// Longest name of an entry, in characters.
const MAX_NAME: usize = 63;

/// Keys that are taken of a Secret; `None` where all of it is.
type Keys<'a> = Option<BTreeSet<&'a str>>;

fn read<'a>(group: &'a Group<'_>) -> BTreeMap<&'a str, Keys<'a>> {
    let mut found: BTreeMap<&str, Keys<'_>> = BTreeMap::new();
    for source in &group.sources {
        each_secret("", source.pod, |reference| {
            let taken = match reference.takes {
                Takes::All => None,
                Takes::Keys(keys) => Some(keys),
                Takes::Login => return,
            };
            let keys = found.entry(reference.name).or_insert_with(|| Some(BTreeSet::new()));
            match taken {
                Some(taken) => keys.iter_mut().for_each(|keys| keys.extend(&taken)),
                None => *keys = None,
            }
        });
    }
    found
}

/// Names of the Secrets by which the pods themselves pull images.
pub(super) fn pulled_with<'a>(group: &'a Group<'_>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for source in &group.sources {
        each_secret("", source.pod, |reference| {
            if reference.takes == Takes::Login {
                names.insert(reference.name);
            }
        });
    }
    names
}

pub(super) fn secrets(group: &Group<'_>, notes: &mut Notes) -> Vec<DeclaredSecret> {
    let found = read(group);
    let mut names = BTreeSet::new();
    let mut declared = Vec::new();
    let mut left = BTreeSet::new();
    for (secret, keys) in &found {
        let can_be = is_dns_subdomain(secret) && keys.iter().flatten().all(|key| is_secret_key(key));
        let parts = parts(keys);
        if !can_be || declared.len() + parts.len() > MAX_ENTRIES {
            left.insert(*secret);
            continue;
        }
        declared.extend(parts.into_iter().map(|keys| DeclaredSecret {
            name: entry_name(secret, &mut names),
            secret_ref: SecretReference {
                name: (*secret).to_owned(),
                keys,
            },
            data: None,
        }));
    }
    if !left.is_empty() {
        let left = enumerated(left);
        notes.say(
            Section::Secrets,
            format!("Not declared, for names and keys must be such as can be, and {MAX_ENTRIES} entries are the most: Secrets {left}."),
        );
    }
    if declared.iter().any(|entry| entry.secret_ref.keys.is_none()) {
        notes.say(
            Section::Secrets,
            "Without keys an entry is the whole Secret, as its pods take it: by envFrom, a volume without items, or a driver.",
        );
    }
    if !declared.is_empty() {
        notes.say(
            Section::Secrets,
            "See that each is needed. What is in them was not asked for.",
        );
    }
    declared
}

/// The keys of each entry of one Secret.
fn parts(keys: &Keys<'_>) -> Vec<Option<Vec<String>>> {
    let Some(keys) = keys else { return vec![None] };
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    keys.chunks(MAX_KEYS).map(|keys| Some(keys.to_vec())).collect()
}

/// The name of the Secret, short enough for an entry, and such that no other entry has it.
fn entry_name(secret: &str, names: &mut BTreeSet<String>) -> String {
    let mut name: String = secret.chars().take(MAX_NAME).collect();
    // Ends: there are fewer entries than numbers.
    let mut number = 2;
    while names.contains(&name) {
        let suffix = format!("-{number}");
        name = secret.chars().take(MAX_NAME - suffix.len()).collect();
        name.push_str(&suffix);
        number += 1;
    }
    names.insert(name.clone());
    name
}
