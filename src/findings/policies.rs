//! What somebody else made and that opens something: NetworkPolicies add up, so one of them opens what no AIWorkflow declares; and
//! Services and policies of other kinds that admission would refuse.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};

use super::{Finding, Origin, Owners, Place, Severity};
use crate::plan::Child;
use crate::review::Violation;

/// Rule of these findings.
pub(super) const RULE: &str = "foreign-network-policy";
/// Rule of Services that open something.
pub(super) const SERVICE: &str = "closed-service";

/// A NetworkPolicy that opens something, or what else would be refused because it does.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    place: Place,
    opens: Opens,
    /// Label selector of pods; `None` where it selects none of the namespace.
    selector: Option<Value>,
    /// Whose it says it is.
    origin: Option<Origin>,
    /// How much of the fence it opens: pods that it selects, and peers.
    width: (bool, bool),
}

#[derive(Clone, Debug, PartialEq)]
enum Opens {
    /// A NetworkPolicy: `ingress`, `egress`, or both.
    Direction(&'static str),
    /// What admission says of it.
    Refused(Vec<Violation>),
}

impl Foreign {
    /// Reads a NetworkPolicy, whoever made it. `None` where it opens nothing.
    pub fn of(namespace: &str, policy: Map<String, Value>) -> Option<Self> {
        let policy = Value::Object(policy);
        let spec = policy.get("spec").unwrap_or(&Value::Null);
        let opens = match (opens(spec, "ingress", "Ingress"), opens(spec, "egress", "Egress")) {
            (true, true) => "ingress and egress",
            (true, false) => "ingress",
            (false, true) => "egress",
            (false, false) => return None,
        };
        Some(Self {
            place: Place {
                namespace: namespace.to_owned(),
                kind: "NetworkPolicy".to_owned(),
                name: crate::plan::name_of(&policy).to_owned(),
                workflow: None,
            },
            opens: Opens::Direction(opens),
            width: (
                selects(spec.get("podSelector").unwrap_or(&Value::Null), None),
                is_open_to_all(spec),
            ),
            selector: Some(spec.get("podSelector").cloned().unwrap_or_default()),
            origin: Origin::of("NetworkPolicy", &policy),
        })
    }

    /// A Service, or a policy of another kind, of which admission says that. `None` where it says nothing.
    pub fn refused(place: Place, object: &Value, violations: Vec<Violation>) -> Option<Self> {
        let selector = match place.kind.as_str() {
            // Without labels nobody is behind it but whom somebody else puts there.
            "Service" => object.pointer("/spec/selector").filter(|labels| !is_empty(labels)),
            // How it selects, its own engine knows.
            _ => Some(&Value::Null),
        };
        // Of these kinds Ringfence makes one alone.
        let made = Child::CiliumNetworkPolicy.kind();
        let origin = (place.kind == made).then(|| Origin::of(made, object)).flatten();
        (!violations.is_empty()).then(|| Self {
            selector: selector.map(|labels| json!({"matchLabels": labels})),
            place,
            opens: Opens::Refused(violations),
            origin,
            width: (true, true),
        })
    }

    /// What is kept of it, in memory.
    pub fn weight(&self) -> usize {
        self.selector.as_ref().map_or(0, crate::review::weight)
    }

    /// Whether one of these made it: then it is Ringfence's, and foreign to nobody.
    pub fn is_made_by(&self, owners: &Owners) -> bool {
        self.origin.as_ref().is_some_and(|origin| owners.made(origin))
    }

    /// What a NetworkPolicy opens: `ingress`, `egress`, or both.
    pub const fn opens(&self) -> &'static str {
        match self.opens {
            Opens::Direction(opens) => opens,
            Opens::Refused(_) => "",
        }
    }

    /// Puts what opens the most first: whoever adds many small ones hides no wide one behind them.
    pub fn widest_first(policies: &mut [Self]) {
        policies.sort_by_key(|policy| Reverse(policy.width));
    }

    /// Whether it is about pods with these labels.
    pub fn selects(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object);
        self.selector.as_ref().is_some_and(|selector| selects(selector, labels))
    }

    /// What to say of it: about a workflow whose pods it selects, or about none.
    pub fn findings(&self, workflow: Option<&str>) -> Vec<Finding> {
        let place = Place {
            workflow: workflow.map(str::to_owned),
            ..self.place.clone()
        };
        let opens = match &self.opens {
            Opens::Direction(opens) => *opens,
            Opens::Refused(violations) => {
                let found = violations.iter().cloned();
                return found
                    .map(|violation| place.finding(violation, Severity::Error))
                    .collect();
            }
        };
        let (whose, severity) = match workflow {
            Some(workflow) => (format!("pods of AIWorkflow {workflow}"), Severity::Error),
            None => ("the pods that it selects".to_owned(), Severity::Warning),
        };
        let violation = Violation {
            policy: RULE.to_owned(),
            path: format!("spec.{}", if opens == "egress" { "egress" } else { "ingress" }),
            value: None,
            message: format!("is not Ringfence's and opens {opens} for {whose}, beside what is declared"),
            fix: "declare what it opens in spec.network of the AIWorkflow, and delete it".to_owned(),
        };
        vec![place.finding(violation, severity)]
    }
}

fn is_empty(labels: &Value) -> bool {
    labels.is_null() || labels.as_object().is_some_and(Map::is_empty)
}

/// Whether a direction has any rule: one rule opens something, whatever it says; a direction without a rule is closed.
fn opens(spec: &Value, rules: &str, type_: &str) -> bool {
    let has_rules = match spec.get(rules) {
        None | Some(Value::Null) => false,
        Some(Value::Array(rules)) => !rules.is_empty(),
        // What cannot be read may open anything.
        Some(_) => true,
    };
    let applies = match spec.get("policyTypes") {
        Some(Value::Array(types)) if !types.is_empty() => types.iter().any(|named| named == type_),
        _ => true,
    };
    has_rules && applies
}

/// Whether a rule of either direction names no peer, and so opens to everybody. One that cannot be read may.
fn is_open_to_all(spec: &Value) -> bool {
    [("ingress", "from"), ("egress", "to")]
        .into_iter()
        .any(|(rules, peers)| {
            let rules = spec.get(rules).and_then(Value::as_array);
            let mut rules = rules.into_iter().flatten();
            rules.any(|rule| rule.get(peers).and_then(Value::as_array).is_none_or(Vec::is_empty))
        })
}

/// Whether a label selector selects. One that cannot be read may select anything.
fn selects(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let value_of = |key: &str| labels.and_then(|labels| labels.get(key));
    let wanted = match selector.get("matchLabels") {
        None | Some(Value::Null) => true,
        Some(Value::Object(wanted)) => wanted.iter().all(|(key, value)| value_of(key) == Some(value)),
        Some(_) => true,
    };
    let required = |requirement: &Value| {
        let key = requirement.get("key").and_then(Value::as_str).unwrap_or_default();
        let values = requirement.get("values").and_then(Value::as_array);
        let is_among = value_of(key).is_some_and(|value| values.is_some_and(|values| values.contains(value)));
        match requirement.get("operator").and_then(Value::as_str) {
            Some("In") => is_among,
            Some("NotIn") => !is_among,
            Some("Exists") => value_of(key).is_some(),
            Some("DoesNotExist") => value_of(key).is_none(),
            _ => true,
        }
    };
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    wanted && expressions.into_iter().flatten().all(required)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn of(spec: Value) -> Option<Foreign> {
        let policy = json!({"metadata": {"name": "np"}, "spec": spec});
        Foreign::of("ai", policy.as_object().unwrap().clone())
    }

    #[rstest]
    #[case::everything(json!({"podSelector": {}, "ingress": [{}], "egress": [{}]}), Some("ingress and egress"))]
    #[case::one_peer(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}), Some("egress"))]
    #[case::default_deny(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), None)]
    #[case::empty_lists(json!({"podSelector": {}, "ingress": [], "egress": []}), None)]
    #[case::egress_rules_without_their_type(json!({"policyTypes": ["Ingress"], "egress": [{}]}), None)]
    #[case::of_another_type(json!({"ingress": {}}), Some("ingress"))]
    #[case::no_spec(Value::Null, None)]
    fn a_policy_is_foreign_when_it_opens_something(#[case] spec: Value, #[case] opens: Option<&str>) {
        assert_eq!(of(spec).map(|foreign| foreign.opens()), opens);
    }

    #[test]
    fn the_widest_come_first() {
        let narrow = json!({"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
        let wide = json!({"podSelector": {}, "egress": [{}]});
        let mut policies = vec![of(narrow.clone()).unwrap(), of(wide.clone()).unwrap()];
        Foreign::widest_first(&mut policies);
        assert_eq!(policies, [of(wide).unwrap(), of(narrow).unwrap()]);
    }

    #[rstest]
    #[case::all(json!({}), true)]
    #[case::label(json!({"matchLabels": {"app": "a"}}), true)]
    #[case::other_value(json!({"matchLabels": {"app": "b"}}), false)]
    #[case::absent(json!({"matchLabels": {"x": "a"}}), false)]
    #[case::among(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}), true)]
    #[case::not_among(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}), false)]
    #[case::not_among_when_absent(json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["a"]}]}), true)]
    #[case::exists(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true)]
    #[case::does_not_exist(json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false)]
    #[case::both(json!({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}), false)]
    #[case::operator_newer_than_us(json!({"matchExpressions": [{"key": "x", "operator": "Gt", "values": ["1"]}]}), true)]
    #[case::of_another_type(json!({"matchLabels": ["app"]}), true)]
    fn selectors_select_as_kubernetes_says(#[case] selector: Value, #[case] expected: bool) {
        let foreign = of(json!({"podSelector": selector, "ingress": [{}]})).unwrap();
        assert_eq!(foreign.selects(Some(&json!({"app": "a"}))), expected);
    }

    #[test]
    fn what_selects_all_selects_what_has_no_labels() {
        let foreign = of(json!({"podSelector": {}, "ingress": [{}]})).unwrap();
        assert!(foreign.selects(None));
    }

    #[rstest]
    #[case::labels("Service", json!({"app": "a"}), true)]
    #[case::other_labels("Service", json!({"app": "b"}), false)]
    #[case::selects_nothing("Service", json!({}), false)]
    #[case::without_a_selector("Service", Value::Null, false)]
    #[case::of_another_type("Service", json!("app"), true)]
    #[case::policy_of_another_engine("CiliumNetworkPolicy", json!({"app": "b"}), true)]
    fn what_is_refused_is_about_the_pods_that_it_may_select(
        #[case] kind: &str,
        #[case] selector: Value,
        #[case] expected: bool,
    ) {
        let place = Place {
            namespace: "ai".to_owned(),
            kind: kind.to_owned(),
            name: "x".to_owned(),
            workflow: None,
        };
        let object = json!({"spec": {"selector": selector}});
        assert_eq!(Foreign::refused(place.clone(), &object, Vec::new()), None);
        let violation = Violation {
            policy: "closed-service".to_owned(),
            path: "spec.type".to_owned(),
            value: None,
            message: "opens".to_owned(),
            fix: "close".to_owned(),
        };
        let foreign = Foreign::refused(place, &object, vec![violation]).unwrap();
        assert_eq!(foreign.selects(Some(&json!({"app": "a"}))), expected);
        let found = foreign.findings(Some("triage"));
        assert_eq!((found.len(), found[0].severity), (1, Severity::Error));
        assert_eq!(found[0].workflow.as_deref(), Some("triage"));
    }
}
