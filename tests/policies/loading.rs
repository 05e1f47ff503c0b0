//! What the loader makes of bad policies and of parameters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ringfence::policy::{LoadError, Plain, PolicyInput, PolicySet, RegoVersion, Source, Target};
use rstest::rstest;
use serde_json::{Value, json};

use crate::shipped::joined;

/// A policy with METADATA; its body starts on line 9.
pub fn policy(name: &str, parameters: &str, body: &str) -> Source {
    let text = format!(
        "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: {name}\n#   severity: low\n\
         #   remediation: Do it\n#   scope: pod\n#   parameters: {parameters}\npackage p\n{body}\n"
    );
    Source {
        file: format!("{name}.rego"),
        text,
    }
}

fn load(body: &str) -> Result<PolicySet, Vec<LoadError>> {
    PolicySet::compile(vec![policy("one", "{}", body)], &BTreeMap::new())
}

const GOOD: &str = "deny contains \"x\" if input.request.bad";

#[rstest]
#[case::syntax("deny contains \"x\" if {", "one.rego:12:", "")]
#[case::unsafe_variable("deny contains x if input.y", "one.rego:11:", "x")]
#[case::v0_in_v1("deny[msg] { msg := \"x\" }", "one.rego:11:", "")]
#[case::unknown_builtin("deny contains \"x\" if no_such(1)", "one.rego:11:22", "no_such")]
#[case::http("deny contains \"x\" if not http.send({}).ok", "one.rego:11:26", "another server")]
#[case::recursion("deny contains \"x\" if f(1)\nf(x) := f(x - 1)", "one.rego:12:1", "f -> f")]
#[case::no_entry_point("refuse := true", "one.rego", "`deny`")]
#[case::nested(&format!("deny contains {}1{}", "[".repeat(30), "]".repeat(30)), "one.rego:11:", "nested")]
#[case::long_line(&format!("{GOOD}\nx := \"{}\"", "x".repeat(5000)), "one.rego", "")]
fn a_bad_policy_is_an_error_with_its_place(#[case] body: &str, #[case] place: &str, #[case] word: &str) {
    let errors = load(body).expect_err("must not load");
    let text = joined(&errors);
    assert!(text.starts_with(place) && text.contains(word), "{text}");
    assert!(!text.contains("stack backtrace"), "{text}");
}

#[test]
fn a_policy_without_metadata_is_refused() {
    let source = Source {
        file: "bare.rego".to_owned(),
        text: format!("package p\n{GOOD}\n"),
    };
    let errors = PolicySet::compile(vec![source], &BTreeMap::new()).expect_err("must not load");
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().starts_with("bare.rego:1: no `# METADATA` block"),
        "{}",
        errors[0]
    );
}

#[test]
fn a_huge_policy_is_refused_at_once() {
    let start = Instant::now();
    let errors = load(&format!("{GOOD}\n{}", "# padding\n".repeat(100_000))).expect_err("must not load");
    assert!(errors[0].message.contains("bytes"), "{}", errors[0]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn errors_of_every_policy_are_reported_at_once() {
    let sources = vec![
        policy("one", "{}", "x"),
        policy("two", "{}", GOOD),
        policy("three", "{}", "refuse := true"),
    ];
    let text = joined(&PolicySet::compile(sources, &BTreeMap::new()).expect_err("must not load"));
    assert!(
        text.contains("one.rego:11:") && text.contains("three.rego") && !text.contains("two.rego"),
        "{text}"
    );
}

#[test]
fn two_policies_of_one_name_are_refused() {
    let sources = vec![policy("one", "{}", GOOD), policy("one", "{}", GOOD)];
    let errors = PolicySet::compile(sources, &BTreeMap::new()).expect_err("must not load");
    assert!(errors[0].message.contains("is there already"), "{}", errors[0]);
}

#[test]
fn tests_beside_policies_are_left_out() {
    let tests = Source {
        file: "one_test.rego".to_owned(),
        text: "no rego at all".to_owned(),
    };
    let set = PolicySet::compile(vec![policy("one", "{}", GOOD), tests], &BTreeMap::new()).expect("loads");
    assert_eq!(set.policies().count(), 1);
}

fn parameters(value: Value) -> BTreeMap<String, Value> {
    value.as_object().expect("object").clone().into_iter().collect()
}

#[rstest]
#[case::unknown_policy(json!({"other": {}}), "no policy `other`")]
#[case::unknown_name(json!({"one": {"alowed": []}}), "no parameter `alowed`")]
#[case::another_type(json!({"one": {"allowed": "a"}}), "of the type of its default")]
#[case::no_object(json!({"one": ["a"]}), "must be an object")]
fn misspelt_parameters_are_refused(#[case] overrides: Value, #[case] words: &str) {
    let source = policy("one", "{allowed: [], level: 3}", GOOD);
    let errors = PolicySet::compile(vec![source], &parameters(overrides)).expect_err("must not load");
    assert!(errors[0].message.contains(words), "{}", errors[0]);
}

#[test]
fn parameters_go_over_their_defaults() {
    let body = "deny contains sprintf(\"%v %v\", [input.parameters.a, input.parameters.b])";
    let source = policy("one", "{a: 1, b: [x]}", body);
    let evaluate = |set: &PolicySet| {
        let verdicts = set.evaluate(&input(&json!({})), Duration::from_secs(5));
        verdicts[0].outcome.as_ref().expect("findings").deny[0].message.clone()
    };
    let plain = PolicySet::compile(vec![source.clone()], &BTreeMap::new()).expect("loads");
    let over = PolicySet::compile(vec![source], &parameters(json!({"one": {"a": 2}}))).expect("loads");
    assert_eq!(
        (evaluate(&plain).as_str(), evaluate(&over).as_str()),
        ("1 [\"x\"]", "2 [\"x\"]")
    );
    assert_ne!(plain.revision(), over.revision(), "parameters are part of the revision");
    assert_eq!(plain.revision().len(), 12);
}

#[test]
fn policies_of_one_package_do_not_mix() {
    let one = policy("one", "{}", "deny contains \"one\" if helper\nhelper if false");
    let two = policy("two", "{}", "deny contains \"two\" if helper\nhelper if true");
    let set = PolicySet::compile(vec![one, two], &BTreeMap::new()).expect("loads");
    let verdicts = set.evaluate(&input(&json!({})), Duration::from_secs(5));
    let found: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            let messages = verdict
                .outcome
                .as_ref()
                .expect("findings")
                .deny
                .iter()
                .map(|denial| denial.message.as_str());
            (verdict.policy.as_str(), messages.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(found, [("one", vec![]), ("two", vec!["two"])]);
}

#[test]
fn every_entry_point_counts() {
    let body = "deny contains \"d\"\nviolation contains {\"msg\": \"v\", \"details\": {\"a\": 1}}\nwarn contains \"w\"\n\
                default allow := false";
    let set = load(body).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let verdicts = set.evaluate(&input(&json!({})), Duration::from_secs(5));
    let findings = verdicts[0].outcome.as_ref().expect("findings");
    let denials: Vec<_> = findings.deny.iter().map(|denial| denial.message.as_str()).collect();
    assert_eq!(denials, ["Title: `allow` is not true", "d", "v"]);
    assert_eq!(findings.warn.len(), 1);
    assert_eq!(
        findings.deny[0].fix, "Do it",
        "the fix of METADATA stands in for a missing one"
    );
}

#[test]
fn an_empty_set_says_nothing() {
    let set = PolicySet::compile(Vec::new(), &BTreeMap::new()).expect("loads");
    assert!(set.evaluate(&input(&json!({})), Duration::from_secs(5)).is_empty());
}

pub fn input(request: &Value) -> PolicyInput<'_> {
    PolicyInput {
        target: Target::Pod,
        request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the text, the loader answers, soon, and without a panic.
    #[test]
    fn no_text_brings_the_loader_down(
        words in prop::collection::vec(prop::sample::select(vec![
            "package p\n", "# METADATA\n", "deny", " contains ", " if ", "{", "}", "[", "]", "(", ")", "\"", "`", "x", ":=", "=",
            "input.", "data.", "not ", "some ", " in ", "every ", "with ", " as ", "else", "default ", "import ", ",", "\n", "1",
            "+", "-", "|", "import rego.v1\n", "allow", "é", "\u{0}", "\\", "# c\n", "1e999", "numbers.range(1,2)",
        ]), 0..60),
        v0 in any::<bool>(),
    ) {
        let start = Instant::now();
        let text = format!("package p\n{}", words.concat());
        let rego = if v0 { RegoVersion::V0 } else { RegoVersion::V1 };
        let plain = Plain { name: "any".to_owned(), target: Target::Pod, rego };
        let source = Source { file: "any.rego".to_owned(), text };
        if let Err(errors) = PolicySet::compile_plain(vec![(plain, source)], &BTreeMap::new()) {
            prop_assert!(!errors.is_empty());
        }
        prop_assert!(start.elapsed() < Duration::from_secs(5));
    }
}
