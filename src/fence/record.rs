//! Who owns what of an object, as the API server keeps it (`managedFields`): what one applies and no more names goes only where nobody else
//! owns it, and tools take over by name what others wrote, or leave it alone.
//!
//! Must never: count who wrote a field for another, because a part of the entry cannot be read.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::bookkeeping::is_kept_by_a_tool;
use super::update::{FREE_FIELDS, FREE_POD_FIELDS, RESIZABLE, goes_on, is_switch, list};

/// By what of its metadata a launcher ends something, or a tool of hers finds it. A review keeps no more.
const METADATA: [&str; 3] = ["f:annotations", "f:finalizers", "f:labels"];
/// How many who wrote otherwise than by applying the API server tells apart.
const WRITERS: usize = 10;

/// Whether somebody else owns what a workload says that counts, or nobody any more.
pub(super) fn is_shared_of_a_workload(old: &Value, new: &Value) -> bool {
    !owned_alike(old, new, |fields| of_a_workload(fields, new))
}

/// Whether somebody else owns what an object of an operator's kind says, or nobody any more.
pub(super) fn is_shared(old: &Value, new: &Value) -> bool {
    !owned_alike(old, new, |fields| of_a_custom_kind(fields, new))
}

/// The same of a pod that nothing controls: what a tool applied.
pub(super) fn is_shared_of_a_pod(old: &Value, new: &Value) -> bool {
    !owned_alike(old, new, of_a_pod)
}

/// Who owns some of an object, as the API server tells them apart.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Owner<'a> {
    operation: &'a str,
    manager: &'a str,
    subresource: &'a str,
    version: &'a str,
}

impl<'a> Owner<'a> {
    fn of(entry: &'a Value) -> Self {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        Self {
            operation: text("operation"),
            manager: text("manager"),
            subresource: text("subresource"),
            version: text("apiVersion"),
        }
    }

    fn has_applied(&self) -> bool {
        self.operation == "Apply"
    }

    /// What owns all that the oldest of those owned who wrote it otherwise than by applying it.
    fn of_the_oldest(&self) -> Self {
        Self {
            manager: "ancient-changes",
            subresource: "",
            ..self.clone()
        }
    }
}

/// Whether everybody owns what they owned before, as far as it counts. The API server itself puts the oldest of too many into one entry, whole.
fn owned_alike(old: &Value, new: &Value, counted: impl Fn(&mut Value)) -> bool {
    let finalizers: HashSet<_> = list(new, "finalizers").iter().collect();
    let counted = |fields: &mut Value| {
        of_metadata(fields, &finalizers);
        counted(fields);
    };
    let (mut before, now) = (owners(old, &counted), owners(new, &counted));
    let entries = list(old, "managedFields").iter();
    let writers = entries.filter(|entry| !Owner::of(entry).has_applied()).count();
    if before != now && writers >= WRITERS {
        let gone: Vec<_> = before
            .keys()
            .filter(|owner| !now.contains_key(owner))
            .cloned()
            .collect();
        for owner in gone.into_iter().filter(|owner| !owner.has_applied()) {
            let fields = before.remove(&owner).unwrap_or_default();
            let oldest = before.entry(owner.of_the_oldest());
            merge(oldest.or_insert_with(|| Value::Object(Map::new())), &fields);
        }
    }
    before == now
}

/// Who owns what of an object.
fn owners<'a>(object: &'a Value, counted: &impl Fn(&mut Value)) -> BTreeMap<Owner<'a>, Value> {
    let mut owners = BTreeMap::new();
    for entry in list(object, "managedFields") {
        let mut fields = entry.get("fieldsV1").cloned().unwrap_or_default();
        only(&mut fields, &|field| {
            ["f:metadata", "f:spec", "f:template"].contains(&field)
        });
        counted(&mut fields);
        if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
            let owned = owners.entry(Owner::of(entry));
            merge(owned.or_insert_with(|| Value::Object(Map::new())), &fields);
        }
    }
    owners
}

/// What of the metadata is a launcher's, of finalizers those that are there still: to take one off is anybody's.
fn of_metadata(fields: &mut Value, finalizers: &HashSet<&Value>) {
    let named = |field: &str| serde_json::from_str::<Value>(field.strip_prefix("v:")?).ok();
    let stays = |field: &str| named(field).is_some_and(|name| finalizers.contains(&name));
    within(fields, &["f:metadata"], &|metadata| {
        only(metadata, &|field| METADATA.contains(&field));
        // Of a list that says something twice, it is not told apart who owns what.
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.retain(|_, owned| owned != &Value::Object(Map::new()));
        }
    });
    within(fields, &["f:metadata", "f:finalizers"], &|finalizers| {
        only(finalizers, &stays);
    });
    // A review keeps the name of what it steps over.
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|field, below| field != "f:metadata" || below != &Value::Object(Map::new()));
    }
}

/// Leaves out what anybody may change of a pod: its notes, how long it runs, where it may run, what it may use, and what debugs it.
fn of_a_pod(fields: &mut Value) {
    of_tools(fields);
    within(fields, &["f:spec"], &|spec| {
        only(spec, &|field| {
            field
                .strip_prefix("f:")
                .is_none_or(|name| !FREE_POD_FIELDS.contains(&name) && name != "ephemeralContainers")
        });
    });
    for list in RESIZABLE {
        let list = format!("f:{list}");
        within(fields, &["f:spec", &list], &|containers| {
            // Who only resizes one owns nothing else of it.
            if let Some(containers) = containers.as_object_mut() {
                containers.retain(|_, owned| !owned.as_object().is_some_and(|owned| owned.keys().eq(["f:resources"])));
            }
            each(containers, &|container| {
                only(container, &|field| field != "f:resources")
            });
        });
    }
}

/// Leaves out annotations by which no tool goes.
fn of_tools(fields: &mut Value) {
    within(fields, &["f:metadata", "f:annotations"], &|annotations| {
        only(annotations, &|field| {
            field.strip_prefix("f:").is_some_and(is_kept_by_a_tool)
        });
    });
}

/// Leaves out what anybody may change of a workload: its notes, how much of it runs, and that a rollout goes on.
fn of_a_workload(fields: &mut Value, new: &Value) {
    let is_decided = |field: &str| {
        let name = field.strip_prefix("f:").unwrap_or(field);
        !(FREE_FIELDS.contains(&name) || name == "paused" && goes_on(new))
    };
    of_tools(fields);
    within(fields, &["f:spec", "f:jobTemplate", "f:spec"], &|job| {
        only(job, &is_decided)
    });
    within(fields, &["f:spec"], &|spec| only(spec, &is_decided));
}

/// The same of an operator's object.
fn of_a_custom_kind(fields: &mut Value, new: &Value) {
    let goes_on = goes_on(new);
    within(fields, &["f:spec"], &|spec| {
        only(spec, &|field| {
            field.strip_prefix("f:").is_none_or(|name| !is_switch(name, goes_on))
        });
    });
}

/// Changes what lies at a path. What is empty by it is not there: who writes a field that does not count owns what is around it, too.
fn within(fields: &mut Value, path: &[&str], change: &dyn Fn(&mut Value)) {
    let Some((first, rest)) = path.split_first() else {
        return change(fields);
    };
    let Some(below) = fields
        .get_mut(first)
        .filter(|below| below != &&Value::Object(Map::new()))
    else {
        return;
    };
    within(below, rest, change);
    if below.as_object().is_some_and(Map::is_empty)
        && let Some(fields) = fields.as_object_mut()
    {
        fields.remove(*first);
    }
}

/// Changes each of what lies there; what is empty by it stays, as who owns an item of a list owns that it is one.
fn each(fields: &mut Value, change: &dyn Fn(&mut Value)) {
    fields
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(change);
}

fn only(fields: &mut Value, is_kept: &dyn Fn(&str) -> bool) {
    if let Some(fields) = fields.as_object_mut() {
        // The mark for a map itself comes and goes with who writes the first field in it.
        fields.retain(|field, _| field != "." && is_kept(field));
    }
}

/// Adds fields to those that are owned. The API server bounds how deep both are.
fn merge(owned: &mut Value, fields: &Value) {
    let Some(fields) = fields.as_object() else {
        return;
    };
    for (key, below) in fields {
        if let Some(owned) = owned.as_object_mut() {
            merge(owned.entry(key).or_insert_with(|| Value::Object(Map::new())), below);
        }
    }
}

#[cfg(test)]
mod tests;
