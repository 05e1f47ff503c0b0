//! Suites of each kind, what is refused, where tests stop, and lines that are reached.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;

use super::suite::MAX_PRINTS;
use super::*;

const TIME: Duration = Duration::from_secs(20);

const METADATA: &str = "# METADATA\n# title: T\n# description: D\n# custom:\n#   name: mine\n#   severity: low\n\
                        #   remediation: R\n#   scope: pod\n";

fn source(file: &str, text: &str) -> Source {
    Source {
        file: file.to_owned(),
        text: text.to_owned(),
    }
}

fn plain(modules: &[&str], tests: &[&str], version: RegoVersion) -> Suite {
    let named = |texts: &[&str], end: &str| {
        let numbered = texts.iter().enumerate();
        numbered
            .map(|(number, text)| source(&format!("m{number}{end}"), text))
            .collect()
    };
    Suite {
        policies: Vec::new(),
        modules: named(modules, ".rego"),
        tests: named(tests, "_test.rego"),
        version,
    }
}

fn loaded(suite: &Suite) -> Testing {
    Testing::load(suite).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn refused(suite: &Suite) -> String {
    let errors = Testing::load(suite).err().expect("it must be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Names of tests with what became of them.
fn outcomes(testing: &Testing) -> Vec<(String, TestVerdict)> {
    let rules = testing.rules().iter().enumerate();
    rules
        .filter_map(|(number, rule)| Some((rule.name.clone(), testing.run(number, TIME, false)?.verdict)))
        .collect()
}

fn all_pass(suite: &Suite, count: usize) {
    let outcomes = outcomes(&loaded(suite));
    assert_eq!(outcomes.len(), count);
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|(_, verdict)| *verdict != TestVerdict::Passed)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Rules of the package are there by their bare names, in the other module as in the tests, under `not` too.
#[rstest]
#[case::same_package(
    "package x\nallow if input.a == 1\nhelp(v) if v == limit",
    "package x\nlimit := 2",
    "package x\ntest_a if { allow with input as {\"a\": 1} }\ntest_b if { not allow with input as {\"a\": 2} }\n\
     test_c if { help(2); not help(3); limit == 2 }",
    RegoVersion::V1,
    3
)]
#[case::package_of_tests(
    "package x\nimport data.lib\nallow if lib.yes(input.a)",
    "package lib\nlimit := 2\nyes(v) if { v == limit }\nno if { not limit }",
    "package x_test\nimport data.x\nimport data.lib.yes\ntest_a if { x.allow with input as {\"a\": 2} }\n\
     test_b if { not data.x.allow with input as {\"a\": 1}; yes(2) }",
    RegoVersion::V1,
    2
)]
#[case::old(
    "package x\nallow { input.a == 1 }\ndeny[m] { not allow; m := \"no\" }",
    "package lib\nyes { true }",
    "package x\ntest_a { allow with input as {\"a\": 1} }\ntest_b { deny[\"no\"] with input as {\"a\": 2} }",
    RegoVersion::V0,
    2
)]
#[case::synced_objects(
    "package x\ndeny contains n if { some n, _ in data.inventory.cluster.v1.Namespace }",
    "package lib\nyes if true",
    "package x\ntest_a if { deny == {\"a\"} with data.inventory as {\"cluster\": {\"v1\": {\"Namespace\": {\"a\": {}}}}} }",
    RegoVersion::V1,
    1
)]
fn files_without_metadata_see_each_other(
    #[case] module: &str,
    #[case] other: &str,
    #[case] tests: &str,
    #[case] version: RegoVersion,
    #[case] count: usize,
) {
    all_pass(&plain(&[module, other], &[tests], version), count);
    all_pass(&plain(&[other, module], &[tests], version), count);
}

#[test]
fn a_policy_with_metadata_sees_nothing_but_itself_and_its_tests_see_helpers() {
    let policy = format!("{METADATA}package x\ndeny contains \"no\" if not input.ok\n");
    let tests = "package x_test\nimport data.x\nimport data.fixtures\ntest_a if { x.deny == {\"no\"} with input as fixtures.bad }";
    let mut suite = plain(&[], &[tests, "package fixtures\nbad := {\"a\": 1}"], RegoVersion::V0);
    suite.policies = vec![source("p.rego", &policy)];
    all_pass(&suite, 1);
    suite.policies = vec![source(
        "p.rego",
        &format!("{policy}warn contains \"a\" if data.fixtures.bad\n"),
    )];
    let said = refused(&suite);
    assert!(
        said.starts_with("p.rego:11:") && said.contains("`data.fixtures.bad` is not there"),
        "{said}"
    );
}

#[rstest]
#[case::what_a_policy_may_not_call(
    "package x\na if http.send({}).ok",
    "package x\ntest_a if true",
    "m0.rego:2:6: `http.send` is not available"
)]
#[case::print_in_a_policy(
    "package x\na if print(1)",
    "package x\ntest_a if true",
    "m0.rego:2:6: `print` is not available"
)]
#[case::a_document(
    "package x\na if data.users[0]",
    "package x\ntest_a if true",
    "`data.users` is not there"
)]
#[case::recursion("package x\na if b\nb if a", "package x\ntest_a if true", "recursion (a -> b -> a)")]
#[case::recursion_of_tests(
    "package x\na := 1",
    "package x\ntest_a if f(1)\nf(v) := f(v + 1)",
    "m0_test.rego:3:1: recursion (f -> f)"
)]
#[case::cases(
    "package x\na := 1",
    "package x\ntest_a[c] if { some c in [1]; c == a }",
    "m0_test.rego:2:1: `test_a` gives one value for each case"
)]
#[case::set(
    "package x\na := 1",
    "package x\ntest_a contains c if some c in [1]",
    "m0_test.rego:2:1: `test_a` gives one value for each case"
)]
#[case::import(
    "package x\na := 1",
    "package y_test\nimport data.y\ntest_a if y.a",
    "m0_test.rego:2:8: `data.y` is not among what is tested"
)]
#[case::syntax("package x\na := 1", "package x\ntest_a if {", "m0_test.rego:2:")]
fn what_cannot_be_trusted_is_refused_at_its_place(#[case] module: &str, #[case] tests: &str, #[case] words: &str) {
    let said = refused(&plain(&[module], &[tests], RegoVersion::V1));
    assert!(said.contains(words), "{said}");
}

#[test]
fn an_object_policy_is_held_to_what_a_registration_takes() {
    let good = METADATA.replace("scope: pod", "scope: object\n#   match: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], resources: [services], operations: [CREATE]}]}");
    let mut suite = plain(
        &[],
        &["package x_test\nimport data.x\ntest_a if x.deny == {\"no\"} with input as {}"],
        RegoVersion::V1,
    );
    let body = "package x\ndeny contains \"no\" if not input.ok\n";
    suite.policies = vec![source("p.rego", &format!("{good}{body}"))];
    all_pass(&suite, 1);
    suite.policies = vec![source("p.rego", &format!("{}{body}", good.replace("[services]", "[]")))];
    let said = refused(&suite);
    assert!(
        said.starts_with("p.rego: spec.matchConstraints.resourceRules[0].resources: is empty"),
        "{said}"
    );
}

#[test]
fn a_test_that_is_not_true_fails_and_tells_where_it_stops() {
    let tests = "package x\n\
        test_undefined if {\n\ta == 1\n\tsome v in [1, 2]\n\tv == 3\n\ta == 2\n}\n\
        test_false := a == 2\n\
        test_text := \"yes\"\n\
        test_error if {\n\ta == 1\n\tstartswith(a, \"x\")\n}\n\
        todo_test_later if a == 3\n\
        test_help(v) if v == 1\n";
    let testing = loaded(&plain(&["package x\na := 1"], &[tests], RegoVersion::V1));
    let names: Vec<_> = testing
        .rules()
        .iter()
        .map(|rule| (rule.name.as_str(), rule.line, rule.skipped))
        .collect();
    assert_eq!(
        names,
        [
            ("test_undefined", 2, false),
            ("test_false", 8, false),
            ("test_text", 9, false),
            ("test_error", 10, false),
            ("todo_test_later", 14, true)
        ]
    );
    let ran = |number: usize| testing.run(number, TIME, false).expect("it runs");
    assert_eq!(ran(0).verdict, TestVerdict::Failed("it is undefined".to_owned()));
    let stop = ran(0).stops;
    assert_eq!(
        stop.iter()
            .map(|stop| (stop.line, stop.text.as_str()))
            .collect::<Vec<_>>(),
        [(5, "v == 3")]
    );
    assert_eq!(ran(1).verdict, TestVerdict::Failed("it is false".to_owned()));
    assert_eq!(
        ran(2).verdict,
        TestVerdict::Failed("its value is not `true`".to_owned())
    );
    assert_eq!(
        ran(3).verdict,
        TestVerdict::Error("`startswith` expects string argument at m0_test.rego:12:16".to_owned())
    );
    assert_eq!(testing.run(4, TIME, false), None);
    assert_eq!(testing.run(5, TIME, false), None);
}

/// What is undefined under `not` moves in front of the statement, and the lines of the author stay.
#[test]
fn prints_are_kept_with_the_author_s_line_and_bounded() {
    let tests = "package x\ntest_a if {\n\tnot f([\n\t\tinput.a,\n\t\t2,\n\t])\n\tprint(\"hi\", input.b, [1])\n} \n\
        f(v) if v == 3\n\
        test_many if { every n in [v | some a in l; some b in l; v := a + b] { print(n) } }\nl := [1, 2, 3, 4, 5, 6, 7, 8, 9]\n";
    let text = tests.replace("test_a if {", "test_a if {\n\tprint(input.a)");
    let testing = loaded(&plain(&[], &[&text], RegoVersion::V1));
    let prints = testing.run(0, TIME, false).expect("it runs").prints;
    assert_eq!(prints, ["m0_test.rego:3: <undefined>"]);
    let text = text.replace("input.a,", "1,").replace("print(input.a)", "print(1)");
    let testing = loaded(&plain(&[], &[&text], RegoVersion::V1));
    let prints = testing.run(0, TIME, false).expect("it runs").prints;
    assert_eq!(prints, ["m0_test.rego:3: 1", "m0_test.rego:8: hi <undefined> [1]"]);
    let prints = testing.run(1, TIME, false).expect("it runs").prints;
    assert_eq!(
        (prints.len(), prints[MAX_PRINTS].as_str()),
        (MAX_PRINTS + 1, "31 more lines were printed")
    );
}

#[test]
fn lines_that_are_reached_are_those_of_the_author() {
    let module = "package x\n\n\
        default allow := false\n\n\
        allow if {\n\tnot bad(\n\t\tinput.a,\n\t\tinput.b,\n\t)\n\tsome v in input.list\n\tv == 1\n}\n\n\
        bad(a, b) if a == b\n\n\
        list := [v |\n\tsome v in input.list\n\tv > 5\n]\n\n\
        unused := {\n\t\"a\": 1,\n}\n\n\
        other if {\n\tevery v in input.list {\n\t\tv == 1\n\t\tv == 2\n\t}\n}\n";
    let tests = "package x\ntest_a if { allow with input as {\"a\": 1, \"b\": 2, \"list\": [1]} }\n\
        test_b if { not allow with input as {\"a\": 1, \"b\": 1} }\n\
        test_c if { list == [] with input as {\"list\": []} }\n\
        test_d if { not other with input as {\"list\": [3]} }\n";
    let testing = loaded(&plain(&[module], &[tests], RegoVersion::V1));
    let covered = |numbers: std::ops::Range<usize>| {
        let mut reached: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (file, lines) in numbers.flat_map(|number| testing.run(number, TIME, true).expect("it runs").reached) {
            reached.entry(file).or_default().extend(lines);
        }
        let files = FileCoverage::of(&testing.lines(), &reached);
        let [file] = <[FileCoverage; 1]>::try_from(files).expect("one file");
        (file.covered, file.uncovered)
    };
    assert_eq!(covered(0..2), (5, vec![16, 17, 18, 21, 26, 27, 28]));
    assert_eq!(covered(0..4), (9, vec![18, 21, 28]));
}
