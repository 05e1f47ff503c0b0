//! Domains by resolved addresses: the operator as the chart makes it, and two replicas of a DNS that answer as they please. Nothing is connected
//! to: which addresses a policy opens is the question. On a control plane of its own, because its operator asks these two.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use domain::base::iana::Rcode;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{ControlPlane, Options, Ringfence, eventually};

use crate::actors::{Actor, BINARY, CLASSES, in_force, master, namespace};
use crate::dns::{Dns, Script};
use crate::objects::{all, condition, one, workflow};
use crate::world::{SOON, run_for};

const TRIAGE: &str = "triage";
/// What can wait is written twice a minute.
const LATER: Duration = Duration::from_secs(90);
const GUARD: &str = "ringfence-owned-objects";

struct Scene {
    plane: ControlPlane,
    dns: [Dns; 2],
    admin: Actor,
    class: &'static str,
    ns: String,
}

impl Scene {
    async fn new() -> (Self, Ringfence) {
        let dns = [
            Dns::start(Ipv4Addr::LOCALHOST).await,
            Dns::start(Ipv4Addr::LOCALHOST).await,
        ];
        let plane = ControlPlane::start(Options::default()).expect("a control plane");
        let ringfence = plane.start_ringfence_with(BINARY, &Value::Null, &flags(&dns)).await;
        let ringfence = ringfence.expect("ringfence");
        let admin = Actor::new(plane.admin().await);
        in_force(&admin).await;
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "resolved"},
            "spec": {
                "images": {"allowed": ["**"]}, "network": {"domains": ["*"]}, "egress": {"backend": "ResolvedAddresses"},
                "cluster": {"clusterCIDRs": ["10.0.0.0/8", "25.0.0.0/8"]},
            },
        });
        admin.post(CLASSES, &class).await.ok();
        let ns = namespace(&admin, "resolved", &json!({"ringfence.dev/enforce": "resolved"})).await;
        let scene = Self {
            plane,
            dns,
            admin,
            class: "resolved",
            ns,
        };
        (scene, ringfence)
    }

    /// Both replicas answer so.
    fn script(&self, name: &str, script: &Script) {
        for dns in &self.dns {
            dns.script(name, script.clone());
        }
    }

    /// Both replicas change their minds.
    fn change(&self, name: &str, change: impl Fn(&mut Script)) {
        for dns in &self.dns {
            dns.change(name, &change);
        }
    }

    async fn declare(&self, rules: &[Value]) {
        let object = workflow(TRIAGE, &json!({"network": {"egress": rules}}));
        self.admin.post(&all("AIWorkflow", &self.ns), &object).await.ok();
    }

    async fn redeclare(&self, rules: &[Value]) {
        let spec = json!({"spec": {"network": {"egress": rules}}});
        self.admin.patch(&self.workflow(), &spec).await.ok();
    }

    fn workflow(&self) -> String {
        one("AIWorkflow", &self.ns, TRIAGE)
    }

    fn part(&self, kind: &str) -> String {
        one(kind, &self.ns, &owned_name(&self.ns, TRIAGE, "domains"))
    }

    async fn says(&self, type_: &str, status: &str, reason: &str) -> Value {
        let (path, type_, status, reason) = (self.workflow(), type_.to_owned(), status.to_owned(), reason.to_owned());
        eventually(SOON, || async {
            let found = self.admin.read(&path).await?;
            let said = condition(&found, &type_);
            ensure!(said["status"] == *status && said["reason"] == *reason, "{said}");
            Ok(found)
        })
        .await
    }

    /// Waits until the policy opens these addresses at this port, and no others.
    async fn opens(&self, port: u16, addresses: &[&str]) -> Value {
        let expected: BTreeSet<String> = addresses.iter().map(|address| format!("{address} {port}")).collect();
        eventually(SOON, || async {
            let policy = self.admin.read(&self.part("NetworkPolicy")).await?;
            let opened = opened(&policy);
            ensure!(opened == expected, "{opened:?} and not {expected:?}");
            Ok(policy)
        })
        .await
    }

    /// The entry of a name, as soon as it is so.
    async fn remembers(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(LATER, || async {
            let object = self.admin.read(&self.part("ResolvedNames")).await?;
            let names = object["status"]["names"].as_array().into_iter().flatten();
            let found = names.into_iter().find(|entry| entry["name"] == name);
            let found = found.filter(|entry| is_so(entry));
            found
                .cloned()
                .ok_or_else(|| anyhow::anyhow!("{name}: {}", object["status"]))
        })
        .await
    }

    /// Waits until each replica was asked for a name so many times more.
    async fn asked_again(&self, name: &str, times: usize) {
        let before = self.dns.each_ref().map(|dns| dns.asked(name));
        eventually(LATER, || async {
            let now = self.dns.each_ref().map(|dns| dns.asked(name));
            let is_enough = before.iter().zip(now).all(|(before, now)| now >= before + times);
            ensure!(is_enough, "{before:?} {now:?}");
            Ok(())
        })
        .await;
    }
}

fn flags(dns: &[Dns; 2]) -> Vec<String> {
    let servers = dns.iter().map(|dns| format!("--nameserver={}", dns.address));
    servers.chain(["--scan-period=0".to_owned()]).collect()
}

fn rule(name: &str, domains: &[&str], port: u16) -> Value {
    json!({"name": name, "to": {"domains": domains}, "ports": [{"port": port}]})
}

/// Each address with each port.
fn opened(policy: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rule in policy["spec"]["egress"].as_array().into_iter().flatten() {
        let to = rule["to"]
            .as_array()
            .filter(|to| !to.is_empty())
            .expect("a rule has peers");
        for (peer, port) in to
            .iter()
            .flat_map(|peer| rule["ports"].as_array().unwrap().iter().map(move |port| (peer, port)))
        {
            assert_eq!(port["protocol"], "TCP");
            found.insert(format!(
                "{} {}",
                peer["ipBlock"]["cidr"].as_str().unwrap(),
                port["port"]
            ));
        }
    }
    found
}

#[test]
fn declared_names_are_opened_by_what_every_replica_answers_and_forgotten_by_no_failure() {
    run_for(Duration::from_secs(300), async {
        let (scene, ringfence) = Scene::new().await;
        let [one_replica, other] = &scene.dns;
        // Another subset at each question, and others of the other replica. TTL 0.
        one_replica.script(
            "turns.example.com",
            Script::in_turn(&[&["1.1.1.1", "2606:2800::1"], &["1.1.1.2"]]),
        );
        other.script("turns.example.com", Script::of(&["1.1.1.9"]));
        let mut chain = Script::of(&["1.1.2.1"]);
        chain.aliases = vec!["b.cdn.example".to_owned(), "c.cdn.example".to_owned()];
        scene.script("chain.example.com", &chain);
        // One replica is broken, and of the other one a datagram holds too little.
        let mut broken = Script::of(&["6.6.6.6"]);
        broken.code = Rcode::SERVFAIL;
        one_replica.script("cut.example.com", broken.clone());
        let mut cut = Script::of(&["1.1.3.1", "1.1.3.2"]);
        cut.is_cut = true;
        other.script("cut.example.com", cut);
        // Whoever holds it would have pods talk to the cluster, to this machine and to what hands out credentials.
        let inside = [
            "10.96.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "25.1.1.1",
            "192.168.1.1",
            "fd00:ec2::254",
            "::1",
            "::ffff:10.0.0.1",
        ];
        scene.script(
            "poisoned.example.com",
            &Script::of(&[&inside[..], &["1.1.4.1"]].concat()),
        );
        scene.script("inside.example.com", &Script::of(&inside));
        scene.script("broken.example.com", &broken);
        let names = ["turns", "chain", "cut", "poisoned", "inside", "broken", "missing"]
            .map(|name| format!("{name}.example.com"));
        let names = names.each_ref().map(String::as_str);
        scene.declare(&[rule("all", &names, 443)]).await;

        let outside = [
            "1.1.1.1/32",
            "1.1.1.2/32",
            "1.1.1.9/32",
            "2606:2800::1/128",
            "1.1.2.1/32",
            "1.1.3.1/32",
            "1.1.3.2/32",
            "1.1.4.1/32",
        ];
        let policy = scene.opens(443, &outside).await;
        assert_eq!(policy["spec"]["policyTypes"], json!(["Egress"]));
        assert_eq!(
            policy["spec"]["podSelector"],
            json!({"matchLabels": {"ringfence.dev/workflow": TRIAGE}})
        );
        assert!(other.streams() > 0);
        scene.says("Ready", "True", "Fenced").await;
        let before = scene.says("DnsExfiltration", "True", "Possible").await;
        assert!(
            condition(&before, "Programmed")["message"]
                .to_string()
                .contains("best effort")
        );
        assert_eq!(before["status"]["egress"], json!({"backend": "ResolvedAddresses"}));
        for (name, ipv4, refused) in [
            ("inside", "Resolved", 9),
            ("broken", "Failed", 0),
            ("missing", "NoName", 0),
        ] {
            let entry = scene.remembers(&format!("{name}.example.com"), |_| true).await;
            assert_eq!(
                (&entry["ipv4"], entry["refused"].as_i64().unwrap_or_default()),
                (&json!(ipv4), refused),
                "{entry}"
            );
            assert_eq!(entry["addresses"], Value::Null);
        }
        let object = scene.admin.read(&scene.part("ResolvedNames")).await.unwrap();
        assert_eq!(condition(&object, "Resolved")["reason"], "NotResolved");

        // A new address is opened at once; of a name that leads inside from now on, what it was stays and nothing is added. The AIWorkflow does
        // not change by any of it.
        scene.script("chain.example.com", &Script::of(&["1.1.2.2"]));
        scene.script("poisoned.example.com", &Script::of(&inside));
        let mut wider: Vec<&str> = outside.to_vec();
        wider.push("1.1.2.2/32");
        scene.opens(443, &wider).await;
        scene.asked_again("poisoned.example.com", 2).await;
        assert_eq!(opened(&scene.opens(443, &wider).await).len(), wider.len());
        let after = scene.admin.read(&scene.workflow()).await.unwrap();
        assert_eq!(
            after["metadata"]["resourceVersion"],
            before["metadata"]["resourceVersion"]
        );

        // Nobody answers, or only that there is no such name: late is not now. A new leader asks a DNS that is away, and all the same knows what to
        // open where the declaration changes.
        scene.change("turns.example.com", |script| script.is_silent = true);
        scene.change("chain.example.com", |script| script.code = Rcode::NXDOMAIN);
        scene.change("cut.example.com", |script| script.code = Rcode::SERVFAIL);
        scene
            .remembers("turns.example.com", |entry| entry["ipv4"] == "Failed")
            .await;
        scene
            .remembers("chain.example.com", |entry| entry["ipv4"] == "NoName")
            .await;
        let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
        drop(ringfence);
        let next = scene
            .plane
            .spawn_ringfence_with(BINARY, port, metrics_port, &flags(&scene.dns))
            .await;
        let _next = next.expect("another ringfence");
        scene.asked_again("cut.example.com", 1).await;
        scene.redeclare(&[rule("all", &names, 8443)]).await;
        scene.opens(8443, &wider).await;

        // A name that is declared no more is closed, whatever is remembered of it; and the last one takes both objects along.
        scene
            .redeclare(&[rule("all", &["chain.example.com", "missing.example.com"], 443)])
            .await;
        scene.opens(443, &["1.1.2.1/32", "1.1.2.2/32"]).await;
        scene.redeclare(&[]).await;
        for kind in ["NetworkPolicy", "ResolvedNames"] {
            scene.admin.gone(&scene.part(kind)).await;
        }
    });
}

#[test]
fn what_addresses_cannot_say_is_told_and_the_memory_is_nobody_elses_to_write() {
    run_for(Duration::from_secs(300), async {
        let (scene, _ringfence) = Scene::new().await;
        scene.script("a.example.com", &Script::of(&["1.1.1.1"]));
        let many: Vec<String> = (0..500)
            .map(|number| format!("1.2.{}.{}", number >> 8, number & 255))
            .collect();
        let mut cut = Script::of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        cut.is_cut = true;
        scene.script("many.example.com", &cut);

        // Nothing is opened for a wildcard, nor for what stands in one rule with it.
        scene
            .declare(&[
                rule("a", &["a.example.com"], 443),
                rule("blob", &["*.blob.example.com", "b.example.com"], 443),
            ])
            .await;
        scene.opens(443, &["1.1.1.1/32"]).await;
        let said = scene.says("Programmed", "False", "WildcardDomains").await;
        let message = condition(&said, "Programmed")["message"].to_string();
        assert!(message.contains("rule blob") && message.contains("Proxy"), "{message}");
        scene.says("DnsExfiltration", "True", "Possible").await;

        // Five hundred addresses: a hundred are opened, and the proxy is advised.
        scene.redeclare(&[rule("many", &["many.example.com"], 443)]).await;
        let said = scene.says("Programmed", "False", "TooManyAddresses").await;
        let message = condition(&said, "Programmed")["message"].to_string();
        assert!(
            message.contains("many.example.com") && message.contains("Proxy"),
            "{message}"
        );
        let first: Vec<String> = many.iter().take(100).map(|address| format!("{address}/32")).collect();
        scene
            .opens(443, &first.iter().map(String::as_str).collect::<Vec<_>>())
            .await;

        // Whom RBAC lets do anything writes neither the memory nor what is resolved, nor makes or takes away such an object.
        scene.redeclare(&[rule("a", &["a.example.com"], 443)]).await;
        scene.opens(443, &["1.1.1.1/32"]).await;
        let mallory = master(&scene.plane, "mallory", &[]).await;
        let names = scene.part("ResolvedNames");
        let poison = json!({"status": {"names": [{
            "name": "a.example.com", "ipv4": "Resolved", "ipv6": "NoAddress",
            "addresses": [{"address": "6.6.6.6", "ttlSeconds": 0, "lastSeen": "2026-11-27T20:00:00Z"}],
        }]}});
        let rules =
            json!({"spec": {"rules": [{"name": "a", "domains": ["evil.example.com"], "ports": [{"port": 443}]}]}});
        mallory.patch(&names, &rules).await.refused_by_guard(GUARD);
        mallory.delete(&names).await.refused_by_guard(GUARD);
        let edith = scene.person("edit").await;
        for answer in [
            edith.patch(&format!("{names}/status"), &poison).await,
            edith.patch(&names, &rules).await,
            edith.delete(&names).await,
        ] {
            assert_eq!(answer.code, 403, "{}", answer.body);
        }
        let holder = scene.holder().await;
        holder
            .patch(&format!("{names}/status"), &poison)
            .await
            .refused_by_guard("ringfence-status");
        let squatting = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "ResolvedNames",
            "metadata": {"name": owned_name(&scene.ns, "tomorrow", "domains")}, "spec": rules["spec"],
        });
        let unfenced = namespace(&scene.admin, "unfenced", &json!({})).await;
        for ns in [&scene.ns, &unfenced] {
            for attacker in [&mallory, &scene.admin] {
                let answer = attacker.post(&all("ResolvedNames", ns), &squatting).await;
                answer.refused_by_guard("ringfence-reserved-keys");
            }
        }
        assert_eq!(opened(&scene.opens(443, &["1.1.1.1/32"]).await).len(), 1);

        // The platform chooses another backend: what was made for this one goes.
        let egress = json!({"spec": {"egress": {"backend": "Proxy"}}});
        scene
            .admin
            .patch(&format!("{CLASSES}/{}", scene.class), &egress)
            .await
            .ok();
        for kind in ["NetworkPolicy", "ResolvedNames"] {
            scene.admin.gone(&scene.part(kind)).await;
        }
        scene.says("Programmed", "False", "NoEgressProxy").await;
    });
}

impl Scene {
    /// Somebody with the built-in role, and nothing else.
    async fn person(&self, role: &str) -> Actor {
        self.bound("edith", role).await
    }

    /// Somebody with every right on the kind, and nothing else.
    async fn holder(&self) -> Actor {
        let role = json!({
            "metadata": {"name": "resolved-names"},
            "rules": [{"apiGroups": ["ringfence.dev"], "resources": ["resolvednames", "resolvednames/status"], "verbs": ["*"]}],
        });
        let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
        self.admin.post(roles, &role).await.ok();
        self.bound("holly", "resolved-names").await
    }

    async fn bound(&self, name: &str, role: &str) -> Actor {
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": name}],
        });
        self.admin.post(&all("RoleBinding", &self.ns), &binding).await.ok();
        let actor = Actor::new(self.plane.client(&support::Identity::user(name, &[])).await);
        let path = all("ResolvedNames", &self.ns);
        eventually(SOON, || async { actor.read(&path).await }).await;
        actor
    }
}
