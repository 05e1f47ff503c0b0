//! Door: rights that nobody declares, by a declaration that says more than any workflow may hold.
//!
//! What is forbidden is listed here by hand, from the contract, and not taken from the code: a name that is missing there is found here.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::world::{Actor, Answer, CLASSES, World, all, workflow};

const VALID: &str = "valid-declaration";
/// Requests at the same time.
const TOGETHER: usize = 8;

/// A right that no workflow may hold, wherever it is declared: group, resource, verb.
const FORBIDDEN: [(&str, &str, &str); 81] = [
    // Wildcards.
    ("*", "configmaps", "get"),
    ("*.k8s.io", "ingresses", "get"),
    ("", "*", "get"),
    ("", "*/*", "get"),
    ("", "pods/*", "get"),
    ("", "*/log", "get"),
    ("", "*/exec", "create"),
    ("", "config*", "get"),
    ("", "configmaps", "*"),
    ("", "configmaps", "g*"),
    // Secrets.
    ("", "secrets", "get"),
    ("", "secrets", "create"),
    ("", "secrets/anything", "get"),
    // What reaches into pods, or past their review.
    ("", "pods/exec", "create"),
    ("", "pods/exec", "get"),
    ("", "pods/attach", "create"),
    ("", "pods/portforward", "create"),
    ("", "pods/proxy", "get"),
    ("", "pods/ephemeralcontainers", "patch"),
    ("", "pods/binding", "create"),
    ("", "pods/resize", "patch"),
    ("", "bindings", "create"),
    ("", "services/proxy", "get"),
    // Scale, of whatever kind.
    ("apps", "*/scale", "update"),
    ("apps", "deployments/scale", "update"),
    ("apps", "replicasets/scale", "patch"),
    ("apps", "statefulsets/scale", "get"),
    ("", "replicationcontrollers/scale", "update"),
    ("argoproj.io", "rollouts/scale", "update"),
    // Identities.
    ("", "serviceaccounts", "create"),
    ("", "serviceaccounts", "get"),
    ("", "serviceaccounts", "impersonate"),
    ("", "serviceaccounts/token", "create"),
    ("", "users", "impersonate"),
    ("", "users", "get"),
    ("", "groups", "impersonate"),
    ("", "groups", "get"),
    ("authentication.k8s.io", "uids", "impersonate"),
    ("authentication.k8s.io", "userextras/scopes", "impersonate"),
    ("authentication.k8s.io", "userextras/scopes", "get"),
    ("", "configmaps", "impersonate"),
    ("", "configmaps", "impersonate-on:user-info:get"),
    ("", "configmaps", "escalate"),
    ("", "configmaps", "bind"),
    ("", "configmaps", "approve"),
    ("", "configmaps", "sign"),
    ("", "configmaps", "use"),
    // The cluster's floor.
    ("", "nodes", "get"),
    ("", "nodes/proxy", "get"),
    ("", "nodes/status", "patch"),
    ("", "namespaces", "get"),
    ("", "namespaces/finalize", "update"),
    ("", "persistentvolumes", "create"),
    ("", "persistentvolumes/status", "patch"),
    // Who decides about rights, and about admission.
    ("rbac.authorization.k8s.io", "roles", "get"),
    ("rbac.authorization.k8s.io", "rolebindings", "create"),
    ("rbac.authorization.k8s.io", "clusterroles", "bind"),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "delete",
    ),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies", "delete"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "create"),
    ("apiextensions.k8s.io", "customresourcedefinitions", "update"),
    ("apiregistration.k8s.io", "apiservices", "create"),
    ("certificates.k8s.io", "certificatesigningrequests", "create"),
    ("certificates.k8s.io", "certificatesigningrequests/approval", "update"),
    ("certificates.k8s.io", "podcertificaterequests", "create"),
    ("certificates.k8s.io", "signers", "approve"),
    ("ringfence.dev", "aiworkflows", "update"),
    ("ringfence.dev", "aiworkflows/status", "update"),
    ("ringfence.dev", "aiworkflowgrants", "create"),
    ("ringfence.dev", "aiworkflowclasses", "approve"),
    ("ringfence.dev", "regopolicyexceptions", "create"),
    // The network's fence.
    ("networking.k8s.io", "networkpolicies", "get"),
    ("networking.k8s.io", "networkpolicies", "create"),
    ("projectcalico.org", "networkpolicies", "create"),
    ("discovery.k8s.io", "endpointslices", "update"),
    ("", "endpoints", "update"),
    ("discovery.k8s.io", "endpointslices", "get"),
    // The addresses of a pod and of a Service, from which follows whom a NetworkPolicy lets through.
    ("", "pods/status", "patch"),
    ("", "pods/status", "update"),
    ("", "services/status", "patch"),
];

/// Kinds that become pods, which nobody writes across namespaces.
const MAKES_PODS: [(&str, &str); 17] = [
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("argoproj.io", "workflows"),
    ("argoproj.io", "cronworkflows"),
    ("ray.io", "rayjobs"),
    ("tekton.dev", "taskruns"),
    ("kubeflow.org", "pytorchjobs"),
    ("keda.sh", "scaledjobs"),
    ("serving.knative.dev", "services"),
    ("sparkoperator.k8s.io", "sparkapplications"),
];

pub fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// The right by itself, in other letters, and beside what is harmless, in each of the three lists.
fn spellings((group, resource, verb): (&str, &str, &str)) -> Vec<Value> {
    let mut found = vec![
        rule(&[group], &[resource], &[verb]),
        rule(&["", group], &["configmaps", resource], &["get", verb]),
        rule(&[group, ""], &[resource, "configmaps"], &[verb, "list"]),
    ];
    for spell in [capital, |text: &str| text.to_ascii_uppercase()] {
        found.push(rule(&[&spell(group)], &[&spell(resource)], &[verb]));
        found.push(rule(&[group], &[resource], &[&spell(verb)]));
    }
    if !["create", "list", "watch", "deletecollection"].contains(&verb) {
        let mut named = rule(&[group], &[resource], &[verb]);
        named["resourceNames"] = json!(["mine"]);
        found.push(named);
    }
    found
}

/// What is no right of its own, and a trick with its fields.
fn tricks() -> Vec<Value> {
    let configmaps = || rule(&[""], &["configmaps"], &["get"]);
    let with = |field: &str, value: Value| {
        let mut rule = configmaps();
        rule[field] = value;
        rule
    };
    let mut named = with("resourceNames", json!(["mine"]));
    let mut tricks = vec![
        with("apiGroups", json!([])),
        with("resources", json!([])),
        with("verbs", json!([])),
        with("resourceNames", json!([""])),
        with("resourceNames", json!(["*"])),
        with("resourceNames", json!(["mine", "*"])),
        with("verbs", json!(["Get"])),
        with("verbs", json!(["get", ""])),
    ];
    for verb in ["create", "list", "watch", "deletecollection"] {
        named["verbs"] = json!(["get", verb]);
        tricks.push(named.clone());
    }
    tricks
}

/// Where a rule may be written, and who would.
struct Place {
    what: &'static str,
    /// Path of the rule in the object.
    field: &'static str,
    actor: Actor,
    collection: String,
    object: Box<dyn Fn(&Value) -> Value>,
}

async fn places(world: &World, ns: &str, other: &str) -> Vec<Place> {
    let (_, ada) = world.person(other, "admin").await;
    let place = |what, field, actor: &Actor, collection: String, object: Box<dyn Fn(&Value) -> Value>| Place {
        what,
        field,
        actor: actor.clone(),
        collection: format!("{collection}?dryRun=All"),
        object,
    };
    let (reaches, from) = (other.to_owned(), ns.to_owned());
    let of_class = |spec: Box<dyn Fn(&Value) -> Value>| -> Box<dyn Fn(&Value) -> Value> {
        Box::new(move |rule| {
            json!({
                "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "x"}, "spec": spec(rule),
            })
        })
    };
    let (tess, admin) = (&world.tess, &world.admin);
    vec![
        place(
            "at home",
            "spec.permissions.rules[0]",
            tess,
            all("AIWorkflow", ns),
            Box::new(|rule| workflow("x", &json!({"permissions": {"rules": [rule]}}))),
        ),
        place(
            "across",
            "spec.permissions.crossNamespace[0].rules[0]",
            tess,
            all("AIWorkflow", ns),
            Box::new(move |rule| {
                workflow(
                    "x",
                    &json!({"permissions": {"crossNamespace": [{"namespace": reaches, "rules": [rule]}]}}),
                )
            }),
        ),
        place(
            "in a grant",
            "spec.rules[0]",
            &ada,
            all("AIWorkflowGrant", other),
            Box::new(move |rule| {
                json!({
                    "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "x"},
                    "spec": {"from": [{"namespace": from, "name": "x"}], "rules": [rule]},
                })
            }),
        ),
        place(
            "in a class",
            "spec.permissions[0]",
            admin,
            CLASSES.to_owned(),
            of_class(Box::new(|rule| json!({"permissions": [rule]}))),
        ),
        place(
            "in a class, across",
            "spec.crossNamespacePermissions[0]",
            admin,
            CLASSES.to_owned(),
            of_class(Box::new(|rule| json!({"crossNamespacePermissions": [rule]}))),
        ),
        place(
            "for an engine's worker",
            "spec.engines[0].worker[0]",
            admin,
            CLASSES.to_owned(),
            of_class(Box::new(
                |rule| json!({"engines": [{"name": "mine", "worker": [rule]}]}),
            )),
        ),
        place(
            "for an engine's launcher",
            "spec.engines[0].launcher[0]",
            admin,
            CLASSES.to_owned(),
            of_class(Box::new(
                |rule| json!({"engines": [{"name": "mine", "launcher": [rule]}]}),
            )),
        ),
    ]
}

/// Whether Ringfence's rule or the definition refused it, and named the field.
fn is_refused(answer: &Answer, field: &str) -> bool {
    let by_rule = answer.code == 403 && answer.message().contains(&format!("[{VALID}]"));
    (by_rule || answer.code == 422) && answer.message().contains(field)
}

async fn each_is_refused(place: &Place, rules: impl Iterator<Item = Value>) {
    let passed: Vec<String> = futures::stream::iter(rules)
        .map(|rule| async move {
            let answer = place.actor.post(&place.collection, &(place.object)(&rule)).await;
            (!is_refused(&answer, place.field))
                .then(|| format!("{}: {rule}: {} {}", place.what, answer.code, answer.message()))
        })
        .buffer_unordered(TOGETHER)
        .filter_map(|passed| async { passed })
        .collect()
        .await;
    assert!(
        passed.is_empty(),
        "{} of them pass:\n{}",
        passed.len(),
        passed.join("\n")
    );
}

/// In every place where a rule is written, in every spelling, alone and beside what is harmless: whoever writes it, the platform too.
/// Held by: `valid-declaration`, `definition`
#[tokio::test]
async fn somebody_declares_what_no_workflow_may_hold() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("holds").await,
        &world.namespace("held", &json!({})).await,
    );
    for place in places(&world, ns, other).await {
        // The rights of the chart's roles come by aggregation.
        let harmless = (place.object)(&rule(&[""], &["configmaps"], &["get", "watch"]));
        support::eventually(crate::world::SOON, || async {
            let answer = place.actor.post(&place.collection, &harmless).await;
            anyhow::ensure!(answer.code == 201, "{}: {}", place.what, answer.message());
            Ok(())
        })
        .await;
        each_is_refused(&place, FORBIDDEN.into_iter().flat_map(spellings).chain(tricks())).await;
    }
}

/// A pod in another namespace is outside every fence. At home the class may let an engine make pods, which are judged as any other.
/// Held by: `valid-declaration`, `definition`
#[tokio::test]
async fn a_workflow_is_to_make_pods_in_another_namespace() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("makes").await,
        &world.namespace("made", &json!({})).await,
    );
    let places = places(&world, ns, other).await;
    let across = places
        .iter()
        .filter(|place| ["across", "in a grant", "in a class, across"].contains(&place.what));
    for place in across {
        let rules = MAKES_PODS.into_iter().flat_map(|(group, resource)| {
            let verbs = ["create", "update", "patch", "delete", "deletecollection"];
            let spelled = [resource.to_owned(), capital(resource)];
            spelled
                .into_iter()
                .flat_map(move |resource| verbs.map(|verb| rule(&[group], &["configmaps", &resource], &["get", verb])))
        });
        each_is_refused(place, rules).await;
        let read = rule(&["batch"], &["jobs"], &["get", "list", "watch"]);
        support::eventually(crate::world::SOON, || async {
            let answer = place.actor.post(&place.collection, &(place.object)(&read)).await;
            anyhow::ensure!(answer.code == 201, "{}: {}", place.what, answer.message());
            Ok(())
        })
        .await;
    }
}

/// Fields that a rule of RBAC has and ours has not, and other letters for those that it has.
/// Held by: `definition`, `API server`
#[tokio::test]
async fn a_rule_says_more_than_a_rule_of_ours_can() {
    let world = World::shared().await;
    let ns = &world.enforced("says-more").await;
    let mut more = rule(&[""], &["configmaps"], &["get"]);
    for (field, value) in [
        ("nonResourceURLs", json!(["*"])),
        ("Verbs", json!(["*"])),
        ("RESOURCES", json!(["secrets"])),
        ("apigroups", json!(["*"])),
        ("clusterRoleSelectors", json!([{"matchLabels": {}}])),
    ] {
        more[field] = value;
    }
    let mut greedy = workflow(
        "triage",
        &json!({"permissions": {"rules": [more], "Rules": [rule(&[""], &["secrets"], &["get"])]}}),
    );
    greedy["Spec"] = json!({"permissions": {"rules": [rule(&[""], &["secrets"], &["get"])]}});
    let strict = format!("{}?fieldValidation=Strict", all("AIWorkflow", ns));
    let answer = world.tess.post(&strict, &greedy).await;
    assert_eq!(answer.code, 400, "{}", answer.body);
    // Dropped, and the tenant is told; what is left is all that the workflow gets.
    let answer = world.tess.post(&all("AIWorkflow", ns), &greedy).await;
    let told = answer.warnings.iter().filter(|said| said.starts_with("unknown field"));
    assert!(told.count() >= 7, "{:?}", answer.warnings);
    answer.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let roles = world.admin.items(&all("Role", ns)).await.unwrap();
    let rules: Vec<_> = roles.iter().map(|role| role["rules"].clone()).collect();
    assert_eq!(rules, [json!([rule(&[""], &["configmaps"], &["get"])])]);
}
