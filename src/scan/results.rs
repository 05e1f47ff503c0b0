//! What the last scan found, in memory: the controller of workflows is the only one that writes their status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use tokio::sync::{Notify, watch};

use crate::plan::{Compliance, Tenants};

/// Namespace and name of a workflow.
pub type Key = (String, String);

/// What was found about each workflow.
pub type Found = BTreeMap<Key, Compliance>;

/// The last scan's results. Nothing before the first.
#[derive(Debug, Default)]
pub struct Results {
    inner: Mutex<Inner>,
    news: Notify,
    tenants: watch::Sender<Option<Tenants>>,
}

#[derive(Debug, Default)]
struct Inner {
    found: Found,
    /// What the last scan could not look at: who is not among the found may be there.
    gap: Option<String>,
    /// Workflows of which nobody was told yet that something else was found. No more than there are workflows: each is in it once,
    /// however many scans pass before somebody listens.
    untold: BTreeSet<Key>,
}

impl Results {
    /// What was found about that very workflow. Where the last scan should have seen it and could not look at everything, that;
    /// `None` where no scan has seen it otherwise.
    pub fn of(&self, namespace: &str, name: &str, uid: &str) -> Option<Compliance> {
        // A panic while it was held cannot leave half a map in it.
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let found = inner.found.get(&(namespace.to_owned(), name.to_owned()));
        if let Some(compliance) = found.filter(|compliance| compliance.uid == uid) {
            return Some(compliance.clone());
        }
        // What an earlier scan said of it must not stand as if it had been looked at since.
        inner.gap.clone().map(|gap| Compliance {
            uid: uid.to_owned(),
            gap: Some(gap),
            ..Compliance::default()
        })
    }

    /// Puts a scan's results in place of those of the last one, with the first thing that it could not look at. Who listens hears
    /// of the workflows for which something differs.
    pub fn replace(&self, scanned: Found, gap: Option<String>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |key: &Key, one: &Compliance, others: &Found| {
            others.get(key).is_some_and(|other| one.says_the_same(other, &key.0))
        };
        let came = scanned.iter().filter(|(key, one)| !is_same(key, one, &inner.found));
        let went = inner.found.keys().filter(|key| !scanned.contains_key(*key));
        let changed: Vec<_> = came.map(|(key, _)| key).chain(went).cloned().collect();
        let known = |key: &Key| scanned.contains_key(key) || changed.contains(key);
        inner.untold = std::mem::take(&mut inner.untold).into_iter().filter(known).collect();
        inner.untold.extend(changed);
        inner.found = scanned;
        inner.gap = gap;
        if !inner.untold.is_empty() {
            self.news.notify_one();
        }
    }

    /// Puts what a scan found about tenants in place of what the last one found.
    pub fn replace_tenants(&self, found: Tenants) {
        self.tenants.send_if_modified(|known| {
            let is_news = known.as_ref() != Some(&found);
            if is_news {
                *known = Some(found);
            }
            is_news
        });
    }

    /// What the last scan found about tenants; nothing before the first.
    pub fn tenants(&self) -> watch::Receiver<Option<Tenants>> {
        self.tenants.subscribe()
    }

    /// The next workflow for which a scan found something else than the one before, if there is one.
    fn untold(&self) -> Option<Key> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.untold.pop_first()
    }

    /// Tells of each workflow for which a scan found something else than the one before. For one listener: whoever hears of a
    /// workflow takes the news.
    pub fn changes(self: &Arc<Self>) -> impl Stream<Item = Key> + Send + 'static + use<> {
        futures::stream::unfold(Arc::clone(self), |results| async {
            loop {
                if let Some(key) = results.untold() {
                    return Some((key, results));
                }
                results.news.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

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
        results.replace(found("w-1", &[]), None);
        assert!(results.of("ai", "triage", "w-1").is_some());
        assert!(
            results.of("ai", "triage", "w-2").is_none(),
            "one of that name that was made since"
        );
        results.replace(Found::new(), None);
        assert!(results.of("ai", "triage", "w-1").is_none());
    }

    fn of_each(pods: &[(&str, &str)]) -> Found {
        let one = |(name, pod): &(&str, &str)| {
            let (_, compliance) = found(name, &[pod]).pop_first().unwrap();
            (("ai".to_owned(), (*name).to_owned()), compliance)
        };
        pods.iter().map(one).collect()
    }

    #[tokio::test]
    async fn only_those_are_told_for_whom_something_differs() {
        let results = Arc::new(Results::default());
        let untold = || {
            std::iter::from_fn(|| results.untold())
                .map(|(_, name)| name)
                .collect::<Vec<_>>()
        };
        results.replace(of_each(&[("a", "p"), ("b", "p"), ("c", "p")]), None);
        assert_eq!(untold(), ["a", "b", "c"]);
        results.replace(of_each(&[("a", "p"), ("b", "p"), ("c", "p")]), None);
        assert_eq!(untold(), [""; 0]);
        results.replace(of_each(&[("a", "p"), ("b", "q"), ("c", "p")]), None);
        assert_eq!(untold(), ["b"]);
        results.replace(of_each(&[("a", "p"), ("b", "q"), ("d", "p")]), None);
        assert_eq!(untold(), ["c", "d"], "one that came, and one that went");
        // What nobody has heard of stays, once, and no longer than the workflow.
        for pod in ["x", "y", "z"] {
            results.replace(of_each(&[("a", pod), ("e", pod)]), None);
        }
        results.replace(of_each(&[("a", "z")]), None);
        assert_eq!(results.inner.lock().unwrap().untold.len(), 2);
        results.replace(of_each(&[("a", "z")]), None);
        let mut changes = Box::pin(results.changes());
        let first = tokio::time::timeout(std::time::Duration::from_secs(10), changes.next()).await;
        assert_eq!(first.unwrap().unwrap().1, "a");
        assert!(futures::FutureExt::now_or_never(changes.next()).is_none());
        results.replace(of_each(&[("a", "y")]), None);
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), changes.next()).await;
        assert_eq!(next.unwrap().unwrap().1, "a");
    }

    /// Namespaces that cannot be listed: nothing is found, and nothing fits for that.
    #[test]
    fn what_a_scan_could_not_see_is_not_what_fits() {
        let results = Arc::new(Results::default());
        results.replace(found("w-1", &[]), None);
        results.replace(Found::new(), Some("namespaces".into()));
        let unseen = results.of("ai", "triage", "w-1").unwrap();
        assert_eq!(unseen.gap.as_deref(), Some("namespaces"));
        results.replace(Found::new(), None);
        assert!(results.of("ai", "triage", "w-1").is_none());
    }
}
