//! Decision lines among other lines: as the log has them, or as what ships logs has wrapped them.
//!
//! Must never: take a line of another program for a decision, or repeat a value of one in an error.

use serde_json::Value;

use super::line::{Line, MESSAGE, TARGET};
use crate::review::clean;

/// Longest text that is read as JSON documents, in bytes; beyond, each is a line. Parsed, JSON can weigh a hundred times as much.
const MAX_DOCUMENTS: usize = 4 << 20;
/// Longest line that can be a decision's, wrapped and escaped, in bytes.
const MAX_LINE: usize = 1 << 20;
/// Most keys of a line of another program that are named.
const MAX_KEYS: usize = 6;
/// Longest such key, in characters.
const MAX_KEY: usize = 40;

/// What a text held.
#[derive(Debug, Default)]
pub struct Read {
    /// Its decision lines, in order.
    pub lines: Vec<Logged>,
    /// What looked like decision lines and cannot be read, each with the reason.
    pub broken: Vec<String>,
    /// What to do where there is no decision line at all.
    pub hint: Option<String>,
}

/// A decision line with what the log adds.
#[derive(Clone, Debug)]
pub struct Logged {
    /// When it was written.
    pub timestamp: Option<String>,
    /// The line.
    pub line: Line<'static>,
}

enum Kind {
    Decision(Box<Logged>),
    Broken(String),
    /// A decision of `--log-format=text`.
    Text,
    /// JSON of something else.
    Other(Vec<String>),
    Nothing,
}

/// Reads all decision lines of a text.
pub fn read(text: &str) -> Read {
    let mut read = Read::default();
    let mut kinds = Vec::new();
    // As one, for what a program has written over several lines.
    let mut is_json = text.len() <= MAX_DOCUMENTS;
    let documents = if is_json { text } else { "" };
    let documents = serde_json::Deserializer::from_str(documents).into_iter::<Value>();
    for document in documents {
        match document {
            Ok(Value::Array(items)) => kinds.extend(items.iter().map(|item| (None, of_value(item, true)))),
            Ok(value) => kinds.push((None, of_value(&value, true))),
            Err(_) => {
                is_json = false;
                break;
            }
        }
    }
    if !is_json {
        let lines = (1usize..).zip(text.lines());
        kinds = lines
            .map(|(number, line)| (Some(number), of_text(line, true)))
            .collect();
    }
    let mut hint = None;
    for (number, kind) in kinds {
        match kind {
            Kind::Decision(logged) => read.lines.push(*logged),
            Kind::Broken(why) => read.broken.push(match number {
                Some(number) => format!("line {number}: {why}"),
                None => why,
            }),
            Kind::Text => {
                hint = Some(
                    "there are decision lines of --log-format=text: explain reads those of --log-format=json"
                        .to_owned(),
                );
            }
            Kind::Other(keys) if hint.is_none() => {
                let keys = keys.join(", ");
                hint = Some(format!(
                    "there is JSON of another program, with the keys {keys}; {HINT}"
                ));
            }
            Kind::Other(_) | Kind::Nothing => {}
        }
    }
    if read.lines.is_empty() && read.broken.is_empty() {
        read.hint = hint.or_else(|| Some(HINT.to_owned()));
    }
    read
}

const HINT: &str = "a decision line is JSON with the target ringfence::decision, as of: kubectl logs --namespace ringfence-system \
                    deployment/ringfence | ringfence explain -";

/// One line of a log: JSON with or without something before it, such as a time or the name of a pod.
fn of_text(text: &str, outermost: bool) -> Kind {
    let Some(start) = text.find('{') else {
        return if text.contains(TARGET) {
            Kind::Text
        } else {
            Kind::Nothing
        };
    };
    let json = text.get(start..).unwrap_or_default().trim_end();
    if json.len() > MAX_LINE {
        return Kind::Nothing;
    }
    match serde_json::from_str(json) {
        Ok(value) => of_value(&value, outermost),
        Err(_) if !text.contains(TARGET) => Kind::Nothing,
        Err(_) if text.contains(&format!("\"target\":\"{TARGET}\"")) => {
            Kind::Broken("this is no whole decision line: was it cut off?".to_owned())
        }
        Err(_) => Kind::Text,
    }
}

fn of_value(value: &Value, outermost: bool) -> Kind {
    let Value::Object(fields) = value else {
        return Kind::Nothing;
    };
    let is_ours = |value: &Value| value.get("target").and_then(Value::as_str) == Some(TARGET);
    let says_so = fields.get("message").and_then(Value::as_str) == Some(MESSAGE) && fields.contains_key("verdict");
    if is_ours(value) || says_so {
        return decision(value.clone());
    }
    if outermost {
        for inner in fields.values() {
            let found = match inner {
                Value::Object(_) if is_ours(inner) => of_value(inner, false),
                Value::String(text) if text.contains(TARGET) => of_text(text, false),
                _ => continue,
            };
            if !matches!(found, Kind::Nothing | Kind::Other(_)) {
                return found;
            }
        }
    }
    let keys = fields.keys().take(MAX_KEYS);
    Kind::Other(keys.map(|key| clean(key).chars().take(MAX_KEY).collect()).collect())
}

fn decision(mut value: Value) -> Kind {
    let timestamp = value.get("timestamp").and_then(Value::as_str).map(str::to_owned);
    // What ships logs may have read the JSON in it.
    if let Some(input) = value.get_mut("input").filter(|input| input.is_object()) {
        *input = Value::String(input.to_string());
    }
    match serde_json::from_value::<Line<'static>>(value) {
        Ok(line) => Kind::Decision(Box::new(Logged { timestamp, line })),
        // The error of serde names a field, or repeats a value where a field has another type.
        Err(error) if error.to_string().starts_with("missing field") => {
            Kind::Broken(format!("this is no whole decision line: {error}"))
        }
        Err(_) => Kind::Broken(
            "a field of this decision line is of another type than docs/decision-line.schema.json says".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn line() -> Value {
        json!({"timestamp": "2026-11-26T12:00:00Z", "target": TARGET, "message": MESSAGE, "webhook": "fence", "uid": "u-1", "verdict": "deny"})
    }

    fn uids(text: &str) -> Vec<String> {
        read(text)
            .lines
            .into_iter()
            .map(|logged| logged.line.uid.into_owned())
            .collect()
    }

    #[rstest]
    #[case::alone(line().to_string(), 1)]
    #[case::pretty(serde_json::to_string_pretty(&line()).unwrap(), 1)]
    #[case::list(json!([line(), line()]).to_string(), 2)]
    #[case::lines(format!("{0}\n{0}\n\n{0}\n", line()), 3)]
    #[case::among_others(format!("starting\n{{\"level\":\"INFO\"}}\n{}\nE0101 {{broken\n", line()), 1)]
    #[case::after_a_prefix(format!("[pod/ringfence-x/ringfence] 2026-11-26T12:00:00Z {}\nx", line()), 1)]
    #[case::wrapped_as_text(json!({"log": format!("{}\n", line()), "stream": "stderr"}).to_string(), 1)]
    #[case::wrapped_as_json(json!({"jsonPayload": line(), "severity": "INFO"}).to_string(), 1)]
    #[case::newer_than_us({ let mut line = line(); line["added"] = json!(1); line.to_string() }, 1)]
    fn decision_lines_are_found_wherever_they_stand(#[case] text: String, #[case] count: usize) {
        assert_eq!(uids(&text), vec!["u-1"; count], "{text}");
        assert_eq!(read(&text).lines[0].timestamp.as_deref(), Some("2026-11-26T12:00:00Z"));
    }

    #[test]
    fn a_long_log_is_read_line_by_line() {
        let text = format!(
            "{}\n{}\n{{\"x\":\"{}\"}}\n",
            line(),
            "y".repeat(MAX_DOCUMENTS),
            "z".repeat(MAX_LINE)
        );
        assert_eq!(uids(&text), ["u-1"]);
    }

    #[test]
    fn an_input_that_a_shipper_has_read_is_one_all_the_same() {
        let mut line = line();
        line["input"] = json!({"request": {"uid": "u-1"}});
        assert_eq!(
            read(&line.to_string()).lines[0].line.input.as_deref(),
            Some(r#"{"request":{"uid":"u-1"}}"#)
        );
    }

    #[rstest]
    #[case::empty("", "a decision line is JSON")]
    #[case::words("hello\nworld", "kubectl logs")]
    #[case::other_json(
        r#"{"ts": 1, "msg": "topsecret", "level": "info"}"#,
        "another program, with the keys level, msg, ts;"
    )]
    #[case::text_format(
        "2026-11-26 INFO ringfence::decision: decided webhook=\"fence\" uid=\"u-1\"",
        "--log-format=text"
    )]
    #[case::escape("{\"a\\u001b[2J\": 1}", "the keys a [2J;")]
    fn what_is_none_gets_a_hint_and_is_not_repeated(#[case] text: &str, #[case] hint: &str) {
        let read = read(text);
        assert!(read.lines.is_empty() && read.broken.is_empty());
        let told = read.hint.unwrap();
        assert!(told.contains(hint) && !told.contains("topsecret"), "{told}");
    }

    #[rstest]
    #[case::cut_off(format!("{}\nx", &line().to_string()[..60]), "line 1: this is no whole decision line: was it cut off?")]
    #[case::without_a_verdict(json!({"target": TARGET, "webhook": "fence", "uid": "u"}).to_string(), "missing field `verdict`")]
    #[case::another_type(json!({"target": TARGET, "webhook": "fence", "uid": "u", "verdict": "topsecret"}).to_string(), "of another type")]
    fn a_broken_one_says_why(#[case] text: String, #[case] why: &str) {
        let read = read(&text);
        assert!(read.lines.is_empty() && read.hint.is_none());
        assert!(
            read.broken[0].contains(why) && !read.broken[0].contains("topsecret"),
            "{read:?}"
        );
    }
}
