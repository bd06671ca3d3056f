//! IKEv2 (RFC 7296) and IKEv1 (RFC 2409) without I/O: datagrams and the time in, datagrams, events and the next wake-up
//! out.
//!
//! An [`Endpoint`] speaks for one local address and holds any number of connections. It opens no socket, reads no
//! clock and knows nothing of how ESP packets are carried: it tells with [`Event`]s which keys to install and when
//! to use and remove them.
//!
//! # How to drive it
//! After each call of a method that takes `now`, drain [`Endpoint::poll_transmit`] and [`Endpoint::poll_event`] until
//! both give nothing, then sleep until [`Endpoint::poll_timeout`] or the next input, whichever is first. When the
//! instant of `poll_timeout` has come, call [`Endpoint::handle_timeout`]. `now` never goes backwards.
//!
//! A [`Transmit`] with [`Framing::Ike`] that leaves from port 4500 needs the four zero bytes of the non-ESP marker
//! before it (RFC 3948 section 2.2); [`Endpoint::handle_datagram`] takes messages without it.
//!
//! # What it does
//! Initiator and responder with pre-shared keys or certificates; cookies; NAT detection, port change, keepalives and forced
//! encapsulation; narrowing; rekeying of Child SAs and IKE SAs, also from both ends at once (RFC 7296 section 2.8.1
//! and 2.25); liveness checks; deletes; INITIAL_CONTACT. Not yet: EAP, MOBIKE,
//! IKE_INTERMEDIATE.

mod algorithm;
mod auth;
mod begun;
mod channel;
mod child;
mod config;
mod connection;
mod cookie;
mod demand;
mod diary;
mod endpoint;
mod error;
mod event;
mod evidence;
mod exchange;
mod extension;
mod finding;
mod host;
mod keys;
mod nat;
mod nearest;
mod negotiate;
mod parts;
#[cfg(test)]
mod recorded;
mod retransmit;
mod sa;
mod selector;
mod status;
mod survey;
mod timer;
mod v1;

pub use algorithm::{AdditionalKeyExchanges, EspSuite, IkeSuite, SequenceNumbers};
pub use config::{ConnectionConfig, DpdAction, EstablishMode, IkeIdentity, PeerEndpoint};
pub use endpoint::{Endpoint, Footprint, IKE_PORT, NAT_PORT};
pub use error::{AuthenticationFailure, IkeError, Mismatch, Refusal, Violation};
pub use event::{
    ChildDirection, ChildId, ChildLifetime, ChildSa, Encapsulation, Event, Framing, IkeSaKeys, OutboundUse,
    Transmit,
};
pub use finding::{
    CertificateFault, ConnectionEvent, End, EventKind, Finding, FindingKind, Layer, Note, Severity, Theirs,
    Unanswered,
};
pub use nat::NatStatus;
pub use nearest::Nearest;
pub use selector::Selector;
pub use status::{ChildStatus, ConnectionState, ConnectionStatus, DownReason};
