//! Image references in one normal form.
//!
//! Must never: guess. What kubelet and a runtime could read in two ways is refused.

/// Longest repository name that the distribution specification lets a registry take.
const MAX_REPOSITORY: usize = 255;

/// The repository of an image reference, in full: registry, path, neither tag nor digest.
///
/// Follows the grammar of the distribution project's `reference` package, which kubelet and runtimes share, and refuses the
/// corners where they could differ: upper case, image IDs, anything outside the grammar.
pub fn repository(reference: &str) -> Result<String, &'static str> {
    if reference.is_empty() {
        return Err("an image must be named");
    }
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("what follows '@' is not a digest such as sha256:…");
    }
    // A colon before the last slash belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("what follows the last ':' is not a tag");
    }
    if name.chars().any(|character| character.is_ascii_uppercase()) {
        return Err("upper case is read in different ways by different runtimes");
    }
    if !name.contains('/') && is_image_id(name, tag) {
        return Err("an image ID names what happens to lie on a node, not where it came from");
    }
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path.to_owned()),
        _ => ("docker.io", name.to_owned()),
    };
    if !is_domain(domain) {
        return Err("the registry is not a host name with an optional port");
    }
    if !path.split('/').all(is_path_component) {
        return Err("the repository holds characters that no registry takes");
    }
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let path = if domain == "docker.io" && !path.contains('/') {
        format!("library/{path}")
    } else {
        path
    };
    let repository = format!("{domain}/{path}");
    if repository.len() > MAX_REPOSITORY {
        Err("the repository's name is longer than 255 characters")
    } else {
        Ok(repository)
    }
}

/// Whether a reference that [`repository`] can read names one image for ever: by the digest that every registry and runtime
/// can compute.
pub fn is_pinned(reference: &str) -> bool {
    let digest = reference.split_once('@').map(|(_, digest)| digest);
    digest.is_some_and(|digest| digest.starts_with("sha256:") && is_digest(digest))
}

/// `docker.io` reads `sha256:<hex>` as a tag of a repository named sha256; containerd reads it as the ID of a local image.
fn is_image_id(name: &str, tag: Option<&str>) -> bool {
    let is_hex = |text: &str, least: usize| text.len() >= least && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex(name, 64) || tag.is_some_and(|tag| ["sha256", "sha384", "sha512"].contains(&name) && is_hex(tag, 1))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

pub(super) fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            // Dots at its end are a second way to write an address, which the grammar of references does not have.
            let is_address = !address.contains('.') && address.parse::<std::net::Ipv6Addr>().is_ok();
            return is_address && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            label.bytes().next().is_some_and(inner)
                && label.bytes().last().is_some_and(inner)
                && label.bytes().all(|byte| inner(byte) || byte == b'-')
        })
}

/// Leading zeroes are another way to write the same port, so they are refused.
fn is_port(port: &str) -> bool {
    !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Runs of letters and digits, between them one `.`, one or two `_`, or any number of `-`.
pub(super) fn is_path_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    bytes.first().copied().is_some_and(word)
        && bytes.last().copied().is_some_and(word)
        && bytes.chunk_by(|a, b| word(*a) == word(*b)).all(|run| {
            run.first().copied().is_some_and(word)
                || run == b"."
                || run == b"_"
                || run == b"__"
                || run.iter().all(|byte| *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::matches;
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[rstest]
    #[case::short("python", "docker.io/library/python")]
    #[case::tag("python:3.12", "docker.io/library/python")]
    #[case::user("finance/triage", "docker.io/finance/triage")]
    #[case::docker_in_full("docker.io/python", "docker.io/library/python")]
    #[case::docker_by_its_old_name("index.docker.io/python", "docker.io/library/python")]
    #[case::registry("registry.example.com/finance/triage:v1", "registry.example.com/finance/triage")]
    #[case::port("registry.example.com:5000/triage", "registry.example.com:5000/triage")]
    #[case::port_and_tag("registry:5000/triage:v1", "registry:5000/triage")]
    #[case::localhost("localhost/triage", "localhost/triage")]
    #[case::address("[2001:db8::1]:5000/triage", "[2001:db8::1]:5000/triage")]
    #[case::separators("a/b__c/d---e/f.g", "docker.io/a/b__c/d---e/f.g")]
    fn references_are_normalised(#[case] reference: &str, #[case] expected: &str) {
        assert_eq!(repository(reference).as_deref(), Ok(expected));
        let digested = format!("{reference}@sha256:{HEX}");
        assert_eq!(
            repository(&digested).as_deref(),
            Ok(expected),
            "a digest changes nothing"
        );
    }

    #[rstest]
    #[case::empty("")]
    #[case::upper_path("registry.example.com/Finance/triage")]
    #[case::upper_host("REGISTRY.example.com/triage")]
    #[case::space("registry.example.com/a b")]
    #[case::newline("registry.example.com/a\n")]
    #[case::url("https://registry.example.com/a")]
    #[case::dot_dot("registry.example.com/finance/../evil")]
    #[case::dot("registry.example.com/./evil")]
    #[case::double_slash("registry.example.com//evil")]
    #[case::leading_slash("/evil")]
    #[case::trailing_slash("registry.example.com/finance/")]
    #[case::trailing_dot("registry.example.com./finance/a")]
    #[case::wildcard("registry.example.com/finance/*")]
    #[case::percent("registry.example.com/finance%2fa")]
    #[case::backslash("registry.example.com\\finance/a")]
    #[case::unicode("registry.example.com/finаnce/a")]
    #[case::userinfo("registry.example.com@evil.example/finance/a")]
    #[case::short_digest("a@sha256:00")]
    #[case::unknown_digest("a@md5:00112233445566778899aabbccddeeff")]
    #[case::two_digests("a@sha256:00@sha256:00")]
    #[case::empty_tag("a:")]
    #[case::empty_digest("a@")]
    #[case::port_of_zeroes("registry.example.com:05000/a")]
    #[case::no_port("registry.example.com:/a")]
    #[case::large_port("registry.example.com:65536/a")]
    #[case::mapped_address("[::ffff:192.0.2.1]:5000/a")]
    #[case::no_address("[registry.example.com]/a")]
    #[case::no_address_at_all("[:::]/a")]
    #[case::three_underscores("a/b___c")]
    #[case::two_dots("a/b..c")]
    #[case::bare_image_id(HEX)]
    #[case::short_image_id("sha256:0123456789ab")]
    fn what_runtimes_could_read_in_two_ways_is_refused(#[case] reference: &str) {
        assert!(repository(reference).is_err(), "{:?}", repository(reference));
    }

    #[rstest]
    #[case::sha256(format!("r.example/a@sha256:{HEX}"), true)]
    #[case::with_tag(format!("r.example/a:1@sha256:{HEX}"), true)]
    #[case::tag("r.example/a:1".to_owned(), false)]
    #[case::sha512(format!("r.example/a@sha512:{HEX}{HEX}"), false)]
    #[case::short("r.example/a@sha256:00".to_owned(), false)]
    #[case::in_the_name(format!("sha256/a:{HEX}"), false)]
    fn only_a_digest_that_everybody_can_compute_pins_an_image(#[case] reference: String, #[case] expected: bool) {
        assert_eq!(is_pinned(&reference), expected);
    }

    #[test]
    fn image_ids_and_endless_names_are_refused() {
        assert!(repository(&format!("sha256:{HEX}")).is_err());
        assert!(repository(&format!("registry.example.com/{}", "a".repeat(256))).is_err());
    }

    proptest! {
        #[test]
        fn no_reference_makes_it_panic(reference in ".{0,80}") {
            let _ = repository(&reference);
        }

        #[test]
        fn a_repository_is_its_own_normal_form(reference in "([a-z0-9.:-]{1,12}/)?[a-z0-9._/-]{1,20}(:[a-zA-Z0-9._-]{1,8})?") {
            if let Ok(name) = repository(&reference) {
                prop_assert_eq!(repository(&name), Ok(name.clone()));
                prop_assert!(matches(&name, &name));
                prop_assert!(matches("**", &name));
            }
        }
    }
}
