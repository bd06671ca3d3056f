//! Why a store cannot be opened or read.

use std::io;
use std::path::PathBuf;

use isthmus_model::SettingsError;

use crate::engine::EngineError;

/// Why a store cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The engine failed.
    #[error("the storage engine failed")]
    Engine(#[source] EngineError),
    /// The key file can be read by others than its owner.
    #[error("{}: other users may read the key file; make it mode 0600", path.display())]
    KeyExposed {
        /// The file.
        path: PathBuf,
    },
    /// The key file could not be read or made.
    #[error("{}: the key file cannot be used", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key file does not hold a key.
    #[error("{}: the key file does not hold a key", path.display())]
    KeyMalformed {
        /// The file.
        path: PathBuf,
    },
    /// A stored record cannot be read.
    #[error("stored record {record} cannot be read: {detail}")]
    Record {
        /// Its kind and id.
        record: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A sealed record was sealed with another key, or altered.
    #[error("stored record {record} was sealed with another key, or was altered")]
    Sealed {
        /// Its kind and id.
        record: String,
    },
    /// The settings contradict themselves.
    #[error("the settings cannot be used")]
    Settings(#[source] SettingsError),
    /// The writer thread could not be started.
    #[error("the writer thread could not be started")]
    Thread(#[source] io::Error),
}
