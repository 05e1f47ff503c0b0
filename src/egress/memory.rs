//! What is remembered of a name's addresses: added at once, removed late, and never for want of an answer.
//!
//! A name answers each question with some of its addresses, each replica of the DNS with others, and pods use what they were told a while ago:
//! what is opened is what any of them was told lately. Must never: let an address in that the answers' guard refuses, forget one because nobody
//! answered, or keep more of a name than its bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::answers::Closed;
use super::dns::Reply;
use crate::api::{LookUp, ResolvedAddress, ResolvedName};

/// How many addresses of a name are kept.
pub const MAX_REMEMBERED: usize = 100;
/// How many names of one workflow are resolved.
pub const MAX_NAMES: usize = 50;
/// How long an address is kept after it was last seen, where its TTL is no longer.
const KEPT: Duration = Duration::from_secs(3600);
/// Longest that a TTL is believed.
const MAX_TTL: u64 = 86400;
/// How old the record of an address's last being seen becomes before it is written again. An address is kept for that much longer.
const RECORDED: Duration = Duration::from_secs(900);
/// When a name is asked for again: as its TTL says, within these. No cache of CoreDNS has anything new to say before the first.
const SOONEST: Duration = Duration::from_secs(5);
const LATEST: Duration = Duration::from_secs(60);
/// The same of a name without an address.
const WITHOUT: Duration = Duration::from_secs(30);

/// What each replica of the DNS said of one name, by family. `None`: it did not answer.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// Of its addresses of IPv4.
    pub four: Vec<Option<Reply>>,
    /// Of its addresses of IPv6.
    pub six: Vec<Option<Reply>>,
}

impl Replies {
    fn all(&self) -> impl Iterator<Item = &Reply> {
        self.four.iter().chain(&self.six).flatten()
    }

    /// Whether anybody said which addresses of that one's family there are.
    fn tells_of(&self, address: &IpAddr) -> bool {
        let replies = match address {
            IpAddr::V4(_) => &self.four,
            IpAddr::V6(_) => &self.six,
        };
        let tells = |reply: &Reply| matches!(reply, Reply::Addresses(..) | Reply::Nothing | Reply::NoName);
        replies.iter().flatten().any(tells)
    }
}

/// How much is new in what is remembered.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum News {
    /// Nothing.
    None,
    /// When something was seen, or what came of a question. It can wait.
    Small,
    /// What may be reached.
    Addresses,
}

/// What is remembered of a name from now on. `admit` is the guard of [`super::Answers`]: it judges what was remembered anew, because a range
/// that is the cluster's today may not have been known as that yesterday.
pub fn remember(
    name: &str,
    before: Option<&ResolvedName>,
    replies: &Replies,
    admit: impl Fn(IpAddr) -> Result<IpAddr, Closed>,
    now: Timestamp,
) -> ResolvedName {
    let mut kept = BTreeMap::new();
    for old in before.iter().flat_map(|before| &before.addresses) {
        let Ok(address) = old.address.parse() else { continue };
        if admit(address) == Ok(address) {
            kept.insert(address, known_time(old, now));
        }
    }
    let (mut seen, mut refused) = (BTreeMap::new(), BTreeSet::new());
    let mut overflows = false;
    for reply in replies.all() {
        let Reply::Addresses(addresses, holds) = reply else {
            continue;
        };
        overflows |= addresses.len() > MAX_REMEMBERED;
        for answered in addresses {
            match admit(*answered) {
                Ok(address) => {
                    let longest = seen.entry(address).or_insert(*holds);
                    *longest = (*longest).max(*holds);
                }
                Err(_) => drop(refused.insert(*answered)),
            }
        }
    }
    kept.retain(|address, old| seen.contains_key(address) || !replies.tells_of(address) || !is_over(old, now));
    for (address, holds) in seen {
        let room = kept.len() < MAX_REMEMBERED;
        let ttl_seconds = holds.as_secs().min(MAX_TTL).try_into().unwrap_or_default();
        match kept.get_mut(&address) {
            Some(old) if since(&old.last_seen, now) < RECORDED => old.ttl_seconds = old.ttl_seconds.max(ttl_seconds),
            Some(old) => (old.ttl_seconds, old.last_seen) = (ttl_seconds, written(now)),
            None if room => {
                let new = ResolvedAddress {
                    address: address.to_string(),
                    ttl_seconds,
                    last_seen: written(now),
                };
                kept.insert(address, new);
            }
            None => overflows = true,
        }
    }
    ResolvedName {
        name: name.to_owned(),
        ipv4: outcome(&replies.four),
        ipv6: outcome(&replies.six),
        refused: refused.len().try_into().unwrap_or(i32::MAX),
        overflowed: overflowed(before.and_then(|before| before.overflowed.as_deref()), overflows, now),
        addresses: kept.into_values().collect(),
    }
}

/// How long to wait before a name is asked for again.
pub fn holds_for(replies: &Replies) -> Duration {
    let holds = replies.all().filter_map(|reply| match reply {
        Reply::Addresses(_, holds) => Some(*holds),
        _ => None,
    });
    holds.min().unwrap_or(WITHOUT).clamp(SOONEST, LATEST)
}

/// What is new. TTLs are not: a cache counts them down.
pub fn news(before: &[ResolvedName], after: &[ResolvedName]) -> News {
    let opened = |names: &[ResolvedName]| -> Vec<_> {
        let of = |name: &ResolvedName| {
            let addresses: Vec<_> = name.addresses.iter().map(|address| address.address.clone()).collect();
            let is_beyond = name.ipv4 == LookUp::BeyondBounds;
            (name.name.clone(), addresses, name.overflowed.is_some(), is_beyond)
        };
        names.iter().map(of).collect()
    };
    let told = |names: &[ResolvedName]| -> Vec<_> {
        let of = |name: &ResolvedName| {
            let seen: Vec<_> = name.addresses.iter().map(|address| address.last_seen.clone()).collect();
            (name.ipv4, name.ipv6, name.refused, name.overflowed.clone(), seen)
        };
        names.iter().map(of).collect()
    };
    match () {
        () if opened(before) != opened(after) => News::Addresses,
        () if told(before) != told(after) => News::Small,
        () => News::None,
    }
}

/// What came of asking all replicas.
fn outcome(replies: &[Option<Reply>]) -> LookUp {
    let some = |wanted: fn(&Reply) -> bool| replies.iter().flatten().any(wanted);
    match () {
        () if some(|reply| matches!(reply, Reply::Addresses(..))) => LookUp::Resolved,
        () if some(|reply| matches!(reply, Reply::Nothing)) => LookUp::NoAddress,
        () if some(|reply| matches!(reply, Reply::NoName)) => LookUp::NoName,
        () => LookUp::Failed,
    }
}

/// Since when there are more than fit; for as long as an address is kept after the last time.
fn overflowed(before: Option<&str>, overflows: bool, now: Timestamp) -> Option<String> {
    let age = before.map(|at| since(at, now));
    match (overflows, age) {
        (true, Some(age)) if age < RECORDED => before.map(str::to_owned),
        (true, _) => Some(written(now)),
        (false, Some(age)) if age < KEPT => before.map(str::to_owned),
        (false, _) => None,
    }
}

/// The same, seen now where the time is none or is still to come: by a clock that was wrong, it would be kept for ever.
fn known_time(old: &ResolvedAddress, now: Timestamp) -> ResolvedAddress {
    let is_past = |at: Timestamp| at <= now;
    let last_seen = match old.last_seen.parse().is_ok_and(is_past) {
        true => old.last_seen.clone(),
        false => written(now),
    };
    ResolvedAddress {
        last_seen,
        ..old.clone()
    }
}

fn is_over(old: &ResolvedAddress, now: Timestamp) -> bool {
    let ttl = Duration::from_secs(old.ttl_seconds.try_into().unwrap_or_default());
    since(&old.last_seen, now) >= ttl.max(KEPT) + RECORDED
}

/// How long ago that was; not at all where it cannot be read, or is still to come.
fn since(at: &str, now: Timestamp) -> Duration {
    let at = at.parse().unwrap_or(now);
    now.duration_since(at).try_into().unwrap_or_default()
}

fn written(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use rstest::rstest;

    use super::super::answers::Answers;
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
    }

    fn addresses(seconds: u64, texts: &[&str]) -> Option<Reply> {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        Some(Reply::Addresses(addresses, Duration::from_secs(seconds)))
    }

    fn four(replies: &[Option<Reply>]) -> Replies {
        Replies {
            four: replies.to_vec(),
            six: vec![Some(Reply::Nothing)],
        }
    }

    fn next(before: Option<&ResolvedName>, replies: &Replies, minute: i64) -> ResolvedName {
        let admit = |address| Answers::default().admit(address, &["25.0.0.0/8".parse::<IpNet>().unwrap()]);
        remember("a.example", before, replies, admit, at(minute))
    }

    fn kept(name: &ResolvedName) -> Vec<&str> {
        name.addresses.iter().map(|address| address.address.as_str()).collect()
    }

    #[test]
    fn what_any_replica_answers_is_added_at_once_and_what_is_not_answered_goes_late() {
        let first = next(None, &four(&[addresses(0, &["1.1.1.1", "1.1.1.2"]), None]), 0);
        assert_eq!(kept(&first), ["1.1.1.1", "1.1.1.2"]);
        let both = four(&[addresses(0, &["1.1.1.2"]), addresses(30, &["1.1.1.3"])]);
        let second = next(Some(&first), &both, 1);
        assert_eq!(kept(&second), ["1.1.1.1", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(news(&[first], std::slice::from_ref(&second)), News::Addresses);
        // Within the hour, and the quarter by which the record may be late, it may come back.
        let one = four(&[addresses(0, &["1.1.1.2"])]);
        let third = next(Some(&second), &one, 74);
        assert_eq!(kept(&third), ["1.1.1.1", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(kept(&next(Some(&third), &one, 75)), ["1.1.1.2", "1.1.1.3"]);
        assert_eq!(kept(&next(Some(&third), &one, 76)), ["1.1.1.2"]);
    }

    #[test]
    fn a_long_ttl_keeps_an_address_for_longer_and_one_that_is_not_to_be_believed_for_a_day() {
        let first = next(
            None,
            &four(&[addresses(7200, &["1.1.1.1"]), addresses(u64::MAX, &["1.1.1.2"])]),
            0,
        );
        let empty = four(&[Some(Reply::Nothing)]);
        assert_eq!(kept(&next(Some(&first), &empty, 134)), ["1.1.1.1", "1.1.1.2"]);
        assert_eq!(kept(&next(Some(&first), &empty, 135)), ["1.1.1.2"]);
        assert!(kept(&next(Some(&first), &empty, 24 * 60 + 15)).is_empty());
    }

    #[rstest]
    #[case::failed(Some(Reply::Failed(2)), LookUp::Failed, true)]
    #[case::nobody(None, LookUp::Failed, true)]
    #[case::cut(Some(Reply::Truncated), LookUp::Failed, true)]
    #[case::no_name(Some(Reply::NoName), LookUp::NoName, false)]
    #[case::no_address(Some(Reply::Nothing), LookUp::NoAddress, false)]
    fn nothing_goes_because_nobody_could_tell(#[case] reply: Option<Reply>, #[case] said: LookUp, #[case] stays: bool) {
        let before = next(None, &four(&[addresses(60, &["1.1.1.1"])]), 0);
        let replies = four(&[reply]);
        let soon = next(Some(&before), &replies, 60);
        assert_eq!((kept(&soon), soon.ipv4), (vec!["1.1.1.1"], said));
        let late = next(Some(&before), &replies, 60 * 24 * 30);
        assert_eq!(late.addresses.len(), usize::from(stays));
    }

    #[test]
    fn families_are_apart() {
        let both = Replies {
            four: vec![addresses(60, &["1.1.1.1"])],
            six: vec![addresses(60, &["2606:2800::1"])],
        };
        let before = next(None, &both, 0);
        assert_eq!(kept(&before), ["1.1.1.1", "2606:2800::1"]);
        let only_four = Replies {
            four: vec![addresses(60, &["1.1.1.9"])],
            six: vec![Some(Reply::Failed(2))],
        };
        let after = next(Some(&before), &only_four, 600);
        assert_eq!(kept(&after), ["1.1.1.9", "2606:2800::1"]);
        assert_eq!((after.ipv4, after.ipv6), (LookUp::Resolved, LookUp::Failed));
    }

    /// Whoever holds a name says what its addresses are: now this, and now that.
    #[test]
    fn what_leads_inside_is_never_remembered() {
        let inside = [
            "10.96.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "25.1.2.3",
            "192.168.0.1",
            "0.0.0.0",
        ];
        let replies = Replies {
            four: vec![addresses(60, &inside), addresses(60, &["1.1.1.1"])],
            six: vec![addresses(
                60,
                &[
                    "::1",
                    "fd00:ec2::254",
                    "fe80::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::1901:203",
                ],
            )],
        };
        let first = next(None, &replies, 0);
        assert_eq!((kept(&first), first.refused), (vec!["1.1.1.1"], 12));
        let rebound = next(Some(&first), &four(&[addresses(0, &["10.0.0.1"])]), 1);
        assert_eq!((kept(&rebound), rebound.refused), (vec!["1.1.1.1"], 1));
        // A range that the cluster takes afterwards.
        let admit = |address| Answers::default().admit(address, &["1.0.0.0/8".parse::<IpNet>().unwrap()]);
        let taken = remember("a.example", Some(&rebound), &Replies::default(), admit, at(2));
        assert!(kept(&taken).is_empty());
    }

    #[test]
    fn a_name_with_many_addresses_keeps_a_hundred_and_says_so_while_it_lasts() {
        let texts = |from: u16, count: u16| -> Vec<String> {
            (from..from + count)
                .map(|number| format!("1.2.{}.{}", number >> 8, number & 255))
                .collect()
        };
        let reply = |texts: &[String]| addresses(0, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        // A rotating subset at a time, of five hundred in all.
        let mut name = None;
        for turn in 0..50 {
            let replies = four(&[reply(&texts(turn * 10, 10))]);
            name = Some(next(name.as_ref(), &replies, turn.into()));
            let now = name.as_ref().unwrap();
            assert_eq!(now.addresses.len(), usize::from(turn + 1).min(10) * 10);
            assert_eq!(now.overflowed.is_some(), turn >= 10);
        }
        let few = four(&[reply(&texts(0, 10))]);
        let name = next(name.as_ref(), &few, 60 * 3);
        assert_eq!((name.addresses.len(), name.overflowed.clone()), (10, None));
        // All at once, as far as an answer is read.
        let all = next(None, &four(&[reply(&texts(0, 101))]), 0);
        assert_eq!((all.addresses.len(), all.overflowed.is_some()), (MAX_REMEMBERED, true));
    }

    #[test]
    fn what_stays_as_it_is_is_written_four_times_an_hour() {
        let replies = |ttl| four(&[addresses(ttl, &["1.1.1.1", "1.1.1.2"])]);
        let mut name = next(None, &replies(30), 0);
        let mut writes = 0;
        for minute in 1..=120 {
            let after = next(Some(&name), &replies(u64::try_from(minute % 30).unwrap()), minute);
            match news(std::slice::from_ref(&name), std::slice::from_ref(&after)) {
                News::None => {}
                News::Small => writes += 1,
                News::Addresses => panic!("{after:?}"),
            }
            name = after;
        }
        assert_eq!(writes, 8);
    }

    #[test]
    fn a_time_that_cannot_be_is_now() {
        let mut before = next(None, &four(&[addresses(60, &["1.1.1.1", "1.1.1.2"])]), 0);
        before.addresses[0].last_seen = "9000-01-01T00:00:00Z".to_owned();
        before.addresses[1].last_seen = "soon".to_owned();
        let gone = four(&[Some(Reply::NoName)]);
        let after = next(Some(&before), &gone, 5);
        let times: Vec<_> = after
            .addresses
            .iter()
            .map(|address| address.last_seen.clone())
            .collect();
        assert_eq!(times, [written(at(5)), written(at(5))]);
        assert!(kept(&next(Some(&after), &gone, 5 + 75)).is_empty());
    }

    #[rstest]
    #[case::ttl(addresses(20, &["1.1.1.1"]), 20)]
    #[case::none(addresses(0, &["1.1.1.1"]), 5)]
    #[case::long(addresses(86400, &["1.1.1.1"]), 60)]
    #[case::failed(Some(Reply::Failed(2)), 30)]
    fn names_are_asked_for_again_in_time(#[case] reply: Option<Reply>, #[case] seconds: u64) {
        assert_eq!(holds_for(&four(&[reply])).as_secs(), seconds);
    }
}
