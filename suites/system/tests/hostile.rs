//! Datagrams from strangers at the gateways' public ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::{Ping, resident};
use isthmus_system::stranger::first_message;
use isthmus_system::{Pair, System};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const DATAGRAMS: usize = 40_000;
const LONGEST: usize = 1400;

#[test]
fn strangers_cost_no_packet_no_memory_and_no_tunnel() -> Result<()> {
    let mut system = System::start()?;
    let mut pair = Pair::joined(&system, "hostile")?;
    let (node, target) = (pair.node(&system, 0, 0)?, pair.sites[1].addresses[0]);
    Ping::until_answered(&node, target)?;
    let daemon = system.pid("tunneld")?;
    let before = (resident(daemon.cast_unsigned())?, tasks(daemon)?);

    let ping = Ping::start(&node, target, Duration::from_millis(5))?;
    let victims = pair.sites.each_ref().map(|site| site.public_address);
    let seed = u64::from(std::process::id());
    let sent = system.internet()?.run(|| bombard(victims, seed))??;
    ping.wait_for_more(50)?;
    let count = ping.finish()?;
    let after = (resident(daemon.cast_unsigned())?, tasks(daemon)?);

    println!(
        "{sent} hostile datagrams (seed {seed}): {} pings, {} lost; resident {} KiB before, {} KiB after",
        count.sent,
        count.lost(),
        before.0,
        after.0
    );
    ensure!(system.pid("tunneld")? == daemon, "the daemon did not survive");
    ensure!(count.lost() == 0, "seed {seed}: {count:?}");
    ensure!(
        after.0 < before.0 + 16 * 1024,
        "seed {seed}: resident memory grew from {} to {} KiB",
        before.0,
        after.0
    );
    ensure!(
        after.1 == before.1,
        "seed {seed}: {} threads became {}",
        before.1,
        after.1
    );
    // A legitimate peer still comes up.
    pair.disconnect(&system, 1)?;
    pair.connect(&system, 1)?;
    pair.wait_until_up(&system)?;
    Ping::until_answered(&node, target)?;
    system.stop()
}

/// Sends random bytes, random bytes behind plausible headers, and mutated first messages of a real negotiation.
fn bombard(victims: [Ipv4Addr; 2], seed: u64) -> Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let sockets: Vec<UdpSocket> = (0..16)
        .map(|_| UdpSocket::bind("0.0.0.0:0"))
        .collect::<Result<_, _>>()?;
    let real = first_message(Ipv4Addr::new(203, 0, 113, 1), victims[0])?;
    let mut datagram = Vec::with_capacity(LONGEST + 4);
    for number in 0..DATAGRAMS {
        let port = if random.random() { 500 } else { 4500 };
        datagram.clear();
        if port == 4500 && random.random() {
            datagram.extend([0; 4]);
        }
        match number % 3 {
            0 => {
                let length = random.random_range(0..LONGEST);
                datagram.extend((0..length).map(|_| random.random::<u8>()));
            }
            1 => {
                let start = datagram.len();
                datagram.extend(&real);
                for _ in 0..random.random_range(1..8) {
                    let place = random.random_range(start..datagram.len());
                    datagram[place] = random.random();
                }
            }
            _ => {
                // An IKE header with the right length and a random exchange, or a first message cut short.
                let start = datagram.len();
                datagram.extend(&real[..random.random_range(0..real.len())]);
                if datagram.len() >= start + 28 {
                    let length = u32::try_from(datagram.len() - start)?;
                    datagram[start + 24..start + 28].copy_from_slice(&length.to_be_bytes());
                    datagram[start + 18] = random.random_range(34..44);
                }
            }
        }
        let victim = SocketAddr::from((victims[number % 2], port));
        sockets[number % sockets.len()]
            .send_to(&datagram, victim)
            .context("sending to a gateway")?;
    }
    Ok(DATAGRAMS)
}

fn tasks(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}
