//! Door: a declared peer that names more pods than it seems to.

use serde_json::{Value, json};

use crate::world::{CLASSES, World, all, one, workflow};

const SAID: &str = "a selector of pods names a label that they have, by matchLabels, In or Exists";

fn term(operator: &str, values: &[&str]) -> Value {
    json!({"key": "tier", "operator": operator, "values": values})
}

fn egress(selector: &Value) -> Value {
    json!({"network": {"egress": [{"name": "peer", "to": {"pods": {"selector": selector}}, "ports": [{"port": 8080}]}]}})
}

fn ingress(selector: &Value) -> Value {
    json!({"network": {"ingress": [{"name": "peer", "from": {"pods": {"selector": selector}}, "ports": [{"port": 8080}]}]}})
}

/// By labels that pods must not have, which is every pod, and every one to come.
///
/// Held by: `definition`
#[tokio::test]
async fn a_tenant_names_every_pod_by_a_label_that_none_has() {
    let world = World::shared().await;
    let ns = &world.enforced("peers").await;
    let (_, edith) = world.person(ns, "edit").await;
    world.ready(ns, "triage", &json!({})).await;
    let path = one("AIWorkflow", ns, "triage");
    for terms in [
        json!([term("DoesNotExist", &[])]),
        json!([term("NotIn", &["x"])]),
        json!([term("NotIn", &["x"]), term("DoesNotExist", &[])]),
    ] {
        let selector = json!({"matchExpressions": terms});
        for attacker in [&world.tess, &edith, &world.admin] {
            for spec in [egress(&selector), ingress(&selector)] {
                for answer in [
                    attacker.post(&all("AIWorkflow", ns), &workflow("wide", &spec)).await,
                    attacker.patch(&path, &json!({"spec": spec})).await,
                ] {
                    assert_eq!(answer.code, 422, "{}", answer.body);
                    assert!(answer.message().contains(SAID), "{}", answer.message());
                }
            }
        }
        // The platform's DNS is opened to every workflow.
        let dns = json!({"cluster": {"dns": {"namespace": "kube-system", "selector": selector}}});
        let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "wide"}, "spec": dns});
        let answer = world.admin.post(CLASSES, &class).await;
        assert!(answer.code == 422 && answer.message().contains(SAID), "{}", answer.body);
    }
    // Such terms narrow what others name.
    let narrowed = json!({"matchLabels": {"app": "web"}, "matchExpressions": [term("NotIn", &["x"])]});
    world.tess.patch(&path, &json!({"spec": egress(&narrowed)})).await.ok();
    let some = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}, term("DoesNotExist", &[])]});
    world.tess.patch(&path, &json!({"spec": ingress(&some)})).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}
