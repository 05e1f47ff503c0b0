//! The block that a pod template needs to run in its workflow's fence.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, bail};
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{super::manifests::Manifests, Rendered, namespace_of, surroundings::Surroundings};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowClassSpec, DeclaredSecret, WORKFLOW_LABEL},
    plan::{self, EGRESS_PROXY, EGRESS_PROXY_PORT, shape},
};

/// Where clients of the API server look for a token.
const API_TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const OTHER_TOKENS_PATH: &str = "/var/run/secrets/tokens";
/// Where whole Secrets are mounted, each in a folder of its own.
const SECRETS_PATH: &str = "/var/run/secrets/declared";

/// Where nobody asks a proxy: this pod, and what is in the cluster.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,.svc";
/// Where the API server is: the kubelet puts it in.
const API_SERVER: &str = "$(KUBERNETES_SERVICE_HOST)";

/// Where the egress proxy is.
pub(super) struct Proxy<'a> {
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// The address of its Service, where it is known.
    pub(super) address: Option<IpAddr>,
}

impl Proxy<'_> {
    fn url(&self, class: &AIWorkflowClass) -> String {
        let host = match self.address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None if plan::reaches_dns(class) || plan::is_cluster_only(class) => {
                format!("{EGRESS_PROXY}.{}.svc", self.namespace)
            }
            None => self.unknown(),
        };
        format!("http://{host}:{EGRESS_PROXY_PORT}")
    }

    /// Where pods ask it for names: as it is said, else as the class knows it.
    fn nameservers(&self, known: &[String]) -> Vec<String> {
        match self.address {
            Some(address) => vec![address.to_string()],
            None if known.is_empty() => vec![self.unknown()],
            None => known.to_vec(),
        }
    }

    fn unknown(&self) -> String {
        format!("<cluster IP of Service {EGRESS_PROXY} in namespace {}>", self.namespace)
    }
}

pub(super) fn pod(manifests: &Manifests, wanted: &str, namespace: Option<&str>, proxy: &Proxy<'_>) -> Result<Rendered> {
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (namespace, wanted),
    };
    let named = |workflow: &&AIWorkflow| {
        workflow.name_any() == name && namespace.is_none_or(|namespace| namespace == namespace_of(workflow))
    };
    let found: Vec<_> = manifests.workflows.iter().filter(named).collect();
    let workflow = match found.as_slice() {
        [workflow] => *workflow,
        [] => bail!("there is no AIWorkflow {wanted} in the input"),
        _ => bail!("there are several AIWorkflows {name} in the input: name one as NAMESPACE/{name}"),
    };
    let shown = format!("AIWorkflow {}/{name}", namespace_of(workflow));
    let Surroundings {
        facts, class, assumed, ..
    } = Surroundings::of(&namespace_of(workflow), manifests)?;
    let mut rendered = Rendered::default();
    let is_assumed = assumed.is_some();
    rendered.comments.extend(assumed);
    let acceptance = plan::accept(workflow, &facts, facts.fencing_class(), class.as_ref());
    rendered.say_acceptance(&shown, &acceptance);
    let mut comment = format!(
        "A pod template of {shown}. Put the label on the object around it as well (Job, Deployment, …),\n\
         and securityContext and resources, as much as it needs, into every container."
    );
    if !workflow.spec.secrets.is_empty() {
        comment.push_str("\nAll that is declared of Secrets is in it: leave out what the container does not need.");
    }
    let class_name = facts.fencing_class().unwrap_or_default();
    let rules = class
        .as_ref()
        .map(|class| plan::effective_rules(workflow, class_name, class))
        .unwrap_or_default();
    // Without a class nothing is accepted, and that has been said.
    let class = class.unwrap_or_else(|| AIWorkflowClass::new(class_name, AIWorkflowClassSpec::default()));
    if let Some(problem) =
        shape::pod_security_problem(&facts.name, &facts.labels, class_name, Some(&class)).filter(|_| !is_assumed)
    {
        rendered
            .comments
            .push(format!("Namespace {}: its pods are refused: {problem}", facts.name));
    }
    let names_domains = asks_proxy(workflow, &class);
    if names_domains {
        comment.push_str("\nClients that obey none of the variables for a proxy reach no domain.");
    }
    let asks = plan::dns_addresses(&class);
    if asks.is_some_and(<[String]>::is_empty) && proxy.address.is_none() {
        comment.push_str("\nIts pods ask the egress proxy for names: --egress-address puts in where that is.");
    }
    if names_domains && proxy.address.is_none() && !plan::reaches_dns(&class) && asks.is_none() {
        comment.push_str("\nIts pods reach no DNS: --egress-address puts in where the egress proxy is.");
    }
    let template = template(workflow, &class, !rules.is_empty(), proxy);
    if template.pointer("/spec/volumes").is_some() && !shape::volume_types(&class).contains(&"projected") {
        rendered.comments.push(format!(
            "{shown}: its tokens and Secrets are volumes of type projected, which AIWorkflowClass {class_name} does not allow: ask the platform team to add it to spec.volumes.types"
        ));
    }
    rendered.objects = vec![(comment, template)];
    Ok(rendered)
}

fn template(workflow: &AIWorkflow, class: &AIWorkflowClass, holds_rules: bool, proxy: &Proxy<'_>) -> Value {
    let pattern = workflow.spec.images.first().map_or("", String::as_str);
    let by_digest = class.spec.images.as_ref().is_some_and(|images| images.require_digest);
    let digest = if by_digest { ", by digest: …@sha256:…" } else { "" };
    let mut volumes = Vec::new();
    // The account mounts no token by itself: one that nobody asked for is one to steal. Nor does the pod by its switch: such a
    // token may be good for a year.
    if holds_rules || !workflow.cross_namespace().is_empty() {
        let token = json!({"path": "token", "expirationSeconds": shape::max_token_seconds(class)});
        let sources = json!([
            {"serviceAccountToken": token},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]);
        volumes.push(("api-token".to_owned(), API_TOKEN_PATH.to_owned(), sources));
    }
    let audiences = workflow.spec.identity.iter().flat_map(|identity| &identity.audiences);
    let tokens: Vec<_> = audiences
        .enumerate()
        .map(|(index, audience)| {
            let seconds = shape::declared_seconds(audience).min(shape::max_token_seconds(class));
            let token = json!({"audience": audience.audience, "path": file_name("token", index, &audience.audience), "expirationSeconds": seconds});
            json!({"serviceAccountToken": token})
        })
        .collect();
    if !tokens.is_empty() {
        volumes.push(("tokens".to_owned(), OTHER_TOKENS_PATH.to_owned(), json!(tokens)));
    }
    let whole = workflow
        .spec
        .secrets
        .iter()
        .filter(|entry| entry.secret_ref.keys.is_none());
    volumes.extend(whole.enumerate().map(|(index, entry)| {
        let folder = file_name("secret", index, &entry.name);
        let sources = json!([{"secret": {"name": entry.secret_ref.name}}]);
        (format!("secret-{index}"), format!("{SECRETS_PATH}/{folder}"), sources)
    }));
    let image = format!("<an image of {pattern}{digest}>");
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let mut container = Map::from_iter([
        ("name".to_owned(), json!("main")),
        ("image".to_owned(), json!(image)),
        ("securityContext".to_owned(), context),
        (
            "resources".to_owned(),
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}),
        ),
    ]);
    let mut variables = variables(&workflow.spec.secrets);
    variables.extend(way_to_domains(workflow, class, proxy));
    if !variables.is_empty() {
        container.insert("env".to_owned(), json!(variables));
    }
    let context = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let mut spec = Map::from_iter([
        ("serviceAccountName".to_owned(), json!(workflow.service_account_name())),
        ("securityContext".to_owned(), context),
    ]);
    if let Some(known) = plan::dns_addresses(class) {
        let searches = plan::search_list(&namespace_of(workflow), plan::cluster_domain(class));
        let config = json!({
            "nameservers": proxy.nameservers(known), "searches": searches, "options": [{"name": "ndots", "value": "5"}],
        });
        spec.insert("dnsPolicy".to_owned(), json!("None"));
        spec.insert("dnsConfig".to_owned(), config);
    }
    if !volumes.is_empty() {
        let mount =
            |(name, path, _): &(String, String, Value)| json!({"name": name, "mountPath": path, "readOnly": true});
        container.insert("volumeMounts".to_owned(), volumes.iter().map(mount).collect());
        let volume =
            |(name, _, sources): &(String, String, Value)| json!({"name": name, "projected": {"sources": sources}});
        spec.insert("volumes".to_owned(), volumes.iter().map(volume).collect());
    }
    spec.insert("containers".to_owned(), json!([container]));
    json!({"metadata": {"labels": {WORKFLOW_LABEL: workflow.name_any()}}, "spec": spec})
}

/// A variable for each declared key, called after it; after its entry too, where another key is called so.
fn variables(secrets: &[DeclaredSecret]) -> Vec<Value> {
    let mut taken = BTreeSet::new();
    let mut variables = Vec::new();
    for entry in secrets {
        for key in entry.secret_ref.keys.iter().flatten() {
            let mut name = variable_name(key);
            // Ends: each time it is longer.
            while !taken.insert(name.clone()) {
                name = format!("{}_{name}", variable_name(&entry.name));
            }
            let reference = json!({"name": entry.secret_ref.name, "key": key});
            variables.push(json!({"name": name, "valueFrom": {"secretKeyRef": reference}}));
        }
    }
    variables
}

/// Whether its clients have to know the egress proxy: by Cilium, and by resolved addresses, they go their way as they always do.
fn asks_proxy(workflow: &AIWorkflow, class: &AIWorkflowClass) -> bool {
    let goes_its_way = [plan::wants_cilium, plan::wants_resolved, plan::wants_cluster_policy];
    plan::names_domains(workflow) && !goes_its_way.iter().any(|wants| wants(class))
}

/// Variables by which clients find the egress proxy. curl reads the one for plain HTTP in lower case alone.
fn way_to_domains(workflow: &AIWorkflow, class: &AIWorkflowClass, proxy: &Proxy<'_>) -> Vec<Value> {
    if !asks_proxy(workflow, class) {
        return Vec::new();
    }
    let url = proxy.url(class);
    let of_cluster: Vec<_> = plan::cluster_domains(class)
        .map(|domain| format!(".{domain}"))
        .collect();
    let mut direct = format!("{NO_PROXY},{},{API_SERVER}", of_cluster.join(","));
    let egress = workflow.spec.network.iter().flat_map(|network| &network.egress);
    for range in egress.flat_map(|rule| rule.to.cidrs.iter().flatten()) {
        direct.push_str(&format!(",{range}"));
    }
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    vec![
        variable("HTTPS_PROXY", &url),
        variable("HTTP_PROXY", &url),
        variable("http_proxy", &url),
        variable("NO_PROXY", &direct),
    ]
}

fn variable_name(text: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = text.chars().map(letter).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

/// The file of a token, or the folder of a Secret: what it is called, where that can be a file's name.
fn file_name(kind: &str, index: usize, called: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if called.chars().all(fits) && !called.starts_with('.') {
        called.to_owned()
    } else {
        format!("{kind}-{index}")
    }
}
