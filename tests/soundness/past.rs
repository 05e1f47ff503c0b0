//! What was so at which time: the fence, the class and the declarations of one place, and who wrote what. Kept by whoever sends the
//! requests, from the answers of the API server; the checker believes nothing else about the past.

use serde_json::Value;

/// Seconds since 1970, as exact as the time of an object's creation.
pub type Second = i64;

/// Something that was so for a time. It begins before the request that made it so, and ends after the answer to the one that ended it.
#[derive(Clone, Debug)]
pub struct Span<T> {
    /// First second.
    pub from: Second,
    /// Last second; `None` while it lasts.
    pub until: Option<Second>,
    /// What was so.
    pub is: T,
}

/// A declaration as it was admitted.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Name of the AIWorkflow.
    pub name: String,
    /// Its spec.
    pub spec: Value,
}

/// Somebody who writes.
#[derive(Clone, Debug)]
pub struct Writer {
    /// User name.
    pub user: String,
    /// Namespace and name, where it is a service account that shows its own token.
    pub account: Option<(String, String)>,
}

/// Kind of a write that took the label from something that makes pods.
pub const UNLABELLED: &str = "Unlabelled";

/// A write that was admitted.
#[derive(Clone, Debug)]
pub struct Write {
    /// When.
    pub at: Second,
    /// By whom.
    pub by: Writer,
    /// Kind of what was written, or of the subresource.
    pub kind: String,
    /// UID of the object; empty where there is none.
    pub uid: String,
    /// Whether it made the object, or changed what it runs or whose it is.
    pub launches: bool,
}

/// Everything that is known of the past of one place.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// When the namespace was enforced.
    pub fenced: Vec<Span<()>>,
    /// Specs of its class.
    pub classes: Vec<Span<Value>>,
    /// Its declarations.
    pub declarations: Vec<Span<Declaration>>,
    /// What was admitted.
    pub writes: Vec<Write>,
    /// Refusals by the fence, as they were said.
    pub refusals: Vec<String>,
    /// Legitimate acts that were refused.
    pub wronged: Vec<String>,
}

impl Past {
    /// Whether the namespace was not enforced at any moment of these seconds.
    pub fn was_open(&self, from: Second, until: Second) -> bool {
        !self
            .fenced
            .iter()
            .any(|span| span.from < from && span.until.is_none_or(|ended| ended > until))
    }

    /// Ends what lasts and is like that.
    pub fn end<T>(spans: &mut [Span<T>], at: Second, which: impl Fn(&T) -> bool) {
        for span in spans.iter_mut().filter(|span| span.until.is_none() && which(&span.is)) {
            span.until = Some(at);
        }
    }
}

/// Whatever was so at some moment of these seconds.
pub fn during<T>(spans: &[Span<T>], from: Second, until: Second) -> impl Iterator<Item = &T> {
    let overlaps = move |span: &&Span<T>| span.from <= until && span.until.is_none_or(|ended| ended >= from);
    spans.iter().filter(overlaps).map(|span| &span.is)
}

/// What is so now.
pub fn now<T>(spans: &[Span<T>]) -> impl Iterator<Item = &T> {
    spans.iter().filter(|span| span.until.is_none()).map(|span| &span.is)
}
