//! Holds policies that were made of Gatekeeper's templates and constraints to the real Gatekeeper: the same documents and requests to
//! both, and the same violations with the same actions.

mod documents;
mod matching;
mod ours;
mod refused;
mod templates;

use std::collections::BTreeSet;

use serde_json::Value;
use support::gatekeeper::Gatekeeper;

use ours::Ours;

/// `Kind/name` of a constraint, what is said, and what that does.
type Violations = BTreeSet<(String, String, String)>;

/// Asks both about requests, each `{request, namespace}`, and tells how many violations there were.
fn compare(gatekeeper: &mut Gatekeeper, documents: &[Value], inventory: &[Value], requests: &[Value]) -> usize {
    let told = gatekeeper
        .ask(documents, inventory, requests)
        .expect("Gatekeeper answers");
    let shown = || serde_json::to_string(documents).expect("JSON");
    assert!(
        told.refused.is_empty(),
        "Gatekeeper refuses {:?} of {}",
        told.refused,
        shown()
    );
    let ours = Ours::of(documents, inventory);
    assert_eq!(told.said().len(), requests.len(), "an answer for each request");
    let mut count = 0;
    for (said, request) in told.said().iter().zip(requests) {
        let mine = ours.say(request);
        if !said.error.is_empty() {
            assert!(
                mine.iter().any(|(_, _, action)| action == "deny"),
                "Gatekeeper refuses ({}), Ringfence says {mine:?} of {request} with {}",
                said.error,
                shown()
            );
            continue;
        }
        let theirs: Violations = said
            .violations()
            .iter()
            .map(|violation| {
                let strongest = ["deny", "warn", "dryrun"]
                    .into_iter()
                    .find(|action| violation.actions.contains(*action));
                let action = strongest.expect("an action").to_owned();
                (violation.constraint.clone(), without_source(&violation.message), action)
            })
            .collect();
        assert_eq!(
            mine,
            theirs,
            "Ringfence left, Gatekeeper right, of {request} with {}",
            shown()
        );
        count += theirs.len();
    }
    count
}

/// What is said of a pod that would come of a workload tells so, in other words each.
fn without_source(message: &str) -> String {
    let message = match message.strip_prefix("[Implied by ") {
        Some(rest) => rest.split_once("] ").map_or(rest, |(_, message)| message),
        None => message,
    };
    message.split(" (via ").next().unwrap_or_default().to_owned()
}
