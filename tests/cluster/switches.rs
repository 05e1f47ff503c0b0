//! `run --policy-action`, which the chart has as `policies`: what is switched off does not refuse, what only warns warns, and the rest
//! refuses as before. On a control plane of its own, because policies act on the whole cluster.

use serde_json::{Value, json};

use crate::world::{Actor, Answer, BINARY, NAMESPACES, all, in_force, own};

/// A dry run of a namespace that enforces, of nobody and of no class of data; `baseline` is its Pod Security level.
async fn namespace(actor: &Actor, baseline: &Value) -> Answer {
    let labels = json!({"ringfence.dev/enforce": "default", "pod-security.kubernetes.io/enforce": baseline});
    let object = json!({"metadata": {"generateName": "switched-", "labels": labels}});
    actor.post(&format!("{NAMESPACES}?dryRun=All"), &object).await
}

async fn wide_role(actor: &Actor, namespace: &str) -> Answer {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]);
    let object = json!({"metadata": {"name": "wide"}, "rules": rules});
    actor
        .post(&format!("{}?dryRun=All", all("Role", namespace)), &object)
        .await
}

#[tokio::test]
async fn what_is_switched_off_does_not_refuse_and_what_warns_warns() {
    let (cluster, ringfence, admin) = own(&["--scan-period=0", "--policies=ai-workflow"]).await;
    let fenced = crate::world::namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    namespace(&admin, &json!("restricted"))
        .await
        .refused_by("namespace-baseline");
    wide_role(&admin, &fenced).await.refused_by("no-wildcard-rbac");

    let mut running = ringfence;
    for (action, warns) in [("Warn", true), ("Audit", false), ("Off", false)] {
        running.kill();
        let flags = [
            "--scan-period=0".to_owned(),
            "--policies=ai-workflow".to_owned(),
            format!("--policy-action=namespace-baseline={action}"),
            format!("--policy-action=no-wildcard-rbac={action}"),
        ];
        let started = cluster.spawn_ringfence_with(BINARY, port, metrics_port, &flags).await;
        running = started.expect("ringfence");
        in_force(&admin).await;
        for (policy, answer) in [
            ("namespace-baseline", namespace(&admin, &json!("restricted")).await),
            ("no-wildcard-rbac", wide_role(&admin, &fenced).await),
        ] {
            assert_eq!(answer.code, 201, "{policy}={action}: {}", answer.message());
            let warned = answer.warnings.iter().any(|warning| warning.contains(policy));
            assert_eq!(warned, warns, "{policy}={action}: {:?}", answer.warnings);
        }
        // A rule of the fence is no policy, and refuses as before.
        let privileged = namespace(&admin, &json!("privileged")).await;
        assert_eq!(privileged.code, 403, "{action}: {}", privileged.body);
        let (_, metrics) = running.get("/metrics").await.expect("metrics");
        let is_there = metrics.contains("policy_info{policy=\"namespace-baseline\"");
        assert_eq!(is_there, action != "Off", "{action}");
    }
}
