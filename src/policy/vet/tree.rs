//! The engine's rendering of a syntax tree, read: heads of rules, references, variables.

use std::collections::BTreeSet;

use serde_json::Value;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::policy) enum Kind {
    Complete,
    Set,
    Object,
    Function,
    Default,
}

pub(in crate::policy) type Place = (u32, u32);

pub(in crate::policy) struct Rule {
    pub(in crate::policy) file: String,
    pub(in crate::policy) place: Place,
    pub(in crate::policy) kinds: BTreeSet<Kind>,
    pub(in crate::policy) uses: BTreeSet<String>,
}

impl Rule {
    pub(in crate::policy) fn new(file: &str, place: Place) -> Self {
        Self {
            file: file.to_owned(),
            place,
            kinds: BTreeSet::new(),
            uses: BTreeSet::new(),
        }
    }
}

pub(in crate::policy) struct Head {
    pub(in crate::policy) name: String,
    pub(in crate::policy) kind: Kind,
    pub(in crate::policy) place: Place,
}

impl Head {
    pub(in crate::policy) fn read(rule: &Value) -> Option<Self> {
        let (kind, refr) = if let Some(default) = rule.get("Default") {
            (Kind::Default, default.get("refr")?)
        } else {
            let head = rule.get("Spec")?.get("head")?;
            let (kind, head) = [(Kind::Complete, "Compr"), (Kind::Set, "Set"), (Kind::Function, "Func")]
                .into_iter()
                .find_map(|(kind, name)| Some((kind, head.get(name)?)))?;
            (kind, head.get("refr")?)
        };
        let path = Path::read(refr)?;
        let plain = path.names.is_empty() && path.indices.is_empty();
        let kind = if plain || kind == Kind::Function {
            kind
        } else {
            Kind::Object
        };
        Some(Self {
            name: path.root.to_owned(),
            kind,
            place: path.place,
        })
    }

    /// Everything of a rule but its own name, which would look like recursion.
    pub(in crate::policy) fn parts<'a>(&self, rule: &'a Value) -> Vec<&'a Value> {
        let mut parts = Vec::new();
        let mut head = |head: &'a Value| {
            parts.extend(
                ["args", "assign", "key", "value"]
                    .iter()
                    .filter_map(|part| head.get(*part)),
            );
            parts.extend(
                head.get("refr")
                    .and_then(Path::read)
                    .map(|path| path.indices)
                    .unwrap_or_default(),
            );
        };
        if let Some(default) = rule.get("Default") {
            head(default);
        }
        if let Some(spec) = rule.get("Spec") {
            spec.get("head")
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|kinds| kinds.values())
                .for_each(head);
            parts.extend(spec.get("bodies"));
        }
        parts
    }
}

/// A reference: `root.a["b"][i]` has the names `a` and `b` and the index `i`.
pub(in crate::policy) struct Path<'a> {
    pub(in crate::policy) root: &'a str,
    pub(in crate::policy) place: Place,
    /// Names up to the first index that is not a constant.
    pub(in crate::policy) names: Vec<&'a str>,
    pub(in crate::policy) constant: bool,
    pub(in crate::policy) indices: Vec<&'a Value>,
}

impl<'a> Path<'a> {
    pub(in crate::policy) fn read(node: &'a Value) -> Option<Self> {
        if let Some(var) = node.get("Var") {
            let root = var.get("value")?.as_str()?;
            return Some(Self {
                root,
                place: place(var),
                names: Vec::new(),
                constant: true,
                indices: Vec::new(),
            });
        }
        if let Some(dot) = node.get("RefDot") {
            let mut path = Self::read(dot.get("refr")?)?;
            if path.constant {
                path.names.push(dot.get("field")?.get(1)?.as_str()?);
            }
            return Some(path);
        }
        let brack = node.get("RefBrack")?;
        let mut path = Self::read(brack.get("refr")?)?;
        let index = brack.get("index")?;
        let text = ["String", "RawString"]
            .iter()
            .find_map(|kind| index.get(*kind)?.get("value")?.as_str());
        match text {
            Some(name) if path.constant => path.names.push(name),
            Some(_) => {}
            None => {
                path.constant = false;
                path.indices.push(index);
            }
        }
        Some(path)
    }

    pub(in crate::policy) fn dotted(&self) -> String {
        let mut text = self.root.to_owned();
        for name in &self.names {
            text.push('.');
            text.push_str(name);
        }
        text
    }
}

pub(in crate::policy) fn comprehension(fields: &serde_json::Map<String, Value>) -> Option<&Value> {
    ["ArrayCompr", "SetCompr", "ObjectCompr"]
        .iter()
        .find_map(|kind| fields.get(*kind))
}

/// Names of the variables of a part, but for those of functions, and of comprehensions, which keep theirs to themselves.
pub(in crate::policy) fn variables<'a>(node: &'a Value, found: &mut BTreeSet<&'a str>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| variables(item, found)),
        Value::Object(fields) => {
            if comprehension(fields).is_some() {
            } else if let Some(name) = node.get("Var").and_then(|var| var.get("value")).and_then(Value::as_str) {
                found.insert(name);
            } else if let Some(params) = node.get("Call").and_then(|call| call.get("params")) {
                variables(params, found);
            } else {
                fields.values().for_each(|field| variables(field, found));
            }
        }
        _ => {}
    }
}

pub(in crate::policy) fn items<'a>(node: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    node.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub(in crate::policy) fn place(node: &Value) -> Place {
    node.get("span").map_or((0, 0), span_place)
}

pub(in crate::policy) fn span_place(span: &Value) -> Place {
    let number = |key| {
        span.get(key)
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0)
    };
    (number("line"), number("col"))
}
