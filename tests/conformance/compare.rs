//! Asks both, and says where they differ.

use ringfence::policy::{EvalError, Failure, RegoVersion, Source, evaluate};
use serde_json::Value;
use support::opa::{Answer, Opa};

/// One question to both.
#[derive(Clone, Debug)]
pub struct Case {
    pub module: String,
    pub version: RegoVersion,
    pub input: Value,
    /// Path of its package from `data` on.
    pub package: String,
    pub rule: String,
}

impl Case {
    pub fn new(version: RegoVersion, rules: &str, input: Value) -> Self {
        let module = format!("package p\n\n{rules}\n");
        Self {
            module,
            version,
            input,
            package: "data.p".to_owned(),
            rule: "x".to_owned(),
        }
    }
}

/// What Ringfence answers.
pub fn ours(case: &Case) -> Answer {
    let source = Source {
        file: "p.rego".to_owned(),
        text: case.module.clone(),
    };
    match evaluate(&source, case.version, &case.rule, &case.input) {
        Ok(Some(value)) => Answer::Value(value),
        Ok(None) => Answer::Undefined,
        Err(Failure::Load(errors)) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            Answer::Error(format!("load: {}", errors.join("; ")))
        }
        // To the policy it is an error, but nobody meant it: equal to no answer of OPA's.
        Err(Failure::Eval(EvalError::Panic)) => Answer::Value("the engine panicked".into()),
        Err(Failure::Eval(error)) => Answer::Error(format!("evaluation: {error}")),
    }
}

/// Every difference at once: a table is mended faster than a line.
pub fn agree(cases: &[Case]) {
    let mut opa = Opa::start().expect("OPA starts");
    let mut different = Vec::new();
    for case in cases {
        let (ours, theirs) = (ours(case), theirs(&mut opa, case));
        if !same(&ours, &theirs) {
            different.push(shown(case, &ours, &theirs));
        }
    }
    none_differ(&different, cases.len());
}

/// For what is made up: OPA's compiler also finds types that do not fit and variables that nothing looks at, and we refuse some
/// of what it takes. Of the cases at least `part` in a hundred must have an answer of both.
pub fn agree_where_both_answer(cases: &[Case], part: usize) {
    let mut opa = Opa::start().expect("OPA starts");
    let mut different = Vec::new();
    let mut answered = 0;
    for case in cases {
        let (ours, theirs) = (ours(case), theirs(&mut opa, case));
        let both = !matches!(ours, Answer::Error(_)) && !matches!(theirs, Answer::Error(_));
        answered += usize::from(both);
        // What OPA finds to have no value must not get one here.
        let unsafe_there = matches!(&theirs, Answer::Error(error) if error.contains("rego_unsafe_var_error"));
        if (both || unsafe_there) && !same(&ours, &theirs) {
            different.push(shown(case, &ours, &theirs));
        }
    }
    none_differ(&different, cases.len());
    assert!(
        answered * 100 >= cases.len() * part,
        "only {answered} of {} had an answer",
        cases.len()
    );
}

pub fn theirs(opa: &mut Opa, case: &Case) -> Answer {
    let query = format!("{}.{}", case.package, case.rule);
    let theirs = opa.ask(&case.module, case.version == RegoVersion::V0, &case.input, &query);
    theirs.expect("OPA answers")
}

fn shown(case: &Case, ours: &Answer, theirs: &Answer) -> String {
    format!(
        "{}input {}\n  ours {}\n  OPA  {}",
        case.module,
        case.input,
        said(ours),
        said(theirs)
    )
}

fn none_differ(different: &[String], of: usize) {
    assert!(
        different.is_empty(),
        "{} of {of} differ:\n\n{}",
        different.len(),
        different.join("\n\n")
    );
}

pub fn said(answer: &Answer) -> String {
    match answer {
        Answer::Value(value) => value.to_string(),
        Answer::Undefined => "undefined".to_owned(),
        Answer::Error(error) => format!("error: {error}"),
    }
}

pub fn same(ours: &Answer, theirs: &Answer) -> bool {
    match (ours, theirs) {
        (Answer::Value(ours), Answer::Value(theirs)) => equal(ours, theirs),
        (Answer::Undefined, Answer::Undefined) | (Answer::Error(_), Answer::Error(_)) => true,
        _ => false,
    }
}

/// JSON has one kind of number: `1` and `1.0` are the same.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn what_differs_is_different() {
    let value = |text: &str| Answer::Value(serde_json::from_str(text).expect("JSON"));
    assert!(same(&value("[1, {\"a\": 1.0}]"), &value("[1.0, {\"a\": 1}]")));
    for (a, b) in [
        (value("1"), value("2")),
        (value("[1]"), value("[1, 1]")),
        (value("{\"a\": 1}"), value("{\"b\": 1}")),
        (value("null"), Answer::Undefined),
        (Answer::Undefined, Answer::Error(String::new())),
    ] {
        assert!(!same(&a, &b) && !same(&b, &a), "{a:?} {b:?}");
    }
    assert!(same(&Answer::Error("a".to_owned()), &Answer::Error("b".to_owned())));
}
