//! Reads what namespaces hold.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what the kernel may say is an open set"
)]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use isthmus_fabric::name::HOST_NAMESPACE;
use isthmus_fabric::state::{Mark, Namespace};
use isthmus_fabric::{
    Desired, Observed, ObservedKind, ObservedLink, ObservedNamespace, Route, RouteKey, RouteTarget, Rule,
    name,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::namespace::{self, NamespaceError};
use crate::nft::{self, NftError};
use crate::socket::RouteSocket;
use crate::sysctl;
use crate::visit::Visitor;

/// A suppressor that is off, as the kernel writes it.
const NO_SUPPRESSOR: u32 = u32::MAX;

/// What addresses and routes are read of.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Why a namespace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The kernel refused.
    #[error("reading {what} of namespace {namespace} failed")]
    Kernel {
        /// The namespace.
        namespace: String,
        /// What was read.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("entering namespace {namespace} failed")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// nft refused.
    #[error("reading nft tables of namespace {namespace} failed")]
    Nft {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: NftError,
    },
}

impl Visitor {
    /// Reads every namespace that `desired` names. Those that do not exist are left out.
    ///
    /// # Errors
    /// [`ObserveError`] if one exists and cannot be read.
    pub fn observe(&mut self, desired: &Desired) -> Result<Observed, ObserveError> {
        let mut observed = Observed::default();
        for (name, wanted) in &desired.namespaces {
            if name != HOST_NAMESPACE && !namespace::exists(name) {
                self.forget(name);
                continue;
            }
            let found = self.observe_namespace(name, wanted)?;
            observed.namespaces.insert(name.clone(), found);
        }
        Ok(observed)
    }

    /// Names of the links in the host's own namespace that carry `alias`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn aliased_links(&mut self, alias: &str) -> io::Result<Vec<String>> {
        let answers = self.routes(HOST_NAMESPACE)?.dump(&links_request())?;
        let named = |message: &LinkMessage| {
            let marked = message.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::IfAlias(found) => found == alias,
                _ => false,
            });
            message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) if marked => Some(name.clone()),
                _ => None,
            })
        };
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => named(message),
                _ => None,
            })
            .collect())
    }

    fn observe_namespace(
        &mut self,
        name: &str,
        wanted: &Namespace,
    ) -> Result<ObservedNamespace, ObserveError> {
        self.enter(name).map_err(|source| ObserveError::Namespace {
            namespace: name.to_owned(),
            source,
        })?;
        let mut found = ObservedNamespace::default();
        let failed = |what| {
            move |source| ObserveError::Kernel {
                namespace: name.to_owned(),
                what,
                source,
            }
        };
        let socket = self.routes(name).map_err(failed("links"))?;
        let links = observe_links(socket).map_err(failed("links"))?;
        let names: BTreeMap<u32, &str> = links
            .iter()
            .map(|(name, link)| (link.index, name.as_str()))
            .collect();
        found.addresses = observe_addresses(socket, &names).map_err(failed("addresses"))?;
        found.neighbours = observe_neighbours(socket, &names).map_err(failed("neighbours"))?;
        found.routes = observe_routes(socket, &names).map_err(failed("routes"))?;
        found.rules = observe_rules(socket).map_err(failed("rules"))?;
        found.links = links;
        for path in wanted.sysctls.keys() {
            if let Some(value) = sysctl::read(path).map_err(failed("sysctls"))? {
                found.sysctls.insert(path.clone(), value);
            }
        }
        for table in wanted.rulesets.keys() {
            let ruleset = nft::observe(table).map_err(|source| ObserveError::Nft {
                namespace: name.to_owned(),
                source,
            })?;
            if let Some(ruleset) = ruleset {
                found.rulesets.insert(table.clone(), ruleset);
            }
        }
        Ok(found)
    }
}

fn observe_links(socket: &mut RouteSocket) -> io::Result<BTreeMap<String, ObservedLink>> {
    let answers = socket.dump(&links_request())?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => link_of(message),
            _ => None,
        })
        .collect())
}

fn links_request() -> RouteNetlinkMessage {
    let mut request = LinkMessage::default();
    request
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(request)
}

fn link_of(message: LinkMessage) -> Option<(String, ObservedLink)> {
    let (mut name, mut mac, mut mtu, mut peer, mut kind) = (None, None, 0, 0, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(value) => mtu = value,
            LinkAttribute::Link(index) => peer = index,
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let kind = if message.header.flags.contains(LinkFlags::Loopback) {
        ObservedKind::Loopback
    } else {
        match kind {
            Some(InfoKind::Tun) => ObservedKind::Tun,
            Some(InfoKind::Veth) => ObservedKind::Veth { peer },
            _ => ObservedKind::Other,
        }
    };
    let link = ObservedLink {
        index: message.header.index,
        kind,
        mac,
        mtu,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    Some((name?, link))
}

fn observe_addresses(
    socket: &mut RouteSocket,
    names: &BTreeMap<u32, &str>,
) -> io::Result<BTreeMap<(String, IpNet), Mark>> {
    let mut found = BTreeMap::new();
    for family in FAMILIES {
        let mut request = AddressMessage::default();
        request.header.family = family;
        let answers = socket.dump(&RouteNetlinkMessage::GetAddress(request))?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address_of(message, names),
            _ => None,
        }));
    }
    Ok(found)
}

fn address_of(message: AddressMessage, names: &BTreeMap<u32, &str>) -> Option<((String, IpNet), Mark)> {
    let link = names.get(&message.header.index)?;
    let (mut local, mut mark) = (None, Mark::Absent);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            // The only one that an IPv6 address without a peer has.
            AddressAttribute::Address(address @ IpAddr::V6(_)) => local = local.or(Some(address)),
            AddressAttribute::Protocol(protocol) if u8::from(protocol) == name::PROTOCOL => mark = Mark::Ours,
            _ => {}
        }
    }
    let address = IpNet::new(local?, message.header.prefix_len).ok()?;
    Some((((*link).to_owned(), address), mark))
}

fn observe_neighbours(
    socket: &mut RouteSocket,
    names: &BTreeMap<u32, &str>,
) -> io::Result<BTreeMap<(String, Ipv4Addr), [u8; 6]>> {
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = socket.dump(&RouteNetlinkMessage::GetNeighbour(request))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => neighbour_of(message, names),
            _ => None,
        })
        .collect())
}

fn neighbour_of(
    message: NeighbourMessage,
    names: &BTreeMap<u32, &str>,
) -> Option<((String, Ipv4Addr), [u8; 6])> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let link = names.get(&message.header.ifindex)?;
    let (mut address, mut mac, mut ours) = (None, None, false);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok(),
            NeighbourAttribute::Protocol(protocol) => ours = u8::from(protocol) == name::PROTOCOL,
            _ => {}
        }
    }
    ours.then_some((((*link).to_owned(), address?), mac?))
}

fn observe_routes(
    socket: &mut RouteSocket,
    names: &BTreeMap<u32, &str>,
) -> io::Result<BTreeMap<RouteKey, Route>> {
    let mut found = BTreeMap::new();
    for family in FAMILIES {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let answers = socket.dump(&RouteNetlinkMessage::GetRoute(request))?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => route_of(message, names),
            _ => None,
        }));
    }
    Ok(found)
}

fn route_of(message: RouteMessage, names: &BTreeMap<u32, &str>) -> Option<(RouteKey, Route)> {
    let header = &message.header;
    if u8::from(header.protocol) != name::PROTOCOL || header.tos != 0 {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut metric = 0;
    let (mut link, mut gateway, mut source) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = value,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = address.into(),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = address.into(),
            RouteAttribute::Priority(value) => metric = value,
            RouteAttribute::Oif(index) => link = Some((*names.get(&index)?).to_owned()),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(IpAddr::V4(address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => gateway = Some(IpAddr::V6(address)),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    let target = match (header.kind, link, gateway) {
        (RouteType::Unreachable, _, _) => RouteTarget::Unreachable,
        (RouteType::Unicast, Some(link), Some(address)) if header.flags.contains(RouteFlags::Onlink) => {
            RouteTarget::Gateway { link, address }
        }
        (RouteType::Unicast, Some(link), None) => RouteTarget::Link { link },
        _ => return None,
    };
    let key = RouteKey {
        table,
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        metric,
    };
    Some((key, Route { target, source }))
}

fn observe_rules(socket: &mut RouteSocket) -> io::Result<std::collections::BTreeSet<Rule>> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = socket.dump(&RouteNetlinkMessage::GetRule(request))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(message) => rule_of(message),
            _ => None,
        })
        .collect())
}

fn rule_of(message: RuleMessage) -> Option<Rule> {
    let mut rule = Rule {
        priority: 0,
        source: None,
        incoming: None,
        table: u32::from(message.header.table),
        suppress_prefix: None,
    };
    let mut ours = false;
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => rule.priority = value,
            RuleAttribute::Source(IpAddr::V4(address)) => {
                rule.source = Ipv4Net::new(address, message.header.src_len).ok();
            }
            RuleAttribute::Iifname(link) => rule.incoming = Some(link),
            RuleAttribute::Table(value) => rule.table = value,
            RuleAttribute::SuppressPrefixLen(value) if value != NO_SUPPRESSOR => {
                rule.suppress_prefix = Some(value)
            }
            RuleAttribute::Protocol(protocol) => ours = u8::from(protocol) == name::PROTOCOL,
            _ => {}
        }
    }
    (ours && message.header.action == RuleAction::ToTable).then_some(rule)
}
