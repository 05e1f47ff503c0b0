//! What people do by hand, each with a certificate of their own, kubectl, and the role that they would be given: a tenant, an
//! admin of another namespace, a reader.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, Output, eventually, unique};

use crate::world::{SOON, TENANT, World, all, one, pod, workflow, workload};

/// Somebody at a terminal, in one namespace.
struct Person<'a> {
    world: &'a World,
    identity: Identity,
    namespace: &'a str,
}

impl<'a> Person<'a> {
    async fn new(world: &'a World, namespace: &'a str, role: &str) -> Self {
        let (identity, _) = world.person(namespace, role).await;
        Self {
            world,
            identity,
            namespace,
        }
    }

    fn name(&self) -> &str {
        match &self.identity {
            Identity::User { name, .. } => name,
            _ => unreachable!("people are users"),
        }
    }

    async fn says(&self, arguments: &[&str]) -> Output {
        let here = ["--namespace", self.namespace];
        let arguments: Vec<_> = here.iter().chain(arguments).copied().collect();
        self.world
            .cluster
            .kubectl_as(&self.identity, &arguments)
            .await
            .expect("kubectl")
    }

    /// Of a command that must go well.
    async fn does(&self, arguments: &[&str]) -> String {
        let said = self.says(arguments).await;
        assert!(said.success, "{arguments:?}: {said}");
        said.to_string()
    }

    /// Of a command that must fail, with each of these words.
    async fn must_not(&self, arguments: &[&str], words: &[&str]) {
        let said = self.says(arguments).await;
        assert!(!said.success, "{arguments:?}: {said}");
        for word in words {
            assert!(
                said.stderr.contains(word),
                "{word:?} is missing after {arguments:?}: {said}"
            );
        }
    }

    fn file(&self, manifests: &[Value]) -> String {
        let path = self
            .world
            .cluster
            .directory()
            .join(format!("{}.json", unique("by-hand")));
        let mut items = manifests.to_vec();
        for item in &mut items {
            item["metadata"]["namespace"] = json!(self.namespace);
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        std::fs::write(&path, list.to_string()).expect("writing manifests");
        path.display().to_string()
    }
}

#[tokio::test]
async fn a_tenant_declares_launches_looks_changes_and_ends() {
    let world = World::shared().await;
    let ns = &world.enforced("by-hand").await;
    let tia = Person::new(&world, ns, TENANT).await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let declared = workflow(
        "triage",
        &json!({"launchers": [{"user": tia.name()}], "permissions": {"rules": rules}}),
    );
    let file = tia.file(&[declared.clone(), workload("Job", &pod("triage", "triage"))]);
    tia.does(&["apply", "-f", &file]).await;
    tia.does(&["wait", "--for=condition=Ready", "aiw/triage", "--timeout=60s"])
        .await;
    eventually(SOON, || async {
        let pods = tia.says(&["get", "pods", "--output=name"]).await;
        ensure!(pods.stdout.contains("pod/triage-"), "{pods}");
        Ok(())
    })
    .await;

    let table = tia.does(&["get", "aiw"]).await;
    for word in [
        "NAME", "ENGINE", "ACCOUNT", "MODE", "READY", "REASON", "AGE", "triage", "custom", "Enforce", "True", "Fenced",
    ] {
        assert!(table.contains(word), "{word} is missing in: {table}");
    }
    assert!(
        tia.does(&["get", "aiworkflows", "--output=wide"])
            .await
            .contains("the fence stands")
    );
    // What she needs to know of the fence she may read: what it says, what it is made of, and what happened.
    let described = tia.does(&["describe", "aiworkflow", "triage"]).await;
    for word in [
        "Accepted",
        "ResolvedRefs",
        "Programmed",
        "Effective Rules",
        "configmaps",
        "Fenced",
    ] {
        assert!(described.contains(word), "{word} is missing in: {described}");
    }
    eventually(SOON, || async {
        let events = tia.says(&["events", "--for=aiworkflow/triage"]).await;
        ensure!(events.stdout.contains("Fenced"), "{events}");
        Ok(())
    })
    .await;
    let explained = tia.does(&["explain", "aiworkflow.spec.launchers"]).await;
    assert!(explained.contains("cluster administrators included"), "{explained}");
    let made = tia
        .does(&["get", "serviceaccounts,networkpolicies", "--output=name"])
        .await;
    assert!(
        made.contains("serviceaccount/triage") && made.contains("networkpolicy.networking.k8s.io/ringfence"),
        "{made}"
    );
    assert!(
        tia.does(&["apply", "-f", &file])
            .await
            .lines()
            .all(|line| line.ends_with("unchanged"))
    );

    // Nothing undeclared; and each no says what to do.
    let mut image = pod("image", "triage");
    image["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
    tia.must_not(
        &["apply", "-f", &tia.file(&[image])],
        &["[approved-images]", "spec.containers[0].image", "Fix: "],
    )
    .await;
    let mut stray = pod("stray", "triage");
    stray["metadata"]["labels"] = json!({});
    tia.must_not(&["apply", "-f", &tia.file(&[stray])], &["[declared-workflow]", "Fix: "])
        .await;
    tia.must_not(
        &[
            "apply",
            "-f",
            &tia.file(&[workflow("bad", &json!({"images": ["UPPER"]}))]),
        ],
        &["[valid-declaration]", "spec.images[0]", "Fix: "],
    )
    .await;
    let grant = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "self"},
        "spec": {"from": [{"namespace": "x", "name": "x"}], "rules": rules},
    });
    for (arguments, word) in [
        (["apply", "-f", &tia.file(&[grant])], "aiworkflowgrants"),
        (
            ["delete", "networkpolicy", "ringfence"],
            "cannot delete resource \"networkpolicies\"",
        ),
        (
            ["delete", "serviceaccount", "triage"],
            "cannot delete resource \"serviceaccounts\"",
        ),
        (
            ["create", "token", "triage"],
            "cannot create resource \"serviceaccounts/token\"",
        ),
        (["get", "aiwc", "default"], "cannot get resource \"aiworkflowclasses\""),
    ] {
        tia.must_not(&arguments, &["orbidden", word]).await;
    }
    let enforce = ["label", "namespace", ns.as_str(), "ringfence.dev/enforce-"];
    tia.must_not(&enforce, &["Forbidden"]).await;

    // A change is a change of the fence, and one outside the class says so at once and later.
    let wider = json!({"spec": {"network": {"egress": [{"name": "bank", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 443}]}]}}});
    let said = tia
        .says(&["patch", "aiw", "triage", "--type=merge", "--patch", &wider.to_string()])
        .await;
    assert!(
        said.success && said.stderr.contains("Warning") && said.stderr.contains("OutsideClass"),
        "{said}"
    );
    tia.does(&[
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=OutsideClass",
        "aiw/triage",
        "--timeout=60s",
    ])
    .await;
    let why = tia
        .does(&[
            "get",
            "aiw",
            "triage",
            "--output=jsonpath={.status.conditions[?(@.type==\"Accepted\")].message}",
        ])
        .await;
    assert!(
        why.contains("203.0.113.0/24") && why.contains("ask the platform team"),
        "{why}"
    );
    tia.does(&[
        "patch",
        "aiw",
        "triage",
        "--type=json",
        "--patch",
        r#"[{"op": "remove", "path": "/spec/network"}]"#,
    ])
    .await;
    tia.does(&["wait", "--for=condition=Ready", "aiw/triage", "--timeout=60s"])
        .await;

    tia.does(&["delete", "job,aiw", "triage", "--timeout=60s"]).await;
    world.admin.gone(&one("ServiceAccount", ns, "triage")).await;
    assert!(world.admin.items(&all("Role", ns)).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_admin_of_another_namespace_grants_and_takes_back() {
    let world = World::shared().await;
    let (home, vectors) = (
        &world.enforced("home").await,
        &world.namespace("vectors", &json!({})).await,
    );
    let (tia, ada) = (
        Person::new(&world, home, TENANT).await,
        Person::new(&world, vectors, "admin").await,
    );
    let rule = json!({"apiGroups": [""], "resources": ["services"], "resourceNames": ["qdrant"], "verbs": ["get"]});
    let across = json!({"permissions": {"crossNamespace": [{"namespace": vectors, "rules": [rule]}]}});
    tia.does(&["apply", "-f", &tia.file(&[workflow("triage", &across)])])
        .await;
    let reason = "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=NoGrant";
    tia.does(&["wait", reason, "aiw/triage", "--timeout=60s"]).await;
    let why = tia.does(&["get", "aiw", "triage", "--output=wide"]).await;
    assert!(
        why.contains(&format!("no AIWorkflowGrant in namespace {vectors}")),
        "{why}"
    );

    // She reads what she is asked for in the tenant's words, and grants no more than that.
    let grant = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "readers"},
        "spec": {"from": [{"namespace": home, "name": "triage"}], "rules": [rule]},
    });
    // The rights of `admin` over our kinds come by aggregation.
    let file = ada.file(std::slice::from_ref(&grant));
    eventually(SOON, || async {
        let said = ada.says(&["apply", "-f", &file]).await;
        ensure!(said.success, "{said}");
        Ok(())
    })
    .await;
    ada.does(&["wait", "--for=condition=Programmed", "aiwg/readers", "--timeout=60s"])
        .await;
    tia.does(&["wait", "--for=condition=Ready", "aiw/triage", "--timeout=60s"])
        .await;
    let as_triage = async |verb: &str, name: &str| {
        let attributes = json!({"verb": verb, "resource": "services", "namespace": vectors, "name": name});
        let review =
            json!({"spec": {"user": format!("system:serviceaccount:{home}:triage"), "resourceAttributes": attributes}});
        let answer = world
            .admin
            .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
            .await
            .ok();
        answer["status"]["allowed"] == json!(true)
    };
    eventually(SOON, || async {
        ensure!(as_triage("get", "qdrant").await, "the grant gives nothing yet");
        Ok(())
    })
    .await;
    assert!(!as_triage("get", "other").await && !as_triage("list", "").await);
    let described = ada.does(&["describe", "aiwg", "readers"]).await;
    assert!(described.contains("1 of 1 workflows hold rights here"), "{described}");

    // The roles are the grant's: what they say is not hers to change, and what nobody may hold she cannot grant.
    let role = ada.does(&["get", "roles", "--output=name"]).await;
    let role = role.trim();
    let widen = json!({"rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]}).to_string();
    ada.must_not(
        &["patch", role, "--type=merge", "--patch", &widen],
        &["ringfence-granted-objects", "AIWorkflowGrant readers", "Fix: "],
    )
    .await;
    let mut secrets = grant.clone();
    secrets["spec"]["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    ada.must_not(
        &["apply", "-f", &ada.file(&[secrets])],
        &["[valid-declaration]", "spec.rules[0].resources", "Fix: "],
    )
    .await;
    tia.must_not(&["get", "services", "--namespace", vectors], &["Forbidden"])
        .await;

    ada.does(&["delete", "aiwg", "readers"]).await;
    tia.does(&["wait", reason, "aiw/triage", "--timeout=60s"]).await;
    eventually(SOON, || async {
        ensure!(!as_triage("get", "qdrant").await, "still granted");
        Ok(())
    })
    .await;
}

/// On the way into a fence: what would be refused is told to whoever does it, and done.
#[tokio::test]
async fn a_tenant_is_warned_before_anybody_is_refused() {
    let world = World::shared().await;
    let ns = &world
        .namespace("warned", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let tia = Person::new(&world, ns, TENANT).await;
    let rita = Person::new(&world, ns, "view").await;
    let declared = workflow("triage", &json!({"launchers": [{"user": tia.name()}]}));
    tia.does(&["apply", "-f", &tia.file(&[declared])]).await;
    let reason = "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=NotEnforced";
    tia.does(&["wait", reason, "aiw/triage", "--timeout=60s"]).await;
    let account = one("ServiceAccount", ns, "triage");
    eventually(SOON, || async { world.admin.read(&account).await }).await;
    let mut image = pod("image", "triage");
    image["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
    let said = tia.says(&["apply", "-f", &tia.file(&[image])]).await;
    assert!(
        said.success && said.stderr.contains("Warning") && said.stderr.contains("approved-images"),
        "{said}"
    );

    // Who may only look sees the same, and changes nothing.
    eventually(SOON, || async {
        let table = rita.says(&["get", "aiw"]).await;
        ensure!(table.success && table.stdout.contains("NotEnforced"), "{table}");
        Ok(())
    })
    .await;
    rita.must_not(&["delete", "aiw", "triage"], &["Forbidden"]).await;
}
