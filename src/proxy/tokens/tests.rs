use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::client::Body;

use super::*;

const AUDIENCE: &str = "ringfence-egress";
const MINUTES: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);

/// An API server that vouches for the pod `uid` of namespace `ai`, and falls silent: it takes questions, and answers none.
#[derive(Clone, Default)]
struct Api {
    is_silent: Arc<AtomicBool>,
    says_no: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |_: hyper::Request<Body>| {
            let api = api.clone();
            async move {
                api.asked.fetch_add(1, Ordering::Relaxed);
                if api.is_silent.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                let user = json!({
                    "username": "system:serviceaccount:ai:triage",
                    "extra": {"authentication.kubernetes.io/pod-uid": ["uid"]},
                });
                let is_yes = !api.says_no.load(Ordering::Relaxed);
                let review = json!({"status": {"authenticated": is_yes, "audiences": [AUDIENCE], "user": user}});
                hyper::Response::builder().body(Body::from(serde_json::to_vec(&review).unwrap()))
            }
        });
        Client::new(service, "default")
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Scene {
    api: Api,
    tokens: Tokens,
    workflow: Arc<Workflow>,
}

const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1));

impl Scene {
    fn new() -> Self {
        let api = Api::default();
        let tokens = Tokens::new(api.client(), AUDIENCE.to_owned(), true);
        let workflow = Arc::new(Workflow {
            namespace: "ai".to_owned(),
            name: "triage".to_owned(),
        });
        Self { api, tokens, workflow }
    }

    async fn check(&self) -> Result<(), StatusCode> {
        let claims = json!({"aud": [AUDIENCE], "kubernetes.io": {"pod": {"uid": "uid"}}});
        let header = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let token = Token::of([header.as_bytes()].into_iter()).unwrap();
        let checked = self
            .tokens
            .check(&["uid".into()], (POD, &self.workflow), token.as_ref())
            .await;
        checked.map_err(|refused| refused.status)
    }

    /// As if that had passed since it was answered.
    fn wait(&self, time: Duration) {
        for answered in self.tokens.held.lock().unwrap().values().flat_map(HashMap::values) {
            let mut last = answered.last();
            if let Some((at, _)) = &mut last.answer {
                *at -= time;
            }
            last.unanswered = last.unanswered.map(|at| at - time);
        }
    }
}

#[tokio::test]
async fn a_yes_goes_on_for_an_hour_while_the_api_server_is_silent() {
    let scene = Scene::new();
    assert_eq!(scene.check().await, Ok(()));
    scene.api.is_silent.store(true, Ordering::Relaxed);
    scene.wait(MINUTES);
    let many = (0..20).map(|_| scene.check());
    for checked in futures::future::join_all(many).await {
        assert_eq!(checked, Ok(()));
    }
    assert_eq!(scene.api.asked(), 2, "its silence is waited for once");
    let began = Instant::now();
    assert_eq!(scene.check().await, Ok(()));
    assert!(began.elapsed() < REVIEWED / 2, "nor by the next");
    scene.wait(HOUR);
    assert_eq!(scene.check().await, Err(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(scene.api.asked(), 3);
    scene.api.is_silent.store(false, Ordering::Relaxed);
    assert_eq!(scene.check().await, Ok(()));
}

#[tokio::test]
async fn where_as_many_are_asked_about_as_may_be_a_yes_goes_on() {
    let scene = Scene::new();
    let take = || scene.tokens.under_way.take(POD, Some(&scene.workflow));
    let taken = [take(), take(), take(), take()];
    assert!(taken.iter().all(Option::is_some) && take().is_none());
    assert_eq!(scene.check().await, Err(StatusCode::SERVICE_UNAVAILABLE));
    drop(taken);
    assert_eq!(scene.check().await, Ok(()));
    let _taken = [take(), take(), take(), take()];
    scene.wait(MINUTES);
    assert_eq!(scene.check().await, Ok(()));
    assert_eq!(scene.api.asked(), 1);
}

/// Whoever waited behind others has no time left to rest after it.
#[tokio::test]
async fn a_no_counts_against_every_yes_of_before() {
    let scene = Scene::new();
    assert_eq!(scene.check().await, Ok(()));
    scene.wait(MINUTES);
    scene.api.says_no.store(true, Ordering::Relaxed);
    let answered = scene.tokens.held.lock().unwrap()["ai"]
        .values()
        .next()
        .cloned()
        .unwrap();
    let asking = answered.asking.lock().await;
    let others = async {
        sleep(ANSWERED - REST / 2).await;
        drop(asking);
    };
    let (checked, ()) = tokio::join!(scene.check(), others);
    assert_eq!(checked, Err(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(scene.check().await, Err(StatusCode::FORBIDDEN));
    assert_eq!(scene.api.asked(), 2);
}

fn digest(number: usize) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest
}

/// What was answered so many seconds ago.
fn answered(is_yes: bool, seconds: usize) -> Arc<Answered> {
    let user = json!({
        "username": "system:serviceaccount:ai:triage", "extra": {"authentication.kubernetes.io/pod-uid": ["uid"]},
    });
    let status = json!({"authenticated": is_yes, "audiences": [AUDIENCE], "user": user});
    let at = Instant::now() - Duration::from_secs(seconds as u64);
    let last = Last {
        answer: Some((at, Holder::read(&status, AUDIENCE))),
        unanswered: None,
    };
    Arc::new(Answered {
        last: Mutex::new(last),
        ..Answered::default()
    })
}

fn held(greedy: impl Fn(usize) -> Arc<Answered>) -> Held {
    let victims = (0..10).map(|number| (digest(number), answered(true, 120)));
    let greedy = (10..MAX_HELD).map(|number| (digest(number), greedy(number)));
    Held::from([
        ("victim".to_owned(), victims.collect()),
        ("greedy".to_owned(), greedy.collect()),
    ])
}

/// None of them cost a word of the API server, which may be away: then nobody's yes comes back.
#[test]
fn tokens_that_are_made_up_cost_nobody_a_yes() {
    let unanswered = |_| Arc::<Answered>::default();
    let refused = |_| answered(false, 1);
    for mut held in [held(unanswered), held(refused)] {
        make_room(&mut held);
        assert_eq!((held.len(), held["victim"].len()), (1, 10));
    }
    let waiting = Mutex::new(Vec::new());
    let mut held = held(|_| {
        let answered = Arc::default();
        waiting.lock().unwrap().push(Arc::clone(&answered));
        answered
    });
    let first = held.get_mut("greedy").unwrap().remove(&digest(10));
    held.get_mut("victim").unwrap().insert(digest(10), first.unwrap());
    make_room(&mut held);
    assert_eq!(held["victim"].len(), 11, "somebody waits for one of its own");
    assert_eq!(held["greedy"].len(), 0);
}

#[test]
fn whoever_has_most_loses_the_older_half_of_its_own() {
    let mut held = held(|number| answered(true, 100 + number % 1000));
    let stale = answered(true, 3601);
    held.get_mut("victim").unwrap().insert(digest(10), stale);
    held.get_mut("greedy")
        .unwrap()
        .insert(digest(MAX_HELD), answered(true, 0));
    make_room(&mut held);
    assert_eq!(held["victim"].len(), 10);
    let greedy = &held["greedy"];
    assert!((MAX_HELD / 3..MAX_HELD / 2).contains(&greedy.len()), "{}", greedy.len());
    assert!(greedy.contains_key(&digest(MAX_HELD)) && !greedy.contains_key(&digest(999)));
}
