//! Door: whoever sends much, or what anybody may send, keeps others from being served.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{World, all, one, pod, workload};

/// Questions about oneself are everybody's to ask, lie in no namespace, and are kept nowhere: none of them waits for Ringfence, whatever it
/// carries, and none takes the room of the platform's own writes.
///
/// Held by: `operator`
#[tokio::test]
async fn anybody_asks_questions_that_carry_the_label() {
    let world = World::shared().await;
    let carried = json!({"labels": {"ringfence.dev/workflow": "x"}, "annotations": {"a": "b"}});
    for (group, plural, kind, spec) in [
        (
            "authorization.k8s.io",
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            json!({"namespace": "default"}),
        ),
        (
            "authentication.k8s.io",
            "selfsubjectreviews",
            "SelfSubjectReview",
            Value::Null,
        ),
    ] {
        let mut question = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": carried});
        if !spec.is_null() {
            question["spec"] = spec;
        }
        world
            .tess
            .post(&format!("/apis/{group}/v1/{plural}"), &question)
            .await
            .ok();
    }
}

/// Three senders of what is as large as can be, and is refused: a launcher's rollout finds room beside them.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_fills_the_room_of_the_namespace_for_its_launchers() {
    let world = World::shared().await;
    let ns = &world.enforced("filled-up").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut app = workload("Deployment", &pod("app", "triage"));
    app["spec"]["replicas"] = json!(0);
    lea.post(&all("Deployment", ns), &app).await.ok();
    let path = format!("{}?dryRun=All", all("Deployment", ns));
    let mut large = workload("Deployment", &pod("large", "triage"));
    large["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["<".repeat(1_450_000)]);
    let attack = async || {
        for _ in 0..12 {
            // Whatever comes of it.
            drop(world.tess.try_post(&path, &large).await);
        }
    };
    let attacks = join_all((0..3).map(|_| attack()));
    let rolls_out = async {
        let mut refusals = Vec::new();
        for number in 0..30 {
            let image = format!("registry.example.com/finance/triage:{number}");
            let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}});
            let answer = lea.strategic(&one("Deployment", ns, "app"), &change).await;
            // A machine that is busy has answers of its own.
            if answer.message().contains("hold all the memory") {
                refusals.push(answer.message().to_owned());
            }
            sleep(Duration::from_millis(100)).await;
        }
        refusals
    };
    let (_, refusals) = tokio::join!(attacks, rolls_out);
    assert_eq!(refusals, [""; 0]);
}
