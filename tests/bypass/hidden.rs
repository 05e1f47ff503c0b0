//! Door: what is declared in a namespace that a tenant may not read, told by what Ringfence says of her own declaration.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{SOON, World, all, condition, one, workflow};

/// By naming one as peer, which she may not reach: what is there and what is not looks the same.
///
/// Held by: `operator`
#[tokio::test]
async fn asks_which_workflows_there_are_elsewhere() {
    let world = World::shared().await;
    let (ns, hidden) = (&world.enforced("asks").await, &world.enforced("hidden").await);
    let named = json!({"identity": {"serviceAccountName": "books"}});
    world.ready(hidden, "secretive", &named).await;
    let mut told = Vec::new();
    for peer in ["secretive", "nothing"] {
        let peer = json!({"workflow": {"namespace": hidden, "name": peer}});
        let ports = json!([{"port": 8080}]);
        let spec = json!({"network": {
            "egress": [{"name": "out", "to": peer, "ports": ports}], "ingress": [{"name": "in", "from": peer, "ports": ports}],
        }});
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow("probe", &spec))
            .await
            .ok();
        let probe = world.condition(ns, "probe", "Accepted", "False", "OutsideClass").await;
        let said = ["Accepted", "ResolvedRefs", "Ready"].map(|type_| {
            let said = condition(&probe, type_);
            (said["status"].clone(), said["reason"].clone(), said["message"].clone())
        });
        told.push(json!(said));
        let path = one("AIWorkflow", ns, "probe");
        world.tess.delete(&path).await.ok();
        world.admin.gone(&path).await;
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0][1][0], "True", "{}", told[0]);
}

/// By naming its account as launcher: whose it is goes without the name.
///
/// Held by: `operator`
#[tokio::test]
async fn asks_whose_an_account_elsewhere_is() {
    let world = World::shared().await;
    let (hidden, open) = (&world.enforced("hidden").await, &world.enforced("open").await);
    let named = json!({"identity": {"serviceAccountName": "books"}});
    for place in [hidden, open] {
        world.ready(place, "secretive", &named).await;
    }
    let class = world
        .class(&json!({"engines": [{"name": "airflow"}], "images": {"allowed": ["**"]}, "network": {"namespaces": [open]}}))
        .await;
    let ns = &world.namespace("asks", &json!({"ringfence.dev/enforce": class})).await;
    for (place, is_told) in [(hidden, false), (open, true)] {
        let account = json!({"serviceAccount": {"namespace": place, "name": "books"}});
        let spec = json!({"engine": "airflow", "launchers": [account]});
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow("probe", &spec))
            .await
            .ok();
        let path = one("AIWorkflow", ns, "probe");
        let said: Value = eventually(SOON, || async {
            let probe = world.admin.read(&path).await?;
            let said = condition(&probe, "ResolvedRefs").clone();
            ensure!(said["reason"] == "NoGrant", "{}", probe["status"]);
            Ok(said)
        })
        .await;
        let message = said["message"].as_str().unwrap_or_default();
        assert!(message.contains(&format!("ServiceAccount {place}/books")), "{message}");
        assert_eq!(message.contains("secretive"), is_told, "{message}");
        world.tess.delete(&path).await.ok();
        world.admin.gone(&path).await;
    }
}
