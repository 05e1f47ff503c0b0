//! Door: what a launcher withdraws is too large for that to be written: a pod that cannot be deleted, a Deployment that its controller cannot
//! follow.

use serde_json::{Value, json};

use crate::legitimate::has_pods;
use crate::world::{Actor, World, all, container, one, pod, workload};

/// Notes, or labels, of so many bytes.
fn words(prefix: &str, bytes: usize) -> Value {
    let word = |n: usize| {
        (
            format!("{prefix}{n:05}.example.com/{}", "x".repeat(60)),
            json!("y".repeat(60)),
        )
    };
    Value::Object((0..bytes / 150).map(word).collect())
}

/// Who wrote which field, with an entry of so many bytes beside those that are there.
async fn recorded(actor: &Actor, path: &str, bytes: usize) -> Value {
    let object = actor.read(path).await.unwrap();
    let mut entries = object["metadata"]["managedFields"].clone();
    let fields: serde_json::Map<_, _> = (0..bytes / 100)
        .map(|n| (format!("f:{n:07}{}", "x".repeat(84)), json!({})))
        .collect();
    entries.as_array_mut().expect("entries").push(json!({
        "manager": format!("tess{bytes}"), "operation": "Update", "apiVersion": object["apiVersion"], "time": "2024-02-29T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": fields}},
    }));
    json!({"metadata": {"managedFields": entries}})
}

/// What a DELETE writes beside it no longer fits, and no eviction and no controller does more.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_makes_a_pod_as_large_as_can_be_stored() {
    let world = World::shared().await;
    let ns = &world.enforced("large").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    lea.post(&all("Deployment", ns), &workload("Deployment", &pod("web", "triage")))
        .await
        .ok();
    let made = has_pods(&world, ns, "web", 1).await.remove(0);
    let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
    let of_it = one("Pod", ns, &name(&made));
    let set = made["metadata"]["ownerReferences"][0]["name"].as_str().expect("a name");
    let places = [of_it.clone(), one("ReplicaSet", ns, set), one("Deployment", ns, "web")];
    for path in &places {
        for attacker in [&world.tess, &edith, &world.admin] {
            let junk = recorded(attacker, path, 1_400_000).await;
            let answer = attacker.patch(path, &junk).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("could not delete it"), "{said}");
        }
    }
    let labels = json!({"metadata": {"labels": words("l", 1_400_000)}});
    for attacker in [&world.tess, &edith, &world.admin] {
        let said = attacker.patch(&of_it, &labels).await;
        assert!(said.refused_by("launcher").contains("could not delete it"));
    }
    // Bit by bit it comes no further, and what there is can be withdrawn: by its controllers, and by whoever deletes it.
    for path in &places {
        let some = recorded(&world.tess, path, 300_000).await;
        world.tess.patch(path, &some).await.ok();
        let more = recorded(&world.tess, path, 150_000).await;
        world.tess.patch(path, &more).await.refused_by("launcher");
    }
    let note = json!({"metadata": {"labels": {"note": "x"}}});
    world.tess.patch(&of_it, &note).await.ok();
    lea.patch(&places[2], &json!({"spec": {"replicas": 0}})).await.ok();
    world.admin.gone(&of_it).await;
    lea.patch(&places[2], &json!({"spec": {"replicas": 1}})).await.ok();
    has_pods(&world, ns, "web", 1).await;
    // A launcher may have larger ones.
    let large = recorded(&lea, &places[2], 500_000).await;
    lea.patch(&places[2], &large).await.ok();
    for path in &places[1..] {
        // To forget all of it is anybody's who would delete it.
        lea.patch(path, &json!({"metadata": {"managedFields": [{}]}}))
            .await
            .ok();
    }
    world
        .tess
        .delete(&format!("{}?propagationPolicy=Background", places[2]))
        .await
        .ok();
    has_pods(&world, ns, "web", 0).await;
}

/// A kubelet tells a pod's address in its status, and goes on where that cannot be stored; a network plugin that goes by the address knows of
/// none.
///
/// Held by: `object-size`
#[tokio::test]
async fn a_launcher_leaves_a_kubelet_no_room() {
    let world = World::shared().await;
    let ns = &world.enforced("status").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let with = |bytes: usize| {
        let mut made = pod("large", "triage");
        made["spec"]["containers"][0]["args"] = json!(["x".repeat(bytes)]);
        made
    };
    // What its status says more of than it does itself.
    for (field, many) in [
        (
            "readinessGates",
            json!(vec![json!({"conditionType": "x.example.com/ready"}); 15_000]),
        ),
        (
            "securityContext",
            json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": vec![1; 20_000]}),
        ),
    ] {
        let mut told = pod("told", "triage");
        told["spec"][field] = many;
        lea.post(&all("Pod", ns), &told).await.refused_by("object-size");
    }
    // And up to six times, what it asks of the node: of nothing, too.
    let mut asks = pod("asks", "triage");
    let names = (0..4100).map(|at| (format!("x.example.com/{at:026}"), json!("0")));
    asks["spec"]["containers"][0]["resources"] = json!({"limits": names.collect::<serde_json::Map<_, _>>()});
    lea.post(&all("Pod", ns), &asks).await.refused_by("object-size");
    // A container that cannot be made has its words told, whole and quoted, beside one that runs.
    let with_first = |change: &dyn Fn(&mut Value)| {
        let mut made = pod("words", "triage");
        let mut first = container("first");
        change(&mut first);
        made["spec"]["initContainers"] = json!([first]);
        made["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        made
    };
    let often = with_first(&|first| {
        first["env"] = json!([{"name": "A", "value": format!("/{}", "x".repeat(252))}]);
        first["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)".repeat(6400)}]);
    });
    let level =
        with_first(&|first| first["securityContext"]["seLinuxOptions"] = json!({"level": "\u{7f}".repeat(400_000)}));
    // And no variables that come to more than a node has memory.
    let doubled = with_first(&|first| {
        let next = |at: usize| json!({"name": format!("V{at}"), "value": if at == 0 { "x".repeat(100) } else { format!("$(V{0})$(V{0})", at - 1) }});
        first["env"] = (0..40).map(next).collect();
    });
    let elsewhere = with_first(&|first| {
        first["envFrom"] = json!([{"configMapRef": {"name": "m"}}]);
        first["env"] = json!([{"name": "A", "value": "/$(K)$(K)"}]);
        first["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}]);
    });
    let probed = with_first(&|first| {
        first["restartPolicy"] = json!("Always");
        first["env"] = json!([{"name": "A", "value": "x".repeat(50_000)}]);
        first["readinessProbe"] = json!({"exec": {"command": ["$(A)".repeat(60_000)]}});
    });
    for made in [often, level, doubled, elsewhere, probed] {
        let made = workload("Job", &made);
        lea.post(&all("Job", ns), &made).await.refused_by("object-size");
    }
    let usual = with_first(&|first| {
        first["env"] = json!([
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "OF", "value": "$(POD)-$(POD)"},
        ]);
        first["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "of/$(OF)"}]);
    });
    lea.post(&all("Pod", ns), &usual).await.ok();
    for bytes in [530_000, 1_500_000] {
        let answer = lea.post(&all("Pod", ns), &with(bytes)).await;
        let said = answer.refused_by("object-size");
        assert!(said.contains("a kubelet's status must find room"), "{said}");
        let made = workload("Deployment", &with(bytes));
        lea.post(&all("Deployment", ns), &made).await.refused_by("object-size");
    }
    // What is not as large is told where it runs.
    lea.post(&all("Pod", ns), &with(500_000)).await.ok();
    let container = json!({"name": "x".repeat(63), "image": "y".repeat(200), "imageID": "z".repeat(200), "ready": true, "restartCount": 0});
    let status = json!({"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "containerStatuses": vec![container; 1000]}});
    let path = one("Pod", ns, "large");
    let junk = recorded(&lea, &path, 600_000).await;
    lea.patch(&path, &junk).await.refused_by("object-size");
    world.admin.patch(&format!("{path}/status"), &status).await.ok();
    world.admin.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
}

/// The Deployment controller copies annotations to the ReplicaSet, beside its own, and takes none off again: where they find no room, it rolls
/// nothing out and scales nothing.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_leaves_the_deployment_controller_no_room() {
    let world = World::shared().await;
    let ns = &world.enforced("no-room").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let path = one("Deployment", ns, "web");
    let made = workload("Deployment", &pod("web", "triage"));
    lea.post(&all("Deployment", ns), &made).await.ok();
    let first = has_pods(&world, ns, "web", 1).await.remove(0);
    let set = first["metadata"]["ownerReferences"][0]["name"]
        .as_str()
        .expect("a name");
    let set = one("ReplicaSet", ns, set);
    let annotated = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let note = |length: usize| json!("x".repeat(length));
    for path in [&path, &set] {
        for attacker in [&world.tess, &edith, &world.admin] {
            let answer = attacker
                .patch(path, &annotated("example.com/note", note(262_000)))
                .await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("64 KiB"), "{said}");
        }
    }
    // Notes are anybody's. One after the other they would be as long.
    world
        .tess
        .patch(&path, &annotated("example.com/note", note(60_000)))
        .await
        .ok();
    for attacker in [&world.tess, &edith, &world.admin] {
        let more = annotated("example.com/other", note(10_000));
        attacker.patch(&path, &more).await.refused_by("launcher");
        let gone = annotated("example.com/note", Value::Null);
        attacker.patch(&path, &gone).await.refused_by("launcher");
    }
    world
        .tess
        .patch(&path, &annotated("example.com/note", json!("")))
        .await
        .ok();
    lea.patch(&path, &annotated("example.com/lea", note(100_000)))
        .await
        .ok();
    lea.patch(&path, &annotated("example.com/lea", Value::Null)).await.ok();
    // What a launcher withdraws goes.
    lea.patch(&path, &json!({"spec": {"replicas": 0}})).await.ok();
    has_pods(&world, ns, "web", 0).await;
}
