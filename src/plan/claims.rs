//! Accounts that others rely on by name: who names one as launcher before it is anybody's, and which launchers are the own
//! accounts of workflows elsewhere.
//!
//! Must never: let a declaration turn into somebody's launcher by choosing a name, or give a workflow rights that it does not
//! declare because somebody else names it.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::{Child, Observed, engine, name_of, own_account, owner_uid, references::opens};
use crate::api::{
    AIWorkflow, AIWorkflowClass, ConditionStatus, ConditionType, Launcher, find, is_dns_label, is_dns_subdomain,
};

/// Most claims that are named: one is enough.
const MAX_NAMED: usize = 5;

/// Who names the workflow's account as launcher: classes, and AIWorkflows of other namespaces that are accepted. One that is not,
/// as where no namespace is fenced, launches nothing: else whoever writes one anywhere could keep names from everybody. Those of
/// the same namespace are written by the same people, and come with it in one apply.
///
/// One of a namespace that the workflow's class does not open goes without its name: that it is there is nobody's business here.
pub fn claims<'a>(
    workflow: &AIWorkflow,
    class: &AIWorkflowClass,
    classes: impl IntoIterator<Item = &'a AIWorkflowClass>,
    workflows: impl IntoIterator<Item = &'a AIWorkflow>,
) -> Vec<String> {
    let account = own_account(workflow);
    let classes = classes
        .into_iter()
        .filter(|class| is_named(&class.spec.launchers, &account))
        .map(|class| format!("AIWorkflowClass {}", class.name_any()));
    let workflows = workflows
        .into_iter()
        .filter(|other| other.namespace() != workflow.namespace() && is_named(&other.spec.launchers, &account))
        .filter(|other| {
            let conditions = other.status.as_ref().map_or(&[][..], |status| &status.conditions);
            find(conditions, ConditionType::Accepted).is_some_and(|said| said.status == ConditionStatus::True)
        })
        .map(|other| match other.namespace() {
            Some(namespace) if opens(class, &namespace) => format!("AIWorkflow {namespace}/{}", other.name_any()),
            _ => "an AIWorkflow of another namespace".to_owned(),
        });
    let all: BTreeSet<_> = classes.chain(workflows).collect();
    all.into_iter().take(MAX_NAMED).collect()
}

/// Whether an account is among launchers.
pub fn is_named(launchers: &[Launcher], (namespace, name): &(String, String)) -> bool {
    let accounts = launchers
        .iter()
        .filter_map(|launcher| launcher.service_account.as_ref());
    accounts
        .into_iter()
        .any(|account| account.namespace == *namespace && account.name == *name)
}

/// Whether the account is the workflow's own: it is there, or was and comes back. Then a claim came later, and names what it
/// could see.
pub fn has_account(workflow: &AIWorkflow, observed: &Observed) -> bool {
    let account = workflow.service_account_name();
    let stands = observed.children.iter().any(|(child, seen)| {
        *child == Child::ServiceAccount && name_of(seen) == account && owner_uid(seen) == workflow.uid().as_deref()
    });
    let stood = workflow
        .status
        .as_ref()
        .and_then(|status| status.service_account.as_ref());
    stands || stood.is_some_and(|stood| stood.name == account)
}

/// Whether claims keep the account from being made. One that the platform has made joins by `adopt`.
pub(super) fn hold(workflow: &AIWorkflow, observed: &Observed) -> bool {
    !observed.claims.is_empty() && !has_account(workflow, observed)
}

/// Launchers that get an engine's rights by the workflow's word alone, in other namespaces: what must be known of them is
/// whether they are a workflow's own account. The class's word is the platform's.
pub fn launchers_elsewhere(
    workflow: &AIWorkflow,
    class_name: &str,
    class: &AIWorkflowClass,
) -> BTreeSet<(String, String)> {
    let profile = engine::profile(workflow, class_name, class).unwrap_or_default();
    if profile.launcher.is_empty() {
        return BTreeSet::new();
    }
    let own = workflow.namespace().unwrap_or_default();
    let named = workflow
        .spec
        .launchers
        .iter()
        .filter_map(|launcher| launcher.service_account.as_ref());
    named
        .map(|account| (account.namespace.clone(), account.name.clone()))
        .filter(|account| account.0 != own && !is_named(&class.spec.launchers, account))
        // What no account can be called becomes part of no URL.
        .filter(|(namespace, name)| is_dns_label(namespace) && is_dns_subdomain(name))
        .collect()
}

/// What is said of an account that somebody else names.
pub(super) fn conflict(workflow: &AIWorkflow, claims: &[String]) -> String {
    let account = workflow.service_account_name();
    format!(
        "ServiceAccount {account} is not there yet, and is named as launcher by {}: whoever has it would be that launcher, so \
         nothing is granted; declare the workflow anew with another spec.identity.serviceAccountName, or ask the platform team \
         to make the account and to annotate it ringfence.dev/adopt={}",
        claims.join(", "),
        workflow.name_any()
    )
}

/// What is said of an account that others have bound before it is there.
pub(super) fn bound(workflow: &AIWorkflow, bindings: &[String]) -> String {
    let account = workflow.service_account_name();
    format!(
        "ServiceAccount {account} is not there yet, and is given rights by {}: whoever makes it would hand these out, so nothing is \
         granted; delete these bindings, or declare the workflow anew with another spec.identity.serviceAccountName",
        bindings.join(", ")
    )
}

/// What is said of a launcher that is the own account of a workflow elsewhere; which one, where the class opens its namespace.
pub(super) fn left_out((namespace, name): &(String, String), owner: Option<&String>, here: &str) -> String {
    let whose = match owner {
        Some(owner) => format!("that of AIWorkflow {namespace}/{owner}"),
        None => "a workflow's own".to_owned(),
    };
    format!(
        "spec.launchers: ServiceAccount {namespace}/{name} is {whose}, which holds what it declares \
         and no more: it launches, but gets none of the engine's rights here; let that workflow declare them in \
         permissions.crossNamespace and grant them by an AIWorkflowGrant in {here}, or ask the platform team to name the account \
         in spec.launchers of the class"
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ConditionType, Reason, find};
    use crate::plan::{Change, NamespaceFacts, Outcome, Plan, default_class, plan, status};

    const UID: &str = "11111111-2222-3333-4444-555555555555";

    fn workflow(namespace: &str, name: &str, spec: Value) -> AIWorkflow {
        let mut whole = json!({"launchers": [{"user": "ci"}], "images": ["registry.example.com/finance/**"]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata = json!({
            "name": name, "namespace": namespace, "uid": UID, "generation": 1, "creationTimestamp": "2026-01-02T00:00:00Z",
        });
        let object =
            json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": whole});
        serde_json::from_value(object).unwrap()
    }

    fn launchers(accounts: &[(&str, &str)]) -> Value {
        let entry =
            |(namespace, name): &(&str, &str)| json!({"serviceAccount": {"namespace": namespace, "name": name}});
        json!({"launchers": accounts.iter().map(entry).collect::<Vec<_>>()})
    }

    fn class(name: &str, accounts: &[(&str, &str)]) -> AIWorkflowClass {
        let mut class = AIWorkflowClass::new(name, default_class().spec);
        class.spec.launchers = serde_json::from_value(launchers(accounts)["launchers"].clone()).unwrap();
        class
    }

    fn observed(class: AIWorkflowClass) -> Observed {
        Observed {
            namespace: NamespaceFacts {
                name: "b".to_owned(),
                uid: "ns".to_owned(),
                labels: [("ringfence.dev/enforce".to_owned(), "default".to_owned())].into(),
                ..NamespaceFacts::default()
            },
            class: Some(class),
            ..super::super::tests::observed()
        }
    }

    fn made(plan: &Plan, kind: Child) -> Vec<Value> {
        let made = plan.changes.iter().filter_map(|change| match change {
            Change::Create(child, object) if *child == kind => Some(object.clone()),
            _ => None,
        });
        made.collect()
    }

    #[rstest]
    #[case::class(vec![class("gold", &[("b", "ghost")])], vec![], &["AIWorkflowClass gold"])]
    #[case::elsewhere(vec![], vec![workflow("x", "etl", launchers(&[("b", "other"), ("b", "ghost")]))], &["AIWorkflow x/etl"])]
    #[case::both_once(
        vec![class("gold", &[("b", "ghost"), ("b", "ghost")])],
        vec![workflow("x", "etl", launchers(&[("b", "ghost")])), workflow("w", "z", launchers(&[("b", "ghost")]))],
        &["AIWorkflow w/z", "AIWorkflow x/etl", "AIWorkflowClass gold"]
    )]
    #[case::own_namespace(vec![], vec![workflow("b", "etl", launchers(&[("b", "ghost")]))], &[])]
    #[case::other_accounts(vec![class("gold", &[("a", "ghost"), ("b", "triage")])], vec![workflow("x", "etl", launchers(&[("x", "ghost")]))], &[])]
    fn who_names_an_account_is_found(
        #[case] classes: Vec<AIWorkflowClass>,
        #[case] workflows: Vec<AIWorkflow>,
        #[case] expected: &[&str],
    ) {
        let us = workflow("b", "triage", json!({"identity": {"serviceAccountName": "ghost"}}));
        let accepted = workflows.into_iter().map(|workflow| with_accepted(workflow, "True"));
        let accepted = accepted.collect::<Vec<_>>();
        let mut ours = class("default", &[]);
        ours.spec.network = serde_json::from_value(json!({"namespaces": ["w", "x"]})).unwrap();
        assert_eq!(claims(&us, &ours, &classes, &accepted), expected);
        // Of namespaces that its class does not open, it is not told who there is.
        let hidden = claims(&us, &class("default", &[]), &classes, &accepted);
        assert!(hidden.iter().all(|claim| !claim.contains('/')), "{hidden:?}");
        assert_eq!(hidden.is_empty(), expected.is_empty());
    }

    fn with_accepted(mut workflow: AIWorkflow, status: &str) -> AIWorkflow {
        let said = json!({"type": "Accepted", "status": status, "reason": "x", "message": "", "lastTransitionTime": "2026-01-02T00:00:00Z"});
        workflow.status = Some(serde_json::from_value(json!({"conditions": [said]})).unwrap());
        workflow
    }

    /// Anybody with `edit` in any namespace can write it.
    #[test]
    fn what_is_not_accepted_claims_nothing() {
        let us = workflow("b", "ghost", json!({}));
        let squat = workflow("x", "etl", launchers(&[("b", "ghost")]));
        assert_eq!(
            claims(
                &us,
                &default_class(),
                [],
                [&squat, &with_accepted(squat.clone(), "False")]
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_name_that_others_rely_on_is_not_taken() {
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let us = workflow("b", "ghost", json!({"engine": "argo", "permissions": {"rules": rules}}));
        let mut seen = observed(default_class());
        let free = plan(&us, &seen);
        assert_eq!(
            (made(&free, Child::ServiceAccount).len(), made(&free, Child::Role).len()),
            (1, 1)
        );

        seen.claims = vec!["AIWorkflowClass gold".to_owned()];
        let claimed = plan(&us, &seen);
        for kind in [Child::ServiceAccount, Child::Role, Child::RoleBinding] {
            assert_eq!(made(&claimed, kind), [] as [Value; 0], "{kind:?}");
        }
        assert_eq!(
            (
                claimed.effective_rules.len(),
                made(&claimed, Child::NetworkPolicy).len()
            ),
            (0, 1)
        );
        let said = status(
            &us,
            &seen,
            &claimed,
            &Outcome::Applied(None),
            "2026-11-22T08:00:00Z".parse().unwrap(),
        );
        for type_ in [ConditionType::Programmed, ConditionType::Ready] {
            let condition = find(&said.conditions, type_).unwrap();
            assert_eq!(condition.reason, Reason::Conflict.as_str());
            for part in [
                "ServiceAccount ghost",
                "AIWorkflowClass gold",
                "ringfence.dev/adopt=ghost",
                "serviceAccountName",
            ] {
                assert!(condition.message.contains(part), "{part}: {}", condition.message);
            }
        }

        // Its own, or its own until a moment ago: who names it now could see that.
        let mut account = made(&free, Child::ServiceAccount).remove(0);
        account["metadata"]["uid"] = json!("1");
        seen.children = vec![(Child::ServiceAccount, account.clone())];
        let own = plan(&us, &seen);
        assert_eq!((&own.conflict, made(&own, Child::Role).len()), (&None, 1));
        seen.children.clear();
        let stood = json!({"serviceAccount": {"name": "ghost", "uid": "1"}});
        let back = AIWorkflow {
            status: serde_json::from_value(stood).unwrap(),
            ..us.clone()
        };
        assert_eq!(made(&plan(&back, &seen), Child::ServiceAccount).len(), 1);

        // Made by the platform, it is a stranger's until the platform lets it join.
        account["metadata"]["annotations"] = json!({});
        seen.account = Some(account.clone());
        assert_eq!(plan(&us, &seen).taken.len(), 1);
        account["metadata"]["annotations"] = json!({"ringfence.dev/adopt": "ghost"});
        account["metadata"]["ownerReferences"] = json!([]);
        seen.account = Some(account);
        let joined = plan(&us, &seen);
        assert_eq!((&joined.conflict, made(&joined, Child::Role).len()), (&None, 1));
        assert!(
            matches!(joined.changes[1], Change::Replace(Child::ServiceAccount, _)),
            "{:?}",
            joined.changes[1]
        );
    }

    /// What is declared of the network is kept all the same, and what stood on another account goes.
    #[test]
    fn while_nobody_knows_who_bound_an_account_nothing_stands_on_it() {
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let of = |account: &str| json!({"identity": {"serviceAccountName": account}, "permissions": {"rules": &rules}});
        let mut seen = observed(default_class());
        let before = plan(&workflow("b", "triage", of("former")), &seen);
        seen.children = super::super::tests::stored(&before.changes);
        seen.unlooked = true;
        let us = workflow("b", "triage", of("next"));
        let waits = plan(&us, &seen);
        let is_rights = |child: Child| matches!(child, Child::ServiceAccount | Child::Role | Child::RoleBinding);
        let is_removal = |change: &Change| matches!(change, Change::Delete { child, .. } if is_rights(*child));
        assert_eq!(waits.changes.len(), 3, "{:?}", waits.changes);
        assert!(waits.changes.iter().all(is_removal), "{:?}", waits.changes);
        assert_eq!(
            (&waits.conflict, waits.taken.len(), waits.effective_rules.len()),
            (&None, 0, 0)
        );

        seen.children.clear();
        let policies = |plan: &Plan| (plan.changes.len(), made(plan, Child::NetworkPolicy).len());
        assert_eq!(policies(&plan(&us, &seen)), (1, 1));
        (seen.unlooked, seen.bound) = (false, vec!["RoleBinding x/extra".to_owned()]);
        let bound = plan(&us, &seen);
        assert_eq!(policies(&bound), (1, 1));
        assert!(
            bound
                .conflict
                .unwrap()
                .contains("is given rights by RoleBinding x/extra")
        );
        seen.bound.clear();
        assert_eq!(policies(&plan(&us, &seen)), (4, 1));
    }

    #[test]
    fn a_launcher_that_is_a_workflow_elsewhere_gets_none_of_the_engines_rights() {
        let accounts = [("airflow", "scheduler"), ("other", "etl"), ("b", "neighbour")];
        let mut declared = launchers(&accounts);
        declared["engine"] = json!("airflow");
        let us = workflow("b", "triage", declared.clone());
        let open = default_class();
        let of = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(ns, name)| (ns.to_string(), name.to_string()))
                .collect()
        };
        assert_eq!(launchers_elsewhere(&us, "default", &open), of(&accounts[..2]));
        let mut seen = observed(open.clone());
        seen.launching_workflows = [(("other".to_owned(), "etl".to_owned()), "loader".to_owned())].into();
        let (_, hidden) = plan(&us, &seen).unresolved.unwrap();
        assert!(
            hidden.contains("other/etl is a workflow's own,") && !hidden.contains("loader"),
            "{hidden}"
        );
        let network = serde_json::from_value(serde_json::json!({"namespaces": ["other"]})).unwrap();
        seen.class.as_mut().unwrap().spec.network = Some(network);
        let plan = plan(&us, &seen);
        let subjects = &made(&plan, Child::RoleBinding)[0]["subjects"];
        let names: Vec<_> = subjects
            .as_array()
            .unwrap()
            .iter()
            .map(|subject| subject["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["scheduler", "neighbour"]);
        let (reason, message) = plan.unresolved.unwrap();
        assert_eq!(reason, Reason::NoGrant);
        for part in [
            "ServiceAccount other/etl",
            "AIWorkflow other/loader",
            "AIWorkflowGrant in b",
            "permissions.crossNamespace",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }

        assert_eq!(
            launchers_elsewhere(&us, "default", &class("c", &[("other", "etl")])),
            of(&accounts[..1])
        );
        declared["engine"] = json!("custom");
        assert_eq!(
            launchers_elsewhere(&workflow("b", "triage", declared), "default", &open),
            of(&[])
        );
        let paths = workflow(
            "b",
            "triage",
            json!({"engine": "airflow", "launchers": launchers(&[("../x", "a"), ("x", "a/b")])["launchers"]}),
        );
        assert_eq!(launchers_elsewhere(&paths, "default", &open), of(&[]));
    }
}
