//! What is behind a decision line: the policies and rules that it names, and, where it holds its input, what they found.
//!
//! Must never: say that a policy found nothing where what it found may be masked, or take a replay for the decision. A replay judges
//! with what is loaded now, over what the line lets be seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::input::{Input, MAX_INPUT};
use super::mask::MASKED;
use super::read::Logged;
use super::replay::{Effect, Found, replay};
use super::rules::{RULES, Rule, rule_of};
use crate::api::{is_dns_label, is_dns_subdomain};
use crate::policy::{PolicyInfo, PolicyInput, Verdict};
use crate::review::Outcome;

/// Most masked fields that are named.
const MAX_MASKED: usize = 64;

/// A decision line, explained.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// When it was decided.
    pub timestamp: Option<String>,
    /// The request's uid.
    pub uid: String,
    /// The webhook that was asked.
    pub webhook: String,
    /// Who asked.
    pub user: String,
    /// For what: CREATE and so on.
    pub operation: String,
    /// The resource with its group and subresource, such as `deployments.apps`.
    pub resource: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Whether nothing would have been stored.
    pub dry_run: bool,
    /// The decision.
    pub verdict: Outcome,
    /// What that meant for who asked.
    pub meaning: String,
    /// What the line names.
    pub policies: Vec<Explained>,
    /// Exceptions by which it passed.
    pub exceptions: Vec<Used>,
    /// What could be replayed.
    pub replay: Replay,
    /// Revision of the policies that decided.
    pub revision: String,
    /// Revision of those that explain.
    pub loaded_revision: String,
    /// What to know about all of this.
    pub notes: Vec<String>,
}

/// A name of the line.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The name.
    pub name: String,
    /// What goes by that name: a policy, a built-in rule, or both.
    pub described: Vec<Described>,
    /// What it found, by a replay.
    pub findings: Vec<Found>,
    /// Why nothing is listed.
    pub note: Option<String>,
}

/// A policy or rule in words.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    /// What it is.
    pub kind: Kind,
    /// A few words; empty for a built-in rule.
    pub title: String,
    /// What it demands.
    pub description: String,
    /// How much is at stake.
    pub severity: Option<String>,
    /// Where it is written.
    pub file: Option<String>,
    /// What to do when it refuses.
    pub remediation: String,
    /// Controls that it helps to meet.
    pub controls: Vec<String>,
}

/// What goes by a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of Ringfence, without exceptions.
    BuiltInRule,
    /// A Rego policy.
    Policy,
}

/// An exception that was used.
#[derive(Clone, Debug, Serialize)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What shows it.
    pub see: String,
}

/// How far the line could be replayed.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// Whether it was.
    pub done: bool,
    /// Fields of the object whose value is masked; the first of many.
    pub masked: Vec<String>,
    /// How many more there are.
    pub masked_more: usize,
}

/// Names to what goes by them: the built-in rules, and whatever is added.
#[derive(Clone, Debug)]
pub struct Catalogue(BTreeMap<String, Vec<Described>>);

impl Default for Catalogue {
    fn default() -> Self {
        let described = |rule: &Rule| Described {
            kind: Kind::BuiltInRule,
            title: String::new(),
            description: rule.description.to_owned(),
            severity: None,
            file: None,
            remediation: rule.fix.to_owned(),
            controls: Vec::new(),
        };
        Self(
            RULES
                .iter()
                .map(|rule| (rule.name.to_owned(), vec![described(rule)]))
                .collect(),
        )
    }
}

impl Catalogue {
    /// Adds what goes by a name too.
    pub fn add(&mut self, name: &str, described: Described) {
        self.0.entry(name.to_owned()).or_default().push(described);
    }

    /// Adds policies, by their METADATA.
    #[must_use]
    pub fn with<'a>(mut self, policies: impl Iterator<Item = &'a PolicyInfo>) -> Self {
        for policy in policies {
            let metadata = &policy.metadata;
            let described = Described {
                kind: Kind::Policy,
                title: metadata.title.clone(),
                description: metadata.description.clone(),
                severity: Some(metadata.severity.as_str().to_owned()),
                file: Some(policy.file.clone()),
                remediation: metadata.remediation.clone(),
                controls: metadata.controls.clone(),
            };
            self.add(&metadata.name, described);
        }
        self
    }

    fn of(&self, name: &str) -> Vec<Described> {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// Explains a line. `judge` asks the policies of that revision.
pub fn explain(
    logged: &Logged,
    catalogue: &Catalogue,
    revision: &str,
    judge: &dyn Fn(&PolicyInput<'_>) -> Vec<Verdict>,
) -> Explanation {
    let line = &logged.line;
    let names = names(&line.policies);
    let exceptions: Vec<_> = self::names(&line.exceptions)
        .into_iter()
        .map(|name| used(name, &line.namespace))
        .collect();
    let mut notes = Vec::new();
    if !line.revision.is_empty() && line.revision != revision {
        notes.push(format!(
            "the policies that decided were of revision {}, those that explain are of {revision}: sources or parameters differ (--policies, --policy-parameters)",
            line.revision
        ));
    }
    let input = line.input.as_deref().map(read_input);
    let mut found = None;
    let mut masked = Vec::new();
    match (&input, line.input_left_out) {
        (Some(Ok(input)), _) => {
            masked = masked_paths(input);
            match replay(input, &names, judge) {
                Ok(Some(all)) => found = Some(all),
                Ok(None) if names.is_empty() => {}
                Ok(None) => notes.push(
                    "no policy was asked about it, and what its rules look at is in no line: the answer that the caller got says what was found"
                        .to_owned(),
                ),
                Err(why) => notes.push(format!("its input cannot be replayed: {why}")),
            }
        }
        (Some(Err(())), _) => notes.push("its input cannot be read: it is not what this Ringfence writes".to_owned()),
        (None, Some(size)) => notes.push(format!(
            "its input of {size} bytes was too large for a line: which fields were at fault is in the answer that the caller got"
        )),
        (None, None) if names.is_empty() => {}
        (None, None) => notes.push(
            "it holds no input, so which fields were at fault is not known here: the answer that the caller got names them, and \
             lines of ringfence run --decision-input=masked let them be found again"
                .to_owned(),
        ),
    }
    let done = found.is_some();
    let all = found.unwrap_or_default();
    let others: BTreeSet<&str> = all
        .iter()
        .map(|found| found.policy.as_str())
        .filter(|policy| !names.contains(policy))
        .collect();
    if !others.is_empty() {
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "the replay finds more than the decision did, because masked values are not those that were sent, or because policies differ: {others}"
        ));
    }
    let is_masked =
        |found: &Found| masked.contains(&found.path) || found.value.as_deref().is_some_and(|v| v.starts_with(MASKED));
    let policies = names.iter().map(|name| {
        let findings = all.iter().filter(|found| found.policy == *name).cloned();
        let findings: Vec<_> = findings
            .map(|found| Found {
                masked: is_masked(&found),
                effect: effect(&found, line.verdict, !exceptions.is_empty()),
                ..found
            })
            .collect();
        let described = catalogue.of(name);
        Explained {
            name: (*name).to_owned(),
            note: note(name, &described, done && findings.is_empty()),
            described,
            findings,
        }
    });
    Explanation {
        timestamp: logged.timestamp.clone(),
        uid: line.uid.to_string(),
        webhook: line.webhook.to_string(),
        user: line.user.to_string(),
        operation: line.operation.to_string(),
        resource: resource(&line.resource, &line.group, &line.subresource),
        namespace: line.namespace.to_string(),
        name: line.name.to_string(),
        dry_run: line.dry_run,
        verdict: line.verdict,
        meaning: meaning(line.verdict, line.fault.as_deref()),
        policies: policies.collect(),
        exceptions,
        replay: Replay {
            done,
            masked_more: masked.len().saturating_sub(MAX_MASKED),
            masked: masked.into_iter().take(MAX_MASKED).collect(),
        },
        revision: line.revision.to_string(),
        loaded_revision: revision.to_owned(),
        notes,
    }
}

/// Reads an input. A line can come from anywhere, so not a larger one than could be ours, once what ships logs has written it anew.
fn read_input(text: &str) -> Result<Input, ()> {
    if text.len() > 4 * MAX_INPUT {
        return Err(());
    }
    serde_json::from_str(text).map_err(drop)
}

fn names(joined: &str) -> Vec<&str> {
    joined.split(',').filter(|name| !name.is_empty()).collect()
}

fn used(name: &str, namespace: &str) -> Used {
    // Somebody may paste this into a shell, and a line can come from anywhere.
    let see = if is_dns_subdomain(name) && is_dns_label(namespace) {
        format!("kubectl get regopolicyexception {name} --namespace {namespace} -o yaml")
    } else {
        "no exception can have that name".to_owned()
    };
    Used {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        see,
    }
}

/// An effect of a mode, as it was in the end.
fn effect(found: &Found, verdict: Outcome, excused: bool) -> Effect {
    let passed = !matches!(verdict, Outcome::Deny | Outcome::Fault);
    match found.effect {
        Effect::Refuses if passed && excused => Effect::Excused,
        effect => effect,
    }
}

fn note(name: &str, described: &[Described], replayed_without_findings: bool) -> Option<String> {
    if described.is_empty() {
        let mut note = "no policy of that name is loaded, and no built-in rule has it: name the folder that holds it with --policies".to_owned();
        if is_dns_subdomain(name) {
            note.push_str(&format!(
                "; if it is an object of the cluster, see kubectl get regopolicy {name} -o yaml"
            ));
        }
        return Some(note);
    }
    if !replayed_without_findings {
        return None;
    }
    let is_policy = described.iter().any(|described| described.kind == Kind::Policy);
    let replays = rule_of(name).is_some_and(|rule| rule.replays);
    Some(if is_policy || replays {
        "what it found cannot be found again: it lies in what is masked, or policies and Ringfence were others"
            .to_owned()
    } else {
        "what it found cannot be replayed: it rests on what no line holds, such as accounts, owners or the time"
            .to_owned()
    })
}

fn resource(resource: &str, group: &str, subresource: &str) -> String {
    let mut text = resource.to_owned();
    if !group.is_empty() {
        text.push_str(&format!(".{group}"));
    }
    if !subresource.is_empty() {
        text.push_str(&format!("/{subresource}"));
    }
    text
}

fn meaning(verdict: Outcome, fault: Option<&str>) -> String {
    let why = match (verdict, fault) {
        (Outcome::Allow, _) => "it passed: nothing was found",
        (Outcome::Audit, _) => "it passed, and the caller was told nothing: only the log has what was found",
        (Outcome::Deny, _) => "it was refused, and the caller was told why",
        (Outcome::Warn, _) => "it passed, and the caller was warned",
        (Outcome::Fault, Some("BadRequest")) => "it was refused: the review could not be read",
        (Outcome::Fault, Some("InternalError")) => "it was refused: Ringfence failed; report it with the replica's log",
        (Outcome::Fault, Some("RequestEntityTooLarge")) => "it was refused: the review was larger than 32 MiB",
        (Outcome::Fault, Some("ServiceUnavailable")) => {
            "it was refused: a fact could not be read from the API server, or this replica had no room; see whether both are well"
        }
        (Outcome::Fault, Some("Timeout")) => {
            "it was refused: there was no decision in time; see ringfence_policy_evaluation_duration_seconds and the API server"
        }
        (Outcome::Fault, Some("UnsupportedMediaType")) => "it was refused: what was sent was no JSON",
        (Outcome::Fault, _) => "it was refused: it could not be decided",
    };
    why.to_owned()
}

/// Fields of the object whose value is masked, as findings name them.
fn masked_paths(input: &Input) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(object) = input.request.get("object") {
        walk(object, "", &mut found);
    }
    found
}

fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with(MASKED) => found.push(path.to_owned()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                let is_word = key.chars().all(|c| c.is_ascii_alphanumeric());
                let path = match (path, is_word) {
                    ("", true) => key.clone(),
                    (_, true) => format!("{path}.{key}"),
                    (_, false) => format!("{path}[{key}]"),
                };
                walk(item, &path, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
