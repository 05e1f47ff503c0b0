//! Classes: whether they can be read, what they know of the cluster and of its tenants, and the class `default` when nobody made one.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt, api::PostParams, runtime::controller::Action};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{CallError, Context, RESYNC, RETRY, calls, cluster, jittered, lean::Lean};
use crate::{
    api::{AIWorkflowClass, ConditionStatus, ConditionType, DEFAULT_CLASS, DnsStatus, Reason, find, set},
    plan::{
        CLUSTER_DOMAIN, api_server_status, class_problems, cluster_condition, default_class, is_cluster_only,
        say_detected, tenants_condition,
    },
    telemetry::Controller,
};

/// How often the class `default` is looked for.
const TICK: Duration = Duration::from_secs(30);

pub(super) async fn reconcile(class: Arc<AIWorkflowClass>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    let result = write_status(&class, &context).await;
    context
        .metrics
        .reconciled(Controller::AIWorkflowClass, result.is_ok(), started.elapsed());
    result.map(|dns| {
        // Pods are refused until it is known.
        let is_awaited = dns.is_some_and(|dns| dns.addresses.is_empty()) && context.egress_proxy.is_some();
        Action::requeue(jittered(if is_awaited { RETRY } else { RESYNC }))
    })
}

/// Writes it where it says something new. Where pods ask for names comes back.
async fn write_status(class: &AIWorkflowClass, context: &Context) -> Result<Option<DnsStatus>, CallError> {
    if class.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let problems = class_problems(class);
    let (holds, reason, message) = if problems.is_empty() {
        (
            ConditionStatus::True,
            Reason::Accepted,
            "every field can be read".to_owned(),
        )
    } else {
        let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
        (
            ConditionStatus::False,
            Reason::Invalid,
            format!("what cannot be read allows nothing: {}", all.join("; ")),
        )
    };
    let generation = class.metadata.generation;
    let mut status = class.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    set(
        &mut status.conditions,
        ConditionType::Accepted,
        holds,
        reason,
        message,
        generation,
        Timestamp::now(),
    );
    let detection = context.ranges.borrow().clone();
    if let Some(detection) = &detection {
        say_detected(&mut status, detection);
    }
    // Of what cannot be read now, what was known last stands.
    match cluster::api_server(context).await {
        Ok(found) if found.unread.is_none() => status.api_server = api_server_status(&found.addresses),
        Ok(_) => {}
        Err(error) => debug!(
            error = error.explain(),
            "where the API server is cannot be read, and is asked again"
        ),
    }
    if let Some((holds, reason, message)) = cluster_condition(class, detection.as_ref()) {
        set(
            &mut status.conditions,
            ConditionType::ClusterRangesKnown,
            holds,
            reason,
            message,
            generation,
            Timestamp::now(),
        );
    }
    let tenants = tenants_condition(&class.name_any(), context.scanned.tenants().borrow().as_ref());
    if let Some((holds, reason, message)) = tenants {
        set(
            &mut status.conditions,
            ConditionType::TenantsBounded,
            holds,
            reason,
            message,
            generation,
            Timestamp::now(),
        );
    }
    // What a canary saw is the canary's to say: nothing here can know it.
    if find(&status.conditions, ConditionType::NetworkEnforced).is_none() {
        set(
            &mut status.conditions,
            ConditionType::NetworkEnforced,
            ConditionStatus::Unknown,
            Reason::NotObserved,
            "nobody has tried whether NetworkPolicies bite on this cluster: run ringfence check --canary",
            None,
            Timestamp::now(),
        );
    }
    let mut of_cluster = context.cluster_domains.iter();
    let own = of_cluster.next();
    status.cluster_domains = of_cluster.filter(|domain| Some(*domain) != own).cloned().collect();
    status.cluster_domain = own.filter(|domain| *domain != CLUSTER_DOMAIN).cloned();
    status.dns = dns(class, context).await;
    let dns = status.dns.clone();
    if class.status.as_ref() == Some(&status) {
        return Ok(dns);
    }
    let api = Api::<Lean<AIWorkflowClass>>::all(context.client.clone());
    let written = Lean(AIWorkflowClass {
        status: Some(status),
        ..class.clone()
    });
    let what = format!("write the status of AIWorkflowClass {}", class.name_any());
    match calls::bounded(
        &what,
        api.replace_status(&class.name_any(), &PostParams::default(), &written),
    )
    .await
    {
        Ok(_) => Ok(dns),
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(dns),
        Err(error) => Err(error),
    }
}

/// Where pods ask for names, if the class has them ask the egress proxy. What cannot be read now is as it was.
async fn dns(class: &AIWorkflowClass, context: &Context) -> Option<DnsStatus> {
    if !is_cluster_only(class) {
        return None;
    }
    match cluster::egress_proxy(context).await {
        Ok(addresses) => Some(DnsStatus {
            addresses: addresses.iter().map(ToString::to_string).collect(),
        }),
        Err(error) => {
            let error = error.explain();
            warn!(
                class = class.name_any(),
                error, "the address of the egress proxy cannot be read: what was known of it stands"
            );
            let known = class.status.as_ref().and_then(|status| status.dns.clone());
            Some(known.unwrap_or_default())
        }
    }
}

/// Makes the class `default` when there is none, until `stop`. `made` is called once it is there: a namespace that names it
/// would be refused before that.
pub(super) async fn keep_default(context: Arc<Context>, stop: CancellationToken, made: impl FnOnce()) {
    let api = Api::<Lean<AIWorkflowClass>>::all(context.client.clone());
    let mut made = Some(made);
    loop {
        let pause = match make_default(&api).await {
            Ok(()) => {
                if let Some(made) = made.take() {
                    made();
                }
                TICK
            }
            Err(error) => {
                warn!(
                    error = error.explain(),
                    "class default is neither there nor could be made"
                );
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
}

async fn make_default(api: &Api<Lean<AIWorkflowClass>>) -> Result<(), CallError> {
    if calls::optional(calls::bounded("read AIWorkflowClass default", api.get(DEFAULT_CLASS)).await)?.is_some() {
        return Ok(());
    }
    match calls::bounded(
        "create AIWorkflowClass default",
        api.create(&PostParams::default(), &Lean(default_class())),
    )
    .await
    {
        Ok(_) => info!("there was no AIWorkflowClass default: made it"),
        Err(error) if error.already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
