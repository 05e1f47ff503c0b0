//! What Ringfence made and is being deleted is let go, whoever keeps it by a finalizer.
//!
//! Nothing heeds that a policy or a binding is being deleted: what is kept goes on opening and granting, and where its owner is gone, no plan
//! deletes it. Must never: delete anything, or touch what does not say by its annotation that it is Ringfence's.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::ready};
use k8s_openapi::api::{
    networking::v1::NetworkPolicy,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    api::{ObjectMeta, PartialObjectMeta},
    runtime::watcher,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Context, lean, paged_of_others, plugin_policy::CiliumNetworkPolicy};
use crate::{
    api::{OWNER_LABEL, OWNER_UID_ANNOTATION},
    plan::Child,
};

/// Longest until letting go of one object is tried again, each time after twice as long: no other event may tell of it any more.
const LONGEST: Duration = Duration::from_secs(120);
/// How many are let go at a time: one that cannot be must not hold up the others.
const AT_A_TIME: usize = 256;

pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let cilium = async {
        if context.writes_cilium {
            let policies = lean::touched_where_served::<CiliumNetworkPolicy>(&context.client, owned());
            let_go(Child::CiliumNetworkPolicy, policies, &context).await;
        }
    };
    let all = async {
        tokio::join!(
            let_go(
                Child::NetworkPolicy,
                lean::touched_alone::<NetworkPolicy>(&context.client, owned()),
                &context
            ),
            let_go(
                Child::Role,
                lean::touched_alone::<Role>(&context.client, owned()),
                &context
            ),
            let_go(
                Child::RoleBinding,
                lean::touched_alone::<RoleBinding>(&context.client, owned()),
                &context
            ),
            cilium,
        )
    };
    tokio::select! {
        _ = all => {}
        () = stop.cancelled() => {}
    }
}

fn owned() -> watcher::Config {
    paged_of_others().labels(OWNER_LABEL)
}

async fn let_go<K>(
    child: Child,
    touched: impl Stream<Item = watcher::Result<PartialObjectMeta<K>>>,
    context: &Context,
) {
    // A watch that fails is begun anew by itself, and says so where the workflows are watched.
    let kept = touched.filter_map(|object| ready(object.ok().map(|object| object.metadata).filter(is_kept)));
    kept.for_each_concurrent(AT_A_TIME, |metadata| release(child, metadata, context))
        .await;
}

/// Whether it is Ringfence's, and only a finalizer keeps it.
fn is_kept(metadata: &ObjectMeta) -> bool {
    let is_ours = metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(OWNER_UID_ANNOTATION));
    let is_held = metadata
        .finalizers
        .as_ref()
        .is_some_and(|finalizers| !finalizers.is_empty());
    is_ours && is_held && metadata.deletion_timestamp.is_some()
}

async fn release(child: Child, metadata: ObjectMeta, context: &Context) {
    let (Some(namespace), Some(name), Some(uid)) = (&metadata.namespace, &metadata.name, &metadata.uid) else {
        return;
    };
    let kind = child.kind();
    let mut pause = Duration::from_secs(1);
    loop {
        match context.calls.let_go(child, namespace, name, uid).await {
            Ok(()) => {
                info!(
                    namespace,
                    name, kind, "what is being deleted was kept by a finalizer, and is let go"
                );
                return;
            }
            Err(error) => {
                warn!(
                    namespace,
                    name,
                    kind,
                    error = error.explain(),
                    "what is being deleted is still kept by a finalizer"
                );
                sleep(pause).await;
                pause = LONGEST.min(pause * 2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::kept(json!({"finalizers": ["a/b"], "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"ringfence.dev/owner-uid": "u"}}), true)]
    #[case::not_deleted(json!({"finalizers": ["a/b"], "annotations": {"ringfence.dev/owner-uid": "u"}}), false)]
    #[case::going(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"ringfence.dev/owner-uid": "u"}}), false)]
    #[case::somebody_elses(json!({"finalizers": ["a/b"], "deletionTimestamp": "2026-01-01T00:00:00Z"}), false)]
    fn only_what_is_ours_and_going_is_let_go(#[case] metadata: Value, #[case] expected: bool) {
        assert_eq!(is_kept(&serde_json::from_value(metadata).unwrap()), expected);
    }
}
