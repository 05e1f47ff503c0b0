//! Tunnels whose ends take nothing: what waits in them is the kernel's memory, which counts as the proxy's own. Others are unharmed.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::client;
use crate::shares::many_files;
use crate::world::{Egress, SOON, World, run};

const STALLED: &str = "ringfence_egress_stalled_total";
const TUNNELS: usize = 400;
/// Of 300, as many as are still free.
const OF_ONE_NAMESPACE: usize = 150;
/// What the kernel may hold of one.
const EACH: u64 = 640 << 10;

/// Answers whatever comes with so many bytes, and reads nothing more.
async fn host(answer: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                drop(stream.read_u8().await);
                let (chunk, mut left) = (vec![7; 48 << 10], answer);
                while left > 0 && stream.write_all(&chunk[..left.min(chunk.len())]).await.is_ok() {
                    left -= left.min(chunk.len());
                }
                std::future::pending::<()>().await;
            });
        }
    });
    port
}

/// A tunnel of a pod that has room for next to nothing.
async fn tunnel(proxy: SocketAddr, pod: IpAddr, authority: &str, hello: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2 << 10).unwrap();
    socket.bind(SocketAddr::new(pod, 0)).unwrap();
    let stream = socket.connect(proxy).await.unwrap();
    let mut stream = client::tunnel_on(stream, authority).await.unwrap();
    stream.write_all(hello).await.unwrap();
    stream
}

/// Bytes that the kernel holds of the proxy's own ends: received, queued to be sent, and set aside.
fn held(proxy: u16, host: u16) -> u64 {
    let told = Command::new("ss").args(["-tmnOH"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let of = |line: &str| {
        let mut fields = line.split_whitespace().skip(3);
        let (near, far) = (fields.next()?, fields.next()?);
        if !(near.ends_with(&format!(":{proxy}")) || far.ends_with(&format!(":{host}"))) {
            return None;
        }
        let memory = line.split_once("skmem:(")?.1.split(',');
        // A letter or two, and a number.
        let held = memory.filter_map(|field| field.strip_prefix(['r', 'w', 'f'])?.parse::<u64>().ok());
        Some(held.sum::<u64>())
    };
    told.lines().filter_map(of).sum()
}

async fn read_much(world: &World, proxy: &Egress, pod: IpAddr, name: &str, port: u16) -> std::io::Result<()> {
    let authority = format!("{name}:{port}");
    let mut stream = client::tunnel(proxy.address(), pod, &authority).await.unwrap();
    let hello = client::hello(world.hosts.client(), name);
    stream.write_all(&hello).await?;
    let mut left: usize = 20 << 20;
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// One pod opens tunnels to a host that answers so much, and reads nothing: what the kernel holds at the most, while another namespace's pod reads.
async fn attack(answer: usize) -> u64 {
    many_files();
    let world = World::get().await;
    let proxy = world.proxy_with(&[]).await;
    let (port, ample) = (host(answer).await, host(usize::MAX).await);
    let (greedy, victim) = (world.host("greedy"), world.host("victim"));
    let pod = world.pod(&world.workflow(&[&greedy], &[port]).await).await;
    let other = world.pod(&world.workflow(&[&victim], &[ample]).await).await;
    for pod in [pod, other] {
        client::until_known(proxy.address(), pod).await;
    }
    let hello = client::hello(world.hosts.client(), &greedy);
    let authority = format!("{greedy}:{port}");
    let (mut tunnels, mut most) = (Vec::new(), 0);
    for _ in 0..TUNNELS {
        let mut stream = tunnel(proxy.address(), pod, &authority, &hello).await;
        // And what it sends is not read either.
        let much = vec![1; 256 << 10];
        drop(timeout(Duration::from_millis(5), stream.write_all(&much)).await);
        tunnels.push(stream);
        if tunnels.len() % 50 == 0 {
            most = most.max(held(proxy.port, port));
        }
    }
    sleep(Duration::from_secs(1)).await;
    most = most.max(held(proxy.port, port));
    println!(
        "{} KiB for each of {TUNNELS}, {} MiB in all",
        (most >> 10) / TUNNELS as u64,
        most >> 20
    );
    for _ in 0..3 {
        let read = timeout(SOON, read_much(world, &proxy, other, &victim, ample)).await;
        read.expect("in time").unwrap();
    }
    let stalled = eventually(SOON, || async {
        let stalled = proxy.metric(STALLED).await;
        anyhow::ensure!(stalled >= (TUNNELS - OF_ONE_NAMESPACE) as f64, "{stalled} gave way");
        Ok(stalled)
    })
    .await;
    assert!(stalled <= TUNNELS as f64, "{stalled}");
    let line = proxy.line(&greedy).await;
    assert!(
        line["reason"].as_str().unwrap().starts_with("stalled: bytes waited"),
        "{line}"
    );
    drop(tunnels);
    most
}

#[test]
fn tunnels_that_nobody_reads_hold_a_share_of_the_memory() {
    run(async {
        let most = attack(usize::MAX).await;
        assert!(most < OF_ONE_NAMESPACE as u64 * EACH, "{} MiB", most >> 20);
    });
}

/// Nothing waits behind such an answer: all of it is what was written and not sent.
#[test]
fn answers_that_fit_into_what_the_kernel_holds_count_too() {
    run(async {
        let most = attack(48 << 10).await;
        // All 400 of them are 85 MiB.
        assert!(most < 48 << 20, "{} MiB", most >> 20);
    });
}
