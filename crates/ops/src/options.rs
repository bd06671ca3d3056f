//! Choices of a VPN connection and of a VPN gateway that no provider's API has words for.

use std::net::{IpAddr, Ipv6Addr};

use isthmus_types::{
    DontFragment, DscpPolicy, Secret, SelectorLayout, Timestamp, TunnelOptions, VpnConnectionId, VpnGatewayId,
};
use serde::{Deserialize, Serialize};

use crate::operation::IfMatch;

/// Everything about a connection that has a default and that a provider's API does not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionOptions {
    /// How the tunnel behaves.
    pub tunnel: TunnelOptions,
    /// Whether ML-KEM-768 is done beside each Diffie-Hellman exchange (RFC 9370).
    pub ml_kem: MlKem,
    /// When ESP travels in UDP.
    pub encapsulation: EspEncapsulation,
    /// Our identity instead of the one that the provider's API gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_id: Option<TunnelIdentity>,
    /// The peer's identity instead of the one that the provider's API gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<TunnelIdentity>,
    /// Where the peer is.
    pub peer_location: PeerLocation,
}

/// Where the peer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLocation {
    /// It has no fixed address: it begins, from wherever it is, and its identity alone tells who it is.
    Anywhere,
    /// Where the provider's API says: at an address, or at that of a domain name.
    #[default]
    Fixed,
}

/// Whether ML-KEM-768 is done beside each Diffie-Hellman exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MlKem {
    /// It is not offered.
    #[default]
    Off,
    /// It is preferred; a peer without it is taken too.
    On,
    /// A peer without it is refused.
    Required,
}

/// When ESP travels in UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EspEncapsulation {
    /// Only where an address translator is found on the way.
    Automatic,
    /// Always: it is what makes segmentation offload possible.
    #[default]
    Forced,
}

/// An IKE identity (RFC 7296 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "value",
    rename_all = "snake_case",
    deny_unknown_fields
)]
pub enum TunnelIdentity {
    /// An address.
    Address(IpAddr),
    /// A distinguished name, as text (RFC 4514).
    DistinguishedName(String),
    /// An e-mail address.
    Email(String),
    /// A domain name.
    Fqdn(String),
    /// Opaque text.
    KeyId(String),
}

/// Changes the options of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateConnectionOptions {
    /// Its gateway, from the path.
    pub gateway: VpnGatewayId,
    /// The connection.
    pub connection: VpnConnectionId,
    /// What changes.
    pub change: ConnectionOptionsChange,
    /// Versions of the options that the caller accepts.
    pub if_match: IfMatch,
}

/// New values of options. Fields that are `None` stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptionsChange {
    /// Whether IKEv1 aggressive mode may be used and answered.
    pub aggressive_mode: Option<bool>,
    /// New members of the certificate options; `Some(None)` returns to the shared key.
    pub certificate: Option<Option<CertificateChange>>,
    /// Whether the IKE SA is set up alone.
    pub childless: Option<bool>,
    /// Whether the first Child SA is replaced soon.
    pub verify_pfs: Option<bool>,
    /// Whether 64-bit sequence numbers are offered.
    pub extended_sequence_numbers: Option<bool>,
    /// Packets of the replay window, 64 to 4096.
    pub replay_window: Option<u16>,
    /// Which ranges share a Child SA.
    pub selectors: Option<SelectorLayout>,
    /// Child SAs for the same ranges, 1 to 16.
    pub parallel_child_sas: Option<u8>,
    /// Bytes after which a Child SA is replaced; `Some(None)` removes the limit.
    pub esp_lifetime_bytes: Option<Option<u64>>,
    /// Packets after which a Child SA is replaced; `Some(None)` removes the limit.
    pub esp_lifetime_packets: Option<Option<u64>>,
    /// Largest packet with an IKE message: 576 to 65535, or 0 for no fragmentation.
    pub fragment_size: Option<u16>,
    /// What the outer differentiated services field says.
    pub dscp: Option<DscpPolicy>,
    /// What the outer "don't fragment" bit says.
    pub dont_fragment: Option<DontFragment>,
    /// Whether ML-KEM-768 is done.
    pub ml_kem: Option<MlKem>,
    /// When ESP travels in UDP.
    pub encapsulation: Option<EspEncapsulation>,
    /// Our identity; `Some(None)` returns to the one of the provider's API.
    pub local_id: Option<Option<TunnelIdentity>>,
    /// The peer's identity; `Some(None)` returns to the one of the provider's API.
    pub peer_id: Option<Option<TunnelIdentity>>,
    /// Where the peer is.
    pub peer_location: Option<PeerLocation>,
}

/// New members of certificate options. Fields that are `None` stay; a connection that had none needs chain, key and
/// authorities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateChange {
    /// Our certificate and those above it, PEM.
    pub chain: Option<String>,
    /// Its key, PKCS #8 in PEM.
    pub private_key: Option<Secret>,
    /// Authorities of the peer's certificate, PEM.
    pub authorities: Option<String>,
    /// Revocation lists, PEM; may be empty.
    pub revocation_lists: Option<String>,
    /// Whether a peer without a valid revocation list of its authority is refused.
    pub require_revocation_list: Option<bool>,
}

/// The options of a connection as a caller may see them. The private key is among them: whoever shows them leaves it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionOptionsView {
    /// The options.
    pub options: ConnectionOptions,
    /// Rises with each change of them; 1 as long as all have their defaults.
    pub version: u64,
    /// What our certificate says, if there is one.
    pub holder: Option<CertificateHolder>,
}

/// Whom a certificate is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateHolder {
    /// Its subject.
    pub subject: String,
    /// Every name that it gives to its holder, in words.
    pub names: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Changes the options of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateGatewayOptions {
    /// The gateway.
    pub gateway: VpnGatewayId,
    /// Whether the keys of every SA are written to files on its host, in clear.
    pub key_log: Option<bool>,
    /// Whether it has an IPv6 address outside, beside its IPv4 one.
    pub ipv6: Option<bool>,
    /// Versions of the gateway that the caller accepts.
    pub if_match: IfMatch,
}

/// The options of a VPN gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayOptionsView {
    /// Whether the keys of every SA are written to files on its host, in clear.
    pub key_log: bool,
    /// Whether it has an IPv6 address outside.
    pub ipv6: bool,
    /// The IPv6 address that it has, or had and will have again.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Version of the gateway.
    pub version: u64,
}
