//! What workflows have used and were refused, counted while connections come and go.
//!
//! Must never: hold its lock while something is written, sent or waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;

use crate::egress::{Account, Counted, Permit, Target, Used, Workflow};

/// What this replica has counted. One for all of its listeners.
#[derive(Debug)]
pub struct Accounts {
    since: u64,
    account: Mutex<Account>,
}

impl Default for Accounts {
    /// Counts from now on.
    fn default() -> Self {
        Self {
            since: now(),
            account: Mutex::default(),
        }
    }
}

impl Accounts {
    /// What has been counted.
    pub fn counted(&self) -> Counted {
        self.lock().counted(self.since)
    }

    pub(super) fn refused(&self, workflow: &Arc<Workflow>, target: &Target) {
        self.lock().refused(workflow, target, now());
    }

    /// Where a connection by that permit is counted, if there is room for it.
    pub(super) fn used(&self, workflow: &Arc<Workflow>, permit: Permit<'_>) -> Option<Arc<Used>> {
        self.lock().used(workflow, permit)
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    Timestamp::now().as_second().try_into().unwrap_or_default()
}
