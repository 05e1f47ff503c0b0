//! Rounds of evaluations: each policy in turn about each request, beginning with another one each time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::inputs::policy_input;
use crate::fence::occasion;
use crate::policy::{PolicySet, Question, Snapshot};
use crate::review::Review;

/// Rounds that do not count: caches, and pages of memory.
const WARM_UP: usize = 3;
/// Fewest rounds that do.
const LEAST: usize = 10;
/// Most times that are kept of a policy.
const MOST: usize = 200_000;
/// How long one evaluation may take, as in a review.
const LIMIT: Duration = Duration::from_secs(10);

/// What was measured.
pub(super) struct Measured {
    pub(super) policies: BTreeMap<String, Times>,
    /// All policies that are asked about one request, and what they are asked made of it.
    pub(super) all: Times,
    /// That alone.
    pub(super) reading: Times,
    pub(super) requests: usize,
    pub(super) rounds: usize,
    pub(super) took: Duration,
}

impl Measured {
    fn new(requests: usize) -> Self {
        Self {
            policies: BTreeMap::new(),
            all: Times::default(),
            reading: Times::default(),
            requests,
            rounds: 0,
            took: Duration::ZERO,
        }
    }
}

/// What is measured.
pub(super) struct Policies {
    pub(super) set: PolicySet,
    /// Those that judge objects.
    pub(super) objects: Snapshot,
}

/// Times of evaluations, in nanoseconds.
#[derive(Default)]
pub(super) struct Times {
    pub(super) nanoseconds: Vec<u64>,
    pub(super) errors: usize,
    /// The first of them.
    pub(super) error: Option<String>,
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.nanoseconds.push(nanoseconds(time));
    }

    /// In order, for percentiles.
    fn sort(&mut self) {
        self.nanoseconds.sort_unstable();
    }

    /// Of times in order: that which so many of a hundred do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> u64 {
        let place = self
            .nanoseconds
            .len()
            .saturating_mul(percent)
            .div_ceil(100)
            .saturating_sub(1);
        self.nanoseconds.get(place).copied().unwrap_or_default()
    }

    pub(super) fn least(&self) -> u64 {
        self.nanoseconds.first().copied().unwrap_or_default()
    }

    pub(super) fn sum(&self) -> u64 {
        self.nanoseconds.iter().fold(0, |sum, time| sum.saturating_add(*time))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures for so long, or for [`LEAST`] rounds where those take longer.
pub(super) fn measure(
    policies: &Policies,
    inputs: &[Review],
    time: Duration,
    progress: &mut dyn FnMut(Duration),
) -> Measured {
    let mut warming = Measured::new(inputs.len());
    (0..WARM_UP).for_each(|turn| round(policies, inputs, turn, &mut warming));
    let mut measured = Measured::new(inputs.len());
    let begin = Instant::now();
    loop {
        let passed = begin.elapsed();
        let enough = passed >= time && measured.rounds >= LEAST;
        if enough || measured.all.nanoseconds.len() + inputs.len() > MOST {
            break;
        }
        if measured.rounds.is_multiple_of(16) {
            progress(passed);
        }
        round(policies, inputs, measured.rounds, &mut measured);
        measured.rounds += 1;
    }
    measured.took = begin.elapsed();
    measured.policies.values_mut().for_each(Times::sort);
    measured.all.sort();
    measured.reading.sort();
    measured
}

fn round(policies: &Policies, inputs: &[Review], turn: usize, measured: &mut Measured) {
    let Policies { set, objects } = policies;
    for review in inputs {
        let begin = Instant::now();
        let (input, occasion) = (policy_input(review), occasion(review));
        let asked = set.ask(&input);
        let matches = objects.matching(None, &occasion);
        let question = Question::new(matches, &input, &occasion, |_| {
            Err("there is no cluster to look at".to_owned())
        });
        let reading = begin.elapsed();
        let of_set = set.names(&asked).count();
        let count = of_set + question.matches().len();
        if count == 0 {
            continue;
        }
        let mut all = reading;
        for number in 0..count {
            let number = (number + turn) % count;
            let verdict = match number.checked_sub(of_set) {
                None => set.judge(&asked, number, LIMIT),
                Some(number) => question.judge(number, LIMIT),
            };
            let Some(verdict) = verdict else { continue };
            all += verdict.duration;
            let times = measured.policies.entry(verdict.policy).or_default();
            times.add(verdict.duration);
            if let Err(error) = verdict.outcome {
                times.errors += 1;
                times.error.get_or_insert_with(|| error.to_string());
            }
        }
        measured.reading.add(reading);
        measured.all.add(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_times_that_were_measured() {
        let mut times = Times {
            nanoseconds: (1..=200).rev().collect(),
            ..Times::default()
        };
        times.sort();
        assert_eq!(
            [1, 50, 99, 100].map(|percent| times.percentile(percent)),
            [2, 100, 198, 200]
        );
        assert_eq!((times.least(), times.sum()), (1, 20_100));
        let one = Times {
            nanoseconds: vec![7],
            ..Times::default()
        };
        assert_eq!([0, 50, 99].map(|percent| one.percentile(percent)), [7, 7, 7]);
        assert_eq!(Times::default().percentile(99), 0);
    }
}
