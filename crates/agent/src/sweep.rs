//! Removes namespaces of a realm that no plan names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use isthmus_fabric::name;
use isthmus_netlink::namespace::{self, Namespace, NamespaceError};
use isthmus_runtime::supervise::{self, StopError};
use isthmus_types::Realm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Why something of a realm could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The tunnel daemon does not end.
    #[error("stopping the tunnel daemon failed")]
    Daemon(#[from] StopError),
    /// A namespace cannot be removed.
    #[error("removing a namespace failed")]
    Namespace(#[from] NamespaceError),
    /// The work could not be done at all.
    #[error("removing what a realm left failed")]
    System(#[source] io::Error),
}

/// Takes a realm off the host: its tunnel daemon, its namespaces with everything in them, and what it left in the
/// host's own namespace. Doing it again changes nothing.
///
/// # Errors
/// [`RemoveError`] tells the first thing that could not be removed; the rest is removed all the same.
pub async fn remove_everything(realm: &Realm, tunnel_pid_file: &Path) -> Result<(), RemoveError> {
    let daemon = supervise::stop(tunnel_pid_file, supervise::GRACE).await;
    let realm = realm.clone();
    let namespaces = tokio::task::spawn_blocking(move || sweep(&realm, &BTreeSet::new(), |_| {}))
        .await
        .map_err(|error| RemoveError::System(io::Error::other(error)))?;
    daemon?;
    namespaces.map(|_| ())
}

/// Removes every namespace of the realm that is not in `wanted`, calls `forget` for each before, and yields how many
/// there were.
pub(crate) fn sweep(
    realm: &Realm,
    wanted: &BTreeSet<String>,
    forget: impl Fn(&str),
) -> Result<usize, RemoveError> {
    let mut removed = 0;
    let mut result = Ok(());
    for name in namespace::list()? {
        if !name::is_of_realm(realm, &name) || wanted.contains(&name) {
            continue;
        }
        forget(&name);
        if name::is_instance_namespace(realm, &name) {
            end_processes(&name);
        }
        match namespace::remove(&name) {
            Ok(()) => removed += 1,
            Err(error) => result = Err(error.into()),
        }
    }
    result.map(|()| removed)
}

// An instance's processes end with it, as those of a machine that is switched off; they would keep the
// namespace alive without a name.
fn end_processes(name: &str) {
    let Ok(inode) = Namespace::open(name)
        .and_then(|namespace| namespace.id())
        .map(|id| id.inode())
    else {
        return;
    };
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let inside = fs::metadata(process.path().join("ns/net")).is_ok_and(|found| found.ino() == inode);
        if inside && pid != std::process::id().cast_signed() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
