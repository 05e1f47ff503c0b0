//! Who calls: the workflow whose only running pod has the address that a connection comes from.

use std::time::Duration;

use anyhow::ensure;
use axum::http::Request;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::client::Body;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};
use tokio::time::{Instant, sleep};

use crate::client;
use crate::world::{SOON, Workflow, World, fresh_address, run};

/// The verdict about a connection from an address to a host that is declared.
async fn status(world: &World, pod: std::net::IpAddr, host: &str) -> u16 {
    let authority = format!("{host}:{}", world.hosts.tls);
    match client::tunnel(world.proxy.address(), pod, &authority).await {
        Ok(_) => 200,
        Err(refused) => refused.status,
    }
}

#[test]
fn nobody_is_let_through_who_is_no_pod_of_a_workflow() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        world.workflow(&[&host], &[world.hosts.tls]).await;
        let began = Instant::now();
        let refused = world.fetch(fresh_address(), &host, "/").await.unwrap_err();
        assert_eq!(refused.status, 403);
        assert!(
            refused
                .body
                .contains("no running pod with the label ringfence.dev/workflow"),
            "{refused:?}"
        );
        let waited = began.elapsed();
        assert!(
            (Duration::from_secs(3)..Duration::from_secs(8)).contains(&waited),
            "a new pod is waited for: {waited:?}"
        );
    });
}

#[test]
fn a_pod_that_is_told_of_late_is_let_through() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let address = fresh_address();
        let late = async {
            sleep(Duration::from_millis(500)).await;
            world.pod_at(&workflow, &unique("late"), address, json!({})).await;
        };
        let (status, ()) = tokio::join!(status(world, address, &host), late);
        assert_eq!(status, 200);
    });
}

/// Who wrote which field anybody says who writes an object, with bytes that are no text; and the API server passes on what it was told.
#[test]
fn a_pod_that_is_no_text_hides_no_other() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let first = world.pod(&workflow).await;
        assert_eq!(status(world, first, &host).await, 200);
        let odd = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "odd", "labels": {"ringfence.dev/workflow": workflow.name}, "managedFields": [{
                "manager": "x", "operation": "Update", "apiVersion": "v1", "time": "2024-02-29T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:HERE": {}}},
            }]},
            "spec": {"containers": [{"name": "c", "image": "registry.example/i"}]},
        });
        let text = odd.to_string();
        let (before, behind) = text.split_once("HERE").unwrap();
        let bytes = [before.as_bytes(), b"\xff", behind.as_bytes()].concat();
        let pods = format!("/api/v1/namespaces/{}/pods", workflow.namespace);
        let request = Request::post(&pods)
            .header("Content-Type", "application/json")
            .body(Body::from(bytes))
            .unwrap();
        assert_eq!(world.client.send(request).await.unwrap().status(), 201);
        let second = world.pod(&workflow).await;
        assert_eq!(status(world, second, &host).await, 200);
        // Who begins with a list of all of them, too.
        let other = world.proxy_with(&[]).await;
        let authority = format!("{host}:{}", world.hosts.tls);
        assert!(client::tunnel(other.address(), second, &authority).await.is_ok());
        // What is answered is no text to a client of this kind.
        let request = Request::delete(format!("{pods}/odd?gracePeriodSeconds=0")).body(Body::empty());
        assert_eq!(world.client.send(request.unwrap()).await.unwrap().status(), 200);
    });
}

#[test]
fn an_address_that_two_workflows_have_is_nobodys() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let one = world.workflow(&[&host], &[world.hosts.tls]).await;
        let other = world.workflow(&[&host], &[world.hosts.tls]).await;
        let (address, name) = (fresh_address(), unique("pod"));
        world.pod_at(&one, &name, address, json!({})).await;
        assert_eq!(status(world, address, &host).await, 200);
        world.pod_at(&other, &name, address, json!({})).await;
        eventually(SOON, || async {
            let refused = world.fetch(address, &host, "/").await;
            let refused = refused.err().ok_or_else(|| anyhow::anyhow!("let through"))?;
            anyhow::ensure!(
                refused.body.contains("pods of two workflows have the address"),
                "{refused:?}"
            );
            Ok(())
        })
        .await;
        // One of them has finished: its address is the other's.
        world.pod_status(&one, &name, json!({"phase": "Succeeded"})).await;
        eventually(SOON, || async {
            anyhow::ensure!(status(world, address, &host).await == 200);
            Ok(())
        })
        .await;
        world.delete_pod(&other, &name).await;
        refused_soon(world, address, &host).await;
    });
}

async fn refused_soon(world: &World, address: std::net::IpAddr, host: &str) {
    eventually(SOON, || async {
        anyhow::ensure!(status(world, address, host).await == 403);
        Ok(())
    })
    .await;
}

#[test]
fn a_pod_on_the_hosts_network_is_not_told_by_its_address() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let address = fresh_address();
        world
            .pod_at(&workflow, &unique("pod"), address, json!({"hostNetwork": true}))
            .await;
        assert_eq!(status(world, address, &host).await, 403);
    });
}

#[test]
fn what_a_workflow_may_reach_follows_its_policy_and_its_namespace() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = Workflow {
            namespace: world.namespace().await,
            name: "triage".to_owned(),
        };
        let pod = world.pod(&workflow).await;
        let refused = world.fetch(pod, &host, "/").await.unwrap_err();
        assert!(refused.body.contains("it has no domains in force"), "{refused:?}");
        world.declare(&workflow, &[&host], &[world.hosts.tls]).await;
        eventually(SOON, || async {
            anyhow::ensure!(status(world, pod, &host).await == 200);
            Ok(())
        })
        .await;
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let unfenced = Patch::Merge(json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}}));
        namespaces
            .patch(&workflow.namespace, &PatchParams::default(), &unfenced)
            .await
            .unwrap();
        eventually(SOON, || async {
            let refused = world.fetch(pod, &host, "/").await;
            let refused = refused.err().ok_or_else(|| anyhow::anyhow!("let through"))?;
            anyhow::ensure!(refused.body.contains("its namespace is not fenced"), "{refused:?}");
            Ok(())
        })
        .await;
    });
}

/// A policy that somebody else wrote opens nothing, whatever it says.
#[test]
fn a_policy_that_ringfence_does_not_own_opens_nothing() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = Workflow {
            namespace: world.namespace().await,
            name: "triage".to_owned(),
        };
        let allowed =
            json!({"rules": [{"name": "a", "domains": [host], "ports": [{"port": world.hosts.tls}]}]}).to_string();
        // Without an owner; of one that no garbage collector knows, under a name of its own and under Ringfence's.
        let own = owned_name(&workflow.namespace, "triage", "domains");
        let strange = json!([{"apiVersion": "nosuch.example/v1", "kind": "AIWorkflow", "name": "triage", "uid": "1"}]);
        let forged = [
            ("mine", Value::Null),
            ("other", strange.clone()),
            (own.as_str(), strange),
        ];
        for (name, owners) in forged {
            let object = json!({
                "metadata": {
                    "name": name, "labels": {"ringfence.dev/owner": "triage"}, "ownerReferences": owners,
                    "annotations": {ringfence::egress::ANNOTATION: allowed, "ringfence.dev/owner-uid": "1"},
                },
                "spec": {"podSelector": {}},
            });
            let _: NetworkPolicy = world.create(&workflow.namespace, object).await;
        }
        let pod = world.pod(&workflow).await;
        assert_eq!(status(world, pod, &host).await, 403);
    });
}

/// A finalizer of anybody's keeps the policy; what it said is withdrawn all the same.
#[test]
fn a_policy_that_is_being_deleted_opens_nothing() {
    run(async {
        let world = World::get().await;
        let host = world.host("kept");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        assert_eq!(status(world, pod, &host).await, 200);
        let api: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &workflow.namespace);
        let name = workflow.policy();
        let keep = json!({"metadata": {"finalizers": ["x.example/keep"]}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(keep))
            .await
            .unwrap();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        eventually(SOON, || async {
            let code = status(world, pod, &host).await;
            ensure!(code == 403, "{code}");
            Ok(())
        })
        .await;
        assert!(api.get_opt(&name).await.unwrap().is_some(), "it is kept");
    });
}

/// As the chart has it. A pod that comes by IPv4 is known by the address that its object has, and not by how IPv6 writes it.
#[test]
fn one_listener_is_for_pods_of_both_families() {
    run(async {
        let world = World::get().await;
        let proxy = world.proxy_with(&["--listen=[::]:0"]).await;
        let port = eventually(SOON, || async {
            let log = proxy.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut listening = lines.filter(|line| line["message"] == "listening");
            let port = listening.find_map(|line| line["address"].as_str()?.strip_prefix("[::]:")?.parse::<u16>().ok());
            port.ok_or_else(|| anyhow::anyhow!("{log}"))
        })
        .await;
        let host = world.host("families");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let four = world.pod(&workflow).await;
        let six: std::net::IpAddr = "::1".parse().unwrap();
        world.pod_at(&workflow, &unique("pod"), six, json!({})).await;
        let authority = format!("{host}:{}", world.hosts.tls);
        for (pod, proxy) in [(four, "127.0.0.1"), (six, "::1")] {
            let proxy = std::net::SocketAddr::new(proxy.parse().unwrap(), port);
            let opened = client::tunnel(proxy, pod, &authority).await;
            let mut stream = client::tls(opened.unwrap(), world.hosts.client(), &host).await.unwrap();
            assert!(client::get(&mut stream, &host, "/").await.contains("GET /"), "{pod}");
        }
        let stranger = fresh_address();
        let proxy = std::net::SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        assert_eq!(
            client::tunnel(proxy, stranger, &authority).await.unwrap_err().status,
            403
        );
    });
}
