//! Numbers, versions, quantities. Exact where OPA is exact: `sum` adds tenths as tenths.

use std::cmp::Ordering;

use anyhow::bail;
use regorus::Value;

use super::arguments::{Answer, Arguments, Own};

pub(super) const FUNCTIONS: [Own; 13] = [
    ("bits.and", 2, |arguments| {
        Ok(Value::from(bits(arguments, 0)? & bits(arguments, 1)?))
    }),
    ("bits.negate", 1, |arguments| Ok(Value::from(!bits(arguments, 0)?))),
    ("bits.or", 2, |arguments| {
        Ok(Value::from(bits(arguments, 0)? | bits(arguments, 1)?))
    }),
    ("bits.rsh", 2, shift_right),
    ("bits.xor", 2, |arguments| {
        Ok(Value::from(bits(arguments, 0)? ^ bits(arguments, 1)?))
    }),
    ("ceil", 1, ceil),
    ("floor", 1, floor),
    ("semver.compare", 2, compare),
    ("semver.is_valid", 1, is_valid),
    ("sum", 1, sum),
    ("to_number", 1, to_number),
    ("units.parse", 1, units),
    ("units.parse_bytes", 1, bytes),
];

/// An integer of at most 127 bits: none that a policy works with has more.
fn bits(arguments: &Arguments<'_>, at: usize) -> anyhow::Result<i128> {
    let whole = match arguments.get(at) {
        Value::Number(number) => Decimal::of(&Value::Number(number.clone())).and_then(Decimal::whole),
        _ => None,
    };
    whole.ok_or_else(|| arguments.expects("integer arguments of at most 127 bits"))
}

fn shift_right(arguments: &Arguments<'_>) -> Answer {
    let (number, by) = (bits(arguments, 0)?, bits(arguments, 1)?);
    let Ok(by) = u128::try_from(by) else {
        return Err(arguments.expects("a shift that is not negative"));
    };
    Ok(Value::from(number >> u32::try_from(by.min(127)).unwrap_or(127)))
}

/// What is left of a number when its fraction is cut off, where it has one.
fn cut(arguments: &Arguments<'_>) -> anyhow::Result<Option<f64>> {
    match arguments.get(0) {
        Value::Number(number) if number.is_integer() => Ok(None),
        Value::Number(number) => match number.as_f64() {
            Some(number) => Ok(Some(number.trunc())),
            None => Err(arguments.expects("a number that is not so long")),
        },
        _ => Err(arguments.expects("numeric argument")),
    }
}

/// OPA rounds what lies between -1 and 0 up to 1, and here it is followed.
fn ceil(arguments: &Arguments<'_>) -> Answer {
    Ok(match cut(arguments)? {
        None => arguments.get(0).clone(),
        Some(cut) if cut < 0.0 => Value::from(cut),
        Some(cut) => Value::from(cut + 1.0),
    })
}

/// OPA rounds what lies between -1 and 0 down to 0, and here it is followed.
fn floor(arguments: &Arguments<'_>) -> Answer {
    Ok(match cut(arguments)? {
        None => arguments.get(0).clone(),
        Some(cut) if cut < 0.0 => Value::from(cut - 1.0),
        Some(cut) => Value::from(cut.abs()),
    })
}

/// `digits` times ten to the power of `-places`.
#[derive(Clone, Copy, Debug)]
struct Decimal {
    digits: i128,
    places: u32,
}

impl Decimal {
    const ZERO: Self = Self { digits: 0, places: 0 };

    fn of(value: &Value) -> Option<Self> {
        value.to_json_str().ok().and_then(|text| Self::read(&text))
    }

    /// Sign, digits with at most one point, exponent. `None` also where it would not fit.
    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let unsigned = whole.strip_prefix(['+', '-']).unwrap_or(whole);
        let all_digits = unsigned
            .bytes()
            .chain(fraction.bytes())
            .all(|digit| digit.is_ascii_digit());
        if !all_digits || (unsigned.is_empty() && fraction.is_empty()) {
            return None;
        }
        let mut digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let mut places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
        while places < 0 {
            digits = digits.checked_mul(10)?;
            places += 1;
        }
        while places > 0 && digits % 10 == 0 {
            digits /= 10;
            places -= 1;
        }
        let places = u32::try_from(places).ok()?;
        Some(Self { digits, places })
    }

    fn plus(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let widen = |number: Self| number.digits.checked_mul(10_i128.checked_pow(places - number.places)?);
        Some(Self {
            digits: widen(self)?.checked_add(widen(other)?)?,
            places,
        })
    }

    fn times(self, other: Self) -> Option<Self> {
        Some(Self {
            digits: self.digits.checked_mul(other.digits)?,
            places: self.places.checked_add(other.places)?,
        })
    }

    fn whole(self) -> Option<i128> {
        let scale = 10_i128.checked_pow(self.places)?;
        (self.digits % scale == 0).then_some(self.digits / scale)
    }

    fn value(self) -> Option<Value> {
        match self.whole() {
            Some(whole) => Some(Value::from(whole)),
            None => format!("{}e-{}", self.digits, self.places)
                .parse::<f64>()
                .ok()
                .map(Value::from),
        }
    }
}

fn sum(arguments: &Arguments<'_>) -> Answer {
    let mut total = Decimal::ZERO;
    for item in arguments.elements(0)? {
        if !matches!(item, Value::Number(_)) {
            return Err(arguments.expects("numbers"));
        }
        let next = Decimal::of(item).and_then(|item| total.plus(item));
        total = next.ok_or_else(|| arguments.expects("numbers of at most 38 digits in all"))?;
    }
    total.value().ok_or_else(|| arguments.expects("numbers"))
}

fn to_number(arguments: &Arguments<'_>) -> Answer {
    Ok(match arguments.get(0) {
        Value::Null | Value::Bool(false) => Value::from(0u64),
        Value::Bool(true) => Value::from(1u64),
        number @ Value::Number(_) => number.clone(),
        Value::String(text) => {
            // JSON may have spaces around it, and objects that the engine takes for numbers.
            let plain = text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                && text.ends_with(|c: char| c.is_ascii_digit());
            match Value::from_json_str(text) {
                Ok(number @ Value::Number(_)) if plain => number,
                _ => bail!("could not parse string as number"),
            }
        }
        _ => return Err(arguments.expects("bool, number, string or null argument")),
    })
}

/// A version of semver.org; a `v` may stand before it.
struct Version<'a> {
    numbers: [i64; 3],
    before: &'a str,
}

impl<'a> Version<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let identifier = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        let (text, build) = text
            .split_once('+')
            .map_or((text, None), |(text, build)| (text, Some(build)));
        let (text, before) = text
            .split_once('-')
            .map_or((text, None), |(text, before)| (text, Some(before)));
        if build.is_some_and(|build| !build.split('.').all(identifier)) {
            return None;
        }
        let padded = |part: &str| part.len() > 1 && part.starts_with('0') && is_number(part);
        if before.is_some_and(|before| !before.split('.').all(|part| identifier(part) && !padded(part))) {
            return None;
        }
        let mut numbers = text.split('.').map(|part| {
            let plain = is_number(part) && (part.len() == 1 || !part.starts_with('0'));
            part.parse().ok().filter(|_| plain)
        });
        let three = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(Self {
            numbers: three,
            before: before.unwrap_or_default(),
        })
    }

    fn order(&self, other: &Self) -> Ordering {
        let by_numbers = self.numbers.cmp(&other.numbers);
        let by_presence = || match (self.before, other.before) {
            (a, b) if a == b => Some(Ordering::Equal),
            ("", _) => Some(Ordering::Greater),
            (_, "") => Some(Ordering::Less),
            _ => None,
        };
        if by_numbers != Ordering::Equal {
            return by_numbers;
        }
        if let Some(order) = by_presence() {
            return order;
        }
        let (mut ours, mut theirs) = (self.before.split('.'), other.before.split('.'));
        loop {
            let (a, b) = match (ours.next(), theirs.next()) {
                (Some(a), Some(b)) => (a, b),
                (None, None) => return Ordering::Equal,
                (Some(_), None) => return Ordering::Greater,
                (None, Some(_)) => return Ordering::Less,
            };
            let order = match (is_number(a), is_number(b)) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                // As OPA, which knows no number that is larger.
                (true, true) => a.parse().unwrap_or(i64::MAX).cmp(&b.parse().unwrap_or(i64::MAX)),
                (false, false) => a.cmp(b),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit())
}

fn compare(arguments: &Arguments<'_>) -> Answer {
    let version = |at| Version::read(arguments.text(at)?).ok_or_else(|| arguments.expects("semantic versions"));
    let order = version(0)?.order(&version(1)?);
    Ok(Value::from(i64::from(order as i8)))
}

fn is_valid(arguments: &Arguments<'_>) -> Answer {
    let valid = matches!(arguments.get(0), Value::String(text) if Version::read(text).is_some());
    Ok(Value::from(valid))
}

/// The number at the start of a quantity, and the unit behind it.
fn quantity<'a>(arguments: &Arguments<'_>, text: &'a str) -> anyhow::Result<(Decimal, &'a str)> {
    if text.contains(' ') {
        return Err(arguments.expects("a quantity without spaces"));
    }
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_sign = |at: usize| matches!(bytes.get(at), Some(b'+' | b'-'));
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' | b'.' | b'+' | b'-' => end += 1,
            b'e' | b'E' if is_sign(end + 1) => end += 2,
            b'e' | b'E' if is_digit(end + 1) => end += 1,
            _ => break,
        }
    }
    let (number, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let number = Decimal::read(number).ok_or_else(|| arguments.expects("a quantity of at most 38 digits"))?;
    Ok((number, unit))
}

/// Powers of a thousand and of 1024.
fn unit(letters: &str) -> Option<i128> {
    let mut chars = letters.chars();
    let power = "kmgtpe".find(chars.next()?)?;
    let power = u32::try_from(power).ok()? + 1;
    match chars.as_str() {
        "" => 1000_i128.checked_pow(power),
        "i" => 1024_i128.checked_pow(power),
        _ => None,
    }
}

fn scaled(arguments: &Arguments<'_>, number: Decimal, by: Option<i128>) -> anyhow::Result<Decimal> {
    let by = by.ok_or_else(|| arguments.expects("a quantity with a known unit"))?;
    let by = Decimal { digits: by, places: 0 };
    let scaled = number.times(by);
    scaled.ok_or_else(|| arguments.expects("a quantity of at most 38 digits"))
}

fn units(arguments: &Arguments<'_>) -> Answer {
    let text = arguments.text(0)?.replace('"', "");
    let (number, letters) = quantity(arguments, &text)?;
    let result = match letters {
        "" => number,
        "m" => Decimal {
            digits: number.digits,
            places: number.places + 3,
        },
        // Of the unit's first letter only `M` must be large: a small one alone is a thousandth.
        _ => scaled(arguments, number, unit(&letters.to_lowercase()))?,
    };
    // OPA keeps ten places behind the point.
    let Some(cut) = result.places.checked_sub(10).filter(|cut| *cut > 0) else {
        return result.value().ok_or_else(|| arguments.expects("a quantity"));
    };
    let scale = 10_i128
        .checked_pow(cut)
        .ok_or_else(|| arguments.expects("a quantity with fewer places"))?;
    let half = if result.digits < 0 { -(scale / 2) } else { scale / 2 };
    let digits = (result.digits.saturating_add(half)) / scale;
    let result = Decimal { digits, places: 10 };
    result.value().ok_or_else(|| arguments.expects("a quantity"))
}

fn bytes(arguments: &Arguments<'_>) -> Answer {
    let text = arguments.text(0)?.to_lowercase().replace('"', "");
    let (number, letters) = quantity(arguments, &text)?;
    let plain = letters.strip_suffix('b').unwrap_or(letters);
    let result = match letters {
        "" => number,
        _ => scaled(arguments, number, unit(plain))?,
    };
    let scale = 10_i128.checked_pow(result.places);
    let scale = scale.ok_or_else(|| arguments.expects("a quantity with fewer places"))?;
    Ok(Value::from(result.digits / scale))
}
