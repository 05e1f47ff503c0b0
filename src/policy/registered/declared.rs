//! From what a RegoPolicy declares to a policy that can be evaluated, and what is wrong with a declaration.
//!
//! Must never: let a rule through that the API server would refuse in a registration. One such rule would keep the registration of
//! every policy from being written.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::{
    self, InventoryKind, LabelSelector, MatchRule, PolicySample, RegoPolicySpec, is_dns_label, is_dns_subdomain,
};
use crate::plan::selector_problems;
use crate::policy::compile::{Policy, Source};
use crate::policy::error::LoadError;
use crate::policy::lexical::MAX_BYTES;
use crate::policy::metadata::{Metadata, RegoVersion, Severity, Target};

/// Largest parameters or schema, in bytes of JSON: they are converted for each evaluation and held.
const MAX_FREE_FORM: usize = 64 << 10;
/// Largest samples of a policy together, in bytes of JSON.
const MAX_SAMPLES: usize = 256 << 10;

/// Compiles what is declared.
pub(super) fn compile(name: &str, spec: &RegoPolicySpec) -> Result<Policy, Vec<LoadError>> {
    let problems = problems(name, spec);
    if !problems.is_empty() {
        return Err(problems);
    }
    let sources: Vec<_> = spec
        .rego
        .modules
        .iter()
        .map(|module| Source {
            file: module.name.clone(),
            text: module.source.clone(),
        })
        .collect();
    let parameters = spec.parameters.clone().unwrap_or_default().into_iter().collect();
    Policy::of_modules(metadata(name, spec), &sources, parameters, !spec.inventory.is_empty())
}

pub(super) fn metadata(name: &str, spec: &RegoPolicySpec) -> Metadata {
    let description = spec.description.clone().unwrap_or_else(|| format!("RegoPolicy {name}"));
    let remediation = spec.remediation.clone();
    Metadata {
        name: name.to_owned(),
        title: description.clone(),
        description,
        severity: Severity::Medium,
        remediation: remediation.unwrap_or_else(|| {
            format!("see what RegoPolicy {name} demands (kubectl get regopolicy {name} -o yaml), or ask who wrote it")
        }),
        target: Target::Pod,
        match_constraints: None,
        controls: Vec::new(),
        parameters: std::collections::BTreeMap::new(),
        rego: match spec.rego.version {
            api::RegoVersion::V0 => RegoVersion::V0,
            api::RegoVersion::V1 => RegoVersion::V1,
        },
    }
}

/// What is wrong with a declaration beside its Rego. Ratcheting lets old values stay, so what the definition bounds is checked again.
pub(super) fn problems(name: &str, spec: &RegoPolicySpec) -> Vec<LoadError> {
    let mut problems = Problems(Vec::new());
    if !is_dns_label(name) {
        problems.add(
            "metadata.name",
            "must be a DNS label of at most 63 characters: exceptions and metrics name policies by it",
        );
    }
    if spec.validation_actions.is_empty() {
        problems.add("spec.validationActions", "is empty: name Deny, Warn or Audit");
    }
    let constraints = &spec.match_constraints;
    if constraints.resource_rules.is_empty() {
        problems.add(
            "spec.matchConstraints.resourceRules",
            "is empty, and empty never means all: name what the policy is about",
        );
    }
    for (list, rules) in [
        ("resourceRules", &constraints.resource_rules),
        ("excludeResourceRules", &constraints.exclude_resource_rules),
    ] {
        for (index, rule) in rules.iter().enumerate() {
            problems.rule(&format!("spec.matchConstraints.{list}[{index}]"), rule);
        }
    }
    problems.selector(
        "spec.matchConstraints.namespaceSelector",
        constraints.namespace_selector.as_ref(),
    );
    problems.selector(
        "spec.matchConstraints.objectSelector",
        constraints.object_selector.as_ref(),
    );
    problems.modules(spec);
    problems.parameters(spec);
    spec.inventory
        .iter()
        .enumerate()
        .for_each(|(index, kind)| problems.inventory(index, kind));
    problems.samples(&spec.samples);
    problems.0
}

struct Problems(Vec<LoadError>);

impl Problems {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(LoadError::file(field, message));
    }

    /// What the API server asks of a rule in a webhook configuration.
    fn rule(&mut self, at: &str, rule: &MatchRule) {
        let lists = [
            ("apiGroups", &rule.api_groups),
            ("apiVersions", &rule.api_versions),
            ("resources", &rule.resources),
        ];
        for (list, values) in lists {
            if values.is_empty() {
                self.add(&format!("{at}.{list}"), "is empty, and empty never means all");
            }
            if list != "resources" && values.len() > 1 && values.iter().any(|value| value == "*") {
                self.add(
                    &format!("{at}.{list}"),
                    "holds '*' and others: '*' must be the only one",
                );
            }
        }
        if rule.operations.is_empty() {
            self.add(&format!("{at}.operations"), "is empty, and empty never means all");
        }
        let plain = |value: &String| value == "*" || is_dns_subdomain(value);
        if rule.api_groups.iter().any(|group| !group.is_empty() && !plain(group)) {
            self.add(&format!("{at}.apiGroups"), "holds what is no API group");
        }
        if !rule.api_versions.iter().all(plain) {
            self.add(&format!("{at}.apiVersions"), "holds what is no version");
        }
        self.resources(&format!("{at}.resources"), &rule.resources);
    }

    fn resources(&mut self, at: &str, resources: &[String]) {
        let parts: Vec<_> = resources
            .iter()
            .map(|resource| {
                resource
                    .split_once('/')
                    .map_or((resource.as_str(), None), |(of, sub)| (of, Some(sub)))
            })
            .collect();
        let is_plain = |part: &str| part == "*" || is_dns_subdomain(part);
        if !parts.iter().all(|(of, sub)| is_plain(of) && sub.is_none_or(is_plain)) {
            self.add(
                at,
                "holds what is no resource: write them like pods, pods/log, pods/*, */scale, * or */*",
            );
        }
        let every_sub_of: BTreeSet<_> = parts
            .iter()
            .filter(|(_, sub)| *sub == Some("*"))
            .map(|(of, _)| *of)
            .collect();
        let of_every: BTreeSet<_> = parts
            .iter()
            .filter_map(|(of, sub)| sub.filter(|_| *of == "*"))
            .collect();
        for (of, sub) in &parts {
            let Some(sub) = sub.filter(|sub| *sub != "*" && *of != "*") else {
                continue;
            };
            if every_sub_of.contains(of) || of_every.contains(sub) {
                self.add(
                    at,
                    format!("names {of}/{sub} beside a wildcard that holds it: leave one of them out"),
                );
            }
        }
        if parts.len() > 1 && parts.contains(&("*", Some("*"))) {
            self.add(at, "holds '*/*' and others: '*/*' must be the only one");
        }
        if parts.contains(&("*", None)) && parts.iter().any(|(of, sub)| *of != "*" && sub.is_none()) {
            self.add(at, "holds '*' beside resources by name: leave one of them out");
        }
    }

    fn selector(&mut self, at: &str, selector: Option<&LabelSelector>) {
        let Some(selector) = selector else { return };
        if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
            self.add(at, "is empty, and empty never means all: leave it out");
        }
        for problem in selector_problems(at, selector) {
            self.add(&problem.path.clone(), problem.message);
        }
    }

    fn modules(&mut self, spec: &RegoPolicySpec) {
        const AT: &str = "spec.rego.modules";
        let modules = &spec.rego.modules;
        let names: BTreeSet<_> = modules.iter().map(|module| &module.name).collect();
        if modules.is_empty() || modules.len() > 16 || names.len() < modules.len() {
            self.add(AT, "must be 1 to 16 modules with names of their own");
        }
        let bytes: usize = modules.iter().map(|module| module.source.len()).sum();
        if bytes > MAX_BYTES {
            self.add(
                AT,
                format!("hold {bytes} bytes together, the limit is {MAX_BYTES}: make it several policies"),
            );
        }
    }

    fn parameters(&mut self, spec: &RegoPolicySpec) {
        let fields = [
            ("spec.parameters", &spec.parameters),
            ("spec.parametersSchema", &spec.parameters_schema),
        ];
        let whole = fields
            .iter()
            .filter_map(|(at, map)| Some((*at, bytes_of(map.as_ref()?))));
        let too_large: Vec<_> = whole.filter(|(_, bytes)| *bytes > MAX_FREE_FORM).collect();
        for (at, bytes) in &too_large {
            self.add(at, format!("is {bytes} bytes of JSON, the limit is {MAX_FREE_FORM}"));
        }
        let Some(schema) = spec.parameters_schema.clone().filter(|_| too_large.is_empty()) else {
            return;
        };
        let parameters = Value::Object(spec.parameters.clone().unwrap_or_default());
        match jsonschema::validator_for(&Value::Object(schema)) {
            Err(error) => self.add("spec.parametersSchema", format!("is no JSON Schema: {error}")),
            Ok(validator) => {
                for error in validator.iter_errors(&parameters).take(16) {
                    let at = format!("spec.parameters{}", error.instance_path().to_string().replace('/', "."));
                    self.add(&at, format!("breaks spec.parametersSchema: {error}"));
                }
            }
        }
    }

    fn inventory(&mut self, index: usize, kind: &InventoryKind) {
        let at = format!("spec.inventory[{index}]");
        if is_secret(&kind.kind) {
            self.add(
                &format!("{at}.kind"),
                "Ringfence reads no Secrets: ask for what names them",
            );
        }
        if kind.fields.is_empty() {
            self.add(
                &format!("{at}.fields"),
                "is empty, and empty never means all: name what the policy looks at",
            );
        }
    }

    fn samples(&mut self, samples: &[PolicySample]) {
        let bytes: usize = samples
            .iter()
            .flat_map(|sample| [&sample.input, &sample.object, &sample.inventory])
            .flatten()
            .map(bytes_of)
            .sum();
        if bytes > MAX_SAMPLES {
            self.add(
                "spec.samples",
                format!("are {bytes} bytes of JSON together, the limit is {MAX_SAMPLES}"),
            );
        }
        for (index, sample) in samples.iter().enumerate() {
            if sample.input.is_some() == sample.object.is_some() {
                self.add(&format!("spec.samples[{index}]"), "must have either input or object");
            }
        }
    }
}

/// Whether objects of a kind hold secrets, by its name: in whatever group, since others call theirs so too.
pub fn is_secret(kind: &str) -> bool {
    kind.eq_ignore_ascii_case("Secret")
}

fn bytes_of(map: &Map<String, Value>) -> usize {
    // Written and counted: it is bounded by what the API server stores.
    serde_json::to_string(map).map_or(usize::MAX, |text| text.len())
}
