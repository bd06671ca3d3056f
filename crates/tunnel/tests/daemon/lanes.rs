//! Several SAs for the same traffic, each on threads of its own: two packet planes with keys that are set by hand.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::policy::Admission;
use isthmus_esp::{ConnectionHandle, DropReason, InboundSa, OutboundSa, Policy, Selectors, TrafficRange};
use isthmus_netlab::patience::stretched;
use isthmus_netlab::{Site, TwoSites, TwoSitesOptions, eventually, transfer};
use isthmus_netlink::udp::{self, Batch};
use isthmus_tunnel::plane::{
    ConnectionSetting, Counters, Device, NAT_PORT, NewInboundSa, NewOutboundSa, Plane, Wrapping,
};
use isthmus_types::{DontFragment, DscpPolicy, Encryption, ResourceBits, VpnGatewayId};
use isthmus_wire::checksum;
use nix::sys::socket::{setsockopt, sockopt};
use zeroize::Zeroizing;

use crate::harness::{MTU, prepare};

pub(crate) const LANES: u8 = 4;
const CONNECTION: ConnectionHandle = ConnectionHandle(1);
/// The smallest that an SA may have: what is late by more is lost.
const WINDOW: u32 = 64;

pub(crate) const FLOWS: usize = 16;
const FIRST_PORT: u16 = 20_000;
pub(crate) const DATAGRAMS: u32 = 3000;
/// Datagrams of all flows that may be under way.
const UNDER_WAY: usize = 400;
/// Room for them where they arrive.
const RECEIVE_BUFFER: usize = 32 << 20;

fn suite() -> CipherSuite {
    CipherSuite::new(Encryption::Aes128Gcm16, None).expect("a valid suite")
}

fn keys(spi: u32) -> KeyMaterial {
    let mut key = vec![5; suite().encryption_key_len()];
    key[..4].copy_from_slice(&spi.to_be_bytes());
    KeyMaterial::new(Zeroizing::new(key), Zeroizing::new(Vec::new()))
}

fn ranges(site: &Site) -> Vec<TrafficRange> {
    site.subnets().into_iter().map(TrafficRange::from_cidr).collect()
}

/// A plane at the gateway of a site, and the counters of each of its inbound SAs.
struct End {
    plane: Plane,
    counters: Arc<Counters>,
    received: BTreeMap<u32, Arc<Counters>>,
    selectors: Selectors,
    remote: SocketAddr,
}

impl End {
    fn start(here: &Site, there: &Site) -> Result<Self> {
        let gateway = VpnGatewayId::from(ResourceBits::from_random(1));
        let plane = Plane::start_with_lanes(gateway, MTU, LANES.into(), Arc::new(|_| true))?;
        let device = Device::open(here.gateway.namespace(), "tun0", &[here.address.into()], 1)?;
        let mut link = device.watch_link()?;
        plane.attach(&Arc::new(device));
        ensure!(
            link.wait(stretched(Duration::from_secs(10)))?,
            "no packets are taken"
        );
        let counters = Arc::new(Counters::default());
        let policies = here.subnets().into_iter().flat_map(|local| {
            let policy = move |remote| Policy { local, remote };
            there.subnets().into_iter().map(policy)
        });
        plane.set_connection(ConnectionSetting {
            connection: CONNECTION,
            policies: policies.collect(),
            admission: Admission::Open,
            counters: Arc::clone(&counters),
        });
        Ok(Self {
            plane,
            counters,
            received: BTreeMap::new(),
            selectors: Selectors {
                local: ranges(here),
                remote: ranges(there),
            },
            remote: SocketAddr::new(there.address.into(), NAT_PORT),
        })
    }

    fn receive_on(&mut self, spi: u32, lane: u8) -> Result<()> {
        let counters = Arc::new(Counters::default());
        self.received.insert(spi, Arc::clone(&counters));
        self.plane.insert_inbound(NewInboundSa {
            sa: InboundSa::new(spi, suite(), &keys(spi), self.selectors.clone(), WINDOW)?,
            lane,
            remote: self.remote,
            inner_mtu: MTU,
            counters,
            traffic: Arc::default(),
        });
        Ok(())
    }

    fn send_on(&self, spi: u32, lane: u8) -> Result<()> {
        self.plane.insert_outbound(NewOutboundSa {
            connection: CONNECTION,
            id: spi,
            sa: OutboundSa::new(spi, suite(), &keys(spi))?,
            lane,
            selectors: self.selectors.clone(),
            remote: self.remote,
            wrapping: Wrapping {
                dscp: DscpPolicy::Copy,
                dont_fragment: DontFragment::Set,
                inner_mtu: MTU,
            },
            traffic: Arc::default(),
        });
        Ok(())
    }

    fn packets_on(&self, spi: u32) -> u64 {
        self.received[&spi].packets_in.load(Ordering::Relaxed)
    }

    /// What was dropped and why, but for what the kernels of the gateways themselves send into the tunnel.
    fn drops(&self) -> Vec<(DropReason, u64)> {
        let all = [&*self.counters, self.plane.counters()];
        all.into_iter()
            .chain(self.received.values().map(|counters| &**counters))
            .flat_map(|counters| counters.drops.occurred())
            .filter(|(reason, _)| *reason != DropReason::NoPolicy)
            .collect()
    }

    fn ensure_nothing_dropped(&self) -> Result<()> {
        let drops = self.drops();
        ensure!(drops.is_empty(), "{drops:?}");
        Ok(())
    }
}

/// The SPI of the SA of a lane in a generation, towards the left or the right.
fn spi(towards: u32, generation: u32, lane: u8) -> u32 {
    towards << 16 | generation << 8 | u32::from(lane)
}

const LEFT: u32 = 1;
const RIGHT: u32 = 2;

fn sites() -> Result<TwoSites> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    prepare(&sites.left, "10.2.0.0/16")?;
    prepare(&sites.right, "10.1.0.0/16")?;
    Ok(sites)
}

fn joined_by_hand(sites: &TwoSites) -> Result<[End; 2]> {
    let mut left = End::start(&sites.left, &sites.right)?;
    let mut right = End::start(&sites.right, &sites.left)?;
    for lane in 0..LANES {
        replace(&left, &mut right, RIGHT, 0, lane)?;
        replace(&right, &mut left, LEFT, 0, lane)?;
    }
    Ok([left, right])
}

/// Gives a lane the SA of a generation instead of the one before. That one still receives: its packets may be under way.
fn replace(from: &End, to: &mut End, towards: u32, generation: u32, lane: u8) -> Result<()> {
    let new = spi(towards, generation, lane);
    to.receive_on(new, lane)?;
    from.send_on(new, lane)?;
    if let Some(before) = generation.checked_sub(1) {
        from.plane.remove_outbound(CONNECTION, spi(towards, before, lane));
    }
    Ok(())
}

/// Sends numbered datagrams of several flows; each comes once, in order. `meanwhile` is called before each round of them.
pub(crate) fn send_in_order(sites: &TwoSites, mut meanwhile: impl FnMut(u32) -> Result<()>) -> Result<()> {
    sites.meet_neighbours()?;
    let (from, to) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let receiver = to.node.run(|| UdpSocket::bind((to.address, FIRST_PORT)))??;
    receiver.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    // Ports of our choice: which flow takes which lane is then the same in every run.
    let senders = (FIRST_PORT..)
        .take(FLOWS)
        .map(|port| {
            let sender = from.node.run(|| UdpSocket::bind((from.address, port)))??;
            sender.connect(receiver.local_addr()?)?;
            Ok(sender)
        })
        .collect::<Result<Vec<_>>>()?;
    let arrived = AtomicUsize::new(0);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut next: BTreeMap<SocketAddr, u32> = BTreeMap::new();
            let mut buffer = [0; 2000];
            for number in 0..FLOWS * DATAGRAMS as usize {
                let (len, source) = receiver
                    .recv_from(&mut buffer)
                    .with_context(|| format!("{number} datagrams came"))?;
                let found = u32::from_be_bytes(*buffer[..len].first_chunk().context("a number")?);
                let expected = next.entry(source).or_default();
                ensure!(found == *expected, "{source}: {found} came instead of {expected}");
                *expected += 1;
                arrived.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        for number in 0..DATAGRAMS {
            meanwhile(number)?;
            while number as usize * FLOWS > arrived.load(Ordering::Relaxed) + UNDER_WAY
                && !receiving.is_finished()
            {
                thread::yield_now();
            }
            let mut datagram = vec![7; 200 + number as usize % 1000];
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            for sender in &senders {
                sender.send(&datagram)?;
            }
        }
        receiving.join().expect("the receiver panicked")
    })
}

#[test]
fn flows_are_spread_over_four_lanes_and_stay_whole_and_in_order_while_every_sa_is_replaced() -> Result<()> {
    let sites = sites()?;
    let [left, mut right] = joined_by_hand(&sites)?;
    let mut generation = 0;
    let sent = send_in_order(&sites, |number| {
        if number % 500 == 499 {
            generation += 1;
            for lane in 0..LANES {
                replace(&left, &mut right, RIGHT, generation, lane)?;
            }
        }
        Ok(())
    });
    sent.with_context(|| format!("{:?} {:?}", left.drops(), right.drops()))?;
    assert_eq!(generation, 6);
    eventually("all packets to be counted", || {
        let packets: u64 = right.received.keys().map(|spi| right.packets_on(*spi)).sum();
        ensure!(packets == FLOWS as u64 * u64::from(DATAGRAMS), "{packets}");
        Ok(())
    })?;
    for generation in 0..generation {
        for lane in 0..LANES {
            let packets = right.packets_on(spi(RIGHT, generation, lane));
            assert!(packets >= 300, "{packets} of 8000 in lane {lane}");
        }
    }
    left.ensure_nothing_dropped()?;
    right.ensure_nothing_dropped()?;

    let (here, there) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    transfer(&here.node, &there.node, there.address, 10 << 20)?;
    transfer(&there.node, &here.node, here.address, 10 << 20)?;
    left.ensure_nothing_dropped()?;
    right.ensure_nothing_dropped()
}

#[test]
fn lanes_have_threads_of_their_own_that_end_with_their_plane() -> Result<()> {
    let names = || -> Result<Vec<String>> {
        let tasks = fs::read_dir("/proc/self/task")?;
        Ok(tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| name.starts_with("esp-in-") || name.starts_with("esp-out-"))
            .collect())
    };
    let gateway = VpnGatewayId::from(ResourceBits::from_random(2));
    let plane = Plane::start_with_lanes(gateway, MTU, 16, Arc::new(|_| true))?;
    // No other test has so many lanes.
    for lane in [15, 31] {
        plane.insert_inbound(NewInboundSa {
            sa: InboundSa::new(u32::from(lane), suite(), &keys(9), Selectors::default(), WINDOW)?,
            lane,
            remote: SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), NAT_PORT),
            inner_mtu: MTU,
            counters: Arc::new(Counters::default()),
            traffic: Arc::default(),
        });
    }
    eventually("the lane's thread to run", || {
        let count = names()?.iter().filter(|name| *name == "esp-in-15").count();
        ensure!(count == 1, "{count} threads");
        Ok(())
    })?;
    drop(plane);
    ensure!(!names()?.contains(&"esp-in-15".to_owned()));
    Ok(())
}

/// A UDP datagram in an IPv4 packet.
fn inner(from: Ipv4Addr, to: SocketAddr, number: u32) -> Result<Vec<u8>> {
    let IpAddr::V4(address) = to.ip() else {
        anyhow::bail!("{to} is no IPv4 address");
    };
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(from.octets());
    packet.extend(address.octets());
    let sum = checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    // Without a checksum.
    packet.extend([0, 9]);
    packet.extend(to.port().to_be_bytes());
    packet.extend([0, 12, 0, 0]);
    packet.extend(number.to_be_bytes());
    Ok(packet)
}

#[test]
fn what_arrives_joined_reaches_the_lanes_that_it_is_for() -> Result<()> {
    let sites = sites()?;
    let mut right = End::start(&sites.right, &sites.left)?;
    let (from, to) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let receiver = to.node.run(|| UdpSocket::bind((to.address, 0)))??;
    receiver.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    let mut senders = Vec::new();
    for lane in 0..LANES {
        let spi = spi(RIGHT, 0, lane);
        right.receive_on(spi, lane)?;
        senders.push(OutboundSa::new(spi, suite(), &keys(spi))?);
    }
    let here = SocketAddr::new(sites.left.address.into(), NAT_PORT);
    let socket = sites.left.gateway.run(|| udp::UdpSocket::bind(here))??;
    // Batches in which the lanes alternate, and some of one lane only.
    let batches: Vec<Vec<u8>> = (0..20u8)
        .map(|batch| {
            (0..32)
                .map(|place| if batch % 5 == 4 { batch / 5 } else { place % LANES })
                .collect()
        })
        .collect();
    let mut number = 0;
    for lanes in &batches {
        let mut bytes = Vec::new();
        let mut segment_len = 0;
        for lane in lanes {
            let packet = inner(from.address, receiver.local_addr()?, number)?;
            let sa = &mut senders[usize::from(*lane)];
            let mut esp = vec![0; sa.sealed_len(packet.len())];
            let offset = sa.payload_offset();
            esp[offset..offset + packet.len()].copy_from_slice(&packet);
            sa.seal(&mut esp, packet.len(), 4)
                .map_err(|reason| anyhow::anyhow!("{reason:?}"))?;
            segment_len = esp.len();
            bytes.extend(esp);
            number += 1;
        }
        let batch = Batch {
            bytes: &bytes,
            segment_len,
            traffic_class: 0,
        };
        ensure!(socket.send_batch(batch, right_address(&sites))? == 0);
        let mut found = Vec::new();
        for _ in lanes {
            let mut buffer = [0; 100];
            let (len, _) = receiver.recv_from(&mut buffer)?;
            found.push(u32::from_be_bytes(
                *buffer[..len].first_chunk().context("a number")?,
            ));
        }
        found.sort_unstable();
        ensure!(found.iter().copied().eq(number - 32..number), "{found:?}");
    }
    for lane in 0..LANES {
        let sent = batches.iter().flatten().filter(|found| **found == lane).count();
        eventually("all packets to be counted", || {
            let packets = right.packets_on(spi(RIGHT, 0, lane));
            ensure!(packets == sent as u64, "{packets} of {sent}");
            Ok(())
        })?;
    }
    right.ensure_nothing_dropped()
}

fn right_address(sites: &TwoSites) -> SocketAddr {
    SocketAddr::new(sites.right.address.into(), NAT_PORT)
}
