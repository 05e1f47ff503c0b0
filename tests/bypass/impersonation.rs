//! Door: impersonation beyond `kubectl --as`: by the constrained verbs of Kubernetes 1.36, or with a UID and a credential of one's own choice.
//!
//! A launcher that is a service account proves itself by what only a token of it carries. Nothing else that a request says of its sender
//! is the API server's own word.

use serde_json::{Value, json};
use support::{Identity, unique};

use crate::attackers::{forbidden, holding};
use crate::world::{Actor, BINARY, World, all, one, pod, workload};

const GROUP: &str = "authentication.k8s.io";
const CREDENTIAL: &str = "Impersonate-Extra-Authentication.kubernetes.io%2fcredential-Id";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// What it takes to act as any service account by the constrained verbs, in all that this file tries.
fn constrained() -> Vec<Value> {
    vec![
        rule(GROUP, &["serviceaccounts"], &["impersonate:serviceaccount"]),
        rule(
            GROUP,
            &["selfsubjectreviews"],
            &["impersonate-on:serviceaccount:create"],
        ),
        rule("batch", &["jobs"], &["impersonate-on:serviceaccount:create"]),
        rule("", &["pods"], &["impersonate-on:serviceaccount:create"]),
    ]
}

async fn posing(world: &World, identity: &Identity, headers: &[(&str, &str)]) -> Actor {
    Actor::new(world.cluster.client_with(identity, headers).await)
}

/// Whom the API server takes somebody for.
async fn seen_as(actor: &Actor) -> Value {
    actor.post(REVIEWS, &json!({})).await.ok()["status"]["userInfo"].clone()
}

/// A namespace with workflow `triage`, whose launcher is an account of another namespace that may write there: both namespaces' names.
async fn launched(world: &World) -> (String, String) {
    let ci = world.namespace("ci", &json!({})).await;
    let deployer = json!({"metadata": {"name": "deployer"}});
    world.admin.post(&all("ServiceAccount", &ci), &deployer).await.ok();
    let ns = world.enforced("posed").await;
    let account = json!({"serviceAccount": {"namespace": ci, "name": "deployer"}});
    let launchers = json!({"launchers": [{"user": "lea"}, account]});
    world.ready(&ns, "triage", &launchers).await;
    let subject = json!({"kind": "ServiceAccount", "namespace": ci, "name": "deployer"});
    world.bind(&ns, "edit", &subject).await;
    (ci, ns)
}

/// Held by: `launcher`, `RBAC`
#[tokio::test]
async fn a_launcher_is_impersonated_by_constrained_verbs() {
    let world = World::shared().await;
    let (ci, ns) = launched(&world).await;
    let job = workload("Job", &pod("job", "triage"));
    let path = dry(&all("Job", &ns));
    let deployer = Actor::new(world.cluster.service_account(&ci, "deployer").await);
    deployer.post(&path, &job).await.ok();
    let proof = seen_as(&deployer).await;
    let live = world.admin.read(&one("ServiceAccount", &ci, "deployer")).await.unwrap();
    assert_eq!(proof["uid"], live["metadata"]["uid"], "{proof}");
    assert!(
        proof["extra"]["authentication.kubernetes.io/credential-id"][0].is_string(),
        "{proof}"
    );

    let mallory = holding(&world, &json!(constrained())).await;
    let name = format!("system:serviceaccount:{ci}:deployer");
    let as_deployer = ("Impersonate-User", name.as_str());
    let posed = posing(&world, &mallory, &[as_deployer]).await;
    let seen = seen_as(&posed).await;
    assert_eq!(seen["username"], name.as_str(), "the gate is on: {seen}");
    assert_eq!((&seen["uid"], &seen["extra"]), (&Value::Null, &Value::Null), "{seen}");
    let message = posed.post(&path, &job).await;
    let message = message.refused_by("launcher");
    assert!(message.contains("impersonated"), "{message}");

    // What would prove it is not given by these verbs, nor by those for people, which no service account is.
    let mut rules = constrained();
    rules.push(rule(
        GROUP,
        &["users", "groups", "uids", "userextras/*"],
        &["impersonate:user-info"],
    ));
    rules.push(rule("batch", &["jobs"], &["impersonate-on:user-info:create"]));
    let both = holding(&world, &json!(rules)).await;
    let uid = live["metadata"]["uid"].as_str().unwrap();
    for attacker in [&mallory, &both] {
        for forged in [
            &[as_deployer, ("Impersonate-Uid", uid), (CREDENTIAL, "JTI=x")][..],
            &[as_deployer, ("Impersonate-Uid", uid)],
            &[as_deployer, (CREDENTIAL, "JTI=x")],
        ] {
            forbidden(&posing(&world, attacker, forged).await.post(&path, &job).await);
        }
    }
    // Nor does plain impersonation give it to who may impersonate in the account's own namespace alone.
    let (eve, _) = world.person(&ci, "edit").await;
    let forged = [as_deployer, ("Impersonate-Uid", uid), (CREDENTIAL, "JTI=x")];
    forbidden(&posing(&world, &eve, &forged).await.post(&path, &job).await);
    let posed = posing(&world, &eve, &[as_deployer]).await;
    posed.post(&path, &job).await.refused_by("launcher");
}

/// Held by: `launcher`
#[tokio::test]
async fn a_controller_is_impersonated_by_constrained_verbs() {
    let world = World::shared().await;
    let (_, ns) = launched(&world).await;
    let lea = world.master("lea", &[]).await;
    let job = lea
        .post(&all("Job", &ns), &workload("Job", &pod("real", "triage")))
        .await
        .ok();
    let mallory = holding(&world, &json!(constrained())).await;
    let mut of_job = pod("faked", "triage");
    of_job["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "batch/v1", "kind": "Job", "name": "real", "uid": job["metadata"]["uid"], "controller": true},
    ]);
    let name = "system:serviceaccount:kube-system:job-controller";
    let posed = posing(&world, &mallory, &[("Impersonate-User", name)]).await;
    assert_eq!(seen_as(&posed).await["username"], name);
    posed.post(&dry(&all("Pod", &ns)), &of_job).await.refused_by("launcher");
}

/// Held by: `RBAC`
#[tokio::test]
async fn a_node_is_impersonated_by_constrained_verbs_for_the_token_of_an_account() {
    let world = World::shared().await;
    let (_, ns) = launched(&world).await;
    let tokens = rule(
        "",
        &["serviceaccounts/token"],
        &["impersonate-on:arbitrary-node:create"],
    );
    let node = rule(GROUP, &["nodes"], &["impersonate:arbitrary-node"]);
    let mallory = holding(&world, &json!([node, tokens])).await;
    let posed = posing(&world, &mallory, &[("Impersonate-User", "system:node:n1")]).await;
    let request =
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let path = format!("{}/token", one("ServiceAccount", &ns, "triage"));
    let answer = posed.post(&path, &request).await;
    forbidden(&answer);
    assert!(
        answer.message().contains("system:node:n1"),
        "refused as that node: {}",
        answer.message()
    );
}

/// Whoever may set the UID and the extras of whom they impersonate makes a request that no token would make otherwise. These rights are of
/// the whole cluster, and neither `edit` nor `admin` has them.
///
/// Out of scope: who may impersonate UIDs and extras is whom they like; `ringfence check access` lists them.
#[tokio::test]
async fn who_may_forge_a_credential_is_the_launcher() {
    let world = World::shared().await;
    let (ci, ns) = launched(&world).await;
    let credential = "userextras/authentication.kubernetes.io/credential-id";
    let forger = holding(
        &world,
        &json!([
            rule(GROUP, &["uids", credential], &["impersonate"]),
            rule("", &["serviceaccounts"], &["impersonate"]),
        ]),
    )
    .await;
    let job = workload("Job", &pod("job", "triage"));
    let path = dry(&all("Job", &ns));
    let name = format!("system:serviceaccount:{ci}:deployer");
    let live = world.admin.read(&one("ServiceAccount", &ci, "deployer")).await.unwrap();
    let uid = live["metadata"]["uid"].as_str().unwrap();
    let (as_deployer, credential) = (("Impersonate-User", name.as_str()), (CREDENTIAL, "JTI=x"));
    let forged = posing(&world, &forger, &[as_deployer, ("Impersonate-Uid", uid), credential]).await;
    forged.post(&path, &job).await.ok();
    // Half of it is nothing, and neither is the UID of another life, nor a certificate in that name.
    let other = unique("00000000");
    let certificate = (CREDENTIAL, "X509SHA256=x");
    for half in [
        &[as_deployer, credential][..],
        &[as_deployer, ("Impersonate-Uid", uid)],
        &[as_deployer, ("Impersonate-Uid", &other), credential],
        &[as_deployer, ("Impersonate-Uid", uid), certificate],
    ] {
        posing(&world, &forger, half)
            .await
            .post(&path, &job)
            .await
            .refused_by("launcher");
    }
    let said = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &["check", "access", "-o", "json"])
        .await
        .unwrap();
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let Identity::User { name, .. } = &forger else {
        panic!("{forger:?} is a user")
    };
    let told = report["holders"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .filter(|holder| holder["subject"]["name"] == name.as_str())
        .collect();
    assert!(
        told.iter().any(|holder| holder["capability"] == "impersonate-people"),
        "{told:?}"
    );
}
