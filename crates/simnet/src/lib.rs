//! Two IKE endpoints on a simulated network with a virtual clock, for tests.
//!
//! A [`Pair`] owns both ends, the datagrams in flight and the time. It loses, repeats, delays and reorders datagrams
//! as its [`Link`] says, from a seed, can put a NAT before one end and let an end sleep. While traffic is on, each end
//! sends an ESP packet every few milliseconds from each of its ranges to each of its peer's, on the child that its
//! endpoint tells it to use; a packet for which the other end has no child with the same keys and selectors that admit
//! it is counted as lost. Nothing here reads a clock or opens a socket.

mod accord;
mod link;
mod nat;
mod pair;
mod peer;
pub mod pki;

pub use link::Link;
pub use nat::Nat;
pub use pair::{Pair, Side};
pub use peer::{Flow, InstalledChild, Peer, Sending};
