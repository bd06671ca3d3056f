//! What the operator of an installation chooses.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
    /// Range that IPv6 addresses of VPN gateways are taken from.
    pub public_pool_ipv6: Cidr,
    /// IPv6 address of the router of the private internet; never handed out.
    pub uplink_router_ipv6: Ipv6Addr,
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
            public_pool_ipv6: Cidr::truncating(IpNet::V6(Ipv6Net::new_assert(
                Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0),
                64,
            ))),
            uplink_router_ipv6: Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1),
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

    /// Whether the parts fit together.
    ///
    /// # Errors
    /// [`SettingsError`] names what does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.zones.is_empty() {
            return Err(SettingsError::NoZone);
        }
        for (position, zone) in self.zones.iter().enumerate() {
            if self.zones[..position].contains(zone) {
                return Err(SettingsError::ZoneTwice(zone.clone()));
            }
        }
        if let Some(zone) = self.auto_prefixes.keys().find(|zone| !self.has_zone(zone)) {
            return Err(SettingsError::UnknownZone(zone.clone()));
        }
        if self.public_pool.v4().is_none() {
            return Err(SettingsError::PoolNotIpv4(self.public_pool));
        }
        if self.public_pool_ipv6.v6().is_none() {
            return Err(SettingsError::PoolNotIpv6(self.public_pool_ipv6));
        }
        let mut seen: Vec<Cidr> = Vec::with_capacity(self.zones.len());
        for zone in &self.zones {
            let prefix = self
                .auto_prefix(zone)
                .ok_or_else(|| SettingsError::NoPrefix(zone.clone()))?;
            if crate::address::vpc_range(prefix, isthmus_ops::ResourceKind::AddressPrefix, "auto_prefixes")
                .is_err()
            {
                return Err(SettingsError::PrefixNotUsable(prefix));
            }
            if let Some(other) = seen.iter().find(|other| other.overlaps(prefix)) {
                return Err(SettingsError::PrefixOverlap(prefix, *other));
            }
            seen.push(prefix);
        }
        Ok(())
    }

    /// Whether `zone` belongs to the region.
    pub fn has_zone(&self, zone: &ZoneName) -> bool {
        self.zones.contains(zone)
    }
}

/// What is wrong with [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No zone left for a default prefix.
    #[error("zone {0} needs a default address prefix of its own in the settings")]
    NoPrefix(ZoneName),
    /// A region without zones.
    #[error("the region has no zone")]
    NoZone,
    /// The pool of public addresses must be IPv4.
    #[error("the public pool {0} is not an IPv4 range")]
    PoolNotIpv4(Cidr),
    /// The pool of IPv6 addresses of gateways must be IPv6.
    #[error("the IPv6 public pool {0} is not an IPv6 range")]
    PoolNotIpv6(Cidr),
    /// A default prefix that no VPC may have.
    #[error("the default address prefix {0} is not one that a VPC may have")]
    PrefixNotUsable(Cidr),
    /// Default prefixes of two zones overlap.
    #[error("the default address prefixes {0} and {1} overlap")]
    PrefixOverlap(Cidr, Cidr),
    /// A default prefix for a zone that does not exist.
    #[error("a default address prefix is given for zone {0}, which does not exist")]
    UnknownZone(ZoneName),
    /// A zone listed twice.
    #[error("zone {0} is listed twice")]
    ZoneTwice(ZoneName),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_together_and_are_those_of_the_first_region() {
        let settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        let prefixes: Vec<String> = settings
            .zones
            .iter()
            .map(|zone| settings.auto_prefix(zone).unwrap().to_string())
            .collect();
        assert_eq!(prefixes, ["10.240.0.0/18", "10.240.64.0/18", "10.240.128.0/18"]);
    }

    #[test]
    fn an_empty_file_gives_the_defaults_and_a_partial_one_keeps_the_rest() {
        assert_eq!(
            serde_json::from_str::<Settings>("{}").unwrap(),
            Settings::default()
        );
        let partial: Settings =
            serde_json::from_str(r#"{"quotas":{"vpcs":3},"public_pool":"198.51.100.0/25"}"#).unwrap();
        assert_eq!(partial.quotas.vpcs, 3);
        assert_eq!(partial.quotas.subnets_per_vpc, 100);
        assert_eq!(partial.region, Settings::default().region);
        assert!(serde_json::from_str::<Settings>(r#"{"quota":{}}"#).is_err());
    }

    #[test]
    fn settings_that_contradict_themselves_are_refused() {
        let zone = |name: &str| ZoneName::new(name).unwrap();
        let with = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check()
        };
        assert_eq!(with(&|s| s.zones.clear()), Err(SettingsError::NoZone));
        assert_eq!(
            with(&|s| s.zones.push(zone("us-south-1"))),
            Err(SettingsError::ZoneTwice(zone("us-south-1")))
        );
        let range = |text: &str| text.parse::<Cidr>().unwrap();
        assert!(matches!(
            with(&|s| s
                .auto_prefixes
                .extend([(zone("us-south-2"), range("10.240.0.0/16"))])),
            Err(SettingsError::PrefixOverlap(..))
        ));
        assert!(matches!(
            with(&|s| s
                .auto_prefixes
                .extend([(zone("us-south-2"), range("169.254.0.0/16"))])),
            Err(SettingsError::PrefixNotUsable(_))
        ));
        assert!(matches!(
            with(&|s| s.auto_prefixes.extend([(zone("moon-1"), range("10.1.0.0/16"))])),
            Err(SettingsError::UnknownZone(_))
        ));
        assert!(matches!(
            with(&|s| s.public_pool = range("2001:db8::/64")),
            Err(SettingsError::PoolNotIpv4(_))
        ));
        assert!(matches!(
            with(&|s| s.public_pool_ipv6 = range("198.51.100.0/24")),
            Err(SettingsError::PoolNotIpv6(_))
        ));
    }
}
