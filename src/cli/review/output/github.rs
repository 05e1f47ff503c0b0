//! Annotations of GitHub Actions: one line each, which its runner turns into a remark at the line.

use anyhow::Result;

use super::{
    super::{
        judge::Level,
        judged::{Judged, Totals, Trouble},
    },
    Printer, not_judged, summary, told,
};
use crate::review::clean;

pub(super) struct Github;

/// Where an annotation stands.
struct At<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<(u32, Option<u32>)>,
}

impl Printer for Github {
    fn judged(&mut self, judged: &Judged) -> Result<String> {
        let mut text = String::new();
        for finding in &judged.findings {
            let violation = &finding.found.violation;
            let word = match finding.found.level {
                Level::Deny => "error",
                Level::Warn => "warning",
                Level::Audit => "notice",
            };
            let (line, column) = finding.at(judged);
            let at = At {
                file: &judged.file,
                line: Some(line),
                column: column.map(|column| (column, finding.place.as_ref().map(|place| place.end))),
            };
            let message = format!("{}: {}. Fix: {}", judged.title(), told(&finding.found), violation.fix);
            text.push_str(&annotation(word, &at, &violation.policy, &message));
        }
        Ok(text)
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<String> {
        let at = At {
            file: &trouble.file,
            line: trouble.line,
            column: trouble.column.map(|column| (column, None)),
        };
        Ok(annotation("error", &at, "could not be reviewed", &trouble.message))
    }

    fn end(&mut self, totals: &Totals) -> Result<String> {
        let mut text = String::new();
        for line in not_judged(totals) {
            text.push_str(&format!("::notice title=not judged::{}\n", data(&line)));
        }
        // A line that is no command is shown in the log as it is.
        text.push_str(&summary(totals));
        text.push('\n');
        Ok(text)
    }
}

fn annotation(word: &str, at: &At<'_>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    // What came by a pipe is in no file that the runner could show.
    if at.file != "stdin" {
        properties.push(format!("file={}", property(at.file)));
    }
    properties.extend(at.line.map(|line| format!("line={line}")));
    if let Some((column, end)) = at.column {
        properties.push(format!("col={column}"));
        properties.extend(end.map(|end| format!("endColumn={end}")));
    }
    properties.push(format!("title={}", property(title)));
    format!("::{word} {}::{}\n", properties.join(","), data(message))
}

/// What follows the second `::`.
fn data(text: &str) -> String {
    clean(text).replace('%', "%25")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_an_annotation_or_begins_another() {
        let at = At {
            file: "a,b:c%.yaml",
            line: Some(3),
            column: Some((5, Some(9))),
        };
        assert_eq!(
            annotation("error", &at, "x,y::z", "100%\r\n::error::no"),
            "::error file=a%2Cb%3Ac%25.yaml,line=3,col=5,endColumn=9,title=x%2Cy%3A%3Az::100%25  ::error::no\n"
        );
    }
}
