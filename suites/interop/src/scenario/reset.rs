//! Cases in which we are asked to negotiate anew.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{DownReason, EstablishMode};
use isthmus_netlab::Ping;
use isthmus_netlab::patience::{eventually, stretched};
use isthmus_netlab::strongswan::SwanIkeSa;

use crate::scenario::life::{PACE, all_children_differ, bulk, end_clean, pings_both_ways};
use crate::scenario::restart::{down_for, inbound_spis};
use crate::setup::Stage;
use crate::table::{Case, Role};

/// Nothing may pass for at most so long: a few round trips, on a machine that does other things too.
const INTERRUPTION: Duration = Duration::from_secs(2);

/// strongSwan forgets a handshake that a second reset has left half done after 30 seconds.
const FORGETTING: Duration = Duration::from_secs(60);

/// Two resets, one after the other, and two at once: each time everything that both ends had is gone and made anew, with
/// one SA of each kind, and nothing passes in clear meanwhile.
pub fn run(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |_, _| Ok(()))?;
    stage.begin()?;
    let mut ike = stage.until_joined()?;
    let (near, far) = (stage.ours.hosts[0].clone(), stage.theirs.hosts[0].clone());
    let mut silences = Vec::new();
    for resets in [1, 1, 2] {
        let ping = Ping::start(&near.node, far.address_of(case.inner), PACE)?;
        ping.wait_for_more(20)?;
        reset(&mut stage, resets)?;
        ike = until_anew(&stage, &ike)?;
        ping.wait_for_more(20)?;
        let count = ping.finish()?;
        ensure!(count.duplicates == 0, "answered twice: {count:?}");
        silences.push(count.longest_silence);
    }
    pings_both_ways(&stage)?;
    let longest = silences.iter().max().copied().unwrap_or_default();
    if case.role == Role::Initiate {
        // Otherwise it lasts as long as the peer takes to begin.
        ensure!(
            longest < stretched(INTERRUPTION),
            "nothing passed for {silences:?}"
        );
    }
    let rate = bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "4 resets, nothing passed for {longest:?} at most, 20 MB at {rate:.2} Gbit/s"
    ))
}

/// Asks for so many resets at once. Where the peer is to begin, we wait for it, and nothing is left at either end before it
/// does.
fn reset(stage: &mut Stage, times: u32) -> Result<()> {
    let role = stage.case.role;
    for _ in 0..times {
        stage.isthmus.change(|connections| {
            connections[0].reset_count += 1;
            if role == Role::Respond {
                connections[0].establish = EstablishMode::PeerOnly;
            }
        })?;
    }
    if role == Role::Respond {
        stage.peer.wait_for_none().with_context(|| stage.logs())?;
        eventually("our connection to wait for the peer", || {
            down_for(stage, DownReason::AwaitingPeer).map(drop)
        })?;
        ensure!(stage.isthmus.connection()?.diagnosis.children.is_empty());
        stage.begin()?;
    }
    Ok(())
}

/// Waits until both ends have other SAs than `before`, the same ones, and hosts reach each other through them.
fn until_anew(stage: &Stage, before: &SwanIkeSa) -> Result<SwanIkeSa> {
    stage.until_settled_within(stretched(FORGETTING), "other SAs after a reset", |now| {
        now.initiator_spi != before.initiator_spi && all_children_differ(before, now)
    })?;
    let ike = stage.until_joined()?;
    let report = stage.isthmus.connection()?;
    let ours = inbound_spis(&report);
    let theirs = ike.children.iter().map(|child| child.outbound_spi.clone());
    ensure!(
        ours == theirs.collect(),
        "we receive on {ours:?}, the peer has {ike:?}\n{}",
        stage.logs()
    );
    let resets = report.totals.iter().find(|(word, _)| word == "reset");
    let told = report.diagnosis.events.iter().any(|event| event.code == "reset");
    ensure!(resets.is_some() && told, "no reset is told of: {report:?}");
    Ok(ike)
}
