//! A release as people keep it: the README's commands, the chart of the version before this one, and what is in the cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Output, RELEASE_NAMESPACE, eventually, repository};
use tokio::time::sleep;

use crate::objects::{all, condition, one, pod, workflow};
use crate::world::{Actor, NAMESPACES, SOON};

/// The namespace that the README fences.
pub const FENCED: &str = "ai-secure";
/// A file of the chart that the version before this one did not have, and what it makes.
const NEW_GUARD: &str = "guards/granted-objects.yaml";
pub const NEW_GUARD_OBJECT: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/ringfence-granted-objects";
pub const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflows.ringfence.dev";

/// The commands of the first block of a README's section, one a line, as they stand there.
pub fn commands(heading: &str) -> Vec<String> {
    commands_of("README.md", heading)
}

/// The same of any page.
pub fn commands_of(page: &str, heading: &str) -> Vec<String> {
    let joined = block(page, heading, "console").replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

/// The first block of that language in a page's section, as it stands there.
pub fn block(page: &str, heading: &str, language: &str) -> String {
    let text = std::fs::read_to_string(repository().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let section = text.split_once(&format!("\n{heading}\n"));
    let (_, section) = section.unwrap_or_else(|| panic!("{page} has no section {heading:?}"));
    let block = section
        .split_once(&format!("```{language}\n"))
        .and_then(|(_, rest)| rest.split_once("```"));
    let (block, _) = block.unwrap_or_else(|| panic!("no block of {language} below {heading:?} in {page}"));
    block.to_owned()
}

/// Runs one that must succeed.
pub async fn run(cluster: &ControlPlane, command: &str) -> Output {
    let output = cluster.shell(command).await.expect("a shell");
    assert!(output.success, "{command}:\n{output}");
    output
}

/// Of a section's commands the one that begins so.
pub fn command<'a>(commands: &'a [String], start: &str) -> &'a str {
    let found = commands.iter().find(|command| command.starts_with(start));
    found.unwrap_or_else(|| panic!("no command {start:?} in {commands:?}"))
}

/// The chart of a version before this one, made of this one because none has been published: another version, so that each pod rolls, no
/// guard for what grants make, and AIWorkflows without `debug`.
pub fn previous(directory: &Path) -> PathBuf {
    let chart = copy(directory, "previous");
    std::fs::remove_file(chart.join(NEW_GUARD)).expect("a guard");
    edit(&chart, "Chart.yaml", |text| {
        text.replace("ersion: 0.1.0", "ersion: 0.0.9")
    });
    edit(&chart, "templates/crds/aiworkflows.yaml", |text| {
        let (before, rest) = text.split_once("              debug:\n").expect("spec.debug");
        let end = rest.find("\n              engine:").expect("what follows it");
        format!("{before}{}", &rest[end + 1..])
    });
    chart
}

/// A version of the chart whose pods run and never get ready: their probes find nobody.
pub fn never_ready(directory: &Path) -> PathBuf {
    let chart = copy(directory, "never-ready");
    edit(&chart, "Chart.yaml", |text| {
        text.replace("ersion: 0.1.0", "ersion: 0.2.0")
    });
    edit(&chart, "templates/deployment.yaml", |text| {
        text.replace("--metrics-listen=0.0.0.0:8080", "--metrics-listen=127.0.0.1:8080")
    });
    chart
}

fn copy(directory: &Path, name: &str) -> PathBuf {
    let chart = directory.join(name);
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(repository().join("charts/ringfence"))
        .arg(&chart)
        .status();
    assert!(copied.expect("cp").success());
    chart
}

fn edit(chart: &Path, file: &str, change: impl FnOnce(String) -> String) {
    let path = chart.join(file);
    let before = std::fs::read_to_string(&path).expect("a file of the chart");
    let after = change(before.clone());
    assert_ne!(before, after, "{file} is as it was");
    std::fs::write(path, after).expect("writing it");
}

/// Every object in the cluster that is there for good, as `resource namespace/name`.
pub async fn objects(cluster: &ControlPlane) -> BTreeSet<String> {
    let kinds = cluster
        .kubectl(&["api-resources", "--verbs=list", "--output=name"])
        .await
        .expect("kubectl");
    // Those that come and go by themselves.
    let passing = [
        "events",
        "events.events.k8s.io",
        "leases.coordination.k8s.io",
        "endpointslices.discovery.k8s.io",
        "endpoints",
    ];
    let kinds: Vec<&str> = kinds.stdout.lines().filter(|kind| !passing.contains(kind)).collect();
    assert!(kinds.len() > 30, "{kinds:?}");
    let format = "--output=jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
    let listed = cluster
        .kubectl(&["get", &kinds.join(","), "--all-namespaces", format])
        .await
        .expect("kubectl");
    assert!(listed.success, "{listed}");
    let lines: BTreeSet<String> = listed.stdout.lines().map(str::to_owned).collect();
    assert!(lines.len() > 50, "{lines:?}");
    lines
}

/// The workflow `triage` in a fenced namespace of its launcher `lea` stands: it is ready, and a pod that fits gets in while one that does
/// not is refused.
pub async fn fence_stands(admin: &Actor, lea: &Actor, namespace: &str) {
    eventually(SOON, || async {
        let found = admin.read(&one("AIWorkflow", namespace, "triage")).await?;
        ensure!(condition(&found, "Ready")["status"] == "True", "{}", found["status"]);
        Ok(())
    })
    .await;
    let pods = format!("{}?dryRun=All", all("Pod", namespace));
    lea.post(&pods, &pod("fits", "triage")).await.ok();
    let mut unfit = pod("unfit", "triage");
    unfit["spec"]["containers"][0]["image"] = json!("docker.io/library/busybox:1");
    lea.post(&pods, &unfit).await.refused_by("approved-images");
}

/// What is declared within two seconds of the registration counts as written before it: times have whole seconds.
const YOUNGER: Duration = Duration::from_secs(3);

/// Declares that workflow, once the API server has asked Ringfence for a while: what nobody reviewed would not count.
pub async fn declare(admin: &Actor, namespace: &str) {
    let unfenced = format!("{}?dryRun=All", all("Pod", "default"));
    let mut labelled = pod("asked", "triage");
    labelled["spec"]["serviceAccountName"] = json!("default");
    eventually(SOON, || async {
        let answer = admin.try_post(&unfenced, &labelled).await?;
        ensure!(answer.message().contains("ringfence refused"), "{}", answer.body);
        Ok(())
    })
    .await;
    sleep(YOUNGER).await;
    admin
        .post(&all("AIWorkflow", namespace), &workflow("triage", &json!({})))
        .await
        .ok();
}

/// The Deployment's pods, once no others are there.
pub async fn settled(admin: &Actor, count: usize) {
    let pods = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods");
    eventually(Duration::from_secs(90), || async {
        let found = admin.items(&pods).await?;
        ensure!(found.len() == count, "{} pods", found.len());
        Ok(())
    })
    .await;
}

/// Anybody can make any pod anywhere, and mode labels come and go.
pub async fn nothing_is_locked(admin: &Actor, namespaces: &[&str]) {
    let bare = json!({"metadata": {"generateName": "bare-"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "a/b", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    }});
    let mut labelled = bare.clone();
    labelled["metadata"]["labels"] = json!({"ringfence.dev/workflow": "triage"});
    eventually(SOON, || async {
        for namespace in namespaces {
            for pod in [&bare, &labelled] {
                let answer = admin
                    .try_post(&format!("{}?dryRun=All", all("Pod", namespace)), pod)
                    .await?;
                ensure!(answer.code == 201, "{namespace}: {}", answer.message());
            }
            let path = format!("{NAMESPACES}/{namespace}?dryRun=All");
            let answer = admin
                .patch(&path, &json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}}))
                .await;
            ensure!(answer.code == 200, "{namespace}: {}", answer.message());
        }
        Ok(())
    })
    .await;
}

/// What an object's JSON holds at a path, or why it does not.
pub async fn found(admin: &Actor, path: &str, pointer: &str) -> Result<Value> {
    let object = admin.read(path).await?;
    object
        .pointer(pointer)
        .cloned()
        .with_context(|| format!("{path} has no {pointer}"))
}

/// Definitions, and what people declared, with its fences, in their own namespaces.
pub fn stays(line: &str) -> bool {
    let own = [
        "Namespace /ringfence-system",
        "ServiceAccount ringfence-system/default",
        "ConfigMap ringfence-system/kube-root-ca.crt",
        "Namespace /ai-secure",
        "AIWorkflowClass /default",
        // The API server's own, of the definitions.
        "APIService /v1alpha1.ringfence.dev",
    ];
    let definition = line.starts_with("CustomResourceDefinition /") && line.ends_with(".ringfence.dev");
    own.contains(&line) || definition || line.contains(&format!(" {FENCED}/"))
}
