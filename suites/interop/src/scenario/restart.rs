//! Cases in which a daemon dies and comes back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use isthmus_hostplan::{ConnectionReport, DownReason, TunnelState};
use isthmus_netlab::patience::{eventually, eventually_within, holds, stretched};

use crate::scenario::life::{bulk, end_clean};
use crate::setup::Stage;
use crate::table::Case;

/// Dead-peer detection that is done with while the case runs, seconds.
const SHORT_DPD_INTERVAL: u32 = 2;
const SHORT_DPD_TIMEOUT: u32 = 5;

/// A tunnel whose peer was killed just now.
fn with_peer_killed(case: &Case) -> Result<(Stage, Instant)> {
    let mut stage = Stage::new(case, |plan, _| {
        plan.dpd_interval_seconds = SHORT_DPD_INTERVAL;
        plan.dpd_timeout_seconds = SHORT_DPD_TIMEOUT;
        Ok(())
    })?;
    stage.begin()?;
    stage.until_joined()?;
    stage.peer.kill()?;
    Ok((stage, Instant::now()))
}

/// The peer dies: noticed in time. It comes back: up again.
pub fn lost_peer(case: &Case) -> Result<String> {
    let (mut stage, killed) = with_peer_killed(case)?;
    // One second for the report and for what was in flight.
    let limit = Duration::from_secs(u64::from(SHORT_DPD_INTERVAL + SHORT_DPD_TIMEOUT) + 1);
    eventually_within(stretched(limit), "the lost peer to be noticed", || {
        down_for(&stage, DownReason::PeerNotResponding).map(drop)
    })
    .with_context(|| stage.isthmus.log_tail())?;
    let noticed = killed.elapsed();
    stage.peer.restart()?;
    let back = Instant::now();
    stage.begin()?;
    stage.until_joined()?;
    let joined = back.elapsed();
    stage.nothing_in_clear()?;
    Ok(format!(
        "noticed after {:.1} s with {SHORT_DPD_INTERVAL} s + {SHORT_DPD_TIMEOUT} s; up {} ms after the peer was back",
        noticed.as_secs_f64(),
        joined.as_millis()
    ))
}

/// The peer dies and is back before anybody has noticed: up again, and what was there before is gone on both sides.
pub fn peer_restart(case: &Case) -> Result<String> {
    let (mut stage, killed) = with_peer_killed(case)?;
    stage.peer.restart()?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let back = killed.elapsed();
    let theirs: BTreeSet<String> = ike
        .children
        .iter()
        .map(|child| child.outbound_spi.clone())
        .collect();
    eventually("our side without the SAs from before", || {
        let report = stage.isthmus.connection()?;
        let ours = inbound_spis(&report);
        holds(ours == theirs, || {
            format!("we receive on {ours:?}, the peer sends on {theirs:?}")
        })
    })
    .with_context(|| stage.logs())?;
    let rate = bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.nothing_in_clear()?;
    Ok(format!(
        "joined again {} ms after the kill, nothing left of before, 20 MB at {rate:.2} Gbit/s",
        back.as_millis()
    ))
}

/// We die and come back: up again, with nothing left over at the peer.
pub fn own_restart(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |_, _| Ok(()))?;
    stage.begin()?;
    stage.until_joined()?;
    stage.isthmus.kill()?;
    let killed = Instant::now();
    stage.isthmus.restart()?;
    stage.until_joined()?;
    let back = killed.elapsed();
    stage.isthmus.stop()?;
    stage.peer.wait_for_none()?;
    stage.nothing_in_clear()?;
    Ok(format!(
        "back after {} ms, one SA at the peer, none after the stop",
        back.as_millis()
    ))
}

/// The SPIs that we receive on, as strongSwan writes them.
pub fn inbound_spis(report: &ConnectionReport) -> BTreeSet<String> {
    let children = report.diagnosis.children.iter();
    children
        .map(|child| format!("{:08x}", child.inbound_spi))
        .collect()
}

/// The explanation, when our connection is down for `reason`.
pub fn down_for(stage: &Stage, reason: DownReason) -> Result<String> {
    let state = stage.isthmus.connection()?.state;
    match state {
        TunnelState::Down {
            reason: found,
            detail,
        } if found == reason => Ok(detail),
        other @ (TunnelState::AdminDown | TunnelState::Down { .. } | TunnelState::Up) => {
            bail!("it is {other:?}")
        }
    }
}
