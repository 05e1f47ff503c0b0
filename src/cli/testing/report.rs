//! What became of the tests, for people and for machines, and what exit code it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Args, Format};
use crate::cli::terminal::{self, as_json, printable};
use crate::findings::xml_text as xml;
use crate::policy::{FileCoverage, Ran, TestVerdict};
use crate::vetting::{TestedRule, Tests};

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// All of it.
pub(super) struct Report {
    tests: Vec<TestedRule>,
    errors: Vec<String>,
    lines: BTreeMap<String, BTreeSet<u32>>,
    reached: BTreeMap<String, BTreeSet<u32>>,
    took: Duration,
    threshold: Option<f64>,
    covers: bool,
    fail_on_empty: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    fn of(ran: Option<&Ran>) -> Self {
        match ran.map(|ran| &ran.verdict) {
            Some(TestVerdict::Passed) => Self::Passed,
            Some(TestVerdict::Failed(_) | TestVerdict::Error(_)) => Self::Failed,
            None => Self::Skipped,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed => "FAIL",
            Self::Skipped => "skip",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Passed => GREEN,
            Self::Failed => RED,
            Self::Skipped => YELLOW,
        }
    }
}

fn why(ran: &Ran) -> Option<&str> {
    match &ran.verdict {
        TestVerdict::Passed => None,
        TestVerdict::Failed(why) | TestVerdict::Error(why) => Some(why),
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

impl Report {
    pub(super) fn new(threshold: Option<f64>, covers: bool, fail_on_empty: bool) -> Self {
        Self {
            tests: Vec::new(),
            errors: Vec::new(),
            lines: BTreeMap::new(),
            reached: BTreeMap::new(),
            took: Duration::ZERO,
            threshold,
            covers,
            fail_on_empty,
        }
    }

    pub(super) fn error(&mut self, error: String) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Adds what was tested together. `lines`: where samples begin.
    pub(super) fn add(&mut self, tests: Tests, lines: &BTreeMap<(String, String), u32>) {
        tests.refused.iter().for_each(|error| self.error(error.to_string()));
        for mut tested in tests.rules {
            let rule = &mut tested.rule;
            if rule.line == 0 {
                let known = lines.get(&(rule.file.clone(), rule.name.clone()));
                rule.line = known.copied().unwrap_or_default();
            }
            self.tests.push(tested);
        }
        for (all, of) in [(&mut self.lines, tests.lines), (&mut self.reached, tests.reached)] {
            for (file, lines) in of {
                all.entry(file).or_default().extend(lines);
            }
        }
    }

    pub(super) fn done(&mut self, took: Duration) {
        self.took = took;
        if self.tests.is_empty() && self.errors.is_empty() && self.fail_on_empty {
            self.error("there is no test: rules whose names start with test_, or samples of a RegoPolicy".to_owned());
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.tests
            .iter()
            .filter(|tested| Outcome::of(tested.ran.as_ref()) == outcome)
            .count()
    }

    fn coverage(&self) -> Vec<FileCoverage> {
        FileCoverage::of(&self.lines, &self.reached)
    }

    pub(super) fn code(&self) -> u8 {
        if !self.errors.is_empty() {
            return 2;
        }
        let short = self
            .threshold
            .is_some_and(|threshold| percent(&self.coverage()) < threshold);
        u8::from(self.count(Outcome::Failed) > 0 || short)
    }

    pub(super) fn print(&self, args: &Args) -> Result<ExitCode> {
        let text = match args.output {
            Format::Json => as_json(&self.json())?,
            Format::Junit => self.junit(),
            Format::Text => self.text(args.verbose, terminal::has_colour(&io::stdout())),
        };
        terminal::print(&text)?;
        if args.output != Format::Text {
            self.errors
                .iter()
                .for_each(|error| eprintln!("ringfence: {}", printable(error)));
        }
        Ok(ExitCode::from(self.code()))
    }

    pub(super) fn text(&self, verbose: bool, colour: bool) -> String {
        let paint = |text: &str, code: &str| {
            if colour {
                format!("\u{1b}[{code}m{text}\u{1b}[0m")
            } else {
                text.to_owned()
            }
        };
        let mut out = String::new();
        let mut files: BTreeMap<&str, Vec<&TestedRule>> = BTreeMap::new();
        for tested in &self.tests {
            files.entry(&tested.rule.file).or_default().push(tested);
        }
        for (file, tests) in files {
            let ran: Vec<_> = tests.iter().map(|tested| Outcome::of(tested.ran.as_ref())).collect();
            let all = if ran.contains(&Outcome::Failed) {
                Outcome::Failed
            } else {
                Outcome::Passed
            };
            let passed = ran.iter().filter(|outcome| **outcome == Outcome::Passed).count();
            let took = tests.iter().map(|tested| tested.took).sum();
            out.push_str(&format!(
                "{} {}: {passed} of {} passed ({})\n",
                paint(all.as_str(), all.colour()),
                printable(file),
                ran.len(),
                milliseconds(took)
            ));
            for tested in tests {
                let outcome = Outcome::of(tested.ran.as_ref());
                if outcome == Outcome::Passed && !verbose {
                    continue;
                }
                out.push_str(&format!(
                    "  {} {} {} ({})\n",
                    paint(outcome.as_str(), outcome.colour()),
                    printable(&place(tested)),
                    paint(&printable(&tested.rule.path()), BOLD),
                    milliseconds(tested.took)
                ));
                for detail in tested.ran.iter().flat_map(details) {
                    out.push_str(&format!("       {}\n", printable(&detail)));
                }
            }
        }
        for error in &self.errors {
            for (number, line) in error.lines().enumerate() {
                let mark = if number == 0 {
                    paint("error", RED)
                } else {
                    "     ".to_owned()
                };
                out.push_str(&format!("{mark} {}\n", printable(line)));
            }
        }
        if self.covers {
            self.coverage_text(&mut out, &paint);
        }
        out.push_str(&self.summary(&paint));
        out
    }

    fn coverage_text(&self, out: &mut String, paint: &dyn Fn(&str, &str) -> String) {
        let files = self.coverage();
        for file in &files {
            let own = percent(std::slice::from_ref(file));
            let colour = if file.uncovered.is_empty() { GREEN } else { YELLOW };
            out.push_str(&format!(
                "{} {}",
                paint(&format!("{own:5.1} %"), colour),
                printable(&file.file)
            ));
            if !file.uncovered.is_empty() {
                out.push_str(&format!(", not reached: {}", ranges(&file.uncovered)));
            }
            out.push('\n');
        }
        let all = percent(&files);
        let wanted = self.threshold.map(|threshold| (threshold, all < threshold));
        let told = match wanted {
            Some((threshold, true)) => paint(
                &format!("{all:5.1} % of the lines are reached, less than {threshold} %"),
                RED,
            ),
            Some((threshold, false)) => format!("{all:5.1} % of the lines are reached, {threshold} % are asked for"),
            None => format!("{all:5.1} % of the lines are reached"),
        };
        out.push_str(&format!("{told}\n"));
    }

    fn summary(&self, paint: &dyn Fn(&str, &str) -> String) -> String {
        let [passed, failed, skipped] =
            [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| self.count(outcome));
        if self.tests.is_empty() {
            return match self.errors.len() {
                0 => "no tests\n".to_owned(),
                count => format!("no tests were run, {count} errors\n"),
            };
        }
        let mut parts = vec![paint(
            &format!("{passed} passed"),
            if failed == 0 { GREEN } else { BOLD },
        )];
        for (count, word, colour) in [
            (failed, "failed", RED),
            (skipped, "skipped", YELLOW),
            (self.errors.len(), "errors", RED),
        ] {
            if count > 0 {
                parts.push(paint(&format!("{count} {word}"), colour));
            }
        }
        format!("{} in {:.2} s\n", parts.join(", "), self.took.as_secs_f64())
    }

    fn json(&self) -> Value {
        let tests = self.tests.iter().map(|tested| {
            let ran = tested.ran.as_ref();
            let outcome = match ran.map(|ran| &ran.verdict) {
                Some(TestVerdict::Passed) => "passed",
                Some(TestVerdict::Failed(_)) => "failed",
                Some(TestVerdict::Error(_)) => "error",
                None => "skipped",
            };
            let rule = &tested.rule;
            json!({
                "file": rule.file, "line": rule.line, "package": rule.package, "name": rule.name, "outcome": outcome,
                "message": ran.and_then(why), "seconds": tested.took.as_secs_f64(),
                "stops": ran.map(|ran| &ran.stops), "prints": ran.map(|ran| &ran.prints),
            })
        });
        let files = self.coverage();
        let coverage = self.covers.then(|| {
            let files: Vec<_> = files
                .iter()
                .map(|file| {
                    json!({
                        "file": file.file, "covered": file.covered, "lines": file.covered + file.uncovered.len(),
                        "percent": percent(std::slice::from_ref(file)), "uncovered": file.uncovered,
                    })
                })
                .collect();
            json!({"files": files, "percent": percent(&self.coverage())})
        });
        json!({
            "tests": tests.collect::<Vec<_>>(),
            "errors": self.errors,
            "coverage": coverage,
            "summary": {
                "tests": self.tests.len(), "passed": self.count(Outcome::Passed), "failed": self.count(Outcome::Failed),
                "skipped": self.count(Outcome::Skipped), "seconds": self.took.as_secs_f64(),
            },
        })
    }

    fn junit(&self) -> String {
        let mut files: BTreeMap<&str, Vec<&TestedRule>> = BTreeMap::new();
        for tested in &self.tests {
            files.entry(&tested.rule.file).or_default().push(tested);
        }
        let failed = |tests: &[&TestedRule]| {
            tests
                .iter()
                .filter(|tested| Outcome::of(tested.ran.as_ref()) == Outcome::Failed)
                .count()
        };
        let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
        let errors = self.errors.len();
        out.push_str(&format!(
            "<testsuites name=\"ringfence test\" tests=\"{}\" failures=\"{}\" errors=\"{errors}\" time=\"{:.3}\">\n",
            self.tests.len() + errors,
            self.count(Outcome::Failed),
            self.took.as_secs_f64()
        ));
        for (file, tests) in &files {
            let skipped = tests.iter().filter(|tested| tested.ran.is_none()).count();
            let took: Duration = tests.iter().map(|tested| tested.took).sum();
            out.push_str(&format!(
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
                xml(file),
                tests.len(),
                failed(tests),
                took.as_secs_f64()
            ));
            tests.iter().for_each(|tested| out.push_str(&case(tested)));
            out.push_str("  </testsuite>\n");
        }
        if errors > 0 {
            out.push_str(&format!(
                "  <testsuite name=\"errors\" tests=\"{errors}\" failures=\"0\" errors=\"{errors}\">\n"
            ));
            for error in &self.errors {
                out.push_str(&format!(
                    "    <testcase classname=\"ringfence test\" name=\"everything can be read\"><error message=\"{}\"/></testcase>\n",
                    xml(error)
                ));
            }
            out.push_str("  </testsuite>\n");
        }
        out.push_str("</testsuites>\n");
        out
    }
}

fn case(tested: &TestedRule) -> String {
    let rule = &tested.rule;
    let class = if rule.package.is_empty() {
        &rule.file
    } else {
        &rule.package
    };
    let head = format!(
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
        xml(class),
        xml(&rule.name),
        xml(&rule.file),
        rule.line,
        tested.took.as_secs_f64()
    );
    match &tested.ran {
        None => format!("{head}><skipped/></testcase>\n"),
        Some(ran) => match why(ran) {
            None => format!("{head}/>\n"),
            Some(message) => format!(
                "{head}>\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                xml(message),
                xml(&details(ran).join("; "))
            ),
        },
    }
}

fn place(tested: &TestedRule) -> String {
    match tested.rule.line {
        0 => tested.rule.file.clone(),
        line => format!("{}:{line}", tested.rule.file),
    }
}

/// Why, where it stops, and what it printed.
fn details(ran: &Ran) -> Vec<String> {
    let mut told: Vec<_> = why(ran).map(str::to_owned).into_iter().collect();
    for stop in &ran.stops {
        told.push(format!("it gets as far as {}:{}: {}", stop.file, stop.line, stop.text));
    }
    told.extend(ran.prints.iter().map(|print| format!("printed at {print}")));
    told
}

/// Of no lines at all none is missing.
#[allow(clippy::cast_precision_loss)]
fn percent(files: &[FileCoverage]) -> f64 {
    let covered: usize = files.iter().map(|file| file.covered).sum();
    let all = covered + files.iter().map(|file| file.uncovered.len()).sum::<usize>();
    if all == 0 {
        100.0
    } else {
        covered as f64 * 100.0 / all as f64
    }
}

/// `3, 5-7` of lines in order.
fn ranges(lines: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == *line => *end = *line,
            _ => parts.push((*line, *line)),
        }
    }
    let told = parts.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    told.collect::<Vec<_>>().join(", ")
}
