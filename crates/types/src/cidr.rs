//! Address ranges with no host bits set.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// An IP range whose host bits are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpNet", into = "IpNet")]
pub struct Cidr(IpNet);

/// Why a text or value is no [`Cidr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// The address has bits set that the prefix length does not cover.
    #[error("host bits are set")]
    HostBits,
    /// Not an address, a slash and a prefix length.
    #[error("not an address range in CIDR notation")]
    Malformed,
}

impl Cidr {
    /// The whole IPv4 space, `0.0.0.0/0`.
    pub const ALL_IPV4: Self = Self(IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)));

    /// Clears the host bits of `net`.
    pub fn truncating(net: IpNet) -> Self {
        Self(net.trunc())
    }

    /// A range of exactly one address.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }

    /// The range as the `ipnet` crate's type.
    pub const fn net(self) -> IpNet {
        self.0
    }

    /// The IPv4 range, or nothing for IPv6.
    pub const fn v4(self) -> Option<Ipv4Net> {
        match self.0 {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    /// The IPv6 range, or nothing for IPv4.
    pub const fn v6(self) -> Option<Ipv6Net> {
        match self.0 {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }

    /// First address of the range.
    pub fn network(self) -> IpAddr {
        self.0.network()
    }

    /// Number of leading one bits of the mask.
    pub fn prefix_len(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether `other` lies wholly inside this range.
    pub fn contains(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether `address` lies inside this range.
    pub fn contains_address(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }
}

impl TryFrom<IpNet> for Cidr {
    type Error = CidrError;

    fn try_from(net: IpNet) -> Result<Self, CidrError> {
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(CidrError::HostBits)
        }
    }
}

impl From<Cidr> for IpNet {
    fn from(cidr: Cidr) -> Self {
        cidr.0
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        text.parse::<IpNet>()
            .map_err(|_| CidrError::Malformed)?
            .try_into()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_host_bits_and_nonsense() {
        assert_eq!("10.0.0.1/24".parse::<Cidr>(), Err(CidrError::HostBits));
        assert_eq!("10.0.0.0".parse::<Cidr>(), Err(CidrError::Malformed));
        assert_eq!("10.0.0.0/33".parse::<Cidr>(), Err(CidrError::Malformed));
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let wide: Cidr = "10.0.0.0/8".parse().unwrap();
        let narrow: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(wide.contains(narrow) && !narrow.contains(wide));
    }
}
