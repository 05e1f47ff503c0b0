//! What the caller may read, asked before it is read: all that is missing is named at once, and not one at a time.

use std::fmt;

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::cluster::{bounded, told};
use crate::api::GROUP;

/// Rights that are asked about at the same time.
const ASKED: usize = 8;
/// Most missing rights that an error lists.
const MAX_LISTED: usize = 40;

/// A right on every object of a kind, in one namespace or in the cluster; or on one of them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Right {
    /// Namespace; `None` is the cluster.
    pub(super) namespace: Option<String>,
    /// API group; empty for the core group.
    pub(super) group: &'static str,
    /// Resource, in the plural.
    pub(super) resource: &'static str,
    /// Verb of RBAC.
    pub(super) verb: &'static str,
    /// The one that is read, where it is known: a right for that one is enough.
    pub(super) name: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => write!(f, " in the cluster"),
        }
    }
}

/// Ends with an error that names every right that the caller lacks.
pub(super) async fn require(client: &Client, mut wanted: Vec<Right>) -> Result<()> {
    wanted.sort();
    wanted.dedup();
    let answers = futures::stream::iter(wanted).map(|right| async move {
        let held = holds(client, &right).await?;
        Ok::<_, anyhow::Error>((!held).then_some(right))
    });
    let missing: Vec<_> = answers.buffered(ASKED).try_collect::<Vec<_>>().await?;
    let missing: Vec<_> = missing.into_iter().flatten().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut listed: Vec<_> = missing
        .iter()
        .take(MAX_LISTED)
        .map(|right| format!("  {right}"))
        .collect();
    if missing.len() > MAX_LISTED {
        listed.push(format!("  and {} more", missing.len() - MAX_LISTED));
    }
    bail!(
        "you may not read what this needs; ask whoever runs the cluster for these rights (in a namespace the ClusterRole ringfence-tenant gives them):\n{}",
        listed.join("\n")
    );
}

/// Says which right is missing where a class could not be read for want of one. A class is of the cluster: no role in a namespace
/// shows it.
pub(super) async fn class_unread(client: &Client, name: &str, error: anyhow::Error) -> anyhow::Error {
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some("aiworkflowclasses".to_owned()),
        verb: Some("get".to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    match is_allowed(&Api::all(client.clone()), attributes).await {
        Ok(false) => error.context(format!(
            "you may not get aiworkflowclasses.{GROUP}/{name}: ask whoever runs the cluster for the ClusterRole ringfence-class-view, by a ClusterRoleBinding"
        )),
        // It failed for another reason, or nobody can tell: the error itself says what is known.
        Ok(true) | Err(_) => error,
    }
}

/// Whether the caller has a right.
pub(super) async fn holds(client: &Client, right: &Right) -> Result<bool> {
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        namespace: right.namespace.clone(),
        resource: Some(right.resource.to_owned()),
        verb: Some(right.verb.to_owned()),
        name: right.name.clone(),
        ..ResourceAttributes::default()
    };
    is_allowed(&Api::all(client.clone()), attributes).await
}

async fn is_allowed(reviews: &Api<SelfSubjectAccessReview>, attributes: ResourceAttributes) -> Result<bool> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let parameters = PostParams::default();
    let asked = bounded("ask what you may read", reviews.create(&parameters, &review));
    let answer = asked.await.map_err(told)?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
