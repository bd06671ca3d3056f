//! VPN gateways and connections.

use std::net::{IpAddr, Ipv4Addr};

use isthmus_types::{Cidr, Secret, secret};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::ClientError;
use crate::http_api::Client;
use crate::id::{Id, Identity};
use crate::network::{Subnet, Vpc};
use crate::policy::{IkePolicy, IpsecPolicy};
use crate::resource::{Reference, Rest, resources};

/// A VPN gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VpnGateway {
    /// Its id.
    pub id: Id<VpnGateway>,
    /// Its name.
    pub name: String,
    /// `pending`, `stable`, `deleting` or what else.
    pub lifecycle_state: String,
    /// `ok`, `degraded`, `faulted` or `inapplicable`.
    pub health_state: String,
    /// Why it is not well.
    #[serde(default)]
    pub health_reasons: Vec<StatusReason>,
    /// Its public address.
    pub public_ip: PublicAddress,
    /// Its VPC.
    pub vpc: Reference<Vpc>,
    /// Its subnet.
    pub subnet: Reference<Subnet>,
    /// Its connections.
    pub connections: Vec<Reference<VpnConnection>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl VpnGateway {
    /// Whether the host has everything that it needs.
    pub fn is_available(&self) -> bool {
        self.lifecycle_state == "stable" && matches!(self.health_state.as_str(), "ok" | "degraded")
    }

    /// `pending`, `available`, `failed` or `deleting`: lifecycle and health in the one word that people say.
    pub fn status(&self) -> &str {
        match (self.lifecycle_state.as_str(), self.health_state.as_str()) {
            ("stable", "faulted") => "failed",
            ("stable", _) => "available",
            (other, _) => other,
        }
    }
}

/// A public address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublicAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReason {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A VPN gateway to create.
#[derive(Clone, Debug)]
pub struct NewVpnGateway {
    /// Its name; made up by the server if missing.
    pub name: Option<String>,
    /// Its subnet.
    pub subnet: Id<Subnet>,
}

/// A VPN connection. Its key is read but never written out again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VpnConnection {
    /// Its id.
    pub id: Id<VpnConnection>,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub status: String,
    /// Why it is down.
    #[serde(default)]
    pub status_reasons: Vec<StatusReason>,
    /// Whether it should be up.
    pub admin_state_up: bool,
    /// The shared key.
    #[serde(with = "secret::revealed", skip_serializing)]
    pub psk: Secret,
    /// Our side.
    pub local: Local,
    /// The other side.
    pub peer: Peer,
    /// Dead-peer detection.
    pub dead_peer_detection: DeadPeerDetection,
    /// `bidirectional` or `peer_only`.
    pub establish_mode: String,
    /// IKE policy, none for automatic negotiation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ike_policy: Option<Reference<IkePolicy>>,
    /// IPsec policy, none for automatic negotiation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipsec_policy: Option<Reference<IpsecPolicy>>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl VpnConnection {
    /// Whether it carries packets.
    pub fn is_up(&self) -> bool {
        self.status == "up"
    }

    /// Why it is down, in words; empty if nothing is known.
    pub fn reasons(&self) -> String {
        let messages: Vec<_> = self
            .status_reasons
            .iter()
            .map(|reason| reason.message.as_str())
            .collect();
        messages.join(" ")
    }
}

/// Our side of a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Local {
    /// Ranges.
    pub cidrs: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The other side of a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its address, if it is named by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its domain name, if it is named by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// Ranges.
    pub cidrs: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl Peer {
    /// Address or domain name.
    pub fn host(&self) -> &str {
        self.address
            .as_deref()
            .or(self.fqdn.as_deref())
            .unwrap_or_default()
    }
}

/// Dead-peer detection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadPeerDetection {
    /// `restart`, `clear`, `hold` or `none`.
    pub action: String,
    /// Seconds of silence before a probe.
    pub interval: u32,
    /// Seconds without an answer after which the peer is dead.
    pub timeout: u32,
}

/// Who may start negotiations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EstablishMode {
    /// Either end.
    Bidirectional,
    /// Only the peer.
    PeerOnly,
}

/// A VPN connection to create.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// Its name; made up by the server if missing.
    pub name: Option<String>,
    /// The shared key.
    pub psk: Secret,
    /// Address of the peer, or its domain name.
    pub peer: String,
    /// Ranges on our side.
    pub local_cidrs: Vec<Cidr>,
    /// Ranges on the peer's side.
    pub peer_cidrs: Vec<Cidr>,
    /// IKE policy; automatic negotiation if missing.
    pub ike_policy: Option<Id<IkePolicy>>,
    /// IPsec policy; automatic negotiation if missing.
    pub ipsec_policy: Option<Id<IpsecPolicy>>,
    /// Who may start negotiations.
    pub establish_mode: EstablishMode,
    /// Whether it is to be up at once.
    pub admin_state_up: bool,
}

/// What becomes of a property that may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is taken away.
    Remove,
    /// It becomes this.
    Set(T),
}

impl<T> Change<T> {
    /// Whether it stays.
    pub(crate) const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Remove => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

/// Changes of a VPN connection. What is missing stays.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionChange {
    /// New name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New key.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_revealed")]
    pub psk: Option<Secret>,
    /// Whether it should be up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_state_up: Option<bool>,
    /// New peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerHost>,
    /// New IKE policy.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub ike_policy: Change<Identity<IkePolicy>>,
    /// New IPsec policy.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub ipsec_policy: Change<Identity<IpsecPolicy>>,
}

impl Default for ConnectionChange {
    fn default() -> Self {
        Self {
            name: None,
            psk: None,
            admin_state_up: None,
            peer: None,
            ike_policy: Change::Keep,
            ipsec_policy: Change::Keep,
        }
    }
}

/// Where a peer is, as requests say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerHost {
    /// By address.
    Address(IpAddr),
    /// By domain name.
    Fqdn(String),
}

impl From<&str> for PeerHost {
    fn from(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Fqdn(text.to_owned()), Self::Address)
    }
}

resources! {
    VpnGateway, "VPN gateway", vpc;
    VpnConnection, "VPN connection";
}

#[derive(Serialize)]
struct GatewayPrototype<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    subnet: Identity<Subnet>,
    mode: &'static str,
}

#[derive(Serialize)]
struct ConnectionPrototype<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(with = "secret::revealed")]
    psk: Secret,
    local: LocalPrototype<'a>,
    peer: PeerPrototype<'a>,
    establish_mode: EstablishMode,
    admin_state_up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ike_policy: Option<Identity<IkePolicy>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipsec_policy: Option<Identity<IpsecPolicy>>,
}

#[derive(Serialize)]
struct LocalPrototype<'a> {
    cidrs: &'a [Cidr],
}

#[derive(Serialize)]
struct PeerPrototype<'a> {
    #[serde(flatten)]
    host: PeerHost,
    cidrs: &'a [Cidr],
}

#[derive(Serialize)]
struct Rename<'a> {
    name: &'a str,
}

fn some_revealed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => secret::revealed::serialize(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// Calls about VPN. Each fails with [`ClientError::Api`] if the server refuses.
#[expect(
    clippy::missing_errors_doc,
    reason = "the same for each: the API refused or cannot be reached"
)]
impl Client {
    /// All VPN gateways, newest first.
    pub async fn vpn_gateways(&self) -> Result<Vec<VpnGateway>, ClientError> {
        self.list("/vpn_gateways", "vpn_gateways").await
    }

    /// A VPN gateway.
    pub async fn vpn_gateway(&self, id: &Id<VpnGateway>) -> Result<VpnGateway, ClientError> {
        self.read(&format!("/vpn_gateways/{id}")).await
    }

    /// Creates a policy-mode VPN gateway.
    pub async fn create_vpn_gateway(&self, new: &NewVpnGateway) -> Result<VpnGateway, ClientError> {
        let prototype = GatewayPrototype {
            name: new.name.as_deref(),
            subnet: Identity::from(&new.subnet),
            mode: "policy",
        };
        self.create("/vpn_gateways", &prototype).await
    }

    /// Gives a VPN gateway another name.
    pub async fn rename_vpn_gateway(
        &self,
        id: &Id<VpnGateway>,
        name: &str,
    ) -> Result<VpnGateway, ClientError> {
        self.change(&format!("/vpn_gateways/{id}"), &Rename { name })
            .await
    }

    /// Asks for the deletion of a VPN gateway and its connections; it is gone when reading it answers 404.
    pub async fn delete_vpn_gateway(&self, id: &Id<VpnGateway>) -> Result<(), ClientError> {
        self.delete(&format!("/vpn_gateways/{id}")).await
    }

    /// The connections of a VPN gateway.
    pub async fn connections(&self, gateway: &Id<VpnGateway>) -> Result<Vec<VpnConnection>, ClientError> {
        self.list(&format!("/vpn_gateways/{gateway}/connections"), "connections")
            .await
    }

    /// A connection of a VPN gateway.
    pub async fn connection(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<VpnConnection, ClientError> {
        self.read(&format!("/vpn_gateways/{gateway}/connections/{id}"))
            .await
    }

    /// What the gateway knows about a connection: state, findings, SAs and last events, as JSON.
    pub async fn connection_doctor(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<serde_json::Value, ClientError> {
        self.read(&format!(
            "/isthmus/v1/vpn_gateways/{gateway}/connections/{id}/doctor"
        ))
        .await
    }

    /// Every setting of a connection as the gateway runs it, without the shared key, as JSON.
    pub async fn connection_settings(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<serde_json::Value, ClientError> {
        self.read(&format!(
            "/isthmus/v1/vpn_gateways/{gateway}/connections/{id}/settings"
        ))
        .await
    }

    /// Asks for all SAs of a connection to be deleted at both ends and negotiated anew. The connection reads down until it
    /// is up again.
    pub async fn reset_connection(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<VpnConnection, ClientError> {
        let path = format!("/isthmus/v1/vpn_gateways/{gateway}/connections/{id}/reset");
        self.create(&path, &serde_json::Map::new()).await
    }

    /// Creates a connection on a VPN gateway.
    pub async fn create_connection(
        &self,
        gateway: &Id<VpnGateway>,
        new: &NewConnection,
    ) -> Result<VpnConnection, ClientError> {
        let prototype = ConnectionPrototype {
            name: new.name.as_deref(),
            psk: new.psk.clone(),
            local: LocalPrototype {
                cidrs: &new.local_cidrs,
            },
            peer: PeerPrototype {
                host: PeerHost::from(new.peer.as_str()),
                cidrs: &new.peer_cidrs,
            },
            establish_mode: new.establish_mode,
            admin_state_up: new.admin_state_up,
            ike_policy: new.ike_policy.as_ref().map(Identity::from),
            ipsec_policy: new.ipsec_policy.as_ref().map(Identity::from),
        };
        self.create(&format!("/vpn_gateways/{gateway}/connections"), &prototype)
            .await
    }

    /// Changes a connection.
    pub async fn change_connection(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        change: &ConnectionChange,
    ) -> Result<VpnConnection, ClientError> {
        self.change(&format!("/vpn_gateways/{gateway}/connections/{id}"), change)
            .await
    }

    /// Adds a range to our side of a connection.
    pub async fn add_local_cidr(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        cidr: Cidr,
    ) -> Result<(), ClientError> {
        self.put(&cidr_path(gateway, id, "local", cidr)).await
    }

    /// Takes a range from our side of a connection.
    pub async fn remove_local_cidr(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        cidr: Cidr,
    ) -> Result<(), ClientError> {
        self.delete(&cidr_path(gateway, id, "local", cidr)).await
    }

    /// Adds a range to the peer's side of a connection.
    pub async fn add_peer_cidr(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        cidr: Cidr,
    ) -> Result<(), ClientError> {
        self.put(&cidr_path(gateway, id, "peer", cidr)).await
    }

    /// Takes a range from the peer's side of a connection.
    pub async fn remove_peer_cidr(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
        cidr: Cidr,
    ) -> Result<(), ClientError> {
        self.delete(&cidr_path(gateway, id, "peer", cidr)).await
    }

    /// Asks for the deletion of a connection; it is gone when reading it answers 404.
    pub async fn delete_connection(
        &self,
        gateway: &Id<VpnGateway>,
        id: &Id<VpnConnection>,
    ) -> Result<(), ClientError> {
        self.delete(&format!("/vpn_gateways/{gateway}/connections/{id}"))
            .await
    }
}

fn cidr_path(gateway: &Id<VpnGateway>, id: &Id<VpnConnection>, side: &str, cidr: Cidr) -> String {
    let cidr = cidr.to_string().replace('/', "%2F");
    format!("/vpn_gateways/{gateway}/connections/{id}/{side}/cidrs/{cidr}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_is_an_address_or_a_name() {
        let prototype = |host: &str| {
            serde_json::to_string(&PeerPrototype {
                host: PeerHost::from(host),
                cidrs: &["10.2.0.0/24".parse().unwrap()],
            })
            .unwrap()
        };
        assert_eq!(
            prototype("192.0.2.1"),
            r#"{"address":"192.0.2.1","cidrs":["10.2.0.0/24"]}"#
        );
        assert_eq!(
            prototype("a.example"),
            r#"{"fqdn":"a.example","cidrs":["10.2.0.0/24"]}"#
        );
    }

    #[test]
    fn change_tells_keeping_from_removing() {
        let mut change = ConnectionChange::default();
        assert_eq!(serde_json::to_string(&change).unwrap(), "{}");
        change.ike_policy = Change::Remove;
        change.admin_state_up = Some(false);
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"admin_state_up":false,"ike_policy":null}"#
        );
        change.ike_policy = Change::Set(Identity {
            id: Id::new("r006-1"),
        });
        assert!(
            serde_json::to_string(&change)
                .unwrap()
                .contains(r#""ike_policy":{"id":"r006-1"}"#)
        );
    }

    #[test]
    fn range_is_one_path_segment() {
        let path = cidr_path(
            &Id::new("g"),
            &Id::new("c"),
            "peer",
            "10.0.0.0/24".parse().unwrap(),
        );
        assert_eq!(path, "/vpn_gateways/g/connections/c/peer/cidrs/10.0.0.0%2F24");
    }

    #[test]
    fn key_is_read_but_not_written() {
        let text = r#"{"id":"c","name":"n","status":"down","admin_state_up":true,"psk":"hush-hush","establish_mode":
            "bidirectional","local":{"cidrs":[]},"peer":{"address":"192.0.2.1","cidrs":[]},
            "dead_peer_detection":{"action":"restart","interval":2,"timeout":10}}"#;
        let connection: VpnConnection = serde_json::from_str(text).unwrap();
        assert_eq!(connection.psk.reveal(), "hush-hush");
        assert!(!serde_json::to_string(&connection).unwrap().contains("hush"));
        assert!(!format!("{connection:?}").contains("hush"));
    }
}
