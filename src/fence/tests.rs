use rstest::rstest;
use serde_json::{Value, json};

use super::testing::{facts, pod, review, set, unset, workflow_object, workload};
use super::*;
use crate::review::Review;

fn exempt(name: &str) -> bool {
    name == "kube-system"
}

/// Rules that refuse, in the order in which they are told; each once.
fn rules(violations: Vec<Violation>) -> Vec<String> {
    let mut rules: Vec<String> = violations.into_iter().map(|violation| violation.policy).collect();
    rules.dedup();
    rules
}

fn judged(review: &Review, facts: &Facts) -> Vec<String> {
    let Some(subject) = Subject::of(review).unwrap() else {
        return Vec::new();
    };
    let case = Case::new(&subject, facts, exempt);
    let mut violations = case.refusals();
    for (mode, class) in case.modes() {
        violations.extend(case.violations(mode, &class));
    }
    rules(violations)
}

fn created(group: &str, kind: &str, object: Value, facts: &Facts) -> Vec<String> {
    judged(&review("CREATE", group, kind, Some(&object), None), facts)
}

fn without_mode() -> Facts {
    Facts {
        namespace: Some(json!({"metadata": {"name": "ai", "labels": {}}})),
        ..facts()
    }
}

fn with_modes(mut labels: Value) -> Facts {
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    Facts {
        namespace: Some(json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": labels}})),
        ..facts()
    }
}

#[test]
fn what_fits_the_fence_passes() {
    assert_eq!(created("", "Pod", pod(), &facts()), [""; 0]);
    for (group, kind) in [("batch", "Job"), ("apps", "Deployment"), ("", "ReplicationController")] {
        assert_eq!(created(group, kind, workload("w"), &facts()), [""; 0]);
    }
}

#[rstest]
#[case::no_label(unset(pod(), "/metadata/labels"), &["declared-workflow"])]
#[case::label_of_nobody(set(pod(), "/metadata/labels/ringfence.dev~1workflow", json!("No_One")), &["declared-workflow"])]
#[case::empty_label(set(pod(), "/metadata/labels/ringfence.dev~1workflow", json!("")), &["declared-workflow"])]
#[case::account(set(pod(), "/spec/serviceAccountName", json!("default")), &["own-service-account"])]
#[case::image(set(pod(), "/spec/containers/0/image", json!("docker.io/evil/a")), &["approved-images"])]
#[case::no_spec(unset(pod(), "/spec"), &["pod-template"])]
fn a_pod_that_does_not_fit_is_refused(#[case] pod: Value, #[case] refused: &[&str]) {
    assert_eq!(created("", "Pod", pod, &facts()), refused);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = set(
        set(pod(), "/spec/serviceAccountName", json!("x")),
        "/spec/containers/0/image",
        json!("evil.example/a"),
    );
    let facts = Facts {
        default_deny: None,
        account: None,
        ..facts()
    };
    let mut review = review("CREATE", "", "Pod", Some(&wrong), None);
    review.user.username = "bob".into();
    assert_eq!(
        judged(&review, &facts),
        ["launcher", "default-deny", "own-service-account", "approved-images"]
    );
}

#[rstest]
#[case::object("/metadata/labels")]
#[case::template("/spec/template/metadata/labels")]
fn every_place_that_hands_on_the_label_carries_it(#[case] pointer: &str) {
    assert_eq!(
        created("batch", "Job", unset(workload("j"), pointer), &facts()),
        ["declared-workflow"]
    );
    let other = set(
        workload("j"),
        &format!("{pointer}/ringfence.dev~1workflow"),
        json!("other"),
    );
    let refused = created("batch", "Job", other, &facts());
    assert!(refused.contains(&"declared-workflow".to_owned()), "{refused:?}");
}

#[test]
fn a_cron_job_hands_on_its_label_in_three_places() {
    let label = json!({"labels": {"ringfence.dev/workflow": "triage"}});
    let whole = json!({"metadata": label, "spec": {"jobTemplate": {"metadata": label, "spec": {"template": pod()}}}});
    assert_eq!(created("batch", "CronJob", whole.clone(), &facts()), [""; 0]);
    for pointer in [
        "/metadata/labels",
        "/spec/jobTemplate/metadata/labels",
        "/spec/jobTemplate/spec/template/metadata/labels",
    ] {
        assert_eq!(
            created("batch", "CronJob", unset(whole.clone(), pointer), &facts()),
            ["declared-workflow"],
            "{pointer}"
        );
    }
}

#[rstest]
#[case::absent(None)]
#[case::unreadable(Some(json!({"metadata": {"name": "triage"}, "spec": {"images": "all"}})))]
#[case::being_deleted(Some(set(workflow_object(), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))))]
#[case::not_accepted(Some(set(workflow_object(), "/spec/images", json!([]))))]
fn a_declaration_that_does_not_hold_refuses(#[case] workflow: Option<Value>) {
    let facts = Facts { workflow, ..facts() };
    for (group, kind, object) in [("", "Pod", pod()), ("batch", "Job", workload("j"))] {
        let refused = created(group, kind, object, &facts);
        assert_eq!(
            refused.first().map(String::as_str),
            Some("declared-workflow"),
            "{kind}: {refused:?}"
        );
    }
}

#[test]
fn an_unreadable_declaration_is_said_to_be_so() {
    let facts = Facts {
        workflow: Some(json!({"metadata": {"name": "triage"}, "spec": {"images": "all"}})),
        ..facts()
    };
    let review = review("CREATE", "", "Pod", Some(&pod()), None);
    let subject = Subject::of(&review).unwrap().unwrap();
    let violations = Case::new(&subject, &facts, exempt).violations(Mode::Enforce, "default");
    assert!(
        violations
            .iter()
            .any(|violation| violation.message.contains("cannot be read")),
        "{violations:?}"
    );
}

#[rstest]
#[case::absent(None)]
#[case::opened(Some(json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": []}})))]
#[case::narrowed(Some(json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress", "Egress"]}})))]
#[case::being_deleted(facts().default_deny.map(|policy| set(policy, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))))]
fn no_pod_runs_before_the_default_deny_stands(#[case] default_deny: Option<Value>) {
    let facts = Facts {
        default_deny,
        ..facts()
    };
    assert_eq!(created("", "Pod", pod(), &facts), ["default-deny"]);
    assert_eq!(
        created("batch", "Job", workload("j"), &facts),
        [""; 0],
        "templates do not wait"
    );
}

#[test]
fn pods_wait_for_their_account_and_templates_do_not() {
    let facts = Facts {
        account: None,
        ..facts()
    };
    assert_eq!(created("", "Pod", pod(), &facts), ["own-service-account"]);
    assert_eq!(created("batch", "Job", workload("j"), &facts), [""; 0]);
}

#[rstest]
#[case::no_class(None)]
#[case::class_without_images(Some(json!({"metadata": {"name": "default"}, "spec": {}})))]
#[case::unreadable(Some(json!({"metadata": {"name": "default"}, "spec": {"images": "all"}})))]
fn without_a_readable_class_nothing_is_allowed(#[case] class: Option<Value>) {
    let mut facts = facts();
    facts.classes.insert("default".into(), class);
    let refused = created("", "Pod", pod(), &facts);
    assert!(
        refused.contains(&"approved-images".to_owned()) && refused.contains(&"declared-workflow".to_owned()),
        "{refused:?}"
    );
}

#[test]
fn a_labelled_object_outside_approved_namespaces_is_refused() {
    let label = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}});
    for (group, kind, object) in [
        ("", "Pod", pod()),
        ("batch", "Job", workload("j")),
        ("argoproj.io", "Workflow", label),
    ] {
        assert_eq!(
            created(group, kind, object.clone(), &without_mode()),
            ["approved-namespace"]
        );
        let nowhere = Facts {
            workflow: None,
            ..without_mode()
        };
        assert_eq!(created(group, kind, object.clone(), &nowhere), ["approved-namespace"]);
        let absent = Facts {
            namespace: None,
            ..facts()
        };
        assert_eq!(created(group, kind, object.clone(), &absent), ["approved-namespace"]);
        let exempt = json!({"metadata": {"name": "kube-system", "labels": {"ringfence.dev/enforce": "default"}}});
        assert_eq!(
            created(
                group,
                kind,
                object,
                &Facts {
                    namespace: Some(exempt),
                    ..facts()
                }
            ),
            ["approved-namespace"]
        );
    }
    let only_template = unset(workload("j"), "/metadata/labels");
    assert_eq!(
        created("batch", "Job", only_template, &without_mode()),
        ["approved-namespace"]
    );
}

#[test]
fn a_refusal_says_what_kind_of_namespace_it_is() {
    let exempted = Some(json!({"metadata": {"name": "kube-system", "labels": {"ringfence.dev/enforce": "default"}}}));
    for (namespace, said, fix) in [
        (exempted, "platform's own", "remove the label"),
        (
            without_mode().namespace,
            "not approved",
            "kubectl label namespace ai ringfence.dev/enforce=<class>",
        ),
        (None, "does not exist", "create the namespace first"),
    ] {
        let review = review("CREATE", "", "Pod", Some(&pod()), None);
        let subject = Subject::of(&review).unwrap().unwrap();
        let facts = Facts { namespace, ..facts() };
        let refusals = Case::new(&subject, &facts, exempt).refusals();
        assert!(
            refusals.len() == 1 && refusals[0].message.contains(said) && refusals[0].fix.contains(fix),
            "{refusals:?}"
        );
    }
}

#[test]
fn what_lies_in_no_namespace_takes_the_label_where_it_runs_nothing() {
    let object = json!({"metadata": {"name": "x", "labels": {"ringfence.dev/workflow": "triage"}}});
    let of = |group: &str, kind: &str, object: &Value| {
        let mut review = review("CREATE", group, kind, Some(object), None);
        review.namespace = None;
        judged(&review, &Facts::default())
    };
    assert_eq!(of("example.com", "Cluster", &object), [""; 0]);
    assert_eq!(of("", "Pod", &pod()), ["approved-namespace"]);
    let namespace = review("CREATE", "", "Namespace", Some(&object), None);
    assert_eq!(judged(&namespace, &facts()), [""; 0], "it is not in itself");
}

#[test]
fn what_is_not_labelled_is_free_outside_fences() {
    assert_eq!(
        created("", "Pod", unset(pod(), "/metadata/labels"), &without_mode()),
        [""; 0]
    );
    let exempt = json!({"metadata": {"name": "kube-system", "labels": {}}});
    assert_eq!(
        created(
            "",
            "Pod",
            unset(pod(), "/metadata/labels"),
            &Facts {
                namespace: Some(exempt),
                ..facts()
            }
        ),
        [""; 0]
    );
    assert_eq!(created("", "ConfigMap", json!({"metadata": {}}), &facts()), [""; 0]);
}

#[rstest]
#[case::moved(json!({"ringfence.dev/workflow": "other"}))]
#[case::removed(json!({}))]
fn a_pod_keeps_its_label_whoever_asks(#[case] labels: Value) {
    let new = set(pod(), "/metadata/labels", labels);
    for subresource in ["", "status", "ephemeralcontainers", "resize"] {
        for facts in [facts(), without_mode()] {
            let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
            review.subresource = subresource.into();
            let refused = judged(&review, &facts);
            assert!(
                refused.contains(&"fixed-label".to_owned()),
                "{subresource}: {refused:?}"
            );
        }
    }
}

#[test]
fn a_pod_gets_no_label_later() {
    let old = unset(pod(), "/metadata/labels");
    assert!(
        judged(&review("UPDATE", "", "Pod", Some(&pod()), Some(&old)), &facts()).contains(&"fixed-label".to_owned())
    );
}

/// Whose launchers are asked says the new label.
#[rstest]
#[case::moved(json!("other"), true)]
#[case::kept(json!("triage"), false)]
fn what_makes_pods_goes_to_no_other_workflow(
    #[case] label: Value,
    #[case] is_moved: bool,
    #[values(("apps", "Deployment"), ("ray.io", "RayJob"))] of: (&str, &str),
) {
    let (group, kind) = of;
    let mut new = set(workload("w"), "/metadata/labels/ringfence.dev~1workflow", label.clone());
    new = set(new, "/spec/template/metadata/labels/ringfence.dev~1workflow", label);
    new = set(new, "/metadata/finalizers", json!(["a.b/c"]));
    let refused = |old: &Value| judged(&review("UPDATE", group, kind, Some(&new), Some(old)), &facts());
    assert_eq!(
        refused(&workload("w")),
        if is_moved { &["fixed-label"][..] } else { &[] }
    );
    let of_nobody = unset(
        unset(workload("w"), "/metadata/labels"),
        "/spec/template/metadata/labels",
    );
    assert!(
        !refused(&of_nobody).contains(&"fixed-label".to_owned()),
        "what nobody had"
    );
    let by_its_template = unset(workload("w"), "/metadata/labels");
    let expected = is_moved && kind == "Deployment";
    assert_eq!(refused(&by_its_template).contains(&"fixed-label".to_owned()), expected);
}

#[test]
fn what_runs_nothing_may_go_to_another_workflow() {
    let old = json!({"metadata": {"name": "m", "labels": {"ringfence.dev/workflow": "other"}}});
    let new = json!({"metadata": {"name": "m", "labels": {"ringfence.dev/workflow": "triage"}}});
    assert_eq!(
        judged(&review("UPDATE", "", "ConfigMap", Some(&new), Some(&old)), &facts()),
        [""; 0]
    );
}

/// Else whoever may not take the label away would write what is none.
#[rstest]
#[case::no_name(json!("x_y"), &["declared-workflow"])]
#[case::empty(json!(""), &["declared-workflow"])]
#[case::an_old_one_that_is_none_goes(Value::Null, &[])]
fn what_runs_nothing_is_no_workflows_by_another_word_than_a_name(#[case] label: Value, #[case] expected: &[&str]) {
    let was = if label.is_null() { "x_y" } else { "triage" };
    let old = json!({"metadata": {"name": "m", "labels": {"ringfence.dev/workflow": was}}});
    let new = if label.is_null() {
        unset(old.clone(), "/metadata/labels")
    } else {
        set(old.clone(), "/metadata/labels/ringfence.dev~1workflow", label)
    };
    assert_eq!(
        judged(&review("UPDATE", "", "ConfigMap", Some(&new), Some(&old)), &facts()),
        expected
    );
}

/// Each is looked up among those that were there, and not looked for: ten thousand times ten thousand would take minutes.
#[rstest]
#[case::owners("apps", "Deployment", "/metadata/ownerReferences")]
#[case::owners_of_an_operators("ray.io", "RayJob", "/metadata/ownerReferences")]
#[case::owners_of_what_runs_nothing("", "ConfigMap", "/metadata/ownerReferences")]
#[case::finalizers("apps", "Deployment", "/metadata/finalizers")]
#[case::tolerations("", "Pod", "/spec/tolerations")]
#[case::debuggers("", "Pod", "/spec/ephemeralContainers")]
fn long_lists_are_compared_in_no_time(#[case] group: &str, #[case] kind: &str, #[case] list: &str) {
    let entry = |n: usize| match list {
        "/metadata/finalizers" => json!(format!("a.b/{n}")),
        "/spec/tolerations" => json!({"key": "node.kubernetes.io/not-ready", "value": n.to_string()}),
        "/spec/ephemeralContainers" => json!({"name": format!("d{n}"), "image": "ok/a"}),
        _ => json!({"apiVersion": "v1", "kind": "Aa", "name": "a", "uid": n.to_string()}),
    };
    let object = match kind {
        "Pod" => pod(),
        _ => workload("w"),
    };
    let of = |range: &mut dyn Iterator<Item = usize>| set(object.clone(), list, range.map(entry).collect());
    let old = of(&mut (0..15_000));
    for new in [of(&mut (0..15_000).rev()), of(&mut (1..15_001).rev())] {
        let review = review("UPDATE", group, kind, Some(&new), Some(&old));
        let started = std::time::Instant::now();
        judged(&review, &facts());
        is_inert(&old, &new);
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }
}

#[test]
fn a_binding_does_not_relabel_its_pod() {
    let binding =
        json!({"metadata": {"name": "p", "labels": {"ringfence.dev/workflow": "triage"}}, "target": {"name": "node"}});
    assert_eq!(created("", "Binding", binding.clone(), &facts()), ["fixed-label"]);
    assert_eq!(
        created("", "Binding", unset(binding, "/metadata/labels"), &facts()),
        [""; 0]
    );
}

#[rstest]
#[case::image("/spec/containers/0/image", json!("evil.example/a"), &["approved-images"])]
#[case::ephemeral("/spec/ephemeralContainers", json!([{"image": "evil.example/a"}]), &["debug-window", "approved-images"])]
#[case::allowed_image("/spec/containers/0/image", json!("ok/b"), &[])]
#[case::annotation("/metadata/annotations", json!({"a": "b"}), &["pod-annotations"])]
#[case::label("/metadata/labels/a", json!("b"), &[])]
fn a_changed_pod_is_judged_again(#[case] pointer: &str, #[case] value: Value, #[case] refused: &[&str]) {
    let new = set(pod(), pointer, value);
    // What a pod waits for before it starts is behind it.
    let facts = Facts {
        default_deny: None,
        account: None,
        ..facts()
    };
    assert_eq!(
        judged(&review("UPDATE", "", "Pod", Some(&new), Some(&pod())), &facts),
        refused
    );
}

#[test]
fn a_pod_and_every_template_refer_to_declared_secrets_alone() {
    let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "API_KEY"}}}]);
    let pod = set(pod(), "/spec/containers/0/env", env);
    let job = set(workload("j"), "/spec/template", pod.clone());
    let secrets = json!([{"name": "a", "secretRef": {"name": "openai", "keys": ["API_KEY"]}}]);
    let declared = Facts {
        workflow: Some(set(workflow_object(), "/spec/secrets", secrets)),
        ..facts()
    };
    for (group, kind, object) in [("", "Pod", &pod), ("batch", "Job", &job), ("apps", "Deployment", &job)] {
        assert_eq!(
            created(group, kind, object.clone(), &facts()),
            ["declared-secrets"],
            "{kind}"
        );
        assert_eq!(created(group, kind, object.clone(), &declared), [""; 0], "{kind}");
    }
    // What a pod was made with is behind it, and is not what a new label is about.
    let labelled = set(pod.clone(), "/metadata/labels/a", json!("b"));
    let update = review("UPDATE", "", "Pod", Some(&labelled), Some(&pod));
    assert_eq!(judged(&update, &facts()), [""; 0]);
    let changed = set(job.clone(), "/spec/template/metadata/labels/a", json!("b"));
    let update = review("UPDATE", "batch", "Job", Some(&changed), Some(&job));
    assert_eq!(judged(&update, &facts()), ["declared-secrets"]);
}

#[test]
fn what_looks_into_a_pod_is_refused_for_an_undeclared_secret_by_name() {
    let debugger =
        json!([{"image": "ok/a", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]);
    let new = set(pod(), "/spec/ephemeralContainers", debugger);
    let update = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
    assert_eq!(judged(&update, &facts()), ["debug-window", "declared-secrets"]);
}

/// Beside the window that is closed: an open one does not let it in either.
#[test]
fn what_looks_into_a_pod_reads_no_secret() {
    let debugger = json!([{"image": "ok/a", "envFrom": [{"secretRef": {"name": "s"}}]}]);
    let review = review(
        "UPDATE",
        "",
        "Pod",
        Some(&set(pod(), "/spec/ephemeralContainers", debugger)),
        Some(&pod()),
    );
    let facts = facts();
    let subject = Subject::of(&review).unwrap().unwrap();
    let case = Case::new(&subject, &facts, exempt);
    let violations = case
        .modes()
        .into_iter()
        .flat_map(|(mode, class)| case.violations(mode, &class));
    let paths: Vec<_> = violations.map(|violation| violation.path).collect();
    assert!(
        paths.contains(&"spec.ephemeralContainers[0].envFrom[0]".to_owned()),
        "{paths:?}"
    );
}

#[test]
fn a_pod_that_ends_is_let_go_however_wrong_it_is() {
    let wrong = json!({"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking"]}, "spec": {"containers": [{"image": "evil.example/a"}]}});
    let ended = set(wrong.clone(), "/metadata/finalizers", json!([]));
    assert_eq!(
        judged(&review("UPDATE", "", "Pod", Some(&ended), Some(&wrong)), &facts()),
        [""; 0]
    );
    assert_eq!(
        judged(&review("DELETE", "", "Pod", None, Some(&wrong)), &facts()),
        [""; 0]
    );
}

/// The deployment controller scales down by UPDATE what was there before the fence.
#[test]
fn what_came_before_the_fence_can_be_scaled_down_but_not_changed() {
    let old = set(
        json!({"metadata": {}, "spec": {"replicas": 1}}),
        "/spec/template",
        unset(pod(), "/metadata/labels"),
    );
    let scaled = set(old.clone(), "/spec/replicas", json!(0));
    assert_eq!(
        judged(
            &review("UPDATE", "apps", "ReplicaSet", Some(&scaled), Some(&old)),
            &facts()
        ),
        [""; 0]
    );
    let changed = set(old.clone(), "/spec/template/spec/containers/0/image", json!("ok/b"));
    assert_eq!(
        judged(
            &review("UPDATE", "apps", "ReplicaSet", Some(&changed), Some(&old)),
            &facts()
        ),
        ["declared-workflow"]
    );
}

#[rstest]
#[case::enforce(json!({"ringfence.dev/enforce": "default"}), &[Mode::Enforce])]
#[case::all(json!({"ringfence.dev/enforce": "a", "ringfence.dev/warn": "b", "ringfence.dev/audit": "c"}), &[Mode::Enforce, Mode::Warn, Mode::Audit])]
#[case::none(json!({}), &[])]
fn every_mode_is_judged_by_its_own_class(#[case] labels: Value, #[case] modes: &[Mode]) {
    let facts = with_modes(labels.clone());
    let review = review("CREATE", "", "Pod", Some(&pod()), None);
    let subject = Subject::of(&review).unwrap().unwrap();
    let judged = Case::new(&subject, &facts, exempt).modes();
    assert_eq!(judged.iter().map(|(mode, _)| *mode).collect::<Vec<_>>(), modes);
    for (mode, class) in judged {
        let label = format!("ringfence.dev/{mode:?}").to_lowercase();
        assert_eq!(labels[&label], class);
    }
}

#[test]
fn only_enforce_waits_for_the_default_deny_and_audit_not_for_the_account_either() {
    for (labels, refused) in [
        (json!({"ringfence.dev/warn": "default"}), &["own-service-account"][..]),
        (json!({"ringfence.dev/audit": "default"}), &[][..]),
    ] {
        let facts = Facts {
            default_deny: None,
            account: None,
            ..with_modes(labels)
        };
        assert_eq!(created("", "Pod", pod(), &facts), refused);
    }
}

#[test]
fn the_platforms_controllers_copy_labels_to_what_runs_nothing() {
    let slice = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}});
    let mut review = review("CREATE", "discovery.k8s.io", "EndpointSlice", Some(&slice), None);
    review.user.username = "system:kube-controller-manager".into();
    assert_eq!(judged(&review, &facts()), [""; 0]);
    review.user.username = "bob".into();
    assert_eq!(judged(&review, &facts()), ["launcher"]);
}

#[rstest]
#[case::connect("CONNECT", None, None)]
#[case::create("CREATE", None, None)]
#[case::update("UPDATE", Some(pod()), None)]
fn what_no_api_server_sends_is_not_judged(
    #[case] operation: &str,
    #[case] object: Option<Value>,
    #[case] old: Option<Value>,
) {
    assert!(Subject::of(&review(operation, "", "Pod", object.as_ref(), old.as_ref())).is_err());
}

#[test]
fn a_pod_needs_every_fact_and_a_template_fewer() {
    let named = |name: &str| {
        Some(Named {
            namespace: "ai".into(),
            name: name.into(),
        })
    };
    let mut review_ = review("CREATE", "", "Pod", Some(&pod()), None);
    review_.user.username = "system:serviceaccount:airflow:scheduler".into();
    let needs = Subject::of(&review_).unwrap().unwrap().needs();
    let launcher = Some(Named {
        namespace: "airflow".into(),
        name: "scheduler".into(),
    });
    let expected = Needs {
        namespace: Some("ai".into()),
        workflow: named("triage"),
        default_deny: Some("ai".into()),
        account: named("triage"),
        launcher,
        owner: None,
    };
    assert_eq!(needs, expected);
    let job = review("CREATE", "batch", "Job", Some(&workload("j")), None);
    let expected = Needs {
        namespace: Some("ai".into()),
        workflow: named("triage"),
        ..Needs::default()
    };
    assert_eq!(Subject::of(&job).unwrap().unwrap().needs(), expected);
}

#[test]
fn nothing_that_a_url_cannot_carry_is_asked_for() {
    let evil = set(
        set(pod(), "/metadata/labels/ringfence.dev~1workflow", json!("../../nodes")),
        "/spec/serviceAccountName",
        json!("../x"),
    );
    let mut review = review("CREATE", "", "Pod", Some(&evil), None);
    review.user.username = "system:serviceaccount:a:../x".into();
    let needs = Subject::of(&review).unwrap().unwrap().needs();
    assert_eq!((needs.workflow, needs.account, needs.launcher), (None, None, None));
    review.namespace = Some("../nodes".into());
    assert_eq!(Subject::of(&review).unwrap().unwrap().needs(), Needs::default());
}

#[test]
fn endless_mistakes_are_cut_off() {
    let containers = vec![json!({"image": "evil.example/a"}); 10_000];
    let review = review(
        "CREATE",
        "",
        "Pod",
        Some(&set(pod(), "/spec/containers", json!(containers))),
        None,
    );
    let subject = Subject::of(&review).unwrap().unwrap();
    let facts = facts();
    assert_eq!(
        Case::new(&subject, &facts, exempt)
            .violations(Mode::Enforce, "default")
            .len(),
        MAX_VIOLATIONS
    );
}

/// The class of [`facts`], with fields put over its own.
fn of_class(fields: &Value) -> Facts {
    let mut facts = facts();
    let class = facts.classes.get_mut("default").unwrap().as_mut().unwrap();
    for (key, value) in fields.as_object().unwrap() {
        class["spec"][key] = value.clone();
    }
    facts
}

/// What each field about the shape of pods refuses, and the class that allows it.
#[rstest]
#[case::volume("volumes", "/spec/volumes", json!([{"name": "a", "emptyDir": {}}]), json!({"volumes": {"types": ["emptyDir"]}}))]
#[case::driver("volumes", "/spec/volumes", json!([{"name": "a", "csi": {"driver": "d"}}]), json!({"volumes": {"types": ["csi"], "csiDrivers": ["d"]}}))]
#[case::annotation("pod-annotations", "/metadata/annotations", json!({"sidecar.istio.io/inject": "true"}), json!({"podAnnotations": ["sidecar.istio.io/"]}))]
#[case::sidecar("approved-images", "/spec/initContainers", json!([{"name": "i", "image": "istio/proxyv2"}]), json!({"images": {"allowed": ["docker.io/ok/*"], "injected": ["docker.io/istio/*"]}}))]
#[case::token(
    "projected-tokens", "/spec/volumes", json!([{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 7200}}]}}]),
    json!({"volumes": {"types": ["projected"]}, "identity": {"maxTokenSeconds": 7200}}),
)]
fn the_shape_of_a_pod_and_of_a_template_is_the_classs_to_say(
    #[case] rule: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] class: Value,
) {
    let shaped = set(pod(), pointer, value);
    let open = of_class(&class);
    let mut job = workload("j");
    job["spec"]["template"] = shaped.clone();
    let cron = json!({"metadata": job["metadata"], "spec": {"jobTemplate": {"metadata": job["metadata"], "spec": job["spec"]}}});
    for (group, kind, object) in [
        ("", "Pod", shaped),
        ("apps", "StatefulSet", job),
        ("batch", "CronJob", cron),
    ] {
        let refused = created(group, kind, object.clone(), &facts());
        assert!(refused.contains(&rule.to_owned()), "{kind}: {refused:?}");
        assert_eq!(created(group, kind, object, &open), [""; 0], "{kind}");
    }
}

#[test]
fn the_api_server_must_hold_pods_to_the_standard_before_one_is_made() {
    let bare = |mode: &str| json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": {mode: "default"}}});
    for mode in ["ringfence.dev/enforce", "ringfence.dev/warn", "ringfence.dev/audit"] {
        let facts = Facts {
            namespace: Some(bare(mode)),
            ..facts()
        };
        assert_eq!(created("", "Pod", pod(), &facts), ["pod-security"], "{mode}");
        assert_eq!(
            created("batch", "Job", workload("j"), &facts),
            [""; 0],
            "templates wait for their pods"
        );
        let changed = set(pod(), "/metadata/labels/a", json!("b"));
        let update = review("UPDATE", "", "Pod", Some(&changed), Some(&pod()));
        assert_eq!(judged(&update, &facts), [""; 0], "what runs is not held up");
    }
}

#[test]
fn what_a_pod_mounts_since_before_the_class_was_narrowed_stands_in_no_updates_way() {
    let old = set(pod(), "/spec/volumes", json!([{"name": "a", "nfs": {}}]));
    let old = set(old, "/metadata/annotations", json!({"old.example/a": "1"}));
    let new = set(old.clone(), "/metadata/labels/a", json!("b"));
    assert_eq!(
        judged(&review("UPDATE", "", "Pod", Some(&new), Some(&old)), &facts()),
        [""; 0]
    );
    let more = set(
        old.clone(),
        "/spec/volumes",
        json!([{"name": "a", "nfs": {}}, {"name": "b"}]),
    );
    let refused = judged(&review("UPDATE", "", "Pod", Some(&more), Some(&old)), &facts());
    assert_eq!(
        refused,
        ["volumes"],
        "no API server sends it, and it is judged all the same"
    );
}

#[test]
fn the_claims_of_a_stateful_set_are_volumes_of_its_pods() {
    let claims = set(
        workload("s"),
        "/spec/volumeClaimTemplates",
        json!([{"metadata": {"name": "data"}}]),
    );
    assert_eq!(created("apps", "StatefulSet", claims.clone(), &facts()), ["volumes"]);
    let open = of_class(&json!({"volumes": {"types": ["persistentVolumeClaim"]}}));
    assert_eq!(created("apps", "StatefulSet", claims, &open), [""; 0]);
}

#[rstest]
#[case::shipped("airflow", "dag_id", json!([{"name": "airflow"}]))]
#[case::of_the_class("ray", "ray.io/hash", json!([{"name": "ray", "podAnnotations": ["ray.io/"]}]))]
#[case::shipped_and_more("airflow", "ray.io/hash", json!([{"name": "airflow", "podAnnotations": ["ray.io/"]}]))]
fn an_engine_brings_its_annotations_where_the_class_opens_it(
    #[case] engine: &str,
    #[case] key: &str,
    #[case] engines: Value,
) {
    let annotated = set(pod(), "/metadata/annotations", json!({key: "x"}));
    let mut closed = facts();
    closed.workflow = Some(set(workflow_object(), "/spec/engine", json!(engine)));
    let refused = created("", "Pod", annotated.clone(), &closed);
    assert!(refused.contains(&"pod-annotations".to_owned()), "{refused:?}");
    let mut open = of_class(&json!({"engines": engines}));
    // To pods of a workflow that names none it brings nothing.
    assert_eq!(created("", "Pod", annotated.clone(), &open), ["pod-annotations"]);
    open.workflow = closed.workflow;
    assert_eq!(created("", "Pod", annotated, &open), [""; 0]);
}
