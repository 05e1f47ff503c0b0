//! What an explanation says beside the findings: why there are none, or more, and by what other policies it was judged.
//!
//! Must never: make a command of a name that is none. A line can come from anywhere, and somebody may paste what is printed.

use std::collections::BTreeSet;

use super::catalogue::{Described, Kind};
use super::explain::Loaded;
use super::line::{BEHIND, Line, REGISTERED};
use super::replay::Found;
use super::rules::rule_of;
use crate::api::is_dns_subdomain;

/// What to do where a line names RegoPolicies and none are at hand.
pub(super) const NO_OBJECTS: &str = "it is a RegoPolicy, and none are at hand: kubectl get regopolicies -o yaml > policies.yaml, and then ringfence \
                          explain --rego-policies policies.yaml";

/// Which policies a line is about.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum About {
    /// Those that are no objects, and the fence's own rules.
    Shipped,
    /// RegoPolicies, before the answer.
    Registered,
    /// RegoPolicies, behind it.
    Behind,
}

impl About {
    pub(super) fn of(webhook: &str) -> Self {
        match webhook {
            REGISTERED => Self::Registered,
            BEHIND => Self::Behind,
            _ => Self::Shipped,
        }
    }
}

pub(super) fn note(name: &str, described: &[Described], replayed_without_findings: bool) -> Option<String> {
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

pub(super) fn note_of_object(
    name: &str,
    described: &[Described],
    unasked: Option<&String>,
    nothing: bool,
) -> Option<String> {
    if described.is_empty() {
        let mut note = "no RegoPolicy of that name is in what --rego-policies names: it may be gone since".to_owned();
        if is_dns_subdomain(name) {
            note.push_str(&format!("; see kubectl get regopolicy {name} -o yaml"));
        }
        return Some(note);
    }
    let lost = "what it found cannot be found again: it lies in what is masked, or the policy was another";
    let is_broken = described.iter().any(|described| described.broken.is_some());
    let lost = if is_broken {
        "it was not asked again: it is broken"
    } else {
        lost
    };
    unasked.cloned().or_else(|| nothing.then(|| lost.to_owned()))
}

/// A fault may be logged with the revision of the shipped policies, and names nothing.
pub(super) fn other_revision(line: &Line<'_>, about: About, loaded: &str) -> Option<String> {
    if line.revision.is_empty() || line.revision == loaded {
        return None;
    }
    match about {
        About::Shipped => Some(format!(
            "the policies that decided were of revision {}, those that explain are of {loaded}: sources or parameters differ (--policies, --policy-parameters)",
            line.revision
        )),
        About::Registered | About::Behind if line.policies.is_empty() => None,
        About::Registered | About::Behind => Some(format!(
            "the RegoPolicies that decided were of revision {}, those that explain are of {loaded}: some have been changed since, or are not in what --rego-policies names",
            line.revision
        )),
    }
}

pub(super) fn without_facts(about: About, loaded: &Loaded<'_>, names: &[&str]) -> Option<&'static str> {
    if names.is_empty() {
        return None;
    }
    match (about, loaded.objects) {
        (About::Shipped, _) => Some(
            "no policy was asked about it, and what its rules look at is in no line: the answer that the caller got says what was found",
        ),
        (About::Registered | About::Behind, Some(_)) => Some(
            "its input holds nothing of what the RegoPolicies saw beside the request, so they were not asked again: another version of Ringfence wrote it",
        ),
        // Each of them says what is missing.
        (About::Registered | About::Behind, None) => None,
    }
}

pub(super) fn found_more(all: &[Found], names: &[&str], about: About) -> Option<String> {
    let others = all.iter().map(|found| found.policy.as_str());
    let others: BTreeSet<&str> = others.filter(|policy| !names.contains(policy)).collect();
    if others.is_empty() {
        return None;
    }
    let others = others.into_iter().collect::<Vec<_>>().join(", ");
    Some(match about {
        About::Shipped => format!(
            "the replay finds more than the decision did, because masked values are not those that were sent, or because policies differ: {others}"
        ),
        About::Registered | About::Behind => format!(
            "the replay finds more than this line names, because the API server asked about the request more than once (other lines of the same uid), masked values are not those that were sent, or policies differ: {others}"
        ),
    })
}
