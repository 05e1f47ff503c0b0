//! The class by itself: whether it can be read, and the one that the operator makes when there is none.

use super::{Problem, cidr, dns, domains, engine, rules, shape};
use crate::api::{
    AIWorkflowClass, AIWorkflowClassSpec, ClassIdentity, ClassImages, ClassVolumes, DEFAULT_CLASS, Engine, PodSecurity,
    PolicyRule,
};
use crate::images::is_pattern;

/// What is wrong with a class. A class with problems still narrows: what cannot be read allows nothing.
pub fn class_problems(class: &AIWorkflowClass) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &class.spec;
    for (index, rule) in spec.permissions.iter().enumerate() {
        rules::invalid(&format!("spec.permissions[{index}]"), rule, &mut problems);
    }
    for (index, rule) in spec.cross_namespace_permissions.iter().enumerate() {
        rules::invalid(&format!("spec.crossNamespacePermissions[{index}]"), rule, &mut problems);
        rules::invalid_across(&format!("spec.crossNamespacePermissions[{index}]"), rule, &mut problems);
    }
    for (number, engine) in spec.engines.iter().enumerate() {
        for (field, list) in [("worker", &engine.worker), ("launcher", &engine.launcher)] {
            for (index, rule) in list.iter().enumerate() {
                rules::invalid(&format!("spec.engines[{number}].{field}[{index}]"), rule, &mut problems);
            }
        }
        unreadable_images(&format!("spec.engines[{number}].images"), &engine.images, &mut problems);
    }
    if let Some(images) = &spec.images {
        unreadable_images("spec.images.allowed", &images.allowed, &mut problems);
        unreadable_images("spec.images.injected", &images.injected, &mut problems);
    }
    shape::class_problems(spec, &mut problems);
    let network = spec.network.clone().unwrap_or_default();
    let cluster = spec.cluster.clone().unwrap_or_default();
    let own = cluster.cluster_cidrs.unwrap_or_default();
    domains::class_problems(class, &mut problems);
    dns::class_problems(class, &mut problems);
    let dns = cluster.dns.and_then(|dns| dns.cidrs).unwrap_or_default();
    let api_server = cluster.api_server.map(|address| address.cidrs).unwrap_or_default();
    for (path, list) in [
        ("spec.network.cidrs", network.cidrs),
        ("spec.cluster.dns.cidrs", dns),
        ("spec.cluster.apiServer.cidrs", api_server),
        ("spec.cluster.clusterCIDRs", own),
    ] {
        for (index, text) in list.iter().enumerate() {
            if let Err(message) = cidr::parse(text) {
                let fix = "write it in its shortest form, prefix and all";
                problems.push(Problem::new(format!("{path}[{index}]"), Some(text), message, fix));
            }
        }
    }
    problems
}

fn unreadable_images(list: &str, patterns: &[String], problems: &mut Vec<Problem>) {
    for (index, pattern) in patterns.iter().enumerate().filter(|(_, pattern)| !is_pattern(pattern)) {
        let fix =
            "write registry and path in full and in lower case, * and ** as whole segments, neither tag nor digest";
        let path = format!("{list}[{index}]");
        problems.push(Problem::new(path, Some(pattern), "matches no repository", fix));
    }
}

/// The class `default`: every shipped engine, every image repository, read rights on what is no secret, peers in the own namespace
/// only, the standard Restricted, volumes that stay inside the pod or are claimed, tokens for the API server only.
pub fn default_class() -> AIWorkflowClass {
    let read = PolicyRule {
        api_groups: vec![String::new()],
        resources: ["configmaps", "services", "pods", "pods/log"]
            .map(str::to_owned)
            .to_vec(),
        resource_names: Vec::new(),
        verbs: ["get", "list", "watch"].map(str::to_owned).to_vec(),
    };
    let open = |profile: &engine::Profile| Engine {
        name: profile.name.clone(),
        ..Engine::default()
    };
    let spec = AIWorkflowClassSpec {
        engines: engine::shipped().iter().map(open).collect(),
        images: Some(ClassImages {
            allowed: vec!["**".to_owned()],
            ..ClassImages::default()
        }),
        permissions: vec![read],
        identity: Some(ClassIdentity {
            max_token_seconds: Some(shape::DEFAULT_TOKEN_SECONDS),
            ..ClassIdentity::default()
        }),
        pod_security: Some(PodSecurity::Restricted),
        volumes: Some(ClassVolumes {
            types: shape::DEFAULT_VOLUMES.map(str::to_owned).to_vec(),
            ..ClassVolumes::default()
        }),
        pod_annotations: shape::DEFAULT_ANNOTATIONS.map(str::to_owned).to_vec(),
        ..AIWorkflowClassSpec::default()
    };
    AIWorkflowClass::new(DEFAULT_CLASS, spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ClassNetwork;

    #[test]
    fn the_default_class_has_no_problems() {
        assert_eq!(class_problems(&default_class()), []);
    }

    #[test]
    fn an_image_that_no_pattern_can_match_is_named() {
        let spec = AIWorkflowClassSpec {
            images: Some(ClassImages {
                allowed: vec!["**".to_owned(), "python".to_owned()],
                injected: vec!["istio".to_owned()],
                ..ClassImages::default()
            }),
            engines: vec![Engine {
                name: "ray".to_owned(),
                images: vec!["docker.io/rayproject/ray".to_owned(), "rayproject/ray:2".to_owned()],
                ..Engine::default()
            }],
            ..AIWorkflowClassSpec::default()
        };
        let problems = class_problems(&AIWorkflowClass::new("x", spec));
        assert_eq!(
            problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
            [
                "spec.engines[0].images[1]",
                "spec.images.allowed[1]",
                "spec.images.injected[0]"
            ]
        );
    }

    #[test]
    fn a_range_that_cannot_be_read_is_named() {
        let network = ClassNetwork {
            cidrs: vec!["10.0.0.1/8".to_owned()],
            ..ClassNetwork::default()
        };
        let spec = AIWorkflowClassSpec {
            network: Some(network),
            ..AIWorkflowClassSpec::default()
        };
        let problems = class_problems(&AIWorkflowClass::new("x", spec));
        assert_eq!(
            problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(),
            ["spec.network.cidrs[0]"]
        );
    }
}
