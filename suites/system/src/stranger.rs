//! What somebody outside can send.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context as _, Result};
use isthmus_ike::{ConnectionConfig, DpdAction, Endpoint, EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_netlab::proposal;
use isthmus_types::{IkeVersion, ResourceBits, Secret, TunnelOptions, VpnConnectionId};

/// IKE proposal of everybody in these tests.
pub const IKE: &str = "aes128gcm16-prfsha256-x25519";
/// ESP proposal of everybody in these tests.
pub const ESP: &str = "aes128gcm16";

/// An initiator outside that negotiates 10.9.0.0/24 with 10.2.0.0/24.
///
/// # Errors
/// Never: the proposals and ranges above are valid.
pub fn initiator(local: Ipv4Addr, peer: Ipv4Addr, key: &str) -> Result<ConnectionConfig> {
    Ok(ConnectionConfig {
        connection: VpnConnectionId(ResourceBits::from_random(1)),
        name: "initiator".to_owned(),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address(peer.into()),
        local_identity: IkeIdentity::Address(local.into()),
        peer_identity: IkeIdentity::Address(peer.into()),
        psk: Secret::new(key.to_owned()),
        establish: EstablishMode::Bidirectional,
        ike_proposals: vec![proposal::ike(IKE)?],
        esp_proposals: vec![proposal::esp(ESP)?],
        local_cidrs: vec!["10.9.0.0/24".parse()?],
        peer_cidrs: vec!["10.2.0.0/24".parse()?],
        ike_lifetime_seconds: 28_800,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::Restart,
        dpd_interval_seconds: 10,
        dpd_timeout_seconds: 30,
        force_encapsulation: true,
        options: TunnelOptions::default(),
    })
}

/// An IKE_SA_INIT request as a real initiator at `local` would send it.
///
/// # Errors
/// As [`initiator`].
pub fn first_message(local: Ipv4Addr, victim: Ipv4Addr) -> Result<Vec<u8>> {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(local.into(), [7; 32], now);
    endpoint.upsert_connection(initiator(local, victim, "not the key")?, now);
    Ok(endpoint
        .poll_transmit()
        .context("an initiator sends at once")?
        .payload)
}
