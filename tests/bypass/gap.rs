//! Door: a declaration is written while nobody reviews: before the webhook stands, while it is away, or while it looks away.
//!
//! On a control plane of its own, because it takes the chart away.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, RELEASE_NAMESPACE, eventually};

use crate::world::{Actor, BINARY, SOON, all, condition, in_force, master, namespace, one, pod, workflow, workload};
use ringfence::plan::owned_name;

/// By which an edited or deleted registration is put back: without it, what an attacker made of it stays.
const RENDERED: &str = "/api/v1/namespaces/ringfence-system/configmaps/ringfence-registrations";
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    /// May write AIWorkflows, and nothing that needs `approve`.
    tenant: Actor,
    ns: String,
}

impl Scene {
    async fn condition(&self, name: &str, status: &str, reason: &str) -> Value {
        let path = one("AIWorkflow", &self.ns, name);
        eventually(SOON, || async {
            let workflow = self.admin.read(&path).await?;
            let found = condition(&workflow, "Ready");
            let now = found["observedGeneration"] == workflow["metadata"]["generation"];
            ensure!(
                found["status"] == status && found["reason"] == reason && now,
                "{}",
                workflow["status"]
            );
            Ok(workflow)
        })
        .await
    }

    async fn on_record(&self, name: &str) -> (Value, Value) {
        let workflow = self.admin.read(&one("AIWorkflow", &self.ns, name)).await.unwrap();
        let reviewed = &workflow["status"]["reviewed"];
        (reviewed["generation"].clone(), reviewed["registrationUID"].clone())
    }

    async fn registration(&self) -> Value {
        self.admin.read(REGISTRATION).await.unwrap()["metadata"]["uid"].clone()
    }

    async fn rules(&self, name: &str) -> Value {
        let role = one("Role", &self.ns, &owned_name(&self.ns, name, "role"));
        self.admin.get(&role).await.body["rules"].clone()
    }

    async fn write(&self, name: &str, spec: &Value) {
        self.tenant
            .post(&all("AIWorkflow", &self.ns), &workflow(name, spec))
            .await
            .ok();
    }
}

fn rights(verb: &str) -> Value {
    json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]}})
}

fn reaches(app: &str) -> Value {
    let peer = json!({"pods": {"selector": {"matchLabels": {"app": app}}}});
    json!({"network": {"egress": [{"name": app, "to": peer, "ports": [{"port": 1}]}]}})
}

fn allows(verb: &str) -> Value {
    rights(verb)["permissions"]["rules"].clone()
}

/// New, changed, with a forged acknowledgement, with a record from a backup: it gets nothing new until an administrator has read it.
/// Held by: `operator`, `declared-workflow`, `ringfence-reserved-keys`
#[tokio::test]
async fn somebody_declares_while_nobody_reviews() {
    let cluster = ControlPlane::start(Default::default()).expect("a control plane");
    let ringfence = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let ns = namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let rules = json!([{"apiGroups": ["ringfence.dev"], "resources": ["aiworkflows"], "verbs": ["get", "list", "create", "update", "patch", "delete"]}]);
    admin
        .post(
            &format!("{RBAC}/clusterroles"),
            &json!({"metadata": {"name": "declares"}, "rules": rules}),
        )
        .await
        .ok();
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "declares"});
    let binding =
        json!({"metadata": {"name": "declares"}, "roleRef": role, "subjects": [{"kind": "User", "name": "mia"}]});
    admin.post(&all("RoleBinding", &ns), &binding).await.ok();
    let tenant = Actor::new(cluster.user("mia", &[]).await);
    let scene = Scene {
        cluster,
        admin,
        tenant,
        ns,
    };
    eventually(SOON, || async {
        scene.tenant.read(&all("AIWorkflow", &scene.ns)).await
    })
    .await;

    for name in ["kept", "edited"] {
        scene.write(name, &rights("get")).await;
        scene.condition(name, "True", "Fenced").await;
    }
    scene.write("like", &reaches("evil")).await;
    scene.condition("like", "True", "Fenced").await;
    let first = scene.registration().await;
    assert_eq!(scene.on_record("kept").await, (json!(1), first.clone()));

    // Uninstalled: the definitions stay, and with the webhook the guards are gone.
    ringfence.kill();
    let uninstalled = scene
        .cluster
        .helm(&["uninstall", "ringfence", "--namespace", RELEASE_NAMESPACE])
        .await
        .unwrap();
    assert!(uninstalled.success, "{uninstalled}");
    let edited = one("AIWorkflow", &scene.ns, "edited");
    let mut more = rights("list");
    more["launchers"] = json!([{"user": "mallory"}]);
    eventually(SOON, || async {
        let answer = scene.tenant.patch(&edited, &json!({"spec": more})).await;
        ensure!(answer.code == 200, "{}", answer.message());
        Ok(())
    })
    .await;
    // And what was made of it, as whoever edits the namespace.
    let allow = one("NetworkPolicy", &scene.ns, &owned_name(&scene.ns, "edited", "allow"));
    let before = scene.admin.read(&allow).await.unwrap();
    let wider = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]});
    let role = one("Role", &scene.ns, &owned_name(&scene.ns, "edited", "role"));
    let open = json!({"spec": {"ingress": [{}], "egress": [{}]}});
    for (path, change) in [(&role, wider), (&allow, open)] {
        eventually(SOON, || async {
            let answer = scene.admin.patch(path, &change).await;
            ensure!(answer.code == 200, "{}", answer.message());
            Ok(())
        })
        .await;
    }
    let mut declared = rights("get");
    declared["network"] = reaches("evil")["network"].clone();
    let mut forged = workflow("forged", &declared);
    forged["metadata"]["annotations"] = json!({"ringfence.dev/reviewed": "1"});
    eventually(SOON, || async {
        let answer = scene.tenant.post(&all("AIWorkflow", &scene.ns), &forged).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;

    // With what would be made of it.
    let forged = one("AIWorkflow", &scene.ns, "forged");
    let like = scene.admin.read(&one("AIWorkflow", &scene.ns, "like")).await.unwrap();
    let forged = scene.admin.read(&forged).await.unwrap();
    let [as_like, as_forged] = ["like", "forged"].map(|name| owned_name(&scene.ns, name, "allow"));
    let opened = scene
        .admin
        .read(&one("NetworkPolicy", &scene.ns, &as_like))
        .await
        .unwrap();
    assert!(opened["spec"]["egress"].to_string().contains("evil"), "{opened}");
    let uid = |workflow: &Value| workflow["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let made = json!({
        "apiVersion": opened["apiVersion"], "kind": opened["kind"], "spec": opened["spec"],
        "metadata": {
            "name": as_forged, "labels": opened["metadata"]["labels"], "annotations": opened["metadata"]["annotations"],
            "ownerReferences": opened["metadata"]["ownerReferences"],
        },
    });
    let made = made
        .to_string()
        .replace(&uid(&like), &uid(&forged))
        .replace("\"like\"", "\"forged\"");
    let made: Value = serde_json::from_str(&made).unwrap();
    scene.admin.post(&all("NetworkPolicy", &scene.ns), &made).await.ok();

    // As a restored backup brings its status along: the record is of another time.
    let restored = one("AIWorkflow", &scene.ns, "restored");
    scene
        .admin
        .post(&all("AIWorkflow", &scene.ns), &workflow("restored", &rights("get")))
        .await
        .ok();
    let record = json!({"status": {"reviewed": {"generation": 7, "registrationUID": first}}});
    scene.admin.patch(&format!("{restored}/status"), &record).await.ok();

    let ringfence = scene
        .cluster
        .start_ringfence(BINARY, &Value::Null)
        .await
        .expect("ringfence again");
    in_force(&scene.admin).await;
    let second = scene.registration().await;
    assert_ne!(first, second);
    what_was_left_alone_goes_on(&scene, &second).await;
    eventually(SOON, || async {
        let now = scene.admin.read(&allow).await?;
        ensure!(now["spec"] == before["spec"], "{}", now["spec"]);
        Ok(())
    })
    .await;
    what_was_edited_waits_for_an_administrator(&scene, &second).await;
    what_was_made_has_nothing(&scene).await;
    a_registration_that_looks_away_is_none(&scene).await;
    the_registration_alone_going_and_coming_is_noticed(&scene, ringfence.port).await;
    in_force(&scene.admin).await;
    scene.cluster.trusted().await.expect("the registration");
    another_version_is_no_other_door(&scene).await;
}

/// The platform serves a newer version of the kind, as an upgrade may: what is written by it is held like by the other.
async fn another_version_is_no_other_door(scene: &Scene) {
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflows.ringfence.dev";
    let mut newer = scene.admin.get(definition).await.ok()["spec"]["versions"][0].clone();
    newer["name"] = json!("v1");
    newer["storage"] = json!(false);
    let serve = json!([{"op": "add", "path": "/spec/versions/-", "value": newer}]);
    scene.admin.json_patch(definition, &serve).await.ok();
    let by_v1 = |path: String| path.replace("/v1alpha1/", "/v1/");
    let collection = by_v1(all("AIWorkflow", &scene.ns));
    eventually(SOON, || async { scene.tenant.read(&collection).await }).await;
    let declares = |name: &str, spec: Value| {
        let mut whole = workflow(name, &spec);
        whole["apiVersion"] = json!("ringfence.dev/v1");
        whole
    };
    let greedy = json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}});
    // It is asked about as soon as it is served, whichever version the registration was written with.
    for spec in [json!({"images": ["UPPER"]}), greedy] {
        let answer = scene.tenant.post(&collection, &declares("newer", spec.clone())).await;
        answer.refused_by("valid-declaration");
        let kept = by_v1(one("AIWorkflow", &scene.ns, "kept"));
        let answer = scene.tenant.patch(&kept, &json!({"spec": spec})).await;
        answer.refused_by("valid-declaration");
    }
    let mut signed = declares("newer", json!({}));
    signed["metadata"]["annotations"] = json!({"ringfence.dev/reviewed": "1"});
    let answer = scene.tenant.post(&collection, &signed).await;
    answer.refused_by_guard("ringfence-reserved-keys");
    scene
        .tenant
        .post(&collection, &declares("newer", rights("get")))
        .await
        .ok();
    scene.condition("newer", "True", "Fenced").await;
    assert_eq!(scene.rules("newer").await, allows("get"));
    let path = by_v1(format!(
        "{}?propagationPolicy=Orphan",
        one("AIWorkflow", &scene.ns, "newer")
    ));
    scene.tenant.delete(&path).await.refused_by_guard("ringfence-orphans");
}

/// It stands, fails closed, and is asked about nothing.
async fn a_registration_that_looks_away_is_none(scene: &Scene) {
    let webhooks = scene.admin.read(REGISTRATION).await.unwrap()["webhooks"].clone();
    let at = webhooks
        .as_array()
        .unwrap()
        .iter()
        .position(|webhook| webhook["name"] == "kinds.ringfence.dev");
    scene.admin.delete(RENDERED).await.ok();
    let path = format!("/webhooks/{}/objectSelector", at.unwrap());
    let narrow = json!([{"op": "add", "path": path, "value": {"matchLabels": {"no": "object"}}}]);
    scene.admin.json_patch(REGISTRATION, &narrow).await.ok();
    let invalid = workflow("unseen", &json!({"images": ["UPPER"]}));
    eventually(SOON, || async {
        let answer = scene.tenant.post(&all("AIWorkflow", &scene.ns), &invalid).await;
        ensure!(answer.code == 201, "the webhook is still asked: {}", answer.message());
        Ok(())
    })
    .await;
    let mend = json!({"spec": {"images": ["a.example/**"]}});
    scene
        .tenant
        .patch(&one("AIWorkflow", &scene.ns, "unseen"), &mend)
        .await
        .ok();
    let held = scene.condition("unseen", "False", "NotReviewed").await;
    let message = condition(&held, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("no selector"), "{message}");
    assert!(
        !scene
            .admin
            .is_there(&one("ServiceAccount", &scene.ns, "unseen"))
            .await
            .unwrap()
    );
    scene.condition("kept", "True", "Fenced").await;

    let whole = json!([{"op": "replace", "path": path, "value": {}}]);
    let before = scene.registration().await;
    scene.admin.json_patch(REGISTRATION, &whole).await.ok();
    scene.condition("unseen", "True", "Fenced").await;
    assert_eq!(scene.registration().await, before);
}

async fn what_was_left_alone_goes_on(scene: &Scene, registration: &Value) {
    eventually(SOON, || async {
        ensure!(
            scene.on_record("kept").await == (json!(1), registration.clone()),
            "the record is old"
        );
        Ok(())
    })
    .await;
    scene.condition("kept", "True", "Fenced").await;
    // And is edited as before.
    scene
        .tenant
        .patch(&one("AIWorkflow", &scene.ns, "kept"), &json!({"spec": rights("list")}))
        .await
        .ok();
    scene.condition("kept", "True", "Fenced").await;
    assert_eq!(scene.rules("kept").await, allows("list"));
}

async fn what_was_edited_waits_for_an_administrator(scene: &Scene, registration: &Value) {
    let path = one("AIWorkflow", &scene.ns, "edited");
    let held = scene.condition("edited", "False", "NotReviewed").await;
    assert_eq!(condition(&held, "Accepted")["reason"], "NotReviewed");
    assert_eq!(
        scene.rules("edited").await,
        allows("get"),
        "what stands stays, and nothing new comes"
    );
    // The account of the first generation stands, and the second one names who launches.
    let mallory = master(&scene.cluster, "mallory", &[]).await;
    for kind in ["Pod", "Job"] {
        let answer = mallory
            .post(&all(kind, &scene.ns), &workload(kind, &pod("evil", "edited")))
            .await;
        assert!(
            answer.refused_by("declared-workflow").contains("NotReviewed"),
            "{}",
            answer.message()
        );
    }
    // Another edit, reviewed by itself, does not launder the one before.
    scene
        .tenant
        .patch(&path, &json!({"spec": {"owner": {"team": "ml"}}}))
        .await
        .ok();
    let held = scene.condition("edited", "False", "NotReviewed").await;

    let message = condition(&held, "Ready")["message"].as_str().unwrap();
    let (_, command) = message.split_once("runs: kubectl ").expect("the command");
    let arguments: Vec<&str> = command.split(' ').collect();
    let mia = support::Identity::user("mia", &[]);
    let refused = scene.cluster.kubectl_as(&mia, &arguments).await.unwrap();
    assert!(
        !refused.success && refused.stderr.contains("ringfence-reserved-keys"),
        "{refused}"
    );
    let old = json!({"metadata": {"annotations": {"ringfence.dev/reviewed": "2"}}});
    scene.admin.patch(&path, &old).await.ok();
    let acknowledged = scene.cluster.kubectl(&arguments).await.unwrap();
    assert!(acknowledged.success, "{acknowledged}");
    scene.condition("edited", "True", "Fenced").await;
    assert_eq!(scene.rules("edited").await, allows("list"));
    assert_eq!(scene.on_record("edited").await, (json!(3), registration.clone()));
    // Reviewed from now on, and the annotation has done its work.
    scene.tenant.patch(&path, &json!({"spec": rights("watch")})).await.ok();
    scene.condition("edited", "True", "Fenced").await;
    assert_eq!(scene.rules("edited").await, allows("watch"));
}

async fn what_was_made_has_nothing(scene: &Scene) {
    let held = scene.condition("forged", "False", "NotReviewed").await;
    assert_eq!(held["status"]["reviewed"], Value::Null);
    scene.condition("restored", "False", "NotReviewed").await;
    assert!(
        !scene
            .admin
            .is_there(&one("ServiceAccount", &scene.ns, "forged"))
            .await
            .unwrap()
    );
    let allow = one("NetworkPolicy", &scene.ns, &owned_name(&scene.ns, "forged", "allow"));
    eventually(SOON, || async {
        let made = scene.admin.get(&allow).await;
        let egress = made.body["spec"]["egress"].to_string();
        ensure!(
            [200, 404].contains(&made.code) && !egress.contains("evil"),
            "{}",
            made.body
        );
        Ok(())
    })
    .await;
    // Whoever may write it may also write it again under everybody's eyes.
    scene.tenant.delete(&one("AIWorkflow", &scene.ns, "forged")).await.ok();
    scene.write("forged", &rights("get")).await;
    scene.condition("forged", "True", "Fenced").await;
}

async fn the_registration_alone_going_and_coming_is_noticed(scene: &Scene, port: u16) {
    scene.admin.delete(RENDERED).await;
    scene.admin.delete(REGISTRATION).await.ok();
    let invalid = workflow("early", &json!({"images": ["UPPER"]}));
    eventually(SOON, || async {
        let answer = scene.tenant.post(&all("AIWorkflow", &scene.ns), &invalid).await;
        ensure!(answer.code == 201, "the webhook is still asked: {}", answer.message());
        Ok(())
    })
    .await;
    scene
        .tenant
        .patch(
            &one("AIWorkflow", &scene.ns, "early"),
            &json!({"spec": {"images": ["a.example/**"]}}),
        )
        .await
        .ok();
    let held = scene.condition("early", "False", "NotReviewed").await;
    assert!(
        condition(&held, "Ready")["message"]
            .as_str()
            .unwrap()
            .contains("apply the chart")
    );
    scene.condition("kept", "True", "Fenced").await;

    scene
        .cluster
        .install(port, &json!({}))
        .await
        .expect("Helm puts it back");
    let third = scene.registration().await;
    eventually(SOON, || async {
        let held = scene.admin.read(&one("AIWorkflow", &scene.ns, "early")).await?;
        let message = condition(&held, "Ready")["message"].as_str().unwrap_or_default();
        ensure!(message.contains(third.as_str().unwrap_or("none")), "{message}");
        ensure!(scene.on_record("kept").await.1 == third, "the record is old");
        Ok(())
    })
    .await;
}
