//! A decision as the API server wants it, and as a person reads it.
//!
//! Must never: send a control character (the text ends in somebody's terminal) or more than the API server forwards.

use serde_json::{Map, Value, json};

use super::{Decision, Fault, FaultCause, Violation};

/// All of a refusal's text in bytes: it becomes a `Status` and an Event, which are cut at a few KiB by others.
const MAX_MESSAGE: usize = 8 << 10;
/// One reason in a refusal, in characters.
const MAX_REASON: usize = 2_000;
/// One warning, in characters: beyond that the API server may cut it.
const MAX_WARNING: usize = 256;
/// What is left of a message at least when it is cut for its fix, in characters.
const MIN_MESSAGE: usize = 40;
/// All warnings, in characters: beyond that the API server drops some.
const MAX_WARNINGS: usize = 4_096;
/// A value that is shown, in characters.
const MAX_VALUE: usize = 120;
/// Code and reason by which controllers pass over an object.
const GONE: (u16, &str) = (404, "NotFound");
/// Room for "and 4294967295 more".
const MORE: usize = 24;

impl Decision {
    /// The AdmissionReview that answers the request `uid` about an object of this kind (`""`: unknown).
    pub fn render(&self, uid: &str, kind: &str) -> Vec<u8> {
        let mut response = Map::from_iter([
            ("uid".to_owned(), uid.into()),
            ("allowed".to_owned(), self.allowed().into()),
        ]);
        response.extend(self.status(&subject(kind)).map(|status| ("status".to_owned(), status)));
        let mut warnings = warnings(&self.warnings);
        if let Some(fault) = self.fault.as_ref().filter(|_| self.allowed()) {
            let text = format!(
                "ringfence: not reviewed, and let pass as the policy's failurePolicy says: {}",
                said(fault)
            );
            warnings.push(clip(&text, MAX_WARNING));
        }
        if !warnings.is_empty() {
            response.insert("warnings".to_owned(), warnings.into());
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    fn status(&self, subject: &str) -> Option<Value> {
        let (code, reason, message) = match (self.denials.as_slice(), &self.fault) {
            ([], None) => return None,
            ([], Some(_)) if self.fails_open => return None,
            ([], Some(fault)) => {
                // What is too large stays so; after any other fault a controller had better try again.
                let (code, reason) = if self.as_gone && fault.cause == FaultCause::TooLarge {
                    GONE
                } else {
                    (fault.cause.code(), fault.cause.reason())
                };
                (
                    code,
                    reason,
                    format!("ringfence could not review {subject}: {}", said(fault)),
                )
            }
            (denials, fault) => {
                let (code, reason) = if self.as_gone { GONE } else { (403, "Forbidden") };
                (code, reason, refusal(subject, denials, fault.as_ref()))
            }
        };
        Some(json!({"status": "Failure", "code": code, "reason": reason, "message": message}))
    }
}

fn subject(kind: &str) -> String {
    let kind = clip(&clean(kind), MAX_VALUE);
    if kind.is_empty() {
        "this object".to_owned()
    } else {
        format!("this {kind}")
    }
}

fn refusal(subject: &str, denials: &[Violation], fault: Option<&Fault>) -> String {
    let plural = if denials.len() == 1 { "" } else { "s" };
    let mut message = format!("ringfence refused {subject} ({} reason{plural}):", denials.len());
    let tail = fault
        .map(|fault| format!("\nMoreover not all could be reviewed: {}", said(fault)))
        .unwrap_or_default();
    let room = MAX_MESSAGE.saturating_sub(tail.len() + MORE);
    for (index, denial) in denials.iter().enumerate() {
        let line = format!("\n{}. {}", index + 1, clip(&sentence(denial), MAX_REASON));
        // A reason is clipped in characters, the whole in bytes: where each takes four, even the first may not fit wholly.
        if index > 0 && message.len() + line.len() > room {
            message.push_str(&format!("\nand {} more", denials.len() - index));
            break;
        }
        message.push_str(clip_bytes(&line, room.saturating_sub(message.len())));
    }
    message.push_str(&tail);
    message
}

fn warnings(violations: &[Violation]) -> Vec<String> {
    let mut said = Vec::new();
    let mut room = MAX_WARNINGS - MORE;
    for (index, violation) in violations.iter().enumerate() {
        let warning = warning(violation);
        let Some(left) = room.checked_sub(warning.chars().count()) else {
            said.push(format!("and {} more", violations.len() - index));
            break;
        };
        room = left;
        said.push(warning);
    }
    said
}

/// In one warning's room, where the message is cut before what to do is.
fn warning(violation: &Violation) -> String {
    let whole = format!("ringfence: {}", sentence(violation));
    let over = whole.chars().count().saturating_sub(MAX_WARNING);
    let message = violation.message.chars().count();
    if over == 0 || message < over + MIN_MESSAGE {
        return clip(&whole, MAX_WARNING);
    }
    let shorter = Violation {
        // Clipping adds a sign, and a sentence that ends in it gets a full stop.
        message: clip(
            violation.message.trim_end_matches('.'),
            message.saturating_sub(over + 2),
        ),
        ..violation.clone()
    };
    clip(&format!("ringfence: {}", sentence(&shorter)), MAX_WARNING)
}

/// `[policy] path = "value": message. Fix: fix.`
fn sentence(violation: &Violation) -> String {
    let mut text = format!("[{}] ", clean(&violation.policy));
    let path = clean(&violation.path);
    if !path.is_empty() {
        text.push_str(&path);
        if let Some(value) = &violation.value {
            text.push_str(&format!(" = \"{}\"", clip(&clean(value), MAX_VALUE)));
        }
        text.push_str(": ");
    }
    text.push_str(&ended(&violation.message));
    if !violation.fix.is_empty() {
        text.push_str(&format!(" Fix: {}", ended(&violation.fix)));
    }
    text
}

fn said(fault: &Fault) -> String {
    clip(
        &format!("{} Fix: {}", ended(&fault.message), ended(&fault.fix)),
        MAX_REASON / 2,
    )
}

fn ended(text: &str) -> String {
    let text = clean(text);
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// Whether a terminal would obey it, or whoever reads would not see what is there: control characters, other ends of a line, and what turns
/// the direction of text.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// What misleads becomes blanks: values come from whom the fence is for.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if misleads(c) { ' ' } else { c }).collect()
}

fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(most.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

/// The beginning of a text, at most so many bytes of it and no half character.
pub fn clip_bytes(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn violation(policy: &str, path: &str, value: Option<&str>, message: &str, fix: &str) -> Violation {
        Violation {
            policy: policy.into(),
            path: path.into(),
            value: value.map(str::to_owned),
            message: message.into(),
            fix: fix.into(),
        }
    }

    fn rendered(decision: &Decision) -> Value {
        serde_json::from_slice(&decision.render("u-1", "Pod")).unwrap()
    }

    fn image() -> Violation {
        violation(
            "approved-images",
            "spec.containers[0].image",
            Some("docker.io/library/evil:1"),
            "no pattern of AIWorkflow invoice-triage allows it",
            "use an image of registry.example.com/finance/**",
        )
    }

    /// What is wrong can be looked up; what to do is why somebody reads on.
    #[test]
    fn a_warning_is_cut_in_its_message_and_keeps_its_fix() {
        let fix = "set the label ringfence.dev/workflow: <AIWorkflow> on the Deployment and its pod template";
        let long = violation(
            "declared-workflow",
            "metadata.labels",
            None,
            &"very long ".repeat(40),
            fix,
        );
        let said = warnings(&[long]);
        assert!(
            (MAX_WARNING - 4..=MAX_WARNING).contains(&said[0].chars().count()),
            "{said:?}"
        );
        assert!(said[0].ends_with(&format!("…. Fix: {fix}.")), "{said:?}");
        let long = violation("p", "", None, "short", &"endless ".repeat(60));
        let said = warnings(&[long]);
        assert!(
            said[0].chars().count() == MAX_WARNING && said[0].contains("] short. Fix: endless"),
            "{said:?}"
        );
    }

    #[test]
    fn nothing_found_is_a_bare_yes() {
        let expected = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "u-1", "allowed": true},
        });
        assert_eq!(rendered(&Decision::default()), expected);
    }

    #[test]
    fn all_reasons_are_given_at_once_and_in_order() {
        let account = violation(
            "dedicated-account",
            "",
            None,
            "it runs as default.",
            "set spec.serviceAccountName",
        );
        let decision = Decision {
            denials: vec![image(), account],
            ..Decision::default()
        };
        let message = "ringfence refused this Pod (2 reasons):\n\
            1. [approved-images] spec.containers[0].image = \"docker.io/library/evil:1\": no pattern of AIWorkflow \
            invoice-triage allows it. Fix: use an image of registry.example.com/finance/**.\n\
            2. [dedicated-account] it runs as default. Fix: set spec.serviceAccountName.";
        let status = json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message});
        assert_eq!(
            rendered(&decision)["response"],
            json!({"uid": "u-1", "allowed": false, "status": status})
        );
    }

    #[rstest]
    #[case(FaultCause::Invalid, 400, "BadRequest")]
    #[case(FaultCause::Internal, 500, "InternalError")]
    #[case(FaultCause::MediaType, 415, "UnsupportedMediaType")]
    #[case(FaultCause::Timeout, 504, "Timeout")]
    #[case(FaultCause::TooLarge, 413, "RequestEntityTooLarge")]
    #[case(FaultCause::Unreadable, 400, "BadRequest")]
    #[case(FaultCause::Unavailable, 503, "ServiceUnavailable")]
    #[case(FaultCause::Crowded, 503, "ServiceUnavailable")]
    fn a_fault_refuses_with_its_own_code(#[case] cause: FaultCause, #[case] code: u16, #[case] reason: &str) {
        let decision = Decision::from_fault(Fault::new(cause, "it broke", "try again"));
        let message = "ringfence could not review this Pod: it broke. Fix: try again.";
        let status = json!({"status": "Failure", "code": code, "reason": reason, "message": message});
        assert_eq!(
            rendered(&decision)["response"],
            json!({"uid": "u-1", "allowed": false, "status": status})
        );
    }

    /// A controller that adopts passes over what it can never have, and tries again where it might.
    #[rstest]
    #[case::stays_so(FaultCause::TooLarge, 404)]
    #[case::may_go_by(FaultCause::Crowded, FaultCause::Crowded.code())]
    fn a_fault_of_an_adoption_is_told_as_gone_where_it_stays(#[case] cause: FaultCause, #[case] code: u16) {
        let decision = Decision {
            as_gone: true,
            ..Decision::from_fault(Fault::new(cause, "it broke", "try again"))
        };
        let response = &rendered(&decision)["response"];
        assert_eq!(response["status"]["code"], code);
        assert_eq!(response["allowed"], false);
    }

    #[test]
    fn a_fault_beside_a_refusal_is_told_too() {
        let fault = Some(Fault::new(
            FaultCause::Timeout,
            "policy x ran out of time",
            "make it faster",
        ));
        let decision = Decision {
            denials: vec![image()],
            fault,
            ..Decision::default()
        };
        let response = &rendered(&decision)["response"];
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("ringfence refused this Pod (1 reason):\n1. [approved-images]"),
            "{message}"
        );
        let tail = "\nMoreover not all could be reviewed: policy x ran out of time. Fix: make it faster.";
        assert!(message.ends_with(tail), "{message}");
        assert_eq!(response["status"]["code"], 403);
    }

    #[test]
    fn warnings_allow_and_audits_are_not_told() {
        let decision = Decision {
            warnings: vec![image()],
            audits: vec![image()],
            ..Decision::default()
        };
        let warning = "ringfence: [approved-images] spec.containers[0].image = \"docker.io/library/evil:1\": no pattern of \
            AIWorkflow invoice-triage allows it. Fix: use an image of registry.example.com/finance/**.";
        assert_eq!(
            rendered(&decision)["response"],
            json!({"uid": "u-1", "allowed": true, "warnings": [warning]})
        );
    }

    #[test]
    fn warnings_are_bounded_and_the_rest_is_counted() {
        let decision = Decision {
            warnings: vec![image(); 100],
            ..Decision::default()
        };
        let response = &rendered(&decision)["response"];
        let warnings: Vec<&str> = response["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w.as_str().unwrap())
            .collect();
        assert!(warnings.iter().map(|warning| warning.chars().count()).sum::<usize>() <= 4_096);
        assert_eq!(
            warnings.last(),
            Some(&format!("and {} more", 100 - (warnings.len() - 1)).as_str())
        );
    }

    #[test]
    fn reasons_are_bounded_and_the_rest_is_counted() {
        let decision = Decision {
            denials: vec![image(); 1_000],
            ..Decision::default()
        };
        let response = &rendered(&decision)["response"];
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.len() <= 8_192, "{}", message.len());
        let shown = message.lines().count() - 2;
        assert!(message.ends_with(&format!("\nand {} more", 1_000 - shown)), "{message}");
    }

    #[test]
    fn terminal_escapes_do_not_pass() {
        let evil = violation("p\n", "a\u{1b}[2J", Some("v\r\n1. fake\u{202e}"), "m\u{7}", "f\u{9b}");
        let decision = Decision {
            denials: vec![evil.clone()],
            warnings: vec![evil],
            ..Decision::default()
        };
        let response = rendered(&decision)["response"].clone();
        let expected = "[p ] a [2J = \"v  1. fake \": m. Fix: f.";
        assert_eq!(
            response["status"]["message"],
            format!("ringfence refused this Pod (1 reason):\n1. {expected}")
        );
        assert_eq!(response["warnings"], json!([format!("ringfence: {expected}")]));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_bounds(
            texts in prop::collection::vec(("\\PC{0,40}", ".{0,900}", ".{0,3000}", ".{0,3000}"), 1..12), kind in ".{0,300}"
        ) {
            let all: Vec<Violation> =
                texts.iter().map(|(policy, value, message, fix)| violation(policy, "p", Some(value), message, fix)).collect();
            let fault = Some(Fault::new(FaultCause::Internal, texts[0].2.clone(), texts[0].3.clone()));
            let decision = Decision { denials: all.clone(), warnings: all, fault, ..Decision::default() };
            let review: Value = serde_json::from_slice(&decision.render("u", &kind)).unwrap();
            let message = review["response"]["status"]["message"].as_str().unwrap();
            prop_assert!(message.len() <= MAX_MESSAGE, "{}", message.len());
            prop_assert!(message.chars().all(|c| c == '\n' || !c.is_control()));
            let mut characters = 0;
            for warning in review["response"]["warnings"].as_array().unwrap() {
                let warning = warning.as_str().unwrap();
                prop_assert!(warning.chars().count() <= MAX_WARNING && !warning.contains(char::is_control));
                characters += warning.chars().count();
            }
            prop_assert!(characters <= MAX_WARNINGS);
        }
    }
}
