//! Cases with our daemon at both ends.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::diagnosis::Diagnosis;
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_hostplan::{ConnectionPlan, EstablishMode, TunnelState};
use isthmus_netlab::patience::{eventually, holds};
use isthmus_netlab::{Isthmus, LinkCounters, Ping, Site, TwoSites, transfer};
use isthmus_types::IkeVersion;

use crate::certificates;
use crate::scenario::life::{BULK, By, FEW, PACE, names_the_suites};
use crate::setup::{our_side, program, sites, their_side};
use crate::table::{Authentication, Case, Role, Scenario};

/// Dead-peer detection that is done with while the case runs, seconds.
const SHORT_DPD_INTERVAL: u32 = 2;
const SHORT_DPD_TIMEOUT: u32 = 5;

/// Both ends.
struct Twins {
    case: Case,
    ours: Isthmus,
    theirs: Isthmus,
    our_site: Site,
    their_site: Site,
    counters: LinkCounters,
    // Last: the namespaces go after the daemons.
    _sites: TwoSites,
}

/// What both ends have at rest.
#[derive(Debug, PartialEq)]
struct Settled {
    /// SPIs that we receive on, and send with.
    children: BTreeSet<(u32, u32)>,
    /// How often an IKE SA was set up or replaced, at either end.
    ike_sas: [u32; 2],
}

/// Runs the case.
pub fn run(case: &Case) -> Result<String> {
    let start = Instant::now();
    let mut twins = Twins::start(case)?;
    let settled = twins.joined()?;
    let joined = start.elapsed();
    let what = if case.scenario == Scenario::Quick {
        format!("{} pings, none lost", twins.pings()?)
    } else if case.scenario == Scenario::Cycle {
        twins.cycle(settled)?
    } else if case.scenario == Scenario::PeerRestart {
        twins.restart(&settled)?
    } else {
        bail!("{:?} is no scenario between two of ours", case.scenario);
    };
    let rate = twins.bulk()?;
    twins.end()?;
    Ok(format!(
        "up in {} ms with {} Child SAs, {what}, 20 MB at {rate:.2} Gbit/s",
        joined.as_millis(),
        case.child_sas()
    ))
}

impl Twins {
    fn start(case: &Case) -> Result<Self> {
        let (sites, our_site, their_site) = sites(case)?;
        let counters = LinkCounters::new(&sites)?;
        let mut ours = our_side(case, &our_site, &their_site)?;
        let mut theirs = our_side(case, &their_site, &our_site)?;
        if case.authentication != Authentication::Psk {
            equip(case, &mut ours, &mut theirs, &our_site, &their_site)?;
        }
        for plan in [&mut ours, &mut theirs] {
            plan.dpd_interval_seconds = SHORT_DPD_INTERVAL;
            plan.dpd_timeout_seconds = SHORT_DPD_TIMEOUT;
        }
        match case.role {
            Role::Initiate => theirs.establish = EstablishMode::PeerOnly,
            Role::Respond => ours.establish = EstablishMode::PeerOnly,
        }
        // Who only waits is there first.
        let (ours, theirs) = match case.role {
            Role::Initiate => {
                let theirs = Isthmus::start(program()?, &their_site, vec![theirs])?;
                (Isthmus::start(program()?, &our_site, vec![ours])?, theirs)
            }
            Role::Respond => {
                let ours = Isthmus::start(program()?, &our_site, vec![ours])?;
                (ours, Isthmus::start(program()?, &their_site, vec![theirs])?)
            }
        };
        Ok(Self {
            case: case.clone(),
            ours,
            theirs,
            our_site,
            their_site,
            counters,
            _sites: sites,
        })
    }

    /// Waits until both ends have the same, and hosts reach each other.
    fn joined(&self) -> Result<Settled> {
        let family = self.case.inner;
        for near in &self.our_site.hosts {
            for far in &self.their_site.hosts {
                Ping::until_answered(&near.node, far.address_of(family))
                    .and_then(|_| Ping::until_answered(&far.node, near.address_of(family)))
                    .with_context(|| self.logs())?;
            }
        }
        let settled = self.settled("the same SAs at both ends", |_| true)?;
        for end in [&self.ours, &self.theirs] {
            let mut report = end.connection()?;
            if self.case.version == IkeVersion::V2 {
                // Both offer extended sequence numbers first.
                let suite = report.esp_suite.strip_suffix("-esn");
                report.esp_suite = suite.context("no extended sequence numbers")?.to_owned();
            }
            ensure!(
                names_the_suites(&report, &self.case),
                "{} and {} are reported",
                report.ike_suite,
                report.esp_suite
            );
        }
        Ok(settled)
    }

    /// Waits until both ends are up with the right number of Child SAs, one's inbound being the other's outbound, and what they
    /// have is `wanted`.
    fn settled(&self, what: &str, wanted: impl Fn(&Settled) -> bool) -> Result<Settled> {
        eventually(what, || {
            let [ours, theirs] = [&self.ours, &self.theirs].map(|end| -> Result<Diagnosis> {
                let report = end.connection()?;
                holds(report.state == TunnelState::Up, || {
                    format!("it is {:?}", report.state)
                })?;
                Ok(report.diagnosis)
            });
            let (ours, theirs) = (ours?, theirs?);
            let spis = |diagnosis: &Diagnosis| -> BTreeSet<(u32, u32)> {
                let children = diagnosis.children.iter();
                children
                    .map(|child| (child.inbound_spi, child.outbound_spi))
                    .collect()
            };
            let mirrored: BTreeSet<(u32, u32)> = spis(&theirs).into_iter().map(|(a, b)| (b, a)).collect();
            let settled = Settled {
                children: spis(&ours),
                ike_sas: [&ours, &theirs].map(ike_sas),
            };
            holds(
                settled.children == mirrored
                    && settled.children.len() == self.case.child_sas()
                    && ours.children.len() == theirs.children.len()
                    && wanted(&settled),
                || format!("we have {ours:#?}\nthe other end has {theirs:#?}"),
            )?;
            Ok(settled)
        })
        .with_context(|| self.logs())
    }

    /// Every kind of rekey from each end, without a lost ping.
    fn cycle(&self, before: Settled) -> Result<String> {
        let family = self.case.inner;
        let (near, far) = (&self.our_site.hosts[0], &self.their_site.hosts[0]);
        let outward = Ping::start(&near.node, far.address_of(family), PACE)?;
        let inward = Ping::start(&far.node, near.address_of(family), PACE)?;
        let mut settled = before;
        for (by, sas) in [
            (By::Us, RekeyedSas::Child),
            (By::Peer, RekeyedSas::Child),
            (By::Us, RekeyedSas::Ike),
            (By::Peer, RekeyedSas::Ike),
            (By::Us, RekeyedSas::Child),
        ] {
            match by {
                By::Us => self.ours.rekey(sas)?,
                By::Peer => self.theirs.rekey(sas)?,
            }
            settled = self.settled(
                &format!("new {sas:?} SAs, asked for by {by:?}"),
                |now| match sas {
                    RekeyedSas::Child => now.children.is_disjoint(&settled.children),
                    RekeyedSas::Ike => (0..2).all(|end| now.ike_sas[end] > settled.ike_sas[end]),
                },
            )?;
        }
        outward.wait_for_more(40)?;
        let (outward, inward) = (outward.finish()?, inward.finish()?);
        for count in [&outward, &inward] {
            ensure!(
                count.lost() == 0 && count.duplicates == 0,
                "pings were lost or answered twice: {count:?}\n{}",
                self.logs()
            );
        }
        Ok(format!(
            "{} pings and none lost over 5 rekeys",
            outward.sent + inward.sent
        ))
    }

    /// The other end dies and is back at once.
    fn restart(&mut self, before: &Settled) -> Result<String> {
        self.theirs.kill()?;
        let killed = Instant::now();
        self.theirs.restart()?;
        let after = self.settled("new SAs after the restart", |now| {
            now.children.is_disjoint(&before.children)
        })?;
        let back = killed.elapsed();
        ensure!(
            after.ike_sas[1] == 1,
            "the other end set up {} IKE SAs",
            after.ike_sas[1]
        );
        let sent = self.pings()?;
        Ok(format!(
            "joined again {} ms after the kill, nothing left of before, {sent} pings, none lost",
            back.as_millis()
        ))
    }

    fn pings(&self) -> Result<u64> {
        let family = self.case.inner;
        let mut sent = 0;
        for near in &self.our_site.hosts {
            for far in &self.their_site.hosts {
                for (from, to) in [(near, far), (far, near)] {
                    let count = Ping::exactly(&from.node, to.address_of(family), PACE, FEW)?;
                    ensure!(
                        count.lost() == 0 && count.duplicates == 0,
                        "pings were lost or answered twice: {count:?}\n{}",
                        self.logs()
                    );
                    sent += count.sent;
                }
            }
        }
        Ok(sent)
    }

    fn bulk(&self) -> Result<f64> {
        let family = self.case.inner;
        let (near, far) = (&self.our_site.hosts[0], &self.their_site.hosts[0]);
        let out = transfer(&near.node, &far.node, far.address_of(family), BULK)
            .context("sending 20 MB")
            .with_context(|| self.logs())?;
        transfer(&far.node, &near.node, near.address_of(family), BULK / 10).context("receiving 2 MB")?;
        Ok(BULK as f64 * 8.0 / out.as_secs_f64() / 1e9)
    }

    /// Whoever began ends it; neither end keeps anything, and nothing has crossed but IKE and ESP in the right form.
    fn end(&mut self) -> Result<()> {
        let beginner = match self.case.role {
            Role::Initiate => &mut self.ours,
            Role::Respond => &mut self.theirs,
        };
        beginner.change(|connections| connections[0].admin_up = false)?;
        for end in [&self.ours, &self.theirs] {
            eventually("an end without SAs", || {
                let report = end.connection()?;
                holds(
                    report.state != TunnelState::Up
                        && report.diagnosis.ike.is_none()
                        && report.diagnosis.children.is_empty(),
                    || format!("it has {report:?}"),
                )
            })
            .with_context(|| self.logs())?;
        }
        let count = self.counters.read()?;
        let is_native = self.case.is_native();
        ensure!(
            count.clear == 0 && count.other == 0,
            "packets that do not belong between the gateways: {count:?}"
        );
        ensure!(
            (count.esp > count.udp) == is_native && (is_native || count.esp == 0),
            "ESP is {} native: {count:?}",
            if is_native { "not" } else { "also" }
        );
        Ok(())
    }

    fn logs(&self) -> String {
        format!("{}\n{}", self.ours.log_tail(), self.theirs.log_tail())
    }
}

fn ike_sas(diagnosis: &Diagnosis) -> u32 {
    diagnosis
        .events
        .iter()
        .filter(|event| ["ike_established", "ike_replaced"].contains(&event.code.as_str()))
        .map(|event| event.times)
        .sum()
}

/// Gives both ends certificates, as the cases with strongSwan have them.
fn equip(
    case: &Case,
    ours: &mut ConnectionPlan,
    theirs: &mut ConnectionPlan,
    our_site: &Site,
    their_site: &Site,
) -> Result<()> {
    let mut other = their_side(case, our_site, their_site);
    certificates::equip(ours, &mut other, case.authentication, None)?;
    theirs.options.certificate = Some(certificates::of_peer(&other)?);
    theirs.local_identity = ours.peer_identity.clone();
    theirs.peer_identity = ours.local_identity.clone();
    Ok(())
}
