//! The test program as our tunnel daemon.

use std::process::ExitCode;

use anyhow::{Result, bail};

/// Runs the daemon with `arguments`: `--socket PATH`.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let [option, _socket] = arguments else {
        bail!("expected --socket PATH");
    };
    bail!("{option}: the tunnel daemon is not part of this program yet; name it with ISTHMUS_BIN")
}
