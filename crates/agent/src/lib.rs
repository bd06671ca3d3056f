//! The host's side: fetches the plan, keeps it on disk, makes the kernel match it, and reports what it observed.
//!
//! The agent has no choice left to make and no state but the plan: each pass reads the kernel anew, so starting again,
//! at any moment and after any crash, changes nothing that is as it should be. Without a server it keeps
//! the last plan in force. Packets never pass through it.
//!
//! [`run`] is the whole agent. [`remove_everything`] takes a realm off the host.

pub mod config;
pub mod pass;
pub mod sweep;

mod control;
mod daemon;
mod ledger;
mod reconciler;
mod report;
mod units;

pub use config::AgentConfig;
pub use pass::{Pass, PassError, reconcile};
pub use reconciler::{AgentError, run};
pub use sweep::{RemoveError, remove_everything};
