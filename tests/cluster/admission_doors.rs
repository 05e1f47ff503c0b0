//! Who may launch, and the side doors by which others try: impersonation, faked owners, moved labels, subresources.

use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::{Actor, SOON, World, all, one, pod, workload};

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

#[tokio::test]
async fn only_a_launcher_launches() {
    let world = World::shared().await;
    let ci = &world.namespace("ci", &json!({})).await;
    world
        .admin
        .post(&all("ServiceAccount", ci), &json!({"metadata": {"name": "deployer"}}))
        .await
        .ok();
    let ns = &world.enforced("launchers").await;
    let group = unique("launchers");
    let launchers = json!([
        {"user": "lea"},
        {"group": group},
        {"serviceAccount": {"namespace": ci, "name": "deployer"}},
    ]);
    world.ready(ns, "triage", &json!({"launchers": launchers})).await;
    world
        .bind(
            ns,
            "edit",
            &json!({"kind": "ServiceAccount", "namespace": ci, "name": "deployer"}),
        )
        .await;
    let deployer = Actor::new(world.cluster.service_account(ci, "deployer").await);
    let pods = all("Pod", ns);
    eventually(SOON, || async { deployer.read(&pods).await }).await;
    let (_, tenant) = world.tenant(ns).await;
    let job = workload("Job", &pod("job", "triage"));
    let path = dry(&all("Job", ns));

    world.master("lea", &[]).await.post(&path, &job).await.ok();
    world.master("gus", &[&group]).await.post(&path, &job).await.ok();
    deployer.post(&path, &job).await.ok();

    let account = format!("system:serviceaccount:{ci}:deployer");
    let impersonated = Actor::new(world.cluster.impersonate(&account, &["system:masters"]).await);
    let message = impersonated.post(&path, &job).await;
    assert!(
        message.refused_by("launcher").contains("impersonated"),
        "{}",
        message.message()
    );
    let refused = world.admin.post(&path, &job).await;
    let message = refused.refused_by("launcher");
    for part in [
        "ringfence-admin is no launcher of AIWorkflow triage",
        "user lea",
        "add to spec.launchers: - user: ringfence-admin",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    tenant.post(&path, &job).await.refused_by("launcher");
    // Whoever is a launcher elsewhere is none here.
    world.ready(ns, "other", &json!({"launchers": [{"user": "olu"}]})).await;
    world
        .master("olu", &[])
        .await
        .post(&path, &job)
        .await
        .refused_by("launcher");

    // A launcher by the class is one of every workflow.
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "launchers": [{"user": "flux"}]}))
        .await;
    let of_class = &world
        .namespace("launchers", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(of_class, "triage", &json!({})).await;
    world
        .master("flux", &[])
        .await
        .post(&dry(&all("Job", of_class)), &job)
        .await
        .ok();
}

#[tokio::test]
async fn a_faked_owner_launches_nothing() {
    let world = World::shared().await;
    let ns = &world.enforced("owners").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let made = lea
        .post(&all("Job", ns), &workload("Job", &pod("real", "triage")))
        .await
        .ok();
    let owner = |kind: &str, name: &str, uid: &Value| json!([{"apiVersion": "batch/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let owned = |owners: Value| {
        let mut pod = pod("faked", "triage");
        pod["metadata"]["ownerReferences"] = owners;
        pod
    };
    let real = owned(owner("Job", "real", &made["metadata"]["uid"]));
    let path = dry(&all("Pod", ns));
    let (_, tenant) = world.tenant(ns).await;
    tenant.post(&path, &real).await.refused_by("launcher");
    world.admin.post(&path, &real).await.refused_by("launcher");

    // The name of a controller with an account of its own, and no token of it.
    let job_controller = "system:serviceaccount:kube-system:job-controller";
    let faked = Actor::new(world.cluster.impersonate(job_controller, &["system:masters"]).await);
    faked.post(&path, &real).await.refused_by("launcher");

    // The shared name of all controllers is believed as far as the chain of owners holds.
    let manager = Actor::new(
        world
            .cluster
            .impersonate("system:kube-controller-manager", &["system:masters"])
            .await,
    );
    manager.post(&path, &real).await.ok();
    for (what, owners) in [
        ("no owner", json!(null)),
        (
            "an owner of another life",
            owner("Job", "real", &json!("11111111-1111-1111-1111-111111111111")),
        ),
        (
            "an owner that is not there",
            owner("Job", "absent", &made["metadata"]["uid"]),
        ),
        (
            "an owner of another kind",
            owner("CronJob", "real", &made["metadata"]["uid"]),
        ),
    ] {
        let answer = manager.post(&path, &owned(owners)).await;
        assert!(!answer.refused_by("launcher").is_empty(), "{what}");
    }
    // An owner whose own workflow is another one.
    let mut of_other = pod("faked", "other");
    of_other["metadata"]["ownerReferences"] = owner("Job", "real", &made["metadata"]["uid"]);
    manager.post(&path, &of_other).await.refused_by("launcher");

    // A pod that is there is not adopted by a stranger.
    lea.post(&all("Pod", ns), &pod("lonely", "triage")).await.ok();
    let adopt = json!({"metadata": {"ownerReferences": owner("Job", "real", &made["metadata"]["uid"])}});
    world
        .admin
        .patch(&one("Pod", ns, "lonely"), &adopt)
        .await
        .refused_by("launcher");
}

/// Whether a registration asks about a resource or subresource by its name.
async fn is_registered(world: &World, resource: &str) -> bool {
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
    let registration = world.admin.get(path).await.ok();
    let resources = registration["webhooks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|webhook| webhook["rules"].as_array().unwrap());
    resources
        .flat_map(|rule| rule["resources"].as_array().unwrap())
        .any(|found| found == resource)
}

#[tokio::test]
async fn a_pod_keeps_its_label() {
    let world = World::shared().await;
    let ns = &world.enforced("labels").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Pod", ns), &pod("kept", "triage")).await.ok();
    let path = one("Pod", ns, "kept");
    for value in [json!("other"), json!(null)] {
        let moved = json!({"metadata": {"labels": {"ringfence.dev/workflow": value}}});
        lea.patch(&path, &moved).await.refused_by("fixed-label");
        world.admin.patch(&path, &moved).await.refused_by("fixed-label");
        // Issue 3 names the subresources for a later slice; once one is registered, it must refuse as well.
        if is_registered(&world, "pods/status").await {
            lea.patch(&format!("{path}/status"), &moved)
                .await
                .refused_by("fixed-label");
        }
    }
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": "kept", "labels": {"ringfence.dev/workflow": "other"}},
        "target": {"kind": "Node", "name": "none"},
    });
    world
        .admin
        .post(&format!("/api/v1/namespaces/{ns}/bindings"), &binding)
        .await
        .refused_by("fixed-label");
    if is_registered(&world, "pods/binding").await {
        world
            .admin
            .post(&format!("{path}/binding"), &binding)
            .await
            .refused_by("fixed-label");
    }
    let pod = world.admin.get(&path).await.ok();
    assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], "triage");
}

#[tokio::test]
async fn what_a_running_pod_runs_is_changed_by_a_launcher_within_the_fence() {
    let world = World::shared().await;
    let ns = &world.enforced("running").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Pod", ns), &pod("runs", "triage")).await.ok();
    let path = one("Pod", ns, "runs");
    let image = |image: &str| json!({"spec": {"containers": [{"name": "main", "image": image}]}});
    lea.strategic(&path, &image("docker.io/library/evil:1"))
        .await
        .refused_by("approved-images");
    world
        .admin
        .strategic(&path, &image("registry.example.com/finance/triage:1.5"))
        .await
        .refused_by("launcher");
    lea.strategic(&path, &image("registry.example.com/finance/triage:1.5"))
        .await
        .ok();

    // Labels and annotations of its own are anybody's with the right to.
    world
        .admin
        .patch(&path, &json!({"metadata": {"labels": {"team": "x"}}}))
        .await
        .ok();
}

#[tokio::test]
async fn a_tenant_scales_and_suspends_and_starts_nothing_new() {
    let world = World::shared().await;
    let ns = &world.enforced("scales").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for kind in ["Deployment", "StatefulSet", "Job", "CronJob"] {
        lea.post(&all(kind, ns), &workload(kind, &pod("app", "triage")))
            .await
            .ok();
    }
    let (identity, tenant) = world.tenant(ns).await;
    for kind in ["Deployment", "StatefulSet"] {
        let path = one(kind, ns, "app");
        tenant
            .patch(&format!("{path}/scale"), &json!({"spec": {"replicas": 2}}))
            .await
            .ok();
        tenant.patch(&path, &json!({"spec": {"replicas": 0}})).await.ok();
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:2"}]}}}});
        tenant.strategic(&path, &image).await.refused_by("launcher");
    }
    for kind in ["Job", "CronJob"] {
        for suspended in [true, false] {
            tenant
                .patch(&one(kind, ns, "app"), &json!({"spec": {"suspend": suspended}}))
                .await
                .ok();
        }
    }
    let restart = ["rollout", "restart", "deployment/app", "--namespace", ns];
    let refused = world.cluster.kubectl_as(&identity, &restart).await.unwrap();
    assert!(!refused.success && refused.stderr.contains("[launcher]"), "{refused}");
    let launcher = Identity::user("lea", &["system:masters"]);
    let done = world.cluster.kubectl_as(&launcher, &restart).await.unwrap();
    assert!(done.success, "{done}");

    // The tenant's own ReplicaSet would adopt the fenced pods: without the label it is refused, with it as well.
    let mut adopting = workload("ReplicaSet", &pod("app", "triage"));
    adopting["metadata"]["name"] = json!("adopting");
    tenant
        .post(&all("ReplicaSet", ns), &adopting)
        .await
        .refused_by("launcher");
    for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
        adopting
            .pointer_mut(place)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("ringfence.dev/workflow");
    }
    tenant
        .post(&all("ReplicaSet", ns), &adopting)
        .await
        .refused_by("declared-workflow");
}
