//! Ids, hrefs and CRNs of this dialect.
//!
//! Regional things are `r006-UUID`, zonal things `0717-UUID`, instances `0717_UUID`. The prefix is the same for all
//! regions and zones: clients treat ids as opaque, and one object has one id in every answer.

use isthmus_ops::ResourceKind;
use isthmus_types::ResourceBits;
use percent_encoding::percent_decode_str;

/// How ids of a kind of resource look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdKind {
    /// The kind, for error messages.
    pub resource: ResourceKind,
    prefix: &'static str,
    /// Path segment of the collection that holds it.
    pub collection: &'static str,
    /// Resource type in a CRN; none if it has no CRN.
    pub crn_type: Option<&'static str>,
}

const fn regional(
    resource: ResourceKind,
    collection: &'static str,
    crn_type: Option<&'static str>,
) -> IdKind {
    IdKind {
        resource,
        prefix: "r006-",
        collection,
        crn_type,
    }
}

const fn zonal(resource: ResourceKind, collection: &'static str, crn_type: Option<&'static str>) -> IdKind {
    IdKind {
        resource,
        prefix: "0717-",
        collection,
        crn_type,
    }
}

pub(crate) const VPC: IdKind = regional(ResourceKind::Vpc, "vpcs", Some("vpc"));
pub(crate) const NETWORK_ACL: IdKind =
    regional(ResourceKind::NetworkAcl, "network_acls", Some("network-acl"));
pub(crate) const ACL_RULE: IdKind = regional(ResourceKind::NetworkAcl, "rules", None);
pub(crate) const SECURITY_GROUP: IdKind = regional(
    ResourceKind::SecurityGroup,
    "security_groups",
    Some("security-group"),
);
pub(crate) const GROUP_RULE: IdKind = regional(ResourceKind::SecurityGroup, "rules", None);
pub(crate) const ROUTE_TABLE: IdKind =
    regional(ResourceKind::RouteTable, "routing_tables", Some("routing-table"));
pub(crate) const ADDRESS_PREFIX: IdKind = regional(ResourceKind::AddressPrefix, "address_prefixes", None);
pub(crate) const SUBNET: IdKind = zonal(ResourceKind::Subnet, "subnets", Some("subnet"));
pub(crate) const RESERVED_IP: IdKind = zonal(ResourceKind::ReservedIp, "reserved_ips", None);
pub(crate) const INSTANCE: IdKind = IdKind {
    resource: ResourceKind::Instance,
    prefix: "0717_",
    collection: "instances",
    crn_type: Some("instance"),
};
pub(crate) const INTERFACE: IdKind = zonal(ResourceKind::NetworkInterface, "network_interfaces", None);
pub(crate) const INSTANCE_ACTION: IdKind = zonal(ResourceKind::Instance, "actions", None);
pub(crate) const VOLUME_ATTACHMENT: IdKind = zonal(ResourceKind::Instance, "volume_attachments", None);
pub(crate) const VOLUME: IdKind = regional(ResourceKind::Instance, "volumes", Some("volume"));
pub(crate) const IMAGE: IdKind = regional(ResourceKind::Instance, "images", Some("image"));
pub(crate) const VPN_GATEWAY: IdKind = zonal(ResourceKind::VpnGateway, "vpn_gateways", Some("vpn"));
pub(crate) const GATEWAY_MEMBER: IdKind = zonal(ResourceKind::VpnGateway, "members", None);
pub(crate) const VPN_CONNECTION: IdKind = zonal(ResourceKind::VpnConnection, "connections", None);
pub(crate) const IKE_POLICY: IdKind = regional(ResourceKind::IkePolicy, "ike_policies", None);
pub(crate) const IPSEC_POLICY: IdKind = regional(ResourceKind::IpsecPolicy, "ipsec_policies", None);

impl IdKind {
    /// How ids of a kind of resource look; none if the kind has none here.
    pub const fn of(resource: ResourceKind) -> Option<&'static Self> {
        match resource {
            ResourceKind::AddressPrefix => Some(&ADDRESS_PREFIX),
            ResourceKind::IkePolicy => Some(&IKE_POLICY),
            ResourceKind::Instance => Some(&INSTANCE),
            ResourceKind::IpsecPolicy => Some(&IPSEC_POLICY),
            ResourceKind::NetworkAcl => Some(&NETWORK_ACL),
            ResourceKind::NetworkInterface => Some(&INTERFACE),
            ResourceKind::ReservedIp => Some(&RESERVED_IP),
            ResourceKind::RouteTable => Some(&ROUTE_TABLE),
            ResourceKind::SecurityGroup => Some(&SECURITY_GROUP),
            ResourceKind::Subnet => Some(&SUBNET),
            ResourceKind::Vpc => Some(&VPC),
            ResourceKind::VpnConnection => Some(&VPN_CONNECTION),
            ResourceKind::VpnGateway => Some(&VPN_GATEWAY),
            ResourceKind::Account
            | ResourceKind::ApiKey
            | ResourceKind::CustomerGateway
            | ResourceKind::PublicAddress
            | ResourceKind::Region
            | ResourceKind::ResourceGroup
            | ResourceKind::User
            | ResourceKind::Zone => None,
        }
    }

    /// The id as text.
    pub fn text(&self, bits: ResourceBits) -> String {
        format!("{}{}", self.prefix, bits.to_uuid())
    }

    /// The bits of an id that we made for this kind.
    pub fn bits(&self, text: &str) -> Option<ResourceBits> {
        ResourceBits::from_uuid(text.strip_prefix(self.prefix)?).ok()
    }

    /// The bits in a CRN whose last parts are a type and an id.
    pub fn bits_of_crn(&self, crn: &str) -> Option<ResourceBits> {
        let (head, id) = crn.rsplit_once(':')?;
        let (_, kind) = head.rsplit_once(':')?;
        (head.starts_with("crn:") && Some(kind) == self.crn_type)
            .then(|| self.bits(id))
            .flatten()
    }

    /// The bits in an href whose last segments are the collection and an id.
    pub fn bits_of_href(&self, href: &str) -> Option<ResourceBits> {
        let (collection, id) = last_segments(href)?;
        (collection == self.collection).then(|| self.bits(&id)).flatten()
    }
}

/// The last two path segments of an href, decoded.
pub(crate) fn last_segments(href: &str) -> Option<(String, String)> {
    let path = href.split(['?', '#']).next()?;
    let mut segments = path.rsplit('/');
    let last = percent_decode_str(segments.next()?).decode_utf8().ok()?;
    let before = percent_decode_str(segments.next()?).decode_utf8().ok()?;
    Some((before.into_owned(), last.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_identity_reads_back() {
        let bits = ResourceBits::from_random(0x1234_5678_9abc_def0);
        let id = SUBNET.text(bits);
        assert!(id.starts_with("0717-") && id.len() <= 64);
        assert_eq!(SUBNET.bits(&id), Some(bits));
        let crn = format!("crn:v1:bluemix:public:is:us-south-1:a/acct::subnet:{id}");
        assert_eq!(SUBNET.bits_of_crn(&crn), Some(bits));
        assert_eq!(VPC.bits_of_crn(&crn), None);
        assert_eq!(
            SUBNET.bits_of_href(&format!("https://x.test/v1/subnets/{id}?version=1")),
            Some(bits)
        );
        assert_eq!(VPC.bits_of_href(&format!("https://x.test/v1/subnets/{id}")), None);
        assert_eq!(INSTANCE.text(bits).get(..5), Some("0717_"));
    }

    #[test]
    fn ids_of_other_kinds_and_makers_are_unknown() {
        let bits = ResourceBits::from_random(5);
        assert_eq!(VPC.bits(&SUBNET.text(bits)), None);
        assert_eq!(VPC.bits("r006-0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11"), None);
        assert_eq!(VPC.bits(""), None);
    }
}
