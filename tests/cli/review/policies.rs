//! Whose policies judge: RegoPolicies, Rego with METADATA and without, several together, and broken ones among good.

use rstest::rstest;
use serde_json::json;

use super::{Files, NAMESPACE, POD, WORKFLOW, not_judged, refusing};

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: s, namespace: ai, labels: {team: ml}}\nspec: {storageClassName: fast}\n";

fn rego_policy(spec: &str, rego: &str) -> String {
    let rego = rego.replace('\n', "\n        ");
    format!(
        "apiVersion: ringfence.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {{name: persistentvolumeclaims}}\nspec:\n  validationActions: [Deny]\n  matchConstraints:\n    \
         resourceRules: [{{apiGroups: [''], apiVersions: [v1], resources: [persistentvolumeclaims], operations: [CREATE]}}]\n{spec}  rego:\n    modules:\n    - name: s.rego\n      source: |\n        {rego}\n"
    )
}

const TYPE: &str = "package persistentvolumeclaims\ndeny contains {\"msg\": \"no fast storage\", \"path\": \"spec.storageClassName\"} if input.review.object.spec.storageClassName == \"fast\"";

#[rstest]
#[case::deny(rego_policy("", TYPE), 1)]
#[case::warn(rego_policy("", TYPE).replace("[Deny]", "[Warn]"), 0)]
#[case::audit(rego_policy("", TYPE).replace("[Deny]", "[Audit]"), 0)]
#[case::of_another_kind(rego_policy("", TYPE).replace("[persistentvolumeclaims]", "[configmaps]"), 0)]
#[case::plain_of_conftest("package main\ndeny contains msg if {\n  input.kind == \"PersistentVolumeClaim\"\n  input.spec.storageClassName == \"fast\"\n  msg := \"no\"\n}\n".to_owned(), 1)]
#[case::plain_of_conftest_passes("package main\ndeny contains msg if {\n  input.kind == \"Ingress\"\n  msg := \"no\"\n}\n".to_owned(), 0)]
#[case::plain_of_opa("package kubernetes.admission\ndeny contains \"no\" if input.request.object.spec.storageClassName == \"fast\"\n".to_owned(), 1)]
#[case::plain_behind_blanks("package main\n  deny contains msg if {\n    input.spec.storageClassName == \"fast\"\n    msg := \"no\"\n  }\n".to_owned(), 1)]
#[case::plain_of_old("package main\ndeny[msg] { input.spec.storageClassName == \"fast\"; msg := \"no\" }\n".to_owned(), 1)]
#[case::plain_that_allows("package main\ndefault allow := false\nallow if input.spec.storageClassName == \"slow\"\n".to_owned(), 1)]
#[case::annotated_for_opa("# METADATA\n# title: words\npackage main\ndeny contains \"no\" if input.spec.storageClassName == \"fast\"\n".to_owned(), 1)]
#[case::for_objects("# METADATA\n# title: T\n# description: D\n# custom:\n#   name: mine\n#   severity: low\n#   remediation: R\n#   scope: object\n#   match:\n#     \
    resourceRules: [{apiGroups: [''], apiVersions: [v1], resources: [persistentvolumeclaims], operations: [CREATE]}]\npackage p\ndeny contains \"no\" if input.review.object.spec.storageClassName == \"fast\"\n".to_owned(), 1)]
fn policies_judge_objects(#[case] policy: String, #[case] expected: i32) {
    let file = if policy.starts_with("apiVersion") {
        "p.yaml"
    } else {
        "p.rego"
    };
    let files = Files::of(&[
        (&format!("policies/{file}"), &policy),
        ("m.yaml", CLAIM),
        ("n.yaml", NAMESPACE),
    ]);
    let (code, json) = files.json(
        &["--policies", "DIR/policies", "--context", "DIR/n.yaml", "DIR/m.yaml"],
        b"",
    );
    assert_eq!(code, expected, "{json}");
    assert!(
        json["results"][0]["answers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|answer| answer["webhook"].as_str().unwrap().starts_with("policies/")),
        "{json}"
    );
}

/// What the chart has as `policies`: shipped ones that judge pods and objects, and a RegoPolicy.
#[rstest]
#[case::as_they_are(&[], &["encrypted-storage", "no-literal-secrets", "persistentvolumeclaims"])]
#[case::one_warns(&["no-literal-secrets=Warn"], &["encrypted-storage", "persistentvolumeclaims"])]
#[case::one_is_off(&["encrypted-storage=Off"], &["no-literal-secrets", "persistentvolumeclaims"])]
#[case::none_refuses(&["no-literal-secrets=Audit", "encrypted-storage=Warn", "persistentvolumeclaims=Warn"], &[])]
#[case::all_are_off(&["no-literal-secrets=Off,encrypted-storage=Off,persistentvolumeclaims=Off"], &[])]
#[case::a_refusal_stays_one(
    &["no-literal-secrets=Deny,encrypted-storage=Audit", "pss-baseline-privileged=Off"],
    &["no-literal-secrets", "persistentvolumeclaims"],
)]
fn policies_are_switched(#[case] switches: &[&str], #[case] expected: &[&str]) {
    let pod = POD.replace(
        "name: A\n      value: b",
        "name: DB_PASSWORD\n      value: correct-horse",
    );
    let files = Files::of(&[
        ("p.yaml", &rego_policy("", TYPE)),
        ("m.yaml", &format!("{pod}---\n{CLAIM}")),
        ("c.yaml", &format!("{NAMESPACE}---\n{WORKFLOW}")),
    ]);
    let mut arguments = vec!["--policies", "ai-workflow", "--policies", "DIR/p.yaml"];
    arguments.extend(["--context", "DIR/c.yaml", "--as", "alice@example.com", "DIR/m.yaml"]);
    arguments.extend(switches.iter().flat_map(|switch| ["--policy-action", switch]));
    let (code, json) = files.json(&arguments, b"");
    assert_eq!(code, i32::from(!expected.is_empty()), "{json}");
    assert_eq!(refusing(&json), expected, "{json}");
    let results = json["results"].as_array().unwrap().iter();
    let findings: Vec<_> = results
        .flat_map(|result| result["findings"].as_array().unwrap())
        .collect();
    for switch in switches.iter().flat_map(|switch| switch.split(',')) {
        let (policy, action) = switch.split_once('=').unwrap();
        let of_it = findings.iter().filter(|finding| finding["policy"] == policy);
        let levels: Vec<_> = of_it.map(|finding| finding["level"].as_str().unwrap()).collect();
        assert_eq!(levels.is_empty(), action == "Off", "{switch}: {json}");
        assert!(
            levels.iter().all(|level| *level == action.to_lowercase()),
            "{switch}: {levels:?}"
        );
    }
}

#[rstest]
#[case::a_typo(&["resource-limit=Warn"], "no policy is in force that is called resource-limit")]
#[case::no_action(&["resource-limits"], "write it like approved-images=Warn")]
#[case::twice(&["resource-limits=Warn", "resource-limits=Off"], "switched twice")]
#[case::of_another_set(&["pss-baseline-privileged=Warn"], "name its set or file by --policies")]
fn a_switch_that_switches_nothing_is_refused(#[case] switches: &[&str], #[case] why: &str) {
    let files = Files::of(&[("m.yaml", POD)]);
    let flags = switches.iter().flat_map(|switch| ["--policy-action", switch]);
    let said = files.review(&flags.chain(["DIR/m.yaml"]).collect::<Vec<_>>(), b"");
    assert!(said.code == 2 && said.err.contains(why), "{said:?}");
}

const DENY: &str = "package main\ndeny contains \"no\" if input.kind == \"Ingress\"\n";

/// conftest asks them, and nobody here: a review that says nothing of it would pass whatever they refuse.
#[rstest]
#[case::alone(
    "package main\n\ndeny_fast contains \"no\" if input.spec.storageClassName == \"fast\"\n",
    3,
    "deny_fast"
)]
#[case::of_old(
    "package main\nviolation_fast[\"no\"] { input.spec.storageClassName == \"fast\" }\n",
    2,
    "violation_fast"
)]
#[case::beside_one_that_is_asked(
    "package main\ndeny contains \"no\" if input.a\n  warn_fast contains \"no\" if input.b\n",
    3,
    "warn_fast"
)]
fn rules_that_conftest_asks_are_problems(#[case] rego: &str, #[case] line: u32, #[case] rule: &str) {
    let files = Files::of(&[("policies/a.rego", DENY), ("policies/b.rego", rego), ("m.yaml", CLAIM)]);
    let said = files.review(&["--policies", "DIR/policies", "DIR/m.yaml"], b"");
    let told = format!("rule {rule} is asked by nobody: give it the name of what it says");
    assert!(said.code == 2 && said.out.contains(&told), "{said:?}");
    assert!(said.out.contains(&format!("DIR/policies/b.rego:{line}")), "{said:?}");
}

#[rstest]
#[case::by_another_name("package main.more\nrefuse contains \"no\" if input.a\n", true)]
#[case::of_another_package("package lib\nis_open(o) if o.a\n", true)]
#[case::in_a_comment_and_a_body("package lib\n# deny\nis_open(o) if {\n  deny := o.a\n  deny\n}\n", true)]
#[case::named("package used\nis_open(o) if o.a\n", false)]
#[case::named_by_what_is_named("package used_by_used\nis_open(o) if o.a\n", false)]
#[case::of_the_package("package main\nis_open(o) if o.a\n", false)]
#[case::a_function_of_such_a_name("package used\ndeny_reason(o) := o.a\n", false)]
fn a_file_that_no_verdict_rests_on_is_told(#[case] rego: &str, #[case] is_idle: bool) {
    let files = Files::of(&[
        (
            "policies/a.rego",
            &format!("{DENY}deny contains \"no\" if data.used.other.bad\n"),
        ),
        ("policies/b.rego", rego),
        (
            "policies/c.rego",
            "package used.other\nbad if data.used_by_used.worse\n",
        ),
        ("policies/d.rego", "package used_by_used\nworse if input.b\n"),
        ("m.yaml", CLAIM),
    ]);
    let arguments = ["--policies", "DIR/policies", "DIR/m.yaml", "--strict"];
    let said = files.review(&arguments[..3], b"");
    assert_eq!(said.code, 0, "{said:?}");
    let told = "b.rego: judges nothing: none of its rules is called allow, deny, violation, warn";
    assert_eq!(said.err.contains(told), is_idle, "{said:?}");
    let said = files.review(&arguments, b"");
    assert_eq!(said.code, if is_idle { 2 } else { 0 }, "{said:?}");
}

/// conftest reads a package from as many files as there are.
#[test]
fn files_of_one_package_share_their_rules() {
    let files = Files::of(&[
        (
            "policies/a.rego",
            "package main\ndeny contains \"no\" if is_open(input)\n",
        ),
        (
            "policies/b.rego",
            "package main\nis_open(o) if o.spec.storageClassName == \"fast\"\n",
        ),
        ("m.yaml", CLAIM),
    ]);
    let (code, json) = files.json(&["--policies", "DIR/policies", "DIR/m.yaml"], b"");
    assert_eq!((code, refusing(&json)), (1, vec!["a".to_owned()]), "{json}");
}

#[test]
fn a_folder_of_conftest_policies_shares_its_helpers() {
    let files = Files::of(&[
        (
            "policies/lib.rego",
            "package lib\nis_open(o) if o.spec.storageClassName == \"fast\"\n",
        ),
        (
            "policies/deny.rego",
            "package main\nimport data.lib\ndeny contains \"no\" if lib.is_open(input)\n",
        ),
        ("m.yaml", CLAIM),
    ]);
    let (code, json) = files.json(&["--policies", "DIR/policies", "DIR/m.yaml"], b"");
    assert_eq!((code, refusing(&json)), (1, vec!["deny".to_owned()]), "{json}");
}

/// The cluster would refuse to store it; here the others judge, and nobody takes silence for a verdict.
#[rstest]
#[case::rego(
    "bad.rego",
    "package main\ndeny contains \"x\" if nothing.there()\n",
    "DIR/policies/bad.rego:2"
)]
#[case::metadata(
    "bad.rego",
    "# METADATA\n# title: T\n# custom:\n#   name: bad\npackage p\n",
    "DIR/policies/bad.rego:"
)]
#[case::object("bad.yaml", &rego_policy("", "package a\ndeny contains"), "DIR/policies/bad.yaml:1")]
#[case::yaml("bad.yaml", "a: [\n", "DIR/policies/bad.yaml:1")]
fn a_broken_policy_is_a_problem_and_the_others_judge(#[case] file: &str, #[case] text: &str, #[case] at: &str) {
    let good = "package main\ndeny contains \"no\" if input.spec.storageClassName == \"fast\"\n";
    let files = Files::of(&[
        (&format!("policies/{file}"), text),
        ("policies/good.rego", good),
        ("m.yaml", CLAIM),
    ]);
    let said = files.review(&["--policies", "DIR/policies", "DIR/m.yaml"], b"");
    assert!(
        said.code == 2 && said.out.contains(at) && said.out.contains("refused[good]"),
        "{said:?}"
    );
}

#[rstest]
#[case::selected("team: ml", Some(1))]
#[case::not_selected("team: web", Some(0))]
#[case::unknown("", None)]
fn a_namespace_selector_needs_the_namespace(#[case] label: &str, #[case] expected: Option<i32>) {
    let policy = rego_policy("    namespaceSelector: {matchLabels: {team: ml}}\n", TYPE);
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: ai, labels: {{{label}}}}}\n");
    let files = Files::of(&[("p.yaml", &policy), ("m.yaml", CLAIM), ("n.yaml", &namespace)]);
    let mut arguments = vec!["--policies", "DIR/p.yaml", "DIR/m.yaml"];
    if expected.is_some() {
        arguments.extend(["--context", "DIR/n.yaml"]);
    }
    let (code, json) = files.json(&arguments, b"");
    assert_eq!(code, expected.unwrap_or(0), "{json}");
    assert_eq!(
        not_judged(&json),
        if expected.is_none() {
            vec!["persistentvolumeclaims".to_owned()]
        } else {
            vec![]
        }
    );
}

#[rstest]
#[case::namespace("input.namespace.metadata.labels.team == \"web\"", "Namespace ai", "--context")]
#[case::user("input.request.userInfo.username == \"bob\"", "who asks", "--as")]
fn a_policy_that_looks_at_what_is_missing_is_not_judged(
    #[case] condition: &str,
    #[case] needs: &str,
    #[case] by: &str,
) {
    let policy = rego_policy(
        "",
        &format!("package persistentvolumeclaims\ndeny contains \"no\" if not {condition}"),
    );
    let files = Files::of(&[("p.yaml", &policy), ("m.yaml", CLAIM)]);
    let (code, json) = files.json(&["--policies", "DIR/p.yaml", "DIR/m.yaml"], b"");
    assert_eq!(code, 0, "{json}");
    let all = json["results"][0]["notJudged"].as_array().unwrap();
    assert!(
        all.contains(&json!({"policy": "persistentvolumeclaims", "needs": [needs], "by": by})),
        "{json}"
    );
}

const LOOKS: &str = "package persistentvolumeclaims\ndeny contains \"there is one already\" if {\n  some name, other in data.inventory.namespace.ai[\"v1\"].PersistentVolumeClaim\n  name != input.review.object.metadata.name\n  other.spec.storageClassName == \"fast\"\n}";

#[rstest]
#[case::nothing(&[], 0, true)]
#[case::inventory(&["--inventory", "DIR/other.yaml"], 1, false)]
#[case::context(&["--context", "DIR/other.yaml"], 1, false)]
#[case::none_of_the_kind(&["--inventory", "DIR/namespace.yaml"], 0, false)]
fn objects_beside_the_request_are_given(#[case] more: &[&str], #[case] expected: i32, #[case] is_missing: bool) {
    let policy = rego_policy(
        "  inventory: [{version: v1, kind: PersistentVolumeClaim, fields: [spec.storageClassName]}]\n",
        LOOKS,
    );
    let other = CLAIM.replace("name: s,", "name: other,");
    let files = Files::of(&[
        ("p.yaml", &policy),
        ("m.yaml", CLAIM),
        ("other.yaml", &other),
        ("namespace.yaml", NAMESPACE),
    ]);
    let (code, json) = files.json(&[&["--policies", "DIR/p.yaml", "DIR/m.yaml"], more].concat(), b"");
    assert_eq!((code, not_judged(&json).is_empty()), (expected, !is_missing), "{json}");
}

#[test]
fn parameters_reach_policies_of_every_kind() {
    let policy = "package main\ndeny contains \"no\" if input.parameters.closed\n";
    let files = Files::of(&[
        ("mine.rego", policy),
        ("m.yaml", CLAIM),
        ("p.yaml", "mine: {closed: true}\n"),
        ("q.yaml", "mine: {closed: false}\n"),
    ]);
    for (file, expected) in [("DIR/p.yaml", 1), ("DIR/q.yaml", 0)] {
        let (code, json) = files.json(
            &["--policies", "DIR/mine.rego", "--parameters", file, "DIR/m.yaml"],
            b"",
        );
        assert_eq!(code, expected, "{json}");
    }
}

/// A RegoPolicy among the manifests is vetted as the webhook vets it, and decides nothing here.
#[test]
fn a_policy_that_is_reviewed_is_vetted() {
    let good = rego_policy("", TYPE);
    let bad = rego_policy("", "package a\ndeny contains \"x\" if starts_with(\"a\", \"b\")")
        .replace("name: persistentvolumeclaims", "name: mistaken");
    let (code, json) = Files::of(&[("m.yaml", &format!("{good}---\n{bad}---\n{CLAIM}"))]).json(&["DIR/m.yaml"], b"");
    assert_eq!((code, refusing(&json)), (1, vec!["valid-policy".to_owned()]), "{json}");
    assert!(json["results"][0]["findings"].as_array().unwrap().is_empty(), "{json}");
}

#[test]
fn a_template_is_judged_as_the_pod_that_comes_of_it() {
    let pod: serde_json::Value = serde_saphyr::from_str(&POD.replace("[ALL]", "[]")).unwrap();
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ai"},
        "spec": {"template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]}}});
    let (code, json) = Files::of(&[("m.yaml", &job.to_string())]).json(&["DIR/m.yaml"], b"");
    assert_eq!(
        (code, refusing(&json)),
        (1, vec!["restricted-pod-security".to_owned()]),
        "{json}"
    );
    assert_eq!(
        json["results"][0]["findings"][0]["path"],
        "spec.template.spec.containers[0].securityContext.capabilities.drop"
    );
}

const TEMPLATE: &str = "apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: k8srequiredlabels}
spec:
  crd: {spec: {names: {kind: K8sRequiredLabels}, validation: {openAPIV3Schema: {type: object, properties: {labels: {type: array, items: {type: string}}}}}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package k8srequiredlabels
      violation[{\"msg\": msg}] {
        required := {label | label := input.parameters.labels[_]}
        provided := {label | input.review.object.metadata.labels[label]}
        missing := required - provided
        count(missing) > 0
        msg := sprintf(\"labels are missing: %v\", [missing])
      }
";
const CONSTRAINT: &str = "apiVersion: constraints.gatekeeper.sh/v1beta1
kind: K8sRequiredLabels
metadata: {name: team}
spec:
  match: {kinds: [{apiGroups: [''], kinds: [PersistentVolumeClaim]}]}
  parameters: {labels: [LABEL]}
";

/// A template and its constraints may lie in files of their own.
#[rstest]
#[case::refuses("owner", 1)]
#[case::passes("team", 0)]
fn constraints_of_gatekeeper_judge(#[case] label: &str, #[case] expected: i32) {
    let constraint = CONSTRAINT.replace("LABEL", label);
    let files = Files::of(&[("p/a.yaml", &constraint), ("p/b.yaml", TEMPLATE), ("m.yaml", CLAIM)]);
    let (code, json) = files.json(&["--policies", "DIR/p", "DIR/m.yaml"], b"");
    assert_eq!((code, not_judged(&json)), (expected, vec![]), "{json}");
    let findings = json["results"][0]["findings"].as_array().unwrap();
    let is_told = |finding: &serde_json::Value| finding["message"].as_str().unwrap().contains("labels are missing");
    assert_eq!(findings.iter().any(is_told), expected == 1, "{json}");
}

#[rstest]
#[case::without_a_template(CONSTRAINT, "DIR/p/a.yaml:1")]
#[case::two_targets(&TEMPLATE.replace("  targets:\n", "  targets:\n  - {target: other.example.com, rego: 'package x'}\n"), "DIR/p/a.yaml:1")]
fn what_cannot_be_converted_is_named_and_the_rest_is_reviewed(#[case] text: &str, #[case] at: &str) {
    let good = "package main\ndeny contains \"no\" if input.spec.storageClassName == \"fast\"\n";
    let files = Files::of(&[("p/a.yaml", text), ("p/good.rego", good), ("m.yaml", CLAIM)]);
    let said = files.review(&["--policies", "DIR/p", "DIR/m.yaml"], b"");
    assert!(
        said.code == 2 && said.out.contains(at) && said.out.contains("refused[good]"),
        "{said:?}"
    );
}
