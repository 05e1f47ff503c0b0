//! `ringfence review` beside the webhook: the same manifests, the same policies and the same facts get the same verdict in the same
//! words. On a control plane of its own, where every set of the library is in force.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, eventually};

use crate::objects::{WORKLOADS, container, pod, workflow, workload};
use crate::world::{Actor, BINARY, SOON, all, master, namespace, one, own};

/// Every set, and policies of the other forms: as arguments of both commands.
const POLICIES: [&str; 3] = [
    "--policies=ai-workflow",
    "--policies=pod-security-restricted",
    "--policies=examples/policies/cost-centre.yaml",
];
const LAUNCHER: &str = "lea";
const WORKFLOW: &str = "invoice-triage";
/// Folders of manifests that people are shown.
const SHOWN: [&str; 4] = ["examples", "examples/ci/deploy", "demo", "demo/refused"];

/// Where objects are made that the other stories have no path for.
fn collection(object: &Value, namespace: &str) -> String {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    match object["kind"].as_str().expect("a kind") {
        "Service" => core("services"),
        "PersistentVolumeClaim" => core("persistentvolumeclaims"),
        "Ingress" => format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses"),
        kind => all(kind, namespace),
    }
}

/// What differs from what fits, one thing at a time.
fn broken(base: &Value) -> Vec<Value> {
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut object = base.clone();
        edit(&mut object);
        object
    };
    let secret = ["sk-", "proj-", "0123456789abcdefghijklmnop"].concat();
    vec![
        base.clone(),
        with(&|pod| pod["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true)),
        with(&|pod| pod["spec"]["hostNetwork"] = json!(true)),
        with(&|pod| pod["spec"]["hostUsers"] = json!(false)),
        with(&|pod| pod["spec"]["serviceAccountName"] = json!("default")),
        with(&|pod| pod["spec"]["containers"][0]["image"] = json!("docker.io/library/miner:latest")),
        with(&|pod| pod["spec"]["containers"][0]["image"] = json!("UPPER/case")),
        with(&|pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "OPENAI_API_KEY", "value": secret}])),
        with(&|pod| pod["spec"]["containers"][0]["args"] = json!(["--token", secret])),
        with(&|pod| pod["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "outside"})),
        with(&|pod| {
            pod["metadata"].as_object_mut().expect("metadata").remove("labels");
            pod["metadata"]["labels"] = json!({"app": "x"});
        }),
        with(&|pod| pod["spec"]["volumes"] = json!([{"name": "node", "hostPath": {"path": "/"}}])),
        with(&|pod| {
            pod["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 86400}}]}}]);
        }),
        with(&|pod| pod["spec"]["initContainers"] = json!([{"name": "init", "image": "evil.example/x"}])),
        with(&|pod| {
            pod["spec"].as_object_mut().expect("a spec").remove("securityContext");
        }),
        with(&|pod| {
            pod["spec"]["containers"][0]
                .as_object_mut()
                .expect("a container")
                .remove("resources");
        }),
        with(&|pod| pod["spec"]["nodeName"] = json!("node-1")),
        with(&|pod| pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}])),
        with(&|pod| {
            pod["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"host": "10.0.0.1", "port": 80}})
        }),
    ]
}

fn beside() -> Vec<Value> {
    let object = |api: &str, kind: &str, name: &str, more: Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
        for (key, value) in more.as_object().expect("fields") {
            object[key] = value.clone();
        }
        object
    };
    let rbac = "rbac.authorization.k8s.io/v1";
    let role = |verb: &str| json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]});
    let bound = |name: &str| {
        json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mia"}],
        })
    };
    // The API server would choose the ports of nodes before it asks anybody.
    let service = |kind: &str, more: Value| {
        let mut spec = json!({"type": kind, "selector": {"app": "x"}, "ports": [{"port": 80}]});
        for (key, value) in more.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        json!({"spec": spec})
    };
    let rule = json!([{"host": "a.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "x", "port": {"number": 80}}}}]}}]);
    let key = ["sk-", "proj-", "0123456789abcdefghijklmnop"].concat();
    vec![
        object(rbac, "Role", "wide", role("*")),
        object(rbac, "Role", "narrow", role("get")),
        object(rbac, "RoleBinding", "all", bound("cluster-admin")),
        object(rbac, "RoleBinding", "look", bound("view")),
        object(
            "v1",
            "Service",
            "outside",
            service("LoadBalancer", json!({"allocateLoadBalancerNodePorts": false})),
        ),
        object("v1", "Service", "inside", service("ClusterIP", json!({}))),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            "plain",
            json!({"spec": {"rules": rule}}),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            "tls",
            json!({"spec": {"rules": rule, "tls": [{"hosts": ["a.example.com"], "secretName": "tls"}]}}),
        ),
        object(
            "v1",
            "PersistentVolumeClaim",
            "data",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        object("v1", "ConfigMap", "settings", json!({"data": {"OPENAI_API_KEY": key}})),
        object("v1", "ConfigMap", "harmless", json!({"data": {"level": "info"}})),
    ]
}

/// A pod of a workflow that is declared nowhere: that it is not in the cluster either is what no file can say.
fn undeclared(base: &Value) -> Value {
    let mut pod = base.clone();
    pod["metadata"]["labels"]["ringfence.dev/workflow"] = json!("ghost");
    pod
}

/// The manifests of a folder, as if they were of this namespace.
fn shown(folder: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let yaml = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    let text = |file: &PathBuf| std::fs::read_to_string(file).expect("a manifest");
    let documents = |text: String| serde_saphyr::from_multiple::<Value>(&text).expect("YAML");
    let makes_pods = |object: &Value| WORKLOADS.iter().any(|kind| object["kind"] == *kind);
    // Of the one workflow that is declared, or of none.
    let is_known = |object: &Value| {
        let label = &object["metadata"]["labels"]["ringfence.dev/workflow"];
        label.is_null() || label == WORKFLOW
    };
    let objects = yaml.map(text).flat_map(documents);
    objects
        .filter(|object| makes_pods(object) && is_known(object))
        .collect()
}

/// What a webhook said, of what the API server says.
fn of_webhook(message: &str) -> Option<&str> {
    message.split_once("denied the request: ").map(|(_, said)| said)
}

struct Scene {
    cluster: ControlPlane,
    launcher: Actor,
    namespace: String,
    context: String,
}

impl Scene {
    async fn new() -> (Self, support::Ringfence) {
        let (cluster, ringfence, admin) = own(&POLICIES).await;
        let class = "/apis/ringfence.dev/v1alpha1/aiworkflowclasses/default";
        eventually(SOON, || async { admin.read(class).await }).await;
        // Else the API server's own Pod Security would refuse before anybody is asked.
        admin
            .patch(class, &json!({"spec": {"podSecurity": "Baseline"}}))
            .await
            .ok();
        let labels = json!({"ringfence.dev/enforce": "default", "pod-security.kubernetes.io/enforce": "baseline"});
        let namespace = namespace(&admin, "same", &labels).await;
        let declared = workflow(WORKFLOW, &json!({"launchers": [{"user": LAUNCHER}]}));
        admin.post(&all("AIWorkflow", &namespace), &declared).await.ok();
        eventually(SOON, || async {
            let workflow = admin.read(&one("AIWorkflow", &namespace, WORKFLOW)).await?;
            let ready = crate::world::condition(&workflow, "Ready").clone();
            ensure!(ready["status"] == "True", "not ready: {ready}");
            admin.read(&one("ServiceAccount", &namespace, "default")).await
        })
        .await;
        let scene = Self {
            launcher: master(&cluster, LAUNCHER, &[]).await,
            context: String::new(),
            namespace,
            cluster,
        };
        let context = scene.facts().await;
        (Self { context, ..scene }, ringfence)
    }

    /// What stands, as the page of the command says that one writes it down.
    async fn facts(&self) -> String {
        let path = self.cluster.directory().join("context.yaml");
        let mut text = String::new();
        for of in [
            vec!["namespaces,aiworkflowclasses"],
            vec![
                "--namespace",
                &self.namespace,
                "aiworkflows,aiworkflowgrants,regopolicyexceptions,serviceaccounts,networkpolicies",
            ],
        ] {
            let said = self
                .cluster
                .kubectl(&[&["get", "--output=yaml"], &of[..]].concat())
                .await
                .expect("kubectl");
            assert!(said.success, "{said}");
            text.push_str(&format!("---\n{}", said.stdout));
        }
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// What the command says of each object, in their order.
    async fn reviewed(&self, objects: &[Value]) -> Vec<Value> {
        let path = self.cluster.directory().join("reviewed.json");
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(&path, list.to_string()).expect("written");
        let path = path.display().to_string();
        let arguments = [
            "review",
            "--output=json",
            "--as",
            LAUNCHER,
            "--as-group=system:masters",
            "--as-group=system:authenticated",
            "--namespace",
            &self.namespace,
            "--context",
            &self.context,
            &path,
        ];
        let arguments = [&arguments[..1], &POLICIES[..], &arguments[1..]].concat();
        let said = self
            .cluster
            .ringfence_as(&Identity::Admin, BINARY, &arguments)
            .await
            .expect("ringfence review");
        let json: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((&json["problems"], said.code), (&json!([]), Some(1)), "{said}");
        json["results"].as_array().expect("results").clone()
    }

    /// Compares what both say of an object; whether the API server asked the webhook at all.
    async fn same(&self, object: &Value, reviewed: &Value, differences: &mut Vec<String>) -> bool {
        let path = format!("{}?dryRun=All", collection(object, &self.namespace));
        let answer = self.launcher.post(&path, object).await;
        let refused = !(200..300).contains(&answer.code);
        let said = of_webhook(answer.message()).filter(|said| said.starts_with("ringfence "));
        if refused && said.is_none() {
            return false;
        }
        let answers = reviewed["answers"].as_array().expect("answers");
        let texts = |field: &str| -> BTreeSet<String> {
            let of_answer = |answer: &Value| match &answer[field] {
                Value::String(text) => vec![text.clone()],
                Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            answers.iter().flat_map(of_answer).collect()
        };
        let title = format!("{} {object}", reviewed["name"]);
        if reviewed["notJudged"] != json!([]) {
            differences.push(format!("{title}\n  not judged: {}", reviewed["notJudged"]));
        }
        match said {
            // Of several webhooks that refuse, the API server tells of one.
            Some(said) if !texts("message").contains(said) => {
                differences.push(format!(
                    "{title}\n  the cluster: {said}\n  review: {:?}",
                    texts("message")
                ));
            }
            None if !texts("message").is_empty() => {
                differences.push(format!(
                    "{title}\n  the cluster admits it\n  review: {:?}",
                    texts("message")
                ));
            }
            Some(_) => {}
            None => {
                let ours = |text: &&String| text.starts_with("ringfence: ");
                let warned: BTreeSet<String> = answer.warnings.iter().filter(ours).cloned().collect();
                if warned != texts("warnings") {
                    differences.push(format!(
                        "{title}\n  the cluster warns: {warned:?}\n  review: {:?}",
                        texts("warnings")
                    ));
                }
            }
        }
        true
    }
}

#[tokio::test]
async fn the_command_line_says_what_the_cluster_says() {
    let (scene, _ringfence) = Scene::new().await;
    let mut base = pod("same", WORKFLOW);
    base["spec"]["containers"] = json!([container("main")]);
    let pods = broken(&base);
    let of_kind = |kind: &&str| pods.iter().map(|pod| workload(kind, pod)).collect::<Vec<_>>();
    let mut objects: Vec<Value> = WORKLOADS.iter().flat_map(of_kind).collect();
    objects.extend(beside());
    objects.extend(SHOWN.iter().flat_map(|folder| shown(folder)));
    objects.push(undeclared(&base));
    for (number, object) in objects.iter_mut().enumerate() {
        object["metadata"]["namespace"] = json!(scene.namespace);
        object["metadata"]["name"] = json!(format!("same-{number}"));
    }
    let mut reviewed = scene.reviewed(&objects).await;
    assert_eq!(reviewed.len(), objects.len(), "each object is reviewed once");
    let (_, ghost) = (objects.pop(), reviewed.pop().expect("the last one"));
    let needs = ghost["notJudged"].as_array().expect("a list").iter();
    let needs: BTreeSet<_> = needs
        .map(|one| (one["policy"].as_str(), one["needs"][0].as_str()))
        .collect();
    let workflow = format!("AIWorkflow {}/ghost", scene.namespace);
    assert!(
        needs.contains(&(Some("declared-workflow"), Some(workflow.as_str()))),
        "{ghost:#}"
    );
    let (mut differences, mut asked, mut refused) = (Vec::new(), 0, 0);
    for (object, reviewed) in objects.iter().zip(&reviewed) {
        asked += usize::from(scene.same(object, reviewed, &mut differences).await);
        refused += usize::from(reviewed["verdict"] == "deny");
    }
    println!("{} objects, {asked} judged by both, {refused} refused", objects.len());
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert!(
        asked * 10 > objects.len() * 9,
        "only {asked} of {} came to the webhook",
        objects.len()
    );
    assert!(refused > 50 && refused < asked, "{refused} of {asked} are refused");
}
