//! Where log lines go and which do.
//!
//! Must never: let the libraries below speak at debug, where they print requests and answers, Secrets included.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a person's eyes.
    Text,
}

/// Why logs could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `RUST_LOG` is no filter.
    #[error("RUST_LOG cannot be read; write it like info,ringfence=debug")]
    Filter(#[source] ParseError),
    /// A subscriber was there before.
    #[error("logs are set up already")]
    Twice(#[source] TryInitError),
}

/// Sends logs to standard error: level info, or what `RUST_LOG` says for Ringfence's own.
pub fn init(format: LogFormat) -> Result<(), LogError> {
    let wanted = filter(std::env::var("RUST_LOG").ok().as_deref())?;
    let ceiling = Targets::new()
        .with_default(LevelFilter::INFO)
        // Where it cannot read an answer, it warns with the whole of it.
        .with_target("kube_client::client", LevelFilter::ERROR)
        .with_target("ringfence", LevelFilter::TRACE);
    let registry = tracing_subscriber::registry().with(wanted).with(ceiling);
    // Escape sequences in a file or a log pipeline are noise that hides words from a search.
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours);
    match format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer).try_init(),
    }
    .map_err(LogError::Twice)
}

fn filter(wanted: Option<&str>) -> Result<EnvFilter, LogError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    builder.parse(wanted.unwrap_or_default()).map_err(LogError::Filter)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(None, Some("info"))]
    #[case::empty(Some(""), Some("info"))]
    #[case::level(Some("warn"), Some("warn"))]
    #[case::target(Some("ringfence=debug"), Some("ringfence=debug"))]
    #[case::rubbish(Some("ringfence=loud"), None)]
    fn level_is_info_unless_said_otherwise(#[case] wanted: Option<&str>, #[case] expected: Option<&str>) {
        assert_eq!(
            filter(wanted).ok().map(|filter| filter.to_string()).as_deref(),
            expected
        );
    }
}
