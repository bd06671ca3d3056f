//! `isthmus tunneld`: IKE and ESP of this host's VPN gateways.

use std::process::ExitCode;

use anyhow::Context;
use isthmus_runtime::{PidFile, logging};
use nix::errno::Errno;
use nix::unistd::setsid;

use super::TunneldOptions;

/// Runs until it is told to stop, over its socket or by a signal.
pub fn run(options: TunneldOptions) -> anyhow::Result<ExitCode> {
    // A session of its own, so that it outlives whoever started it. The leader of a group cannot make one and needs
    // none: no terminal's signal reaches it.
    match setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(error) => return Err(error).context("no session can be made"),
    }
    let _pid_file = PidFile::take(&options.socket.with_file_name("tunneld.pid"), "")?;
    logging::start(&options.log)?;
    match &options.plan {
        Some(plan) => isthmus_tunnel::run_with_plan(&options.socket, plan)?,
        None => isthmus_tunnel::run(&options.socket)?,
    }
    Ok(ExitCode::SUCCESS)
}
