//! Watched objects without their `managedFields`, which are stepped over while they are read.
//!
//! Nobody reads them, and whoever may write an object may make them outweigh all the rest a hundred times, or put a time there that
//! cannot be read and ends the watch. To drop them from what was read would be too late: a whole page is in memory by then. Must never:
//! leave out anything else.

use std::{borrow::Cow, collections::HashMap, fmt::Debug, future::ready};

use futures::{Stream, StreamExt, stream::unfold};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, GetParams, ObjectMeta},
    core::{PartialObjectMeta, Request},
    runtime::{
        Controller, WatchStreamExt,
        reflector::{self, ObjectRef},
        watcher::{self, Config, Event, watcher},
    },
};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::Value;
use tracing::debug;

use super::patient::Patient;
use crate::review::read_object;
use crate::watch::lasting;

/// Most that an object of a kind that anybody may write may weigh beside its metadata: more than any that works.
pub(super) const MAX_OBJECT: usize = 8 << 20;
/// Nothing beside its metadata.
pub(super) const ALONE: usize = 0;
/// The field that stands for what was left out, so that such an object is like no other.
const LEFT_OUT: &str = "leftOut";

/// An object as it was sent, but for its `managedFields`; and where it weighs more than that beside its metadata, for all else.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Lean<K, const MOST: usize = { usize::MAX }>(pub(super) K);

impl<'de, K: DeserializeOwned, const MOST: usize> Deserialize<'de> for Lean<K, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut object, is_cut) = read_object(deserializer, MOST)?;
        if let Some(fields) = object.as_object_mut().filter(|_| is_cut) {
            fields.insert(LEFT_OUT.to_owned(), Value::Bool(true));
        }
        K::deserialize(object).map(Self).map_err(D::Error::custom)
    }
}

/// Whether something was left out of it.
pub(super) fn is_cut(object: &DynamicObject) -> bool {
    object.data.get(LEFT_OUT).is_some()
}

impl<K: Resource, const MOST: usize> Resource for Lean<K, MOST> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Asks for an object's metadata alone: the API server sends nothing else.
pub(super) async fn metadata<K>(client: &Client, namespace: Option<&str>, name: &str) -> kube::Result<ObjectMeta>
where
    K: Resource<DynamicType = ()> + Clone + Debug,
{
    let request = Request::new(K::url_path(&(), namespace)).get_metadata(name, &GetParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let Lean(found) = client.request::<Lean<PartialObjectMeta<K>, ALONE>>(request).await?;
    Ok(found.metadata)
}

/// What happens to objects.
pub(super) fn events<K>(
    api: Api<Lean<K>>,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    within(api, config)
}

fn within<K, const MOST: usize>(
    api: Api<Lean<K, MOST>>,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    watcher(api, config).map(|event| {
        event.map(|event| match event {
            Event::Apply(Lean(object)) => Event::Apply(object),
            Event::Delete(Lean(object)) => Event::Delete(object),
            Event::Init => Event::Init,
            Event::InitApply(Lean(object)) => Event::InitApply(object),
            Event::InitDone => Event::InitDone,
        })
    })
}

/// A controller of all objects of a kind.
pub(super) fn controller<K>(client: &Client, config: Config) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = lasting(events(Api::<Lean<K>>::all(client.clone()), config));
    Controller::for_stream(events.reflect(writer).applied_objects(), store)
}

/// The same of a kind that not every API server serves, and of its metadata alone.
pub(super) fn controller_where_served<K>(client: &Client, config: Config) -> Controller<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = where_served(client, config);
    Controller::for_stream(events.reflect(writer).applied_objects(), store)
}

/// All objects of a kind, when they come, change or go.
pub(super) fn touched<K>(client: &Client, config: Config) -> impl Stream<Item = watcher::Result<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    touched_of(Api::all(client.clone()), config)
}

/// The same of objects that anybody may write, of which nothing but the metadata is kept.
pub(super) fn touched_alone<K>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    lasting(within(
        Api::<Lean<PartialObjectMeta<K>, ALONE>>::all(client.clone()),
        config,
    ))
    .touched_objects()
}

/// The same of a kind that not every API server serves: where it is not, it is asked for again, ever more seldom.
pub(super) fn touched_where_served<K>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    where_served(client, config).touched_objects()
}

fn where_served<K>(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<K>>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let client = client.clone();
    let api = move || Api::<Lean<PartialObjectMeta<K>, ALONE>>::all(client.clone());
    let watch = Patient::new(move || within(api(), config.clone()).boxed());
    let events = unfold(watch, |mut watch| async { Some((watch.next().await, watch)) });
    events.filter_map(|event| {
        if let Err(error) = &event {
            debug!(kind = %K::kind(&()), %error, "a watch failed, and begins again");
        }
        ready(event.ok().map(Ok))
    })
}

/// The same of those that an API is narrowed to.
pub(super) fn touched_of<K>(api: Api<Lean<K>>, config: Config) -> impl Stream<Item = watcher::Result<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    lasting(events(api, config)).touched_objects()
}

/// The same, but where nothing that `read` takes of an object has changed. For few objects: what was taken is kept of each.
pub(super) fn changed<K, T>(
    client: &Client,
    config: Config,
    read: fn(&K) -> T,
) -> impl Stream<Item = watcher::Result<K>> + Send + use<K, T>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send + 'static,
{
    let events = lasting(events(Api::<Lean<K>>::all(client.clone()), config));
    only_changes(events, read)
}

fn only_changes<K, T: PartialEq>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    read: impl Fn(&K) -> T,
) -> impl Stream<Item = watcher::Result<K>>
where
    K: Resource<DynamicType = ()>,
{
    let mut known = HashMap::new();
    let mut again = None;
    events.filter_map(move |event| {
        let told = match event {
            Err(error) => Some(Err(error)),
            // What is not in the new list has gone meanwhile, and nobody told.
            Ok(Event::Init) => {
                again = Some(HashMap::new());
                None
            }
            Ok(Event::InitDone) => {
                if let Some(listed) = again.take() {
                    known = listed;
                }
                None
            }
            Ok(Event::InitApply(object)) => {
                let (key, now) = (ObjectRef::from_obj(&object), read(&object));
                let is_new = known.get(&key) != Some(&now);
                again.get_or_insert_default().insert(key, now);
                is_new.then_some(Ok(object))
            }
            Ok(Event::Apply(object)) => {
                let now = read(&object);
                let is_new = known.get(&ObjectRef::from_obj(&object)) != Some(&now);
                known.insert(ObjectRef::from_obj(&object), now);
                is_new.then_some(Ok(object))
            }
            Ok(Event::Delete(object)) => {
                known.remove(&ObjectRef::from_obj(&object));
                Some(Ok(object))
            }
        };
        ready(told)
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    use super::*;
    use crate::api::AIWorkflow;

    /// A time that ends a typed read, and what weighs most.
    #[test]
    fn who_owns_which_field_is_never_read() {
        let fields = json!([{"time": "9999-12-31T23:59:59Z", "fieldsV1": {"f:a": {}}}, {"time": "never"}]);
        let metadata = json!({"name": "n", "uid": "1", "labels": {"a": "b"}, "managedFields": fields});
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"podCIDR": "10.0.0.0/24"}})
                .to_string();
        assert!(serde_json::from_str::<Node>(&node).is_err());
        let Lean(node) = serde_json::from_str::<Lean<Node>>(&node).unwrap();
        assert_eq!(node.spec.unwrap().pod_cidr.unwrap(), "10.0.0.0/24");
        let workflow = json!({"metadata": metadata, "spec": {"launchers": [], "images": ["a/b"]}}).to_string();
        let Lean(workflow) = serde_json::from_str::<Lean<AIWorkflow>>(&workflow).unwrap();
        assert_eq!(
            (workflow.metadata.managed_fields, workflow.spec.images),
            (None, vec!["a/b".to_owned()])
        );
        assert_eq!(workflow.metadata.labels.unwrap()["a"], "b");
    }

    /// What goes is told, also where it went unseen and is there again; what is written without a change is not.
    #[tokio::test]
    async fn only_changes_are_told() {
        let class = |name: &str, read: i64, written: &str| {
            let mut node = Node::default();
            node.metadata.name = Some(name.to_owned());
            node.metadata.generation = Some(read);
            node.metadata.resource_version = Some(written.to_owned());
            node
        };
        let events = [
            Event::Init,
            Event::InitApply(class("a", 1, "1")),
            Event::InitApply(class("b", 1, "2")),
            Event::InitDone,
            Event::Apply(class("a", 1, "3")),
            Event::Apply(class("a", 2, "4")),
            Event::Delete(class("a", 2, "5")),
            Event::Apply(class("a", 2, "6")),
            // The watch was lost: `a` is as it was, `b` has gone, and comes back as it was.
            Event::Init,
            Event::InitApply(class("a", 2, "7")),
            Event::InitDone,
            Event::Apply(class("b", 1, "8")),
        ];
        let told = only_changes(futures::stream::iter(Vec::from(events.map(Ok))), |node: &Node| {
            node.metadata.generation
        });
        let told: Vec<_> = told
            .map(|node| node.unwrap().metadata.resource_version.unwrap())
            .collect()
            .await;
        assert_eq!(told, ["1", "2", "4", "5", "6", "8"]);
    }
}
