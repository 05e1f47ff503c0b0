//! What is in force for one workflow: which domains its pods may reach through the proxy, at which ports.
//!
//! `plan` writes it into an annotation of the policy that opens the way to the proxy, and the proxy reads it there. Must never: allow
//! something because it could not be read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::domain::{Domain, Host};

/// Annotation of an owned NetworkPolicy that holds it. Believed on what Ringfence owns, and nowhere else.
pub const ANNOTATION: &str = "ringfence.dev/egress-domains";

/// Longest that it may be as text, in bytes: what all annotations of an object may be together is four times that.
pub const MAX_TEXT: usize = 64 * 1024;
/// As many as an AIWorkflow can declare.
const MAX_RULES: usize = 64;
const MAX_DOMAINS: usize = 25;
const MAX_PORTS: usize = 32;
/// How many domains a refusal names.
const MAX_NAMED: usize = 10;

/// What a workflow's pods may reach by name. Empty: nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// The rules, any of which allows.
    pub rules: Vec<Rule>,
}

/// One rule of `spec.network.egress`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the rule.
    pub name: String,
    /// Which hosts.
    pub domains: Vec<Domain>,
    /// At which ports of TCP. Empty: at none.
    pub ports: Vec<PortRange>,
}

/// A port, or a range of ports up to `end_port`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PortRange {
    /// First port.
    pub port: u16,
    /// Last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_port: Option<u16>,
}

impl PortRange {
    fn contains(self, port: u16) -> bool {
        (self.port..=self.end_port.unwrap_or(self.port)).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end_port {
            Some(end) => write!(formatter, "{}-{end}", self.port),
            None => self.port.fmt(formatter),
        }
    }
}

impl Allowed {
    /// Reads what [`Self::write`] wrote. Whoever gets an error allows nothing.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        if text.len() > MAX_TEXT {
            return Err(Unreadable::TooLong);
        }
        let read: Self = serde_json::from_str(text).map_err(|error| Unreadable::NotOurs(place(&error)))?;
        read.is_bounded().then_some(read).ok_or(Unreadable::TooMany)
    }

    /// As text, of which [`Self::read`] makes the same again. Of what is longer than that reads nothing is made.
    pub fn write(&self) -> Result<String, TooLong> {
        let text = serde_json::to_string(self).ok().filter(|text| text.len() <= MAX_TEXT);
        text.filter(|_| self.is_bounded()).ok_or(TooLong)
    }

    /// Whether it opens nothing.
    pub fn is_empty(&self) -> bool {
        self.rules
            .iter()
            .all(|rule| rule.domains.is_empty() || rule.ports.is_empty())
    }

    /// Whether the workflow may reach `host` at `port`, and by which rule.
    pub fn decide(&self, host: &Host, port: u16) -> Verdict<'_> {
        let mut is_declared = false;
        for rule in &self.rules {
            let Some(domain) = rule.meant_by(host) else { continue };
            is_declared = true;
            if rule.ports.iter().any(|range| range.contains(port)) {
                let rule = &rule.name;
                return Verdict::Allowed(Permit { rule, domain });
            }
        }
        Verdict::Refused(match is_declared {
            true => Refusal::Port {
                ports: self.ports_of(host),
            },
            false => Refusal::Domain {
                declared: self.domains(),
            },
        })
    }

    /// The same as [`Self::decide`], without a word.
    pub(super) fn allows(&self, host: &Host, port: u16) -> bool {
        let opens = |rule: &Rule| rule.means(host) && rule.ports.iter().any(|range| range.contains(port));
        self.rules.iter().any(opens)
    }

    fn is_bounded(&self) -> bool {
        let bounded = |rule: &Rule| rule.domains.len() <= MAX_DOMAINS && rule.ports.len() <= MAX_PORTS;
        self.rules.len() <= MAX_RULES && self.rules.iter().all(bounded)
    }

    fn ports_of(&self, host: &Host) -> String {
        let ports = self
            .rules
            .iter()
            .filter(|rule| rule.means(host))
            .flat_map(|rule| &rule.ports);
        listed(ports.map(PortRange::to_string))
    }

    fn domains(&self) -> String {
        listed(self.rules.iter().flat_map(|rule| &rule.domains).map(Domain::to_string))
    }
}

impl Rule {
    fn means(&self, host: &Host) -> bool {
        self.meant_by(host).is_some()
    }

    fn meant_by(&self, host: &Host) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.matches(host))
    }
}

/// A few of many, in one line.
fn listed(items: impl Iterator<Item = String>) -> String {
    let items: std::collections::BTreeSet<String> = items.collect();
    let (count, shown) = (items.len(), items.into_iter().take(MAX_NAMED));
    let shown: Vec<String> = shown.collect();
    match count.saturating_sub(MAX_NAMED) {
        _ if count == 0 => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// By what a connection may be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permit<'a> {
    /// Name of the rule of the AIWorkflow.
    pub rule: &'a str,
    /// The declared domain that means the host.
    pub domain: &'a Domain,
}

/// Whether a connection may be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict<'a> {
    /// It may.
    Allowed(Permit<'a>),
    /// It may not.
    Refused(Refusal),
}

/// Why a workflow may not reach a host: what it may reach instead, as the end of a sentence.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No rule means the host.
    #[error("its declared domains are: {declared}")]
    Domain {
        /// Those declared, at most ten by name.
        declared: String,
    },
    /// Rules mean the host, and none the port.
    #[error("its declared ports there are: {ports}")]
    Port {
        /// Those declared for the host.
        ports: String,
    },
}

/// Why an annotation allows nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than [`MAX_TEXT`].
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// More rules, domains or ports than an AIWorkflow can declare.
    #[error("it has more rules, domains or ports than an AIWorkflow can declare")]
    TooMany,
    /// Not what this version of Ringfence writes.
    #[error("it is not what this version of Ringfence writes ({0})")]
    NotOurs(String),
}

/// What is in force is too long to be written: an AIWorkflow that declares less is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("its domains are longer than 64 KiB together")]
pub struct TooLong;

/// Where reading ended: nothing of the text itself, which may be anybody's.
fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: &str = r#"{"rules":[{"name":"llm","domains":["api.llm.example","*.blob.example"],"ports":[{"port":443},{"port":8000,"endPort":8010}]}]}"#;

    #[rstest]
    #[case::named("api.llm.example", 443, true)]
    #[case::first_of_a_range("api.llm.example", 8000, true)]
    #[case::last_of_a_range("api.llm.example", 8010, true)]
    #[case::below_a_wildcard("a.blob.example", 443, true)]
    #[case::behind_a_range("api.llm.example", 8011, false)]
    #[case::other_port("api.llm.example", 80, false)]
    #[case::other_host("llm.example", 443, false)]
    #[case::wildcard_itself("blob.example", 443, false)]
    fn a_host_and_its_port_are_of_one_rule(#[case] host: &str, #[case] port: u16, #[case] expected: bool) {
        let allowed = Allowed::read(TEXT).unwrap();
        let host = Host::named(host).unwrap();
        let verdict = allowed.decide(&host, port);
        let rule = matches!(verdict, Verdict::Allowed(permit) if permit.rule == "llm" && permit.domain.matches(&host));
        assert_eq!(rule, expected, "{verdict:?}");
    }

    #[test]
    fn a_port_of_one_rule_is_not_a_port_of_another() {
        let rule = |name: &str, domain: &str, port| Rule {
            name: name.to_owned(),
            domains: vec![Domain::parse(domain).unwrap()],
            ports: vec![PortRange { port, end_port: None }],
        };
        let allowed = Allowed {
            rules: vec![
                rule("a", "a.example", 443),
                rule("b", "b.example", 80),
                rule("c", "*.a.example", 22),
            ],
        };
        let decide = |host: &str, port| allowed.decide(&Host::named(host).unwrap(), port);
        assert_eq!(
            decide("a.example", 80),
            Verdict::Refused(Refusal::Port {
                ports: "443".to_owned()
            })
        );
        let declared = "*.a.example, a.example, b.example".to_owned();
        assert_eq!(decide("c.example", 80), Verdict::Refused(Refusal::Domain { declared }));
        let permit = Permit {
            rule: "c",
            domain: &allowed.rules[2].domains[0],
        };
        assert_eq!(decide("x.a.example", 22), Verdict::Allowed(permit));
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let allowed = Allowed::read(TEXT).unwrap();
        assert_eq!(allowed.write().unwrap(), TEXT);
        assert!(!allowed.is_empty() && Allowed::default().is_empty());
    }

    #[rstest]
    #[case::empty("")]
    #[case::null("null")]
    #[case::no_rules("{}")]
    #[case::unknown_field(r#"{"rules":[],"deny":[]}"#)]
    #[case::unknown_field_of_a_rule(
        r#"{"rules":[{"name":"a","domains":["a.example"],"ports":[{"port":443}],"protocol":"UDP"}]}"#
    )]
    #[case::unknown_field_of_a_port(
        r#"{"rules":[{"name":"a","domains":["a.example"],"ports":[{"port":443,"protocol":"UDP"}]}]}"#
    )]
    #[case::everything(r#"{"rules":[{"name":"a","domains":["*"],"ports":[{"port":443}]}]}"#)]
    #[case::upper_case(r#"{"rules":[{"name":"a","domains":["A.example"],"ports":[{"port":443}]}]}"#)]
    #[case::in_the_cluster(r#"{"rules":[{"name":"a","domains":["a.b.svc.cluster.local"],"ports":[{"port":443}]}]}"#)]
    #[case::no_ports(r#"{"rules":[{"name":"a","domains":["a.example"]}]}"#)]
    #[case::port_too_high(r#"{"rules":[{"name":"a","domains":["a.example"],"ports":[{"port":65536}]}]}"#)]
    #[case::something_behind(r#"{"rules":[]} {}"#)]
    #[case::twice(r#"{"rules":[],"rules":[]}"#)]
    fn what_ringfence_did_not_write_allows_nothing(#[case] text: &str) {
        assert!(
            matches!(Allowed::read(text), Err(Unreadable::NotOurs(_))),
            "{:?}",
            Allowed::read(text)
        );
    }

    #[test]
    fn it_has_bounds_when_written_and_when_read() {
        let domain = |number: usize| Domain::parse(&format!("{}a{number}.example", "a.".repeat(110))).unwrap();
        let rule = |domains: usize| Rule {
            name: "a".to_owned(),
            domains: (0..domains).map(domain).collect(),
            ports: vec![PortRange {
                port: 443,
                end_port: None,
            }],
        };
        let long = Allowed {
            rules: vec![rule(25); 64],
        };
        assert_eq!(long.write(), Err(TooLong));
        assert_eq!(
            Allowed::read(&serde_json::to_string(&long).unwrap()),
            Err(Unreadable::TooLong)
        );
        for many in [
            Allowed { rules: vec![rule(26)] },
            Allowed {
                rules: vec![rule(0); 65],
            },
        ] {
            assert_eq!(many.write(), Err(TooLong));
            assert_eq!(
                Allowed::read(&serde_json::to_string(&many).unwrap()),
                Err(Unreadable::TooMany)
            );
        }
        assert!(
            Allowed {
                rules: vec![rule(25); 8]
            }
            .write()
            .is_ok()
        );
    }

    #[test]
    fn a_refusal_names_a_few_of_many() {
        let domains = (0..25).map(|number| Domain::parse(&format!("a{number:02}.example")).unwrap());
        let rule = Rule {
            name: "a".to_owned(),
            domains: domains.collect(),
            ports: Vec::new(),
        };
        let allowed = Allowed { rules: vec![rule] };
        let Verdict::Refused(refusal) = allowed.decide(&Host::named("b.example").unwrap(), 443) else {
            panic!()
        };
        let text = refusal.to_string();
        assert!(text.ends_with("a09.example and 15 more"), "{text}");
        let Verdict::Refused(refusal) = allowed.decide(&Host::named("a01.example").unwrap(), 443) else {
            panic!()
        };
        assert_eq!(refusal.to_string(), "its declared ports there are: none");
    }
}
