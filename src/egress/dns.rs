//! Questions to a resolver, and what it answers.
//!
//! Must never: believe an answer to another question, or an address that does not belong to the name that was asked for.

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Aaaa, Cname};

use super::domain::Host;

/// What a resolver may send in one datagram without its being taken apart on the way.
const DATAGRAM: u16 = 1232;
/// How many names may stand for each other, one after the other.
const MAX_ALIASES: usize = 16;
/// How many addresses of a name are kept unless more are asked for. A connection tries few of them.
pub const MAX_ADDRESSES: usize = 32;
/// How many records of an answer are looked at.
const MAX_RECORDS: usize = 512;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    const fn record(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub struct Question {
    host: Host,
    family: Family,
    id: u16,
    most: usize,
}

/// What a resolver says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// The addresses, and for how long they hold.
    Addresses(Vec<IpAddr>, Duration),
    /// The name is there and has no address of this family.
    Nothing,
    /// There is no such name.
    NoName,
    /// More than a datagram holds: to be asked again by TCP.
    Truncated,
    /// It could not tell, by this code of its own.
    Failed(u8),
}

/// It answers something else, or cannot be read: what is waited for may still come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAnAnswer;

impl Question {
    /// `id` must be one that nobody can guess.
    pub fn new(host: &Host, family: Family, id: u16) -> Self {
        Self {
            host: host.clone(),
            family,
            id,
            most: MAX_ADDRESSES,
        }
    }

    /// The same, of which so many addresses are kept.
    pub fn keeping(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// As a message. `None` cannot be: every host is a name.
    pub fn ask(&self) -> Option<Vec<u8>> {
        let name = Name::<Vec<u8>>::vec_from_str(self.host.as_str()).ok()?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(self.id);
        message.header_mut().set_rd(true);
        let mut question = message.question();
        question.push((&name, self.family.record())).ok()?;
        let mut additional = question.additional();
        let sized = additional.opt(|options| {
            options.set_udp_payload_size(DATAGRAM);
            Ok(())
        });
        sized.ok()?;
        Some(additional.finish())
    }

    /// Reads a message that may be the answer.
    pub fn read(&self, bytes: &[u8]) -> Result<Reply, NotAnAnswer> {
        let message = Message::from_octets(bytes).map_err(|_| NotAnAnswer)?;
        let header = message.header();
        if !header.qr() || header.id() != self.id {
            return Err(NotAnAnswer);
        }
        let question = message.sole_question().map_err(|_| NotAnAnswer)?;
        let is_ours = question.qtype() == self.family.record() && question.qclass() == Class::IN;
        if !is_ours || plain(question.qname()) != self.host.as_str() {
            return Err(NotAnAnswer);
        }
        match header.rcode() {
            _ if header.tc() => Ok(Reply::Truncated),
            Rcode::NOERROR => self.addresses(&message),
            Rcode::NXDOMAIN => Ok(Reply::NoName),
            failed => Ok(Reply::Failed(failed.to_int())),
        }
    }

    fn addresses(&self, message: &Message<&[u8]>) -> Result<Reply, NotAnAnswer> {
        let records = read_records(message)?;
        let (mut name, mut seconds) = (self.host.as_str(), u32::MAX);
        for _ in 0..MAX_ALIASES {
            let alias = records.iter().find_map(|record| match &record.data {
                Data::Alias(of) if record.owner == name => Some((of.as_str(), record.seconds)),
                _ => None,
            });
            let Some((of, holds)) = alias else { break };
            (name, seconds) = (of, seconds.min(holds));
        }
        let of_name = records.iter().filter(|record| record.owner == name);
        let mut addresses = Vec::new();
        for record in of_name {
            let Data::Address(address) = record.data else { continue };
            if address.is_ipv4() == (self.family == Family::V4) && addresses.len() < self.most {
                addresses.push(address);
                seconds = seconds.min(record.seconds);
            }
        }
        Ok(match addresses.is_empty() {
            true => Reply::Nothing,
            false => Reply::Addresses(addresses, Duration::from_secs(seconds.into())),
        })
    }
}

struct Found {
    owner: String,
    seconds: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(String),
}

/// Addresses and aliases of the answer itself: what else a message holds is not what was asked for.
fn read_records(message: &Message<&[u8]>) -> Result<Vec<Found>, NotAnAnswer> {
    let mut found = Vec::new();
    for record in message.answer().map_err(|_| NotAnAnswer)?.take(MAX_RECORDS) {
        let record = record.map_err(|_| NotAnAnswer)?;
        if record.class() != Class::IN {
            continue;
        }
        let data = match record.rtype() {
            Rtype::A => {
                let read = record.to_record::<A>().map_err(|_| NotAnAnswer)?;
                read.map(|record| Data::Address(record.data().addr().into()))
            }
            Rtype::AAAA => {
                let read = record.to_record::<Aaaa>().map_err(|_| NotAnAnswer)?;
                read.map(|record| Data::Address(record.data().addr().into()))
            }
            Rtype::CNAME => {
                let read = record.to_record::<Cname<_>>().map_err(|_| NotAnAnswer)?;
                read.map(|record| Data::Alias(plain(record.data().cname())))
            }
            _ => None,
        };
        found.extend(data.map(|data| Found {
            owner: plain(record.owner()),
            seconds: record.ttl().as_secs(),
            data,
        }));
    }
    Ok(found)
}

/// A name as it is compared. What is no plain letter in it is written as an escape, and equals no host.
fn plain(name: impl std::fmt::Display) -> String {
    let name = name.to_string().to_ascii_lowercase();
    match name.strip_suffix('.') {
        Some(name) => name.to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use domain::base::message_builder::AnswerBuilder;
    use domain::base::{Record, Ttl};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const ID: u16 = 4711;

    fn question(family: Family) -> Question {
        Question::new(&Host::named("a.example").unwrap(), family, ID)
    }

    fn name(text: &str) -> Name<Vec<u8>> {
        Name::vec_from_str(text).unwrap()
    }

    fn answer(question: &Question, code: Rcode) -> AnswerBuilder<Vec<u8>> {
        let asked = question.ask().unwrap();
        let asked = Message::from_octets(asked).unwrap();
        MessageBuilder::new_vec().start_answer(&asked, code).unwrap()
    }

    fn address(owner: &str, seconds: u32, address: [u8; 4]) -> Record<Name<Vec<u8>>, A> {
        let [a, b, c, d] = address;
        Record::new(
            name(owner),
            Class::IN,
            Ttl::from_secs(seconds),
            A::from_octets(a, b, c, d),
        )
    }

    fn alias(owner: &str, seconds: u32, of: &str) -> Record<Name<Vec<u8>>, Cname<Name<Vec<u8>>>> {
        Record::new(name(owner), Class::IN, Ttl::from_secs(seconds), Cname::new(name(of)))
    }

    #[test]
    fn addresses_belong_to_the_name() {
        let question = question(Family::V4);
        let mut answer = answer(&question, Rcode::NOERROR);
        answer.push(address("A.Example", 60, [192, 0, 2, 1])).unwrap();
        answer.push(address("b.example", 1, [192, 0, 2, 2])).unwrap();
        answer.push(address("a.example", 30, [192, 0, 2, 3])).unwrap();
        let expected = ["192.0.2.1", "192.0.2.3"].map(|address| address.parse().unwrap());
        let read = question.read(&answer.finish());
        assert_eq!(read, Ok(Reply::Addresses(expected.into(), Duration::from_secs(30))));
    }

    #[test]
    fn aliases_are_followed_within_the_answer() {
        let question = question(Family::V4);
        let mut answer = answer(&question, Rcode::NOERROR);
        answer.push(address("c.example", 60, [192, 0, 2, 1])).unwrap();
        answer.push(alias("b.example", 5, "c.example")).unwrap();
        answer.push(alias("a.example", 90, "b.example")).unwrap();
        let read = question.read(&answer.finish());
        let expected = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(read, Ok(Reply::Addresses(expected, Duration::from_secs(5))));
    }

    #[rstest]
    #[case::themselves(&[("a.example", "a.example")])]
    #[case::each_other(&[("a.example", "b.example"), ("b.example", "a.example")])]
    #[case::nothing(&[("a.example", "b.example")])]
    fn aliases_that_lead_nowhere_end(#[case] aliases: &[(&str, &str)]) {
        let question = question(Family::V4);
        let mut answer = answer(&question, Rcode::NOERROR);
        for (owner, of) in aliases {
            answer.push(alias(owner, 5, of)).unwrap();
        }
        assert_eq!(question.read(&answer.finish()), Ok(Reply::Nothing));
    }

    #[rstest]
    #[case::no_name(Rcode::NXDOMAIN, Reply::NoName)]
    #[case::failed(Rcode::SERVFAIL, Reply::Failed(2))]
    #[case::refused(Rcode::REFUSED, Reply::Failed(5))]
    #[case::nothing(Rcode::NOERROR, Reply::Nothing)]
    fn a_resolver_says_why_there_is_nothing(#[case] code: Rcode, #[case] expected: Reply) {
        let question = question(Family::V6);
        assert_eq!(question.read(&answer(&question, code).finish()), Ok(expected));
    }

    #[test]
    fn what_is_cut_off_is_asked_again() {
        let question = question(Family::V4);
        let mut answer = answer(&question, Rcode::NOERROR);
        answer.push(address("a.example", 60, [192, 0, 2, 1])).unwrap();
        answer.header_mut().set_tc(true);
        assert_eq!(question.read(&answer.finish()), Ok(Reply::Truncated));
    }

    #[test]
    fn another_question_is_not_answered() {
        let ours = question(Family::V4);
        let of = |host: &str, family, id| Question::new(&Host::named(host).unwrap(), family, id);
        for other in [
            of("b.example", Family::V4, ID),
            of("a.example", Family::V6, ID),
            of("a.example", Family::V4, ID + 1),
        ] {
            assert_eq!(
                ours.read(&answer(&other, Rcode::NXDOMAIN).finish()),
                Err(NotAnAnswer),
                "{other:?}"
            );
        }
        // The question itself, come back.
        assert_eq!(ours.read(&ours.ask().unwrap()), Err(NotAnAnswer));
    }

    #[test]
    fn many_addresses_are_few_enough() {
        let question = question(Family::V4);
        let mut answer = answer(&question, Rcode::NOERROR);
        for number in 0..500u16 {
            let [high, low] = number.to_be_bytes();
            answer.push(address("a.example", 60, [192, 1, high, low])).unwrap();
        }
        let bytes = answer.finish();
        let Ok(Reply::Addresses(addresses, _)) = question.read(&bytes) else {
            panic!()
        };
        assert_eq!(addresses.len(), MAX_ADDRESSES);
        let more = question.clone().keeping(101).read(&bytes);
        assert!(matches!(more, Ok(Reply::Addresses(more, _)) if more.len() == 101));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), flips in prop::collection::vec((0usize..200, any::<u8>()), 0..4)) {
            let question = question(Family::V4);
            let _ = question.read(&bytes);
            let mut answer = answer(&question, Rcode::NOERROR);
            answer.push(alias("a.example", 5, "b.example")).unwrap();
            answer.push(address("b.example", 60, [192, 0, 2, 1])).unwrap();
            let mut bytes = answer.finish();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = question.read(&bytes);
        }
    }
}
