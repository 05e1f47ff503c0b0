//! `make bench-egress`: what the proxy costs beside a bare tunnel of tokio's and beside no proxy, in the same run. Bytes are told for each
//! second of the processor that the tunnel's own process took: the machine's other work is not in it.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::process::{percentile, processor_time, resident};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::client;
use crate::world::{World, run_for};

const ROUNDS: usize = 5;
const BYTES: u64 = 1 << 30;
const ASKED: usize = 5_000;
/// Each takes two files of this process and two of the proxy, of the 20,000 that many systems let a process open.
const IDLE: usize = 5_000;
/// Where the bare tunnel listens, and where it leads.
const LISTEN_ON: &str = "RINGFENCE_BARE_TUNNEL";

/// The bare tunnel, as a process of its own: no test by itself.
#[test]
#[ignore = "a process of the bench"]
fn bare_tunnel() {
    let Ok(ports) = std::env::var(LISTEN_ON) else { return };
    let (near, far) = ports.split_once('>').unwrap();
    let (near, far): (SocketAddr, SocketAddr) = (near.parse().unwrap(), far.parse().unwrap());
    run_for(Duration::from_secs(3600), async {
        let listener = TcpListener::bind(near).await.unwrap();
        loop {
            let (mut pod, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut host = TcpStream::connect(far).await.unwrap();
                drop((pod.set_nodelay(true), host.set_nodelay(true)));
                drop(tokio::io::copy_bidirectional(&mut pod, &mut host).await);
            });
        }
    });
}

struct Bare {
    process: Child,
    address: SocketAddr,
}

impl Bare {
    async fn start(host: u16) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "bench::bare_tunnel"])
            .env(LISTEN_ON, format!("{port}>127.0.0.1:{host}"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(port).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { process, address: port }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Reads a handshake of that length, and then what is asked for: so many bytes, or one for each.
async fn host(hello: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                drop(stream.read_exact(&mut vec![0; hello]).await);
                let chunk = vec![7; 256 << 10];
                while let Ok(asked) = stream.read_u64().await {
                    let mut left = usize::try_from(asked).unwrap();
                    while left > 0 {
                        let now = left.min(chunk.len());
                        if stream.write_all(&chunk[..now]).await.is_err() {
                            return;
                        }
                        left -= now;
                    }
                }
            });
        }
    });
    port
}

async fn ask(stream: &mut TcpStream, bytes: u64, buffer: &mut [u8]) {
    stream.write_u64(bytes).await.unwrap();
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(buffer).await.unwrap();
        assert!(read > 0, "it ended early");
        left -= read as u64;
    }
}

/// Microseconds of a question and its answer of one byte, sorted.
async fn round_trips(stream: &mut TcpStream) -> Vec<u64> {
    let mut took = Vec::new();
    for _ in 0..ASKED {
        let began = Instant::now();
        ask(stream, 1, &mut [0; 8]).await;
        took.push(u64::try_from(began.elapsed().as_nanos()).unwrap());
    }
    took.sort_unstable();
    took
}

/// Bytes that a process carries in a second of the processor.
async fn rate(pid: u32, stream: &mut TcpStream) -> f64 {
    let before = processor_time(pid).unwrap();
    ask(stream, BYTES, &mut vec![0; 1 << 20]).await;
    BYTES as f64 / (processor_time(pid).unwrap() - before).max(0.01)
}

#[test]
#[ignore = "a measurement: make bench-egress"]
fn bench() {
    run_for(Duration::from_secs(1800), async {
        let files = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        };
        setrlimit(Resource::Nofile, all).unwrap();
        let world = World::get().await;
        let name = world.host("bench");
        let hello = client::hello(world.hosts.client(), &name);
        let port = host(hello.len()).await;
        let workflow = world.workflow(&[&name], &[port]).await;
        let pod = world.pod(&workflow).await;
        let proxy = world.proxy_with(&[]).await;
        let (bare, pid) = (Bare::start(port).await, proxy.pid());
        let open = async |pod: IpAddr| {
            let mut stream = client::tunnel(proxy.address(), pod, &format!("{name}:{port}"))
                .await
                .unwrap();
            stream.write_all(&hello).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let past = async |address: SocketAddr| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let (mut ours, mut theirs) = (open(pod).await, past(bare.address).await);
        let mut direct = past(([127, 0, 0, 1], port).into()).await;

        println!("MB for each second of the processor: proxy, bare tunnel of tokio, proxy to bare");
        for _ in 0..ROUNDS {
            let (proxied, tunnelled) = (rate(pid, &mut ours).await, rate(bare.process.id(), &mut theirs).await);
            println!(
                "{:8.0} {:8.0} {:6.2}",
                proxied / 1e6,
                tunnelled / 1e6,
                proxied / tunnelled
            );
        }
        println!("microseconds of a question and its answer, p50 and p99: direct, bare tunnel, proxy");
        for _ in 0..ROUNDS {
            let all = [
                round_trips(&mut direct).await,
                round_trips(&mut theirs).await,
                round_trips(&mut ours).await,
            ];
            let told = all.map(|sorted| {
                format!(
                    "{:6.1} {:6.1}",
                    percentile(&sorted, 0.5) / 1e3,
                    percentile(&sorted, 0.99) / 1e3
                )
            });
            println!("{}", told.join("   "));
        }
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(open(pod).await);
        }
        let before = resident(pid).unwrap();
        for _ in 0..IDLE / 1000 {
            // One namespace gets no more than are left for others.
            let pod = world.pod(&world.workflow(&[&name], &[port]).await).await;
            for _ in 0..1000 {
                idle.push(open(pod).await);
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let each = (resident(pid).unwrap().saturating_sub(before) << 10) as f64 / IDLE as f64;
        println!("bytes of memory for each of {IDLE} idle connections: {each:.0}");
        let began = Instant::now();
        for _ in 0..200 {
            drop(open(pod).await);
        }
        println!(
            "ms to open a tunnel, pod to host: {:.2}",
            began.elapsed().as_secs_f64() * 1e3 / 200.0
        );
    });
}
