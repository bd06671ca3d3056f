//! What is done in a case, and what must come of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, DownReason, EstablishMode, TunnelState};
use isthmus_netlab::patience::{eventually, eventually_within, holds, stretched};
use isthmus_netlab::strongswan::{SwanChildSa, SwanIkeSa};
use isthmus_netlab::{Ping, SwanConnection, transfer};
use isthmus_types::Secret;

use crate::setup::Stage;
use crate::table::{Case, Role, Scenario};

/// Time between two echo requests while SAs are replaced.
const PACE: Duration = Duration::from_millis(5);
/// What the TCP transfer moves.
const BULK: u64 = 100_000_000;
/// Lifetimes that make us replace SAs while the case runs, seconds.
const SHORT_ESP_LIFETIME: u32 = 10;
const SHORT_IKE_LIFETIME: u32 = 16;
/// How much the internet loses in the case for that.
const LOSS_PERCENT: u8 = 5;
/// Dead-peer detection that is done with while the case runs, seconds.
const SHORT_DPD_INTERVAL: u32 = 2;
const SHORT_DPD_TIMEOUT: u32 = 5;

/// Runs the case and yields a line about how it went.
pub fn run(case: &Case) -> Result<String> {
    match case.scenario {
        Scenario::Cycle => cycle(case),
        Scenario::Lossy => lossy(case),
        Scenario::LostPeer => lost_peer(case),
        Scenario::OwnRestart => own_restart(case),
        Scenario::WrongKey => refusal(case, DownReason::AuthenticationFailed, |plan, _| {
            plan.psk = Secret::new("another key".to_owned());
            Ok(())
        }),
        Scenario::WrongIdentity => refusal(case, DownReason::AuthenticationFailed, |_, connection| {
            match case.role {
                Role::Initiate => connection.local_id = "somebody.example".to_owned(),
                Role::Respond => connection.remote_id = "somebody.example".to_owned(),
            }
            Ok(())
        }),
        Scenario::NoIkeProposal => refusal(case, DownReason::IkeProposalMismatch, |_, connection| {
            connection.ike_proposals = vec!["aes256-sha512-prfsha512-modp4096".to_owned()];
            Ok(())
        }),
        Scenario::NoEspProposal => refusal(case, DownReason::IpsecProposalMismatch, |_, connection| {
            connection.esp_proposals = vec!["aes256-sha512".to_owned()];
            Ok(())
        }),
        Scenario::NoSelectors => refusal(case, DownReason::SelectorMismatch, |_, connection| {
            connection.local_ranges = vec!["10.77.0.0/24".parse()?];
            Ok(())
        }),
    }
}

fn cycle(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut stage = Stage::new(case, |plan, _| {
        plan.esp_lifetime_seconds = SHORT_ESP_LIFETIME;
        plan.ike_lifetime_seconds = SHORT_IKE_LIFETIME;
        Ok(())
    })?;
    stage.begin()?;
    let (ike, child) = stage.until_joined()?;
    let joined = start.elapsed();
    let report = stage.isthmus.connection()?;
    ensure!(
        report.ike_suite == case.ike
            && case.esp.starts_with(&report.esp_suite)
            && !report.esp_suite.is_empty(),
        "we report {} and {} where {} and {} were agreed",
        report.ike_suite,
        report.esp_suite,
        case.ike,
        case.esp
    );

    let (near, far) = (stage.ours.hosts[0].clone(), stage.theirs.hosts[0].clone());
    let outward = Ping::start(&near.node, far.address, PACE)?;
    let inward = Ping::start(&far.node, near.address, PACE)?;
    rekey_from_each_side(&stage, &ike, &child, Duration::from_secs(2))?;
    outward.wait_for_more(40)?;
    let (outward, inward) = (outward.finish()?, inward.finish()?);
    ensure!(
        outward.lost() + inward.lost() == 0,
        "pings were lost: out {outward:?}, in {inward:?}\n{}\n{}",
        stage.isthmus.log_tail(),
        stage.peer.log_tail()
    );
    ensure!(
        outward.duplicates + inward.duplicates == 0,
        "answers came twice: {outward:?} {inward:?}"
    );

    let out = transfer(&near.node, &far.node, far.address, BULK).context("sending 100 MB")?;
    transfer(&far.node, &near.node, near.address, BULK / 10).context("receiving 10 MB")?;
    end_clean(case, &mut stage)?;
    stage.nothing_in_clear()?;
    Ok(format!(
        "up in {} ms, {} pings and none lost over 4 rekeys, 100 MB at {:.2} Gbit/s",
        joined.as_millis(),
        outward.sent + inward.sent,
        BULK as f64 * 8.0 / out.as_secs_f64() / 1e9
    ))
}

/// The peer replaces the Child SA and the IKE SA on request, then we replace both because they get old. `grace` is for the
/// exchange itself, beyond the lifetime.
fn rekey_from_each_side(stage: &Stage, ike: &SwanIkeSa, child: &SwanChildSa, grace: Duration) -> Result<()> {
    let soon = stretched(Duration::from_secs(8) + grace);
    stage.peer.rekey_child()?;
    let (_, child) = stage.until_settled(soon, "the Child SA that the peer makes", |_, now| {
        now.inbound_spi != child.inbound_spi
    })?;
    stage.peer.rekey_ike()?;
    let (ike, _) = stage.until_settled(soon, "the IKE SA that the peer makes", |now, _| {
        now.initiator_spi != ike.initiator_spi
    })?;
    let due = |lifetime: u32| stretched(Duration::from_secs(lifetime.into()) + grace);
    stage.until_settled(due(SHORT_ESP_LIFETIME), "the Child SA that we make", |_, now| {
        now.inbound_spi != child.inbound_spi
    })?;
    stage.until_settled(due(SHORT_IKE_LIFETIME), "the IKE SA that we make", |now, _| {
        now.initiator_spi != ike.initiator_spi
    })?;
    Ok(())
}

fn lossy(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut stage = Stage::new(case, |plan, _| {
        plan.esp_lifetime_seconds = SHORT_ESP_LIFETIME;
        plan.ike_lifetime_seconds = SHORT_IKE_LIFETIME;
        Ok(())
    })?;
    stage.lose(LOSS_PERCENT)?;
    stage.begin()?;
    let (ike, child) = stage.until_joined()?;
    let joined = start.elapsed();
    let (near, far) = (stage.ours.hosts[0].clone(), stage.theirs.hosts[0].clone());
    let ping = Ping::start(&near.node, far.address, PACE)?;
    rekey_from_each_side(&stage, &ike, &child, Duration::from_secs(10))?;
    let count = ping.finish()?;
    // Twice the loss of one way is expected; an outage at a rekey would show.
    ensure!(
        count.lost() * 100 < count.sent * u64::from(LOSS_PERCENT) * 3,
        "too many pings lost: {count:?}"
    );
    transfer(&near.node, &far.node, far.address, BULK / 50).context("sending 2 MB")?;
    end_clean(case, &mut stage)?;
    stage.nothing_in_clear()?;
    Ok(format!(
        "up in {} ms, {} of {} pings lost over 4 rekeys with {LOSS_PERCENT} % loss",
        joined.as_millis(),
        count.lost(),
        count.sent
    ))
}

/// Whoever started ends it, and neither side keeps anything.
fn end_clean(case: &Case, stage: &mut Stage) -> Result<()> {
    match case.role {
        Role::Initiate => stage
            .isthmus
            .change(|connections| connections[0].admin_up = false)?,
        Role::Respond => {
            // Otherwise we would be right to start anew at once.
            stage
                .isthmus
                .change(|connections| connections[0].establish = EstablishMode::PeerOnly)?;
            stage.peer.terminate()?;
        }
    }
    stage
        .peer
        .wait_for_none()
        .with_context(|| stage.isthmus.log_tail())?;
    eventually("our connection to be down", || {
        let state = stage.isthmus.connection()?.state;
        let wanted = match case.role {
            Role::Initiate => state == TunnelState::AdminDown,
            Role::Respond => state != TunnelState::Up,
        };
        holds(wanted, || format!("it is {state:?}"))
    })
}

fn lost_peer(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |plan, _| {
        plan.dpd_interval_seconds = SHORT_DPD_INTERVAL;
        plan.dpd_timeout_seconds = SHORT_DPD_TIMEOUT;
        Ok(())
    })?;
    stage.begin()?;
    stage.until_joined()?;
    stage.peer.kill()?;
    let killed = Instant::now();
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
        "noticed after {:.1} s, back after {:.1} s",
        noticed.as_secs_f64(),
        joined.as_secs_f64()
    ))
}

fn own_restart(case: &Case) -> Result<String> {
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

fn refusal(
    case: &Case,
    reason: DownReason,
    change: impl FnOnce(&mut ConnectionPlan, &mut SwanConnection) -> Result<()>,
) -> Result<String> {
    let stage = Stage::new(case, change)?;
    stage.begin()?;
    let what = format!("our connection to be down for {reason:?}");
    let detail = eventually(&what, || down_for(&stage, reason))
        .with_context(|| format!("{}\n{}", stage.isthmus.log_tail(), stage.peer.log_tail()))?;
    ensure!(!detail.is_empty(), "no word of explanation");
    let silent = Ping::exactly(&stage.ours.hosts[0].node, stage.theirs.hosts[0].address, PACE, 10)?;
    ensure!(silent.received == 0, "a host answered without a tunnel");
    stage.nothing_in_clear()?;
    Ok(format!("{reason:?}: {detail}"))
}

/// The explanation, when our connection is down for `reason`.
fn down_for(stage: &Stage, reason: DownReason) -> Result<String> {
    let state = stage.isthmus.connection()?.state;
    match state {
        TunnelState::Down {
            reason: found,
            detail,
        } if found == reason => Ok(detail),
        other @ (TunnelState::AdminDown | TunnelState::Down { .. } | TunnelState::Up) => {
            anyhow::bail!("it is {other:?}")
        }
    }
}
