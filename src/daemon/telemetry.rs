//! Logging to standard error. Per packet is TRACE, conditional detail DEBUG, what a user would notice INFO, what should
//! wake somebody WARN.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at a level (`error`, `warn`, `info`, `debug`, `trace`, or a filter as `RUST_LOG` takes it, which wins).
pub fn start(level: &str) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.is_empty());
    let wanted = wanted.map(EnvFilter::try_new).transpose();
    let misread = wanted.as_ref().err().map(ToString::to_string);
    let filter = wanted.ok().flatten().map_or_else(|| EnvFilter::try_new(level), Ok);
    let terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(terminal);
    // Under a service manager the journal has the time already.
    let started = if terminal { subscriber.try_init() } else { subscriber.without_time().try_init() };
    if started.is_err() {
        tracing::debug!("logging was started already");
    }
    if let Some(error) = misread {
        tracing::warn!("RUST_LOG is not a filter ({error}): logging at level {level}");
    }
}
