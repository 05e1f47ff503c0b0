//! Which built-in functions a policy may call, and those that are put in the engine's place.
//!
//! Must never let a call through that the engine answers with nothing: the engine finds an unknown function only when the rule
//! that calls it is evaluated, and a rule that has not fired refuses nobody.

mod arguments;
mod collections;
mod crypto;
mod encoding;
mod format;
mod membership;
mod net;
mod numbers;
mod page;
mod regexes;
mod strings;
mod syntax;
mod times;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use regorus::{Engine, Value};

use super::memory;
use arguments::{Arguments, Own};
use regexes::Patterns;

pub(super) use membership::{MEMBER_2, MEMBER_3, SAME};
pub use page::render_support;

/// Built-in functions of this build of the engine that answer as OPA's do; a test calls each.
pub(super) const ENGINES: [&str; 42] = [
    "abs",
    "array.reverse",
    "base64.encode",
    "contains",
    "count",
    "endswith",
    "hex.decode",
    "hex.encode",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "max",
    "min",
    "object.filter",
    "object.get",
    "object.keys",
    "object.remove",
    "object.union",
    "object.union_n",
    "round",
    "split",
    "startswith",
    "product",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "strings.reverse",
    "time.clock",
    "time.date",
    "time.weekday",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
];

/// Allowed in tests, where no request is.
const PRINT: &str = "print";

/// Refused, with the number of arguments that stops them at evaluation too (a call may hide from the reader of the policy) and
/// the reason.
pub(super) const REFUSED: [(&str, u8, &str); 16] = [
    ("bits.lsh", 2, "it can use up the memory, and no time limit stops it"),
    (
        "http.send",
        1,
        "a decision must not depend on another server; pass what the policy needs as a parameter",
    ),
    (
        "net.cidr_expand",
        1,
        "it can use up the memory, and no time limit stops it; use net.cidr_contains",
    ),
    ("net.lookup_ip_addr", 1, "a decision must not depend on another server"),
    (
        "numbers.range",
        2,
        "it can use up the memory, and no time limit stops it; iterate over the input",
    ),
    (
        "numbers.range_step",
        3,
        "it can use up the memory, and no time limit stops it; iterate over the input",
    ),
    ("opa.runtime", 0, "a policy must not see the environment"),
    ("rand.intn", 2, "the same request must get the same answer"),
    (
        "time.now_ns",
        0,
        "the same request must get the same answer; pass a date as a parameter",
    ),
    (
        "regex.globs_match",
        2,
        "whether two globs meet is not decided here; use regex.match or glob.match on the value itself",
    ),
    (
        "time.diff",
        2,
        "its calendar is not OPA's here; subtract the nanoseconds, or use time.date",
    ),
    (
        "time.format",
        1,
        "its layouts are not OPA's here; use time.date and time.clock, and time.parse_rfc3339_ns to read",
    ),
    (
        "time.parse_ns",
        2,
        "its layouts are not OPA's here; use time.parse_rfc3339_ns",
    ),
    ("trace", 1, "it would write the request into the log"),
    ("uuid.rfc4122", 1, "the same request must get the same answer"),
    (PRINT, 1, "it would write the request into the log"),
];

/// Functions of ours, in the place of the engine's own or beside them.
fn ours() -> impl Iterator<Item = &'static Own> {
    let families: [&[Own]; 8] = [
        &collections::FUNCTIONS,
        &crypto::FUNCTIONS,
        &encoding::FUNCTIONS,
        &format::FUNCTIONS,
        &net::FUNCTIONS,
        &numbers::FUNCTIONS,
        &strings::FUNCTIONS,
        &times::FUNCTIONS,
    ];
    families.into_iter().flatten()
}

/// Names of the built-in functions that a policy may call, in order.
pub fn builtin_functions() -> impl Iterator<Item = &'static str> {
    let ours = ours().map(|(name, _, _)| *name);
    let regexes = regexes::FUNCTIONS.iter().map(|(name, _, _)| *name);
    let names: BTreeSet<_> = ENGINES.into_iter().chain(ours).chain(regexes).collect();
    names.into_iter()
}

/// Whether there is a built-in function of that name, one that may not be called included.
pub(super) fn is_known(name: &str) -> bool {
    builtin_functions().any(|known| known == name) || REFUSED.iter().any(|(known, _, _)| *known == name)
}

/// Whether a built-in function has that name, or one that goes on with a dot: what `with` puts in another place looks like a
/// variable.
pub(super) fn starts_one(name: &str) -> bool {
    let refused = REFUSED.iter().map(|(known, _, _)| *known);
    builtin_functions()
        .chain(refused)
        .any(|known| known.split('.').next() == Some(name))
}

/// How many arguments a function of ours takes. The engine counts those of its own.
pub(super) fn arguments_of_ours(name: &str) -> Option<usize> {
    let ours = ours().map(|(name, count, _)| (*name, *count));
    let mut all = ours.chain(regexes::FUNCTIONS.iter().map(|(name, count, _)| (*name, *count)));
    all.find(|(own, _)| *own == name).map(|(_, count)| usize::from(count))
}

/// Why a function may not be called; `None` when it may.
pub(super) fn refusal(name: &str) -> Option<String> {
    if builtin_functions().any(|allowed| allowed == name) {
        return None;
    }
    match REFUSED.iter().find(|(refused, _, _)| *refused == name) {
        Some((_, _, why)) => Some(format!("`{name}` is not available in policies: {why}")),
        None => Some(format!(
            "`{name}` is not a function of this package, and no built-in function of this engine: check the spelling, or \
             express it with the functions that are there"
        )),
    }
}

/// Takes the place of the engine's own functions: refused ones fail, and ours answer as OPA's do.
pub(super) fn install(engine: &mut Engine) -> anyhow::Result<()> {
    install_but(engine, "")
}

/// The same where what is printed is for the author of tests, and gathered.
pub(super) fn install_for_tests(engine: &mut Engine) -> anyhow::Result<()> {
    install_but(engine, PRINT)
}

fn install_but(engine: &mut Engine, left: &str) -> anyhow::Result<()> {
    for (name, arguments, why) in REFUSED.into_iter().filter(|(name, _, _)| *name != left) {
        let refuse =
            move |_: Vec<Value>| -> anyhow::Result<Value> { bail!("{name} is not available in policies: {why}") };
        engine.add_extension(name.to_owned(), arguments, Box::new(refuse))?;
    }
    for (name, arguments, call) in ours().chain(&membership::FUNCTIONS) {
        // The engine looks at the memory after calls of its own functions, not of ours.
        let function = move |values: Vec<Value>| {
            let value = call(&Arguments { name, values: &values })?;
            memory::room()?;
            Ok(value)
        };
        engine.add_extension((*name).to_owned(), *arguments, Box::new(function))?;
    }
    let patterns = Arc::new(Patterns::default());
    for (name, arguments, call) in &regexes::FUNCTIONS {
        let patterns = Arc::clone(&patterns);
        let function = move |values: Vec<Value>| {
            let value = call(&Arguments { name, values: &values }, &patterns)?;
            memory::room()?;
            Ok(value)
        };
        engine.add_extension((*name).to_owned(), *arguments, Box::new(function))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(function: &str, arguments: &str) -> Result<Value, String> {
        let mut engine = Engine::new();
        install(&mut engine).expect("installs");
        let text = format!("package p\nx := {function}({arguments})\n");
        engine
            .add_policy("p.rego".to_owned(), text)
            .map_err(|error| format!("{error:#}"))?;
        engine
            .eval_rule("data.p.x".to_owned())
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn every_allowed_function_is_there() {
        for name in builtin_functions() {
            for arguments in ["", "[]", "[], []", "[], [], []", "[], [], [], []"] {
                // object.subset([], []) panics: what panics is there, and evaluation catches it.
                let answer = std::panic::catch_unwind(|| call(name, arguments)).unwrap_or(Ok(Value::Undefined));
                if let Err(error) = answer {
                    assert!(!error.contains("could not find function"), "{name}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_refused_function_fails_even_when_the_reader_of_the_policy_missed_it() {
        for (name, arguments, _) in REFUSED {
            let arguments = vec!["1"; usize::from(arguments)].join(", ");
            let error = call(name, &arguments).expect_err(name);
            assert!(error.contains("is not available"), "{name}: {error}");
        }
    }

    #[test]
    fn a_pattern_is_matched_as_by_the_engine() {
        assert_eq!(call("regex.match", "`^a+$`, \"aaa\""), Ok(Value::from(true)));
        assert_eq!(call("regex.match", "`^a+$`, \"b\""), Ok(Value::from(false)));
        assert!(
            call("regex.match", "`(`, \"b\"")
                .expect_err("bad pattern")
                .contains("invalid regex")
        );
        assert!(
            call("regex.match", "`a`, 1")
                .expect_err("bad type")
                .contains("expects string")
        );
        assert!(call("regex.match", "`(a{1000}){1000}`, \"b\"").is_err());
    }

    #[test]
    fn a_pattern_is_replaced_as_by_the_engine_but_a_bad_one_is_an_error() {
        let replaced = |arguments: &str| call("regex.replace", arguments);
        assert_eq!(
            replaced("\"a$(B)c$(D)\", `\\$\\([A-Z]\\)`, \"\""),
            Ok(Value::from("ac"))
        );
        assert_eq!(replaced("\"ab\", `(a)(b)`, \"$2$1\""), Ok(Value::from("ba")));
        assert!(
            replaced("\"b\", `(`, \"\"")
                .expect_err("bad pattern")
                .contains("invalid regex")
        );
        assert!(
            replaced("1, `a`, \"\"")
                .expect_err("bad type")
                .contains("expects string")
        );
    }

    /// Few values that hold each other stand for texts without end, and a step that makes them is one that nothing stops.
    #[test]
    fn what_a_function_makes_is_bounded_before_it_is_made() {
        let body = |last: &str, step: &dyn Fn(usize) -> String| {
            let steps: String = (1..=40).map(|n| format!("a{n} := {}\n", step(n - 1))).collect();
            format!("package p\na0 := \"x\"\nb0 := [1]\n{steps}x := {last}\n")
        };
        let twice = |n: usize| format!("[a{n}, a{n}]");
        for (text, words) in [
            (
                body("json.marshal(a40)", &twice),
                "`json.marshal` expects a value whose text is shorter",
            ),
            (
                body("sprintf(\"%v\", [a40])", &twice),
                "`sprintf` expects a value whose text is shorter",
            ),
            (
                body("sprintf(\"\", [a40])", &twice),
                "`sprintf` expects a value whose text is shorter",
            ),
            (
                body("a40", &|n| format!("concat(\",\", [a{n}, a{n}])")),
                "`concat` expects arguments whose result is shorter",
            ),
            (
                body("a40", &|n| match n {
                    0 => "b0".to_owned(),
                    _ => format!("array.concat(a{n}, a{n})"),
                }),
                "`array.concat` expects arguments whose result has fewer items",
            ),
        ] {
            let mut engine = Engine::new();
            install(&mut engine).expect("installs");
            engine.add_policy("p.rego".to_owned(), text).expect("it is well formed");
            let error = engine.eval_rule("data.p.x".to_owned()).expect_err(words);
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
    }

    #[test]
    fn lists_and_texts_are_joined_as_by_the_engine() {
        assert_eq!(call("concat", "\", \", [\"a\", \"b\"]"), Ok(Value::from("a, b")));
        assert_eq!(call("concat", "\",\", {\"b\", \"a\"}"), Ok(Value::from("a,b")));
        assert_eq!(call("concat", "\",\", []"), Ok(Value::from("")));
        assert!(call("concat", "\",\", [1]").is_err_and(|error| error.contains("`concat` expects string")));
        let joined = Value::from(vec![Value::from(1), Value::from("a")]);
        assert_eq!(call("array.concat", "[1], [\"a\"]"), Ok(joined));
        assert!(call("array.concat", "[1], {2}").is_err_and(|error| error.contains("`array.concat` expects array")));
    }

    #[test]
    fn the_cache_of_patterns_is_bounded() {
        let patterns = Patterns::default();
        for number in 0..1000 {
            assert!(
                patterns
                    .get(&format!("a{number}"))
                    .expect("compiles")
                    .is_match(&format!("a{number}"))
            );
        }
        assert_eq!(patterns.len(), Patterns::MAX);
    }
}
