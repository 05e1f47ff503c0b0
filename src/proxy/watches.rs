//! What the API server tells of pods, policies, namespaces and classes, to what the proxy decides by.
//!
//! While it is away, what was known last goes on to be known: whatever was allowed stays allowed. Must never: keep more of an object than
//! decisions ask for.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::core::v1::{Namespace, Pod as K8sPod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Api, Client, Resource};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::pages::{PAGE, bounded};
use crate::api::{
    AIWorkflowClass, ENFORCE_LABEL, GROUP, OWNER_LABEL, OWNER_UID_ANNOTATION, WARN_LABEL, WORKFLOW_LABEL,
};
use crate::egress::{ANNOTATION, Allowed, Event, Index, Kind, Pod, Policy, Seen, Snapshot};
use crate::plan::{cidr, owned_name, text_at};
use crate::review::{Keep, read_kept};
use crate::telemetry::EgressMetrics;
use crate::watch::{can_be_listed, lasting};

/// What comes within this time is taken in together: a snapshot costs as much as there are pods.
const TOGETHER: Duration = Duration::from_millis(20);
/// How much of the time snapshots may take, as a fraction.
const REST: u32 = 4;
/// How often the API server is asked whether it is there, and how long it may take to answer.
const ASKED: Duration = Duration::from_secs(10);
const ANSWERED: Duration = Duration::from_secs(5);

/// Who calls and what they may reach, as it is known now.
#[derive(Clone, Debug)]
pub struct Callers(watch::Receiver<Arc<Snapshot>>);

impl Callers {
    /// What is known now. Nobody is known by it before [`Snapshot::is_whole`].
    pub fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// What is known, whenever it changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.clone()
    }
}

/// Follows the API server until `stop`: what is known, and what keeps it up to date.
pub fn follow(
    client: Client,
    metrics: Arc<EgressMetrics>,
    stop: CancellationToken,
) -> (Callers, impl Future<Output = ()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    let following = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = take_in(&client, &sender, &metrics) => {}
            () = look_after(&client, &metrics) => {}
        }
    };
    (Callers(receiver), following)
}

async fn take_in(client: &Client, sender: &watch::Sender<Arc<Snapshot>>, metrics: &EgressMetrics) {
    let mut events = select_all([
        told::<K8sPod>(client, crate::watch::config().labels(WORKFLOW_LABEL)),
        told::<NetworkPolicy>(client, crate::watch::config().labels(OWNER_LABEL)),
        told::<Namespace>(client, crate::watch::config()),
        told::<AIWorkflowClass>(client, crate::watch::config()),
    ]);
    let (mut index, mut together) = (Index::default(), TOGETHER);
    while let Some(event) = events.next().await {
        index.apply(event);
        let until = Instant::now() + together;
        while let Ok(Some(event)) = timeout_at(until, events.next()).await {
            index.apply(event);
        }
        let began = Instant::now();
        let snapshot = index.snapshot();
        for kind in Kind::ALL {
            metrics.set_known(kind.as_str(), index.count(kind));
        }
        if snapshot.is_whole() {
            sender.send_replace(Arc::new(snapshot));
        }
        together = TOGETHER.max(REST * began.elapsed());
    }
}

/// Keeps the time of the API server's last answer: a watch on which nothing happens says nothing of that.
async fn look_after(client: &Client, metrics: &EgressMetrics) {
    let mut is_away = false;
    loop {
        match timeout(ANSWERED, can_be_listed::<Namespace>(client)).await {
            Ok(Ok(_)) => {
                metrics.api_server_answered();
                is_away = false;
            }
            Ok(Err(error)) if !is_away => {
                is_away = true;
                warn!(%error, "the API server cannot be asked: what was known last decides");
            }
            Err(_) if !is_away => {
                is_away = true;
                warn!("the API server does not answer: what was known last decides");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(ASKED).await;
    }
}

/// A kind that is watched, and what of its objects is kept.
trait Told: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static {
    const KIND: Kind;
    const KEEP: Keep;

    fn read(metadata: &ObjectMeta, object: &Value) -> Seen;
}

impl Told for K8sPod {
    const KIND: Kind = Kind::Pods;
    const KEEP: Keep = Keep::Only(&[
        (
            "metadata",
            Keep::Only(&[
                NAME,
                NAMESPACE,
                UID,
                VERSION,
                ("labels", Keep::Only(&[(WORKFLOW_LABEL, Keep::Whole)])),
            ]),
        ),
        (
            "spec",
            Keep::Only(&[("hostNetwork", Keep::Whole), ("nodeName", Keep::Whole)]),
        ),
        (
            "status",
            Keep::Only(&[
                ("phase", Keep::Whole),
                ("podIPs", Keep::Whole),
                (
                    "conditions",
                    Keep::Only(&[
                        ("type", Keep::Whole),
                        ("status", Keep::Whole),
                        ("lastTransitionTime", Keep::Whole),
                    ]),
                ),
            ]),
        ),
    ]);

    fn read(metadata: &ObjectMeta, object: &Value) -> Seen {
        let is_on_host = object.pointer("/spec/hostNetwork") == Some(&Value::Bool(true));
        let phase = object.pointer("/status/phase").and_then(Value::as_str);
        let addresses = match phase {
            // Its address may be another pod's by now.
            Some("Succeeded" | "Failed") => None,
            _ if is_on_host || has_no_sandbox(object) => None,
            _ => object.pointer("/status/podIPs").and_then(Value::as_array),
        };
        let addresses = addresses.into_iter().flatten();
        let addresses = addresses.filter_map(|address| address.pointer("/ip")?.as_str()?.parse().ok());
        let labels = metadata.labels.as_ref();
        Seen::Pod(Pod {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            workflow: labels
                .and_then(|labels| labels.get(WORKFLOW_LABEL))
                .cloned()
                .unwrap_or_default(),
            addresses: addresses.collect(),
            since: since(object),
        })
    }
}

/// What a kubelet says of a pod's sandbox, with which its network comes and goes; nothing before Kubernetes 1.29.
fn sandbox(pod: &Value) -> Option<(&str, &Value)> {
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let condition = conditions
        .iter()
        .find(|condition| text_at(condition, "/type") == "PodReadyToStartContainers")?;
    Some((condition.get("status")?.as_str()?, condition))
}

/// Without it, the address that its status still tells may be another pod's.
fn has_no_sandbox(pod: &Value) -> bool {
    sandbox(pod).is_some_and(|(status, _)| status == "False")
}

/// The node of a pod, and since when its sandbox is there.
fn since(pod: &Value) -> Option<(Arc<str>, Timestamp)> {
    let node = pod.pointer("/spec/nodeName")?.as_str()?;
    let (_, condition) = sandbox(pod).filter(|(status, _)| *status == "True")?;
    let at = condition.get("lastTransitionTime")?.as_str()?.parse().ok()?;
    Some((node.into(), at))
}

impl Told for NetworkPolicy {
    const KIND: Kind = Kind::Policies;
    const KEEP: Keep = Keep::Only(&[(
        "metadata",
        Keep::Only(&[
            NAME,
            NAMESPACE,
            UID,
            VERSION,
            ("deletionTimestamp", Keep::Whole),
            ("labels", Keep::Only(&[(OWNER_LABEL, Keep::Whole)])),
            (
                "annotations",
                Keep::Only(&[(OWNER_UID_ANNOTATION, Keep::Whole), (ANNOTATION, Keep::Whole)]),
            ),
            ("ownerReferences", Keep::Whole),
        ]),
    )]);

    /// Ringfence's own, by the annotations that nobody else may write, and by all that it says of its AIWorkflow: what was made while no guard
    /// stood may name an owner that the garbage collector does not know, and then stays. What is being deleted opens nothing any more: a
    /// finalizer of anybody's may keep it.
    fn read(metadata: &ObjectMeta, _: &Value) -> Seen {
        let annotation = |key: &str| {
            metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(key))
        };
        let (Some(text), Some(uid)) = (annotation(ANNOTATION), annotation(OWNER_UID_ANNOTATION)) else {
            return Seen::Policy(None);
        };
        let is_ours = |owner: &&OwnerReference| {
            let of_group = owner.api_version.strip_prefix(GROUP);
            owner.uid == *uid && owner.kind == "AIWorkflow" && of_group.is_some_and(|version| version.starts_with('/'))
        };
        let mut owners = metadata.owner_references.iter().flatten();
        let Some(owner) = owners.find(is_ours) else {
            return Seen::Policy(None);
        };
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL));
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let is_named = metadata.name.as_deref() == Some(&owned_name(namespace, &owner.name, "domains"));
        if label != Some(&owner.name) || !is_named || metadata.deletion_timestamp.is_some() {
            return Seen::Policy(None);
        }
        let allowed = Allowed::read(text);
        if let Err(error) = &allowed {
            warn!(
                namespace = metadata.namespace.as_deref(),
                networkpolicy = metadata.name.as_deref(),
                %error,
                "what a workflow may reach cannot be read, so it reaches nothing: proxy and operator must be of one version"
            );
        }
        Seen::Policy(Some(Policy {
            workflow: owner.name.clone(),
            allowed: allowed.map(Arc::new),
        }))
    }
}

impl Told for Namespace {
    const KIND: Kind = Kind::Namespaces;
    const KEEP: Keep = Keep::Only(&[(
        "metadata",
        Keep::Only(&[
            NAME,
            UID,
            VERSION,
            (
                "labels",
                Keep::Only(&[(ENFORCE_LABEL, Keep::Whole), (WARN_LABEL, Keep::Whole)]),
            ),
        ]),
    )]);

    fn read(metadata: &ObjectMeta, _: &Value) -> Seen {
        let has = |key: &str| {
            metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.get(key).is_some_and(|class| !class.is_empty()))
        };
        Seen::Namespace(has(ENFORCE_LABEL) || has(WARN_LABEL))
    }
}

impl Told for AIWorkflowClass {
    const KIND: Kind = Kind::Classes;
    const KEEP: Keep = Keep::Only(&[
        ("metadata", Keep::Only(&[NAME, UID, VERSION])),
        (
            "spec",
            Keep::Only(&[(
                "cluster",
                Keep::Only(&[
                    ("clusterCIDRs", Keep::Whole),
                    ("apiServer", Keep::Only(&[("cidrs", Keep::Whole)])),
                ]),
            )]),
        ),
        (
            "status",
            Keep::Only(&[
                ("cluster", Keep::Only(&[("ranges", Keep::Whole)])),
                ("lastKnownRanges", Keep::Whole),
                ("apiServer", Keep::Whole),
            ]),
        ),
    ]);

    /// What it declares stands instead of what was detected, now or last. One that cannot be read closes nothing, and the others do.
    fn read(_: &ObjectMeta, object: &Value) -> Seen {
        let declared = object.pointer("/spec/cluster/clusterCIDRs");
        let detected = || object.pointer("/status/cluster/ranges");
        let known = declared
            .or_else(detected)
            .or_else(|| object.pointer("/status/lastKnownRanges"));
        // The API server may have addresses of the world.
        let api_server = ["/spec/cluster/apiServer/cidrs", "/status/apiServer"].map(|path| object.pointer(path));
        let lists = [known].into_iter().chain(api_server).flatten();
        let texts = lists.filter_map(Value::as_array).flatten();
        Seen::Class(texts.filter_map(|text| cidr::parse(text.as_str()?).ok()).collect())
    }
}

const NAME: (&str, Keep) = ("name", Keep::Whole);
const NAMESPACE: (&str, Keep) = ("namespace", Keep::Whole);
const UID: (&str, Keep) = ("uid", Keep::Whole);
const VERSION: (&str, Keep) = ("resourceVersion", Keep::Whole);

/// An object, as far as it was read.
#[derive(Clone, Debug)]
struct Slim<K> {
    metadata: ObjectMeta,
    seen: Seen,
    _kind: PhantomData<K>,
}

impl<'de, K: Told> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = read_kept(deserializer, K::KEEP)?;
        let mut metadata: ObjectMeta = match object.get("metadata") {
            Some(metadata) => ObjectMeta::deserialize(metadata).map_err(D::Error::custom)?,
            None => ObjectMeta::default(),
        };
        let seen = K::read(&metadata, &object);
        metadata.annotations = None;
        metadata.owner_references = None;
        metadata.deletion_timestamp = None;
        Ok(Self {
            metadata,
            seen,
            _kind: PhantomData,
        })
    }
}

impl<K: Told> Resource for Slim<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

fn told<K: Told>(client: &Client, config: Config) -> BoxStream<'static, Event> {
    let events = watcher(Api::<Slim<K>>::all(bounded(client)), config.page_size(PAGE));
    let events = lasting(events.boxed()).filter_map(|event| async move { event.ok().map(event_of::<K>) });
    events.boxed()
}

fn event_of<K: Told>(event: watcher::Event<Slim<K>>) -> Event {
    let key = |object: &Slim<K>| {
        let metadata = &object.metadata;
        (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    };
    match event {
        watcher::Event::Init => Event::Again(K::KIND),
        watcher::Event::InitDone => Event::Whole(K::KIND),
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => Event::Seen(key(&object), object.seen),
        watcher::Event::Delete(object) => Event::Gone(K::KIND, key(&object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<K: Told>(object: Value) -> Slim<K> {
        serde_json::from_value(object).unwrap()
    }

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "ai", "uid": "pod-uid", "resourceVersion": "7", "labels": {WORKFLOW_LABEL: "triage", "app": "x"},
                "managedFields": [{"time": "never"}]},
            "spec": {"containers": [{"name": "c", "env": [{"name": "KEY", "value": "secret"}]}]},
            "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]},
        });
        change(&mut object);
        let Seen::Pod(pod) = read::<K8sPod>(object).seen else {
            panic!()
        };
        pod
    }

    #[test]
    fn a_pod_has_its_addresses_while_they_are_its_own() {
        let two: Vec<std::net::IpAddr> = vec![[10, 1, 0, 1].into(), "fd00::1".parse().unwrap()];
        assert_eq!(
            pod(|_| {}),
            Pod {
                uid: "pod-uid".into(),
                workflow: "triage".to_owned(),
                addresses: two.clone(),
                since: None,
            }
        );
        let on_node = |type_: &str, status: &str| {
            pod(|pod| {
                pod["spec"]["nodeName"] = json!("n1");
                pod["status"]["conditions"] = json!([
                    {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"},
                    {"type": type_, "status": status, "lastTransitionTime": "2026-01-01T00:00:01Z"},
                ]);
            })
            .since
        };
        let (node, at) = on_node("PodReadyToStartContainers", "True").expect("told");
        assert_eq!((node.as_ref(), at.to_string().as_str()), ("n1", "2026-01-01T00:00:01Z"));
        assert_eq!(on_node("PodReadyToStartContainers", "False"), None);
        assert_eq!(on_node("Initialized", "True"), None);
        let ended = json!([{"type": "PodReadyToStartContainers", "status": "False"}]);
        assert!(pod(|pod| pod["status"]["conditions"] = ended).addresses.is_empty());
        assert_eq!(
            pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")).addresses,
            two
        );
        assert!(pod(|pod| pod["spec"]["hostNetwork"] = json!(true)).addresses.is_empty());
        for phase in ["Succeeded", "Failed"] {
            assert!(pod(|pod| pod["status"]["phase"] = json!(phase)).addresses.is_empty());
        }
        assert!(
            pod(|pod| pod["status"] = json!({"phase": "Pending"}))
                .addresses
                .is_empty()
        );
        assert!(
            pod(|pod| pod["status"]["podIPs"] = json!([{"ip": "x"}, {}, 7]))
                .addresses
                .is_empty()
        );
    }

    #[test]
    fn nothing_else_of_an_object_is_kept() {
        let slim = read::<K8sPod>(json!({
            "metadata": {"name": "a", "namespace": "ai", "resourceVersion": "7", "uid": "u", "labels": {WORKFLOW_LABEL: "t", "app": "x"},
                "annotations": {"a": "b"}, "finalizers": ["f"], "managedFields": [{"time": "never"}]},
            "spec": {"containers": [{"name": "c"}]},
        }));
        assert_eq!(
            serde_json::to_value(&slim.metadata).unwrap(),
            json!({
                "name": "a", "namespace": "ai", "resourceVersion": "7", "uid": "u", "labels": {WORKFLOW_LABEL: "t"},
            })
        );
    }

    #[test]
    fn a_class_knows_the_cluster_by_what_it_declares_or_by_what_was_detected() {
        let ranges = |spec: Value, status: Value| {
            let class = json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
            let Seen::Class(ranges) = read::<AIWorkflowClass>(class).seen else {
                panic!()
            };
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let detected = json!({"cluster": {"ranges": ["10.1.0.0/16", "rubbish", "2a0e:8f02::/48"]}});
        assert_eq!(ranges(json!({}), detected.clone()), ["10.1.0.0/16", "2a0e:8f02::/48"]);
        let declared = json!({"cluster": {"clusterCIDRs": ["25.0.0.0/8"]}});
        assert_eq!(ranges(declared, detected), ["25.0.0.0/8"]);
        assert_eq!(ranges(json!({}), Value::Null), [""; 0]);
        // Where nothing is detected any more, what was stays closed.
        let before = json!({"lastKnownRanges": ["25.0.0.0/8"]});
        assert_eq!(ranges(json!({}), before.clone()), ["25.0.0.0/8"]);
        let declared = json!({"cluster": {"clusterCIDRs": ["10.1.0.0/16"]}});
        assert_eq!(ranges(declared, before), ["10.1.0.0/16"]);
        // The API server is of the cluster too, by both.
        let declared = json!({"cluster": {"apiServer": {"cidrs": ["34.1.2.0/28"], "ports": [443]}}});
        let detected = json!({"apiServer": ["34.1.2.3/32", "2a0e:8f02::1/128"]});
        assert_eq!(
            ranges(declared, detected),
            ["34.1.2.0/28", "34.1.2.3/32", "2a0e:8f02::1/128"]
        );
    }

    fn policy(change: impl FnOnce(&mut Value)) -> Option<Policy> {
        let mut object = json!({"metadata": {
            "name": owned_name("ai", "triage", "domains"), "namespace": "ai", "labels": {OWNER_LABEL: "triage"},
            "annotations": {OWNER_UID_ANNOTATION: "7", ANNOTATION: "{\"rules\":[]}"},
            "ownerReferences": [{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "name": "triage", "uid": "7"}],
        }});
        change(&mut object);
        let Seen::Policy(policy) = read::<NetworkPolicy>(object).seen else {
            panic!()
        };
        policy
    }

    #[test]
    fn only_a_policy_of_an_aiworkflow_says_what_it_may_reach() {
        assert_eq!(policy(|_| {}).unwrap().workflow, "triage");
        assert_eq!(policy(|policy| policy["metadata"]["ownerReferences"] = json!([])), None);
        assert_eq!(
            policy(|policy| policy["metadata"]["ownerReferences"][0]["uid"] = json!("8")),
            None
        );
        assert_eq!(
            policy(|policy| policy["metadata"]["ownerReferences"][0]["kind"] = json!("Deployment")),
            None
        );
        assert_eq!(
            policy(|policy| policy["metadata"]["annotations"][OWNER_UID_ANNOTATION] = json!("8")),
            None
        );
        assert_eq!(
            policy(|policy| policy["metadata"]["annotations"] = json!({OWNER_UID_ANNOTATION: "7"})),
            None
        );
        for (pointer, other) in [
            ("/ownerReferences/0/apiVersion", "nosuch.example/v1"),
            ("/ownerReferences/0/apiVersion", "ringfence.dev.example/v1"),
            ("/ownerReferences/0/name", "another"),
            ("/labels/ringfence.dev~1owner", "another"),
            ("/name", "ringfence-triage-domains"),
            ("/namespace", "another"),
        ] {
            let forged = policy(|policy| *policy.pointer_mut(&format!("/metadata{pointer}")).unwrap() = json!(other));
            assert_eq!(forged, None, "{pointer} {other}");
        }
        let going = policy(|policy| policy["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(going, None, "whoever keeps it by a finalizer");
        let unreadable = policy(|policy| policy["metadata"]["annotations"][ANNOTATION] = json!("all"));
        assert!(unreadable.unwrap().allowed.is_err());
    }

    #[test]
    fn a_namespace_is_fenced_by_enforce_or_warn() {
        let fenced = |labels: Value| read::<Namespace>(json!({"metadata": {"name": "ai", "labels": labels}})).seen;
        assert_eq!(fenced(json!({ENFORCE_LABEL: "default"})), Seen::Namespace(true));
        assert_eq!(fenced(json!({WARN_LABEL: "default"})), Seen::Namespace(true));
        assert_eq!(
            fenced(json!({"ringfence.dev/audit": "default"})),
            Seen::Namespace(false)
        );
        assert_eq!(fenced(json!({ENFORCE_LABEL: ""})), Seen::Namespace(false));
    }
}
