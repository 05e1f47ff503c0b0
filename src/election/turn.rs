//! Whether a Lease is free, as seen from here, and what to write into it.
//!
//! Must never: compare the clocks of two machines. What a Lease says of times is for people; it is free when nobody has changed it for its
//! duration by our own clock, as with the Leases of Kubernetes' own components.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long a holder may be silent before another takes the Lease.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// The longest that another's Lease is believed: one that says more may be broken, and would keep everybody waiting.
const LONGEST: Duration = Duration::from_secs(120);

/// The Lease as it was last seen to change.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last: Option<(Change, Instant)>,
}

/// What a holder changes when it renews.
#[derive(Debug, Eq, PartialEq)]
struct Change {
    holder: Option<String>,
    renewed: Option<MicroTime>,
}

/// What to do about a Lease.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It is ours to write: nobody's, or not renewed in time, or our own from before.
    Take,
    /// That one holds it.
    Wait(String),
}

impl Seen {
    /// Looks at the Lease at that moment.
    pub(super) fn turn(&mut self, lease: &Lease, identity: &str, now: Instant) -> Turn {
        let spec = lease.spec.as_ref();
        let change = Change {
            holder: spec.and_then(|spec| spec.holder_identity.clone()),
            renewed: spec.and_then(|spec| spec.renew_time.clone()),
        };
        let since = match &self.last {
            Some((before, since)) if *before == change => *since,
            Some(_) | None => now,
        };
        let holder = change.holder.clone().unwrap_or_default();
        self.last = Some((change, since));
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let said = u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs);
        let duration = if said.is_zero() { DURATION } else { said.min(LONGEST) };
        if holder.is_empty() || holder == identity || now.saturating_duration_since(since) > duration {
            Turn::Take
        } else {
            Turn::Wait(holder)
        }
    }
}

/// The same Lease, held by us from now on, or renewed. The resource version stays, so that of two who write one fails.
pub(super) fn held(lease: &Lease, identity: &str, now: MicroTime) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    let is_ours = before.holder_identity.as_deref() == Some(identity);
    let transitions = before.lease_transitions.unwrap_or_default();
    let acquired = before.acquire_time.clone().filter(|_| is_ours);
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_ours {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before
        }),
        ..lease.clone()
    }
}

/// The same Lease, which the next one may take at once.
pub(super) fn given_up(lease: &Lease, now: MicroTime) -> Lease {
    let before = lease.spec.clone().unwrap_or_default();
    Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            renew_time: Some(now),
            ..before
        }),
        ..lease.clone()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn time(seconds: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(seconds).unwrap())
    }

    fn lease(holder: &str, renewed: i64) -> Lease {
        held(&Lease::default(), holder, time(renewed))
    }

    fn waits(holder: &str) -> Turn {
        Turn::Wait(holder.to_owned())
    }

    #[test]
    fn a_lease_of_nobody_is_taken() {
        let now = Instant::now();
        for free in [Lease::default(), given_up(&lease("a", 1), time(2))] {
            assert_eq!(Seen::default().turn(&free, "b", now), Turn::Take);
        }
    }

    #[test]
    fn a_lease_is_waited_for_as_long_as_its_holder_renews_it() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        for step in 0..100 {
            let now = start + DURATION * step;
            // The holder's clock goes backwards: only that it changes counts.
            let renewed = lease("a", 1_000_000 - i64::from(step));
            assert_eq!(seen.turn(&renewed, "b", now), waits("a"));
            assert_eq!(seen.turn(&renewed, "b", now + DURATION), waits("a"));
        }
    }

    #[test]
    fn a_lease_that_nobody_renews_is_taken_after_its_duration_and_not_before() {
        let (mut seen, now, dead) = (Seen::default(), Instant::now(), lease("a", 5));
        assert_eq!(seen.turn(&dead, "b", now), waits("a"), "however old it says that it is");
        assert_eq!(seen.turn(&dead, "b", now + DURATION), waits("a"));
        assert_eq!(
            seen.turn(&dead, "b", now + DURATION + Duration::from_millis(1)),
            Turn::Take
        );
    }

    #[test]
    fn a_lease_of_ones_own_is_taken_at_once() {
        assert_eq!(Seen::default().turn(&lease("a", 5), "a", Instant::now()), Turn::Take);
    }

    #[test]
    fn what_a_lease_says_of_its_duration_is_bounded() {
        for (said, believed) in [
            (i32::MAX, LONGEST),
            (-1, DURATION),
            (0, DURATION),
            (1, Duration::from_secs(1)),
        ] {
            let (mut seen, now, mut dead) = (Seen::default(), Instant::now(), lease("a", 5));
            dead.spec.as_mut().unwrap().lease_duration_seconds = Some(said);
            assert_eq!(seen.turn(&dead, "b", now), waits("a"));
            assert_eq!(seen.turn(&dead, "b", now + believed), waits("a"), "{said}");
            let later = now + believed + Duration::from_millis(1);
            assert_eq!(seen.turn(&dead, "b", later), Turn::Take, "{said}");
        }
    }

    #[test]
    fn what_is_written_keeps_what_others_wrote() {
        let mut first = lease("a", 1);
        first.metadata.resource_version = Some("7".to_owned());
        first.metadata.labels = Some([("x".to_owned(), "y".to_owned())].into());
        let renewed = held(&first, "a", time(2));
        assert_eq!(renewed.metadata, first.metadata);
        let (before, after) = (first.spec.clone().unwrap(), renewed.spec.unwrap());
        assert_eq!(
            (after.acquire_time, after.lease_transitions),
            (before.acquire_time, before.lease_transitions)
        );
        assert_eq!(after.renew_time, Some(time(2)));
        let taken = held(&first, "b", time(3)).spec.unwrap();
        assert_eq!((taken.acquire_time, taken.lease_transitions), (Some(time(3)), Some(2)));
    }

    proptest! {
        /// Whatever others write, and whenever it is looked at: a Lease is not taken from somebody who renews it in time.
        #[test]
        fn nobody_is_pushed_out(steps in prop::collection::vec((0..15_000_u64, any::<bool>()), 1..200)) {
            let (mut seen, start) = (Seen::default(), Instant::now());
            let (mut now, mut renewed, mut shown) = (0, 0, 0);
            for (wait, renews) in steps {
                now += wait;
                // The holder renews before its time is over, as it must.
                if renews || now - renewed > 10_000 {
                    renewed = now;
                    shown += 1;
                }
                let turn = seen.turn(&lease("a", shown), "b", start + Duration::from_millis(now));
                prop_assert_eq!(turn, waits("a"));
            }
        }
    }
}
