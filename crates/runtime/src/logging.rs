//! Logs of a process, on its standard error stream.
//!
//! A supervised process has its standard error stream redirected to a file by whoever starts it, so that even a
//! panic message ends up there.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not understood.
    #[error("{filter:?} does not say what to log: {message}")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        message: String,
    },
    /// Something in this process logs already.
    #[error("logging was started twice")]
    Twice,
}

/// Starts logging what `filter` lets pass, such as `info` or `warn,isthmus_agent=debug`.
///
/// # Errors
/// [`LoggingError`].
pub fn start(filter: &str) -> Result<(), LoggingError> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| LoggingError::Filter {
        filter: filter.to_owned(),
        message: error.to_string(),
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .finish()
        .try_init()
        .map_err(|_| LoggingError::Twice)
}
