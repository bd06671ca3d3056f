//! The one thread that writes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use isthmus_crypto::seal::SealingKey;
use isthmus_model::{Change, Changes, IdSource, RecordKey, Snapshot, apply};
use isthmus_ops::{OpError, OpErrorCode, Outcome, Request, ResourceKind};
use isthmus_types::{AccountId, Revision, Timestamp, VpcId};
use tokio::sync::{mpsc, oneshot};

use crate::codec::{EncodeError, Remembered, decode, encode, fingerprint, open_answer, seal_answer};
use crate::engine::{AuditRecord, Batch, Engine, EngineError, RowChange, RowKey, TokenRow};
use crate::error::StoreError;
use crate::store::{Shared, restore};

/// Operations that share one flush at most.
const MOST_IN_BATCH: usize = 256;
/// How often a batch is tried while other writers are faster.
const MOST_ATTEMPTS: u32 = 4;
/// How long answers are remembered, milliseconds.
const TOKEN_LIFE: u64 = 24 * 60 * 60 * 1000;
/// How often forgotten answers are removed, milliseconds.
const TOKEN_SWEEP: u64 = 60 * 60 * 1000;
/// Longest idempotency token, bytes.
const LONGEST_TOKEN: usize = 256;

type Answer = Result<Outcome, OpError>;

/// What the writer is asked for.
pub(crate) enum Job {
    Audit {
        after: Revision,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<AuditRecord>, EngineError>>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
    Execute {
        request: Box<Request>,
        reply: oneshot::Sender<Answer>,
    },
}

pub(crate) struct Writer {
    engine: Box<dyn Engine>,
    key: SealingKey,
    shared: Arc<Shared>,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    ids: Box<dyn IdSource + Send>,
    /// A commit failed and may or may not have happened.
    uncertain: bool,
    last_sweep: Timestamp,
}

/// The operations of one batch, applied one after the other and not yet committed.
struct Pending {
    base: Revision,
    state: Snapshot,
    scopes: Vec<(Revision, BTreeSet<VpcId>)>,
    rows: BTreeMap<RowKey, RowChange>,
    audit: Vec<AuditRecord>,
    tokens: BTreeMap<(AccountId, String), TokenRow>,
}

impl Writer {
    pub(crate) fn new(
        engine: Box<dyn Engine>,
        key: SealingKey,
        shared: Arc<Shared>,
        clock: Box<dyn Fn() -> Timestamp + Send>,
        ids: Box<dyn IdSource + Send>,
    ) -> Self {
        Self {
            engine,
            key,
            shared,
            clock,
            ids,
            uncertain: false,
            last_sweep: Timestamp::default(),
        }
    }

    /// Works until the store is closed or its last handle is dropped.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut executions = Vec::new();
            let mut next = Some(first);
            let mut after = None;
            while let Some(job) = next.take() {
                match job {
                    Job::Execute { request, reply } => {
                        executions.push((request, reply));
                        if executions.len() < MOST_IN_BATCH {
                            next = queue.try_recv().ok();
                        }
                    }
                    Job::Audit { .. } | Job::Close { .. } => after = Some(job),
                }
            }
            if !executions.is_empty() {
                self.execute(executions);
            }
            match after {
                Some(Job::Audit { after, limit, reply }) => {
                    // The asker may have gone; then nobody misses the answer.
                    let _ = reply.send(self.engine.audit(after, limit));
                }
                Some(Job::Close { reply }) => {
                    queue.close();
                    drop(self);
                    let _ = reply.send(());
                    return;
                }
                Some(Job::Execute { .. }) | None => {}
            }
        }
    }

    fn execute(&mut self, executions: Vec<(Box<Request>, oneshot::Sender<Answer>)>) {
        let (requests, replies): (Vec<_>, Vec<_>) = executions.into_iter().unzip();
        let mut result = self.attempt(&requests);
        // A lost race against another writer: the pure functions run again on what that one left.
        for _ in 1..MOST_ATTEMPTS {
            if !matches!(result, Err(StoreError::Engine(EngineError::Conflict { .. }))) {
                break;
            }
            result = self.attempt(&requests);
        }
        match result {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // The asker may have gone; the operation stands.
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "operations could not be stored");
                for reply in replies {
                    let _ = reply.send(Err(unavailable(chain(&error))));
                }
            }
        }
    }

    /// Carries the requests out one after the other and commits what they change. The answers stand only if this
    /// succeeds; refusals too, for they may rest on changes of the same batch.
    fn attempt(&mut self, requests: &[Box<Request>]) -> Result<Vec<Answer>, StoreError> {
        self.be_certain()?;
        let state = Snapshot::clone(&self.shared.snapshot.load());
        let mut pending = Pending {
            base: state.revision(),
            state,
            scopes: Vec::new(),
            rows: BTreeMap::new(),
            audit: Vec::new(),
            tokens: BTreeMap::new(),
        };
        let answers = requests
            .iter()
            .map(|request| self.one(request, &mut pending))
            .collect();
        self.commit(&mut pending).map_err(StoreError::Engine)?;
        Ok(answers)
    }

    fn one(&mut self, request: &Request, pending: &mut Pending) -> Answer {
        let now = (self.clock)();
        if let Some(token) = &request.idempotency_token
            && let Some(answer) = self.remembered(request, token, now, pending)?
        {
            return Ok(answer);
        }
        let ids = &mut *self.ids;
        // A panic is a fault of ours in one operation; the state is untouched, and the others must go on.
        let (changes, outcome) = catch_unwind(AssertUnwindSafe(|| apply(&pending.state, request, now, ids)))
            .unwrap_or_else(|_| Err(internal("the operation panicked".to_owned())))?;
        if changes.is_empty() && request.idempotency_token.is_none() {
            return Ok(outcome);
        }
        let next = pending.state.with(&changes);
        let revision = next.revision();
        // Everything that can fail comes before the first trace in the batch.
        let rows = changes
            .iter()
            .map(|change| encode(change, revision, &self.key))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|EncodeError(detail)| internal(detail))?;
        let token = self.token_row(request, &outcome, now)?;
        let caller = &request.caller;
        pending.audit.push(AuditRecord {
            revision,
            at: now,
            account: caller.account,
            user: caller.user,
            via: caller.via,
            request_id: caller.request_id.clone(),
            operation: request.operation.name().to_owned(),
            objects: rows.iter().map(|row| row.key().to_string()).collect(),
        });
        pending.rows.extend(rows.into_iter().map(|row| (row.key(), row)));
        if let Some(row) = token {
            pending.tokens.insert((row.account, row.token.clone()), row);
        }
        let vpcs = changes.vpc_scope(&pending.state, &next);
        pending.scopes.push((revision, vpcs));
        pending.state = next;
        Ok(outcome)
    }
    /// The answer that an earlier use of the token got, if this is a repetition.
    fn remembered(
        &mut self,
        request: &Request,
        token: &str,
        now: Timestamp,
        pending: &Pending,
    ) -> Result<Option<Outcome>, OpError> {
        let refusal = |why| {
            Err(
                OpError::new(OpErrorCode::InvalidField, ResourceKind::Account, why)
                    .with_field("idempotency_token"),
            )
        };
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return refusal("an idempotency token has 1 to 256 bytes");
        }
        let account = request.caller.account;
        let row = match pending.tokens.get(&(account, token.to_owned())) {
            Some(row) => Some(row.clone()),
            None => self
                .engine
                .token(account, token)
                .map_err(|error| unavailable(chain(&error)))?,
        };
        let Some(row) = row.filter(|row| now.since(row.at) < TOKEN_LIFE) else {
            return Ok(None);
        };
        let Some(remembered) = open_answer(account, token, &row.body, &self.key) else {
            tracing::warn!(%account, "a remembered answer cannot be read; the request is carried out anew");
            return Ok(None);
        };
        if remembered.request == fingerprint(&request.operation) {
            Ok(Some(remembered.outcome))
        } else {
            refusal("the idempotency token was used for another request")
        }
    }

    fn token_row(
        &self,
        request: &Request,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<Option<TokenRow>, OpError> {
        let Some(token) = &request.idempotency_token else {
            return Ok(None);
        };
        let account = request.caller.account;
        let remembered = Remembered {
            request: fingerprint(&request.operation),
            outcome: outcome.clone(),
        };
        let body = seal_answer(account, token, &remembered, &self.key)
            .map_err(|EncodeError(detail)| internal(detail))?;
        Ok(Some(TokenRow {
            account,
            token: token.clone(),
            at: now,
            body,
        }))
    }

    /// Makes the batch durable, then visible.
    fn commit(&mut self, pending: &mut Pending) -> Result<(), EngineError> {
        let revision = pending.state.revision();
        if revision == pending.base {
            return Ok(());
        }
        let now = (self.clock)();
        let sweep = now.since(self.last_sweep) >= TOKEN_SWEEP;
        let batch = Batch {
            expected: pending.base,
            revision,
            rows: std::mem::take(&mut pending.rows).into_values().collect(),
            audit: std::mem::take(&mut pending.audit),
            tokens: std::mem::take(&mut pending.tokens).into_values().collect(),
            forget_tokens_before: sweep.then(|| Timestamp(now.0.saturating_sub(TOKEN_LIFE))),
        };
        if let Err(error) = self.engine.commit(&batch) {
            self.uncertain = true;
            // Unless the backend shows that it took the batch, the operations have failed.
            if matches!(error, EngineError::Conflict { .. }) || !self.has_taken(&batch) {
                return Err(error);
            }
            tracing::warn!(error = chain(&error), %revision, "a commit succeeded although it reported a failure");
            self.uncertain = false;
        }
        if sweep {
            self.last_sweep = now;
        }
        for (revision, vpcs) in pending.scopes.drain(..) {
            self.shared.feed.push(revision, vpcs);
        }
        self.shared.publish(Arc::new(pending.state.clone()));
        Ok(())
    }

    // The revision alone could be another writer's.
    fn has_taken(&mut self, batch: &Batch) -> bool {
        matches!(self.engine.revision(), Ok(found) if found == batch.revision)
            && matches!(self.engine.audit(batch.expected, batch.audit.len()), Ok(found) if found == batch.audit)
    }

    /// After a failed commit: finds out where the backend stands, and follows it if it went on.
    fn be_certain(&mut self) -> Result<(), StoreError> {
        if !self.uncertain {
            return Ok(());
        }
        let current = self.shared.snapshot.load_full();
        let (revision, rows) = self
            .engine
            .changes_after(current.revision())
            .map_err(StoreError::Engine)?;
        if revision > current.revision() {
            let changes = rows
                .iter()
                .map(|change| match change {
                    RowChange::Delete(key) => Ok(Change::Delete(RecordKey::new(key.kind, key.bits))),
                    RowChange::Put(row) => decode(row, &self.key).map(Change::Put),
                })
                .collect::<Result<Changes, StoreError>>()?;
            let next = current.advanced_to(revision, &changes);
            self.shared
                .feed
                .push(revision, changes.vpc_scope(&current, &next));
            self.shared.publish(Arc::new(next));
        } else if revision < current.revision() {
            let loaded = self.engine.load().map_err(StoreError::Engine)?;
            let restored = restore(current.settings().clone(), &loaded, &self.key)?;
            self.shared.feed.restart(restored.revision());
            self.shared.publish(Arc::new(restored));
        }
        self.uncertain = false;
        Ok(())
    }
}

/// An error with all its causes, for our own log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

fn unavailable(detail: String) -> OpError {
    OpError::new(
        OpErrorCode::Unavailable,
        ResourceKind::Account,
        "the service cannot store changes at the moment, nothing was changed",
    )
    .with_private(detail)
}

fn internal(detail: String) -> OpError {
    tracing::error!(detail, "an operation failed through a fault of ours");
    OpError::new(
        OpErrorCode::Internal,
        ResourceKind::Account,
        "the service failed, nothing was changed",
    )
    .with_private(detail)
}
