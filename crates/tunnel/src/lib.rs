//! The tunnel daemon: IKE and ESP of one host's VPN gateways.
//!
//! It is told what to run by [`TunnelRequest`](isthmus_hostplan::tunnel::TunnelRequest)s on a Unix stream socket, one
//! JSON object per line, and knows nothing of VPCs or of who sends them. A plan is applied as a difference to the one
//! before: an equal plan changes nothing, and a changed connection touches only itself. Losing the agent loses nothing.
//!
//! One control thread owns an [`isthmus_ike::Endpoint`] per gateway and everything that is slow. Each gateway has two
//! packet threads, or more where a connection has several SAs for the same traffic (see [`plane`]), that own its SAs. Devices, namespaces and addresses may come late, vanish and come
//! back: the gateway says what it waits for and goes on when it is there; its SAs survive.
//!
//! Protocols: RFC 7296 through `isthmus-ike`, RFC 4303 through `isthmus-esp`, RFC 3948 here. ESP is carried in UDP or as
//! it is (IP protocol 50), as IKE agrees; what arrives is taken either way.

mod connection;
mod control;
mod convert;
mod diagnosis;
mod gateway;
mod key_log;
mod listener;
mod path_mtu;
pub mod plane;
mod resolve;
mod signals;

use std::io;
use std::path::{Path, PathBuf};

use isthmus_hostplan::TunnelPlan;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The plan to begin with cannot be read.
    #[error("the plan {path} cannot be read")]
    Plan {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("the socket {path} cannot be made")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refused a thread or a signal descriptor.
    #[error("the daemon cannot start")]
    System(#[source] io::Error),
}

/// Runs the daemon until it is stopped over its socket or by SIGTERM or SIGINT; then deletes every SA at its peer.
///
/// To be called on the process's first thread before others are made: they must not take the signals.
///
/// # Errors
/// [`RunError`] if it cannot start.
pub fn run(socket: &Path) -> Result<(), RunError> {
    control::run(socket, None, None)
}

/// As [`run`], with the SAs of a gateway spread over up to `lanes` threads in each direction, whatever the cores and the
/// environment suggest: see [`plane::Plane::start_with_lanes`].
///
/// # Errors
/// [`RunError`] if it cannot start.
pub fn run_with_lanes(socket: &Path, lanes: usize) -> Result<(), RunError> {
    control::run(socket, None, Some(lanes))
}

/// As [`run`], beginning with the plan in the file `plan` (JSON, a
/// [`TunnelPlan`]). Requests on the socket may replace it.
///
/// # Errors
/// [`RunError`] if it cannot start.
pub fn run_with_plan(socket: &Path, plan: &Path) -> Result<(), RunError> {
    let failed = |source| RunError::Plan {
        path: plan.to_owned(),
        source,
    };
    let text = zeroize::Zeroizing::new(std::fs::read(plan).map_err(failed)?);
    let plan: TunnelPlan = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
    control::run(socket, Some(plan), None)
}
