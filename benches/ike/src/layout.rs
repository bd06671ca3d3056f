//! Who has which address: one gateway, and peers in front of it.

use std::net::Ipv4Addr;

use anyhow::Result;
use isthmus_types::Cidr;

/// The shared key of all.
pub const KEY: &str = "the key of tunnels that only this benchmark sees";
/// Where the peers' own addresses are.
pub const PEERS: &str = "100.100.0.0/16";
/// Where the ranges behind the peers are.
pub const RANGES: &str = "10.200.0.0/16";
/// Seconds of silence before a peer is probed: what firewalls have.
pub const DPD_INTERVAL: u32 = 30;
/// Seconds without an answer until a peer is dead.
pub const DPD_TIMEOUT: u32 = 120;

/// Address of a peer.
pub fn address(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(100, 100, high, low)
}

/// What is behind a peer.
pub fn range(number: u16) -> Result<Cidr> {
    let [high, low] = (number + 1).to_be_bytes();
    Ok(format!("10.200.{high}.{low}/32").parse()?)
}

/// What is behind the gateway.
pub fn near_range() -> Result<Cidr> {
    Ok("10.2.0.0/24".parse()?)
}
