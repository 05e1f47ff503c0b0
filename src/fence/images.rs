//! Promise 1, images: what a pod runs comes from repositories that both its workflow and its class name, or that the class
//! names as injected; by digest, where the class wants that.
//!
//! Must never: read a reference in another way than the container runtime does (what cannot be read in one way only is
//! refused), or pass over a field that can hold an image because it is newer than this code.

use serde_json::Value;

use super::object::{at, is_full, shown, type_of, violation};
use super::template::{CONTAINERS, Template};
use crate::api::AIWorkflowClass;
use crate::images::{is_pattern, is_pinned, matches, repository};
use crate::review::Violation;

const RULE: &str = "approved-images";

/// Patterns of the workflow and of the class, with the words that a refusal needs.
pub(super) struct Allowed<'a> {
    /// Name and patterns of the workflow; `None` while there is none, which is another rule's business.
    pub workflow: Option<(&'a str, &'a [String])>,
    /// Name and patterns of the class.
    pub class: (&'a str, &'a [String]),
    /// Patterns of the class that need no other.
    pub injected: &'a [String],
    /// Whether the class wants digests.
    pub by_digest: bool,
}

impl<'a> Allowed<'a> {
    /// Reads what a class allows: nothing, where it is missing or cannot be read.
    pub(super) fn new(
        workflow: Option<(&'a str, &'a [String])>,
        class_name: &'a str,
        class: Option<&'a AIWorkflowClass>,
    ) -> Self {
        let images = class.and_then(|class| class.spec.images.as_ref());
        Self {
            workflow,
            class: (class_name, images.map_or(&[], |images| &images.allowed)),
            injected: images.map_or(&[], |images| &images.injected),
            by_digest: images.is_some_and(|images| images.require_digest),
        }
    }
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
        if is_full(violations) {
            return;
        }
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
    if is_full(violations) {
        return;
    }
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
    let (class, _) = allowed.class;
    if allowed.by_digest && !is_pinned(image) {
        let message = format!(
            "{} does not end in a digest, and AIWorkflowClass {class} (spec.images.requireDigest) wants one: a tag can be moved",
            shown(image)
        );
        let fix = format!("write it as {}@sha256:<64 hexadecimal digits>", shown(&repository));
        violations.push(violation(RULE, path, Some(image), message, fix));
    }
    if allowed.injected.iter().any(|pattern| matches(pattern, &repository)) {
        return;
    }
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
    let is_digest = |text: &&str| {
        ["sha256:", "sha384:", "sha512:"]
            .iter()
            .any(|name| text.starts_with(name))
    };
    let digest = image.rsplit_once('@').map(|(_, last)| last).filter(is_digest);
    let named = digest
        .and_then(|digest| image.strip_suffix(digest)?.strip_suffix('@'))
        .unwrap_or(image);
    match (named.rsplit_once('@'), digest) {
        (None, _) => image.to_owned(),
        (Some((_, host)), None) => format!("<masked>@{host}"),
        (Some((_, host)), Some(digest)) => format!("<masked>@{host}@{digest}"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::object::MAX_VIOLATIONS;
    use super::*;

    fn judged(pod: &Value, workflow: &[&str], class: &[&str]) -> Vec<String> {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        let (workflow, class) = (owned(workflow), owned(class));
        let allowed = Allowed {
            workflow: Some(("triage", &workflow)),
            class: ("default", &class),
            injected: &[],
            by_digest: false,
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
    #[case::digest("a/b@sha256:00", "a/b@sha256:00")]
    #[case::password("user:pw@shared.example.com/a", "<masked>@shared.example.com/a")]
    #[case::password_of_a_name_like_a_digest("user:pw@sha256.example.com/a", "<masked>@sha256.example.com/a")]
    #[case::both("user:pw@r.example.com/a@sha256:00", "<masked>@r.example.com/a@sha256:00")]
    fn who_logs_in_is_not_repeated(#[case] image: &str, #[case] shown: &str) {
        assert_eq!(masked(image), shown);
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
            injected: &[],
            by_digest: false,
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

    /// Each image that nobody lists is two mistakes.
    #[rstest]
    #[case::containers(json!({"containers": vec![json!({"image": "evil/a"}); 10_000]}))]
    #[case::volumes(json!({"containers": [], "volumes": vec![json!({"image": {"reference": "evil/a"}}); 10_000]}))]
    #[case::newer_lists(Value::from_iter((0..10_000).map(|list| (format!("newer{list}"), json!([{"image": "ok/a"}])))))]
    fn thousands_of_images_are_told_of_by_the_first(#[case] spec: Value) {
        let found = judged(&json!({"spec": spec}), &[], &[]);
        assert_eq!(found.len(), MAX_VIOLATIONS);
    }

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Every image of every list, and of a volume.
    fn everywhere(image: &str) -> Value {
        let list = json!([{"image": image}]);
        let volumes = json!([{"image": {"reference": image}}]);
        json!({"spec": {"containers": list, "initContainers": list, "ephemeralContainers": list, "volumes": volumes}})
    }

    fn found(image: &str, spec: Value) -> Vec<Violation> {
        let class: AIWorkflowClass =
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {"images": spec}})).unwrap();
        let patterns = ["docker.io/ok/*".to_owned()];
        let allowed = Allowed::new(Some(("triage", &patterns)), "c", Some(&class));
        let pod = everywhere(image);
        let mut violations = Vec::new();
        check(&Template { path: "", pod: &pod }, &allowed, &mut violations);
        violations
    }

    #[rstest]
    #[case::injected("docker.io/istio/proxyv2:1.29", &["docker.io/istio/proxyv2"], 0)]
    #[case::in_another_spelling("istio/proxyv2", &["docker.io/istio/proxyv2"], 0)]
    #[case::look_alike("docker.io/istio/proxyv2-evil", &["docker.io/istio/proxyv2"], 8)]
    #[case::pattern_that_is_none("docker.io/istio/proxyv2", &["docker.io/istio/proxy*", "istio/*", "*"], 8)]
    #[case::not_named("docker.io/istio/proxyv2", &[], 8)]
    #[case::unreadable("docker.io/istio/Proxyv2", &["**"], 4)]
    #[case::all_of_them("evil.example/a", &["**"], 0)]
    fn what_the_platform_injects_needs_no_declaration(
        #[case] image: &str,
        #[case] injected: &[&str],
        #[case] refused: usize,
    ) {
        let found = found(
            image,
            json!({"allowed": ["registry.example.com/**"], "injected": injected}),
        );
        assert_eq!(found.len(), refused, "{found:?}");
    }

    #[rstest]
    #[case::digest(format!("ok/a@sha256:{HEX}"), 0)]
    #[case::tag_and_digest(format!("ok/a:1@sha256:{HEX}"), 0)]
    #[case::injected(format!("istio/proxyv2@sha256:{HEX}"), 0)]
    #[case::tag("ok/a:1".to_owned(), 4)]
    #[case::bare("ok/a".to_owned(), 4)]
    #[case::injected_by_tag("istio/proxyv2:1".to_owned(), 4)]
    #[case::another_algorithm(format!("ok/a@sha512:{HEX}{HEX}"), 4)]
    #[case::in_the_tag(format!("ok/a:sha256-{HEX}"), 4)]
    #[case::tag_after_the_digest(format!("ok/a@sha256:{HEX}:1"), 4)]
    #[case::neither_declared_nor_pinned("evil.example/a".to_owned(), 8)]
    fn every_image_is_pinned_where_the_class_wants_it(#[case] image: String, #[case] refused: usize) {
        let spec = json!({"allowed": ["**"], "injected": ["docker.io/istio/*"], "requireDigest": true});
        let found = found(&image, spec);
        assert_eq!(found.len(), refused, "{found:?}");
        let first = found.first().map_or("", |violation| &violation.fix);
        assert!(
            refused == 0 || first.contains("@sha256:") || first.contains("in lower case"),
            "{first}"
        );
        for violation in found
            .iter()
            .filter(|violation| violation.message.contains("requireDigest"))
        {
            assert!(violation.message.starts_with(&image), "{}", violation.message);
        }
    }
}
