//! What a function of ours may ask of its arguments. The texts of errors quote no value: they end in logs and in answers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use regorus::Value;

use super::super::{deadline, memory};

pub(super) type Answer = anyhow::Result<Value>;

/// A function of ours: its name, how many arguments it takes, what it does. It takes the place of the engine's own.
pub(super) type Own = (&'static str, u8, fn(&Arguments<'_>) -> Answer);

/// Longest text that a function makes. What a tenant sends is at most half as long; what is longer is made to use up memory.
pub(super) const MAX_TEXT: usize = 4 * 1024 * 1024;

/// Most items of a list that a function makes of others. Lists that mean something are shorter; what is longer is made to use up
/// memory.
const MAX_ITEMS: usize = 1 << 20;

/// Items between two looks at the memory.
pub(super) const LOOK: usize = 4096;

pub(super) struct Arguments<'a> {
    pub(super) name: &'static str,
    pub(super) values: &'a [Value],
}

impl<'a> Arguments<'a> {
    pub(super) fn get(&self, at: usize) -> &'a Value {
        // The engine has counted them.
        self.values.get(at).unwrap_or(&Value::Undefined)
    }

    pub(super) fn expects(&self, what: &str) -> anyhow::Error {
        anyhow!("`{}` expects {what}", self.name)
    }

    pub(super) fn text(&self, at: usize) -> anyhow::Result<&'a str> {
        self.text_of(self.get(at))
    }

    pub(super) fn text_of(&self, value: &'a Value) -> anyhow::Result<&'a str> {
        match value {
            Value::String(text) => Ok(text),
            _ => Err(self.expects("string argument")),
        }
    }

    pub(super) fn texts(&self, values: impl Iterator<Item = &'a Value>) -> anyhow::Result<Vec<&'a str>> {
        values.map(|value| self.text_of(value)).collect()
    }

    /// An integer. Both `1` and `1.0` are for OPA, except where it says otherwise.
    pub(super) fn integer(&self, at: usize) -> anyhow::Result<i64> {
        let number = match self.get(at) {
            Value::Number(number) if number.is_integer() => number.as_i64(),
            _ => None,
        };
        number.ok_or_else(|| self.expects("integer argument"))
    }

    /// The elements of an array or a set.
    pub(super) fn elements(&self, at: usize) -> anyhow::Result<Vec<&'a Value>> {
        match self.get(at) {
            Value::Array(items) => Ok(items.iter().collect()),
            Value::Set(items) => Ok(items.iter().collect()),
            _ => Err(self.expects("array or set argument")),
        }
    }

    pub(super) fn array(&self, at: usize) -> anyhow::Result<Vec<&'a Value>> {
        match self.get(at) {
            Value::Array(items) => Ok(items.iter().collect()),
            _ => Err(self.expects("array argument")),
        }
    }

    /// Refuses what would have too many items before it is made.
    pub(super) fn few(&self, items: usize) -> anyhow::Result<()> {
        if items > MAX_ITEMS {
            return Err(self.expects("arguments whose result has fewer items than the limit"));
        }
        Ok(())
    }

    /// The items of a list that is made from a text, each of which weighs many times the character it is made from: so the memory
    /// is looked at on the way; and the time, because the next item may be far away.
    pub(super) fn list(&self, items: impl Iterator<Item = Value>) -> anyhow::Result<Vec<Value>> {
        let mut list = Vec::new();
        for item in items {
            if list.len() % LOOK == 0 {
                memory::room()?;
            }
            deadline::time_left()?;
            list.push(item);
        }
        Ok(list)
    }

    /// Refuses a value whose text would be too long. A few values that hold each other can stand for any number of texts, so it
    /// stops where it is too much.
    pub(super) fn writable(&self, value: &Value) -> anyhow::Result<()> {
        match weight(value, MAX_TEXT) {
            Some(_) => Ok(()),
            None => Err(self.expects("a value whose text is shorter than the limit")),
        }
    }

    /// Refuses what would be too long before it is made.
    pub(super) fn bounded(&self, length: usize) -> anyhow::Result<()> {
        if length > MAX_TEXT {
            return Err(self.expects("arguments whose result is shorter than the limit"));
        }
        Ok(())
    }
}

/// What is left of a weight once the texts in a value are taken from it, each value with the fewest characters that it is written in;
/// `None` where that is more.
fn weight(value: &Value, left: usize) -> Option<usize> {
    let left = left.checked_sub(match value {
        Value::String(text) => text.len().saturating_add(2),
        _ => 1,
    })?;
    match value {
        Value::Array(items) => items.iter().try_fold(left, |left, item| weight(item, left)),
        Value::Set(items) => items.iter().try_fold(left, |left, item| weight(item, left)),
        Value::Object(fields) => fields
            .iter()
            .try_fold(left, |left, (key, field)| weight(field, weight(key, left)?)),
        _ => Some(left),
    }
}

pub(super) fn set(values: impl Iterator<Item = Value>) -> Value {
    Value::from(values.collect::<BTreeSet<_>>())
}

pub(super) fn object(fields: impl Iterator<Item = (Value, Value)>) -> Value {
    Value::from(fields.collect::<BTreeMap<_, _>>())
}
