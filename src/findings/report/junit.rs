//! JUnit's XML, which every build server shows: a suite a namespace, a failed test case a finding.

use std::collections::BTreeMap;

use super::{Report, told};
use crate::findings::Finding;
use crate::review::clean;

impl Report {
    /// The report as JUnit XML.
    pub fn junit(&self) -> String {
        let mut suites: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            suites.entry(finding.namespace.as_str()).or_default().push(finding);
        }
        let gaps = &self.extent.gaps;
        let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
        let (failures, errors) = (self.findings.len(), gaps.len());
        let fits = usize::from(failures + errors == 0);
        text.push_str(&format!(
            "<testsuites name=\"ringfence\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\">\n",
            failures + errors + fits
        ));
        for (namespace, findings) in suites {
            let name = if namespace.is_empty() { "cluster" } else { namespace };
            let count = findings.len();
            text.push_str(&format!(
                "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{count}\" errors=\"0\">\n",
                escaped(name)
            ));
            for finding in findings {
                text.push_str(&case(name, finding));
            }
            text.push_str("  </testsuite>\n");
        }
        if errors + fits > 0 {
            text.push_str(&format!(
                "  <testsuite name=\"scan\" tests=\"{}\" failures=\"0\" errors=\"{errors}\">\n",
                errors + fits
            ));
            if fits > 0 {
                text.push_str("    <testcase classname=\"ringfence\" name=\"everything fits inside the fence\"/>\n");
            }
            for gap in gaps {
                text.push_str(&format!(
                    "    <testcase classname=\"ringfence\" name=\"everything can be looked at\"><error message=\"{}\"/></testcase>\n",
                    escaped(gap)
                ));
            }
            text.push_str("  </testsuite>\n");
        }
        text.push_str("</testsuites>\n");
        text
    }
}

fn case(suite: &str, finding: &Finding) -> String {
    let Finding {
        kind, name, rule, fix, ..
    } = finding;
    format!(
        "    <testcase classname=\"{}\" name=\"{}\">\n      <failure type=\"{}\" message=\"{}\">Fix: {}</failure>\n    </testcase>\n",
        escaped(&format!("{suite}.{kind}")),
        escaped(&format!("{name}: {rule}")),
        escaped(rule),
        escaped(&told(finding)),
        escaped(fix)
    )
}

/// Text of an attribute or element. XML 1.0 has no way to write most control characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
