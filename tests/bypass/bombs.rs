//! Door: an object that is too big to be looked at, so that it passes unseen, or that keeps others from being served.
//!
//! For every registration and every guard: thousands of labels, annotations, owners or finalizers, and a review of 12 MB, which is an
//! UPDATE of an object with 1 MB of `<`. Whoever is asked refuses what he would refuse of a small object, and nothing else.

use std::time::Duration;

use anyhow::ensure;
use futures::future::join_all;
use serde_json::{Map, Value, json};
use support::{eventually, unique};
use tokio::time::sleep;

use crate::world::{Actor, Answer, NAMESPACES, POLICIES, SOON, World, all, condition, one, pod, workflow, workload};

/// As many keys as tempt a budget, with a prefix that the class of the test lets pods carry.
const MANY: usize = 20_000;
/// What runs has a bound of its own on its size: as many as it lets pass.
const OF_WHAT_RUNS: usize = 10_000;
const PREFIX: &str = "a.b/";

/// A kind of object that is asked about, as it is allowed, and as it is refused.
struct Target {
    /// Registration or guard.
    asked: &'static str,
    who: Actor,
    collection: String,
    innocent: Value,
    attacker: Actor,
    guilty: Value,
    /// What the refusal says.
    refusal: &'static str,
    /// What else is refused of an object of that size, whoever writes it.
    bound: Option<&'static str>,
}

fn map(count: usize) -> Value {
    let pairs = (0..count).map(|at| (format!("{PREFIX}k{at}"), json!("v")));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn owners(count: usize) -> Value {
    let owner =
        |at| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("o{at}"), "uid": format!("u{at}")});
    (0..count).map(owner).collect()
}

fn finalizers(count: usize) -> Value {
    (0..count).map(|at| json!(format!("example.com/f{at}"))).collect()
}

/// More than that costs the API server itself seconds a request, which is its own to bound.
fn bomb() -> Value {
    bomb_of(MANY)
}

fn bomb_of(many: usize) -> Value {
    json!({
        "labels": map(many), "annotations": map(many / 20), "finalizers": finalizers(many / 10), "ownerReferences": owners(many / 40),
    })
}

/// A namespace whose class lets pods carry the annotations of a bomb.
async fn fenced(world: &World, prefix: &str) -> String {
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "podAnnotations": [PREFIX]}))
        .await;
    let ns = world.namespace(prefix, &json!({"ringfence.dev/enforce": class})).await;
    world.ready(&ns, "triage", &json!({})).await;
    ns
}

/// The answer as soon as the API server has the time for it, and Ringfence the room: with that much to write down twice they may run out of it, and
/// then refuse.
async fn answered<F: Future<Output = Answer>>(act: impl Fn() -> F) -> Answer {
    eventually(SOON, || async {
        let answer = act().await;
        let is_late = answer.code == 503 || answer.message().contains("deadline exceeded");
        ensure!(!is_late, "{}", answer.message());
        Ok(answer)
    })
    .await
}

/// The object with all of a bomb in its metadata, beside what is there.
fn armed(object: &Value, bomb: &Value) -> Value {
    let mut object = object.clone();
    for (field, more) in bomb.as_object().unwrap() {
        let there = &mut object["metadata"][field];
        match (there, more) {
            (Value::Object(there), Value::Object(more)) => there.extend(more.clone()),
            (Value::Array(there), Value::Array(more)) => there.extend(more.clone()),
            (there, more) => *there = more.clone(),
        }
    }
    object
}

async fn targets(world: &World, ns: &str, plain: &str) -> Vec<Target> {
    let lea = world.master("lea", &[]).await;
    let admin = &world.admin;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let (_, of_plain) = world.person(plain, "cluster-admin").await;
    let nell = crate::moving::writer_of_namespaces(world).await;
    let target =
        |asked, (who, innocent): (&Actor, Value), (attacker, guilty): (&Actor, Value), collection: String, refusal| {
            Target {
                asked,
                who: who.clone(),
                collection,
                innocent,
                attacker: attacker.clone(),
                guilty,
                refusal,
                bound: None,
            }
        };
    let changed = |object: &Value, pointer: &str, value: Value| {
        let mut object = object.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Array(list) => {
                list.truncate(key.parse().unwrap());
                list.push(value);
            }
            other => other[key.replace("~1", "/")] = value,
        }
        object
    };
    let evil = json!("docker.io/library/evil:1");
    let bare = pod("bomb", "triage");
    let deployment = workload("Deployment", &bare);
    let config = json!({"metadata": {"name": "bomb", "labels": {}}});
    let labelled = changed(&config, "/metadata/labels/ringfence.dev~1workflow", json!("triage"));
    let account = json!({"metadata": {"name": "bomb", "annotations": {}}});
    let secret = json!({"metadata": {"name": "bomb", "annotations": {"kubernetes.io/service-account.name": "triage"}}, "type": "Opaque"});
    let service = json!({"metadata": {"name": "bomb"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}});
    let closed = json!({"metadata": {"name": "bomb"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let namespace = json!({"metadata": {"name": unique("bomb"), "labels": {}}});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let user = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ada"});
    let binding = json!({"metadata": {"name": "bomb"}, "roleRef": role, "subjects": [user]});
    let fenced = json!({"kind": "ServiceAccount", "namespace": ns, "name": "triage"});
    let declared = workflow("bomb", &json!({}));
    let mut targets = vec![
        target(
            "fence",
            (&lea, bare.clone()),
            (&lea, changed(&bare, "/spec/containers/0/image", evil.clone())),
            all("Pod", ns),
            "[approved-images]",
        ),
        target(
            "fence",
            (&lea, deployment.clone()),
            (&owner, deployment.clone()),
            all("Deployment", ns),
            "[launcher]",
        ),
        target(
            "label",
            (&of_plain, config.clone()),
            (&of_plain, labelled.clone()),
            all("ConfigMap", plain),
            "[approved-namespace]",
        ),
        target(
            "label-enforced",
            (&lea, labelled.clone()),
            (&owner, labelled),
            all("ConfigMap", ns),
            "[launcher]",
        ),
        target(
            "accounts",
            (&owner, account.clone()),
            (
                &owner,
                changed(
                    &account,
                    "/metadata/annotations/eks.amazonaws.com~1role-arn",
                    json!("x"),
                ),
            ),
            all("ServiceAccount", ns),
            "[cloud-identity]",
        ),
        target(
            "token-secrets",
            (&owner, secret.clone()),
            (
                &owner,
                changed(&secret, "/type", json!("kubernetes.io/service-account-token")),
            ),
            format!("/api/v1/namespaces/{ns}/secrets"),
            "[token-secret]",
        ),
        target(
            "services",
            (&world.tess, service.clone()),
            (&world.tess, changed(&service, "/spec/type", json!("NodePort"))),
            format!("/api/v1/namespaces/{ns}/services"),
            "[closed-service]",
        ),
        target(
            "network-policies",
            (&owner, closed.clone()),
            (&owner, changed(&closed, "/spec/ingress", json!([{}]))),
            all("NetworkPolicy", ns),
            "[foreign-network-policy]",
        ),
        target(
            "modes",
            (&nell, namespace.clone()),
            (
                admin,
                changed(&namespace, "/metadata/labels/ringfence.dev~1enforce", json!("absent")),
            ),
            NAMESPACES.to_owned(),
            "[namespace-mode]",
        ),
        target(
            "guard modes",
            (&nell, namespace.clone()),
            (
                &nell,
                changed(&namespace, "/metadata/labels/ringfence.dev~1enforce", json!("default")),
            ),
            NAMESPACES.to_owned(),
            "'ringfence-modes'",
        ),
        target(
            "bindings",
            (&of_plain, binding.clone()),
            (&of_plain, changed(&binding, "/subjects/1", fenced)),
            all("RoleBinding", plain),
            "[extra-binding]",
        ),
        target(
            "guard reserved-keys",
            (&of_plain, account.clone()),
            (
                &of_plain,
                changed(&account, "/metadata/annotations/ringfence.dev~1owner-uid", json!("x")),
            ),
            all("ServiceAccount", plain),
            "'ringfence-reserved-keys'",
        ),
        target(
            "guard orphans",
            (&world.tess, declared.clone()),
            (
                &world.tess,
                changed(&declared, "/metadata/finalizers", json!(["orphan"])),
            ),
            all("AIWorkflow", ns),
            "'ringfence-orphans'",
        ),
        target(
            "kinds",
            (&world.tess, declared.clone()),
            (&world.tess, changed(&declared, "/spec/images/0", json!("UPPER"))),
            all("AIWorkflow", ns),
            "[valid-declaration]",
        ),
    ];
    for target in &mut targets {
        // A declaration is held in memory: its metadata has a bound of its own.
        target.bound = target
            .collection
            .ends_with("/aiworkflows")
            .then_some("[declaration-size]");
    }
    targets
}

impl Target {
    /// What is wrong with the answers to both of its objects with a bomb, if anything.
    async fn wrong(&self, what: &str, bomb: &Value) -> Option<String> {
        let path = format!("{}?dryRun=All", self.collection);
        let (innocent, guilty) = (armed(&self.innocent, bomb), armed(&self.guilty, bomb));
        let innocent = answered(|| self.who.post(&path, &innocent)).await;
        let guilty = answered(|| self.attacker.post(&path, &guilty)).await;
        let bounded = |answer: &Answer| self.bound.is_some_and(|rule| answer.message().contains(rule));
        // The API server has bounds too: 256 KiB of annotations, and so on; these objects stay below them.
        let is_served = innocent.code == 201 || bounded(&innocent);
        let is_refused = guilty.code == 403 && (guilty.message().contains(self.refusal) || bounded(&guilty));
        let told = |answer: &Answer| answer.message().chars().take(300).collect::<String>();
        (!is_served || !is_refused).then(|| {
            format!(
                "{}, {what}: {} {} / {} {}",
                self.asked,
                innocent.code,
                told(&innocent),
                guilty.code,
                told(&guilty)
            )
        })
    }
}

/// Thousands of keys, which cost a condition in CEL more than it may.
/// Held by: `approved-images`, `launcher`, `approved-namespace`, `cloud-identity`, `token-secret`, `closed-service`, `foreign-network-policy`, `namespace-mode`, `extra-binding`, `valid-declaration`, `ringfence-modes`, `ringfence-reserved-keys`, `ringfence-orphans`
#[tokio::test]
async fn somebody_exhausts_the_budget_of_a_condition() {
    let world = World::shared().await;
    let (ns, plain) = (
        &fenced(&world, "bombs").await,
        &world.namespace("bombs", &json!({})).await,
    );
    let mut wrong = Vec::new();
    for target in targets(&world, ns, plain).await {
        // The rights of the chart's roles come by aggregation.
        eventually(SOON, || async {
            let found = target.wrong("small", &json!({})).await;
            ensure!(found.is_none(), "{found:?}");
            Ok(())
        })
        .await;
        let many = if target.asked == "fence" { OF_WHAT_RUNS } else { MANY };
        wrong.extend(target.wrong("big", &bomb_of(many)).await);
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// What stands with thousands of keys is changed: by whoever may not, and by whoever must be able to.
/// Held by: `ringfence-owned-objects`, `ringfence-status`, `ringfence-modes`, `ringfence-left-running`, `launcher`, `fixed-label`
#[tokio::test]
async fn somebody_changes_what_is_too_big_to_compare() {
    let world = World::shared().await;
    let ns = &fenced(&world, "compare").await;
    let lea = world.master("lea", &[]).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let nell = crate::moving::writer_of_namespaces(&world).await;
    let account = one("ServiceAccount", ns, "triage");
    let status = format!("{}/status", one("AIWorkflow", ns, "triage"));
    let (namespace, pods) = (format!("{NAMESPACES}/{ns}"), all("Pod", ns));
    // The garbage collector ends what has no owner that is there.
    let mut bomb = bomb();
    bomb.as_object_mut().unwrap().remove("ownerReferences");
    let change = json!({"metadata": bomb});
    let answer = answered(|| owner.patch(&account, &change)).await;
    answer.refused_by_guard("ringfence-owned-objects");
    let mut record = change.clone();
    record["status"] = json!({"conditions": []});
    let answer = answered(|| owner.patch(&status, &record)).await;
    answer.refused_by_guard("ringfence-status");
    let mut off = change.clone();
    off["metadata"]["labels"]["ringfence.dev/enforce"] = Value::Null;
    let answer = answered(|| nell.patch(&namespace, &off)).await;
    answer.refused_by_guard("ringfence-modes");

    // A pod with the bomb in it: a controller still lets go, and nobody changes whose it is.
    let mut of_pod = bomb_of(OF_WHAT_RUNS);
    of_pod.as_object_mut().unwrap().remove("ownerReferences");
    let made = armed(&pod(&unique("big"), "triage"), &of_pod);
    let path = one("Pod", ns, made["metadata"]["name"].as_str().unwrap());
    answered(|| lea.post(&pods, &made)).await.ok();
    let moved = json!({"metadata": {"labels": {"ringfence.dev/workflow": "other"}}});
    answered(|| owner.patch(&path, &moved)).await.refused_by("fixed-label");
    let image = json!({"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:2"}]}});
    answered(|| owner.strategic(&path, &image)).await.refused_by("launcher");
    let (running, at_status) = (json!({"status": {"phase": "Running"}}), format!("{path}/status"));
    answered(|| owner.patch(&at_status, &running)).await.ok();
    // More of them than a guard could go through, on whichever pod: a kubelet tells its address all the same.
    let mut crowded = pod(&unique("crowded"), "triage");
    crowded["metadata"]["finalizers"] = json!(vec!["a/b"; 80_000]);
    let its_path = one("Pod", ns, crowded["metadata"]["name"].as_str().unwrap());
    let its_status = format!("{its_path}/status");
    let free = json!({"metadata": {"finalizers": null}});
    answered(|| lea.post(&pods, &crowded)).await.ok();
    let address = json!({"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}});
    answered(|| owner.patch(&its_status, &address)).await.ok();
    let fewer = json!({"metadata": {"finalizers": vec!["a/b"; 79_999]}, "status": address["status"]});
    answered(|| owner.patch(&its_status, &fewer))
        .await
        .refused_by_guard("ringfence-left-running");
    let kubelet = world.master("system:node:n1", &["system:nodes"]).await;
    answered(|| kubelet.patch(&its_status, &fewer)).await.ok();
    owner.delete(&format!("{its_path}?gracePeriodSeconds=0")).await.ok();
    answered(|| owner.patch(&its_path, &free)).await.ok();
    let held = json!({"metadata": {"finalizers": ["example.com/f0"]}});
    answered(|| owner.patch(&path, &held)).await.ok();
    owner.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    answered(|| owner.patch(&path, &free)).await.ok();
    world.admin.gone(&path).await;
    let labels = world.admin.get(&namespace).await.ok()["metadata"]["labels"].clone();
    assert!(labels["ringfence.dev/enforce"].is_string(), "{labels}");
}

/// 1 MB of `<` is 12 MB once the API server has written it down twice.
/// Held by: `launcher`, `approved-images`, `declared-workflow`, `object-size`
#[tokio::test]
async fn somebody_sends_a_review_of_twelve_megabytes() {
    let world = World::shared().await;
    let ns = &world
        .namespace("twelve", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let lea = world.master("lea", &[]).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let much = "<".repeat(1_000_000);
    let (maps, deployments) = (all("ConfigMap", ns), all("Deployment", ns));
    let mut deployment = workload("Deployment", &pod("big", "triage"));
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = json!([much]);
    // What runs may not be as large where it is enforced; from before that it may.
    answered(|| lea.post(&deployments, &deployment)).await.ok();
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;

    let labels = json!({"ringfence.dev/workflow": "triage"});
    let map = json!({"metadata": {"name": "big", "labels": labels}, "data": {"blob": much}});
    answered(|| lea.post(&maps, &map)).await.ok();
    let path = one("ConfigMap", ns, "big");
    let other = json!({"metadata": {"labels": {"ringfence.dev/workflow": "other"}}});
    answered(|| owner.patch(&path, &other))
        .await
        .refused_by("declared-workflow");
    world.ready(ns, "other", &json!({"launchers": [{"user": "olu"}]})).await;
    answered(|| owner.patch(&path, &other)).await.refused_by("launcher");
    let more = json!({"data": {"more": "x"}});
    answered(|| owner.patch(&path, &more)).await.ok();

    let path = one("Deployment", ns, "big");
    let image =
        |image: &str| json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
    let (newer, evil) = (
        image("registry.example.com/finance/triage:2"),
        image("docker.io/library/evil:1"),
    );
    answered(|| owner.json_patch(&path, &newer))
        .await
        .refused_by("launcher");
    answered(|| lea.json_patch(&path, &evil))
        .await
        .refused_by("approved-images");
    answered(|| lea.json_patch(&path, &newer)).await.ok();
    let none = json!({"spec": {"replicas": 0}});
    answered(|| owner.patch(&path, &none)).await.ok();
    world.admin.delete(&path).await.ok();
    answered(|| lea.post(&deployments, &deployment))
        .await
        .refused_by("object-size");
}

/// What is slow to judge, or looks heavy, costs whoever sends it, and no other namespace.
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_wears_a_policy_out_for_all_others() {
    let world = World::shared().await;
    let (mine, theirs) = (&fenced(&world, "worn").await, &fenced(&world, "beside").await);
    let lea = world.master("lea", &[]).await;
    let bomb = |arguments: Value| {
        let mut bomb = pod("bomb", "triage");
        bomb["spec"]["containers"][0]["args"] = arguments;
        bomb
    };
    let bombs = [
        // A policy that looks for assignments finds hundreds of thousands, and the timeout is the attacker's to choose.
        bomb(json!(["token=,".repeat(400_000)])),
        // Braces in a text weigh nothing.
        bomb(json!(["{".repeat(100_000), "token=,".repeat(110_000)])),
        bomb(json!(vec!["--token"; 9000])),
    ];
    let path = format!("{}?dryRun=All&timeout=1s", all("Pod", mine));
    let attack = async |bomb: &Value| {
        for _ in 0..10 {
            // Whatever comes of it.
            drop(world.tess.try_post(&path, bomb).await);
        }
    };
    let attacks = join_all(bombs.iter().chain(&bombs).map(attack));
    let fine = format!("{}?dryRun=All", all("Pod", theirs));
    let innocent = async {
        let mut refusals = Vec::new();
        for _ in 0..60 {
            let answer = lea.post(&fine, &pod("fine", "triage")).await;
            // A machine that is busy has answers of its own.
            if [
                "has not ended yet",
                "hold all the memory",
                "as may be at a time",
                "no thread was free",
            ]
            .iter()
            .any(|words| answer.message().contains(words))
            {
                refusals.push(answer.message().to_owned());
            }
            sleep(Duration::from_millis(100)).await;
        }
        refusals
    };
    let (_, refusals) = tokio::join!(attacks, innocent);
    assert_eq!(refusals, [""; 0]);
}

/// Eight thousand owners, each of which may be looked for among all that were there; and beside them a record of a megabyte, which nobody
/// keeps, and which looks as heavy as can be.
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_has_long_lists_compared() {
    let world = World::shared().await;
    let (mine, theirs) = (&fenced(&world, "long").await, &fenced(&world, "beside").await);
    let lea = world.master("lea", &[]).await;
    world
        .ready(mine, "mine", &json!({"launchers": [{"user": "tess"}]}))
        .await;
    let mut deployment = workload("Deployment", &pod("long", "mine"));
    deployment["spec"]["replicas"] = json!(0);
    let owner = |at| json!({"apiVersion": "v1", "kind": "Aa", "name": "a", "uid": format!("{at:05}")});
    deployment["metadata"]["ownerReferences"] = (0..4_000).map(owner).collect();
    let deployments = all("Deployment", mine);
    answered(|| world.tess.post(&deployments, &deployment)).await.ok();
    let path = one("Deployment", mine, "long");
    // A launcher may have it grow.
    let all_of_them = json!({"metadata": {"ownerReferences": (0..8_000).map(owner).collect::<Vec<_>>()}});
    answered(|| world.tess.patch(&path, &all_of_them)).await.ok();
    let forgotten = json!({"metadata": {"managedFields": [{}]}});
    answered(|| world.tess.patch(&path, &forgotten)).await.ok();
    let there = world.tess.get(&path).await.ok();
    let mut entries = there["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries.push(Value::Null);
    let padded = |count: usize| {
        let fields = (0..count).map(|at| (format!("f:x{at}"), json!({})));
        let mut entries = entries.clone();
        *entries.last_mut().unwrap() = json!({
            "manager": "q", "operation": "Update", "apiVersion": "apps/v1", "time": "2024-02-29T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:status": fields.collect::<Map<_, _>>()},
        });
        json!({"metadata": {"managedFields": entries}})
    };
    let large = padded(70_000);
    answered(|| world.tess.patch(&path, &large)).await.ok();
    let attack = async {
        // What gets no larger is compared to the end.
        for fewer in 1..=3 {
            let smaller = padded(70_000 - fewer);
            answered(|| world.tess.patch(&path, &smaller)).await.ok();
        }
    };
    let fine = format!("{}?dryRun=All", all("Pod", theirs));
    let innocent = async {
        for _ in 0..40 {
            lea.post(&fine, &pod("fine", "triage")).await.ok();
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(attack, innocent);
    world.admin.delete(&path).await.ok();
}

/// A policy that fails open is asked all the same: nothing of the object decides whether it is.
/// Held by: `operator`
#[tokio::test]
async fn somebody_is_too_big_for_a_policy_that_fails_open() {
    let world = World::shared().await;
    let ns = &world.namespace("open", &json!({})).await;
    let name = unique("no-red");
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "description": "No red maps", "validationActions": ["Deny"], "failurePolicy": "Ignore", "templates": "Ignore",
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
            },
            "rego": {"version": "V1", "modules": [{"name": "policy.rego", "source": "package red\n\ndeny contains \"is red\" if input.request.object.data.colour == \"red\"\n"}]},
        },
    });
    world.admin.post(POLICIES, &policy).await.ok();
    let path = format!("{POLICIES}/{name}");
    eventually(SOON, || async {
        let policy = world.admin.read(&path).await?;
        ensure!(
            condition(&policy, "Enforced")["status"] == "True",
            "{}",
            policy["status"]
        );
        Ok(())
    })
    .await;
    let maps = all("ConfigMap", ns);
    let map = |colour: &str| json!({"metadata": {"name": format!("{colour}-map")}, "data": {"colour": colour}});
    eventually(SOON, || async {
        let answer = world.tess.post(&format!("{maps}?dryRun=All"), &map("red")).await;
        ensure!(answer.message().contains(&format!("[{name}]")), "{}", answer.message());
        Ok(())
    })
    .await;
    let (dry, bomb) = (format!("{maps}?dryRun=All"), bomb());
    let (red, blue) = (armed(&map("red"), &bomb), armed(&map("blue"), &bomb));
    answered(|| world.tess.post(&dry, &red)).await.refused_by(&name);
    answered(|| world.tess.post(&dry, &blue)).await.ok();
    let mut big = map("blue");
    big["data"]["blob"] = json!("<".repeat(1_000_000));
    world.tess.post(&maps, &big).await.ok();
    let (big, colour) = (
        one("ConfigMap", ns, "blue-map"),
        |colour: &str| json!({"data": {"colour": colour}}),
    );
    let (red, green) = (colour("red"), colour("green"));
    answered(|| world.tess.patch(&big, &red)).await.refused_by(&name);
    answered(|| world.tess.patch(&big, &green)).await.ok();
    world.admin.delete(&path).await.ok();
}
