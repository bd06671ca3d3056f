//! Cases in which the tunnel comes up, works and goes in good order.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_hostplan::{ConnectionReport, EstablishMode, TunnelState};
use isthmus_netlab::patience::{eventually, holds, stretched};
use isthmus_netlab::strongswan::SwanIkeSa;
use isthmus_netlab::{Ping, PingCount, transfer};
use isthmus_types::{IkeVersion, Prf};

use crate::setup::Stage;
use crate::table::{Case, Role};

/// Time between two echo requests.
pub const PACE: Duration = Duration::from_millis(5);
/// Echo requests of a case without rekeys, each way.
pub const FEW: u64 = 20;
/// What the TCP transfer moves.
pub const BULK: u64 = 20_000_000;
/// Lifetimes that make us replace SAs while the case runs, seconds.
const SHORT_ESP_LIFETIME: u32 = 10;
const SHORT_IKE_LIFETIME: u32 = 16;
/// The same while the internet loses packets. SAs are replaced a tenth of the lifetime before its end or a little earlier: that
/// leaves time for an exchange to be repeated after two losses. A shorter life could end while strongSwan replaces a phase 1 of
/// IKEv1: that takes it 3.5 seconds after two losses, and until then it takes no quick mode.
const LOSSY_ESP_LIFETIME: u32 = 20;
const LOSSY_IKE_LIFETIME: u32 = 24;
/// How much the internet loses in the case for that.
const LOSS_PERCENT: u8 = 5;

/// Up, pings, 20 MB, down. In IKEv2 with perfect forward secrecy each side makes a Child SA by a key exchange of its own.
pub fn quick(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut stage = Stage::new(case, |_, _| Ok(()))?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let joined = start.elapsed();
    the_suites_are_those(&stage)?;
    let rekeys = if has_untried_pfs(case) {
        let ike = rekey(&stage, &ike, By::Peer, RekeyedSas::Child)?;
        rekey(&stage, &ike, By::Us, RekeyedSas::Child)?;
        " and 2 rekeys"
    } else {
        ""
    };
    let count = pings_both_ways(&stage)?;
    let rate = bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "up in {} ms, {count} pings{rekeys}, none lost, 20 MB at {rate:.2} Gbit/s",
        joined.as_millis()
    ))
}

/// Every kind of rekey from each side, without a lost ping.
pub fn cycle(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut stage = Stage::new(case, |_, _| Ok(()))?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let joined = start.elapsed();
    the_suites_are_those(&stage)?;
    let sent = unharmed(&stage, || {
        let ike = rekey(&stage, &ike, By::Peer, RekeyedSas::Child)?;
        let ike = rekey(&stage, &ike, By::Us, RekeyedSas::Child)?;
        let ike = rekey(&stage, &ike, By::Peer, RekeyedSas::Ike)?;
        let ike = rekey(&stage, &ike, By::Us, RekeyedSas::Ike)?;
        // The new IKE SA can do everything too.
        rekey(&stage, &ike, By::Peer, RekeyedSas::Child)?;
        Ok(())
    })?;
    let rate = bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "up in {} ms, {sent} pings and none lost over 5 rekeys, 20 MB at {rate:.2} Gbit/s",
        joined.as_millis()
    ))
}

/// We replace both SAs because they get old.
pub fn aging(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |plan, _| {
        plan.esp_lifetime_seconds = SHORT_ESP_LIFETIME;
        plan.ike_lifetime_seconds = SHORT_IKE_LIFETIME;
        Ok(())
    })?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let sent = unharmed(&stage, || {
        replaced_in_time(
            &stage,
            &ike,
            [SHORT_ESP_LIFETIME, SHORT_IKE_LIFETIME],
            Duration::from_secs(2),
        )
    })?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "{sent} pings and none lost while a Child SA and an IKE SA grew old"
    ))
}

/// The same while packets are lost.
pub fn lossy(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut stage = Stage::new(case, |plan, _| {
        plan.esp_lifetime_seconds = LOSSY_ESP_LIFETIME;
        plan.ike_lifetime_seconds = LOSSY_IKE_LIFETIME;
        Ok(())
    })?;
    stage.lose(LOSS_PERCENT)?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let joined = start.elapsed();
    let (near, far) = (stage.ours.hosts[0].clone(), stage.theirs.hosts[0].clone());
    let ping = Ping::start(&near.node, far.address_of(case.inner), PACE)?;
    let ike = rekey(&stage, &ike, By::Peer, RekeyedSas::Child)?;
    let ike = rekey(&stage, &ike, By::Peer, RekeyedSas::Ike)?;
    replaced_in_time(
        &stage,
        &ike,
        [LOSSY_ESP_LIFETIME, LOSSY_IKE_LIFETIME],
        Duration::from_secs(10),
    )?;
    let count = ping.finish()?;
    // Twice the loss of one way is expected; an outage at a rekey would show.
    ensure!(
        count.lost() * 100 < count.sent * u64::from(LOSS_PERCENT) * 3,
        "too many pings lost: {count:?}\n{}",
        stage.logs()
    );
    transfer(&near.node, &far.node, far.address_of(case.inner), BULK / 10).context("sending 2 MB")?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "up in {} ms, {} of {} pings lost over 4 rekeys with {LOSS_PERCENT} % loss",
        joined.as_millis(),
        count.lost(),
        count.sent
    ))
}

/// The peer wants half of what we have, or we have half of what it wants: what both have works.
pub fn narrowing(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |plan, connection| {
        match case.role {
            Role::Initiate => {
                plan.peer_cidrs = vec!["10.2.0.0/16".parse()?];
                plan.local_cidrs = vec!["10.1.0.0/23".parse()?];
            }
            Role::Respond => {
                connection.local_ranges = vec!["10.2.0.0/16".parse()?];
                connection.remote_ranges = vec!["10.1.0.0/23".parse()?];
            }
        }
        Ok(())
    })?;
    stage.begin()?;
    let ike = stage.until_joined()?;
    let ranges: Vec<_> = ike
        .children
        .iter()
        .map(|child| (child.local_ranges.clone(), child.remote_ranges.clone()))
        .collect();
    ensure!(
        ranges == [(vec!["10.2.0.0/24".to_owned()], vec!["10.1.0.0/24".to_owned()])],
        "the peer has {ranges:?}"
    );
    let count = pings_both_ways(&stage)?;
    if case.role == Role::Initiate {
        // Of our side's range, but left out by the peer: kept from going in clear.
        let left_out = Ipv4Addr::new(10, 2, 77, 10);
        let silent = Ping::exactly(&stage.ours.hosts[0].node, left_out, PACE, FEW)?;
        ensure!(silent.received == 0, "somebody answered for {left_out}");
    }
    bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "10.2.0.0/24 of 10.2.0.0/16 and 10.1.0.0/24 of 10.1.0.0/23 agreed, {count} pings, none lost"
    ))
}

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The peer.
    Peer,
    /// We.
    Us,
}

/// Has one side replace SAs, and waits until the new ones alone are there. `ike` is what was there before.
pub fn rekey(stage: &Stage, ike: &SwanIkeSa, by: By, sas: RekeyedSas) -> Result<SwanIkeSa> {
    match (by, sas) {
        (By::Us, sas) => stage.isthmus.rekey(sas)?,
        (By::Peer, RekeyedSas::Child) => stage.peer.rekey_child()?,
        (By::Peer, RekeyedSas::Ike) => stage.peer.rekey_ike()?,
    }
    let what = match (by, sas) {
        (By::Us, RekeyedSas::Child) => "the Child SAs that we make",
        (By::Us, RekeyedSas::Ike) => "the IKE SA that we make",
        (By::Peer, RekeyedSas::Child) => "the Child SAs that the peer makes",
        (By::Peer, RekeyedSas::Ike) => "the IKE SA that the peer makes",
    };
    stage.until_settled(what, |now| match sas {
        RekeyedSas::Child => all_children_differ(ike, now),
        RekeyedSas::Ike => now.initiator_spi != ike.initiator_spi,
    })
}

/// Whether none of the Child SAs was there before.
pub fn all_children_differ(before: &SwanIkeSa, now: &SwanIkeSa) -> bool {
    let spis = |sa: &SwanIkeSa| -> BTreeSet<String> {
        sa.children
            .iter()
            .map(|child| child.inbound_spi.clone())
            .collect()
    };
    spis(before).is_disjoint(&spis(now))
}

/// `lifetimes` are those of the Child SA and of the IKE SA, seconds.
fn replaced_in_time(stage: &Stage, ike: &SwanIkeSa, lifetimes: [u32; 2], grace: Duration) -> Result<()> {
    let [esp, ike_lifetime] = lifetimes;
    let due = |lifetime: u32| stretched(Duration::from_secs(lifetime.into()) + grace);
    stage.until_settled_within(due(esp), "the Child SAs that we make in time", |now| {
        all_children_differ(ike, now)
    })?;
    stage.until_settled_within(due(ike_lifetime), "the IKE SA that we make in time", |now| {
        now.initiator_spi != ike.initiator_spi
    })?;
    Ok(())
}

/// Does `work` while hosts ping each other, and makes sure that no answer was missed. Yields the number of requests.
fn unharmed(stage: &Stage, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let family = stage.case.inner;
    let (near, far) = (&stage.ours.hosts[0], &stage.theirs.hosts[0]);
    let outward = Ping::start(&near.node, far.address_of(family), PACE)?;
    let inward = Ping::start(&far.node, near.address_of(family), PACE)?;
    work()?;
    outward.wait_for_more(40)?;
    let (outward, inward) = (outward.finish()?, inward.finish()?);
    for (count, way) in [(&outward, "out"), (&inward, "in")] {
        all_answered(stage, count, way)?;
    }
    Ok(outward.sent + inward.sent)
}

/// Makes sure that every request was answered, once.
pub fn all_answered(stage: &Stage, count: &PingCount, way: &str) -> Result<()> {
    ensure!(
        count.lost() == 0 && count.duplicates == 0,
        "pings {way} were lost or answered twice: {count:?}\n{}",
        stage.logs()
    );
    Ok(())
}

/// A few pings between every pair of hosts, each way; yields the number of requests.
pub fn pings_both_ways(stage: &Stage) -> Result<u64> {
    let family = stage.case.inner;
    let mut sent = 0;
    for near in &stage.ours.hosts {
        for far in &stage.theirs.hosts {
            for (from, to) in [(near, far), (far, near)] {
                let count = Ping::exactly(&from.node, to.address_of(family), PACE, FEW)?;
                all_answered(stage, &count, "between two hosts")?;
                sent += count.sent;
            }
        }
    }
    Ok(sent)
}

/// 20 MB to the peer's side, which is timed, and 2 MB back. Yields the rate, Gbit/s.
pub fn bulk(stage: &Stage) -> Result<f64> {
    let family = stage.case.inner;
    let (near, far) = (&stage.ours.hosts[0], &stage.theirs.hosts[0]);
    let out = transfer(&near.node, &far.node, far.address_of(family), BULK)
        .context("sending 20 MB")
        .with_context(|| stage.logs())?;
    transfer(&far.node, &near.node, near.address_of(family), BULK / 10).context("receiving 2 MB")?;
    Ok(BULK as f64 * 8.0 / out.as_secs_f64() / 1e9)
}

/// Whether a key exchange is still to be tried once the tunnel is up: the first Child SA of IKEv2 has none of its own.
fn has_untried_pfs(case: &Case) -> bool {
    case.version == IkeVersion::V2
        && isthmus_netlab::proposal::esp(&case.esp).is_ok_and(|esp| !esp.pfs.is_empty())
}

/// Makes sure that our report names what both sides were told to use.
fn the_suites_are_those(stage: &Stage) -> Result<()> {
    let report = stage.isthmus.connection()?;
    ensure!(
        names_the_suites(&report, &stage.case),
        "we report {} and {} where {} and {} were agreed",
        report.ike_suite,
        report.esp_suite,
        stage.case.ike,
        stage.case.esp
    );
    Ok(())
}

/// Whether a report names what the case says.
pub fn names_the_suites(report: &ConnectionReport, case: &Case) -> bool {
    // In IKEv1 the hash is the pseudo-random function.
    let without_prf = |text: &str| -> Vec<String> {
        text.split('-')
            .filter(|word| case.version == IkeVersion::V2 || Prf::from_word(word).is_none())
            .map(str::to_owned)
            .collect()
    };
    without_prf(&report.ike_suite) == without_prf(&case.ike)
        && case.esp.starts_with(&report.esp_suite)
        && !report.esp_suite.is_empty()
}

/// Whoever started ends it, and neither side keeps anything.
pub fn end_clean(stage: &mut Stage) -> Result<()> {
    let role = stage.case.role;
    match role {
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
        let wanted = match role {
            Role::Initiate => state == TunnelState::AdminDown,
            Role::Respond => state != TunnelState::Up,
        };
        holds(wanted, || format!("it is {state:?}"))
    })
}
