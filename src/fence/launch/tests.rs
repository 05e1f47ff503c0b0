use rstest::rstest;
use serde_json::json;

use super::super::testing::{facts, owner, owner_reference, pod, review, set, unset, workflow, workload};
use super::*;
use crate::review::Review;

const SCHEDULER: &str = "system:serviceaccount:airflow:scheduler";
const JOB_CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";

fn user(name: &str, groups: &[&str], proof: Option<(&str, &str)>) -> User {
    let mut user = User {
        username: name.into(),
        groups: groups.iter().map(|&g| g.to_owned()).collect(),
        ..User::default()
    };
    if let Some((uid, credential)) = proof {
        user.uid = uid.into();
        user.extra.insert(CREDENTIAL_ID.into(), vec![credential.into()]);
    }
    user
}

fn judged(review: &Review, facts: &Facts) -> Option<Violation> {
    let class = facts
        .class("default")
        .map(|class| serde_json::from_value(class.clone()).unwrap());
    let subject = Subject::of(review).unwrap().unwrap();
    check(&subject, facts, &workflow(), ("default", class.as_ref()))
}

#[rstest]
#[case::user(user("ann", &[], None), true)]
#[case::group(user("bob", &["launchers"], None), true)]
#[case::class(user("argo", &[], None), true)]
#[case::account(user(SCHEDULER, &[], Some(("scheduler-uid", "JTI=1"))), true)]
#[case::stranger(user("bob", &["data"], None), false)]
#[case::administrator(user("root", &["system:masters"], Some(("1", "X509SHA256=1"))), false)]
#[case::user_with_the_name_of_a_group(user("launchers", &[], None), false)]
#[case::group_with_the_name_of_a_user(user("bob", &["ann"], None), false)]
#[case::impersonated_account(user(SCHEDULER, &[], None), false)]
#[case::account_without_credential(user(SCHEDULER, &[], Some(("scheduler-uid", ""))), false)]
#[case::account_by_a_certificate(user(SCHEDULER, &[], Some(("scheduler-uid", "X509SHA256=1"))), false)]
#[case::account_by_the_id_of_no_token(user(SCHEDULER, &[], Some(("scheduler-uid", "JTI="))), false)]
#[case::account_without_uid(user(SCHEDULER, &[], Some(("", "JTI=1"))), false)]
#[case::former_account(user(SCHEDULER, &[], Some(("former-uid", "JTI=1"))), false)]
#[case::same_account_elsewhere(user("system:serviceaccount:evil:scheduler", &[], Some(("scheduler-uid", "JTI=1"))), false)]
#[case::unproven_controller(user(JOB_CONTROLLER, &[], None), false)]
#[case::controller_without_uid(user(JOB_CONTROLLER, &[], Some(("", "JTI=1"))), false)]
#[case::controller_by_a_certificate(user(JOB_CONTROLLER, &[], Some(("1", "X509SHA256=1"))), false)]
#[case::controller_without_credential(user(JOB_CONTROLLER, &[], Some(("1", ""))), false)]
fn only_launchers_make_labelled_objects(#[case] user: User, #[case] expected: bool) {
    let live = json!({"metadata": {"name": "scheduler", "uid": "scheduler-uid"}});
    for (group, kind, object) in [
        ("", "Pod", pod()),
        ("batch", "Job", workload("j")),
        (
            "argoproj.io",
            "Workflow",
            json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}}),
        ),
        (
            "",
            "ConfigMap",
            json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}}),
        ),
    ] {
        let mut review = review("CREATE", group, kind, Some(&object), None);
        review.user = user.clone();
        let verdict = judged(
            &review,
            &Facts {
                launcher: Some(live.clone()),
                ..facts()
            },
        );
        assert_eq!(verdict.is_none(), expected, "{kind}: {verdict:?}");
    }
}

/// With it, whoever declares that would have to be a launcher of another workflow.
#[rstest]
#[case::made(None, Some("triage"), true)]
#[case::labelled(Some(None), Some("triage"), true)]
#[case::labelled_otherwise(Some(Some("other")), Some("triage"), true)]
#[case::from_before(Some(Some("triage")), Some("triage"), false)]
#[case::taken_off(Some(Some("triage")), None, false)]
fn a_declaration_has_no_workflows_label(
    #[case] old: Option<Option<&str>>,
    #[case] new: Option<&str>,
    #[case] refused: bool,
    #[values("ann", "bob")] who: &str,
) {
    let declaration = |label: Option<&str>, owner: &str| {
        let labels = label.map_or(json!({}), |label| json!({"ringfence.dev/workflow": label}));
        json!({"metadata": {"labels": labels}, "spec": {"owner": owner}})
    };
    let (old, new) = (old.map(|label| declaration(label, "a")), declaration(new, "b"));
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let mut review = review(operation, "ringfence.dev", "AIWorkflow", Some(&new), old.as_ref());
    review.user = user(who, &[], None);
    let verdict = judged(&review, &facts());
    assert_eq!(verdict.is_some(), refused, "{verdict:?}");
}

#[test]
fn an_account_that_is_gone_launches_nothing() {
    let mut review = review("CREATE", "", "Pod", Some(&pod()), None);
    review.user = user(SCHEDULER, &[], Some(("scheduler-uid", "JTI=1")));
    let violation = judged(&review, &facts()).unwrap();
    assert!(violation.message.contains("credential ID"), "{violation:?}");
}

#[rstest]
#[case::group_of_everybody(json!({"group": "system:authenticated"}), user("bob", &["system:authenticated"], None))]
#[case::administrators(json!({"group": "system:masters"}), user("root", &["system:masters"], None))]
#[case::account_as_user(json!({"user": SCHEDULER}), user(SCHEDULER, &[], None))]
#[case::anonymous(json!({"user": ""}), user("", &[], None))]
#[case::nobody(json!({}), user("bob", &[], None))]
fn launchers_that_the_crd_refuses_stay_refused_when_they_are_old(#[case] launcher: Value, #[case] user: User) {
    let mut facts = facts();
    let class = facts.classes.get("default").cloned().flatten().unwrap();
    facts
        .classes
        .insert("default".into(), Some(set(class, "/spec/launchers", json!([launcher]))));
    let mut review = review("CREATE", "", "Pod", Some(&pod()), None);
    review.user = user;
    assert!(judged(&review, &facts).is_some());
}

#[rstest]
#[case::template("/spec/template/spec/containers/0/image", json!("ok/b"), true)]
#[case::label("/metadata/labels/ringfence.dev~1workflow", json!("triage"), true)]
#[case::controller("/metadata/ownerReferences", json!([{"uid": "x", "controller": true}]), true)]
fn who_changes_what_runs_must_launch(#[case] pointer: &str, #[case] value: Value, #[case] gated: bool) {
    let old = set(
        workload("d"),
        "/metadata/labels/ringfence.dev~1workflow",
        json!("former"),
    );
    let old = if pointer.contains("labels") { old } else { workload("d") };
    let new = set(old.clone(), pointer, value);
    let mut review = review("UPDATE", "apps", "Deployment", Some(&new), Some(&old));
    let owner = |reference| Owner {
        reference,
        found: Some(workload("x")),
    };
    let facts = Facts {
        owners: controller(&new).map(owner).into_iter().collect(),
        ..facts()
    };
    assert!(judged(&review, &facts).is_none(), "ann launches");
    review.user = user("bob", &[], None);
    assert_eq!(judged(&review, &facts).is_some(), gated, "bob does not");
}

#[test]
fn scaling_is_free_for_everybody() {
    let new = set(workload("d"), "/spec/replicas", json!(9));
    let mut review = review("UPDATE", "apps", "Deployment", Some(&new), Some(&workload("d")));
    review.user = user("bob", &[], None);
    assert!(Subject::of(&review).unwrap().is_none());
}

#[test]
fn debugging_a_pod_takes_a_window_and_no_launcher() {
    let new = set(
        pod(),
        "/spec/ephemeralContainers",
        json!([{"name": "d", "image": "ok/a"}]),
    );
    let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
    review.subresource = "ephemeralcontainers".into();
    review.user = user("bob", &[], None);
    assert!(judged(&review, &facts()).is_none());
    let both = set(new, "/spec/containers/0/image", json!("ok/b"));
    review.request["object"] = both;
    assert!(
        judged(&review, &facts()).is_some(),
        "a launcher's act is not hidden behind it"
    );
}

/// A pod that a controller makes, with its Job and CronJob.
fn made_by(controller: User, owners: Vec<Owner>) -> (Review, Facts) {
    let object = match owners.first() {
        Some(first) => set(pod(), "/metadata/ownerReferences", json!([owner_reference(first)])),
        None => pod(),
    };
    let mut review = review("CREATE", "", "Pod", Some(&object), None);
    review.user = controller;
    (review, Facts { owners, ..facts() })
}

fn controllers() -> [User; 2] {
    [
        user(CONTROLLER_MANAGER, &[], None),
        user(JOB_CONTROLLER, &[], Some(("job-controller-uid", "JTI=1"))),
    ]
}

/// It makes the claims of ephemeral volumes, which have the labels of their template.
#[test]
fn who_makes_claims_of_pods_is_a_controller() {
    let name = "system:serviceaccount:kube-system:ephemeral-volume-controller";
    assert!(is_built_in(&user(name, &[], Some(("uid", "JTI=1")))));
    assert!(!is_built_in(&user(name, &[], None)), "impersonated");
}

fn cron_job(uid: &str) -> Value {
    let label = json!({"ringfence.dev/workflow": "triage"});
    json!({
        "metadata": {"name": "w", "namespace": "ai", "uid": uid, "labels": label},
        "spec": {"jobTemplate": {"metadata": {"labels": label}, "spec": {"template": pod()}}},
    })
}

fn job_of_cron_job() -> Vec<Owner> {
    let cron_job = owner("batch/v1", "CronJob", "c", Some(cron_job("c")));
    let job = set(
        workload("j"),
        "/metadata/ownerReferences",
        json!([owner_reference(&cron_job)]),
    );
    vec![owner("batch/v1", "Job", "j", Some(job)), cron_job]
}

#[test]
fn controllers_work_for_labelled_owners() {
    for controller in controllers() {
        for owners in [
            vec![owner("batch/v1", "Job", "j", Some(workload("j")))],
            job_of_cron_job(),
        ] {
            let (review, facts) = made_by(controller.clone(), owners);
            assert_eq!(judged(&review, &facts), None);
        }
    }
}

#[rstest]
#[case::no_owner(vec![])]
#[case::owner_is_gone(vec![owner("batch/v1", "Job", "j", None)])]
#[case::owner_was_reborn(vec![owner("batch/v1", "Job", "j", Some(workload("other")))])]
#[case::owner_without_label(vec![owner("batch/v1", "Job", "j", Some(unset(workload("j"), "/metadata/labels")))])]
#[case::owner_of_another_workflow(vec![owner("batch/v1", "Job", "j", Some(
    set(workload("j"), "/metadata/labels/ringfence.dev~1workflow", json!("other")),
))])]
#[case::adopting_owner_whose_template_has_no_label(vec![owner("apps/v1", "ReplicaSet", "r", Some(
    unset(workload("r"), "/spec/template/metadata/labels"),
))])]
#[case::template_of_another_workflow(vec![owner("apps/v1", "ReplicaSet", "r", Some(
    set(workload("r"), "/spec/template/metadata/labels/ringfence.dev~1workflow", json!("other")),
))])]
#[case::owner_without_template(vec![owner("batch/v1", "Job", "j", Some(unset(workload("j"), "/spec/template")))])]
#[case::owner_that_makes_no_pods(vec![owner("v1", "ConfigMap", "m", Some(workload("m")))])]
#[case::job_of_another_group(vec![owner("example.com/v1", "Job", "j", Some(workload("j")))])]
#[case::second_owner_not_looked_up(job_of_cron_job().into_iter().take(1).collect())]
#[case::second_owner_is_gone({
    let mut owners = job_of_cron_job();
    owners[1].found = None;
    owners
})]
#[case::second_owner_hands_on_another_label({
    let mut owners = job_of_cron_job();
    owners[1].found = Some(set(cron_job("c"), "/spec/jobTemplate/metadata/labels/ringfence.dev~1workflow", json!("other")));
    owners
})]
#[case::owner_in_no_namespace(vec![owner("example.com/v1", "Fleet", "f", Some(unset(workload("f"), "/metadata/namespace")))])]
#[case::owner_is_being_deleted(vec![owner("apps/v1", "ReplicaSet", "r", Some(deleted(workload("r"))))])]
#[case::second_owner_is_being_deleted({
    let mut owners = job_of_cron_job();
    owners[1].found = Some(deleted(cron_job("c")));
    owners
})]
fn a_broken_chain_of_owners_makes_no_pods(#[case] owners: Vec<Owner>) {
    for controller in controllers() {
        let (review, facts) = made_by(controller, owners.clone());
        let violation = judged(&review, &facts).unwrap();
        assert_eq!(
            (violation.policy.as_str(), violation.path.as_str()),
            (RULE, "metadata.ownerReferences"),
            "{violation:?}"
        );
    }
}

fn deleted(object: Value) -> Value {
    set(object, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"))
}

/// KubeRay cleans up by a Job, Argo Workflows by pods of its own.
#[test]
fn an_engine_cleans_up_what_is_being_deleted() {
    let engine = owner("ray.io/v1", "RayCluster", "r", Some(deleted(workload("r"))));
    let job = set(
        workload("j"),
        "/metadata/ownerReferences",
        json!([owner_reference(&engine)]),
    );
    let [manager, _] = controllers();
    let (review, facts) = made_by(manager, vec![owner("batch/v1", "Job", "j", Some(job)), engine.clone()]);
    assert_eq!(judged(&review, &facts), None);
    let (review, facts) = made_by(user("ann", &[], None), vec![engine]);
    assert_eq!(judged(&review, &facts), None, "a launcher");
}

#[rstest]
#[case::as_long_as_may_be(MAX_OWNERS, true)]
#[case::longer(MAX_OWNERS + 1, false)]
fn a_chain_ends_somewhere(#[case] length: usize, #[case] expected: bool) {
    let mut above: Option<Owner> = None;
    let mut chain = Vec::new();
    for number in (0..length).rev() {
        let uid = format!("u{number}");
        let mut found = workload(&uid);
        if let Some(above) = &above {
            found = set(found, "/metadata/ownerReferences", json!([owner_reference(above)]));
        }
        let link = owner("apps/v1", "ReplicaSet", &uid, Some(found));
        above = Some(link.clone());
        chain.insert(0, link);
    }
    let (review, mut facts) = made_by(user(CONTROLLER_MANAGER, &[], None), chain.clone());
    facts.owners.truncate(1);
    while let Some(next) = facts.next_owner() {
        let found = chain.iter().find(|link| link.reference == next).unwrap().clone();
        facts.owners.push(found);
    }
    assert!(facts.owners.len() <= MAX_OWNERS);
    assert_eq!(judged(&review, &facts).is_none(), expected);
}

#[test]
fn a_chain_stops_at_a_reborn_owner() {
    let mut owners = job_of_cron_job();
    owners.truncate(1);
    owners[0].reference.uid = "other".into();
    assert_eq!(Facts { owners, ..facts() }.next_owner(), None);
}

/// A pod that its controller lets go of runs on, whatever a launcher does with that.
#[rstest]
#[case::taken_off("/metadata/labels/app", Value::Null, true)]
#[case::changed("/metadata/labels/app", json!("other"), true)]
#[case::named_by_a_requirement("/metadata/labels/tier", json!("gold"), true)]
#[case::named_by_nobody("/metadata/labels/note", json!("x"), false)]
#[case::an_annotation("/metadata/annotations", json!({"note": "x"}), false)]
fn only_a_launcher_takes_a_pod_out_of_its_controller(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: bool,
) {
    let selector =
        json!({"matchLabels": {"app": "triage"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]});
    let link = owner(
        "apps/v1",
        "ReplicaSet",
        "r",
        Some(set(workload("r"), "/spec/selector", selector)),
    );
    let old = set(pod(), "/metadata/labels/app", json!("triage"));
    let old = set(old, "/metadata/ownerReferences", json!([owner_reference(&link)]));
    let new = match value {
        Value::Null => unset(old.clone(), pointer),
        value => set(old.clone(), pointer, value),
    };
    let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&old));
    let asked = |found: Option<Value>| Facts {
        owners: vec![Owner { found, ..link.clone() }],
        ..facts()
    };
    let is_refused = |review: &Review, facts: &Facts| judged(review, facts).is_some();
    for name in ["bob", "system:serviceaccount:kube-system:replicaset-controller"] {
        review.user = user(name, &[], None);
        assert_eq!(is_refused(&review, &asked(link.found.clone())), expected, "{name}");
    }
    let leaves = new.pointer("/metadata/labels") != old.pointer("/metadata/labels");
    assert_eq!(is_refused(&review, &facts()), leaves, "nothing was found out");
    assert!(!is_refused(&review, &asked(None)), "what is gone lets go of nothing");
    let asks_for = Subject::of(&review).unwrap().unwrap().needs().owner;
    assert_eq!(asks_for, leaves.then(|| link.reference.clone()));
    let plain = set(workload("r"), "/spec/selector", json!({"app": "triage"}));
    let of_app = pointer == "/metadata/labels/app";
    assert_eq!(
        is_refused(&review, &asked(Some(plain))),
        of_app,
        "as a ReplicationController has it"
    );
    review.user = user("ann", &[], None);
    assert!(!is_refused(&review, &asked(link.found.clone())), "a launcher");
    review.user = user(
        "system:serviceaccount:kube-system:replicaset-controller",
        &[],
        Some(("1", "JTI=1")),
    );
    assert!(
        !is_refused(&review, &asked(link.found.clone())),
        "the controller itself"
    );
}

/// The selectors of StatefulSets and DaemonSets do not name them.
#[rstest]
#[case::of_both("controller-revision-hash")]
#[case::of_a_daemon_set("pod-template-generation")]
fn only_a_launcher_changes_a_pods_revision(#[case] key: &str) {
    let selector = json!({"matchLabels": {"app": "triage"}});
    let link = owner(
        "apps/v1",
        "StatefulSet",
        "s",
        Some(set(workload("s"), "/spec/selector", selector)),
    );
    let facts = Facts {
        owners: vec![link.clone()],
        ..facts()
    };
    let place = format!("/metadata/labels/{key}");
    let without = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&link)]));
    let old = set(without.clone(), &place, json!("old"));
    let new = set(without.clone(), &place, json!("new"));
    for (before, after) in [(&old, &new), (&old, &without), (&without, &new)] {
        let mut review = review("UPDATE", "", "Pod", Some(after), Some(before));
        for name in ["bob", "system:serviceaccount:kube-system:statefulset-controller"] {
            review.user = user(name, &[], None);
            let refused = judged(&review, &facts).expect("a refusal");
            assert!(refused.message.contains("taken for what was rolled out"), "{refused:?}");
        }
        for user in [
            user("ann", &[], None),
            user(
                "system:serviceaccount:kube-system:statefulset-controller",
                &[],
                Some(("1", "JTI=1")),
            ),
        ] {
            review.user = user;
            assert_eq!(judged(&review, &facts), None);
        }
    }
}

/// ReplicaSet, ReplicationController and Job adopt by selector, and delete what they adopt.
#[test]
fn a_pod_is_adopted_by_an_owner_of_its_own_workflow_only() {
    let stranger = owner(
        "apps/v1",
        "ReplicaSet",
        "r",
        Some(unset(workload("r"), "/spec/template/metadata/labels")),
    );
    let own = owner("apps/v1", "ReplicaSet", "r", Some(workload("r")));
    for (adopter, expected) in [(stranger, false), (own, true)] {
        let new = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&adopter)]));
        let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
        review.user = user(CONTROLLER_MANAGER, &[], None);
        let verdict = judged(
            &review,
            &Facts {
                owners: vec![adopter],
                ..facts()
            },
        );
        assert_eq!(verdict.is_none(), expected, "{verdict:?}");
    }
}

/// What a built-in controller takes for its own, because it says so, holds back what another workflow's launcher rolls out.
#[rstest]
#[case::of_another_workflow(set(workload("d"), "/metadata/labels/ringfence.dev~1workflow", json!("other")), false)]
#[case::of_its_own(workload("d"), true)]
fn what_a_launcher_makes_has_an_owner_of_its_own_workflow(
    #[case] deployment: Value,
    #[case] expected: bool,
    #[values("CREATE", "UPDATE")] operation: &str,
) {
    let above = owner("apps/v1", "Deployment", "d", Some(deployment));
    let new = set(
        workload("r"),
        "/metadata/ownerReferences",
        json!([owner_reference(&above)]),
    );
    let old = (operation == "UPDATE").then(|| workload("r"));
    let review = review(operation, "apps", "ReplicaSet", Some(&new), old.as_ref());
    let subject = Subject::of(&review).unwrap().unwrap();
    assert_eq!(subject.needs().owner.as_ref(), Some(&above.reference));
    let verdict = judged(
        &review,
        &Facts {
            owners: vec![above],
            ..facts()
        },
    );
    assert_eq!(verdict.is_none(), expected, "{verdict:?}");
}

#[test]
fn a_refusal_says_what_to_type() {
    let mut review = review("CREATE", "", "Pod", Some(&pod()), None);
    review.user = user("system:serviceaccount:ci:runner", &[], Some(("1", "JTI=1")));
    let violation = judged(&review, &facts()).unwrap();
    assert!(
        violation
            .fix
            .contains("- serviceAccount: {namespace: ci, name: runner}"),
        "{violation:?}"
    );
    assert!(
        violation.fix.contains("service account airflow/scheduler"),
        "{violation:?}"
    );
}

#[rstest]
#[case::created("CREATE", json!({"spec": "old"}))]
#[case::changed("UPDATE", json!({"spec": "new"}))]
fn a_stored_template_is_its_controllers_alone(#[case] operation: &str, #[case] data: Value) {
    let revision =
        |data: Value, labels: Value| json!({"metadata": {"name": "r", "labels": labels}, "data": data, "revision": 1});
    let old = revision(json!({"spec": "old"}), json!({}));
    for labels in [json!({}), json!({"ringfence.dev/workflow": "triage"})] {
        let new = revision(data.clone(), labels);
        let mut review = review(
            operation,
            "apps",
            "ControllerRevision",
            Some(&new),
            Some(&old).filter(|_| operation == "UPDATE"),
        );
        // Not even a launcher of the workflow: what it wants changed, it changes in the template.
        let subject = Subject::of(&review)
            .unwrap()
            .expect("it is judged, with the label or without");
        assert_eq!(
            check_revision(&subject).map(|violation| violation.policy),
            Some(RULE.to_owned())
        );

        review.user = user(
            "system:serviceaccount:kube-system:statefulset-controller",
            &[],
            Some(("1", "JTI=1")),
        );
        assert!(Subject::of(&review).unwrap().is_none(), "its controller is left alone");
    }
}

/// An engine that keeps on a pod whose it is, and what becomes of it, finds it as a launcher left it.
#[rstest]
#[case::changed(json!({"task_id": "other", "example.com/note": "x"}), true)]
#[case::added(json!({"task_id": "load", "try_number": "2"}), true)]
#[case::taken_off(json!({"example.com/note": "x"}), true)]
#[case::all_taken_off(Value::Null, true)]
#[case::anybodys(json!({"task_id": "load", "example.com/note": "x"}), false)]
fn only_a_launcher_changes_annotations_by_which_an_engine_knows_its_pods(#[case] after: Value, #[case] counts: bool) {
    let mut declared = workflow();
    declared.spec.engine = Some("airflow".to_owned());
    let class = |engines: Value| -> AIWorkflowClass {
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"}, "spec": {"engines": engines},
        });
        serde_json::from_value(class).unwrap()
    };
    let (open, closed) = (class(json!([{"name": "airflow"}])), class(json!([])));
    // Of an engine of the platform's own the class says by what it knows them.
    let of_class = class(json!([{"name": "ray", "podAnnotations": ["task_id", "try_number", "*", "example.com"]}]));
    let mut of_ray = declared.clone();
    of_ray.spec.engine = Some("ray".to_owned());
    let old = set(pod(), "/metadata/annotations", json!({"task_id": "load"}));
    let new = set(pod(), "/metadata/annotations", after);
    let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&old));
    let live = json!({"metadata": {"name": "scheduler", "uid": "scheduler-uid"}});
    let facts = Facts {
        launcher: Some(live),
        ..facts()
    };
    let cases = [
        (user("bob", &["data"], None), &declared, &open, counts),
        (user(SCHEDULER, &[], None), &declared, &open, counts),
        (user(JOB_CONTROLLER, &[], None), &declared, &open, counts),
        (user("ann", &[], None), &declared, &open, false),
        (
            user(SCHEDULER, &[], Some(("scheduler-uid", "JTI=1"))),
            &declared,
            &open,
            false,
        ),
        (user(JOB_CONTROLLER, &[], Some(("1", "JTI=1"))), &declared, &open, false),
        (user("bob", &["data"], None), &declared, &closed, false),
        (user("bob", &["data"], None), &of_ray, &of_class, counts),
        (user("ann", &[], None), &of_ray, &of_class, false),
        (user("bob", &["data"], None), &of_ray, &open, false),
        (user("bob", &["data"], None), &declared, &of_class, false),
    ];
    for (user, declared, class, expected) in cases {
        review.user = user;
        let subject = Subject::of(&review).unwrap().unwrap();
        let refused = check(&subject, &facts, declared, ("c", Some(class)));
        assert_eq!(refused.is_some(), expected, "{refused:?} of {:?}", review.user);
        if let Some(refused) = refused {
            assert_eq!(refused.path, NOTES);
        }
    }
    // A launcher's account is asked for.
    review.user = user(SCHEDULER, &[], None);
    assert!(Subject::of(&review).unwrap().unwrap().needs().launcher.is_some());
}
