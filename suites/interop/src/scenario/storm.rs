//! Rekeys by either side and by both at once, while every echo request counts.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_netlab::Ping;
use isthmus_netlab::strongswan::SwanIkeSa;

use crate::scenario::life::{By, all_answered, all_children_differ, end_clean, rekey};
use crate::setup::Stage;
use crate::table::Case;

/// Time between two echo requests.
const PACE: Duration = Duration::from_millis(1);
/// Requests each way, at least.
const REQUESTS: u64 = 10_000;
/// How far apart both sides may begin for it to be at once.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What happened in a storm.
#[derive(Default)]
struct Tally {
    child: u32,
    ike: u32,
    both: u32,
    at_once: u32,
}

/// Runs the case.
pub fn run(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |_, _| Ok(()))?;
    stage.begin()?;
    let mut ike = stage.until_joined()?;
    let family = case.inner;
    let (near, far) = (stage.ours.hosts[0].clone(), stage.theirs.hosts[0].clone());
    let outward = Ping::start(&near.node, far.address_of(family), PACE)?;
    let inward = Ping::start(&far.node, near.address_of(family), PACE)?;
    let mut tally = Tally::default();
    let mut round = 0;
    while round < 2 || outward.sent().min(inward.sent()) < REQUESTS {
        for sas in [RekeyedSas::Child, RekeyedSas::Ike] {
            ike = rekey(&stage, &ike, By::Peer, sas)?;
            ike = rekey(&stage, &ike, By::Us, sas)?;
            let apart = both(&stage, sas)?;
            ike = stage.until_settled("new SAs after both sides began", |now| match sas {
                RekeyedSas::Child => all_children_differ(&ike, now),
                RekeyedSas::Ike => is_new(&ike, now),
            })?;
            match sas {
                RekeyedSas::Child => tally.child += 2,
                RekeyedSas::Ike => tally.ike += 2,
            }
            tally.both += 1;
            tally.at_once += u32::from(apart < AT_ONCE);
        }
        round += 1;
    }
    let (outward, inward) = (outward.finish()?, inward.finish()?);
    all_answered(&stage, &outward, "out")?;
    all_answered(&stage, &inward, "in")?;
    ensure!(tally.at_once > 0, "the sides never began within {AT_ONCE:?}");
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "{} pings at 1 ms each way, none lost over {} Child SA and {} IKE SA rekeys by one side and {} by both ({} within \
         {AT_ONCE:?})",
        outward.sent.min(inward.sent),
        tally.child,
        tally.ike,
        tally.both,
        tally.at_once
    ))
}

fn is_new(before: &SwanIkeSa, now: &SwanIkeSa) -> bool {
    now.initiator_spi != before.initiator_spi
}

/// Has both sides begin to replace the same SAs, and tells how far apart they were asked.
fn both(stage: &Stage, sas: RekeyedSas) -> Result<Duration> {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let peer = scope.spawn(|| {
            barrier.wait();
            let asked = Instant::now();
            match sas {
                RekeyedSas::Child => stage.peer.rekey_child(),
                RekeyedSas::Ike => stage.peer.rekey_ike(),
            }
            .map(|()| asked)
        });
        barrier.wait();
        let asked = Instant::now();
        stage.isthmus.rekey(sas)?;
        let peer = peer
            .join()
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
            .context("the peer's rekey")?;
        Ok(peer.max(asked) - peer.min(asked))
    })
}
