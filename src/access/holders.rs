//! Who holds which capability where: heard object by object, in the order that [`Access`] says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::capability::{Capability, Reach};
use super::report::{Held, Report, Standing, Where};
use super::rules::{Names, Rights};
use super::subject::Subject;
use crate::api::{MANAGER, Mode};
use crate::plan::{NamespaceFacts, name_of};

/// Most bytes that are kept, about: what grows is in the hands of whoever may write Roles and bindings.
const MAX_BYTES: usize = 16 << 20;
/// What an entry takes beside its texts.
const ENTRY: usize = 256;
/// The part of the room that Roles, bindings and declarations of one namespace may take: what somebody lays out in his own must not hide who holds what elsewhere.
const SHARE: usize = 16;
/// Where Kubernetes' own controllers have their accounts.
const SYSTEM_NAMESPACE: &str = "kube-system";

/// A ClusterRole, or a Role with its namespace.
type RoleKey = (Option<String>, String);

/// What was heard. Namespaces first, then launchers, then Roles of both kinds, then ClusterRoleBindings, then RoleBindings: each needs
/// what comes before it.
#[derive(Debug)]
pub struct Access {
    release_namespace: String,
    /// Classes of fenced namespaces.
    pub(super) fenced: BTreeMap<String, String>,
    enforced: BTreeSet<String>,
    /// Service accounts that launch, by namespace.
    launchers: BTreeMap<String, BTreeSet<String>>,
    /// Namespaces whose accounts stand above every fence.
    platform: BTreeSet<String>,
    roles: HashMap<RoleKey, Arc<Rights>>,
    rows: Vec<Row>,
    bytes: usize,
    omitted: usize,
    /// Of the Roles and declarations of each namespace.
    of_namespaces: HashMap<String, Room>,
}

/// What the Roles and declarations of one namespace take.
#[derive(Debug, Default)]
struct Room {
    bytes: usize,
    omitted: usize,
}

/// One subject of one binding.
#[derive(Debug)]
struct Row {
    subject: Subject,
    /// Kind, namespace and name.
    binding: (&'static str, String, String),
    role: RoleKey,
    rights: Arc<Rights>,
}

impl Access {
    /// Nothing yet. `release_namespace` is where Ringfence itself is.
    pub fn new(release_namespace: &str) -> Self {
        let platform = [SYSTEM_NAMESPACE, release_namespace].map(str::to_owned);
        Self {
            release_namespace: release_namespace.to_owned(),
            fenced: BTreeMap::new(),
            enforced: BTreeSet::new(),
            launchers: BTreeMap::new(),
            platform: platform.into(),
            roles: HashMap::new(),
            rows: Vec::new(),
            bytes: 0,
            omitted: 0,
            of_namespaces: HashMap::new(),
        }
    }

    /// Hears of a namespace.
    pub fn namespace(&mut self, namespace: &NamespaceFacts) {
        let Some(class) = namespace.fencing_class() else { return };
        self.fenced.insert(namespace.name.clone(), class.to_owned());
        if namespace.class_for(Mode::Enforce).is_some() {
            self.enforced.insert(namespace.name.clone());
        }
    }

    /// Hears of an AIWorkflow or AIWorkflowClass. Their launchers count where they fence something.
    pub fn launches(&mut self, object: &Value) {
        let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let fences = match own {
            Some(namespace) => self.fenced.contains_key(namespace),
            None => self.fenced.values().any(|class| class == name_of(object)),
        };
        let launchers = object.pointer("/spec/launchers").and_then(Value::as_array);
        for launcher in launchers.into_iter().flatten().filter(|_| fences) {
            let text = |key: &str| launcher.pointer(key).and_then(Value::as_str);
            let (Some(namespace), Some(name)) = (text("/serviceAccount/namespace"), text("/serviceAccount/name"))
            else {
                continue;
            };
            let known = self
                .launchers
                .get(namespace)
                .is_some_and(|accounts| accounts.contains(name));
            let bytes = ENTRY + namespace.len() + name.len();
            if !known && self.takes(own, bytes) {
                let accounts = self.launchers.entry(namespace.to_owned()).or_default();
                accounts.insert(name.to_owned());
            }
        }
    }

    /// Hears of a Role or ClusterRole. One that gives nothing of interest is not kept.
    pub fn role(&mut self, role: &Value) {
        let rights = Rights::of(role);
        if rights.is_empty() {
            return;
        }
        let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str);
        let key = (namespace.map(str::to_owned), name_of(role).to_owned());
        let bytes = ENTRY + namespace.map_or(0, str::len) + key.1.len() + rights.weight();
        if self.takes(namespace, bytes) {
            self.roles.insert(key, Arc::new(rights));
        }
    }

    /// Hears of a RoleBinding or ClusterRoleBinding.
    pub fn binding(&mut self, binding: &Value) {
        let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let kind = match namespace {
            "" => "ClusterRoleBinding",
            _ if !self.looks_at(namespace) => return,
            _ => "RoleBinding",
        };
        let of_role = (text("/roleRef/kind") == "Role").then(|| namespace.to_owned());
        let role = (of_role, text("/roleRef/name").to_owned());
        let Some(rights) = self.roles.get(&role).map(Arc::clone) else {
            return;
        };
        let subjects = binding.get("subjects").and_then(Value::as_array);
        for subject in subjects.into_iter().flatten() {
            let Some(subject) = Subject::of(subject, namespace) else {
                continue;
            };
            let row = Row {
                binding: (kind, namespace.to_owned(), name_of(binding).to_owned()),
                role: role.clone(),
                rights: Arc::clone(&rights),
                subject,
            };
            if !self.relevant(&row).any(|_| true) {
                continue;
            }
            let approves = |capability: &Capability| capability.name == "approve";
            if namespace.is_empty() && rights.iter().any(|(atom, _)| approves(atom.capability)) {
                // Whoever is such an account stands above every fence too.
                self.platform.extend(row.subject.namespace().map(str::to_owned));
            }
            let texts = namespace.len() + row.binding.2.len() + row.role.1.len();
            let of = Some(namespace).filter(|namespace| !namespace.is_empty());
            if self.takes(of, ENTRY + texts + row.subject.weight()) {
                self.rows.push(row);
            }
        }
    }

    /// What it came to.
    pub fn report(&self) -> Report {
        let expected = self.expected();
        let mut held = Vec::new();
        for row in &self.rows {
            for capability in self.relevant(row) {
                let place = match row.binding.1.as_str() {
                    "" => Where::Cluster,
                    namespace => Where::Namespace(namespace.to_owned()),
                };
                held.push(Held {
                    capability,
                    subject: row.subject.clone(),
                    standing: self.standing(row, capability, &expected),
                    place,
                    binding: (row.binding.0, row.binding.2.clone()),
                    role: (role_kind(&row.role), row.role.1.clone()),
                    rights: row
                        .rights
                        .iter()
                        .filter(|(atom, _)| std::ptr::eq(atom.capability, capability))
                        .map(|(atom, names)| (atom.verb, atom.group, atom.resource, names.clone()))
                        .collect(),
                });
            }
        }
        Report::new(held, self.fenced.len(), self.omitted())
    }

    /// How many holders could not be kept. Roles where nothing is looked at are nobody's loss.
    pub(super) fn omitted(&self) -> usize {
        let counts = self
            .of_namespaces
            .iter()
            .filter(|(namespace, _)| self.looks_at(namespace));
        self.omitted + counts.map(|(_, room)| room.omitted).sum::<usize>()
    }

    /// Whoever lets tenants of a fenced namespace be more than tenants, with the class of that namespace; `None` for all of them.
    pub(super) fn unbinding(&self) -> impl Iterator<Item = (Option<&str>, String)> {
        let expected = self.expected();
        self.rows.iter().filter_map(move |row| {
            let mut unbinds = self.relevant(row).filter(|capability| capability.unbinds_tenants());
            unbinds.find(|capability| self.standing(row, capability, &expected) == Standing::Beyond)?;
            let (kind, namespace, name) = &row.binding;
            let named = match namespace.as_str() {
                "" => format!("{kind} {}", super::subject::shown(name)),
                namespace => format!("{kind} {namespace}/{}", super::subject::shown(name)),
            };
            let class = self.fenced.get(namespace).map(String::as_str);
            Some((class, format!("{} ({named})", row.subject)))
        })
    }

    /// Capabilities that a row gives, where they count.
    fn relevant<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'static Capability> + 'a {
        let mut last: Option<&'static Capability> = None;
        let new = row.rights.iter().filter_map(move |(atom, _)| {
            // Those of one capability come one after the other.
            let is_new = last.is_none_or(|last| !std::ptr::eq(last, atom.capability));
            last = Some(atom.capability);
            is_new.then_some(atom.capability)
        });
        new.filter(|capability| self.counts(capability.reach, &row.binding.1))
    }

    /// Whether a capability counts where it is bound; an empty namespace is the cluster.
    fn counts(&self, reach: Reach, namespace: &str) -> bool {
        let everywhere = namespace.is_empty();
        match reach {
            Reach::Fenced if everywhere => !self.fenced.is_empty(),
            Reach::Fenced => self.fenced.contains_key(namespace),
            Reach::Launchers if everywhere => self.launchers.keys().any(|of| self.is_open(of)),
            Reach::Launchers => self.launchers.contains_key(namespace) && self.is_open(namespace),
            Reach::Platform => everywhere || self.platform.contains(namespace),
            Reach::Cluster | Reach::Above => everywhere,
        }
    }

    /// Where a namespace enforces, nobody runs a pod as the launcher but its own launchers.
    fn is_open(&self, namespace: &str) -> bool {
        !self.enforced.contains(namespace) && !self.platform.contains(namespace)
    }

    fn looks_at(&self, namespace: &str) -> bool {
        [Reach::Fenced, Reach::Launchers, Reach::Platform]
            .into_iter()
            .any(|reach| self.counts(reach, namespace))
    }

    /// Classes for which subjects are expected to hold more: those that they approve, or are trusted for.
    fn expected(&self) -> HashMap<&Subject, Vec<&Row>> {
        let mut expected: HashMap<&Subject, Vec<&Row>> = HashMap::new();
        for row in self.rows.iter().filter(|row| row.binding.1.is_empty()) {
            if row.rights.iter().any(|(atom, _)| atom.capability.reach == Reach::Above) {
                expected.entry(&row.subject).or_default().push(row);
            }
        }
        expected
    }

    fn standing(&self, row: &Row, capability: &Capability, expected: &HashMap<&Subject, Vec<&Row>>) -> Standing {
        let subject = &row.subject;
        if subject.is_kubernetes() {
            return Standing::Kubernetes;
        }
        if let Subject::Account { namespace, name } = subject {
            if *namespace == self.release_namespace && name == MANAGER {
                return Standing::Ringfence;
            }
            // A launcher is itself.
            let launches = self
                .launchers
                .get(namespace)
                .is_some_and(|accounts| accounts.contains(name));
            if capability.reach == Reach::Launchers && *namespace == row.binding.1 && launches {
                return Standing::Expected;
            }
        }
        let class = self.fenced.get(&row.binding.1);
        let covers = |row: &Row| {
            let mut above = row
                .rights
                .iter()
                .filter(|(atom, _)| atom.capability.reach == Reach::Above);
            above.any(|(_, names)| match class {
                Some(class) => names.has(class),
                None => *names == Names::All,
            })
        };
        let is_expected = expected
            .get(subject)
            .is_some_and(|rows| rows.iter().any(|row| covers(row)));
        if capability.reach == Reach::Above || is_expected {
            return Standing::Expected;
        }
        Standing::Beyond
    }

    /// Whether there is room for so much more; in the share of a namespace, where nobody knows yet whether that is looked at.
    fn takes(&mut self, of: Option<&str>, bytes: usize) -> bool {
        let mut share = of.map(|namespace| self.of_namespaces.entry(namespace.to_owned()).or_default());
        let in_share = share
            .as_ref()
            .is_none_or(|share| share.bytes + bytes <= MAX_BYTES / SHARE);
        let fits = in_share && self.bytes + bytes <= MAX_BYTES;
        if fits {
            self.bytes += bytes;
            if let Some(share) = &mut share {
                share.bytes += bytes;
            }
        } else {
            *share.map_or(&mut self.omitted, |share| &mut share.omitted) += 1;
        }
        fits
    }
}

const fn role_kind((namespace, _): &RoleKey) -> &'static str {
    match namespace {
        Some(_) => "Role",
        None => "ClusterRole",
    }
}

#[cfg(test)]
mod tests;
