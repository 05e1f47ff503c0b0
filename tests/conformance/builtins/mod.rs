//! Every built-in function that a policy may call, with ordinary arguments, at the edges and beyond.

mod collections;
mod encoding;
mod matching;
mod numbers;
mod strings;
mod time_and_units;

use std::collections::BTreeSet;

use ringfence::policy::RegoVersion;
use serde_json::{Value, json};

use crate::compare::{Case, agree};

/// Functions and lists of arguments, as they are written in Rego.
type Table = &'static [(&'static str, &'static [&'static str])];

const TABLES: [Table; 6] = [
    collections::TABLE,
    encoding::TABLE,
    matching::TABLE,
    numbers::TABLE,
    strings::TABLE,
    time_and_units::TABLE,
];

/// The version of the language that has the function.
fn version(name: &str) -> RegoVersion {
    let old = ["all", "any", "net.cidr_overlap", "re_match", "set_diff"].contains(&name) || name.starts_with("cast_");
    if old { RegoVersion::V0 } else { RegoVersion::V1 }
}

fn cases(table: Table) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, calls) in table {
        for arguments in *calls {
            // What comes by the input has no type that OPA's compiler could refuse.
            let input: Option<Vec<Value>> = serde_json::from_str(&format!("[{arguments}]")).ok();
            let dynamic = |input: &Vec<Value>| {
                let names: Vec<_> = (0..input.len()).map(|at| format!("input[{at}]")).collect();
                names.join(", ")
            };
            let arguments = input.as_ref().map_or((*arguments).to_owned(), dynamic);
            // In JSON a set looks like an array.
            let rules = format!("y := {name}({arguments})\n\nx := [type_name(y), y]");
            cases.push(Case::new(version(name), &rules, input.map_or(json!({}), Value::from)));
        }
    }
    cases
}

#[rstest::rstest]
#[case::collections(collections::TABLE)]
#[case::encoding(encoding::TABLE)]
#[case::matching(matching::TABLE)]
#[case::numbers(numbers::TABLE)]
#[case::strings(strings::TABLE)]
#[case::time_and_units(time_and_units::TABLE)]
fn they_answer_as_opa_does(#[case] table: Table) {
    agree(&cases(table));
}

/// What nobody compared is not claimed.
#[test]
fn every_function_that_is_claimed_is_compared() {
    let compared: BTreeSet<_> = TABLES.into_iter().flatten().map(|(name, _)| *name).collect();
    let claimed: BTreeSet<_> = ringfence::policy::builtin_functions().collect();
    assert_eq!(
        compared, claimed,
        "left: compared with OPA, right: may be called in a policy"
    );
    for (name, calls) in TABLES.into_iter().flatten() {
        assert!(calls.len() >= 3, "{name}: two calls say little");
    }
}
