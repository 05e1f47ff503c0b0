//! The cluster as it would be with the declarations applied: what they say over what is there.
//!
//! Must never: let a declaration of the input stand beside the live one of the same name, or plan with half of what the
//! operator would see. What cannot be read ends it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::ObjectMeta};

use super::super::{
    cluster::{bounded, listed, optional, told},
    manifests::Manifests,
    render::{facts_of, namespace_of, placeholder},
    rights::{self, Right},
};
use super::declared::Replaced;
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowGrant, AIWorkflowGrantSpec, Backend, DEFAULT_CLASS, GROUP, MANAGER,
        is_dns_label, is_dns_subdomain, is_exempt,
    },
    plan::{self, Child, NamespaceFacts},
    reconcile::Reads,
};

/// Most workflows that are compared at once; a class can concern every one of the cluster.
const MAX_WORKFLOWS: usize = 1000;
/// Most grants of one namespace.
const MAX_GRANTS: usize = 500;
/// Most namespaces that are looked through for those of a class.
const MAX_NAMESPACES: usize = 10_000;

/// A namespace and its class as they would be.
type Fencing = (NamespaceFacts, Option<AIWorkflowClass>);

/// The declarations of an input over a cluster.
pub(super) struct Proposal<'a> {
    pub(super) client: Client,
    pub(super) reads: Reads,
    pub(super) manifests: &'a Manifests,
    /// Namespace of Ringfence's release.
    pub(super) release: &'a str,
    /// Every workflow that may change, as it would be, by namespace and name.
    pub(super) workflows: BTreeMap<(String, String), AIWorkflow>,
    /// Namespaces of those workflows, and of the input.
    pub(super) namespaces: BTreeMap<String, Fencing>,
    pub(super) replaced: Replaced,
    /// Classes of the input as they are.
    pub(super) classes: BTreeMap<String, Option<AIWorkflowClass>>,
    /// Namespaces in which one of those workflows declares rights, or has declared some until now.
    reached: BTreeSet<String>,
}

impl<'a> Proposal<'a> {
    /// Reads which workflows the input concerns, and their namespaces.
    pub(super) async fn new(client: Client, manifests: &'a Manifests, release: &'a str) -> Result<Self> {
        let mut proposal = Self {
            reads: Reads::new(client.clone(), None, MANAGER.to_owned()),
            client,
            manifests,
            release,
            workflows: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            replaced: Replaced::default(),
            classes: BTreeMap::new(),
            reached: BTreeSet::new(),
        };
        proposal.ask_for_rights().await?;
        for name in manifests.classes.keys() {
            proposal.add_class(name).await?;
        }
        let mut namespaces: BTreeSet<String> = manifests.namespaces.keys().cloned().collect();
        namespaces.extend(proposal.namespaces_of_classes().await?);
        for namespace in &namespaces {
            proposal.add_live_workflows(namespace).await?;
        }
        for workflow in &manifests.workflows {
            proposal.add_declared(workflow).await?;
        }
        namespaces.extend(manifests.workflows.iter().map(namespace_of));
        for namespace in namespaces {
            let fencing = proposal.fencing(&namespace).await?;
            proposal.namespaces.insert(namespace, fencing);
        }
        proposal.ask_for_rights_beside().await?;
        Ok(proposal)
    }

    async fn ask_for_rights(&self) -> Result<()> {
        let of = |namespace: Option<&str>, group, resource, verbs: &[&'static str]| {
            let right = |verb: &&'static str| Right {
                namespace: namespace.map(str::to_owned),
                group,
                resource,
                verb,
                name: None,
            };
            verbs.iter().map(right).collect::<Vec<_>>()
        };
        // A class is read by a name that is not known yet, and the right may be for that name alone.
        let mut wanted = Vec::new();
        let declared = self.manifests.workflows.iter().map(namespace_of);
        let namespaces: BTreeSet<_> = declared.chain(self.manifests.namespaces.keys().cloned()).collect();
        for namespace in &namespaces {
            let namespace = Some(namespace.as_str());
            wanted.extend(of(namespace, "", "namespaces", &["get"]));
            wanted.extend(of(namespace, GROUP, "aiworkflows", &["get", "list"]));
            for child in Child::BUILT_IN {
                wanted.extend(of(namespace, child.group(), child.plural(), &["get", "list"]));
            }
        }
        for grant in &self.manifests.grants {
            let namespace = grant.namespace();
            for child in [Child::Role, Child::RoleBinding] {
                wanted.extend(of(namespace.as_deref(), child.group(), child.plural(), &["list"]));
            }
        }
        if !self.manifests.classes.is_empty() {
            wanted.extend(of(None, "", "namespaces", &["list"]));
            wanted.extend(of(None, GROUP, "aiworkflows", &["list"]));
        }
        rights::require(&self.client, wanted).await
    }

    /// Those that depend on what pods reach domains by, which the classes say; and on whether a workflow has an account: where it has none, pods
    /// are looked for that run already.
    async fn ask_for_rights_beside(&self) -> Result<()> {
        let (mut wanted, mut of_cluster) = (Vec::new(), Vec::new());
        let right = |(group, resource), verb, namespace: Option<&String>, name: Option<String>| Right {
            namespace: namespace.cloned(),
            group,
            resource,
            verb,
            name,
        };
        let kind = |child: Child| (child.group(), child.plural());
        for ((namespace, name), workflow) in &self.workflows {
            let fencing = self.namespaces.get(namespace);
            let Some((_, class)) = fencing.filter(|(facts, _)| facts.fencing_class().is_some()) else {
                continue;
            };
            let status = workflow.status.as_ref();
            if status.is_none_or(|status| status.service_account.is_none()) {
                wanted.push(right(("", "pods"), "list", Some(namespace), None));
            }
            let concerned = |(backend, _): &(Backend, Child)| plan::is_concerned(workflow, class.as_ref(), *backend);
            for (_, child) in plan::KINDS_BESIDE.into_iter().filter(concerned) {
                let own = child
                    .is_of_cluster()
                    .then(|| plan::cluster_policy_name(namespace, name));
                let namespace = Some(namespace).filter(|_| own.is_none());
                let rights = if own.is_some() { &mut of_cluster } else { &mut wanted };
                rights.extend(["get", "list"].map(|verb| right(kind(child), verb, namespace, own.clone())));
            }
        }
        // Those to all of them are not everybody's, and one of them is read at a time.
        let all = ["get", "list"].map(|verb| right(kind(Child::ClusterNetworkPolicy), verb, None, None));
        let mut holds_all = true;
        for right in all.iter().filter(|_| !of_cluster.is_empty()) {
            holds_all &= rights::holds(&self.client, right).await?;
        }
        if !holds_all {
            wanted.extend(of_cluster);
        }
        rights::require(&self.client, wanted).await
    }

    /// Namespaces that a class of the input fences, or would.
    async fn namespaces_of_classes(&self) -> Result<Vec<String>> {
        if self.manifests.classes.is_empty() {
            return Ok(Vec::new());
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let (namespaces, whole) = listed("list namespaces", &api, &ListParams::default(), MAX_NAMESPACES)
            .await
            .map_err(told)?;
        ensure!(
            whole,
            "there are more than {MAX_NAMESPACES} namespaces: compare without the class"
        );
        let mut found = Vec::new();
        for namespace in namespaces {
            let live = NamespaceFacts::from_object(&serde_json::to_value(&namespace)?, |name| is_exempt(name, None));
            let facts = self.applied(&namespace.name_any(), live)?;
            if facts
                .fencing_class()
                .is_some_and(|class| self.manifests.classes.contains_key(class))
            {
                found.push(facts.name);
            }
        }
        Ok(found)
    }

    async fn add_live_workflows(&mut self, namespace: &str) -> Result<()> {
        let api = Api::<AIWorkflow>::namespaced(self.client.clone(), namespace);
        let what = format!("list aiworkflows in namespace {namespace}");
        let room = MAX_WORKFLOWS.saturating_sub(self.workflows.len());
        let (live, whole) = listed(&what, &api, &ListParams::default(), room).await.map_err(told)?;
        ensure!(
            whole,
            "this concerns more than {MAX_WORKFLOWS} workflows: compare fewer namespaces or classes at once"
        );
        for workflow in &live {
            self.reached.extend(plan::reached_into(workflow).map(str::to_owned));
        }
        let keyed = live
            .into_iter()
            .map(|workflow| ((namespace_of(&workflow), workflow.name_any()), workflow));
        self.workflows.extend(keyed);
        Ok(())
    }

    async fn add_declared(&mut self, declared: &AIWorkflow) -> Result<()> {
        let (namespace, name) = (namespace_of(declared), declared.name_any());
        ensure!(
            is_dns_label(&namespace) && is_dns_label(&name),
            "AIWorkflow {namespace}/{name}: the API server would refuse this name: use lower-case letters, digits and '-'"
        );
        let api = Api::<AIWorkflow>::namespaced(self.client.clone(), &namespace);
        let live = optional(bounded(&format!("read AIWorkflow {namespace}/{name}"), api.get(&name)).await)?;
        if let Some(live) = &live
            && live.service_account_name() != declared.service_account_name()
        {
            bail!(
                "AIWorkflow {namespace}/{name} would be refused by the API server: spec.identity.serviceAccountName = {:?} is {:?} and cannot change: delete the AIWorkflow and create it again",
                declared.service_account_name(),
                live.service_account_name()
            );
        }
        for workflow in live.iter().chain([declared]) {
            self.reached.extend(plan::reached_into(workflow).map(str::to_owned));
        }
        let changed = live.as_ref().is_none_or(|live| live.spec != declared.spec);
        let replaced = live.as_ref().map(|live| live.spec.clone());
        self.replaced
            .workflows
            .insert((namespace.clone(), name.clone()), replaced);
        let status = live.as_ref().and_then(|live| live.status.clone());
        let metadata = self.metadata("AIWorkflow", declared, live.as_ref(), changed);
        let workflow = AIWorkflow {
            metadata,
            spec: declared.spec.clone(),
            status,
        };
        self.workflows.insert((namespace, name), workflow);
        ensure!(
            self.workflows.len() <= MAX_WORKFLOWS,
            "this concerns more than {MAX_WORKFLOWS} workflows: compare fewer at once"
        );
        Ok(())
    }

    /// Metadata as they would be stored: the live object's, with labels and annotations of the input over them.
    fn metadata<K: Resource>(&self, kind: &str, declared: &K, live: Option<&K>, changed: bool) -> ObjectMeta {
        let Some(live) = live else {
            let mut metadata = declared.meta().clone();
            let (namespace, name) = (declared.namespace().unwrap_or_default(), declared.name_any());
            metadata.uid = Some(placeholder(&format!("{kind} {namespace}/{name}")));
            return metadata;
        };
        let mut metadata = live.meta().clone();
        // What is applied is reviewed there and then: it is planned as what was never stored.
        if changed {
            metadata.generation = None;
        }
        for (stored, given) in [
            (&mut metadata.labels, declared.labels()),
            (&mut metadata.annotations, declared.annotations()),
        ] {
            stored.get_or_insert_default().extend(given.clone());
        }
        metadata
    }

    /// A namespace as it would be: labels of the input over those that are there.
    pub(super) fn applied(&self, name: &str, live: Option<NamespaceFacts>) -> Result<NamespaceFacts> {
        let declared = facts_of(name, self.manifests);
        Ok(match (live, declared) {
            (Some(mut live), Some(declared)) => {
                live.labels.extend(declared.labels);
                live
            }
            (Some(live), None) => live,
            (None, Some(declared)) => declared,
            (None, None) => bail!("namespace {name} does not exist: create it, or add it to the input"),
        })
    }

    async fn fencing(&mut self, namespace: &str) -> Result<Fencing> {
        ensure!(is_dns_label(namespace), "{namespace:?} is no name of a namespace");
        let live = self.reads.namespace(namespace).await.map_err(told)?;
        let live = Some(live).filter(|live| !live.uid.is_empty());
        if self.manifests.namespaces.contains_key(namespace) {
            let labels = live.as_ref().map(|live| live.labels.clone());
            self.replaced.labels.insert(namespace.to_owned(), labels);
        }
        let facts = self.applied(namespace, live)?;
        let class = match facts.fencing_class() {
            Some(name) => self.class(name).await?,
            None => None,
        };
        Ok((facts, class))
    }

    async fn add_class(&mut self, name: &str) -> Result<()> {
        ensure!(
            is_dns_subdomain(name),
            "AIWorkflowClass {name}: the API server would refuse this name: use lower-case letters, digits and '-'"
        );
        let live = self.live_class(name).await?;
        self.classes.insert(name.to_owned(), live);
        Ok(())
    }

    async fn live_class(&self, name: &str) -> Result<Option<AIWorkflowClass>> {
        match self.reads.class(name).await.map_err(told) {
            Ok(live) => Ok(live),
            Err(error) => Err(rights::class_unread(&self.client, name, error).await),
        }
    }

    /// A class as it would be: what the input says, with what the operator has found out about the cluster.
    async fn class(&self, name: &str) -> Result<Option<AIWorkflowClass>> {
        let Some(declared) = self.manifests.classes.get(name) else {
            return self.live_class(name).await;
        };
        let status = match self.classes.get(name).and_then(Option::as_ref) {
            Some(live) => live.status.clone(),
            // It is the same cluster for every class.
            None => self
                .reads
                .class(DEFAULT_CLASS)
                .await
                .map_err(told)?
                .and_then(|class| class.status),
        };
        Ok(Some(AIWorkflowClass {
            status,
            ..declared.clone()
        }))
    }

    /// Grants of the input, and those of the cluster by which a workflow that may change holds or would hold something; each with what it
    /// declares until now.
    pub(super) async fn grants(&self) -> Result<Vec<(AIWorkflowGrant, Option<AIWorkflowGrantSpec>)>> {
        let mut found = BTreeMap::new();
        for namespace in &self.reached {
            let api = Api::<AIWorkflowGrant>::namespaced(self.client.clone(), namespace);
            let what = format!("list aiworkflowgrants in namespace {namespace}");
            let (grants, whole) = listed(&what, &api, &ListParams::default(), MAX_GRANTS)
                .await
                .map_err(told)?;
            ensure!(
                whole,
                "namespace {namespace} has more than {MAX_GRANTS} grants: remove what nobody needs"
            );
            let concerned = grants.into_iter().filter(|grant| {
                let key = |from: &crate::api::GrantedWorkflow| (from.namespace.clone(), from.name.clone());
                grant
                    .spec
                    .from
                    .iter()
                    .any(|from| self.workflows.contains_key(&key(from)))
            });
            let keyed = concerned.map(|grant| {
                let before = Some(grant.spec.clone());
                ((namespace.clone(), grant.name_any()), (grant, before))
            });
            found.extend(keyed);
        }
        for declared in &self.manifests.grants {
            let (namespace, name) = (declared.namespace().unwrap_or_default(), declared.name_any());
            ensure!(
                is_dns_label(&namespace) && is_dns_subdomain(&name),
                "AIWorkflowGrant {namespace}/{name}: the API server would refuse this name: use lower-case letters, digits and '-'"
            );
            let api = Api::<AIWorkflowGrant>::namespaced(self.client.clone(), &namespace);
            let live = optional(bounded(&format!("read AIWorkflowGrant {namespace}/{name}"), api.get(&name)).await)?;
            let changed = live.as_ref().is_none_or(|live| live.spec != declared.spec);
            let metadata = self.metadata("AIWorkflowGrant", declared, live.as_ref(), changed);
            let (before, status) = live.map(|live| (live.spec, live.status)).unzip();
            let grant = AIWorkflowGrant {
                metadata,
                spec: declared.spec.clone(),
                status: status.flatten(),
            };
            found.insert((namespace, name), (grant, before));
        }
        Ok(found.into_values().collect())
    }
}
