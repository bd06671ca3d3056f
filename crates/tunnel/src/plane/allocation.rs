//! The packet threads take no memory per packet, whichever lanes the packets go through.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_esp::policy::Admission;
use isthmus_esp::{ConnectionHandle, InboundSa, OutboundSa, Policy, Selectors, TrafficRange};
use isthmus_netlab::{Site, TwoSites, TwoSitesOptions, eventually};
use isthmus_types::{Cidr, DontFragment, DscpPolicy, Encryption, ResourceBits, VpnGatewayId};
use zeroize::Zeroizing;

use super::{ConnectionSetting, Counters, Device, NAT_PORT, NewInboundSa, NewOutboundSa, Plane, Wrapping};

const LANES: u8 = 4;
const MTU: u16 = 1438;
const CONNECTION: ConnectionHandle = ConnectionHandle(1);
const FLOWS: u16 = 16;
const FIRST_PORT: u16 = 21_000;
/// Datagrams of all flows that may be under way.
const UNDER_WAY: u64 = 200;
/// Allocations by which two runs of a thread may differ: what it needs to sleep is made when it first does.
const CHANCE: u64 = 8;

/// Allocations of the packet threads that have ended, by the run that they were of.
static COUNTED: Mutex<Vec<(u32, String, u64)>> = Mutex::new(Vec::new());

thread_local! {
    /// The run that this thread is of; none outside of this test.
    static RUN: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Counts the allocations of a packet thread that is started in a run.
pub(super) fn counted(name: &str, work: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    let name = name.to_owned();
    let run = RUN.get();
    move || {
        RUN.set(run);
        let info = allocation_counter::measure(work);
        if let Some(run) = run {
            let mut all = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((run, name, info.count_total));
        }
    }
}

fn suite() -> CipherSuite {
    CipherSuite::new(Encryption::Aes128Gcm16, None).expect("a valid suite")
}

fn keys() -> KeyMaterial {
    let key = vec![5; suite().encryption_key_len()];
    KeyMaterial::new(Zeroizing::new(key), Zeroizing::new(Vec::new()))
}

/// A plane at the gateway of a site with an SA in each lane, and what it counts.
fn start(here: &Site, there: &Site) -> Result<(Plane, Arc<Counters>)> {
    let gateway = VpnGatewayId::from(ResourceBits::from_random(1));
    let plane = Plane::start_with_lanes(gateway, MTU, LANES.into(), Arc::new(|_| true))?;
    let device = Device::open(here.gateway.namespace(), "tun0", &[here.address.into()], 1)?;
    let mut link = device.watch_link()?;
    plane.attach(&Arc::new(device));
    let counters = Arc::new(Counters::default());
    let (local, remote): (Cidr, Cidr) = (here.subnets()[0], there.subnets()[0]);
    plane.set_connection(ConnectionSetting {
        connection: CONNECTION,
        policies: vec![Policy { local, remote }],
        admission: Admission::Open,
        counters: Arc::clone(&counters),
    });
    let selectors = Selectors {
        local: vec![TrafficRange::from_cidr(local)],
        remote: vec![TrafficRange::from_cidr(remote)],
    };
    let peer = SocketAddr::new(there.address.into(), NAT_PORT);
    for lane in 0..LANES {
        let spi = 0x1000 + u32::from(lane);
        plane.insert_inbound(NewInboundSa {
            sa: InboundSa::new(spi, suite(), &keys(), selectors.clone(), 1024)?,
            lane,
            remote: peer,
            inner_mtu: MTU,
            counters: Arc::clone(&counters),
            traffic: Arc::default(),
        });
        plane.insert_outbound(NewOutboundSa {
            connection: CONNECTION,
            id: spi,
            sa: OutboundSa::new(spi, suite(), &keys())?,
            lane,
            selectors: selectors.clone(),
            remote: peer,
            wrapping: Wrapping {
                dscp: DscpPolicy::Copy,
                dont_fragment: DontFragment::Set,
                inner_mtu: MTU,
            },
            traffic: Arc::default(),
        });
    }
    ensure!(
        link.wait(isthmus_netlab::patience::usual())?,
        "no packets are taken"
    );
    Ok((plane, counters))
}

/// Has so many datagrams of each flow carried, and tells how often each packet thread took memory.
fn carry(run: u32, rounds: u64) -> Result<BTreeMap<String, u64>> {
    RUN.set(Some(run));
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    for (site, remote) in [(&sites.left, "10.2.0.0/16"), (&sites.right, "10.1.0.0/16")] {
        site.gateway.ip([
            "tuntap add dev tun0 mode tun vnet_hdr".to_owned(),
            format!("link set tun0 mtu {MTU} txqueuelen 2000 up"),
            format!("route replace {remote} dev tun0"),
        ])?;
    }
    let (left, _) = start(&sites.left, &sites.right)?;
    let (right, received) = start(&sites.right, &sites.left)?;
    sites.meet_neighbours()?;
    let (from, to) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let sink = to.node.run(|| UdpSocket::bind((to.address, FIRST_PORT)))??;
    let senders = (FIRST_PORT..)
        .take(FLOWS.into())
        .map(|port| {
            let sender = from.node.run(|| UdpSocket::bind((from.address, port)))??;
            sender.connect(sink.local_addr()?)?;
            Ok(sender)
        })
        .collect::<Result<Vec<_>>>()?;
    let arrived = || received.packets_in.load(Ordering::Relaxed);
    for round in 0..rounds {
        for sender in &senders {
            sender.send(&[7; 500])?;
        }
        // The whole of what may be under way fits every queue: what is sent arrives.
        let sent = (round + 1) * u64::from(FLOWS);
        if sent > arrived() + UNDER_WAY {
            eventually("room for more", || {
                ensure!(
                    sent <= arrived() + UNDER_WAY,
                    "{sent} sent, {} arrived",
                    arrived()
                );
                Ok(())
            })?;
        }
    }
    let all = rounds * u64::from(FLOWS);
    eventually("all packets to arrive", || {
        ensure!(arrived() == all, "{} of {all}", arrived());
        Ok(())
    })?;
    drop((left, right));
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let ended = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    for (_, name, count) in ended.iter().filter(|(of, ..)| *of == run) {
        *counted.entry(name.clone()).or_default() += count;
    }
    Ok(counted)
}

#[test]
fn no_packet_thread_takes_memory_for_a_packet() -> Result<()> {
    let few = carry(1, 100)?;
    let many = carry(2, 2000)?;
    for lane in 1..LANES {
        for direction in ["in", "out"] {
            let name = format!("esp-{direction}-{lane}");
            many.get(&name).with_context(|| format!("{name} did not run"))?;
        }
    }
    for (name, count) in &many {
        let before = few.get(name).copied().unwrap_or_default();
        ensure!(
            *count <= before + CHANCE,
            "{name} took memory {count} times, {before} times for a twentieth of the packets"
        );
    }
    Ok(())
}
