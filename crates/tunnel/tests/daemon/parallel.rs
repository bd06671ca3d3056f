//! Several SAs for the same traffic as IKE negotiates them: each on threads of its own, and replaced under traffic.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::EstablishMode;
use isthmus_hostplan::diagnosis::ChildSaReport;
use isthmus_hostplan::tunnel::{RekeyedSas, TunnelReply, TunnelRequest};
use isthmus_netlab::{eventually, transfer};
use isthmus_types::{ResourceBits, VpnConnectionId};

use crate::harness::{Daemon, joined_by};
use crate::lanes::{DATAGRAMS, FLOWS, LANES, send_in_order};

/// Packets that each lane has of those that are sent before the first SAs are replaced, at least.
const SHARE: u64 = 100;
/// Rounds of datagrams between two replacements.
const ROUNDS: u32 = DATAGRAMS / 5;

/// The Child SAs that each end has: four, and the same at both.
fn children(daemon: &Daemon) -> Result<[Vec<ChildSaReport>; 2]> {
    let ends: Vec<Vec<ChildSaReport>> = daemon
        .connections()?
        .into_iter()
        .map(|report| report.diagnosis.children)
        .collect();
    let [left, right] = <[_; 2]>::try_from(ends).ok().context("two connections")?;
    let sent_by =
        |end: &[ChildSaReport]| -> BTreeSet<u32> { end.iter().map(|child| child.outbound_spi).collect() };
    let received_by: BTreeSet<u32> = right.iter().map(|child| child.inbound_spi).collect();
    ensure!(
        [left.len(), right.len()] == [usize::from(LANES); 2] && sent_by(&left) == received_by,
        "{left:?} {right:?}"
    );
    Ok([left, right])
}

/// SPIs of what the left end sends on.
fn in_use(daemon: &Daemon) -> Result<BTreeSet<u32>> {
    let [left, _] = children(daemon)?;
    Ok(left.iter().map(|child| child.outbound_spi).collect())
}

/// Waits until all of `old` are replaced.
fn replaced(daemon: &Daemon, old: &BTreeSet<u32>) -> Result<()> {
    eventually("every Child SA to be replaced", || {
        let new = in_use(daemon)?;
        ensure!(new.is_disjoint(old), "{old:?} {new:?}");
        Ok(())
    })
}

/// What both ends dropped, for the report of a failure.
fn drops(daemon: &Daemon) -> String {
    let report = daemon.report().unwrap_or_default();
    let ends: Vec<_> = report.connections.iter().map(|end| &end.drops).collect();
    let gateways: Vec<_> = report.gateways.iter().map(|end| &end.counters.drops).collect();
    format!("dropped {ends:?}, of no connection {gateways:?}")
}

fn thread_names() -> Result<BTreeSet<String>> {
    let tasks = fs::read_dir("/proc/self/task")?;
    Ok(tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect())
}

#[test]
fn negotiated_sas_share_the_flows_over_four_lanes_and_lose_and_reorder_nothing_when_they_are_replaced()
-> Result<()> {
    let right_end = VpnConnectionId::from(ResourceBits::from_random(2));
    let daemon = Daemon::start_as(|socket| isthmus_tunnel::run_with_lanes(socket, LANES.into()))?;
    let (sites, daemon, plan) = joined_by(daemon, |connection| {
        connection.options.parallel_child_sas = LANES;
        // One end asks for them, or there would be more for a while.
        if connection.connection == right_end {
            connection.establish = EstablishMode::PeerOnly;
        }
    })?;
    let ends: Vec<VpnConnectionId> = plan
        .gateways
        .iter()
        .map(|gateway| gateway.connections[0].connection)
        .collect();
    let mut old = eventually("four Child SAs", || in_use(&daemon))?;
    let names = thread_names()?;
    for lane in 1..LANES {
        for direction in ["in", "out"] {
            let name = format!("esp-{direction}-{lane}");
            ensure!(names.contains(&name), "no {name}: {names:?}");
        }
    }
    let mut replacements = 0;
    send_in_order(&sites, |number| {
        if number == 0 || number % ROUNDS != 0 {
            return Ok(());
        }
        if replacements == 0 {
            eventually("each lane to have carried its share", || {
                let [left, right] = children(&daemon)?;
                let sent = left.iter().map(|child| child.traffic.packets_out);
                let received = right.iter().map(|child| child.traffic.packets_in);
                ensure!(
                    sent.chain(received).all(|packets| packets >= SHARE),
                    "{left:?} {right:?}"
                );
                Ok(())
            })?;
        } else {
            replaced(&daemon, &old)?;
            old = in_use(&daemon)?;
        }
        // In turn by each end, while the traffic goes on.
        let request = TunnelRequest::Rekey {
            connection: ends[replacements % 2],
            sas: RekeyedSas::Child,
        };
        let reply = daemon.ask(&request)?;
        ensure!(reply == TunnelReply::Applied, "{reply:?}");
        replacements += 1;
        Ok(())
    })
    .with_context(|| drops(&daemon))?;
    ensure!(replacements == 4, "{replacements}");
    replaced(&daemon, &old)?;
    let all = FLOWS as u64 * u64::from(DATAGRAMS);
    eventually("all packets to be counted", || {
        let received = daemon.connections()?[1].packets_in;
        ensure!(received >= all, "{received} of {all}");
        Ok(())
    })?;

    let (here, there) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    transfer(&here.node, &there.node, there.address, 10 << 20)?;
    transfer(&there.node, &here.node, here.address, 10 << 20)?;
    for connection in daemon.connections()? {
        ensure!(connection.drops.is_empty(), "{connection:?}");
    }
    daemon.stop()
}
