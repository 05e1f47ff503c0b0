//! The doors of an enforced namespace beside its pods: requests that make no pod, and would let somebody be a workflow, or reach one.
//!
//! Must never: let pass a request that a registration of ours asks about and no rule here knows.

use serde_json::Value;

use super::facts::{Facts, Named, read};
use super::object::violation;
use super::{accounts, reach};
use crate::api::{AIWorkflowClass, Mode, is_dns_label};
use crate::plan::NamespaceFacts;
use crate::review::{Operation, Review, Violation};

/// Rule of what is in no namespace that is there.
const APPROVED: &str = "approved-namespace";

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Account,
    Endpoints,
    NetworkPolicy,
    OtherPolicy,
    Proxy,
    Secret,
    Service,
    TokenRequest,
}

/// Groups of network plugins whose policies of a namespace may overrule NetworkPolicies.
const POLICY_GROUPS: [&str; 9] = [
    "cilium.io",
    "crd.antrea.io",
    "crd.nsx.vmware.com",
    "crd.projectcalico.org",
    "networking.gke.io",
    "networking.k8s.aws",
    "nsx.vmware.com",
    "projectcalico.org",
    "vpcresources.k8s.aws",
];

/// A request at a door.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    review: &'a Review,
    kind: Kind,
    object: &'a Value,
    old: Option<&'a Value>,
    /// The namespace that it is in.
    pub namespace: &'a str,
}

impl<'a> Door<'a> {
    /// Reads a request. `Ok(None)` where it is about something else; `Err` where a review lacks what every review of its operation has.
    pub fn of(review: &'a Review) -> Result<Option<Self>, &'static str> {
        let resource = (
            review.resource.group.as_str(),
            review.resource.resource.as_str(),
            review.subresource.as_str(),
        );
        let kind = match resource {
            ("", "serviceaccounts", "") => Kind::Account,
            ("", "serviceaccounts", "token") => Kind::TokenRequest,
            ("", "secrets", "") => Kind::Secret,
            ("", "services", "") => Kind::Service,
            ("", "services", "proxy") => Kind::Proxy,
            ("", "endpoints", "") | ("discovery.k8s.io", "endpointslices", "") => Kind::Endpoints,
            ("networking.k8s.io", "networkpolicies", "") => Kind::NetworkPolicy,
            (group, _, "") if POLICY_GROUPS.contains(&group) => Kind::OtherPolicy,
            _ => return Ok(None),
        };
        let is_judged = match review.operation {
            Operation::Connect => kind == Kind::Proxy,
            Operation::Create | Operation::Update => kind != Kind::Proxy,
            Operation::Delete => false,
        };
        if !is_judged {
            return Err("this Ringfence does not judge that operation: its registrations are of another version");
        }
        let old = review.before()?;
        let namespace = review.namespace.as_deref().filter(|name| is_dns_label(name));
        Ok(Some(Self {
            review,
            kind,
            object: review.object().ok_or("the review holds no object")?,
            old,
            namespace: namespace.ok_or("the review names no namespace")?,
        }))
    }

    /// The account whose AIWorkflow must be asked for.
    pub fn claimed(&self) -> Option<Named> {
        (self.kind == Kind::Account)
            .then(|| accounts::claimed(self.review))
            .flatten()
    }

    /// The modes to judge for, each with its class.
    ///
    /// # Errors
    /// What is refused where nothing is known of the namespace.
    pub fn modes(&self, facts: &Facts, exempt: impl Fn(&str) -> bool) -> Result<Vec<(Mode, String)>, Box<Violation>> {
        let namespace = facts.namespace.as_ref();
        let namespace = namespace.and_then(|object| NamespaceFacts::from_object(object, exempt));
        namespace.map(|namespace| namespace.modes()).ok_or_else(|| {
            let message = "there is no namespace of that name";
            let fix = "see kubectl get namespaces";
            Box::new(violation(
                APPROVED,
                "metadata.namespace",
                Some(self.namespace),
                message,
                fix,
            ))
        })
    }

    /// What is refused, for that class.
    pub fn check(&self, facts: &Facts, class_name: &str) -> Vec<Violation> {
        match self.kind {
            Kind::TokenRequest => accounts::check_token_request(self.review),
            Kind::Secret => accounts::check_secret(self.object, self.old),
            Kind::Service => reach::check_service(self.object, self.old),
            Kind::Endpoints => reach::check_endpoints(self.review),
            Kind::NetworkPolicy => reach::check_network_policy(self.object, self.old, self.namespace),
            Kind::OtherPolicy => reach::check_other_policy(self.review, self.object, self.old),
            Kind::Proxy => reach::check_proxy(self.review),
            Kind::Account => {
                let class = facts.class(class_name);
                let class = class
                    .map(|object| read::<AIWorkflowClass>("cloud-identity", "AIWorkflowClass", class_name, object));
                match class.transpose() {
                    Ok(class) => {
                        accounts::check_account(self.object, self.old, facts.workflow.as_ref(), class.as_ref())
                    }
                    Err(violation) => vec![violation],
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
