//! Names of workflows whose class says `ResolvedAddresses`: asked of every replica of the cluster's DNS, and remembered in their ResolvedNames.
//!
//! On the leader alone, a few objects at a time, those of each namespace in its turn, and a few names of each. Which addresses are kept, `egress` decides; what is opened, `plan`.
//! Must never: ask whom the class does not have pods ask, write what is not new, or hold a look-up open without a deadline.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    runtime::{
        Controller, WatchStreamExt,
        controller::Action,
        reflector::{self, Store},
    },
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

mod servers;

use self::servers::Servers;
use super::{
    CallError, Context, RESYNC, calls, jittered,
    lean::{self, Lean},
    log, on_error, paged_of_others, trim,
    turns::in_turn,
};
use crate::{
    api::{
        ConditionStatus, ConditionType, LookUp, OWNER_LABEL, Reason, ResolvedName, ResolvedNames, ResolvedNamesStatus,
        ResolvedRule, set,
    },
    egress::{Answers, Family, Host, MAX_NAMES, MAX_REMEMBERED, News, Replies, holds_for, news, remember},
    plan, proxy, telemetry,
    watch::lasting,
};

/// Names of one object that are looked up at the same time. Objects take turns, by namespace.
const NAMES: usize = 8;
/// Questions that wait for an answer at the same time, each with a socket of its own.
const QUESTIONS: usize = 256;
/// Longest that one question may take, its turn included.
const LONGEST: Duration = Duration::from_secs(20);
/// Longest that names of one object are asked at a time: what has no answer by then is still due, and what has one is kept.
const ASKING: Duration = Duration::from_secs(60);
/// How many names of one namespace, and in all, are looked up.
const OF_NAMESPACE: usize = 200;
const IN_ALL: usize = 2000;
/// How often what can wait is written.
const SMALL: Duration = Duration::from_secs(30);
/// Shortest pause between two looks at one object.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How many names a condition tells of.
const MAX_NAMED: usize = 10;

/// What is known between two looks. All that must not be lost is in the objects.
pub(super) struct Resolving {
    servers: Servers,
    questions: Semaphore,
    turns: Mutex<HashMap<String, Turns>>,
}

impl Resolving {
    /// `nameservers`: whom to ask instead of the DNS that a class names.
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self {
            servers: Servers::new(nameservers),
            questions: Semaphore::new(QUESTIONS),
            turns: Mutex::default(),
        }
    }

    /// Forgets those that are gone, once as many are remembered as stand: whoever makes and withdraws them would else have all of them
    /// remembered.
    fn forget(&self, known: &Store<ResolvedNames>) {
        let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= known.len() {
            return;
        }
        let stand = known.state();
        let stand: HashSet<_> = stand.iter().filter_map(|names| names.metadata.uid.as_deref()).collect();
        all.retain(|uid, _| stand.contains(uid.as_str()));
    }
}

/// What came of a look-up, apart from addresses: what is new in it can wait, and must not be lost while it does.
#[derive(Clone, Copy)]
struct Said {
    ipv4: LookUp,
    ipv6: LookUp,
    refused: i32,
}

/// When an object's names are looked up next, each by itself.
struct Turns {
    due: HashMap<String, Instant>,
    /// What came of the last look-up of each name, which may not have been written yet.
    said: HashMap<String, Said>,
    written: Option<Instant>,
}

impl Turns {
    fn new() -> Self {
        Self {
            due: HashMap::new(),
            said: HashMap::new(),
            written: None,
        }
    }
}

/// A controller of what Ringfence made: nobody else may set the label.
pub(super) fn controller(client: &Client) -> Controller<ResolvedNames> {
    let (reader, writer) = reflector::store();
    let labelled = paged_of_others().labels(OWNER_LABEL);
    let trimmed = lasting(lean::events::<ResolvedNames>(Api::all(client.clone()), labelled)).modify(keep_names);
    Controller::for_stream(trimmed.reflect(writer).applied_objects(), reader)
}

/// Of an object, what is kept of all of them: each name once, as it counts. At every look at one of them the names of all are counted, and nobody
/// reads them again for that.
fn keep_names(names: &mut ResolvedNames) {
    trim::metadata(&mut names.metadata);
    let domains = hosts(names).iter().map(ToString::to_string).collect();
    names.spec.rules = vec![ResolvedRule {
        domains,
        ..ResolvedRule::default()
    }];
    names.status = None;
}

pub(super) async fn run(controller: Controller<ResolvedNames>, context: Arc<Context>, stop: CancellationToken) {
    let known = controller.store();
    controller
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(
            in_turn(stop, move |names, context| {
                let known = known.clone();
                async move { reconcile(names, &known, context).await }
            }),
            on_error,
            context,
        )
        .for_each(|result| async move { log("resolved names", result.map(drop)) })
        .await;
}

async fn reconcile(
    names: Arc<ResolvedNames>,
    known: &Store<ResolvedNames>,
    context: Arc<Context>,
) -> Result<Action, CallError> {
    if names.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    context.resolving.forget(known);
    let due = due(&names, &context);
    if due.is_empty() {
        return Ok(Action::requeue(until_next(&names, &context)));
    }
    let started = Instant::now();
    let looked = look(&names, due, known, &context).await;
    context
        .metrics
        .reconciled(telemetry::Controller::ResolvedNames, looked.is_ok(), started.elapsed());
    let is_looked_up = looked?;
    let pause = match is_looked_up {
        true => until_next(&names, &context),
        false => jittered(RESYNC.min(SMALL)),
    };
    Ok(Action::requeue(pause))
}

/// Looks up what is due. Whether anything is looked up here.
async fn look(
    names: &ResolvedNames,
    due: Vec<Host>,
    known: &Store<ResolvedNames>,
    context: &Context,
) -> Result<bool, CallError> {
    let namespace = names.namespace().unwrap_or_default();
    let facts = context.namespace(&namespace).await?;
    let class = match facts.fencing_class().filter(|_| !facts.exempt && !facts.terminating) {
        Some(class) => context.class(class).await?,
        None => None,
    };
    // What stands is right as it was made: who opens nothing by it takes it away.
    let Some(class) = class.filter(plan::resolves) else {
        return Ok(false);
    };
    let api = Api::<Lean<ResolvedNames>>::namespaced(context.client.clone(), &namespace);
    let name = names.name_any();
    let what = format!("read ResolvedNames {namespace}/{name}");
    // Past the cache: what is added to must be what was written last.
    let Some(Lean(stored)) = calls::optional(calls::bounded(&what, api.get(&name)).await)? else {
        return Ok(false);
    };
    let servers = context.resolving.servers.of(&class, &context.client).await?;
    let room = room(&stored, known);
    let hosts = hosts(&stored);
    let looked_up: BTreeSet<_> = hosts.iter().take(room).cloned().collect();
    let asked = due.into_iter().filter(|host| looked_up.contains(host));
    let replies: HashMap<Host, Replies> = stream::iter(asked)
        .map(|host| async {
            let replies = ask(&host, &servers, context).await;
            (host, replies)
        })
        .buffer_unordered(NAMES)
        .take_until(sleep(ASKING))
        .collect()
        .await;
    let mut ranges = context.known.cluster_ranges();
    ranges.extend(plan::cluster_ranges(&class));
    let said = with_turns(&stored, context, |turns| turns.said.clone());
    let status = remembered(
        &stored,
        (&hosts, &looked_up),
        &replies,
        &said,
        &ranges,
        Timestamp::now(),
    );
    let now = Instant::now();
    let waits = |host: &Host| replies.get(host).map_or(SMALL, holds_for);
    let next = hosts
        .iter()
        .filter(|host| replies.contains_key(*host) || !looked_up.contains(*host));
    let next: Vec<_> = next
        .map(|host| (host.to_string(), now + jittered(waits(host))))
        .collect();
    let (before, after) = (stored.status.clone().unwrap_or_default(), status);
    let said_now = after
        .names
        .iter()
        .map(|name| (name.name.clone(), of_name(name)))
        .collect();
    let is_to_be_written = match news(&before.names, &after.names) {
        News::Addresses => true,
        News::Small => with_turns(&stored, context, |turns| {
            turns.written.is_none_or(|written| written.elapsed() >= SMALL)
        }),
        News::None => before.observed_generation != after.observed_generation,
    };
    let is_lost = is_to_be_written && !write(&stored, after, &api).await?;
    with_turns(&stored, context, |turns| {
        turns.said = said_now;
        // Somebody wrote meanwhile, and what was answered is nowhere: it is still due.
        if is_lost {
            return;
        }
        turns.due.extend(next);
        if is_to_be_written {
            turns.written = Some(now);
        }
    });
    Ok(true)
}

/// What is remembered once these were answered.
fn remembered(
    stored: &ResolvedNames,
    (hosts, looked_up): (&BTreeSet<Host>, &BTreeSet<Host>),
    replies: &HashMap<Host, Replies>,
    said: &HashMap<String, Said>,
    ranges: &[IpNet],
    now: Timestamp,
) -> ResolvedNamesStatus {
    let guard = Answers::default();
    let admit = |address: IpAddr| guard.admit(address, ranges);
    let mut status = stored.status.clone().unwrap_or_default();
    let of = |host: &Host| {
        let before = status.names.iter().find(|name| name.name == host.as_str());
        let not_asked = |outcome| ResolvedName {
            ipv4: outcome,
            ipv6: outcome,
            ..remember(host.as_str(), before, &Replies::default(), admit, now)
        };
        match (replies.get(host), before) {
            (Some(replies), _) => remember(host.as_str(), before, replies, admit, now),
            (None, _) if !looked_up.contains(host) => not_asked(LookUp::BeyondBounds),
            // Its time has not come.
            (None, Some(before)) => {
                let said = said.get(host.as_str()).copied().unwrap_or(of_name(before));
                ResolvedName {
                    ipv4: said.ipv4,
                    ipv6: said.ipv6,
                    refused: said.refused,
                    ..before.clone()
                }
            }
            (None, None) => not_asked(LookUp::Pending),
        }
    };
    let names: Vec<_> = hosts.iter().map(of).collect();
    status.names = names;
    status.observed_generation = stored.metadata.generation;
    let (holds, reason, message) = condition(&status.names);
    let generation = stored.metadata.generation;
    set(
        &mut status.conditions,
        ConditionType::Resolved,
        holds,
        reason,
        message,
        generation,
        now,
    );
    status
}

const fn of_name(name: &ResolvedName) -> Said {
    Said {
        ipv4: name.ipv4,
        ipv6: name.ipv6,
        refused: name.refused,
    }
}

fn condition(names: &[ResolvedName]) -> (ConditionStatus, Reason, String) {
    let wanting: Vec<_> = names
        .iter()
        .filter(|name| name.addresses.is_empty() || is_failing(name))
        .collect();
    if wanting.is_empty() {
        let message = "every name has an address".to_owned();
        return (ConditionStatus::True, Reason::Resolved, message);
    }
    let why = |name: &&&ResolvedName| {
        let why = match [name.ipv4, name.ipv6]
            .into_iter()
            .find(|said| *said != LookUp::NoAddress)
        {
            _ if name.addresses.is_empty() && name.refused > 0 => {
                "leads only to what is private, of the cluster, or hands out credentials, which is not opened"
            }
            Some(LookUp::BeyondBounds) => {
                "is not looked up: more names are declared, in the namespace or in all, than are"
            }
            Some(LookUp::Pending) => "has not been looked up yet",
            Some(LookUp::Failed) => "could not be looked up: no replica of the DNS could tell",
            Some(LookUp::NoName) => "is no name in DNS",
            Some(LookUp::NoAddress | LookUp::Resolved) | None => "has no address in DNS",
        };
        let stays = if name.addresses.is_empty() {
            ""
        } else {
            ", and what it had stays open"
        };
        format!("{} {why}{stays}", name.name)
    };
    let told: Vec<_> = wanting.iter().take(MAX_NAMED).map(|name| why(&name)).collect();
    let more = match wanting.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message = format!("{}{more}", told.join("; "));
    (ConditionStatus::False, Reason::NotResolved, message)
}

/// Whether what is kept of a name is what it was, and not what it is.
fn is_failing(name: &ResolvedName) -> bool {
    ![name.ipv4, name.ipv6].contains(&LookUp::Resolved)
}

/// Whether it was written, and not changed or gone meanwhile.
async fn write(
    stored: &ResolvedNames,
    status: ResolvedNamesStatus,
    api: &Api<Lean<ResolvedNames>>,
) -> Result<bool, CallError> {
    let what = format!("write the status of ResolvedNames {}", stored.name_any());
    let written = Lean(ResolvedNames {
        status: Some(status),
        ..stored.clone()
    });
    let (name, params) = (stored.name_any(), PostParams::default());
    match calls::bounded(&what, api.replace_status(&name, &params, &written)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks every replica for both families, all at the same time.
async fn ask(host: &Host, servers: &[SocketAddr], context: &Context) -> Replies {
    let one = |server: SocketAddr, family| async move {
        let asked = async {
            // Nobody closes it.
            let _permit = context.resolving.questions.acquire().await.ok()?;
            proxy::ask_one(server, host, family, MAX_REMEMBERED + 1).await
        };
        tokio::time::timeout(LONGEST, asked).await.ok().flatten()
    };
    let of = |family| join_all(servers.iter().map(move |server| one(*server, family)));
    let (four, six) = tokio::join!(of(Family::V4), of(Family::V6));
    Replies { four, six }
}

/// Names of an object, each once, in the order in which they count.
fn hosts(names: &ResolvedNames) -> BTreeSet<Host> {
    let domains = names.spec.rules.iter().flat_map(|rule| &rule.domains);
    // Bounded by the definition, and by what is planned: twice, so that no other's word is taken for it.
    let all: BTreeSet<_> = domains.filter_map(|domain| Host::named(domain).ok()).collect();
    all.into_iter().take(MAX_NAMES).collect()
}

/// How many names of an object are looked up: those of older ones come first. What is known is what [`keep_names`] leaves.
fn room(names: &ResolvedNames, known: &Store<ResolvedNames>) -> usize {
    fn order(names: &ResolvedNames) -> (Option<Timestamp>, Option<&str>) {
        let made = names.metadata.creation_timestamp.as_ref().map(|made| made.0);
        (made, names.metadata.uid.as_deref())
    }
    let (own, namespace) = (order(names), &names.metadata.namespace);
    let (mut of_namespace, mut in_all) = (OF_NAMESPACE, IN_ALL);
    for other in known.state().iter().filter(|other| order(other) < own) {
        let count = other.spec.rules.iter().map(|rule| rule.domains.len()).sum();
        in_all = in_all.saturating_sub(count);
        if other.metadata.namespace == *namespace {
            of_namespace = of_namespace.saturating_sub(count);
        }
        if of_namespace.min(in_all) == 0 {
            break;
        }
    }
    of_namespace.min(in_all)
}

/// Names whose time has come.
fn due(names: &ResolvedNames, context: &Context) -> Vec<Host> {
    let (hosts, now) = (hosts(names), Instant::now());
    with_turns(names, context, |turns| {
        turns
            .due
            .retain(|name, _| hosts.iter().any(|host| host.as_str() == name));
        let is_due = |host: &Host| turns.due.get(host.as_str()).is_none_or(|due| *due <= now);
        hosts.iter().filter(|host| is_due(host)).cloned().collect()
    })
}

fn until_next(names: &ResolvedNames, context: &Context) -> Duration {
    let next = with_turns(names, context, |turns| turns.due.values().min().copied());
    next.map_or_else(
        || jittered(RESYNC),
        |next| next.saturating_duration_since(Instant::now()).max(AT_LEAST),
    )
}

fn with_turns<T>(names: &ResolvedNames, context: &Context, what: impl FnOnce(&mut Turns) -> T) -> T {
    let mut all = context.resolving.turns.lock().unwrap_or_else(PoisonError::into_inner);
    what(all.entry(names.uid().unwrap_or_default()).or_insert_with(Turns::new))
}

#[cfg(test)]
mod tests;
