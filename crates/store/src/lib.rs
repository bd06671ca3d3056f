//! Durable state: one write per operation, revisions, an audit record with each change, and reads from memory.
//!
//! [`Store`] is the front. [`Store::execute`] queues an operation for the one writer thread, which runs
//! [`isthmus_model::apply`] on the newest state, writes the changes with their audit record and idempotency token in
//! one transaction, and only then shows the new state and answers. Operations that wait together share one
//! transaction and so one flush to disk, each still applied to the state that the one before it left.
//! [`Store::query`] and [`Store::snapshot`] read the current state from memory and never touch the disk.
//!
//! [`Engine`] is what a backend has to do: load, commit at an expected revision, repeat tokens, list audit records,
//! tell what changed since a revision. `SqliteEngine` is the embedded default, `MemoryEngine` serves tests.
//!
//! Records of secret kinds and remembered answers are sealed before an engine sees them ([`isthmus_crypto::seal`]); the
//! key stands in a file of its own ([`load_or_create_key`]).
//!
//! This crate must not know HTTP, dialects or hosts.

mod codec;
mod engine;
mod error;
mod feed;
mod key;
mod store;
mod writer;

pub use engine::{
    AuditRecord, Batch, Engine, EngineError, Loaded, MemoryEngine, Row, RowChange, RowKey, SqliteEngine,
    TokenRow,
};
pub use error::StoreError;
pub use feed::ChangedVpcs;
pub use key::load_or_create_key;
pub use store::{Store, StoreOptions};
