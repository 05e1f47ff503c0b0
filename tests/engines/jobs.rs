//! Plain Jobs and CronJobs, as the account of a pipeline applies them: Kubernetes' own controllers make their pods.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually};

use crate::engine::{Cluster, documents};
use crate::world::{SOON, all, one};

const NAMESPACE: &str = "ai-jobs";

#[tokio::test]
async fn a_pipelines_jobs_run_inside_the_fence_and_nobody_elses() {
    let cluster = Cluster::shared().await;
    cluster.apply("jobs", &[(NAMESPACE, "scoring")]).await;
    let pipeline = Identity::service_account("ci", "deployer");
    let by_hand = [
        "create",
        "job",
        "by-hand",
        "--from=cronjob/score-nightly",
        "--namespace",
        NAMESPACE,
    ];
    for arguments in [
        &["apply", "-f", "examples/jobs/job.yaml"][..],
        &["apply", "-f", "examples/jobs/cronjob.yaml"],
        &by_hand,
    ] {
        let said = cluster.plane.kubectl_as(&pipeline, arguments).await.expect("kubectl");
        assert!(said.success && !said.stderr.contains("Warning"), "{said}");
    }
    // The night comes.
    let deployer = cluster.actor("ci", "deployer").await;
    let nightly = one("CronJob", NAMESPACE, "score-nightly");
    deployer
        .patch(&nightly, &json!({"spec": {"schedule": "* * * * *"}}))
        .await
        .ok();

    let wrong = |name: &str, pointer: &str, value: Value| {
        let mut job = documents("examples/jobs/job.yaml").remove(0);
        job["metadata"]["name"] = json!(format!("wrong-{name}"));
        *job.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        job
    };
    let pod = "/spec/template/spec";
    for (name, pointer, value, rule) in [
        (
            "account",
            format!("{pod}/serviceAccountName"),
            json!("default"),
            "own-service-account",
        ),
        (
            "image",
            format!("{pod}/containers/0/image"),
            json!("docker.io/library/busybox:1"),
            "approved-images",
        ),
        (
            "secret",
            format!("{pod}/containers/0/env/0/valueFrom/secretKeyRef/name"),
            json!("another"),
            "declared-secrets",
        ),
        (
            "template",
            "/spec/template/metadata/labels".to_owned(),
            json!({}),
            "declared-workflow",
        ),
        (
            "label",
            "/metadata/labels".to_owned(),
            json!({"app": "score"}),
            "declared-workflow",
        ),
    ] {
        deployer
            .post(&all("Job", NAMESPACE), &wrong(name, &pointer, value))
            .await
            .refused_by(rule);
    }

    // Others who may write Jobs in Kubernetes.
    cluster.account("ci", "other").await;
    cluster.bind(NAMESPACE, ("ClusterRole", "edit"), ("ci", "other")).await;
    let other = cluster.actor("ci", "other").await;
    eventually(SOON, || async { other.read(&nightly).await }).await;
    let good = wrong("launcher", "/spec/backoffLimit", json!(1));
    for somebody in [&other, &cluster.admin] {
        somebody
            .post(&all("Job", NAMESPACE), &good)
            .await
            .refused_by("launcher");
    }
    let image = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [
        {"name": "score", "image": "registry.example.com/finance/score:0.1"},
    ]}}}}}});
    other.strategic(&nightly, &image).await.refused_by("launcher");
    other.patch(&nightly, &json!({"spec": {"suspend": false}})).await.ok();

    let pods = eventually(SOON * 2, || async {
        let pods = cluster.admin.items(&all("Pod", NAMESPACE)).await?;
        for job in ["score-once", "score-nightly-", "by-hand"] {
            let of = |pod: &Value| {
                pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(job))
            };
            ensure!(pods.iter().any(of), "{job} has no pod yet");
        }
        Ok(pods)
    })
    .await;
    for pod in pods {
        assert_eq!(pod["spec"]["serviceAccountName"], "scoring");
        assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], "scoring");
    }
}
