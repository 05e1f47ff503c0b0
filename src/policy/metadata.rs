//! The METADATA block of a policy: who it is, what it is about, its parameters.
//!
//! The engine knows no METADATA, so it is read here, from the comment. Must never guess: a policy without a complete block is
//! not loaded, and an unknown field of `custom` is an error, because a misspelt `parameters` would switch a rule off.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::LoadError;
use crate::api::{
    LabelSelector, MatchConstraints, MatchOperation, MatchPolicy, MatchRule, MatchScope, Requirement, SelectorOperator,
};

/// What a policy judges.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Pods and pod templates, wherever they sit.
    Pod,
    /// Namespaces.
    Namespace,
    /// Whatever `match` names, as a RegoPolicy would be asked about it.
    Object,
}

impl Target {
    /// The word in METADATA.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::Object => "object",
        }
    }
}

/// How much is at stake.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A hygiene matter.
    Low,
    /// A weakness that needs a second one to be used.
    Medium,
    /// A weakness that can be used.
    High,
    /// The fence is open.
    Critical,
}

impl Severity {
    /// The word in METADATA.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Version of the language.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegoVersion {
    /// Before OPA 1.0: no `if` and `contains` needed.
    V0,
    /// OPA 1.0.
    #[default]
    V1,
}

/// A policy's METADATA.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Name in refusals and metrics: a DNS label.
    pub name: String,
    /// A few words.
    pub title: String,
    /// What the policy demands and why.
    pub description: String,
    /// How much is at stake.
    pub severity: Severity,
    /// What the author of a refused object should do; the fix of a finding that names none.
    pub remediation: String,
    /// What the policy judges.
    pub target: Target,
    /// Which requests it is asked about, in the words of a RegoPolicy; there where it judges objects, and only there.
    pub match_constraints: Option<MatchConstraints>,
    /// Controls of published catalogues that the policy helps to meet.
    pub controls: Vec<String>,
    /// `input.parameters` unless overridden.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Version of the language.
    pub rego: RegoVersion,
}

/// OPA's annotations; those that mean nothing here may be there.
#[derive(Deserialize)]
struct Block {
    title: String,
    description: String,
    custom: Custom,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    name: String,
    severity: Severity,
    remediation: String,
    scope: Target,
    #[serde(default, rename = "match")]
    match_constraints: Option<StrictMatch>,
    #[serde(default)]
    controls: Vec<String>,
    #[serde(default)]
    parameters: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    rego: RegoVersion,
}

/// [`MatchConstraints`] without room for a misspelt field, which would widen the match in silence. In an object it is the API server
/// that refuses such a field, or tells of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrictMatch {
    resource_rules: Vec<StrictRule>,
    #[serde(default)]
    exclude_resource_rules: Vec<StrictRule>,
    #[serde(default)]
    namespace_selector: Option<StrictSelector>,
    #[serde(default)]
    object_selector: Option<StrictSelector>,
    #[serde(default)]
    match_policy: MatchPolicy,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrictRule {
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<MatchOperation>,
    #[serde(default)]
    scope: MatchScope,
    #[serde(default)]
    resource_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StrictSelector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<StrictRequirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictRequirement {
    key: String,
    operator: SelectorOperator,
    #[serde(default)]
    values: Vec<String>,
}

impl From<StrictMatch> for MatchConstraints {
    fn from(read: StrictMatch) -> Self {
        let rules = |rules: Vec<StrictRule>| rules.into_iter().map(MatchRule::from).collect();
        Self {
            resource_rules: rules(read.resource_rules),
            exclude_resource_rules: rules(read.exclude_resource_rules),
            namespace_selector: read.namespace_selector.map(LabelSelector::from),
            object_selector: read.object_selector.map(LabelSelector::from),
            match_policy: read.match_policy,
        }
    }
}

impl From<StrictRule> for MatchRule {
    fn from(read: StrictRule) -> Self {
        Self {
            api_groups: read.api_groups,
            api_versions: read.api_versions,
            resources: read.resources,
            operations: read.operations,
            scope: read.scope,
            resource_names: read.resource_names,
        }
    }
}

impl From<StrictSelector> for LabelSelector {
    fn from(read: StrictSelector) -> Self {
        let requirement = |read: StrictRequirement| Requirement {
            key: read.key,
            operator: read.operator,
            values: read.values,
        };
        Self {
            match_labels: read.match_labels,
            match_expressions: read.match_expressions.into_iter().map(requirement).collect(),
        }
    }
}

/// Reads the METADATA block in front of `package`.
pub(super) fn parse(file: &str, text: &str) -> Result<Metadata, LoadError> {
    let (first_line, yaml) = block(file, text)?;
    let block: Block = serde_saphyr::from_str(&yaml).map_err(|error| {
        let line = error.location().map_or(first_line, |place| {
            u32::try_from(place.line())
                .unwrap_or(1)
                .saturating_sub(1)
                .saturating_add(first_line)
        });
        let message = error.without_snippet().to_string();
        // Its own place counts from the start of the block; ours is the file's.
        let message = message
            .lines()
            .next()
            .and_then(|line| line.split(" at line ").next())
            .unwrap_or("not valid YAML");
        LoadError::at(file, line, None, format!("METADATA: {message}"))
    })?;
    let wrong = |message: String| LoadError::at(file, first_line, None, format!("METADATA: {message}"));
    if !crate::api::is_dns_label(&block.custom.name) {
        return Err(wrong(
            "custom.name must be a DNS label of at most 63 characters, such as `approved-images`".to_owned(),
        ));
    }
    for (field, value) in [
        ("title", &block.title),
        ("description", &block.description),
        ("custom.remediation", &block.custom.remediation),
    ] {
        if value.trim().is_empty() {
            return Err(wrong(format!(
                "{field} is empty: it is what people read when the policy refuses"
            )));
        }
    }
    let is_of_objects = block.custom.scope == Target::Object;
    if is_of_objects != block.custom.match_constraints.is_some() {
        return Err(wrong(
            "custom.match says which objects a policy with `scope: object` is asked about: that one needs it, and no other has it"
                .to_owned(),
        ));
    }
    let tidy = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Metadata {
        name: block.custom.name,
        title: tidy(block.title),
        description: tidy(block.description),
        severity: block.custom.severity,
        remediation: tidy(block.custom.remediation),
        target: block.custom.scope,
        match_constraints: block.custom.match_constraints.map(MatchConstraints::from),
        controls: block.custom.controls,
        parameters: block.custom.parameters,
        rego: block.custom.rego,
    })
}

/// Whether a text means to be a policy with METADATA, however wrong that may be. Blocks that OPA alone knows are of none.
pub fn means_to_be_a_policy(text: &str) -> bool {
    let says = |yaml: &str, key: &str| yaml.lines().any(|line| line.trim_start().starts_with(key));
    block("", text).is_ok_and(|(_, yaml)| says(&yaml, "custom:") && says(&yaml, "remediation:"))
}

/// What a text says that its package is, read as a line of text and no more.
pub fn package_of(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| is_package(line))?;
    let rest = line.trim_start().strip_prefix("package")?.trim_start();
    rest.split(|c: char| c.is_whitespace() || c == '#')
        .next()
        .filter(|name| !name.is_empty())
}

/// The YAML of the block that ends right above `package`, and the number of its first line.
fn block(file: &str, text: &str) -> Result<(u32, String), LoadError> {
    let mut yaml: Option<(u32, String)> = None;
    for (number, line) in (1u32..).zip(text.lines()) {
        if is_package(line) {
            return yaml.ok_or_else(|| {
                LoadError::at(
                    file,
                    number,
                    None,
                    "no `# METADATA` block right above `package`: see policies/README.md for one",
                )
            });
        }
        match (line.strip_prefix('#'), &mut yaml) {
            (Some(comment), _) if comment.trim() == "METADATA" => {
                yaml = Some((number.saturating_add(1), String::new()))
            }
            (Some(comment), Some((_, yaml))) => {
                yaml.push_str(comment.strip_prefix(' ').unwrap_or(comment));
                yaml.push('\n');
            }
            // The block is one run of comments: an empty line or code ends it, and it is not about the package.
            (None, _) => yaml = None,
            (Some(_), None) => {}
        }
    }
    Err(LoadError::file(
        file,
        "there is no `package`: a policy starts with its METADATA and `package <name>`",
    ))
}

fn is_package(line: &str) -> bool {
    line.trim_start()
        .strip_prefix("package")
        .is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD: &str = "# METADATA\n# title: T\n# description: >-\n#   one\n#   two\n# custom:\n#   name: my-policy\n#   severity: high\n#   remediation: do it\n#   scope: pod\n#   parameters:\n#     allowed: [a]\npackage p\n";

    const GOOD_MATCH: &str = "# METADATA\n# title: T\n# description: D\n# custom:\n#   name: my-policy\n#   severity: high\n#   remediation: do it\n#   scope: object\n#   match:\n#     resourceRules:\n#     - apiGroups: ['']\n#       apiVersions: [v1]\n#       resources: [services]\n#       operations: [CREATE]\n#     matchPolicy: Exact\npackage p\n";

    fn of_objects(more: &str) -> String {
        GOOD_MATCH.replace("package p", &format!("#     {more}\npackage p"))
    }

    #[test]
    fn what_matches_objects_is_read_whole() {
        let text = of_objects(
            "excludeResourceRules: [{apiGroups: [a], apiVersions: [v1], resources: [b], operations: [DELETE], scope: Cluster, resourceNames: [c]}]\n\
             #     namespaceSelector: {matchLabels: {a: b}}\n\
             #     objectSelector: {matchExpressions: [{key: a, operator: In, values: [b]}]}",
        );
        let read = parse("p.rego", &text).expect("good").match_constraints.expect("match");
        let json = serde_json::json!({
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"], "operations": ["CREATE"], "scope": "*"}],
            "excludeResourceRules": [{
                "apiGroups": ["a"], "apiVersions": ["v1"], "resources": ["b"], "operations": ["DELETE"], "scope": "Cluster", "resourceNames": ["c"],
            }],
            "namespaceSelector": {"matchLabels": {"a": "b"}},
            "objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
            "matchPolicy": "Exact",
        });
        assert_eq!(serde_json::to_value(read).expect("json"), json);
    }

    #[test]
    fn a_complete_block_is_read() {
        let metadata = parse("p.rego", GOOD).expect("good");
        assert_eq!(
            (metadata.name.as_str(), metadata.description.as_str()),
            ("my-policy", "one two")
        );
        assert_eq!(
            (metadata.severity, metadata.target, metadata.rego),
            (Severity::High, Target::Pod, RegoVersion::V1)
        );
        assert_eq!(metadata.parameters.get("allowed"), Some(&serde_json::json!(["a"])));
    }

    #[rstest]
    #[case::nothing("package p\n", 1, "no `# METADATA`")]
    #[case::no_package("# METADATA\n# title: T\n", 0, "no `package`")]
    #[case::apart_from_package("# METADATA\n# title: T\n\npackage p\n", 4, "no `# METADATA`")]
    #[case::no_title(&GOOD.replace("# title: T\n", ""), 2, "title")]
    #[case::empty_title(&GOOD.replace("title: T", "title: ''"), 2, "title is empty")]
    #[case::bad_severity(&GOOD.replace("high", "dreadful"), 8, "dreadful")]
    #[case::bad_scope(&GOOD.replace("scope: pod", "scope: cluster"), 10, "variant")]
    #[case::object_without_match(&GOOD.replace("scope: pod", "scope: object"), 2, "custom.match")]
    #[case::pod_with_match(&GOOD.replace("scope: pod", "scope: pod\n#   match: {resourceRules: []}"), 2, "custom.match")]
    #[case::misspelt_selector(&of_objects("namespaceSelectr: {matchLabels: {a: b}}"), 16, "namespaceSelectr")]
    #[case::misspelt_labels(&of_objects("namespaceSelector: {matchLabel: {a: b}}"), 16, "matchLabel")]
    #[case::misspelt_values(&of_objects("objectSelector: {matchExpressions: [{key: a, operator: In, value: [b]}]}"), 16, "value")]
    #[case::misspelt_exclusion(&of_objects("excludeResourceRule: []"), 16, "excludeResourceRule")]
    #[case::misspelt_names(&GOOD_MATCH.replace("operations", "resourceName: [a], operations"), 13, "resourceName")]
    #[case::no_operations(&GOOD_MATCH.replace("operations: [CREATE]", "scope: Namespaced"), 13, "operations")]
    #[case::misspelt_parameters(&GOOD.replace("parameters", "parametres"), 11, "parametres")]
    #[case::name_with_spaces(&GOOD.replace("my-policy", "My Policy"), 2, "DNS label")]
    #[case::not_yaml(&GOOD.replace("custom:", "custom: ["), 6, "METADATA")]
    #[case::duplicate_key(&GOOD.replace("# title: T\n", "# title: T\n# title: U\n"), 3, "title")]
    fn a_missing_or_wrong_block_is_an_error_with_its_place(#[case] text: &str, #[case] line: u32, #[case] word: &str) {
        let error = parse("p.rego", text).expect_err("must be refused");
        assert!(error.message.contains(word), "{error}");
        let distance = error.line.unwrap_or(0).abs_diff(line);
        assert!(distance <= 5, "{error} is far from line {line}");
    }
}
