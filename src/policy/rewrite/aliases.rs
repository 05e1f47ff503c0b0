//! Names that imports give to packages, written out: `lib.x` as `data.lib.x`.
//!
//! To OPA the one is the other. The engine evaluates all of the package for the first, so that an error in a rule that nobody asks for
//! would be the asker's, and every line of it would count as reached.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::hoist::span;
use crate::policy::vet::{Path, items, rule_path};

/// An alias as the root of a reference, and what it stands for.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) path: String,
}

/// Those of a module. A name that stands anywhere by itself may be a variable, and is left as it is.
pub(super) fn find(text: &str, module: &Value) -> Vec<Alias> {
    let mut imports = BTreeMap::new();
    for import in items(module, "imports") {
        let Some(path) = import
            .get("refr")
            .and_then(Path::read)
            .filter(|path| path.root == "data" && path.constant)
        else {
            continue;
        };
        let Some((last, package)) = path.names.split_last() else {
            continue;
        };
        let alias = import
            .get("as")
            .and_then(span)
            .and_then(|(start, end)| text.get(start..end));
        let package: Vec<_> = package.iter().map(|name| (*name).to_owned()).collect();
        imports.insert(alias.unwrap_or(last), rule_path(&package, last));
    }
    let mut found = Found {
        text,
        imports: &imports,
        roots: Vec::new(),
        alone: BTreeSet::new(),
    };
    items(module, "rules").for_each(|rule| found.visit(rule));
    let Found { roots, alone, .. } = found;
    let known = roots.into_iter().filter(|(name, ..)| !alone.contains(name));
    known
        .filter_map(|(name, start, end)| {
            let path = imports.get(name)?.clone();
            (text.get(start..end) == Some(name)).then_some(Alias { start, end, path })
        })
        .collect()
}

struct Found<'a, 'b> {
    text: &'a str,
    imports: &'b BTreeMap<&'a str, String>,
    roots: Vec<(&'a str, usize, usize)>,
    alone: BTreeSet<&'a str>,
}

impl<'a> Found<'a, '_> {
    fn visit(&mut self, node: &'a Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            Value::Object(fields) => {
                if let Some(name) = node.pointer("/Var/value").and_then(Value::as_str) {
                    self.alone.insert(name);
                    return;
                }
                let reference = node.get("RefDot").or(node.get("RefBrack"));
                let root = reference.and_then(|reference| reference.pointer("/refr/Var"));
                if let Some(root) = root {
                    let name = root.get("value").and_then(Value::as_str).unwrap_or_default();
                    let place = root.get("span").and_then(span);
                    if let Some((start, end)) = place.filter(|_| self.imports.contains_key(name)) {
                        self.roots.push((name, start, end));
                    }
                    reference
                        .and_then(|reference| reference.get("index"))
                        .into_iter()
                        .for_each(|index| self.visit(index));
                    return;
                }
                // What these declare stands there as a span.
                for (kind, names) in [("Every", &["key", "value"][..]), ("SomeVars", &["vars"])] {
                    let declared = node
                        .get(kind)
                        .into_iter()
                        .flat_map(|part| names.iter().filter_map(|name| part.get(*name)));
                    let spans =
                        declared.flat_map(|named| named.as_array().map_or(std::slice::from_ref(named), Vec::as_slice));
                    self.alone.extend(
                        spans
                            .filter_map(span)
                            .filter_map(|(start, end)| self.text.get(start..end)),
                    );
                }
                fields.values().for_each(|field| self.visit(field));
            }
            _ => {}
        }
    }
}
