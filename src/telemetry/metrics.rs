//! Metrics. Their names are API: alerts and dashboards are written against them.
//!
//! Must never: take a label from a request as it is. Label values are words of ours, or names of policies in force.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::api::{ConditionStatus, ConditionType};
use crate::review::{Gvr, Operation, Outcome};

/// Up to 10 s: the API server waits 5 s for us by default, 30 s at most.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Up to an hour: a scan takes as long as it takes, and rests in between.
const SCAN_BUCKETS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0];

/// Resources that have a label of their own: those that are asked about most. Any object can carry the workflow label.
const RESOURCES: [(&str, &str, &str); 29] = [
    ("", "endpoints", ""),
    ("", "namespaces", ""),
    ("", "pods", ""),
    ("", "pods", "attach"),
    ("", "pods", "ephemeralcontainers"),
    ("", "pods", "exec"),
    ("", "pods", "portforward"),
    ("", "pods", "proxy"),
    ("", "pods", "resize"),
    ("", "podtemplates", ""),
    ("", "replicationcontrollers", ""),
    ("", "secrets", ""),
    ("", "serviceaccounts", ""),
    ("", "serviceaccounts", "token"),
    ("", "services", ""),
    ("", "services", "proxy"),
    ("apps", "daemonsets", ""),
    ("apps", "deployments", ""),
    ("apps", "replicasets", ""),
    ("apps", "statefulsets", ""),
    ("batch", "cronjobs", ""),
    ("batch", "jobs", ""),
    ("discovery.k8s.io", "endpointslices", ""),
    ("networking.k8s.io", "networkpolicies", ""),
    ("rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("rbac.authorization.k8s.io", "rolebindings", ""),
    ("ringfence.dev", "aiworkflowclasses", ""),
    ("ringfence.dev", "aiworkflowgrants", ""),
    ("ringfence.dev", "aiworkflows", ""),
];

/// What Ringfence counts and measures. Cheap to share by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<WebhookLabels, Histogram, fn() -> Histogram>,
    evaluation_seconds: Family<PolicyLabels, Histogram, fn() -> Histogram>,
    decisions: Family<DecisionLabels, Counter>,
    overruns: Family<PolicyLabels, Counter>,
    overrunning: Gauge,
    policies: Family<PolicyInfoLabels, Gauge>,
    told: Mutex<BTreeMap<PolicyOrigin, Vec<PolicyInfoLabels>>>,
    exceptions_used: Family<PolicyLabels, Counter>,
    leader: Gauge,
    gates: Family<GateLabels, Gauge>,
    workflows: Family<WorkflowLabels, Gauge>,
    reconciles: Family<ControllerLabels, Counter>,
    reconcile_errors: Family<ControllerLabels, Counter>,
    reconcile_seconds: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    certificate_expiry: Gauge,
    drift: Family<KindLabels, Counter>,
    break_glass: Counter,
    audits_skipped: Counter,
    scan_findings: Family<RuleLabels, Gauge>,
    scan_seconds: Histogram,
    scan_success: Gauge,
    cache: Family<CacheLabels, Gauge>,
    left_out: Family<CacheLabels, Gauge>,
}

/// What a policy said of one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyAction {
    /// It found nothing.
    Allow,
    /// It found something that is only logged.
    Audit,
    /// It refused.
    Deny,
    /// It could not be evaluated.
    Error,
    /// It warned.
    Warn,
}

/// Whether a policy in force can be evaluated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PolicyState {
    /// It did not compile: it answers by its failure policy.
    Broken,
    /// It compiled.
    Compiled,
}

/// Where policies come from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PolicyOrigin {
    /// The binary, or a folder.
    Files,
    /// RegoPolicy objects.
    Objects,
}

/// The controllers of the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Controller {
    /// Keeps the fence of each `AIWorkflow`.
    AIWorkflow,
    /// Keeps the status of each `AIWorkflowClass`.
    AIWorkflowClass,
    /// Keeps the roles of each `AIWorkflowGrant`.
    AIWorkflowGrant,
    /// Keeps the default-deny of each namespace.
    Namespace,
    /// Keeps the registration and the status of each `RegoPolicy`.
    RegoPolicy,
    /// Keeps the status of each `RegoPolicyException`.
    RegoPolicyException,
    /// Resolves the names of each `ResolvedNames`.
    ResolvedNames,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    webhook: &'static str,
    operation: &'static str,
    resource: &'static str,
    decision: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WebhookLabels {
    webhook: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PolicyLabels {
    policy: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    policy: String,
    action: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PolicyInfoLabels {
    policy: String,
    revision: String,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WorkflowLabels {
    condition: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RuleLabels {
    rule: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct GateLabels {
    gate: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CacheLabels {
    kind: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that start at nothing.
    pub fn new() -> Self {
        let seconds = || Histogram::new(BUCKETS);
        let mut metrics = Self {
            registry: Registry::with_prefix("ringfence"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            evaluation_seconds: Family::new_with_constructor(seconds),
            decisions: Family::default(),
            overruns: Family::default(),
            overrunning: Gauge::default(),
            policies: Family::default(),
            told: Mutex::default(),
            exceptions_used: Family::default(),
            leader: Gauge::default(),
            gates: Family::default(),
            workflows: Family::default(),
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            certificate_expiry: Gauge::default(),
            drift: Family::default(),
            break_glass: Counter::default(),
            audits_skipped: Counter::default(),
            scan_findings: Family::default(),
            scan_seconds: Histogram::new(SCAN_BUCKETS),
            scan_success: Gauge::default(),
            cache: Family::default(),
            left_out: Family::default(),
        };
        metrics.register();
        metrics
    }

    /// One answered review; `operation` is `None` where the review could not be read. Not for dry-run.
    pub fn admitted(
        &self,
        webhook: &'static str,
        operation: Option<Operation>,
        resource: &'static str,
        outcome: Outcome,
        duration: Duration,
    ) {
        let operation = operation.map_or("unknown", Operation::as_str);
        let labels = RequestLabels {
            webhook,
            operation,
            resource,
            decision: outcome.as_str(),
        };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds
            .get_or_create(&WebhookLabels { webhook })
            .observe(duration.as_secs_f64());
    }

    /// One policy evaluated for one review. Not for dry-run.
    pub fn evaluated(&self, policy: &str, action: PolicyAction, duration: Duration) {
        let policy = policy.to_owned();
        self.evaluation_seconds
            .get_or_create(&PolicyLabels { policy: policy.clone() })
            .observe(duration.as_secs_f64());
        self.decisions
            .get_or_create(&DecisionLabels {
                policy,
                action: action.as_str(),
            })
            .inc();
    }

    /// One evaluation did not end in its time, and goes on all the same. Of dry runs too: it is about threads.
    pub fn overrun(&self, policy: &str) {
        let policy = policy.to_owned();
        self.overruns.get_or_create(&PolicyLabels { policy }).inc();
        self.overrunning.inc();
    }

    /// One of those evaluations has ended.
    pub fn overrun_ended(&self) {
        self.overrunning.dec();
    }

    /// One refusal of a policy that an exception excused, of a request that passed. Not for dry-run.
    pub fn exception_used(&self, policy: &str) {
        let policy = policy.to_owned();
        self.exceptions_used.get_or_create(&PolicyLabels { policy }).inc();
    }

    /// The policies in force of one origin, all of them: those that are not named any more go.
    pub fn set_policies<'a>(
        &self,
        origin: PolicyOrigin,
        policies: impl IntoIterator<Item = (&'a str, &'a str, PolicyState)>,
    ) {
        let labels = |(policy, revision, state): (&str, &str, PolicyState)| PolicyInfoLabels {
            policy: policy.into(),
            revision: revision.into(),
            state: state.as_str(),
        };
        let now: Vec<_> = policies.into_iter().map(labels).collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.insert(origin, now.clone()).unwrap_or_default();
        for labels in before.iter().filter(|labels| !now.contains(labels)) {
            self.policies.remove(labels);
            if !now.iter().any(|other| other.policy == labels.policy) {
                self.forget(&labels.policy);
            }
        }
        for labels in &now {
            self.policies.get_or_create(labels).set(1);
        }
    }

    /// Names of policies that are gone would else add up for as long as this process lives.
    fn forget(&self, policy: &str) {
        let labels = PolicyLabels { policy: policy.into() };
        self.evaluation_seconds.remove(&labels);
        self.overruns.remove(&labels);
        self.exceptions_used.remove(&labels);
        for action in PolicyAction::ALL {
            self.decisions.remove(&DecisionLabels {
                policy: policy.into(),
                action: action.as_str(),
            });
        }
    }

    /// One request was not audited, because as many audits are behind as may be.
    pub fn audit_skipped(&self) {
        self.audits_skipped.inc();
    }

    /// Whether this replica is the one that makes the fences.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// Whether something is there that this replica waits for before it takes requests.
    pub fn set_gate(&self, gate: &'static str, is_open: bool) {
        self.gates.get_or_create(&GateLabels { gate }).set(is_open.into());
    }

    /// What the replica that makes the fences counts of all that there is, and no other may go on claiming.
    pub fn forget_term(&self) {
        self.workflows.clear();
        self.scan_findings.clear();
        self.scan_success.set(0);
    }

    /// How many workflows have the condition at this status now.
    pub fn set_workflows(&self, condition: ConditionType, status: ConditionStatus, count: usize) {
        let status = match status {
            ConditionStatus::False => "False",
            ConditionStatus::True => "True",
            ConditionStatus::Unknown => "Unknown",
        };
        let labels = WorkflowLabels {
            condition: condition.as_str(),
            status,
        };
        self.workflows
            .get_or_create(&labels)
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// One object reconciled.
    pub fn reconciled(&self, controller: Controller, ok: bool, duration: Duration) {
        let labels = ControllerLabels {
            controller: controller.as_str(),
        };
        self.reconciles.get_or_create(&labels).inc();
        if !ok {
            self.reconcile_errors.get_or_create(&labels).inc();
        }
        self.reconcile_seconds
            .get_or_create(&labels)
            .observe(duration.as_secs_f64());
    }

    /// When the served certificate ends, in seconds since 1970.
    pub fn set_certificate_expiry(&self, timestamp: i64) {
        self.certificate_expiry.set(timestamp);
    }

    /// One owned object of this kind was put back as it should be.
    pub fn drift_reverted(&self, kind: &'static str) {
        self.drift.get_or_create(&KindLabels { kind }).inc();
    }

    /// A namespace was seen to have lost its `enforce` label.
    pub fn break_glass(&self) {
        self.break_glass.inc();
    }

    /// A scan has ended: how often each rule or policy found something. `whole` tells whether all could be looked at.
    pub fn scanned(&self, rules: &BTreeMap<String, usize>, duration: Duration, whole: bool) {
        self.scan_findings.clear();
        for (rule, count) in rules {
            let labels = RuleLabels { rule: rule.clone() };
            self.scan_findings
                .get_or_create(&labels)
                .set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.scan_seconds.observe(duration.as_secs_f64());
        if whole {
            self.scan_success.set(Timestamp::now().as_second());
        }
    }

    /// How many bytes the objects take that policies look at beside the request: of a kind that a policy in force asks for.
    pub fn set_cache(&self, kind: &str, bytes: usize) {
        let labels = CacheLabels { kind: kind.into() };
        self.cache
            .get_or_create(&labels)
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// In how many namespaces the objects of a kind weigh more than policies are shown of one.
    pub fn set_left_out(&self, kind: &str, namespaces: usize) {
        let labels = CacheLabels { kind: kind.into() };
        self.left_out
            .get_or_create(&labels)
            .set(i64::try_from(namespaces).unwrap_or(i64::MAX));
    }

    /// No policy asks for that kind any more.
    pub fn forget_cache(&self, kind: &str) {
        self.cache.remove(&CacheLabels { kind: kind.into() });
        self.left_out.remove(&CacheLabels { kind: kind.into() });
    }

    /// All of it as OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("admission_requests", "Reviews answered", self.requests.clone());
        registry.register(
            "admission_duration_seconds",
            "Time to answer a review",
            self.request_seconds.clone(),
        );
        registry.register(
            "policy_evaluation_duration_seconds",
            "Time to evaluate one policy for one review",
            self.evaluation_seconds.clone(),
        );
        registry.register(
            "policy_decisions",
            "What policies said of reviews",
            self.decisions.clone(),
        );
        registry.register(
            "policy_overruns",
            "Evaluations that did not end in their time, nor when they were told to",
            self.overruns.clone(),
        );
        registry.register(
            "policy_overruns_running",
            "Threads that such evaluations hold now",
            self.overrunning.clone(),
        );
        registry.register(
            "exceptions_used",
            "Refusals of policies that exceptions excused",
            self.exceptions_used.clone(),
        );
        registry.register("policy_info", "Policies in force, always 1", self.policies.clone());
        registry.register("leader", "1 at the replica that makes the fences", self.leader.clone());
        registry.register(
            "gate_open",
            "1 where what a replica waits for before it takes requests is there",
            self.gates.clone(),
        );
        registry.register("workflows", "AIWorkflows by condition", self.workflows.clone());
        registry.register("reconcile", "Objects reconciled", self.reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Objects that could not be reconciled",
            self.reconcile_errors.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Time to reconcile an object",
            self.reconcile_seconds.clone(),
        );
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate ends",
            self.certificate_expiry.clone(),
        );
        registry.register(
            "drift_reverted",
            "Owned objects put back as they should be",
            self.drift.clone(),
        );
        registry.register(
            "break_glass",
            "Namespaces seen to have lost their enforce label",
            self.break_glass.clone(),
        );
        registry.register(
            "audits_skipped",
            "Requests that policies with the action Audit were not asked about, because as many as may be were behind",
            self.audits_skipped.clone(),
        );
        registry.register(
            "scan_findings",
            "What stands and does not fit, by the last scan",
            self.scan_findings.clone(),
        );
        registry.register("scan_duration_seconds", "Time to scan", self.scan_seconds.clone());
        registry.register(
            "scan_last_success_timestamp_seconds",
            "When a scan last ended that could look at everything",
            self.scan_success.clone(),
        );
        registry.register(
            "cache_bytes",
            "Bytes of the objects that policies look at beside the request",
            self.cache.clone(),
        );
        registry.register(
            "cache_namespaces_left_out",
            "Namespaces whose objects weigh too much for policies to look at",
            self.left_out.clone(),
        );
    }
}

impl PolicyAction {
    const ALL: [Self; 5] = [Self::Allow, Self::Audit, Self::Deny, Self::Error, Self::Warn];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::Warn => "warn",
        }
    }
}

impl PolicyState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Compiled => "compiled",
        }
    }
}

impl Controller {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AIWorkflow => "aiworkflow",
            Self::AIWorkflowClass => "aiworkflowclass",
            Self::AIWorkflowGrant => "aiworkflowgrant",
            Self::Namespace => "namespace",
            Self::RegoPolicy => "regopolicy",
            Self::RegoPolicyException => "regopolicyexception",
            Self::ResolvedNames => "resolvednames",
        }
    }
}

/// The `resource` label of a request: one of a fixed list, else `other`, so that no caller can make new series.
pub fn resource_label(resource: &Gvr, subresource: &str) -> &'static str {
    let known = RESOURCES.iter().find(|(group, name, sub)| {
        (*group, *name, *sub) == (resource.group.as_str(), resource.resource.as_str(), subresource)
    });
    match known {
        Some((_, _, "attach")) => "pods/attach",
        Some((_, _, "exec")) => "pods/exec",
        Some((_, _, "portforward")) => "pods/portforward",
        Some((_, "services", "proxy")) => "services/proxy",
        Some((_, _, "proxy")) => "pods/proxy",
        Some((_, _, "ephemeralcontainers")) => "pods/ephemeralcontainers",
        Some((_, _, "resize")) => "pods/resize",
        Some((_, _, "token")) => "serviceaccounts/token",
        Some((_, name, _)) => name,
        None => "other",
    }
}

#[cfg(test)]
mod tests;
