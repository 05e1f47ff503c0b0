//! What Ringfence's account may do, and may not.

use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RELEASE, RINGFENCE, namespace, with_chart};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn may(admin: &Api, verb: &str, group: &str, resource: &str, ns: &str, name: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": ns, "name": name});
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:ringfence-system",
        "system:authenticated",
    ];
    let review = json!({"spec": {"user": RINGFENCE, "groups": groups, "resourceAttributes": attributes}});
    let answer = admin
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        .await
        .unwrap();
    answer["status"]["allowed"] == Value::Bool(true)
}

#[tokio::test]
async fn ringfence_may_do_what_it_must_and_little_else() {
    let (admin, _chart) = with_chart().await;
    let leases = "coordination.k8s.io";
    let admission = "admissionregistration.k8s.io";
    for (verb, group, resource, ns, name, expected) in [
        ("watch", "", "namespaces", "", "", true),
        ("update", "", "namespaces", "", "x", false),
        ("watch", "", "nodes", "", "", true),
        ("get", "", "nodes/proxy", "", "x", false),
        ("update", "", "nodes", "", "x", false),
        ("patch", "", "nodes/status", "", "x", false),
        ("watch", "networking.k8s.io", "servicecidrs", "", "", true),
        ("create", "networking.k8s.io", "servicecidrs", "", "", false),
        ("list", "ringfence.dev", "aiworkflows", "", "", true),
        ("watch", "ringfence.dev", "aiworkflowgrants", "", "", true),
        ("update", "ringfence.dev", "aiworkflowgrants/status", "x", "x", true),
        ("update", "ringfence.dev", "aiworkflowgrants", "x", "x", false),
        ("list", "ringfence.dev", "regopolicyexceptions", "", "", true),
        ("update", "ringfence.dev", "regopolicyexceptions/status", "x", "x", true),
        ("update", "ringfence.dev", "regopolicyexceptions", "x", "x", false),
        ("create", "ringfence.dev", "regopolicyexceptions", "x", "", false),
        ("watch", "ringfence.dev", "resolvednames", "", "", true),
        ("create", "ringfence.dev", "resolvednames", "x", "", true),
        ("delete", "ringfence.dev", "resolvednames", "x", "x", true),
        ("deletecollection", "ringfence.dev", "resolvednames", "x", "", false),
        ("update", "ringfence.dev", "resolvednames/status", "x", "x", true),
        ("watch", "ringfence.dev", "regopolicies", "", "", true),
        ("update", "ringfence.dev", "regopolicies/status", "", "x", true),
        ("update", "ringfence.dev", "regopolicies", "", "x", false),
        ("create", "ringfence.dev", "regopolicies", "", "", false),
        ("delete", "ringfence.dev", "regopolicies", "", "x", false),
        ("update", "ringfence.dev", "aiworkflows", "x", "x", false),
        ("update", "ringfence.dev", "aiworkflows/status", "x", "x", true),
        ("create", "ringfence.dev", "aiworkflowclasses", "", "", true),
        ("update", "ringfence.dev", "aiworkflowclasses", "", "x", false),
        ("approve", "ringfence.dev", "aiworkflowclasses", "", "x", false),
        ("create", "", "serviceaccounts", "x", "", true),
        ("create", "", "serviceaccounts/token", "x", "x", false),
        ("impersonate", "", "serviceaccounts", "x", "x", false),
        (
            "deletecollection",
            "networking.k8s.io",
            "networkpolicies",
            "x",
            "",
            false,
        ),
        ("escalate", "rbac.authorization.k8s.io", "roles", "x", "x", false),
        ("bind", "rbac.authorization.k8s.io", "roles", "x", "x", false),
        ("create", "rbac.authorization.k8s.io", "clusterroles", "", "", false),
        (
            "create",
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            "",
            "",
            false,
        ),
        ("create", "", "pods", "x", "", false),
        ("get", "batch", "jobs", "x", "x", true),
        ("list", "batch", "jobs", "", "", true),
        ("list", "", "pods", "", "", true),
        ("list", "apps", "replicasets", "", "", true),
        ("list", "rbac.authorization.k8s.io", "clusterrolebindings", "", "", true),
        (
            "watch",
            "rbac.authorization.k8s.io",
            "clusterrolebindings",
            "",
            "",
            false,
        ),
        ("list", "rbac.authorization.k8s.io", "clusterroles", "", "", true),
        ("watch", "rbac.authorization.k8s.io", "clusterroles", "", "", false),
        ("bind", "rbac.authorization.k8s.io", "clusterroles", "", "x", false),
        ("escalate", "rbac.authorization.k8s.io", "clusterroles", "", "x", false),
        ("trust", "ringfence.dev", "aiworkflowclasses", "", "x", false),
        ("get", "", "secrets", "x", "x", false),
        ("list", "", "secrets", RELEASE, "", false),
        ("get", "", "secrets", RELEASE, "other", false),
        ("get", "", "secrets", RELEASE, "ringfence-webhook-tls", true),
        ("create", "", "secrets", RELEASE, "", true),
        ("create", "", "secrets", "default", "", false),
        ("get", leases, "leases", RELEASE, "ringfence", true),
        ("update", leases, "leases", RELEASE, "ringfence", true),
        ("update", leases, "leases", RELEASE, "other", false),
        ("delete", leases, "leases", RELEASE, "ringfence", false),
        ("create", leases, "leases", RELEASE, "", true),
        ("create", leases, "leases", "kube-system", "", false),
        ("list", leases, "leases", RELEASE, "", false),
        ("list", "discovery.k8s.io", "endpointslices", "default", "", true),
        ("list", "discovery.k8s.io", "endpointslices", "", "", true),
        ("watch", "discovery.k8s.io", "endpointslices", "x", "", false),
        (
            "watch",
            "discovery.k8s.io",
            "endpointslices",
            "default",
            "kubernetes",
            true,
        ),
        ("watch", "discovery.k8s.io", "endpointslices", "default", "", false),
        ("get", "", "services", "default", "kubernetes", true),
        ("list", "", "services", "", "", true),
        ("update", "", "services", "x", "x", false),
        ("list", "networking.k8s.io", "ingresses", "", "", true),
        ("update", "networking.k8s.io", "ingresses", "x", "x", false),
        ("list", "gateway.networking.k8s.io", "httproutes", "", "", true),
        ("list", "cilium.io", "ciliumnetworkpolicies", "", "", true),
        ("create", "cilium.io", "ciliumnetworkpolicies", "x", "", false),
        (
            "list",
            "policy.networking.k8s.io",
            "clusternetworkpolicies",
            "",
            "",
            true,
        ),
        (
            "create",
            "policy.networking.k8s.io",
            "clusternetworkpolicies",
            "",
            "",
            false,
        ),
        (
            "patch",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence",
            true,
        ),
        (
            "patch",
            admission,
            "validatingwebhookconfigurations",
            "",
            "other",
            false,
        ),
        (
            "update",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence",
            true,
        ),
        (
            "get",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-policies",
            true,
        ),
        (
            "watch",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-policies",
            true,
        ),
        (
            "update",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-policies",
            true,
        ),
        (
            "patch",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-policies",
            true,
        ),
        (
            "delete",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-policies",
            false,
        ),
        (
            "update",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-bindings",
            true,
        ),
        (
            "patch",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence-bindings",
            true,
        ),
        ("patch", "", "secrets", RELEASE, "ringfence-webhook-tls", false),
        ("patch", "ringfence.dev", "aiworkflows/status", "x", "x", false),
        // What was deleted is made again, and nothing narrows that by name.
        ("create", admission, "validatingwebhookconfigurations", "", "", true),
        (
            "delete",
            admission,
            "validatingwebhookconfigurations",
            "",
            "ringfence",
            false,
        ),
        ("create", admission, "mutatingwebhookconfigurations", "", "", false),
        ("get", "", "configmaps", RELEASE, "ringfence-registrations", true),
        ("update", "", "configmaps", RELEASE, "ringfence-registrations", false),
        (
            "update",
            admission,
            "validatingadmissionpolicies",
            "",
            "ringfence-modes",
            true,
        ),
        (
            "watch",
            admission,
            "validatingadmissionpolicies",
            "",
            "ringfence-modes",
            true,
        ),
        ("update", admission, "validatingadmissionpolicies", "", "other", false),
        ("get", admission, "validatingadmissionpolicies", "", "other", false),
        ("list", admission, "validatingadmissionpolicies", "", "", false),
        (
            "delete",
            admission,
            "validatingadmissionpolicies",
            "",
            "ringfence-modes",
            false,
        ),
        ("create", admission, "validatingadmissionpolicies", "", "", true),
        (
            "patch",
            admission,
            "validatingadmissionpolicybindings",
            "",
            "ringfence-modes",
            true,
        ),
        (
            "patch",
            admission,
            "validatingadmissionpolicybindings",
            "",
            "other",
            false,
        ),
        (
            "delete",
            admission,
            "validatingadmissionpolicybindings",
            "",
            "ringfence-modes",
            false,
        ),
        ("create", admission, "mutatingadmissionpolicies", "", "", false),
        (
            "get",
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "",
            "aiworkflows.ringfence.dev",
            false,
        ),
        ("list", "ringfence.dev", "aiworkflowgrants", "", "", true),
        ("update", "ringfence.dev", "aiworkflowgrants/status", "x", "x", true),
        ("update", "ringfence.dev", "aiworkflowgrants", "x", "x", false),
    ] {
        let found = may(&admin, verb, group, resource, ns, name).await;
        assert_eq!(found, expected, "{verb} {resource}.{group} in {ns:?} named {name:?}");
    }
}

#[tokio::test]
async fn lists_by_name_are_lists_with_a_field_selector() {
    let (admin, _chart) = with_chart().await;
    let ringfence = admin.user(RINGFENCE);
    let registrations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    for (path, name) in [
        (registrations.to_owned(), "ringfence"),
        (registrations.to_owned(), "ringfence-bindings"),
        (registrations.to_owned(), "ringfence-policies"),
        (format!("/api/v1/namespaces/{RELEASE}/secrets"), "ringfence-webhook-tls"),
    ] {
        assert_eq!(ringfence.get(&path).await.unwrap_err().code, 403, "{path}");
        let selected = format!("{path}?fieldSelector=metadata.name%3D{name}");
        assert_eq!(fate(ringfence.get(&selected).await), "done", "{selected}");
    }
}

#[tokio::test]
async fn grants_end_at_the_ceiling_which_the_platform_raises() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "rights-ceiling", json!({})).await;
    let ringfence = admin.user(RINGFENCE);
    let roles = format!("{RBAC}/namespaces/{ns}/roles");
    let role = |name: &str, resource: &str, verb: &str| {
        let rules = json!([{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]);
        json!({"metadata": {"name": name, "annotations": {"ringfence.dev/owner-uid": "1"}}, "rules": rules})
    };
    eventually("the shipped part", || async {
        let found = fate(ringfence.post(&roles, role("within", "pods/log", "get")).await);
        if found == "done" { Ok(()) } else { Err(found) }
    })
    .await;
    for (resource, verb) in [
        ("secrets", "get"),
        ("configmaps", "update"),
        ("persistentvolumeclaims", "get"),
    ] {
        let refusal = ringfence.post(&roles, role("above", resource, verb)).await.unwrap_err();
        assert!(
            refusal.code == 403 && refusal.message.contains("not currently held"),
            "{}",
            refusal.message
        );
    }
    let bindings = format!("{RBAC}/namespaces/{ns}/rolebindings");
    let binding = |name: &str, kind: &str| {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let subjects = json!([{"kind": "ServiceAccount", "name": "x", "namespace": ns}]);
        json!({"metadata": {"name": name, "annotations": {"ringfence.dev/owner-uid": "1"}}, "roleRef": role, "subjects": subjects})
    };
    assert_eq!(fate(ringfence.post(&bindings, binding("within", "Role")).await), "done");
    assert_eq!(
        ringfence
            .post(&bindings, binding("edit", "ClusterRole"))
            .await
            .unwrap_err()
            .code,
        403
    );

    let rules = json!([{"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get"]}]);
    let labels = json!({"ringfence.dev/aggregate-to-ceiling": "true"});
    admin
        .post(
            &format!("{RBAC}/clusterroles"),
            json!({"metadata": {"name": "test-raise", "labels": labels}, "rules": rules}),
        )
        .await
        .unwrap();
    eventually("the raised ceiling", || async {
        let found = fate(
            ringfence
                .post(&roles, role("raised", "persistentvolumeclaims", "get"))
                .await,
        );
        if found == "done" { Ok(()) } else { Err(found) }
    })
    .await;
}

/// By ClusterRoles of the platform's own: owners are asked for one by one, what policies look at is watched.
#[tokio::test]
async fn the_platform_lets_ringfence_read_what_it_brings_along() {
    let (admin, _chart) = with_chart().await;
    for (part, resource, verb) in [("owners", "flows", "get"), ("inventory", "gadgets", "watch")] {
        let may_read = || may(&admin, verb, "example.com", resource, "x", "x");
        assert!(!may_read().await, "{part}");
        let name = format!("test-{part}");
        let labels = json!({format!("ringfence.dev/aggregate-to-{part}"): "true"});
        let rules = json!([{"apiGroups": ["example.com"], "resources": [resource], "verbs": [verb]}]);
        let role = json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
        let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        let without_rules = json!({"metadata": role["metadata"], "rules": []});
        let tenant = admin.user("tenant");
        assert_eq!(
            fate(tenant.post(roles, without_rules).await),
            "guard ringfence-reserved-keys",
            "{part}"
        );
        admin.post(roles, role).await.unwrap();
        eventually("the right to read", || async {
            if may_read().await {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
        admin.delete(&format!("{roles}/{name}")).await.unwrap();
    }
}
