//! NAT detection (RFC 7296 section 2.23) and where messages go.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use isthmus_crypto::prf::sha1;
use isthmus_wire::ike::{IkeSpi, NotifyPayload, NotifyType, Payload};

use crate::event::Encapsulation;
use crate::keys::SpiPair;

/// How often a NAT mapping is refreshed if nothing else was sent (RFC 3948 section 4).
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// What NAT detection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStatus {
    /// We are behind a NAT, or the peer says so to force encapsulation.
    pub local: bool,
    /// The peer is behind a NAT, or says so to force encapsulation.
    pub remote: bool,
    /// We force encapsulation.
    pub forced: bool,
}

impl NatStatus {
    /// Whether ESP goes in UDP.
    pub const fn encapsulates(self) -> bool {
        self.local || self.remote || self.forced
    }
}

/// Where an IKE SA's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) local_port: u16,
    pub(crate) remote: SocketAddr,
    pub(crate) nat: NatStatus,
}

impl Path {
    pub(crate) const fn encapsulation(&self) -> Encapsulation {
        if self.nat.encapsulates() {
            Encapsulation::Udp {
                local_port: self.local_port,
                remote: self.remote,
            }
        } else {
            Encapsulation::None
        }
    }
}

/// The two notifies of a message that goes from `local` to `remote`. To force encapsulation the source hash is made
/// from an address that nobody has.
pub(crate) fn notifies(spis: SpiPair, local: SocketAddr, remote: SocketAddr, forced: bool) -> [Payload; 2] {
    let mut source = hash(spis, local);
    if forced {
        for byte in &mut source {
            *byte = !*byte;
        }
    }
    let notify =
        |notify_type, hash: [u8; 20]| Payload::Notify(NotifyPayload::new(notify_type, hash.to_vec()));
    [
        notify(NotifyType::NAT_DETECTION_SOURCE_IP, source),
        notify(NotifyType::NAT_DETECTION_DESTINATION_IP, hash(spis, remote)),
    ]
}

/// What the peer's notifies tell of the way from `remote` to `local`. A peer without them does no NAT traversal.
pub(crate) fn detect(
    received: &[NotifyPayload],
    spis: SpiPair,
    local: SocketAddr,
    remote: SocketAddr,
) -> NatStatus {
    let mismatch = |notify_type, expected: [u8; 20]| {
        let mut hashes = received
            .iter()
            .filter(|notify| notify.notify_type == notify_type)
            .peekable();
        hashes.peek().is_some() && !hashes.any(|notify| notify.data == expected)
    };
    NatStatus {
        local: mismatch(NotifyType::NAT_DETECTION_DESTINATION_IP, hash(spis, local)),
        remote: mismatch(NotifyType::NAT_DETECTION_SOURCE_IP, hash(spis, remote)),
        forced: false,
    }
}

fn hash(spis: SpiPair, address: SocketAddr) -> [u8; 20] {
    let octets = |spi: IkeSpi| spi.0.to_be_bytes();
    let port = address.port().to_be_bytes();
    let (initiator, responder) = (octets(spis.initiator), octets(spis.responder));
    match address.ip() {
        IpAddr::V4(ip) => sha1(&[&initiator, &responder, &ip.octets(), &port]),
        IpAddr::V6(ip) => sha1(&[&initiator, &responder, &ip.octets(), &port]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(forced: bool, seen_remote: &str, seen_local: &str) -> NatStatus {
        let spis = SpiPair {
            initiator: IkeSpi(1),
            responder: IkeSpi::ZERO,
        };
        let sent = notifies(
            spis,
            "192.0.2.1:500".parse().unwrap(),
            "192.0.2.2:500".parse().unwrap(),
            forced,
        );
        let mut received = Vec::new();
        for payload in sent {
            if let Payload::Notify(notify) = payload {
                received.push(notify);
            }
        }
        detect(
            &received,
            spis,
            seen_local.parse().unwrap(),
            seen_remote.parse().unwrap(),
        )
    }

    #[test]
    fn a_translated_address_or_port_is_found_at_the_right_end() {
        let none = found(false, "192.0.2.1:500", "192.0.2.2:500");
        assert!(!none.encapsulates());
        let remote = found(false, "198.51.100.9:500", "192.0.2.2:500");
        assert!(remote.remote && !remote.local);
        let port = found(false, "192.0.2.1:1024", "192.0.2.2:500");
        assert!(port.remote && !port.local);
        let local = found(false, "192.0.2.1:500", "10.0.0.1:500");
        assert!(local.local && !local.remote);
    }

    #[test]
    fn forcing_looks_like_a_nat_at_the_senders_end() {
        let forced = found(true, "192.0.2.1:500", "192.0.2.2:500");
        assert!(forced.remote && !forced.local);
    }

    #[test]
    fn a_peer_without_notifies_has_no_nat() {
        let spis = SpiPair {
            initiator: IkeSpi(1),
            responder: IkeSpi(2),
        };
        let address = "192.0.2.1:500".parse().unwrap();
        assert!(!detect(&[], spis, address, address).encapsulates());
    }
}
