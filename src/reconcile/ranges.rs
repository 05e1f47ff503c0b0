//! The cluster's own ranges: watches ServiceCIDRs and Nodes, and wakes the class controller when what they say has changed.
//!
//! Must never: hold a whole Node (its images alone are tens of kilobytes), or take a refusal for "there are none".

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, NotUsed, Object},
    runtime::watcher::{self, DefaultBackoff, Event},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    CallError, Context, RESYNC, RETRY, calls, lean,
    patient::{Events, Patient, is_no, is_refused},
};
use crate::plan::{Detection, NodeFacts, detect};

/// How long changes are gathered: nodes come in groups, and each change of the ranges writes every class and its fences.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a Node may be without `spec.podCIDRs` beside others that have them: a new one gets its range a moment after it is
/// there, and to close every range for that moment would cut off whoever uses one. No pod has an address of it before.
const GRACE: Duration = Duration::from_secs(30);
/// Nodes in one page: some megabytes while it is read.
const PAGE: u32 = 100;
/// Most nodes. Their ranges would not fit into policies long before that.
const MAX_NODES: usize = 65_536;
const NOT_SERVED: &str = "this API server does not serve them; Kubernetes 1.33 does";
const GROUP: &str = "networking.k8s.io";

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeSpec {
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
}

#[derive(Clone, Debug, Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    type_: String,
    address: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ServiceCidrSpec {
    #[serde(default)]
    cidrs: Vec<String>,
}

/// A Node without most of what it says: the rest is skipped while it is read.
type Node = Object<NodeSpec, NodeStatus>;
type ServiceCidr = Object<ServiceCidrSpec, NotUsed>;

/// What a watch has told so far.
struct Listed<T> {
    /// Everything, by name; `None` before the first list is complete.
    whole: Option<BTreeMap<String, T>>,
    coming: BTreeMap<String, T>,
    /// Why it may not be read, where the API server said no.
    refused: Option<String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            whole: None,
            coming: BTreeMap::new(),
            refused: None,
        }
    }
}

impl<T> Listed<T> {
    /// Takes note of an event.
    fn take<K>(&mut self, event: watcher::Result<Event<K>>, read: impl Fn(&K) -> T)
    where
        K: ResourceExt,
    {
        match event {
            Ok(Event::Init) => self.coming.clear(),
            Ok(Event::InitApply(object)) => {
                self.coming.insert(object.name_any(), read(&object));
            }
            Ok(Event::InitDone) => {
                self.whole = Some(std::mem::take(&mut self.coming));
                self.refused = None;
            }
            Ok(Event::Apply(object)) => {
                self.whole
                    .get_or_insert_default()
                    .insert(object.name_any(), read(&object));
            }
            Ok(Event::Delete(object)) => {
                self.whole.get_or_insert_default().remove(&object.name_any());
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if is_no(status.code) => {
                self.refused = Some(status.message.clone());
            }
            // What was known stays while the API server is away; the watch comes back by itself.
            Err(error) => warn!(%error, "a watch for the cluster's ranges failed, and is tried again"),
        }
    }

    fn known(&self) -> Option<Result<&BTreeMap<String, T>, String>> {
        match &self.refused {
            Some(refused) => Some(Err(refused.clone())),
            None => self.whole.as_ref().map(Ok),
        }
    }
}

#[derive(Default)]
struct Seen {
    services: Listed<Vec<String>>,
    nodes: Listed<NodeFacts>,
    /// Since when a Node is known that has no range.
    awaited: BTreeMap<String, Instant>,
}

impl Seen {
    /// Notes which Nodes have no range and may still get one, and says when the first of them should have it.
    fn wait_for_ranges(&mut self) -> Option<Instant> {
        let Some(Ok(nodes)) = self.nodes.known() else {
            return None;
        };
        let now = Instant::now();
        let lacking = nodes.iter().filter(|(_, node)| node.lacks_range());
        let since = |name: &String| self.awaited.get(name).copied().unwrap_or(now);
        let awaited: BTreeMap<_, _> = lacking.map(|(name, _)| (name.clone(), since(name))).collect();
        self.awaited = awaited;
        // Where none has a range, none is to come.
        let ends = self.awaited.values().map(|since| *since + GRACE);
        ends.filter(|end| nodes.len() > self.awaited.len() && *end > now).min()
    }

    fn is_awaited(&self, name: &str) -> bool {
        let since = self.awaited.get(name);
        since.is_some_and(|since| *since + GRACE > Instant::now())
    }

    /// `None` while something is still to be read.
    fn detection(&self, context: &Context) -> Option<Detection> {
        let refused = |kind: &str, resource: &str, why: String| {
            format!(
                "{kind} cannot be read ({why}): Ringfence's account needs list and watch on {resource}, as its ClusterRole has it in the chart"
            )
        };
        let (services, nodes) = match (self.services.known()?, self.nodes.known()?) {
            (Err(why), _) if why == NOT_SERVED => return Some(Err(format!("ServiceCIDRs cannot be read ({why})"))),
            (Err(why), _) => return Some(Err(refused("ServiceCIDRs", "servicecidrs.networking.k8s.io", why))),
            (_, Err(why)) => return Some(Err(refused("Nodes", "nodes", why))),
            (Ok(services), Ok(nodes)) => (services, nodes),
        };
        if nodes.len() > MAX_NODES {
            return Some(Err(format!("there are more than {MAX_NODES} Nodes")));
        }
        let services: Vec<_> = services.values().flatten().cloned().collect();
        let excused = |(name, node): (&String, &NodeFacts)| NodeFacts {
            excused: node.excused || self.is_awaited(name),
            ..node.clone()
        };
        let nodes: Vec<_> = nodes.iter().map(excused).collect();
        Some(detect(&services, &nodes, &context.own_addresses))
    }
}

/// Watches until `stop`, and publishes in the context what was found out.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let mut seen = Seen::default();
    let mut nodes = {
        let client = client.clone();
        Patient::new(move || watch_nodes(&client))
    };
    let mut services: Option<Patient<ServiceCidr>> = None;
    let (mut look, mut backoff) = (Instant::now(), DefaultBackoff::default());
    let mut due = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = nodes.next() => {
                seen.nodes.take(event, read_node);
                soon(&mut due);
            }
            event = next(&mut services) => {
                // It may be that they are served in another version since.
                if is_refused(&event) {
                    services = None;
                    look = Instant::now() + backoff.next().unwrap_or(RETRY);
                }
                seen.services.take(event, |cidr| cidr.spec.cidrs.clone());
                soon(&mut due);
            }
            () = sleep_until(look), if services.is_none() => {
                // A control plane that is upgraded serves them later.
                look = Instant::now() + RESYNC;
                match serving_version(&client).await {
                    Ok(Some(version)) => {
                        let client = client.clone();
                        services = Some(Patient::new(move || watch_service_cidrs(&client, version)));
                    }
                    Ok(None) => {
                        seen.services.refused = Some(NOT_SERVED.to_owned());
                        soon(&mut due);
                    }
                    Err(error) => {
                        warn!(error = error.explain(), "cannot tell whether ServiceCIDRs are served");
                        look = Instant::now() + backoff.next().unwrap_or(RETRY);
                    }
                }
            }
            () = until(due) => {
                due = seen.wait_for_ranges();
                // What the process before found out stays until this one knows better.
                let is_first = context.ranges.borrow().is_none();
                if due.is_none() || !is_first {
                    publish(seen.detection(&context), &context);
                }
            }
        }
    }
}

fn publish(found: Option<Detection>, context: &Context) {
    let changed = context.ranges.send_if_modified(|known| {
        let changed = found.is_some() && *known != found;
        if changed {
            known.clone_from(&found);
        }
        changed
    });
    match found {
        Some(Ok(ranges)) if changed => info!(count = ranges.len(), "the cluster's own ranges are others than before"),
        Some(Err(why)) if changed => warn!(why, "the cluster's own ranges are not known"),
        _ => {}
    }
}

/// Something has changed: it is published once changes have been gathered, also where a Node is waited for.
fn soon(due: &mut Option<Instant>) {
    let settled = Instant::now() + SETTLE;
    *due = Some(due.map_or(settled, |due| due.min(settled)));
}

/// Ends when the time has come; never where there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn next<K>(watch: &mut Option<Patient<K>>) -> watcher::Result<Event<K>> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// Wakes whoever listens when the published ranges change.
pub(super) fn changes(context: &Context) -> impl Stream<Item = ()> + Send + 'static {
    futures::stream::unfold(context.ranges.subscribe(), |mut ranges| async {
        ranges.changed().await.ok()?;
        Some(((), ranges))
    })
}

fn read_node(node: &Node) -> NodeFacts {
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    let addresses = addresses.map(|address| (address.type_.as_str(), address.address.as_str()));
    NodeFacts {
        excused: node.metadata.deletion_timestamp.is_some(),
        ..NodeFacts::new(node.spec.pod_cidrs.clone(), addresses)
    }
}

fn watch_nodes(client: &Client) -> Events<Node> {
    watch(client, &ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&()))
}

fn watch_service_cidrs(client: &Client, version: &str) -> Events<ServiceCidr> {
    let resource = ApiResource {
        group: GROUP.to_owned(),
        version: version.to_owned(),
        api_version: format!("{GROUP}/{version}"),
        kind: "ServiceCIDR".to_owned(),
        plural: "servicecidrs".to_owned(),
    };
    watch(client, &resource)
}

fn watch<K>(client: &Client, resource: &ApiResource) -> Events<K>
where
    K: Resource<DynamicType = ApiResource> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::all_with(client.clone(), resource);
    lean::events(api, crate::watch::config().page_size(PAGE)).boxed()
}

/// The version in which ServiceCIDRs are served, if they are: 1.33 has v1, 1.31 may have v1beta1.
async fn serving_version(client: &Client) -> Result<Option<&'static str>, CallError> {
    for version in ["v1", "v1beta1"] {
        let group = format!("{GROUP}/{version}");
        let what = format!("read what is served of {group}");
        let list = calls::served(calls::bounded(&what, client.list_api_group_resources(&group)).await)?;
        let is_served = |list: &k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList| {
            list.resources.iter().any(|resource| resource.name == "servicecidrs")
        };
        if list.is_some_and(|list| is_served(&list)) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::reconcile::reading_tests::context;

    const SERVED: &str = r#"{"kind": "APIResourceList", "groupVersion": "networking.k8s.io/v1", "resources": [{"name": "servicecidrs", "singularName": "", "namespaced": false, "kind": "ServiceCIDR", "verbs": []}]}"#;
    const OTHERS: &str = r#"{"kind": "APIResourceList", "groupVersion": "networking.k8s.io/v1", "resources": []}"#;

    /// An API server that serves ServiceCIDRs in those versions, refuses what contains `forbidden`, has one Node, and ends each
    /// watch with a refusal where it says so.
    fn client(v1: &'static str, v1beta1: Option<&'static str>, forbidden: Arc<Mutex<&'static str>>) -> Client {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (path, query) = (
                request.uri().path().to_owned(),
                request.uri().query().unwrap_or_default().to_owned(),
            );
            let is_forbidden =
                Some(*forbidden.lock().unwrap()).is_some_and(|part| !part.is_empty() && path.contains(part));
            async move {
                let list = |kind: &str, item: Value| {
                    let list = json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [item]});
                    (200, list.to_string())
                };
                let (code, body) = match path.as_str() {
                    _ if is_forbidden => (403, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no right"}).to_string()),
                    // A watch that tells of nothing ends; the next one is started a moment later.
                    _ if query.contains("watch=true") => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        (200, String::new())
                    }
                    "/apis/networking.k8s.io/v1" => (200, v1.to_owned()),
                    "/apis/networking.k8s.io/v1beta1" if v1beta1.is_some() => (200, v1beta1.unwrap_or_default().to_owned()),
                    "/api/v1/nodes" => list("NodeList", json!({
                        "metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.244.0.0/24"], "providerID": "x"},
                        "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.7"}], "images": [{"names": ["x"]}]},
                    })),
                    path if path.ends_with("/servicecidrs") => list("ServiceCIDRList", json!({
                        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}, "status": {},
                    })),
                    _ => (404, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": path}).to_string()),
                };
                Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(body)).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// Waits for the next detection that is as wanted.
    async fn found(context: &Context, wanted: impl Fn(&Detection) -> bool) -> Detection {
        let mut ranges = context.ranges.subscribe();
        let wait = ranges.wait_for(|known| known.as_ref().is_some_and(&wanted));
        let known = tokio::time::timeout(Duration::from_secs(30), wait).await;
        known.expect("in time").expect("a sender").clone().expect("a detection")
    }

    #[rstest]
    #[case::since_1_33(SERVED, None, true)]
    #[case::in_1_31_with_the_beta(OTHERS, Some(SERVED), true)]
    #[case::in_1_31(OTHERS, None, false)]
    #[case::other_betas(OTHERS, Some(OTHERS), false)]
    #[tokio::test]
    async fn service_cidrs_are_found_where_they_are_served(
        #[case] v1: &'static str,
        #[case] v1beta1: Option<&'static str>,
        #[case] served: bool,
    ) {
        let context = context(client(v1, v1beta1, Arc::default()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(context.clone(), stop.clone()));
        let detection = found(&context, |_| true).await;
        match detection {
            Ok(ranges) => assert!(served && ranges.len() == 3, "{ranges:?}"),
            Err(why) => assert!(!served && why.contains("does not serve them"), "{why}"),
        }
        stop.cancel();
        running.await.unwrap();
    }

    #[rstest]
    #[case::nodes(
        "/nodes",
        "Nodes cannot be read (no right): Ringfence's account needs list and watch on nodes,"
    )]
    #[case::service_cidrs(
        "/servicecidrs",
        "ServiceCIDRs cannot be read (no right): Ringfence's account needs list and watch on servicecidrs.networking.k8s.io,"
    )]
    #[tokio::test]
    async fn a_right_that_is_taken_away_and_given_back_is_noticed(#[case] resource: &'static str, #[case] why: &str) {
        let forbidden: Arc<Mutex<&'static str>> = Arc::default();
        let context = context(client(SERVED, None, forbidden.clone()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(context.clone(), stop.clone()));
        assert!(found(&context, Result::is_ok).await.is_ok());
        *forbidden.lock().unwrap() = resource;
        let said = found(&context, Result::is_err).await.unwrap_err();
        assert!(said.starts_with(why), "{said}");
        *forbidden.lock().unwrap() = "";
        assert!(found(&context, Result::is_ok).await.is_ok());
        stop.cancel();
        running.await.unwrap();
    }
}
