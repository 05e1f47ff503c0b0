//! Bytes to a ClientHello. The oracle is rustls as a server: a handshake is let through for a host only where a server takes it for that
//! host, or for none at all.

use std::sync::{Arc, LazyLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ringfence::egress::{Host, Reader};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::runner;

const NAME: &str = "api.example.com";
const SNI: u16 = 0;

/// A message as a real client writes it: what stands before the extensions, and each of these.
struct Hello {
    before: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

static REAL: LazyLock<Hello> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = config
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let body = &bytes[9..];
    let session = 35 + usize::from(body[34]);
    let suites = session + 2 + number(&body[session..]);
    let extensions = suites + 1 + usize::from(body[suites]);
    let (before, mut rest) = (body[..extensions].to_vec(), &body[extensions + 2..]);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (kind, length) = (number(rest) as u16, number(&rest[2..]));
        found.push((kind, rest[4..4 + length].to_vec()));
        rest = &rest[4 + length..];
    }
    assert!(found.iter().any(|(kind, _)| *kind == SNI));
    Hello {
        before,
        extensions: found,
    }
});

fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// What is done to the extensions.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Repeat(Index, Index),
    Insert(Index, u16, Vec<u8>),
    Names(Vec<(u8, Vec<u8>)>),
    Flip(Index, Index, u8),
    Cut(Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let name = select(vec![
        NAME.as_bytes().to_vec(),
        b"API.example.com".to_vec(),
        b"api.example.com.".to_vec(),
        b"evil.example".to_vec(),
        b"192.0.2.1".to_vec(),
        b"api.example.com\0".to_vec(),
        Vec::new(),
        vec![0xff, 0xfe],
    ]);
    let kind = prop_oneof![Just(SNI), Just(0xfe0d), Just(0xffce), 0u16..60, any::<u16>()];
    prop_oneof![
        any::<Index>().prop_map(Edit::Remove),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        (any::<Index>(), kind, vec(any::<u8>(), 0..12)).prop_map(|(at, kind, data)| Edit::Insert(at, kind, data)),
        vec((select(vec![0u8, 0, 0, 1, 255]), name), 0..3).prop_map(Edit::Names),
        (any::<Index>(), any::<Index>(), any::<u8>()).prop_map(|(of, at, byte)| Edit::Flip(of, at, byte)),
        (any::<Index>(), any::<Index>()).prop_map(|(of, at)| Edit::Cut(of, at)),
    ]
}

fn edited(edits: &[Edit]) -> Vec<u8> {
    let mut extensions = REAL.extensions.clone();
    for edit in edits {
        if extensions.is_empty() {
            break;
        }
        match edit {
            Edit::Remove(at) => drop(extensions.remove(at.index(extensions.len()))),
            Edit::Repeat(from, to) => {
                let again = extensions[from.index(extensions.len())].clone();
                extensions.insert(to.index(extensions.len()), again);
            }
            Edit::Insert(at, kind, data) => extensions.insert(at.index(extensions.len()), (*kind, data.clone())),
            Edit::Names(names) => {
                let listed = names
                    .iter()
                    .flat_map(|(kind, name)| [&[*kind][..], &sized(name)].concat());
                let list = sized(&listed.collect::<Vec<u8>>());
                let sni = extensions.iter_mut().find(|(kind, _)| *kind == SNI);
                if let Some((_, data)) = sni {
                    *data = list;
                }
            }
            Edit::Flip(of, at, byte) => {
                let count = extensions.len();
                let data = &mut extensions[of.index(count)].1;
                if !data.is_empty() {
                    let at = at.index(data.len());
                    data[at] = *byte;
                }
            }
            Edit::Cut(of, at) => {
                let count = extensions.len();
                let data = &mut extensions[of.index(count)].1;
                data.truncate(at.index(data.len() + 1));
            }
        }
    }
    let listed: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &sized(data)].concat())
        .collect();
    let body = [&REAL.before[..], &sized(&listed)].concat();
    let length = (body.len() as u32).to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

/// The message in records of these lengths, and then all the rest in one.
fn recorded(mut message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (now, behind) = message.split_at(length.min(message.len()));
        if !now.is_empty() {
            bytes.extend([22, 3, 1]);
            bytes.extend(sized(now));
        }
        message = behind;
    }
    bytes
}

/// The host that rustls as a server takes the handshake for. `Err`: it takes it for none.
fn server(bytes: &[u8]) -> Result<Option<Host>, ()> {
    let mut acceptor = Acceptor::default();
    let mut left = bytes;
    while !left.is_empty() {
        if acceptor.read_tls(&mut left).map_err(|_| ())? == 0 {
            return Err(());
        }
        if let Some(accepted) = acceptor.accept().map_err(|_| ())? {
            let hello = accepted.client_hello();
            return Ok(hello.server_name().and_then(|name| Host::named(name).ok()));
        }
    }
    Err(())
}

#[test]
fn a_handshake_is_for_whom_a_server_takes_it() {
    let cases = (
        vec(edit(), 0..4),
        vec(1usize..300, 0..4),
        vec((any::<Index>(), any::<u8>()), 0..2),
        any::<bool>(),
    );
    let (mut same, mut refused) = (0u32, 0u32);
    let seen = std::cell::RefCell::new((&mut same, &mut refused));
    let outcome = runner(4096).run(&cases, |(edits, lengths, flips, is_flipped)| {
        let mut bytes = recorded(&edited(&edits), &lengths);
        for (at, byte) in flips.iter().filter(|_| is_flipped) {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let ours = Reader::default().push(&bytes);
        let host = Host::named(NAME).unwrap();
        let is_let_through = matches!(&ours, Ok(Some(hello)) if hello.is_for(&host).is_ok());
        let theirs = server(&bytes);
        let mut seen = seen.borrow_mut();
        match is_let_through {
            true => {
                prop_assert!(
                    theirs.is_err() || theirs == Ok(Some(host)),
                    "a server takes it for {:?}",
                    theirs
                );
                *seen.0 += u32::from(theirs.is_ok());
            }
            false => *seen.1 += 1,
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        same > 100 && refused > 100,
        "{same} let through as a server takes them, {refused} not"
    );
}

#[test]
fn bytes_that_are_no_handshake_are_refused_in_any_pieces() {
    let cases = (
        vec(any::<u8>(), 0..200),
        vec(1usize..40, 1..8),
        select(vec![
            vec![],
            vec![22],
            vec![22, 3, 1],
            vec![22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3],
        ]),
    );
    let outcome = runner(4096).run(&cases, |(bytes, sizes, before)| {
        let bytes = [before, bytes].concat();
        let whole = Reader::default().push(&bytes);
        let (mut reader, mut rest, mut said) = (Reader::default(), &bytes[..], Ok(None));
        for size in sizes.iter().cycle() {
            if rest.is_empty() || said != Ok(None) {
                break;
            }
            let (now, behind) = rest.split_at((*size).min(rest.len()));
            said = reader.push(now);
            rest = behind;
        }
        prop_assert_eq!(said, whole);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
