//! Door: a name that others rely on: becoming a launcher by choosing its account's name, or having an engine's rights by being named.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::{Actor, SOON, World, all, condition, one, pod, workflow};

/// Somebody with the shipped role for tenants in one namespace, and nothing else.
async fn tenant(world: &World, namespace: &str) -> Actor {
    let name = unique("tenant");
    world
        .bind(namespace, "ringfence-tenant", &json!({"kind": "User", "name": name}))
        .await;
    let tenant = Actor::new(world.cluster.client(&Identity::user(&name, &[])).await);
    let pods = all("Pod", namespace);
    eventually(SOON, || async { tenant.read(&pods).await }).await;
    tenant
}

fn launched_by(namespace: &str, account: &str) -> Value {
    json!({"launchers": [{"serviceAccount": {"namespace": namespace, "name": account}}]})
}

fn programmed(workflow: &Value) -> &str {
    condition(workflow, "Programmed")["message"]
        .as_str()
        .unwrap_or_default()
}

/// Held by: `operator`, `own-service-account`, `RBAC`
#[tokio::test]
async fn a_tenant_becomes_a_launcher_by_choosing_its_name() {
    let world = World::shared().await;
    let (home, b) = (world.enforced("home").await, world.enforced("b").await);
    let mallory = tenant(&world, &b).await;
    let of_class = launched_by(&b, "ghost")["launchers"].clone();
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "launchers": of_class}))
        .await;
    world.ready(&home, "etl", &launched_by(&b, "spectre")).await;

    for (account, claimant) in [
        ("ghost", format!("AIWorkflowClass {class}")),
        ("spectre", format!("AIWorkflow {home}/etl")),
    ] {
        let own = format!("for-{account}");
        let declared = json!({
            "identity": {"serviceAccountName": account},
            "permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]},
        });
        mallory
            .post(&all("AIWorkflow", &b), &workflow(&own, &declared))
            .await
            .ok();
        let refused = world.condition(&b, &own, "Programmed", "False", "Conflict").await;
        let message = programmed(&refused);
        assert!(
            message.contains(&claimant) && message.contains("ringfence.dev/adopt="),
            "{message}"
        );
        assert_eq!(condition(&refused, "Ready")["reason"], "Conflict");
        assert!(refused["status"].get("serviceAccount").is_none(), "{refused}");
    }
    let accounts = world.admin.items(&all("ServiceAccount", &b)).await.unwrap();
    assert!(
        accounts.iter().all(|account| account["metadata"]["name"] == "default"),
        "{accounts:?}"
    );
    assert_eq!(
        world.admin.items(&all("RoleBinding", &b)).await.unwrap().len(),
        1,
        "the tenant's own"
    );
    // There is no account to run as, nor may a tenant make one.
    let mut ghost = pod("ghost", "for-ghost");
    ghost["spec"]["serviceAccountName"] = json!("ghost");
    assert_eq!(mallory.post(&all("Pod", &b), &ghost).await.code, 403);
    let own = json!({"metadata": {"name": "ghost"}});
    assert_eq!(mallory.post(&all("ServiceAccount", &b), &own).await.code, 403);

    // An account that is a workflow's own before anybody names it stays so, and comes back.
    mallory
        .post(&all("AIWorkflow", &b), &workflow("honest", &json!({})))
        .await
        .ok();
    world.condition(&b, "honest", "Ready", "True", "Fenced").await;
    world.ready(&home, "later", &launched_by(&b, "honest")).await;
    world
        .tess
        .patch(
            &one("AIWorkflow", &b, "honest"),
            &json!({"spec": {"owner": {"team": "x"}}}),
        )
        .await
        .ok();
    world.condition(&b, "honest", "Ready", "True", "Fenced").await;
    // The platform's word: it makes the account, and lets it join.
    let made = json!({"metadata": {"name": "ghost", "annotations": {"ringfence.dev/adopt": "for-ghost"}}});
    world.admin.post(&all("ServiceAccount", &b), &made).await.ok();
    world.condition(&b, "for-ghost", "Ready", "True", "Fenced").await;
    // Nobody names it any more, and it is free.
    world.tess.delete(&one("AIWorkflow", &home, "etl")).await.ok();
    world.condition(&b, "for-spectre", "Ready", "True", "Fenced").await;
}

/// The subjects of what a workflow's launchers are bound to.
async fn bound(world: &World, namespace: &str) -> anyhow::Result<Vec<String>> {
    let bindings = world.admin.items(&all("RoleBinding", namespace)).await?;
    let subjects = bindings
        .iter()
        .filter(|binding| {
            binding["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.contains("-launchers-"))
        })
        .flat_map(|binding| binding["subjects"].as_array().into_iter().flatten());
    Ok(subjects
        .filter_map(|subject| {
            Some(format!(
                "{}/{}",
                subject["namespace"].as_str()?,
                subject["name"].as_str()?
            ))
        })
        .collect())
}

/// Held by: `operator`
#[tokio::test]
async fn another_workflows_account_gets_rights_of_an_engine_that_it_does_not_declare() {
    let world = World::shared().await;
    let (airflow, other) = (
        world.namespace("airflow", &json!({})).await,
        world.enforced("other").await,
    );
    let engine =
        json!([{"name": "makes", "launcher": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}]);
    let open = json!({"images": {"allowed": ["**"]}, "engines": engine});
    let class = world.class(&open).await;
    let home = world.namespace("home", &json!({"ringfence.dev/enforce": class})).await;
    let scheduler = json!({"metadata": {"name": "scheduler"}});
    world
        .admin
        .post(&all("ServiceAccount", &airflow), &scheduler)
        .await
        .ok();
    world
        .ready(&other, "loader", &json!({"identity": {"serviceAccountName": "load"}}))
        .await;
    world.ready(&home, "neighbour", &json!({})).await;

    let declared = json!({"engine": "makes", "launchers": [
        {"serviceAccount": {"namespace": airflow, "name": "scheduler"}},
        {"serviceAccount": {"namespace": other, "name": "load"}},
        {"serviceAccount": {"namespace": home, "name": "neighbour"}},
    ]});
    let mia = tenant(&world, &home).await;
    mia.post(&all("AIWorkflow", &home), &workflow("triage", &declared))
        .await
        .ok();
    let refused = world
        .condition(&home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
    let message = condition(&refused, "ResolvedRefs")["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("AIWorkflow {other}/loader")) && message.contains("AIWorkflowGrant"),
        "{message}"
    );
    let expected = [format!("{airflow}/scheduler"), format!("{home}/neighbour")];
    assert_eq!(bound(&world, &home).await.unwrap(), expected);
    let review = json!({"spec": {
        "user": format!("system:serviceaccount:{other}:load"),
        "resourceAttributes": {"verb": "get", "resource": "configmaps", "namespace": home},
    }});
    let answer = world
        .admin
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
        .await
        .ok();
    assert_eq!(answer["status"]["allowed"], false);

    // The platform's word: the class names it.
    let named = json!({"spec": {"launchers": launched_by(&other, "load")["launchers"]}});
    world
        .admin
        .patch(&format!("{}/{class}", crate::world::CLASSES), &named)
        .await
        .ok();
    world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    assert_eq!(bound(&world, &home).await.unwrap().len(), 3);
    world
        .admin
        .patch(
            &format!("{}/{class}", crate::world::CLASSES),
            &json!({"spec": {"launchers": null}}),
        )
        .await
        .ok();
    world
        .condition(&home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
    eventually(SOON, || async {
        let found = bound(&world, &home).await?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await;
    // Gone, it is a launcher like any other account: the next to declare the name is held back.
    world.tess.delete(&one("AIWorkflow", &other, "loader")).await.ok();
    world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    world
        .tess
        .post(&all("AIWorkflow", &other), &workflow("load", &json!({})))
        .await
        .ok();
    world.condition(&other, "load", "Programmed", "False", "Conflict").await;
}
