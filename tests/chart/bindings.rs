//! Bindings: which are asked about, as the operator fills the registration, and which go on while nobody answers.

use std::collections::BTreeSet;

use ringfence::plan::Bound;
use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RELEASE, RINGFENCE, namespace, with_chart_alone};
use crate::lifecycle::authority;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ASKED: &str = "webhook bindings.ringfence.dev";

/// Writes what the operator would write, with its rights, and waits until the API server acts by it.
async fn fill(admin: &Api, bound: &Bound, probe: &str) {
    let mut chart = admin.get(&format!("{ADMISSION}/ringfence")).await.unwrap();
    let authority = authority();
    for webhook in chart["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = authority.clone();
    }
    let wanted = ringfence::plan::binding_webhooks(bound, &chart, RELEASE).unwrap();
    let path = format!("{ADMISSION}/ringfence-bindings");
    let stored = admin.get(&path).await.unwrap();
    let whole = ringfence::plan::with_webhooks(stored, wanted.clone());
    let written = admin.user(RINGFENCE).put(&path, whole).await.unwrap();
    assert!(
        ringfence::plan::registers(&written, &wanted),
        "stored as it was written: {written}"
    );
    let expected = if wanted.is_empty() { "done" } else { ASKED };
    eventually("the registration acts", || async {
        let found = made(admin, "ClusterRoleBinding", "", json!([account(probe)])).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

fn account(namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": "triage"})
}

fn named(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn binding(name: &str, subjects: Value) -> Value {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    json!({"metadata": {"name": name}, "roleRef": role, "subjects": subjects})
}

fn all(kind: &str, namespace: &str) -> String {
    match kind {
        "RoleBinding" => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
        _ => format!("{RBAC}/clusterrolebindings"),
    }
}

async fn made(admin: &Api, kind: &str, namespace: &str, subjects: Value) -> String {
    let path = format!("{}?dryRun=All", all(kind, namespace));
    fate(admin.post(&path, binding("x", subjects)).await)
}

#[tokio::test]
async fn bindings_to_accounts_of_fenced_namespaces_are_asked_about_and_no_others() {
    let (admin, _chart) = with_chart_alone().await;
    let fenced = namespace(&admin, "bindings-fenced", json!({})).await;
    let plain = namespace(&admin, "bindings-plain", json!({})).await;
    let long: BTreeSet<String> = (1..1000)
        .map(|at| format!("{at:063}"))
        .chain([fenced.clone()])
        .collect();
    let most = Bound::of(long.clone());
    assert!(matches!(most, Bound::Named(_)));
    for (bound, others) in [
        (Bound::of([fenced.clone()].into()), "done"),
        (most, "done"),
        // More than can be named: then accounts of every namespace that could be fenced.
        (
            Bound::of(long.into_iter().chain(["one-more".to_owned()]).collect()),
            ASKED,
        ),
    ] {
        fill(&admin, &bound, &fenced).await;
        for subject in [
            account(&fenced),
            named("User", &format!("system:serviceaccount:{fenced}:triage")),
            named("Group", &format!("system:serviceaccounts:{fenced}")),
        ] {
            for (kind, place) in [
                ("RoleBinding", &plain),
                ("RoleBinding", &fenced),
                ("ClusterRoleBinding", &plain),
            ] {
                let subjects = json!([named("User", "mia"), subject]);
                assert_eq!(
                    made(&admin, kind, place, subjects).await,
                    ASKED,
                    "{kind} in {place}: {subject}"
                );
            }
            let kube_system = made(&admin, "RoleBinding", "kube-system", json!([subject])).await;
            assert_eq!(kube_system, ASKED, "in every namespace: {subject}");
        }
        let own = json!([{"kind": "ServiceAccount", "name": "triage"}]);
        assert_eq!(made(&admin, "RoleBinding", &fenced, own.clone()).await, ASKED);
        assert_eq!(made(&admin, "RoleBinding", &plain, own).await, others);
        for subject in [
            account(&plain),
            named("User", &format!("system:serviceaccount:{plain}:triage")),
            named("Group", &format!("system:serviceaccounts:{plain}")),
        ] {
            assert_eq!(
                made(&admin, "RoleBinding", &plain, json!([subject])).await,
                others,
                "{subject}"
            );
        }
        for subject in [
            account("kube-system"),
            named("User", &fenced),
            named("Group", &fenced),
            named("Group", "system:serviceaccounts"),
            named("Group", "system:serviceaccounts:"),
            named("Group", "system:authenticated"),
            named("Group", "system:unauthenticated"),
            named("User", "system:anonymous"),
            named("User", "system:serviceaccount:"),
            named("User", &format!("system:serviceaccounts:{fenced}")),
            named("Group", &format!("system:serviceaccount:{fenced}:triage")),
            named("User", &format!("system:serviceaccount:{}", "x".repeat(100_000))),
        ] {
            let found = made(&admin, "ClusterRoleBinding", "", json!([subject])).await;
            assert_eq!(found, "done", "{:.80}", subject.to_string());
        }
        let none = json!({"metadata": {"name": "x"}, "roleRef": binding("x", json!([]))["roleRef"]});
        for body in [none, binding("x", json!([])), binding("x", Value::Null)] {
            let path = format!("{}?dryRun=All", all("ClusterRoleBinding", ""));
            assert_eq!(fate(admin.post(&path, body).await), "done");
        }
        let by_ringfence = admin.master(RINGFENCE);
        assert_eq!(
            made(&by_ringfence, "RoleBinding", &plain, json!([account(&fenced)])).await,
            "done"
        );
    }
    fill(&admin, &Bound::default(), &fenced).await;
}

/// A condition that errs refuses: none may, however large a binding is made.
#[tokio::test]
async fn no_binding_is_too_much_for_the_condition() {
    let (admin, _chart) = with_chart_alone().await;
    let fenced = namespace(&admin, "bindings-huge", json!({})).await;
    let names = (1..1000)
        .map(|at| format!("{at:063}"))
        .chain([fenced.clone()])
        .collect();
    fill(&admin, &Bound::of(names), &fenced).await;
    let users = |count: usize, length: usize| -> Value {
        let name = |at: usize| format!("system:serviceaccount:{at}:{}", "u".repeat(length));
        (0..count).map(|at| named("User", &name(at))).collect()
    };
    for (subjects, expected) in [
        (users(200, 10), "done"),
        (users(200, 370), "done"),
        (users(200, 10_000), "done"),
        (users(1, 2_000_000), "done"),
        // Too many to be compared with every name: asked, and no error.
        (users(201, 10), ASKED),
        (users(9_000, 100), ASKED),
    ] {
        let (count, length) = (subjects.as_array().unwrap().len(), subjects.to_string().len());
        let found = made(&admin, "ClusterRoleBinding", "", subjects).await;
        assert_eq!(found, expected, "{count} subjects of {length} bytes");
    }
    fill(&admin, &Bound::default(), &fenced).await;
}

#[tokio::test]
async fn what_a_binding_named_already_goes_on_unasked() {
    let (admin, _chart) = with_chart_alone().await;
    let fenced = namespace(&admin, "bindings-update", json!({})).await;
    let many = (0..5_000).map(|at| named("User", &format!("user-{at}")));
    let many: Value = many.chain([account(&fenced)]).collect();
    let paths = ["bindings-few", "bindings-many"].map(|name| format!("{}/{name}", all("ClusterRoleBinding", "")));
    for (name, subjects) in [("bindings-few", json!([account(&fenced)])), ("bindings-many", many)] {
        let path = all("ClusterRoleBinding", "");
        admin.post(&path, binding(name, subjects)).await.unwrap();
    }
    fill(&admin, &Bound::of([fenced.clone()].into()), &fenced).await;
    for path in &paths {
        let labels = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["test/hold"]}});
        assert_eq!(fate(admin.patch(path, labels).await), "done", "{path}");
        let more = json!({"subjects": [account(&fenced), account("bindings-other")]});
        assert_eq!(fate(admin.patch(path, more).await), ASKED, "{path}");
        assert_eq!(
            fate(admin.patch(path, json!({"subjects": null})).await),
            "done",
            "{path}"
        );
        assert_eq!(fate(admin.delete(path).await), "done", "{path}");
        let ended = json!({"metadata": {"finalizers": null}});
        assert_eq!(fate(admin.patch(path, ended).await), "done", "{path}");
    }
    fill(&admin, &Bound::default(), &fenced).await;
}
