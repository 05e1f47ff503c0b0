//! Warnings to who sets a mode on a namespace: what of it would be refused.
//!
//! Must never: refuse. What could not be looked at is said, and the answer stays what it was.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::look::{Bounds, Scanner};
use crate::api::is_dns_label;
use crate::decisions::DecisionInput;
use crate::fence::modes::settings;
use crate::findings::{Extent, Groups};
use crate::plan::text_at as text;
use crate::review::{Decision, Operation, Review};
use crate::webhook::admit::Admission;
use crate::webhook::lookup::Key;
use crate::webhook::{Admit, Webhook};

/// Most objects that one answer looks at.
const MAX_OBJECTS: usize = 1000;
/// Namespaces that are looked at at the same time: each may hold a page in memory.
const LOOKS: usize = 2;

/// Admission that also tells who sets a mode what stands in its way.
pub struct Preview {
    admission: Arc<Admission>,
    scanner: Scanner,
    looks: Semaphore,
}

impl Preview {
    /// Admission, and what looks at what stands.
    pub fn new(admission: Arc<Admission>, scanner: Scanner) -> Self {
        Self {
            scanner,
            admission,
            looks: Semaphore::new(LOOKS),
        }
    }

    /// Whether the namespace is as the review says that it was. The API server says how it stores it; of whoever else reaches the port, only
    /// who may read the namespace can, and nobody else is told what stands there.
    async fn is_stored(&self, was: &Value, namespace: &Value, until: Instant) -> bool {
        let name = text(namespace, "/metadata/name");
        if !is_dns_label(name) {
            return false;
        }
        let key = Key::Namespace(name.to_owned());
        let stored = timeout_at(until, self.scanner.lookup().get(&key)).await;
        let Ok(Ok(Some(stored))) = stored else { return false };
        let is_same = |field: &str| !text(was, field).is_empty() && text(was, field) == text(&stored, field);
        ["/metadata/name", "/metadata/uid", "/metadata/resourceVersion"]
            .into_iter()
            .all(is_same)
    }

    async fn warn(&self, review: &Review, decision: &mut Decision, deadline: Instant) {
        // What is being made holds nothing yet.
        if review.operation != Operation::Update {
            return;
        }
        let set = settings(review);
        // The strongest comes first.
        let set = set.iter().find(|setting| !setting.stands);
        let (Some(set), Some(was), Some(namespace)) = (set, review.old_object(), review.object()) else {
            return;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let until = Instant::now() + left / 2;
        let mut groups = Groups::default();
        // Whoever waited here would keep its place among the evaluations from others.
        let extent = match self.looks.try_acquire() {
            Ok(_look) if self.is_stored(was, namespace, until).await => {
                let bounds = Bounds {
                    objects: MAX_OBJECTS,
                    until: Some(until),
                    rests: false,
                    itself: false,
                    // Who waits for an answer is told what would be refused, and no route is.
                    routes: false,
                    // Whoever wrote them wanted nobody to be warned.
                    audits: false,
                };
                self.scanner.look(namespace, &set.class, bounds, &mut groups).await
            }
            Ok(_) | Err(_) => Extent {
                cut: true,
                ..Extent::default()
            },
        };
        decision
            .warnings
            .extend(groups.warnings(review.name(), set.mode, &extent));
    }
}

impl Admit for Preview {
    fn admit<'a>(&'a self, webhook: Webhook, review: &'a Review, deadline: Instant) -> BoxFuture<'a, Decision> {
        async move {
            let mut decision = self.admission.admit(webhook, review, deadline).await;
            if webhook == Webhook::Modes && decision.allowed() {
                self.warn(review, &mut decision, deadline).await;
            }
            decision
        }
        .boxed()
    }

    fn revision(&self) -> String {
        self.admission.revision()
    }

    fn records(&self) -> DecisionInput {
        self.admission.records()
    }
}
