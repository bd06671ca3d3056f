//! The verbs that talk to the server, as any client of its API does.

pub mod options;

use std::process::ExitCode;

use clap::Subcommand;

pub use options::{GlobalOptions, OutputFormat};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {}

/// Carries out `command`.
///
/// # Errors
/// Anything that makes the command fail.
pub fn run(command: Command, _options: GlobalOptions) -> anyhow::Result<ExitCode> {
    match command {}
}
