//! The running control plane: follows the store, answers agents, records what they report.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isthmus_hostplan::{HostReport, PlanDelta};
use isthmus_model::Snapshot;
use isthmus_ops::{Caller, HostFindings, Operation, Request, Via};
use isthmus_runtime::{Shutdown, clock, private_file};
use isthmus_store::{ChangedVpcs, Store};
use isthmus_types::{AccountId, Generation, HostName, ResourceBits, Revision, VpnConnectionId};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::desk::{Desk, Hearing};
use crate::http::{self, Health};
use crate::observed::{Observed, ObservedConnection};
use crate::publication::Unfit;

/// Time without a word from the host after which it counts as silent. It asks at least every 25 s.
pub const SILENT_AFTER: Duration = Duration::from_secs(30);

/// How often is looked for what no event announces: connections missing for long, writes that failed.
const TICK: Duration = Duration::from_secs(1);

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket for agents cannot be made or served.
    #[error("{}: {step} failed", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Runs the control plane of one host on the Unix socket `socket` until `shutdown`. A socket that a dead process left
/// is replaced.
///
/// # Errors
/// [`ControlError`] if the socket cannot be made.
pub async fn serve(store: Store, socket: &Path, shutdown: Shutdown) -> Result<(), ControlError> {
    serve_observed(store, socket, shutdown, &Observed::new()).await
}

/// As [`serve`], and shows what goes on in `observed`.
///
/// # Errors
/// As [`serve`].
pub async fn serve_observed(
    store: Store,
    socket: &Path,
    shutdown: Shutdown,
    observed: &Observed,
) -> Result<(), ControlError> {
    let failed = |step, source| ControlError::Socket {
        path: socket.to_owned(),
        step,
        source,
    };
    // Changes after this are announced; those before are in the snapshot.
    let mut revisions = store.watch();
    revisions.borrow_and_update();
    let control = Arc::new(Control::new(store, shutdown.clone()));
    observed.show(&control);
    private_file::remove(socket).map_err(|e| failed("removing the old socket", e))?;
    let listener = UnixListener::bind(socket).map_err(|e| failed("making the socket", e))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
        .map_err(|e| failed("protecting the socket", e))?;
    let follower = tokio::spawn(follow(Arc::clone(&control), revisions));
    let ticker = tokio::spawn(tick(Arc::clone(&control)));
    let served = axum::serve(listener, http::routes(control))
        .with_graceful_shutdown(shutdown.wait())
        .await;
    shutdown.trigger();
    for task in [follower, ticker] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a part of the control plane failed");
        }
    }
    let _ = private_file::remove(socket);
    served.map_err(|e| failed("serving", e))
}

async fn follow(control: Arc<Control>, mut revisions: watch::Receiver<Revision>) {
    loop {
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = control.ending() => return,
        }
        revisions.borrow_and_update();
        control.catch_up();
        control.record().await;
    }
}

async fn tick(control: Arc<Control>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = control.ending() => return,
        }
        control.note_hearing();
        control.record().await;
    }
}

/// The control plane, shared by its tasks and the requests of agents.
pub(crate) struct Control {
    store: Store,
    desk: Mutex<Desk>,
    published: watch::Sender<Generation>,
    /// Held while something is recorded, so that no two tasks record the same.
    recording: tokio::sync::Mutex<()>,
    shutdown: Shutdown,
}

impl Control {
    pub(crate) fn new(store: Store, shutdown: Shutdown) -> Self {
        let snapshot = store.snapshot();
        let (desk, unfit) = Desk::new(&snapshot);
        tell(&unfit);
        tracing::info!(generation = %desk.generation(), "everything is planned");
        Self {
            published: watch::Sender::new(desk.generation()),
            store,
            desk: Mutex::new(desk),
            recording: tokio::sync::Mutex::new(()),
            shutdown,
        }
    }

    /// Plans what has changed in the store and publishes it.
    pub(crate) fn catch_up(&self) {
        let mut desk = self.desk();
        let snapshot = self.store.snapshot();
        if snapshot.revision() == desk.planned() {
            return;
        }
        let vpcs = match self.store.changed_vpcs_since(desk.planned()) {
            ChangedVpcs::Everything => None,
            ChangedVpcs::Some(vpcs) => Some(vpcs),
        };
        let (changed, unfit) = desk.follow(&snapshot, vpcs);
        tell(&unfit);
        if changed {
            self.published.send_replace(desk.generation());
        }
    }

    /// Takes a report and records what is new in it.
    pub(crate) async fn hear(&self, report: HostReport) {
        self.desk().hear(report, clock::now());
        self.record().await;
    }

    /// Records whatever the last report says and the model does not yet. What fails now is tried again with the next
    /// event or tick.
    pub(crate) async fn record(&self) {
        let _alone = self.recording.lock().await;
        let digest = {
            let mut desk = self.desk();
            desk.digest(&self.snapshot(), clock::now())
        };
        if !digest.updates.is_empty() {
            self.apply(Operation::RecordStatus(digest.updates)).await;
        }
        if digest.findings != HostFindings::default() {
            self.apply(Operation::FinishDeletion(digest.findings)).await;
        }
    }

    /// What an agent that has the plan of generation `after` lacks.
    pub(crate) fn delta(&self, after: Generation) -> Option<PlanDelta> {
        self.desk().delta(after, clock::now())
    }

    /// Announces each new generation.
    pub(crate) fn published(&self) -> watch::Receiver<Generation> {
        self.published.subscribe()
    }

    pub(crate) fn is_for(&self, host: &HostName) -> bool {
        self.desk().host() == host
    }

    pub(crate) fn health(&self) -> Health {
        self.desk().health(clock::now())
    }

    pub(crate) fn observe(&self, connection: VpnConnectionId) -> Option<ObservedConnection> {
        self.desk().observe(connection, clock::now())
    }

    pub(crate) fn metrics(&self, account: AccountId) -> Option<String> {
        let snapshot = self.snapshot();
        let first = snapshot
            .accounts()
            .min_by_key(|found| (found.created_at, found.id))
            .map(|found| found.id);
        let is_operator = first == Some(account);
        self.desk().metrics(&snapshot, account, is_operator, clock::now())
    }

    pub(crate) fn ending(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shutdown.wait()
    }

    fn note_hearing(&self) {
        match self.desk().hearing(SILENT_AFTER, clock::now()) {
            Some(Hearing::Lost) => tracing::warn!("the host is silent; its last states stay as recorded"),
            Some(Hearing::Back) => tracing::info!("the host is heard again"),
            None => {}
        }
    }

    async fn apply(&self, operation: Operation) {
        let request = Request {
            caller: Caller {
                account: AccountId(ResourceBits::from_random(0)),
                user: None,
                via: Via::System,
                request_id: "host-report".to_owned(),
            },
            operation,
            idempotency_token: None,
        };
        if let Err(error) = self.store.execute(request).await {
            tracing::warn!(%error, "what the host reported could not be recorded yet");
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing that is done under the lock leaves it half done.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(unfit: &[Unfit]) {
    for Unfit { vpc, violations } in unfit {
        tracing::error!(%vpc, ?violations, "the plan of a VPC is unfit; the one before stays");
    }
}
