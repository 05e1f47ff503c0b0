//! What stands and does not fit inside the fence: one shape for warnings, conditions, and reports.
//!
//! Pure. Must never: hold a whole object, or grow with what is scanned beyond what it says it keeps.

mod bindings;
mod declared;
mod groups;
mod ownerless;
mod owners;
mod policies;
mod report;
mod routes;
mod secrets;
mod tally;

use serde_json::{Map, Value};

pub use bindings::{Accounts, of_foreign_role};
pub use declared::{Declared, DeclaredSecret};
pub use groups::Groups;
pub use ownerless::{Ownerless, of_no_owner};
pub use owners::{Origin, Owners};
pub use policies::Foreign;
pub use report::{Report, SARIF_SCHEMA, xml_text};
pub use routes::Leading;
pub use secrets::{Secrets, token_secret};
pub use tally::Tally;

use crate::api::{AUDIT_LABEL, ENFORCE_LABEL, WARN_LABEL};
use crate::plan::NamespaceFacts;
use crate::review::Violation;

/// One thing that stands and would be refused if it were made now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Namespace; empty for what is in none.
    pub namespace: String,
    /// Kind of the object. For a pod that a workload makes, that of the workload.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The AIWorkflow that it is about, as far as it can be told: its name, with its namespace before a `/` where the object is
    /// in another one.
    pub workflow: Option<String>,
    /// Name of the rule or policy.
    pub rule: String,
    /// Path of the field; empty where no single field is at fault.
    pub path: String,
    /// The value found there; masked where it may be secret.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
    /// What would come of it.
    pub severity: Severity,
}

/// What would come of a finding.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// It is refused under `enforce`, or opens what was not declared.
    Error,
    /// It is a warning.
    Warning,
}

impl Severity {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// The object of a finding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// Namespace; empty for what is in none.
    pub namespace: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// The AIWorkflow that it belongs to.
    pub workflow: Option<String>,
}

/// Most characters that are kept of a name that others chose: RBAC takes names as long as an object may be, and each is told once for every
/// workflow that it is about.
const MAX_NAME: usize = 253;

/// A name, cut where it is longer than that of anything that works.
pub(crate) fn clipped(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

impl Place {
    /// What a rule says of it.
    pub fn finding(&self, violation: Violation, severity: Severity) -> Finding {
        let place = self.clone();
        Finding {
            namespace: place.namespace,
            kind: place.kind,
            name: place.name,
            workflow: place.workflow,
            rule: violation.policy,
            path: violation.path,
            value: violation.value,
            message: violation.message,
            fix: violation.fix,
            severity,
        }
    }
}

/// Hears of findings while they are made, and keeps what it needs of them.
pub trait Sink: Send {
    /// Something does not fit. The same rule may speak of several fields of one object; of the pods of one workload it speaks
    /// once.
    fn found(&mut self, finding: Finding);

    /// A namespace of the cluster, before what is in it.
    fn namespace(&mut self, _namespace: &NamespaceFacts) {}

    /// A RoleBinding or ClusterRoleBinding, after all namespaces.
    fn binding(&mut self, _binding: &Value) {}

    /// An AIWorkflow of a namespace that is looked at.
    fn declared(&mut self, _namespace: &str, _workflow: &Declared) {}

    /// A namespace was looked at, as far as `extent` says.
    fn looked_at_namespace(&mut self, _namespace: &str, _extent: &Extent) {}

    /// An object, or what it makes pods of, before it is judged: path and value of the pod.
    fn looked_at(&mut self, _place: &Place, _path: &str, _pod: &Value) {}

    /// A pod that would be refused, by name, each.
    fn refused_pod(&mut self, _namespace: &str, _workflow: Option<&str>, _name: &str) {}
}

/// What a look came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extent {
    /// Objects that were looked at.
    pub looked: usize,
    /// Of these, workloads with all that they make, and pods that nothing makes.
    pub units: usize,
    /// Of the units, those that would be refused.
    pub refused: usize,
    /// What could not be looked at, and why.
    pub gaps: Vec<String>,
    /// Whether it ended early, at its bounds.
    pub cut: bool,
}

/// Most gaps that are named.
const MAX_GAPS: usize = 16;

impl Extent {
    /// Names something that could not be looked at; the first of many only.
    pub fn gap(&mut self, gap: String) {
        match self.gaps.len() {
            named if named < MAX_GAPS => self.gaps.push(gap),
            MAX_GAPS => self.gaps.push("and more".to_owned()),
            _ => {}
        }
    }

    /// Adds another look.
    pub fn add(&mut self, other: Self) {
        self.looked += other.looked;
        self.units += other.units;
        self.refused += other.refused;
        self.cut |= other.cut;
        other.gaps.into_iter().for_each(|gap| self.gap(gap));
    }
}

/// A namespace as if it enforced that class, and nothing else.
pub fn supposed(namespace: &Value, class: &str) -> Value {
    let mut namespace = namespace.clone();
    let Some(metadata) = namespace.get_mut("metadata").and_then(Value::as_object_mut) else {
        return namespace;
    };
    let mut labels = match metadata.remove("labels") {
        Some(Value::Object(labels)) => labels,
        _ => Map::new(),
    };
    for label in [AUDIT_LABEL, WARN_LABEL] {
        labels.remove(label);
    }
    labels.insert(ENFORCE_LABEL.to_owned(), class.into());
    metadata.insert("labels".to_owned(), labels.into());
    namespace
}
