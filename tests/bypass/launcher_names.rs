//! Door: the name of a launcher: being taken for one by impersonation, by a broad declaration, or by choosing its account's name.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::attackers::forbidden;
use crate::world::{Actor, CLASSES, SOON, World, all, condition, one, pod, workflow, workload};

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

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

/// Held by: `operator`, `RBAC`
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
        ("spectre", "an AIWorkflow of another namespace".to_owned()),
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
        message.contains(&format!("ServiceAccount {other}/load is a workflow's own"))
            && message.contains("AIWorkflowGrant"),
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
    world.admin.patch(&format!("{}/{class}", CLASSES), &named).await.ok();
    world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    assert_eq!(bound(&world, &home).await.unwrap().len(), 3);
    world
        .admin
        .patch(&format!("{}/{class}", CLASSES), &json!({"spec": {"launchers": null}}))
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

/// Held by: `launcher`
#[tokio::test]
async fn a_launcher_is_impersonated() {
    let world = World::shared().await;
    let ci = &world.namespace("ci", &json!({})).await;
    let deployer = json!({"metadata": {"name": "deployer"}});
    world.admin.post(&all("ServiceAccount", ci), &deployer).await.ok();
    let ns = &world.enforced("launchers").await;
    let group = unique("launchers");
    let account = json!({"namespace": ci, "name": "deployer"});
    let launchers = json!([{"user": "lea"}, {"group": group}, {"serviceAccount": account}]);
    world.ready(ns, "triage", &json!({"launchers": launchers})).await;
    let subject = json!({"kind": "ServiceAccount", "namespace": ci, "name": "deployer"});
    world.bind(ns, "edit", &subject).await;
    let deployer = Actor::new(world.cluster.service_account(ci, "deployer").await);
    let pods = all("Pod", ns);
    eventually(SOON, || async { deployer.read(&pods).await }).await;
    let (_, tenant) = world.tenant(ns).await;
    let job = workload("Job", &pod("job", "triage"));
    let path = dry(&all("Job", ns));

    world.master("lea", &[]).await.post(&path, &job).await.ok();
    world.master("gus", &[&group]).await.post(&path, &job).await.ok();
    deployer.post(&path, &job).await.ok();

    let name = format!("system:serviceaccount:{ci}:deployer");
    for groups in [
        &["system:masters"][..],
        &["system:serviceaccounts", "system:authenticated", "system:masters"],
    ] {
        let impersonated = Actor::new(world.cluster.impersonate(&name, groups).await);
        let answer = impersonated.post(&path, &job).await;
        let message = answer.refused_by("launcher");
        assert!(message.contains("impersonated"), "{message}");
    }
    // Built-in `edit` may impersonate the accounts of its namespace: that is how a tenant would be one.
    let (_, eve) = world.person(ci, "edit").await;
    let may = json!({"spec": {"resourceAttributes": {"namespace": ci, "verb": "impersonate", "resource": "serviceaccounts", "name": "deployer"}}});
    let answer = eve
        .post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &may)
        .await
        .ok();
    assert_eq!(answer["status"]["allowed"], true, "{answer}");
    // A deleted account's token is no launcher's, and neither is that of another account of its name.
    world.admin.delete(&one("ServiceAccount", ci, "deployer")).await.ok();
    world
        .admin
        .post(&all("ServiceAccount", ci), &json!({"metadata": {"name": "deployer"}}))
        .await
        .ok();
    let stale = deployer.post(&path, &job).await;
    assert!(matches!(stale.code, 401 | 403), "{}", stale.body);

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
    let olu = world.master("olu", &[]).await;
    olu.post(&path, &job).await.refused_by("launcher");
}

/// Built-in `edit` asks for a token of an account in its namespace, and runs pods there: whoever may do so where a launcher lives is that
/// launcher.
///
/// Out of scope: the namespaces of launchers are as the platform keeps them; who may make tokens or pods there launches.
#[tokio::test]
async fn who_holds_the_launchers_namespace_is_the_launcher() {
    let world = World::shared().await;
    let ci = &world.namespace("ci-held", &json!({})).await;
    world
        .admin
        .post(&all("ServiceAccount", ci), &json!({"metadata": {"name": "deployer"}}))
        .await
        .ok();
    let (_, eve) = world.person(ci, "edit").await;
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let path = format!("{}/token", one("ServiceAccount", ci, "deployer"));
    let given = eve.post(&path, &request).await.ok();
    assert!(given["status"]["token"].is_string());
    forbidden(&world.tess.post(&path, &request).await);
}

/// Held by: `definition`, `launcher`
#[tokio::test]
async fn a_declaration_names_everybody_as_launcher() {
    let world = World::shared().await;
    let ns = &world.enforced("everybody").await;
    let named = |field: &str, name: &str| json!({"launchers": [{field: name}]});
    let broad = [
        ("group", "system:authenticated"),
        ("group", "system:unauthenticated"),
        ("group", "system:serviceaccounts"),
        ("group", &format!("system:serviceaccounts:{ns}")),
        ("group", "system:masters"),
        ("group", "system:nodes"),
        ("group", ""),
        ("user", ""),
        ("user", "system:anonymous"),
        ("user", "system:kube-controller-manager"),
        ("user", "system:kube-scheduler"),
        ("user", "system:serviceaccount:kube-system:job-controller"),
        ("user", &format!("system:serviceaccount:{ns}:default")),
        ("user", "system:node:n1"),
    ];
    for (field, name) in broad {
        let path = dry(&all("AIWorkflow", ns));
        let answer = world.tess.post(&path, &workflow("triage", &named(field, name))).await;
        assert_eq!(answer.code, 422, "{field} {name}: {}", answer.body);
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": unique("broad")},
            "spec": named(field, name),
        });
        let answer = world.admin.post(&dry(CLASSES), &class).await;
        assert_eq!(answer.code, 422, "{field} {name}: {}", answer.body);
    }
    for spec in [
        json!({"launchers": null}),
        json!({"launchers": [{}]}),
        json!({"launchers": [{"user": "lea", "group": "system:masters"}]}),
    ] {
        let answer = world
            .tess
            .post(&dry(&all("AIWorkflow", ns)), &workflow("triage", &spec))
            .await;
        assert_eq!(answer.code, 422, "{spec}: {}", answer.body);
    }
    // An empty list is nobody, and a star is a name like any other.
    world.ready(ns, "nobody", &json!({"launchers": []})).await;
    let job = workload("Job", &pod("job", "nobody"));
    world
        .admin
        .post(&dry(&all("Job", ns)), &job)
        .await
        .refused_by("launcher");
    world
        .ready(ns, "triage", &json!({"launchers": [{"user": "*"}, {"group": "*"}]}))
        .await;
    let job = workload("Job", &pod("job", "triage"));
    world
        .admin
        .post(&dry(&all("Job", ns)), &job)
        .await
        .refused_by("launcher");
    // A controller's own account, named: its chains are looked up all the same.
    let controller = json!({"serviceAccount": {"namespace": "kube-system", "name": "job-controller"}});
    world.ready(ns, "other", &json!({"launchers": [controller]})).await;
    let manager = Actor::new(
        world
            .cluster
            .impersonate("system:serviceaccount:kube-system:job-controller", &["system:masters"])
            .await,
    );
    let answer = manager.post(&dry(&all("Pod", ns)), &pod("x", "other")).await;
    answer.refused_by("launcher");
}
