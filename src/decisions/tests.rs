//! What a line holds never shows a secret, and is enough to judge again.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::{Mode, ValidationAction};
use crate::fence::testing::{facts, set};
use crate::policy::{PolicyInput, PolicySet, Target, Verdict};
use crate::review::{Outcome, Review};

/// Objects of the request into which an attacker, or a newer Kubernetes, may put fields that nobody here knows.
const PLACES: [&str; 18] = [
    "",
    "/userInfo",
    "/userInfo/extra",
    "/options",
    "/object",
    "/object/metadata",
    "/object/metadata/annotations",
    "/object/metadata/ownerReferences/0",
    "/object/spec",
    "/object/spec/securityContext",
    "/object/spec/containers/0",
    "/object/spec/containers/0/env/0",
    "/object/spec/containers/0/env/1/valueFrom/secretKeyRef",
    "/object/spec/containers/0/resources",
    "/object/spec/containers/0/livenessProbe",
    "/object/spec/volumes/0",
    "/object/spec/volumes/0/csi",
    "/object/spec/volumes/0/csi/volumeAttributes",
];

/// Known fields that hold what somebody made up.
const FIELDS: [&str; 24] = [
    "/userInfo/extra/example.com~1token/0",
    "/object/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
    "/object/metadata/annotations/example.com~1a",
    "/object/metadata/managedFields/0/manager",
    "/object/spec/containers/0/args/0",
    "/object/spec/containers/0/command/1",
    "/object/spec/containers/0/env/0/value",
    "/object/spec/containers/0/workingDir",
    "/object/spec/containers/0/livenessProbe/exec/command/0",
    "/object/spec/containers/0/livenessProbe/httpGet/path",
    "/object/spec/containers/0/livenessProbe/httpGet/httpHeaders/0/value",
    "/object/spec/containers/0/livenessProbe/grpc/service",
    "/object/spec/containers/0/lifecycle/postStart/exec/command/0",
    "/object/spec/containers/0/volumeMounts/0/subPathExpr",
    "/object/spec/containers/0/terminationMessagePath",
    "/object/spec/securityContext/sysctls/0/value",
    "/object/spec/securityContext/windowsOptions/gmsaCredentialSpec",
    "/object/spec/volumes/0/csi/volumeAttributes/password",
    "/object/spec/volumes/1/flexVolume/options/password",
    "/object/spec/volumes/1/cephfs/secretFile",
    "/object/spec/volumes/1/iscsi/initiatorName",
    "/object/spec/dnsConfig/options/0/value",
    "/object/status/message",
    "/oldObject/spec/containers/0/env/0/value",
];

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "ai", "labels": {"ringfence.dev/workflow": "triage"}, "annotations": {},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "1"}], "managedFields": [{}],
        },
        "spec": {
            "serviceAccountName": "triage", "hostNetwork": true, "securityContext": {"sysctls": [{"name": "a"}]},
            "containers": [{
                "name": "main", "image": "ok/a:1", "args": [""], "command": ["sh", ""],
                "env": [{"name": "OPENAI_API_KEY", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"limits": {"cpu": "1", "memory": 4096}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "A"}]}, "exec": {"command": [""]}},
                "lifecycle": {"postStart": {"exec": {"command": [""]}}},
            }],
            "volumes": [{"name": "v", "csi": {"driver": "d", "volumeAttributes": {}}}, {"name": "w"}],
            "dnsConfig": {"options": [{"name": "ndots"}]},
        },
    })
}

fn request(group: &str, kind: &str, object: Value) -> Value {
    json!({
        "uid": "u-1", "operation": "UPDATE", "name": "p", "namespace": "ai", "subResource": "", "dryRun": false,
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
        "userInfo": {"username": "ann", "groups": ["data"], "extra": {"example.com/token": [""]}},
        "options": {"fieldManager": "kubectl"}, "object": object, "oldObject": pod(),
    })
}

fn review(request: &Value) -> Review {
    let sent = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Review::parse(&serde_json::to_vec(&sent).unwrap()).unwrap()
}

fn recorded(request: &Value, seen: Option<&Seen>) -> String {
    match Recorded::of(&review(request), seen) {
        Recorded::Input(input) => input,
        Recorded::LeftOut(size) => panic!("{size} bytes were left out"),
    }
}

/// Every key and text of a document.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.push(key.clone());
            texts(value, found);
        }),
        Value::Null | Value::Bool(_) => {}
    }
}

#[track_caller]
fn shows_nothing(input: &str, secret: &str) {
    let mut found = Vec::new();
    texts(&serde_json::from_str(input).unwrap(), &mut found);
    let shown = found.iter().find(|text| text.contains(secret));
    assert_eq!(shown, None, "{input}");
}

/// Secrets that look like names are the hardest: nothing but their place tells them.
fn secret() -> impl Strategy<Value = String> {
    let inner = prop_oneof![
        "[a-z0-9-]{6,30}",
        "[ -~]{6,60}",
        "\\PC{6,20}",
        "https://u:[a-z0-9]{8}@h/x",
        "[0-9]{8,12}"
    ];
    inner.prop_map(|inner| format!("zq7{inner}"))
}

/// Something of any shape that holds it.
fn around(secret: String) -> impl Strategy<Value = Value> {
    let leaf = Just(Value::String(secret));
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,8}", inner, 1..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_secret_shows_in_a_field_that_nobody_knows(
        (secret, value) in secret().prop_flat_map(|secret| (Just(secret.clone()), around(secret))),
        place in select(&PLACES[..]), key in "x[a-zA-Z]{1,12}",
    ) {
        let request = set(request("", "Pod", pod()), &format!("{place}/{key}"), if place == "/userInfo/extra" { json!([secret]) } else { value });
        shows_nothing(&recorded(&request, None), &secret);
    }

    #[test]
    fn no_secret_shows_in_a_field_that_holds_one(secret in secret(), field in select(&FIELDS[..])) {
        let mut request = request("", "Pod", pod());
        let mut place = &mut request;
        for key in field.split('/').skip(1) {
            let key = key.replace("~1", "/");
            place = match key.parse::<usize>() {
                Ok(index) => {
                    if !place.is_array() {
                        *place = json!([]);
                    }
                    let items = place.as_array_mut().unwrap();
                    while items.len() <= index {
                        items.push(json!({}));
                    }
                    &mut items[index]
                }
                Err(_) => &mut place[key.as_str()],
            };
        }
        *place = secret.clone().into();
        shows_nothing(&recorded(&request, None), &secret);
    }

    #[test]
    fn no_secret_shows_in_an_object_of_another_kind(
        (secret, value) in secret().prop_flat_map(|secret| (Just(secret.clone()), around(secret))),
        (group, kind, field) in select(vec![
            ("", "ConfigMap", "data"), ("", "Secret", "data"), ("", "Secret", "stringData"), ("", "Secret", "type"), ("", "PodExecOptions", "command"),
            ("", "Namespace", "spec"), ("apps", "Deployment", "status"), ("batch", "Job", "x"), ("argoproj.io", "Workflow", "spec"),
            ("ringfence.dev", "RegoPolicy", "spec"), ("ringfence.dev", "RegoPolicyException", "status"),
        ]),
    ) {
        let object = json!({"metadata": {"name": "x"}, field: value});
        shows_nothing(&recorded(&request(group, kind, object), None), &secret);
    }

    #[test]
    fn no_secret_shows_in_the_facts(secret in secret(), at in 0usize..5) {
        let (mut namespace, mut workflow, mut class) = objects();
        match at {
            0 => namespace["metadata"]["annotations"] = json!({"a": secret}),
            1 => workflow["metadata"]["annotations"] = json!({"a": secret}),
            2 => workflow["spec"]["owner"] = json!({"team": "a", "contact": secret}),
            3 => workflow["spec"]["identity"] = json!({"annotations": {"a": secret}}),
            _ => class["status"] = json!({"conditions": [{"message": secret}]}),
        }
        let seen = seen(&namespace, &workflow, &class);
        shows_nothing(&recorded(&request("", "Pod", pod()), Some(&seen)), &secret);
    }
}

#[rstest]
#[case::url_in_an_image("/object/spec/containers/0/image", json!("user:zq7secret@registry.example.com/a"))]
#[case::number("/object/spec/newer", json!(70_707_070_707u64))]
#[case::caller("/userInfo/username", json!("https://mia:zq7secret@login.example.com"))]
#[case::long_key("/object/metadata/annotations", json!({format!("zq7secret{}", "k".repeat(200)): ""}))]
#[case::hostile_key("/object/spec", json!({"zq7secret\u{1b}[2J": true}))]
#[case::dockerconfig("/object/spec/imagePullSecrets", json!([{"name": "{\"auths\":{\"h\":{\"password\":\"zq7secret\"}}}"}]))]
fn what_stands_where_a_name_should_be_must_look_like_one(#[case] pointer: &str, #[case] value: Value) {
    let input = recorded(&set(request("", "Pod", pod()), pointer, value), None);
    shows_nothing(&input, "zq7secret");
    shows_nothing(&input, "70707070707");
}

#[test]
fn what_a_policy_judges_by_stays_readable() {
    let input = recorded(
        &set(
            request("", "Pod", pod()),
            "/object/spec/containers/0/env/0/value",
            json!("sk-1"),
        ),
        None,
    );
    let input: Value = serde_json::from_str(&input).unwrap();
    let object = &input["request"]["object"];
    assert_eq!(
        object["metadata"]["labels"],
        json!({"ringfence.dev/workflow": "triage"})
    );
    assert_eq!(object["metadata"].get("managedFields"), None);
    assert_eq!(object["spec"]["hostNetwork"], true);
    let container = &object["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["resources"]["limits"]["memory"]),
        (&json!("ok/a:1"), &json!(4096))
    );
    let env = json!([
        {"name": "OPENAI_API_KEY", "value": "(masked, 4 characters)"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]);
    assert_eq!(container["env"], env);
}

#[test]
fn an_input_that_is_too_large_is_left_out_whole_and_measured() {
    let with = |count: usize| {
        let env: Vec<_> = (0..count)
            .map(|at| json!({"name": format!("V{at}"), "value": "x"}))
            .collect();
        set(request("", "Pod", pod()), "/object/spec/containers/0/env", json!(env))
    };
    let (small, large) = (review(&with(500)), review(&with(5000)));
    let Recorded::Input(input) = Recorded::of(&small, None) else {
        panic!("500 variables fit")
    };
    assert!(input.len() <= MAX_INPUT);
    let Recorded::LeftOut(size) = Recorded::of(&large, None) else {
        panic!("5000 variables do not fit")
    };
    assert!((MAX_INPUT..MAX_INPUT * 10).contains(&size), "{size}");
    let (namespace, workflow, mut class) = objects();
    class["spec"]["images"]["allowed"] = json!(vec!["registry.example.com/a/**"; 4000]);
    let seen = seen(&namespace, &workflow, &class);
    assert!(matches!(Recorded::of(&small, Some(&seen)), Recorded::LeftOut(size) if size > 100_000));
}

fn objects() -> (Value, Value, Value) {
    let facts = facts();
    let class = facts.classes["default"].clone().unwrap();
    (facts.namespace.unwrap(), facts.workflow.unwrap(), class)
}

fn seen(namespace: &Value, workflow: &Value, class: &Value) -> Seen {
    let classes = [ShownClass {
        name: "default",
        class: Some(class),
        engine: Some(json!({"name": "custom", "images": [], "rules": []})),
    }];
    Seen::of(&Shown {
        target: Target::Pod,
        pod_path: Some(""),
        namespace: Some(namespace),
        workflow: Some(workflow),
        modes: &[(Mode::Enforce, "default".to_owned())],
        classes: &classes,
    })
}

fn shipped() -> PolicySet {
    PolicySet::embedded(&Default::default()).unwrap()
}

fn explained(line: Line<'static>) -> Explanation {
    let set = shipped();
    let judge = |input: &PolicyInput<'_>| -> Vec<Verdict> { set.evaluate(input, Duration::from_secs(20)) };
    let catalogue = Catalogue::default().with(set.policies());
    let loaded = Loaded {
        catalogue: &catalogue,
        revision: set.revision(),
        judge: &judge,
        action: &|_| ValidationAction::Deny,
        objects: None,
    };
    explain(&Logged { timestamp: None, line }, &loaded)
}

fn line(policies: &str) -> Line<'static> {
    Line {
        webhook: "fence".into(),
        uid: "u-1".into(),
        user: "ann".into(),
        operation: "CREATE".into(),
        resource: "pods".into(),
        namespace: "ai".into(),
        name: "p".into(),
        verdict: Outcome::Deny,
        policies: policies.to_owned().into(),
        revision: shipped().revision().to_owned().into(),
        ..Line::default()
    }
}

fn with_input(policies: &str) -> Line<'static> {
    let (namespace, workflow, class) = objects();
    let mut request = set(request("", "Pod", pod()), "/operation", json!("CREATE"));
    request["oldObject"] = Value::Null;
    request["object"]["spec"]["containers"][0]["env"][0]["value"] = json!("sk-abcdefghijklmnopqrstuvwxyz");
    request["object"]["spec"]["containers"][0]["args"][0] = json!("--token=hunter2hunter2");
    request["object"]["spec"]["containers"][0]["image"] = json!("evil.example/a:1");
    let input = recorded(&request, Some(&seen(&namespace, &workflow, &class)));
    Line {
        input: Some(input.into()),
        ..line(policies)
    }
}

fn found(explanation: &Explanation, policy: &str) -> Vec<(String, bool)> {
    let explained = explanation
        .policies
        .iter()
        .find(|explained| explained.name == policy)
        .unwrap();
    explained
        .findings
        .iter()
        .map(|found| (found.path.clone(), found.masked))
        .collect()
}

#[test]
fn a_line_with_its_input_is_judged_again() {
    let explanation = explained(with_input(
        "approved-images,volumes,launcher,no-literal-secrets,restricted-pod-security",
    ));
    assert!(explanation.replay.done, "{:?}", explanation.notes);
    assert_eq!(
        found(&explanation, "approved-images"),
        // No pattern of the workflow allows it, and none of the class.
        vec![("spec.containers[0].image".to_owned(), false); 2]
    );
    assert_eq!(
        found(&explanation, "no-literal-secrets"),
        [("spec.containers[0].env[0].value".to_owned(), true)]
    );
    let volumes = found(&explanation, "volumes");
    assert!(
        volumes.iter().any(|(path, _)| path.starts_with("spec.volumes[0]")),
        "{volumes:?}"
    );
    let restricted = found(&explanation, "restricted-pod-security");
    assert!(
        restricted.contains(&("spec.hostNetwork".to_owned(), false)),
        "{restricted:?}"
    );
    let launcher = &explanation.policies[2];
    assert!(
        launcher.findings.is_empty() && launcher.note.as_ref().unwrap().contains("cannot be replayed"),
        "{launcher:?}"
    );
    assert!(
        explanation
            .replay
            .masked
            .contains(&"spec.containers[0].args[0]".to_owned())
    );
    assert!(
        explanation
            .policies
            .iter()
            .all(|explained| !explained.described.is_empty())
    );
}

/// Of every way that refers to a Secret the names stay readable, and nothing else does.
#[test]
fn undeclared_secrets_are_found_again_and_no_others() {
    let items = json!([{"key": "k", "path": "p"}]);
    let volumes = json!([
        {"name": "a", "secret": {"secretName": "s", "items": items, "optional": true}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "s", "items": items}}]}},
        {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "whole"}, "volumeAttributes": {"secretName": "whole", "x": "zq7secret"}}},
        {"name": "d", "cephfs": {"monitors": ["zq7secret"], "secretRef": {"name": "whole"}}},
        {"name": "e", "azureFile": {"secretName": "whole", "shareName": "zq7secret"}},
        {"name": "f", "secret": {"secretName": "other"}},
    ]);
    let (namespace, workflow, class) = objects();
    let secrets = json!([
        {"name": "a", "secretRef": {"name": "s", "keys": ["k"]}}, {"name": "b", "secretRef": {"name": "whole"}},
    ]);
    let workflow = set(workflow, "/spec/secrets", secrets);
    let mut request = set(request("", "Pod", pod()), "/operation", json!("CREATE"));
    request["oldObject"] = Value::Null;
    request["object"]["spec"]["volumes"] = volumes;
    let input = recorded(&request, Some(&seen(&namespace, &workflow, &class)));
    shows_nothing(&input, "zq7secret");
    let explanation = explained(Line {
        input: Some(input.into()),
        ..line("declared-secrets")
    });
    assert_eq!(
        found(&explanation, "declared-secrets"),
        [("spec.volumes[5].secret".to_owned(), false)]
    );
}

#[test]
fn what_the_masked_copy_adds_is_no_finding_of_the_decision() {
    let explanation = explained(with_input("approved-namespaces"));
    assert!(found(&explanation, "approved-namespaces").is_empty());
    assert!(
        explanation.policies[0]
            .note
            .as_ref()
            .unwrap()
            .contains("cannot be found again"),
        "{explanation:?}"
    );
    let more = explanation
        .notes
        .iter()
        .find(|note| note.contains("finds more than the decision did"))
        .unwrap();
    assert!(
        more.contains("restricted-pod-security") && more.contains("no-literal-secrets"),
        "{more}"
    );
}

/// What is masked must not look like something that a policy refuses, or nobody believes what is listed.
#[test]
fn what_fits_is_as_clean_in_a_replay() {
    let object = json!({
        "metadata": {"name": "p", "labels": {"ringfence.dev/workflow": "triage"}},
        "spec": {
            "serviceAccountName": "triage", "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": "ok/a:1", "command": ["python", "-m", "app"], "args": ["--db=postgres://$(USER):$(PASS)@db/x"],
                "env": [
                    {"name": "LOG_LEVEL", "value": "info"}, {"name": "EMPTY_TOKEN", "value": ""},
                    {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "httpHeaders": [{"name": "Accept", "value": "*/*"}]}},
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let (namespace, workflow, class) = objects();
    let mut request = set(request("", "Pod", object), "/operation", json!("CREATE"));
    request["oldObject"] = Value::Null;
    let input = recorded(&request, Some(&seen(&namespace, &workflow, &class)));
    let explanation = explained(Line {
        input: Some(input.into()),
        verdict: Outcome::Allow,
        ..line("")
    });
    assert!(
        explanation.replay.done && explanation.notes.is_empty(),
        "{:?}",
        explanation.notes
    );
}

#[test]
fn a_line_without_input_is_explained_by_what_its_names_mean() {
    let explanation = explained(line("no-literal-secrets,own-service-account,mine"));
    let [shipped, rule, unknown] = explanation.policies.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        (shipped.described[0].kind, shipped.described[0].severity.as_deref()),
        (Kind::Policy, Some("critical"))
    );
    assert!(shipped.described[0].controls.contains(&"OWASP-K08".to_owned()));
    assert_eq!(rule.described[0].kind, Kind::BuiltInRule);
    assert!(
        unknown.described.is_empty() && unknown.note.as_ref().unwrap().contains("--policies"),
        "{unknown:?}"
    );
    assert!(
        !explanation.replay.done && explanation.notes[0].contains("--decision-input=masked"),
        "{explanation:?}"
    );
}

#[test]
fn other_policies_than_those_that_decided_are_said_to_be() {
    let other = Line {
        revision: "0123".into(),
        ..line("no-literal-secrets")
    };
    assert!(explained(other).notes[0].contains("revision 0123"));
    assert!(
        !explained(line("no-literal-secrets"))
            .notes
            .iter()
            .any(|note| note.contains("revision"))
    );
}

#[rstest]
#[case::no_json("topsecret", "its input cannot be read")]
#[case::no_request("{}", "its input cannot be read")]
#[case::no_review(r#"{"request": {"uid": "u"}}"#, "its input cannot be replayed")]
#[case::no_such_template(&recorded(&request("", "ConfigMap", json!({})), None).replacen("{\"request\"", r#"{"facts":{"target":"pod","podPath":"spec.template"},"request""#, 1), "no pod template at spec.template")]
fn an_input_that_is_none_is_said_and_not_repeated(#[case] input: &str, #[case] why: &str) {
    let explanation = explained(Line {
        input: Some(input.to_owned().into()),
        ..line("no-literal-secrets")
    });
    assert!(!explanation.replay.done);
    assert!(
        explanation.notes[0].contains(why) && !explanation.notes[0].contains("topsecret"),
        "{:?}",
        explanation.notes
    );
    assert!(explanation.policies[0].note.is_none(), "{explanation:?}");
}

#[test]
fn a_session_has_no_facts_to_judge_by() {
    let input = recorded(&request("", "PodExecOptions", json!({"command": ["sh"]})), None);
    let explanation = explained(Line {
        input: Some(input.into()),
        ..line("debug-window")
    });
    assert!(
        !explanation.replay.done && explanation.notes[0].contains("no policy was asked"),
        "{explanation:?}"
    );
}

/// A line can come from anywhere, and somebody may paste what is printed.
#[test]
fn no_command_is_made_of_a_name_that_is_none() {
    let mut hostile = line("x; rm -rf /");
    hostile.exceptions = "$(reboot)".into();
    let explanation = explained(hostile);
    assert!(!explanation.exceptions[0].see.contains("kubectl"), "{explanation:?}");
    assert!(
        !explanation.policies[0].note.as_ref().unwrap().contains("kubectl"),
        "{explanation:?}"
    );
}

#[test]
fn an_exception_is_named_with_what_shows_it() {
    let mut used = with_input("approved-images");
    used.verdict = Outcome::Warn;
    used.exceptions = "vendor".into();
    let explanation = explained(used);
    assert_eq!(
        explanation.exceptions[0].see,
        "kubectl get regopolicyexception vendor --namespace ai -o yaml"
    );
    assert_eq!(explanation.policies[0].findings[0].effect, Effect::Excused);
}

#[test]
fn text_says_it_all_and_nothing_that_a_terminal_obeys() {
    let mut hostile = with_input("no-literal-secrets,launcher");
    hostile.user = "ann\u{1b}[2J\u{202e}".into();
    hostile.name = "p\nDENY  x".into();
    let text = explained(hostile).text(false);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    for words in [
        "DENY  ann [2J  asked to CREATE pods ai/p DENY  x\n",
        "  no-literal-secrets (policy, critical): No literal secrets\n",
        "    - refuses: spec.containers[0].env[0].value = ",
        "(masked here): ",
        "      Fix: Put the value into a Secret",
        "  launcher (built-in rule)\n",
        "  Masked, so not judged by what they hold: spec.containers[0].args[0]",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(explained(line("")).text(true).starts_with("\u{1b}[31mDENY\u{1b}[0m  "));
}
