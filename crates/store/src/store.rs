//! The front: what everybody else calls.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use isthmus_crypto::prf::{constant_time_equal, sha256};
use isthmus_crypto::seal::SealingKey;
use isthmus_model::{IdSource, Settings, Snapshot};
use isthmus_ops::{Caller, OpError, OpErrorCode, Outcome, Query, Request, ResourceKind};
use isthmus_runtime::random;
use isthmus_types::{AccountId, Revision, Timestamp, UserId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::codec::decode;
use crate::engine::{AuditRecord, Engine, Loaded, SqliteEngine};
use crate::error::StoreError;
use crate::feed::{ChangedVpcs, Feed};
use crate::writer::{Job, Writer};

/// Operations that may wait for the writer; more are held back where they come from.
const QUEUE: usize = 1024;
/// Revisions with changed VPCs that [`Store::changed_vpcs_since`] remembers.
const REMEMBERED_CHANGES: usize = 4096;

/// What a store is opened with.
pub struct StoreOptions {
    /// The database file; made if missing.
    pub path: PathBuf,
    /// Seals secrets at rest.
    pub sealing_key: SealingKey,
    /// What the operator chose.
    pub settings: Settings,
}

/// The durable state of an installation. Clones are handles to the same store.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What readers see and the writer publishes.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) revision: watch::Sender<Revision>,
    pub(crate) feed: Feed,
}

impl Shared {
    /// Shows `snapshot` to readers. Whoever learns of the revision finds the snapshot and the changed VPCs there.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        let revision = snapshot.revision();
        self.snapshot.store(snapshot);
        self.revision.send_replace(revision);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.snapshot().revision())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the SQLite database of `options`, reads all of it into memory and starts the writer thread. Blocks
    /// meanwhile. `clock` tells the time of each operation.
    ///
    /// # Errors
    /// [`StoreError`] if settings, file, key or a stored record cannot be used.
    pub fn open(
        options: StoreOptions,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Result<Self, StoreError> {
        options.settings.check().map_err(StoreError::Settings)?;
        let engine = SqliteEngine::open(&options.path).map_err(StoreError::Engine)?;
        Self::with_engine(Box::new(engine), options.sealing_key, options.settings, clock)
    }

    /// As [`Store::open`], on any engine.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_engine(
        engine: Box<dyn Engine>,
        sealing_key: SealingKey,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::with_ids(engine, sealing_key, settings, clock, random::resource_bits)
    }

    fn with_ids(
        mut engine: Box<dyn Engine>,
        sealing_key: SealingKey,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
        ids: impl IdSource + Send + 'static,
    ) -> Result<Self, StoreError> {
        settings.check().map_err(StoreError::Settings)?;
        let loaded = engine.load().map_err(StoreError::Engine)?;
        let snapshot = Arc::new(restore(settings, &loaded, &sealing_key)?);
        let revision = snapshot.revision();
        tracing::info!(%revision, records = snapshot.record_count(), "store opened");
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::new(snapshot),
            revision: watch::Sender::new(revision),
            feed: Feed::new(revision, REMEMBERED_CHANGES),
        });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(
            engine,
            sealing_key,
            Arc::clone(&shared),
            Box::new(clock),
            Box::new(ids),
        );
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(StoreError::Thread)?;
        Ok(Self { shared, jobs })
    }

    /// Carries out an operation. When this returns an outcome, the change is on disk and every later read sees it.
    /// Dropping the future does not withdraw the operation.
    ///
    /// # Errors
    /// What [`isthmus_model::apply`] refuses, and [`OpErrorCode::Unavailable`] if the disk failed or the store is
    /// closed. Nothing was changed then.
    pub async fn execute(&self, request: Request) -> Result<Outcome, OpError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(Job::Execute {
                request: Box::new(request),
                reply,
            })
            .await
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Answers a query from memory.
    ///
    /// # Errors
    /// As [`isthmus_model::query`].
    pub fn query(&self, caller: &Caller, query: &Query) -> Result<Outcome, OpError> {
        isthmus_model::query(&self.shared.snapshot.load(), caller, query)
    }

    /// The newest committed state.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Tells each new revision. It carries nothing else: read [`Store::snapshot`].
    pub fn watch(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// The VPCs whose plans may differ between the state at `revision` and the newest one.
    pub fn changed_vpcs_since(&self, revision: Revision) -> ChangedVpcs {
        self.shared.feed.since(revision)
    }

    /// The account and user that an API key stands for. Only hashes are compared, in constant time.
    pub fn account_of_api_key(&self, presented: &str) -> Option<(AccountId, UserId)> {
        let hash = sha256(&[presented.as_bytes()]);
        let snapshot = self.shared.snapshot.load();
        let key = snapshot.api_key_by_hash(&hash)?;
        constant_time_equal(&key.hash, &hash).then_some((key.account, key.user))
    }

    /// Audit records after revision `after`, ascending, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the backend cannot be read or the store is closed.
    pub async fn audit(&self, after: Revision, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Audit { after, limit, reply };
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer
            .await
            .map_err(|_| StoreError::Closed)?
            .map_err(StoreError::Engine)
    }

    /// Carries out what was asked for before, closes the backend and refuses every later operation. Reads go on.
    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.jobs.send(Job::Close { reply }).await.is_ok() {
            // No answer means that another handle's call has closed it first.
            let _ = answer.await;
        }
    }
}

/// The state that a backend holds.
pub(crate) fn restore(settings: Settings, loaded: &Loaded, key: &SealingKey) -> Result<Snapshot, StoreError> {
    let records = loaded
        .rows
        .iter()
        .map(|row| decode(row, key))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Snapshot::from_records(settings, loaded.revision, records))
}

fn closed() -> OpError {
    OpError::new(
        OpErrorCode::Unavailable,
        ResourceKind::Account,
        "the service is shutting down",
    )
}
