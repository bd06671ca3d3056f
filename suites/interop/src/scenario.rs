//! What is done in a case, and what must come of it.

mod forward_secrecy;
mod handshake;
pub mod life;
mod refusal;
mod reset;
mod restart;
mod storm;
mod twins;

use anyhow::{Result, bail};

use crate::certificates::Defect;
use crate::table::{Case, PeerKind, Role, Scenario};

/// Runs the case and yields a line about how it went.
pub fn run(case: &Case) -> Result<String> {
    if case.peer == PeerKind::Libreswan {
        return handshake::run(case);
    }
    if case.peer == PeerKind::Isthmus {
        return twins::run(case);
    }
    match case.scenario {
        Scenario::Handshake => bail!("this peer can do more than a handshake"),
        Scenario::Quick => life::quick(case),
        Scenario::Cycle => life::cycle(case),
        Scenario::Aging => life::aging(case),
        Scenario::Lossy => life::lossy(case),
        Scenario::Narrowing => life::narrowing(case),
        Scenario::Storm => storm::run(case),
        Scenario::LostPeer => restart::lost_peer(case),
        Scenario::PeerRestart => restart::peer_restart(case),
        Scenario::PfsMismatch => forward_secrecy::mismatch(case),
        Scenario::Reset => reset::run(case),
        Scenario::OwnRestart => restart::own_restart(case),
        Scenario::WrongKey => refusal::wrong_key(case),
        Scenario::WrongIdentity => refusal::wrong_identity(case),
        Scenario::NoIkeProposal => refusal::no_ike_proposal(case),
        Scenario::NoEspProposal => refusal::no_esp_proposal(case),
        Scenario::NoSelectors => refusal::no_selectors(case),
        Scenario::CertificateExpired => refusal::certificate(case, Defect::Expired, "has expired"),
        Scenario::CertificateWrongName => {
            let words = match case.role {
                // We ask for the right name, and the peer has nothing to show for it.
                Role::Initiate => "the peer refused our key or identity",
                Role::Respond => "the peer calls itself name somebody.example",
            };
            refusal::certificate(case, Defect::WrongName, words)
        }
        Scenario::CertificateUnknownIssuer => {
            refusal::certificate(case, Defect::UnknownIssuer, "comes from none of our authorities")
        }
        Scenario::CertificateRevoked => refusal::certificate(case, Defect::Revoked, "was revoked"),
        Scenario::CertificateWeak => refusal::certificate(case, Defect::Weak, "too weak"),
        Scenario::SignatureWeak => refusal::certificate(case, Defect::WeakSignature, "SHA-1"),
        Scenario::OwnCertificateExpired => {
            refusal::certificate(case, Defect::OursExpired, "the peer refused our key or identity")
        }
    }
}
