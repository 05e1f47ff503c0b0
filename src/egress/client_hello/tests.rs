//! Handshakes of a real client, and what attackers make of them.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What rustls sends first.
fn rustls_hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

fn name_entry(kind: u8, name: &[u8]) -> Vec<u8> {
    [&[kind][..], &(name.len() as u16).to_be_bytes(), name].concat()
}

fn sni(entries: &[u8]) -> Vec<u8> {
    extension(
        SERVER_NAME,
        &[&(entries.len() as u16).to_be_bytes()[..], entries].concat(),
    )
}

fn named(name: &str) -> Vec<u8> {
    sni(&name_entry(0, name.as_bytes()))
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = (body.len() as u32).to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

fn record(payload: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, NotForHost> {
    Reader::default().push(bytes)
}

fn host(name: &str) -> Host {
    Host::named(name).unwrap()
}

#[test]
fn a_real_client_is_understood() {
    let hello = read(&rustls_hello("api.example.com")).unwrap().unwrap();
    assert_eq!(hello.is_for(&host("api.example.com")), Ok(()));
    assert_eq!(hello.is_for(&host("other.example.com")), Err(NotForHost::OtherName));
    let address = read(&rustls_hello("192.0.2.1")).unwrap().unwrap();
    assert_eq!(address.is_for(&host("api.example.com")), Err(NotForHost::NoName));
}

#[test]
fn it_may_come_in_pieces_of_any_size() {
    let whole = rustls_hello("api.example.com");
    let expected = read(&whole).unwrap();
    for size in [1, 2, 5, 100] {
        let mut reader = Reader::default();
        let pushed: Vec<_> = whole.chunks(size).map(|piece| reader.push(piece).unwrap()).collect();
        let (last, before) = pushed.split_last().unwrap();
        assert!(before.iter().all(Option::is_none));
        assert_eq!(*last, expected);
    }
}

#[test]
fn it_may_be_spread_over_records() {
    let message = message(&named("api.example.com"));
    let records: Vec<u8> = message.chunks(3).flat_map(record).collect();
    let hello = read(&records).unwrap().unwrap();
    assert_eq!(hello.is_for(&host("API.example.com.")), Ok(()));
    assert_eq!(read(&records[..records.len() - 1]), Ok(None));
}

/// Early data follows in records of its own.
#[test]
fn what_comes_in_later_records_is_not_looked_at() {
    let bytes = [record(&message(&named("a.example"))), vec![23, 3, 3, 0, 1, 0]].concat();
    assert!(read(&bytes).unwrap().is_some());
}

#[rstest]
#[case::http(b"GET / HTTP/1.1\r\n".to_vec(), NotForHost::NotTls)]
#[case::ssh(b"SSH-2.0-x\r\n".to_vec(), NotForHost::NotTls)]
#[case::ssl_2(vec![0x80, 0x2e, 1, 3, 1], NotForHost::NotTls)]
#[case::other_major(vec![22, 2, 1, 0, 1, 1], NotForHost::NotTls)]
#[case::application_data(vec![23, 3, 3, 0, 1, 0], NotForHost::NotTls)]
#[case::server_hello(record(&[2, 0, 0, 0]), NotForHost::Malformed("the first message is no ClientHello"))]
#[case::empty_record(record(&[]), NotForHost::Malformed("a record that is empty or longer than may be"))]
#[case::long_record(vec![22, 3, 1, 0x40, 1], NotForHost::Malformed("a record that is empty or longer than may be"))]
#[case::long_hello(record(&[1, 0, 0x40, 0]), NotForHost::Malformed("a ClientHello longer than 16 KiB"))]
#[case::longest_length(record(&[1, 0xff, 0xff, 0xff]), NotForHost::Malformed("a ClientHello longer than 16 KiB"))]
#[case::alert_within([record(&message(&named("a.example"))[..9]), vec![21, 3, 1, 0, 2, 1, 0]].concat(), NotForHost::Malformed("another record within the ClientHello"))]
#[case::many_records((0..65).flat_map(|at| record(&message(&named("a.example"))[at..=at])).collect(), NotForHost::Malformed("more records than a ClientHello needs"))]
#[case::second_message(record(&[message(&named("a.example")), vec![1]].concat()), NotForHost::Malformed("something behind the ClientHello in its record"))]
#[case::record_goes_on(record(&[message(&named("a.example")), vec![1]].concat()).split_last().unwrap().1.to_vec(), NotForHost::Malformed("something behind the ClientHello in its record"))]
#[case::empty_hello(record(&[1, 0, 0, 0]), NotForHost::Malformed("a ClientHello that cannot be read"))]
#[case::sni_twice(record(&message(&[named("a.example"), named("b.example")].concat())), NotForHost::Malformed("an extension that is there twice"))]
#[case::other_extension_twice(record(&message(&[extension(43, &[]), extension(43, &[])].concat())), NotForHost::Malformed("an extension that is there twice"))]
#[case::two_names(record(&message(&sni(&[name_entry(0, b"a.example"), name_entry(0, b"b.example")].concat()))), NotForHost::Malformed("a list of names that is not of one host name"))]
#[case::name_of_another_kind(record(&message(&sni(&[name_entry(1, b"x"), name_entry(0, b"a.example")].concat()))), NotForHost::Malformed("a list of names that is not of one host name"))]
#[case::no_names(record(&message(&sni(&[]))), NotForHost::Malformed("a list of names that is not of one host name"))]
#[case::empty_name(record(&message(&named(""))), NotForHost::Malformed("a list of names that is not of one host name"))]
#[case::empty_sni(record(&message(&extension(SERVER_NAME, &[]))), NotForHost::Malformed("a list of names that is not of one host name"))]
#[case::something_behind_the_list(record(&message(&extension(SERVER_NAME, &[0, 12, 0, 0, 9, b'a', b'.', b'e', b'x', b'a', b'm', b'p', b'l', b'e', 9]))), NotForHost::Malformed("a list of names that is not of one host name"))]
fn what_is_no_clean_handshake_is_an_error(#[case] bytes: Vec<u8>, #[case] expected: NotForHost) {
    assert_eq!(read(&bytes), Err(expected));
}

#[rstest]
#[case::other("b.example", NotForHost::OtherName)]
#[case::below("x.a.example", NotForHost::OtherName)]
#[case::null("a.example\0", NotForHost::OtherName)]
#[case::address("192.0.2.1", NotForHost::OtherName)]
#[case::two_dots("a.example..", NotForHost::OtherName)]
fn another_name_is_not_let_through(#[case] name: &str, #[case] expected: NotForHost) {
    let hello = read(&record(&message(&named(name)))).unwrap().unwrap();
    assert_eq!(hello.is_for(&host("a.example")), Err(expected));
}

#[rstest]
#[case::ech(0xfe0d)]
#[case::esni(0xffce)]
fn what_is_encrypted_is_not_let_through(#[case] kind: u16) {
    let hello = read(&record(&message(
        &[named("a.example"), extension(kind, &[0; 8])].concat(),
    )));
    assert_eq!(
        hello.unwrap().unwrap().is_for(&host("a.example")),
        Err(NotForHost::Encrypted)
    );
}

#[test]
fn before_tls_1_3_there_may_be_no_extensions() {
    let mut old = message(&[]);
    old.truncate(old.len() - 2);
    let length = (old.len() - 4) as u8;
    old[3] = length;
    let hello = read(&record(&old)).unwrap().unwrap();
    assert_eq!(hello.is_for(&host("a.example")), Err(NotForHost::NoName));
}

proptest! {
    /// In whatever pieces bytes come, they say the same.
    #[test]
    fn pieces_change_nothing(at in 0usize..400, byte: u8, cut in 1usize..400) {
        let mut bytes = rustls_hello("api.example.com");
        let at = at % bytes.len();
        bytes[at] = byte;
        let mut reader = Reader::default();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let in_pieces = match reader.push(first) {
            Ok(None) => reader.push(second),
            said => said,
        };
        prop_assert_eq!(in_pieces, read(&bytes));
    }
}
