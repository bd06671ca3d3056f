//! NAT detection of IKEv1 (RFC 3947 section 3.2): the hash is the negotiated one, the first payload is about the receiver.

use std::net::{IpAddr, SocketAddr};

use isthmus_crypto::prf::hash;
use isthmus_types::Prf;
use isthmus_wire::isakmp::Payload;

use crate::keys::SpiPair;
use crate::nat::{NatStatus, Path};

/// The two payloads of our message. To force encapsulation the hash of our address is none.
pub(super) fn payloads(
    function: Prf,
    cookies: SpiPair,
    local: IpAddr,
    path: &Path,
    forced: bool,
) -> [Payload; 2] {
    let mut own = address_hash(function, cookies, SocketAddr::new(local, path.local_port));
    if forced {
        for byte in &mut own {
            *byte = !*byte;
        }
    }
    [
        Payload::NatD(address_hash(function, cookies, path.remote)),
        Payload::NatD(own),
    ]
}

/// What the peer's payloads tell.
pub(super) fn detect(
    function: Prf,
    received: &[Vec<u8>],
    cookies: SpiPair,
    local: IpAddr,
    path: &Path,
    forced: bool,
) -> NatStatus {
    let own = address_hash(function, cookies, SocketAddr::new(local, path.local_port));
    let peers = address_hash(function, cookies, path.remote);
    let (first, rest) = received.split_at(received.len().min(1));
    NatStatus {
        local: first.iter().any(|hash| *hash != own),
        remote: !rest.is_empty() && !rest.contains(&peers),
        forced,
    }
}

fn address_hash(function: Prf, cookies: SpiPair, address: SocketAddr) -> Vec<u8> {
    let initiator = cookies.initiator.0.to_be_bytes();
    let responder = cookies.responder.0.to_be_bytes();
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => hash(function, &[&initiator, &responder, &ip.octets(), &port]),
        IpAddr::V6(ip) => hash(function, &[&initiator, &responder, &ip.octets(), &port]),
    }
}
