//! The two pods of a canary and the two NetworkPolicies that stand over them. Pure.
//!
//! They are JSON: the typed kinds of pods are half a megabyte of code, which nothing else here needs.
//!
//! Must never: carry a label that a Service or a policy of the chart selects, ask for more than the Pod Security Standard Restricted lets,
//! or live on where nobody cleans up.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::Direction;
use crate::{cli::canary::SUBCOMMAND, plan::text_at};

/// Every object of every canary.
pub(super) const SELECTOR: &str = "app.kubernetes.io/name=ringfence-canary";
/// Longest that a canary's pods live, whatever becomes of who made them.
pub(super) const LIFE_SECONDS: u64 = 600;
/// Where both answer.
const PORT: u16 = 8080;
/// How many probes in a row must fail: a busy node loses one.
const FAILURES: u32 = 3;

/// One run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) namespace: String,
    /// Names and labels of this run end in it.
    pub(super) id: String,
    /// What the Deployment says of where its pods may run, and of what.
    pub(super) template: Value,
}

/// Every object of one.
pub(super) fn selector(id: &str) -> String {
    format!("{SELECTOR},app.kubernetes.io/instance={id}")
}

impl Run {
    /// `None` where the Deployment names no image.
    pub(super) fn of(deployment: &DynamicObject, namespace: &str, id: String) -> Option<Self> {
        let spec = deployment.data.pointer("/spec/template/spec")?;
        let containers = spec.get("containers")?.as_array()?;
        let container = containers
            .iter()
            .find(|container| text_at(container, "/name") == "ringfence")?;
        container.get("image")?;
        Some(Self {
            namespace: namespace.to_owned(),
            id,
            template: json!({
                "image": container.get("image"), "imagePullPolicy": container.get("imagePullPolicy"),
                "imagePullSecrets": spec.get("imagePullSecrets"), "nodeSelector": spec.get("nodeSelector"),
                "tolerations": spec.get("tolerations"),
            }),
        })
    }

    pub(super) fn name(&self, part: &str) -> String {
        format!("ringfence-canary-{part}-{}", self.id)
    }

    fn labels(&self, part: &str) -> Value {
        json!({
            "app.kubernetes.io/name": "ringfence-canary", "app.kubernetes.io/instance": self.id, "app.kubernetes.io/component": part,
        })
    }

    /// With an owner it goes when that goes, whoever deletes it.
    fn metadata(&self, part: &str, owner: Option<&DynamicObject>) -> Value {
        let owner = owner.map(
            |pod| json!([{"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}]),
        );
        json!({
            "name": self.name(part), "namespace": self.namespace, "labels": self.labels(part), "ownerReferences": owner,
        })
    }

    /// The pod that is to be reached.
    pub(super) fn listener(&self) -> serde_json::Result<DynamicObject> {
        self.pod("listener", None, &[])
    }

    /// The pod that reaches for it.
    pub(super) fn dialer(&self, listener: &DynamicObject) -> serde_json::Result<DynamicObject> {
        let addresses = listener.data.pointer("/status/podIPs").and_then(Value::as_array);
        let peers: Vec<String> = addresses
            .into_iter()
            .flatten()
            .map(|address| text_at(address, "/ip"))
            .map(|ip| match ip.contains(':') {
                true => format!("--peer=[{ip}]:{PORT}"),
                false => format!("--peer={ip}:{PORT}"),
            })
            .collect();
        self.pod("dialer", Some(listener), &peers)
    }

    fn pod(&self, part: &str, owner: Option<&DynamicObject>, more: &[String]) -> serde_json::Result<DynamicObject> {
        let mut args = vec![
            SUBCOMMAND.to_owned(),
            format!("--word={}", self.id),
            format!("--port={PORT}"),
            format!("--seconds={LIFE_SECONDS}"),
        ];
        args.extend_from_slice(more);
        let template = &self.template;
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": self.metadata(part, owner),
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": LIFE_SECONDS,
                "terminationGracePeriodSeconds": 2,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "imagePullSecrets": template["imagePullSecrets"],
                "nodeSelector": template["nodeSelector"],
                "tolerations": template["tolerations"],
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "canary",
                    "image": template["image"],
                    "imagePullPolicy": template["imagePullPolicy"],
                    "args": args,
                    "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
                    "readinessProbe": {
                        "httpGet": {"path": "/readyz", "port": "http"},
                        "periodSeconds": 1, "timeoutSeconds": 4, "failureThreshold": FAILURES,
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
                }],
            },
        }))
    }

    /// The policy of one direction: over the pod that is reached, or the one that reaches. Open, it lets through this one connection, which
    /// a default-deny of the namespace would stop; closed, nothing.
    pub(super) fn policy(
        &self,
        direction: Direction,
        owner: &DynamicObject,
        is_open: bool,
    ) -> serde_json::Result<DynamicObject> {
        let ports = json!([{"port": PORT, "protocol": "TCP"}]);
        let peer = |part: &str| json!([{"podSelector": {"matchLabels": self.labels(part)}}]);
        let (part, rule, field, type_) = match direction {
            Direction::Ingress => (
                "listener",
                json!({"from": peer("dialer"), "ports": ports}),
                "ingress",
                "Ingress",
            ),
            Direction::Egress => (
                "dialer",
                json!({"to": peer("listener"), "ports": ports}),
                "egress",
                "Egress",
            ),
        };
        let rules = if is_open { json!([rule]) } else { json!([]) };
        serde_json::from_value(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": self.metadata(part, Some(owner)),
            "spec": {"podSelector": {"matchLabels": self.labels(part)}, "policyTypes": [type_], field: rules},
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let spec = json!({"containers": [
            {"name": "sidecar", "image": "other"},
            {"name": "ringfence", "image": "registry.example.com/ringfence:1", "imagePullPolicy": "Never"},
        ], "nodeSelector": {"pool": "system"}});
        let deployment = json!({"metadata": {}, "spec": {"selector": {}, "template": {"spec": spec}}});
        let deployment = serde_json::from_value(deployment).unwrap();
        Run::of(&deployment, "ours", "x1".to_owned()).unwrap()
    }

    fn listener(addresses: &[&str]) -> DynamicObject {
        let mut pod = run().listener().unwrap();
        pod.metadata.uid = Some("uid".to_owned());
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        pod.data["status"] = json!({"podIPs": addresses});
        pod
    }

    #[test]
    fn pods_are_of_our_image_where_ours_may_run_and_end_by_themselves() {
        let dialer = json!(run().dialer(&listener(&["10.0.0.1", "fd00::1"])).unwrap());
        let container = &dialer["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.example.com/ringfence:1");
        assert_eq!(container["imagePullPolicy"], "Never");
        assert_eq!(dialer["spec"]["nodeSelector"]["pool"], "system");
        assert_eq!(dialer["spec"]["activeDeadlineSeconds"], LIFE_SECONDS);
        assert_eq!(dialer["metadata"]["ownerReferences"][0]["uid"], "uid");
        let args: Vec<_> = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert!(
            args.contains(&"--peer=10.0.0.1:8080") && args.contains(&"--peer=[fd00::1]:8080"),
            "{args:?}"
        );
    }

    #[test]
    fn a_policy_opens_one_connection_or_none() {
        let owner = listener(&["10.0.0.1"]);
        for (direction, field, over) in [
            (Direction::Ingress, "ingress", "listener"),
            (Direction::Egress, "egress", "dialer"),
        ] {
            let [open, closed] = [true, false].map(|is_open| json!(run().policy(direction, &owner, is_open).unwrap()));
            assert_eq!(closed["spec"][field], json!([]));
            assert_eq!(open["spec"][field].as_array().unwrap().len(), 1);
            for policy in [open, closed] {
                assert_eq!(policy["spec"]["podSelector"]["matchLabels"], run().labels(over));
                assert_eq!(policy["spec"]["policyTypes"].as_array().unwrap().len(), 1);
            }
        }
    }
}
