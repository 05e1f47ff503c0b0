use std::sync::{Arc, Mutex};

use axum::http;
use kube::client::Body;
use rstest::rstest;
use serde_json::json;

use super::*;

/// A client whose API server answers every path with that status, or from `objects`; and the paths that were asked.
fn api(status: u16, objects: Value) -> (Live, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let path = request.uri().to_string();
        let found = objects.get(&path).cloned();
        log.lock().unwrap().push(path);
        let (status, body) = match found {
            Some(object) => (200, object),
            None => (
                status,
                json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "x", "code": status}),
            ),
        };
        let response = http::Response::builder()
            .status(status)
            .body(Body::from(serde_json::to_vec(&body).unwrap()));
        std::future::ready(response)
    });
    (Live::new(Client::new(service, "default"), "ringfence"), asked)
}

fn named() -> Named {
    Named {
        namespace: "ai".into(),
        name: "triage".into(),
    }
}

fn owner(api_version: &str, kind: &str, name: &str) -> Key {
    let reference = OwnerRef {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: "1".into(),
    };
    Key::Owner("ai".into(), reference)
}

/// Of the Deployment `invoice-triage-of-the-accounting-department-worker-nightly`.
const LONG: &str = "invoice-triage-of-the-accounting-department-worker-nightly-5d4f8c7b9d";
const LONG_PATH: &str =
    "/apis/apps/v1/namespaces/ai/replicasets/invoice-triage-of-the-accounting-department-worker-nightly-5d4f8c7b9d";

#[rstest]
#[case::account(Key::Account(named()), "/api/v1/namespaces/ai/serviceaccounts/triage")]
#[case::class(Key::Class("default".into()), "/apis/ringfence.dev/v1alpha1/aiworkflowclasses/default")]
#[case::default_deny(Key::DefaultDeny("ai".into()), "/apis/networking.k8s.io/v1/namespaces/ai/networkpolicies/ringfence")]
#[case::namespace(Key::Namespace("ai".into()), "/api/v1/namespaces/ai")]
#[case::workflow(
    Key::Workflow(named()),
    "/apis/ringfence.dev/v1alpha1/namespaces/ai/aiworkflows/triage"
)]
#[case::registration(
    Key::Registration,
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence"
)]
#[case::job(owner("batch/v1", "Job", "j"), "/apis/batch/v1/namespaces/ai/jobs/j")]
#[case::one_long_part(owner("apps/v1", "ReplicaSet", LONG), LONG_PATH)]
#[case::controller(
    owner("v1", "ReplicationController", "r"),
    "/api/v1/namespaces/ai/replicationcontrollers/r"
)]
#[tokio::test]
async fn every_question_is_one_consistent_get(#[case] key: Key, #[case] path: &str) {
    let mut objects = json!({});
    let object = json!({"metadata": {"uid": "1"}});
    objects[path] = object.clone();
    let (live, asked) = api(404, objects);
    assert_eq!(live.get(&key).await, Ok(Some(object)));
    assert_eq!(
        *asked.lock().unwrap(),
        [path],
        "and no resourceVersion, which would allow an old answer"
    );
}

#[rstest]
#[case::namespaced(true, "/apis/argoproj.io/v1alpha1/namespaces/ai/workflows/w")]
#[case::cluster_scoped(false, "/apis/argoproj.io/v1alpha1/workflows/w")]
#[tokio::test]
async fn the_plural_of_a_foreign_kind_is_asked_for(#[case] namespaced: bool, #[case] path: &str) {
    let mut objects = json!({"/apis/argoproj.io/v1alpha1": {"resources": [
        {"kind": "Workflow", "name": "workflows/status", "namespaced": namespaced},
        {"kind": "Workflow", "name": "workflows", "namespaced": namespaced},
    ]}});
    let object = json!({"metadata": {"uid": "1"}});
    objects[path] = object.clone();
    let (live, _) = api(404, objects);
    assert_eq!(
        live.get(&owner("argoproj.io/v1alpha1", "Workflow", "w")).await,
        Ok(Some(object))
    );
    assert_eq!(live.get(&owner("argoproj.io/v1alpha1", "Other", "w")).await, Ok(None));
    assert_eq!(live.get(&owner("example.com/v1", "Workflow", "w")).await, Ok(None));
}

#[rstest]
#[case::name("batch/v1", "Job", "../../secrets/x")]
#[case::version("batch/v1?x=", "Job", "j")]
#[case::group("../api/v1", "Job", "j")]
#[case::too_many("a/b/c", "Job", "j")]
#[case::empty("", "Job", "j")]
#[case::query("batch/v1", "Job", "j?resourceVersion=0")]
#[tokio::test]
async fn no_text_of_a_reference_becomes_another_url(#[case] api_version: &str, #[case] kind: &str, #[case] name: &str) {
    let (live, asked) = api(200, json!({}));
    assert_eq!(live.get(&owner(api_version, kind, name)).await, Ok(None));
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_owner_that_may_not_be_read_says_how_it_could() {
    let (live, _) = api(403, json!({}));
    let error = live.get(&owner("batch/v1", "Job", "j")).await.unwrap_err();
    assert!(error.why.ends_with(OWNERS_HINT), "{error}");
    let error = live.get(&Key::Workflow(named())).await.unwrap_err();
    assert!(!error.why.contains("aggregate-to-owners"), "{error}");
}

#[rstest]
#[case::forbidden(403)]
#[case::throttled(429)]
#[case::broken(500)]
#[case::away(503)]
#[tokio::test]
async fn only_not_found_means_absent(#[case] status: u16) {
    for key in [Key::Workflow(named()), Key::Exceptions("ai".into())] {
        let (live, _) = api(status, json!({}));
        let error = live.get(&key).await.unwrap_err();
        assert!(
            error.to_string().contains("ai could not be read") || error.to_string().contains("AIWorkflow ai/triage"),
            "{error}"
        );
        assert!(error.why.contains(&status.to_string()), "{error}");
    }
    let (live, _) = api(404, json!({}));
    assert_eq!(live.get(&Key::Workflow(named())).await, Ok(None));
}

#[rstest]
#[case::whole(json!({}), "")]
#[case::cut_off(json!({"continue": "token"}), "token")]
#[tokio::test]
async fn exceptions_are_one_consistent_page(#[case] metadata: Value, #[case] next: &str) {
    let path = "/apis/ringfence.dev/v1alpha1/namespaces/ai/regopolicyexceptions?&limit=500";
    let mut objects = json!({});
    objects[path] = json!({"metadata": metadata, "items": [{"newerThanUs": 1}]});
    let (live, asked) = api(500, objects);
    let expected = json!({"metadata": {"continue": next}, "items": [{"newerThanUs": 1}]});
    assert_eq!(live.get(&Key::Exceptions("ai".into())).await, Ok(Some(expected)));
    assert_eq!(*asked.lock().unwrap(), [path], "and no resourceVersion");
}

/// Two workflows on two pages.
fn workflows() -> Value {
    let path = "/apis/ringfence.dev/v1alpha1/namespaces/ai/aiworkflows?&limit=500";
    let night = json!({"metadata": {"name": "night"}, "spec": {"identity": {"serviceAccountName": "shift"}}});
    let triage = json!({"metadata": {"name": "triage"}, "spec": {"identity": {"serviceAccountName": null}}});
    let (first, second) = (path.to_owned(), format!("{path}&continue=more"));
    json!({
        first: {"metadata": {"continue": "more"}, "items": [night]},
        second: {"metadata": {}, "items": [triage]},
    })
}

#[rstest]
#[case::declared("shift", Some("night"))]
#[case::by_its_own_name("triage", Some("triage"))]
#[case::that_names_another("night", None)]
#[case::nobodys("other", None)]
#[tokio::test]
async fn whose_an_account_is_is_looked_for_on_every_page(#[case] account: &str, #[case] workflow: Option<&str>) {
    let key = Key::AccountOwner(Named {
        namespace: "ai".into(),
        name: account.into(),
    });
    let (live, asked) = api(404, workflows());
    let found = live
        .get(&key)
        .await
        .unwrap_or_else(|error| panic!("{error}: {asked:?}"));
    assert_eq!(found.as_ref().map(crate::plan::name_of), workflow);
}

#[tokio::test]
async fn an_account_is_nobodys_only_where_every_page_was_read() {
    let mut pages = workflows();
    let all = pages.as_object_mut().unwrap();
    all.retain(|path, _| !path.contains("continue"));
    let (live, _) = api(500, pages);
    let error = live.get(&Key::AccountOwner(named())).await.unwrap_err();
    assert!(error.to_string().contains("the aiworkflows of namespace ai"), "{error}");
}

/// A body in which a field holds so many nested maps.
fn nested(count: usize) -> Value {
    let one = (0..50).fold(json!({}), |inner, _| json!({"f:a": inner}));
    Value::Array(vec![json!({"fieldsV1": one}); count])
}

fn label() -> Value {
    json!({"ringfence.dev/workflow": "triage"})
}

/// As large as objects get: an image of arguments, and what field managers own of it.
#[tokio::test]
async fn of_a_large_owner_who_it_is_is_kept_and_nothing_else() {
    let labels = json!({"ringfence.dev/workflow": "triage", "other": "label"});
    let reference = json!({"apiVersion": "v1", "kind": "K", "name": "k", "uid": "2", "controller": true});
    let mut owners = json!([reference, {"apiVersion": "v1", "kind": "K", "name": "l", "uid": "3"}]);
    let kept_owners = owners.clone();
    owners[0]["blockOwnerDeletion"] = json!(true);
    let pod = json!({
        "metadata": {"labels": labels, "annotations": {"a": "b"}},
        "spec": {"containers": [{"args": vec!["x".repeat(1000); 1400]}]},
    });
    let kept_pod = json!({"metadata": {"labels": label()}});
    let metadata = json!({
        "name": "o", "uid": "1", "labels": labels, "ownerReferences": owners, "managedFields": nested(500),
        "annotations": {"a": "b"},
    });
    let kept = json!({"uid": "1", "labels": label(), "ownerReferences": kept_owners});
    for (key, path, spec, kept_spec) in [
        (
            owner("apps/v1", "Deployment", "o"),
            "/apis/apps/v1/namespaces/ai/deployments/o",
            json!({"template": pod, "replicas": 1}),
            json!({"template": kept_pod}),
        ),
        (
            owner("batch/v1", "CronJob", "o"),
            "/apis/batch/v1/namespaces/ai/cronjobs/o",
            json!({"jobTemplate": {"metadata": {"labels": labels, "name": "x"}, "spec": {"template": pod, "x": 1}}}),
            json!({"jobTemplate": {"metadata": {"labels": label()}, "spec": {"template": kept_pod}}}),
        ),
    ] {
        let mut objects = json!({});
        objects[path] = json!({"kind": "x", "metadata": metadata, "spec": spec, "status": {"a": [{}]}});
        let (live, _) = api(404, objects);
        assert_eq!(
            live.get(&key).await,
            Ok(Some(json!({"metadata": kept, "spec": kept_spec})))
        );
    }
}

#[tokio::test]
async fn of_accounts_and_pods_who_they_are_is_kept() {
    let metadata = json!({
        "name": "triage", "uid": "1", "creationTimestamp": "t", "deletionTimestamp": "u", "labels": label(),
        "annotations": {"ringfence.dev/owner-uid": "2"},
    });
    let mut sent = metadata.clone();
    sent["annotations"]["other"] = json!("x");
    sent["managedFields"] = nested(10);
    let object = json!({"metadata": sent, "secrets": [{"name": "x"}], "spec": {}});
    for (key, plural) in [(Key::Account(named()), "serviceaccounts"), (Key::Pod(named()), "pods")] {
        let mut objects = json!({});
        objects[format!("/api/v1/namespaces/ai/{plural}/triage")] = object.clone();
        let (live, _) = api(404, objects);
        assert_eq!(live.get(&key).await, Ok(Some(json!({"metadata": metadata}))));
    }
}

#[tokio::test]
async fn of_what_policies_see_all_is_kept_but_who_owns_which_field() {
    let mut workflow =
        json!({"metadata": {"name": "triage", "managedFields": nested(3400)}, "spec": {"newerThanUs": [{}]}});
    let mut objects = json!({});
    objects["/apis/ringfence.dev/v1alpha1/namespaces/ai/aiworkflows/triage"] = workflow.clone();
    let (live, _) = api(404, objects);
    workflow["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(live.get(&Key::Workflow(named())).await, Ok(Some(workflow)));
}

#[rstest]
#[case::owners(owner("v1", "ReplicationController", "r"), "/api/v1/namespaces/ai/replicationcontrollers/r",
    json!({"metadata": {"ownerReferences": vec![json!({"apiVersion": "v1", "kind": "K", "name": "k", "uid": "2"}); 2000]}}))]
#[case::a_text_for_an_object(owner("batch/v1", "Job", "j"), "/apis/batch/v1/namespaces/ai/jobs/j", json!({"spec": "x".repeat(200 << 10)}))]
#[case::bytes(owner("batch/v1", "Job", "j"), "/apis/batch/v1/namespaces/ai/jobs/j", json!({"x": "x".repeat(13 << 20)}))]
#[case::weight(Key::Namespace("ai".into()), "/api/v1/namespaces/ai", json!({"spec": vec![json!({"a": 0}); 20_000]}))]
#[tokio::test]
async fn what_is_larger_than_any_that_works_is_an_error(#[case] key: Key, #[case] path: &str, #[case] object: Value) {
    let mut objects = json!({});
    objects[path] = object;
    let (live, _) = api(404, objects);
    let error = live.get(&key).await.unwrap_err();
    assert!(error.why.contains("larger than any that works"), "{error}");
    assert_eq!(error.cause, FaultCause::TooLarge);
}

/// An exception that is not read might be the one that is meant; a workflow that is not read might be whose the account is.
#[rstest]
#[case::exceptions(Key::Exceptions("ai".into()), "regopolicyexceptions")]
#[case::workflows(Key::AccountOwner(named()), "aiworkflows")]
#[tokio::test]
async fn one_that_is_too_large_to_be_read_hides_no_others(#[case] key: Key, #[case] plural: &str) {
    let item = json!({"metadata": {"name": "fat"}, "spec": vec![json!({"": 0}); 60_000]});
    let list = json!({"items": [item]});
    let mut objects = json!({});
    for limit in [500, 62, 7, 1] {
        objects[format!("/apis/ringfence.dev/v1alpha1/namespaces/ai/{plural}?&limit={limit}")] = list.clone();
    }
    let (live, _) = api(404, objects);
    let error = live.get(&key).await.unwrap_err();
    assert!(error.to_string().contains("fat was not looked at"), "{error}");
    assert_eq!(error.cause, FaultCause::TooLarge);
}

/// What many requests are told at the same time is counted: one that finds no room is refused.
#[tokio::test]
async fn what_a_request_is_told_is_counted() {
    use super::super::held::{Held, Room, holding};
    let path = "/api/v1/namespaces/ai";
    let mut objects = json!({});
    objects[path] = json!({"metadata": {"annotations": {"a": "x".repeat(64 << 10)}}});
    let (live, _) = api(404, objects);
    let key = Key::Namespace("ai".into());
    let all = Arc::new(tokio::sync::Semaphore::new(70));
    let room = Room::new(70, Arc::clone(&all), Arc::new(tokio::sync::Semaphore::new(70)));
    let asked = async { [live.get(&key).await, live.get(&key).await, live.get(&key).await] };
    let held = Held::new((), room, tokio::time::Instant::now());
    let [first, second, third] = holding(held, asked).await;
    assert!(first.is_ok() && second.is_ok());
    let third = third.unwrap_err();
    assert!(third.why.contains("hold all the memory that they may"));
    assert_eq!(third.cause, FaultCause::Crowded);
    assert_eq!(all.available_permits(), 70);
}

/// An API server that turns away what comes to it for so many times.
fn busy(times: usize) -> (Live, Arc<Mutex<usize>>) {
    let asked = Arc::new(Mutex::new(0));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |_: http::Request<Body>| {
        let mut asked = log.lock().unwrap();
        *asked += 1;
        let status = if *asked > times { 200 } else { 429 };
        let answer = http::Response::builder().status(status).header("Retry-After", "8");
        std::future::ready(answer.body(Body::from(b"{\"metadata\": {}}".to_vec())))
    });
    (Live::new(Client::new(service, "default"), "ringfence"), asked)
}

#[tokio::test]
async fn who_is_turned_away_asks_once_more_and_not_when_the_api_server_says() {
    for (times, is_there, asks) in [(1, true, 2), (2, false, 2)] {
        let (live, asked) = busy(times);
        let began = tokio::time::Instant::now();
        let answer = live.get(&Key::Namespace("ai".into())).await;
        assert_eq!((answer.is_ok(), *asked.lock().unwrap()), (is_there, asks), "{answer:?}");
        // Whoever floods it must not pass by a policy that fails open.
        let cause = answer.err().map(|error| error.cause);
        assert_eq!(cause, (!is_there).then_some(FaultCause::Crowded));
        assert!(
            began.elapsed() < tokio::time::Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    }
}

/// The queue of the API server is for all replicas, and the operator's.
#[tokio::test]
async fn no_more_is_asked_at_a_time_than_the_api_servers_queue_holds() {
    const QUESTIONS: usize = 1000;
    let (now, most) = (Arc::new(Mutex::new(0usize)), Arc::new(Mutex::new(0usize)));
    let (counts, highest) = (Arc::clone(&now), Arc::clone(&most));
    let service = tower::service_fn(move |_: http::Request<Body>| {
        let (now, most) = (Arc::clone(&counts), Arc::clone(&highest));
        async move {
            {
                let mut now = now.lock().unwrap();
                *now += 1;
                let mut most = most.lock().unwrap();
                *most = (*most).max(*now);
            }
            tokio::time::sleep(tokio::time::Duration::from_millis(20)).await;
            *now.lock().unwrap() -= 1;
            http::Response::builder().body(Body::from(b"{}".to_vec()))
        }
    });
    let live = Live::new(Client::new(service, "default"), "ringfence");
    let key = Key::Namespace("ai".into());
    let answers = futures::future::join_all((0..QUESTIONS).map(|_| live.get(&key))).await;
    assert!(answers.iter().all(Result::is_ok), "all are answered in the end");
    let most = *most.lock().unwrap();
    assert!((2..=150).contains(&most), "{most} at a time");
}
