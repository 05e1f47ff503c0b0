//! What was made of a declaration, part by part and by digest, for the status: who edits a declaration while nobody reviews it may edit what was
//! made of it as well, and then both say the same. Rules of Roles are in the status as they are, and are not told of here.
//!
//! Must never: hold what a part says, or more of them than its bound.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::object::REVISION_ANNOTATION;
use super::{Child, cilium, domains, kept, object::comparable};
use crate::api::{AIWorkflow, AIWorkflowGrant, MAX_GIVEN, OWNER_UID_ANNOTATION, PolicyRule};
use crate::egress;

/// Bytes of a digest.
const LENGTH: usize = 16;

/// What was given, as the status has it. Where that has no record nothing was, whatever stands: somebody may have made it with the declaration,
/// and a declaration that was reviewed before anything was made of it has none either.
pub(super) struct Record<'a>(BTreeSet<&'a str>);

impl<'a> Record<'a> {
    fn new(given: Option<&'a [String]>) -> Self {
        Self(given.unwrap_or_default().iter().map(String::as_str).collect())
    }

    pub(super) fn of(workflow: &'a AIWorkflow) -> Self {
        Self::new(workflow.status.as_ref().and_then(|status| status.given.as_deref()))
    }

    pub(super) fn of_grant(grant: &'a AIWorkflowGrant) -> Self {
        Self::new(grant.status.as_ref().and_then(|status| status.given.as_deref()))
    }

    /// Whether that part of an object was given.
    pub(super) fn holds(&self, of: (Child, &str), part: &str, element: &Value) -> bool {
        self.0.contains(digest_of(of, part, element).as_str())
    }
}

/// The record of objects that are made. What is beyond the bound counts as not given.
pub(super) fn of(desired: &BTreeMap<(Child, String), Value>, word: &kept::Word) -> Vec<String> {
    let mut given = BTreeSet::new();
    for ((child, name), object) in desired {
        let of = (*child, name.as_str());
        for part in kept::lists(*child) {
            let list = object.pointer(part).and_then(Value::as_array);
            let declared = list
                .into_iter()
                .flatten()
                .filter(|element| kept::is_declared(*child, element, word));
            for element in declared.map(comparable) {
                let declared = kept::as_declared((*child, part), &element, word);
                given.extend(declared.map(|declared| digest_of(of, part, &declared)));
                given.insert(digest_of(of, part, &element));
            }
        }
        if *child == Child::CiliumNetworkPolicy {
            given.extend(cilium::asked(object).map(|asked| digest_of(of, cilium::DNS_NAMES, asked)));
        }
        let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
        for (key, value) in annotations.into_iter().flatten() {
            match key.as_str() {
                OWNER_UID_ANNOTATION | REVISION_ANNOTATION => {}
                egress::ANNOTATION => {
                    let rules = domains::rules_of(value.as_str().unwrap_or_default());
                    given.extend(rules.iter().map(|rule| digest_of(of, egress::ANNOTATION, rule)));
                }
                key => drop(given.insert(digest_of(of, key, value))),
            }
        }
    }
    given.into_iter().take(MAX_GIVEN).collect()
}

/// The record of rules that a workflow is given by a Role of that name.
pub(super) fn of_role<'a>(
    role: &str,
    account: &str,
    rules: &'a [PolicyRule],
) -> impl Iterator<Item = String> + use<'a> {
    let (role, account) = (role.to_owned(), account.to_owned());
    rules
        .iter()
        .map(move |rule| digest_of((Child::Role, &role), &account, &json!(rule)))
}

fn digest_of((child, name): (Child, &str), part: &str, element: &Value) -> String {
    digest(&json!([child.kind(), name, part, element]))
}

pub(super) fn digest(whole: &Value) -> String {
    let bytes = Sha256::digest(whole.to_string());
    bytes.iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
}
