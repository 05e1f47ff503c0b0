//! All of a cluster, or of one namespace: what stands in the namespaces that have a mode, who holds more than is declared, and
//! what Ringfence left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::kinds::{
    CLUSTER_POLICIES, CLUSTER_ROLE_BINDING, GRANT, NAMESPACE, OTHER_POLICIES, OWNED, ROLE, ROLE_BINDING, ROUTES,
    WORKFLOW,
};
use super::look::{Bounds, Scanner};
use super::turns::Turns;
use crate::api::OWNER_LABEL;
use crate::findings::{
    Accounts, Declared, Extent, Finding, Leading, Origin, Ownerless, Owners, Sink, of_foreign_role, of_no_owner,
};
use crate::plan::{Child, NamespaceFacts};
use crate::webhook::pages::{Ask, List, Listed, Page};

/// Longest that one page may take.
const PAGE_TIME: Duration = Duration::from_secs(15);
/// Most policies of the cluster that are told of, of each kind.
const MAX_POLICIES: usize = 500;
/// Most objects whose owner is looked for a second time.
const MAX_DOUBTED: usize = 1000;

/// What a scan holds while it goes on.
struct Pass<'a> {
    scanner: &'a Scanner,
    /// The one namespace; `None` for the whole cluster.
    only: Option<&'a str>,
    /// Of a scan in the background, which rests, too.
    turns: Option<&'a mut Turns>,
    sink: &'a mut dyn Sink,
    extent: Extent,
    /// Namespaces with a mode.
    fenced: BTreeSet<String>,
    /// Whatever owns what Ringfence makes.
    owners: Owners,
    /// Whether all of them were read: else nothing can be said to have none.
    knows_owners: bool,
    accounts: Accounts,
    /// Roles that say they are ours.
    roles: BTreeSet<Origin>,
    /// What names an owner or a Role that is not known: it may be newer than the list.
    doubted: Vec<Doubt>,
}

enum Doubt {
    Ownerless(Ownerless),
    /// Whose a binding says it is, and what its Role must say; with what it would give if nobody owns either.
    Binding(Origin, Origin, Vec<Finding>),
    /// Whose a policy of the cluster says it is; with what is told of it if nobody owns it.
    Policy(Origin, Finding),
}

impl Scanner {
    /// Scans the cluster, or one namespace: then bindings of other namespaces and of the cluster are left out. Tells of each
    /// namespace by itself; returns what could not be looked at of the rest.
    pub async fn scan(&self, only: Option<&str>, sink: &mut dyn Sink) -> Extent {
        self.scan_in_turns(only, None, sink).await
    }

    /// The same, slowly and each namespace in its turn where there are turns.
    pub(super) async fn scan_in_turns(
        &self,
        only: Option<&str>,
        turns: Option<&mut Turns>,
        sink: &mut dyn Sink,
    ) -> Extent {
        let mut pass = Pass {
            scanner: self,
            only,
            turns,
            sink,
            extent: Extent::default(),
            fenced: BTreeSet::new(),
            owners: Owners::default(),
            knows_owners: true,
            accounts: Accounts::default(),
            roles: BTreeSet::new(),
            doubted: Vec::new(),
        };
        pass.namespaces().await;
        pass.read_owners(true).await;
        for kind in OWNED {
            pass.owned(kind).await;
        }
        // What counts everywhere first: whoever writes in one namespace leaves it room.
        if only.is_none() {
            pass.bindings(CLUSTER_ROLE_BINDING, None).await;
        }
        pass.bindings(ROLE_BINDING, only).await;
        if only.is_none() {
            let by = Instant::now() + PAGE_TIME;
            for kind in self.served(CLUSTER_POLICIES, by).await {
                pass.policies(kind).await;
            }
        }
        pass.settle().await;
        pass.extent
    }
}

/// One page, and whether there is another; `None` where it could not be had, which is said. Rests as long as it took, if asked to.
pub(super) async fn page(lists: &dyn List, ask: &mut Ask, rests: bool, extent: &mut Extent) -> Option<(Page, bool)> {
    let started = Instant::now();
    let page = match timeout(PAGE_TIME, lists.list(ask)).await {
        Ok(Ok(page)) => page,
        Ok(Err(error)) => {
            extent.gap(error.to_string());
            return None;
        }
        Err(_) => {
            extent.gap(format!(
                "{ask} could not be read from the API server: no answer in time"
            ));
            return None;
        }
    };
    if let Some(unread) = &page.unread {
        extent.gap(unread.clone());
    }
    if rests {
        sleep(started.elapsed()).await;
    }
    ask.next.clone_from(&page.next);
    ask.first = page.first;
    let goes_on = page.next.is_some();
    Some((page, goes_on))
}

impl Pass<'_> {
    /// One page, and whether there is another; `None` where it could not be had, which is said.
    async fn page(&mut self, ask: &mut Ask) -> Option<(Page, bool)> {
        page(self.scanner.lists(), ask, self.turns.is_some(), &mut self.extent).await
    }

    /// The same of owners. Where not all of them can be had, nothing can be said to have none.
    async fn page_of_owners(&mut self, ask: &mut Ask) -> Option<(Page, bool)> {
        let page = self.page(ask).await;
        self.knows_owners &= page.as_ref().is_some_and(|(page, _)| page.unread.is_none());
        page
    }

    /// Reads every namespace before the first is looked at: a look takes long, and a list that is left open expires.
    async fn namespaces(&mut self) {
        let scanner = self.scanner;
        let kinds = OTHER_POLICIES.into_iter().chain(ROUTES);
        let served = scanner.served(kinds, Instant::now() + PAGE_TIME).await;
        let mut namespaces = self.read_namespaces().await;
        self.fenced.extend(namespaces.iter().map(|(name, ..)| name.clone()));
        if let Some(turns) = &mut self.turns {
            turns.sort(&mut namespaces, |(name, ..)| name);
        }
        let mut late_until = None;
        for (name, class, namespace) in namespaces {
            let bounds = match &self.turns {
                None => Bounds::all(),
                Some(turns) => {
                    let late = turns
                        .is_late(&name)
                        .then(|| *late_until.get_or_insert_with(|| turns.late_until()));
                    if late.is_some_and(|until| Instant::now() >= until) {
                        self.look_is_cut(&name, Extent::default());
                        continue;
                    }
                    Bounds {
                        rests: true,
                        until: Some(turns.until()),
                        ..Bounds::all()
                    }
                }
            };
            let looked = scanner.look_beside(&served, &namespace, &class, bounds, self.sink);
            let extent = looked.await;
            if let Some(turns) = &mut self.turns {
                turns.looked(&name, extent.cut);
            }
            if extent.cut {
                self.look_is_cut(&name, extent);
            } else {
                self.sink.looked_at_namespace(&name, &extent);
            }
        }
    }

    /// Says that not all of a namespace was looked at: what was not may be anything.
    fn look_is_cut(&mut self, name: &str, mut extent: Extent) {
        extent.cut = true;
        extent.gap(format!(
            "namespace {name} takes long to judge, and {} of its objects were looked at before its turn was over: see all of it by \
             ringfence scan --namespace {name}, and which policy takes long by ringfence_policy_evaluation_duration_seconds",
            extent.looked
        ));
        self.sink.looked_at_namespace(name, &extent);
    }

    /// Names of the namespaces that have a mode, each with its class and the object.
    async fn read_namespaces(&mut self) -> Vec<(String, String, Value)> {
        let mut with_a_mode = Vec::new();
        let mut ask = Ask::all(NAMESPACE, None);
        if let Some(only) = self.only {
            ask.fields = format!("metadata.name={only}");
        }
        while let Some((page, goes_on)) = self.page_of_owners(&mut ask).await {
            for namespace in page.items.into_iter().map(Value::Object) {
                let Some(facts) = NamespaceFacts::from_object(&namespace, |name| self.scanner.is_exempt(name)) else {
                    continue;
                };
                self.owners.add_namespace(&facts.name, &facts.uid);
                self.sink.namespace(&facts);
                let class = facts.mode().and_then(|mode| facts.class_for(mode)).map(str::to_owned);
                if let Some(class) = class.filter(|_| !facts.terminating) {
                    with_a_mode.push((facts.name, class, namespace));
                }
            }
            if !goes_on {
                break;
            }
        }
        with_a_mode
    }

    /// Reads who owns what Ringfence makes; the accounts too, the first time.
    async fn read_owners(&mut self, accounts: bool) {
        for kind in [WORKFLOW, GRANT] {
            let mut ask = Ask::all(kind, self.only);
            while let Some((page, goes_on)) = self.page_of_owners(&mut ask).await {
                for object in page.items {
                    if kind == GRANT {
                        self.owners.add_grant(&Value::Object(object));
                        continue;
                    }
                    let Some(workflow) = Declared::of(object) else { continue };
                    if accounts && self.fenced.contains(&workflow.namespace) {
                        self.accounts.add(&workflow);
                    }
                    self.owners.add_workflow(&workflow);
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
            for binding in page.items.into_iter().map(Value::Object) {
                self.sink.binding(&binding);
                if let Some(ownerless) = of_no_owner(kind.kind, &binding, &self.owners) {
                    self.doubt(Doubt::Ownerless(ownerless));
                }
                let findings = self.accounts.bound_by(kind.kind, &binding);
                match Origin::of(kind.kind, &binding) {
                    _ if findings.is_empty() => {}
                    Some(origin) if self.owners.made(&origin) || !self.owners.has(&origin.owner) => {
                        let role = origin.of_its_role(&binding);
                        if !self.owners.made(&origin) || !self.roles.contains(&role) {
                            self.doubt(Doubt::Binding(origin, role, findings));
                        }
                    }
                    _ => findings.into_iter().for_each(|finding| self.sink.found(finding)),
                }
            }
            if !goes_on {
                break;
            }
        }
    }

    /// Objects that carry our label and whose owner is gone. Of a Role that stays its rules are not looked at: the reconciler puts back
    /// whatever differs, whether the workflow is accepted or held, and says in `Programmed` what it may not.
    async fn owned(&mut self, kind: Listed) {
        let mut ask = Ask {
            labels: OWNER_LABEL.to_owned(),
            metadata_only: true,
            ..Ask::all(kind, self.only)
        };
        while let Some((page, goes_on)) = self.page(&mut ask).await {
            for object in page.items.into_iter().map(Value::Object) {
                if let Some(ownerless) = of_no_owner(kind.kind, &object, &self.owners) {
                    self.doubt(Doubt::Ownerless(ownerless));
                }
                if kind == ROLE {
                    self.roles.extend(Origin::of(kind.kind, &object));
                }
            }
            if !goes_on {
                break;
            }
        }
    }

    /// Whether an object stands that says just this of itself; `None` where that cannot be read, which is said.
    async fn stands(&mut self, kind: Listed, origin: &Origin) -> Option<bool> {
        let mut ask = Ask {
            fields: format!("metadata.name={}", origin.name),
            metadata_only: true,
            ..Ask::all(kind, Some(&origin.namespace))
        };
        let (page, _) = self.page(&mut ask).await?;
        let mut found = page.items.into_iter().map(Value::Object);
        Some(found.any(|object| Origin::of(kind.kind, &object).as_ref() == Some(origin)))
    }

    /// Whether a binding that Ringfence made names a Role that it did not make. The binding may have gone with its Role meanwhile.
    async fn is_adrift(&mut self, binding: &Origin, role: &Origin) -> bool {
        !self.roles.contains(role)
            && self.stands(ROLE, role).await == Some(false)
            && self.stands(ROLE_BINDING, binding).await == Some(true)
    }

    /// Policies of the whole cluster, which may overrule the NetworkPolicies of every namespace.
    async fn policies(&mut self, kind: Listed) {
        let mut ask = Ask {
            metadata_only: true,
            ..Ask::all(kind, None)
        };
        let mut told = 0;
        let made = Child::ClusterNetworkPolicy;
        let may_be_ours = (kind.group, kind.kind) == (made.group(), made.kind());
        while let Some((page, goes_on)) = self.page(&mut ask).await {
            for policy in page.items.into_iter().map(Value::Object) {
                if told >= MAX_POLICIES {
                    self.extent.gap(format!("only {MAX_POLICIES} of {ask} were looked at"));
                    return;
                }
                told += 1;
                let finding = Leading::of("", kind.kind, &policy).finding();
                match Origin::of(made.kind(), &policy).filter(|_| may_be_ours) {
                    Some(origin) if self.owners.made(&origin) => {}
                    Some(origin) => self.doubt(Doubt::Policy(origin, finding)),
                    None => self.sink.found(finding),
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

    /// Tells of what was in doubt, unless its owner turns out to be there. While not every owner could be read, nothing is said to
    /// have none: somebody would delete it.
    async fn settle(&mut self) {
        if self.doubted.is_empty() {
            return;
        }
        // Others may have come since: what they are is for the next scan.
        self.read_namespaces().await;
        self.read_owners(false).await;
        for doubt in std::mem::take(&mut self.doubted) {
            match doubt {
                Doubt::Ownerless(ownerless) => {
                    let finding = ownerless.finding(&self.owners).filter(|_| self.knows_owners);
                    finding.into_iter().for_each(|finding| self.sink.found(finding));
                }
                Doubt::Binding(binding, role, findings) if self.owners.made(&binding) => {
                    if self.is_adrift(&binding, &role).await {
                        let findings = findings.into_iter().map(|finding| of_foreign_role(finding, &role));
                        findings.for_each(|finding| self.sink.found(finding));
                    }
                }
                Doubt::Binding(_, _, findings) if self.knows_owners => {
                    findings.into_iter().for_each(|finding| self.sink.found(finding));
                }
                Doubt::Policy(origin, finding) if self.knows_owners && !self.owners.made(&origin) => {
                    self.sink.found(finding);
                }
                Doubt::Binding(..) | Doubt::Policy(..) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
