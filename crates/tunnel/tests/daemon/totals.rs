//! What is counted of the events of a connection.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use isthmus_hostplan::tunnel::{RekeyedSas, TunnelReply, TunnelRequest};
use isthmus_hostplan::{ConnectionReport, EstablishMode, TunnelState};
use isthmus_netlab::{eventually, proposal};
use isthmus_types::{IkeVersion, ResourceBits, VpnConnectionId};

use crate::harness::{Daemon, joined_after, ping};

fn total(report: &ConnectionReport, code: &str) -> u64 {
    let mut totals = report.totals.iter();
    totals
        .find(|(word, _)| word == code)
        .map_or(0, |(_, count)| *count)
}

fn spis(daemon: &Daemon) -> Result<BTreeSet<u32>> {
    let connections = daemon.connections()?;
    let children = connections.iter().flat_map(|report| &report.diagnosis.children);
    Ok(children.map(|child| child.inbound_spi).collect())
}

/// Waits until each end is up with one Child SA that is not among `before`.
fn until_others(daemon: &Daemon, before: &BTreeSet<u32>) -> Result<()> {
    eventually("other Child SAs", || {
        let up = daemon
            .connections()?
            .iter()
            .all(|report| report.state == TunnelState::Up);
        let now = spis(daemon)?;
        ensure!(up && now.len() == 2 && now.is_disjoint(before), "{now:?}");
        Ok(())
    })
}

/// A Child SA that was deleted may still be received on when the one comes that is made after it.
#[test]
fn what_is_made_after_a_deletion_is_not_counted_as_a_rekey() -> Result<()> {
    for version in [IkeVersion::V1, IkeVersion::V2] {
        let right = VpnConnectionId::from(ResourceBits::from_random(2));
        let ike = proposal::ike("aes128-sha256-prfsha256-x25519")?;
        let (sites, daemon, mut plan) = joined_after(|connection| {
            connection.version = version;
            connection.ike_proposals = vec![ike.clone()];
            if connection.connection == right {
                // Otherwise both may begin at once, and one of two Child SAs takes the place of the other.
                connection.establish = EstablishMode::PeerOnly;
            }
        })?;
        ping(&sites, 5)?;
        for resets in 1..=2 {
            let before = spis(&daemon)?;
            plan.gateways[0].connections[0].reset_count = resets;
            daemon.apply(&plan)?;
            until_others(&daemon, &before)?;
            for report in daemon.connections()? {
                ensure!(total(&report, "ike_deleted") > 0, "{version:?}: {report:?}");
                ensure!(total(&report, "child_replaced") == 0, "{version:?}: {report:?}");
            }
        }
        let before = spis(&daemon)?;
        let rekey = TunnelRequest::Rekey {
            connection: plan.gateways[0].connections[0].connection,
            sas: RekeyedSas::Child,
        };
        ensure!(daemon.ask(&rekey)? == TunnelReply::Applied);
        until_others(&daemon, &before)?;
        for report in daemon.connections()? {
            ensure!(total(&report, "child_replaced") == 1, "{version:?}: {report:?}");
        }
        daemon.stop()?;
    }
    Ok(())
}
