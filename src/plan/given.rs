//! What was made of a declaration, part by part and by digest, for the status: who edits a declaration while nobody reviews it may edit what was
//! made of it as well, and then both say the same. Rules of Roles are in the status as they are, and are not told of here.
//!
//! Must never: hold what a part says, or more of them than its bound.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::object::REVISION_ANNOTATION;
use super::{Child, domains, kept};
use crate::api::{MAX_GIVEN, OWNER_UID_ANNOTATION};
use crate::egress;

/// Bytes of a digest.
const LENGTH: usize = 16;

/// What was given, as the status has it. `None`: by a Ringfence that kept no record of it.
pub(super) struct Record<'a>(Option<BTreeSet<&'a str>>);

impl<'a> Record<'a> {
    pub(super) fn new(given: Option<&'a [String]>) -> Self {
        Self(given.map(|given| given.iter().map(String::as_str).collect()))
    }

    /// Whether that part of an object was given.
    pub(super) fn holds(&self, of: (Child, &str), part: &str, element: &Value) -> bool {
        self.0
            .as_ref()
            .is_none_or(|given| given.contains(digest(of, part, element).as_str()))
    }
}

/// The record of objects that are made. `dns` is the rule that opens the cluster's DNS. What is beyond the bound counts as not given.
pub(super) fn of(desired: &BTreeMap<(Child, String), Value>, dns: Option<&Value>) -> Vec<String> {
    let mut given = BTreeSet::new();
    for ((child, name), object) in desired {
        let of = (*child, name.as_str());
        for part in kept::lists(*child) {
            let list = object.pointer(part).and_then(Value::as_array);
            let read = list
                .into_iter()
                .flatten()
                .filter_map(|element| kept::read(*child, element, dns));
            given.extend(read.map(|element| digest(of, part, &element)));
        }
        let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
        for (key, value) in annotations.into_iter().flatten() {
            match key.as_str() {
                OWNER_UID_ANNOTATION | REVISION_ANNOTATION => {}
                egress::ANNOTATION => {
                    let rules = domains::rules_of(value.as_str().unwrap_or_default());
                    given.extend(rules.iter().map(|rule| digest(of, egress::ANNOTATION, rule)));
                }
                key => drop(given.insert(digest(of, key, value))),
            }
        }
    }
    given.into_iter().take(MAX_GIVEN).collect()
}

fn digest((child, name): (Child, &str), part: &str, element: &Value) -> String {
    let whole = json!([child.kind(), name, part, element]).to_string();
    let bytes = Sha256::digest(whole);
    bytes.iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
}
