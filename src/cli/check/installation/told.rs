//! What an installation's parts, as the API server has them, say of it. Pure.
//!
//! Must never: call good what could not be read, or quote a key or a certificate.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use x509_parser::{pem::Pem, prelude::FromDer as _, prelude::X509Certificate};

use super::certificate::Looked;
use crate::{
    cli::check::told::{State, Told, condition, has_condition, or_good},
    plan::{name_of, rendered_guard, rendered_webhooks, webhooks_of},
};

/// Webhooks that the chart registers under the name of the release, each of which fails closed.
pub(super) const WEBHOOKS: [&str; 10] = [
    "accounts.ringfence.dev",
    "fence.ringfence.dev",
    "kinds.ringfence.dev",
    "label-enforced.ringfence.dev",
    "label.ringfence.dev",
    "modes.ringfence.dev",
    "network-policies.ringfence.dev",
    "services.ringfence.dev",
    "token-secrets.ringfence.dev",
    "tokens.ringfence.dev",
];
/// The oldest minor version of Kubernetes 1 that has all that Ringfence asks for: `kubeVersion` of the chart.
pub(super) const OLDEST: u32 = 31;

const INSTALL: &str = "helm upgrade --install the chart of this version";
/// A CA is made anew long before this.
const NEAR: i64 = 30 * 24 * 3600;
/// A leaf is renewed long before this: the same as the alert.
const LATE: i64 = 21 * 24 * 3600;
pub(super) const PUT_BACK: &str = "wait some seconds: the replica that makes fences puts it back, and its log says why where it cannot; else helm upgrade the release";
/// Clocks differ.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Of the API server's version, as `/version` has it.
pub(super) fn version(version: &Value) -> Vec<Told> {
    let check = "version";
    let number = |field: &str| {
        let text = version.get(field).and_then(Value::as_str).unwrap_or_default();
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok()
    };
    let said = version
        .get("gitVersion")
        .and_then(Value::as_str)
        .unwrap_or("no version");
    vec![match (number("major"), number("minor")) {
        (Some(1), Some(minor)) if minor >= OLDEST => Told::good(check, format!("Kubernetes {said}")),
        (Some(1), Some(_)) => Told::error(
            check,
            format!("this cluster is Kubernetes {said}, which is too old: Ringfence needs 1.{OLDEST} or newer"),
            format!("upgrade the cluster to 1.{OLDEST} or newer"),
        ),
        _ => Told::new(
            check,
            State::Warning,
            format!("this cluster says that it is {said}, which Ringfence does not know"),
            format!("Ringfence is made for Kubernetes 1.{OLDEST} or newer"),
        ),
    }]
}

/// Of one of our definitions.
pub(super) fn definition(wanted: &Value, found: Option<&Value>) -> Vec<Told> {
    let check = "definitions";
    let name = name_of(wanted);
    let Some(found) = found else {
        return vec![Told::error(
            check,
            format!("CustomResourceDefinition {name} is not there"),
            INSTALL,
        )];
    };
    let mut told = Vec::new();
    let versions = |definition: &Value| {
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let said = |one: &Value| json!({"name": one["name"], "served": one["served"], "schema": one["schema"]});
        json!(versions.into_iter().flatten().map(said).collect::<Vec<_>>())
    };
    let is_same = alike(&versions(found), &versions(wanted));
    if !is_same {
        told.push(Told::error(
            check,
            format!(
                "CustomResourceDefinition {name} is of another version of Ringfence than this binary, or was edited"
            ),
            format!("{INSTALL}, or use the binary of the version that is installed"),
        ));
    }
    if !has_condition(found, "Established") {
        told.push(Told::error(
            check,
            format!("CustomResourceDefinition {name} is not established: the API server does not serve it"),
            format!("see its conditions: kubectl describe crd {name}"),
        ));
    }
    told
}

/// The API server writes 1 where the definition says 1.0.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| alike(value, other)))
        }
        _ => a == b,
    }
}

/// Of the registration of the webhooks that the chart makes, and of what it trusts.
pub(super) fn registration(found: Option<&Value>, now: Timestamp) -> Vec<Told> {
    let (check, fix) = (
        "registrations",
        "helm upgrade the release, and see the log of Ringfence's pods",
    );
    let Some(found) = found else {
        let message =
            "ValidatingWebhookConfiguration ringfence is not there: nothing is asked about, and everything passes";
        return vec![Told::error(check, message, "helm upgrade the release")];
    };
    let webhooks = found
        .get("webhooks")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut told = Vec::new();
    let mut bundles = BTreeSet::new();
    for name in WEBHOOKS {
        let Some(webhook) = webhooks.iter().find(|webhook| webhook["name"] == name) else {
            told.push(Told::error(
                check,
                format!(
                    "ValidatingWebhookConfiguration ringfence has no webhook {name}: what it is for passes unasked"
                ),
                fix,
            ));
            continue;
        };
        if webhook["failurePolicy"] != "Fail" {
            told.push(Told::error(
                check,
                format!(
                    "webhook {name} has another failurePolicy than Fail: while no replica answers, everything passes"
                ),
                fix,
            ));
        }
        match webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) {
            Some(bundle) if !bundle.is_empty() => drop(bundles.insert(bundle)),
            _ => told.push(Told::error(
                "certificate",
                format!("webhook {name} has no caBundle: the API server trusts nobody there, and refuses all that it asks about"),
                "wait until a replica is ready, and see the log of Ringfence's pods: one writes it within seconds",
            )),
        }
    }
    let told = or_good(told, check, "ten webhooks are registered, and fail closed");
    told.into_iter()
        .chain(bundles.into_iter().flat_map(|bundle| certificate(bundle, now)))
        .collect()
}

/// Of what the API server trusts.
fn certificate(bundle: &str, now: Timestamp) -> Vec<Told> {
    let check = "certificate";
    let broken = || {
        let fix = "delete Secret ringfence-webhook-tls in the release namespace: a replica makes a new certificate";
        vec![Told::error(
            check,
            "a caBundle holds no certificate that can be read",
            fix,
        )]
    };
    let Ok(ByteString(pem)) = serde_json::from_value(json!(bundle)) else {
        return broken();
    };
    let mut ends = Vec::new();
    for block in Pem::iter_from_buffer(&pem) {
        let Ok(block) = block else { return broken() };
        let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else {
            return broken();
        };
        ends.push(certificate.validity().not_after.timestamp());
    }
    // Of an old and a new one the newer counts.
    let Some(end) = ends.into_iter().max() else {
        return broken();
    };
    let day = Timestamp::from_second(end)
        .map(|end| end.to_string())
        .unwrap_or_default();
    let left = end.saturating_sub(now.as_second());
    let fix = "restart Ringfence's pods, and see their log: they renew it themselves, long before its end";
    vec![match left {
        ..=0 => Told::error(check, format!("what the API server trusts ended at {day}"), fix),
        1..NEAR => Told::new(
            check,
            State::Warning,
            format!("what the API server trusts ends at {day}"),
            fix,
        ),
        _ => Told::good(check, format!("what the API server trusts ends at {day}")),
    }]
}

/// Of the certificate itself: what is served, where that could be seen, and what its Secret holds, where that could be read.
pub(super) fn served(
    name: &str,
    secret: &str,
    served: Option<Looked>,
    held: Option<Looked>,
    now: Timestamp,
) -> Vec<Told> {
    let check = "certificate";
    let bad = |what: String| {
        let fix = "see /readyz of Ringfence's pods and their log; a certificate of Ringfence's own is made anew where its Secret is deleted";
        vec![Told::error(check, what, fix)]
    };
    let said = match (served, held) {
        (Some(Err(why)), _) => return bad(format!("what {name} serves {why}")),
        (_, Some(Err(why))) => return bad(format!("tls.crt of Secret {secret} {why}")),
        (Some(Ok(served)), Some(Ok(held))) if !served.is(&held) => {
            return vec![Told::new(
                check,
                State::Warning,
                format!("{name} serves another certificate than Secret {secret} holds"),
                "wait a minute: replicas take it up by themselves; if it stays so, see /readyz of Ringfence's pods",
            )];
        }
        (Some(Ok(served)), Some(Ok(_))) => (
            served,
            format!("{name} serves what Secret {secret} holds, and is trusted"),
        ),
        (Some(Ok(served)), None) => (
            served,
            format!("what {name} serves is trusted, and Secret {secret} may not be read"),
        ),
        (None, Some(Ok(held))) => (
            held,
            format!(
                "what Secret {secret} holds is for {name} and trusted; whether it is served cannot be seen from here, and replicas that serve another are not ready"
            ),
        ),
        (None, None) => {
            return vec![Told::new(
                check,
                State::Warning,
                format!(
                    "the certificate could not be looked at: {name} cannot be reached from here, and Secret {secret} may not be read"
                ),
                "run helm test, whose pod reaches it; that the API server trusts it is said of webhook",
            )];
        }
    };
    let (found, what) = said;
    let end = Timestamp::from_second(found.ends)
        .map(|end| end.to_string())
        .unwrap_or_default();
    if found.ends.saturating_sub(now.as_second()) < LATE {
        return vec![Told::new(
            check,
            State::Warning,
            format!("{what}, and ends at {end}"),
            "Ringfence renews its own long before: see the log of its pods; another one is renewed by whoever issued it",
        )];
    }
    vec![Told::good(check, format!("{what}, until {end}"))]
}

/// Of the webhooks of the chart's registration: what of them is otherwise than the chart rendered. Names fields, and never what they hold.
pub(super) fn compared_registration(rendered: Option<&Value>, stored: &Value) -> Vec<Told> {
    let Some(rendered) = rendered else {
        return vec![unrendered(
            "registrations",
            "ValidatingWebhookConfiguration",
            super::super::REGISTRATION,
        )];
    };
    let name = |webhook: &Value| webhook["name"].as_str().unwrap_or_default().to_owned();
    let wanted = rendered_webhooks(rendered, stored);
    let mut told = Vec::new();
    for stored in webhooks_of(stored) {
        let Some(wanted) = wanted.iter().find(|wanted| wanted["name"] == stored["name"]) else {
            let message = format!("a webhook {} is registered that the chart does not have", name(stored));
            told.push(Told::error("registrations", message, PUT_BACK));
            continue;
        };
        let fields = differing(wanted, stored);
        // That one is said already.
        let fields: Vec<&str> = fields.into_iter().filter(|field| *field != "failurePolicy").collect();
        if !fields.is_empty() {
            let message = format!(
                "webhook {} has other {} than the chart rendered",
                name(stored),
                fields.join(", ")
            );
            told.push(Told::error("registrations", message, PUT_BACK));
        }
    }
    told
}

/// The same of a guard's policy or binding.
pub(super) fn compared_guard(kind: &str, name: &str, rendered: Option<&Value>, stored: &Value) -> Vec<Told> {
    let Some(rendered) = rendered else {
        return vec![unrendered("guards", kind, name)];
    };
    let wanted = rendered_guard(rendered);
    let fields = differing(&wanted, &stored["spec"]);
    if fields.is_empty() {
        return Vec::new();
    }
    let message = format!("{kind} {name} has other {} than the chart rendered", fields.join(", "));
    vec![Told::error("guards", message, PUT_BACK)]
}

/// Of what is there, and not in the ConfigMap of what the chart rendered, or no JSON there.
fn unrendered(check: &'static str, kind: &str, name: &str) -> Told {
    let message = format!(
        "ConfigMap ringfence-registrations does not say what {kind} {name} is like: whether it was edited is not known, and it is not put back"
    );
    Told::new(check, State::Warning, message, "helm upgrade the release")
}

/// Fields that are not the same in both, each once.
fn differing<'a>(one: &'a Value, other: &'a Value) -> Vec<&'a str> {
    let fields = [one, other]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(|object| object.keys());
    let fields: BTreeSet<&str> = fields.map(String::as_str).collect();
    fields
        .into_iter()
        .filter(|field| one.get(field) != other.get(field))
        .collect()
}

/// Of a guard: its policy and its binding.
pub(super) fn guard(name: &str, policy: Option<&Value>, binding: Option<&Value>) -> Vec<Told> {
    let said = |message: String| vec![Told::error("guards", message, "helm upgrade the release")];
    let (Some(policy), Some(binding)) = (policy, binding) else {
        return said(format!(
            "ValidatingAdmissionPolicy {name} or its binding is not there: what it guards can be changed by everybody"
        ));
    };
    let actions = binding.pointer("/spec/validationActions").and_then(Value::as_array);
    let denies = actions.is_some_and(|actions| actions.iter().any(|action| action == "Deny"));
    if policy
        .pointer("/spec/failurePolicy")
        .is_none_or(|found| found != "Fail")
        || !denies
    {
        return said(format!(
            "ValidatingAdmissionPolicy {name} does not refuse: it, or its binding, was edited"
        ));
    }
    Vec::new()
}

/// Of the pods: the Deployment.
pub(super) fn replicas(found: Option<&Value>, namespace: &str) -> Vec<Told> {
    let check = "replicas";
    let Some(found) = found else {
        return vec![Told::error(
            check,
            format!("Deployment ringfence is not in namespace {namespace}"),
            "name the namespace of the release by --release-namespace, or install it",
        )];
    };
    let number = |pointer: &str| found.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let (wanted, ready) = (number("/spec/replicas"), number("/status/readyReplicas"));
    let fix = format!("see why: kubectl -n {namespace} get pods, and /readyz of a pod says what it waits for");
    vec![match (wanted, ready) {
        (0, _) => Told::new(
            check,
            State::Warning,
            "the Deployment has no replicas: Ringfence runs outside the cluster, or nowhere",
            "set replicaCount, unless webhook.url.host leads to one",
        ),
        (_, 0) => Told::error(
            check,
            format!("none of {wanted} replicas is ready: fenced namespaces refuse everything"),
            fix,
        ),
        _ if ready < wanted => Told::new(
            check,
            State::Warning,
            format!("{ready} of {wanted} replicas are ready"),
            fix,
        ),
        _ => Told::good(check, format!("{ready} of {wanted} replicas are ready")),
    }]
}

/// Of who makes the fences: the Lease.
pub(super) fn leader(found: Option<&Value>, now: Timestamp) -> Vec<Told> {
    let check = "leader";
    let text = |pointer: &str| found?.pointer(pointer)?.as_str();
    let seconds = found.and_then(|lease| lease.pointer("/spec/leaseDurationSeconds")?.as_i64());
    let renewed = text("/spec/renewTime").and_then(|time| time.parse::<Timestamp>().ok());
    let holder = text("/spec/holderIdentity").filter(|holder| !holder.is_empty());
    let lasts = SignedDuration::from_secs(seconds.unwrap_or_default());
    let is_held = renewed.is_some_and(|at| now.duration_since(at) < lasts.saturating_add(SKEW));
    vec![match holder {
        Some(holder) if is_held => Told::good(check, format!("{holder} makes the fences")),
        _ => Told::error(
            check,
            "nobody holds Lease ringfence: no replica makes fences, or puts back what others change",
            "see the log of Ringfence's pods: each says why it cannot take the Lease",
        ),
    }]
}

/// Of the RegoPolicies.
pub(super) fn policies(list: &Value) -> Vec<Told> {
    let check = "policies";
    let items = list
        .get("items")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut told = Vec::new();
    for policy in items {
        let name = policy
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // What does not compile is not enforced either: once is enough.
        let mut broken = ["Compiled", "Enforced"].into_iter().filter_map(|type_| {
            let found = condition(policy, type_).filter(|found| found["status"] == "False")?;
            Some((type_, found["message"].as_str().unwrap_or_default()))
        });
        if let Some((type_, message)) = broken.next() {
            told.push(Told::new(
                check,
                State::Warning,
                format!("RegoPolicy {name} is not {}: {message}", type_.to_lowercase()),
                format!("kubectl describe regopolicy {name}"),
            ));
        }
    }
    or_good(
        told,
        check,
        &format!("{} RegoPolicies, none of them broken", items.len()),
    )
}

/// Of a dry run that the webhook must refuse.
pub(super) fn probe(code: u16, message: &str, namespace: &str) -> Vec<Told> {
    let check = "webhook";
    let is_ours = message.contains(".ringfence.dev\"");
    vec![match code {
        _ if is_ours && message.contains("denied the request: ringfence refused") => {
            Told::good(check, "it answers the API server, which trusts it")
        }
        _ if is_ours && message.contains("failed calling webhook") && message.contains("x509") => Told::error(
            check,
            format!("the API server does not trust it: {message}"),
            "wait a minute: a replica writes caBundle; if it stays so, see the log of Ringfence's pods",
        ),
        _ if is_ours && message.contains("failed calling webhook") => Told::error(
            check,
            format!("the API server cannot ask it: {message}"),
            "see that replicas are ready, and that firewalls and NetworkPolicies let the API server reach their port 9443",
        ),
        200..300 => Told::error(
            check,
            format!(
                "a labelled object in namespace {namespace}, which has no mode, would have passed: nobody was asked"
            ),
            "see what is said of registrations; after an install they take some seconds until the API server knows them",
        ),
        _ => Told::new(
            check,
            State::Unknown,
            format!("the dry run ended before it was asked: {message}"),
            format!(
                "this takes the right to create configmaps in namespace {namespace}, or in another one by --probe-namespace"
            ),
        ),
    }]
}

#[cfg(test)]
mod tests;
