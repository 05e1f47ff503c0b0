//! Promise 1, images: what a pod runs comes from repositories that both its workflow and its class name.
//!
//! Must never: read a reference in another way than the container runtime does (what cannot be read in one way only is
//! refused), or pass over a field that can hold an image because it is newer than this code.

use serde_json::Value;

use super::object::{at, shown, type_of, violation};
use super::template::Template;
use crate::review::Violation;

const RULE: &str = "approved-images";

/// Lists of containers in a pod's spec, as Kubernetes 1.36 knows them.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Longest repository name that the distribution specification lets a registry take.
const MAX_REPOSITORY: usize = 255;

/// Patterns of the workflow and of the class, with the words that a refusal needs.
pub(super) struct Allowed<'a> {
    /// Name and patterns of the workflow; `None` while there is none, which is another rule's business.
    pub workflow: Option<(&'a str, &'a [String])>,
    /// Name and patterns of the class.
    pub class: (&'a str, &'a [String]),
}

/// Checks every image of a pod.
pub(super) fn check(template: &Template<'_>, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    for list in CONTAINERS {
        let path = at(template.path, &format!("spec.{list}"));
        match spec.get(list) {
            None | Some(Value::Null) if list != "containers" => {}
            Some(Value::Array(containers)) => {
                for (index, container) in containers.iter().enumerate() {
                    check_field(
                        &format!("{path}[{index}].image"),
                        container.get("image"),
                        allowed,
                        violations,
                    );
                }
            }
            other => {
                let message = format!("must be a list of containers, and is {}", type_of(other));
                violations.push(violation(
                    RULE,
                    &path,
                    None,
                    message,
                    format!("list the pod's containers under {path}"),
                ));
            }
        }
    }
    check_volumes(template, spec, allowed, violations);
    check_unknown_lists(template, spec, violations);
}

/// A volume may be an image too: it is pulled and unpacked like any other, undeclared code included.
fn check_volumes(template: &Template<'_>, spec: &Value, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    let path = at(template.path, "spec.volumes");
    match spec.get("volumes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(volumes)) => {
            for (index, volume) in volumes.iter().enumerate() {
                if let Some(image) = volume.get("image").filter(|image| !image.is_null()) {
                    let path = format!("{path}[{index}].image.reference");
                    check_field(&path, image.get("reference"), allowed, violations);
                }
            }
        }
        other => {
            let message = format!("must be a list of volumes, and is {}", type_of(other));
            violations.push(violation(
                RULE,
                &path,
                None,
                message,
                format!("list the pod's volumes under {path}"),
            ));
        }
    }
}

/// A list of a newer Kubernetes whose entries carry an image: nobody said that its images may run.
fn check_unknown_lists(template: &Template<'_>, spec: &Value, violations: &mut Vec<Violation>) {
    for (key, value) in spec.as_object().into_iter().flatten() {
        if CONTAINERS.contains(&key.as_str()) || key == "volumes" {
            continue;
        }
        let entries = value.as_array().into_iter().flatten().chain([value]);
        if entries
            .into_iter()
            .any(|entry| entry.get("image").is_some_and(|image| !image.is_null()))
        {
            let path = at(template.path, &format!("spec.{}", shown(key)));
            let message = "holds images in a field that this version of Ringfence does not know";
            let fix = format!("remove {path}, or ask the platform team for a Ringfence that knows it");
            violations.push(violation(RULE, &path, None, message, fix));
        }
    }
}

fn check_field(path: &str, image: Option<&Value>, allowed: &Allowed<'_>, violations: &mut Vec<Violation>) {
    let Some(image) = image.and_then(Value::as_str) else {
        let message = format!("must be an image, and is {}", type_of(image));
        violations.push(violation(
            RULE,
            path,
            None,
            message,
            format!("name the image under {path}"),
        ));
        return;
    };
    let repository = match repository(image) {
        Ok(repository) => repository,
        Err(problem) => {
            let fix = "write it as registry.example.com/team/name:tag, in lower case";
            violations.push(violation(RULE, path, Some(&masked(image)), problem, fix));
            return;
        }
    };
    if let Some((name, patterns)) = allowed.workflow
        && !patterns.iter().any(|pattern| matches(pattern, &repository))
    {
        let message = format!("no pattern of AIWorkflow {name} allows {}", shown(&repository));
        violations.push(violation(
            RULE,
            path,
            Some(image),
            message,
            fix(patterns, &repository, "spec.images"),
        ));
    }
    let (name, patterns) = allowed.class;
    if !patterns.iter().any(|pattern| matches(pattern, &repository)) {
        let message = format!("no pattern of AIWorkflowClass {name} allows {}", shown(&repository));
        let field = "spec.images.allowed of the class, which is the platform team's";
        violations.push(violation(
            RULE,
            path,
            Some(image),
            message,
            fix(patterns, &repository, field),
        ));
    }
}

fn fix(patterns: &[String], repository: &str, field: &str) -> String {
    let repository = shown(repository);
    let usable: Vec<_> = patterns
        .iter()
        .filter(|pattern| is_pattern(pattern))
        .take(3)
        .map(|p| shown(p))
        .collect();
    if usable.is_empty() {
        format!("add {repository} to {field}")
    } else {
        format!(
            "use an image of {}, or add {repository} to {field}",
            usable.join(" or ")
        )
    }
}

/// A reference that cannot be read may be a URL with a password in it.
fn masked(image: &str) -> String {
    match image.rsplit_once('@') {
        Some((_, after)) if !after.starts_with("sha") => format!("<masked>@{after}"),
        _ => image.to_owned(),
    }
}

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

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
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
fn is_path_component(component: &str) -> bool {
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

/// Whether a pattern is one: whole segments, `*` and `**` alone in theirs. Any other pattern matches nothing.
pub fn is_pattern(pattern: &str) -> bool {
    let mut segments = pattern.split('/');
    let first = segments
        .next()
        .is_some_and(|first| is_wildcard(first) || is_domain(first));
    first && segments.all(|segment| is_wildcard(segment) || is_path_component(segment))
}

fn is_wildcard(segment: &str) -> bool {
    segment == "*" || segment == "**"
}

/// Whether a pattern allows a repository: `*` is one segment, `**` any number of them, none included.
pub fn matches(pattern: &str, repository: &str) -> bool {
    if !is_pattern(pattern) {
        return false;
    }
    let pattern: Vec<&str> = pattern.split('/').collect();
    let segments: Vec<&str> = repository.split('/').collect();
    // Greedy with one way back: linear in practice, at worst the product of both lengths, which are bounded.
    let (mut p, mut s, mut back) = (0, 0, None);
    while let Some(segment) = segments.get(s) {
        match pattern.get(p) {
            Some(&"**") => {
                back = Some((p, s));
                p += 1;
            }
            Some(wanted) if *wanted == "*" || wanted == segment => {
                p += 1;
                s += 1;
            }
            _ => {
                let Some((star, taken)) = back else { return false };
                back = Some((star, taken + 1));
                p = star + 1;
                s = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|segment| *segment == "**")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

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
    #[case::three_underscores("a/b___c")]
    #[case::two_dots("a/b..c")]
    #[case::bare_image_id(HEX)]
    #[case::short_image_id("sha256:0123456789ab")]
    fn what_runtimes_could_read_in_two_ways_is_refused(#[case] reference: &str) {
        assert!(repository(reference).is_err(), "{:?}", repository(reference));
    }

    #[test]
    fn image_ids_and_endless_names_are_refused() {
        assert!(repository(&format!("sha256:{HEX}")).is_err());
        assert!(repository(&format!("registry.example.com/{}", "a".repeat(256))).is_err());
    }

    #[rstest]
    #[case::exact("registry.example.com/finance/triage", true)]
    #[case::one("registry.example.com/finance/*", true)]
    #[case::many("registry.example.com/**", true)]
    #[case::all("**", true)]
    #[case::middle("registry.example.com/**/triage", true)]
    #[case::none_in_between("registry.example.com/finance/**/triage", true)]
    #[case::any_host("*/finance/triage", true)]
    #[case::one_is_not_two("registry.example.com/*", false)]
    #[case::one_is_not_none("registry.example.com/finance/triage/*", false)]
    #[case::a_prefix_is_not_enough("registry.example.com/fin", false)]
    #[case::partial_star("registry.example.com/fin*/triage", false)]
    #[case::star_in_host("*.example.com/finance/triage", false)]
    #[case::star_in_last("registry.example.com/finance/tri**", false)]
    #[case::three_stars("***", false)]
    #[case::question_mark("registry.example.com/finance/triag?", false)]
    #[case::regex("registry.example.com/.*", false)]
    #[case::other_port("registry.example.com:5000/finance/triage", false)]
    #[case::host_alone("registry.example.com", false)]
    #[case::empty("", false)]
    fn patterns_match_whole_segments(#[case] pattern: &str, #[case] expected: bool) {
        assert_eq!(matches(pattern, "registry.example.com/finance/triage"), expected);
    }

    #[test]
    fn a_registry_that_only_begins_alike_does_not_match() {
        let evil = repository("registry.example.com.evil.example/finance/triage").unwrap();
        assert!(!matches("registry.example.com/**", &evil));
        assert!(!matches(
            "docker.io/**",
            &repository("docker.io.evil.example/library/a").unwrap()
        ));
    }

    /// The plain definition, exponential and obvious.
    fn by_definition(pattern: &[&str], segments: &[&str]) -> bool {
        match (pattern.split_first(), segments.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), segment) => {
                by_definition(rest, segments) || segment.is_some_and(|(_, others)| by_definition(pattern, others))
            }
            (Some((&"*", rest)), Some((_, others))) => by_definition(rest, others),
            (Some((wanted, rest)), Some((segment, others))) => wanted == segment && by_definition(rest, others),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(
            pattern in prop::collection::vec(prop::sample::select(vec!["*", "**", "a", "b"]), 1..7),
            segments in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..8),
        ) {
            prop_assert_eq!(matches(&pattern.join("/"), &segments.join("/")), by_definition(&pattern, &segments));
        }

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

    fn judged(pod: &Value, workflow: &[&str], class: &[&str]) -> Vec<String> {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        let (workflow, class) = (owned(workflow), owned(class));
        let allowed = Allowed {
            workflow: Some(("triage", &workflow)),
            class: ("default", &class),
        };
        let mut violations = Vec::new();
        check(
            &Template {
                path: "spec.template",
                pod,
            },
            &allowed,
            &mut violations,
        );
        violations
            .iter()
            .for_each(|violation| assert_eq!(violation.policy, RULE));
        violations.into_iter().map(|violation| violation.path).collect()
    }

    #[rstest]
    #[case::container(json!({"containers": [{"image": "ok/a"}, {"image": "evil/a"}]}), "containers[1].image")]
    #[case::init(json!({"initContainers": [{"image": "evil/a"}], "containers": []}), "initContainers[0].image")]
    #[case::ephemeral(json!({"ephemeralContainers": [{"image": "evil/a"}], "containers": []}), "ephemeralContainers[0].image")]
    #[case::volume(json!({"volumes": [{"image": {"reference": "evil/a"}}], "containers": []}), "volumes[0].image.reference")]
    #[case::volume_without_reference(json!({"volumes": [{"image": {}}], "containers": []}), "volumes[0].image.reference")]
    #[case::volume_of_text(json!({"volumes": [{"image": "ok/a"}], "containers": []}), "volumes[0].image.reference")]
    #[case::no_image(json!({"containers": [{"name": "a"}]}), "containers[0].image")]
    #[case::image_of_another_type(json!({"containers": [{"image": ["ok/a"]}]}), "containers[0].image")]
    #[case::unreadable(json!({"containers": [{"image": "OK/a"}]}), "containers[0].image")]
    #[case::container_of_text(json!({"containers": ["ok/a"]}), "containers[0].image")]
    #[case::no_containers(json!({}), "containers")]
    #[case::containers_of_another_type(json!({"containers": {"image": "ok/a"}}), "containers")]
    #[case::volumes_of_another_type(json!({"containers": [], "volumes": {}}), "volumes")]
    #[case::newer_list(json!({"containers": [], "sidecars": [{"image": "ok/a"}]}), "sidecars")]
    #[case::newer_object(json!({"containers": [], "guest": {"image": {"reference": "ok/a"}}}), "guest")]
    fn every_place_that_holds_an_image_is_seen(#[case] spec: Value, #[case] path: &str) {
        let found = judged(&json!({"spec": spec}), &["docker.io/ok/*"], &["**"]);
        assert_eq!(found, [format!("spec.template.spec.{path}")]);
    }

    #[rstest]
    #[case::url("https://user:secret@registry.example.com/a")]
    #[case::port("user:secret@registry.example.com:5000/a")]
    #[case::token("secret@registry.example.com/a")]
    fn a_password_is_not_repeated(#[case] image: &str) {
        let allowed = Allowed {
            workflow: None,
            class: ("default", &[]),
        };
        let mut violations = Vec::new();
        check_field("image", Some(&json!(image)), &allowed, &mut violations);
        assert_eq!(violations.len(), 1);
        assert!(!format!("{violations:?}").contains("secret"), "{violations:?}");
    }

    #[rstest]
    #[case::both(&["docker.io/a/*"], &["docker.io/**"], 0)]
    #[case::not_the_workflow(&["docker.io/b/*"], &["docker.io/**"], 1)]
    #[case::not_the_class(&["docker.io/a/*"], &["registry.example.com/**"], 1)]
    #[case::neither(&[], &[], 2)]
    fn workflow_and_class_must_both_allow(#[case] workflow: &[&str], #[case] class: &[&str], #[case] refused: usize) {
        let pod = json!({"spec": {"containers": [{"image": "a/b"}], "initContainers": null, "volumes": [{"rbd": {"image": "x"}}]}});
        assert_eq!(judged(&pod, workflow, class).len(), refused);
    }
}
