//! What is made of a policy calls these, never its author: `in` as a function, which has no value where an operand has none, and
//! a value as it is, which keeps the engine from taking a variable in brackets for a loop.

use regorus::Value;

use super::arguments::{Answer, Arguments, Own};

/// Their names in OPA, which has no third.
pub(in crate::policy) const MEMBER_2: &str = "internal.member_2";
pub(in crate::policy) const MEMBER_3: &str = "internal.member_3";

pub(in crate::policy) const SAME: &str = "internal.same";

pub(super) const FUNCTIONS: [Own; 3] = [
    (MEMBER_2, 2, has),
    (MEMBER_3, 3, has_at),
    (SAME, 1, |arguments| Ok(arguments.get(0).clone())),
];

fn has(arguments: &Arguments<'_>) -> Answer {
    let wanted = arguments.get(0);
    Ok(Value::from(match arguments.get(1) {
        Value::Array(items) => items.contains(wanted),
        Value::Set(items) => items.contains(wanted),
        Value::Object(fields) => fields.values().any(|value| value == wanted),
        _ => false,
    }))
}

fn has_at(arguments: &Arguments<'_>) -> Answer {
    let (key, wanted) = (arguments.get(0), arguments.get(1));
    Ok(Value::from(match arguments.get(2) {
        Value::Array(items) => {
            let at = arguments.integer(0).ok().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| items.get(at)) == Some(wanted)
        }
        Value::Set(items) => key == wanted && items.contains(wanted),
        Value::Object(fields) => fields.get(key) == Some(wanted),
        _ => false,
    }))
}
