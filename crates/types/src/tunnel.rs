//! How a VPN connection behaves beyond what every connection must say. The default suits any peer.

use serde::{Deserialize, Serialize};

use crate::secret::{self, Secret};

/// Choices of a connection that have a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelOptions {
    /// Whether IKEv1 aggressive mode may be used and answered. It shows identities and a hash of the key to anybody.
    pub aggressive_mode: bool,
    /// Certificates for both ends to prove themselves with, instead of the shared key.
    pub certificate: Option<CertificateOptions>,
    /// Set up the IKE SA alone and make every Child SA with a key exchange of its own, where the peer can (RFC 6023).
    pub childless: bool,
    /// Replace each first Child SA soon after IKE_AUTH if it had no key exchange of its own, so that a mismatch of perfect
    /// forward secrecy shows at once.
    pub verify_pfs: bool,
    /// Offer 64-bit ESP sequence numbers (RFC 4303 section 2.2.1) first and take them where offered.
    pub extended_sequence_numbers: bool,
    /// Packets that an ESP packet may be late by: 64 to 4096.
    pub replay_window: u16,
    /// Which ranges share a Child SA.
    pub selectors: SelectorLayout,
    /// Child SAs for the same ranges at the same time, where the peer takes them (RFC 9611): 1 to 16.
    pub parallel_child_sas: u8,
    /// Bytes after which a Child SA is replaced.
    pub esp_lifetime_bytes: Option<u64>,
    /// Packets after which a Child SA is replaced.
    pub esp_lifetime_packets: Option<u64>,
    /// Largest IP packet with an IKE message, bytes: larger messages are fragmented (RFC 7383) where the peer can. 576 to
    /// 65535; zero means never.
    pub fragment_size: u16,
    /// What the differentiated services field of the outer header says.
    pub dscp: DscpPolicy,
    /// What the "don't fragment" bit of an outer IPv4 header says.
    pub dont_fragment: DontFragment,
}

/// Certificates and keys in PEM (RFC 7468).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateOptions {
    /// Our certificate, then those between it and the authority.
    pub chain: String,
    /// The key of our certificate, PKCS #8.
    #[serde(with = "secret::carried")]
    pub private_key: Secret,
    /// Authorities that the peer's certificate must come from.
    pub authorities: String,
    /// Revocation lists; may be empty.
    #[serde(default)]
    pub revocation_lists: String,
    /// Refuse a peer for whose authority there is no valid revocation list.
    #[serde(default)]
    pub require_revocation_list: bool,
}

/// Which ranges share a Child SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectorLayout {
    /// All in one, unless the peer shows that it takes one pair at a time only.
    #[default]
    Automatic,
    /// One Child SA for each pair of a local and a remote range.
    PerPair,
    /// All in one.
    Together,
}

/// What the differentiated services field of the outer header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DscpPolicy {
    /// Nothing.
    Clear,
    /// The same as that of the inner header.
    #[default]
    Copy,
}

/// What the "don't fragment" bit of an outer IPv4 header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DontFragment {
    /// Routers may fragment.
    Clear,
    /// The same as that of the inner header.
    Copy,
    /// Routers must not fragment.
    #[default]
    Set,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            aggressive_mode: false,
            certificate: None,
            childless: false,
            verify_pfs: false,
            extended_sequence_numbers: true,
            replay_window: 1024,
            selectors: SelectorLayout::Automatic,
            parallel_child_sas: 1,
            esp_lifetime_bytes: None,
            esp_lifetime_packets: None,
            fragment_size: 1280,
            dscp: DscpPolicy::Copy,
            dont_fragment: DontFragment::Set,
        }
    }
}
