//! What policies look at beside a request, on a real API server: by the inventory alone, with a client of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use kube::CustomResourceExt;
use ringfence::api::{InventoryKind, RegoPolicy};
use ringfence::registry::{INVENTORY_BUDGET, Inventory, Registry};
use ringfence::telemetry::Metrics;
use ringfence::vetting::{Bounds, Vetting};
use ringfence::webhook::Readiness;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, eventually, unique};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{Actor, BINARY, SOON};

const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_ROLE_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

struct Watching {
    inventory: Arc<Inventory>,
    metrics: Arc<Metrics>,
    _stop: DropGuard,
}

impl Watching {
    async fn with(identity: &Identity, budget: usize, policies: &[&[InventoryKind]]) -> Self {
        let client = ControlPlane::shared().client(identity).await;
        let metrics = Arc::new(Metrics::new());
        let inventory = Arc::new(Inventory::new(client, Arc::clone(&metrics), budget));
        inventory.want(policies.iter().copied());
        let stop = CancellationToken::new();
        let (running, stopped) = (Arc::clone(&inventory), stop.clone());
        tokio::spawn(async move { running.run(&stopped).await });
        Self {
            inventory,
            metrics,
            _stop: stop.drop_guard(),
        }
    }

    fn look(&self, kinds: &[InventoryKind]) -> Result<Value> {
        let value = self.inventory.of(kinds, "elsewhere").map_err(|why| anyhow!(why))?;
        Ok(serde_json::from_str(&value.to_json_str()?)?)
    }

    /// Waits until something is seen there, or nothing.
    async fn sees(&self, kinds: &[InventoryKind], pointer: &str, wanted: Option<&Value>) {
        let seen = || async {
            let seen = self.look(kinds)?;
            ensure!(
                seen.pointer(pointer) == wanted,
                "{pointer} should be {wanted:?}: {seen}"
            );
            Ok(())
        };
        eventually(SOON, seen).await;
    }

    async fn says(&self, kinds: &[InventoryKind], why: &str) {
        let said = || async {
            let said = self.look(kinds).err().context("it is synced")?.to_string();
            ensure!(said.contains(why), "should say {why}: {said}");
            Ok(())
        };
        eventually(SOON, said).await;
    }

    fn bytes(&self, kind: &str) -> Option<u64> {
        let text = self.metrics.encode().expect("metrics");
        let series = format!("ringfence_cache_bytes{{kind=\"{kind}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&series))?;
        Some(value.parse().expect("a number"))
    }
}

fn kind(group: &str, version: &str, kind: &str, fields: &[&str]) -> InventoryKind {
    InventoryKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

async fn admin() -> Actor {
    Actor::new(ControlPlane::shared().admin().await)
}

async fn namespace(admin: &Actor) -> String {
    let name = unique("inventory");
    let namespace = json!({"metadata": {"name": name, "labels": {"owner": "ml"}}});
    admin.post("/api/v1/namespaces", &namespace).await.ok();
    name
}

fn ingress(name: &str, host: &str) -> Value {
    let http = json!({"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]});
    json!({
        "metadata": {"name": name, "labels": {"app": "web"}, "annotations": {"not": "declared"}},
        "spec": {"rules": [{"host": host, "http": http}], "ingressClassName": "x"},
    })
}

#[tokio::test]
async fn objects_come_cut_down_change_and_go() {
    let admin = admin().await;
    let name = namespace(&admin).await;
    let ingresses = format!("/apis/networking.k8s.io/v1/namespaces/{name}/ingresses");
    admin.post(&ingresses, &ingress("before", "a.io")).await.ok();
    let hosts = [kind("networking.k8s.io", "v1", "Ingress", &["spec.rules.host"])];
    let both = [
        kind("", "v1", "ConfigMap", &["data"]),
        kind("networking.k8s.io", "v1", "Ingress", &["spec.ingressClassName"]),
        kind("", "v1", "Namespace", &["spec.finalizers"]),
    ];
    let watching = Watching::with(&Identity::Admin, INVENTORY_BUDGET, &[&hosts, &both]).await;
    let at = |object: &str| format!("/namespace/{name}/networking.k8s.io~1v1/Ingress/{object}");
    let kept = |object: &str, host: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": object, "namespace": name, "labels": {"app": "web"}},
            "spec": {"rules": [{"host": host}]},
        })
    };
    watching
        .sees(&hosts, &at("before"), Some(&kept("before", "a.io")))
        .await;
    let seen_before = watching.inventory.of(&hosts, &name).expect("synced");
    admin.post(&ingresses, &ingress("after", "b.io")).await.ok();
    watching.sees(&hosts, &at("after"), Some(&kept("after", "b.io"))).await;
    let mut changed = admin.read(&format!("{ingresses}/before")).await.expect("an Ingress");
    changed["spec"]["rules"][0]["host"] = "c.io".into();
    admin.put(&format!("{ingresses}/before"), &changed).await.ok();
    watching
        .sees(&hosts, &at("before"), Some(&kept("before", "c.io")))
        .await;
    watching
        .sees(
            &both,
            &format!("{}/spec", at("before")),
            Some(&json!({"ingressClassName": "x"})),
        )
        .await;
    let config_map = json!({"metadata": {"name": "c"}, "data": {"k": "v"}, "binaryData": {"b": "AA=="}});
    admin
        .post(&format!("/api/v1/namespaces/{name}/configmaps"), &config_map)
        .await
        .ok();
    let at_config_map = format!("/namespace/{name}/v1/ConfigMap/c");
    watching
        .sees(&both, &format!("{at_config_map}/data"), Some(&json!({"k": "v"})))
        .await;
    watching.sees(&both, &format!("{at_config_map}/binaryData"), None).await;
    let finalizers = format!("/cluster/v1/Namespace/{name}/spec/finalizers");
    watching.sees(&both, &finalizers, Some(&json!(["kubernetes"]))).await;
    assert!(
        watching
            .bytes("networking.k8s.io/v1/Ingress")
            .is_some_and(|bytes| bytes > 500)
    );
    for object in ["before", "after"] {
        admin.delete(&format!("{ingresses}/{object}")).await.ok();
    }
    // Nothing is left of a namespace in which there is nothing: as Gatekeeper has it, it is undefined.
    watching.sees(&hosts, &format!("/namespace/{name}"), None).await;
    let text = seen_before.to_json_str().expect("text");
    assert!(
        text.contains("a.io") && !text.contains("b.io"),
        "what a request has seen does not change"
    );
}

#[tokio::test]
async fn what_may_not_be_read_says_so_until_it_may_and_touches_nothing_else() {
    let admin = admin().await;
    let person = Identity::user(&unique("inventory"), &[]);
    let Identity::User { name: user, .. } = &person else {
        unreachable!()
    };
    let role = |name: &str, group: &str, plural: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [group], "resources": [plural], "verbs": ["get", "list", "watch"]}]});
    let allow = async |group: &str, plural: &str| {
        let name = unique("inventory");
        admin.post(CLUSTER_ROLES, &role(&name, group, plural)).await.ok();
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "name": user}],
        });
        admin.post(CLUSTER_ROLE_BINDINGS, &binding).await.ok();
    };
    allow("", "namespaces").await;
    let namespaces = [kind("", "v1", "Namespace", &["spec"])];
    let roles = [kind("rbac.authorization.k8s.io", "v1", "ClusterRole", &["rules"])];
    let secrets = [kind("", "v1", "Secret", &["data"])];
    let watching = Watching::with(&person, INVENTORY_BUDGET, &[&namespaces, &roles, &secrets]).await;
    watching
        .sees(
            &namespaces,
            "/cluster/v1/Namespace/default/metadata/name",
            Some(&json!("default")),
        )
        .await;
    let why = "ClusterRole of rbac.authorization.k8s.io/v1 is not synced: Ringfence may not list clusterroles of \
               rbac.authorization.k8s.io: label a ClusterRole that may get, list and watch clusterroles of \
               rbac.authorization.k8s.io ringfence.dev/aggregate-to-inventory: \"true\"";
    watching.says(&roles, why).await;
    watching.says(&secrets, "Ringfence reads no Secrets").await;
    allow("rbac.authorization.k8s.io", "clusterroles").await;
    let at = "/cluster/rbac.authorization.k8s.io~1v1/ClusterRole/cluster-admin/rules/1/verbs";
    watching.sees(&roles, at, Some(&json!(["*"]))).await;
}

#[tokio::test]
async fn a_kind_that_comes_later_is_seen_then() {
    let admin = admin().await;
    let name = unique("later");
    let plural = name.replace('-', "");
    let kind_name = format!("L{plural}");
    let kinds = [kind("inventory.example.com", "v1", &kind_name, &["spec.n"])];
    let watching = Watching::with(&Identity::Admin, INVENTORY_BUDGET, &[&kinds]).await;
    watching.says(&kinds, "install what brings it").await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.inventory.example.com")},
        "spec": {
            "group": "inventory.example.com", "scope": "Cluster",
            "names": {"plural": plural, "kind": kind_name},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    admin.post(DEFINITIONS, &definition).await.ok();
    let objects = format!("/apis/inventory.example.com/v1/{plural}");
    let object = json!({
        "apiVersion": "inventory.example.com/v1", "kind": kind_name,
        "metadata": {"name": "one"}, "spec": {"n": 9_007_199_254_740_993_u64, "m": 1},
    });
    eventually(SOON, || async { admin.read(&objects).await }).await;
    admin.post(&objects, &object).await.ok();
    let at = format!("/cluster/inventory.example.com~1v1/{kind_name}/one/spec");
    watching
        .sees(&kinds, &at, Some(&json!({"n": 9_007_199_254_740_993_u64})))
        .await;
    admin
        .delete(&format!("{DEFINITIONS}/{plural}.inventory.example.com"))
        .await
        .ok();
}

/// Whoever may write ConfigMaps in a namespace may write many, and by that nothing of what others are judged by is out of sight.
#[tokio::test]
async fn a_namespace_that_grows_beyond_its_share_is_left_out_and_no_other() {
    let admin = admin().await;
    let (name, other) = (namespace(&admin).await, namespace(&admin).await);
    let config_maps = [kind("", "v1", "ConfigMap", &["data"])];
    let namespaces = [kind("", "v1", "Namespace", &["metadata.name"])];
    // A sixteenth is 128 KiB.
    let watching = Watching::with(&Identity::Admin, 2 << 20, &[&config_maps, &namespaces]).await;
    let there = json!("kube-root-ca.crt");
    watching.sees(&config_maps, &kube_root(&name), Some(&there)).await;
    let path = format!("/api/v1/namespaces/{name}/configmaps");
    let large = json!({"metadata": {"name": "large"}, "data": {"x": "x".repeat(900_000)}});
    admin.post(&path, &large).await.ok();
    watching.sees(&config_maps, &format!("/namespace/{name}"), None).await;
    let why = watching.inventory.of(&config_maps, &name).unwrap_err();
    assert!(
        why.contains(&format!("the objects of namespace {name} weigh more")),
        "{why}"
    );
    let trouble = watching.inventory.trouble(&config_maps).expect("it is said");
    assert!(trouble.is_too_large && trouble.why.contains(&name), "{trouble:?}");
    watching.sees(&config_maps, &kube_root(&other), Some(&there)).await;
    assert!(watching.bytes("v1/ConfigMap").is_some_and(|bytes| bytes > 0));
    admin.delete(&format!("{path}/large")).await.ok();
    // It is listed again when what policies ask for changes, without waiting for its time.
    let more = [kind("", "v1", "ConfigMap", &["data", "immutable"])];
    watching.inventory.want([config_maps.as_slice(), more.as_slice()]);
    watching.sees(&config_maps, &kube_root(&name), Some(&there)).await;
    eventually(Duration::from_secs(30), || async {
        ensure!(watching.bytes("v1/Namespace").is_none(), "nobody asks for it any more");
        Ok(())
    })
    .await;
}

fn kube_root(namespace: &str) -> String {
    format!("/namespace/{namespace}/v1/ConfigMap/kube-root-ca.crt/metadata/name")
}

/// The way from a RegoPolicy to its objects, on an API server of its own, which has nothing of Ringfence but the definition.
#[tokio::test]
async fn what_policies_in_force_ask_for_is_watched_and_nothing_else() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let admin = Actor::new(cluster.admin().await);
    let definition = serde_json::to_value(RegoPolicy::crd()).expect("a definition");
    admin.post(DEFINITIONS, &definition).await.ok();
    let policies = "/apis/ringfence.dev/v1alpha1/regopolicies";
    eventually(SOON, || async { admin.read(policies).await }).await;
    let vetting = Vetting::with(BINARY.into(), Bounds::default());
    let metrics = Arc::new(Metrics::new());
    let registry = Arc::new(Registry::new(cluster.admin().await, vetting, Arc::clone(&metrics)));
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let running = Arc::clone(&registry);
    tokio::spawn(async move { running.run(Readiness::default(), stop).await });

    let kinds = [kind("", "v1", "Namespace", &["status.phase"])];
    assert!(registry.inventory(&kinds, "").is_err());
    let source = "package p\n\ndeny contains \"no\" if data.inventory.cluster.v1.Namespace[input.request.namespace].status.phase != \"Active\"";
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": "active"},
        "spec": {
            "validationActions": ["Deny"],
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
            ]},
            "inventory": [{"version": "v1", "kind": "Namespace", "fields": ["status.phase"]}],
            "rego": {"modules": [{"name": "p.rego", "source": source}]},
        },
    });
    admin.post(policies, &policy).await.ok();
    eventually(SOON, || async {
        let snapshot = registry.snapshot();
        let policy = snapshot.policies().first().context("it is not in force")?;
        ensure!(policy.why_broken().is_none(), "{:?}", policy.why_broken());
        let seen = registry.inventory(policy.spec().inventory.as_slice(), "");
        let seen = seen.map_err(|why| anyhow!(why))?.to_json_str()?;
        let seen: Value = serde_json::from_str(&seen)?;
        let phase = seen.pointer("/cluster/v1/Namespace/default/status/phase");
        ensure!(phase == Some(&json!("Active")), "{seen}");
        Ok(())
    })
    .await;
    let bytes = || {
        metrics
            .encode()
            .expect("metrics")
            .contains(r#"cache_bytes{kind="v1/Namespace"}"#)
    };
    assert!(bytes());
    admin.delete(&format!("{policies}/active")).await.ok();
    eventually(SOON, || async {
        ensure!(
            registry.inventory(&kinds, "").is_err() && !bytes(),
            "nobody asks for it any more"
        );
        Ok(())
    })
    .await;
}
