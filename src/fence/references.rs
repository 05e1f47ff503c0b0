//! Where a pod names Secrets, in raw JSON: one reading, for the rule, for what is missing and for drafts.
//!
//! Of what is newer than this code it knows the look: a field that is called after secrets, and a source or a setting beside those
//! that are known. Must never: pass over such a field, or see a value. Names of Secrets and of keys are all that comes out.

use serde_json::Value;

use super::object::{at, shown, type_of};

/// A place that names a Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedSecret<'a> {
    /// Path of it.
    pub path: String,
    /// Name of the Secret, as it is written.
    pub name: &'a str,
    /// What of the Secret.
    pub takes: Takes<'a>,
    /// Whether the pod starts without it.
    pub optional: bool,
}

/// What a reference takes of its Secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Takes<'a> {
    /// All of it.
    All,
    /// These keys, at least one.
    Keys(Vec<&'a str>),
    /// What a registry wants to see before it hands out an image. The pod sees nothing of it.
    Login,
}

/// What was found.
pub(super) enum Found<'a> {
    Reference(NamedSecret<'a>),
    /// What may name a Secret, and cannot be read as one that does.
    Unread {
        path: String,
        message: String,
    },
}

/// Lists of containers in a pod's spec.
const CONTAINERS: [&str; 3] = ["containers", "ephemeralContainers", "initContainers"];
/// Sources of a variable that are no Secret.
const PLAIN_VARIABLES: [&str; 4] = ["configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef"];
/// Volumes whose driver logs in with a Secret.
const DRIVERS: [&str; 6] = ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
/// Maps whose keys are labels, resources and the like: somebody's own words, which name nothing.
const OWN_WORDS: [&str; 7] = [
    "annotations",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "requests",
];
/// Tells of each place of a pod, or of a pod template at `path`, that names a Secret.
pub fn each_secret<'a>(path: &str, pod: &'a Value, mut tell: impl FnMut(NamedSecret<'a>)) {
    each(path, pod, None, &mut |found| {
        if let Found::Reference(reference) = found {
            tell(reference);
        }
    });
}

/// The same, with what cannot be read; without what stood in the same place before.
pub(super) fn each<'a>(path: &str, pod: &'a Value, before: Option<&'a Value>, tell: &mut dyn FnMut(Found<'a>)) {
    let pod = Part { now: pod, before };
    let mut search = Search { tell };
    for (_, spec) in pod.fields().filter(|(key, _)| *key == "spec") {
        search.spec(&at(path, "spec"), spec);
    }
}

/// A value, and what stood in its place.
#[derive(Clone, Copy)]
struct Part<'a> {
    now: &'a Value,
    before: Option<&'a Value>,
}

impl<'a> Part<'a> {
    fn new(now: &'a Value, before: Option<&'a Value>) -> Option<Self> {
        (!now.is_null() && before != Some(now)).then_some(Self { now, before })
    }

    /// Fields that are new.
    fn fields(self) -> impl Iterator<Item = (&'a str, Self)> {
        let fields = self.now.as_object().into_iter().flatten();
        fields.filter_map(move |(key, now)| {
            let before = self.before.and_then(|before| before.get(key));
            Some((key.as_str(), Self::new(now, before)?))
        })
    }

    /// Items that are new, each with its index.
    fn items(self) -> impl Iterator<Item = (usize, Self)> {
        let items = self.now.as_array().into_iter().flatten().enumerate();
        items.filter_map(move |(index, now)| {
            let before = self.before.and_then(|before| before.get(index));
            Some((index, Self::new(now, before)?))
        })
    }
}

struct Search<'s, 'a> {
    tell: &'s mut dyn FnMut(Found<'a>),
}

impl<'a> Search<'_, 'a> {
    fn spec(&mut self, path: &str, spec: Part<'a>) {
        for (key, part) in spec.fields() {
            let path = inside(path, key);
            match key {
                "imagePullSecrets" => self.list(&path, part, |search, path, secret| {
                    search.login(path, secret.now);
                }),
                "volumes" => self.list(&path, part, Self::volume),
                _ if CONTAINERS.contains(&key) => self.list(&path, part, Self::container),
                _ => self.other(&path, key, part),
            }
        }
    }

    fn list(&mut self, path: &str, list: Part<'a>, each: impl Fn(&mut Self, &str, Part<'a>)) {
        if !list.now.is_array() {
            self.unread(path, format!("must be a list, and is {}", type_of(Some(list.now))));
        }
        for (index, item) in list.items() {
            each(self, &format!("{path}[{index}]"), item);
        }
    }

    fn container(&mut self, path: &str, container: Part<'a>) {
        for (key, part) in container.fields() {
            let path = inside(path, key);
            match key {
                "env" => self.list(&path, part, Self::variable),
                "envFrom" => self.list(&path, part, Self::variables),
                _ => self.other(&path, key, part),
            }
        }
    }

    fn variable(&mut self, path: &str, variable: Part<'a>) {
        for (key, part) in variable.fields() {
            let path = inside(path, key);
            if key != "valueFrom" {
                self.other(&path, key, part);
                continue;
            }
            for (source, part) in part.fields() {
                let path = inside(&path, source);
                match source {
                    "secretKeyRef" => self.key(&path, part.now),
                    _ if PLAIN_VARIABLES.contains(&source) => self.other(&path, source, part),
                    _ => self.newer(&path),
                }
            }
        }
    }

    fn variables(&mut self, path: &str, from: Part<'a>) {
        for (source, part) in from.fields() {
            let path = inside(path, source);
            match source {
                "secretRef" => self.whole(&path, part.now, "name", &["optional"]),
                "configMapRef" | "prefix" => self.other(&path, source, part),
                _ => self.newer(&path),
            }
        }
    }

    fn volume(&mut self, path: &str, volume: Part<'a>) {
        for (kind, source) in volume.fields() {
            let path = inside(path, kind);
            if kind == "secret" {
                self.mounted(&path, source.now, "secretName");
                continue;
            }
            if is_about_secrets(kind) || !source.now.is_object() {
                self.other(&path, kind, source);
                continue;
            }
            for (key, part) in source.fields() {
                let path = inside(&path, key);
                match (kind, key) {
                    ("projected", "sources") => self.list(&path, part, Self::source),
                    ("csi", "nodePublishSecretRef") => self.whole(&path, part.now, "name", &[]),
                    ("csi", "volumeAttributes") | ("flexVolume", "options") => self.settings(&path, part),
                    ("azureFile", "secretName") => self.named(&path, part.now),
                    (_, "secretRef") if DRIVERS.contains(&kind) => self.whole(&path, part.now, "name", &[]),
                    _ => self.other(&path, key, part),
                }
            }
        }
    }

    fn source(&mut self, path: &str, projected: Part<'a>) {
        for (key, part) in projected.fields() {
            let path = inside(path, key);
            match key {
                "secret" => self.mounted(&path, part.now, "name"),
                _ => self.other(&path, key, part),
            }
        }
    }

    /// What a driver is told. It reads Secrets by its own rights, and which one is often among its settings.
    fn settings(&mut self, path: &str, settings: Part<'a>) {
        for (key, part) in settings.fields() {
            let path = inside(path, key);
            let letters = key.bytes().filter(u8::is_ascii_alphanumeric);
            let word: String = letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
            match word.as_str() {
                // An object of its own, which tells the Secrets Store driver what to fetch from outside the cluster.
                "secretproviderclass" => {}
                word if word.ends_with("secretname") => self.named(&path, part.now),
                _ => self.other(&path, key, part),
            }
        }
    }

    fn key(&mut self, path: &str, reference: &'a Value) {
        if !self.knows(path, reference, &["name", "key", "optional"]) {
            return;
        }
        match text(reference, "key") {
            Some(key) => self.refer(path, reference, "name", Takes::Keys(vec![key])),
            None => self.unread(path, "names no key that can be read".to_owned()),
        }
    }

    fn whole(&mut self, path: &str, reference: &'a Value, name: &str, more: &[&str]) {
        if self.knows(path, reference, &[&[name], more].concat()) {
            self.refer(path, reference, name, Takes::All);
        }
    }

    /// A Secret as files: those of `items`, else all.
    fn mounted(&mut self, path: &str, secret: &'a Value, name: &str) {
        if !self.knows(path, secret, &[name, "defaultMode", "items", "optional"]) {
            return;
        }
        let takes = match secret.get("items") {
            None | Some(Value::Null) => Takes::All,
            Some(Value::Array(items)) if items.is_empty() => Takes::All,
            Some(Value::Array(items)) => {
                let keys: Option<Vec<_>> = items.iter().map(|item| text(item, "key")).collect();
                let Some(keys) = keys else {
                    return self.unread(
                        &inside(path, "items"),
                        "has an item without a key that can be read".to_owned(),
                    );
                };
                Takes::Keys(keys)
            }
            other => {
                return self.unread(
                    &inside(path, "items"),
                    format!("must be a list of keys, and is {}", type_of(other)),
                );
            }
        };
        self.refer(path, secret, name, takes);
    }

    /// What the kubelet pulls with. One without a name is passed over by it, and some charts write just that.
    fn login(&mut self, path: &str, secret: &'a Value) {
        let is_nameless = matches!(secret.get("name"), None | Some(Value::Null) | Some(Value::String(_)))
            && text(secret, "name").is_none();
        if self.knows(path, secret, &["name"]) && !is_nameless {
            self.refer(path, secret, "name", Takes::Login);
        }
    }

    /// A field that is a Secret's name.
    fn named(&mut self, path: &str, name: &'a Value) {
        match name.as_str().filter(|name| !name.is_empty()) {
            Some(name) => (self.tell)(Found::Reference(NamedSecret {
                path: path.to_owned(),
                name,
                takes: Takes::All,
                optional: false,
            })),
            None => self.unread(path, "names no Secret that can be read".to_owned()),
        }
    }

    fn refer(&mut self, path: &str, reference: &'a Value, name: &str, takes: Takes<'a>) {
        let Some(name) = text(reference, name) else {
            return self.unread(path, "names no Secret that can be read".to_owned());
        };
        (self.tell)(Found::Reference(NamedSecret {
            path: path.to_owned(),
            name,
            takes,
            optional: reference.get("optional") == Some(&Value::Bool(true)),
        }));
    }

    /// Whether a reference says nothing beyond what is known: a field more may mean another Secret, or another namespace.
    fn knows(&mut self, path: &str, reference: &'a Value, known: &[&str]) -> bool {
        let Some(fields) = reference.as_object() else {
            self.unread(path, format!("must be an object, and is {}", type_of(Some(reference))));
            return false;
        };
        let unknown = fields
            .iter()
            .find(|(key, value)| !value.is_null() && !known.contains(&key.as_str()));
        if let Some((key, _)) = unknown {
            self.newer(&inside(path, key));
        }
        unknown.is_none()
    }

    /// What should name no Secret: it does where a field of it is called so.
    fn other(&mut self, path: &str, key: &str, part: Part<'a>) {
        if is_about_secrets(key) {
            return self.newer(path);
        }
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        let is_own = OWN_WORDS.contains(&key)
            && part
                .now
                .as_object()
                .is_some_and(|fields| fields.values().all(is_scalar));
        if is_own {
            return;
        }
        for (key, part) in part.fields() {
            self.other(&inside(path, key), key, part);
        }
        for (index, item) in part.items() {
            self.other(&format!("{path}[{index}]"), "", item);
        }
    }

    fn newer(&mut self, path: &str) {
        self.unread(
            path,
            "may refer to a Secret, in a way that this version of Ringfence does not know".to_owned(),
        );
    }

    fn unread(&mut self, path: &str, message: String) {
        let path = path.to_owned();
        (self.tell)(Found::Unread { path, message });
    }
}

fn inside(path: &str, key: &str) -> String {
    format!("{path}.{}", shown(key))
}

fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn is_about_secrets(key: &str) -> bool {
    key.as_bytes()
        .windows(6)
        .any(|part| part.eq_ignore_ascii_case(b"secret"))
}

#[cfg(test)]
mod tests;
