//! Does what a sequence says, notes what was admitted, and knows of some acts that they are legitimate.

use proptest::sample::Index;
use serde_json::{Value, json};

use crate::declarations::{declaration, twisted};
use crate::fit::{is_inside, list, misfits};
use crate::objects::{template_of, workload};
use crate::operations::{Operation, Parts, Patch, Twist, Who};
use crate::past::{Declaration, Past, UNLABELLED, Writer, now};
use crate::place::{CLUSTER_BINDINGS, Place, all, one, second};
use crate::world::{Actor, Answer, NAMESPACES};

/// What Ringfence says where it had no time to judge.
const OVERLOADED: [&str; 3] = [
    "could not be judged",
    "the time for the answer was over",
    "failed calling webhook",
];

impl Place {
    /// One act of somebody.
    pub async fn act(&mut self, who: Who, operation: &Operation) {
        // Who writes namespaces and may not approve is one alone.
        let who = if matches!(operation, Operation::Mode { .. }) {
            Who::Otto
        } else {
            who
        };
        let (actor, by) = self.actor(who);
        self.trail.push(format!("{} {who:?}: {operation:?}", second()));
        match operation {
            Operation::Declare { name, parts } => self.declare(who, name, *parts).await,
            // What an approver orphans stays on purpose.
            Operation::Withdraw { name, orphan } => self.withdraw(&actor, name, *orphan && !self.approves(&by)).await,
            Operation::Make {
                kind,
                name,
                workflow,
                twist,
            } => self.make(who, kind, name, workflow, *twist).await,
            Operation::Change { pick, patch } => {
                if let Some((kind, name)) = self.picked(pick).await {
                    self.change(who, &kind, &name, *patch).await;
                }
            }
            Operation::Delete { pick } => {
                if let Some((kind, name)) = self.picked(pick).await {
                    let path = format!("{}?propagationPolicy=Background", one(&kind, &self.ns, &name));
                    let answer = actor.delete(&path).await;
                    self.heard(&answer);
                }
            }
            Operation::Plain { kind, name, label } => self.plain(who, kind, name, *label).await,
            Operation::Class { images, rules } => self.rule(*images, *rules).await,
            Operation::Fence { stands } => self.fence(*stands).await,
            _ => self.attack(&actor, &by, operation).await,
        }
    }

    /// Something that runs here, or makes what does.
    async fn picked(&self, pick: &Index) -> Option<(String, String)> {
        let mut found = Vec::new();
        for kind in ["CronJob", "Deployment", "Job", "Pod", "ReplicaSet"] {
            let objects = self.world.admin.items(&all(kind, &self.ns)).await.unwrap_or_default();
            let names = objects.iter().filter_map(|object| object["metadata"]["name"].as_str());
            found.extend(names.map(|name| (kind.to_owned(), name.to_owned())));
        }
        (!found.is_empty()).then(|| pick.get(&found).clone())
    }

    /// Notes what a refusal says, and tells whether it was none.
    pub fn heard(&mut self, answer: &Answer) -> bool {
        let said = answer.message();
        let by_fence =
            said.contains("ringfence refused this") || said.contains("ValidatingAdmissionPolicy 'ringfence-");
        if answer.code == 403 && by_fence {
            self.past.refusals.push(said.to_owned());
        }
        self.trail.push(format!("  {} {said}", answer.code));
        (200..300).contains(&answer.code)
    }

    /// Hears an answer to an act that is legitimate if `so`: the fence may not refuse it.
    fn must(&mut self, so: bool, who: Who, what: &str, answer: &Answer) -> bool {
        let passed = self.heard(answer);
        // Not there, there already, changed meanwhile: that is no refusal. Nor is it one of this act where a busy machine judges none.
        let is_busy = OVERLOADED.iter().any(|said| answer.message().contains(said));
        if so && !passed && !is_busy && !matches!(answer.code, 404 | 409) {
            self.past
                .wronged
                .push(format!("{who:?} {what}: {} {}", answer.code, answer.message()));
        }
        passed
    }

    async fn declare(&mut self, who: Who, name: &'static str, parts: Parts) {
        let (actor, _) = self.actor(who);
        let (spec, is_valid) = declaration(parts, name, &self.other);
        let path = one("AIWorkflow", &self.ns, name);
        let is_there = self.world.admin.is_there(&path).await.unwrap_or(true);
        let from = second();
        let answer = if is_there {
            actor.patch(&path, &json!({"spec": spec})).await
        } else {
            let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": name}, "spec": spec});
            actor.post(&all("AIWorkflow", &self.ns), &object).await
        };
        let may = matches!(who, Who::Ada | Who::Edith | Who::Lea | Who::Root | Who::Tess);
        if self.must(may && is_valid, who, &format!("declares {name} as {parts:?}"), &answer) {
            self.declared(name, from, &answer.body["spec"]);
            self.settled(name).await;
        }
    }

    async fn withdraw(&mut self, actor: &Actor, name: &str, orphan: bool) {
        let path = one("AIWorkflow", &self.ns, name);
        let how = if orphan { "Orphan" } else { "Background" };
        let answer = actor.delete(&format!("{path}?propagationPolicy={how}")).await;
        if self.heard(&answer) {
            self.world.admin.gone(&path).await;
            Past::end(&mut self.past.declarations, second(), |declaration| {
                declaration.name == name
            });
        }
    }

    async fn make(&mut self, who: Who, kind: &str, name: &str, workflow: &str, twist: Twist) {
        let foreign = self.foreign().await;
        let mut object = workload(kind, &twisted(name, workflow, twist, &foreign));
        let inside = format!("{}/metadata/labels", template_of(kind));
        let label = crate::checker::LABEL;
        match twist {
            Twist::NoLabel => {
                remove(&mut object, "/metadata/labels", label);
                remove(&mut object, &inside, label);
            }
            Twist::NoLabelInside => remove(&mut object, &inside, label),
            Twist::OtherLabelInside => {
                let other = if workflow == "alpha" { "beta" } else { "alpha" };
                object.pointer_mut(&inside).expect("labels")[label] = json!(other);
            }
            _ => {}
        }
        if kind != "Pod" {
            object["metadata"]["ownerReferences"] = if twist == Twist::Owner {
                json!([foreign])
            } else {
                json!([])
            };
        }
        let fits = self.fits(who, kind, &object, workflow).await && twist != Twist::Owner;
        let (actor, by) = self.actor(who);
        let answer = actor.post(&all(kind, &self.ns), &object).await;
        if self.must(
            fits,
            who,
            &format!("makes {kind} {name} of {workflow}, {twist:?}"),
            &answer,
        ) {
            self.wrote(&by, kind, &answer.body, true);
        }
    }

    /// Whether an object fits what is declared, its maker is a launcher, and the fence stands whole: then it may not be refused.
    async fn fits(&self, who: Who, kind: &str, object: &Value, workflow: &str) -> bool {
        let (_, by) = self.actor(who);
        let Some(declared) = now(&self.past.declarations)
            .find(|declared| declared.name == workflow)
            .cloned()
        else {
            return false;
        };
        let (class, spec) = (&self.left.0, &declared.spec);
        let pod = object.pointer(template_of(kind)).unwrap_or(&Value::Null);
        let is_labelled = object["metadata"]["labels"][crate::checker::LABEL] == workflow;
        is_labelled
            && launches(&declared, &by)
            && is_inside(spec, class, &self.ns)
            && misfits(pod, workflow, spec, class).is_empty()
            && self.stands(workflow).await
    }

    async fn change(&mut self, who: Who, kind: &str, name: &str, patch: Patch) {
        let (actor, by) = &self.actor(who);
        let path = one(kind, &self.ns, name);
        let template = template_of(kind);
        let label = crate::checker::LABEL;
        let labels = |value: Option<&str>| json!({"metadata": {"labels": {label: value}}});
        let before = self.world.admin.get(&path).await.body;
        let answer = match patch {
            Patch::Image(image) => {
                let change =
                    json!([{"op": "replace", "path": format!("{template}/spec/containers/0/image"), "value": image}]);
                actor.json_patch(&path, &change).await
            }
            Patch::Label(value) => actor.patch(&path, &labels(value)).await,
            Patch::Tag => {
                actor
                    .patch(&path, &json!({"metadata": {"labels": {"team": "other"}}}))
                    .await
            }
            Patch::Scale(replicas) => {
                let change = match kind {
                    "Pod" => return,
                    "Job" | "CronJob" => json!({"spec": {"suspend": replicas == 0}}),
                    _ => json!({"spec": {"replicas": replicas}}),
                };
                actor.patch(&path, &change).await
            }
            Patch::Interface => {
                let change = json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "evil"}}});
                let whole = if kind == "CronJob" {
                    json!({"spec": {"jobTemplate": {"spec": {"template": change}}}})
                } else {
                    json!({"spec": {"template": change}})
                };
                let change = if kind == "Pod" { change } else { whole };
                actor.patch(&path, &change).await
            }
            Patch::Owner => {
                let change = json!({"metadata": {"ownerReferences": [self.foreign().await]}});
                actor.patch(&path, &change).await
            }
            Patch::Ephemeral => {
                let container = json!({"name": "debugger", "image": "docker.io/library/busybox", "terminationMessagePolicy": "File"});
                let change = json!({"spec": {"ephemeralContainers": [container]}});
                actor.strategic(&format!("{path}/ephemeralcontainers"), &change).await
            }
            Patch::Status => actor.patch(&format!("{path}/status"), &labels(Some("beta"))).await,
            Patch::Binding => {
                let binding = json!({"metadata": {"name": name, "labels": {label: "beta"}}, "target": {"kind": "Node", "name": "nowhere"}});
                actor.post(&format!("{path}/binding"), &binding).await
            }
        };
        // Free within a template that was reviewed, whosever it is; but what a Deployment ran once is not to come back.
        let is_revision = before.pointer("/spec/selector/matchLabels/pod-template-hash").is_some();
        let is_free = matches!(patch, Patch::Scale(_)) && !is_revision && who != Who::Otto && answer.code != 422;
        if self.must(is_free, who, &format!("scales {kind} {name}"), &answer) {
            // What is answered may be a Status, so the object is looked up.
            let after = self.world.admin.get(&path).await.body;
            let [was, is] = [&before, &after].map(|object| &object["metadata"]["labels"][label]);
            if kind != "Pod" && is.is_null() && !was.is_null() {
                self.wrote(by, UNLABELLED, &after, false);
            } else {
                self.wrote(by, kind, &after, launched(kind, &before) != launched(kind, &after));
            }
        }
    }

    async fn plain(&mut self, who: Who, kind: &str, name: &str, label: Option<&str>) {
        let (actor, by) = self.actor(who);
        let mut object = json!({"metadata": {"name": format!("plain-{name}")}});
        if let Some(label) = label {
            object["metadata"]["labels"] = json!({crate::checker::LABEL: label});
        }
        let answer = actor.post(&all(kind, &self.ns), &object).await;
        let may = matches!(
            who,
            Who::Ada | Who::Edith | Who::Lea | Who::Root | Who::Tess | Who::Account
        );
        if self.must(may && label.is_none(), who, &format!("makes a plain {kind}"), &answer) {
            self.wrote(&by, kind, &answer.body, true);
        }
    }

    /// An object of the namespace that is of no workflow, as a controlling owner.
    async fn foreign(&self) -> Value {
        let secret = self.world.admin.get(&one("Secret", &self.ns, "payroll")).await.ok();
        json!({"apiVersion": "v1", "kind": "Secret", "name": "payroll", "uid": secret["metadata"]["uid"], "controller": true})
    }

    async fn attack(&mut self, actor: &Actor, by: &Writer, operation: &Operation) {
        let ns = self.ns.clone();
        match operation {
            Operation::Bind {
                elsewhere,
                cluster,
                subject,
                workflow,
            } => {
                let subject = match *subject {
                    "ServiceAccount" => json!({"kind": "ServiceAccount", "namespace": ns, "name": workflow}),
                    "User" => {
                        json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccount:{ns}:{workflow}")})
                    }
                    _ => {
                        json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("system:serviceaccounts:{ns}")})
                    }
                };
                let binding = json!({
                    "metadata": {"generateName": "more-"}, "subjects": [subject],
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                });
                let namespace = if *elsewhere { &self.other } else { &ns };
                let path = if *cluster {
                    CLUSTER_BINDINGS.to_owned()
                } else {
                    all("RoleBinding", namespace)
                };
                let answer = actor.post(&path, &binding).await;
                self.heard(&answer);
            }
            Operation::Account { name, act } => {
                let path = one("ServiceAccount", &ns, name);
                let answer = match *act {
                    "make" => actor.post(&all("ServiceAccount", &ns), &json!({"metadata": {"name": name}})).await,
                    "delete" => actor.delete(&path).await,
                    "cloud" => actor.patch(&path, &json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/admin"}}})).await,
                    _ => actor.patch(&path, &json!({"metadata": {"ownerReferences": [dead("AIWorkflow")]}})).await,
                };
                if self.heard(&answer) {
                    self.wrote(by, "ServiceAccount", &answer.body, false);
                }
            }
            Operation::Token {
                secret: false,
                workflow,
            } => {
                let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
                let answer = actor
                    .post(&format!("{}/token", one("ServiceAccount", &ns, workflow)), &request)
                    .await;
                if self.heard(&answer) {
                    self.wrote(by, "TokenRequest", &Value::Null, false);
                }
            }
            Operation::Token { workflow, .. } => {
                let of = json!({"kubernetes.io/service-account.name": workflow});
                let secret = json!({"metadata": {"generateName": "token-", "annotations": of}, "type": "kubernetes.io/service-account-token"});
                let answer = actor.post(&all("Secret", &ns), &secret).await;
                self.heard(&answer);
            }
            Operation::Tamper { kind, how } => self.tamper(actor, by, kind, how).await,
            Operation::Policy { opens } => {
                let egress = if *opens { json!([{}]) } else { json!([]) };
                let policy = json!({"metadata": {"generateName": "policy-"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress}});
                let answer = actor.post(&all("NetworkPolicy", &ns), &policy).await;
                self.heard(&answer);
            }
            Operation::Service { type_ } => {
                let mut spec = json!({"selector": {"app": "one"}, "ports": [{"port": 80}]});
                match *type_ {
                    "externalIPs" => spec["externalIPs"] = json!(["203.0.113.7"]),
                    "none" => spec["selector"] = Value::Null,
                    "ExternalName" => spec = json!({"type": "ExternalName", "externalName": "evil.example"}),
                    type_ => spec["type"] = json!(type_),
                }
                let service = json!({"metadata": {"generateName": "service-"}, "spec": spec});
                let answer = actor.post(&all("Service", &ns), &service).await;
                let may = self.may_write_services(by);
                if !self.heard(&answer) && may && *type_ == "ClusterIP" {
                    self.past
                        .wronged
                        .push(format!("{} makes a plain Service: {}", by.user, answer.message()));
                }
            }
            Operation::Slice => {
                let slice = json!({
                    "metadata": {"generateName": "slice-", "labels": {"kubernetes.io/service-name": "one"}}, "addressType": "IPv4",
                    "endpoints": [{"addresses": ["203.0.113.7"]}], "ports": [{"port": 80}],
                });
                let answer = actor.post(&all("EndpointSlice", &ns), &slice).await;
                if self.heard(&answer) {
                    self.wrote(by, "EndpointSlice", &answer.body, false);
                }
            }
            // An approver may set these: what she does is no attack.
            Operation::Key { .. } | Operation::Mode { .. } if self.approves(by) => {}
            Operation::Key { kind, key } => {
                let objects = self.world.admin.items(&all(kind, &ns)).await.unwrap_or_default();
                let Some(name) = objects.first().and_then(|object| object["metadata"]["name"].as_str()) else {
                    return;
                };
                let change = json!({"metadata": {"annotations": {*key: "1"}, "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}}});
                let answer = actor.patch(&one(kind, &ns, name), &change).await;
                self.heard(&answer);
            }
            Operation::Mode { door, value } => {
                let path = format!("{NAMESPACES}/{ns}{door}");
                let answer = if *door == "/finalize" {
                    let mut namespace = self.world.admin.get(&format!("{NAMESPACES}/{ns}")).await.ok();
                    namespace["metadata"]["labels"]["ringfence.dev/enforce"] = json!(value.unwrap_or_default());
                    actor.put(&path, &namespace).await
                } else {
                    actor
                        .patch(
                            &path,
                            &json!({"metadata": {"labels": {"ringfence.dev/enforce": value}}}),
                        )
                        .await
                };
                self.heard(&answer);
            }
            _ => {}
        }
    }

    async fn tamper(&mut self, actor: &Actor, by: &Writer, kind: &str, how: &str) {
        let objects = self.world.admin.items(&all(kind, &self.ns)).await.unwrap_or_default();
        let owned = objects.iter().find(|object| {
            object["metadata"]["annotations"]
                .get(crate::checker::OWNER_UID)
                .is_some()
        });
        let Some(name) = owned.and_then(|object| object["metadata"]["name"].as_str()) else {
            return;
        };
        // What an approver unmarks where no fence stands, she takes from Ringfence on purpose.
        let is_fenced = self.past.fenced.last().is_some_and(|span| span.until.is_none());
        if how == "unmark" && !is_fenced && self.approves(by) {
            return;
        }
        let path = one(kind, &self.ns, name);
        let change = match kind {
            "NetworkPolicy" => json!({"spec": {"ingress": [{}], "egress": [{}]}}),
            "Role" => json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["delete"]}]}),
            "RoleBinding" => json!({"subjects": [{"kind": "ServiceAccount", "namespace": self.ns, "name": "default"}]}),
            _ => json!({"automountServiceAccountToken": true, "secrets": [{"name": "payroll"}]}),
        };
        let answer = match how {
            "delete" => actor.delete(&path).await,
            "unmark" => actor.patch(&path, &json!({"metadata": {"annotations": null}})).await,
            "orphan" => {
                actor
                    .patch(&path, &json!({"metadata": {"ownerReferences": [dead("ConfigMap")]}}))
                    .await
            }
            _ => actor.patch(&path, &change).await,
        };
        self.heard(&answer);
    }

    /// Whether somebody holds the verb `approve`: RBAC lets these do anything.
    fn approves(&self, by: &Writer) -> bool {
        [Who::Lea, Who::Mask, Who::Root]
            .into_iter()
            .any(|who| self.actor(who).1.user == by.user && by.account.is_none())
    }

    fn may_write_services(&self, by: &Writer) -> bool {
        let others = [Who::Otto, Who::Mask];
        !others.into_iter().any(|who| self.actor(who).1.user == by.user)
    }
}

/// Whether a declaration names somebody as a launcher.
fn launches(declared: &Declaration, by: &Writer) -> bool {
    list(&declared.spec["launchers"]).iter().any(|launcher| {
        let account = by.account.as_ref();
        let is_account = account.is_some_and(|(namespace, name)| {
            launcher["serviceAccount"] == json!({"namespace": namespace, "name": name})
        });
        is_account || launcher["user"] == by.user.as_str()
    })
}

/// What of an object a launcher answers for: whose it is, who controls it, and what it runs; of what makes pods, every label, by which a tool
/// may select it.
fn launched<'a>(kind: &str, object: &'a Value) -> [&'a Value; 3] {
    let template = object.pointer(template_of(kind)).unwrap_or(&Value::Null);
    let runs = if kind == "Pod" {
        &object["spec"]["containers"]
    } else {
        template
    };
    let labels = &object["metadata"]["labels"];
    [
        if kind == "Pod" {
            &labels[crate::checker::LABEL]
        } else {
            labels
        },
        &object["metadata"]["ownerReferences"],
        runs,
    ]
}

/// An owner that never was.
fn dead(kind: &str) -> Value {
    let version = if kind == "ConfigMap" {
        "v1"
    } else {
        "ringfence.dev/v1alpha1"
    };
    json!({"apiVersion": version, "kind": kind, "name": "dead", "uid": "00000000-0000-0000-0000-000000000001"})
}

fn remove(object: &mut Value, pointer: &str, key: &str) {
    if let Some(map) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        map.remove(key);
    }
}
