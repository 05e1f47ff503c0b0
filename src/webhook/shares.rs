//! What one namespace may take of what all of them share: room for bodies and for parsed reviews, evaluations at a time, and connections,
//! of which each review that waits holds one. Of each one user takes half, so that a launcher, and what controllers make, find some; but for the
//! room of parsed reviews, which the evaluations of it bound.
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
    of_users: Mutex<HashMap<(String, String), OfUser>>,
}

/// That of one namespace, as one user finds it. Permits outlive it.
pub(super) struct Share {
    user: OfUser,
    /// What all users have together.
    pub(super) all: Rooms,
}

/// The halves that one user may take.
#[derive(Clone)]
struct OfUser {
    /// In KiB.
    bodies: Arc<Semaphore>,
    evaluations: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
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
    evaluations: Arc<Semaphore>,
    /// Of whatever waits for its answer.
    in_flight: Arc<Semaphore>,
}

/// A place among a user's and one among all, until they are given back.
pub(super) struct Place {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// The room that a body takes, until its work ends.
pub(super) struct Body {
    _user: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

/// Where there is no room.
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

    /// Takes the room of a body. What is larger than a user's half counts as all of that, and comes alone: one body may always come, and
    /// leaves the other half to others.
    pub(super) fn body(&self, share: &Share, bytes: usize) -> Result<Body, Full> {
        let (most, kib) = (half(self.bodies), bytes.div_ceil(1024).max(1));
        let weight = u32::try_from(kib.min(most)).unwrap_or(u32::MAX);
        let take = |room: &Arc<Semaphore>, weight| Arc::clone(room).try_acquire_many_owned(weight);
        Ok(Body {
            _user: take(&share.user.bodies, weight).map_err(|_| Full::User)?,
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

    fn of_user(&self, place: &str, user: &str) -> OfUser {
        let key = (place.to_owned(), clip_bytes(user, MAX_USER).to_owned());
        let mut users = self.of_users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rooms) = users.get(&key) {
            return rooms.clone();
        }
        if users.len() >= REMEMBERED {
            users.retain(|_, rooms| rooms.each().into_iter().any(is_held));
        }
        let room = |all: usize| Arc::new(Semaphore::new(half(all)));
        let rooms = OfUser {
            bodies: room(self.bodies),
            evaluations: room(self.evaluations),
            in_flight: room(self.in_flight),
        };
        users.insert(key, rooms.clone());
        rooms
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

impl Share {
    /// A place among those that wait for their answers. Not waited for.
    pub(super) fn in_flight(&self) -> Result<Place, Full> {
        let take = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_owned();
        Ok(Place {
            _user: take(&self.user.in_flight).map_err(|_| Full::User)?,
            _all: take(&self.all.in_flight).map_err(|_| Full::Namespace)?,
        })
    }

    /// Waits for a place among those that are evaluated.
    pub(super) async fn evaluation(&self) -> Option<Place> {
        // One's own first: who waits for it takes no place from others.
        let user = Arc::clone(&self.user.evaluations).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all.evaluations).acquire_owned().await.ok()?;
        Some(Place { _user: user, _all: all })
    }
}

impl OfUser {
    fn each(&self) -> [&Arc<Semaphore>; 3] {
        [&self.bodies, &self.evaluations, &self.in_flight]
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

/// What one user may take.
fn half(all: usize) -> usize {
    (all / 2).max(1)
}

/// Who holds a permit, or waits for one, holds its semaphore.
fn is_held(room: &Arc<Semaphore>) -> bool {
    Arc::strong_count(room) > 1
}

#[cfg(test)]
mod tests;
