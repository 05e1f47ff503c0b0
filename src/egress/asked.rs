//! Questions of pods for names of the cluster: which are passed on, as what, and what is answered to all others.
//!
//! What a pod chooses of a question that is passed on is a name that a cluster may have, in letters of hosts, and the type of the record.
//! All else of it is written anew: spelling, flags, options and number would carry data out as well. Must never: pass on a name of the world,
//! an address turned into a name (whoever holds the addresses answers for these), or more than one question; or answer what is no question.

use super::dns::NotAnAnswer;
use super::domain::Host;

/// Longest question that is read: the longest name, with options of a client beside it.
pub const MAX_QUESTION: usize = 1232;
/// What a resolver may send in one datagram without its being taken apart on the way, and the least that any client takes.
const DATAGRAM: u16 = 1232;
const LEAST_DATAGRAM: u16 = 512;

/// Bytes of a header, in which a question's name stands next.
const HEADER: usize = 12;
/// Longest name, its length bytes included (RFC 1035).
const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;
/// Bits of a header's third byte: that it is an answer, that it is cut off, that the whole answer is wanted; and where its kind stands.
const ANSWER: u8 = 0x80;
const CUT: u8 = 0x02;
const WANTS_ALL: u8 = 0x01;
const KIND_SHIFT: u8 = 3;
const KIND: u8 = 0x0f;
/// Bit of the fourth: that whoever answers looks names up.
const LOOKS_UP: u8 = 0x80;
/// Of the Internet: the one class that there is.
const IN: u16 = 1;
/// The record by which a client says what it takes (RFC 6891). Of the types from 128 on, all are questions about more than one record, or about
/// the connection (RFC 6895).
const OPT: u16 = 41;
const FIRST_META: u16 = 128;
const LAST_META: u16 = 255;

/// What is answered without passing a question on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Code {
    /// It cannot be read.
    Unreadable = 1,
    /// Nobody answers it in time.
    Failed = 2,
    /// There is no such name, as far as this goes.
    NoName = 3,
    /// It asks for something that is not done here.
    NotDone = 4,
    /// Whoever asks may not.
    Refused = 5,
}

/// Domains that are the cluster's.
#[derive(Clone, Debug, Default)]
pub struct ClusterDomains(Vec<Host>);

impl ClusterDomains {
    /// These.
    pub fn new(domains: Vec<Host>) -> Self {
        Self(domains)
    }

    /// Whether a name is one of them, or below one.
    pub fn hold(&self, name: &Host) -> bool {
        self.before(name).next().is_some()
    }

    /// What stands before each of them in a name.
    fn before<'a>(&'a self, name: &'a Host) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(|domain| {
            let before = name.as_str().strip_suffix(domain.as_str())?;
            before.strip_suffix('.').or(before.is_empty().then_some(""))
        })
    }

    /// Whether a cluster may have that name. Below those of Services and pods the search list puts names of the world, and a DNS that spares its
    /// clients the detour (`autopath` of CoreDNS, rewriting) would ask the world for them.
    fn may_have(&self, name: &Host) -> bool {
        let is_shaped = |before: &str| {
            let mut labels = before.rsplit('.');
            match labels.next() {
                Some("svc") => is_of_a_service(labels.rev().collect::<Vec<_>>().as_slice()),
                Some("pod") => labels.count() <= 2,
                _ => true,
            }
        };
        // One domain may lie below another.
        self.hold(name) && self.before(name).all(is_shaped)
    }
}

/// A namespace, a Service of it, a pod behind that, or a port of the Service by `_name._protocol`.
fn is_of_a_service(labels: &[&str]) -> bool {
    match labels {
        [port, protocol, _, _] => port.starts_with('_') && protocol.starts_with('_'),
        labels => labels.len() <= 3,
    }
}

/// A question of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    id: u16,
    wants_all: bool,
    /// The name as it was written, and as it is compared. `None` is no host: none of the cluster's is written so.
    written: Vec<u8>,
    name: Option<Host>,
    record: u16,
    class: u16,
    /// How long a datagram may be, where the client says so.
    takes: Option<u16>,
}

/// What cannot be read as a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// Number, kind and wish, and what is answered. `None`: to what is no question nothing is, or two of a kind would talk for ever.
    answered: Option<(u16, u8, Code)>,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is passed on to the cluster's DNS.
    PassedOn,
    /// It is answered here.
    Answered(Code),
}

impl Unreadable {
    /// What is sent back, if anything: never longer than what came.
    pub fn answer(self) -> Option<Vec<u8>> {
        let (id, flags, code) = self.answered?;
        Some(header(id, ANSWER | flags, LOOKS_UP | code as u8, [0; 4]).to_vec())
    }
}

impl Asked {
    /// Reads a message. Names that refer to other places of it are refused: the first of a message has none to refer to.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = Rest(bytes);
        let (Some(id), Some(flags)) = (rest.number(), rest.number()) else {
            return Err(Unreadable { answered: None });
        };
        let [flags, _] = flags.to_be_bytes();
        if bytes.len() < HEADER || flags & ANSWER != 0 {
            return Err(Unreadable { answered: None });
        }
        let refused = |code| Unreadable {
            answered: Some((id, flags & (KIND << KIND_SHIFT | WANTS_ALL), code)),
        };
        if (flags >> KIND_SHIFT) & KIND != 0 {
            return Err(refused(Code::NotDone));
        }
        let read = (bytes.len() <= MAX_QUESTION && flags & CUT == 0).then(|| rest.question());
        let (written, record, class, takes) = read.flatten().ok_or(refused(Code::Unreadable))?;
        Ok(Self {
            id,
            wants_all: flags & WANTS_ALL != 0,
            name: host(&written),
            written,
            record,
            class,
            takes,
        })
    }

    /// What becomes of it, whoever asks.
    pub fn fate(&self, domains: &ClusterDomains) -> Fate {
        let is_meta = self.record == 0 || self.record == OPT || (FIRST_META..=LAST_META).contains(&self.record);
        let is_of_cluster = self.name.as_ref().is_some_and(|name| domains.may_have(name));
        match () {
            () if self.class != IN => Fate::Answered(Code::Refused),
            () if !is_of_cluster => Fate::Answered(Code::NoName),
            () if is_meta => Fate::Answered(Code::NotDone),
            () => Fate::PassedOn,
        }
    }

    /// The question as the cluster's DNS gets it, by a number that nobody can guess. As long as the one that came, so that what an answer
    /// refers to lies where it lay.
    pub fn onward(&self, id: u16) -> Vec<u8> {
        let takes = self.takes.map(|_| self.most_by_datagram());
        let name = self.written.to_ascii_lowercase();
        let mut message = header(id, WANTS_ALL, 0, [1, 0, 0, u8::from(takes.is_some())]).to_vec();
        message.extend(self.question(&name));
        message.extend(takes.into_iter().flat_map(takes_up_to));
        message
    }

    /// What the pod gets of a message that may be the answer to [`Asked::onward`].
    pub fn passed_back(&self, id: u16, reply: &[u8], by_datagram: bool) -> Result<Vec<u8>, NotAnAnswer> {
        let question = self.question(&self.written);
        let (head, rest) = reply.split_at_checked(HEADER).ok_or(NotAnAnswer)?;
        let (named, rest) = rest.split_at_checked(question.len()).ok_or(NotAnAnswer)?;
        let &[of_id, of_id_low, flags, code, questions, questions_low, ..] = head else {
            return Err(NotAnAnswer);
        };
        let is_ours = u16::from_be_bytes([of_id, of_id_low]) == id
            && flags & ANSWER != 0
            && (flags >> KIND_SHIFT) & KIND == 0
            && [questions, questions_low] == [0, 1]
            && named.eq_ignore_ascii_case(&question);
        if !is_ours {
            return Err(NotAnAnswer);
        }
        let wish = u8::from(self.wants_all) * WANTS_ALL;
        let flags = flags & !WANTS_ALL | wish;
        let longest = match by_datagram {
            true => self.most_by_datagram().into(),
            false => usize::from(u16::MAX),
        };
        if reply.len() > longest {
            return Ok(self.without_records(flags | CUT, code));
        }
        let id = self.id.to_be_bytes();
        let head = [&id[..], &[flags, code], head.get(4..).unwrap_or_default()].concat();
        Ok([&head[..], &question, rest].concat())
    }

    /// What is answered without asking anybody.
    pub fn answer(&self, code: Code) -> Vec<u8> {
        let wish = u8::from(self.wants_all) * WANTS_ALL;
        self.without_records(ANSWER | wish, LOOKS_UP | code as u8)
    }

    fn without_records(&self, flags: u8, code: u8) -> Vec<u8> {
        let mut message = header(self.id, flags, code, [1, 0, 0, u8::from(self.takes.is_some())]).to_vec();
        message.extend(self.question(&self.written));
        message.extend(self.takes.into_iter().flat_map(|_| takes_up_to(DATAGRAM)));
        message
    }

    fn question(&self, name: &[u8]) -> Vec<u8> {
        [name, &self.record.to_be_bytes(), &self.class.to_be_bytes()].concat()
    }

    fn most_by_datagram(&self) -> u16 {
        self.takes.unwrap_or(LEAST_DATAGRAM).clamp(LEAST_DATAGRAM, DATAGRAM)
    }
}

fn header(id: u16, flags: u8, code: u8, counts: [u8; 4]) -> [u8; HEADER] {
    let [high, low] = id.to_be_bytes();
    let [questions, answers, authorities, others] = counts;
    [
        high,
        low,
        flags,
        code,
        0,
        questions,
        0,
        answers,
        0,
        authorities,
        0,
        others,
    ]
}

/// The record that says how long a datagram may be, and nothing else.
fn takes_up_to(size: u16) -> [u8; 11] {
    let ([kind, kind_low], [size, size_low]) = (OPT.to_be_bytes(), size.to_be_bytes());
    [0, kind, kind_low, size, size_low, 0, 0, 0, 0, 0, 0]
}

/// A name as hosts are compared; `None` where it is no host's.
fn host(written: &[u8]) -> Option<Host> {
    let (mut rest, mut text) = (Rest(written), String::new());
    loop {
        let length = rest.byte()?;
        if length == 0 {
            return Host::named(&text).ok();
        }
        if !text.is_empty() {
            text.push('.');
        }
        let label = rest.take(length.into())?;
        // A dot within a label would be one between two.
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
        text.push_str(std::str::from_utf8(label).ok().filter(|_| label.iter().all(is_plain))?);
    }
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// The name of one question, its type and class, and what the client takes; to the last byte.
    fn question(&mut self) -> Option<(Vec<u8>, u16, u16, Option<u16>)> {
        let counts = [self.number()?, self.number()?, self.number()?, self.number()?];
        let written = self.name()?;
        let (record, class) = (self.number()?, self.number()?);
        let takes = match counts {
            [1, 0, 0, 0] => None,
            [1, 0, 0, 1] => Some(self.takes()?),
            _ => return None,
        };
        self.0.is_empty().then_some((written, record, class, takes))
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        let whole = self.0;
        let mut length = 0;
        loop {
            // What is more than a label's length refers to another place.
            let label = self.byte().filter(|label| *label <= MAX_LABEL)?;
            length += 1 + usize::from(label);
            if length > MAX_NAME {
                return None;
            }
            if label == 0 {
                return whole.get(..length).map(<[u8]>::to_vec);
            }
            self.take(label.into())?;
        }
    }

    /// What options a client names is its own business: none is answered.
    fn takes(&mut self) -> Option<u16> {
        let (root, kind, size) = (self.byte()?, self.number()?, self.number()?);
        let [_, version, ..] = self.take(4)? else { return None };
        let length = self.number()?;
        self.take(length.into())?;
        (root == 0 && kind == OPT && *version == 0).then_some(size)
    }
}

#[cfg(test)]
mod tests;
