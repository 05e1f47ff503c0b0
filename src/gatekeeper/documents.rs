//! Documents by what they are to Gatekeeper.
//!
//! Must never: let one of two that say the same name win.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::expansion::{self, Expansions};
use super::inventory::Gvk;
use super::matching::glob;
use super::rules::Defined;
use super::template::Template;
use super::{Converted, Document};
use crate::plan::text_at as text;

const TEMPLATES: &str = "templates.gatekeeper.sh";
const CONSTRAINTS: &str = "constraints.gatekeeper.sh";
const CONFIG: &str = "config.gatekeeper.sh";
const SYNC_SET: &str = "syncset.gatekeeper.sh";
const EXPANSION: &str = "expansion.gatekeeper.sh";

/// Everything that constraints are read with.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    /// By kind in lower case; `None` where the template is no good.
    pub(super) templates: BTreeMap<String, (Document<'a>, Option<Template>)>,
    /// With the version of each.
    pub(super) constraints: Vec<(Document<'a>, &'a str)>,
    /// Kinds that Gatekeeper is told to sync.
    pub(super) synced: BTreeSet<Gvk>,
    /// Namespaces that its Config exempts from the webhook.
    pub(super) exempt: Vec<String>,
    pub(super) expansions: Expansions,
    pub(super) defined: Defined,
    /// Names of the fields of kinds that the cluster defines.
    pub(super) fields: BTreeMap<(String, String), Vec<String>>,
}

/// Whether an object is one of Gatekeeper's.
pub fn is_gatekeeper(object: &Value) -> bool {
    let (group, _) = group_version(object);
    group == "gatekeeper.sh" || group.ends_with(".gatekeeper.sh")
}

/// Group and version of an object.
pub(super) fn group_version(object: &Value) -> (&str, &str) {
    let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    version.split_once('/').unwrap_or(("", version))
}

fn place(document: &Document<'_>) -> String {
    match text(document.object, "/metadata/namespace") {
        "" => "without a namespace".to_owned(),
        namespace => format!("in namespace {namespace}"),
    }
}

impl<'a> Sorted<'a> {
    pub(super) fn of(documents: &[Document<'a>], converted: &mut Converted) -> Self {
        let mut sorted = Self::default();
        let mut configs = Vec::new();
        for document in documents {
            let object = document.object;
            let (group, version) = group_version(object);
            let kind = text(object, "/kind");
            let problems = match (group, kind) {
                (TEMPLATES, "ConstraintTemplate") => {
                    sorted.template(*document, version, converted);
                    Vec::new()
                }
                (CONSTRAINTS, _) => {
                    sorted.constraints.push((*document, version));
                    Vec::new()
                }
                // Gatekeeper heeds no other.
                (CONFIG, "Config") if text(object, "/metadata/name") == "config" => {
                    configs.push(*document);
                    Vec::new()
                }
                (SYNC_SET, "SyncSet") => sorted.sync(object.pointer("/spec/gvks"), "spec.gvks"),
                (EXPANSION, "ExpansionTemplate") => expansion::read(object, &mut sorted.expansions)
                    .err()
                    .unwrap_or_default(),
                ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                    sorted.definition(object);
                    Vec::new()
                }
                ("mutations.gatekeeper.sh", _) => vec![format!("{kind}: what changes objects is not converted")],
                ("test.gatekeeper.sh" | "status.gatekeeper.sh", _) => Vec::new(),
                _ if is_gatekeeper(object) => {
                    converted
                        .notes
                        .push(document.problem(format!("{kind}: there is nothing to convert of it")));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            let named =
                |problem: String| document.problem(format!("{kind} {}: {problem}", text(object, "/metadata/name")));
            converted.problems.extend(problems.into_iter().map(named));
        }
        sorted.own_config(&configs, converted);
        sorted
    }

    /// Gatekeeper heeds the one of its own namespace, which no document tells; anybody's may be called the same.
    fn own_config(&mut self, configs: &[Document<'_>], converted: &mut Converted) {
        match configs {
            [] => {}
            [one] => {
                let place = place(one);
                converted.notes.push(one.problem(format!(
                    "Config config {place} is heeded: see that Gatekeeper runs there, for it heeds that of its own namespace alone"
                )));
                let problems = self.config(one.object);
                let named = |problem| one.problem(format!("Config config: {problem}"));
                converted.problems.extend(problems.into_iter().map(named));
            }
            [first, others @ ..] => {
                for other in others {
                    converted.problems.push(other.problem(format!(
                        "Config config {}: there is one of that name already, {}, at {}:{}, and none of them is heeded: leave out all \
                         but that of Gatekeeper's own namespace",
                        place(other),
                        place(first),
                        first.file,
                        first.line
                    )));
                }
            }
        }
    }

    fn template(&mut self, document: Document<'a>, version: &str, converted: &mut Converted) {
        let name = text(document.object, "/metadata/name");
        let read = Template::read(document.object, version);
        let named = |problem: &str| document.problem(format!("ConstraintTemplate {name}: {problem}"));
        if let Some((other, _)) = self.templates.get(name) {
            let message = format!("there is one of that name already, at {}:{}", other.file, other.line);
            converted.problems.push(named(&message));
            return;
        }
        let template = match read {
            Ok(template) => Some(template),
            Err(problems) => {
                converted.problems.extend(problems.iter().map(|problem| named(problem)));
                None
            }
        };
        self.templates.insert(name.to_owned(), (document, template));
    }

    fn config(&mut self, object: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        let entries = object.pointer("/spec/match").and_then(Value::as_array);
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            let list = |name: &str| entry.get(name).and_then(Value::as_array).into_iter().flatten();
            let of_requests = list("processes").any(|process| matches!(process.as_str(), Some("*" | "webhook")));
            let before = problems.len();
            let globs: Vec<_> = list("excludedNamespaces")
                .filter_map(|name| glob(name, "excludedNamespaces", &mut problems))
                .collect();
            if problems.len() > before {
                problems.truncate(before);
                problems.push(format!(
                    "spec.match[{index}].excludedNamespaces: must be names, with `*` at an end"
                ));
            }
            if of_requests {
                self.exempt.extend(globs);
            }
        }
        problems.extend(self.sync(object.pointer("/spec/sync/syncOnly"), "spec.sync.syncOnly"));
        problems
    }

    fn sync(&mut self, list: Option<&Value>, at: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for (index, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            match Gvk::read(entry) {
                Some(gvk) => {
                    self.synced.insert(gvk);
                }
                None => problems.push(format!("{at}[{index}]: needs version and kind")),
            }
        }
        problems
    }

    fn definition(&mut self, object: &Value) {
        let (group, kind, plural) = (
            text(object, "/spec/group"),
            text(object, "/spec/names/kind"),
            text(object, "/spec/names/plural"),
        );
        if group.is_empty() || kind.is_empty() || plural.is_empty() {
            return;
        }
        let of = (group.to_owned(), kind.to_owned());
        let versions = object.pointer("/spec/versions").and_then(Value::as_array);
        let properties = versions
            .into_iter()
            .flatten()
            .filter_map(|version| version.pointer("/schema/openAPIV3Schema/properties")?.as_object());
        let names: BTreeSet<_> = properties.flat_map(|properties| properties.keys().cloned()).collect();
        let own = |name: &String| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        self.fields.insert(of.clone(), names.into_iter().filter(own).collect());
        self.defined.insert(of, plural.to_owned());
    }
}
