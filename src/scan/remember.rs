//! Facts that one look asks for once, however many objects need them; and the namespace as it is supposed to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;

use crate::webhook::lookup::{Key, Lookup, LookupError};

/// Most answers that are kept; others are asked for again.
const MAX_KEPT: usize = 1024;

/// Remembers for as long as one look at a namespace lasts: that is how old a fact may be.
pub(super) struct Remembering {
    lookup: Arc<dyn Lookup>,
    kept: Mutex<BTreeMap<Key, Option<Value>>>,
}

impl Remembering {
    /// Asks `lookup`, but for the namespace, which is as given.
    pub(super) fn new(lookup: Arc<dyn Lookup>, name: &str, namespace: Value) -> Self {
        let kept = BTreeMap::from([(Key::Namespace(name.to_owned()), Some(namespace))]);
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
            if let Some(answer) = kept().get(key) {
                return Ok(answer.clone());
            }
            let answer = self.lookup.get(key).await?;
            let mut kept = kept();
            if kept.len() < MAX_KEPT {
                kept.insert(key.clone(), answer.clone());
            }
            Ok(answer)
        }
        .boxed()
    }
}
