//! ESP in tunnel mode (RFC 4303, RFC 4301): which SA a packet takes, sealing and opening in place, replay windows,
//! MTU verdicts, and cutting and joining the super-packets of segmentation offload.
//!
//! The crate knows no IKE, no socket and no clock. The owner of a packet thread drives it: outbound, ask
//! [`OutboundDatabase::route`] what to do with a packet, cut it with [`offload::Splitter`] straight into the send
//! buffer and call [`OutboundSa::seal`] on each piece; inbound, find the [`InboundSa`] in an [`InboundTable`], call
//! [`InboundSa::open`] and offer the result to an [`offload::PacketRun`]. Nothing on this path allocates, locks or logs;
//! every packet that does not pass adds one to exactly one [`DropReason`].

pub mod drop_reason;
pub mod ecn;
pub mod fragment;
pub mod inbound;
pub mod mss;
pub mod mtu;
pub mod offload;
pub mod outbound;
pub mod policy;
pub mod replay;
pub mod selector;
pub mod sequence;

pub use drop_reason::{DropCounters, DropReason};
pub use inbound::{Arrival, InboundSa, InboundTable, Opened, SpiMap};
pub use outbound::OutboundSa;
pub use policy::{ConnectionHandle, OutboundDatabase, Policy, SaHandle, Verdict};
pub use replay::ReplayWindow;
pub use selector::{Flow, Selectors, TrafficRange};
pub use sequence::{Lifetime, SequenceNumbers};
