use std::net::Ipv4Addr;
#[cfg(target_os = "linux")]
use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::api::{AIWorkflowClassSpec, ClassNetwork, Mode};

const UID: &str = "11111111-2222-3333-4444-555555555555";

pub(super) fn workflow(spec: Value) -> AIWorkflow {
    named_workflow("triage", spec)
}

fn named_workflow(name: &str, extra: Value) -> AIWorkflow {
    let mut spec = json!({"launchers": [{"user": "ci"}], "images": ["registry.example.com/finance/**"]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let metadata = json!({
        "name": name, "namespace": "ai", "uid": UID, "generation": 3, "creationTimestamp": "2026-01-02T00:00:00Z",
    });
    let object =
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn namespace(labels: &[(&str, &str)]) -> NamespaceFacts {
    let labels = labels
        .iter()
        .map(|(key, value)| (format!("ringfence.dev/{key}"), (*value).to_owned()))
        .collect();
    NamespaceFacts {
        name: "ai".to_owned(),
        uid: "ns-uid".to_owned(),
        labels,
        exempt: false,
        terminating: false,
    }
}

/// Enforced by class `default`, with an API server and a registration that is older than the workflow.
pub(super) fn observed() -> Observed {
    let network = ClassNetwork {
        cidrs: vec!["0.0.0.0/0".to_owned()],
        namespaces: vec!["vectors".to_owned()],
        ..ClassNetwork::default()
    };
    let class = default_class();
    let spec = AIWorkflowClassSpec {
        network: Some(network),
        ..class.spec
    };
    let mut class = AIWorkflowClass::new("default", spec);
    class.status = serde_json::from_value(json!({"cluster": {"ranges": ["172.16.0.0/16", "192.168.0.0/16"]}})).unwrap();
    Observed {
        namespace: namespace(&[("enforce", "default")]),
        class: Some(class),
        api_server: [(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)), 6443)].into(),
        registration: Some(Registration {
            uid: "registration-uid".to_owned(),
            created: "2026-01-01T00:00:00Z".parse().unwrap(),
        }),
        ..Observed::default()
    }
}

pub(super) fn read_config() -> Value {
    json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get"]}]})
}

/// What the API server would hold after the changes.
pub(super) fn stored(changes: &[Change]) -> Vec<(Child, Value)> {
    let stored = changes.iter().filter_map(|change| match change {
        Change::Create(child, value) | Change::Replace(child, value) => Some((*child, value.clone())),
        Change::Delete { .. } => None,
    });
    stored
        .enumerate()
        .map(|(index, (child, mut value))| {
            value["metadata"]["uid"] = json!(format!("child-{index}"));
            value["metadata"]["resourceVersion"] = json!(index.to_string());
            (child, value)
        })
        .collect()
}

#[test]
fn a_workflow_that_is_being_deleted_loses_its_rights_and_gets_nothing_new() {
    let mut going = workflow(json!({"permissions": read_config()}));
    let before = stored(&plan(&going, &observed()).changes);
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(plan(&going, &observed()).changes, [], "nothing is made");
    let standing = Observed {
        children: before,
        ..observed()
    };
    let plan = plan(&going, &standing);
    assert_eq!(kinds(&plan.changes), [("delete", "RoleBinding"), ("delete", "Role")]);
    assert_eq!(plan.effective_rules, []);
}

#[test]
fn a_workflow_that_launches_itself_shows_what_it_holds_by_that() {
    let own = json!({"serviceAccount": {"namespace": "ai", "name": "triage"}});
    let declared = workflow(json!({"engine": "airflow", "launchers": [own]}));
    let plan = plan(&declared, &observed());
    assert_eq!(plan.effective_rules.len(), 2, "{:?}", plan.effective_rules);
    assert_eq!(plan.launcher_rules, [], "shown once");
    let [_, _, Change::Create(_, role), Change::Create(_, binding)] = plan.changes.as_slice() else {
        panic!("{:?}", plan.changes)
    };
    assert_eq!(role["rules"], json!(plan.effective_rules));
    let subject = json!({"kind": "ServiceAccount", "name": "triage", "namespace": "ai"});
    assert_eq!(binding["subjects"], json!([subject]));
}

#[test]
fn an_engine_gives_its_launchers_what_they_need_and_shows_what_workers_hold() {
    let launchers = json!([
        {"serviceAccount": {"namespace": "airflow", "name": "scheduler"}},
        {"serviceAccount": {"namespace": "airflow", "name": "scheduler"}},
        {"user": "mia"},
    ]);
    let plan_of = |engine: &str| {
        plan(
            &workflow(json!({"engine": engine, "launchers": launchers})),
            &observed(),
        )
    };
    let airflow = plan_of("airflow");
    assert!(airflow.acceptance.accepted, "{}", airflow.acceptance.message);
    let expected = [
        ("create", "NetworkPolicy"),
        ("create", "ServiceAccount"),
        ("create", "Role"),
        ("create", "RoleBinding"),
    ];
    assert_eq!(kinds(&airflow.changes), expected);
    let [_, _, Change::Create(_, role), Change::Create(_, binding)] = airflow.changes.as_slice() else {
        unreachable!()
    };
    assert_eq!(role["rules"][0]["verbs"][0], "create");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "scheduler", "namespace": "airflow"}])
    );
    assert_eq!(
        (airflow.engine.as_deref(), airflow.effective_rules.len()),
        (Some("airflow"), 0)
    );
    assert_eq!(
        role["rules"],
        json!(airflow.launcher_rules),
        "shown, and not as its own"
    );
    let by_people = plan(&workflow(json!({"engine": "airflow"})), &observed());
    assert_eq!(by_people.launcher_rules, [], "nobody holds them");

    let argo = plan_of("argo");
    assert_eq!(argo.effective_rules.len(), 1, "the executor's own rights are shown");
    assert_eq!(plan_of("dagster").acceptance.reason, Reason::OutsideClass);
    let mut narrow = observed();
    narrow.class.as_mut().unwrap().spec.engines.clear();
    let refused = plan(&workflow(json!({"engine": "argo"})), &narrow);
    assert_eq!(
        (refused.acceptance.reason, refused.effective_rules.len()),
        (Reason::OutsideClass, 0)
    );
}

/// What somebody else writes into an object is told from what Ringfence wrote, and the whole object is put back.
pub(super) fn is_put_back(
    declared: &AIWorkflow,
    mut observed: Observed,
    child: Child,
    (pointer, foreign): (&str, Value),
) {
    let edited = observed.children.iter_mut().find(|(kind, _)| *kind == child);
    let (_, edited) = edited.expect("such an object");
    let before = edited.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match edited.pointer_mut(parent).expect("a parent") {
        Value::Object(fields) => drop(fields.insert(key.to_owned(), foreign)),
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = foreign,
        other => panic!("{other}"),
    }
    let edited = edited.clone();
    let put_back = plan(declared, &observed);
    assert_eq!(kinds(&put_back.changes), [("replace", child.kind())]);
    let [Change::Replace(_, whole)] = put_back.changes.as_slice() else {
        unreachable!()
    };
    assert!(same(whole, &before) && is_foreign(whole, &edited), "{whole}");
}

pub(super) fn kinds(changes: &[Change]) -> Vec<(&'static str, &'static str)> {
    let verb = |change: &Change| match change {
        Change::Create(..) => "create",
        Change::Delete { .. } => "delete",
        Change::Replace(..) => "replace",
    };
    changes
        .iter()
        .map(|change| (verb(change), change.child().kind()))
        .collect()
}

#[test]
fn the_fence_is_put_up_closed_first_and_rights_last() {
    let plan = plan(&workflow(json!({"permissions": read_config()})), &observed());
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let expected = [
        ("create", "NetworkPolicy"),
        ("create", "ServiceAccount"),
        ("create", "Role"),
        ("create", "RoleBinding"),
    ];
    assert_eq!(kinds(&plan.changes), expected);
}

#[test]
fn what_stands_as_declared_is_left_alone() {
    let workflow = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    observed.children = stored(&plan(&workflow, &observed).changes);
    assert_eq!(plan(&workflow, &observed).changes, []);
}

#[rstest]
#[case::open_ingress(Child::NetworkPolicy, "/spec/ingress", json!([{}]))]
#[case::wider_selector(Child::NetworkPolicy, "/spec/podSelector", json!({}))]
#[case::cloud_identity(Child::ServiceAccount, "/metadata/annotations/eks.amazonaws.com~1role-arn", json!("arn"))]
#[case::pull_secret(Child::ServiceAccount, "/imagePullSecrets", json!([{"name": "x"}]))]
#[case::automount(Child::ServiceAccount, "/automountServiceAccountToken", json!(true))]
#[case::more_rights(Child::Role, "/rules", json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]))]
#[case::more_subjects(Child::RoleBinding, "/subjects", json!([{"kind": "User", "name": "mallory"}]))]
#[case::no_owner(Child::Role, "/metadata/ownerReferences", json!([]))]
fn a_foreign_edit_is_reverted(#[case] child: Child, #[case] pointer: &str, #[case] foreign: Value) {
    let workflow = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    observed.children = stored(&plan(&workflow, &observed).changes);
    let (_, object) = observed.children.iter_mut().find(|(kind, _)| *kind == child).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = foreign;
    let changes = plan(&workflow, &observed).changes;
    assert_eq!(kinds(&changes), [("replace", child.kind())]);
    let [Change::Replace(_, written)] = changes.as_slice() else {
        unreachable!()
    };
    assert!(
        written.pointer("/metadata/resourceVersion").is_some(),
        "a write names the version that it replaces"
    );
}

#[test]
fn a_binding_to_another_role_is_made_again() {
    let workflow = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    observed.children = stored(&plan(&workflow, &observed).changes);
    let (_, binding) = observed
        .children
        .iter_mut()
        .find(|(kind, _)| *kind == Child::RoleBinding)
        .unwrap();
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    assert_eq!(
        kinds(&plan(&workflow, &observed).changes),
        [("delete", "RoleBinding"), ("create", "RoleBinding")]
    );
}

#[test]
fn pruning_goes_by_owner_uid_and_never_by_label() {
    let workflow = workflow(json!({}));
    let mut observed = observed();
    let role = |name: &str, owner: &str| {
        let annotations = json!({crate::api::OWNER_UID_ANNOTATION: owner});
        (
            Child::Role,
            json!({"metadata": {"name": name, "uid": name, "annotations": annotations}}),
        )
    };
    observed.children = vec![role("ours-from-before", UID), role("somebody-elses", "other-uid")];
    let deleted: Vec<_> = plan(&workflow, &observed)
        .changes
        .into_iter()
        .filter(|change| matches!(change, Change::Delete { .. }))
        .collect();
    let expected = Change::Delete {
        child: Child::Role,
        name: "ours-from-before".into(),
        uid: "ours-from-before".into(),
    };
    assert_eq!(deleted, [expected]);
}

#[test]
fn a_taken_role_is_bound_to_nobody() {
    let workflow = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    let stood = stored(&plan(&workflow, &observed).changes);
    // Somebody deleted the Role and made one of that name; the binding still points to the name.
    observed.children = stood.into_iter().filter(|(child, _)| *child != Child::Role).collect();
    observed.taken.insert((Child::Role, owned_name("ai", "triage", "role")));
    let plan = plan(&workflow, &observed);
    assert_eq!(kinds(&plan.changes), [("delete", "RoleBinding")]);
    assert_eq!(plan.effective_rules, []);
}

#[test]
fn a_taken_account_gets_no_rights() {
    let workflow = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    observed.taken.insert((Child::ServiceAccount, "triage".to_owned()));
    let plan = plan(&workflow, &observed);
    assert_eq!(kinds(&plan.changes), [("create", "NetworkPolicy")]);
    assert_eq!(plan.effective_rules, []);
    assert_eq!(plan.taken, [(Child::ServiceAccount, "triage".to_owned())]);
}

#[test]
fn outside_the_class_rights_go_and_the_account_stays() {
    let declared = workflow(json!({"permissions": read_config()}));
    let mut observed = observed();
    observed.children = stored(&plan(&declared, &observed).changes);
    observed.class.as_mut().unwrap().spec.permissions.clear();
    let plan = plan(&declared, &observed);
    assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
    assert_eq!(kinds(&plan.changes), [("delete", "RoleBinding"), ("delete", "Role")]);
}

#[rstest]
#[case::no_label(namespace(&[]), Reason::NamespaceNotFenced)]
#[case::audit_only(namespace(&[("audit", "default")]), Reason::NamespaceNotFenced)]
#[case::exempt(NamespaceFacts { exempt: true, ..namespace(&[("enforce", "default")]) }, Reason::NamespaceNotFenced)]
fn nothing_is_made_where_nothing_is_fenced(#[case] namespace: NamespaceFacts, #[case] reason: Reason) {
    let plan = plan(
        &workflow(json!({"permissions": read_config()})),
        &Observed {
            namespace,
            ..observed()
        },
    );
    assert_eq!((plan.acceptance.reason, plan.changes.len()), (reason, 0));
}

#[rstest]
#[case::inside(json!({}), &[])]
#[case::outside(json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}]}}), &["spec.permissions.rules[0]", "it allows: "])]
#[case::invalid(json!({"images": []}), &["spec.images"])]
fn where_only_audit_is_set_the_next_step_is_named_and_what_its_class_would_say(
    #[case] spec: Value,
    #[case] said: &[&str],
) {
    let audited = Observed {
        namespace: namespace(&[("audit", "default")]),
        ..observed()
    };
    let acceptance = plan(&workflow(spec), &audited).acceptance;
    let message = acceptance.message;
    assert_eq!(acceptance.reason, Reason::NamespaceNotFenced);
    for part in [
        "only audits (ringfence.dev/audit=default)",
        "ringfence.dev/warn=<class>",
    ]
    .iter()
    .chain(said)
    {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert_eq!(message.contains("would not accept it"), !said.is_empty(), "{message}");
}

#[test]
fn a_missing_class_touches_nothing() {
    let plan = plan(
        &workflow(json!({})),
        &Observed {
            class: None,
            ..observed()
        },
    );
    assert_eq!((plan.acceptance.reason, plan.changes.len()), (Reason::ClassMissing, 0));
    assert!(
        plan.acceptance.message.contains("AIWorkflowClass default"),
        "{}",
        plan.acceptance.message
    );
}

#[test]
fn declared_peers_open_and_nothing_else_does() {
    let network = json!({
        "ingress": [{"name": "ui", "from": {"pods": {"selector": {"matchLabels": {"app": "ui"}}}}, "ports": [{"port": 8080}]}],
        "egress": [
            {"name": "qdrant", "to": {"pods": {"namespace": "vectors", "selector": {"matchLabels": {"app": "qdrant"}}}}, "ports": [{"port": 6334}]},
            {"name": "bank", "to": {"cidrs": ["128.0.0.0/1"], "except": ["198.51.100.0/24"]}, "ports": [{"port": 443, "endPort": 444}]},
            {"name": "api", "to": {"apiServer": {}}},
        ],
    });
    let plan = plan(&workflow(json!({"network": network})), &observed());
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let policy = plan.changes.iter().find_map(|change| match change {
        Change::Create(Child::NetworkPolicy, policy) => Some(policy),
        _ => None,
    });
    let in_namespace = |name: &str| json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let pods = |labels: Value| json!({"matchLabels": labels, "matchExpressions": []});
    let expected = json!({
        "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": in_namespace("ai"), "podSelector": pods(json!({"app": "ui"}))}], "ports": [{"protocol": "TCP", "port": 8080}]},
        ],
        "egress": [
            {"to": [{"namespaceSelector": in_namespace("kube-system"), "podSelector": pods(json!({"k8s-app": "kube-dns"}))},
                    {"ipBlock": {"cidr": "169.254.20.10/32", "except": []}}],
             "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {"to": [{"namespaceSelector": in_namespace("vectors"), "podSelector": pods(json!({"app": "qdrant"}))}], "ports": [{"protocol": "TCP", "port": 6334}]},
            {"to": [{"ipBlock": {"cidr": "128.0.0.0/1", "except": ["168.63.129.16/32", "169.254.0.23/32", "169.254.42.42/32", "169.254.169.252/32", "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "172.16.0.0/16", "192.0.0.192/32", "192.168.0.0/16", "198.51.100.0/24"]}}],
             "ports": [{"protocol": "TCP", "port": 443, "endPort": 444}]},
            {"to": [{"ipBlock": {"cidr": "192.0.2.1/32", "except": []}}], "ports": [{"protocol": "TCP", "port": 6443}]},
        ],
    });
    assert_eq!(policy.unwrap()["spec"], expected);
}

/// An exception closes what lies in it, whichever range it was written for. The API server takes no exception that is as wide as
/// its range: a range that is closed whole is left out.
#[rstest]
#[case::part(json!([]))]
#[case::one_inside(json!(["10.1.2.0/24"]))]
#[case::as_wide(json!(["10.1.0.0/16"]))]
fn an_exception_closes_what_lies_in_it(#[case] closed: Value) {
    let mut cidrs = json!(["203.0.113.0/24", "10.0.0.0/8"]);
    cidrs
        .as_array_mut()
        .unwrap()
        .extend(closed.as_array().cloned().unwrap());
    let rule = json!({"name": "x", "to": {"cidrs": cidrs, "except": ["10.1.0.0/16"]}, "ports": [{"port": 1}]});
    let plan = plan(&workflow(json!({"network": {"egress": [rule]}})), &observed());
    assert!(plan.acceptance.accepted, "{}", plan.acceptance.message);
    let policy = plan.changes.iter().find_map(|change| match change {
        Change::Create(Child::NetworkPolicy, policy) => Some(policy),
        _ => None,
    });
    let to = json!([
        {"ipBlock": {"cidr": "203.0.113.0/24", "except": []}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    ]);
    assert_eq!(policy.unwrap()["spec"]["egress"][1]["to"], to);
}

/// NodeLocal DNS as people write it.
#[rstest]
#[case::no_prefix(json!({"cidrs": ["169.254.20.10"]}))]
#[case::nothing(json!({}))]
#[case::selector_without_namespace(json!({"selector": {"matchLabels": {"a": "b"}}}))]
#[case::empty_selector(json!({"namespace": "kube-system", "selector": {}}))]
#[case::every_other_pod(json!({"namespace": "kube-system", "selector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}))]
#[case::no_label(json!({"namespace": "kube-system", "selector": {"matchLabels": {"a b": "c"}}}))]
fn a_dns_that_cannot_be_read_opens_nothing(#[case] dns: Value) {
    let mut observed = observed();
    observed.class.as_mut().unwrap().spec.cluster = serde_json::from_value(json!({"dns": dns})).unwrap();
    let plan = plan(&workflow(json!({})), &observed);
    let policy = plan.changes.iter().find_map(|change| match change {
        Change::Create(Child::NetworkPolicy, policy) => Some(policy),
        _ => None,
    });
    assert_eq!(policy.unwrap()["spec"]["egress"], json!([]));
}

#[rstest]
#[case::other_namespace(json!({"name": "x", "to": {"pods": {"namespace": "finance", "selector": {"matchLabels": {"a": "b"}}}}, "ports": [{"port": 1}]}), Reason::OutsideClass)]
#[case::other_range(json!({"name": "x", "to": {"cidrs": ["2001:db8::/32"]}, "ports": [{"port": 1}]}), Reason::OutsideClass)]
#[case::in_the_cluster(json!({"name": "x", "to": {"cidrs": ["203.0.113.0/24", "192.168.3.0/24"]}, "ports": [{"port": 1}]}), Reason::OutsideClass)]
#[case::two_peers(json!({"name": "x", "to": {"cidrs": ["10.0.0.0/8"], "apiServer": {}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_peer(json!({"name": "x", "to": {}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_ports(json!({"name": "x", "to": {"cidrs": ["10.0.0.0/8"]}}), Reason::Invalid)]
#[case::empty_selector(json!({"name": "x", "to": {"pods": {"selector": {}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::every_other_pod(json!({"name": "x", "to": {"pods": {"selector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::every_pod_but_some(json!({"name": "x", "to": {"pods": {"selector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}, {"key": "c", "operator": "DoesNotExist"}]}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_workflow_can_be_called_so(json!({"name": "x", "to": {"workflow": {"name": "a b"}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::workflow_as_a_path(json!({"name": "x", "to": {"workflow": {"namespace": "../..", "name": "a"}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_namespace_can_be_called_so(json!({"name": "x", "to": {"pods": {"namespace": "a b", "selector": {"matchLabels": {"a": "b"}}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_label_key(json!({"name": "x", "to": {"pods": {"selector": {"matchLabels": {"a b": "b"}}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_prefix_of_a_key(json!({"name": "x", "to": {"pods": {"selector": {"matchLabels": {"A_/b": "b"}}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::no_label_value(json!({"name": "x", "to": {"pods": {"selector": {"matchLabels": {"a": "-b"}}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::long_label_value(json!({"name": "x", "to": {"pods": {"selector": {"matchLabels": {"a": "b".repeat(64)}}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::in_nothing(json!({"name": "x", "to": {"pods": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::exists_with_values(json!({"name": "x", "to": {"pods": {"selector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::empty_cidrs(json!({"name": "x", "to": {"cidrs": []}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::metadata_service(json!({"name": "x", "to": {"cidrs": ["169.254.169.254/32"]}, "ports": [{"port": 80}]}), Reason::Invalid)]
#[case::except_elsewhere(json!({"name": "x", "to": {"cidrs": ["10.0.0.0/8"], "except": ["11.0.0.0/16"]}, "ports": [{"port": 1}]}), Reason::Invalid)]
#[case::ports_upside_down(json!({"name": "x", "to": {"cidrs": ["10.0.0.0/8"]}, "ports": [{"port": 9, "endPort": 8}]}), Reason::Invalid)]
fn a_peer_that_does_not_fit_is_refused_and_stays_closed(#[case] rule: Value, #[case] reason: Reason) {
    let plan = plan(&workflow(json!({"network": {"egress": [rule]}})), &observed());
    assert_eq!(plan.acceptance.reason, reason, "{}", plan.acceptance.message);
    assert!(
        plan.acceptance
            .problems
            .iter()
            .all(|problem| problem.path.starts_with("spec.network.egress[0]"))
    );
    let opened = plan.changes.iter().filter_map(|change| match change {
        Change::Create(Child::NetworkPolicy, policy) => {
            policy.pointer("/spec/egress").and_then(Value::as_array).map(Vec::len)
        }
        _ => None,
    });
    assert_eq!(opened.sum::<usize>(), 1, "DNS alone");
}

/// Both ways, and nobody else is held back.
#[test]
fn ranges_stay_closed_while_those_of_the_cluster_are_not_known() {
    let bank = json!({"cidrs": ["203.0.113.0/24"]});
    let pods = json!({"name": "p", "to": {"pods": {"selector": {"matchLabels": {"a": "b"}}}}, "ports": [{"port": 1}]});
    let network = json!({
        "ingress": [{"name": "x", "from": bank, "ports": [{"port": 1}]}],
        "egress": [{"name": "x", "to": bank, "ports": [{"port": 1}]}, pods, {"name": "api", "to": {"apiServer": {}}}],
    });
    let declared = workflow(json!({"network": network}));
    let mut observed = observed();
    let rules = |plan: &Plan| {
        let policy = plan.changes.iter().find_map(|change| match change {
            Change::Create(Child::NetworkPolicy, policy) => Some(policy["spec"].clone()),
            _ => None,
        });
        let policy = policy.unwrap();
        (
            policy["ingress"].as_array().unwrap().len(),
            policy["egress"].as_array().unwrap().len(),
        )
    };
    let known = plan(&declared, &observed);
    assert_eq!((known.acceptance.accepted, rules(&known)), (true, (1, 4)));

    observed.class.as_mut().unwrap().status = None;
    let unknown = plan(&declared, &observed);
    assert_eq!(
        (unknown.acceptance.reason, rules(&unknown)),
        (Reason::OutsideClass, (0, 3))
    );
    let paths: Vec<_> = unknown
        .acceptance
        .problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "spec.network.ingress[0].from.cidrs[0]",
            "spec.network.egress[0].to.cidrs[0]"
        ]
    );
    let message = unknown.acceptance.message;
    assert!(
        message.contains("spec.cluster.clusterCIDRs of AIWorkflowClass default"),
        "{message}"
    );
    assert!(
        plan(&workflow(json!({"network": {"egress": [pods]}})), &observed)
            .acceptance
            .accepted
    );

    let cluster = json!({"clusterCIDRs": ["10.0.0.0/8"]});
    observed.class.as_mut().unwrap().spec.cluster = serde_json::from_value(cluster).unwrap();
    assert_eq!(rules(&plan(&declared, &observed)), (1, 4));
}

#[test]
fn what_does_not_fit_into_one_policy_opens_no_range() {
    let rule = |n: usize| json!({"name": n.to_string(), "to": {"cidrs": vec!["0.0.0.0/0"; 64], "except": ["198.51.100.0/24"]}, "ports": [{"port": 1}]});
    let rules: Vec<_> = (0..64).map(rule).collect();
    let plan = plan(&workflow(json!({"network": {"egress": rules}})), &observed());
    assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
    assert!(
        plan.acceptance.message.contains("name fewer ranges"),
        "{}",
        plan.acceptance.message
    );
    let [Change::Create(_, policy), ..] = plan.changes.as_slice() else {
        panic!("{:?}", kinds(&plan.changes))
    };
    assert_eq!(policy["spec"]["egress"].as_array().map(Vec::len), Some(1), "DNS alone");
}

#[rstest]
#[case::default_account(json!({"identity": {"serviceAccountName": "default"}}), "spec.identity.serviceAccountName")]
#[case::two_launchers_in_one(json!({"launchers": [{"user": "a", "group": "b"}]}), "spec.launchers[0]")]
#[case::everybody(json!({"launchers": [{"group": "system:authenticated"}]}), "spec.launchers[0].group")]
#[case::a_controller(json!({"launchers": [{"user": "system:kube-controller-manager"}]}), "spec.launchers[0].user")]
#[case::no_images(json!({"images": []}), "spec.images")]
#[case::image_with_a_tag(json!({"images": ["docker.io/library/python:3"]}), "spec.images[0]")]
#[case::image_without_registry(json!({"images": ["python"]}), "spec.images[0]")]
#[case::wildcard_in_a_segment(json!({"images": ["registry.example.com*/x"]}), "spec.images[0]")]
fn an_old_bad_value_is_found_again(#[case] spec: Value, #[case] path: &str) {
    let acceptance = plan(&workflow(spec), &observed()).acceptance;
    assert_eq!(acceptance.reason, Reason::Invalid);
    assert_eq!(
        acceptance
            .problems
            .iter()
            .map(|problem| problem.path.as_str())
            .collect::<Vec<_>>(),
        [path]
    );
}

/// The names become part of URLs that are asked with Ringfence's rights.
#[test]
fn what_is_no_name_is_not_asked_for() {
    let peer = |namespace: &str, name: &str| json!({"name": "s", "to": {"workflow": {"namespace": namespace, "name": name}}, "ports": [{"port": 1}]});
    let egress = [
        peer("ai", "a b"),
        peer("ai", "../x"),
        peer("../..", "a"),
        peer("ai", "a?x=y"),
        peer("ai", "fine"),
    ];
    let workflow = workflow(json!({"network": {"egress": egress}}));
    assert_eq!(peers_of(&workflow), [("ai".to_owned(), "fine".to_owned())].into());
}

#[test]
fn both_ends_declare_a_path_between_workflows() {
    let to = json!({"network": {"egress": [{"name": "s", "to": {"workflow": {"name": "summarise"}}, "ports": [{"port": 1}]}]}});
    let from = json!({"network": {"ingress": [{"name": "t", "from": {"workflow": {"name": "triage"}}, "ports": [{"port": 1}]}]}});
    let us = workflow(to);
    let mut observed = observed();
    assert_eq!(plan(&us, &observed).unresolved.unwrap().0, Reason::PeerMissing);
    let key = ("ai".to_owned(), "summarise".to_owned());
    assert_eq!(peers_of(&us), [key.clone()].into());
    observed
        .peers
        .insert(key.clone(), named_workflow("summarise", json!({})));
    assert_eq!(plan(&us, &observed).unresolved.unwrap().0, Reason::PeerDoesNotNameUs);
    observed.peers.insert(key, named_workflow("summarise", from));
    assert_eq!(plan(&us, &observed).unresolved, None);
}

/// Who may not reach a namespace is not told what is declared there.
#[test]
fn a_peer_that_the_class_does_not_open_is_not_looked_at() {
    let peer = json!({"workflow": {"namespace": "other", "name": "hidden"}});
    let ports = json!([{"port": 1}]);
    let us = workflow(json!({"network": {
        "egress": [{"name": "s", "to": peer, "ports": ports}], "ingress": [{"name": "t", "from": peer, "ports": ports}],
    }}));
    let mut observed = observed();
    let alone = plan(&us, &observed);
    assert_eq!(
        (alone.acceptance.reason, &alone.unresolved),
        (Reason::OutsideClass, &None)
    );
    observed.peers.insert(
        ("other".to_owned(), "hidden".to_owned()),
        named_workflow("hidden", json!({})),
    );
    assert_eq!(plan(&us, &observed), alone);
    let open = serde_json::from_value(json!({"namespaces": ["other"]})).unwrap();
    observed.class.as_mut().unwrap().spec.network = Some(open);
    assert_eq!(plan(&us, &observed).unresolved.unwrap().0, Reason::PeerDoesNotNameUs);
}

#[test]
fn grants_that_were_not_all_read_are_not_called_absent() {
    let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
    let declared = json!([{"namespace": "shop", "rules": [rule("services"), rule("pods")]}]);
    let us = workflow(json!({"permissions": {"crossNamespace": declared}}));
    let grant = json!({
        "metadata": {"namespace": "shop", "name": "g"},
        "spec": {"from": [{"namespace": "ai", "name": "triage"}], "rules": [rule("services")]},
    });
    let mut observed = Observed {
        grants: vec![serde_json::from_value(grant).unwrap()],
        ..observed()
    };
    let said = |observed: &Observed| plan(&us, observed).unresolved.unwrap().1;
    let absent = said(&observed);
    assert!(
        absent.contains("rules[1]: no AIWorkflowGrant in namespace shop"),
        "{absent}"
    );
    let why = "there are many".to_owned();
    observed.unread_grants.insert("shop".to_owned(), why);
    let unread = said(&observed);
    assert!(
        unread.contains("rules[1]: whether an AIWorkflowGrant in namespace shop covers it")
            && unread.contains("because there are many")
            && !unread.contains("rules[0]"),
        "{unread}"
    );
}

/// To go through it for each rule anew would take minutes, at every look at the workflow.
#[test]
fn a_long_grant_is_gone_through_once_for_all_that_is_declared() {
    let rule = |names: Vec<String>| json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get"]});
    let entry = json!({"namespace": "shop", "rules": vec![rule(vec!["other".to_owned()]); 64]});
    let us = workflow(json!({"permissions": {"crossNamespace": vec![entry; 16]}}));
    let names = (0..200_000).map(|name| format!("n{name}")).collect();
    let grant = json!({
        "metadata": {"namespace": "shop", "name": "g"},
        "spec": {"from": [{"namespace": "ai", "name": "triage"}], "rules": [rule(names)]},
    });
    let observed = Observed {
        grants: vec![serde_json::from_value(grant).unwrap()],
        ..observed()
    };
    let started = std::time::Instant::now();
    let (_, said) = references::unresolved(&us, &observed, observed.class.as_ref().unwrap()).unwrap();
    assert_eq!(said.matches("no AIWorkflowGrant in namespace shop").count(), 1024);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[rstest]
#[case::enforced(&[("enforce", "default")], "True", "Fenced")]
#[case::warned(&[("warn", "default")], "False", "NotEnforced")]
fn ready_says_whether_the_fence_is_closed(#[case] labels: &[(&str, &str)], #[case] ready: &str, #[case] reason: &str) {
    let us = workflow(json!({}));
    let observed = Observed {
        namespace: namespace(labels),
        ..observed()
    };
    let plan = plan(&us, &observed);
    let outcome = Outcome::Applied(Some(crate::api::ServiceAccountStatus {
        name: "triage".into(),
        uid: "1".into(),
    }));
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let first = status(&us, &observed, &plan, &outcome, now);
    let condition = crate::api::find(&first.conditions, crate::api::ConditionType::Ready).unwrap();
    assert_eq!(
        (format!("{:?}", condition.status).as_str(), condition.reason.as_str()),
        (ready, reason)
    );
    assert!(
        first
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
    let resolved = crate::api::find(&first.conditions, crate::api::ConditionType::ResolvedRefs).unwrap();
    assert_eq!(resolved.message, "no peer is missing", "it names none");
    assert_eq!(first.mode, observed.namespace.mode());

    let again = AIWorkflow {
        status: Some(first.clone()),
        ..us
    };
    let later = "2026-11-22T09:00:00Z".parse().unwrap();
    assert_eq!(
        status(&again, &observed, &plan, &outcome, later),
        first,
        "a status that says the same is not written again"
    );
}

#[test]
fn the_strongest_mode_fences_and_audit_never_does() {
    let both = namespace(&[("warn", "w"), ("enforce", "e"), ("audit", "a")]);
    assert_eq!((both.mode(), both.fencing_class()), (Some(Mode::Enforce), Some("e")));
    assert_eq!(namespace(&[("warn", "w"), ("audit", "a")]).fencing_class(), Some("w"));
    assert_eq!(namespace(&[("audit", "a")]).fencing_class(), None);
}

#[test]
fn what_could_not_be_read_is_unknown_and_what_was_said_before_stays() {
    let us = workflow(json!({}));
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = |status: &crate::api::AIWorkflowStatus| {
        let said = |condition: &crate::api::Condition| (format!("{:?}", condition.status), condition.reason.clone());
        status.conditions.iter().map(said).collect::<Vec<_>>()
    };
    let words = |all: &[(&str, &str)]| {
        let words = all
            .iter()
            .map(|(status, reason)| (String::from(*status), String::from(*reason)));
        words.collect::<Vec<_>>()
    };
    let first = unobserved_status(&us, Reason::ApiUnavailable, "no answer", now);
    let expected = [
        ("Unknown", "ApiUnavailable"),
        ("Unknown", "ApiUnavailable"),
        ("False", "ApiUnavailable"),
        ("False", "ApiUnavailable"),
    ];
    assert_eq!(said(&first), words(&expected));

    let plan = plan(&us, &observed());
    let stands = status(&us, &observed(), &plan, &Outcome::Applied(None), now);
    let later = unobserved_status(
        &AIWorkflow {
            status: Some(stands),
            ..us
        },
        Reason::ApiUnavailable,
        "no answer",
        now,
    );
    let expected = [
        ("True", "Accepted"),
        ("True", "Resolved"),
        ("False", "ApiUnavailable"),
        ("False", "ApiUnavailable"),
        ("True", "Possible"),
    ];
    assert_eq!(said(&later), words(&expected));
}

#[test]
fn rules_that_were_refused_are_not_shown_as_held() {
    let us = workflow(json!({"permissions": read_config()}));
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let plan = plan(&us, &observed());
    let held = status(&us, &observed(), &plan, &Outcome::Applied(None), now);
    assert_eq!(held.effective_rules.len(), 1);
    let before = AIWorkflow {
        status: Some(held),
        ..us
    };
    let refused = Outcome::Failed(Reason::Forbidden, "above the ceiling".to_owned());
    assert_eq!(status(&before, &observed(), &plan, &refused, now).effective_rules, []);
    let unanswered = Outcome::Failed(Reason::ApiUnavailable, "no answer".to_owned());
    assert_eq!(
        status(&before, &observed(), &plan, &unanswered, now)
            .effective_rules
            .len(),
        1
    );
}

#[test]
fn an_account_carries_what_is_declared_and_the_class_allows() {
    let key = "eks.amazonaws.com/role-arn";
    let identity = json!({"annotations": {key: "arn:aws:iam::1:role/x"}, "imagePullSecrets": [{"name": "registry"}]});
    let us = workflow(json!({"identity": identity}));
    let account = |plan: &Plan| {
        let found = plan.changes.iter().find_map(|change| match change {
            Change::Create(Child::ServiceAccount, account) => Some(account.clone()),
            _ => None,
        });
        found.unwrap()
    };
    let closed = plan(&us, &observed());
    assert_eq!(closed.acceptance.reason, Reason::OutsideClass);
    assert_eq!(
        closed.acceptance.problems[0].value.as_deref(),
        Some(key),
        "the key, and not the value"
    );
    assert!(account(&closed)["metadata"]["annotations"].get(key).is_none());

    let mut open = observed();
    let identity = crate::api::ClassIdentity {
        annotations: vec![key.to_owned()],
        ..Default::default()
    };
    open.class.as_mut().unwrap().spec.identity = Some(identity);
    let accepted = plan(&us, &open);
    assert!(accepted.acceptance.accepted, "{}", accepted.acceptance.message);
    let made = account(&accepted);
    assert_eq!(made["metadata"]["annotations"][key], "arn:aws:iam::1:role/x");
    assert_eq!(made["imagePullSecrets"], json!([{"name": "registry"}]));
    assert_eq!(
        owner_uid(&made),
        Some(UID),
        "and Ringfence's own are not to be replaced"
    );

    let reserved =
        json!({"identity": {"annotations": {"ringfence.dev/owner-uid": "x"}, "imagePullSecrets": [{"name": "../x"}]}});
    let refused = plan(&workflow(reserved), &open);
    assert_eq!(
        (refused.acceptance.reason, refused.acceptance.problems.len()),
        (Reason::Invalid, 2)
    );
}

/// As large as the definition and the API server's bound on a request let a declaration be: each list that costs the most is full.
#[cfg(target_os = "linux")]
fn largest() -> AIWorkflow {
    let many = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|number| format!("{number:a>length$}")).collect()
    };
    let rule = || {
        json!({
            "apiGroups": many(16, 16), "resources": many(16, 16), "resourceNames": many(32, 16), "verbs": vec!["get"; 16],
        })
    };
    let rules = |count: usize| (0..count).map(|_| rule()).collect::<Vec<_>>();
    let across: Vec<_> = many(16, 63)
        .into_iter()
        .map(|namespace| json!({"namespace": namespace, "rules": rules(16)}))
        .collect();
    let cidrs = |network: usize, wide: usize| -> Vec<String> {
        (0..64)
            .map(|subnet| format!("100.{network}.{subnet}.0/{wide}"))
            .collect()
    };
    let ports: Vec<_> = (1..=32)
        .map(|port| json!({"port": port, "protocol": "UDP", "endPort": port + 32}))
        .collect();
    let direction = |peer: &str| -> Vec<Value> {
        (0..64)
            .map(|number| {
                let reach = json!({"cidrs": cidrs(number, 24), "except": cidrs(number, 25)});
                json!({"name": format!("{peer}-{number}"), peer: reach, "ports": ports})
            })
            .collect()
    };
    let images: Vec<_> = many(64, 200)
        .into_iter()
        .map(|name| format!("r.example.com/*/{name}/**"))
        .collect();
    let secrets: Vec<_> = many(32, 63)
        .into_iter()
        .map(|name| json!({"name": name, "secretRef": {"name": name, "keys": many(16, 200)}}))
        .collect();
    let declared = workflow(json!({
        "images": images,
        "permissions": {"rules": rules(32), "crossNamespace": across},
        "secrets": secrets,
        "network": {"ingress": direction("from"), "egress": direction("to")},
    }));
    let bytes = serde_json::to_vec(&declared).unwrap().len();
    assert!((900_000..1_500_000).contains(&bytes), "{bytes}");
    declared
}

/// How long this thread was on a processor, whoever else uses the machine.
#[cfg(target_os = "linux")]
fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// However long the lists on both sides are, what a class allows is sorted and told once. Half of what is allowed here is taken by code that is
/// not optimized, on a machine that others use too.
#[cfg(target_os = "linux")]
#[test]
fn the_largest_declaration_is_planned_by_the_largest_class_in_no_time() {
    let largest = largest();
    let mut class = observed().class.unwrap();
    let rule = PolicyRule {
        verbs: vec!["get".into()],
        ..largest.rules()[0].clone()
    };
    class.spec.permissions = vec![rule; 64];
    let observed = Observed {
        class: Some(class),
        ..observed()
    };
    let started = worked();
    assert!(
        !plan(&largest, &observed).acceptance.accepted,
        "a cross-namespace rule asks for more"
    );
    let took = worked() - started;
    assert!(took < Duration::from_secs(6), "{took:?}");
}
