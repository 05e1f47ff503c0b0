//! What was known at a moment: who calls, what they may reach, and whether what they reached before may go on.
//!
//! Must never: let a connection go on that would not be let through now.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::allowed::{Allowed, Permit, Refusal, Unreadable, Verdict};
use super::answers::leads_into;
use super::index::Workflow;
use super::target::Target;

#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// And the UIDs of its pods that have the address.
    Of(Arc<Workflow>, Vec<Arc<str>>),
    Ambiguous,
}

#[derive(Clone, Debug)]
pub(super) enum InForce {
    One(Result<Arc<Allowed>, Unreadable>),
    Several,
}

/// What was known at a moment. Whoever decides keeps it to the end.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) callers: HashMap<IpAddr, Caller>,
    pub(super) in_force: HashMap<Workflow, InForce>,
    pub(super) fenced: BTreeSet<String>,
    pub(super) cluster: Arc<[IpNet]>,
    pub(super) is_whole: bool,
}

/// Why nobody is known by an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoCaller {
    /// No pod of a workflow has it.
    #[error(
        "no running pod with the label ringfence.dev/workflow has the address that this connection comes from: only such pods are let \
         through, and those on the host's network are not"
    )]
    Unknown,
    /// Pods of two workflows have it.
    #[error(
        "pods of two workflows have the address that this connection comes from: wait until the one that ends is gone, or delete it (kubectl delete pod --force where its kubelet never says that it has ended)"
    )]
    Ambiguous,
}

/// Why a workflow may not reach what it asks for, as the end of a sentence that begins with it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// Its namespace carries neither enforce nor warn.
    #[error("its namespace is not fenced: the label ringfence.dev/enforce or ringfence.dev/warn is missing there")]
    NotFenced,
    /// It declares no domains, or none that are in force.
    #[error(
        "it has no domains in force: declare them in spec.network.egress of the AIWorkflow, and see its condition Accepted"
    )]
    NoDomains,
    /// Two policies lead here.
    #[error("two policies say what it may reach: only one of them can be Ringfence's")]
    TwoPolicies,
    /// What its policy says cannot be read.
    #[error("what it may reach cannot be read, because {0}: proxy and operator must be of one version")]
    Unreadable(Unreadable),
    /// It is not declared.
    #[error("{0}. Declare it in spec.network.egress of the AIWorkflow")]
    NotDeclared(#[from] Refusal),
}

impl Snapshot {
    /// Whether everything that there was has been told of once.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The cluster's own ranges, as classes know them.
    pub fn cluster(&self) -> &[IpNet] {
        &self.cluster
    }

    /// Whose pod has the address.
    pub fn caller(&self, address: IpAddr) -> Result<&Arc<Workflow>, NoCaller> {
        match self.callers.get(&address.to_canonical()) {
            Some(Caller::Of(workflow, _)) => Ok(workflow),
            Some(Caller::Ambiguous) => Err(NoCaller::Ambiguous),
            None => Err(NoCaller::Unknown),
        }
    }

    /// UIDs of the pods that have the address, where they are of one workflow.
    pub fn pods_at(&self, address: IpAddr) -> &[Arc<str>] {
        match self.callers.get(&address.to_canonical()) {
            Some(Caller::Of(_, pods)) => pods,
            Some(Caller::Ambiguous) | None => &[],
        }
    }

    /// Whether a workflow may reach what it asks for, and by what.
    pub fn decide(&self, workflow: &Workflow, target: &Target) -> Result<Permit<'_>, Denied> {
        let allowed = self.in_force(workflow)?;
        match allowed.decide(&target.host, target.port) {
            Verdict::Allowed(permit) => Ok(permit),
            Verdict::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Whether a connection that was let through may go on.
    pub fn may_go_on(&self, passed: &Passed) -> Result<(), Withdrawn> {
        self.is_still_called_by(passed)?;
        self.leads_still_outside(passed)?;
        let allowed = self.in_force(&passed.workflow).map_err(Withdrawn::from)?;
        let may = allowed.allows(&passed.target.host, passed.target.port);
        may.then_some(()).ok_or(Withdrawn::NotDeclared)
    }

    fn is_still_called_by(&self, passed: &Passed) -> Result<(), Withdrawn> {
        match self.caller(passed.address) {
            Ok(workflow) if *workflow == passed.workflow => Ok(()),
            Ok(_) | Err(NoCaller::Ambiguous) => Err(Withdrawn::OtherPod),
            Err(NoCaller::Unknown) => Err(Withdrawn::NoPod),
        }
    }

    /// A name may have led into the cluster before any class knew that the range is the cluster's.
    fn leads_still_outside(&self, passed: &Passed) -> Result<(), Withdrawn> {
        let is_inside = leads_into(passed.host, &self.cluster);
        (!is_inside).then_some(()).ok_or(Withdrawn::OfTheCluster)
    }

    fn in_force(&self, workflow: &Workflow) -> Result<&Arc<Allowed>, Denied> {
        if !self.fenced.contains(&workflow.namespace) {
            return Err(Denied::NotFenced);
        }
        match self.in_force.get(workflow) {
            None => Err(Denied::NoDomains),
            Some(InForce::Several) => Err(Denied::TwoPolicies),
            Some(InForce::One(Err(unreadable))) => Err(Denied::Unreadable(unreadable.clone())),
            Some(InForce::One(Ok(allowed))) if allowed.is_empty() => Err(Denied::NoDomains),
            Some(InForce::One(Ok(allowed))) => Ok(allowed),
        }
    }
}

/// What a connection that was let through is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Passed {
    /// Where it comes from.
    pub address: IpAddr,
    /// Whose pod had that address.
    pub workflow: Arc<Workflow>,
    /// Where it leads.
    pub target: Target,
    /// The address that this name had then.
    pub host: IpAddr,
}

/// Why a connection that was let through may not go on. Says no more than that: of many at a time, nothing is told at length.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Withdrawn {
    /// Nobody has the address that it comes from.
    #[error("withdrawn: no running pod of the workflow has its address any more")]
    NoPod,
    /// Somebody else has it, or has it too.
    #[error("withdrawn: a pod of another workflow has its address")]
    OtherPod,
    /// The namespace has lost its labels.
    #[error("withdrawn: its namespace is not fenced any more")]
    NotFenced,
    /// What is in force does not allow it.
    #[error("withdrawn: its workflow may not reach it any more")]
    NotDeclared,
    /// Its address is in a range that a class has told of since.
    #[error("withdrawn: its address is of the cluster's own pods, Services or nodes")]
    OfTheCluster,
}

impl From<Denied> for Withdrawn {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotFenced => Self::NotFenced,
            Denied::NoDomains | Denied::TwoPolicies | Denied::Unreadable(_) | Denied::NotDeclared(_) => {
                Self::NotDeclared
            }
        }
    }
}

/// Looks at connections that go on, one round after another. What a workflow may reach is matched against its connections again where that
/// has changed since the last round, and nowhere else: there may be thousands of either.
#[derive(Debug, Default)]
pub struct Rounds {
    before: HashMap<Arc<Workflow>, Arc<Allowed>>,
    now: HashMap<Arc<Workflow>, Arc<Allowed>>,
}

impl Rounds {
    /// Begins a round.
    pub fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// The same as [`Snapshot::may_go_on`]. `is_doubted`: the last round found that it may not.
    pub fn look(&mut self, snapshot: &Snapshot, passed: &Passed, is_doubted: bool) -> Result<(), Withdrawn> {
        snapshot.is_still_called_by(passed)?;
        snapshot.leads_still_outside(passed)?;
        let allowed = snapshot.in_force(&passed.workflow).map_err(Withdrawn::from)?;
        if !self.now.contains_key(&passed.workflow) {
            self.now.insert(Arc::clone(&passed.workflow), Arc::clone(allowed));
        }
        // Both are held, so one place in memory is one value. Whoever came in between was allowed by it.
        let is_as_before = self
            .before
            .get(&passed.workflow)
            .is_some_and(|before| Arc::ptr_eq(before, allowed));
        let may = (is_as_before && !is_doubted) || allowed.allows(&passed.target.host, passed.target.port);
        may.then_some(()).ok_or(Withdrawn::NotDeclared)
    }
}
