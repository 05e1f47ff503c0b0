//! A ConstraintTemplate: its kind, its Rego, the schema of its parameters.
//!
//! Must never: change a letter of the Rego. Whoever reads an error must find it where the template has it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::parameters::ParametersSchema;
use super::source::Scan;
use crate::api::{MatchOperation, RegoModule, RegoVersion};

const TARGET: &str = "admission.k8s.gatekeeper.sh";
const REGO: &str = "Rego";
const CEL: &str = "K8sNativeValidation";
const SYNC: &str = "metadata.gatekeeper.sh/requires-sync-data";
/// Most libraries of a template: a policy has at most sixteen modules, of which one is the template and one stands beside it.
const MAX_LIBS: usize = 14;
/// Largest Rego of a template together, in bytes.
const MAX_REGO: usize = 256 << 10;

/// A template as it is asked.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) kind: String,
    pub(super) title: Option<String>,
    /// What its annotation says that it needs synced.
    pub(super) sync: Option<String>,
    pub(super) version: RegoVersion,
    pub(super) modules: Vec<RegoModule>,
    pub(super) scan: Scan,
    pub(super) operations: Vec<MatchOperation>,
    pub(super) schema: ParametersSchema,
    pub(super) notes: Vec<String>,
}

impl Template {
    /// Reads one; `version` is the one of its apiVersion.
    pub(super) fn read(object: &Value, version: &str) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let legacy = match version {
            "v1" => false,
            "v1beta1" | "v1alpha1" => true,
            _ => {
                problems.push("apiVersion: Gatekeeper has v1, v1beta1 and v1alpha1".to_owned());
                false
            }
        };
        let kind = text("/spec/crd/spec/names/kind").unwrap_or_default().to_owned();
        let is_kind = |kind: &str| {
            kind.starts_with(|c: char| c.is_ascii_alphabetic()) && kind.chars().all(|c| c.is_ascii_alphanumeric())
        };
        if !is_kind(&kind) || kind.len() > 63 {
            problems.push("spec.crd.spec.names.kind: must be the name of a kind".to_owned());
        } else if text("/metadata/name") != Some(&kind.to_ascii_lowercase()) {
            problems.push(format!(
                "metadata.name: must be the kind in lower case, {}",
                kind.to_ascii_lowercase()
            ));
        }
        let target = match object
            .pointer("/spec/targets")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            Some([target]) => Some(target),
            _ => {
                problems.push("spec.targets: must be exactly one".to_owned());
                None
            }
        };
        let mut notes = Vec::new();
        let mut source = None;
        let mut operations = Vec::new();
        if let Some(target) = target {
            if target.get("target").and_then(Value::as_str) != Some(TARGET) {
                problems.push(format!("spec.targets[0].target: must be {TARGET}"));
            }
            match Rego::read(target, &mut notes) {
                Ok(rego) => source = Some(rego),
                Err(found) => problems.extend(found),
            }
            operations = read_operations(target.get("operations"), &mut problems);
        }
        let schema = ParametersSchema::of(object.pointer("/spec/crd/spec/validation"), legacy);
        if schema.has_rules() {
            notes.push("rules in CEL of the template's schema are not looked at here".to_owned());
        }
        let annotation = |name: &str| {
            let annotations = object.pointer("/metadata/annotations")?;
            annotations.get(name)?.as_str().map(str::to_owned)
        };
        match source {
            Some(Rego { version, modules, scan }) if problems.is_empty() => Ok(Self {
                kind,
                title: annotation("metadata.gatekeeper.sh/title").or_else(|| annotation("description")),
                sync: annotation(SYNC),
                version,
                modules,
                operations: if operations.is_empty() {
                    asked_by_default(&scan, &mut notes)
                } else {
                    operations
                },
                scan,
                schema,
                notes,
            }),
            _ => Err(problems),
        }
    }
}

/// What Gatekeeper's webhook asks about, and what else the template looks at.
fn asked_by_default(scan: &Scan, notes: &mut Vec<String>) -> Vec<MatchOperation> {
    let mut operations = vec![MatchOperation::Create, MatchOperation::Update];
    for (word, operation, option) in [
        ("DELETE", MatchOperation::Delete, "enableDeleteOperations"),
        ("CONNECT", MatchOperation::Connect, "enableConnectOperations"),
    ] {
        if scan.says(word) {
            notes.push(format!(
                "it is asked about {word} too, which it looks at: in Gatekeeper, only where {option} is set"
            ));
            operations.push(operation);
        }
    }
    operations
}

fn read_operations(value: Option<&Value>, problems: &mut Vec<String>) -> Vec<MatchOperation> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Vec::new();
    };
    match serde_json::from_value::<Vec<MatchOperation>>(value.clone()) {
        Ok(operations) if operations.len() > 1 && operations.contains(&MatchOperation::All) => {
            problems.push("spec.targets[0].operations: '*' must be the only one".to_owned());
            Vec::new()
        }
        Ok(operations) => operations.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        Err(_) => {
            problems.push("spec.targets[0].operations: must hold CREATE, UPDATE, DELETE, CONNECT, or *".to_owned());
            Vec::new()
        }
    }
}

/// The Rego of a target.
struct Rego {
    version: RegoVersion,
    modules: Vec<RegoModule>,
    scan: Scan,
}

impl Rego {
    /// `rego` and `libs` of the target come before those of its `code`, as in Gatekeeper.
    fn read(target: &Value, notes: &mut Vec<String>) -> Result<Self, Vec<String>> {
        const AT: &str = "spec.targets[0]";
        let engines: Vec<_> = target
            .get("code")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect();
        let of = |engine: &str| {
            engines
                .iter()
                .find(|code| code.get("engine").and_then(Value::as_str) == Some(engine))
        };
        let plain = target
            .get("rego")
            .and_then(Value::as_str)
            .filter(|rego| !rego.is_empty());
        let (at, from, version) = match (plain, of(REGO)) {
            (Some(_), _) => (AT.to_owned(), target, RegoVersion::V0),
            (None, Some(code)) => {
                let source = code.get("source").unwrap_or(&Value::Null);
                // What is not v1 is the old language, whatever it says.
                let version = match source.get("version").and_then(Value::as_str) {
                    Some("v1") => RegoVersion::V1,
                    _ => RegoVersion::V0,
                };
                (format!("{AT}.code[{REGO}].source"), source, version)
            }
            (None, None) if of(CEL).is_some() => {
                return Err(vec![format!(
                    "{AT}.code: {CEL} (CEL) is not evaluated here: write it as a ValidatingAdmissionPolicy, or in Rego beside it"
                )]);
            }
            (None, None) => return Err(vec![format!("{AT}: has no Rego")]),
        };
        if of(CEL).is_some() {
            notes.push(format!(
                "Gatekeeper evaluates the {CEL} of this template, unless that is switched off; here the Rego beside it is"
            ));
        }
        let mut problems = Vec::new();
        let main = from.get("rego").and_then(Value::as_str).unwrap_or_default();
        let mut sources = vec![main];
        match from.get("libs") {
            None | Some(Value::Null) => {}
            Some(Value::Array(libs)) if libs.iter().all(Value::is_string) => {
                sources.extend(libs.iter().filter_map(Value::as_str));
            }
            Some(_) => problems.push(format!("{at}.libs: must be a list of texts")),
        }
        if sources.len() > MAX_LIBS + 1 {
            problems.push(format!("{at}.libs: has more than {MAX_LIBS}"));
        }
        if sources.iter().map(|source| source.len()).sum::<usize>() > MAX_REGO {
            problems.push(format!("{at}: has more than {MAX_REGO} bytes of Rego"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut modules = Vec::new();
        let mut all: Option<Scan> = None;
        for (number, source) in sources.into_iter().enumerate() {
            let scan = Scan::of(source);
            let name = match number {
                0 => "template.rego".to_owned(),
                _ => format!("lib_{}.rego", number - 1),
            };
            let is_lib = scan.package.first().is_some_and(|first| first == "lib") && scan.package.len() > 1;
            match (number, scan.package.is_empty()) {
                (_, true) => problems.push(format!("{at}: {name} names no package")),
                (0, false) => {}
                (_, false) if !is_lib => {
                    problems.push(format!("{at}: {name}: the package of a library must lie in `lib`"));
                }
                (_, false) => {}
            }
            all = Some(match all {
                None => scan,
                Some(all) => all.join(scan),
            });
            modules.push(RegoModule {
                name,
                source: source.to_owned(),
            });
        }
        match all {
            Some(scan) if problems.is_empty() => Ok(Self { version, modules, scan }),
            _ => Err(problems),
        }
    }
}
