//! The objects of one kind while it is followed: what is kept of each, for every set of fields that policies ask for.
//!
//! Must never: take an object that says not where it lies for one that lies elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value;
use serde_json::Value as Json;

use super::Kind;
use super::ask::{Change, Failure, Read};
use super::fields::{Fields, Pruner};
use super::follow::{View, Views};
use super::objects::{Objects, Place};

/// The objects of a kind while they are followed.
pub(super) struct Held {
    objects: BTreeMap<Fields, Objects>,
    cut: Arc<Cut>,
}

/// How objects are cut down, by the fields that are asked for.
pub(super) struct Cut {
    pruners: Vec<(Fields, Pruner)>,
    namespaced: bool,
}

/// An object as it is kept; `None` where it could not be read, or holds more than the engine takes.
pub(super) type Kept = (Place, Option<Vec<(Fields, Value)>>);

pub(super) enum Applied {
    Put(Kept),
    Gone(Place),
    Nothing,
}

impl Held {
    /// With what the objects of one namespace may weigh, by each set of fields.
    pub(super) fn new(kind: &Kind, views: &Views, namespaced: bool, share: usize) -> Self {
        let of = kind.group_version();
        let pruner = |fields: &Fields| (fields.clone(), Pruner::new(&of, &kind.kind, fields));
        let objects = |fields: &Fields| (fields.clone(), Objects::new(&of, &kind.kind, share));
        Self {
            objects: views.iter().map(objects).collect(),
            cut: Arc::new(Cut {
                pruners: views.iter().map(pruner).collect(),
                namespaced,
            }),
        }
    }

    /// All of them as they are now, by the fields that are kept.
    pub(super) fn values(&self) -> BTreeMap<Fields, View> {
        let view = |objects: &Objects| View {
            objects: objects.value(),
            left_out: objects.left_out(),
        };
        let objects = self.objects.iter();
        objects
            .map(|(fields, objects)| (fields.clone(), view(objects)))
            .collect()
    }

    /// How many namespaces' objects are not among them, by the fields by which that is so for most.
    pub(super) fn left_out(&self) -> usize {
        let left_out = self.objects.values().map(|objects| objects.left_out().len());
        left_out.max().unwrap_or_default()
    }

    pub(super) fn weight(&self) -> usize {
        self.objects.values().map(Objects::weight).sum()
    }

    pub(super) fn cut(&self) -> Arc<Cut> {
        Arc::clone(&self.cut)
    }

    pub(super) fn prune(&self, object: &Read) -> Result<Kept, Failure> {
        self.cut.prune(object)
    }

    /// Of a namespace with an object that could not be read nothing is held: what others say of it is not compared with a part.
    pub(super) fn put(&mut self, (place, values): Kept) -> Result<(), Failure> {
        match (values, &place.namespace) {
            (Some(values), _) => {
                for (fields, value) in values {
                    if let Some(objects) = self.objects.get_mut(&fields) {
                        objects.insert(&place, value);
                    }
                }
            }
            (None, Some(namespace)) => {
                for objects in self.objects.values_mut() {
                    objects.leave_out(namespace);
                }
            }
            (None, None) => {
                return Err(Failure::lost(format!(
                    "{} weighs more, or nests deeper, than is read, or holds what is no JSON: write it anew, or delete it",
                    place.name
                )));
            }
        }
        Ok(())
    }

    /// Whether it is another list then.
    pub(super) fn apply(&mut self, change: Applied) -> Result<bool, Failure> {
        match change {
            Applied::Put(kept) => self.put(kept)?,
            Applied::Gone(place) => self.objects.values_mut().for_each(|objects| objects.remove(&place)),
            Applied::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// Drops what is not asked for any more; `false` where something is asked for that is not there.
    pub(super) fn narrow(&mut self, views: &Views) -> bool {
        self.objects.retain(|fields, _| views.contains(fields));
        self.objects.len() == views.len()
    }
}

impl Cut {
    pub(super) fn prune(&self, object: &Read) -> Result<Kept, Failure> {
        let object = match object {
            Read::Beyond(place) => return Ok((self.place(place)?, None)),
            Read::Whole(object) => object,
        };
        let values = self.pruners.iter();
        let values = values.map(|(fields, pruner)| Some((fields.clone(), pruner.prune(object).ok()?)));
        Ok((self.place(object)?, values.collect()))
    }

    /// What becomes of a change, and how far the watch has come with it.
    pub(super) fn change(&self, change: Change) -> Result<(String, Applied), Failure> {
        let version = |object: &Json| {
            let version = object.pointer("/metadata/resourceVersion").and_then(Json::as_str);
            version.filter(|version| !version.is_empty()).map(str::to_owned)
        };
        let unversioned = || Failure::lost("an event of its watch has no version");
        Ok(match change {
            Change::Put(read) => {
                let (Read::Whole(object) | Read::Beyond(object)) = &read;
                let version = version(object).ok_or_else(unversioned)?;
                (version, Applied::Put(self.prune(&read)?))
            }
            Change::Gone(object) => (
                version(&object).ok_or_else(unversioned)?,
                Applied::Gone(self.place(&object)?),
            ),
            Change::Version(version) => (version, Applied::Nothing),
        })
    }

    fn place(&self, object: &Json) -> Result<Place, Failure> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        let nowhere = || Failure::lost("one of its objects has no name, or no namespace");
        Ok(Place {
            namespace: match self.namespaced {
                true => Some(text("/metadata/namespace").ok_or_else(nowhere)?),
                false => None,
            },
            name: text("/metadata/name").ok_or_else(nowhere)?,
        })
    }
}
