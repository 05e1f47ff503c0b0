//! What the doctor says of one part of an installation. Pure.

use serde_json::{Value, json};

/// How one part is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// It works, and needs somebody's look.
    Warning,
    /// It does not work, or lets pass what it should not.
    Error,
    /// It could not be looked at.
    Unknown,
}

impl State {
    /// The word in reports.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// What is said of one part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Told {
    /// Name of the check.
    pub(super) check: &'static str,
    /// How it is.
    pub(super) state: State,
    /// What is so.
    pub(super) message: String,
    /// What to do; empty where it is good.
    pub(super) fix: String,
}

impl Told {
    pub(super) fn good(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, State::Good, message, "")
    }

    pub(super) fn new(check: &'static str, state: State, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            state,
            message: message.into(),
            fix: fix.into(),
        }
    }

    pub(super) fn error(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Error, message, fix)
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let Self {
            check,
            state,
            message,
            fix,
        } = self;
        json!({"check": check, "state": state.as_str(), "message": message, "fix": fix})
    }
}

/// Whether an object, as the API server has it, says that it is so.
pub(super) fn has_condition(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|one| one["status"] == "True")
}

/// What it says of that.
pub(super) fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    let mut conditions = object.pointer("/status/conditions")?.as_array()?.iter();
    conditions.find(|one| one["type"] == type_)
}

/// Says what is good where nothing else was said.
pub(super) fn or_good(told: Vec<Told>, check: &'static str, message: &str) -> Vec<Told> {
    if told.is_empty() {
        vec![Told::good(check, message)]
    } else {
        told
    }
}
