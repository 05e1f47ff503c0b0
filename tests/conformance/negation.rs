//! `not` and `with`: what OPA evaluates in front of them. Where it is undefined the body is, and not the negation true.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringfence::policy::RegoVersion::{V0, V1};
use rstest::rstest;
use serde_json::{Value, json};

use crate::compare::{Case, agree, agree_where_both_answer};

fn inputs() -> [Value; 5] {
    [
        json!({}),
        json!({"a": 1, "b": [1, 2, 3], "c": {"d": "x"}, "f": false, "s": "text", "i": 1, "k": "d"}),
        json!({"a": 0, "b": [0], "c": {"d": false}, "f": true, "s": "", "i": 7, "k": "z"}),
        json!({"a": "text", "b": [], "c": {}, "f": null, "s": "x", "i": "0"}),
        json!({"b": [{"n": 1, "v": true}, {"n": 2}, {"v": false}], "c": {"d": {"d": 2}}, "s": ["t"], "i": 0, "k": "c"}),
    ]
}

/// Untyped, so that OPA's compiler does not find out before.
const HELPERS: &str = "bad(v) if v == id(1)\n\nid(v) := v\n\npick(v) := v.d\n\nnever(v) := 1 if v == input.never\n\nsome_a := input.a\n\n\
                       things contains v if some v in input.b\n\ntable := {\"d\": 0, \"x\": false}\n\nflag if input.f";

fn rules(body: &str) -> String {
    format!("x if {body}\n\n{HELPERS}")
}

fn everywhere(rules: &[String]) {
    let cases = rules
        .iter()
        .flat_map(|rules| inputs().map(|input| Case::new(V1, rules, input)));
    agree(&cases.collect::<Vec<_>>());
}

#[rstest]
#[case::arguments(&["not bad(input.a)", "not bad(input.missing)", "not id(id(input.missing))", "not bad(some_a)", "not bad(data.p.some_a)",
    "not startswith(input.s, \"t\")", "not contains(\"text\", input.c.d)", "not bad([input.a, 1])", "not bad({\"a\": input.a})", "not bad({input.a})",
    "not bad([y | y := input.missing])", "not bad(count(input.b))", "not bad(1 + input.a)", "not max(input.b)", "not never(1)", "not bad(set())",
    "not is_null(input.f)", "not is_string(input.missing)", "not pick(input.c)", "not flag", "not bad(flag)", "not bad(input)", "not bad(\"a,b)\")",
    "not bad(`raw ) ,`)", "not id((input.a))", "not (bad(input.a))", "not ((bad((input.a))))", "not object.get(input.c, input.k, true)"])]
#[case::operators(&["not input.a != 1", "not 1 != input.a", "not input.a < 1", "not input.a >= input.i", "not input.a + 1", "not input.a - 1 != 0",
    "not input.a in [1]", "not 1 in input.b", "not \"d\", input.a in input.c", "not (input.a != 1)", "not some_a != 1", "not {1} - things", "not things & {1}",
    "not {1} | things == {1}", "not input.a == 1 == true", "not (input.a == 1) != true", "not input.b[0] < 2", "not count(input.b) > 1", "not 2 > count(things)"])]
#[case::equations(&["not input.a == 1", "not input.a = 1", "not id(input.a) == 1", "not 1 == id(input.missing)", "not [input.a] == [1]", "not {\"a\": input.a} == {\"a\": 1}",
    "not input.c[input.k] == \"x\"", "not input.c[input.k] = \"x\"", "not count(input.missing) == 0", "not input.a + 1 == 2", "not input.a == input.b", "not some_a == input.a",
    "not [y | y := input.missing] == []", "not input.b == [y | some y in input.b; not bad(y.n)]", "not (input.a) == (1)", "not pick(input.c).d == 2", "not id(input.c).d == \"x\""])]
#[case::references(&["not input.c[input.k]", "not input.b[input.i]", "not input.c[input.c.d]", "not id(input.c).d", "not id(input.c)[input.k]", "not [input.a][0]", "not [1, false][1]",
    "not {\"d\": input.a}[input.k]", "not {\"d\": input.a}.d", "not table[input.k]", "not things[input.a]", "not data.p.table[input.k]", "not input[input.k].d", "not input.c[lower(input.k)]",
    "not [y | some y in input.b][0]", "not input.c[\"d\"]", "not input.b[0].v", "not table[input.c[input.k]]"])]
#[case::members(&["(1 in input.b) == false", "id(1 in input.missing) == false", "{ y := 1 in input.b; y == false }", "[1 in input.b] == [false]", "{\"d\": 1 in input.b} == {\"d\": false}", "{1, 2 in input.b}",
    "every y in [1 in input.b] { y == false }", "{ some y in [1 in input.b, true]; y == false }", "[1 in input.b | true][0] == false", "{y: 1 in input.b | y := 1}[1] == false", "flag with input.f as (1 in input.b)", "((1 in input.b) in [false]) == true",
    "not (1 in input.b) == false", "not (1 in input.b) in [true]", "(0, input.a in input.b) == false", "id(1 in input.b, ) == false", "1 == 1\n\nx := 1 in input.b if input.i\nelse := input.a in {1, 2}", "1 == 2\n\nx := (1 in input.b)", "w[input.f]\n\nw contains input.a in input.b", "w(1) == false\n\nw(v) := v in input.b",
    "(1 in input.b) != true", "w := {true} | {1 in input.b}"])]
#[case::arrays(&["not [input.a]", "not [input.missing]", "not [1]", "not [y | y := input.missing]"])]
#[case::loops(&["{ some y; input.b[y]; not bad(input.b[y]) }", "{ some y in input.b; not y == 2 }",
    "{ some y in input.b; not bad(y.n) }", "{ some y in input.b; not y.n != 1 }", "{ some y, z in input.c; not bad(z) }", "{ y := input.b[_]; not y in [1] }", "{ y := input.b[z]; not z == 0; not y == 2 }", "{ not bad(y); y := input.b[_] }"])]
#[case::within_others(&["every y in input.b { not bad(y.n) }", "every y in input.b { not y.v != true }", "every v in [\"d\", \"x\"] { not input.c[v] }", "every v in [7, \"z\"] { not table[v] == 0; not things[v] }", "every i, v in [\"z\"] { not input.b[i].v; not input.missing[v] == 1; not input.c[v][i] }", "every v in [\"z\"] { count([1 | not table[v]]) == 1 }", "count([y | some y in input.b; not bad(y.n)]) > 0", "not count([y | some y in input.b; not bad(y.n)]) == 0",
    "not bad(count({y | some y in input.b; not y.n != 1}))", "not every_one", "{ not bad([y | not bad(input.missing); y := 1]); not bad(input.a) }", "not id([y | some y in input.b; not bad(y.n)])[0].v", "{ not bad(input.a); not bad(input.i) }",
    "not bad(input.a)\n\nx if not bad(input.i)", "1 == 2\n\nx := 5 if { not bad(input.a) } else := 6 if not bad(input.i)\n\nw if true"])]
#[case::modifiers(&["not bad(input.a) with input as {\"a\": 2}", "not bad(input.missing) with input.missing as 2", "not bad(input.a) with input.a as input.missing", "not bad(input.a) with input.a as input.i with input.i as input.a",
    "not some_a with input.a as input.missing with input.b as 1", "some_a with input.a as input.missing with input.b as 1", "some_a == input.i with input.a as input.i with input.i as 1", "not bad(some_a) with input.a as id(input.i)", "not bad(1) with bad as never",
    "not bad(input.a) with bad as true", "not id(input.a) with id as input.missing", "not id(input.a) with id as pick with input as {\"a\": {\"d\": false}}", "not input.c[input.k] with input.k as \"d\"", "some_a with input as input.c",
    "{ some y in input.b with input as {\"b\": [1], \"a\": 9}; some_a; some_a != 9 }", "{ some y in input.b with input.b as [1, 2]; count(input.b) != 2 }", "{ y := input.b[_] with input as {\"b\": [1], \"a\": 9}; some_a }", "every y in input.b with input.b as [1] { y == 1 }",
    "not 1 in things with input.b as [2]", "not count(things) != 1 with input.b as [2]", "not count(input.b) != 1 with count as 2", "flag with input.f as flag", "not flag with input.f as [y | some y in input.b; not bad(y.n)]"])]
#[case::lines(&["{\n\tnot bad( # why )\n\t\tinput.a, # (\n\t)\n}", "not\n bad(input.a)", "{\n\tnot id(\n\t\t[\n\t\t\tinput.a,\n\t\t],\n\t)[0]\n\tnot bad(input.i) # no\n}", "{ not bad(input.a); not bad(input.missing) }", "{\n\tnot input.a !=\n\t\t1\n\tinput.i\n}"])]
fn what_stands_in_front(#[case] bodies: &[&str]) {
    everywhere(&bodies.iter().map(|body| rules(body)).collect::<Vec<_>>());
}

/// What OPA calls unsafe is refused here too: taken apart it would be a loop.
#[rstest]
#[case("x if not bad(input.b[_])")]
#[case("x if not input.b[_] != 1")]
#[case("x if not startswith(input.c[_], \"x\")")]
#[case("x if { some y; not bad(input.b[y]) }")]
#[case("x if { not bad(y); not y == 2 }")]
#[case("x if count([1 | not bad(input.b[y])]) > 0")]
#[case("x if every y in input.b { not bad(input.b[z]) }")]
fn a_variable_that_only_a_negation_has(#[case] rules: &str) {
    let rules = format!("{rules}\n\nbad(v) if v == 1");
    let case = Case::new(V1, &rules, inputs()[1].clone());
    agree(std::slice::from_ref(&case));
    let ours = crate::compare::ours(&case);
    assert!(
        matches!(&ours, support::opa::Answer::Error(error) if error.starts_with("load")),
        "{ours:?}"
    );
}

#[rstest]
#[case("x { not bad(input.a) }", "")]
#[case("x { not bad(input.missing) }", "")]
#[case("x = 1 { not input.a != 1 } else = 2 { not bad(input.i) }", "")]
#[case("x[y] { y := input.b[_]; not bad(y) }", "")]
#[case("x[y] { y = input.b[_]\n not bad(y.n) }", "")]
#[case("x { not input.c[input.k] == \"x\" }", "")]
#[case("x { startswith(input.c[_], \"x\") }", "")]
#[case("x { not 1 in input.b }", "import future.keywords.in\n\n")]
#[case("x if not bad(input.a)", "import future.keywords.if\n\n")]
#[case("x { not y } { not bad(input.a) }\n\ny { input.a }", "")]
#[case("f(z) { not bad(z.d) }\n\nx { f(input.c) }", "")]
#[case("x = [y | y := input.b[_]; not bad(y.n)]", "")]
fn version_0(#[case] rules: &str, #[case] imports: &str) {
    let rules = format!("{imports}{rules}\n\nbad(y) {{ y == 1 }}");
    agree(&inputs().map(|input| Case::new(V0, &rules, input)));
}

/// A term, of what is before it in the table as deep as `depth`.
fn term(depth: u32) -> BoxedStrategy<String> {
    let leaf = select(vec![
        "1",
        "0",
        "\"d\"",
        "\"x\"",
        "true",
        "false",
        "null",
        "input.a",
        "input.b",
        "input.c",
        "input.c.d",
        "input.missing",
        "input.missing.deep",
        "input.b[0]",
        "input.b[1].n",
        "input.c[input.k]",
        "input.b[input.i]",
        "some_a",
        "things",
        "table",
        "flag",
        "input.b[_]",
        "y",
        "z.n",
        "input",
        "[]",
        "set()",
        "data.p.some_a",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(depth, 12, 3, |inner| {
        let one = (
            select(vec![
                "id(@)",
                "pick(@)",
                "never(@)",
                "bad(@)",
                "[@]",
                "[@, 1]",
                "{@}",
                "{\"d\": @}",
                "(@)",
                "is_null(@)",
                "type_name(@)",
                "table[@]",
                "[0, @][1]",
                "{\"d\": @}.d",
                "id(@).d",
                "[q | q := @]",
                "[q | q := 1; not bad(@)]",
                "{q: 1 | q := @}",
                "count([q | some q in @])",
                "count([1 | not @ == 1])",
                "json.marshal(@)",
            ]),
            inner.clone(),
        );
        let two = (
            select(vec![
                "@ == #",
                "@ != #",
                "@ in #",
                "@ < #",
                "object.get(@, #, 3)",
                "[@, #]",
                "{@: #}",
            ]),
            inner.clone(),
            inner,
        );
        prop_oneof![
            one.prop_map(|(form, term)| form.replace('@', &term)),
            two.prop_map(|(form, left, right)| {
                let text = form.replace('#', "\u{1}").replace('@', &left).replace('\u{1}', &right);
                if form.starts_with('@') {
                    format!("({text})")
                } else {
                    text
                }
            }),
        ]
    })
    .boxed()
}

fn statement() -> impl Strategy<Value = String> {
    let modifier = prop_oneof![
        6 => Just(String::new()),
        1 => term(1).prop_map(|value| format!(" with input.a as {value}")),
        1 => term(1).prop_map(|value| format!(" with input as {value}")),
        1 => (term(1), term(1)).prop_map(|(a, b)| format!(" with input.a as {a} with input.k as {b}")),
        1 => select(vec![" with id as pick", " with id as 1", " with bad as input.f"]).prop_map(str::to_owned),
    ];
    let literal = prop_oneof![
        // `not {` is another thing in newer versions of OPA.
        6 => term(3).prop_map(|term| if term.starts_with('{') { format!("not id({term})") } else { format!("not {term}") }),
        4 => (term(2), select(vec!["==", "=", "!=", "in", "<"]), term(2)).prop_map(|(a, op, b)| {
            let a = if a.starts_with('{') { format!("id({a})") } else { a };
            format!("not {a} {op} {b}")
        }),
        1 => term(2),
        1 => term(2).prop_map(|term| format!("v := {term}; v != 3")),
        1 => (term(1), term(2)).prop_map(|(over, term)| format!("every w in {over} {{ w != 9; not {term} }}")),
    ];
    (literal, modifier).prop_map(|(literal, modifier)| format!("{literal}{modifier}"))
}

fn body() -> impl Strategy<Value = String> {
    prop::collection::vec(statement(), 1..3).prop_map(|statements| {
        let text = statements.join("; ");
        let mut before = String::new();
        if text.contains('y') {
            before.push_str("some y in [1, \"d\", false]; ");
        }
        if text.contains("z.n") {
            before.push_str("z := {\"n\": 1}; ");
        }
        format!("{{ {before}{text} }}")
    })
}

/// Bodies made up by the thousand, always the same ones, each with every input.
#[test]
fn made_up() {
    let count = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|asked| asked.parse().ok());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut bodies = Vec::new();
    for _ in 0..count.unwrap_or(1500) {
        bodies.push(rules(&body().new_tree(&mut runner).expect("a body").current()));
    }
    let cases = bodies
        .iter()
        .flat_map(|rules| inputs().map(|input| Case::new(V1, rules, input)));
    agree_where_both_answer(&cases.collect::<Vec<_>>(), 60);
}
