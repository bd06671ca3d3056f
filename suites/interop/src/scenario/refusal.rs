//! Cases in which the tunnel must not come up, and must say why.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, DownReason};
use isthmus_netlab::patience::eventually;
use isthmus_netlab::{Ping, SwanConnection};
use isthmus_types::Secret;

use crate::certificates::{self, Defect};
use crate::scenario::restart::down_for;
use crate::setup::Stage;
use crate::table::{Case, Role};

const PACE: Duration = Duration::from_millis(5);

/// The keys differ.
pub fn wrong_key(case: &Case) -> Result<String> {
    refusal(case, DownReason::AuthenticationFailed, |plan, _| {
        plan.psk = Secret::new("another key".to_owned());
        Ok(())
    })
}

/// The peer shows another identity than we demand, or demands another than we show.
pub fn wrong_identity(case: &Case) -> Result<String> {
    refusal(case, DownReason::AuthenticationFailed, |_, connection| {
        match case.role {
            Role::Initiate => connection.local_id = "somebody.example".to_owned(),
            Role::Respond => connection.remote_id = "somebody.example".to_owned(),
        }
        Ok(())
    })
}

/// No IKE proposal in common.
pub fn no_ike_proposal(case: &Case) -> Result<String> {
    refusal(case, DownReason::IkeProposalMismatch, |_, connection| {
        connection.ike_proposals = vec!["aes256-sha512-prfsha512-modp4096".to_owned()];
        Ok(())
    })
}

/// No ESP proposal in common.
pub fn no_esp_proposal(case: &Case) -> Result<String> {
    refusal(case, DownReason::IpsecProposalMismatch, |_, connection| {
        connection.esp_proposals = vec!["aes256-sha512".to_owned()];
        Ok(())
    })
}

/// The ranges do not overlap.
pub fn no_selectors(case: &Case) -> Result<String> {
    refusal(case, DownReason::SelectorMismatch, |_, connection| {
        connection.local_ranges = vec!["10.77.0.0/24".parse()?];
        Ok(())
    })
}

/// A certificate is not good, for the reason that has `words` in it.
pub fn certificate(case: &Case, defect: Defect, words: &str) -> Result<String> {
    let account = refusal(case, DownReason::AuthenticationFailed, |plan, connection| {
        certificates::equip(plan, connection, case.authentication, Some(defect))
    })?;
    ensure!(account.contains(words), "nothing of {words:?} in {account}");
    Ok(account)
}

fn refusal(
    case: &Case,
    reason: DownReason,
    change: impl FnOnce(&mut ConnectionPlan, &mut SwanConnection) -> Result<()>,
) -> Result<String> {
    let stage = Stage::new(case, change)?;
    stage.begin()?;
    let what = format!("our connection to be down for {reason:?}");
    let detail = eventually(&what, || down_for(&stage, reason)).with_context(|| stage.logs())?;
    ensure!(!detail.is_empty(), "no word of explanation");
    let family = case.inner;
    let silent = Ping::exactly(
        &stage.ours.hosts[0].node,
        stage.theirs.hosts[0].address_of(family),
        PACE,
        10,
    )?;
    ensure!(silent.received == 0, "a host answered without a tunnel");
    stage.nothing_in_clear()?;
    Ok(format!("{reason:?}: {detail}"))
}
