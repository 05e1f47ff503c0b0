//! Engines as data: what an engine's pods and its launchers cannot work without, and the images that it brings along.
//!
//! A profile is named by the workflow, shipped or written by the platform in the class, opened by the class, and shown in
//! status. It may hold what `rules` forbids a tenant to declare (Airflow makes pods): the platform answers for it.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Problem, rules};
use crate::api::{AIWorkflow, AIWorkflowClass, Engine, PolicyRule};

/// The engine of a workflow that names none.
pub const DEFAULT_ENGINE: &str = "custom";

/// What an engine cannot work without.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name, as in `spec.engine`.
    pub name: String,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// Rights of the workflow's own account, beside those that are declared.
    #[serde(default)]
    pub worker: Vec<PolicyRule>,
    /// Rights of each launcher that is a service account, in the workflow's namespace.
    #[serde(default)]
    pub launcher: Vec<PolicyRule>,
    /// Repositories that the pods may run beside `spec.images`. The class must allow them too.
    #[serde(default)]
    pub images: Vec<String>,
    /// Annotations that the engine itself puts on its pods, as in `podAnnotations` of a class. They count beside those.
    #[serde(default, rename = "podAnnotations")]
    pub pod_annotations: Vec<String>,
    /// How its pods are recognised in a namespace that nobody has declared yet.
    #[serde(default)]
    pub recognised: Recognised,
}

/// What tells an engine's pods from others: one of these is enough. Decides about nothing but a draft.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recognised {
    /// Labels of a pod, as `key` or `key=value`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Kinds of what is above every pod of a workflow.
    #[serde(default)]
    pub owners: Vec<String>,
}

const SHIPPED: [&str; 6] = [
    include_str!("../../engines/airflow.yaml"),
    include_str!("../../engines/argo.yaml"),
    include_str!("../../engines/custom.yaml"),
    include_str!("../../engines/job.yaml"),
    include_str!("../../engines/n8n.yaml"),
    include_str!("../../engines/prefect.yaml"),
];

/// The shipped profiles, by name. One that could not be read would be missing, and a test counts them.
pub fn shipped() -> &'static [Profile] {
    static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
        SHIPPED
            .iter()
            // By way of JSON, for which the type is compiled already: for YAML beside it is a hundredth of the binary.
            .filter_map(|text| serde_json::from_value(serde_saphyr::from_str(text).ok()?).ok())
            .collect()
    });
    &PROFILES
}

/// The profile that a workflow names, as its class opens it; or why it does not.
///
/// A class adds to a shipped profile, or brings one of its own. `custom` gives nothing, so it needs no opening.
pub(super) fn profile(workflow: &AIWorkflow, class_name: &str, class: &AIWorkflowClass) -> Result<Profile, Problem> {
    let name = workflow.spec.engine.as_deref().unwrap_or(DEFAULT_ENGINE);
    let Some(entry) = class.spec.engines.iter().find(|engine| engine.name == name) else {
        if name == DEFAULT_ENGINE {
            let custom = shipped().iter().find(|profile| profile.name == name).cloned();
            return Ok(custom.unwrap_or_default());
        }
        let open: Vec<_> = class.spec.engines.iter().map(|engine| engine.name.as_str()).collect();
        let message = format!("is an engine that AIWorkflowClass {class_name} does not open");
        let fix = format!(
            "use custom or one of [{}], or ask the platform team to add it to spec.engines of the class",
            open.join(", ")
        );
        return Err(Problem::new("spec.engine", Some(name), message, fix));
    };
    Ok(opened_by(entry))
}

/// Every engine that a class opens.
pub(super) fn opened(class: &AIWorkflowClass) -> impl Iterator<Item = Profile> {
    class.spec.engines.iter().map(opened_by)
}

fn opened_by(entry: &Engine) -> Profile {
    let shipped = shipped().iter().find(|profile| profile.name == entry.name).cloned();
    let mut profile = shipped.unwrap_or_else(|| Profile {
        name: entry.name.clone(),
        ..Profile::default()
    });
    // What is invalid in a class allows nothing, here as everywhere; its status names it.
    let valid = |rule: &&PolicyRule| {
        let mut problems = Vec::new();
        rules::invalid("", rule, &mut problems);
        problems.is_empty()
    };
    profile.worker.extend(entry.worker.iter().filter(valid).cloned());
    profile.launcher.extend(entry.launcher.iter().filter(valid).cloned());
    profile.images.extend(entry.images.iter().cloned());
    profile.pod_annotations.extend(entry.pod_annotations.iter().cloned());
    profile
}

/// Rules that a workflow's own account holds when its declaration is accepted: its engine's, then those that it declares.
pub fn effective_rules(workflow: &AIWorkflow, class_name: &str, class: &AIWorkflowClass) -> Vec<PolicyRule> {
    let profile = profile(workflow, class_name, class).unwrap_or_default();
    profile.worker.iter().chain(workflow.rules()).cloned().collect()
}

/// What policies see of the engine, and the fence of its images: nothing where the class does not open it.
pub fn engine_input(workflow: &AIWorkflow, class_name: &str, class: &AIWorkflowClass) -> Option<Value> {
    let profile = profile(workflow, class_name, class).ok()?;
    Some(json!({"name": profile.name, "images": profile.images, "rules": profile.worker}))
}

/// Patterns that a workflow's pods may run: its own, and its engine's where the class opens that.
pub fn image_patterns(workflow: &AIWorkflow, class_name: &str, class: Option<&AIWorkflowClass>) -> Vec<String> {
    let profile = class
        .and_then(|class| profile(workflow, class_name, class).ok())
        .unwrap_or_default();
    workflow.spec.images.iter().cloned().chain(profile.images).collect()
}

/// Annotations that a workflow's pods may carry: the class's, and its engine's where the class opens that.
pub fn pod_annotations(workflow: Option<&AIWorkflow>, class_name: &str, class: &AIWorkflowClass) -> Vec<String> {
    let of_engine = workflow.map(|workflow| engine_annotations(workflow, class_name, class));
    let of_class = class.spec.pod_annotations.iter().cloned();
    of_class.chain(of_engine.unwrap_or_default()).collect()
}

/// Annotations by which a workflow's engine tells its pods apart, where the class opens that.
pub fn engine_annotations(workflow: &AIWorkflow, class_name: &str, class: &AIWorkflowClass) -> Vec<String> {
    let profile = profile(workflow, class_name, class).unwrap_or_default();
    profile.pod_annotations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Engine;

    fn workflow(engine: Option<&str>) -> AIWorkflow {
        let mut spec = json!({"launchers": [], "images": ["a.example/**"]});
        if let Some(engine) = engine {
            spec["engine"] = engine.into();
        }
        let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "x"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn class(engines: Vec<Engine>) -> AIWorkflowClass {
        AIWorkflowClass::new(
            "c",
            crate::api::AIWorkflowClassSpec {
                engines,
                ..Default::default()
            },
        )
    }

    #[test]
    fn every_shipped_profile_can_be_read_and_is_named_like_its_file() {
        let names: Vec<_> = shipped().iter().map(|profile| profile.name.as_str()).collect();
        assert_eq!(names, ["airflow", "argo", "custom", "job", "n8n", "prefect"]);
        assert!(shipped().iter().all(|profile| !profile.description.is_empty()));
    }

    #[test]
    fn no_profile_holds_what_reaches_into_pods_or_rights() {
        for profile in shipped() {
            for rule in profile.worker.iter().chain(&profile.launcher) {
                let mut problems = Vec::new();
                rules::invalid(&profile.name, rule, &mut problems);
                assert_eq!(
                    problems,
                    [],
                    "a profile that needs more must be opened here by name, with the reason"
                );
            }
        }
    }

    #[test]
    fn an_engine_must_be_opened_by_the_class_and_custom_gives_nothing() {
        assert_eq!(
            profile(&workflow(None), "c", &class(vec![])).map(|profile| profile.launcher),
            Ok(vec![])
        );
        let problem = profile(&workflow(Some("airflow")), "c", &class(vec![])).unwrap_err();
        assert_eq!(
            (problem.path.as_str(), problem.value.as_deref()),
            ("spec.engine", Some("airflow"))
        );
        let open = class(vec![Engine {
            name: "airflow".into(),
            ..Engine::default()
        }]);
        assert_eq!(
            profile(&workflow(Some("airflow")), "c", &open).unwrap().images,
            ["docker.io/apache/airflow"]
        );
    }

    #[test]
    fn a_class_adds_to_a_shipped_profile_and_brings_its_own() {
        let [groups, resources, verbs] = ["", "configmaps", "get"].map(|word| vec![word.to_owned()]);
        let rule = PolicyRule {
            api_groups: groups,
            resources,
            verbs,
            ..PolicyRule::default()
        };
        let engine = |name: &str| Engine {
            name: name.into(),
            worker: vec![rule.clone()],
            images: vec!["x/y".into()],
            ..Engine::default()
        };
        let both = class(vec![engine("argo"), engine("dagster")]);
        assert_eq!(profile(&workflow(Some("argo")), "c", &both).unwrap().worker.len(), 2);
        assert_eq!(profile(&workflow(Some("dagster")), "c", &both).unwrap().worker, [rule]);
    }

    #[test]
    fn annotations_of_an_engine_are_those_of_the_workflows_that_name_it() {
        let engine = |name: &str, keys: &[&str]| Engine {
            name: name.into(),
            pod_annotations: keys.iter().map(|&key| key.to_owned()).collect(),
            ..Engine::default()
        };
        let mut class = class(vec![engine("ray", &["ray.io/"]), engine("argo", &["argo.example/"])]);
        class.spec.pod_annotations = vec!["example.com/".to_owned()];
        for (name, of_engine) in [
            (Some("ray"), &["ray.io/"][..]),
            (Some("argo"), &["workflows.argoproj.io/", "argo.example/"]),
            (None, &[]),
            (Some("airflow"), &[]),
        ] {
            let workflow = workflow(name);
            assert_eq!(engine_annotations(&workflow, "c", &class), of_engine, "{name:?}");
            let carried = [&["example.com/"], of_engine].concat();
            assert_eq!(pod_annotations(Some(&workflow), "c", &class), carried, "{name:?}");
        }
        assert_eq!(pod_annotations(None, "c", &class), ["example.com/"]);
    }
}
