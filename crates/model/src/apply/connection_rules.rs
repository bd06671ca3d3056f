//! What a VPN connection may be.

use std::net::IpAddr;

use isthmus_ops::{DeadPeerDetection, Identity, OpError, OpErrorCode, PeerAddress, ResourceKind, Side};
use isthmus_types::{
    Cidr, IkePolicyId, IkeVersion, IpsecPolicyId, Secret, VpcId, VpnConnectionId, VpnGatewayId,
};

use super::ipv6::check_ipv6_peer;
use super::{Draft, within};
use crate::address::{ipv4, overlap};
use crate::record::{VpnConnection, VpnGateway};
use crate::refusal::{cidrs_field, invalid_field, missing_field, over_quota, referenced};

const KIND: ResourceKind = ResourceKind::VpnConnection;
const LONGEST_DOMAIN_NAME: usize = 253;
const LONGEST_KEY_ID: usize = 255;

/// The other side.
const fn opposite(side: Side) -> Side {
    match side {
        Side::Local => Side::Peer,
        Side::Peer => Side::Local,
    }
}

/// The ranges of a side.
pub(super) fn cidrs(connection: &VpnConnection, side: Side) -> &[Cidr] {
    match side {
        Side::Local => &connection.local_cidrs,
        Side::Peer => &connection.peer_cidrs,
    }
}

/// 6 to 128 of the allowed characters, not looking like a hexadecimal (`0x`) or base-64 (`0s`) key.
pub(super) fn check_psk(psk: &Secret) -> Result<(), OpError> {
    let text = psk.reveal();
    let refusal = |why: &str| {
        Err(OpError::new(
            OpErrorCode::InvalidField,
            KIND,
            format!("the pre-shared key {why}"),
        )
        .with_field("psk"))
    };
    if !(6..=128).contains(&text.len()) {
        return refusal("must have 6 to 128 characters");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-+&!@#$%^*(),.:_".contains(&b))
    {
        return refusal("may hold letters, digits and - + & ! @ # $ % ^ * ( ) , . : _ only");
    }
    if text.starts_with("0x") || text.starts_with("0s") {
        return refusal("must not begin with 0x or 0s");
    }
    Ok(())
}

/// A unicast address that is not the gateway's own and of an IP version that it has, or a domain name.
pub(super) fn check_peer(peer: &PeerAddress, gateway: &VpnGateway) -> Result<(), OpError> {
    match peer {
        PeerAddress::Address(IpAddr::V4(address)) => {
            if address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback()
            {
                return Err(invalid_field(
                    KIND,
                    "peer",
                    address,
                    "no gateway can have this address",
                ));
            }
            if *address == gateway.public_address {
                return Err(invalid_field(
                    KIND,
                    "peer",
                    address,
                    "it is the gateway's own address",
                ));
            }
            Ok(())
        }
        PeerAddress::Address(IpAddr::V6(address)) => check_ipv6_peer(*address, gateway),
        PeerAddress::Fqdn(name) => {
            if domain_name(name) {
                Ok(())
            } else {
                Err(invalid_field(
                    KIND,
                    "peer",
                    name.escape_debug(),
                    "it is not a domain name",
                ))
            }
        }
    }
}

/// An identity that fits into an IKE payload.
pub(super) fn check_identity(identity: Option<&Identity>, field: &str) -> Result<(), OpError> {
    match identity {
        None | Some(Identity::Address(_)) => Ok(()),
        Some(Identity::Fqdn(name) | Identity::Hostname(name)) => {
            if domain_name(name) {
                Ok(())
            } else {
                Err(invalid_field(
                    KIND,
                    field,
                    name.escape_debug(),
                    "it is not a domain name",
                ))
            }
        }
        Some(Identity::KeyId(bytes)) => {
            if (1..=LONGEST_KEY_ID).contains(&bytes.len()) {
                Ok(())
            } else {
                let why = "a key id has 1 to 255 bytes";
                Err(invalid_field(
                    KIND,
                    field,
                    format!("of {} bytes", bytes.len()),
                    why,
                ))
            }
        }
    }
}

/// Whether it is a domain name (RFC 1123).
pub(super) fn domain_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_DOMAIN_NAME
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Interval 1 to 86399 s, timeout 2 to 86399 s and not less than the interval.
pub(super) fn check_dead_peer_detection(dpd: &DeadPeerDetection) -> Result<(), OpError> {
    if !(1..=86_399).contains(&dpd.interval) {
        let why = "it must be from 1 to 86399 seconds";
        return Err(invalid_field(
            KIND,
            "dead_peer_detection.interval",
            dpd.interval,
            why,
        ));
    }
    if !(2..=86_399).contains(&dpd.timeout) {
        let why = "it must be from 2 to 86399 seconds";
        return Err(invalid_field(
            KIND,
            "dead_peer_detection.timeout",
            dpd.timeout,
            why,
        ));
    }
    if dpd.interval > dpd.timeout {
        let why = "it must not exceed the timeout";
        return Err(invalid_field(
            KIND,
            "dead_peer_detection.interval",
            dpd.interval,
            why,
        ));
    }
    Ok(())
}

/// The ranges of a new connection, each side for itself: at least one, IPv4, none twice.
pub(super) fn check_lists(local: &[Cidr], peer: &[Cidr]) -> Result<(), OpError> {
    for (side, list) in [(Side::Local, local), (Side::Peer, peer)] {
        let field = cidrs_field(side);
        if list.is_empty() {
            return Err(missing_field(KIND, field, "at least one range is needed"));
        }
        for (position, cidr) in list.iter().enumerate() {
            let field = format!("{field}[{position}]");
            ipv4(*cidr, KIND, &field)?;
            if list[..position].contains(cidr) {
                return Err(OpError::new(
                    OpErrorCode::CidrRepeated,
                    KIND,
                    format!("the range {cidr} is listed twice"),
                )
                .with_field(field)
                .with_value(cidr.to_string()));
            }
        }
    }
    Ok(())
}

/// Where a range that is checked belongs.
pub(super) struct Place<'a> {
    pub(super) vpc: VpcId,
    /// None while the connection is being made.
    pub(super) connection: Option<VpnConnectionId>,
    pub(super) side: Side,
    /// Ranges of the same side, without the one that is checked.
    pub(super) same: &'a [Cidr],
    /// Ranges of the other side.
    pub(super) other: &'a [Cidr],
    pub(super) field: String,
}

impl Draft<'_> {
    /// Local ranges of a connection do not overlap each other; local and peer ranges do not overlap, except that all
    /// of IPv4 may be a peer range; peer ranges overlap no other connection's peer ranges in the VPC.
    pub(super) fn check_overlaps(&self, cidr: Cidr, place: &Place<'_>) -> Result<(), OpError> {
        let refuse = |other: Cidr| Err(overlap(KIND, &place.field, cidr, other));
        if place.side == Side::Local
            && let Some(other) = place.same.iter().find(|other| other.overlaps(cidr))
        {
            return refuse(*other);
        }
        let whole = |side: Side, range: Cidr| side == Side::Peer && range == Cidr::ALL_IPV4;
        if !whole(place.side, cidr)
            && let Some(other) = place
                .other
                .iter()
                .find(|other| other.overlaps(cidr) && !whole(opposite(place.side), **other))
        {
            return refuse(*other);
        }
        if place.side == Side::Peer {
            let others = self
                .state
                .gateways_of(place.vpc)
                .flat_map(|gateway| self.state.connections_of(gateway.id))
                .filter(|other| other.deleting.is_none() && Some(other.id) != place.connection);
            for other in others {
                if let Some(range) = other.peer_cidrs.iter().find(|range| range.overlaps(cidr)) {
                    return refuse(*range);
                }
            }
        }
        Ok(())
    }

    /// A connection may have so many ranges per side, and so may all connections of a gateway together.
    pub(super) fn check_cidr_quota(
        &self,
        gateway: VpnGatewayId,
        connection: Option<VpnConnectionId>,
        side: Side,
        count: usize,
    ) -> Result<(), OpError> {
        let quotas = self.state.settings().quotas;
        let (per_connection, per_gateway) = match side {
            Side::Local => (
                "local ranges in a VPN connection",
                "local ranges in a VPN gateway",
            ),
            Side::Peer => ("peer ranges in a VPN connection", "peer ranges in a VPN gateway"),
        };
        let refusal = |what, limit| over_quota(KIND, what, limit).with_field(cidrs_field(side));
        within(quotas.cidrs_per_connection, count, |limit| {
            refusal(per_connection, limit)
        })?;
        let elsewhere: usize = self
            .state
            .connections_of(gateway)
            .filter(|other| other.deleting.is_none() && Some(other.id) != connection)
            .map(|other| cidrs(other, side).len())
            .sum();
        within(quotas.cidrs_per_gateway, elsewhere + count, |limit| {
            refusal(per_gateway, limit)
        })
    }

    /// Both policies exist; one for IKEv1 needs an IPsec policy with a single value per list.
    pub(super) fn check_policies(
        &self,
        ike: Option<IkePolicyId>,
        ipsec: Option<IpsecPolicyId>,
    ) -> Result<(), OpError> {
        let ipsec = ipsec
            .map(|id| referenced(self.access().ipsec_policy(id), "ipsec_policy"))
            .transpose()?;
        let ike = ike
            .map(|id| referenced(self.access().ike_policy(id), "ike_policy"))
            .transpose()?;
        let Some(ike) = ike.filter(|policy| policy.version == IkeVersion::V1) else {
            return Ok(());
        };
        let why = "an IKEv1 policy needs an IPsec policy with one value per list";
        match ipsec {
            None => Err(missing_field(KIND, "ipsec_policy", why).with_value(ike.id.to_string())),
            Some(policy) if policy.is_single_valued() => Ok(()),
            Some(policy) => Err(invalid_field(KIND, "ipsec_policy", policy.id, why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names_follow_the_label_rules() {
        for good in ["a", "vpn.example.com", "a-b.c_d", &"a".repeat(63)] {
            assert!(domain_name(good), "{good}");
        }
        let long = vec!["abcdefgh"; 29].join(".");
        for bad in ["", ".", "a.", "-a", "a-", "a b", "ä", &"a".repeat(64), &long] {
            assert!(!domain_name(bad), "{bad}");
        }
    }
}
