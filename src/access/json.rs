//! For machines: every holder in one shape.

use serde_json::{Value, json};

use super::report::{Held, HeldRight, Report, Standing, Where};
use super::rules::Names;
use super::subject::Subject;

impl Report {
    /// `holders`, `gaps` in what could be looked at, and a `summary`.
    pub fn json(&self) -> Value {
        json!({
            "holders": self.held.iter().map(holder).collect::<Vec<_>>(),
            "gaps": self.gaps,
            "summary": {
                "complete": self.is_complete(),
                "namespaces": self.namespaces,
                "beyond": self.subjects(Standing::Beyond),
                "omitted": self.omitted,
            },
        })
    }
}

fn holder(held: &Held) -> Value {
    let namespace = match &held.place {
        Where::Cluster => None,
        Where::Namespace(namespace) => Some(namespace),
    };
    let subject = match &held.subject {
        Subject::Account { namespace, name } => json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}),
        Subject::Group(name) => json!({"kind": "Group", "name": name}),
        Subject::User(name) => json!({"kind": "User", "name": name}),
    };
    json!({
        "capability": held.capability.name,
        "subject": subject,
        "standing": held.standing.as_str(),
        "namespace": namespace,
        "binding": {"kind": held.binding.0, "name": held.binding.1},
        "role": {"kind": held.role.0, "name": held.role.1},
        "rights": held.rights.iter().map(right).collect::<Vec<_>>(),
        "hazard": held.capability.hazard,
        "fix": held.capability.fix,
    })
}

fn right((verb, group, resource, names): &HeldRight) -> Value {
    let names = match names {
        Names::All => None,
        Names::Some { names, .. } => Some(names),
    };
    json!({"verb": verb, "apiGroup": group, "resource": resource, "resourceNames": names})
}
