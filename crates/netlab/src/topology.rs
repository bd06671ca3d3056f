//! Which namespaces there are and how they are joined. Every link carries IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use isthmus_netlink::namespace;
use isthmus_types::Cidr;

use crate::node::Node;
use crate::ping::Ping;
use crate::sweep;

/// Owner of namespaces: those that it made are removed, with the processes in them, when it is dropped.
#[derive(Debug)]
pub struct Lab {
    stem: String,
    names: Vec<String>,
}

impl Lab {
    /// An empty lab. Removes what killed processes left behind first.
    pub fn new() -> Self {
        sweep::sweep();
        Self {
            stem: sweep::unique_stem(),
            names: Vec::new(),
        }
    }

    /// Makes a namespace; `role` becomes the end of its name.
    ///
    /// # Errors
    /// When the kernel refuses, for lack of privilege above all.
    pub fn node(&mut self, role: &str) -> Result<Node> {
        let name = format!("{}-{role}", self.stem);
        namespace::create(&name).context("making a namespace (are you root?)")?;
        self.names.push(name.clone());
        let node = Node::open(&name)?;
        // Nobody else is on any link: no address need be probed for before it is used.
        node.sysctl("ipv6/conf/all/accept_dad", "0")?;
        node.sysctl("ipv6/conf/default/accept_dad", "0")?;
        Ok(node)
    }

    /// Makes a namespace that forwards packets. Reverse-path filters are off: tunnels are asymmetric by nature.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn router(&mut self, role: &str) -> Result<Node> {
        let node = self.node(role)?;
        node.sysctl("ipv4/ip_forward", "1")?;
        node.sysctl("ipv4/conf/all/rp_filter", "0")?;
        node.sysctl("ipv4/conf/default/rp_filter", "0")?;
        node.sysctl("ipv6/conf/all/forwarding", "1")?;
        Ok(node)
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        sweep::remove(&self.names);
    }
}

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    node: &'a Node,
    interface: &'a str,
    address: Ipv4Addr,
    address_v6: Ipv6Addr,
}

fn join(near: End<'_>, far: End<'_>, mtu: u16) -> Result<()> {
    near.node.ip([format!(
        "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        near.interface,
        far.interface,
        far.node.namespace()
    )])?;
    for end in [near, far] {
        end.node.ip([
            format!("address add {}/24 dev {}", end.address, end.interface),
            format!("address add {}/64 dev {}", end.address_v6, end.interface),
            format!("link set {} up", end.interface),
        ])?;
    }
    Ok(())
}

/// An address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

/// Whether a translator stands between a gateway and the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nat {
    /// The gateway holds its public address itself.
    #[default]
    Absent,
    /// The gateway has a private address; a namespace between it and the internet masquerades, and lets only
    /// answers in. There is no IPv6 then.
    Masquerade,
    /// The same, but what comes to UDP 500 and 4500 is let in and sent to the gateway: others can begin.
    Forward,
}

/// What a [`TwoSites`] is like.
#[derive(Clone, Copy, Debug)]
pub struct TwoSitesOptions {
    /// Number of subnets at each site, each with one host: 1 to 200.
    pub subnets: u8,
    /// MTU of every link, bytes.
    pub mtu: u16,
    /// What stands before the left gateway.
    pub left_nat: Nat,
    /// What stands before the right gateway.
    pub right_nat: Nat,
}

impl Default for TwoSitesOptions {
    fn default() -> Self {
        Self {
            subnets: 1,
            mtu: 1500,
            left_nat: Nat::Absent,
            right_nat: Nat::Absent,
        }
    }
}

/// One site: a gateway and the subnets behind it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The gateway: interface `wan` to the internet, `lan0`, `lan1`, … to its subnets.
    pub gateway: Node,
    /// The gateway's own address on `wan`.
    pub address: Ipv4Addr,
    /// The address by which the other side sees the gateway: another one behind a translator.
    pub public_address: Ipv4Addr,
    /// The gateway's IPv6 address on `wan`.
    pub address_v6: Ipv6Addr,
    /// One host for each subnet.
    pub hosts: Vec<Host>,
}

/// A host in a subnet of its own.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its namespace: interface `eth0`, the gateway as default router.
    pub node: Node,
    /// Its address.
    pub address: Ipv4Addr,
    /// The subnet.
    pub subnet: Cidr,
    /// Its IPv6 address.
    pub address_v6: Ipv6Addr,
    /// The IPv6 subnet.
    pub subnet_v6: Cidr,
}

impl Host {
    /// Its address of a family.
    pub fn address_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.address.into(),
            Family::V6 => self.address_v6.into(),
        }
    }
}

impl Site {
    /// The subnets, in order.
    pub fn subnets(&self) -> Vec<Cidr> {
        self.subnets_of(Family::V4)
    }

    /// The subnets of a family, in order.
    pub fn subnets_of(&self, family: Family) -> Vec<Cidr> {
        self.hosts
            .iter()
            .map(|host| match family {
                Family::V4 => host.subnet,
                Family::V6 => host.subnet_v6,
            })
            .collect()
    }

    /// The gateway's own address of a family.
    pub fn address_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.address.into(),
            Family::V6 => self.address_v6.into(),
        }
    }

    /// The address of a family by which the other side sees the gateway.
    pub fn public_address_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.public_address.into(),
            Family::V6 => self.address_v6.into(),
        }
    }
}

/// Two sites joined by an internet that routes public addresses only.
#[derive(Debug)]
pub struct TwoSites {
    /// 10.1.x.0/24 behind 198.51.100.2, and fd00:1:0:x::/64 behind 2001:db8:1::2.
    pub left: Site,
    /// 10.2.x.0/24 behind 203.0.113.2, and fd00:2:0:x::/64 behind 2001:db8:2::2.
    pub right: Site,
    /// The router in the middle: interfaces `left` and `right`.
    pub internet: Node,
    // Last: the namespaces go after everything that was opened in them.
    lab: Lab,
}

impl TwoSites {
    /// Builds it.
    ///
    /// # Errors
    /// When the kernel refuses a step.
    pub fn new(options: TwoSitesOptions) -> Result<Self> {
        let mut lab = Lab::new();
        let internet = lab.router("internet")?;
        let left = site(&mut lab, &internet, options, Side::Left)?;
        let right = site(&mut lab, &internet, options, Side::Right)?;
        Ok(Self {
            left,
            right,
            internet,
            lab,
        })
    }

    /// Makes the internet route the private ranges too: the two sites reach each other without any tunnel.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn route_in_clear(&self) -> Result<()> {
        self.internet.ip([
            format!("route add 10.1.0.0/16 via {}", self.left.public_address),
            format!("route add 10.2.0.0/16 via {}", self.right.public_address),
        ])
    }

    /// Undoes [`TwoSites::route_in_clear`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop_routing_in_clear(&self) -> Result<()> {
        self.internet
            .ip(["route del 10.1.0.0/16", "route del 10.2.0.0/16"])
    }

    /// Has every node learn the addresses of its neighbours, by pings outside of any tunnel: until then the kernel keeps
    /// only a part of what waits to be sent, and a burst is not carried whole.
    ///
    /// # Errors
    /// When a ping is not answered in the usual time, as behind a translator that lets none in.
    pub fn meet_neighbours(&self) -> Result<()> {
        for (here, there) in [(&self.left, &self.right), (&self.right, &self.left)] {
            for host in &here.hosts {
                Ping::until_answered(&host.node, here.address)?;
            }
            Ping::until_answered(&here.gateway, there.public_address)?;
        }
        Ok(())
    }

    /// Makes the internet drop `percent` of all packets at random from now on.
    ///
    /// # Errors
    /// When nft refuses, for one because it does so already.
    pub fn lose(&self, percent: u8) -> Result<()> {
        self.internet.nft(&format!(
            "table inet weather {{
                chain forward {{
                    type filter hook forward priority filter + 10;
                    numgen random mod 100 < {percent} counter drop
                }}
            }}"
        ))
    }

    /// Undoes [`TwoSites::lose`].
    ///
    /// # Errors
    /// When nft refuses, for one because nothing is lost.
    pub fn lose_no_more(&self) -> Result<()> {
        self.internet.nft("delete table inet weather")
    }

    /// The lab, to add more namespaces to it.
    pub const fn lab(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

fn site(lab: &mut Lab, internet: &Node, options: TwoSitesOptions, side: Side) -> Result<Site> {
    let (name, number, network, nat) = match side {
        Side::Left => ("left", 1, [198, 51, 100], options.left_nat),
        Side::Right => ("right", 2, [203, 0, 113], options.right_nat),
    };
    let public = |last: u8| Ipv4Addr::new(network[0], network[1], network[2], last);
    let public_v6 = |last: u8| Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, last.into());
    let gateway = lab.router(&format!("{name}-gw"))?;
    let at_internet = End {
        node: internet,
        interface: name,
        address: public(1),
        address_v6: public_v6(1),
    };
    let at_gateway = End {
        node: &gateway,
        interface: "wan",
        address: public(2),
        address_v6: public_v6(2),
    };
    let address = if nat == Nat::Absent {
        join(at_gateway, at_internet, options.mtu)?;
        gateway.ip([
            format!("route add default via {}", public(1)),
            format!("route add default via {}", public_v6(1)),
        ])?;
        public(2)
    } else {
        let inside = [2, 1].map(|last| Ipv4Addr::new(100, 64, number as u8 - 1, last));
        let translator = translated(lab, at_internet, at_gateway, inside, options.mtu)?;
        if nat == Nat::Forward {
            forward(&translator, inside[0])?;
        }
        inside[0]
    };
    let mut hosts = Vec::new();
    for subnet in 0..options.subnets {
        let node = lab.node(&format!("{name}-host{subnet}"))?;
        let inside = |last: u8| Ipv4Addr::new(10, number as u8, subnet, last);
        let inside_v6 = |last: u8| Ipv6Addr::new(0xfd00, number, 0, subnet.into(), 0, 0, 0, last.into());
        join(
            End {
                node: &gateway,
                interface: &format!("lan{subnet}"),
                address: inside(1),
                address_v6: inside_v6(1),
            },
            End {
                node: &node,
                interface: "eth0",
                address: inside(10),
                address_v6: inside_v6(10),
            },
            options.mtu,
        )?;
        node.ip([
            format!("route add default via {}", inside(1)),
            format!("route add default via {}", inside_v6(1)),
        ])?;
        hosts.push(Host {
            node,
            address: inside(10),
            subnet: format!("10.{number}.{subnet}.0/24").parse()?,
            address_v6: inside_v6(10),
            subnet_v6: format!("fd00:{number}:0:{subnet:x}::/64").parse()?,
        });
    }
    Ok(Site {
        gateway,
        address,
        public_address: public(2),
        address_v6: public_v6(2),
        hosts,
    })
}

/// Puts a translator between the internet and the gateway; `inside` are the gateway's own address and the translator's before
/// it. The translator holds what would be the gateway's public one.
fn translated(
    lab: &mut Lab,
    at_internet: End<'_>,
    at_gateway: End<'_>,
    [inside, outside]: [Ipv4Addr; 2],
    mtu: u16,
) -> Result<Node> {
    let nat = lab.router(&format!("{}-nat", at_internet.interface))?;
    join(
        End {
            node: &nat,
            interface: "out",
            ..at_gateway
        },
        at_internet,
        mtu,
    )?;
    join(
        End {
            address: inside,
            address_v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
            ..at_gateway
        },
        End {
            node: &nat,
            interface: "in",
            address: outside,
            address_v6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
        },
        mtu,
    )?;
    nat.ip([format!("route add default via {}", at_internet.address)])?;
    nat.masquerade("out")?;
    at_gateway.node.ip([format!("route add default via {outside}")])?;
    Ok(nat)
}

/// Lets in what comes to the ports of IKE.
fn forward(translator: &Node, gateway: Ipv4Addr) -> Result<()> {
    translator.nft(&format!(
        "table ip translator {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                iifname out udp dport {{ 500, 4500 }} dnat to {gateway}
            }}
            chain forward {{
                iifname out ct status dnat accept
            }}
        }}"
    ))
}
