//! Which built-in functions a policy may call, and those that are put in the engine's place.
//!
//! Must never let a call through that the engine answers with nothing: the engine finds an unknown function only when the rule
//! that calls it is evaluated, and a rule that has not fired refuses nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{anyhow, bail};
use regex::{Regex, RegexBuilder};
use regorus::{Engine, Value};

/// Built-in functions of this build of the engine; a test calls each.
pub(super) const ALLOWED: [&str; 97] = [
    "__builtin_sets.intersection",
    "__builtin_sets.union",
    "abs",
    "array.concat",
    "array.reverse",
    "array.slice",
    "base64.decode",
    "base64.encode",
    "base64.is_valid",
    "bits.and",
    "bits.negate",
    "bits.or",
    "bits.rsh",
    "bits.xor",
    "ceil",
    "concat",
    "contains",
    "count",
    "endswith",
    "floor",
    "format_int",
    "glob.match",
    "glob.quote_meta",
    "hex.decode",
    "hex.encode",
    "indexof",
    "indexof_n",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "json.filter",
    "json.is_valid",
    "json.marshal",
    "json.marshal_with_options",
    "json.remove",
    "json.unmarshal",
    "lower",
    "max",
    "min",
    "net.cidr_contains",
    "net.cidr_is_valid",
    "object.filter",
    "object.get",
    "object.keys",
    "object.remove",
    "object.subset",
    "object.union",
    "object.union_n",
    "product",
    "regex.find_all_string_submatch_n",
    "regex.find_n",
    "regex.is_valid",
    "regex.match",
    "regex.replace",
    "regex.split",
    "regex.template_match",
    "replace",
    "round",
    "semver.compare",
    "semver.is_valid",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "strings.count",
    "strings.replace_n",
    "strings.reverse",
    "substring",
    "sum",
    "time.add_date",
    "time.clock",
    "time.date",
    "time.diff",
    "time.format",
    "time.parse_duration_ns",
    "time.parse_ns",
    "time.parse_rfc3339_ns",
    "time.weekday",
    "to_number",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
    "units.parse",
    "units.parse_bytes",
    "upper",
];

/// Refused, with the number of arguments that stops them at evaluation too (a call may hide from the reader of the policy) and
/// the reason.
pub(super) const REFUSED: [(&str, u8, &str); 12] = [
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
    ("trace", 1, "it would write the request into the log"),
    ("uuid.rfc4122", 1, "the same request must get the same answer"),
    ("print", 1, "it would write the request into the log"),
];

/// Why a function may not be called; `None` when it may.
pub(super) fn refusal(name: &str) -> Option<String> {
    if ALLOWED.contains(&name) {
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

/// Takes the place of the engine's own functions: refused ones fail, `regex.match` and `regex.replace` keep what they compiled.
pub(super) fn install(engine: &mut Engine) -> anyhow::Result<()> {
    for (name, arguments, why) in REFUSED {
        let refuse =
            move |_: Vec<Value>| -> anyhow::Result<Value> { bail!("{name} is not available in policies: {why}") };
        engine.add_extension(name.to_owned(), arguments, Box::new(refuse))?;
    }
    let patterns = Arc::new(Patterns::default());
    let regex_match = move |arguments: Vec<Value>| -> anyhow::Result<Value> {
        let [pattern, value] = arguments.as_slice() else {
            bail!("regex.match expects 2 arguments")
        };
        // The texts are the engine's own: they quote no value.
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(anyhow!("`regex.match` expects string argument")),
        };
        let (pattern, value) = (text(pattern)?, text(value)?);
        Ok(Value::from(patterns.get(&pattern)?.is_match(&value)))
    };
    engine.add_extension("regex.match".to_owned(), 2, Box::new(regex_match))?;
    let patterns = Arc::new(Patterns::default());
    let regex_replace = move |arguments: Vec<Value>| -> anyhow::Result<Value> {
        let [Value::String(text), Value::String(pattern), Value::String(with)] = arguments.as_slice() else {
            bail!("`regex.replace` expects string arguments")
        };
        Ok(Value::from(
            patterns.get(pattern)?.replace_all(text, with.as_ref()).into_owned(),
        ))
    };
    engine.add_extension("regex.replace".to_owned(), 3, Box::new(regex_replace))
}

/// Compiled patterns of one policy. The engine would compile a pattern at each call, which costs a hundred times the match.
#[derive(Default)]
struct Patterns(Mutex<HashMap<String, Arc<Regex>>>);

impl Patterns {
    /// Patterns come from the policy and are few. What comes from an input finds the cache full, and is compiled each time.
    const MAX: usize = 64;
    /// The engine's own bound: what compiles here compiles for every user of the engine.
    const MAX_COMPILED_BYTES: usize = 100 * 1024;

    fn get(&self, pattern: &str) -> anyhow::Result<Arc<Regex>> {
        if let Some(found) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pattern) {
            return Ok(Arc::clone(found));
        }
        let compiled = RegexBuilder::new(pattern).size_limit(Self::MAX_COMPILED_BYTES).build();
        let compiled = Arc::new(compiled.map_err(|_| anyhow!("invalid regex"))?);
        let mut patterns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if patterns.len() < Self::MAX {
            patterns.insert(pattern.to_owned(), Arc::clone(&compiled));
        }
        Ok(compiled)
    }
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
        for name in ALLOWED {
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
        assert_eq!(patterns.0.lock().expect("lock").len(), Patterns::MAX);
    }
}
