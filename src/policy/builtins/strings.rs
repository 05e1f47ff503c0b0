//! Texts. OPA counts characters, as we do, but its `lower` and `upper` know only letters that become one letter.

use regorus::Value;

use super::arguments::{Answer, Arguments, Own};

pub(super) const FUNCTIONS: [Own; 11] = [
    ("concat", 2, concat),
    ("format_int", 2, format_int),
    ("indexof", 2, indexof),
    ("indexof_n", 2, indexof_n),
    ("lower", 1, lower),
    ("replace", 3, replace),
    ("strings.count", 2, count),
    ("strings.replace_n", 2, replace_n),
    ("strings.split_n", 3, split_n),
    ("substring", 3, substring),
    ("upper", 1, upper),
];

fn concat(arguments: &Arguments<'_>) -> Answer {
    let between = arguments.text(0)?;
    let texts = arguments.texts(arguments.elements(1)?.into_iter())?;
    let length = texts.iter().map(|text| text.len()).sum::<usize>();
    arguments.bounded(length.saturating_add(between.len().saturating_mul(texts.len())))?;
    Ok(Value::from(texts.join(between)))
}

fn format_int(arguments: &Arguments<'_>) -> Answer {
    let Value::Number(number) = arguments.get(0) else {
        return Err(arguments.expects("numeric argument"));
    };
    // OPA cuts towards zero and prints what is left.
    let whole = if number.is_positive() || number.is_integer() {
        number.floor()
    } else {
        number.ceil()
    };
    let Some(whole) = whole.as_i128() else {
        return Err(arguments.expects("a number of at most 127 bits"));
    };
    let sign = if whole < 0 { "-" } else { "" };
    let whole = whole.unsigned_abs();
    let digits = match arguments.integer(1) {
        Ok(2) => format!("{whole:b}"),
        Ok(8) => format!("{whole:o}"),
        Ok(10) => format!("{whole}"),
        Ok(16) => format!("{whole:x}"),
        _ => return Err(arguments.expects("base to be one of 2, 8, 10, 16")),
    };
    Ok(Value::from(sign.to_owned() + &digits))
}

/// Places, in characters, where the second text begins in the first.
fn places(arguments: &Arguments<'_>) -> anyhow::Result<Vec<usize>> {
    let (text, part) = (arguments.text(0)?, arguments.text(1)?);
    if part.is_empty() {
        return Err(arguments.expects("something to look for"));
    }
    let starts = text.char_indices().enumerate();
    let found = starts.filter(|(_, (byte, _))| text.get(*byte..).is_some_and(|rest| rest.starts_with(part)));
    Ok(found.map(|(at, _)| at).collect())
}

fn indexof(arguments: &Arguments<'_>) -> Answer {
    Ok(match places(arguments)?.first() {
        Some(at) => Value::from(*at),
        None => Value::from(-1i64),
    })
}

fn indexof_n(arguments: &Arguments<'_>) -> Answer {
    Ok(Value::from(
        places(arguments)?.into_iter().map(Value::from).collect::<Vec<_>>(),
    ))
}

fn lower(arguments: &Arguments<'_>) -> Answer {
    let one = |letter: char| letter.to_lowercase().next().unwrap_or(letter);
    Ok(Value::from(arguments.text(0)?.chars().map(one).collect::<String>()))
}

fn upper(arguments: &Arguments<'_>) -> Answer {
    let one = |letter: char| {
        let mut upper = letter.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) => upper,
            _ => single_upper(letter),
        }
    };
    Ok(Value::from(arguments.text(0)?.chars().map(one).collect::<String>()))
}

/// The one letter that Unicode's simple mapping has where its full mapping has several: Greek with iota subscript.
fn single_upper(letter: char) -> char {
    let shift = match u32::from(letter) {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => 9,
        _ => 0,
    };
    char::from_u32(u32::from(letter) + shift).unwrap_or(letter)
}

fn replace(arguments: &Arguments<'_>) -> Answer {
    let (text, old, new) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    if old.is_empty() && !text.is_ascii() {
        // OPA cuts the letters into bytes, which are no text any more.
        return Err(arguments.expects("something to replace"));
    }
    let places = text.matches(old).count();
    arguments.bounded(text.len().saturating_add(places.saturating_mul(new.len())))?;
    Ok(Value::from(text.replace(old, new)))
}

fn count(arguments: &Arguments<'_>) -> Answer {
    let (text, part) = (arguments.text(0)?, arguments.text(1)?);
    // Nothing is before each character, and at the end.
    Ok(Value::from(text.matches(part).count()))
}

/// At each place the first of the keys, in their order, and what was put in is not looked at again.
fn replace_n(arguments: &Arguments<'_>) -> Answer {
    let Value::Object(patterns) = arguments.get(0) else {
        return Err(arguments.expects("object argument"));
    };
    let text = arguments.text(1)?;
    let mut pairs = Vec::new();
    for (old, new) in patterns.iter() {
        pairs.push((arguments.text_of(old)?, arguments.text_of(new)?));
    }
    pairs.sort_unstable();
    if pairs.iter().any(|(old, _)| old.is_empty()) {
        return Err(arguments.expects("keys that are not empty"));
    }
    if pairs.len() > 1000 {
        return Err(arguments.expects("at most 1000 keys"));
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let found = pairs
            .iter()
            .find_map(|(old, new)| Some((rest.strip_prefix(old)?, *new)));
        if let Some((after, new)) = found {
            result.push_str(new);
            rest = after;
        } else {
            result.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
        arguments.bounded(result.len())?;
    }
    Ok(Value::from(result))
}

/// The first parts, or the last where the number is negative. Unlike Go's `SplitN` it leaves out the rest.
fn split_n(arguments: &Arguments<'_>) -> Answer {
    let (text, separator, wanted) = (arguments.text(0)?, arguments.text(1)?, arguments.integer(2)?);
    let parts: Vec<Value> = match separator {
        "" => text.chars().map(|c| Value::from(c.to_string())).collect(),
        _ => text.split(separator).map(Value::from).collect(),
    };
    let count = usize::try_from(wanted.unsigned_abs())
        .unwrap_or(usize::MAX)
        .min(parts.len());
    let (start, end) = if wanted < 0 {
        (parts.len() - count, parts.len())
    } else {
        (0, count)
    };
    Ok(Value::from(parts.get(start..end).unwrap_or_default().to_vec()))
}

fn substring(arguments: &Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    let (offset, length) = (arguments.integer(1)?, arguments.integer(2)?);
    let Ok(offset) = usize::try_from(offset) else {
        return Err(arguments.expects("an offset that is not negative"));
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Value::from(text.chars().skip(offset).take(length).collect::<String>()))
}
