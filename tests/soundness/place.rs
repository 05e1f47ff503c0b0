//! One place: an enforced namespace with its people, beside another one without a fence; and the state of it, for the checker.

use anyhow::{Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use support::RELEASE_NAMESPACE;
use support::network::{Pod, Scene, Simulator, ports};
use support::{Identity, eventually};
use tokio::sync::Mutex;

use crate::checker::Seen;
use crate::declarations::{class, declaration};
use crate::fit::list;
use crate::operations::{Parts, WORKFLOWS, Who};
use crate::past::{Declaration, Past, Second, Span, Write, Writer};
use crate::world::{Actor, CLASSES, NAMESPACES, SOON, TENANT, World, condition};

/// Kinds of a namespace that the checker sees: path of the group and plural.
const KINDS: [(&str, &str, &str); 15] = [
    ("AIWorkflow", "/apis/ringfence.dev/v1alpha1", "aiworkflows"),
    ("ConfigMap", "/api/v1", "configmaps"),
    ("CronJob", "/apis/batch/v1", "cronjobs"),
    ("Deployment", "/apis/apps/v1", "deployments"),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices"),
    ("Job", "/apis/batch/v1", "jobs"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
    ("Pod", "/api/v1", "pods"),
    ("ReplicaSet", "/apis/apps/v1", "replicasets"),
    ("Role", "/apis/rbac.authorization.k8s.io/v1", "roles"),
    ("RoleBinding", "/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ("Secret", "/api/v1", "secrets"),
    ("Service", "/api/v1", "services"),
    ("ServiceAccount", "/api/v1", "serviceaccounts"),
    ("StatefulSet", "/apis/apps/v1", "statefulsets"),
];
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/rolebindings";
/// Where ClusterRoleBindings are.
pub const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// Who writes namespaces, and approves nothing.
const HELPDESK: &str = "helpdesk";

/// Makes the role of those who write namespaces.
pub async fn helpdesk(admin: &Actor) {
    let rule = json!({
        "apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["get", "update", "patch"],
    });
    let role = json!({"metadata": {"name": HELPDESK}, "rules": [rule]});
    admin
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .ok();
}

/// A namespace, whoever has to do with it, and what was so when.
pub struct Place {
    pub world: World,
    pub ns: String,
    pub other: String,
    pub class: String,
    pub past: Past,
    /// What was done, and answered, for a person who wants to know how it came to this.
    pub trail: Vec<String>,
    /// The spec of the class, and the mode label, as the platform left them.
    pub left: (Value, String),
    people: Vec<(Who, Actor, Writer)>,
}

/// The present second.
pub fn second() -> Second {
    Timestamp::now().as_second()
}

/// Path of all objects of a kind in a namespace.
pub fn all(kind: &str, namespace: &str) -> String {
    let found = KINDS.iter().find(|(name, ..)| *name == kind);
    let (_, group, plural) = found.unwrap_or_else(|| panic!("{kind} is not in the table"));
    format!("{group}/namespaces/{namespace}/{plural}")
}

/// Path of one object.
pub fn one(kind: &str, namespace: &str, name: &str) -> String {
    format!("{}/{name}", all(kind, namespace))
}

impl Place {
    /// A place with one workflow that is ready. A brownfield's fence comes after the first acts.
    pub async fn new(world: &World, brownfield: bool) -> Self {
        let other = world.namespace("beside", &json!({})).await;
        let spec = class(&other, 0, true);
        let class = world.class(&spec).await;
        let stored = world.admin.get(&format!("{CLASSES}/{class}")).await.ok();
        let ns = world
            .namespace("sound", &json!({"pod-security.kubernetes.io/enforce": "baseline"}))
            .await;
        let launcher = json!({"metadata": {"name": "launcher"}});
        world.admin.post(&all("ServiceAccount", &other), &launcher).await.ok();
        for (name, keys) in [
            ("model", json!({"key": "x", "other": "x"})),
            ("payroll", json!({"key": "x"})),
        ] {
            let secret = json!({"metadata": {"name": name}, "stringData": keys});
            world.admin.post(&all("Secret", &ns), &secret).await.ok();
        }
        let account = json!({"kind": "ServiceAccount", "namespace": other, "name": "launcher"});
        world.bind(&ns, TENANT, &account).await;
        let mut place = Self {
            people: people(world, &ns, &other).await,
            world: world.clone(),
            left: (stored["spec"].clone(), String::new()),
            past: Past::default(),
            trail: Vec::new(),
            ns,
            other,
            class,
        };
        let of_class = place.left.0.clone();
        place.past.classes.push(Span {
            from: second(),
            until: None,
            is: of_class,
        });
        if !brownfield {
            place.begin().await;
        }
        place
    }

    /// The platform fences it, and its tenant declares the first workflow.
    pub async fn begin(&mut self) {
        self.fence(true).await;
        let first = Parts {
            launchers: 0,
            images: 0,
            rules: 0,
            secrets: 2,
            network: 1,
            account: 0,
        };
        let (spec, _) = declaration(first, "alpha", &self.other);
        let path = one("AIWorkflow", &self.ns, "alpha");
        let from = second();
        let (tess, _) = self.actor(Who::Tess);
        // Somebody may have declared it before the fence, with an account that it keeps.
        let is_there = self.world.admin.is_there(&path).await.unwrap_or(true);
        let account = one("ServiceAccount", &self.ns, "alpha");
        let has_account = self.world.admin.is_there(&account).await.unwrap_or(true);
        let made = if is_there {
            tess.patch(&path, &json!({"spec": spec})).await.ok()
        } else {
            let object = crate::objects::workflow("alpha", &spec);
            tess.post(&all("AIWorkflow", &self.ns), &object).await.ok()
        };
        self.declared("alpha", from, &made["spec"]);
        // Its peer is not there yet, so it is not ready: its account is what pods wait for.
        if !is_there && !has_account {
            self.account_comes("alpha").await;
        }
        self.settled("alpha").await;
    }

    /// Waits for the account of a workflow that was declared just now. What somebody bound to that name before the fence keeps the
    /// account from being made, and is named; once the platform has taken it away, the account must come.
    async fn account_comes(&mut self, name: &str) {
        let admin = self.world.admin.clone();
        let account = one("ServiceAccount", &self.ns, name);
        let bound = self.bound(name).await;
        if !bound.is_empty() {
            let path = one("AIWorkflow", &self.ns, name);
            eventually(SOON, || async {
                let said = condition(&admin.read(&path).await?, "Programmed").clone();
                let message = said["message"].as_str().unwrap_or_default();
                let is_named = bound.iter().any(|(shown, _)| message.contains(shown));
                ensure!(
                    said["status"] == "False" && said["reason"] == "Conflict" && is_named,
                    "{name} is bound by {bound:?}, and Programmed is {said}"
                );
                Ok(())
            })
            .await;
            let made = admin.is_there(&account).await.unwrap_or(true);
            assert!(!made, "{account} was made for {bound:?}");
            self.trail.push(format!("{} the platform deletes {bound:?}", second()));
            for (_, binding) in &bound {
                admin.delete(binding).await.ok();
            }
        }
        eventually(SOON, || async { admin.read(&account).await }).await;
    }

    /// Bindings of others that give an account rights by its own name: as the operator shows them, and their paths.
    async fn bound(&self, account: &str) -> Vec<(String, String)> {
        let user = format!("system:serviceaccount:{}:{account}", self.ns);
        let names = |subject: &Value| match subject["kind"].as_str() {
            Some("ServiceAccount") => subject["namespace"] == self.ns.as_str() && subject["name"] == account,
            Some("User") => subject["name"] == user.as_str(),
            _ => false,
        };
        let mut bound = Vec::new();
        for path in [BINDINGS, CLUSTER_BINDINGS] {
            for binding in self.world.admin.items(path).await.expect("bindings") {
                if !list(&binding["subjects"]).iter().any(names) {
                    continue;
                }
                let name = binding["metadata"]["name"].as_str().unwrap_or_default();
                bound.push(match binding["metadata"]["namespace"].as_str() {
                    Some(namespace) => (
                        format!("RoleBinding {namespace}/{name}"),
                        one("RoleBinding", namespace, name),
                    ),
                    None => (
                        format!("ClusterRoleBinding {name}"),
                        format!("{CLUSTER_BINDINGS}/{name}"),
                    ),
                });
            }
        }
        bound
    }

    /// The client of somebody, and who that is.
    pub fn actor(&self, who: Who) -> (Actor, Writer) {
        let found = self.people.iter().find(|(name, ..)| *name == who);
        let (_, actor, writer) = found.unwrap_or_else(|| panic!("{who:?} is nobody"));
        (actor.clone(), writer.clone())
    }

    /// Notes a declaration that was admitted.
    pub fn declared(&mut self, name: &str, from: Second, spec: &Value) {
        Past::end(&mut self.past.declarations, second(), |declaration| {
            declaration.name == name
        });
        let is = Declaration {
            name: name.to_owned(),
            spec: spec.clone(),
        };
        self.past.declarations.push(Span { from, until: None, is });
    }

    /// Notes a write that was admitted.
    pub fn wrote(&mut self, by: &Writer, kind: &str, object: &Value, launches: bool) {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        self.past.writes.push(Write {
            at: second(),
            by: by.clone(),
            kind: kind.to_owned(),
            uid: uid.to_owned(),
            launches,
        });
    }

    /// The platform sets or takes away the mode.
    pub async fn fence(&mut self, stands: bool) {
        let class = if stands {
            Value::from(self.class.as_str())
        } else {
            Value::Null
        };
        let change = json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
        let path = format!("{NAMESPACES}/{}", self.ns);
        let before = second();
        if !stands {
            Past::end(&mut self.past.fenced, before, |()| true);
        }
        self.world.admin.patch(&path, &change).await.ok();
        self.left.1 = if stands { self.class.clone() } else { String::new() };
        let is_fenced = self.past.fenced.last().is_some_and(|span| span.until.is_none());
        if stands && !is_fenced {
            // The label acts as soon as the API server's own watch has seen it; the default-deny shows that Ringfence has.
            let deny = one("NetworkPolicy", &self.ns, "ringfence");
            let admin = self.world.admin.clone();
            eventually(SOON, || async { admin.read(&deny).await }).await;
            self.past.fenced.push(Span {
                from: second(),
                until: None,
                is: (),
            });
        }
    }

    /// The platform changes its class.
    pub async fn rule(&mut self, images: usize, rules: bool) {
        let path = format!("{CLASSES}/{}", self.class);
        let mut object = self.world.admin.get(&path).await.ok();
        object["spec"] = class(&self.other, images, rules);
        let from = second();
        let made = self.world.admin.put(&path, &object).await.ok();
        // Each replica learns of it by its watch.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        Past::end(&mut self.past.classes, second(), |_| true);
        self.left.0 = made["spec"].clone();
        self.past.classes.push(Span {
            from,
            until: None,
            is: made["spec"].clone(),
        });
        for name in WORKFLOWS {
            self.settled(name).await;
        }
    }

    /// Waits, for a while, until the operator has spoken of this generation. Returns the workflow, where it is there.
    pub async fn settled(&self, name: &str) -> Option<Value> {
        let path = one("AIWorkflow", &self.ns, name);
        for _ in 0..100 {
            let answer = self.world.admin.get(&path).await;
            if answer.code != 200 {
                return None;
            }
            let workflow = answer.body;
            if workflow["status"]["observedGeneration"] == workflow["metadata"]["generation"] {
                return Some(workflow);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        None
    }

    /// Whether a workflow's fence stands whole, so that what fits may not be refused.
    pub async fn stands(&self, name: &str) -> bool {
        let Some(workflow) = self.settled(name).await else {
            return false;
        };
        let holds = |type_: &str| {
            let found = condition(&workflow, type_);
            found["status"] == "True" && found["observedGeneration"] == workflow["metadata"]["generation"]
        };
        let is_fenced = self
            .past
            .fenced
            .last()
            .is_some_and(|span| span.until.is_none() && span.from + 1 < second());
        is_fenced && holds("Accepted") && holds("Programmed")
    }

    /// The state of the namespace, but for what a scan says.
    pub async fn seen(&self, simulator: &Mutex<Simulator>) -> Result<Seen> {
        let admin = &self.world.admin;
        let mut objects = Vec::new();
        for (kind, ..) in KINDS {
            for mut object in admin.items(&all(kind, &self.ns)).await? {
                object["kind"] = json!(kind);
                objects.push(object);
            }
        }
        let mut bindings = Vec::new();
        for (path, kind) in [(BINDINGS, "RoleBinding"), (CLUSTER_BINDINGS, "ClusterRoleBinding")] {
            for mut binding in admin.items(path).await? {
                binding["kind"] = json!(kind);
                if binding["metadata"]["namespace"] != self.ns.as_str() {
                    bindings.push(binding);
                }
            }
        }
        let mut namespace = admin.read(&format!("{NAMESPACES}/{}", self.ns)).await?;
        namespace["kind"] = json!("Namespace");
        let scene = scene(&namespace, &self.ns, &self.other);
        let policies: Vec<Value> = objects
            .iter()
            .filter(|object| object["kind"] == "NetworkPolicy")
            .cloned()
            .collect();
        let matrix = simulator.lock().await.ask(&scene, &policies)?;
        Ok(Seen {
            namespace,
            class: admin.read(&format!("{CLASSES}/{}", self.class)).await?,
            left: self.left.clone(),
            objects,
            bindings,
            findings: Vec::new(),
            network: (scene, matrix),
        })
    }

    /// Waits until what controllers do after the last act is done: declarations are spoken of, and what goes is gone.
    pub async fn quiet(&self) {
        for name in WORKFLOWS {
            self.settled(name).await;
        }
        let admin = &self.world.admin;
        let path = all("ReplicaSet", &self.ns);
        eventually(SOON, || async {
            for replicas in admin.items(&path).await? {
                let (wanted, seen) = (
                    &replicas["metadata"]["generation"],
                    &replicas["status"]["observedGeneration"],
                );
                ensure!(
                    wanted == seen,
                    "{}: its controller has not seen it",
                    replicas["metadata"]["name"]
                );
            }
            Ok(())
        })
        .await;
    }
}

async fn people(world: &World, ns: &str, other: &str) -> Vec<(Who, Actor, Writer)> {
    let writer = |user: &str| Writer {
        user: user.to_owned(),
        account: None,
    };
    let mut people = Vec::new();
    for (who, namespace, role) in [
        (Who::Ada, ns, "admin"),
        (Who::Edith, ns, "edit"),
        (Who::Otto, other, "admin"),
    ] {
        let (identity, actor) = world.person(namespace, role).await;
        let Identity::User { name, .. } = identity else {
            panic!("a person has a certificate");
        };
        people.push((who, actor, writer(&name)));
    }
    // One writes namespaces as well, and may not approve.
    let otto = people[2].2.user.clone();
    let binding = json!({
        "metadata": {"name": otto}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": otto}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": HELPDESK},
    });
    world.admin.post(CLUSTER_BINDINGS, &binding).await.ok();
    let name = format!("system:serviceaccount:{other}:launcher");
    let account = Actor::new(world.cluster.service_account(other, "launcher").await);
    let shown = Writer {
        user: name.clone(),
        account: Some((other.to_owned(), "launcher".to_owned())),
    };
    people.push((Who::Account, account, shown));
    let mask = Actor::new(world.cluster.impersonate(&name, &["system:masters"]).await);
    people.push((Who::Mask, mask, writer(&name)));
    people.push((Who::Lea, world.master("lea", &[]).await, writer("lea")));
    people.push((Who::Root, world.master("root", &[]).await, writer("root")));
    people.push((Who::Tess, world.tess.clone(), writer("tess")));
    people
}

/// Whom the network is asked about.
fn scene(namespace: &Value, ns: &str, other: &str) -> Scene {
    let labels = namespace["metadata"]["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
    let named = |name: &str| [("kubernetes.io/metadata.name".to_owned(), name.to_owned())].into();
    let mut pods: Vec<Pod> = WORKFLOWS
        .iter()
        .zip(1..)
        .map(|(name, last)| Pod::new(ns, name, &[(crate::checker::LABEL, *name)], &format!("10.1.0.{last}")))
        .collect();
    pods.push(Pod::new(ns, "stray", &[("app", "web")], "10.1.0.9"));
    pods.push(Pod::new(other, "web", &[("app", "web")], "10.2.0.1"));
    pods.push(Pod::new(other, "else", &[("app", "else")], "10.2.0.2"));
    pods.push(Pod::new(
        "kube-system",
        "dns",
        &[("k8s-app", "kube-dns"), ("app", "web")],
        "10.3.0.1",
    ));
    let proxy = [
        ("app.kubernetes.io/name", "ringfence-egress"),
        ("app.kubernetes.io/component", "egress"),
    ];
    pods.push(Pod::new(RELEASE_NAMESPACE, "egress", &proxy, "10.3.0.2"));
    let addresses = ["203.0.113.7", "198.51.100.1", "169.254.169.254", "10.4.0.1"];
    Scene {
        namespaces: [
            (ns.to_owned(), labels.collect()),
            (other.to_owned(), named(other)),
            ("kube-system".to_owned(), named("kube-system")),
            (RELEASE_NAMESPACE.to_owned(), named(RELEASE_NAMESPACE)),
        ]
        .into(),
        pods,
        addresses: addresses.map(|address| address.parse().expect("an address")).into(),
        ports: ports([53, 443, 3128, 8080, 8081]),
    }
}
