//! Door: rights in another namespace without its word: they need the declaration, the grant there and the class, and each of the three
//! alone gives nothing.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{SOON, World, all, one, unasked};

fn rule(resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": verbs})
}

pub fn grant(namespace: &str, workflow: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "readers"},
        "spec": {"from": [{"namespace": namespace, "name": workflow}], "rules": rules},
    })
}

fn declaring(namespace: &str, rules: Value) -> Value {
    json!({"permissions": {"crossNamespace": [{"namespace": namespace, "rules": rules}]}})
}

pub fn grants(namespace: &str) -> String {
    format!("/apis/ringfence.dev/v1alpha1/namespaces/{namespace}/aiworkflowgrants")
}

/// Whether the API server's own authorizer lets the account do it: what counts, whoever wrote the roles.
pub async fn may(world: &World, account: &str, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let review = json!({"spec": {"user": account, "resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace, "name": name}}});
    let answer = world
        .admin
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
        .await
        .ok();
    answer["status"]["allowed"] == true
}

/// Legitimate: what is declared and granted is held, no more than both say, and goes when the grant is taken away.
#[tokio::test]
async fn a_right_in_another_namespace_comes_and_goes_with_the_grant() {
    let world = World::shared().await;
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let account = format!("system:serviceaccount:{home}:triage");
    let declared = json!([
        rule("services", &["qdrant"], &["get"]),
        rule("configmaps", &["limits"], &["get"])
    ]);
    let workflow = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage"},
        "spec": {
            "launchers": [{"user": "lea"}], "images": ["registry.example.com/finance/**"],
            "permissions": {"crossNamespace": [{"namespace": vectors, "rules": declared}]},
        },
    });
    world.tess.post(&all("AIWorkflow", &home), &workflow).await.ok();
    world
        .condition(&home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
    assert!(!may(&world, &account, "get", "services", &vectors, "qdrant").await);

    let covering = json!([rule("services", &[], &["get", "list"])]);
    world
        .admin
        .post(&grants(&vectors), &grant(&home, "triage", covering))
        .await
        .ok();
    eventually(SOON, || async {
        ensure!(
            may(&world, &account, "get", "services", &vectors, "qdrant").await,
            "not granted yet"
        );
        Ok(())
    })
    .await;
    assert!(
        !may(&world, &account, "get", "services", &vectors, "other").await,
        "granted, but not declared"
    );
    assert!(
        !may(&world, &account, "list", "services", &vectors, "").await,
        "granted, but not declared"
    );
    assert!(
        !may(&world, &account, "get", "configmaps", &vectors, "limits").await,
        "declared, but not granted"
    );
    // It said NoGrant before as well: what it says now comes with the next look.
    eventually(SOON, || async {
        let workflow = world.admin.read(&one("AIWorkflow", &home, "triage")).await?;
        let message = crate::world::condition(&workflow, "ResolvedRefs")["message"].to_string();
        ensure!(
            message.contains("crossNamespace[0].rules[1]") && !message.contains("rules[0]"),
            "{message}"
        );
        Ok(())
    })
    .await;

    // The rest of it, and the workflow is ready.
    let whole =
        json!({"spec": {"rules": [rule("services", &[], &["get"]), rule("configmaps", &["limits"], &["get"])]}});
    world
        .admin
        .patch(&format!("{}/readers", grants(&vectors)), &whole)
        .await
        .ok();
    world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    eventually(SOON, || async {
        ensure!(
            may(&world, &account, "get", "configmaps", &vectors, "limits").await,
            "not granted yet"
        );
        Ok(())
    })
    .await;

    // Gone with the grant, by the garbage collector: the roles are its own.
    world.admin.delete(&format!("{}/readers", grants(&vectors))).await.ok();
    eventually(SOON, || async {
        ensure!(
            world.admin.items(&all("RoleBinding", &vectors)).await?.is_empty(),
            "the binding is still there"
        );
        ensure!(
            !may(&world, &account, "get", "services", &vectors, "qdrant").await,
            "still granted"
        );
        Ok(())
    })
    .await;
    world
        .condition(&home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
}

/// Held by: `operator`
#[tokio::test]
async fn somebody_keeps_a_grant_for_a_workflow_that_is_gone_or_refused() {
    let world = World::shared().await;
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let rules = json!([rule("services", &["qdrant"], &["get"])]);
    world
        .admin
        .post(&grants(&vectors), &grant(&home, "triage", rules.clone()))
        .await
        .ok();
    world.ready(&home, "triage", &declaring(&vectors, rules)).await;
    let bound = || async { world.admin.items(&all("RoleBinding", &vectors)).await };
    eventually(SOON, || async {
        ensure!(bound().await?.len() == 1, "not bound yet");
        Ok(())
    })
    .await;
    // Outside its class: the right goes, though the grant still says yes.
    let narrow = world.class(&json!({"images": {"allowed": ["**"]}})).await;
    let relabelled = json!({"metadata": {"labels": {"ringfence.dev/enforce": narrow}}});
    world
        .admin
        .patch(&format!("/api/v1/namespaces/{home}"), &relabelled)
        .await
        .ok();
    eventually(SOON, || async {
        ensure!(bound().await?.is_empty(), "still bound");
        Ok(())
    })
    .await;
    let relabelled = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    world
        .admin
        .patch(&format!("/api/v1/namespaces/{home}"), &relabelled)
        .await
        .ok();
    eventually(SOON, || async {
        ensure!(bound().await?.len() == 1, "not bound again");
        Ok(())
    })
    .await;
    world.tess.delete(&one("AIWorkflow", &home, "triage")).await.ok();
    eventually(SOON, || async {
        ensure!(
            bound().await?.is_empty(),
            "bound to an account that anybody may make again"
        );
        Ok(())
    })
    .await;
    eventually(SOON, || async {
        let grant = world.admin.read(&format!("{}/readers", grants(&vectors))).await?;
        let conditions = grant["status"]["conditions"].to_string();
        ensure!(conditions.contains("no AIWorkflow of that name"), "{conditions}");
        Ok(())
    })
    .await;
}

/// In another namespace; each holds its own.
/// Held by: `operator`
#[tokio::test]
async fn somebody_takes_the_grant_of_a_workflow_of_the_same_name() {
    let world = World::shared().await;
    let (x, y) = (world.enforced("x").await, world.enforced("y").await);
    let vectors = world.namespace("vectors", &json!({})).await;
    let mut both = grant(&x, "triage", json!([rule("services", &[], &["get"])]));
    both["spec"]["from"] = json!([{"namespace": x, "name": "triage"}, {"namespace": y, "name": "triage"}]);
    world.admin.post(&grants(&vectors), &both).await.ok();
    world
        .ready(
            &x,
            "triage",
            &declaring(&vectors, json!([rule("services", &["a"], &["get"])])),
        )
        .await;
    world
        .ready(
            &y,
            "triage",
            &declaring(&vectors, json!([rule("services", &["b"], &["get"])])),
        )
        .await;
    let (of_x, of_y) = (
        format!("system:serviceaccount:{x}:triage"),
        format!("system:serviceaccount:{y}:triage"),
    );
    eventually(SOON, || async {
        ensure!(
            may(&world, &of_x, "get", "services", &vectors, "a").await,
            "x has nothing"
        );
        ensure!(
            may(&world, &of_y, "get", "services", &vectors, "b").await,
            "y has nothing"
        );
        Ok(())
    })
    .await;
    assert!(!may(&world, &of_x, "get", "services", &vectors, "b").await);
    assert!(!may(&world, &of_y, "get", "services", &vectors, "a").await);
}

/// Also in the platform's own namespaces, and where an older version let it in.
/// Held by: `valid-declaration`, `exempt-namespace`, `operator`
#[tokio::test]
async fn somebody_grants_what_nobody_may_hold_or_where_nobody_may() {
    let world = World::shared().await;
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let rules = json!([rule("services", &[], &["get"]), rule("pods", &[], &["create"])]);
    let object = grant(&home, "triage", rules);
    let answer = world.admin.post(&grants(&vectors), &object).await;
    assert!(answer.refused_by("valid-declaration").contains("spec.rules[1]"));
    world
        .admin
        .post(&grants("kube-system"), &object)
        .await
        .refused_by("exempt-namespace");
    unasked(world.cluster).await.post(&grants(&vectors), &object).await.ok();
    eventually(SOON, || async {
        let grant = world.admin.read(&format!("{}/readers", grants(&vectors))).await?;
        let conditions = grant["status"]["conditions"].to_string();
        ensure!(
            conditions.contains("\"Invalid\"") && conditions.contains("spec.rules[1]"),
            "{conditions}"
        );
        Ok(())
    })
    .await;
}

/// Legitimate: an engine's launcher is given what the engine needs, as far as the ceiling goes, and only in the workflow's namespace.
#[tokio::test]
async fn an_engine_gives_its_launcher_rights_when_the_platform_opens_them() {
    let world = World::shared().await;
    let (home, airflow) = (
        world.enforced("home").await,
        world.namespace("airflow", &json!({})).await,
    );
    let scheduler = format!("system:serviceaccount:{airflow}:scheduler");
    let launchers = json!([{"serviceAccount": {"namespace": airflow, "name": "scheduler"}}]);
    let object = crate::world::workflow("triage", &json!({"engine": "airflow", "launchers": launchers}));
    world.tess.post(&all("AIWorkflow", &home), &object).await.ok();
    // The class opens the engine; the ceiling does not yet, and the API server's own check says so.
    let workflow = world
        .condition(&home, "triage", "Programmed", "False", "AboveCeiling")
        .await;
    let message = crate::world::condition(&workflow, "Programmed")["message"].to_string();
    for part in [
        "pods: create, ",
        "aggregate-to-ceiling=true",
        "ceiling.engines={airflow}",
    ] {
        assert!(message.contains(part), "says what the platform can do: {message}");
    }
    let name = unique("ceiling");
    let part = json!({
        "metadata": {"name": name, "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        ],
    });
    world
        .admin
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &part)
        .await
        .ok();
    let workflow = world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    assert_eq!(workflow["status"]["engine"], "airflow");
    assert!(may(&world, &scheduler, "create", "pods", &home, "").await);
    assert!(!may(&world, &scheduler, "create", "pods", &airflow, "").await);
    assert!(
        !may(
            &world,
            &format!("system:serviceaccount:{home}:triage"),
            "create",
            "pods",
            &home,
            ""
        )
        .await
    );

    // Another engine, and the rights go.
    world
        .tess
        .patch(&one("AIWorkflow", &home, "triage"), &json!({"spec": {"engine": "job"}}))
        .await
        .ok();
    eventually(SOON, || async {
        ensure!(
            !may(&world, &scheduler, "create", "pods", &home, "").await,
            "still granted"
        );
        Ok(())
    })
    .await;
    world
        .admin
        .delete(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}"))
        .await
        .ok();
}

/// By a finalizer, for which the garbage collector waits: what it gave does not.
/// Held by: `operator`
#[tokio::test]
async fn somebody_keeps_a_grant_from_going() {
    let world = World::shared().await;
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let rules = json!([rule("services", &["qdrant"], &["get"])]);
    let mut kept = grant(&home, "triage", rules.clone());
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    world.admin.post(&grants(&vectors), &kept).await.ok();
    world.ready(&home, "triage", &declaring(&vectors, rules)).await;
    let bound = || async { world.admin.items(&all("RoleBinding", &vectors)).await };
    eventually(SOON, || async {
        ensure!(bound().await?.len() == 1, "not bound yet");
        Ok(())
    })
    .await;
    let readers = format!("{}/readers", grants(&vectors));
    world.admin.delete(&readers).await.ok();
    eventually(SOON, || async {
        ensure!(bound().await?.is_empty(), "still bound");
        Ok(())
    })
    .await;
    world
        .condition(&home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
    let free = json!({"metadata": {"finalizers": null}});
    world.admin.patch(&readers, &free).await.ok();
    world.admin.gone(&readers).await;
}

/// By who wrote which field, deeper than most read: of an account that is no workflow's, and of a workflow that is named beside the one that is
/// to hold less.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_makes_unreadable_whom_else_a_grant_names() {
    let world = World::shared().await;
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let (_, edith) = world.tenant(&home).await;
    let (_, ada) = world.person(&vectors, "admin").await;
    let stuck = json!({"metadata": {"name": "stuck"}});
    edith.post(&all("ServiceAccount", &home), &stuck).await.ok();
    let get = |names: &[&str]| json!([rule("configmaps", names, &["get"])]);
    let declared = declaring(&vectors, json!([get(&["inner"])[0], get(&["public"])[0]]));
    for name in ["holder", "stuck"] {
        let object = crate::world::workflow(name, &declared);
        world.tess.post(&all("AIWorkflow", &home), &object).await.ok();
    }
    let mut both = grant(&home, "holder", get(&["inner", "public"]));
    both["spec"]["from"] = json!([{"namespace": home, "name": "holder"}, {"namespace": home, "name": "stuck"}]);
    ada.post(&grants(&vectors), &both).await.ok();
    let account = format!("system:serviceaccount:{home}:holder");
    let holds = async |name: &str, expected: bool| {
        eventually(SOON, || async {
            let may = may(&world, &account, "get", "configmaps", &vectors, name).await;
            ensure!(may == expected, "{name}: {may}");
            Ok(())
        })
        .await;
    };
    holds("inner", true).await;
    // A workflow like that is refused where anybody is asked.
    let unasked = unasked(world.cluster).await;
    for (writer, kind, version) in [
        (&edith, "ServiceAccount", "v1"),
        (&unasked, "AIWorkflow", "ringfence.dev/v1alpha1"),
    ] {
        let deep = json!({
            "manager": "x", "operation": "Update", "apiVersion": version, "time": "2024-02-29T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:annotations": crate::field_managers::deep()}},
        });
        let path = one(kind, &home, "stuck");
        writer
            .patch(&path, &json!({"metadata": {"managedFields": [deep]}}))
            .await
            .ok();
    }
    // What the grant's owner takes back goes, and what she leaves stays.
    let narrower = json!({"spec": {"rules": get(&["public"])}});
    ada.patch(&format!("{}/readers", grants(&vectors)), &narrower)
        .await
        .ok();
    holds("inner", false).await;
    holds("public", true).await;
    world.admin.delete(&one("AIWorkflow", &home, "holder")).await.ok();
    holds("public", false).await;
}
