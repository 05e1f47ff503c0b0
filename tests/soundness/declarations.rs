//! The classes and declarations of a place, and the pods in it, from the parts that a sequence names.

use serde_json::{Value, json};

use crate::objects::{container, pod};
use crate::operations::{Parts, Twist};

/// What the platform may allow: `images` and `rules` vary.
pub fn class(other: &str, images: usize, rules: bool) -> Value {
    let images = [
        "registry.example.com/**",
        "registry.example.com/finance/**",
        "registry.example.com/finance/triage",
    ][images];
    let mut class = json!({
        "images": {"allowed": [images]},
        "podSecurity": "Baseline",
        "network": {"cidrs": ["203.0.113.0/24"], "namespaces": [other], "domains": ["api.example.com"]},
        "volumes": {"types": ["configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim"]},
        "podAnnotations": ["kubectl.kubernetes.io/", "batch.kubernetes.io/"],
        "cluster": {"clusterCIDRs": ["10.0.0.0/8"]},
    });
    if rules {
        class["permissions"] =
            json!([{"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["get", "list", "watch"]}]);
    }
    class
}

/// A declaration, and whether everything in it is valid, be it inside the class or not.
pub fn declaration(parts: Parts, name: &str, other: &str) -> (Value, bool) {
    let account = json!({"serviceAccount": {"namespace": other, "name": "launcher"}});
    let launchers = [
        json!([{"user": "lea"}, account]),
        json!([account]),
        json!([{"user": "tess"}]),
        json!([{"user": "lea"}]),
        json!([{"group": "system:authenticated"}]),
    ][parts.launchers]
        .clone();
    let images = [
        json!(["registry.example.com/finance/**"]),
        json!(["registry.example.com/finance/triage"]),
        json!(["registry.example.com/*/tool", "registry.example.com/finance/triage"]),
        json!(["docker.io/library/*"]),
        json!(["registry.example.com/other/**"]),
    ][parts.images]
        .clone();
    let rule = |group: &str, resource: &str, verb: &str| json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]);
    let rules = [
        json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [format!("{name}-config")], "verbs": ["get"]}]),
        json!([]),
        rule("", "pods", "list"),
        rule("apps", "deployments", "create"),
        rule("", "secrets", "get"),
    ][parts.rules].clone();
    let model = |keys: Value| json!([{"name": "model", "secretRef": keys}]);
    let secrets = [
        json!([]),
        model(json!({"name": "model"})),
        model(json!({"name": "model", "keys": ["key"]})),
        model(json!({"name": "model", "keys": ["other"]})),
        model(json!({"name": "*"})),
    ][parts.secrets]
        .clone();
    let port = json!([{"port": 8080}]);
    let next = if name == "alpha" { "beta" } else { "alpha" };
    let network = [
        json!({}),
        json!({"egress": [{"name": "next", "to": {"workflow": {"name": next}}, "ports": port}],
               "ingress": [{"name": "next", "from": {"workflow": {"name": next}}, "ports": port}]}),
        json!({"egress": [{"name": "bank", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 443}]}]}),
        json!({"egress": [{"name": "web", "to": {"pods": {"namespace": other, "selector": {"matchLabels": {"app": "web"}}}}, "ports": port}]}),
        json!({"ingress": [{"name": "web", "from": {"pods": {"namespace": other, "selector": {"matchLabels": {"app": "web"}}}}, "ports": port}]}),
        json!({"egress": [{"name": "world", "to": {"cidrs": ["0.0.0.0/0"]}, "ports": [{"port": 443}]}]}),
        json!({"egress": [{"name": "dns", "to": {"pods": {"namespace": "kube-system", "selector": {"matchLabels": {"app": "web"}}}}, "ports": port}]}),
        json!({"egress": [{"name": "model", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]}]}),
        json!({"egress": [{"name": "model", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]},
                          {"name": "all", "to": {"domains": ["*.example.com"]}, "ports": [{"port": 443}]}]}),
    ][parts.network].clone();
    // `default` is nobody's own, and another workflow's account is that one's.
    let account = [None, None, None, Some("default"), Some(next)][parts.account];
    let mut spec = json!({"launchers": launchers, "images": images, "permissions": {"rules": rules}, "secrets": secrets, "network": network});
    if let Some(account) = account {
        spec["identity"] = json!({"serviceAccountName": account});
    }
    let is_valid = parts.launchers < 4 && parts.rules < 3 && parts.secrets < 4 && account.is_none();
    (spec, is_valid)
}

/// The pod of a workflow, with what does not fit. `foreign` is somebody else's object, as an owner.
pub fn twisted(name: &str, workflow: &str, twist: Twist, foreign: &Value) -> Value {
    let mut pod = pod(name, workflow);
    let spec = &mut pod["spec"];
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("v");
        json!([volume])
    };
    match twist {
        Twist::Clean | Twist::NoLabel | Twist::NoLabelInside | Twist::OtherLabelInside => {}
        Twist::OtherAccount => spec["serviceAccountName"] = json!("default"),
        Twist::Image("container", image) => spec["containers"][0]["image"] = json!(image),
        Twist::Image("init", image) => {
            let mut first = container("first");
            first["image"] = json!(image);
            spec["initContainers"] = json!([first]);
        }
        Twist::Image(_, image) => spec["volumes"] = volume(json!({"image": {"reference": image}})),
        Twist::Node("hostPath") => spec["volumes"] = volume(json!({"hostPath": {"path": "/etc"}})),
        Twist::Node("hostPort") => spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]),
        Twist::Node(field) => spec[field] = json!(true),
        Twist::Secret("env", secret) => {
            let from = json!({"secretKeyRef": {"name": secret, "key": "key"}});
            spec["containers"][0]["env"] = json!([{"name": "A", "valueFrom": from}]);
        }
        Twist::Secret("envFrom", secret) => spec["containers"][0]["envFrom"] = json!([{"secretRef": {"name": secret}}]),
        Twist::Secret("volume", secret) => spec["volumes"] = volume(json!({"secret": {"secretName": secret}})),
        Twist::Secret("projected", secret) => {
            spec["volumes"] = volume(json!({"projected": {"sources": [{"secret": {"name": secret}}]}}));
        }
        Twist::Secret(_, secret) => spec["imagePullSecrets"] = json!([{"name": secret}]),
        Twist::Audience => {
            let token = json!({"serviceAccountToken": {"audience": "vault", "path": "t", "expirationSeconds": 600}});
            spec["volumes"] = volume(json!({"projected": {"sources": [token]}}));
        }
        Twist::Interface => pod["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "evil"}),
        Twist::Owner => pod["metadata"]["ownerReferences"] = json!([foreign]),
    }
    pod
}
