//! Door: Secrets that nobody declared: a tenant who may make pods, and may not read Secrets, has a pod read them.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::eventually;

use crate::objects::template_of;
use crate::world::{Answer, WORKLOADS, World, all, container, one, pod, workflow, workload};

/// Volumes of every type that has a Secret; most dial out from the node, and this platform lets them.
const VOLUMES: [&str; 11] = [
    "azureFile",
    "cephfs",
    "csi",
    "emptyDir",
    "flexVolume",
    "iscsi",
    "projected",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
];

/// A pod's spec that takes something from a Secret.
type Way = (&'static str, fn(&str) -> Value);

fn env(entry: &Value) -> Value {
    let mut main = container("main");
    main["env"] = json!([entry]);
    json!({"containers": [main]})
}

fn volume(source: Value) -> Value {
    let mut volume = source;
    volume["name"] = json!("v");
    json!({"volumes": [volume]})
}

/// Ways that take a whole Secret.
fn whole() -> Vec<Way> {
    vec![
        ("all of it as variables", |name| {
            let mut main = container("main");
            main["envFrom"] = json!([{"prefix": "A_", "secretRef": {"name": name}}]);
            json!({"containers": [main]})
        }),
        ("variables of an init container", |name| {
            let mut first = container("first");
            first["envFrom"] = json!([{"secretRef": {"name": name}}]);
            json!({"initContainers": [first]})
        }),
        ("a volume", |name| volume(json!({"secret": {"secretName": name}}))),
        ("a volume with an empty list of keys", |name| {
            volume(json!({"secret": {"secretName": name, "items": []}}))
        }),
        ("a projected volume", |name| {
            volume(json!({"projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": name}}]}}))
        }),
        ("the login of a CSI driver", |name| {
            volume(json!({"csi": {"driver": "files.example.com", "nodePublishSecretRef": {"name": name}}}))
        }),
        ("a setting of a CSI driver", |name| {
            volume(json!({"csi": {"driver": "files.example.com", "volumeAttributes": {"secretName": name}}}))
        }),
        ("a setting that the driver reads in lower case", |name| {
            volume(json!({"csi": {"driver": "files.example.com", "volumeAttributes": {"SECRETNAME": name}}}))
        }),
        ("Azure Files", |name| {
            volume(json!({"azureFile": {"secretName": name, "shareName": "s"}}))
        }),
        ("CephFS", |name| {
            volume(json!({"cephfs": {"monitors": ["203.0.113.1"], "secretRef": {"name": name}}}))
        }),
        ("RBD", |name| {
            volume(json!({"rbd": {"monitors": ["203.0.113.1"], "image": "i", "secretRef": {"name": name}}}))
        }),
        ("iSCSI", |name| {
            let target = json!({"targetPortal": "203.0.113.1", "iqn": "iqn.2001-04.com.example:x", "lun": 0, "chapAuthSession": true});
            let mut source = json!({"iscsi": target});
            source["iscsi"]["secretRef"] = json!({"name": name});
            volume(source)
        }),
        ("a flex driver", |name| {
            volume(json!({"flexVolume": {"driver": "example.com/x", "secretRef": {"name": name}}}))
        }),
        ("ScaleIO", |name| {
            volume(json!({"scaleIO": {"gateway": "g", "system": "s", "volumeName": "v", "secretRef": {"name": name}}}))
        }),
        ("StorageOS", |name| {
            volume(json!({"storageos": {"volumeName": "v", "secretRef": {"name": name}}}))
        }),
    ]
}

/// Ways that take one key, of a Secret called `openai`.
fn by_key() -> Vec<Way> {
    vec![
        ("a variable", |key| {
            env(&json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "openai", "key": key}}}))
        }),
        ("a variable that may be missing", |key| {
            env(&json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": "openai", "key": key, "optional": true}}}))
        }),
        ("a volume", |key| {
            volume(
                json!({"secret": {"secretName": "openai", "items": [{"key": "API_KEY", "path": "a"}, {"key": key, "path": "b"}]}}),
            )
        }),
        ("a projected volume", |key| {
            volume(
                json!({"projected": {"sources": [{"secret": {"name": "openai", "items": [{"key": key, "path": "a"}]}}]}}),
            )
        }),
    ]
}

/// A namespace of a platform that allows much, with Secrets, and a workflow whose launcher is its tenant.
struct Place {
    world: World,
    ns: String,
}

impl Place {
    async fn new(prefix: &str, declared: &Value) -> Self {
        let world = World::shared().await;
        let class = world
            .class(&json!({
                "images": {"allowed": ["**"]}, "podSecurity": "Baseline", "debug": {"maxHours": 8},
                "volumes": {"types": VOLUMES, "csiDrivers": ["files.example.com"]},
            }))
            .await;
        let labels = json!({"ringfence.dev/enforce": class, "pod-security.kubernetes.io/enforce": "baseline"});
        let ns = world.namespace(prefix, &labels).await;
        let keys = json!({"API_KEY": "x", "ADMIN_KEY": "x"});
        for name in ["openai", "vendor", "payroll", "registry"] {
            let secret = json!({"metadata": {"name": name}, "stringData": keys});
            let path = format!("/api/v1/namespaces/{ns}/secrets");
            world.admin.post(&path, &secret).await.ok();
        }
        let mut spec = declared.clone();
        spec["launchers"] = json!([{"user": "tess"}]);
        world.ready(&ns, "triage", &spec).await;
        Self { world, ns }
    }

    /// One that declares a key of `openai`, all of `vendor`, and `registry` for pulling.
    async fn declaring(prefix: &str) -> Self {
        let secrets = json!([
            {"name": "model-key", "secretRef": {"name": "openai", "keys": ["API_KEY"]}, "data": {"classification": "Restricted"}},
            {"name": "vendor", "secretRef": {"name": "vendor"}},
        ]);
        let identity = json!({"imagePullSecrets": [{"name": "registry"}]});
        Self::new(prefix, &json!({"secrets": secrets, "identity": identity})).await
    }

    /// What the tenant hears who makes such an object; nothing is made.
    async fn tries(&self, kind: &str, spec: &Value) -> Answer {
        let mut object = workload(kind, &pod("x", "triage"));
        let template = object.pointer_mut(template_of(kind)).expect("a template");
        for (key, value) in spec.as_object().into_iter().flatten() {
            template["spec"][key] = value.clone();
        }
        let path = format!("{}?dryRun=All", all(kind, &self.ns));
        self.world.tess.post(&path, &object).await
    }

    /// A pod with that in its spec, which stands.
    async fn runs(&self, name: &str, spec: &Value) {
        let mut object = pod(name, "triage");
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        self.world.tess.post(&all("Pod", &self.ns), &object).await.ok();
    }
}

/// The refusal is for that alone, and names the Secret or the key.
#[track_caller]
fn is_refused(answer: &Answer, what: &str, named: &str) {
    let message = answer.refused_by("declared-secrets");
    let reasons: Vec<_> = message.lines().filter(|line| line.contains(". [")).collect();
    let of_rule = reasons.iter().all(|line| line.contains(". [declared-secrets] "));
    assert!(
        of_rule && message.contains(&format!("= \"{named}\"")),
        "{what}: {message}"
    );
}

/// Held by: `declared-secrets`, `RBAC`
#[tokio::test]
async fn a_tenant_has_a_pod_read_a_secret_of_somebody_else() {
    let place = Place::declaring("secrets-of-others").await;
    let (_, tenant) = place.world.person(&place.ns, crate::world::TENANT).await;
    let read = tenant
        .get(&format!("/api/v1/namespaces/{}/secrets/payroll", place.ns))
        .await;
    assert_eq!(read.code, 403, "a tenant reads no Secret by hand: {}", read.body);
    for (what, way) in whole() {
        is_refused(&place.tries("Pod", &way("payroll")).await, what, "payroll");
        place.tries("Pod", &way("vendor")).await.ok();
    }
    let by_key =
        |name: &str| env(&json!({"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "API_KEY"}}}));
    is_refused(&place.tries("Pod", &by_key("payroll")).await, "a variable", "payroll");
    place.tries("Pod", &by_key("vendor")).await.ok();
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_tenant_has_a_workload_make_the_pod_that_reads_it() {
    let place = Place::declaring("secrets-by-workload").await;
    let mounted = |name: &str| volume(json!({"secret": {"secretName": name}}));
    // A tenant may write no PodTemplates.
    for kind in WORKLOADS.into_iter().filter(|kind| *kind != "PodTemplate") {
        is_refused(&place.tries(kind, &mounted("payroll")).await, kind, "payroll");
        place.tries(kind, &mounted("vendor")).await.ok();
    }
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_takes_another_key_of_a_declared_secret() {
    let place = Place::declaring("secrets-by-key").await;
    for (what, way) in by_key() {
        is_refused(&place.tries("Pod", &way("ADMIN_KEY")).await, what, "ADMIN_KEY");
        place.tries("Pod", &way("API_KEY")).await.ok();
    }
    for (what, way) in whole() {
        is_refused(&place.tries("Pod", &way("openai")).await, what, "openai");
    }
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_refers_to_a_secret_that_is_made_later() {
    let place = Place::declaring("secrets-of-later").await;
    let of = |name: &str| volume(json!({"secret": {"secretName": name, "optional": true}}));
    is_refused(
        &place.tries("Pod", &of("not-there-yet")).await,
        "a volume",
        "not-there-yet",
    );
    let entry = json!({"name": "later", "secretRef": {"name": "not-there-yet"}});
    let path = one("AIWorkflow", &place.ns, "triage");
    let patch = json!([{"op": "add", "path": "/spec/secrets/-", "value": entry}]);
    place.world.tess.json_patch(&path, &patch).await.ok();
    place.tries("Pod", &of("not-there-yet")).await.ok();
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_pulls_with_a_secret_that_is_not_for_pulling_and_reads_the_one_that_is() {
    let place = Place::declaring("secrets-to-pull").await;
    let pulls = |name: &str| json!({"imagePullSecrets": [{"name": name}]});
    for name in ["payroll", "vendor"] {
        is_refused(&place.tries("Pod", &pulls(name)).await, "pulling", name);
    }
    let mounted = volume(json!({"secret": {"secretName": "registry"}}));
    is_refused(&place.tries("Pod", &mounted).await, "mounting", "registry");
    place.tries("Pod", &pulls("registry")).await.ok();
    // What the API server puts into a pod that names none is the account's, which is declared.
    let made = place.tries("Pod", &json!({})).await.ok();
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_names_a_secret_of_another_namespace_to_a_driver() {
    let place = Place::declaring("secrets-elsewhere").await;
    let of = |settings: Value| volume(json!({"csi": {"driver": "files.example.com", "volumeAttributes": settings}}));
    let there = of(json!({"secretName": "vendor", "secretNamespace": "kube-system"}));
    let answer = place.tries("Pod", &there).await;
    let message = answer.refused_by("declared-secrets");
    assert!(message.contains("volumeAttributes.secretNamespace"), "{message}");
    let here = of(json!({"secretName": "vendor", "secretProviderClass": "x", "share": "s"}));
    place.tries("Pod", &here).await.ok();
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_counts_on_a_declaration_that_says_nothing() {
    let place = Place::new("secrets-undeclared", &json!({})).await;
    for (what, way) in whole() {
        is_refused(&place.tries("Pod", &way("vendor")).await, what, "vendor");
    }
    is_refused(
        &place
            .tries("Pod", &json!({"imagePullSecrets": [{"name": "registry"}]}))
            .await,
        "pulling",
        "registry",
    );
    place.tries("Pod", &json!({})).await.ok();
}

/// Held by: `definition`, `valid-declaration`
#[tokio::test]
async fn a_tenant_declares_every_secret_with_an_empty_list_or_a_star() {
    let place = Place::new("secrets-of-all", &json!({})).await;
    let path = format!("{}?dryRun=All", all("AIWorkflow", &place.ns));
    let declare = async |reference: Value| {
        let secrets = json!([{"name": "all", "secretRef": reference}]);
        place
            .world
            .tess
            .post(&path, &workflow("other", &json!({"secrets": secrets})))
            .await
    };
    for reference in [
        json!({"name": "openai", "keys": []}),
        json!({"name": "*"}),
        json!({"name": "openai", "keys": ["*"]}),
        json!({"name": "kube-system/token"}),
        json!({"keys": ["API_KEY"]}),
    ] {
        let answer = declare(reference.clone()).await;
        assert_eq!(answer.code, 422, "{reference}: {}", answer.body);
    }
    for (reference, field) in [
        (json!({"name": "a..b"}), "spec.secrets[0].secretRef.name"),
        (
            json!({"name": "openai", "keys": ["..data"]}),
            "spec.secrets[0].secretRef.keys[0]",
        ),
    ] {
        let answer = declare(reference).await;
        let message = answer.refused_by("valid-declaration");
        assert!(message.contains(field), "{message}");
    }
    declare(json!({"name": "openai", "keys": ["API_KEY"]})).await.ok();
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_tenant_puts_an_undeclared_secret_into_what_runs_already() {
    let place = Place::declaring("secrets-into-templates").await;
    let tess = &place.world.tess;
    for kind in ["Deployment", "CronJob"] {
        let object = workload(kind, &pod("runs", "triage"));
        tess.post(&all(kind, &place.ns), &object).await.ok();
        let patch = |name: &str| {
            let at = format!("{}/spec/volumes", template_of(kind));
            json!([{"op": "add", "path": at, "value": volume(json!({"secret": {"secretName": name}}))["volumes"]}])
        };
        let path = one(kind, &place.ns, "runs");
        let answer = tess.json_patch(&path, &patch("payroll")).await;
        is_refused(&answer, kind, "payroll");
        tess.json_patch(&path, &patch("vendor")).await.ok();
    }
}

/// By somebody who may look into pods, while the window is open.
///
/// Held by: `declared-secrets`, `debug-window`
#[tokio::test]
async fn a_debug_container_reads_a_secret() {
    let place = Place::declaring("secrets-by-debugging").await;
    let until = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
    let debug = json!({"spec": {"debug": {"allow": ["EphemeralContainers"], "until": until}}});
    let path = one("AIWorkflow", &place.ns, "triage");
    place.world.tess.patch(&path, &debug).await.ok();
    place
        .world
        .condition(&place.ns, "triage", "Ready", "True", "Fenced")
        .await;
    place.runs("runs", &json!({})).await;
    let (_, dev) = place.world.person(&place.ns, "ringfence-debugger").await;
    let door = format!("{}/ephemeralcontainers", one("Pod", &place.ns, "runs"));
    let put = |name: &str, more: Value| {
        let mut tools = container(name);
        // The API server takes none for such a container.
        tools.as_object_mut().expect("a container").remove("resources");
        for (key, value) in more.as_object().into_iter().flatten() {
            tools[key] = value.clone();
        }
        json!({"spec": {"ephemeralContainers": [tools]}})
    };
    let reads = |name: &str| json!({"envFrom": [{"secretRef": {"name": name}}]});
    let answer = dev.strategic(&door, &put("thief", reads("payroll"))).await;
    answer.refused_by("declared-secrets");
    // What the pod itself may read is not for whoever looks into it.
    let answer = dev.strategic(&door, &put("thief", reads("vendor"))).await;
    answer.refused_by("debug-window");
    dev.strategic(&door, &put("tools", json!({}))).await.ok();
}

/// Legitimate: what runs goes on with what it was admitted with; the scan reports it, and new pods are refused.
#[tokio::test]
async fn what_runs_goes_on_when_a_secret_is_declared_no_more() {
    let place = Place::declaring("secrets-taken-back").await;
    let mounted = volume(json!({"secret": {"secretName": "vendor"}}));
    place.runs("runs", &mounted).await;
    let path = one("AIWorkflow", &place.ns, "triage");
    let less = json!({"spec": {"secrets": null}});
    place.world.tess.patch(&path, &less).await.ok();
    is_refused(&place.tries("Pod", &mounted).await, "a new pod", "vendor");
    let label = json!({"metadata": {"labels": {"team": "x"}}});
    let running = one("Pod", &place.ns, "runs");
    place.world.tess.patch(&running, &label).await.ok();
    // The scan tells of it.
    eventually(Duration::from_secs(60), || async {
        let said = place
            .world
            .cluster
            .ringfence_as(
                &support::Identity::Admin,
                crate::world::BINARY,
                &["check", "namespace", &place.ns],
            )
            .await?;
        anyhow::ensure!(
            said.code == Some(1) && said.stdout.contains("declared-secrets"),
            "{said}"
        );
        Ok(())
    })
    .await;
}
