//! What names may look like, and which namespaces are the platform's own.

use serde_json::Value;

/// Namespaces that Ringfence never fences. The release namespace joins them at run time.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-node-lease", "kube-public"];

/// Whether Ringfence never fences a namespace: the system's, and the one that it is installed in.
pub fn is_exempt(namespace: &str, release: Option<&str>) -> bool {
    SYSTEM_NAMESPACES.contains(&namespace) || release == Some(namespace)
}

/// Whether no RegoPolicy is ever asked about a kind: heartbeats and records never wait for us, nobody could authenticate if reviews
/// of that did, and the policies themselves must stay within reach.
pub fn is_exempt_kind(group: &str, resource: &str) -> bool {
    match group {
        "" => matches!(resource, "events" | "nodes"),
        "coordination.k8s.io" => resource == "leases",
        "events.k8s.io" => resource == "events",
        "authentication.k8s.io" | "authorization.k8s.io" | super::GROUP => true,
        _ => false,
    }
}

/// Groups that hold every service account of the cluster.
pub const GROUPS_OF_ALL_ACCOUNTS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// Whoever shows no credential, as a binding names them: kind and name.
pub const WITHOUT_CREDENTIAL: [(&str, &str); 2] = [("Group", "system:unauthenticated"), ("User", "system:anonymous")];

/// What people are told of them.
pub const ANYBODY: &str = "whoever shows no credential, as any pod can";

/// Whether the subject of a binding is whoever shows no credential.
pub fn is_anybody(subject: &Value) -> bool {
    let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
    WITHOUT_CREDENTIAL.contains(&(text("kind"), text("name")))
}

/// The namespaces that Ringfence never fences, each once.
pub fn exempt_namespaces(release: &str) -> Vec<&str> {
    let release = (!SYSTEM_NAMESPACES.contains(&release)).then_some(release);
    SYSTEM_NAMESPACES.into_iter().chain(release).collect()
}

/// Whether it is a DNS label (RFC 1123): at most 63 lower-case letters, digits and `-`, the last not at an end.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether it is what the API server calls a DNS subdomain, as names of most objects are: at most 253 lower-case letters, digits and `-`, with
/// dots between parts that begin and end with a letter or a digit. It bounds no part by itself: the ReplicaSet of a Deployment whose name has 60
/// characters has one of 70.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Whether it is lower-case letters, digits and `-`, of which the last stands at no end.
fn is_part(text: &str) -> bool {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    text.starts_with(inner)
        && text.ends_with(inner)
        && text.chars().all(|character| inner(character) || character == '-')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", true)]
    #[case("a-1", true)]
    #[case("", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("A", false)]
    #[case("a.b", false)]
    #[case("ä", false)]
    #[case("a/../b", false)]
    fn labels_are_plain(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(is_dns_label(text), expected);
        assert!(!is_dns_label(&"a".repeat(64)) && is_dns_label(&"a".repeat(63)));
    }

    #[test]
    fn subdomains_are_labels_with_dots() {
        assert!(is_dns_subdomain("a.b-c.d") && is_dns_subdomain("sh.helm.release.v1.x"));
        assert!(is_dns_subdomain(&"a".repeat(253)) && !is_dns_subdomain(&"a".repeat(254)));
        // A name that becomes part of a URL must not be able to leave its place there.
        for no in [
            "..", "a..b", "a/b", "A", "", "a?b", "a b", "-a", "a-", "a.-b", "a-.b", "ä",
        ] {
            assert!(!is_dns_subdomain(no), "{no}");
        }
        assert!(!is_dns_subdomain(&"a.".repeat(127)));
    }

    #[test]
    fn the_systems_and_the_releases_namespace_are_exempt() {
        assert!(is_exempt("kube-system", None) && is_exempt("ringfence-system", Some("ringfence-system")));
        let exempt = ["kube-system", "kube-node-lease", "kube-public"];
        assert_eq!(exempt_namespaces("kube-system"), exempt);
        assert_eq!(
            exempt_namespaces("ringfence-system"),
            [&exempt[..], &["ringfence-system"]].concat()
        );
        assert!(!is_exempt("ringfence-system", None) && !is_exempt("ai", Some("ringfence-system")));
    }
}
