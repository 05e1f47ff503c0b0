//! RegoPolicies at work: refused before they are written, in force without a restart, and what each field makes of a request. On a
//! control plane of its own, because policies act on the whole cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ControlPlane, Ringfence, eventually, unique};

use crate::world::{
    Actor, Answer, BINARY, CLASSES, NAMESPACES, SOON, all, condition, counted, master, namespace, one, own,
};

const POLICIES: &str = "/apis/ringfence.dev/v1alpha1/regopolicies";
/// Policies that are replaced while requests go on.
const MANY: usize = 200;
/// Requests at the same time meanwhile: each is judged by all of them, in a build that is not optimised and beside other tests, and one that
/// waits for its turn longer than it may is refused.
const TRAFFIC: usize = 1;
/// How often all policies are replaced at most.
const GENERATIONS: usize = 5;

struct Scene {
    cluster: ControlPlane,
    /// `None` while it is killed.
    ringfence: Option<Ringfence>,
    admin: Actor,
    lea: Actor,
    /// A namespace without a mode.
    plain: String,
}

#[tokio::test]
async fn policies_are_objects() {
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let lea = master(&cluster, "lea", &[]).await;
    let plain = namespace(&admin, "plain", &json!({})).await;
    let mut scene = Scene {
        cluster,
        ringfence: Some(ringfence),
        admin,
        lea,
        plain,
    };
    what_cannot_work_is_refused_where_it_is_written(&scene).await;
    every_convention_refuses_at_once(&scene).await;
    an_edit_acts_without_a_restart_and_a_deletion_too(&scene).await;
    templates_are_judged_as_pods(&scene).await;
    the_weaker_of_action_and_mode_acts(&scene).await;
    an_error_is_what_the_failure_policy_says(&scene).await;
    one_that_runs_away_is_named_and_harms_no_other(&scene).await;
    an_exception_excuses_a_policy(&scene).await;
    a_policy_looks_at_what_stands_beside_the_request(&scene).await;
    let generation = many_are_replaced_under_traffic(&scene).await;
    a_restart_comes_up_with_all_of_them(&mut scene, generation).await;
}

/// A policy about ConfigMaps of one namespace.
fn policy(name: &str, namespace: &str, source: &str, patch: &Value) -> Value {
    let mut spec = json!({
        "validationActions": ["Deny"],
        "matchConstraints": {
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        },
        "rego": {"modules": [{"name": "policy.rego", "source": source}]},
    });
    for (key, value) in patch.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name}, "spec": spec})
}

impl Scene {
    fn ringfence(&self) -> &Ringfence {
        self.ringfence.as_ref().expect("it runs")
    }

    /// Writes a policy, and waits until it is in force.
    async fn policy(&self, name: &str, source: &str, patch: &Value) {
        self.admin
            .post(POLICIES, &policy(name, &self.plain, source, patch))
            .await
            .ok();
        self.enforced(name).await;
    }

    async fn enforced(&self, name: &str) {
        let path = format!("{POLICIES}/{name}");
        eventually(SOON, || async {
            let policy = self.admin.read(&path).await?;
            for type_ in ["Compiled", "Enforced"] {
                let found = condition(&policy, type_);
                let now = found["observedGeneration"] == policy["metadata"]["generation"];
                ensure!(now && found["status"] == "True", "{}", policy["status"]);
            }
            Ok(())
        })
        .await;
    }

    async fn drop(&self, name: &str) {
        self.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
        self.gone(name).await;
    }

    /// Waits until the API server asks about nothing that only this policy matched.
    async fn gone(&self, name: &str) {
        eventually(SOON, || async {
            let (code, text) = self.ringfence().get("/metrics").await?;
            ensure!(
                code == 200 && !text.contains(&format!("policy_info{{policy=\"{name}\"")),
                "still there"
            );
            Ok(())
        })
        .await;
    }

    /// Tries to make a ConfigMap, and leaves none behind.
    async fn tried(&self, labels: &Value) -> Answer {
        let path = format!("{}?dryRun=All", all("ConfigMap", &self.plain));
        let body = json!({"metadata": {"generateName": "c-", "labels": labels}, "data": {"k": "v"}});
        self.lea.post(&path, &body).await
    }
}

async fn what_cannot_work_is_refused_where_it_is_written(scene: &Scene) {
    let ns = &scene.plain;
    let good = "package p\ndeny contains \"x\" if input.review.object.data\n";
    for (what, source, patch, words) in [
        (
            "syntax",
            "package p\ndeny contains \"x\" if {\n  input.review.name == \n}\n",
            json!({}),
            vec!["policy.rego:4:1", "in the line: }"],
        ),
        (
            "no verdict",
            "package p\nrefuse contains \"x\"\n",
            json!({}),
            vec!["no rule gives a verdict", "`deny`", "`violation`", "`warn`", "`allow`"],
        ),
        (
            "unknown function",
            "package p\ndeny contains \"x\" if startwith(input.review.name, \"a\")\n",
            json!({}),
            vec!["policy.rego:2:22", "startwith", "in the line: deny contains"],
        ),
        (
            "another server",
            "package p\ndeny contains \"x\" if not http.send({}).ok\n",
            json!({}),
            vec!["policy.rego:2:26", "another server"],
        ),
        (
            "recursion",
            "package p\ndeny contains f(1)\nf(x) := f(x - 1)\n",
            json!({}),
            vec!["recursion (f -> f)"],
        ),
        (
            "a loop without end",
            "package p\nn := split(\"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z\", \",\")\ndeny contains \"x\" if {\n  some a in n; some b in n; some c in n; some d in n; some e in n\n  a == concat(b, [c, d, e])\n}\n",
            json!({}),
            vec!["policy.rego", "make it look at less"],
        ),
        (
            "a verdict that is none",
            "package p\ndeny := count(input.review)\n",
            json!({}),
            vec!["neither a finding nor a collection"],
        ),
        (
            "a sample",
            good,
            json!({"samples": [{"name": "empty ones pass", "expect": "Allow", "object": {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}}]}),
            vec![
                "sample `empty ones pass`",
                "Allow is expected, and the policy gives Deny",
            ],
        ),
        (
            "parameters",
            good,
            json!({"parametersSchema": {"required": ["allowed"], "properties": {"allowed": {"type": "array"}}}, "parameters": {"allowed": 1}}),
            vec!["spec.parameters.allowed", "breaks spec.parametersSchema"],
        ),
        ("a taken name", good, json!({}), vec!["exceptions name policies by it"]),
    ] {
        let name = if what == "a taken name" {
            "no-literal-secrets"
        } else {
            "refused"
        };
        let answer = scene.admin.post(POLICIES, &policy(name, ns, source, &patch)).await;
        let said = answer.refused_by("valid-policy");
        for word in words {
            assert!(said.contains(word), "{what}: {word} is missing in: {said}");
        }
    }
    let large = format!("package p\ndeny contains \"x\"\n# {}\n", "x".repeat(1 << 20));
    let answer = scene
        .admin
        .post(POLICIES, &policy("refused", ns, &large, &json!({})))
        .await;
    assert!(
        answer.code == 422 && answer.message().contains("spec.rego.modules"),
        "{}",
        answer.message()
    );
    assert!(!scene.admin.is_there(&format!("{POLICIES}/refused")).await.unwrap());
}

async fn every_convention_refuses_at_once(scene: &Scene) {
    let v0 = "package k8s\nviolation[{\"msg\": msg, \"details\": {}}] { msg := \"by violation\"; input.review.object.metadata.labels.all }\n";
    for (name, source, patch) in [
        (
            "by-deny",
            "package p\ndeny contains {\"msg\": \"by deny\", \"path\": \"data.k\", \"value\": \"v\", \"fix\": \"do so\"} if input.request.object.metadata.labels.all\n",
            json!({}),
        ),
        (
            "by-violation",
            v0,
            json!({"rego": {"version": "V0", "modules": [{"name": "policy.rego", "source": v0}]}}),
        ),
        (
            "by-warn",
            "package p\nwarn contains \"by warn\" if input.review.object.metadata.labels.all\n",
            json!({}),
        ),
        (
            "by-allow",
            "package p\ndefault allow := false\nallow if not input.review.object.metadata.labels.all\n",
            json!({"description": "All is not allowed"}),
        ),
        (
            "by-complete",
            "package p\ndeny := [\"by complete\"] if input.review.object.metadata.labels.all\n",
            json!({}),
        ),
    ] {
        scene.policy(name, source, &patch).await;
    }
    scene.tried(&json!({})).await.ok();
    let answer = scene.tried(&json!({"all": "x"})).await;
    let said = answer.refused_by("by-deny");
    for words in [
        "[by-allow] All is not allowed: `allow` is not true.",
        "[by-complete] by complete.",
        "[by-deny] data.k = \"v\": by deny. Fix: do so.",
        "[by-violation] by violation.",
        "(4 reasons)",
    ] {
        assert!(said.contains(words), "{words} is missing in: {said}");
    }
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("[by-warn] by warn")),
        "{:?}",
        answer.warnings
    );
    for name in ["by-deny", "by-violation", "by-warn", "by-allow", "by-complete"] {
        scene.drop(name).await;
    }
    scene.tried(&json!({"all": "x"})).await.ok();
}

async fn an_edit_acts_without_a_restart_and_a_deletion_too(scene: &Scene) {
    scene
        .policy("edited", "package p\ndeny contains \"first\"\n", &json!({}))
        .await;
    assert!(scene.tried(&json!({})).await.refused_by("edited").contains("first"));
    let path = format!("{POLICIES}/edited");
    let edit = |source: &str| json!({"spec": {"rego": {"modules": [{"name": "policy.rego", "source": source}]}}});
    // What is wrong is not written, and what was there goes on.
    scene
        .admin
        .patch(&path, &edit("package p\ndeny contains\n"))
        .await
        .refused_by("valid-policy");
    assert!(scene.tried(&json!({})).await.refused_by("edited").contains("first"));
    scene
        .admin
        .patch(&path, &edit("package p\ndeny contains \"second\"\n"))
        .await
        .ok();
    scene.enforced("edited").await;
    assert!(scene.tried(&json!({})).await.refused_by("edited").contains("second"));
    scene.drop("edited").await;
    scene.tried(&json!({})).await.ok();
}

async fn templates_are_judged_as_pods(scene: &Scene) {
    let source = "package p\ndeny contains {\"msg\": \"has no owner\", \"path\": \"metadata.labels.owner\"} if not input.review.object.metadata.labels.owner\n";
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]);
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": scene.plain}});
    let constraints = json!({"resourceRules": pods, "namespaceSelector": selector});
    scene
        .policy(
            "owned",
            source,
            &json!({"templates": "Expand", "matchConstraints": constraints}),
        )
        .await;
    let deployment = |labels: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{"name": "c", "image": "x", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
                },
            }},
        })
    };
    let path = all("Deployment", &scene.plain);
    let answer = scene.lea.post(&path, &deployment(json!({"app": "a"}))).await;
    let said = answer.refused_by("owned");
    assert!(
        said.contains("spec.template.metadata.labels.owner: has no owner (via Deployment/d)"),
        "{said}"
    );
    scene
        .lea
        .post(&path, &deployment(json!({"app": "a", "owner": "ml"})))
        .await
        .ok();
    scene.drop("owned").await;
}

async fn the_weaker_of_action_and_mode_acts(scene: &Scene) {
    scene
        .policy(
            "modal",
            "package p\ndeny contains \"modal\"\n",
            &json!({"validationActions": ["Warn"]}),
        )
        .await;
    let answer = scene.tried(&json!({})).await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("[modal] modal")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    let path = format!("{POLICIES}/modal");
    scene
        .admin
        .patch(&path, &json!({"spec": {"validationActions": ["Audit"]}}))
        .await
        .ok();
    scene.enforced("modal").await;
    let asked = json!({"metadata": {"generateName": "c-"}});
    let answer = scene.lea.post(&all("ConfigMap", &scene.plain), &asked).await;
    assert_eq!(answer.warnings, [] as [String; 0]);
    answer.ok();
    let labels = ["policy=\"modal\"", "action=\"audit\""];
    eventually(SOON, || async {
        let counted = counted(scene.ringfence(), "ringfence_policy_decisions_total", &labels).await;
        ensure!(counted > 0.0, "not audited yet");
        Ok(())
    })
    .await;
    scene
        .admin
        .patch(&path, &json!({"spec": {"validationActions": ["Deny"]}}))
        .await
        .ok();
    scene.enforced("modal").await;
    let namespace = format!("{NAMESPACES}/{}", scene.plain);
    scene
        .admin
        .patch(
            &namespace,
            &json!({"metadata": {"labels": {"ringfence.dev/warn": "default"}}}),
        )
        .await
        .ok();
    let answer = scene.tried(&json!({})).await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("[modal] modal")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    scene
        .admin
        .patch(
            &namespace,
            &json!({"metadata": {"labels": {"ringfence.dev/warn": null}}}),
        )
        .await
        .ok();
    scene.tried(&json!({})).await.refused_by("modal");
    scene.drop("modal").await;
}

async fn an_error_is_what_the_failure_policy_says(scene: &Scene) {
    let source = "package p\ndeny contains \"odd\" if to_number(input.review.object.metadata.labels.number) == 1\n";
    scene.policy("strict", source, &json!({})).await;
    let answer = scene.tried(&json!({"number": "x"})).await;
    let said = answer.refused_by("strict");
    assert!(
        said.contains("could not be judged: the policy failed: could not parse string as number at policy.rego:2:"),
        "{said}"
    );
    scene.drop("strict").await;
    scene.policy("lax", source, &json!({"failurePolicy": "Ignore"})).await;
    scene.tried(&json!({"number": "x"})).await.ok();
    scene.tried(&json!({"number": "1"})).await.refused_by("lax");
    scene.drop("lax").await;
}

/// On what no sample is like.
async fn one_that_runs_away_is_named_and_harms_no_other(scene: &Scene) {
    let runaway = "package p\nn := split(\"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z\", \",\")\n\
                   deny contains \"x\" if {\n  input.review.object.metadata.labels.spin\n  \
                   some a in n; some b in n; some c in n; some d in n; some e in n; some f in n\n  a == concat(b, [c, d, e, f])\n}\n";
    scene.policy("runaway", runaway, &json!({})).await;
    let steady = "package p\ndeny contains \"spins\" if input.review.object.metadata.labels.spin\n";
    scene.policy("steady", steady, &json!({})).await;
    let answer = scene.tried(&json!({"spin": "x"})).await;
    let said = answer.refused_by("runaway");
    assert!(
        said.contains("could not be judged: the policy did not finish in its time"),
        "{said}"
    );
    assert!(said.contains("[steady] spins."), "{said}");
    scene.tried(&json!({})).await.ok();
    scene.drop("runaway").await;
    scene.drop("steady").await;
}

async fn a_policy_looks_at_what_stands_beside_the_request(scene: &Scene) {
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({
        "metadata": {"name": "configmaps-for-policies", "labels": {"ringfence.dev/aggregate-to-inventory": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}],
    });
    scene.admin.post(roles, &role).await.ok();
    let maps = all("ConfigMap", &scene.plain);
    let map = |name: &str, host: &str| json!({"metadata": {"name": name}, "data": {"host": host}});
    scene.lea.post(&maps, &map("first", "a.example.com")).await.ok();
    let source = "package p\ndeny contains {\"msg\": sprintf(\"host is taken by %s\", [name]), \"path\": \"data.host\"} if {\n  \
                  some name, other in data.inventory.namespace[input.review.namespace].v1.ConfigMap\n  \
                  other.data.host == input.review.object.data.host\n}\n";
    let inventory = json!([{"version": "v1", "kind": "ConfigMap", "fields": ["data.host"]}]);
    scene.policy("hosts", source, &json!({"inventory": inventory})).await;
    let tried = format!("{maps}?dryRun=All");
    eventually(SOON, || async {
        let answer = scene.lea.post(&tried, &map("second", "a.example.com")).await;
        ensure!(
            answer.message().contains("data.host: host is taken by first"),
            "{}",
            answer.message()
        );
        Ok(())
    })
    .await;
    scene.lea.post(&tried, &map("second", "b.example.com")).await.ok();
    scene.drop("hosts").await;
}

async fn an_exception_excuses_a_policy(scene: &Scene) {
    let class = unique("class");
    let excepted = namespace(&scene.admin, "excepted", &json!({})).await;
    let spec = json!({"images": {"allowed": ["**"]}, "exceptions": {"namespaces": [excepted], "maxDays": 1}});
    let class_object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": spec});
    scene.admin.post(CLASSES, &class_object).await.ok();
    let labels = json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
    scene
        .admin
        .patch(&format!("{NAMESPACES}/{excepted}"), &labels)
        .await
        .ok();
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": excepted}});
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}]);
    let constraints = json!({"resourceRules": rules, "namespaceSelector": selector});
    let source =
        "package p\ndeny contains \"no vendors\" if startswith(input.review.object.metadata.name, \"vendor\")\n";
    scene
        .policy("vendors", source, &json!({"matchConstraints": constraints}))
        .await;
    let path = format!("{}?dryRun=All", all("ConfigMap", &excepted));
    let vendor = json!({"metadata": {"name": "vendor"}});
    scene.lea.post(&path, &vendor).await.refused_by("vendors");
    let ends = Timestamp::now() + SignedDuration::from_hours(1);
    let exception = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException", "metadata": {"name": "vendor"},
        "spec": {"policies": ["vendors"], "names": ["vendor"], "reason": "late", "expiresAt": ends.to_string()},
    });
    scene
        .admin
        .post(&all("RegoPolicyException", &excepted), &exception)
        .await
        .ok();
    let answer = scene.lea.post(&path, &vendor).await;
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("[vendors] excused by RegoPolicyException")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    scene
        .lea
        .post(&path, &json!({"metadata": {"name": "vendor-2"}}))
        .await
        .refused_by("vendors");
    // Its status knows the policy, though it is no shipped one.
    let path = one("RegoPolicyException", &excepted, "vendor");
    eventually(SOON, || async {
        let exception = scene.admin.read(&path).await?;
        ensure!(
            condition(&exception, "Accepted")["status"] == "True",
            "{}",
            exception["status"]
        );
        Ok(())
    })
    .await;
    scene.drop("vendors").await;
}

async fn a_restart_comes_up_with_all_of_them(scene: &mut Scene, generation: usize) {
    let ringfence = scene.ringfence.take().expect("it runs");
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    let answer = scene.tried(&json!({"p001": "x"})).await;
    assert!(
        answer.code == 500 && answer.message().contains("policies.ringfence.dev"),
        "{}",
        answer.message()
    );
    let started = scene.cluster.spawn_ringfence(BINARY, port, metrics_port).await;
    // Ready is ready for all of them.
    scene.ringfence = Some(started.expect("ringfence"));
    let last = format!("many-{:03}", MANY - 1);
    let answer = scene.tried(&json!({(format!("p{:03}", MANY - 1)): "x"})).await;
    assert!(
        answer.refused_by(&last).contains(&format!("generation {generation}")),
        "{}",
        answer.message()
    );
}

/// A policy that tells its generation to who wears its label.
fn telling(number: usize, namespace: &str, generation: usize) -> Value {
    let source = format!(
        "package p\ndeny contains \"generation {generation}\" if input.review.object.metadata.labels[\"p{number:03}\"]\n"
    );
    policy(&format!("many-{number:03}"), namespace, &source, &json!({}))
}

/// Which generation all of them have afterwards.
async fn many_are_replaced_under_traffic(scene: &Scene) -> usize {
    let write = |generation: usize| async move {
        for number in 0..MANY {
            let object = telling(number, &scene.plain, generation);
            let path = format!("{POLICIES}/many-{number:03}");
            if generation == 0 {
                scene.admin.post(POLICIES, &object).await.ok();
            } else {
                scene.admin.patch(&path, &json!({"spec": object["spec"]})).await.ok();
            }
        }
        for number in [0, MANY - 1] {
            scene.enforced(&format!("many-{number:03}")).await;
        }
    };
    write(0).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = &AtomicUsize::new(0);
    let traffic = (0..TRAFFIC).map(|lane| {
        let stop = Arc::clone(&stop);
        async move {
            let mut step = lane;
            while !stop.load(Ordering::Relaxed) {
                // Two policies of which the first is always written first.
                step = (step * 31 + 7) % (MANY - 1);
                let (first, second) = (step / 2, step + 1);
                let labels = json!({(format!("p{first:03}")): "x", (format!("p{second:03}")): "x"});
                let answer = scene.tried(&labels).await;
                let said = answer.refused_by(&format!("many-{first:03}"));
                let of = |number: usize| -> anyhow::Result<usize> {
                    let (_, rest) = said
                        .split_once(&format!("[many-{number:03}] generation "))
                        .context("no verdict")?;
                    Ok(rest
                        .chars()
                        .take_while(char::is_ascii_digit)
                        .collect::<String>()
                        .parse()?)
                };
                let generations = (of(first), of(second));
                let (Ok(first), Ok(second)) = generations else {
                    panic!("a policy did not answer: {said}");
                };
                assert!(first >= second, "decided by half a change: {said}");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let traffic = futures::stream::iter(traffic)
        .buffer_unordered(TRAFFIC)
        .collect::<Vec<_>>();
    let replace = async {
        let mut generation = 0;
        // Once, and again where the machine was too busy for the requests to say much.
        while generation == 0 || (asked.load(Ordering::Relaxed) <= MANY / 2 && generation < GENERATIONS) {
            generation += 1;
            write(generation).await;
        }
        // The last change is behind it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
        generation
    };
    let (_, generation) = tokio::join!(traffic, replace);
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > MANY / 2, "{asked} requests say little");
    let after = scene.tried(&json!({"p000": "x"})).await;
    assert!(
        after
            .refused_by("many-000")
            .contains(&format!("generation {generation}"))
    );
    let refused = counted(
        scene.ringfence(),
        "ringfence_admission_requests_total",
        &["webhook=\"policies\"", "decision=\"fault\""],
    )
    .await;
    assert_eq!(refused, 0.0, "no request was left without a verdict");
    generation
}
