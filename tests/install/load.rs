//! Constant admission traffic with known right answers, through the real API server: pods that fit, and pods of an image that nobody
//! allowed, by turns and as dry runs. Each answer is counted as right, as lost, or as wrong.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use support::eventually;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::objects::{all, pod};
use crate::world::{Actor, Answer};

/// Twenty a second.
const PERIOD: Duration = Duration::from_millis(50);
/// A machine that cannot keep up is asked less often, or all would end at their deadlines.
const IN_FLIGHT: usize = 4;
/// A tally is of so many at least.
const ENOUGH: usize = 80;
/// So many of each kind that went wrong are told one by one.
const TOLD: usize = 8;
/// What an unfit pod is refused by.
const RULE: &str = "[approved-images]";

/// Traffic that goes on until it is stopped.
pub struct Load {
    counts: Arc<Mutex<Vec<Counted>>>,
    task: JoinHandle<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Counted {
    pub sent: Instant,
    pub took: Duration,
    pub outcome: Outcome,
    /// What the API server said.
    pub said: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Right,
    /// The API server got no answer from Ringfence: it fails closed, and the caller must try again.
    Lost,
    WronglyRefused,
    WronglyAdmitted,
    /// The API server itself did not answer: the caller, or Ringfence, which looks things up there.
    Unasked,
}

/// What became of those that were sent in a while.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    pub sent: usize,
    pub lost: Vec<Counted>,
    pub wrongly_refused: Vec<Counted>,
    pub wrongly_admitted: Vec<Counted>,
    pub unasked: Vec<Counted>,
    pub slowest: Duration,
}

impl Load {
    /// Of pods of the workflow `triage` in `namespace`, by one of its launchers.
    pub fn start(launcher: &Actor, namespace: &str) -> Self {
        let counts = Arc::new(Mutex::new(Vec::new()));
        let (launcher, kept) = (launcher.clone(), Arc::clone(&counts));
        let path = format!("{}?dryRun=All", all("Pod", namespace));
        let task = tokio::spawn(async move {
            let mut requests = JoinSet::new();
            let slots = Arc::new(Semaphore::new(IN_FLIGHT));
            let mut ticks = interval(PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0_u64.. {
                ticks.tick().await;
                let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
                let (launcher, path, kept) = (launcher.clone(), path.clone(), Arc::clone(&kept));
                requests.spawn(async move {
                    let counted = ask(&launcher, &path, number).await;
                    kept.lock().expect("no panic").push(counted);
                    drop(slot);
                });
                while requests.try_join_next().is_some() {}
            }
        });
        Self { counts, task }
    }

    /// What became of the requests that were sent since `since`, and of some more, so that there are enough to say something.
    pub async fn since(&self, since: Instant) -> Tally {
        eventually(Duration::from_secs(60), || async {
            let counts = self.counts.lock().expect("no panic");
            let answered = counts.iter().filter(|one| one.sent >= since).count();
            anyhow::ensure!(answered >= ENOUGH, "{answered} answers");
            Ok(())
        })
        .await;
        let now = Instant::now();
        eventually(Duration::from_secs(60), || async {
            let counts = self.counts.lock().expect("no panic");
            // One that was sent now is answered: those before it are too, or take as long as they may.
            let answered = counts.iter().any(|one| one.sent > now + Duration::from_secs(1));
            anyhow::ensure!(answered, "no answers any more");
            Ok(())
        })
        .await;
        let counts = self.counts.lock().expect("no panic");
        let mut tally = Tally {
            begun: since,
            sent: 0,
            lost: Vec::new(),
            wrongly_refused: Vec::new(),
            wrongly_admitted: Vec::new(),
            unasked: Vec::new(),
            slowest: Duration::ZERO,
        };
        for one in counts.iter().filter(|one| one.sent >= since && one.sent <= now) {
            tally.sent += 1;
            tally.slowest = tally.slowest.max(one.took);
            let list = match one.outcome {
                Outcome::Right => continue,
                Outcome::Lost => &mut tally.lost,
                Outcome::WronglyRefused => &mut tally.wrongly_refused,
                Outcome::WronglyAdmitted => &mut tally.wrongly_admitted,
                Outcome::Unasked => &mut tally.unasked,
            };
            list.push(one.clone());
        }
        tally
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tally {
    /// None lost, and none wrong.
    pub fn is_clean(&self, what: &str) {
        self.is_never_wrong(what);
        assert!(
            self.lost.is_empty() && self.unasked.is_empty(),
            "{what}: {}",
            self.said()
        );
    }

    /// The fence held, whatever was lost.
    pub fn is_never_wrong(&self, what: &str) {
        eprintln!("load: {what}: {}", self.said());
        assert!(
            self.sent >= 40,
            "{what}: too few requests to say anything: {}",
            self.sent
        );
        assert!(
            self.wrongly_admitted.is_empty() && self.wrongly_refused.is_empty(),
            "{what}: {}",
            self.said()
        );
    }

    pub fn said(&self) -> String {
        let mut said = format!(
            "{} sent, {} lost, {} wrongly refused, {} wrongly admitted, {} not answered by the API server, slowest {:?}",
            self.sent,
            self.lost.len(),
            self.wrongly_refused.len(),
            self.wrongly_admitted.len(),
            self.unasked.len(),
            self.slowest
        );
        for list in [&self.lost, &self.wrongly_refused, &self.wrongly_admitted, &self.unasked] {
            for one in list.iter().take(TOLD) {
                let _ = write!(
                    said,
                    "\n  {:?}, sent after {:?}, told {:?} later: {}",
                    one.outcome,
                    one.sent - self.begun,
                    one.took,
                    one.said
                );
            }
        }
        said
    }
}

async fn ask(launcher: &Actor, path: &str, number: u64) -> Counted {
    let fits = number.is_multiple_of(2);
    let mut asked = pod(&format!("load-{number}"), "triage");
    if !fits {
        asked["spec"]["containers"][0]["image"] = json!("registry.example.com/elsewhere/tool:1");
    }
    let sent = Instant::now();
    let (outcome, said) = match launcher.try_post(path, &asked).await {
        Ok(answer) => (outcome(fits, &answer), format!("{} {}", answer.code, answer.message())),
        Err(error) => (Outcome::Unasked, format!("{error:#}")),
    };
    Counted {
        sent,
        took: sent.elapsed(),
        outcome,
        said,
    }
}

fn outcome(fits: bool, answer: &Answer) -> Outcome {
    let said = answer.message();
    match answer.code {
        201 if fits => Outcome::Right,
        201 => Outcome::WronglyAdmitted,
        403 if !fits && said.contains("ringfence refused this") && said.contains(RULE) => Outcome::Right,
        500 if said.contains("failed calling webhook") => Outcome::Lost,
        503 if said.contains("could not be read from the API server: it did not answer") => Outcome::Unasked,
        _ if said.contains("denied the request") => Outcome::WronglyRefused,
        _ => Outcome::Unasked,
    }
}
