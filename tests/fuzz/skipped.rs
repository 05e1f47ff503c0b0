//! What a matchCondition skips, the fence would have let pass: the conditions are evaluated by the API server's own code, and what they
//! skip is compared by hand, and given to the fence.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringfence::fence::{Binding, Door, Facts, Subject, is_inert};
use ringfence::review::Review;
use serde_json::{Value, json};

use crate::conditions::{Evaluator, condition, everything, request, run, typed};
use crate::json::{any_json, metadata, stored};
use crate::{corpus, runner};

/// What an update does to what was there.
#[derive(Clone, Debug)]
enum Edit {
    Content(&'static str, Value),
    Metadata(&'static str, Value),
    Without(&'static str),
    LessOwners(usize),
    Nothing,
}

fn edit() -> impl Strategy<Value = Edit> {
    let content = select(vec!["spec", "data", "status", "type", "newerThanUs"]);
    // What the API server itself keeps as it was is left out: name, namespace, uid, times of creation and deletion.
    let field = || {
        select(vec![
            "labels",
            "annotations",
            "ownerReferences",
            "finalizers",
            "managedFields",
            "generation",
        ])
    };
    let of_metadata = (field(), metadata()).prop_map(|(key, other)| match other.get(key) {
        Some(value) => Edit::Metadata(key, value.clone()),
        None => Edit::Without(key),
    });
    prop_oneof![
        2 => (content, any_json()).prop_map(|(key, value)| Edit::Content(key, value)),
        4 => of_metadata,
        1 => field().prop_map(Edit::Without),
        2 => (0usize..4).prop_map(Edit::LessOwners),
        1 => Just(Edit::Nothing),
    ]
}

fn edited(old: &Value, edits: &[Edit]) -> Value {
    let mut new = old.clone();
    for edit in edits {
        let metadata = new.get_mut("metadata").and_then(Value::as_object_mut);
        match (edit, metadata) {
            (Edit::Content(key, value), _) => new[*key] = value.clone(),
            (Edit::Metadata(key, value), Some(metadata)) => drop(metadata.insert((*key).to_owned(), value.clone())),
            (Edit::Without(key), Some(metadata)) => drop(metadata.remove(*key)),
            (Edit::LessOwners(kept), Some(metadata)) => {
                if let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
                    owners.truncate(*kept);
                }
            }
            _ => {}
        }
    }
    new
}

/// What of an object a rule looks at: all but what ends things, and what the API server counts.
fn judged_part(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "finalizers",
            "managedFields",
            "generation",
            "resourceVersion",
            "ownerReferences",
        ] {
            metadata.remove(key);
        }
    }
    object
}

fn skipped_is_the_same(
    evaluator: &Evaluator,
    conditions: &Value,
    old: &Value,
    new: &Value,
) -> Result<bool, TestCaseError> {
    let said = evaluator.ask(conditions, &request("UPDATE", new, old));
    prop_assert_eq!(&said.error, "", "{} -> {}", old, new);
    let owners = |object: &Value| {
        object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let no_new_owner = owners(new).iter().all(|owner| owners(old).contains(owner));
    if !said.matches {
        prop_assert_eq!(judged_part(old), judged_part(new), "skipped, and not the same");
        prop_assert!(no_new_owner, "skipped, and an owner is new: {} -> {}", old, new);
        prop_assert!(
            is_inert(old, new),
            "skipped, and the fence would look: {} -> {}",
            old,
            new
        );
    }
    Ok(!said.matches)
}

#[test]
fn what_is_skipped_changes_nothing_that_is_judged() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let webhooks = [
        "accounts.ringfence.dev",
        "services.ringfence.dev",
        "network-policies.ringfence.dev",
        "label.ringfence.dev",
    ];
    let conditions = webhooks.map(|webhook| condition(&all, webhook, "changes-what-is-judged"));
    assert!(
        conditions.iter().all(|of| *of == conditions[0]),
        "one expression: asked once here"
    );
    let conditions = &conditions[0];
    // There more is asked about: new finalizers, owners that go, and who owns what.
    let shared = conditions[0]["expression"].as_str().expect("an expression");
    for webhook in ["fence.ringfence.dev", "label-enforced.ringfence.dev"] {
        let more = condition(&all, webhook, "changes-what-is-judged");
        let more = more[0]["expression"].as_str().expect("an expression");
        assert!(more.starts_with(&format!("{shared}\n|| (")), "{more}");
    }
    for (name, bytes) in corpus("conditions") {
        let case: Value = serde_json::from_slice(&bytes).expect("JSON");
        let skipped = skipped_is_the_same(&evaluator, conditions, &case["old"], &case["new"]);
        let skipped = skipped.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(case["skipped"], skipped, "{name}");
    }
    let skips = RefCell::new((0, 0));
    run(runner(1000), &(stored(), vec(edit(), 1..3)), |(old, edits)| {
        let skipped = skipped_is_the_same(&evaluator, conditions, &old, &edited(&old, &edits))?;
        let mut skips = skips.borrow_mut();
        *(if skipped { &mut skips.0 } else { &mut skips.1 }) += 1;
        Ok(())
    });
    let (skipped, asked) = *skips.borrow();
    assert!(
        skipped * 20 > asked && asked * 20 > skipped,
        "one-sided: {skipped} skipped, {asked} asked"
    );
}

/// What belongs to a workload, a pod or an operator's object beside its content: finalizers, what controls it, and who owns what of it.
/// Labels, too.
#[test]
fn what_is_skipped_of_what_runs_would_have_passed() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let keys = select(vec!["f:template", "f:jobTemplate", "f:replicas", "f:strategy"]);
    let place = select(vec!["f:spec", "f:metadata", ""]);
    let fields = (keys, place, select(vec!["f:a", "f:b"])).prop_map(|(key, place, field)| match place {
        "f:metadata" => json!({place: {"f:annotations": {"f:helm.sh/a": {}, field: {}}}}),
        "" => json!({key: {field: {}}}),
        _ => json!({place: {key: {field: {}}}}),
    });
    let manager = (
        select(vec!["ci", "kubectl"]),
        select(vec!["Apply", "Update"]),
        prop::option::of(fields),
    );
    let manager = manager.prop_map(|(name, operation, fields)| {
        let mut entry = json!({"manager": name, "operation": operation});
        if let Some(fields) = fields {
            entry["fieldsV1"] = fields;
        }
        entry
    });
    let finalizer = select(vec!["a/b", "c/d", "foregroundDeletion"]);
    let team = prop_oneof![6 => Just(Value::Null), 1 => Just(json!("x"))];
    let owner = (select(vec!["1", "2"]), any::<bool>(), any::<bool>()).prop_map(|(uid, controls, blocks)| {
        json!({
            "apiVersion": "example.com/v1", "kind": "Flow", "name": uid, "uid": uid, "controller": controls, "blockOwnerDeletion": blocks,
        })
    });
    let owners = prop_oneof![3 => Just(Vec::new()), 1 => vec(owner, 1..3)];
    let metadata = (vec(finalizer, 0..2), vec(manager, 0..2), owners, team);
    let metadata = metadata.prop_map(|(finalizers, managed, owners, team)| {
        let mut labels = json!({"ringfence.dev/workflow": "triage"});
        if !team.is_null() {
            labels["team"] = team;
        }
        json!({"name": "o", "labels": labels, "finalizers": finalizers, "ownerReferences": owners, "managedFields": managed})
    });
    let of = [
        ("apps", "Deployment", "deployments", "fence.ringfence.dev"),
        ("", "Pod", "pods", "fence.ringfence.dev"),
        ("ray.io", "RayJob", "rayjobs", "label-enforced.ringfence.dev"),
        ("", "ConfigMap", "configmaps", "label-enforced.ringfence.dev"),
    ];
    let conditions = of.map(|(.., webhook)| condition(&all, webhook, "changes-what-is-judged"));
    let content = json!({"metadata": {}, "spec": {"replicas": 1, "template": {"metadata": {}, "spec": {}}}});
    let counted = RefCell::new([(0, 0); 4]);
    let strategy = (0..of.len(), metadata.clone(), metadata, any::<bool>());
    run(runner(4000), &strategy, |(index, before, after, is_kept)| {
        let (group, kind, resource, _) = of[index];
        let [old, mut new] = [before, after].map(|metadata| {
            let mut object = content.clone();
            object["metadata"] = metadata;
            object
        });
        if is_kept {
            new["metadata"]["managedFields"] = old["metadata"]["managedFields"].clone();
        }
        let mut asked = request("UPDATE", &new, &old);
        asked["resource"] = json!({"group": group, "version": "v1", "resource": resource});
        asked["kind"] = json!({"group": group, "version": "v1", "kind": kind});
        let said = evaluator.ask(&conditions[index], &asked);
        prop_assert_eq!(&said.error, "", "{} -> {}", old, new);
        let review = review(group, kind, resource, "UPDATE", &new, &old);
        let judged = Subject::of(&review).map_err(TestCaseError::fail)?.is_some();
        prop_assert!(said.matches || !judged, "skipped: {} -> {}", old, new);
        let mut counted = counted.borrow_mut();
        let counted = &mut counted[index];
        *(if judged { &mut counted.0 } else { &mut counted.1 }) += 1;
        Ok(())
    });
    let counted = *counted.borrow();
    // Of kinds that run nothing little is judged.
    for (judged, free) in &counted[..3] {
        assert!(*judged > 50 && *free > 50, "one-sided: {counted:?}");
    }
}

fn review(group: &str, kind: &str, resource: &str, operation: &str, object: &Value, old: &Value) -> Review {
    let request = json!({
        "uid": "u", "operation": operation, "namespace": "ai", "object": object, "oldObject": old,
        "kind": {"group": group, "version": "v1", "kind": kind}, "resource": {"group": group, "version": "v1", "resource": resource},
        "userInfo": {"username": "ann"},
    });
    Review::from_value(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}))
        .expect("a review")
}

/// An object with what another one has in one place.
fn replaced(object: &Value, other: &Value, pointer: &str) -> Value {
    let mut object = object.clone();
    if let (Some(place), Some(there)) = (object.pointer_mut(pointer), other.pointer(pointer)) {
        *place = there.clone();
    }
    object
}

/// Of Secrets with tokens the API server takes none that names no account.
fn is_stored(secret: &Value) -> bool {
    let account = secret.pointer("/metadata/annotations/kubernetes.io~1service-account.name");
    secret["type"] != "kubernetes.io/service-account-token" || account.is_some_and(|account| account != "")
}

#[test]
fn a_secret_or_a_binding_that_is_skipped_would_have_passed() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let becomes = condition(&all, "token-secrets.ringfence.dev", "becomes-a-token-of-an-account");
    let new = condition(&all, "bindings.ringfence.dev", "names-somebody-new");
    let fenced = condition(&all, "bindings.ringfence.dev", "names-an-account-of-a-fenced-namespace");
    let places = [
        "",
        "/type",
        "/metadata",
        "/metadata/annotations",
        "/data",
        "/subjects",
        "/subjects/0",
    ];
    let before = prop::option::weighted(0.8, select(places.to_vec()));
    let skipped = RefCell::new([0, 0]);
    run(
        runner(800),
        &(select(vec!["CREATE", "UPDATE", "UPDATE"]), typed(), typed(), before),
        |(operation, object, other, before)| {
            let old = match (operation, before) {
                ("CREATE", _) => Value::Null,
                (_, None) => object.clone(),
                // The same but for one place, in which a change hides best; or another object.
                (_, Some(pointer)) => replaced(&object, &other, pointer),
            };
            let request = request(operation, &object, &old);
            if is_stored(&object) && is_stored(&old) && !evaluator.ask(&becomes, &request).matches {
                let review = review("", "Secret", "secrets", operation, &object, &old);
                let door = Door::of(&review).map_err(TestCaseError::fail)?.expect("a door");
                prop_assert_eq!(
                    door.check(&Facts::default(), "default"),
                    vec![],
                    "skipped: {} -> {}",
                    old,
                    object
                );
                skipped.borrow_mut()[0] += 1;
            }
            let is_skipped = [&new, &fenced]
                .iter()
                .any(|conditions| !evaluator.ask(conditions, &request).matches);
            if is_skipped {
                let review = review(
                    "rbac.authorization.k8s.io",
                    "RoleBinding",
                    "rolebindings",
                    operation,
                    &object,
                    &old,
                );
                let named = Binding::of(&review)
                    .map_err(TestCaseError::fail)?
                    .map(|binding| binding.namespaces().expect("few"));
                let fenced = named
                    .iter()
                    .flatten()
                    .find(|name| ["ai", "finance"].contains(&name.as_str()));
                prop_assert_eq!(fenced, None, "skipped: {} -> {}", old, object);
                skipped.borrow_mut()[1] += 1;
            }
            Ok(())
        },
    );
    assert!(
        skipped.borrow().iter().all(|count| *count > 100),
        "too little is skipped: {skipped:?}"
    );
}

#[test]
fn a_mode_that_is_set_is_never_skipped() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let sets = condition(&all, "modes.ringfence.dev", "sets-a-mode-or-changes-labels-under-one");
    let guarded = all
        .iter()
        .find(|asked| asked.name == "ringfence-modes")
        .expect("the guard")
        .conditions
        .clone();
    let labels = |object: &Value, key: &str| {
        object
            .pointer("/metadata/labels")
            .and_then(|labels| labels.get(key))
            .cloned()
    };
    run(
        runner(800),
        &(stored(), vec(edit(), 0..3), any::<bool>()),
        |(old, edits, create)| {
            let new = edited(&old, &edits);
            let old = if create { Value::Null } else { old };
            let request = request(if create { "CREATE" } else { "UPDATE" }, &new, &old);
            let modes = ["enforce", "warn", "audit"].map(|mode| format!("ringfence.dev/{mode}"));
            let is_set = modes.iter().any(|mode| {
                let value = labels(&new, mode);
                value.as_ref().is_some_and(|value| value != "") && value != labels(&old, mode)
            });
            let is_moved = modes.iter().any(|mode| labels(&new, mode) != labels(&old, mode));
            if is_set {
                prop_assert!(
                    evaluator.ask(&sets, &request).matches,
                    "a mode is set unasked: {} -> {}",
                    old,
                    new
                );
            }
            prop_assert_eq!(
                evaluator.ask(&guarded, &request).matches,
                is_moved,
                "{} -> {}",
                old,
                new
            );
            Ok(())
        },
    );
}

#[test]
fn a_token_that_is_asked_for_unasked_is_a_kubelets() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let people = condition(&all, "tokens.ringfence.dev", "not-a-kubelet");
    let users = [
        "system:node:n",
        "system:node:",
        "system:nodes",
        "system:serviceaccount:system:node:n",
        "ann",
    ];
    let groups = [
        vec!["system:nodes"],
        vec!["system:masters"],
        vec!["system:node:n"],
        vec![],
    ];
    for user in users {
        for groups in &groups {
            let mut asked = request("CREATE", &json!({"spec": {"expirationSeconds": 600}}), &Value::Null);
            (asked["user"], asked["groups"]) = (json!(user), json!(groups));
            let review = json!({
                "uid": "u", "operation": "CREATE", "namespace": "ai", "name": "triage", "object": asked["object"],
                "kind": {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"},
                "resource": {"group": "", "version": "v1", "resource": "serviceaccounts"}, "subResource": "token",
                "userInfo": {"username": user, "groups": groups},
            });
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": review});
            let review = Review::from_value(review).expect("a review");
            let door = Door::of(&review).expect("a review that can be used").expect("a door");
            let passes = door.check(&Facts::default(), "default").is_empty();
            let said = evaluator.ask(&people, &asked);
            assert_eq!(
                (said.matches, said.error.as_str()),
                (!passes, ""),
                "{user} of {groups:?}"
            );
        }
    }
}
