//! The five promises, verified on the state of a namespace: an independent and naive reading of the design.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it. What it takes as given is what the
//! API server holds, what the requests' sender noted ([`Past`]), and that a scan told of something, never what it thinks of it.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use support::RELEASE_NAMESPACE;
use support::network::{Declared, Matrix, Scene, declared};

use crate::fit::{is_inside, list, misfits};
use crate::past::{Declaration, Past, Second, UNLABELLED, Write, during, now};
use crate::rights;

/// A second is the least that a time of creation tells, and clocks are read before and after.
const SLACK: Second = 1;

/// The label that says whose an object is.
pub const LABEL: &str = "ringfence.dev/workflow";
/// Where Ringfence says for whom it made an object.
pub const OWNER_UID: &str = "ringfence.dev/owner-uid";
/// Where it says to which domains the egress proxy lets the pods of a workflow.
pub const DOMAINS: &str = "ringfence.dev/egress-domains";

/// The state of one enforced namespace.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The Namespace.
    pub namespace: Value,
    /// Its class.
    pub class: Value,
    /// The spec of the class, and the value of the label, as the platform left them.
    pub left: (Value, String),
    /// All objects of the namespace, each with its kind.
    pub objects: Vec<Value>,
    /// RoleBindings of other namespaces, and ClusterRoleBindings.
    pub bindings: Vec<Value>,
    /// Findings of a scan.
    pub findings: Vec<Value>,
    /// Whom the network is asked about, and what NetworkPolicies open between them.
    pub network: (Scene, Matrix),
}

/// A promise that is not kept.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Broken {
    /// Which; 0 where a legitimate act was refused.
    pub promise: u8,
    /// By what.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promise {}: {}", self.promise, self.what)
    }
}

/// Every promise that is not kept.
pub fn broken(seen: &Seen, past: &Past) -> Vec<Broken> {
    let checker = Checker { seen, past };
    let mut found = Vec::new();
    let mut add = |promise: u8, what: Vec<String>| {
        found.extend(what.into_iter().map(|what| Broken { promise, what }));
    };
    add(0, past.wronged.clone());
    add(1, checker.nothing_undeclared_gets_in());
    add(2, checker.nothing_undeclared_gets_out());
    add(3, rights::nothing_undeclared_is_granted(&checker));
    add(4, rights::nobody_moves_the_fence(&checker));
    add(5, checker.everything_is_explained());
    found.sort();
    found.dedup();
    found
}

pub(crate) struct Checker<'a> {
    pub(crate) seen: &'a Seen,
    pub(crate) past: &'a Past,
}

impl<'a> Checker<'a> {
    pub(crate) fn objects(&self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.seen.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The declarations that stand, each with the object.
    pub(crate) fn workflows(&self) -> impl Iterator<Item = &'a Value> {
        self.objects("AIWorkflow")
    }

    /// Seconds in which an object was made.
    pub(crate) fn made(object: &Value) -> (Second, Second) {
        let made = object["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
        let made: Timestamp = made.parse().unwrap_or_else(|error| panic!("{made:?}: {error}"));
        (made.as_second() - SLACK, made.as_second() + SLACK)
    }

    /// Whether it was made while nothing was enforced.
    pub(crate) fn is_older(&self, object: &Value) -> bool {
        let (from, until) = Self::made(object);
        self.past.was_open(from, until)
    }

    /// Whether the scan told of an object, or of one above it.
    pub(crate) fn is_told(&self, object: &Value) -> bool {
        let mut names = vec![object["metadata"]["name"].clone()];
        let mut above = self.owner(object);
        while let Some(owner) = above.filter(|_| names.len() < 8) {
            names.push(owner["metadata"]["name"].clone());
            above = self.owner(owner);
        }
        self.seen
            .findings
            .iter()
            .any(|finding| names.contains(&finding["name"]))
    }

    /// The owner that controls an object, where it is there.
    fn owner(&self, object: &Value) -> Option<&'a Value> {
        let controller = list(&object["metadata"]["ownerReferences"]);
        let controller = controller.iter().find(|owner| owner["controller"] == true)?;
        let is_it =
            |other: &&Value| other["metadata"]["uid"] == controller["uid"] && other["kind"] == controller["kind"];
        self.seen.objects.iter().find(is_it)
    }

    fn nothing_undeclared_gets_in(&self) -> Vec<String> {
        let mut found = Vec::new();
        for object in &self.seen.objects {
            let Some(pod) = template(object) else {
                continue;
            };
            let what = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
            let fits = now(&self.past.declarations)
                .map(|declaration| self.reasons(object, pod, declaration, &self.seen.class["spec"]))
                .any(|reasons| reasons.is_empty());
            if let Err(reasons) = self.was_let_in(object, pod) {
                found.push(format!("{what} got in, and {reasons}"));
            } else if !fits && !self.is_told(object) {
                found.push(format!("{what} does not fit today's declaration, and nothing tells"));
            }
        }
        found
    }

    /// The workflow of an object: from what makes pods the label may have been taken.
    fn workflow_of(&self, object: &'a Value) -> &'a str {
        let labelled = template(object)
            .filter(|_| self.is_unlabelled(object))
            .unwrap_or(object);
        text(&labelled["metadata"]["labels"][LABEL])
    }

    /// Whether somebody took the label from what makes pods. Anybody who might delete it may: it makes none any more.
    fn is_unlabelled(&self, object: &Value) -> bool {
        let mut writes = self.past.writes.iter().filter(|write| write.kind == UNLABELLED);
        object["metadata"]["labels"][LABEL].is_null()
            && writes.any(|write| object["metadata"]["uid"] == write.uid.as_str())
    }

    fn reasons(&self, object: &Value, pod: &Value, declaration: &Declaration, class: &Value) -> Vec<String> {
        let mut reasons = misfits(pod, &declaration.name, &declaration.spec, class);
        if object["metadata"]["labels"][LABEL] != declaration.name.as_str() && !self.is_unlabelled(object) {
            reasons.push("it does not carry the label".to_owned());
        }
        if !is_inside(&declaration.spec, class, text(&self.seen.namespace["metadata"]["name"])) {
            reasons.push(format!("{} is outside its class", declaration.name));
        }
        reasons
    }

    /// Whether it could be made when it was made: by what was declared then, or because nothing was enforced.
    fn was_let_in(&self, object: &'a Value, pod: &Value) -> Result<(), String> {
        let (from, until) = Self::made(object);
        if self.past.was_open(from, until) {
            return Ok(());
        }
        // What was changed since may fit what was declared since.
        let is_unchanged = object["metadata"]["generation"].as_i64().unwrap_or(1) <= 1;
        let until = if is_unchanged { until } else { Second::MAX };
        let mut fewest: Option<Vec<String>> = None;
        for declaration in during(&self.past.declarations, from, until) {
            for class in during(&self.past.classes, from, until) {
                let reasons = self.reasons(object, pod, declaration, class);
                if fewest.as_ref().is_none_or(|fewest| reasons.len() < fewest.len()) {
                    fewest = Some(reasons);
                }
            }
        }
        match fewest {
            None => Err("nothing was declared".to_owned()),
            Some(reasons) if !reasons.is_empty() => Err(reasons.join(", ")),
            Some(_) => self.was_launched(object, 0),
        }
    }

    /// Whether launchers made it and changed it, or what stands above it.
    fn was_launched(&self, object: &'a Value, depth: usize) -> Result<(), String> {
        let name = self.workflow_of(object);
        let uid = text(&object["metadata"]["uid"]);
        let mut writes = self
            .past
            .writes
            .iter()
            .filter(|write| write.uid == uid && write.launches)
            .peekable();
        if writes.peek().is_some() {
            return match writes.find(|write| !self.may_launch(write, name)) {
                None => Ok(()),
                Some(write) => Err(format!("{} launched it, who is no launcher of {name}", write.by.user)),
            };
        }
        match self.owner(object) {
            Some(owner) if depth < 8 && self.workflow_of(owner) == name => self.was_launched(owner, depth + 1),
            Some(_) => Err("what controls it is not of its workflow".to_owned()),
            None => Err("nobody is known to have launched it".to_owned()),
        }
    }

    fn may_launch(&self, write: &Write, name: &str) -> bool {
        let by = &write.by;
        let names = |launcher: &Value| {
            let account = &launcher["serviceAccount"];
            by.account.as_ref().is_some_and(|(namespace, name)| {
                account["namespace"] == namespace.as_str() && account["name"] == name.as_str()
            }) || launcher["user"] == by.user.as_str()
        };
        let (from, until) = (write.at - SLACK, write.at + SLACK);
        self.past.was_open(from, until)
            || during(&self.past.declarations, from, until)
                .filter(|declaration| declaration.name == name)
                .any(|declaration| list(&declaration.spec["launchers"]).iter().any(names))
    }

    fn nothing_undeclared_gets_out(&self) -> Vec<String> {
        let mut found = Vec::new();
        let uid = &self.seen.namespace["metadata"]["uid"];
        let mut foreign = false;
        let mut closed = false;
        for policy in self.objects("NetworkPolicy") {
            let owner = &policy["metadata"]["annotations"][OWNER_UID];
            if policy["metadata"]["name"] == "ringfence" && owner == uid {
                let spec = &policy["spec"];
                let types = spec["policyTypes"] == serde_json::json!(["Ingress", "Egress"]);
                let empty = list(&spec["ingress"]).is_empty() && list(&spec["egress"]).is_empty();
                closed = types && empty && spec["podSelector"] == serde_json::json!({});
            } else if owner.is_null() && self.is_older(policy) {
                let opens = !list(&policy["spec"]["ingress"]).is_empty() || !list(&policy["spec"]["egress"]).is_empty();
                foreign |= opens;
                if opens && !self.is_told(policy) {
                    found.push(format!(
                        "NetworkPolicy {} is from before, opens, and nothing tells",
                        text(&policy["metadata"]["name"])
                    ));
                }
            }
        }
        if !closed {
            found.push("the default-deny is not there, or not as it should be".to_owned());
        }
        if !foreign {
            found.extend(self.opened());
        }
        found.extend(self.domains());
        for service in self.objects("Service").filter(|service| !self.is_older(service)) {
            let spec = &service["spec"];
            let selects = spec["selector"]
                .as_object()
                .is_some_and(|selector| !selector.is_empty());
            if spec["type"] != "ClusterIP" || !list(&spec["externalIPs"]).is_empty() || !selects {
                found.push(format!(
                    "Service {} opens a way in or out",
                    text(&service["metadata"]["name"])
                ));
            }
        }
        let written = self.past.writes.iter().filter(|write| write.kind == "EndpointSlice");
        for write in written.filter(|write| !self.past.was_open(write.at - SLACK, write.at + SLACK)) {
            found.push(format!("{} wrote who is behind a Service", write.by.user));
        }
        found
    }

    /// Paths that policies open and nobody declared.
    fn opened(&self) -> Vec<String> {
        let (scene, simulated) = &self.seen.network;
        let mut workflows: Vec<Value> = self.workflows().cloned().collect();
        for workflow in &mut workflows {
            workflow["metadata"]["namespace"] = self.seen.namespace["metadata"]["name"].clone();
        }
        let said = Declared {
            workflows,
            classes: vec![self.seen.class.clone()],
            egress_proxy: Some(RELEASE_NAMESPACE.to_owned()),
            ..Declared::default()
        };
        let declared = declared(scene, &said);
        let mut found = Vec::new();
        for ((from, to), open) in simulated {
            let Some(wanted) = declared.get(&(from.clone(), to.clone())) else {
                found.push(format!("{from} -> {to} is known to the simulator alone"));
                continue;
            };
            for (side, is, should) in [
                ("out", &open.egress, &wanted.egress),
                ("in", &open.ingress, &wanted.ingress),
            ] {
                let undeclared = is.bytes().zip(should.bytes()).position(|(is, should)| is > should);
                if let Some(port) = undeclared.and_then(|index| scene.ports.get(index)) {
                    found.push(format!("{from} -> {to}:{port} is let {side}, and nobody declared it"));
                }
            }
        }
        found
    }

    /// Domains to which the egress proxy lets pods, and which nobody declared, or the class does not open: word for word, as all are here.
    fn domains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for policy in self.objects("NetworkPolicy") {
            let Some(told) = policy["metadata"]["annotations"][DOMAINS].as_str() else {
                continue;
            };
            let told: Value = serde_json::from_str(told).unwrap_or_else(|error| panic!("{told}: {error}"));
            let mut workflows = self.workflows();
            let owner = &policy["metadata"]["annotations"][OWNER_UID];
            let workflow = workflows.find(|workflow| workflow["metadata"]["uid"] == *owner);
            let declared = workflow.map_or(&[][..], |workflow| list(&workflow["spec"]["network"]["egress"]));
            let open = list(&self.seen.class["spec"]["network"]["domains"]);
            for domain in list(&told["rules"]).iter().flat_map(|rule| list(&rule["domains"])) {
                let is_declared = declared
                    .iter()
                    .any(|rule| list(&rule["to"]["domains"]).contains(domain));
                if !is_declared || !open.contains(domain) {
                    found.push(format!(
                        "{domain} is let out by the egress proxy, and nobody declared it or may"
                    ));
                }
            }
        }
        found
    }

    fn everything_is_explained(&self) -> Vec<String> {
        let unexplained = self.past.refusals.iter().filter(|said| !said.contains("Fix: "));
        unexplained
            .map(|said| format!("a refusal does not say what to do: {said}"))
            .collect()
    }
}

/// The pod, or pod template, of an object that is one or makes some.
fn template(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => Some(object),
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template"),
        "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => {
            object.pointer("/spec/template")
        }
        _ => None,
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
