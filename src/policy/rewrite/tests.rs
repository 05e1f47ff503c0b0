//! Texts before and after, what is refused, and that a place is found again.

use rstest::rstest;

use super::*;
use crate::policy::compile::{Like, Source, add, evaluate_rule, new_engine, prepare};
use crate::policy::metadata::RegoVersion;
use crate::policy::vet::Purpose;

const HEAD: &str = "package p\n\nimport rego.v1\n\nf(v) if v == 1\n\nr := input.r\n\n";

fn rewritten(rules: &str) -> Result<String, String> {
    let text = format!("{HEAD}{rules}\n");
    let mut engine = regorus::Engine::new();
    engine
        .add_policy("p.rego".to_owned(), text.clone())
        .map_err(|error| error.to_string())?;
    let tree: Value = serde_json::from_str(&engine.get_ast_as_json().expect("a tree")).expect("JSON");
    let made = rewrite("p.rego", &text, &tree[0]["ast"], &[], false);
    let made = made.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    engine
        .add_policy("again.rego".to_owned(), made.text.clone())
        .unwrap_or_else(|error| panic!("{error}\n{}", made.text));
    Ok(made
        .text
        .strip_prefix(HEAD)
        .expect("the head stays")
        .trim_end()
        .to_owned())
}

#[rstest]
#[case("x if not f(input.a)", "x if { held_1 := (input.a); not f(held_1) }")]
#[case(
    "x if { input.b; not f(input.a) }",
    "x if { input.b; held_1 := (input.a); not f(held_1) }"
)]
#[case("x if { not f(r) }", "x if { held_1 := (r); not f(held_1) }")]
#[case(
    "x if { not f([r, {\"a)\": 1}]) }",
    "x if { held_1 := ([r, {\"a)\": 1}]); not f(held_1) }"
)]
#[case("x if { not input.a != 1 }", "x if { held_1 := (input.a != 1); not held_1 }")]
#[case("x if { not f(input.a) == r }", "x if { held_1 := (f(input.a)); not held_1 == r }")]
#[case(
    "x if { not input.a[input.b].c == 1 }",
    "x if { held_1 := (input.b); not input.a[held_1].c == 1 }"
)]
#[case("x if { not f(1).a }", "x if { held_1 := (f(1)); not held_1.a }")]
#[case(
    "x if not f(input.a) with input.a as input.b",
    "x if { held_1 := (input.b); held_2 := (input.a) with input.a as held_1; not f(held_2) with input.a as held_1 }"
)]
#[case(
    "x if { some y in input.b with input.b as [1]; y }",
    "x if { held_1 := (input.b) with input.b as [1]; some y in held_1 ; y }"
)]
#[case(
    "x if not f(count([y | some y in input.b; not f(y.z)]))",
    "x if { held_1 := (count([y | some y in input.b; held_2 := (y.z); not f(held_2)])); not f(held_1) }"
)]
#[case("x := 1 in input.a", "x := internal.member_2(1, input.a)")]
#[case(
    "x := (1, r in input.a) == false",
    "x := (internal.member_3(1, r, input.a)) == false"
)]
#[case("x if { not 1 in r }", "x if { held_1 := (internal.member_2(1, r)); not held_1 }")]
#[case(
    "x if {\n\tnot f( # no )\n\t\tinput.a,\n\t)\n}",
    "x if {\n\theld_1 := (input.a); not f( # no )\n\t\theld_1,\n\t)\n}"
)]
fn what_is_put_in_front(#[case] before: &str, #[case] after: &str) {
    assert_eq!(rewritten(before).as_deref(), Ok(after));
}

#[rstest]
#[case("x if not input.a")]
#[case("x if not input.a == 1")]
#[case("x if { some y in input.b; not f(y) }")]
#[case("x if { some y in [1]; not y in [2] }")]
#[case("x if not f(1)")]
#[case("x if not f([y | some y in input.b])")]
#[case("x if 1 in input.a")]
#[case("x if f(input.a) with input.a as 1")]
#[case("x if f(1) with f as count")]
fn what_means_the_same_stays(#[case] rules: &str) {
    assert_eq!(rewritten(rules).as_deref(), Ok(rules));
}

#[rstest]
#[case::assignment("x if not y := 1", "p.rego:9:6: what this needs")]
#[case::member_in_a_reference("x if [1 in r][0]", "p.rego:9:6: what this needs")]
#[case::only_negated("x if { some y; not f(input.a[y]) }", "variable `y`")]
fn what_is_not_certain_is_refused_at_its_place(#[case] rules: &str, #[case] words: &str) {
    let error = rewritten(rules).expect_err("must be refused");
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_name_of_the_author_is_not_taken() {
    assert_eq!(
        rewritten("held_1 := 1\n\nx if not f(input.held_)").as_deref(),
        Ok("held_1 := 1\n\nx if { held__1 := (input.held_); not f(held__1) }")
    );
}

#[test]
fn copies_of_modifiers_are_bounded() {
    let arguments = vec!["input.a"; 1000].join(", ");
    let long = format!("\"{}\"", "a".repeat(900));
    let modifiers = vec![format!("with input.a as {long}"); 20].join("\n");
    let error = rewritten(&format!("x if not f({arguments}) {modifiers}").replace(", ", ",\n"));
    assert!(error.expect_err("must be refused").contains("too long"));
}

/// Names of imports are written out in tests, but for what may be a variable.
#[rstest]
#[case("x if p.deny == {1}", "x if data.a.p.deny == {1}")]
#[case(
    "x if not p.f(q.y) with p.z as 1",
    "x if { held_1 := (q.y) with data.a.p.z as 1; not data.a.p.f(held_1) with data.a.p.z as 1 }"
)]
#[case("x if p[\"deny\"]", "x if data.a.p[\"deny\"]")]
#[case("x if { y := p; y.deny; p.deny }", "x if { y := p; y.deny; p.deny }")]
#[case("x if { every p in [1] { p.a } }", "x if { every p in [1] { p.a } }")]
#[case("x if { some p in [1]; p.a }", "x if { some p in [1]; p.a }")]
#[case("g(p) if p.a", "g(p) if p.a")]
#[case("x if other.b == r.p.c", "x if data[\"an-other\"].b == r.p.c")]
fn names_of_imports_are_written_out_in_tests(#[case] rules: &str, #[case] expected: &str) {
    let head = HEAD.replace(
        "import rego.v1\n",
        "import rego.v1\nimport data.a.p\nimport data[\"an-other\"] as other\nimport input.q\n",
    );
    let text = format!("{head}{rules}\n");
    let mut engine = regorus::Engine::new();
    engine.add_policy("p.rego".to_owned(), text.clone()).expect("Rego");
    let tree: Value = serde_json::from_str(&engine.get_ast_as_json().expect("a tree")).expect("JSON");
    let made = rewrite("p.rego", &text, &tree[0]["ast"], &[], true)
        .expect("it is rewritten")
        .text;
    assert_eq!(made.strip_prefix(&head).expect("the head stays").trim_end(), expected);
}

/// An error in what was moved or behind it is said where the author wrote it. The engine counts four columns for a tab.
#[rstest]
#[case("x if { not f(startswith(input.s, \"a\")) }", "p.rego:9:30")]
#[case("x if { not f([input.s]); startswith(input.s, \"a\") }", "p.rego:9:42")]
#[case(
    "x if {\n\tnot f([\n\t\t1,\n\t\tstartswith(input.s, \"a\"),\n\t])\n}",
    "p.rego:12:25"
)]
#[case(
    "x if {\n\tnot f([\n\t\tinput.s,\n\t])\n\tstartswith(input.s, \"ü\")\n}",
    "p.rego:13:21"
)]
fn an_error_names_the_place_of_the_author(#[case] rules: &str, #[case] place: &str) {
    let source = Source {
        file: "p.rego".to_owned(),
        text: format!("{HEAD}{rules}\n"),
    };
    let mut engine = new_engine("p.rego").expect("an engine");
    let mut origins = Origins::default();
    let like = Like {
        version: RegoVersion::V1,
        purpose: Purpose::Query,
        inventory: false,
    };
    add(&mut engine, &[source], like, &mut origins).expect("it loads");
    prepare(&mut engine, "p.rego", "data.p.x", &origins).expect("it is prepared");
    engine.set_input(regorus::Value::from_json_str("{\"s\": 1}").expect("JSON"));
    let error = evaluate_rule(&mut engine, "data.p.x", std::time::Duration::from_secs(5), &origins);
    let error = error.expect_err("it fails").to_string();
    assert!(error.ends_with(&format!(" at {place}")), "{error}");
}
