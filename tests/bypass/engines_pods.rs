//! Door: an engine mistakes its own pods, or no longer finds them: what it takes for done, or for another's, runs on, or runs again.

use serde_json::{Value, json};

use crate::operators::{Launched, OperatorsKind, launches};
use crate::world::{Actor, World, all, one, pod};

fn words(words: Value) -> Value {
    json!({"metadata": {"annotations": words}})
}

/// Of a pod, only a launcher makes these changes; what the class lets every pod carry, with the key `example.com/note`, is anybody's.
async fn writes_but_what_the_engine_goes_by(attacker: &Actor, path: &str, changes: [Value; 3]) {
    for change in changes {
        let answer = attacker.patch(path, &words(change)).await;
        let said = answer.refused_by("launcher");
        assert!(said.contains("by which its engine knows its pods"), "{said}");
    }
    for value in [json!("x"), Value::Null] {
        attacker
            .patch(path, &words(json!({"example.com/note": value})))
            .await
            .ok();
    }
}

/// By what an engine's profile lets its pods carry, the engine knows which is whose.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_writes_what_an_engine_tells_its_pods_apart_by() {
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "engines": [{"name": "airflow"}, {"name": "custom"}], "images": {"allowed": ["**"]}, "podAnnotations": ["example.com/"],
        }))
        .await;
    let ns = &world.namespace("apart", &json!({"ringfence.dev/enforce": class})).await;
    world.ready(ns, "triage", &json!({"engine": "airflow"})).await;
    world.ready(ns, "plain", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let mut task = pod("task", "triage");
    task["metadata"]["annotations"] = json!({"dag_id": "invoices", "task_id": "load"});
    lea.post(&all("Pod", ns), &task).await.ok();
    lea.post(&all("Pod", ns), &pod("plain", "plain")).await.ok();
    let path = one("Pod", ns, "task");
    for attacker in [&world.tess, &edith, &world.admin] {
        let changes = [
            json!({"task_id": "other"}),
            json!({"task_id": null}),
            json!({"try_number": "9"}),
        ];
        writes_but_what_the_engine_goes_by(attacker, &path, changes).await;
        // And a pod of another engine says nothing to this one, which is not allowed there either.
        let answer = attacker
            .patch(&one("Pod", ns, "plain"), &words(json!({"task_id": "x"})))
            .await;
        answer.refused_by("pod-annotations");
    }
    for change in [json!({"try_number": "2"}), json!({"try_number": null})] {
        lea.patch(&path, &words(change)).await.ok();
    }
}

/// KubeRay makes a pod anew that wears the hash of another spec: with none any more, what a launcher withdrew runs on.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_writes_what_an_engine_of_the_platforms_own_goes_by() {
    const HASH: &str = "ray.io/upgrade-strategy-recreate-hash";
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "engines": [{"name": "ray", "podAnnotations": ["ray.io/"]}], "images": {"allowed": ["**"]}, "podAnnotations": ["example.com/"],
        }))
        .await;
    let ns = &world
        .namespace("hashed", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(ns, "triage", &json!({"engine": "ray"})).await;
    world.ready(ns, "plain", &json!({})).await;
    let kind = OperatorsKind::new(&world).await;
    let lea = world.master("lea", &[]).await;
    let run = lea.post(&kind.all(ns), &kind.labelled("run")).await.ok();
    let mut head = pod("head", "triage");
    head["metadata"]["annotations"] = json!({HASH: "abc"});
    head["metadata"]["ownerReferences"] = json!([kind.owner(&run)]);
    launches(&lea, ns, &head).await;
    let (_, edith) = world.tenant(ns).await;
    let path = one("Pod", ns, "head");
    for attacker in [&world.tess, &edith, &world.admin] {
        let changes = [
            json!({HASH: ""}),
            json!({HASH: null}),
            json!({"ray.io/kuberay-version": "x"}),
        ];
        writes_but_what_the_engine_goes_by(attacker, &path, changes).await;
    }
    for change in [json!({HASH: "def"}), json!({HASH: null})] {
        lea.patch(&path, &words(change)).await.ok();
    }
    // A workflow that does not name the engine has none of it, not even from a launcher.
    let mut other = pod("other", "plain");
    other["metadata"]["annotations"] = json!({HASH: "abc"});
    lea.post(&all("Pod", ns), &other).await.refused_by("pod-annotations");
}

/// An operator that finds its pods by their labels loses one that wears others, and what it makes instead runs beside it.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_hides_a_pod_from_its_operator() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "hidden").await;
    let mut step = launched.step();
    step["metadata"]["labels"]["example.com/run"] = json!("run");
    launches(&launched.lea, &launched.ns, &step).await;
    let Launched { ns, lea, .. } = &launched;
    let (_, edith) = world.tenant(ns).await;
    let path = one("Pod", ns, "step");
    let labels = |value: Value| json!({"metadata": {"labels": {"example.com/run": value}}});
    for attacker in [&world.tess, &edith, &world.admin] {
        for change in [
            labels(Value::Null),
            labels(json!("other")),
            json!({"metadata": {"labels": {"done": "true"}}}),
        ] {
            let answer = attacker.patch(&path, &change).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("finds what is its own"), "{said}");
        }
        let note = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/note": "x"}}});
        attacker.patch(&path, &note).await.ok();
    }
    // Its operator is a launcher.
    lea.patch(&path, &json!({"metadata": {"labels": {"done": "true"}}}))
        .await
        .ok();
    world.tess.delete(&path).await.ok();
}
