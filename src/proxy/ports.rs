//! Local ports towards each address that is dialled, and whose they are.
//!
//! The kernel has some 28,000 of them for one address and port, and keeps one for a minute after its connection was closed: so few connections may
//! be open, and whoever opens and closes them takes what all others need who go to the same place. Must never: count a port as free that the
//! kernel still keeps, or hold more of them than may be: beyond that there are none, for whoever has most.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use super::places::{Most, Place, Places};
use crate::egress::Workflow;

/// How long the kernel keeps a port whose connection was closed from here (TIME_WAIT).
const KEPT: Duration = Duration::from_secs(60);
/// How many there are where the kernel does not say.
const USUAL: usize = 28_232;
/// How many are counted in all, towards wherever: each takes most of a kilobyte where it is towards a place of its own.
const MOST: usize = 1 << 17;

#[derive(Debug)]
pub(super) struct Ports {
    /// Towards one address and port.
    each: usize,
    all: Arc<Places>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    towards: HashMap<SocketAddr, Arc<Places>>,
    /// In the order in which they become free.
    leaving: VecDeque<(Instant, SocketAddr, Counted)>,
}

/// A place in all, and one towards an address.
#[derive(Debug)]
struct Counted {
    _in_all: Place,
    _towards: Place,
}

/// One of them, until it is dropped, and for a minute more where a connection was made by it.
#[derive(Debug)]
pub(super) struct Port {
    of: Arc<Ports>,
    towards: SocketAddr,
    counted: Option<Counted>,
    was_used: bool,
}

impl Ports {
    /// As many as this machine has.
    pub(super) fn of_this_machine() -> Arc<Self> {
        let range = std::fs::read_to_string(Path::new("/proc/sys/net/ipv4/ip_local_port_range"));
        Self::new(range.ok().and_then(|range| count(&range)).unwrap_or(USUAL), MOST)
    }

    fn new(each: usize, most: usize) -> Arc<Self> {
        Arc::new(Self {
            each,
            all: places(most),
            state: Mutex::default(),
        })
    }

    /// One for a connection to there, for a pod of a workflow. `None`: its namespace has as many as it may.
    pub(super) fn take(self: &Arc<Self>, towards: SocketAddr, pod: IpAddr, whose: &Arc<Workflow>) -> Option<Port> {
        let mut state = self.lock();
        state.let_go(Instant::now());
        let in_all = self.all.take(pod, Some(whose))?;
        let places = state.towards.entry(towards).or_insert_with(|| places(self.each));
        let counted = Counted {
            _towards: places.take(pod, Some(whose))?,
            _in_all: in_all,
        };
        Some(Port {
            of: Arc::clone(self),
            towards,
            counted: Some(counted),
            was_used: false,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pod may have as many as its namespace.
fn places(all: usize) -> Arc<Places> {
    Places::new(Most {
        all,
        of_one: all,
        of_strangers: 0,
    })
}

impl State {
    fn let_go(&mut self, now: Instant) {
        while let Some((at, ..)) = self.leaving.front() {
            if *at > now {
                return;
            }
            if let Some((_, towards, counted)) = self.leaving.pop_front() {
                self.free(towards, counted);
            }
        }
    }

    fn free(&mut self, towards: SocketAddr, counted: Counted) {
        drop(counted);
        if self.towards.get(&towards).is_some_and(|places| places.is_empty()) {
            self.towards.remove(&towards);
        }
    }
}

impl Port {
    /// That a connection was made by it.
    pub(super) fn used(mut self) -> Self {
        self.was_used = true;
        self
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let Some(counted) = self.counted.take() else { return };
        let (of, now) = (Arc::clone(&self.of), Instant::now());
        let mut state = of.lock();
        state.let_go(now);
        if self.was_used {
            state.leaving.push_back((now + KEPT, self.towards, counted));
        } else {
            state.free(self.towards, counted);
        }
    }
}

/// How many ports a range of the kernel's holds.
fn count(range: &str) -> Option<usize> {
    let mut ends = range.split_ascii_whitespace().map(str::parse::<usize>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.checked_sub(first)? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);
    const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 8443);

    fn of(namespace: &str) -> Arc<Workflow> {
        Arc::new(Workflow {
            namespace: namespace.to_owned(),
            name: "triage".to_owned(),
        })
    }

    fn all(ports: &Arc<Ports>, towards: SocketAddr, whose: &Arc<Workflow>) -> Vec<Port> {
        let pod = [10, 0, 0, 1].into();
        (0..1_000).map_while(|_| ports.take(towards, pod, whose)).collect()
    }

    #[test]
    fn a_range_is_counted_with_both_its_ends() {
        assert_eq!(count("32768\t60999\n"), Some(USUAL));
        assert_eq!(count("60999 32768"), None);
        assert_eq!(count("x"), None);
    }

    #[test]
    fn what_was_closed_is_taken_for_a_minute_more() {
        let ports = Ports::new(100, MOST);
        let (greedy, victim) = (of("greedy"), of("victim"));
        let held = all(&ports, HOST, &greedy);
        assert_eq!(held.len(), 50, "half");
        // Closed one by one, as many again would be opened.
        held.into_iter().for_each(|port| drop(port.used()));
        assert_eq!(all(&ports, HOST, &greedy).len(), 0);
        assert_eq!(all(&ports, OTHER, &greedy).len(), 50, "another port is another place");
        assert_eq!(all(&ports, HOST, &victim).len(), 25, "half of what is left");
        ports.lock().let_go(Instant::now() + KEPT);
        assert_eq!(all(&ports, HOST, &greedy).len(), 50);
        assert!(ports.lock().leaving.is_empty(), "none was used");
        assert!(ports.lock().towards.is_empty());
    }

    /// Whoever closes many elsewhere has its own counted for no shorter.
    #[test]
    fn so_many_are_counted_and_none_is_forgotten() {
        let ports = Ports::new(100, 200);
        let (greedy, victim, pod) = (of("greedy"), of("victim"), [10, 0, 0, 1].into());
        all(&ports, HOST, &greedy)
            .into_iter()
            .for_each(|port| drop(port.used()));
        let elsewhere = (0..1_000).map(|port| SocketAddr::new(HOST.ip(), port));
        let used: Vec<_> = elsewhere
            .map_while(|towards| ports.take(towards, pod, &greedy).map(Port::used))
            .collect();
        assert_eq!(used.len(), 50, "of all it has half, too");
        drop(used);
        assert!(all(&ports, OTHER, &greedy).is_empty() && all(&ports, HOST, &greedy).is_empty());
        assert_eq!(all(&ports, HOST, &victim).len(), 25);
        assert_eq!(ports.lock().leaving.len(), 100);
        ports.lock().let_go(Instant::now() + KEPT);
        assert_eq!(all(&ports, HOST, &greedy).len(), 50);
        let state = ports.lock();
        assert!(state.leaving.is_empty() && state.towards.is_empty() && ports.all.is_empty());
    }
}
