//! Who holds what no admission controller sees: what `ringfence check access` lists is what the API server's own authorizer allows,
//! no more and no less; and the class says it. On a control plane of its own, because what is bound in a cluster is everybody's.

use std::collections::BTreeSet;

use anyhow::ensure;
use futures::StreamExt as _;
use ringfence::access::{CAPABILITIES, Reach};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Output, eventually};

use crate::world::{Actor, BINARY, CLASSES, SOON, TENANT, all, condition, in_force, namespace, workflow};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const OWN_ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
const RELEASE: &str = "ringfence-system";
const LAUNCHERS: &str = "airflow";
/// Reviews that are asked for at the same time.
const ASKED: usize = 16;
/// A name that no rule of this test is narrowed to.
const ANOTHER: &str = "another";

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    /// Enforced.
    ns: String,
    /// Without a mode.
    open: String,
}

#[tokio::test]
async fn who_steps_over_the_fence_is_told_as_the_authorizer_decides_it() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let often = ["--scan-period=1s".to_owned()];
    let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &often).await;
    let _ringfence = ringfence.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let ns = namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let open = namespace(&admin, "open", &json!({})).await;
    let scene = Scene {
        cluster,
        admin,
        ns,
        open,
    };
    scene.launched_from_elsewhere().await;
    scene.tenants_are_tenants_at_first().await;
    scene.people_come().await;
    scene.what_is_listed_is_what_the_authorizer_allows().await;
    scene.people_read_whom_to_bind_otherwise().await;
    scene.the_class_says_who_holds_more_and_writes_it_once().await;
    scene.what_may_not_be_read_is_not_called_bounded().await;
    scene.who_is_trusted_or_gone_is_told_no_more().await;
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "name": name})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

impl Scene {
    async fn launched_from_elsewhere(&self) {
        self.admin
            .post("/api/v1/namespaces", &json!({"metadata": {"name": LAUNCHERS}}))
            .await
            .ok();
        let scheduler = json!({"metadata": {"name": "scheduler"}});
        self.admin
            .post(&all("ServiceAccount", LAUNCHERS), &scheduler)
            .await
            .ok();
        let launchers = json!({"launchers": [{"serviceAccount": {"namespace": LAUNCHERS, "name": "scheduler"}}]});
        self.admin
            .post(&all("AIWorkflow", &self.ns), &workflow("triage", &launchers))
            .await
            .ok();
    }

    async fn tenants_are_tenants_at_first(&self) {
        self.bind(Some(&self.ns), &format!("ClusterRole {TENANT}"), user("tia"))
            .await;
        let said = self.says(&Identity::Admin, &[]).await;
        assert_eq!(said.code, Some(0), "{said}");
        assert!(
            said.stdout.contains("Kubernetes itself:") && said.stdout.contains("group system:masters"),
            "{said}"
        );
        assert!(
            said.stdout
                .contains("Ringfence itself:\n  service account ringfence-system/ringfence"),
            "{said}"
        );
        // The first scan may have been before the namespace had a mode.
        self.class_tells("True", "TenantsBounded", "beyond ringfence-tenant")
            .await;
    }

    async fn people_come(&self) {
        let ns = Some(self.ns.as_str());
        for (name, rules) in [
            ("impersonator", rule("", &["serviceaccounts"], &["impersonate"])),
            (
                "constrained",
                rule(
                    "authentication.k8s.io",
                    &["serviceaccounts"],
                    &["impersonate:serviceaccount"],
                ),
            ),
            ("secrets-reader", rule("", &["secrets"], &["get", "list"])),
            ("people", rule("", &["users", "groups"], &["impersonate"])),
            (
                "extras",
                rule(
                    "authentication.k8s.io",
                    &["userextras/scopes", "uids"],
                    &["impersonate"],
                ),
            ),
            ("kubelets", rule("*", &["*/proxy", "nodes/metrics"], &["get"])),
            ("registrar", rule("admissionregistration.k8s.io", &["*"], &["update"])),
            ("signer", rule("certificates.k8s.io", &["signers"], &["*"])),
            (
                "definer",
                rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["patch"]),
            ),
            (
                "granter",
                rule("rbac.authorization.k8s.io", &["roles", "clusterroles"], &["bind"]),
            ),
            ("classes", rule("ringfence.dev", &["*"], &["create", "get"])),
        ] {
            let role = json!({"metadata": {"name": name}, "rules": rules});
            self.admin.post(&format!("{RBAC}/clusterroles"), &role).await.ok();
        }
        let mut by_name = rule("", &["secrets", "serviceaccounts/token", "serviceaccounts"], &["*"]);
        by_name[0]["resourceNames"] = json!(["openai", "triage"]);
        let role = json!({"metadata": {"name": "by-name"}, "rules": by_name});
        self.admin.post(&all("Role", &self.ns), &role).await.ok();
        for (place, role, subject) in [
            (ns, "ClusterRole edit", user("ed")),
            (ns, "ClusterRole admin", user("ada")),
            (ns, "ClusterRole view", user("vic")),
            (ns, "ClusterRole impersonator", group("devs")),
            (ns, "ClusterRole constrained", user("cid")),
            (ns, "Role by-name", user("rob")),
            (ns, "ClusterRole granter", user("gus")),
            // What is bound in a namespace gives nothing in the cluster.
            (ns, "ClusterRole people", user("pat")),
            (Some(self.open.as_str()), "ClusterRole edit", user("out")),
            (Some(LAUNCHERS), "ClusterRole edit", user("lex")),
            (Some(RELEASE), "ClusterRole edit", user("rel")),
            (None, "ClusterRole secrets-reader", account("monitoring", "operator")),
            (None, "ClusterRole people", user("pia")),
            (None, "ClusterRole extras", user("xia")),
            (None, "ClusterRole kubelets", user("kit")),
            (None, "ClusterRole registrar", user("reg")),
            (None, "ClusterRole signer", user("sig")),
            (None, "ClusterRole definer", user("def")),
            (None, "ClusterRole classes", user("cla")),
            (None, "ClusterRole granter", user("gia")),
            (None, "ClusterRole cluster-admin", group("admins")),
            (None, "ClusterRole ringfence-approver", user("ava")),
        ] {
            self.bind(place, role, subject).await;
        }
        // The authorizer learns of each by a watch, one after the other.
        eventually(SOON, || async {
            let attributes = json!({"verb": "approve", "group": "ringfence.dev", "resource": "aiworkflowclasses"});
            ensure!(self.allows(&user("ava"), &attributes).await, "not yet");
            Ok(())
        })
        .await;
    }

    /// In both directions: whoever is listed is allowed, and whoever is not is not.
    async fn what_is_listed_is_what_the_authorizer_allows(&self) {
        let report = self.json().await;
        assert_eq!(report["summary"]["complete"], true, "{}", report["summary"]);
        let held = report["holders"].as_array().unwrap();
        let listed: Vec<_> = held
            .iter()
            .flat_map(|held| {
                let rights = held["rights"].as_array().unwrap();
                rights.iter().map(move |right| {
                    let names = right["resourceNames"].as_array();
                    let name = names.and_then(|names| names.first()).and_then(Value::as_str);
                    let place = held["namespace"].as_str().unwrap_or(match reach(&held["capability"]) {
                        Reach::Cluster | Reach::Above => "",
                        _ => self.ns.as_str(),
                    });
                    (held["subject"].clone(), attributes(right, place, name))
                })
            })
            .collect();
        assert!(listed.len() > 500, "{}", listed.len());
        let refused = self.refused(&listed).await;
        assert_eq!(refused, Vec::<String>::new(), "listed, and not allowed");

        let subjects: BTreeSet<String> = held.iter().map(|held| held["subject"].to_string()).collect();
        let subjects = subjects
            .into_iter()
            .map(|text| serde_json::from_str::<Value>(&text).unwrap());
        let strangers = ["vic", "tia", "pat", "out", "nobody"].map(user);
        let mut unlisted = Vec::new();
        for subject in subjects.chain(strangers).chain([account(LAUNCHERS, "scheduler")]) {
            for capability in &CAPABILITIES {
                let place = match capability.reach {
                    Reach::Fenced => self.ns.as_str(),
                    Reach::Launchers => LAUNCHERS,
                    Reach::Platform => RELEASE,
                    Reach::Cluster | Reach::Above => "",
                };
                let own: Vec<_> = held
                    .iter()
                    .filter(|held| held["subject"] == subject && held["capability"] == capability.name)
                    .filter(|held| held["namespace"].is_null() || held["namespace"] == place)
                    .flat_map(|held| held["rights"].as_array().unwrap())
                    .collect();
                for right in capability.rights {
                    for resource in right.resources {
                        for verb in right.verbs {
                            let asked = json!({"verb": verb, "apiGroup": right.group, "resource": resource});
                            let keys = ["verb", "apiGroup", "resource"];
                            let is_listed = |own: &&Value| keys.iter().all(|key| own[key] == asked[key]);
                            // One that is narrowed by name is not allowed for another name.
                            let is_whole = |own: &&Value| is_listed(own) && own["resourceNames"].is_null();
                            let name = match right.names.first() {
                                Some(_) if own.iter().any(is_listed) => continue,
                                Some(name) => name,
                                None if own.iter().any(is_whole) => continue,
                                None => ANOTHER,
                            };
                            unlisted.push((subject.clone(), attributes(&asked, place, Some(name))));
                        }
                    }
                }
            }
        }
        assert!(unlisted.len() > 1000, "{}", unlisted.len());
        let refused = self.refused(&unlisted).await.len();
        if refused != unlisted.len() {
            for (subject, attributes) in &unlisted {
                assert!(
                    !self.allows(subject, attributes).await,
                    "allowed, and not listed: {subject} {attributes}"
                );
            }
        }

        // Each of them by name, so that no list is right because it is empty.
        let beyond = |capability: &str| {
            let of_it = held
                .iter()
                .filter(|held| held["standing"] == "beyond" && held["capability"] == capability);
            let names = of_it.map(|held| held["subject"]["name"].as_str().unwrap().to_owned());
            names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        };
        for (capability, names) in [
            ("impersonate-accounts", "ada cid devs ed rob"),
            ("read-secrets", "ada ed operator rob"),
            ("request-tokens", "ada ed rob"),
            ("grant-rights", "gia gus"),
            ("be-the-launcher", "gia lex"),
            ("be-the-platform", "gia operator rel"),
            ("impersonate-people", "pia xia"),
            ("reach-kubelets", "kit"),
            ("write-admission", "reg"),
            ("write-definitions", "def"),
            ("grant-cluster-rights", "gia"),
            ("certify-names", "sig"),
            ("write-cluster-settings", "cla"),
            ("approve", ""),
            ("trust", ""),
        ] {
            assert_eq!(beyond(capability), names, "{capability}");
        }
        let expected = |name: &str| {
            held.iter()
                .filter(|held| held["subject"]["name"] == name)
                .all(|held| held["standing"] == "expected")
        };
        assert!(expected("admins") && expected("ava"));
    }

    async fn people_read_whom_to_bind_otherwise(&self) {
        let said = self.says(&Identity::Admin, &[]).await;
        assert_eq!(said.code, Some(1), "{said}");
        for words in [
            "Impersonate service accounts: ",
            &format!("in namespace {}", self.ns),
            &format!("user ed     RoleBinding {}/ed to ClusterRole edit", self.ns),
            "Fix: bind ringfence-tenant instead of edit or admin",
            "impersonate serviceaccounts (named openai, triage)",
            "service account monitoring/operator",
            "in every fenced namespace",
            "group admins: ",
        ] {
            assert!(said.stdout.contains(words), "{words}: {said}");
        }
        assert!(!said.stdout.contains('\u{1b}'), "no colour in a pipe");
        let said = self.says(&Identity::user("tia", &[]), &["-o", "json"]).await;
        assert_eq!(said.code, Some(2), "{said}");
        assert!(
            said.stderr.contains("forbidden") && said.stderr.contains("this takes list on namespaces"),
            "{said}"
        );
        let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(report["summary"]["complete"], false);
    }

    async fn the_class_says_who_holds_more_and_writes_it_once(&self) {
        // Bound last of those that are told of.
        let message = self.class_tells("False", "TenantsHoldMore", "user xia").await;
        for words in [
            &format!("user ed (RoleBinding {}/ed)", self.ns),
            "group devs",
            "service account monitoring/operator (ClusterRoleBinding operator",
            "user pia",
            "Run ringfence check access",
        ] {
            assert!(message.contains(words), "{words}: {message}");
        }
        for words in [
            "user gus",
            "user lex",
            "user kit",
            "admins",
            "ava",
            "user out",
            "system:masters",
        ] {
            assert!(!message.contains(words), "{words}: {message}");
        }
        let described = self
            .cluster
            .kubectl(&["describe", "aiwc", "default"])
            .await
            .expect("kubectl");
        assert!(
            described.stdout.contains("TenantsBounded") && described.stdout.contains("TenantsHoldMore"),
            "{described}"
        );
        let version = async || {
            let class = self.admin.get(&format!("{CLASSES}/default")).await.ok();
            class["metadata"]["resourceVersion"].clone()
        };
        let before = version().await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        assert_eq!(version().await, before, "each scan writes");
    }

    /// Without the right to read what roles hold, nobody would be found: that is no proof of anything.
    async fn what_may_not_be_read_is_not_called_bounded(&self) {
        for name in ["ed", "ada", "devs", "cid", "rob"] {
            self.unbind(Some(&self.ns), name).await;
        }
        self.unbind(None, "pia").await;
        self.unbind(None, "operator").await;
        self.class_says("False", "TenantsHoldMore").await;
        self.unbind(None, "xia").await;
        self.class_says("True", "TenantsBounded").await;
        let role = self.admin.get(OWN_ROLE).await.ok();
        let mut without = role["rules"].clone();
        for rule in without.as_array_mut().unwrap() {
            let resources = rule["resources"].as_array_mut().unwrap();
            resources.retain(|resource| resource != "clusterroles");
        }
        self.admin.patch(OWN_ROLE, &json!({"rules": without})).await.ok();
        let message = self.class_says("Unknown", "ApiUnavailable").await;
        assert!(message.contains("the clusterroles of the cluster"), "{message}");
        self.admin.patch(OWN_ROLE, &json!({"rules": role["rules"]})).await.ok();
        self.class_says("True", "TenantsBounded").await;
    }

    async fn who_is_trusted_or_gone_is_told_no_more(&self) {
        self.bind(None, "ClusterRole secrets-reader", account("monitoring", "operator"))
            .await;
        self.class_says("False", "TenantsHoldMore").await;
        self.bind(None, "ClusterRole ringfence-trusted", account("monitoring", "operator"))
            .await;
        self.class_says("True", "TenantsBounded").await;
        let report = self.json().await;
        let held = report["holders"].as_array().unwrap();
        let standing: BTreeSet<_> = held
            .iter()
            .filter(|held| held["subject"]["name"] == "operator")
            .map(|held| held["standing"].as_str().unwrap())
            .collect();
        assert_eq!(standing, BTreeSet::from(["expected"]));
    }

    /// Binds a role, by a binding with the subject's name and the role's.
    async fn bind(&self, namespace: Option<&str>, role: &str, subject: Value) {
        let (kind, role) = role.split_once(' ').unwrap();
        let name = subject["name"].as_str().unwrap();
        let name = match role {
            "ringfence-trusted" => format!("{name}-trusted"),
            _ => name.to_owned(),
        };
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [subject],
        });
        self.admin.post(&bindings(namespace), &binding).await.ok();
    }

    async fn unbind(&self, namespace: Option<&str>, name: &str) {
        self.admin.delete(&format!("{}/{name}", bindings(namespace))).await.ok();
    }

    async fn says(&self, identity: &Identity, arguments: &[&str]) -> Output {
        let arguments = [&["check", "access"], arguments].concat();
        let said = self.cluster.ringfence_as(identity, BINARY, &arguments).await;
        said.expect("ringfence")
    }

    async fn json(&self) -> Value {
        let said = self.says(&Identity::Admin, &["-o", "json"]).await;
        serde_json::from_str(&said.stdout).expect("JSON")
    }

    /// Waits until the class says that of its tenants. Returns the message.
    async fn class_says(&self, status: &str, reason: &str) -> String {
        self.class_tells(status, reason, "").await
    }

    async fn class_tells(&self, status: &str, reason: &str, part: &str) -> String {
        eventually(SOON, || async {
            let class = self.admin.read(&format!("{CLASSES}/default")).await?;
            let found = condition(&class, "TenantsBounded");
            ensure!(
                found["status"] == status && found["reason"] == reason,
                "should be {status} {reason}: {found}"
            );
            let message = found["message"].as_str().unwrap_or_default().to_owned();
            ensure!(message.contains(part), "{part} is missing: {message}");
            Ok(message)
        })
        .await
    }

    /// Whether the API server's authorizer allows it.
    async fn allows(&self, subject: &Value, attributes: &Value) -> bool {
        let name = subject["name"].as_str().unwrap();
        let (user, groups) = match subject["kind"].as_str().unwrap() {
            "User" => (name.to_owned(), vec!["system:authenticated".to_owned()]),
            "Group" => (
                "a-member".to_owned(),
                vec![name.to_owned(), "system:authenticated".to_owned()],
            ),
            _ => {
                let namespace = subject["namespace"].as_str().unwrap();
                let groups = ["system:authenticated", "system:serviceaccounts"].map(str::to_owned);
                let own = format!("system:serviceaccounts:{namespace}");
                let groups = groups.into_iter().chain([own]).collect();
                (format!("system:serviceaccount:{namespace}:{name}"), groups)
            }
        };
        let review = json!({"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}});
        let answer = self.admin.post(REVIEWS, &review).await.ok();
        answer["status"]["allowed"] == true
    }

    async fn refused(&self, asked: &[(Value, Value)]) -> Vec<String> {
        let answers = futures::stream::iter(asked).map(|(subject, attributes)| async move {
            let allowed = self.allows(subject, attributes).await;
            (!allowed).then(|| format!("{subject} {attributes}"))
        });
        let answers: Vec<_> = answers.buffered(ASKED).collect().await;
        answers.into_iter().flatten().collect()
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!([{"apiGroups": [group], "resources": resources, "verbs": verbs}])
}

fn bindings(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
        None => format!("{RBAC}/clusterrolebindings"),
    }
}

fn reach(capability: &Value) -> Reach {
    let of_it = CAPABILITIES.iter().find(|of| *capability == of.name);
    of_it.expect("a capability of the table").reach
}

/// A right as the API server is asked about it. What reaches any subresource is asked about one.
fn attributes(right: &Value, namespace: &str, name: Option<&str>) -> Value {
    let resource = right["resource"].as_str().unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let subresource = if subresource == "*" { "scopes" } else { subresource };
    json!({
        "verb": right["verb"], "group": right["apiGroup"], "resource": resource, "subresource": subresource,
        "namespace": namespace, "name": name.unwrap_or_default(),
    })
}
