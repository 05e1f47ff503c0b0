//! What policies see of a request, converted once for all that are asked.

use std::collections::BTreeMap;

use regorus::Value;
use serde_json::Value as Json;

use super::convert::Converter;
use super::metadata::Target;

/// What the policies see, as `input` and its fields of the same names.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// Which policies are asked.
    pub target: Target,
    /// The AdmissionRequest as sent.
    pub request: &'a Json,
    /// Path and value of the pod template: `""` and the object for a Pod, `spec.template` and so on for others.
    pub pod: Option<(&'a str, &'a Json)>,
    /// The AIWorkflow that the pod's label names.
    pub workflow: Option<&'a Json>,
    /// The class of the namespace.
    pub class: Option<&'a Json>,
    /// Name and image patterns of the engine's profile, as the class opens it.
    pub engine: Option<&'a Json>,
    /// The Namespace.
    pub namespace: Option<&'a Json>,
}

/// The part of the input that is the same for every policy. Values are counted references, so a copy is a few pointers.
pub(super) struct Shared(BTreeMap<Value, Value>);

impl Shared {
    pub(super) fn new(input: &PolicyInput<'_>) -> Option<Self> {
        let mut converter = Converter::new(input.pod.map(|(_, pod)| pod));
        let request = converter.convert(input.request)?;
        let mut fields = BTreeMap::new();
        let mut set = |name: &str, value: Value| fields.insert(Value::from(name), value);
        set("review", request.clone());
        set("request", request);
        if let Some((path, _)) = input.pod {
            set("pod", converter.part()?);
            set("podPath", Value::from(path));
        }
        for (name, document) in [
            ("workflow", input.workflow),
            ("class", input.class),
            ("engine", input.engine),
            ("namespace", input.namespace),
        ] {
            if let Some(document) = document {
                set(name, Converter::new(None).convert(document)?);
            }
        }
        Some(Self(fields))
    }

    /// The same with one field more.
    pub(super) fn and(mut self, name: &str, value: &Json) -> Option<Self> {
        self.0.insert(Value::from(name), Converter::new(None).convert(value)?);
        Some(self)
    }

    pub(super) fn with(&self, parameters: &Value) -> Value {
        let mut fields = self.0.clone();
        fields.insert(Value::from("parameters"), parameters.clone());
        Value::from(fields)
    }

    /// What a policy sees that was written for plain OPA or conftest: the request, and the fields of the object beside it.
    pub(super) fn of_document(&self, parameters: &Value) -> Value {
        let field = |name: &str| self.0.get(&Value::from(name)).cloned();
        let request = field("request").unwrap_or(Value::Undefined);
        let object = request[&Value::from("object")].as_object();
        let mut fields: BTreeMap<Value, Value> = object
            .map(|object| object.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default();
        fields.insert(Value::from("review"), request.clone());
        fields.insert(Value::from("request"), request);
        fields.insert(Value::from("parameters"), parameters.clone());
        Value::from(fields)
    }
}
