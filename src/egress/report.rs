//! Declared, resolved, observed: what replicas have counted beside what is declared now, so that lists shrink to what is needed.
//!
//! Must never: call something unused without saying since when nobody used it, and who was not asked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::account::{Counted, CountedDomain, CountedRefusal};
use super::index::Workflow;

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";
/// Widest column of names.
const MAX_COLUMN: usize = 48;

/// What a workflow declares now: rule and domain.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Declared(pub BTreeMap<Workflow, Vec<(String, String)>>);

/// A replica that did not say what it counted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Silent {
    /// Which.
    pub replica: String,
    /// Why.
    pub why: String,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Report {
    replicas: Vec<(String, u64)>,
    silent: Vec<Silent>,
    workflows: BTreeMap<Workflow, OfOne>,
}

#[derive(Debug, Default)]
struct OfOne {
    is_there: bool,
    domains: BTreeMap<(String, String), OfDomain>,
    refused: BTreeMap<(String, u16), CountedRefusal>,
    unlisted: u64,
}

#[derive(Debug, Default)]
struct OfDomain {
    is_declared: bool,
    counted: CountedDomain,
}

/// What became of a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Used,
    Unused,
    /// Asked for, and never reached.
    Unreached,
    /// Counted, and not declared any more.
    Withdrawn,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unused => "unused",
            Self::Unreached => "unreached",
            Self::Withdrawn => "withdrawn",
        }
    }

    const fn paint(self) -> &'static str {
        match self {
            Self::Used => GREEN,
            Self::Unused | Self::Withdrawn => YELLOW,
            Self::Unreached => RED,
        }
    }
}

impl OfDomain {
    const fn state(&self) -> State {
        match (self.is_declared, self.counted.connections, self.counted.failed) {
            (false, ..) => State::Withdrawn,
            (true, 0, 0) => State::Unused,
            (true, 0, _) => State::Unreached,
            (true, ..) => State::Used,
        }
    }
}

impl Report {
    /// Puts together what replicas have counted of the workflows that `is_asked_for`, and what is declared.
    pub fn new(
        declared: Declared,
        counted: Vec<(String, Counted)>,
        silent: Vec<Silent>,
        is_asked_for: impl Fn(&Workflow) -> bool,
    ) -> Self {
        let mut report = Self {
            silent,
            ..Self::default()
        };
        for (workflow, domains) in declared.0.into_iter().filter(|(workflow, _)| is_asked_for(workflow)) {
            let of_one = report.workflows.entry(workflow).or_default();
            of_one.is_there = true;
            for key in domains {
                of_one.domains.entry(key).or_default().is_declared = true;
            }
        }
        for (replica, counted) in counted {
            report.replicas.push((replica, counted.since));
            report.add(counted, &is_asked_for);
        }
        report
    }

    fn add(&mut self, counted: Counted, is_asked_for: impl Fn(&Workflow) -> bool) {
        for one in counted.workflows {
            let workflow = Workflow {
                namespace: one.namespace,
                name: one.name,
            };
            if !is_asked_for(&workflow) {
                continue;
            }
            let of_one = self.workflows.entry(workflow).or_default();
            of_one.unlisted = of_one.unlisted.saturating_add(one.unlisted);
            for used in one.used {
                let of_domain = of_one.domains.entry((used.rule.clone(), used.domain.clone()));
                let sum = &mut of_domain.or_default().counted;
                for (sum, more) in [
                    (&mut sum.connections, used.connections),
                    (&mut sum.open, used.open),
                    (&mut sum.failed, used.failed),
                    (&mut sum.sent, used.sent),
                    (&mut sum.received, used.received),
                ] {
                    *sum = sum.saturating_add(more);
                }
                sum.last = sum.last.max(used.last);
            }
            for refused in one.refused {
                let sum = of_one.refused.entry((refused.host.clone(), refused.port)).or_default();
                sum.count = sum.count.saturating_add(refused.count);
                sum.last = sum.last.max(refused.last);
            }
        }
    }

    /// Replicas that did not say what they counted.
    pub fn silent(&self) -> &[Silent] {
        &self.silent
    }

    /// Since when nothing has been missed: the latest beginning. `None`: no replica was asked.
    fn since(&self) -> Option<u64> {
        self.replicas.iter().map(|(_, since)| *since).max()
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let replicas = self
            .replicas
            .iter()
            .map(|(name, since)| json!({"name": name, "since": time(*since)}));
        let silent = self
            .silent
            .iter()
            .map(|silent| json!({"name": silent.replica, "reason": silent.why}));
        let workflows = self.workflows.iter().map(|(workflow, of_one)| {
            let domains = of_one.domains.iter().map(|((rule, domain), of_domain)| {
                let counted = &of_domain.counted;
                json!({
                    "rule": rule, "domain": domain, "state": of_domain.state().as_str(),
                    "connections": counted.connections, "open": counted.open, "failed": counted.failed,
                    "sentBytes": counted.sent, "receivedBytes": counted.received, "last": last(counted.last),
                })
            });
            let refused = of_one.refused.iter().map(|((host, port), refused)| {
                json!({"host": host, "port": port, "count": refused.count, "last": last(refused.last)})
            });
            json!({
                "namespace": workflow.namespace, "name": workflow.name, "exists": of_one.is_there,
                "domains": domains.collect::<Vec<_>>(), "refused": refused.collect::<Vec<_>>(),
                "refusedUnlisted": of_one.unlisted,
            })
        });
        json!({
            "since": self.since().map(time), "replicas": replicas.collect::<Vec<_>>(), "silent": silent.collect::<Vec<_>>(),
            "workflows": workflows.collect::<Vec<_>>(),
        })
    }

    /// For people. `colour` is for terminals only.
    pub fn table(&self, colour: bool) -> String {
        let paint = |paint: &str, text: &str| match colour {
            true => format!("{paint}{text}{RESET}"),
            false => text.to_owned(),
        };
        let mut text = String::new();
        for (workflow, of_one) in &self.workflows {
            text.push_str(&paint(BOLD, &workflow.to_string()));
            if !of_one.is_there {
                text.push_str(", which is not there any more or declares no domains");
            }
            text.push('\n');
            let names = of_one
                .domains
                .keys()
                .map(|(rule, domain)| (rule.as_str(), domain.as_str()));
            let [rules, domains] = widths(names);
            for ((rule, domain), of_domain) in &of_one.domains {
                let state = of_domain.state();
                let painted = paint(state.paint(), &format!("{:<9}", state.as_str()));
                let line = format!(
                    "  {painted}  {rule:<rules$}  {domain:<domains$}  {}",
                    told(&of_domain.counted)
                );
                text.push_str(line.trim_end());
                text.push('\n');
            }
            for ((host, port), refused) in &of_one.refused {
                let painted = paint(RED, &format!("{:<9}", "refused"));
                let times = times(refused.count);
                let when = time(refused.last);
                text.push_str(&format!("  {painted}  {host}:{port}  {times}, last at {when}\n"));
            }
            if of_one.unlisted > 0 {
                let times = times(of_one.unlisted);
                text.push_str(&format!(
                    "  {:<9}  {times} more, of hosts that are not kept by name\n",
                    ""
                ));
            }
        }
        if self.workflows.is_empty() {
            text.push_str("No workflow declares a domain, and none was refused one.\n");
        }
        text.push('\n');
        text.push_str(&self.extent());
        text
    }

    /// Since when, by whom, and by whom not.
    fn extent(&self) -> String {
        let asked = self.replicas.len() + self.silent.len();
        let Some(since) = self.since() else {
            return format!("None of {asked} replicas has answered: what is used is not known.\n");
        };
        let mut text = format!(
            "Counted since {} by {} of {asked} replicas. What is unused since then may still be needed: a job that runs once a month, say.\n",
            time(since),
            self.replicas.len()
        );
        for (name, since) in &self.replicas {
            text.push_str(&format!("  {name}  since {}\n", time(*since)));
        }
        for Silent { replica, why } in &self.silent {
            text.push_str(&format!("  {replica}  not answered: {why}\n"));
        }
        text
    }
}

fn widths<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> [usize; 2] {
    names.fold([0, 0], |[one, other], (rule, domain)| {
        [
            one.max(rule.chars().count()).min(MAX_COLUMN),
            other.max(domain.chars().count()).min(MAX_COLUMN),
        ]
    })
}

/// What was counted of a domain, if anything was.
fn told(counted: &CountedDomain) -> String {
    if counted.connections == 0 && counted.failed == 0 {
        return String::new();
    }
    let mut parts = Vec::new();
    if counted.connections > 0 {
        let open = if counted.open > 0 {
            format!(" ({} open)", counted.open)
        } else {
            String::new()
        };
        parts.push(format!("{}{open}", many(counted.connections, "connection")));
        parts.push(format!(
            "{} sent, {} received",
            size(counted.sent),
            size(counted.received)
        ));
    }
    if counted.failed > 0 {
        parts.push(format!("{} that led nowhere", counted.failed));
    }
    parts.push(format!("last at {}", time(counted.last)));
    parts.join(", ")
}

fn many(count: u64, of: &str) -> String {
    match count {
        1 => format!("1 {of}"),
        _ => format!("{count} {of}s"),
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 10 * 1024 {
            break;
        }
        (value, unit) = (value / 1024, larger);
    }
    format!("{value} {unit}")
}

fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|at| Timestamp::from_second(at).ok());
    at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string())
}

fn last(seconds: u64) -> Option<String> {
    (seconds > 0).then(|| time(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::account::CountedWorkflow;
    use super::*;

    fn workflow(name: &str) -> Workflow {
        Workflow {
            namespace: "ai".to_owned(),
            name: name.to_owned(),
        }
    }

    fn used(domain: &str, connections: u64, failed: u64, last: u64) -> CountedDomain {
        CountedDomain {
            rule: "llm".to_owned(),
            domain: domain.to_owned(),
            connections,
            failed,
            sent: 20_000 * connections,
            last,
            ..CountedDomain::default()
        }
    }

    fn counted(since: u64, used: Vec<CountedDomain>, refused: &[(&str, u64, u64)]) -> Counted {
        let refused = refused.iter().map(|(host, count, last)| CountedRefusal {
            host: (*host).to_owned(),
            port: 443,
            count: *count,
            last: *last,
        });
        Counted {
            since,
            workflows: vec![CountedWorkflow {
                namespace: "ai".to_owned(),
                name: "triage".to_owned(),
                used,
                refused: refused.collect(),
                unlisted: 2,
            }],
        }
    }

    fn declared(domains: &[&str]) -> Declared {
        let domains = domains.iter().map(|domain| ("llm".to_owned(), (*domain).to_owned()));
        Declared([(workflow("triage"), domains.collect())].into())
    }

    fn states(report: &Report) -> Vec<(String, String)> {
        let json = report.json();
        let domains = json["workflows"][0]["domains"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        domains
            .map(|domain| (text(&domain["domain"]), text(&domain["state"])))
            .collect()
    }

    #[test]
    fn replicas_are_put_together_beside_what_is_declared() {
        let one = counted(
            100,
            vec![used("a.example", 2, 0, 150), used("c.example", 0, 4, 120)],
            &[("x.example", 3, 130)],
        );
        let other = counted(
            50,
            vec![used("a.example", 1, 1, 90), used("old.example", 5, 0, 60)],
            &[("x.example", 1, 140), ("y.example", 1, 70)],
        );
        let replicas = vec![("p-1".to_owned(), one), ("p-2".to_owned(), other)];
        let report = Report::new(
            declared(&["a.example", "b.example", "c.example"]),
            replicas,
            Vec::new(),
            |_| true,
        );
        let expected = [
            ("a.example", "used"),
            ("b.example", "unused"),
            ("c.example", "unreached"),
            ("old.example", "withdrawn"),
        ];
        assert_eq!(
            states(&report),
            expected.map(|(domain, state)| (domain.to_owned(), state.to_owned()))
        );
        let json = report.json();
        let a = &json["workflows"][0]["domains"][0];
        assert_eq!(
            (&a["connections"], &a["failed"], &a["sentBytes"], &a["last"]),
            (&json!(3), &json!(1), &json!(60_000), &json!("1970-01-01T00:02:30Z"))
        );
        assert_eq!(
            json["workflows"][0]["refused"],
            json!([
                {"host": "x.example", "port": 443, "count": 4, "last": "1970-01-01T00:02:20Z"},
                {"host": "y.example", "port": 443, "count": 1, "last": "1970-01-01T00:01:10Z"},
            ])
        );
        assert_eq!(json["workflows"][0]["refusedUnlisted"], 4);
        // Before that, one of them was not there to see.
        assert_eq!(json["since"], "1970-01-01T00:01:40Z");
        let text = report.table(false);
        for line in [
            "ai/triage\n",
            "  used       llm  a.example    3 connections, 58 KiB sent, 0 B received, 1 that led nowhere, last at 1970-01-01T00:02:30Z\n",
            "  unused     llm  b.example\n",
            "  unreached  llm  c.example    4 that led nowhere, last at",
            "  withdrawn  llm  old.example  5 connections",
            "  refused    x.example:443  4 times, last at",
            "  refused    y.example:443  once, last at",
            "4 times more, of hosts",
            "Counted since 1970-01-01T00:01:40Z by 2 of 2 replicas.",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && report.table(true).contains(RED));
    }

    #[test]
    fn who_did_not_answer_is_named() {
        let silent = vec![Silent {
            replica: "p-2".to_owned(),
            why: "no answer".to_owned(),
        }];
        let nobody = Report::new(declared(&["a.example"]), Vec::new(), silent.clone(), |_| true);
        assert!(nobody.table(false).contains("None of 1 replicas has answered"));
        assert_eq!(nobody.json()["since"], Value::Null);
        let one = vec![("p-1".to_owned(), counted(100, Vec::new(), &[]))];
        let report = Report::new(declared(&["a.example"]), one, silent, |_| true);
        let text = report.table(false);
        assert!(
            text.contains("by 1 of 2 replicas") && text.contains("p-2  not answered: no answer"),
            "{text}"
        );
        assert_eq!(report.json()["silent"], json!([{"name": "p-2", "reason": "no answer"}]));
    }

    #[test]
    fn only_what_is_asked_for_is_told() {
        let mut more = counted(100, vec![used("a.example", 1, 0, 1)], &[]);
        more.workflows.push(CountedWorkflow {
            namespace: "other".to_owned(),
            name: "secret".to_owned(),
            used: vec![used("secret.example", 1, 0, 1)],
            ..CountedWorkflow::default()
        });
        let report = Report::new(
            Declared::default(),
            vec![("p".to_owned(), more)],
            Vec::new(),
            |workflow| workflow.namespace == "ai",
        );
        let text = report.table(false);
        assert!(
            text.contains("ai/triage, which is not there") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn what_a_replica_says_overflows_nothing() {
        let most = || {
            counted(
                u64::MAX,
                vec![used("a.example", 1, 0, u64::MAX)],
                &[("x.example", u64::MAX, u64::MAX)],
            )
        };
        let replicas = vec![("p".to_owned(), most()), ("q".to_owned(), most())];
        let report = Report::new(declared(&["a.example"]), replicas, Vec::new(), |_| true);
        assert!(report.table(false).contains("an unknown time"));
    }
}
