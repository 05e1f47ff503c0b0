//! Rego that was written for plain OPA or conftest: no METADATA says what it judges, so it is asked about every object.
//!
//! Must never: leave out a rule that was written to refuse without a word. What gives verdicts is told by names alone.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{
    api::{
        FailurePolicy, MatchConstraints, MatchOperation, MatchRule, MatchScope, Rego, RegoModule, RegoPolicySpec,
        RegoVersion, Templates, ValidationAction, is_dns_label,
    },
    policy::{Declared, LoadError, Tokens, package_of},
};

/// Most modules of a policy: those beside it that give no verdict of their own.
const MAX_MODULES: usize = 16;
/// Rules that give a verdict.
const ENTRY_POINTS: [&str; 4] = ["allow", "deny", "violation", "warn"];
/// What names of rules begin with that conftest asks beside those, and nobody here.
const OF_CONFTEST: [&str; 3] = ["deny_", "violation_", "warn_"];

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

    /// Whether it gives a verdict; else others may rest on it.
    fn gives_verdicts(&self) -> bool {
        heads(&self.text).iter().any(|head| ENTRY_POINTS.contains(&head.name))
    }

    /// Whether it may use what another file defines.
    fn rests_on(&self, other: &Self) -> bool {
        let Some(package) = package_of(&other.text) else {
            return false;
        };
        let first = package.split(['.', '[']).next().unwrap_or(package);
        let path = format!("data.{first}");
        let ends = |at: usize| {
            let rest = self.text.get(at.saturating_add(path.len())..).unwrap_or_default();
            !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        };
        self.shares_package(other) || self.text.match_indices(&path).any(|(at, _)| ends(at))
    }

    fn shares_package(&self, other: &Self) -> bool {
        package_of(&self.text) == package_of(&other.text)
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

/// The name of a rule where the rule begins.
struct Head<'a> {
    name: &'a str,
    line: u32,
    /// Whether parameters follow.
    is_function: bool,
}

/// What may be rules of a text, wherever on its line each begins.
fn heads(text: &str) -> Vec<Head<'_>> {
    let tokens = Tokens::read(text);
    let mut found = Vec::new();
    let (mut line, mut before) = (1_u32, 0_usize);
    for number in 0..tokens.len() {
        let (Some(token), Some(name)) = (tokens.get(number), tokens.text(number)) else {
            break;
        };
        let between = text.get(before..token.start).unwrap_or_default();
        let breaks = between.matches('\n').count();
        line = line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        let follows = |word: &str| number.checked_sub(1).is_some_and(|number| tokens.is(number, word));
        if token.depth == 0 && (number == 0 || breaks > 0 || follows(";") || follows("default")) {
            found.push(Head {
                name,
                line,
                is_function: tokens.is(number.saturating_add(1), "("),
            });
        }
        // A text may have lines of its own.
        line = line.saturating_add(u32::try_from(name.matches('\n').count()).unwrap_or(u32::MAX));
        before = token.end;
    }
    found
}

/// Rules that conftest asks by their names, and nobody here.
fn unasked(file: &File) -> impl Iterator<Item = LoadError> {
    let is_unasked = |head: &Head<'_>| !head.is_function && OF_CONFTEST.iter().any(|name| head.name.starts_with(name));
    heads(&file.text).into_iter().filter(is_unasked).map(|head| {
        let name = head.name;
        let known = ENTRY_POINTS.join(", ");
        let message = format!(
            "rule {name} is asked by nobody: give it the name of what it says, one of {known}, or another name where it gives no verdict"
        );
        LoadError::at(&file.file, head.line, None, message)
    })
}

/// Rules of the files that are passed over though their names say that they refuse or warn.
pub(super) fn passed_over(files: &[File]) -> Vec<LoadError> {
    files.iter().flat_map(unasked).collect()
}

/// Files that no verdict can rest on, each with what to do about it.
pub(super) fn idle(files: &[File]) -> Vec<String> {
    let (mut used, mut others): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.gives_verdicts());
    loop {
        let (now, rest): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|other| used.iter().any(|file| file.rests_on(other)));
        others = rest;
        if now.is_empty() {
            break;
        }
        used.extend(now);
    }
    let told = others.into_iter().filter(|file| unasked(file).next().is_none());
    told.map(|file| {
        let known = ENTRY_POINTS.join(", ");
        format!(
            "{}: judges nothing: none of its rules is called {known}, and no file with such a rule names its package; take it away, or name its verdict so",
            file.file
        )
    })
    .collect()
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
        let names_others = file.text.contains("data.");
        let beside = libraries
            .iter()
            .filter(|library| names_others || file.shares_package(library));
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::first("package p\ndeny contains 1\n", true)]
    #[case::behind_blanks("package p\n\t deny[x] { x := 1 }\n", true)]
    #[case::behind_another("package p\nx := 1; deny contains 1\n", true)]
    #[case::default("package p\n  default   allow := false\n", true)]
    #[case::behind_a_text_of_lines("package p\nx := `\n}`\nwarn contains 1\n", true)]
    #[case::another_name("package p\ndenying contains 1\n", false)]
    #[case::in_a_comment("package p\n# deny\n", false)]
    #[case::in_a_body("package p\nx if {\n  deny\n}\n", false)]
    #[case::in_a_text("package p\nx := `\ndeny contains 1`\n", false)]
    #[case::behind_a_path("package p\nimport data.main.deny\n", false)]
    fn a_file_gives_verdicts_by_the_names_of_its_rules(#[case] text: &str, #[case] expected: bool) {
        let file = File::new(Path::new("p.rego"), text.to_owned());
        assert_eq!(file.gives_verdicts(), expected);
    }
}
