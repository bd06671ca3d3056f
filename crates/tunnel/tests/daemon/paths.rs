//! What carries the packets: native and encapsulated ESP over IPv4 and IPv6, around packets of either version; and how
//! large they may be.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, IkeIdentity, PeerEndpoint, TunnelPlan};
use isthmus_netlab::isthmus::connection_between;
use isthmus_netlab::patience::stretched;
use isthmus_netlab::{Family, Node, Ping, Site, TwoSites, TwoSitesOptions, eventually, transfer};
use isthmus_types::{ResourceBits, VpnConnectionId};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{Daemon, INTERVAL, gateway, joined_after, ping, prepare};

const IKE: &str = "aes128gcm16-prfsha256-x25519";

/// Which way packets go.
#[derive(Clone, Copy, Debug)]
struct Way {
    outside: Family,
    inside: Family,
    encapsulated: bool,
    esp: &'static str,
}

fn connection(here: &Site, there: &Site, way: Way) -> Result<ConnectionPlan> {
    let plan = connection_between(here, there, "a shared key", IKE, way.esp)?;
    Ok(ConnectionPlan {
        peer: PeerEndpoint::Address {
            address: there.public_address_of(way.outside),
        },
        local_identity: IkeIdentity::Address(here.address_of(way.outside)),
        peer_identity: IkeIdentity::Address(there.address_of(way.outside)),
        local_cidrs: here.subnets_of(way.inside),
        peer_cidrs: there.subnets_of(way.inside),
        force_encapsulation: way.encapsulated,
        ..plan
    })
}

fn join(way: Way) -> Result<(TwoSites, Daemon)> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let ranges = match way.inside {
        Family::V4 => ["10.2.0.0/16", "10.1.0.0/16"],
        Family::V6 => ["fd00:2::/32", "fd00:1::/32"],
    };
    prepare(&sites.left, ranges[0])?;
    prepare(&sites.right, ranges[1])?;
    let left = connection(&sites.left, &sites.right, way)?;
    let mut right = connection(&sites.right, &sites.left, way)?;
    right.connection = VpnConnectionId::from(ResourceBits::from_random(2));
    let mut gateways = vec![
        gateway(&sites.left, 1, vec![left]),
        gateway(&sites.right, 2, vec![right]),
    ];
    gateways[0].public_address = sites.left.address_of(way.outside);
    gateways[1].public_address = sites.right.address_of(way.outside);
    sites.internet.nft(
        "table inet carried {
            counter native {}
            counter encapsulated {}
            chain forward {
                type filter hook forward priority filter;
                meta l4proto esp counter name native
                udp dport 4500 counter name encapsulated
            }
        }",
    )?;
    let daemon = Daemon::start()?;
    daemon.apply(&TunnelPlan { gateways })?;
    daemon.wait_until_up()?;
    Ok((sites, daemon))
}

fn counted(internet: &Node, name: &str) -> Result<u64> {
    let text = internet.command("nft", &["list", "counter", "inet", "carried", name])?;
    let (_, after) = text.split_once("packets ").context("a count")?;
    let count = after.split_whitespace().next().context("a number")?;
    Ok(count.parse()?)
}

#[test]
fn native_and_encapsulated_esp_carry_both_versions_over_both_versions() -> Result<()> {
    for (number, (outside, inside)) in [
        (Family::V4, Family::V4),
        (Family::V4, Family::V6),
        (Family::V6, Family::V4),
        (Family::V6, Family::V6),
    ]
    .into_iter()
    .enumerate()
    {
        for encapsulated in [false, true] {
            let way = Way {
                outside,
                inside,
                encapsulated,
                esp: [
                    "aes256gcm16",
                    "aes128-sha256",
                    "chacha20poly1305",
                    "aes256-sha512",
                ][number],
            };
            let (sites, daemon) = join(way)?;
            let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
            for (from, to) in [(left, right), (right, left)] {
                let account = Ping::exactly(&from.node, to.address_of(inside), INTERVAL, 20)?;
                ensure!(account.lost() == 0, "{way:?}: {account:?}");
                transfer(&from.node, &to.node, to.address_of(inside), 3 << 20)
                    .with_context(|| format!("{way:?}"))?;
            }
            let native = counted(&sites.internet, "native")?;
            let in_udp = counted(&sites.internet, "encapsulated")?;
            if encapsulated {
                ensure!(native == 0 && in_udp > 100, "{way:?}: {native}, {in_udp}");
            } else {
                ensure!(native > 1000 && in_udp < 10, "{way:?}: {native}, {in_udp}");
            }
            // A packet is counted after it has gone on.
            eventually("all packets to be counted", || {
                for report in daemon.connections()? {
                    ensure!(report.bytes_in > 3 << 20, "{way:?}: {report:?}");
                }
                Ok(())
            })?;
            daemon.stop()?;
        }
    }
    Ok(())
}

/// Sends a datagram that makes a packet of `len` bytes; true if it arrives.
fn arrives(from: &Node, to: &Node, address: Ipv4Addr, len: usize) -> Result<bool> {
    let receiver = to.run(|| UdpSocket::bind((address, 0)))??;
    receiver.set_read_timeout(Some(stretched(Duration::from_millis(500))))?;
    let sender = from.run(|| UdpSocket::bind("0.0.0.0:0"))??;
    let sent: Vec<u8> = (0..len - 28).map(|index| index as u8).collect();
    sender.send_to(&sent, receiver.local_addr()?)?;
    let mut found = vec![0; 65_536];
    match receiver.recv(&mut found) {
        Ok(count) => {
            ensure!(found[..count] == sent, "other bytes than sent");
            Ok(true)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn packets_that_exceed_an_sa_are_cut_or_answered_with_its_limit() -> Result<()> {
    let (sites, daemon) = join(Way {
        outside: Family::V4,
        inside: Family::V4,
        encapsulated: true,
        esp: "aes256-sha512",
    })?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let (from, to, address) = (&left.node, &right.node, right.address);
    // The TUN device takes 1,438 bytes, this suite 1,406. Datagrams of this host may be fragmented:
    from.sysctl("ipv4/ip_no_pmtu_disc", "1")?;
    for len in [1406, 1407, 1428, 5000] {
        ensure!(arrives(from, to, address, len)?, "{len}");
    }
    ensure!(daemon.connections()?[0].drops.is_empty());
    // And now they may not, until the host knows better.
    from.sysctl("ipv4/ip_no_pmtu_disc", "0")?;
    ensure!(arrives(from, to, address, 1406)?);
    ensure!(!arrives(from, to, address, 1407)?);
    let route = from.command("ip", &["route", "get", &address.to_string()])?;
    ensure!(route.contains("mtu 1406"), "{route}");
    ensure!(arrives(from, to, address, 1407)?);
    daemon.stop()
}

#[test]
fn a_path_that_becomes_narrow_is_found_and_flows_go_on() -> Result<()> {
    for (outside, encapsulated) in [(Family::V4, true), (Family::V4, false), (Family::V6, true)] {
        let (sites, daemon) = join(Way {
            outside,
            inside: Family::V4,
            encapsulated,
            esp: "aes256gcm16",
        })?;
        let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
        transfer(&left.node, &right.node, right.address, 1 << 20)?;
        sites.internet.ip(["link set right mtu 1380"])?;
        transfer(&left.node, &right.node, right.address, 3 << 20)
            .with_context(|| format!("{outside:?}, encapsulated: {encapsulated}"))?;
        let drops = &daemon.connections()?[0].drops;
        ensure!(
            drops.iter().any(|(reason, _)| reason == "packet_too_big"),
            "the sender was not told: {drops:?}"
        );
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn a_forged_report_of_a_narrow_path_changes_nothing() -> Result<()> {
    let (sites, daemon) = join(Way {
        outside: Family::V4,
        inside: Family::V4,
        encapsulated: true,
        esp: "aes256gcm16",
    })?;
    let (ours, theirs) = (sites.left.address.octets(), sites.right.address.octets());
    let mut message = vec![3, 4, 0, 0, 0, 0, 0x02, 0x58];
    message.extend([0x45, 0, 0x05, 0xdc, 0, 0, 0x40, 0, 63, 17, 0, 0]);
    message.extend(ours);
    message.extend(theirs);
    message.extend([
        0x11, 0x94, 0x11, 0x94, 0x05, 0xc8, 0, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1,
    ]);
    let sum = isthmus_wire::checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let heard = || -> Result<u64> {
        let text = sites.left.gateway.command("cat", &["/proc/net/snmp"])?;
        let line = text
            .lines()
            .filter(|line| line.starts_with("Icmp:"))
            .nth(1)
            .context("counts")?;
        Ok(line
            .split_whitespace()
            .nth(4)
            .context("InDestUnreachs")?
            .parse()?)
    };
    let before = heard()?;
    let target = IpAddr::from(sites.left.address);
    sites.internet.run(|| -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        for _ in 0..50 {
            socket.send_to(&message, &SocketAddr::new(target, 0).into())?;
        }
        Ok(())
    })??;
    eventually("the forgeries to arrive", || {
        ensure!(heard()? >= before + 50);
        Ok(())
    })?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    for _ in 0..5 {
        ensure!(arrives(&left.node, &right.node, right.address, 1438)?);
    }
    ensure!(daemon.connections()?[0].drops.is_empty());
    daemon.stop()
}

#[test]
fn sas_of_few_packets_are_replaced_before_they_end() -> Result<()> {
    let (sites, daemon, _) = joined_after(|connection| {
        connection.options.esp_lifetime_packets = Some(400);
    })?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let account = Ping::exactly(&left.node, right.address, INTERVAL, 2000)?;
    ensure!(account.lost() == 0, "{account:?}");
    // The newest SA may have been installed just now, after the last packet.
    ping(&sites, 20)?;
    for report in daemon.connections()? {
        let mut totals = report.totals.iter();
        let replaced = totals.find(|(word, _)| word == "child_replaced");
        ensure!(replaced.is_some_and(|(_, count)| *count >= 3), "{report:?}");
        let children = &report.diagnosis.children;
        let counted: u64 = children.iter().map(|child| child.traffic.packets_in).sum();
        ensure!(counted > 0 && counted < report.packets_in, "{report:?}");
    }
    daemon.stop()
}

#[test]
fn errors_of_routers_outside_the_ranges_come_back_through_the_tunnel() -> Result<()> {
    let (sites, daemon, _) = joined_after(|_| {})?;
    // The answer leaves with the address of the outside.
    sites.right.gateway.ip([format!(
        "route replace 10.1.0.0/16 dev tun0 src {}",
        sites.right.address
    )])?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let (errors, sender) = left.node.run(|| -> Result<_> {
        let errors = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        errors.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
        let sender = UdpSocket::bind((left.address, 0))?;
        sender.set_ttl(2)?;
        Ok((errors, sender))
    })??;
    sender.send_to(b"not farther than the other gateway", (right.address, 9))?;
    let mut packet = [0; 1500];
    let len = (&errors).read(&mut packet)?;
    ensure!(
        packet[12..16] == sites.right.address.octets(),
        "{:?}",
        &packet[..len]
    );
    ensure!(packet[20] == 11, "no \"time exceeded\": {:?}", &packet[..len]);
    daemon.stop()
}

#[test]
fn a_route_based_tunnel_carries_what_no_range_names() -> Result<()> {
    let (sites, daemon, _) = joined_after(|connection| {
        connection.local_cidrs = vec!["0.0.0.0/0".parse().expect("a range")];
        connection.peer_cidrs = vec!["0.0.0.0/0".parse().expect("a range")];
    })?;
    ping(&sites, 10)?;
    sites.right.hosts[0]
        .node
        .ip(["address add 172.31.9.9/32 dev lo"])?;
    sites.right.gateway.ip([format!(
        "route add 172.31.9.9 via {}",
        sites.right.hosts[0].address
    )])?;
    sites.left.gateway.ip(["route add 172.31.9.9 dev tun0"])?;
    let elsewhere: IpAddr = "172.31.9.9".parse()?;
    let account = Ping::exactly(&sites.left.hosts[0].node, elsewhere, INTERVAL, 10)?;
    ensure!(account.lost() == 0, "{account:?}");
    daemon.stop()
}

#[test]
fn keys_are_logged_for_their_owner_alone_and_only_on_request() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("keys");
    let (sites, daemon, mut plan) = joined_after(|connection| {
        connection.options.extended_sequence_numbers = false;
    })?;
    ensure!(!log.exists());
    plan.gateways[0].key_log = Some(log.clone());
    plan.gateways[0].connections[0].reset_count += 1;
    daemon.apply(&plan)?;
    let lines =
        |table: &str| -> Result<usize> { Ok(std::fs::read_to_string(log.join(table))?.lines().count()) };
    eventually("the keys to be logged", || {
        ensure!(lines("ikev2_decryption_table")? >= 1 && lines("esp_sa")? >= 2);
        Ok(())
    })?;
    daemon.wait_until_up()?;
    for (path, mode) in [
        (log.clone(), 0o700),
        (log.join("ikev2_decryption_table"), 0o600),
        (log.join("esp_sa"), 0o600),
    ] {
        ensure!(
            std::fs::metadata(&path)?.permissions().mode() & 0o777 == mode,
            "{path:?}"
        );
    }
    plan.gateways[0].key_log = None;
    daemon.apply(&plan)?;
    let before = (lines("ikev2_decryption_table")?, lines("esp_sa")?);
    plan.gateways[0].connections[0].reset_count += 1;
    daemon.apply(&plan)?;
    daemon.wait_until_up()?;
    ping(&sites, 5)?;
    ensure!(before == (lines("ikev2_decryption_table")?, lines("esp_sa")?));
    daemon.stop()
}
