//! What a policy cannot have here, though OPA has it: said when the policy is loaded, or an error where it would be asked.
//! Never another answer.

use ringfence::policy::RegoVersion::{V0, V1};
use ringfence::policy::{Failure, RegoVersion, Source, evaluate};
use rstest::rstest;
use serde_json::{Value, json};
use support::opa::{Answer, Opa};

use crate::compare::{Case, ours};

#[rstest]
#[case::http(
    V1,
    "x := http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"})",
    "another server"
)]
#[case::token_verified(V1, "x := io.jwt.verify_hs256(\"a.b.c\", \"k\")", "no built-in function")]
#[case::certificates(V1, "x := crypto.x509.parse_certificates(\"\")", "no built-in function")]
#[case::layouts(V1, "x := time.format(0)", "time.parse_rfc3339_ns")]
#[case::layouts_read(V1, "x := time.parse_ns(\"2006\", \"2020\")", "time.parse_rfc3339_ns")]
#[case::differences_of_times(V1, "x := time.diff(1, 0)", "subtract")]
#[case::globs_that_meet(V1, "x := regex.globs_match(\"a*\", \"b*\")", "regex.match")]
#[case::long_shifts(V1, "x := bits.lsh(1, 2)", "memory")]
#[case::ranges(V1, "x := numbers.range(1, 2)", "memory")]
#[case::graphs(V1, "x := graph.reachable({}, [])", "no built-in function")]
#[case::interpolation(V1, "x := $\"{1}\"", "")]
#[case::walks(V1, "x := [p | walk(input, [p, 1])]", "no built-in function")]
#[case::wildcard_as_the_value(V1, "x := input.b[_]", "nothing gives variable `_` a value")]
#[case::object_as_a_parameter(V1, "f({\"d\": y}) := y\n\nx := f(input)", "take the value whole")]
#[case::object_unified(V1, "x := y if {\"a\": y} = input", "take the value whole")]
#[case::object_unified_from_the_right(V1, "x := y if input = {\"a\": y}", "take the value whole")]
#[case::object_within_an_array(V1, "x := y if [{\"a\": y}] := [input]", "take the value whole")]
#[case::object_of_some(V1, "x := [n | some {\"n\": n} in input.b]", "take the value whole")]
#[case::negation_of_newer_versions(V1, "import future.keywords.not\n\nx if not input.a", "leave out the import")]
#[case::version_2(V1, "import rego.v2\n\nx if not input.a", "leave out the import")]
#[case::every_keyword(V0, "import future.keywords\n\nx if not f(input.z)\n\nf(_) = true", "by name")]
#[case::too_few_arguments(V1, "x if net.cidr_contains(\"10.0.0.0/8\")", "takes 2 arguments, and is given 1")]
#[case::too_many_arguments(V1, "x := sum([1], 1)", "takes 1 arguments, and is given 2")]
#[case::negated_body(V1, "x if not { input.a }", "make the query a rule")]
#[case::negated_set(V1, "x if not {1}", "make the query a rule")]
#[case::call_over_lines(V1, "x := count\n([1])", "begins with `(`")]
fn when_it_is_loaded(#[case] version: RegoVersion, #[case] rules: &str, #[case] words: &str) {
    let source = Source {
        file: "p.rego".to_owned(),
        text: format!("package p\n\n{rules}\n"),
    };
    match evaluate(&source, version, "x", &json!({"a": 1, "b": 2})) {
        Err(Failure::Load(errors)) => {
            let said = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(said.contains(words), "{said}");
        }
        other => panic!("it was loaded: {other:?}"),
    }
}

/// Calls that OPA answers and we do not.
const STOPPED: &[(&str, &[&str])] = &[
    (
        "io.jwt.decode",
        &[r#""eyJhbGciOiJub25lIiwiY3R5IjoiSldUIn0.ZXlKaGJHY2lPaUp1YjI1bEluMC5lMzAu.""#],
    ),
    ("json.is_valid", &[r#""1e400""#, r#""\"\\ud800\"""#]),
    ("json.unmarshal", &[r#""\"\\ud800\"""#]),
    ("net.cidr_contains_matches", &[r#"1, "1.1.1.1""#, r#"["x"], []"#]),
    (
        "net.cidr_merge",
        &[
            r#"["10.0.0.1", "10.0.0.0"]"#,
            r#"["0.0.0.0/0", "::/0"]"#,
            r#"["::ffff:10.0.0.0/104", "11.0.0.0/8"]"#,
        ],
    ),
    ("regex.is_valid", &[r#""((a{100}){100}){100}""#]),
    (
        "regex.match",
        &[
            r#""\\p{Letter}", "é""#,
            r#""\\07", "\u0007""#,
            r#""\\B", "é""#,
            r#""\\p{^Greek}", "α""#,
            r#""\\0", "a""#,
            r#""\\123", "S""#,
            r#""(?P<a>a)(?P<a>b)", "ab""#,
        ],
    ),
    ("replace", &[r#""aé", "", "-""#]),
    (
        "sprintf",
        &[
            r#""%v", [1e21]"#,
            r#""%#x", [255]"#,
            r#""%q", [65]"#,
            r#""%.2f", [2]"#,
            r#""%f", [1]"#,
            r#""%g", [100000]"#,
            r##""%#v", ["a"]"##,
            r#""%[2]s %[1]s", ["a", "b"]"#,
            r#""%*d|", [5, 1]"#,
            r#""%2000d", [1]"#,
        ],
    ),
    (
        "strings.replace_n",
        &[r#"{"": "-"}, "ab""#, r#"{"": "-", "a": "x"}, "ab""#],
    ),
];

#[test]
fn when_it_is_asked() {
    let mut opa = Opa::start().expect("OPA starts");
    for (name, calls) in STOPPED {
        for arguments in *calls {
            let input: Vec<Value> = serde_json::from_str(&format!("[{arguments}]")).expect("JSON");
            let names: Vec<_> = (0..input.len()).map(|at| format!("input[{at}]")).collect();
            let case = Case::new(V1, &format!("x := {name}({})", names.join(", ")), Value::from(input));
            let theirs = opa
                .ask(&case.module, false, &case.input, "data.p.x")
                .expect("OPA answers");
            assert!(
                matches!(theirs, Answer::Value(_)),
                "{name}({arguments}): OPA {theirs:?}: compare it instead"
            );
            let ours = ours(&case);
            let stopped = matches!(&ours, Answer::Error(error) if error.starts_with("evaluation"));
            assert!(stopped, "{name}({arguments}): {ours:?}");
        }
    }
}

/// What a tenant sends must not use up time or memory, nor end the process.
#[rstest]
#[case::replace("x := replace(input.long, \"a\", input.long)")]
#[case::replace_n("x := strings.replace_n({\"a\": input.long}, input.long)")]
#[case::regex_replace("x := regex.replace(input.long, \"a\", input.long)")]
#[case::padding("x := sprintf(\"%2000000000d\", [1])")]
#[case::precision("x := sprintf(\"%.2000000000f\", [1.5])")]
#[case::pattern("x := regex.match(\"((a{100}){100}){100}\", input.long)")]
#[case::glob("x := glob.match(concat(\"\", [input.long, \"{a,b}\"]), [], input.long)")]
#[case::matches("x := net.cidr_contains_matches(input.ranges, input.ranges)")]
fn what_grows_without_end(#[case] rule: &str) {
    let long = "a".repeat(60_000);
    let ranges = vec!["10.0.0.0/8"; 1000];
    let case = Case::new(V1, rule, json!({"long": long, "ranges": ranges}));
    let started = std::time::Instant::now();
    assert!(matches!(ours(&case), Answer::Error(error) if error.starts_with("evaluation")));
    assert!(
        started.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}
