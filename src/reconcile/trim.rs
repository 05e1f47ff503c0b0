//! Of what tenants write, what the controllers keep. A store holds every object of its kind, and each may be as large as an object can be:
//! within what its own definition lets it hold, and in metadata that was written while nobody reviewed it.
//!
//! Must never: keep less than a plan asks for, or let what was left out be written back.

use kube::{
    Api, Client, Resource, ResourceExt,
    api::ObjectMeta,
    runtime::{Controller, WatchStreamExt, reflector},
};
use serde::de::DeserializeOwned;

use super::{lean, paged_of_others};
use crate::api::{AIWorkflow, AIWorkflowGrant, AIWorkflowSpec, REVIEWED_ANNOTATION, RegoPolicyException};
use crate::plan;
use crate::watch::lasting;

/// Finalizers that are kept, to be named where they hold a deletion.
const FINALIZERS: usize = 8;

/// A controller of a kind that tenants write: its store keeps what `trim` leaves.
pub(super) fn controller<K>(client: &Client, trim: fn(&mut K)) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let trimmed = lasting(lean::events(Api::all(client.clone()), paged_of_others())).modify(trim);
    Controller::for_stream(reflector(writer, trimmed).applied_objects(), reader)
}

/// A workflow with what its plan asks for.
pub(super) fn workflow(workflow: &mut AIWorkflow) {
    metadata(workflow.meta_mut());
}

/// A workflow with what is asked of a peer of `us`. Whoever names many holds all of them at once.
pub(super) fn peer(peer: &mut AIWorkflow, us: &(String, String)) {
    workflow(peer);
    let own = peer.namespace().unwrap_or_default();
    peer.spec = AIWorkflowSpec {
        engine: None,
        owner: None,
        launchers: Vec::new(),
        identity: None,
        images: Vec::new(),
        permissions: None,
        secrets: Vec::new(),
        network: peer.spec.network.take().map(|network| plan::naming(network, &own, us)),
        debug: None,
    };
    peer.status = None;
}

/// A grant with whom it names. What it lets them hold is read when it is reconciled.
pub(super) fn grant(grant: &mut AIWorkflowGrant) {
    metadata(grant.meta_mut());
    grant.spec.rules = Vec::new();
    grant.status = None;
}

/// An exception.
pub(super) fn exception(exception: &mut RegoPolicyException) {
    metadata(exception.meta_mut());
}

/// Metadata without what is not asked for. A status that is written carries it, and the API server takes nothing but the status.
pub(super) fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.labels = None;
    metadata.owner_references = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key == REVIEWED_ANNOTATION);
    }
    if let Some(finalizers) = &mut metadata.finalizers {
        finalizers.truncate(FINALIZERS);
        finalizers.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use serde_json::{Value, json};

    use super::*;

    /// As large as metadata can be made, several times over.
    fn fat(kind: &str, spec: Value) -> Value {
        let many = |prefix: &'static str| (0..20_000).map(move |number| format!("{prefix}{number}/x"));
        let labels: serde_json::Map<_, _> = many("l").map(|key| (key, json!("x".repeat(63)))).collect();
        let mut annotations = serde_json::Map::new();
        annotations.insert("big".to_owned(), json!("x".repeat(250_000)));
        annotations.insert(REVIEWED_ANNOTATION.to_owned(), json!("3"));
        json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": kind,
            "metadata": {
                "namespace": "ai", "name": "x", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
                "labels": labels, "annotations": annotations, "finalizers": many("f").collect::<Vec<_>>(),
                "ownerReferences": many("o").map(|name| json!({"apiVersion": "v1", "kind": "X", "name": name, "uid": name})).collect::<Vec<_>>(),
                "managedFields": many("m").map(|name| json!({"manager": name, "fieldsV1": {"f:x": {}}})).collect::<Vec<_>>(),
            },
            "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        })
    }

    fn cut<K: DeserializeOwned + serde::Serialize>(whole: &Value, cut: fn(&mut K)) -> Value {
        let mut object: K = serde_json::from_value(whole.clone()).unwrap();
        cut(&mut object);
        let left = serde_json::to_value(object).unwrap();
        let size = left.to_string().len();
        assert!(size < 4096, "{size} bytes of {} are kept", whole.to_string().len());
        left
    }

    #[test]
    fn what_plans_ask_for_is_kept_and_what_anybody_may_add_is_not() {
        let network = json!({"ingress": [], "egress": [{"name": "n", "to": {"workflow": {"name": "y"}}, "ports": [{"port": 1}]}]});
        let spec = json!({"launchers": [{"user": "lea"}], "images": ["i"], "network": network});
        let whole = fat("AIWorkflow", spec.clone());
        let kept = cut(&whole, workflow);
        for field in [
            "namespace",
            "name",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
        ] {
            assert_eq!(kept["metadata"][field], whole["metadata"][field], "{field}");
        }
        assert_eq!(kept["metadata"]["annotations"], json!({REVIEWED_ANNOTATION: "3"}));
        assert_eq!(kept["metadata"]["finalizers"].as_array().unwrap().len(), FINALIZERS);
        assert_eq!(kept["spec"]["launchers"], spec["launchers"]);
        assert_eq!(kept["status"], whole["status"]);

        // Of a peer, that it names us: not what else it names, however much that is.
        let to = |peer: Value| json!({"name": "n", "to": peer, "ports": vec![json!({"port": 1}); 32]});
        let mut egress = vec![to(json!({"cidrs": vec!["203.0.113.0/24"; 10_000]})); 8];
        egress.extend(vec![to(json!({"workflow": {"namespace": "ai", "name": "y"}})); 8]);
        let mut wide = whole.clone();
        wide["spec"]["network"]["egress"] = egress.into();
        let kept = cut(&wide, |object| peer(object, &("ai".to_owned(), "y".to_owned())));
        let rules = &kept["spec"]["network"]["egress"];
        assert_eq!(
            *rules,
            json!([{"name": "n", "to": {"workflow": {"namespace": "ai", "name": "y"}}}])
        );
        let kept = cut(&wide, |object| peer(object, &("ai".to_owned(), "z".to_owned())));
        assert_eq!(kept["spec"]["network"], json!({}));

        let rule = json!({"apiGroups": [""], "resources": ["services"], "resourceNames": vec!["x".repeat(253); 32], "verbs": ["get"]});
        let from = json!([{"namespace": "ai", "name": "triage"}]);
        let whole = fat("AIWorkflowGrant", json!({"from": from, "rules": vec![rule; 16]}));
        assert_eq!(cut(&whole, grant)["spec"], json!({"from": from, "rules": []}));
    }

    /// The whole list is one answer, and one object after the other is cut as it is taken from it.
    #[tokio::test]
    async fn what_tenants_write_comes_in_small_pages() {
        use std::sync::{Arc, Mutex};

        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
            let url = request.uri().to_string();
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": [fat("AIWorkflowGrant", json!({"from": [], "rules": []}))]});
            heard.lock().unwrap().push(url);
            let body = axum::body::Body::from(list.to_string());
            std::future::ready(Ok::<_, std::convert::Infallible>(axum::http::Response::new(body)))
        });
        let client = Client::new(service, "default");
        let grants = controller::<AIWorkflowGrant>(&client, grant);
        let store = grants.store();
        let running = tokio::spawn(
            grants
                .run(
                    |_, _| async {
                        Ok::<_, std::convert::Infallible>(kube::runtime::controller::Action::await_change())
                    },
                    |_, _, _| kube::runtime::controller::Action::await_change(),
                    Arc::new(()),
                )
                .for_each(|_| async {}),
        );
        tokio::time::timeout(std::time::Duration::from_secs(10), store.wait_until_ready())
            .await
            .unwrap()
            .unwrap();
        running.abort();
        let kept = store.state();
        assert_eq!((kept.len(), kept[0].labels().len()), (1, 0));
        let urls = asked.lock().unwrap().clone();
        assert!(urls[0].contains("limit=4"), "{urls:?}");
    }
}
