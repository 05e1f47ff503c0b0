//! Regular expressions and globs, as Go's packages match them. Linear in the text, bounded in what a pattern compiles to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use regex::{Captures, Regex, RegexBuilder};
use regorus::Value;

use super::super::{deadline, memory};
use super::arguments::{Answer, Arguments, LOOK};
use super::syntax::{Refused, translate};

type Function = (&'static str, u8, fn(&Arguments<'_>, &Patterns) -> Answer);

pub(super) const FUNCTIONS: [Function; 10] = [
    ("glob.match", 3, glob_match),
    ("glob.quote_meta", 1, quote_meta),
    ("regex.find_all_string_submatch_n", 3, find_submatches),
    ("regex.find_n", 3, find),
    ("regex.is_valid", 1, is_valid),
    ("regex.match", 2, is_match),
    ("regex.replace", 3, replace),
    ("regex.split", 2, split),
    ("regex.template_match", 4, template_match),
    // In version 0 of the language.
    ("re_match", 2, is_match),
];

/// Compiled patterns of one policy. The engine would compile a pattern at each call, which costs a hundred times the match.
#[derive(Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Arc<Regex>>>);

impl Patterns {
    /// Patterns come from the policy and are few. What comes from an input finds the cache full, and is compiled each time.
    pub(super) const MAX: usize = 64;
    /// The engine's own bound: what compiles here compiles for every user of the engine.
    const MAX_COMPILED_BYTES: usize = 100 * 1024;

    /// Compiled from Go's syntax.
    pub(super) fn get(&self, pattern: &str) -> anyhow::Result<Arc<Regex>> {
        self.cached(pattern, || compile(pattern).map_err(|_| anyhow!("invalid regex")))
    }

    fn cached(&self, key: &str, compile: impl FnOnce() -> anyhow::Result<Regex>) -> anyhow::Result<Arc<Regex>> {
        if let Some(found) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(Arc::clone(found));
        }
        let compiled = Arc::new(compile()?);
        let mut patterns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if patterns.len() < Self::MAX {
            patterns.insert(key.to_owned(), Arc::clone(&compiled));
        }
        Ok(compiled)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().expect("lock").len()
    }
}

fn compile(pattern: &str) -> Result<Regex, Refused> {
    built(&translate(pattern)?)
}

fn built(pattern: &str) -> Result<Regex, Refused> {
    let compiled = RegexBuilder::new(pattern)
        .size_limit(Patterns::MAX_COMPILED_BYTES)
        .build();
    compiled.map_err(|error| match error {
        regex::Error::Syntax(_) => Refused::Invalid,
        _ => Refused::Unsupported,
    })
}

fn is_match(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (pattern, text) = (arguments.text(0)?, arguments.text(1)?);
    Ok(Value::from(patterns.get(pattern)?.is_match(text)))
}

fn is_valid(arguments: &Arguments<'_>, _: &Patterns) -> Answer {
    let Value::String(pattern) = arguments.get(0) else {
        return Ok(Value::from(false));
    };
    match compile(pattern) {
        Ok(_) => Ok(Value::from(true)),
        Err(Refused::Invalid) => Ok(Value::from(false)),
        Err(Refused::Unsupported) => Err(anyhow!("invalid regex")),
    }
}

/// How many matches are wanted; a negative number is all.
fn wanted(arguments: &Arguments<'_>) -> anyhow::Result<usize> {
    Ok(usize::try_from(arguments.integer(2)?).unwrap_or(usize::MAX))
}

fn find(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (pattern, text, wanted) = (arguments.text(0)?, arguments.text(1)?, wanted(arguments)?);
    let pattern = patterns.get(pattern)?;
    let found = pattern.find_iter(text).take(wanted);
    Ok(Value::from(
        arguments.list(found.map(|found| Value::from(found.as_str())))?,
    ))
}

fn find_submatches(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (pattern, text, wanted) = (arguments.text(0)?, arguments.text(1)?, wanted(arguments)?);
    let pattern = patterns.get(pattern)?;
    let groups = |found: Captures<'_>| {
        let groups = found
            .iter()
            .map(|group| Value::from(group.map_or("", |group| group.as_str())));
        Value::from(groups.collect::<Vec<_>>())
    };
    Ok(Value::from(
        arguments.list(pattern.captures_iter(text).take(wanted).map(groups))?,
    ))
}

/// As Go's `Split`: an empty match at the start or the end cuts nothing off.
fn split(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (pattern, text) = (arguments.text(0)?, arguments.text(1)?);
    let compiled = patterns.get(pattern)?;
    if text.is_empty() && !pattern.is_empty() {
        return Ok(Value::from(vec![Value::from("")]));
    }
    let mut parts = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for found in compiled.find_iter(text) {
        end = found.start();
        if found.end() != 0 {
            parts.push(Value::from(text.get(begin..end).unwrap_or_default()));
        }
        begin = found.end();
        if parts.len() % LOOK == 0 {
            memory::room()?;
        }
        deadline::time_left()?;
    }
    if end != text.len() {
        parts.push(Value::from(text.get(begin..).unwrap_or_default()));
    }
    Ok(Value::from(parts))
}

fn replace(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (text, pattern, with) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    let pattern = patterns.get(pattern)?;
    let mut result = String::new();
    let mut end = 0;
    for found in pattern.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        result.push_str(text.get(end..whole.start()).unwrap_or_default());
        expand(with, &found, &mut result);
        end = whole.end();
        arguments.bounded(result.len())?;
        deadline::time_left()?;
    }
    result.push_str(text.get(end..).unwrap_or_default());
    arguments.bounded(result.len())?;
    Ok(Value::from(result))
}

/// Go's templates: `$1`, `${1}`, `$name`; `$$` is a dollar, and what is malformed is itself.
fn expand(template: &str, found: &Captures<'_>, result: &mut String) {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
            continue;
        }
        let (braced, name_and_rest) = match after.strip_prefix('{') {
            Some(inner) => (true, inner),
            None => (false, after),
        };
        let end = name_and_rest.find(|c| !is_word(c)).unwrap_or(name_and_rest.len());
        let (name, after_name) = name_and_rest.split_at(end);
        let after_name = if braced {
            after_name.strip_prefix('}')
        } else {
            Some(after_name)
        };
        let Some(after_name) = after_name.filter(|_| !name.is_empty()) else {
            result.push('$');
            rest = after;
            continue;
        };
        let is_number = name.bytes().all(|digit| digit.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
        let group = match name.parse::<usize>() {
            Ok(number) if is_number => found.get(number),
            _ => found.name(name),
        };
        result.push_str(group.map_or("", |group| group.as_str()));
        rest = after_name;
    }
    result.push_str(rest);
}

fn template_match(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (template, text) = (arguments.text(0)?, arguments.text(1)?);
    let delimiter = |at| match arguments.text(at)?.as_bytes() {
        [one] if one.is_ascii() => Ok(*one),
        _ => Err(arguments.expects("delimiters of one character")),
    };
    let (open, close) = (delimiter(2)?, delimiter(3)?);
    let unbalanced = || arguments.expects("delimiters that close what they open");
    let mut pattern = String::from("^");
    let (mut level, mut start) = (0_usize, 0);
    for (at, byte) in template.bytes().enumerate() {
        if byte == open {
            level += 1;
            if level == 1 {
                quote(template.get(start..at).unwrap_or_default(), &mut pattern);
                start = at + 1;
            }
        } else if byte == close {
            level = level.checked_sub(1).ok_or_else(unbalanced)?;
            if level == 0 {
                let inner = template.get(start..at).unwrap_or_default();
                // By itself first, so that it cannot close the group that it is put in.
                patterns.get(&format!("^{inner}$"))?;
                pattern.push_str(&format!("({inner})"));
                start = at + 1;
            }
        }
    }
    if level != 0 {
        return Err(unbalanced());
    }
    quote(template.get(start..).unwrap_or_default(), &mut pattern);
    pattern.push('$');
    Ok(Value::from(patterns.get(&pattern)?.is_match(text)))
}

fn quote(text: &str, pattern: &mut String) {
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
}

fn quote_meta(arguments: &Arguments<'_>, _: &Patterns) -> Answer {
    let mut quoted = String::new();
    for c in arguments.text(0)?.chars() {
        if "*?\\[]{}".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    Ok(Value::from(quoted))
}

fn glob_match(arguments: &Arguments<'_>, patterns: &Patterns) -> Answer {
    let (glob, text) = (arguments.text(0)?, arguments.text(2)?);
    let separators: String = match arguments.get(1) {
        Value::Null => String::new(),
        Value::Array(items) if items.is_empty() => ".".to_owned(),
        Value::Array(items) => {
            let items = arguments.texts(items.iter())?;
            if items.iter().any(|item| item.chars().count() != 1) {
                return Err(arguments.expects("delimiters of one character"));
            }
            items.concat()
        }
        _ => return Err(arguments.expects("an array of delimiters, or null")),
    };
    // Neither a glob nor a pattern in Go's syntax can hold the key of another one.
    let key = format!("\u{0}{separators}\u{0}{glob}");
    let compiled = patterns.cached(&key, || {
        let pattern = glob_pattern(glob, &separators).ok_or_else(|| arguments.expects("a glob that is well formed"))?;
        built(&pattern).map_err(|_| arguments.expects("a glob that is not so large"))
    })?;
    Ok(Value::from(compiled.is_match(text)))
}

/// `*` is anything but a delimiter, `**` anything, `?` one character, `[abc]`, `[!abc]`, `[a-c]`, `{one,other}`.
fn glob_pattern(glob: &str, separators: &str) -> Option<String> {
    let hex = |c: char| format!("\\x{{{:x}}}", u32::from(c));
    let any = match separators {
        "" => ".".to_owned(),
        _ => format!("[^{}]", separators.chars().map(hex).collect::<String>()),
    };
    let mut pattern = String::from("^(?s:");
    let mut depth = 0_usize;
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                pattern.push_str(if stars > 1 { "." } else { &any });
                pattern.push('*');
            }
            '?' => pattern.push_str(&any),
            '\\' => pattern.push_str(&hex(chars.next()?)),
            '{' => {
                depth += 1;
                pattern.push_str("(?:");
            }
            ',' if depth > 0 => pattern.push('|'),
            '}' if depth > 0 => {
                depth -= 1;
                pattern.push(')');
            }
            '[' => {
                pattern.push('[');
                if chars.next_if_eq(&'!').is_some() {
                    pattern.push('^');
                }
                let first = class_char(&mut chars)?;
                pattern.push_str(&hex(first));
                if chars.next_if_eq(&'-').is_some() {
                    let last = class_char(&mut chars).filter(|last| *last >= first)?;
                    pattern.push('-');
                    pattern.push_str(&hex(last));
                    chars.next_if_eq(&']')?;
                } else {
                    while chars.next_if_eq(&']').is_none() {
                        pattern.push_str(&hex(class_char(&mut chars)?));
                    }
                }
                pattern.push(']');
            }
            c => pattern.push_str(&hex(c)),
        }
    }
    pattern.push_str(")$");
    (depth == 0).then_some(pattern)
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        ']' => None,
        c => Some(c),
    }
}
