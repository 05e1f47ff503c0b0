//! Holders as they are told: each with where, by which binding, and whether that is what the platform expects.

use std::collections::BTreeSet;

use super::capability::Capability;
use super::rules::Names;
use super::subject::{Subject, shown};

/// Verb, API group, resource, and the names that it is narrowed to.
pub type HeldRight = (&'static str, &'static str, &'static str, Names);

/// Somebody who holds a capability.
#[derive(Clone, Debug)]
pub struct Held {
    /// What.
    pub capability: &'static Capability,
    /// Who.
    pub subject: Subject,
    /// Whether that is expected.
    pub standing: Standing,
    /// Where.
    pub place: Where,
    /// Kind and name of the binding.
    pub binding: (&'static str, String),
    /// Kind and name of the role.
    pub role: (&'static str, String),
    /// The rights that make it up.
    pub rights: Vec<HeldRight>,
}

/// Where something is held.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Where {
    /// In the whole cluster.
    Cluster,
    /// In one namespace.
    Namespace(String),
}

/// How a holder stands to the platform.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// It holds more than anybody said it should.
    Beyond,
    /// It approves classes, or is trusted, or is the launcher that it could become.
    Expected,
    /// Kubernetes itself.
    Kubernetes,
    /// Ringfence itself.
    Ringfence,
}

impl Standing {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Beyond => "beyond",
            Self::Expected => "expected",
            Self::Kubernetes => "kubernetes",
            Self::Ringfence => "ringfence",
        }
    }
}

/// Most holders that are listed.
const MAX_HELD: usize = 10_000;

/// Who holds what.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) held: Vec<Held>,
    pub(super) namespaces: usize,
    pub(super) omitted: usize,
    pub(super) gaps: Vec<String>,
}

impl Report {
    pub(super) fn new(mut held: Vec<Held>, namespaces: usize, omitted: usize) -> Self {
        // By the order of the table: the worst first. Those beyond come first of all, so that no other takes their room.
        held.sort_by_cached_key(|held| {
            let rank = super::CAPABILITIES
                .iter()
                .position(|of| std::ptr::eq(of, held.capability));
            (
                held.standing,
                rank,
                held.place.clone(),
                held.subject.clone(),
                held.binding.clone(),
            )
        });
        let beyond = held.len().saturating_sub(MAX_HELD);
        held.truncate(MAX_HELD);
        Self {
            held,
            namespaces,
            omitted: omitted + beyond,
            gaps: Vec::new(),
        }
    }

    /// Every holder that is listed.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Names what could not be looked at.
    pub fn add_gaps(&mut self, gaps: impl IntoIterator<Item = String>) {
        self.gaps.extend(gaps);
    }

    /// What could not be looked at.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Whether everything was looked at, and is listed.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.omitted == 0
    }

    /// Whether anybody holds more than is expected, as far as is known.
    pub fn has_beyond(&self) -> bool {
        self.of(Standing::Beyond).next().is_some()
    }

    pub(super) fn of(&self, standing: Standing) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.standing == standing)
    }

    /// How many different subjects stand so.
    pub(super) fn subjects(&self, standing: Standing) -> usize {
        self.of(standing)
            .map(|held| &held.subject)
            .collect::<BTreeSet<_>>()
            .len()
    }
}

impl Held {
    /// The binding and the role, as `RoleBinding ai/devs to ClusterRole edit`.
    pub(super) fn by(&self) -> String {
        let (kind, name) = &self.binding;
        let name = match &self.place {
            Where::Cluster => shown(name),
            Where::Namespace(namespace) => format!("{namespace}/{}", shown(name)),
        };
        format!("{kind} {name} to {} {}", self.role.0, shown(&self.role.1))
    }

    /// Its rights, as `get, list secrets; create serviceaccounts/token (named x)`.
    pub(super) fn what(&self) -> String {
        let mut parts: Vec<(Vec<&str>, String)> = Vec::new();
        for (verb, group, resource, names) in &self.rights {
            let resource = match *group {
                "" => (*resource).to_owned(),
                group => format!("{resource}.{group}"),
            };
            let what = format!("{resource}{}", named(names));
            match parts.iter_mut().find(|(_, of)| *of == what) {
                Some((verbs, _)) => verbs.push(verb),
                None => parts.push((vec![verb], what)),
            }
        }
        let parts: Vec<_> = parts
            .iter()
            .map(|(verbs, what)| format!("{} {what}", verbs.join(", ")))
            .collect();
        parts.join("; ")
    }
}

/// Names that are shown of those that a right is narrowed to.
const MAX_NAMED: usize = 3;

fn named(names: &Names) -> String {
    let Names::Some { names, more } = names else {
        return String::new();
    };
    let first: Vec<_> = names.iter().take(MAX_NAMED).map(|name| shown(name)).collect();
    match names.len().saturating_sub(MAX_NAMED) + more {
        more if first.is_empty() => format!(" ({more} names that are too long to be told)"),
        0 => format!(" (named {})", first.join(", ")),
        more => format!(" (named {} and {more} more)", first.join(", ")),
    }
}
