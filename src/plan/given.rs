//! What was made of a declaration, part by part and by digest, for the status: who edits a declaration while nobody reviews it may edit what was
//! made of it as well, and then both say the same. Rules of Roles are in the status as they are, and are not told of here.
//!
//! Must never: hold what a part says, or more of them than its bound.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::object::REVISION_ANNOTATION;
use super::{Child, cilium, domains, kept, object::comparable};
use crate::api::{AIWorkflow, AIWorkflowGrant, AIWorkflowStatus, MAX_GIVEN, OWNER_UID_ANNOTATION, PolicyRule};
use crate::egress;

/// Bytes of a digest.
const LENGTH: usize = 16;

/// What was given, as the status has it. `None`: by a Ringfence that kept no record of it.
pub(super) struct Record<'a>(Option<BTreeSet<&'a str>>);

impl<'a> Record<'a> {
    fn new(given: Option<&'a [String]>) -> Self {
        Self(given.map(|given| given.iter().map(String::as_str).collect()))
    }

    /// That of a workflow. Where there is none and nobody has reviewed it yet, nothing was given, whatever was made with it.
    pub(super) fn of(workflow: &'a AIWorkflow) -> Self {
        let is_known = |status: &&AIWorkflowStatus| status.given.is_some() || status.reviewed.is_some();
        let status = workflow.status.as_ref().filter(is_known);
        Self::new(status.map_or(Some(&[]), |status| status.given.as_deref()))
    }

    /// That of a grant. One that has none has given nothing, whatever was made with it.
    pub(super) fn of_grant(grant: &'a AIWorkflowGrant) -> Self {
        let given = grant.status.as_ref().and_then(|status| status.given.as_deref());
        Self::new(Some(given.unwrap_or_default()))
    }

    /// Whether that part of an object was given.
    pub(super) fn holds(&self, of: (Child, &str), part: &str, element: &Value) -> bool {
        self.0
            .as_ref()
            .is_none_or(|given| given.contains(digest(of, part, element).as_str()))
    }
}

/// The record of objects that are made. What is beyond the bound counts as not given.
pub(super) fn of(desired: &BTreeMap<(Child, String), Value>, word: &kept::Word<'_>) -> Vec<String> {
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
                given.extend(declared.map(|declared| digest(of, part, &declared)));
                given.insert(digest(of, part, &element));
            }
        }
        if *child == Child::CiliumNetworkPolicy {
            given.extend(cilium::asked(object).map(|asked| digest(of, cilium::DNS_NAMES, asked)));
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

/// The record of rules that a workflow is given by a Role of that name.
pub(super) fn of_role<'a>(
    role: &str,
    account: &str,
    rules: &'a [PolicyRule],
) -> impl Iterator<Item = String> + use<'a> {
    let (role, account) = (role.to_owned(), account.to_owned());
    rules
        .iter()
        .map(move |rule| digest((Child::Role, &role), &account, &json!(rule)))
}

fn digest((child, name): (Child, &str), part: &str, element: &Value) -> String {
    let whole = json!([child.kind(), name, part, element]).to_string();
    let bytes = Sha256::digest(whole);
    bytes.iter().take(LENGTH).map(|byte| format!("{byte:02x}")).collect()
}
