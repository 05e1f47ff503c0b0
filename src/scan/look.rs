//! One namespace: its NetworkPolicies, Services, workloads and pods, judged as if they were made now under `enforce`; and what leads
//! traffic to it.

mod beside;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::kinds::{
    GUARD, NAMESPACE, NETWORK_POLICY, OTHER_POLICIES, POD, ROUTES, RUNNING, SERVICE, WORKFLOW, is_built_in,
};
use super::remember::Remembering;
use super::units::{Standing, Units};
use crate::fence::Subject;
use crate::findings::{Declared, Extent, Foreign, Owners, Place, Severity, Sink, supposed};
use crate::plan::{REPORTS, REPORTS_GUARD, name_of, reports, without_reports};
use crate::review::{Decision, Fault, Review, Violation};
use crate::webhook::admit::Admission;
use crate::webhook::lookup::Lookup;
use crate::webhook::pages::{Ask, List, Listed, Page};

/// Longest that one page may take.
const PAGE_TIME: Duration = Duration::from_secs(15);
/// Longest that judging one object may take.
const OBJECT_TIME: Duration = Duration::from_secs(5);
/// Longest that is worked without a rest, where there are rests: but for one object.
const WORK: Duration = Duration::from_millis(50);
/// Most NetworkPolicies of a namespace that are read.
const MAX_POLICIES: usize = 20_000;
/// Most that the selectors of a namespace's NetworkPolicies may weigh together.
const MAX_SELECTORS: usize = 8 << 20;
/// Most NetworkPolicies of others that are told of in one namespace; and most Services and other policies together.
const MAX_FOREIGN: usize = 500;

/// How far a look goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most objects.
    pub objects: usize,
    /// When it ends, whatever is left.
    pub until: Option<Instant>,
    /// Whether to rest as long as was worked, so that others get the processor and the API server.
    pub rests: bool,
    /// Whether to judge the namespace itself too.
    pub itself: bool,
    /// Whether to tell of what leads traffic there, which nothing refuses.
    pub routes: bool,
    /// Whether to tell of what policies only audit, as warnings.
    pub audits: bool,
}

impl Bounds {
    /// All of a namespace, itself included, as fast as it goes.
    pub const fn all() -> Self {
        Self {
            objects: usize::MAX,
            until: None,
            rests: false,
            itself: true,
            routes: true,
            audits: true,
        }
    }
}

/// How long an answer counts about which kinds are served: setting a mode must not wait for a dozen of them each time.
const SERVED_FOR: Duration = Duration::from_secs(10);

/// Annotations by which network plugins report, and when they were read.
type Reported = (Instant, Arc<[String]>);

/// Looks at what stands. Judging does not yield: whoever calls it does so on a thread that may block.
#[derive(Clone)]
pub struct Scanner {
    admission: Arc<Admission>,
    lookup: Arc<dyn Lookup>,
    lists: Arc<dyn List>,
    /// Which kinds were served, and when that was asked.
    served: Arc<Mutex<HashMap<Listed, (Instant, bool)>>>,
    /// By which annotations network plugins report, and when that was asked.
    reports: Arc<Mutex<Option<Reported>>>,
}

impl Scanner {
    /// Judges as `admission` does, by those facts, what those lists hold.
    pub fn new(admission: Arc<Admission>, lookup: Arc<dyn Lookup>, lists: Arc<dyn List>) -> Self {
        Self {
            admission,
            lookup,
            lists,
            served: Arc::default(),
            reports: Arc::default(),
        }
    }

    pub(super) fn lookup(&self) -> &dyn Lookup {
        self.lookup.as_ref()
    }

    pub(super) fn lists(&self) -> &dyn List {
        self.lists.as_ref()
    }

    pub(super) fn is_exempt(&self, namespace: &str) -> bool {
        self.admission.is_exempt(namespace)
    }

    pub(super) fn release_namespace(&self) -> &str {
        self.admission.release_namespace()
    }

    /// Looks at a namespace as if it enforced that class. `namespace` is the object, as it is or as it would be.
    pub async fn look(&self, namespace: &Value, class: &str, bounds: Bounds, sink: &mut dyn Sink) -> Extent {
        let by = Instant::now() + PAGE_TIME;
        let by = bounds.until.map_or(by, |until| until.min(by));
        let routes = ROUTES.into_iter().filter(|_| bounds.routes);
        let served = self.served(OTHER_POLICIES.into_iter().chain(routes), by).await;
        self.look_beside(&served, namespace, class, bounds, sink).await
    }

    /// Which of these kinds are served; one of which that cannot be told is asked for, and so said.
    pub(super) async fn served(&self, kinds: impl IntoIterator<Item = Listed>, by: Instant) -> Vec<Listed> {
        let asked = kinds.into_iter().map(async |kind| {
            let is_served = is_built_in(kind) || self.serves(kind, by).await;
            is_served.then_some(kind)
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    async fn serves(&self, kind: Listed, by: Instant) -> bool {
        let remembered = || self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let known = remembered().get(&kind).copied();
        if let Some((_, is_served)) = known.filter(|(at, _)| at.elapsed() < SERVED_FOR) {
            return is_served;
        }
        let Ok(Ok(is_served)) = timeout_at(by, self.lists.serves(kind)).await else {
            return true;
        };
        remembered().insert(kind, (Instant::now(), is_served));
        is_served
    }

    /// By which annotations network plugins report, as the guard has them that holds everybody to them. Where that is not there, or may not
    /// be read, those of the chart: none of them asks for anything.
    async fn reports(&self, by: Instant) -> Arc<[String]> {
        let remembered = || self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let known = remembered().clone();
        if let Some((_, reports)) = known.filter(|(at, _)| at.elapsed() < SERVED_FOR) {
            return reports;
        }
        let ask = Ask {
            fields: format!("metadata.name={REPORTS_GUARD}"),
            ..Ask::all(GUARD, None)
        };
        let guard = match timeout_at(by, self.lists.list(&ask)).await {
            Ok(Ok(page)) => page.items.into_iter().next().map(Value::Object),
            Ok(Err(_)) | Err(_) => None,
        };
        let found = guard.as_ref().and_then(reports);
        let found: Arc<[String]> = found.unwrap_or_else(|| REPORTS.map(str::to_owned).into()).into();
        *remembered() = Some((Instant::now(), Arc::clone(&found)));
        found
    }

    /// The same, where it is known which kinds are served beside the built-in ones.
    pub(super) async fn look_beside(
        &self,
        served: &[Listed],
        namespace: &Value,
        class: &str,
        bounds: Bounds,
        sink: &mut dyn Sink,
    ) -> Extent {
        let name = name_of(namespace).to_owned();
        let supposed = supposed(namespace, class);
        let facts = Remembering::new(Arc::clone(&self.lookup), &name, supposed.clone());
        let by = Instant::now() + PAGE_TIME;
        let by = bounds.until.map_or(by, |until| until.min(by));
        let mut look = Look {
            reports: self.reports(by).await,
            admission: self.admission.over(Arc::new(facts)),
            lists: self.lists.as_ref(),
            namespace: name,
            bounds,
            since: Instant::now(),
            sink,
            extent: Extent::default(),
            accounts: BTreeMap::new(),
            owners: Owners::default(),
            foreign: Vec::new(),
            units: Units::default(),
        };
        if bounds.itself {
            look.itself(supposed).await;
        }
        let uid = namespace.pointer("/metadata/uid").and_then(Value::as_str);
        look.read_policies(uid.unwrap_or_default()).await;
        for kind in served
            .iter()
            .filter(|kind| OTHER_POLICIES.contains(kind))
            .chain([&SERVICE])
        {
            look.read_refused(*kind).await;
        }
        for kind in RUNNING {
            if look.is_over() {
                break;
            }
            look.each(kind).await;
        }
        for kind in served.iter().filter(|kind| ROUTES.contains(kind)) {
            if look.is_over() {
                break;
            }
            look.tell_of(*kind).await;
        }
        if bounds.routes && !look.is_over() {
            look.tell_of_endpoints().await;
        }
        look.finish()
    }
}

struct Look<'a> {
    admission: Admission,
    /// By which annotations network plugins report.
    reports: Arc<[String]>,
    lists: &'a dyn List,
    namespace: String,
    bounds: Bounds,
    /// When the last rest ended.
    since: Instant,
    sink: &'a mut dyn Sink,
    extent: Extent,
    /// Workflows by their accounts.
    accounts: BTreeMap<String, String>,
    /// Whose what Ringfence made of the namespace is.
    owners: Owners,
    /// Policies of others, each with the workflows whose pods it selects.
    foreign: Vec<(Foreign, BTreeSet<String>)>,
    units: Units,
}

impl Look<'_> {
    fn is_over(&self) -> bool {
        self.extent.cut
    }

    /// Whether there is room for one more object.
    fn goes_on(&mut self) -> bool {
        let late = self.bounds.until.is_some_and(|until| Instant::now() >= until);
        self.extent.cut |= late || self.extent.looked >= self.bounds.objects;
        !self.extent.cut
    }

    /// Rests, if asked to, as long as was worked since the last rest. One object may take as long as a page of others.
    async fn rest(&mut self) {
        let worked = self.since.elapsed();
        if self.bounds.rests && worked >= WORK {
            let rested = Instant::now() + worked;
            sleep_until(self.bounds.until.map_or(rested, |until| until.min(rested))).await;
            self.since = Instant::now();
        }
    }

    fn by(&self, most: Duration) -> Instant {
        let at = Instant::now() + most;
        self.bounds.until.map_or(at, |until| until.min(at))
    }

    /// One page; `None` where it could not be had, which is said.
    async fn page(&mut self, ask: &Ask) -> Option<Page> {
        self.rest().await;
        let by = self.by(PAGE_TIME);
        match timeout_at(by, self.lists.list(ask)).await {
            Ok(Ok(page)) => {
                if let Some(unread) = &page.unread {
                    self.extent.gap(unread.clone());
                }
                return Some(page);
            }
            Ok(Err(error)) => self.extent.gap(error.to_string()),
            Err(_) if self.bounds.until.is_some_and(|until| by >= until) => self.extent.cut = true,
            Err(_) => self.extent.gap(format!(
                "{ask} could not be read from the API server: no answer in time"
            )),
        }
        None
    }

    async fn itself(&mut self, namespace: Value) {
        let Value::Object(object) = namespace else { return };
        let review = Review::standing(&NAMESPACE.gvk(), &NAMESPACE.gvr(), Some(&self.namespace), object);
        let place = Place {
            namespace: self.namespace.clone(),
            kind: NAMESPACE.kind.to_owned(),
            name: self.namespace.clone(),
            workflow: None,
        };
        let by = self.by(OBJECT_TIME);
        match self.admission.standing(&review, by).await {
            Ok(decision) => {
                for (severity, violation) in violations(decision, self.bounds.audits) {
                    self.sink.found(place.finding(violation, severity));
                }
            }
            Err(fault) => self.fault(&place, &fault),
        }
    }

    /// Reads the policies, and then the workflows: a policy whose workflow is newer than the list of them would seem foreign.
    async fn read_policies(&mut self, uid: &str) {
        let (mut policies, mut left, mut unread) = (Vec::new(), MAX_SELECTORS, 0);
        let mut ask = Ask::all(NETWORK_POLICY, Some(&self.namespace));
        while let Some(page) = self.page(&ask).await {
            let opening = page.items.into_iter();
            for policy in opening.filter_map(|policy| Foreign::of(&self.namespace, policy)) {
                match left.checked_sub(policy.weight()) {
                    Some(rest) => {
                        left = rest;
                        policies.push(policy);
                    }
                    None => unread += 1,
                }
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() || policies.len() > MAX_POLICIES {
                break;
            }
        }
        if unread > 0 {
            self.extent.gap(format!(
                "{unread} NetworkPolicies of namespace {} were not looked at: their selectors are larger than any that work; delete those that nobody needs",
                self.namespace
            ));
        }
        self.owners.add_namespace(&self.namespace, uid);
        let mut ask = Ask::all(WORKFLOW, Some(&self.namespace));
        while let Some(page) = self.page(&ask).await {
            for workflow in page.items.into_iter().filter_map(Declared::of) {
                self.sink.declared(&self.namespace, &workflow);
                self.owners.add_workflow(&workflow);
                self.accounts.insert(workflow.account, workflow.name);
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() {
                break;
            }
        }
        policies.retain(|policy| !policy.is_made_by(&self.owners));
        Foreign::widest_first(&mut policies);
        if policies.len() > MAX_FOREIGN {
            self.extent.gap(format!(
                "only {MAX_FOREIGN} of the NetworkPolicies of namespace {} that are not Ringfence's were looked at",
                self.namespace
            ));
            policies.truncate(MAX_FOREIGN);
        }
        self.foreign = policies.into_iter().map(|policy| (policy, BTreeSet::new())).collect();
    }

    /// Judges every object of a kind.
    async fn each(&mut self, kind: Listed) {
        let mut ask = Ask::all(kind, Some(&self.namespace));
        loop {
            let Some(page) = self.page(&ask).await else { return };
            for object in page.items {
                if has_ended(kind, &object) {
                    continue;
                }
                if !self.goes_on() {
                    return;
                }
                self.one(kind, object).await;
                self.rest().await;
            }
            (ask.next, ask.first) = (page.next, page.first);
            if ask.next.is_none() {
                return;
            }
        }
    }

    async fn one(&mut self, kind: Listed, mut object: Map<String, Value>) {
        self.extent.looked += 1;
        if kind == POD {
            without_reports(&mut object, &self.reports);
        }
        let review = Review::standing(&kind.gvk(), &kind.gvr(), Some(&self.namespace), object);
        let Ok(Some(subject)) = Subject::standing(&review) else {
            return;
        };
        let template = subject.template().and_then(Result::ok);
        let pod = template.map(|template| template.pod);
        let account = pod.and_then(|pod| pod.pointer("/spec/serviceAccountName")?.as_str());
        let label = subject.workflow().filter(|label| !label.is_empty()).map(str::to_owned);
        if let Some(label) = &label {
            self.select(label, pod.and_then(|pod| pod.pointer("/metadata/labels")));
        }
        let workflow = label.or_else(|| self.accounts.get(account?).cloned());

        let is_pod = kind.kind == "Pod";
        let (unit, standing) = self.units.of(kind, review.object().unwrap_or(&Value::Null));
        self.extent.units += usize::from(standing != Standing::Made);
        // What a workload that stands here makes from its template is not judged beside it; pods are, each.
        if is_pod || standing != Standing::Made {
            let place = self.place(unit, workflow);
            if let Some(template) = &template {
                self.sink.looked_at(&place, template.path, template.pod);
            }
            // In the background nobody waits, and whose time is cut short would be told as what no policy can judge.
            let by = if self.bounds.rests {
                Instant::now() + OBJECT_TIME
            } else {
                self.by(OBJECT_TIME)
            };
            match self.admission.standing(&review, by).await {
                Ok(decision) => self.tell(unit, &place, is_pod.then(|| review.name()), decision),
                Err(_) if self.bounds.until.is_some_and(|until| Instant::now() >= until) => self.extent.cut = true,
                Err(fault) => self.fault(&place, &fault),
            }
        }
        if standing == Standing::Alone {
            self.units.truncate(unit);
        }
    }

    fn place(&self, unit: usize, workflow: Option<String>) -> Place {
        let unit = self.units.get(unit);
        Place {
            namespace: self.namespace.clone(),
            kind: unit.map(|unit| unit.kind.clone()).unwrap_or_default(),
            name: unit.map(|unit| unit.name.clone()).unwrap_or_default(),
            workflow,
        }
    }

    /// Tells what was found about an object; of a pod, only what was not told of its unit before.
    fn tell(&mut self, unit: usize, place: &Place, pod: Option<&str>, decision: Decision) {
        let is_refused = !decision.denials.is_empty();
        if let Some(pod) = pod.filter(|_| is_refused) {
            self.sink.refused_pod(&self.namespace, place.workflow.as_deref(), pod);
        }
        let Some(unit) = self.units.get_mut(unit) else { return };
        if is_refused && !unit.refused {
            unit.refused = true;
            self.extent.refused += 1;
        }
        let mut rules = Vec::new();
        for (severity, mut violation) in violations(decision, self.bounds.audits) {
            let rule = (severity, violation.policy.clone());
            if unit.rules.contains(&rule) {
                continue;
            }
            rules.push(rule);
            if let Some(pod) = pod.filter(|_| unit.kind != "Pod") {
                violation.message.push_str(&format!(" (in its pod {pod})"));
            }
            self.sink.found(place.finding(violation, severity));
        }
        unit.rules.extend(rules);
    }

    fn fault(&mut self, place: &Place, fault: &Fault) {
        let Place {
            kind, name, namespace, ..
        } = place;
        self.extent.gap(format!(
            "{kind} {namespace}/{name} could not be judged: {}",
            fault.message
        ));
    }

    fn select(&mut self, workflow: &str, labels: Option<&Value>) {
        for (foreign, workflows) in &mut self.foreign {
            if !workflows.contains(workflow) && foreign.selects(labels) {
                workflows.insert(workflow.to_owned());
            }
        }
    }

    fn finish(self) -> Extent {
        for (foreign, workflows) in &self.foreign {
            let mut told = Vec::new();
            if workflows.is_empty() {
                told.extend(foreign.findings(None));
            }
            for workflow in workflows {
                told.extend(foreign.findings(Some(workflow)));
            }
            told.into_iter().for_each(|finding| self.sink.found(finding));
        }
        self.extent
    }
}

fn violations(decision: Decision, audits: bool) -> impl Iterator<Item = (Severity, Violation)> {
    let denials = decision.denials.into_iter().map(|denial| (Severity::Error, denial));
    let audits = decision.audits.into_iter().filter(move |_| audits);
    let warnings = decision.warnings.into_iter().chain(audits);
    denials.chain(warnings.map(|warning| (Severity::Warning, warning)))
}

/// Whether nothing of it runs any more, nor will.
fn has_ended(kind: Listed, object: &Map<String, Value>) -> bool {
    let status = object.get("status");
    let is_true = |condition: &Value| {
        matches!(
            condition.get("type").and_then(Value::as_str),
            Some("Complete" | "Failed")
        ) && condition.get("status").and_then(Value::as_str) == Some("True")
    };
    match kind.kind {
        "Pod" => matches!(
            status.and_then(|status| status.get("phase")?.as_str()),
            Some("Succeeded" | "Failed")
        ),
        "Job" => status
            .and_then(|status| status.get("conditions")?.as_array())
            .is_some_and(|conditions| conditions.iter().any(is_true)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
