//! What launchers' tools keep on a workload beside its spec, by which they decide later what to change and what to delete: Helm, Argo CD, Flux,
//! kapp, `kubectl apply`, the Deployment controller, and the API server's own record of who applied what. Labels count all: any may be what a
//! tool selects by.
//!
//! Must never: take a record for unchanged because a part of it cannot be read; or hold a controller to what it keeps itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::object::{LABEL_PATH, workflow_label};
use super::update::{FREE_FIELDS, TAKES_UP, goes_on, is_switch, words};

/// Prefixes of annotations, as tools document them.
const PREFIXES: [&str; 19] = [
    "action.timoni.sh/",
    "app.oam.dev/",
    "argocd.argoproj.io/",
    "banzaicloud.com/last-applied",
    "cli-utils.sigs.k8s.io/",
    "client.lifecycle.config.k8s.io/",
    "config.k8s.io/",
    "config.kubernetes.io/",
    "configmanagement.gke.io/",
    "configsync.gke.io/",
    "deployment.kubernetes.io/",
    "helm.sh/",
    "kapp.k14s.io/",
    "keel.sh/",
    "kluctl.io/",
    "kubecfg.ksonnet.io/",
    "kustomize.config.k8s.io/",
    "meta.helm.sh/",
    "objectset.rio.cattle.io/",
];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Has the Deployment controller write an earlier template. As long as that is refused, it does nothing else, and scales nothing down.
const ROLL_BACK: &str = "deprecated.deployment.rollback.to";
/// Tools whose controllers each have a prefix of their own below these.
const DOMAINS: [&str; 2] = ["fluxcd.io", "reloader.stakater.com"];

/// Where tools keep what they go by, beside anybody's notes.
pub(super) const NOTES: &str = "metadata.annotations";
/// Where who owns what of an object is changed.
pub(super) const RECORD: &str = "metadata.managedFields";
/// More annotations than that are a launcher's to write. The API server takes four times as much, and the Deployment controller puts its own
/// beside those that it copies: where these find no room, it makes no ReplicaSet, and scales none down.
const ROOM: usize = 64 << 10;

fn is_kept_by_a_tool(key: &str) -> bool {
    [LAST_APPLIED, ROLL_BACK].contains(&key)
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || key
            .split_once('/')
            .is_some_and(|(domain, _)| DOMAINS.iter().any(|one| is_below(domain, one)))
}

fn is_below(domain: &str, one: &str) -> bool {
    domain
        .strip_suffix(one)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Where what tools keep differs, or leaves a controller no room to keep what is its own.
pub(super) fn changed(old: &Value, new: &Value) -> Option<&'static str> {
    let kept = |object: &Value| -> BTreeMap<String, Value> {
        let all = words(object, "annotations").into_iter().flatten();
        let kept = all.filter(|(key, _)| is_kept_by_a_tool(key));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let length = length(new);
    if kept(old) != kept(new) || length > ROOM && length > self::length(old) {
        Some(NOTES)
    } else if workflow_label(old) != workflow_label(new) {
        Some(LABEL_PATH)
    } else if words(old, "labels") != words(new, "labels") {
        Some(TAKES_UP)
    } else {
        let owned = |object| owners(object, |fields| of_a_workload(fields, new));
        (owned(old) != owned(new)).then_some(RECORD)
    }
}

/// Whether somebody else owns what an object of an operator's kind says, or nobody any more.
pub(super) fn is_shared(old: &Value, new: &Value) -> bool {
    let owned = |object| owners(object, |fields| of_a_custom_kind(fields, new));
    owned(old) != owned(new)
}

/// Whether an annotation is taken off. The Deployment controller copies them, and takes none off again: with some that come and go, those of
/// a ReplicaSet grow until there is no room.
pub(super) fn takes_off(old: &Value, new: &Value) -> bool {
    let mut before = words(old, "annotations").into_iter().flatten();
    let now = words(new, "annotations");
    before.any(|(key, _)| now.is_none_or(|now| !now.contains_key(key)))
}

/// What annotations take of an object as it is sent, in bytes: each key once more in the record of who wrote it, and some characters six times
/// as many bytes as the API server counts. What a controller makes inherits them, and is judged as it is sent.
fn length(object: &Value) -> usize {
    let all = words(object, "annotations").into_iter().flatten();
    all.map(|(key, value)| 2 * key.len() + value.as_str().map_or(0, sent))
        .sum()
}

/// How many bytes Go's encoder makes of a text.
fn sent(text: &str) -> usize {
    let bytes = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        c if c.is_control() && c.is_ascii() => 6,
        c => c.len_utf8(),
    };
    text.chars().map(bytes).sum()
}

/// Who owns what of an object: what one applies and no more names goes only where nobody else owns it. Those who wrote it otherwise count
/// together, because the API server puts the oldest of them into one entry.
fn owners(object: &Value, counted: impl Fn(&mut Value)) -> BTreeMap<String, Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut owners = BTreeMap::new();
    for entry in entries.into_iter().flatten() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let who = match text("operation") {
            "Apply" => format!("Apply {} {}", text("subresource"), text("manager")),
            _ => String::new(),
        };
        let mut fields = entry.get("fieldsV1").cloned().unwrap_or_default();
        only(&mut fields, &|field| {
            ["f:metadata", "f:spec", "f:template"].contains(&field)
        });
        within(&mut fields, &["f:metadata"], &|metadata| {
            only(metadata, &|field| ["f:annotations", "f:labels"].contains(&field));
        });
        counted(&mut fields);
        if fields.as_object().is_some_and(|fields| !fields.is_empty()) {
            merge(owners.entry(who).or_insert_with(|| Value::Object(Map::new())), &fields);
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

    use super::*;
    use crate::review::Review;

    #[rstest]
    #[case::kubectl("kubectl.kubernetes.io/last-applied-configuration", true)]
    #[case::a_restart("kubectl.kubernetes.io/restartedAt", false)]
    #[case::revision("deployment.kubernetes.io/revision", true)]
    #[case::helm("meta.helm.sh/release-name", true)]
    #[case::helm_keeps("helm.sh/resource-policy", true)]
    #[case::argo("argocd.argoproj.io/sync-options", true)]
    #[case::flux("kustomize.toolkit.fluxcd.io/prune", true)]
    #[case::flux_before("fluxcd.io/automated", true)]
    #[case::reloader("reloader.stakater.com/auto", true)]
    #[case::another_of_reloader("secret.reloader.stakater.com/reload", true)]
    #[case::somebody_called_like_reloader("notreloader.stakater.com/auto", false)]
    #[case::keel("keel.sh/policy", true)]
    #[case::kubecfg("kubecfg.ksonnet.io/garbage-collect-tag", true)]
    #[case::of_the_object_matcher("banzaicloud.com/last-applied", true)]
    #[case::another_of_flux("helm.toolkit.fluxcd.io/driftDetection", true)]
    #[case::somebody_called_like_flux("toolkit.fluxcd.io.example.com/x", false)]
    #[case::kapp("kapp.k14s.io/delete-strategy", true)]
    #[case::kluctl("kluctl.io/skip-delete", true)]
    #[case::timoni("action.timoni.sh/prune", true)]
    #[case::kube_vela("app.oam.dev/last-applied-configuration", true)]
    #[case::rancher("objectset.rio.cattle.io/id", true)]
    #[case::config_sync("configsync.gke.io/resource-id", true)]
    #[case::config_management("configmanagement.gke.io/managed", true)]
    #[case::a_rollback("deprecated.deployment.rollback.to", true)]
    #[case::called_like_a_rollback("deprecated.deployment.rollback.to/x", false)]
    #[case::another("example.com/note", false)]
    #[case::without_a_domain("note", false)]
    fn what_a_tool_keeps_is_told_apart(#[case] key: &str, #[case] expected: bool) {
        for (map, path) in [
            ("annotations", expected.then_some("metadata.annotations")),
            // A tool may select by any label.
            ("labels", Some("metadata.labels")),
        ] {
            let none = json!({"metadata": {"name": "a"}});
            let with = json!({"metadata": {"name": "a", map: {key: "x"}}});
            let other = json!({"metadata": {"name": "a", map: {key: "y"}}});
            for (old, new) in [(&none, &with), (&with, &other), (&with, &none)] {
                assert_eq!(changed(old, new), path, "{key}");
            }
            assert_eq!(changed(&with, &with), None);
            let empty = json!({"metadata": {"name": "a", map: {}}});
            assert_eq!(changed(&none, &empty), None);
        }
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
    fn whose_a_workload_is_has_a_path_of_its_own() {
        let of =
            |workflow: &str| json!({"metadata": {"labels": {"ringfence.dev/workflow": workflow, "team": workflow}}});
        assert_eq!(changed(&of("a"), &of("b")), Some(LABEL_PATH));
    }

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn managed(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
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
        // The API server puts the oldest writers into one entry.
        let many = managed(&[entry("a", "Update", &template), entry("b", "Update", &env)]);
        let mut both = template.clone();
        both["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"main\"}"]["f:env"] = json!({});
        let fewer = managed(&[entry("ancient-changes", "Update", &both)]);
        assert_eq!(changed(&many, &fewer), None);
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

    #[rstest]
    #[case::small(0, 60 << 10, None)]
    #[case::grown(0, 70 << 10, Some(NOTES))]
    #[case::grown_again(70 << 10, 71 << 10, Some(NOTES))]
    #[case::as_long_as_before(70 << 10, 70 << 10, None)]
    #[case::shorter(80 << 10, 70 << 10, None)]
    fn controllers_have_room_for_what_they_keep(
        #[case] old: usize,
        #[case] new: usize,
        #[case] expected: Option<&str>,
    ) {
        let of = |text: String| json!({"metadata": {"annotations": {"example.com/note": text}}});
        assert_eq!(changed(&of("x".repeat(old)), &of("x".repeat(new))), expected);
        // Six bytes each.
        assert_eq!(changed(&of("<".repeat(old / 6)), &of("<".repeat(new / 6))), expected);
    }
}
