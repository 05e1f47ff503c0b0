//! Secrets that AIWorkflows declare, and that pods and templates refer to: a pod whose Secret or key is missing never starts.
//!
//! Must never: see a value. Names of Secrets and of keys are all that comes here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Declared, Finding, Place, Severity};
use crate::fence::{Takes, each_secret};
use crate::review::Violation;

/// Most Secrets that are looked for in one namespace.
const MAX_SECRETS: usize = 500;
/// Most keys of one Secret.
const MAX_KEYS: usize = 200;

/// Secrets that are wanted, each with its keys and who wants them first.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    wanted: BTreeMap<String, BTreeMap<Option<String>, Wanted>>,
    omitted: bool,
}

/// Who wants it, and where that is written.
#[derive(Clone, Debug)]
struct Wanted {
    place: Place,
    /// Path of the reference.
    path: String,
}

impl Secrets {
    /// Adds what an AIWorkflow of a namespace declares. Added before its pods, it is the one who is told of.
    pub fn add_declared(&mut self, namespace: &str, workflow: &Declared) {
        let place = Place {
            namespace: namespace.to_owned(),
            kind: "AIWorkflow".to_owned(),
            name: workflow.name.clone(),
            workflow: Some(workflow.name.clone()),
        };
        for secret in &workflow.secrets {
            self.want(&secret.name, secret.key.as_deref(), &place, &secret.path);
        }
    }

    /// Adds what a pod, or a pod template at `at`, refers to. What is optional is not wanted.
    pub fn add(&mut self, place: &Place, at: &str, pod: &Value) {
        each_secret(at, pod, |secret| match secret.takes {
            _ if secret.optional => {}
            Takes::All | Takes::Login => self.want(secret.name, None, place, &secret.path),
            Takes::Keys(keys) => {
                for key in keys {
                    self.want(secret.name, Some(key), place, &secret.path);
                }
            }
        });
    }

    fn want(&mut self, name: &str, key: Option<&str>, place: &Place, path: &str) {
        let has_room = self.wanted.len() < MAX_SECRETS;
        let keys = match self.wanted.get_mut(name) {
            Some(keys) => keys,
            None if has_room => self.wanted.entry(name.to_owned()).or_default(),
            None => {
                self.omitted = true;
                return;
            }
        };
        let key = key.map(str::to_owned);
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key) {
            self.omitted = true;
            return;
        }
        keys.entry(key).or_insert_with(|| Wanted {
            place: place.clone(),
            path: path.to_owned(),
        });
    }

    /// Whether there were more than are looked for.
    pub const fn has_omitted(&self) -> bool {
        self.omitted
    }

    /// Names of the Secrets, each with whether its keys matter.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let has_keys = |keys: &BTreeMap<Option<String>, Wanted>| keys.keys().any(Option::is_some);
        self.wanted
            .iter()
            .map(move |(name, keys)| (name.as_str(), has_keys(keys)))
    }

    /// What to say of a Secret that is not there.
    pub fn missing(&self, name: &str) -> Option<Finding> {
        let wanted = self.wanted.get(name)?.values().next()?;
        let violation = Violation {
            policy: "missing-secret".to_owned(),
            path: wanted.path.clone(),
            value: Some(name.to_owned()),
            message: "there is no Secret of that name in the namespace, and a pod that needs it does not start"
                .to_owned(),
            fix: "create the Secret, or correct the reference".to_owned(),
        };
        Some(wanted.place.finding(violation, Severity::Warning))
    }

    /// What to say of the keys of a Secret that are not among those that are there.
    pub fn missing_keys(&self, name: &str, there: &BTreeSet<String>) -> Vec<Finding> {
        let keys = self.wanted.get(name).into_iter().flatten();
        let missing = keys.filter_map(|(key, wanted)| {
            let key = key.as_ref().filter(|key| !there.contains(*key))?;
            let violation = Violation {
                policy: "missing-secret-key".to_owned(),
                path: wanted.path.clone(),
                value: Some(key.clone()),
                message: format!("Secret {name} has no key of that name, and a pod that needs it does not start"),
                fix: "add the key to the Secret, or correct the reference".to_owned(),
            };
            Some(wanted.place.finding(violation, Severity::Warning))
        });
        missing.collect()
    }
}

/// What to say of a Secret that holds a token of a service account: such a token never ends, and is bound to no pod.
pub fn token_secret(namespace: &str, name: &str, account: &str, workflow: Option<&str>) -> Finding {
    let place = Place {
        namespace: namespace.to_owned(),
        kind: "Secret".to_owned(),
        name: name.to_owned(),
        workflow: workflow.map(str::to_owned),
    };
    let violation = Violation {
        policy: "token-secret".to_owned(),
        path: "type".to_owned(),
        value: Some("kubernetes.io/service-account-token".to_owned()),
        message: format!("holds a token of service account {account} that never ends and is bound to no pod"),
        fix: "use a projected token (kubectl create token, or a volume), and delete this Secret".to_owned(),
    };
    let severity = if workflow.is_some() {
        Severity::Error
    } else {
        Severity::Warning
    };
    place.finding(violation, severity)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        Place {
            namespace: "ai".into(),
            kind: "Job".into(),
            name: "j".into(),
            workflow: None,
        }
    }

    #[test]
    fn every_place_that_refers_to_a_secret_is_seen() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}}]}],
            "containers": [
                {"envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "no"}}]},
                {"env": [{"name": "Y", "valueFrom": {"secretKeyRef": {"name": "env", "key": "b"}}}, {"name": "Z", "value": "v"}]},
            ],
            "volumes": [
                {"secret": {"secretName": "mounted", "items": [{"key": "k", "path": "p"}]}},
                {"projected": {"sources": [{"secret": {"name": "projected"}}, {"serviceAccountToken": {}}]}},
                {"csi": {"driver": "d", "nodePublishSecretRef": {"name": "driver"}}},
                {"cephfs": {"secretRef": {"name": "ceph"}}},
            ],
        }});
        let mut secrets = Secrets::default();
        secrets.add(&place(), "spec.template", &pod);
        let names: Vec<_> = secrets.names().collect();
        assert_eq!(
            names,
            [
                ("ceph", false),
                ("driver", false),
                ("env", true),
                ("from", false),
                ("mounted", true),
                ("projected", false),
                ("pull", false),
            ]
        );
        let missing = secrets.missing("from").unwrap();
        assert_eq!(
            (missing.rule.as_str(), missing.path.as_str()),
            (
                "missing-secret",
                "spec.template.spec.containers[0].envFrom[0].secretRef"
            )
        );
        let keys = secrets.missing_keys("env", &BTreeSet::from(["a".to_owned()]));
        assert_eq!(keys.len(), 1);
        assert_eq!((keys[0].value.as_deref(), keys[0].name.as_str()), (Some("b"), "j"));
        assert_eq!(secrets.missing_keys("from", &BTreeSet::new()), []);
    }

    #[test]
    fn the_declaration_is_told_of_before_its_pods() {
        let workflow = json!({
            "metadata": {"name": "triage", "namespace": "ai", "uid": "w-1"},
            "spec": {
                "identity": {"imagePullSecrets": [{"name": "registry"}, {"name": 7}]},
                "secrets": [
                    {"name": "a", "secretRef": {"name": "openai", "keys": ["API_KEY", 7, "ORG"]}},
                    {"name": "b", "secretRef": {"name": "vendor"}}, {"name": "c"},
                ],
            },
        });
        let declared = Declared::of(workflow.as_object().unwrap().clone()).unwrap();
        let mut secrets = Secrets::default();
        secrets.add_declared("ai", &declared);
        let env = json!([{"name": "X", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "API_KEY"}}}]);
        secrets.add(&place(), "", &json!({"spec": {"containers": [{"env": env}]}}));
        let names: Vec<_> = secrets.names().collect();
        assert_eq!(names, [("openai", true), ("registry", false), ("vendor", false)]);
        let missing = secrets.missing("openai").unwrap();
        assert_eq!(
            (missing.kind.as_str(), missing.name.as_str(), missing.path.as_str()),
            ("AIWorkflow", "triage", "spec.secrets[0].secretRef.name")
        );
        let keys = secrets.missing_keys("openai", &BTreeSet::from(["ORG".to_owned()]));
        let paths: Vec<_> = keys.iter().map(|key| (key.kind.as_str(), key.path.as_str())).collect();
        assert_eq!(paths, [("AIWorkflow", "spec.secrets[0].secretRef.keys[0]")]);
        let registry = secrets.missing("registry").unwrap();
        assert_eq!(registry.path, "spec.identity.imagePullSecrets[0].name");
    }

    #[test]
    fn what_is_optional_or_malformed_is_not_wanted() {
        let pod = json!({"spec": {
            "containers": [{
                "env": [{"valueFrom": {"secretKeyRef": {"name": "a", "key": "k", "optional": true}}}],
                "envFrom": [{"secretRef": {"name": "a", "optional": true}}, {"secretRef": {"name": 7}}],
            }, "text"],
            "volumes": [{"secret": {"secretName": "a", "optional": true, "items": [{"key": "k"}]}}, {"secret": []}],
            "imagePullSecrets": {"name": "a"},
        }});
        let mut secrets = Secrets::default();
        secrets.add(&place(), "", &pod);
        assert_eq!(secrets.names().count(), 0);
    }

    #[test]
    fn who_refers_to_thousands_does_not_make_it_grow() {
        let volumes: Vec<_> = (0..2000)
            .map(|at| json!({"secret": {"secretName": format!("s{at}")}}))
            .collect();
        let mut secrets = Secrets::default();
        secrets.add(&place(), "", &json!({"spec": {"volumes": volumes}}));
        assert_eq!(secrets.names().count(), MAX_SECRETS);
        assert!(secrets.has_omitted());
    }
}
