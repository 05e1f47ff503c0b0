//! Connections to the addresses of a name: the first that answers.
//!
//! Must never: connect to an address that it was not given.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, Instant, sleep, timeout_at};

/// How long an address is waited for before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);
/// How many addresses are tried, at the most all at a time.
pub(super) const MAX_TRIED: usize = 8;
/// After how long of silence, and how often, the other end is asked whether it is there: middleboxes forget what is silent for minutes.
const SILENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// How long an end may take nothing while bytes wait for it. The kernel looks, and goes on looking once a connection was closed.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// What may be written and not sent yet. The kernel cuts pieces of at most 64 KiB, and one may go beyond it.
const UNSENT: u32 = 8 << 10;
/// What the kernel may hold of a connection in either direction: within the cluster an answer is near, out of it what is on its way is more.
/// Linux doubles what is set, for what it takes to hold bytes.
const WITHIN: u32 = 64 << 10;
const OUTWARD: u32 = 256 << 10;

/// Connects to the first of the addresses that answers, tried in this order.
pub(super) async fn connect(addresses: Vec<IpAddr>, port: u16, within: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + within;
    let attempts = timeout_at(deadline, race(addresses, port));
    attempts.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn race(addresses: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut attempts = FuturesUnordered::new();
    let mut waiting = addresses.into_iter();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(dial(SocketAddr::new(address, port)));
        }
        let has_more = waiting.len() > 0;
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failed = error,
                None => return Err(failed),
            },
            () = sleep(HEAD_START), if has_more => {}
        }
    }
}

async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // What the window may become is said when a connection begins.
    socket.set_recv_buffer_size(OUTWARD)?;
    socket.set_send_buffer_size(OUTWARD)?;
    socket.connect(to).await
}

/// Those that are tried: IPv4 first, then both in turn, because where one family leads nowhere the other is the second then.
pub(super) fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = four.len().max(six.len());
    let at = |index: usize| [four.get(index), six.get(index)].into_iter().flatten().copied();
    (0..longest).flat_map(at).take(MAX_TRIED).collect()
}

/// Little memory of the kernel's.
pub(super) fn narrow(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_recv_buffer_size(WITHIN as usize)?;
    socket.set_send_buffer_size(WITHIN as usize)
}

/// No waiting for more to send, a sign of life from time to time, and an end for what is not taken.
pub(super) fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(INTERVAL)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(Some(TAKEN_WITHIN))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns() {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let given = parsed(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(in_turn(&given), parsed(&["10.0.0.1", "::1", "10.0.0.2", "::2", "::3"]));
        assert_eq!(in_turn(&vec![given[0]; 20]).len(), MAX_TRIED);
    }

    #[tokio::test]
    async fn the_first_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nobody listens at the first.
        let addresses: Vec<IpAddr> = ["127.0.0.9", "127.0.0.1"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        let stream = connect(addresses.clone(), port, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
        settle(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(TAKEN_WITHIN));
        // Doubled, or as much as the machine lets anybody have.
        for size in [socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()] {
            assert!(size <= 2 * OUTWARD as usize, "{size}");
        }
        narrow(&stream).unwrap();
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * WITHIN as usize);
        let refused = connect(addresses[..1].to_vec(), port, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new(), port, Duration::from_secs(5)).await.is_err());
    }
}
