//! What runs leaves room for what others write on it, and read of it.
//!
//! A kubelet tells a pod's address in its status: where that finds no room the pod runs all the same, and network plugins that go by the address
//! know of none. A controller that takes up an object sends it twice. Must never: judge what stood before, beyond what is added to it.

use super::facts::Subject;
use super::object::violation;
use crate::review::{MAX_WEIGHT, Operation, Violation, weight};

const RULE: &str = "object-size";
/// Half of what the API server stores of an object, and as much for its status, which is as long as the pod has containers.
pub(crate) const MAX_BYTES: usize = 768 << 10;
/// Twice that is read in a review, with room for what else is in it.
pub(crate) const MAX_MEMORY: usize = MAX_WEIGHT / 4;

/// Checks a pod, or what makes pods.
pub(super) fn check(subject: &Subject<'_>) -> Option<Violation> {
    let review = subject.review;
    let bytes = if review.operation == Operation::Create {
        review.bytes
    } else {
        0
    };
    let memory = weight(subject.object);
    let is_heavy = memory > MAX_MEMORY && review.old_object().is_none_or(|old| weight(old) < memory);
    let message = if bytes > MAX_BYTES {
        format!(
            "has {bytes} bytes, who wrote which field included, and {MAX_BYTES} are the most: a kubelet's status must find room beside it"
        )
    } else if is_heavy {
        format!("takes {memory} bytes of memory when a review reads it, and {MAX_MEMORY} are the most")
    } else {
        return None;
    };
    let fix = "keep what programs read in a ConfigMap, an image or an object store, and shorten the longest lists";
    Some(violation(RULE, "metadata", None, message, fix))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fence::testing::review;

    fn refused(kind: &str, object: &Value, old: Option<&Value>) -> Option<String> {
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let review = review(operation, "", kind, Some(object), old);
        let subject = Subject::of(&review).unwrap().expect("it is judged");
        check(&subject).map(|violation| violation.message)
    }

    #[test]
    fn what_is_made_has_room_for_a_status() {
        let with = |bytes: usize| json!({"spec": {"containers": [{"args": ["x".repeat(bytes)]}]}});
        assert_eq!(refused("Pod", &with(MAX_BYTES - 100), None), None);
        let said = refused("Pod", &with(MAX_BYTES + 1), None).expect("refused");
        assert!(said.contains("786432 are the most"), "{said}");
        let recorded =
            json!({"metadata": {"managedFields": [{"fieldsV1": {"f:a": "x".repeat(MAX_BYTES)}}]}, "spec": {}});
        assert!(refused("Pod", &recorded, None).is_some(), "it is stored too");
        let labelled = json!({"metadata": {"labels": {"a": "b"}}, "spec": with(MAX_BYTES + 1)["spec"]});
        assert_eq!(refused("Pod", &labelled, Some(&with(MAX_BYTES + 1))), None, "it stands");
    }

    #[test]
    fn what_is_taken_up_can_be_read_twice() {
        let with = |secrets: usize| json!({"spec": {"imagePullSecrets": vec![json!({"name": "a"}); secrets]}});
        let (light, heavy) = (with(20_000), with(26_000));
        assert_eq!(refused("Pod", &light, None), None);
        let said = refused("Pod", &heavy, None).expect("refused");
        assert!(said.contains("bytes of memory"), "{said}");
        assert!(refused("Pod", &heavy, Some(&light)).is_some(), "it grows");
        assert_eq!(refused("Pod", &light, Some(&heavy)), None, "it shrinks");
    }
}
