//! What leads traffic to a namespace beside its NetworkPolicies and Services: routes, which open nothing by themselves, and endpoints that
//! no built-in controller keeps; and policies of the whole cluster, which only the platform writes.

use serde_json::Value;

use super::{Finding, Place, Severity, policies};
use crate::review::Violation;

/// Rule of routes.
const ROUTE: &str = "exposed-route";
/// Rule of endpoints, as admission has it.
const ENDPOINTS: &str = "foreign-endpoints";

/// Something that leads traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct Leading(Place);

impl Leading {
    /// Reads an object, of which its metadata is enough. Without a namespace it is a policy of the cluster.
    pub fn of(namespace: &str, kind: &str, object: &Value) -> Self {
        Self(Place {
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            name: crate::plan::name_of(object).to_owned(),
            workflow: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What to say of it.
    pub fn finding(&self) -> Finding {
        let (rule, path, severity, message, fix) = match self.0.kind.as_str() {
            _ if self.0.namespace.is_empty() => (
                policies::RULE,
                "",
                Severity::Warning,
                "is of the whole cluster and may overrule every NetworkPolicy: what it lets through, no AIWorkflow declares",
                "see that it lets nothing through for pods with the label ringfence.dev/workflow",
            ),
            "EndpointSlice" => (
                ENDPOINTS,
                "metadata.name",
                Severity::Error,
                "says where traffic of a Service goes, and no built-in controller keeps it",
                "delete it, and give the Service a selector",
            ),
            "ReferenceGrant" => (
                ROUTE,
                "",
                Severity::Warning,
                "lets routes of other namespaces lead to this one; their proxy comes as far as spec.network.ingress lets it",
                "delete it, or declare the proxy in spec.network.ingress of the AIWorkflow",
            ),
            _ => (
                ROUTE,
                "",
                Severity::Warning,
                "leads traffic from elsewhere to Services here; its proxy comes as far as spec.network.ingress lets it",
                "delete it, or declare the proxy in spec.network.ingress of the AIWorkflow",
            ),
        };
        let violation = Violation {
            policy: rule.to_owned(),
            path: path.to_owned(),
            value: None,
            message: message.to_owned(),
            fix: fix.to_owned(),
        };
        self.0.finding(violation, severity)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::ingress("ai", "Ingress", ROUTE, Severity::Warning)]
    #[case::route("ai", "HTTPRoute", ROUTE, Severity::Warning)]
    #[case::grant("ai", "ReferenceGrant", ROUTE, Severity::Warning)]
    #[case::endpoints("ai", "EndpointSlice", ENDPOINTS, Severity::Error)]
    #[case::of_the_cluster("", "AdminNetworkPolicy", policies::RULE, Severity::Warning)]
    fn what_leads_traffic_is_told(
        #[case] namespace: &str,
        #[case] kind: &str,
        #[case] rule: &str,
        #[case] severity: Severity,
    ) {
        let leading = Leading::of(namespace, kind, &json!({"metadata": {"name": "x"}}));
        let found = leading.finding();
        assert_eq!(
            (found.rule.as_str(), found.severity, leading.name()),
            (rule, severity, "x")
        );
        assert!(!found.message.is_empty() && !found.fix.is_empty());
    }
}
