//! What a function of ours may ask of its arguments. The texts of errors quote no value: they end in logs and in answers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;
use regorus::Value;

pub(super) type Answer = anyhow::Result<Value>;

/// A function of ours: its name, how many arguments it takes, what it does. It takes the place of the engine's own.
pub(super) type Own = (&'static str, u8, fn(&Arguments<'_>) -> Answer);

/// Longest text that a function makes. What a tenant sends is at most half as long; what is longer is made to use up memory.
pub(super) const MAX_TEXT: usize = 4 * 1024 * 1024;

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

    /// Refuses what would be too long before it is made.
    pub(super) fn bounded(&self, length: usize) -> anyhow::Result<()> {
        if length > MAX_TEXT {
            return Err(self.expects("arguments whose result is shorter than the limit"));
        }
        Ok(())
    }
}

pub(super) fn set(values: impl Iterator<Item = Value>) -> Value {
    Value::from(values.collect::<BTreeSet<_>>())
}

pub(super) fn object(fields: impl Iterator<Item = (Value, Value)>) -> Value {
    Value::from(fields.collect::<BTreeMap<_, _>>())
}
