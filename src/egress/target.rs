//! What a request to the proxy asks for: a host and a port, in one reading.
//!
//! Must never: take a host from one place of a request while somebody behind the proxy takes it from another.

use std::fmt;

use super::domain::{Host, NotAHost};

/// Port of plain HTTP where none is said.
const HTTP: u16 = 80;

/// Where a connection is to lead.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port of TCP.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// What is wrong with a request, and what to send instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadRequest {
    /// A host that is no name.
    #[error("the host cannot be reached through this proxy: {0}")]
    Host(#[from] NotAHost),
    /// No port, or none that can be.
    #[error("no port that can be read: write host:port, such as api.example.com:443")]
    Port,
    /// A name and a password before the host.
    #[error("a user before the host: leave it out, this proxy tells callers by the address of their pod")]
    User,
    /// No Host header, several, or one that names something else.
    #[error("the Host header must be there once and name the host and the port of the URL")]
    Disagree,
}

impl Target {
    /// Reads what CONNECT names: host and port, both.
    pub fn of_connect(authority: &str) -> Result<Self, BadRequest> {
        read(authority, None)
    }

    /// Reads what a request of plain HTTP names: the authority of its URL, with which its only Host header agrees.
    pub fn of_request<'a>(authority: &str, mut hosts: impl Iterator<Item = &'a [u8]>) -> Result<Self, BadRequest> {
        let target = read(authority, Some(HTTP))?;
        let (host, more) = (hosts.next(), hosts.next());
        let host = host.filter(|_| more.is_none()).ok_or(BadRequest::Disagree)?;
        let host = std::str::from_utf8(host).map_err(|_| BadRequest::Disagree)?;
        let agrees = read(host, Some(HTTP)).is_ok_and(|named| named == target);
        agrees.then_some(target).ok_or(BadRequest::Disagree)
    }
}

fn read(authority: &str, default: Option<u16>) -> Result<Target, BadRequest> {
    if authority.contains('@') {
        return Err(BadRequest::User);
    }
    // An address of IPv6 has colons of its own.
    if authority.starts_with('[') {
        return Err(NotAHost::Address.into());
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, number(port)),
        None => (authority, default),
    };
    let host = Host::named(host)?;
    let port = port.ok_or(BadRequest::Port)?;
    Ok(Target { host, port })
}

/// Digits alone, and no leading zero: neither `+443` nor `0443`.
fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("api.example.com:443", Ok("api.example.com:443"))]
    #[case::upper_case_and_a_dot("API.example.com.:8443", Ok("api.example.com:8443"))]
    #[case::no_port("api.example.com", Err(BadRequest::Port))]
    #[case::empty_port("api.example.com:", Err(BadRequest::Port))]
    #[case::port_zero("api.example.com:0", Err(BadRequest::Port))]
    #[case::leading_zero("api.example.com:0443", Err(BadRequest::Port))]
    #[case::sign("api.example.com:+443", Err(BadRequest::Port))]
    #[case::too_high("api.example.com:65536", Err(BadRequest::Port))]
    #[case::two_ports("api.example.com:443:80", Err(BadRequest::Port))]
    #[case::user("api.example.com@evil.example:443", Err(BadRequest::User))]
    #[case::v4("127.0.0.1:443", Err(BadRequest::Host(NotAHost::Address)))]
    #[case::v4_as_one_number("2130706433:443", Err(BadRequest::Host(NotAHost::Address)))]
    #[case::v6("[::1]:443", Err(BadRequest::Host(NotAHost::Address)))]
    #[case::one_label("localhost:443", Err(BadRequest::Host(NotAHost::NotAName)))]
    #[case::no_host(":443", Err(BadRequest::Host(NotAHost::NotAName)))]
    #[case::empty("", Err(BadRequest::Host(NotAHost::NotAName)))]
    fn connect_names_a_host_and_a_port(#[case] authority: &str, #[case] expected: Result<&str, BadRequest>) {
        let read = Target::of_connect(authority).map(|target| target.to_string());
        assert_eq!(read.as_deref().map_err(|error| *error), expected);
    }

    #[rstest]
    #[case::same("a.example", &["a.example"], true)]
    #[case::port_said_once("a.example", &["a.example:80"], true)]
    #[case::other_spelling("A.example.", &["a.EXAMPLE"], true)]
    #[case::other_port("a.example:8080", &["a.example"], false)]
    #[case::other_host("a.example", &["b.example"], false)]
    #[case::none("a.example", &[], false)]
    #[case::twice("a.example", &["a.example", "a.example"], false)]
    #[case::two("a.example", &["a.example", "b.example"], false)]
    #[case::user("a.example", &["a.example@b.example"], false)]
    #[case::empty("a.example", &[""], false)]
    #[case::list("a.example", &["a.example, b.example"], false)]
    fn url_and_host_header_agree(#[case] authority: &str, #[case] hosts: &[&str], #[case] expected: bool) {
        let read = Target::of_request(authority, hosts.iter().map(|host| host.as_bytes()));
        match expected {
            true => assert_eq!(read.unwrap().host.as_str(), "a.example"),
            false => assert_eq!(read, Err(BadRequest::Disagree)),
        }
    }
}
