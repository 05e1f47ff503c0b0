//! One request: what every webhook answers, and what of it rests on facts that nobody gave.
//!
//! Admission's own judge decides. Must never: give a verdict that rests on a missing fact, or leave one out without saying so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    facts::{Asking, Missing, Store},
    object::{Asked, Who},
};
use crate::{
    api::{GROUP, InventoryKind},
    cli::{
        manifests::{API_VERSION, without_nulls},
        schema,
    },
    decisions::{Door, Need, RULES, rule_of},
    fence::{self, Subject, occasion},
    policy::{Declared, EntryId, LoadError, Looks, PolicySet, Snapshot, Target},
    registry::inventory_of,
    review::{Decision, Operation, Review, Violation},
    vetting::Vetting,
    webhook::{Answer, RegoPolicies, admit::Admission},
};

/// Longest that judging one object may take: what the API server waits at most for a webhook.
const OBJECT_TIME: Duration = Duration::from_secs(30);

/// Who refuses what its schema does not allow, and by which name.
const SERVER: &str = "api-server";
const SCHEMA: &str = "schema";

/// How a finding acts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// It refuses.
    Deny,
    /// The caller is warned.
    Warn,
    /// It is logged.
    Audit,
}

/// What a webhook finds.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) level: Level,
    pub(super) webhook: String,
    pub(super) violation: Violation,
}

/// A rule or policy that gives no verdict here.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct NotJudged {
    pub(super) policy: String,
    pub(super) needs: BTreeSet<String>,
    /// The argument that gives what is missing.
    pub(super) by: &'static str,
}

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) answers: Vec<Answer>,
    pub(super) found: Vec<Found>,
    pub(super) not_judged: BTreeSet<NotJudged>,
    /// Why it could not be decided.
    pub(super) faults: Vec<String>,
}

/// What judges: policies, and facts.
pub(super) struct Judge {
    admission: Admission,
    store: Arc<Store>,
    snapshot: Arc<Snapshot>,
    looks: BTreeMap<String, Looks>,
    /// Names of the policies of files, by what they judge.
    of_set: Vec<(Target, String)>,
}

impl Judge {
    pub(super) fn new(admission: Admission, store: Arc<Store>, snapshot: Arc<Snapshot>, set: &PolicySet) -> Self {
        let registered = snapshot.policies().iter();
        let registered = registered.map(|policy| (policy.name().to_owned(), policy.looks()));
        let of_set = set.policies().map(|info| (info.metadata.name.clone(), info.looks));
        Self {
            looks: registered.chain(of_set).collect(),
            of_set: set
                .policies()
                .map(|info| (info.metadata.target, info.metadata.name.clone()))
                .collect(),
            admission,
            store,
            snapshot,
        }
    }

    /// Judges a request.
    pub(super) async fn judge(&self, asked: &Asked) -> Verdict {
        let review = &asked.review;
        let account = Who::account(&review.user.username);
        let is_supposed = review.user.uid == super::facts::SUPPOSED;
        let launcher = account.map(|account| (account, is_supposed));
        let asking = Arc::new(Asking::new(Arc::clone(&self.store), launcher));
        let admission = self.admission.over(asking.clone());
        let answers = admission.every(review, Instant::now() + OBJECT_TIME).await;
        if !asked.knows_user {
            asking.miss(Need::Launcher, "who asks");
        }
        let missing = asking.missing();
        let mut verdict = Verdict {
            found: of_schema(review),
            ..Verdict::default()
        };
        self.not_judged(review, &answers, &missing, &mut verdict.not_judged);
        let left_out: BTreeSet<String> = verdict.not_judged.iter().map(|one| one.policy.clone()).collect();
        for Answer { webhook, mut decision } in answers {
            let Decision {
                denials,
                warnings,
                audits,
                ..
            } = &mut decision;
            for (level, list) in [(Level::Deny, denials), (Level::Warn, warnings), (Level::Audit, audits)] {
                list.retain(|violation| !left_out.contains(&violation.policy));
                verdict.found.extend(list.iter().map(|violation| Found {
                    level,
                    webhook: webhook.clone(),
                    violation: violation.clone(),
                }));
            }
            if let Some(fault) = &decision.fault {
                verdict.faults.push(format!("{}: {}", fault.message, fault.fix));
            }
            verdict.answers.push(Answer { webhook, decision });
        }
        verdict
    }

    /// The rules and policies that are asked about a request and miss a fact.
    fn not_judged(
        &self,
        review: &Review,
        answers: &[Answer],
        missing: &BTreeSet<Missing>,
        found: &mut BTreeSet<NotJudged>,
    ) {
        let doors = doors(review, answers);
        let mut miss = |policy: &str, needs: &[Need]| {
            let of_it = missing.iter().filter(|missing| needs.contains(&missing.need));
            for Missing { need, what } in of_it {
                let by = if *need == Need::Launcher && what == "who asks" {
                    "--as"
                } else {
                    "--context"
                };
                add(found, policy, what, by);
            }
        };
        for rule in RULES
            .iter()
            .filter(|rule| rule.doors.iter().any(|door| doors.contains(door)))
        {
            miss(rule.name, rule.needs);
        }
        for (target, name) in &self.of_set {
            let door = match target {
                Target::Pod => Door::Template,
                Target::Namespace => Door::Mode,
                Target::Object => continue,
            };
            if doors.contains(&door) {
                miss(name, &self.needs(name));
            }
        }
        let matching = self.snapshot.matching(None, &occasion(review));
        for one in &matching {
            let mut needs = self.needs(one.name());
            if one.selects_namespaces() {
                needs.push(Need::Namespace);
            }
            miss(one.name(), &needs);
        }
        if self.store.inventory().is_none() {
            for one in matching.iter().filter(|one| !one.inventory().is_empty()) {
                add(found, one.name(), "data.inventory", "--inventory");
            }
        }
    }

    /// The facts that a policy may look at.
    fn needs(&self, name: &str) -> Vec<Need> {
        let looks = self.looks.get(name).copied().unwrap_or_default();
        let all = [
            (looks.namespace, Need::Namespace),
            (looks.workflow, Need::Workflow),
            (looks.class, Need::Class),
            (looks.user, Need::Launcher),
        ];
        let of_rule = rule_of(name).map_or(&[][..], |rule| rule.needs);
        let needs = all.into_iter().filter(|(looks, _)| *looks).map(|(_, need)| need);
        needs.chain(of_rule.iter().copied()).collect()
    }
}

/// What the API server itself would say of one of our kinds, before it asks any webhook.
fn of_schema(review: &Review) -> Vec<Found> {
    let Some(object) = review.object().filter(|_| review.kind.group == GROUP) else {
        return Vec::new();
    };
    let kind = review.kind.kind.as_str();
    let api_version = format!("{GROUP}/{}", review.kind.version);
    let problems = match schema::schema_of(kind).filter(|_| api_version == API_VERSION) {
        Some(schema) => {
            // As the API server does with a null where none is allowed.
            let object = without_nulls(object.clone());
            schema::problems(schema, object.get("spec").unwrap_or(&Value::Null), "spec")
        }
        None => vec![format!("apiVersion: there is no {kind} of {api_version}")],
    };
    let found = problems.into_iter().map(|problem| {
        let (path, message) = problem.split_once(": ").unwrap_or(("", &problem));
        Found {
            level: Level::Deny,
            webhook: SERVER.to_owned(),
            violation: Violation {
                policy: SCHEMA.to_owned(),
                path: path.to_owned(),
                value: None,
                message: message.to_owned(),
                fix: format!("correct it: kubectl explain {} shows the fields", kind.to_lowercase()),
            },
        }
    });
    found.collect()
}

fn add(found: &mut BTreeSet<NotJudged>, policy: &str, what: &str, by: &'static str) {
    let before = found.iter().find(|one| one.policy == policy && one.by == by).cloned();
    let mut one = before.as_ref().cloned().unwrap_or_else(|| NotJudged {
        policy: policy.to_owned(),
        needs: BTreeSet::new(),
        by,
    });
    if let Some(before) = before {
        found.remove(&before);
    }
    one.needs.insert(what.to_owned());
    found.insert(one);
}

/// What a request is to the rules, by the webhooks that are asked about it.
fn doors(review: &Review, answers: &[Answer]) -> BTreeSet<Door> {
    let mut doors = BTreeSet::new();
    for Answer { webhook, .. } in answers {
        match webhook.as_str() {
            "kinds" => doors.extend([Door::Declaration]),
            "modes" => doors.extend([Door::Mode]),
            "bindings" => doors.extend([Door::Binding]),
            "fence" if matches!(fence::Door::of(review), Ok(Some(_))) => {
                doors.extend([Door::Beside]);
                doors.extend((review.operation == Operation::Connect).then_some(Door::Connect));
            }
            "fence" if review.operation == Operation::Connect => doors.extend([Door::Connect]),
            "fence" | "label" => {
                let Ok(Some(subject)) = Subject::of(review) else {
                    continue;
                };
                let is_pod = review.kind.group.is_empty() && review.kind.kind == "Pod";
                let all = [
                    (subject.workflow().is_some(), Door::Labelled),
                    (subject.template().is_some(), Door::Template),
                    (is_pod && review.operation == Operation::Create, Door::Pod),
                    (is_pod && review.operation == Operation::Update, Door::Update),
                    (review.subresource == "ephemeralcontainers", Door::Connect),
                ];
                doors.extend(all.into_iter().filter(|(is, _)| *is).map(|(_, door)| door));
            }
            _ => {}
        }
    }
    doors
}

/// Policies that match like RegoPolicies, and what they see beside the request.
pub(super) struct Policies {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) store: Arc<Store>,
    pub(super) vetting: Vetting,
}

impl RegoPolicies for Policies {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn at_version<'a>(&'a self, _: EntryId, _: &'a str, _: Instant) -> BoxFuture<'a, Option<Arc<Snapshot>>> {
        Box::pin(std::future::ready(Some(self.snapshot())))
    }

    fn inventory(&self, kinds: &[InventoryKind], _: &str) -> Result<regorus::Value, String> {
        let given = self.store.inventory().ok_or("none was given")?;
        inventory_of(kinds, given)
    }

    fn vet(&self, object: Declared, deadline: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>> {
        // Whoever judges does so on a thread that may block.
        let left = deadline.saturating_duration_since(Instant::now());
        let vetted = self.vetting.compile_object(&object, left);
        let vetted = vetted.map(drop).map_err(|error| error.errors().to_vec());
        Box::pin(std::future::ready(vetted))
    }
}

impl Found {
    /// The object's value at its path, where it has one.
    pub(super) fn value(&self) -> Option<&str> {
        self.violation.value.as_deref()
    }
}

/// The text that a webhook sends with a refusal, and its warnings.
pub(super) fn sent(answer: &Answer, kind: &str) -> (Option<String>, Vec<String>) {
    let bytes = answer.decision.render("review", kind);
    let sent: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = sent.pointer("/response/status/message").and_then(Value::as_str);
    let warnings = sent.pointer("/response/warnings").and_then(Value::as_array);
    let warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
    (message.map(str::to_owned), warnings.map(str::to_owned).collect())
}
