//! What belongs together in a namespace: a workload with all that it makes, or a bare pod. What is found is told of the whole once.
//!
//! Must never: grow with the number of pods.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::fence::{OwnerRef, controller, makes};
use crate::findings::Severity;
use crate::webhook::pages::Listed;

/// Most workloads of a namespace that are remembered, so that what they make counts with them.
const MAX_KNOWN: usize = 20_000;

/// A workload with all that it makes, or a pod that nothing makes.
pub(super) struct Unit {
    pub kind: String,
    pub name: String,
    pub rules: BTreeSet<(Severity, String)>,
    pub refused: bool,
}

/// How an object stands to its unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Nothing else belongs to it.
    Alone,
    /// Others may belong to it.
    Maker,
    /// It belongs to what was looked at before.
    Made,
}

/// The units of one namespace, in the order in which they were met.
#[derive(Default)]
pub(super) struct Units {
    units: Vec<Unit>,
    /// Units by the UID of what belongs to them.
    known: HashMap<String, usize>,
}

impl Units {
    pub(super) fn get(&self, unit: usize) -> Option<&Unit> {
        self.units.get(unit)
    }

    pub(super) fn get_mut(&mut self, unit: usize) -> Option<&mut Unit> {
        self.units.get_mut(unit)
    }

    /// Forgets that unit and those after it.
    pub(super) fn truncate(&mut self, unit: usize) {
        self.units.truncate(unit);
    }

    /// The unit that an object belongs to: that of its controller, or its own.
    pub(super) fn of(&mut self, kind: Listed, object: &Value) -> (usize, Standing) {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let uid = text("/metadata/uid");
        let controller = controller(object).filter(|controller| !controller.uid.is_empty());
        let has_room = self.known.len() < MAX_KNOWN;
        // Whoever writes an object says who controls it: what no such owner makes is looked at by itself.
        let is_made = |owner: &OwnerRef| kind.kind == "Pod" || makes(owner, (kind.group, kind.kind));
        if let Some(controller) = controller.as_ref().filter(|owner| is_made(owner))
            && let Some(unit) = self.known.get(&controller.uid).copied()
        {
            if has_room && kind.kind != "Pod" {
                self.known.insert(uid, unit);
            }
            return (unit, Standing::Made);
        }
        let (kind, name, key) = match controller {
            // Of a kind that is not listed here, or that could not be.
            Some(controller) if kind.kind == "Pod" => (controller.kind, controller.name, Some(controller.uid)),
            _ if kind.kind == "Pod" => (kind.kind.to_owned(), text("/metadata/name"), None),
            _ => (kind.kind.to_owned(), text("/metadata/name"), Some(uid)),
        };
        let unit = self.units.len();
        self.units.push(Unit {
            kind,
            name,
            rules: BTreeSet::new(),
            refused: false,
        });
        match key.filter(|key| has_room && !key.is_empty()) {
            Some(key) => {
                self.known.insert(key, unit);
                (unit, Standing::Maker)
            }
            None => (unit, Standing::Alone),
        }
    }
}
