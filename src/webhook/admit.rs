//! Decides reviews: asks for the facts, lets fence and policies judge, and sorts what they say by mode.
//!
//! Must never: decide with a fact missing, or spend time that the request does not have. Judging does not yield: whoever calls
//! `admit` does so on a thread that may block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, try_join_all};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::lookup::{Key, Lookup, LookupError};
use super::{Admit, Webhook};
use crate::api::{Mode, is_dns_subdomain, is_exempt};
use crate::fence::debug::Session;
use crate::fence::modes::{self, Setting};
use crate::fence::{Case, Facts, Owner, OwnerRef, Subject};
use crate::policy::{EvalError, Exceptions, Findings, PolicyInput, PolicySet, Target, Verdict, names_objects};
use crate::review::{Decision, Excuse, Fault, FaultCause, Operation, Review, Violation};
use crate::telemetry::{Metrics, PolicyAction};

/// Labels of a Namespace that name classes.
const MODE_LABELS: [&str; 3] = [
    crate::api::ENFORCE_LABEL,
    crate::api::WARN_LABEL,
    crate::api::AUDIT_LABEL,
];

/// Policies that judge. A seam: tests let them fail in ways that Rego cannot be made to.
pub trait Policies: Send + Sync + 'static {
    /// One verdict for each policy that matches.
    fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict>;
    /// Which policies these are.
    fn revision(&self) -> &str;
}

impl Policies for PolicySet {
    fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict> {
        Self::evaluate(self, input, budget)
    }

    fn revision(&self) -> &str {
        Self::revision(self)
    }
}

/// The real [`Admit`].
pub struct Admission {
    lookup: Arc<dyn Lookup>,
    judge: Judge,
}

/// What judges once the facts are there.
struct Judge {
    policies: Arc<dyn Policies>,
    release_namespace: Arc<str>,
    metrics: Arc<Metrics>,
}

/// What a class makes of a request: refusals and warnings.
#[derive(Clone, Default)]
struct Said {
    deny: Vec<Violation>,
    warn: Vec<Violation>,
    excused: Vec<Excuse>,
}

impl Admission {
    /// Decides by those facts and policies. The release namespace is exempt, like those of the system.
    pub fn new(
        lookup: Arc<dyn Lookup>,
        policies: Arc<dyn Policies>,
        release_namespace: &str,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            lookup,
            judge: Judge {
                policies,
                release_namespace: release_namespace.into(),
                metrics,
            },
        }
    }

    async fn decide(&self, webhook: Webhook, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        match webhook {
            Webhook::Modes => self.decide_modes(review, deadline).await,
            Webhook::Fence if review.operation == Operation::Connect => self.decide_session(review, deadline).await,
            Webhook::Fence | Webhook::Label => self.decide_object(review, deadline).await,
        }
    }

    async fn decide_object(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let Some(subject) = Subject::of(review).map_err(unusable)? else {
            return Ok(Decision::default());
        };
        let facts = within(deadline, self.gather(&subject)).await?;
        self.judge.object(review, &facts, deadline)
    }

    async fn decide_session(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let session = Session::of(review).map_err(unusable)?;
        let facts = within(deadline, self.gather_session(&session)).await?;
        Ok(self.judge.session(&session, &facts))
    }

    async fn decide_modes(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let settings = modes::settings(review);
        if settings.is_empty() {
            return Ok(Decision::default());
        }
        let wanted = settings
            .iter()
            .filter_map(Setting::wanted_class)
            .map(str::to_owned)
            .collect();
        let classes = within(deadline, self.classes(wanted)).await?;
        let facts = Facts {
            classes,
            ..Facts::default()
        };
        self.judge.modes(review, &facts, deadline)
    }

    async fn gather(&self, subject: &Subject<'_>) -> Result<Facts, LookupError> {
        let needs = subject.needs();
        let with_exceptions = async {
            let (namespace, classes) = self.namespace_with_classes(needs.namespace.clone()).await?;
            let opens = |namespace: &String| {
                classes
                    .values()
                    .flatten()
                    .any(|class| opens_exceptions(class, namespace))
            };
            let judged = needs.namespace.clone().filter(|_| subject.template().is_some());
            let exceptions = self.ask(judged.filter(opens).map(Key::Exceptions)).await?;
            Ok((namespace, classes, exceptions))
        };
        let (with_exceptions, workflow, default_deny, account, launcher, owners) = tokio::try_join!(
            with_exceptions,
            self.ask(needs.workflow.map(Key::Workflow)),
            self.ask(needs.default_deny.map(Key::DefaultDeny)),
            self.ask(needs.account.map(Key::Account)),
            self.ask(needs.launcher.map(Key::Account)),
            self.owners(needs.namespace.clone(), needs.owner),
        )?;
        let (namespace, classes, exceptions) = with_exceptions;
        let owners = match &exceptions {
            // Who controls what people change: to be excused by an owner's name, and for nothing else. So one that cannot be
            // read, of an operator's own kind, stands in nobody's way.
            Some(list) if owners.is_empty() && names_objects(list) => {
                self.climb(needs.namespace, subject.controller()).await.0
            }
            _ => owners,
        };
        Ok(Facts {
            namespace,
            workflow,
            default_deny,
            account,
            launcher,
            owners,
            classes,
            pod: None,
            exceptions,
            now: Some(Timestamp::now()),
        })
    }

    async fn gather_session(&self, session: &Session) -> Result<Facts, LookupError> {
        let pod = async {
            let pod = self.ask(Some(Key::Pod(session.pod.clone()))).await?;
            let facts = Facts {
                pod,
                ..Facts::default()
            };
            let workflow = self.ask(session.workflow(&facts).map(Key::Workflow)).await?;
            Ok(Facts { workflow, ..facts })
        };
        let (facts, (namespace, classes)) =
            tokio::try_join!(pod, self.namespace_with_classes(Some(session.pod.namespace.clone())))?;
        Ok(Facts {
            namespace,
            classes,
            now: Some(Timestamp::now()),
            ..facts
        })
    }

    async fn ask(&self, key: Option<Key>) -> Result<Option<Value>, LookupError> {
        match key {
            None => Ok(None),
            Some(key) => self.lookup.get(&key).await,
        }
    }

    async fn namespace_with_classes(
        &self,
        name: Option<String>,
    ) -> Result<(Option<Value>, BTreeMap<String, Option<Value>>), LookupError> {
        let namespace = self.ask(name.map(Key::Namespace)).await?;
        let labels = namespace
            .as_ref()
            .and_then(|namespace| namespace.pointer("/metadata/labels"));
        let named = MODE_LABELS.iter().filter_map(|label| labels?.get(label)?.as_str());
        let wanted = named
            .filter(|class| is_dns_subdomain(class))
            .map(str::to_owned)
            .collect();
        let classes = self.classes(wanted).await?;
        Ok((namespace, classes))
    }

    async fn classes(&self, mut names: Vec<String>) -> Result<BTreeMap<String, Option<Value>>, LookupError> {
        names.sort();
        names.dedup();
        let asked = names.into_iter().map(|name| async {
            let class = self.lookup.get(&Key::Class(name.clone())).await?;
            Ok((name, class))
        });
        Ok(try_join_all(asked).await?.into_iter().collect())
    }

    async fn owners(&self, namespace: Option<String>, first: Option<OwnerRef>) -> Result<Vec<Owner>, LookupError> {
        let (owners, end) = self.climb(namespace, first).await;
        end.map(|()| owners)
    }

    /// The owners as far as they could be asked for, one after the other: each link names the next.
    async fn climb(&self, namespace: Option<String>, first: Option<OwnerRef>) -> (Vec<Owner>, Result<(), LookupError>) {
        let mut facts = Facts::default();
        let (Some(namespace), mut next) = (namespace, first) else {
            return (facts.owners, Ok(()));
        };
        while let Some(reference) = next {
            let key = Key::Owner(namespace.clone(), reference);
            let found = match self.lookup.get(&key).await {
                Ok(found) => found,
                Err(error) => return (facts.owners, Err(error)),
            };
            let Key::Owner(_, reference) = key else { break };
            facts.owners.push(Owner { reference, found });
            next = facts.next_owner();
        }
        (facts.owners, Ok(()))
    }
}

impl Admit for Admission {
    fn admit<'a>(&'a self, webhook: Webhook, review: &'a Review, deadline: Instant) -> BoxFuture<'a, Decision> {
        self.decide(webhook, review, deadline)
            .map(|decision| decision.unwrap_or_else(Decision::from_fault))
            .boxed()
    }

    fn revision(&self) -> String {
        self.judge.policies.revision().to_owned()
    }
}

/// Whether a class may let exceptions of a namespace count: whether to ask for them at all.
fn opens_exceptions(class: &Value, namespace: &str) -> bool {
    let open = class.pointer("/spec/exceptions/namespaces").and_then(Value::as_array);
    open.into_iter().flatten().any(|open| open == namespace)
}

async fn within<T>(deadline: Instant, asked: impl Future<Output = Result<T, LookupError>>) -> Result<T, Fault> {
    match timeout_at(deadline, asked).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => {
            let fix =
                "try again; if it stays so, see whether the API server is well and what Ringfence's account may read";
            Err(Fault::new(FaultCause::Unavailable, error.to_string(), fix))
        }
        Err(_) => Err(late("asking the API server")),
    }
}

fn late(doing: &str) -> Fault {
    let fix = "try again; if it stays so, raise timeoutSeconds of the webhook or see what is slow";
    Fault::new(
        FaultCause::Timeout,
        format!("the time for the answer was over while {doing}"),
        fix,
    )
}

fn unusable(why: &'static str) -> Fault {
    Fault::new(
        FaultCause::Invalid,
        why,
        "install registrations and Ringfence of the same version",
    )
}

impl Judge {
    fn is_exempt(&self, namespace: &str) -> bool {
        is_exempt(namespace, Some(&self.release_namespace))
    }

    fn object(&self, review: &Review, facts: &Facts, deadline: Instant) -> Result<Decision, Fault> {
        let Some(subject) = Subject::of(review).map_err(unusable)? else {
            return Ok(Decision::default());
        };
        let case = Case::new(&subject, facts, |name| self.is_exempt(name));
        let template = subject.template().and_then(Result::ok);
        let mut decision = Decision {
            denials: case.refusals(),
            ..Decision::default()
        };
        let mut by_class: BTreeMap<String, Said> = BTreeMap::new();
        for (mode, class) in case.modes() {
            let mut said = Said {
                deny: case.violations(mode, &class),
                ..Said::default()
            };
            if let Some(template) = &template {
                if !by_class.contains_key(&class) {
                    let engine = case.engine(&class);
                    let input = PolicyInput {
                        target: Target::Pod,
                        request: &review.request,
                        pod: Some((template.path, template.pod)),
                        workflow: facts.workflow.as_ref(),
                        class: facts.class(&class),
                        engine: engine.as_ref(),
                        namespace: facts.namespace.as_ref(),
                    };
                    let exceptions = Exceptions::of(
                        facts.exceptions.as_ref(),
                        &subject.excusable(facts),
                        (&class, facts.class(&class)),
                        facts.now,
                    );
                    let counted = (mode, review.dry_run);
                    by_class.insert(class.clone(), self.policies(&input, &exceptions, counted, deadline)?);
                }
                let of_policies = by_class.get(&class).cloned().unwrap_or_default();
                // A policy that is named like a built-in rule says the same of a field in other words: once is enough.
                let told: Vec<_> = said
                    .deny
                    .iter()
                    .map(|told| (told.policy.clone(), told.path.clone()))
                    .collect();
                let is_new = |found: &Violation| !told.contains(&(found.policy.clone(), found.path.clone()));
                said.deny.extend(of_policies.deny.into_iter().filter(is_new));
                said.warn.extend(of_policies.warn.into_iter().filter(is_new));
                said.excused = of_policies.excused;
            }
            sort(&mut decision, mode, said);
        }
        Ok(decision)
    }

    fn session(&self, session: &Session, facts: &Facts) -> Decision {
        let mut decision = Decision::default();
        match session.modes(facts, |name| self.is_exempt(name)) {
            Err(violation) => decision.denials.push(violation),
            Ok(modes) => {
                for (mode, class) in modes {
                    let deny = session.check(facts, &class).into_iter().collect();
                    sort(
                        &mut decision,
                        mode,
                        Said {
                            deny,
                            ..Said::default()
                        },
                    );
                }
            }
        }
        decision
    }

    fn modes(&self, review: &Review, facts: &Facts, deadline: Instant) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        let mut by_class: BTreeMap<String, Said> = BTreeMap::new();
        for setting in modes::settings(review) {
            if let Some(violation) = modes::check(review, &setting, facts, |name| self.is_exempt(name)) {
                decision.denials.push(violation);
                continue;
            }
            if !by_class.contains_key(&setting.class) {
                let input = PolicyInput {
                    target: Target::Namespace,
                    request: &review.request,
                    pod: None,
                    workflow: None,
                    class: facts.class(&setting.class),
                    engine: None,
                    namespace: review.object(),
                };
                // A Namespace lies in none, so nothing excuses it.
                let (none, counted) = (Exceptions::default(), (setting.mode, review.dry_run));
                by_class.insert(setting.class.clone(), self.policies(&input, &none, counted, deadline)?);
            }
            sort(
                &mut decision,
                setting.mode,
                by_class.get(&setting.class).cloned().unwrap_or_default(),
            );
        }
        Ok(decision)
    }

    /// What the policies say, and what exceptions make of it. A policy that gave no verdict refuses, and is named. Counted by
    /// the strongest mode that asks, and not for a dry run.
    fn policies(
        &self,
        input: &PolicyInput<'_>,
        exceptions: &Exceptions,
        (mode, dry_run): (Mode, bool),
        deadline: Instant,
    ) -> Result<Said, Fault> {
        let budget = deadline.saturating_duration_since(Instant::now());
        if budget.is_zero() {
            return Err(late("judging"));
        }
        let mut verdicts = self.policies.evaluate(input, budget);
        let mut said = Said {
            excused: exceptions.apply(&mut verdicts),
            ..Said::default()
        };
        for Verdict {
            policy,
            outcome,
            duration,
        } in verdicts
        {
            if !dry_run {
                self.metrics.evaluated(&policy, action(&outcome, mode), duration);
            }
            match outcome {
                Ok(findings) => {
                    // Refusals come first where findings are cut off, so where none is left none was lost.
                    let list = if findings.deny.is_empty() {
                        &mut said.warn
                    } else {
                        &mut said.deny
                    };
                    if findings.omitted > 0 {
                        let message = format!("found {} things more than are listed", findings.omitted);
                        list.push(of_policy(
                            &policy,
                            message,
                            "correct those that are listed, and try again",
                        ));
                    }
                    said.deny.extend(findings.deny);
                    said.warn.extend(findings.warn);
                }
                Err(error) => {
                    let fix = "tell who wrote that policy; nothing passes that it cannot judge";
                    said.deny
                        .push(of_policy(&policy, format!("could not be judged: {error}"), fix));
                }
            }
        }
        Ok(said)
    }
}

/// What a policy did, in the mode that asks.
fn action(outcome: &Result<Findings, EvalError>, mode: Mode) -> PolicyAction {
    match (outcome, mode) {
        (Err(_), _) => PolicyAction::Error,
        (Ok(findings), _) if findings.deny.is_empty() && findings.warn.is_empty() => PolicyAction::Allow,
        (Ok(_), Mode::Audit) => PolicyAction::Audit,
        (Ok(findings), Mode::Enforce) if !findings.deny.is_empty() => PolicyAction::Deny,
        (Ok(_), Mode::Enforce | Mode::Warn) => PolicyAction::Warn,
    }
}

fn of_policy(policy: &str, message: String, fix: &str) -> Violation {
    Violation {
        policy: policy.to_owned(),
        path: String::new(),
        value: None,
        message,
        fix: fix.to_owned(),
    }
}

/// Sorts what was said in one mode. What a stronger mode has said already is not said again.
fn sort(decision: &mut Decision, mode: Mode, said: Said) {
    let Said { deny, warn, excused } = said;
    let is_new = |excuse: &Excuse| !decision.excused.contains(excuse);
    let excused: Vec<_> = excused.into_iter().filter(is_new).collect();
    decision.excused.extend(excused);
    match mode {
        Mode::Enforce => {
            add(&mut decision.denials, &[], deny);
            add(&mut decision.warnings, &[], warn);
        }
        Mode::Warn => add(&mut decision.warnings, &decision.denials, deny.into_iter().chain(warn)),
        Mode::Audit => {
            let told: Vec<_> = decision.denials.iter().chain(&decision.warnings).cloned().collect();
            add(&mut decision.audits, &told, deny.into_iter().chain(warn));
        }
    }
}

fn add(list: &mut Vec<Violation>, told: &[Violation], said: impl IntoIterator<Item = Violation>) {
    for violation in said {
        if !list.contains(&violation) && !told.contains(&violation) {
            list.push(violation);
        }
    }
}

#[cfg(test)]
mod tests;
