//! Facts that one look asks for once, however many objects need them; and the namespace as it is supposed to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;

use crate::review::weight;
use crate::webhook::lookup::{Key, Lookup, LookupError};

/// What all answers that are kept may weigh; others are asked for again.
const MAX_KEPT: usize = 16 << 20;

/// Remembers for as long as one look at a namespace lasts: that is how old a fact may be.
pub(super) struct Remembering {
    lookup: Arc<dyn Lookup>,
    kept: Mutex<Kept>,
}

struct Kept {
    answers: BTreeMap<Key, Option<Value>>,
    /// What more may be kept.
    left: usize,
}

impl Remembering {
    /// Asks `lookup`, but for the namespace, which is as given.
    pub(super) fn new(lookup: Arc<dyn Lookup>, name: &str, namespace: Value) -> Self {
        let kept = Kept {
            answers: BTreeMap::from([(Key::Namespace(name.to_owned()), Some(namespace))]),
            left: MAX_KEPT,
        };
        Self {
            lookup,
            kept: Mutex::new(kept),
        }
    }
}

impl Lookup for Remembering {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        async move {
            // A panic while the map was held cannot leave half an entry in it.
            let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = kept().answers.get(key) {
                return Ok(answer.clone());
            }
            let answer = self.lookup.get(key).await?;
            let mut kept = kept();
            // A key and its place take some bytes too.
            let weight = answer.as_ref().map_or(0, weight) + 1024;
            if let Some(left) = kept.left.checked_sub(weight) {
                kept.left = left;
                kept.answers.insert(key.clone(), answer.clone());
            }
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::lookup::Fixed;

    #[tokio::test]
    async fn no_more_is_kept_than_may_be() {
        let key = |number: usize| Key::Class(format!("c{number}"));
        let fixed = (0..8).fold(Fixed::default(), |fixed, number| {
            fixed.with(key(number), json!("x".repeat(3 << 20)))
        });
        let remembering = Remembering::new(Arc::new(fixed), "ai", json!({}));
        for number in (0..8).chain(0..8) {
            assert!(remembering.get(&key(number)).await.unwrap().is_some());
        }
        assert_eq!(remembering.kept.lock().unwrap().answers.len(), 1 + 5);
    }
}
