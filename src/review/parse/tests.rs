use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "name": "p", "namespace": "ai", "dryRun": true,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": "ephemeralcontainers",
            "userInfo": {"username": "ann", "uid": "7", "groups": ["a", "b"], "extra": {"k": ["v"]}},
            "object": {"metadata": {"name": "p"}, "spec": {"newerThanUs": {"x": 1}}},
            "oldObject": null, "newerThanUsToo": [1],
        },
    })
}

fn parse(review: &Value) -> Result<Review, ParseError> {
    Review::parse(&serde_json::to_vec(review).unwrap())
}

#[test]
fn every_fact_is_read_and_nothing_of_the_request_is_lost() {
    let parsed = parse(&review()).unwrap();
    assert_eq!(parsed.request, review()["request"]);
    assert_eq!(
        (parsed.uid.as_str(), parsed.operation, parsed.name()),
        ("u-1", Operation::Create, "p")
    );
    assert_eq!(
        parsed.kind,
        Gvk {
            group: String::new(),
            version: "v1".into(),
            kind: "Pod".into()
        }
    );
    assert_eq!(
        parsed.resource,
        Gvr {
            group: String::new(),
            version: "v1".into(),
            resource: "pods".into()
        }
    );
    assert_eq!(
        (parsed.subresource.as_str(), parsed.namespace.as_deref()),
        ("ephemeralcontainers", Some("ai"))
    );
    assert!(parsed.dry_run);
    let extra = BTreeMap::from([("k".to_owned(), vec!["v".to_owned()])]);
    let user = User {
        username: "ann".into(),
        uid: "7".into(),
        groups: vec!["a".into(), "b".into()],
        extra,
    };
    assert_eq!(parsed.user, user);
    assert_eq!(parsed.current(), Some(&review()["request"]["object"]));
    assert_eq!(parsed.old_object(), None);
}

#[rstest]
#[case::api_version("/apiVersion", json!("admission.k8s.io/v1beta1"), "apiVersion")]
#[case::kind("/kind", json!("Pod"), "kind")]
#[case::request("/request", json!(null), "request")]
#[case::request_is_a_list("/request", json!([]), "request")]
#[case::uid("/request/uid", json!(7), "request.uid")]
#[case::empty_uid("/request/uid", json!(""), "request.uid")]
#[case::operation("/request/operation", json!("PATCH"), "request.operation")]
#[case::object_kind("/request/kind", json!("Pod"), "request.kind")]
#[case::empty_kind("/request/kind/kind", json!(""), "request.kind.kind")]
#[case::resource("/request/resource", json!({}), "request.resource.resource")]
#[case::subresource("/request/subResource", json!(["exec"]), "request.subResource")]
#[case::name("/request/name", json!({}), "request.name")]
#[case::namespace("/request/namespace", json!(["kube-system"]), "request.namespace")]
#[case::object("/request/object", json!("text"), "request.object")]
#[case::old_object("/request/oldObject", json!([]), "request.oldObject")]
#[case::user("/request/userInfo", json!(null), "request.userInfo")]
#[case::groups("/request/userInfo/groups", json!("system:masters"), "request.userInfo.groups")]
#[case::group("/request/userInfo/groups", json!([1]), "request.userInfo.groups")]
#[case::extra("/request/userInfo/extra", json!({"k": "v"}), "request.userInfo.extra")]
#[case::dry_run("/request/dryRun", json!("true"), "request.dryRun")]
fn a_field_of_another_type_is_named(#[case] pointer: &str, #[case] value: Value, #[case] field: &str) {
    let mut review = review();
    *review.pointer_mut(pointer).unwrap() = value;
    let error = parse(&review).unwrap_err();
    assert!(
        matches!(error.problem, Problem::Field(named) if named == field),
        "{error}"
    );
    let uid_is_readable = !["request", "request.uid"].contains(&field);
    assert_eq!(error.uid.as_deref(), uid_is_readable.then_some("u-1"));
}

#[rstest]
#[case::empty("")]
#[case::brace("{")]
#[case::two_values("{}{}")]
#[case::text("hello")]
fn what_is_no_json_is_said_to_be_none(#[case] body: &str) {
    assert!(matches!(
        Review::parse(body.as_bytes()).unwrap_err().problem,
        Problem::Json(_)
    ));
}

/// What the API server passes on as it was sent is up to who sent it; what is cut off is not.
#[rstest]
#[case::half_a_pair(br#""\ud800"}}"#, true)]
#[case::no_text(b"\"\xff\"}}", true)]
#[case::beyond_all_bounds(b"1e999}}", true)]
#[case::cut_off(br#""\ud8"#, false)]
fn an_object_that_is_no_json_is_told_from_a_body_that_broke_off(#[case] object: &[u8], #[case] is_the_object: bool) {
    let body = [br#"{"request":{"uid":"u-1","object":"#, object].concat();
    let error = Review::parse(&body).unwrap_err();
    assert_eq!(matches!(error.problem, Problem::Text(_)), is_the_object, "{error}");
    assert_eq!(matches!(error.problem, Problem::Json(_)), !is_the_object, "{error}");
    assert_eq!(error.uid.as_deref(), Some("u-1"));
}

#[test]
fn nesting_beyond_the_limit_keeps_the_uid() {
    let body = format!(r#"{{"request":{{"uid":"u-1","object":{}"#, "[".repeat(100_000));
    let error = Review::parse(body.as_bytes()).unwrap_err();
    assert!(matches!(error.problem, Problem::Depth), "{error}");
    assert_eq!(error.uid.as_deref(), Some("u-1"));
}

/// Whoever may write an object writes that list, and must not make the next review of it unreadable.
#[test]
fn of_who_wrote_which_field_what_nobody_reads_is_stepped_over() {
    let deep = |levels: u32| (0..levels).fold(json!({}), |inner, _| json!({"f:a": inner}));
    let entry = |annotation: &Value, template: &Value| {
        json!([{
            "manager": "m", "operation": "Apply",
            "fieldsV1": {"f:metadata": {"f:annotations": annotation, "f:finalizers": annotation}, "f:spec": {"f:replicas": {}, "f:template": template}},
        }])
    };
    for (group, reads) in [("apps", true), ("ringfence.dev", false)] {
        let mut review = review();
        review["request"]["kind"]["group"] = json!(group);
        review["request"]["object"]["metadata"]["managedFields"] = entry(&deep(200), &deep(200));
        let parsed = parse(&review);
        if !reads {
            assert!(matches!(parsed.unwrap_err().problem, Problem::Depth), "{group}");
            continue;
        }
        let kept = parsed.unwrap().object().unwrap()["metadata"]["managedFields"].clone();
        let fields = json!({
            "f:metadata": {"f:annotations": {"f:a": {}}, "f:finalizers": {"f:a": {}}}, "f:spec": {"f:replicas": {}, "f:template": deep(31)},
        });
        assert_eq!(
            kept,
            json!([{"manager": "m", "operation": "Apply", "fieldsV1": fields}])
        );
    }
}

#[test]
fn delete_is_about_the_old_object() {
    let mut review = review();
    review["request"]["operation"] = json!("DELETE");
    review["request"]["object"] = Value::Null;
    review["request"]["oldObject"] = json!({"metadata": {"name": "gone"}});
    review["request"]["name"] = json!("");
    let parsed = parse(&review).unwrap();
    assert_eq!(parsed.current(), Some(&json!({"metadata": {"name": "gone"}})));
    assert_eq!((parsed.object(), parsed.name()), (None, "gone"));
}

#[test]
fn name_is_empty_with_generate_name_and_with_deletecollection() {
    let mut generated = review();
    generated["request"]["name"] = json!("");
    generated["request"]["object"]["metadata"] = json!({"generateName": "p-"});
    assert_eq!(parse(&generated).unwrap().name(), "");

    let mut collection = review();
    collection["request"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| !["name", "object", "oldObject"].contains(&key.as_str()));
    collection["request"]["operation"] = json!("DELETE");
    let parsed = parse(&collection).unwrap();
    assert_eq!((parsed.name(), parsed.current()), ("", None));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Review::parse(&bytes);
    }

    /// Spoiled reviews go further into the parser than noise does.
    #[test]
    fn no_spoiled_review_makes_it_panic_or_lose_a_readable_uid(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&review()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        match Review::parse(&bytes) {
            Ok(review) => prop_assert_eq!(Some(review.uid), uid_of(&bytes)),
            Err(error) => prop_assert_eq!(error.uid, uid_of(&bytes)),
        }
    }
}
