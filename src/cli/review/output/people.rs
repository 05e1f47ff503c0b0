//! For people: like a compiler's, the line that is at fault with what is wrong and what to do.

use anyhow::Result;

use super::{
    super::{
        judge::Level,
        judged::{Finding, Judged, Totals, Trouble},
    },
    Printer, not_judged, summary,
};
use crate::review::clean;

const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const BLUE: &str = "\u{1b}[1;34m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

pub(super) struct People {
    pub(super) colour: bool,
}

impl People {
    fn painted(&self, text: &str, paint: &str) -> String {
        if self.colour {
            format!("{paint}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    fn finding(&self, judged: &Judged, finding: &Finding) -> String {
        let violation = &finding.found.violation;
        let (word, paint) = match finding.found.level {
            Level::Deny => ("refused", RED),
            Level::Warn => ("warning", YELLOW),
            Level::Audit => ("audited", BLUE),
        };
        let head = self.painted(&format!("{word}[{}]", clean(&violation.policy)), paint);
        let message = self.painted(&clean(&violation.message), BOLD);
        let mut text = format!("{head}: {message}\n");
        let (line, column) = finding.at(judged);
        let number = line.to_string();
        let indent = " ".repeat(number.len());
        let column = column.map(|column| format!(":{column}")).unwrap_or_default();
        let arrow = self.painted("-->", BLUE);
        text.push_str(&format!(
            "{indent}{arrow} {}:{line}{column} ({})\n",
            clean(&judged.file),
            clean(&judged.title())
        ));
        let bar = self.painted("|", BLUE);
        if let Some(shown) = finding.place.as_ref().and_then(|place| place.shown.as_ref()) {
            let carets = self.painted(&"^".repeat(shown.long), paint);
            text.push_str(&format!("{indent} {bar}\n"));
            text.push_str(&format!("{} {bar} {}\n", self.painted(&number, BLUE), shown.text));
            text.push_str(&format!("{indent} {bar} {}{carets}\n", " ".repeat(shown.before)));
        }
        let equals = self.painted("=", BLUE);
        let mut note = |name: &str, what: &str| {
            if !what.is_empty() {
                text.push_str(&format!("{indent} {equals} {name}: {}\n", clean(what)));
            }
        };
        let value = finding
            .found
            .value()
            .map(|value| format!(" = {value:?}"))
            .unwrap_or_default();
        note("field", &format!("{}{value}", violation.path));
        note("source", judged.source.as_deref().unwrap_or_default());
        note("fix", &violation.fix);
        text.push('\n');
        text
    }
}

impl Printer for People {
    fn judged(&mut self, judged: &Judged) -> Result<String> {
        Ok(judged
            .findings
            .iter()
            .map(|finding| self.finding(judged, finding))
            .collect())
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<String> {
        let head = self.painted("problem", RED);
        let message = self.painted(&clean(&trouble.message), BOLD);
        let arrow = self.painted("-->", BLUE);
        Ok(format!("{head}: {message}\n {arrow} {}\n\n", clean(&trouble.at())))
    }

    fn end(&mut self, totals: &Totals) -> Result<String> {
        let mut text = String::new();
        for line in not_judged(totals) {
            text.push_str(&clean(&line));
            text.push('\n');
        }
        text.push_str(&summary(totals));
        text.push('\n');
        Ok(text)
    }
}
