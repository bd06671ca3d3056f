//! Packets through a tunnel that was made through the API.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::{Ping, eventually, transfer};
use isthmus_system::{Outside, Pair, System};

/// Bytes of an echo message and its IPv4 header.
const ECHO_BYTES: u64 = 84;

#[test]
fn every_tier_pair_is_reached_and_outside_there_is_only_the_tunnel() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::joined(&system, "pairs")?;
    let outside = Outside::watch(
        system.internet()?,
        pair.sites.each_ref().map(|site| site.public_address),
    )?;
    let before = outside.count()?;
    for (from, to) in [(0, 1), (1, 0)] {
        for from_tier in 0..2 {
            for to_tier in 0..2 {
                let node = pair.node(&system, from, from_tier)?;
                let target = pair.sites[to].addresses[to_tier];
                let count = Ping::exactly(&node, target, Duration::from_millis(10), 10)?;
                ensure!(
                    count.lost() == 0,
                    "site {from} tier {from_tier} to {target}: {count:?}"
                );
            }
        }
    }
    let after = outside.count()?;
    ensure!(
        after.tunnel_bytes >= before.tunnel_bytes + 160 * ECHO_BYTES,
        "the tunnel carried too little: {before:?} {after:?}"
    );
    ensure!(
        after.other == before.other,
        "something else was outside: {before:?} {after:?}"
    );
    ensure!(after.private == 0, "private addresses were outside: {after:?}");
    println!(
        "8 tier pairs, 80 pings, 0 lost; outside {} tunnel packets, 0 others",
        after.tunnel - before.tunnel
    );

    let (left, right) = (pair.node(&system, 0, 0)?, pair.node(&system, 1, 1)?);
    let took = transfer(&left, &right, pair.sites[1].addresses[1], 10_000_000)?;
    println!("10 MB through the tunnel in {took:?}");

    pair.delete(&system)?;
    system.stop()
}

#[test]
fn nothing_for_a_remote_range_leaves_in_clear() -> Result<()> {
    let mut system = System::start()?;
    let mut pair = Pair::without_connections(&system, "clear")?;
    let outside = Outside::watch(
        system.internet()?,
        pair.sites.each_ref().map(|site| site.public_address),
    )?;
    let (node, target) = (pair.node(&system, 0, 0)?, pair.sites[1].addresses[0]);
    let dark = |state: &str| -> Result<()> {
        let count = Ping::exactly(&node, target, Duration::from_millis(5), 50)?;
        ensure!(count.received == 0, "{state}: {count:?}");
        let outside = outside.count()?;
        ensure!(
            outside.private == 0,
            "{state}: private packets outside: {outside:?}"
        );
        println!(
            "{state}: {} packets sent, {} in clear",
            count.sent, outside.private
        );
        Ok(())
    };

    pair.connect(&system, 0)?;
    dark("peer not configured")?;
    pair.connect(&system, 1)?;
    pair.wait_until_up(&system)?;
    let connection = pair.sites[0].connection.clone().context("a connection")?;
    let change = isthmus_client::ConnectionChange {
        admin_state_up: Some(false),
        ..Default::default()
    };
    system.call(|client| client.change_connection(&pair.sites[0].gateway, &connection, &change))?;
    eventually("a connection that is down", || {
        let seen = system.call(|client| client.connection(&pair.sites[0].gateway, &connection))?;
        ensure!(!seen.is_up(), "still up");
        Ok(())
    })?;
    eventually("a tunnel that carries nothing", || {
        let count = Ping::exactly(&node, target, Duration::from_millis(5), 1)?;
        ensure!(count.received == 0, "still answered");
        Ok(())
    })?;
    dark("administratively down")?;

    let change = isthmus_client::ConnectionChange {
        admin_state_up: Some(true),
        ..Default::default()
    };
    system.call(|client| client.change_connection(&pair.sites[0].gateway, &connection, &change))?;
    pair.wait_until_up(&system)?;
    Ping::until_answered(&node, target)?;
    // The daemon is stopped, not killed, so that nobody starts another.
    let daemon = nix::unistd::Pid::from_raw(system.pid("tunneld")?);
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGSTOP)?;
    eventually("a daemon that stands still", || {
        for task in fs::read_dir(format!("/proc/{daemon}/task"))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            let (_, fields) = stat.rsplit_once(')').context("a state")?;
            ensure!(fields.trim_start().starts_with('T'), "a thread runs: {stat}");
        }
        Ok(())
    })?;
    let stopped = dark("tunnel daemon stopped");
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGCONT)?;
    stopped?;
    ensure!(outside.count()?.private == 0, "private packets outside");
    system.stop()
}

#[test]
fn the_second_connection_carries_packets_at_once() -> Result<()> {
    let mut system = System::start()?;
    let mut pair = Pair::without_connections(&system, "quick")?;
    let node = pair.node(&system, 0, 0)?;
    let target = pair.sites[1].addresses[0];
    pair.connect(&system, 0)?;
    let mut times = Vec::new();
    for _ in 0..10 {
        eventually("a ping in vain while the connection is missing", || {
            let vain = Ping::exactly(&node, target, Duration::from_millis(5), 1)?;
            ensure!(vain.received == 0, "answered without a connection: {vain:?}");
            Ok(())
        })?;
        let start = Instant::now();
        pair.connect(&system, 1)?;
        Ping::until_answered(&node, target)?;
        times.push(start.elapsed());
        pair.disconnect(&system, 1)?;
    }
    times.sort();
    println!(
        "second connection to first answer: median {:?} of {times:?}",
        times[5]
    );
    system.stop()
}
