//! Bytes to a review. The oracle is serde_json, which knows nothing of reviews: what it reads is what there is.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ringfence::review::{MAX_UID, Problem, Review, uid_of};
use serde_json::{Value, json};

use crate::json::any_json;
use crate::{corpus, runner};

/// A change of bytes that are JSON.
#[derive(Clone, Debug)]
enum Edit {
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let inserted = prop_oneof![
        vec(any::<u8>(), 1..8),
        select(vec![
            r#""uid":"evil","#,
            r#""request":{"uid":"evil"},"#,
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            "\\u0000",
            "\u{feff}",
            "1e999",
            "null"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (1usize..400).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ];
    prop_oneof![
        any::<Index>().prop_map(Edit::Cut),
        (any::<Index>(), 1usize..20).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), inserted).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1usize..60).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match edit {
            Edit::Cut(index) => bytes.truncate(at(index)),
            Edit::Remove(index, length) => {
                let from = at(index);
                bytes.drain(from..(from + length).min(bytes.len()));
            }
            Edit::Insert(index, more) => {
                let from = at(index);
                bytes.splice(from..from, more.iter().copied());
            }
            Edit::Repeat(index, length) => {
                let from = at(index);
                let again = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(from..from, again);
            }
        }
    }
    bytes
}

fn review() -> impl Strategy<Value = Value> {
    let operation = select(vec!["CREATE", "UPDATE", "DELETE", "CONNECT", "create", ""]);
    (operation, "[a-f0-9-]{0,36}", any_json(), any_json(), any_json()).prop_map(|(operation, uid, object, old, extra)| {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": uid, "operation": operation, "namespace": "ai", "object": object, "oldObject": old, "newerThanUs": extra,
                "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
                "userInfo": {"username": "ann", "uid": "evil", "groups": ["a"], "extra": {"k": ["v"]}},
            },
        })
    })
}

/// What must hold of any bytes.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let read: Option<Value> = serde_json::from_slice(bytes).ok();
    let uid = read
        .as_ref()
        .and_then(|read| read.pointer("/request/uid")?.as_str().map(str::to_owned));
    let uid = uid.filter(|uid| !uid.is_empty() && uid.len() <= MAX_UID);
    match Review::parse(bytes) {
        Ok(review) => {
            let read = read.ok_or_else(|| TestCaseError::fail("a review was read where serde_json reads nothing"))?;
            prop_assert_eq!(&review.request, &read["request"], "a field got lost or changed");
            prop_assert_eq!(
                Some(review.uid.as_str()),
                uid.as_deref(),
                "another uid than the request's"
            );
            for (sent, name) in [(review.object(), "object"), (review.old_object(), "oldObject")] {
                let there = &read["request"][name];
                prop_assert!(there.is_null() || there.is_object());
                prop_assert_eq!(sent, Some(there).filter(|there| !there.is_null()));
            }
        }
        Err(error) => {
            prop_assert!(
                !error.to_string().contains("evil"),
                "an error quotes what was sent: {}",
                error
            );
            // Cut off, or not as it should be further on: the uid at the beginning is echoed all the same.
            prop_assert_eq!(&error.uid, &uid_of(bytes));
            if let Some(uid) = uid.filter(|_| keys_are_single(bytes)) {
                prop_assert_eq!(Some(&uid), error.uid.as_ref(), "the uid got lost");
            }
            if let Some(read) = read.filter(is_a_review) {
                prop_assert!(matches!(error.problem, Problem::Weight), "{}: refused {}", error, read);
            }
        }
    }
    Ok(())
}

/// Whether `request` and `uid` are there once at the most: of two, the first is echoed and the last is read, and no API server sends two.
fn keys_are_single(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.matches("\"request\"").count() <= 1
        && !text.contains("\\u")
        && text
            .split_once("\"request\"")
            .is_none_or(|(_, rest)| rest.matches("\"uid\":\"").count() <= 2)
}

/// An AdmissionReview by the words of admission.k8s.io/v1, as far as these tests spoil them.
fn is_a_review(read: &Value) -> bool {
    let request = &read["request"];
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let none_or =
        |value: Option<&Value>, test: fn(&Value) -> bool| value.is_none_or(|value| value.is_null() || test(value));
    let texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let maps = ["kind", "resource"].iter().all(|key| {
        let map = &request[*key];
        map.is_object()
            && text(&map[*key])
            && ["group", "version"]
                .iter()
                .all(|key| none_or(map.get(*key), Value::is_string))
    });
    let user = &request["userInfo"];
    read["apiVersion"] == "admission.k8s.io/v1"
        && read["kind"] == "AdmissionReview"
        && request["uid"]
            .as_str()
            .is_some_and(|uid| !uid.is_empty() && uid.len() <= MAX_UID)
        && ["CREATE", "UPDATE", "DELETE", "CONNECT"]
            .iter()
            .any(|operation| request["operation"] == *operation)
        && maps
        && ["subResource", "namespace", "name"]
            .iter()
            .all(|key| none_or(request.get(*key), Value::is_string))
        && ["object", "oldObject"]
            .iter()
            .all(|key| none_or(request.get(*key), Value::is_object))
        && none_or(request.get("dryRun"), Value::is_boolean)
        && user.is_object()
        && ["username", "uid"]
            .iter()
            .all(|key| none_or(user.get(*key), Value::is_string))
        && user
            .get("groups")
            .is_none_or(|groups| groups.is_null() || texts(groups))
        && user.get("extra").is_none_or(|extra| {
            extra.is_null()
                || extra
                    .as_object()
                    .is_some_and(|extra| extra.values().all(|of| of.is_null() || texts(of)))
        })
}

#[test]
fn whatever_bytes_come_they_are_read_as_they_are_or_refused_with_their_uid() {
    for (name, bytes) in corpus("reviews") {
        check(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let edits = prop_oneof![1 => Just(Vec::new()), 4 => vec(edit(), 1..4)];
    let run = runner(2000).run(&(review(), edits), |(review, edits)| {
        check(&edited(review.to_string().into_bytes(), &edits))
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    let run = runner(1000).run(&vec(any::<u8>(), 0..300), |bytes| check(&bytes));
    run.unwrap_or_else(|error| panic!("{error}"));
}
