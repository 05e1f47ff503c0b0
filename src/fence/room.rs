//! What runs leaves room for what others write on it, and read of it.
//!
//! A kubelet tells a pod's address in its status: where that finds no room the pod runs all the same, and network plugins that go by the address
//! know of none. A controller that takes up an object sends it twice. Must never: judge what stood before, beyond what is added to it.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::facts::Subject;
use super::launch::is_built_in;
use super::object::{at, violation};
use super::template::{CONTAINERS, Template};
use crate::review::{MAX_WEIGHT, Operation, Violation, weight};

const RULE: &str = "object-size";
/// A third of what the API server stores of an object: a status repeats where each container mounts what, and the record of who wrote which
/// field says it once more.
const MAX_BYTES: usize = 512 << 10;
/// What its maker may have: a controller adds labels, annotations, and who wrote which field of what it makes.
const MAX_MAKER: usize = 448 << 10;
/// Twice that is read in a review, with room for what else is in it.
const MAX_MEMORY: usize = MAX_WEIGHT / 4;
/// What a status says more of than its pod does: a sentence for each gate; for each container what runs in it, with all groups.
const MAX_CONTAINERS: usize = 128;
const MAX_GATES: usize = 32;
const MAX_GROUPS: usize = 64;
/// And up to six times what is asked for of the node: names of resources, in requests and limits of all containers.
const MAX_RESOURCES: usize = 512;
/// The longest that a variable in a path, or a key of a file, may be.
const MAX_WORD: usize = 253;
const FIX: &str = "keep what programs read in a ConfigMap, an image or an object store, and shorten the longest lists";

/// Checks a pod, or what makes pods. `before` is the pod as it was.
pub(super) fn check(
    subject: &Subject<'_>,
    template: &Template<'_>,
    before: Option<&Value>,
    violations: &mut Vec<Violation>,
) {
    violations.extend(check_size(subject));
    // Of a pod that is there, debug containers alone are added to these, and no more than a person opens.
    if before.is_none() {
        check_lists(template, violations);
        check_words(template, violations);
    }
}

fn check_size(subject: &Subject<'_>) -> Option<Violation> {
    let review = subject.review;
    let is_new = review.operation == Operation::Create || review.swells && subject.is_pod();
    let bytes = if is_new { review.bytes } else { 0 };
    let most = if subject.is_pod() || is_built_in(&review.user) {
        MAX_BYTES
    } else {
        MAX_MAKER
    };
    let memory = weight(subject.object);
    let is_heavy = memory > MAX_MEMORY && review.old_object().is_none_or(|old| weight(old) < memory);
    let message = if bytes > most {
        format!(
            "has {bytes} bytes, who wrote which field included, and {most} are the most: a kubelet's status must find room beside it"
        )
    } else if is_heavy {
        format!("takes {memory} bytes of memory when a review reads it, and {MAX_MEMORY} are the most")
    } else {
        return None;
    };
    Some(violation(RULE, "metadata", None, message, FIX))
}

fn check_lists(template: &Template<'_>, violations: &mut Vec<Violation>) {
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    let count = |pointer: &str| spec.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    let containers = CONTAINERS.iter().map(|list| count(&format!("/{list}"))).sum();
    let each = CONTAINERS
        .iter()
        .filter_map(|list| spec.get(list)?.as_array())
        .flatten();
    let resources = each.chain([spec]).map(resources).sum();
    for (path, count, most) in [
        ("spec.containers", containers, MAX_CONTAINERS),
        ("spec.readinessGates", count("/readinessGates"), MAX_GATES),
        (
            "spec.securityContext.supplementalGroups",
            count("/securityContext/supplementalGroups"),
            MAX_GROUPS,
        ),
        ("spec.containers[*].resources", resources, MAX_RESOURCES),
    ] {
        if count > most {
            let message = format!("are {count}, and {most} are the most: a kubelet's status tells of each");
            violations.push(violation(RULE, at(template.path, path), None, message, FIX));
        }
    }
}

/// Checks what a kubelet tells whole where a container cannot be made: the path that an expression comes to, and the key of a file that lacks
/// it. Each variable may name others twice, so that a few of them are longer than anything that can be stored.
fn check_words(template: &Template<'_>, violations: &mut Vec<Violation>) {
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    for list in CONTAINERS {
        let containers = spec.get(list).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let items = |list: &str| container.get(list).and_then(Value::as_array).into_iter().flatten();
            let paths = items("volumeMounts").filter_map(|mount| mount.get("subPathExpr")?.as_str());
            let named: HashSet<&str> = paths.flat_map(variables).collect();
            let said = |name: &str| {
                let name = name.to_owned();
                items("env").filter(move |variable| variable.get("name").and_then(Value::as_str) == Some(&name))
            };
            let is_short = |name: &str| said(name).next().is_some() && said(name).all(has_a_bound);
            if let Some(name) = named.iter().find(|name| !is_short(name)) {
                let path = at(template.path, &format!("spec.{list}[{index}].volumeMounts"));
                let message = "has a subPathExpr with a variable whose length nothing bounds: a kubelet tells of a path that it cannot mount, whole";
                let fix = "take the variable from a valueFrom.fieldRef other than an annotation, or give it a value of at most 253 characters without $(";
                violations.push(violation(RULE, path, Some(name), message.to_owned(), fix));
            }
            let key = |variable: &Value| Some(variable.pointer("/valueFrom/fileKeyRef/key")?.as_str()?.len());
            if items("env").filter_map(key).any(|length| length > MAX_WORD) {
                let path = at(template.path, &format!("spec.{list}[{index}].env"));
                let message = format!(
                    "has a fileKeyRef.key of more than {MAX_WORD} characters: a kubelet tells of one that is not there, whole"
                );
                violations.push(violation(RULE, path, None, message, "choose a shorter key"));
            }
        }
    }
}

/// Names of variables in an expression. One that is escaped counts too: it would be none to the kubelet.
fn variables(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split("$(")
        .skip(1)
        .map(|rest| rest.split_once(')').map_or(rest, |(name, _)| name))
}

fn has_a_bound(variable: &Value) -> bool {
    match (variable.get("value"), variable.get("valueFrom")) {
        (Some(Value::String(value)), None | Some(Value::Null)) => value.len() <= MAX_WORD && !value.contains("$("),
        (None | Some(Value::Null), Some(source)) => source
            .pointer("/fieldRef/fieldPath")
            .and_then(Value::as_str)
            .is_some_and(|path| !path.starts_with("metadata.annotations")),
        // Said without a value, it is empty.
        (None | Some(Value::Null), None) => true,
        _ => false,
    }
}

/// How many names of resources a container, or all of a pod, asks for.
fn resources(of: &Value) -> usize {
    let names = |list: &str| of.pointer(&format!("/resources/{list}")).and_then(Value::as_object);
    ["limits", "requests"].into_iter().filter_map(names).map(Map::len).sum()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::fence::testing::review;

    fn refused(object: &Value, old: Option<&Value>) -> Option<String> {
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let review = review(operation, "", "Pod", Some(object), old);
        let subject = Subject::of(&review).unwrap().expect("it is judged");
        let template = subject.template().expect("a template").expect("that can be read");
        let mut violations = Vec::new();
        check(&subject, &template, old, &mut violations);
        assert!(violations.len() <= 1, "{violations:?}");
        violations.pop().map(|violation| violation.message)
    }

    fn gates(count: usize) -> Value {
        json!(vec![json!({"conditionType": "a"}); count])
    }

    #[test]
    fn what_is_made_has_room_for_a_status() {
        let with = |bytes: usize| json!({"spec": {"containers": [{"args": ["x".repeat(bytes)]}]}});
        assert_eq!(refused(&with(MAX_BYTES - 100), None), None);
        let said = refused(&with(MAX_BYTES + 1), None).expect("refused");
        assert!(said.contains("524288 are the most"), "{said}");
        let recorded = |bytes: usize| json!({"metadata": {"managedFields": [{"fieldsV1": {"f:a": "x".repeat(bytes)}}]}, "spec": {}});
        assert!(refused(&recorded(MAX_BYTES), None).is_some(), "it is stored too");
        let more = json!({"metadata": {"labels": {"a": "b"}, "managedFields": recorded(MAX_BYTES)["metadata"]["managedFields"]}, "spec": {}});
        assert!(refused(&more, Some(&recorded(100))).is_some(), "it grows");
        let fewer = json!({"metadata": {"labels": {"a": "b"}}, "spec": with(MAX_BYTES + 1)["spec"]});
        assert_eq!(
            refused(&fewer, Some(&with(MAX_BYTES + 100))),
            None,
            "it stood, and was larger"
        );
    }

    /// What a controller makes of it is larger, and is as large as a pod may be.
    #[test]
    fn a_maker_leaves_room_for_what_is_made() {
        let of =
            |bytes: usize| json!({"spec": {"template": {"spec": {"containers": [{"args": ["x".repeat(bytes)]}]}}}});
        let refused = |user: &str, bytes: usize| {
            let object = of(bytes);
            let mut review = review("CREATE", "apps", "ReplicaSet", Some(&object), None);
            review.user.username = user.to_owned();
            let subject = Subject::of(&review).unwrap().expect("it is judged");
            check_size(&subject).map(|violation| violation.message)
        };
        assert_eq!(refused("lea", MAX_MAKER - 1000), None);
        let said = refused("lea", MAX_MAKER + 1).expect("refused");
        assert!(said.contains("458752 are the most"), "{said}");
        let controller = "system:kube-controller-manager";
        assert_eq!(refused(controller, MAX_BYTES - 1000), None);
        assert!(refused(controller, MAX_BYTES + 1).is_some());
    }

    #[test]
    fn what_a_status_tells_of_has_bounds() {
        for (most, with) in [
            (
                MAX_GATES,
                &(|count| json!({"readinessGates": gates(count)})) as &dyn Fn(usize) -> Value,
            ),
            (
                MAX_GROUPS,
                &|count| json!({"securityContext": {"supplementalGroups": vec![1; count]}}),
            ),
            (
                MAX_CONTAINERS,
                &|count| json!({"containers": vec![json!({}); 28], "initContainers": vec![json!({}); count - 28]}),
            ),
            (MAX_RESOURCES, &|count| {
                let named = |count| {
                    (0..count)
                        .map(|n| (format!("a.b/{n}"), json!("0")))
                        .collect::<Map<_, _>>()
                };
                json!({"containers": [{"resources": {"limits": named(100)}}, {"resources": {"requests": named(100)}}],
                    "resources": {"limits": named(count - 200)}})
            }),
        ] {
            assert_eq!(refused(&json!({"spec": with(most)}), None), None);
            let said = refused(&json!({"spec": with(most + 1)}), None).expect("refused");
            assert!(said.contains(&format!("{most} are the most")), "{said}");
        }
    }

    #[rstest]
    #[case::of_the_pod("$(A)", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]), true)]
    #[case::a_value("x/$(A)/$(B)", json!([{"name": "A", "value": "a"}, {"name": "B"}]), true)]
    #[case::no_variable("x", json!([{"name": "A", "value": "x".repeat(9999)}]), true)]
    #[case::in_an_annotation("$(A)", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}}]), false)]
    #[case::of_another("x/$(B)", json!([{"name": "A", "value": "a"}, {"name": "B", "value": "$(A)$(A)"}]), false)]
    #[case::long("$(A)", json!([{"name": "A", "value": "x".repeat(254)}]), false)]
    #[case::of_a_config_map("$(A)", json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]), false)]
    #[case::from_elsewhere("$(A)", json!([]), false)]
    #[case::said_twice("$(A)", json!([{"name": "A", "value": "a"}, {"name": "A", "value": "$(A)"}]), false)]
    #[case::not_closed("$(A", json!([]), false)]
    #[case::a_long_key("x", json!([{"name": "A", "valueFrom": {"fileKeyRef": {"key": "x".repeat(254)}}}]), false)]
    fn what_a_kubelet_tells_whole_is_short(#[case] path: &str, #[case] env: Value, #[case] is_fine: bool) {
        let container = json!({"env": env, "volumeMounts": [{"subPathExpr": path}]});
        let pod = json!({"spec": {"containers": [{}], "initContainers": [container]}});
        assert_eq!(refused(&pod, None).is_none(), is_fine);
    }

    #[test]
    fn what_is_taken_up_can_be_read_twice() {
        let with = |secrets: usize| json!({"spec": {"imagePullSecrets": vec![json!({"name": "a"}); secrets]}});
        let (light, heavy) = (with(20_000), with(26_000));
        assert_eq!(refused(&light, None), None);
        let said = refused(&heavy, None).expect("refused");
        assert!(said.contains("bytes of memory"), "{said}");
        assert!(refused(&heavy, Some(&light)).is_some(), "it grows");
        assert_eq!(refused(&light, Some(&heavy)), None, "it shrinks");
    }
}
