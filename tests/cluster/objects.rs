//! Objects that fit inside the fence, for tests to break, and where objects are.

use serde_json::{Value, json};

/// Resources by kind: path of the group and plural.
const KINDS: [(&str, &str, &str); 21] = [
    ("Pod", "/api/v1", "pods"),
    ("PodTemplate", "/api/v1", "podtemplates"),
    ("ReplicationController", "/api/v1", "replicationcontrollers"),
    ("ConfigMap", "/api/v1", "configmaps"),
    ("PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims"),
    ("ServiceAccount", "/api/v1", "serviceaccounts"),
    ("DaemonSet", "/apis/apps/v1", "daemonsets"),
    ("Deployment", "/apis/apps/v1", "deployments"),
    ("ReplicaSet", "/apis/apps/v1", "replicasets"),
    ("StatefulSet", "/apis/apps/v1", "statefulsets"),
    ("CronJob", "/apis/batch/v1", "cronjobs"),
    ("Job", "/apis/batch/v1", "jobs"),
    ("Event", "/apis/events.k8s.io/v1", "events"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
    ("CiliumNetworkPolicy", "/apis/cilium.io/v2", "ciliumnetworkpolicies"),
    ("Role", "/apis/rbac.authorization.k8s.io/v1", "roles"),
    ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ("AIWorkflow", "/apis/ringfence.dev/v1alpha1", "aiworkflows"),
    ("AIWorkflowGrant", "/apis/ringfence.dev/v1alpha1", "aiworkflowgrants"),
    (
        "RegoPolicyException",
        "/apis/ringfence.dev/v1alpha1",
        "regopolicyexceptions",
    ),
    ("ResolvedNames", "/apis/ringfence.dev/v1alpha1", "resolvednames"),
];

/// Path of all objects of a kind in a namespace.
pub fn all(kind: &str, namespace: &str) -> String {
    let (_, group, plural) = KINDS
        .iter()
        .find(|(name, _, _)| *name == kind)
        .expect("a kind of the table");
    format!("{group}/namespaces/{namespace}/{plural}")
}

/// Path of one object.
pub fn one(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}/{name}", all(kind, namespace))
}

/// A workflow whose launcher is `lea`, with fields put over that.
pub fn workflow(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"launchers": [{"user": "lea"}], "images": ["registry.example.com/finance/**"]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": name}, "spec": whole})
}

/// A condition of a workflow, or null.
pub fn condition<'a>(workflow: &'a Value, type_: &str) -> &'a Value {
    let conditions = workflow["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == type_)
        .unwrap_or(&Value::Null)
}

/// A container of an allowed image that meets the restricted standard.
pub fn container(name: &str) -> Value {
    json!({
        "name": name,
        "image": "registry.example.com/finance/triage:1.4",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

/// A pod that fits inside the fence of workflow `label`, whose account has the same name.
pub fn pod(name: &str, label: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "ringfence.dev/workflow": label}},
        "spec": {
            "serviceAccountName": label,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container("main")],
        },
    })
}

/// Every built-in kind that is a pod or makes pods.
pub const WORKLOADS: [&str; 9] = [
    "Pod",
    "Job",
    "CronJob",
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "ReplicaSet",
    "ReplicationController",
    "PodTemplate",
];

/// A workload of that kind with `pod` as its template, labelled like it.
pub fn workload(kind: &str, pod: &Value) -> Value {
    let metadata = pod["metadata"].clone();
    let template = |restart: &str| {
        let mut spec = pod["spec"].clone();
        spec["restartPolicy"] = json!(restart);
        json!({"metadata": {"labels": metadata["labels"]}, "spec": spec})
    };
    let app = json!({"app": metadata["labels"]["app"]});
    let (api_version, body) = match kind {
        "Pod" => return pod.clone(),
        "PodTemplate" => ("v1", json!({"template": template("Always")})),
        "ReplicationController" => ("v1", json!({"spec": {"selector": app, "template": template("Always")}})),
        "Job" => ("batch/v1", json!({"spec": {"template": template("Never")}})),
        "CronJob" => (
            "batch/v1",
            json!({"spec": {"schedule": "0 3 * * *", "jobTemplate": {"metadata": {"labels": metadata["labels"]}, "spec": {"template": template("Never")}}}}),
        ),
        "StatefulSet" => (
            "apps/v1",
            json!({"spec": {"serviceName": "x", "selector": {"matchLabels": app}, "template": template("Always")}}),
        ),
        _ => (
            "apps/v1",
            json!({"spec": {"selector": {"matchLabels": app}, "template": template("Always")}}),
        ),
    };
    let mut whole = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    for (key, value) in body.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    whole
}

/// Where a kind keeps its pod template, as a JSON pointer; empty for a Pod.
pub fn template_of(kind: &str) -> &'static str {
    match kind {
        "Pod" => "",
        "PodTemplate" => "/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    }
}

/// Everything but what the API server counts.
pub fn said(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
        ] {
            metadata.remove(key);
        }
    }
    object
}

/// A pod of `triage` with an annotation and a volume.
pub fn annotated(name: &str) -> Value {
    let mut pod = pod(name, "triage");
    pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "main"});
    pod["spec"]["volumes"] = json!([{"name": "e", "emptyDir": {}}]);
    pod
}

/// Path of the ClusterNetworkPolicy of a workflow.
pub fn cluster_policy(namespace: &str, workflow: &str) -> String {
    format!("{CLUSTER_POLICIES}/ringfence.{namespace}.{workflow}")
}

pub const CLUSTER_POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";

/// A definition of ClusterNetworkPolicies with the fields and bounds of the real one that matter here: what else is written there is lost, as it
/// is in a cluster.
pub fn cluster_policy_definition() -> Value {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let union =
        |properties: Value| json!({"type": "object", "minProperties": 1, "maxProperties": 1, "properties": properties});
    let up_to_25 = |items: Value| json!({"type": "array", "minItems": 1, "maxItems": 25, "items": items});
    let set = |items: Value| json!({"type": "array", "minItems": 1, "maxItems": 25, "x-kubernetes-list-type": "set", "items": items});
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut selector = object(json!({"matchLabels": labels}));
    selector["x-kubernetes-map-type"] = json!("atomic");
    let pods = object(json!({"namespaceSelector": selector, "podSelector": selector}));
    let name = r"^(\*\.)?([a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$";
    let peer = union(json!({
        "namespaces": selector, "pods": pods, "networks": set(json!({"type": "string", "maxLength": 43})),
        "domainNames": set(json!({"type": "string", "pattern": name})),
    }));
    let number = json!({"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535});
    let mut range = object(json!({"start": number, "end": number}));
    range["required"] = json!(["start", "end"]);
    range["x-kubernetes-validations"] = json!([{"rule": "self.start < self.end"}]);
    let port = object(json!({"destinationPort": union(json!({"number": number, "range": range}))}));
    let protocol = union(json!({"tcp": port, "udp": port, "destinationNamedPort": {"type": "string"}}));
    let rule = |way: &str, peer: &Value| {
        let mut rule = object(json!({
            "name": {"type": "string", "maxLength": 100}, "action": {"type": "string", "enum": ["Accept", "Deny", "Pass"]},
            "protocols": up_to_25(protocol.clone()),
        }));
        rule["properties"][way] = up_to_25(peer.clone());
        rule["required"] = json!(["action", way]);
        json!({"type": "array", "maxItems": 25, "items": rule})
    };
    let mut spec = object(json!({
        "tier": {"type": "string", "enum": ["Admin", "Baseline"]},
        "priority": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 1000},
        "subject": union(json!({"namespaces": selector, "pods": pods})),
        "ingress": rule("from", &union(json!({"namespaces": selector, "pods": pods}))),
        "egress": rule("to", &peer),
    }));
    spec["required"] = json!(["tier", "priority", "subject"]);
    let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": {"kind": "ClusterNetworkPolicy", "plural": "clusternetworkpolicies"},
            "versions": [{
                "name": "v1alpha2", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": object(json!({"spec": spec, "status": status}))},
            }],
        },
    })
}

/// A definition of CiliumNetworkPolicies with the fields of Cilium's own that its policies for domains have, and their bounds: what else is
/// written there is lost, as it is in a cluster.
pub fn cilium_definition() -> Value {
    let text = |pattern: &str| json!({"type": "string", "maxLength": 255, "pattern": pattern});
    let list = |items: Value| json!({"type": "array", "items": items});
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let cidr = json!({"type": "string", "format": "cidr"});
    let names = list(object(json!({
        "matchName": text(r"^([-a-zA-Z0-9_]+[.]?)+$"), "matchPattern": text(r"^([-a-zA-Z0-9_*]+[.]?)+$"),
    })));
    let port = object(json!({
        "port": {"type": "string", "pattern": r"^[0-9]{1,5}$"},
        "endPort": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 65535},
        "protocol": {"type": "string", "enum": ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "ANY"]},
    }));
    let ports = json!({"type": "array", "maxItems": 40, "items": port});
    let to_ports = list(object(
        json!({"ports": ports, "rules": object(json!({"dns": names.clone()}))}),
    ));
    let mut selector = object(json!({
        "matchLabels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "matchExpressions": list(object(json!({"key": {"type": "string"}, "operator": {"type": "string"}, "values": list(json!({"type": "string"}))}))),
    }));
    selector["x-kubernetes-map-type"] = json!("atomic");
    let egress = list(object(json!({
        "toEndpoints": list(selector.clone()),
        "toCIDRSet": list(object(json!({"cidr": cidr.clone(), "except": list(cidr.clone())}))),
        "toEntities": list(json!({"type": "string"})),
        "toFQDNs": names,
        "toPorts": to_ports,
    })));
    let spec = object(json!({
        "endpointSelector": selector,
        "egress": egress,
        "egressDeny": list(object(json!({"toCIDR": list(cidr)}))),
        "ingress": list(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
    }));
    let schema = object(
        json!({"spec": spec, "specs": list(spec.clone()), "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}),
    );
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
        "spec": {
            "group": "cilium.io", "scope": "Namespaced",
            "names": {"kind": "CiliumNetworkPolicy", "plural": "ciliumnetworkpolicies", "shortNames": ["cnp"]},
            "versions": [{
                "name": "v2", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}
