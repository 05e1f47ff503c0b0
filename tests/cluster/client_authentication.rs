//! The API server shows a client certificate, by its AdmissionConfiguration, and nobody else comes beyond the TLS handshake.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Ringfence, eventually};

use crate::authority::Authority;
use crate::direct::{cut_off, review_as};
use crate::world::{Actor, BINARY, SOON, in_force, pod};

const NAME: &str = "kube-apiserver-webhooks";

/// What docs/certificates.md says, with a user for any webhook: this one is reached at a port that is not known yet.
fn admission_configuration(directory: &Path, (certificate, key): &(String, String)) -> std::path::PathBuf {
    let write = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).expect("writing it");
        path
    };
    let user = json!({
        "client-certificate": write("webhooks.crt", certificate), "client-key": write("webhooks.key", key),
    });
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]});
    let webhooks = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
        "kubeConfigFile": write("webhooks.kubeconfig", &kubeconfig.to_string()),
    });
    let admission = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ValidatingAdmissionWebhook", "configuration": webhooks}],
    });
    write("admission.yaml", &admission.to_string())
}

async fn concerns(ringfence: &Ringfence) -> anyhow::Result<Value> {
    let (code, body) = ringfence.get("/readyz").await?;
    ensure!(code == 200, "{code} {body}");
    Ok(serde_json::from_str::<Value>(&body)?["concerns"].clone())
}

#[tokio::test]
async fn only_the_api_server_comes_beyond_the_handshake() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let file = directory.path().join("client-ca.crt");
    std::fs::write(&file, first.pem()).expect("writing it");
    let cluster = ControlPlane::start(Options {
        admission_configuration: Some(admission_configuration(directory.path(), &first.client(NAME))),
        ..Options::default()
    })
    .expect("a control plane");
    let flags = [
        format!("--client-ca={}", file.display()),
        format!("--client-name={NAME}"),
    ];
    let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &flags).await;
    let ringfence = ringfence.expect("ringfence, whose health is asked without a certificate");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;

    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
    let registration = admin.get(path).await.ok();
    let bundle = registration["webhooks"][0]["clientConfig"]["caBundle"]
        .as_str()
        .expect("trust");
    let refused = async |client: Option<&(String, String)>| cut_off(bundle, ringfence.port, client).await;
    let answered = async |client: &(String, String)| {
        let review = review_as(bundle, ringfence.port, Some(client), "default", &pod("x", "x")).await?;
        ensure!(review["response"]["allowed"] == false, "{review}");
        Ok(())
    };
    answered(&first.client(NAME)).await.expect("an answer");
    for (what, client) in [
        ("nothing", None),
        ("another CA's", Some(second.client(NAME))),
        ("another's", Some(first.client("kubelet"))),
        ("an old one", Some(first.expired_client(NAME))),
        ("a server's", Some(first.server(NAME))),
    ] {
        let alert = refused(client.as_ref()).await;
        let alert = alert.unwrap_or_else(|error| panic!("who shows {what} should be cut off: {error:#}"));
        assert!(alert.contains("received fatal alert"), "{what}: {alert}");
    }

    // Rotated: both for a while, then the new one alone; no restart.
    std::fs::write(&file, format!("{}{}", first.pem(), second.pem())).expect("writing it");
    eventually(SOON, || async { answered(&second.client(NAME)).await }).await;
    answered(&first.client(NAME)).await.expect("an answer");
    in_force(&admin).await;
    std::fs::write(&file, second.pem()).expect("writing it");
    eventually(SOON, || async { refused(Some(&first.client(NAME))).await.map(drop) }).await;
    answered(&second.client(NAME)).await.expect("an answer");

    // A mistake locks nobody out, lets nobody in, and is named.
    assert_eq!(concerns(&ringfence).await.expect("ready"), Value::Null);
    for (content, why) in [
        ("rubbish".to_owned(), "holds no certificate"),
        (first.client(NAME).0, "holds a certificate that is no CA"),
    ] {
        std::fs::write(&file, content).expect("writing it");
        eventually(SOON, || async {
            let concerns = concerns(&ringfence).await?;
            let reason = concerns[0]["reason"].as_str().unwrap_or_default();
            ensure!(
                concerns[0]["about"] == "client-authentication" && reason.contains(why),
                "{concerns}"
            );
            Ok(())
        })
        .await;
        answered(&second.client(NAME)).await.expect("an answer");
        refused(None).await.expect("an end");
        refused(Some(&first.client(NAME))).await.expect("an end");
    }
    std::fs::write(&file, second.pem()).expect("writing it");
    eventually(SOON, || async {
        let concerns = concerns(&ringfence).await?;
        ensure!(concerns.is_null(), "{concerns}");
        Ok(())
    })
    .await;

    what_cannot_tell_clients_does_not_start(&cluster, directory.path()).await;
}

async fn what_cannot_tell_clients_does_not_start(cluster: &ControlPlane, directory: &Path) {
    let file = directory.join("broken.crt");
    std::fs::write(&file, "rubbish").expect("writing it");
    let file = format!("--client-ca={}", file.display());
    let run = [
        "run",
        "--namespace=x",
        "--listen=127.0.0.1:0",
        "--metrics-listen=127.0.0.1:0",
        &file,
    ];
    for (more, why) in [
        (
            &["--client-name=x"] as &[&str],
            "put the CA that signs the API server's client certificate there",
        ),
        (&[], "--client-name"),
    ] {
        let arguments = [&run, more].concat();
        let ended = cluster.ringfence_as(&Identity::Admin, BINARY, &arguments);
        let ended = tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .expect("its end")
            .expect("a start");
        assert!(!ended.success && ended.to_string().contains(why), "{ended}");
    }
}
