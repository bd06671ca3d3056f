//! Strangers send as fast as this machine can, for half a minute.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, tunnel as plan};
use isthmus_ike::{ConnectionState, Endpoint, IKE_PORT, NAT_PORT};
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::{Isthmus, Node, Ping, Site, TwoSites, TwoSitesOptions, eventually, resident};
use isthmus_system::System;
use isthmus_system::stranger::{ESP, IKE, first_message, initiator};
use isthmus_types::{ResourceBits, VpnConnectionId};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const KEY: &str = "a key that the strangers do not have";
/// How long the strangers go on.
const FLOOD: Duration = Duration::from_secs(30);
/// Addresses and ports that they send from.
const SOCKETS: u16 = 256;
/// Datagrams of each kind that they choose from.
const VARIETY: usize = 512;
/// How much the daemon may grow while it lasts, KiB.
const MOST_GROWTH: u64 = 24 * 1024;

#[test]
fn a_flood_costs_established_tunnels_nothing_and_keeps_no_peer_out() -> Result<()> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let (near, far) = (sites.left.clone(), sites.right.clone());
    let program = || -> Result<Program> {
        Ok(Program {
            path: System::binary()?,
            arguments: vec!["tunneld".to_owned()],
        })
    };
    let joined = |here, there| connection_between(here, there, KEY, IKE, ESP);
    let left = Isthmus::start(program()?, &near, vec![joined(&near, &far)?])?;
    let mut right = Isthmus::start(program()?, &far, vec![joined(&far, &near)?])?;
    left.wait_until_up()?;
    right.wait_until_up()?;
    let (from, to) = (near.hosts[0].node.clone(), far.hosts[0].address);
    Ping::until_answered(&from, to)?;

    // A peer that comes during the flood, from an address of its own.
    let late = LateComer::expected_by(&sites, &far, &mut right)?;
    let victim = right.daemon().context("it runs")?.pid();
    let before = resident(victim)?;
    let seed = u64::from(std::process::id());
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (count, highest, joined) = thread::scope(|scope| -> Result<_> {
        let flood = scope.spawn(|| {
            sites
                .internet
                .run(|| flood(seed, [far.address, near.address], &stop, &sent))?
        });
        let outcome = (|| -> Result<_> {
            let start = Instant::now();
            let ping = Ping::start(&from, to, Duration::from_millis(2))?;
            let joined = late.come_up(far.address)?;
            let mut highest = before;
            while start.elapsed() < FLOOD {
                ping.wait_for_more(100)?;
                highest = highest.max(resident(victim)?);
            }
            Ok((ping.finish()?, highest, joined))
        })();
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("the flood does not panic")?;
        outcome
    })?;
    let sent = sent.load(Ordering::Relaxed);
    println!(
        "{sent} hostile datagrams (seed {seed}) in {} s ({} a second): {} pings, {} lost; a new peer came up after {} ms; resident {before} \
         KiB before, {highest} KiB at most",
        FLOOD.as_secs(),
        sent / FLOOD.as_secs(),
        count.sent,
        count.lost(),
        joined.as_millis()
    );
    ensure!(count.lost() == 0, "{count:?}");
    ensure!(
        highest < before + MOST_GROWTH,
        "resident memory grew from {before} to {highest} KiB"
    );
    ensure!(
        right.daemon().context("it runs")?.is_alive()?,
        "the daemon did not survive"
    );
    eventually("memory to be given back", || {
        let after = resident(victim)?;
        ensure!(after < before + MOST_GROWTH / 2, "{after} KiB");
        Ok(())
    })?;
    right.wait_until_up()?;
    Ok(())
}

/// Sends until told to stop.
fn flood(seed: u64, [victim, replayed]: [Ipv4Addr; 2], stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let datagrams = variety(&mut random, victim, replayed)?;
    let sockets = (0..SOCKETS)
        .map(|number| {
            let [high, low] = (number * 7 + 1).to_be_bytes();
            Ok(UdpSocket::bind((Ipv4Addr::new(100, 99, high, low), 0))?)
        })
        .collect::<Result<Vec<_>>>()?;
    while !stop.load(Ordering::Relaxed) {
        for socket in &sockets {
            let (port, datagram) = &datagrams[random.random_range(0..datagrams.len())];
            // A full queue on the way is the machine's line rate.
            if socket.send_to(datagram, (victim, *port)).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Packets with random SPIs, first messages of many initiators, replayed and mutated ones, and messages of no IKE SA.
fn variety(random: &mut StdRng, victim: Ipv4Addr, replayed: Ipv4Addr) -> Result<Vec<(u16, Vec<u8>)>> {
    let real = first_message(replayed, victim)?;
    let mut datagrams = Vec::with_capacity(VARIETY);
    for number in 0..VARIETY {
        let mut datagram = real.clone();
        let port = match number % 6 {
            0 => {
                datagram = (0..random.random_range(64..1400))
                    .map(|_| random.random())
                    .collect();
                datagram[0] |= 1;
                4500
            }
            1 | 2 => {
                datagram[..8].copy_from_slice(&random.random::<[u8; 8]>());
                500
            }
            3 => 500,
            4 => {
                for _ in 0..random.random_range(1..8) {
                    let place = random.random_range(0..datagram.len());
                    datagram[place] = random.random();
                }
                500
            }
            _ => {
                datagram[..16].copy_from_slice(&random.random::<[u8; 16]>());
                datagram[18] = random.random_range(34..44);
                [[0; 4].as_slice(), &datagram].concat().clone_into(&mut datagram);
                4500
            }
        };
        datagrams.push((port, datagram));
    }
    Ok(datagrams)
}

/// A peer in the middle of the internet that speaks IKE only.
struct LateComer {
    node: Node,
}

impl LateComer {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

    /// Makes the gateway `site` expect it, and strangers from anywhere too.
    fn expected_by(sites: &TwoSites, site: &Site, daemon: &mut Isthmus) -> Result<Self> {
        sites.internet.ip([
            format!("address add {}/32 dev lo", Self::ADDRESS),
            "route add local 100.99.0.0/16 dev lo".to_owned(),
        ])?;
        let template = connection_between(site, &sites.left, KEY, IKE, ESP)?;
        let like = |number: u128, peer, peer_identity, range: &str| -> Result<_> {
            Ok(ConnectionPlan {
                connection: VpnConnectionId(ResourceBits::from_random(number)),
                name: format!("connection {number}"),
                peer,
                peer_identity,
                establish: plan::EstablishMode::PeerOnly,
                local_cidrs: vec!["10.2.0.0/24".parse()?],
                peer_cidrs: vec![range.parse()?],
                ..template.clone()
            })
        };
        let late = like(
            2,
            plan::PeerEndpoint::Address {
                address: Self::ADDRESS.into(),
            },
            plan::IkeIdentity::Address(Self::ADDRESS.into()),
            "10.9.0.0/24",
        )?;
        let anybody = like(
            3,
            plan::PeerEndpoint::Anywhere,
            plan::IkeIdentity::Fqdn("somebody.example".to_owned()),
            "10.10.0.0/24",
        )?;
        daemon.change(|connections| connections.extend([late, anybody]))?;
        Ok(Self {
            node: sites.internet.clone(),
        })
    }

    /// Negotiates with the gateway at `peer`; yields how long that took.
    fn come_up(&self, peer: Ipv4Addr) -> Result<Duration> {
        self.node.run(|| {
            let start = Instant::now();
            let sockets = [IKE_PORT, NAT_PORT]
                .map(|port| UdpSocket::bind((Self::ADDRESS, port)).context("a socket of the late comer"));
            let [ike, nat] = sockets;
            let sockets = [(IKE_PORT, ike?), (NAT_PORT, nat?)];
            for (_, socket) in &sockets {
                socket.set_nonblocking(true)?;
            }
            let mut endpoint = Endpoint::new(Self::ADDRESS.into(), rand::random(), start);
            endpoint.upsert_connection(initiator(Self::ADDRESS, peer, KEY)?, start);
            let mut buffer = [0; 4096];
            eventually("the late comer to come up", || {
                let now = Instant::now();
                for (port, socket) in &sockets {
                    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        let skipped = if *port == NAT_PORT { 4 } else { 0 };
                        if let Some(message) = buffer[..length].get(skipped..) {
                            endpoint.handle_datagram(*port, from, message, now);
                        }
                    }
                }
                if endpoint.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    endpoint.handle_timeout(now);
                }
                while endpoint.poll_event().is_some() {}
                while let Some(transmit) = endpoint.poll_transmit() {
                    let socket = &sockets[usize::from(transmit.local_port == NAT_PORT)].1;
                    let marker: &[u8] = if transmit.local_port == NAT_PORT {
                        &[0; 4]
                    } else {
                        &[]
                    };
                    // What is not sent is sent again.
                    let _ = socket.send_to(&[marker, &transmit.payload].concat(), transmit.destination);
                }
                let state = endpoint.state(VpnConnectionId(ResourceBits::from_random(1)));
                ensure!(state == Some(ConnectionState::Up), "{state:?}");
                Ok(())
            })?;
            Ok(start.elapsed())
        })?
    }
}
