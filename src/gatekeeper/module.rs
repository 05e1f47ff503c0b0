//! The Rego that stands beside a template: what Gatekeeper's `match` means, and what the template is asked.
//!
//! Must never: hold a line that an author would have to correct. Its texts come from a constraint that was read before, and it loads
//! whatever they are.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::matching::{Match, Scope};
use super::source::Scan;
use crate::api::{LabelSelector, MatchOperation, Requirement, SelectorOperator};

/// Group and kind of a workload.
pub(super) type Workload = (String, String);

/// What stands beside a template.
pub(super) struct Asked<'a> {
    /// The constraint, such as `K8sRequiredLabels/owners`.
    pub(super) constraint: &'a str,
    pub(super) matching: &'a Match,
    /// Namespaces that Gatekeeper's Config exempts.
    pub(super) exempt: &'a [String],
    pub(super) operations: &'a [MatchOperation],
    /// What all modules of the template say.
    pub(super) scan: &'a Scan,
    /// Whether what is written is judged.
    pub(super) itself: bool,
    /// Of which workloads the pods that would come are judged.
    pub(super) workloads: &'a BTreeSet<Workload>,
}

/// The package: a name that no module of the template begins with.
pub(super) fn package(scan: &Scan) -> String {
    let mut name = "gatekeeper".to_owned();
    while scan.says(&name) {
        name.push('_');
    }
    name
}

/// The module.
pub(super) fn text(asked: &Asked<'_>) -> String {
    let mut out = format!("package {}\n\nimport rego.v1\n", package(asked.scan));
    let mut add = |part: &str| {
        out.push('\n');
        out.push_str(part);
    };
    add(&format!(
        "# Asks the template what {} asks it in Gatekeeper, about the requests that its match means there.\n",
        asked.constraint
    ));
    let conditions = conditions(asked);
    let is_narrowed = !conditions.is_empty() || !asked.exempt.is_empty();
    add(&verdict(&asked.scan.package, is_narrowed));
    add(&input(asked));
    if is_narrowed {
        add(&matched(asked, &conditions));
    }
    if asked.matching.is_there {
        add(NOTHING);
    }
    if asked.operations.iter().any(|operation| deletes(*operation)) {
        add(NOTHING_DELETED);
    }
    for part in parts(asked) {
        add(&part);
    }
    add(ALWAYS);
    out
}

fn deletes(operation: MatchOperation) -> bool {
    matches!(operation, MatchOperation::All | MatchOperation::Delete)
}

/// The conditions that an object must meet, in Gatekeeper's order, as calls.
fn conditions(asked: &Asked<'_>) -> Vec<&'static str> {
    let matching = asked.matching;
    let is_all = |list: &[super::matching::Kinds]| {
        list.is_empty()
            || list
                .iter()
                .any(|kinds| kinds.groups.is_empty() && kinds.kinds.is_empty())
    };
    [
        (!is_all(&matching.kinds), "is_of_kind(thing)"),
        (matching.scope != Scope::All, "is_in_scope(thing)"),
        (!matching.namespaces.is_empty(), "is_in_namespaces(thing)"),
        (!matching.excluded.is_empty(), "not is_in_excluded(thing)"),
        (matching.labels.is_some(), "has_labels(labels_of(thing))"),
        (matching.namespace_labels.is_some(), "is_in_selected(thing)"),
        (matching.name.is_some(), "has_name(thing)"),
        (!asked.itself || !asked.workloads.is_empty(), "is_of_source"),
    ]
    .into_iter()
    .filter_map(|(is_asked, call)| is_asked.then_some(call))
    .collect()
}

fn verdict(package: &[String], is_narrowed: bool) -> String {
    let mut path = "data".to_owned();
    for name in package {
        // Brackets around each: a keyword of one version of the language is a name in the other.
        let _ = write!(path, "[{}]", text_of(name));
    }
    let condition = if is_narrowed { "\tis_matched\n" } else { "" };
    format!(
        "violation contains {{\"msg\": message, \"details\": details}} if {{\n{condition}\tfindings := {path}.violation with input as asked\n\
         \tsome finding in findings\n\tmessage := finding.msg\n\tdetails := object.get(finding, \"details\", {{}})\n}}\n"
    )
}

/// What the template sees as `input`.
fn input(asked: &Asked<'_>) -> String {
    let mut review = "input.review".to_owned();
    let mut rules = String::new();
    if asked.operations.iter().any(|operation| deletes(*operation)) {
        rules.push_str(
            "\n# What is deleted is the object.\n\
             deleted := object.union(object.remove(input.review, [\"object\"]), {\"object\": input.review.oldObject}) if {\n\
             \tinput.review.operation == \"DELETE\"\n}\n\n\
             deleted := input.review if input.review.operation != \"DELETE\"\n",
        );
        review = "deleted".to_owned();
    }
    if asked.matching.has_kind("", "Namespace") {
        let _ = write!(
            rules,
            "\n# A Namespace lies in none.\nplaced := object.remove({review}, [\"namespace\"]) if requested == \"\"\n\n\
             placed := {review} if requested != \"\"\n"
        );
        review = "placed".to_owned();
    }
    let extras = [
        ("namespaceObject", "{\"namespaceObject\": namespace_object}"),
        ("_unstable", "{\"_unstable\": {\"namespace\": namespace_object}}"),
    ];
    let mut names_namespace = false;
    for (word, extra) in extras {
        if asked.scan.says(word) {
            review = format!("object.union({review}, {extra})");
            names_namespace = true;
        }
    }
    if names_namespace {
        rules
            .push_str("\ndefault namespace_object := {}\n\nnamespace_object := input.namespace if requested != \"\"\n");
    }
    format!("asked := {{\"review\": {review}, \"parameters\": input.parameters}}\n{rules}")
}

fn matched(asked: &Asked<'_>, conditions: &[&str]) -> String {
    let mut body = String::new();
    if !asked.exempt.is_empty() {
        body.push_str("\tnot is_exempt\n");
    }
    if !conditions.is_empty() {
        body.push_str("\tsome thing in things\n");
        for condition in conditions {
            let _ = writeln!(body, "\t{condition}");
        }
    }
    format!("is_matched if {{\n{body}}}\n")
}

/// Gatekeeper refuses what it cannot match.
const NOTHING: &str =
    "violation contains {\"msg\": \"neither object nor old object are defined\"} if count(things) == 0\n";
const NOTHING_DELETED: &str = "violation contains {\"msg\": \"oldObject cannot be nil for DELETE operations\"} if {\n\
    \tinput.review.operation == \"DELETE\"\n\tnot is_object(object.get(input.review, \"oldObject\", null))\n}\n";

/// What an object is and where it lies.
const ALWAYS: &str = r#"# It matches where one of the two does.
things := [thing |
	some field in ["object", "oldObject"]
	thing := input.review[field]
	is_object(thing)
]

group_of(thing) := group if {
	parts := split(text_at(thing, ["apiVersion"]), "/")
	count(parts) > 1
	group := parts[0]
} else := ""

is_namespace(thing) if {
	thing.kind == "Namespace"
	group_of(thing) == ""
}

text_at(thing, path) := text if {
	text := object.get(thing, path, "")
	is_string(text)
} else := ""

name_of(thing) := text_at(thing, ["metadata", "name"])

# Namespace of the request; empty for a Namespace, and for what lies in none.
default requested := ""

requested := namespace if {
	[input.review.kind.group, input.review.kind.kind] != ["", "Namespace"]
	namespace := input.review.namespace
	is_string(namespace)
}

# The namespace that an object is, or lies in; none is an empty list.
namespaces_of(thing) := [name_of(thing)] if {
	is_namespace(thing)
} else := [requested] if {
	requested != ""
} else := [own] if {
	own := text_at(thing, ["metadata", "namespace"])
	own != ""
} else := []

labels_of(thing) := labels if {
	labels := object.get(thing, ["metadata", "labels"], {})
	is_object(labels)
} else := {}
"#;

fn parts(asked: &Asked<'_>) -> Vec<String> {
    let matching = asked.matching;
    let mut parts = Vec::new();
    if conditions(asked).contains(&"is_of_kind(thing)") {
        let bodies = matching.kinds.iter().map(|kinds| {
            let mut body = String::from("is_of_kind(thing) if {\n");
            for (what, list) in [("group_of(thing)", &kinds.groups), ("thing.kind", &kinds.kinds)] {
                if !list.is_empty() {
                    let _ = writeln!(body, "\t{what} in {}", set_of(list.iter()));
                }
            }
            body.push_str("}\n");
            body
        });
        parts.extend(bodies);
    }
    match matching.scope {
        Scope::All => {}
        Scope::Cluster => parts.push(
            "is_in_scope(thing) if is_namespace(thing)\n\nis_in_scope(thing) if count(namespaces_of(thing)) == 0\n"
                .to_owned(),
        ),
        Scope::Namespaced => parts.push(
            "is_in_scope(thing) if {\n\tnot is_namespace(thing)\n\tcount(namespaces_of(thing)) > 0\n}\n".to_owned(),
        ),
    }
    if !matching.namespaces.is_empty() {
        parts.push("is_in_namespaces(thing) if count(namespaces_of(thing)) == 0\n".to_owned());
        parts.push(
            "is_in_namespaces(thing) if {\n\tsome name in namespaces_of(thing)\n\tis_included(name)\n}\n".to_owned(),
        );
        parts.extend(globs("is_included", &matching.namespaces));
    }
    if !matching.excluded.is_empty() {
        parts.push(
            "is_in_excluded(thing) if {\n\tsome name in namespaces_of(thing)\n\tis_excluded(name)\n}\n".to_owned(),
        );
        parts.extend(globs("is_excluded", &matching.excluded));
    }
    if !asked.exempt.is_empty() {
        parts.push(
            "# By Gatekeeper's Config.\nis_exempt if {\n\tsome thing in things\n\tis_exempted(concat(\"\", namespaces_of(thing)))\n}\n"
                .to_owned(),
        );
        parts.extend(globs("is_exempted", asked.exempt));
    }
    if let Some(selector) = &matching.labels {
        parts.push(selected("has_labels", selector));
    }
    if let Some(selector) = &matching.namespace_labels {
        parts.push(selected("has_namespace_labels", selector));
        parts.push(IN_SELECTED.to_owned());
        parts.push(unknown_namespace(asked));
    }
    if let Some(name) = &matching.name {
        parts.extend(named(name));
    }
    if !asked.itself || !asked.workloads.is_empty() {
        if asked.itself {
            parts.push("is_of_source if not input.template\n".to_owned());
        }
        let pairs = asked
            .workloads
            .iter()
            .map(|(group, kind)| format!("[{}, {}]", text_of(group), text_of(kind)));
        parts.push(format!(
            "is_of_source if [input.template.group, input.template.kind] in {{{}}}\n",
            pairs.collect::<Vec<_>>().join(", ")
        ));
    }
    parts
}

const IN_SELECTED: &str = r#"is_in_selected(thing) if {
	is_namespace(thing)
	has_namespace_labels(labels_of(thing))
}

is_in_selected(thing) if count(namespaces_of(thing)) == 0

is_in_selected(thing) if {
	lies_in_one(thing)
	has_namespace_labels(labels_of(input.namespace))
}

lies_in_one(thing) if {
	not is_namespace(thing)
	count(namespaces_of(thing)) > 0
}
"#;

/// A namespace whose labels are not known is no match and no miss.
fn unknown_namespace(asked: &Asked<'_>) -> String {
    let before: String = conditions(asked)
        .into_iter()
        .take_while(|condition| *condition != "is_in_selected(thing)")
        .map(|condition| format!("\t{condition}\n"))
        .collect();
    let exempt = if asked.exempt.is_empty() {
        ""
    } else {
        "\tnot is_exempt\n"
    };
    format!(
        "violation contains {{\"msg\": \"namespace selector for namespace-scoped object but missing Namespace\"}} if {{\n\
         {exempt}\tnot input.namespace\n\tsome thing in things\n{before}\tlies_in_one(thing)\n}}\n"
    )
}

/// Functions of a name that one of the globs matches.
fn globs(function: &str, globs: &[String]) -> Vec<String> {
    let (mut same, mut within, mut before, mut behind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for glob in globs {
        match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
            (Some(rest), Some(_)) => within.push(rest.strip_suffix('*').unwrap_or(rest).to_owned()),
            (Some(rest), None) => behind.push(rest.to_owned()),
            (None, Some(rest)) => before.push(rest.to_owned()),
            (None, None) => same.push(glob.clone()),
        }
    }
    let mut functions = Vec::new();
    if !same.is_empty() {
        functions.push(format!("{function}(name) if name in {}\n", set_of(same.iter())));
    }
    for (list, test) in [(within, "contains"), (before, "startswith"), (behind, "endswith")] {
        if !list.is_empty() {
            functions.push(format!(
                "{function}(name) if {{\n\tsome part in {}\n\t{test}(name, part)\n}}\n",
                set_of(list.iter())
            ));
        }
    }
    functions
}

/// A name, or what a name is to be made of. Of a pod that would come of a workload, Gatekeeper makes up the name.
fn named(glob: &str) -> Vec<String> {
    let mut parts = vec![
        "has_name(thing) if {\n\tnot input.template\n\tis_named(name_of(thing))\n}\n".to_owned(),
        "has_name(thing) if is_named(lower(concat(\"\", [input.template.name, \"-pod\"])))\n".to_owned(),
    ];
    let list = [glob.to_owned()];
    parts.extend(globs("is_named", &list));
    if glob.ends_with('*') {
        parts.push("has_name(thing) if is_to_be_named(text_at(thing, [\"metadata\", \"generateName\"]))\n".to_owned());
        parts.extend(globs("is_to_be_named", &list));
    }
    parts
}

/// A function of labels that a selector selects.
fn selected(function: &str, selector: &LabelSelector) -> String {
    let mut body = format!("{function}(labels) if {{\n");
    let value = |key: &str| format!("object.get(labels, {}, null)", text_of(key));
    for (key, wanted) in &selector.match_labels {
        let _ = writeln!(body, "\t{} == {}", value(key), text_of(wanted));
    }
    for Requirement { key, operator, values } in &selector.match_expressions {
        let set = set_of(values.iter());
        let _ = match operator {
            SelectorOperator::In => writeln!(body, "\t{} in {set}", value(key)),
            SelectorOperator::NotIn => writeln!(body, "\tnot {} in {set}", value(key)),
            SelectorOperator::Exists => writeln!(body, "\t{} != null", value(key)),
            SelectorOperator::DoesNotExist => writeln!(body, "\t{} == null", value(key)),
        };
    }
    body.push_str("}\n");
    body
}

/// A set, an element a line: the engine bounds the length of lines.
fn set_of<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let texts: BTreeSet<&String> = texts.collect();
    let mut out = String::from("{\n");
    for text in texts {
        let _ = writeln!(out, "\t\t{},", text_of(text));
    }
    out.push_str("\t}");
    out
}

/// A text of Rego, which is one of JSON.
fn text_of(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
