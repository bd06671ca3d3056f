//! Our next request on an established IKE SA: one at a time (RFC 7296 section 2.3), the most urgent first.

use std::time::Duration;

use isthmus_wire::ike::{DeletePayload, ExchangeType, MAX_DELETE_SPIS, Payload};

use crate::channel::Role;
use crate::child::{Child, ChildPhase};
use crate::error::IkeError;
use crate::exchange::{create_child, rekey_ike};
use crate::finding::{End, EventKind};
use crate::host::Context;
use crate::sa::{Established, Exchange, IkeSa, Outstanding, Phase, State};
use crate::status::DownReason;

/// How long one of our children that is one too many goes on: longer than a child of the peer's that stays may wait before it
/// sends.
const REDUNDANT_TIME: Duration = Duration::from_secs(4);
/// The same for one that the peer made and that it should remove.
const OVERRULING_TIME: Duration = Duration::from_secs(8);
/// Two children of about the same time are no further apart: requests that were lost come late.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Sends the next request, if one is due and none is outstanding. If that fails the IKE SA cannot go on.
pub(crate) fn pump_or_die(context: &mut Context<'_>, sa: &mut IkeSa, mut established: Box<Established>) {
    match pump(context, sa, &mut established) {
        Ok(()) => sa.state = State::Established(established),
        Err(error) => {
            context.complain(DownReason::Internal, error.to_string());
            established.die(context, sa, Duration::ZERO);
        }
    }
}

/// Has a child deleted that the peer installed with our inbound `spi` and that we did not.
pub(crate) fn delete_unaccepted(established: &mut Established, spi: u32) {
    established.unaccepted.push(spi);
}

/// Sends a CREATE_CHILD_SA request; no other one may be outstanding.
pub(crate) fn send_create_child(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    exchange: Exchange,
    payloads: &[Payload],
) -> Result<(), IkeError> {
    send(
        context,
        sa,
        established,
        ExchangeType::CREATE_CHILD_SA,
        exchange,
        payloads,
    )
}

/// Sends an IKE_FOLLOWUP_KE request; no other one may be outstanding.
pub(crate) fn send_followup(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    exchange: Exchange,
    payloads: &[Payload],
) -> Result<(), IkeError> {
    let exchange_type = ExchangeType::IKE_FOLLOWUP_KE;
    send(context, sa, established, exchange_type, exchange, payloads)
}

fn pump(context: &mut Context<'_>, sa: &mut IkeSa, established: &mut Established) -> Result<(), IkeError> {
    if established.outstanding.is_some() {
        return Ok(());
    }
    if established.phase == Phase::Closing {
        let delete = [Payload::Delete(DeletePayload::ike())];
        return inform(context, sa, established, Exchange::DeleteIke, &delete);
    }
    condemn_duplicates(context, established);
    let may_delete = !established
        .awaited
        .as_ref()
        .is_some_and(|awaited| awaited.is_ike());
    if may_delete && let Some((exchange, delete)) = next_delete(context, established) {
        return inform(context, sa, established, exchange, &[delete]);
    }
    // What the peer is making may be the same thing: that is seen when it is done.
    let may_make = established.phase == Phase::Live && established.awaited.is_none();
    if may_make && context.connection.is_some() {
        if std::mem::take(&mut established.wants.rekey) {
            let (attempt, payloads) = rekey_ike::begin(context, established)?;
            let exchange = Exchange::RekeyIke(attempt);
            return send_create_child(context, sa, established, exchange, &payloads);
        }
        let outdated = established
            .children
            .iter()
            .find(|child| child.phase == ChildPhase::Outdated);
        let begun = match (outdated, established.wants.child.take()) {
            (Some(child), _) => Some(create_child::begin_replacing(context, child)?),
            (None, Some(wanted)) => Some(create_child::begin(context, wanted)?),
            (None, None) => None,
        };
        if let Some((attempt, payloads)) = begun {
            let exchange = Exchange::CreateChild(attempt);
            return send_create_child(context, sa, established, exchange, &payloads);
        }
    }
    if std::mem::take(&mut established.wants.probe) {
        return inform(context, sa, established, Exchange::Probe, &[]);
    }
    Ok(())
}

/// One payload that deletes all condemned children and what we did not accept. The children send no more.
fn next_delete(context: &mut Context<'_>, established: &mut Established) -> Option<(Exchange, Payload)> {
    let mut spis = std::mem::take(&mut established.unaccepted);
    for spi in &spis {
        context.host.free_esp_spi(*spi);
    }
    let mut children = Vec::new();
    for child in &mut established.children {
        if child.phase == ChildPhase::Condemned && spis.len() < MAX_DELETE_SPIS {
            child.phase = ChildPhase::Deleting;
            spis.push(child.inbound_spi);
            children.push(child.id);
            if let Some(connection) = &mut context.connection {
                connection.diary.note(EventKind::ChildDeleted {
                    by: End::Ours,
                    spi: child.inbound_spi,
                });
                connection.retire(context.host, child.id);
            }
        }
    }
    (!spis.is_empty()).then(|| {
        (
            Exchange::DeleteChildren(children),
            Payload::Delete(DeletePayload::esp(&spis)),
        )
    })
}

/// Of children for the same traffic one goes. Of two that both ends made at about the same time it is the one with the lower
/// nonce, which both see alike, otherwise the older one. The end that made it deletes it; the other end, whose peer may
/// know no such rule, does so when that has had its time. Until then the one that stays surely has come into use. A child that carries
/// nothing that another one does not goes too, if we made it.
fn condemn_duplicates(context: &mut Context<'_>, established: &mut Established) {
    let in_use = || established.children.iter().filter(|child| child.is_in_use());
    let outranks = |other: &Child, child: &Child| {
        other.traffic == child.traffic && rank_beside(other, child) > rank_beside(child, other)
    };
    let swallows = |other: &Child, child: &Child| {
        other.traffic != child.traffic && !other.stale && other.traffic.covers(&child.traffic)
    };
    let is_beaten = |child: &Child, by: &dyn Fn(&Child, &Child) -> bool| {
        in_use().any(|other| other.id != child.id && other.lane == child.lane && by(other, child))
    };
    let redundant: Vec<_> = in_use()
        .filter_map(|child| {
            let ours = child.begun_by == Role::Initiator;
            if ours && is_beaten(child, &swallows) {
                Some((child.id, ChildPhase::Condemned))
            } else if is_beaten(child, &outranks) {
                let time = if ours { REDUNDANT_TIME } else { OVERRULING_TIME };
                let until = context.now + time;
                Some((child.id, ChildPhase::Replaced { until }))
            } else {
                None
            }
        })
        .collect();
    for (id, phase) in redundant {
        if let Some(child) = established.child_mut(id) {
            child.phase = phase;
        }
        if let Some(connection) = &mut context.connection {
            connection.withhold(context.host, id);
        }
    }
}

/// What decides which of two children for the same traffic stays: the highest.
fn rank_beside<'a>(child: &'a Child, other: &Child) -> (bool, bool, &'a [u8]) {
    let newer = child.installed_at > other.installed_at + AT_ONCE;
    (!child.stale, newer, &child.nonce_min)
}

fn inform(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    exchange: Exchange,
    payloads: &[Payload],
) -> Result<(), IkeError> {
    send(
        context,
        sa,
        established,
        ExchangeType::INFORMATIONAL,
        exchange,
        payloads,
    )
}

fn send(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    exchange_type: ExchangeType,
    exchange: Exchange,
    payloads: &[Payload],
) -> Result<(), IkeError> {
    let (message_id, bytes) = established.channel.request(exchange_type, payloads)?;
    let retransmission = sa.send_request(context, bytes);
    established.outstanding = Some(Outstanding {
        message_id,
        exchange,
        retransmission,
    });
    Ok(())
}
