//! Documents are read by one thread, judged by several, and told of in the order in which they stand in the input.
//!
//! Must never: hold more documents than are being judged, or let one that brings down its judge take the others along.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use anyhow::{Context as _, Result};

use super::{
    facts::Store,
    input::Input,
    judge::{Judge, Verdict, sent},
    judged::{Finding, Judged, Outcome, Sent, Trouble},
    object::{Who, asked, is_instruction, parts},
    places::Places,
};
use crate::{
    cli::documents::{Document, Problem, parse},
    vetting::STACK,
};

/// Most threads that judge.
const MAX_THREADS: usize = 8;
/// Threads for each core: one that judges waits while others evaluate its policies.
const FOR_EACH_CORE: usize = 2;
/// Most documents that are read ahead of the last one that was told of.
const WINDOW: usize = 256;
/// Most documents of one command.
const MAX_DOCUMENTS: usize = 100_000;
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

struct Job {
    number: usize,
    file: Arc<str>,
    document: Result<Document, Problem>,
}

/// How many documents were told of.
#[derive(Default)]
struct Told {
    count: Mutex<usize>,
    more: Condvar,
}

/// Judges every document of the inputs, and tells what comes of each.
pub(super) fn review(inputs: &[Input], work: &Work<'_>, tell: &mut dyn FnMut(Outcome) -> Result<()>) -> Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.saturating_mul(FOR_EACH_CORE).min(MAX_THREADS);
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let (done, finished) = channel();
    let waiting = Mutex::new(waiting);
    let told = Told::default();
    thread::scope(|scope| {
        let mut started = Vec::new();
        for _ in 0..threads {
            let (done, waiting) = (done.clone(), &waiting);
            let judging = move || judge_all(waiting, &done, work);
            // Documents that nest deeply take stack.
            let thread = thread::Builder::new().name("review".to_owned()).stack_size(STACK);
            started.push(
                thread
                    .spawn_scoped(scope, judging)
                    .context("no thread can be started to judge"),
            );
        }
        drop(done);
        let (reads, told_of) = (inputs, &told);
        // The sender goes with the thread: then there is nothing to wait for.
        let reading = scope.spawn(move || read_all(reads, &jobs, told_of));
        let outcome = tell_all(&finished, &told, tell);
        // Whatever could not be told of, nobody waits for it.
        told.end();
        drop(reading.join());
        started
            .into_iter()
            .try_for_each(|started| started.map(drop))
            .and(outcome)
    })
}

impl Told {
    fn one(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add(1);
        self.more.notify_all();
    }

    fn end(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) = usize::MAX;
        self.more.notify_all();
    }

    /// Waits until a document is within the window.
    fn wait_for(&self, number: usize) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let is_far = |count: &mut usize| number >= count.saturating_add(WINDOW);
        drop(self.more.wait_while(count, is_far));
    }
}

fn read_all(inputs: &[Input], jobs: &SyncSender<Job>, told: &Told) {
    let mut number = 0_usize;
    for input in inputs {
        let mut send = |document: Result<Document, Problem>| {
            told.wait_for(number);
            let job = Job {
                number,
                file: Arc::clone(&input.name),
                document,
            };
            number = number.saturating_add(1);
            jobs.send(job).is_ok() && number <= MAX_DOCUMENTS
        };
        match input.read() {
            Err(problem) => {
                if !send(Err(problem)) {
                    return;
                }
            }
            Ok(reading) => {
                for document in reading {
                    let line = document
                        .as_ref()
                        .map_or_else(|problem| problem.line, |document| document.line);
                    if !send(document) {
                        let message = format!(
                            "more than {MAX_DOCUMENTS} documents: review them in parts; what follows was not read"
                        );
                        send(Err(Problem::at(line, message)));
                        return;
                    }
                }
            }
        }
    }
}

fn judge_all(waiting: &Mutex<Receiver<Job>>, done: &Sender<(usize, Vec<Outcome>)>, work: &Work<'_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { number, file, document }) = job else {
            return;
        };
        let trouble = |problem: &Problem| vec![Outcome::Trouble(Trouble::of(&file, problem))];
        let outcomes = match (&runtime, document) {
            (_, Err(problem)) => trouble(&problem),
            (Err(error), Ok(document)) => trouble(&Problem::at(
                document.line,
                format!("cannot be judged: {}", error.kind()),
            )),
            (Ok(runtime), Ok(document)) => {
                let judge = AssertUnwindSafe(|| runtime.block_on(work.document(&file, &document)));
                catch_unwind(judge).unwrap_or_else(|_| {
                    let message = "this document brought down what judges it: please report it";
                    trouble(&Problem::at(document.line, message))
                })
            }
        };
        if done.send((number, outcomes)).is_err() {
            return;
        }
    }
}

fn tell_all(
    finished: &Receiver<(usize, Vec<Outcome>)>,
    told: &Told,
    tell: &mut dyn FnMut(Outcome) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0_usize;
    for (number, outcomes) in finished {
        early.insert(number, outcomes);
        while let Some(outcomes) = early.remove(&next) {
            outcomes.into_iter().try_for_each(&mut *tell)?;
            next = next.saturating_add(1);
            told.one();
        }
    }
    Ok(())
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
            Err(why) => return vec![trouble(document.line, why)],
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
