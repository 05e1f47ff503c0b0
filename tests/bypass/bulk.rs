//! Door: objects that Ringfence cannot read, or reads at a great price, so that it looks at nothing else any more.

use serde_json::{Value, json};
use support::{Ringfence, unique};

use crate::world::{World, all, condition, one, workflow};

/// As long as one object may be, once each `<` of it is written as six bytes.
const LONG: usize = 1_400_000;

/// Fields that somebody is said to have written then. One who owns no field is forgotten.
fn late(time: &str) -> Value {
    json!([{
        "manager": "x", "operation": "Update", "apiVersion": "rbac.authorization.k8s.io/v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:rules": {}},
    }])
}

/// The API server stores these as years that Ringfence's own types cannot hold, and one such object would end every list of its kind. Only a
/// PUT or a PATCH takes them.
///
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn writes_a_time_that_nobody_can_read() {
    let world = World::shared().await;
    let ns = &world.namespace("late", &json!({})).await;
    let (_, ada) = world.person(ns, "admin").await;
    let path = one("Role", ns, "late");
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let role = json!({"metadata": {"name": "late"}, "rules": rules});
    ada.post(&all("Role", ns), &role).await.ok();
    for time in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00",
        "0000-01-01T00:00:00+01:00",
    ] {
        let mut role = ada.read(&path).await.unwrap();
        role["metadata"]["managedFields"] = late(time);
        let answer = ada.put(&path, &role).await;
        assert_eq!(answer.code, 403, "{time}: {}", answer.body);
        answer.refused_by_guard("ringfence-reserved-keys");
    }
    let mut role = ada.read(&path).await.unwrap();
    role["metadata"]["managedFields"] = late("2024-02-29T00:00:00+14:00");
    let kept = ada.put(&path, &role).await.ok();
    assert_eq!(kept["metadata"]["managedFields"][0]["time"], "2024-02-28T10:00:00Z");
}

/// Who takes a finalizer off is asked like everybody, as long as the object stays; what ends it is not.
///
/// Held by: `declaration-size`
#[tokio::test]
async fn takes_a_finalizer_off_and_fills_the_declaration_with_it() {
    let world = World::shared().await;
    let ns = &world.namespace("heavy", &json!({})).await;
    let (_, tenant) = world.tenant(ns).await;
    let mut held = workflow("heavy", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    tenant.post(&all("AIWorkflow", ns), &held).await.ok();
    let path = one("AIWorkflow", ns, "heavy");
    // Maps in maps: in memory, a hundred times as large as they are written.
    let nested = (0..50).fold(json!({}), |inner, _| json!({"f:a": inner}));
    let fields: serde_json::Map<_, _> = (0..1000).map(|n| (format!("f:{n}"), nested.clone())).collect();
    let fields = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "ringfence.dev/v1alpha1", "time": "2024-02-29T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    }]);
    for finalizers in [json!(["example.com/b"]), Value::Null] {
        let heavy = json!({"metadata": {"finalizers": finalizers, "managedFields": fields}});
        tenant.patch(&path, &heavy).await.refused_by("declaration-size");
    }
    let one_off = json!({"metadata": {"finalizers": ["example.com/b"]}});
    tenant.patch(&path, &one_off).await.ok();
    tenant.delete(&path).await.ok();
    let heavy = json!({"metadata": {"finalizers": ["example.com/b"], "managedFields": fields}});
    tenant.patch(&path, &heavy).await.refused_by("declaration-size");
    tenant
        .patch(&path, &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    world.admin.gone(&path).await;
}

/// What Ringfence watches it finds by a label of its own.
///
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn has_ringfence_read_megabytes_of_somebody_elses() {
    let world = World::shared().await;
    let ns = &world.namespace("fat", &json!({})).await;
    let (_, ada) = world.person(ns, "admin").await;
    for kind in ["NetworkPolicy", "ServiceAccount", "Role"] {
        let mut object = json!({"metadata": {"name": unique("fat"), "labels": {"ringfence.dev/owner": "triage"}}});
        match kind {
            "NetworkPolicy" => object["spec"] = json!({"podSelector": {}}),
            "Role" => object["rules"] = json!([]),
            _ => {}
        }
        let answer = ada.post(&all(kind, ns), &object).await;
        assert!(
            answer
                .refused_by_guard("ringfence-reserved-keys")
                .contains("ringfence.dev/owner")
        );
        object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "ringfence"});
        ada.post(&all(kind, ns), &object).await.ok();
    }
}

/// Who may write grants in a namespace that a workflow reaches into makes them as large as an object can be, and as many as fit. They
/// decide nothing of the workflow's own fence, which is kept all the same; and what was not read is said.
///
/// Held by: `operator`
#[tokio::test]
async fn buries_a_grant_under_large_ones() {
    let world = World::shared().await;
    let (home, vectors) = (
        &world.enforced("home").await,
        &world.namespace("vectors", &json!({})).await,
    );
    let (_, ada) = world.person(vectors, "admin").await;
    let rule = json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]});
    let mut large = rule.clone();
    large["resourceNames"] = json!(vec!["\u{1f980}".repeat(253); 32]);
    let mut grant = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {},
        "spec": {"from": [{"namespace": home, "name": "triage"}], "rules": vec![large; 16]},
    });
    let names: Vec<_> = (0..20).map(|number| format!("fat-{number}")).collect();
    for name in &names {
        grant["metadata"]["name"] = json!(name);
        let made = ada.post(&all("AIWorkflowGrant", vectors), &grant).await.ok();
        assert!(made.to_string().len() > 500_000);
    }

    let egress = |port: u16| json!({"network": {"egress": [{"name": "db", "to": {"pods": {"selector": {"matchLabels": {"app": "db"}}}}, "ports": [{"port": port}]}]}});
    let mut spec = egress(5432);
    // One that no grant covers, so that all would have to be read.
    let uncovered = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    spec["permissions"] = json!({"crossNamespace": [{"namespace": vectors, "rules": [uncovered]}]});
    world
        .tess
        .post(&all("AIWorkflow", home), &workflow("triage", &spec))
        .await
        .ok();
    let told = world
        .condition(home, "triage", "ResolvedRefs", "False", "NoGrant")
        .await;
    let message = condition(&told, "ResolvedRefs")["message"].as_str().unwrap();
    for part in [
        &format!("in namespace {vectors} covers it"),
        "is not known, because there are more than 8 MiB of them",
        "delete those that nobody needs",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    // A change of its own fence is carried out.
    let path = one("AIWorkflow", home, "triage");
    world.tess.patch(&path, &json!({"spec": egress(6543)})).await.ok();
    world.condition(home, "triage", "Programmed", "True", "Applied").await;
    let policies = world.admin.items(&all("NetworkPolicy", home)).await.unwrap();
    let said = json!(policies).to_string();
    assert!(said.contains("6543") && !said.contains("5432"), "{said}");

    for name in &names {
        ada.delete(&one("AIWorkflowGrant", vectors, name)).await.ok();
    }
    let covering = json!({"spec": {"permissions": {"crossNamespace": [{"namespace": vectors, "rules": [rule]}]}}});
    world.tess.patch(&path, &covering).await.ok();
    grant["metadata"] = json!({"name": "slim"});
    grant["spec"]["rules"] = json!([rule]);
    ada.post(&all("AIWorkflowGrant", vectors), &grant).await.ok();
    world.condition(home, "triage", "Ready", "True", "Fenced").await;
}

/// A name of a subject may be as long as an object can be. The scan names what it could not read, and tells of all others.
///
/// Held by: `scan`
#[tokio::test]
async fn hides_a_binding_behind_one_that_cannot_be_read() {
    let (cluster, _ringfence, admin) = crate::world::own(&["--scan-period=2s"]).await;
    let fenced = &crate::world::namespace(&admin, "hidden", &json!({})).await;
    let other = &crate::world::namespace(&admin, "fat", &json!({})).await;
    let extra = json!({
        "metadata": {"name": "extra"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccounts:{fenced}")}],
    });
    admin.post(&all("RoleBinding", fenced), &extra).await.ok();
    let mut fat = extra.clone();
    fat["metadata"]["name"] = json!("fat");
    fat["subjects"][0]["name"] = json!("<".repeat(LONG));
    admin.post(&all("RoleBinding", other), &fat).await.ok();
    // As bytes it is small, and heavy once it is parsed, its metadata alone.
    let mut heavy = extra.clone();
    heavy["metadata"]["name"] = json!("heavy");
    heavy["subjects"] = json!([]);
    let owner = |at| json!({"apiVersion": "x.example/v1", "kind": "A", "name": "a", "uid": format!("{at}")});
    heavy["metadata"]["ownerReferences"] = (0..44_000).map(owner).collect();
    admin.post(&all("RoleBinding", other), &heavy).await.ok();
    // Deeper than JSON is read, where nobody is asked about it.
    let mut deep = extra.clone();
    deep["metadata"]["name"] = json!("deep");
    deep["subjects"] = json!([]);
    deep["metadata"]["managedFields"] = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "rbac.authorization.k8s.io/v1", "time": "2024-02-29T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": crate::field_managers::deep()}},
    }]);
    admin.post(&all("RoleBinding", other), &deep).await.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    admin
        .patch(&format!("{}/{fenced}", crate::world::NAMESPACES), &enforce)
        .await
        .ok();
    admin
        .post(&all("AIWorkflow", fenced), &workflow("triage", &json!({})))
        .await
        .ok();
    support::eventually(crate::world::SOON, || async {
        let workflow = admin.read(&one("AIWorkflow", fenced, "triage")).await?;
        let compliant = condition(&workflow, "Compliant");
        anyhow::ensure!(compliant["reason"] == "ExtraRights", "{compliant}");
        anyhow::ensure!(
            compliant["message"].as_str().unwrap_or_default().contains("extra"),
            "{compliant}"
        );
        Ok(())
    })
    .await;
    drop(cluster);
}

/// RBAC takes names as long as an object may be, and as many subjects as fit: told once for each subject and each workflow, with the name, it
/// would fill any memory. From before the fence, when nobody was asked.
///
/// Held by: `scan`
#[tokio::test]
async fn has_one_binding_told_a_million_times() {
    const WORKFLOWS: usize = 20;
    let (cluster, ringfence, admin) = crate::world::own(&["--scan-period=2s"]).await;
    let fenced = &crate::world::namespace(&admin, "told", &json!({})).await;
    let other = &crate::world::namespace(&admin, "tells", &json!({})).await;
    let group = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccounts:{fenced}")});
    let binding = json!({
        "metadata": {"name": "x".repeat(60_000)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": vec![group; 10_000],
    });
    admin.post(&all("RoleBinding", other), &binding).await.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    let path = format!("{}/{fenced}", crate::world::NAMESPACES);
    admin.patch(&path, &enforce).await.ok();
    for number in 0..WORKFLOWS {
        let declared = workflow(&format!("w{number}"), &json!({}));
        admin.post(&all("AIWorkflow", fenced), &declared).await.ok();
    }
    support::eventually(crate::world::SOON, || async {
        for number in 0..WORKFLOWS {
            let workflow = admin.read(&one("AIWorkflow", fenced, &format!("w{number}"))).await?;
            let compliant = condition(&workflow, "Compliant");
            anyhow::ensure!(compliant["reason"] == "ExtraRights", "{}", compliant["reason"]);
            let said = compliant["message"].as_str().unwrap_or_default();
            anyhow::ensure!(said.contains("xxx") && said.len() < 2000, "{} bytes", said.len());
        }
        Ok(())
    })
    .await;
    let peak = support::process::peak(ringfence.pid().expect("a process")).expect("its memory");
    assert!(peak < 400 << 10, "{peak} KiB");
    drop(cluster);
}

/// Whoever makes the account that a binding waits for hands out what that says.
///
/// Held by: `operator`
#[tokio::test]
async fn declares_a_workflow_whose_account_is_bound_before_it_is_there() {
    let world = World::shared().await;
    let ns = &world.namespace("dangling", &json!({})).await;
    let names = [unique("dangling"), unique("dangling")];
    let subjects = [
        json!({"kind": "ServiceAccount", "namespace": ns, "name": "jenkins"}),
        json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccount:{ns}:jenkins")}),
    ];
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    for (name, subject) in names.iter().zip(&subjects) {
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [subject],
        });
        world.admin.post(bindings, &binding).await.ok();
    }
    world.enforce(ns).await;
    let workflows = all("AIWorkflow", ns);
    world.tess.post(&workflows, &workflow("jenkins", &json!({}))).await.ok();
    let held = world.condition(ns, "jenkins", "Programmed", "False", "Conflict").await;
    let message = condition(&held, "Programmed")["message"].to_string();
    assert!(names.iter().all(|name| message.contains(name.as_str())), "{message}");
    assert!(
        !world
            .admin
            .is_there(&one("ServiceAccount", ns, "jenkins"))
            .await
            .unwrap()
    );
    for name in &names {
        world.admin.delete(&format!("{bindings}/{name}")).await.ok();
    }
    // Nothing is in the way any more.
    world.condition(ns, "jenkins", "Ready", "True", "Fenced").await;
}

/// Bytes that a process of Ringfence holds.
fn resident(ringfence: &Ringfence) -> u64 {
    let port = format!("--listen=127.0.0.1:{}", ringfence.port);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.map(|process| process.path()).find(|path| {
        let command = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        command.starts_with(crate::world::BINARY) && command.split('\0').any(|argument| argument == port)
    });
    let status = std::fs::read_to_string(ours.expect("its process").join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// Half a megabyte as it is written, and more than a review reads of one object once it is: a policy that is asked about an object of that
/// workflow, and fails open, could not be asked.
///
/// Held by: `declaration-size`
#[tokio::test]
async fn declares_more_than_a_review_can_read() {
    let world = World::shared().await;
    let ns = &world.enforced("unread").await;
    let lists = |prefix: &str| (0..16).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    let expressions: Vec<_> = lists("k")
        .iter()
        .map(|key| json!({"key": key, "operator": "In", "values": lists("v")}))
        .collect();
    let ports: Vec<_> = (1..=32).map(|port| json!({"port": port, "endPort": port})).collect();
    let rules = |peer: &str, count: usize| {
        let labels: serde_json::Map<_, _> = lists("l").into_iter().map(|key| (key, json!("x"))).collect();
        let pods = json!({"pods": {"selector": {"matchLabels": labels, "matchExpressions": expressions}}});
        let rule = |n: usize| json!({"name": format!("r{n}"), peer: pods, "ports": ports});
        (0..count).map(rule).collect::<Vec<_>>()
    };
    let network = |count: usize| json!({"network": {"egress": rules("to", count), "ingress": rules("from", count)}});
    let dry = format!("{}?dryRun=All", all("AIWorkflow", ns));
    let refused = world.tess.post(&dry, &workflow("fat", &network(64))).await;
    let said = refused.refused_by("declaration-size");
    assert!(said.contains("Fix: "), "{said}");
    // By and by it comes no further.
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("fat", &network(16)))
        .await
        .ok();
    let grown = json!({"spec": network(64)});
    let path = one("AIWorkflow", ns, "fat");
    world.tess.patch(&path, &grown).await.refused_by("declaration-size");
    world.tess.delete(&path).await.ok();
}

/// Five thousand labels are 128 kB as they are written, and half a megabyte once they are read: of what nobody asks for, nothing is kept.
///
/// Held by: `operator`, `declaration-size`
#[tokio::test]
async fn fills_ringfence_with_labels_of_declarations() {
    const MANY: usize = 50;
    let (_cluster, ringfence, admin) = crate::world::own(&["--scan-period=0"]).await;
    let ns = &crate::world::namespace(&admin, "labels", &json!({})).await;
    let labelled = |name: &str, count: usize| {
        let mut object = workflow(name, &json!({}));
        object["metadata"]["labels"] = (0..count)
            .map(|n| (format!("l{n}"), json!("")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        object
    };
    let collection = all("AIWorkflow", ns);
    let more = admin.post(&collection, &labelled("more", 7000)).await;
    more.refused_by("declaration-size");
    let seen = async |name: &str| {
        let path = one("AIWorkflow", ns, name);
        support::eventually(crate::world::SOON, || async {
            let workflow = admin.read(&path).await?;
            anyhow::ensure!(workflow["status"]["observedGeneration"] == 1, "{name} was not seen");
            Ok(())
        })
        .await;
    };
    // What one of them takes while it is looked at is there before.
    for n in 0..10 {
        let name = format!("first-{n}");
        admin.post(&collection, &labelled(&name, 5000)).await.ok();
        seen(&name).await;
    }
    let before = resident(&ringfence);
    for n in 0..MANY {
        let name = format!("many-{n}");
        admin.post(&collection, &labelled(&name, 5000)).await.ok();
    }
    for n in 0..MANY {
        seen(&format!("many-{n}")).await;
    }
    let each = resident(&ringfence).saturating_sub(before) / MANY as u64;
    assert!(each < 200_000, "{each} bytes of each are kept");
}
