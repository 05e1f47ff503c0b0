//! Names of RegoPolicies that are made of constraints.
//!
//! Must never: give two constraints one name.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// Longest DNS label.
const MAX_LABEL: usize = 63;

/// A DNS label for a constraint: its kind and its name, and a hash where that is not all of them.
pub(super) fn policy_name(kind: &str, name: &str, suffix: &str, taken: &BTreeSet<String>) -> String {
    let plain = format!("{}-{name}{suffix}", kind.to_ascii_lowercase());
    let label: String = plain
        .chars()
        .map(|c| match c {
            'a'..='z' | '0'..='9' | '-' => c,
            _ => '-',
        })
        .collect();
    let is_whole = label == plain && label.len() <= MAX_LABEL && !label.ends_with('-') && !taken.contains(&label);
    if is_whole {
        return label;
    }
    let hash = Sha256::digest(format!("{kind}/{name}{suffix}"));
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut short: String = label.chars().take(MAX_LABEL - hash.len() - 1).collect();
    short.truncate(short.trim_end_matches('-').len());
    format!("{short}-{hash}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::is_dns_label;

    #[rstest]
    #[case("K8sRequiredLabels", "owners", "k8srequiredlabels-owners")]
    #[case("K8sRequiredLabels", "all.must", "k8srequiredlabels-all-must-")]
    #[case("K8s", "Ä", "k8s-")]
    #[case("K8s", "-", "k8s-")]
    fn names_are_labels(#[case] kind: &str, #[case] name: &str, #[case] start: &str) {
        let made = policy_name(kind, name, "", &BTreeSet::new());
        assert!(made.starts_with(start) && is_dns_label(&made), "{made}");
    }

    #[test]
    fn what_is_shortened_or_taken_stays_apart() {
        let none = BTreeSet::new();
        let long = |end: &str| policy_name("K", &format!("{}{end}", "a".repeat(62)), "", &none);
        assert!(is_dns_label(&long("b")) && long("b") != long("c"));
        assert_ne!(policy_name("K", "a.b", "", &none), policy_name("K", "a-b", "", &none));
        let taken = BTreeSet::from(["k-a".to_owned()]);
        assert_ne!(policy_name("K", "a", "", &taken), "k-a");
    }
}
