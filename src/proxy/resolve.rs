//! Addresses of names, from the resolvers that this machine is told to ask, and nowhere else: no hosts file, no search list.
//!
//! A stub on `domain`'s messages, a few hundred lines, rather than a resolver library: those bring caches, runtimes and record types of their
//! own, most of a megabyte, and the C library's cannot be bounded. Must never: wait without a deadline, or hold more names than it may.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use rustls::crypto::SecureRandom;
use tokio::time::{Duration, Instant, timeout};

use super::held::{Absent, Held, Names};
use super::look_ups::{Found, LookUps};
use super::places::Place;
use super::wire::{by_datagram, by_stream};
use crate::egress::{Asked, Family, Host, Question, Reply};

const DNS: u16 = 53;
/// How long one resolver is waited for, and how often all of them are asked.
const ONE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// How many resolvers are asked, as the C library does.
const MAX_SERVERS: usize = 3;
/// Longest answer of a look-up that is read from a stream: hundreds of addresses, which is more than is kept. Each look-up holds as much while it
/// is read, and whoever serves the name says how much that is.
const MAX_LOOKED_UP: usize = 32 << 10;
/// Longest answer that is passed on: as long as one can be, since the cluster's own DNS names each pod of a Service. How many wait for one at a
/// time is bounded, and how many of one pod.
const MAX_PASSED_ON: usize = u16::MAX as usize;
/// Longest that an answer is believed without asking again.
const MAX_FRESH: Duration = Duration::from_secs(300);
/// How long after that it is used where no resolver answers (RFC 8767): what could be reached stays within reach.
const STALE: Duration = Duration::from_secs(3600);

/// Why a host has no address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotResolved {
    /// There is no such name.
    #[error("there is no such name in DNS")]
    NoName,
    /// The name has no address.
    #[error("the name has no address in DNS")]
    NoAddress,
    /// Resolvers answer, and cannot tell.
    #[error("the DNS resolver cannot tell its address (code {0})")]
    Failed(u8),
    /// Resolvers answer with more than is read.
    #[error("what the DNS resolver answers is longer than {} KiB", MAX_LOOKED_UP >> 10)]
    TooLong,
    /// No resolver answers.
    #[error("no DNS resolver answers in time")]
    NoAnswer,
    /// Nobody has asked.
    #[error(
        "as many names are being looked up as may be, of this pod, of its namespace or in all: connect to fewer hosts at a time"
    )]
    TooMany,
}

/// By what a question goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    Datagram,
    Stream,
}

/// Asks resolvers, and remembers for a while.
#[derive(Debug)]
pub struct Resolver {
    servers: Arc<[SocketAddr]>,
    random: &'static dyn SecureRandom,
    names: Mutex<Names>,
    absent: Mutex<Absent>,
    look_ups: LookUps,
}

impl Resolver {
    /// Asks these, in order. At least one.
    pub fn new(mut servers: Vec<SocketAddr>) -> Self {
        servers.truncate(MAX_SERVERS);
        Self {
            servers: servers.into(),
            random: random(),
            names: Mutex::default(),
            absent: Mutex::default(),
            look_ups: LookUps::default(),
        }
    }

    /// Addresses of a host, of both families, which that namespace wants. `place`: for a look-up, where none is under way for the host.
    pub(super) async fn resolve(
        &self,
        host: &Host,
        namespace: &str,
        place: impl FnOnce() -> Option<Place>,
    ) -> Result<Vec<IpAddr>, NotResolved> {
        let now = Instant::now();
        if let Some(why) = lock(&self.absent).get(host, now) {
            return Err(why);
        }
        let held = lock(&self.names).get(host, namespace, now);
        let held = held.filter(|held| held.fresh_until + STALE > now);
        if let Some(held) = held.as_ref().filter(|held| held.fresh_until > now) {
            return Ok(held.addresses.clone());
        }
        let begin = || {
            let place = place().ok_or(NotResolved::TooMany)?;
            Ok(look_up(Arc::clone(&self.servers), self.random, host.clone(), place).boxed())
        };
        match self.look_ups.join(host, begin).await {
            Ok((addresses, fresh_until)) => {
                let held = Held {
                    addresses: addresses.clone(),
                    fresh_until,
                };
                lock(&self.names).hold(host, namespace, held, now);
                Ok(addresses)
            }
            Err(error @ (NotResolved::NoName | NotResolved::NoAddress)) => {
                // It is gone, and not only out of reach.
                lock(&self.names).forget(host);
                lock(&self.absent).hold(host, error, Instant::now());
                Err(error)
            }
            Err(error) => held.map(|held| held.addresses).ok_or(error),
        }
    }

    /// What the first resolver that answers says to a pod's question, by the way by which that came. `None`: none does.
    pub(super) async fn pass_on(&self, asked: &Asked, way: Way) -> Option<Vec<u8>> {
        for server in self.servers.iter().cycle().take(ROUNDS * self.servers.len()) {
            let id = id(self.random)?;
            let message = asked.onward(id);
            let read = |bytes: &[u8]| asked.passed_back(id, bytes, way == Way::Datagram);
            let passed_on = async {
                match way {
                    Way::Datagram => by_datagram(*server, &message, read).await,
                    Way::Stream => by_stream(*server, &message, MAX_PASSED_ON, read).await,
                }
            };
            if let Ok(Ok(reply)) = timeout(ONE, passed_on).await {
                return Some(reply);
            }
        }
        None
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for both families, and keeps its place for as long.
async fn look_up(servers: Arc<[SocketAddr]>, random: &'static dyn SecureRandom, host: Host, _place: Place) -> Found {
    let began = Instant::now();
    let (four, six) = tokio::join!(
        ask_all(&servers, random, &host, Family::V4),
        ask_all(&servers, random, &host, Family::V6)
    );
    joined(four, six).map(|(addresses, holds)| (addresses, began + holds.min(MAX_FRESH)))
}

async fn ask_all(
    servers: &[SocketAddr],
    random: &dyn SecureRandom,
    host: &Host,
    family: Family,
) -> Result<Reply, NotResolved> {
    let mut failed = NotResolved::NoAnswer;
    for server in servers.iter().cycle().take(ROUNDS * servers.len()) {
        let question = Question::new(host, family, id(random).ok_or(NotResolved::NoAnswer)?);
        match timeout(ONE, ask(*server, &question)).await {
            Ok(Ok(Reply::Failed(code))) => failed = NotResolved::Failed(code),
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => failed = NotResolved::TooLong,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(failed)
}

/// What two families come to: where one of them has addresses, nothing is wrong.
fn joined(
    four: Result<Reply, NotResolved>,
    six: Result<Reply, NotResolved>,
) -> Result<(Vec<IpAddr>, Duration), NotResolved> {
    let (mut addresses, mut holds, mut error) = (Vec::new(), Duration::MAX, None);
    for reply in [four, six] {
        match reply {
            Ok(Reply::Addresses(more, for_so_long)) => {
                addresses.extend(more);
                holds = holds.min(for_so_long);
            }
            Ok(Reply::NoName) => error = error.or(Some(NotResolved::NoName)),
            Ok(Reply::Failed(code)) => error = Some(NotResolved::Failed(code)),
            Ok(Reply::Nothing | Reply::Truncated) => {}
            Err(failed) => error = Some(failed),
        }
    }
    match addresses.is_empty() {
        false => Ok((addresses, holds)),
        true => Err(error.unwrap_or(NotResolved::NoAddress)),
    }
}

fn random() -> &'static dyn SecureRandom {
    rustls::crypto::ring::default_provider().secure_random
}

/// Whoever can guess it, and the port, can answer instead.
fn id(random: &dyn SecureRandom) -> Option<u16> {
    let mut id = [0; 2];
    random.fill(&mut id).ok()?;
    Some(u16::from_be_bytes(id))
}

/// Asks one resolver and no other, and remembers nothing. At most `most` addresses are kept. `None`: it does not answer in time.
pub async fn ask_one(server: SocketAddr, host: &Host, family: Family, most: usize) -> Option<Reply> {
    for _ in 0..ROUNDS {
        let question = Question::new(host, family, id(random())?).keeping(most);
        if let Ok(Ok(reply)) = timeout(ONE, ask(server, &question)).await {
            return Some(reply);
        }
    }
    None
}

async fn ask(server: SocketAddr, question: &Question) -> io::Result<Reply> {
    let message = question.ask().ok_or(io::ErrorKind::InvalidInput)?;
    let read = |bytes: &[u8]| question.read(bytes);
    match by_datagram(server, &message, read).await? {
        Reply::Truncated => by_stream(server, &message, MAX_LOOKED_UP, read).await,
        reply => Ok(reply),
    }
}

/// The resolvers of a file like `/etc/resolv.conf`.
pub fn system_servers(file: &Path) -> io::Result<Vec<SocketAddr>> {
    Ok(servers(&std::fs::read_to_string(file)?))
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and_then(|_| words.next())?;
        address.parse::<IpAddr>().ok()
    });
    named.map(|address| SocketAddr::new(address, DNS)).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UdpSocket};

    use super::super::Limits;
    use super::super::places::Places;
    use super::*;
    use crate::egress::Workflow;

    #[test]
    fn only_name_servers_are_read() {
        let text = "# nameserver 10.0.0.9\nsearch ai.svc.cluster.local\nnameserver 10.96.0.10\n\tnameserver  fd00::a\nnameserver x\noptions ndots:5\n";
        let expected = ["10.96.0.10:53", "[fd00::a]:53"].map(|server| server.parse().unwrap());
        assert_eq!(servers(text), expected);
    }

    fn whose() -> Arc<Workflow> {
        Arc::new(Workflow {
            namespace: "ai".to_owned(),
            name: "triage".to_owned(),
        })
    }

    fn place() -> Place {
        let most = Limits::default().most_look_ups();
        Places::new(most).take([10, 0, 0, 1].into(), Some(&whose())).unwrap()
    }

    /// Every answer by datagram is cut short, and the one by stream is as long as is said.
    async fn answering(length: u16) -> SocketAddr {
        let (datagrams, streams) = loop {
            let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(streams) = TcpListener::bind(datagrams.local_addr().unwrap()).await {
                break (datagrams, streams);
            }
        };
        let address = datagrams.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = datagrams.recv_from(&mut buffer).await {
                // It is an answer, and it is cut short.
                buffer[2] |= 0x82;
                datagrams.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = streams.accept().await {
                let asked = stream.read_u16().await.unwrap();
                let mut answer = vec![0; asked.into()];
                stream.read_exact(&mut answer).await.unwrap();
                // What stands behind an answer that says that it has nothing is not looked at.
                answer[2] |= 0x80;
                answer.resize(length.into(), 0);
                let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
                stream.write_all(&framed).await.ok();
            }
        });
        address
    }

    #[tokio::test]
    async fn an_answer_that_is_longer_than_any_is_worth_is_not_read() {
        let host = Host::named("a.example").unwrap();
        let resolved = async |length: usize| {
            let server = answering(length.try_into().unwrap()).await;
            let resolver = Resolver::new(vec![server]);
            resolver.resolve(&host, "ai", || Some(place())).await
        };
        assert_eq!(resolved(MAX_LOOKED_UP).await, Err(NotResolved::NoAddress));
        assert_eq!(resolved(MAX_LOOKED_UP + 1).await, Err(NotResolved::TooLong));
        assert_eq!(
            NotResolved::TooLong.to_string(),
            "what the DNS resolver answers is longer than 32 KiB"
        );
    }

    /// One that nobody waits for any more is asked for no more, and leaves its place.
    #[tokio::test]
    async fn who_wants_the_same_name_waits_for_the_same_answer() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::new(vec![silent.local_addr().unwrap()]);
        let places = Places::new(Limits::default().most_look_ups());
        let host = Host::named("a.example").unwrap();
        let place = || places.take([10, 0, 0, 1].into(), Some(&whose()));
        let one = || resolver.resolve(&host, "ai", place);
        let many = futures::future::join_all((0..100).map(|_| one()));
        // Whoever began goes before the others do.
        let (first, others) = tokio::join!(timeout(ONE / 2, one()), timeout(ONE + ONE / 2, many));
        assert!(first.is_err() && others.is_err());
        let (mut asked, mut buffer) = (0, [0; 512]);
        while silent.try_recv(&mut buffer).is_ok() {
            asked += 1;
        }
        assert_eq!(asked, 4, "of each family twice");
        assert!(places.is_empty());
        let refused = resolver.resolve(&host, "ai", || None).await;
        assert_eq!(refused, Err(NotResolved::TooMany), "none is under way any more");
    }

    #[tokio::test]
    async fn what_there_is_not_is_not_asked_for_at_once() {
        let host = Host::named("a.example").unwrap();
        let server = answering(MAX_LOOKED_UP.try_into().unwrap()).await;
        let resolver = Resolver::new(vec![server]);
        let none = Err(NotResolved::NoAddress);
        assert_eq!(resolver.resolve(&host, "ai", || Some(place())).await, none);
        assert_eq!(resolver.resolve(&host, "other", || None).await, none);
    }

    #[test]
    fn one_family_is_enough() {
        let address: IpAddr = [192, 0, 2, 1].into();
        let has = || Ok(Reply::Addresses(vec![address], Duration::from_secs(9)));
        let expected = Ok((vec![address], Duration::from_secs(9)));
        assert_eq!(joined(has(), Ok(Reply::Nothing)), expected);
        assert_eq!(joined(Err(NotResolved::NoAnswer), has()), expected);
        assert_eq!(joined(has(), Ok(Reply::Failed(2))), expected);
        assert_eq!(
            joined(Ok(Reply::Nothing), Ok(Reply::Nothing)),
            Err(NotResolved::NoAddress)
        );
        assert_eq!(joined(Ok(Reply::NoName), Ok(Reply::NoName)), Err(NotResolved::NoName));
        assert_eq!(
            joined(Ok(Reply::Nothing), Err(NotResolved::Failed(2))),
            Err(NotResolved::Failed(2))
        );
    }
}
