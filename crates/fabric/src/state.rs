//! Kernel objects as they should be ([`Desired`]) and as they are ([`Observed`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use isthmus_types::{InstanceId, VpcId, VpnGatewayId};

use crate::ruleset::{ObservedRuleset, Ruleset, Table};

/// The planned object that a kernel object serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A VPN gateway.
    Gateway(VpnGatewayId),
    /// An instance.
    Instance(InstanceId),
    /// The host's own part: the internet namespace.
    Internet,
    /// A VPC's router.
    Vpc(VpcId),
}

/// A value and the planned object that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned<T> {
    /// Who it serves.
    pub owner: Owner,
    /// The value.
    pub value: T,
}

/// A link in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The link.
    pub link: String,
}

/// What of a namespace a [`Desired`] speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// All that is ours: what is ours and not desired is removed.
    Everything,
    /// The links it names and what hangs on them; the namespace itself is made if missing.
    Links,
    /// The links it names and what hangs on them; the namespace belongs to somebody else and is waited for.
    LinksOfForeign,
}

/// Kind of a desired link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback of the namespace, which exists by itself.
    Loopback,
    /// A persistent TAP device.
    Tap {
        /// The text that marks it as ours where it stands among links of others (`ifalias`).
        alias: String,
    },
    /// A persistent TUN device.
    Tun,
    /// The end of a veth pair that the pair is made from.
    Veth {
        /// The other end, a [`LinkKind::VethPeer`].
        peer: Place,
    },
    /// The other end of a veth pair; its first end makes it.
    VethPeer,
}

/// A desired link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who it serves.
    pub owner: Owner,
    /// Its kind.
    pub kind: LinkKind,
    /// Its hardware address; none means any.
    pub mac: Option<[u8; 6]>,
    /// Its MTU; none means any.
    pub mtu: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
}

/// What identifies a route: the kernel replaces the route of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Table.
    pub table: u32,
    /// Destination.
    pub destination: IpNet,
    /// Metric: the lower wins.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// To hosts on a link.
    Link {
        /// The link.
        link: String,
    },
    /// To a neighbour that is taken to be on the link whatever the link's addresses say.
    Gateway {
        /// The link.
        link: String,
        /// The neighbour.
        address: IpAddr,
    },
    /// Nowhere; the sender is told that the host is unreachable.
    Unreachable,
}

impl RouteTarget {
    /// The link that the route leaves by.
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Gateway { link, .. } | Self::Link { link } => Some(link),
            Self::Unreachable => None,
        }
    }
}

/// A route's content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads.
    pub target: RouteTarget,
    /// Source address of packets that the host itself sends by it.
    pub source: Option<Ipv4Addr>,
}

/// A policy rule for IPv4 that leads to a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The lower comes first.
    pub priority: u32,
    /// Sources that it holds for; none means all.
    pub source: Option<Ipv4Net>,
    /// Link that packets came in by; `lo` means that the host itself sent them; none means any.
    pub incoming: Option<String>,
    /// The table to look in.
    pub table: u32,
    /// Routes of this prefix length or shorter are passed over.
    pub suppress_prefix: Option<u32>,
}

/// A desired sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Who it serves.
    pub owner: Owner,
    /// Its value.
    pub value: String,
    /// The link that it comes and goes with.
    pub link: Option<String>,
}

/// All that one namespace must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Who it serves.
    pub owner: Owner,
    /// What of it this state speaks for.
    pub claim: Claim,
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Addresses with their mask, by link.
    pub addresses: BTreeSet<(String, IpNet)>,
    /// Permanent IPv4 neighbours by link and address.
    pub neighbours: BTreeMap<(String, Ipv4Addr), [u8; 6]>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Owned<Route>>,
    /// Policy rules.
    pub rules: BTreeMap<Rule, Owner>,
    /// Sysctls by their path below `/proc/sys`.
    pub sysctls: BTreeMap<String, Sysctl>,
    /// nft tables.
    pub rulesets: BTreeMap<Table, Owned<Ruleset>>,
}

impl Namespace {
    /// A namespace with nothing in it.
    pub const fn new(owner: Owner, claim: Claim) -> Self {
        Self {
            owner,
            claim,
            links: BTreeMap::new(),
            addresses: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            routes: BTreeMap::new(),
            rules: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            rulesets: BTreeMap::new(),
        }
    }

    pub(crate) fn sysctl(&mut self, path: impl Into<String>, value: &str) {
        let sysctl = Sysctl {
            owner: self.owner,
            value: value.to_owned(),
            link: None,
        };
        self.sysctls.insert(path.into(), sysctl);
    }

    pub(crate) fn link_sysctl(&mut self, owner: Owner, link: &str, path: String, value: &str) {
        let sysctl = Sysctl {
            owner,
            value: value.to_owned(),
            link: Some(link.to_owned()),
        };
        self.sysctls.insert(path, sysctl);
    }

    pub(crate) fn loopback(&mut self) {
        let link = Link {
            owner: self.owner,
            kind: LinkKind::Loopback,
            mac: None,
            mtu: None,
            up: true,
        };
        self.links.insert("lo".to_owned(), link);
    }

    pub(crate) fn route(
        &mut self,
        owner: Owner,
        key: RouteKey,
        target: RouteTarget,
        source: Option<Ipv4Addr>,
    ) {
        let value = Route { target, source };
        self.routes.insert(key, Owned { owner, value });
    }
}

/// The kernel objects of one VPC, or of the host's own part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Namespace>,
}

impl Desired {
    /// Every planned object that something here serves.
    pub fn owners(&self) -> BTreeSet<Owner> {
        let mut owners = BTreeSet::new();
        for namespace in self.namespaces.values() {
            owners.insert(namespace.owner);
            owners.extend(namespace.links.values().map(|link| link.owner));
            owners.extend(namespace.routes.values().map(|route| route.owner));
            owners.extend(namespace.rules.values().copied());
            owners.extend(namespace.sysctls.values().map(|sysctl| sysctl.owner));
            owners.extend(namespace.rulesets.values().map(|ruleset| ruleset.owner));
        }
        owners
    }
}

/// What the kernel really has in the namespaces asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Namespaces that exist, by name.
    pub namespaces: BTreeMap<String, ObservedNamespace>,
}

/// One namespace as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedNamespace {
    /// All links by name.
    pub links: BTreeMap<String, ObservedLink>,
    /// All addresses by link and address with mask; whether each carries our mark.
    pub addresses: BTreeMap<(String, IpNet), Mark>,
    /// Permanent neighbours that carry our mark.
    pub neighbours: BTreeMap<(String, Ipv4Addr), [u8; 6]>,
    /// Routes that carry our mark. A route of ours that [`Route`] cannot express is left out, and thus replaced.
    pub routes: BTreeMap<RouteKey, Route>,
    /// Policy rules that carry our mark.
    pub rules: BTreeSet<Rule>,
    /// Those sysctls that were asked for and exist.
    pub sysctls: BTreeMap<String, String>,
    /// nft tables that were asked for and exist.
    pub rulesets: BTreeMap<Table, ObservedRuleset>,
}

/// Whether an address carries our mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Not ours, or from a kernel that does not keep marks.
    Absent,
    /// Ours.
    Ours,
}

/// Kind of an observed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObservedKind {
    /// Loopback.
    Loopback,
    /// Any other kind.
    Other,
    /// TUN or TAP device.
    Tun,
    /// One end of a veth pair.
    Veth {
        /// Index of the other end in its own namespace.
        peer: u32,
    },
}

/// One link as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedLink {
    /// Index in its namespace.
    pub index: u32,
    /// Its kind.
    pub kind: ObservedKind,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
}
