use rstest::rstest;

use super::*;
use crate::plan::{default_class, owner_uid};

fn rule(resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": verbs})
}

fn grant(rules: Value) -> AIWorkflowGrant {
    let metadata = json!({"name": "readers", "namespace": "vectors", "uid": "grant-uid", "generation": 1});
    let spec = json!({"from": [{"namespace": "ai", "name": "triage"}], "rules": rules});
    serde_json::from_value(
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": metadata, "spec": spec}),
    )
    .unwrap()
}

fn facts(rules: Value) -> GranteeFacts {
    let metadata = json!({"name": "triage", "namespace": "ai", "uid": "workflow-uid"});
    let permissions = json!({"crossNamespace": [{"namespace": "vectors", "rules": rules}]});
    let spec = json!({"launchers": [], "images": ["a.example/**"], "permissions": permissions});
    let workflow =
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec});
    let labels = [("ringfence.dev/enforce".to_owned(), "default".to_owned())].into();
    GranteeFacts {
        workflow: serde_json::from_value(workflow).unwrap(),
        namespace: NamespaceFacts {
            name: "ai".into(),
            uid: "ns".into(),
            labels,
            ..NamespaceFacts::default()
        },
        class: Some(default_class()),
        reviewed: true,
        account_is_ours: true,
    }
}

fn observed(facts: GranteeFacts) -> GrantObserved {
    let key = GrantedWorkflow {
        namespace: "ai".into(),
        name: "triage".into(),
    };
    let namespace = NamespaceFacts {
        name: "vectors".into(),
        uid: "v".into(),
        ..NamespaceFacts::default()
    };
    GrantObserved {
        namespace,
        grantees: [(key, facts)].into(),
        children: Vec::new(),
        taken: BTreeSet::new(),
    }
}

#[test]
fn what_is_declared_and_covered_is_granted_and_owned_by_the_grant() {
    let declared = json!([
        rule("services", &["qdrant"], &["get"]),
        rule("configmaps", &[], &["list"])
    ]);
    let plan = plan_grant(
        &grant(json!([rule("services", &[], &["get", "list"])])),
        &observed(facts(declared)),
    );
    let [
        Change::Create(Child::Role, role),
        Change::Create(Child::RoleBinding, binding),
    ] = plan.changes.as_slice()
    else {
        panic!("{plan:?}")
    };
    let mut covered = rule("services", &["qdrant"], &["get"]);
    assert_eq!(
        role["rules"],
        json!([covered.take()]),
        "the rule that the grant does not cover is not there"
    );
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}])
    );
    assert_eq!(
        (owner_uid(role), owner_uid(binding)),
        (Some("grant-uid"), Some("grant-uid"))
    );
    assert_eq!(role["metadata"]["ownerReferences"][0]["kind"], "AIWorkflowGrant");
}

#[test]
fn workflows_of_one_name_in_two_namespaces_never_meet() {
    let name = |namespace: &str| {
        let grantee = GrantedWorkflow {
            namespace: namespace.into(),
            name: "triage".into(),
        };
        let [((_, role), _), _] = parts(&grant(json!([])), &grantee, "triage", &[]);
        role
    };
    assert_ne!(name("x"), name("y"));
}

#[rstest]
#[case::not_covered(json!([rule("configmaps", &[], &["get"])]), |facts| facts)]
#[case::nothing_declared(json!([rule("services", &[], &["get"])]), |facts: GranteeFacts| {
    let mut workflow = facts.workflow.clone();
    workflow.spec.permissions = None;
    GranteeFacts { workflow, ..facts }
})]
#[case::account_of_a_stranger(json!([rule("services", &[], &["get"])]), |facts| GranteeFacts { account_is_ours: false, ..facts })]
#[case::not_reviewed(json!([rule("services", &[], &["get"])]), |facts| GranteeFacts { reviewed: false, ..facts })]
#[case::not_reviewed_of_a_stranger(json!([rule("services", &[], &["get"])]), |facts| GranteeFacts { reviewed: false, account_is_ours: false, ..facts })]
#[case::outside_its_class(json!([rule("services", &[], &["get"])]), |facts| GranteeFacts { class: Some(AIWorkflowClass::new("x", Default::default())), ..facts })]
#[case::class_missing(json!([rule("services", &[], &["get"])]), |facts| GranteeFacts { class: None, ..facts })]
#[case::not_fenced(json!([rule("services", &[], &["get"])]), |facts: GranteeFacts| {
    GranteeFacts { namespace: NamespaceFacts { labels: BTreeMap::new(), ..facts.namespace.clone() }, ..facts }
})]
fn one_of_the_three_is_not_enough(#[case] covered: Value, #[case] change: fn(GranteeFacts) -> GranteeFacts) {
    let declared = json!([rule("services", &["qdrant"], &["get"])]);
    let plan = plan_grant(&grant(covered), &observed(change(facts(declared))));
    assert_eq!(
        (plan.changes.len(), plan.granted, plan.idle.len()),
        (0, 0, 1),
        "{plan:?}"
    );
}

#[rstest]
#[case::exempt(true, json!([rule("services", &[], &["get"])]))]
#[case::pods_are_made(false, json!([rule("services", &[], &["get"]), rule("pods", &[], &["create"])]))]
#[case::secrets(false, json!([rule("services", &[], &["get"]), rule("secrets", &["a"], &["get"])]))]
fn a_grant_that_may_not_be_given_gives_nothing(#[case] exempt: bool, #[case] rules: Value) {
    let mut observed = observed(facts(json!([rule("services", &["qdrant"], &["get"])])));
    observed.namespace.exempt = exempt;
    let plan = plan_grant(&grant(rules), &observed);
    assert_eq!((plan.problems.len(), plan.changes.len()), (1, 0), "{plan:?}");
}

#[test]
fn a_grant_that_is_being_deleted_gives_nothing_to_anybody() {
    let mut going = grant(json!([rule("services", &[], &["get"])]));
    assert!(gives_to(&going, "ai", "triage") && !gives_to(&going, "vectors", "triage"));
    going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let declared = json!([rule("services", &["qdrant"], &["get"])]);
    let plan = plan_grant(&going, &observed(facts(declared)));
    assert_eq!(
        (plan.changes.len(), plan.granted, plan.idle.len()),
        (0, 0, 1),
        "{plan:?}"
    );
    assert!(!gives_to(&going, "ai", "triage"));
    assert!(!gives_to(
        &grant(json!([rule("secrets", &[], &["get"])])),
        "ai",
        "triage"
    ));
}

/// The status of a grant once its plan was carried out.
fn on_record(grant: &AIWorkflowGrant, plan: &GrantPlan) -> AIWorkflowGrantStatus {
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    grant_status(grant, plan, &Outcome::Applied(None), now)
}

#[test]
fn what_an_unreviewed_workflow_holds_stays_and_nothing_new_comes() {
    let before = json!([rule("services", &["qdrant"], &["get"])]);
    let mut grant = grant(json!([rule("services", &[], &["get", "list"])]));
    let mut seen = observed(facts(before));
    let made = plan_grant(&grant, &seen);
    grant.status = Some(on_record(&grant, &made));
    seen.children = crate::plan::tests::stored(&made.changes);
    let edited = GranteeFacts {
        reviewed: false,
        ..facts(json!([rule("services", &[], &["list"])]))
    };
    let with = |facts: GranteeFacts| GrantObserved {
        children: seen.children.clone(),
        ..observed(facts)
    };
    let plan = plan_grant(&grant, &with(edited.clone()));
    assert_eq!(
        (plan.changes.len(), plan.granted, plan.idle.len()),
        (0, 0, 1),
        "{plan:?}"
    );
    // As somebody edited it in a gap: wider than the grant, than the class, or for somebody else too.
    let bob = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"});
    for (at, field, more) in [
        (0, "rules", rule("configmaps", &[], &["get"])),
        (0, "rules", rule("services", &[], &["delete"])),
        (0, "rules", json!({"nonResourceURLs": ["/metrics"], "verbs": ["get"]})),
        (1, "subjects", bob),
    ] {
        let mut wider = with(edited.clone());
        wider.children[at].1[field].as_array_mut().unwrap().push(more);
        match &plan_grant(&grant, &wider).changes[..] {
            [Change::Replace(_, put_back)] => assert_eq!(put_back[field], seen.children[at].1[field]),
            changes => panic!("{changes:?}"),
        }
    }
    // What the grant no longer gives goes, whether reviewed or not.
    let mut narrower = grant.clone();
    narrower.spec.rules.clear();
    match &plan_grant(&narrower, &with(edited.clone())).changes[..] {
        [Change::Delete { .. }, Change::Delete { .. }] => {}
        changes => panic!("{changes:?}"),
    }
    // The account that held it may be gone, and one of that name a stranger's.
    let plan = plan_grant(
        &grant,
        &with(GranteeFacts {
            account_is_ours: false,
            ..edited
        }),
    );
    assert_eq!(plan.changes.len(), 2, "{plan:?}");
}

#[test]
fn a_right_that_is_taken_back_goes() {
    let declared = json!([rule("services", &["qdrant"], &["get"])]);
    let mut observed = observed(facts(declared));
    let made = plan_grant(&grant(json!([rule("services", &[], &["get"])])), &observed).changes;
    observed.children = made
        .into_iter()
        .map(|change| match change {
            Change::Create(child, mut object) => {
                object["metadata"]["uid"] = json!("1");
                (child, object)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let plan = plan_grant(&grant(json!([rule("configmaps", &[], &["get"])])), &observed);
    let kinds: Vec<_> = plan
        .changes
        .iter()
        .map(|change| (matches!(change, Change::Delete { .. }), change.child()))
        .collect();
    assert_eq!(kinds, [(true, Child::RoleBinding), (true, Child::Role)]);
}

/// Whoever may write Roles there could else make one of that name, and the account would hold whatever it says.
#[test]
fn what_is_bound_to_a_role_of_somebody_else_goes() {
    let declared = json!([rule("services", &["qdrant"], &["get"])]);
    let grant = grant(json!([rule("services", &[], &["get"])]));
    let mut seen = observed(facts(declared));
    let made = plan_grant(&grant, &seen).changes;
    let mut stood = crate::plan::tests::stored(&made);
    let (_, role) = stood.remove(0);
    let kinds = |seen: &GrantObserved| crate::plan::tests::kinds(&plan_grant(&grant, seen).changes);
    seen.children = stood;
    let again = [("delete", "RoleBinding"), ("create", "Role"), ("create", "RoleBinding")];
    assert_eq!(kinds(&seen), again, "gone, it is made before it is bound");
    seen.taken = [(Child::Role, name_of(&role).to_owned())].into();
    assert_eq!(kinds(&seen), [("delete", "RoleBinding")]);
    let plan = plan_grant(&grant, &seen);
    assert_eq!((plan.granted, plan.idle.len()), (0, 1));
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = grant_status(&grant, &plan, &Outcome::Applied(None), now).conditions;
    let programmed = crate::api::find(&said, ConditionType::Programmed).unwrap();
    assert_eq!(
        (programmed.status, programmed.reason.as_str()),
        (ConditionStatus::False, "NameTaken")
    );
    assert!(programmed.message.contains(name_of(&role)), "{}", programmed.message);
    // Nobody reviewed it: what it holds stays, but not by a Role of somebody else's.
    seen.taken.clear();
    let key = seen.grantees.keys().next().unwrap().clone();
    seen.grantees.get_mut(&key).unwrap().reviewed = false;
    assert_eq!(kinds(&seen), [("delete", "RoleBinding")]);
    let mut foreign = role;
    foreign["metadata"]["annotations"] = json!({});
    seen.children.push((Child::Role, foreign));
    assert_eq!(kinds(&seen), [("delete", "RoleBinding")]);
}

/// Whoever narrows a grant or a class, or takes a fence away, waits for nobody's review.
#[test]
fn what_an_unreviewed_workflow_holds_goes_where_it_is_allowed_no_more() {
    let both = [
        rule("services", &["qdrant"], &["get"]),
        rule("configmaps", &[], &["get"]),
    ];
    let given = json!([rule("services", &[], &["get"]), rule("configmaps", &[], &["get"])]);
    let mut seen = observed(facts(json!(both)));
    let first = grant(given.clone());
    let made = plan_grant(&first, &seen);
    let status = on_record(&first, &made);
    seen.children = crate::plan::tests::stored(&made.changes);
    let grant = |rules: Value| AIWorkflowGrant {
        status: Some(status.clone()),
        ..grant(rules)
    };
    let key = seen.grantees.keys().next().unwrap().clone();
    let of = |grant: &AIWorkflowGrant, change: fn(&mut GranteeFacts)| {
        let mut seen = seen.clone();
        let facts = seen.grantees.get_mut(&key).unwrap();
        facts.reviewed = false;
        change(facts);
        plan_grant(grant, &seen).changes
    };
    let kinds = |changes: &[Change]| crate::plan::tests::kinds(changes);
    assert_eq!(of(&grant(given.clone()), |_| {}), []);
    let gone = [("delete", "RoleBinding"), ("delete", "Role")];
    assert_eq!(kinds(&of(&grant(json!([rule("pods", &[], &["get"])])), |_| {})), gone);
    let unfenced = of(&grant(given.clone()), |facts| facts.namespace.labels.clear());
    assert_eq!(kinds(&unfenced), gone);
    let narrower = |facts: &mut GranteeFacts| {
        let spec = &mut facts.class.as_mut().unwrap().spec;
        spec.permissions = serde_json::from_value(json!([rule("services", &[], &["get"])])).unwrap();
    };
    let by_grant = of(&grant(json!([rule("services", &[], &["get"])])), |_| {});
    for changes in [by_grant, of(&grant(given), narrower)] {
        let [Change::Replace(Child::Role, role)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(role["rules"].as_array().map(Vec::len), Some(1));
        assert_eq!(role["rules"][0]["resources"], json!(["services"]));
    }
}

/// Then what stands and what is declared say the same, and the record does not.
#[test]
fn what_was_edited_as_the_declaration_was_was_not_given() {
    let all = json!([rule("services", &[], &["get"]), rule("configmaps", &[], &["get"])]);
    let mut grant = grant(all.clone());
    let made = plan_grant(&grant, &observed(facts(json!([rule("services", &[], &["get"])]))));
    grant.status = Some(on_record(&grant, &made));
    let mut edited = observed(facts(all));
    edited.children = crate::plan::tests::stored(&plan_grant(&grant, &edited).changes);
    edited.grantees.values_mut().for_each(|facts| facts.reviewed = false);
    let held = plan_grant(&grant, &edited);
    let [Change::Replace(Child::Role, role)] = held.changes.as_slice() else {
        panic!("{:?}", held.changes)
    };
    assert_eq!(role["rules"].as_array().map(Vec::len), Some(1));
    assert_eq!(role["rules"][0]["resources"], json!(["services"]));
    // What stands goes on being on record, and what never was given goes whole.
    let said = on_record(&grant, &held);
    assert_eq!(said.given, grant.status.as_ref().unwrap().given);
    grant.status.as_mut().unwrap().given = Some(Vec::new());
    let gone = crate::plan::tests::kinds(&plan_grant(&grant, &edited).changes);
    assert_eq!(gone, [("delete", "RoleBinding"), ("delete", "Role")]);
    // Nor does what nobody wrote down: a grant, its Role and its binding may all be of who made the grant.
    grant.status = None;
    let gone = crate::plan::tests::kinds(&plan_grant(&grant, &edited).changes);
    assert_eq!(gone, [("delete", "RoleBinding"), ("delete", "Role")]);
}

/// Whoever writes a grant names any workflow of any namespace, and reads what is said of it.
#[test]
fn what_declares_nothing_here_looks_like_what_is_not_there() {
    let grant = grant(json!([rule("services", &[], &["get"])]));
    let idle = |seen: &GrantObserved| plan_grant(&grant, seen).idle;
    let mut nobody = observed(facts(json!([])));
    nobody.grantees.clear();
    let said = idle(&nobody);
    let changes: [fn(&mut GranteeFacts); 5] = [
        |_| {},
        |facts| facts.class = None,
        |facts| facts.reviewed = false,
        |facts| facts.account_is_ours = false,
        |facts| facts.namespace.labels.clear(),
    ];
    for change in changes {
        let mut facts = facts(json!([]));
        change(&mut facts);
        assert_eq!(idle(&observed(facts)), said);
    }
}
