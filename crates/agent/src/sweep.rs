//! Removes what a realm has on the host and no plan names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use isthmus_fabric::{Operation, Place, Table, name};
use isthmus_netlink::namespace::{self, Namespace, NamespaceError};
use isthmus_netlink::nft::{self, NftError};
use isthmus_netlink::{ExecuteError, visit};
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
    /// A device in the host's own namespace cannot be removed.
    #[error("removing a device failed")]
    Device(#[from] ExecuteError),
    /// A namespace cannot be removed.
    #[error("removing a namespace failed")]
    Namespace(#[from] NamespaceError),
    /// An nft table in the host's own namespace cannot be removed.
    #[error("removing an nft table failed")]
    Table(#[from] NftError),
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
    let namespaces = tokio::task::spawn_blocking(move || sweep(&realm, &Wanted::default(), |_| {}))
        .await
        .map_err(|error| RemoveError::System(io::Error::other(error)))?;
    daemon?;
    namespaces.map(|_| ())
}

/// What a sweep leaves.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Namespaces.
    pub(crate) namespaces: BTreeSet<String>,
    /// nft tables in the host's own namespace.
    pub(crate) tables: BTreeSet<String>,
    /// TAP devices in the host's own namespace.
    pub(crate) taps: BTreeSet<String>,
}

/// Removes everything of the realm that is not wanted, calls `forget` for each namespace before, and yields how many
/// objects there were.
pub(crate) fn sweep(realm: &Realm, wanted: &Wanted, forget: impl Fn(&str)) -> Result<usize, RemoveError> {
    let mut removed = 0;
    let mut result = Ok(());
    for name in namespace::list()? {
        if !name::is_of_realm(realm, &name) || wanted.namespaces.contains(&name) {
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
    removed += sweep_host(realm, wanted)?;
    result.map(|()| removed)
}

// Devices first: a table whose devices are gone joins nothing.
fn sweep_host(realm: &Realm, wanted: &Wanted) -> Result<usize, RemoveError> {
    let mut removed = 0;
    visit(|visitor| {
        for link in visitor
            .aliased_links(&name::tap_alias(realm))
            .map_err(RemoveError::System)?
        {
            if !wanted.taps.contains(&link) {
                let place = Place {
                    namespace: name::HOST_NAMESPACE.to_owned(),
                    link,
                };
                visitor.execute(&Operation::RemoveLink { place })?;
                removed += 1;
            }
        }
        Ok::<(), RemoveError>(())
    })
    .map_err(RemoveError::System)??;
    let prefix = name::wire_table_prefix(realm);
    for table in nft::tables(name::WIRE_FAMILY)? {
        if table.starts_with(&prefix) && !wanted.tables.contains(&table) {
            nft::remove(&Table {
                family: name::WIRE_FAMILY.to_owned(),
                name: table,
            })?;
            removed += 1;
        }
    }
    Ok(removed)
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
