//! What is kept of an object that is asked for.
//!
//! Must never: leave out what a rule reads. A field that is not kept looks like one that is not there.

use crate::api::{OWNER_UID_ANNOTATION, WORKFLOW_LABEL};
use crate::review::Keep;

/// Most that is kept of an object of which only who it is counts: it has no more than this without being made to.
pub(super) const MAX_IDENTITY: usize = 128 << 10;
/// The workflow label of what stands there.
const LABELLED: Keep = Keep::Only(&[("metadata", Keep::Only(&[("labels", LABEL)]))]);
const LABEL: Keep = Keep::Only(&[(WORKFLOW_LABEL, Keep::Whole)]);
/// An owner: who and where it is, whether it is being deleted, who controls it, which workflow it and its templates say they belong to, and which pods it takes for its own.
pub(super) const OWNER: Keep = Keep::Only(&[
    (
        "metadata",
        Keep::Only(&[
            ("uid", Keep::Whole),
            ("namespace", Keep::Whole),
            ("deletionTimestamp", Keep::Whole),
            ("labels", LABEL),
            (
                "ownerReferences",
                Keep::Only(&[
                    ("apiVersion", Keep::Whole),
                    ("controller", Keep::Whole),
                    ("kind", Keep::Whole),
                    ("name", Keep::Whole),
                    ("uid", Keep::Whole),
                ]),
            ),
        ]),
    ),
    ("template", LABELLED),
    (
        "spec",
        Keep::Only(&[
            ("selector", Keep::Whole),
            ("template", LABELLED),
            (
                "jobTemplate",
                Keep::Only(&[
                    ("metadata", Keep::Only(&[("labels", LABEL)])),
                    ("spec", Keep::Only(&[("template", LABELLED)])),
                ]),
            ),
        ]),
    ),
]);
/// A ServiceAccount or a Pod: who it is, since when, and whose.
pub(super) const IDENTITY: Keep = Keep::Only(&[(
    "metadata",
    Keep::Only(&[
        ("name", Keep::Whole),
        ("uid", Keep::Whole),
        ("creationTimestamp", Keep::Whole),
        ("deletionTimestamp", Keep::Whole),
        ("labels", LABEL),
        ("annotations", Keep::Only(&[(OWNER_UID_ANNOTATION, Keep::Whole)])),
    ]),
)]);
/// What the fence compares, or policies see.
pub(super) const OBJECT: Keep = Keep::UNMANAGED;
/// What a group serves.
pub(super) const KINDS: Keep = Keep::Only(&[(
    "resources",
    Keep::Only(&[
        ("kind", Keep::Whole),
        ("name", Keep::Whole),
        ("namespaced", Keep::Whole),
    ]),
)]);
