//! `ringfence render`: what Ringfence would make of a declaration, before anybody applies it.
//!
//! `plan` decides, here as in the cluster. Must never: talk to a cluster, or print what could pass for a live object: a UID
//! that nobody knows yet is a placeholder that no API server takes.

mod pod;
mod surroundings;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    cluster::Release,
    manifests::{self, Manifests},
    terminal::{self, as_json, printable},
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, ConditionType, Mode, Reason, find},
    egress,
    plan::{self, Acceptance, Change, Child, GrantObserved, GranteeFacts, Observed, Outcome, PluginPolicies},
};
pub(super) use surroundings::facts_of;
use surroundings::{Surroundings, bare};

/// What a condition adds where the cluster may know more.
const AS_FAR: &str = ", as far as the input says";
const HEADER: &str = "# What Ringfence makes of the input. To read, not to apply: it makes these objects itself.\n";

/// Print what Ringfence would make of declarations, without a cluster.
///
/// Reads AIWorkflows, AIWorkflowGrants, AIWorkflowClasses and Namespaces, and prints the NetworkPolicies, ServiceAccounts,
/// Roles and RoleBindings that would come from them. Whatever is wrong goes to standard error as comments.
///
/// A namespace that is not in the input counts as labelled ringfence.dev/enforce with the class of the input, or with the
/// class `default`. Peers and grants that are not in the input count as missing. CEL rules are not evaluated.
///
/// Exit codes: 0 accepted, 1 not accepted, 2 the input cannot be read.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What would come of this file?
  ringfence render workflow.yaml

  # The same within the limits of a class that the platform team has published:
  ringfence render workflow.yaml class-gold.yaml

  # What does a Job, Deployment or other pod template need to run in this workflow's fence?
  ringfence render workflow.yaml --pod invoice-triage

  # What comes of the declarations of a cluster?
  kubectl get aiworkflows,aiworkflowclasses,namespaces --all-namespaces -o yaml | ringfence render -")]
pub(super) struct Args {
    /// YAML or JSON, several documents allowed; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print what a pod template of this AIWorkflow needs instead: its label, its account and the restricted securityContext.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    pod: Option<String>,
    /// Namespace of what names none.
    #[arg(long, short)]
    namespace: Option<String>,
    #[command(flatten)]
    release: Release,
    /// Address of the egress proxy, for pods that reach no DNS or ask the proxy for names: the cluster IP of Service ringfence-egress. With
    /// --pod.
    #[arg(long, value_name = "ADDRESS", requires = "pod")]
    egress_address: Option<IpAddr>,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object; several objects are a List.
    Json,
    /// YAML with comments.
    #[default]
    Yaml,
}

/// Objects with the comment above each, and what is to be said about the declarations.
#[derive(Debug, Default)]
struct Rendered {
    objects: Vec<(String, Value)>,
    comments: Vec<String>,
    refused: bool,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let manifests = manifests::load(&args.files, args.namespace.as_deref())?;
    let rendered = match &args.pod {
        Some(name) => {
            let proxy = pod::Proxy {
                namespace: &args.release.release_namespace,
                address: args.egress_address,
            };
            pod::pod(&manifests, name, args.namespace.as_deref(), &proxy)?
        }
        None => everything(&manifests, &args.release.release_namespace)?,
    };
    for comment in &rendered.comments {
        eprintln!("# {}", printable(comment));
    }
    let text = match args.output {
        Format::Json => as_json(&listed(rendered.objects))?,
        Format::Yaml => as_yaml(&rendered.objects, args.pod.is_none())?,
    };
    terminal::print(&text)?;
    Ok(if rendered.refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn listed(objects: Vec<(String, Value)>) -> Value {
    let mut objects: Vec<Value> = objects.into_iter().map(|(_, object)| object).collect();
    match objects.len() {
        1 => objects.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    }
}

fn as_yaml(objects: &[(String, Value)], live: bool) -> Result<String> {
    let mut text = if live { HEADER.to_owned() } else { String::new() };
    for (comment, object) in objects {
        if live {
            text.push_str("---\n");
        }
        for line in comment.lines() {
            text.push_str(&format!("# {}\n", printable(line)));
        }
        text.push_str(&terminal::as_yaml(object, &['\n'])?);
    }
    Ok(text)
}

fn everything(manifests: &Manifests, release: &str) -> Result<Rendered> {
    if manifests.workflows.is_empty() && manifests.grants.is_empty() {
        let others = match manifests.others.as_slice() {
            [] => String::new(),
            others => format!(", only {}", others.join(", ")),
        };
        bail!("there is neither an AIWorkflow nor an AIWorkflowGrant in the input{others}");
    }
    let mut rendered = Rendered::default();
    if !manifests.others.is_empty() {
        let others = manifests.others.join(", ");
        rendered
            .comments
            .push(format!("left aside, for nothing is made of it: {others}"));
    }
    for class in manifests.classes.values() {
        let problems = plan::class_problems(class);
        rendered.refuse(
            &format!("AIWorkflowClass {}", class.name_any()),
            "Accepted=False (Invalid)",
            problems.iter().map(ToString::to_string),
        );
    }
    let mut denied = BTreeSet::new();
    for workflow in &manifests.workflows {
        let surroundings = Surroundings::of(&namespace_of(workflow), manifests)?;
        let facts = &surroundings.facts;
        if denied.insert(facts.name.clone()) {
            rendered.comments.extend(surroundings.assumed.clone());
            if facts.mode() == Some(Mode::Enforce) {
                let comment = format!("Namespace {}: its own default-deny", facts.name);
                rendered.objects.push((comment, plan::default_deny(facts)));
            }
        }
        rendered.workflow(workflow, surroundings, manifests, release);
    }
    for grant in &manifests.grants {
        rendered.grant(grant, manifests)?;
    }
    Ok(rendered)
}

impl Rendered {
    fn refuse(&mut self, what: &str, condition: &str, problems: impl Iterator<Item = String>) {
        let before = self.comments.len();
        self.comments.extend(problems.map(|problem| format!("  {problem}")));
        if self.comments.len() > before {
            self.comments.insert(before, format!("{what}: {condition}"));
            self.refused = true;
        }
    }

    fn workflow(&mut self, workflow: &AIWorkflow, surroundings: Surroundings, manifests: &Manifests, release: &str) {
        let shown = format!("AIWorkflow {}/{}", namespace_of(workflow), workflow.name_any());
        let workflow = with_uid(workflow, &shown);
        let knows_cluster = surroundings.knows_cluster;
        let mut observed = surroundings.observe(&workflow, manifests);
        observed.egress_proxy = Some(release.to_owned());
        // Of what a class names it is taken for granted that it is there.
        observed.cilium = PluginPolicies::Writable;
        observed.cluster_policies = PluginPolicies::Writable;
        if let Some(owner) = earlier_owner(&workflow, manifests) {
            let account = workflow.service_account_name();
            observed.taken.insert((Child::ServiceAccount, account.to_owned()));
            let problem = format!(
                "ServiceAccount {account} is that of AIWorkflow {owner}, and an account is never shared: name another in spec.identity.serviceAccountName"
            );
            self.refuse(&shown, "Programmed=False (NameTaken)", [problem].into_iter());
        }
        let plan = plan::plan(&workflow, &observed);
        let made = plan.changes.iter().filter_map(made);
        self.objects
            .extend(made.map(|object| (format!("{shown}{}", way(&object)), object)));
        if workflow.metadata.deletion_timestamp.is_some() {
            self.comments
                .push(format!("{shown}: is being deleted, so nothing is made of it"));
        }

        // The API server's address is found in the cluster: not to know it here is no fault of the declaration.
        let unknown_address = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        observed.api_server.insert(unknown_address);
        self.say_conditions(&shown, &workflow, &observed);
        self.say_api_server(&shown, &workflow, observed.class.as_ref());
        if !knows_cluster && names_ranges(&workflow) {
            self.comments.push(format!(
                "{shown}: the cluster's own ranges are taken out of its address ranges in the cluster: they are known only there, unless spec.cluster.clusterCIDRs of the class says them"
            ));
        }
    }

    fn say_acceptance(&mut self, shown: &str, acceptance: &Acceptance) {
        if acceptance.accepted {
            return;
        }
        let all: Vec<_> = match acceptance.problems.as_slice() {
            [] => vec![acceptance.message.clone()],
            problems => problems.iter().map(ToString::to_string).collect(),
        };
        let mut condition = format!("Accepted=False ({})", acceptance.reason.as_str());
        if acceptance.reason == Reason::ClassMissing {
            condition.push_str(AS_FAR);
        }
        self.refuse(shown, &condition, all.into_iter());
    }

    fn say_conditions(&mut self, shown: &str, workflow: &AIWorkflow, observed: &Observed) {
        let plan = plan::plan(workflow, observed);
        self.say_acceptance(shown, &plan.acceptance);
        if let Some((reason, message)) = &plan.unresolved {
            self.comments
                .push(format!("{shown}: ResolvedRefs=False ({}){AS_FAR}", reason.as_str()));
            self.comments.push(format!("  {message}"));
        }
        // What is rendered lacks it, and nothing of that tells why.
        if let Some((reason, message)) = plan.unserved.as_ref().filter(|_| plan.acceptance.accepted) {
            self.comments
                .push(format!("{shown}: Programmed=False ({}){AS_FAR}", reason.as_str()));
            self.comments.push(format!("  {message}"));
        }
        let status = plan::status(
            workflow,
            observed,
            &plan,
            &Outcome::Applied(None),
            Timestamp::UNIX_EPOCH,
        );
        if let Some(ready) = find(&status.conditions, ConditionType::Ready)
            && ready.reason == Reason::NotEnforced.as_str()
        {
            self.comments
                .push(format!("{shown}: Ready=False ({}): {}", ready.reason, ready.message));
        }
    }

    fn say_api_server(&mut self, shown: &str, workflow: &AIWorkflow, class: Option<&AIWorkflowClass>) {
        let known = class.is_none_or(|class| {
            let cluster = class.spec.cluster.as_ref();
            cluster.is_some_and(|cluster| cluster.api_server.is_some())
        });
        let egress = workflow.spec.network.iter().flat_map(|network| &network.egress);
        for (index, _) in egress
            .enumerate()
            .filter(|(_, rule)| rule.to.api_server.is_some() && !known)
        {
            self.comments.push(format!(
                "{shown}: spec.network.egress[{index}] is not shown: the API server's address is found in the cluster, unless spec.cluster.apiServer of the class says it"
            ));
        }
    }

    fn grant(&mut self, grant: &AIWorkflowGrant, manifests: &Manifests) -> Result<()> {
        let namespace = grant.namespace().unwrap_or_default();
        let shown = format!("AIWorkflowGrant {namespace}/{}", grant.name_any());
        let mut grant = grant.clone();
        if grant.uid().is_none_or(|uid| uid.is_empty()) {
            grant.metadata.uid = Some(placeholder(&shown));
        }
        let mut grantees = BTreeMap::new();
        for from in &grant.spec.from {
            let named =
                |workflow: &&AIWorkflow| namespace_of(workflow) == from.namespace && workflow.name_any() == from.name;
            if let Some(workflow) = manifests.workflows.iter().find(named) {
                let surroundings = Surroundings::of(&from.namespace, manifests)?;
                let facts = GranteeFacts {
                    workflow: workflow.clone(),
                    namespace: surroundings.facts,
                    class: surroundings.class,
                    reviewed: true,
                    account_is_ours: true,
                };
                grantees.insert(from.clone(), facts);
            }
        }
        let observed = GrantObserved {
            namespace: facts_of(&namespace, manifests).unwrap_or_else(|| bare(&namespace)),
            grantees,
            children: Vec::new(),
            taken: BTreeSet::new(),
        };
        let plan = plan::plan_grant(&grant, &observed);
        let made = plan.changes.iter().filter_map(made);
        self.objects.extend(made.map(|object| (shown.clone(), object)));
        let problems = plan.problems.iter().map(ToString::to_string);
        self.refuse(&shown, "Accepted=False (Invalid)", problems);
        for idle in &plan.idle {
            self.comments.push(format!("{shown}: gives nothing{AS_FAR}: {idle}"));
        }
        Ok(())
    }
}

/// What is to be said of a policy that leads to the egress proxy.
fn way(object: &Value) -> &'static str {
    let annotations = object.pointer("/metadata/annotations");
    let leads_to_proxy = annotations.is_some_and(|annotations| annotations.get(egress::ANNOTATION).is_some());
    match leads_to_proxy {
        true => ": its way to domains, where the egress proxy is installed (--release-namespace names its namespace)",
        false if object["kind"] == Child::CiliumNetworkPolicy.kind() => {
            ": its way to domains, where Cilium is, and the chart lets Ringfence write its policies (egress.cilium.enabled)"
        }
        false if object["kind"] == Child::ClusterNetworkPolicy.kind() => {
            ": its way to domains, where these policies are served with domainNames, and the chart lets Ringfence write them (egress.clusterNetworkPolicy.enabled)"
        }
        false if object["kind"] == Child::ResolvedNames.kind() => {
            ": the names whose addresses Ringfence opens, in the policy of the same name, once it has resolved them"
        }
        false => "",
    }
}

fn names_ranges(workflow: &AIWorkflow) -> bool {
    let network = workflow.spec.network.as_ref();
    network.is_some_and(|network| {
        network.ingress.iter().any(|rule| rule.from.cidrs.is_some())
            || network.egress.iter().any(|rule| rule.to.cidrs.is_some())
    })
}

/// The object that a change makes. Nothing is observed here, so there is nothing to replace or to delete.
fn made(change: &Change) -> Option<Value> {
    match change {
        Change::Create(_, object) | Change::Replace(_, object) => Some(object.clone()),
        Change::Delete { .. } => None,
    }
}

pub(super) fn namespace_of(workflow: &AIWorkflow) -> String {
    workflow.namespace().unwrap_or_default()
}

/// The workflow of the input, before this one, that has the same account.
fn earlier_owner(workflow: &AIWorkflow, manifests: &Manifests) -> Option<String> {
    let same_account = |other: &&AIWorkflow| {
        namespace_of(other) == namespace_of(workflow) && other.service_account_name() == workflow.service_account_name()
    };
    let first = manifests.workflows.iter().find(same_account)?;
    (first.name_any() != workflow.name_any()).then(|| first.name_any())
}

fn with_uid(workflow: &AIWorkflow, shown: &str) -> AIWorkflow {
    let mut workflow = workflow.clone();
    if workflow.uid().is_none_or(|uid| uid.is_empty()) {
        workflow.metadata.uid = Some(placeholder(shown));
    }
    workflow
}

pub(super) fn placeholder(what: &str) -> String {
    format!("<UID of {what}>")
}
