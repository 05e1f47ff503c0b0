//! OPA's own compliance cases, asked of a single policy as Ringfence loads one: each has OPA's answer, or is refused, or is an
//! error where OPA has a value, or is named below.
//!
//! A policy sees no documents beside its rules: those of a case are handed to both as a part of the input.

use std::collections::BTreeMap;

use ringfence::policy::RegoVersion::{self, V0, V1};
use serde_json::{Value, json};
use support::opa::{Answer, Compliance, Opa};

use crate::compare::{Case, ours, said, same, theirs};

/// What became of a case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    /// It cannot be asked of a single policy.
    Unasked(&'static str),
    /// The same value, or nothing from both.
    Agreed,
    /// An error from both.
    Failed,
    /// Refused when it is loaded, where OPA has an answer.
    Refused(String),
    /// An error when it is evaluated, where OPA has an answer.
    Stopped(String),
    /// Loaded, where OPA's compiler finds types that do not fit.
    Untyped,
    Different,
}

/// The case as one policy; why not where it is none.
fn case(from: &Compliance, version: RegoVersion) -> Result<Case, &'static str> {
    if !from.unasked.is_empty() {
        return Err("its input is no JSON");
    }
    let modules = from.modules.as_deref().unwrap_or_default();
    let [module] = modules else {
        return Err("it has several modules, or none");
    };
    let Some((rule, package)) = from.path.as_deref().and_then(|path| path.split_last()) else {
        return Err("it asks for no rule");
    };
    let declared = module
        .lines()
        .find_map(|line| line.trim().strip_prefix("package "))
        .unwrap_or_default();
    if package.join(".") != declared.trim() {
        return Err("it asks for a part of a rule, or a whole package");
    }
    let mut module = module.clone();
    let mut input = from.input.clone();
    if let Value::Object(documents) = &from.data {
        if !documents.is_empty() && input.is_null() {
            input = json!({});
        }
        for (name, document) in documents {
            let Some(fields) = input.as_object_mut().filter(|_| Some(name) != package.first()) else {
                return Err("its documents do not fit into its input");
            };
            if fields.insert(name.clone(), document.clone()).is_some() {
                return Err("its documents do not fit into its input");
            }
            module = moved(&module, name);
        }
    }
    let package = package
        .iter()
        .fold("data".to_owned(), |path, name| format!("{path}[{}]", json!(name)));
    Ok(Case {
        module,
        version,
        input,
        package,
        rule: rule.clone(),
    })
}

/// `data.name` as `input.name`.
fn moved(module: &str, name: &str) -> String {
    let mut text = String::new();
    let mut rest = module;
    while let Some(at) = rest.find("data.") {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let starts = !text.ends_with(is_word);
        let named = after["data.".len()..].strip_prefix(name);
        let ends = named.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        text.push_str(if starts && ends { "input." } else { "data." });
        rest = &after["data.".len()..];
    }
    text + rest
}

fn fate(case: &Case, opa: &mut Opa) -> (Fate, Answer, Answer) {
    let (ours, theirs) = (ours(case), theirs(opa, case));
    let fate = match (&ours, &theirs) {
        (Answer::Error(_), Answer::Error(_)) => Fate::Failed,
        _ if same(&ours, &theirs) => Fate::Agreed,
        // Rules with dotted heads make up a document, and no rule has its name. A policy is asked for rules.
        (Answer::Error(error), _) if error.contains("not a valid rule path") => {
            Fate::Unasked("it asks for what several rules make up")
        }
        (Answer::Error(error), _) if error.starts_with("load: ") => Fate::Refused(reason(error)),
        (Answer::Error(error), _) => Fate::Stopped(error.clone()),
        (_, Answer::Error(error)) if error.contains("rego_type_error") => Fate::Untyped,
        _ => Fate::Different,
    };
    (fate, ours, theirs)
}

/// A refusal by what the words of its error say.
const REASONS: [(&str, &str); 17] = [
    ("no built-in function of this engine", "a function that is not there"),
    ("is not available in policies", "a function that is refused by name"),
    ("takes apart more objects", "an object that takes a value apart"),
    ("maximum column width", "a line of more than 1024 columns"),
    ("is not there", "a document that no policy has"),
    ("leave out the import", NEWER),
    ("unexpected keyword", NEWER),
    ("expecting", NEWER),
    ("invalid character", NEWER),
    ("`not` of braces", NEWER),
    ("a line that begins with `(`", "a line that begins with a bracket"),
    ("nested more than", "brackets nested more than 12 deep"),
    ("out of range", "a number that no double holds"),
    (
        "use of undefined variable",
        "`with` that puts a built-in function in the place of another",
    ),
    ("arguments, and is given", "a result that an argument takes under `not`"),
    ("without parameters", "a function without parameters"),
    (
        "cannot be told with certainty",
        "a statement that cannot be taken apart with certainty",
    ),
];

const NEWER: &str = "syntax of newer versions of OPA";

/// Where such syntax is, or lines and numbers that are too long to be read: elsewhere the engine must read everything.
const NEWER_IN: [&str; 11] = [
    "keywordrefs",
    "logic_operators",
    "negation",
    "stringinterpolation",
    "rego_v2_import",
    "jwtdecodeverify",
    "jwtverifyrsa",
    "jwtencodesign",
    "sprintf",
    "strings",
    "refheads",
];

/// Calls that OPA answers and we do not, by the words of their error; docs/rego-support.md says which.
const STOPPED: [&str; 7] = [
    "`strings.replace_n` expects keys that are not empty",
    "`sprintf` expects verbs",
    "`json.unmarshal` expects JSON",
    "`io.jwt.decode` expects a token that holds no other token",
    "`net.cidr_merge` expects an address range",
    "`time.parse_duration_ns` expects a duration",
    // `sprintf` of an integer of more than 64 bits.
    "an expression could not be evaluated",
];

/// Cases whose answer is another, and why.
const DIFFERENT: [(&str, &str); 1] = [
    // Compared to each other, sets come before objects here and after them in OPA.
    ("virtualdocs/output: set falsy values", "[[],[],{}]"),
];

fn reason(error: &str) -> String {
    let known = REASONS.iter().find(|(words, _)| error.contains(words));
    known.map_or_else(|| error.to_owned(), |(_, reason)| (*reason).to_owned())
}

/// What is wrong about the fate of a case; nothing where it is as it should be.
fn wrong(from: &Compliance, fate: &Fate) -> bool {
    match fate {
        Fate::Unasked(_) | Fate::Agreed | Fate::Failed | Fate::Untyped => false,
        Fate::Refused(reason) if reason == NEWER => !NEWER_IN.contains(&from.folder.as_str()),
        Fate::Refused(reason) => !REASONS.iter().any(|(_, known)| known == reason),
        Fate::Stopped(error) => !STOPPED.iter().any(|words| error.contains(words)),
        Fate::Different => !DIFFERENT.iter().any(|(note, _)| *note == from.note),
    }
}

/// Rows of the table in docs/rego-support.md.
#[derive(Default)]
struct Counts(BTreeMap<String, usize>);

impl Counts {
    fn add(&mut self, fate: &Fate) {
        let row = match fate {
            Fate::Unasked(_) => "no question to a single policy".to_owned(),
            Fate::Agreed => "**the same value, or nothing from both**".to_owned(),
            Fate::Failed => "**an error from both**".to_owned(),
            Fate::Refused(reason) => format!("refused: {reason}"),
            Fate::Stopped(_) => "an error where OPA has a value".to_owned(),
            Fate::Untyped => "loads, where OPA finds types that do not fit".to_owned(),
            Fate::Different => "another answer (sets and objects compared)".to_owned(),
        };
        *self.0.entry(row).or_default() += 1;
    }

    fn get(&self, row: &str) -> usize {
        self.0.get(row).copied().unwrap_or_default()
    }
}

#[test]
fn every_case_of_opa_is_answered_alike_or_refused() {
    let mut opa = Opa::start().expect("OPA starts");
    let (mut all, mut bad, mut differed) = (Vec::new(), Vec::new(), Vec::new());
    for (version, folder) in [(V0, "v0"), (V1, "v1")] {
        let mut counts = Counts::default();
        for from in opa.cases(folder).expect("OPA's cases") {
            let fate = match case(&from, version) {
                Err(why) => Fate::Unasked(why),
                Ok(case) => {
                    let (fate, ours, theirs) = fate(&case, &mut opa);
                    if wrong(&from, &fate) {
                        let (ours, theirs) = (said(&ours), said(&theirs));
                        bad.push(format!(
                            "{folder} {}\n{}input {}\n  ours {ours}\n  OPA  {theirs}",
                            from.note, case.module, case.input
                        ));
                    }
                    fate
                }
            };
            if fate == Fate::Different {
                differed.push(from.note.clone());
            }
            counts.add(&fate);
        }
        all.push(counts);
    }
    assert!(bad.is_empty(), "{} cases:\n\n{}", bad.len(), bad.join("\n\n"));
    for (note, _) in DIFFERENT {
        assert!(
            differed.iter().any(|differs| differs == note),
            "{note} is answered alike now: take it from the list"
        );
    }
    let [v0, v1] = all.as_slice() else {
        panic!("two versions")
    };
    let rows: std::collections::BTreeSet<_> = v0.0.keys().chain(v1.0.keys()).collect();
    let mut table = String::from("| cases | version 1 | version 0 |\n|---|---|---|\n");
    for row in rows {
        table.push_str(&format!("| {row} | {} | {} |\n", v1.get(row), v0.get(row)));
    }
    let sum = |counts: &Counts| counts.0.values().sum::<usize>();
    table.push_str(&format!("| all | {} | {} |\n", sum(v1), sum(v0)));
    println!("{table}");
    let page = ringfence::policy::render_support();
    assert!(
        page.contains(&table),
        "src/policy/builtins/page.md has other counts than these:\n\n{table}"
    );
}

/// What the templates of the Gatekeeper library call, at 5c441fb, and what their like commonly calls, in version 0 and 1.
const GATEKEEPER: [&str; 58] = [
    "abs",
    "all",
    "any",
    "array.concat",
    "base64.decode",
    "cast_array",
    "concat",
    "contains",
    "count",
    "endswith",
    "glob.match",
    "indexof",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "json.marshal",
    "json.unmarshal",
    "lower",
    "max",
    "min",
    "net.cidr_contains",
    "object.get",
    "object.keys",
    "object.remove",
    "object.union",
    "re_match",
    "regex.match",
    "regex.replace",
    "regex.split",
    "replace",
    "semver.compare",
    "semver.is_valid",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "substring",
    "sum",
    "time.parse_rfc3339_ns",
    "to_number",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
    "units.parse",
    "units.parse_bytes",
    "upper",
];

#[test]
fn what_the_gatekeeper_library_calls_is_there() {
    let there: Vec<_> = ringfence::policy::builtin_functions().collect();
    let missing: Vec<_> = GATEKEEPER.iter().filter(|name| !there.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
