//! Names to addresses: which are asked for, and which are connected to.

use std::net::IpAddr;

use domain::base::iana::Rcode;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use ringfence::api::AIWorkflowClass;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::client;
use crate::dns::Script;
use crate::hosts::ZONE;
use crate::world::{Egress, SOON, World, run};

/// What becomes of a request for a host that is scripted so.
async fn scripted(of: &str, script: Script) -> (String, Result<String, client::Answer>) {
    let world = World::get().await;
    let host = world.host(of);
    world.dns.script(&host, script);
    let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
    let pod = world.pod(&workflow).await;
    let fetched = world.fetch(pod, &host, "/").await;
    (host, fetched)
}

#[rstest]
#[case::no_such_name(Rcode::NXDOMAIN, "there is no such name in DNS")]
#[case::failed(Rcode::SERVFAIL, "the DNS resolver cannot tell its address (code 2)")]
#[case::nothing(Rcode::NOERROR, "the name has no address in DNS")]
fn what_has_no_address_is_told_before_the_tunnel_is_open(#[case] code: Rcode, #[case] reason: &str) {
    run(async {
        let mut script = Script::of(&[]);
        script.code = code;
        let (host, fetched) = scripted("none", script).await;
        let refused = fetched.unwrap_err();
        assert_eq!(
            (refused.status, refused.body),
            (502, format!("ringfence: {host}: {reason}.\n"))
        );
    });
}

#[test]
fn a_resolver_that_is_silent_is_waited_for_so_long() {
    run(async {
        let mut script = Script::of(&["127.0.0.1"]);
        script.is_silent = true;
        let (_, fetched) = scripted("silent", script).await;
        let refused = fetched.unwrap_err();
        assert_eq!(refused.status, 504);
        assert!(refused.body.contains("no DNS resolver answers in time"), "{refused:?}");
    });
}

async fn connects(world: &World, pod: IpAddr, host: String) -> u16 {
    let refused = client::tunnel(world.proxy.address(), pod, &format!("{host}:443")).await;
    refused.unwrap_err().status
}

/// Who has its own places, and is no stranger.
async fn known_pod(world: &World, domain: &str, port: u16) -> IpAddr {
    let workflow = world.workflow(&[domain], &[port]).await;
    let pod = world.pod(&workflow).await;
    client::until_known(world.proxy.address(), pod).await;
    pod
}

/// However many pods of however many namespaces want a name, its DNS hears of one.
#[test]
fn a_name_that_many_want_at_a_time_is_asked_for_once() {
    run(async {
        let world = World::get().await;
        let host = world.host("wanted");
        world.dns.change(&host, |script| script.is_silent = true);
        let mut pods = Vec::new();
        for _ in 0..2 {
            pods.push(known_pod(world, &host, 443).await);
        }
        let all = pods
            .iter()
            .cycle()
            .take(300)
            .map(|pod| connects(world, *pod, host.clone()));
        let answered = futures::future::join_all(all).await;
        assert!(answered.iter().all(|status| *status == 504), "{answered:?}");
        let asked = world.dns.asked(&host);
        // Two rounds, and as many again where this machine was so slow that some came after them.
        assert!((2..=4).contains(&asked), "{asked}");
    });
}

/// Below a wildcard, names are the client's choice.
#[test]
fn so_many_names_of_one_pod_are_looked_up_at_a_time_and_others_have_theirs() {
    run(async {
        let world = World::get().await;
        let of = support::unique("random");
        let names: Vec<String> = (0..100).map(|number| format!("a{number}.{of}.{ZONE}")).collect();
        for name in &names {
            let mut script = Script::of(&[]);
            script.is_silent = true;
            world.dns.script(name, script);
        }
        let pod = known_pod(world, &format!("*.{of}.{ZONE}"), 443).await;
        let host = world.host("other");
        let other = known_pod(world, &host, world.hosts.tls).await;
        let all = futures::future::join_all(names.iter().map(|name| connects(world, pod, name.clone())));
        let beside = async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            world.fetch(other, &host, "/").await
        };
        let (answered, beside) = tokio::join!(all, beside);
        let looked_up = names.iter().filter(|name| world.dns.asked(name) > 0).count();
        assert_eq!(looked_up, 64);
        assert_eq!(answered.iter().filter(|status| **status == 503).count(), 36);
        assert!(beside.is_ok(), "{beside:?}");
    });
}

#[test]
fn what_there_is_not_is_asked_for_once_in_a_while() {
    run(async {
        let world = World::get().await;
        let host = format!("{}.{ZONE}", support::unique("gone"));
        let pod = known_pod(world, &host, 443).await;
        for _ in 0..3 {
            assert_eq!(connects(world, pod, host.clone()).await, 502);
        }
        assert_eq!(world.dns.asked(&host), 1);
    });
}

#[rstest]
#[case::private(&["10.0.0.1"], "it is private")]
#[case::metadata(&["169.254.169.254"], "hands out credentials")]
#[case::metadata_v6(&["fd00:ec2::254"], "hands out credentials")]
#[case::unique_local(&["fd12::1"], "it is private")]
#[case::mapped(&["::ffff:192.168.0.1"], "it is private")]
#[case::nat64(&["64:ff9b::a9fe:a9fe"], "hands out credentials")]
#[case::unspecified(&["0.0.0.0"], "it is private")]
#[case::many(&["10.0.0.1", "192.168.0.1", "100.64.0.1"], "it is private")]
fn what_leads_inside_is_not_connected_to(#[case] addresses: &[&str], #[case] reason: &str) {
    run(async {
        let (_, fetched) = scripted("inside", Script::of(addresses)).await;
        let refused = fetched.unwrap_err();
        assert_eq!(refused.status, 502);
        assert!(refused.body.contains(reason), "{refused:?}");
    });
}

/// Where the cluster's own addresses are of the world, or opened with what they lie in, a class knows which they are.
#[test]
fn what_a_class_knows_as_the_clusters_is_not_connected_to() {
    run(async {
        let world = World::get().await;
        let host = world.host("cluster");
        world.dns.script(&host, Script::of(&["127.0.0.99"]));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let before = world.fetch(pod, &host, "/").await.unwrap_err();
        assert!(before.body.contains("does not answer"), "{before:?}");
        // Of what is connected already, the same is said once a class knows.
        let open = world.host("cluster-open");
        world.dns.script(&open, Script::of(&["127.0.0.98"]));
        let inside = TcpListener::bind(("127.0.0.98", world.hosts.tls)).await.unwrap();
        let workflow = world.workflow(&[&open], &[world.hosts.tls]).await;
        let opener = world.pod(&workflow).await;
        let authority = format!("{open}:{}", world.hosts.tls);
        let mut tunnel = client::tunnel(world.proxy.address(), opener, &authority).await.unwrap();
        tunnel
            .write_all(&client::hello(world.hosts.client(), &open))
            .await
            .unwrap();
        let (mut reached, _) = inside.accept().await.unwrap();
        reached.read_exact(&mut [0; 5]).await.unwrap();
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "knows"},
            "spec": {"images": {"allowed": ["**"]}, "cluster": {"clusterCIDRs": ["127.0.0.98/31"]}},
        });
        let classes: Api<AIWorkflowClass> = Api::all(world.client.clone());
        let class = serde_json::from_value(class).unwrap();
        classes.create(&PostParams::default(), &class).await.unwrap();
        support::eventually(SOON, || async {
            let refused = world.fetch(pod, &host, "/").await.unwrap_err();
            anyhow::ensure!(refused.status == 502, "{refused:?}");
            anyhow::ensure!(
                refused
                    .body
                    .contains("it is of the cluster's own pods, Services or nodes"),
                "{refused:?}"
            );
            Ok(())
        })
        .await;
        let ended = timeout(SOON, tunnel.read(&mut [0])).await.expect("it goes on");
        assert_eq!(ended.unwrap_or(0), 0);
        let line = world.proxy.line(&open).await;
        assert!(
            line["reason"]
                .as_str()
                .unwrap()
                .ends_with("cluster's own pods, Services or nodes"),
            "{line}"
        );
    });
}

/// A Node without a range has the operator detect nothing for a while, and a proxy that is started meanwhile has nothing of its own to go by.
#[test]
fn what_was_detected_last_is_not_connected_to() {
    run(async {
        let world = World::get().await;
        let host = world.host("cluster-before");
        world.dns.script(&host, Script::of(&["127.0.0.96"]));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "knew"},
            "spec": {"images": {"allowed": ["**"]}},
        });
        let classes: Api<AIWorkflowClass> = Api::all(world.client.clone());
        let class = serde_json::from_value(class).unwrap();
        classes.create(&PostParams::default(), &class).await.unwrap();
        let says = async |status: Value| {
            let status = Patch::Merge(json!({"status": status}));
            classes
                .patch_status("knew", &PatchParams::default(), &status)
                .await
                .unwrap();
        };
        let is_refused = async |proxy: &Egress| {
            let refused = world.fetch_by(proxy, pod, &host, "/").await.unwrap_err();
            anyhow::ensure!(refused.body.contains("it is of the cluster's own"), "{refused:?}");
            anyhow::Ok(())
        };
        says(json!({"cluster": {"ranges": ["127.0.0.96/32"]}})).await;
        support::eventually(SOON, || is_refused(&world.proxy)).await;
        says(json!({"cluster": null, "lastKnownRanges": ["127.0.0.96/32"]})).await;
        let started = world.proxy_with(&[]).await;
        for proxy in [&started, &world.proxy] {
            is_refused(proxy).await.unwrap();
        }
        says(json!({"lastKnownRanges": null})).await;
        support::eventually(SOON, || async {
            let reached = world.fetch_by(&started, pod, &host, "/").await.unwrap_err();
            anyhow::ensure!(reached.body.contains("does not answer"), "{reached:?}");
            Ok(())
        })
        .await;
    });
}

#[test]
fn of_many_addresses_those_are_tried_that_may_be() {
    run(async {
        // Nobody listens at the first that may be connected to.
        let (_, fetched) = scripted(
            "mixed",
            Script::of(&["10.0.0.1", "127.0.0.77", "169.254.169.254", "127.0.0.1"]),
        )
        .await;
        assert!(fetched.is_ok(), "{fetched:?}");
    });
}

/// The first answer is checked and connected to; the second, which leads inside, is checked anew.
#[test]
fn a_name_that_moves_inside_is_not_followed() {
    run(async {
        let world = World::get().await;
        let host = world.host("rebinding");
        world
            .dns
            .script(&host, Script::in_turn(&[&["127.0.0.1"], &["10.0.0.1"]]));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        assert!(world.fetch(pod, &host, "/").await.is_ok());
        let refused = world.fetch(pod, &host, "/").await.unwrap_err();
        assert!(refused.body.contains("it is private"), "{refused:?}");
    });
}

#[test]
fn aliases_are_followed_and_need_not_be_declared() {
    run(async {
        let mut script = Script::of(&["127.0.0.1"]);
        script.aliases = (0..8).map(|number| format!("alias-{number}.{ZONE}")).collect();
        let (_, fetched) = scripted("alias", script).await;
        assert!(fetched.is_ok(), "{fetched:?}");
    });
}

#[test]
fn what_a_datagram_does_not_hold_is_asked_for_by_tcp() {
    run(async {
        let world = World::get().await;
        let before = world.dns.streams();
        let many: Vec<String> = (0..500)
            .map(|number| format!("10.1.{}.{}", number / 250, number % 250))
            .collect();
        let mut addresses: Vec<&str> = vec!["127.0.0.1"];
        addresses.extend(many.iter().map(String::as_str));
        let mut script = Script::of(&addresses);
        script.is_cut = true;
        let (_, fetched) = scripted("many", script).await;
        assert!(fetched.is_ok(), "{fetched:?}");
        assert!(world.dns.streams() > before);
    });
}

#[test]
fn a_host_at_ipv6_is_reached() {
    run(async {
        let world = World::get().await;
        let host = world.host("six");
        world.dns.script(&host, Script::of(&["::1"]));
        let workflow = world.workflow(&[&host], &[world.hosts.tls_v6]).await;
        let pod = world.pod(&workflow).await;
        let stream = client::tunnel(world.proxy.address(), pod, &format!("{host}:{}", world.hosts.tls_v6))
            .await
            .unwrap();
        let mut stream = client::tls(stream, world.hosts.client(), &host).await.unwrap();
        assert!(client::get(&mut stream, &host, "/").await.contains("HTTP/1.1 GET /"));
    });
}

/// An answer holds as long as it says, and longer where no resolver answers: what could be reached stays within reach.
#[test]
fn without_a_resolver_what_was_known_goes_on() {
    run(async {
        let world = World::get().await;
        let host = world.host("stale");
        world.dns.change(&host, |script| script.seconds = 1);
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        for _ in 0..3 {
            assert!(world.fetch(pod, &host, "/").await.is_ok());
        }
        let asked = world.dns.asked(&host);
        assert!(asked < 3, "it was asked for {asked} times within its time");
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        for code in [Rcode::SERVFAIL, Rcode::REFUSED] {
            world.dns.change(&host, |script| script.code = code);
            assert!(world.fetch(pod, &host, "/").await.is_ok());
        }
        assert!(world.dns.asked(&host) > asked);
        world.dns.change(&host, |script| script.code = Rcode::NXDOMAIN);
        assert_eq!(
            world.fetch(pod, &host, "/").await.unwrap_err().status,
            502,
            "a name that is gone is gone"
        );
    });
}

#[test]
fn what_does_not_answer_is_told() {
    run(async {
        let world = World::get().await;
        let host = world.host("nobody");
        world.dns.script(&host, Script::of(&["127.0.0.78"]));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let refused = world.fetch(pod, &host, "/").await.unwrap_err();
        assert_eq!(refused.status, 502);
        assert!(
            refused.body.contains("does not answer (connection refused)"),
            "{refused:?}"
        );
    });
}
