//! Bytes to messages and back: IKE payloads, ESP framing, IP, UDP, TCP and ICMP views, checksums.
//!
//! This crate knows octets only: no keys, no time, no policy. Codepoints are integer newtypes with the names that
//! the RFCs give them, so values that we do not know survive a round trip.

pub mod checksum;
pub mod esp;
mod header;
pub mod icmp;
pub mod ike;
pub mod ip;
pub mod isakmp;
pub mod tcp;
pub mod udp;
