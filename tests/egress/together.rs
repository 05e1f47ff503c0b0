//! The operator and the proxy, as the chart makes them: from the declaration to the connection, and back. On a control plane of its own,
//! because the guards of the chart refuse the policies that the other tests write.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Output, RELEASE_NAMESPACE, Ringfence, eventually, unique};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::actors::{Actor, BINARY, CLASSES, in_force, master, namespace};
use crate::kubelet;
use crate::objects::{all, condition, one, pod, workflow};
use crate::world::{Egress, SOON, World, fresh_address, run_for};
use crate::{client, hosts};

const TRIAGE: &str = "triage";

struct Scene {
    world: &'static World,
    plane: ControlPlane,
    admin: Actor,
    ns: String,
    proxy: Egress,
    /// It ends with this.
    _ringfence: Ringfence,
}

impl Scene {
    async fn new() -> Self {
        let world = World::get().await;
        let plane = ControlPlane::start(Options::default()).expect("a control plane");
        let values = json!({"egress": {"enabled": true}});
        let flags = ["--scan-period=0", "--egress-proxy"].map(str::to_owned);
        let ringfence = plane.start_ringfence_with(BINARY, &values, &flags).await;
        let ringfence = ringfence.expect("ringfence");
        let admin = Actor::new(plane.admin().await);
        in_force(&admin).await;
        // No node runs its pods: the proxy is a process, with the account that they would have.
        let deployment = one("Deployment", RELEASE_NAMESPACE, "ringfence-egress");
        admin.patch(&deployment, &json!({"spec": {"replicas": 0}})).await.ok();
        let account = Identity::service_account(RELEASE_NAMESPACE, "ringfence-egress");
        let kubeconfig = plane.kubeconfig_for(&account).await.unwrap();
        let proxy = Egress::start(&kubeconfig, &world.dns, &[]).await;
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "wide"},
            "spec": {"images": {"allowed": ["**"]}, "network": {"domains": [format!("*.{}", hosts::ZONE)]}},
        });
        admin.post(CLASSES, &class).await.ok();
        let ns = namespace(&admin, "together", &json!({"ringfence.dev/enforce": "wide"})).await;
        Self {
            world,
            plane,
            admin,
            ns,
            proxy,
            _ringfence: ringfence,
        }
    }

    fn spec(&self, domains: &[&str]) -> Value {
        let ports = json!([{"port": self.world.hosts.tls}]);
        json!({"network": {"egress": [{"name": "llm", "to": {"domains": domains}, "ports": ports}]}})
    }

    async fn declare(&self, domains: &[&str]) {
        let object = workflow(TRIAGE, &self.spec(domains));
        self.admin.post(&all("AIWorkflow", &self.ns), &object).await.ok();
        eventually(SOON, || async {
            let found = self.admin.read(&one("AIWorkflow", &self.ns, TRIAGE)).await?;
            ensure!(condition(&found, "Ready")["status"] == "True", "{}", found["status"]);
            Ok(())
        })
        .await;
    }

    async fn redeclare(&self, domains: &[&str]) {
        let path = one("AIWorkflow", &self.ns, TRIAGE);
        self.admin.patch(&path, &json!({"spec": self.spec(domains)})).await.ok();
    }

    /// A pod that its launcher makes, and that runs as far as its status says.
    async fn pod(&self) -> IpAddr {
        let (name, address) = (unique("worker"), fresh_address());
        let lea = master(&self.plane, "lea", &[]).await;
        lea.post(&all("Pod", &self.ns), &pod(&name, TRIAGE)).await.ok();
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        runs(&self.plane, &self.ns, &name, status).await;
        address
    }

    async fn open(&self, pod: IpAddr, host: &str) -> TlsStream<TcpStream> {
        let authority = format!("{host}:{}", self.world.hosts.tls);
        let stream = eventually(SOON, || async {
            let opened = client::tunnel(self.proxy.address(), pod, &authority).await;
            opened.map_err(|refused| anyhow::anyhow!("{refused:?}"))
        })
        .await;
        client::tls(stream, self.world.hosts.client(), host).await.unwrap()
    }

    async fn is_refused(&self, pod: IpAddr, host: &str) {
        let refused = self.world.fetch_by(&self.proxy, pod, host, "/").await.unwrap_err();
        assert_eq!(refused.status, 403, "{refused:?}");
    }

    async fn report(&self, identity: &Identity, arguments: &[&str]) -> Output {
        let arguments = [&["egress", "report", "--namespace", &self.ns], arguments].concat();
        self.plane.ringfence_as(identity, BINARY, &arguments).await.unwrap()
    }
}

async fn runs(plane: &ControlPlane, namespace: &str, name: &str, status: Value) {
    let pods: Api<Pod> = Api::namespaced(plane.admin().await, namespace);
    let patch = Patch::Merge(json!({"status": status}));
    pods.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// What a report says of each domain, and what was refused.
fn told(report: &Value) -> (Vec<(String, String)>, Vec<String>) {
    let [one] = &report["workflows"].as_array().unwrap()[..] else {
        panic!("{report}")
    };
    assert_eq!((&one["name"], &one["exists"]), (&json!(TRIAGE), &json!(true)), "{one}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let domains = one["domains"].as_array().unwrap().iter();
    let domains = domains.map(|domain| (text(&domain["domain"]), text(&domain["state"])));
    let refused = one["refused"].as_array().unwrap().iter();
    (
        domains.collect(),
        refused.map(|refused| text(&refused["host"])).collect(),
    )
}

#[test]
fn what_an_aiworkflow_declares_is_reached_counted_and_taken_back() {
    run_for(Duration::from_secs(240), async {
        let scene = Scene::new().await;
        let [kept, taken, unused, other] = ["kept", "taken", "unused", "other"].map(|of| scene.world.host(of));
        scene.declare(&[&kept, &taken, &unused]).await;
        let pod = scene.pod().await;
        let mut kept_tunnel = scene.open(pod, &kept).await;
        let mut taken_tunnel = scene.open(pod, &taken).await;
        scene.is_refused(pod, &other).await;
        a_report_is_what_happened(&scene, [&kept, &taken, &unused, &other]).await;

        scene.redeclare(&[&kept, &unused]).await;
        let ended = timeout(SOON, taken_tunnel.read(&mut [0])).await;
        assert_eq!(ended.expect("the tunnel to end").unwrap_or(0), 0);
        let line = scene.proxy.line(&taken).await;
        assert_eq!(
            line["reason"], "withdrawn: its workflow may not reach it any more",
            "{line}"
        );
        scene.is_refused(pod, &taken).await;
        assert!(
            client::get(&mut kept_tunnel, &kept, "/still")
                .await
                .contains("GET /still")
        );
        the_report_of_replicas_comes_by_forwarded_ports(&scene, [&kept, &taken, &unused, &other]).await;
    });
}

/// By a port of localhost.
async fn a_report_is_what_happened(scene: &Scene, [kept, taken, unused, other]: [&str; 4]) {
    let endpoint = format!("--endpoint=http://127.0.0.1:{}", scene.proxy.metrics_port);
    let said = scene.report(&Identity::Admin, &[&endpoint, "-o", "json"]).await;
    assert_eq!(said.code, Some(0), "{said}");
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut expected = [(kept, "used"), (taken, "used"), (unused, "unused")]
        .map(|(domain, state)| (domain.to_owned(), state.to_owned()));
    expected.sort();
    let (domains, refused) = told(&report);
    assert_eq!(
        (domains, refused),
        (expected.to_vec(), vec![other.to_owned()]),
        "{report}"
    );
    let domains = report["workflows"][0]["domains"].as_array().unwrap();
    let used = domains.iter().find(|domain| domain["domain"] == kept).unwrap();
    assert_eq!((&used["connections"], &used["open"]), (&json!(1), &json!(1)), "{used}");
    assert!(
        used["sentBytes"].as_u64() > Some(0) && used["receivedBytes"].as_u64() > Some(0),
        "{used}"
    );
    let table = scene.report(&Identity::Admin, &[&endpoint]).await;
    assert!(
        table.stdout.contains(&format!("  unused     llm  {unused}\n")) && table.stdout.contains("by 1 of 1 replicas"),
        "{table}"
    );
    // Nobody is there: what is declared is told all the same, and that it is not known what was used.
    let nobody = scene.report(&Identity::Admin, &["--endpoint=http://127.0.0.1:1"]).await;
    assert_eq!(nobody.code, Some(2), "{nobody}");
    assert!(nobody.stdout.contains("None of 1 replicas has answered"), "{nobody}");
    // A scraper reads the port by another name, and is told nothing of it.
    let (status, body) = scene.proxy.ask("/report").await.unwrap();
    assert!(status == 403 && !body.contains(kept), "{status} {body}");
}

/// With the rights of whoever asks, and no others.
async fn the_report_of_replicas_comes_by_forwarded_ports(scene: &Scene, hosts: [&str; 4]) {
    let [kept, taken, unused, other] = hosts;
    eventually(SOON, || async {
        let none = scene.report(&Identity::Admin, &[]).await;
        let says = none.stderr.contains("no pod of the egress proxy is in namespace");
        ensure!(none.code == Some(2) && says, "{none}");
        Ok(())
    })
    .await;

    the_doctor_says(scene, "warning", "Deployment ringfence-egress has no replicas").await;
    let (client, node) = (scene.plane.admin().await, "node");
    kubelet::node(&client, node).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), RELEASE_NAMESPACE);
    let labels = json!({"app.kubernetes.io/name": "ringfence-egress", "app.kubernetes.io/component": "egress"});
    for name in ["replica", "another"] {
        let ports = json!([{"name": "metrics", "containerPort": scene.proxy.metrics_port}]);
        let object = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "egress", "image": "registry.example/i", "ports": ports}]},
        });
        let object = serde_json::from_value(object).unwrap();
        let made = eventually(SOON, || async {
            Ok(pods.create(&PostParams::default(), &object).await?)
        });
        drop(made.await);
    }
    runs(&scene.plane, RELEASE_NAMESPACE, "replica", json!({"phase": "Running"})).await;
    let half = scene.report(&Identity::Admin, &["-o", "json"]).await;
    assert_eq!(half.code, Some(2), "{half}");
    let report: Value = serde_json::from_str(&half.stdout).unwrap_or_else(|error| panic!("{error}: {half}"));
    assert_eq!(
        report["silent"],
        json!([{"name": "another", "reason": "its pod is Pending"}]),
        "{half}"
    );

    runs(&scene.plane, RELEASE_NAMESPACE, "another", json!({"phase": "Running"})).await;
    let pat = Identity::user("pat", &[]);
    let refused = scene.report(&pat, &[]).await;
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(
        refused.stderr.contains("ask whoever runs the cluster for this right"),
        "{refused}"
    );
    let rules = |resources: &[&str], group: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let pods = [
        rules(&["pods"], "", &["list"]),
        rules(&["pods/portforward"], "", &["get", "create"]),
    ];
    scene.may("pat", RELEASE_NAMESPACE, &pods).await;
    scene
        .may("pat", &scene.ns, &[rules(&["aiworkflows"], "ringfence.dev", &["list"])])
        .await;
    let said = eventually(SOON, || async {
        let said = scene.report(&pat, &["-o", "json"]).await;
        ensure!(said.code == Some(0), "{said}");
        Ok(said)
    })
    .await;
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let (domains, refused) = told(&report);
    let mut expected = [(kept, "used"), (taken, "withdrawn"), (unused, "unused")]
        .map(|(domain, state)| (domain.to_owned(), state.to_owned()));
    expected.sort();
    assert_eq!(domains, expected, "{report}");
    assert!(
        refused.contains(&taken.to_owned()) && refused.contains(&other.to_owned()),
        "{report}"
    );
    let names: Vec<_> = report["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| &replica["name"])
        .collect();
    assert_eq!(names, [&json!("another"), &json!("replica")]);
}

/// Of the proxy, among what it says of an installation.
async fn the_doctor_says(scene: &Scene, state: &str, message: &str) {
    let check = ["check", "installation", "-o", "json"];
    let said = scene
        .plane
        .ringfence_as(&Identity::Admin, BINARY, &check)
        .await
        .unwrap();
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut checks = report["checks"].as_array().unwrap().iter();
    let egress = checks
        .find(|check| check["check"] == "egress")
        .expect("the proxy is looked at");
    assert_eq!(egress["state"], state, "{egress}");
    assert!(egress["message"].as_str().unwrap().contains(message), "{egress}");
}

impl Scene {
    /// Gives somebody rights in a namespace.
    async fn may(&self, user: &str, namespace: &str, rules: &[Value]) {
        let name = unique("role");
        let role = json!({"metadata": {"name": name}, "rules": rules});
        self.admin.post(&all("Role", namespace), &role).await.ok();
        let binding = json!({
            "metadata": {"name": name}, "subjects": [{"kind": "User", "name": user}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        });
        self.admin.post(&all("RoleBinding", namespace), &binding).await.ok();
    }
}
