//! A request as RegoPolicies are matched by it: with its pod template, and whether it brings that.
//!
//! Must never: differ between what decides and what explains a decision later.

use serde_json::Value;

use super::template_of;
use crate::policy::Occasion;
use crate::review::{Operation, Review};

/// The request, to be matched.
pub fn occasion(review: &Review) -> Occasion<'_> {
    let (group, kind) = (review.kind.group.as_str(), review.kind.kind.as_str());
    let of = |object: Option<&'_ Value>| -> Option<(&'static str, Value)> {
        let (path, pod) = template_of(group, kind, object?)?;
        Some((path, pod.clone()))
    };
    let template = review.current().and_then(|object| template_of(group, kind, object));
    let before = of(review.old_object().filter(|_| review.operation == Operation::Update));
    let same = |(_, before): &(&str, Value)| template.is_some_and(|(_, now)| now == before);
    Occasion {
        review,
        template,
        changes_template: template.is_some() && !before.as_ref().is_some_and(same),
    }
}
