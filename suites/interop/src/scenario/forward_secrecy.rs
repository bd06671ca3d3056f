//! Cases in which the ends do not agree on perfect forward secrecy.

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::DownReason;
use isthmus_hostplan::diagnosis::FindingReport;
use isthmus_hostplan::tunnel::RekeyedSas;
use isthmus_netlab::patience::eventually;
use isthmus_netlab::proposal;
use isthmus_types::IkeVersion;

use crate::scenario::life::{bulk, end_clean, pings_both_ways};
use crate::scenario::restart::down_for;
use crate::setup::Stage;
use crate::table::{Case, Role};

/// What the finding names.
const FIELD: &str = "esp.pfs";

/// In IKEv2 the tunnel comes up and works; the mismatch is found before the first Child SA gets old: by the rekey that is
/// tried at once where we want a group, or by one that is asked for. It goes on working. In IKEv1 it does not come up.
pub fn mismatch(case: &Case) -> Result<String> {
    let mut stage = Stage::new(case, |plan, _| {
        plan.options.verify_pfs = case.role == Role::Initiate;
        Ok(())
    })?;
    stage.begin()?;
    if case.version == IkeVersion::V1 {
        let reason = DownReason::IpsecProposalMismatch;
        let detail = eventually("our connection to be down for that", || down_for(&stage, reason))
            .with_context(|| stage.logs())?;
        let found = until_found(&stage)?;
        stage.nothing_in_clear()?;
        return Ok(format!("{reason:?}: {detail}; {}: {}", found.field, found.fix));
    }
    let before = stage.until_joined()?;
    match case.role {
        Role::Respond => stage.peer.rekey_child()?,
        Role::Initiate if proposal::esp(&case.esp)?.pfs.is_empty() => {
            stage.isthmus.rekey(RekeyedSas::Child)?;
        }
        Role::Initiate => {}
    }
    let found = until_found(&stage)?;
    let after = stage.until_settled("the first Child SA alone", |_| true)?;
    ensure!(
        before.children[0].inbound_spi == after.children[0].inbound_spi,
        "the Child SA was replaced: {before:?}, then {after:?}"
    );
    let count = pings_both_ways(&stage)?;
    let rate = bulk(&stage)?;
    end_clean(&mut stage)?;
    stage.only_what_belongs_outside()?;
    Ok(format!(
        "up, {count} pings, none lost, 20 MB at {rate:.2} Gbit/s; {FIELD}: {}",
        found.sentence
    ))
}

/// Our setting, as the finding calls it.
fn our_pfs(case: &Case) -> Result<String> {
    let groups = proposal::esp(&case.esp)?.pfs;
    let group = groups
        .first()
        .map_or_else(|| "none".to_owned(), ToString::to_string);
    Ok(format!("PFS {group}"))
}

fn until_found(stage: &Stage) -> Result<FindingReport> {
    eventually("the finding", || {
        let findings = stage.isthmus.connection()?.diagnosis.findings;
        let gravest = findings.first().context("nothing was found")?;
        let is_named = match (stage.case.version, stage.case.role) {
            // The peer refuses the proposal as a whole and says no more.
            (IkeVersion::V1, Role::Initiate) => {
                gravest.suspects == ["esp.proposals", FIELD] && gravest.ours.contains(&our_pfs(&stage.case)?)
            }
            (IkeVersion::V1, Role::Respond) | (IkeVersion::V2, _) => {
                gravest.field == FIELD && gravest.code != "pfs_unverified"
            }
        };
        ensure!(is_named, "found {findings:#?}");
        Ok(gravest.clone())
    })
    .with_context(|| stage.logs())
}
