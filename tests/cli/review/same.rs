//! `review` and admission say the same, word for word, of every manifest that this repository shows to people.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ringfence::{
    api::is_exempt,
    plan::{self, NamespaceFacts},
    policy::PolicySet,
    review::Review,
    telemetry::Metrics,
    webhook::{
        Admit as _, Pool, Webhook,
        admit::Admission,
        lookup::{Fixed, Key},
    },
};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::Files;
use ringfence::fence::Named;

/// Folders with manifests, and what has to stand beside them.
const SHOWN: [&str; 4] = ["examples", "demo", "tests/fixtures", "examples/ci/deploy"];
const BESIDE: &str = "examples/ci/platform";
const LAUNCHER: &str = "system:serviceaccount:airflow:airflow-scheduler";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if name.ends_with(".yaml")
            && !name.contains(".out.")
            && !name.contains("examples/ci/g")
            && !name.contains("pre-commit")
        {
            found.push(path);
        }
    }
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let read: Result<Vec<Value>, _> = serde_saphyr::from_multiple(&text);
    let objects = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    objects
        .into_iter()
        .filter(|object| {
            let is_named = |key: &str| object["metadata"][key].is_string();
            object["kind"].is_string() && (is_named("name") || is_named("generateName"))
        })
        .collect()
}

fn text(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// A cluster in which all of these stand, and Ringfence has made what it makes of them.
fn cluster(objects: &[Value]) -> Fixed {
    let class = serde_json::to_value(plan::default_class()).unwrap();
    let mut class = class;
    class["status"]["cluster"] = json!({});
    let mut cluster = Fixed::default().with(Key::Class("default".to_owned()), class);
    let mut seen = BTreeMap::new();
    for object in objects {
        let (kind, name, namespace) = (
            text(object, "/kind"),
            text(object, "/metadata/name"),
            text(object, "/metadata/namespace"),
        );
        // The first one counts, as in `review`.
        if seen
            .insert((kind.clone(), namespace.clone(), name.clone()), ())
            .is_some()
        {
            continue;
        }
        let mut object = object.clone();
        let named = |name: &str| Named {
            namespace: namespace.clone(),
            name: name.to_owned(),
        };
        match kind.as_str() {
            "Namespace" => {
                object["metadata"]["uid"] = format!("uid-{name}").into();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.as_str().into();
                let facts = NamespaceFacts::from_object(&object, |name| is_exempt(name, None)).unwrap();
                cluster = cluster
                    .with(Key::DefaultDeny(name.clone()), plan::default_deny(&facts))
                    .with(Key::Namespace(name), object);
            }
            "AIWorkflow" => {
                object["metadata"]["uid"] = format!("uid-{name}").into();
                let account = match text(&object, "/spec/identity/serviceAccountName") {
                    own if own.is_empty() => name.clone(),
                    own => own,
                };
                let made = json!({"metadata": {"name": account, "annotations": {"ringfence.dev/owner-uid": format!("uid-{name}")}}});
                cluster = cluster
                    .with(Key::Account(named(&account)), made)
                    .with(Key::Workflow(named(&name)), object);
            }
            "AIWorkflowClass" => {
                object["status"]["cluster"] = json!({});
                cluster = cluster.with(Key::Class(name), object);
            }
            _ => {}
        }
    }
    let launcher = LAUNCHER
        .strip_prefix("system:serviceaccount:")
        .unwrap()
        .split_once(':')
        .unwrap();
    let launcher = Named {
        namespace: launcher.0.to_owned(),
        name: launcher.1.to_owned(),
    };
    cluster.with(Key::Account(launcher), json!({"metadata": {"uid": "launcher"}}))
}

/// What the API server would send to that webhook.
fn review(object: &Value, resource: &str, is_namespaced: bool) -> Review {
    let api_version = text(object, "/apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = json!({"group": group, "version": version, "kind": object["kind"]});
    let resource = json!({"group": group, "version": version, "resource": resource});
    let of_namespace = text(object, "/kind") == "Namespace";
    let namespace = if of_namespace {
        &object["metadata"]["name"]
    } else {
        &object["metadata"]["namespace"]
    };
    let mut object = object.clone();
    if object["kind"] == "Pod" && object["spec"]["serviceAccountName"].is_null() {
        object["spec"]["serviceAccountName"] = json!("default");
    }
    let request = json!({
        "uid": "u", "operation": "CREATE", "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
        "name": object["metadata"]["name"], "namespace": if is_namespaced || of_namespace { namespace.clone() } else { Value::Null },
        "object": object, "oldObject": null, "dryRun": false,
        "userInfo": {
            "username": LAUNCHER, "uid": "launcher", "extra": {"authentication.kubernetes.io/credential-id": ["JTI=1"]},
            "groups": ["system:serviceaccounts", "system:serviceaccounts:airflow", "system:authenticated"],
        },
    });
    let sent = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Review::parse(&serde_json::to_vec(&sent).unwrap()).unwrap()
}

fn webhook(name: &str) -> Webhook {
    *Webhook::FIXED
        .iter()
        .find(|webhook| webhook.as_str() == name)
        .unwrap_or_else(|| panic!("{name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_that_is_shown_gets_the_same_verdict_and_words() {
    let mut paths = Vec::new();
    for folder in SHOWN {
        yaml_files(&root().join(folder), &mut paths);
    }
    paths.sort();
    paths.dedup();
    let mut beside = Vec::new();
    yaml_files(&root().join(BESIDE), &mut beside);
    let (mut compared, mut refused) = (0, 0);
    for path in paths {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let own = documents(&path);
        let around: Vec<Value> = own
            .iter()
            .cloned()
            .chain(beside.iter().flat_map(|path| documents(path)))
            .collect();
        let policies = Arc::new(PolicySet::embedded(&BTreeMap::new()).unwrap());
        let metrics = Arc::new(Metrics::new());
        let pool = Arc::new(Pool::new(policies, 4, Arc::clone(&metrics)));
        let admission = Admission::new(Arc::new(cluster(&around)), pool, "ringfence-system", metrics);
        let (_, json) = Files::of(&[]).json(&["--context", BESIDE, "--as", LAUNCHER, &shown], b"");
        let results = json["results"].as_array().unwrap();
        assert_eq!(results.len(), own.len(), "{shown}: {json}");
        for (object, result) in own.iter().zip(results) {
            // What misses a fact is not compared: the tests of facts hold it to say so. What is vetted needs a child.
            let is_whole = result["notJudged"].as_array().unwrap().is_empty();
            let is_known = result["findings"]
                .as_array()
                .unwrap()
                .iter()
                .all(|one| one["policy"] != "schema");
            for answer in result["answers"].as_array().unwrap() {
                let name = answer["webhook"].as_str().unwrap();
                if !is_whole || !is_known || object["kind"] == "RegoPolicy" || name.starts_with("policies/") {
                    continue;
                }
                let plural = format!("{}s", text(object, "/kind").to_lowercase());
                let review = review(object, &plural, result["namespace"].is_string());
                let deadline = Instant::now() + Duration::from_secs(30);
                let admission = admission.clone();
                let asked = webhook(name);
                let (decision, kind) = tokio::task::spawn_blocking(move || {
                    let decision =
                        tokio::runtime::Handle::current().block_on(admission.admit(asked, &review, deadline));
                    (decision, review.kind.kind)
                })
                .await
                .unwrap();
                let sent: Value = serde_json::from_slice(&decision.render("u", &kind)).unwrap();
                let at = format!("{shown}: {} {}", object["kind"], object["metadata"]["name"]);
                assert_eq!(answer["allowed"], sent["response"]["allowed"], "{at}");
                assert_eq!(
                    answer["message"],
                    sent["response"].pointer("/status/message").cloned().unwrap_or_default(),
                    "{at}"
                );
                let warnings = sent["response"].get("warnings").cloned().unwrap_or(json!([]));
                assert_eq!(answer["warnings"], warnings, "{at}");
                compared += 1;
                refused += usize::from(answer["allowed"] == false);
            }
        }
    }
    assert!(compared >= 20 && refused >= 4, "{compared} compared, {refused} refused");
}
