//! Bytes to a question for a name. The oracle is a reader of DNS that others wrote: what is passed on is one plain question for a name below the
//! cluster's domain in that reading too, and says no more than name and type.

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ringfence::egress::{Asked, ClusterDomains, Code, Fate, Host, MAX_QUESTION};

use crate::runner;

const ID: u16 = 0x4711;

fn domains() -> ClusterDomains {
    ClusterDomains::new(vec![Host::named("cluster.local").unwrap()])
}

/// A question as a client writes it.
fn written(name: &Name<Vec<u8>>, record: u16, size: Option<u16>) -> Vec<u8> {
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(0x1234);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((name, Rtype::from_int(record))).unwrap();
    let mut additional = question.additional();
    if let Some(size) = size {
        let sized = additional.opt(|options| {
            options.set_udp_payload_size(size);
            options.set_dnssec_ok(true);
            Ok(())
        });
        sized.unwrap();
    }
    additional.finish()
}

/// What is passed on of it, if it is.
fn passed_on(bytes: &[u8]) -> Option<Vec<u8>> {
    match Asked::read(bytes) {
        Ok(asked) => {
            let answer = asked.answer(Code::NoName);
            assert!(
                answer.len() <= bytes.len(),
                "it would be sent to whoever is named as the sender"
            );
            (asked.fate(&domains()) == Fate::PassedOn).then(|| asked.onward(ID))
        }
        Err(unreadable) => {
            assert!(unreadable.answer().is_none_or(|answer| answer.len() <= bytes.len()));
            None
        }
    }
}

fn name() -> impl Strategy<Value = Name<Vec<u8>>> {
    let label = prop_oneof![
        12 => select(vec!["api", "ai", "svc", "CLUSTER", "_tcp", "a-b"]).prop_map(|label| label.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..20),
        1 => Just(b"x.cluster".to_vec()),
    ];
    let suffix = select(vec![
        "cluster.local",
        "cluster.local",
        "Cluster.LOCAL",
        "Cluster.LOCAL",
        "local",
        "example.com",
        "cluster.local.example",
        "",
    ]);
    (vec(label, 0..5), suffix).prop_filter_map("a name", |(labels, suffix)| {
        let parts = suffix
            .split('.')
            .filter(|part| !part.is_empty())
            .map(|part| part.as_bytes().to_vec());
        let mut wire = Vec::new();
        for label in labels.into_iter().chain(parts) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend(label);
        }
        wire.push(0);
        Name::from_octets(wire).ok()
    })
}

#[test]
fn what_is_passed_on_is_one_question_for_a_name_of_the_cluster() {
    let cases = (
        name(),
        any::<u16>(),
        proptest::option::of(any::<u16>()),
        vec((any::<Index>(), any::<u8>()), 0..3),
        any::<bool>(),
        vec(any::<u8>(), 0..3),
    );
    let below: Name<Vec<u8>> = Name::vec_from_str("cluster.local").unwrap();
    let counts = std::cell::Cell::new((0u32, 0u32));
    let outcome = runner(8192).run(&cases, |(name, record, size, flips, is_flipped, more)| {
        let record = if record % 2 == 0 { 1 } else { record };
        let mut bytes = written(&name, record, size);
        for (at, byte) in flips.iter().filter(|_| is_flipped) {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if is_flipped {
            bytes.extend(more);
        }
        let (through, kept) = counts.get();
        let Some(onward) = passed_on(&bytes) else {
            counts.set((through, kept + 1));
            return Ok(());
        };
        counts.set((through + 1, kept));
        let (theirs, ours) = (
            Message::from_octets(&bytes[..]).unwrap(),
            Message::from_octets(&onward[..]).unwrap(),
        );
        let (asked, passed) = (theirs.sole_question().unwrap(), ours.sole_question().unwrap());
        prop_assert_eq!(asked.qname(), passed.qname());
        prop_assert_eq!((asked.qtype(), Class::IN), (passed.qtype(), passed.qclass()));
        prop_assert!(passed.qname().ends_with(&below) && !asked.qname().is_compressed());
        let plain = passed.qname().to_string();
        prop_assert!(
            plain
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)),
            "{}",
            plain
        );
        let header = ours.header();
        prop_assert!(header.id() == ID && header.opcode() == Opcode::QUERY && header.rd() && !header.qr());
        // Written anew from name, type and the size that was said, whatever options stand beside that: two that agree in these are one.
        let size = ours.opt().map(|opt| opt.udp_payload_size());
        prop_assert_eq!(size.is_some(), theirs.header_counts().arcount() == 1);
        let again = written(&Name::vec_from_str(&plain).unwrap(), asked.qtype().to_int(), size);
        prop_assert_eq!(passed_on(&again), Some(onward));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (through, kept) = counts.get();
    assert!(through > 500 && kept > 500, "{through} passed on, {kept} not");
}

/// Whatever comes, and in whatever pieces a name refers to others: it ends, and what is sent back is no longer than what came.
#[test]
fn bytes_that_are_no_question_are_read_to_an_end() {
    let before = select(vec![
        vec![],
        vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1],
        vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
        vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0xc0, 12, 0, 1, 0, 1],
    ]);
    let cases = (before, vec(any::<u8>(), 0..MAX_QUESTION + 50), vec(any::<u8>(), 0..64));
    let outcome = runner(4096).run(&cases, |(before, bytes, short)| {
        drop(passed_on(&[&before[..], &bytes].concat()));
        drop(passed_on(&[&before[..], &short].concat()));
        drop(passed_on(&before));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// What comes back is cut to what the pod takes by a datagram, whatever the cluster's DNS says, and is for nobody else's question.
#[test]
fn what_is_passed_back_is_an_answer_to_that_question() {
    let cases = (
        vec(any::<u8>(), 0..1500),
        proptest::option::of(any::<u16>()),
        vec((any::<Index>(), any::<u8>()), 0..3),
    );
    let name = Name::vec_from_str("aPi.ai.svc.cluster.local").unwrap();
    let outcome = runner(4096).run(&cases, |(records, size, flips)| {
        let asked = Asked::read(&written(&name, 1, size)).unwrap();
        let mut reply = asked.onward(ID);
        reply[2] |= 0x80;
        reply.extend(records);
        for (at, byte) in flips {
            let at = at.index(reply.len());
            reply[at] = byte;
        }
        let longest = usize::from(size.unwrap_or(512).clamp(512, 1232));
        for by_datagram in [true, false] {
            let Ok(back) = asked.passed_back(ID, &reply, by_datagram) else {
                continue;
            };
            let read = Message::from_octets(&back[..]).unwrap();
            prop_assert_eq!(read.header().id(), 0x1234);
            let question = read.sole_question().unwrap();
            prop_assert_eq!(question.qname().to_string(), name.to_string());
            prop_assert!(!by_datagram || back.len() <= longest);
            prop_assert!(back.len() <= reply.len() || read.header().tc());
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
