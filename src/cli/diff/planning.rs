//! Plans of everything that an input concerns: the reconciler's own, with what the input says over what is there.
//!
//! Must never: plan with less than the reconciler would know and say nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::{Api, ResourceExt, api::ListParams};
use tokio::sync::OnceCell;

use super::{
    super::{
        cluster::{listed, told},
        render::{facts_of, namespace_of},
    },
    compare::Comparison,
    declared,
    proposal::Proposal,
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, Backend, ConditionType, DEFAULT_DENY_NAME, Reason, find},
    plan::{self, Change, Child, DefaultDenyPlan, GranteeFacts, Observed, Plan, PluginPolicies},
    reconcile::CallError,
};

/// Workflows that are read at the same time.
const READS: usize = 8;
/// Most classes, and most workflows of the cluster, that are looked through for launchers.
const MAX_KNOWN: usize = 10_000;

/// A workflow with what was seen of it, and what is to be done about it.
struct Planned<'a> {
    workflow: &'a AIWorkflow,
    observed: Observed,
    plan: Plan,
    note: Option<String>,
}

/// Every class and workflow of the cluster, read when the first account is to be made: somebody may name it already.
#[derive(Default)]
struct Known(OnceCell<Option<(Vec<AIWorkflowClass>, Vec<AIWorkflow>)>>);

impl Known {
    async fn claims(
        &self,
        proposal: &Proposal<'_>,
        workflow: &AIWorkflow,
        class: &AIWorkflowClass,
    ) -> Result<Vec<String>> {
        let Some((classes, workflows)) = self.0.get_or_try_init(|| read_known(proposal)).await? else {
            return Ok(Vec::new());
        };
        let declared = &proposal.manifests.classes;
        let classes = classes.iter().filter(|class| !declared.contains_key(&class.name_any()));
        let key = |workflow: &AIWorkflow| (namespace_of(workflow), workflow.name_any());
        let workflows = workflows
            .iter()
            .filter(|workflow| !proposal.workflows.contains_key(&key(workflow)));
        Ok(plan::claims(
            workflow,
            class,
            classes.chain(declared.values()),
            workflows.chain(proposal.workflows.values()),
        ))
    }

    fn note(&self) -> Option<String> {
        let is_unread = matches!(self.0.get(), Some(None));
        is_unread.then(|| {
            "You may not list aiworkflowclasses and aiworkflows in the cluster: an account that somebody there names as launcher would not be made, and is shown here all the same".to_owned()
        })
    }
}

async fn read_known(proposal: &Proposal<'_>) -> Result<Option<(Vec<AIWorkflowClass>, Vec<AIWorkflow>)>> {
    let (classes, workflows) = (Api::all(proposal.client.clone()), Api::all(proposal.client.clone()));
    let params = ListParams::default();
    let read = tokio::try_join!(
        listed("list aiworkflowclasses in the cluster", &classes, &params, MAX_KNOWN),
        listed("list aiworkflows in the cluster", &workflows, &params, MAX_KNOWN),
    );
    let is_forbidden = |error: &CallError| error.status().is_some_and(kube::core::Status::is_forbidden);
    match read {
        Ok(((classes, all_classes), (workflows, all_workflows))) => {
            ensure!(
                all_classes && all_workflows,
                "there are more than {MAX_KNOWN} classes or workflows in the cluster"
            );
            Ok(Some((classes, workflows)))
        }
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(told(error)),
    }
}

impl Proposal<'_> {
    /// Plans everything that the input concerns, beside what is there.
    pub(super) async fn compare(&self) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        if !self.manifests.others.is_empty() {
            let others = self.manifests.others.join(", ");
            comparison.note(format!("left aside, for nothing is made of it: {others}"));
        }
        for (name, class) in &self.manifests.classes {
            let before = self.classes.get(name).and_then(Option::as_ref);
            comparison.class(class, before.map(|before| &before.spec))?;
        }
        let mut taken = BTreeSet::new();
        for (namespace, (facts, _)) in &self.namespaces {
            if let Some(before) = self.replaced.labels.get(namespace) {
                comparison.namespace(namespace, before.as_ref(), &facts.labels);
                let declared = facts_of(namespace, self.manifests);
                if let Some((before, declared)) = before.as_ref().zip(declared) {
                    declared::kept(namespace, before, &declared.labels)
                        .into_iter()
                        .for_each(|note| comparison.note(note));
                }
            }
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
        let known = Known::default();
        let planned = futures::stream::iter(self.workflows.values()).map(|workflow| self.planned(workflow, &known));
        let planned: Vec<Planned<'_>> = planned.buffered(READS).try_collect().await?;
        let unread = planned.iter().filter_map(|planned| planned.note.clone());
        let is_supposed = |one: &Planned<'_>| {
            plan::names_domains(one.workflow)
                && one.plan.backend == Some(Backend::Proxy)
                && one.observed.egress_proxy.is_some()
                && plan::egress_proxy_of(&one.observed.children).is_none()
        };
        if planned.iter().any(is_supposed) {
            comparison.note(format!(
                "only the operator knows whether the egress proxy is installed: it is taken to be there, in namespace {}",
                self.release
            ));
        }
        for note in known.note().into_iter().chain(unread.take(1)) {
            comparison.note(note);
        }
        for Planned {
            workflow,
            observed,
            plan,
            ..
        } in &planned
        {
            let replaced = self
                .replaced
                .workflows
                .get(&(namespace_of(workflow), workflow.name_any()));
            let before = replaced.map_or(Some(&workflow.spec), Option::as_ref);
            let deny_taken = taken.contains(&observed.namespace.name);
            comparison.workflow(workflow, before, (observed, plan), deny_taken)?;
        }
        let planned: BTreeMap<_, _> = planned
            .iter()
            .map(|one| ((namespace_of(one.workflow), one.workflow.name_any()), one))
            .collect();
        for (grant, before) in self.grants().await? {
            let mut observed = self.reads.grant(&grant).await.map_err(told)?;
            let live = Some(observed.namespace).filter(|facts| !facts.uid.is_empty());
            observed.namespace = self.applied(&grant.namespace().unwrap_or_default(), live)?;
            for from in &grant.spec.from {
                let Some(one) = planned.get(&(from.namespace.clone(), from.name.clone())) else {
                    continue;
                };
                observed.grantees.insert(from.clone(), one.as_grantee());
            }
            let plan = self.reads.plan_grant(&grant, &mut observed).await.map_err(told)?;
            comparison.grant(&grant, before.as_ref(), &plan, &observed.children)?;
        }
        Ok(comparison)
    }

    async fn planned<'b>(&self, workflow: &'b AIWorkflow, known: &Known) -> Result<Planned<'b>> {
        let Some((facts, class)) = self.namespaces.get(&namespace_of(workflow)).cloned() else {
            bail!("namespace {} was not read", namespace_of(workflow));
        };
        let mut observed = self.reads.around(workflow, facts, class).await.map_err(told)?;
        suppose_plugins(workflow, &mut observed);
        let proxy = self.egress_proxy(workflow, &observed);
        observed.egress_proxy = proxy;
        // What is on record, or was never stored, needs no registration, and not everybody may read it.
        if workflow.metadata.generation.is_some() && !plan::is_on_record(workflow) {
            observed.registration = self.reads.registration().await.map_err(told)?;
        }
        for key in plan::peers_of(workflow) {
            if let Some(peer) = self.workflows.get(&key) {
                observed.peers.insert(key, peer.clone());
            }
        }
        if let Some(class) = observed
            .class
            .as_ref()
            .filter(|_| !plan::has_account(workflow, &observed))
        {
            observed.claims = known.claims(self, workflow, class).await?;
        }
        let note = self.find_bound(workflow, &mut observed).await?;
        // An account is never shared: who comes first has it, and is asked for in one order here.
        let account = workflow.service_account_name();
        let is_us = |other: &AIWorkflow| other.name_any() == workflow.name_any();
        let same_place = |other: &&AIWorkflow| other.namespace() == workflow.namespace();
        let mut neighbours = self
            .workflows
            .values()
            .filter(same_place)
            .take_while(|other| !is_us(other));
        if neighbours.any(|other| other.service_account_name() == account) && !plan::has_account(workflow, &observed) {
            observed.taken.insert((Child::ServiceAccount, account.to_owned()));
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
        let plan = self.reads.plan(workflow, &mut observed).await.map_err(told)?;
        Ok(Planned {
            workflow,
            observed,
            plan,
            note,
        })
    }

    /// Namespace of the egress proxy: as the policy that stands has it, or what the operator said last; else what is taken for it.
    fn egress_proxy(&self, workflow: &AIWorkflow, observed: &Observed) -> Option<String> {
        let conditions = workflow.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let said = find(conditions, ConditionType::Programmed);
        match plan::egress_proxy_of(&observed.children) {
            Some(namespace) => Some(namespace.to_owned()),
            None if said.is_some_and(|said| said.reason == Reason::NoEgressProxy.as_str()) => None,
            // By Auto too it comes after the proxy.
            None if was_by_cilium(workflow) => None,
            None => Some(self.release.to_owned()),
        }
    }

    /// Looks for bindings that give rights to an account which is not there yet. What may not be read is noted.
    async fn find_bound(&self, workflow: &AIWorkflow, observed: &mut Observed) -> Result<Option<String>> {
        let is_fenced = observed.class.is_some() && observed.namespace.fencing_class().is_some();
        if !is_fenced || observed.account.is_some() || plan::has_account(workflow, observed) {
            return Ok(None);
        }
        match self.reads.bound(workflow).await {
            Ok(bound) => observed.bound = bound,
            Err(CallError::Unread(why)) => {
                return Ok(Some(format!(
                    "{why}. An account that a binding there names would not be made, and is shown here all the same"
                )));
            }
            Err(error) => return Err(told(error)),
        }
        Ok(None)
    }
}

/// Where the class or the operator's last word has pods reach domains by a policy of the network plugin's, it is taken to be there, and
/// Ringfence's to use: only the operator knows.
fn suppose_plugins(workflow: &AIWorkflow, observed: &mut Observed) {
    let wants = |wanted: fn(&AIWorkflowClass) -> bool| observed.class.as_ref().is_some_and(wanted);
    let by_cilium = was_by_cilium(workflow) || wants(plan::wants_cilium);
    let by_cluster_policy =
        workflow.egress_backend() == Some(Backend::ClusterNetworkPolicy) || wants(plan::wants_cluster_policy);
    if by_cilium {
        observed.cilium = PluginPolicies::Writable;
    }
    if by_cluster_policy {
        observed.cluster_policies = PluginPolicies::Writable;
    }
}

fn was_by_cilium(workflow: &AIWorkflow) -> bool {
    workflow.egress_backend() == Some(Backend::Cilium)
}

impl Planned<'_> {
    fn as_grantee(&self) -> GranteeFacts {
        let stands = |(child, seen): &(Child, serde_json::Value)| {
            *child == Child::ServiceAccount && plan::owner_uid(seen) == self.workflow.uid().as_deref()
        };
        let stands = self.observed.children.iter().any(stands);
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
            reviewed: plan::is_reviewed(self.workflow, self.observed.registration.as_ref()),
        }
    }
}
