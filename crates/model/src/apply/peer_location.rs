//! Peers without a fixed address: each gateway must tell them apart by what they call themselves.

use std::fmt::{Display, Formatter};
use std::net::{IpAddr, Ipv4Addr};

use isthmus_crypto::certificate::DistinguishedName;
use isthmus_ops::{
    ConnectionOptions, Identity, OpError, OpErrorCode, PeerAddress, PeerLocation, ResourceKind,
    TunnelIdentity,
};

use super::Draft;
use crate::record::VpnConnection;
use crate::refusal::{dangling, invalid_field, missing_field};

const KIND: ResourceKind = ResourceKind::VpnConnection;

impl Draft<'_> {
    /// A peer that may be anywhere has an identity of its own: neither the address that it does not keep, nor one that is
    /// nobody's, nor that of another such peer of the gateway. What is wrong is said of `field`.
    pub(super) fn check_peer_location(
        &self,
        connection: &VpnConnection,
        options: &ConnectionOptions,
        field: &str,
    ) -> Result<(), OpError> {
        if options.peer_location == PeerLocation::Fixed {
            return Ok(());
        }
        let known = self.known_as(connection, options)?.ok_or_else(|| {
            let why = "a peer that may be anywhere is known by its identity alone, so it needs one that is not its address";
            missing_field(KIND, field, why)
        })?;
        if let Known::Address(address) = &known
            && is_nobodys(*address)
        {
            return Err(invalid_field(
                KIND,
                field,
                address,
                "it is the address of nobody, and a peer that may be anywhere is known by its identity alone",
            ));
        }
        let others = self
            .state
            .connections_of(connection.gateway)
            .filter(|other| other.deleting.is_none() && other.id != connection.id);
        for other in others {
            let options = match self.state.tunnel_settings(other.id) {
                Some(settings) if settings.options.peer_location == PeerLocation::Anywhere => {
                    &settings.options
                }
                Some(_) | None => continue,
            };
            if self.known_as(other, options)?.as_ref() == Some(&known) {
                return Err(OpError::new(
                    OpErrorCode::InvalidState,
                    KIND,
                    format!(
                        "{field} {known} is already that of connection {}, whose peer may be anywhere too: only their \
                         identities tell such peers of one gateway apart",
                        other.meta.name
                    ),
                )
                .with_field(field)
                .with_value(known.to_string()));
            }
        }
        Ok(())
    }

    // None if all that is known of it is its address.
    fn known_as(
        &self,
        connection: &VpnConnection,
        options: &ConnectionOptions,
    ) -> Result<Option<Known>, OpError> {
        let peer = self
            .state
            .peer_of(connection)
            .ok_or_else(|| dangling(ResourceKind::CustomerGateway, connection.customer_gateway))?;
        Ok(
            match (&options.peer_id, &connection.peer_identity, &peer.address) {
                (Some(identity), ..) => Known::of_option(identity),
                (None, Some(identity), _) => Some(Known::of_dialect(identity)),
                (None, None, PeerAddress::Fqdn(name)) => Some(Known::Fqdn(name.clone())),
                (None, None, PeerAddress::Address(_)) => None,
            },
        )
    }
}

// Nobody can have it as the only one.
fn is_nobodys(address: IpAddr) -> bool {
    address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// What a peer calls itself, as it is compared: two that are equal cannot be told apart.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Address(IpAddr),
    DistinguishedName(DistinguishedName),
    Email(String),
    Fqdn(String),
    KeyId(Vec<u8>),
}

impl Known {
    fn of_option(identity: &TunnelIdentity) -> Option<Self> {
        Some(match identity {
            TunnelIdentity::Address(address) => Self::Address(*address),
            TunnelIdentity::DistinguishedName(text) => {
                Self::DistinguishedName(DistinguishedName::parse(text)?)
            }
            TunnelIdentity::Email(text) => Self::Email(text.clone()),
            TunnelIdentity::Fqdn(text) => Self::Fqdn(text.clone()),
            TunnelIdentity::KeyId(text) => Self::KeyId(text.clone().into_bytes()),
        })
    }

    fn of_dialect(identity: &Identity) -> Self {
        match identity {
            Identity::Address(address) => Self::Address(*address),
            Identity::Fqdn(name) | Identity::Hostname(name) => Self::Fqdn(name.clone()),
            Identity::KeyId(bytes) => Self::KeyId(bytes.clone()),
        }
    }
}

impl Display for Known {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::DistinguishedName(name) => name.fmt(f),
            Self::Email(text) | Self::Fqdn(text) => text.escape_debug().fmt(f),
            Self::KeyId(bytes) => write!(f, "keyid:{}", String::from_utf8_lossy(bytes).escape_debug()),
        }
    }
}
