//! Names that were resolved, and for whom they are held: what could be reached stays within reach while no resolver answers. And for a moment
//! those that there are not.
//!
//! A namespace has a share of them: where all are taken, whoever wanted most loses those that it wanted longest ago. Must never: hold more than
//! there may be, or let one namespace push out what another wants.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::time::{Duration, Instant};

use super::resolve::NotResolved;
use crate::egress::Host;

/// How many names may be wanted, each counted for each namespace.
const MAX_WANTED: usize = 8192;
/// How long nobody asks again for what there is not, and of how many names that is known. Beyond it the oldest is asked for before its time.
const ABSENT: Duration = Duration::from_secs(5);
const MAX_ABSENT: usize = 4096;

/// Addresses of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) fresh_until: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Names {
    held: HashMap<Host, (Held, usize)>,
    /// When each namespace last wanted which.
    wanted: HashMap<String, HashMap<Host, Instant>>,
    all: usize,
}

impl Names {
    /// What is held of a name, which that namespace wants now.
    pub(super) fn get(&mut self, host: &Host, namespace: &str, now: Instant) -> Option<Held> {
        let held = self.held.get(host)?.0.clone();
        self.want(host, namespace, now);
        Some(held)
    }

    /// Holds a name for a namespace, and anew for all that want it.
    pub(super) fn hold(&mut self, host: &Host, namespace: &str, new: Held, now: Instant) {
        match self.held.get_mut(host) {
            Some((held, _)) => *held = new,
            None => drop(self.held.insert(host.clone(), (new, 0))),
        }
        self.want(host, namespace, now);
    }

    /// It is gone, for all.
    pub(super) fn forget(&mut self, host: &Host) {
        if self.held.remove(host).is_none() {
            return;
        }
        self.wanted.retain(|_, wanted| {
            self.all -= usize::from(wanted.remove(host).is_some());
            !wanted.is_empty()
        });
    }

    fn want(&mut self, host: &Host, namespace: &str, now: Instant) {
        if let Some(last) = self.wanted.get_mut(namespace).and_then(|wanted| wanted.get_mut(host)) {
            *last = now;
            return;
        }
        self.wanted
            .entry(namespace.to_owned())
            .or_default()
            .insert(host.clone(), now);
        self.all += 1;
        if let Some((_, wanted_by)) = self.held.get_mut(host) {
            *wanted_by += 1;
        }
        if self.all > MAX_WANTED {
            self.make_room();
        }
    }

    /// Takes half of them from whoever wants most, so that it is not asked for again at once.
    fn make_room(&mut self) {
        let Some(most) = self.wanted.values_mut().max_by_key(|wanted| wanted.len()) else {
            return;
        };
        let mut by_age: Vec<_> = most.iter().map(|(host, at)| (*at, host.clone())).collect();
        by_age.sort_by_key(|(at, _)| *at);
        for (_, host) in by_age.iter().take(by_age.len().div_ceil(2)) {
            most.remove(host);
            self.all -= 1;
            if let Some((_, wanted_by)) = self.held.get_mut(host) {
                *wanted_by -= 1;
                if *wanted_by == 0 {
                    self.held.remove(host);
                }
            }
        }
    }
}

/// Names without an address.
#[derive(Debug, Default)]
pub(super) struct Absent {
    why: HashMap<Host, NotResolved>,
    /// In the order in which they are asked for again.
    until: VecDeque<(Instant, Host)>,
}

impl Absent {
    /// Why there is none, if that is known.
    pub(super) fn get(&mut self, host: &Host, now: Instant) -> Option<NotResolved> {
        while self.until.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        self.why.get(host).copied()
    }

    pub(super) fn hold(&mut self, host: &Host, why: NotResolved, now: Instant) {
        if self.why.insert(host.clone(), why).is_some() {
            return;
        }
        self.until.push_back((now + ABSENT, host.clone()));
        if self.until.len() > MAX_ABSENT {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, host)) = self.until.pop_front() {
            self.why.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Host {
        Host::named(&format!("a{number}.example")).unwrap()
    }

    fn held(now: Instant) -> Held {
        Held {
            addresses: vec![[192, 0, 2, 1].into()],
            fresh_until: now,
        }
    }

    #[test]
    fn so_many_are_held_and_whoever_wants_most_loses_them() {
        let (mut names, start) = (Names::default(), Instant::now());
        let shared = name(0);
        for number in 0..100 {
            names.hold(&name(number), "victim", held(start), start);
        }
        for number in 0..3 * MAX_WANTED {
            let now = start + Duration::from_millis(number as u64);
            names.hold(&name(number), "greedy", held(now), now);
            let wanted: usize = names.wanted.values().map(HashMap::len).sum();
            assert_eq!((names.all, names.all <= MAX_WANTED), (wanted, true));
            assert!(names.held.len() <= MAX_WANTED);
        }
        // Those of the other stand, that which both wanted among them, and the newest of its own.
        for number in 0..100 {
            assert!(names.get(&name(number), "victim", start).is_some(), "{number}");
        }
        assert!(!names.wanted["greedy"].contains_key(&shared));
        let newest = name(3 * MAX_WANTED - 1);
        assert!(names.get(&newest, "greedy", start).is_some());
        names.forget(&newest);
        assert!(names.get(&newest, "greedy", start).is_none());
        let counted: usize = names.held.values().map(|(_, wanted_by)| wanted_by).sum();
        assert_eq!(counted, names.all);
    }

    #[test]
    fn what_there_is_not_is_known_for_a_moment_and_of_so_many() {
        let (mut absent, start) = (Absent::default(), Instant::now());
        absent.hold(&name(0), NotResolved::NoName, start);
        // All who asked at a time are told at a time.
        absent.hold(&name(0), NotResolved::NoName, start + ABSENT / 2);
        absent.hold(&name(1), NotResolved::NoAddress, start + ABSENT / 2);
        assert_eq!(absent.get(&name(0), start), Some(NotResolved::NoName));
        assert_eq!(absent.get(&name(2), start), None);
        assert_eq!(absent.get(&name(0), start + ABSENT), None, "it may be there by now");
        assert_eq!(absent.get(&name(1), start + ABSENT), Some(NotResolved::NoAddress));
        for number in 0..2 * MAX_ABSENT {
            absent.hold(&name(number), NotResolved::NoName, start + ABSENT);
            assert!(absent.why.len() == absent.until.len() && absent.why.len() <= MAX_ABSENT);
        }
        assert_eq!(absent.get(&name(0), start + ABSENT), None);
        assert!(absent.get(&name(2 * MAX_ABSENT - 1), start + ABSENT).is_some());
        assert_eq!(absent.get(&name(2 * MAX_ABSENT - 1), start + 2 * ABSENT), None);
        assert!(absent.why.is_empty());
    }
}
