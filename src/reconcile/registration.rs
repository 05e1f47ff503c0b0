//! A registration that the chart renders empty and Ringfence fills: kept as it should be, whoever else writes it.
//!
//! Must never: write where nothing differs, lose somebody else's newer write, or make a registration: that is done as the chart has it.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api, Resource,
    api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta},
    runtime::{WatchStreamExt, events::EventType, watcher},
};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context, calls};
use crate::plan::{registers, says_all, webhooks_of, with_webhooks};

/// Events in this time cause one look: our own writes come back as events too.
pub(super) const SETTLE: Duration = Duration::from_millis(100);
/// How soon it is looked again after somebody else wrote first.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
pub(super) const KIND: &str = "ValidatingWebhookConfiguration";

/// What a look came to.
pub(super) enum Looked {
    /// It stands as it should, or stands so now.
    Stands {
        /// Whether that took a write.
        written: bool,
        /// Whether that put back what somebody else had changed.
        reverted: bool,
    },
    /// Somebody wrote first.
    Lost,
    /// It does not, for this reason.
    Not(String),
}

/// Webhooks that stood.
struct Stood {
    wanted: Vec<Value>,
    /// The same as the API server stores them.
    stored: Vec<Value>,
}

pub(super) struct Kept {
    context: Arc<Context>,
    api: Api<DynamicObject>,
    /// Name of the registration.
    pub(super) name: String,
    /// What stood when it was last looked: a difference from it, where the same is still wanted, is somebody's edit.
    stood: Option<Stood>,
}

impl Kept {
    /// The registration of the chart's name with that ending.
    pub(super) fn new(context: Arc<Context>, ending: &str) -> Self {
        let resource = ApiResource {
            group: "admissionregistration.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "admissionregistration.k8s.io/v1".to_owned(),
            kind: KIND.to_owned(),
            plural: "validatingwebhookconfigurations".to_owned(),
        };
        Self {
            api: Api::all_with(context.client.clone(), &resource),
            name: format!("{}-{ending}", context.registration),
            context,
            stood: None,
        }
    }

    /// Whenever the registration, or that of the chart whose address and authority it shares, may have changed.
    pub(super) fn events(&self) -> BoxStream<'static, ()> {
        let watch = |name: &str| {
            let api = Api::<PartialObjectMeta<ValidatingWebhookConfiguration>>::all(self.context.client.clone());
            // By name: that is all that Ringfence may watch.
            let named = crate::watch::config().fields(&format!("metadata.name={name}"));
            watcher(api, named).default_backoff().map(drop).boxed()
        };
        stream::select(watch(&self.name), watch(&self.context.registration)).boxed()
    }

    /// Has it say what is wanted, which follows from the chart's registration. `what` says it for the log and for whoever edited it.
    pub(super) async fn keep(
        &mut self,
        wanted: impl FnOnce(&Value) -> Result<Vec<Value>, String>,
        what: &str,
    ) -> Result<Looked, CallError> {
        let chart = &self.context.registration;
        let Some(stored) = self.read(&self.name).await? else {
            self.stood = None;
            return Ok(Looked::Not(missing(&self.name)));
        };
        let Some(charts) = self.read(chart).await? else {
            return Ok(Looked::Not(missing(chart)));
        };
        let wanted = match wanted(&charts) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Looked::Not(format!("{KIND} {chart}: {why}"))),
        };
        let before = self.stood.as_ref().filter(|stood| stood.wanted == wanted);
        let was_edited = before.is_some();
        if registers(&stored, &wanted) || before.is_some_and(|stood| registers(&stored, &stood.stored)) {
            self.stood = Some(Stood {
                wanted,
                stored: webhooks_of(&stored).to_vec(),
            });
            return Ok(Looked::Stands {
                written: false,
                reverted: false,
            });
        }
        let written = match self.replace(with_webhooks(stored, wanted.clone())).await {
            Ok(written) => written,
            Err(error) if error.is_conflict() || error.is_not_found() => return Ok(Looked::Lost),
            Err(error) => return Err(error),
        };
        info!(registration = self.name, webhooks = wanted.len(), "{what} was written");
        if was_edited {
            let note = format!("its webhooks were changed by somebody else, and say again {what}");
            say_reverted(&self.context, &written, &note).await;
        }
        let answered = webhooks_of(&written);
        if !says_all(answered, &wanted) {
            let why = format!(
                "the API server stores {KIND} {} in another way than Ringfence wrote it, so nobody can tell what it asks about: use a \
                 Ringfence that knows this version of Kubernetes",
                self.name
            );
            return Ok(Looked::Not(why));
        }
        self.stood = Some(Stood {
            stored: answered.to_vec(),
            wanted,
        });
        Ok(Looked::Stands {
            written: true,
            reverted: was_edited,
        })
    }

    async fn read(&self, name: &str) -> Result<Option<Value>, CallError> {
        let what = format!("read {KIND} {name}");
        let found = calls::optional(calls::bounded(&what, self.api.get(name)).await)?;
        found.map(|object| calls::raw(&what, object)).transpose()
    }

    /// Replaces it whole, where it is still what was read.
    async fn replace(&self, object: Value) -> Result<Value, CallError> {
        let what = format!("write {KIND} {}", self.name);
        let object = calls::parse(&what, object)?;
        let written = calls::bounded(&what, self.api.replace(&self.name, &calls::writing(), &object)).await?;
        calls::raw(&what, written)
    }
}

/// Tells that somebody else's change of a registration was undone: in the log, the metric and an Event about it.
pub(super) async fn say_reverted(context: &Context, written: &Value, note: &str) {
    say_reverted_of::<ValidatingWebhookConfiguration>(context, written, KIND, note).await;
}

/// The same of any object of the chart.
pub(super) async fn say_reverted_of<K>(context: &Context, written: &Value, kind: &'static str, note: &str)
where
    K: Default + Resource<DynamicType = ()>,
{
    context.metrics.drift_reverted(kind);
    let text = |field: &str| Some(written.get("metadata")?.get(field)?.as_str()?.to_owned());
    let mut object = K::default();
    *object.meta_mut() = ObjectMeta {
        name: text("name"),
        uid: text("uid"),
        ..ObjectMeta::default()
    };
    info!(kind, name = object.meta().name, note, "a foreign change was reverted");
    context
        .events
        .say(&object, EventType::Warning, "DriftReverted", "Reconcile", note)
        .await;
}

fn missing(name: &str) -> String {
    format!("{KIND} {name} is not there: if it does not come back within seconds, apply the chart again")
}
