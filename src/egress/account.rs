//! What each workflow has used of what it declares, and what it was refused, since this replica began to count.
//!
//! Hosts that are refused are the client's choice, and their number is anybody's. Must never: grow by what pods send beyond its bounds, or let
//! one workflow take the room of another that asks for less.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::allowed::Permit;
use super::domain::Domain;
use super::index::Workflow;
use super::target::Target;

/// Declared domains of one workflow that are counted at a time.
const MAX_USED: usize = 512;
/// Refused hosts of one workflow that are kept by name.
const MAX_REFUSED: usize = 50;
/// Both, of all workflows: some megabytes at most.
const MAX_ALL: usize = 20_000;

/// What all workflows have used and were refused.
#[derive(Debug)]
pub struct Account {
    workflows: HashMap<Arc<Workflow>, OfOne>,
    entries: usize,
    most: usize,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            workflows: HashMap::new(),
            entries: 0,
            most: MAX_ALL,
        }
    }
}

#[derive(Debug, Default)]
struct OfOne {
    used: BTreeMap<(String, Domain), Arc<Used>>,
    refused: BTreeMap<Target, Refusals>,
    unlisted: u64,
}

/// What one declared domain was used for. Counted without a lock, by each of its connections.
#[derive(Debug, Default)]
pub struct Used {
    connections: AtomicU64,
    open: AtomicU64,
    failed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    last: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Refusals {
    count: u64,
    last: u64,
}

impl Account {
    /// Where connections by a permit are counted. `None`: there is no room for it.
    pub fn used(&mut self, workflow: &Arc<Workflow>, permit: Permit<'_>) -> Option<Arc<Used>> {
        let key = (permit.rule.to_owned(), permit.domain.clone());
        let known = self.workflows.get(workflow);
        if let Some(used) = known.and_then(|of_one| of_one.used.get(&key)) {
            return Some(Arc::clone(used));
        }
        let is_full = known.is_some_and(|of_one| of_one.used.len() >= MAX_USED);
        if is_full && !self.forget(workflow, OfOne::forget_used) || !self.has_room() {
            return None;
        }
        let used = Arc::default();
        let of_one = self.workflows.entry(Arc::clone(workflow)).or_default();
        of_one.used.insert(key, Arc::clone(&used));
        self.entries += 1;
        Some(used)
    }

    /// One more refusal of what a workflow does not declare, at that time.
    pub fn refused(&mut self, workflow: &Arc<Workflow>, target: &Target, now: u64) {
        let known = self.workflows.get_mut(workflow);
        let is_full = known.as_ref().is_some_and(|of_one| of_one.refused.len() >= MAX_REFUSED);
        if let Some(refusals) = known.and_then(|of_one| of_one.refused.get_mut(target)) {
            refusals.count += 1;
            refusals.last = refusals.last.max(now);
            return;
        }
        // What is refused often stays, whatever else is asked for once.
        if is_full && !self.forget(workflow, OfOne::forget_refused) || !self.has_room() {
            return;
        }
        let of_one = self.workflows.entry(Arc::clone(workflow)).or_default();
        let refusals = Refusals { count: 1, last: now };
        of_one.refused.insert(target.clone(), refusals);
        self.entries += 1;
    }

    /// Makes room for one more: whoever holds most gives something up.
    fn has_room(&mut self) -> bool {
        if self.entries < self.most {
            return true;
        }
        let largest = self.workflows.iter().max_by_key(|(_, of_one)| of_one.entries());
        let Some(largest) = largest.map(|(workflow, _)| Arc::clone(workflow)) else {
            return false;
        };
        self.forget(&largest, |of_one| of_one.forget_refused() || of_one.forget_used())
    }

    fn forget(&mut self, workflow: &Arc<Workflow>, forget: impl Fn(&mut OfOne) -> bool) -> bool {
        let Some(of_one) = self.workflows.get_mut(workflow) else {
            return false;
        };
        let has_forgotten = forget(of_one);
        if of_one.entries() == 0 {
            self.workflows.remove(workflow);
        }
        self.entries -= usize::from(has_forgotten);
        has_forgotten
    }

    /// All of it, as counted since that time. In seconds since 1970, as all times here.
    pub fn counted(&self, since: u64) -> Counted {
        let mut workflows: Vec<_> = self
            .workflows
            .iter()
            .map(|(workflow, of_one)| of_one.counted(workflow))
            .collect();
        workflows.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Counted { since, workflows }
    }
}

impl OfOne {
    fn entries(&self) -> usize {
        self.used.len() + self.refused.len()
    }

    /// What is open goes on to be counted, so it stays.
    fn forget_used(&mut self) -> bool {
        let idle = self
            .used
            .iter()
            .filter(|(_, used)| used.open.load(Ordering::Relaxed) == 0);
        let oldest = idle.min_by_key(|(_, used)| used.last.load(Ordering::Relaxed));
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.used.remove(&key).is_some())
    }

    fn forget_refused(&mut self) -> bool {
        let least = self.refused.iter().min_by_key(|(_, refusals)| **refusals);
        let least = least.map(|(target, _)| target.clone());
        let forgotten = least.and_then(|target| self.refused.remove(&target));
        self.unlisted += forgotten.map_or(0, |refusals| refusals.count);
        forgotten.is_some()
    }

    fn counted(&self, workflow: &Workflow) -> CountedWorkflow {
        let used = self.used.iter().map(|((rule, domain), used)| CountedDomain {
            rule: rule.clone(),
            domain: domain.to_string(),
            connections: used.connections.load(Ordering::Relaxed),
            open: used.open.load(Ordering::Relaxed),
            failed: used.failed.load(Ordering::Relaxed),
            sent: used.sent.load(Ordering::Relaxed),
            received: used.received.load(Ordering::Relaxed),
            last: used.last.load(Ordering::Relaxed),
        });
        let refused = self.refused.iter().map(|(target, refusals)| CountedRefusal {
            host: target.host.to_string(),
            port: target.port,
            count: refusals.count,
            last: refusals.last,
        });
        CountedWorkflow {
            namespace: workflow.namespace.clone(),
            name: workflow.name.clone(),
            used: used.collect(),
            refused: refused.collect(),
            unlisted: self.unlisted,
        }
    }
}

impl Used {
    /// A connection carries something from now on.
    pub fn began(&self, now: u64) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// One that began has ended.
    pub fn ended(&self, now: u64) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// One was allowed, and led nowhere: no address, no answer, or a handshake for something else.
    pub fn failed(&self, now: u64) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// Bytes that pods have sent.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that pods have received.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a replica has counted, as it says it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counted {
    /// When it began.
    pub since: u64,
    /// Those that used something or were refused something.
    pub workflows: Vec<CountedWorkflow>,
}

/// The same of one workflow.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CountedWorkflow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Declared domains that it asked for.
    pub used: Vec<CountedDomain>,
    /// Hosts that it asked for and does not declare.
    pub refused: Vec<CountedRefusal>,
    /// Refusals of more hosts than are kept by name.
    pub unlisted: u64,
}

/// Of one declared domain.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CountedDomain {
    /// Name of the rule.
    pub rule: String,
    /// The domain, as it is declared.
    pub domain: String,
    /// Connections, and requests of plain HTTP, that carried something.
    pub connections: u64,
    /// How many of them are open.
    pub open: u64,
    /// Those that were allowed, and led nowhere.
    pub failed: u64,
    /// Bytes that pods have sent.
    pub sent: u64,
    /// Bytes that pods have received.
    pub received: u64,
    /// When one of them last began, ended or failed.
    pub last: u64,
}

/// Of one host that was refused.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct CountedRefusal {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(name: &str) -> Arc<Workflow> {
        Arc::new(Workflow {
            namespace: "ai".to_owned(),
            name: name.to_owned(),
        })
    }

    fn target(host: &str) -> Target {
        Target::of_connect(&format!("{host}:443")).unwrap()
    }

    fn used(account: &mut Account, workflow: &Arc<Workflow>, domain: &str) -> Option<Arc<Used>> {
        let domain = Domain::parse(domain).unwrap();
        account.used(
            workflow,
            Permit {
                rule: "r",
                domain: &domain,
            },
        )
    }

    #[test]
    fn what_is_used_is_counted_by_its_declared_domain() {
        let (mut account, one) = (Account::default(), workflow("one"));
        for (now, port) in [(5, 100), (9, 200)] {
            let used = used(&mut account, &one, "*.a.example").unwrap();
            used.began(now);
            used.sent(port);
            used.received(2 * port);
        }
        used(&mut account, &one, "*.a.example").unwrap().ended(11);
        used(&mut account, &one, "b.example").unwrap().failed(7);
        let counted = account.counted(3);
        assert_eq!((counted.since, counted.workflows.len()), (3, 1));
        let a = CountedDomain {
            rule: "r".to_owned(),
            domain: "*.a.example".to_owned(),
            connections: 2,
            open: 1,
            sent: 300,
            received: 600,
            last: 11,
            ..CountedDomain::default()
        };
        let b = CountedDomain {
            rule: "r".to_owned(),
            domain: "b.example".to_owned(),
            failed: 1,
            last: 7,
            ..CountedDomain::default()
        };
        assert_eq!(counted.workflows[0].used, [b, a]);
        let text = serde_json::to_string(&counted).unwrap();
        assert_eq!(serde_json::from_str::<Counted>(&text).unwrap(), counted);
    }

    #[test]
    fn what_is_refused_often_stays_among_what_is_asked_for_once() {
        let (mut account, one) = (Account::default(), workflow("one"));
        for _ in 0..3 {
            account.refused(&one, &target("often.example"), 1);
        }
        for number in 0..10_000 {
            account.refused(&one, &target(&format!("a{number}.example")), 2 + number);
        }
        let counted = account.counted(0);
        let refused = &counted.workflows[0].refused;
        assert_eq!((refused.len(), account.entries), (MAX_REFUSED, MAX_REFUSED));
        let often = refused.iter().find(|refused| refused.host == "often.example");
        assert_eq!(often.unwrap().count, 3);
        assert!(refused.iter().any(|refused| refused.host == "a9999.example"));
        let all: u64 = refused.iter().map(|refused| refused.count).sum();
        assert_eq!(all + counted.workflows[0].unlisted, 10_003, "nothing is lost");
    }

    #[test]
    fn one_workflow_has_so_many_domains_and_what_is_open_stays() {
        let (mut account, one) = (Account::default(), workflow("one"));
        let open = used(&mut account, &one, "open.example").unwrap();
        open.began(1);
        for number in 0..3 * MAX_USED as u64 {
            let used = used(&mut account, &one, &format!("a{number}.example")).unwrap();
            used.failed(2 + number);
        }
        let counted = account.counted(0);
        assert_eq!((counted.workflows[0].used.len(), account.entries), (MAX_USED, MAX_USED));
        assert!(
            counted.workflows[0]
                .used
                .iter()
                .any(|used| used.domain == "open.example")
        );
    }

    /// As where somebody makes workflows only to fill it.
    #[test]
    fn whoever_holds_most_makes_room() {
        let mut account = Account {
            most: 100,
            ..Account::default()
        };
        let greedy: Vec<_> = (0..4).map(|number| workflow(&format!("greedy-{number}"))).collect();
        for number in 0..MAX_REFUSED {
            for greedy in &greedy {
                account.refused(greedy, &target(&format!("a{number}.example")), 1);
            }
        }
        assert_eq!(account.entries, 100);
        let modest = workflow("modest");
        for number in 0..5 {
            account.refused(&modest, &target(&format!("m{number}.example")), 2);
            used(&mut account, &modest, &format!("u{number}.example"))
                .unwrap()
                .began(2);
        }
        for number in 0..MAX_REFUSED {
            for greedy in &greedy {
                account.refused(greedy, &target(&format!("b{number}.example")), 3);
            }
        }
        let counted = account.counted(0);
        let modest = counted
            .workflows
            .iter()
            .find(|workflow| workflow.name == "modest")
            .unwrap();
        assert_eq!((modest.used.len(), modest.refused.len()), (5, 5));
        let all: usize = account.workflows.values().map(OfOne::entries).sum();
        assert_eq!((account.entries, all), (100, 100));
    }

    #[test]
    fn where_all_is_open_nothing_more_is_counted() {
        let mut account = Account {
            most: 3,
            ..Account::default()
        };
        let one = workflow("one");
        for domain in ["a.example", "b.example", "c.example"] {
            used(&mut account, &one, domain).unwrap().began(1);
        }
        assert!(used(&mut account, &one, "d.example").is_none());
        account.refused(&one, &target("e.example"), 1);
        assert_eq!(account.entries, 3);
    }
}
