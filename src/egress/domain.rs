//! Names of DNS, as they are declared and as clients name them.
//!
//! One spelling each: what could be written in two ways is read in two ways by somebody. Must never: let a name stand for an address or for
//! something within the cluster, which have peers of their own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest a name may be, in characters: what DNS can carry (RFC 1035), without the dot of the root.
pub const MAX_DOMAIN: usize = 253;
/// Longest that a label of it may be.
const MAX_LABEL: usize = 63;
const WILDCARD: &str = "*.";

/// What is within the cluster, on the machine, or on the network around it, and no name of the world's DNS: RFC 6761, RFC 6762, ICANN's
/// `internal`, and what Kubernetes calls Services.
const NOT_OF_THE_WORLD: [&str; 6] = ["localhost", "svc", "cluster.local", "local", "internal", "arpa"];

/// A domain that a workflow declares: a name, or `*.` before one, which stands for one label or more before it and never for the name itself.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain {
    is_wildcard: bool,
    name: String,
}

impl Domain {
    /// Reads a declared domain. `Err` says what is wrong with it, as the end of a sentence that begins with the domain.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (is_wildcard, name) = match text.strip_prefix(WILDCARD) {
            Some(name) => (true, name),
            None => (false, text),
        };
        if text.len() > MAX_DOMAIN {
            return Err("is longer than 253 characters, the most that DNS can carry");
        }
        if is_address(name) {
            return Err("is an address: declare it in cidrs");
        }
        if name.contains('*') {
            return Err(
                "has a * that is not its first label: write *.example.com, which stands for every name below example.com",
            );
        }
        if name.ends_with('.') {
            return Err("ends with a dot: leave it out, every declared name is absolute");
        }
        if !name.is_ascii() {
            return Err("is written in letters that DNS does not carry: write its A-label, which begins with xn--");
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("has upper-case letters: write it in lower case");
        }
        if is_reserved(name) {
            return Err("is no name of the world's DNS: what is in the cluster is declared in pods, workflow or cidrs");
        }
        if !name.contains('.') {
            return Err("has one label only, and at least two are needed, such as example.com or *.example.com");
        }
        if !is_name(name) {
            return Err(
                "is not a domain, such as api.example.com: labels of 1 to 63 lower-case letters, digits, - and _, with no - at an end",
            );
        }
        Ok(Self {
            is_wildcard,
            name: name.to_owned(),
        })
    }

    /// Whether a host that a client names is meant by it.
    pub fn matches(&self, host: &Host) -> bool {
        match self.is_wildcard {
            true => is_below(&host.0, &self.name),
            false => host.0 == self.name,
        }
    }

    /// Whether it is that name, or all that it means is below it.
    pub fn is_within(&self, name: &str) -> bool {
        self.name == name || is_below(&self.name, name)
    }

    /// Whether it means names below that one, and more.
    pub fn is_above(&self, name: &str) -> bool {
        self.is_wildcard && is_below(name, &self.name)
    }

    /// The only host that it means; `None` of a wildcard, which means hosts that nobody can list.
    pub fn host(&self) -> Option<Host> {
        (!self.is_wildcard).then(|| Host(self.name.clone()))
    }

    /// Whether every host that `other` means is meant by it.
    pub fn covers(&self, other: &Self) -> bool {
        match (self.is_wildcard, other.is_wildcard) {
            // What lies below a name that lies below ours, or below ours itself.
            (true, true) => other.name == self.name || is_below(&other.name, &self.name),
            (true, false) => is_below(&other.name, &self.name),
            // One name never covers the many of a wildcard.
            (false, _) => self == other,
        }
    }
}

impl TryFrom<String> for Domain {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.to_string()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wildcard = if self.is_wildcard { WILDCARD } else { "" };
        write!(formatter, "{wildcard}{}", self.name)
    }
}

/// What a class lets workflows declare: a domain, or `*` alone for any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pattern {
    /// Every domain that can be declared.
    Any,
    /// What this one covers.
    Of(Domain),
}

impl Pattern {
    /// Reads a pattern of a class. `Err` as of [`Domain::parse`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "*" => Ok(Self::Any),
            _ => Domain::parse(text).map(Self::Of),
        }
    }

    /// Whether a workflow may declare `domain` under it: whether it means every host that `domain` means.
    pub fn covers(&self, domain: &Domain) -> bool {
        match self {
            Self::Any => true,
            Self::Of(own) => own.covers(domain),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Of(domain) => domain.fmt(formatter),
        }
    }
}

/// A host as a client names it, in the one spelling in which names are compared: lower case, and without the dot of the root.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Host(String);

impl Host {
    /// Reads what a client names, whether in a request or in a TLS handshake.
    pub fn named(text: &str) -> Result<Self, NotAHost> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        match () {
            () if is_address(&name) => Err(NotAHost::Address),
            () if name.len() > MAX_DOMAIN || !name.contains('.') || !is_name(&name) => Err(NotAHost::NotAName),
            () => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why what a client names is no host. Says nothing of the text itself, which is the client's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAHost {
    /// An address, in whatever notation.
    #[error(
        "it is an address, and what is declared are domains: name the host, or declare the address in cidrs and connect to it without the proxy"
    )]
    Address,
    /// No name with at least two labels.
    #[error("it is no name of the world's DNS, such as api.example.com")]
    NotAName,
}

/// Whether some client or library would take it for an address: `1.2.3.4`, `0x7f.1`, `2130706433`, `[::1]`. Everything whose last label is a
/// number is one by the URL standard, however many labels there are.
fn is_address(name: &str) -> bool {
    let last = name.strip_suffix('.').unwrap_or(name);
    let last = last.rsplit('.').next().unwrap_or_default();
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_hexadecimal = hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_decimal || is_hexadecimal || name.contains([':', '[', ']'])
}

fn is_reserved(name: &str) -> bool {
    NOT_OF_THE_WORLD
        .iter()
        .any(|reserved| name == *reserved || is_below(name, reserved))
}

/// Whether there is at least one label before `.parent`.
fn is_below(name: &str, parent: &str) -> bool {
    let before = name.strip_suffix(parent).and_then(|before| before.strip_suffix('.'));
    before.is_some_and(|before| !before.is_empty())
}

fn is_name(name: &str) -> bool {
    name.split('.').all(is_label)
}

/// `_` is of no host name, but of names that hosts have all the same.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::name("api.example.com", true)]
    #[case::two_labels("example.com", true)]
    #[case::wildcard("*.example.com", true)]
    #[case::underscore("_dmarc.example.com", true)]
    #[case::a_label("xn--bcher-kva.example", true)]
    #[case::digits_inside("1.2.3.example", true)]
    #[case::digits_and_letters_last("a.4chan", true)]
    #[case::longest_label("a23456789-123456789-123456789-123456789-123456789-123456789-123.com", true)]
    #[case::label_too_long("a23456789-123456789-123456789-123456789-123456789-123456789-1234.com", false)]
    #[case::one_label("example", false)]
    #[case::wildcard_of_one_label("*.com", false)]
    #[case::wildcard_alone("*", false)]
    #[case::wildcard_inside("a.*.example.com", false)]
    #[case::part_of_a_label("*a.example.com", false)]
    #[case::two_wildcards("*.*.example.com", false)]
    #[case::upper_case("API.example.com", false)]
    #[case::trailing_dot("api.example.com.", false)]
    #[case::leading_dot(".example.com", false)]
    #[case::empty_label("api..example.com", false)]
    #[case::empty("", false)]
    #[case::hyphen_first("-a.example.com", false)]
    #[case::hyphen_last("a-.example.com", false)]
    #[case::unicode("bücher.example", false)]
    #[case::full_width_dot("api。example.com", false)]
    #[case::blank("api.example.com ", false)]
    #[case::port("api.example.com:443", false)]
    #[case::path("api.example.com/v1", false)]
    #[case::null("api.example.com\0.evil.example", false)]
    #[case::v4("192.0.2.1", false)]
    #[case::v4_short("127.1", false)]
    #[case::v4_hexadecimal("0x7f.0x1", false)]
    #[case::v4_hexadecimal_of_nothing("a.0x", false)]
    #[case::v4_wildcard("*.2.1", false)]
    #[case::v6("2001:db8::1", false)]
    #[case::v6_in_brackets("[2001:db8::1]", false)]
    #[case::localhost("localhost", false)]
    #[case::below_localhost("a.localhost", false)]
    #[case::service("qdrant.vectors.svc", false)]
    #[case::service_in_full("qdrant.vectors.svc.cluster.local", false)]
    #[case::wildcard_of_the_cluster("*.svc.cluster.local", false)]
    #[case::multicast("printer.local", false)]
    #[case::metadata("metadata.google.internal", false)]
    #[case::reverse("1.0.0.127.in-addr.arpa", false)]
    #[case::only_alike("notlocal.example", true)]
    #[case::inside("internal.example.com", true)]
    fn domains_are_written_one_way(#[case] text: &str, #[case] valid: bool) {
        let read = Domain::parse(text);
        assert_eq!(read.is_ok(), valid, "{read:?}");
        if let Ok(domain) = read {
            assert_eq!(domain.to_string(), text);
        }
    }

    #[test]
    fn the_longest_name_is_read_and_a_longer_one_is_not() {
        let name = |last: usize| {
            format!(
                "{}{}.example",
                "a.".repeat((MAX_DOMAIN - 8 - last) / 2),
                "b".repeat(last)
            )
        };
        assert_eq!(name(1).len(), MAX_DOMAIN);
        assert!(Domain::parse(&name(1)).is_ok() && Host::named(&format!("{}.", name(1))).is_ok());
        let longer = format!("a{}", name(1));
        assert!(Domain::parse(&longer).is_err() && Host::named(&longer).is_err());
    }

    #[rstest]
    #[case::itself("api.example.com", "api.example.com", true)]
    #[case::below_a_name("api.example.com", "a.api.example.com", false)]
    #[case::above_a_name("api.example.com", "example.com", false)]
    #[case::one_label("*.example.com", "api.example.com", true)]
    #[case::two_labels("*.example.com", "a.b.example.com", true)]
    #[case::not_itself("*.example.com", "example.com", false)]
    #[case::alike("*.example.com", "evilexample.com", false)]
    #[case::above("*.example.com", "com.example", false)]
    #[case::longer("*.example.com", "example.com.evil.example", false)]
    fn a_wildcard_stands_for_labels_before_a_name(#[case] domain: &str, #[case] host: &str, #[case] expected: bool) {
        let domain = Domain::parse(domain).unwrap();
        assert_eq!(domain.matches(&Host::named(host).unwrap()), expected);
    }

    #[rstest]
    #[case::any_name("*", "api.example.com", true)]
    #[case::any_wildcard("*", "*.example.com", true)]
    #[case::itself("*.example.com", "*.example.com", true)]
    #[case::name_below("*.example.com", "a.example.com", true)]
    #[case::wildcard_below("*.example.com", "*.b.example.com", true)]
    #[case::name_itself("*.example.com", "example.com", false)]
    #[case::wildcard_above("*.b.example.com", "*.example.com", false)]
    #[case::alike("*.example.com", "*.evilexample.com", false)]
    #[case::name("a.example.com", "a.example.com", true)]
    #[case::name_and_wildcard("a.example.com", "*.a.example.com", false)]
    fn a_pattern_covers_what_means_no_more(#[case] pattern: &str, #[case] domain: &str, #[case] expected: bool) {
        let (pattern, domain) = (Pattern::parse(pattern).unwrap(), Domain::parse(domain).unwrap());
        assert_eq!(pattern.covers(&domain), expected);
    }

    #[rstest]
    #[case::plain("api.example.com", Ok("api.example.com"))]
    #[case::upper_case("API.Example.COM", Ok("api.example.com"))]
    #[case::dot_of_the_root("api.example.com.", Ok("api.example.com"))]
    #[case::two_dots("api.example.com..", Err(NotAHost::NotAName))]
    #[case::v4("127.0.0.1", Err(NotAHost::Address))]
    #[case::v4_with_a_dot("127.0.0.1.", Err(NotAHost::Address))]
    #[case::v4_as_one_number("2130706433", Err(NotAHost::Address))]
    #[case::v4_in_octal("0177.0.0.01", Err(NotAHost::Address))]
    #[case::v4_in_hexadecimal("0X7F000001", Err(NotAHost::Address))]
    #[case::v6("[::1]", Err(NotAHost::Address))]
    #[case::v6_with_a_zone("[fe80::1%25eth0]", Err(NotAHost::Address))]
    #[case::v6_without_brackets("::ffff:10.0.0.1", Err(NotAHost::Address))]
    #[case::one_label("localhost", Err(NotAHost::NotAName))]
    #[case::unicode("bücher.example", Err(NotAHost::NotAName))]
    #[case::kelvin_sign("\u{212a}.example", Err(NotAHost::NotAName))]
    #[case::percent("api%2eexample.com", Err(NotAHost::NotAName))]
    #[case::user("user@api.example.com", Err(NotAHost::NotAName))]
    #[case::wildcard("*.example.com", Err(NotAHost::NotAName))]
    #[case::empty("", Err(NotAHost::NotAName))]
    #[case::root(".", Err(NotAHost::NotAName))]
    fn what_clients_name_is_read_one_way(#[case] text: &str, #[case] expected: Result<&str, NotAHost>) {
        let read = Host::named(text);
        assert_eq!(read.as_ref().map(Host::as_str).map_err(|error| *error), expected);
    }
}
