//! INFORMATIONAL: deletes, notifies and liveness checks (RFC 7296 sections 1.4, 1.5 and 2.4).

use isthmus_wire::ike::{DeletePayload, MAX_DELETE_SPIS, NotifyType, Payload, ProtocolId};

use crate::child::ChildPhase;
use crate::error::{AuthenticationFailure, IkeError};
use crate::evidence;
use crate::exchange::Fate;
use crate::exchange::rekey_ike::hand_over;
use crate::finding::{End, EventKind, Layer};
use crate::host::{Context, GRACE};
use crate::parts::Parts;
use crate::sa::{Established, Exchange, Phase};
use crate::status::DownReason;

/// Answers a request.
pub(crate) fn respond(
    context: &mut Context<'_>,
    established: &mut Established,
    parts: &Parts,
) -> (Vec<Payload>, Fate) {
    let deletes_ike = parts
        .deletes
        .iter()
        .any(|delete| delete.protocol == ProtocolId::IKE);
    if deletes_ike {
        return (Vec::new(), delete_ike(context, established, parts));
    }
    let mut paired = Vec::new();
    for delete in &parts.deletes {
        if delete.protocol == ProtocolId::ESP {
            for spi in delete.spis_u32() {
                paired.extend(delete_child(context, established, spi));
            }
        }
    }
    let payloads = if paired.is_empty() {
        Vec::new()
    } else {
        vec![Payload::Delete(DeletePayload::esp(&paired))]
    };
    (payloads, Fate::Lives)
}

fn delete_ike(context: &mut Context<'_>, established: &mut Established, parts: &Parts) -> Fate {
    // Our own replacement is forgotten; that of the peer takes over.
    let rival = established
        .outstanding
        .as_ref()
        .and_then(|outstanding| match &outstanding.exchange {
            Exchange::RekeyIke(attempt) => attempt.rival(),
            Exchange::CreateChild(_)
            | Exchange::DeleteChildren(_)
            | Exchange::DeleteIke
            | Exchange::Probe => None,
        });
    if let Some(rival) = rival {
        if let Some(Exchange::RekeyIke(attempt)) = established
            .outstanding
            .take()
            .map(|outstanding| outstanding.exchange)
        {
            attempt.forget(context.host);
        }
        hand_over(context, established, rival);
    } else if established.phase == Phase::Live {
        if parts.notify(NotifyType::AUTHENTICATION_FAILED).is_some() {
            let told = IkeError::Authentication(AuthenticationFailure::ToldByPeer);
            evidence::auth_failed(context, &told, None);
        } else {
            context.complain(
                DownReason::Negotiating,
                "the peer closed the connection; it is negotiated again".into(),
            );
        }
        if let Some(connection) = &mut context.connection {
            connection.diary.note(EventKind::IkeDeleted { by: End::Peers });
            let age = context.now.saturating_duration_since(established.established_at);
            evidence::on_peers_end(connection, Layer::Ike, age);
            // The peer goes first, if it wants to come back at once.
            connection
                .ike_pause
                .at_least(std::time::Duration::from_secs(1), context.now);
        }
    }
    Fate::Dies { grace: GRACE }
}

/// Deletes the child whose inbound SPI at the peer is `spi`. Gives our inbound SPI for the paired delete, unless we
/// are deleting the child ourselves.
fn delete_child(context: &mut Context<'_>, established: &mut Established, spi: u32) -> Option<u32> {
    let Some(child) = established
        .children
        .iter()
        .find(|child| child.outbound_spi == spi)
    else {
        // The answer that tells of it may have been overtaken.
        if established.asks_for_child() && established.deleted_early.len() < MAX_DELETE_SPIS {
            established.deleted_early.push(spi);
        }
        return None;
    };
    let (id, inbound_spi, phase, installed_at) =
        (child.id, child.inbound_spi, child.phase, child.installed_at);
    let traffic = child.traffic.clone();
    if child.is_in_use()
        && let Some(connection) = &mut context.connection
    {
        let age = context.now.saturating_duration_since(installed_at);
        evidence::on_peers_end(connection, Layer::Esp, age);
    }
    match phase {
        ChildPhase::Deleting => None,
        ChildPhase::Condemned | ChildPhase::Live | ChildPhase::Outdated | ChildPhase::Replaced { .. } => {
            established.bury(context, id, GRACE);
            context.note(EventKind::ChildDeleted {
                by: End::Peers,
                spi: inbound_spi,
            });
            if let Some(connection) = &mut context.connection
                && !established
                    .children
                    .iter()
                    .any(|child| child.is_in_use() && child.traffic.overlaps(&traffic))
            {
                // The peer may make another one; otherwise we do.
                connection
                    .child_pause
                    .at_least(std::time::Duration::from_secs(1), context.now);
            }
            Some(inbound_spi)
        }
    }
}
