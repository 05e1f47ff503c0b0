//! The registration `ringfence-bindings`: the API server asks about bindings to accounts of every fenced namespace, before Ringfence
//! makes an account there.
//!
//! Must never: write before every namespace is known (what is missing would be let through), or say that a namespace is covered before
//! the API server has stored it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, runtime::reflector::Store};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
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

/// Whose bindings the API server asks about, as it stands.
#[derive(Default)]
pub(super) struct Guard {
    stands: watch::Sender<Stands>,
    wanted: watch::Sender<()>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Stands {
    bound: Bound,
    /// Why that is not what it should be.
    why: Option<String>,
}

impl Default for Stands {
    fn default() -> Self {
        Self {
            bound: Bound::default(),
            why: Some("the registration was not looked at yet".to_owned()),
        }
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

    /// Waits until bindings to accounts of a fenced namespace are asked about.
    ///
    /// # Errors
    /// Why they are not yet.
    pub(super) async fn covers(&self, namespace: &NamespaceFacts) -> Result<(), String> {
        self.hear(namespace);
        let mut stands = self.stands.subscribe();
        let covered = stands.wait_for(|stands| stands.bound.covers(&namespace.name));
        if matches!(timeout(PATIENCE, covered).await, Ok(Ok(_))) {
            return Ok(());
        }
        let why = self.stands.borrow().why.clone();
        Err(format!(
            "the API server does not ask yet about RoleBindings to accounts of namespace {}, so none is made there: {}",
            namespace.name,
            why.as_deref().unwrap_or("the namespace was not seen yet")
        ))
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
    let (now, reverted) = match looked {
        Looked::Stands { reverted, .. } => (Stands { bound, why: None }, reverted),
        Looked::Lost => return AGAIN,
        Looked::Not(why) => {
            let now = Stands {
                why: Some(why),
                ..Stands::default()
            };
            (now, false)
        }
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
