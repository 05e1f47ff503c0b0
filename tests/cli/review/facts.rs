//! What a verdict rests on beside the object, where it comes from, and what becomes of a rule without it.

use rstest::rstest;
use serde_json::{Value, json};

use super::{Files, NAMESPACE, POD, WORKFLOW, not_judged, refusing};

const ALICE: [&str; 2] = ["--as", "alice@example.com"];

fn all(namespace: &str, workflow: &str, object: &str) -> Files {
    Files::of(&[
        ("context/n.yaml", namespace),
        ("context/w.yaml", workflow),
        ("m.yaml", object),
    ])
}

fn judged(files: &Files, more: &[&str]) -> (i32, Value) {
    files.json(&[&["--context", "DIR/context", "DIR/m.yaml"], more].concat(), b"")
}

#[test]
fn with_every_fact_every_rule_is_judged() {
    let (code, json) = judged(&all(NAMESPACE, WORKFLOW, POD), &[&ALICE[..], &["--strict"]].concat());
    assert_eq!(
        (code, not_judged(&json), refusing(&json)),
        (0, vec![], vec![]),
        "{json}"
    );
    assert_eq!(json["results"][0]["answers"][0]["webhook"], "fence");
}

/// Each fact by itself: what is not judged for want of it, and that `--strict` says so.
#[rstest]
#[case::namespace("", WORKFLOW, &ALICE, "Namespace ai", &["declared-workflow", "default-deny", "pod-security", "volumes"], &["no-literal-secrets"])]
#[case::workflow(NAMESPACE, "", &ALICE, "AIWorkflow ai/triage", &["declared-workflow", "launcher", "dedicated-service-account"], &["volumes", "restricted-pod-security"])]
#[case::launcher(NAMESPACE, WORKFLOW, &[], "who asks", &["launcher"], &["declared-workflow", "approved-images"])]
#[case::class(&NAMESPACE.replace("default", "gold"), WORKFLOW, &ALICE, "AIWorkflowClass gold", &["approved-images", "volumes", "restricted-pod-security"], &["no-literal-secrets", "default-deny"])]
fn a_rule_without_its_fact_is_not_judged(
    #[case] namespace: &str,
    #[case] workflow: &str,
    #[case] more: &[&str],
    #[case] needs: &str,
    #[case] left_out: &[&str],
    #[case] judged_all_the_same: &[&str],
) {
    let files = all(namespace, workflow, POD);
    let (code, json) = judged(&files, more);
    assert_eq!((code, refusing(&json)), (0, vec![]), "{json}");
    let names = not_judged(&json);
    assert!(
        left_out.iter().all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    assert!(
        !judged_all_the_same
            .iter()
            .any(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    let missing: Vec<_> = json["notJudged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["needs"])
        .collect();
    assert_eq!(missing, [needs]);
    let (code, _) = judged(&files, &[more, &["--strict"]].concat());
    assert_eq!(code, 2);
    let said = files.review(&[&["--context", "DIR/context", "DIR/m.yaml"], more].concat(), b"");
    assert!(
        said.out.contains(&format!("needs {needs} (give it with --")),
        "{said:?}"
    );
}

/// Where the egress proxy is stands in the status, which the cluster writes: a class from a repository has none.
#[test]
fn a_class_that_does_not_know_the_egress_proxy_leaves_names_unjudged() {
    let class = |more: &str| {
        format!(
            "apiVersion: ringfence.dev/v1alpha1\nkind: AIWorkflowClass\nmetadata: {{name: default}}\n\
             spec: {{images: {{allowed: ['**']}}, cluster: {{dns: {{mode: ClusterOnly}}}}}}\n{more}"
        )
    };
    let judged = |class: &str| {
        let files = Files::of(&[
            ("context/c.yaml", class),
            ("context/n.yaml", NAMESPACE),
            ("context/w.yaml", WORKFLOW),
            ("m.yaml", POD),
        ]);
        judged(&files, &ALICE)
    };
    let (code, json) = judged(&class(""));
    assert_eq!(
        (code, refusing(&json), not_judged(&json)),
        (0, vec![], vec!["pod-dns".to_owned()]),
        "{json}"
    );
    assert_eq!(json["notJudged"][0]["needs"], "status.dns of AIWorkflowClass default");
    let (code, json) = judged(&class("status: {dns: {addresses: [10.96.0.53]}}\n"));
    assert_eq!((code, refusing(&json)), (1, vec!["pod-dns".to_owned()]), "{json}");
    assert_eq!(not_judged(&json), vec![""; 0]);
}

/// What does not rest on the namespace is said without it.
#[test]
fn a_privileged_container_is_refused_wherever_it_lies() {
    let pod = POD.replace("allowPrivilegeEscalation: false", "privileged: true");
    let (code, json) = Files::of(&[("m.yaml", &pod)]).json(&["DIR/m.yaml"], b"");
    assert_eq!(
        (code, refusing(&json)),
        (1, vec!["restricted-pod-security".to_owned()]),
        "{json}"
    );
}

#[rstest]
#[case::a_launcher("alice@example.com", 0)]
#[case::another("mallory@example.com", 1)]
#[case::an_account("system:serviceaccount:argocd:deployer", 0)]
#[case::another_account("system:serviceaccount:argocd:default", 1)]
#[case::an_administrator("system:admin", 1)]
fn who_asks_is_judged_where_it_is_said(#[case] user: &str, #[case] expected: i32) {
    let (code, json) = judged(&all(NAMESPACE, WORKFLOW, POD), &["--as", user, "--strict"]);
    assert_eq!(code, expected, "{json}");
    let launcher = vec!["launcher".to_owned()];
    assert_eq!(refusing(&json), if expected == 1 { launcher } else { vec![] });
}

#[test]
fn groups_count_too() {
    let workflow = WORKFLOW.replace("user: alice@example.com", "group: deployers");
    let files = all(NAMESPACE, &workflow, POD);
    assert_eq!(judged(&files, &["--as", "bob@example.com"]).0, 1);
    assert_eq!(
        judged(&files, &["--as", "bob@example.com", "--as-group", "deployers"]).0,
        0
    );
}

/// Each verdict that rests on a fact, with the fact on the wrong side.
#[rstest]
#[case::no_mode(&NAMESPACE.replace("ringfence.dev/enforce: default, ", ""), WORKFLOW, POD, "approved-namespace")]
#[case::unlabelled(NAMESPACE, WORKFLOW, &POD.replace("ringfence.dev/workflow", "app"), "declared-workflow")]
#[case::pod_security(&NAMESPACE.replace("restricted", "privileged"), WORKFLOW, POD, "pod-security")]
#[case::another_account(NAMESPACE, WORKFLOW, &POD.replace("serviceAccountName: triage", "serviceAccountName: other"), "own-service-account")]
#[case::another_image(NAMESPACE, &WORKFLOW.replace("registry.example.com/**", "other.example.com/**"), POD, "approved-images")]
#[case::beyond_the_class(NAMESPACE, &format!("{WORKFLOW}  network: {{egress: [{{name: x, to: {{cidrs: [203.0.113.0/24]}}, ports: [{{port: 1}}]}}]}}\n"), POD, "declared-workflow")]
#[case::an_account_of_somebody_else(NAMESPACE, &format!("{WORKFLOW}---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: triage, namespace: ai}}\n"), POD, "own-service-account")]
fn facts_decide(#[case] namespace: &str, #[case] workflow: &str, #[case] object: &str, #[case] rule: &str) {
    let (code, json) = judged(&all(namespace, workflow, object), &ALICE);
    assert!(
        code == 1 && refusing(&json).contains(&rule.to_owned()),
        "{rule}: {json}"
    );
}

/// Where a fact lies in the input does not matter; what is reviewed is newer than the context.
#[test]
fn facts_come_from_the_reviewed_files_first() {
    let older = WORKFLOW.replace("registry.example.com/**", "other.example.com/**");
    let files = Files::of(&[
        ("context/c.yaml", &format!("{NAMESPACE}---\n{older}")),
        ("m.yaml", &format!("{POD}---\n{WORKFLOW}")),
    ]);
    let (code, json) = judged(&files, &ALICE);
    assert_eq!((code, refusing(&json)), (0, vec![]), "{json}");
}

#[rstest]
#[case::warn("ringfence.dev/warn", 0, 1)]
#[case::audit("ringfence.dev/audit", 0, 0)]
#[case::enforce("ringfence.dev/enforce", 1, 0)]
fn the_mode_of_the_namespace_decides_what_a_finding_does(#[case] mode: &str, #[case] code: i32, #[case] warned: u64) {
    let pod = POD.replace("capabilities: {drop: [ALL]}", "capabilities: {}");
    let namespace = NAMESPACE.replace("ringfence.dev/enforce", mode);
    let (got, json) = judged(&all(&namespace, WORKFLOW, &pod), &ALICE);
    assert_eq!((got, &json["totals"]["warned"]), (code, &json!(warned)), "{json}");
    let levels: Vec<_> = json["results"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["policy"] == "restricted-pod-security")
        .map(|one| &one["level"])
        .collect();
    let expected = if code == 1 {
        "deny"
    } else if warned == 1 {
        "warn"
    } else {
        "audit"
    };
    assert!(
        !levels.is_empty() && levels.iter().all(|level| *level == expected),
        "{json}"
    );
}

#[test]
fn exceptions_of_the_context_excuse() {
    let class = "apiVersion: ringfence.dev/v1alpha1\nkind: AIWorkflowClass\nmetadata: {name: open}\nspec:\n  engines: [{name: custom}]\n  images: {allowed: ['**']}\n  \
                 podSecurity: Restricted\n  volumes: {types: [configMap, secret, emptyDir, projected]}\n  exceptions: {namespaces: [ai], maxDays: 30}\n";
    let exception = "apiVersion: ringfence.dev/v1alpha1\nkind: RegoPolicyException\nmetadata: {name: legacy, namespace: ai, creationTimestamp: '2026-11-20T00:00:00Z'}\nspec:\n  \
                     policies: [restricted-pod-security]\n  names: [p]\n  reason: old image\n  expiresAt: EXPIRES\n";
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24)).to_string();
    let created = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24)).to_string();
    let exception = exception
        .replace("EXPIRES", &format!("'{soon}'"))
        .replace("2026-11-20T00:00:00Z", &created);
    let namespace = NAMESPACE.replace("enforce: default", "enforce: open");
    let pod = POD.replace("capabilities: {drop: [ALL]}", "capabilities: {}");
    let with = |more: &str| all(&format!("{namespace}---\n{class}"), &format!("{WORKFLOW}{more}"), &pod);
    let (code, json) = judged(&with(""), &ALICE);
    assert_eq!(
        (code, refusing(&json)),
        (1, vec!["restricted-pod-security".to_owned()]),
        "{json}"
    );
    let (code, json) = judged(&with(&format!("---\n{exception}")), &ALICE);
    assert_eq!(code, 0, "{json}");
    let excused = &json["results"][0]["answers"][0]["excused"];
    assert_eq!(
        excused,
        &json!([{"exception": "legacy", "policy": "restricted-pod-security"}])
    );
}

fn admission_review(object: &str, more: Value) -> String {
    let object: Value = serde_saphyr::from_str(object).unwrap();
    let mut request = json!({
        "uid": "u-1", "operation": "CREATE", "namespace": "ai", "name": "p", "object": object, "oldObject": null,
        "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "alice@example.com", "groups": ["system:authenticated"]},
    });
    for (field, value) in more.as_object().unwrap() {
        request[field] = value.clone();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

/// Each as an API server would send it.
#[rstest]
#[case::passes(json!({}), 0, None)]
#[case::by_another(json!({"userInfo": {"username": "mallory@example.com"}}), 1, Some("launcher"))]
#[case::update_of_the_label(json!({"operation": "UPDATE", "oldObject": {"metadata": {"name": "p", "namespace": "ai"}}}), 1, Some("fixed-label"))]
#[case::delete(json!({"operation": "DELETE", "object": null, "oldObject": {"metadata": {"name": "p"}}}), 0, None)]
#[case::exec_without_a_window(json!({"operation": "CONNECT", "subResource": "exec", "object": {"kind": "PodExecOptions", "apiVersion": "v1"}}), 1, Some("debug-window"))]
fn an_admission_review_is_judged_as_it_is(#[case] more: Value, #[case] expected: i32, #[case] rule: Option<&str>) {
    let pod = POD.replace("  name: p\n", "  name: p\n  uid: u\n");
    let files = all(
        NAMESPACE,
        &format!("{WORKFLOW}---\n{pod}"),
        &admission_review(POD, more),
    );
    let (code, json) = judged(&files, &["--strict"]);
    assert_eq!(
        (code, refusing(&json).first().map(String::as_str)),
        (expected, rule),
        "{json}"
    );
}

#[test]
fn a_session_into_a_pod_that_nobody_gave_is_not_judged() {
    let connect = json!({"operation": "CONNECT", "subResource": "exec", "object": {"kind": "PodExecOptions", "apiVersion": "v1"}});
    let (code, json) = judged(&all(NAMESPACE, WORKFLOW, &admission_review(POD, connect)), &[]);
    assert_eq!(
        (code, not_judged(&json)),
        (0, vec!["debug-window".to_owned()]),
        "{json}"
    );
}

#[test]
fn a_misspelt_declaration_is_refused_as_the_api_server_would() {
    let workflow = WORKFLOW.replace("  images:", "  imagse: []\n  images:");
    let (code, json) = Files::of(&[("m.yaml", &workflow), ("context/n.yaml", NAMESPACE)])
        .json(&["--context", "DIR/context", "DIR/m.yaml"], b"");
    assert!(code == 1, "{json}");
    let finding = &json["results"][0]["findings"][0];
    assert_eq!(
        (&finding["policy"], &finding["path"], &finding["line"]),
        (&json!("schema"), &json!("spec.imagse"), &json!(8)),
        "{json}"
    );
}

#[rstest]
#[case::unknown_kind(
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: ai}\n",
    true
)]
#[case::labelled(
    "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: ai, labels: {ringfence.dev/workflow: triage}}\n",
    false
)]
#[case::called_a_cluster(
    "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: db, labels: {ringfence.dev/workflow: triage}}\n",
    false
)]
#[case::of_the_system(
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: kube-system}\nspec: {}\n",
    true
)]
fn where_nobody_is_asked_that_is_said(#[case] object: &str, #[case] unasked: bool) {
    let arguments = [&ALICE[..], &["--namespace", "ai"]].concat();
    let (code, json) = judged(&all(NAMESPACE, WORKFLOW, object), &arguments);
    assert_eq!(
        (code, &json["totals"]["unasked"]),
        (0, &json!(u64::from(unasked))),
        "{json}"
    );
}
