//! Declarations as they stand and as they would be. Of launchers, images, Secrets, debug windows and what else the webhook reads of them no
//! object is made: only here is their change seen.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{super::manifests::API_VERSION, compare::Difference};
use crate::api::{AIWorkflowSpec, Condition, ConditionStatus, ConditionType, GROUP, find};

/// What the input replaces; `None` where there is nothing yet.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// By namespace and name. What is not among them stays as it is.
    pub(super) workflows: BTreeMap<(String, String), Option<AIWorkflowSpec>>,
    /// Labels of namespaces.
    pub(super) labels: BTreeMap<String, Option<BTreeMap<String, String>>>,
}

/// Which declaration it is.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) kind: &'static str,
    /// `None` where it is of the cluster.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

/// A condition as it is, and as it would be.
pub(super) type Worse<'a> = (&'a Condition, &'a Condition);

/// The conditions that would be worse.
pub(super) fn worse<'a>(before: &'a [Condition], after: &'a [Condition]) -> Vec<Worse<'a>> {
    let kept = ConditionType::ALL.into_iter().filter_map(|type_| {
        let (was, is) = (find(before, type_)?, find(after, type_)?);
        // The one that tells of a danger.
        let wanted = match type_ {
            ConditionType::DnsExfiltration => ConditionStatus::False,
            _ => ConditionStatus::True,
        };
        (was.status == wanted && is.status != wanted).then_some((was, is))
    });
    kept.collect()
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(formatter, "{namespace}/")?;
        }
        formatter.write_str(&self.name)
    }
}

impl Named {
    /// How a declaration differs, if it does.
    pub(super) fn differs<S: PartialEq + Serialize>(
        &self,
        before: Option<&S>,
        after: &S,
        worse: &[Worse<'_>],
    ) -> Result<Option<Difference>> {
        if before == Some(after) && worse.is_empty() {
            return Ok(None);
        }
        let (were, are): (Vec<_>, Vec<_>) = worse.iter().map(|(was, is)| (short(was), short(is))).unzip();
        let shown = |spec: &S, conditions: Vec<Value>| -> Result<Value> {
            let mut metadata = Map::from_iter([("name".to_owned(), json!(self.name))]);
            metadata.extend(
                self.namespace
                    .iter()
                    .map(|namespace| ("namespace".to_owned(), json!(namespace))),
            );
            let mut object = Map::from_iter([
                ("apiVersion".to_owned(), json!(API_VERSION)),
                ("kind".to_owned(), json!(self.kind)),
                ("metadata".to_owned(), Value::Object(metadata)),
                ("spec".to_owned(), serde_json::to_value(spec)?),
            ]);
            if !conditions.is_empty() {
                object.insert("status".to_owned(), json!({"conditions": conditions}));
            }
            Ok(Value::Object(object))
        };
        let before = before.map(|spec| shown(spec, were)).transpose()?;
        let after = shown(after, are)?;
        Ok(Some(Difference {
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            before,
            after: Some(after),
        }))
    }
}

fn short(condition: &Condition) -> Value {
    json!({"type": condition.type_, "status": condition.status, "reason": condition.reason})
}

/// How a namespace differs by its labels: which of them name a mode or a class, and which are selected by, is for whoever reads it.
pub(super) fn labels(
    name: &str,
    before: Option<&BTreeMap<String, String>>,
    after: &BTreeMap<String, String>,
) -> Option<Difference> {
    let shown = |labels: &BTreeMap<String, String>| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    (before != Some(after)).then(|| Difference {
        kind: "Namespace",
        namespace: None,
        name: name.to_owned(),
        before: before.map(shown),
        after: Some(shown(after)),
    })
}

/// Labels of ours that a namespace has and the input has not, which a diff takes to stay. Whether applying takes them away hangs on what was
/// applied before, and on who applies: that is for whoever reads it.
pub(super) fn kept(
    name: &str,
    before: &BTreeMap<String, String>,
    declared: &BTreeMap<String, String>,
) -> Option<String> {
    let is_ours = |label: &str| label.split_once('/').is_some_and(|(group, _)| group == GROUP);
    let kept = before
        .iter()
        .filter(|(label, _)| is_ours(label) && !declared.contains_key(*label));
    let kept: Vec<_> = kept.map(|(label, value)| format!("{label}={value}")).collect();
    (!kept.is_empty()).then(|| {
        format!(
            "Namespace {name}: labels that the input does not have are taken to stay: {}. Where they were applied from a file, applying this one takes them away: write them into it, or compare with `kubectl diff`",
            kept.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::Reason;

    fn condition(type_: ConditionType, status: ConditionStatus) -> Condition {
        Condition {
            type_: type_.as_str().to_owned(),
            status,
            observed_generation: None,
            last_transition_time: String::new(),
            reason: Reason::OutsideClass.as_str().to_owned(),
            message: "words".to_owned(),
        }
    }

    #[rstest]
    #[case::refused(ConditionType::Accepted, ConditionStatus::True, ConditionStatus::False, true)]
    #[case::unknown(ConditionType::ResolvedRefs, ConditionStatus::True, ConditionStatus::Unknown, true)]
    #[case::accepted(ConditionType::Accepted, ConditionStatus::False, ConditionStatus::True, false)]
    #[case::as_before(ConditionType::Programmed, ConditionStatus::False, ConditionStatus::False, false)]
    #[case::a_way_out(ConditionType::DnsExfiltration, ConditionStatus::False, ConditionStatus::True, true)]
    #[case::no_way_out(ConditionType::DnsExfiltration, ConditionStatus::True, ConditionStatus::False, false)]
    fn a_condition_that_becomes_worse_is_told(
        #[case] type_: ConditionType,
        #[case] was: ConditionStatus,
        #[case] is: ConditionStatus,
        #[case] told: bool,
    ) {
        let (before, after) = ([condition(type_, was)], [condition(type_, is)]);
        let worse = worse(&before, &after);
        assert_eq!(!worse.is_empty(), told);
        let named = Named {
            kind: "AIWorkflow",
            namespace: Some("ai".to_owned()),
            name: "x".to_owned(),
        };
        let found = named.differs(Some(&1), &1, &worse).unwrap();
        assert_eq!(found.is_some(), told);
        let Some(found) = found else { return };
        let shown = |status| {
            json!({
                "apiVersion": API_VERSION, "kind": "AIWorkflow", "metadata": {"name": "x", "namespace": "ai"}, "spec": 1,
                "status": {"conditions": [{"type": type_.as_str(), "status": status, "reason": "OutsideClass"}]},
            })
        };
        assert_eq!((found.before, found.after), (Some(shown(was)), Some(shown(is))));
    }

    #[rstest]
    #[case::the_same(&[("ringfence.dev/enforce", "gold")], None)]
    #[case::another_value(&[("ringfence.dev/enforce", "tin")], None)]
    #[case::without(&[("team", "ml")], Some("stay: ringfence.dev/enforce=gold. Where"))]
    #[case::another_mode(&[("ringfence.dev/warn", "gold")], Some("stay: ringfence.dev/enforce=gold. Where"))]
    fn labels_of_ours_that_an_input_lacks_are_told(#[case] declared: &[(&str, &str)], #[case] expected: Option<&str>) {
        let map = |labels: &[(&str, &str)]| {
            let labels = labels
                .iter()
                .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
            labels.collect::<BTreeMap<_, _>>()
        };
        let before = map(&[
            ("ringfence.dev/enforce", "gold"),
            ("kubernetes.io/metadata.name", "ai"),
            ("ringfence.device/x", "y"),
        ]);
        let told = kept("ai", &before, &map(declared));
        assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
        if let (Some(told), Some(expected)) = (told, expected) {
            assert!(told.starts_with("Namespace ai: ") && told.contains(expected), "{told}");
        }
    }

    #[test]
    fn what_is_declared_for_the_first_time_differs() {
        let named = Named {
            kind: "AIWorkflowClass",
            namespace: None,
            name: "gold".to_owned(),
        };
        let found = named.clone().differs(None, &1, &[]).unwrap().unwrap();
        assert_eq!(found.before, None);
        assert_eq!(
            found.after.unwrap(),
            json!({"apiVersion": API_VERSION, "kind": "AIWorkflowClass", "metadata": {"name": "gold"}, "spec": 1})
        );
        assert_eq!(named.differs(Some(&1), &1, &[]).unwrap(), None);
    }
}
