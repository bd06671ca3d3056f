//! The demo: everything from an empty machine to two joined VPCs, in one command.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

use crate::command::{cargo, step};
use crate::metadata;
use crate::packages::{self, Set};

/// Installs what is missing, builds, and becomes `isthmus demo`.
pub fn run(once: bool) -> anyhow::Result<Infallible> {
    packages::require_root("making networks")?;
    packages::ensure(Set::Demo)?;
    step(
        "build",
        &mut cargo([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "isthmus",
        ]),
    )?;
    let program = metadata::read()?.target.join("release/isthmus");
    let mut demo = Command::new(&program);
    demo.arg("demo");
    if once {
        demo.arg("--once");
    }
    // Replacing ourselves leaves one process to receive Ctrl-C, which then has all the time it needs to clean up.
    let error = demo.exec();
    Err(error).with_context(|| format!("{} could not be started", program.display()))
}
