//! All of a cluster, or of one namespace: what stands in the namespaces that have a mode, who holds more than is declared, and
//! what Ringfence left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::kinds::{CLUSTER_ROLE_BINDING, GRANT, NAMESPACE, OWNED, ROLE_BINDING, WORKFLOW};
use super::look::{Bounds, Scanner};
use crate::api::{MANAGED_BY_LABEL, MANAGER};
use crate::findings::{Accounts, Declared, Extent, Finding, Ownerless, Sink, of_no_owner};
use crate::plan::{NamespaceFacts, owner_uid};
use crate::webhook::pages::{Ask, Listed, Page};

/// Longest that one page may take.
const PAGE_TIME: Duration = Duration::from_secs(15);
/// Most objects whose owner is looked for a second time.
const MAX_DOUBTED: usize = 1000;

/// What a scan holds while it goes on.
struct Pass<'a> {
    scanner: &'a Scanner,
    /// The one namespace; `None` for the whole cluster.
    only: Option<&'a str>,
    rests: bool,
    sink: &'a mut dyn Sink,
    extent: Extent,
    /// Namespaces with a mode.
    fenced: BTreeSet<String>,
    /// UIDs of whatever owns what Ringfence makes.
    owners: BTreeSet<String>,
    accounts: Accounts,
    /// What names an owner that is not known: it may be newer than the list of owners.
    doubted: Vec<Doubt>,
}

enum Doubt {
    Ownerless(Ownerless),
    /// A binding, with what it would give if nobody owns it.
    Binding(String, Vec<Finding>),
}

impl Scanner {
    /// Scans the cluster, or one namespace: then bindings of other namespaces and of the cluster are left out. Tells of each
    /// namespace by itself; returns what could not be looked at of the rest.
    pub async fn scan(&self, only: Option<&str>, rests: bool, sink: &mut dyn Sink) -> Extent {
        let mut pass = Pass {
            scanner: self,
            only,
            rests,
            sink,
            extent: Extent::default(),
            fenced: BTreeSet::new(),
            owners: BTreeSet::new(),
            accounts: Accounts::default(),
            doubted: Vec::new(),
        };
        pass.namespaces().await;
        pass.read_owners(true).await;
        let mut bindings = vec![(ROLE_BINDING, only)];
        if only.is_none() {
            bindings.push((CLUSTER_ROLE_BINDING, None));
        }
        for (kind, namespace) in bindings {
            pass.bindings(kind, namespace).await;
        }
        for kind in OWNED {
            pass.owned(kind).await;
        }
        pass.settle().await;
        pass.extent
    }
}

impl Pass<'_> {
    /// One page, and whether there is another; `None` where it could not be had, which is said.
    async fn page(&mut self, ask: &mut Ask) -> Option<(Page, bool)> {
        let started = Instant::now();
        let page = match timeout(PAGE_TIME, self.scanner.lists().list(ask)).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => {
                self.extent.gap(error.to_string());
                return None;
            }
            Err(_) => {
                self.extent.gap(format!(
                    "{ask} could not be read from the API server: no answer in time"
                ));
                return None;
            }
        };
        if self.rests {
            sleep(started.elapsed()).await;
        }
        ask.next.clone_from(&page.next);
        let goes_on = page.next.is_some();
        Some((page, goes_on))
    }

    async fn namespaces(&mut self) {
        let mut ask = Ask::all(NAMESPACE, None);
        if let Some(only) = self.only {
            ask.fields = format!("metadata.name={only}");
        }
        while let Some((page, goes_on)) = self.page(&mut ask).await {
            for namespace in page.items.into_iter().map(Value::Object) {
                self.namespace(&namespace).await;
            }
            if !goes_on {
                break;
            }
        }
    }

    async fn namespace(&mut self, namespace: &Value) {
        let Some(facts) = NamespaceFacts::from_object(namespace, |name| self.scanner.is_exempt(name)) else {
            return;
        };
        self.owners.insert(facts.uid.clone());
        let class = facts.mode().and_then(|mode| facts.class_for(mode));
        let Some(class) = class.filter(|_| !facts.terminating) else {
            return;
        };
        self.fenced.insert(facts.name.clone());
        let bounds = Bounds {
            rests: self.rests,
            ..Bounds::all()
        };
        let extent = self.scanner.look(namespace, class, bounds, self.sink).await;
        self.sink.looked_at_namespace(&facts.name, &extent);
    }

    /// Reads who owns what Ringfence makes; the accounts too, the first time.
    async fn read_owners(&mut self, accounts: bool) {
        for kind in [WORKFLOW, GRANT] {
            let mut ask = Ask::all(kind, self.only);
            while let Some((page, goes_on)) = self.page(&mut ask).await {
                for owner in page.items.into_iter().filter_map(Declared::of) {
                    if accounts && kind == WORKFLOW && self.fenced.contains(&owner.namespace) {
                        self.accounts.add(&owner);
                    }
                    self.owners.insert(owner.uid);
                }
                if !goes_on {
                    break;
                }
            }
        }
    }

    async fn bindings(&mut self, kind: Listed, namespace: Option<&str>) {
        let mut ask = Ask::all(kind, namespace);
        while let Some((page, goes_on)) = self.page(&mut ask).await {
            for object in page.items {
                if let Some(ownerless) = of_no_owner(kind.kind, &object, &self.owners) {
                    self.doubt(Doubt::Ownerless(ownerless));
                }
                let binding = Value::Object(object);
                let findings = self.accounts.bound_by(kind.kind, &binding);
                match owner_uid(&binding).filter(|uid| !uid.is_empty()) {
                    _ if findings.is_empty() => {}
                    Some(owner) if self.owners.contains(owner) => {}
                    Some(owner) => self.doubt(Doubt::Binding(owner.to_owned(), findings)),
                    None => findings.into_iter().for_each(|finding| self.sink.found(finding)),
                }
            }
            if !goes_on {
                break;
            }
        }
    }

    /// Objects that carry our label and whose owner is gone.
    async fn owned(&mut self, kind: Listed) {
        let mut ask = Ask {
            labels: format!("{MANAGED_BY_LABEL}={MANAGER}"),
            metadata_only: true,
            ..Ask::all(kind, self.only)
        };
        while let Some((page, goes_on)) = self.page(&mut ask).await {
            for object in page.items {
                if let Some(ownerless) = of_no_owner(kind.kind, &object, &self.owners) {
                    self.doubt(Doubt::Ownerless(ownerless));
                }
            }
            if !goes_on {
                break;
            }
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        if self.doubted.len() < MAX_DOUBTED {
            self.doubted.push(doubt);
        } else {
            let gap = format!("more than {MAX_DOUBTED} objects name an owner that is not known");
            if !self.extent.gaps.contains(&gap) {
                self.extent.gap(gap);
            }
        }
    }

    /// Tells of what was in doubt, unless its owner turns out to be there. Where the owners cannot be read, nothing is told.
    async fn settle(&mut self) {
        if self.doubted.is_empty() {
            return;
        }
        let gaps = self.extent.gaps.len();
        self.read_owners(false).await;
        if self.extent.gaps.len() > gaps {
            return;
        }
        for doubt in std::mem::take(&mut self.doubted) {
            match doubt {
                Doubt::Ownerless(ownerless) => {
                    if let Some(finding) = ownerless.finding(&self.owners) {
                        self.sink.found(finding);
                    }
                }
                Doubt::Binding(owner, _) if self.owners.contains(&owner) => {}
                Doubt::Binding(_, findings) => findings.into_iter().for_each(|finding| self.sink.found(finding)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
