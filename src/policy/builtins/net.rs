//! Addresses and ranges, as Go reads them: an IPv4 address inside IPv6 is that IPv4 address, a leading zero is an error, and
//! bits behind the prefix count for nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use regorus::Value;

use super::arguments::{Answer, Arguments, Own, set};

pub(super) const FUNCTIONS: [Own; 6] = [
    ("net.cidr_contains", 2, contains),
    ("net.cidr_contains_matches", 2, contains_matches),
    ("net.cidr_intersects", 2, intersects),
    ("net.cidr_is_valid", 1, is_valid),
    ("net.cidr_merge", 1, merge),
    ("net.cidr_overlap", 2, contains),
];

/// First and last address; an IPv4 range has the bits of its addresses alone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Range {
    v6: bool,
    first: u128,
    last: u128,
}

impl Range {
    fn of(address: IpAddr, prefix: u32) -> Self {
        let (v6, bits, width) = match address {
            IpAddr::V4(address) => (false, u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (true, u128::from(address), 128),
        };
        let free = width - prefix.min(width);
        let mask = if free == 128 { u128::MAX } else { (1 << free) - 1 };
        Self {
            v6,
            first: bits & !mask,
            last: bits | mask,
        }
    }

    fn cidr(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let plain = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|digit| digit.is_ascii_digit());
        let prefix: u32 = prefix.parse().ok().filter(|_| plain)?;
        match address.parse().ok()? {
            IpAddr::V6(address) if prefix <= 128 => match address.to_ipv4_mapped() {
                Some(inner) if prefix >= 96 => Some(Self::of(IpAddr::V4(inner), prefix - 96)),
                // Go masks first, and what no longer looks like IPv4 is not.
                _ => Some(Self::of(IpAddr::V6(address), prefix)),
            },
            address @ IpAddr::V4(_) if prefix <= 32 => Some(Self::of(address, prefix)),
            _ => None,
        }
    }

    fn address(text: &str) -> Option<Self> {
        Some(match text.parse().ok()? {
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(inner) => Self::of(IpAddr::V4(inner), 32),
                None => Self::of(IpAddr::V6(address), 128),
            },
            address @ IpAddr::V4(_) => Self::of(address, 32),
        })
    }

    fn holds(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.first && other.last <= self.last
    }

    fn text(&self) -> String {
        let free = (self.last ^ self.first).count_ones();
        match self.v6 {
            true => format!("{}/{}", Ipv6Addr::from(self.first), 128 - free),
            false => {
                let first = u32::try_from(self.first).unwrap_or_default();
                format!("{}/{}", Ipv4Addr::from(first), 32_u32.saturating_sub(free))
            }
        }
    }
}

fn cidr(arguments: &Arguments<'_>, text: &str) -> anyhow::Result<Range> {
    Range::cidr(text).ok_or_else(|| arguments.expects("an address range"))
}

fn either(arguments: &Arguments<'_>, text: &str) -> anyhow::Result<Range> {
    match Range::address(text) {
        Some(range) => Ok(range),
        None => cidr(arguments, text),
    }
}

fn contains(arguments: &Arguments<'_>) -> Answer {
    let range = cidr(arguments, arguments.text(0)?)?;
    Ok(Value::from(range.holds(&either(arguments, arguments.text(1)?)?)))
}

fn intersects(arguments: &Arguments<'_>) -> Answer {
    let a = cidr(arguments, arguments.text(0)?)?;
    let b = cidr(arguments, arguments.text(1)?)?;
    Ok(Value::from(a.holds(&b) || b.holds(&a)))
}

fn is_valid(arguments: &Arguments<'_>) -> Answer {
    Ok(Value::from(
        matches!(arguments.get(0), Value::String(text) if Range::cidr(text).is_some()),
    ))
}

/// Ranges of an operand of `net.cidr_contains_matches`, each by its index, its key or itself.
fn matchable(arguments: &Arguments<'_>, at: usize, bare: bool) -> anyhow::Result<Vec<(Value, Range)>> {
    let one = |value: &Value| {
        let text = match value {
            Value::String(text) => text,
            Value::Array(items) => match items.first() {
                Some(Value::String(text)) => text,
                _ => return Err(arguments.expects("address ranges, or arrays that start with one")),
            },
            _ => return Err(arguments.expects("address ranges, or arrays that start with one")),
        };
        if bare {
            either(arguments, text)
        } else {
            cidr(arguments, text)
        }
    };
    match arguments.get(at) {
        value @ Value::String(_) => Ok(vec![(value.clone(), one(value)?)]),
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.map(|(at, item)| Ok((Value::from(at), one(item)?))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Ok((item.clone(), one(item)?))).collect(),
        Value::Object(fields) => fields.iter().map(|(key, item)| Ok((key.clone(), one(item)?))).collect(),
        _ => Err(arguments.expects("a string, an array, a set or an object")),
    }
}

/// Most pairs that are compared: each that matches is an array of its own.
const MAX_PAIRS: usize = 100_000;

fn contains_matches(arguments: &Arguments<'_>) -> Answer {
    let ranges = matchable(arguments, 0, false)?;
    let addresses = matchable(arguments, 1, true)?;
    if ranges.len().saturating_mul(addresses.len()) > MAX_PAIRS {
        return Err(arguments.expects("at most 100000 pairs of ranges and addresses"));
    }
    let pairs = ranges
        .iter()
        .flat_map(|range| addresses.iter().map(move |address| (range, address)));
    let matching = pairs.filter(|((_, range), (_, address))| range.holds(address));
    Ok(set(matching.map(|((range, _), (address, _))| {
        Value::from(vec![range.clone(), address.clone()])
    })))
}

/// The fewest ranges that hold the same addresses.
fn merge(arguments: &Arguments<'_>) -> Answer {
    let mut ranges = Vec::new();
    for text in arguments.texts(arguments.elements(0)?.into_iter())? {
        // OPA gives a bare address the prefix of its class, of 1981, and mixes what is IPv4 in two spellings.
        if text.to_ascii_lowercase().contains("ffff:") && text.contains('.') {
            return Err(arguments.expects("ranges of IPv4 as such"));
        }
        ranges.push(cidr(arguments, text)?);
    }
    let mapped = Range::of(IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()), 96);
    if ranges.iter().any(|range| !range.v6) && ranges.iter().any(|range| range.holds(&mapped)) {
        return Err(arguments.expects("ranges of IPv6 that hold none of IPv4"));
    }
    ranges.sort_unstable();
    let mut spans: Vec<Range> = Vec::new();
    for range in ranges {
        match spans.last_mut() {
            Some(last) if last.v6 == range.v6 && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
            }
            _ => spans.push(range),
        }
    }
    Ok(set(spans
        .into_iter()
        .flat_map(blocks)
        .map(|block| Value::from(block.text()))))
}

/// A span of addresses as ranges with a prefix, at most two for each bit.
fn blocks(span: Range) -> Vec<Range> {
    let mut blocks = Vec::new();
    let mut first = span.first;
    loop {
        let left = span.last - first;
        // Free bits: no more than the alignment of the first address, and no more addresses than are left.
        let room = if left == u128::MAX { 128 } else { (left + 1).ilog2() };
        let free = first.trailing_zeros().min(room);
        let mask = if free == 128 { u128::MAX } else { (1 << free) - 1 };
        let last = first | mask;
        blocks.push(Range {
            v6: span.v6,
            first,
            last,
        });
        if last >= span.last {
            return blocks;
        }
        first = last + 1;
    }
}
