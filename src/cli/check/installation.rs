//! `ringfence check installation`: whether what is installed works, and what to do where it does not.
//!
//! Must never: write (the webhook is asked by a dry run) but for a canary that is asked for, or call good what it could not look at.

mod certificate;
mod egress;
mod filled;
mod rights;
mod told;

use std::{collections::BTreeMap, io, process::ExitCode};

use anyhow::{Context as _, Result, anyhow};
use axum::http::Request;
use clap::{Args as ClapArgs, ValueEnum};
use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde_json::{Value, json};

use super::{
    canary,
    cluster::{self, Connection, Release, bounded, explain, listed},
    terminal::{self, as_json, printable},
    told::{State, Told, or_good},
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, ENFORCE_LABEL, WARN_LABEL, committed},
    plan::{EGRESS_PROXY, guards, name_of},
    reconcile::CallError,
    scan::read_access,
    webhook::lookup::Live,
};

/// Questions that are asked at the same time.
const ASKED: usize = 8;
/// Most classes that are asked what they say of the network.
const MAX_CLASSES: usize = 1000;
/// Most AIWorkflows that are asked whether they wait for an egress proxy.
const MAX_WORKFLOWS: usize = 20_000;
/// Most missing rights that are named.
const MAX_NAMED: usize = 10;
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const POLICIES: &str = "/apis/ringfence.dev/v1alpha1/regopolicies?limit=1000";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Print whether Ringfence, as it is installed in the cluster, works: the doctor.
///
/// Looks at the cluster's version, Ringfence's definitions, its registrations and guards beside what the chart rendered and what is to be asked about, what the API
/// server trusts and what is served, replicas and who of them makes the fences, RegoPolicies, the egress proxy and who waits for it, and the rights of Ringfence's account; asks for a dry run that the webhook must refuse; and says
/// whether NetworkPolicies bit when that was last tried. Reads with your rights, and changes nothing.
///
/// --canary tries it: two pods of Ringfence's image in the release namespace, a connection between them, and a NetworkPolicy over each
/// that forbids it. It takes a minute or two, removes what it made, and writes the condition NetworkEnforced of the AIWorkflowClasses.
/// In the release namespace this takes get on the Deployment ringfence, create, get, list and delete on pods, and those and update on
/// networkpolicies; and what ringfence-approver has, list on aiworkflowclasses, and patch on aiworkflowclasses/status.
///
/// Exit codes: 0 it works, 1 something does not, 2 not all could be looked at.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # After an install, or when something is strange:
  ringfence check installation

  # Do NetworkPolicies bite on this cluster?
  ringfence check installation --canary

  # What is not as it should be, for a pipeline:
  ringfence check installation -o json | jq '.checks[] | select(.state != \"ok\")'")]
pub(super) struct InstallationArgs {
    /// How to print what is found.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Try with two pods whether NetworkPolicies bite on this cluster.
    #[arg(long)]
    canary: bool,
    /// Namespace without a mode label in which the dry run is asked for.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    probe_namespace: String,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `checks`, each with its `state`, `message` and `fix`.
    Json,
    /// For people, coloured on a terminal.
    #[default]
    Table,
}

/// `whole` looks at who holds what no admission controller sees, too.
pub(super) fn check(args: &InstallationArgs, whole: bool) -> Result<ExitCode> {
    let checks = cluster::block_on(async {
        let client = args.connection.client().await?;
        let doctor = Doctor {
            client,
            release: &args.release.release_namespace,
            probe: &args.probe_namespace,
        };
        let mut checks = cluster::patiently("looking at the installation", doctor.look()).await?;
        if whole {
            checks.extend(cluster::patiently("reading Roles and bindings", doctor.access()).await);
        }
        checks.extend(if args.canary {
            let told = Box::pin(canary::ask(&doctor.client, doctor.release)).await;
            told.context("asked to stop, so it is not known whether NetworkPolicies bite")?
        } else {
            doctor.network().await
        });
        Ok(checks)
    })?;
    let text = match args.output {
        Format::Json => as_json(&json!({"checks": checks.iter().map(Told::json).collect::<Vec<_>>()}))?,
        Format::Table => table(&checks, terminal::has_colour(&io::stdout())),
    };
    terminal::print(&text)?;
    let worst = checks.iter().map(|told| told.state).max();
    Ok(ExitCode::from(match worst {
        Some(State::Good | State::Warning) => 0,
        Some(State::Error) => 1,
        Some(State::Unknown) | None => 2,
    }))
}

fn table(checks: &[Told], colour: bool) -> String {
    let mut text = String::new();
    for told in checks {
        let paint = match told.state {
            _ if !colour => ["", ""],
            State::Good => ["\u{1b}[32m", "\u{1b}[0m"],
            State::Warning => ["\u{1b}[33m", "\u{1b}[0m"],
            State::Error | State::Unknown => ["\u{1b}[31m", "\u{1b}[0m"],
        };
        let [start, end] = paint;
        let state = told.state.as_str();
        text.push_str(&format!(
            "{start}{state:<8}{end} {:<14} {}\n",
            told.check,
            printable(&told.message)
        ));
        if !told.fix.is_empty() {
            text.push_str(&format!("{:<23} Fix: {}\n", "", printable(&told.fix)));
        }
    }
    text
}

struct Doctor<'a> {
    client: Client,
    release: &'a str,
    probe: &'a str,
}

impl Doctor<'_> {
    /// An error is a cluster that does not answer at all.
    async fn look(&self) -> Result<Vec<Told>> {
        let version = bounded("read the version of the cluster", self.request("/version")).await;
        let version = version.map_err(cluster::told)?;
        let mut checks = told::version(&version);
        checks.extend(self.definitions().await);
        checks.extend(self.registered().await);
        checks.extend(self.release().await);
        checks.extend(self.egress().await);
        checks.extend(self.ask_webhook().await?);
        checks.extend(self.rights().await?);
        Ok(checks)
    }

    async fn request(&self, path: &str) -> kube::Result<Value> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// What lies there, if it does; else that it could not be read.
    async fn read(&self, check: &'static str, path: &str) -> Result<Option<Value>, Vec<Told>> {
        match bounded(&format!("read {path}"), self.request(path)).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.status().is_some_and(kube::core::Status::is_not_found) => Ok(None),
            Err(error) => Err(vec![unread(check, error)]),
        }
    }

    async fn definitions(&self) -> Vec<Told> {
        let mut told = Vec::new();
        for wanted in committed() {
            let name = name_of(wanted);
            match self.read("definitions", &format!("{DEFINITIONS}/{name}")).await {
                Ok(found) => told.extend(told::definition(wanted, found.as_ref())),
                Err(gap) => told.extend(gap),
            }
        }
        or_good(told, "definitions", "all are there, of this version")
    }

    /// What the chart rendered, by the keys of its ConfigMap.
    async fn rendered(&self) -> Result<BTreeMap<String, Value>, Vec<Told>> {
        let map = "ringfence-registrations";
        let path = format!("/api/v1/namespaces/{}/configmaps/{map}", self.release);
        let Some(found) = self.read("registrations", &path).await? else {
            return Err(vec![Told::new(
                "registrations",
                State::Warning,
                format!(
                    "ConfigMap {map} is not there: nobody knows what the chart rendered, and nothing that is edited is put back"
                ),
                "helm upgrade the release",
            )]);
        };
        let data = found.get("data").and_then(Value::as_object).into_iter().flatten();
        let parsed = data.filter_map(|(key, text)| Some((key.clone(), serde_json::from_str(text.as_str()?).ok()?)));
        Ok(parsed.collect())
    }

    /// Registrations, whom they trust, and guards, beside what the chart rendered.
    async fn registered(&self) -> Vec<Told> {
        let (rendered, mut told) = match self.rendered().await {
            Ok(rendered) => (Some(rendered), Vec::new()),
            Err(told) => (None, told),
        };
        told.extend(self.registrations(rendered.as_ref()).await);
        told.extend(self.guards(rendered.as_ref()).await);
        told
    }

    /// `rendered`: `None` where that could not be read, which is told.
    async fn registrations(&self, rendered: Option<&BTreeMap<String, Value>>) -> Vec<Told> {
        let path = |name: &str| format!("{ADMISSION}/validatingwebhookconfigurations/{name}");
        let check = "registrations";
        let mut told = match self.read(check, &path(super::REGISTRATION)).await {
            Ok(found) => {
                let mut told = told::registration(found.as_ref(), Timestamp::now());
                if let Some((found, rendered)) = found.as_ref().zip(rendered) {
                    told.extend(told::compared_registration(rendered.get(super::REGISTRATION), found));
                }
                if let Some(found) = &found {
                    let deployment = self.read(check, &self.deployment()).await.ok().flatten();
                    told.extend(certificate::look(&self.client, self.release, found, deployment.as_ref()).await);
                }
                told
            }
            Err(gap) => gap,
        };
        let fenced = self.fenced().await.unwrap_or_else(|gap| {
            told.extend(gap);
            None
        });
        // Where these cannot be read, what is said of policies says it.
        let compiled = self.read(check, POLICIES).await.ok().flatten();
        let compiled = compiled.as_ref().and_then(filled::compiled);
        for (name, reason) in [("ringfence-bindings", fenced), ("ringfence-policies", compiled)] {
            told.extend(match self.read(check, &path(name)).await {
                Ok(found) => filled::registration(name, found.as_ref(), reason.as_deref()),
                Err(gap) => gap,
            });
        }
        told
    }

    /// That a namespace is fenced, where one is.
    async fn fenced(&self) -> Result<Option<String>, Vec<Told>> {
        for label in [ENFORCE_LABEL, WARN_LABEL] {
            let label = label.replace('/', "%2F");
            // Of the exempt ones, which may have the label too, there are fewer.
            let path = format!("/api/v1/namespaces?labelSelector={label}&limit=100");
            let namespaces = self.read("registrations", &path).await?.unwrap_or_default();
            if let Some(fenced) = filled::fenced(&namespaces, self.release) {
                return Ok(Some(fenced));
            }
        }
        Ok(None)
    }

    async fn guards(&self, rendered: Option<&BTreeMap<String, Value>>) -> Vec<Told> {
        let mut told = Vec::new();
        for name in guards() {
            let policy = format!("{ADMISSION}/validatingadmissionpolicies/{name}");
            let binding = format!("{ADMISSION}/validatingadmissionpolicybindings/{name}");
            let found = match (self.read("guards", &policy).await, self.read("guards", &binding).await) {
                (Ok(policy), Ok(binding)) => [policy, binding],
                (Err(gap), _) | (_, Err(gap)) => {
                    told.extend(gap);
                    continue;
                }
            };
            let wrong = told::guard(&name, found[0].as_ref(), found[1].as_ref());
            let is_said = !wrong.is_empty();
            told.extend(wrong);
            let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
            for (kind, found) in kinds.into_iter().zip(&found).filter(|_| !is_said) {
                if let Some((rendered, found)) = rendered.zip(found.as_ref()) {
                    let key = format!("{}.{name}", kind.to_ascii_lowercase());
                    told.extend(told::compared_guard(kind, &name, rendered.get(&key), found));
                }
            }
        }
        or_good(told, "guards", "all are there, as the chart has them, and refuse")
    }

    fn deployment(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/ringfence", self.release)
    }

    /// What runs, and by what policies.
    async fn release(&self) -> Vec<Told> {
        let release = self.release;
        let deployment = self.deployment();
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{release}/leases/ringfence");
        let mut told = match self.read("replicas", &deployment).await {
            Ok(found) => told::replicas(found.as_ref(), release),
            Err(gap) => gap,
        };
        told.extend(match self.read("leader", &lease).await {
            Ok(found) => told::leader(found.as_ref(), Timestamp::now()),
            Err(gap) => gap,
        });
        told.extend(match self.read("policies", POLICIES).await {
            Ok(Some(list)) => told::policies(&list),
            // What is said of definitions says it.
            Ok(None) => Vec::new(),
            Err(gap) => gap,
        });
        told
    }

    /// The egress proxy, where it is installed; else who waits for it.
    async fn egress(&self) -> Vec<Told> {
        let (check, release) = ("egress", self.release);
        let deployment = format!("/apis/apps/v1/namespaces/{release}/deployments/{EGRESS_PROXY}");
        let service = format!("/api/v1/namespaces/{release}/services/{EGRESS_PROXY}");
        let slices = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{release}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{EGRESS_PROXY}&limit=100"
        );
        let looked = async {
            let (deployment, service) = (self.read(check, &deployment).await?, self.read(check, &service).await?);
            if deployment.is_none() && service.is_none() {
                return self.waiting_for_egress(check).await;
            }
            let slices = self.read(check, &slices).await?.unwrap_or_default();
            let (deployment, service) = (deployment.as_ref(), service.as_ref());
            Ok(egress::replicas(deployment, service, &slices, release))
        };
        looked.await.unwrap_or_else(|gap: Vec<Told>| gap)
    }

    async fn waiting_for_egress(&self, check: &'static str) -> Result<Vec<Told>, Vec<Told>> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &ApiResource::erase::<AIWorkflow>(&()));
        match listed("list AIWorkflows", &api, &ListParams::default(), MAX_WORKFLOWS).await {
            Ok((found, is_whole)) => {
                let found = found
                    .into_iter()
                    .map(|object| json!({"metadata": object.metadata, "status": object.data.get("status")}));
                Ok(egress::closed(&found.collect::<Vec<_>>(), is_whole))
            }
            // What is said of definitions says it.
            Err(error) if cluster::is_not_served(&error) => Ok(Vec::new()),
            Err(error) => Err(vec![unread(check, error)]),
        }
    }

    /// A dry run that must be refused: a labelled object where no workflow may be. Whatever comes of it, nothing is written.
    async fn ask_webhook(&self) -> Result<Vec<Told>> {
        let path = format!("/api/v1/namespaces/{}/configmaps?dryRun=All", self.probe);
        let labels = json!({"ringfence.dev/workflow": "ringfence-check"});
        let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "ringfence-check-", "labels": labels}});
        let request = Request::post(path)
            .header("Content-Type", "application/json")
            .body(probe.to_string().into_bytes())
            .context("making a request")?;
        let asked = bounded("ask for a dry run", self.client.request::<Value>(request)).await;
        Ok(match asked {
            Ok(_) => told::probe(201, "", self.probe),
            Err(CallError::Api {
                source: kube::Error::Api(status),
                ..
            }) => told::probe(status.code, &status.message, self.probe),
            Err(error) => vec![unread("webhook", error)],
        })
    }

    /// Whether NetworkPolicies bit when that was tried.
    async fn network(&self) -> Vec<Told> {
        let api = Api::<AIWorkflowClass>::all(self.client.clone());
        match listed("list AIWorkflowClasses", &api, &ListParams::default(), MAX_CLASSES).await {
            Ok((classes, _)) => canary::last_seen(&classes),
            // What is said of definitions says it.
            Err(error) if cluster::is_not_served(&error) => Vec::new(),
            Err(error) => vec![unread("network", error)],
        }
    }

    async fn access(&self) -> Vec<Told> {
        let check = "access";
        let live = Live::new(self.client.clone(), super::REGISTRATION);
        let (access, extent) = read_access(&live, self.release).await;
        let mut report = access.report();
        report.add_gaps(extent.gaps);
        vec![match (report.has_beyond(), report.is_complete()) {
            (true, _) => Told::new(
                check,
                State::Warning,
                "somebody holds more than is expected of what no admission controller sees",
                "ringfence check access names who, by which binding, and what to bind instead",
            ),
            (false, false) => Told::new(
                check,
                State::Unknown,
                "not all Roles and bindings could be read",
                "ringfence check access says which, and what it takes",
            ),
            (false, true) => Told::good(
                check,
                "nobody holds more than is expected of what no admission controller sees",
            ),
        }]
    }

    /// What the chart gives Ringfence's account, and the API server does not let it do.
    async fn rights(&self) -> Result<Vec<Told>> {
        let check = "rights";
        let user = format!("system:serviceaccount:{}:ringfence", self.release);
        let rights = rights::rights(self.release).map_err(|error| anyhow!(error))?;
        let of_release = format!("system:serviceaccounts:{}", self.release);
        let (user, of_release) = (user.as_str(), &of_release);
        let asked = stream::iter(&rights).map(|right| async move {
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let groups = ["system:serviceaccounts", of_release.as_str(), "system:authenticated"];
            let spec = json!({"user": user, "groups": groups, "resourceAttributes": right});
            let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
            let request = Request::post(path)
                .header("Content-Type", "application/json")
                .body(review.to_string().into_bytes())
                .map_err(kube::Error::HttpError);
            let asking = async { self.client.request::<Value>(request?).await };
            let answer = bounded("ask what Ringfence's account may do", asking).await?;
            Ok::<_, CallError>(answer.pointer("/status/allowed").is_some_and(|allowed| allowed == true))
        });
        let answers: Vec<_> = asked.buffered(ASKED).collect().await;
        let mut missing = Vec::new();
        for (right, answer) in rights.iter().zip(answers) {
            match answer {
                Ok(true) => {}
                Ok(false) => missing.push(rights::shown(right)),
                Err(error) => return Ok(vec![unread(check, error)]),
            }
        }
        if missing.is_empty() {
            let message = format!("{user} may do all that the chart gives it");
            return Ok(vec![Told::good(check, message)]);
        }
        let more = missing.len().saturating_sub(MAX_NAMED);
        let mut named = missing.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            named.push_str(&format!(" and {more} more"));
        }
        let message = format!("{user} may not {named}");
        let fix = "helm upgrade the release: it restores the roles ringfence and their bindings";
        Ok(vec![Told::new(check, State::Error, message, fix)])
    }
}

fn unread(check: &'static str, error: CallError) -> Told {
    let message = match &error {
        CallError::Api { what, source } => format!("cannot {what}: {}", explain(source)),
        _ => error.to_string(),
    };
    let fix = "ask whoever runs the cluster for this right, or have them run this";
    Told::new(check, State::Unknown, message, fix)
}
