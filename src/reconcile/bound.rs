//! Bindings that wait for an account that is not there yet: who makes it gives it what they say.
//!
//! All bindings of the cluster are looked at for it, which whoever writes large ones makes slow: so workflows share a look, and no reconcile
//! waits for one. It asks, and is brought back when the look that answers it has ended.
//!
//! Must never: pass over a ClusterRoleBinding that could not be read, answer by a look that began before it was asked, look twice at the same
//! time, or remember more than the workflows that stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{CallError, Context, Reads, calls, lean::Lean};
use crate::api::{AIWorkflow, AIWorkflowGrant, Mode, is_dns_subdomain};
use crate::fence;
use crate::findings::{Declared, Origin, Owners, clipped};
use crate::plan;
use crate::scan::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
use crate::webhook::lookup::Live;
use crate::webhook::pages::Ask;

/// Most that are named: one is enough.
const MAX_NAMED: usize = 5;
/// How long a look may take: the API server forgets where a list stood after five minutes.
const LOOK_TIME: Duration = Duration::from_secs(240);
/// Longest pause between two looks. Each is as long as the look before it: whoever makes looks long, and has them made, must not keep the API
/// server at them all the time.
const REST: Duration = Duration::from_secs(30);

/// Namespace and name of a workflow.
type Key = (String, String);

/// Whose account is asked about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Account {
    namespace: String,
    name: String,
    workflow: String,
    uid: String,
    /// The mode of its namespace: what was bound under a weaker one was refused to nobody.
    mode: Option<Mode>,
}

/// What is known of bindings of somebody else that name an account.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Nothing yet, since it was asked. The end of the look brings the workflow back.
    Awaited(Instant),
    /// Those that a look found.
    Found(Vec<String>),
    /// Nothing, for the look failed.
    Failed(String),
}

/// The looks of one process: one at a time.
#[derive(Default)]
pub(super) struct Looks {
    inner: Mutex<Inner>,
    one: tokio::sync::Mutex<()>,
    wanted: Notify,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    /// What each workflow asks.
    asked: BTreeMap<Key, Asked>,
    /// Workflows that were answered, and not brought back yet.
    untold: BTreeSet<Key>,
}

struct Asked {
    account: Account,
    at: Instant,
    /// What a look came to that began then, and after that.
    answer: Option<(Instant, Result<Vec<String>, String>)>,
}

impl Looks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks which bindings of somebody else name an account, or takes the answer to that: one look's that began after `since`, and after it was
    /// asked. It is the same until it is forgotten.
    pub(super) fn ask(&self, account: &Account, since: Instant) -> Answer {
        let mut inner = self.inner();
        let asked = inner.asked.get(&account.key());
        match asked.filter(|asked| asked.account == *account) {
            Some(Asked {
                answer: Some((began, found)),
                ..
            }) if *began >= since => return found.clone().map_or_else(Answer::Failed, Answer::Found),
            Some(Asked { answer: None, at, .. }) => return Answer::Awaited(*at),
            Some(_) | None => {}
        }
        let at = Instant::now();
        let asked = Asked {
            account: account.clone(),
            at,
            answer: None,
        };
        inner.asked.insert(account.key(), asked);
        drop(inner);
        self.wanted.notify_one();
        Answer::Awaited(at)
    }

    /// Forgets what a workflow asked, and its answer: the next one is a newer look's.
    pub(super) fn forget(&self, workflow: &AIWorkflow) {
        let key = (workflow.namespace().unwrap_or_default(), workflow.name_any());
        self.inner().asked.remove(&key);
    }

    /// Waits until somebody asks.
    async fn wanted(&self) {
        while self.inner().asked.values().all(|asked| asked.answer.is_some()) {
            self.wanted.notified().await;
        }
    }

    /// Whom a look that begins now is for. What workflows asked that do not stand any more is forgotten.
    fn begin(&self, stands: impl Fn(&Account) -> bool) -> Vec<Account> {
        let mut inner = self.inner();
        inner.asked.retain(|_, asked| stands(&asked.account));
        let unanswered = inner.asked.values().filter(|asked| asked.answer.is_none());
        unanswered.map(|asked| asked.account.clone()).collect()
    }

    fn end(&self, began: Instant, accounts: &[Account], found: Result<Vec<Vec<String>>, String>) {
        let answers = match found {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(why) => vec![Err(why); accounts.len()],
        };
        let mut inner = self.inner();
        for (account, answer) in accounts.iter().zip(answers) {
            let key = account.key();
            let is_asked =
                |asked: &&mut Asked| asked.account == *account && asked.answer.is_none() && asked.at <= began;
            if let Some(asked) = inner.asked.get_mut(&key).filter(is_asked) {
                asked.answer = Some((began, answer));
                inner.untold.insert(key);
            }
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Tells of each workflow that was answered. For one listener.
    pub(super) fn ended(self: &Arc<Self>) -> impl Stream<Item = Key> + Send + 'static + use<> {
        futures::stream::unfold(Arc::clone(self), |looks| async {
            loop {
                let untold = looks.inner().untold.pop_first();
                if let Some(key) = untold {
                    return Some((key, looks));
                }
                looks.news.notified().await;
            }
        })
    }
}

/// Looks for whoever asks, until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = keep_looking(&context) => {}
    }
}

async fn keep_looking(context: &Context) {
    let stands = |account: &Account| {
        context
            .known
            .stands(&account.namespace, &account.workflow, &account.uid)
    };
    loop {
        context.looks.wanted().await;
        let began = Instant::now();
        answer(context, stands).await;
        sleep(began.elapsed().min(REST)).await;
    }
}

/// RoleBindings and ClusterRoleBindings of somebody else that name the workflow's account, for who has nothing else to do meanwhile. What
/// Ringfence made is what this workflow, or a grant that names it, makes: that a binding says so is no proof, because whoever wrote it while
/// nobody asked could say it too.
pub(super) async fn bound(workflow: &AIWorkflow, reads: &Reads) -> Result<Vec<String>, CallError> {
    let (account, since) = (Account::of(workflow, None), Instant::now());
    loop {
        match reads.looks.ask(&account, since) {
            Answer::Awaited(_) => answer(reads, |_| true).await,
            Answer::Found(named) => {
                reads.looks.forget(workflow);
                return Ok(named);
            }
            Answer::Failed(why) => {
                reads.looks.forget(workflow);
                return Err(CallError::Unread(why));
            }
        }
    }
}

/// One look, for all who ask.
async fn answer(reads: &Reads, stands: impl Fn(&Account) -> bool) {
    let _one = reads.looks.one.lock().await;
    let accounts = reads.looks.begin(stands);
    if accounts.is_empty() {
        return;
    }
    let began = Instant::now();
    let found = match timeout(LOOK_TIME, look(&accounts, reads)).await {
        Ok(found) => found.map_err(|error| error.explain()),
        Err(_) => Err(format!(
            "looking at all RoleBindings and ClusterRoleBindings takes longer than {} s: see which namespace has so many, or such large ones",
            LOOK_TIME.as_secs()
        )),
    };
    reads.looks.end(began, &accounts, found);
}

/// What names each of the accounts. A page is held at a time, and its subjects are gone through once, however many accounts are asked about.
async fn look(accounts: &[Account], reads: &Reads) -> Result<Vec<Vec<String>>, CallError> {
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let mut owners: Vec<Owners> = accounts.iter().map(Account::owners).collect();
    let mut found = vec![Vec::new(); accounts.len()];
    let mut places = BTreeMap::<_, Vec<usize>>::new();
    for (place, account) in accounts.iter().enumerate() {
        let name = (account.namespace.as_str(), account.name.as_str());
        places.entry(name).or_default().push(place);
    }
    for kind in [ROLE_BINDING, CLUSTER_ROLE_BINDING] {
        let mut ask = Ask::all(kind, None);
        loop {
            let page = calls::page(&lists, &ask).await?;
            // One in a namespace gives rights there alone, and is told by the scan: nobody keeps all accounts from being made by writing one
            // that is too large.
            if let Some(unread) = page.unread.filter(|_| kind == CLUSTER_ROLE_BINDING) {
                return Err(CallError::Unread(unread));
            }
            for binding in page.items.into_iter().map(Value::Object) {
                let mut claim = Claim::of(kind.kind, &binding);
                let named = fence::accounts_named(&binding).filter_map(|account| places.get(&account));
                let named: BTreeSet<usize> = named.flatten().copied().collect();
                for place in named {
                    let (Some(found), Some(owners)) = (found.get_mut(place), owners.get_mut(place)) else {
                        continue;
                    };
                    if found.len() < MAX_NAMED && !claim.is_true(owners, reads).await? {
                        let of = plan::text_at(&binding, "/metadata/namespace");
                        let of = if of.is_empty() { String::new() } else { format!("{of}/") };
                        found.push(format!("{} {of}{}", kind.kind, clipped(plan::name_of(&binding))));
                    }
                }
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() || found.iter().all(|named| named.len() >= MAX_NAMED) {
                break;
            }
        }
    }
    Ok(found)
}

impl Account {
    /// The account of a workflow, in a namespace of that mode.
    pub(super) fn of(workflow: &AIWorkflow, mode: Option<Mode>) -> Self {
        Self {
            namespace: workflow.namespace().unwrap_or_default(),
            name: workflow.service_account_name().to_owned(),
            workflow: workflow.name_any(),
            uid: workflow.uid().unwrap_or_default(),
            mode,
        }
    }

    fn key(&self) -> Key {
        (self.namespace.clone(), self.workflow.clone())
    }

    /// Who makes bindings for it, as far as that is known without asking.
    fn owners(&self) -> Owners {
        let mut owners = Owners::default();
        owners.add_workflow(&Declared {
            namespace: self.namespace.clone(),
            name: self.workflow.clone(),
            uid: self.uid.clone(),
            generation: None,
            account: self.name.clone(),
            secrets: Vec::new(),
            way: None,
        });
        owners
    }
}

/// Who a binding says that it was made by.
struct Claim {
    origin: Option<Origin>,
    /// The grant that it names, once that was looked up.
    grant: Option<Option<Value>>,
}

impl Claim {
    fn of(kind: &'static str, binding: &Value) -> Self {
        Self {
            origin: Origin::of(kind, binding),
            grant: None,
        }
    }

    /// Whether the workflow made it, or the grant that it names, which is looked up once for all accounts.
    async fn is_true(&mut self, owners: &mut Owners, reads: &Reads) -> Result<bool, CallError> {
        let Some(origin) = &self.origin else { return Ok(false) };
        if !owners.has(&origin.owner) && !origin.namespace.is_empty() && is_dns_subdomain(&origin.owner_name) {
            if self.grant.is_none() {
                self.grant = Some(read_grant(&origin.namespace, &origin.owner_name, reads).await?);
            }
            if let Some(Some(grant)) = &self.grant {
                owners.add_grant(grant);
            }
        }
        Ok(owners.made(origin))
    }
}

async fn read_grant(namespace: &str, name: &str, reads: &Reads) -> Result<Option<Value>, CallError> {
    let grants = Api::<Lean<AIWorkflowGrant>>::namespaced(reads.client.clone(), namespace);
    let what = format!("read AIWorkflowGrant {namespace}/{name}");
    let grant = calls::readable(calls::bounded(&what, grants.get(name)).await)?;
    Ok(grant.and_then(|Lean(grant)| serde_json::to_value(grant).ok()))
}

#[cfg(test)]
mod tests;
