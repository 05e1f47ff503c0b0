//! `ringfence canary`: one of the two pods by which `ringfence check --canary` tries whether NetworkPolicies bite. No command for people.
//!
//! It answers HTTP with its word; where it has peers, with 200 only while the word arrives from one of them, by a connection that is made
//! for this answer. So the kubelet's readiness probe tells who reaches whom, and nobody needs a shell or a log. Must never: call a peer
//! reached that did not say the word (a proxy beside the pod accepts every connection), or live longer than it was told.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// Name of the subcommand.
pub(super) const SUBCOMMAND: &str = "canary";
/// Longest that a peer may take. One for each family of addresses must fit in the time of a probe.
const REACH: Duration = Duration::from_secs(1);
/// Longest that an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Most answers at a time.
const PLACES: usize = 16;
/// Most of a request, or of a peer's answer, that is read.
const MOST: usize = 1024;

/// What one of the two pods is told.
#[derive(ClapArgs, Debug)]
pub(super) struct Args {
    /// What it answers, and what its peers have to say.
    #[arg(long)]
    word: String,
    /// Port at which it answers.
    #[arg(long)]
    port: u16,
    /// Addresses of the pod that it is to reach, one of which is enough.
    #[arg(long = "peer")]
    peers: Vec<SocketAddr>,
    /// After this it ends by itself.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

pub(super) fn main(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .context("cannot listen for SIGTERM")?;
        let life = Duration::from_secs(args.seconds);
        let listener = bind(args.port).await;
        let listener = listener.with_context(|| format!("cannot listen at port {}", args.port))?;
        tokio::select! {
            never = serve(&listener, Arc::new(args)) => match never? {},
            () = sleep(life) => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// At every address of the pod. A node without IPv6 has nothing to listen at for it.
async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

async fn serve(listener: &TcpListener, args: Arc<Args>) -> Result<Infallible> {
    let places = Arc::new(Semaphore::new(PLACES));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, or a caller that is gone: neither ends it.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let args = Arc::clone(&args);
        tokio::spawn(async move {
            // Whoever asked sees what went wrong.
            let _answered = timeout(ANSWER, answer(stream, &args)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, args: &Args) -> io::Result<()> {
    let mut asked = [0; MOST];
    // The request of a probe, or of a peer, is one packet; what it says does not matter.
    let _read = stream.read(&mut asked).await?;
    let mut reached = args.peers.is_empty();
    for peer in &args.peers {
        reached = reached || reaches(*peer, &args.word).await;
    }
    let status = if reached { "200 OK" } else { "503 Service Unavailable" };
    let (word, length) = (&args.word, args.word.len());
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{word}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn reaches(peer: SocketAddr, word: &str) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect(peer).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST as u64).read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(REACH, asking).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.ends_with(word.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address where a canary answers, until the runtime ends.
    async fn canary(word: &str, peers: Vec<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let args = Args {
            word: word.to_owned(),
            port: address.port(),
            peers,
            seconds: 60,
        };
        tokio::spawn(async move { serve(&listener, Arc::new(args)).await.map(|never| match never {}) });
        address
    }

    async fn status(of: SocketAddr) -> String {
        let mut stream = TcpStream::connect(of).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn only_a_peer_that_says_the_word_is_reached() {
        let listener = canary("right", Vec::new()).await;
        let another = canary("wrong", Vec::new()).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(status(listener).await, "HTTP/1.1 200 OK");
        for (peers, expected) in [
            (vec![listener], "HTTP/1.1 200 OK"),
            (vec![closed, listener], "HTTP/1.1 200 OK"),
            (vec![another], "HTTP/1.1 503 Service Unavailable"),
            (vec![closed], "HTTP/1.1 503 Service Unavailable"),
        ] {
            assert_eq!(
                status(canary("right", peers.clone()).await).await,
                expected,
                "{peers:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_not_waited_for() {
        // It accepts, as a proxy does, and that is all.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = canary("right", vec![silent.local_addr().unwrap()]).await;
        let asked = tokio::time::Instant::now();
        assert_eq!(status(dialer).await, "HTTP/1.1 503 Service Unavailable");
        assert!(asked.elapsed() < ANSWER, "{:?}", asked.elapsed());
    }
}
