//! What a newcomer applies first works: `kubectl apply -f examples/` against a Ringfence installed by the chart.

use std::time::Duration;

use anyhow::ensure;
use support::{ControlPlane, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_examples_converge_from_one_apply() {
    let cluster = ControlPlane::shared();
    let ringfence = cluster.ringfence(BINARY).await;
    let (status, _) = ringfence.get("/livez").await.expect("an answer");
    assert_eq!(status, 200);

    let applied = cluster.kubectl(&["apply", "-f", "examples/"]).await.expect("kubectl");
    assert!(applied.success, "{applied}\n{}", ringfence.tail());
    let ready = [
        "wait",
        "--for=condition=Ready",
        "aiworkflow/invoice-triage",
        "-n",
        "ai-secure",
        "--timeout=60s",
    ];
    let ready = cluster.kubectl(&ready).await.expect("kubectl");
    assert!(ready.success, "{ready}\n{}", ringfence.tail());
    eventually(SOON, || async {
        let pods = [
            "get",
            "pods",
            "-n",
            "ai-secure",
            "-l",
            "ringfence.dev/workflow=invoice-triage",
            "-o",
            "name",
        ];
        let pods = cluster.kubectl(&pods).await?;
        ensure!(
            pods.stdout.starts_with("pod/invoice-triage-"),
            "the Job has no pod yet: {pods}"
        );
        Ok(())
    })
    .await;

    let again = cluster.kubectl(&["apply", "-f", "examples/"]).await.expect("kubectl");
    assert!(again.success, "applying them again changes nothing: {again}");
    // The API server asks for the namespace's default account first, and refuses in its own words until it is there.
    eventually(SOON, || async {
        let refused = cluster
            .kubectl(&["apply", "-f", "demo/refused/1-undeclared-pod.yaml"])
            .await?;
        assert!(!refused.success, "an undeclared pod got in: {refused}");
        ensure!(refused.stderr.contains("declared-workflow"), "{refused}");
        Ok(())
    })
    .await;
}
