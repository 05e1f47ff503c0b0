//! For people: who should hold less, by what it is good for; then, apart, who is expected to hold it.

use std::collections::BTreeMap;

use super::report::{Held, Report, Standing, Where};
use super::subject::Subject;
use super::{CAPABILITIES, Capability};

const RED: &str = "\u{1b}[31m";
const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";
/// Widest column of names.
const MAX_COLUMN: usize = 48;

impl Report {
    /// The report as text. `colour` is for terminals only.
    pub fn table(&self, colour: bool) -> String {
        let paint = |text: &str, paint: &str| {
            if colour {
                format!("{paint}{text}{RESET}\n")
            } else {
                format!("{text}\n")
            }
        };
        let mut text = String::new();
        for capability in &CAPABILITIES {
            let held: Vec<_> = self.of(Standing::Beyond).filter(|held| held.is(capability)).collect();
            if held.is_empty() {
                continue;
            }
            text.push_str(&paint(&format!("{}: {}", capability.title, capability.hazard), BOLD));
            let width = held.iter().map(|held| held.subject.to_string().chars().count()).max();
            let width = width.unwrap_or_default().min(MAX_COLUMN);
            let mut last = None;
            for held in held {
                if last != Some(&held.place) {
                    text.push_str(&format!("  {}\n", told(capability, &held.place)));
                    last = Some(&held.place);
                }
                text.push_str(&paint(
                    &format!("    {:<width$}  {}", held.subject.to_string(), held.by()),
                    RED,
                ));
                text.push_str(&format!("    {:<width$}  {}\n", "", held.what()));
            }
            text.push_str(&format!("  Fix: {}\n\n", capability.fix));
        }
        for (standing, title) in [
            (
                Standing::Expected,
                "Expected, because they hold approve or trust on AIWorkflowClasses, or launch",
            ),
            (Standing::Ringfence, "Ringfence itself"),
            (Standing::Kubernetes, "Kubernetes itself"),
        ] {
            let mut subjects: BTreeMap<&Subject, Vec<&str>> = BTreeMap::new();
            for held in self.of(standing) {
                let titles = subjects.entry(&held.subject).or_default();
                if !titles.contains(&held.capability.name) {
                    titles.push(held.capability.name);
                }
            }
            if subjects.is_empty() {
                continue;
            }
            text.push_str(&paint(&format!("{title}:"), BOLD));
            for (subject, capabilities) in subjects {
                text.push_str(&paint(&format!("  {subject}: {}", capabilities.join(", ")), DIM));
            }
            text.push('\n');
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    fn summary(&self) -> String {
        let incomplete = match (self.gaps.is_empty(), self.omitted) {
            (true, 0) => String::new(),
            (true, omitted) => format!(" {omitted} more could not be listed."),
            (false, _) => " Not all could be looked at.".to_owned(),
        };
        let of = match self.namespaces {
            1 => "1 fenced namespace".to_owned(),
            many => format!("{many} fenced namespaces"),
        };
        match self.subjects(Standing::Beyond) {
            0 => format!("Nobody holds more than is expected, in {of} and the cluster.{incomplete}"),
            1 => format!("1 holder of more than is expected, in {of} and the cluster.{incomplete}"),
            many => format!("{many} holders of more than is expected, in {of} and the cluster.{incomplete}"),
        }
    }
}

impl Held {
    fn is(&self, capability: &Capability) -> bool {
        std::ptr::eq(self.capability, capability)
    }
}

fn told(capability: &Capability, place: &Where) -> String {
    use super::Reach;
    match (place, capability.reach) {
        (Where::Namespace(namespace), _) => format!("in namespace {namespace}"),
        (Where::Cluster, Reach::Fenced) => "in every fenced namespace".to_owned(),
        (Where::Cluster, Reach::Launchers) => "in every namespace of a launcher".to_owned(),
        (Where::Cluster, Reach::Platform) => "in every namespace of the platform".to_owned(),
        (Where::Cluster, Reach::Cluster | Reach::Above) => "in the cluster".to_owned(),
    }
}
