//! Dates and durations, as Go reads them. Time zones and layouts stay with the engine, or out.

use regorus::Value;

use super::arguments::{Answer, Arguments, Own};

pub(super) const FUNCTIONS: [Own; 3] = [
    ("time.add_date", 4, add_date),
    ("time.parse_duration_ns", 1, duration),
    ("time.parse_rfc3339_ns", 1, rfc3339),
];

const DAY: i128 = 86_400_000_000_000;

/// Days since 1970 of a day in the calendar that holds for all times; the day may lie outside its month.
fn days(year: i64, month: i64, day: i64) -> i128 {
    let (year, month, day) = (i128::from(year), i128::from(month), i128::from(day));
    // Years that start in March: the odd month is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year = year.rem_euclid(400);
    era * 146_097 + year * 365 + year / 4 - year / 100 + of_year - 719_468
}

/// Year, month and day of the month.
fn date(days: i128) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i128::from(month <= 2);
    let small = |number: i128| i64::try_from(number).unwrap_or(0);
    (small(year), small(month), small(day))
}

fn nanoseconds(arguments: &Arguments<'_>, time: i128) -> Answer {
    match i64::try_from(time) {
        Ok(time) => Ok(Value::from(time)),
        Err(_) => Err(arguments.expects("a time between the years 1678 and 2262")),
    }
}

/// The 31st of a month that has none is a day of the next.
fn add_date(arguments: &Arguments<'_>) -> Answer {
    let time = i128::from(arguments.integer(0)?);
    let small = |at| {
        let number = arguments.integer(at)?;
        if number.unsigned_abs() > 1_000_000 {
            return Err(arguments.expects("at most a million years, months and days"));
        }
        Ok(number)
    };
    let (years, months, more) = (small(1)?, small(2)?, small(3)?);
    let (year, month, day) = date(time.div_euclid(DAY));
    let month = month - 1 + months;
    let (year, month) = (year + years + month.div_euclid(12), month.rem_euclid(12) + 1);
    let date = days(year, month, day + more);
    nanoseconds(arguments, date * DAY + time.rem_euclid(DAY))
}

fn duration(arguments: &Arguments<'_>) -> Answer {
    let wrong = || arguments.expects("a duration");
    let text = arguments.text(0)?;
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(Value::from(0));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(wrong());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => DAY,
            _ => return Err(wrong()),
        };
        let whole: i128 = format!("0{whole}").parse().map_err(|_| wrong())?;
        // Behind the fifteenth place there is nothing of a nanosecond.
        let places: String = fraction.chars().take(15).collect();
        let scale = 10_i128.pow(u32::try_from(places.len()).unwrap_or(0));
        let part: i128 = format!("0{places}").parse().map_err(|_| wrong())?;
        let own = whole.checked_mul(unit).ok_or_else(wrong)?;
        total = total.checked_add(own + part * unit / scale).ok_or_else(wrong)?;
        rest = after;
    }
    let total = i64::try_from(if negative { -total } else { total }).map_err(|_| wrong())?;
    Ok(Value::from(total))
}

fn rfc3339(arguments: &Arguments<'_>) -> Answer {
    let time = read_rfc3339(arguments.text(0)?).ok_or_else(|| arguments.expects("a time of RFC 3339"))?;
    nanoseconds(arguments, time)
}

fn read_rfc3339(text: &str) -> Option<i128> {
    let (date, clock) = text.split_once('T')?;
    let fixed = |text: &str, width: usize| {
        let plain = text.len() == width && text.bytes().all(|digit| digit.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| plain)
    };
    let mut parts = date.split('-');
    let (year, month, day) = (
        fixed(parts.next()?, 4)?,
        fixed(parts.next()?, 2)?,
        fixed(parts.next()?, 2)?,
    );
    let is_month = (1..=12).contains(&month) && parts.next().is_none();
    let next_month = if month == 12 {
        days(year + 1, 1, 1)
    } else {
        days(year, month + 1, 1)
    };
    let start = days(year, month, 1);
    if !is_month || day < 1 || i128::from(day) > next_month - start {
        return None;
    }
    let end = clock.find(['Z', '+', '-'])?;
    let (clock, zone) = clock.split_at(end);
    let (clock, fraction) = match clock.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let hour = parts.next()?;
    // Go takes one digit, too.
    let hour = fixed(hour, 2).or_else(|| fixed(hour, 1))?;
    let (minute, second) = (fixed(parts.next()?, 2)?, fixed(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction: i128 = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            format!("{digits:0<9}").get(..9)?.parse().ok()?
        }
        Some(_) => return None,
    };
    let offset = match zone.strip_prefix(['+', '-']) {
        None if zone == "Z" => 0,
        None => return None,
        Some(zone_time) => {
            let (hours, minutes) = zone_time.split_once(':')?;
            let (hours, minutes) = (fixed(hours, 2)?, fixed(minutes, 2)?);
            if hours > 24 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let seconds = ((hour * 60 + minute - offset) * 60) + second;
    Some(days(year, month, day) * DAY + i128::from(seconds) * 1_000_000_000 + fraction)
}
