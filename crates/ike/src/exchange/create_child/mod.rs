//! CREATE_CHILD_SA for Child SAs, new or instead of old ones, and the child of IKE_AUTH (RFC 7296 sections 1.3.1,
//! 1.3.3, 2.8, 2.9 and 2.17).

mod answer;
mod attempt;
mod refusal;

use std::time::Duration;

use isthmus_types::DhGroup;
use isthmus_wire::ike::{NotifyPayload, NotifyType, Payload, PayloadType};

pub(crate) use self::answer::{ChildRequest, Made};
use self::attempt::Collision;
pub(crate) use self::attempt::{ChildAttempt, is_lower};
use self::refusal::{Asked, ChildRefused, Refused};
use crate::channel::Role;
use crate::child::{Child, ChildPhase, Parent};
use crate::demand::{MAX_LANES, Wanted};
use crate::error::{IkeError, Refusal, Violation};
use crate::event::ChildId;
use crate::evidence;
use crate::exchange::followup_ke::{Awaited, Turn, Unfinished};
use crate::exchange::ike_sa_init::suggested_group;
use crate::exchange::request;
use crate::finding::Layer;
use crate::host::{Context, GRACE, RESERVED_SPIS};
use crate::keys::Nonces;
use crate::negotiate::KeyExchange;
use crate::parts::{Parts, required};
use crate::sa::{Established, Exchange, IkeSa, Phase};
use crate::selector::Traffic;
use crate::survey;

/// Most children in use of one IKE SA.
const MAX_CHILDREN: usize = 128;
/// Group retries of one attempt.
const MAX_ROUNDS: u32 = 3;
/// An answer that tells of a child may be on its way for so long.
const UNREAD_TIME: Duration = Duration::from_secs(5);
/// For so long after a step of the initiator of an IKE SA its responder leaves children that are missing to it.
const INITIATOR_FIRST: Duration = Duration::from_secs(2);
/// How long the peer may take to delete a child that it replaced.
const REMOVAL_TIME: Duration = Duration::from_secs(10);

/// Begins a child.
pub(crate) fn begin(
    context: &mut Context<'_>,
    wanted: Wanted,
) -> Result<(Box<ChildAttempt>, Vec<Payload>), IkeError> {
    let mut attempt = ChildAttempt::new(context, wanted, None)?;
    if let Some(connection) = &mut context.connection
        && connection.tally.esp_survey.take()
    {
        attempt.survey = true;
        attempt.proposals = survey::esp(&attempt.proposals);
    }
    begin_with(attempt, Vec::new())
}

/// Begins a child instead of another one, with its selectors.
pub(crate) fn begin_replacing(
    context: &mut Context<'_>,
    child: &Child,
) -> Result<(Box<ChildAttempt>, Vec<Payload>), IkeError> {
    let wanted = Wanted {
        traffic: child.traffic.clone(),
        lane: child.lane,
    };
    let attempt = ChildAttempt::new(context, wanted, Some(child.id))?;
    let rekey = Payload::Notify(NotifyPayload::about_esp(NotifyType::REKEY_SA, child.inbound_spi));
    begin_with(attempt, vec![rekey])
}

fn begin_with(
    attempt: ChildAttempt,
    mut payloads: Vec<Payload>,
) -> Result<(Box<ChildAttempt>, Vec<Payload>), IkeError> {
    let group = attempt
        .proposals
        .iter()
        .find_map(|proposal| proposal.pfs.first().copied());
    let attempt = Box::new(attempt.with_group(group)?);
    payloads.extend(attempt.payloads(KeyExchange::Negotiated));
    Ok((attempt, payloads))
}

/// What a request tells of several children for the same traffic.
pub(crate) fn shares(parts: &Parts) -> Option<Vec<u8>> {
    let notify = parts.notify(NotifyType::SA_RESOURCE_INFO)?;
    Some(notify.data.clone())
}

/// The notify that tells of several children for the same traffic (RFC 9611), with the number of this one.
fn shares_traffic(lane: u8) -> Payload {
    Payload::Notify(NotifyPayload::new(NotifyType::SA_RESOURCE_INFO, vec![lane]))
}

/// The first lane that no child in use for the same traffic has.
fn free_lane(traffic: &Traffic, children: &[Child]) -> Option<u8> {
    (0..MAX_LANES).find(|lane| {
        !children
            .iter()
            .any(|child| child.is_in_use() && child.lane == *lane && child.traffic == *traffic)
    })
}

/// Answers a request for a child.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    mut parts: Parts,
) -> Result<Vec<Payload>, IkeError> {
    if established.phase != Phase::Live {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    if matches!(
        established
            .outstanding
            .as_ref()
            .map(|outstanding| &outstanding.exchange),
        Some(Exchange::RekeyIke(_))
    ) {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    let replaced = match parts.notify(NotifyType::REKEY_SA) {
        Some(notify) => Some(replaceable(established, notify)?),
        None => None,
    };
    if let Some(Exchange::CreateChild(attempt)) = established
        .outstanding
        .as_ref()
        .map(|outstanding| &outstanding.exchange)
        && attempt.followup.has_begun()
        && attempt.replaces == replaced
    {
        // Ours has won already, as far as we know (RFC 9370 section 2.2.4).
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    let in_use = established
        .children
        .iter()
        .filter(|child| child.is_in_use())
        .count();
    // A replacement does not add to those in use.
    if replaced.is_none() && in_use >= MAX_CHILDREN {
        return Err(IkeError::Refused(Refusal::NoAdditionalSas));
    }
    if established.children.len() >= 2 * MAX_CHILDREN {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    evidence::mode(context, &parts);
    let nonce_initiator = required(parts.nonce.take(), PayloadType::NONCE)?;
    let nonce_responder = context.host.nonce();
    let nonces = Nonces {
        initiator: &nonce_initiator,
        responder: &nonce_responder,
    };
    let asked = ChildRequest {
        proposals: required(parts.sa.take(), PayloadType::SA)?,
        ts_initiator: required(parts.ts_initiator.take(), PayloadType::TSI)?,
        ts_responder: required(parts.ts_responder.take(), PayloadType::TSR)?,
        ke: parts.ke.take(),
        exchange: KeyExchange::Negotiated,
        shares: shares(&parts),
        replaced_lane: replaced.and_then(|id| {
            let child = established.children.iter().find(|child| child.id == id)?;
            Some(child.lane)
        }),
    };
    let parent = Parent {
        id: sa.id,
        suite: &established.suite,
        derive: &established.derive,
        path: &sa.path,
    };
    let (made, mut payloads) = asked
        .answer(context, &parent, &nonces, &established.children)
        .inspect_err(|error| asked.report(context, error))?;
    match made {
        Made::Child(child) => add(context, established, child, replaced),
        Made::Unfinished(mut child) => {
            if let Some(replaced) = replaced {
                note_collision(established, replaced, None, child.nonce_min());
            }
            child.replaces = replaced;
            let methods = child.suite.additional;
            let (awaited, link) = Awaited::new(context, methods, Unfinished::Child(child));
            established.awaited = Some(awaited);
            payloads.push(link);
        }
    }
    Ok(payloads)
}

/// Adds a child that the peer asked for.
pub(crate) fn add(
    context: &mut Context<'_>,
    established: &mut Established,
    mut child: Child,
    replaced: Option<ChildId>,
) {
    if let Some(old) = replaced.and_then(|id| established.child_mut(id))
        && let Some(connection) = &mut context.connection
    {
        let age = context.now.saturating_duration_since(old.installed_at);
        evidence::on_peers_end(connection, Layer::Esp, age);
    }
    child.stale = replaced
        .and_then(|id| established.child_mut(id))
        .is_some_and(|old| old.stale && old.traffic == child.traffic);
    if let Some(replaced) = replaced
        && !note_collision(established, replaced, Some(child.id), child.nonce_min.clone())
    {
        await_removal(context, established, replaced);
    }
    established.wants.child = None;
    if let Some(connection) = &mut context.connection {
        connection.note_accepted(&child.traffic, &child.traffic, false);
        evidence::on_own_exchange(connection);
    }
    if replaced.is_none() {
        leave_to_initiator(context, established.begun_by);
    }
    established.children.push(child);
}

/// Who began the IKE SA makes the children: what is missing after a while the other end asks for.
pub(crate) fn leave_to_initiator(context: &mut Context<'_>, begun_by: Role) {
    if begun_by == Role::Responder
        && let Some(connection) = &mut context.connection
    {
        connection.child_pause.at_least(INITIATOR_FIRST, context.now);
    }
}

/// The child that a REKEY_SA notify names, if it may be replaced now.
fn replaceable(established: &Established, notify: &NotifyPayload) -> Result<ChildId, IkeError> {
    let spi = notify.spi_u32().unwrap_or(0);
    let child = established
        .children
        .iter()
        .find(|child| child.outbound_spi == spi)
        .ok_or(IkeError::Refused(if established.asks_for_child() {
            // It may be the one that we ask for, if the request overtook our answer.
            Refusal::Temporary
        } else {
            Refusal::ChildNotFound { spi }
        }))?;
    match child.phase {
        ChildPhase::Live | ChildPhase::Outdated => Ok(child.id),
        ChildPhase::Condemned | ChildPhase::Deleting | ChildPhase::Replaced { .. } => {
            Err(IkeError::Refused(Refusal::Temporary))
        }
    }
}

/// Whether we are replacing the same child; then our attempt knows.
fn note_collision(
    established: &mut Established,
    replaced: ChildId,
    child: Option<ChildId>,
    nonce_min: Vec<u8>,
) -> bool {
    if let Some(Exchange::CreateChild(attempt)) = established
        .outstanding
        .as_mut()
        .map(|outstanding| &mut outstanding.exchange)
        && attempt.replaces == Some(replaced)
    {
        attempt.collision = Some(Collision { child, nonce_min });
        return true;
    }
    false
}

fn await_removal(context: &Context<'_>, established: &mut Established, child: ChildId) {
    let until = context.now + REMOVAL_TIME;
    if let Some(child) = established.child_mut(child) {
        child.phase = ChildPhase::Replaced { until };
    }
}

/// Takes the answer to our request for a child.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    mut attempt: Box<ChildAttempt>,
    parts: Parts,
) -> Result<(), IkeError> {
    if established.phase == Phase::Closing {
        // The peer's child goes with the IKE SA.
        attempt.abandon(context.host);
        return Ok(());
    }
    let deleted_early = std::mem::take(&mut established.deleted_early);
    if let Some(group) = retry_group(&attempt, &parts) {
        return retry(context, sa, established, *attempt, group);
    }
    let methods = attempt.additional(&parts);
    if !methods.is_empty() && loses_quietly(context, established, &attempt, &parts) {
        attempt.abandon(context.host);
        return Ok(());
    }
    let mut parts = match attempt.followup.advance(methods, parts) {
        Ok(Turn::Answer(parts)) => *parts,
        Ok(Turn::Ask(payloads)) => {
            let exchange = Exchange::CreateChild(attempt);
            return request::send_followup(context, sa, established, exchange, &payloads);
        }
        Err(error) => {
            let refused = ChildRefused {
                why: Refused::ByUs(error),
                installed_at_peer: None,
            };
            let asked = attempt.asked(&established.children, context.now);
            let (spi, replaces) = (attempt.spi, attempt.replaces);
            give_up(context, established, &refused, spi, replaces, None, &asked);
            return Ok(());
        }
    };
    let nonce_initiator = attempt.nonce.clone();
    let nonce_responder = parts.nonce.take().unwrap_or_default();
    let nonces = Nonces {
        initiator: &nonce_initiator,
        responder: &nonce_responder,
    };
    let replaces = attempt.replaces;
    let spi = attempt.spi;
    let asked = attempt.asked(&established.children, context.now);
    let collision = attempt
        .collision
        .as_ref()
        .map(|collision| (collision.child, is_lower(&nonces, &collision.nonce_min)));
    let parent = Parent {
        id: sa.id,
        suite: &established.suite,
        derive: &established.derive,
        path: &sa.path,
    };
    let result = if nonce_responder.is_empty() && parts.sa.is_some() {
        Err(ChildRefused {
            why: Refused::ByUs(IkeError::Violation(Violation::Missing(PayloadType::NONCE))),
            installed_at_peer: Some(spi),
        })
    } else {
        attempt.accept(
            context,
            &parent,
            &mut parts,
            &nonces,
            KeyExchange::Negotiated,
            &established.children,
        )
    };
    match result {
        Ok(child) if deleted_early.contains(&child.outbound_spi) => {
            child.bury(context, Duration::ZERO);
            if let Some(old) = replaces {
                postpone(context, established, old);
            }
        }
        Ok(child) => {
            if let Some(connection) = &mut context.connection {
                asked.note_accepted(connection, &child.traffic, &parts);
            }
            settle(context, established, child, replaces, collision);
        }
        Err(refused) => give_up(context, established, &refused, spi, replaces, collision, &asked),
    }
    Ok(())
}

/// Whether the peer replaces the same child and its exchange wins: then ours ends before its child comes into being. If
/// ours wins, the peer does not go on with its own.
fn loses_quietly(
    context: &mut Context<'_>,
    established: &mut Established,
    attempt: &ChildAttempt,
    parts: &Parts,
) -> bool {
    let (Some(collision), Some(nonce_responder)) = (&attempt.collision, &parts.nonce) else {
        return false;
    };
    let nonces = Nonces {
        initiator: &attempt.nonce,
        responder: nonce_responder,
    };
    let loses = is_lower(&nonces, &collision.nonce_min);
    if !loses {
        established.forget_awaited(context.host);
    } else if let (Some(old), Some(_)) = (attempt.replaces, collision.child) {
        await_removal(context, established, old);
    }
    loses
}

/// Decides which children stay after our exchange made `new`. `collision` names the peer's child for the same old
/// one, and whether ours is the redundant one.
fn settle(
    context: &mut Context<'_>,
    established: &mut Established,
    mut new: Child,
    replaces: Option<ChildId>,
    collision: Option<(Option<ChildId>, bool)>,
) {
    match (replaces, collision) {
        (Some(old), Some((theirs, true))) => {
            new.phase = ChildPhase::Condemned;
            if theirs.is_some() {
                await_removal(context, established, old);
            }
        }
        (Some(old), other) => {
            if let Some(old) = established.child_mut(old) {
                new.stale |= old.stale;
                old.phase = ChildPhase::Condemned;
            }
            match other {
                Some((Some(theirs), _)) => {
                    await_removal(context, established, theirs);
                    if let Some(connection) = &mut context.connection {
                        connection.withhold(context.host, theirs);
                    }
                }
                Some((None, _)) => established.forget_awaited(context.host),
                None => {}
            }
        }
        (None, _) => {}
    }
    established.children.push(new);
    if let Some(connection) = &mut context.connection {
        evidence::on_own_exchange(connection);
    }
}

fn give_up(
    context: &mut Context<'_>,
    established: &mut Established,
    refused: &ChildRefused,
    spi: u32,
    replaces: Option<ChildId>,
    collision: Option<(Option<ChildId>, bool)>,
    asked: &Asked,
) {
    match refused.installed_at_peer {
        Some(spi) => request::delete_unaccepted(established, spi),
        None => context.host.free_esp_spi(spi),
    }
    let notify = match &refused.why {
        Refused::ByPeer(notify) => Some(*notify),
        Refused::ByUs(_) | Refused::Surveyed(_) => None,
    };
    if let Some((Some(_), _)) = collision {
        // The peer's child takes the place.
        if let Some(old) = replaces {
            await_removal(context, established, old);
        }
        return;
    }
    match (replaces, notify) {
        (Some(old), Some(NotifyType::CHILD_SA_NOT_FOUND)) => {
            // The peer may not have read yet that the child is there.
            let unread = established.children.iter().any(|child| {
                child.id == old
                    && child.begun_by == Role::Responder
                    && context.now < child.installed_at + UNREAD_TIME
            });
            if unread {
                postpone(context, established, old);
            } else {
                established.bury(context, old, GRACE);
            }
        }
        (Some(old), Some(NotifyType::TEMPORARY_FAILURE | NotifyType::STATE_NOT_FOUND)) => {
            postpone(context, established, old);
        }
        (None, Some(NotifyType::TEMPORARY_FAILURE | NotifyType::STATE_NOT_FOUND)) => {
            if let Some(connection) = &mut context.connection {
                connection.child_pause.after_failure(context.host, context.now);
            }
        }
        (Some(old), Some(NotifyType::NO_ADDITIONAL_SAS)) => {
            // The peer makes children only with a new IKE SA: the old one goes when that is there.
            refused.report_replacement(context, asked);
            postpone(context, established, old);
            established.outdated = true;
        }
        (Some(old), _) => {
            refused.report_replacement(context, asked);
            postpone_refused(context, established, old);
        }
        (None, notify) => {
            let others_in_use = established.wanted_children().next().is_some();
            refused.report(context, asked, others_in_use);
            established.outdated |= notify == Some(NotifyType::NO_ADDITIONAL_SAS) && !others_in_use;
        }
    }
}

/// Tries to replace a child again after a few seconds.
fn postpone(context: &mut Context<'_>, established: &mut Established, child: ChildId) {
    let pause = Duration::from_secs(1) + context.host.random_below(Duration::from_secs(2));
    postpone_for(context, established, child, pause);
}

/// Tries to replace a child again after a refusal that will not pass by itself: the sooner the less time is left.
fn postpone_refused(context: &mut Context<'_>, established: &mut Established, id: ChildId) {
    let left = established.child_mut(id).map_or(Duration::ZERO, |child| {
        child.expire_at.saturating_duration_since(context.now)
    });
    let age = established.child_mut(id).map_or(Duration::ZERO, |child| {
        context.now.saturating_duration_since(child.installed_at)
    });
    if age < left {
        postpone_for(context, established, id, left / 2);
    } else {
        postpone(context, established, id);
    }
}

fn postpone_for(context: &Context<'_>, established: &mut Established, child: ChildId, pause: Duration) {
    let again = context.now + pause;
    if let Some(child) = established.child_mut(child)
        && child.phase == ChildPhase::Outdated
    {
        child.phase = ChildPhase::Live;
        child.rekey_at = Some(again);
    }
}

/// Has a first child without a key exchange of its own replaced soon, if the connection wants to see at once that the
/// ends agree on forward secrecy. The initiator goes first.
pub(crate) fn verify_forward_secrecy(context: &mut Context<'_>, child: &mut Child, role: Role) {
    let wanted = context.connection.as_ref().is_some_and(|connection| {
        let config = &connection.config;
        config.options.verify_pfs
            && config
                .esp_proposals
                .iter()
                .any(|proposal| !proposal.pfs.is_empty())
    });
    if !wanted || child.suite.pfs.is_some() {
        return;
    }
    match role {
        Role::Initiator => child.phase = ChildPhase::Outdated,
        Role::Responder => {
            let soon =
                context.now + Duration::from_secs(3) + context.host.random_below(Duration::from_secs(2));
            child.rekey_at = child.rekey_at.map(|at| at.min(soon));
        }
    }
}

fn retry_group(attempt: &ChildAttempt, parts: &Parts) -> Option<DhGroup> {
    let group = suggested_group(parts.notify(NotifyType::INVALID_KE_PAYLOAD)?)?;
    let offered = attempt
        .proposals
        .iter()
        .any(|proposal| proposal.pfs.contains(&group));
    let other = attempt.dh.as_ref().is_none_or(|dh| dh.group() != group);
    (offered && other && attempt.rounds < MAX_ROUNDS && attempt.collision.is_none()).then_some(group)
}

/// Asks again with another group: a new exchange with a new message id.
fn retry(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    mut attempt: ChildAttempt,
    group: DhGroup,
) -> Result<(), IkeError> {
    let mut payloads = Vec::new();
    if let Some(old) = attempt.replaces {
        let Some(old) = established.child_mut(old) else {
            // It was deleted meanwhile, and nothing came instead.
            attempt.abandon(context.host);
            return Ok(());
        };
        payloads.push(Payload::Notify(NotifyPayload::about_esp(
            NotifyType::REKEY_SA,
            old.inbound_spi,
        )));
    }
    attempt.rounds += 1;
    attempt.nonce = context.host.nonce();
    let attempt = attempt.with_group(Some(group))?;
    payloads.extend(attempt.payloads(KeyExchange::Negotiated));
    request::send_create_child(
        context,
        sa,
        established,
        Exchange::CreateChild(Box::new(attempt)),
        &payloads,
    )
}

fn usable_spi(spi: &[u8], children: &[Child]) -> Result<u32, IkeError> {
    let invalid = IkeError::Violation(Violation::Spi);
    let spi = spi
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| invalid.clone())?;
    if spi <= RESERVED_SPIS || children.iter().any(|child| child.outbound_spi == spi) {
        return Err(invalid);
    }
    Ok(spi)
}
