//! What the operator of an installation chooses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use isthmus_types::{Cidr, HostName, Realm, RegionName, ZoneName};
use serde::{Deserialize, Serialize};

/// What the operator of an installation chooses. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The region.
    pub region: RegionName,
    /// Its zones, in order.
    pub zones: Vec<ZoneName>,
    /// Range that public addresses are taken from.
    pub public_pool: Cidr,
    /// Address of the router of the private internet; never handed out.
    pub uplink_router: Ipv4Addr,
    /// The host that carries all packets.
    pub host: HostName,
    /// The mark of this installation on its host.
    pub realm: Realm,
    /// Default address prefix of each zone of a VPC whose prefixes are made for it. A zone without an entry takes the
    /// next free /18 after those of the zones before it (see [`Settings::auto_prefix`]).
    pub auto_prefixes: BTreeMap<ZoneName, Cidr>,
    /// How much an account may have.
    pub quotas: Quotas,
    /// Whether automatic negotiation also offers MD5, SHA-1, 3DES and the Diffie-Hellman groups 2 and 5.
    pub weak_auto_negotiation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let zone = |name: &str| ZoneName::new(name).expect("literal zone name");
        Self {
            region: RegionName::new("us-south").expect("literal region name"),
            zones: vec![zone("us-south-1"), zone("us-south-2"), zone("us-south-3")],
            public_pool: Cidr::truncating(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24))),
            uplink_router: Ipv4Addr::new(203, 0, 113, 1),
            host: HostName::new("host-1").expect("literal host name"),
            realm: Realm::new("main").expect("literal realm"),
            auto_prefixes: BTreeMap::new(),
            quotas: Quotas::default(),
            weak_auto_negotiation: true,
        }
    }
}

impl Settings {
    /// Default address prefix of `zone`: the configured one, else the /18 that its position in [`Settings::zones`]
    /// gives it, counted from 10.240.0.0. None if the zone does not exist or the private range is used up.
    pub fn auto_prefix(&self, zone: &ZoneName) -> Option<Cidr> {
        let position = self.zones.iter().position(|name| name == zone)?;
        if let Some(cidr) = self.auto_prefixes.get(zone) {
            return Some(*cidr);
        }
        let base = u32::from(Ipv4Addr::new(10, 240, 0, 0));
        let step = u32::try_from(position).ok()?.checked_mul(1 << 14)?;
        let network = Ipv4Addr::from(base.checked_add(step)?);
        (network.octets()[0] == 10).then(|| Cidr::truncating(IpNet::V4(Ipv4Net::new_assert(network, 18))))
    }

    /// Whether `zone` belongs to the region.
    pub fn has_zone(&self, zone: &ZoneName) -> bool {
        self.zones.contains(zone)
    }
}

/// How much an account may have. The defaults are those of IBM Cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// VPCs of an account.
    pub vpcs: u32,
    /// Address prefixes of a VPC.
    pub address_prefixes_per_vpc: u32,
    /// Subnets of a VPC.
    pub subnets_per_vpc: u32,
    /// Instances of an account.
    pub instances: u32,
    /// VPN gateways of an account.
    pub vpn_gateways: u32,
    /// VPN gateways of an account in one zone.
    pub vpn_gateways_per_zone: u32,
    /// Connections of a VPN gateway.
    pub vpn_connections_per_gateway: u32,
    /// Local ranges, and peer ranges, of a connection.
    pub cidrs_per_connection: u32,
    /// Local ranges, and peer ranges, of all connections of a gateway.
    pub cidrs_per_gateway: u32,
    /// IKE policies of an account.
    pub ike_policies: u32,
    /// IPsec policies of an account.
    pub ipsec_policies: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            vpcs: 10,
            address_prefixes_per_vpc: 25,
            subnets_per_vpc: 100,
            instances: 1000,
            vpn_gateways: 9,
            vpn_gateways_per_zone: 3,
            vpn_connections_per_gateway: 10,
            cidrs_per_connection: 15,
            cidrs_per_gateway: 50,
            ike_policies: 20,
            ipsec_policies: 20,
        }
    }
}

impl Quotas {
    /// No limit on anything.
    pub const fn unlimited() -> Self {
        Self {
            vpcs: u32::MAX,
            address_prefixes_per_vpc: u32::MAX,
            subnets_per_vpc: u32::MAX,
            instances: u32::MAX,
            vpn_gateways: u32::MAX,
            vpn_gateways_per_zone: u32::MAX,
            vpn_connections_per_gateway: u32::MAX,
            cidrs_per_connection: u32::MAX,
            cidrs_per_gateway: u32::MAX,
            ike_policies: u32::MAX,
            ipsec_policies: u32::MAX,
        }
    }
}
