//! Tokens of the API server's own making, beside the address: whose counts, whose does not, and where none is needed.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use support::{eventually, unique};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;

use crate::client;
use crate::world::{Egress, SOON, Workflow, World, fresh_address, run};

const AUDIENCE: &str = "ringfence-egress";

/// A proxy that heeds tokens so, with the right that the chart gives it then.
async fn proxy(tokens: &str) -> (&'static World, Egress) {
    static LET: OnceCell<()> = OnceCell::const_new();
    let world = World::get().await;
    let review = async || {
        let name = "egress-tokens";
        let rules =
            json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
        let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
        let roles: Api<ClusterRole> = Api::all(world.client.clone());
        roles.create(&PostParams::default(), &role).await.unwrap();
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": "egress-proxy", "name": "ringfence-egress"}],
        });
        let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    };
    LET.get_or_init(review).await;
    (world, world.proxy_with(&[&format!("--tokens={tokens}")]).await)
}

struct Place {
    world: &'static World,
    workflow: Workflow,
    host: String,
}

impl Place {
    async fn new(world: &'static World) -> Self {
        let host = world.host("token");
        let workflow = world.workflow(&[&host], &[world.hosts.tls, world.hosts.plain]).await;
        Self { world, workflow, host }
    }

    /// A pod: its name and its address.
    async fn pod(&self) -> (String, IpAddr) {
        let (name, address) = (unique("pod"), fresh_address());
        self.world.pod_at(&self.workflow, &name, address, json!({})).await;
        (name, address)
    }

    /// A token for a pod, as a kubelet asks for one.
    async fn token(&self, pod: &str, audience: &str) -> String {
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), &self.workflow.namespace);
        let uid = pods.get(pod).await.unwrap().metadata.uid.unwrap();
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        self.request(&json!({"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound}))
            .await
    }

    async fn request(&self, spec: &serde_json::Value) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.world.client.clone(), &self.workflow.namespace);
        let request: TokenRequest = serde_json::from_value(json!({"spec": spec})).unwrap();
        let made = accounts
            .create_token_request("default", &PostParams::default(), &request)
            .await;
        made.unwrap().status.unwrap().token.unwrap()
    }

    /// What is answered to CONNECT with that header, or none: its head.
    async fn connect(&self, proxy: &Egress, pod: IpAddr, shown: Option<&str>) -> String {
        let authority = format!("{}:{}", self.host, self.world.hosts.tls);
        let header = shown
            .map(|shown| format!("Proxy-Authorization: {shown}\r\n"))
            .unwrap_or_default();
        let mut stream = client::connection(proxy.address(), pod).await;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Waits until the proxy knows the pod.
    async fn is_known(&self, proxy: &Egress, pod: IpAddr, token: &str) {
        eventually(SOON, || async {
            let head = self.connect(proxy, pod, Some(&format!("Bearer {token}"))).await;
            anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
            Ok(())
        })
        .await;
    }
}

fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("pod:{token}")))
}

#[test]
fn a_pod_shows_its_own_token_and_no_others() {
    run(async {
        let (world, proxy) = proxy("required").await;
        let place = Place::new(world).await;
        let (name, pod) = place.pod().await;
        let (other_name, _) = place.pod().await;
        let own = place.token(&name, AUDIENCE).await;
        place.is_known(&proxy, pod, &own).await;
        // As clients do that have it from the URL, and many at a time.
        let asked = (0..20).map(|_| async { place.connect(&proxy, pod, Some(&basic(&own))).await });
        for head in futures::future::join_all(asked).await {
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }

        let none = place.connect(&proxy, pod, None).await;
        assert!(
            none.starts_with("HTTP/1.1 407 Proxy Authentication Required (ringfence: no-token)"),
            "{none}"
        );
        assert!(none.contains("proxy-authenticate: Basic realm=\"ringfence\""), "{none}");

        let [head, payload, signature] = own.split('.').collect::<Vec<_>>()[..] else {
            panic!("a JWT")
        };
        let other = place.token(&other_name, AUDIENCE).await;
        let [_, others_payload, _] = other.split('.').collect::<Vec<_>>()[..] else {
            panic!("a JWT")
        };
        let elsewhere = Place::new(world).await;
        let (elsewhere_name, elsewhere_pod) = elsewhere.pod().await;
        let stolen_by = elsewhere.token(&elsewhere_name, AUDIENCE).await;
        for (token, whose) in [
            (other.clone(), "another pod of the workflow"),
            (stolen_by.clone(), "a pod of another workflow"),
            (place.token(&name, "vault").await, "another audience"),
            (
                place.token(&name, "https://kubernetes.default.svc").await,
                "the API server's audience",
            ),
            (
                place
                    .request(&json!({"audiences": [AUDIENCE], "expirationSeconds": 600}))
                    .await,
                "no pod",
            ),
            (
                format!("{head}.{payload}.{}", signature.chars().rev().collect::<String>()),
                "forged",
            ),
            (format!("{head}.{others_payload}.{signature}"), "put together"),
            ("rubbish".to_owned(), "no token"),
        ] {
            let refused = place.connect(&proxy, pod, Some(&format!("Bearer {token}"))).await;
            assert!(
                refused.starts_with("HTTP/1.1 403 Forbidden (ringfence: bad-token)"),
                "{whose}: {refused}"
            );
        }
        let unreadable = place.connect(&proxy, pod, Some("Negotiate x")).await;
        assert!(
            unreadable.starts_with("HTTP/1.1 400 Bad Request (ringfence: bad-request)"),
            "{unreadable}"
        );
        // A token that is taken from a pod is of no use at another address.
        let stolen = elsewhere
            .connect(&proxy, elsewhere_pod, Some(&format!("Bearer {own}")))
            .await;
        assert!(stolen.contains("bad-token"), "{stolen}");

        let log = proxy.log();
        for token in [&own, &other, &stolen_by] {
            let end = &token[token.len() - 24..];
            assert!(!log.contains(end) && !log.contains(&STANDARD.encode(format!("pod:{token}"))));
        }
    });
}

/// Plain HTTP shows it as well, and the host behind gets none of it.
#[test]
fn a_token_ends_at_the_proxy() {
    run(async {
        let (world, proxy) = proxy("required").await;
        let place = Place::new(world).await;
        let (name, pod) = place.pod().await;
        let own = place.token(&name, AUDIENCE).await;
        place.is_known(&proxy, pod, &own).await;
        let authority = format!("{}:{}", place.host, world.hosts.plain);
        let ask = |header: String| {
            format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{header}\r\n")
        };
        let answer = client::say(
            proxy.address(),
            pod,
            ask(format!("Proxy-Authorization: Bearer {own}\r\n")),
        )
        .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = answer.body.to_lowercase();
        assert!(
            !seen.contains("proxy-authorization") && !answer.body.contains(&own),
            "{seen}"
        );
        let answer = client::say(proxy.address(), pod, ask(String::new())).await;
        assert_eq!(answer.status, 407, "{answer:?}");
    });
}

#[test]
fn where_none_is_required_the_address_is_enough_and_what_is_shown_counts() {
    run(async {
        let (world, checked) = proxy("checked").await;
        let place = Place::new(world).await;
        let (name, pod) = place.pod().await;
        let own = place.token(&name, AUDIENCE).await;
        place.is_known(&checked, pod, &own).await;
        let none = place.connect(&checked, pod, None).await;
        assert!(none.starts_with("HTTP/1.1 200 "), "{none}");
        let vault = format!("Bearer {}", place.token(&name, "vault").await);
        let refused = place.connect(&checked, pod, Some(&vault)).await;
        assert!(refused.contains("bad-token"), "{refused}");
        // The proxy of all other tests heeds none, whatever it is.
        let ignored = place.connect(&world.proxy, pod, Some(&vault)).await;
        assert!(ignored.starts_with("HTTP/1.1 200 "), "{ignored}");
    });
}

/// The pod is gone and its address another's: the API server does not vouch for a token of a pod that is not there.
#[test]
fn a_token_ends_with_its_pod() {
    run(async {
        let (world, proxy) = proxy("required").await;
        let place = Place::new(world).await;
        let (name, address) = place.pod().await;
        let own = place.token(&name, AUDIENCE).await;
        place.is_known(&proxy, address, &own).await;
        place.world.delete_pod(&place.workflow, &name).await;
        let next = unique("pod");
        place.world.pod_at(&place.workflow, &next, address, json!({})).await;
        let of_next = place.token(&next, AUDIENCE).await;
        place.is_known(&proxy, address, &of_next).await;
        let refused = place.connect(&proxy, address, Some(&format!("Bearer {own}"))).await;
        assert!(refused.contains("bad-token"), "{refused}");
    });
}
