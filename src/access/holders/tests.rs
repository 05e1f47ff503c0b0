use rstest::rstest;
use serde_json::json;

use super::*;
use crate::plan::{Tenants, tenants_condition};

fn namespace(name: &str, labels: &Value) -> NamespaceFacts {
    let object = json!({"metadata": {"name": name, "uid": name, "labels": labels}});
    NamespaceFacts::from_object(&object, |name| matches!(name, "kube-system" | "ringfence-system")).unwrap()
}

fn role(namespace: Option<&str>, name: &str, rules: &Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "rules": rules})
}

fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}])
}

fn binding(namespace: Option<&str>, role: &str, subjects: &[Value]) -> Value {
    let (kind, name) = role.split_once(' ').unwrap();
    let named = name.replace(':', "-");
    json!({
        "metadata": {"namespace": namespace, "name": format!("to-{named}")},
        "roleRef": {"kind": kind, "name": name}, "subjects": subjects,
    })
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

/// `ai` and `bank` enforce, `warned` warns, `open` is nothing; `airflow/scheduler` launches in `ai`.
fn cluster() -> Access {
    let mut access = Access::new("ringfence-system");
    for (name, labels) in [
        ("ai", json!({"ringfence.dev/enforce": "default"})),
        (
            "bank",
            json!({"ringfence.dev/enforce": "strict", "ringfence.dev/warn": "default"}),
        ),
        ("warned", json!({"ringfence.dev/warn": "default"})),
        ("audited", json!({"ringfence.dev/audit": "default"})),
        ("open", json!({})),
        ("airflow", json!({})),
        ("kube-system", json!({"ringfence.dev/enforce": "default"})),
    ] {
        access.namespace(&namespace(name, &labels));
    }
    let launchers = json!([{"serviceAccount": {"namespace": "airflow", "name": "scheduler"}}, {"user": "lea"}]);
    access.launches(&json!({"metadata": {"namespace": "ai", "name": "w"}, "spec": {"launchers": launchers}}));
    let unfenced = json!([{"serviceAccount": {"namespace": "open", "name": "x"}}]);
    access.launches(&json!({"metadata": {"namespace": "open", "name": "w"}, "spec": {"launchers": unfenced}}));
    access.launches(&json!({"metadata": {"name": "unnamed"}, "spec": {"launchers": unfenced}}));
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    for (name, rules) in [
        ("cluster-admin", everything),
        ("reader", rule("", "secrets", "get")),
        ("impersonator", rule("", "serviceaccounts", "impersonate")),
        ("people", rule("", "groups", "impersonate")),
        ("approver", rule("ringfence.dev", "aiworkflowclasses", "approve")),
        ("trusted", rule("ringfence.dev", "aiworkflowclasses", "trust")),
        ("runner", rule("", "pods", "create")),
        ("looker", rule("", "pods", "get")),
    ] {
        access.role(&role(None, name, &rules));
    }
    access
}

/// `standing capability subject where`, of everybody.
fn told(access: &Access) -> Vec<String> {
    access
        .report()
        .held
        .iter()
        .map(|held| {
            let place = match &held.place {
                Where::Cluster => "everywhere",
                Where::Namespace(namespace) => namespace,
            };
            format!(
                "{} {} {} {place}",
                held.standing.as_str(),
                held.capability.name,
                held.subject
            )
        })
        .collect::<Vec<_>>()
}

#[test]
fn rights_count_where_they_are_bound_and_matter() {
    let mut access = cluster();
    for of in ["ai", "warned", "audited", "open", "airflow", "kube-system"] {
        access.binding(&binding(Some(of), "ClusterRole reader", &[user("ann")]));
        access.binding(&binding(Some(of), "ClusterRole looker", &[user("bob")]));
    }
    assert_eq!(
        told(&access),
        [
            "beyond read-secrets user ann ai",
            "beyond read-secrets user ann warned",
            "beyond be-the-platform user ann kube-system",
        ]
    );
    // What is bound in a namespace gives nothing on what is in none.
    access.binding(&binding(Some("ai"), "ClusterRole people", &[user("cyd")]));
    access.binding(&binding(Some("ai"), "ClusterRole approver", &[user("cyd")]));
    assert_eq!(told(&access).len(), 3);
}

#[test]
fn a_role_is_that_of_its_namespace() {
    let mut access = cluster();
    access.role(&role(Some("ai"), "keys", &rule("", "secrets", "get")));
    access.binding(&binding(Some("warned"), "Role keys", &[user("ann")]));
    access.binding(&binding(Some("ai"), "ClusterRole keys", &[user("ann")]));
    access.binding(&binding(None, "ClusterRole gone", &[user("ann")]));
    assert_eq!(told(&access), [""; 0]);
    access.binding(&binding(
        Some("ai"),
        "Role keys",
        &[user("ann"), json!({"kind": "Robot", "name": "x"})],
    ));
    assert_eq!(told(&access), ["beyond read-secrets user ann ai"]);
    assert_eq!(access.report().held[0].by(), "RoleBinding ai/to-keys to Role keys");
    assert_eq!(access.report().held[0].what(), "get secrets");
}

#[test]
fn whoever_approves_or_is_trusted_is_expected_for_these_classes() {
    let mut access = cluster();
    let strict = json!([{"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "resourceNames": ["strict"], "verbs": ["trust"]}]);
    access.role(&role(None, "trusted-strict", &strict));
    access.binding(&binding(
        None,
        "ClusterRole approver",
        &[json!({"kind": "Group", "name": "platform"})],
    ));
    access.binding(&binding(None, "ClusterRole trusted", &[account("eso", "operator")]));
    access.binding(&binding(None, "ClusterRole trusted-strict", &[user("sue")]));
    let who = [
        json!({"kind": "Group", "name": "platform"}),
        account("eso", "operator"),
        user("sue"),
    ];
    access.binding(&binding(None, "ClusterRole reader", &who));
    for of in ["ai", "bank"] {
        access.binding(&binding(Some(of), "ClusterRole reader", &[user("sue")]));
    }
    let told = told(&access);
    let beyond: Vec<_> = told.iter().filter(|told| told.starts_with("beyond")).collect();
    assert_eq!(
        beyond,
        [
            "beyond read-secrets user sue everywhere",
            "beyond read-secrets user sue ai",
            "beyond be-the-platform user sue everywhere",
        ],
        "{told:?}"
    );
    for expected in [
        "expected read-secrets service account eso/operator everywhere",
        "expected read-secrets user sue bank",
        "expected approve group platform everywhere",
        "expected trust user sue everywhere",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:?}");
    }
}

/// A binding in a namespace makes nobody an approver: classes are in none.
#[test]
fn nobody_vouches_for_himself_in_a_namespace() {
    let mut access = cluster();
    for role in ["trusted", "approver", "cluster-admin"] {
        access.binding(&binding(Some("ai"), &format!("ClusterRole {role}"), &[user("eve")]));
    }
    let told = told(&access);
    assert!(told.contains(&"beyond read-secrets user eve ai".to_owned()), "{told:?}");
    assert!(told.iter().all(|told| told.starts_with("beyond")), "{told:?}");
}

#[test]
fn kubernetes_and_ringfence_are_told_apart_by_their_own_names() {
    let mut access = cluster();
    let who = [
        json!({"kind": "Group", "name": "system:masters"}),
        account("kube-system", "generic-garbage-collector"),
        account("kube-system", "tiller"),
        account("ringfence-system", "ringfence"),
        account("ringfence-system", "other"),
        json!({"kind": "Group", "name": "system:authenticated"}),
    ];
    access.binding(&binding(None, "ClusterRole reader", &who));
    let secrets: Vec<_> = told(&access)
        .into_iter()
        .filter(|told| told.contains("read-secrets"))
        .collect();
    assert_eq!(
        secrets,
        [
            "beyond read-secrets service account kube-system/tiller everywhere",
            "beyond read-secrets service account ringfence-system/other everywhere",
            "beyond read-secrets group system:authenticated everywhere",
            "kubernetes read-secrets service account kube-system/generic-garbage-collector everywhere",
            "kubernetes read-secrets group system:masters everywhere",
            "ringfence read-secrets service account ringfence-system/ringfence everywhere",
        ]
    );
}

#[rstest]
#[case::makes_one("create")]
#[case::gives_one_another_image("update")]
#[case::the_same("patch")]
fn whoever_runs_pods_in_a_launchers_namespace_is_the_launcher(#[case] verb: &str) {
    let mut access = cluster();
    access.role(&role(None, "runner", &rule("", "pods", verb)));
    let who = [user("ann"), account("airflow", "scheduler")];
    for of in ["airflow", "open", "ai"] {
        access.binding(&binding(Some(of), "ClusterRole runner", &who));
    }
    assert_eq!(
        told(&access),
        [
            "beyond be-the-launcher user ann airflow",
            "expected be-the-launcher service account airflow/scheduler airflow",
        ]
    );
    // Where that namespace enforces, its pods run as its own workflows and as nobody else.
    let mut access = cluster();
    access.role(&role(None, "runner", &rule("", "pods", verb)));
    access.namespace(&namespace("airflow", &json!({"ringfence.dev/enforce": "default"})));
    access.binding(&binding(Some("airflow"), "ClusterRole runner", &who));
    assert_eq!(told(&access), [""; 0]);
}

/// Whoever may give rights there gives himself those, and an account there may hold them.
#[rstest]
#[case::escalates("rbac.authorization.k8s.io", "roles", "escalate")]
#[case::binds("rbac.authorization.k8s.io", "roles", "bind")]
#[case::binds_of_the_cluster("rbac.authorization.k8s.io", "clusterroles", "bind")]
#[case::impersonates("", "serviceaccounts", "impersonate")]
#[case::impersonates_in_bounds("authentication.k8s.io", "serviceaccounts", "impersonate:serviceaccount")]
fn whoever_may_give_rights_where_the_launcher_or_the_platform_lives_is_told(
    #[case] group: &str,
    #[case] resource: &str,
    #[case] verb: &str,
) {
    for (of, capability) in [("airflow", "be-the-launcher"), ("kube-system", "be-the-platform")] {
        let mut access = cluster();
        access.role(&role(Some(of), "granter", &rule(group, resource, verb)));
        access.binding(&binding(Some(of), "Role granter", &[user("ann")]));
        assert_eq!(told(&access), [format!("beyond {capability} user ann {of}")]);
    }
}

/// What lies there is what the operator puts back as guards: said anew by a change, or by another in its place.
#[rstest]
#[case::all(json!([]), &["update", "patch", "delete", "deletecollection"])]
#[case::registrations(json!(["ringfence-registrations"]), &["update", "patch", "delete"])]
#[case::another(json!(["kube-scheduler"]), &[])]
fn whoever_changes_config_maps_of_the_platform_is_told(#[case] names: Value, #[case] counting: &[&str]) {
    for verb in ["update", "patch", "delete", "deletecollection", "create", "get"] {
        let mut access = cluster();
        let mut rules = rule("", "configmaps", verb);
        rules[0]["resourceNames"] = names.clone();
        access.role(&role(None, "settler", &rules));
        for of in ["ringfence-system", "open", "ai"] {
            access.binding(&binding(Some(of), "ClusterRole settler", &[user("ann")]));
        }
        let expected: &[&str] = if counting.contains(&verb) {
            &["beyond be-the-platform user ann ringfence-system"]
        } else {
            &[]
        };
        assert_eq!(told(&access), expected, "{verb}");
    }
}

/// To create under any name and to change one's own is how many controllers elect a leader.
#[test]
fn who_elects_a_leader_by_a_config_map_is_not_the_platform() {
    let mut access = cluster();
    let rules = json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["its-leader"], "verbs": ["get", "update", "patch", "delete"]},
    ]);
    access.role(&role(Some("kube-system"), "leader-election", &rules));
    let who = [account("kube-system", "cluster-autoscaler")];
    access.binding(&binding(Some("kube-system"), "Role leader-election", &who));
    assert_eq!(told(&access), [""; 0]);
}

#[test]
fn whoever_runs_pods_beside_an_approver_is_one() {
    let mut access = cluster();
    access.binding(&binding(
        None,
        "ClusterRole approver",
        &[account("argocd", "controller")],
    ));
    let all = json!({"kind": "Group", "name": "system:serviceaccounts:flux"});
    access.binding(&binding(None, "ClusterRole approver", &[all]));
    for of in ["argocd", "flux", "open"] {
        access.binding(&binding(Some(of), "ClusterRole runner", &[user("ann")]));
    }
    let told = told(&access);
    for of in ["argocd", "flux"] {
        assert!(
            told.contains(&format!("beyond be-the-platform user ann {of}")),
            "{told:?}"
        );
    }
    assert!(!told.iter().any(|told| told.ends_with(" open")), "{told:?}");
}

fn said(tenants: &Tenants, class: &str) -> (String, String) {
    let (_, reason, message) = tenants_condition(class, Some(tenants)).unwrap();
    (reason.as_str().to_owned(), message)
}

#[test]
fn tenants_are_bounded_by_class_until_somebody_holds_more() {
    let mut access = cluster();
    access.binding(&binding(Some("open"), "ClusterRole reader", &[user("ann")]));
    access.binding(&binding(Some("kube-system"), "ClusterRole reader", &[user("ann")]));
    access.binding(&binding(Some("airflow"), "ClusterRole runner", &[user("ann")]));
    access.binding(&binding(Some("ai"), "ClusterRole looker", &[user("ann")]));
    for class in ["default", "strict"] {
        assert_eq!(said(&access.tenants(None), class).0, "TenantsBounded");
    }
    access.binding(&binding(Some("bank"), "ClusterRole impersonator", &[user("eve")]));
    let tenants = access.tenants(None);
    assert_eq!(said(&tenants, "default").0, "TenantsBounded");
    let (reason, message) = said(&tenants, "strict");
    assert_eq!(reason, "TenantsHoldMore");
    assert!(
        message.contains("user eve (RoleBinding bank/to-impersonator)"),
        "{message}"
    );
    // What is bound in the cluster counts in every class that fences.
    access.binding(&binding(None, "ClusterRole people", &[user("zoe")]));
    let tenants = access.tenants(None);
    for class in ["default", "strict"] {
        assert!(
            said(&tenants, class)
                .1
                .contains("user zoe (ClusterRoleBinding to-people)")
        );
    }
    assert!(said(&tenants, "unused").1.contains("no fenced namespace"));
    assert_eq!(
        said(&access.tenants(Some("roles".to_owned())), "unused").0,
        "ApiUnavailable"
    );
}

/// Bindings are for tenants to write, by the thousand and of any length: nothing grows beyond its bound, and nobody is called bounded
/// for that.
#[test]
fn what_does_not_fit_is_counted_and_never_called_bounded() {
    let mut access = cluster();
    let masters = json!({"kind": "Group", "name": "system:masters"});
    let many: Vec<Value> = vec![masters; 1000];
    for _ in 0..100 {
        access.binding(&binding(Some("ai"), "ClusterRole reader", &many));
    }
    assert!(access.bytes <= MAX_BYTES && access.omitted() > 0);
    // Who holds more elsewhere is still known.
    access.binding(&binding(Some("bank"), "ClusterRole impersonator", &[user("eve")]));
    assert_eq!(said(&access.tenants(None), "strict").0, "TenantsHoldMore");
    access.binding(&binding(Some("ai"), "ClusterRole reader", &[user("eve")]));
    let (reason, message) = said(&access.tenants(None), "default");
    assert_eq!(reason, "ApiUnavailable", "{message}");
    let report = access.report();
    assert!(
        !report.is_complete() && report.held.len() <= 10_000,
        "{}",
        report.held.len()
    );
    let mut access = cluster();
    access.binding(&binding(
        Some("ai"),
        "ClusterRole reader",
        &[user(&"x".repeat(MAX_BYTES))],
    ));
    assert_eq!((access.rows.len(), access.omitted()), (0, 1));
}

#[test]
fn people_read_who_should_hold_less_and_machines_all_of_it() {
    let mut access = cluster();
    access.binding(&binding(
        None,
        "ClusterRole cluster-admin",
        &[json!({"kind": "Group", "name": "system:masters"})],
    ));
    access.binding(&binding(Some("ai"), "ClusterRole reader", &[user("ann\u{1b}[2J")]));
    let text = access.report().table(false);
    assert!(
        text.starts_with(
            "Read Secrets: has every key that the workflow has\n  in namespace ai\n    user ann [2J  RoleBinding ai/to-reader to ClusterRole reader\n                  get secrets\n  Fix: bind ringfence-tenant instead of edit"
        ),
        "{text}"
    );
    assert!(
        text.contains("\nKubernetes itself:\n  group system:masters: impersonate-accounts, read-secrets,"),
        "{text}"
    );
    assert!(
        text.ends_with("1 holder of more than is expected, in 3 fenced namespaces and the cluster.\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
    assert!(access.report().table(true).contains("\u{1b}[31m"));
    let json = access.report().json();
    assert_eq!(
        json["summary"],
        json!({"complete": true, "namespaces": 3, "beyond": 1, "omitted": 0})
    );
    assert_eq!(json["holders"][0]["capability"], "read-secrets");
    assert_eq!(
        json["holders"][0]["rights"],
        json!([{"verb": "get", "apiGroup": "", "resource": "secrets", "resourceNames": null}])
    );
    assert_eq!(json["holders"][0]["namespace"], "ai");
    let mut report = cluster().report();
    assert!(report.is_complete() && !report.has_beyond());
    report.add_gaps(["the clusterroles of the cluster".to_owned()]);
    assert!(!report.is_complete());
    assert!(report.table(false).contains(
        "Nobody holds more than is expected, in 3 fenced namespaces and the cluster. Not all could be looked at."
    ));
}

/// Whoever may write Roles somewhere must not hide by them who holds what elsewhere, and needs neither many nor large ones for it.
#[test]
fn roles_of_one_namespace_take_a_share_and_count_where_they_are_looked_at() {
    let wide = |namespace: &str, number: usize| {
        let names: Vec<_> = (0..64)
            .map(|name| format!("{}-{number}-{name}", "x".repeat(200)))
            .collect();
        let rules =
            json!([{"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["*"], "resourceNames": names}]);
        role(Some(namespace), &format!("wide-{number}"), &rules)
    };
    let filled = |namespace: &str| {
        let mut access = cluster();
        for number in 0..200 {
            access.role(&wide(namespace, number));
        }
        assert!(access.bytes <= MAX_BYTES / SHARE + (64 << 10), "{}", access.bytes);
        access.role(&role(Some("ai"), "local", &rule("", "secrets", "get")));
        access.binding(&binding(Some("ai"), "Role local", &[user("eve")]));
        access
    };
    let access = filled("open");
    assert_eq!((access.rows.len(), access.omitted()), (1, 0));
    let (reason, message) = said(&access.tenants(None), "default");
    assert!(
        reason == "TenantsHoldMore" && message.contains("eve"),
        "{reason} {message}"
    );
    let access = filled("bank");
    assert!(access.rows.len() == 1 && access.omitted() > 0);
    assert!(!access.report().is_complete());
}

/// Longer than any object's name: told as one more, and not kept for each right.
#[test]
fn names_that_are_longer_than_names_are_counted_alone() {
    let mut access = cluster();
    let names: Vec<_> = (0..64)
        .map(|number| format!("{number}{}", "x".repeat(17_000)))
        .collect();
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"], "resourceNames": names}]);
    let before = access.bytes;
    access.role(&role(Some("ai"), "long", &rules));
    assert!(access.bytes - before < 4096, "{}", access.bytes - before);
    access.binding(&binding(Some("ai"), "Role long", &[user("eve")]));
    assert_eq!(access.rows.len(), 1);
}
