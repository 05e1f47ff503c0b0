//! What a request's work holds until it ends, where the end is not known to who waits for the answer.
//!
//! Budgets count what is in memory. An evaluation that is left behind keeps its request there, and so keeps the budget.

use std::any::Any;
use std::sync::Arc;

/// Anything that gives back what it holds when it is dropped.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static HELD: Held;
}

/// Does the work of a request, which holds that.
pub(super) async fn holding<T>(held: Held, work: impl Future<Output = T>) -> T {
    HELD.scope(held, work).await
}

/// What the work around holds; `None` where it is no request's, such as a scan's.
pub(super) fn held() -> Option<Held> {
    HELD.try_with(Arc::clone).ok()
}
