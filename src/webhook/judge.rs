//! What judges once the facts are there: fence and policies, and what they say sorted by mode.
//!
//! One judge for what is written and for what stands. Must never: decide with a fact missing, or spend time that the caller does
//! not have. Judging does not yield: whoever calls it does so on a thread that may block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::registered::counted;
use crate::api::{Mode, ValidationAction, is_exempt};
use crate::decisions::{DecisionInput, Seen, Shown, ShownClass};
use crate::fence::debug::Session;
use crate::fence::{Binding, Case, Door, Facts, Subject, excusable};
use crate::fence::{modes, pod_security};
use crate::plan::NamespaceFacts;
use crate::policy::{EvalError, Exceptions, PolicyInput, Target, Verdict};
use crate::review::{Decision, Excuse, Fault, FaultCause, Review, Violation};
use crate::telemetry::Metrics;

/// Policies that judge, each within its time: [`super::Pool`] keeps it. A seam: tests let them fail in ways that Rego cannot be made
/// to.
pub trait Policies: Send + Sync + 'static {
    /// One verdict for each policy that matches.
    fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict>;
    /// What a refusal of one of them does.
    fn action(&self, policy: &str) -> ValidationAction;
    /// Which policies these are.
    fn revision(&self) -> &str;
}

/// What judges once the facts are there.
#[derive(Clone)]
pub(super) struct Judge {
    policies: Arc<dyn Policies>,
    release_namespace: Arc<str>,
    metrics: Arc<Metrics>,
    input: DecisionInput,
}

/// What a class makes of a request: refusals and warnings.
#[derive(Clone, Default)]
struct Said {
    deny: Vec<Violation>,
    warn: Vec<Violation>,
    audit: Vec<Violation>,
    excused: Vec<Excuse>,
}

pub(super) fn late(doing: &str) -> Fault {
    let fix = "try again; if it stays so, raise timeoutSeconds of the webhook or see what is slow";
    Fault::new(
        FaultCause::Timeout,
        format!("the time for the answer was over while {doing}"),
        fix,
    )
}

pub(super) fn unusable(why: &'static str) -> Fault {
    Fault::new(
        FaultCause::Invalid,
        why,
        "install registrations and Ringfence of the same version",
    )
}

impl Judge {
    pub(super) fn new(policies: Arc<dyn Policies>, release_namespace: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            policies,
            release_namespace: release_namespace.into(),
            metrics,
            input: DecisionInput::None,
        }
    }

    pub(super) fn recording(self, input: DecisionInput) -> Self {
        Self { input, ..self }
    }

    pub(super) fn records(&self) -> DecisionInput {
        self.input
    }

    pub(super) fn revision(&self) -> &str {
        self.policies.revision()
    }

    pub(super) fn is_exempt(&self, namespace: &str) -> bool {
        is_exempt(namespace, Some(&self.release_namespace))
    }

    pub(super) fn release_namespace(&self) -> &str {
        &self.release_namespace
    }

    pub(super) fn object(
        &self,
        review: &Review,
        subject: &Subject<'_>,
        facts: &Facts,
        beside: &[Verdict],
        deadline: Instant,
    ) -> Result<Decision, Fault> {
        let case = Case::new(subject, facts, |name| self.is_exempt(name));
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
                    let object = excusable(review, facts);
                    let by = (class.as_str(), facts.class(&class));
                    let exceptions = Exceptions::of(facts.exceptions.as_ref(), &object, by, facts.now);
                    let counted = (mode, review.dry_run);
                    let excusing = (&exceptions, beside);
                    by_class.insert(class.clone(), self.policies(&input, excusing, counted, deadline)?);
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
                said.audit.extend(of_policies.audit.into_iter().filter(is_new));
                said.excused = of_policies.excused;
            }
            sort(&mut decision, mode, said);
        }
        decision.seen = self.seen(
            Target::Pod,
            template.map(|template| template.path),
            &case.modes(),
            facts,
            &|class| case.engine(class),
        );
        Ok(decision)
    }

    pub(super) fn session(&self, session: &Session, facts: &Facts) -> Decision {
        let mut decision = Decision::default();
        match session.modes(facts, |name| self.is_exempt(name)) {
            Err(violation) => decision.denials.push(violation),
            Ok(modes) => {
                for (mode, class) in modes {
                    let deny = session.check(facts, &class).into_iter().collect();
                    let said = Said {
                        deny,
                        ..Said::default()
                    };
                    sort(&mut decision, mode, said);
                }
            }
        }
        decision
    }

    pub(super) fn door(&self, door: &Door<'_>, facts: &Facts) -> Decision {
        let mut decision = Decision::default();
        match door.modes(facts, |name| self.is_exempt(name)) {
            Err(violation) => decision.denials.push(*violation),
            Ok(modes) => {
                for (mode, class) in modes {
                    let said = Said {
                        deny: door.check(facts, &class),
                        ..Said::default()
                    };
                    sort(&mut decision, mode, said);
                }
            }
        }
        decision
    }

    /// Judges a binding by the namespaces, as they are there, whose accounts it names.
    pub(super) fn binding(&self, binding: &Binding<'_>, namespaces: &[Value]) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        for object in namespaces {
            let namespace = NamespaceFacts::from_object(object, |name| self.is_exempt(name));
            let namespace = namespace.ok_or_else(|| unusable("a Namespace that was read has no name"))?;
            for mode in Binding::modes(&namespace) {
                let said = Said {
                    deny: binding.check(&namespace),
                    ..Said::default()
                };
                sort(&mut decision, mode, said);
            }
        }
        Ok(decision)
    }

    pub(super) fn modes(&self, review: &Review, facts: &Facts, deadline: Instant) -> Result<Decision, Fault> {
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
                by_class.insert(
                    setting.class.clone(),
                    self.policies(&input, (&none, &[]), counted, deadline)?,
                );
            }
            let mut said = by_class.get(&setting.class).cloned().unwrap_or_default();
            if let Some(violation) = pod_security::check_setting(review, &setting, facts) {
                // A policy that looks at the same label knows less of what the class wants: once is enough.
                said.deny.retain(|found| found.path != violation.path);
                said.deny.insert(0, violation);
            }
            sort(&mut decision, setting.mode, said);
        }
        let set = modes::settings(review).into_iter();
        let set: Vec<_> = set.map(|setting| (setting.mode, setting.class)).collect();
        decision.seen = self.seen(Target::Namespace, None, &set, facts, &|_| None);
        Ok(decision)
    }

    /// What the shipped policies would refuse of an object by that class, where they are asked about it at all.
    pub(super) fn shipped(&self, review: &Review, facts: &Facts, class: &str, deadline: Instant) -> Vec<Verdict> {
        let Ok(Some(subject)) = Subject::of(review) else {
            return Vec::new();
        };
        let Some(Ok(template)) = subject.template() else {
            return Vec::new();
        };
        let case = Case::new(&subject, facts, |name| self.is_exempt(name));
        let engine = case.engine(class);
        let input = PolicyInput {
            target: Target::Pod,
            request: &review.request,
            pod: Some((template.path, template.pod)),
            workflow: facts.workflow.as_ref(),
            class: facts.class(class),
            engine: engine.as_ref(),
            namespace: facts.namespace.as_ref(),
        };
        let budget = deadline.saturating_duration_since(Instant::now()) / 2;
        let mut verdicts = self.policies.evaluate(&input, budget);
        verdicts.retain(|verdict| self.policies.action(&verdict.policy) == ValidationAction::Deny);
        verdicts
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is kept of the facts for the decision line, masked here: nothing else of them leaves this judgement.
    pub(super) fn seen(
        &self,
        target: Target,
        pod_path: Option<&str>,
        modes: &[(Mode, String)],
        facts: &Facts,
        engine: &dyn Fn(&str) -> Option<Value>,
    ) -> Option<Seen> {
        if self.input == DecisionInput::None {
            return None;
        }
        let mut names: Vec<&str> = modes.iter().map(|(_, class)| class.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let classes = names.into_iter().map(|name| ShownClass {
            name,
            class: facts.class(name),
            engine: engine(name),
        });
        Some(Seen::of(&Shown {
            target,
            pod_path,
            namespace: facts.namespace.as_ref(),
            workflow: facts.workflow.as_ref(),
            modes,
            classes: &classes.collect::<Vec<_>>(),
        }))
    }

    /// What the policies say, and what exceptions make of it. A policy that gave no verdict refuses, and is named. Counted by
    /// the strongest mode that asks, and not for a dry run.
    fn policies(
        &self,
        input: &PolicyInput<'_>,
        (exceptions, beside): (&Exceptions, &[Verdict]),
        (mode, dry_run): (Mode, bool),
        deadline: Instant,
    ) -> Result<Said, Fault> {
        let budget = deadline.saturating_duration_since(Instant::now());
        if budget.is_zero() {
            return Err(late("judging"));
        }
        let verdicts = self.policies.evaluate(input, budget);
        // What does not refuse needs no exception, and keeps none from covering what does.
        let refuses = |verdict: &Verdict| self.policies.action(&verdict.policy) == ValidationAction::Deny;
        let (mut verdicts, others): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(refuses);
        let mut said = Said {
            excused: exceptions.apply(&mut verdicts, beside),
            ..Said::default()
        };
        for Verdict {
            policy,
            outcome,
            duration,
        } in verdicts.into_iter().chain(others)
        {
            let action = self.policies.action(&policy);
            if !dry_run {
                let counted = counted(&outcome, action.under(Some(mode)));
                self.metrics.evaluated(&policy, counted, duration);
            }
            match outcome {
                Ok(findings) => {
                    // Refusals come first where findings are cut off, so where none is left none was lost.
                    let list = if findings.deny.is_empty() {
                        said.of(action.min(ValidationAction::Warn))
                    } else {
                        said.of(action)
                    };
                    if findings.omitted > 0 {
                        let message = format!("found {} things more than are listed", findings.omitted);
                        list.push(of_policy(
                            &policy,
                            message,
                            "correct those that are listed, and try again",
                        ));
                    }
                    said.of(action).extend(findings.deny);
                    said.of(action.min(ValidationAction::Warn)).extend(findings.warn);
                }
                Err(error) => {
                    let fix = match error {
                        EvalError::NoMemory => {
                            "try again; if it persists, tell who runs Ringfence: see which policy or review takes much memory, or \
                             raise resources.limits.memory of the chart"
                        }
                        _ => "tell who wrote that policy; nothing passes that it cannot judge",
                    };
                    said.of(action)
                        .push(of_policy(&policy, format!("could not be judged: {error}"), fix));
                }
            }
        }
        Ok(said)
    }
}

impl Said {
    /// What such an action adds to.
    fn of(&mut self, action: ValidationAction) -> &mut Vec<Violation> {
        match action {
            ValidationAction::Deny => &mut self.deny,
            ValidationAction::Warn => &mut self.warn,
            ValidationAction::Audit => &mut self.audit,
        }
    }
}

pub(super) fn of_policy(policy: &str, message: String, fix: &str) -> Violation {
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
    let Said {
        deny,
        warn,
        audit,
        excused,
    } = said;
    for excuse in excused {
        if !decision.excused.contains(&excuse) {
            decision.excused.push(excuse);
        }
    }
    let audited = match mode {
        Mode::Enforce => {
            add(&mut decision.denials, &[], deny);
            add(&mut decision.warnings, &[], warn);
            audit
        }
        Mode::Warn => {
            add(&mut decision.warnings, &decision.denials, deny.into_iter().chain(warn));
            audit
        }
        Mode::Audit => deny.into_iter().chain(warn).chain(audit).collect(),
    };
    let told: Vec<_> = decision.denials.iter().chain(&decision.warnings).cloned().collect();
    add(&mut decision.audits, &told, audited);
}

fn add(list: &mut Vec<Violation>, told: &[Violation], said: impl IntoIterator<Item = Violation>) {
    for violation in said {
        if !list.contains(&violation) && !told.contains(&violation) {
            list.push(violation);
        }
    }
}
