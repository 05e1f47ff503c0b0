//! One line for each decision: who asked for what, and what came of it.
//!
//! Must never: hold a value of the object. The hash tells whether a review at hand is the one that was decided.

use std::time::Duration;

use crate::review::{Decision, Outcome, Review, clip_bytes};

/// The longest name that is written, in bytes: more than any that the API server takes.
const MAX_NAME: usize = 256;

/// What a decision line says.
#[derive(Debug)]
pub struct DecisionLine<'a> {
    /// The registration that asked.
    pub webhook: &'static str,
    /// The request's uid.
    pub uid: &'a str,
    /// The review; `None` where it could not be read.
    pub review: Option<&'a Review>,
    /// What was decided.
    pub decision: &'a Decision,
    /// Revision of the policies that decided.
    pub revision: &'a str,
    /// Hash of the review's bytes, in hex; empty where they were not read wholly.
    pub sha256: &'a str,
    /// From the first byte of the request to the answer.
    pub duration: Duration,
}

impl DecisionLine<'_> {
    /// Writes the line.
    pub fn log(&self) {
        let outcome = self.decision.outcome();
        let review = self.review;
        let text = |field: fn(&Review) -> &str| review.map_or("", |review| clip(field(review)));
        let mut exceptions: Vec<&str> = self
            .decision
            .used()
            .iter()
            .map(|excuse| excuse.exception.as_str())
            .collect();
        exceptions.sort_unstable();
        exceptions.dedup();
        macro_rules! line {
            ($level:ident, $($more:tt)*) => {
                tracing::$level!(
                    target: "ringfence::decision",
                    webhook = self.webhook,
                    uid = clip(self.uid),
                    user = text(|review| &review.user.username),
                    operation = text(|review| review.operation.as_str()),
                    group = text(|review| &review.resource.group),
                    resource = text(|review| &review.resource.resource),
                    subresource = text(|review| &review.subresource),
                    namespace = text(|review| review.namespace.as_deref().unwrap_or_default()),
                    name = text(Review::name),
                    dry_run = review.is_some_and(|review| review.dry_run),
                    verdict = outcome.as_str(),
                    policies = self.decision.policies().join(","),
                    exceptions = exceptions.join(","),
                    revision = self.revision,
                    sha256 = self.sha256,
                    seconds = self.duration.as_secs_f64(),
                    $($more)*
                )
            };
        }
        match (outcome, &self.decision.fault) {
            (Outcome::Fault, Some(fault)) => line!(warn, fault = fault.cause.reason(), "decided"),
            _ => line!(info, "decided"),
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
    use crate::review::{Fault, FaultCause, Violation};

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

    fn line<'a>(review: Option<&'a Review>, decision: &'a Decision) -> DecisionLine<'a> {
        let duration = Duration::from_millis(250);
        DecisionLine {
            webhook: "fence",
            uid: "u-1",
            review,
            decision,
            revision: "r7",
            sha256: "ab",
            duration,
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

    #[test]
    fn names_are_clipped_between_characters() {
        assert_eq!(clip(&"é".repeat(200)).len(), 256);
        assert_eq!(clip(&format!("x{}", "é".repeat(200))).len(), 255);
    }
}
