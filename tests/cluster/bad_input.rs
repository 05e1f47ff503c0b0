//! What tenants write that is wrong, unusual or too much: refused, or a condition that says what to do; and the others are
//! served on meanwhile. Each act is that of somebody with the chart's role for tenants.

use ringfence::plan::owned_name;
use serde_json::{Value, json};

use crate::world::{Actor, TENANT, World, all, condition, one, workflow};

/// An enforced namespace with a class of its own and a tenant, where a workflow called `good` stands.
pub struct Place {
    pub world: World,
    pub class: String,
    pub ns: String,
    pub tenant: Actor,
    good: Value,
}

impl Place {
    pub async fn new(prefix: &str, class: Value) -> Self {
        let world = World::shared().await;
        let mut spec = json!({"images": {"allowed": ["**"]}, "cluster": {"clusterCIDRs": ["10.244.0.0/16"]}});
        spec.as_object_mut().unwrap().extend(class.as_object().unwrap().clone());
        let class = world.class(&spec).await;
        let ns = world.namespace(prefix, &json!({"ringfence.dev/enforce": class})).await;
        let (_, tenant) = world.person(&ns, TENANT).await;
        tenant
            .post(&all("AIWorkflow", &ns), &workflow("good", &json!({})))
            .await
            .ok();
        let good = world.condition(&ns, "good", "Ready", "True", "Fenced").await;
        Self {
            world,
            class,
            ns,
            tenant,
            good,
        }
    }

    pub async fn declare(&self, name: &str, spec: &Value) -> crate::world::Answer {
        self.tenant
            .post(&all("AIWorkflow", &self.ns), &workflow(name, spec))
            .await
    }

    /// Waits for a condition, and returns its message, which must hold each of `parts`.
    #[track_caller]
    pub fn says(&self, name: &str, about: [&'static str; 3], parts: &[&str]) -> impl Future<Output = String> {
        let [type_, status, reason] = about;
        let parts: Vec<_> = parts.iter().map(|part| String::from(*part)).collect();
        let said = self.world.condition(&self.ns, name, type_, status, reason);
        async move {
            let message = condition(&said.await, type_)["message"].as_str().unwrap().to_owned();
            for part in parts {
                assert!(message.contains(&part), "{part:?} is missing in: {message}");
            }
            message
        }
    }

    /// Nothing of `good` has changed, and who comes now is served.
    pub async fn others_are_served_on(&self, name: &str) {
        let good = self.tenant.read(&one("AIWorkflow", &self.ns, "good")).await.unwrap();
        assert_eq!(good["status"], self.good["status"], "good was touched");
        self.declare(name, &json!({})).await.ok();
        self.says(name, ["Ready", "True", "Fenced"], &[]).await;
    }
}

pub fn to(peer: Value) -> Value {
    json!({"network": {"egress": [{"name": "x", "to": peer, "ports": [{"port": 443}]}]}})
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_the_field_and_the_fix() {
    let place = Place::new("refused", json!({"network": {"cidrs": ["0.0.0.0/0", "::/0"]}})).await;
    let selector = |labels: Value| json!({"pods": {"selector": {"matchLabels": labels}}});
    let long = "n".repeat(41);
    let longer = "n".repeat(63);
    // By the definition: 422, and the field.
    for (name, spec, part) in [
        (
            long.as_str(),
            json!({}),
            "metadata.name must be a DNS label of at most 40 characters",
        ),
        (
            &longer,
            json!({}),
            "metadata.name must be a DNS label of at most 40 characters",
        ),
        (&"n".repeat(254), json!({}), "metadata.name"),
        ("a.b", json!({}), "metadata.name must be a DNS label"),
        ("prüfung", json!({}), "metadata.name"),
        ("Triage", json!({}), "metadata.name"),
        ("default", json!({}), "the service account must not be 'default'"),
        (
            "x",
            json!({"identity": {"serviceAccountName": "prüfung"}}),
            "spec.identity.serviceAccountName",
        ),
        (
            "x",
            to(json!({"workflow": {"name": long}})),
            "spec.network.egress[0].to.workflow.name",
        ),
        ("x", to(json!({"cidrs": []})), "spec.network.egress[0].to.cidrs"),
    ] {
        let answer = place.declare(name, &spec).await;
        assert_eq!(answer.code, 422, "{name} {spec}: {}", answer.body);
        assert!(answer.message().contains(part), "{name} {spec}: {}", answer.message());
    }
    // By Ringfence: what no class could take.
    for (spec, field) in [
        (
            to(json!({"cidrs": ["203.0.113.7/24"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["203.0.113.7"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["203.0.113.0/24", "::ffff:203.0.113.0/120"]})),
            "spec.network.egress[0].to.cidrs[1]",
        ),
        (
            to(json!({"cidrs": ["::ffff:0:0/96"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["0203.0.113.0/24"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["２03.0.113.0/24"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["169.254.169.254/32"]})),
            "spec.network.egress[0].to.cidrs[0]",
        ),
        (
            to(json!({"cidrs": ["203.0.113.0/24"], "except": ["203.0.113.0/24"]})),
            "spec.network.egress[0].to.except[0]",
        ),
        (
            to(json!({"cidrs": ["203.0.113.0/24"], "except": ["198.51.100.0/25"]})),
            "spec.network.egress[0].to.except[0]",
        ),
        (
            to(selector(json!({"größe": "x"}))),
            "spec.network.egress[0].to.pods.selector.matchLabels",
        ),
        (
            to(selector(json!({"app": "größe"}))),
            "spec.network.egress[0].to.pods.selector.matchLabels",
        ),
        (
            to(selector(json!({"app": "x".repeat(64)}))),
            "spec.network.egress[0].to.pods.selector.matchLabels",
        ),
        (
            to(json!({"workflow": {"name": "Prüfung"}})),
            "spec.network.egress[0].to.workflow.name",
        ),
        (
            to(json!({"workflow": {"namespace": "../kube-system", "name": "x"}})),
            "spec.network.egress[0].to.workflow.namespace",
        ),
        (json!({"images": ["registry.example.com/größe/**"]}), "spec.images[0]"),
        (
            json!({"identity": {"serviceAccountName": "a..b"}}),
            "spec.identity.serviceAccountName",
        ),
        (
            json!({"identity": {"imagePullSecrets": [{"name": "größe"}]}}),
            "spec.identity.imagePullSecrets[0].name",
        ),
    ] {
        let answer = place.declare("x", &spec).await;
        let said = answer.refused_by("valid-declaration");
        assert!(said.contains(&format!("{field} = ")), "{field}: {said}");
    }
    // By the API server, before anybody is asked.
    let mut labelled = workflow("x", &json!({}));
    labelled["metadata"]["labels"] = json!({"team": "größe"});
    let answer = place.tenant.post(&all("AIWorkflow", &place.ns), &labelled).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let left = place.tenant.items(&all("AIWorkflow", &place.ns)).await.unwrap();
    assert_eq!(left.len(), 1, "good alone is there: {left:?}");
    place.others_are_served_on("after").await;
}

#[tokio::test]
async fn what_is_unusual_stands_as_it_was_written() {
    let place = Place::new("unusual", json!({"network": {"cidrs": ["0.0.0.0/0", "::/0"]}})).await;
    let ports = json!([{"port": 443}]);
    let rules: Vec<_> = (0..64)
        .map(|index| {
            let range = format!("203.0.113.{index}/32");
            let data = json!({"system": "系".repeat(128), "purpose": "🦀".repeat(256), "classification": "Restricted"});
            json!({"name": format!("{index}-").repeat(15), "to": {"cidrs": [range, "198.51.100.0/24"]}, "ports": ports, "data": data})
        })
        .collect();
    let spec = json!({
        "owner": {"team": "ü".repeat(63), "contact": "团队 <team@example.com> \"\\\n\u{202e}"},
        "launchers": [{"user": "łea.müller@example.com"}, {"group": "команда"}],
        "network": {"egress": rules},
    });
    let longest = "n".repeat(40);
    let made = place.declare(&longest, &spec).await.ok();
    place.says(&longest, ["Ready", "True", "Fenced"], &[]).await;
    assert_eq!(made["spec"]["owner"], spec["owner"]);
    let policy = one("NetworkPolicy", &place.ns, &owned_name(&place.ns, &longest, "allow"));
    let policy = place.tenant.read(&policy).await.unwrap();
    assert_eq!(
        policy["spec"]["egress"].as_array().map(Vec::len),
        Some(65),
        "each rule, and DNS"
    );

    // Both halves of everything: what hands out credentials, and the cluster's own, is in neither.
    place
        .declare("halves", &to(json!({"cidrs": ["0.0.0.0/1", "128.0.0.0/1"]})))
        .await
        .ok();
    place.says("halves", ["Ready", "True", "Fenced"], &[]).await;
    let policy = one("NetworkPolicy", &place.ns, &owned_name(&place.ns, "halves", "allow"));
    let policy = place.tenant.read(&policy).await.unwrap();
    let blocks = policy["spec"]["egress"][1]["to"].as_array().unwrap();
    let except = |index: usize| blocks[index]["ipBlock"]["except"].to_string();
    assert!(
        except(0).contains("10.244.0.0/16") && except(0).contains("100.100.100.200/32"),
        "{policy}"
    );
    assert!(
        except(1).contains("169.254.169.254/32") && except(1).contains("168.63.129.16/32"),
        "{policy}"
    );

    // More than one policy can hold is said where it is written, and opens nothing.
    let except: Vec<_> = (0..64).map(|index| format!("10.{index}.0.0/24")).collect();
    let too_much: Vec<_> = (0..64)
        .map(|index| json!({"name": format!("rule-{index}"), "to": {"cidrs": vec!["10.0.0.0/9"; 64], "except": except}, "ports": ports}))
        .collect();
    let answer = place
        .declare("too-much", &json!({"network": {"egress": too_much}}))
        .await;
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("more ranges than one NetworkPolicy holds")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    place
        .says(
            "too-much",
            ["Accepted", "False", "OutsideClass"],
            &["spec.network", "name fewer ranges"],
        )
        .await;
    place.others_are_served_on("after").await;
}

#[tokio::test]
async fn what_is_outside_the_class_is_a_warning_and_a_condition() {
    let place = Place::new("outside", json!({})).await;
    let answer = place
        .declare("halves", &to(json!({"cidrs": ["0.0.0.0/1", "128.0.0.0/1"]})))
        .await;
    for range in ["0.0.0.0/1", "128.0.0.0/1"] {
        assert!(
            answer.warnings.iter().any(|warning| warning.contains(range)),
            "{:?}",
            answer.warnings
        );
    }
    answer.ok();
    let parts = [
        "cidrs[0] = \"0.0.0.0/1\"",
        "cidrs[1] = \"128.0.0.0/1\"",
        "ask the platform team",
        &place.class,
    ];
    place
        .says("halves", ["Accepted", "False", "OutsideClass"], &parts)
        .await;
    place.says("halves", ["Ready", "False", "OutsideClass"], &parts).await;

    // As much as can be wrong: a message that a person can read to its end, and a status that can be written.
    let rules: Vec<_> = (0..64)
        .map(|index| json!({"name": format!("rule-{index}"), "to": {"cidrs": ["2001:db8:1111:2222:3333:4444:5555:6666/128"]}, "ports": [{"port": 1}]}))
        .collect();
    let answer = place
        .declare("much", &json!({"network": {"egress": rules, "ingress": []}}))
        .await;
    let warned: usize = answer.warnings.iter().map(String::len).sum();
    assert!((1..=8192).contains(&warned), "{warned} bytes of warnings");
    answer.ok();
    let message = place
        .says(
            "much",
            ["Accepted", "False", "OutsideClass"],
            &["spec.network.egress[0]", " more"],
        )
        .await;
    assert!(
        message.chars().count() <= 8193,
        "{} characters",
        message.chars().count()
    );
    place.others_are_served_on("after").await;
}
