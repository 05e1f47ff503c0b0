//! What a policy is evaluated on before it is trusted: what it will meet every day, and nothing at all.
//!
//! Ordinary on purpose. A policy may refuse them or fail on them; it may not hang on them, or end the process.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::policy::{PolicyInput, Target};

pub(super) static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(all);

pub(super) struct Sample {
    /// As it is said in errors.
    pub name: &'static str,
    target: Target,
    request: Value,
    /// Path of the pod, as policies see it, and as a pointer into the request.
    pod: Option<(&'static str, &'static str)>,
    around: Option<Around>,
}

/// What policies see beside the request.
struct Around {
    workflow: Value,
    class: Value,
    engine: Value,
    namespace: Value,
}

impl Sample {
    pub(super) fn input(&self) -> PolicyInput<'_> {
        let around = self.around.as_ref();
        PolicyInput {
            target: self.target,
            request: &self.request,
            pod: self
                .pod
                .and_then(|(path, pointer)| Some((path, self.request.pointer(pointer)?))),
            workflow: around.map(|around| &around.workflow),
            class: around.map(|around| &around.class),
            engine: around.map(|around| &around.engine),
            // What lies in no namespace has none around it.
            namespace: around
                .filter(|_| self.request.get("namespace").is_some())
                .map(|around| &around.namespace),
        }
    }
}

/// Requests that are met every day: those with nothing in them are not among them.
pub fn ordinary() -> impl Iterator<Item = PolicyInput<'static>> {
    SAMPLES
        .iter()
        .filter(|sample| sample.around.is_some())
        .map(Sample::input)
}

/// What lies beside an ordinary request, for another one.
pub fn surroundings(request: &Value) -> PolicyInput<'_> {
    let around = ordinary().next();
    PolicyInput {
        target: Target::Object,
        request,
        pod: None,
        workflow: around.as_ref().and_then(|around| around.workflow),
        class: around.as_ref().and_then(|around| around.class),
        engine: around.as_ref().and_then(|around| around.engine),
        namespace: around.as_ref().and_then(|around| around.namespace),
    }
}

fn all() -> Vec<Sample> {
    let mut all = pods_and_namespaces();
    all.extend(objects());
    all
}

fn pods_and_namespaces() -> Vec<Sample> {
    let template =
        json!({"metadata": {"labels": {"app": "triage", "ringfence.dev/workflow": "triage"}}, "spec": pod_spec()});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "triage-7d9f", "namespace": "ai", "uid": "3b1c7e52-0000-4000-8000-000000000001",
            "labels": {"app": "triage", "ringfence.dev/workflow": "triage"}, "annotations": {"example.com/note": "none"},
        },
        "spec": pod_spec(),
    });
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "triage", "namespace": "ai", "labels": {"ringfence.dev/workflow": "triage"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "triage"}}, "template": template},
    });
    let mut older = workload.clone();
    if let Some(image) = older.pointer_mut("/spec/template/spec/containers/0/image") {
        *image = json!("registry.example.com/finance/triage:0.9");
    }
    let deployment = ("apps", "Deployment", "deployments");
    vec![
        Sample {
            name: "an ordinary Pod",
            target: Target::Pod,
            request: request("CREATE", ("", "Pod", "pods"), pod, Value::Null),
            pod: Some(("", "/object")),
            around: Some(around()),
        },
        Sample {
            name: "an ordinary Deployment",
            target: Target::Pod,
            request: request("CREATE", deployment, workload.clone(), Value::Null),
            pod: Some(("spec.template", "/object/spec/template")),
            around: Some(around()),
        },
        Sample {
            name: "an update of a Deployment",
            target: Target::Pod,
            request: request("UPDATE", deployment, workload, older),
            pod: Some(("spec.template", "/object/spec/template")),
            around: Some(around()),
        },
        Sample {
            name: "an ordinary Namespace",
            target: Target::Namespace,
            request: request(
                "UPDATE",
                ("", "Namespace", "namespaces"),
                namespace("ai"),
                namespace("ai"),
            ),
            pod: None,
            around: Some(around()),
        },
        Sample {
            name: "a Pod with nothing in it",
            target: Target::Pod,
            request: json!({"object": {}}),
            pod: Some(("", "/object")),
            around: None,
        },
        Sample {
            name: "a Namespace with nothing in it",
            target: Target::Namespace,
            request: json!({"object": {}}),
            pod: None,
            around: None,
        },
    ]
}

/// The same in no namespace.
fn of_cluster(mut sample: Sample) -> Sample {
    let metadata = sample
        .request
        .pointer_mut("/object/metadata")
        .and_then(Value::as_object_mut);
    metadata.map(|metadata| metadata.remove("namespace"));
    sample
        .request
        .as_object_mut()
        .map(|request| request.remove("namespace"));
    sample
}

/// The same as what is asked of a service account.
fn of_account(mut sample: Sample) -> Sample {
    let kind = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
    if let Some(request) = sample.request.as_object_mut() {
        request.insert("kind".to_owned(), kind.clone());
        request.insert("requestKind".to_owned(), kind);
        request.insert("subResource".to_owned(), "token".into());
    }
    sample
}

/// What policies that judge other objects are about, and what none of them expects.
fn objects() -> Vec<Sample> {
    let rbac = "rbac.authorization.k8s.io";
    let named = |kind: &str, api_version: &str, fields: Value| {
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": "triage", "namespace": "ai", "labels": {"app": "triage"}, "annotations": {"example.com/note": "none"}},
        });
        if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
            object.extend(fields);
        }
        object
    };
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["triage"], "verbs": ["get", "watch"]}]);
    let role = json!({"rules": rules});
    let cluster_role = json!({
        "rules": rules, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"example.com/aggregate-to-triage": "true"}}]},
    });
    let binding = |kind: &str| {
        json!({
            "roleRef": {"apiGroup": rbac, "kind": kind, "name": "triage"},
            "subjects": [{"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}],
        })
    };
    let service = json!({"spec": {
        "type": "ClusterIP", "clusterIP": "10.96.0.12", "selector": {"app": "triage"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
    }});
    let backend = json!({"service": {"name": "triage", "port": {"name": "http"}}});
    let ingress = json!({"spec": {
        "ingressClassName": "public", "tls": [{"hosts": ["triage.example.com"], "secretName": "triage-certificate"}],
        "rules": [{"host": "triage.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
    }});
    let gateway = json!({"spec": {
        "gatewayClassName": "public",
        "listeners": [{"name": "https", "protocol": "HTTPS", "port": 443, "tls": {"certificateRefs": [{"name": "triage-certificate"}]}}],
    }});
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "encrypted", "resources": {"requests": {"storage": "1Gi"}},
    }});
    let set = json!({"spec": {
        "serviceName": "triage", "selector": {"matchLabels": {"app": "triage"}}, "volumeClaimTemplates": [claim],
        "template": {"metadata": {"labels": {"app": "triage"}}, "spec": pod_spec()},
    }});
    let settings = json!({"data": {"level": "info", "triage.yaml": "queue: invoices\nbatch: 100\n"}, "binaryData": {"logo": "iVBORw0KGgo="}});
    let token = json!({"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 3600, "boundObjectRef": null}});
    let of = |name, operation, (group, kind, resource): (&str, &str, &str), object: Value| {
        let group_version = if group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{group}/v1")
        };
        let object = named(kind, &group_version, object);
        let old = if operation == "UPDATE" {
            object.clone()
        } else {
            Value::Null
        };
        Sample {
            name,
            target: Target::Object,
            request: request(operation, (group, kind, resource), object, old),
            pod: None,
            around: Some(around()),
        }
    };
    let mut samples = vec![
        of("an ordinary Role", "CREATE", (rbac, "Role", "roles"), role),
        of_cluster(of(
            "an ordinary ClusterRole",
            "UPDATE",
            (rbac, "ClusterRole", "clusterroles"),
            cluster_role,
        )),
        of(
            "an ordinary RoleBinding",
            "CREATE",
            (rbac, "RoleBinding", "rolebindings"),
            binding("Role"),
        ),
        of_cluster(of(
            "an ordinary ClusterRoleBinding",
            "CREATE",
            (rbac, "ClusterRoleBinding", "clusterrolebindings"),
            binding("ClusterRole"),
        )),
        of("an ordinary Service", "UPDATE", ("", "Service", "services"), service),
        of(
            "an ordinary Ingress",
            "CREATE",
            ("networking.k8s.io", "Ingress", "ingresses"),
            ingress,
        ),
        of(
            "an ordinary Gateway",
            "CREATE",
            ("gateway.networking.k8s.io", "Gateway", "gateways"),
            gateway,
        ),
        of(
            "an ordinary PersistentVolumeClaim",
            "CREATE",
            ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
            claim,
        ),
        Sample {
            pod: Some(("spec.template", "/object/spec/template")),
            ..of(
                "an ordinary StatefulSet",
                "CREATE",
                ("apps", "StatefulSet", "statefulsets"),
                set,
            )
        },
        of(
            "an ordinary ConfigMap",
            "UPDATE",
            ("", "ConfigMap", "configmaps"),
            settings,
        ),
        of_account(of(
            "an ordinary TokenRequest",
            "CREATE",
            ("", "TokenRequest", "serviceaccounts"),
            token,
        )),
    ];
    samples.push(Sample {
        name: "an object with nothing in it",
        target: Target::Object,
        request: json!({"object": {}}),
        pod: None,
        around: None,
    });
    samples.push(Sample {
        name: "an object that is gone",
        target: Target::Object,
        request: json!({"operation": "DELETE", "object": null, "oldObject": {}}),
        pod: None,
        around: None,
    });
    samples
}

fn request(operation: &str, (group, kind, resource): (&str, &str, &str), object: Value, old: Value) -> Value {
    let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": resource},
        "requestKind": {"group": group, "version": "v1", "kind": kind},
        "requestResource": {"group": group, "version": "v1", "resource": resource},
        "name": name, "namespace": "ai", "operation": operation,
        "userInfo": {
            "username": "system:serviceaccount:ci:deployer", "uid": "014fbff9-0000-4000-8000-000000000002",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"],
        },
        "object": object, "oldObject": old, "dryRun": false,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    })
}

fn pod_spec() -> Value {
    let confined = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
    });
    json!({
        "serviceAccountName": "triage", "automountServiceAccountToken": false, "restartPolicy": "Always",
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{
            "name": "prepare", "image": "registry.example.com/finance/prepare:1.0", "command": ["prepare"], "securityContext": confined,
        }],
        "containers": [
            {
                "name": "main", "image": "registry.example.com/finance/triage:1.0", "args": ["--level=info"],
                "env": [
                    {"name": "LEVEL", "value": "info"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "model", "key": "API_KEY"}}},
                ],
                "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "securityContext": confined,
            },
            {"name": "proxy", "image": "registry.example.com/proxy:2.1", "securityContext": confined},
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "triage"}},
            {"name": "key", "secret": {"secretName": "model"}},
        ],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    })
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "uid": "9a2f1d10-0000-4000-8000-000000000003",
            "labels": {"kubernetes.io/metadata.name": name, "owner": "finance", "ringfence.dev/enforce": "default"},
        },
        "status": {"phase": "Active"},
    })
}

fn around() -> Around {
    Around {
        workflow: json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage", "namespace": "ai"},
            "spec": {
                "engine": "custom", "images": ["registry.example.com/finance/*"],
                "launchers": [{"serviceAccount": {"namespace": "ci", "name": "deployer"}}],
            },
        }),
        class: json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "default"},
            "spec": {"images": {"allowed": ["registry.example.com/**"]}, "podSecurity": "Restricted"},
        }),
        engine: json!({"name": "custom", "images": []}),
        namespace: namespace("ai"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::policy::PolicySet;

    #[test]
    fn each_sample_is_what_it_is_called() {
        for sample in SAMPLES.iter() {
            let input = sample.input();
            let has_pod = sample.target == Target::Pod || sample.name.contains("StatefulSet");
            assert_eq!(input.pod.is_some(), has_pod, "{}", sample.name);
            assert_eq!(
                sample.name.contains("Namespace"),
                sample.target == Target::Namespace,
                "{}",
                sample.name
            );
        }
    }

    #[test]
    fn every_shipped_policy_is_asked_about_some_sample_and_answers() {
        let set = PolicySet::embedded(&BTreeMap::new()).expect("the shipped policies load");
        let mut asked: Vec<String> = Vec::new();
        for sample in SAMPLES.iter() {
            for verdict in set.evaluate(&sample.input(), Duration::from_secs(20)) {
                // Nothing at all is what policies may fail on.
                assert!(
                    verdict.outcome.is_ok() || sample.around.is_none(),
                    "{}: {verdict:?}",
                    sample.name
                );
                asked.push(verdict.policy);
            }
        }
        // Those for other objects are for their kinds, and pass what is ordinary.
        for sample in SAMPLES
            .iter()
            .filter(|sample| sample.target == Target::Object && sample.around.is_some())
        {
            let kind = &sample.input().request["object"]["kind"];
            let own = |policy: &str| match kind.as_str() {
                Some("Role" | "ClusterRole") => policy == "no-wildcard-rbac",
                Some("RoleBinding" | "ClusterRoleBinding") => policy == "no-cluster-admin-binding",
                Some("Service") => policy == "no-exposed-services",
                Some("Ingress" | "Gateway") => policy == "tls-only-ingress",
                Some("ConfigMap") => policy == "no-literal-secrets-in-configmaps",
                Some("TokenRequest") => policy == "short-lived-tokens",
                _ => false,
            };
            let verdicts = set.evaluate(&sample.input(), Duration::from_secs(20));
            for verdict in verdicts.iter().filter(|verdict| own(&verdict.policy)) {
                assert!(
                    verdict.outcome.as_ref().is_ok_and(|found| found.deny.is_empty()),
                    "{}: {verdict:?}",
                    sample.name
                );
            }
        }
        for policy in set.policies() {
            assert!(
                asked.contains(&policy.metadata.name),
                "{} was not asked",
                policy.metadata.name
            );
        }
    }
}
