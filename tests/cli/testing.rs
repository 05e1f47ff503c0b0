//! `ringfence test`: outcomes, outputs, exit codes, and tests that would take a process along.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::Value;

use crate::run::{Said, run};

const POLICY: &str = "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: mine\n#   severity: low\n\
                      #   remediation: Do it\n#   scope: pod\npackage mine\n\ndeny contains \"bad\" if {\n\tinput.request.bad\n}\n\n\
                      warn contains \"odd\" if {\n\tinput.request.odd\n}\n";
const PASSES: &str = "package mine_test\n\nimport data.mine\n\ntest_refuses_bad if {\n\tmine.deny == {\"bad\"} with input as {\"request\": {\"bad\": true}}\n}\n";
const FAILS: &str = "package mine_test\n\nimport data.mine\n\ntest_fails if {\n\tcount(mine.deny) == 0 with input as {\"request\": {}}\n\tcount(mine.warn) == 7 with input as {}\n\ttrue\n}\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn test(folder: &Path, options: &[&str]) -> Said {
    run(&[&["test", &folder.display().to_string()], options].concat(), b"")
}

fn json(folder: &Path, options: &[&str]) -> (i32, Value) {
    let said = test(folder, &[&["-o", "json"], options].concat());
    (
        said.code,
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}")),
    )
}

fn outcomes(json: &Value) -> Vec<(&str, &str)> {
    let tests = json["tests"].as_array().unwrap();
    tests
        .iter()
        .map(|test| (test["name"].as_str().unwrap(), test["outcome"].as_str().unwrap()))
        .collect()
}

#[test]
fn the_shipped_policies_pass_their_tests_here_too() {
    let said = run(&["test", "policies", "-o", "json", "--coverage-threshold", "90"], b"");
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(json["summary"]["passed"].as_u64().unwrap() > 100 && json["summary"]["tests"] == json["summary"]["passed"]);
    let sources = ringfence::policy::PolicySet::embedded_sources();
    let policies = sources
        .iter()
        .filter(|source| !source.file.ends_with("_test.rego"))
        .count();
    assert_eq!(
        json["coverage"]["files"].as_array().unwrap().len(),
        policies,
        "each policy is looked at"
    );
}

#[rstest]
#[case::passes(&[("p.rego", POLICY), ("p_test.rego", PASSES)], &[], 0, "1 passed in")]
#[case::fails(&[("p.rego", POLICY), ("p_test.rego", FAILS)], &[], 1, "it gets as far as ")]
#[case::fails_at(&[("p.rego", POLICY), ("p_test.rego", FAILS)], &[], 1, "p_test.rego:7: count(mine.warn) == 7 with input as {}")]
#[case::fails_beside_one_that_passes(&[("p.rego", POLICY), ("p_test.rego", PASSES), ("a/x_test.rego", FAILS)], &[], 1, "1 passed, 1 failed in")]
#[case::chosen(&[("p.rego", POLICY), ("p_test.rego", PASSES), ("a/x_test.rego", FAILS)], &["--run", "mine_test.test_ref"], 0, "1 passed in")]
#[case::skipped(&[("p.rego", POLICY), ("p_test.rego", "package mine_test\ntodo_test_x if false\n")], &[], 0, "0 passed, 1 skipped in")]
#[case::none(&[("p.rego", POLICY)], &[], 0, "no tests\n")]
#[case::none_is_wrong(&[("p.rego", POLICY)], &["--fail-on-empty"], 2, "error there is no test")]
#[case::none_chosen(&[("p.rego", POLICY), ("p_test.rego", PASSES)], &["--filter", "nothing", "--fail-on-empty"], 2, "error there is no test")]
#[case::broken_policy(&[("p.rego", &*POLICY.replace("input.request.odd", "input.[")), ("p_test.rego", PASSES)], &[], 2, "p.rego:16:")]
#[case::broken_metadata(&[("p.rego", &*POLICY.replace("severity: low", "severity: dreadful")), ("p_test.rego", PASSES)], &[], 2, "METADATA")]
#[case::broken_tests(&[("p.rego", POLICY), ("p_test.rego", "package mine_test\ntest_x if {\n")], &[], 2, "p_test.rego:")]
#[case::broken_and_failing(&[("p.rego", POLICY), ("p_test.rego", FAILS), ("q.rego", "package q\nx := [\n")], &[], 2, "1 failed")]
#[case::without_its_policy(&[("p_test.rego", PASSES)], &[], 2, "p_test.rego:3:8: `data.mine` is not among what is tested")]
#[case::no_utf8(&[("p.rego", POLICY), ("p_test.rego", PASSES), ("q.rego", "package q\n")], &["/nonexistent"], 2, "/nonexistent: cannot be read")]
#[case::bad_pattern(&[("p.rego", POLICY)], &["--run", "("], 2, "")]
#[case::covered(&[("p.rego", POLICY), ("p_test.rego", PASSES)], &["--coverage-threshold", "50"], 0, " 50.0 % of the lines are reached, 50 % are asked for")]
#[case::not_covered(&[("p.rego", POLICY), ("p_test.rego", PASSES)], &["--coverage-threshold", "50.1"], 1, "less than 50.1 %")]
#[case::lines_that_are_not(&[("p.rego", POLICY), ("p_test.rego", PASSES)], &["--coverage"], 0, "p.rego, not reached: 15-16\n")]
#[case::old(&[("p.rego", "package q\ndeny[m] { input.bad; m := \"x\" }\n"), ("p_test.rego", "package q\ntest_x { deny[\"x\"] with input as {\"bad\": 1} }\n")], &["--v0"], 0, "1 passed in")]
#[case::old_taken_for_new(&[("p.rego", "package q\ndeny[m] { input.bad; m := \"x\" }\n")], &[], 2, "p.rego:2:")]
#[case::old_by_metadata(
    &[("p.rego", &*POLICY.replace("scope: pod", "scope: pod\n#   rego: v0").replace(" contains \"bad\" if", "[\"bad\"]").replace(" contains \"odd\" if", "[\"odd\"]")),
      ("p_test.rego", "package mine\ntest_x { deny[\"bad\"] with input as {\"request\": {\"bad\": 1}} }\n")],
    &[], 0, "1 passed in"
)]
#[case::libraries(
    &[("lib/l.rego", "package lib.names\nis_bad(x) if x == \"bad\"\n"),
      ("main/m.rego", "package main\nimport data.lib.names\ndeny contains \"x\" if names.is_bad(input.name)\n"),
      ("main/m_test.rego", "package main\ntest_x if deny == {\"x\"} with input as {\"name\": \"bad\"}\ntest_y if not is_bad with input as {}\nis_bad if count(deny) > 0\n")],
    &[], 0, "2 passed in"
)]
fn each_outcome_has_its_exit_code_and_its_words(
    #[case] files: &[(&str, &str)],
    #[case] options: &[&str],
    #[case] code: i32,
    #[case] words: &str,
) {
    let folder = folder(files);
    let said = test(folder.path(), options);
    assert_eq!(said.code, code, "{said:?}");
    assert!(said.out.contains(words), "{words:?} is not in {said:?}");
    assert!(!said.out.contains('\u{1b}'), "no colour where there is no terminal");
}

#[test]
fn what_is_printed_is_told_of_tests_that_fail_and_of_others_when_asked_for() {
    let tests = "package x\ntest_good if { print(\"cheers\"); true }\ntest_bad if {\n\tprint(\"seen\", input.x) with input as {\"x\": [1]}\n\t1 == 2\n}\n";
    let folder = folder(&[("x_test.rego", tests)]);
    let said = test(folder.path(), &[]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("x_test.rego:4: seen [1]\n") && !said.out.contains("cheers"),
        "{}",
        said.out
    );
    let said = test(folder.path(), &["-v"]);
    assert!(said.out.contains("x_test.rego:2: cheers\n"), "{}", said.out);
}

#[test]
fn json_tells_all_of_it() {
    let erring = PASSES.replace("mine.deny ==", "startswith(1, \"a\")\n\tmine.deny ==");
    let folder = folder(&[
        ("p.rego", POLICY),
        ("p_test.rego", PASSES),
        ("a/q_test.rego", &FAILS.replace("true\n", "true\n\tprint(1)\n")),
        ("b/r_test.rego", &erring.replace("test_refuses_bad", "test_errs")),
        ("c/s_test.rego", "package mine_test\ntodo_test_later if false\n"),
        ("d.rego", "package d\nx := nothing\n"),
    ]);
    let (code, json) = json(folder.path(), &["--coverage"]);
    assert_eq!(code, 2, "{json}");
    assert_eq!(
        outcomes(&json),
        [
            ("test_fails", "failed"),
            ("test_errs", "error"),
            ("todo_test_later", "skipped"),
            ("test_refuses_bad", "passed")
        ]
    );
    let failed = &json["tests"][0];
    assert_eq!(
        (failed["line"].as_u64(), failed["package"].as_str()),
        (Some(5), Some("mine_test"))
    );
    assert_eq!(failed["stops"][0]["line"], 7);
    assert!(
        json["tests"][1]["message"]
            .as_str()
            .unwrap()
            .contains("`startswith` expects string argument at")
    );
    assert_eq!(json["tests"][2]["message"], Value::Null);
    let errors = json["errors"].as_array().unwrap();
    assert!(
        errors.len() == 1 && errors[0].as_str().unwrap().contains("d.rego:2:"),
        "{errors:?}"
    );
    let file = &json["coverage"]["files"][0];
    assert_eq!(
        (file["covered"].as_u64(), file["lines"].as_u64()),
        (Some(3), Some(4)),
        "{file}"
    );
    assert_eq!(file["uncovered"], serde_json::json!([15]));
    assert_eq!(
        json["summary"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "seconds")
            .map(|(name, count)| format!("{name} {count}"))
            .collect::<Vec<_>>()
            .join(", "),
        "failed 2, passed 1, skipped 1, tests 4"
    );
}

#[test]
fn junit_is_a_suite_for_each_file() {
    let folder = folder(&[
        ("p.rego", POLICY),
        ("p_test.rego", PASSES),
        ("q_test.rego", &FAILS.replace("== 7", "== \"<&\"")),
    ]);
    let said = test(folder.path(), &["-o", "junit"]);
    assert_eq!(said.code, 1);
    assert!(said.out.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ringfence test\" tests=\"2\" failures=\"1\" errors=\"0\""), "{}", said.out);
    assert_eq!(said.out.matches("<testsuite ").count(), 2);
    assert_eq!(said.out.matches("<testcase ").count(), 2);
    assert!(said.out.contains("== &quot;&lt;&amp;&quot;"), "{}", said.out);
    fs::write(folder.path().join("r.rego"), "nonsense").unwrap();
    let said = test(folder.path(), &["-o", "junit"]);
    assert_eq!(said.code, 2);
    assert!(
        said.out.contains("tests=\"3\" failures=\"1\" errors=\"1\"") && said.err.contains("r.rego"),
        "{said:?}"
    );
}

const OBJECT: &str = "apiVersion: ringfence.dev/v1alpha1\nkind: RegoPolicy\nmetadata: {name: registries}\nspec:\n  validationActions: [Deny]\n  \
    failurePolicy: Fail\n  matchConstraints:\n    resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], resources: [pods], operations: [CREATE]}]\n  \
    samples:\n  - name: a foreign image is refused\n    expect: Deny\n    object: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: evil/x}]}}\n  \
    - name: ours passes\n    expect: Allow\n    object: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: ours/x}]}}\n  \
    rego:\n    modules:\n    - name: policy.rego\n      source: |\n        package registries\n        deny contains \"foreign\" if {\n          some c in input.review.object.spec.containers\n          not startswith(c.image, \"ours/\")\n        }\n";

#[test]
fn samples_of_rego_policies_are_tests() {
    let others = "kind: ConfigMap\nmetadata: {name: a}\n---\nnot: {{ a template }}\n";
    let folder = folder(&[("policy.yaml", OBJECT), ("other.yaml", others)]);
    let (code, parsed) = json(folder.path(), &["--fail-on-empty"]);
    assert_eq!(code, 0, "{parsed}");
    assert_eq!(
        outcomes(&parsed),
        [("a foreign image is refused", "passed"), ("ours passes", "passed")]
    );
    assert_eq!(parsed["tests"][1]["line"], 13);
    fs::write(
        folder.path().join("policy.yaml"),
        OBJECT.replace("\"ours/\"", "\"theirs/\""),
    )
    .unwrap();
    let said = test(folder.path(), &[]);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("policy.yaml:13 ours passes")
            && said
                .out
                .contains("Allow is expected, and the policy gives Deny (foreign)"),
        "{}",
        said.out
    );
    for (from, to, words) in [
        ("v1alpha1", "v1", "ringfence.dev/v1 RegoPolicy is not known here"),
        ("[Deny]", "[Refuse]", "would be refused by the API server"),
        ("startswith(", "starts(", "`starts` is not a function"),
        ("operations: [CREATE]", "operations: []", "operations"),
    ] {
        fs::write(folder.path().join("policy.yaml"), OBJECT.replace(from, to)).unwrap();
        let said = test(folder.path(), &[]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let said = run(&["test", &folder.path().join("other.yaml").display().to_string()], b"");
    assert_eq!(said.code, 2, "a file that is named holds one: {said:?}");
}

#[test]
fn documents_beside_the_policies_are_left_aside_and_told_of() {
    let folder = folder(&[
        ("x.rego", "package x\na := 1\n"),
        ("x_test.rego", "package x\ntest_a if a == 1\n"),
        ("data.json", "{\"a\": 2}"),
    ]);
    let said = test(folder.path(), &[]);
    assert_eq!(said.code, 0);
    assert!(said.err.contains("data.json is left aside"), "{}", said.err);
}

fn numbers() -> String {
    let numbers: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    format!("l := [{}]\n", numbers.join(", "))
}

fn squares() -> String {
    let steps: String = (1..=60).map(|n| format!("a{n} := a{} * a{}\n", n - 1, n - 1)).collect();
    format!("a0 := 123456789\n{steps}")
}

fn texts() -> String {
    let steps: String = (1..=18)
        .map(|n| format!("t{n} := concat(\"\", [t{}, t{}])\n", n - 1, n - 1))
        .collect();
    format!("t0 := \"xxxxxxxx\"\n{steps}")
}

/// Each of them is named, and the tests around it run all the same.
#[rstest]
#[case::loops(&numbers(), "count([1 | some a in l; some b in l; some c in l; some d in l; a + b + c + d < 0]) == 0", "2", "it did not finish in 2000 ms")]
#[case::no_timer_stops_it(&squares(), "a60 > 0", "2", "it did not end in its time")]
#[case::memory(&(numbers() + &texts()), "count([concat(\"\", [t18, sprintf(\"%d\", [n])]) | some n in l]) > 0", "60", "memory")]
fn a_test_that_runs_away_fails_by_name(
    #[case] rules: &str,
    #[case] body: &str,
    #[case] seconds: &str,
    #[case] words: &str,
) {
    let tests = format!(
        "package x\ntest_before if true\ntest_attack if {{ {body} }}\ntest_after if true\ntest_false if false\n{rules}"
    );
    let folder = folder(&[("x_test.rego", &tests)]);
    let (code, json) = json(folder.path(), &["--timeout", seconds]);
    assert_eq!(code, 1, "{json}");
    assert_eq!(
        outcomes(&json),
        [
            ("test_before", "passed"),
            ("test_attack", "error"),
            ("test_after", "passed"),
            ("test_false", "failed")
        ]
    );
    assert!(json["tests"][1]["message"].as_str().unwrap().contains(words), "{json}");
}

#[rstest]
#[case::recursion("f(x) := f(x - 1)\n", "recursion (f -> f)")]
#[case::nesting(&format!("x := {}1{}\n", "[".repeat(40), "]".repeat(40)), "nested")]
// It is memory that ends it, on a fast machine too.
#[case::statements(&format!("x if {{\n{}}}\n", format!("{}1\n", "1; ".repeat(299)).repeat(280)), "while it was read and compiled")]
fn a_policy_that_would_end_the_process_is_an_error(#[case] rules: &str, #[case] words: &str) {
    let folder = folder(&[
        ("p.rego", &format!("{POLICY}{rules}")),
        ("p_test.rego", PASSES),
        ("q_test.rego", "package q\ntest_q if true\n"),
    ]);
    let said = test(folder.path(), &[]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.contains("p.rego") && said.out.contains(words), "{said:?}");
    assert!(said.out.contains("1 passed"), "others run all the same: {said:?}");
}

#[test]
fn watching_runs_again_when_a_file_changes() {
    let folder = folder(&[("p.rego", POLICY), ("p_test.rego", FAILS)]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["test", "--watch"])
        .arg(folder.path())
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut summaries = lines.filter(|line| line.contains(" passed") && line.contains(" in "));
    let first = summaries.next().unwrap();
    fs::write(folder.path().join("p_test.rego"), PASSES).unwrap();
    let second = summaries.next().unwrap();
    fs::write(
        folder.path().join("more_test.rego"),
        PASSES.replace("bad if", "more if"),
    )
    .unwrap();
    let third = summaries.next().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let counts = [first, second, third].map(|line| line.split(" in ").next().unwrap().to_owned());
    assert_eq!(counts, ["0 passed, 1 failed", "1 passed", "2 passed"]);
}
