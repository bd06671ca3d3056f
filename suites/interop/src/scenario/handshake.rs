//! Cases with libreswan, whose Child SAs no kernel here can install: what of IKE comes before that.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::{DownReason, TunnelState};
use isthmus_netlab::patience::{eventually, holds};
use isthmus_netlab::{Isthmus, Libreswan, LinkCounters, Ping, TwoSites, TwoSitesOptions};
use isthmus_types::{IkeVersion, Secret};

use crate::certificates;
use crate::setup::{our_side, program, refuse_our_beginnings, their_side};
use crate::table::{Authentication, Case, Role, Scenario};

const PACE: Duration = Duration::from_millis(5);

/// Runs the case.
pub fn run(case: &Case) -> Result<String> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let (ours, theirs) = (&sites.left, &sites.right);
    let counters = LinkCounters::new(&sites)?;
    if case.role == Role::Respond {
        refuse_our_beginnings(&sites, "left")?;
    }
    let mut plan = our_side(case, ours, theirs)?;
    let mut connection = their_side(case, ours, theirs);
    if case.authentication != Authentication::Psk {
        certificates::equip(&mut plan, &mut connection, case.authentication, None)?;
    }
    let reason = if case.scenario == Scenario::Handshake {
        None
    } else if case.scenario == Scenario::WrongKey {
        plan.psk = Secret::new("another key, as long as the other".to_owned());
        Some(DownReason::AuthenticationFailed)
    } else if case.scenario == Scenario::NoIkeProposal {
        connection.ike_proposals = vec!["aes256-sha512-prfsha512-modp4096".to_owned()];
        Some(DownReason::IkeProposalMismatch)
    } else if case.scenario == Scenario::NoEspProposal {
        connection.esp_proposals = vec!["aes256-sha512".to_owned()];
        Some(DownReason::IpsecProposalMismatch)
    } else {
        bail!("{:?} needs more than libreswan can do here", case.scenario);
    };
    let peer = Libreswan::start(&theirs.gateway, &connection)?;
    let isthmus = Isthmus::start(program()?, ours, vec![plan])?;
    if case.role == Role::Respond {
        peer.start_initiating()?;
    }
    let logs = || format!("{}\n{}", isthmus.log_tail(), peer.log_tail());
    let account = match reason {
        None => established(case, &peer, &isthmus).with_context(logs)?,
        Some(reason) => eventually(&format!("our connection to be down for {reason:?}"), || {
            let state = isthmus.connection()?.state;
            let TunnelState::Down {
                reason: found,
                detail,
            } = &state
            else {
                bail!("it is {state:?}");
            };
            holds(*found == reason, || format!("it is {state:?}"))?;
            Ok(format!("{reason:?}: {detail}"))
        })
        .with_context(logs)?,
    };
    let silent = Ping::exactly(&ours.hosts[0].node, theirs.hosts[0].address, PACE, 10)?;
    ensure!(silent.received == 0, "a host answered without a tunnel");
    let count = counters.read()?;
    ensure!(
        count.clear == 0,
        "packets in clear between the gateways: {count:?}"
    );
    Ok(account)
}

/// Waits until the peer says that it has the IKE SA and knows who we are, and we say the same.
fn established(case: &Case, peer: &Libreswan, isthmus: &Isthmus) -> Result<String> {
    let proof = match case.authentication {
        Authentication::Psk => "authby=secret",
        Authentication::Rsa => "RSA",
        Authentication::Ecdsa => "ECDSA",
        Authentication::Ed25519 => bail!("libreswan has no signatures with Ed25519"),
    };
    let words: &[&str] = match case.version {
        IkeVersion::V1 => &["SA established", "PRESHARED_KEY"],
        IkeVersion::V2 => &["established IKE SA", "authenticated", proof],
    };
    let line = peer.until_logged(words)?;
    eventually("us to have authenticated the peer", || {
        let totals = isthmus.connection()?.totals;
        let established = totals
            .iter()
            .any(|(word, count)| word == "ike_established" && *count > 0);
        holds(established, || format!("we counted {totals:?}"))
    })?;
    let said = line.split_once("\"gw\" ").map_or(line.as_str(), |(_, said)| said);
    Ok(format!("IKE SA and authentication only, no ESP: {said}"))
}
