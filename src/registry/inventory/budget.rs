//! How much memory the objects of all kinds together may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The part of it that the objects of one kind in one namespace may take. Who may write in a namespace can fill it, and must not keep all
/// that policies are asked about out of sight by it.
const OF_ONE: usize = 16;

/// Bytes for all kinds.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// What one kind takes of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// What the objects of one kind in one namespace may take, cut down for one policy.
    pub(super) fn of_one(&self) -> usize {
        self.limit / OF_ONE
    }

    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            held: 0,
        }
    }
}

impl Share {
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes so much from now on, in place of what it took. Where that is more than is left it takes what it took, and says so.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let held = self.held;
        let fits = |used: usize| {
            let used = used.saturating_sub(held).saturating_add(bytes);
            (bytes <= held || used <= self.budget.limit).then_some(used)
        };
        let taken = self
            .budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_ok() {
            self.held = bytes;
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_share_one_budget_and_give_back_what_they_took() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.set(60) && b.set(40) && !b.set(41) && !a.set(61));
        assert!(a.set(10) && b.set(90));
        drop(b);
        assert!(a.set(100) && a.set(0));
        drop(a);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
