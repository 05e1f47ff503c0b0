//! A workflow and what it runs in one `kubectl apply` of a tenant always ends with the pod there, without hands.

use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{World, all, pod, tess, workflow, workload};

/// Applies of each kind.
const TIMES: usize = 100;
/// Applies at the same time: kubectl takes a core each.
const TOGETHER: usize = 3;
/// From the last apply to the last pod.
const CONVERGES: Duration = Duration::from_secs(90);

fn launched_by_tess() -> Value {
    json!({"launchers": [{"user": "tess"}]})
}

async fn converges(kind: &str) {
    let world = World::shared().await;
    let mut namespaces = Vec::new();
    for _ in 0..4 {
        namespaces.push(world.enforced("converges").await);
    }
    let applies = (0..TIMES).map(|i| {
        let (world, ns) = (&world, &namespaces[i % namespaces.len()]);
        async move {
            let name = format!("w{i}");
            let mut manifests = [workflow(&name, &launched_by_tess()), workload(kind, &pod(&name, &name))];
            for manifest in &mut manifests {
                manifest["metadata"]["namespace"] = json!(ns);
            }
            let said = world.apply_as(&tess(), &manifests).await;
            assert!(said.success, "{kind} {name}: {said}");
        }
    });
    futures::stream::iter(applies)
        .buffer_unordered(TOGETHER)
        .collect::<()>()
        .await;
    for (at, ns) in namespaces.iter().enumerate() {
        eventually(CONVERGES, || async {
            let pods = world.admin.items(&all("Pod", ns)).await?;
            let missing: Vec<String> = (0..TIMES)
                .filter(|i| i % namespaces.len() == at)
                .map(|i| format!("w{i}"))
                .filter(|name| {
                    !pods
                        .iter()
                        .any(|pod| pod["metadata"]["labels"]["ringfence.dev/workflow"] == **name)
                })
                .collect();
            ensure!(missing.is_empty(), "{kind}: no pod yet of {missing:?} in {ns}");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_workflow_and_its_job_in_one_apply() {
    converges("Job").await;
}

#[tokio::test]
async fn a_workflow_and_its_deployment_in_one_apply() {
    converges("Deployment").await;
}

#[tokio::test]
async fn a_bare_pod_once_the_workflow_is_ready() {
    let world = World::shared().await;
    let ns = &world.enforced("bare").await;
    for i in 0..5 {
        let name = format!("w{i}");
        let mut manifests = [workflow(&name, &launched_by_tess()), pod(&name, &name)];
        for manifest in &mut manifests {
            manifest["metadata"]["namespace"] = json!(ns);
        }
        let [workflow, pod] = manifests;
        let said = world.apply_as(&tess(), &[workflow]).await;
        assert!(said.success, "{said}");
        let object = format!("aiworkflow/{name}");
        let wait = [
            "wait",
            "--for=condition=Ready",
            &object,
            "--namespace",
            ns,
            "--timeout=60s",
        ];
        let said = world.cluster.kubectl_as(&tess(), &wait).await.unwrap();
        assert!(said.success, "{said}");
        let said = world.apply_as(&tess(), &[pod]).await;
        assert!(said.success, "{said}");
    }
}
