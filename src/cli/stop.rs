//! When a process that serves comes to its end: asked to, or because a part of it has ended.
//!
//! Must never: go on without a part, or take that for an end that was asked for.

use anyhow::{Context as _, Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tracing::{error, info};

/// Waits for a signal, or for a part of `whole` to end that should not, and calls `not_ready` then. An error where nobody asked for the
/// end.
pub(super) async fn until_stopped(
    tasks: &mut JoinSet<Result<()>>,
    whole: &'static str,
    not_ready: impl FnOnce(),
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let ended = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        ended = tasks.join_next() => ended,
    };
    not_ready();
    match ended {
        None => {
            info!("asked to stop: not ready any more, finishing what is in flight");
            Ok(())
        }
        Some(Ok(Ok(()))) => bail!("a part of {whole} ended by itself"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => {
            error!(%error, "a part of {whole} panicked");
            Err(error).with_context(|| format!("a part of {whole} panicked"))
        }
    }
}
