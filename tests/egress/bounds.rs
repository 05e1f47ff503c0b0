//! Many, slow and idle ones: bounded, and others unharmed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::process::resident;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::client;
use crate::world::{World, run, run_for};

#[test]
fn one_pod_takes_no_place_of_another() {
    run(async {
        let world = World::get().await;
        let proxy = world
            .proxy_with(&["--connections=60", "--connections-per-pod=25"])
            .await;
        let host = world.host("crowd");
        let mut pods = Vec::new();
        for count in [3, 2, 1] {
            let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
            for _ in 0..count {
                let pod = world.pod(&workflow).await;
                // From here on it is known.
                assert!(world.fetch_by(&proxy, pod, &host, "/").await.is_ok());
                pods.push(pod);
            }
        }
        let [greedy, other, third, second, beside_second, fourth] = pods[..] else {
            panic!("{pods:?}")
        };
        let mut held: Vec<TcpStream> = Vec::new();
        for _ in 0..25 {
            held.push(client::connection(proxy.address(), greedy).await);
        }
        for _ in 0..500 {
            let mut refused = client::connection(proxy.address(), greedy).await;
            let answer = timeout(Duration::from_secs(5), client::answer(&mut refused))
                .await
                .expect("an answer at once");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.body.contains("close some of yours"), "{answer:?}");
        }
        assert!(world.fetch_by(&proxy, other, &host, "/").await.is_ok());
        assert!(
            proxy
                .metric("ringfence_egress_connections_total{verdict=\"too-many\"}")
                .await
                >= 500.0
        );
        support::eventually(crate::world::SOON, || async {
            let open = proxy.metric("ringfence_egress_open_connections").await;
            anyhow::ensure!(open == 25.0, "{open} are open");
            Ok(())
        })
        .await;
        // Of what its namespace may have, there is some left; and beside what it may have, others have theirs.
        let taken = |pods: [IpAddr; 2]| {
            let proxy = &proxy;
            async move {
                let mut taken = Vec::new();
                for pod in pods.into_iter().cycle().take(60) {
                    let mut stream = client::connection(proxy.address(), pod).await;
                    let refused = timeout(Duration::from_millis(200), stream.read_u8()).await;
                    taken.extend(refused.is_err().then_some(stream));
                }
                taken
            }
        };
        held.extend(taken([other, third]).await);
        assert_eq!(held.len(), 30, "half of all");
        held.extend(taken([second, beside_second]).await);
        assert_eq!(held.len(), 45, "half of the rest");
        assert!(world.fetch_by(&proxy, fourth, &host, "/").await.is_ok());
        drop(held);
        support::eventually(crate::world::SOON, || async {
            let fetched = world.fetch_by(&proxy, fourth, &host, "/").await;
            fetched.map(drop).map_err(|refused| anyhow::anyhow!("{refused:?}"))
        })
        .await;
    });
}

/// One that is refused: what it was told.
async fn turned_away(proxy: SocketAddr, pod: IpAddr) -> Vec<u8> {
    let mut stream = client::connection(proxy, pod).await;
    // Its port is free again at once: there are fewer of them than connections.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    let mut told = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut told)).await;
    drop(read.expect("an answer at once"));
    told
}

/// Whoever opens them is told so at once, nothing grows by them, and nobody else waits for them.
#[test]
fn a_hundred_thousand_connections_of_one_pod_harm_nobody() {
    const MANY: usize = 100_000;
    const AT_ONCE: usize = 16;
    const HELD: usize = 300;
    run_for(Duration::from_secs(300), async {
        let world = World::get().await;
        let proxy = world.proxy_with(&[&format!("--connections-per-pod={HELD}")]).await;
        let (host, quiet) = (world.host("host"), world.host("quiet"));
        let workflow = world
            .workflow(&[&host, &quiet], &[world.hosts.tls, world.hosts.quiet])
            .await;
        let (greedy, other) = (world.pod(&workflow).await, world.pod(&workflow).await);
        let hello = client::hello(world.hosts.client(), &quiet);
        let mut held = Vec::new();
        for _ in 0..HELD {
            let authority = format!("{quiet}:{}", world.hosts.quiet);
            let mut stream = client::tunnel(proxy.address(), greedy, &authority).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            held.push(stream);
        }
        let before = resident(proxy.pid()).unwrap();
        let address = proxy.address();
        let attacks = (0..AT_ONCE).map(|_| {
            tokio::spawn(async move {
                for _ in 0..MANY / AT_ONCE {
                    let told = turned_away(address, greedy).await;
                    assert!(told.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&told));
                }
            })
        });
        let attacks: Vec<_> = attacks.collect();
        let (mut fetched, mut longest) = (0, Duration::ZERO);
        while attacks.iter().any(|attack| !attack.is_finished()) {
            let began = Instant::now();
            world.fetch_by(&proxy, other, &host, "/").await.unwrap();
            longest = longest.max(began.elapsed());
            fetched += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for attack in attacks {
            attack.await.unwrap();
        }
        assert!(
            fetched > 10 && longest < Duration::from_secs(5),
            "{fetched} in at most {longest:?}"
        );
        let refused = "ringfence_egress_connections_total{verdict=\"too-many\"}";
        assert_eq!(proxy.metric(refused).await, MANY as f64);
        support::eventually(crate::world::SOON, || async {
            let open = proxy.metric("ringfence_egress_open_connections").await;
            anyhow::ensure!(open == HELD as f64, "{open} are open");
            Ok(())
        })
        .await;
        let grown = resident(proxy.pid()).unwrap().saturating_sub(before);
        assert!(grown < 32 << 10, "{grown} KiB more");
        drop(held);
    });
}

/// A head that comes a byte at a time, and one that does not come.
#[test]
fn a_head_that_takes_too_long_is_not_waited_for() {
    run(async {
        let world = World::get().await;
        let pod = [127, 0, 0, 1].into();
        let began = Instant::now();
        let silent = async {
            let mut stream = client::connection(world.proxy.address(), pod).await;
            drop(stream.read(&mut [0; 64]).await);
            began.elapsed()
        };
        let slow = async {
            let stream = client::connection(world.proxy.address(), pod).await;
            let (mut read, mut write) = stream.into_split();
            let writing = tokio::spawn(async move {
                for byte in b"CONNECT api.example.com:443 HTTP/1.1\r\nX-A: "
                    .iter()
                    .chain(std::iter::repeat(&b'a'))
                {
                    if write.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let mut answer = Vec::new();
            drop(read.read_to_end(&mut answer).await);
            writing.abort();
            began.elapsed()
        };
        let (silent, slow) = tokio::join!(silent, slow);
        for took in [silent, slow] {
            assert!(
                (Duration::from_secs(10)..Duration::from_secs(25)).contains(&took),
                "{took:?}"
            );
        }
    });
}

/// What is open and carries nothing costs little, and others have theirs: ten thousand, where this machine lets a process open the files for them.
#[test]
fn idle_connections_take_little_memory_and_harm_nobody() {
    /// So many of one pod may be open.
    const OF_ONE: usize = 1000;
    /// Files that the proxy must be able to open, for each connection that is open.
    const FILES_OF_ONE: u64 = 4;
    run_for(Duration::from_secs(300), async {
        let files = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: files.maximum,
            maximum: files.maximum,
        };
        setrlimit(Resource::Nofile, all).unwrap();
        let most = files.maximum.unwrap_or(u64::MAX) / FILES_OF_ONE / OF_ONE as u64;
        let pods = usize::try_from(most.min(10)).unwrap();
        assert!(pods >= 2, "a process may open {files:?} files: let it open 40000");
        let world = World::get().await;
        let proxy = &world.proxy_with(&[]).await;
        let (host, other) = (&world.host("idle"), world.host("other"));
        let hello = &client::hello(world.hosts.client(), host);
        let authority = &format!("{host}:{}", world.hosts.quiet);
        // Each of a namespace of its own: of one there are as many as all others leave.
        let open = async |count: usize| {
            let workflow = world.workflow(&[host], &[world.hosts.quiet]).await;
            let pod = world.pod(&workflow).await;
            let mut open = Vec::new();
            for _ in 0..count {
                let mut stream = client::tunnel(proxy.address(), pod, authority).await.unwrap();
                stream.write_all(hello).await.unwrap();
                open.push(stream);
            }
            open
        };
        // What is taken once.
        let warm = open(200).await;
        let before = resident(proxy.pid()).unwrap();
        let mut held = futures::future::join_all((0..pods).map(|_| open(OF_ONE))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let many = pods * OF_ONE;
        let each = (resident(proxy.pid()).unwrap().saturating_sub(before) << 10) as usize / many;
        assert!(each < 16 << 10, "{each} bytes for each of {many} connections");
        assert_eq!(
            proxy.metric("ringfence_egress_open_connections").await,
            (many + warm.len()) as f64
        );
        let workflow = world.workflow(&[&other], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        assert!(world.fetch_by(proxy, pod, &other, "/").await.is_ok());
        let began = Instant::now();
        assert!(world.fetch_by(proxy, pod, &other, "/").await.is_ok());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // None of them was given up meanwhile.
        for stream in held.iter_mut().flatten() {
            let read = stream.try_read(&mut [0]);
            assert!(
                read.as_ref()
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
                "{read:?}"
            );
        }
        drop((warm, held));
    });
}
