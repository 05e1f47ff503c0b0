//! What all registrations together answer to one request: each webhook that the API server would ask, and its decision.
//!
//! For who reviews without a cluster. Must never: judge by anything else than what the webhooks judge by, or ask one that the chart's
//! registrations do not ask.

use serde_json::Value;
use tokio::time::Instant;

use super::Webhook;
use super::admit::{Admission, within};
use crate::api::{ENFORCE_LABEL, FailurePolicy, GROUP, WORKFLOW_LABEL, is_dns_label, is_exempt_kind};
use crate::fence::{Binding, Door, modes};
use crate::review::{Decision, Fault, Operation, Review};

/// What one webhook answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The webhook: one of the fixed ones, or `policies/` and which of the registration of RegoPolicies.
    pub webhook: String,
    /// Its decision.
    pub decision: Decision,
}

/// Kinds that the webhook `fence` asks about, by group.
const FENCED: [(&str, &[&str]); 3] = [
    ("", &["pods", "podtemplates", "replicationcontrollers"]),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
    ),
    ("batch", &["cronjobs", "jobs"]),
];

impl Admission {
    /// What every webhook that is asked about a request answers.
    pub async fn every(&self, review: &Review, deadline: Instant) -> Vec<Answer> {
        let mut answers = Vec::new();
        match within(deadline, self.asked(review)).await {
            Ok(webhooks) => {
                for webhook in webhooks {
                    let decided = self.decide(webhook, review, deadline).await;
                    answers.push(Answer {
                        webhook: webhook.as_str().to_owned(),
                        decision: decided.unwrap_or_else(Decision::from_fault),
                    });
                }
            }
            Err(fault) => answers.push(failed("fence", fault)),
        }
        match self.every_registered(review, deadline).await {
            Ok(registered) => answers.extend(registered.into_iter().map(|(id, decision)| Answer {
                webhook: format!("policies/{id}"),
                decision: Decision {
                    fails_open: id.failure == FailurePolicy::Ignore,
                    ..decision
                },
            })),
            Err(fault) => answers.push(failed("policies", fault)),
        }
        answers
    }

    /// The webhooks of fixed paths that are asked.
    async fn asked(&self, review: &Review) -> Result<Vec<Webhook>, super::lookup::LookupError> {
        let resource = (review.resource.group.as_str(), review.resource.resource.as_str());
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if review.resource.group == GROUP {
            let is_asked = writes && review.subresource.is_empty();
            return Ok(is_asked.then_some(Webhook::Kinds).into_iter().collect());
        }
        if review.is_of_namespace() {
            let sets = !modes::settings(review).is_empty() && !self.is_exempt(review.name());
            return Ok(sets.then_some(Webhook::Modes).into_iter().collect());
        }
        // In every namespace, exempt ones too. What cannot be read is the webhook's to say.
        let is_binding = resource.0 == "rbac.authorization.k8s.io"
            && ["rolebindings", "clusterrolebindings"].contains(&resource.1)
            && !matches!(Binding::of(review), Ok(None));
        let mut asked = Vec::from_iter((writes && is_binding).then_some(Webhook::Bindings));
        if review.namespace.as_deref().is_some_and(|name| self.is_exempt(name)) {
            return Ok(asked);
        }
        let is_door = !matches!(Door::of(review), Ok(None)) && review.operation != Operation::Delete;
        let is_fenced = FENCED
            .iter()
            .any(|(group, resources)| *group == resource.0 && resources.contains(&resource.1));
        let of_fence = match review.operation {
            Operation::Connect => {
                let ways = ["attach", "exec", "portforward", "proxy"];
                resource == ("", "pods") && ways.contains(&review.subresource.as_str())
            }
            Operation::Create | Operation::Update => {
                let is_of_pod = ["ephemeralcontainers", "resize"].contains(&review.subresource.as_str());
                is_fenced && (review.subresource.is_empty() || resource == ("", "pods") && is_of_pod)
            }
            Operation::Delete => false,
        };
        let is_labelled = [review.object(), review.old_object()]
            .into_iter()
            .flatten()
            .any(|object| label(object).is_some());
        let is_object = review.namespace.is_some() && review.subresource.is_empty();
        let of_label = writes && is_object && is_labelled && !is_never_asked(resource.0, resource.1);
        if !of_fence && !of_label && !is_door {
            return Ok(asked);
        }
        let namespace = review.namespace.clone().filter(|name| is_dns_label(name));
        let namespace = match namespace {
            Some(name) => self.namespace_with_classes(Some(name)).await?.0,
            None => None,
        };
        let is_enforced = namespace.is_some_and(|namespace| {
            let labels = namespace.pointer("/metadata/labels");
            labels.is_some_and(|labels| labels.get(ENFORCE_LABEL).is_some())
        });
        let by_fence = (of_fence || is_door) && is_enforced;
        asked.extend(by_fence.then_some(Webhook::Fence));
        // Of what makes pods, one webhook asks.
        let by_label = of_label && !(of_fence && is_enforced);
        asked.extend(by_label.then_some(Webhook::Label));
        Ok(asked)
    }
}

/// What the webhook `label` never asks about: heartbeats and records, and what a network plugin writes down of each pod, labels included.
fn is_never_asked(group: &str, resource: &str) -> bool {
    let of_cilium = ["ciliumendpoints", "ciliumendpointslices", "ciliumidentities", "podinfo"];
    matches!(group, "" | "events.k8s.io" | "coordination.k8s.io") && is_exempt_kind(group, resource)
        || group == "cilium.io" && of_cilium.contains(&resource)
        || (group, resource) == ("kuma.io", "dataplanes")
}

fn label(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("labels")?.get(WORKFLOW_LABEL)
}

fn failed(webhook: &str, fault: Fault) -> Answer {
    Answer {
        webhook: webhook.to_owned(),
        decision: Decision::from_fault(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_pods_are_never_asked_about_and_policies_of_plugins_are() {
        for (group, resource) in [
            ("", "events"),
            ("cilium.io", "ciliumidentities"),
            ("cilium.io", "podinfo"),
            ("kuma.io", "dataplanes"),
        ] {
            assert!(is_never_asked(group, resource), "{resource}.{group}");
        }
        for (group, resource) in [
            ("cilium.io", "ciliumnetworkpolicies"),
            ("kuma.io", "meshes"),
            ("", "pods"),
        ] {
            assert!(!is_never_asked(group, resource), "{resource}.{group}");
        }
    }
}
