//! Hostile policies made up by the hundred.

use std::fmt::Write as _;
use std::ops::Range;
use std::thread;
use std::time::Instant;

use proptest::prelude::*;
use ringfence::policy::{PolicyInput, Target};
use ringfence::vetting::STACK;
use serde_json::json;

use super::*;

/// A part of a body. Each gives the name `v<number>` a value, of the value of the part before it.
#[derive(Clone, Debug)]
enum Part {
    Nest(&'static str, &'static str, usize),
    Chain(&'static str, usize, bool),
    Functions(usize, bool),
    Rules(usize, bool),
    Grow(&'static str, usize),
    Loop(usize),
    Else(usize),
    Path(&'static str, usize),
    Statements(usize),
    Call(&'static str),
    Raw(&'static str, usize),
}

/// Mostly what the checks let through, so that it gets to the engine.
fn often(usual: Range<usize>, rare: Range<usize>) -> impl Strategy<Value = usize> {
    prop_oneof![6 => usual, 1 => rare]
}

fn part() -> impl Strategy<Value = Part> {
    let pairs = prop::sample::select(vec![
        ("[", "]"),
        ("{", "}"),
        ("(", ")"),
        ("{\"a\": ", "}"),
        ("[y | y := ", "]"),
        ("{y | y := ", "}"),
        ("{1: y | y := ", "}"),
        ("abs(", ")"),
        ("count([", "])"),
        ("[\n", "\n]"),
        ("- (", ")"),
    ]);
    let operators = prop::sample::select(vec![
        " + ",
        " - ",
        " * ",
        " | ",
        " & ",
        " == ",
        " in ",
        " := ",
        "; ",
        ", ",
        " with input as ",
    ]);
    let growing = prop::sample::select(vec![
        "@ * @",
        "concat(\"\", [@, @])",
        "[@, @]",
        "array.concat(@, @)",
        "{@: @}",
        "sprintf(\"%v%v\", [@, @])",
        "replace(@, \"a\", @)",
        "json.marshal([@, @])",
        "union({{@}, {[@]}})",
    ]);
    let calls = prop::sample::select(vec![
        "sprintf(\"%900000000d\", [1])",
        "strings.count(\"a\", \"\")",
        "numbers.range(1, 900000000)",
        "bits.lsh(1, 4000000000)",
        "format_int(9, 1)",
        "regex.match(\"(a{1000}){1000}\", \"a\")",
        "indexof_n(\"aaa\", \"\")",
        "substring(\"abc\", 9, -9)",
        "units.parse(\"9e999999999Ki\")",
        "to_number(\"1e999999999\")",
        "time.add_date(9223372036854775807, 9999, 9, 9)",
        "object.subset([], [])",
        "array.slice([1], -9, 9e18)",
        "1e308 * 10",
        "glob.match(\"{a,{b,{c\", [], \"a\")",
        "split(\"abc\", \"\")",
        "semver.compare(\"1\", \"\")",
        "json.unmarshal(\"[[[[[[[[[\")",
        "hex.decode(\"zz\")",
        "time.parse_ns(\"\", \"\")",
        "f(f)",
        "data",
        "input",
    ]);
    let raw = prop::sample::select(vec![
        "[",
        "{",
        "(",
        "not ",
        "some x in ",
        "every x in ",
        "else := ",
        "`",
        "\"",
        "import data.a\n",
        "default a := ",
        "# METADATA\n",
        "\u{feff}",
        "\r",
        "\u{0}",
    ]);
    prop_oneof![
        (pairs, often(0..9, 9..60)).prop_map(|((open, close), depth)| Part::Nest(open, close, depth)),
        (operators, often(0..50, 50..16_000), any::<bool>()).prop_map(|(op, n, lines)| Part::Chain(op, n, lines)),
        (often(0..50, 50..3000), prop::bool::weighted(0.9)).prop_map(|(n, ends)| Part::Functions(n, ends)),
        (often(0..50, 50..3000), prop::bool::weighted(0.9)).prop_map(|(n, ends)| Part::Rules(n, ends)),
        (growing, 0..50usize).prop_map(|(how, n)| Part::Grow(how, n)),
        (0..6usize).prop_map(Part::Loop),
        prop_oneof![0..80usize, 500..3000usize].prop_map(Part::Else),
        (
            prop::sample::select(vec![".a", "[0]", "[_]", "[\"a\"]", ".a\n"]),
            prop_oneof![0..40usize, 100..9000usize]
        )
            .prop_map(|(step, n)| Part::Path(step, n)),
        prop_oneof![0..80usize, 1000..6000usize].prop_map(Part::Statements),
        calls.prop_map(Part::Call),
        (raw, prop_oneof![0..20usize, 100..5000usize]).prop_map(|(text, n)| Part::Raw(text, n)),
    ]
}

fn write(parts: &[Part]) -> String {
    let mut body = String::from("v0 := 7\n");
    for (number, part) in (1..).zip(parts) {
        let before = format!("v{}", number - 1);
        let name = format!("n{number}x");
        match part {
            Part::Nest(open, close, depth) => {
                let _ = writeln!(
                    body,
                    "v{number} := {}{before}{}",
                    open.repeat(*depth),
                    close.repeat(*depth)
                );
            }
            Part::Chain(operator, length, lines) => {
                let operator = if *lines {
                    operator.replace(' ', "\n  ")
                } else {
                    (*operator).to_owned()
                };
                let _ = writeln!(body, "v{number} := {before}{}", format!("{operator}1").repeat(*length));
            }
            Part::Functions(count, ends) => {
                for link in 0..*count {
                    let _ = writeln!(body, "{name}{link}(x) := {name}{}(x)", link + 1);
                }
                let end = if *ends { "x".to_owned() } else { format!("{name}0(x)") };
                let _ = writeln!(body, "{name}{count}(x) := {end}\nv{number} := {name}0({before})");
            }
            Part::Rules(count, ends) => {
                for link in 0..*count {
                    let _ = writeln!(body, "{name}{link} := {name}{}", link + 1);
                }
                let end = if *ends { before } else { format!("{name}0") };
                let _ = writeln!(body, "{name}{count} := {end}\nv{number} := {name}0");
            }
            Part::Grow(how, steps) => {
                let _ = writeln!(body, "{name}0 := {before}");
                for step in 1..=*steps {
                    let _ = writeln!(
                        body,
                        "{name}{step} := {}",
                        how.replace('@', &format!("{name}{}", step - 1))
                    );
                }
                let _ = writeln!(body, "v{number} := {name}{steps}");
            }
            Part::Loop(depth) => {
                let numbers: Vec<_> = (0..150).map(|item| item.to_string()).collect();
                let loops: String = (0..*depth).map(|level| format!("some x{level} in {name}; ")).collect();
                let _ = writeln!(
                    body,
                    "{name} := [{}]\nv{number} := count([1 | {loops}{before} == 8])",
                    numbers.join(",")
                );
            }
            Part::Else(count) => {
                let _ = writeln!(
                    body,
                    "v{number} := 1 if {before} == 1\n{}",
                    "else := 2 if input.x == 2\n".repeat(*count)
                );
            }
            Part::Path(step, count) => {
                let _ = writeln!(body, "v{number} := {before} if not input{}", step.repeat(*count));
            }
            Part::Statements(count) => {
                let _ = writeln!(
                    body,
                    "v{number} := {before} if {{\n{}}}",
                    "not input.x == 2\n".repeat(count + 1)
                );
            }
            Part::Call(call) => {
                let _ = writeln!(body, "v{number} := [{before}, {call}]");
            }
            Part::Raw(text, count) => {
                let _ = writeln!(body, "v{number} := {before}\n{}", text.repeat(*count));
            }
        }
    }
    let _ = write!(body, "deny contains \"x\" if v{} != input.never", parts.len());
    body
}

/// Of each of its two children.
const WALL: Duration = Duration::from_secs(20);

fn quick() -> Vetting {
    let bounds = Bounds {
        cpu: Duration::from_secs(1),
        wall: WALL,
        sample: Duration::from_millis(200),
        ..bounds()
    };
    Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds)
}

/// A few hundred for everyday; thousands where somebody asks for them.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// This process outlives all of them; what passes is bounded here as it was in the child.
    #[test]
    fn no_policy_ends_or_hangs_who_vets_it(parts in prop::collection::vec(part(), 1..5)) {
        let start = Instant::now();
        let compiled = quick().compile(vec![policy("any", &write(&parts))], &BTreeMap::new());
        prop_assert!(start.elapsed() < WALL * 2 + Duration::from_secs(10), "took {:?}", start.elapsed());
        match compiled {
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    // At the limit the first child may come through and the second, which has all policies, not.
                    let is_named = error.file == "any.rego" || error.file == "policies";
                    prop_assert!(is_named && !error.message.is_empty(), "{}", error);
                }
            }
            Ok(set) => {
                let evaluate = move || {
                    let request = json!({"object": {}});
                    let input = PolicyInput {
                        target: Target::Pod, request: &request, pod: None, workflow: None, class: None, engine: None, namespace: None,
                    };
                    set.evaluate(&input, Duration::from_secs(2)).len()
                };
                let thread = thread::Builder::new().stack_size(STACK).spawn(evaluate).expect("a thread");
                prop_assert_eq!(thread.join().expect("no panic gets out"), 1);
            }
        }
    }
}
