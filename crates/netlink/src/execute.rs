//! Carries out operations, one at a time. Each is idempotent: what is there already, or gone already, is success,
//! and the next observation tells whether it is as it should be.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use isthmus_fabric::{Operation, Place, Route, RouteKey, RouteTarget, Rule, name};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;

use crate::device::{self, Layer};
use crate::namespace::{self, NamespaceError};
use crate::nft::{self, NftError};
use crate::sysctl;
use crate::visit::Visitor;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The kernel refused.
    #[error("{operation} failed")]
    Kernel {
        /// What was to be done.
        operation: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be made or entered.
    #[error("{operation} failed")]
    Namespace {
        /// What was to be done.
        operation: String,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// nft refused.
    #[error("{operation} failed")]
    Nft {
        /// What was to be done.
        operation: String,
        /// Why.
        #[source]
        source: NftError,
    },
}

impl Visitor {
    /// Carries out one operation.
    ///
    /// # Errors
    /// [`ExecuteError`] if it could not be done; nothing else has changed then.
    pub fn execute(&mut self, operation: &Operation) -> Result<(), ExecuteError> {
        let namespace = operation.namespace();
        let kernel = |source| ExecuteError::Kernel {
            operation: operation.to_string(),
            source,
        };
        let of_namespace = |source| ExecuteError::Namespace {
            operation: operation.to_string(),
            source,
        };
        if let Operation::CreateNamespace { namespace } = operation {
            self.forget(namespace);
            return match namespace::create(namespace) {
                Err(NamespaceError::Exists { .. }) | Ok(()) => Ok(()),
                Err(source) => Err(of_namespace(source)),
            };
        }
        self.enter(namespace).map_err(of_namespace)?;
        match operation {
            Operation::CreateNamespace { .. } => Ok(()),
            Operation::CreateTap { place, alias } => {
                device::create_prepared(&place.link, Layer::Ethernet, || {
                    let mut message = LinkMessage::default();
                    message.attributes.push(LinkAttribute::IfName(place.link.clone()));
                    message.attributes.push(LinkAttribute::IfAlias(alias.clone()));
                    let socket = self.routes(&place.namespace)?;
                    socket.change(RouteNetlinkMessage::SetLink(message), 0)
                })
                .map_err(kernel)
            }
            Operation::CreateTun { place } => {
                device::create_persistent(&place.link, Layer::Ip).map_err(kernel)
            }
            Operation::ReplaceRuleset {
                table,
                ruleset,
                previous,
                ..
            } => nft::replace(table, ruleset, previous.as_ref()).map_err(|source| ExecuteError::Nft {
                operation: operation.to_string(),
                source,
            }),
            Operation::WriteSysctl { path, value, .. } => sysctl::write(path, value).map_err(kernel),
            Operation::AddAddress { .. }
            | Operation::AddRule { .. }
            | Operation::CreateVeth { .. }
            | Operation::RemoveAddress { .. }
            | Operation::RemoveLink { .. }
            | Operation::RemoveNeighbour { .. }
            | Operation::RemoveRoute { .. }
            | Operation::RemoveRule { .. }
            | Operation::ReplaceNeighbour { .. }
            | Operation::ReplaceRoute { .. }
            | Operation::SetLink { .. } => self.over_netlink(operation).map_err(kernel),
        }
    }

    fn over_netlink(&mut self, operation: &Operation) -> io::Result<()> {
        let create = NLM_F_CREATE | NLM_F_EXCL;
        let replace = NLM_F_CREATE | NLM_F_REPLACE;
        let (message, flags, removes) = match operation {
            Operation::AddAddress { place, address } => {
                let message = address_message(place, address.addr(), address.prefix_len())?;
                (RouteNetlinkMessage::NewAddress(message), create, false)
            }
            Operation::AddRule { rule, .. } => {
                (RouteNetlinkMessage::NewRule(rule_message(rule)), create, false)
            }
            Operation::CreateVeth {
                place,
                mac,
                peer,
                peer_mac,
            } => {
                let message = self.veth_message(place, *mac, peer, *peer_mac)?;
                (RouteNetlinkMessage::NewLink(message), create, false)
            }
            Operation::RemoveAddress { place, address } => {
                match address_message(place, address.addr(), address.prefix_len()) {
                    Ok(message) => (RouteNetlinkMessage::DelAddress(message), 0, true),
                    Err(error) => return absent_is_success(error),
                }
            }
            Operation::RemoveLink { place } => {
                let mut message = LinkMessage::default();
                message.attributes.push(LinkAttribute::IfName(place.link.clone()));
                (RouteNetlinkMessage::DelLink(message), 0, true)
            }
            Operation::RemoveNeighbour { place, address } => match neighbour_message(place, *address, None) {
                Ok(message) => (RouteNetlinkMessage::DelNeighbour(message), 0, true),
                Err(error) => return absent_is_success(error),
            },
            Operation::RemoveRoute { key, .. } => {
                (RouteNetlinkMessage::DelRoute(route_message(key, None)?), 0, true)
            }
            Operation::RemoveRule { rule, .. } => (RouteNetlinkMessage::DelRule(rule_message(rule)), 0, true),
            Operation::ReplaceNeighbour { place, address, mac } => {
                let message = neighbour_message(place, *address, Some(*mac))?;
                (RouteNetlinkMessage::NewNeighbour(message), replace, false)
            }
            Operation::ReplaceRoute { key, route, .. } => {
                let message = route_message(key, Some(route))?;
                (RouteNetlinkMessage::NewRoute(message), replace, false)
            }
            Operation::SetLink { place, mac, mtu, up } => {
                let message = set_link_message(place, *mac, *mtu, *up);
                (RouteNetlinkMessage::SetLink(message), 0, false)
            }
            Operation::CreateNamespace { .. }
            | Operation::CreateTap { .. }
            | Operation::CreateTun { .. }
            | Operation::ReplaceRuleset { .. }
            | Operation::WriteSysctl { .. } => return Ok(()),
        };
        let adds = flags & NLM_F_EXCL != 0 && !matches!(operation, Operation::CreateVeth { .. });
        match self.routes(operation.namespace())?.change(message, flags) {
            Err(error) if removes => absent_is_success(error),
            Err(error) if adds && error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
            result => result,
        }
    }

    fn veth_message(
        &mut self,
        place: &Place,
        mac: Option<[u8; 6]>,
        peer: &Place,
        peer_mac: Option<[u8; 6]>,
    ) -> io::Result<LinkMessage> {
        let mut far = LinkMessage::default();
        far.attributes.push(LinkAttribute::IfName(peer.link.clone()));
        if let Some(mac) = peer_mac {
            far.attributes.push(LinkAttribute::Address(mac.to_vec()));
        }
        let descriptor = self.descriptor(&peer.namespace).map_err(io::Error::other)?;
        far.attributes.push(LinkAttribute::NetNsFd(descriptor));
        let mut near = LinkMessage::default();
        near.attributes.push(LinkAttribute::IfName(place.link.clone()));
        if let Some(mac) = mac {
            near.attributes.push(LinkAttribute::Address(mac.to_vec()));
        }
        near.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        Ok(near)
    }
}

fn absent_is_success(error: io::Error) -> io::Result<()> {
    let absent = [
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::ENODEV,
        Errno::ENXIO,
        Errno::EADDRNOTAVAIL,
    ];
    if absent
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
    {
        Ok(())
    } else {
        Err(error)
    }
}

// In the namespace that the thread is in.
fn index_of(link: &str) -> io::Result<u32> {
    Ok(if_nametoindex(link)?)
}

fn protocol() -> RouteProtocol {
    RouteProtocol::from(name::PROTOCOL)
}

fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn address_message(place: &Place, address: IpAddr, prefix_len: u8) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address);
    message.header.prefix_len = prefix_len;
    message.header.scope = AddressScope::Universe;
    message.header.index = index_of(&place.link)?;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Protocol(AddressProtocol::Other(name::PROTOCOL)),
    ];
    if let IpAddr::V4(address) = address
        && prefix_len < 31
    {
        let host_bits = u32::MAX >> prefix_len;
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    if address.is_ipv6() {
        // Usable at once: nobody else can have it.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    Ok(message)
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(protocol()),
    ];
    if let Some(source) = rule.source {
        message.header.src_len = source.prefix_len();
        message
            .attributes
            .push(RuleAttribute::Source(IpAddr::V4(source.network())));
    }
    if let Some(incoming) = &rule.incoming {
        message.attributes.push(RuleAttribute::Iifname(incoming.clone()));
    }
    if let Some(length) = rule.suppress_prefix {
        message.attributes.push(RuleAttribute::SuppressPrefixLen(length));
    }
    message
}

fn neighbour_message(place: &Place, address: Ipv4Addr, mac: Option<[u8; 6]>) -> io::Result<NeighbourMessage> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index_of(&place.link)?;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    if let Some(mac) = mac {
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        message.attributes.push(NeighbourAttribute::Protocol(protocol()));
    }
    Ok(message)
}

fn route_message(key: &RouteKey, route: Option<&Route>) -> io::Result<RouteMessage> {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(key.destination.addr());
    message.header.destination_prefix_length = key.destination.prefix_len();
    message.header.protocol = protocol();
    message.header.kind = RouteType::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message.attributes.push(RouteAttribute::Table(key.table));
    message.attributes.push(RouteAttribute::Priority(key.metric));
    if key.destination.prefix_len() > 0 {
        let destination = route_address(key.destination.network());
        message.attributes.push(RouteAttribute::Destination(destination));
    }
    let Some(route) = route else { return Ok(message) };
    message.header.kind = RouteType::Unicast;
    match &route.target {
        RouteTarget::Gateway { link, address } => {
            message.header.scope = RouteScope::Universe;
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Oif(index_of(link)?));
            message
                .attributes
                .push(RouteAttribute::Gateway(route_address(*address)));
        }
        RouteTarget::Link { link } => {
            message.header.scope = RouteScope::Link;
            message.attributes.push(RouteAttribute::Oif(index_of(link)?));
        }
        RouteTarget::Unreachable => {
            message.header.kind = RouteType::Unreachable;
            message.header.scope = RouteScope::Universe;
        }
    }
    if let Some(source) = route.source {
        message
            .attributes
            .push(RouteAttribute::PrefSource(RouteAddress::Inet(source)));
    }
    Ok(message)
}

fn set_link_message(place: &Place, mac: Option<[u8; 6]>, mtu: Option<u32>, up: Option<bool>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(place.link.clone()));
    if let Some(mac) = mac {
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    }
    if let Some(mtu) = mtu {
        message.attributes.push(LinkAttribute::Mtu(mtu));
    }
    if let Some(up) = up {
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
    }
    message
}
