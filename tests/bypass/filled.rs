//! Door: what policies look at beside the request, so full that they see nothing.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{POLICIES, SOON, World, condition};

const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// Together more than the 2 MiB that one namespace may have, and each no more than the API server takes.
const FILLERS: usize = 4;
const HOSTS_OF_ONE: usize = 2000;

fn ingresses(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses")
}

fn ingress(name: &str, hosts: impl IntoIterator<Item = String>) -> Value {
    let rules: Vec<Value> = hosts.into_iter().map(|host| json!({"host": host})).collect();
    json!({"metadata": {"name": name}, "spec": {"rules": rules}})
}

fn one_host(name: &str, host: &str) -> Value {
    ingress(name, [host.to_owned()])
}

/// A policy that no host is of two namespaces, for these, which is in force.
async fn one_namespace_for_a_host(world: &World, namespaces: &[&String]) -> String {
    let name = unique("one-host");
    let role = json!({
        "metadata": {"name": name, "labels": {"ringfence.dev/aggregate-to-inventory": "true"}},
        "rules": [{"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get", "list", "watch"]}],
    });
    world.admin.post(CLUSTER_ROLES, &role).await.ok();
    let source = "package p\n\ndeny contains sprintf(\"host %s is of namespace %s\", [rule.host, other]) if {\n  \
                  some rule in input.request.object.spec.rules\n  \
                  some other, kinds in data.inventory.namespace\n  other != input.request.namespace\n  \
                  some there in kinds[\"networking.k8s.io/v1\"].Ingress\n  some taken in there.spec.rules\n  \
                  taken.host == rule.host\n}\n";
    let selector =
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}]});
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "description": "No host of two namespaces", "validationActions": ["Deny"], "templates": "Ignore",
            "matchConstraints": {
                "resourceRules": [{
                    "apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses"], "operations": ["CREATE"],
                }],
                "namespaceSelector": selector,
            },
            "inventory": [{"group": "networking.k8s.io", "version": "v1", "kind": "Ingress", "fields": ["spec.rules.host"]}],
            "rego": {"version": "V1", "modules": [{"name": "policy.rego", "source": source}]},
        },
    });
    world.admin.post(POLICIES, &policy).await.ok();
    name
}

/// Of what policies look at, one namespace has a part. Whoever takes more is judged by nothing, and so is refused; nobody else is.
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_fills_what_policies_look_at() {
    let world = World::shared().await;
    let (mine, theirs, third) = (
        &world.namespace("fills", &json!({})).await,
        &world.namespace("beside", &json!({})).await,
        &world.namespace("third", &json!({})).await,
    );
    let tess = &world.tess;
    let (_, mia) = world.person(theirs, "edit").await;
    let held = one_host("holds", "taken.example.com");
    world.admin.post(&ingresses(third), &held).await.ok();
    let policy = &one_namespace_for_a_host(&world, &[mine, theirs]).await;
    let at = format!("{POLICIES}/{policy}");
    let (tried, in_mine) = (format!("{}?dryRun=All", ingresses(theirs)), ingresses(mine));
    let (taken, free) = (
        one_host("mia", "taken.example.com"),
        one_host("mia", "free.example.com"),
    );
    let told = format!("host taken.example.com is of namespace {third}");
    eventually(SOON, || async {
        let answer = mia.post(&tried, &taken).await;
        ensure!(answer.message().contains(&told), "{}", answer.message());
        Ok(())
    })
    .await;
    let why = format!("the objects of namespace {mine} weigh more than those of one may");
    for number in 0..FILLERS {
        let hosts = (0..HOSTS_OF_ONE).map(|host| format!("{}.{number}.{host}.example.com", "x".repeat(63)));
        let answer = tess.post(&in_mine, &ingress(&format!("fills-{number}"), hosts)).await;
        if answer.message().contains(&why) {
            break;
        }
        answer.ok();
    }
    let hers = one_host("tess", "new.example.com");
    eventually(SOON, || async {
        let answer = tess.post(&format!("{in_mine}?dryRun=All"), &hers).await;
        ensure!(answer.message().contains(&why), "{}", answer.message());
        Ok(())
    })
    .await;
    let answer = tess.post(&in_mine, &hers).await;
    let said = answer.refused_by(policy);
    assert!(said.contains("could not be judged"), "{said}");
    eventually(SOON, || async {
        let status = world.admin.read(&at).await?;
        let enforced = condition(&status, "Enforced");
        let (reason, message) = (&enforced["reason"], enforced["message"].as_str().unwrap_or_default());
        ensure!(
            reason == "InventoryTooLarge" && message.contains(mine.as_str()),
            "{enforced}"
        );
        Ok(())
    })
    .await;
    // The neighbours are judged as before.
    assert!(mia.post(&tried, &taken).await.refused_by(policy).contains(&told));
    mia.post(&tried, &free).await.ok();
    // Nothing keeps her from making room.
    tess.delete(&in_mine).await.ok();
    for path in [at, format!("{CLUSTER_ROLES}/{policy}")] {
        world.admin.delete(&path).await.ok();
    }
}
