//! What one namespace may take of what all of them share: room for bodies and for parsed reviews, evaluations at a time, and connections,
//! of which each review that waits holds one. Of the room for bodies, which nobody waits for, one user takes half, so that a launcher finds some.
//!
//! Must never: make one namespace wait because another is busy, or hold on to namespaces or users that nobody asks about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;
use crate::review::clip_bytes;

/// How many namespaces, and how many users, are remembered before those that hold nothing are forgotten.
const REMEMBERED: usize = 256;
/// By how much of a name users are told apart: more than any certificate or token that somebody has says of them.
const MAX_USER: usize = 512;

/// The shares of all namespaces.
pub(super) struct Shares {
    bodies: usize,
    reviews: usize,
    evaluations: usize,
    in_flight: usize,
    of: Mutex<HashMap<String, Rooms>>,
    /// By namespace and user.
    of_users: Mutex<HashMap<(String, String), Arc<Semaphore>>>,
}

/// That of one namespace, as one user finds it. Permits outlive it.
pub(super) struct Share {
    /// In KiB: the half that bodies of one user may take.
    user: Arc<Semaphore>,
    /// What all users have together.
    pub(super) all: Rooms,
}

/// What a namespace has.
#[derive(Clone)]
pub(super) struct Rooms {
    /// In KiB.
    bodies: Arc<Semaphore>,
    /// One, for a body that counts less than it is.
    large: Arc<Semaphore>,
    /// In KiB.
    pub(super) reviews: Arc<Semaphore>,
    pub(super) evaluations: Arc<Semaphore>,
    /// Of whatever waits for its answer.
    pub(super) in_flight: Arc<Semaphore>,
}

/// The room that a body takes, until its work ends.
pub(super) struct Body {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

/// Where a body finds no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    /// Among those of its user.
    User,
    /// Among all of its namespace.
    Namespace,
}

impl Shares {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            bodies: limits.bodies_of_one.div_ceil(1024),
            reviews: limits.reviews_of_one.div_ceil(1024),
            evaluations: limits.evaluations_of_one,
            in_flight: limits.in_flight_of_one,
            of: Mutex::default(),
            of_users: Mutex::default(),
        }
    }

    /// What bodies of one user may take, in KiB.
    fn half(&self) -> usize {
        (self.bodies / 2).max(1)
    }

    /// Takes the room of a body. What is larger than a user's half counts as all of that, and comes alone: one body may always come, and
    /// leaves the other half to others.
    pub(super) fn body(&self, share: &Share, bytes: usize) -> Result<Body, Full> {
        let (most, kib) = (self.half(), bytes.div_ceil(1024).max(1));
        let weight = u32::try_from(kib.min(most)).unwrap_or(u32::MAX);
        let take = |room: &Arc<Semaphore>, weight| Arc::clone(room).try_acquire_many_owned(weight);
        Ok(Body {
            _user: take(&share.user, weight).map_err(|_| Full::User)?,
            _all: take(&share.all.bodies, weight).map_err(|_| Full::Namespace)?,
            _large: (kib > most)
                .then(|| take(&share.all.large, 1))
                .transpose()
                .map_err(|_| Full::Namespace)?,
        })
    }

    /// KiB of a parsed review that count, at most all that there is: one review may always come.
    pub(super) fn weight_parsed(&self, kib: usize) -> u32 {
        u32::try_from(kib.clamp(1, self.reviews)).unwrap_or(u32::MAX)
    }

    /// That of changes to a namespace itself: who may write in it takes nothing of it, and so keeps nobody from setting its class.
    pub(super) fn of_modes(&self, namespace: &str, user: &str) -> Share {
        // No namespace has such a name.
        self.share(format!("/{namespace}"), user)
    }

    /// That of a namespace. What lies in none is many people's and no tenant's own: each user has a share of it.
    pub(super) fn of(&self, namespace: &str, user: &str) -> Share {
        let place = match namespace {
            // Nor one like that.
            "" => format!("//{}", clip_bytes(user, MAX_USER)),
            namespace => namespace.to_owned(),
        };
        self.share(place, user)
    }

    fn share(&self, place: String, user: &str) -> Share {
        Share {
            user: self.of_user(&place, user),
            all: self.of_all(place),
        }
    }

    fn of_user(&self, place: &str, user: &str) -> Arc<Semaphore> {
        let key = (place.to_owned(), clip_bytes(user, MAX_USER).to_owned());
        let mut users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = users.get(&key) {
            return Arc::clone(room);
        }
        if users.len() >= REMEMBERED {
            users.retain(|_, room| is_held(room));
        }
        let room = Arc::new(Semaphore::new(self.half()));
        users.insert(key, Arc::clone(&room));
        room
    }

    fn of_all(&self, place: String) -> Rooms {
        let mut shares = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rooms) = shares.get(&place) {
            return rooms.clone();
        }
        if shares.len() >= REMEMBERED {
            shares.retain(|_, rooms| rooms.each().into_iter().any(is_held));
        }
        let rooms = Rooms {
            bodies: Arc::new(Semaphore::new(self.bodies)),
            large: Arc::new(Semaphore::new(1)),
            reviews: Arc::new(Semaphore::new(self.reviews)),
            evaluations: Arc::new(Semaphore::new(self.evaluations)),
            in_flight: Arc::new(Semaphore::new(self.in_flight)),
        };
        shares.insert(place, rooms.clone());
        rooms
    }
}

impl Rooms {
    fn each(&self) -> [&Arc<Semaphore>; 5] {
        [
            &self.bodies,
            &self.large,
            &self.reviews,
            &self.evaluations,
            &self.in_flight,
        ]
    }
}

/// Who holds a permit, or waits for one, holds its semaphore.
fn is_held(room: &Arc<Semaphore>) -> bool {
    Arc::strong_count(room) > 1
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

    fn body(shares: &Shares, namespace: &str, user: &str, kib: usize) -> Result<Body, Full> {
        shares.body(&shares.of(namespace, user), kib << 10)
    }

    #[tokio::test]
    async fn a_namespace_has_its_share_and_no_other_ones() {
        let shares = shares();
        let evaluations = |namespace: &str| shares.of(namespace, "ann").all.evaluations.try_acquire_owned();
        let held = evaluations("a").unwrap();
        assert!(evaluations("a").is_err());
        assert!(evaluations("b").is_ok());
        drop(held);
        assert!(evaluations("a").is_ok());
    }

    /// However much is written into a namespace, its class is set.
    #[tokio::test]
    async fn who_fills_a_namespaces_share_keeps_nobody_from_changing_the_namespace() {
        let shares = shares();
        let held = (
            body(&shares, "a", "ann", 2).unwrap(),
            body(&shares, "a", "bob", 2).unwrap(),
            shares.of("a", "ann").all.evaluations.try_acquire_owned().unwrap(),
        );
        assert_eq!(body(&shares, "a", "cat", 1).err(), Some(Full::Namespace));
        let changes = shares.of_modes("a", "ann");
        assert!(shares.body(&changes, usize::MAX).is_ok());
        assert!(changes.all.evaluations.try_acquire_owned().is_ok());
        // One namespace's changes wait for no other one's.
        let other = shares.of_modes("b", "ann").all.evaluations.try_acquire_owned();
        assert!(shares.of_modes("a", "ann").all.evaluations.try_acquire_owned().is_ok());
        drop((held, other));
    }

    /// Whatever somebody may write in no namespace, nobody else's is kept waiting by it.
    #[tokio::test]
    async fn what_lies_in_no_namespace_is_each_users_own() {
        let shares = shares();
        let held = shares.of("", "tess").all.evaluations.try_acquire_owned().unwrap();
        assert!(shares.of("", "tess").all.evaluations.try_acquire_owned().is_err());
        assert!(shares.of("", "admin").all.evaluations.try_acquire_owned().is_ok());
        // Nor is that of a namespace, or of its changes, however the user is called.
        for user in ["a", "/a", ""] {
            let of_user = shares.of("", user).all.evaluations.try_acquire_owned().unwrap();
            assert!(shares.of("a", "x").all.evaluations.try_acquire_owned().is_ok());
            assert!(shares.of_modes("a", "x").all.evaluations.try_acquire_owned().is_ok());
            drop(of_user);
        }
        drop(held);
    }

    #[tokio::test]
    async fn one_user_takes_half_of_a_namespaces_room_for_bodies() {
        let shares = shares();
        let held = [
            body(&shares, "a", "tess", 1).unwrap(),
            body(&shares, "a", "tess", 1).unwrap(),
        ];
        assert_eq!(body(&shares, "a", "tess", 0).err(), Some(Full::User));
        let other = body(&shares, "a", "lea", 2).unwrap();
        assert_eq!(body(&shares, "a", "eve", 0).err(), Some(Full::Namespace));
        assert!(body(&shares, "b", "tess", 2).is_ok());
        drop((held, other));
        assert!(body(&shares, "a", "tess", 2).is_ok());
    }

    #[tokio::test]
    async fn the_largest_body_comes_alone_and_leaves_half_to_others() {
        let shares = shares();
        let held = body(&shares, "a", "tess", 1 << 20).unwrap();
        assert_eq!(body(&shares, "a", "tess", 0).err(), Some(Full::User));
        assert_eq!(body(&shares, "a", "lea", 1 << 20).err(), Some(Full::Namespace));
        assert!(body(&shares, "a", "lea", 2).is_ok());
        drop(held);
        assert!(body(&shares, "a", "lea", 1 << 20).is_ok());
    }

    #[tokio::test]
    async fn the_heaviest_review_comes_alone() {
        let shares = shares();
        assert_eq!([0, 7, 9].map(|kib| shares.weight_parsed(kib)), [1, 7, 8]);
        let whole = shares.weight_parsed(usize::MAX);
        let reviews = |namespace: &str| shares.of(namespace, "ann").all.reviews;
        let held = reviews("a").try_acquire_many_owned(whole).unwrap();
        assert!(reviews("a").try_acquire_many_owned(1).is_err());
        assert!(reviews("b").try_acquire_many_owned(1).is_ok());
        drop(held);
    }

    #[tokio::test]
    async fn namespaces_and_users_that_hold_nothing_are_forgotten_and_others_are_not() {
        let shares = shares();
        let room = |at: usize| {
            let share = shares.of(&format!("holds-{at}"), "ann");
            [share.user]
                .iter()
                .chain(share.all.each())
                .nth(at)
                .map(Arc::clone)
                .unwrap()
        };
        let held = [0, 1, 2, 3, 4, 5].map(|at| {
            let room = room(at);
            let all = u32::try_from(room.available_permits()).unwrap();
            room.try_acquire_many_owned(all).unwrap()
        });
        for number in 0..10 * REMEMBERED {
            drop(shares.of(&format!("n{number}"), &format!("u{number}")));
        }
        assert!(shares.of.lock().unwrap().len() <= REMEMBERED + held.len());
        assert!(shares.of_users.lock().unwrap().len() <= REMEMBERED + held.len());
        for at in 0..held.len() {
            assert!(
                room(at).try_acquire_owned().is_err(),
                "holds-{at} still holds what it held"
            );
        }
    }
}
