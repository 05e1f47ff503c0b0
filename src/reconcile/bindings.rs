//! The registration `ringfence-bindings`: the API server asks about bindings to accounts of every fenced namespace, before Ringfence
//! makes an account there.
//!
//! Must never: write before every namespace is known (what is missing would be let through), or say that a namespace is covered before
//! the API server has stored it and had the time to act on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, runtime::reflector::Store};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::registration::{AGAIN, Kept, Looked, SETTLE};
use super::{Context, RESYNC, RETRY, facts, jittered, wait};
use crate::plan::{Bound, NamespaceFacts, binding_webhooks};

/// How long after putting something back the next look is at least: whoever writes against us must not make a loop of it.
const AFTER_REVERT: Duration = Duration::from_secs(1);
/// How long an account waits for its namespace to be covered, before that is said and tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an API server may take from storing a registration to acting on it: each learns of it by a watch.
const PICKED_UP: Duration = Duration::from_secs(1);

/// Whose bindings the API server asks about, as it stands.
#[derive(Default)]
pub(super) struct Guard {
    stands: watch::Sender<Stands>,
    wanted: watch::Sender<()>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Stands {
    bound: Bound,
    /// Since when it covers more than it names.
    everywhere: Option<Instant>,
    /// Since when it covers each namespace that it names.
    named: BTreeMap<String, Instant>,
    /// Why that is not what it should be.
    why: Option<String>,
}

impl Default for Stands {
    fn default() -> Self {
        Self {
            bound: Bound::default(),
            everywhere: None,
            named: BTreeMap::new(),
            why: Some("the registration was not looked at yet".to_owned()),
        }
    }
}

impl Stands {
    /// That from now on, where it did not stand `before` already.
    fn of(bound: Bound, before: &Self, now: Instant) -> Self {
        let since = |name: &String| before.since(name).unwrap_or(now);
        Self {
            everywhere: matches!(bound, Bound::Everywhere).then(|| before.everywhere.unwrap_or(now)),
            named: bound.named().map(|name| (name.clone(), since(name))).collect(),
            why: None,
            bound,
        }
    }

    /// What stands after a look at the registration that should say that. `None` where nothing is known of it.
    fn after(looked: Looked, bound: Bound, before: &Self, now: Instant) -> Option<Self> {
        match looked {
            // While somebody else's words stood there, nobody may have been asked.
            Looked::Stands { reverted: true, .. } => Some(Self::of(bound, &Self::default(), now)),
            Looked::Stands { reverted: false, .. } => Some(Self::of(bound, before, now)),
            Looked::Lost => None,
            Looked::Not(why) => Some(Self {
                why: Some(why),
                ..Self::default()
            }),
        }
    }

    /// Since when a namespace is covered.
    fn since(&self, namespace: &str) -> Option<Instant> {
        self.named.get(namespace).copied().or(self.everywhere)
    }
}

impl Guard {
    /// Hears of a namespace as it is now.
    pub(super) fn hear(&self, namespace: &NamespaceFacts) {
        let is_fenced = namespace.fencing_class().is_some();
        let bound = &self.stands.borrow().bound;
        if is_fenced && !bound.covers(&namespace.name) || !is_fenced && bound.names(&namespace.name) {
            self.wanted.send_replace(());
        }
    }

    /// Waits until bindings to accounts of a fenced namespace are asked about, and tells since when. What was bound before that, nobody was
    /// asked about.
    ///
    /// # Errors
    /// Why they are not yet.
    pub(super) async fn covers(&self, namespace: &NamespaceFacts) -> Result<Instant, String> {
        self.hear(namespace);
        let name = &namespace.name;
        let mut stands = self.stands.subscribe();
        let covered = stands.wait_for(|stands| stands.since(name).is_some());
        let since = match timeout(PATIENCE, covered).await {
            Ok(Ok(stands)) => stands.since(name),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(since) = since else {
            let why = self.stands.borrow().why.clone();
            return Err(format!(
                "the API server does not ask yet about RoleBindings to accounts of namespace {name}, so none is made there: {}",
                why.as_deref().unwrap_or("the namespace was not seen yet")
            ));
        };
        sleep_until(since + PICKED_UP).await;
        Ok(since + PICKED_UP)
    }
}

#[cfg(test)]
impl Guard {
    /// As where bindings to accounts of every namespace are asked about since then.
    pub(super) fn covers_all_since(&self, then: Instant) {
        let stands = Stands::of(Bound::Everywhere, &Stands::default(), then);
        self.stands.send_replace(stands);
    }
}

/// Keeps the registration until `stop`.
pub(super) async fn run(context: Arc<Context>, namespaces: Store<Namespace>, stop: CancellationToken) {
    let known = tokio::select! {
        () = stop.cancelled() => return,
        known = wait(namespaces.clone()) => known,
    };
    if !known {
        return;
    }
    let mut kept = Kept::new(Arc::clone(&context), "bindings");
    let mut events = kept.events();
    let mut wanted = context.guard.wanted.subscribe();
    loop {
        wanted.borrow_and_update();
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = look(&mut kept, Bound::of(fenced(&namespaces, &context)), &context) => pause,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(jittered(pause)) => {}
            Ok(()) = wanted.changed() => {}
            Some(()) = events.next() => {}
        }
        sleep(SETTLE).await;
        while events.next().now_or_never().flatten().is_some() {}
    }
}

fn fenced(namespaces: &Store<Namespace>, context: &Context) -> BTreeSet<String> {
    let known = namespaces.state().into_iter();
    let known = known.map(|namespace| facts(&namespace.metadata, context.is_exempt(&namespace.name_any())));
    let fenced = known.filter(|namespace| namespace.fencing_class().is_some());
    fenced.map(|namespace| namespace.name).collect()
}

/// One look. Returns when the next is due.
async fn look(kept: &mut Kept, bound: Bound, context: &Context) -> Duration {
    let release_namespace = context.release_namespace.as_deref().unwrap_or_default();
    let wanted = |charts: &_| binding_webhooks(&bound, charts, release_namespace);
    let what = "whose RoleBindings and ClusterRoleBindings are asked about";
    let looked = kept
        .keep(wanted, what)
        .await
        .unwrap_or_else(|error| Looked::Not(error.explain()));
    let reverted = matches!(looked, Looked::Stands { reverted: true, .. });
    let before = context.guard.stands.borrow().clone();
    let Some(now) = Stands::after(looked, bound, &before, Instant::now()) else {
        return AGAIN;
    };
    let pause = if now.why.is_none() { RESYNC } else { RETRY };
    context.guard.stands.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        if let Some(why) = &now.why {
            warn!(
                registration = kept.name,
                why, "bindings to accounts of fenced namespaces are not all asked about"
            );
        }
        *before = now;
        true
    });
    if reverted {
        sleep(AFTER_REVERT).await;
    }
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Bound {
        Bound::Named(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn a_namespace_is_covered_since_it_was_named_first() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let first = Stands::of(named(&["a"]), &Stands::default(), start);
        let second = Stands::of(named(&["a", "b"]), &first, later(1));
        assert_eq!(
            ["a", "b", "c"].map(|name| second.since(name)),
            [Some(start), Some(later(1)), None]
        );
        // By another name it goes on; gone and back it begins anew.
        let everywhere = Stands::of(Bound::Everywhere, &second, later(2));
        assert_eq!(everywhere.since("c"), Some(later(2)));
        let back = Stands::of(named(&["b", "c"]), &everywhere, later(3));
        assert_eq!(["a", "b"].map(|name| back.since(name)), [None, Some(later(2))]);
    }

    /// Whoever writes another registration in its place has a moment in which nobody is asked.
    #[test]
    fn a_namespace_is_covered_anew_after_the_registration_was_not_as_it_should_be() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let before = Stands::of(named(&["a"]), &Stands::default(), start);
        let after = |looked, before: &Stands| Stands::after(looked, named(&["a"]), before, later);
        let stands = |reverted| Looked::Stands {
            written: true,
            reverted,
        };
        let since = |looked, before: &Stands| after(looked, before).map(|stands| stands.since("a"));
        assert_eq!(since(stands(false), &before), Some(Some(start)));
        assert_eq!(since(stands(true), &before), Some(Some(later)));
        assert_eq!(since(Looked::Lost, &before), None, "what was known stays");
        let missing = after(Looked::Not("it is gone".to_owned()), &before).expect("that is known");
        assert_eq!((missing.since("a"), missing.why.as_deref()), (None, Some("it is gone")));
        assert_eq!(since(stands(false), &missing), Some(Some(later)));
    }
}
