//! Bytes between two connections, in both directions, until both have ended.
//!
//! Must never: hold a buffer for a connection that carries nothing, or for one whose other end takes nothing.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::task::coop::consume_budget;
use tokio::time::{Duration, Instant, sleep};

use super::waiting::Tunnel;

/// What is read at a time: so much that the calls to the kernel cost little.
const LARGE: usize = 64 << 10;
/// And where as many large buffers are taken as there are: so little that each connection can have it.
const SMALL: usize = 4 << 10;
/// Large buffers at a time.
const LARGE_AT_ONCE: usize = 256;

/// After how much that was moved it is looked whether the other end takes it: less is hardly worth the look.
const LOOKED_AT: u64 = 4 << 10;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Buffers of all connections.
#[derive(Debug)]
pub(super) struct Buffers(Semaphore);

impl Default for Buffers {
    fn default() -> Self {
        Self(Semaphore::new(LARGE_AT_ONCE))
    }
}

/// What a connection has carried.
#[derive(Debug)]
pub(super) struct Flow {
    began: Instant,
    /// When it last carried something, in milliseconds since it began.
    last: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }
}

impl Flow {
    /// Bytes that the pod has sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that the pod has received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// So many bytes more.
    pub(super) fn add(&self, direction: Direction, bytes: u64) {
        let carried = match direction {
            Direction::Sent => &self.sent,
            Direction::Received => &self.received,
        };
        carried.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn silent_since(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Moves bytes until both ends have ended their side, one of them fails, or nothing came for `idle`. Each end that ends its side is told to
/// the other, which may go on. `QuotaExceeded`: it has given way to other tunnels in which bytes wait.
pub(super) async fn relay(
    pod: &mut TcpStream,
    host: &mut TcpStream,
    buffers: &Buffers,
    flow: &Flow,
    waiting: &Tunnel,
    idle: Duration,
    count: impl Fn(Direction, u64),
) -> io::Result<()> {
    let (from_pod, to_pod) = pod.split();
    let (from_host, to_host) = host.split();
    let counted = |direction| {
        let count = &count;
        move |bytes| {
            flow.add(direction, bytes);
            count(direction, bytes);
        }
    };
    let (sent, received) = (counted(Direction::Sent), counted(Direction::Received));
    let both = async {
        tokio::try_join!(
            pump(from_pod, to_host, buffers, waiting, sent),
            pump(from_host, to_pod, buffers, waiting, received)
        )
    };
    tokio::select! {
        ended = both => ended.map(drop),
        () = waiting.gives_way() => Err(io::ErrorKind::QuotaExceeded.into()),
        () = silence(flow, idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Sent,
    Received,
}

async fn silence(flow: &Flow, idle: Duration) {
    loop {
        let left = idle.saturating_sub(flow.silent_since().elapsed());
        if left.is_zero() {
            return;
        }
        sleep(left).await;
    }
}

async fn pump(
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    buffers: &Buffers,
    waiting: &Tunnel,
    count: impl Fn(u64),
) -> io::Result<()> {
    let moved = AtomicU64::new(0);
    let count = |bytes| {
        moved.fetch_add(bytes, Ordering::Relaxed);
        count(bytes);
    };
    loop {
        from.readable().await?;
        let over = burst(&from, &mut to, buffers, waiting, count).await?;
        let is_ended = matches!(over, Burst::Ended);
        if is_ended || moved.load(Ordering::Relaxed) >= LOOKED_AT {
            moved.store(0, Ordering::Relaxed);
            look(&to)?;
        }
        // What the other end does not take stays in the kernel, which makes the sender wait.
        counted(to.writable(), waiting).await?;
        if is_ended {
            return to.shutdown().await;
        }
    }
}

/// Waits, and counts as one that waits if it does.
async fn counted<T>(wait: impl Future<Output = T>, waiting: &Tunnel) -> T {
    let mut wait = pin!(wait);
    if let Some(done) = wait.as_mut().now_or_never() {
        return done;
    }
    let _waits = waiting.waits();
    wait.await
}

/// Where what was written is not sent yet, it is writable no more until it is: the kernel takes more than the other end does.
fn look(to: &WriteHalf<'_>) -> io::Result<()> {
    let stream = to.as_ref();
    let looked = stream.try_io(Interest::WRITABLE, || {
        match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&AT_ONCE))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    match looked {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

/// Why a burst of bytes is over.
enum Burst {
    /// Nothing more is there now.
    Moved,
    /// Nothing more will come.
    Ended,
}

async fn burst(
    from: &ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    buffers: &Buffers,
    waiting: &Tunnel,
    count: impl Fn(u64),
) -> io::Result<Burst> {
    let large = buffers.0.try_acquire().ok();
    let mut buffer = Vec::with_capacity(if large.is_some() { LARGE } else { SMALL });
    loop {
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(Burst::Ended),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Burst::Moved),
            Err(error) => return Err(error),
        }
        let written = match to.try_write(&buffer) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        count(written as u64);
        if written < buffer.len() {
            let rest = buffer.split_off(written);
            // While the other end is slow, nothing is held but what it has not taken; and as long as that is much, it counts as what it is.
            drop(buffer);
            let _large = large.filter(|_| rest.len() > SMALL);
            counted(to.write_all(&rest), waiting).await?;
            count(rest.len() as u64);
            return Ok(Burst::Moved);
        }
        // Neither attempt counts to what a task may do before others have their turn.
        consume_budget().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::super::dial::{narrow, settle};
    use super::super::waiting::Waiting;
    use super::*;
    use crate::egress::Workflow;

    /// Two ends of one connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    fn whose() -> Arc<Workflow> {
        Arc::new(Workflow {
            namespace: "ai".to_owned(),
            name: "triage".to_owned(),
        })
    }

    struct Between {
        pod: TcpStream,
        host: TcpStream,
        relaying: tokio::task::JoinHandle<(io::Result<()>, u64, u64)>,
    }

    async fn between(idle: Duration) -> Between {
        let ((pod, mut near), (mut far, host)) = (pair().await, pair().await);
        let relaying = tokio::spawn(async move {
            let (buffers, flow) = (Buffers::default(), Flow::default());
            let waiting = Waiting::new(8).tunnel(&whose());
            let ended = relay(&mut near, &mut far, &buffers, &flow, &waiting, idle, |_, _| {}).await;
            (ended, flow.sent(), flow.received())
        });
        Between { pod, host, relaying }
    }

    #[tokio::test]
    async fn one_side_may_end_while_the_other_goes_on() {
        let Between {
            mut pod,
            mut host,
            relaying,
        } = between(Duration::from_secs(60)).await;
        pod.write_all(b"request").await.unwrap();
        pod.shutdown().await.unwrap();
        let mut request = Vec::new();
        host.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"request");
        for _ in 0..3 {
            host.write_all(b"answer").await.unwrap();
        }
        drop(host);
        let mut answer = Vec::new();
        pod.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answeransweranswer");
        let (ended, sent, received) = relaying.await.unwrap();
        assert_eq!((ended.is_ok(), sent, received), (true, 7, 18));
    }

    #[tokio::test]
    async fn much_goes_both_ways_at_once() {
        let Between { pod, host, relaying } = between(Duration::from_secs(60)).await;
        const MUCH: usize = 20 << 20;
        let sending = |stream: TcpStream| async move {
            let (mut read, mut write) = stream.into_split();
            let writing = tokio::spawn(async move {
                let chunk: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
                for _ in 0..MUCH >> 20 {
                    write.write_all(&chunk).await.unwrap();
                }
                write.shutdown().await.unwrap();
            });
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            writing.await.unwrap();
            let expected = (0..=250).cycle().take(1 << 20).cycle();
            assert!(
                got.len() == MUCH
                    && got
                        .iter()
                        .copied()
                        .zip(expected)
                        .all(|(got, expected): (u8, u8)| got == expected)
            );
        };
        tokio::join!(sending(pod), sending(host));
        assert!(relaying.await.unwrap().0.is_ok());
    }

    #[tokio::test]
    async fn silence_ends_it_and_bytes_put_that_off() {
        let idle = Duration::from_millis(400);
        let Between {
            mut pod,
            host: _host,
            relaying,
        } = between(idle).await;
        let began = Instant::now();
        for _ in 0..4 {
            sleep(idle / 2).await;
            pod.write_all(b"x").await.unwrap();
        }
        let (ended, sent, _) = relaying.await.unwrap();
        assert_eq!((ended.unwrap_err().kind(), sent), (io::ErrorKind::TimedOut, 4));
        assert!(began.elapsed() >= 3 * idle, "{:?}", began.elapsed());
    }

    /// The kernel's clock, which no test can set: a second in place of a minute.
    #[tokio::test]
    async fn an_end_that_takes_nothing_ends_it_and_one_that_takes_little_does_not() {
        let ((mut pod, mut near), (mut far, mut host)) = (pair().await, pair().await);
        narrow(&near).unwrap();
        settle(&near).unwrap();
        let within = Some(Duration::from_secs(1));
        socket2::SockRef::from(&near).set_tcp_user_timeout(within).unwrap();
        let relaying = tokio::spawn(async move {
            let waiting = Waiting::new(8).tunnel(&whose());
            let (buffers, flow, idle) = (Buffers::default(), Flow::default(), Duration::from_secs(60));
            relay(&mut near, &mut far, &buffers, &flow, &waiting, idle, |_, _| {}).await
        });
        let flood = tokio::spawn(async move { while host.write_all(&[7; 64 << 10]).await.is_ok() {} });
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..8 {
            sleep(Duration::from_millis(400)).await;
            pod.read_exact(&mut buffer).await.unwrap();
        }
        assert!(!relaying.is_finished());
        let ended = relaying.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(ended.raw_os_error().is_some(), "{ended}");
        flood.await.unwrap();
    }
}
