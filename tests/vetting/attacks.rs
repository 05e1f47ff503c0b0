//! The table: each attack that was measured against the engine, what is said of it, and that nothing here suffered.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use ringfence::policy::{EvalError, Findings, PolicyInput, Target};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// Longest that one of them may take: the processor time of a child, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(110);
/// Most memory that this process may ever have held, in KiB: the policies below ask for gigabytes.
const HARMLESS: u64 = 400 << 10;

/// Rules that each say twice what the one before said.
fn growing(first: &str, steps: usize, step: impl Fn(&str) -> String) -> String {
    let mut rules = format!("a0 := {first}\n");
    for number in 1..=steps {
        let _ = writeln!(rules, "a{number} := {}", step(&format!("a{}", number - 1)));
    }
    rules
}

fn doubling(steps: usize) -> String {
    growing("\"xxxxxxxx\"", steps, |a| format!("concat(\"\", [{a}, {a}])"))
}

/// As `doubling`, of arrays, which nothing bounds.
fn doubling_arrays(steps: usize) -> String {
    growing("[7]", steps, |a| format!("array.concat({a}, {a})"))
}

fn functions(count: usize) -> String {
    let chain: String = (0..count).map(|i| format!("f{i}(x) := f{}(x)\n", i + 1)).collect();
    format!("deny contains \"x\" if f0(1)\n{chain}f{count}(x) := x")
}

fn rules(count: usize) -> String {
    let chain: String = (0..count).map(|i| format!("r{i} if r{}\n", i + 1)).collect();
    format!("deny contains \"x\" if r0\n{chain}r{count} if input.x")
}

fn thousand() -> String {
    let numbers: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    let lines: Vec<_> = numbers.chunks(100).map(|chunk| chunk.join(",")).collect();
    format!("l := [{}]\n", lines.join(",\n"))
}

fn most_memory_in_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn refused(body: &str) -> String {
    let start = Instant::now();
    let errors = compile(vec![policy("attack", body)]).expect_err("must be refused");
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
    assert!(most_memory_in_kib() < HARMLESS, "held {} KiB", most_memory_in_kib());
    joined(&errors)
}

#[rstest]
#[case::recursion("deny contains \"x\" if f(1)\nf(x) := f(x - 1)", 1, "f -> f")]
#[case::mutual_recursion("deny contains \"x\" if p\np if q\nq if p", 1, "recursion")]
#[case::range("deny contains \"x\" if count(numbers.range(1, 200000000)) > 1", 0, "numbers.range")]
#[case::shift("deny contains \"x\" if bits.lsh(1, 4000000000) > 1", 0, "bits.lsh")]
#[case::http("deny contains \"x\" if not http.send({}).ok", 0, "http.send")]
#[case::deny_is_a_number("deny := 5", 0, "`deny` must be a set")]
#[case::syntax("deny contains \"x\" if {", 1, "")]
#[case::unknown_function("deny contains \"x\" if no.such(1)", 0, "no.such")]
#[case::chain(&format!("deny contains \"x\" if 1{} == 1", " +\n1".repeat(15_000)), 64, "operators")]
#[case::functions(&functions(3000), 0, "deep")]
fn what_the_checks_know_is_refused_at_its_place(#[case] body: &str, #[case] line: u32, #[case] words: &str) {
    let said = refused(body);
    // Chains are at fault as a whole: the place is that of a rule of it.
    let place = if words == "deep" {
        "attack.rego:".to_owned()
    } else {
        format!("attack.rego:{}:", BODY + line)
    };
    assert!(said.starts_with(&place) && said.contains(words), "{said}");
}

#[rstest]
fn nesting_is_refused_at_its_place(
    #[values(13, 16, 20, 40)] depth: usize,
    #[values(("[", "]"), ("{\"a\":", "}"))] pair: (&str, &str),
) {
    let said = refused(&format!(
        "deny contains \"x\" if {}1{} == 1",
        pair.0.repeat(depth),
        pair.1.repeat(depth)
    ));
    assert!(said.starts_with("attack.rego:10:") && said.contains("nested"), "{said}");
}

/// What only a child can find out, and would end this process.
#[rstest]
#[case::squaring(&format!("{}deny contains \"x\" if a60 > 0", growing("123456789", 60, |a| format!("{a} * {a}"))), "3 s of processor time")]
#[case::doubling(&format!("{}deny contains \"x\" if a40 != []", doubling_arrays(40)), "160 MiB of memory")]
#[case::loops(&format!("{}deny contains \"x\" if count([1 | some a in l; some b in l; some c in l; a + b + c == -1]) > 0", thousand()), "did not finish in 1000 ms on an ordinary Pod")]
#[case::many_rules(&rules(10_000), "160 MiB of memory while it was read and compiled")]
#[case::many_statements(&format!("deny contains \"x\" if {{\n{}}}", "input.x == 2\n".repeat(15_000)), "160 MiB of memory while it was read and compiled")]
#[case::many_variables(&format!("deny contains \"x\" if {{\n{}}}", (0..8000).map(|i| format!("some x{i} in input.x\n")).collect::<String>()), "3 s of processor time while it was read and compiled")]
fn what_only_shows_when_it_runs_is_refused_with_what_happened(#[case] body: &str, #[case] words: &str) {
    let said = refused(body);
    assert!(said.starts_with("attack.rego: ") && said.contains(words), "{said}");
}

#[test]
fn a_mebibyte_of_source_is_refused() {
    let said = refused(&format!(
        "deny contains \"x\" if input.x\n{}",
        "# padding\n".repeat(105_000)
    ));
    assert!(
        said.starts_with("attack.rego: ") && said.contains("bytes long, the limit is"),
        "{said}"
    );
}

/// It passes every check, and would take a thread of the usual size close to its end.
#[rstest]
#[case::comprehensions("[y | y := ", "]", 9)]
#[case::calls("abs(", ")", 10)]
fn a_stack_that_overflows_ends_the_child_alone(#[case] open: &str, #[case] close: &str, #[case] depth: usize) {
    let mut body = String::from("deny contains \"x\" if f0(1) == 1\nf60(x) := x\n");
    for number in 0..60 {
        let (open, close) = (open.repeat(depth), close.repeat(depth));
        let _ = writeln!(body, "f{number}(x) := {open}f{}(x){close}", number + 1);
    }
    let small = Bounds {
        stack: 512 << 10,
        ..bounds()
    };
    let small = Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), small);
    let errors = small
        .compile(vec![policy("attack", &body)], &BTreeMap::new())
        .expect_err("a small stack");
    let said = joined(&errors);
    assert!(
        said.starts_with("attack.rego: the policy overflowed the stack while it was evaluated on an ordinary Pod"),
        "{said}"
    );
    // The product's own stack holds the deepest that the checks let through.
    compile(vec![policy("attack", &body)]).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
}

/// What a policy that is accepted says of a request.
fn evaluated(body: &str, request: &Value) -> Result<Findings, EvalError> {
    let set = compile(vec![policy("taken", body)]).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let input = PolicyInput {
        target: Target::Pod,
        request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    };
    let mut verdicts = set.evaluate(&input, Duration::from_secs(5));
    verdicts.remove(0).outcome
}

/// The engine's own functions would take gigabytes, or panic: those in their place stop, and a policy that errs refuses.
#[rstest]
#[case::padding("deny contains sprintf(\"%2000000000d\", [1])")]
#[case::doubling(&format!("{}deny contains \"x\" if a40 != \"\"", doubling(40)))]
#[case::replacing(&format!("{}deny contains replace(a13, \"x\", a13)", doubling(13)))]
fn what_a_function_itself_stops_is_an_error_of_the_policy(#[case] body: &str) {
    let outcome = evaluated(body, &json!({}));
    assert!(matches!(outcome, Err(EvalError::Error(_))), "{outcome:?}");
    assert!(most_memory_in_kib() < HARMLESS, "held {} KiB", most_memory_in_kib());
}

#[test]
fn what_made_the_engine_panic_is_answered() {
    let outcome = evaluated("deny contains \"x\" if strings.count(\"abc\", \"\") == 4", &json!({}));
    assert!(outcome.is_ok_and(|found| !found.deny.is_empty()));
}

/// That a policy contradicts itself shows only where both of its rules apply: it is accepted, and what it cannot judge is refused.
#[rstest]
#[case::complete_rules("allow := true if input.request.a\nallow := false if input.request.b")]
#[case::functions("deny contains \"x\" if f(1) == 3\nf(x) := 1 if input.request.a\nf(x) := 2 if input.request.b")]
fn a_policy_that_contradicts_itself_is_accepted_and_gives_an_error(#[case] body: &str) {
    let outcome = evaluated(body, &json!({"a": true, "b": true}));
    assert!(matches!(outcome, Err(EvalError::Error(_))), "{outcome:?}");
}

#[test]
fn one_that_kills_its_child_is_told_from_those_around_it() {
    let good = |name| policy(name, "deny contains \"x\" if input.request.bad");
    let bad = policy(
        "bad",
        &format!("{}deny contains \"x\" if a40 != []", doubling_arrays(40)),
    );
    let errors = compile(vec![good("a"), bad, good("z"), policy("wrong", "deny := 1")]).expect_err("must be refused");
    let files: Vec<_> = errors.iter().map(|error| error.file.as_str()).collect();
    assert_eq!(files, ["bad.rego", "wrong.rego"], "{}", joined(&errors));
}
