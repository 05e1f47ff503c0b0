//! Bounds of the proxy.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors beside those of connections: listeners, the API server, DNS.
const OTHER_FILES: u64 = 512;
/// A connection of a pod, and the one that is made for it.
const FILES_OF_ONE: u64 = 2;

/// Bounds of the proxy. What is beyond one is refused at once, and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of pods that are open at a time.
    pub connections: usize,
    /// How many of them are of one address.
    pub connections_of_one: usize,
    /// Connections that are being made: names asked for, addresses dialled, handshakes waited for. What they hold is more than what an open
    /// one does.
    pub starting: usize,
    /// How many of them are of one address. Whoever dials what does not answer waits for itself.
    pub starting_of_one: usize,
    /// How long a pod may be unknown by its address: its object is told of a moment after it starts.
    pub unknown: Duration,
    /// How long the head of a request may take, the wait for it included.
    pub head: Duration,
    /// How long a name may take to be resolved.
    pub resolve: Duration,
    /// How long all addresses of a name may take to be tried.
    pub dial: Duration,
    /// How long a TLS handshake may take to begin.
    pub hello: Duration,
    /// How long a connection may carry nothing.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_of_one: 1_000,
            starting: 2_048,
            starting_of_one: 256,
            unknown: Duration::from_secs(3),
            head: Duration::from_secs(15),
            resolve: Duration::from_secs(8),
            dial: Duration::from_secs(10),
            hello: Duration::from_secs(10),
            idle: Duration::from_secs(3600),
        }
    }
}

/// Lets this process open as many files as it may, and says how many of that many connections there is room for.
pub fn room_for(connections: usize) -> usize {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limits.maximum,
        Err(_) => limits.current,
    };
    let room = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES) / FILES_OF_ONE);
    connections.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}
