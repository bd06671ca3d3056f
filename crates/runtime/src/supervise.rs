//! Child processes: started, adopted when they outlived their starter, restarted when they end, stopped in order.
//!
//! A child holds a [`PidFile`] while it lives. So a supervisor that was killed finds its children again, and
//! [`stop`] works on processes that somebody else started.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::pid_file::{PidFile, PidFileError};
use crate::shutdown::Shutdown;

/// Time that a child has to end after SIGTERM before it is killed.
pub const GRACE: Duration = Duration::from_secs(10);

/// A child that ran this long had started well: the next restart is immediate again.
const STEADY: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// What a child process is started with. No secret may stand in it: every user of the machine can read arguments.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// What it is called in messages.
    pub name: &'static str,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments, without the name of the program.
    pub arguments: Vec<OsString>,
    /// File that its standard output and error streams are appended to.
    pub log: PathBuf,
    /// Pid file that the child itself takes and holds while it lives.
    pub pid_file: PathBuf,
}

/// What becomes of the child when its supervisor is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtShutdown {
    /// It runs on, and the next supervisor adopts it.
    Leave,
    /// It is stopped first.
    Stop,
}

/// What happened to a supervised child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisionEvent {
    /// One that ran already is supervised from now on.
    Adopted {
        /// Its process id.
        pid: i32,
    },
    /// It ended, or could not be started; it is started again after `retry_in`.
    Ended {
        /// How, in words.
        how: String,
        /// How long until the next start.
        retry_in: Duration,
    },
    /// It was started.
    Started {
        /// Its process id.
        pid: i32,
    },
    /// It was stopped on request.
    Stopped,
}

/// Why a process could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Its pid file could not be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// It could not be signalled.
    #[error("signalling process {pid} failed")]
    Signal {
        /// The process.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It does not end even when killed.
    #[error("process {pid} does not end")]
    Stuck {
        /// The process.
        pid: i32,
    },
}

impl ChildSpec {
    /// Starts the child in a process group of its own, so that a terminal's Ctrl-C does not reach it. Dropping the
    /// returned handle leaves it running.
    ///
    /// # Errors
    /// Those of opening the log or starting the program.
    pub fn spawn(&self) -> io::Result<Child> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.log)?;
        Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
    }

    /// Whether process `pid` runs this very program with these arguments.
    fn describes(&self, pid: i32) -> bool {
        let executable = fs::read_link(format!("/proc/{pid}/exe"));
        let same_program = match (executable, fs::canonicalize(&self.program)) {
            (Ok(running), Ok(ours)) => running == ours,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        };
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
            return false;
        };
        let running = line.split(|byte| *byte == 0).map(OsStr::from_bytes).skip(1);
        let ours = self.arguments.iter().map(OsString::as_os_str);
        // The line ends in a zero byte, so an empty item closes it.
        same_program && running.eq(ours.chain([OsStr::new("")]))
    }
}

/// Keeps one child running until `shutdown`, and tells `observer` what happens to it.
///
/// A child that runs already with the same program and arguments is adopted; one with others is replaced.
pub async fn supervise(
    spec: ChildSpec,
    at_shutdown: AtShutdown,
    shutdown: Shutdown,
    observer: impl Fn(SupervisionEvent) + Send,
) {
    let mut retry = Duration::ZERO;
    let mut child = None;
    while !shutdown.is_triggered() {
        let began = Instant::now();
        let how = tokio::select! {
            how = run_once(&spec, &mut child, &observer) => how,
            () = shutdown.wait() => break,
        };
        retry = if began.elapsed() >= STEADY {
            Duration::ZERO
        } else {
            retry
        };
        observer(SupervisionEvent::Ended { how, retry_in: retry });
        tokio::select! {
            () = sleep(retry) => {}
            () = shutdown.wait() => break,
        }
        retry = (retry * 2).clamp(RETRY_FIRST, RETRY_MOST);
    }
    match at_shutdown {
        AtShutdown::Leave => {}
        AtShutdown::Stop => {
            let stopped = match child {
                Some(child) => stop_child(child).await,
                None => stop(&spec.pid_file, GRACE).await,
            };
            if let Err(error) = stopped {
                tracing::warn!(process = spec.name, %error, "the process was not stopped");
            }
            observer(SupervisionEvent::Stopped);
        }
    }
}

/// Ends the process that holds `pid_file`, if any: asks it to, and kills it after `grace`.
///
/// # Errors
/// [`StopError`] if it cannot be signalled or does not go even then.
pub async fn stop(pid_file: &Path, grace: Duration) -> Result<(), StopError> {
    let Some(pid) = running(pid_file)? else {
        return Ok(());
    };
    signal(pid, Signal::SIGTERM)?;
    if gone_within(pid_file, pid, grace).await? {
        return Ok(());
    }
    signal(pid, Signal::SIGKILL)?;
    if gone_within(pid_file, pid, GRACE).await? {
        Ok(())
    } else {
        Err(StopError::Stuck { pid })
    }
}

/// Process id of the live process that holds `pid_file`.
///
/// # Errors
/// [`PidFileError::File`].
pub fn running(pid_file: &Path) -> Result<Option<i32>, PidFileError> {
    Ok(PidFile::holder(pid_file)?.and_then(|holder| holder.pid))
}

/// Waits for one life of the child to end and says how it did. `slot` holds the child while one of ours runs.
async fn run_once(
    spec: &ChildSpec,
    slot: &mut Option<Child>,
    observer: &(impl Fn(SupervisionEvent) + Send),
) -> String {
    match running(&spec.pid_file) {
        Ok(Some(pid)) if spec.describes(pid) => {
            observer(SupervisionEvent::Adopted { pid });
            return match wait_until_gone(&spec.pid_file, pid).await {
                Ok(()) => "the adopted process ended".to_owned(),
                Err(error) => error.to_string(),
            };
        }
        Ok(Some(_)) => {
            if let Err(error) = stop(&spec.pid_file, GRACE).await {
                return format!("an older one could not be stopped: {error}");
            }
        }
        Ok(None) => {}
        Err(error) => return error.to_string(),
    }
    match spec.spawn() {
        Ok(started) => {
            let child = slot.insert(started);
            if let Some(pid) = pid_of(child) {
                observer(SupervisionEvent::Started { pid });
            }
            let ended = child.wait().await;
            *slot = None;
            match ended {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => format!("{} could not be started: {error}", spec.program.display()),
    }
}

/// Stops a child of this process, also one that has not taken its pid file yet.
async fn stop_child(mut child: Child) -> Result<(), StopError> {
    let Some(pid) = pid_of(&child) else {
        return Ok(());
    };
    for step in [Signal::SIGTERM, Signal::SIGKILL] {
        signal(pid, step)?;
        if timeout(GRACE, child.wait()).await.is_ok() {
            return Ok(());
        }
    }
    Err(StopError::Stuck { pid })
}

fn pid_of(child: &Child) -> Option<i32> {
    child.id().and_then(|pid| i32::try_from(pid).ok())
}

async fn gone_within(pid_file: &Path, pid: i32, limit: Duration) -> Result<bool, StopError> {
    match timeout(limit, wait_until_gone(pid_file, pid)).await {
        Ok(ended) => ended.map(|()| true).map_err(StopError::from),
        Err(_) => Ok(false),
    }
}

async fn wait_until_gone(pid_file: &Path, pid: i32) -> Result<(), PidFileError> {
    while running(pid_file)? == Some(pid) {
        sleep(POLL).await;
    }
    Ok(())
}

fn signal(pid: i32, signal: Signal) -> Result<(), StopError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(StopError::Signal {
            pid,
            source: error.into(),
        }),
    }
}

#[cfg(test)]
mod tests;
