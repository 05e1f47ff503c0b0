//! What is behind a decision line: the policies and rules that it names, and, where it holds its input, what they found.
//!
//! Must never: say that a policy found nothing where what it found may be masked, or take a replay for the decision. A replay judges
//! with what is loaded now, over what the line lets be seen.

use serde::Serialize;
use serde_json::Value;

use super::catalogue::{Catalogue, Described};
use super::input::{Input, MAX_INPUT};
use super::mask::MASKED;
use super::notes::{About, NO_OBJECTS, found_more, note, note_of_object, other_revision, without_facts};
use super::read::Logged;
use super::registered::{self, Replayed};
use super::replay::{Effect, Found, replay};
use crate::api::{ValidationAction, is_dns_label, is_dns_subdomain};
use crate::policy::{PolicyInput, Question, Snapshot, Verdict};
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

/// What explains: the policies that are loaded now.
#[derive(Clone, Copy)]
pub struct Loaded<'a> {
    /// What their names mean.
    pub catalogue: &'a Catalogue,
    /// Revision of those that are no objects.
    pub revision: &'a str,
    /// Asks them.
    pub judge: &'a dyn Fn(&PolicyInput<'_>) -> Vec<Verdict>,
    /// What a refusal of one of them does.
    pub action: &'a dyn Fn(&str) -> ValidationAction,
    /// RegoPolicies, where there are some at hand.
    pub objects: Option<Objects<'a>>,
}

/// RegoPolicies that explain.
#[derive(Clone, Copy)]
pub struct Objects<'a> {
    /// All of them, those that are broken too.
    pub snapshot: &'a Snapshot,
    /// Asks some of them.
    pub judge: &'a dyn Fn(Question) -> Vec<Verdict>,
}

/// Explains a line.
pub fn explain(logged: &Logged, loaded: &Loaded<'_>) -> Explanation {
    let line = &logged.line;
    let about = About::of(&line.webhook);
    let names = names(&line.policies);
    let exceptions: Vec<_> = self::names(&line.exceptions)
        .into_iter()
        .map(|name| used(name, &line.namespace))
        .collect();
    let mut notes = Vec::new();
    let revision = match about {
        About::Shipped => Some(loaded.revision),
        About::Registered | About::Behind => loaded.objects.map(|objects| objects.snapshot.revision()),
    };
    notes.extend(revision.and_then(|revision| other_revision(line, about, revision)));
    let input = line.input.as_deref().map(read_input);
    let mut replayed = None;
    let mut masked = Vec::new();
    match (&input, line.input_left_out) {
        (Some(Ok(input)), _) => {
            masked = masked_paths(input);
            match judged(input, &names, about, loaded) {
                Ok(Some(all)) => replayed = Some(all),
                Ok(None) => notes.extend(without_facts(about, loaded, &names).map(str::to_owned)),
                Err(why) => notes.push(format!("its input cannot be replayed: {why}")),
            }
        }
        (Some(Err(())), _) => notes.push("its input cannot be read: it is not what this Ringfence writes".to_owned()),
        (None, Some(size)) => notes.push(format!(
            "its input of {size} bytes was too large for a line: which fields were at fault is in the answer that the caller got"
        )),
        (None, None) if names.is_empty() => {}
        (None, None) if about == About::Behind => notes.push(
            "it holds no input, so which fields were at fault is not known, and nobody was told: lines of ringfence run \
             --decision-input=masked let them be found again"
                .to_owned(),
        ),
        (None, None) => notes.push(
            "it holds no input, so which fields were at fault is not known here: the answer that the caller got names them, and \
             lines of ringfence run --decision-input=masked let them be found again"
                .to_owned(),
        ),
    }
    let done = replayed.is_some();
    let Replayed { found: all, unasked } = replayed.unwrap_or_default();
    notes.extend(found_more(&all, &names, about));
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
        let described = loaded.catalogue.of(name, about != About::Shipped);
        let nothing = done && findings.is_empty();
        let note = match about {
            About::Shipped => note(name, &described, nothing),
            About::Registered | About::Behind if loaded.objects.is_none() => Some(NO_OBJECTS.to_owned()),
            About::Registered | About::Behind => note_of_object(name, &described, unasked.get(*name), nothing),
        };
        Explained {
            name: (*name).to_owned(),
            note,
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
        loaded_revision: revision.unwrap_or_default().to_owned(),
        notes,
    }
}

/// Asks again whom the line is about; nothing where there is nobody, or nothing to judge by.
fn judged(input: &Input, names: &[&str], about: About, loaded: &Loaded<'_>) -> Result<Option<Replayed>, String> {
    if about == About::Shipped {
        let found = replay(input, names, (loaded.judge, loaded.action))?;
        return Ok(found.map(|found| Replayed {
            found,
            ..Replayed::default()
        }));
    }
    match &loaded.objects {
        Some(objects) => registered::replay(input, names, about == About::Behind, objects),
        None => Ok(None),
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
