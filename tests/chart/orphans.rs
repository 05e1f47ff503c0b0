//! The guard on what a deletion leaves behind.

use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RINGFENCE, namespace, with_chart};

const GUARD: &str = "guard ringfence-orphans";

#[tokio::test]
async fn what_was_made_goes_with_its_declaration() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "orphans", json!({})).await;
    let workflows = format!("/apis/ringfence.dev/v1alpha1/namespaces/{ns}/aiworkflows");
    let tenant = admin.user("tenant");
    let make = |name: &'static str| {
        let metadata = json!({"name": name});
        let spec = json!({"launchers": [{"user": "ci"}], "images": ["registry.example.com/**"]});
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec})
    };
    admin.master(RINGFENCE).post(&workflows, make("triage")).await.unwrap();
    let one = format!("{workflows}/triage");
    let deleting = |by: &Api, query: &str| {
        let (by, path) = (by.clone(), format!("{one}?dryRun=All&{query}"));
        async move { fate(by.delete(&path).await) }
    };
    // The API server learns of a guard by a watch.
    eventually("the guard", || async {
        let fate = deleting(&tenant, "propagationPolicy=Orphan").await;
        if fate == GUARD { Ok(()) } else { Err(fate) }
    })
    .await;
    for query in ["propagationPolicy=Orphan", "orphanDependents=true"] {
        assert_eq!(deleting(&tenant, query).await, GUARD, "{query}");
        assert_eq!(deleting(&admin.user("default-approver"), query).await, GUARD, "{query}");
        assert_eq!(deleting(&admin.user("approver"), query).await, "done", "{query}");
    }
    for query in [
        "",
        "propagationPolicy=Background",
        "propagationPolicy=Foreground",
        "orphanDependents=false",
    ] {
        assert_eq!(deleting(&tenant, query).await, "done", "{query}");
    }
    let options =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan", "dryRun": ["All"]});
    assert_eq!(
        fate(tenant.send(axum::http::Method::DELETE, &one, Some(options)).await),
        GUARD
    );

    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    assert_eq!(fate(tenant.patch(&one, finalizers(json!(["orphan"]))).await), GUARD);
    // Nobody answers for Ringfence here, which is asked about what grows.
    let other = finalizers(json!(["example.com/other"]));
    assert_eq!(fate(admin.master(RINGFENCE).patch(&one, other).await), "done");
    // Taken off it is owned by nobody any more: a write of managedFields, which is asked about as long as the object stays.
    assert_eq!(
        fate(tenant.patch(&one, finalizers(json!([]))).await),
        "webhook kinds.ringfence.dev"
    );
    assert_eq!(
        fate(admin.master(RINGFENCE).patch(&one, finalizers(json!([]))).await),
        "done"
    );
    let mut born = make("born");
    born["metadata"]["finalizers"] = json!(["orphan"]);
    assert_eq!(fate(tenant.post(&workflows, born).await), GUARD);
}
