//! What goes on for long: streams, halves of connections, an API server that is away, and the end of the proxy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use support::{ControlPlane, eventually, unique};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client;
use crate::world::{Egress, SOON, World, fresh_address, run};

#[test]
fn an_answer_that_takes_long_comes_as_it_is_made() {
    run(async {
        let world = World::get().await;
        let host = world.host("stream");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let stream = client::tunnel(world.proxy.address(), pod, &format!("{host}:{}", world.hosts.tls))
            .await
            .unwrap();
        let mut stream = client::tls(stream, world.hosts.client(), &host).await.unwrap();
        let request = format!("GET /stream HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut reads, mut all) = (0, Vec::new());
        while stream.read_buf(&mut all).await.is_ok_and(|length| length > 0) {
            reads += 1;
        }
        assert!(String::from_utf8_lossy(&all).contains("piece 9\n"));
        assert!(reads >= 5, "{reads} reads: it was held back");
    });
}

/// A client that has said all it has to say still gets its answer.
#[test]
fn half_of_a_connection_may_end() {
    run(async {
        let world = World::get().await;
        let host = world.host("half");
        let workflow = world.workflow(&[&host], &[world.hosts.raw]).await;
        let pod = world.pod(&workflow).await;
        let mut stream = client::tunnel(world.proxy.address(), pod, &format!("{host}:{}", world.hosts.raw))
            .await
            .unwrap();
        let hello = client::hello(world.hosts.client(), &host);
        stream.write_all(&hello).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\nok"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(world.proxy.line(&host).await["reason"], Value::Null);
    });
}

/// Nor the other way round: a host that has said all it has to say still hears the rest.
#[test]
fn a_host_may_end_its_half_too() {
    run(async {
        let world = World::get().await;
        let host = world.host("half-of-host");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hearing = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"all").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).await.unwrap();
            heard
        });
        let workflow = world.workflow(&[&host], &[port]).await;
        let pod = world.pod(&workflow).await;
        let mut stream = client::tunnel(world.proxy.address(), pod, &format!("{host}:{port}"))
            .await
            .unwrap();
        let hello = client::hello(world.hosts.client(), &host);
        stream.write_all(&hello).await.unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.unwrap();
        assert_eq!(told, b"all");
        stream.write_all(b"the rest").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(hearing.await.unwrap(), [&hello[..], b"the rest"].concat());
    });
}

/// A way to the API server that can be cut.
struct Way {
    port: u16,
    cut: Arc<Mutex<Option<CancellationToken>>>,
}

impl Way {
    async fn to(server: &str) -> Self {
        let server = server.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Some(CancellationToken::new())));
        let current = Arc::clone(&cut);
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let Some(token) = current.lock().unwrap().clone() else {
                    continue;
                };
                let server = server.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        copied = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(copied),
                        () = token.cancelled() => {}
                    }
                });
            }
        });
        Self { port, cut }
    }

    fn cut(&self) {
        if let Some(token) = self.cut.lock().unwrap().take() {
            token.cancel();
        }
    }

    fn mend(&self) {
        *self.cut.lock().unwrap() = Some(CancellationToken::new());
    }
}

#[test]
fn without_the_api_server_what_was_allowed_stays_allowed() {
    run(async {
        let world = World::get().await;
        let plane = ControlPlane::shared();
        let way = Way::to(&plane.ready().server).await;
        let mut kubeconfig: Value = serde_json::from_slice(&std::fs::read(&world.kubeconfig).unwrap()).unwrap();
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", way.port));
        let file = plane.directory().join(format!("{}.kubeconfig", unique("way")));
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        let proxy = Egress::start(&file, &world.dns, &[]).await;
        let [host, lost, other] = ["lasting", "lost", "other"].map(|of| world.host(of));
        let workflow = world.workflow(&[&host, &lost], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        assert!(world.fetch_by(&proxy, pod, &host, "/").await.is_ok());
        let open = client::tunnel(proxy.address(), pod, &format!("{host}:{}", world.hosts.tls)).await;
        let mut open = client::tls(open.unwrap(), world.hosts.client(), &host).await.unwrap();
        let taken = client::tunnel(proxy.address(), pod, &format!("{lost}:{}", world.hosts.tls)).await;
        let mut taken = client::tls(taken.unwrap(), world.hosts.client(), &lost).await.unwrap();
        let answered = proxy
            .metric("ringfence_egress_api_server_last_answer_timestamp_seconds")
            .await;
        assert!(answered > 1e9, "{answered}");

        way.cut();
        let late = fresh_address();
        world.pod_at(&workflow, &unique("pod"), late, json!({})).await;
        world.redeclare(&workflow, &[&host], &[world.hosts.tls]).await;
        sleep(Duration::from_secs(12)).await;
        let idle = tokio::time::timeout(Duration::from_millis(100), taken.read(&mut [0])).await;
        assert!(idle.is_err(), "nobody told of a withdrawal: {idle:?}");
        assert!(world.fetch_by(&proxy, pod, &host, "/").await.is_ok());
        assert_eq!(world.fetch_by(&proxy, pod, &other, "/").await.unwrap_err().status, 403);
        assert_eq!(world.fetch_by(&proxy, late, &host, "/").await.unwrap_err().status, 403);
        assert_eq!(proxy.ask("/readyz").await.unwrap().0, 200);
        assert!(proxy.log().contains("what was known last decides"), "{}", proxy.log());

        way.mend();
        eventually(2 * SOON, || async {
            let fetched = world.fetch_by(&proxy, late, &host, "/").await;
            fetched.map(drop).map_err(|refused| anyhow::anyhow!("{refused:?}"))
        })
        .await;
        let ended = tokio::time::timeout(SOON, taken.read(&mut [0])).await;
        assert_eq!(ended.expect("the withdrawal to be told").unwrap_or(0), 0);
        assert!(client::get(&mut open, &host, "/still").await.contains("GET /still"));
    });
}

/// Without a word. What one replica knew, the other reads of the API server by itself.
#[test]
fn a_replica_that_dies_takes_along_what_it_carries_and_nothing_else() {
    run(async {
        let world = World::get().await;
        let first = world.proxy_with(&[]).await;
        let (host, other) = (world.host("replicas"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let authority = format!("{host}:{}", world.hosts.tls);
        let through = async |proxy: &Egress| {
            let stream = client::tunnel(proxy.address(), pod, &authority).await.unwrap();
            client::tls(stream, world.hosts.client(), &host).await.unwrap()
        };
        let (mut carried, mut beside) = (through(&first).await, through(&world.proxy).await);
        let pid = first.pid().to_string();
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
        assert!(killed.unwrap().success());
        let ended = tokio::time::timeout(SOON, carried.read(&mut [0])).await;
        assert_eq!(ended.expect("an end").unwrap_or(0), 0);
        TcpStream::connect(first.address()).await.unwrap_err();
        assert!(client::get(&mut beside, &host, "/still").await.contains("GET /still"));
        assert!(world.fetch(pod, &host, "/").await.is_ok());
        assert_eq!(world.fetch(pod, &other, "/").await.unwrap_err().status, 403);
    });
}

#[test]
fn what_is_open_goes_on_while_the_proxy_stops() {
    run(async {
        let world = World::get().await;
        let mut proxy = world.proxy_with(&["--drain-timeout=3s"]).await;
        let (host, quiet) = (world.host("drained"), world.host("quiet"));
        let workflow = world
            .workflow(&[&host, &quiet], &[world.hosts.tls, world.hosts.quiet])
            .await;
        let pod = world.pod(&workflow).await;
        let mut lasting = client::tunnel(proxy.address(), pod, &format!("{quiet}:{}", world.hosts.quiet))
            .await
            .unwrap();
        lasting
            .write_all(&client::hello(world.hosts.client(), &quiet))
            .await
            .unwrap();
        proxy.terminate();
        eventually(SOON, || async {
            let (status, body) = proxy.ask("/readyz").await?;
            anyhow::ensure!(status == 503, "{body}");
            Ok(())
        })
        .await;
        assert!(
            world.fetch_by(&proxy, pod, &host, "/").await.is_ok(),
            "its Service has not forgotten it yet"
        );
        let ended = eventually(SOON, || {
            let ended = proxy.ended();
            async move { ended.ok_or_else(|| anyhow::anyhow!("it still runs")) }
        })
        .await;
        assert_eq!(ended, 0, "{}", proxy.log());
        assert_eq!(
            lasting.read(&mut [0]).await.unwrap_or(0),
            0,
            "what goes on for too long is ended"
        );
        assert_eq!(proxy.line(&quiet).await["reason"], "the proxy stops");
    });
}
