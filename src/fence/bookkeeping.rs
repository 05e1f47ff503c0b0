//! What launchers' tools keep on a workload beside its spec, by which they decide later what to change and what to delete: Helm, Argo CD, Flux,
//! kapp, `kubectl apply`, the Deployment controller, and the API server's own record of who applied what. Labels count all: any may be what a
//! tool selects by.
//!
//! Must never: take a record for unchanged because a part of it cannot be read; or hold a controller to what it keeps itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::{LABEL_PATH, workflow_label};
use super::record::is_shared_of_a_workload;
use super::update::{TAKES_UP, words};

/// Prefixes of annotations, as tools document them.
const PREFIXES: [&str; 20] = [
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
    "rollouts.kruise.io/",
];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Has the Deployment controller write an earlier template. As long as that is refused, it does nothing else, and scales nothing down.
const ROLL_BACK: &str = "deprecated.deployment.rollback.to";
/// Tools whose controllers each have a prefix of their own below these.
const DOMAINS: [&str; 3] = ["fluxcd.io", "reloader.stakater.com", "spinnaker.io"];

/// Where tools keep what they go by, beside anybody's notes.
pub(super) const NOTES: &str = "metadata.annotations";
/// Where who owns what of an object is changed.
pub(super) const RECORD: &str = "metadata.managedFields";
/// More annotations than that are a launcher's to write. The API server takes four times as much, and the Deployment controller puts its own
/// beside those that it copies: where these find no room, it makes no ReplicaSet, and scales none down.
const ROOM: usize = 64 << 10;

pub(super) fn is_kept_by_a_tool(key: &str) -> bool {
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
    let length = length(new);
    if notes_changed(old, new) || length > ROOM && length > self::length(old) {
        Some(NOTES)
    } else if workflow_label(old) != workflow_label(new) {
        Some(LABEL_PATH)
    } else if words(old, "labels") != words(new, "labels") {
        Some(TAKES_UP)
    } else {
        is_shared_of_a_workload(old, new).then_some(RECORD)
    }
}

/// Whether what tools keep in annotations differs.
pub(super) fn notes_changed(old: &Value, new: &Value) -> bool {
    let kept = |object: &Value| -> BTreeMap<String, Value> {
        let all = words(object, "annotations").into_iter().flatten();
        let kept = all.filter(|(key, _)| is_kept_by_a_tool(key));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    kept(old) != kept(new)
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

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

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

    #[test]
    fn whose_a_workload_is_has_a_path_of_its_own() {
        let of =
            |workflow: &str| json!({"metadata": {"labels": {"ringfence.dev/workflow": workflow, "team": workflow}}});
        assert_eq!(changed(&of("a"), &of("b")), Some(LABEL_PATH));
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
