//! What one namespace may take of what all of them share: room for bodies and for parsed reviews, evaluations at a time, and connections,
//! of which each review that waits holds one.
//!
//! Must never: make one namespace wait because another is busy, or hold on to namespaces that nobody asks about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::Limits;

/// How many namespaces are remembered before those that hold nothing are forgotten.
const REMEMBERED: usize = 256;

/// The shares of all namespaces.
pub(super) struct Shares {
    bodies: usize,
    reviews: usize,
    evaluations: usize,
    in_flight: usize,
    of: Mutex<HashMap<String, Share>>,
}

/// That of one namespace. Permits outlive it.
#[derive(Clone)]
pub(super) struct Share {
    /// In KiB.
    pub(super) bodies: Arc<Semaphore>,
    /// In KiB.
    pub(super) reviews: Arc<Semaphore>,
    pub(super) evaluations: Arc<Semaphore>,
    /// Of whatever waits for its answer.
    pub(super) in_flight: Arc<Semaphore>,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            bodies: limits.bodies_of_one.div_ceil(1024),
            reviews: limits.reviews_of_one.div_ceil(1024),
            evaluations: limits.evaluations_of_one,
            in_flight: limits.in_flight_of_one,
            of: Mutex::default(),
        }
    }

    /// KiB of a body that counts, at most all that there is: one body may always come.
    pub(super) fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024).clamp(1, self.bodies)).unwrap_or(u32::MAX)
    }

    /// KiB of a parsed review that count, at most all that there is: one review may always come.
    pub(super) fn weight_parsed(&self, kib: u32) -> u32 {
        kib.clamp(1, u32::try_from(self.reviews).unwrap_or(u32::MAX))
    }

    /// That of changes to a namespace itself: who may write in it takes nothing of it, and so keeps nobody from setting its class.
    pub(super) fn of_modes(&self, namespace: &str) -> Share {
        // No namespace has such a name.
        self.of(&format!("/{namespace}"))
    }

    /// That of a namespace; what lies in none shares one.
    pub(super) fn of(&self, namespace: &str) -> Share {
        let mut shares = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(namespace) {
            return share.clone();
        }
        if shares.len() >= REMEMBERED {
            // Who holds a permit, or waits for one, holds its semaphore.
            let is_held = |share: &Share| {
                let all = [&share.bodies, &share.reviews, &share.evaluations, &share.in_flight];
                all.into_iter().any(|one| Arc::strong_count(one) > 1)
            };
            shares.retain(|_, share| is_held(share));
        }
        let share = Share {
            bodies: Arc::new(Semaphore::new(self.bodies)),
            reviews: Arc::new(Semaphore::new(self.reviews)),
            evaluations: Arc::new(Semaphore::new(self.evaluations)),
            in_flight: Arc::new(Semaphore::new(self.in_flight)),
        };
        shares.insert(namespace.to_owned(), share.clone());
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Shares {
        Shares::new(&Limits {
            bodies_of_one: 4 << 10,
            reviews_of_one: 8 << 10,
            evaluations_of_one: 1,
            ..Limits::default()
        })
    }

    #[tokio::test]
    async fn a_namespace_has_its_share_and_no_other_ones() {
        let shares = shares();
        let held = shares.of("a").evaluations.try_acquire_owned().unwrap();
        assert!(shares.of("a").evaluations.try_acquire_owned().is_err());
        assert!(shares.of("b").evaluations.try_acquire_owned().is_ok());
        drop(held);
        assert!(shares.of("a").evaluations.try_acquire_owned().is_ok());
    }

    /// However much is written into a namespace, its class is set.
    #[tokio::test]
    async fn who_fills_a_namespaces_share_keeps_nobody_from_changing_the_namespace() {
        let shares = shares();
        let whole = shares.weight(usize::MAX);
        let held = [
            shares.of("a").bodies.try_acquire_many_owned(whole).unwrap(),
            shares.of("a").evaluations.try_acquire_owned().unwrap(),
        ];
        assert!(shares.of("a").bodies.try_acquire_many_owned(1).is_err());
        let changes = shares.of_modes("a");
        assert!(changes.bodies.try_acquire_many_owned(whole).is_ok());
        assert!(changes.evaluations.try_acquire_owned().is_ok());
        // One namespace's changes wait for no other one's.
        let other = shares.of_modes("b").evaluations.try_acquire_owned();
        assert!(shares.of_modes("a").evaluations.try_acquire_owned().is_ok());
        drop((held, other));
    }

    #[tokio::test]
    async fn the_largest_body_comes_alone() {
        let shares = shares();
        assert_eq!([0, 1, 1025, usize::MAX].map(|bytes| shares.weight(bytes)), [1, 1, 2, 4]);
        let whole = shares.weight(usize::MAX);
        let held = shares.of("a").bodies.try_acquire_many_owned(whole).unwrap();
        assert!(shares.of("a").bodies.try_acquire_many_owned(1).is_err());
        drop(held);
    }

    #[tokio::test]
    async fn the_heaviest_review_comes_alone() {
        let shares = shares();
        assert_eq!([0, 7, 9].map(|kib| shares.weight_parsed(kib)), [1, 7, 8]);
        let whole = shares.weight_parsed(u32::MAX);
        let held = shares.of("a").reviews.try_acquire_many_owned(whole).unwrap();
        assert!(shares.of("a").reviews.try_acquire_many_owned(1).is_err());
        assert!(shares.of("b").reviews.try_acquire_many_owned(1).is_ok());
        drop(held);
    }

    #[tokio::test]
    async fn namespaces_that_hold_nothing_are_forgotten_and_others_are_not() {
        let shares = shares();
        let each: [fn(Share) -> Arc<Semaphore>; 4] = [
            |share| share.bodies,
            |share| share.reviews,
            |share| share.evaluations,
            |share| share.in_flight,
        ];
        let of = |at: usize| each[at](shares.of(&format!("holds-{at}")));
        let held = [0, 1, 2, 3].map(|at| {
            let room = of(at);
            let all = u32::try_from(room.available_permits()).unwrap();
            room.try_acquire_many_owned(all).unwrap()
        });
        for number in 0..10 * REMEMBERED {
            drop(shares.of(&format!("n{number}")));
        }
        assert!(shares.of.lock().unwrap().len() <= REMEMBERED + held.len());
        for at in 0..held.len() {
            assert!(
                of(at).try_acquire_owned().is_err(),
                "holds-{at} still holds what it held"
            );
        }
    }
}
