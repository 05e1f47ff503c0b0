//! The control plane itself: what every other test here rests on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{from_value, json};
use support::{ControlPlane, Options, eventually, unique};

const SOON: Duration = Duration::from_secs(30);
/// Makes this test binary play the process that is killed.
const VICTIM: &str = "RINGFENCE_TEST_VICTIM";

async fn namespace(client: &Client, prefix: &str) -> String {
    let name = unique(prefix);
    let object = from_value(json!({"metadata": {"name": name}})).expect("a Namespace");
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .expect("creating it");
    name
}

async fn who_am_i(client: &Client) -> (String, Vec<String>) {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .expect("a review of oneself");
    let user = review.status.and_then(|status| status.user_info).expect("a user");
    (user.username.unwrap_or_default(), user.groups.unwrap_or_default())
}

#[tokio::test]
async fn the_api_server_says_its_version_and_publishes_itself() {
    let cluster = ControlPlane::shared();
    let admin = cluster.admin().await;
    let version = admin.apiserver_version().await.expect("a version");
    assert_eq!(version.git_version, cluster.ready().versions["kubernetes"]);
    assert_eq!(version.major, "1", "clients would take it for v0.0.0: {version:?}");
    let slices: Api<EndpointSlice> = Api::namespaced(admin, "default");
    let slice = slices
        .get("kubernetes")
        .await
        .expect("the EndpointSlice of the API server");
    let addresses: Vec<String> = slice
        .endpoints
        .into_iter()
        .flatten()
        .flat_map(|endpoint| endpoint.addresses)
        .collect();
    assert_eq!(addresses, ["192.0.2.1"]);
}

#[tokio::test]
async fn each_client_is_who_it_says() {
    let cluster = ControlPlane::shared();
    let admin = cluster.admin().await;
    let (name, groups) = who_am_i(&admin).await;
    assert_eq!(name, "ringfence-admin");
    assert!(groups.contains(&"system:masters".to_owned()), "{groups:?}");

    let (name, groups) = who_am_i(&cluster.user("mia", &["finance-ml", "staff", "berlin"]).await).await;
    assert_eq!(name, "mia");
    assert_eq!(
        BTreeSet::from_iter(groups),
        ["finance-ml", "staff", "berlin", "system:authenticated"]
            .map(String::from)
            .into()
    );

    let (name, groups) = who_am_i(&cluster.impersonate("noa", &["risk"]).await).await;
    assert_eq!(name, "noa");
    assert_eq!(groups, ["risk", "system:authenticated"]);

    let namespace = namespace(&admin, "identity").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, &namespace);
    eventually(SOON, || async { Ok(accounts.get("default").await?) }).await;
    let (name, _) = who_am_i(&cluster.service_account(&namespace, "default").await).await;
    assert_eq!(name, format!("system:serviceaccount:{namespace}:default"));
}

#[tokio::test]
async fn rbac_is_on_and_two_users_differ() {
    let cluster = ControlPlane::shared();
    let admin = cluster.admin().await;
    let namespace = namespace(&admin, "rbac").await;
    let bindings: Api<RoleBinding> = Api::namespaced(admin, &namespace);
    let binding = from_value(json!({
        "metadata": {"name": "mia"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mia"}],
    }));
    bindings
        .create(&PostParams::default(), &binding.expect("a RoleBinding"))
        .await
        .expect("creating it");

    let mia: Api<ConfigMap> = Api::namespaced(cluster.user("mia", &[]).await, &namespace);
    let seen = eventually(SOON, || async { Ok(mia.list(&ListParams::default()).await?) }).await;
    assert!(
        seen.items
            .iter()
            .all(|map| map.namespace().as_ref() == Some(&namespace)),
        "{seen:?}"
    );

    let noa: Api<ConfigMap> = Api::namespaced(cluster.user("noa", &[]).await, &namespace);
    let refused = noa.list(&ListParams::default()).await.expect_err("noa holds no rights");
    let kube::Error::Api(status) = refused else {
        panic!("not an answer of the API server: {refused}")
    };
    assert_eq!(status.code, 403, "{status:?}");
}

#[tokio::test]
async fn controllers_make_pods() {
    let cluster = ControlPlane::shared();
    let admin = cluster.admin().await;
    let namespace = namespace(&admin, "controllers").await;
    let job = from_value::<Job>(json!({
        "metadata": {"name": "one"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}},
    }));
    let jobs: Api<Job> = Api::namespaced(admin.clone(), &namespace);
    jobs.create(&PostParams::default(), &job.expect("a Job"))
        .await
        .expect("creating it");
    let pods: Api<Pod> = Api::namespaced(admin, &namespace);
    eventually(SOON, || async {
        ensure!(
            !pods.list(&ListParams::default()).await?.items.is_empty(),
            "the job controller has made no pod yet"
        );
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn kubectl_runs_as_who_it_is_told() {
    let cluster = ControlPlane::shared();
    let identity = support::Identity::user("mia", &["finance-ml"]);
    let said = cluster
        .kubectl_as(&identity, &["auth", "whoami"])
        .await
        .expect("kubectl");
    assert!(said.success && said.stdout.contains("finance-ml"), "{said}");
    let refused = cluster.kubectl_as(&identity, &["get", "nodes"]).await.expect("kubectl");
    assert!(!refused.success && refused.stderr.contains("Forbidden"), "{refused}");
}

/// Plays the process that is killed, only when the test below starts it as one.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    println!("\n{}", cluster.directory().display());
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn a_killed_test_process_leaves_nothing_behind() {
    // Built before the victim is: a victim that waits for a build would not be killed at the right moment.
    ControlPlane::shared();
    let itself = std::env::current_exe().expect("this test binary");
    let mut victim = Command::new(itself)
        .args(["--exact", "controlplane::victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting the victim");
    let output = std::io::BufReader::new(victim.stdout.take().expect("its output"));
    let directory = std::io::BufRead::lines(output)
        .map_while(Result::ok)
        .find(|line| line.contains("ringfence-controlplane-"))
        .expect("its directory");
    assert_eq!(
        processes_of(&directory).len(),
        3,
        "etcd, API server and controller manager run"
    );

    victim.kill().expect("killing it");
    victim.wait().expect("its end");
    eventually(SOON, || async {
        let left = processes_of(&directory);
        ensure!(left.is_empty(), "still running: {left:?}");
        ensure!(!Path::new(&directory).exists(), "{directory} is still there");
        Ok(())
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_supervisor_takes_its_components_with_it_and_the_next_one_sweeps() {
    let first = ControlPlane::start(Options {
        use_service_account_credentials: false,
        ..Options::default()
    })
    .expect("a control plane");
    let directory = first.directory().display().to_string();
    let killed = Command::new("kill")
        .args(["-KILL", &first.ready().pid.to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    eventually(SOON, || async {
        let left = processes_of(&directory);
        ensure!(left.is_empty(), "still running: {left:?}");
        Ok(())
    })
    .await;
    let second = ControlPlane::start(Options::default()).expect("another control plane");
    assert!(!Path::new(&directory).exists(), "{directory} should be swept");
    let own = second.directory().to_owned();
    drop(second);
    assert!(!own.exists(), "{} should be removed", own.display());
}

/// Command lines of the processes that were told to use the directory.
fn processes_of(directory: &str) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-A", "-ww", "-o", "args="])
        .output()
        .context("running ps")
        .expect("a process list");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed
        .lines()
        .filter(|line| line.contains(directory))
        .map(str::to_owned)
        .collect()
}
