//! What the pods themselves say: images, and the engine that they are of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Notes, Section, enumerated, group::Group, list, text};
use crate::{
    images::repository,
    plan::{self, Profile},
};

/// Most patterns of one declaration.
const MAX_IMAGES: usize = 64;
/// Stands where no image can be declared, because none would be invalid and any would be all. Nobody can be it (RFC 2606).
const NO_IMAGE: &str = "registry.invalid/name-the-image";

/// Repositories of every container, in full, neither tag nor digest.
pub(super) fn images(group: &Group<'_>, notes: &mut Notes) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut refused: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
    for source in &group.sources {
        for container in source.containers() {
            let image = text(container, "/image");
            match repository(image) {
                Ok(repository) => {
                    found.insert(repository);
                }
                Err(why) => {
                    refused.entry(why).or_default().insert(image);
                }
            }
        }
    }
    for (why, images) in refused {
        let images = enumerated(
            images
                .into_iter()
                .map(|image| if image.is_empty() { "(none)" } else { image }),
        );
        notes.say(Section::Images, format!("Not declared: {images}: {why}."));
    }
    if found.len() > MAX_IMAGES {
        let rest = found.iter().skip(MAX_IMAGES).map(String::as_str);
        notes.say(
            Section::Images,
            format!(
                "Not declared, for {MAX_IMAGES} is the most: {}. Use a pattern such as registry.example.com/team/*.",
                enumerated(rest)
            ),
        );
    }
    if found.is_empty() {
        notes.say(
            Section::Images,
            "No image could be read: name the repositories in place of this one.",
        );
        return vec![NO_IMAGE.to_owned()];
    }
    found.into_iter().take(MAX_IMAGES).collect()
}

/// The engine that the pods look like; `None` for one that nobody knows.
pub(super) fn engine(group: &Group<'_>, notes: &mut Notes) -> Option<&'static Profile> {
    let by_label = |profile: &&'static Profile| sign(profile, group).is_some();
    let by_owner = |profile: &&'static Profile| {
        let owners = &profile.recognised.owners;
        !owners.is_empty() && group.sources.iter().all(|source| owners.contains(&source.top.0))
    };
    let profiles = plan::shipped();
    let (profile, why) = match profiles.iter().find(by_label) {
        Some(profile) => (profile, format!("the label {}", sign(profile, group)?)),
        None => (profiles.iter().find(by_owner)?, "what is above its pods".to_owned()),
    };
    notes.say(
        Section::Engine,
        format!(
            "Guessed from {why}: {}. Leave it out where that is wrong.",
            profile.description
        ),
    );
    if !profile.worker.is_empty() || !profile.launcher.is_empty() {
        notes.say(
            Section::Engine,
            format!(
                "It brings rights along, which the platform's ceiling must hold: the chart's ceiling.engines={{{}}}.",
                profile.name
            ),
        );
    }
    Some(profile)
}

/// The label by which an engine shows.
fn sign<'a>(profile: &'a Profile, group: &Group<'_>) -> Option<&'a str> {
    let shows = |wanted: &&String| {
        let (key, value) = match wanted.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (wanted.as_str(), None),
        };
        group.sources.iter().any(|source| {
            source
                .labels
                .get(key)
                .is_some_and(|found| value.is_none_or(|value| value == found))
        })
    };
    profile.recognised.labels.iter().find(shows).map(String::as_str)
}

/// Names in a list of references.
pub(super) fn pull_secrets<'a>(object: &'a Value, pointer: &'a str) -> impl Iterator<Item = &'a str> {
    list(object, pointer)
        .map(|reference| text(reference, "/name"))
        .filter(|name| !name.is_empty())
}
