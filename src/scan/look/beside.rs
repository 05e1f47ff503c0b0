//! What stands beside the pods of a namespace: Services and policies of other engines that admission would refuse, and what leads traffic
//! there.
//!
//! Must never: judge otherwise than admission does, or tell of more than its bounds without saying that there is more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Look, MAX_FOREIGN};
use crate::fence::{Door, Facts};
use crate::findings::{Foreign, Leading, Place};
use crate::review::Review;
use crate::scan::kinds::ENDPOINT_SLICE;
use crate::webhook::pages::{Ask, Listed};

/// Most routes, and most slices of endpoints, that are told of in one namespace.
const MAX_TOLD: usize = 500;
/// Slices that no built-in controller keeps: those keep, and put right, all that carry their names.
const UNKEPT: &str = "endpointslice.kubernetes.io/managed-by notin (endpointslice-controller.k8s.io,endpointslicemirroring-controller.k8s.io)";
/// The API server's own Service in namespace `default`, whose endpoints it writes itself.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

impl Look<'_> {
    /// Reads what admission would refuse of a kind that makes no pods.
    pub(super) async fn read_refused(&mut self, kind: Listed) {
        let mut ask = Ask::all(kind, Some(&self.namespace));
        while let Some(page) = self.page(&ask).await {
            for object in page.items {
                let review = Review::standing(&kind.gvk(), &kind.gvr(), Some(&self.namespace), object);
                let object = review.object().unwrap_or(&Value::Null);
                if (self.namespace.as_str(), review.name()) == API_SERVER {
                    continue;
                }
                let place = Place {
                    namespace: self.namespace.clone(),
                    kind: kind.kind.to_owned(),
                    name: review.name().to_owned(),
                    workflow: None,
                };
                // These rules look at nothing but the object.
                let violations = match Door::of(&review) {
                    Ok(Some(door)) => door.check(&Facts::default(), ""),
                    Ok(None) | Err(_) => {
                        let gap = format!("{} {}/{} could not be judged", place.kind, place.namespace, place.name);
                        self.extent.gap(gap);
                        continue;
                    }
                };
                let Some(foreign) = Foreign::refused(place, object, violations) else {
                    continue;
                };
                if self.foreign.len() >= 2 * MAX_FOREIGN {
                    self.too_many(kind);
                    return;
                }
                self.foreign.push((foreign, BTreeSet::new()));
            }
            ask.next = page.next;
            if ask.next.is_none() {
                return;
            }
        }
    }

    fn too_many(&mut self, kind: Listed) {
        self.extent.gap(format!(
            "not all of the {} of namespace {} were looked at: there are too many",
            kind.plural, self.namespace
        ));
    }

    /// Tells of every object of a kind that leads traffic, whatever it says: its name is enough.
    pub(super) async fn tell_of(&mut self, kind: Listed) {
        let mut ask = Ask {
            metadata_only: true,
            ..Ask::all(kind, Some(&self.namespace))
        };
        if kind == ENDPOINT_SLICE {
            UNKEPT.clone_into(&mut ask.labels);
        }
        let mut told = 0;
        while let Some(page) = self.page(&ask).await {
            for object in page.items.into_iter().map(Value::Object) {
                let leading = Leading::of(&self.namespace, kind.kind, &object);
                if (self.namespace.as_str(), leading.name()) == API_SERVER {
                    continue;
                }
                if told >= MAX_TOLD {
                    self.too_many(kind);
                    return;
                }
                told += 1;
                self.sink.found(leading.finding());
            }
            ask.next = page.next;
            if ask.next.is_none() {
                return;
            }
        }
    }
}
