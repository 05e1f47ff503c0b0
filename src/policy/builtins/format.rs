//! `sprintf`, as Go's `fmt` prints what OPA hands it: integers, fractions, and everything else as text.
//!
//! What fits no verb is not an error in Go but `%!d(string=a)`, and so it is here. What is not known here is an error, never
//! another text than OPA's.

use std::borrow::Cow;

use regorus::Value;

use super::arguments::{Answer, Arguments, Own};

pub(super) const FUNCTIONS: [Own; 1] = [("sprintf", 2, sprintf)];

/// Widest field and longest fraction: Go stops at a million, and nobody reads a thousand.
const MAX_WIDTH: usize = 1000;

enum Argument<'a> {
    Integer(i64),
    /// Beyond 63 bits.
    Big(u64),
    Fraction(f64),
    Text(Cow<'a, str>),
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

impl Flags {
    fn any(&self) -> bool {
        self.minus || self.plus || self.space || self.zero || self.width.is_some() || self.precision.is_some()
    }

    fn pad(&self, text: &str, numeric: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        if self.minus {
            return text.to_owned() + &" ".repeat(missing);
        }
        match text.strip_prefix(['-', '+', ' ']).filter(|_| self.zero && numeric) {
            Some(digits) => {
                let sign = text.get(..1).unwrap_or_default();
                format!("{sign}{}{digits}", "0".repeat(missing))
            }
            None => (if self.zero { "0" } else { " " }).repeat(missing) + text,
        }
    }

    fn signed(&self, digits: String, negative: bool) -> String {
        let sign = match negative {
            true => "-",
            false if self.plus => "+",
            false if self.space => " ",
            false => "",
        };
        self.pad(&format!("{sign}{digits}"), true)
    }
}

fn sprintf(arguments: &Arguments<'_>) -> Answer {
    let format = arguments.text(0)?;
    let values = arguments.array(1)?;
    let mut values = values.into_iter();
    let mut result = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.next_if(|c| "-+ 0".contains(*c)) {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
        }
        let unsupported = || arguments.expects("verbs with no more than flags, width and precision");
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            match digits.as_str() {
                "" => Ok(None),
                _ => match digits.parse() {
                    Ok(number) if number <= MAX_WIDTH => Ok(Some(number)),
                    _ => Err(arguments.expects("a width of at most 1000")),
                },
            }
        };
        flags.width = number(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut chars)?.unwrap_or(0));
        }
        match chars.next() {
            None => result.push_str("%!(NOVERB)"),
            Some('#' | '*' | '[') => return Err(unsupported()),
            Some('%') if !flags.any() => result.push('%'),
            Some('%') => return Err(unsupported()),
            Some(verb) => match values.next() {
                None => result.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => {
                    arguments.writable(value)?;
                    let printed = print(verb, &flags, &argument(value).ok_or_else(|| no_form(arguments))?);
                    result.push_str(&printed.ok_or_else(unsupported)?);
                }
            },
        }
        arguments.bounded(result.len())?;
    }
    let mut extra = Vec::new();
    for value in values {
        arguments.writable(value)?;
        arguments.bounded(extra.iter().map(String::len).sum())?;
        let value = argument(value).ok_or_else(|| no_form(arguments))?;
        extra.push(format!("{}={}", kind(&value), plain(&value)));
    }
    if !extra.is_empty() {
        result.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    arguments.bounded(result.len())?;
    Ok(Value::from(result))
}

/// OPA prints such numbers as they were written, and that is not known any more.
fn no_form(arguments: &Arguments<'_>) -> anyhow::Error {
    arguments.expects("numbers that are written in one way only: integers of at most 64 bits, and no tiny fractions")
}

fn argument(value: &Value) -> Option<Argument<'_>> {
    Some(match value {
        Value::Number(number) if number.is_integer() => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Argument::Integer(number),
            (None, Some(number)) => Argument::Big(number),
            (None, None) => return None,
        },
        Value::Number(number) => Argument::Fraction(number.as_f64()?),
        Value::String(text) => Argument::Text(Cow::Borrowed(text)),
        _ => {
            let mut text = String::new();
            write(value, &mut text)?;
            Argument::Text(Cow::Owned(text))
        }
    })
}

/// As OPA writes a value.
fn write(value: &Value, out: &mut String) -> Option<()> {
    let all = |items: &mut dyn Iterator<Item = &Value>, out: &mut String| {
        for (at, item) in items.enumerate() {
            if at > 0 {
                out.push_str(", ");
            }
            write(item, out)?;
        }
        Some(())
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => match argument(value)? {
            Argument::Fraction(fraction) if fraction.abs() < 1e-5 || fraction.abs() >= 1e15 => return None,
            _ => out.push_str(&number.format_decimal()),
        },
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            all(&mut items.iter(), out)?;
            out.push(']');
        }
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => {
            out.push('{');
            all(&mut items.iter(), out)?;
            out.push('}');
        }
        Value::Object(fields) => {
            out.push('{');
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort();
            for (at, (key, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write(key, out)?;
                out.push_str(": ");
                write(value, out)?;
            }
            out.push('}');
        }
        Value::Undefined => return None,
    }
    Some(())
}

/// Go's `strconv.Quote`.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if is_printable(c) => out.push(c),
            c if c.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

fn is_printable(c: char) -> bool {
    // Behind another letter, where a combining mark is printed and not escaped.
    c == '\'' || !format!("a{c}").escape_debug().to_string().contains('\\')
}

fn kind(value: &Argument<'_>) -> &'static str {
    match value {
        Argument::Integer(_) => "int64",
        Argument::Big(_) => "*big.Int",
        Argument::Fraction(_) => "float64",
        Argument::Text(_) => "string",
    }
}

fn plain(value: &Argument<'_>) -> String {
    match value {
        Argument::Integer(number) => number.to_string(),
        Argument::Big(number) => number.to_string(),
        Argument::Fraction(number) => shortest(*number),
        Argument::Text(text) => text.to_string(),
    }
}

/// `None` where Go does something that is not known here.
fn print(verb: char, flags: &Flags, value: &Argument<'_>) -> Option<String> {
    let bad = || (!flags.any()).then(|| format!("%!{verb}({}={})", kind(value), plain(value)));
    if verb == 'T' {
        return Some(flags.pad(kind(value), false)).filter(|_| flags.precision.is_none());
    }
    match value {
        Argument::Text(text) => {
            let signs = flags.plus || flags.space;
            let cut: String = match flags.precision {
                Some(precision) => text.chars().take(precision).collect(),
                None => text.to_string(),
            };
            match verb {
                's' | 'v' => Some(flags.pad(&cut, false)),
                'q' if !signs => {
                    let mut quoted = String::new();
                    quote(&cut, &mut quoted);
                    Some(flags.pad(&quoted, false))
                }
                'x' if !flags.any() => Some(text.bytes().map(|byte| format!("{byte:02x}")).collect()),
                'X' if !flags.any() => Some(text.bytes().map(|byte| format!("{byte:02X}")).collect()),
                'x' | 'X' | 'q' => None,
                _ => bad(),
            }
        }
        Argument::Integer(number) => integer(verb, flags, number.unsigned_abs(), *number < 0).unwrap_or_else(bad),
        Argument::Big(number) if "dvxXob".contains(verb) => integer(verb, flags, *number, false).unwrap_or_else(bad),
        Argument::Big(_) => None,
        Argument::Fraction(number) => {
            let negative = number.is_sign_negative();
            let size = number.abs();
            let digits = match (verb, flags.precision) {
                ('v' | 'g', None) => shortest(size),
                ('G', None) => shortest(size).replace('e', "E"),
                ('f' | 'F', precision) => format!("{size:.*}", precision.unwrap_or(6)),
                ('e', precision) => exponent(&format!("{size:.*e}", precision.unwrap_or(6))),
                ('E', precision) => exponent(&format!("{size:.*e}", precision.unwrap_or(6))).replace('e', "E"),
                ('v' | 'g' | 'G' | 'x' | 'X' | 'b', _) => return None,
                _ => return bad(),
            };
            Some(flags.signed(digits, negative))
        }
    }
}

/// The outer `None`: the verb is not for integers. The inner: it is, and not known here.
fn integer(verb: char, flags: &Flags, size: u64, negative: bool) -> Option<Option<String>> {
    let digits = match verb {
        'd' | 'v' => size.to_string(),
        'x' => format!("{size:x}"),
        'X' => format!("{size:X}"),
        'o' => format!("{size:o}"),
        'O' => format!("0o{size:o}"),
        'b' => format!("{size:b}"),
        'c' if !flags.any() && !negative => {
            let c = u32::try_from(size).ok().and_then(char::from_u32);
            return Some(Some(c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()));
        }
        'U' if !flags.any() && !negative => return Some(Some(format!("U+{size:04X}"))),
        // Whether `100` was written `100.0` is not known any more.
        'c' | 'U' | 'q' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => return Some(None),
        _ => return None,
    };
    if flags.precision.is_some() || (verb == 'O' && flags.any()) {
        return Some(None);
    }
    Some(Some(flags.signed(digits, negative)))
}

/// Go's `%g` with the fewest digits that say the number.
fn shortest(number: f64) -> String {
    let scientific = format!("{number:e}");
    let power: i32 = scientific
        .split_once('e')
        .and_then(|(_, power)| power.parse().ok())
        .unwrap_or(0);
    if (-4..6).contains(&power) {
        number.to_string()
    } else {
        exponent(&scientific)
    }
}

/// Go's exponent has a sign and two digits.
fn exponent(scientific: &str) -> String {
    let (digits, power) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}
