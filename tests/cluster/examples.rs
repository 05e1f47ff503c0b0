//! Every example does what it promises to whoever follows it.

use std::path::Path;

use anyhow::ensure;
use serde_json::json;
use support::eventually;

use crate::world::{SOON, World, all, condition, one};

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test]
async fn every_example_is_used_by_a_test() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"), &mut found);
    let tested = |file: &str| {
        let file = file.rsplit_once("/examples/").map_or(file, |(_, file)| file);
        // Manifests are applied below; the file of Rego is run by tests/policies, what is for CI systems by tests/cli.
        (file.ends_with(".yaml") && !file.contains('/'))
            // The engines' files are applied, and their pages followed, by tests/engines.
            || ["airflow/", "argo/", "jobs/", "n8n/", "prefect/", "ray/"].iter().any(|engine| file.starts_with(engine))
            || file.starts_with("ci/")
            || ["policies/approved-namespaces.rego", "policies/cost-centre.yaml"].contains(&file)
    };
    let untested: Vec<&String> = found.iter().filter(|file| !tested(file)).collect();
    assert!(
        untested.is_empty() && found.len() >= 2,
        "use these in a test: {untested:?}"
    );
}

#[tokio::test]
async fn the_examples_converge_in_one_apply_and_stay_as_they_are() {
    let world = World::shared().await;
    let said = world.cluster.kubectl(&["apply", "-f", "examples/"]).await.unwrap();
    assert!(said.success, "{said}");
    assert!(
        !said.stderr.contains("Warning"),
        "an example that warns teaches what it should not: {said}"
    );
    for (namespace, workflow) in [("ai-secure", "invoice-triage"), ("ai-rag", "rag-ingest")] {
        let workflow = format!("aiworkflow/{workflow}");
        let wait = [
            "wait",
            "--for=condition=Ready",
            &workflow,
            "--namespace",
            namespace,
            "--timeout=60s",
        ];
        let said = world.cluster.kubectl(&wait).await.unwrap();
        assert!(said.success, "{said}");
    }
    let review = json!({"spec": {"user": "system:serviceaccount:ai-rag:rag-ingest", "resourceAttributes": {"verb": "get", "resource": "services", "namespace": "vectors", "name": "qdrant"}}});
    eventually(SOON, || async {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = world.admin.post(path, &review).await.ok();
        ensure!(answer["status"]["allowed"] == true, "the grant gives nothing yet");
        Ok(())
    })
    .await;
    let workflow = world
        .admin
        .get(&one("AIWorkflow", "ai-secure", "invoice-triage"))
        .await
        .ok();
    assert_eq!(condition(&workflow, "Ready")["reason"], "Fenced");
    eventually(SOON, || async {
        let pods = world.admin.items(&all("Pod", "ai-secure")).await?;
        let launched = pods
            .iter()
            .any(|pod| pod["spec"]["serviceAccountName"] == "invoice-triage");
        ensure!(launched, "the Job has no pod yet");
        Ok(())
    })
    .await;
    let again = world.cluster.kubectl(&["apply", "-f", "examples/"]).await.unwrap();
    assert!(again.success, "{again}");
    assert!(again.stdout.lines().all(|line| line.ends_with("unchanged")), "{again}");
    // The API server asks for the namespace's default account first, and refuses in its own words until it is there.
    eventually(SOON, || async {
        let refused = world
            .cluster
            .kubectl(&["apply", "-f", "demo/refused/1-undeclared-pod.yaml"])
            .await?;
        assert!(!refused.success, "an undeclared pod got in: {refused}");
        ensure!(refused.stderr.contains("[declared-workflow]"), "{refused}");
        Ok(())
    })
    .await;
    the_policy_acts_and_goes(&world).await;
}

/// After the Job of the example has its pod: the policy would refuse it.
async fn the_policy_acts_and_goes(world: &World) {
    let file = "examples/policies/cost-centre.yaml";
    let said = world.cluster.kubectl(&["apply", "-f", file]).await.unwrap();
    assert!(said.success, "{said}");
    let wait = [
        "wait",
        "--for=condition=Enforced",
        "regopolicy/cost-centre",
        "--timeout=60s",
    ];
    let said = world.cluster.kubectl(&wait).await.unwrap();
    assert!(said.success, "{said}");
    let apply = ["apply", "--dry-run=server", "-f", "demo/refused/6-no-cost-centre.yaml"];
    let refused = world.cluster.kubectl(&apply).await.unwrap();
    assert!(
        !refused.success && refused.stderr.contains("[cost-centre] ") && refused.stderr.contains("(via Job/unpaid)"),
        "{refused}"
    );
    let said = world.cluster.kubectl(&["delete", "-f", file]).await.unwrap();
    assert!(said.success, "{said}");
    eventually(SOON, || async {
        let said = world.cluster.kubectl(&apply).await?;
        ensure!(said.success, "{said}");
        Ok(())
    })
    .await;
}
