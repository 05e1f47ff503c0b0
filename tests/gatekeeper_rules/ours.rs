//! What Ringfence says, through the whole way that a request goes but for the server.

use std::sync::Arc;
use std::time::Duration;

use ringfence::fence::template_of;
use ringfence::gatekeeper::{Converted, Document, convert};
use ringfence::policy::{Occasion, PolicyInput, Question, Registered, Snapshot, Target, engine_value};
use ringfence::review::Review;
use serde_json::{Map, Value, json};

use super::{Violations, without_source};

const TIME: Duration = Duration::from_secs(20);

/// Policies in force, with the objects that they may look at.
pub struct Ours {
    snapshot: Snapshot,
    objects: Vec<Value>,
}

/// Converts documents, each on a line of its own.
pub fn converted(documents: &[Value]) -> Converted {
    let documents: Vec<_> = (1..)
        .zip(documents)
        .map(|(line, object)| Document {
            file: "documents.yaml",
            line,
            object,
        })
        .collect();
    convert(&documents)
}

impl Ours {
    /// Policies that were made of documents.
    pub fn of(documents: &[Value], objects: &[Value]) -> Self {
        let converted = converted(documents);
        assert_eq!(converted.problems, [], "{documents:?}");
        let policies = converted.policies.iter().map(|made| {
            let policy = Registered::compile(&made.policy);
            Arc::new(policy.unwrap_or_else(|errors| panic!("{errors:?} in {:#?}", made.policy.spec.rego)))
        });
        Self {
            snapshot: Snapshot::new(policies.collect()),
            objects: objects.to_vec(),
        }
    }

    /// What they say of a `{request, namespace}`.
    pub fn say(&self, asked: &Value) -> Violations {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked["request"]});
        let review = Review::parse(&serde_json::to_vec(&review).expect("JSON")).expect("a review");
        let template = review
            .current()
            .and_then(|object| template_of(&review.kind.group, &review.kind.kind, object));
        let occasion = Occasion {
            review: &review,
            template,
            changes_template: template.is_some(),
        };
        let namespace = asked.get("namespace").filter(|namespace| namespace.is_object());
        let mut matches = self.snapshot.matching(None, &occasion);
        let labels = review
            .namespace
            .as_ref()
            .filter(|_| namespace.is_some() || review.kind.kind == "Namespace")
            .map(|_| match review.kind.kind.as_str() {
                "Namespace" => review.current().and_then(|object| object.pointer("/metadata/labels")),
                _ => namespace.and_then(|namespace| namespace.pointer("/metadata/labels")),
            });
        matches.retain(|one| one.is_in_namespace(labels));
        let input = PolicyInput {
            target: Target::Pod,
            request: &review.request,
            pod: occasion.template,
            workflow: None,
            class: None,
            engine: None,
            namespace,
        };
        let question = Question::new(matches, &input, &occasion, |kinds| {
            let kept = inventory(&self.objects, kinds);
            engine_value(&kept).ok_or_else(|| "nested too deeply".to_owned())
        });
        let mut said = Violations::new();
        for (number, one) in question.matches().iter().enumerate() {
            let policy = self
                .snapshot
                .policies()
                .iter()
                .find(|policy| policy.name() == one.name());
            let spec = policy.expect("the policy").spec();
            let label = spec
                .description
                .as_deref()
                .unwrap_or_default()
                .split(": ")
                .next()
                .unwrap_or_default();
            let action = match one.action().as_str() {
                "Audit" => "dryrun".to_owned(),
                other => other.to_lowercase(),
            };
            let found = question.judge(number, TIME).expect("a verdict").outcome;
            let found = found.unwrap_or_else(|error| panic!("{label}: {error} of {asked}"));
            said.extend(
                found
                    .deny
                    .into_iter()
                    .map(|finding| (label.to_owned(), without_source(&finding.message), action.clone())),
            );
        }
        said
    }
}

/// In Gatekeeper's shape, with the fields that a policy names.
fn inventory(objects: &[Value], kinds: &[ringfence::api::InventoryKind]) -> Value {
    let mut whole = json!({"cluster": {}, "namespace": {}});
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (version, kind, name, namespace) = (
            text("/apiVersion"),
            text("/kind"),
            text("/metadata/name"),
            text("/metadata/namespace"),
        );
        let is_named = |known: &&ringfence::api::InventoryKind| {
            let of = if known.group.is_empty() {
                known.version.clone()
            } else {
                format!("{}/{}", known.group, known.version)
            };
            of == version && known.kind == kind
        };
        let Some(known) = kinds.iter().find(is_named) else {
            continue;
        };
        let mut kept = json!({"apiVersion": version, "kind": kind});
        let always = ["metadata.name", "metadata.namespace", "metadata.labels"].map(str::to_owned);
        for path in known.fields.iter().chain(&always) {
            keep(object, &mut kept, &path.split('.').collect::<Vec<_>>());
        }
        let steps: Vec<&str> = if namespace.is_empty() {
            vec!["cluster", version, kind]
        } else {
            vec!["namespace", namespace, version, kind]
        };
        let mut at = &mut whole;
        for step in steps {
            at = at
                .as_object_mut()
                .expect("an object")
                .entry(step)
                .or_insert_with(|| Value::Object(Map::new()));
        }
        at[name] = kept;
    }
    whole
}

fn keep(from: &Value, to: &mut Value, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let Some(value) = from.get(first) else { return };
    if rest.is_empty() {
        to[first] = value.clone();
    } else {
        if !to[first].is_object() {
            to[first] = json!({});
        }
        keep(value, &mut to[first], rest);
    }
}
