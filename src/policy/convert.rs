//! JSON of a request to the engine's values, once per review.
//!
//! Must never go through the engine's own `Deserialize`: it takes an object whose first key is serde_json's private name for
//! big numbers as a number, and an author of a pod chooses the keys of labels.

use std::collections::BTreeMap;

use regorus::Value;

/// Deepest input. What comes as JSON text is at most 128 deep already.
const MAX_DEPTH: usize = 200;

/// A document as the engine has it; `None` where it is nested too deeply.
pub fn engine_value(document: &serde_json::Value) -> Option<Value> {
    Converter::new(None).convert(document)
}

/// Converts a document, and hands out the converted copy of one of its parts, so that a part is not converted twice.
pub(super) struct Converter<'a> {
    part: Option<&'a serde_json::Value>,
    found: Option<Value>,
}

impl<'a> Converter<'a> {
    /// `part` may be a part of the document, or another document.
    pub(super) fn new(part: Option<&'a serde_json::Value>) -> Self {
        Self { part, found: None }
    }

    /// `None` when the document is nested too deeply.
    pub(super) fn convert(&mut self, document: &serde_json::Value) -> Option<Value> {
        self.at(document, MAX_DEPTH)
    }

    /// The converted part, from the document or on its own.
    pub(super) fn part(mut self) -> Option<Value> {
        match (self.found.take(), self.part) {
            (Some(found), _) => Some(found),
            (None, Some(part)) => self.convert(part),
            (None, None) => None,
        }
    }

    fn at(&mut self, json: &serde_json::Value, depth: usize) -> Option<Value> {
        let deeper = depth.checked_sub(1)?;
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(bool) => Value::Bool(*bool),
            serde_json::Value::Number(number) => number_of(number),
            serde_json::Value::String(text) => Value::from(text.as_str()),
            serde_json::Value::Array(items) => Value::from(
                items
                    .iter()
                    .map(|item| self.at(item, deeper))
                    .collect::<Option<Vec<_>>>()?,
            ),
            serde_json::Value::Object(fields) => Value::from(
                fields
                    .iter()
                    .map(|(key, field)| Some((Value::from(key.as_str()), self.at(field, deeper)?)))
                    .collect::<Option<BTreeMap<_, _>>>()?,
            ),
        };
        if self.part.is_some_and(|part| std::ptr::eq(part, json)) {
            self.found = Some(value.clone());
        }
        Some(value)
    }
}

fn number_of(number: &serde_json::Number) -> Value {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(number), _, _) => Value::from(number),
        (None, Some(number), _) => Value::from(number),
        (None, None, Some(number)) => Value::from(number),
        (None, None, None) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_json_arrives_as_it_was() {
        let document = json!({"a": [null, true, -1, 18446744073709551615u64, 1.5, "x\u{0}ü", {}, []], "": {"b": "c"}});
        let value = Converter::new(None).convert(&document).expect("converts");
        let back: serde_json::Value = serde_json::from_str(&value.to_json_str().expect("text")).expect("json");
        assert_eq!(back, document);
    }

    #[test]
    fn a_label_cannot_turn_an_object_into_a_number() {
        let document = json!({"$serde_json::private::Number": "1"});
        let value = Converter::new(None).convert(&document).expect("converts");
        assert!(matches!(value, Value::Object(_)), "{value:?}");
    }

    #[test]
    fn a_part_is_shared_and_another_document_is_converted() {
        let document = json!({"object": {"spec": {"x": 1}}});
        let mut converter = Converter::new(document.get("object"));
        let whole = converter.convert(&document).expect("converts");
        assert_eq!(Some(&whole["object"]), converter.part().as_ref());

        let other = json!({"y": 2});
        let mut converter = Converter::new(Some(&other));
        converter.convert(&document).expect("converts");
        assert_eq!(converter.part().expect("converts")["y"], Value::from(2u64));
    }

    #[test]
    fn too_deep_is_an_error_and_not_a_stack_overflow() {
        let deep = (0..100_000).fold(json!(1), |inner, _| serde_json::Value::Array(vec![inner]));
        assert_eq!(Converter::new(None).convert(&deep), None);
        // Dropping it would overflow the stack in serde_json.
        std::mem::forget(deep);
    }
}
