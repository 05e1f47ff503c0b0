//! What one namespace, or whoever is no workflow's, may take of the proxy: places, and memory. Others are unharmed.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::process::{peak, resident};
use support::{eventually, unique};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{self, Answer};
use crate::world::{Egress, SOON, Workflow, World, fresh_address, run, run_for};

const TOO_MANY: &str = "ringfence_egress_connections_total{verdict=\"too-many\"}";

/// Lets this process open as many files as it may.
pub fn many_files() {
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}

/// Asks for a tunnel and says nothing in it, again and again.
async fn insist(proxy: SocketAddr, pod: IpAddr, authority: String) {
    loop {
        let tunnel = client::tunnel(proxy, pod, &authority).await;
        let wait = if tunnel.is_ok() { SOON } else { Duration::from_secs(2) };
        sleep(wait).await;
    }
}

/// A victim asks fifty times while so many addresses want more than there is for all: how it was refused.
async fn refused_beside(
    world: &World,
    proxy: &Egress,
    attackers: &[IpAddr],
    of: &str,
    victim: IpAddr,
    host: &str,
) -> Vec<Answer> {
    const EACH: usize = 300;
    many_files();
    // Whose pod it is has reached this proxy: until then the victim is a stranger too.
    eventually(SOON, || async {
        let fetched = world.fetch_by(proxy, victim, host, "/").await;
        fetched
            .map(drop)
            .map_err(|answer| anyhow::anyhow!("was refused: {answer:?}"))
    })
    .await;
    let mut attack = JoinSet::new();
    for pod in attackers {
        for _ in 0..EACH {
            attack.spawn(insist(proxy.address(), *pod, format!("{of}:{}", world.hosts.quiet)));
        }
    }
    // All of them have asked once it was too many for one.
    eventually(SOON, || async {
        let refused = proxy.metric(TOO_MANY).await;
        anyhow::ensure!(refused > 100.0, "{refused} were refused");
        Ok(())
    })
    .await;
    let mut refused = Vec::new();
    for _ in 0..50 {
        refused.extend(world.fetch_by(proxy, victim, host, "/").await.err());
        sleep(Duration::from_millis(20)).await;
    }
    refused
}

async fn victim(world: &World) -> (IpAddr, String) {
    let host = world.host("victim");
    let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
    (world.pod(&workflow).await, host)
}

/// Each of them would hold a place for the three seconds in which a pod may be new.
#[test]
fn who_is_no_workflows_takes_no_place_of_those_who_are() {
    run(async {
        let world = World::get().await;
        let proxy = world.proxy_with(&[]).await;
        let (victim, host) = victim(world).await;
        let strangers: Vec<IpAddr> = (0..9).map(|_| fresh_address()).collect();
        let refused = refused_beside(world, &proxy, &strangers, &host, victim, &host).await;
        assert_eq!(refused, [], "of 50");
    });
}

#[test]
fn a_namespace_that_begins_many_tunnels_leaves_others_theirs() {
    run(async {
        let world = World::get().await;
        let proxy = world.proxy_with(&[]).await;
        let (victim, host) = victim(world).await;
        let quiet = world.host("quiet");
        let greedy = world.workflow(&[&quiet], &[world.hosts.quiet]).await;
        let pods: Vec<IpAddr> = futures::stream::iter(0..10)
            .then(|_| world.pod(&greedy))
            .collect()
            .await;
        let refused = refused_beside(world, &proxy, &pods, &quiet, victim, &host).await;
        assert_eq!(refused, [], "of 50");
    });
}

/// A head that does not end holds what came of it, and a tunnel does not.
#[test]
fn of_what_is_no_tunnel_there_are_fewer() {
    const HEADS: usize = 512;
    run(async {
        many_files();
        let world = World::get().await;
        let proxy = world.proxy_with(&[]).await;
        let (pod, host) = victim(world).await;
        let mut tunnels = Vec::new();
        for _ in 0..50 {
            let authority = format!("{host}:{}", world.hosts.tls);
            let stream = client::tunnel(proxy.address(), pod, &authority).await.unwrap();
            tunnels.push(client::tls(stream, world.hosts.client(), &host).await.unwrap());
        }
        let mut heads: Vec<TcpStream> = Vec::new();
        for _ in 0..HEADS {
            let mut stream = client::connection(proxy.address(), pod).await;
            stream.write_all(b"CONNECT ").await.unwrap();
            heads.push(stream);
        }
        let mut refused = client::connection(proxy.address(), pod).await;
        let answer = timeout(Duration::from_secs(5), client::answer(&mut refused)).await;
        assert_eq!(answer.expect("an answer at once").status, 503);
        assert_eq!(proxy.metric(TOO_MANY).await, 1.0, "all the others were taken");
        drop(heads);
        eventually(SOON, || async {
            let fetched = world.fetch_by(&proxy, pod, &host, "/").await;
            fetched.map(drop).map_err(|refused| anyhow::anyhow!("{refused:?}"))
        })
        .await;
    });
}

/// Answers of plain HTTP that nobody reads.
#[test]
fn plain_http_takes_so_many_requests_and_so_much_memory() {
    const EACH: usize = 64;
    const PODS: usize = 6;
    run(async {
        many_files();
        let world = World::get().await;
        let proxy = world.proxy_with(&[]).await;
        let (host, port) = (world.host("flood"), world.hosts.plain);
        let workflow = world.workflow(&[&host], &[port]).await;
        let request = |path: &str| format!("GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        let asked = request("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let flood = async |pod: IpAddr| {
            // From here on it is known.
            assert_eq!(client::say(proxy.address(), pod, &asked).await.status, 200);
            let mut held = Vec::new();
            for _ in 0..EACH {
                let mut stream = client::connection(proxy.address(), pod).await;
                stream.write_all(request("/flood").as_bytes()).await.unwrap();
                held.push(stream);
            }
            held
        };
        // What is taken once.
        let warm = flood(world.pod(&workflow).await).await;
        sleep(Duration::from_secs(2)).await;
        let before = resident(proxy.pid()).unwrap();
        let (mut held, mut last) = (vec![warm], fresh_address());
        for _ in 0..PODS {
            last = world.pod(&workflow).await;
            held.push(flood(last).await);
        }
        sleep(Duration::from_secs(2)).await;
        let each = (resident(proxy.pid()).unwrap().saturating_sub(before) << 10) as usize / (PODS * EACH);
        println!("{each} bytes for each of {} answers that nobody reads", PODS * EACH);
        let refused = client::say(proxy.address(), last, request("/")).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("send fewer at a time"), "{refused:?}");
        let other = world.workflow(&[&host], &[port]).await;
        let other = world.pod(&other).await;
        assert_eq!(client::say(proxy.address(), other, &asked).await.status, 200);
        // A thousand, which is all that there may be, are half of what the chart lets the proxy have; in a build without optimisation, too.
        assert!(each < 256 << 10, "{each} bytes for each");
        drop(held);
    });
}

/// Whoever may write pods writes the largest: a page of them would be more than the proxy may hold, at each start.
#[test]
fn the_largest_pods_keep_no_proxy_from_starting() {
    const PODS: usize = 24;
    run_for(Duration::from_secs(240), async {
        let world = World::get().await;
        let (victim, host) = victim(world).await;
        let workflow = Workflow {
            namespace: world.namespace().await,
            name: "triage".to_owned(),
        };
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), &workflow.namespace);
        // Its account is there.
        world.pod(&workflow).await;
        // In JSON, each of them is six bytes.
        let large = "<".repeat(1_400_000);
        let create = |_| {
            let object = json!({
                "metadata": {"name": unique("large"), "labels": {"ringfence.dev/workflow": workflow.name}},
                "spec": {"containers": [{"name": "c", "image": "registry.example/i", "env": [{"name": "A", "value": large}]}]},
            });
            let pods = pods.clone();
            async move {
                let object = serde_json::from_value(object).unwrap();
                pods.create(&PostParams::default(), &object).await.unwrap();
            }
        };
        let creating = futures::stream::iter(0..PODS).map(create).buffer_unordered(4);
        creating.collect::<Vec<()>>().await;
        let proxy = world.proxy_with(&[]).await;
        let most = peak(proxy.pid()).unwrap() >> 10;
        println!("{most} MiB at the most");
        assert!(world.fetch_by(&proxy, victim, &host, "/").await.is_ok());
        let params = DeleteParams::default().grace_period(0);
        pods.delete_collection(&params, &kube::api::ListParams::default().limit(2))
            .await
            .unwrap();
        assert!(most < 192, "{most} MiB");
    });
}
