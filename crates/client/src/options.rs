//! Options of VPN connections and gateways that only this server has.

use std::net::Ipv6Addr;

use isthmus_ops::{EspEncapsulation, MlKem, PeerLocation, TunnelIdentity};
use isthmus_types::{DontFragment, DscpPolicy, Secret, SelectorLayout};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::ClientError;
use crate::http_api::Client;
use crate::id::Id;
use crate::resource::Rest;
use crate::vpn::{Change, VpnConnection, VpnGateway};

/// The options of a connection, without the private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionOptions {
    /// Whether IKEv1 aggressive mode may be used and answered.
    pub aggressive_mode: bool,
    /// Certificates instead of the shared key.
    pub certificate: Option<Certificate>,
    /// Whether the IKE SA is set up alone.
    pub childless: bool,
    /// Whether the first Child SA is replaced soon, so that a mismatch of perfect forward secrecy shows at once.
    pub verify_pfs: bool,
    /// Whether 64-bit sequence numbers are offered.
    pub extended_sequence_numbers: bool,
    /// Packets of the replay window.
    pub replay_window: u16,
    /// Which ranges share a Child SA.
    pub selectors: SelectorLayout,
    /// Child SAs for the same ranges.
    pub parallel_child_sas: u8,
    /// Bytes after which a Child SA is replaced.
    pub esp_lifetime_bytes: Option<u64>,
    /// Packets after which a Child SA is replaced.
    pub esp_lifetime_packets: Option<u64>,
    /// Largest packet with an IKE message, 0 for no fragmentation.
    pub fragment_size: u16,
    /// What the outer differentiated services field says.
    pub dscp: DscpPolicy,
    /// What the outer "don't fragment" bit says.
    pub dont_fragment: DontFragment,
    /// Whether ML-KEM-768 is done.
    pub ml_kem: MlKem,
    /// When ESP travels in UDP.
    pub encapsulation: EspEncapsulation,
    /// Our identity, if it is another than the connection says.
    pub local_id: Option<TunnelIdentity>,
    /// The peer's identity, if it is another than the connection says.
    pub peer_id: Option<TunnelIdentity>,
    /// Where the peer is.
    #[serde(default)]
    pub peer_location: PeerLocation,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Certificates in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Ours and those above it.
    pub chain: String,
    /// Authorities of the peer's.
    pub authorities: String,
    /// Revocation lists.
    pub revocation_lists: String,
    /// Whether a peer without a valid revocation list of its authority is refused.
    pub require_revocation_list: bool,
    /// Whom ours is of.
    pub holder: Option<CertificateHolder>,
}

/// Whom a certificate is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateHolder {
    /// Its subject.
    pub subject: String,
    /// Every name in it.
    pub names: String,
    /// When it ends.
    pub expires_at: String,
}

/// Changes of a connection's options: each is kept, set, or taken back to its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the new value of the option of that name")]
pub struct ConnectionOptionsChange {
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub aggressive_mode: Change<bool>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub certificate: Change<CertificateChange>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub childless: Change<bool>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub verify_pfs: Change<bool>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub extended_sequence_numbers: Change<bool>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub replay_window: Change<u16>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub selectors: Change<SelectorLayout>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub parallel_child_sas: Change<u8>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub esp_lifetime_bytes: Change<u64>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub esp_lifetime_packets: Change<u64>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub fragment_size: Change<u16>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub dscp: Change<DscpPolicy>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub dont_fragment: Change<DontFragment>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub ml_kem: Change<MlKem>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub encapsulation: Change<EspEncapsulation>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub local_id: Change<TunnelIdentity>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub peer_id: Change<TunnelIdentity>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub peer_location: Change<PeerLocation>,
}

/// New certificates, in PEM. What is missing stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CertificateChange {
    /// Ours and those above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The key of ours.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "revealed")]
    pub private_key: Option<Secret>,
    /// Authorities of the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// Revocation lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_lists: Option<String>,
    /// Whether a peer without a valid revocation list of its authority is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_revocation_list: Option<bool>,
}

/// The options of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayOptions {
    /// Whether its host writes the keys of every SA to files, in clear.
    pub key_log: bool,
    /// Whether it has an IPv6 address outside, beside its IPv4 one.
    #[serde(default)]
    pub ipv6: bool,
    /// That address.
    #[serde(default)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Default, Serialize)]
struct GatewayOptionsChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_log: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<bool>,
}

fn revealed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        // The server is to have it.
        Some(secret) => serializer.serialize_str(secret.reveal()),
        None => serializer.serialize_none(),
    }
}

/// Calls about options. Each fails with [`ClientError::Api`] if the server refuses.
#[expect(
    clippy::missing_errors_doc,
    reason = "the same for each: the API refused or cannot be reached"
)]
impl Client {
    /// The options of a connection.
    pub async fn connection_options(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<ConnectionOptions, ClientError> {
        self.read(&connection_path(gateway, id)).await
    }

    /// Changes the options of a connection.
    pub async fn change_connection_options(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        change: &ConnectionOptionsChange,
    ) -> Result<ConnectionOptions, ClientError> {
        self.change(&connection_path(gateway, id), change).await
    }

    /// The options of a gateway.
    pub async fn gateway_options(&self, id: &Id<VpnGateway>) -> Result<GatewayOptions, ClientError> {
        self.read(&format!("/isthmus/v1/vpn_gateways/{id}/options")).await
    }

    /// Switches the key log of a gateway.
    pub async fn set_key_log(
        &self,
        id: &Id<VpnGateway>,
        key_log: bool,
    ) -> Result<GatewayOptions, ClientError> {
        let change = GatewayOptionsChange {
            key_log: Some(key_log),
            ..Default::default()
        };
        self.change_gateway_options(id, &change).await
    }

    /// Gives a gateway an IPv6 address outside, or takes it away.
    pub async fn set_ipv6(&self, id: &Id<VpnGateway>, ipv6: bool) -> Result<GatewayOptions, ClientError> {
        let change = GatewayOptionsChange {
            ipv6: Some(ipv6),
            ..Default::default()
        };
        self.change_gateway_options(id, &change).await
    }

    async fn change_gateway_options(
        &self,
        id: &Id<VpnGateway>,
        change: &GatewayOptionsChange,
    ) -> Result<GatewayOptions, ClientError> {
        self.change(&format!("/isthmus/v1/vpn_gateways/{id}/options"), change)
            .await
    }
}

fn connection_path(gateway: &Id<VpnGateway>, id: &Id<VpnConnection>) -> String {
    format!("/isthmus/v1/vpn_gateways/{gateway}/connections/{id}/options")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_sent() {
        let mut change = ConnectionOptionsChange::default();
        assert_eq!(serde_json::to_string(&change).unwrap(), "{}");
        change.childless = Change::Set(true);
        change.certificate = Change::Remove;
        change.ml_kem = Change::Set(MlKem::On);
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"certificate":null,"childless":true,"ml_kem":"on"}"#
        );
        change.certificate = Change::Set(CertificateChange {
            private_key: Some(Secret::new("hush".to_owned())),
            ..CertificateChange::default()
        });
        assert!(
            serde_json::to_string(&change)
                .unwrap()
                .contains(r#""certificate":{"private_key":"hush"}"#)
        );
        assert!(!format!("{change:?}").contains("hush"));
    }
}
