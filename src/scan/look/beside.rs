//! What stands beside the pods of a namespace: Services and policies of other engines that admission would refuse, and what leads traffic
//! there.
//!
//! Must never: judge otherwise than admission does, or tell of more than its bounds without saying that there is more.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Look, MAX_FOREIGN};
use crate::fence::{Door, Facts};
use crate::findings::{Foreign, Leading, Place};
use crate::plan::{name_of, text_at};
use crate::review::Review;
use crate::scan::kinds::{ENDPOINT_SLICE, SERVICE};
use crate::webhook::pages::{Ask, Listed};

/// Most routes, and most slices of endpoints, that are told of in one namespace.
const MAX_TOLD: usize = 500;
/// Most slices of endpoints of one namespace that are remembered while their Services are looked at.
const MAX_SLICES: usize = 20_000;
/// Labels of a slice: who keeps it, and of which Service it is. Anybody may write them where the fence does not stand.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The API server's own Service in namespace `default`, whose endpoints it writes itself.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

impl Look<'_> {
    /// Reads what admission would refuse of a kind that makes no pods, but for what Ringfence made.
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
                let foreign = Foreign::refused(place, object, violations);
                let Some(foreign) = foreign.filter(|foreign| !foreign.is_made_by(&self.owners)) else {
                    continue;
                };
                if self.foreign.len() >= 2 * MAX_FOREIGN {
                    self.too_many(kind);
                    return;
                }
                self.foreign.push((foreign, BTreeSet::new()));
            }
            (ask.next, ask.first) = (page.next, page.first);
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
        let mut told = 0;
        while let Some(page) = self.page(&ask).await {
            for object in page.items.into_iter().map(Value::Object) {
                if told >= MAX_TOLD {
                    self.too_many(kind);
                    return;
                }
                told += 1;
                self.sink
                    .found(Leading::of(&self.namespace, kind.kind, &object).finding());
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() {
                return;
            }
        }
    }

    /// Tells of slices of endpoints that no built-in controller keeps. One that bears a controller's name is kept, and put right, where
    /// there is the Service that it says: else somebody only wrote the name.
    pub(super) async fn tell_of_endpoints(&mut self) {
        let (mut unkept, mut kept) = (Vec::new(), Vec::new());
        let mut ask = Ask {
            metadata_only: true,
            ..Ask::all(ENDPOINT_SLICE, Some(&self.namespace))
        };
        loop {
            let Some(page) = self.page(&ask).await else { return };
            for object in page.items.into_iter().map(Value::Object) {
                let leading = Leading::of(&self.namespace, ENDPOINT_SLICE.kind, &object);
                if (self.namespace.as_str(), leading.name()) == API_SERVER {
                    continue;
                }
                if kept.len() + unkept.len() >= MAX_SLICES {
                    self.too_many(ENDPOINT_SLICE);
                    return;
                }
                match keeper(&object) {
                    Some(service) => kept.push((service, leading)),
                    None => unkept.push(leading),
                }
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() {
                break;
            }
        }
        // Read after the slices: a Service that came meanwhile has none of them. Where they cannot be read, nothing is said of theirs.
        if !kept.is_empty() && self.leave_out_kept(&mut kept).await {
            unkept.extend(kept.into_iter().map(|(_, leading)| leading));
        }
        if unkept.len() > MAX_TOLD {
            self.too_many(ENDPOINT_SLICE);
        }
        let told = unkept.iter().take(MAX_TOLD).map(Leading::finding);
        told.for_each(|finding| self.sink.found(finding));
    }

    /// Leaves out the slices whose Service is there. Whether all Services could be read.
    async fn leave_out_kept(&mut self, slices: &mut Vec<(Kept, Leading)>) -> bool {
        let mut ask = Ask::all(SERVICE, Some(&self.namespace));
        loop {
            let Some(page) = self.page(&ask).await else {
                return false;
            };
            if page.unread.is_some() {
                return false;
            }
            let services: BTreeSet<Kept> = page
                .items
                .into_iter()
                .map(|service| keeps(&Value::Object(service)))
                .collect();
            slices.retain(|(service, _)| !services.contains(service));
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() {
                return true;
            }
        }
    }
}

/// Name of a Service, and whether it chooses its pods itself.
type Kept = (String, bool);

/// The Service whose slices, by what this one says of itself, a built-in controller keeps.
fn keeper(slice: &Value) -> Option<Kept> {
    let label = |key: &str| slice.pointer("/metadata/labels")?.get(key)?.as_str();
    let by_selector = match label(MANAGED_BY)? {
        "endpointslice-controller.k8s.io" => true,
        // It copies the Endpoints that somebody wrote for a Service without a selector, which is told of by itself.
        "endpointslicemirroring-controller.k8s.io" => false,
        _ => return None,
    };
    Some((label(SERVICE_NAME)?.to_owned(), by_selector))
}

/// The same of a Service. Of one that is a name elsewhere no controller keeps any.
fn keeps(service: &Value) -> Kept {
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selects = selector.is_some_and(|selector| !selector.is_empty());
    let is_elsewhere = text_at(service, "/spec/type") == "ExternalName";
    (name_of(service).to_owned(), selects && !is_elsewhere)
}
