//! The language: rules, references, negation, quantifiers, comprehensions, functions, `with`; in both versions.

use ringfence::policy::RegoVersion::{self, V0, V1};
use rstest::rstest;
use serde_json::{Value, json};

use crate::compare::{Case, agree};

/// What the rules are asked about, one after another.
fn inputs() -> [Value; 4] {
    [
        json!({}),
        json!({"a": 1, "b": [1, 2, 3], "c": {"d": "x", "e": null}, "f": false, "s": "text", "k": "d"}),
        json!({"a": "1", "b": [], "c": {}, "f": true, "s": "", "k": "none"}),
        json!({"a": null, "b": [{"n": 1, "v": true}, {"n": 2}], "c": {"d": {"d": 2}}, "f": null, "s": ["t"], "k": 0}),
    ]
}

fn both(version: RegoVersion, rules: &[&str]) {
    let mut cases = Vec::new();
    for rules in rules {
        for input in inputs() {
            cases.push(Case::new(version, rules, input));
        }
    }
    agree(&cases);
}

#[rstest]
#[case::complete_rules(&[
    "x := 1", "x := input.a", "x if input.f", "x := 1 if input.f\n\nx := 1 if input.a", "x := 1 if input.a == 1\n\nx := 2 if input.s == \"text\"",
    "default x := 5\n\nx := input.c.d", "default x := [1]\n\nx := 2 if input.f", "x := y\n\ny := input.c.e", "x := input.b[0]", "x := input[\"b\"][1]",
    "x = 1", "x = y if y = input.a", "default x := false\n\nx if input.f == false", "z.y := 1\n\nz.w := 2 if input.a\n\nx := z", "x := {\"a\": input.a}", "x := [input.a, input.f]",
])]
#[case::partial_sets(&[
    "x contains y if some y in input.b", "x contains 1\n\nx contains 2 if input.f", "x contains y if y := input.c[_]", "x contains input.a", "x contains [i, y] if y := input.b[i]",
    "x contains y if { some y in input.b; y > 1 }", "x := count(y)\n\ny contains z if some z in input.b", "x if \"d\" in y\n\ny contains k if some k, _ in input.c",
    "x if y[input.a]\n\ny contains 1", "x := y & {1, 3}\n\ny contains z if some z in input.b", "x := y - {1}\n\ny contains z if some z in input.b", "x := y | {9}\n\ny contains z if some z in input.b",
])]
#[case::partial_objects(&[
    "x[k] := v if some k, v in input.c", "z.a := 1\n\nz.b := 2 if input.f\n\nx := z", "x[k] := 1 if some k in input.b", "x[k] := v if { some k in [\"a\"]; some v in input.b }", "y[\"y\"].z := 4\n\nx := y",
    "x := y.d\n\ny[k] := v if some k, v in input.c", "x := object.keys(y)\n\ny[k] := v if some k, v in input.c",
])]
#[case::otherwise(&[
    "x := 1 if input.f\nelse := 2 if input.a\nelse := 3", "x := 1 if input.f else := 2 if input.a", "x if input.f\nelse := input.a", "g(y) := 1 if y == 1\nelse := 2 if y == \"1\"\nelse := 3\n\nx := g(input.a)",
    "x := 1 if false else := input.c.d", "default x := 9\n\nx := 1 if input.f == true else := 2 if input.f == false",
])]
#[case::functions(&[
    "f(y) := y + 1\n\nx := f(input.a)", "f(1) := \"one\"\n\nf(\"1\") := \"text\"\n\nx := f(input.a)", "f(y) if y == 1\n\nf(y) if y == \"1\"\n\nx := f(input.a)", "f([y, z]) := y + z\n\nx := f([1, 2])", 
    "f(y) := 1\n\nf(y) := 2 if y == 1\n\nx := f(input.a)", "f(y) := z if z := y.d\n\nx := f(input.c)", "default f(_) := 7\n\nf(y) := y.d\n\nx := f(input.c)", "f(_, y) := y\n\nx := f(input.a, 2)",
    "f(y) := [z | some z in y; z > 1]\n\nx := f(input.b)", "f(y) := y\n\nx := f(f(input.a))", "f(y) if y\n\nx := f(input.f)", "f(y) := y if y\n\nx := f(input.f)", "f(y) := false if y == 1\n\nx if f(input.a) == false",
])]
#[case::quantifiers(&[
    "x if every y in input.b { y > 0 }", "x if every i, y in input.b { y > i }", "x if every k, v in input.c { k == \"d\"; v }", "x if every y in input.missing { y }", "x if every y in input.s { y }", "x if { some y in input.b; y == 2 }", "x := y if some y in {\"k\"}", "x if { some y; input.b[y] == 2 }",
    "x if { some i, y in input.b; i == 0; y == 1 }", "x := [i | some i, 2 in input.b]", "x if some {\"n\": 2} in input.b", "x if every y in input.b { not y.v }", "x if every y in input.b { not y.v == true }", "x if every y in input.b { some z in [1, 2, 3]; z == y }", "x if 2 in input.b", "x if \"d\", _ in input.c",
])]
#[case::comprehensions(&[
    "x := [y | some y in input.b]", "x := {y | some y in input.b}", "x := {i: y | some i, y in input.b}", "x := [y | y := input.missing]", "x := {k | input.c[k]}", "x := [[y, z] | some y in input.b; some z in input.b]", "x := {y: 1 | some y in input.b}", "x := count({y | some y in input.b; y > 1}) > 1", "x := [y | some y in [z | some z in input.b]]", "x := [y | not input.a == 1; y := 3]", "x := {k: v | some k, v in input.c; v != null}", "x := {\"a\": y | some y in [1, 2]}",
    "x if count([1 | some y in input.b; not y.v]) > 0",
])]
#[case::references(&[
    "x := input.c[input.k]", "x if input.b[_] == 2", "x := input.c.d.d", "x := input.missing.deep.er", "x := input.b[9]", "x := input.b[\"0\"]", "x := input.s[0]", "x := data.p.y\n\ny := 4", "x := y[0].n\n\ny := input.b", "x := {\"a\": {\"b\": 1}}.a.b", "x := [1, 2][1]", "x := {1, 2}[2]", "x := input", "x if input.c.e == null", "x if input.c.e", "x if input.f", "x := input.b[-1]", "x := input.b[1.0]", "x := [i | input.b[i]]",
])]
#[case::assignments_and_unification(&[
    "x := y if y := input.a", "x if [1, y] = input.b", "x := y if [_, y, _] = input.b", "x := y if [y, _] := [1, 2]", "x if input.a = 1", "x := z if { y = z; z = 3 }", "x := y if { [y, 2] = [1, z]; z == 2 }", "x if input.b == [1, 2, 3]", "x if {1, 2} == {2, 1}", "x if {\"a\": 1} == {\"a\": 1.0}",
])]
#[case::operators(&[
    "x := input.a + 1", "x := input.a / 2", "x := 7 % 3", "x := 7 / 2", "x := 1 / 0", "x := 1 % 0", "x := 5 % 2.5", "x := 2 * 3 + 4", "x := 2 - 5", "x := {1, 2} - {2}", "x := {1} | {2}", "x := {1, 2} & {2}", "x := [1] == [1]", "x := 1 < \"a\"", "x := null < false", "x := [1, 2] < [1, 3]", "x := {\"a\": 1} < {\"b\": 1}", "x := \"a\" < \"b\"", "x := input.a != 1", "x := input.a >= 1", "x := 9007199254740993 + 1", "x := 9223372036854775807 + 1", "x := 10 / 5", "x := -7 % 3", "x := 1 - {1}", "x := {1} + 1", "x := \"a\" + \"b\"", "x := input.f == false", "x := (1 + 2) * 3", "x := 1e3", "x := 0.5 + 0.25",
])]
#[case::with(&[
    "x := y with input as {\"a\": 7}\n\ny := input.a", "x := y with input.a as 7\n\ny := input.a", "x := y with input.q.r as 7\n\ny := input.q.r", "x if not y with input.a as 1\n\ny if input.a == 2", "x := y with data.p.z as 3\n\ny := z\n\nz := 2", "x := f(1) with f as g\n\nf(y) := y\n\ng(y) := y + 1", "x := count([1]) with count as 5", "x := y with input as {}\n\ny := [z | some z in input.b]", "x := [y with input.a as 1, y with input.a as 2]\n\ny := input.a", "x if not y != 2 with input.a as 1\n\ny := input.a",
])]
#[case::texts(&["x := `raw\\n`", "x := \"a\\tb\\u00e9\"", "x := \"\"", "x := \"\\\"\"", "x := \"/\\/\"", "x := `a\nb`"])]
fn version_1(#[case] rules: &[&str]) {
    both(V1, rules);
}

#[test]
fn negation() {
    let negated = [
        "input.a",
        "input.missing",
        "input.f",
        "input.c.d",
        "input.c.e",
        "y",
        "y.z",
        "h",
        "true",
        "false",
        "null",
        "data.p.y",
        "input.a == 1",
        "input.missing == 1",
        "input.missing.deep == 1",
        "1 == input.missing",
        "input.a = 1",
        "y == 1",
        "input.missing = 1",
        "f(0)",
        "f(1)",
        "g(1) == 1",
        "input.s == input.k",
        "input.a == input.missing",
        "count([1 | some q in input.missing]) == 0",
        "object.get(input, \"missing\", false)",
        "input.b[0].v",
        "input.b[0].v == true",
        "input.a == 1 with input.a as 2",
    ];
    let helpers = "y := input.c.d\n\nf(z) if z == 0\n\ng(z) := z\n\nh if input.a == 1";
    let rules: Vec<_> = negated
        .iter()
        .map(|expression| format!("x if not {expression}\n\n{helpers}"))
        .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    both(V1, &rules);
}

#[rstest]
#[case::rules(&["x[y] { y := input.b[_] }", "x[k] = v { v := input.c[k] }", "x { input.f }", "x = 1 { input.f } else = 2 { input.a }", "default x = false\n\nx { input.a == 1 }", "x = y { y := input.c.d }", "x[msg] { input.a; msg := sprintf(\"%v\", [input.a]) }", "x { not input.a }", "f(y) = z { z := y + 1 }\n\nx = f(input.a)", "x = [y | y := input.b[_]]", "x { some i; input.b[i] == 2 }", "x { input.b[_] == input.a }", "import future.keywords.in\n\nx { 2 in input.b }", "import future.keywords\n\nx if every y in input.b { y > 0 }", "import rego.v1\n\nx if input.f", "x { true }\n\nx { false }", "x[{\"msg\": m}] { m := input.s }", "x = {y | y := input.b[_]}", "x { any([input.f, input.f]) }", "x { re_match(\"^t\", input.s) }", "x { count({y | y := input.b[_]}) == 3 }", "import input.c as c\n\nx = c.d", "x = y { y = input.a; y == 1 }", "x { input.a = 1 }"])]
fn version_0(#[case] rules: &[&str]) {
    both(V0, rules);
}

#[rstest]
#[case::chained_bodies(V0, &[
    "x[y] { y := input.a } { y := input.f }", "x[y] { y := input.a } {\n  y := input.f\n} { input.none; y := 1 }", "x[{\"m\": y}] { y := input.a } { y := input.s }",
    "x[y] { y := input.b[_] } { y := input.c[_] }\n\nx[9] { input.f == false }", "f(y) { y == 1 } { y == \"1\" }\n\nx { f(input.a) }",
])]
#[case::statements_in_brackets(V0, &[
    "x {\n  input.a\n  (input.a == 1)\n}", "x {\n\ty := input.b\n\t(y[0] + 1) == 2\n}", "x = [y |\n  y := input.b[_]\n  y > 1]", "x = {y |\n  y := input.b[_]\n  (y > 1)\n}",
])]
#[case::statements_in_brackets_now(V1, &["x if {\n\tinput.a\n\t(1 + 1) == 2\n}", "x if {\n  input.a\n  (input.a + 1) == 2\n}"])]
// OPA refuses those whose type is known.
#[case::without_parameters(V0, &[
    "f() = out { out = input.a }\n\nx = f()", "f() = out { out = input.a }\n\nx = [f(), f()]",
    "f() = out { input.f\n  out = input.a } else = out { out = input.s }\n\nx = y { y := f() }",
])]
#[case::without_parameters_now(V1, &["f() := out if out := input.a\n\nx := f()", "f() := input.f\n\nx if not f()"])]
fn what_is_spelled_out_for_the_engine(#[case] version: RegoVersion, #[case] rules: &[&str]) {
    both(version, rules);
}
