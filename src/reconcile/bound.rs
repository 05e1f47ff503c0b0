//! Bindings that wait for an account that is not there yet: who makes it gives it what they say.
//!
//! All bindings of the cluster are looked at for it, which whoever writes large ones makes slow: so workflows that wait share a look.
//!
//! Must never: pass over a ClusterRoleBinding that could not be read, or answer by a look that began before it was asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::time::{Duration, Instant, timeout};

use super::{CallError, Reads, calls, lean::Lean};
use crate::api::{AIWorkflow, AIWorkflowGrant, is_dns_subdomain};
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

/// Whose account is asked about.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
struct Account {
    namespace: String,
    name: String,
    workflow: String,
    uid: String,
}

/// Bindings that name each account that was asked about.
type Named = BTreeMap<Account, Vec<String>>;

/// The looks of one process: one at a time.
#[derive(Default)]
pub(super) struct Looks {
    /// Accounts that somebody waits for an answer about, and how many do.
    wanted: Mutex<BTreeMap<Account, usize>>,
    last: tokio::sync::Mutex<Option<Look>>,
}

/// A look at all bindings of the cluster.
struct Look {
    began: Instant,
    /// Or why it failed: whoever waits would fail as well.
    found: Result<Named, String>,
}

/// That somebody waits.
struct Wait<'a> {
    looks: &'a Looks,
    account: Account,
}

impl Looks {
    fn wait(&self, account: Account) -> Wait<'_> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted.entry(account.clone()).or_default() += 1;
        Wait { looks: self, account }
    }

    fn wanted(&self) -> Named {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.keys().map(|account| (account.clone(), Vec::new())).collect()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut wanted = self.looks.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let left = wanted.get(&self.account).copied().unwrap_or_default();
        if left > 1 {
            wanted.insert(self.account.clone(), left - 1);
        } else {
            wanted.remove(&self.account);
        }
    }
}

/// RoleBindings and ClusterRoleBindings of somebody else that name the workflow's account. What Ringfence made is what this workflow, or a
/// grant that names it, makes: that a binding says so is no proof, because whoever wrote it while nobody asked could say it too.
pub(super) async fn bound(workflow: &AIWorkflow, reads: &Reads) -> Result<Vec<String>, CallError> {
    let asked = Instant::now();
    let account = Account {
        namespace: workflow.namespace().unwrap_or_default(),
        name: workflow.service_account_name().to_owned(),
        workflow: workflow.name_any(),
        uid: workflow.uid().unwrap_or_default(),
    };
    let waits = reads.looks.wait(account);
    let mut last = reads.looks.last.lock().await;
    let answers = |look: &&Look| {
        let knows = look
            .found
            .as_ref()
            .map_or(true, |found| found.contains_key(&waits.account));
        look.began >= asked && knows
    };
    if last.as_ref().filter(answers).is_none() {
        let began = Instant::now();
        let found = match timeout(LOOK_TIME, look(reads.looks.wanted(), reads)).await {
            Ok(found) => found.map_err(|error| error.explain()),
            Err(_) => Err(format!(
                "looking at all RoleBindings and ClusterRoleBindings takes longer than {} s: see which namespace has so many, or such large ones",
                LOOK_TIME.as_secs()
            )),
        };
        *last = Some(Look { began, found });
    }
    match last.as_ref().map(|look| &look.found) {
        Some(Ok(found)) => Ok(found.get(&waits.account).cloned().unwrap_or_default()),
        Some(Err(why)) => Err(CallError::Unread(why.clone())),
        None => Err(CallError::Unread(
            "the bindings of the cluster were not looked at".to_owned(),
        )),
    }
}

async fn look(mut found: Named, reads: &Reads) -> Result<Named, CallError> {
    let lists = Live::new(reads.client.clone(), &reads.registration);
    let mut owners: Vec<Owners> = found.keys().map(Account::owners).collect();
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
                for ((account, named), owners) in found.iter_mut().zip(&mut owners) {
                    if named.len() >= MAX_NAMED || !fence::names_account(&binding, &account.namespace, &account.name) {
                        continue;
                    }
                    if !claim.is_true(owners, reads).await? {
                        let of = plan::text_at(&binding, "/metadata/namespace");
                        let of = if of.is_empty() { String::new() } else { format!("{of}/") };
                        named.push(format!("{} {of}{}", kind.kind, clipped(plan::name_of(&binding))));
                    }
                }
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() || found.values().all(|named| named.len() >= MAX_NAMED) {
                break;
            }
        }
    }
    Ok(found)
}

impl Account {
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
