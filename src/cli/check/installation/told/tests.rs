use std::fs;
use std::path::Path;

use rstest::rstest;

use super::*;
use crate::{api::committed, plan::guards};

fn chart(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("charts/ringfence")
        .join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// States and messages, `ok` left out.
fn wrong(told: &[Told]) -> Vec<String> {
    let wrong = told.iter().filter(|told| told.state != State::Good);
    wrong
        .map(|told| {
            assert!(!told.fix.is_empty(), "what to do: {told:?}");
            format!("{} {}: {}", told.state.as_str(), told.check, told.message)
        })
        .collect()
}

#[track_caller]
fn one_says(told: &[Told], start: &str, word: &str) {
    let wrong = wrong(told);
    let [one] = &wrong[..] else { panic!("{wrong:?}") };
    assert!(one.starts_with(start) && one.contains(word), "{one}");
}

#[test]
fn what_is_looked_for_is_what_the_chart_makes() {
    let webhooks = chart("templates/webhooks.yaml");
    let names = webhooks.lines().filter_map(|line| line.strip_prefix("- name: "));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".ringfence.dev")).collect();
    names.sort_unstable();
    assert_eq!(names, WEBHOOKS);
    for guard in guards() {
        let file = chart(&format!("guards/{}.yaml", guard.trim_start_matches("ringfence-")));
        assert_eq!(
            file.matches(&format!("\n  name: {guard}\n")).count(),
            2,
            "{guard} is called as its file"
        );
    }
    assert!(chart("Chart.yaml").contains(&format!("kubeVersion: \">=1.{OLDEST}.0-0\"")));
}

#[rstest]
#[case::newest("1", "36", None)]
#[case::oldest("1", "31", None)]
#[case::of_a_vendor("1", "31+", None)]
#[case::too_old(
    "1",
    "30",
    Some("error version: this cluster is Kubernetes v1.x, which is too old: Ringfence needs 1.31")
)]
#[case::of_a_vendor_and_too_old("1", "9+", Some("error version: this cluster"))]
#[case::unheard_of("2", "0", Some("warning version: "))]
#[case::nothing("", "", Some("warning version: "))]
fn a_cluster_is_old_or_not(#[case] major: &str, #[case] minor: &str, #[case] says: Option<&str>) {
    let told = version(&json!({"major": major, "minor": minor, "gitVersion": "v1.x"}));
    match says {
        None => assert!(wrong(&told).is_empty(), "{told:?}"),
        Some(start) => one_says(&told, start, ""),
    }
}

#[test]
fn a_definition_is_there_of_this_version_and_served() {
    let wanted = &committed()[0];
    let mut found = wanted.clone();
    // As the API server writes numbers.
    let text = serde_json::to_string(&found)
        .unwrap()
        .replace(".0,", ",")
        .replace(".0}", "}");
    found = serde_json::from_str(&text).unwrap();
    found["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
    assert!(definition(wanted, Some(&found)).is_empty());
    one_says(&definition(wanted, None), "error definitions: ", "is not there");
    let mut edited = found.clone();
    edited["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["maxProperties"] = json!(7);
    one_says(
        &definition(wanted, Some(&edited)),
        "error definitions: ",
        "another version",
    );
    found["status"] = Value::Null;
    one_says(
        &definition(wanted, Some(&found)),
        "error definitions: ",
        "not established",
    );
}

/// A certificate of an authority that ends then, as a caBundle.
fn bundle(ends: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["test".to_owned()]).unwrap();
    let end: Timestamp = ends.parse().unwrap();
    params.not_before = time::OffsetDateTime::UNIX_EPOCH;
    params.not_after = time::OffsetDateTime::from_unix_timestamp(end.as_second()).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    json!(ByteString(pem.into_bytes())).as_str().unwrap().to_owned()
}

fn registered(bundle: &str) -> Value {
    let webhook = |name: &str| json!({"name": name, "failurePolicy": "Fail", "clientConfig": {"caBundle": bundle}});
    json!({"webhooks": WEBHOOKS.map(webhook)})
}

#[test]
fn a_registration_is_whole_fails_closed_and_trusts() {
    let good = registered(&bundle("2036-01-01T00:00:00Z"));
    let told = registration(Some(&good), now());
    assert!(wrong(&told).is_empty() && told.len() == 2, "{told:?}");
    one_says(&registration(None, now()), "error registrations: ", "is not there");
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut object = good.clone();
        edit(&mut object["webhooks"]);
        registration(Some(&object), now())
    };
    let told = edited(&|webhooks| drop(webhooks.as_array_mut().unwrap().remove(2)));
    one_says(&told, "error registrations: ", "has no webhook kinds.ringfence.dev");
    let told = edited(&|webhooks| webhooks[1]["failurePolicy"] = json!("Ignore"));
    one_says(
        &told,
        "error registrations: ",
        "webhook fence.ringfence.dev has another failurePolicy",
    );
    let told = edited(&|webhooks| webhooks[1]["clientConfig"] = json!({"url": "https://x"}));
    one_says(
        &told,
        "error certificate: ",
        "webhook fence.ringfence.dev has no caBundle",
    );
    let told = edited(&|webhooks| webhooks[1]["clientConfig"]["caBundle"] = json!("eA=="));
    one_says(&told, "error certificate: ", "no certificate that can be read");
}

#[rstest]
#[case::long_ago("2026-05-31T00:00:00Z", "error certificate: ", "ended at 2026-05-31")]
#[case::soon("2026-06-20T00:00:00Z", "warning certificate: ", "ends at 2026-06-20")]
fn what_is_trusted_ends(#[case] end: &str, #[case] start: &str, #[case] word: &str) {
    one_says(&registration(Some(&registered(&bundle(end))), now()), start, word);
}

#[test]
fn a_guard_refuses_or_is_told() {
    let policy = json!({"spec": {"failurePolicy": "Fail"}});
    let binding = json!({"spec": {"validationActions": ["Deny"]}});
    assert!(guard("g", Some(&policy), Some(&binding)).is_empty());
    one_says(&guard("g", Some(&policy), None), "error guards: ", "is not there");
    one_says(&guard("g", None, Some(&binding)), "error guards: ", "is not there");
    let lax = json!({"spec": {"failurePolicy": "Ignore"}});
    one_says(
        &guard("g", Some(&lax), Some(&binding)),
        "error guards: ",
        "does not refuse",
    );
    let warns = json!({"spec": {"validationActions": ["Warn"]}});
    one_says(
        &guard("g", Some(&policy), Some(&warns)),
        "error guards: ",
        "does not refuse",
    );
}

#[rstest]
#[case::all(2, 2, None)]
#[case::one(2, 1, Some("warning replicas: 1 of 2"))]
#[case::none(2, 0, Some("error replicas: none of 2"))]
#[case::outside(0, 0, Some("warning replicas: the Deployment has no replicas"))]
fn replicas_are_ready_or_not(#[case] wanted: i64, #[case] ready: i64, #[case] says: Option<&str>) {
    let told = replicas(
        Some(&json!({"spec": {"replicas": wanted}, "status": {"readyReplicas": ready}})),
        "ours",
    );
    match says {
        None => assert!(wrong(&told).is_empty(), "{told:?}"),
        Some(start) => one_says(&told, start, ""),
    }
    one_says(&replicas(None, "ours"), "error replicas: ", "not in namespace ours");
}

#[rstest]
#[case::held(json!({"holderIdentity": "a", "renewTime": "2026-05-31T23:59:58.000000Z", "leaseDurationSeconds": 15}), true)]
#[case::run_out(json!({"holderIdentity": "a", "renewTime": "2026-05-31T23:50:00.000000Z", "leaseDurationSeconds": 15}), false)]
#[case::released(json!({"holderIdentity": "", "renewTime": "2026-05-31T23:59:58.000000Z", "leaseDurationSeconds": 15}), false)]
#[case::empty(json!({}), false)]
fn somebody_makes_the_fences_or_nobody(#[case] spec: Value, #[case] is_held: bool) {
    let told = leader(Some(&json!({"spec": spec})), now());
    if is_held {
        assert!(wrong(&told).is_empty() && told[0].message.contains('a'), "{told:?}");
    } else {
        one_says(&told, "error leader: ", "nobody holds Lease ringfence");
    }
    one_says(&leader(None, now()), "error leader: ", "nobody holds");
}

#[test]
fn broken_policies_are_named() {
    let policy = |name: &str, status: &str| {
        json!({"metadata": {"name": name}, "status": {"conditions": [
            {"type": "Compiled", "status": status, "message": "line 1"}, {"type": "Enforced", "status": "True"},
        ]}})
    };
    assert!(wrong(&policies(&json!({"items": [policy("good", "True")]}))).is_empty());
    let told = policies(&json!({"items": [policy("good", "True"), policy("bad", "False")]}));
    one_says(&told, "warning policies: ", "RegoPolicy bad is not compiled: line 1");
    let mut both = policy("bad", "False");
    both["status"]["conditions"][1]["status"] = json!("False");
    one_says(
        &policies(&json!({"items": [both]})),
        "warning policies: ",
        "is not compiled",
    );
}

#[rstest]
#[case::answers(
    403,
    "admission webhook \"label.ringfence.dev\" denied the request: ringfence refused this ConfigMap",
    None
)]
#[case::not_trusted(
    500,
    "Internal error occurred: failed calling webhook \"label.ringfence.dev\": tls: x509: certificate signed by unknown authority",
    Some("error webhook: the API server does not trust it")
)]
#[case::not_reached(
    500,
    "Internal error occurred: failed calling webhook \"label.ringfence.dev\": dial tcp: connection refused",
    Some("error webhook: the API server cannot ask it")
)]
#[case::not_asked(201, "", Some("error webhook: a labelled object in namespace default"))]
#[case::no_right(
    403,
    "configmaps is forbidden: User \"x\" cannot create resource",
    Some("unknown webhook: ")
)]
#[case::of_somebody_else(
    403,
    "admission webhook \"x.example.com\" denied the request: no",
    Some("unknown webhook: ")
)]
fn a_dry_run_tells_who_answers(#[case] code: u16, #[case] message: &str, #[case] says: Option<&str>) {
    let told = probe(code, message, "default");
    match says {
        None => assert!(wrong(&told).is_empty(), "{told:?}"),
        Some(start) => one_says(&told, start, ""),
    }
}

#[test]
fn what_differs_from_what_the_chart_rendered_is_named_and_never_quoted() {
    let rendered = json!({"webhooks": [
        {"name": "a.ringfence.dev", "failurePolicy": "Fail", "timeoutSeconds": 5, "rules": []},
        {"name": "b.ringfence.dev", "failurePolicy": "Fail", "objectSelector": {"matchLabels": {"l": "1"}}},
    ]});
    let mut stored = rendered.clone();
    stored["webhooks"][0]["namespaceSelector"] = json!({});
    stored["webhooks"][0]["objectSelector"] = json!({});
    stored["webhooks"][1]["namespaceSelector"] = json!({});
    assert_eq!(compared_registration(Some(&rendered), &stored), []);
    stored["webhooks"][0]["failurePolicy"] = json!("Ignore");
    assert_eq!(
        compared_registration(Some(&rendered), &stored),
        [],
        "that is said by itself"
    );
    stored["webhooks"][0]["timeoutSeconds"] = json!(1);
    stored["webhooks"][0]["matchConditions"] = json!([{"name": "never", "expression": "'quoted' == ''"}]);
    let told = compared_registration(Some(&rendered), &stored);
    one_says(
        &told,
        "error registrations: ",
        "a.ringfence.dev has other matchConditions, timeoutSeconds than",
    );
    assert!(!told[0].message.contains("quoted"), "{told:?}");

    let guard = json!({"spec": {"policyName": "x", "validationActions": ["Deny"]}});
    assert_eq!(
        compared_guard("ValidatingAdmissionPolicyBinding", "x", Some(&guard), &guard),
        []
    );
    let mut edited = guard.clone();
    edited["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"no": "namespace"}}});
    let told = compared_guard("ValidatingAdmissionPolicyBinding", "x", Some(&guard), &edited);
    one_says(
        &told,
        "error guards: ",
        "ValidatingAdmissionPolicyBinding x has other matchResources than",
    );

    // Nothing is compared with what is not there.
    let told = compared_guard("ValidatingAdmissionPolicyBinding", "x", None, &edited);
    one_says(
        &told,
        "warning guards: ConfigMap ringfence-registrations does not say what",
        "ValidatingAdmissionPolicyBinding x is like",
    );
    let told = compared_registration(None, &stored);
    one_says(
        &told,
        "warning registrations: ",
        "does not say what ValidatingWebhookConfiguration",
    );
}
