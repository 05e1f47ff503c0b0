//! Door: what people open into pods that run. Closed, unless the AIWorkflow declares a window, its class allows windows, and the
//! window is open now.
//!
//! Who may open what is RBAC's to say. Must never: keep a window open for lack of a clock, or let a declared time stand for more
//! than the class's hours.

use std::collections::HashSet;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::declared::check_reviewed;
use super::facts::{Facts, Named, is_workflow_name, read};
use super::object::{is_full, shown, violation, workflow_label};
use crate::api::{AIWorkflow, AIWorkflowClass, DebugAction, Mode, WORKFLOW_LABEL, is_dns_label, is_dns_subdomain};
use crate::plan::NamespaceFacts;
use crate::review::{Operation, Review, Violation};

const RULE: &str = "debug-window";

/// Something that is opened into a pod: one CONNECT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The pod.
    pub pod: Named,
    /// What is opened; `None` for a way in that no window opens.
    action: Option<DebugAction>,
    subresource: String,
}

impl Session {
    /// Reads a CONNECT. `Err` where it opens something that this Ringfence does not know.
    pub fn of(review: &Review) -> Result<Self, &'static str> {
        const UNKNOWN: &str = "this Ringfence does not judge that CONNECT: its registrations are of another version";
        let is_pod = review.resource.group.is_empty() && review.resource.resource == "pods";
        if review.operation != Operation::Connect || !is_pod {
            return Err(UNKNOWN);
        }
        let action = match review.subresource.as_str() {
            "attach" => Some(DebugAction::Attach),
            "exec" => Some(DebugAction::Exec),
            "portforward" => Some(DebugAction::PortForward),
            "proxy" => None,
            _ => return Err(UNKNOWN),
        };
        let namespace = review.namespace.as_deref().filter(|name| is_dns_label(name));
        let pod = Named {
            namespace: namespace.ok_or("a CONNECT to a pod names its namespace")?.to_owned(),
            name: Some(named(review))
                .filter(|name| is_dns_subdomain(name))
                .ok_or("a CONNECT to a pod names the pod")?
                .to_owned(),
        };
        let subresource = review.subresource.clone();
        Ok(Self {
            pod,
            action,
            subresource,
        })
    }

    /// The workflow to ask for, once the pod is known.
    pub fn workflow(&self, facts: &Facts) -> Option<Named> {
        let label = facts.pod.as_ref().and_then(workflow_label)?;
        is_workflow_name(label).then(|| Named {
            namespace: self.pod.namespace.clone(),
            name: label.to_owned(),
        })
    }

    /// The modes to judge for, each with its class. `Err` where nothing is known of the namespace.
    pub fn modes(&self, facts: &Facts, exempt: impl Fn(&str) -> bool) -> Result<Vec<(Mode, String)>, Violation> {
        let namespace = facts.namespace.as_ref();
        match namespace.and_then(|object| NamespaceFacts::from_object(object, exempt)) {
            Some(namespace) => Ok(namespace.modes()),
            None => {
                let message = format!("there is no namespace {}", self.pod.namespace);
                Err(violation(
                    RULE,
                    self.path(),
                    None,
                    message,
                    "see kubectl get namespaces",
                ))
            }
        }
    }

    fn path(&self) -> String {
        format!("pods/{}", self.subresource)
    }

    /// What keeps it closed, for that class.
    pub fn check(&self, facts: &Facts, class_name: &str) -> Option<Violation> {
        let refuse =
            |value: Option<&str>, message: String, fix: &str| Some(violation(RULE, self.path(), value, message, fix));
        let Some(action) = self.action else {
            let message =
                "the API server's proxy reaches a pod past its NetworkPolicy, and no window opens it".to_owned();
            let fix = "use kubectl port-forward in a window that allows PortForward, or declare the caller in spec.network.ingress";
            return refuse(None, message, fix);
        };
        let Some(pod) = &facts.pod else {
            let message = format!("there is no pod {} in namespace {}", self.pod.name, self.pod.namespace);
            return refuse(None, message, "see kubectl get pods");
        };
        let Some(label) = workflow_label(pod) else {
            let message = format!(
                "pod {} belongs to no AIWorkflow, so nothing says who may look into it",
                self.pod.name
            );
            let fix = format!("replace the pod by one with the label {WORKFLOW_LABEL}");
            return refuse(None, message, &fix);
        };
        let Some(workflow) = &facts.workflow else {
            let message = format!(
                "there is no AIWorkflow {}, to which the pod says that it belongs",
                shown(label)
            );
            return refuse(
                None,
                message,
                "apply the AIWorkflow first: kubectl get aiworkflow shows those that are there",
            );
        };
        let class = facts
            .class(class_name)
            .map(|object| read::<AIWorkflowClass>(RULE, "AIWorkflowClass", class_name, object))
            .transpose();
        match (read::<AIWorkflow>(RULE, "AIWorkflow", label, workflow), class) {
            (Err(violation), _) | (_, Err(violation)) => Some(violation),
            (Ok(workflow), Ok(class)) => self
                .check_standing(label, pod, facts, &workflow)
                .or_else(|| check(action, label, &workflow, (class_name, class.as_ref()), facts.now)),
        }
    }

    /// Checks that the declaration stays, was reviewed, and is the pod's own and not that of a workflow of the same name before.
    fn check_standing(&self, label: &str, pod: &Value, facts: &Facts, workflow: &AIWorkflow) -> Option<Violation> {
        let refuse = |message: String, fix: &str| Some(violation(RULE, self.path(), None, message, fix));
        if workflow.metadata.deletion_timestamp.is_some() {
            let message = format!("AIWorkflow {label} is being deleted, and its window with it");
            return refuse(message, "wait until it is gone, and apply it again");
        }
        let made = pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        let made = made.and_then(|made| made.parse::<Timestamp>().ok());
        let declared = workflow.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if made.zip(declared).is_some_and(|(made, declared)| made < declared) {
            let message = format!(
                "pod {} is older than AIWorkflow {label}, which opens its own pods only",
                self.pod.name
            );
            return refuse(message, "replace the pod: kubectl rollout restart, or delete it");
        }
        check_reviewed(label, facts, workflow)
    }
}

/// The pod that a CONNECT names. A proxy's name may say by which scheme and port, too: `http:p:80`, `p:80`.
fn named(review: &Review) -> &str {
    let name = review.name();
    if review.subresource != "proxy" {
        return name;
    }
    let parts: Vec<_> = name.splitn(4, ':').collect();
    match *parts {
        [name, _port] => name,
        [_scheme, name, _port] => name,
        _ => name,
    }
}

/// Checks what is put into a pod to look into it: it reads no Secret that the pod itself does not, or whoever may debug could read
/// every Secret of the namespace by its name.
pub(super) fn check_containers(review: &Review, violations: &mut Vec<Violation>) {
    fn containers(object: Option<&Value>) -> &[Value] {
        let list = object.and_then(|object| object.pointer("/spec/ephemeralContainers"));
        list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
    // Both lists may be long.
    let old: HashSet<_> = containers(review.old_object()).iter().collect();
    for (index, container) in containers(review.object()).iter().enumerate() {
        if old.contains(container) {
            continue;
        }
        for (field, of_entry, harmless) in [
            (
                "env",
                "/valueFrom",
                &["fieldRef", "resourceFieldRef", "configMapKeyRef"][..],
            ),
            ("envFrom", "", &["configMapRef", "prefix"][..]),
        ] {
            let entries = container.get(field).and_then(Value::as_array).into_iter().flatten();
            for (at, entry) in entries.enumerate() {
                if is_full(violations) {
                    return;
                }
                let sources = entry.pointer(of_entry).and_then(Value::as_object).into_iter().flatten();
                let reads = sources.filter(|(_, source)| !source.is_null());
                if reads
                    .into_iter()
                    .any(|(source, _)| !harmless.contains(&source.as_str()))
                {
                    let path = format!("spec.ephemeralContainers[{index}].{field}[{at}]");
                    let message =
                        "reads a Secret by its name into a container that is there to look into the pod".to_owned();
                    let fix = "leave it out: kubectl debug --target shares the processes of a container, and what it was given";
                    violations.push(violation(RULE, path, None, message, fix));
                }
            }
        }
    }
}

/// What keeps a window closed.
pub(super) fn check(
    action: DebugAction,
    label: &str,
    workflow: &AIWorkflow,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
    now: Option<Timestamp>,
) -> Option<Violation> {
    let word = action.as_str();
    let refuse =
        |value: Option<&str>, message: String, fix: String| Some(violation(RULE, "spec.debug", value, message, fix));
    let Some(hours) = class
        .and_then(|class| class.spec.debug.as_ref())
        .map(|debug| debug.max_hours)
    else {
        let message = format!("{word} is closed: AIWorkflowClass {class_name} allows no debugging");
        return refuse(
            None,
            message,
            format!("ask the platform team for spec.debug.maxHours of AIWorkflowClass {class_name}"),
        );
    };
    let declare = format!(
        "declare on AIWorkflow {label} spec.debug: {{allow: [{word}], until: <RFC 3339, at most {hours} h ahead>}}"
    );
    let window = workflow
        .spec
        .debug
        .as_ref()
        .filter(|window| window.allow.contains(&action));
    let Some(window) = window else {
        return refuse(
            None,
            format!("{word} is closed: AIWorkflow {label} declares no window for it"),
            declare,
        );
    };
    let until = Some(window.until.as_str());
    let (Ok(closes), Some(now)) = (window.until.parse::<Timestamp>(), now) else {
        return refuse(
            until,
            format!("{word} is closed: nobody can tell when this window closes"),
            declare,
        );
    };
    let ahead = closes.duration_since(now);
    if ahead <= SignedDuration::ZERO {
        return refuse(until, format!("{word} is closed: the window is over"), declare);
    }
    if ahead > SignedDuration::from_hours(i64::from(hours)) {
        let message = format!(
            "{word} is closed: AIWorkflowClass {class_name} allows windows of at most {hours} h, and this one closes later"
        );
        return refuse(until, message, declare);
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{review, set, workflow_object};
    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn connect(subresource: &str) -> Review {
        let mut review = review("CONNECT", "", "PodExecOptions", Some(&json!({"command": ["sh"]})), None);
        review.resource.resource = "pods".into();
        review.subresource = subresource.into();
        review.request["name"] = json!("p");
        review
    }

    fn facts(debug: Value) -> Facts {
        let classes = [("open", json!({"maxHours": 8})), ("closed", Value::Null)];
        let class = |debug: Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"}, "spec": {"debug": debug}});
        Facts {
            pod: Some(json!({"metadata": {"name": "p", "labels": {"ringfence.dev/workflow": "triage"}}})),
            workflow: Some(set(workflow_object(), "/spec/debug", debug)),
            classes: classes
                .into_iter()
                .map(|(name, debug)| (name.to_owned(), Some(class(debug))))
                .collect(),
            now: Some(NOW.parse().unwrap()),
            ..Facts::default()
        }
    }

    fn refused(subresource: &str, facts: &Facts, class: &str) -> Option<String> {
        Session::of(&connect(subresource))
            .unwrap()
            .check(facts, class)
            .map(|violation| {
                assert_eq!(violation.policy, RULE);
                violation.message
            })
    }

    #[rstest]
    #[case::open("exec", json!({"allow": ["Exec"], "until": "2026-11-22T20:00:00Z"}), "open", None)]
    #[case::another_zone("exec", json!({"allow": ["Exec"], "until": "2026-11-22T14:30:00+02:00"}), "open", None)]
    #[case::attach("attach", json!({"allow": ["Attach"], "until": "2026-11-22T13:00:00Z"}), "open", None)]
    #[case::port_forward("portforward", json!({"allow": ["PortForward"], "until": "2026-11-22T13:00:00Z"}), "open", None)]
    #[case::another_action("attach", json!({"allow": ["Exec"], "until": "2026-11-22T13:00:00Z"}), "open", Some("no window for it"))]
    #[case::undeclared("exec", Value::Null, "open", Some("no window for it"))]
    #[case::over("exec", json!({"allow": ["Exec"], "until": "2026-11-22T12:00:00Z"}), "open", Some("is over"))]
    #[case::for_ever("exec", json!({"allow": ["Exec"], "until": "2026-11-22T20:00:01Z"}), "open", Some("closes later"))]
    #[case::no_time("exec", json!({"allow": ["Exec"], "until": "tomorrow"}), "open", Some("nobody can tell"))]
    #[case::class_allows_none("exec", json!({"allow": ["Exec"], "until": "2026-11-22T13:00:00Z"}), "closed", Some("allows no debugging"))]
    #[case::no_class("exec", json!({"allow": ["Exec"], "until": "2026-11-22T13:00:00Z"}), "absent", Some("allows no debugging"))]
    #[case::proxy("proxy", json!({"allow": ["Exec", "PortForward"], "until": "2026-11-22T13:00:00Z"}), "open", Some("no window opens it"))]
    fn a_window_is_open_only_as_declared(
        #[case] subresource: &str,
        #[case] debug: Value,
        #[case] class: &str,
        #[case] expected: Option<&str>,
    ) {
        let found = refused(subresource, &facts(debug), class);
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
    }

    #[rstest]
    #[case::no_clock(|facts: &mut Facts| facts.now = None)]
    #[case::no_pod(|facts: &mut Facts| facts.pod = None)]
    #[case::no_label(|facts: &mut Facts| facts.pod = Some(json!({"metadata": {"name": "p"}})))]
    #[case::no_workflow(|facts: &mut Facts| facts.workflow = None)]
    #[case::unreadable_workflow(|facts: &mut Facts| facts.workflow = Some(json!({"spec": 1})))]
    #[case::workflow_on_its_way_out(|facts: &mut Facts| stamp(&mut facts.workflow, "deletionTimestamp", "2026-11-22T11:00:00Z"))]
    #[case::pod_of_the_workflow_before(|facts: &mut Facts| {
        stamp(&mut facts.workflow, "creationTimestamp", "2026-11-22T11:00:01Z");
        stamp(&mut facts.pod, "creationTimestamp", "2026-11-22T11:00:00Z");
    })]
    fn what_is_not_known_keeps_it_closed(#[case] forget: fn(&mut Facts)) {
        let mut facts = facts(json!({"allow": ["Exec"], "until": "2026-11-22T13:00:00Z"}));
        assert_eq!(refused("exec", &facts, "open"), None);
        forget(&mut facts);
        assert!(refused("exec", &facts, "open").is_some());
    }

    fn stamp(object: &mut Option<Value>, field: &str, time: &str) {
        *object = object
            .take()
            .map(|object| set(object, &format!("/metadata/{field}"), json!(time)));
    }

    #[rstest]
    #[case::plain(json!({}), 0)]
    #[case::literal(json!({"env": [{"name": "A", "value": "b"}]}), 0)]
    #[case::of_the_pod(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}), 0)]
    #[case::config_map(json!({"envFrom": [{"prefix": "A_", "configMapRef": {"name": "c"}}]}), 0)]
    #[case::secret(json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}), 1)]
    #[case::all_of_a_secret(json!({"envFrom": [{"secretRef": {"name": "s"}}]}), 1)]
    #[case::newer_than_us(json!({"env": [{"name": "A", "valueFrom": {"vaultRef": {}}}]}), 1)]
    fn what_is_put_into_a_pod_reads_no_secret(#[case] container: Value, #[case] refused: usize) {
        let pod = |containers: Value| json!({"metadata": {"name": "p"}, "spec": {"ephemeralContainers": containers}});
        let found = |old: Value, new: Value| {
            let mut violations = Vec::new();
            check_containers(
                &review("UPDATE", "", "Pod", Some(&pod(new)), Some(&pod(old))),
                &mut violations,
            );
            violations.len()
        };
        assert_eq!(found(Value::Null, json!([container])), refused);
        assert_eq!(
            found(json!([container]), json!([container])),
            0,
            "it stands already, and cannot be changed"
        );
    }

    #[test]
    fn a_window_that_nobody_reviewed_is_closed() {
        let open = facts(json!({"allow": ["Exec"], "until": "2026-11-22T13:00:00Z"}));
        let session = Session::of(&connect("exec")).unwrap();
        let stored = set(open.workflow.clone().unwrap(), "/metadata/generation", json!(2));
        let of = |workflow: &Value| Facts {
            workflow: Some(workflow.clone()),
            ..open.clone()
        };
        let found = session.check(&of(&stored), "open").unwrap();
        assert!(found.message.contains("NotReviewed"), "{found:?}");
        let record = json!({"reviewed": {"generation": 2, "registrationUID": "any"}});
        assert_eq!(session.check(&of(&set(stored, "/status", record)), "open"), None);
    }

    #[rstest]
    #[case::alone("p", true)]
    #[case::port("p:80", true)]
    #[case::named_port("p:http", true)]
    #[case::scheme("https:p:8443", true)]
    #[case::no_port("http:p:", true)]
    #[case::too_many("http:p:80:1", false)]
    #[case::no_name(":80", false)]
    fn a_proxy_names_its_pod_by_scheme_and_port_too(#[case] name: &str, #[case] is_read: bool) {
        let mut proxy = connect("proxy");
        proxy.request["name"] = json!(name);
        let pod = Session::of(&proxy).ok().map(|session| session.pod.name);
        assert_eq!(pod.as_deref(), is_read.then_some("p"));
        let mut exec = connect("exec");
        exec.request["name"] = json!(name);
        assert_eq!(Session::of(&exec).is_ok(), name == "p");
    }

    #[rstest]
    #[case::newer_way_in("", "pods", "newer")]
    #[case::service("", "services", "proxy")]
    #[case::another_group("example.com", "pods", "exec")]
    fn an_unknown_way_in_is_a_fault(#[case] group: &str, #[case] resource: &str, #[case] subresource: &str) {
        let mut review = connect(subresource);
        review.resource.group = group.into();
        review.resource.resource = resource.into();
        assert!(Session::of(&review).is_err());
    }
}
