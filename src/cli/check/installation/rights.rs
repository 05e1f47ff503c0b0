//! What Ringfence's own account may not do, of what the chart gives it. Pure.
//!
//! The rules are those of the chart, read from its own template, but for those that depend on its values: whose Secret holds the
//! certificate. Must never: ask about a right that the chart does not give.

use serde_json::{Value, json};

use crate::plan::guards;

const TEMPLATE: &str = include_str!("../../../../charts/ringfence/templates/rbac.yaml");

/// A right of Ringfence's account, as `resourceAttributes` of an access review.
pub(super) fn rights(release_namespace: &str) -> Result<Vec<Value>, String> {
    let mut depth = 0_u32;
    let is_always = |line: &&str| {
        let opens = line.contains("{{- if");
        let is_inside = depth > 0;
        if opens {
            depth += 1;
        } else if is_inside && line.contains("{{- end") {
            depth -= 1;
        }
        !is_inside && !line.contains("{{-")
    };
    let named = json!(guards()).to_string();
    let text: String = TEMPLATE
        .lines()
        .filter(is_always)
        .map(|line| {
            let line = line.replace("{{ .Release.Namespace }}", release_namespace);
            line.replace("{{ include \"ringfence.guards\" . }}", &named) + "\n"
        })
        .collect();
    let objects =
        serde_saphyr::from_multiple::<Value>(&text).map_err(|error| format!("the chart's rights: {error}"))?;
    let mut rights = Vec::new();
    for role in &objects {
        let namespace = match role["kind"].as_str() {
            Some("ClusterRole") => None,
            Some("Role") => role.pointer("/metadata/namespace"),
            _ => continue,
        };
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = all(&rule["resourceNames"]);
            let names: Vec<Option<&Value>> = if names.is_empty() {
                vec![None]
            } else {
                names.into_iter().map(Some).collect()
            };
            for group in all(&rule["apiGroups"]) {
                for resource in all(&rule["resources"]) {
                    for verb in all(&rule["verbs"]) {
                        rights.extend(names.iter().map(|name| right(group, resource, verb, *name, namespace)));
                    }
                }
            }
        }
    }
    Ok(rights)
}

fn all(value: &Value) -> Vec<&Value> {
    value.as_array().into_iter().flatten().collect()
}

fn right(group: &Value, resource: &Value, verb: &Value, name: Option<&Value>, namespace: Option<&Value>) -> Value {
    let (resource, sub) = match resource.as_str().and_then(|text| text.split_once('/')) {
        Some((resource, sub)) => (json!(resource), sub),
        None => (resource.clone(), ""),
    };
    // What is null is not said.
    json!({"group": group, "resource": resource, "subresource": sub, "verb": verb, "name": name, "namespace": namespace})
}

/// A right for people: `update aiworkflows/status.ringfence.dev`.
pub(super) fn shown(right: &Value) -> String {
    let part = |field: &str| right[field].as_str().filter(|text| !text.is_empty());
    let mut text = format!(
        "{} {}",
        part("verb").unwrap_or_default(),
        part("resource").unwrap_or_default()
    );
    for (between, field) in [
        ("/", "subresource"),
        (".", "group"),
        (" ", "name"),
        (" in namespace ", "namespace"),
    ] {
        if let Some(found) = part(field) {
            text.push_str(between);
            text.push_str(found);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_chart() {
        let rights = rights("ours").unwrap();
        let all: Vec<_> = rights.iter().map(shown).collect();
        for one in [
            "get namespaces",
            "update aiworkflows/status.ringfence.dev",
            "list ciliumnetworkpolicies.cilium.io",
            "get configmaps ringfence-registrations in namespace ours",
            "update validatingadmissionpolicybindings.admissionregistration.k8s.io ringfence-modes",
            "update leases.coordination.k8s.io ringfence in namespace ours",
            "watch endpointslices.discovery.k8s.io kubernetes",
        ] {
            assert!(all.contains(&one.to_owned()), "{one} is not in {all:?}");
        }
        assert!(all.iter().all(|right| !right.contains(['{', '*'])), "{all:?}");
        assert!(all.iter().all(|right| !right.contains("secrets")), "depends on values");
    }
}
