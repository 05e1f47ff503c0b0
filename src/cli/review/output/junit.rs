//! JUnit's XML: a suite a file, a test case an object, a failure what refuses it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    super::{
        judge::Level,
        judged::{Judged, Totals, Trouble},
    },
    Printer, not_judged, told,
};
use crate::findings::xml_text as escaped;

/// Most test cases: build servers read no more than that.
const MAX_CASES: usize = 20_000;

#[derive(Default)]
pub(super) struct Junit {
    suites: BTreeMap<String, Suite>,
    cases: usize,
}

#[derive(Default)]
struct Suite {
    cases: String,
    tests: usize,
    failures: usize,
    errors: usize,
}

impl Junit {
    fn suite(&mut self, file: &str) -> &mut Suite {
        self.cases += 1;
        self.suites.entry(file.to_owned()).or_default()
    }
}

impl Printer for Junit {
    fn judged(&mut self, judged: &Judged) -> Result<String> {
        let fails = judged.has(Level::Deny);
        // What fails is never left out.
        if self.cases >= MAX_CASES && !fails {
            return Ok(String::new());
        }
        let mut case = format!(
            "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\">\n",
            escaped(&judged.kind),
            escaped(&judged.title()),
            escaped(&judged.file),
            judged.line
        );
        let of_level = |level: Level| {
            judged
                .findings
                .iter()
                .filter(move |finding| finding.found.level == level)
        };
        for finding in of_level(Level::Deny) {
            let violation = &finding.found.violation;
            case.push_str(&format!(
                "      <failure type=\"{}\" message=\"{}\">{}:{}: Fix: {}</failure>\n",
                escaped(&violation.policy),
                escaped(&told(&finding.found)),
                escaped(&judged.file),
                finding.at(judged).0,
                escaped(&violation.fix)
            ));
        }
        let said: Vec<_> = of_level(Level::Warn)
            .map(|finding| format!("{}: {}", finding.found.violation.policy, told(&finding.found)))
            .collect();
        if !said.is_empty() {
            case.push_str(&format!(
                "      <system-out>{}</system-out>\n",
                escaped(&said.join("; "))
            ));
        }
        case.push_str("    </testcase>\n");
        let suite = self.suite(&judged.file);
        suite.tests += 1;
        suite.failures += usize::from(fails);
        suite.cases.push_str(&case);
        Ok(String::new())
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<String> {
        let case = format!(
            "    <testcase classname=\"ringfence\" name=\"{} can be reviewed\"><error type=\"problem\" message=\"{}\"/></testcase>\n",
            escaped(&trouble.at()),
            escaped(&trouble.message)
        );
        let suite = self.suite(&trouble.file);
        suite.tests += 1;
        suite.errors += 1;
        suite.cases.push_str(&case);
        Ok(String::new())
    }

    fn end(&mut self, totals: &Totals) -> Result<String> {
        let left_out = not_judged(totals);
        if !left_out.is_empty() {
            let suite = self.suites.entry("facts".to_owned()).or_default();
            for line in &left_out {
                suite.tests += 1;
                suite.cases.push_str(&format!(
                    "    <testcase classname=\"ringfence\" name=\"every rule can be judged\"><skipped message=\"{}\"/></testcase>\n",
                    escaped(line)
                ));
            }
        }
        let sum = |of: fn(&Suite) -> usize| self.suites.values().map(of).sum::<usize>();
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ringfence\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
            sum(|suite| suite.tests),
            sum(|suite| suite.failures),
            sum(|suite| suite.errors)
        );
        for (file, suite) in &self.suites {
            text.push_str(&format!(
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n{}  </testsuite>\n",
                escaped(file),
                suite.tests,
                suite.failures,
                suite.errors,
                if file == "facts" { left_out.len() } else { 0 },
                suite.cases
            ));
        }
        text.push_str("</testsuites>\n");
        Ok(text)
    }
}
