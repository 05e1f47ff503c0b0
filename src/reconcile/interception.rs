//! The registration `ringfence-policies`: kept as the RegoPolicies in force need it.
//!
//! Must never: write before every RegoPolicy was looked at, because what is missing would be let through.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::registration::{AGAIN, Kept, Looked, SETTLE};
use super::{Context, DEADLINE, RESYNC, RETRY, jittered};
use crate::{plan::policy_webhooks, policy::Snapshot, registry::Published};

/// How long after a write the next look is at least: each asks the API server to compile all conditions.
const AFTER_WRITE: Duration = Duration::from_secs(1);

/// Whether the API server asks about what is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Interception {
    /// Revision of the policies that were in force.
    pub(super) revision: String,
    /// Why it does not, and what to do.
    pub(super) state: Result<(), String>,
}

impl Default for Interception {
    fn default() -> Self {
        Self {
            revision: String::new(),
            state: Err("the registration was not looked at yet".to_owned()),
        }
    }
}

/// Keeps the registration until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut kept = Kept::new(Arc::clone(&context), "policies");
    let mut events = kept.events();
    let mut changes = context.registry.changes();
    // Who led before may have registered what this replica has not heard of: to begin with what it has would take that away.
    let mut has_heard = false;
    loop {
        let published = Arc::clone(&changes.borrow_and_update());
        let looked = async {
            has_heard = has_heard || hears(&context, &published).await;
            if has_heard {
                look(&mut kept, &published.snapshot, &context).await
            } else {
                RETRY
            }
        };
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = looked => pause,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(jittered(pause)) => {}
            Ok(()) = changes.changed() => {}
            Some(()) = events.next() => {}
        }
        sleep(SETTLE).await;
        while events.next().now_or_never().flatten().is_some() {}
    }
}

/// Whether all that the API server has now was looked at.
async fn hears(context: &Context, published: &Published) -> bool {
    let heard = timeout(DEADLINE, context.registry.has_heard(published));
    published.synced && heard.await.unwrap_or_default()
}

/// One look, of which the policies are told. Returns when the next is due.
async fn look(kept: &mut Kept, snapshot: &Snapshot, context: &Context) -> Duration {
    let release_namespace = context.release_namespace.as_deref().unwrap_or_default();
    let wanted = |charts: &_| policy_webhooks(&snapshot.entries(), charts, release_namespace);
    let looked = kept
        .keep(wanted, "what RegoPolicies match")
        .await
        .unwrap_or_else(|error| {
            Looked::Not(format!(
                "the API server may not ask about all that it matches: {}",
                error.explain()
            ))
        });
    let (state, written) = match looked {
        Looked::Stands { written, .. } => (Ok(()), written),
        Looked::Lost => return AGAIN,
        Looked::Not(why) => (Err(why), false),
    };
    let pause = if state.is_ok() { RESYNC } else { RETRY };
    let now = Interception {
        revision: snapshot.revision().to_owned(),
        state,
    };
    context.interception.send_if_modified(|before| {
        if *before == now {
            return false;
        }
        if let Err(why) = &now.state
            && before.state != now.state
        {
            warn!(registration = kept.name, why, "RegoPolicies are not all asked about");
        }
        *before = now;
        true
    });
    if written {
        sleep(AFTER_WRITE).await;
    }
    pause
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;
    use crate::reconcile::reading_tests::{client, context as context_of, list};
    use crate::registry::Outcome;

    #[tokio::test]
    async fn a_leader_that_has_not_heard_of_all_policies_registers_nothing() {
        let there = r#"{"metadata":{"name":"one","uid":"u","generation":2}}"#;
        let context = context_of(client(move |_| Some(list(there, ""))));
        let of_generation = |generation| Published {
            outcomes: [("one".to_owned(), Outcome::of("u", generation))].into(),
            synced: true,
            ..Published::default()
        };
        let without = Published {
            outcomes: [].into(),
            ..of_generation(2)
        };
        let not_synced = Published {
            synced: false,
            ..of_generation(2)
        };
        assert!(hears(&context, &of_generation(2)).await);
        assert!(!hears(&context, &of_generation(1)).await, "an older one");
        assert!(!hears(&context, &without).await, "one that it has not heard of");
        assert!(!hears(&context, &not_synced).await);
        let failed = context_of(client(|_| Some(Bytes::from_static(b"no list"))));
        assert!(!hears(&failed, &of_generation(2)).await, "the list failed");
    }
}
