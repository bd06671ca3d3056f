//! The operation language: every [`Operation`] that changes the model, every [`Query`] that reads it, their outcomes
//! and the [`OpError`] codes.
//!
//! Dialects produce operations and consume outcomes; `model` carries them out. This crate knows neither who asks nor
//! who stores, and holds no rule of its own.

pub mod error;
pub mod operation;
pub mod options;
pub mod query;
pub mod status;
pub mod view;

use isthmus_types::{AccountId, UserId};
use serde::{Deserialize, Serialize};

pub use error::{OpError, OpErrorCode, ResourceKind};
pub use operation::*;
pub use options::*;
pub use query::*;
pub use status::*;
pub use view::*;

/// Who asks, and how: goes into the audit record of each change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The account whose resources are meant. Resources of another account do not exist for this caller.
    pub account: AccountId,
    /// The user, or none when Isthmus itself acts.
    pub user: Option<UserId>,
    /// The door that the request came through.
    pub via: Via,
    /// Identifies the request in logs.
    pub request_id: String,
}

/// The door that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The IBM Cloud VPC REST dialect.
    Ibm,
    /// Isthmus itself: clockwork and host reports.
    System,
}

/// A change that a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub caller: Caller,
    /// What for.
    pub operation: Operation,
    /// If given, repeating the same request with the same token within a day repeats the first answer.
    pub idempotency_token: Option<String>,
}
