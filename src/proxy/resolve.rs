//! Addresses of names, from the resolvers that this machine is told to ask, and nowhere else: no hosts file, no search list.
//!
//! A stub on `domain`'s messages, a few hundred lines, rather than a resolver library: those bring caches, runtimes and record types of their
//! own, most of a megabyte, and the C library's cannot be bounded. Must never: wait without a deadline, or hold more names than it may.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustls::crypto::SecureRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Duration, Instant, timeout};

use super::held::{Held, Names};
use crate::egress::{Asked, Family, Host, NotAnAnswer, Question, Reply};

const DNS: u16 = 53;
/// How long one resolver is waited for, and how often all of them are asked.
const ONE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// How many resolvers are asked, as the C library does.
const MAX_SERVERS: usize = 3;
/// Longest datagram that is read: more than is asked for.
const MAX_DATAGRAM: usize = 4096;
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
    servers: Vec<SocketAddr>,
    random: &'static dyn SecureRandom,
    names: Mutex<Names>,
}

impl Resolver {
    /// Asks these, in order. At least one.
    pub fn new(mut servers: Vec<SocketAddr>) -> Self {
        servers.truncate(MAX_SERVERS);
        Self {
            servers,
            random: random(),
            names: Mutex::default(),
        }
    }

    /// Addresses of a host, of both families, which that namespace wants.
    pub async fn resolve(&self, host: &Host, namespace: &str) -> Result<Vec<IpAddr>, NotResolved> {
        let now = Instant::now();
        let held = self.lock().get(host, namespace, now);
        let held = held.filter(|held| held.fresh_until + STALE > now);
        if let Some(held) = held.as_ref().filter(|held| held.fresh_until > now) {
            return Ok(held.addresses.clone());
        }
        let (four, six) = tokio::join!(self.ask(host, Family::V4), self.ask(host, Family::V6));
        match joined(four, six) {
            Ok((addresses, holds)) => {
                let fresh_until = now + holds.min(MAX_FRESH);
                let held = Held {
                    addresses: addresses.clone(),
                    fresh_until,
                };
                self.lock().hold(host, namespace, held, now);
                Ok(addresses)
            }
            Err(NotResolved::Failed(_) | NotResolved::TooLong | NotResolved::NoAnswer) if held.is_some() => {
                Ok(held.map(|held| held.addresses).unwrap_or_default())
            }
            Err(error) => {
                // It is gone, and not only out of reach.
                if matches!(error, NotResolved::NoName | NotResolved::NoAddress) {
                    self.lock().forget(host);
                }
                Err(error)
            }
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

    async fn ask(&self, host: &Host, family: Family) -> Result<Reply, NotResolved> {
        let mut failed = NotResolved::NoAnswer;
        for server in self.servers.iter().cycle().take(ROUNDS * self.servers.len()) {
            let question = Question::new(host, family, id(self.random).ok_or(NotResolved::NoAnswer)?);
            match timeout(ONE, ask(*server, &question)).await {
                Ok(Ok(Reply::Failed(code))) => failed = NotResolved::Failed(code),
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) if error.kind() == io::ErrorKind::FileTooLarge => failed = NotResolved::TooLong,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(failed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// From a port of its own, that the kernel chose, for each question.
async fn by_datagram<T>(
    server: SocketAddr,
    message: &[u8],
    read: impl Fn(&[u8]) -> Result<T, NotAnAnswer>,
) -> io::Result<T> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Somebody else's answer does not end the wait for the right one.
        if let Ok(reply) = read(buffer.get(..length).unwrap_or_default()) {
            return Ok(reply);
        }
    }
}

/// One that is longer than `most` is not read.
async fn by_stream<T>(
    server: SocketAddr,
    message: &[u8],
    most: usize,
    read: impl Fn(&[u8]) -> Result<T, NotAnAnswer>,
) -> io::Result<T> {
    let mut stream = TcpStream::connect(server).await?;
    // Resolvers keep it open, so it is closed from here, and the kernel would keep its port for a minute: some hundred questions a second would
    // leave none. Nothing is lost by a reset, since what was asked for has come, or is not waited for any more.
    stream.set_zero_linger()?;
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut buffer = vec![0; length];
    stream.read_exact(&mut buffer).await?;
    read(&buffer).map_err(|_| io::ErrorKind::InvalidData.into())
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
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_name_servers_are_read() {
        let text = "# nameserver 10.0.0.9\nsearch ai.svc.cluster.local\nnameserver 10.96.0.10\n\tnameserver  fd00::a\nnameserver x\noptions ndots:5\n";
        let expected = ["10.96.0.10:53", "[fd00::a]:53"].map(|server| server.parse().unwrap());
        assert_eq!(servers(text), expected);
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
            Resolver::new(vec![server]).resolve(&host, "ai").await
        };
        assert_eq!(resolved(MAX_LOOKED_UP).await, Err(NotResolved::NoAddress));
        assert_eq!(resolved(MAX_LOOKED_UP + 1).await, Err(NotResolved::TooLong));
        assert_eq!(
            NotResolved::TooLong.to_string(),
            "what the DNS resolver answers is longer than 32 KiB"
        );
    }

    /// A port that is left to the kernel is kept for a minute.
    #[tokio::test]
    async fn a_stream_to_a_resolver_leaves_nothing_behind() {
        let streams = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = streams.local_addr().unwrap();
        let answered = async {
            let (mut stream, _) = streams.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.write_all(&[0, 1, 7]).await.unwrap();
            stream.read_u8().await.unwrap_err().kind()
        };
        let read = |bytes: &[u8]| Ok(bytes.to_vec());
        let (asked, ended) = tokio::join!(by_stream(address, &[1], 9, read), answered);
        assert_eq!((asked.unwrap(), ended), (vec![7], io::ErrorKind::ConnectionReset));
        let silent = async {
            let (mut stream, _) = streams.accept().await.unwrap();
            stream.read_exact(&mut [0; 3]).await.unwrap();
            stream.read_u8().await.unwrap_err().kind()
        };
        let given_up = timeout(Duration::from_millis(200), by_stream(address, &[1], 9, read));
        let (given_up, ended) = tokio::join!(given_up, silent);
        assert!(given_up.is_err());
        assert_eq!(ended, io::ErrorKind::ConnectionReset);
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
