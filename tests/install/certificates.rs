//! Somebody else's certificate: the commands and manifests of docs/certificates.md, as they stand there, with cert-manager's own controllers.
//! It is issued, renewed, and renewed by another CA, while reviews go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, from_value, json};
use support::cert_manager::CertManager;
use support::{ControlPlane, RELEASE_NAMESPACE, eventually};
use tokio::time::{Instant, sleep};

use crate::direct::served_at;
use crate::load::Load;
use crate::node::{Node, Running};
use crate::release::{FENCED, block, commands_of, declare, fence_stands, found, run};
use crate::sandbox;
use crate::world::{Actor, NAMESPACES, SOON, in_force, master};

const PAGE: &str = "docs/certificates.md";
const GIVEN: &str = "## Somebody else's: cert-manager, or by hand";
const WITH_CERT_MANAGER: &str = "### With cert-manager";
const RENEWED: &str = "### Renewed by hand, and by another CA";
/// The Secret that the page names, and that of its CA.
const LEAF: &str = "ringfence-webhook-cert";
const CA: &str = "ringfence-webhook-ca";
/// By which the API server calls the webhook.
const SERVICE: &str = "ringfence-webhook.ringfence-system.svc";
const PORT: u16 = 9443;
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// Until another CA alone is trusted: the page's five seconds before and half a minute after, and a busy machine.
const OVERLAP: Duration = Duration::from_secs(120);
/// Longer than a replica takes to look at the Secret, and the operator at the registrations.
const UNMOVED: Duration = Duration::from_secs(8);

struct Story {
    cluster: ControlPlane,
    node: Node,
    cert_manager: CertManager,
    admin: Actor,
    lea: Actor,
}

pub async fn story() {
    let cluster = sandbox::control_plane();
    let node = Node::join(&cluster).await;
    let cert_manager = CertManager::start(&cluster).await.expect("cert-manager");
    let admin = Actor::new(cluster.admin().await);
    let lea = master(&cluster, "lea", &[]).await;
    let story = Story {
        cluster,
        node,
        cert_manager,
        admin,
        lea,
    };
    story.is_not_ready_without_its_secret().await;
    story.is_ready_with_what_cert_manager_issues().await;
    let load = Load::start(&story.lea, FENCED);
    let since = Instant::now();
    let renew = renewals();
    let [leaf, ca, leaf_of_it] = renew.as_slice() else {
        panic!("the page renews the certificate, and then the CA and the certificate: {renew:?}")
    };
    story.leaf_is_renewed(leaf).await;
    load.since(since).await.is_clean("the certificate is renewed");
    let since = Instant::now();
    story.another_ca_alone_changes_nothing(ca).await;
    story.certificate_of_another_ca_is_trusted_first(leaf_of_it).await;
    load.since(since).await.is_clean("the CA is another one");
    story.nobody_else_wrote().await;
}

/// Names of the Certificates that the page renews with cmctl, in its order.
fn renewals() -> Vec<String> {
    let lines = commands_of(PAGE, RENEWED);
    let renewed = lines
        .iter()
        .filter_map(|line| line.strip_prefix("cmctl renew --namespace ringfence-system "));
    renewed.map(str::to_owned).collect()
}

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/{name}")
}

fn certificate(name: &str) -> String {
    format!("/apis/cert-manager.io/v1/namespaces/{RELEASE_NAMESPACE}/certificates/{name}")
}

/// Of a PEM file in a Secret the first certificate.
fn first(data: &Value) -> Result<Vec<u8>> {
    let pem: ByteString = from_value(data.clone())?;
    Ok(CertificateDer::from_pem_slice(&pem.0)?.to_vec())
}

impl Story {
    async fn is_not_ready_without_its_secret(&self) {
        for command in commands_of(PAGE, GIVEN) {
            run(&self.cluster, &command).await;
        }
        self.node.says_why_not_ready(2, "have cert-manager make it").await;
    }

    async fn is_ready_with_what_cert_manager_issues(&self) {
        let file = self.cluster.directory().join("certificates.yaml");
        std::fs::write(&file, block(PAGE, WITH_CERT_MANAGER, "yaml")).expect("writing it");
        run(&self.cluster, &format!("kubectl apply -f {}", file.display())).await;
        self.serves_what_the_secret_holds().await;
        self.node.ready(2).await;
        in_force(&self.admin).await;
        let fenced = json!({"metadata": {"name": FENCED, "labels": {
            "owner": "ml", "classification": "internal", "pod-security.kubernetes.io/enforce": "restricted", "ringfence.dev/enforce": "default",
        }}});
        eventually(SOON, || async {
            // The operator makes the class first.
            let answer = self.admin.try_post(NAMESPACES, &fenced).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            Ok(())
        })
        .await;
        declare(&self.admin, FENCED).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    async fn leaf_is_renewed(&self, name: &str) {
        let before = self.data(LEAF).await.expect("the certificate");
        self.renew(name).await;
        let after = self.data(LEAF).await.expect("the certificate");
        assert_ne!(
            before["tls.key"], after["tls.key"],
            "rotationPolicy Always means a key of its own"
        );
        assert_eq!(before["ca.crt"], after["ca.crt"]);
        self.serves_what_the_secret_holds().await;
    }

    /// cert-manager leaves what the CA has signed as it is.
    async fn another_ca_alone_changes_nothing(&self, name: &str) {
        let (leaf, ca) = (self.data(LEAF).await.expect("data"), self.data(CA).await.expect("data"));
        self.renew(name).await;
        assert_ne!(
            self.data(CA).await.expect("data")["tls.key"],
            ca["tls.key"],
            "it is another CA"
        );
        sleep(UNMOVED).await;
        assert!(
            self.data(LEAF).await.expect("data") == leaf,
            "the certificate was issued anew"
        );
        self.serves_what_the_secret_holds().await;
        for pod in self.node.ready(2).await {
            let said = self.node.ask(&pod, "/readyz").await.expect("an answer");
            assert!(said.starts_with("HTTP/1.1 200") && !said.contains("concerns"), "{said}");
        }
    }

    async fn certificate_of_another_ca_is_trusted_first(&self, name: &str) {
        let before = self.data(LEAF).await.expect("the certificate");
        self.renew(name).await;
        let after = self.data(LEAF).await.expect("the certificate");
        assert_ne!(
            before["ca.crt"],
            after["ca.crt"],
            "it is of the old CA: {}",
            self.cert_manager.said()
        );
        assert_eq!(after["ca.crt"], self.data(CA).await.expect("the CA")["tls.crt"]);
        self.serves_what_the_secret_holds().await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    /// The Secret is cert-manager's, and Ringfence made none of its own.
    async fn nobody_else_wrote(&self) {
        let held = self.admin.read(&secret(LEAF)).await.expect("the Secret");
        let managers = held["metadata"]["managedFields"].as_array().expect("managers");
        assert!(!managers.is_empty());
        for manager in managers {
            let name = manager["manager"].as_str().unwrap_or_default();
            assert!(name.starts_with("cert-manager-"), "{name} wrote it too");
        }
        let own = self.admin.is_there(&secret("ringfence-webhook-tls")).await;
        assert!(!own.expect("an answer"), "nobody needs a Secret of Ringfence's own");
        let restarts: u32 = self.node.ready(2).await.iter().map(|pod| pod.restarts).sum();
        assert_eq!(restarts, 0);
    }

    /// Every replica serves the Secret's certificate, and every registration trusts its CA and no other.
    async fn serves_what_the_secret_holds(&self) {
        eventually(OVERLAP, || async {
            let data = self.data(LEAF).await?;
            let leaf = first(&data["tls.crt"])?;
            for name in ["ringfence", "ringfence-bindings", "ringfence-policies"] {
                let registration = self.admin.read(&format!("{REGISTRATIONS}/{name}")).await?;
                for webhook in registration["webhooks"].as_array().into_iter().flatten() {
                    let trusted = &webhook["clientConfig"]["caBundle"];
                    ensure!(
                        *trusted == data["ca.crt"],
                        "{name} trusts another CA too, or not this one"
                    );
                }
            }
            let bundle = data["ca.crt"].as_str().context("no ca.crt")?;
            let pods = self.node.pods();
            ensure!(pods.len() == 2, "{pods:?}");
            for Running { name, address, .. } in &pods {
                let served = served_at(bundle, (*address, PORT).into(), SERVICE).await?;
                ensure!(served == leaf, "{name} serves another certificate");
            }
            Ok(())
        })
        .await;
    }

    async fn data(&self, name: &str) -> Result<Value> {
        let held = found(&self.admin, &secret(name), "/data").await;
        held.with_context(|| format!("cert-manager said: {}", self.cert_manager.said()))
    }

    /// Writes what `cmctl renew` writes, and waits until cert-manager has taken it away.
    async fn renew(&self, name: &str) {
        let path = certificate(name);
        let object = self.admin.read(&path).await.expect("the Certificate");
        let revision = &object["status"]["revision"];
        let mut conditions = object["status"]["conditions"].as_array().expect("conditions").clone();
        conditions.retain(|condition| condition["type"] != "Issuing");
        conditions.push(json!({
            "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "Certificate re-issuance manually triggered",
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "observedGeneration": object["metadata"]["generation"],
        }));
        let asked = json!({
            "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]}, "status": {"conditions": conditions},
        });
        self.admin.patch(&format!("{path}/status"), &asked).await.ok();
        eventually(SOON, || async {
            let status = self.admin.read(&path).await?["status"].clone();
            let conditions = status["conditions"].as_array().context("conditions")?;
            let issuing = conditions.iter().any(|condition| condition["type"] == "Issuing");
            ensure!(
                !issuing && status["revision"] != *revision,
                "{name} is not renewed: {status} {}",
                self.cert_manager.said()
            );
            Ok(())
        })
        .await;
    }
}
