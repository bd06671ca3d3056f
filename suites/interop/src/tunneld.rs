//! The test program as our tunnel daemon.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use isthmus_runtime::logging;

/// Runs the daemon with `arguments`: `--socket PATH`. Like `isthmus tunneld`, without its session and pid file.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let [option, socket] = arguments else {
        bail!("expected --socket PATH");
    };
    if option != "--socket" {
        bail!("expected --socket, found {option:?}");
    }
    logging::start("debug")?;
    isthmus_tunnel::run(Path::new(socket))?;
    Ok(ExitCode::SUCCESS)
}
