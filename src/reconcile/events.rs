//! Events, written by kube's recorder.
//!
//! The recorder keeps each Event for minutes, to count what is told again, and lets go of them only with the next one: after five thousand
//! declarations it held more than all that is kept of the AIWorkflows. Must never: keep more than some of them, or hold up the work that an Event
//! tells of.

use std::sync::{Mutex, PoisonError};

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::time::timeout;
use tracing::debug;

use super::calls::DEADLINE;
use crate::{api::MANAGER, review::clip_bytes};

/// Most Events that are kept. What is told again after so many others is a new one.
const MOST: usize = 256;
/// The API server refuses a note above so many bytes.
const MAX_NOTE: usize = 1024;

pub(super) struct Events {
    client: Client,
    /// With how many it was told.
    recorder: Mutex<(Recorder, usize)>,
}

fn recorder(client: &Client) -> Recorder {
    let reporter = Reporter {
        controller: MANAGER.to_owned(),
        instance: None,
    };
    Recorder::new(client.clone(), reporter)
}

impl Events {
    pub(super) fn new(client: Client) -> Self {
        Self {
            recorder: Mutex::new((recorder(&client), 0)),
            client,
        }
    }

    /// Best effort: failing to write an Event is never a reason to stop the work that it tells of.
    pub(super) async fn say(
        &self,
        object: &impl Resource<DynamicType = ()>,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(clip_bytes(note, MAX_NOTE).to_owned()),
            action: action.to_owned(),
            secondary: None,
        };
        let (recorder, reference) = (self.recorder(), object.object_ref(&()));
        match timeout(DEADLINE, recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "event was not written"),
            Err(_) => debug!("event was not written in time"),
        }
    }

    fn recorder(&self) -> Recorder {
        let mut kept = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.1 == MOST {
            *kept = (recorder(&self.client), 0);
        }
        kept.1 += 1;
        kept.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::{body::Body, http};
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(name: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("ai".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    #[tokio::test]
    async fn what_is_told_again_counts_until_so_many_others_were_told() {
        let methods = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&methods);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            heard.lock().unwrap().push(request.method().clone());
            std::future::ready(Ok::<_, Infallible>(http::Response::new(Body::from(
                r#"{"metadata": {"namespace": "ai"}, "eventTime": null}"#,
            ))))
        });
        let events = Events::new(Client::new(service, "default"));
        let say = async |name: &str| {
            events
                .say(
                    &object(name),
                    EventType::Normal,
                    "Ready",
                    "Reconcile",
                    &"é".repeat(2000),
                )
                .await;
        };
        for _ in 0..2 {
            say("first").await;
        }
        for number in 2..MOST {
            say(&number.to_string()).await;
        }
        say("first").await;
        let methods = methods.lock().unwrap();
        assert_eq!(methods.len(), MOST + 1);
        let told_again: Vec<_> = methods
            .iter()
            .enumerate()
            .filter(|(_, method)| **method == http::Method::PATCH)
            .collect();
        assert_eq!(
            told_again,
            [(1, &http::Method::PATCH)],
            "the last one is new, so nothing older is kept"
        );
    }
}
