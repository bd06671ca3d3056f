//! Resets of connections, from the command line to the packets.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_client::ConnectionChange;
use isthmus_netlab::patience::stretched;
use isthmus_netlab::{Ping, eventually};
use isthmus_system::{Outside, Pair, System};
use serde_json::Value;

const INTERVAL: Duration = Duration::from_millis(5);
/// Nothing may pass for at most so long.
const INTERRUPTION: Duration = Duration::from_secs(2);

/// What the doctor of the connection of site `index` says.
fn doctor(system: &System, pair: &Pair, index: usize) -> Result<Value> {
    let site = &pair.sites[index];
    let connection = site.connection.as_ref().context("a connection")?;
    Ok(system.call(|client| client.connection_doctor(&site.gateway, connection))?)
}

/// SPIs that site `index` receives on.
fn spis(system: &System, pair: &Pair, index: usize) -> Result<BTreeSet<u64>> {
    let told = doctor(system, pair, index)?;
    let children = told["report"]["diagnosis"]["children"].as_array();
    let children = children.with_context(|| format!("no list of Child SAs in {told}"))?;
    Ok(children
        .iter()
        .filter_map(|child| child["inbound_spi"].as_u64())
        .collect())
}

/// How often the tunnel daemon was asked to reset the connection of site `index`.
fn resets(system: &System, pair: &Pair, index: usize) -> Result<u64> {
    let told = doctor(system, pair, index)?;
    let totals = told["report"]["totals"].as_array().context("totals")?;
    let total = totals.iter().find(|total| total[0] == "reset");
    Ok(total.and_then(|total| total[1].as_u64()).unwrap_or(0))
}

/// Waits until both sites have one Child SA each, and none of `before`.
fn until_others(system: &System, pair: &Pair, before: &[BTreeSet<u64>; 2]) -> Result<()> {
    for (index, before) in before.iter().enumerate() {
        eventually("other Child SAs", || {
            let now = spis(system, pair, index)?;
            ensure!(
                now.len() == 1 && now.is_disjoint(before),
                "{before:?} then {now:?}"
            );
            Ok(())
        })?;
    }
    pair.wait_until_up(system)
}

fn both_spis(system: &System, pair: &Pair) -> Result<[BTreeSet<u64>; 2]> {
    Ok([spis(system, pair, 0)?, spis(system, pair, 1)?])
}

#[test]
fn a_reset_makes_everything_anew_at_both_ends_once_and_lets_nothing_out() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::joined(&system, "reset")?;
    let node = pair.node(&system, 0, 0)?;
    let target = pair.sites[1].addresses[0];
    Ping::until_answered(&node, target)?;
    let outside = Outside::watch(
        system.internet()?,
        [pair.sites[0].public_address, pair.sites[1].public_address],
    )?;
    let name = "to-2";
    let mut asked = 0;
    let mut silences = Vec::new();
    for at_once in [1, 2] {
        let before = both_spis(&system, &pair)?;
        let ping = Ping::start(&node, target, INTERVAL)?;
        ping.wait_for_more(20)?;
        for _ in 0..at_once {
            asked += 1;
            // Comes back when it is up again.
            let shown = system.isthmus(&["vpn", "connection", "reset", name])?;
            ensure!(shown.contains("status        up\n"), "{shown}");
            ensure!(
                spis(&system, &pair, 0)?.is_disjoint(&before[0]),
                "said to be up by what was there before"
            );
        }
        until_others(&system, &pair, &before)?;
        Ping::until_answered(&node, target)?;
        ping.wait_for_more(20)?;
        let count = ping.finish()?;
        ensure!(
            count.longest_silence < stretched(INTERRUPTION),
            "nothing passed: {count:?}"
        );
        silences.push(count.longest_silence);
        ensure!(
            resets(&system, &pair, 0)? == asked,
            "{}",
            doctor(&system, &pair, 0)?
        );
        ensure!(resets(&system, &pair, 1)? == 0, "the other end was not asked");
    }
    let count = outside.count()?;
    ensure!(count.private == 0, "private packets outside: {count:?}");
    let told = system.isthmus(&["vpn", "doctor", name])?;
    ensure!(told.contains("reset on request"), "{told}");

    // It was asked for once: whoever starts again does not do it again.
    let before = both_spis(&system, &pair)?;
    for process in ["server", "agent"] {
        let old = system.kill(process)?;
        system.wait_for_successor(process, old)?;
        system.connect()?;
    }
    // Until the host was heard again, nothing is known. Other SAs would stay other ones.
    eventually("the same Child SAs as before the restarts", || {
        let now = both_spis(&system, &pair)?;
        ensure!(now == before, "{before:?} then {now:?}");
        Ok(())
    })?;
    pair.wait_until_up(&system)?;
    let old = system.kill("tunneld")?;
    system.wait_for_successor("tunneld", old)?;
    until_others(&system, &pair, &before)?;
    // Known, as the other SAs are.
    ensure!(
        resets(&system, &pair, 0)? == 0,
        "a new tunnel daemon resets: {}",
        doctor(&system, &pair, 0)?
    );
    // What it is asked from now on, it does.
    let before = both_spis(&system, &pair)?;
    system.isthmus(&["vpn", "connection", "reset", name, "--no-wait"])?;
    until_others(&system, &pair, &before)?;
    ensure!(resets(&system, &pair, 0)? == 1, "{}", doctor(&system, &pair, 0)?);

    let off = ConnectionChange {
        admin_state_up: Some(false),
        ..ConnectionChange::default()
    };
    let site = &pair.sites[0];
    let connection = site.connection.as_ref().context("a connection")?;
    system.call(|client| client.change_connection(&site.gateway, connection, &off))?;
    let refused = system.isthmus(&["vpn", "connection", "reset", name]);
    let refused = refused
        .err()
        .context("what is switched off was reset")?
        .to_string();
    ensure!(refused.contains("switch it on"), "{refused}");
    ensure!(outside.count()?.private == 0, "private packets outside");
    println!("nothing passed for {silences:?}");
    system.stop()
}
