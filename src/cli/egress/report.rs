//! `ringfence egress report`: what every replica of the proxy has counted, beside what is declared.
//!
//! Replicas say it within their pods alone, so each is asked by a forwarded port, with the caller's rights. Must never: take one that did not
//! answer for one that counted nothing, or wait for it without a deadline.

use std::{borrow::Cow, io, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use axum::http::{
    Request, StatusCode, Uri,
    header::{CONNECTION, HOST},
    uri::Scheme,
};
use clap::{Args as ClapArgs, ValueEnum};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, ObjectMeta, Portforward},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::super::{
    cluster::{self, Connection, Release, bounded, listed, told},
    terminal::{self, as_json, printable},
};
use crate::{
    api::{AIWorkflow, is_dns_label, is_dns_subdomain},
    egress::{Counted, Declared, Report, Silent, Workflow},
    plan::EGRESS_PROXY,
};

/// Most replicas that are asked, and how many at the same time.
const MAX_REPLICAS: usize = 100;
const ASKED: usize = 8;
/// Longest that one may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest that it may be: more than a replica counts.
const MAX_ANSWER: usize = 16 << 20;
const MAX_WORKFLOWS: usize = 20_000;
/// Name of the container's port, and its number where a pod does not say it.
const PORT_NAME: &str = "metrics";
const PORT: u16 = 8080;

/// Print which declared domains workflows use, which they do not, and what they were refused.
///
/// Every pod of the egress proxy is asked what it has counted since it started, and that is put beside what AIWorkflows declare now, so that
/// lists shrink to what is needed. A domain is `used`; `unused`; `unreached`, where it was asked for and nothing came of it: no address, no
/// answer, or a handshake for another host; or `withdrawn`, where it was used and is not declared any more.
///
/// Reads with your rights: list on pods and create on pods/portforward in the release namespace, because the proxy tells it within its own
/// pods alone, and list on aiworkflows.
///
/// Exit codes: 0 reported, 2 something could not be read, or a replica did not answer.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What can be taken from the lists of a namespace?
  ringfence egress report --namespace ai-secure

  # Domains that nobody has used, for a pipeline:
  ringfence egress report -o json | jq -r '.workflows[] | .name as $w | .domains[] | select(.state == \"unused\") | [$w, .domain] | @tsv'

  # Where ports are forwarded by other means:
  kubectl -n ringfence-system port-forward pod/ringfence-egress-… 8080 &
  ringfence egress report --endpoint http://localhost:8080")]
pub(in crate::cli) struct Args {
    /// Report of this namespace only.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Report of this workflow only.
    #[arg(long, requires = "namespace")]
    workflow: Option<String>,
    /// Ask here in place of the proxy's pods, by a port that is forwarded to localhost already; may be given again.
    #[arg(long = "endpoint", value_name = "URL", value_parser = endpoint)]
    endpoints: Vec<Uri>,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `workflows`, `since`, `replicas`, and those that are `silent`.
    Json,
    /// For people, coloured on a terminal.
    #[default]
    Table,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    if let Some(name) = args.namespace.as_ref().filter(|name| !is_dns_label(name)) {
        bail!("no namespace can be called {name:?}");
    }
    if let Some(name) = args.workflow.as_ref().filter(|name| !is_dns_subdomain(name)) {
        bail!("no AIWorkflow can be called {name:?}");
    }
    let report = cluster::block_on(async {
        let client = args.connection.client().await?;
        cluster::patiently("asking the egress proxy", gather(args, &client)).await
    })?;
    let text = match args.output {
        Format::Json => as_json(&report.json())?,
        Format::Table => report.table(terminal::has_colour(&io::stdout())),
    };
    terminal::print(&text)?;
    for silent in report.silent() {
        let line = format!("ringfence: {} did not answer: {}", silent.replica, silent.why);
        eprintln!("{}", printable(&line));
    }
    Ok(ExitCode::from(if report.silent().is_empty() { 0 } else { 2 }))
}

async fn gather(args: &Args, client: &Client) -> Result<Report> {
    cluster::serves_our_kinds(client).await?;
    let declared = declared(args, client).await?;
    let replicas = match args.endpoints.is_empty() {
        true => of_pods(client, &args.release.release_namespace).await?,
        false => of_endpoints(&args.endpoints).await,
    };
    let (mut counted, mut silent) = (Vec::new(), Vec::new());
    for (replica, answer) in replicas {
        match answer {
            Ok(answer) => counted.push((replica, answer)),
            Err(error) => silent.push(Silent {
                replica,
                why: printable(&format!("{error:#}")),
            }),
        }
    }
    Ok(Report::new(declared, counted, silent, |workflow| {
        is_asked_for(args, workflow)
    }))
}

fn is_asked_for(args: &Args, workflow: &Workflow) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    is(&args.namespace, &workflow.namespace) && is(&args.workflow, &workflow.name)
}

async fn declared(args: &Args, client: &Client) -> Result<Declared> {
    let api: Api<AIWorkflow> = match &args.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let found = listed("list AIWorkflows", &api, &ListParams::default(), MAX_WORKFLOWS).await;
    let (found, is_whole) = found.map_err(told)?;
    ensure!(
        is_whole,
        "there are more than {MAX_WORKFLOWS} AIWorkflows: name a namespace by --namespace"
    );
    Ok(Declared(found.into_iter().filter_map(declares).collect()))
}

/// The domains that a workflow declares, each with its rule.
fn declares(object: AIWorkflow) -> Option<(Workflow, Vec<(String, String)>)> {
    let workflow = Workflow {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    let rules = object.spec.network.unwrap_or_default().egress.into_iter();
    // As what a replica says is shown: whoever declares writes any text into a rule's name.
    let domains = rules.flat_map(|rule| {
        let name = printable(&rule.name);
        let named = move |domain: String| (name.clone(), printable(&domain));
        rule.to.domains.unwrap_or_default().into_iter().map(named)
    });
    let domains: Vec<_> = domains.collect();
    (!domains.is_empty()).then_some((workflow, domains))
}

/// What each replica says, or why it says nothing.
type Answers = Vec<(String, Result<Counted>)>;

async fn of_pods(client: &Client, release: &str) -> Result<Answers> {
    let api: Api<Replica> = Api::namespaced(client.clone(), release);
    let labels = format!("app.kubernetes.io/name={EGRESS_PROXY},app.kubernetes.io/component=egress");
    let params = ListParams::default().labels(&labels);
    let found = listed("list the pods of the egress proxy", &api, &params, MAX_REPLICAS).await;
    let (pods, is_whole) = found.map_err(told)?;
    ensure!(is_whole, "the egress proxy has more than {MAX_REPLICAS} pods");
    ensure!(
        !pods.is_empty(),
        "no pod of the egress proxy is in namespace {release}: name that of the release by --release-namespace, or install the proxy by \
         egress.enabled of the chart"
    );
    let asked = stream::iter(pods).map(|pod| {
        let api = &api;
        async move {
            let answer = timeout(ANSWER, of_pod(api, &pod)).await;
            (pod.name_any(), answer.unwrap_or_else(|_| Err(late())))
        }
    });
    Ok(asked.buffered(ASKED).collect().await)
}

async fn of_pod(api: &Api<Replica>, pod: &Replica) -> Result<Counted> {
    let phase = pod.status.pointer("/phase").and_then(Value::as_str);
    let phase = phase.unwrap_or("Pending");
    ensure!(phase == "Running", "its pod is {phase}");
    let port = pod.port();
    let name = pod.name_any();
    let forwarding = bounded("forward a port of it", api.portforward(&name, &[port])).await;
    let mut forwarding = forwarding.map_err(told)?;
    let stream = forwarding.take_stream(port).context("no port was forwarded")?;
    let failed = forwarding.take_error(port);
    tokio::select! {
        biased;
        Some(error) = async { failed?.await } => bail!("its port cannot be forwarded: {error}"),
        counted = ask(stream) => counted,
    }
}

/// A pod of the proxy as JSON: little of it is needed.
#[derive(Clone, Debug, Deserialize)]
struct Replica {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl Replica {
    fn port(&self) -> u16 {
        let all = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let containers = all(&self.spec, "containers").into_iter();
        let mut ports = containers.flat_map(|container| all(&container, "ports"));
        let port = ports.find(|port| port.get("name").is_some_and(|name| name == PORT_NAME));
        let port = port.and_then(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok());
        port.unwrap_or(PORT)
    }
}

impl Portforward for Replica {}

impl Resource for Replica {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        Pod::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        Pod::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        Pod::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        Pod::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

async fn of_endpoints(endpoints: &[Uri]) -> Answers {
    let asked = stream::iter(endpoints).map(|endpoint| async move {
        let asking = async {
            let authority = endpoint.authority().context("it names no host")?;
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(PORT))).await;
            ask(stream.context("nothing answers there")?).await
        };
        let answer = timeout(ANSWER, asking).await;
        (endpoint.to_string(), answer.unwrap_or_else(|_| Err(late())))
    });
    asked.buffered(ASKED).collect().await
}

fn late() -> anyhow::Error {
    anyhow!("no answer in {} s", ANSWER.as_secs())
}

/// One request over a connection that leads into a pod.
async fn ask(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Counted> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with this.
    let mut speaking = JoinSet::new();
    speaking.spawn(connection);
    let request = Request::get("/report")
        .header(HOST, "localhost")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => bail!("it is of a version that counts nothing"),
        status => bail!("it answers {status}"),
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!("its answer cannot be read: {error}"))?;
    let counted = serde_json::from_slice(&body.to_bytes()).context("its answer is no report")?;
    Ok(shown(counted))
}

/// Whoever runs a pod with these labels says what it likes.
fn shown(mut counted: Counted) -> Counted {
    for workflow in &mut counted.workflows {
        let used = workflow.used.iter_mut();
        let used = used.flat_map(|used| [&mut used.rule, &mut used.domain]);
        let refused = workflow.refused.iter_mut().map(|refused| &mut refused.host);
        let own = [&mut workflow.namespace, &mut workflow.name];
        for text in own.into_iter().chain(used).chain(refused) {
            *text = printable(text);
        }
    }
    counted
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let url: Uri = text
        .parse()
        .map_err(|_| "write a URL, such as http://localhost:8080".to_owned())?;
    let is_plain = url.scheme() == Some(&Scheme::HTTP) && matches!(url.path(), "" | "/");
    match is_plain {
        true => Ok(url),
        false => Err("write http://, a host and a port alone, such as http://localhost:8080".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_speaks_to_no_terminal() {
        let declared = serde_json::json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"namespace": "ai", "name": "triage"},
            "spec": {"launchers": [], "images": [], "network": {"egress": [
                {"name": "\u{1b}]52;c;eA==\u{7}\n", "to": {"domains": ["a.example", "\u{202e}b"]}, "ports": [{"port": 443}]},
            ]}},
        });
        let (_, domains) = declares(serde_json::from_value(declared).unwrap()).unwrap();
        let rule = "\u{fffd}]52;c;eA==\u{fffd}\u{fffd}".to_owned();
        let shown = ["a.example", "\u{fffd}b"].map(|domain| (rule.clone(), domain.to_owned()));
        assert_eq!(domains, shown);
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for text in ["http://localhost:8080", "http://127.0.0.1:1/", "http://[::1]:8080"] {
            assert!(endpoint(text).is_ok(), "{text}");
        }
        for text in [
            "localhost:8080",
            "https://localhost",
            "http://localhost/report",
            "http://",
            "x y",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }
}
