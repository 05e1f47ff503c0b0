//! What the API server says when a Role would hold more than Ringfence may grant: read into words for people.
//!
//! The ceiling is Ringfence's own rights, and the API server alone compares with them. Must never: decide by this text; it only
//! explains a refusal.

use super::rules;
use crate::api::PolicyRule;

/// How the API server begins its refusal of a Role, or a binding, that would give more than its writer holds.
const REFUSAL: &str = "attempting to grant RBAC permissions not currently held";
/// Most rules that are spelled out; what is left is counted.
const MOST: usize = 16;
/// Longest value, in characters: what comes back is what somebody declared.
const LONGEST: usize = 253;

/// The message of a workflow or grant whose rights lie above the ceiling, from the API server's refusal; `None` where it refused for
/// another reason. `engine` is the shipped engine whose rules these may be.
pub fn above_ceiling(refusal: &str, engine: Option<&str>) -> Option<String> {
    let (_, listed) = refusal.split_once(REFUSAL)?;
    let missing: Vec<_> = listed.lines().filter_map(missing_rule).collect();
    let mut rules = missing.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
    if missing.len() > MOST {
        rules.push_str(&format!("; and {} more", missing.len() - MOST));
    }
    if rules.is_empty() {
        rules.push_str("at least one of its rules");
    }
    let engine = engine.map_or_else(String::new, |engine| {
        format!("; for what engine {engine} needs, set the chart's value ceiling.engines={{{engine}}}")
    });
    Some(format!(
        "above the ceiling, which is what Ringfence itself may grant: {rules}. Ask the platform team to label a ClusterRole that holds it ringfence.dev/aggregate-to-ceiling=true{engine}"
    ))
}

/// The rule of one line of the refusal, `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`, made compact.
fn missing_rule(line: &str) -> Option<String> {
    let rule = line.trim().strip_prefix('{')?;
    let field = |name: &str| -> Vec<String> {
        let list = rule
            .split_once(&format!("{name}:["))
            .and_then(|(_, rest)| rest.split_once(']'));
        let quoted = list.map_or("", |(list, _)| list).split('"').skip(1).step_by(2);
        quoted.map(|value| value.chars().take(LONGEST).collect()).collect()
    };
    let rule = PolicyRule {
        api_groups: field("APIGroups"),
        resources: field("Resources"),
        resource_names: field("ResourceNames"),
        verbs: field("Verbs"),
    };
    let says_something = !rule.api_groups.is_empty() && !rule.resources.is_empty() && !rule.verbs.is_empty();
    says_something.then(|| rules::compact(&rule))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// As an API server of 1.34 says it.
    fn refusal(rules: &[&str]) -> String {
        format!(
            "roles.rbac.authorization.k8s.io \"ringfence-x\" is forbidden: user \"system:serviceaccount:ringfence-system:ringfence\" (groups=[\"system:serviceaccounts\" \"system:authenticated\"]) is {REFUSAL}:\n{}",
            rules.join("\n")
        )
    }

    #[rstest]
    #[case::core(&[r#"{APIGroups:[""], Resources:["pods"], Verbs:["create" "patch" "delete"]}"#], "pods: create, patch, delete.")]
    #[case::group(&[r#"{APIGroups:["batch"], Resources:["jobs"], Verbs:["get"]}"#], "jobs.batch: get.")]
    #[case::named(&[r#"{APIGroups:[""], Resources:["configmaps"], ResourceNames:["a" "b"], Verbs:["update"]}"#], "configmaps named a, b: update.")]
    #[case::several(&[r#"{APIGroups:[""], Resources:["pods"], Verbs:["create"]}"#, r#"{APIGroups:["batch"], Resources:["jobs"], Verbs:["list"]}"#], "pods: create; jobs.batch: list.")]
    #[case::another_spelling(&["nothing that is known"], "at least one of its rules.")]
    fn each_missing_rule_is_named(#[case] rules: &[&str], #[case] expected: &str) {
        let said = above_ceiling(&refusal(rules), None).unwrap();
        assert!(said.contains(&format!(": {expected} Ask")), "{said}");
        assert!(said.contains("ringfence.dev/aggregate-to-ceiling=true"), "{said}");
        assert!(
            !said.contains('\n') && !said.contains("APIGroups") && !said.contains("ceiling.engines"),
            "{said}"
        );
    }

    #[test]
    fn the_value_of_the_chart_is_named_for_an_engine() {
        let said = above_ceiling(&refusal(&[]), Some("airflow")).unwrap();
        assert!(said.ends_with("ceiling.engines={airflow}"), "{said}");
    }

    #[test]
    fn a_long_refusal_stays_short() {
        let rule = format!(
            r#"{{APIGroups:[""], Resources:["{}"], Verbs:["get"]}}"#,
            "x".repeat(9_000)
        );
        let said = above_ceiling(&refusal(&vec![rule.as_str(); 90]), None).unwrap();
        assert!(said.contains("; and 74 more."), "{said}");
        assert!(said.len() < 5_000, "{}", said.len());
    }

    #[test]
    fn another_refusal_is_not_about_the_ceiling() {
        let denied = "roles.rbac.authorization.k8s.io is forbidden: admission webhook \"x\" denied the request";
        assert_eq!(above_ceiling(denied, Some("airflow")), None);
    }
}
