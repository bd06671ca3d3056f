//! Where an installation keeps what: the one place that knows file names below the state directory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use isthmus_types::Realm;

use crate::private_file;

/// Where realms are claimed on this machine, one file each.
const CLAIMS: &str = "/run/isthmus";

/// Longest path that a Unix socket address holds, without the closing zero byte (`sockaddr_un`).
const SOCKET_PATH_MAX: usize = 107;

/// A state directory and the files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLayout {
    root: PathBuf,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or directory could not be made or read.
    #[error("{}: {step} failed", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Sockets in it would have names that the kernel does not take.
    #[error("the state directory's path {} is too long: sockets in it need at most {SOCKET_PATH_MAX} bytes", path.display())]
    PathTooLong {
        /// The directory.
        path: PathBuf,
    },
    /// The recorded realm is no realm name.
    #[error("{} holds no realm name", path.display())]
    Realm {
        /// The file.
        path: PathBuf,
    },
}

impl StateLayout {
    /// The layout below `root`. Relative paths are taken from the working directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            root: std::path::absolute(&root).unwrap_or(root),
        }
    }

    /// Makes the directories that are missing, readable by their owner alone.
    ///
    /// # Errors
    /// [`LayoutError`] if the directory cannot be made or its path is too long.
    pub fn prepare(&self) -> Result<(), LayoutError> {
        if self.control_socket().as_os_str().len() > SOCKET_PATH_MAX
            || self.tunnel_socket().as_os_str().len() > SOCKET_PATH_MAX
        {
            return Err(LayoutError::PathTooLong {
                path: self.root.clone(),
            });
        }
        for directory in [self.root.clone(), self.agent_directory(), self.log_directory()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)))
                .map_err(|source| LayoutError::File {
                    path: directory,
                    step: "making the directory",
                    source,
                })?;
        }
        Ok(())
    }

    /// The realm that this state belongs to, if it was brought up.
    ///
    /// # Errors
    /// [`LayoutError`] if the record cannot be read.
    pub fn recorded_realm(&self) -> Result<Option<Realm>, LayoutError> {
        let path = self.realm_record();
        match fs::read_to_string(&path) {
            Ok(text) => match Realm::new(text.trim()) {
                Ok(realm) => Ok(Some(realm)),
                Err(_) => Err(LayoutError::Realm { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LayoutError::File {
                path,
                step: "reading it",
                source,
            }),
        }
    }

    /// Remembers the realm that this state belongs to.
    ///
    /// # Errors
    /// [`LayoutError::File`].
    pub fn record_realm(&self, realm: &Realm) -> Result<(), LayoutError> {
        let path = self.realm_record();
        private_file::replace(&path, realm.as_str().as_bytes()).map_err(|source| LayoutError::File {
            path,
            step: "writing it",
            source,
        })
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Configuration file that is read if no other is named.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The model's database.
    pub fn database(&self) -> PathBuf {
        self.root.join("isthmus.db")
    }

    /// Key that seals secrets in the database.
    pub fn store_key(&self) -> PathBuf {
        self.root.join("store.key")
    }

    /// Key that signs the API's bearer tokens.
    pub fn token_key(&self) -> PathBuf {
        self.root.join("token.key")
    }

    /// Profile of the first administrator: address of the API and the key to log in with.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials.toml")
    }

    /// Address that the API really listens on.
    pub fn api_url(&self) -> PathBuf {
        self.root.join("api.url")
    }

    /// Socket where control serves host plans.
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// Socket where the tunnel daemon takes its plan.
    pub fn tunnel_socket(&self) -> PathBuf {
        self.root.join("tunneld.sock")
    }

    /// Directory that only the agent writes to.
    pub fn agent_directory(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// The agent's last plan, sealed.
    pub fn agent_plan(&self) -> PathBuf {
        self.agent_directory().join("plan.sealed")
    }

    /// Key that seals the agent's last plan.
    pub fn agent_key(&self) -> PathBuf {
        self.agent_directory().join("plan.key")
    }

    /// Directory of key logs, in clear: one directory in it for each VPN gateway that ever had one.
    pub fn key_log_directory(&self) -> PathBuf {
        self.root.join("key-log")
    }

    /// Directory of the log files.
    pub fn log_directory(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Log file of the process that runs subcommand `process`.
    pub fn log_file(&self, process: &str) -> PathBuf {
        self.log_directory().join(format!("{process}.log"))
    }

    /// Pid file of the process that runs subcommand `process`, locked while it lives.
    pub fn pid_file(&self, process: &str) -> PathBuf {
        self.root.join(format!("{process}.pid"))
    }

    /// File, the same for all state directories of this machine, that claims `realm` for one of them.
    pub fn realm_claim(realm: &Realm) -> PathBuf {
        Path::new(CLAIMS).join(format!("{realm}.pid"))
    }

    /// Record of the realm that this state belongs to.
    pub fn realm_record(&self) -> PathBuf {
        self.root.join("realm")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prepares_private_directories_and_remembers_the_realm() {
        let directory = tempfile::tempdir().unwrap();
        let layout = StateLayout::new(directory.path().join("state"));
        layout.prepare().unwrap();
        layout.prepare().unwrap();
        let mode = fs::metadata(layout.root()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(layout.recorded_realm().unwrap(), None);
        let realm = Realm::new("lab7").unwrap();
        layout.record_realm(&realm).unwrap();
        assert_eq!(layout.recorded_realm().unwrap(), Some(realm));
    }

    #[test]
    fn refuses_a_path_that_no_socket_fits_in() {
        let layout = StateLayout::new(format!("/tmp/{}", "x".repeat(100)));
        assert!(matches!(layout.prepare(), Err(LayoutError::PathTooLong { .. })));
        assert!(!layout.root().exists());
    }
}
