//! `isthmus down`: no process and no kernel object of the installation is left, however its processes ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use isthmus_runtime::supervise::{GRACE, stop};
use isthmus_runtime::{Config, Overrides, StateLayout};

use super::words::say;
use super::{DownOptions, teardown};
use crate::cli::GlobalOptions;

/// Time that `isthmus up` has to take everything down itself.
const UP_GRACE: Duration = Duration::from_secs(45);

/// Takes the installation down. Doing it again changes nothing.
pub fn run(options: &GlobalOptions, down: DownOptions) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "isthmus down removes namespaces, links and firewall rules: run it as root"
    );
    let layout = options.layout();
    let realm = match (down.realm, layout.recorded_realm()?) {
        (Some(realm), _) | (None, Some(realm)) => realm,
        (None, None) => Config::load(None, &layout.config(), Overrides::default())?.realm,
    };
    super::event_loop()?.block_on(async {
        stop(&layout.pid_file("up"), UP_GRACE).await?;
        for process in ["server", "agent"] {
            stop(&layout.pid_file(process), GRACE)
                .await
                .with_context(|| format!("isthmus {process} cannot be stopped"))?;
        }
        teardown::remove_all(&layout, &realm).await
    })?;
    if down.purge {
        purge(&layout).with_context(|| format!("{} cannot be emptied", layout.root().display()))?;
    }
    say(&format!("realm {realm} is down"));
    Ok(ExitCode::SUCCESS)
}

/// Deletes what the installation wrote, and the directory if nothing else is in it.
fn purge(layout: &StateLayout) -> io::Result<()> {
    let beside = |suffix: &str| {
        let mut path = layout.database().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    };
    let files = [
        layout.database(),
        beside("-wal"),
        beside("-shm"),
        layout.store_key(),
        layout.token_key(),
        layout.credentials(),
    ];
    for file in files {
        absent(fs::remove_file(file))?;
    }
    for directory in [
        layout.agent_directory(),
        layout.log_directory(),
        layout.key_log_directory(),
    ] {
        absent(fs::remove_dir_all(directory))?;
    }
    remove_if_empty(layout.root())
}

fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_if_empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => absent(other),
    }
}
