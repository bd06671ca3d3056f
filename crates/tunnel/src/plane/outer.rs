//! What stands before an ESP packet on the wire: its destination, its marks, and how large it may be.

use std::net::{IpAddr, SocketAddr};

use isthmus_esp::ecn;
use isthmus_types::{DontFragment, DscpPolicy};
use isthmus_wire::ip::IpHeader;

/// No link carries less for IPv6 (RFC 8200 section 5): smaller limits do not bind inner packets of that version.
const MIN_IPV6_MTU: usize = 1280;

/// How the packets of one SA are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// What the differentiated services field says.
    pub dscp: DscpPolicy,
    /// What the "don't fragment" bit says.
    pub dont_fragment: DontFragment,
    /// Largest inner packet whose outer packet fits the path.
    pub inner_mtu: u16,
}

/// The outer header of a packet. Packets with equal ones may be sent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OuterHeader {
    /// Where it goes. See [`native`] for what a port of zero means.
    pub(super) remote: SocketAddr,
    /// Type of service or traffic class.
    pub(super) traffic_class: u8,
    /// Whether routers may fragment it.
    pub(super) may_fragment: bool,
}

impl Wrapping {
    /// Largest packet like `inner` that is sealed whole.
    pub(super) fn limit(&self, inner: &IpHeader) -> usize {
        let limit = usize::from(self.inner_mtu);
        match inner.source {
            IpAddr::V4(_) => limit,
            IpAddr::V6(_) => limit.max(MIN_IPV6_MTU),
        }
    }

    /// The outer header for `inner` on its way to `remote`.
    pub(super) fn header(&self, inner: &IpHeader, remote: SocketAddr) -> OuterHeader {
        let exceeds_path = self.limit(inner) > usize::from(self.inner_mtu);
        OuterHeader {
            remote,
            traffic_class: ecn::encapsulate(inner.traffic_class, self.dscp),
            may_fragment: exceeds_path
                || match self.dont_fragment {
                    DontFragment::Clear => true,
                    DontFragment::Copy => !inner.dont_fragment,
                    DontFragment::Set => false,
                },
        }
    }
}

/// Where ESP packets go that are not encapsulated in UDP: an address with port zero, which no datagram can go to.
pub fn native(remote: IpAddr) -> SocketAddr {
    SocketAddr::new(remote, 0)
}

/// Whether packets to `remote` are native ESP.
pub fn is_native(remote: SocketAddr) -> bool {
    remote.port() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(dont_fragment: bool, source: &str) -> IpHeader {
        IpHeader {
            source: source.parse().unwrap(),
            destination: source.parse().unwrap(),
            protocol: 17,
            header_len: 20,
            total_len: 100,
            fragment: isthmus_wire::ip::Fragment::Whole,
            dont_fragment,
            traffic_class: 0xb9,
        }
    }

    #[test]
    fn the_outer_header_follows_the_policy() {
        let remote = native("192.0.2.1".parse().unwrap());
        assert!(is_native(remote));
        for (policy, of_plain, of_protected) in [
            (DontFragment::Clear, true, true),
            (DontFragment::Copy, true, false),
            (DontFragment::Set, false, false),
        ] {
            let wrapping = Wrapping {
                dscp: DscpPolicy::Clear,
                dont_fragment: policy,
                inner_mtu: 1400,
            };
            for (dont_fragment, expected) in [(false, of_plain), (true, of_protected)] {
                let header = wrapping.header(&inner(dont_fragment, "10.0.0.1"), remote);
                assert_eq!(header.may_fragment, expected, "{policy:?}");
                assert_eq!(header.traffic_class, 1);
            }
        }
    }

    #[test]
    fn ipv6_keeps_its_minimum_on_a_narrow_path() {
        let wrapping = Wrapping {
            dscp: DscpPolicy::Copy,
            dont_fragment: DontFragment::Set,
            inner_mtu: 1200,
        };
        let remote = native("192.0.2.1".parse().unwrap());
        let (v4, v6) = (inner(true, "10.0.0.1"), inner(true, "fd00::1"));
        assert_eq!((wrapping.limit(&v4), wrapping.limit(&v6)), (1200, 1280));
        assert!(!wrapping.header(&v4, remote).may_fragment);
        assert!(wrapping.header(&v6, remote).may_fragment);
    }
}
