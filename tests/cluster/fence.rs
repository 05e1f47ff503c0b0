//! The fence of one workflow: what is made of it, what follows its changes, and what stays when it goes.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{SOON, World, all, condition, one};

const KINDS: [&str; 4] = ["ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"];

fn spec() -> Value {
    json!({
        "owner": {"team": "finance-ml"},
        "permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["triage-config"], "verbs": ["get"]}]},
        "network": {
            "ingress": [{"name": "ui", "from": {"pods": {"selector": {"matchLabels": {"component": "ui"}}}}, "ports": [{"port": 8080}]}],
            "egress": [
                {"name": "qdrant", "to": {"pods": {"namespace": "vectors", "selector": {"matchLabels": {"app": "qdrant"}}}}, "ports": [{"port": 6334, "endPort": 6336}]},
                {"name": "bank", "to": {"cidrs": ["203.0.113.0/24", "169.254.0.0/16"], "except": ["203.0.113.8/32"]}, "ports": [{"port": 443}, {"port": 443, "protocol": "UDP"}]},
                {"name": "api-server", "to": {"apiServer": {}}},
            ],
        },
    })
}

/// Without what the API server writes, and without null and empty lists, which it drops.
fn said(object: &Value) -> Value {
    let mut object = crate::objects::said(object);
    // A hash over what was sent: what it hashes is compared whole.
    let revision = object["metadata"]["annotations"]
        .as_object_mut()
        .and_then(|all| all.remove("ringfence.dev/revision"));
    assert!(revision.is_none_or(|revision| revision.as_str().is_some_and(|hash| !hash.is_empty())));
    without_empty_lists(&object)
}

fn without_empty_lists(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_empty_lists).collect(),
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty))
            .map(|(key, value)| (key.clone(), without_empty_lists(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Where pods reach the API server, as the cluster itself says.
async fn api_server(world: &World) -> Vec<Value> {
    let slice = world
        .admin
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await
        .ok();
    let service = world
        .admin
        .get("/api/v1/namespaces/default/services/kubernetes")
        .await
        .ok();
    let pairs = [
        (&service["spec"]["clusterIPs"][0], &service["spec"]["ports"][0]["port"]),
        (&slice["endpoints"][0]["addresses"][0], &slice["ports"][0]["port"]),
    ];
    let rule = |(address, port): (&Value, &Value)| {
        let block = json!({"ipBlock": {"cidr": format!("{}/32", address.as_str().expect("an address"))}});
        json!({"to": [block], "ports": [{"protocol": "TCP", "port": port}]})
    };
    pairs.into_iter().map(rule).collect()
}

#[tokio::test]
async fn a_workflow_becomes_account_role_binding_and_policies() {
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "images": {"allowed": ["**"]},
            "permissions": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}],
            "network": {"cidrs": ["203.0.113.0/24", "169.254.0.0/16"], "namespaces": ["vectors"]},
        }))
        .await;
    let ns = &world
        .namespace("objects", &json!({"ringfence.dev/enforce": class}))
        .await;
    let workflow = world.ready(ns, "triage", &spec()).await;
    let uid = &workflow["metadata"]["uid"];
    let metadata = |name: &str| {
        json!({
            "name": name,
            "namespace": ns,
            "labels": {"app.kubernetes.io/managed-by": "ringfence", "app.kubernetes.io/instance": "triage", "ringfence.dev/owner": "triage"},
            "annotations": {"ringfence.dev/owner-uid": uid},
            "ownerReferences": [{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "name": "triage", "uid": uid, "controller": true}],
        })
    };
    let [role, binding, allow] = ["role", "binding", "allow"].map(|part| owned_name(ns, "triage", part));
    let rbac = "rbac.authorization.k8s.io";
    let of = |namespace: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let mut egress = vec![
        json!({
            "to": [
                {"namespaceSelector": of("kube-system"), "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}},
                {"ipBlock": {"cidr": "169.254.20.10/32"}},
            ],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }),
        json!({
            "to": [{"namespaceSelector": of("vectors"), "podSelector": {"matchLabels": {"app": "qdrant"}}}],
            "ports": [{"protocol": "TCP", "port": 6334, "endPort": 6336}],
        }),
        json!({
            "to": [
                {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/32"]}},
                {"ipBlock": {"cidr": "169.254.0.0/16", "except": ["169.254.0.23/32", "169.254.42.42/32", "169.254.169.252/32", "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32"]}},
            ],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 443}],
        }),
    ];
    egress.extend(api_server(&world).await);
    let expected = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("triage"), "automountServiceAccountToken": false}),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata(&role),
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["triage-config"], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata(&binding),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "triage", "namespace": ns}],
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(&allow),
            "spec": {
                "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": [{"namespaceSelector": of(ns), "podSelector": {"matchLabels": {"component": "ui"}}}],
                    "ports": [{"protocol": "TCP", "port": 8080}],
                }],
                "egress": egress,
            },
        }),
    ];
    for object in expected {
        let (kind, name) = (
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap(),
        );
        assert_eq!(said(&world.admin.get(&one(kind, ns, name)).await.ok()), object);
        let count = world.admin.items(&all(kind, ns)).await.unwrap().len();
        // Beside ours: the account `default`, and the namespace's default-deny.
        let foreign = usize::from(matches!(kind, "ServiceAccount" | "NetworkPolicy"));
        assert_eq!(count, 1 + foreign, "{kind}: nothing more is made");
    }
    let namespace = world.admin.get(&format!("/api/v1/namespaces/{ns}")).await.ok();
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "ringfence",
            "namespace": ns,
            "labels": {"app.kubernetes.io/managed-by": "ringfence", "app.kubernetes.io/instance": "ringfence", "ringfence.dev/owner": "ringfence"},
            "annotations": {"ringfence.dev/owner-uid": namespace["metadata"]["uid"]},
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    assert_eq!(
        said(&world.admin.get(&one("NetworkPolicy", ns, "ringfence")).await.ok()),
        deny
    );
}

#[tokio::test]
async fn a_workflow_tells_how_it_stands() {
    let world = World::shared().await;
    let ns = &world.enforced("tells").await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let workflow = world
        .ready(ns, "triage", &json!({"permissions": {"rules": rules}}))
        .await;
    let status = &workflow["status"];
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["mode"], "Enforce");
    assert_eq!(status["effectiveRules"], rules);
    let account = world.admin.get(&one("ServiceAccount", ns, "triage")).await.ok();
    assert_eq!(
        status["serviceAccount"],
        json!({"name": "triage", "uid": account["metadata"]["uid"]})
    );
    for (type_, reason) in [
        ("Accepted", "Accepted"),
        ("ResolvedRefs", "Resolved"),
        ("Programmed", "Applied"),
        ("Ready", "Fenced"),
    ] {
        let condition = condition(&workflow, type_);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!(reason)),
            "{type_}"
        );
        assert_eq!(condition["observedGeneration"], 1, "{type_}");
        assert!(!condition["message"].as_str().unwrap().is_empty(), "{type_}");
    }

    let table = world.cluster.kubectl(&["get", "aiw", "--namespace", ns]).await.unwrap();
    let lines: Vec<Vec<&str>> = table
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "ENGINE", "ACCOUNT", "MODE", "READY", "REASON", "AGE"],
        "{table}"
    );
    assert_eq!(
        lines[1][..6],
        ["triage", "custom", "triage", "Enforce", "True", "Fenced"],
        "{table}"
    );
    let wide = world
        .cluster
        .kubectl(&["get", "aiw", "--namespace", ns, "-o", "wide"])
        .await
        .unwrap();
    assert!(wide.stdout.contains("the fence stands"), "{wide}");

    eventually(SOON, || async {
        let events = world.admin.items(&all("Event", ns)).await?;
        let of_ready = events.iter().any(|event| {
            event["reason"] == "Fenced"
                && event["type"] == "Normal"
                && event["regarding"]["name"] == "triage"
                && event["regarding"]["uid"] == workflow["metadata"]["uid"]
        });
        ensure!(of_ready, "no Event tells of it: {events:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_declaration_changes_the_fence_and_its_end_ends_it() {
    let world = World::shared().await;
    let ns = &world.enforced("changes").await;
    let rules = |verbs: &[&str]| json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}});
    world.ready(ns, "triage", &rules(&["get"])).await;
    let path = one("AIWorkflow", ns, "triage");
    let [role, binding, allow] = [("Role", "role"), ("RoleBinding", "binding"), ("NetworkPolicy", "allow")]
        .map(|(kind, part)| one(kind, ns, &owned_name(ns, "triage", part)));
    let account = one("ServiceAccount", ns, "triage");
    let account_uid = world.admin.get(&account).await.ok()["metadata"]["uid"].clone();

    let mut changed = rules(&["get", "list"]);
    changed["network"] = json!({"egress": [{"name": "db", "to": {"pods": {"selector": {"matchLabels": {"app": "db"}}}}, "ports": [{"port": 5432}]}]});
    world.admin.patch(&path, &json!({"spec": changed})).await.ok();
    let workflow = world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert_eq!(workflow["status"]["observedGeneration"], 2);
    assert_eq!(
        world.admin.get(&role).await.ok()["rules"][0]["verbs"],
        json!(["get", "list"])
    );
    let egress = world.admin.get(&allow).await.ok()["spec"]["egress"].clone();
    assert_eq!(
        egress[1]["ports"],
        json!([{"protocol": "TCP", "port": 5432}]),
        "{egress}"
    );

    world
        .admin
        .patch(&path, &json!({"spec": {"permissions": null}}))
        .await
        .ok();
    let workflow = world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert_eq!(workflow["status"]["effectiveRules"], Value::Null);
    assert!(
        !world.admin.is_there(&role).await.unwrap(),
        "without rules there is no Role"
    );
    assert!(!world.admin.is_there(&binding).await.unwrap(), "and no RoleBinding");
    assert_eq!(
        world.admin.get(&account).await.ok()["metadata"]["uid"],
        account_uid,
        "the account is the same one"
    );

    world.admin.patch(&path, &json!({"spec": rules(&["get"])})).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert!(world.admin.is_there(&binding).await.unwrap());

    world.admin.delete(&path).await.ok();
    for owned in [&account, &role, &binding, &allow] {
        world.admin.gone(owned).await;
    }
    assert!(
        world
            .admin
            .is_there(&one("NetworkPolicy", ns, "ringfence"))
            .await
            .unwrap(),
        "the default-deny is the namespace's"
    );
}

#[tokio::test]
async fn a_weaker_mode_makes_less() {
    let world = World::shared().await;
    let spec = json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}});

    let warned = &world
        .namespace("warned", &json!({"ringfence.dev/warn": "default"}))
        .await;
    world
        .tess
        .post(&all("AIWorkflow", warned), &crate::world::workflow("triage", &spec))
        .await
        .ok();
    let workflow = world.condition(warned, "triage", "Ready", "False", "NotEnforced").await;
    assert_eq!(workflow["status"]["mode"], "Warn");
    assert_eq!(condition(&workflow, "Programmed")["status"], "True");
    for kind in KINDS {
        let made = world.admin.items(&all(kind, warned)).await.unwrap();
        assert!(
            made.iter()
                .any(|object| object["metadata"]["labels"]["app.kubernetes.io/instance"] == "triage"),
            "{kind}"
        );
    }
    assert!(
        !world
            .admin
            .is_there(&one("NetworkPolicy", warned, "ringfence"))
            .await
            .unwrap(),
        "only enforce closes the namespace"
    );

    let audited = world
        .namespace("audited", &json!({"ringfence.dev/audit": "default"}))
        .await;
    let plain = world.namespace("plain", &json!({})).await;
    for ns in [&audited, &plain] {
        world
            .tess
            .post(&all("AIWorkflow", ns), &crate::world::workflow("triage", &spec))
            .await
            .ok();
        let workflow = world
            .condition(ns, "triage", "Ready", "False", "NamespaceNotFenced")
            .await;
        assert_eq!(condition(&workflow, "Accepted")["reason"], "NamespaceNotFenced");
        let message = condition(&workflow, "Accepted")["message"].as_str().unwrap();
        assert!(
            message.contains("ringfence.dev/warn=<class>"),
            "the next step: {message}"
        );
        assert_eq!(message.contains("only audits"), *ns == audited, "{message}");
        assert_eq!(workflow["status"]["serviceAccount"], Value::Null);
        for kind in KINDS {
            let made = world.admin.items(&all(kind, ns)).await.unwrap();
            let foreign = made.iter().all(|object| object["metadata"]["name"] == "default");
            assert!(foreign, "nothing is made in {ns}: {made:?}");
        }
    }
}
