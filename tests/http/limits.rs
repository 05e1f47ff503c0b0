//! More than the server takes: some wait, some are told to come again, none is lost and none is decided wrongly.

use futures::future::join_all;
use ringfence::webhook::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout};
use tokio_rustls::client::TlsStream;

use crate::support::{PATIENCE, Server, allowed, refused, request, review};

/// A large review as the API server writes it: the uid comes first.
fn large(name: &str, bytes: usize) -> String {
    holding(name, json!("x".repeat(bytes)))
}

fn holding(name: &str, data: Value) -> String {
    let mut review = review(name);
    review["request"]["object"]["data"] = data;
    review["request"].as_object_mut().unwrap().remove("uid");
    review
        .to_string()
        .replacen(r#""request":{"#, r#""request":{"uid":"u-1","#, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn load_above_the_budget_waits_its_turn() {
    let server = Server::start(Limits {
        bodies: 2 << 20,
        ..Limits::default()
    });
    let requests = (0..24).map(|_| async { server.post(large("fine", 1 << 20)).await.response() });
    for response in join_all(requests).await {
        assert_eq!(response, allowed());
    }
    assert_eq!(server.script.seen.lock().unwrap().len(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_bodies_that_are_heavy_once_parsed_wait_their_turn_too() {
    let server = Server::start(Limits {
        reviews: 1 << 20,
        ..Limits::default()
    });
    // 64 KiB of empty strings weigh more than the budget each: one at a time, and none is refused.
    let heavy = holding("fine", json!(vec![""; 16 << 10]));
    let requests = (0..8).map(|_| async { server.post(heavy.clone()).await.response() });
    for response in join_all(requests).await {
        assert_eq!(response, allowed());
    }
    assert_eq!(server.script.seen.lock().unwrap().len(), 8);

    // And it is this budget that they wait for: while one is being judged, another finds no room in time.
    let heavy = |name: &str, timeout: &str| {
        let path = format!("/admit/fence?timeout={timeout}");
        request(&path, "application/json", holding(name, json!(vec![""; 16 << 10])))
    };
    let first = server.send(heavy("sleeps", "3s"));
    let second = async {
        while server.script.seen.lock().unwrap().len() <= 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.send(heavy("fine", "1s")).await.response()
    };
    let (_, second) = futures::join!(first, second);
    let message = "ringfence could not review this object: reviews that are being judged hold all the memory that they may. Fix: \
        try again; if it persists, run more replicas.";
    assert_eq!(second, refused(503, "ServiceUnavailable", message));
}

/// Clients that say that 32 MiB will come, and send one byte of it.
async fn claim(server: &Server) -> Vec<TlsStream<TcpStream>> {
    let mut claimants = Vec::new();
    for _ in 0..4 {
        let mut claimant = server.tls("http/1.1").await.unwrap();
        let head = "POST /admit/fence?timeout=30s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 33554432\r\n\r\n{";
        claimant.write_all(head.as_bytes()).await.unwrap();
        claimant.flush().await.unwrap();
        claimants.push(claimant);
    }
    claimants
}

#[tokio::test]
async fn who_claims_much_and_sends_nothing_keeps_no_ordinary_review_out() {
    let server = Server::start(Limits {
        arrival: Duration::from_secs(60),
        ..Limits::default()
    });
    let _claimants = claim(&server).await;
    // The claims have taken all the room for large bodies, and hold it.
    let large = server
        .send(request(
            "/admit/fence?timeout=1s",
            "application/json",
            large("fine", 2 << 20),
        ))
        .await;
    assert_eq!(large.response()["status"]["code"], 503);
    let small = (0..16).map(|_| async { server.post(review("fine").to_string()).await.response() });
    for response in join_all(small).await {
        assert_eq!(response, allowed());
    }
}

#[tokio::test]
async fn a_claim_ends_when_nothing_comes_and_not_by_its_own_deadline() {
    let server = Server::start(Limits {
        arrival: Duration::from_millis(500),
        ..Limits::default()
    });
    let _claimants = claim(&server).await;
    let response = timeout(Duration::from_secs(10), server.post(large("fine", 2 << 20)))
        .await
        .expect("room again");
    assert_eq!(response.response(), allowed());
}

#[tokio::test]
async fn who_finds_no_room_in_time_is_told_with_the_uid() {
    let server = Server::start(Limits {
        small_bodies: 1 << 20,
        ..Limits::default()
    });
    let mut client = server.http1().await;
    let slow = request(
        "/admit/fence?timeout=3s",
        "application/json",
        large("sleeps", 900 << 10),
    );
    let slow = tokio::spawn(client.send_request(slow));
    while server.script.seen.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let reply = server
        .send(request(
            "/admit/fence?timeout=1s",
            "application/json",
            large("fine", 900 << 10),
        ))
        .await;
    let message = "ringfence could not review this object: reviews in flight hold all the memory that reviews may. Fix: try \
        again; if it persists, run more replicas.";
    assert_eq!(reply.response(), refused(503, "ServiceUnavailable", message));
    assert_eq!(timeout(PATIENCE, slow).await.unwrap().unwrap().unwrap().status(), 200);
    assert_eq!(
        server.post(large("fine", 900 << 10)).await.response(),
        allowed(),
        "room is given back"
    );
}

#[tokio::test]
async fn evaluations_beyond_the_limit_wait_and_are_told_in_time() {
    let server = Server::start(Limits {
        evaluations: 1,
        ..Limits::default()
    });
    let naps = (0..3).map(|_| async { server.post(review("naps").to_string()).await.response() });
    let began = Instant::now();
    assert_eq!(join_all(naps).await, vec![allowed(); 3]);
    assert!(
        began.elapsed() >= Duration::from_millis(1_200),
        "one at a time: {:?}",
        began.elapsed()
    );

    let post = |timeout: &str| {
        request(
            &format!("/admit/fence?timeout={timeout}"),
            "application/json",
            review("sleeps").to_string(),
        )
    };
    let first = server.send(post("3s"));
    let second = async {
        // Once the first one, after the three naps, is being judged, it holds the only slot.
        while server.script.seen.lock().unwrap().len() <= 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.send(post("1s")).await
    };
    let (first, second) = futures::join!(first, second);
    assert_eq!(first.response()["status"]["code"], 504);
    let message = "ringfence could not review this object: as many reviews are evaluated as may be at a time. Fix: try again; \
        if it persists, run more replicas.";
    assert_eq!(second.response(), refused(503, "ServiceUnavailable", message));
}

/// One tenant whose pods take long to judge keeps nobody waiting but that tenant.
#[tokio::test]
async fn a_namespace_that_floods_waits_for_itself() {
    let server = Server::start(Limits {
        evaluations_of_one: 1,
        bodies_of_one: 2 << 20,
        ..Limits::default()
    });
    let elsewhere = |name: &str| {
        let mut review = review(name);
        review["request"]["namespace"] = serde_json::json!("other");
        review.to_string()
    };
    let mut client = server.http1().await;
    let slow = request(
        "/admit/fence?timeout=3s",
        "application/json",
        large("sleeps", 900 << 10),
    );
    let slow = tokio::spawn(client.send_request(slow));
    while server.script.seen.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    let fat = server.post(large("fine", 900 << 10)).await.response();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "refused at once: {:?}",
        began.elapsed()
    );
    let message = "ringfence could not review this object: your reviews of this namespace in flight hold all the memory that \
        those of one user may. Fix: send fewer requests to this namespace at a time, and this one again.";
    assert_eq!(fat, refused(503, "ServiceUnavailable", message));
    let second = request(
        "/admit/fence?timeout=1s",
        "application/json",
        review("fine").to_string(),
    );
    let message = "ringfence could not review this object: as many reviews of this namespace, or of yours in it, are evaluated as may \
        be at a time. Fix: send fewer requests to this namespace at a time, and this one again.";
    assert_eq!(
        server.send(second).await.response(),
        refused(503, "ServiceUnavailable", message)
    );
    assert_eq!(server.post(elsewhere("fine")).await.response(), allowed());
    assert_eq!(timeout(PATIENCE, slow).await.unwrap().unwrap().unwrap().status(), 200);
    assert_eq!(server.post(review("fine").to_string()).await.response(), allowed());
}

/// Each review that waits holds a connection, and one tenant's must not hold them all.
#[tokio::test]
async fn of_one_namespace_only_so_many_reviews_wait_and_one_more_is_refused_at_once() {
    let server = Server::start(Limits {
        in_flight_of_one: 4,
        ..Limits::default()
    });
    let by = |user: &str, namespace: &str, name: &str| {
        let body = sent(user, namespace, name, &json!({}));
        request("/admit/fence?timeout=5s", "application/json", body)
    };
    let of = |namespace: &str, name: &str| by("tess", namespace, name);
    let flood = join_all((0..2).map(|_| server.send(of("floods", "dozes"))));
    let others = async {
        while server.script.seen.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let message = "ringfence could not review this object: as many of your reviews of this namespace are in flight as may be of one \
            user at a time. Fix: send fewer requests to this namespace at a time, and this one again.";
        assert_eq!(
            server.send(of("floods", "fine")).await.response(),
            refused(503, "ServiceUnavailable", message)
        );
        assert_eq!(server.send(of("other", "fine")).await.response(), allowed());
        // A launcher withdraws what the flood makes.
        assert_eq!(server.send(by("lea", "floods", "fine")).await.response(), allowed());
        assert_eq!(server.script.seen.lock().unwrap().len(), 4, "and the flood still waits");
    };
    let (flood, ()) = tokio::join!(flood, others);
    for reply in flood {
        assert_eq!(reply.response(), allowed());
    }
    assert_eq!(server.send(of("floods", "fine")).await.response(), allowed());
}

/// A review of a Pod as the API server writes it: the object comes after what is said of it. What the script goes by is the request's name.
fn sent(user: &str, namespace: &str, name: &str, object: &Value) -> String {
    let whole = review(name);
    let request = &whole["request"];
    let fields = [
        ("uid", &request["uid"]),
        ("kind", &request["kind"]),
        ("resource", &request["resource"]),
        ("name", &request["name"]),
        ("namespace", &json!(namespace)),
        ("operation", &request["operation"]),
        ("userInfo", &json!({"username": user})),
        ("object", object),
    ];
    let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{{}}}}}"#,
        fields.join(",")
    )
}

/// Waits until so many are being judged.
async fn judged(server: &Server, count: usize) {
    while server.script.seen.lock().unwrap().len() < count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Names of Roles and bindings have no bound, and stand ahead of the namespace.
#[tokio::test]
async fn a_long_name_takes_nobody_out_of_the_share_of_its_namespace() {
    let server = Server::start(Limits {
        in_flight_of_one: 1,
        ..Limits::default()
    });
    let post = |user: &str, namespace: &str, name: &str| {
        let body = sent(user, namespace, name, &json!({}));
        server.send(request("/admit/bindings?timeout=5s", "application/json", body))
    };
    let long = format!("dozes{}", "n".repeat(900 << 10));
    let dozes = post("tess", "floods", &long);
    let others = async {
        judged(&server, 1).await;
        assert_eq!(post("lea", "floods", "fine").await.response()["status"]["code"], 503);
        assert_eq!(post("tess", "other", "fine").await.response(), allowed());
    };
    let (dozed, ()) = tokio::join!(dozes, others);
    assert_eq!(dozed.response(), allowed());
}

/// What lies in no namespace is no tenant's own, and anybody may write some of it.
#[tokio::test]
async fn who_floods_what_lies_in_no_namespace_keeps_no_other_user_out() {
    let server = Server::start(Limits {
        in_flight_of_one: 1,
        ..Limits::default()
    });
    let post = |user: &str, name: &str| {
        let body = sent(user, "", name, &json!({}));
        server.send(request("/admit/label?timeout=5s", "application/json", body))
    };
    let dozes = post("tess", "dozes");
    let others = async {
        judged(&server, 1).await;
        assert_eq!(post("tess", "fine").await.response()["status"]["code"], 503);
        assert_eq!(post("admin", "fine").await.response(), allowed());
    };
    let (dozed, ()) = tokio::join!(dozes, others);
    assert_eq!(dozed.response(), allowed());
}

/// Shares that one review fills: of all, and of its namespace.
fn filled_by_one() -> [(&'static str, Limits); 8] {
    let all = Limits::default;
    [
        (
            "floods",
            Limits {
                in_flight_of_one: 1,
                ..all()
            },
        ),
        (
            "floods",
            Limits {
                evaluations_of_one: 1,
                ..all()
            },
        ),
        (
            "floods",
            Limits {
                bodies_of_one: 1 << 10,
                ..all()
            },
        ),
        (
            "floods",
            Limits {
                reviews_of_one: 1 << 10,
                ..all()
            },
        ),
        (
            "another",
            Limits {
                evaluations: 1,
                ..all()
            },
        ),
        (
            "another",
            Limits {
                reviews: 1 << 10,
                ..all()
            },
        ),
        (
            "another",
            Limits {
                reviews_of_one: 1 << 10,
                heavy: 1 << 10,
                ..all()
            },
        ),
        (
            "another",
            Limits {
                small_bodies: 1 << 10,
                ..all()
            },
        ),
    ]
}

/// While a review of the namespace `floods` fills each share, another of the same user is refused, by a policy that fails open, which has so long.
async fn beside_a_full_share(name: &str, timeout: &str) {
    for (namespace, limits) in filled_by_one() {
        let server = Server::start(limits);
        let post = |namespace: &str, name: &str, timeout: &str| {
            let path = format!("/admit/policies/ignore-0123456789abcdef/0123456789ab?timeout={timeout}");
            let body = sent("tess", namespace, name, &json!({}));
            server.send(request(&path, "application/json", body))
        };
        let other = async {
            judged(&server, 1).await;
            post(namespace, name, timeout).await.response()
        };
        let (dozed, other) = tokio::join!(post("floods", "dozes", "9s"), other);
        assert_eq!(dozed.response(), allowed());
        assert_eq!(
            (&other["allowed"], &other["status"]["code"]),
            (&json!(false), &json!(503)),
            "{other}"
        );
    }
}

/// Beside what keeps a whole share busy, what a policy denies would pass.
#[tokio::test]
async fn who_fills_a_share_passes_no_policy_that_fails_open() {
    beside_a_full_share("denied", "1s").await;
}

/// Who waits in a queue of one's own is judged with what is left of the time, and that is what one likes it to be. Whoever has several
/// namespaces fills the rooms of all.
#[tokio::test]
async fn who_leaves_no_time_passes_no_policy_that_fails_open() {
    // Its turn comes after 2 s, and its policy takes longer than what is left then.
    beside_a_full_share("sleeps", "2600ms").await;
}

/// A tenant's largest bodies leave room for a launcher's.
#[tokio::test]
async fn one_user_leaves_half_of_a_namespace_to_the_others() {
    let server = Server::start(Limits {
        bodies_of_one: 1 << 20,
        ..Limits::default()
    });
    let post = |user: &str, name: &str, bytes: usize| {
        let body = sent(user, "ai", name, &json!({"data": "<".repeat(bytes)}));
        server.send(request("/admit/fence?timeout=5s", "application/json", body))
    };
    let dozes = post("tess", "dozes", 2 << 20);
    let others = async {
        judged(&server, 1).await;
        assert_eq!(post("tess", "fine", 0).await.response()["status"]["code"], 503);
        assert_eq!(post("lea", "fine", 400 << 10).await.response(), allowed());
    };
    let (dozed, ()) = tokio::join!(dozes, others);
    assert_eq!(dozed.response(), allowed());
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let server = Server::start(Limits {
        idle: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut silent = server.tls("http/1.1").await.unwrap();
    let closed = timeout(Duration::from_secs(5), silent.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_closed() {
    let server = Server::start(Limits {
        handshake: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    // The first of a record that says that more will come.
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let closed = timeout(Duration::from_secs(5), slow.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn a_head_that_never_ends_is_closed() {
    let server = Server::start(Limits {
        idle: Duration::from_millis(500),
        ..Limits::default()
    });
    let mut slow = server.tls("http/1.1").await.unwrap();
    let closed = timeout(Duration::from_secs(5), async {
        slow.write_all(b"POST /admit/fence HTTP/1.1\r\n").await.unwrap();
        while slow.write_all(b"x: y\r\n").await.is_ok() && slow.flush().await.is_ok() {
            let mut byte = [0];
            if let Ok(Ok(0) | Err(_)) = timeout(Duration::from_millis(50), slow.read(&mut byte)).await {
                return;
            }
        }
    });
    assert!(closed.await.is_ok());
}

/// An object that is as heavy as can be takes the room of its like, and nobody else's.
#[tokio::test]
async fn the_heaviest_review_leaves_room_for_all_others() {
    const MIB: usize = 1 << 20;
    let server = Server::start(Limits {
        reviews: 2 * MIB,
        reviews_of_one: 2 * MIB,
        heavy: 3 * MIB,
        ..Limits::default()
    });
    let post = |namespace: &str, name: &str, timeout: &str, texts: usize| {
        let path = format!("/admit/fence?timeout={timeout}");
        let body = sent("tess", namespace, name, &json!({"data": vec![""; texts]}));
        server.send(request(&path, "application/json", body))
    };
    let dozes = post("heavy", "dozes", "5s", 16 << 10);
    let others = async {
        judged(&server, 1).await;
        assert_eq!(post("other", "fine", "1s", 1).await.response(), allowed());
        let heavy = post("another", "fine", "1s", 16 << 10).await.response();
        assert_eq!(heavy["status"]["code"], 503, "{heavy}");
        assert_eq!(
            server.script.seen.lock().unwrap().len(),
            2,
            "and the heavy one is still judged"
        );
    };
    let (dozed, ()) = tokio::join!(dozes, others);
    assert_eq!(dozed.response(), allowed());
    assert_eq!(post("another", "fine", "5s", 16 << 10).await.response(), allowed());
}
