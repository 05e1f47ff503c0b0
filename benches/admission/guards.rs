//! What registrations and guards cost a request on its way through a real API server: the same requests with the chart installed and
//! without it, in turn; and that what is none of our business never comes to us.
//!
//! Dry runs, so that no controller answers and etcd does not grow: all that is left out is the write, which is the same on both sides.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::http::{Method, Request};
use kube::Client;
use ringfence::api::{AUDIT_LABEL, DEFAULT_CLASS, ENFORCE_LABEL, WORKFLOW_LABEL};
use serde_json::{Value, json};
use support::{ControlPlane, Options, Ringfence};
use tokio::time::sleep;

use crate::live;
use crate::manifests;
use crate::measure::{Pace, sorted, spread};
use crate::report::{range, three, time};
use crate::review::{self, NAMESPACE, WORKFLOW};
use support::process::percentile;

/// Launches the workflow, and is let do anything by RBAC.
const LAUNCHER: &str = "bench";
/// A namespace with nothing in it and no mode.
const EMPTY: &str = "empty";
/// Longest until everything that was installed acts.
const PATIENCE: Duration = Duration::from_secs(60);
/// ConfigMaps that are written to see whether anybody asks us.
const CONFIG_MAPS: usize = 20;

/// What each kind of request costs.
pub struct Guards {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    method: Method,
    path: String,
    body: Value,
    /// Without the chart, and with it: sorted latencies of each round.
    rounds: [Vec<Vec<u64>>; 2],
}

/// An API server, and who asks it.
struct Side {
    client: Client,
    plane: ControlPlane,
}

/// Measures; `None` where the control plane was never built.
pub async fn measure(pace: &Pace) -> Result<Option<Guards>> {
    if !live::is_built() {
        return Ok(None);
    }
    let bare = Side::start().await?;
    bare.namespaces().await?;
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    bare.send(&Method::POST, &accounts, &json!({"metadata": {"name": WORKFLOW}}))
        .await?;
    let guarded = Side::start().await?;
    let quiet = ["--scan-period=0".to_owned()];
    let binary = env!("CARGO_BIN_EXE_ringfence");
    let ringfence = guarded.plane.start_ringfence_with(binary, &Value::Null, &quiet).await?;
    guarded.declare().await?;
    let mut guards = Guards { rows: rows() };
    asks_only_about_ours(&guarded, &ringfence, &guards).await?;
    let (rounds, phase) = pace.growth;
    for round in 0..=rounds {
        for row in &mut guards.rows {
            for (index, side) in [&bare, &guarded].into_iter().enumerate() {
                let taken = side.latencies(row, phase).await?;
                // The first round warms up.
                if round > 0 {
                    row.rounds[index].push(taken);
                }
            }
        }
    }
    Ok(Some(guards))
}

fn rows() -> Vec<Row> {
    let job = manifests::job(0);
    let metadata = |name: &str| json!({"name": name, "labels": {WORKFLOW_LABEL: WORKFLOW, "app": name}});
    let template = job["spec"]["template"].clone();
    let mut always = template.clone();
    always["metadata"]["labels"]["app"] = json!("deployment");
    always["spec"]["restartPolicy"] = json!("Always");
    let selector = json!({"matchLabels": {"app": "deployment"}});
    let of = |group: &str, plural: &str| format!("{group}/namespaces/{NAMESPACE}/{plural}?dryRun=All");
    let row = |name, method, path, body| Row {
        name,
        method,
        path,
        body,
        rounds: [Vec::new(), Vec::new()],
    };
    let labelled = |namespace: &str| format!("/api/v1/namespaces/{namespace}?dryRun=All");
    vec![
        row(
            "pod",
            Method::POST,
            of("/api/v1", "pods"),
            json!({"metadata": metadata("pod"), "spec": template["spec"]}),
        ),
        row(
            "Job",
            Method::POST,
            of("/apis/batch/v1", "jobs"),
            json!({"metadata": metadata("job"), "spec": job["spec"]}),
        ),
        row(
            "Deployment",
            Method::POST,
            of("/apis/apps/v1", "deployments"),
            json!({"metadata": metadata("deployment"), "spec": {"replicas": 1, "selector": selector, "template": always}}),
        ),
        row(
            "namespace label",
            Method::PATCH,
            labelled(NAMESPACE),
            json!({"metadata": {"labels": {"cost-centre": "4711"}}}),
        ),
        row(
            "mode label",
            Method::PATCH,
            labelled(EMPTY),
            json!({"metadata": {"labels": {AUDIT_LABEL: DEFAULT_CLASS}}}),
        ),
        row(
            "ConfigMap",
            Method::POST,
            of("/api/v1", "configmaps"),
            config_map("bench"),
        ),
    ]
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

/// Fails where writes of ConfigMaps are counted as ours, or where a pod is not: dry runs count nowhere, so these are real.
async fn asks_only_about_ours(side: &Side, ringfence: &Ringfence, guards: &Guards) -> Result<()> {
    let before = asked(ringfence).await?;
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    for index in 0..CONFIG_MAPS {
        let name = format!("bench-{index}");
        let one = format!("{collection}/{name}");
        side.send(&Method::POST, &collection, &config_map(&name)).await?;
        side.send(&Method::PATCH, &one, &json!({"data": {"a": "c"}})).await?;
        side.send(&Method::DELETE, &one, &Value::Null).await?;
    }
    let after = asked(ringfence).await?;
    ensure!(
        after == before,
        "{} reviews came to Ringfence for {CONFIG_MAPS} ConfigMaps, which are none of its business: look at the registrations of the chart",
        after - before
    );
    let pod = guards.rows.first().context("a row for pods")?;
    let path = pod.path.trim_end_matches("?dryRun=All");
    let mut counted = pod.body.clone();
    counted["metadata"]["name"] = json!("counted");
    side.send(&pod.method, path, &counted).await?;
    ensure!(
        asked(ringfence).await? > after,
        "a pod was made in the enforced namespace and Ringfence counted no review: the count proves nothing"
    );
    Ok(())
}

/// Reviews that Ringfence has counted, of every kind.
async fn asked(ringfence: &Ringfence) -> Result<u64> {
    let (code, text) = ringfence.get("/metrics").await?;
    ensure!(code == 200, "/metrics answers {code}");
    let series = text
        .lines()
        .filter(|line| line.starts_with("ringfence_admission_requests_total{"));
    let values = series.map(|line| {
        let (_, value) = line.rsplit_once(' ').context("a series without a value")?;
        value.parse::<u64>().with_context(|| line.to_owned())
    });
    values.sum()
}

impl Side {
    async fn start() -> Result<Self> {
        let plane = ControlPlane::start(Options::default())?;
        let client = plane.user(LAUNCHER, &["system:masters"]).await;
        Ok(Self { client, plane })
    }

    async fn namespaces(&self) -> Result<()> {
        let fenced = review::namespace();
        let mut empty = fenced.clone();
        empty["metadata"]["name"] = json!(EMPTY);
        if let Some(labels) = empty["metadata"]["labels"].as_object_mut() {
            labels.retain(|label, _| ![ENFORCE_LABEL, "kubernetes.io/metadata.name"].contains(&label.as_str()));
        }
        for namespace in [&fenced, &empty] {
            self.send(&Method::POST, "/api/v1/namespaces", namespace).await?;
        }
        Ok(())
    }

    /// The namespaces with a fence, once it stands and every registration and guard acts.
    async fn declare(&self) -> Result<()> {
        self.namespaces().await?;
        let mut workflow = review::workflow();
        workflow["spec"]["launchers"] = json!([{"user": LAUNCHER}]);
        let workflows = format!("/apis/ringfence.dev/v1alpha1/namespaces/{NAMESPACE}/aiworkflows");
        self.send(&Method::POST, &workflows, &workflow).await?;
        let name = format!("{workflows}/{WORKFLOW}");
        let begin = Instant::now();
        loop {
            let workflow = self.send(&Method::GET, &name, &Value::Null).await?;
            let conditions = workflow["status"]["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .any(|said| said["type"] == "Ready" && said["status"] == "True");
            let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All");
            // It meets the namespace's Pod Security level, so that nobody else refuses it.
            let spec = manifests::job(0)["spec"]["template"]["spec"].take();
            let bare = json!({"metadata": {"name": "undeclared"}, "spec": spec});
            let refused = self
                .send(&Method::POST, &pods, &bare)
                .await
                .is_err_and(|error| says(&error, "declared-workflow"));
            let mode = json!({"metadata": {"labels": {AUDIT_LABEL: ""}}});
            let empty = format!("/api/v1/namespaces/{EMPTY}?dryRun=All");
            let guarded = self
                .send(&Method::PATCH, &empty, &mode)
                .await
                .is_err_and(|error| says(&error, "ringfence-modes"));
            if ready && refused && guarded {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                bail!(
                    "the fence does not act (ready: {ready}, refused: {refused}, guarded: {guarded}): {}",
                    workflow["status"]
                );
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// One after the other, for a while.
    async fn latencies(&self, row: &Row, phase: Duration) -> Result<Vec<u64>> {
        let begin = Instant::now();
        let mut taken = Vec::new();
        while taken.is_empty() || begin.elapsed() < phase {
            let asked = Instant::now();
            self.send(&row.method, &row.path, &row.body).await?;
            taken.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(sorted(taken))
    }

    async fn send(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let content_type = match *method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(body)?;
        let answer = self.client.request(request).await;
        answer.with_context(|| format!("{method} {path}"))
    }
}

fn says(error: &anyhow::Error, word: &str) -> bool {
    format!("{error:#}").contains(word)
}

impl Row {
    fn p50(&self, side: usize) -> f64 {
        let rounds = self.rounds.get(side).into_iter().flatten();
        spread(rounds.map(|round| percentile(round, 0.5)).collect())[0]
    }

    fn ratio(&self) -> [f64; 3] {
        let [bare, guarded] = &self.rounds;
        let pairs = bare.iter().zip(guarded);
        spread(pairs.map(|(a, b)| percentile(b, 0.5) / percentile(a, 0.5)).collect())
    }
}

impl Guards {
    pub fn text(&self) -> String {
        let mut out = format!(
            "{:<22} {:>11} {:>11}  {:<20} {:>9}\n",
            "through the API server", "without", "with", "with / without", "added"
        );
        for row in &self.rows {
            let [without, with] = [row.p50(0), row.p50(1)];
            let _ = writeln!(
                out,
                "{:<22} {:>11} {:>11}  {:<20} {:>9}",
                row.name,
                time(without),
                time(with),
                range(row.ratio()),
                time(with - without),
            );
        }
        let _ = writeln!(
            out,
            "Dry runs, p50 of one at a time, without the chart and with it. {CONFIG_MAPS} ConfigMaps written, changed and deleted: 0 reviews."
        );
        out
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "request": row.name, "withoutNanoseconds": row.p50(0), "withNanoseconds": row.p50(1), "ratio": three(row.ratio()),
            })
        });
        json!({"rows": rows.collect::<Vec<_>>(), "configMaps": CONFIG_MAPS, "reviewsOfConfigMaps": 0})
    }
}
