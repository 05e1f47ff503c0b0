//! Makes the registration trust the certificate that is served.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::TlsError;
use super::call::call;
use crate::api::MANAGER;

/// Lost races before giving up until the next tick.
const ATTEMPTS: usize = 5;

/// Writes `ca_cert` into each webhook that does not have it. Tells `on_difference` before it does.
pub(super) async fn inject(
    api: &Api<ValidatingWebhookConfiguration>,
    name: &str,
    ca_cert: &str,
    on_difference: impl Fn(),
) -> Result<(), TlsError> {
    let ca_bundle = ByteString(ca_cert.as_bytes().to_vec());
    for _ in 0..ATTEMPTS {
        let found = call(
            &format!("read ValidatingWebhookConfiguration {name}"),
            api.get_opt(name),
        )
        .await?;
        let found = found.ok_or_else(|| TlsError::NotRegistered(name.to_owned()))?;
        let Some(patch) = patch(&found, &ca_bundle) else {
            return Ok(());
        };
        on_difference();
        tracing::info!(configuration = name, "writing caBundle");
        let what = format!("write caBundle of ValidatingWebhookConfiguration {name}");
        let patch = serde_json::from_value(patch).map_err(|_| TlsError::Api {
            what: what.clone(),
            problem: "the patch is none".to_owned(),
            code: 0,
        })?;
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match call(&what, api.patch(name, &params, &Patch::Json::<()>(patch))).await {
            Ok(_) => {}
            Err(error) if error.is_refused_patch() => {}
            Err(error) => return Err(error),
        }
        // Read again, whoever wrote: only what is there counts.
    }
    Err(TlsError::Contended {
        what: format!("write caBundle of ValidatingWebhookConfiguration {name}"),
    })
}

/// Whether each webhook of a registration trusts exactly that; one that is not there asks nobody.
pub(super) async fn trusts(
    api: &Api<ValidatingWebhookConfiguration>,
    name: &str,
    ca_cert: &str,
) -> Result<bool, TlsError> {
    let what = format!("read ValidatingWebhookConfiguration {name}");
    let found = call(&what, api.get_opt(name)).await?;
    let ca_bundle = ByteString(ca_cert.as_bytes().to_vec());
    Ok(found.is_none_or(|found| patch(&found, &ca_bundle).is_none()))
}

/// The JSON patch that is needed, if any. Bound to the version that was read: webhooks are a list, and an index may move.
fn patch(found: &ValidatingWebhookConfiguration, ca_bundle: &ByteString) -> Option<Value> {
    let mut operations = vec![json!({
        "op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version,
    })];
    for (index, webhook) in found.webhooks.iter().flatten().enumerate() {
        if webhook.client_config.ca_bundle.as_ref() != Some(ca_bundle) {
            operations.push(json!({
                "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": ca_bundle,
            }));
        }
    }
    (operations.len() > 1).then(|| Value::from(operations))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::fake_api::FakeApi;
    use super::*;

    const PATH: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";

    fn registration() -> Value {
        let webhook = |name: &str| {
            json!({
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "newerThanUs": {"kept": true},
                "clientConfig": {"service": {"name": "hook", "namespace": "ringfence"}},
            })
        };
        json!({"metadata": {"name": "ringfence"}, "webhooks": [webhook("fence.ringfence.dev"), webhook("label.ringfence.dev")]})
    }

    async fn run(api: &FakeApi, ca_cert: &str) -> (Result<(), TlsError>, bool) {
        let differed = Cell::new(false);
        let result = inject(&Api::all(api.client()), "ringfence", ca_cert, || differed.set(true)).await;
        (result, differed.get())
    }

    #[tokio::test]
    async fn every_webhook_gets_the_bundle_once_and_keeps_all_else() {
        let api = FakeApi::default();
        api.put(PATH, registration());
        let (result, differed) = run(&api, "CA").await;
        result.unwrap();
        assert!(differed);
        let written = api.get(PATH).unwrap();
        for index in 0..2 {
            assert_eq!(written["webhooks"][index]["clientConfig"]["caBundle"], "Q0E=");
            assert_eq!(written["webhooks"][index]["newerThanUs"], json!({"kept": true}));
        }
        let (result, differed) = run(&api, "CA").await;
        result.unwrap();
        assert!(!differed);
        assert_eq!(
            api.get(PATH).unwrap(),
            written,
            "nothing is written where nothing differs"
        );
    }

    #[tokio::test]
    async fn a_bundle_that_was_changed_is_put_back() {
        let api = FakeApi::default();
        api.put(PATH, registration());
        run(&api, "CA").await.0.unwrap();
        api.edit(PATH, |written| {
            written["webhooks"][1]["clientConfig"]["caBundle"] = json!("ZXZpbA==")
        });
        let (result, differed) = run(&api, "CA").await;
        result.unwrap();
        assert!(differed);
        assert_eq!(
            api.get(PATH).unwrap()["webhooks"][1]["clientConfig"]["caBundle"],
            "Q0E="
        );
    }

    #[tokio::test]
    async fn an_edit_between_reading_and_writing_is_not_lost() {
        let api = FakeApi::default();
        api.put(PATH, registration());
        api.before_next_write(PATH, |found| {
            found["webhooks"].as_array_mut().unwrap().remove(0);
        });
        run(&api, "CA").await.0.unwrap();
        let written = api.get(PATH).unwrap();
        assert_eq!(written["webhooks"].as_array().unwrap().len(), 1);
        assert_eq!(written["webhooks"][0]["clientConfig"]["caBundle"], "Q0E=");
    }

    #[tokio::test]
    async fn a_missing_registration_says_what_to_do() {
        let (result, _) = run(&FakeApi::default(), "CA").await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains("apply the chart"), "{error}");
    }
}
