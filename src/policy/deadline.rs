//! When the evaluation on this thread has to end.
//!
//! The engine's timer looks between the engine's own steps. A function of ours that goes on for long looks here on its way, so that it ends
//! as a step of the engine would. Must never: outlast the evaluation that it was set for.

use std::cell::Cell;
use std::time::{Duration, Instant};

use regorus::LimitError;

thread_local! {
    static ENDS: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Takes it away, however the evaluation ends.
struct Evaluation;

impl Drop for Evaluation {
    fn drop(&mut self) {
        ENDS.set(None);
    }
}

/// Evaluates what has so much time.
pub(super) fn within<T>(limit: Duration, evaluate: impl FnOnce() -> T) -> T {
    ENDS.set(Some((Instant::now(), limit)));
    let _evaluation = Evaluation;
    evaluate()
}

/// Whether there is time left; the error is the engine's own.
pub(super) fn time_left() -> anyhow::Result<()> {
    let Some((began, limit)) = ENDS.get() else {
        return Ok(());
    };
    let elapsed = began.elapsed();
    if elapsed > limit {
        return Err(LimitError::TimeLimitExceeded { elapsed, limit }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn time_is_up_for_the_evaluation_that_it_was_set_for_and_no_other() {
        let late = within(Duration::from_millis(1), || {
            time_left().unwrap();
            sleep(Duration::from_millis(2));
            time_left()
        });
        let late = late.unwrap_err();
        assert!(
            matches!(late.downcast_ref(), Some(LimitError::TimeLimitExceeded { .. })),
            "{late}"
        );
        time_left().unwrap();
        std::panic::catch_unwind(|| within(Duration::ZERO, || panic!("in a policy"))).unwrap_err();
        time_left().unwrap();
    }
}
