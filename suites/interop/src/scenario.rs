//! What is done in a case, and what must come of it.

mod life;
mod refusal;
mod restart;
mod storm;

use anyhow::Result;

use crate::table::{Case, Scenario};

/// Runs the case and yields a line about how it went.
pub fn run(case: &Case) -> Result<String> {
    match case.scenario {
        Scenario::Quick => life::quick(case),
        Scenario::Cycle => life::cycle(case),
        Scenario::Aging => life::aging(case),
        Scenario::Lossy => life::lossy(case),
        Scenario::Narrowing => life::narrowing(case),
        Scenario::Storm => storm::run(case),
        Scenario::LostPeer => restart::lost_peer(case),
        Scenario::OwnRestart => restart::own_restart(case),
        Scenario::WrongKey => refusal::wrong_key(case),
        Scenario::WrongIdentity => refusal::wrong_identity(case),
        Scenario::NoIkeProposal => refusal::no_ike_proposal(case),
        Scenario::NoEspProposal => refusal::no_esp_proposal(case),
        Scenario::NoSelectors => refusal::no_selectors(case),
    }
}
