//! Promise 2, what a pod tells the cluster's own parts: annotations that the class allows.
//!
//! A second network interface comes by annotation, past every NetworkPolicy; so do a runtime's and a mesh's settings. Must
//! never: judge by a list of known dangers, which the next plugin would add to.

use serde_json::Value;

use super::object::{at, is_full, shown, type_of, violation};
use super::template::Template;
use crate::plan::shape::{allows_annotation, listed};
use crate::review::Violation;

const RULE: &str = "pod-annotations";
/// How many a pod may have. Half of what the guard on a pod's status compares one by one: what network plugins report there, when a pod comes
/// and when it goes, must find room beside them.
const MOST: usize = 512;
/// How many fewer a template may have: controllers, quotas and meshes write more on the pods that are made of it.
const OF_PODS: usize = 64;

/// Checks the annotations of a pod or a template. `before` is the pod as it was: what it has carried stays, and does not stand
/// in the way of whoever writes something else (autoscalers and controllers annotate running pods).
pub(super) fn check(
    template: &Template<'_>,
    before: Option<&Value>,
    (class_name, allowed): (&str, &[String]),
    violations: &mut Vec<Violation>,
) {
    let before = before.and_then(|pod| pod.pointer("/metadata/annotations"));
    let path = at(template.path, "metadata.annotations");
    let annotations = match template.pod.pointer("/metadata/annotations") {
        None | Some(Value::Null) => return,
        Some(Value::Object(annotations)) => annotations,
        other => {
            let message = format!("must be keys and values, and is {}", type_of(other));
            violations.push(violation(
                RULE,
                &path,
                None,
                message,
                format!("write {path} as key: value"),
            ));
            return;
        }
    };
    let had = before.and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let most = if template.path.is_empty() { MOST } else { MOST - OF_PODS };
    if annotations.len() > most.max(had) {
        let message = format!(
            "are {}, and {most} are the most: network plugins report by more of them",
            annotations.len()
        );
        let fix = "keep what programs read in a ConfigMap, and leave out the others";
        violations.push(violation(RULE, &path, None, message, fix));
        return;
    }
    for (key, value) in annotations {
        if is_full(violations) {
            return;
        }
        if allows_annotation(allowed, key) || before.and_then(|before| before.get(key)) == Some(value) {
            continue;
        }
        let message = format!(
            "is not among the annotations of pods that AIWorkflowClass {class_name} allows: {}",
            listed(allowed)
        );
        let fix = format!(
            "leave it out, or ask the platform team to add the key, or its prefix up to the slash, to spec.podAnnotations of AIWorkflowClass {class_name}, or to those of its engine there, where that goes by it"
        );
        violations.push(violation(RULE, format!("{path}[{}]", shown(key)), None, message, fix));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::object::MAX_VIOLATIONS;
    use super::*;

    fn judged(annotations: Value, before: Option<Value>, allowed: &[&str]) -> Vec<String> {
        judged_at("spec.template", annotations, before, allowed)
    }

    fn judged_at(path: &'static str, annotations: Value, before: Option<Value>, allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<_> = allowed.iter().map(|&entry| entry.to_owned()).collect();
        let pod = json!({"metadata": {"annotations": annotations}});
        let before = before.map(|annotations| json!({"metadata": {"annotations": annotations}}));
        let mut violations = Vec::new();
        let template = Template { path, pod: &pod };
        check(&template, before.as_ref(), ("c", &allowed), &mut violations);
        violations
            .iter()
            .for_each(|violation| assert_eq!(violation.policy, RULE));
        violations.into_iter().map(|violation| violation.path).collect()
    }

    #[rstest]
    #[case::of_a_prefix("kubectl.kubernetes.io/restartedAt", true)]
    #[case::whole_key("kubernetes.io/limit-ranger", true)]
    #[case::whole_key_without_a_prefix("dag_id", true)]
    #[case::network("k8s.v1.cni.cncf.io/networks", false)]
    #[case::network_in_capitals("K8S.v1.cni.cncf.io/networks", false)]
    #[case::longer_than_a_whole_key("kubernetes.io/limit-ranger-x", false)]
    #[case::beside_a_whole_key("kubernetes.io/ingress-bandwidth", false)]
    #[case::subdomain("x.kubectl.kubernetes.io/a", false)]
    #[case::prefix_in_the_name("a/kubectl.kubernetes.io/", false)]
    #[case::capitals("Kubectl.kubernetes.io/a", false)]
    #[case::ours("ringfence.dev/owner-uid", false)]
    #[case::without_a_prefix("anything", false)]
    #[case::empty("", false)]
    fn only_listed_keys_pass(#[case] key: &str, #[case] allowed: bool) {
        let list = ["kubectl.kubernetes.io/", "kubernetes.io/limit-ranger", "dag_id"];
        let found = judged(json!({key: "x"}), None, &list);
        assert_eq!(found.is_empty(), allowed, "{found:?}");
        assert_eq!(judged(json!({key: "x"}), None, &[]).len(), 1, "no list allows nothing");
    }

    #[rstest]
    #[case::of_ringfence("ringfence.dev/", "ringfence.dev/owner-uid")]
    #[case::without_its_slash("k8s.v1.cni.cncf.io", "k8s.v1.cni.cncf.io/networks")]
    #[case::a_bare_slash("/", "/networks")]
    #[case::empty("", "networks")]
    #[case::wildcard("*", "networks")]
    #[case::wildcard_prefix("*/", "k8s.v1.cni.cncf.io/networks")]
    #[case::two_slashes("a/b/", "a/b/c")]
    fn an_entry_that_cannot_be_read_allows_nothing(#[case] entry: &str, #[case] key: &str) {
        assert_eq!(judged(json!({key: "x"}), None, &[entry]).len(), 1);
    }

    #[test]
    fn what_a_pod_carried_before_stays_and_what_changes_is_judged() {
        let before = json!({"old.example/a": "1", "old.example/b": "1"});
        let found = judged(
            json!({"old.example/a": "1", "old.example/b": "2", "new.example/c": "1"}),
            Some(before),
            &[],
        );
        let path = |key: &str| format!("spec.template.metadata.annotations[{key}]");
        assert_eq!(found, [path("new.example/c"), path("old.example/b")]);
    }

    #[test]
    fn hundreds_of_keys_are_told_of_by_the_first() {
        assert_eq!(judged_at("", many(MOST), None, &[]).len(), MAX_VIOLATIONS);
    }

    #[test]
    fn those_of_an_allowed_prefix_have_a_bound_too() {
        let path = ["spec.template.metadata.annotations"];
        assert_eq!(judged(many(MOST - OF_PODS), None, &["a.b/"]), [""; 0]);
        assert_eq!(judged(many(MOST - OF_PODS + 1), None, &["a.b/"]), path);
        // Of a pod, those are not refused that somebody wrote on it beside its template's.
        assert_eq!(judged_at("", many(MOST), None, &["a.b/"]), [""; 0]);
        assert_eq!(judged_at("", many(MOST + 1), None, &["a.b/"]), ["metadata.annotations"]);
        assert_eq!(judged(many(MOST + 1), Some(many(MOST)), &["a.b/"]), path, "they grow");
        // What stood before stays, and so may its values change.
        assert_eq!(judged(many(MOST + 1), Some(many(MOST + 1)), &["a.b/"]), [""; 0]);
        assert_eq!(judged(many(MOST + 1), Some(many(MOST + 2)), &["a.b/"]), [""; 0]);
    }

    fn many(count: usize) -> Value {
        let keys = (0..count).map(|key| (format!("a.b/x{key}"), json!("")));
        keys.collect::<serde_json::Map<_, _>>().into()
    }

    #[rstest]
    #[case::list(json!([{"k8s.v1.cni.cncf.io/networks": "x"}]))]
    #[case::text(json!("k8s.v1.cni.cncf.io/networks"))]
    fn annotations_of_another_type_are_refused(#[case] annotations: Value) {
        assert_eq!(
            judged(annotations, None, &["k8s.v1.cni.cncf.io/"]),
            ["spec.template.metadata.annotations"]
        );
        assert_eq!(judged(Value::Null, None, &[]), [""; 0]);
    }
}
