//! For machines: one JSON object, whose results are printed one by one.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    super::judged::{Finding, Judged, Sent, Totals, Trouble},
    Printer,
};
use crate::cli::terminal::as_json;

/// Most problems that are listed.
const MAX_PROBLEMS: usize = 10_000;

#[derive(Default)]
pub(super) struct Json {
    has_results: bool,
    problems: Vec<Value>,
}

impl Printer for Json {
    fn begin(&mut self) -> Result<String> {
        Ok("{\n  \"results\": [".to_owned())
    }

    fn judged(&mut self, judged: &Judged) -> Result<String> {
        let comma = if self.has_results { "," } else { "" };
        self.has_results = true;
        Ok(format!("{comma}\n    {}", indented(&result(judged), 4)?))
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<String> {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(json!({
                "file": trouble.file, "line": trouble.line, "column": trouble.column, "message": trouble.message,
            }));
        }
        Ok(String::new())
    }

    fn end(&mut self, totals: &Totals) -> Result<String> {
        let missing = totals.missing.iter().map(|((by, what), (objects, policies))| {
            json!({"needs": what, "by": by, "objects": objects, "policies": policies})
        });
        let problems = indented(&self.problems.clone().into(), 2)?;
        let missing = indented(&missing.collect::<Vec<_>>().into(), 2)?;
        let totals = indented(
            &json!({
                "files": totals.files, "objects": totals.objects, "denied": totals.denied, "warned": totals.warned,
                "unasked": totals.unasked, "notJudged": totals.not_judged, "problems": totals.problems,
            }),
            2,
        )?;
        let end = if self.has_results { "\n  " } else { "" };
        Ok(format!(
            "{end}],\n  \"notJudged\": {missing},\n  \"problems\": {problems},\n  \"totals\": {totals}\n}}\n"
        ))
    }
}

/// JSON whose further lines stand so far to the right.
fn indented(value: &Value, by: usize) -> Result<String> {
    let text = as_json(value)?;
    Ok(text.trim_end().replace('\n', &format!("\n{}", " ".repeat(by))))
}

fn result(judged: &Judged) -> Value {
    let not_judged = judged
        .not_judged
        .iter()
        .map(|one| json!({"policy": one.policy, "needs": one.needs, "by": one.by}));
    json!({
        "file": &*judged.file,
        "line": judged.line,
        "source": judged.source,
        "apiVersion": judged.api_version,
        "kind": judged.kind,
        "namespace": judged.namespace,
        "name": judged.name,
        "operation": judged.operation,
        "verdict": judged.verdict(),
        "answers": judged.answers.iter().map(answer).collect::<Vec<_>>(),
        "findings": judged.findings.iter().map(|one| finding(judged, one)).collect::<Vec<_>>(),
        "notJudged": not_judged.collect::<Vec<_>>(),
    })
}

fn answer(sent: &Sent) -> Value {
    let excused = sent
        .excused
        .iter()
        .map(|(exception, policy)| json!({"exception": exception, "policy": policy}));
    json!({
        "webhook": sent.webhook, "allowed": sent.allowed, "message": sent.message, "warnings": sent.warnings,
        "excused": excused.collect::<Vec<_>>(),
    })
}

fn finding(judged: &Judged, finding: &Finding) -> Value {
    let violation = &finding.found.violation;
    let (line, column) = finding.at(judged);
    json!({
        "level": finding.found.level,
        "webhook": finding.found.webhook,
        "policy": violation.policy,
        "path": violation.path,
        "value": violation.value,
        "message": violation.message,
        "fix": violation.fix,
        "line": line,
        "column": column,
    })
}
