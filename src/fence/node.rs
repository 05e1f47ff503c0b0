//! Promise 2, the node: no NetworkPolicy stands between a pod and its own node, nor before what the node sends. So a pod does not
//! pick its node past the scheduler or where a taint keeps others away, does not keep other namespaces' pods off its node, does not have
//! the node dial for it, and runs in no runtime and with no rank that the class leaves to others.
//!
//! Must never: judge what the scheduler or the API server wrote into a pod that is there.

use std::collections::HashSet;

use serde_json::Value;

use super::object::{at, is_full, shown, type_of, violation};
use super::template::{CONTAINERS, Template};
use crate::api::AIWorkflowClass;
use crate::plan::shape::listed;
use crate::review::Violation;

const NODE: &str = "pod-node";
const DIAL: &str = "node-dials";

/// Taints of Kubernetes' own conditions: its controllers tolerate them for pods of any kind.
const CONDITIONS: &str = "node.kubernetes.io/";
/// But for this one, which they tolerate for pods on the node's own network alone: others would run where no NetworkPolicy is in force yet.
const NO_NETWORK: &str = "node.kubernetes.io/network-unavailable";
/// What Kubernetes' own parts rank by: nobody else may name a class so.
const SYSTEM_PRIORITY: &str = "system-";
/// Checks a pod or a template. `before` is the pod as it was.
pub(super) fn check(
    template: &Template<'_>,
    before: Option<&Value>,
    namespace: &str,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
    violations: &mut Vec<Violation>,
) {
    let nodes = class.and_then(|class| class.spec.nodes.as_ref());
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    let taints = nodes.map_or(&[][..], |nodes| &nodes.taints);
    let before_spec = before.and_then(|pod| pod.get("spec"));
    check_tolerations(template.path, spec, before_spec, (class_name, taints), violations);
    if before.is_some() {
        return;
    }
    let there = |field: &str| spec.get(field).filter(|value| !value.is_null() && *value != "");
    let mut refuse = |field: &str, value: &Value, message: String, fix: String| {
        let path = at(template.path, &format!("spec.{field}"));
        violations.push(violation(NODE, path, value.as_str(), message, fix));
    };
    if let Some(value) = there("runtimeClassName") {
        let allowed = nodes.map_or(&[][..], |nodes| &nodes.runtime_classes);
        if !value
            .as_str()
            .is_some_and(|name| allowed.iter().any(|allowed| allowed == name))
        {
            let message = format!(
                "is not among the RuntimeClasses that AIWorkflowClass {class_name} allows: {}",
                listed(allowed)
            );
            let fix = format!(
                "leave it out, or ask the platform team to add it to spec.nodes.runtimeClasses of AIWorkflowClass {class_name}"
            );
            refuse("runtimeClassName", value, message, fix);
        }
    }
    if let Some(value) = there("priorityClassName")
        && value.as_str().is_none_or(|name| name.starts_with(SYSTEM_PRIORITY))
    {
        let message = "is the rank of the cluster's own parts, which other pods are put off their nodes for".to_owned();
        refuse(
            "priorityClassName",
            value,
            message,
            "name another PriorityClass, or none".to_owned(),
        );
    }
    check_affinity(template.path, spec, namespace, violations);
    check_dials(template.path, spec, violations);
}

/// Checks whom a pod wants no company of. The scheduler heeds it both ways: while such a pod is on a node, none of those that it names
/// comes there, whoever they belong to. With one on each node nobody's replica would find a place, Ringfence's own included.
fn check_affinity(path: &str, spec: &Value, namespace: &str, violations: &mut Vec<Violation>) {
    let anti = spec.pointer("/affinity/podAntiAffinity").and_then(Value::as_object);
    // Only a wish is heeded one way; whatever else is required one day is called like this too.
    let lists = anti
        .into_iter()
        .flatten()
        .filter(|(field, _)| field.starts_with("required"));
    for (field, terms) in lists {
        for (index, term) in terms.as_array().into_iter().flatten().enumerate() {
            if is_full(violations) {
                return;
            }
            let is_own = match term.get("namespaces") {
                None | Some(Value::Null) => true,
                Some(Value::Array(names)) => names.iter().all(|name| name == namespace),
                Some(_) => false,
            };
            let is_none = term.get("namespaceSelector").is_none_or(Value::is_null);
            for (reach, is_allowed) in [("namespaces", is_own), ("namespaceSelector", is_none)] {
                if !is_allowed {
                    let path = at(
                        path,
                        &format!("spec.affinity.podAntiAffinity.{}[{index}].{reach}", shown(field)),
                    );
                    let message = "keeps pods of other namespaces off whatever node it runs on";
                    let fix = "leave it out: without it the term is about pods of its own namespace";
                    violations.push(violation(NODE, path, None, message, fix));
                }
            }
        }
    }
}

/// Checks that a pod that is being made leaves the choice of its node to the scheduler.
pub(super) fn check_name(template: &Template<'_>) -> Option<Violation> {
    let name = template.pod.pointer("/spec/nodeName")?;
    if name.is_null() || name == "" {
        return None;
    }
    let message = "picks its node past the scheduler, and so past taints and what is left free";
    let fix = "leave it out; say by nodeSelector or affinity what kind of node it needs";
    Some(violation(
        NODE,
        at(template.path, "spec.nodeName"),
        name.as_str(),
        message,
        fix,
    ))
}

fn check_tolerations(
    path: &str,
    spec: &Value,
    before: Option<&Value>,
    (class_name, allowed): (&str, &[String]),
    violations: &mut Vec<Violation>,
) {
    let path = at(path, "spec.tolerations");
    let tolerations = match spec.get("tolerations") {
        None | Some(Value::Null) => return,
        Some(Value::Array(tolerations)) => tolerations,
        other => {
            let message = format!("must be a list, and is {}", type_of(other));
            violations.push(violation(NODE, path, None, message, "list each toleration"));
            return;
        }
    };
    let before = before
        .and_then(|spec| spec.get("tolerations"))
        .and_then(Value::as_array);
    // Both lists may be long.
    let before: HashSet<_> = before.into_iter().flatten().collect();
    for (index, toleration) in tolerations.iter().enumerate() {
        if is_full(violations) {
            return;
        }
        if before.contains(toleration) {
            continue;
        }
        // Without a key it tolerates every taint there is.
        let key = toleration.get("key").and_then(Value::as_str).unwrap_or_default();
        let is_condition = key.starts_with(CONDITIONS) && key != NO_NETWORK;
        if is_condition || allowed.iter().any(|allowed| allowed == key) {
            continue;
        }
        let what = if key.is_empty() {
            "tolerates every taint"
        } else {
            "tolerates a taint"
        };
        let message = format!(
            "{what}, and may so run on nodes that others are kept off; AIWorkflowClass {class_name} allows: {}",
            listed(allowed)
        );
        let fix = format!(
            "leave it out, or ask the platform team to add the taint's key to spec.nodes.taints of AIWorkflowClass {class_name}"
        );
        violations.push(violation(NODE, format!("{path}[{index}].key"), Some(key), message, fix));
    }
}

/// Checks probes and hooks: the node sends them, and not to whom the pod would like.
fn check_dials(path: &str, spec: &Value, violations: &mut Vec<Violation>) {
    for list in CONTAINERS {
        let containers = spec.get(list).and_then(Value::as_array);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let path = at(path, &format!("spec.{list}[{index}]"));
            // Whatever else the node is made to send one day is called like this too.
            let fields = container.as_object().into_iter().flatten();
            for (field, handler) in fields.filter(|(field, _)| field.ends_with("Probe")) {
                check_handler(&format!("{path}.{}", shown(field)), handler, violations);
            }
            let hooks = container.get("lifecycle").and_then(Value::as_object);
            for (hook, handler) in hooks.into_iter().flatten() {
                check_handler(&format!("{path}.lifecycle.{}", shown(hook)), handler, violations);
            }
        }
    }
}

fn check_handler(path: &str, handler: &Value, violations: &mut Vec<Violation>) {
    for (action, request) in handler.as_object().into_iter().flatten() {
        if is_full(violations) {
            return;
        }
        let host = request.get("host").filter(|host| !host.is_null() && *host != "");
        if let Some(host) = host {
            let message = "has the node send a request to another host than the pod, past every NetworkPolicy";
            let path = format!("{path}.{}.host", shown(action));
            let fix = "remove host: the pod's own address is the default; for a name use the header Host";
            violations.push(violation(DIAL, path, host.as_str(), message, fix));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::AIWorkflowClassSpec;

    fn class(nodes: Value) -> AIWorkflowClass {
        let spec = serde_json::from_value::<AIWorkflowClassSpec>(json!({"nodes": nodes}));
        AIWorkflowClass::new("c", spec.unwrap())
    }

    fn judged(spec: Value, before: Option<Value>, class: Option<&AIWorkflowClass>) -> Vec<(String, String)> {
        let pod = json!({"spec": spec});
        let before = before.map(|spec| json!({"spec": spec}));
        let template = Template {
            path: "spec.template",
            pod: &pod,
        };
        let mut violations = Vec::new();
        check(&template, before.as_ref(), "ai", ("c", class), &mut violations);
        violations.extend(check_name(&template));
        let found = violations.into_iter();
        found
            .map(|found| (found.policy, found.path.replace("spec.template.spec.", "")))
            .collect()
    }

    fn toleration(key: &str) -> Value {
        json!({"tolerations": [{"key": key, "operator": "Exists"}]})
    }

    #[rstest]
    #[case::condition(toleration("node.kubernetes.io/not-ready"), None)]
    #[case::no_network(toleration("node.kubernetes.io/network-unavailable"), Some("tolerations[0].key"))]
    #[case::listed(toleration("nvidia.com/gpu"), None)]
    #[case::longer_than_listed(toleration("nvidia.com/gpu-x"), Some("tolerations[0].key"))]
    #[case::control_plane(toleration("node-role.kubernetes.io/control-plane"), Some("tolerations[0].key"))]
    #[case::empty(toleration(""), Some("tolerations[0].key"))]
    #[case::everything(json!({"tolerations": [{"operator": "Exists"}]}), Some("tolerations[0].key"))]
    #[case::no_list(json!({"tolerations": {"operator": "Exists"}}), Some("tolerations"))]
    #[case::no_object(json!({"tolerations": ["all"]}), Some("tolerations[0].key"))]
    #[case::runtime_that_is_listed(json!({"runtimeClassName": "gvisor"}), None)]
    #[case::another_runtime(json!({"runtimeClassName": "bare"}), Some("runtimeClassName"))]
    #[case::runtime_of_another_type(json!({"runtimeClassName": ["gvisor"]}), Some("runtimeClassName"))]
    #[case::no_runtime(json!({"runtimeClassName": null}), None)]
    #[case::system_rank(json!({"priorityClassName": "system-node-critical"}), Some("priorityClassName"))]
    #[case::rank_of_another_type(json!({"priorityClassName": {}}), Some("priorityClassName"))]
    #[case::another_rank(json!({"priorityClassName": "batch"}), None)]
    #[case::no_rank(json!({"priorityClassName": ""}), None)]
    #[case::node(json!({"nodeName": "n1"}), Some("nodeName"))]
    #[case::node_of_another_type(json!({"nodeName": ["n1"]}), Some("nodeName"))]
    #[case::no_node(json!({"nodeName": ""}), None)]
    fn a_pod_is_where_the_scheduler_and_the_class_let_it(#[case] spec: Value, #[case] refused: Option<&str>) {
        let class = class(json!({"runtimeClasses": ["gvisor"], "taints": ["nvidia.com/gpu"]}));
        let wanted: Vec<_> = refused
            .map(|path| (NODE.to_owned(), path.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(judged(spec, None, Some(&class)), wanted);
    }

    fn apart(term: &Value) -> Value {
        let mut term = term.clone();
        term["topologyKey"] = json!("kubernetes.io/hostname");
        json!([{"topologyKey": "zone"}, term])
    }

    #[rstest]
    #[case::its_own(json!({"labelSelector": {}}), None)]
    #[case::its_own_by_name(json!({"labelSelector": {}, "namespaces": ["ai"]}), None)]
    #[case::its_own_in_other_words(json!({"namespaces": [], "namespaceSelector": null}), None)]
    #[case::another(json!({"namespaces": ["ai", "ringfence-system"]}), Some("namespaces"))]
    #[case::every(json!({"namespaceSelector": {}}), Some("namespaceSelector"))]
    #[case::labelled(json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}), Some("namespaceSelector"))]
    #[case::of_another_type(json!({"namespaces": "ringfence-system"}), Some("namespaces"))]
    fn nobody_elses_pods_are_kept_off_a_node(#[case] term: Value, #[case] refused: Option<&str>) {
        for required in [
            "requiredDuringSchedulingIgnoredDuringExecution",
            "requiredDuringSchedulingRequiredDuringExecution",
        ] {
            let spec = json!({"affinity": {"podAntiAffinity": {required: apart(&term)}}});
            let path = |field| {
                (
                    NODE.to_owned(),
                    format!("affinity.podAntiAffinity.{required}[1].{field}"),
                )
            };
            let wanted: Vec<_> = refused.map(path).into_iter().collect();
            assert_eq!(judged(spec, None, None), wanted);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        let wish = json!([{"weight": 1, "podAffinityTerm": term}]);
        let company = json!({"requiredDuringSchedulingIgnoredDuringExecution": apart(&term)});
        let spec = json!({"affinity": {"podAntiAffinity": {preferred: wish}, "podAffinity": company}});
        assert_eq!(judged(spec, None, None), [], "neither keeps anybody away");
    }

    #[test]
    fn a_class_that_says_nothing_or_cannot_be_read_allows_none() {
        let silent = AIWorkflowClass::new("c", AIWorkflowClassSpec::default());
        let spec = json!({"runtimeClassName": "gvisor", "tolerations": [{"key": "nvidia.com/gpu"}]});
        for class in [None, Some(&silent)] {
            assert_eq!(judged(spec.clone(), None, class).len(), 2);
        }
    }

    #[test]
    fn of_a_pod_that_is_there_only_what_it_comes_to_tolerate_is_judged() {
        let had = json!({"tolerations": [{"key": "a"}], "runtimeClassName": "bare", "containers": [
            {"livenessProbe": {"httpGet": {"host": "h"}}},
        ]});
        assert_eq!(judged(had.clone(), Some(had.clone()), None), []);
        let mut has = had.clone();
        has["tolerations"] = json!([{"key": "a"}, {"key": "b"}]);
        assert_eq!(
            judged(has, Some(had), None),
            [(NODE.to_owned(), "tolerations[1].key".to_owned())]
        );
    }

    #[rstest]
    #[case::get(json!({"livenessProbe": {"httpGet": {"host": "169.254.169.254"}}}), "livenessProbe.httpGet.host")]
    #[case::connection(json!({"startupProbe": {"tcpSocket": {"host": "127.0.0.1"}}}), "startupProbe.tcpSocket.host")]
    #[case::readiness(json!({"readinessProbe": {"httpGet": {"host": "::1"}}}), "readinessProbe.httpGet.host")]
    #[case::hook(json!({"lifecycle": {"preStop": {"httpGet": {"host": "evil.example"}}}}), "lifecycle.preStop.httpGet.host")]
    #[case::first_hook(json!({"lifecycle": {"postStart": {"tcpSocket": {"host": "h"}}}}), "lifecycle.postStart.tcpSocket.host")]
    #[case::no_text(json!({"livenessProbe": {"httpGet": {"host": ["h"]}}}), "livenessProbe.httpGet.host")]
    #[case::newer_than_us(json!({"restartProbe": {"udpSocket": {"host": "h"}}}), "restartProbe.udpSocket.host")]
    fn the_node_dials_nobody_for_a_pod(#[case] container: Value, #[case] path: &str) {
        for list in CONTAINERS {
            let found = judged(json!({list: [{"name": "first"}, container]}), None, None);
            assert_eq!(found, [(DIAL.to_owned(), format!("{list}[1].{path}"))]);
        }
    }

    #[rstest]
    #[case::own(json!({"livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "Host", "value": "a"}]}}}))]
    #[case::empty(json!({"livenessProbe": {"httpGet": {"port": 80, "host": ""}}}))]
    #[case::command(json!({"lifecycle": {"preStop": {"exec": {"command": ["a"]}}}}))]
    #[case::other_types(json!({"livenessProbe": [], "lifecycle": "x"}))]
    fn it_asks_the_pod_itself(#[case] container: Value) {
        assert_eq!(judged(json!({"containers": [container]}), None, None), []);
    }
}
