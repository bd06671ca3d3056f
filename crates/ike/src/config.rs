//! What a connection should be. Mirrors the host plan field for field without knowing it.

use std::net::IpAddr;

use isthmus_types::{Cidr, EspProposal, IkeProposal, IkeVersion, Secret, TunnelOptions, VpnConnectionId};

/// One connection, with every choice made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// The connection.
    pub connection: VpnConnectionId,
    /// Its name, for evidence sentences.
    pub name: String,
    /// Whether it should be up.
    pub admin_up: bool,
    /// A change asks to tear down and negotiate anew.
    pub reset_count: u32,
    /// IKE version.
    pub version: IkeVersion,
    /// Where the peer is.
    pub peer: PeerEndpoint,
    /// Identity that we present.
    pub local_identity: IkeIdentity,
    /// Identity that the peer must present.
    pub peer_identity: IkeIdentity,
    /// The shared key.
    pub psk: Secret,
    /// Who may start negotiations.
    pub establish: EstablishMode,
    /// IKE SA proposals, preferred first.
    pub ike_proposals: Vec<IkeProposal>,
    /// Child SA proposals, preferred first.
    pub esp_proposals: Vec<EspProposal>,
    /// Ranges on our side.
    pub local_cidrs: Vec<Cidr>,
    /// Ranges on the peer's side.
    pub peer_cidrs: Vec<Cidr>,
    /// Lifetime of the IKE SA, seconds.
    pub ike_lifetime_seconds: u32,
    /// Lifetime of a Child SA, seconds.
    pub esp_lifetime_seconds: u32,
    /// What to do when the peer is silent.
    pub dpd_action: DpdAction,
    /// Seconds of silence before the peer is probed.
    pub dpd_interval_seconds: u32,
    /// Seconds without an answer after which the peer is dead.
    pub dpd_timeout_seconds: u32,
    /// Encapsulate ESP in UDP even where no NAT is found.
    pub force_encapsulation: bool,
    /// Everything that has a default.
    pub options: TunnelOptions,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEndpoint {
    /// A fixed address.
    Address(IpAddr),
    /// Anywhere: the peer begins, and its identity tells who it is. We never begin a handshake with it.
    Anywhere,
    /// A name that the shell resolves; see [`crate::Event::ResolvePeer`].
    Name(String),
}

/// An identity (RFC 7296 section 3.5). Kinds never compare equal to each other, whatever their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IkeIdentity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_DER_ASN1_DN, as text (RFC 4514): `CN=gateway,O=Example,C=CH`.
    DistinguishedName(String),
    /// ID_RFC822_ADDR.
    Email(String),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_KEY_ID.
    KeyId(Vec<u8>),
}

/// Who may start negotiations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstablishMode {
    /// Either end.
    Bidirectional,
    /// Only the peer; we never initiate nor rekey.
    PeerOnly,
}

/// What to do when the peer is found dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DpdAction {
    /// Delete the SAs and wait for the peer or a command.
    Clear,
    /// Delete the SAs and negotiate when traffic asks for it.
    Hold,
    /// Send no probes.
    None,
    /// Negotiate again at once.
    Restart,
}

/// What a new configuration makes necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing: at most names and timers differ.
    Keep,
    /// New Child SAs under the IKE SA that there is.
    Children,
    /// Everything anew.
    Everything,
}

impl ConnectionConfig {
    pub(crate) fn change_to(&self, new: &Self) -> Change {
        let everything = self.admin_up != new.admin_up
            || self.reset_count != new.reset_count
            || self.version != new.version
            || self.peer != new.peer
            || self.local_identity != new.local_identity
            || self.peer_identity != new.peer_identity
            || self.psk != new.psk
            || self.options.certificate != new.options.certificate
            || self.ike_proposals != new.ike_proposals
            || self.force_encapsulation != new.force_encapsulation;
        let children = self.esp_proposals != new.esp_proposals
            || self.options.extended_sequence_numbers != new.options.extended_sequence_numbers
            || self.options.selectors != new.options.selectors
            || self.options.parallel_child_sas != new.options.parallel_child_sas
            || self.local_cidrs != new.local_cidrs
            || self.peer_cidrs != new.peer_cidrs;
        if everything {
            Change::Everything
        } else if children {
            Change::Children
        } else {
            Change::Keep
        }
    }

    /// Whether the connection should negotiate at all.
    pub(crate) const fn is_active(&self) -> bool {
        self.admin_up
    }
}

impl std::fmt::Display for IkeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::DistinguishedName(text) => write!(f, "distinguished name {}", text.escape_debug()),
            Self::Email(text) => write!(f, "e-mail {}", text.escape_default()),
            Self::Fqdn(text) => write!(f, "name {}", text.escape_default()),
            Self::KeyId(bytes) => {
                f.write_str("key id 0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}
