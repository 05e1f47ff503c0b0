//! The versions of RegoPolicies that this replica has served a moment ago.
//!
//! A registration is made of what is served, and reaches the API server later. While policies change one after the other, requests name what is
//! over by then, and what is served now is never the newest for long: whoever waited for one or the other would wait until the changes end. Must
//! never: keep more than the last versions, or say that one was served that this replica could fall behind again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use crate::policy::EntryId;

/// How long a registration may take to reach the API server and what it is asked about.
const KEPT: Duration = Duration::from_secs(60);
/// Most versions: changes are gathered, some twenty times a second at most.
const MOST: usize = 512;

/// Of the policies that answer at each webhook.
type Versions = BTreeMap<EntryId, String>;

#[derive(Default)]
pub(super) struct Served(Mutex<VecDeque<(Instant, Versions)>>);

impl Served {
    /// These are served from now on.
    pub(super) fn note(&self, versions: &Versions) {
        let mut kept = self.lock();
        kept.push_back((Instant::now(), versions.clone()));
        while kept.len() > MOST {
            kept.pop_front();
        }
    }

    /// What is listed anew may be older than what was heard before.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Whether what is served now came after that version.
    pub(super) fn has(&self, id: EntryId, version: &str) -> bool {
        self.has_at(Instant::now(), id, version)
    }

    fn has_at(&self, now: Instant, id: EntryId, version: &str) -> bool {
        let kept = self.lock();
        // The newest is as old as it likes: it is still served.
        let over = kept.iter().zip(kept.iter().skip(1));
        let mut recent = over.filter(|(_, (until, _))| now.saturating_duration_since(*until) < KEPT);
        recent.any(|((_, versions), _)| versions.get(&id).is_some_and(|served| served == version))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, Versions)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(id: &str, version: &str) -> Versions {
        BTreeMap::from([(id.parse().expect("an id"), version.to_owned())])
    }

    const ONE: &str = "fail-0000000000000001";
    const OTHER: &str = "ignore-0000000000000002";

    #[test]
    fn what_was_served_a_moment_ago_is_known() {
        let (served, id): (_, EntryId) = (Served::default(), ONE.parse().unwrap());
        for version in ["a", "b", "c"] {
            served.note(&versions(ONE, version));
        }
        assert!(served.has(id, "a") && served.has(id, "b"));
        assert!(!served.has(id, "d") && !served.has(OTHER.parse().unwrap(), "a"));
        assert!(!served.has(id, "c"), "what is served now is compared with by itself");
        let later = Instant::now() + KEPT;
        assert!(!served.has_at(later, id, "a") && !served.has_at(later, id, "b"));
        served.forget();
        assert!(!served.has(id, "a"));
    }

    #[test]
    fn the_last_ones_are_kept() {
        let served = Served::default();
        for version in 0..=MOST {
            served.note(&versions(ONE, &version.to_string()));
        }
        let has = |version: usize| served.has(ONE.parse().unwrap(), &version.to_string());
        assert!(!has(0) && has(1) && has(MOST - 1));
        assert_eq!(served.lock().len(), MOST);
    }
}
