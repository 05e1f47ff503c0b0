//! Documents are read by one thread, worked on by several, and told of in the order in which they stand in the input.
//!
//! Must never: hold more documents than a window of them, read on when nobody is told any more, or let one that brings down its
//! worker take the others along.

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

use super::input::Input;
use crate::{
    cli::documents::{Document, Problem},
    vetting::STACK,
};

/// Most threads that work.
const MAX_THREADS: usize = 8;
/// Threads for each core: one that judges waits while others evaluate its policies.
const FOR_EACH_CORE: usize = 2;
/// Most documents that are read ahead of the last one that was told of.
const WINDOW: usize = 256;
/// Most documents of one command.
const MAX_DOCUMENTS: usize = 100_000;

struct Job {
    number: usize,
    file: Arc<str>,
    document: Result<Document, Problem>,
}

struct Done<T> {
    number: usize,
    file: Arc<str>,
    outcome: Result<T, Problem>,
}

/// How many documents were told of; none when nobody is told any more.
struct Told {
    count: Mutex<Option<usize>>,
    more: Condvar,
}

/// Lets every document of the inputs be worked on, and tells what comes of each. `start` makes what works in a thread.
pub(super) fn each<T, W>(
    inputs: &[Input],
    start: impl Fn() -> W + Sync,
    mut tell: impl FnMut(Arc<str>, Result<T, Problem>) -> Result<()>,
) -> Result<()>
where
    T: Send,
    W: FnMut(&Arc<str>, &Document) -> Result<T, Problem>,
{
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.saturating_mul(FOR_EACH_CORE).min(MAX_THREADS);
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let (done, finished) = channel();
    let waiting = Mutex::new(waiting);
    let told = Told {
        count: Mutex::new(Some(0)),
        more: Condvar::new(),
    };
    thread::scope(|scope| {
        let mut started = Vec::new();
        for _ in 0..threads {
            let (done, waiting, start) = (done.clone(), &waiting, &start);
            let working = move || work(waiting, &done, start());
            // Documents that nest deeply take stack.
            let thread = thread::Builder::new().name("review".to_owned()).stack_size(STACK);
            started.push(
                thread
                    .spawn_scoped(scope, working)
                    .context("no thread can be started to read documents"),
            );
        }
        drop(done);
        let (reads, told_of) = (inputs, &told);
        // The sender goes with the thread: then there is nothing to wait for.
        let reading = scope.spawn(move || read_all(reads, &jobs, told_of));
        let outcome = tell_all(&finished, &told, &mut tell);
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
        *count = count.map(|count| count.saturating_add(1));
        self.more.notify_all();
    }

    fn end(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.more.notify_all();
    }

    /// Waits until a document is within the window; false when nobody is told any more.
    fn wait_for(&self, number: usize) -> bool {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let is_far = |count: &mut Option<usize>| count.is_some_and(|count| number >= count.saturating_add(WINDOW));
        let count = self.more.wait_while(count, is_far);
        count.unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

fn read_all(inputs: &[Input], jobs: &SyncSender<Job>, told: &Told) {
    let mut number = 0_usize;
    let mut send = |file: &Arc<str>, document: Result<Document, Problem>| {
        let is_too_many = number >= MAX_DOCUMENTS;
        let document = if is_too_many {
            let line = document.map_or_else(|problem| problem.line, |document| document.line);
            let message =
                format!("more than {MAX_DOCUMENTS} documents: review them in parts; what follows was not read");
            Err(Problem::at(line, message))
        } else {
            document
        };
        let is_told = told.wait_for(number);
        let file = Arc::clone(file);
        let job = Job { number, file, document };
        number = number.saturating_add(1);
        is_told && jobs.send(job).is_ok() && !is_too_many
    };
    for input in inputs {
        let goes_on = match input.read() {
            Err(problem) => send(&input.name, Err(problem)),
            Ok(mut reading) => reading.all(|document| send(&input.name, document)),
        };
        if !goes_on {
            return;
        }
    }
}

fn work<T, W>(waiting: &Mutex<Receiver<Job>>, done: &Sender<Done<T>>, mut worker: W)
where
    W: FnMut(&Arc<str>, &Document) -> Result<T, Problem>,
{
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { number, file, document }) = job else {
            return;
        };
        let outcome = document.and_then(|document| {
            catch_unwind(AssertUnwindSafe(|| worker(&file, &document))).unwrap_or_else(|_| {
                let message = "this document brought down what reads it: please report it";
                Err(Problem::at(document.line, message))
            })
        });
        if done.send(Done { number, file, outcome }).is_err() {
            return;
        }
    }
}

fn tell_all<T>(
    finished: &Receiver<Done<T>>,
    told: &Told,
    tell: &mut impl FnMut(Arc<str>, Result<T, Problem>) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0_usize;
    for done in finished {
        early.insert(done.number, done);
        while let Some(done) = early.remove(&next) {
            tell(done.file, done.outcome)?;
            next = next.saturating_add(1);
            told.one();
        }
    }
    Ok(())
}
