//! What RegoPolicies say of a request: the facts that they are shown, exceptions, and what each one's action makes of it.
//!
//! Must never: decide by half of a change (one snapshot decides, to the end), or let what only audits keep a caller waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

pub(super) use self::outcome::counted;
use self::outcome::{add, counts};
use super::EntryAsked;
use super::admit::{Admission, opens_exceptions, within};
use super::held::{held, holding};
use super::judge::late;
use super::pool::{Evaluator, OneByOne};
use crate::api::{InventoryKind, Mode, ValidationAction, WORKFLOW_LABEL, is_dns_label, is_exempt_kind};
use crate::decisions::{BEHIND, DecisionInput, Recorded, Seen};
use crate::fence::{Facts, Named, controller, excusable, is_inert, occasion, template_of};
use crate::plan::NamespaceFacts;
use crate::policy::{
    Declared, EntryId, Exceptions, LoadError, Match, PolicyInput, Question, Snapshot, Target, Verdict, names_objects,
};
use crate::review::{Decision, Fault, FaultCause, Operation, Outcome, Review};
use crate::telemetry::{Asked, DecisionLine};

mod outcome;

/// Requests whose audits are behind their answers at a time. What is beyond is not audited, and counted.
const AUDITS: usize = 8;
/// How long audits of one request may take: nobody waits for them, but its memory is held so long.
const AUDIT_TIME: Duration = Duration::from_secs(2);

/// The RegoPolicies of this replica. A seam: tests put some in force without a cluster.
pub trait RegoPolicies: Send + Sync + 'static {
    /// What is in force now.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// What is in force for a webhook of the registration, once this replica has what the registration was made of; `None` where
    /// that takes too long.
    fn at_version<'a>(
        &'a self,
        id: EntryId,
        version: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Option<Arc<Snapshot>>>;

    /// What policies that name these kinds see as `data.inventory`, or why it is not there.
    fn inventory(&self, kinds: &[InventoryKind], namespace: &str) -> Result<regorus::Value, String>;

    /// Vets an object that is about to be written. Errors: what is wrong with it, or that it could not be found out.
    fn vet(&self, object: Declared, deadline: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>>;
}

/// RegoPolicies, and what evaluates them.
#[derive(Clone)]
pub(super) struct Objects {
    pub policies: Arc<dyn RegoPolicies>,
    pub evaluator: Evaluator,
    /// Names of the policies that are no objects.
    pub taken: Arc<BTreeSet<String>>,
    audits: Arc<Semaphore>,
}

impl Objects {
    pub(super) fn new(policies: Arc<dyn RegoPolicies>, evaluator: Evaluator, taken: BTreeSet<String>) -> Self {
        Self {
            policies,
            evaluator,
            taken: Arc::new(taken),
            audits: Arc::new(Semaphore::new(AUDITS)),
        }
    }
}

/// The pool asks them one by one.
impl OneByOne for Question {
    type Asked = ();

    fn names(&self, (): &()) -> Vec<String> {
        self.matches().iter().map(|one| one.name().to_owned()).collect()
    }

    fn judge(&self, (): &(), number: usize, time: Duration) -> Option<Verdict> {
        Self::judge(self, number, time)
    }
}

impl Admission {
    /// What the API server is told by a webhook of the registration `ringfence-policies`.
    pub(super) async fn decide_registered(
        &self,
        asked: EntryAsked,
        review: &Review,
        deadline: Instant,
    ) -> Result<Decision, Fault> {
        let Some(objects) = &self.objects else {
            return Err(late("waiting for RegoPolicies, which this process does not serve"));
        };
        // Half of the time is for the policies themselves.
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / 2;
        let served = objects.policies.at_version(asked.id, &asked.version(), until).await;
        let Some(snapshot) = served else {
            let message = "this replica does not serve the newest RegoPolicies yet";
            let fix =
                "try again; if it stays so, see the condition Compiled of the RegoPolicies and the replica's /readyz";
            return Err(Fault::new(FaultCause::Unavailable, message, fix));
        };
        if self.is_unasked(review) {
            return Ok(Decision::default());
        }
        // A registration that was made of other versions asks by webhooks of theirs, at which a policy whose match was edited since does not answer,
        // or does not answer yet: then all are asked, by whichever webhook.
        let is_of_these = snapshot.version_of(asked.id) == asked.version();
        let matches = snapshot.matching(is_of_these.then_some(asked.id), &occasion(review));
        let decision = self
            .decide_matching(objects, (matches, snapshot.revision()), review, deadline)
            .await?;
        Ok(Decision {
            revision: Some(snapshot.revision().to_owned()),
            ..decision
        })
    }

    /// What RegoPolicies say of what stands, as if it were made now.
    pub(super) async fn standing_registered(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let Some(objects) = self.objects.as_ref().filter(|_| !self.is_unasked(review)) else {
            return Ok(Decision::default());
        };
        let matches = objects.policies.snapshot().matching(None, &occasion(review));
        if matches.is_empty() {
            return Ok(Decision::default());
        }
        let (facts, labels) = self.facts_of(review, deadline).await?;
        let matches = selected(matches, labels.as_ref());
        self.judge_matching(objects, matches, review, &facts, deadline).await
    }

    /// What each webhook of the registration answers, what is only audited included.
    pub(super) async fn every_registered(
        &self,
        review: &Review,
        deadline: Instant,
    ) -> Result<Vec<(EntryId, Decision)>, Fault> {
        let Some(objects) = self.objects.as_ref().filter(|_| !self.is_unasked(review)) else {
            return Ok(Vec::new());
        };
        let snapshot = objects.policies.snapshot();
        let occasion = occasion(review);
        let asked = snapshot.entries().into_iter().map(|(entry, _)| entry.id);
        let asked = asked.map(|id| (id, snapshot.matching(Some(id), &occasion)));
        let asked: Vec<_> = asked.filter(|(_, matches)| !matches.is_empty()).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let (facts, labels) = self.facts_of(review, deadline).await?;
        let mut decisions = Vec::new();
        for (id, matches) in asked {
            let matches = selected(matches, labels.as_ref());
            let decision = self.judge_matching(objects, matches, review, &facts, deadline).await?;
            decisions.push((id, decision));
        }
        Ok(decisions)
    }

    /// What other policies refuse of the same object: exceptions of two registrations must not add up.
    pub(super) fn beside_registered(&self, review: &Review, facts: &Facts, deadline: Instant) -> Vec<Verdict> {
        let Some(objects) = self.objects.as_ref().filter(|_| !self.is_unasked(review)) else {
            return Vec::new();
        };
        let matches = objects.policies.snapshot().matching(None, &occasion(review));
        let labels = facts
            .namespace
            .as_ref()
            .map(|namespace| namespace.pointer("/metadata/labels"));
        let refusing = |one: &Match| one.action() == ValidationAction::Deny && one.is_in_namespace(labels);
        let matches: Vec<_> = matches.into_iter().filter(refusing).collect();
        let outcomes = self.verdicts(objects, matches, review, facts, deadline);
        let counting = |(one, verdict): (Match, Verdict)| counts(&one, &verdict.outcome).then_some(verdict);
        outcomes.into_iter().filter_map(counting).collect()
    }

    /// Whether no RegoPolicy is ever asked: the system's own, and what only ends something.
    fn is_unasked(&self, review: &Review) -> bool {
        let of_namespace = review.is_of_namespace().then(|| review.name());
        let namespace = of_namespace.or(review.namespace.as_deref());
        let ends = review.operation == Operation::Update
            && matches!((review.old_object(), review.object()), (Some(old), Some(new)) if is_inert(old, new) && old.get("status") == new.get("status") && review.subresource.is_empty());
        is_exempt_kind(&review.resource.group, &review.resource.resource)
            || namespace.is_some_and(|namespace| self.is_exempt(namespace))
            || ends
    }

    async fn decide_matching(
        &self,
        objects: &Objects,
        (matches, revision): (Vec<Match>, &str),
        review: &Review,
        deadline: Instant,
    ) -> Result<Decision, Fault> {
        let (audits, acting): (Vec<_>, Vec<_>) = matches
            .into_iter()
            .partition(|one| one.action() == ValidationAction::Audit);
        if acting.is_empty() {
            if !audits.is_empty() {
                self.audit(objects, audits, review, revision);
            }
            return Ok(Decision::default());
        }
        let (facts, labels) = self.facts_of(review, deadline).await?;
        let acting = selected(acting, labels.as_ref());
        let mode = self.strongest_mode(&facts);
        // Under audit alone nobody is refused or warned, so nobody waits.
        let (behind, acting) = if mode == Some(Mode::Audit) {
            (acting, Vec::new())
        } else {
            (Vec::new(), acting)
        };
        let audits: Vec<_> = audits.into_iter().chain(behind).collect();
        if !audits.is_empty() {
            self.audit(objects, audits, review, revision);
        }
        let is_asked = !acting.is_empty();
        let decision = self.judge_matching(objects, acting, review, &facts, deadline).await?;
        let seen = is_asked.then(|| self.seen(review, &facts)).flatten();
        Ok(Decision { seen, ..decision })
    }

    /// Judges behind the answer, as far as there is room for it.
    fn audit(&self, objects: &Objects, matches: Vec<Match>, review: &Review, revision: &str) {
        let began = Instant::now();
        let metrics = self.judge.metrics();
        let Ok(room) = Arc::clone(&objects.audits).try_acquire_owned() else {
            metrics.audit_skipped();
            return;
        };
        let (this, objects, review, revision) = (self.clone(), objects.clone(), review.clone(), revision.to_owned());
        // Its memory is counted until it ends, like that of the request itself.
        let counted = held();
        let deadline = Instant::now() + AUDIT_TIME;
        let audit = async move {
            let _room = room;
            let judged = async {
                let (facts, labels) = this.facts_of(&review, deadline).await?;
                let matches = selected(matches, labels.as_ref());
                let mut decision = this
                    .judge_matching(&objects, matches, &review, &facts, deadline)
                    .await?;
                // Where nothing is found there is no line to hold it.
                if decision.outcome() != Outcome::Allow {
                    decision.seen = this.seen(&review, &facts);
                }
                Ok(decision)
            };
            let mut decision = judged.await.unwrap_or_else(Decision::from_fault);
            // Whatever they say, the answer has left.
            let said: Vec<_> = decision.denials.drain(..).chain(decision.warnings.drain(..)).collect();
            decision.audits.extend(said);
            if decision.outcome() != Outcome::Allow {
                let input = this.recorded(&review, &decision);
                let line = DecisionLine {
                    webhook: BEHIND,
                    uid: &review.uid,
                    asked: Asked::Review(&review),
                    decision: &decision,
                    revision: &revision,
                    sha256: "",
                    duration: began.elapsed(),
                    input: input.as_ref(),
                };
                line.log();
            }
        };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || match counted {
            Some(counted) => runtime.block_on(holding(counted.waiting_until(deadline), audit)),
            None => runtime.block_on(audit),
        });
    }

    /// The namespace, its classes, the workflow that is named, and exceptions; and the labels by which namespaces are selected.
    async fn facts_of(&self, review: &Review, deadline: Instant) -> Result<(Facts, Option<Option<Value>>), Fault> {
        let namespace = review
            .namespace
            .clone()
            .filter(|name| is_dns_label(name) && !review.is_of_namespace());
        let object = review.current();
        let label = workflow_label(review);
        let named = namespace
            .clone()
            .zip(label)
            .map(|(namespace, name)| Named { namespace, name });
        let gathered = async {
            let ((found, classes), workflow) =
                tokio::try_join!(self.namespace_with_classes(namespace.clone()), self.workflow(named))?;
            let open = namespace
                .clone()
                .filter(|name| classes.values().flatten().any(|class| opens_exceptions(class, name)));
            let exceptions = self.exceptions(open).await?;
            // What makes pods is its controller's, and excused with it. Of anything else a reference is somebody's word, and nobody is asked.
            let made = object.filter(|object| template_of(&review.kind.group, &review.kind.kind, object).is_some());
            let owners = match (&exceptions, made.and_then(controller)) {
                (Some(list), owner @ Some(_)) if names_objects(list) => self.climb(namespace.clone(), owner).await.0,
                _ => Vec::new(),
            };
            Ok(Facts {
                namespace: found,
                classes,
                workflow,
                exceptions,
                owners,
                now: Some(Timestamp::now()),
                ..Facts::default()
            })
        };
        let facts = within(deadline, gathered).await?;
        let labels = if review.is_of_namespace() {
            Some(object.and_then(|object| object.pointer("/metadata/labels")).cloned())
        } else if let Some(name) = &namespace {
            let Some(found) = &facts.namespace else {
                let message = format!("namespace {name} is not there, and so no policy can tell whether it selects it");
                return Err(Fault::new(FaultCause::Unavailable, message, "make the namespace first"));
            };
            Some(found.pointer("/metadata/labels").cloned())
        } else {
            None
        };
        Ok((facts, labels))
    }

    fn namespace_of(&self, facts: &Facts) -> Option<NamespaceFacts> {
        NamespaceFacts::from_object(facts.namespace.as_ref()?, |name| self.is_exempt(name))
    }

    fn strongest_mode(&self, facts: &Facts) -> Option<Mode> {
        self.namespace_of(facts)?.mode()
    }

    /// One verdict each, in their order.
    fn verdicts(
        &self,
        objects: &Objects,
        matches: Vec<Match>,
        review: &Review,
        facts: &Facts,
        deadline: Instant,
    ) -> Vec<(Match, Verdict)> {
        if matches.is_empty() {
            return Vec::new();
        }
        let namespace = self.namespace_of(facts);
        let class = namespace.as_ref().and_then(NamespaceFacts::judging_class);
        let occasion = occasion(review);
        let input = PolicyInput {
            target: Target::Pod,
            request: &review.request,
            pod: occasion.template,
            workflow: facts.workflow.as_ref(),
            class: class.and_then(|class| facts.class(class)),
            engine: None,
            namespace: facts
                .namespace
                .as_ref()
                .or_else(|| review.current().filter(|_| review.is_of_namespace())),
        };
        let of = review
            .request
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let question = Question::new(matches.clone(), &input, &occasion, |kinds| {
            objects.policies.inventory(kinds, of)
        });
        let budget = deadline.saturating_duration_since(Instant::now());
        let verdicts = objects.evaluator.evaluate(&Arc::new(question), (), of, budget);
        matches.into_iter().zip(verdicts).collect()
    }

    async fn judge_matching(
        &self,
        objects: &Objects,
        matches: Vec<Match>,
        review: &Review,
        facts: &Facts,
        deadline: Instant,
    ) -> Result<Decision, Fault> {
        let mut decision = Decision::default();
        if matches.is_empty() {
            return Ok(decision);
        }
        if deadline <= Instant::now() {
            return Err(late("judging"));
        }
        let mode = self.strongest_mode(facts);
        let judged = self.verdicts(objects, matches, review, facts, deadline);
        // What does not refuse needs no exception, and keeps none from covering what does.
        let refuses = |(one, verdict): &(Match, Verdict)| {
            one.action().under(mode) == ValidationAction::Deny && counts(one, &verdict.outcome)
        };
        let (refusing, others): (Vec<_>, Vec<_>) = judged.into_iter().partition(refuses);
        let (matches, mut verdicts): (Vec<_>, Vec<_>) = refusing.into_iter().unzip();
        if !verdicts.is_empty() && facts.exceptions.is_some() {
            self.except(review, facts, &mut decision, &mut verdicts, deadline);
        }
        for (one, verdict) in matches.into_iter().zip(verdicts).chain(others) {
            let action = one.action().under(mode);
            if !review.dry_run {
                let counted = counted(&verdict.outcome, action);
                self.judge
                    .metrics()
                    .evaluated(&verdict.policy, counted, verdict.duration);
            }
            add(&mut decision, &one, action, verdict);
        }
        Ok(decision)
    }

    /// What a line is to hold of the facts, so that the same can be asked again.
    fn seen(&self, review: &Review, facts: &Facts) -> Option<Seen> {
        let path = occasion(review).template.map(|(path, _)| path);
        let modes = self.namespace_of(facts).map(|namespace| namespace.modes());
        // RegoPolicies see no engine.
        let none = |_: &str| None;
        self.judge
            .seen(Target::Pod, path, &modes.unwrap_or_default(), facts, &none)
    }

    /// What the line of an audit is to hold of its input.
    fn recorded(&self, review: &Review, decision: &Decision) -> Option<Recorded> {
        let records = self.judge.records() != DecisionInput::None;
        records.then(|| Recorded::of(review, decision.seen.as_ref()))
    }

    /// Excuses what one exception covers, whoever refuses it: the shipped policies, and RegoPolicies that share no webhook with these, are
    /// asked about the same object by other calls, and an exception for these and one for those would else add up.
    fn except(
        &self,
        review: &Review,
        facts: &Facts,
        decision: &mut Decision,
        verdicts: &mut [Verdict],
        deadline: Instant,
    ) {
        let namespace = self.namespace_of(facts);
        let Some(class) = namespace.as_ref().and_then(NamespaceFacts::judging_class) else {
            return;
        };
        let object = excusable(review, facts);
        let by = (class, facts.class(class));
        let exceptions = Exceptions::of(facts.exceptions.as_ref(), &object, by, facts.now);
        if !exceptions.are_any() {
            return;
        }
        let mut beside = self.judge.shipped(review, facts, class, deadline);
        let asked: BTreeSet<String> = verdicts.iter().map(|verdict| verdict.policy.clone()).collect();
        let others = self.beside_registered(review, facts, deadline).into_iter();
        beside.extend(others.filter(|verdict| !asked.contains(&verdict.policy)));
        decision.excused = exceptions.apply(verdicts, &beside);
    }
}

fn selected(matches: Vec<Match>, labels: Option<&Option<Value>>) -> Vec<Match> {
    let labels = labels.map(Option::as_ref);
    matches.into_iter().filter(|one| one.is_in_namespace(labels)).collect()
}

/// The workflow that an object, or the template in it, says that it belongs to.
fn workflow_label(review: &Review) -> Option<String> {
    let object = review.current()?;
    let (_, template) = template_of(&review.kind.group, &review.kind.kind, object).unwrap_or(("", object));
    let label = |object: &Value| {
        let labels = object.get("metadata")?.get("labels")?;
        labels.get(WORKFLOW_LABEL)?.as_str().map(str::to_owned)
    };
    label(object)
        .or_else(|| label(template))
        .filter(|name| is_dns_label(name))
}

#[cfg(test)]
mod tests;
