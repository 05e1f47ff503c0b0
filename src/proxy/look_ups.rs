//! Look-ups under way, one for a host at a time: whoever wants the same host waits for the same answer.
//!
//! A resolver that many questions for one name reach at a time is flooded by it, and each of them is one more that a forged answer may hit
//! (RFC 5452). Must never: go on with one that nobody waits for any more, or hand out what was answered before somebody wanted it: what
//! is remembered is another matter.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};
use tokio::time::Instant;

use super::resolve::NotResolved;
use crate::egress::Host;

/// Addresses of a host, and until when they hold.
pub(super) type Found = Result<(Vec<IpAddr>, Instant), NotResolved>;
type LookUp = BoxFuture<'static, Found>;

/// All of them: as many as there are places for.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    under_way: Mutex<HashMap<Host, WeakShared<LookUp>>>,
}

impl LookUps {
    /// What the one that is under way for the host finds, or the one that `begin` makes, where there is none. It goes on for as long as anybody
    /// waits for it.
    pub(super) async fn join(&self, host: &Host, begin: impl FnOnce() -> Result<LookUp, NotResolved>) -> Found {
        let look_up = {
            let mut under_way = self.lock();
            let joined = under_way.get(host).and_then(WeakShared::upgrade);
            match joined.filter(|look_up| look_up.peek().is_none()) {
                Some(look_up) => look_up,
                None => {
                    let look_up = begin()?.shared();
                    if let Some(weak) = look_up.downgrade() {
                        under_way.insert(host.clone(), weak);
                    }
                    look_up
                }
            }
        };
        // It outlives what it looks at.
        let waits = Waits { of: self, host };
        let found = look_up.await;
        drop(waits);
        found
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Host, WeakShared<LookUp>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, or does not any more.
struct Waits<'a> {
    of: &'a LookUps,
    host: &'a Host,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut under_way = self.of.lock();
        if under_way
            .get(self.host)
            .is_some_and(|look_up| look_up.upgrade().is_none())
        {
            under_way.remove(self.host);
        }
    }
}
