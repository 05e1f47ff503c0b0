//! Judges documents, several at a time, and tells what comes of each in the order in which they stand in the input.
//!
//! Must never: pass over a part of a document, or say of a finding that it stands where it does not.

use std::sync::Arc;

use anyhow::Result;

use super::{
    facts::Store,
    input::Input,
    judge::{Judge, Verdict, sent},
    judged::{Finding, Judged, Outcome, Sent, Trouble},
    object::{Who, asked, is_instruction, parts},
    ordered,
    places::Places,
};
use crate::cli::documents::{Document, Problem, parse};

/// Marks what Helm made a document of.
const SOURCE: &str = "# Source: ";

/// What documents are judged by.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) judge: &'a Judge,
    pub(super) store: &'a Arc<Store>,
    pub(super) who: &'a Who,
    pub(super) namespace: &'a str,
}

/// Judges every document of the inputs, and tells what comes of each.
pub(super) fn review(inputs: &[Input], work: &Work<'_>, tell: &mut dyn FnMut(Outcome) -> Result<()>) -> Result<()> {
    let judging = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        move |file: &Arc<str>, document: &Document| {
            let runtime = runtime
                .as_ref()
                .map_err(|error| Problem::at(document.line, format!("cannot be judged: {}", error.kind())))?;
            Ok(runtime.block_on(work.document(file, document)))
        }
    };
    ordered::each(inputs, judging, |file, outcomes: Result<Vec<Outcome>, Problem>| {
        let outcomes = outcomes.unwrap_or_else(|problem| vec![Outcome::Trouble(Trouble::of(&file, &problem))]);
        outcomes.into_iter().try_for_each(&mut *tell)
    })
}

impl Work<'_> {
    async fn document(&self, file: &Arc<str>, document: &Document) -> Vec<Outcome> {
        let trouble = |line: u32, message: String| Outcome::Trouble(Trouble::of(file, &Problem::at(line, message)));
        let value = match parse(document) {
            Ok(value) => value,
            Err(problem) => return vec![Outcome::Trouble(Trouble::of(file, &problem))],
        };
        if is_instruction(&value) {
            return vec![Outcome::LeftAside(format!("{file}:{}", document.line))];
        }
        let parts = match parts(value) {
            Ok(parts) => parts,
            Err(why) => return vec![trouble(document.line, why.to_owned())],
        };
        let mut outcomes = Vec::new();
        let mut places = None;
        for part in parts {
            let is_listed = !part.prefix.is_empty();
            let prefix = part.prefix.clone();
            let asked = match asked(part, &self.store.kinds, self.who, self.namespace) {
                Ok(asked) => asked,
                Err(why) => {
                    let places = places.get_or_insert_with(|| Places::of(document));
                    let line = places.line(&prefix).unwrap_or(document.line);
                    outcomes.push(trouble(line, why));
                    continue;
                }
            };
            let verdict = self.judge.judge(&asked).await;
            let needs_places = is_listed || !verdict.found.is_empty() || !verdict.faults.is_empty();
            let places = needs_places.then(|| &*places.get_or_insert_with(|| Places::of(document)));
            let line = places
                .and_then(|places| places.line(&asked.prefix))
                .unwrap_or(document.line);
            let faults = verdict.faults.iter();
            outcomes.extend(faults.map(|why| trouble(line, format!("could not be reviewed: {why}"))));
            let judged = judged(file, line, document, &asked, verdict, places);
            outcomes.push(Outcome::Judged(Box::new(judged)));
        }
        outcomes
    }
}

fn judged(
    file: &Arc<str>,
    line: u32,
    document: &Document,
    asked: &super::object::Asked,
    verdict: Verdict,
    places: Option<&Places<'_>>,
) -> Judged {
    let review = &asked.review;
    let (group, kind) = (review.kind.group.as_str(), review.kind.kind.as_str());
    let object = review.object();
    let of_object = places
        .zip(object)
        .and_then(|(places, object)| places.object(&asked.prefix, (group, kind), object));
    let mut findings: Vec<Finding> = Vec::new();
    for found in verdict.found {
        // Two webhooks may ask the same policy.
        let is_told = findings
            .iter()
            .any(|told| told.found.level == found.level && told.found.violation == found.violation);
        if !is_told {
            let place = of_object.as_ref().and_then(|places| places.find(&found.violation.path));
            findings.push(Finding { found, place });
        }
    }
    let source = document.text.lines().find_map(|line| line.strip_prefix(SOURCE));
    Judged {
        file: Arc::clone(file),
        line,
        source: source.map(str::to_owned),
        api_version: match group {
            "" => review.kind.version.clone(),
            group => format!("{group}/{}", review.kind.version),
        },
        kind: kind.to_owned(),
        namespace: review.namespace.clone(),
        name: match review.name() {
            "" => {
                let generated = object.and_then(|object| object.pointer("/metadata/generateName")?.as_str());
                format!("{}*", generated.unwrap_or_default())
            }
            name => name.to_owned(),
        },
        operation: review.operation.as_str(),
        answers: verdict
            .answers
            .iter()
            .map(|answer| {
                let (message, warnings) = sent(answer, kind);
                let excused = answer.decision.used().iter();
                Sent {
                    webhook: answer.webhook.clone(),
                    allowed: answer.decision.allowed(),
                    message,
                    warnings,
                    excused: excused
                        .map(|excuse| (excuse.exception.clone(), excuse.policy.clone()))
                        .collect(),
                }
            })
            .collect(),
        findings,
        not_judged: verdict.not_judged,
    }
}
