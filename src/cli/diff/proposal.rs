//! The cluster as it would be with the declarations applied: what they say over what is there.
//!
//! Must never: let a declaration of the input stand beside the live one of the same name, or plan with half of what the
//! operator would see. What cannot be read ends it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::ObjectMeta};

use super::{
    super::{
        cluster::{bounded, listed, optional, told},
        manifests::Manifests,
        render::{facts_of, namespace_of, placeholder},
        rights::{self, Right},
    },
    compare::Comparison,
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, DEFAULT_DENY_NAME, GROUP, MANAGER, is_dns_label, is_exempt},
    plan::{self, Change, Child, DefaultDenyPlan, GranteeFacts, NamespaceFacts, Observed, Plan},
    reconcile::Reads,
};

/// Most workflows that are compared at once; a class can concern every one of the cluster.
const MAX_WORKFLOWS: usize = 1000;
/// Most grants of one namespace.
const MAX_GRANTS: usize = 500;
/// Most namespaces that are looked through for those of a class.
const MAX_NAMESPACES: usize = 10_000;
/// Workflows or grants that are read at the same time.
const READS: usize = 8;
/// How often a plan is made again because an object was found under a name that it needs.
const ATTEMPTS: usize = 3;

/// A namespace and its class as they would be.
type Fencing = (NamespaceFacts, Option<AIWorkflowClass>);

/// The declarations of an input over a cluster.
pub(super) struct Proposal<'a> {
    client: Client,
    reads: Reads,
    manifests: &'a Manifests,
    /// Every workflow that may change, as it would be, by namespace and name.
    workflows: BTreeMap<(String, String), AIWorkflow>,
    /// Namespaces of those workflows, and of the input.
    namespaces: BTreeMap<String, Fencing>,
    /// Namespaces in which one of those workflows declares rights, or has declared some until now.
    reached: BTreeSet<String>,
}

/// A workflow with what was seen of it, and what is to be done about it.
struct Planned<'a> {
    workflow: &'a AIWorkflow,
    observed: Observed,
    plan: Plan,
}

impl<'a> Proposal<'a> {
    /// Reads which workflows the input concerns, and their namespaces.
    pub(super) async fn new(client: Client, manifests: &'a Manifests) -> Result<Self> {
        let mut proposal = Self {
            reads: Reads::new(client.clone(), None, MANAGER.to_owned()),
            client,
            manifests,
            workflows: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            reached: BTreeSet::new(),
        };
        proposal.ask_for_rights().await?;
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
        Ok(proposal)
    }

    async fn ask_for_rights(&self) -> Result<()> {
        let of = |namespace: Option<&str>, group, resource, verbs: &[&'static str]| {
            let right = |verb: &&'static str| Right {
                namespace: namespace.map(str::to_owned),
                group,
                resource,
                verb,
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
            for child in Child::ALL {
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
    fn applied(&self, name: &str, live: Option<NamespaceFacts>) -> Result<NamespaceFacts> {
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

    async fn fencing(&self, namespace: &str) -> Result<Fencing> {
        ensure!(is_dns_label(namespace), "{namespace:?} is no name of a namespace");
        let live = self.reads.namespace(namespace).await.map_err(told)?;
        let facts = self.applied(namespace, (!live.uid.is_empty()).then_some(live))?;
        let class = match facts.fencing_class() {
            Some(name) => match self.manifests.classes.get(name) {
                Some(class) => Some(class.clone()),
                None => self.reads.class(name).await.map_err(told)?,
            },
            None => None,
        };
        Ok((facts, class))
    }

    /// Plans everything that the input concerns, beside what is there.
    pub(super) async fn compare(&self) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        if !self.manifests.others.is_empty() {
            let others = self.manifests.others.join(", ");
            comparison.note(format!("left aside, for nothing is made of it: {others}"));
        }
        for class in self.manifests.classes.values() {
            comparison.class(class);
        }
        let mut taken = BTreeSet::new();
        for (namespace, (facts, _)) in &self.namespaces {
            let seen = self
                .reads
                .child(Child::NetworkPolicy, namespace, DEFAULT_DENY_NAME)
                .await
                .map_err(told)?;
            let plan = plan::plan_default_deny(facts, seen.as_ref());
            if plan == DefaultDenyPlan::Taken {
                taken.insert(namespace.clone());
            }
            comparison.default_deny(namespace, &plan, seen);
        }
        let planned = futures::stream::iter(self.workflows.values()).map(|workflow| self.planned(workflow));
        let planned: Vec<Planned<'_>> = planned.buffered(READS).try_collect().await?;
        for Planned {
            workflow,
            observed,
            plan,
        } in &planned
        {
            comparison.workflow(workflow, observed, plan, taken.contains(&observed.namespace.name));
        }
        let planned: BTreeMap<_, _> = planned
            .iter()
            .map(|one| ((namespace_of(one.workflow), one.workflow.name_any()), one))
            .collect();
        for grant in self.grants().await? {
            let mut observed = self.reads.grant(&grant).await.map_err(told)?;
            let live = Some(observed.namespace).filter(|facts| !facts.uid.is_empty());
            observed.namespace = self.applied(&grant.namespace().unwrap_or_default(), live)?;
            for from in &grant.spec.from {
                let Some(one) = planned.get(&(from.namespace.clone(), from.name.clone())) else {
                    continue;
                };
                observed.grantees.insert(from.clone(), one.as_grantee());
            }
            comparison.grant(&grant, &plan::plan_grant(&grant, &observed), &observed.children);
        }
        Ok(comparison)
    }

    async fn planned<'b>(&self, workflow: &'b AIWorkflow) -> Result<Planned<'b>> {
        let Some((facts, class)) = self.namespaces.get(&namespace_of(workflow)).cloned() else {
            bail!("namespace {} was not read", namespace_of(workflow));
        };
        let mut observed = self.reads.around(workflow, facts, class).await.map_err(told)?;
        for key in plan::peers_of(workflow) {
            if let Some(peer) = self.workflows.get(&key) {
                observed.peers.insert(key, peer.clone());
            }
        }
        let reached: BTreeSet<_> = plan::reached_into(workflow).collect();
        for grant in &self.manifests.grants {
            let same = |other: &AIWorkflowGrant| {
                other.namespace() == grant.namespace() && other.name_any() == grant.name_any()
            };
            observed.grants.retain(|other| !same(other));
            if grant
                .namespace()
                .is_some_and(|namespace| reached.contains(namespace.as_str()))
            {
                observed.grants.push(grant.clone());
            }
        }
        // The operator learns that a name is taken when it tries to use it; here it is looked for.
        let mut plan = plan::plan(workflow, &observed);
        for _ in 0..ATTEMPTS {
            if !self.find_taken(workflow, &plan, &mut observed).await? {
                break;
            }
            plan = plan::plan(workflow, &observed);
        }
        Ok(Planned {
            workflow,
            observed,
            plan,
        })
    }

    /// Looks for objects under the names that a plan would make. Whether there is one that was not seen before.
    async fn find_taken(&self, workflow: &AIWorkflow, plan: &Plan, observed: &mut Observed) -> Result<bool> {
        let mut found = false;
        for change in &plan.changes {
            let Change::Create(child, object) = change else {
                continue;
            };
            let name = plan::name_of(object).to_owned();
            let seen = |(kind, seen): &(Child, _)| kind == child && plan::name_of(seen) == name;
            if observed.children.iter().any(seen) {
                continue;
            }
            let live = self
                .reads
                .child(*child, &observed.namespace.name, &name)
                .await
                .map_err(told)?;
            let Some(live) = live else {
                continue;
            };
            found = true;
            if plan::owner_uid(&live) == workflow.uid().as_deref() {
                observed.children.push((*child, live));
            } else {
                observed.taken.insert((*child, name));
            }
        }
        Ok(found)
    }

    /// Grants of the input, and those of the cluster by which a workflow that may change holds or would hold something.
    async fn grants(&self) -> Result<Vec<AIWorkflowGrant>> {
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
            found.extend(concerned.map(|grant| ((namespace.clone(), grant.name_any()), grant)));
        }
        for declared in &self.manifests.grants {
            let (namespace, name) = (declared.namespace().unwrap_or_default(), declared.name_any());
            let api = Api::<AIWorkflowGrant>::namespaced(self.client.clone(), &namespace);
            let live = optional(bounded(&format!("read AIWorkflowGrant {namespace}/{name}"), api.get(&name)).await)?;
            let changed = live.as_ref().is_none_or(|live| live.spec != declared.spec);
            let metadata = self.metadata("AIWorkflowGrant", declared, live.as_ref(), changed);
            let status = live.and_then(|live| live.status);
            let grant = AIWorkflowGrant {
                metadata,
                spec: declared.spec.clone(),
                status,
            };
            found.insert((namespace, name), grant);
        }
        Ok(found.into_values().collect())
    }
}

impl Planned<'_> {
    fn as_grantee(&self) -> GranteeFacts {
        let stands = |(child, seen): &&(Child, serde_json::Value)| {
            *child == Child::ServiceAccount && plan::owner_uid(seen) == self.workflow.uid().as_deref()
        };
        let stands = self.observed.children.iter().find(stands).is_some();
        let changed = self
            .plan
            .changes
            .iter()
            .find(|change| change.child() == Child::ServiceAccount);
        let account_is_ours = match changed {
            Some(Change::Delete { .. }) => false,
            Some(Change::Create(..) | Change::Replace(..)) => true,
            None => stands,
        };
        GranteeFacts {
            workflow: self.workflow.clone(),
            namespace: self.observed.namespace.clone(),
            class: self.observed.class.clone(),
            account_is_ours,
            // Who applies it is asked by the webhook there and then.
            reviewed: true,
        }
    }
}
