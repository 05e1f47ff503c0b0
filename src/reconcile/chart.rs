//! What of the chart nobody else would miss, as the chart rendered it: registrations and guards. One that somebody deleted is made again,
//! and what somebody changed is put back. What stands in the two registrations that Ringfence fills is kept elsewhere.
//!
//! What the chart rendered stands in a ConfigMap of the release. It is written as whoever installed the chart writes it, by server-side
//! apply under the same name: the next upgrade then meets no field that is somebody else's. Must never: take the moment between two
//! writes of an upgrade for somebody's edit; make an object of a release that is going, or one that its end would leave behind; make a
//! guard that this version does not know: the upgrade that brings it would find it there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::SelectAll};
use k8s_openapi::api::{
    admissionregistration::v1::{
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
    },
    core::v1::ConfigMap,
    rbac::v1::ClusterRole,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::registration::{AGAIN, SETTLE, say_reverted_of};
use super::{CallError, Context, RESYNC, RETRY, calls, jittered};
use crate::plan::{guards, rendered_guard, rendered_webhooks};

/// How long a difference lasts before it is somebody's: an upgrade writes the ConfigMap and the registrations one after the other, and an
/// uninstall the registrations first.
const LASTS: Duration = Duration::from_secs(3);
/// How long an upgrade is given from its ConfigMap to its last object: what still says the same as was rendered before is waited for.
const UPGRADE: Duration = Duration::from_secs(60);
/// The chart's role, with which everything goes that only Ringfence made.
const CLUSTER_ROLE: &str = "ringfence";
/// Who installs a chart, where the ConfigMap does not tell.
const HELM: &str = "helm";

/// The kinds that are kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Registration,
    Policy,
    Binding,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Registration => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
            Self::Policy => ApiResource::erase::<ValidatingAdmissionPolicy>(&()),
            Self::Binding => ApiResource::erase::<ValidatingAdmissionPolicyBinding>(&()),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "ValidatingWebhookConfiguration",
            Self::Policy => "ValidatingAdmissionPolicy",
            Self::Binding => "ValidatingAdmissionPolicyBinding",
        }
    }

    /// What of an object is the chart's to say.
    const fn field(self) -> &'static str {
        match self {
            Self::Registration => "webhooks",
            Self::Policy | Self::Binding => "spec",
        }
    }

    /// Where the ConfigMap has it.
    fn key(self, name: &str) -> String {
        match self {
            Self::Registration => name.to_owned(),
            Self::Policy | Self::Binding => format!("{}.{name}", self.as_str().to_ascii_lowercase()),
        }
    }
}

/// An object, as the chart rendered it.
struct Object {
    kind: Kind,
    name: String,
    rendered: Value,
    /// The same of the ConfigMap's earlier content.
    before: Option<Value>,
}

/// What the chart rendered, and under whose name.
struct Rendered {
    objects: Vec<Object>,
    manager: String,
}

type Data = BTreeMap<String, String>;

/// What the ConfigMap said at the last looks.
#[derive(Default)]
struct Said {
    now: Data,
    before: Data,
    /// When it was seen to change.
    changed: Option<Instant>,
}

impl Said {
    fn see(&mut self, data: &Data) {
        if self.now == *data {
            return;
        }
        let was_seen = !self.now.is_empty();
        self.before = std::mem::replace(&mut self.now, data.clone());
        self.changed = was_seen.then(Instant::now);
    }

    /// How much longer an upgrade is waited for.
    fn upgrades_for(&self) -> Option<Duration> {
        UPGRADE.checked_sub(self.changed?.elapsed())
    }

    /// What was rendered under that key before, while an upgrade is waited for: nobody asks later.
    fn before(&self, key: &str) -> Option<&String> {
        self.upgrades_for().and_then(|_| self.before.get(key))
    }
}

/// How an object stands to what was rendered.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Differs {
    No,
    /// As was rendered before: an upgrade did not come to it yet.
    NotYet,
    Yes,
}

/// What was written, and how the API server stores it.
struct Stood {
    wanted: Value,
    stored: Value,
}

struct Keeper {
    context: Arc<Context>,
    maps: Api<ConfigMap>,
    /// Name of the ConfigMap.
    map: String,
    stood: BTreeMap<(Kind, String), Stood>,
    said: Said,
    is_missing: bool,
}

/// Keeps them until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let Some(namespace) = context.release_namespace.clone() else {
        return;
    };
    let mut keeper = Keeper {
        maps: Api::namespaced(context.client.clone(), &namespace),
        map: format!("{}-registrations", context.registration),
        context,
        stood: BTreeMap::new(),
        said: Said::default(),
        is_missing: false,
    };
    let mut events = keeper.events();
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = keeper.look() => pause.unwrap_or_else(|error| {
                warn!(error = error.explain(), "the chart's registrations and guards cannot be kept, and are looked at again");
                RETRY
            }),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(jittered(pause)) => {}
            Some(()) = events.next() => {}
        }
        sleep(SETTLE).await;
        while events.next().now_or_never().flatten().is_some() {}
    }
}

impl Keeper {
    /// All that is kept, whether the chart rendered it or not.
    fn names(&self) -> Vec<(Kind, String)> {
        let registrations =
            ["", "-bindings", "-policies"].map(|ending| format!("{}{ending}", self.context.registration));
        let mut names: Vec<_> = registrations
            .into_iter()
            .map(|name| (Kind::Registration, name))
            .collect();
        for name in guards() {
            names.extend([(Kind::Policy, name.clone()), (Kind::Binding, name)]);
        }
        names
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::all_with(self.context.client.clone(), &kind.resource())
    }

    fn events(&self) -> SelectAll<futures::stream::BoxStream<'static, ()>> {
        let mut all = SelectAll::new();
        for (kind, name) in self.names() {
            let api = Api::<PartialObjectMeta>::all_with(self.context.client.clone(), &kind.resource());
            all.push(watcher(api, named(&name)).default_backoff().map(drop).boxed());
        }
        all.push(
            watcher(self.maps.clone(), named(&self.map))
                .default_backoff()
                .map(drop)
                .boxed(),
        );
        all
    }

    /// One look. Returns when the next is due.
    async fn look(&mut self) -> Result<Duration, CallError> {
        let Some(rendered) = self.rendered().await? else {
            return Ok(RESYNC);
        };
        let first = self.differing(&rendered).await?;
        let mut pause = self.pause(&first);
        if !first.iter().any(|(_, differs)| *differs == Differs::Yes) {
            return Ok(pause);
        }
        let changed = self.said.changed;
        sleep(LASTS).await;
        let second = self.differing(&rendered).await?;
        // Read last: what was rendered anew meanwhile is compared anew.
        if self.rendered().await?.is_none() || self.said.changed != changed {
            return Ok(AGAIN);
        }
        for ((object, first), (_, second)) in first.into_iter().zip(second) {
            if (first, second) != (Differs::Yes, Differs::Yes) {
                continue;
            }
            match self.put_back(object, &rendered.manager).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() || error.is_not_found() => pause = AGAIN,
                Err(error) => return Err(error),
            }
        }
        Ok(pause)
    }

    async fn differing<'a>(&self, rendered: &'a Rendered) -> Result<Vec<(&'a Object, Differs)>, CallError> {
        let mut all = Vec::with_capacity(rendered.objects.len());
        for object in &rendered.objects {
            all.push((object, self.differs(object).await?));
        }
        Ok(all)
    }

    /// When the next look is due.
    fn pause(&self, all: &[(&Object, Differs)]) -> Duration {
        let waits = all.iter().any(|(_, differs)| *differs == Differs::NotYet);
        self.said.upgrades_for().filter(|_| waits).unwrap_or(RESYNC)
    }

    /// What the chart rendered; nothing where that is not there.
    async fn rendered(&mut self) -> Result<Option<Rendered>, CallError> {
        let what = format!("read ConfigMap {}", self.map);
        let found = calls::optional(calls::bounded(&what, self.maps.get(&self.map)).await)?;
        let was_missing = std::mem::replace(&mut self.is_missing, found.is_none());
        let Some(map) = found else {
            if !was_missing {
                warn!(
                    map = self.map,
                    "this ConfigMap is not there, so edited and deleted registrations and guards are not put back: apply the chart again"
                );
            }
            return Ok(None);
        };
        let data = map.data.clone().unwrap_or_default();
        self.said.see(&data);
        let applied = map
            .managed_fields()
            .iter()
            .max_by_key(|entry| entry.operation.as_deref() == Some("Apply"));
        let manager = applied
            .and_then(|entry| entry.manager.clone())
            .unwrap_or_else(|| HELM.to_owned());
        let parse = |text: &String| {
            serde_json::from_str::<Value>(text).map_err(|source| CallError::Shape {
                what: what.clone(),
                source,
            })
        };
        let mut objects = Vec::new();
        for (kind, name) in self.names() {
            let key = kind.key(&name);
            let Some(rendered) = data.get(&key).map(parse).transpose()? else {
                continue;
            };
            // An object of another name, or of another kind, would be another's.
            let is = |at: &str, value: &str| rendered.pointer(at).and_then(Value::as_str) == Some(value);
            if is("/metadata/name", &name) && is("/kind", kind.as_str()) {
                let before = self.said.before(&key).map(parse).transpose()?;
                objects.push(Object {
                    kind,
                    name,
                    rendered,
                    before,
                });
            }
        }
        Ok(Some(Rendered { objects, manager }))
    }

    async fn read(&self, object: &Object) -> Result<Option<Value>, CallError> {
        let what = format!("read {} {}", object.kind.as_str(), object.name);
        let found = calls::optional(calls::bounded(&what, self.api(object.kind).get(&object.name)).await)?;
        found.map(|found| calls::raw(&what, found)).transpose()
    }

    /// What the chart's own says, as it should be stored. `None` where Ringfence fills it.
    fn wanted(&self, object: &Object, rendered: &Value, stored: &Value) -> Option<Value> {
        match object.kind {
            Kind::Registration if object.name == self.context.registration => {
                Some(Value::Array(rendered_webhooks(rendered, stored)))
            }
            Kind::Registration => None,
            Kind::Policy | Kind::Binding => Some(rendered_guard(rendered)),
        }
    }

    /// Whether one is not there, or the chart's own says something else than was rendered.
    async fn differs(&self, object: &Object) -> Result<Differs, CallError> {
        let stored = self.read(object).await?;
        let stored = stored.as_ref();
        Ok(if self.is_as(object, Some(&object.rendered), stored) {
            Differs::No
        } else if self.said.upgrades_for().is_some() && self.is_as(object, object.before.as_ref(), stored) {
            Differs::NotYet
        } else {
            Differs::Yes
        })
    }

    fn is_as(&self, object: &Object, rendered: Option<&Value>, stored: Option<&Value>) -> bool {
        let (Some(rendered), Some(stored)) = (rendered, stored) else {
            return rendered.is_none() && stored.is_none();
        };
        let Some(wanted) = self.wanted(object, rendered, stored) else {
            return true;
        };
        let says = part(object.kind, stored);
        let stood = self.stood.get(&(object.kind, object.name.clone()));
        says == wanted || stood.is_some_and(|stood| stood.wanted == wanted && stood.stored == says)
    }

    async fn put_back(&mut self, object: &Object, manager: &str) -> Result<(), CallError> {
        let kind = object.kind;
        let before = self.read(object).await?;
        let mut applied = object.rendered.clone();
        if before.is_none() {
            let Some(owner) = self.owner().await? else {
                return Ok(());
            };
            // Without an owner no uninstall would take it along.
            let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) else {
                return Ok(());
            };
            metadata.insert("ownerReferences".to_owned(), json!([owner]));
        }
        let mut stored = self.apply(object, applied, manager).await?;
        if let Some(wanted) = self.wanted(object, &object.rendered, &stored) {
            // An apply leaves what it does not speak of: a selector, a condition, a webhook more.
            if part(kind, &stored) != wanted {
                let what = format!("write {} {}", kind.as_str(), object.name);
                if let Some(fields) = stored.as_object_mut() {
                    fields.insert(kind.field().to_owned(), wanted.clone());
                }
                let whole = calls::parse(&what, stored)?;
                let api = self.api(kind);
                let written = calls::bounded(&what, api.replace(&object.name, &calls::writing(), &whole)).await?;
                stored = calls::raw(&what, written)?;
            }
            let stood = Stood {
                wanted,
                stored: part(kind, &stored),
            };
            self.stood.insert((kind, object.name.clone()), stood);
        }
        let is_same = before
            .as_ref()
            .is_some_and(|before| part(kind, before) == part(kind, &stored));
        if !is_same {
            let note = match (kind, before.is_some()) {
                (_, false) => "it was deleted by somebody, and is there again as the chart has it",
                (Kind::Registration, true) => {
                    "its webhooks were changed by somebody else, and are again as the chart has them"
                }
                (Kind::Policy | Kind::Binding, true) => {
                    "it was changed by somebody else, and is again as the chart has it"
                }
            };
            self.say(kind, &stored, note).await;
        }
        Ok(())
    }

    async fn say(&self, kind: Kind, stored: &Value, note: &str) {
        let (context, name) = (&self.context, kind.as_str());
        match kind {
            Kind::Registration => {
                say_reverted_of::<ValidatingWebhookConfiguration>(context, stored, name, note).await;
            }
            Kind::Policy => say_reverted_of::<ValidatingAdmissionPolicy>(context, stored, name, note).await,
            Kind::Binding => say_reverted_of::<ValidatingAdmissionPolicyBinding>(context, stored, name, note).await,
        }
    }

    async fn apply(&self, object: &Object, applied: Value, manager: &str) -> Result<Value, CallError> {
        let what = format!("apply {} {}", object.kind.as_str(), object.name);
        let (api, params) = (self.api(object.kind), PatchParams::apply(manager).force());
        let applied = calls::bounded(&what, api.patch(&object.name, &params, &Patch::Apply(applied))).await?;
        calls::raw(&what, applied)
    }

    /// What an uninstall takes along, and Ringfence's own with it.
    async fn owner(&self) -> Result<Option<Value>, CallError> {
        let roles = Api::<ClusterRole>::all(self.context.client.clone());
        let named = ListParams::default()
            .fields(&format!("metadata.name={CLUSTER_ROLE}"))
            .limit(1);
        let found = calls::bounded(&format!("find ClusterRole {CLUSTER_ROLE}"), roles.list_metadata(&named)).await?;
        let role = found
            .items
            .into_iter()
            .find(|role| role.metadata.deletion_timestamp.is_none());
        Ok(role.and_then(|role| role.metadata.uid).map(|uid| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": CLUSTER_ROLE, "uid": uid})
        }))
    }
}

/// By name: that is all that Ringfence may watch.
fn named(name: &str) -> watcher::Config {
    crate::watch::config().fields(&format!("metadata.name={name}"))
}

/// What of a stored object is the chart's to say.
fn part(kind: Kind, stored: &Value) -> Value {
    let found = stored.get(kind.field()).filter(|found| !found.is_null());
    found.cloned().unwrap_or_else(|| match kind {
        Kind::Registration => json!([]),
        Kind::Policy | Kind::Binding => json!({}),
    })
}
