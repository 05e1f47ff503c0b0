use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::plan::{self, NamespaceFacts};

fn class(spec: Value) -> AIWorkflowClass {
    AIWorkflowClass::new("gold", serde_json::from_value::<AIWorkflowClassSpec>(spec).unwrap())
}

fn workflow(audiences: Value) -> AIWorkflow {
    let spec = json!({"launchers": [], "images": ["a.example/b"], "identity": {"audiences": audiences}});
    let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "x", "namespace": "ai"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

#[rstest]
#[case::all_is_well(json!({
    "volumes": {"types": ["csi", "hostPath"], "csiDrivers": ["secrets-store.csi.k8s.io"]},
    "podAnnotations": ["example.com/", "example.com/a_b.c", "dag_id", "x.example.com/A"],
    "identity": {"audiences": ["vault", "api://AzureADTokenExchange", "https://sts.example.com"], "maxTokenSeconds": 600},
    "images": {"injected": ["docker.io/istio/proxyv2"]},
}), &[])]
#[case::type_of_no_volume(json!({"volumes": {"types": ["secret", "hostpath", "*"]}}), &["spec.volumes.types[1]", "spec.volumes.types[2]"])]
#[case::driver(json!({"volumes": {"types": ["csi"], "csiDrivers": ["*", ""]}}), &["spec.volumes.csiDrivers[0]", "spec.volumes.csiDrivers[1]"])]
#[case::annotation(json!({"podAnnotations": ["*", "a/b/c", "/", "Example.com/a", "-a"]}), &[
    "spec.podAnnotations[0]", "spec.podAnnotations[1]", "spec.podAnnotations[2]", "spec.podAnnotations[3]", "spec.podAnnotations[4]",
])]
#[case::ours(json!({"podAnnotations": ["ringfence.dev/", "ringfence.dev/owner-uid"]}), &["spec.podAnnotations[0]", "spec.podAnnotations[1]"])]
#[case::annotation_of_an_engine(
    json!({"engines": [{"name": "ray", "podAnnotations": ["ray.io/", "Ray.io/x"]}, {"name": "custom", "podAnnotations": ["*", "ringfence.dev/"]}]}),
    &["spec.engines[0].podAnnotations[1]", "spec.engines[1].podAnnotations[0]", "spec.engines[1].podAnnotations[1]"],
)]
#[case::runtime_class(json!({"nodes": {"runtimeClasses": ["gvisor", "*", ""]}}), &["spec.nodes.runtimeClasses[1]", "spec.nodes.runtimeClasses[2]"])]
#[case::taint(json!({"nodes": {"taints": ["nvidia.com/gpu", "*", "nvidia.com/", ""]}}), &["spec.nodes.taints[1]", "spec.nodes.taints[2]", "spec.nodes.taints[3]"])]
#[case::audience(json!({"identity": {"audiences": ["*", "", "a b", "a\n"]}}), &[
    "spec.identity.audiences[0]", "spec.identity.audiences[1]", "spec.identity.audiences[2]", "spec.identity.audiences[3]",
])]
#[case::seconds(json!({"identity": {"maxTokenSeconds": 599}}), &["spec.identity.maxTokenSeconds"])]
#[case::many_seconds(json!({"identity": {"maxTokenSeconds": 86401}}), &["spec.identity.maxTokenSeconds"])]
#[case::injected(json!({"images": {"injected": ["istio/*", "docker.io/istio/proxy*"]}}), &["spec.images.injected[0]", "spec.images.injected[1]"])]
fn what_cannot_be_read_in_a_class_is_named(#[case] spec: Value, #[case] expected: &[&str]) {
    let problems = plan::class_problems(&class(spec));
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, expected);
    assert!(
        problems
            .iter()
            .all(|problem| !problem.fix.is_empty() && problem.value.is_some())
    );
}

#[test]
fn the_class_default_allows_what_the_design_says() {
    let class = plan::default_class();
    assert_eq!(volume_types(&class), DEFAULT_VOLUMES);
    assert_eq!(max_token_seconds(&class), 3600);
    assert_eq!(pod_security(Some(&class)), PodSecurity::Restricted);
    assert_eq!(class_audiences(&class).len(), 0);
    let images = class.spec.images.unwrap();
    assert_eq!((images.injected.len(), images.require_digest), (0, false));
    for (key, allowed) in [
        ("kubectl.kubernetes.io/restartedAt", true),
        ("batch.kubernetes.io/job-completion-index", true),
        ("kubernetes.io/limit-ranger", true),
        ("container.apparmor.security.beta.kubernetes.io/main", true),
        ("kubernetes.io/ingress-bandwidth", false),
        ("k8s.v1.cni.cncf.io/networks", false),
    ] {
        assert_eq!(allows_annotation(&class.spec.pod_annotations, key), allowed, "{key}");
    }
}

#[rstest]
#[case::none(json!([]), None)]
#[case::allowed(json!([{"audience": "vault", "maxExpirationSeconds": 900}]), None)]
#[case::by_default_an_hour_or_what_the_class_allows(json!([{"audience": "vault"}]), None)]
#[case::not_allowed(json!([{"audience": "sts.amazonaws.com"}]), Some(("OutsideClass", "audiences[0].audience", "it allows vault")))]
#[case::too_long(json!([{"audience": "vault", "maxExpirationSeconds": 901}]), Some(("OutsideClass", "audiences[0].maxExpirationSeconds", "900 seconds")))]
#[case::twice(json!([{"audience": "vault"}, {"audience": "vault"}]), Some(("Invalid", "audiences[1].audience", "twice")))]
#[case::wildcard(json!([{"audience": "*"}]), Some(("Invalid", "audiences[0].audience", "no audience")))]
#[case::empty(json!([{"audience": ""}]), Some(("Invalid", "audiences[0].audience", "no audience")))]
#[case::too_short(json!([{"audience": "vault", "maxExpirationSeconds": 1}]), Some(("Invalid", "audiences[0].maxExpirationSeconds", "600 to 86400")))]
fn a_declared_audience_is_valid_and_inside_the_class(
    #[case] audiences: Value,
    #[case] expected: Option<(&str, &str, &str)>,
) {
    let class =
        class(json!({"images": {"allowed": ["**"]}, "identity": {"audiences": ["vault"], "maxTokenSeconds": 900}}));
    let namespace = NamespaceFacts {
        name: "ai".into(),
        ..NamespaceFacts::default()
    };
    let found = plan::accept(&workflow(audiences), &namespace, Some("gold"), Some(&class));
    let Some((reason, path, said)) = expected else {
        assert!(found.accepted, "{}", found.message);
        return;
    };
    assert_eq!(
        (found.reason.as_str(), found.problems.len()),
        (reason, 1),
        "{}",
        found.message
    );
    assert!(
        found.message.contains(path) && found.message.contains(said),
        "{}",
        found.message
    );
}

#[test]
fn many_are_listed_in_part() {
    assert_eq!(listed::<&str>(&[]), "none");
    assert_eq!(listed(&["a"; 9]), "a, a, a, a, a, a, a, a and 1 more");
}
