//! Watched objects without their `managedFields`, which are stepped over while they are read.
//!
//! Nobody reads them, and whoever may write an object may make them outweigh all the rest a hundred times, or put a time there that
//! cannot be read and ends the watch. To drop them from what was read would be too late: a whole page is in memory by then. Must never:
//! leave out anything else.

use std::{borrow::Cow, collections::HashMap, fmt::Debug, future::ready};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    api::ObjectMeta,
    runtime::{
        Controller, WatchStreamExt,
        reflector::{self, ObjectRef},
        watcher::{self, Config, Event, watcher},
    },
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};

use crate::review::{Keep, read_kept};
use crate::watch::lasting;

/// An object as it was sent, but for its `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Lean<K>(pub(super) K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = read_kept(deserializer, Keep::UNMANAGED)?;
        K::deserialize(object).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Lean<K> {
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

/// What happens to objects.
pub(super) fn events<K>(
    api: Api<Lean<K>>,
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

/// All objects of a kind, when they come, change or go.
pub(super) fn touched<K>(client: &Client, config: Config) -> impl Stream<Item = watcher::Result<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    touched_of(Api::all(client.clone()), config)
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
