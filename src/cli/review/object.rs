//! From a document to the requests that it stands for: the CREATE of each object, or an AdmissionReview as it is.
//!
//! Must never: guess what an object is. What lacks its type or its name is a problem.

use serde_json::{Map, Value, json};

use super::{
    facts::SUPPOSED,
    kinds::{Kinds, Resource},
    places::Step,
};
use crate::{cli::documents::Objects, fence::Named, plan::text_at as text, review::Review};

/// Who asks: `--as`, or nobody.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub(super) user: Option<String>,
    pub(super) groups: Vec<String>,
}

/// A part of a document that is reviewed by itself.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it stands in the document.
    pub(super) prefix: Vec<Step>,
    pub(super) value: Value,
}

/// A request, and where its object stands in the document.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) prefix: Vec<Step>,
    pub(super) review: Review,
    /// Whether a file says who asks.
    pub(super) knows_user: bool,
}

/// The objects of a document: what a List lists, each; nothing of an empty one.
pub(super) fn parts(value: Value) -> Result<Vec<Part>, &'static str> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let part = |(number, value): (usize, Value)| Part {
        prefix: vec![Step::Field("items".to_owned()), Step::Item(number)],
        value,
    };
    Ok(match Objects::of(value)? {
        Objects::Own(value) => vec![Part {
            prefix: Vec::new(),
            value,
        }],
        Objects::Listed(items) => items.into_iter().enumerate().map(part).collect(),
    })
}

/// Whether it is no object for an API server, but instructions for a tool.
pub(super) fn is_instruction(value: &Value) -> bool {
    let of_kustomize = text(value, "/apiVersion").starts_with("kustomize.config.k8s.io/");
    let of_helm = text(value, "/apiVersion") == "v2" && value.get("kind").is_none() && value.get("name").is_some();
    // kubectl would apply what is in them.
    (of_kustomize || of_helm) && value.get("items").is_none()
}

/// The request that a part stands for.
pub(super) fn asked(part: Part, kinds: &Kinds, who: &Who, namespace: &str) -> Result<Asked, String> {
    let Part { mut prefix, value } = part;
    if text(&value, "/kind") == "AdmissionReview" {
        prefix.extend(["request", "object"].map(|field| Step::Field(field.to_owned())));
        let review = Review::from_value(value).map_err(|problem| format!("AdmissionReview: {problem}"))?;
        return Ok(Asked {
            prefix,
            review,
            knows_user: true,
        });
    }
    let request = request(value, kinds, who, namespace)?;
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Ok(Asked {
        prefix,
        review: Review::from_value(review).map_err(|problem| problem.to_string())?,
        knows_user: who.user.is_some(),
    })
}

fn request(object: Value, kinds: &Kinds, who: &Who, default_namespace: &str) -> Result<Value, String> {
    let Value::Object(mut object) = object else {
        return Err(format!("this is no Kubernetes object, but {}", type_of(&object)));
    };
    let field = |object: &Map<String, Value>, name: &str| {
        object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (api_version, kind) = (field(&object, "apiVersion"), field(&object, "kind"));
    if api_version.is_empty() || kind.is_empty() {
        return Err("this is no Kubernetes object: it needs apiVersion and kind".to_owned());
    }
    let metadata = match object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(_) => return Err(format!("{kind}: metadata is no map")),
        None => return Err(format!("{kind}: metadata.name is missing")),
    };
    for name in ["name", "generateName", "namespace"] {
        if metadata
            .get(name)
            .is_some_and(|name| !name.is_string() && !name.is_null())
        {
            return Err(format!("{kind}: metadata.{name} is no text: put it in quotes"));
        }
    }
    let name = field(metadata, "name");
    if name.is_empty() && field(metadata, "generateName").is_empty() {
        return Err(format!("{kind}: metadata.name is missing"));
    }
    let own = field(metadata, "namespace");
    let whole = Value::Object(std::mem::take(&mut object));
    let Resource {
        group,
        version,
        plural,
        is_namespaced,
    } = kinds.of(&api_version, &kind, &whole);
    let is_namespace = group.is_empty() && kind == "Namespace";
    let namespace = match (is_namespaced, own.as_str()) {
        (true, "") => Some(default_namespace.to_owned()),
        (true, _) => Some(own),
        // As the API server has it.
        (false, _) => is_namespace.then(|| name.clone()),
    };
    let mut whole = whole;
    if let (true, Some(namespace), Some(metadata)) = (
        is_namespaced,
        &namespace,
        whole.get_mut("metadata").and_then(Value::as_object_mut),
    ) {
        metadata.insert("namespace".to_owned(), namespace.as_str().into());
    }
    if group.is_empty() && kind == "Pod" {
        name_account(&mut whole);
    }
    let kind = json!({"group": group, "version": version, "kind": kind});
    let resource = json!({"group": group, "version": version, "resource": plural});
    Ok(json!({
        "uid": "review",
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": name,
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": who.info(),
        "object": whole,
        "oldObject": null,
        "dryRun": false,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    }))
}

/// The account of a pod that names none, as the API server writes it into the pod before it asks anybody.
fn name_account(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let is_empty = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || value == "");
    if !is_empty(spec.get("serviceAccountName")) {
        return;
    }
    // The older name of the field.
    let account = spec
        .get("serviceAccount")
        .filter(|account| !is_empty(Some(account)))
        .cloned();
    spec.insert(
        "serviceAccountName".to_owned(),
        account.unwrap_or_else(|| "default".into()),
    );
}

impl Who {
    /// The account that a user name stands for.
    pub(super) fn account(user: &str) -> Option<Named> {
        let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        Some(Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// As the API server would have it. An account asks with a token of its own.
    fn info(&self) -> Value {
        let Some(user) = &self.user else {
            return json!({});
        };
        let mut groups = self.groups.clone();
        let mut info = Map::from_iter([("username".to_owned(), user.as_str().into())]);
        if let Some(Named { namespace, .. }) = Self::account(user) {
            groups.push("system:serviceaccounts".to_owned());
            groups.push(format!("system:serviceaccounts:{namespace}"));
            info.insert("uid".to_owned(), SUPPOSED.into());
            let extra = json!({"authentication.kubernetes.io/credential-id": [format!("JTI={SUPPOSED}")]});
            info.insert("extra".to_owned(), extra);
        }
        groups.push("system:authenticated".to_owned());
        info.insert("groups".to_owned(), groups.into());
        info.into()
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => "one value",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
