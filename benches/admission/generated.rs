//! Small policies, as many as are wanted: what a platform team writes one by one, each of its own package and words.

use std::collections::BTreeMap;

use anyhow::Result;
use ringfence::policy::{Declared, LoadError, PolicySet, Source, library};
use serde_json::json;

/// So many of them. Each looks at labels and containers, as most of Gatekeeper's library does, and finds nothing in a usual pod.
pub fn small(count: usize) -> Vec<Source> {
    (1..=count).map(one).collect()
}

fn one(number: usize) -> Source {
    let text = format!(
        r#"# METADATA
# title: Small policy {number}
# description: Refuses a label and a tag of images.
# custom:
#   name: small-{number}
#   severity: low
#   scope: pod
#   remediation: Take the label away, and choose another tag.
package small_{number}

deny contains {{"msg": sprintf("the label forbidden-%d is set", [{number}]), "path": "metadata.labels"}} if {{
	input.pod.metadata.labels["forbidden-{number}"]
}}

deny contains {{"msg": sprintf("container %s is of a tag that is not allowed", [container.name]), "path": path}} if {{
	some index, container in input.pod.spec.containers
	endswith(container.image, ":forbidden-{number}")
	path := sprintf("spec.containers[%d].image", [index])
}}
"#
    );
    Source {
        file: format!("small-{number}.rego"),
        text,
    }
}

/// As many RegoPolicies, of the same rules.
pub fn objects(count: usize) -> Result<Vec<Declared>> {
    let object = |number: usize| {
        let spec = json!({
            "validationActions": ["Deny"],
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
            ]},
            "rego": {"modules": [{"name": "policy.rego", "source": one(number).text}]},
        });
        Ok(Declared {
            name: format!("small-{number}"),
            uid: number.to_string(),
            generation: 1,
            spec: serde_json::from_value(spec)?,
        })
    };
    (1..=count).map(object).collect()
}

/// The shipped policies, without their tests.
pub fn shipped() -> Vec<Source> {
    // What is in force where nobody names a set.
    let sources = library::sources_of(&[library::DEFAULT_SET])
        .expect("the shipped sets")
        .into_iter();
    sources.filter(|source| !source.file.ends_with("_test.rego")).collect()
}

/// Compiles without vetting.
pub fn compile(sources: Vec<Source>) -> Result<PolicySet> {
    PolicySet::compile(sources, &BTreeMap::new()).map_err(|errors| unusable(&errors))
}

pub fn unusable(errors: &[LoadError]) -> anyhow::Error {
    let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the policies cannot be used:\n{}", all.join("\n"))
}
