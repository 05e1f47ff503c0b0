//! `--canary`: whether NetworkPolicies bite on this cluster, tried with two pods of our own image in the release namespace.
//!
//! One pod reaches for the other. What the kubelet's probes say of it is what is known, so this takes no right but to make the pods and the
//! policies. First the connection must work, then a policy over the one that is reached closes it, then it must work again, and the same
//! with a policy over the one that reaches. Must never: call a pod stopped that is only slow, or broken; leave anything behind.

mod objects;

use std::{collections::BTreeSet, fmt, time::Duration};

use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod, networking::v1::NetworkPolicy},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::objects::{Run, SELECTOR};
use super::{
    cluster::{bounded, explain, listed},
    told::{State, Told, condition, has_condition},
};
use crate::{
    api::{AIWorkflowClass, Condition, ConditionStatus, ConditionType, Reason, find, set},
    cli::terminal::printable,
    plan::text_at,
    reconcile::CallError,
};

/// Where a pod's node is named.
const NODE: &str = "/spec/nodeName";
/// Longest that a pod takes until it is ready, and a connection until it works again.
const STARTS: Duration = Duration::from_secs(90);
/// Longest that a network plugin takes until a new policy bites.
const BITES: Duration = Duration::from_secs(30);
/// How long a connection stays refused before that is believed.
const STAYS: Duration = Duration::from_secs(5);
/// Longest that pods take to go.
const GOES: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(500);
/// Whose fields the condition is.
const MANAGER: &str = "ringfence-check";
/// Most classes that are told.
const MAX_CLASSES: usize = 1000;

/// Which of the two pods a policy stands over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    /// The one that is reached.
    Ingress,
    /// The one that reaches.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Why it cannot be told.
enum Trouble {
    /// Somebody asked it to stop.
    Interrupted,
    /// This is in the way.
    Because(String),
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Because(match &error {
            CallError::Api { what, source } => format!("cannot {what}: {}", explain(source)),
            _ => error.to_string(),
        })
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Because(error.to_string())
    }
}

/// What was seen, of both directions.
struct Seen {
    leaks: Vec<Direction>,
    nodes: BTreeSet<String>,
}

/// Tries it, says so in every class, and tells. `None` where somebody asked it to stop.
pub(super) async fn ask(client: &Client, namespace: &str) -> Option<Vec<Told>> {
    let stop = CancellationToken::new();
    let heard = tokio::spawn(interrupted(stop.clone()));
    let canary = Canary {
        id: format!("{:x}-{:x}", Timestamp::now().as_nanosecond(), std::process::id()),
        pods: api::<Pod>(client, namespace),
        policies: api::<NetworkPolicy>(client, namespace),
        deployments: api::<Deployment>(client, namespace),
        namespace,
        stop: &stop,
    };
    let seen = Box::pin(canary.tries()).await;
    let mut told = match canary.removes(&objects::selector(&canary.id)).await {
        Ok(()) => Vec::new(),
        Err(trouble) => vec![left_behind(namespace, &trouble)],
    };
    heard.abort();
    let now = Timestamp::now();
    let (status, reason, message) = match seen {
        Ok(seen) => verdict(&seen, now),
        Err(Trouble::Interrupted) => {
            told.iter()
                .for_each(|told| eprintln!("ringfence: {}. {}", printable(&told.message), told.fix));
            return None;
        }
        Err(Trouble::Because(why)) => (
            ConditionStatus::Unknown,
            Reason::NotObserved,
            format!(
                "at {} it could not be told whether NetworkPolicies bite: {why}",
                at(now)
            ),
        ),
    };
    told.insert(0, network(status, &message));
    if let Err(error) = write(client, status, reason, &message, now).await {
        told.push(unwritten(Trouble::from(error)));
    }
    Some(told)
}

/// What is said of it where nobody tries it now: what the classes say.
pub(super) fn last_seen(classes: &[AIWorkflowClass]) -> Vec<Told> {
    let observed = classes.iter().filter_map(|class| {
        let condition = find(&class.status.as_ref()?.conditions, ConditionType::NetworkEnforced)?;
        (condition.reason != Reason::NotObserved.as_str()).then_some(condition)
    });
    // Whatever the order: what is wrong counts more.
    let worst = observed.max_by_key(|condition| condition.status == ConditionStatus::False);
    match worst {
        Some(condition) => vec![network(condition.status, &condition.message)],
        None => vec![Told::new(
            CHECK,
            State::Warning,
            "nobody has tried whether NetworkPolicies bite on this cluster; where they do not, fences do not hold",
            "ringfence check --canary",
        )],
    }
}

const CHECK: &str = "network";

fn network(status: ConditionStatus, message: &str) -> Told {
    match status {
        ConditionStatus::True => Told::good(CHECK, message),
        ConditionStatus::False => Told::new(
            CHECK,
            State::Error,
            message,
            "use a network plugin that enforces NetworkPolicies in both directions, such as Calico, Cilium or Antrea, and run ringfence check --canary again",
        ),
        ConditionStatus::Unknown => Told::new(
            CHECK,
            State::Unknown,
            message,
            "put right what is in the way, and run ringfence check --canary again",
        ),
    }
}

fn left_behind(namespace: &str, trouble: &Trouble) -> Told {
    let why = match trouble {
        Trouble::Interrupted => "",
        Trouble::Because(why) => why,
    };
    Told::new(
        CHECK,
        State::Warning,
        format!("not all that the canary made is gone: {why}"),
        format!("kubectl -n {namespace} delete pods,networkpolicies -l {SELECTOR}"),
    )
}

fn unwritten(trouble: Trouble) -> Told {
    let why = match trouble {
        Trouble::Interrupted => String::new(),
        Trouble::Because(why) => why,
    };
    Told::new(
        CHECK,
        State::Warning,
        format!("the condition NetworkEnforced of the AIWorkflowClasses does not say so: {why}"),
        "this takes list on aiworkflowclasses, patch on aiworkflowclasses/status, and the verb approve on aiworkflowclasses, as the role ringfence-approver has it",
    )
}

fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn verdict(seen: &Seen, now: Timestamp) -> (ConditionStatus, Reason, String) {
    let nodes: Vec<&str> = seen.nodes.iter().map(String::as_str).collect();
    let (at, nodes) = (at(now), nodes.join(" and "));
    let leaks: Vec<String> = seen.leaks.iter().map(ToString::to_string).collect();
    if leaks.is_empty() {
        let message = format!(
            "at {at} a NetworkPolicy stopped one pod from reaching another, by ingress and by egress, on {nodes}"
        );
        return (ConditionStatus::True, Reason::PoliciesBite, message);
    }
    let (leaks, within) = (leaks.join(" and "), BITES.as_secs());
    let message = format!(
        "at {at} one pod still reached another on {nodes}, {within} s after a NetworkPolicy forbade it by {leaks}: fences do not hold on this network"
    );
    (ConditionStatus::False, Reason::PoliciesIgnored, message)
}

/// Cancels when somebody asks this process to stop.
async fn interrupted(stop: CancellationToken) {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    if let Ok(mut terminate) = terminate {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("ringfence: removing what the canary made …");
        stop.cancel();
    }
}

struct Canary<'a> {
    id: String,
    pods: Api<DynamicObject>,
    policies: Api<DynamicObject>,
    deployments: Api<DynamicObject>,
    namespace: &'a str,
    stop: &'a CancellationToken,
}

impl Canary<'_> {
    /// What is made here is removed by whoever called. Writes are never broken off: what arrived after all would stay. Of two canaries at
    /// the same time the later one goes on.
    async fn tries(&self) -> Result<Seen, Trouble> {
        say("removing what an earlier canary left");
        self.removes(SELECTOR).await?;
        let run = self.run().await?;
        say(&format!("starting two pods in namespace {}", self.namespace));
        let listener = self.makes(&run.listener()?).await?;
        let listener = self
            .ready(
                &listener.name_any(),
                STARTS,
                "a pod that answers nobody but its probe does not start",
            )
            .await?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let policy = run.policy(direction, &listener, true)?;
            bounded(
                "create a NetworkPolicy",
                self.policies.create(&PostParams::default(), &policy),
            )
            .await?;
        }
        let dialer = self.makes(&run.dialer(&listener)?).await?;
        let unreached = "it does not reach the other one, which nothing should forbid yet";
        let dialer = self.ready(&dialer.name_any(), STARTS, unreached).await?;
        let nodes = [&listener, &dialer]
            .into_iter()
            .filter_map(|pod| Some(pod.data.pointer(NODE)?.as_str()?.to_owned()));
        let mut seen = Seen {
            leaks: Vec::new(),
            nodes: nodes.collect(),
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            say(&format!(
                "a NetworkPolicy forbids the connection by {direction}: waiting up to {} s for it to bite",
                BITES.as_secs()
            ));
            self.writes(&run.policy(direction, &listener, false)?).await?;
            if !self.is_stopped(&listener, &dialer).await? {
                seen.leaks.push(direction);
            }
            say("the NetworkPolicy is open again, and the connection must work");
            self.writes(&run.policy(direction, &listener, true)?).await?;
            let unreached = "it does not reach the other one again, though no policy forbids it any more";
            self.ready(&dialer.name_any(), STARTS, unreached).await?;
        }
        Ok(seen)
    }

    async fn run(&self) -> Result<Run, Trouble> {
        let what = format!("read Deployment ringfence in namespace {}", self.namespace);
        let deployment = bounded(&what, self.deployments.get("ringfence")).await?;
        Run::of(&deployment, self.namespace, self.id.clone())
            .ok_or_else(|| Trouble::Because("Deployment ringfence names no image".to_owned()))
    }

    async fn makes(&self, pod: &DynamicObject) -> Result<DynamicObject, Trouble> {
        if self.stop.is_cancelled() {
            return Err(Trouble::Interrupted);
        }
        let what = format!("create a pod in namespace {}", self.namespace);
        Ok(bounded(&what, self.pods.create(&PostParams::default(), pod)).await?)
    }

    async fn writes(&self, policy: &DynamicObject) -> Result<(), Trouble> {
        let (name, params) = (policy.name_any(), PostParams::default());
        bounded("update a NetworkPolicy", self.policies.replace(&name, &params, policy)).await?;
        Ok(())
    }

    /// Waits for a look, unless it is asked to stop.
    async fn pauses(&self) -> Result<(), Trouble> {
        tokio::select! {
            () = self.stop.cancelled() => Err(Trouble::Interrupted),
            () = sleep(LOOK) => Ok(()),
        }
    }

    /// A pod that is still there, and running or on its way to.
    async fn looks(&self, name: &str) -> Result<DynamicObject, Trouble> {
        let pod = bounded("read a pod of the canary", self.pods.get_opt(name)).await?;
        match pod {
            Some(pod)
                if pod.metadata.deletion_timestamp.is_none()
                    && !matches!(text_at(&pod.data, "/status/phase"), "Failed" | "Succeeded") =>
            {
                Ok(pod)
            }
            Some(_) | None => Err(Trouble::Because(format!(
                "pod {name} ended or is gone: did somebody else run a canary at the same time?"
            ))),
        }
    }

    async fn ready(&self, name: &str, limit: Duration, otherwise: &str) -> Result<DynamicObject, Trouble> {
        let end = Instant::now() + limit;
        loop {
            let pod = self.looks(name).await?;
            if is_ready(&pod) {
                return Ok(pod);
            }
            if Instant::now() > end {
                return Err(Trouble::Because(format!(
                    "pod {name} was not ready within {} s: {}",
                    limit.as_secs(),
                    waits_for(&pod).unwrap_or_else(|| otherwise.to_owned())
                )));
            }
            self.pauses().await?;
        }
    }

    /// Whether the dialer reaches the listener no more, for as long as it takes to believe that. It would not either if the listener did
    /// not answer.
    async fn is_stopped(&self, listener: &DynamicObject, dialer: &DynamicObject) -> Result<bool, Trouble> {
        let end = Instant::now() + BITES;
        let mut stopped: Option<Instant> = None;
        loop {
            let (reaches, answers) = (
                is_ready(&self.looks(&dialer.name_any()).await?),
                is_ready(&self.looks(&listener.name_any()).await?),
            );
            if !answers {
                return Err(Trouble::Because(format!(
                    "pod {} does not answer its probe any more",
                    listener.name_any()
                )));
            }
            let since = *stopped.get_or_insert_with(Instant::now);
            if reaches {
                stopped = None;
            } else if since.elapsed() >= STAYS {
                return Ok(true);
            }
            if stopped.is_none() && Instant::now() > end {
                return Ok(false);
            }
            self.pauses().await?;
        }
    }

    /// Removes everything of that selector, and waits until it is gone.
    async fn removes(&self, selector: &str) -> Result<(), Trouble> {
        let end = Instant::now() + GOES;
        loop {
            let left = remove(&self.policies, selector, "NetworkPolicies").await?
                + remove(&self.pods, selector, "pods").await?;
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Trouble::Because(format!("{left} objects are still there")));
            }
            sleep(LOOK).await;
        }
    }
}

/// Objects of a kind, read as JSON.
fn api<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// Deletes them. Returns how many were there.
async fn remove(api: &Api<DynamicObject>, selector: &str, kinds: &str) -> Result<usize, Trouble> {
    let (found, _) = listed(
        &format!("list {kinds}"),
        api,
        &ListParams::default().labels(selector),
        100,
    )
    .await?;
    for object in found
        .iter()
        .filter(|object| object.metadata.deletion_timestamp.is_none())
    {
        let (what, name) = (format!("delete one of the canary's {kinds}"), object.name_any());
        match bounded(&what, api.delete(&name, &DeleteParams::default())).await {
            Err(error) if !is_gone(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(found.len())
}

fn is_gone(error: &CallError) -> bool {
    error.status().is_some_and(kube::core::Status::is_not_found)
}

fn say(what: &str) {
    eprintln!("ringfence: canary: {what} …");
}

fn is_ready(pod: &DynamicObject) -> bool {
    has_condition(&pod.data, "Ready")
}

/// Why a pod does not run, in the API server's own words; nothing where it runs.
fn waits_for(pod: &DynamicObject) -> Option<String> {
    pod.data.get("status")?;
    let containers = pod.data.pointer("/status/containerStatuses").and_then(Value::as_array);
    let mut reasons = containers.into_iter().flatten().filter_map(|container| {
        let reason = container.pointer("/state/waiting/reason")?.as_str()?;
        Some(reason.to_owned())
    });
    let unscheduled = condition(&pod.data, "PodScheduled").filter(|one| text_at(one, "/status") == "False");
    let unscheduled = || Some(unscheduled?.get("message")?.as_str()?.to_owned());
    let is_placed = pod.data.pointer(NODE).is_some();
    reasons
        .next()
        .or_else(unscheduled)
        .or_else(|| (!is_placed).then(|| "no node took it".to_owned()))
}

/// In every class: it is a fact of the cluster. Where it could not be told, what was seen before stays.
async fn write(
    client: &Client,
    status: ConditionStatus,
    reason: Reason,
    message: &str,
    now: Timestamp,
) -> Result<(), CallError> {
    let api = Api::<AIWorkflowClass>::all(client.clone());
    let (classes, _) = listed("list AIWorkflowClasses", &api, &ListParams::default(), MAX_CLASSES).await?;
    for class in classes {
        let observed = class
            .status
            .as_ref()
            .and_then(|status| find(&status.conditions, ConditionType::NetworkEnforced));
        if status == ConditionStatus::Unknown
            && observed.is_some_and(|before| before.status != ConditionStatus::Unknown)
        {
            continue;
        }
        let mut conditions: Vec<Condition> = class
            .status
            .as_ref()
            .map(|status| status.conditions.clone())
            .unwrap_or_default();
        set(
            &mut conditions,
            ConditionType::NetworkEnforced,
            status,
            reason,
            message,
            None,
            now,
        );
        let condition = find(&conditions, ConditionType::NetworkEnforced);
        let applied = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class.name_any()},
            "status": {"conditions": [condition]},
        });
        let what = format!("write the status of AIWorkflowClass {}", class.name_any());
        let params = PatchParams::apply(MANAGER).force();
        match bounded(
            &what,
            api.patch_status(&class.name_any(), &params, &Patch::Apply(applied)),
        )
        .await
        {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(leaks: &[Direction]) -> (ConditionStatus, Reason, String) {
        let now = "2026-11-27T03:00:00Z".parse().unwrap();
        let nodes = ["a", "b"].map(str::to_owned).into();
        let leaks = leaks.to_vec();
        verdict(&Seen { leaks, nodes }, now)
    }

    fn class(condition: Option<(ConditionStatus, Reason)>) -> AIWorkflowClass {
        let mut class = crate::plan::default_class();
        let mut status = crate::api::AIWorkflowClassStatus::default();
        if let Some((holds, reason)) = condition {
            let now = "2026-11-27T03:00:00Z".parse().unwrap();
            set(
                &mut status.conditions,
                ConditionType::NetworkEnforced,
                holds,
                reason,
                "said",
                None,
                now,
            );
        }
        class.status = Some(status);
        class
    }

    #[test]
    fn one_direction_that_leaks_is_enough() {
        assert_eq!(seen(&[]).0, ConditionStatus::True);
        for leaks in [
            &[Direction::Ingress][..],
            &[Direction::Egress],
            &[Direction::Ingress, Direction::Egress],
        ] {
            let (status, _, message) = seen(leaks);
            assert_eq!(status, ConditionStatus::False);
            assert!(
                message.contains("at 2026-11-27T03:00:00Z") && message.contains("on a and b"),
                "{message}"
            );
            for direction in leaks {
                assert!(message.contains(&direction.to_string()), "{message}");
            }
        }
    }

    #[test]
    fn what_was_never_tried_is_not_called_good() {
        let good = || class(Some((ConditionStatus::True, Reason::PoliciesBite)));
        let bad = || class(Some((ConditionStatus::False, Reason::PoliciesIgnored)));
        let never = || class(Some((ConditionStatus::Unknown, Reason::NotObserved)));
        for (classes, expected) in [
            (vec![], State::Warning),
            (vec![class(None), never()], State::Warning),
            (vec![never(), good()], State::Good),
            (vec![bad(), good()], State::Error),
            (vec![good(), bad()], State::Error),
        ] {
            assert_eq!(last_seen(&classes)[0].state, expected, "{classes:?}");
        }
    }
}
