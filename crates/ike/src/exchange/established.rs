//! Messages on an established IKE SA.

use crate::evidence;
use std::time::Duration;

use isthmus_wire::ike::{ExchangeType, IkeFlags, NotifyType, Payload, ProtocolId};

use crate::channel::Received;
use crate::child::Child;
use crate::error::IkeError;
use crate::event::{ChildId, Event};
use crate::exchange::{Datagram, Fate, create_child, followup_ke, informational, rekey_ike, request};
use crate::finding::EventKind;
use crate::host::{Context, GRACE};
use crate::parts::Parts;
use crate::sa::{Established, Exchange, IkeSa};
use crate::status::DownReason;
use crate::timer::Timer;

/// Takes a message with the SPIs of the IKE SA.
pub(crate) fn on_message(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut established: Box<Established>,
    datagram: &Datagram<'_>,
) {
    let is_response = datagram.message.header.flags.contains(IkeFlags::RESPONSE);
    let result = if is_response {
        on_response(context, sa, &mut established, datagram)
    } else {
        on_request(context, sa, &mut established, datagram)
    };
    match result {
        Ok(Fate::Lives) => request::pump_or_die(context, sa, established),
        Ok(Fate::Dies { grace }) => established.die(context, sa, grace),
        Err(error) => {
            context.complain(DownReason::Internal, error.to_string());
            established.die(context, sa, Duration::ZERO);
        }
    }
}

fn on_request(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    datagram: &Datagram<'_>,
) -> Result<Fate, IkeError> {
    let payloads = match established
        .channel
        .receive(datagram.bytes, datagram.message, context.now)
    {
        Received::New(opened) => Ok(opened.payloads),
        Received::Malformed(error) => Err(error),
        Received::Repeated(response) => {
            // A child that the answer tells of is not there yet.
            if let Some(connection) = &mut context.connection {
                for child in &established.children {
                    connection.prolong_wait(child.id, context.now);
                }
            }
            context
                .host
                .send_to(datagram.local_port, datagram.remote, response);
            return Ok(Fate::Lives);
        }
        Received::Ignored => return Ok(Fate::Lives),
    };
    established.last_heard = context.now;
    follow(context, sa, established, datagram);
    let exchange = datagram.message.header.exchange;
    let answered: Vec<ChildId> = established.children.iter().map(|child| child.id).collect();
    let (answer, fate) = match payloads.and_then(Parts::sort) {
        Ok(parts) => {
            sa.note_auth_lifetime(context, &parts);
            process(context, sa, established, exchange, parts)
        }
        Err(error) => (Err(error), Fate::Lives),
    };
    use_answered(context, established, &answered);
    match &established.awaited {
        Some(awaited) => sa.timers.set(Timer::Awaited, awaited.until),
        None => sa.timers.clear(Timer::Awaited),
    }
    let (payloads, fate) = match answer {
        Ok(payloads) => (payloads, fate),
        Err(error) => {
            let notify = error.notify();
            // Both ends close an IKE SA on which one does not understand the other (RFC 7296 section 2.21.3).
            let fatal = notify
                .as_ref()
                .is_some_and(|notify| notify.notify_type == NotifyType::INVALID_SYNTAX);
            let fate = if fatal { Fate::Dies { grace: GRACE } } else { fate };
            if fatal {
                let detail = format!("the peer sent what makes no sense, the IKE SA is made anew: {error}");
                context.complain(error.down_reason(), detail);
            }
            (notify.map(Payload::Notify).into_iter().collect(), fate)
        }
    };
    let response = established.channel.respond(exchange, &payloads)?;
    context
        .host
        .send_to(datagram.local_port, datagram.remote, response);
    sa.arm_keepalive(context.now);
    Ok(fate)
}

/// The peer does one thing at a time (RFC 7296 section 2.3), so a new request shows that it has got our answer to the one before,
/// and with it the children that were there before.
fn use_answered(context: &mut Context<'_>, established: &Established, before: &[ChildId]) {
    if let Some(connection) = &mut context.connection {
        let known = |child: &&Child| before.contains(&child.id) && child.is_in_use();
        for child in established.children.iter().filter(known) {
            connection.saw_traffic(context.host, child.id);
        }
    }
}

fn process(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    exchange: ExchangeType,
    parts: Parts,
) -> (Result<Vec<Payload>, IkeError>, Fate) {
    match exchange {
        ExchangeType::CREATE_CHILD_SA => {
            // The peer does one thing at a time: it gave up what it did not finish.
            established.forget_awaited(context.host);
            let for_ike = parts
                .sa
                .as_ref()
                .and_then(|proposals| proposals.first())
                .is_some_and(|proposal| proposal.protocol == ProtocolId::IKE);
            let answer = if for_ike {
                rekey_ike::respond(context, sa, established, parts)
            } else {
                create_child::respond(context, sa, established, parts)
            };
            (answer, Fate::Lives)
        }
        ExchangeType::IKE_FOLLOWUP_KE => (
            followup_ke::respond(context, sa, established, &parts),
            Fate::Lives,
        ),
        ExchangeType::INFORMATIONAL => {
            let (payloads, fate) = informational::respond(context, established, &parts);
            (Ok(payloads), fate)
        }
        _ => (
            Err(IkeError::Malformed(isthmus_wire::ike::DecodeError::Malformed(
                isthmus_wire::ike::Element::Header,
            ))),
            Fate::Lives,
        ),
    }
}

/// A peer behind a NAT may come from another address now (RFC 7296 section 2.23).
fn follow(context: &mut Context<'_>, sa: &mut IkeSa, established: &Established, datagram: &Datagram<'_>) {
    let moved = sa.path.remote != datagram.remote || sa.path.local_port != datagram.local_port;
    if !moved || !sa.path.nat.remote || !sa.path.nat.encapsulates() {
        return;
    }
    sa.path.remote = datagram.remote;
    sa.path.local_port = datagram.local_port;
    if let Some(connection) = &mut context.connection {
        connection
            .diary
            .note(EventKind::PeerMoved { to: datagram.remote });
        context.host.events.push_back(Event::PeerMoved {
            connection: connection.id(),
            children: established.children.iter().map(|child| child.id).collect(),
            encapsulation: sa.path.encapsulation(),
            remote: datagram.remote,
        });
    }
}

fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    datagram: &Datagram<'_>,
) -> Result<Fate, IkeError> {
    let header = &datagram.message.header;
    let expected = established
        .outstanding
        .as_ref()
        .is_some_and(|outstanding| outstanding.message_id == header.message_id);
    if !expected {
        return Ok(Fate::Lives);
    }
    let Some(opened) = established
        .channel
        .receive_response(datagram.bytes, datagram.message, context.now)
    else {
        return Ok(Fate::Lives);
    };
    evidence::answered(context);
    let parts = opened.and_then(|opened| Parts::sort(opened.payloads));
    established.last_heard = context.now;
    sa.timers.clear(Timer::Retransmit);
    let Some(outstanding) = established.outstanding.take() else {
        return Ok(Fate::Lives);
    };
    let is_syntax_error = |parts: &Parts| parts.notify(NotifyType::INVALID_SYNTAX).is_some();
    if parts.as_ref().is_ok_and(is_syntax_error) {
        // The peer has closed the IKE SA (RFC 7296 section 2.21.3).
        established.outstanding = Some(outstanding);
        context.complain(
            DownReason::Internal,
            "the peer did not understand a request of ours, the IKE SA is made anew".into(),
        );
        return Ok(Fate::Dies { grace: GRACE });
    }
    // An authenticated answer that makes no sense is as good as an empty one: each exchange finds out what it misses.
    let parts = parts.unwrap_or_default();
    match outstanding.exchange {
        Exchange::CreateChild(attempt) => {
            create_child::on_response(context, sa, established, attempt, parts)?;
        }
        Exchange::DeleteChildren(children) => {
            for child in children {
                established.bury(context, child, GRACE);
            }
        }
        Exchange::DeleteIke => return Ok(Fate::Dies { grace: GRACE }),
        Exchange::Probe => {}
        Exchange::RekeyIke(attempt) => {
            rekey_ike::on_response(context, sa, established, attempt, parts)?;
        }
    }
    Ok(Fate::Lives)
}
