//! One exception: what is said of it. Admission acts by the same function and reads everything live, so nothing waits for this.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    CallError, Context, RESYNC, calls, jittered,
    lean::{self, Lean},
    log, on_error, paged,
    turns::in_turn,
};
use crate::{
    api::{AIWorkflowClass, Mode, RegoPolicyException, RegoPolicyExceptionStatus, is_dns_subdomain},
    plan::{ExceptionObserved, MAX_EXCEPTIONS, exception_status},
    registry::Published,
    telemetry,
};

/// How long after its end an exception is looked at again.
const AFTER: Duration = Duration::from_millis(50);

pub(super) async fn run(controller: Controller<RegoPolicyException>, context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let (known, of_namespace, of_class) = (controller.store(), controller.store(), controller.store());
    let all_of = |known: &Store<RegoPolicyException>, wanted: &dyn Fn(&RegoPolicyException) -> bool| -> Vec<_> {
        let known = known.state();
        let wanted = known.iter().filter(|exception| wanted(exception));
        wanted
            .map(|exception| ObjectRef::from_obj(exception.as_ref()))
            .collect()
    };
    controller
        .watches_stream(lean::touched::<Namespace>(&client, paged()), move |namespace| {
            let name = namespace.name_any();
            all_of(&of_namespace, &|exception| {
                exception.namespace().as_ref() == Some(&name)
            })
        })
        .watches_stream(lean::touched::<AIWorkflowClass>(&client, paged()), move |_| {
            all_of(&of_class, &|_| true)
        })
        .reconcile_all_on(names(context.registry.changes()))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            in_turn(stop, move |exception, context| {
                let known = known.clone();
                async move { reconcile(exception, &known, context).await }
            }),
            on_error,
            context,
        )
        .for_each(|result| async move { log("exception", result.map(drop)) })
        .await;
}

/// Whenever RegoPolicies come or go: an exception names some.
fn names(changes: watch::Receiver<Arc<Published>>) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold((changes, None), |(mut changes, before)| async move {
        loop {
            changes.changed().await.ok()?;
            let now = in_force(&changes.borrow_and_update());
            if now.is_some() && now != before {
                return Some(((), (changes, now)));
            }
        }
    })
}

/// Names of the RegoPolicies in force; `None` until all that were there at the start have been looked at.
fn in_force(published: &Published) -> Option<BTreeSet<String>> {
    let policies = published.snapshot.policies().iter();
    published
        .synced
        .then(|| policies.map(|policy| policy.name().to_owned()).collect())
}

async fn reconcile(
    exception: Arc<RegoPolicyException>,
    known: &Store<RegoPolicyException>,
    context: Arc<Context>,
) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    let result = say(&exception, known, &context).await;
    context.metrics.reconciled(
        telemetry::Controller::RegoPolicyException,
        result.is_ok(),
        started.elapsed(),
    );
    let end = result?;
    let left = end.map(|end| Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
    let resync = jittered(RESYNC);
    Ok(Action::requeue(left.map_or(resync, |left| resync.min(left + AFTER))))
}

/// Writes the status where it changes, and tells when the exception ends.
async fn say(
    exception: &RegoPolicyException,
    known: &Store<RegoPolicyException>,
    context: &Context,
) -> Result<Option<Timestamp>, CallError> {
    // What is not heard of yet would be said to be no policy. The names that come wake every exception.
    let Some(in_force) = in_force(&context.registry.changes().borrow()) else {
        return Ok(None);
    };
    let policies = context.policies.iter().cloned().chain(in_force).collect();
    let own = exception.namespace().unwrap_or_default();
    let namespace = context.namespace(&own).await?;
    let mut classes = BTreeMap::new();
    for mode in [Mode::Enforce, Mode::Warn, Mode::Audit] {
        let is_new = |name: &&str| is_dns_subdomain(name) && !classes.contains_key(*name);
        let Some(name) = namespace.class_for(mode).filter(is_new) else {
            continue;
        };
        if let Some(class) = context.class(name).await? {
            classes.insert(name.to_owned(), class);
        }
    }
    let observed = ExceptionObserved {
        namespace,
        classes,
        policies: &policies,
        crowded: known
            .state()
            .iter()
            .filter(|other| other.namespace().as_ref() == Some(&own))
            .count()
            > MAX_EXCEPTIONS,
    };
    let (status, end) = exception_status(exception, &observed, Timestamp::now());
    write_status(exception, status, context).await?;
    Ok(end)
}

async fn write_status(
    exception: &RegoPolicyException,
    status: RegoPolicyExceptionStatus,
    context: &Context,
) -> Result<(), CallError> {
    if exception.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let (namespace, name) = (exception.namespace().unwrap_or_default(), exception.name_any());
    let api = Api::<Lean<RegoPolicyException>>::namespaced(context.client.clone(), &namespace);
    let what = format!("write the status of RegoPolicyException {namespace}/{name}");
    let written = Lean(RegoPolicyException {
        status: Some(status),
        ..exception.clone()
    });
    match calls::bounded(&what, api.replace_status(&name, &PostParams::default(), &written)).await {
        Ok(_) => Ok(()),
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
