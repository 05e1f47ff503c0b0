//! What is seen before anything is planned: read past every cache, because a right never rests on a stale view.
//!
//! The controllers look through this, and so does whoever asks what they would do. Must never: write.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use serde_json::Value;

use super::{
    CallError, bound, calls,
    calls::Calls,
    cluster, facts, grant,
    lean::{self, Lean},
    workflow,
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, GrantedWorkflow, is_exempt},
    plan::{CLUSTER_DOMAIN, Child, GrantObserved, GranteeFacts, NamespaceFacts, Observed},
};

/// Reads of the API server, with the rights of the client.
pub struct Reads {
    pub(super) client: Client,
    pub(super) calls: Calls,
    pub(super) release_namespace: Option<String>,
    /// Name of the ValidatingWebhookConfiguration under which writes of our kinds are reviewed.
    pub(super) registration: String,
    /// Namespace of the egress proxy, where one is installed.
    pub(super) egress_proxy: Option<String>,
    /// Whether policies of Cilium are Ringfence's to write, where they are served.
    pub(super) writes_cilium: bool,
    /// Whether ClusterNetworkPolicies are Ringfence's to write, where they are served.
    pub(super) writes_cluster_policies: bool,
    /// Domains below which names are the cluster's, its own first.
    pub(super) cluster_domains: Vec<String>,
    pub(super) api_server: cluster::Last,
    pub(super) looks: Arc<bound::Looks>,
}

impl Reads {
    /// `release_namespace` is exempt beside the system's; `None` where nobody knows it.
    /// `registration` names the ValidatingWebhookConfiguration under which writes of our kinds are reviewed.
    pub fn new(client: Client, release_namespace: Option<String>, registration: String) -> Self {
        Self {
            calls: Calls::new(client.clone()),
            client,
            release_namespace,
            registration,
            egress_proxy: None,
            writes_cilium: false,
            writes_cluster_policies: false,
            cluster_domains: vec![CLUSTER_DOMAIN.to_owned()],
            api_server: cluster::Last::default(),
            looks: Arc::default(),
        }
    }

    /// The same, where an egress proxy is installed in that namespace.
    pub fn with_egress_proxy(self, namespace: Option<String>) -> Self {
        Self {
            egress_proxy: namespace,
            ..self
        }
    }

    /// The same, where policies of Cilium are Ringfence's to write.
    pub fn with_cilium(self, is_allowed: bool) -> Self {
        Self {
            writes_cilium: is_allowed,
            ..self
        }
    }

    /// The same, where ClusterNetworkPolicies are Ringfence's to write.
    pub fn with_cluster_policies(self, is_allowed: bool) -> Self {
        Self {
            writes_cluster_policies: is_allowed,
            ..self
        }
    }

    /// The same, where the cluster's names are below these domains, of which the first is what its kubelets know.
    pub fn with_cluster_domains(self, cluster_domains: Vec<String>) -> Self {
        Self {
            cluster_domains,
            ..self
        }
    }

    pub(super) fn is_exempt(&self, namespace: &str) -> bool {
        is_exempt(namespace, self.release_namespace.as_deref())
    }

    /// Reads a namespace. One that is gone counts as being deleted, without a UID: nothing is made in it.
    pub async fn namespace(&self, name: &str) -> Result<NamespaceFacts, CallError> {
        let read = lean::metadata::<Namespace>(&self.client, None, name);
        let read = calls::bounded(&format!("read namespace {name}"), read).await;
        Ok(match calls::optional(read)? {
            Some(metadata) => facts(&metadata, self.is_exempt(name)),
            None => NamespaceFacts {
                name: name.to_owned(),
                terminating: true,
                ..NamespaceFacts::default()
            },
        })
    }

    /// Reads a class.
    pub async fn class(&self, name: &str) -> Result<Option<AIWorkflowClass>, CallError> {
        let classes = Api::<Lean<AIWorkflowClass>>::all(self.client.clone());
        let read = calls::bounded(&format!("read AIWorkflowClass {name}"), classes.get(name)).await;
        Ok(calls::optional(read)?.map(|Lean(class)| class))
    }

    /// Reads an object of a kind that Ringfence makes, whoever made it.
    pub async fn child(&self, child: Child, namespace: &str, name: &str) -> Result<Option<Value>, CallError> {
        self.calls.get(child, namespace, name).await
    }

    /// Reads what a plan of this workflow needs beside its namespace and class: what stands, its peers, grants.
    pub async fn around(
        &self,
        workflow: &AIWorkflow,
        namespace: NamespaceFacts,
        class: Option<AIWorkflowClass>,
    ) -> Result<Observed, CallError> {
        workflow::around(workflow, namespace, class, self).await
    }

    /// Reads which bindings of somebody else name a workflow's account, while that is not there. That takes a look at all bindings: no
    /// reconcile waits for it here.
    pub async fn bound(&self, workflow: &AIWorkflow) -> Result<Vec<String>, CallError> {
        bound::bound(workflow, self).await
    }

    /// Reads what a plan of this grant needs.
    pub async fn grant(&self, grant: &AIWorkflowGrant) -> Result<GrantObserved, CallError> {
        grant::observe(grant, self).await
    }

    /// Reads a workflow that a grant names; `None` where it is gone, or going.
    pub async fn grantee(&self, grantee: &GrantedWorkflow) -> Result<Option<GranteeFacts>, CallError> {
        grant::read_grantee(grantee, self).await
    }
}
