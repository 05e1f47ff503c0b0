//! What is taken from a workflow ends where it is open, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use support::unique;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::client;
use crate::world::{SOON, Workflow, World, fresh_address, run};

/// Changes are gathered for a second, and must stand for two.
const LONGEST: Duration = Duration::from_secs(10);

/// TLS that is open, and over which nothing has been asked yet.
struct Tunnel {
    host: String,
    stream: TlsStream<TcpStream>,
}

impl Tunnel {
    async fn open(world: &World, pod: std::net::IpAddr, host: &str) -> Self {
        let authority = format!("{host}:{}", world.hosts.tls);
        let stream = client::tunnel(world.proxy.address(), pod, &authority).await.unwrap();
        let stream = client::tls(stream, world.hosts.client(), host).await.unwrap();
        let host = host.to_owned();
        Self { host, stream }
    }

    /// It ends soon, and its line says why.
    async fn ends(mut self, world: &World, why: &str) {
        let ended = timeout(LONGEST, self.stream.read(&mut [0])).await;
        let ended = ended.unwrap_or_else(|_| panic!("{}: it goes on", self.host));
        assert_eq!(ended.unwrap_or(0), 0, "{}", self.host);
        let line = world.proxy.line(&self.host).await;
        assert_eq!(line["verdict"], "allowed", "{line}");
        assert_eq!(line["reason"], why, "{line}");
    }

    /// It is open, in both directions.
    async fn goes_on(&mut self) {
        let answer = client::get(&mut self.stream, &self.host, "/still").await;
        assert!(answer.contains("GET /still"), "{}: {answer:?}", self.host);
    }
}

/// A workflow of its own, with one domain and a tunnel to it.
async fn one(world: &World, of: &str) -> (Workflow, Tunnel) {
    let host = world.host(of);
    let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
    let address = fresh_address();
    world.pod_at(&workflow, "pod", address, json!({})).await;
    let tunnel = Tunnel::open(world, address, &host).await;
    (workflow, tunnel)
}

async fn delete_policy(world: &World, workflow: &Workflow) {
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &workflow.namespace);
    policies
        .delete(&workflow.policy(), &DeleteParams::default())
        .await
        .unwrap();
}

async fn patch_pod(world: &World, workflow: &Workflow, patch: Value) {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &workflow.namespace);
    pods.patch("pod", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

#[test]
fn what_is_taken_from_a_workflow_ends_and_its_neighbours_go_on() {
    run(async {
        let world = World::get().await;
        let before = world.proxy.metric("ringfence_egress_withdrawn_total").await;
        let (neighbour, mut neighbours) = one(world, "neighbour").await;
        let (kept, taken) = (world.host("kept"), world.host("taken"));
        let workflow = world.workflow(&[&kept, &taken], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let (mut kept_tunnel, taken) = (
            Tunnel::open(world, pod, &kept).await,
            Tunnel::open(world, pod, &taken).await,
        );
        let (undeclared, without_policy) = one(world, "undeclared").await;
        let (unfenced, without_fence) = one(world, "unfenced").await;
        let (gone, without_pod) = one(world, "gone").await;
        let (relabelled, without_label) = one(world, "relabelled").await;
        let (finished, without_address) = one(world, "finished").await;
        let (shared, with_another) = one(world, "shared").await;

        world.redeclare(&workflow, &[&kept], &[world.hosts.tls]).await;
        delete_policy(world, &undeclared).await;
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let unfence = Patch::Merge(json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}}));
        namespaces
            .patch(&unfenced.namespace, &PatchParams::default(), &unfence)
            .await
            .unwrap();
        world.delete_pod(&gone, "pod").await;
        let label = json!({"metadata": {"labels": {"ringfence.dev/workflow": "other"}}});
        patch_pod(world, &relabelled, label).await;
        world.pod_status(&finished, "pod", json!({"phase": "Succeeded"})).await;
        let address = with_another.stream.get_ref().0.local_addr().unwrap().ip();
        world.pod_at(&neighbour, &unique("pod"), address, json!({})).await;

        let not_declared = "withdrawn: its workflow may not reach it any more";
        let no_pod = "withdrawn: no running pod of the workflow has its address any more";
        let other_pod = "withdrawn: a pod of another workflow has its address";
        tokio::join!(
            taken.ends(world, not_declared),
            without_policy.ends(world, not_declared),
            without_fence.ends(world, "withdrawn: its namespace is not fenced any more"),
            without_pod.ends(world, no_pod),
            without_label.ends(world, other_pod),
            without_address.ends(world, no_pod),
            with_another.ends(world, other_pod),
        );
        kept_tunnel.goes_on().await;
        neighbours.goes_on().await;
        let withdrawn = world.proxy.metric("ringfence_egress_withdrawn_total").await - before;
        assert!(withdrawn >= 7.0, "{withdrawn}");
        drop(shared);
    });
}

/// As where somebody deletes what Ringfence made, and Ringfence puts it back.
#[test]
fn what_is_put_back_at_once_was_not_withdrawn() {
    run(async {
        let world = World::get().await;
        let (workflow, mut tunnel) = one(world, "back").await;
        delete_policy(world, &workflow).await;
        let host = tunnel.host.clone();
        // So long that a round sees it gone.
        sleep(Duration::from_millis(1300)).await;
        world.declare(&workflow, &[&host], &[world.hosts.tls]).await;
        sleep(Duration::from_secs(6)).await;
        tunnel.goes_on().await;
    });
}

#[test]
fn an_answer_in_plain_http_ends_too() {
    run(async {
        let world = World::get().await;
        let host = world.host("plain");
        let workflow = world.workflow(&[&host], &[world.hosts.plain]).await;
        let pod = world.pod(&workflow).await;
        let mut stream = client::connection(world.proxy.address(), pod).await;
        let authority = format!("{host}:{}", world.hosts.plain);
        let request = format!("GET http://{authority}/endless HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut begun = [0; 15];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        world
            .redeclare(&workflow, &["other.example"], &[world.hosts.plain])
            .await;
        let began = Instant::now();
        let mut rest = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut rest)).await;
        drop(read.expect("it to end"));
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
        let text = String::from_utf8_lossy(&rest);
        assert!(
            text.contains("piece 3") && !text.ends_with("0\r\n\r\n"),
            "what is cut off does not look whole: {text}"
        );
        let line = world.proxy.line(&host).await;
        assert_eq!(
            line["reason"], "withdrawn: its workflow may not reach it any more",
            "{line}"
        );
    });
}

/// A host that answers once it has read the head, and then counts what comes of the body: each `x` in it.
async fn answers_early() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let body = buffer[..length].iter().filter(|byte| **byte == b'x').count();
            counted.fetch_add(body as u64, Ordering::Relaxed);
        }
    });
    (port, count)
}

/// An answer is not the end of a request: what is sent after it is watched and told of as what was sent before.
#[test]
fn an_upload_that_was_answered_before_it_was_over_ends_too() {
    run(async {
        let world = World::get().await;
        let host = world.host("early");
        let (port, count) = answers_early().await;
        let workflow = world.workflow(&[&host], &[port]).await;
        let pod = world.pod(&workflow).await;
        let (mut read, mut write) = client::connection(world.proxy.address(), pod).await.into_split();
        let authority = format!("{host}:{port}");
        let request =
            format!("POST http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nTransfer-Encoding: chunked\r\n\r\n");
        write.write_all(request.as_bytes()).await.unwrap();
        let upload = tokio::spawn(async move {
            while write.write_all(b"4\r\nxxxx\r\n").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = [0; 15];
        read.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let at_the_answer = count.load(Ordering::Relaxed);
        sleep(Duration::from_secs(2)).await;
        let after_it = count.load(Ordering::Relaxed);
        assert!(after_it > at_the_answer, "what is allowed goes on");
        assert!(!world.proxy.log().contains(&host), "nothing is told before it is over");
        world.redeclare(&workflow, &["other.example"], &[port]).await;
        let ended = timeout(LONGEST, upload).await;
        ended.expect("the upload to end").unwrap();
        let line = world.proxy.line(&host).await;
        assert_eq!(
            line["reason"], "withdrawn: its workflow may not reach it any more",
            "{line}"
        );
        let arrived = count.load(Ordering::Relaxed);
        assert!(
            line["sent"].as_u64().unwrap() >= arrived,
            "{line}, and {arrived} arrived"
        );
        sleep(Duration::from_secs(2)).await;
        assert_eq!(count.load(Ordering::Relaxed), arrived, "nothing more goes there");
    });
}

/// Between the decision and the first byte: a handshake may be waited for.
#[test]
fn what_is_withdrawn_before_it_carries_anything_carries_nothing() {
    run(async {
        let world = World::get().await;
        let host = world.host("late");
        let workflow = world.workflow(&[&host], &[world.hosts.quiet]).await;
        let pod = world.pod(&workflow).await;
        let authority = format!("{host}:{}", world.hosts.quiet);
        let mut stream = client::tunnel(world.proxy.address(), pod, &authority).await.unwrap();
        world
            .redeclare(&workflow, &["other.example"], &[world.hosts.quiet])
            .await;
        sleep(Duration::from_secs(2)).await;
        let hello = client::hello(world.hosts.client(), &host);
        stream.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
        drop(read.expect("it to end"));
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "access_denied");
        let line = world.proxy.line(&host).await;
        assert_eq!(
            (&line["verdict"], &line["sent"]),
            (&json!("not-declared"), &json!(0)),
            "{line}"
        );
    });
}
