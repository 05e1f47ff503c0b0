//! Who owns what of an object, as the API server keeps it (`managedFields`): what one applies and no more names goes only where nobody else
//! owns it, and tools take over by name what others wrote, or leave it alone.
//!
//! Must never: count who wrote a field for another, because a part of the entry cannot be read.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::bookkeeping::is_kept_by_a_tool;
use super::update::{FREE_FIELDS, goes_on, is_switch};

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
    let (mut before, now) = (owners(old, &counted), owners(new, &counted));
    let writers = entries(old).filter(|entry| !Owner::of(entry).has_applied()).count();
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

fn entries(object: &Value) -> impl Iterator<Item = &Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten()
}

/// Who owns what of an object.
fn owners<'a>(object: &'a Value, counted: &impl Fn(&mut Value)) -> BTreeMap<Owner<'a>, Value> {
    let mut owners = BTreeMap::new();
    for entry in entries(object) {
        let mut fields = entry.get("fieldsV1").cloned().unwrap_or_default();
        only(&mut fields, &|field| {
            ["f:metadata", "f:spec", "f:template"].contains(&field)
        });
        within(&mut fields, &["f:metadata"], &|metadata| {
            only(metadata, &|field| ["f:annotations", "f:labels"].contains(&field));
        });
        counted(&mut fields);
        if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
            let owned = owners.entry(Owner::of(entry));
            merge(owned.or_insert_with(|| Value::Object(Map::new())), &fields);
        }
    }
    owners
}

/// Leaves out what anybody may change of a workload: its notes, how much of it runs, and that a rollout goes on.
fn of_a_workload(fields: &mut Value, new: &Value) {
    let is_decided = |field: &str| {
        let name = field.strip_prefix("f:").unwrap_or(field);
        !(FREE_FIELDS.contains(&name) || name == "paused" && goes_on(new))
    };
    within(fields, &["f:metadata", "f:annotations"], &|annotations| {
        only(annotations, &|field| {
            field.strip_prefix("f:").is_some_and(is_kept_by_a_tool)
        });
    });
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
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::bookkeeping::{RECORD, changed};
    use super::*;
    use crate::review::Review;

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn managed(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    /// A review keeps of that record what is compared here, and nothing else: the one list must not forget what the other names.
    #[rstest]
    fn a_review_keeps_all_that_is_compared(
        #[values(
            &["f:spec", "f:template"],
            &["f:spec", "f:jobTemplate", "f:metadata"],
            &["f:spec", "f:jobTemplate", "f:spec", "f:template"],
            &["f:spec", "f:updateStrategy", "f:rollingUpdate"],
            &["f:template"],
            &["f:metadata", "f:labels"],
            &["f:metadata", "f:annotations"],
        )]
        path: &[&str],
    ) {
        let fields = |of: &str| {
            let path = path.iter().rev();
            path.fold(json!({of: {}}), |inner, key| json!({*key: inner}))
        };
        let request = json!({
            "uid": "u", "operation": "UPDATE", "userInfo": {},
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "oldObject": managed(&[entry("lea", "Apply", &fields("f:helm.sh/a"))]),
            "object": managed(&[entry("lea", "Apply", &fields("f:helm.sh/b"))]),
        });
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let review = Review::parse(review.to_string().as_bytes()).expect("a review");
        let (old, new) = (review.old_object().expect("old"), review.object().expect("new"));
        assert_eq!(changed(old, new), Some("metadata.managedFields"));
    }

    #[test]
    fn who_owns_the_template_stays() {
        let template =
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}}}});
        let env =
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:env": {}}}}}}});
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let lea = entry("lea", "Apply", &template);
        let old = managed(std::slice::from_ref(&lea));
        for new in [
            vec![lea.clone(), entry("tess", "Apply", &template)],
            vec![lea.clone(), entry("tess", "Update", &template)],
            vec![entry("tess", "Apply", &template)],
            vec![entry("lea", "Apply", &env)],
            vec![entry("lea", "Update", &template)],
            vec![],
        ] {
            assert_eq!(changed(&old, &managed(&new)), Some("metadata.managedFields"), "{new:?}");
            assert_eq!(changed(&managed(&new), &old), Some("metadata.managedFields"), "{new:?}");
        }
        let mut later = lea.clone();
        later["time"] = json!("2026-01-01T00:00:00Z");
        let scaled = managed(&[
            later,
            entry("tess", "Update", &replicas),
            entry("hpa", "Apply", &replicas),
        ]);
        assert_eq!(changed(&old, &scaled), None);
        for (below, expected) in [
            (json!({"f:spec": {"f:template": {}}}), Some("metadata.managedFields")),
            (json!({"f:metadata": {"f:labels": {}}}), Some("metadata.managedFields")),
            (
                json!({"f:spec": {"f:backoffLimit": {}}}),
                Some("metadata.managedFields"),
            ),
            (json!({"f:spec": {"f:parallelism": {}}}), None),
        ] {
            let cron = entry("tess", "Apply", &json!({"f:spec": {"f:jobTemplate": below}}));
            assert_eq!(changed(&managed(&[]), &managed(&[cron])), expected);
        }
        // A stored template without a spec.
        let stored = json!({"f:template": {"f:spec": {}}});
        assert_eq!(
            changed(&managed(&[]), &managed(&[entry("tess", "Apply", &stored)])),
            Some("metadata.managedFields")
        );
    }

    /// By its name tools know what they wrote before, and by the name of another what they leave alone.
    #[rstest]
    #[case::under_another_name(&[("kube-controller-manager", "", "a/v1", "f:image f:env")])]
    #[case::by_another_door(&[("kubectl", "status", "a/v1", "f:image f:env")])]
    #[case::of_another_version(&[("kubectl", "", "a/v2", "f:image f:env")])]
    #[case::in_two(&[("kubectl", "", "a/v1", "f:image"), ("x", "", "a/v1", "f:env")])]
    #[case::shared(&[("kubectl", "", "a/v1", "f:image f:env"), ("x", "", "a/v1", "f:env")])]
    #[case::of_a_name_with_a_blank(&[(" kubectl", "", "a/v1", "f:image f:env")])]
    #[case::as_one_of_the_oldest(&[("ancient-changes", "", "a/v1", "f:image f:env")])]
    fn who_wrote_the_template_stays(
        #[case] new: &[(&str, &str, &str, &str)],
        #[values("Apply", "Update")] operation: &str,
    ) {
        let old = managed(&[written(operation, ("kubectl", "", "a/v1", "f:image f:env"))]);
        let new: Vec<_> = new.iter().map(|one| written(operation, *one)).collect();
        assert_eq!(changed(&old, &managed(&new)), Some(RECORD));
        assert_eq!(changed(&managed(&new), &old), Some(RECORD));
        assert!(is_shared(&old, &managed(&new)));
    }

    fn written(operation: &str, of: (&str, &str, &str, &str)) -> Value {
        let (manager, subresource, version, fields) = of;
        let fields: Map<_, _> = fields
            .split_whitespace()
            .map(|field| (field.to_owned(), json!({})))
            .collect();
        let mut entry = entry(manager, operation, &json!({"f:spec": {"f:template": fields}}));
        entry["subresource"] = json!(subresource);
        entry["apiVersion"] = json!(version);
        entry
    }

    /// The API server puts the oldest writers into one entry for each version, when there are more than ten.
    #[rstest]
    #[case::the_oldest(10, &[("ancient-changes", "a/v1", "f:image f:env")], true)]
    #[case::too_few(9, &[("ancient-changes", "a/v1", "f:image f:env")], false)]
    #[case::one_of_them(10, &[("helm", "a/v1", "f:image"), ("ancient-changes", "a/v1", "f:env")], true)]
    #[case::more_than_they_owned(10, &[("ancient-changes", "a/v1", "f:image f:env f:x")], false)]
    #[case::less_than_they_owned(10, &[("ancient-changes", "a/v1", "f:image")], false)]
    #[case::a_part_of_one(10, &[("helm", "a/v1", ""), ("kubectl", "a/v1", "f:env"), ("ancient-changes", "a/v1", "f:image f:env")], false)]
    #[case::of_another_version(10, &[("ancient-changes", "a/v2", "f:image f:env")], false)]
    #[case::under_another_name(10, &[("x", "a/v1", "f:image f:env")], false)]
    fn the_oldest_writers_come_into_one_entry(
        #[case] writers: usize,
        #[case] new: &[(&str, &str, &str)],
        #[case] expected: bool,
    ) {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let others = |from: usize| (from..writers).map(|one| entry(&format!("scales-{one}"), "Update", &replicas));
        let mut old = vec![
            written("Update", ("helm", "", "a/v1", "f:image")),
            written("Update", ("kubectl", "scale", "a/v1", "f:env")),
        ];
        old.extend(others(2));
        let new = new
            .iter()
            .map(|(manager, version, fields)| written("Update", (manager, "", version, fields)));
        let new: Vec<_> = new.chain(others(2)).collect();
        let changed = changed(&managed(&old), &managed(&new));
        assert_eq!(changed, (!expected).then_some(RECORD));
    }

    /// What two own stays when one leaves it out.
    #[rstest]
    #[case::partition(json!({"f:spec": {"f:updateStrategy": {"f:rollingUpdate": {"f:partition": {}}}}}), true)]
    #[case::slower(json!({"f:spec": {"f:minReadySeconds": {}}}), true)]
    #[case::newer_field(json!({"f:spec": {"f:newerThanUs": {}}}), true)]
    #[case::job_of_a_schedule(json!({"f:spec": {"f:jobTemplate": {"f:spec": {"f:activeDeadlineSeconds": {}}}}}), true)]
    #[case::kept_by_helm(json!({"f:metadata": {"f:annotations": {"f:helm.sh/resource-policy": {}}}}), true)]
    #[case::label(json!({"f:metadata": {"f:labels": {"f:team": {}}}}), true)]
    #[case::all_of_it(json!({"f:spec": {}}), true)]
    #[case::how_many(json!({"f:spec": {"f:replicas": {}, "f:suspend": {}}}), false)]
    #[case::at_once(json!({"f:spec": {"f:jobTemplate": {"f:spec": {"f:parallelism": {}}}}}), false)]
    #[case::note(json!({"f:metadata": {"f:annotations": {".": {}, "f:example.com/note": {}}}}), false)]
    #[case::finalizer(json!({"f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}}}), false)]
    #[case::status(json!({"f:status": {"f:replicas": {}}}), false)]
    fn who_owns_what_is_withdrawn_by_leaving_it_out_stays(#[case] fields: Value, #[case] counts: bool) {
        let lea = entry("lea", "Apply", &fields);
        for operation in ["Apply", "Update"] {
            let tess = entry("tess", operation, &fields);
            let with = managed(&[lea.clone(), tess]);
            let (old, expected) = (managed(std::slice::from_ref(&lea)), counts.then_some(RECORD));
            assert_eq!(changed(&old, &with), expected);
            assert_eq!(changed(&with, &old), expected);
        }
        assert_eq!(
            changed(&managed(&[lea]), &managed(&[])),
            counts.then_some(RECORD),
            "cut"
        );
    }

    /// To let a rollout go on is anybody's.
    #[test]
    fn who_owns_a_pause_stays_while_it_lasts() {
        let paused = |paused: bool, entries: &[Value]| {
            let mut object = managed(entries);
            object["spec"] = json!({"paused": paused});
            object
        };
        let of = |manager: &str| entry(manager, "Apply", &json!({"f:spec": {"f:paused": {}}}));
        let old = paused(true, &[of("lea")]);
        assert_eq!(changed(&old, &paused(true, &[of("lea"), of("tess")])), Some(RECORD));
        assert_eq!(changed(&old, &paused(false, &[of("tess")])), None);
    }

    #[rstest]
    #[case::image(json!({"f:spec": {"f:image": {}}}), true)]
    #[case::note(json!({"f:metadata": {"f:annotations": {"f:note": {}}}}), true)]
    #[case::paused(json!({"f:spec": {"f:paused": {}}}), false)]
    #[case::status(json!({"f:status": {"f:phase": {}}}), false)]
    fn who_owns_an_operators_object_stays(#[case] fields: Value, #[case] counts: bool) {
        let lea = entry("lea", "Apply", &fields);
        let with = managed(&[lea.clone(), entry("tess", "Apply", &fields)]);
        assert_eq!(is_shared(&managed(&[lea]), &with), counts);
    }

    /// A pause that two have applied stays when one of them takes it back.
    #[test]
    fn who_owns_a_pause_of_an_operators_object_stays_while_it_is_one() {
        let of = |paused: bool, managers: &[&str]| {
            let owned = |manager: &&str| entry(manager, "Apply", &json!({"f:spec": {"f:paused": {}}}));
            let mut object = managed(&managers.iter().map(owned).collect::<Vec<_>>());
            object["spec"] = json!({"paused": paused});
            object
        };
        assert!(is_shared(&of(true, &["lea"]), &of(true, &["lea", "tess"])));
        assert!(!is_shared(&of(true, &["lea"]), &of(false, &["lea", "tess"])));
    }
}
