//! The guard on mode labels. Passing it means being asked about by the registration `modes`.

use serde_json::{Value, json};

use crate::api::{Api, fate};
use crate::chart::{RELEASE, namespace, with_chart};

const GUARD: &str = "guard ringfence-modes";
const ASKED: &str = "webhook modes.ringfence.dev";

fn labels(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

/// The namespace as it is, with these labels changed: for PUT.
async fn with_labels(admin: &Api, path: &str, changes: Value) -> Value {
    let mut object = admin.get(path).await.unwrap();
    for (key, value) in changes.as_object().unwrap() {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        if value.is_null() {
            labels.remove(key)
        } else {
            labels.insert(key.clone(), value.clone())
        };
    }
    object
}

#[tokio::test]
async fn a_mode_is_set_only_with_approve_on_its_class() {
    let (admin, _chart) = with_chart().await;
    let ns = format!("/api/v1/namespaces/{}", namespace(&admin, "modes-set", json!({})).await);
    for mode in ["enforce", "warn", "audit"] {
        let set = |class: &str| labels(json!({format!("ringfence.dev/{mode}"): class}));
        for (user, class, expected) in [
            ("tenant", "default", GUARD),
            ("default-approver", "default", ASKED),
            ("default-approver", "gold", GUARD),
            ("gold-approver", "default", GUARD),
            ("approver", "gold", ASKED),
            ("approver", "", GUARD),
        ] {
            let found = fate(admin.user(user).patch(&ns, set(class)).await);
            assert_eq!(found, expected, "{user} sets {mode}={class}");
        }
        let create = json!({"metadata": {"name": "modes-new", "labels": {format!("ringfence.dev/{mode}"): "default"}}});
        assert_eq!(
            fate(admin.user("tenant").post("/api/v1/namespaces", create.clone()).await),
            GUARD,
            "create {mode}"
        );
        assert_eq!(
            fate(admin.user("default-approver").post("/api/v1/namespaces", create).await),
            ASKED,
            "create {mode}"
        );
    }
    let refusal = admin
        .user("tenant")
        .patch(&ns, labels(json!({"ringfence.dev/enforce": "default"})))
        .await
        .unwrap_err();
    for part in [
        "modes-set",
        "tenant",
        "approve",
        "aiworkflowclasses.ringfence.dev/default",
        "ringfence-approver",
        "Fix:",
    ] {
        assert!(
            refusal.message.contains(part),
            "{part} is missing in: {}",
            refusal.message
        );
    }
}

#[tokio::test]
async fn a_mode_goes_only_with_approve_on_its_class_by_every_path() {
    let (admin, _chart) = with_chart().await;
    let fenced = namespace(&admin, "modes-fenced", json!({"ringfence.dev/enforce": "default"})).await;
    let ns = format!("/api/v1/namespaces/{fenced}");
    let off = json!({"ringfence.dev/enforce": null});
    let tenant = admin.user("tenant");
    assert_eq!(fate(tenant.patch(&ns, labels(off.clone())).await), GUARD);
    assert_eq!(
        fate(tenant.patch(&ns, json!({"metadata": {"labels": null}})).await),
        GUARD
    );
    assert_eq!(
        fate(tenant.patch(&format!("{ns}/status"), labels(off.clone())).await),
        GUARD
    );
    assert_eq!(
        fate(tenant.put(&ns, with_labels(&admin, &ns, off.clone()).await).await),
        GUARD
    );
    assert_eq!(
        fate(
            tenant
                .put(&format!("{ns}/status"), with_labels(&admin, &ns, off.clone()).await)
                .await
        ),
        GUARD
    );
    assert_eq!(
        fate(
            tenant
                .put(&format!("{ns}/finalize"), with_labels(&admin, &ns, off.clone()).await)
                .await
        ),
        GUARD
    );

    let whole = format!("{ns}?dryRun=All");
    assert_eq!(fate(tenant.delete(&whole).await), GUARD);
    assert_eq!(fate(admin.user("gold-approver").delete(&whole).await), GUARD);
    assert_eq!(fate(admin.user("default-approver").delete(&whole).await), "done");

    let gold = labels(json!({"ringfence.dev/enforce": "gold"}));
    assert_eq!(
        fate(admin.user("default-approver").patch(&ns, gold.clone()).await),
        GUARD,
        "needs the new class too"
    );
    assert_eq!(
        fate(admin.user("gold-approver").patch(&ns, gold).await),
        GUARD,
        "needs the old class too"
    );
    assert_eq!(
        fate(admin.user("gold-approver").patch(&ns, labels(off.clone())).await),
        GUARD
    );
    // Break-glass: nobody listens at the webhook's port, and it goes through.
    assert_eq!(
        fate(admin.user("default-approver").patch(&ns, labels(off)).await),
        "done"
    );
}

#[tokio::test]
async fn whoever_leaves_the_modes_alone_is_left_alone() {
    let (admin, _chart) = with_chart().await;
    let fenced = namespace(&admin, "modes-alone", json!({"ringfence.dev/enforce": "default"})).await;
    let ns = format!("/api/v1/namespaces/{fenced}");
    let tenant = admin.user("tenant");
    // Not the guard's business: the webhook is asked, because policies judge labels under a mode.
    let asked = "webhook modes.ringfence.dev";
    assert_eq!(fate(tenant.patch(&ns, labels(json!({"team": "a"}))).await), asked);
    // Labels change by these doors as well.
    assert_eq!(
        fate(
            tenant
                .patch(&format!("{ns}/status"), labels(json!({"team": "a"})))
                .await
        ),
        asked
    );
    let changed = with_labels(&admin, &ns, json!({"team": "a"})).await;
    assert_eq!(fate(tenant.put(&format!("{ns}/finalize"), changed).await), asked);
    assert_eq!(
        fate(
            tenant
                .patch(&ns, json!({"metadata": {"annotations": {"note": "b"}}}))
                .await
        ),
        "done"
    );
    assert_eq!(
        fate(
            tenant
                .post("/api/v1/namespaces", json!({"metadata": {"name": "modes-plain"}}))
                .await
        ),
        "done"
    );
    assert_eq!(
        fate(
            tenant
                .put(&format!("{ns}/finalize"), admin.get(&ns).await.unwrap())
                .await
        ),
        "done"
    );
    let many: Value = (0..5000)
        .map(|i| (format!("label-{i}"), json!("x")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let plain = "/api/v1/namespaces/modes-plain";
    assert_eq!(
        fate(tenant.patch(plain, labels(many.clone())).await),
        "done",
        "5,000 labels"
    );
    assert_eq!(fate(tenant.patch(&ns, labels(many)).await), asked, "5,000 labels");
    assert_eq!(
        fate(tenant.patch(&ns, labels(json!({"ringfence.dev/enforce": null}))).await),
        GUARD,
        "and still guarded"
    );
}

#[tokio::test]
async fn exempt_namespaces_take_no_mode_from_anyone() {
    let (admin, _chart) = with_chart().await;
    for exempt in ["kube-system", "kube-node-lease", "kube-public", RELEASE] {
        for mode in ["enforce", "warn", "audit"] {
            let body = labels(json!({format!("ringfence.dev/{mode}"): "default"}));
            let refusal = admin
                .patch(&format!("/api/v1/namespaces/{exempt}"), body)
                .await
                .unwrap_err();
            assert!(
                refusal.message.contains(&format!("namespace {exempt} is never fenced")),
                "{}",
                refusal.message
            );
        }
        let body = labels(json!({"ringfence-test": "x"}));
        assert_eq!(
            fate(admin.patch(&format!("/api/v1/namespaces/{exempt}"), body).await),
            "done"
        );
    }
}
