//! Constraints, each with its template, to policies.
//!
//! Must never: make a policy of a constraint that Gatekeeper would refuse.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::actions::{Actions, failure_policy};
use super::documents::Sorted;
use super::inventory::inventory;
use super::matching::{Match, Source};
use super::module::{self, Asked, Workload};
use super::names::policy_name;
use super::rules::rules;
use super::template::Template;
use super::{Converted, Document, Made};
use crate::api::{
    LabelSelector, MatchConstraints, MatchOperation, MatchPolicy, Rego, RegoModule, RegoPolicySpec, Templates,
    ValidationAction, builtin_groups, is_dns_subdomain, is_exempt,
};
use crate::plan::text_at as text;
use crate::policy::Declared;

/// Longest description.
const MAX_DESCRIPTION: usize = 1024;
/// Largest schema of parameters that a policy carries, in bytes.
const MAX_SCHEMA: usize = 60 << 10;
/// Most requirements, and values of one, of a selector that a registration carries.
const MAX_SELECTOR: usize = 16;

/// How the pods that would come of workloads are judged otherwise.
const OF_WORKLOADS: [&str; 4] = [
    "pods of workloads are judged without the name and the owner that Gatekeeper makes up for them",
    "a request that leaves the pod template of a workload as it is asks nothing of its pods; in Gatekeeper each asks",
    "the operation of pods of workloads is CREATE; in Gatekeeper it is that of the request about the workload",
    "the userInfo of pods of workloads is that of whoever writes the workload; in Gatekeeper it is empty",
];

/// Makes the policies.
pub(super) fn convert(sorted: &Sorted<'_>, converted: &mut Converted) {
    let (mut seen, mut names, mut used) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (document, version) in &sorted.constraints {
        let (kind, name) = (text(document.object, "/kind"), text(document.object, "/metadata/name"));
        used.insert(kind.to_ascii_lowercase());
        let made = if seen.insert((kind, name)) {
            constraint(sorted, document, version, &mut names)
        } else {
            Err(vec!["there is one of that name already".to_owned()])
        };
        match made {
            Ok(made) => converted.policies.extend(made),
            Err(problems) => {
                let named = |problem| document.problem(format!("{kind} {name}: {problem}"));
                converted.problems.extend(problems.into_iter().map(named));
            }
        }
    }
    for (name, (document, template)) in &sorted.templates {
        if template.is_some() && !used.contains(name) {
            let message = format!("ConstraintTemplate {name}: there is no constraint of it, so nothing is made of it");
            converted.notes.push(document.problem(message));
        }
    }
}

/// What is judged by one policy.
struct Variant {
    suffix: String,
    action: ValidationAction,
    /// What is written.
    itself: bool,
    /// The pods that would come of these.
    workloads: BTreeSet<Workload>,
}

fn constraint(
    sorted: &Sorted<'_>,
    document: &Document<'_>,
    version: &str,
    names: &mut BTreeSet<String>,
) -> Result<Vec<Made>, Vec<String>> {
    let object = document.object;
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    let template = template(sorted, kind)?;
    let mut problems = Vec::new();
    if !["v1beta1", "v1alpha1"].contains(&version) {
        problems.push("apiVersion: constraints have v1beta1 and v1alpha1".to_owned());
    }
    if !is_dns_subdomain(name) || name.len() > 63 {
        problems.push("metadata.name: must be a DNS subdomain of at most 63 characters".to_owned());
    }
    let empty = Value::Object(Map::new());
    let spec = object.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty);
    let known = ["enforcementAction", "match", "parameters", "scopedEnforcementActions"];
    match spec.as_object() {
        Some(fields) => {
            let unknown = fields.keys().filter(|field| !known.contains(&field.as_str()));
            problems.extend(unknown.map(|field| format!("spec.{field}: Gatekeeper has no such field")));
        }
        None => problems.push("spec: must be an object".to_owned()),
    }
    let field = |name: &str| spec.get(name).filter(|value| !value.is_null());
    let mut take = |problems_of: Vec<String>| problems.extend(problems_of);
    let matching = Match::read(field("match")).map_err(&mut take).ok();
    let actions = Actions::read(spec).map_err(&mut take).ok();
    let parameters = template.schema.check(field("parameters")).map_err(&mut take).ok();
    let defined = |group: &str, kind: &str| {
        let of = (group.to_owned(), kind.to_owned());
        sorted.fields.get(&of).cloned().unwrap_or_default()
    };
    let looked_at = inventory(&template.scan, &sorted.synced, template.sync.as_deref(), defined)
        .map_err(&mut take)
        .ok();
    let (Some(matching), Some(actions), Some(parameters), Some(looked_at)) = (matching, actions, parameters, looked_at)
    else {
        return Err(problems);
    };
    let asked = rules(&matching, &template.operations, &sorted.defined)
        .map_err(|found| problems.extend(found))
        .ok();
    let variants = variants(sorted, &matching, actions.action, &template.operations)
        .map_err(|found| problems.extend(found))
        .ok();
    let (Some(asked), Some(variants)) = (asked, variants) else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut notes = template.notes.clone();
    notes.extend(actions.notes);
    notes.extend(asked.notes);
    notes.extend(looked_at.notes);
    notes.extend(exempt_note(&matching));
    let label = format!("{kind}/{name}");
    let (object_selector, namespace_selector) = selectors(&matching);
    let mut made = Vec::new();
    for variant in variants {
        let mut notes = notes.clone();
        notes.extend(variant_notes(&variant));
        let parameters_schema = schema(template, &mut notes);
        let module = module::text(&Asked {
            constraint: &label,
            matching: &matching,
            exempt: &sorted.exempt,
            operations: &template.operations,
            scan: &template.scan,
            itself: variant.itself,
            workloads: &variant.workloads,
        });
        let mut modules = vec![RegoModule {
            name: "gatekeeper.rego".to_owned(),
            source: module,
        }];
        modules.extend(template.modules.iter().cloned());
        let policy_name = policy_name(kind, name, &variant.suffix, names);
        names.insert(policy_name.clone());
        let spec = RegoPolicySpec {
            description: Some(description(&label, template.title.as_deref())),
            validation_actions: vec![variant.action],
            failure_policy: failure_policy(variant.action),
            match_constraints: MatchConstraints {
                resource_rules: asked.rules.clone(),
                namespace_selector: namespace_selector.clone(),
                object_selector: object_selector.clone(),
                match_policy: MatchPolicy::Exact,
                ..MatchConstraints::default()
            },
            templates: if variant.workloads.is_empty() {
                Templates::Ignore
            } else {
                Templates::Expand
            },
            parameters: Some(parameters.clone()),
            parameters_schema,
            inventory: looked_at.kinds.clone(),
            rego: Rego {
                version: template.version,
                modules,
            },
            ..RegoPolicySpec::default()
        };
        made.push(Made {
            policy: Declared {
                name: policy_name,
                uid: String::new(),
                generation: 0,
                spec,
            },
            file: document.file.to_owned(),
            line: document.line,
            notes,
        });
    }
    Ok(made)
}

fn template<'a>(sorted: &'a Sorted<'_>, kind: &str) -> Result<&'a Template, Vec<String>> {
    match sorted.templates.get(&kind.to_ascii_lowercase()) {
        None => Err(vec![
            "there is no ConstraintTemplate of its kind among the documents".to_owned(),
        ]),
        Some((of, None)) => Err(vec![format!(
            "its ConstraintTemplate, at {}:{}, cannot be used",
            of.file, of.line
        )]),
        Some((_, Some(template))) if template.kind != kind => {
            Err(vec![format!("its ConstraintTemplate is of kind {}", template.kind)])
        }
        Some((_, Some(template))) => Ok(template),
    }
}

fn variants(
    sorted: &Sorted<'_>,
    matching: &Match,
    action: ValidationAction,
    operations: &[MatchOperation],
) -> Result<Vec<Variant>, Vec<String>> {
    let expands = matching.has_kind("", "Pod") && matching.source != Source::Original;
    let expansions = sorted.expansions.iter().filter(|_| expands);
    let itself = matching.source != Source::Generated;
    let mut variants = Vec::new();
    if itself {
        variants.push(Variant {
            suffix: String::new(),
            action,
            itself,
            workloads: BTreeSet::new(),
        });
    }
    for (instead, workloads) in expansions.filter(|(_, workloads)| !workloads.is_empty()) {
        match (instead, variants.first_mut()) {
            (None, Some(first)) => first.workloads.clone_from(workloads),
            _ => variants.push(Variant {
                suffix: instead.map_or_else(String::new, |action| {
                    format!("-generated-{}", action.as_str().to_ascii_lowercase())
                }),
                action: instead.unwrap_or(action),
                itself: false,
                workloads: workloads.clone(),
            }),
        }
    }
    if variants.is_empty() {
        return Err(vec![
            "spec.match.source: is Generated, and no ExpansionTemplate among the documents makes pods that it matches"
                .to_owned(),
        ]);
    }
    let creates = operations
        .iter()
        .any(|operation| matches!(operation, MatchOperation::All | MatchOperation::Create));
    if !creates && variants.iter().any(|variant| !variant.workloads.is_empty()) {
        return Err(vec![
            "the operations of its ConstraintTemplate do not have CREATE, and pods of workloads are judged as created: add it, or set \
             spec.match.source to Original"
                .to_owned(),
        ]);
    }
    Ok(variants)
}

fn variant_notes(variant: &Variant) -> Vec<String> {
    let mut notes = Vec::new();
    if !variant.workloads.is_empty() {
        notes.extend(OF_WORKLOADS.map(str::to_owned));
    }
    if variant.action == ValidationAction::Warn {
        notes.push("where the template fails, Gatekeeper warns; here it is logged and counted".to_owned());
    }
    notes
}

fn schema(template: &Template, notes: &mut Vec<String>) -> Option<Map<String, Value>> {
    let schema = template.schema.plain()?;
    let bytes = Value::Object(schema.clone()).to_string().len();
    if bytes > MAX_SCHEMA {
        notes.push("the schema of its parameters is too large to be kept".to_owned());
        return None;
    }
    Some(schema)
}

fn exempt_note(matching: &Match) -> Option<String> {
    let named = matching.namespaces.iter().find(|name| is_exempt(name, None))?;
    Some(format!("Ringfence never asks a policy about namespace {named}"))
}

/// The selectors that a registration may carry: those that mean the same there. The module looks at all of them again.
fn selectors(matching: &Match) -> (Option<LabelSelector>, Option<LabelSelector>) {
    // What is sent to subresources has no labels, and a Namespace that changes is matched by what it was, too.
    let is_plain = |kind: &String| kind != "Namespace" && builtin_groups(kind).next().is_some();
    let all_plain = !matching.kinds.is_empty()
        && matching
            .kinds
            .iter()
            .all(|kinds| !kinds.kinds.is_empty() && kinds.kinds.iter().all(is_plain));
    let carried = |selector: &Option<LabelSelector>| {
        let fits = |selector: &&LabelSelector| {
            selector.match_labels.len() <= MAX_SELECTOR
                && selector.match_expressions.len() <= MAX_SELECTOR
                && selector
                    .match_expressions
                    .iter()
                    .all(|requirement| requirement.values.len() <= MAX_SELECTOR)
        };
        selector.as_ref().filter(|_| all_plain).filter(fits).cloned()
    };
    (carried(&matching.labels), carried(&matching.namespace_labels))
}

fn description(label: &str, title: Option<&str>) -> String {
    let words = title.into_iter().flat_map(str::split_whitespace);
    let mut text = label.to_owned();
    for (number, word) in words.enumerate() {
        text.push_str(if number == 0 { ": " } else { " " });
        text.push_str(word);
    }
    text.chars().take(MAX_DESCRIPTION).collect()
}
