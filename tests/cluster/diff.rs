//! `ringfence diff` says beforehand what the operator then does, and nothing once it is done.

use serde_json::{Value, json};
use support::{Identity, Output, unique};

use crate::world::{BINARY, World, all, condition, one, workflow};

/// Writes manifests to a file of the test's own.
fn file(world: &World, manifests: &[Value]) -> String {
    let path = world.cluster.directory().join(format!("{}.json", unique("diff")));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
    std::fs::write(&path, list.to_string()).expect("writing manifests");
    path.display().to_string()
}

pub async fn diff_as(world: &World, identity: &Identity, manifests: &[Value], more: &[&str]) -> Output {
    let file = file(world, manifests);
    let arguments = [&["diff", file.as_str()], more].concat();
    let said = world.cluster.ringfence_as(identity, BINARY, &arguments).await;
    said.expect("ringfence diff")
}

async fn diff(world: &World, manifests: &[Value]) -> Output {
    diff_as(world, &Identity::Admin, manifests, &[]).await
}

/// The changes that are foretold, as `create Role name`.
async fn changes(world: &World, manifests: &[Value]) -> (Vec<String>, Value) {
    let said = diff_as(world, &Identity::Admin, manifests, &["-o", "json"]).await;
    let told: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let changes = told["changes"].as_array().expect("changes");
    assert_eq!(said.code, Some(i32::from(!changes.is_empty())), "{said}");
    let text = |change: &Value, key: &str| change[key].as_str().expect("a text").to_owned();
    let short = |change: &Value| {
        // What is of the cluster is told by its name.
        let place = if change["namespace"].is_null() {
            "name"
        } else {
            "namespace"
        };
        format!(
            "{} {} {}",
            text(change, "change"),
            text(change, "kind"),
            text(change, place)
        )
    };
    (changes.iter().map(short).collect(), told)
}

fn in_namespace(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut object = workflow(name, spec);
    object["metadata"]["namespace"] = json!(namespace);
    object
}

fn rule(resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": verbs})
}

/// Bound before the fence, a name gets no account: whoever makes it would hand the rights out.
#[tokio::test]
async fn a_name_that_somebody_has_bound_gets_no_account() {
    let world = World::shared().await;
    let home = world.namespace("bound", &json!({})).await;
    let subject = json!({"kind": "ServiceAccount", "namespace": home, "name": "triage"});
    world.bind(&home, "view", &subject).await;
    world.enforce(&home).await;
    let of = async |name: &str| {
        let (foretold, told) = changes(&world, &[in_namespace(&home, name, &json!({}))]).await;
        let said = told["conditions"][0]["conditions"].as_array().unwrap();
        let programmed = said.iter().find(|condition| condition["type"] == "Programmed");
        (foretold, programmed.cloned().unwrap_or_default())
    };
    let account = format!("create ServiceAccount {home}");
    let (foretold, programmed) = of("triage").await;
    assert!(!foretold.contains(&account), "{foretold:?}");
    assert_eq!(
        (&programmed["status"], &programmed["reason"]),
        (&json!("False"), &json!("Conflict")),
        "{programmed}"
    );
    let message = programmed["message"].as_str().unwrap();
    assert!(message.contains(&format!("RoleBinding {home}/binding")), "{message}");
    let (foretold, _) = of("other").await;
    assert!(foretold.contains(&account), "{foretold:?}");
}

#[tokio::test]
async fn what_is_foretold_is_what_happens_and_then_nothing_differs() {
    let world = World::shared().await;
    // The launcher's rights lie below the ceiling, which a diff does not look at.
    let class = world
        .class(&json!({
            "images": {"allowed": ["**"]},
            "permissions": [rule("configmaps", &["get"]), rule("services", &["get"])],
            "engines": [{"name": "runner", "launcher": [rule("pods", &["get", "list"])]}],
        }))
        .await;
    let home = world.namespace("diff", &json!({"ringfence.dev/enforce": class})).await;
    let vectors = world.namespace("vectors", &json!({})).await;
    let spec = json!({
        "engine": "runner",
        "launchers": [{"user": "lea"}, {"serviceAccount": {"namespace": vectors, "name": "airflow"}}],
        "permissions": {
            "rules": [rule("configmaps", &["get"])],
            "crossNamespace": [{"namespace": vectors, "rules": [rule("services", &["get"])]}],
        },
        "network": {"egress": [
            {"name": "api-server", "to": {"apiServer": {}}},
            {"name": "db", "to": {"pods": {"selector": {"matchLabels": {"app": "db"}}}}, "ports": [{"port": 5432}]},
        ]},
    });
    let triage = in_namespace(&home, "triage", &spec);
    let grant = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "readers", "namespace": vectors},
        "spec": {"from": [{"namespace": home, "name": "triage"}], "rules": [rule("services", &["get", "list"])]},
    });
    let input = [triage.clone(), grant];

    let (foretold, told) = changes(&world, &input).await;
    assert_eq!(
        foretold,
        [
            format!("create AIWorkflow {home}"),
            format!("create NetworkPolicy {home}"),
            format!("create ServiceAccount {home}"),
            format!("create Role {home}"),
            format!("create Role {home}"),
            format!("create RoleBinding {home}"),
            format!("create RoleBinding {home}"),
            format!("create AIWorkflowGrant {vectors}"),
            format!("create Role {vectors}"),
            format!("create RoleBinding {vectors}"),
        ]
    );
    assert!(
        !world.admin.is_there(&one("AIWorkflow", &home, "triage")).await.unwrap(),
        "it only tells"
    );

    let said = world.apply(&input).await;
    assert!(said.success, "{said}");
    let live = world.condition(&home, "triage", "Ready", "True", "Fenced").await;
    // A grant looks again when its workflow's account stands.
    support::eventually(crate::world::SOON, || async {
        let said = diff(&world, &input).await;
        anyhow::ensure!(said.code == Some(0) && said.stdout.is_empty(), "{said}");
        Ok(())
    })
    .await;
    // Each object is there as it was foretold, but for the UID that nobody knew.
    for change in told["changes"].as_array().unwrap() {
        let text = |key: &str| change[key].as_str().unwrap();
        let stored = world
            .admin
            .read(&one(text("kind"), text("namespace"), text("name")))
            .await
            .unwrap();
        for field in ["rules", "subjects", "roleRef", "automountServiceAccountToken"] {
            assert_eq!(change["after"].get(field), stored.get(field), "{field} of {change}");
        }
        assert_eq!(change["after"]["metadata"]["labels"], stored["metadata"]["labels"]);
    }
    for said in told["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|said| said["kind"] == "AIWorkflow")
    {
        for foretold in said["conditions"].as_array().unwrap() {
            let stored = condition(&live, foretold["type"].as_str().unwrap());
            assert_eq!(
                (&foretold["status"], &foretold["reason"]),
                (&stored["status"], &stored["reason"]),
                "{said}"
            );
        }
    }

    // A narrower declaration: what is taken away is shown line by line, and the grant's role goes with the rule.
    let mut narrower = triage.clone();
    narrower["spec"]["permissions"] = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]}]});
    narrower["spec"]["network"]["egress"][1]["ports"][0]["port"] = json!(6432);
    let said = diff(&world, &[narrower.clone()]).await;
    assert_eq!(said.code, Some(1), "{said}");
    for (sign, end) in [
        ('-', " port: 5432"),
        ('+', " port: 6432"),
        ('+', " resourceNames:"),
        ('+', " - one"),
    ] {
        let shown = |line: &str| line.starts_with(sign) && line.ends_with(end);
        assert!(said.stdout.lines().any(shown), "{sign}{end}: {said}");
    }
    assert!(
        said.stdout
            .contains(&format!("--- live/NetworkPolicy/{home}/ringfence-triage-allow-")),
        "{said}"
    );
    assert!(
        said.stderr
            .contains(&format!("# AIWorkflow {home}/triage: Accepted=True (Accepted), ")),
        "{said}"
    );
    let (foretold, _) = changes(&world, &[narrower]).await;
    assert_eq!(
        foretold,
        [
            format!("replace AIWorkflow {home}"),
            format!("replace NetworkPolicy {home}"),
            format!("replace Role {home}"),
            format!("delete RoleBinding {vectors}"),
            format!("delete Role {vectors}"),
        ]
    );

    // What names no namespace is of the one that is given, else of the context's.
    let mut nowhere = triage.clone();
    nowhere["metadata"].as_object_mut().unwrap().remove("namespace");
    let said = diff_as(&world, &Identity::Admin, &[nowhere], &["-n", &home]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said}");

    // An account that cannot change is what the API server would say no to.
    let mut moved = triage;
    moved["spec"]["identity"] = json!({"serviceAccountName": "other"});
    let said = diff(&world, &[moved]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said}");
    assert!(said.stderr.contains("cannot change"), "{said}");
}

#[tokio::test]
async fn a_class_or_a_namespace_is_compared_for_everything_that_it_concerns() {
    let world = World::shared().await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [rule("configmaps", &["get"])]}))
        .await;
    let [one_space, other_space] = [
        world
            .namespace("diff-class", &json!({"ringfence.dev/enforce": class}))
            .await,
        world.namespace("diff-class", &json!({})).await,
    ];
    let spec = json!({"permissions": {"rules": [rule("configmaps", &["get"])]}});
    world.ready(&one_space, "reader", &spec).await;
    world
        .tess
        .post(&all("AIWorkflow", &other_space), &workflow("waiting", &spec))
        .await
        .ok();

    let narrower = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": {"images": {"allowed": ["**"]}}});
    let (foretold, told) = changes(&world, std::slice::from_ref(&narrower)).await;
    assert_eq!(
        foretold,
        [
            format!("replace AIWorkflowClass {class}"),
            format!("replace AIWorkflow {one_space}"),
            format!("delete RoleBinding {one_space}"),
            format!("delete Role {one_space}")
        ]
    );
    assert!(
        told["changes"][3]["before"]["rules"].is_array() && told["changes"][3].get("after").is_none(),
        "{told}"
    );
    assert_eq!(
        told["conditions"][0]["conditions"][0]["reason"], "OutsideClass",
        "{told}"
    );

    // A mode that is set brings the default-deny and the fences of all that waits there; with the class of the same input.
    let fenced = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other_space, "labels": {"ringfence.dev/enforce": class}}});
    let (foretold, _) = changes(&world, std::slice::from_ref(&fenced)).await;
    let created = [
        "NetworkPolicy",
        "NetworkPolicy",
        "ServiceAccount",
        "Role",
        "RoleBinding",
    ]
    .map(|kind| format!("create {kind} {other_space}"));
    assert_eq!(
        foretold,
        [&[format!("replace Namespace {other_space}")], &created[..]].concat()
    );
    let (foretold, _) = changes(&world, &[fenced, narrower]).await;
    let kinds: Vec<_> = foretold
        .iter()
        .filter(|change| change.ends_with(&other_space))
        .map(|change| change.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["Namespace", "NetworkPolicy", "NetworkPolicy", "ServiceAccount"],
        "{foretold:?}"
    );

    // A label of ours that the input lacks may go, which nobody knows here.
    let bare = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one_space}});
    let said = diff(&world, &[bare]).await;
    let told = format!("are taken to stay: ringfence.dev/enforce={class}");
    assert!(said.code == Some(0) && said.stderr.contains(&told), "{said}");

    // A namespace that is not there yet, with what shall be in it.
    let name = unique("diff-new");
    let new = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"ringfence.dev/enforce": "default"}}});
    let (foretold, _) = changes(&world, &[new, in_namespace(&name, "first", &json!({}))]).await;
    assert_eq!(foretold.len(), 5, "{foretold:?}");
    let said = diff(&world, &[in_namespace(&name, "first", &json!({}))]).await;
    assert_eq!(said.code, Some(2), "{said}");
    assert!(
        said.stderr.contains(&format!("namespace {name} does not exist")),
        "{said}"
    );
}

/// What the webhook alone reads of a declaration opens doors, and is no object that could differ.
#[tokio::test]
async fn what_becomes_no_object_is_told_as_the_declaration() {
    let world = World::shared().await;
    let opened = json!({
        "images": {"allowed": ["**"]},
        "identity": {"audiences": ["vault"]},
        "debug": {"maxHours": 24},
    });
    let class = world.class(&opened).await;
    let home = world
        .namespace("diff-doors", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(&home, "triage", &json!({})).await;
    let in_class = |spec: &Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": spec});
    let same = [in_namespace(&home, "triage", &json!({})), in_class(&opened)];
    assert_eq!(changes(&world, &same).await.0, Vec::<String>::new());

    for more in [
        json!({"launchers": [{"user": "lea"}, {"user": "mallory"}]}),
        json!({"images": ["**"]}),
        json!({"secrets": [{"name": "db", "secretRef": {"name": "db-root"}}]}),
        json!({"identity": {"audiences": [{"audience": "vault"}]}}),
        json!({"debug": {"allow": ["Exec"], "until": "2030-12-01T12:00:00Z"}}),
    ] {
        let changed = in_namespace(&home, "triage", &more);
        let (foretold, told) = changes(&world, std::slice::from_ref(&changed)).await;
        assert_eq!(foretold, [format!("replace AIWorkflow {home}")], "{more}");
        let [before, after] = ["before", "after"].map(|side| &told["changes"][0][side]["spec"]);
        assert_eq!(
            (before, after),
            (&workflow("triage", &json!({}))["spec"], &changed["spec"])
        );
        assert!(told["changes"][0]["after"].get("status").is_none(), "{told}");
    }
    let said = diff(
        &world,
        &[in_namespace(
            &home,
            "triage",
            &json!({"launchers": [{"user": "lea"}, {"user": "mallory"}]}),
        )],
    )
    .await;
    let shown = [
        format!("--- live/AIWorkflow/{home}/triage\n+++ applied/AIWorkflow/{home}/triage\n"),
        "\n+  - user: mallory\n".to_owned(),
    ];
    assert!(
        said.code == Some(1) && shown.iter().all(|words| said.stdout.contains(words)),
        "{said}"
    );

    for (field, more) in [
        ("podSecurity", json!("Baseline")),
        ("volumes", json!({"types": ["nfs"]})),
        ("launchers", json!([{"group": "developers"}])),
        ("podAnnotations", json!(["k8s.v1.cni.cncf.io/networks"])),
        ("debug", json!({"maxHours": 100})),
        ("exceptions", json!({"namespaces": ["platform"], "maxDays": 30})),
    ] {
        let mut wider = opened.clone();
        wider[field] = more;
        let (foretold, told) = changes(&world, &[in_class(&wider)]).await;
        assert_eq!(foretold, [format!("replace AIWorkflowClass {class}")], "{field}");
        assert_eq!(told["changes"][0]["after"]["spec"][field], wider[field], "{told}");
    }

    // What takes no object away takes the workflow itself out of its class, so that no pod of it comes any more.
    let mut narrower = opened.clone();
    narrower["images"]["allowed"] = json!(["other/**"]);
    let (foretold, told) = changes(&world, &[in_class(&narrower)]).await;
    let both = [
        format!("replace AIWorkflowClass {class}"),
        format!("replace AIWorkflow {home}"),
    ];
    assert_eq!(foretold, both, "{told}");
    let accepted = |side: &str| told["changes"][1][side]["status"]["conditions"][0].clone();
    assert_eq!(
        [accepted("before"), accepted("after")],
        [("True", "Accepted"), ("False", "OutsideClass")]
            .map(|(status, reason)| json!({"type": "Accepted", "status": status, "reason": reason}))
    );
    let new = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": unique("class")}, "spec": {}});
    let (foretold, _) = changes(&world, std::slice::from_ref(&new)).await;
    assert_eq!(
        foretold,
        [format!(
            "create AIWorkflowClass {}",
            new["metadata"]["name"].as_str().unwrap()
        )]
    );
}

#[tokio::test]
async fn what_is_somebody_elses_and_what_may_not_be_read_is_said() {
    let world = World::shared().await;
    let home = world.enforced("diff-taken").await;
    world
        .admin
        .post(&all("ServiceAccount", &home), &json!({"metadata": {"name": "runner"}}))
        .await
        .ok();
    let spec = json!({"permissions": {"rules": [rule("configmaps", &["get"])]}});
    let input = [in_namespace(&home, "runner", &spec)];
    let said = diff(&world, &input).await;
    assert_eq!(said.code, Some(1), "{said}");
    assert!(
        said.stdout.contains("+++ applied/NetworkPolicy/") && !said.stdout.contains("Role"),
        "{said}"
    );
    assert!(said.stderr.contains("Programmed=False (NameTaken)"), "{said}");
    assert!(
        said.stderr
            .contains("ServiceAccount runner exists and is not Ringfence's"),
        "{said}"
    );

    // One account for two: the first has it, as when both are applied.
    let shared =
        json!({"identity": {"serviceAccountName": "shared"}, "permissions": {"rules": [rule("configmaps", &["get"])]}});
    let both = ["one", "two"].map(|name| in_namespace(&home, name, &shared));
    let (foretold, told) = changes(&world, &both).await;
    let made = |kind: &str| foretold.iter().filter(|change| change.contains(kind)).count();
    assert_eq!(
        (made(" ServiceAccount "), made(" Role "), made(" NetworkPolicy ")),
        (1, 1, 2),
        "{foretold:?}"
    );
    assert_eq!(told["conditions"][1]["conditions"][2]["reason"], "NameTaken", "{told}");

    let nobody = Identity::user(&unique("nobody"), &[]);
    let said = diff_as(&world, &nobody, &input, &[]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said}");
    for missing in [
        format!("  list aiworkflows.ringfence.dev in namespace {home}\n"),
        format!("  get namespaces in namespace {home}\n"),
        format!("  list networkpolicies.networking.k8s.io in namespace {home}\n"),
        format!("  list rolebindings.rbac.authorization.k8s.io in namespace {home}\n"),
    ] {
        assert!(said.stderr.contains(&missing), "{missing}: {said}");
    }
    // The right to read the class is asked for by name, when its name is known: the API server's own words.
    let reader = Identity::user(&unique("reader"), &[]);
    let Identity::User { name, .. } = &reader else {
        unreachable!()
    };
    world
        .bind(&home, "cluster-admin", &json!({"kind": "User", "name": name}))
        .await;
    support::eventually(crate::world::SOON, || async {
        let said = diff_as(&world, &reader, &input, &[]).await;
        let named = said
            .stderr
            .contains("cannot get resource \"aiworkflowclasses\" in API group \"ringfence.dev\"");
        let whole = said
            .stderr
            .contains("ask whoever runs the cluster for the ClusterRole ringfence-class-view");
        anyhow::ensure!(
            said.code == Some(2) && said.stdout.is_empty() && named && whole,
            "{said}"
        );
        Ok(())
    })
    .await;
}

/// What pods reach domains by, the class says: its policies are read as well, and the right to do so is named with what it is for.
#[tokio::test]
async fn what_depends_on_the_backend_is_asked_for_beforehand() {
    let world = World::shared().await;
    let name = unique("reader");
    let reader = Identity::user(&name, &[]);
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list"]});
    let rules = [
        read("", &["namespaces", "serviceaccounts"]),
        read("networking.k8s.io", &["networkpolicies"]),
        read(
            "rbac.authorization.k8s.io",
            &["roles", "rolebindings", "clusterrolebindings"],
        ),
        read("ringfence.dev", &["aiworkflows", "aiworkflowclasses"]),
    ];
    let of_cluster = async |rules: &[Value]| {
        let role = json!({"metadata": {"name": unique(&name)}, "rules": rules});
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        world.admin.post(&format!("{rbac}/clusterroles"), &role).await.ok();
        let binding = json!({
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role["metadata"]["name"]},
            "subjects": [{"kind": "User", "name": name}],
        });
        world
            .admin
            .post(&format!("{rbac}/clusterrolebindings"), &binding)
            .await
            .ok();
    };
    of_cluster(&rules).await;
    for (backend, place) in [
        ("Cilium", None),
        ("ResolvedAddresses", None),
        ("ClusterNetworkPolicy", Some(json!({"priority": 7}))),
    ] {
        let mut egress = json!({"backend": backend});
        if let Some(place) = place {
            egress["clusterNetworkPolicy"] = place;
        }
        let class = world
            .class(&json!({"images": {"allowed": ["**"]}, "network": {"domains": ["*"]}, "egress": egress}))
            .await;
        let home = world
            .namespace("diff-backend", &json!({"ringfence.dev/enforce": class}))
            .await;
        let domain = json!({"name": "llm", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]});
        let input = [in_namespace(&home, "triage", &json!({"network": {"egress": [domain]}}))];
        let kind = match backend {
            "Cilium" => format!("ciliumnetworkpolicies.cilium.io in namespace {home}"),
            "ResolvedAddresses" => format!("resolvednames.ringfence.dev in namespace {home}"),
            _ => format!("clusternetworkpolicies.policy.networking.k8s.io ringfence.{home}.triage in the cluster"),
        };
        // For a workflow without an account, pods are looked for that run already.
        let pods = (backend == "Cilium").then(|| format!("  list pods in namespace {home}"));
        let missing = ["get", "list"].map(|verb| format!("  {verb} {kind}"));
        let expected: Vec<_> = pods.into_iter().chain(missing).collect();
        support::eventually(crate::world::SOON, || async {
            let said = diff_as(&world, &reader, &input, &[]).await;
            let listed: Vec<_> = said.stderr.lines().filter(|line| line.starts_with("  ")).collect();
            anyhow::ensure!(said.code == Some(2) && said.stdout.is_empty(), "{said}");
            anyhow::ensure!(listed == expected, "{said}");
            Ok(())
        })
        .await;
        // Of one of the cluster's, the right to that one is enough.
        let (resource, group) = kind.split(' ').next().and_then(|kind| kind.split_once('.')).unwrap();
        let mut right = json!({"apiGroups": [group], "resources": [resource], "verbs": ["get", "list"]});
        if backend == "ClusterNetworkPolicy" {
            right["resourceNames"] = json!([format!("ringfence.{home}.triage")]);
        }
        of_cluster(&[right, read("", &["pods"])]).await;
        support::eventually(crate::world::SOON, || async {
            let said = diff_as(&world, &reader, &input, &[]).await;
            // Of what is not served here, the API server says so to who may read it.
            let (code, told) = match backend {
                "ResolvedAddresses" => (1, "+++ applied/"),
                _ => (2, "404 page not found"),
            };
            let all = format!("{}{}", said.stdout, said.stderr);
            anyhow::ensure!(said.code == Some(code) && all.contains(told), "{said}");
            Ok(())
        })
        .await;
    }
}

/// With the ClusterRoles that the chart has for it, and nothing else.
#[tokio::test]
async fn a_tenant_checks_and_compares_by_the_roles_that_are_meant_for_it() {
    let world = World::shared().await;
    let home = world.enforced("diff-tenant").await;
    let spec = json!({"permissions": {"rules": [rule("configmaps", &["get"])]}});
    world.ready(&home, "triage", &spec).await;
    let (tenant, _) = world.person(&home, crate::world::TENANT).await;
    let Identity::User { name, .. } = &tenant else {
        unreachable!()
    };
    let check = async |more: &[&str]| {
        let arguments = [&["check", "namespace", home.as_str(), "-o", "json"], more].concat();
        let said = world.cluster.ringfence_as(&tenant, BINARY, &arguments).await;
        said.expect("ringfence check")
    };
    let same = [in_namespace(&home, "triage", &spec)];

    // Without the second one both name it.
    let missing = "ask whoever runs the cluster for the ClusterRole ringfence-class-view";
    for said in [
        check(&["--skip-secrets"]).await,
        diff_as(&world, &tenant, &same, &[]).await,
    ] {
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said}");
        assert!(said.stderr.contains(missing), "{said}");
    }

    let bind = async |role: &str| {
        let binding = json!({
            "metadata": {"name": format!("{role}-{name}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        world.admin.post(bindings, &binding).await.ok();
    };
    bind("ringfence-class-view").await;
    support::eventually(crate::world::SOON, || async {
        let said = check(&["--skip-secrets", "--skip-rego-policies"]).await;
        anyhow::ensure!(said.code == Some(0), "{said}");
        Ok(())
    })
    .await;
    // What RegoPolicies would say is not known without the third one, and that is said.
    let said = check(&["--skip-secrets"]).await;
    let (role, flag) = ("ringfence-policy-view", "--skip-rego-policies");
    assert!(
        said.code == Some(2) && said.stderr.contains(role) && said.stderr.contains(flag),
        "{said}"
    );
    bind(role).await;
    support::eventually(crate::world::SOON, || async {
        let said = check(&["--skip-secrets"]).await;
        anyhow::ensure!(said.code == Some(0), "{said}");
        let report: Value = serde_json::from_str(&said.stdout)?;
        let summary = (&report["summary"]["complete"], &report["findings"]);
        anyhow::ensure!(summary == (&json!(true), &json!([])), "{report}");
        Ok(())
    })
    .await;
    // Secrets are not a tenant's to read, and that is said.
    let said = check(&[]).await;
    assert!(said.code == Some(2) && said.stdout.contains("secrets"), "{said}");

    let said = diff_as(&world, &tenant, &same, &[]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said}");
    let more = json!({"permissions": {"rules": [rule("configmaps", &["get", "list"])]}});
    for changed in [
        in_namespace(&home, "triage", &more),
        in_namespace(&home, "second", &spec),
    ] {
        let said = diff_as(&world, &tenant, &[changed], &[]).await;
        assert_eq!(said.code, Some(1), "{said}");
        assert!(said.stdout.contains("+++ applied/Role/"), "{said}");
    }
}
