//! The cluster's own ranges: watches ServiceCIDRs and Nodes, and wakes the class controller when what they say has changed.
//!
//! Must never: hold a whole Node (its images alone are tens of kilobytes), or take a refusal for "there are none".

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, NotUsed, Object},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CallError, Context, RESYNC, RETRY, calls};
use crate::plan::{Detection, NodeFacts, detect};

/// How long changes are gathered: nodes come in groups, and each change of the ranges writes every class and its fences.
const SETTLE: Duration = Duration::from_secs(2);
/// Nodes in one page: some megabytes while it is read.
const PAGE: u32 = 100;
/// Most nodes. Their ranges would not fit into policies long before that.
const MAX_NODES: usize = 65_536;
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
type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

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
    /// Takes note of an event. The answer is whether the list has to be made anew.
    fn take<K>(&mut self, event: watcher::Result<Event<K>>, read: impl Fn(&K) -> T) -> bool
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
            // Nothing would tell when it may be watched again: a list does.
            Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if is_no(status.code) => return true,
            // What was known stays while the API server is away; the watch comes back by itself.
            Err(error) => warn!(%error, "a watch for the cluster's ranges failed, and is tried again"),
        }
        false
    }

    fn known(&self) -> Option<Result<&BTreeMap<String, T>, String>> {
        match &self.refused {
            Some(refused) => Some(Err(refused.clone())),
            None => self.whole.as_ref().map(Ok),
        }
    }
}

fn is_no(code: u16) -> bool {
    matches!(code, 403 | 404)
}

#[derive(Default)]
struct Seen {
    services: Listed<Vec<String>>,
    nodes: Listed<NodeFacts>,
}

impl Seen {
    /// `None` while something is still to be read.
    fn detection(&self, context: &Context) -> Option<Detection> {
        let (services, nodes) = match (self.services.known()?, self.nodes.known()?) {
            (Err(why), _) => return Some(Err(format!("ServiceCIDRs cannot be read ({why})"))),
            (_, Err(why)) => return Some(Err(format!("Nodes cannot be read ({why})"))),
            (Ok(services), Ok(nodes)) => (services, nodes),
        };
        if nodes.len() > MAX_NODES {
            return Some(Err(format!("there are more than {MAX_NODES} Nodes")));
        }
        let services: Vec<_> = services.values().flatten().cloned().collect();
        Some(detect(&services, nodes.values(), &context.own_addresses))
    }
}

/// Watches until `stop`, and publishes in the context what was found out.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let client = context.client.clone();
    let mut seen = Seen::default();
    let mut nodes = watch_nodes(&client);
    let mut services: Option<Events<ServiceCidr>> = None;
    let mut look = Instant::now();
    let mut due = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(event) = nodes.next() => {
                if seen.nodes.take(event, read_node) {
                    nodes = watch_nodes(&client);
                }
                due.get_or_insert(Instant::now() + SETTLE);
            }
            Some(event) = next(&mut services) => {
                if seen.services.take(event, |cidr| cidr.spec.cidrs.clone()) {
                    services = None;
                    look = Instant::now() + RETRY;
                }
                due.get_or_insert(Instant::now() + SETTLE);
            }
            () = sleep_until(look), if services.is_none() => {
                let served = serving_version(&client).await;
                match &served {
                    Ok(Some(version)) => services = Some(watch_service_cidrs(&client, version)),
                    Ok(None) => {
                        seen.services.refused = Some("this API server does not serve them; Kubernetes 1.33 does".to_owned());
                        due.get_or_insert(Instant::now() + SETTLE);
                    }
                    Err(error) => warn!(error = error.explain(), "cannot tell whether ServiceCIDRs are served"),
                }
                // A control plane that is upgraded serves them later.
                look = Instant::now() + if served.is_ok() { RESYNC } else { RETRY };
            }
            () = until(due) => {
                due = None;
                publish(seen.detection(&context), &context);
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

/// Ends when the time has come; never where there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn next<K>(events: &mut Option<Events<K>>) -> Option<watcher::Result<Event<K>>> {
    match events {
        Some(events) => events.next().await,
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
    NodeFacts::new(node.spec.pod_cidrs.clone(), addresses)
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
    let api = Api::<K>::all_with(client.clone(), resource);
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .boxed()
}

/// The version in which ServiceCIDRs are served, if they are: 1.33 has v1, 1.31 may have v1beta1.
async fn serving_version(client: &Client) -> Result<Option<&'static str>, CallError> {
    for version in ["v1", "v1beta1"] {
        let group = format!("{GROUP}/{version}");
        let what = format!("read what is served of {group}");
        let list = calls::optional(calls::bounded(&what, client.list_api_group_resources(&group)).await)?;
        let is_served = |list: &k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList| {
            list.resources.iter().any(|resource| resource.name == "servicecidrs")
        };
        if list.is_some_and(|list| is_served(&list)) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}
