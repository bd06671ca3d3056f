//! Plans to test with, and the namespaces they lead to, removed in the end whatever happens.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test ends where something is not as it must be"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use isthmus_fabric::name;
use isthmus_hostplan::*;
use isthmus_netlab::{Node, Ping};
use isthmus_netlink::namespace;
use isthmus_types::*;

pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const ROUTER_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A realm of this test alone.
pub struct Lab {
    pub realm: Realm,
}

impl Lab {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "kernel tests need root");
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let realm = Realm::new(format!("t{}x{number}", std::process::id())).unwrap();
        Self { realm }
    }

    pub fn uplink(&self) -> UplinkPlan {
        UplinkPlan::Private {
            pool: "198.51.100.0/24".parse().unwrap(),
            router: ROUTER,
            router_ipv6: Some(ROUTER_IPV6),
        }
    }

    pub fn plan(&self, generation: u64, vpcs: impl IntoIterator<Item = VpcPlan>) -> HostPlan {
        HostPlan {
            host: HostName::new("lab").unwrap(),
            realm: self.realm.clone(),
            generation: Generation(generation),
            uplink: self.uplink(),
            vpcs: vpcs
                .into_iter()
                .map(|vpc| (vpc.vpc, vpc))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    pub fn router(&self, vpc: &VpcPlan) -> String {
        name::router_namespace(&self.realm, vpc.vpc)
    }

    pub fn instance(&self, port: &PortPlan) -> String {
        name::instance_namespace(&self.realm, port.instance)
    }

    pub fn internet(&self) -> String {
        name::internet_namespace(&self.realm)
    }

    pub fn namespaces(&self) -> Vec<String> {
        let prefix = name::namespace_prefix(&self.realm);
        namespace::list()
            .unwrap()
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.namespaces() {
            let _ = namespace::remove(&name);
        }
        clear_host(&self.realm);
    }
}

/// An id that no other process uses: a TAP's wire is named in the namespace that all tests share.
pub fn bits(kind: u64, number: u64) -> ResourceBits {
    let process = u128::from(std::process::id());
    ResourceBits::from_random(u128::from(kind) << 60 | process << 28 | u128::from(number) << 3 | 5)
}

/// A VPC 10.N.0.0/16 with subnets 10.N.0.0/24 and 10.N.1.0/24, two instances in each, everything permitted.
pub fn vpc(number: u8) -> VpcPlan {
    let base = u64::from(number) * 100;
    let group = SecurityGroupId(bits(5, base));
    let acl = NetworkAclId(bits(6, base));
    let everything = Cidr::ALL_IPV4;
    let subnets = (0..2u8).map(|index| SubnetPlan {
        subnet: SubnetId(bits(2, base + u64::from(index))),
        cidr: format!("10.{number}.{index}.0/24").parse().unwrap(),
        router: Ipv4Addr::new(10, number, index, 1),
        acl,
        vpn_gateway: None,
    });
    let ports = (0..4u8).map(|index| PortPlan {
        interface: NetworkInterfaceId(bits(3, base + u64::from(index))),
        instance: InstanceId(bits(4, base + u64::from(index))),
        instance_name: format!("instance-{index}"),
        subnet: SubnetId(bits(2, base + u64::from(index / 2))),
        address: Ipv4Addr::new(10, number, index / 2, 4 + index % 2),
        mac: [0x02, 0, 0, number, 0, index],
        attachment: Attachment::Namespace,
        power: Power::On,
        security_groups: vec![group],
        spoofing: Spoofing::Forbidden,
    });
    let allow = AclRule {
        action: AclAction::Allow,
        source: everything,
        destination: everything,
    };
    VpcPlan {
        vpc: VpcId(bits(1, base)),
        generation: Generation(1),
        ranges: vec![format!("10.{number}.0.0/16").parse().unwrap()],
        subnets: subnets.collect(),
        ports: ports.collect(),
        source_nat: Some(Ipv4Addr::new(198, 51, 100, 10 + number)),
        security_groups: vec![SecurityGroupPlan {
            group,
            members: (0..4u8)
                .map(|i| Ipv4Addr::new(10, number, i / 2, 4 + i % 2))
                .collect(),
            inbound: vec![GroupRule::Range { cidr: everything }],
            outbound: vec![GroupRule::Range { cidr: everything }],
        }],
        acls: vec![NetworkAclPlan {
            acl,
            inbound: vec![allow.clone()],
            outbound: vec![allow],
        }],
        gateways: Vec::new(),
    }
}

/// Adds a gateway with one connection to `peer_range`, serving both subnets.
pub fn with_gateway(mut vpc: VpcPlan, number: u8, peer: u8) -> VpcPlan {
    let base = u64::from(number) * 100;
    let gateway = VpnGatewayId(bits(7, base));
    for subnet in &mut vpc.subnets {
        subnet.vpn_gateway = Some(gateway);
    }
    let own = Ipv4Addr::new(198, 51, 100, 100 + number);
    let other = Ipv4Addr::new(198, 51, 100, 100 + peer);
    vpc.gateways.push(GatewayPlan {
        key_log: false,
        gateway,
        name: "gateway".to_owned(),
        public_address: own,
        public_ipv6: Some(Ipv6Addr::new(
            0x2001,
            0xdb8,
            0,
            0,
            0,
            0,
            0,
            100 + u16::from(number),
        )),
        mtu: 1400,
        connections: vec![ConnectionPlan {
            connection: VpnConnectionId(bits(8, base)),
            name: "connection".to_owned(),
            admin_up: true,
            reset_count: 0,
            version: IkeVersion::V2,
            peer: PeerEndpoint::Address {
                address: other.into(),
            },
            local_identity: IkeIdentity::Address(own.into()),
            peer_identity: IkeIdentity::Address(other.into()),
            psk: Secret::new("not a secret, only a test".to_owned()),
            establish: EstablishMode::Bidirectional,
            ike_proposals: Vec::new(),
            esp_proposals: Vec::new(),
            local_cidrs: vec![format!("10.{number}.0.0/16").parse().unwrap()],
            peer_cidrs: vec![format!("10.{peer}.0.0/16").parse().unwrap()],
            ike_lifetime_seconds: 28800,
            esp_lifetime_seconds: 3600,
            dpd_action: DpdAction::Restart,
            dpd_interval_seconds: 2,
            dpd_timeout_seconds: 10,
            force_encapsulation: true,
            options: TunnelOptions::default(),
        }],
    });
    vpc
}

/// Runs a command in a namespace and returns what it wrote.
pub fn run_in(namespace: &str, command: &str) -> Output {
    let mut words = command.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    namespace::spawn(namespace, &mut command)
        .unwrap()
        .wait_with_output()
        .unwrap()
}

/// Runs a command in a namespace that must succeed.
pub fn must(namespace: &str, command: &str) -> String {
    let output = run_in(namespace, command);
    assert!(
        output.status.success(),
        "{command} in {namespace}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a ping is answered soon: a link that has just come up loses the first.
pub fn reaches(namespace: &str, target: Ipv4Addr) -> bool {
    let node = Node::existing(namespace).unwrap();
    Ping::until_answered(&node, target).is_ok()
}

/// Whether one ping is answered.
pub fn pings(namespace: &str, target: Ipv4Addr) -> bool {
    let node = Node::existing(namespace).unwrap();
    let count = Ping::exactly(&node, target, Duration::from_millis(1), 1).unwrap();
    count.received == 1
}

/// Sends one datagram from `namespace` with a source address of choice, which its owner need not have.
pub fn send_raw(namespace: &str, source: Ipv4Addr, destination: Ipv4Addr) {
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};
    let node = Node::existing(namespace).unwrap();
    let socket = node
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))
        .unwrap()
        .unwrap();
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([0x30, 0x39, 0x30, 0x3a, 0, 8, 0, 0]);
    let target = SockAddr::from(std::net::SocketAddrV4::new(destination, 0));
    socket.send_to(&packet, &target).unwrap();
}

/// Packets that a router's named counter has counted.
pub fn counted(router: &str, counter: &str) -> u64 {
    let text = must(router, &format!("nft -j list counter inet isthmus {counter}"));
    let listing: serde_json::Value = serde_json::from_str(&text).unwrap();
    listing["nftables"][1]["counter"]["packets"].as_u64().unwrap()
}

/// Packets that a link has sent and received.
pub fn link_packets(namespace: &str, link: &str) -> (u64, u64) {
    let read = |direction: &str| {
        let text = must(namespace, &format!("ip -j -s link show {link}"));
        let listing: serde_json::Value = serde_json::from_str(&text).unwrap();
        listing[0]["stats64"][direction]["packets"].as_u64().unwrap()
    };
    (read("tx"), read("rx"))
}

/// Takes the place of two tunnel daemons: carries packets between two TUN devices as they are.
pub struct Pump {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Pump {
    pub fn start(ends: [(String, String); 2]) -> Self {
        use isthmus_netlink::tun::{READ_LEN, Tun};
        let [a, b] = ends.map(|(namespace, link)| {
            let tun = namespace::run(&namespace, || Tun::attach(&link))
                .unwrap()
                .unwrap();
            std::sync::Arc::new(tun)
        });
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let threads = [(a.clone(), b.clone()), (b, a)].map(|(from, to)| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; READ_LEN];
                while !stop.load(Ordering::Relaxed) {
                    let mut poll = [nix::poll::PollFd::new(
                        std::os::fd::AsFd::as_fd(&*from),
                        nix::poll::PollFlags::POLLIN,
                    )];
                    nix::poll::poll(&mut poll, 20u16).unwrap();
                    while let Ok(length) = from.read(&mut buffer) {
                        to.write(&[std::io::IoSlice::new(&buffer[..length])]).unwrap();
                    }
                }
            })
        });
        Self {
            stop,
            threads: threads.into(),
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Opens a TAP device of this namespace as a virtual machine's monitor does.
pub fn open_tap(name: &str) -> std::fs::File {
    isthmus_netlink::device::open(name, isthmus_netlink::device::Layer::Ethernet).unwrap()
}

/// The path MTU to `target` that the kernel has learnt after a datagram of 1500 bytes, which must not be fragmented.
pub fn learnt_path_mtu(namespace: &str, target: Ipv4Addr) -> i32 {
    let node = Node::existing(namespace).unwrap();
    let socket = node
        .run(|| std::net::UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap();
    socket.connect((target, 9)).unwrap();
    let learnt = || nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::IpMtu).unwrap();
    let _ = isthmus_netlab::eventually("a smaller path MTU", || {
        let _ = socket.send(&[0; 1472]);
        isthmus_netlab::patience::holds(learnt() < 1500, || "still 1500".to_owned())
    });
    learnt()
}

/// Removes what tests left that were killed: everything of realms named for processes that live no more.
fn sweep() {
    let mut dead = std::collections::BTreeSet::new();
    let tables = isthmus_netlink::nft::tables(name::WIRE_FAMILY).unwrap_or_default();
    for text in namespace::list().unwrap().into_iter().chain(tables) {
        let realm = text
            .strip_prefix("ist-")
            .or_else(|| text.strip_prefix("isthmus-"));
        let Some(realm) = realm.and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        let process = realm.strip_prefix('t').and_then(|rest| rest.split_once('x'));
        if process.is_some_and(|(pid, _)| {
            pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists()
        }) {
            dead.insert(realm.to_owned());
        }
    }
    for realm in dead {
        drop(Lab {
            realm: Realm::new(realm).unwrap(),
        });
    }
}

/// Takes the TAP devices and nft tables of a realm out of the host's namespace.
fn clear_host(realm: &Realm) {
    use isthmus_netlink::{nft, visit};
    let _ = visit(|visitor| {
        for link in visitor.aliased_links(&name::tap_alias(realm)).unwrap_or_default() {
            let place = isthmus_fabric::Place {
                namespace: name::HOST_NAMESPACE.to_owned(),
                link,
            };
            let _ = visitor.execute(&isthmus_fabric::Operation::RemoveLink { place });
        }
    });
    let prefix = name::wire_table_prefix(realm);
    for table in nft::tables(name::WIRE_FAMILY).unwrap_or_default() {
        if table.starts_with(&prefix) {
            let family = name::WIRE_FAMILY.to_owned();
            let _ = nft::remove(&isthmus_fabric::Table { family, name: table });
        }
    }
}
