//! Decides reviews: asks for the facts, and lets fence and policies judge. What stands is decided here too, as if it were made now.
//!
//! Must never: decide with a fact missing, or spend time that the request does not have. Judging does not yield: whoever calls
//! `admit` does so on a thread that may block.

mod doors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, try_join_all};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::judge::{Judge, Policies, late, unusable};
use super::lookup::{Key, Lookup, LookupError};
use super::pool::Evaluator;
use super::registered::{Objects, RegoPolicies};
use super::{Admit, Webhook};
use crate::api::is_dns_subdomain;
use crate::decisions::DecisionInput;
use crate::fence::debug::Session;
use crate::fence::modes::{self, Setting};
use crate::fence::{Door, Facts, Named, Owner, OwnerRef, Subject, is_adoption, kinds, needs_registration};
use crate::policy::names_objects;
use crate::review::{Decision, Fault, FaultCause, Operation, Review};
use crate::telemetry::Metrics;

/// Labels of a Namespace that name classes.
const MODE_LABELS: [&str; 3] = [
    crate::api::ENFORCE_LABEL,
    crate::api::WARN_LABEL,
    crate::api::AUDIT_LABEL,
];

/// The real [`Admit`].
#[derive(Clone)]
pub struct Admission {
    lookup: Arc<dyn Lookup>,
    pub(super) judge: Judge,
    pub(super) objects: Option<Objects>,
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
            judge: Judge::new(policies, release_namespace, metrics),
            objects: None,
        }
    }

    /// The same, asking RegoPolicies too. `taken` are the names of the other policies.
    #[must_use]
    pub fn with_objects(self, policies: Arc<dyn RegoPolicies>, evaluator: Evaluator, taken: BTreeSet<String>) -> Self {
        Self {
            objects: Some(Objects::new(policies, evaluator, taken)),
            ..self
        }
    }

    /// The same, with so much of what it decides from in the decision.
    #[must_use]
    pub fn recording(self, input: DecisionInput) -> Self {
        Self {
            judge: self.judge.recording(input),
            ..self
        }
    }

    /// The same judge over other facts, such as remembered or supposed ones.
    #[must_use]
    pub fn over(&self, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            judge: self.judge.clone(),
            objects: self.objects.clone(),
        }
    }

    /// Whether a namespace is never fenced.
    pub fn is_exempt(&self, namespace: &str) -> bool {
        self.judge.is_exempt(namespace)
    }

    /// Where Ringfence itself is.
    pub fn release_namespace(&self) -> &str {
        self.judge.release_namespace()
    }

    /// Decides what stands as if it were made now, but for who launched it, which nobody recorded, and for what Ringfence makes
    /// itself. `review` is one of [`Review::standing`].
    ///
    /// # Errors
    /// Where a fact is missing or the time is over: then nothing is known of the object.
    pub async fn standing(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let mut decision = if review.is_of_namespace() {
            self.decide_modes(review, deadline).await?
        } else {
            match Subject::standing(review).map_err(unusable)? {
                Some(subject) => self.decide_subject(review, &subject, deadline).await?,
                None => Decision::default(),
            }
        };
        decision.add(self.standing_registered(review, deadline).await?);
        Ok(decision)
    }

    pub(super) async fn decide(&self, webhook: Webhook, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        match webhook {
            Webhook::Kinds => self.decide_kinds(review, deadline).await,
            Webhook::Modes => self.decide_modes(review, deadline).await,
            Webhook::Bindings => self.decide_binding(review, deadline).await,
            Webhook::Fence => match Door::of(review).map_err(unusable)? {
                Some(door) => self.decide_door(&door, deadline).await,
                None if review.operation == Operation::Connect => self.decide_session(review, deadline).await,
                None => self.decide_object(review, deadline).await,
            },
            Webhook::Label => self.decide_object(review, deadline).await,
            Webhook::Policies(asked) => self.decide_registered(asked, review, deadline).await,
        }
    }

    async fn decide_object(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        match Subject::of(review).map_err(unusable)? {
            Some(subject) => self.decide_subject(review, &subject, deadline).await,
            None => Ok(Decision::default()),
        }
    }

    async fn decide_subject(
        &self,
        review: &Review,
        subject: &Subject<'_>,
        deadline: Instant,
    ) -> Result<Decision, Fault> {
        let facts = within(deadline, self.gather(subject)).await?;
        let beside = if facts.exceptions.as_ref().is_some_and(are_any) {
            self.beside_registered(review, &facts, deadline)
        } else {
            Vec::new()
        };
        self.judge.object(review, subject, &facts, &beside, deadline)
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

    async fn decide_kinds(&self, review: &Review, deadline: Instant) -> Result<Decision, Fault> {
        let Some(subject) = kinds::Subject::of(review).map_err(unusable)? else {
            return Ok(Decision::default());
        };
        let namespace = subject.namespace_to_read().map(str::to_owned);
        let (namespace, classes) = within(deadline, self.namespace_with_classes(namespace)).await?;
        let facts = Facts {
            namespace,
            classes,
            now: Some(Timestamp::now()),
            ..Facts::default()
        };
        let (mut denials, warnings) = subject.judge(&facts, |name| self.judge.is_exempt(name));
        if let Some(policy) = subject.policy().filter(|_| denials.is_empty()) {
            denials = self.vet(policy, deadline).await?;
        }
        Ok(Decision {
            denials,
            warnings,
            ..Decision::default()
        })
    }

    async fn gather(&self, subject: &Subject<'_>) -> Result<Facts, LookupError> {
        let needs = subject.needs();
        let with_exceptions = async {
            let (namespace, classes) = self.namespace_with_classes(needs.namespace.clone()).await?;
            let judged = needs.namespace.clone().filter(|_| subject.template().is_some());
            let open = judged.filter(|name| classes.values().flatten().any(|class| opens_exceptions(class, name)));
            let exceptions = self.exceptions(open).await?;
            Ok((namespace, classes, exceptions))
        };
        let (with_exceptions, with_registration, default_deny, account, launcher, owners) = tokio::try_join!(
            with_exceptions,
            self.workflow_with_registration(needs.workflow),
            self.ask(needs.default_deny.map(Key::DefaultDeny)),
            self.ask(needs.account.map(Key::Account)),
            self.ask(needs.launcher.map(Key::Account)),
            self.owners(needs.namespace.clone(), needs.owner),
        )?;
        let (namespace, classes, exceptions) = with_exceptions;
        let owners = match &exceptions {
            // Who controls what people change, or what stands: to be excused by an owner's name, and for nothing else. So one that
            // cannot be read, of an operator's own kind, stands in nobody's way.
            Some(list) if owners.is_empty() && names_objects(list) => {
                self.climb(needs.namespace, subject.controller()).await.0
            }
            _ => owners,
        };
        let (workflow, registration) = with_registration;
        Ok(Facts {
            namespace,
            workflow,
            registration,
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
            let (workflow, registration) = self.workflow_with_registration(session.workflow(&facts)).await?;
            Ok(Facts {
                workflow,
                registration,
                ..facts
            })
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

    pub(super) async fn exceptions(&self, namespace: Option<String>) -> Result<Option<Value>, LookupError> {
        self.ask(namespace.map(Key::Exceptions)).await
    }

    pub(super) async fn workflow(&self, named: Option<Named>) -> Result<Option<Value>, LookupError> {
        self.ask(named.map(Key::Workflow)).await
    }

    async fn ask(&self, key: Option<Key>) -> Result<Option<Value>, LookupError> {
        match key {
            None => Ok(None),
            Some(key) => self.lookup.get(&key).await,
        }
    }

    /// The registration only where the workflow's record does not settle it: it is one more question, and the larger one.
    async fn workflow_with_registration(
        &self,
        named: Option<Named>,
    ) -> Result<(Option<Value>, Option<Value>), LookupError> {
        let workflow = self.ask(named.map(Key::Workflow)).await?;
        let wanted = workflow.as_ref().is_some_and(needs_registration);
        let registration = self.ask(wanted.then_some(Key::Registration)).await?;
        Ok((workflow, registration))
    }

    pub(super) async fn namespace_with_classes(
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

    /// The owners as far as they can be asked for, one after the other: each link names the next.
    pub(super) async fn climb(
        &self,
        namespace: Option<String>,
        first: Option<OwnerRef>,
    ) -> (Vec<Owner>, Result<(), LookupError>) {
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
            .map(|decision| Decision {
                as_gone: is_adoption(review),
                ..decision.unwrap_or_else(Decision::from_fault)
            })
            .boxed()
    }

    fn denies(&self, webhook: Webhook) -> bool {
        let (Webhook::Policies(asked), Some(objects)) = (webhook, &self.objects) else {
            return true;
        };
        objects.policies.snapshot().denies_at(asked.id, &asked.version())
    }

    fn revision(&self) -> String {
        self.judge.revision().to_owned()
    }

    fn records(&self) -> DecisionInput {
        self.judge.records()
    }
}

fn are_any(list: &Value) -> bool {
    let items = list.get("items").and_then(Value::as_array);
    items.is_some_and(|items| !items.is_empty())
}

/// Whether a class may let exceptions of a namespace count: whether to ask for them at all.
pub(super) fn opens_exceptions(class: &Value, namespace: &str) -> bool {
    let open = class.pointer("/spec/exceptions/namespaces").and_then(Value::as_array);
    open.into_iter().flatten().any(|open| open == namespace)
}

pub(super) async fn within<T>(
    deadline: Instant,
    asked: impl Future<Output = Result<T, LookupError>>,
) -> Result<T, Fault> {
    match timeout_at(deadline, asked).await {
        Ok(Ok(facts)) => Ok(facts),
        Ok(Err(error)) => {
            let fix = match error.cause {
                FaultCause::TooLarge => "make that object smaller, or delete it if nobody needs it",
                FaultCause::Crowded => "make that object smaller, or send fewer requests at a time, and this one again",
                _ => {
                    "try again; if it stays so, see whether the API server is well and what Ringfence's account may read"
                }
            };
            Err(Fault::new(error.cause, error.to_string(), fix))
        }
        Err(_) => Err(late("asking the API server")),
    }
}

#[cfg(test)]
mod tests;
