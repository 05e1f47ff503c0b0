//! The registration `ringfence-policies`: kept as the RegoPolicies in force need it, whoever else writes it.
//!
//! Must never: write before every RegoPolicy was looked at (what is missing would be let through), write where nothing differs, lose
//! somebody else's newer write, or make a registration: that is the chart's.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta},
    runtime::{WatchStreamExt, events::EventType, watcher},
};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CallError, Context, RESYNC, RETRY, calls, jittered};
use crate::{
    plan::{policy_webhooks, registers, says_all, webhooks_of, with_webhooks},
    policy::Snapshot,
};

/// Events in this time cause one look: our own writes come back as events too.
const SETTLE: Duration = Duration::from_millis(100);
/// How long after a write the next look is at least: whoever writes against us must not make a loop of it.
const AFTER_WRITE: Duration = Duration::from_secs(1);
/// How soon it is looked again after somebody else wrote first.
const AGAIN: Duration = Duration::from_millis(200);
const KIND: &str = "ValidatingWebhookConfiguration";

/// Whether the API server asks about what is in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Interception {
    /// Revision of the policies that were in force.
    pub(super) revision: String,
    /// Why it does not, and what to do.
    pub(super) state: Result<(), String>,
}

impl Default for Interception {
    fn default() -> Self {
        Self {
            revision: String::new(),
            state: Err("the registration was not looked at yet".to_owned()),
        }
    }
}

/// What a look came to.
enum Looked {
    /// It stands as it should, or stands so now.
    Stands {
        /// Whether that took a write.
        written: bool,
    },
    /// Somebody wrote first.
    Lost,
    /// It does not, for this reason.
    Not(String),
}

/// Keeps the registration until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    let mut keeper = Keeper::new(context);
    let mut events = keeper.events();
    let mut changes = keeper.context.registry.changes();
    loop {
        let published = Arc::clone(&changes.borrow_and_update());
        let pause = if published.synced {
            tokio::select! {
                () = stop.cancelled() => return,
                pause = keeper.look(&published.snapshot) => pause,
            }
        } else {
            RESYNC
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(jittered(pause)) => {}
            Ok(()) = changes.changed() => {}
            Some(()) = events.next() => {}
        }
        sleep(SETTLE).await;
        while events.next().now_or_never().flatten().is_some() {}
    }
}

/// Webhooks that stood.
struct Stood {
    wanted: Vec<Value>,
    /// The same as the API server stores them.
    stored: Vec<Value>,
}

struct Keeper {
    context: Arc<Context>,
    api: Api<DynamicObject>,
    name: String,
    /// What stood when it was last looked: a difference from it, where the same is still wanted, is somebody's edit.
    stood: Option<Stood>,
}

impl Keeper {
    fn new(context: Arc<Context>) -> Self {
        let resource = ApiResource {
            group: "admissionregistration.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "admissionregistration.k8s.io/v1".to_owned(),
            kind: KIND.to_owned(),
            plural: "validatingwebhookconfigurations".to_owned(),
        };
        Self {
            api: Api::all_with(context.client.clone(), &resource),
            name: format!("{}-policies", context.registration),
            context,
            stood: None,
        }
    }

    /// Whenever the registration, or that of the chart whose address and authority it shares, may have changed.
    fn events(&self) -> BoxStream<'static, ()> {
        let watch = |name: &str| {
            let api = Api::<PartialObjectMeta<ValidatingWebhookConfiguration>>::all(self.context.client.clone());
            // By name: that is all that Ringfence may watch.
            let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
            watcher(api, named).default_backoff().map(drop).boxed()
        };
        stream::select(watch(&self.name), watch(&self.context.registration)).boxed()
    }

    /// One look, of which the policies are told. Returns when the next is due.
    async fn look(&mut self, snapshot: &Snapshot) -> Duration {
        let looked = self.make_so(snapshot).await.unwrap_or_else(|error| {
            Looked::Not(format!(
                "the API server may not ask about all that it matches: {}",
                error.explain()
            ))
        });
        let (state, written) = match looked {
            Looked::Stands { written } => (Ok(()), written),
            Looked::Lost => return AGAIN,
            Looked::Not(why) => (Err(why), false),
        };
        let pause = if state.is_ok() { RESYNC } else { RETRY };
        let now = Interception {
            revision: snapshot.revision().to_owned(),
            state,
        };
        self.context.interception.send_if_modified(|before| {
            if *before == now {
                return false;
            }
            if let Err(why) = &now.state
                && before.state != now.state
            {
                warn!(registration = self.name, why, "RegoPolicies are not all asked about");
            }
            *before = now;
            true
        });
        if written {
            sleep(AFTER_WRITE).await;
        }
        pause
    }

    async fn make_so(&mut self, snapshot: &Snapshot) -> Result<Looked, CallError> {
        let chart = &self.context.registration;
        let Some(stored) = self.read(&self.name).await? else {
            self.stood = None;
            return Ok(Looked::Not(missing(&self.name)));
        };
        let Some(charts) = self.read(chart).await? else {
            return Ok(Looked::Not(missing(chart)));
        };
        let release_namespace = self.context.release_namespace.as_deref().unwrap_or_default();
        let wanted = match policy_webhooks(&snapshot.entries(), &charts, release_namespace) {
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
            return Ok(Looked::Stands { written: false });
        }
        let written = match self.replace(with_webhooks(stored, wanted.clone())).await {
            Ok(written) => written,
            Err(error) if error.is_conflict() || error.is_not_found() => return Ok(Looked::Lost),
            Err(error) => return Err(error),
        };
        info!(
            registration = self.name,
            revision = snapshot.revision(),
            webhooks = wanted.len(),
            "what RegoPolicies match was written"
        );
        if was_edited {
            self.say_reverted(&written).await;
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
        Ok(Looked::Stands { written: true })
    }

    async fn say_reverted(&self, written: &Value) {
        self.context.metrics.drift_reverted(KIND);
        info!(registration = self.name, "a foreign change was reverted");
        let text = |field: &str| Some(written.get("metadata")?.get(field)?.as_str()?.to_owned());
        let object = ValidatingWebhookConfiguration {
            metadata: ObjectMeta {
                name: text("name"),
                uid: text("uid"),
                ..ObjectMeta::default()
            },
            ..ValidatingWebhookConfiguration::default()
        };
        let note = "its webhooks were changed by somebody else, and are as RegoPolicies need them again";
        self.context
            .say(&object, EventType::Warning, "DriftReverted", "Reconcile", note)
            .await;
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

fn missing(name: &str) -> String {
    format!("{KIND} {name} is not there, and Ringfence may not make it: apply the chart again")
}
