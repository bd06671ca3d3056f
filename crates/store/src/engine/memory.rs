//! An engine that forgets everything with the process: for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isthmus_types::{AccountId, Revision};

use super::{AuditRecord, Batch, Engine, EngineError, Loaded, Row, RowChange, RowKey, TokenRow};

/// An engine in memory. Clones share their content, so that a clone plays the reopened database.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    rows: BTreeMap<RowKey, Row>,
    audit: Vec<AuditRecord>,
    tokens: BTreeMap<(AccountId, String), TokenRow>,
}

impl MemoryEngine {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    // A commit changes the state only after it can no longer fail, so a poisoned state is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let state = self.state();
        Ok(Loaded {
            revision: state.revision,
            rows: state.rows.values().cloned().collect(),
        })
    }

    fn revision(&mut self) -> Result<Revision, EngineError> {
        Ok(self.state().revision)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.state();
        if state.revision != batch.expected {
            return Err(EngineError::Conflict {
                expected: batch.expected,
                found: state.revision,
            });
        }
        for change in &batch.rows {
            match change {
                RowChange::Delete(key) => {
                    state.rows.remove(key);
                }
                RowChange::Put(row) => {
                    state.rows.insert(row.key, row.clone());
                }
            }
        }
        state.audit.extend(batch.audit.iter().cloned());
        if let Some(moment) = batch.forget_tokens_before {
            state.tokens.retain(|_, row| row.at >= moment);
        }
        for row in &batch.tokens {
            state.tokens.insert((row.account, row.token.clone()), row.clone());
        }
        state.revision = batch.revision;
        Ok(())
    }

    fn changes_after(&mut self, after: Revision) -> Result<(Revision, Vec<RowChange>), EngineError> {
        let state = self.state();
        let keys: BTreeSet<RowKey> = state
            .audit
            .iter()
            .filter(|record| record.revision > after)
            .flat_map(|record| &record.objects)
            .filter_map(|object| RowKey::parse(object))
            .collect();
        let changes = keys
            .into_iter()
            .map(|key| {
                state
                    .rows
                    .get(&key)
                    .cloned()
                    .map_or(RowChange::Delete(key), RowChange::Put)
            })
            .collect();
        Ok((state.revision, changes))
    }

    fn audit(&mut self, after: Revision, limit: usize) -> Result<Vec<AuditRecord>, EngineError> {
        let state = self.state();
        let records = state.audit.iter().filter(|record| record.revision > after);
        Ok(records.take(limit).cloned().collect())
    }

    fn token(&mut self, account: AccountId, token: &str) -> Result<Option<TokenRow>, EngineError> {
        Ok(self.state().tokens.get(&(account, token.to_owned())).cloned())
    }
}
