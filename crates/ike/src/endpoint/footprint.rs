//! What an endpoint holds: for tests of leaks, and for metrics.

use isthmus_types::VpnConnectionId;

use super::Endpoint;

/// How much an endpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Connections.
    pub connections: usize,
    /// IKE SAs in any state, handshakes too.
    pub ike_sas: usize,
    /// IKE SPIs that are ours.
    pub ike_spis: usize,
    /// Inbound ESP SPIs that are taken, also by requests without an answer yet and by children that only receive.
    pub esp_spis: usize,
    /// Children that have an IKE SA.
    pub children: usize,
    /// Children that only receive for a while.
    pub retired_children: usize,
    /// Handshakes begun by peers.
    pub begun_by_peers: usize,
    /// Connections that hold something of phase 2 of IKEv1.
    pub tunnels: usize,
}

impl Endpoint {
    /// How much it holds.
    pub fn footprint(&self) -> Footprint {
        let (ike_spis, esp_spis, retired_children) = self.host.counts();
        let version_1 = self.v1.counts();
        Footprint {
            connections: self.connections.len(),
            ike_sas: self.sas.len() + version_1.sas,
            ike_spis,
            esp_spis,
            children: self.host.owners.len(),
            retired_children,
            begun_by_peers: self.begun_by_peers.len() + version_1.begun,
            tunnels: version_1.tunnels,
        }
    }

    /// For each established IKE SA of a connection the id of our next request and of the peer's next one, oldest first.
    pub fn message_ids(&self, connection: VpnConnectionId) -> Vec<(u32, u32)> {
        self.sas
            .values()
            .filter(|sa| sa.connection == Some(connection))
            .filter_map(|sa| sa.established())
            .map(|established| established.channel.next_ids())
            .collect()
    }
}
