//! Door: what anybody may send, as often and as large as they like, keeps others from being served.

use serde_json::json;

use crate::world::World;

/// Questions about oneself are everybody's to ask, lie in no namespace, and are kept nowhere: none of them waits for Ringfence, whatever it
/// carries, and none takes the room of the platform's own writes.
///
/// Held by: `operator`
#[tokio::test]
async fn anybody_asks_questions_that_carry_the_label() {
    let world = World::shared().await;
    for (group, plural, kind) in [
        (
            "authorization.k8s.io",
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
        ),
        ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ] {
        let question = json!({
            "apiVersion": format!("{group}/v1"), "kind": kind,
            "metadata": {"labels": {"ringfence.dev/workflow": "x"}}, "spec": {"namespace": "default"},
        });
        let path = format!("/apis/{group}/v1/{plural}");
        world.tess.post(&path, &question).await.ok();
    }
}
