//! What is known about a VPN connection beyond its state: what is wrong with it, its SAs, and what happened last.

use std::net::SocketAddr;

use isthmus_types::Timestamp;
use serde::{Deserialize, Serialize};

/// All that helps to find out why a connection does what it does. Times are absolute, so that nothing changes while
/// nothing happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diagnosis {
    /// What is wrong or worth knowing, the gravest first.
    pub findings: Vec<FindingReport>,
    /// What happened last, oldest first; at most 32.
    pub events: Vec<EventReport>,
    /// The IKE SA in use.
    pub ike: Option<IkeSaReport>,
    /// The Child SAs in use.
    pub children: Vec<ChildSaReport>,
}

/// Something that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingReport {
    /// What kind, as a stable word such as `no_proposal_in_common`.
    pub code: String,
    /// How much it matters.
    pub severity: FindingSeverity,
    /// What to look at, as a stable word such as `ike.encryption`: the most probable cause.
    pub field: String,
    /// Every field that may be the cause, the most probable first.
    pub suspects: Vec<String>,
    /// What was seen.
    pub sentence: String,
    /// What to do about it; empty if nothing needs to be done.
    pub fix: String,
    /// Our value, in words; may be empty.
    pub ours: String,
    /// The peer's value, in words; empty if it did not tell.
    pub theirs: String,
    /// When it was seen first.
    pub first_at: Timestamp,
    /// When it was seen last.
    pub last_at: Timestamp,
    /// How often it was seen.
    pub times: u32,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// Good to know.
    Info,
    /// It works, but not as it should.
    Warning,
    /// It does not work, or soon will not.
    Error,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// When, the last time.
    pub at: Timestamp,
    /// How often in a row.
    pub times: u32,
    /// What kind, as a stable word such as `child_installed`.
    pub code: String,
    /// A sentence.
    pub sentence: String,
}

/// An IKE SA in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IkeSaReport {
    /// IKE version.
    pub version: u8,
    /// Where the peer is.
    pub peer: SocketAddr,
    /// Algorithms.
    pub suite: String,
    /// Whether we are behind address translation, or the peer says so to force encapsulation.
    pub nat_here: bool,
    /// Whether the peer is, or says so.
    pub nat_there: bool,
    /// Since when it is authenticated.
    pub established_at: Timestamp,
    /// When something authentic of the peer came last.
    pub heard_at: Timestamp,
}

/// A Child SA pair in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildSaReport {
    /// SPI of what we receive.
    pub inbound_spi: u32,
    /// SPI of what we send.
    pub outbound_spi: u32,
    /// Algorithms.
    pub suite: String,
    /// Traffic on our side.
    pub local: Vec<String>,
    /// Traffic on the peer's side.
    pub remote: Vec<String>,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// When we replace it; none if the peer alone does so.
    pub rekey_at: Option<Timestamp>,
    /// When it ends if nothing replaces it.
    pub expires_at: Timestamp,
    /// What passed through it.
    #[serde(default)]
    pub traffic: SaTraffic,
}

/// What passed through a pair of SAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SaTraffic {
    /// Bytes of inner packets received.
    pub bytes_in: u64,
    /// Bytes of inner packets sent.
    pub bytes_out: u64,
    /// Inner packets received.
    pub packets_in: u64,
    /// Inner packets sent.
    pub packets_out: u64,
}
