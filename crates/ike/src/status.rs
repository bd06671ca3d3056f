//! What a connection is doing, for people.

use std::net::SocketAddr;
use std::time::Instant;

use isthmus_types::VpnConnectionId;

use crate::algorithm::{EspSuite, IkeSuite};
use crate::event::ChildId;
use crate::finding::{ConnectionEvent, Finding};
use crate::nat::NatStatus;
use crate::selector::Selector;

/// State of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Down on request.
    AdminDown,
    /// Not up.
    Down {
        /// Why.
        reason: DownReason,
        /// The evidence in words, with the fix where one is known.
        detail: String,
    },
    /// A Child SA is installed and the peer answers.
    Up,
}

/// Why a connection is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownReason {
    /// The key or an identity differs.
    AuthenticationFailed,
    /// The peer alone may begin, and has not.
    AwaitingPeer,
    /// No IKE proposal in common.
    IkeProposalMismatch,
    /// Our fault.
    Internal,
    /// No ESP proposal in common.
    IpsecProposalMismatch,
    /// Negotiation is under way for the first time, or waits to be started.
    Negotiating,
    /// No answer from the peer.
    PeerNotResponding,
    /// The traffic selectors do not mirror each other.
    SelectorMismatch,
}

/// All about one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The connection.
    pub connection: VpnConnectionId,
    /// Its state.
    pub state: ConnectionState,
    /// What went wrong last, even if the connection is up (such as a refused rekey).
    pub warning: Option<(DownReason, String)>,
    /// Algorithms of the IKE SA in use.
    pub ike_suite: Option<IkeSuite>,
    /// Algorithms of the newest Child SA in use.
    pub esp_suite: Option<EspSuite>,
    /// Where the peer is, if an IKE SA is established.
    pub remote: Option<SocketAddr>,
    /// What NAT detection found, if an IKE SA is established.
    pub nat: Option<NatStatus>,
    /// Number of established IKE SAs that are not being removed.
    pub ike_sas: usize,
    /// The Child SAs that are not being removed.
    pub children: Vec<ChildStatus>,
    /// When the newest IKE SA was authenticated.
    pub established_at: Option<Instant>,
    /// When an authentic message or packet of the peer came last.
    pub last_heard: Option<Instant>,
    /// What is wrong or worth knowing, the gravest first.
    pub findings: Vec<Finding>,
    /// What happened last, oldest first.
    pub events: Vec<ConnectionEvent>,
}

/// One Child SA of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its id.
    pub child: ChildId,
    /// Which of several for the same traffic: see [`crate::ChildSa::lane`].
    pub lane: u8,
    /// SPI of what we receive.
    pub inbound_spi: u32,
    /// SPI of what we send.
    pub outbound_spi: u32,
    /// Its algorithms.
    pub suite: EspSuite,
    /// Traffic on our side.
    pub local_selectors: Vec<Selector>,
    /// Traffic on the peer's side.
    pub remote_selectors: Vec<Selector>,
    /// When it was installed.
    pub installed_at: Instant,
    /// When we replace it; none if the peer alone does so.
    pub rekey_at: Option<Instant>,
    /// When it is removed, if nothing replaced it.
    pub expire_at: Instant,
}
