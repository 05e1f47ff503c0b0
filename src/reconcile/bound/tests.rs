use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response};
use futures::StreamExt;
use kube::Client;
use kube::runtime::{controller::Action, reflector, watcher};
use serde_json::json;

use super::*;
use crate::plan::default_class;
use crate::reconcile::{RETRY, reading_tests, turns::in_turn, workflow};

const SOON: Duration = Duration::from_secs(20);

/// What happens at an API server where every namespace is fenced, and nothing else is there.
#[derive(Default)]
struct World {
    /// Whether RoleBindings of the whole cluster can be listed: until then such a list has no end.
    is_open: AtomicBool,
    opened: Notify,
    /// How many of these lists there were.
    looks: AtomicUsize,
    /// The RoleBindings.
    bindings: Mutex<String>,
    /// What was written: where, and what.
    written: Mutex<Vec<(String, Value)>>,
}

impl World {
    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    /// What was written there.
    fn written(&self, path: &str) -> Vec<Value> {
        let written = self.written.lock().unwrap();
        let there = written.iter().filter(|(place, _)| place.ends_with(path));
        there.map(|(_, what)| what.clone()).collect()
    }

    /// What the last status of a workflow says of `Programmed`.
    fn programmed(&self, namespace: &str, name: &str) -> Option<Value> {
        let status = self.written(&format!("{namespace}/aiworkflows/{name}/status")).pop()?;
        let conditions = status["status"]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|said| said["type"] == "Programmed")
    }

    fn client(self: &Arc<Self>) -> Client {
        let world = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let world = Arc::clone(&world);
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if method != Method::GET {
            let sent = to_bytes(Body::new(request.into_body()), usize::MAX).await.unwrap();
            let what = serde_json::from_slice(&sent).unwrap();
            self.written.lock().unwrap().push((path, what));
            return Response::new(Body::from(sent));
        }
        let parts: Vec<_> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["apis", _, _, "rolebindings"] => {
                self.looks.fetch_add(1, Ordering::SeqCst);
                let opened = self.opened.notified();
                if !self.is_open.load(Ordering::SeqCst) {
                    opened.await;
                }
                let bindings = self.bindings.lock().unwrap().clone();
                Response::new(Body::from(reading_tests::list(&bindings, "")))
            }
            ["apis", _, _, "clusterrolebindings"]
            | ["api", _, "namespaces", _, _]
            | ["apis", _, _, "namespaces", _, _] => Response::new(Body::from(reading_tests::list("", ""))),
            ["api", _, "namespaces", name] => {
                let metadata = json!({"name": name, "uid": name, "labels": {"ringfence.dev/enforce": "default"}});
                Response::new(Body::from(json!({"metadata": metadata}).to_string()))
            }
            ["apis", _, _, "aiworkflowclasses", _] => {
                Response::new(Body::from(serde_json::to_vec(&default_class()).unwrap()))
            }
            [.., name] => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "", "details": {"name": name}});
                let answer = Response::builder().status(404).body(Body::from(status.to_string()));
                answer.unwrap()
            }
            [] => unreachable!("a path has parts"),
        }
    }
}

/// A workflow that was reviewed. Its account is not there, or was until now.
fn declared(namespace: &str, name: &str, had_account: bool) -> AIWorkflow {
    let mut status = json!({"reviewed": {"generation": 1, "registrationUID": "r"}, "conditions": []});
    if had_account {
        status["serviceAccount"] = json!({"name": name, "uid": "a"});
    }
    let metadata = json!({"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"), "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"});
    let spec = json!({"launchers": [{"user": "ci"}], "images": ["registry.example.com/x/**"]});
    let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec, "status": status});
    serde_json::from_value(object).unwrap()
}

/// What the controllers share where these workflows stand, and bindings have been asked about for a while.
fn context(world: &Arc<World>, workflows: &[AIWorkflow]) -> Arc<Context> {
    let context = reading_tests::context(world.client());
    let (classes, mut of_classes) = reflector::store();
    of_classes.apply_watcher_event(&watcher::Event::Init);
    of_classes.apply_watcher_event(&watcher::Event::InitDone);
    let (known, mut of_workflows) = reflector::store();
    of_workflows.apply_watcher_event(&watcher::Event::Init);
    for workflow in workflows {
        of_workflows.apply_watcher_event(&watcher::Event::InitApply(workflow.clone()));
    }
    of_workflows.apply_watcher_event(&watcher::Event::InitDone);
    context.known.keep(classes, known);
    context.guard.covers_all_since(Instant::now() - Duration::from_secs(60));
    context
}

async fn reconcile(workflow: &AIWorkflow, context: &Arc<Context>) -> Action {
    let reconciled = workflow::reconcile(Arc::new(workflow.clone()), context.clone());
    timeout(SOON, reconciled).await.expect("in time").unwrap()
}

/// Whoever fills the cluster with large bindings, and declares workflows in several namespaces, has these wait, and nobody else.
#[tokio::test]
async fn who_waits_for_a_look_at_all_bindings_keeps_nobody_else_waiting() {
    let world = Arc::new(World::default());
    let calm = declared("v", "calm", true);
    let all_of = |namespace| (0..40).map(move |number| declared(namespace, &format!("w{number}"), false));
    let new: Vec<_> = ["x1", "x2"].into_iter().flat_map(all_of).collect();
    let context = context(&world, &[&new[..], std::slice::from_ref(&calm)].concat());
    let stop = CancellationToken::new();
    let looking = tokio::spawn(run(context.clone(), stop.clone()));
    let mut in_its_turn = in_turn(stop.clone(), workflow::reconcile);
    let waiting: Vec<_> = new
        .iter()
        .map(|workflow| tokio::spawn(in_its_turn(Arc::new(workflow.clone()), context.clone())))
        .collect();
    let is_looked = async {
        while world.looks() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, is_looked).await.expect("a look");
    let calm = in_its_turn(Arc::new(calm), context.clone());
    timeout(SOON, calm).await.expect("its turn, and no look").unwrap();
    assert_eq!(world.written("/v/serviceaccounts").len(), 1);
    assert_eq!(world.programmed("v", "calm").unwrap()["status"], "True");

    let waiting = timeout(SOON, futures::future::join_all(waiting)).await;
    assert!(waiting.expect("an end").into_iter().all(|one| one.unwrap().is_ok()));
    // Each has its policy beside the namespace's, and nothing stands on an account that nobody looked about.
    for namespace in ["x1", "x2"] {
        let policies = world.written(&format!("/{namespace}/networkpolicies"));
        let own: BTreeSet<_> = policies
            .iter()
            .map(|policy| policy["metadata"]["name"].to_string())
            .collect();
        assert_eq!(own.len(), 41, "{own:?}");
        assert_eq!(world.written(&format!("/{namespace}/serviceaccounts")).len(), 0);
    }
    assert_eq!(world.looks(), 1);

    world.open();
    let brought_back = context.looks.ended().take(new.len()).collect::<BTreeSet<_>>();
    let brought_back = timeout(SOON, brought_back).await.expect("the end of the looks");
    assert_eq!(brought_back.len(), new.len());
    assert_eq!(world.looks(), 2, "who asks while one goes on shares the next");
    for workflow in &new {
        reconcile(workflow, &context).await;
    }
    assert_eq!(world.written("/x1/serviceaccounts").len(), 40);
    stop.cancel();
    looking.await.unwrap();
}

/// An account that somebody bound before anybody was asked is not made; and while nobody knows, that is what is said.
#[tokio::test]
async fn what_a_look_finds_keeps_the_account_from_being_made() {
    let world = Arc::new(World::default());
    let [named, free] = ["named", "free"].map(|name| declared("x", name, false));
    let context = context(&world, &[named.clone(), free.clone()]);
    let subject = r#"{"kind":"User","name":"system:serviceaccount:x:named"}"#;
    *world.bindings.lock().unwrap() =
        format!(r#"{{"metadata":{{"namespace":"y","name":"extra"}},"subjects":[{subject}]}}"#);
    reconcile(&named, &context).await;
    reconcile(&free, &context).await;
    assert_eq!(world.programmed("x", "named"), None, "most looks last a moment");
    sleep(RETRY).await;
    reconcile(&named, &context).await;
    let said = world.programmed("x", "named").unwrap();
    assert_eq!(
        (&said["status"], &said["reason"]),
        (&json!("False"), &json!("ApiUnavailable"))
    );
    assert!(
        said["message"].as_str().unwrap().contains("have been looked at"),
        "{said}"
    );
    assert_eq!(world.looks(), 0, "a reconcile looks at nothing itself");

    world.open();
    let stop = CancellationToken::new();
    let looking = tokio::spawn(run(context.clone(), stop.clone()));
    timeout(SOON, context.looks.ended().take(2).collect::<Vec<_>>())
        .await
        .expect("a look");
    reconcile(&named, &context).await;
    reconcile(&free, &context).await;
    let said = world.programmed("x", "named").unwrap();
    assert_eq!(said["reason"], "Conflict");
    assert!(
        said["message"].as_str().unwrap().contains("RoleBinding y/extra"),
        "{said}"
    );
    assert_eq!(world.programmed("x", "free").unwrap()["status"], "True");
    let made = world.written("/x/serviceaccounts");
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["metadata"]["name"], "free");
    // What is known of it by now is of a look that began before the next question.
    let is_over = |workflow: &AIWorkflow| {
        context
            .looks
            .ask(&Account::of(workflow, Some(Mode::Enforce)), Instant::now())
    };
    assert!(matches!(is_over(&named), Answer::Awaited(_)));
    stop.cancel();
    looking.await.unwrap();
}

#[test]
fn an_answer_is_one_looks_that_began_after_the_question() {
    let looks = Looks::default();
    let start = Instant::now();
    let of = |name: &str, mode| Account::of(&declared("x", name, false), Some(mode));
    let (early, late) = (of("early", Mode::Enforce), of("late", Mode::Enforce));
    let is_awaited = |account: &Account, since| matches!(looks.ask(account, since), Answer::Awaited(_));
    assert!(is_awaited(&early, start) && is_awaited(&early, start));
    let asked = looks.begin(|_| true);
    assert_eq!(asked, std::slice::from_ref(&early));
    let began = Instant::now();
    assert!(is_awaited(&late, start));
    looks.end(began, &asked, Ok(vec![vec!["RoleBinding y/z".to_owned()]]));
    let found = Answer::Found(vec!["RoleBinding y/z".to_owned()]);
    assert_eq!(
        [looks.ask(&early, start), looks.ask(&early, began)],
        [found.clone(), found]
    );
    assert!(is_awaited(&late, start));
    // Nobody was asked about bindings until after it; or the namespace only warned then.
    assert!(is_awaited(&early, began + Duration::from_nanos(1)));
    looks.end(began, &asked, Err("no".to_owned()));
    assert!(is_awaited(&early, start), "asked again after that look began");
    let asked = looks.begin(|_| true);
    looks.end(Instant::now(), &asked, Err("no".to_owned()));
    assert_eq!(looks.ask(&late, start), Answer::Failed("no".to_owned()));
    assert!(is_awaited(&of("late", Mode::Warn), start));
    // What is gone is not looked for, and not remembered.
    assert_eq!(
        looks.begin(|account| account.workflow == "late"),
        [of("late", Mode::Warn)]
    );
    assert_eq!(looks.inner().asked.len(), 1);
    looks.forget(&declared("x", "late", false));
    assert!(looks.inner().asked.is_empty());
}

/// Each look is at all bindings of the cluster, and somebody may make each of them last minutes.
#[tokio::test]
async fn workflows_that_wait_share_a_look_that_began_after_they_asked() {
    let world = Arc::new(World::default());
    world.open();
    let named = r#"{"metadata":{"namespace":"x","name":"extra"},"subjects":[{"kind":"ServiceAccount","namespace":"ai","name":"w3"}]}"#;
    *world.bindings.lock().unwrap() = named.to_owned();
    let reads = Reads::new(world.client(), None, "ringfence".to_owned());
    let ask = async |number: usize| {
        let workflow = declared("ai", &format!("w{number}"), false);
        reads.bound(&workflow).await.unwrap()
    };
    let all = futures::future::join_all((0..8).map(&ask)).await;
    for (number, found) in all.iter().enumerate() {
        let expected: &[&str] = if number == 3 { &["RoleBinding x/extra"] } else { &[] };
        assert_eq!(found, expected, "{number}");
    }
    // Who asks before the first look has begun is answered by it.
    let looks = world.looks();
    assert!((1..=2).contains(&looks), "{looks}");
    assert_eq!(ask(3).await, ["RoleBinding x/extra"]);
    assert_eq!(world.looks(), looks + 1, "an older look answers nobody");
}
