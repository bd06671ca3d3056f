//! Running other programs.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};

/// The checkout that xtask belongs to.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Cargo, in the checkout, as if started by hand: what `cargo run` set for xtask itself is taken away, so that build
/// scripts see no difference and nothing is built twice.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command.current_dir(root()).args(arguments);
    command
}

/// Runs `command` with our own input and output, and tells what it does and how long it took.
pub fn step(title: &str, command: &mut Command) -> anyhow::Result<()> {
    say(title)?;
    let begin = Instant::now();
    run(command)?;
    say(&format!("{title}: {:.1} s", begin.elapsed().as_secs_f64()))
}

/// Runs `command` with our own input and output.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .with_context(|| format!("{name} could not be started"))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        bail!("{name} {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// Whether a program of this name can be started; directories for the administrator count too.
pub fn installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|directory| directory.join(program).is_file())
}

/// Writes one line for the person who waits.
pub fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr(), "==> {text}").context("standard error is closed")
}
