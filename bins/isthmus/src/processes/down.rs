//! `isthmus down`: no process and no kernel object of the installation is left, however its processes ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use isthmus_runtime::supervise::{GRACE, stop};
use isthmus_runtime::{PidFile, StateLayout};
use isthmus_types::Realm;

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
    let realm = realm_of(&layout, down.realm)?;
    if let Some(realm) = &realm {
        refuse_others(&layout, realm)?;
        super::event_loop()?.block_on(async {
            stop(&layout.pid_file("up"), UP_GRACE).await?;
            for process in ["server", "agent"] {
                stop(&layout.pid_file(process), GRACE)
                    .await
                    .with_context(|| format!("isthmus {process} cannot be stopped"))?;
            }
            teardown::remove_all(&layout, realm).await
        })?;
    }
    if down.purge {
        purge(&layout).with_context(|| format!("{} cannot be emptied", layout.root().display()))?;
    }
    say(&match realm {
        Some(realm) => format!("realm {realm} is down"),
        None => format!(
            "nothing is up in {}; if the state directory of a realm is lost, name the realm with --realm",
            layout.root().display()
        ),
    });
    Ok(ExitCode::SUCCESS)
}

/// The realm to take down: that of the state directory. None if the directory tells of none and none is wanted; a realm
/// is not guessed, for another installation may have it.
fn realm_of(layout: &StateLayout, wanted: Option<Realm>) -> anyhow::Result<Option<Realm>> {
    // Processes that were started one by one note their realm beside their id.
    let noted = || {
        ["up", "agent", "server"]
            .into_iter()
            .filter_map(|process| PidFile::last_note(&layout.pid_file(process)))
            .find_map(|note| Realm::new(note).ok())
    };
    let own = layout.recorded_realm()?.or_else(noted);
    if let (Some(own), Some(wanted)) = (&own, &wanted) {
        anyhow::ensure!(
            own == wanted,
            "{} holds the realm {own}, not {wanted}: leave out --realm, or name the state directory of {wanted} with \
             --state-dir",
            layout.root().display()
        );
    }
    Ok(own.or(wanted))
}

/// Refuses to take down what another state directory has up.
fn refuse_others(layout: &StateLayout, realm: &Realm) -> anyhow::Result<()> {
    let claim = StateLayout::realm_claim(realm);
    let Some(other) = PidFile::last_note(&claim).filter(|note| !note.is_empty()) else {
        return Ok(());
    };
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if real(Path::new(&other)) == real(layout.root()) {
        return Ok(());
    }
    let agent = StateLayout::new(PathBuf::from(&other)).pid_file("agent");
    anyhow::ensure!(
        PidFile::holder(&claim)?.is_none() && PidFile::holder(&agent)?.is_none(),
        "the realm {realm} is up with the state directory {other}: run isthmus --state-dir {other} down"
    );
    Ok(())
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
