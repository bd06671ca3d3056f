//! The tunnel daemon: kept running, told what to run, listened to.
//!
//! It outlives the agent. A new agent adopts it, and telling it the plan that it already runs changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use isthmus_hostplan::{TunnelPlan, TunnelReport};
use isthmus_runtime::Shutdown;
use isthmus_runtime::supervise::{AtShutdown, ChildSpec, SupervisionEvent, supervise};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep};

/// How soon the daemon's socket is tried again. A daemon that was killed is back after some ten milliseconds.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MOST: Duration = Duration::from_millis(200);

/// How often the daemon's counters are read; changes of state it tells by itself.
const COUNTERS: Duration = Duration::from_secs(5);

/// The agent's end of the tunnel daemon.
pub(crate) struct Daemon {
    /// None until the first plan is known: a daemon that runs already goes on with what it has.
    plan: watch::Sender<Option<Arc<TunnelPlan>>>,
}

impl Daemon {
    /// Begins to look after the daemon. Every report of it is sent to `reports`, and none when it is not there.
    /// The daemon is started when the first plan with a gateway is given.
    pub(crate) fn start(
        socket: PathBuf,
        spec: ChildSpec,
        shutdown: Shutdown,
        reports: mpsc::UnboundedSender<Option<TunnelReport>>,
    ) -> Self {
        let (plan, wanted) = watch::channel(None);
        let ending = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = look_after(socket, spec, shutdown, wanted, reports) => {}
                () = ending.wait() => {}
            }
        });
        Self { plan }
    }

    /// Tells the daemon what to run from now on.
    pub(crate) fn apply(&self, plan: TunnelPlan) {
        self.plan.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&plan);
            if changed {
                *current = Some(Arc::new(plan));
            }
            changed
        });
    }
}

async fn look_after(
    socket: PathBuf,
    spec: ChildSpec,
    shutdown: Shutdown,
    mut wanted: watch::Receiver<Option<Arc<TunnelPlan>>>,
    reports: mpsc::UnboundedSender<Option<TunnelReport>>,
) {
    let has_gateways =
        |plan: &Option<Arc<TunnelPlan>>| plan.as_ref().is_some_and(|plan| !plan.gateways.is_empty());
    if !spec.pid_file.exists() && wanted.wait_for(has_gateways).await.is_err() {
        return;
    }
    tokio::spawn(supervise(
        spec,
        AtShutdown::Leave,
        shutdown,
        |event| match event {
            SupervisionEvent::Ended { .. } => tracing::warn!(?event, "the tunnel daemon ended"),
            SupervisionEvent::Adopted { .. }
            | SupervisionEvent::Started { .. }
            | SupervisionEvent::Stopped => {
                tracing::info!(?event, "tunnel daemon");
            }
        },
    ));
    let mut retry = RETRY_FIRST;
    loop {
        let began = Instant::now();
        let watching = watch_reports(&socket, &reports);
        let applying = apply_plans(&socket, &mut wanted, &reports);
        // Both end only when the daemon does.
        let result = tokio::select! {
            result = watching => result,
            result = applying => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, "no connection to the tunnel daemon");
        }
        if reports.send(None).is_err() {
            return;
        }
        if began.elapsed() > RETRY_MOST {
            retry = RETRY_FIRST;
        }
        sleep(retry).await;
        retry = (retry * 2).min(RETRY_MOST);
    }
}

async fn watch_reports(
    socket: &Path,
    reports: &mpsc::UnboundedSender<Option<TunnelReport>>,
) -> io::Result<()> {
    let mut stream = Stream::connect(socket).await?;
    stream.send(&TunnelRequest::Watch).await?;
    loop {
        match stream.next().await? {
            TunnelReply::Report { report } => {
                if reports.send(Some(report)).is_err() {
                    return Ok(());
                }
            }
            TunnelReply::Applied => {}
            TunnelReply::Refused { reason } => return Err(io::Error::other(reason)),
        }
    }
}

async fn apply_plans(
    socket: &Path,
    wanted: &mut watch::Receiver<Option<Arc<TunnelPlan>>>,
    reports: &mpsc::UnboundedSender<Option<TunnelReport>>,
) -> io::Result<()> {
    let mut stream = Stream::connect(socket).await?;
    let mut counters = interval(COUNTERS);
    // Whatever the daemon runs, it is told the plan first, once that is known.
    wanted.mark_changed();
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                changed.map_err(io::Error::other)?;
                let plan = wanted.borrow_and_update().as_deref().cloned();
                if let Some(plan) = plan {
                    stream.send(&TunnelRequest::Apply { plan }).await?;
                }
            }
            _ = counters.tick() => stream.send(&TunnelRequest::Report).await?,
            reply = stream.next() => match reply? {
                TunnelReply::Applied => {}
                TunnelReply::Refused { reason } => tracing::error!(reason, "the tunnel daemon refused a request"),
                TunnelReply::Report { report } => {
                    if reports.send(Some(report)).is_err() {
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// A connection that carries one JSON object per line each way.
struct Stream {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Stream {
    async fn connect(socket: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        Ok(Self {
            lines: BufReader::new(reader).lines(),
            writer,
        })
    }

    async fn send(&mut self, request: &TunnelRequest) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    async fn next(&mut self) -> io::Result<TunnelReply> {
        let line = self
            .lines
            .next_line()
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(serde_json::from_str(&line)?)
    }
}
