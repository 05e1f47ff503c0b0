//! A request as RegoPolicies are matched by it: with its pod template, and whether it brings that.
//!
//! Must never: differ between what decides and what explains a decision later.

use super::template_of;
use crate::policy::Occasion;
use crate::review::{Operation, Review};

/// The request, to be matched.
pub fn occasion(review: &Review) -> Occasion<'_> {
    let (group, kind) = (review.kind.group.as_str(), review.kind.kind.as_str());
    let template = review.current().and_then(|object| template_of(group, kind, object));
    let before = review.old_object().filter(|_| review.operation == Operation::Update);
    let before = before.and_then(|object| template_of(group, kind, object));
    Occasion {
        review,
        template,
        changes_template: template.is_some() && template != before,
    }
}
