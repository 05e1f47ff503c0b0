//! What YAML 1.1 has a plain text for, as the parser that kubectl, Helm and Argo CD use reads it: `yes` and `010` are no texts there.
//!
//! Must never: take less for a word or a number than that parser does.

use serde_json::{Number, Value};

use super::options;

/// What a plain text is read as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    Text,
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
}

impl Word {
    /// What kubectl reads.
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Self::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            _ => match text.bytes().next() {
                // Behind a point, underscores stand where Go lets them.
                Some(b'.') if !is_between_digits(text) => Self::Text,
                Some(b'.' | b'+' | b'-' | b'0'..=b'9') => number(&text.replace('_', "")),
                _ => Self::Text,
            },
        }
    }

    /// Whether kubectl writes the very text that it read this as, as a key.
    pub(super) fn is_written_as(self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Null => false,
            Self::Bool(is) => text == is.to_string(),
            // Beyond, it takes none for a key.
            Self::Int(number) => i64::try_from(number).is_ok_and(|number| text == number.to_string()),
            Self::Float(number) if number.is_finite() => {
                // It writes as many digits as tell such short numbers apart, and exponents beyond these bounds.
                #[expect(clippy::cast_possible_truncation, reason = "kubectl does so")]
                let short = number as f32;
                (1e-4..1e6).contains(&short.abs()) && text == short.to_string()
            }
            Self::Float(_) => matches!(text, ".inf" | "-.inf" | ".nan"),
        }
    }

    /// Whether this is what is judged. What is large is the same number where the nearest one of double precision is.
    pub(super) fn is(self, judged: &Value) -> bool {
        let is_int = |number: &Number, int| {
            let read = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            read == Some(int)
        };
        match (self, judged) {
            (Self::Text, Value::String(_)) | (Self::Null, Value::Null) => true,
            (Self::Bool(word), Value::Bool(read)) => word == *read,
            (Self::Int(word), Value::Number(read)) => is_int(read, word),
            (Self::Float(word), Value::Number(read)) => read.as_f64() == Some(word),
            _ => false,
        }
    }
}

/// Whether what is judged where this stands plain may be something else than kubectl reads. Reading it costs more than looking.
pub(super) fn may_differ(text: &str) -> bool {
    const WORDS: [&str; 8] = ["y", "yes", "true", "on", "n", "no", "false", "off"];
    let is_of_a_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let behind_zero = unsigned.strip_prefix('0').and_then(|rest| rest.chars().next());
    let is_odd = behind_zero.is_some_and(|next| next != '.') || text.contains('_');
    match unsigned.chars().next() {
        Some('.' | '0'..='9' | '_') => is_odd && text.chars().all(is_of_a_number),
        _ => WORDS.iter().any(|word| word.eq_ignore_ascii_case(text)),
    }
}

/// What is judged where this stands plain.
pub(super) fn judged(text: &str) -> Value {
    if text.contains(char::is_whitespace) {
        return text.into();
    }
    // In a list, as it could be the border of a document without. What cannot be read is nothing that kubectl reads.
    let read = serde_saphyr::from_str_with_options::<(Value,)>(&format!("- {text}"), options());
    read.map_or(Value::Array(Vec::new()), |(value,)| value)
}

/// A number without its underscores, as Go's `strconv` reads it with any base.
fn number(text: &str) -> Word {
    let whole = whole(text).or_else(|| {
        let digits = text.strip_prefix("0b")?;
        i64::from_str_radix(digits, 2).ok().map(i128::from)
    });
    if let Some(whole) = whole {
        return Word::Int(whole);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Word::Float(number),
        _ => Word::Text,
    }
}

fn whole(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (radix, digits) = based(unsigned).unwrap_or_else(|| match unsigned.strip_prefix('0') {
        Some(rest) if !rest.is_empty() => (8, rest),
        _ => (10, unsigned),
    });
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, radix).ok()?);
    if unsigned.len() == text.len() {
        return Some(number);
    }
    let number = if text.starts_with('-') {
        number.checked_neg()?
    } else {
        number
    };
    i64::try_from(number).is_ok().then_some(number)
}

/// The base that a prefix tells, and the digits behind it.
fn based(digits: &str) -> Option<(u32, &str)> {
    let (prefix, digits) = digits.split_at_checked(2).filter(|(_, digits)| !digits.is_empty())?;
    match prefix {
        "0x" | "0X" => Some((16, digits)),
        "0o" | "0O" => Some((8, digits)),
        "0b" | "0B" => Some((2, digits)),
        _ => None,
    }
}

/// Whether each underscore stands between two digits.
fn is_between_digits(text: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit();
    let mut parts = text.split('_').peekable();
    while let Some(part) = parts.next() {
        if parts
            .peek()
            .is_some_and(|next| !part.ends_with(is_digit) || !next.starts_with(is_digit))
        {
            return false;
        }
    }
    true
}
