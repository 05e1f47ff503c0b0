//! `ringfence draft` on a namespace that nobody fenced yet: what it writes can be applied, and is what then stands.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, Output, eventually, unique};

use crate::world::{BINARY, SOON, World, all, condition, container, namespace, one};

async fn draft(world: &World, who: &Identity, arguments: &[&str]) -> Output {
    let arguments = [&["draft"], arguments].concat();
    let said = world.cluster.ringfence_as(who, BINARY, &arguments).await;
    said.expect("ringfence draft")
}

/// What a team has before it hears of fences.
async fn brownfield(world: &World) -> String {
    let namespace = namespace(&world.admin, "brownfield", &json!({})).await;
    let post = |kind: &'static str, object: Value| {
        let path = all(kind, &namespace);
        async move { world.admin.post(&path, &object).await.ok() }
    };
    post("ServiceAccount", json!({"metadata": {"name": "reporter"}})).await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    ]);
    post("Role", json!({"metadata": {"name": "reads"}, "rules": rules})).await;
    let binding = json!({
        "metadata": {"name": "reporter-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"},
        "subjects": [{"kind": "ServiceAccount", "name": "reporter", "namespace": namespace}],
    });
    post("RoleBinding", binding).await;
    let mut main = container("main");
    main["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    main["env"] = json!([
        {"name": "TOKEN", "value": "topsecret"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "model-key", "key": "a"}}},
    ]);
    let secure = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let template = json!({"metadata": {"labels": {"app": "reporter"}}, "spec": {"serviceAccountName": "reporter", "securityContext": secure, "containers": [main]}});
    let labels = json!({"matchLabels": {"app": "reporter"}});
    post(
        "Deployment",
        json!({"metadata": {"name": "reporter"}, "spec": {"selector": labels, "template": template}}),
    )
    .await;
    let job = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "securityContext": secure, "containers": [container("main")]}}}});
    post(
        "CronJob",
        json!({"metadata": {"name": "nightly"}, "spec": {"schedule": "0 3 * * *", "jobTemplate": job}}),
    )
    .await;
    let policy = json!({
        "podSelector": labels, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}, {"namespaceSelector": {}}], "ports": [{"port": "http"}]}],
    });
    post(
        "NetworkPolicy",
        json!({"metadata": {"name": "reporter"}, "spec": policy}),
    )
    .await;
    eventually(SOON, || async {
        let pods = world.admin.items(&all("Pod", &namespace)).await?;
        ensure!(!pods.is_empty(), "the Deployment has no pod yet");
        Ok(())
    })
    .await;
    namespace
}

#[tokio::test]
async fn a_draft_of_a_running_namespace_is_accepted_and_then_nothing_differs() {
    let world = World::shared().await;
    let namespace = brownfield(&world).await;
    let said = draft(&world, &Identity::Admin, &[&namespace, "--launcher", "user:mia"]).await;
    assert_eq!(said.code, Some(0), "{said}");
    // On a busy machine it says what it waits for.
    assert!(
        said.stderr.lines().all(|line| line.ends_with(" …")),
        "everything could be read: {said}"
    );
    for words in [
        "secrets: is a resource that no workflow may touch",
        "every namespace: name them",
        "See that each is needed",
        &format!(
            "#     kubectl annotate serviceaccount reporter --namespace {namespace} ringfence.dev/adopt=reporter\n"
        ),
    ] {
        assert!(said.stdout.contains(words), "{words}: {said}");
    }
    assert!(!said.stdout.contains("topsecret"), "{said}");
    let again = draft(&world, &Identity::Admin, &[&namespace, "--launcher", "user:mia"]).await;
    // But for how much of the cluster was looked at, which other tests change.
    let drafted = |text: &str| text.split_once("\n---\n").map(|(_, drafted)| drafted.to_owned());
    assert!(drafted(&said.stdout).is_some());
    assert_eq!(
        drafted(&again.stdout),
        drafted(&said.stdout),
        "a draft is the same twice"
    );

    // As its next steps say: the mode, then the file.
    world.enforce(&namespace).await;
    let file = world.cluster.directory().join(format!("{}.yaml", unique("draft")));
    std::fs::write(&file, &said.stdout).expect("writing the draft");
    let file = file.display().to_string();
    let applied = world.cluster.kubectl(&["apply", "-f", &file]).await.unwrap();
    assert!(applied.success, "{applied}");

    let nightly = world.condition(&namespace, "nightly", "Ready", "True", "Fenced").await;
    assert_eq!(
        (&nightly["spec"]["engine"], &nightly["spec"]["launchers"]),
        (&json!("job"), &json!([{"user": "mia"}]))
    );
    let reporter = world
        .condition(&namespace, "reporter", "Accepted", "True", "Accepted")
        .await;
    assert_eq!(
        reporter["spec"]["permissions"]["rules"],
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}])
    );
    assert_eq!(
        reporter["spec"]["secrets"],
        json!([{"name": "model-key", "secretRef": {"name": "model-key", "keys": ["a"]}}])
    );
    assert_eq!(
        reporter["spec"]["network"]["ingress"],
        json!([{"name": "reporter-1", "from": {"pods": {"selector": {"matchLabels": {"app": "web"}}}}, "ports": [{"port": 8080}]}])
    );
    // Its account was there before, and is nobody's to take.
    world
        .condition(&namespace, "reporter", "Programmed", "False", "NameTaken")
        .await;
    let account = world
        .admin
        .get(&one("ServiceAccount", &namespace, "reporter"))
        .await
        .ok();
    assert!(account["metadata"].get("annotations").is_none() && condition(&reporter, "Accepted")["status"] == "True");

    eventually(SOON, || async {
        let differs = world
            .cluster
            .ringfence_as(&Identity::Admin, BINARY, &["diff", &file])
            .await?;
        ensure!(differs.code == Some(0) && differs.stdout.is_empty(), "{differs}");
        ensure!(differs.stderr.contains("Programmed=False (NameTaken)"), "{differs}");
        Ok(())
    })
    .await;
    // The command of the draft's own comment, by somebody who may.
    let adopt = [
        "annotate",
        "serviceaccount",
        "reporter",
        "--namespace",
        &namespace,
        "ringfence.dev/adopt=reporter",
    ];
    let adopted = world.cluster.kubectl(&adopt).await.unwrap();
    assert!(adopted.success, "{adopted}");
    world.condition(&namespace, "reporter", "Ready", "True", "Fenced").await;
    let account = world
        .admin
        .get(&one("ServiceAccount", &namespace, "reporter"))
        .await
        .ok();
    assert!(
        account["metadata"]["annotations"]
            .get("ringfence.dev/owner-uid")
            .is_some(),
        "{account}"
    );
    let differs = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &["diff", &file])
        .await
        .unwrap();
    assert_eq!((differs.code, differs.stdout.as_str()), (Some(0), ""), "{differs}");
    let rest = draft(&world, &Identity::Admin, &[&namespace]).await;
    assert!(
        rest.stdout
            .contains("ServiceAccount reporter, which is that of an AIWorkflow already"),
        "{rest}"
    );
}

#[tokio::test]
async fn what_may_not_be_read_is_said_and_the_rest_is_drafted() {
    let world = World::shared().await;
    let namespace = brownfield(&world).await;
    let name = unique("viewer");
    let viewer = Identity::user(&name, &[]);
    world
        .bind(&namespace, "view", &json!({"kind": "User", "name": name}))
        .await;
    let said = eventually(SOON, || async {
        let said = draft(&world, &viewer, &[&namespace]).await;
        ensure!(said.code == Some(0), "{said}");
        Ok(said)
    })
    .await;
    for kind in ["rolebindings", "clusterrolebindings"] {
        let words = format!("cannot list resource \"{kind}\"");
        assert!(
            said.stdout.contains(&words) && said.stderr.contains(&words),
            "{words}: {said}"
        );
    }
    assert!(
        !said.to_string().contains("\"secrets\""),
        "nobody asked for Secrets: {said}"
    );
    let drafted: Vec<Value> = serde_saphyr::from_multiple(&said.stdout).expect("YAML");
    let drafted: Vec<_> = drafted.iter().filter(|object| object.is_object()).collect();
    let names: Vec<_> = drafted
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["nightly", "reporter"]);
    assert!(drafted[1]["spec"].get("permissions").is_none(), "{said}");
    assert_eq!(
        drafted[1]["spec"]["launchers"],
        json!([]),
        "nobody was told, so nobody may"
    );

    let stranger = Identity::user(&unique("stranger"), &[]);
    let said = draft(&world, &stranger, &[&namespace]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said}");
    assert!(said.stderr.contains("cannot list resource \"pods\""), "{said}");
    let said = draft(&world, &Identity::Admin, &["no-such-namespace"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said}");
    assert!(
        said.stderr.contains("namespace no-such-namespace does not exist"),
        "{said}"
    );
}
