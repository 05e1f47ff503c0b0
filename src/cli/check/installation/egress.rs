//! What the egress proxy's parts, as the API server has them, say of it. Pure.
//!
//! Must never: call it missing where nobody needs it, or there where nobody answers for it.

use serde_json::Value;

use crate::{
    api::Reason,
    cli::check::told::{State, Told, condition},
    plan::{EGRESS_PROXY, text_at},
};

const CHECK: &str = "egress";
/// Most AIWorkflows that are named.
const MAX_NAMED: usize = 3;
const INSTALL: &str = "helm upgrade the release with egress.enabled=true, or declare cidrs in place of domains";

/// Of AIWorkflows: those that say that their domains are closed for want of a proxy. And whether that were all there are.
pub(super) fn closed(workflows: &[Value], is_whole: bool) -> Vec<Told> {
    let is_closed = |workflow: &&Value| {
        condition(workflow, "Programmed").is_some_and(|found| found["reason"] == Reason::NoEgressProxy.as_str())
    };
    let named = workflows.iter().filter(is_closed).map(|workflow| {
        let [namespace, name] = ["/metadata/namespace", "/metadata/name"].map(|field| text_at(workflow, field));
        format!("{namespace}/{name}")
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return match is_whole {
            true => vec![Told::good(CHECK, "it is not installed, and no AIWorkflow waits for it")],
            false => vec![Told::new(
                CHECK,
                State::Unknown,
                "it is not installed, and there are more AIWorkflows than are looked at",
                "look for them: kubectl get aiworkflows -A, those with NoEgressProxy",
            )],
        };
    }
    let more = named.len().saturating_sub(MAX_NAMED);
    let mut shown = named.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    let message = format!("it is not installed, and the domains that AIWorkflows declare stay closed: {shown}");
    vec![Told::new(CHECK, State::Warning, message, INSTALL)]
}

/// Of its Deployment and its Service, one of which is there, and of the Service's EndpointSlices.
pub(super) fn replicas(
    deployment: Option<&Value>,
    service: Option<&Value>,
    slices: &Value,
    namespace: &str,
) -> Vec<Told> {
    let closed = "declared domains are closed";
    let (Some(deployment), Some(_)) = (deployment, service) else {
        let (missing, other) = match deployment {
            None => ("Deployment", "Service"),
            Some(_) => ("Service", "Deployment"),
        };
        let message = format!("{missing} {EGRESS_PROXY} is not there, and its {other} is: {closed}");
        return vec![Told::error(CHECK, message, "helm upgrade the release")];
    };
    let wanted = deployment
        .pointer("/spec/replicas")
        .and_then(Value::as_u64)
        .unwrap_or(1);
    let ready = ready(slices);
    let fix = format!(
        "see why: kubectl -n {namespace} get pods -l app.kubernetes.io/component=egress, and /readyz of a pod says what it waits for"
    );
    let message = format!("{ready} of {wanted} replicas of the proxy are ready");
    vec![match (wanted, ready) {
        (0, 0) => Told::new(
            CHECK,
            State::Warning,
            format!("Deployment {EGRESS_PROXY} has no replicas: {closed}"),
            "set egress.replicas, or switch egress.enabled off",
        ),
        (_, 0) => Told::error(
            CHECK,
            format!("none of {wanted} replicas of the proxy is ready: {closed}"),
            fix,
        ),
        _ if ready < wanted => Told::new(CHECK, State::Warning, message, fix),
        _ => Told::good(CHECK, message),
    }]
}

/// Pods that connections go to. A pod of two families is in a slice for each.
fn ready(slices: &Value) -> u64 {
    let slices = slices["items"].as_array().into_iter().flatten();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false)));
    let pods: std::collections::BTreeSet<_> = ready
        .filter_map(|endpoint| endpoint.pointer("/targetRef/name")?.as_str())
        .collect();
    pods.len() as u64
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn one(told: &[Told]) -> (&'static str, &str) {
        let [one] = told else { panic!("{told:?}") };
        assert_eq!(one.state == State::Good, one.fix.is_empty(), "what to do: {one:?}");
        (one.state.as_str(), &one.message)
    }

    fn workflow(name: &str, reason: &str) -> Value {
        let programmed = json!({"type": "Programmed", "status": "False", "reason": reason});
        json!({"metadata": {"namespace": "ai", "name": name}, "status": {"conditions": [programmed]}})
    }

    #[test]
    fn who_waits_for_a_proxy_is_named() {
        let others = vec![workflow("a", "AboveCeiling"), json!({"metadata": {"name": "new"}})];
        assert_eq!(one(&closed(&others, true)).0, "ok");
        assert_eq!(one(&closed(&others, false)).0, "unknown");
        let waiting: Vec<_> = (0..5)
            .map(|number| workflow(&format!("w{number}"), "NoEgressProxy"))
            .collect();
        let told = closed(&waiting, true);
        let (state, message) = one(&told);
        assert!(
            state == "warning" && message.ends_with("ai/w0, ai/w1, ai/w2 and 2 more"),
            "{state} {message}"
        );
    }

    #[rstest]
    #[case::all(2, &[("a", true), ("b", true)], "ok", "2 of 2")]
    #[case::both_families(1, &[("a", true), ("a", true)], "ok", "1 of 1")]
    #[case::one(2, &[("a", true), ("b", false)], "warning", "1 of 2")]
    #[case::none(2, &[("a", false)], "error", "none of 2")]
    #[case::nobody(2, &[], "error", "none of 2")]
    #[case::off(0, &[], "warning", "has no replicas")]
    fn replicas_are_those_that_connections_go_to(
        #[case] wanted: u64,
        #[case] endpoints: &[(&str, bool)],
        #[case] state: &str,
        #[case] says: &str,
    ) {
        let endpoint = |(name, ready): &(&str, bool)| json!({"conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}});
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        let slices = json!({"items": [{"endpoints": endpoints}, {"endpoints": null}]});
        let told = replicas(
            Some(&json!({"spec": {"replicas": wanted}})),
            Some(&json!({})),
            &slices,
            "ours",
        );
        let (found, message) = one(&told);
        assert!(found == state && message.contains(says), "{found} {message}");
    }

    #[test]
    fn half_of_it_is_named() {
        let there = json!({"spec": {"replicas": 2}});
        let told = replicas(None, Some(&there), &Value::Null, "ours");
        assert!(
            one(&told).1.starts_with("Deployment ringfence-egress is not there"),
            "{told:?}"
        );
        let told = replicas(Some(&there), None, &Value::Null, "ours");
        assert!(
            one(&told).1.starts_with("Service ringfence-egress is not there"),
            "{told:?}"
        );
    }
}
