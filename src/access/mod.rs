//! Who holds what no admission controller sees: reads of Secrets, impersonation, the kubelets, and what the fence itself rests on.
//!
//! Pure: Roles, bindings and namespaces in, holders out. Must never: take what it cannot read for a right that nobody holds, grow
//! beyond what it says it keeps, or hold a whole object.

mod capability;
mod holders;
mod json;
mod report;
mod rules;
mod subject;
mod table;
mod tenants;

pub use capability::{CAPABILITIES, Capability, Reach, Right};
pub use holders::Access;
pub use report::{Held, Report, Standing};
pub use rules::Names;
pub use subject::Subject;
