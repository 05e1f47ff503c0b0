//! Which pods are one workflow: those of one service account, or of one controller where the account is everybody's.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde_json::Value;

use super::{Notes, Options, Section, Seen, enumerated, labels, list, text};
use crate::{
    api::{MAX_WORKFLOW_NAME, WORKFLOW_LABEL},
    fence, plan,
};

/// Most declarations of one draft.
pub const MAX_WORKFLOWS: usize = 64;
/// Longest chain of owners that is followed.
const MAX_OWNERS: usize = 8;
/// The account of every pod that names none.
const DEFAULT_ACCOUNT: &str = "default";

/// A pod, or the template of one.
#[derive(Clone, Debug)]
pub(super) struct Source<'a> {
    /// Its metadata and spec.
    pub(super) pod: &'a Value,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Kind and name of what is above it, as far as it could be followed.
    pub(super) top: (String, String),
}

impl Source<'_> {
    /// Name of the account that it runs as.
    pub(super) fn account(&self) -> &str {
        match text(self.pod, "/spec/serviceAccountName") {
            "" => DEFAULT_ACCOUNT,
            name => name,
        }
    }

    /// Every container, by whatever list it stands in.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Value> {
        ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"]
            .into_iter()
            .flat_map(|pointer| list(self.pod, pointer))
    }
}

/// The account of a workflow.
#[derive(Clone, Debug)]
pub(super) struct Account<'a> {
    /// Its name.
    pub(super) name: String,
    /// Whether it is there, and must be adopted.
    pub(super) exists: bool,
    /// Accounts that the pods run as today, by name; with the object where it could be read.
    pub(super) today: BTreeMap<String, Option<&'a Value>>,
}

/// Pods that become one workflow.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    /// Name of the workflow.
    pub(super) name: String,
    /// Its account.
    pub(super) account: Account<'a>,
    /// Its pods and templates, at least one.
    pub(super) sources: Vec<Source<'a>>,
}

/// What makes pods one workflow, in the order in which names and accounts are given away.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Key {
    Asked(usize, String),
    Account(String),
    Controller(String, String),
}

/// The groups of a namespace, by name.
pub(super) fn groups<'a>(seen: &'a Seen, options: &Options, left_out: &mut Vec<String>) -> Vec<Group<'a>> {
    let declared: BTreeSet<&str> = seen
        .workflows
        .iter()
        .map(|workflow| workflow.service_account_name())
        .collect();
    let mut keyed: BTreeMap<Key, Vec<Source<'a>>> = BTreeMap::new();
    for source in sources(seen) {
        if let Some(workflow) = source.labels.get(WORKFLOW_LABEL) {
            say(
                left_out,
                format!("pods that carry the label {WORKFLOW_LABEL} already, such as those of AIWorkflow {workflow}"),
            );
            continue;
        }
        if declared.contains(source.account()) {
            let account = source.account();
            say(
                left_out,
                format!("pods of ServiceAccount {account}, which is that of an AIWorkflow already"),
            );
            continue;
        }
        let asked = options
            .groups
            .iter()
            .position(|(key, value)| source.labels.get(key) == Some(value));
        let key = match asked.and_then(|index| Some((index, options.groups.get(index)?.1.clone()))) {
            Some((index, value)) => Key::Asked(index, value),
            None if source.account() == DEFAULT_ACCOUNT => {
                let (kind, name) = source.top.clone();
                Key::Controller(kind, name)
            }
            None => Key::Account(source.account().to_owned()),
        };
        // Drafted once and applied, but its pods were not labelled yet.
        if let Key::Controller(_, name) | Key::Asked(_, name) = &key
            && let Some(workflow) = seen
                .workflows
                .iter()
                .find(|workflow| workflow.name_any() == plain(name))
        {
            let name = workflow.name_any();
            let top = format!("{}/{}", source.top.0, source.top.1);
            say(
                left_out,
                format!(
                    "{top}: AIWorkflow {name} is declared already; give its template the label {WORKFLOW_LABEL}: {name}"
                ),
            );
            continue;
        }
        keyed.entry(key).or_default().push(source);
    }
    for (index, (key, value)) in options.groups.iter().enumerate() {
        if !keyed
            .keys()
            .any(|known| matches!(known, Key::Asked(at, _) if *at == index))
        {
            say(
                left_out,
                format!("the workflow of {key}={value}: no pod and no template carries that label"),
            );
        }
    }
    if keyed.len() > MAX_WORKFLOWS {
        say(
            left_out,
            format!(
                "{} of {} workflows: a draft has at most {MAX_WORKFLOWS}; put pods together with --workflow LABEL=VALUE",
                keyed.len() - MAX_WORKFLOWS,
                keyed.len()
            ),
        );
    }
    let mut names: BTreeSet<String> = seen
        .workflows
        .iter()
        .filter_map(|workflow| workflow.metadata.name.clone())
        .collect();
    let accounts: BTreeMap<&str, &Value> = seen
        .accounts
        .iter()
        .map(|account| (text(account, "/metadata/name"), account))
        .collect();
    let mut taken: BTreeSet<String> = declared.iter().map(|name| (*name).to_owned()).collect();
    let mut groups: Vec<_> = keyed
        .into_iter()
        .take(MAX_WORKFLOWS)
        .map(|(key, sources)| {
            let wanted = match &key {
                Key::Asked(_, name) | Key::Account(name) | Key::Controller(_, name) => name,
            };
            let name = unused(wanted, &mut names);
            let account = account(&name, &sources, &accounts, &mut taken);
            Group { name, account, sources }
        })
        .collect();
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    groups
}

fn say(left_out: &mut Vec<String>, what: String) {
    if !left_out.contains(&what) {
        left_out.push(what);
    }
}

/// The account of a group: that of its pods where it is theirs alone, else one of its own.
fn account<'a>(
    workflow: &str,
    sources: &[Source<'a>],
    accounts: &BTreeMap<&str, &'a Value>,
    taken: &mut BTreeSet<String>,
) -> Account<'a> {
    let names: BTreeSet<&str> = sources.iter().map(Source::account).collect();
    let today = names
        .iter()
        .map(|name| ((*name).to_owned(), accounts.get(name).copied()))
        .collect();
    let own = names
        .first()
        .filter(|name| names.len() == 1 && **name != DEFAULT_ACCOUNT && !taken.contains(**name));
    let name = match own {
        Some(name) => (*name).to_owned(),
        None => {
            let mut used: BTreeSet<String> = accounts.keys().map(|name| (*name).to_owned()).collect();
            used.extend(taken.iter().cloned());
            used.insert(DEFAULT_ACCOUNT.to_owned());
            unused(workflow, &mut used)
        }
    };
    taken.insert(name.clone());
    Account {
        exists: own.is_some(),
        name,
        today,
    }
}

/// A name of a workflow, made of a name that may be longer or hold dots.
fn plain(wanted: &str) -> String {
    shortened(wanted, MAX_WORKFLOW_NAME)
}

fn shortened(wanted: &str, most: usize) -> String {
    let letter = |c: char| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let letters: String = wanted.to_ascii_lowercase().chars().map(letter).collect();
    let short: String = letters.trim_matches('-').chars().take(most).collect();
    match short.trim_matches('-') {
        "" => "workflow".to_owned(),
        name => name.to_owned(),
    }
}

/// The same, such that nobody has it.
fn unused(wanted: &str, used: &mut BTreeSet<String>) -> String {
    let mut name = plain(wanted);
    // Ends: there are fewer names in use than numbers.
    let mut number = 2;
    while used.contains(&name) {
        let suffix = format!("-{number}");
        name = shortened(wanted, MAX_WORKFLOW_NAME - suffix.len()) + &suffix;
        number += 1;
    }
    used.insert(name.clone());
    name
}

/// Pods, and the templates of what nothing else has made, in one order.
fn sources(seen: &Seen) -> Vec<Source<'_>> {
    let mut above: BTreeMap<(String, String), (String, String)> = BTreeMap::new();
    for object in &seen.workloads {
        let controller =
            list(object, "/metadata/ownerReferences").find(|owner| owner.get("controller") == Some(&true.into()));
        if let Some(controller) = controller {
            let owner = (
                text(controller, "/kind").to_owned(),
                text(controller, "/name").to_owned(),
            );
            above.insert(kind_and_name(object), owner);
        }
    }
    let mut sources = Vec::new();
    for object in &seen.workloads {
        let key = kind_and_name(object);
        let group = match text(object, "/apiVersion").split_once('/') {
            Some((group, _)) => group,
            None => "",
        };
        // What a controller made has that controller's template; only its pods can say something else.
        if key.0 != "Pod" && above.contains_key(&key) {
            continue;
        }
        let Some((_, pod)) = fence::template_of(group, &key.0, object) else {
            continue;
        };
        let mut top = key;
        for _ in 0..MAX_OWNERS {
            match above.get(&top) {
                Some(owner) => top = owner.clone(),
                None => break,
            }
        }
        sources.push(Source {
            pod,
            labels: labels(pod, "/metadata/labels"),
            top,
        });
    }
    sources.sort_by_cached_key(|source| (source.top.clone(), source.account().to_owned(), source.pod.to_string()));
    sources
}

fn kind_and_name(object: &Value) -> (String, String) {
    (
        text(object, "/kind").to_owned(),
        text(object, "/metadata/name").to_owned(),
    )
}

impl Group<'_> {
    /// What the pods are under, such as `Deployment/api`.
    pub(super) fn tops(&self) -> BTreeSet<String> {
        self.sources
            .iter()
            .map(|source| format!("{}/{}", source.top.0, source.top.1))
            .collect()
    }

    pub(super) fn describe(&self, notes: &mut Notes) {
        let tops = self.tops();
        notes.say(
            Section::Whole,
            format!("Runs as {}.", enumerated(tops.iter().map(String::as_str))),
        );
        let today = enumerated(self.account.today.keys().map(String::as_str));
        if !self.account.exists {
            notes.say(
                Section::Identity,
                format!(
                    "Its pods run as ServiceAccount {today} today, which is not theirs alone. Ringfence makes this one, under ringfence.dev/warn: once it is there, put serviceAccountName: {} into their templates.",
                    self.account.name
                ),
            );
        }
    }

    /// The account objects that its pods run as today.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Value> {
        self.account.today.values().filter_map(|account| *account)
    }

    /// Whether an object is one that Ringfence made: it is no news.
    pub(super) fn is_ringfences(object: &Value) -> bool {
        plan::owner_uid(object).is_some()
    }
}
