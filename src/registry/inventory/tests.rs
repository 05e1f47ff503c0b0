//! Against an API server that answers from a table.

use std::sync::Mutex;

use axum::http::{Request, Response};
use kube::client::Body;
use serde_json::{Value as Json, json};
use tokio::time::{sleep, timeout};

use super::*;

const SOON: Duration = Duration::from_secs(20);

/// Stands for a byte that is no text.
const RAW: &str = "\u{ff}";
/// Stands for a status that never comes.
const SILENT: u16 = 0;

/// Answers by the path and query of a request: status and body. A watch that is not in the table ends at once.
type Answers = Box<dyn FnMut(&str) -> (u16, String) + Send>;

struct Fake {
    inventory: Arc<Inventory>,
    metrics: Arc<Metrics>,
    asked: Arc<Mutex<Vec<String>>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Fake {
    fn new(budget: usize, answers: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Self {
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(answers)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let url = request.uri().to_string();
            log.lock().unwrap().push(url.clone());
            let (status, body) = answers.lock().unwrap()(&url);
            async move {
                if status == SILENT {
                    std::future::pending::<()>().await;
                }
                let bytes: Vec<&[u8]> = body.split(RAW).map(str::as_bytes).collect();
                Response::builder().status(status).body(Body::from(bytes.join(&0xff)))
            }
        });
        let metrics = Arc::new(Metrics::new());
        let inventory = Inventory::new(Client::new(service, "default"), Arc::clone(&metrics), budget);
        let inventory = Arc::new(inventory);
        let stop = CancellationToken::new();
        let (running, stopped) = (Arc::clone(&inventory), stop.clone());
        tokio::spawn(async move { running.run(&stopped).await });
        Self {
            inventory,
            metrics,
            asked,
            _stop: stop.drop_guard(),
        }
    }

    /// Waits until what a policy sees is of that kind, and passes.
    async fn sees(
        &self,
        kinds: &[InventoryKind],
        good: impl Fn(&Result<Json, String>) -> bool,
    ) -> Result<Json, String> {
        let mut last = None;
        let looked = timeout(SOON, async {
            loop {
                let seen = self.inventory.of(kinds, "elsewhere").map(|value| json_of(&value));
                if good(&seen) {
                    return seen;
                }
                last = Some(seen);
                sleep(Duration::from_millis(20)).await;
            }
        });
        looked.await.unwrap_or_else(|_| panic!("not seen: {last:?}"))
    }

    fn count(&self, what: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|url| url.contains(what))
            .count()
    }
}

fn json_of(value: &Value) -> Json {
    serde_json::from_str(&value.to_json_str().expect("text")).expect("json")
}

fn kind(group: &str, version: &str, kind: &str, fields: &[&str]) -> InventoryKind {
    InventoryKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    }
}

fn core() -> String {
    let verbs = ["list", "watch"];
    json!({"resources": [
        {"name": "pods/eviction", "kind": "Pod", "namespaced": true, "verbs": ["create"]},
        {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": verbs},
        {"name": "namespaces", "kind": "Namespace", "namespaced": false, "verbs": verbs},
        {"name": "bindings", "kind": "Binding", "namespaced": true, "verbs": ["create"]},
        {"name": "secrets", "kind": "Hidden", "namespaced": true, "verbs": verbs},
    ]})
    .to_string()
}

fn pod(name: &str, version: &str, x: &Json) -> Json {
    json!({"metadata": {"name": name, "namespace": "a", "resourceVersion": version}, "spec": {"x": x, "y": 2}})
}

fn page(items: &[Json], next: &str) -> String {
    json!({"metadata": {"resourceVersion": "10", "continue": next}, "items": items}).to_string()
}

fn event(what: &str, object: &Json) -> String {
    format!("{}\n", json!({"type": what, "object": object}))
}

#[tokio::test]
async fn one_list_in_pages_and_one_watch_serve_policies_that_see_different_fields() {
    let fake = Fake::new(INVENTORY_BUDGET, |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") && url.ends_with("resourceVersion=10") => {
            let gone = event("DELETED", &pod("one", "11", &json!(1)));
            (200, gone + &event("ADDED", &pod("three", "12", &json!(3))))
        }
        url if url.contains("watch=true") => (200, String::new()),
        url if url.contains("continue=") => (200, page(&[pod("two", "2", &json!([{"z": 1}]))], "")),
        _ => (200, page(&[pod("one", "1", &json!(1))], "more")),
    });
    let x = [kind("", "v1", "Pod", &["spec.x"])];
    let y = [kind("", "v1", "Pod", &["spec.y"])];
    fake.inventory.want([x.as_slice(), y.as_slice()]);
    let seen = fake.sees(&x, |seen| {
        seen.as_ref().is_ok_and(|seen| seen.to_string().contains("three"))
    });
    let seen = seen.await.unwrap();
    let spec = |name: &str| seen.pointer(&format!("/namespace/a/v1/Pod/{name}/spec")).cloned();
    assert_eq!(spec("one"), None);
    assert_eq!(spec("two"), Some(json!({"x": [{"z": 1}]})));
    assert_eq!(spec("three"), Some(json!({"x": 3})));
    let seen = json_of(&fake.inventory.of(&y, "a").unwrap());
    assert_eq!(seen.pointer("/namespace/a/v1/Pod/three/spec"), Some(&json!({"y": 2})));
    assert_eq!(fake.count("/api/v1/pods?&limit"), 2, "{:?}", fake.asked.lock().unwrap());
    let text = fake.metrics.encode().unwrap();
    assert!(text.contains("ringfence_cache_bytes{kind=\"v1/Pod\"} "), "{text}");
    let other = [kind("", "v1", "Pod", &["spec"])];
    assert!(
        fake.inventory
            .of(&other, "a")
            .unwrap_err()
            .contains("fields that are asked for now")
    );
    assert!(
        fake.inventory
            .of(&[kind("", "v1", "Node", &["spec"])], "a")
            .unwrap_err()
            .contains("not begun")
    );
}

#[tokio::test]
async fn each_kind_says_why_it_is_not_synced_and_the_others_go_on() {
    let fake = Fake::new(INVENTORY_BUDGET, |url| match url {
        "/api/v1" => (200, core()),
        url if url.starts_with("/api/v1/pods?") => (403, json!({"message": "no"}).to_string()),
        url if url.contains("watch=true") => (200, String::new()),
        url if url.starts_with("/api/v1/namespaces?") => (200, page(&[json!({"metadata": {"name": "a"}})], "")),
        url if url.starts_with("/apis/broken.io") => (500, "oops".to_owned()),
        _ => (404, json!({"message": "not found"}).to_string()),
    });
    let cases = [
        (
            kind("", "v1", "Pod", &["spec"]),
            "may not list pods: label a ClusterRole that may get, list and watch pods ringfence.dev/aggregate-to-inventory: \"true\"",
        ),
        (kind("", "v1", "Binding", &["spec"]), "cannot be listed and watched"),
        (kind("", "v1", "Pods", &["spec"]), "serves no Pods of v1"),
        (
            kind("x.io", "v1", "X", &["spec"]),
            "serves no X of x.io/v1: install what brings it",
        ),
        (kind("broken.io", "v1", "X", &["spec"]), "no reason given (500)"),
        (kind("", "v1", "Secret", &["data"]), "reads no Secrets"),
        (kind("", "v1", "secret", &["data"]), "reads no Secrets"),
        (kind("", "v1", "Hidden", &["data"]), "reads no Secrets"),
    ];
    let good = [kind("", "v1", "Namespace", &["spec"])];
    let asked = cases.iter().map(|(kind, _)| std::slice::from_ref(kind));
    fake.inventory.want(asked.chain([good.as_slice()]));
    let seen = fake.sees(&good, Result::is_ok).await.unwrap();
    assert_eq!(seen["cluster"]["v1"]["Namespace"]["a"]["metadata"]["name"], "a");
    for (kind, why) in &cases {
        let kinds = [kind.clone(), good[0].clone()];
        let said = fake
            .sees(&kinds, |seen| seen.as_ref().is_err_and(|said| said.contains(why)))
            .await;
        let said = said.unwrap_err();
        assert!(
            said.starts_with(&format!("{} is not synced: ", Kind::of(kind))),
            "{said}"
        );
    }
    assert_eq!(fake.count("/api/v1/secrets"), 0);
}

/// A policy must not decide on half a list.
#[tokio::test]
async fn a_kind_that_does_not_fit_is_dropped_whole_until_less_is_asked_for() {
    // Of many namespaces, none of which has more than its share.
    let pods = |from: u32, to: u32| {
        let pods = (from..to).map(|number| {
            let mut pod = pod("one", &number.to_string(), &json!("x".repeat(4_000)));
            pod["metadata"]["namespace"] = json!(format!("n{number}"));
            pod
        });
        pods.collect::<Vec<_>>()
    };
    let fake = Fake::new(100_000, move |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") => (200, String::new()),
        url if url.starts_with("/api/v1/namespaces?") => (200, page(&[json!({"metadata": {"name": "a"}})], "")),
        url if url.contains("continue=") => (200, page(&pods(10, 22), "")),
        _ => (200, page(&pods(0, 10), "more")),
    });
    let (x, y) = (
        [kind("", "v1", "Pod", &["spec.x"])],
        [kind("", "v1", "Pod", &["spec.y"])],
    );
    let other = [kind("", "v1", "Namespace", &["spec"])];
    fake.inventory.want([x.as_slice(), &other]);
    let said = fake
        .sees(&x, |seen| seen.as_ref().is_err_and(|why| why.contains("do not fit")))
        .await;
    assert!(said.unwrap_err().contains("--inventory-budget"));
    let trouble = fake.inventory.trouble(&x).expect("it is known");
    assert!(
        trouble.is_too_large && trouble.why.contains("do not fit"),
        "{trouble:?}"
    );
    assert_eq!(fake.inventory.trouble(&other), None);
    fake.sees(&other, Result::is_ok).await.unwrap();
    let text = fake.metrics.encode().unwrap();
    assert!(text.contains("ringfence_cache_bytes{kind=\"v1/Pod\"} 0"), "{text}");
    fake.inventory.want([y.as_slice(), &other]);
    let both = [y[0].clone(), other[0].clone()];
    let seen = fake.sees(&both, Result::is_ok).await.unwrap();
    assert_eq!(seen["namespace"]["n21"]["v1"]["Pod"]["one"]["spec"], json!({"y": 2}));
    assert_eq!(seen["cluster"]["v1"]["Namespace"]["a"]["metadata"]["name"], "a");
}

/// Anybody who may write in a namespace can fill it, and must not switch off by that what all others are judged by.
#[tokio::test]
async fn a_namespace_that_overfills_its_share_has_no_verdict_and_all_others_have_theirs() {
    let of = |namespace: &str, name: &str, size: usize, version: &str| {
        let mut pod = pod(name, version, &json!("x".repeat(size)));
        pod["metadata"]["namespace"] = json!(namespace);
        pod
    };
    let fake = Fake::new(160_000, move |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") && url.ends_with("resourceVersion=10") => {
            let second = event("ADDED", &of("fills", "two", 6_000, "11"));
            (200, second + &event("ADDED", &of("other", "two", 6, "12")))
        }
        url if url.contains("watch=true") => (200, String::new()),
        _ => (
            200,
            page(&[of("fills", "one", 6_000, "1"), of("other", "one", 6, "2")], ""),
        ),
    });
    let (x, y) = (
        [kind("", "v1", "Pod", &["spec.x"])],
        [kind("", "v1", "Pod", &["spec.y"])],
    );
    let mut changes = fake.inventory.changes();
    fake.inventory.want([x.as_slice(), y.as_slice()]);
    let is_there = |seen: &Result<Json, String>| {
        let seen = seen.as_ref().ok();
        seen.is_some_and(|seen| seen.pointer("/namespace/other/v1/Pod/two").is_some())
    };
    let seen = fake.sees(&x, is_there).await.unwrap();
    assert_eq!(seen.pointer("/namespace/fills"), None, "not even a part of it");
    let why = fake.inventory.of(&x, "fills").unwrap_err();
    assert!(
        why.contains("namespace fills weigh more") && why.contains("fewer or smaller"),
        "{why}"
    );
    let trouble = fake.inventory.trouble(&x).expect("it is said");
    assert!(
        trouble.is_too_large && trouble.why.contains("not seen: fills. No request there"),
        "{trouble:?}"
    );
    assert!(timeout(SOON, changes.changed()).await.is_ok());
    let text = fake.metrics.encode().unwrap();
    assert!(
        text.contains("ringfence_cache_namespaces_left_out{kind=\"v1/Pod\"} 1"),
        "{text}"
    );
    // What takes little of each object is not touched by what takes much.
    let seen = json_of(&fake.inventory.of(&y, "fills").unwrap());
    assert_eq!(seen["namespace"]["fills"]["v1"]["Pod"]["two"]["spec"], json!({"y": 2}));
    assert_eq!(fake.inventory.trouble(&y), None);
}

/// What one writes must not keep all others from being read: neither in a list nor by an event.
#[rstest::rstest]
#[case::too_deep(&json!((0..200).fold(json!(1), |inner, _| json!({"a": inner}))))]
#[case::half_a_pair(&json!("HALF"))]
#[case::no_text(&json!(RAW))]
#[tokio::test]
async fn a_namespace_with_an_object_that_cannot_be_read_is_left_out_and_all_others_are_seen(#[case] deep: &Json) {
    let written = |text: String| text.replace("HALF", "\\ud800");
    let of = |namespace: &str, name: &str, x: &Json, version: &str| {
        let mut pod = pod(name, version, x);
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["managedFields"] = json!([deep]);
        pod
    };
    let (listed, told) = (of("listed", "one", deep, "1"), of("told", "two", deep, "11"));
    let [first, second] = [of("other", "one", &json!(1), "2"), of("other", "two", &json!(2), "12")];
    let fake = Fake::new(INVENTORY_BUDGET, move |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") && url.ends_with("resourceVersion=10") => {
            (200, written(event("ADDED", &told)) + &event("ADDED", &second))
        }
        url if url.contains("watch=true") => (200, String::new()),
        url if url.contains("limit=1") && !url.contains("continue=") => {
            (200, written(page(std::slice::from_ref(&listed), "more")))
        }
        url if url.contains("continue=") => (200, page(std::slice::from_ref(&first), "")),
        _ => (200, written(page(&[listed.clone(), first.clone()], ""))),
    });
    let x = [kind("", "v1", "Pod", &["spec.x"])];
    fake.inventory.want([x.as_slice()]);
    let is_there = |seen: &Result<Json, String>| {
        let seen = seen.as_ref().ok();
        seen.is_some_and(|seen| seen.pointer("/namespace/other/v1/Pod/two").is_some())
    };
    let seen = fake.sees(&x, is_there).await.unwrap();
    assert_eq!(seen.pointer("/namespace/other/v1/Pod/one/spec"), Some(&json!({"x": 1})));
    for namespace in ["listed", "told"] {
        let why = fake.inventory.of(&x, namespace).unwrap_err();
        assert!(why.contains("one of them cannot be read"), "{why}");
    }
    let trouble = fake.inventory.trouble(&x).expect("it is said");
    assert!(trouble.why.contains("not seen: listed, told."), "{trouble:?}");
}

/// One namespace's objects may be so many and so large that a list takes minutes.
#[tokio::test]
async fn what_is_held_is_followed_while_it_is_listed_again() {
    let mut lists = 0;
    let fake = Fake::new(INVENTORY_BUDGET, move |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") && url.ends_with("resourceVersion=10") && lists > 1 => {
            (200, event("ADDED", &pod("two", "11", &json!(2))))
        }
        url if url.contains("watch=true") => (200, String::new()),
        _ => {
            lists += 1;
            let status = if lists > 1 { SILENT } else { 200 };
            (status, page(&[pod("one", "1", &json!(1))], ""))
        }
    });
    let (x, y) = (
        [kind("", "v1", "Pod", &["spec.x"])],
        [kind("", "v1", "Pod", &["spec.y"])],
    );
    fake.inventory.want([x.as_slice()]);
    fake.sees(&x, Result::is_ok).await.unwrap();
    fake.inventory.want([x.as_slice(), y.as_slice()]);
    let is_there = |seen: &Result<Json, String>| {
        let seen = seen.as_ref().ok();
        seen.is_some_and(|seen| seen.pointer("/namespace/a/v1/Pod/two").is_some())
    };
    fake.sees(&x, is_there).await.unwrap();
    let why = fake.inventory.of(&y, "a").unwrap_err();
    assert!(why.contains("being listed with the fields"), "{why}");
    assert_eq!(fake.count("limit="), 2, "one list at a time");
}

#[tokio::test]
async fn what_is_held_stays_while_it_is_listed_again_but_not_for_long() {
    let mut lists = 0;
    let fake = Fake::new(INVENTORY_BUDGET, move |url| match url {
        "/api/v1" => (200, core()),
        url if url.contains("watch=true") => {
            let gone =
                json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410});
            (200, event("ERROR", &gone))
        }
        _ => {
            lists += 1;
            match lists {
                1 => (200, page(&[pod("one", "1", &json!(1))], "")),
                _ => (500, json!({"message": "etcd is away"}).to_string()),
            }
        }
    });
    let x = [kind("", "v1", "Pod", &["spec.x"])];
    fake.inventory.want([x.as_slice()]);
    fake.sees(&x, Result::is_ok).await.unwrap();
    timeout(SOON, async {
        while fake.count("limit=") < 3 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let seen = json_of(&fake.inventory.of(&x, "a").expect("the old list"));
    assert_eq!(seen["namespace"]["a"]["v1"]["Pod"]["one"]["spec"], json!({"x": 1}));
    let followed = fake.inventory.followed.load_full();
    let followed = &followed[&Kind::of(&x[0])];
    let fields = Fields::of(&x[0].fields);
    let said = followed
        .look(&fields, "a", Instant::now() + Duration::from_secs(31))
        .unwrap_err();
    assert_eq!(said, "its watch has failed for more than 30 s: etcd is away (500)");
}

#[tokio::test]
async fn no_more_kinds_are_watched_than_may_be() {
    let fake = Fake::new(INVENTORY_BUDGET, |_| (404, "{}".to_owned()));
    let many: Vec<_> = (0..=MAX_KINDS)
        .map(|n| kind("x.io", "v1", &format!("K{n:03}"), &["spec"]))
        .collect();
    fake.inventory.want(many.chunks(8));
    let last = &many[MAX_KINDS..];
    let said = fake
        .sees(last, |seen| {
            seen.as_ref().is_err_and(|why| why.contains("more than 64 kinds"))
        })
        .await;
    assert!(said.unwrap_err().contains("ask for fewer"));
}

#[test]
fn a_kind_that_a_policy_names_twice_is_one_with_all_its_fields() {
    let twice = [
        kind("", "v1", "Pod", &["spec.x"]),
        kind("", "v1", "Pod", &["spec.y", "status"]),
    ];
    let once = [kind("", "v1", "Pod", &["status", "spec.x", "spec.y"])];
    assert_eq!(by_kind(&twice), by_kind(&once));
}
