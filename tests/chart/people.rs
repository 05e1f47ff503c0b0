//! What people hold by the chart's roles: asked of the API server, and tried with the credentials of those who hold them.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};
use support::{ControlPlane, Identity};

use crate::api::{Api, eventually, fate};
use crate::chart::{namespace, with_chart};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const OURS: &str = "ringfence.dev";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
/// All of them: reading a subresource that connects is connecting.
const CONNECT: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// What built-in `edit` holds and `ringfence-tenant` does not: group, resource, verbs, and why.
const LEFT_OUT: [(&str, &str, &[&str], &str); 11] = [
    (
        "",
        "serviceaccounts",
        &["impersonate"],
        "acts as the workflow, whose reads nothing admits",
    ),
    (
        "",
        "serviceaccounts",
        WRITE,
        "an account made again inherits every right of its name",
    ),
    (
        "",
        "serviceaccounts/token",
        &["create"],
        "a token of the workflow, or of its launcher",
    ),
    ("", "secrets", READ, "reads are never admitted"),
    (
        "",
        "secrets",
        &["patch", "delete", "deletecollection"],
        "the answer carries the Secret",
    ),
    ("", "pods/exec", CONNECT, "into a fenced pod"),
    ("", "pods/attach", CONNECT, "into a fenced pod"),
    ("", "pods/portforward", CONNECT, "past the network fence"),
    ("", "pods/proxy", CONNECT, "past the network fence"),
    ("", "services/proxy", CONNECT, "past the network fence"),
    ("networking.k8s.io", "networkpolicies", WRITE, "the fence itself"),
];

/// What it holds and `edit` does not: half of a fence, which `ringfence check` and `ringfence diff` read.
const ADDED: [&str; 2] = ["roles", "rolebindings"];

type Right = (String, String, String);

/// Every right of a cluster role, one by one.
async fn rights(admin: &Api, role: &str) -> BTreeSet<Right> {
    let role = admin.get(&format!("{RBAC}/clusterroles/{role}")).await.unwrap();
    let list = |rule: &Value, field: &str| -> Vec<String> {
        let items = rule[field].as_array().into_iter().flatten();
        items.map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        assert!(rule.get("resourceNames").is_none(), "{rule}");
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                for verb in list(rule, "verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

/// Waits until the built-in role has what ours add to it.
async fn aggregated(admin: &Api, role: &str, resource: &str, verb: &str) {
    let right = (OURS.to_owned(), resource.to_owned(), verb.to_owned());
    eventually("the aggregated role", || async {
        let found = rights(admin, role).await.contains(&right);
        found.then_some(()).ok_or(format!("{role} has no {verb} {resource}"))
    })
    .await;
}

#[tokio::test]
async fn the_tenants_role_is_edit_without_what_is_named_here() {
    let (admin, _chart) = with_chart().await;
    aggregated(&admin, "edit", "aiworkflows", "create").await;
    aggregated(&admin, "edit", "aiworkflowgrants", "get").await;
    let (mut edit, tenant) = (rights(&admin, "edit").await, rights(&admin, "ringfence-tenant").await);
    // A group that is in edit still, and that no API server has served since 1.22.
    assert_eq!(admin.get("/apis/extensions").await.unwrap_err().code, 404);
    edit.retain(|(group, _, _)| group != "extensions");

    let more: BTreeSet<Right> = tenant.difference(&edit).cloned().collect();
    let added = ADDED.iter().flat_map(|resource| {
        let group = "rbac.authorization.k8s.io";
        READ.iter()
            .map(move |verb| (group.to_owned(), (*resource).to_owned(), (*verb).to_owned()))
    });
    assert_eq!(more, added.collect(), "what ringfence-tenant holds and edit does not");
    let left_out: BTreeSet<Right> = LEFT_OUT
        .iter()
        .flat_map(|(group, resource, verbs, why)| {
            assert!(!why.is_empty());
            verbs
                .iter()
                .map(move |verb| (String::from(*group), String::from(*resource), String::from(*verb)))
        })
        .collect();
    let lacking: BTreeSet<Right> = edit.difference(&tenant).cloned().collect();
    let unexplained: Vec<_> = lacking.difference(&left_out).collect();
    assert!(
        unexplained.is_empty(),
        "edit of this Kubernetes holds what ringfence-tenant does not: add it to the role, or say here why not: {unexplained:#?}"
    );
    let stale: Vec<_> = left_out.difference(&lacking).collect();
    assert!(
        stale.is_empty(),
        "edit does not hold these, or the tenant does: {stale:#?}"
    );
}

/// Binds a cluster role in a namespace and returns the only holder, whom nothing else gives anything.
async fn holder(admin: &Api, ns: &str, role: &str) -> String {
    let user = format!("{role}-of-{ns}");
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let subjects = json!([{"kind": "User", "name": user}]);
    let binding = json!({"metadata": {"name": role}, "roleRef": reference, "subjects": subjects});
    admin
        .post(&format!("{RBAC}/namespaces/{ns}/rolebindings"), binding)
        .await
        .unwrap();
    user
}

async fn may(admin: &Api, user: &str, ns: &str, verb: &str, group: &str, resource: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes =
        json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": ns});
    let review = json!({"spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    admin.post(path, review).await.unwrap()["status"]["allowed"] == json!(true)
}

#[tokio::test]
async fn each_role_may_what_its_people_expect() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "people-roles", json!({})).await;
    aggregated(&admin, "view", "aiworkflows", "get").await;
    aggregated(&admin, "edit", "aiworkflows", "create").await;
    aggregated(&admin, "edit", "aiworkflows", "get").await;
    aggregated(&admin, "admin", "aiworkflows", "create").await;
    aggregated(&admin, "admin", "aiworkflowgrants", "create").await;
    const ROLES: [&str; 4] = ["view", "ringfence-tenant", "edit", "admin"];
    let mut users = Vec::new();
    for role in ROLES {
        users.push(holder(&admin, &ns, role).await);
    }
    eventually("the bindings", || async {
        for user in &users {
            if !may(&admin, user, &ns, "list", "", "pods").await {
                return Err(format!("{user} may not list pods"));
            }
        }
        Ok(())
    })
    .await;
    // In the order of ROLES.
    let (nobody, writers) = ([false; 4], [false, true, true, true]);
    for (verb, group, resource, expected) in [
        ("get", OURS, "aiworkflows", [true; 4]),
        ("watch", OURS, "aiworkflows/status", [true; 4]),
        ("list", OURS, "aiworkflowgrants", [true; 4]),
        ("create", OURS, "aiworkflows", writers),
        ("deletecollection", OURS, "aiworkflows", writers),
        ("update", OURS, "aiworkflows/status", nobody),
        ("create", OURS, "aiworkflowgrants", [false, false, false, true]),
        ("delete", OURS, "aiworkflowgrants", [false, false, false, true]),
        ("patch", OURS, "aiworkflowgrants/status", nobody),
        ("list", OURS, "regopolicyexceptions", [true; 4]),
        ("get", OURS, "regopolicyexceptions/status", [true; 4]),
        ("create", OURS, "regopolicyexceptions", nobody),
        ("update", OURS, "regopolicyexceptions", nobody),
        ("patch", OURS, "regopolicyexceptions", nobody),
        ("delete", OURS, "regopolicyexceptions", nobody),
        ("deletecollection", OURS, "regopolicyexceptions", nobody),
        ("update", OURS, "regopolicyexceptions/status", nobody),
        ("list", OURS, "resolvednames", [true; 4]),
        ("get", OURS, "resolvednames/status", [true; 4]),
        ("create", OURS, "resolvednames", nobody),
        ("patch", OURS, "resolvednames", nobody),
        ("delete", OURS, "resolvednames", nobody),
        ("update", OURS, "resolvednames/status", nobody),
        ("get", OURS, "regopolicies", nobody),
        ("create", OURS, "regopolicies", nobody),
        ("update", OURS, "regopolicies", nobody),
        ("get", OURS, "aiworkflowclasses", nobody),
        ("update", OURS, "aiworkflowclasses", nobody),
        ("approve", OURS, "aiworkflowclasses", nobody),
        ("create", "", "pods", writers),
        ("get", "", "pods/log", [true; 4]),
        ("create", "", "secrets", writers),
        ("update", "", "secrets", writers),
        ("patch", "apps", "deployments/scale", writers),
        ("create", "batch", "jobs", writers),
        ("get", "networking.k8s.io", "networkpolicies", [true; 4]),
        // By which `ringfence diff` tells what stands, where Cilium is.
        (
            "list",
            "cilium.io",
            "ciliumnetworkpolicies",
            [false, true, false, false],
        ),
        ("create", "cilium.io", "ciliumnetworkpolicies", nobody),
        // What makes edit and admin the wrong roles in a fenced namespace.
        ("impersonate", "", "serviceaccounts", [false, false, true, true]),
        ("create", "", "serviceaccounts", [false, false, true, true]),
        ("create", "", "serviceaccounts/token", [false, false, true, true]),
        ("get", "", "secrets", [false, false, true, true]),
        ("patch", "", "secrets", [false, false, true, true]),
        ("create", "", "pods/exec", [false, false, true, true]),
        ("get", "", "pods/exec", [false, false, true, true]),
        ("create", "", "pods/attach", [false, false, true, true]),
        ("create", "", "pods/portforward", [false, false, true, true]),
        ("get", "", "pods/proxy", [false, false, true, true]),
        ("get", "", "services/proxy", [false, false, true, true]),
        (
            "create",
            "networking.k8s.io",
            "networkpolicies",
            [false, false, true, true],
        ),
        ("list", "rbac.authorization.k8s.io", "roles", [false, true, false, true]),
        (
            "get",
            "rbac.authorization.k8s.io",
            "rolebindings",
            [false, true, false, true],
        ),
        (
            "update",
            "rbac.authorization.k8s.io",
            "roles",
            [false, false, false, true],
        ),
        (
            "create",
            "rbac.authorization.k8s.io",
            "rolebindings",
            [false, false, false, true],
        ),
        ("patch", "", "pods/ephemeralcontainers", nobody),
        ("create", "", "pods/binding", nobody),
        ("patch", "", "namespaces", nobody),
        ("update", "", "endpoints", nobody),
        ("update", "discovery.k8s.io", "endpointslices", nobody),
    ] {
        for ((role, user), expected) in ROLES.iter().zip(&users).zip(expected) {
            let found = may(&admin, user, &ns, verb, group, resource).await;
            assert_eq!(found, expected, "{role}: {verb} {resource}.{group}");
        }
    }
    for user in &users {
        assert!(
            !may(&admin, user, "default", "list", OURS, "aiworkflows").await,
            "{user}"
        );
    }
}

/// By requests rather than by questions: what an answer carries, no authorizer can tell.
#[tokio::test]
async fn a_tenant_works_and_reads_no_secret_by_any_request() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "people-tenant", json!({})).await;
    let tenant = admin.user(&holder(&admin, &ns, "ringfence-tenant").await);
    let core = format!("/api/v1/namespaces/{ns}");
    eventually("the binding", || async {
        let answer = tenant.get(&format!("{core}/pods")).await;
        answer.map(drop).map_err(|refusal| refusal.message)
    })
    .await;
    let secret = |data: &str| json!({"metadata": {"name": "openai"}, "stringData": {"API_KEY": data}});
    let container = json!({"name": "x", "image": "x"});
    let workflow = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage"},
        "spec": {"launchers": [], "images": ["x/**"]}});
    let workflows = format!("/apis/{OURS}/v1alpha1/namespaces/{ns}/aiworkflows");
    for (method, path, body) in [
        (Method::POST, format!("{core}/secrets"), secret("first")),
        (Method::PUT, format!("{core}/secrets/openai"), secret("topsecret")),
        (
            Method::POST,
            format!("{core}/configmaps"),
            json!({"metadata": {"name": "x"}}),
        ),
        (
            Method::POST,
            format!("{core}/pods"),
            json!({"metadata": {"name": "x"}, "spec": {"containers": [container]}}),
        ),
        (Method::POST, workflows.clone(), workflow),
    ] {
        let found = fate(tenant.send(method.clone(), &path, Some(body)).await);
        // Admission comes after the right: what a webhook would say is another test's.
        assert!(
            found == "done" || found.starts_with("webhook "),
            "{method} {path}: {found}"
        );
    }
    let rbac = format!("{RBAC}/namespaces/{ns}");
    for path in [
        format!("{core}/pods/x"),
        format!("{core}/serviceaccounts"),
        format!("{rbac}/roles"),
        format!("{rbac}/rolebindings"),
        workflows,
    ] {
        assert_eq!(fate(tenant.get(&path).await), "done", "{path}");
    }

    let policies = format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies");
    let grants = format!("/apis/{OURS}/v1alpha1/namespaces/{ns}/aiworkflowgrants");
    let nothing = json!({});
    let named = json!({"metadata": {"name": "x"}});
    for (method, path, body) in [
        (Method::GET, format!("{core}/secrets/openai"), None),
        (Method::GET, format!("{core}/secrets"), None),
        (Method::GET, format!("{core}/secrets?watch=1&timeoutSeconds=1"), None),
        (
            Method::PATCH,
            format!("{core}/secrets/openai?dryRun=All"),
            Some(&nothing),
        ),
        (
            Method::DELETE,
            format!("{core}/secrets/openai?propagationPolicy=Foreground"),
            None,
        ),
        (Method::DELETE, format!("{core}/secrets?dryRun=All"), None),
        (Method::POST, format!("{core}/serviceaccounts"), Some(&named)),
        (Method::PATCH, format!("{core}/serviceaccounts/default"), Some(&nothing)),
        (Method::DELETE, format!("{core}/serviceaccounts/default"), None),
        (
            Method::POST,
            format!("{core}/serviceaccounts/default/token"),
            Some(&nothing),
        ),
        (Method::POST, format!("{core}/pods/x/exec?command=id&stdout=1"), None),
        (Method::GET, format!("{core}/pods/x/exec?command=id&stdout=1"), None),
        (Method::GET, format!("{core}/pods/x/attach?stdout=1"), None),
        (Method::GET, format!("{core}/pods/x/portforward?ports=80"), None),
        (Method::GET, format!("{core}/pods/x/proxy/"), None),
        (Method::GET, format!("{core}/services/x/proxy/"), None),
        (
            Method::PATCH,
            format!("{core}/pods/x/ephemeralcontainers"),
            Some(&nothing),
        ),
        (Method::POST, format!("{core}/pods/x/binding"), Some(&nothing)),
        (Method::POST, format!("{core}/bindings"), Some(&named)),
        (Method::POST, policies.clone(), Some(&named)),
        (Method::DELETE, policies, None),
        (Method::POST, format!("{rbac}/roles"), Some(&named)),
        (Method::POST, format!("{rbac}/rolebindings"), Some(&named)),
        (Method::POST, grants, Some(&named)),
        (Method::GET, format!("/apis/{OURS}/v1alpha1/aiworkflowclasses"), None),
        (Method::PATCH, format!("/api/v1/namespaces/{ns}"), Some(&nothing)),
    ] {
        let found = fate(tenant.send(method.clone(), &path, body.cloned()).await);
        assert!(
            found.starts_with("403 ") && !found.contains("topsecret"),
            "{method} {path}: {found}"
        );
    }
    let kept = admin.get(&format!("{core}/secrets/openai")).await.unwrap();
    assert_eq!(
        kept["data"]["API_KEY"], "dG9wc2VjcmV0",
        "the tenant's own write is what is there"
    );
}

/// With certificates, because an impersonation cannot impersonate.
#[tokio::test]
async fn edit_acts_as_the_workflow_and_a_tenant_does_not() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "people-impersonation", json!({})).await;
    let account = format!("system:serviceaccount:{ns}:default");
    let ask = ["get", "pods", "--namespace", ns.as_str(), "--as", account.as_str()];
    // The account has no rights: a refusal of its request is one of a request that was made as it.
    let acted = format!("User \"{account}\" cannot list resource \"pods\"");
    let cluster = ControlPlane::shared();
    let editor = holder(&admin, &ns, "edit").await;
    eventually("the binding of edit", || async {
        let said = cluster.kubectl_as(&Identity::user(&editor, &[]), &ask).await.unwrap();
        let as_the_account = said.stderr.contains(&acted);
        as_the_account.then_some(()).ok_or(said.to_string())
    })
    .await;
    let tenant = holder(&admin, &ns, "ringfence-tenant").await;
    eventually("the binding of the tenant", || async {
        let holds = may(&admin, &tenant, &ns, "create", "", "pods").await;
        holds.then_some(()).ok_or("no".to_owned())
    })
    .await;
    let said = cluster.kubectl_as(&Identity::user(&tenant, &[]), &ask).await.unwrap();
    assert!(!said.success && said.stderr.contains("cannot impersonate"), "{said}");
}

/// Binds a cluster role everywhere, and returns its only holder once the binding acts.
async fn holder_everywhere(admin: &Api, role: &str, reads: &str) -> String {
    let user = format!("{role}-everywhere");
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let subjects = json!([{"kind": "User", "name": user}]);
    let binding = json!({"metadata": {"name": user}, "roleRef": reference, "subjects": subjects});
    admin
        .post(&format!("{RBAC}/clusterrolebindings"), binding)
        .await
        .unwrap();
    eventually("the binding", || async {
        let answer = admin.user(&user).get(reads).await;
        answer.map(drop).map_err(|refusal| refusal.message)
    })
    .await;
    user
}

#[tokio::test]
async fn classes_are_read_by_a_role_of_their_own_and_written_by_the_platform() {
    let (admin, _chart) = with_chart().await;
    let classes = format!("/apis/{OURS}/v1alpha1/aiworkflowclasses");
    let reader = holder_everywhere(&admin, "ringfence-class-view", &classes).await;
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "x"}, "spec": {}});
    let refused = fate(admin.user(&reader).post(&classes, class).await);
    assert!(refused.starts_with("403 "), "{refused}");
    assert!(!may(&admin, &reader, "", "approve", OURS, "aiworkflowclasses").await);
}

#[tokio::test]
async fn policies_are_read_and_written_by_roles_of_their_own() {
    let (admin, _chart) = with_chart().await;
    let policies = format!("/apis/{OURS}/v1alpha1/regopolicies");
    let reader = holder_everywhere(&admin, "ringfence-policy-view", &policies).await;
    let writer = holder_everywhere(&admin, "ringfence-policies", &policies).await;
    for (verb, resource, writes) in [
        ("watch", "regopolicies", false),
        ("get", "regopolicies/status", false),
        ("create", "regopolicies", true),
        ("update", "regopolicies", true),
        ("patch", "regopolicies", true),
        ("delete", "regopolicies", true),
        ("deletecollection", "regopolicies", true),
    ] {
        assert!(
            may(&admin, &writer, "", verb, OURS, resource).await,
            "{verb} {resource}"
        );
        assert_eq!(
            may(&admin, &reader, "", verb, OURS, resource).await,
            !writes,
            "{verb} {resource}"
        );
    }
    for user in [&reader, &writer] {
        for (verb, resource) in [
            ("update", "regopolicies/status"),
            ("create", "regopolicyexceptions"),
            ("get", "aiworkflowclasses"),
        ] {
            assert!(
                !may(&admin, user, "", verb, OURS, resource).await,
                "{user}: {verb} {resource}"
            );
        }
    }
}
