//! What the tunnel daemon must run, and what it reports.

use std::net::IpAddr;
use std::path::PathBuf;

use isthmus_types::{
    Cidr, EspProposal, IkeProposal, IkeVersion, Secret, TunnelOptions, VpnConnectionId, VpnGatewayId, secret,
};
use serde::{Deserialize, Serialize};

use crate::report::{ConnectionReport, GatewayReport};

/// Everything that the tunnel daemon of one host must run. The agent sends it whole; the daemon acts on differences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPlan {
    /// The gateways of this host.
    pub gateways: Vec<GatewayTunnels>,
}

/// One gateway for the tunnel daemon: where its packets come from and go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTunnels {
    /// The gateway.
    pub gateway: VpnGatewayId,
    /// Its name, for logs.
    pub name: String,
    /// Namespace (as in `/run/netns`) that holds both its TUN device and its public address.
    pub namespace: String,
    /// Name of the TUN device there. The agent creates it persistent; the daemon attaches to it.
    pub tun: String,
    /// Address that UDP 500 and 4500 are bound to.
    pub public_address: IpAddr,
    /// Its address of the other IP version, bound to in the same way, if it has one. Each peer is spoken to from the address
    /// of its own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_address: Option<IpAddr>,
    /// Largest inner packet, bytes.
    pub mtu: u16,
    /// Directory where the keys of every SA are written in clear, as Wireshark's tables `ikev2_decryption_table` and
    /// `esp_sa`; nowhere if none.
    #[serde(default)]
    pub key_log: Option<PathBuf>,
    /// Its connections.
    pub connections: Vec<ConnectionPlan>,
}

impl GatewayTunnels {
    /// Its addresses, the preferred one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.public_address).chain(self.other_address)
    }
}

/// One VPN connection, with every choice made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPlan {
    /// The connection.
    pub connection: VpnConnectionId,
    /// Its name, for logs.
    pub name: String,
    /// Whether it should be up. Down means: SAs deleted, nothing negotiated, its ranges still never sent in clear.
    pub admin_up: bool,
    /// Rises on request to tear down and negotiate anew (reset).
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
    #[serde(with = "secret::carried")]
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
    /// Lifetime of the IKE SA, seconds; it is replaced before this passes.
    pub ike_lifetime_seconds: u32,
    /// Lifetime of a Child SA, seconds; it is replaced before this passes.
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
    #[serde(default)]
    pub options: TunnelOptions,
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PeerEndpoint {
    /// A fixed address.
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Anywhere: the peer begins, and its identity tells who it is.
    Anywhere,
    /// A name to resolve before each negotiation.
    Name {
        /// The domain name.
        fqdn: String,
    },
}

/// An IKE identity (RFC 7296 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum IkeIdentity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_DER_ASN1_DN, as text (RFC 4514): `CN=gateway,O=Example,C=CH`.
    DistinguishedName(String),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    Email(String),
    /// ID_KEY_ID, opaque bytes.
    KeyId(Vec<u8>),
}

/// Who may start negotiations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstablishMode {
    /// Either end.
    Bidirectional,
    /// Only the peer; we never initiate nor rekey.
    PeerOnly,
}

/// What to do when dead-peer detection finds the peer silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpdAction {
    /// Delete the SAs and wait.
    Clear,
    /// Delete the SAs; negotiate when traffic asks for it.
    Hold,
    /// Send no probes.
    None,
    /// Negotiate again at once.
    Restart,
}

/// What the tunnel daemon has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// Each gateway that it runs.
    pub gateways: Vec<GatewayReport>,
    /// Each connection that it knows.
    pub connections: Vec<ConnectionReport>,
}

/// What the agent asks of the tunnel daemon: one JSON object per line on the daemon's Unix stream socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum TunnelRequest {
    /// Run exactly this. Answered with [`TunnelReply::Applied`] when every change was taken up.
    Apply {
        /// The whole plan.
        plan: TunnelPlan,
    },
    /// Tell the state once.
    Report,
    /// Replace SAs of a connection now rather than when they get old. Answered with [`TunnelReply::Applied`], also if there
    /// are none.
    Rekey {
        /// The connection.
        connection: VpnConnectionId,
        /// Which of its SAs.
        sas: RekeyedSas,
    },
    /// Delete every SA at its peer, then exit.
    Stop,
    /// Tell the state now and after each change of it (counters alone are no change), until the stream closes.
    Watch,
}

/// Which SAs of a connection to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RekeyedSas {
    /// Its Child SAs.
    Child,
    /// Its IKE SA.
    Ike,
}

/// What the tunnel daemon answers, one JSON object per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum TunnelReply {
    /// The plan was taken up.
    Applied,
    /// The state.
    Report {
        /// All of it.
        report: TunnelReport,
    },
    /// The request was not understood.
    Refused {
        /// Why.
        reason: String,
    },
}
