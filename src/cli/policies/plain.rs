//! Rego that was written for plain OPA or conftest: no METADATA says what it judges, so it is asked about every object.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{
    api::{
        FailurePolicy, MatchConstraints, MatchOperation, MatchRule, MatchScope, Rego, RegoModule, RegoPolicySpec,
        RegoVersion, Templates, ValidationAction, is_dns_label,
    },
    policy::Declared,
};

/// Most modules of a policy: those beside it that give no verdict of their own.
const MAX_MODULES: usize = 16;
/// Rules that give a verdict.
const ENTRY_POINTS: [&str; 4] = ["allow", "deny", "violation", "warn"];

/// A file of such Rego.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) file: String,
    folder: String,
    stem: String,
    text: String,
}

/// Whether a file says itself what it judges. Annotations for OPA alone do not.
pub(super) fn has_metadata(text: &str) -> bool {
    let mut comments = text.lines().filter_map(|line| line.strip_prefix('#'));
    comments.by_ref().any(|comment| comment.trim() == "METADATA") && comments.any(|comment| comment.trim() == "custom:")
}

impl File {
    pub(super) fn new(path: &Path, text: String) -> Self {
        let part = |part: Option<&std::ffi::OsStr>| label(&part.map(|part| part.to_string_lossy()).unwrap_or_default());
        Self {
            file: path.display().to_string(),
            folder: part(path.parent().and_then(Path::file_name)),
            stem: part(path.file_stem()),
            text,
        }
    }

    /// Whether it gives a verdict, by what its lines begin with; else others may rest on it.
    fn gives_verdicts(&self) -> bool {
        let names = |line: &str| {
            let line = line.strip_prefix("default ").unwrap_or(line);
            ENTRY_POINTS.iter().any(|point| {
                let rest = line.strip_prefix(point);
                rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            })
        };
        self.text.lines().any(names)
    }

    /// The name by which it is told apart: that of the file, else with its folder's before it, else with a number behind it.
    fn name(&self, taken: &dyn Fn(&str) -> bool) -> String {
        let whole = format!("{}-{}", self.folder, self.stem);
        let numbered = (2_u32..=u32::MAX).map(|number| format!("{}-{number}", self.stem));
        let names = [self.stem.clone(), whole].into_iter().chain(numbered);
        let mut free = names.filter(|name| is_dns_label(name) && !taken(name));
        free.next().unwrap_or_else(|| "policy".to_owned())
    }
}

/// What a name may be of a text.
fn label(text: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
        _ => '-',
    };
    let label: String = text.chars().map(plain).take(40).collect();
    label.trim_matches('-').to_owned()
}

/// A policy of each file that gives verdicts, with those beside it that give none, in the version of the language that is asked for.
pub(super) fn declared(
    files: &[File],
    taken: &dyn Fn(&str) -> bool,
    parameters: &BTreeMap<String, Value>,
) -> Vec<(Declared, String)> {
    let (judging, libraries): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.gives_verdicts());
    let mut made: Vec<(Declared, String)> = Vec::new();
    for file in judging {
        let is_taken = |name: &str| taken(name) || made.iter().any(|(other, _)| other.name == name);
        let name = file.name(&is_taken);
        let beside = libraries.iter().filter(|_| file.text.contains("data."));
        let modules = [file].into_iter().chain(beside.copied()).take(MAX_MODULES);
        let spec = RegoPolicySpec {
            description: Some(format!("Policy {name} of {}", file.file)),
            remediation: Some(format!(
                "change the object so that {} lets it pass, or ask who wrote that policy",
                file.file
            )),
            validation_actions: vec![ValidationAction::Deny],
            failure_policy: FailurePolicy::Fail,
            match_constraints: everything(),
            templates: Templates::Ignore,
            parameters: parameters.get(&name).and_then(Value::as_object).cloned(),
            rego: Rego {
                version: RegoVersion::V1,
                modules: modules
                    .map(|file| RegoModule {
                        name: file.file.clone(),
                        source: file.text.clone(),
                    })
                    .collect(),
            },
            ..RegoPolicySpec::default()
        };
        let declared = Declared {
            name,
            uid: String::new(),
            generation: 0,
            spec,
        };
        made.push((declared, file.file.clone()));
    }
    made
}

fn everything() -> MatchConstraints {
    let all = || vec!["*".to_owned()];
    MatchConstraints {
        resource_rules: vec![MatchRule {
            api_groups: all(),
            api_versions: all(),
            resources: all(),
            operations: vec![MatchOperation::Create, MatchOperation::Update],
            scope: MatchScope::All,
            resource_names: Vec::new(),
        }],
        ..MatchConstraints::default()
    }
}
