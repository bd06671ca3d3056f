//! Control: from what the model says to what a host must have, and from what the host reports back to the model.
//!
//! [`serve`] follows the store. Each new revision is planned at once, for the VPCs that it touched only; an agent that
//! waits on the Unix socket gets the difference in the same moment. Reports are turned into
//! [`isthmus_ops::Operation::RecordStatus`] for what differs from the record, and into
//! [`isthmus_ops::Operation::FinishDeletion`] for what the host proves to have no more.
//!
//! All of it is level-triggered: a hint carries no data, and whatever was lost, in a crash or in a failed write, is
//! found again by comparing. When the host is silent nothing is invented: the last states stay as recorded and
//! [`Health`] tells for how long nothing was heard.
//!
//! This crate must know neither dialects nor the kernel.

mod desk;
mod digest;
mod http;
mod metrics;
mod observed;
mod publication;
mod service;

pub use http::Health;
pub use metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use observed::{Observed, ObservedConnection};
pub use service::{ControlError, SILENT_AFTER, serve, serve_observed};

#[cfg(test)]
mod tests;
