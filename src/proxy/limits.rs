//! Bounds of the proxy.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::dial::MAX_TRIED;
use super::places::Most;

/// File descriptors beside those of connections: listeners, the API server, DNS, and questions that are passed on.
const OTHER_FILES: usize = 896;
/// A connection of a pod, and the one that is made for it.
const FILES_OF_ONE: usize = 2;

/// Bounds of the proxy. What is beyond one is refused at once, and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of pods that are open at a time.
    pub connections: usize,
    /// How many of them are of one address.
    pub connections_of_one: usize,
    /// How many of them are of addresses that are no workflow's.
    pub connections_of_strangers: usize,
    /// How many of them speak HTTP, and are no tunnel yet, or never: what such a one holds is more than what a tunnel does.
    pub speaking: usize,
    /// How many of these are of one address.
    pub speaking_of_one: usize,
    /// Connections that are being made: names asked for, addresses dialled, handshakes waited for. What they hold is more than what an open
    /// one does.
    pub starting: usize,
    /// How many of them are of one address. Whoever dials what does not answer waits for itself.
    pub starting_of_one: usize,
    /// How many of them are of addresses that are no workflow's: they wait for somebody to know them.
    pub starting_of_strangers: usize,
    /// Tunnels in which bytes wait for an end that is slower, each direction by itself. What the kernel holds of one is 640 KiB at the most:
    /// all of them are three eighths of the 512 MiB that the chart lets the proxy have.
    pub waiting: usize,
    /// Requests of plain HTTP under way, until both they and their answer have gone through.
    pub plain: usize,
    /// How many of them are of one address.
    pub plain_of_one: usize,
    /// Hosts that are being looked up, for two questions each: what the cluster's DNS has under way is for all of the cluster, and is a thousand
    /// where kubeadm set it up.
    pub look_ups: usize,
    /// How many of them are of one address.
    pub look_ups_of_one: usize,
    /// Questions for names under way.
    pub names: usize,
    /// How many of them are of one address.
    pub names_of_one: usize,
    /// Connections for such questions; those of one address are an eighth of them.
    pub name_streams: usize,
    /// How many of either are of addresses that are no workflow's.
    pub names_of_strangers: usize,
    /// How long the cluster's DNS may take to answer: less than clients wait.
    pub name: Duration,
    /// How long a connection for names may say nothing.
    pub name_idle: Duration,
    /// How long one question, or one answer, may take on it.
    pub name_whole: Duration,
    /// How long a pod may be unknown by its address: its object is told of a moment after it starts.
    pub unknown: Duration,
    /// How long the head of a connection's first request may take, the wait for it included.
    pub head: Duration,
    /// The same of each further one: longer than clients keep a connection that is silent, for what they send in the moment in which it
    /// closes is lost.
    pub next_head: Duration,
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
            connections_of_strangers: 512,
            speaking: 4_096,
            speaking_of_one: 512,
            starting: 2_048,
            starting_of_one: 256,
            starting_of_strangers: 128,
            waiting: 300,
            plain: 1_000,
            plain_of_one: 64,
            look_ups: 256,
            look_ups_of_one: 64,
            names: 256,
            names_of_one: 32,
            name_streams: 64,
            names_of_strangers: 32,
            name: Duration::from_secs(4),
            name_idle: Duration::from_secs(10),
            name_whole: Duration::from_secs(2),
            unknown: Duration::from_secs(3),
            head: Duration::from_secs(15),
            next_head: Duration::from_secs(120),
            resolve: Duration::from_secs(8),
            dial: Duration::from_secs(10),
            hello: Duration::from_secs(10),
            idle: Duration::from_secs(3600),
        }
    }
}

impl Limits {
    pub(super) fn most_open(&self) -> Most {
        Most {
            all: self.connections,
            of_one: self.connections_of_one,
            of_strangers: self.connections_of_strangers,
        }
    }

    pub(super) fn most_speaking(&self) -> Most {
        Most {
            all: self.speaking,
            of_one: self.speaking_of_one,
            of_strangers: self.connections_of_strangers,
        }
    }

    pub(super) fn most_starting(&self) -> Most {
        Most {
            all: self.starting,
            of_one: self.starting_of_one,
            of_strangers: self.starting_of_strangers,
        }
    }

    /// Whoever looks a host up is known.
    pub(super) fn most_look_ups(&self) -> Most {
        Most {
            all: self.look_ups,
            of_one: self.look_ups_of_one,
            of_strangers: 0,
        }
    }

    pub(super) fn most_names(&self) -> Most {
        Most {
            all: self.names,
            of_one: self.names_of_one,
            of_strangers: self.names_of_strangers,
        }
    }

    pub(super) fn most_name_streams(&self) -> Most {
        Most {
            all: self.name_streams,
            of_one: self.name_streams.div_ceil(8),
            of_strangers: self.names_of_strangers,
        }
    }

    pub(super) fn most_plain(&self) -> Most {
        Most {
            all: self.plain,
            of_one: self.plain_of_one,
            of_strangers: self.starting_of_strangers,
        }
    }
}

impl Limits {
    /// As much of it as there are files for, of those that this process may open, which are as many as it may have from here on.
    pub fn within_files(self) -> Self {
        let limits = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limits.maximum,
            maximum: limits.maximum,
        };
        let files = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limits.maximum,
            Err(_) => limits.current,
        };
        let files = files
            .and_then(|files| usize::try_from(files).ok())
            .unwrap_or(usize::MAX);
        self.within(files.saturating_sub(OTHER_FILES))
    }

    /// A quarter of the files is for what is being made: each may dial all that it tries at a time.
    fn within(mut self, files: usize) -> Self {
        self.starting = self.starting.min(files / 4 / MAX_TRIED).max(1);
        let dialled = self.starting.saturating_mul(MAX_TRIED);
        let room = files.saturating_sub(dialled) / FILES_OF_ONE;
        self.connections = self.connections.min(room).max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_files_for_all_that_is_open_and_all_that_is_dialled() {
        let usual = Limits::default();
        for files in [0, 1, 100, 3_584, 20_000, 60_000, 1 << 20, usize::MAX] {
            let limits = Limits::default().within(files);
            let most = limits.connections * FILES_OF_ONE + limits.starting * MAX_TRIED;
            assert!(most <= files.max(FILES_OF_ONE + MAX_TRIED), "{files}: {limits:?}");
            assert!(limits.connections <= usual.connections && limits.starting <= usual.starting);
        }
        let ample = usual.clone().within(60_000);
        assert_eq!((ample.connections, ample.starting), (usual.connections, 1_875));
        let unbounded = usual.clone().within(usize::MAX);
        assert_eq!(
            (unbounded.connections, unbounded.starting),
            (usual.connections, usual.starting)
        );
    }
}
