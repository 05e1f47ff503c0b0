//! How every watch of Ringfence is asked for.
//!
//! A connection whose other end is gone is quiet, as a watch is where nothing happens; so each is ended by the API server after a minute and
//! asked for again from where it was, and one that outlives that is given up. Must never: be longer than a fence may stand open unseen.

use kube::runtime::watcher;

/// After how long the API server ends a watch, in seconds. The watcher gives it five more.
pub const SECONDS: u32 = 60;

/// A watch of everything, to be narrowed.
pub fn config() -> watcher::Config {
    watcher::Config::default().timeout(SECONDS)
}
