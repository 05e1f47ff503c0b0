//! What the last scan found, in memory: the controller of workflows is the only one that writes their status.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::Stream;
use tokio::sync::watch;

use crate::plan::Compliance;

/// What was found about each workflow, by namespace and name.
pub type Found = BTreeMap<(String, String), Compliance>;

/// The last scan's results. Nothing before the first.
#[derive(Debug, Default)]
pub struct Results {
    found: Mutex<Found>,
    changed: watch::Sender<u64>,
}

impl Results {
    /// What was found about that very workflow; `None` where no scan has seen it.
    pub fn of(&self, namespace: &str, name: &str, uid: &str) -> Option<Compliance> {
        // A panic while it was held cannot leave half a map in it.
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let compliance = found.get(&(namespace.to_owned(), name.to_owned()))?;
        (compliance.uid == uid).then(|| compliance.clone())
    }

    /// Puts a scan's results in place of those of the last one. Who listens hears of it only where something differs.
    pub fn replace(&self, scanned: Found) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = found.len() == scanned.len()
            && found
                .iter()
                .zip(&scanned)
                .all(|((key, one), (other_key, other))| key == other_key && one.says_the_same(other, &key.0));
        *found = scanned;
        drop(found);
        if !is_same {
            self.changed.send_modify(|version| *version = version.wrapping_add(1));
        }
    }

    /// Tells each time that a scan found something else than the one before.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + 'static + use<> {
        futures::stream::unfold(self.changed.subscribe(), |mut changed| async {
            changed.changed().await.ok()?;
            Some(((), changed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(uid: &str, pods: &[&str]) -> Found {
        let mut compliance = Compliance {
            uid: uid.into(),
            ..Compliance::default()
        };
        pods.iter().for_each(|pod| compliance.pods.insert(pod));
        Found::from([(("ai".into(), "triage".into()), compliance)])
    }

    #[test]
    fn a_result_is_about_one_very_workflow() {
        let results = Results::default();
        assert!(
            results.of("ai", "triage", "w-1").is_none(),
            "before the first scan nothing is known"
        );
        results.replace(found("w-1", &[]));
        assert!(results.of("ai", "triage", "w-1").is_some());
        assert!(
            results.of("ai", "triage", "w-2").is_none(),
            "one of that name that was made since"
        );
        results.replace(Found::new());
        assert!(results.of("ai", "triage", "w-1").is_none());
    }

    #[test]
    fn only_news_wake_the_controllers() {
        let results = Results::default();
        let version = || *results.changed.borrow();
        results.replace(found("w-1", &["a"]));
        let first = version();
        results.replace(found("w-1", &["a"]));
        assert_eq!(version(), first);
        results.replace(found("w-1", &["b"]));
        assert_ne!(version(), first);
    }
}
