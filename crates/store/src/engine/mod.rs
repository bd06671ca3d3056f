//! What a backend has to do.

mod memory;
mod sqlite;

use isthmus_model::{RecordKey, RecordKind};
use isthmus_ops::Via;
use isthmus_types::{AccountId, ResourceBits, Revision, Timestamp, UserId};
use serde::{Deserialize, Serialize};

pub use memory::MemoryEngine;
pub use sqlite::SqliteEngine;

/// Which row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The kind of the record in it.
    pub kind: RecordKind,
    /// The bits of the record's id.
    pub bits: ResourceBits,
}

/// The word of the kind and the id: `vpc/0123456789abcdef0`.
impl std::fmt::Display for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.bits)
    }
}

impl RowKey {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, bits) = text.split_once('/')?;
        Some(Self {
            kind: RecordKind::from_word(kind)?,
            bits: bits.parse().ok()?,
        })
    }
}

impl From<RecordKey> for RowKey {
    fn from(key: RecordKey) -> Self {
        Self {
            kind: key.kind(),
            bits: key.bits(),
        }
    }
}

/// A stored record. An engine never looks into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub key: RowKey,
    /// The revision that wrote it.
    pub revision: Revision,
    /// The content: JSON, or sealed bytes.
    pub body: Vec<u8>,
}

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// The row no longer exists.
    Delete(RowKey),
    /// The row now has this content.
    Put(Row),
}

impl RowChange {
    /// The row that changes.
    pub const fn key(&self) -> RowKey {
        match self {
            Self::Delete(key) => *key,
            Self::Put(row) => row.key,
        }
    }
}

/// Who changed what, when and through which door. Exactly one for each revision; never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The revision that the change led to.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// For which account.
    pub account: AccountId,
    /// By which user; none for Isthmus itself.
    pub user: Option<UserId>,
    /// Through which door.
    pub via: Via,
    /// Identifies the request in logs.
    pub request_id: String,
    /// The operation's name.
    pub operation: String,
    /// Every row that changed, as `kind/id`.
    pub objects: Vec<String>,
}

/// A remembered answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The account that used the token.
    pub account: AccountId,
    /// The token.
    pub token: String,
    /// When it was used first.
    pub at: Timestamp,
    /// The sealed request and answer.
    pub body: Vec<u8>,
}

/// What is committed together: every part of it, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The revision that the backend must have before.
    pub expected: Revision,
    /// The revision that it has after.
    pub revision: Revision,
    /// Changed rows, each once.
    pub rows: Vec<RowChange>,
    /// One record for each new revision, ascending.
    pub audit: Vec<AuditRecord>,
    /// Answers to remember. A token that exists already is replaced.
    pub tokens: Vec<TokenRow>,
    /// If given, answers remembered before this moment are forgotten.
    pub forget_tokens_before: Option<Timestamp>,
}

/// Everything that a backend has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Its revision; 0 if nothing was ever committed.
    pub revision: Revision,
    /// Every row, in any order.
    pub rows: Vec<Row>,
}

/// Why a backend failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another writer was faster, or this one is behind. Nothing was committed.
    #[error("revision {expected} was expected, the backend is at {found}")]
    Conflict {
        /// What the batch expected.
        expected: Revision,
        /// What the backend has.
        found: Revision,
    },
    /// What is stored makes no sense.
    #[error("the stored data is damaged: {0}")]
    Damaged(String),
    /// The disk, the network or the backend itself failed. A commit that ends so may or may not have happened: ask
    /// for the revision.
    #[error("the storage backend failed while {action}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data was written by a newer release.
    #[error("the stored data has format {found}, this release knows up to {known}")]
    Newer {
        /// The stored format.
        found: i64,
        /// The newest format that this release reads.
        known: i64,
    },
}

/// A backend: rows with revisions, written in transactions. Used by one thread.
///
/// Every engine passes the same conformance suite (`tests/conformance.rs`).
pub trait Engine: Send {
    /// Everything there is, as of one revision.
    ///
    /// # Errors
    /// [`EngineError`], never `Conflict`.
    fn load(&mut self) -> Result<Loaded, EngineError>;

    /// The revision last committed, read from the backend itself.
    ///
    /// # Errors
    /// [`EngineError`], never `Conflict`.
    fn revision(&mut self) -> Result<Revision, EngineError>;

    /// Commits a batch whole, durably, if the backend is at `batch.expected`. Once this returns, a crash of the
    /// process or of the machine loses nothing of it.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] if the backend is at another revision; then nothing was committed.
    /// [`EngineError::Failed`] leaves open whether it was.
    fn commit(&mut self, batch: &Batch) -> Result<(), EngineError>;

    /// The rows that changed after revision `after`, each once with its present content, and the present revision: what
    /// a follower needs to catch up.
    ///
    /// # Errors
    /// [`EngineError`], never `Conflict`.
    fn changes_after(&mut self, after: Revision) -> Result<(Revision, Vec<RowChange>), EngineError>;

    /// Audit records after revision `after`, ascending, at most `limit`.
    ///
    /// # Errors
    /// [`EngineError`], never `Conflict`.
    fn audit(&mut self, after: Revision, limit: usize) -> Result<Vec<AuditRecord>, EngineError>;

    /// The answer remembered for a token.
    ///
    /// # Errors
    /// [`EngineError`], never `Conflict`.
    fn token(&mut self, account: AccountId, token: &str) -> Result<Option<TokenRow>, EngineError>;
}
