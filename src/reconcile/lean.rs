//! Watched objects without their `managedFields`, which are stepped over while they are read.
//!
//! Nobody reads them, and whoever may write an object may make them outweigh all the rest a hundred times, or put a time there that
//! cannot be read and ends the watch. To drop them from what was read would be too late: a whole page is in memory by then. Must never:
//! leave out anything else.

use std::{borrow::Cow, fmt::Debug};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource,
    api::ObjectMeta,
    runtime::{
        Controller, WatchStreamExt, reflector,
        watcher::{self, Config, Event, watcher},
    },
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};

use crate::review::{Keep, read_kept};

const LEAN: Keep = Keep::But(&[("metadata", Keep::But(&[("managedFields", Keep::Nothing)]))]);

/// An object as it was sent, but for its `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Lean<K>(pub(super) K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lean<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = read_kept(deserializer, LEAN)?;
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
    let events = events(Api::<Lean<K>>::all(client.clone()), config);
    Controller::for_stream(events.reflect(writer).applied_objects(), store)
}

/// All objects of a kind, when they come, change or go.
pub(super) fn touched<K>(client: &Client, config: Config) -> impl Stream<Item = watcher::Result<K>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    events(Api::<Lean<K>>::all(client.clone()), config).touched_objects()
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
}
