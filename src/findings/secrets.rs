//! Secrets that pods and templates refer to: a pod whose Secret or key is missing never starts.
//!
//! Must never: see a value. Names of Secrets and of keys are all that comes here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, Place, Severity};
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
    /// Adds what a pod, or a pod template at `at`, refers to. What is optional is not wanted.
    pub fn add(&mut self, place: &Place, at: &str, pod: &Value) {
        let Some(spec) = pod.get("spec") else { return };
        let prefix = if at.is_empty() {
            "spec".to_owned()
        } else {
            format!("{at}.spec")
        };
        let mut want = |path: String, name: Option<&Value>, key: Option<&Value>| {
            let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) else {
                return;
            };
            self.want(name, key.and_then(Value::as_str), place, path);
        };
        for (index, secret) in list(spec, "imagePullSecrets") {
            want(format!("{prefix}.imagePullSecrets[{index}]"), secret.get("name"), None);
        }
        for containers in ["initContainers", "containers", "ephemeralContainers"] {
            for (index, container) in list(spec, containers) {
                let path = format!("{prefix}.{containers}[{index}]");
                for (at, env) in list(container, "env") {
                    if let Some(reference) = env.pointer("/valueFrom/secretKeyRef").filter(|of| !is_optional(of)) {
                        let path = format!("{path}.env[{at}].valueFrom.secretKeyRef");
                        want(path, reference.get("name"), reference.get("key"));
                    }
                }
                for (at, env) in list(container, "envFrom") {
                    if let Some(reference) = env.get("secretRef").filter(|of| !is_optional(of)) {
                        want(format!("{path}.envFrom[{at}].secretRef"), reference.get("name"), None);
                    }
                }
            }
        }
        for (index, volume) in list(spec, "volumes") {
            let path = format!("{prefix}.volumes[{index}]");
            if let Some(secret) = volume.get("secret") {
                of_volume(format!("{path}.secret"), secret, secret.get("secretName"), &mut want);
            }
            for (at, source) in volume.get("projected").into_iter().flat_map(|all| list(all, "sources")) {
                if let Some(secret) = source.get("secret") {
                    let path = format!("{path}.projected.sources[{at}].secret");
                    of_volume(path, secret, secret.get("name"), &mut want);
                }
            }
            // What drivers log in with.
            for (kind, source) in volume.as_object().into_iter().flatten() {
                for field in ["secretRef", "nodePublishSecretRef"] {
                    if let Some(name) = source.get(field).and_then(|reference| reference.get("name")) {
                        want(format!("{path}.{kind}.{field}"), Some(name), None);
                    }
                }
            }
        }
    }

    fn want(&mut self, name: &str, key: Option<&str>, place: &Place, path: String) {
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
            path,
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
            message: "there is no Secret of that name in the namespace, and the pod does not start without".to_owned(),
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
                message: format!("Secret {name} has no key of that name, and the pod does not start without"),
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

fn of_volume(
    path: String,
    secret: &Value,
    name: Option<&Value>,
    want: &mut impl FnMut(String, Option<&Value>, Option<&Value>),
) {
    if is_optional(secret) {
        return;
    }
    want(path.clone(), name, None);
    for (index, item) in list(secret, "items") {
        want(format!("{path}.items[{index}]"), name, item.get("key"));
    }
}

fn list<'a>(of: &'a Value, key: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    of.get(key).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn is_optional(reference: &Value) -> bool {
    reference.get("optional") == Some(&Value::Bool(true))
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
