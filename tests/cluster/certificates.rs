//! The webhook's certificate under traffic: repaired where a hand spoiled it, and somebody else's, served, rotated, and named where it
//! cannot be. On a control plane of its own.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use support::{ControlPlane, Options, RELEASE_NAMESPACE, Ringfence, eventually};
use tokio::task::JoinHandle;

use crate::authority::Authority;
use crate::direct::served;
use crate::world::{Actor, BINARY, SOON, in_force};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
/// By which the API server calls it here.
const HOST: &str = "127.0.0.1";

fn base64(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}

async fn trusted(admin: &Actor) -> Result<String> {
    let registration = admin.read(REGISTRATION).await?;
    let bundle = registration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
    Ok(bundle.context("no caBundle")?.to_owned())
}

/// Reviews through the API server, and new connections by whom the registration trusted a moment ago, as an API server that is a little
/// behind makes them. Whatever fails is counted.
struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn start(admin: &Actor, ports: &[u16]) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = vec![tokio::spawn(reviews(admin.clone(), stop.clone(), good.clone()))];
        for port in ports {
            tasks.push(tokio::spawn(connections(
                admin.clone(),
                *port,
                stop.clone(),
                good.clone(),
            )));
        }
        Self { stop, good, tasks }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let lost = task.await.expect("traffic");
            assert!(
                lost.is_empty(),
                "{} requests were lost, such as {}",
                lost.len(),
                lost[0]
            );
        }
        let good = self.good.load(Ordering::Relaxed);
        assert!(good > 100, "{good} requests are no traffic");
    }
}

async fn reviews(admin: Actor, stop: Arc<AtomicBool>, good: Arc<AtomicU64>) -> Vec<String> {
    let labelled = json!({"metadata": {"name": "traffic", "labels": {"ringfence.dev/workflow": "x"}}});
    let mut lost = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = admin
            .post("/api/v1/namespaces/default/configmaps?dryRun=All", &labelled)
            .await;
        if answer.message().contains("[approved-namespace]") {
            good.fetch_add(1, Ordering::Relaxed);
        } else {
            lost.push(format!("{} {}", answer.code, answer.message()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lost
}

async fn connections(admin: Actor, port: u16, stop: Arc<AtomicBool>, good: Arc<AtomicU64>) -> Vec<String> {
    let mut lost = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let bundle = trusted(&admin).await.expect("the registration");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            match served(&bundle, port).await {
                Ok(_) => drop(good.fetch_add(1, Ordering::Relaxed)),
                Err(error) => lost.push(format!("{error:#}")),
            }
        }
    }
    lost
}

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
}

#[tokio::test]
async fn certificates_are_kept_served_and_trusted() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let own = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let scene = Scene { cluster, admin };
    what_a_hand_spoiled_is_made_anew(&scene, &own).await;
    let (port, metrics_port) = (own.port, own.metrics_port);
    own.terminate(Duration::from_secs(30)).await.expect("its end");

    let values = json!({"webhook": {"certificate": {"secretName": "given"}}});
    scene.cluster.install(port, &values).await.expect("an upgrade");
    let first = Authority::new("first");
    scene.give(&first.pem(), &first.server(HOST)).await;
    let flags = ["--tls-secret=given", "--tls-provided"].map(str::to_owned);
    let given = scene
        .cluster
        .spawn_ringfence_with(BINARY, port, metrics_port, &flags)
        .await;
    let given = given.expect("ringfence with somebody else's certificate");
    in_force(&scene.admin).await;
    let last = somebody_elses_is_rotated(&scene, &given, &flags).await;
    what_cannot_be_served_is_named(&scene, &given, &last).await;
}

impl Scene {
    fn secret(name: &str) -> String {
        format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/{name}")
    }

    /// Writes somebody else's Secret, as cert-manager does.
    async fn give(&self, authority: &str, (certificate, key): &(String, String)) {
        let data = json!({"ca.crt": base64(authority), "tls.crt": base64(certificate), "tls.key": base64(key)});
        let path = Self::secret("given");
        if self.admin.is_there(&path).await.expect("an answer") {
            self.admin.patch(&path, &json!({"data": data})).await.ok();
        } else {
            let secret = json!({"metadata": {"name": "given"}, "type": "kubernetes.io/tls", "data": data});
            let secrets = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets");
            self.admin.post(&secrets, &secret).await.ok();
        }
    }

    /// Waits until a certificate that is valid under `authority` is served, and that alone is trusted.
    async fn settled(&self, ringfence: &Ringfence, authority: Option<&str>) -> String {
        eventually(Duration::from_secs(90), || async {
            let bundle = trusted(&self.admin).await?;
            if let Some(authority) = authority {
                ensure!(base64(authority) == json!(bundle), "another CA is trusted too");
            }
            served(&bundle, ringfence.port).await?;
            let (code, body) = ringfence.get("/readyz").await?;
            ensure!(code == 200, "{code} {body}");
            Ok(bundle)
        })
        .await
    }
}

async fn what_a_hand_spoiled_is_made_anew(scene: &Scene, ringfence: &Ringfence) {
    let path = Scene::secret("ringfence-webhook-tls");
    let foreign = Authority::new("foreign");
    let (certificate, key) = foreign.server(HOST);
    let traffic = Traffic::start(&scene.admin, &[ringfence.port]);
    for (what, edit) in [
        ("garbage", json!({"data": {"tls.crt": base64("rubbish")}})),
        ("half", json!({"data": {"ca.key": null, "tls.key": ""}})),
        (
            "nothing",
            json!({"data": {"ca.crt": null, "ca.key": null, "tls.crt": "", "tls.key": ""}}),
        ),
        ("another's key", json!({"data": {"tls.key": base64(&key)}})),
        ("a CA that is none", json!({"data": {"ca.crt": base64(&certificate)}})),
        ("one more CA", json!({"data": {"ca.crt": base64(&foreign.pem())}})),
    ] {
        scene.admin.patch(&path, &edit).await.ok();
        eventually(SOON, || async {
            let data = scene.admin.read(&path).await?["data"].clone();
            for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
                let edited = &edit["data"][key];
                ensure!(
                    data[key].is_string() && data[key] != *edited,
                    "{what}: {key} is not mended"
                );
            }
            let bundle = data["ca.crt"].as_str().context("no ca.crt")?;
            served(bundle, ringfence.port).await.context(what)?;
            Ok(())
        })
        .await;
    }
    scene.admin.delete(&path).await.ok();
    eventually(SOON, || async {
        let secret = scene.admin.read(&path).await?;
        let bundle = secret["data"]["ca.crt"].as_str().context("no ca.crt")?;
        served(bundle, ringfence.port).await?;
        Ok(())
    })
    .await;
    traffic.end().await;
}

/// Twice, each time with another CA, the second time while the first is still trusted; by two replicas, of which neither starts anew.
async fn somebody_elses_is_rotated(scene: &Scene, ringfence: &Ringfence, flags: &[String]) -> (Authority, String) {
    let ports = [(); 2].map(|()| TcpListener::bind((HOST, 0)).expect("a port"));
    let [port, metrics_port] = ports
        .each_ref()
        .map(|port| port.local_addr().expect("an address").port());
    drop(ports);
    let second = scene
        .cluster
        .spawn_ringfence_with(BINARY, port, metrics_port, flags)
        .await;
    let second = second.expect("a second replica");
    let both = [ringfence.port, second.port];
    let traffic = Traffic::start(&scene.admin, &both);
    let mut last = None;
    for name in ["second", "third"] {
        let next = Authority::new(name);
        scene.give(&next.pem(), &next.server(HOST)).await;
        let authority = base64(&next.pem());
        let bundle = authority.as_str().expect("base64");
        for port in both {
            eventually(SOON, || served(bundle, port)).await;
        }
        last = Some(next);
    }
    let last = last.expect("an authority");
    let bundle = scene.settled(ringfence, Some(&last.pem())).await;
    traffic.end().await;
    let one = served(&bundle, ringfence.port).await.expect("a certificate");
    let other = served(&bundle, second.port).await.expect("a certificate");
    assert_eq!(one, other);
    second.terminate(Duration::from_secs(30)).await.expect("its end");
    (last, bundle)
}

async fn what_cannot_be_served_is_named(scene: &Scene, ringfence: &Ringfence, (last, bundle): &(Authority, String)) {
    let good = last.server(HOST);
    let before = served(bundle, ringfence.port).await.expect("a certificate");
    let other = last.server(HOST);
    let stranger = Authority::new("stranger");
    for (authority, pair, why) in [
        (
            last.pem(),
            (good.0.clone(), other.1.clone()),
            "tls.key is not the key of tls.crt",
        ),
        (
            last.pem(),
            last.expired_server(HOST),
            "its tls.crt has expired: renew it",
        ),
        (last.pem(), last.server("elsewhere.example.com"), "is not for 127.0.0.1"),
        (
            stranger.pem(),
            good.clone(),
            "under ca.crt: put the CA that signed it there",
        ),
        (good.0.clone(), good.clone(), "holds a certificate that is no CA"),
        ("rubbish".to_owned(), good.clone(), "ca.crt holds no certificate"),
    ] {
        scene.give(&authority, &pair).await;
        eventually(SOON, || async {
            let (code, body) = ringfence.get("/readyz").await?;
            ensure!(code == 200, "what is served is still good: {code} {body}");
            let report: Value = serde_json::from_str(&body)?;
            let reason = report["concerns"][0]["reason"].as_str().unwrap_or_default();
            ensure!(
                reason.starts_with("Secret given ") && reason.contains(why),
                "{why}: {report}"
            );
            Ok(())
        })
        .await;
        assert_eq!(
            served(bundle, ringfence.port).await.expect("a certificate"),
            before,
            "{why}"
        );
    }
    let held = scene.admin.get(&Scene::secret("given")).await.ok();
    assert_eq!(
        held["data"]["ca.crt"],
        base64("rubbish"),
        "it is somebody else's, and never written"
    );
    scene.give(&last.pem(), &good).await;
    eventually(SOON, || async {
        let (code, body) = ringfence.get("/readyz").await?;
        ensure!(code == 200 && !body.contains("concerns"), "{code} {body}");
        Ok(())
    })
    .await;
}
