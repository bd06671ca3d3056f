//! IKE_AUTH with pre-shared keys or certificates (RFC 7296 sections 1.2 and 2.15).

use isthmus_wire::ike::{ExchangeType, NotifyPayload, NotifyType, Payload, PayloadType};

use crate::algorithm::IkeSuite;
use crate::auth::{
    self, Accepts, Shown, SignedOctets, check_proof, describe_identity, encode_identity, is_identity,
};
use crate::channel::{Channel, Role};
use crate::child::{Child, Parent};
use crate::connection::Connection;
use crate::error::{AuthenticationFailure, IkeError};
use crate::evidence;
use crate::exchange::create_child::{ChildAttempt, ChildRequest, Made};
use crate::exchange::intermediate::Transcript;
use crate::exchange::{Datagram, create_child, request};
use crate::finding::{End, EventKind};
use crate::host::{Context, Followup};
use crate::keys::{IkeKeys, Nonces};
use crate::negotiate::KeyExchange;
use crate::parts::{Parts, required};
use crate::sa::{AuthSent, Established, IkeSa, InitAnswered, Phase, State};
use crate::status::DownReason;
use crate::timer::Timer;

/// What IKE_SA_INIT gave to the initiator.
pub(crate) struct Handshake {
    pub(crate) channel: Channel,
    pub(crate) suite: IkeSuite,
    pub(crate) keys: IkeKeys,
    pub(crate) init_request: Vec<u8>,
    pub(crate) init_response: Vec<u8>,
    pub(crate) nonce_initiator: Vec<u8>,
    pub(crate) nonce_responder: Vec<u8>,
    /// Signatures that the peer takes.
    pub(crate) accepts: Accepts,
    /// Additional key exchanges that are done.
    pub(crate) additional_done: usize,
    pub(crate) transcript: Transcript,
    /// The first child comes with an exchange of its own (RFC 6023).
    pub(crate) childless: bool,
}

/// Sends IKE_AUTH.
pub(crate) fn start(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut handshake: Handshake,
) -> Result<State, IkeError> {
    let child = if handshake.childless {
        None
    } else {
        Some(ChildAttempt::first(context)?)
    };
    let connection = context
        .connection
        .as_deref_mut()
        .ok_or(IkeError::Internal("an attempt without a connection"))?;
    let config = &connection.config;
    let identity = connection.method.own_identity(&config.local_identity);
    let intermediate = handshake.transcript.octets(handshake.channel.next_request_id());
    let proof = auth::prove(
        connection,
        handshake.suite.prf,
        &handshake.accepts,
        &SignedOctets {
            message: &handshake.init_request,
            other_nonce: &handshake.nonce_responder,
            prove_key: &handshake.keys.prove_initiator,
            identity: &identity.body(),
            intermediate: &intermediate,
        },
    )?;
    let mut payloads = vec![Payload::IdInitiator(identity)];
    payloads.extend(connection.method.certificates());
    payloads.extend(connection.method.request());
    if !evidence::asks_any_identity(connection) {
        payloads.push(Payload::IdResponder(encode_identity(&config.peer_identity)));
    }
    payloads.push(Payload::Auth(proof));
    if !connection.in_contact {
        payloads.push(Payload::Notify(NotifyPayload::new(
            NotifyType::INITIAL_CONTACT,
            Vec::new(),
        )));
    }
    if let Some(child) = &child {
        payloads.extend(child.payloads(KeyExchange::Absent));
    }
    let (message_id, bytes) = handshake.channel.request(ExchangeType::IKE_AUTH, &payloads)?;
    let retransmission = sa.send_request(context, bytes);
    Ok(State::AuthSent(Box::new(AuthSent {
        channel: handshake.channel,
        message_id,
        suite: handshake.suite,
        keys: handshake.keys,
        nonce_initiator: handshake.nonce_initiator,
        nonce_responder: handshake.nonce_responder,
        init_response: handshake.init_response,
        intermediate,
        child,
        retransmission,
    })))
}

/// Takes the answer to our IKE_AUTH.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut auth: Box<AuthSent>,
    datagram: &Datagram<'_>,
) {
    let header = &datagram.message.header;
    if header.exchange != ExchangeType::IKE_AUTH || header.message_id != auth.message_id {
        sa.state = State::AuthSent(auth);
        return;
    }
    let Some(opened) = auth
        .channel
        .receive_response(datagram.bytes, datagram.message, context.now)
    else {
        sa.state = State::AuthSent(auth);
        return;
    };
    evidence::answered(context);
    let parts = opened.and_then(|opened| Parts::sort(opened.payloads));
    sa.timers.clear(Timer::Retransmit);
    match parts.and_then(|parts| verify_responder(context, &auth, &parts).map(|()| parts)) {
        Ok(parts) => establish_as_initiator(context, sa, *auth, parts),
        Err(error) => {
            let told = error == IkeError::Authentication(AuthenticationFailure::ToldByPeer);
            if let Some(child) = &auth.child {
                child.abandon(context.host);
            }
            evidence::auth_failed(context, &error, None);
            if let Some(connection) = &mut context.connection {
                connection.ike_pause.after_failure(context.host, context.now);
            }
            if told {
                sa.state = State::Dead;
            } else {
                // The responder holds an IKE SA that we do not accept: remove it there.
                close_unaccepted(context, sa, *auth);
            }
        }
    }
}

/// The connection that the initiator's identities name, if the agreed suite suits it.
pub(crate) fn is_meant(connection: &Connection, suite: &IkeSuite, parts: &Parts) -> bool {
    let Some(received) = &parts.id_initiator else {
        return false;
    };
    let config = &connection.config;
    let suits = config.ike_proposals.iter().any(|proposal| {
        proposal.encryption.contains(&suite.cipher.encryption())
            && suite
                .cipher
                .integrity()
                .is_none_or(|integrity| proposal.integrity.contains(&integrity))
            && proposal.prf.contains(&suite.prf)
            && proposal.dh.contains(&suite.dh)
            && suite.additional.iter().eq(proposal.additional.iter().copied())
    });
    let expected = parts
        .id_responder
        .as_ref()
        .is_none_or(|id| is_identity(id, &config.local_identity));
    suits && expected && is_identity(received, &config.peer_identity)
}

/// Answers the initiator's IKE_AUTH. `context.connection` is the one that its identity names, if there is one.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    init: Box<InitAnswered>,
    datagram: &Datagram<'_>,
    parts: Result<Parts, IkeError>,
) {
    let checked = parts.and_then(|parts| {
        verify_initiator(context, &init, &parts)?;
        Ok((prove_as_responder(context, &init)?, parts))
    });
    match checked {
        Ok((proof, parts)) => establish_as_responder(context, sa, *init, datagram, proof, parts),
        Err(error) => {
            evidence::auth_failed(context, &error, None);
            let mut channel = init.channel;
            let payloads: Vec<Payload> = error.notify().map(Payload::Notify).into_iter().collect();
            sa.state = match channel.respond(ExchangeType::IKE_AUTH, &payloads) {
                Ok(response) => {
                    context
                        .host
                        .send_to(datagram.local_port, datagram.remote, response);
                    State::Refused(Box::new(channel))
                }
                Err(_) => State::Dead,
            };
        }
    }
}

fn verify_initiator(context: &Context<'_>, init: &InitAnswered, parts: &Parts) -> Result<(), IkeError> {
    let received =
        parts
            .id_initiator
            .as_ref()
            .ok_or(IkeError::Violation(crate::error::Violation::Missing(
                PayloadType::IDI,
            )))?;
    let proof = parts
        .auth
        .as_ref()
        .ok_or(IkeError::Violation(crate::error::Violation::Missing(
            PayloadType::AUTH,
        )))?;
    let signed = SignedOctets {
        message: &init.request,
        other_nonce: &init.nonce_responder,
        prove_key: &init.keys.prove_initiator,
        identity: &received.body(),
        intermediate: &init.transcript.octets(init.channel.request_id()),
    };
    let Some(connection) = &context.connection else {
        // As much work as for a known identity, with a key that proves nothing.
        let nobody = isthmus_types::Secret::new(String::new());
        let _ = check_proof(init.suite.prf, &nobody, &signed, proof);
        return Err(IkeError::Authentication(AuthenticationFailure::Identity(
            describe_identity(received),
        )));
    };
    let shown = Shown {
        identity: received,
        certificates: &parts.certificates,
        proof,
    };
    let date = context.host.date_at(context.now);
    auth::check(connection, init.suite.prf, &shown, &signed, date)
}

/// Our identity, certificates and proof for the answer.
fn prove_as_responder(context: &Context<'_>, init: &InitAnswered) -> Result<Vec<Payload>, IkeError> {
    let connection = context
        .connection
        .as_deref()
        .ok_or(IkeError::Internal("the connection was removed"))?;
    let identity = connection.method.own_identity(&connection.config.local_identity);
    let proof = auth::prove(
        connection,
        init.suite.prf,
        &init.accepts,
        &SignedOctets {
            message: &init.response,
            other_nonce: &init.nonce_initiator,
            prove_key: &init.keys.prove_responder,
            identity: &identity.body(),
            intermediate: &init.transcript.octets(init.channel.request_id()),
        },
    )?;
    let mut payloads = vec![Payload::IdResponder(identity)];
    payloads.extend(connection.method.certificates());
    payloads.push(Payload::Auth(proof));
    Ok(payloads)
}

fn verify_responder(context: &Context<'_>, auth: &AuthSent, parts: &Parts) -> Result<(), IkeError> {
    let (Some(received), Some(proof)) = (&parts.id_responder, &parts.auth) else {
        return Err(match parts.error() {
            Some(error) if error.notify_type == NotifyType::AUTHENTICATION_FAILED => {
                IkeError::Authentication(AuthenticationFailure::ToldByPeer)
            }
            Some(_) | None => IkeError::Violation(crate::error::Violation::Missing(PayloadType::AUTH)),
        });
    };
    let connection = context
        .connection
        .as_ref()
        .ok_or(IkeError::Internal("the connection was removed"))?;
    let shown = Shown {
        identity: received,
        certificates: &parts.certificates,
        proof,
    };
    auth::check(
        connection,
        auth.suite.prf,
        &shown,
        &SignedOctets {
            message: &auth.init_response,
            other_nonce: &auth.nonce_initiator,
            prove_key: &auth.keys.prove_responder,
            identity: &received.body(),
            intermediate: &auth.intermediate,
        },
        context.host.date_at(context.now),
    )?;
    if is_identity(received, &connection.config.peer_identity) {
        Ok(())
    } else {
        Err(IkeError::Authentication(AuthenticationFailure::Identity(
            describe_identity(received),
        )))
    }
}

fn establish_as_initiator(context: &mut Context<'_>, sa: &mut IkeSa, auth: AuthSent, mut parts: Parts) {
    let nonces = Nonces {
        initiator: &auth.nonce_initiator,
        responder: &auth.nonce_responder,
    };
    let parent = Parent {
        id: sa.id,
        suite: &auth.suite,
        derive: &auth.keys.derive,
        path: &sa.path,
    };
    let child = auth.child.map(|child| {
        let (spi, asked) = (child.spi, child.asked(&[], context.now));
        let made = child.accept(context, &parent, &mut parts, &nonces, KeyExchange::Absent, &[]);
        match made {
            Ok(child) => Ok((child, asked)),
            Err(refused) => Err(Box::new((refused, spi, asked))),
        }
    });
    let mut established = Established::new(
        auth.channel,
        auth.suite,
        &auth.keys,
        &nonces,
        Role::Initiator,
        context.now,
    );
    if let Some(connection) = &mut context.connection {
        connection.forget_complaint();
    }
    evidence::on_established(context, &sa.path, &established.suite, Role::Initiator);
    match child {
        None => {}
        Some(Ok((mut child, asked))) => {
            create_child::verify_forward_secrecy(context, &mut child, Role::Initiator);
            if let Some(connection) = &mut context.connection {
                asked.note_accepted(connection, &child.traffic, &parts);
            }
            established.children.push(child);
        }
        Some(Err(refused)) => {
            let (refused, spi, asked) = *refused;
            // What the responder may have installed cannot be used: it goes with the next request.
            refused.report(context, &asked, false);
            context.host.free_esp_spi(spi);
            if let Some(spi) = refused.installed_at_peer {
                request::delete_unaccepted(&mut established, spi);
            }
        }
    }
    let may_ask = context
        .connection
        .as_ref()
        .is_some_and(|connection| connection.may_rekey());
    if established.children.is_empty() && !may_ask {
        // We were allowed to begin when we did. Now there is nothing that we could do with it.
        context.note(EventKind::IkeDeleted { by: End::Ours });
        established.phase = Phase::Closing;
        request::pump_or_die(context, sa, Box::new(established));
        return;
    }
    sa.timers.clear(Timer::HalfOpen);
    sa.arm_lifetime(context);
    sa.note_auth_lifetime(context, &parts);
    context.host.followups.push_back(Followup::Established(sa.id));
    request::pump_or_die(context, sa, Box::new(established));
}

fn close_unaccepted(context: &mut Context<'_>, sa: &mut IkeSa, auth: AuthSent) {
    let nonces = Nonces {
        initiator: &auth.nonce_initiator,
        responder: &auth.nonce_responder,
    };
    let mut established = Established::new(
        auth.channel,
        auth.suite,
        &auth.keys,
        &nonces,
        Role::Initiator,
        context.now,
    );
    established.phase = Phase::Closing;
    request::pump_or_die(context, sa, Box::new(established));
}

fn establish_as_responder(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    init: InitAnswered,
    datagram: &Datagram<'_>,
    mut payloads: Vec<Payload>,
    mut parts: Parts,
) {
    // Authenticated: the peer is where this message came from.
    sa.path.local_port = datagram.local_port;
    sa.path.remote = datagram.remote;
    let nonces = Nonces {
        initiator: &init.nonce_initiator,
        responder: &init.nonce_responder,
    };
    let Some(connection) = context.connection.as_deref_mut() else {
        sa.state = State::Dead;
        return;
    };
    connection.forget_complaint();
    let id = connection.id();
    if parts.notify(NotifyType::INITIAL_CONTACT).is_some() {
        // The older children go after this exchange: then the new one begins to send.
        context.host.followups.push_back(Followup::ForgetOlder {
            connection: id,
            keep: sa.id,
            before: init.begun_at,
        });
    }
    evidence::mode(context, &parts);
    let childless = parts.sa.is_none() && parts.ts_initiator.is_none() && parts.ts_responder.is_none();
    let child = if childless {
        None
    } else {
        Some(answer_child(context, sa, &init, &nonces, &mut parts))
    };
    let mut established = Established::new(
        init.channel,
        init.suite,
        &init.keys,
        &nonces,
        Role::Responder,
        context.now,
    );
    evidence::on_established(context, &sa.path, &established.suite, Role::Responder);
    match child {
        None => {}
        Some(Ok((mut child, answer))) => {
            create_child::verify_forward_secrecy(context, &mut child, Role::Responder);
            if let Some(connection) = &mut context.connection {
                connection.note_accepted(&child.traffic, &child.traffic, false);
            }
            established.children.push(child);
            payloads.extend(answer);
        }
        Some(Err(error)) => {
            payloads.extend(error.notify().map(Payload::Notify));
        }
    }
    create_child::leave_to_initiator(context, Role::Responder);
    sa.timers.clear(Timer::HalfOpen);
    sa.arm_lifetime(context);
    match established.channel.respond(ExchangeType::IKE_AUTH, &payloads) {
        Ok(response) => {
            context
                .host
                .send_to(datagram.local_port, datagram.remote, response);
            context.host.followups.push_back(Followup::Established(sa.id));
            sa.state = State::Established(Box::new(established));
        }
        Err(_) => established.die(context, sa, std::time::Duration::ZERO),
    }
}

fn answer_child(
    context: &mut Context<'_>,
    sa: &IkeSa,
    init: &InitAnswered,
    nonces: &Nonces<'_>,
    parts: &mut Parts,
) -> Result<(Child, Vec<Payload>), IkeError> {
    let asked = ChildRequest {
        proposals: required(parts.sa.take(), PayloadType::SA)?,
        ts_initiator: required(parts.ts_initiator.take(), PayloadType::TSI)?,
        ts_responder: required(parts.ts_responder.take(), PayloadType::TSR)?,
        ke: None,
        exchange: KeyExchange::Absent,
        shares: create_child::shares(parts),
        replaced_lane: None,
    };
    let parent = Parent {
        id: sa.id,
        suite: &init.suite,
        derive: &init.keys.derive,
        path: &sa.path,
    };
    let made = asked
        .answer(context, &parent, nonces, &[])
        .inspect_err(|error| asked.report(context, error))?;
    match made {
        (Made::Child(child), payloads) => Ok((child, payloads)),
        (Made::Unfinished(_), _) => Err(IkeError::Internal("IKE_AUTH has no key exchange")),
    }
}

/// The reason to show when a first child was refused.
pub(crate) const fn refusal_reason(notify_type: NotifyType) -> DownReason {
    match notify_type {
        NotifyType::NO_PROPOSAL_CHOSEN | NotifyType::INVALID_KE_PAYLOAD => DownReason::IpsecProposalMismatch,
        NotifyType::TS_UNACCEPTABLE | NotifyType::SINGLE_PAIR_REQUIRED => DownReason::SelectorMismatch,
        _ => DownReason::Negotiating,
    }
}
