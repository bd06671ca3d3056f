//! One consistent state of everything.

mod indices;
mod read;

use std::sync::Arc;

use isthmus_types::Revision;

use crate::record::{Change, Changes, Record, RecordKey, Tables};
use crate::settings::Settings;

use indices::Indices;
pub(crate) use indices::device_key;
pub use indices::{NameScope, PublicHolder};

/// One consistent, immutable state of the model: every record, and the indices over them.
///
/// Cloning is free. [`Snapshot::with`] shares all that did not change with the snapshot it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    revision: Revision,
    settings: Arc<Settings>,
    pub(crate) tables: Tables,
    pub(crate) indices: Indices,
}

impl Snapshot {
    /// A state without any record, at revision 0.
    pub fn empty(settings: Settings) -> Self {
        Self {
            revision: Revision(0),
            settings: Arc::new(settings),
            tables: Tables::new(),
            indices: Indices::new(),
        }
    }

    /// The state that these records make up.
    pub fn from_records(
        settings: Settings,
        revision: Revision,
        records: impl IntoIterator<Item = Record>,
    ) -> Self {
        let mut snapshot = Self::empty(settings);
        for record in records {
            snapshot.put(record);
        }
        snapshot.revision = revision;
        snapshot
    }

    /// The next state: `changes` applied, the revision one higher.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Self {
        self.advanced_to(self.revision.next(), changes)
    }

    /// The state at a later revision: `changes` are those of all the revisions between.
    #[must_use]
    pub fn advanced_to(&self, revision: Revision, changes: &Changes) -> Self {
        let mut next = self.clone();
        for change in changes.iter() {
            next.change(change.clone());
        }
        next.revision = revision;
        next
    }

    /// Number of this state.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// What the operator chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The record of this key.
    pub fn record(&self, key: RecordKey) -> Option<Record> {
        self.tables.get(key)
    }

    /// Every record, ordered by kind and id.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.tables.iter()
    }

    /// Number of records.
    pub fn record_count(&self) -> usize {
        self.tables.count()
    }

    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Delete(key) => {
                if let Some(old) = self.tables.get(key) {
                    self.indices.remove(&old);
                    self.tables.delete(key);
                }
            }
            Change::Put(record) => self.put(record),
        }
    }

    fn put(&mut self, record: Record) {
        if let Some(old) = self.tables.get(record.key()) {
            self.indices.remove(&old);
        }
        self.indices.insert(&record);
        self.tables.put(record);
    }
}
