//! RegoPolicies on a real API server: what is registered for them, what is said of them, and what becomes of edits. On a control
//! plane of its own, because the registration is one for the whole cluster. What a policy answers is another file's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use ringfence::plan::{policy_webhooks, registers};
use ringfence::policy::{Declared, Registered, Snapshot};
use serde_json::{Value, json};
use support::cel::valid;
use support::{ControlPlane, RELEASE_NAMESPACE, Ringfence, eventually};

use crate::steady::writes;
use crate::world::{Actor, CLASSES, NAMESPACES, POLICIES, SOON, all, condition, counted, namespace, one, own, unasked};

const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const KIND: &str = "kind=\"ValidatingWebhookConfiguration\"";

struct Scene {
    /// Keeps it running.
    _cluster: ControlPlane,
    ringfence: Ringfence,
    admin: Actor,
    /// Writes policies that admission would refuse.
    author: Actor,
}

/// A policy about a kind that nobody serves, unless `spec` says otherwise.
fn policy(name: &str, spec: &Value) -> Value {
    let rule = json!({"apiGroups": ["test.example.com"], "apiVersions": ["v1"], "resources": ["things"], "operations": ["CREATE"]});
    let mut whole = json!({"matchConstraints": {"resourceRules": [rule]}});
    for (field, value) in spec.as_object().expect("fields") {
        match (whole[field].as_object_mut(), value) {
            (Some(object), Value::Object(more)) => object.extend(more.clone()),
            _ => whole[field] = value.clone(),
        }
    }
    valid("RegoPolicy", name, &whole)
}

fn broken(name: &str, spec: &Value) -> Value {
    let mut policy = policy(name, spec);
    policy["spec"]["rego"]["modules"][0]["source"] = json!("package valid\n\ndeny contains \"no\" if unknown_thing\n");
    policy
}

fn path(name: &str) -> String {
    format!("{POLICIES}/{name}")
}

#[tokio::test]
async fn policies_are_registered_told_of_and_kept() {
    // Writes are counted: a scan would write what it finds.
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let author = unasked(&cluster).await;
    let scene = &Scene {
        _cluster: cluster,
        ringfence,
        admin,
        author,
    };
    each_is_registered_as_it_matches(scene).await;
    nothing_is_written_where_nothing_changes(scene).await;
    edits_are_put_back_and_counted(scene).await;
    a_new_authority_is_followed(scene).await;
    what_is_broken_says_where(scene).await;
    the_last_good_generation_decides(scene).await;
    a_registration_that_is_gone_is_told_of(scene).await;
    exceptions_know_policies_as_they_come_and_go(scene).await;
    the_cluster_goes_on_under_a_policy_about_everything(scene).await;
    the_last_one_that_goes_leaves_nothing(scene).await;
}

impl Scene {
    async fn registration(&self) -> Result<Value> {
        self.admin.read(&format!("{REGISTRATIONS}/ringfence-policies")).await
    }

    async fn registered(&self) -> Result<Vec<Value>> {
        let found = self.registration().await?;
        Ok(found["webhooks"].as_array().cloned().unwrap_or_default())
    }

    /// What should be registered for the policies that are there, by their newest generation.
    async fn wanted(&self) -> Result<Vec<Value>> {
        let mut policies = Vec::new();
        for object in self.admin.items(POLICIES).await? {
            let metadata = &object["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default();
            let declared = Declared {
                name: text("name").to_owned(),
                uid: text("uid").to_owned(),
                generation: metadata["generation"].as_i64().unwrap_or_default(),
                spec: serde_json::from_value(object["spec"].clone())?,
            };
            policies.push(Arc::new(Registered::broken(declared, "of a test")));
        }
        let chart = self.admin.read(&format!("{REGISTRATIONS}/ringfence")).await?;
        policy_webhooks(&Snapshot::new(policies).entries(), &chart, RELEASE_NAMESPACE).map_err(anyhow::Error::msg)
    }

    /// Waits until it is registered what should be, as the API server stores it.
    async fn stands(&self) {
        eventually(SOON, || async {
            let (stored, wanted) = (self.registration().await?, self.wanted().await?);
            ensure!(
                registers(&stored, &wanted),
                "{}\nshould say {}",
                stored["webhooks"],
                json!(wanted)
            );
            Ok(())
        })
        .await;
    }

    /// Waits until a condition says that of the present generation. Returns its message.
    async fn said(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        eventually(SOON, || async {
            let policy = self.admin.read(&path(name)).await?;
            let found = condition(&policy, type_);
            let wanted = json!([status, reason, policy["metadata"]["generation"]]);
            ensure!(
                json!([found["status"], found["reason"], found["observedGeneration"]]) == wanted,
                "{name}: {type_} should be {wanted}: {}",
                policy["status"]
            );
            Ok(found["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    async fn enforced(&self, name: &str) {
        self.said(name, "Compiled", "True", "Vetted").await;
        self.said(name, "Enforced", "True", "Intercepted").await;
    }

    /// Waits for an Event about a policy.
    async fn event(&self, name: &str, type_: &str, reason: &str) {
        let events = all("Event", "default");
        eventually(SOON, || async {
            let events = self.admin.items(&events).await?;
            let is_it = |event: &&Value| {
                event["regarding"]["kind"] == "RegoPolicy"
                    && event["regarding"]["name"] == name
                    && event["reason"] == reason
            };
            let event = events
                .iter()
                .find(is_it)
                .with_context(|| format!("no Event {reason} about {name}"))?;
            ensure!(event["type"] == type_, "{event}");
            Ok(())
        })
        .await;
    }

    async fn edit(&self, change: impl Fn(&mut Vec<Value>)) {
        eventually(SOON, || async {
            let mut registration = self.registration().await?;
            let mut webhooks = self.registered().await?;
            change(&mut webhooks);
            registration["webhooks"] = json!(webhooks);
            let path = format!("{REGISTRATIONS}/ringfence-policies");
            let answer = self.admin.put(&path, &registration).await;
            ensure!(answer.code == 200, "{}", answer.message());
            Ok(())
        })
        .await;
    }
}

async fn each_is_registered_as_it_matches(scene: &Scene) {
    assert_eq!(scene.registered().await.unwrap(), [] as [Value; 0], "without policies");
    let labels =
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["d"]}]});
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "Namespaced"}]);
    for (name, spec) in [
        (
            "fails",
            json!({"matchConstraints": {"namespaceSelector": labels, "objectSelector": labels}}),
        ),
        (
            "ignores",
            json!({"failurePolicy": "Ignore", "matchConstraints": {"matchPolicy": "Exact"}}),
        ),
        ("audits", json!({"validationActions": ["Audit"]})),
        (
            "expands",
            json!({"validationActions": ["Warn"], "matchConstraints": {"resourceRules": pods}, "templates": "Expand"}),
        ),
    ] {
        scene.author.post(POLICIES, &policy(name, &spec)).await.ok();
    }
    for name in ["fails", "ignores", "audits", "expands"] {
        scene.enforced(name).await;
        scene.event(name, "Normal", "Intercepted").await;
    }
    scene.stands().await;
    let webhooks = scene.registered().await.unwrap();
    let by = |failure: &str, field: &str, value: Value| {
        let is_it = |webhook: &&Value| webhook["failurePolicy"] == failure && webhook[field] == value;
        webhooks.iter().filter(is_it).count()
    };
    // Pods, and workloads of three groups, of which one is theirs, beside the one with selectors. What only audits fails open.
    assert_eq!(by("Fail", "matchPolicy", json!("Equivalent")), 4, "{webhooks:#?}");
    assert_eq!(by("Fail", "objectSelector", labels), 1, "{webhooks:#?}");
    assert_eq!(by("Ignore", "matchPolicy", json!("Exact")), 1, "{webhooks:#?}");
    assert_eq!(by("Ignore", "matchPolicy", json!("Equivalent")), 1, "{webhooks:#?}");
    assert_eq!(webhooks.len(), 6);
}

async fn nothing_is_written_where_nothing_changes(scene: &Scene) {
    eventually(SOON, || async {
        let before = writes(&scene.admin).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(writes(&scene.admin).await == before, "it is not quiet yet");
        Ok(())
    })
    .await;
    let before = writes(&scene.admin).await;
    // An edit that changes nothing, and a note of somebody else's: looked at, and left.
    scene.edit(|_| {}).await;
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    let registration = format!("{REGISTRATIONS}/ringfence-policies");
    scene.admin.patch(&registration, &note).await.ok();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut after = writes(&scene.admin).await;
    for by_this_test in ["PUT", "PATCH"] {
        let key = format!("{by_this_test} validatingwebhookconfigurations/");
        *after.get_mut(&key).expect("counted") -= 1.0;
    }
    after.retain(|_, count| *count > 0.0);
    assert_eq!(after, before);
}

async fn edits_are_put_back_and_counted(scene: &Scene) {
    type Edit<'a> = &'a dyn Fn(&mut Vec<Value>);
    let reverted = async || counted(&scene.ringfence, "ringfence_drift_reverted_total", &[KIND]).await;
    let foreign = |webhooks: &mut Vec<Value>| {
        let mut foreign = webhooks[0].clone();
        foreign["name"] = json!("foreign.example.com");
        webhooks.push(foreign);
    };
    let edits: [(&str, Edit<'_>); 5] = [
        ("all are gone", &|webhooks| webhooks.clear()),
        ("one fails open", &|webhooks| {
            webhooks[0]["failurePolicy"] = json!("Ignore")
        }),
        ("one never asks", &|webhooks| {
            webhooks[0]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        }),
        ("one asks somebody else", &|webhooks| {
            webhooks[0]["clientConfig"] = json!({"url": "https://127.0.0.1:1/"});
        }),
        ("one more", &foreign),
    ];
    for (what, edit) in edits {
        let before = reverted().await;
        scene.edit(edit).await;
        scene.stands().await;
        eventually(SOON, || async {
            let now = reverted().await;
            ensure!(now > before, "{what}: {now} are counted");
            Ok(())
        })
        .await;
    }
}

async fn a_new_authority_is_followed(scene: &Scene) {
    let before = scene.registered().await.unwrap()[0]["clientConfig"]["caBundle"].clone();
    let secret = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/secrets/ringfence-webhook-tls");
    scene.admin.delete(&secret).await.ok();
    eventually(SOON, || async {
        let webhooks = scene.registered().await?;
        ensure!(
            webhooks
                .iter()
                .all(|webhook| webhook["clientConfig"]["caBundle"] != before),
            "the old authority is still trusted"
        );
        Ok(())
    })
    .await;
    scene.stands().await;
}

async fn what_is_broken_says_where(scene: &Scene) {
    for (name, spec, means) in [
        (
            "broken",
            json!({}),
            "failurePolicy Fail: whatever it matches is refused",
        ),
        (
            "broken-open",
            json!({"failurePolicy": "Ignore"}),
            "failurePolicy Ignore",
        ),
        (
            "broken-audit",
            json!({"validationActions": ["Audit"]}),
            "is logged and counted as refused, and goes on",
        ),
    ] {
        scene.author.post(POLICIES, &broken(name, &spec)).await.ok();
        let compiled = scene.said(name, "Compiled", "False", "Rejected").await;
        for part in ["policy.rego:3:", "(`deny contains \"no\" if unknown_thing`)", means] {
            assert!(compiled.contains(part), "{compiled}");
        }
        let enforced = scene.said(name, "Enforced", "False", "NotReady").await;
        assert!(enforced.contains(means), "{enforced}");
        scene.event(name, "Warning", "Rejected").await;
    }
    // It answers by its failurePolicy, so it is asked.
    scene.stands().await;
    for name in ["broken", "broken-open", "broken-audit"] {
        scene.author.delete(&path(name)).await.ok();
    }
    scene.stands().await;
}

async fn the_last_good_generation_decides(scene: &Scene) {
    let source = |text: &str| json!({"spec": {"rego": {"modules": [{"name": "policy.rego", "source": text}]}}});
    let before = scene.registered().await.unwrap();
    let wrong = source("package valid\n\ndeny contains \"no\" if {\n");
    scene.author.patch(&path("audits"), &wrong).await.ok();
    let compiled = scene.said("audits", "Compiled", "False", "Rejected").await;
    let enforced = scene.said("audits", "Enforced", "False", "NotReady").await;
    for message in [&compiled, &enforced] {
        assert!(message.contains("generation 1 decides"), "{message}");
    }
    assert_eq!(
        scene.registered().await.unwrap(),
        before,
        "what decides is what decided"
    );
    let good = source("package valid\n\ndeny contains \"yes\" if input.never\n");
    scene.author.patch(&path("audits"), &good).await.ok();
    scene.enforced("audits").await;
    scene.stands().await;
}

async fn a_registration_that_is_gone_is_told_of(scene: &Scene) {
    // Without what the chart rendered it stays away.
    let rendered = "/api/v1/namespaces/ringfence-system/configmaps";
    let path = format!("{rendered}/ringfence-registrations");
    let mut map = scene.admin.get(&path).await.ok();
    scene.admin.delete(&path).await.ok();
    scene
        .admin
        .delete(&format!("{REGISTRATIONS}/ringfence-policies"))
        .await
        .ok();
    let message = scene.said("fails", "Enforced", "False", "NotIntercepted").await;
    assert!(message.contains("apply the chart again"), "{message}");
    scene.event("fails", "Warning", "NotIntercepted").await;
    for field in ["resourceVersion", "uid", "managedFields"] {
        map["metadata"].as_object_mut().expect("metadata").remove(field);
    }
    scene.admin.post(rendered, &map).await.ok();
    scene.enforced("fails").await;
    scene.stands().await;
}

async fn exceptions_know_policies_as_they_come_and_go(scene: &Scene) {
    let ns = namespace(&scene.admin, "excepted", &json!({})).await;
    let class = valid(
        "AIWorkflowClass",
        &ns,
        &json!({"exceptions": {"namespaces": [ns], "maxDays": 30}}),
    );
    scene.admin.post(CLASSES, &class).await.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": ns}}});
    scene.admin.patch(&format!("{NAMESPACES}/{ns}"), &enforce).await.ok();
    let expires = Timestamp::now() + Duration::from_secs(3600);
    let exception = valid(
        "RegoPolicyException",
        "x",
        &json!({"policies": ["brought"], "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}),
    );
    scene
        .admin
        .post(&all("RegoPolicyException", &ns), &exception)
        .await
        .ok();
    let said = async |status: &str, reason: &str| {
        let path = one("RegoPolicyException", &ns, "x");
        eventually(SOON, || async {
            let exception = scene.admin.read(&path).await?;
            let accepted = condition(&exception, "Accepted");
            ensure!(
                accepted["status"] == status && accepted["reason"] == reason,
                "{accepted}"
            );
            Ok(())
        })
        .await;
    };
    said("False", "UnknownPolicy").await;
    scene.author.post(POLICIES, &policy("brought", &json!({}))).await.ok();
    said("True", "Accepted").await;
    scene.author.delete(&path("brought")).await.ok();
    said("False", "UnknownPolicy").await;
}

/// Whether anybody answers or not: what keeps a cluster running, and the way out, is never asked about.
async fn the_cluster_goes_on_under_a_policy_about_everything(scene: &Scene) {
    let ns = namespace(&scene.admin, "under-everything", &json!({})).await;
    let maps = all("ConfigMap", &ns);
    let named = |name: &str| json!({"metadata": {"name": name}});
    let held = json!({"metadata": {"name": "held", "finalizers": ["test.example.com/hold"]}});
    scene.admin.post(&maps, &held).await.ok();
    let all_there_is = json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]);
    let mut everything = policy(
        "everything",
        &json!({"matchConstraints": {"resourceRules": all_there_is}}),
    );
    everything["spec"]["rego"]["modules"][0]["source"] = json!("package everything\n\ndeny contains \"no\"\n");
    scene.author.post(POLICIES, &everything).await.ok();
    scene.enforced("everything").await;
    eventually(SOON, || async {
        let answer = scene.admin.post(&format!("{maps}?dryRun=All"), &named("x")).await;
        ensure!(answer.code >= 400, "it is not in force yet");
        Ok(())
    })
    .await;
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases");
    let event = json!({
        "metadata": {"name": "x"}, "regarding": {"kind": "Namespace", "name": ns, "namespace": ns}, "type": "Normal",
        "eventTime": "2026-01-01T12:00:00.000000Z", "reportingController": "example.com/test", "reportingInstance": "x",
        "action": "Test", "reason": "Test",
    });
    let question = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    for (what, path, body) in [
        ("a heartbeat", leases.as_str(), named("x")),
        ("a node", "/api/v1/nodes", named("x")),
        ("a record", &all("Event", &ns), event),
        (
            "a question",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            question,
        ),
        (
            "a system namespace",
            "/api/v1/namespaces/kube-system/configmaps",
            named("x"),
        ),
        (
            "our own namespace",
            &format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps"),
            named("x"),
        ),
        (
            "a kind of ours",
            CLASSES,
            valid("AIWorkflowClass", "under-everything", &json!({})),
        ),
    ] {
        let answer = scene.admin.post(path, &body).await;
        assert_eq!(answer.code, 201, "{what}: {}", answer.message());
    }
    // What is judged is asked about, whatever is done.
    let (held, label) = (
        format!("{maps}/held?dryRun=All"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    );
    for (what, answer) in [
        ("UPDATE", scene.admin.patch(&held, &label).await),
        ("DELETE", scene.admin.delete(&held).await),
        (
            "CONNECT",
            scene.admin.get(&format!("{}/x/proxy", all("Pod", &ns))).await,
        ),
    ] {
        assert!(
            answer.message().contains(".policies.ringfence.dev"),
            "{what}: {}",
            answer.body
        );
    }
    let off = json!({"metadata": {"finalizers": null}});
    scene.admin.patch(&format!("{maps}/held"), &off).await.ok();
    // Ringfence's own work goes on too: the status of what is written now.
    scene
        .author
        .post(POLICIES, &policy("under-everything", &json!({})))
        .await
        .ok();
    scene.enforced("under-everything").await;
    for name in ["everything", "under-everything"] {
        scene.author.delete(&path(name)).await.ok();
    }
    scene.stands().await;
    eventually(SOON, || async {
        let answer = scene.admin.post(&format!("{maps}?dryRun=All"), &named("x")).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
}

async fn the_last_one_that_goes_leaves_nothing(scene: &Scene) {
    for name in ["fails", "ignores", "audits", "expands"] {
        scene.author.delete(&path(name)).await.ok();
    }
    eventually(SOON, || async {
        let left = scene.registered().await?;
        ensure!(left.is_empty(), "{}", json!(left));
        Ok(())
    })
    .await;
}
