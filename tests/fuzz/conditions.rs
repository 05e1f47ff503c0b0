//! matchConditions, evaluated by the API server's own code for objects that are made up: none may err, because an error refuses the
//! innocent.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use ringfence::plan::{Bound, binding_webhooks};
use serde_json::{Value, json};
use support::chart::rendered;
use support::match_conditions::{MatchConditions, Matched};

use crate::json::stored;
use crate::{corpus, runner};

/// A webhook or a guard: its name, and its conditions.
pub struct Asked {
    pub name: String,
    pub conditions: Value,
}

/// Every webhook and guard that has conditions, those included that the operator writes.
pub fn everything() -> Vec<Asked> {
    let objects = rendered().expect("the chart");
    let mut found = Vec::new();
    let mut add = |name: &Value, conditions: &Value| {
        if !conditions.is_null() {
            let name = name.as_str().expect("a name").to_owned();
            found.push(Asked {
                name,
                conditions: conditions.clone(),
            });
        }
    };
    let registration = objects
        .iter()
        .find(|object| object["kind"] == "ValidatingWebhookConfiguration" && object["metadata"]["name"] == "ringfence");
    let mut registration = registration.expect("a registration").clone();
    for webhook in registration["webhooks"].as_array_mut().expect("webhooks") {
        webhook["clientConfig"]["caBundle"] = json!("LQ==");
    }
    let bound = Bound::of(["ai".to_owned(), "finance".to_owned()].into());
    let bindings = binding_webhooks(&bound, &registration, "ringfence-system").expect("webhooks");
    for webhook in &bindings {
        add(&webhook["name"], &webhook["matchConditions"]);
    }
    for object in &objects {
        for webhook in object["webhooks"].as_array().into_iter().flatten() {
            add(&webhook["name"], &webhook["matchConditions"]);
        }
        if object["kind"] == "ValidatingAdmissionPolicy" {
            add(&object["metadata"]["name"], &object["spec"]["matchConditions"]);
        }
    }
    assert!(
        found.len() > 10,
        "{} registrations and guards with conditions",
        found.len()
    );
    found
}

/// One condition of a webhook, by name.
pub fn condition(all: &[Asked], webhook: &str, name: &str) -> Value {
    let asked = all
        .iter()
        .find(|asked| asked.name == webhook)
        .unwrap_or_else(|| panic!("no webhook {webhook}"));
    let found = asked
        .conditions
        .as_array()
        .expect("conditions")
        .iter()
        .find(|condition| condition["name"] == name);
    json!([found.unwrap_or_else(|| panic!("{webhook} has no condition {name}"))])
}

/// A request, without conditions.
pub fn request(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "operation": operation, "object": object, "oldObject": old, "namespace": "ai", "name": "o", "user": "ann", "groups": ["data"],
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
    })
}

pub struct Evaluator(RefCell<MatchConditions>);

impl Evaluator {
    pub fn start() -> Self {
        Self(RefCell::new(MatchConditions::start().expect("the evaluator")))
    }

    pub fn ask(&self, conditions: &Value, request: &Value) -> Matched {
        let mut question = request.clone();
        question["conditions"] = conditions.clone();
        self.0.borrow_mut().ask(&question).expect("an answer")
    }
}

pub fn run<S: Strategy>(mut runner: TestRunner, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    runner.run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

fn none_errs(evaluator: &Evaluator, all: &[Asked], request: &Value) -> Result<(), TestCaseError> {
    for asked in all {
        let said = evaluator.ask(&asked.conditions, request);
        prop_assert_eq!(&said.error, "", "{} errs on {}", &asked.name, request);
    }
    Ok(())
}

/// Subjects and such, as the API server's types have them: what a rule's `has` and `size` look at is of the right type, or not there.
pub fn typed() -> impl Strategy<Value = Value> {
    let name = || {
        prop::option::of(select(vec![
            "",
            "ringfence",
            "system:serviceaccount:ai:x",
            "system:serviceaccounts:ai",
            "system:serviceaccount:",
            "a:b",
        ]))
    };
    let subject = (
        select(vec!["ServiceAccount", "User", "Group"]),
        name(),
        prop::option::of(select(vec!["", "ai", "ringfence-system", "other"])),
    );
    let subject = subject.prop_map(|(kind, name, namespace)| json!({"kind": kind, "name": name.unwrap_or_default(), "namespace": namespace.unwrap_or_default()}));
    let fields = (
        vec(subject, 0..4),
        select(vec![
            "",
            "kubernetes.io/service-account-token",
            "kubernetes.io/service-account-token",
            "Opaque",
        ]),
        select(vec!["ringfence.dev", "other.example"]),
        prop::option::of(select(vec!["", "triage", "other"])),
    );
    let there = [0.6, 0.8, 0.5].map(prop::bool::weighted);
    (fields, stored(), there).prop_map(|((subjects, type_, group, account), mut object, there)| {
        for (key, value, is_there) in [
            ("subjects", json!(subjects), there[0]),
            ("type", json!(type_), there[1]),
            ("spec", json!({"group": group}), there[2]),
        ] {
            object.as_object_mut().expect("an object").remove(key);
            if is_there {
                object[key] = value;
            }
        }
        if let (Some(account), Some(metadata)) = (account, object.get_mut("metadata")) {
            metadata["annotations"]["kubernetes.io/service-account.name"] = json!(account);
        }
        object
    })
}

#[test]
fn no_condition_errs_whatever_the_request_is() {
    let (evaluator, all) = (Evaluator::start(), everything());
    for (name, bytes) in corpus("conditions") {
        let case: Value = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for operation in ["CREATE", "UPDATE"] {
            let old = if operation == "CREATE" {
                &Value::Null
            } else {
                &case["old"]
            };
            none_errs(&evaluator, &all, &request(operation, &case["new"], old))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    // Without a name nobody is authenticated: there the conditions err, and refuse.
    let users = select(vec![
        "ann",
        "system:apiserver",
        "system:node:n",
        "system:kube-controller-manager",
    ]);
    let operations = select(vec!["CREATE", "UPDATE", "UPDATE", "DELETE", "CONNECT"]);
    let resources = select(vec![
        ("", "pods"),
        ("", "pods/exec"),
        ("", "nodes"),
        ("discovery.k8s.io", "endpointslices"),
        ("x.example", "things"),
    ]);
    let strategy = (operations, users, resources, typed(), typed(), any::<(bool, bool)>());
    run(
        runner(150),
        &strategy,
        |(operation, user, (group, resource), object, old, (cluster, allowed))| {
            let nothing = Value::Null;
            let (object, old) = match operation {
                "CREATE" => (&object, &nothing),
                "UPDATE" => (&object, &old),
                "DELETE" => (&nothing, &old),
                _ => (&object, &nothing),
            };
            let mut request = request(operation, object, old);
            request["user"] = json!(user);
            request["allowed"] = json!(allowed);
            request["resource"] = json!({"group": group, "version": "v1", "resource": resource});
            if cluster {
                request["namespace"] = json!("");
            }
            none_errs(&evaluator, &all, &request)
        },
    );
}

/// As large as an object can be: most conditions walk over it.
#[test]
fn no_condition_costs_more_than_it_may() {
    let (evaluator, all) = (Evaluator::start(), everything());
    let many =
        |count: usize, value: &dyn Fn(usize) -> Value| -> Value { (0..count).map(value).collect::<Vec<_>>().into() };
    let map = |count: usize, prefix: &str| -> Value {
        Value::Object((0..count).map(|n| (format!("{prefix}{n}"), json!("x"))).collect())
    };
    let owner = |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": n.to_string()});
    let entry = |n: usize| {
        let fields = json!({"f:metadata": {"f:annotations": map(300, "f:")}, "f:spec": {"f:template": map(300, "f:")}});
        json!({"manager": format!("m{n}"), "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    };
    let large = json!({
        "metadata": {
            "managedFields": many(70, &entry),
            "name": "o", "namespace": "ai", "labels": map(1500, "ringfence.dev/k"), "annotations": map(1500, "ringfence.dev/k"),
            "ownerReferences": many(1000, &owner), "finalizers": many(500, &|n| json!(format!("a/{n}"))),
        },
        "data": map(10_000, "k"), "spec": {"containers": many(500, &|n| json!({"name": n.to_string()}))},
        "subjects": many(2000, &|n| json!({"kind": "User", "name": format!("system:serviceaccount:ai:{n}")})),
    });
    let mut other = large.clone();
    other["metadata"]["ownerReferences"] = many(1000, &|n| owner(n + 500));
    other["data"]["k9999"] = json!("y");
    let mut written = large.clone();
    written["metadata"]["managedFields"][69]["manager"] = json!("x");
    for (operation, object, old) in [
        ("CREATE", &large, &Value::Null),
        ("UPDATE", &large, &other),
        ("UPDATE", &large, &large),
        ("UPDATE", &large, &written),
    ] {
        none_errs(&evaluator, &all, &request(operation, object, old))
            .unwrap_or_else(|error| panic!("{}", &error.to_string()[..400]));
    }
}
