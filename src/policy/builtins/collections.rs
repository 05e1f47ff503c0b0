//! Arrays, sets and objects, where the engine panics or answers otherwise than OPA; and those of version 0 of the language.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use regorus::Value;

use super::arguments::{Answer, Arguments, Own, object, set};

pub(super) const FUNCTIONS: [Own; 16] = [
    ("all", 1, |arguments| {
        Ok(Value::from(
            booleans(arguments)?.iter().all(|value| **value == Value::Bool(true)),
        ))
    }),
    ("any", 1, |arguments| {
        Ok(Value::from(
            booleans(arguments)?.iter().any(|value| **value == Value::Bool(true)),
        ))
    }),
    ("array.concat", 2, concat),
    ("array.flatten", 1, flatten),
    ("array.slice", 3, slice),
    ("cast_array", 1, |arguments| {
        Ok(Value::from(
            arguments.elements(0)?.into_iter().cloned().collect::<Vec<_>>(),
        ))
    }),
    ("cast_boolean", 1, |arguments| {
        cast(arguments, |value| matches!(value, Value::Bool(_)))
    }),
    ("cast_null", 1, |arguments| {
        cast(arguments, |value| matches!(value, Value::Null))
    }),
    ("cast_object", 1, |arguments| {
        cast(arguments, |value| matches!(value, Value::Object(_)))
    }),
    ("cast_set", 1, |arguments| {
        Ok(set(arguments.elements(0)?.into_iter().cloned()))
    }),
    ("cast_string", 1, |arguments| {
        cast(arguments, |value| matches!(value, Value::String(_)))
    }),
    ("json.filter", 2, filter),
    ("json.remove", 2, remove),
    ("object.subset", 2, subset),
    ("set_diff", 2, set_diff),
    ("sort", 1, sort),
];

fn cast(arguments: &Arguments<'_>, is_it: fn(&Value) -> bool) -> Answer {
    let value = arguments.get(0);
    if is_it(value) {
        Ok(value.clone())
    } else {
        Err(arguments.expects("a value of that type"))
    }
}

fn booleans<'a>(arguments: &Arguments<'a>) -> anyhow::Result<Vec<&'a Value>> {
    arguments.elements(0)
}

/// As the engine does, but bounded: a list that is put after itself again and again doubles in each step.
fn concat(arguments: &Arguments<'_>) -> Answer {
    let (mut items, more) = (arguments.array(0)?, arguments.array(1)?);
    arguments.few(items.len().saturating_add(more.len()))?;
    items.extend(more);
    Ok(Value::from(items.into_iter().cloned().collect::<Vec<_>>()))
}

fn flatten(arguments: &Arguments<'_>) -> Answer {
    let mut flat = Vec::new();
    for item in arguments.array(0)? {
        arguments.few(flat.len())?;
        match item {
            Value::Array(inner) => flat.extend(inner.iter().cloned()),
            _ => flat.push(item.clone()),
        }
    }
    Ok(Value::from(flat))
}

fn slice(arguments: &Arguments<'_>) -> Answer {
    let items = arguments.array(0)?;
    let at = |place: usize| {
        arguments
            .integer(place)
            .map(|at| usize::try_from(at).unwrap_or(0).min(items.len()))
    };
    let (start, stop) = (at(1)?, at(2)?);
    let part = items.get(start..stop).unwrap_or_default();
    Ok(Value::from(part.iter().map(|item| (*item).clone()).collect::<Vec<_>>()))
}

fn set_diff(arguments: &Arguments<'_>) -> Answer {
    let (Value::Set(a), Value::Set(b)) = (arguments.get(0), arguments.get(1)) else {
        return Err(arguments.expects("set arguments"));
    };
    Ok(set(a.iter().filter(|item| !b.contains(item)).cloned()))
}

/// OPA's order. The engine has sets before objects.
fn sort(arguments: &Arguments<'_>) -> Answer {
    let mut items: Vec<Value> = arguments.elements(0)?.into_iter().cloned().collect();
    items.sort_by(order);
    Ok(Value::from(items))
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Undefined | Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
        Value::Set(_) => 6,
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    let all = |a: &mut dyn Iterator<Item = &Value>, b: &mut dyn Iterator<Item = &Value>| loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) => match order(a, b) {
                Ordering::Equal => {}
                different => return different,
            },
            (None, None) => return Ordering::Equal,
            (Some(_), None) => return Ordering::Greater,
            (None, Some(_)) => return Ordering::Less,
        }
    };
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => all(&mut a.iter(), &mut b.iter()),
        (Value::Set(a), Value::Set(b)) => {
            let sorted = |values: Vec<&Value>| {
                let mut values: Vec<Value> = values.into_iter().cloned().collect();
                values.sort_by(order);
                values
            };
            all(
                &mut sorted(a.iter().collect()).iter(),
                &mut sorted(b.iter().collect()).iter(),
            )
        }
        _ if rank(a) == rank(b) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn subset(arguments: &Arguments<'_>) -> Answer {
    let (whole, part) = (arguments.get(0), arguments.get(1));
    let is_subset = match (whole, part) {
        (Value::Object(_), Value::Object(_)) => is_part(whole, part),
        (Value::Set(whole), Value::Set(part)) => part.iter().all(|item| whole.contains(item)),
        (Value::Array(_), Value::Array(_)) => is_part(whole, part),
        (Value::Array(whole), Value::Set(part)) => part.iter().all(|item| whole.iter().any(|other| other == item)),
        _ => return Err(arguments.expects("two objects, two sets, two arrays, or an array and a set")),
    };
    Ok(Value::from(is_subset))
}

/// An object has at least the fields, an array the items in a row; objects within objects likewise.
fn is_part(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            let mut fields = part.iter();
            fields.all(|(key, inner)| whole.iter().any(|(name, value)| name == key && is_part(value, inner)))
        }
        (Value::Set(whole), Value::Set(part)) => part.iter().all(|item| whole.contains(item)),
        (Value::Array(whole), Value::Array(part)) => {
            let whole: Vec<_> = whole.iter().collect();
            let part: Vec<_> = part.iter().collect();
            part.is_empty() || whole.windows(part.len()).any(|window| window == part)
        }
        _ => whole == part,
    }
}

/// What is below a path: everything, or only what longer paths name.
#[derive(Default)]
struct Paths(BTreeMap<Value, Paths>, bool);

impl Paths {
    /// A path is a text with `/` between its parts (`~1` for a slash, `~0` for a tilde), or an array of parts.
    fn read(arguments: &Arguments<'_>) -> anyhow::Result<Self> {
        let mut paths = Self::default();
        for path in arguments.elements(1)? {
            let parts: Vec<Value> = match path {
                Value::String(text) if text.is_empty() => continue,
                Value::String(text) => {
                    let parts = text.trim_start_matches('/').split('/');
                    parts
                        .map(|part| Value::from(part.replace("~1", "/").replace("~0", "~")))
                        .collect()
                }
                Value::Array(parts) if parts.is_empty() => continue,
                Value::Array(parts) => parts.iter().cloned().collect(),
                _ => return Err(arguments.expects("paths that are strings or arrays")),
            };
            // Deeper than any document: nothing is there, and the stack is kept.
            if parts.len() > 200 {
                return Err(arguments.expects("paths of at most 200 parts"));
            }
            let mut at = &mut paths;
            for part in parts {
                at = at.0.entry(part).or_default();
            }
            at.1 = true;
        }
        Ok(paths)
    }

    fn below(&self, key: &Value) -> Option<&Self> {
        self.0.get(key)
    }

    /// An index of an array is a text here, also where the path is an array.
    fn at(&self, index: usize) -> Option<&Self> {
        self.below(&Value::from(index.to_string()))
    }
}

fn filter(arguments: &Arguments<'_>) -> Answer {
    if !matches!(arguments.get(0), Value::Object(_)) {
        return Err(arguments.expects("object argument"));
    }
    let paths = Paths::read(arguments)?;
    Ok(kept(arguments.get(0), &paths))
}

fn kept(value: &Value, paths: &Paths) -> Value {
    if paths.1 {
        return value.clone();
    }
    match value {
        Value::Object(fields) => object(
            fields
                .iter()
                .filter_map(|(key, inner)| Some((key.clone(), kept(inner, paths.below(key)?)))),
        ),
        Value::Set(items) => Value::from(
            items
                .iter()
                .filter_map(|item| Some(kept(item, paths.below(item)?)))
                .collect::<BTreeSet<_>>(),
        ),
        Value::Array(items) => Value::from(
            items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| Some(kept(item, paths.at(at)?)))
                .collect::<Vec<_>>(),
        ),
        _ => value.clone(),
    }
}

fn remove(arguments: &Arguments<'_>) -> Answer {
    if !matches!(arguments.get(0), Value::Object(_)) {
        return Err(arguments.expects("object argument"));
    }
    let paths = Paths::read(arguments)?;
    Ok(without(arguments.get(0), &paths))
}

fn without(value: &Value, paths: &Paths) -> Value {
    let rest = |inner: &Value, below: Option<&Paths>| match below {
        None => Some(inner.clone()),
        Some(below) if below.1 => None,
        Some(below) => Some(without(inner, below)),
    };
    match value {
        Value::Object(fields) => object(
            fields
                .iter()
                .filter_map(|(key, inner)| Some((key.clone(), rest(inner, paths.below(key))?))),
        ),
        Value::Set(items) => set(items.iter().filter_map(|item| rest(item, paths.below(item)))),
        Value::Array(items) => Value::from(
            items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| rest(item, paths.at(at)))
                .collect::<Vec<_>>(),
        ),
        _ => value.clone(),
    }
}
