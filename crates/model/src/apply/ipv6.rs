//! The IPv6 addresses that VPN gateways have outside.

use std::net::{IpAddr, Ipv6Addr};

use isthmus_ops::{OpError, OpErrorCode, PeerAddress, PeerLocation, ResourceKind};

use super::Draft;
use super::connection_rules::check_peer;
use crate::address::lowest_free_ipv6;
use crate::record::{VpnConnection, VpnGateway};
use crate::refusal::invalid_field;

impl Draft<'_> {
    /// Gives a gateway its IPv6 address, or takes it out of use. An address once given stays the gateway's own until it
    /// is gone, so that nobody else can get it while a host may still have it.
    pub(super) fn set_ipv6(&self, gateway: &mut VpnGateway, wanted: bool) -> Result<(), OpError> {
        if !wanted {
            self.needs_no_ipv6(gateway)?;
        } else if gateway.public_ipv6.is_none() {
            gateway.public_ipv6 = Some(self.public_ipv6()?);
        }
        gateway.ipv6 = wanted;
        Ok(())
    }

    fn needs_no_ipv6(&self, gateway: &VpnGateway) -> Result<(), OpError> {
        let mut connections = self.state.connections_of(gateway.id);
        let Some(user) = connections.find(|connection| self.is_to_ipv6(connection)) else {
            return Ok(());
        };
        let text = format!(
            "connection {} has a peer at an IPv6 address, so its gateway {} needs one too: give it another peer or delete it \
             first",
            user.meta.name, gateway.meta.name
        );
        Err(OpError::new(OpErrorCode::InvalidState, ResourceKind::VpnGateway, text).with_field("ipv6"))
    }

    fn is_to_ipv6(&self, connection: &VpnConnection) -> bool {
        let settings = self.state.tunnel_settings(connection.id);
        let peer = self.state.peer_of(connection);
        connection.deleting.is_none()
            && settings.is_none_or(|settings| settings.options.peer_location == PeerLocation::Fixed)
            && peer.is_some_and(|peer| matches!(peer.address, PeerAddress::Address(IpAddr::V6(_))))
    }

    /// Whether the gateway can reach the peer, which is where its address says.
    pub(super) fn check_address_of_peer(&self, connection: &VpnConnection) -> Result<(), OpError> {
        match self.state.peer_of(connection) {
            Some(peer) => check_peer(&peer.address, self.access().vpn_gateway(connection.gateway)?),
            None => Ok(()),
        }
    }

    fn public_ipv6(&self) -> Result<Ipv6Addr, OpError> {
        let settings = self.state.settings();
        let held = self.state.public_ipv6_addresses().map(|(address, _)| address);
        settings
            .public_pool_ipv6
            .v6()
            .and_then(|pool| lowest_free_ipv6(pool, settings.uplink_router_ipv6, held))
            .ok_or_else(|| {
                OpError::new(
                    OpErrorCode::AddressesExhausted,
                    ResourceKind::PublicAddress,
                    "no public IPv6 address is left",
                )
            })
    }
}

/// An IPv6 address that a gateway out on the internet can have, and that `gateway` can reach.
pub(super) fn check_ipv6_peer(address: Ipv6Addr, gateway: &VpnGateway) -> Result<(), OpError> {
    let refuse = |why: &str| Err(invalid_field(ResourceKind::VpnConnection, "peer", address, why));
    if address.to_ipv4_mapped().is_some() {
        return refuse("it stands for an IPv4 address: give that one");
    }
    if address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
    {
        return refuse("no gateway can have this address");
    }
    match gateway.ipv6_outside() {
        None => refuse(&format!(
            "the gateway has no IPv6 address outside: switch its option ipv6 on first (isthmus vpn gateway ipv6 {} on)",
            gateway.meta.name
        )),
        Some(own) if own == address => refuse("it is the gateway's own address"),
        Some(_) => Ok(()),
    }
}
