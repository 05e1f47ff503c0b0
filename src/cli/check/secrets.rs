//! Secrets of a namespace: those that pods want and that are not there, and those that hold tokens without an end.
//!
//! By metadata wherever that tells enough. Where keys matter the API server sends the whole Secret, and its values are read
//! over: nothing ever holds one.

use std::collections::{BTreeMap, BTreeSet};

use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams, core::Request, core::params::GetParams};
use serde::{Deserialize, de::IgnoredAny};

use super::super::cluster::{bounded, listed, optional, told};
use crate::{
    api::{AIWorkflow, is_dns_subdomain},
    findings::{Extent, Report, Secrets, Sink, token_secret},
    reconcile::CallError,
    webhook::lookup::Live,
    webhook::pages::{Ask, List, Listed},
};

const SECRET: Listed = Listed {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
};
/// Names the account of a token.
const ACCOUNT: &str = "/metadata/annotations/kubernetes.io~1service-account.name";
/// Most bytes of a Secret, as JSON: the API server takes one MiB of values, a third larger in base64.
const MAX_SECRET: usize = 4 << 20;
/// Most workflows of a namespace.
const MAX_WORKFLOWS: usize = 5000;

/// Looks for what is wanted, and for tokens. Tells what could not be looked at.
pub(super) async fn look(
    client: &Client,
    live: &Live,
    namespace: &str,
    secrets: &Secrets,
    report: &mut Report,
) -> Extent {
    let mut extent = Extent::default();
    if secrets.has_omitted() {
        extent.gap(format!(
            "more Secrets are referred to in namespace {namespace} than are looked for"
        ));
    }
    for (name, has_keys) in secrets.names() {
        let found = match has_keys {
            _ if !is_dns_subdomain(name) => Ok(None),
            true => keys_of(client, namespace, name).await,
            false => is_there(client, namespace, name).await,
        };
        match found {
            Ok(None) => report.found_all(secrets.missing(name)),
            Ok(Some(keys)) => report.found_all(secrets.missing_keys(name, &keys)),
            Err(error) => extent.gap(format!("{error:#}")),
        }
    }
    if let Err(gap) = tokens(client, live, namespace, report).await {
        extent.gap(gap);
    }
    extent
}

async fn is_there(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<BTreeSet<String>>> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let what = format!("read the metadata of Secret {name}");
    let found = optional(bounded(&what, secrets.get_metadata(name)).await)?;
    Ok(found.map(|_| BTreeSet::new()))
}

/// A Secret as far as it is read.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    data: Option<BTreeMap<String, IgnoredAny>>,
}

async fn keys_of(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Option<BTreeSet<String>>> {
    let what = format!("read the keys of Secret {name}");
    let get = async {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let request = Request::new(path)
            .get(name, &GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        // Not by the client's own reading, which logs what it cannot read.
        let response = client.send(request.map(Into::into)).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_SECRET).collect().await;
        let bytes = body.map_err(kube::Error::Service)?.to_bytes();
        if !status.is_success() {
            let said: kube::core::Status = serde_json::from_slice(&bytes).unwrap_or_default();
            return Err(kube::Error::Api(Box::new(said.with_code(status.as_u16()))));
        }
        Ok(serde_json::from_slice::<Keys>(&bytes))
    };
    match optional(bounded(&what, get).await)? {
        None => Ok(None),
        Some(Ok(keys)) => Ok(Some(keys.data.unwrap_or_default().into_keys().collect())),
        // Its text may quote what it met.
        Some(Err(_)) => anyhow::bail!("cannot {what}: the answer is no Secret"),
    }
}

async fn tokens(client: &Client, live: &Live, namespace: &str, report: &mut Report) -> Result<(), String> {
    let api = Api::<AIWorkflow>::namespaced(client.clone(), namespace);
    let what = format!("list the AIWorkflows of namespace {namespace}");
    let explain = |error: CallError| format!("{:#}", told(error));
    let (workflows, _) = listed(&what, &api, &ListParams::default(), MAX_WORKFLOWS)
        .await
        .map_err(explain)?;
    let workflow_of = |account: &str| {
        let runs_as = |workflow: &&AIWorkflow| workflow.service_account_name() == account;
        workflows.iter().find(runs_as)?.metadata.name.as_deref()
    };
    let mut ask = Ask {
        fields: "type=kubernetes.io/service-account-token".to_owned(),
        metadata_only: true,
        ..Ask::all(SECRET, Some(namespace))
    };
    loop {
        let page = tokio::time::timeout(super::QUESTION, live.list(&ask)).await;
        let page = page.map_err(|_| format!("{ask} could not be read: no answer in time"))?;
        let page = page.map_err(|error| error.to_string())?;
        if let Some(unread) = page.unread {
            return Err(unread);
        }
        for secret in page.items.into_iter().map(serde_json::Value::Object) {
            let account = secret.pointer(ACCOUNT).and_then(serde_json::Value::as_str);
            let account = account.unwrap_or_default();
            let name = crate::plan::name_of(&secret);
            report.found(token_secret(namespace, name, account, workflow_of(account)));
        }
        ask.first = page.first;
        match page.next {
            None => return Ok(()),
            next => ask.next = next,
        }
    }
}
