//! Tunnels in which bytes wait for an end that is slower than the other, counted: what they hold is the kernel's memory, which counts as the
//! proxy's own.
//!
//! A namespace has at most as many as are still free, as of all places, and the first of one that has none is in the eighth that is kept for
//! these. Beyond that, the one of its own that has waited longest ends. Must never: end a tunnel of a namespace for what another one does.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::places::has_room_for_one;
use crate::egress::Workflow;

#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: usize,
    next: u64,
    /// Of each namespace, in the order in which they began to wait.
    of: HashMap<String, BTreeMap<u64, Arc<Notify>>>,
}

/// One tunnel, which is told to end where there are too many.
#[derive(Debug)]
pub(super) struct Tunnel {
    of: Arc<Waiting>,
    whose: Arc<Workflow>,
    gives_way: Arc<Notify>,
}

/// One direction of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    tunnel: &'a Tunnel,
    number: u64,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
        })
    }

    pub(super) fn tunnel(self: &Arc<Self>, whose: &Arc<Workflow>) -> Tunnel {
        Tunnel {
            of: Arc::clone(self),
            whose: Arc::clone(whose),
            gives_way: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, namespace: &str, most: usize, of: &Arc<Notify>) -> u64 {
        let held = self.of.get(namespace).map_or(0, BTreeMap::len);
        if !has_room_for_one(held, self.all, most) {
            match self.of.get_mut(namespace).and_then(BTreeMap::pop_first) {
                Some((_, oldest)) => {
                    self.all -= 1;
                    oldest.notify_one();
                }
                // More namespaces than the eighth is for have one.
                None => of.notify_one(),
            }
        }
        self.next += 1;
        self.all += 1;
        match self.of.get_mut(namespace) {
            Some(waiting) => drop(waiting.insert(self.next, Arc::clone(of))),
            None => {
                let waiting = BTreeMap::from([(self.next, Arc::clone(of))]);
                self.of.insert(namespace.to_owned(), waiting);
            }
        }
        self.next
    }

    fn remove(&mut self, namespace: &str, number: u64) {
        let Some(waiting) = self.of.get_mut(namespace) else {
            return;
        };
        self.all -= usize::from(waiting.remove(&number).is_some());
        if waiting.is_empty() {
            self.of.remove(namespace);
        }
    }
}

impl Tunnel {
    /// That bytes wait in it from now on.
    pub(super) fn waits(&self) -> Wait<'_> {
        let mut state = self.of.lock();
        let number = state.add(&self.whose.namespace, self.of.most, &self.gives_way);
        Wait { tunnel: self, number }
    }

    /// Until it is to end.
    pub(super) async fn gives_way(&self) {
        self.gives_way.notified().await;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let tunnel = self.tunnel;
        tunnel.of.lock().remove(&tunnel.whose.namespace, self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn tunnels(waiting: &Arc<Waiting>, namespace: &str, many: usize) -> Vec<Tunnel> {
        let whose = Arc::new(Workflow {
            namespace: namespace.to_owned(),
            name: "triage".to_owned(),
        });
        (0..many).map(|_| waiting.tunnel(&whose)).collect()
    }

    fn ended(tunnels: &[Tunnel]) -> Vec<usize> {
        let ends = |tunnel: &Tunnel| tunnel.gives_way().now_or_never().is_some();
        (0..tunnels.len()).filter(|at| ends(&tunnels[*at])).collect()
    }

    #[test]
    fn whoever_has_waited_longest_gives_way_to_its_own_namespace() {
        let waiting = Waiting::new(8);
        let (greedy, victim) = (tunnels(&waiting, "greedy", 6), tunnels(&waiting, "victim", 3));
        let mut waits: Vec<_> = greedy.iter().take(4).map(Tunnel::waits).collect();
        assert!(ended(&greedy).is_empty(), "half of them");
        // It goes on, and waits again: others have waited longer.
        drop(waits.remove(0));
        waits.push(greedy[0].waits());
        let of_victim: Vec<_> = victim.iter().take(2).map(Tunnel::waits).collect();
        assert!(ended(&victim).is_empty(), "as many as are left");
        waits.push(greedy[4].waits());
        assert_eq!(ended(&greedy), [1]);
        let last = victim[2].waits();
        assert_eq!((ended(&victim), ended(&greedy)), (vec![0], vec![]));
        drop((waits, of_victim, last));
        let state = waiting.lock();
        assert!(state.all == 0 && state.of.is_empty());
    }

    #[test]
    fn what_others_do_ends_no_first_one() {
        let waiting = Waiting::new(64);
        let greedy: Vec<_> = (0..7)
            .map(|number| tunnels(&waiting, &format!("greedy-{number}"), 40))
            .collect();
        let waits: Vec<_> = greedy.iter().flatten().map(Tunnel::waits).collect();
        let victim = tunnels(&waiting, "victim", 2);
        let first = victim[0].waits();
        assert!(ended(&victim).is_empty());
        let second = victim[1].waits();
        assert_eq!(ended(&victim), [0], "others may have none");
        drop((waits, first, second));
        assert_eq!(waiting.lock().all, 0);
    }

    #[test]
    fn however_many_namespaces_there_are_so_many_wait() {
        let waiting = Waiting::new(2);
        let all: Vec<_> = ["a", "b", "c"].map(|of| tunnels(&waiting, of, 1).remove(0)).into();
        let waits: Vec<_> = all.iter().map(Tunnel::waits).collect();
        assert_eq!(ended(&all), [2]);
        drop(waits);
        assert_eq!(waiting.lock().all, 0);
    }
}
