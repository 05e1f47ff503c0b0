//! The guard on our definitions.

use serde_json::json;

use crate::api::{eventually, fate};
use crate::chart::with_chart;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[tokio::test]
async fn our_definitions_go_only_with_approve() {
    let (admin, _chart) = with_chart().await;
    for name in [
        "aiworkflows.ringfence.dev",
        "aiworkflowclasses.ringfence.dev",
        "aiworkflowgrants.ringfence.dev",
        "regopolicies.ringfence.dev",
        "regopolicyexceptions.ringfence.dev",
        "resolvednames.ringfence.dev",
    ] {
        let path = format!("{CRDS}/{name}?dryRun=All");
        assert_eq!(
            fate(admin.user("tenant").delete(&path).await),
            "guard ringfence-definitions"
        );
        assert_eq!(
            fate(admin.user("default-approver").delete(&path).await),
            "guard ringfence-definitions"
        );
        assert_eq!(fate(admin.user("approver").delete(&path).await), "done");
        // What it says is changed by the same, and beside that it is anybody's with the right to.
        let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://x.example.com"}});
        let converts = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}});
        for (user, expected) in [
            ("tenant", "guard ringfence-definitions"),
            ("default-approver", "guard ringfence-definitions"),
            ("approver", "done"),
        ] {
            let found = fate(admin.user(user).patch(&path, converts.clone()).await);
            assert_eq!(found, expected, "{user} changes {name}");
        }
        let note = json!({"metadata": {"annotations": {"note": "x"}}});
        assert_eq!(fate(admin.user("tenant").patch(&path, note).await), "done");
    }
    // And which server answers for them.
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let theirs = json!({"spec": {"service": {"namespace": "default", "name": "evil", "port": 443}, "insecureSkipTLSVerify": true}});
    let path = format!("{services}/v1alpha1.ringfence.dev?dryRun=All");
    for (user, expected) in [
        ("tenant", "guard ringfence-definitions"),
        ("default-approver", "guard ringfence-definitions"),
        ("approver", "done"),
    ] {
        assert_eq!(
            fate(admin.user(user).patch(&path, theirs.clone()).await),
            expected,
            "{user}"
        );
        assert_eq!(fate(admin.user(user).delete(&path).await), expected, "{user}");
    }
    let core = format!("{services}/v1.apps?dryRun=All");
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    assert_eq!(fate(admin.user("tenant").patch(&core, note).await), "done");

    let collection = format!("{CRDS}?dryRun=All");
    assert_eq!(
        fate(admin.user("tenant").delete(&collection).await),
        "guard ringfence-definitions"
    );

    let names = json!({"plural": "things", "singular": "thing", "kind": "Thing"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    let spec = json!({"group": "test.example.com", "scope": "Cluster", "names": names, "versions": [version]});
    admin
        .post(
            CRDS,
            json!({"metadata": {"name": "things.test.example.com"}, "spec": spec}),
        )
        .await
        .unwrap();
    let other = format!("{CRDS}/things.test.example.com");
    assert_eq!(fate(admin.user("tenant").delete(&other).await), "done");
    eventually("the other definition's end", || async {
        if admin.get(&other).await.is_err() {
            Ok(())
        } else {
            Err("still there".to_owned())
        }
    })
    .await;
}
