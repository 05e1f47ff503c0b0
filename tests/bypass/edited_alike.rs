//! Door: what nobody reviewed gives what was not given before, where what Ringfence made was edited in the same way.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{SOON, World, all, one, unasked, workflow};

const KEY: &str = "ringfence.dev/egress-domains";

fn peer(app: &str) -> Value {
    json!({"name": app, "to": {"pods": {"selector": {"matchLabels": {"app": app}}}}, "ports": [{"port": 1}]})
}

fn domain(name: &str) -> Value {
    let host = format!("{name}.example.com");
    json!({"name": format!("{name}-domain"), "to": {"domains": [host]}, "ports": [{"port": 443}]})
}

/// A path, a domain, a cloud role and a pull secret. What was given stays, and all of it comes when somebody has read it.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_edits_a_declaration_and_what_was_made_of_it_while_nobody_reviews() {
    const ROLE: &str = "eks.amazonaws.com/role-arn";
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]}, "identity": {"annotations": [ROLE]},
        }))
        .await;
    let labels = json!({"ringfence.dev/enforce": class});
    let ns = &world.namespace("alike", &labels).await;
    let spec = |more: &[Value], identity: Value| {
        let egress: Vec<_> = [peer("a"), domain("a")].iter().chain(more).cloned().collect();
        json!({"network": {"egress": egress}, "identity": identity})
    };
    let made = workflow("triage", &spec(&[], json!({"imagePullSecrets": [{"name": "a"}]})));
    world.tess.post(&all("AIWorkflow", ns), &made).await.ok();
    // The same as it would be made of what is declared next, for its like.
    let wide = spec(
        &[peer("b"), domain("b")],
        json!({"imagePullSecrets": [{"name": "a"}, {"name": "b"}], "annotations": {ROLE: "b"}}),
    );
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("like", &wide))
        .await
        .ok();
    world.condition(ns, "triage", "Programmed", "True", "Applied").await;
    world.condition(ns, "like", "Programmed", "True", "Applied").await;
    let parts = |of: &str| {
        [
            one("NetworkPolicy", ns, &owned_name(ns, of, "allow")),
            one("NetworkPolicy", ns, &owned_name(ns, of, "domains")),
            one("ServiceAccount", ns, of),
        ]
    };
    let path = one("AIWorkflow", ns, "triage");
    let record = json!({"status": {"reviewed": {"generation": 7, "registrationUID": "of-another-time"}}});
    world.admin.patch(&format!("{path}/status"), &record).await.ok();
    world.condition(ns, "triage", "Accepted", "False", "NotReviewed").await;

    let gap = unasked(world.cluster).await;
    let [allow, domains, account] = parts("triage");
    let [like_allow, like_domains, like_account] = parts("like");
    let edited = async |of: &str, like: &str| {
        let like = world.admin.read(like).await.unwrap();
        let keys = [KEY, "ringfence.dev/revision", ROLE];
        let annotations = &like["metadata"]["annotations"];
        let annotations = keys.map(|key| (key.to_owned(), annotations[key].clone()));
        let mut change = json!({"metadata": {"annotations": serde_json::Map::from_iter(annotations)}});
        for field in ["spec", "imagePullSecrets"] {
            if !like[field].is_null() {
                change[field] = like[field].clone();
            }
        }
        // It is about the pods of its own workflow.
        if change["spec"].is_object() {
            change["spec"]["podSelector"] = json!({"matchLabels": {"ringfence.dev/workflow": "triage"}});
        }
        gap.patch(of, &change).await.ok();
    };
    let declared = json!({"spec": spec(
        &[peer("b"), domain("b")],
        json!({"imagePullSecrets": [{"name": "a"}, {"name": "b"}], "annotations": {ROLE: "b"}}),
    )});
    gap.patch(&path, &declared).await.ok();
    for (of, like) in [
        (&allow, &like_allow),
        (&domains, &like_domains),
        (&account, &like_account),
    ] {
        edited(of, like).await;
    }
    let gives = async |expected: [bool; 2]| {
        eventually(SOON, || async {
            let said = [&allow, &domains, &account].map(|path| async {
                let object = world.admin.read(path).await?;
                let annotations = &object["metadata"]["annotations"];
                anyhow::Ok(
                    [
                        &object["spec"]["egress"],
                        &annotations[KEY],
                        &annotations[ROLE],
                        &object["imagePullSecrets"],
                    ]
                    .map(Value::to_string)
                    .join(" "),
                )
            });
            for said in futures::future::try_join_all(said).await? {
                let has = |what: &str| {
                    [format!("\"{what}\""), format!("{what}.example.com")]
                        .iter()
                        .any(|text| said.contains(text))
                };
                ensure!([has("a"), has("b")] == expected, "{said}");
            }
            Ok(())
        })
        .await;
    };
    gives([true, false]).await;
    world.condition(ns, "triage", "Accepted", "False", "NotReviewed").await;

    let seen = world.admin.read(&path).await.unwrap();
    let registration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
    let registration = world.admin.read(registration).await.unwrap();
    let uid = registration["metadata"]["uid"].as_str().expect("a uid");
    let read = format!("{}.{uid}", seen["metadata"]["generation"]);
    let reviewed = json!({"metadata": {"annotations": {"ringfence.dev/reviewed": read}}});
    world.admin.patch(&path, &reviewed).await.ok();
    gives([true, true]).await;
}
