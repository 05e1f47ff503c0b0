//! Bounds of the admission server, and the deadline of a request.

use std::time::Duration;

use super::fetch::{LARGE_AT_ONCE, MAX_BYTES, MAX_OBJECT};
use super::server::UNREAD;
use crate::review::MAX_WEIGHT;

/// The registrations' own `timeoutSeconds`: what a caller gets who says nothing, and the most that is believed of one who says more. Whoever else
/// reaches the port must not hold a place for longer than the API server would.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A body that most reviews are smaller than: a common one has 10 KiB.
pub(super) const SMALL_BODY: usize = 1 << 20;
/// How often a review is in memory while it is judged: parsed, and converted for the policies, whose values weigh up to twice as
/// much.
pub(super) const COPIES: usize = 3;

/// What is set aside, with each review, for what the API server is asked about it: what most are told takes a tenth of it.
pub(super) const FACTS: usize = 1 << 20;

/// What the reviews of one namespace may hold: sixteen that are as large as usual, judged by policies.
const REVIEWS_OF_ONE: usize = 32 << 20;

/// Bounds of the admission server. Each is a constant of the product; tests make them small.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body. The API server takes objects of 3 MiB; escaping makes each byte six at worst (a `<` is `\u003c`),
    /// twice in an update, less what no real object reaches: 32 MiB.
    pub body: usize,
    /// What all bodies in flight above [`SMALL_BODY`] may hold together: two of the largest.
    pub bodies: usize,
    /// What all the others may hold together. Theirs alone: somebody who says that much will come, and sends nothing, must
    /// not keep an ordinary review out.
    pub small_bodies: usize,
    /// How long a body may take to arrive. The API server has it ready.
    pub arrival: Duration,
    /// What all reviews that are being judged may hold together, parsed and as policies see them, with what they ask the API server about;
    /// but for those above `reviews_of_one`.
    /// With `heavy`, `bodies` and what the process holds by itself it stays under the chart's memory limit.
    pub reviews: usize,
    /// What those above `reviews_of_one` may hold together: the heaviest, alone. Theirs alone: somebody who writes an object that is as heavy
    /// as can be must not take the room of everybody's.
    pub heavy: usize,
    /// How many reviews are evaluated at a time. The others wait, within their deadline.
    pub evaluations: usize,
    /// How many of them are of one namespace. One that floods, or is slow to judge, waits for itself.
    pub evaluations_of_one: usize,
    /// How many reviews of one namespace may be in flight, those that wait with it: each holds one of `connections`. One more is refused at
    /// once.
    pub in_flight_of_one: usize,
    /// What the bodies of one namespace may hold together, of small ones and large ones; those of one user half of it. What goes beyond is
    /// refused at once.
    pub bodies_of_one: usize,
    /// What the reviews of one namespace that are being judged may hold together, of `reviews`. What goes beyond waits, within its
    /// deadline. One review above it counts as all of it, and takes its room from `heavy`.
    pub reviews_of_one: usize,
    /// How many connections are held. An API server calls webhooks by HTTP/1.1, a connection for each review that it waits for. One more takes
    /// the place of one that waits for nothing, of the address that has most of those.
    pub connections: usize,
    /// How long a connection may say nothing at all, and how long the wait for a whole head may last. Longer than the 90 s for which an API
    /// server keeps one that it does not use: whoever closes first must be the caller, or a review that is just sent is lost with the
    /// connection.
    pub idle: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long requests in flight may take to finish at shutdown: the longest deadline, and a second to write.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            bodies: 64 << 20,
            small_bodies: 32 << 20,
            arrival: Duration::from_secs(5),
            reviews: REVIEWS_OF_ONE * 4,
            heavy: COPIES * MAX_WEIGHT,
            evaluations: 64,
            evaluations_of_one: 16,
            in_flight_of_one: 128,
            bodies_of_one: 8 << 20,
            reviews_of_one: REVIEWS_OF_ONE,
            connections: 512,
            idle: Duration::from_secs(120),
            handshake: Duration::from_secs(10),
            grace: TIMEOUT + Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// What requests in flight may hold together, in bytes, beside what policies take while they are evaluated.
    pub fn in_flight(&self) -> usize {
        let unread = self.connections.saturating_mul(UNREAD);
        let told = LARGE_AT_ONCE * (MAX_BYTES + MAX_OBJECT);
        self.bodies + self.small_bodies + self.reviews + self.heavy + unread + told
    }
}

/// How long the answer to a request may take: what its `timeout` parameter says, less what the way back needs. `None` if the
/// parameter is no duration.
pub(super) fn answer_within(query: Option<&str>) -> Option<Duration> {
    let parameter = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("timeout="));
    let timeout = match parameter {
        None => TIMEOUT,
        Some(text) => duration(text)?.min(TIMEOUT),
    };
    Some(less_margin(timeout))
}

/// The deadline where the parameter cannot be read.
pub(super) fn default_answer_within() -> Duration {
    less_margin(TIMEOUT)
}

/// A tenth, at most half a second: an answer that comes too late says nothing of what went wrong.
fn less_margin(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(Duration::from_millis(500)))
}

/// A duration as Go writes it: `5s`, `300ms`, `1m30s`, `1.5s`. `None` for anything else, and for none at all.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at_checked(number)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let scale = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += value.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(None, Some(4_500))]
    #[case::other_parameters(Some("a=b&timeout=4s&c=d"), Some(3_600))]
    #[case::seconds(Some("timeout=1s"), Some(900))]
    #[case::milliseconds(Some("timeout=300ms"), Some(270))]
    #[case::fraction(Some("timeout=1.5s"), Some(1_350))]
    #[case::mixed(Some("timeout=0m2s"), Some(1_800))]
    #[case::longer_than_ours(Some("timeout=6s"), Some(4_500))]
    #[case::longer_than_any(Some("timeout=1h"), Some(4_500))]
    #[case::no_unit(Some("timeout=5"), None)]
    #[case::zero(Some("timeout=0s"), None)]
    #[case::negative(Some("timeout=-5s"), None)]
    #[case::empty(Some("timeout="), None)]
    #[case::not_a_number(Some("timeout=...s"), None)]
    #[case::infinite(Some("timeout=99999999999999999999999999999999h"), None)]
    fn answers_come_before_the_caller_gives_up(#[case] query: Option<&str>, #[case] expected: Option<u64>) {
        let expected = expected.map(Duration::from_millis);
        assert_eq!(
            answer_within(query).map(|within| Duration::from_millis(within.as_millis() as u64)),
            expected
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", go in "([0-9.]{0,30}[hmsnu]{0,2}){0,3}") {
            let _ = (duration(&text), duration(&go));
        }
    }
}
