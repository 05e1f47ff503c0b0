//! Requests as somebody sends them who wants a policy to fail: missing, of another type, deep, huge, with names that mean
//! something to a parser.

use serde_json::{Map, Value, json};

use crate::random::Random;

/// Fields that policies look at.
pub const FIELDS: [&str; 8] = ["a", "b", "items", "labels", "name", "flag", "count", "inner"];

/// Names that somebody gives a meaning to.
const NAMES: [&str; 12] = [
    "$serde_json::private::Number",
    "$serde_json::private::RawValue",
    "__proto__",
    "",
    "a.b",
    "a/b",
    "~0",
    "\u{202e}a",
    "\u{0}",
    "input",
    "data",
    "ü",
];

pub fn request(random: &mut Random) -> Value {
    let mut request = Map::new();
    for field in FIELDS {
        if random.percent(78) {
            request.insert(field.to_owned(), field_value(random, field));
        }
    }
    if random.percent(15) {
        let name = random.pick(&NAMES).to_owned();
        request.insert(name, value(random, 2));
    }
    Value::Object(request)
}

/// Mostly what a policy expects there.
fn field_value(random: &mut Random, field: &str) -> Value {
    if random.percent(30) {
        return value(random, 3);
    }
    match field {
        "items" => (0..random.below(4)).map(|_| item(random)).collect(),
        "labels" => json!({"app": word(random), "team": word(random)}),
        "name" => json!(word(random)),
        "flag" => json!(random.percent(50)),
        "count" => json!(random.below(6)),
        "inner" => json!({"a": value(random, 1), "items": [1, 2], "name": word(random)}),
        _ => value(random, 2),
    }
}

fn item(random: &mut Random) -> Value {
    let mut item = Map::new();
    item.insert("name".to_owned(), json!(word(random)));
    for field in ["a", "flag", "count"] {
        if random.percent(60) {
            item.insert(field.to_owned(), value(random, 1));
        }
    }
    Value::Object(item)
}

fn word(random: &mut Random) -> &'static str {
    random.pick(&[
        "x",
        "web",
        "kube-system",
        "",
        "App",
        "a:b",
        "x/y@z",
        "ünï",
        "\u{1f4a5}",
        "1",
        "true",
        "latest",
    ])
}

fn value(random: &mut Random, depth: usize) -> Value {
    let kinds = if depth == 0 { 9 } else { 13 };
    match random.below(kinds) {
        0 => Value::Null,
        1 => json!(random.percent(50)),
        2 | 3 => json!(random.below(5)),
        4 => json!(-3),
        5 | 6 => json!(word(random)),
        7 => number(random),
        8 => json!("a".repeat(random.below(3000))),
        9 => (0..random.below(4)).map(|_| value(random, depth - 1)).collect(),
        10 => {
            let name = random.pick(&NAMES);
            json!({name: value(random, depth - 1)})
        }
        11 => json!({"a": value(random, depth - 1), "name": word(random)}),
        _ => (0..random.below(120)).fold(json!(1), |inner, level| {
            if level % 2 == 0 {
                json!([inner])
            } else {
                json!({"a": inner})
            }
        }),
    }
}

/// Whole numbers at the edges of what holds them. Fractions are compared as doubles here, and not in OPA.
fn number(random: &mut Random) -> Value {
    match random.below(5) {
        0 => json!(i64::MAX),
        1 => json!(i64::MIN),
        2 => json!(u64::MAX),
        3 => json!(9_007_199_254_740_993_i64),
        _ => json!(0),
    }
}
