//! The rules of our kinds on the real API server: each case of `tests/fixtures/cel.yaml`, and the bounds.

use anyhow::ensure;
use serde_json::{Value, json};
use support::cel::{cases, valid};
use support::{eventually, unique};

use crate::world::{Actor, CLASSES, POLICIES, SOON, World, all, unasked};

/// What the API server said, cause by cause, without the value that it repeats: null, the word "object", or the object itself.
fn causes(body: &Value) -> Vec<String> {
    let causes = body["details"]["causes"].as_array().into_iter().flatten();
    let said = |cause: &Value| {
        let message = cause["message"].as_str().unwrap_or_default();
        let message = message.strip_prefix("Invalid value: ").unwrap_or(message);
        let after = message
            .strip_prefix("null: ")
            .or_else(|| message.strip_prefix("\"object\": "));
        let after = after.or_else(|| Some(message.strip_prefix('{')?.split_once("}: ")?.1));
        after.unwrap_or(message).to_owned()
    };
    causes.map(said).collect()
}

#[tokio::test]
async fn each_case_is_refused_with_its_message_and_no_other() {
    let world = World::shared().await;
    for case in cases() {
        let collection = match case.kind.as_str() {
            "AIWorkflowClass" => CLASSES.to_owned(),
            "RegoPolicy" => POLICIES.to_owned(),
            kind => all(kind, &world.namespace("cel", &json!({})).await),
        };
        let mut object = case.object();
        let answer = match case.old_object() {
            None => world.admin.post(&format!("{collection}?dryRun=All"), &object).await,
            Some(old) => {
                let stored = world.admin.post(&collection, &old).await.ok();
                let name = stored["metadata"]["name"].as_str().unwrap();
                replaced(&world.admin, &format!("{collection}/{name}"), &mut object).await
            }
        };
        assert_eq!(answer.code, 422, "{}: {}", case.case, answer.body);
        assert_eq!(
            causes(&answer.body),
            [case.refused.as_str()],
            "{}: {}",
            case.case,
            answer.message()
        );
    }
}

/// Replaces an object, once more where its status was written meanwhile.
async fn replaced(admin: &Actor, path: &str, object: &mut Value) -> crate::world::Answer {
    loop {
        object["metadata"]["resourceVersion"] = admin.get(path).await.ok()["metadata"]["resourceVersion"].clone();
        let answer = admin.put(path, object).await;
        if answer.code != 409 {
            return answer;
        }
    }
}

#[tokio::test]
async fn our_definitions_are_served_within_the_cost_budget() {
    let world = World::shared().await;
    for name in [
        "aiworkflows",
        "aiworkflowclasses",
        "aiworkflowgrants",
        "regopolicies",
        "regopolicyexceptions",
        "resolvednames",
    ] {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}.ringfence.dev");
        eventually(SOON, || async {
            let definition = world.admin.read(&path).await?;
            let conditions = definition["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is = |type_: &str| conditions.iter().any(|c| c["type"] == type_ && c["status"] == "True");
            ensure!(
                is("Established") && is("NamesAccepted") && !is("NonStructuralSchema"),
                "{conditions:?}"
            );
            Ok(())
        })
        .await;
    }
}

fn egress(count: usize) -> Value {
    let rules = (0..count).map(|i| {
        let labels = json!({"matchLabels": {"app": format!("peer-{i}")}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]});
        json!({"name": format!("rule-{i}"), "to": {"pods": {"selector": labels}}, "ports": [{"port": 1, "endPort": 9}, {"port": 53, "protocol": "UDP"}]})
    });
    json!({"network": {"egress": rules.collect::<Vec<_>>()}})
}

/// Short ones, for all together are told to the egress proxy in one annotation; each with as many ports as a rule has.
fn domains(rules: usize, each: usize) -> Value {
    let ports: Vec<_> = (1..=32).map(|port| json!({"port": port, "protocol": "TCP"})).collect();
    let rule = |i: usize| {
        let domains: Vec<_> = (0..each).map(|number| format!("*.{number}.io")).collect();
        json!({"name": i.to_string(), "to": {"domains": domains}, "ports": ports})
    };
    json!({"network": {"egress": (0..rules).map(rule).collect::<Vec<_>>()}})
}

fn rules(count: usize) -> Value {
    let names = |prefix: &str| (0..16).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let rule = json!({"apiGroups": names("group"), "resources": names("resource"), "resourceNames": names("name"), "verbs": ["get", "update", "patch", "delete"]});
    json!({"permissions": {"rules": vec![rule; count]}})
}

#[tokio::test]
async fn bounds_are_where_they_are_said_to_be() {
    let world = World::shared().await;
    let collection = format!(
        "{}?dryRun=All",
        all("AIWorkflow", &world.namespace("bounds", &json!({})).await)
    );
    let say = async |name: &str, spec: &Value| world.admin.post(&collection, &valid("AIWorkflow", name, spec)).await;
    let team = |team: String| json!({"owner": {"team": team}});
    let mut everything = egress(64);
    everything["permissions"] = rules(32)["permissions"].clone();
    let keys: Vec<_> = (0..16).map(|key| format!("MODEL_API_KEY_{key}")).collect();
    everything["secrets"] = (0..32)
        .map(|i| json!({"name": format!("secret-{i}"), "secretRef": {"name": format!("secret-{i}"), "keys": keys}}))
        .collect();
    everything["network"]["ingress"] = (0..64)
        .map(
            |i| json!({"name": format!("rule-{i}"), "from": {"workflow": {"name": "peer"}}, "ports": [{"port": 8080}]}),
        )
        .collect();
    for (what, name, spec) in [
        ("64 egress rules", "x", egress(64)),
        ("32 rules", "x", rules(32)),
        ("everything at its bound", "x", everything),
        ("a name of 40 characters", &*"n".repeat(40), json!({})),
        (
            "8 audiences",
            "x",
            json!({"identity": {"audiences": (0..8).map(|i| json!({"audience": format!("{i:a>253}"), "maxExpirationSeconds": 600})).collect::<Vec<_>>()}}),
        ),
        ("domains at their bounds", "x", domains(64, 25)),
        ("63 characters of any script", "x", team("ü".repeat(63))),
        ("an emoji is one character", "x", team("🦀".repeat(63))),
    ] {
        let answer = say(name, &spec).await;
        assert_eq!(answer.code, 201, "{what}: {}", answer.message());
    }
    for (what, name, spec, path) in [
        ("65 egress rules", "x", egress(65), "spec.network.egress"),
        ("33 rules", "x", rules(33), "spec.permissions.rules"),
        ("26 domains", "x", domains(1, 26), "spec.network.egress[0].to.domains"),
        (
            "a name of 41 characters",
            &*"n".repeat(41),
            json!({}),
            "at most 40 characters",
        ),
        ("a name in another script", "prüfung", json!({}), "metadata.name"),
        ("64 characters", "x", team("ü".repeat(64)), "spec.owner.team"),
        ("no image", "x", json!({"images": []}), "spec.images"),
        (
            "two rules of one name",
            "x",
            json!({"network": {"egress": [egress(1)["network"]["egress"][0], egress(1)["network"]["egress"][0]]}}),
            "Duplicate value",
        ),
        (
            "two Secrets of one name",
            "x",
            json!({"secrets": [{"name": "x", "secretRef": {"name": "a"}}, {"name": "x", "secretRef": {"name": "b"}}]}),
            "Duplicate value",
        ),
        (
            "one key twice",
            "x",
            json!({"secrets": [{"name": "x", "secretRef": {"name": "a", "keys": ["k", "k"]}}]}),
            "Duplicate value",
        ),
        (
            "two declarations of an audience",
            "x",
            json!({"identity": {"audiences": [{"audience": "vault"}, {"audience": "vault"}]}}),
            "Duplicate value",
        ),
        (
            "a token of nine minutes",
            "x",
            json!({"identity": {"audiences": [{"audience": "vault", "maxExpirationSeconds": 540}]}}),
            "audiences[0].maxExpirationSeconds",
        ),
        (
            "port 0",
            "x",
            json!({"network": {"egress": [{"name": "x", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 0}]}]}}),
            "ports[0].port",
        ),
    ] {
        let answer = say(name, &spec).await;
        assert_eq!(answer.code, 422, "{what}: {}", answer.body);
        assert!(answer.message().contains(path), "{what}: {}", answer.message());
    }
    // What is stored at every bound, not only tried.
    let ns = world.enforced("bounds").await;
    let name = "n".repeat(40);
    world.ready(&ns, &name, &egress(64)).await;
    // Valid by themselves, or the webhook would refuse them before their number is seen.
    let many = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|number| format!("{number:a>length$}")).collect()
    };
    let patterns = |count| -> Vec<String> {
        many(count, 240)
            .iter()
            .map(|name| format!("r.example.com/{name}"))
            .collect()
    };
    let prefix = vec!["a".repeat(63); 3].join(".");
    let shape = |one_more: usize| {
        let annotations = many(64 + one_more, 63);
        json!({
            "permissions": rules(64)["permissions"]["rules"],
            "images": {"allowed": patterns(64), "injected": patterns(32), "requireDigest": true},
            "identity": {"annotations": many(32, 317), "audiences": many(32, 253), "maxTokenSeconds": 86400},
            "podSecurity": "Baseline",
            "volumes": {"types": vec!["csi"; 32], "csiDrivers": many(32, 63)},
            "network": {"domains": many(64, 253)},
            "podAnnotations": annotations.iter().map(|name| format!("{prefix}/{name}")).collect::<Vec<_>>(),
        })
    };
    let too_many = valid("AIWorkflowClass", &unique("bounds"), &shape(1));
    let answer = world.admin.post(&format!("{CLASSES}?dryRun=All"), &too_many).await;
    assert!(
        answer.code == 422 && answer.message().contains("spec.podAnnotations"),
        "{}",
        answer.message()
    );
    let class = valid("AIWorkflowClass", &unique("bounds"), &shape(0));
    // The bounds are the definition's; what a pattern means is the webhook's, which would say more.
    let unasked = unasked(world.cluster).await;
    let answer = unasked.post(&format!("{CLASSES}?dryRun=All"), &class).await;
    assert_eq!(answer.code, 201, "a class at its bounds: {}", answer.message());
    let answer = unasked
        .post(&format!("{POLICIES}?dryRun=All"), &policy_at_its_bounds())
        .await;
    assert_eq!(answer.code, 201, "a policy at its bounds: {}", answer.message());
}

/// A policy with as much of everything as the definition takes, but for the size of what is stored.
fn policy_at_its_bounds() -> Value {
    let many = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|number| format!("{number:a>length$}")).collect()
    };
    let rule = json!({
        "apiGroups": many(16, 253), "apiVersions": many(16, 63), "resources": many(32, 128), "resourceNames": many(32, 253),
        "operations": ["CONNECT", "CREATE", "DELETE", "UPDATE"], "scope": "Namespaced",
    });
    let labels: serde_json::Map<_, _> = many(16, 63)
        .into_iter()
        .map(|key| (key, json!("a".repeat(63))))
        .collect();
    let expressions: Vec<_> = many(16, 63)
        .into_iter()
        .map(|key| json!({"key": key, "operator": "In", "values": many(16, 63)}))
        .collect();
    let selector = json!({"matchLabels": labels, "matchExpressions": expressions});
    let samples: Vec<_> = many(32, 128)
        .into_iter()
        .map(|name| json!({"name": name, "expect": "Allow", "object": {"kind": "x".repeat(4096)}}))
        .collect();
    let modules: Vec<_> = many(16, 63)
        .into_iter()
        .map(|name| json!({"name": name, "source": "x".repeat(16 << 10)}))
        .collect();
    let fields = |kind: String| json!({"version": "v1", "kind": kind, "fields": many(16, 253)});
    let inventory: Vec<_> = many(8, 1).into_iter().map(|_| fields("K".repeat(63))).collect();
    valid(
        "RegoPolicy",
        &unique("bounds"),
        &json!({
            "description": "ü".repeat(1024), "remediation": "ü".repeat(1024), "validationActions": ["Audit", "Deny"],
            "matchConstraints": {
                "resourceRules": vec![rule.clone(); 16], "excludeResourceRules": vec![rule; 16],
                "namespaceSelector": selector, "objectSelector": selector,
            },
            "parameters": {"x": "y".repeat(60_000)}, "parametersSchema": {"x": "y".repeat(60_000)},
            "samples": samples, "inventory": inventory, "rego": {"modules": modules},
        }),
    )
}
