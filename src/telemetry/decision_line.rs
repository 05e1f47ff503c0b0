//! One line for each decision: who asked for what, and what came of it.
//!
//! Must never: hold a value of the object that `decisions` has not masked, or any where nobody asked for it. The hash tells whether
//! a review at hand is the one that was decided.

use std::borrow::Cow;
use std::time::Duration;

use crate::decisions::{Line, MESSAGE, Recorded, TARGET};
use crate::review::{Decision, Head, Operation, Outcome, Review, clip_bytes};

/// The longest name that is written, in bytes: more than any that the API server takes.
const MAX_NAME: usize = 256;

/// What a decision line says.
#[derive(Debug)]
pub struct DecisionLine<'a> {
    /// The registration that asked.
    pub webhook: &'static str,
    /// The request's uid.
    pub uid: &'a str,
    /// Who asked for what.
    pub asked: Asked<'a>,
    /// What was decided.
    pub decision: &'a Decision,
    /// Revision of the policies that decided.
    pub revision: &'a str,
    /// Hash of the review's bytes, in hex; empty where they were not read wholly.
    pub sha256: &'a str,
    /// From the first byte of the request to the answer.
    pub duration: Duration,
    /// What it was made from, masked, where the line is to hold it.
    pub input: Option<&'a Recorded>,
}

/// Who asked for what, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Of a review that was read.
    Review(&'a Review),
    /// Of one that was not: what its first bytes say.
    Head(&'a Head),
}

impl DecisionLine<'_> {
    /// Writes the line.
    pub fn log(&self) {
        let line = self.line();
        // The names of the fields are those of `Line`, which a test holds them to.
        macro_rules! write {
            ($level:ident) => {
                tracing::$level!(
                    target: TARGET,
                    webhook = &*line.webhook,
                    uid = &*line.uid,
                    user = &*line.user,
                    operation = &*line.operation,
                    group = &*line.group,
                    resource = &*line.resource,
                    subresource = &*line.subresource,
                    namespace = &*line.namespace,
                    name = &*line.name,
                    dry_run = line.dry_run,
                    verdict = line.verdict.as_str(),
                    policies = &*line.policies,
                    exceptions = &*line.exceptions,
                    revision = &*line.revision,
                    sha256 = &*line.sha256,
                    seconds = line.seconds,
                    fault = line.fault.as_deref(),
                    input = line.input.as_deref(),
                    input_left_out = line.input_left_out,
                    "{MESSAGE}"
                )
            };
        }
        match line.verdict {
            Outcome::Fault => write!(warn),
            Outcome::Allow | Outcome::Audit | Outcome::Deny | Outcome::Warn => write!(info),
        }
    }

    fn line(&self) -> Line<'_> {
        let verdict = self.decision.outcome();
        let text = |of_review: fn(&Review) -> &str, of_head: fn(&Head) -> &str| {
            Cow::from(clip(match self.asked {
                Asked::Review(review) => of_review(review),
                Asked::Head(head) => of_head(head),
            }))
        };
        let mut exceptions: Vec<&str> = self
            .decision
            .used()
            .iter()
            .map(|excuse| excuse.exception.as_str())
            .collect();
        exceptions.sort_unstable();
        exceptions.dedup();
        let fault = self.decision.fault.as_ref().filter(|_| verdict == Outcome::Fault);
        let (input, input_left_out) = match self.input {
            Some(Recorded::Input(json)) => (Some(json.into()), None),
            Some(Recorded::LeftOut(size)) => (None, u64::try_from(*size).ok()),
            None => (None, None),
        };
        Line {
            webhook: self.webhook.into(),
            uid: clip(self.uid).into(),
            user: text(|review| &review.user.username, |head| &head.user),
            operation: text(
                |review| review.operation.as_str(),
                |head| head.operation.map_or("", Operation::as_str),
            ),
            group: text(|review| &review.resource.group, |head| &head.group),
            resource: text(|review| &review.resource.resource, |head| &head.resource),
            subresource: text(|review| &review.subresource, |head| &head.subresource),
            namespace: text(
                |review| review.namespace.as_deref().unwrap_or_default(),
                |head| &head.namespace,
            ),
            name: text(Review::name, |head| &head.name),
            // Stands behind the object.
            dry_run: matches!(self.asked, Asked::Review(review) if review.dry_run),
            verdict,
            policies: self.decision.policies().join(",").into(),
            exceptions: exceptions.join(",").into(),
            revision: self.revision.into(),
            sha256: self.sha256.into(),
            seconds: self.duration.as_secs_f64(),
            fault: fault.map(|fault| fault.cause.reason().into()),
            input,
            input_left_out,
        }
    }
}

fn clip(text: &str) -> &str {
    clip_bytes(text, MAX_NAME)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;
    use crate::decisions::schema;
    use crate::review::{Excuse, Fault, FaultCause, Violation};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(line: &DecisionLine<'_>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || line.log());
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn review() -> Review {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": "CREATE", "name": "p", "namespace": "ai", "subResource": "",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "userInfo": {"username": "ann\n{\"forged\":1}"},
                "object": {"spec": {"containers": [{"env": [{"name": "KEY", "value": "sk-secret"}]}]}},
            },
        });
        Review::parse(&serde_json::to_vec(&review).unwrap()).unwrap()
    }

    static UNREAD: Head = Head {
        user: String::new(),
        operation: None,
        group: String::new(),
        resource: String::new(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
    };

    fn line<'a>(review: Option<&'a Review>, decision: &'a Decision) -> DecisionLine<'a> {
        let duration = Duration::from_millis(250);
        DecisionLine {
            webhook: "fence",
            uid: "u-1",
            asked: review.map_or(Asked::Head(&UNREAD), Asked::Review),
            decision,
            revision: "r7",
            sha256: "ab",
            duration,
            input: None,
        }
    }

    #[test]
    fn line_names_who_what_and_why_and_holds_nothing_of_the_object() {
        let denial = Violation {
            policy: "no-literal-secrets".into(),
            path: "spec.containers[0].env[0].value".into(),
            value: Some("sk-secret".into()),
            message: "sk-secret".into(),
            fix: "sk-secret".into(),
        };
        let decision = Decision {
            denials: vec![denial.clone(), denial],
            ..Decision::default()
        };
        let text = logged(&line(Some(&review()), &decision));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains("sk-secret"), "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        line.as_object_mut().unwrap().remove("timestamp");
        let expected = json!({
            "level": "INFO", "message": "decided", "target": "ringfence::decision", "webhook": "fence", "uid": "u-1",
            "user": "ann\n{\"forged\":1}", "operation": "CREATE", "group": "", "resource": "pods", "subresource": "",
            "namespace": "ai", "name": "p", "dry_run": false, "verdict": "deny", "policies": "no-literal-secrets", "exceptions": "",
            "revision": "r7", "sha256": "ab", "seconds": 0.25,
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_fault_without_a_review_is_logged_as_a_warning() {
        let decision = Decision::from_fault(Fault::new(FaultCause::Timeout, "late", "wait"));
        let line: Value = serde_json::from_str(&logged(&line(None, &decision))).unwrap();
        assert_eq!(
            (&line["level"], &line["verdict"], &line["fault"]),
            (&json!("WARN"), &json!("fault"), &json!("Timeout"))
        );
    }

    /// A JSON Schema of one flat object is little enough to be checked here.
    #[track_caller]
    fn is_of_schema(line: &Value, schema: &Value) {
        let properties = schema["properties"].as_object().unwrap();
        for name in schema["required"].as_array().unwrap() {
            assert!(line.get(name.as_str().unwrap()).is_some(), "{name} is required: {line}");
        }
        assert_eq!(schema["additionalProperties"], false);
        for (name, value) in line.as_object().unwrap() {
            let property = properties
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not in the schema: {line}"));
            let is_of = |wanted: &Value| match wanted.as_str().unwrap() {
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "number" => value.is_number(),
                "integer" => value.is_u64(),
                "null" => value.is_null(),
                other => panic!("{name}: {other} is checked by nothing"),
            };
            let is_right_type = match &property["type"] {
                Value::Array(types) => types.iter().any(is_of),
                Value::Null => true,
                one => is_of(one),
            };
            let choices = [("enum", &property["enum"]), ("const", &property["const"])];
            let is_allowed = choices.iter().all(|(keyword, choice)| match (*keyword, *choice) {
                (_, Value::Null) => true,
                ("enum", choices) => choices.as_array().unwrap().contains(value),
                (_, only) => only == value,
            });
            let of_one = property["oneOf"].as_array();
            let is_one = of_one.is_none_or(|choices| choices.iter().any(|choice| choice["const"] == *value));
            let has_a_check = ["type", "enum", "const", "oneOf"]
                .iter()
                .any(|keyword| !property[*keyword].is_null());
            assert!(
                has_a_check && is_right_type && is_allowed && is_one,
                "{name} = {value} is not {property}"
            );
        }
    }

    /// Every outcome, with and without what a line may lack; and no property of the schema that none of them has.
    #[test]
    fn lines_of_every_outcome_are_what_the_published_schema_says() {
        let schema = schema();
        let finding = Violation {
            policy: "p".into(),
            path: String::new(),
            value: None,
            message: String::new(),
            fix: String::new(),
        };
        let list = vec![finding];
        let excused = vec![Excuse {
            exception: "e".into(),
            policy: "p".into(),
        }];
        let fault = Some(Fault::new(FaultCause::TooLarge, "m", "f"));
        let base = Decision::default;
        let decisions = [
            ("allow", Decision { ..base() }),
            (
                "audit",
                Decision {
                    audits: list.clone(),
                    ..base()
                },
            ),
            (
                "warn",
                Decision {
                    warnings: list.clone(),
                    excused,
                    ..base()
                },
            ),
            (
                "deny",
                Decision {
                    denials: list.clone(),
                    ..base()
                },
            ),
            (
                "deny",
                Decision {
                    denials: list,
                    fault: fault.clone(),
                    ..base()
                },
            ),
            ("fault", Decision { fault, ..base() }),
        ];
        let review = review();
        let recorded = [Recorded::of(&review, None), Recorded::LeftOut(70_000)];
        let inputs = [None, Some(&recorded[0]), Some(&recorded[1])];
        let mut seen = std::collections::BTreeSet::new();
        for (verdict, decision) in &decisions {
            for input in inputs {
                for review in [None, Some(&review)] {
                    let text = logged(&DecisionLine {
                        input,
                        ..line(review, decision)
                    });
                    let line: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(line["verdict"], *verdict);
                    is_of_schema(&line, &schema);
                    seen.extend(line.as_object().unwrap().keys().cloned());
                    // What explains lines reads it as it was.
                    let read: Line<'_> = serde_json::from_value(line.clone()).unwrap();
                    assert_eq!(read.input_left_out, line["input_left_out"].as_u64());
                    assert_eq!(read.input.as_deref(), line["input"].as_str());
                }
            }
        }
        let known: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), known);
    }

    #[test]
    fn names_are_clipped_between_characters() {
        assert_eq!(clip(&"é".repeat(200)).len(), 256);
        assert_eq!(clip(&format!("x{}", "é".repeat(200))).len(), 255);
    }
}
