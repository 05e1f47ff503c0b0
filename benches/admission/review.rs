//! The reviews that are sent, and the facts that they rest on.
//!
//! A pod as the API server sends it: made by the job controller for a fenced AIWorkflow, with the defaults filled in, the
//! token volume that admission adds, and managedFields.

use anyhow::{Context, Result, ensure};
use ringfence::api::{DEFAULT_CLASS, ENFORCE_LABEL, OWNER_UID_ANNOTATION, WORKFLOW_LABEL};
use ringfence::fence::{Named, OwnerRef};
use ringfence::plan::{NamespaceFacts, default_class, default_deny};
use ringfence::webhook::lookup::{Fixed, Key};
use serde_json::{Map, Value, json};

pub const NAMESPACE: &str = "ai-secure";
pub const WORKFLOW: &str = "invoice-triage";
/// Account of the controller that makes the pod.
pub const CONTROLLER: (&str, &str) = ("kube-system", "job-controller");
/// UID of the Job where no API server gave it one.
pub const JOB_UID: &str = "3f0e1d2c-5b6a-4798-8a9b-0c1d2e3f4a5b";
/// Stands where each request puts its own.
pub const UID: &str = "00000000-0000-4000-8000-00000000cafe";

/// Fewest reasons for which the bad pod is refused.
const REASONS: usize = 4;

/// A pod to review.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub containers: usize,
    /// Environment variables of each container.
    pub variables: usize,
    /// Annotations are added until the review is that large.
    pub bytes: usize,
    /// Whether it fits the fence.
    pub sound: bool,
}

/// What the answer must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    Allowed,
    Refused,
}

impl Expected {
    /// Checks the response of an AdmissionReview.
    pub fn check(self, response: &Value) -> Result<()> {
        let allowed = response["allowed"].as_bool().context("an answer without `allowed`")?;
        ensure!(
            allowed == (self == Self::Allowed),
            "expected {self:?}, the server answered {response:#}"
        );
        if self == Self::Refused {
            let message = response["status"]["message"].as_str().unwrap_or_default();
            let reasons = message.lines().filter(|line| line.contains(". [")).count();
            ensure!(
                reasons >= REASONS,
                "expected {REASONS} reasons, the server gave {reasons}: {message}"
            );
        }
        Ok(())
    }
}

pub fn namespace() -> Value {
    let labels = json!({
        ENFORCE_LABEL: DEFAULT_CLASS, "owner": "finance-ml", "pod-security.kubernetes.io/enforce": "restricted",
        "kubernetes.io/metadata.name": NAMESPACE,
    });
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "uid": "ns-uid", "labels": labels}})
}

pub fn workflow() -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow",
        "metadata": {"name": WORKFLOW, "namespace": NAMESPACE, "uid": "workflow-uid"},
        "spec": {
            "owner": {"team": "finance-ml", "contact": "finance-ml@example.com"},
            "launchers": [{"serviceAccount": {"namespace": "airflow", "name": "airflow-scheduler"}}],
            "images": ["registry.example.com/finance/**"],
            "permissions": {"rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["triage-config"], "verbs": ["get"]},
            ]},
            "secrets": [{"name": "model-key", "secretRef": {"name": "openai", "keys": ["API_KEY"]}}],
            "network": {"egress": [
                {"name": "qdrant", "to": {"pods": {"selector": {"matchLabels": {"app": "qdrant"}}}}, "ports": [{"port": 6334}]},
                {"name": "api-server", "to": {"apiServer": {}}},
            ]},
        },
    })
}

pub fn class() -> Result<Value> {
    Ok(serde_json::to_value(default_class())?)
}

/// The account that Ringfence made for the workflow.
pub fn account(workflow_uid: &str) -> Value {
    let annotations = json!({OWNER_UID_ANNOTATION: workflow_uid});
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": WORKFLOW, "namespace": NAMESPACE, "annotations": annotations},
    })
}

/// The namespace's default-deny.
pub fn deny(namespace: &Value) -> Result<Value> {
    let facts = NamespaceFacts::from_object(namespace, |_| false).context("a namespace without a name")?;
    Ok(default_deny(&facts))
}

pub fn job() -> Value {
    let labels = json!({WORKFLOW_LABEL: WORKFLOW});
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": WORKFLOW, "namespace": NAMESPACE, "uid": JOB_UID, "labels": labels},
        "spec": {"suspend": true, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": WORKFLOW, "restartPolicy": "Never",
                "containers": [{"name": "worker-0", "image": "registry.example.com/finance/triage:1.4"}],
            },
        }},
    })
}

/// Everything that the decision asks for, without an API server.
pub fn facts() -> Result<Fixed> {
    let named = |namespace: &str, name: &str| Named {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let owner = OwnerRef {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: WORKFLOW.to_owned(),
        uid: JOB_UID.to_owned(),
    };
    let controller = json!({"metadata": {"name": CONTROLLER.1, "namespace": CONTROLLER.0, "uid": "controller-uid"}});
    Ok(Fixed::default()
        .with(Key::Namespace(NAMESPACE.to_owned()), namespace())
        .with(Key::Class(DEFAULT_CLASS.to_owned()), class()?)
        .with(Key::Workflow(named(NAMESPACE, WORKFLOW)), workflow())
        .with(Key::DefaultDeny(NAMESPACE.to_owned()), deny(&namespace())?)
        .with(Key::Account(named(NAMESPACE, WORKFLOW)), account("workflow-uid"))
        .with(Key::Account(named(CONTROLLER.0, CONTROLLER.1)), controller)
        .with(Key::Owner(NAMESPACE.to_owned(), owner), job()))
}

/// The review of a pod, as sent.
pub fn bytes(pod: &Pod, job_uid: &str) -> Vec<u8> {
    let mut review = review(pod, job_uid);
    let mut bytes = review.to_string().into_bytes();
    let mut index = 0;
    while bytes.len() < pod.bytes {
        // As many as are missing, and none less: each is longer than this.
        for _ in 0..(pod.bytes - bytes.len()).div_ceil(128) {
            let key = format!("kubectl.kubernetes.io/note-{index:04}");
            review["request"]["object"]["metadata"]["annotations"][key] =
                json!("a note of some length, as tools of delivery and cost leave them on pods");
            index += 1;
        }
        bytes = review.to_string().into_bytes();
    }
    bytes
}

fn review(pod: &Pod, job_uid: &str) -> Value {
    let gvk = json!({"group": "", "version": "v1", "kind": "Pod"});
    let gvr = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID, "kind": gvk, "resource": gvr, "requestKind": gvk, "requestResource": gvr,
            "name": "invoice-triage-7xkqp", "namespace": NAMESPACE, "operation": "CREATE",
            "userInfo": {
                "username": format!("system:serviceaccount:{}:{}", CONTROLLER.0, CONTROLLER.1),
                "uid": "8c5a7b0e-2f5d-4c1e-9b1a-6f0f3c9a1d2e",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=6a0d2f7e-98f4-4b6e-8f0c-3d5a1b2c4e6f"]},
            },
            "object": object(pod, job_uid), "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// The spec of the pod.
pub fn spec(pod: &Pod) -> Map<String, Value> {
    let mut object = object(pod, JOB_UID);
    match object["spec"].take() {
        Value::Object(spec) => spec,
        _ => Map::new(),
    }
}

fn object(pod: &Pod, job_uid: &str) -> Value {
    let mut init = container("prepare", pod);
    init["env"] = variables(&Pod { variables: 2, ..*pod });
    let containers: Vec<Value> = (0..pod.containers)
        .map(|index| container(&format!("worker-{index}"), pod))
        .collect();
    let mut metadata = json!({
        "name": "invoice-triage-7xkqp", "generateName": "invoice-triage-", "namespace": NAMESPACE,
        "uid": "0b1c2d3e-4f50-4162-8373-94a5b6c7d8e9", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {WORKFLOW_LABEL: WORKFLOW, "batch.kubernetes.io/job-name": WORKFLOW},
        "annotations": {"kubectl.kubernetes.io/default-container": "worker-0"},
        "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": WORKFLOW, "uid": job_uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    metadata["managedFields"] = json!([{
        "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:containers": managed(&containers)}},
    }]);
    let mut spec = json!({
        "serviceAccountName": WORKFLOW, "serviceAccount": WORKFLOW, "restartPolicy": "Never", "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "priority": 0,
        "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers, "initContainers": [init],
        "tolerations": [{
            "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
        }],
        "volumes": [{"name": "kube-api-access-w9x2z", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ]}}],
    });
    if !pod.sound {
        spec["hostNetwork"] = json!(true);
        spec["serviceAccountName"] = json!("default");
        spec["containers"][0]["image"] = json!("docker.io/library/miner:latest");
        spec["containers"][0]["securityContext"]["privileged"] = json!(true);
        // Put together here, so that no scanner takes this file for a leak.
        let key = ["sk-", "proj-", "0123456789abcdefghijklmnop"].concat();
        spec["containers"][0]["env"][0] = json!({"name": "OPENAI_API_KEY", "value": key});
    }
    if pod.variables == 0 {
        // The smallest review is of a pod that says no more than it must.
        strip(&mut metadata, &["managedFields", "generateName"]);
        strip(
            &mut spec,
            &[
                "initContainers",
                "tolerations",
                "volumes",
                "priority",
                "preemptionPolicy",
            ],
        );
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            strip(container, &["args", "command", "env", "resources", "volumeMounts"]);
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending", "qosClass": "Burstable"}})
}

fn strip(object: &mut Value, keys: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

fn container(name: &str, pod: &Pod) -> Value {
    let resources = json!({"cpu": "250m", "memory": "512Mi"});
    json!({
        "name": name, "image": "registry.example.com/finance/triage:1.4", "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "triage.worker"], "args": ["--queue", "invoices", "--log-level=info"],
        "env": variables(pod),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "kube-api-access-w9x2z", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
    })
}

fn variables(pod: &Pod) -> Value {
    let variable = |index: usize| match index % 5 {
        0 => {
            json!({"name": format!("API_KEY_{index}"), "valueFrom": {"secretKeyRef": {"name": "openai", "key": "API_KEY"}}})
        }
        1 => {
            json!({"name": format!("ENDPOINT_{index}"), "value": "https://qdrant.ai-secure.svc.cluster.local:6334/collections"})
        }
        2 => json!({"name": format!("MODEL_{index}"), "value": "gpt-4o-mini-2024-07-18"}),
        3 => {
            json!({"name": format!("POD_NAME_{index}"), "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}})
        }
        _ => json!({"name": format!("BATCH_SIZE_{index}"), "value": "64"}),
    };
    (0..pod.variables).map(variable).collect()
}

/// The containers' part of managedFields.
fn managed(containers: &[Value]) -> Value {
    let empty = || json!({});
    let fields = |object: &Value| -> Map<String, Value> {
        let names = object.as_object().into_iter().flatten();
        names.map(|(name, _)| (format!("f:{name}"), empty())).collect()
    };
    let by_name = |object: &Value| format!("k:{{\"name\":{}}}", object["name"]);
    let entries = containers.iter().map(|container| {
        let mut entry = fields(container);
        let variables = container["env"].as_array().into_iter().flatten();
        let variables: Map<String, Value> = variables
            .map(|variable| (by_name(variable), Value::Object(fields(variable))))
            .collect();
        entry.insert("f:env".to_owned(), Value::Object(variables));
        (by_name(container), Value::Object(entry))
    });
    Value::Object(entries.collect())
}
