//! Door: an exception to a policy goes on when it should be over.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use support::unique;

use crate::exceptions::{Scene, after, exception, wearing};
use crate::world::{all, one};

/// Nobody edits it, and a second later it is over.
/// Held by: `operator`
#[tokio::test]
async fn somebody_goes_on_after_it_has_expired() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let end = after(3);
    let short = json!({"expiresAt": end});
    scene.except(ns, "short", &["red"], &short).await.ok();
    scene.tried(ns, &wearing("short", &["red"])).await.ok();
    scene.reason(ns, "short", "True", "Accepted").await;
    let left = end.parse::<Timestamp>().unwrap().duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(20)).await;
    scene.tried(ns, &wearing("short", &["red"])).await.refused_by("red");
    // Written once when it ends, and never again.
    scene.reason(ns, "short", "False", "Expired").await;
    let path = one("RegoPolicyException", ns, "short");
    let said = scene.admin.get(&path).await.ok();
    assert_eq!(said["metadata"]["generation"], 1, "nobody edited it");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let later = scene.admin.get(&path).await.ok();
    assert_eq!(
        later["metadata"]["resourceVersion"],
        said["metadata"]["resourceVersion"]
    );
}

/// By another end, and by another beginning.
/// Held by: `operator`
#[tokio::test]
async fn somebody_prolongs_it() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let day = 24 * 3600;
    let long = wearing("long", &["red"]);
    let answer = scene
        .except(ns, "long", &["red"], &json!({"expiresAt": after(day + 60)}))
        .await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("(TooLong)")),
        "{:?}",
        answer.warnings
    );
    scene.tried(ns, &long).await.refused_by("red");
    let message = scene.reason(ns, "long", "False", "TooLong").await;
    assert!(message.contains("more than 1 days after it was made"), "{message}");

    // Within its day it may be moved, and not beyond, whoever says when it was made.
    let path = one("RegoPolicyException", ns, "long");
    scene
        .platform
        .patch(&path, &json!({"spec": {"expiresAt": after(day - 60)}}))
        .await
        .ok();
    scene.tried(ns, &long).await.ok();
    let later = json!({"metadata": {"creationTimestamp": after(2 * day)}, "spec": {"expiresAt": after(day + 60)}});
    scene.platform.patch(&path, &later).await;
    scene.platform.patch(&path, &json!({"spec": later["spec"]})).await.ok();
    scene.tried(ns, &long).await.refused_by("red");
    let mut forged = exception(
        "forged",
        &["red"],
        &json!({"names": ["long"], "expiresAt": after(2 * day)}),
    );
    forged["metadata"]["creationTimestamp"] = json!(after(2 * day));
    scene.platform.post(&all("RegoPolicyException", ns), &forged).await.ok();
    scene.tried(ns, &long).await.refused_by("red");
}

/// By a finalizer.
/// Held by: `operator`
#[tokio::test]
async fn somebody_keeps_it_from_going() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let held = wearing("held", &["red"]);
    scene.except(ns, "held", &["red"], &json!({})).await.ok();
    let path = one("RegoPolicyException", ns, "held");
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    scene
        .platform
        .patch(&path, &finalizers(json!(["example.com/held"])))
        .await
        .ok();
    scene.tried(ns, &held).await.ok();
    scene.drop(ns, "held").await;
    assert!(scene.admin.is_there(&path).await.unwrap(), "a finalizer holds it");
    scene.tried(ns, &held).await.refused_by("red");
    scene.reason(ns, "held", "False", "Terminating").await;
    scene.platform.patch(&path, &finalizers(Value::Null)).await.ok();
    scene.admin.gone(&path).await;
    scene.tried(ns, &held).await.refused_by("red");
}

/// Which of them were seen would be chance.
/// Held by: `operator`
#[tokio::test]
async fn somebody_writes_more_than_are_looked_at() {
    let scene = &Scene::new().await;
    let ns = &scene.open;
    let many = wearing("many", &["red"]);
    let collection = all("RegoPolicyException", ns);
    scene.except(ns, "many", &["red"], &json!({})).await.ok();
    let there = scene.admin.items(&collection).await.unwrap().len();
    let answers = futures::stream::iter(there..200).map(|_| async {
        let name = unique("filler");
        scene
            .except(ns, &name, &["red"], &json!({"names": ["nothing"]}))
            .await
            .ok();
    });
    answers.buffer_unordered(16).collect::<Vec<_>>().await;
    scene.tried(ns, &many).await.ok();
    scene
        .except(ns, "one-more", &["red"], &json!({"names": ["many"]}))
        .await
        .ok();
    let answer = scene.tried(ns, &many).await;
    let said = answer.refused_by("red");
    assert!(said.contains("more than 200 RegoPolicyExceptions"), "{said}");
    scene.reason(ns, "one-more", "False", "TooMany").await;
    scene.drop(ns, "one-more").await;
    scene.tried(ns, &many).await.ok();
}
