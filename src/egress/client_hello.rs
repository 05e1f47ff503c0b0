//! The first message of a TLS client: whom it wants to talk to.
//!
//! Read with nom where it lies, and only as far as a verdict needs. Must never: find a name where a TLS server would find another, or none;
//! what can be read in two ways is an error.

use std::collections::BTreeSet;

use nom::{
    IResult,
    bytes::complete::take,
    combinator::{all_consuming, verify},
    multi::{length_data, many0},
    number::complete::{be_u8, be_u16},
    sequence::{pair, tuple},
};

use super::domain::{Host, NotAHost};

/// Longest message that is read, in bytes. With keys of the largest post-quantum kind they have 2 KiB.
pub const MAX_HELLO: usize = 16 << 10;
/// Over how many records it may be spread: TLS allows one byte in each.
const MAX_RECORDS: usize = 64;
/// What a record holds at the most before it is encrypted (RFC 8446, 5.1).
const MAX_RECORD: usize = 1 << 14;
const HEADER: usize = 5;
const HANDSHAKE_HEADER: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Every version of TLS begins with it, and so does SSL 3.
const MAJOR: u8 = 3;

const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Encrypted Client Hello, and what it was before it had a number: the name that can be read is not the one that is meant.
const ENCRYPTED: [u16; 2] = [0xfe0d, 0xffce];

/// What a client says of whom it wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientHello {
    /// The name of the server, where it gives one.
    pub server_name: Option<Result<Host, NotAHost>>,
    /// Whether it sends an encrypted ClientHello, or what looks like one.
    pub is_encrypted: bool,
}

/// Why a connection is not let through that was opened for a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotForHost {
    /// It does not begin as TLS does.
    #[error("what the client sends is no TLS")]
    NotTls,
    /// It cannot be read in one way only.
    #[error("its TLS handshake is malformed: {0}")]
    Malformed(&'static str),
    /// No name.
    #[error("its TLS handshake names no server (SNI)")]
    NoName,
    /// An encrypted handshake.
    #[error(
        "its TLS handshake has an Encrypted Client Hello, behind which another name may stand: switch ECH off in the client"
    )]
    Encrypted,
    /// Another name than CONNECT's.
    #[error("its TLS handshake names another server (SNI) than CONNECT did")]
    OtherName,
}

impl ClientHello {
    /// Whether it is for the host that the connection was opened for, and for nobody else.
    pub fn is_for(&self, host: &Host) -> Result<(), NotForHost> {
        match &self.server_name {
            _ if self.is_encrypted => Err(NotForHost::Encrypted),
            None => Err(NotForHost::NoName),
            Some(Ok(name)) if name == host => Ok(()),
            Some(_) => Err(NotForHost::OtherName),
        }
    }
}

/// Reads a ClientHello from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    header: Vec<u8>,
    /// What is to come of the record that was begun.
    left: usize,
    records: usize,
    hello: Vec<u8>,
}

impl Reader {
    /// Takes what came next. `None` while more is needed; what comes behind the message is not looked at.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, NotForHost> {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.begin_record(bytes)?;
                continue;
            }
            let (now, behind) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= now.len();
            self.hello.extend_from_slice(now);
            bytes = behind;
            if let Some(length) = self.length()? {
                return self.finish(length);
            }
        }
        Ok(None)
    }

    fn begin_record<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], NotForHost> {
        let missing = HEADER.saturating_sub(self.header.len());
        let (now, behind) = bytes.split_at(missing.min(bytes.len()));
        self.header.extend_from_slice(now);
        if self.header.first().is_some_and(|kind| *kind != HANDSHAKE) {
            return Err(self.no_handshake());
        }
        if self.header.get(1).is_some_and(|major| *major != MAJOR) {
            return Err(NotForHost::NotTls);
        }
        if let [_, _, _, high, low] = *self.header.as_slice() {
            self.left = usize::from(u16::from_be_bytes([high, low]));
            self.header.clear();
            self.records += 1;
            if self.left == 0 || self.left > MAX_RECORD {
                return Err(NotForHost::Malformed("a record that is empty or longer than may be"));
            }
            if self.records > MAX_RECORDS {
                return Err(NotForHost::Malformed("more records than a ClientHello needs"));
            }
        }
        Ok(behind)
    }

    fn no_handshake(&self) -> NotForHost {
        match self.records {
            0 => NotForHost::NotTls,
            _ => NotForHost::Malformed("another record within the ClientHello"),
        }
    }

    /// Length of the message with its header, once all of it is there.
    fn length(&self) -> Result<Option<usize>, NotForHost> {
        if self.hello.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotForHost::Malformed("the first message is no ClientHello"));
        }
        let [_, high, middle, low, ..] = *self.hello.as_slice() else {
            return Ok(None);
        };
        let length = HANDSHAKE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
        if length > MAX_HELLO {
            return Err(NotForHost::Malformed("a ClientHello longer than 16 KiB"));
        }
        Ok((self.hello.len() >= length).then_some(length))
    }

    fn finish(&self, length: usize) -> Result<Option<ClientHello>, NotForHost> {
        if self.left > 0 || self.hello.len() > length {
            return Err(NotForHost::Malformed("something behind the ClientHello in its record"));
        }
        let body = self.hello.get(HANDSHAKE_HEADER..).unwrap_or_default();
        parse(body).map(Some)
    }
}

fn parse(body: &[u8]) -> Result<ClientHello, NotForHost> {
    let (_, extensions) = hello(body).map_err(|_| NotForHost::Malformed("a ClientHello that cannot be read"))?;
    let mut hello = ClientHello {
        server_name: None,
        is_encrypted: false,
    };
    let mut seen = BTreeSet::new();
    for (kind, data) in extensions {
        if !seen.insert(kind) {
            return Err(NotForHost::Malformed("an extension that is there twice"));
        }
        if kind == SERVER_NAME {
            let name = all_consuming(server_name)(data);
            let (_, name) = name.map_err(|_| NotForHost::Malformed("a list of names that is not of one host name"))?;
            let name = std::str::from_utf8(name);
            hello.server_name = Some(name.map_err(|_| NotAHost::NotAName).and_then(Host::named));
        }
        hello.is_encrypted |= ENCRYPTED.contains(&kind);
    }
    Ok(hello)
}

type Extensions<'a> = Vec<(u16, &'a [u8])>;

/// RFC 8446, 4.1.2; before TLS 1.3 the extensions may be left out.
fn hello(body: &[u8]) -> IResult<&[u8], Extensions<'_>> {
    let version = verify(be_u16, |version: &u16| version.to_be_bytes().first() == Some(&MAJOR));
    let session = verify(length_data(be_u8), |session: &[u8]| session.len() <= 32);
    let suites = verify(length_data(be_u16), |suites: &[u8]| {
        !suites.is_empty() && suites.len().is_multiple_of(2)
    });
    let compressions = verify(length_data(be_u8), |methods: &[u8]| !methods.is_empty());
    let (behind, _) = tuple((version, take(32usize), session, suites, compressions))(body)?;
    if behind.is_empty() {
        return Ok((behind, Vec::new()));
    }
    let (_, extensions) = all_consuming(length_data(be_u16))(behind)?;
    all_consuming(many0(pair(be_u16, length_data(be_u16))))(extensions)
}

/// RFC 6066, 3: a list, of which only host names are defined, and of these there is one.
fn server_name(data: &[u8]) -> IResult<&[u8], &[u8]> {
    let (behind, list) = length_data(be_u16)(data)?;
    let kind = verify(be_u8, |kind: &u8| *kind == HOST_NAME);
    let name = verify(length_data(be_u16), |name: &[u8]| !name.is_empty());
    let (_, (_, name)) = all_consuming(pair(kind, name))(list)?;
    Ok((behind, name))
}

#[cfg(test)]
mod tests;
