//! What goes wrong when policies are loaded or evaluated, said so that the author can act.
//!
//! Must never: carry a value of the request. A load error may quote the policy; an evaluation error names a place in the
//! policy and nothing that was found in the input, because it ends in logs and in answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::memory;
use super::rewrite::Origins;

/// Message of a [`LoadError`] where the process has no memory left for the policy.
pub const NO_MEMORY: &str =
    "no memory is left to read and compile it: make it shorter, split it, or pass long lists as parameters";

/// Why a policy was not loaded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub struct LoadError {
    /// File, as the caller named it.
    pub file: String,
    /// Line, from 1; `None` where no line is at fault.
    pub line: Option<u32>,
    /// Column, from 1.
    pub column: Option<u32>,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl LoadError {
    /// An error of a whole file.
    pub fn file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            message: message.into(),
        }
    }

    /// An error at a place in a file.
    pub fn at(file: &str, line: u32, column: Option<u32>, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(line),
            column,
            message: message.into(),
        }
    }

    /// Takes file, line and column out of the engine's text, which is the only place where it keeps them.
    pub(super) fn engine(file: &str, error: &anyhow::Error, origins: &Origins) -> Self {
        let text = format!("{error:#}");
        let located = Located::parse(&text, origins);
        let message = match located.message {
            "" => text.trim(),
            message => message,
        };
        let message = if memory::says_shortage(message) {
            NO_MEMORY
        } else {
            message
        };
        Self {
            file: file.to_owned(),
            line: located.line,
            column: located.column,
            message: message.to_owned(),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a policy gave no verdict. Never "no match": the caller refuses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The time for the evaluation was used up.
    #[error("the policy did not finish in its time")]
    Timeout,
    /// The policy failed; the text names the place in the policy, and no value of the input.
    #[error("the policy failed: {0}")]
    Error(String),
    /// An entry point gave what is no verdict.
    #[error("the policy gave no verdict: {0}")]
    Shape(String),
    /// It is not what was declared last, and nothing decides in its place. Why is for its author: it may quote the policy.
    #[error("the policy cannot be used: see the condition Compiled of the RegoPolicy")]
    Broken(String),
    /// The objects that it looks at beside the request are not there.
    #[error("the policy looks at objects that are not there: {0}")]
    Unsynced(String),
    /// The engine panicked.
    #[error("the policy made the engine panic")]
    Panic,
    /// It held most of what was taken when no memory was left for policies.
    #[error("the policy took more than {mebibytes} MiB of memory, and there was no more of it")]
    Memory {
        /// What it took, in MiB.
        mebibytes: u64,
    },
    /// No memory was left for policies while it was evaluated, and it is not known whose doing that is.
    #[error("this replica is short of memory, which need not be because of this policy")]
    NoMemory,
    /// It was not asked: it did not finish for an earlier request, and goes on all the same.
    #[error("the policy has not ended yet for an earlier request, which nothing can stop")]
    Unended,
    /// It was not asked: there was no thread for it.
    #[error("no thread was free for the policy: too many evaluations have not ended yet")]
    NoThread,
}

impl EvalError {
    /// Keeps the place and the engine's own words; whatever the engine quotes may be a secret of the request.
    pub(super) fn engine(error: &anyhow::Error, origins: &Origins) -> Self {
        use regorus::LimitError;
        for cause in error.chain() {
            match cause.downcast_ref::<LimitError>() {
                Some(LimitError::TimeLimitExceeded { .. }) => return Self::Timeout,
                Some(limit) if memory::is_shortage(limit) => return Self::NoMemory,
                Some(_) => return Self::Error("it exceeded a limit of the engine".to_owned()),
                None => {}
            }
        }
        let text = format!("{error:#}");
        let located = Located::parse(&text, origins);
        // What ends a function, or a call of one of ours, comes as words alone.
        let said = if located.message.is_empty() {
            &text
        } else {
            located.message
        };
        if memory::says_shortage(said) {
            return Self::NoMemory;
        }
        if said.starts_with(TIME_IS_OVER) {
            return Self::Timeout;
        }
        let what = without_values(located.message);
        Self::Error(match (located.line, located.column) {
            (Some(line), Some(column)) => format!("{what} at {}:{line}:{column}", located.file),
            _ => what,
        })
    }
}

/// How the engine begins to say that the time is over.
const TIME_IS_OVER: &str = "execution exceeded time limit (elapsed=";

/// Sentences of the engine that quote nothing.
const PLAIN: [&str; 8] = [
    "could not find function",
    "could not parse string as number",
    "complete rules should not produce multiple outputs",
    "invalid regex",
    "is not available",
    "negative offset",
    "recursion detected",
    "`some .. in collection` expects array/set/object",
];

fn without_values(message: &str) -> String {
    if let Some(plain) = PLAIN.iter().find(|plain| message.contains(*plain)) {
        return (*plain).to_owned();
    }
    // "`startswith` expects string argument. Got `…` instead": the builtin's name is the policy's, what was got is not.
    let expectation = message.split(". Got").next().unwrap_or_default();
    let harmless = expectation.strip_prefix('`').is_some_and(|rest| {
        let (name, words) = rest.split_once('`').unwrap_or_default();
        let name_is_plain = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || "._0123456789".contains(c));
        name_is_plain && words.starts_with(" expects ") && !words.contains(['`', '"']) && words.len() < 80
    });
    if harmless {
        expectation.to_owned()
    } else {
        "an expression could not be evaluated".to_owned()
    }
}

/// The parts of the engine's error text: `--> file:line:column`, the line of source, `error: message`.
struct Located<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    message: &'a str,
}

impl<'a> Located<'a> {
    fn parse(text: &'a str, origins: &Origins) -> Self {
        let place = text
            .split_once("--> ")
            .and_then(|(_, rest)| rest.lines().next())
            .unwrap_or_default()
            .trim();
        let mut parts = place.rsplitn(3, ':');
        let column = parts.next().and_then(|part| part.parse().ok());
        let line = parts.next().and_then(|part| part.parse().ok());
        let file = parts.next().unwrap_or_default();
        let (line, column) = match (line, column) {
            (Some(line), Some(column)) => {
                let (line, column) = origins.author(file, line, column);
                (Some(line), Some(column))
            }
            unknown => unknown,
        };
        let message = text.split_once("\nerror: ").map_or("", |(_, rest)| rest.trim());
        Self {
            file,
            line,
            column,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_error_names_the_place_and_no_value() {
        let text = "\n--> p.rego:4:9\n  |\n4 |   startswith(x, 1)\n  |  ^\nerror: `startswith` expects string argument. Got `sk-secret` instead";
        let error = EvalError::engine(&anyhow::anyhow!("{text}"), &Origins::default());
        assert_eq!(
            error,
            EvalError::Error("`startswith` expects string argument at p.rego:4:9".to_owned())
        );
    }

    #[test]
    fn an_unknown_message_of_the_engine_is_not_quoted() {
        for message in [
            "function produced multiple outputs \"hunter2\"",
            "`a` expects `hunter2`",
            "hunter2",
        ] {
            let error = anyhow::anyhow!("--> p.rego:1:2\nerror: {message}");
            let error = EvalError::engine(&error, &Origins::default()).to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("p.rego:1:2"), "{error}");
        }
    }

    #[test]
    fn a_limit_is_told_from_other_errors_where_only_its_words_are_left() {
        use regorus::LimitError::{MemoryLimitExceeded, TimeLimitExceeded};
        use std::time::Duration;
        let memory = MemoryLimitExceeded { usage: 2, limit: 1 };
        let (elapsed, limit) = (Duration::from_secs(2), Duration::from_secs(1));
        let time = TimeLimitExceeded { elapsed, limit };
        for (limit, error) in [(memory, EvalError::NoMemory), (time, EvalError::Timeout)] {
            assert_eq!(
                EvalError::engine(&anyhow::anyhow!("{limit}"), &Origins::default()),
                error
            );
            assert_eq!(
                EvalError::engine(
                    &anyhow::anyhow!("\n--> p.rego:1:2\n\nerror: {limit}"),
                    &Origins::default()
                ),
                error
            );
            let quoted = format!("--> p.rego:1:2\nerror: `a` expects {limit}");
            assert!(matches!(
                EvalError::engine(&anyhow::anyhow!(quoted), &Origins::default()),
                EvalError::Error(_)
            ));
        }
    }

    #[test]
    fn a_load_error_carries_file_line_and_column() {
        let error = LoadError::engine(
            "p.rego",
            &anyhow::anyhow!("\n--> p.rego:4:9\n  |\n4 | x\n  | ^\nerror: expecting }}"),
            &Origins::default(),
        );
        assert_eq!(error.to_string(), "p.rego:4:9: expecting }");
    }
}
