//! What runs leaves room for what others write on it, and read of it.
//!
//! A kubelet tells a pod's address in its status: where that finds no room the pod runs all the same, and network plugins that go by the address
//! know of none. A controller that takes up an object sends it twice. Must never: judge what stood before, beyond what is added to it.

use serde_json::{Map, Value};

use super::facts::Subject;
use super::launch::is_built_in;
use super::object::{at, violation};
use super::template::{CONTAINERS, Template};
use super::words;
use crate::review::{MAX_WEIGHT, Operation, Violation, weight};

pub(super) const RULE: &str = "object-size";
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
/// And up to six times what is asked for of the node: names of resources, in requests and limits of all containers; of those that are no node's
/// own, which are as long as anybody likes, fewer.
const MAX_RESOURCES: usize = 512;
const MAX_DEVICES: usize = 64;
/// Of how many ConfigMaps and Secrets a container takes all variables: each name in its words is looked for in each.
const MAX_ENV_FROM: usize = 64;
const FIX: &str = "keep what programs read in a ConfigMap, an image or an object store, and shorten the longest lists";

/// Checks a pod, or what makes pods. `before` is the pod as it was.
pub(super) fn check(
    subject: &Subject<'_>,
    template: &Template<'_>,
    before: Option<&Value>,
    violations: &mut Vec<Violation>,
) {
    if let Some(refused) = check_size(subject) {
        // What is in it need not be gone through.
        violations.push(refused);
        return;
    }
    // Of a pod that is there, debug containers alone are added to these, and no more than a person opens.
    if before.is_none() {
        let others = violations.len();
        check_lists(template, violations);
        if violations.len() == others {
            words::check(template, violations);
        }
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
    let taken = |container: &Value| container.get("envFrom").and_then(Value::as_array).map_or(0, Vec::len);
    let taken = each.clone().map(taken).max().unwrap_or_default();
    let (mut named, mut devices) = (0, 0);
    for name in each.chain([spec]).flat_map(resources) {
        named += 1;
        devices += usize::from(name.contains('/'));
    }
    for (path, count, most) in [
        ("spec.containers", containers, MAX_CONTAINERS),
        ("spec.readinessGates", count("/readinessGates"), MAX_GATES),
        (
            "spec.securityContext.supplementalGroups",
            count("/securityContext/supplementalGroups"),
            MAX_GROUPS,
        ),
        ("spec.containers[*].resources", named, MAX_RESOURCES),
        ("spec.containers[*].resources", devices, MAX_DEVICES),
        ("spec.containers[*].envFrom", taken, MAX_ENV_FROM),
    ] {
        if count > most {
            let message = format!("are {count}, and {most} are the most: a kubelet goes through each, or tells of it");
            violations.push(violation(RULE, at(template.path, path), None, message, FIX));
        }
    }
}

/// Names of resources that a container, or all of a pod, asks for.
fn resources(of: &Value) -> impl Iterator<Item = &String> {
    let names = |list: &str| of.pointer(&format!("/resources/{list}")).and_then(Value::as_object);
    ["limits", "requests"].into_iter().filter_map(names).flat_map(Map::keys)
}

#[cfg(test)]
mod tests {
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
        let names = |prefix: &'static str| {
            move |count: usize| {
                let names = (0..count).map(|at| (format!("{prefix}{at}"), json!("0")));
                names.collect::<Map<_, _>>()
            }
        };
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
            (
                MAX_ENV_FROM,
                &|count| json!({"containers": [{"envFrom": [{}]}, {"envFrom": vec![json!({}); count]}]}),
            ),
            (MAX_DEVICES, &|count| {
                let named = names("a.b/");
                json!({"containers": [{"resources": {"limits": named(10)}}, {"resources": {"requests": named(count - 10)}}]})
            }),
            (MAX_RESOURCES, &|count| {
                let named = names("hugepages-");
                json!({"containers": [{"resources": {"limits": named(100)}}, {"resources": {"requests": named(100)}}],
                    "resources": {"limits": named(count - 200)}})
            }),
        ] {
            assert_eq!(refused(&json!({"spec": with(most)}), None), None);
            let said = refused(&json!({"spec": with(most + 1)}), None).expect("refused");
            assert!(said.contains(&format!("{most} are the most")), "{said}");
        }
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
