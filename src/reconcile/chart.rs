//! The registrations as the chart rendered them: one that somebody deleted is made again, and what somebody changed in the chart's own is
//! put back. What stands in the two that Ringfence fills is kept elsewhere.
//!
//! What the chart rendered stands in a ConfigMap of the release. It is written as whoever installed the chart writes it, by server-side
//! apply under the same name: the next upgrade then meets no field that is somebody else's. Must never: take the moment between two
//! writes of an upgrade for somebody's edit; make a registration of a release that is going, or one that its end would leave behind.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::SelectAll};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::ConfigMap, rbac::v1::ClusterRole,
};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::registration::{AGAIN, KIND, SETTLE, say_reverted};
use super::{CallError, Context, RESYNC, RETRY, calls, jittered};
use crate::plan::{registers, rendered_webhooks, webhooks_of, with_webhooks};

/// How long a difference lasts before it is somebody's: an upgrade writes the ConfigMap and the registrations one after the other, and an
/// uninstall the registrations first.
const LASTS: Duration = Duration::from_secs(3);
/// The chart's role, with which everything goes that only Ringfence made.
const CLUSTER_ROLE: &str = "ringfence";
/// Who installs a chart, where the ConfigMap does not tell.
const HELM: &str = "helm";

/// What the chart rendered, and under whose name.
struct Rendered {
    registrations: Vec<(String, Value)>,
    manager: String,
}

struct Keeper {
    context: Arc<Context>,
    api: Api<DynamicObject>,
    maps: Api<ConfigMap>,
    /// Name of the ConfigMap.
    map: String,
    /// What was written, and how the API server stores it.
    stood: Option<(Vec<Value>, Vec<Value>)>,
    is_missing: bool,
}

/// Keeps them until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let Some(namespace) = context.release_namespace.clone() else {
        return;
    };
    let resource = ApiResource {
        group: "admissionregistration.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "admissionregistration.k8s.io/v1".to_owned(),
        kind: KIND.to_owned(),
        plural: "validatingwebhookconfigurations".to_owned(),
    };
    let mut keeper = Keeper {
        api: Api::all_with(context.client.clone(), &resource),
        maps: Api::namespaced(context.client.clone(), &namespace),
        map: format!("{}-registrations", context.registration),
        context,
        stood: None,
        is_missing: false,
    };
    let mut events = keeper.events();
    loop {
        let pause = tokio::select! {
            () = stop.cancelled() => return,
            pause = keeper.look() => pause.unwrap_or_else(|error| {
                warn!(error = error.explain(), "the chart's registrations cannot be kept, and are looked at again");
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
    fn names(&self) -> [String; 3] {
        ["", "-bindings", "-policies"].map(|ending| format!("{}{ending}", self.context.registration))
    }

    fn events(&self) -> SelectAll<futures::stream::BoxStream<'static, ()>> {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let client = &self.context.client;
        let mut all = SelectAll::new();
        for name in self.names() {
            let api = Api::<PartialObjectMeta<ValidatingWebhookConfiguration>>::all(client.clone());
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
        let mut differ = Vec::new();
        for (name, registration) in &rendered.registrations {
            if self.differs(name, registration).await? {
                differ.push(name.clone());
            }
        }
        if differ.is_empty() {
            return Ok(RESYNC);
        }
        sleep(LASTS).await;
        let Some(rendered) = self.rendered().await? else {
            return Ok(RESYNC);
        };
        let mut pause = RESYNC;
        for (name, registration) in &rendered.registrations {
            if differ.contains(name) && self.differs(name, registration).await? {
                match self.put_back(name, registration, &rendered.manager).await {
                    Ok(()) => {}
                    Err(error) if error.is_conflict() || error.is_not_found() => pause = AGAIN,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(pause)
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
                    "this ConfigMap is not there, so edited and deleted registrations are not put back: apply the chart again"
                );
            }
            return Ok(None);
        };
        let applied = map
            .managed_fields()
            .iter()
            .max_by_key(|entry| entry.operation.as_deref() == Some("Apply"));
        let manager = applied
            .and_then(|entry| entry.manager.clone())
            .unwrap_or_else(|| HELM.to_owned());
        let mut registrations = Vec::new();
        for name in self.names() {
            let Some(text) = map.data.as_ref().and_then(|data| data.get(&name)) else {
                continue;
            };
            let registration: Value = serde_json::from_str(text).map_err(|source| CallError::Shape {
                what: what.clone(),
                source,
            })?;
            // A registration of another name would be another's.
            if registration.pointer("/metadata/name").and_then(Value::as_str) == Some(&name) {
                registrations.push((name, registration));
            }
        }
        Ok(Some(Rendered { registrations, manager }))
    }

    async fn read(&self, name: &str) -> Result<Option<Value>, CallError> {
        let what = format!("read {KIND} {name}");
        let found = calls::optional(calls::bounded(&what, self.api.get(name)).await)?;
        found.map(|object| calls::raw(&what, object)).transpose()
    }

    /// Whether one is not there, or the chart's own says something else than was rendered.
    async fn differs(&self, name: &str, rendered: &Value) -> Result<bool, CallError> {
        let Some(stored) = self.read(name).await? else {
            return Ok(true);
        };
        if name != self.context.registration {
            return Ok(false);
        }
        let wanted = rendered_webhooks(rendered, &stored);
        let is_as_it_stood =
            |(before, stored_then): &(Vec<Value>, Vec<Value>)| *before == wanted && registers(&stored, stored_then);
        Ok(!registers(&stored, &wanted) && !self.stood.as_ref().is_some_and(is_as_it_stood))
    }

    async fn put_back(&mut self, name: &str, rendered: &Value, manager: &str) -> Result<(), CallError> {
        let before = self.read(name).await?;
        let mut applied = rendered.clone();
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
        let mut stored = self.apply(name, applied, manager).await?;
        if name == self.context.registration {
            // An apply leaves what it does not speak of: a selector, a condition, a webhook more.
            let wanted = rendered_webhooks(rendered, &stored);
            if !registers(&stored, &wanted) {
                let what = format!("write {KIND} {name}");
                let whole = calls::parse(&what, with_webhooks(stored, wanted.clone()))?;
                let written = calls::bounded(&what, self.api.replace(name, &calls::writing(), &whole)).await?;
                stored = calls::raw(&what, written)?;
            }
            self.stood = Some((wanted, webhooks_of(&stored).to_vec()));
        }
        let is_same = before
            .as_ref()
            .is_some_and(|before| webhooks_of(before) == webhooks_of(&stored));
        if !is_same {
            let note = if before.is_some() {
                "its webhooks were changed by somebody else, and are again as the chart has them"
            } else {
                "it was deleted by somebody, and is there again as the chart has it"
            };
            say_reverted(&self.context, &stored, note).await;
        }
        Ok(())
    }

    async fn apply(&self, name: &str, registration: Value, manager: &str) -> Result<Value, CallError> {
        let what = format!("apply {KIND} {name}");
        let params = PatchParams::apply(manager).force();
        let applied = calls::bounded(&what, self.api.patch(name, &params, &Patch::Apply(registration))).await?;
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
