//! Looks at what stands: as a warning to who sets a mode, in the background, and for the command line. One engine.
//!
//! Must never: change or end anything, hold more than a page of what it lists (but for the namespaces that have a mode), take what could not be read for what fits, or
//! judge otherwise than admission does.

mod access;
mod background;
mod cluster;
mod kinds;
mod look;
mod preview;
mod remember;
mod results;
mod turns;
mod units;

pub use access::read_access;
pub use background::run;
pub(crate) use kinds::{CLUSTER_ROLE_BINDING, GRANT, POD, ROLE_BINDING};
pub use look::{Bounds, Scanner};
pub use preview::Preview;
pub use results::{Found, Results};
