//! IKE_SA_INIT (RFC 7296 sections 1.2, 2.6, 2.7 and 2.23).

use std::net::SocketAddr;
use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::DhGroup;
use isthmus_wire::ike::{
    ExchangeType, IkeFlags, IkeHeader, IkeSpi, KePayload, NotifyPayload, NotifyType, Payload, PayloadType,
    Transform, TransformId, TransformType, encode_message,
};

use crate::algorithm::{describe_transform, group_id, group_of};
use crate::auth::{Accepts, Method, own_credentials};
use crate::channel::{Channel, Role};
use crate::connection::Connection;
use crate::endpoint::{IKE_PORT, NAT_PORT};
use crate::error::{IkeError, Mismatch, Violation};
use crate::evidence;
use crate::exchange::Datagram;
use crate::exchange::ike_auth::Handshake;
use crate::exchange::intermediate::{self, Transcript};
use crate::extension::Extensions;
use crate::finding::{EventKind, FindingKind, Layer};
use crate::host::{Context, Host};
use crate::keys::{Nonces, SpiPair, first_seed, ike_keys};
use crate::nat::{self, NatStatus, Path};
use crate::nearest::describe_kind;
use crate::negotiate::{choose_ike, describe, offer_ike};
use crate::parts::{Parts, required};
use crate::retransmit::Retransmission;
use crate::sa::{IkeSa, InitAnswered, InitSent, State};
use crate::status::DownReason;
use crate::survey;
use crate::timer::{Timer, Timers};

/// How long an attempt waits for an answer to its first message.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a handshake of somebody else may take.
pub(crate) const HALF_OPEN_TIME: Duration = Duration::from_secs(20);
/// After so many attempts without an answer every second one goes to the port of NAT traversal.
const UNANSWERED_ATTEMPTS: u32 = 2;
/// Cookie and group retries of one attempt.
const MAX_ROUNDS: u32 = 5;

/// Begins an attempt.
pub(crate) fn start(context: &mut Context<'_>) -> Result<IkeSa, IkeError> {
    let connection = context
        .connection
        .as_deref_mut()
        .ok_or(IkeError::Internal("an attempt without a connection"))?;
    let address = connection
        .peer_address
        .ok_or(IkeError::Internal("the address of the peer is not known"))?;
    if let Method::Unusable(why) = &connection.method {
        return Err(own_credentials(why.clone()));
    }
    let survey = connection.tally.ike_survey.take();
    let config = &connection.config;
    let group = config
        .ike_proposals
        .iter()
        .find_map(|proposal| proposal.dh.first().copied())
        .ok_or(IkeError::Internal("there is no IKE proposal with a group"))?;
    let proposals = if survey {
        survey::ike(&config.ike_proposals)
    } else {
        config.ike_proposals.clone()
    };
    let forced = config.force_encapsulation;
    let extensions = Extensions::offered(config);
    let dh = generate(group)?;
    // A peer that is silent on one port may be heard on the other.
    let other_port =
        connection.tally.unanswered >= UNANSWERED_ATTEMPTS && connection.tally.unanswered % 2 == 0;
    let port = if other_port { NAT_PORT } else { IKE_PORT };
    connection.diary.note(EventKind::NegotiationStarted {
        peer: SocketAddr::new(address, port),
    });
    let (id, local_spi) = context.host.new_sa();
    let mut sa = IkeSa {
        id,
        role: Role::Initiator,
        local_spi,
        remote_spi: IkeSpi::ZERO,
        path: Path {
            local_port: port,
            remote: SocketAddr::new(address, port),
            nat: NatStatus {
                forced: forced || other_port,
                ..NatStatus::default()
            },
        },
        connection: Some(connection.id()),
        timers: Timers::default(),
        state: State::Dead,
    };
    let init = InitSent {
        proposals,
        dh,
        nonce: context.host.nonce(),
        cookie: None,
        request: Vec::new(),
        retransmission: Retransmission::new(Vec::new().into(), PATIENCE, context.now),
        extensions,
        rounds: 0,
        refused_with: None,
        survey,
    };
    send(context, &mut sa, init);
    Ok(sa)
}

/// Takes an answer to our IKE_SA_INIT.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut init: Box<InitSent>,
    datagram: &Datagram<'_>,
) {
    evidence::heard(context, sa.path.remote);
    let parts = match Parts::sort(datagram.message.payloads.clone()) {
        Ok(parts) => parts,
        // It is not authenticated: the real answer may still come.
        Err(_) => {
            sa.state = State::InitSent(init);
            return;
        }
    };
    if parts.sa.is_none() {
        retry_or_note(context, sa, init, &parts);
        return;
    }
    match accept(context, sa, &mut init, datagram, parts) {
        Ok(state) => sa.state = state,
        Err(error) => {
            context.complain(
                error.down_reason(),
                format!("the peer's first answer is unusable: {error}"),
            );
            sa.state = State::InitSent(init);
        }
    }
}

/// Answers the IKE_SA_INIT of a peer for one of `candidates`. The cookie was checked before.
pub(crate) fn respond(
    host: &mut Host,
    candidates: &mut [&mut Connection],
    datagram: &Datagram<'_>,
    parts: Parts,
    now: std::time::Instant,
) -> Result<IkeSa, IkeError> {
    let header = &datagram.message.header;
    let offered = required(parts.sa, PayloadType::SA)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    let nonce_initiator = required(parts.nonce, PayloadType::NONCE)?;
    let found = candidates.iter().find_map(|connection| {
        let config = &connection.config;
        let possible = Extensions::offered(config)
            .agreed(&parts.notifies)
            .possible(&config.ike_proposals);
        choose_ike(&possible, &offered).map(|chosen| (chosen, config))
    });
    let Some((chosen, config)) = found else {
        let mut ours = String::new();
        for connection in candidates.iter_mut() {
            ours = describe(&offer_ike(&connection.config.ike_proposals, None));
            let found = evidence::no_ike_proposal(&connection.config, &offered);
            connection.suspect(found);
        }
        return Err(IkeError::Mismatch(Mismatch::Ike(ours)));
    };
    if ke.method != group_id(chosen.suite.dh) {
        return Err(IkeError::Mismatch(Mismatch::Group(chosen.suite.dh)));
    }
    let forced = config.force_encapsulation;
    let extensions = Extensions::offered(config).agreed(&parts.notifies);
    let dh = generate(chosen.suite.dh)?;
    let secret = dh
        .agree(&ke.data)
        .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    let nonce_responder = host.nonce();
    let (id, local_spi) = host.new_sa();
    let spis = SpiPair {
        initiator: header.initiator_spi,
        responder: local_spi,
    };
    let mut payloads = vec![
        Payload::Sa(vec![chosen.answer]),
        Payload::Ke(KePayload {
            method: ke.method,
            data: dh.public().to_vec(),
        }),
        Payload::Nonce(nonce_responder.clone()),
    ];
    payloads.extend(extensions.notifies());
    let accepts = Accepts::read(&parts.notifies);
    payloads.extend(accepts.answer(candidates));
    payloads.push(Payload::Notify(NotifyPayload::new(
        NotifyType::CHILDLESS_IKEV2_SUPPORTED,
        Vec::new(),
    )));
    let (nat, response) = answer(host, datagram, &parts.notifies, spis, forced, payloads);
    let nonces = Nonces {
        initiator: &nonce_initiator,
        responder: &nonce_responder,
    };
    let seed = first_seed(chosen.suite.prf, &nonces, &secret);
    let made = ike_keys(&chosen.suite, &seed, &nonces, spis).and_then(|keys| {
        let mut channel = Channel::new(Role::Responder, spis, &chosen.suite, &keys, 1)?;
        channel.set_datagram_limit(extensions.datagram_limit(datagram.remote));
        Ok((keys, channel))
    });
    let (keys, channel) = match made {
        Ok(made) => made,
        Err(error) => {
            host.free_ike_spi(local_spi);
            return Err(error);
        }
    };
    host.tell_keys(spis, chosen.suite.cipher, &keys);
    let mut timers = Timers::default();
    timers.set(Timer::HalfOpen, now + HALF_OPEN_TIME);
    host.send_to(datagram.local_port, datagram.remote, response.clone());
    Ok(IkeSa {
        id,
        role: Role::Responder,
        local_spi,
        remote_spi: header.initiator_spi,
        path: Path {
            local_port: datagram.local_port,
            remote: datagram.remote,
            nat,
        },
        connection: None,
        timers,
        state: State::InitAnswered(Box::new(InitAnswered {
            channel,
            suite: chosen.suite,
            keys,
            nonce_initiator,
            nonce_responder,
            request: datagram.bytes.to_vec(),
            response,
            accepts,
            begun_at: now,
            additional_done: 0,
            transcript: Transcript::default(),
        })),
    })
}

/// Answers an IKE_SA_INIT with a single notify, keeping no state.
pub(crate) fn refuse(host: &mut Host, datagram: &Datagram<'_>, notify: NotifyPayload) {
    let header = IkeHeader {
        flags: IkeFlags::RESPONSE,
        ..datagram.message.header
    };
    let bytes = encode_message(header, &[Payload::Notify(notify)]);
    host.send_to(datagram.local_port, datagram.remote, bytes);
}

fn answer(
    host: &Host,
    datagram: &Datagram<'_>,
    received: &[NotifyPayload],
    spis: SpiPair,
    forced: bool,
    mut payloads: Vec<Payload>,
) -> (NatStatus, Vec<u8>) {
    let local = SocketAddr::new(host.local_for(datagram.remote.ip()), datagram.local_port);
    // The initiator's hashes were made before it knew our SPI.
    let asked = SpiPair {
        responder: IkeSpi::ZERO,
        ..spis
    };
    let nat = NatStatus {
        forced,
        ..nat::detect(received, asked, local, datagram.remote)
    };
    payloads.extend(nat::notifies(spis, local, datagram.remote, forced));
    let header = IkeHeader {
        responder_spi: spis.responder,
        flags: IkeFlags::RESPONSE,
        ..datagram.message.header
    };
    (nat, encode_message(header, &payloads))
}

fn generate(group: DhGroup) -> Result<PrivateKey, IkeError> {
    PrivateKey::generate(group).map_err(|_| IkeError::Internal("no private value could be made"))
}

/// Builds the message from the attempt, sends it and starts to wait.
fn send(context: &mut Context<'_>, sa: &mut IkeSa, mut init: InitSent) {
    let mut payloads = Vec::new();
    if let Some(cookie) = &init.cookie {
        payloads.push(Payload::Notify(NotifyPayload::new(
            NotifyType::COOKIE,
            cookie.clone(),
        )));
    }
    payloads.push(Payload::Sa(offer_ike(&init.proposals, None)));
    payloads.push(Payload::Ke(KePayload {
        method: group_id(init.dh.group()),
        data: init.dh.public().to_vec(),
    }));
    payloads.push(Payload::Nonce(init.nonce.clone()));
    let local = SocketAddr::new(context.host.local_for(sa.path.remote.ip()), sa.path.local_port);
    payloads.extend(nat::notifies(
        sa.spis(),
        local,
        sa.path.remote,
        sa.path.nat.forced,
    ));
    payloads.extend(init.extensions.notifies());
    if let Some(connection) = &context.connection {
        payloads.extend(connection.method.announcement());
    }
    init.request = encode_message(
        IkeHeader {
            initiator_spi: sa.local_spi,
            responder_spi: IkeSpi::ZERO,
            next_payload: PayloadType::NONE,
            minor_version: 0,
            exchange: ExchangeType::IKE_SA_INIT,
            flags: IkeFlags::INITIATOR,
            message_id: 0,
            length: 0,
        },
        &payloads,
    );
    init.retransmission = Retransmission::new(init.request.clone().into(), PATIENCE, context.now);
    let jitter = context.host.jitter();
    sa.timers.set(
        Timer::Retransmit,
        init.retransmission.next_at(jitter, context.now),
    );
    context.host.send(&sa.path, init.request.clone());
    sa.state = State::InitSent(Box::new(init));
}

/// Handles an answer without an SA payload: a request to repeat, or an unauthenticated error.
fn retry_or_note(context: &mut Context<'_>, sa: &mut IkeSa, mut init: Box<InitSent>, parts: &Parts) {
    if let Some(cookie) = parts.notify(NotifyType::COOKIE)
        && (1..=64).contains(&cookie.data.len())
        && init.rounds < MAX_ROUNDS
        && init.cookie.as_ref() != Some(&cookie.data)
    {
        init.rounds += 1;
        init.cookie = Some(cookie.data.clone());
        send(context, sa, *init);
        return;
    }
    if let Some(group) = parts
        .notify(NotifyType::INVALID_KE_PAYLOAD)
        .and_then(suggested_group)
        && init.rounds < MAX_ROUNDS
        && group != init.dh.group()
        && init.proposals.iter().any(|proposal| proposal.dh.contains(&group))
        && let Ok(dh) = generate(group)
    {
        init.rounds += 1;
        init.dh = dh;
        send(context, sa, *init);
        return;
    }
    let Some(error) = parts.error() else {
        sa.state = State::InitSent(init);
        return;
    };
    let notify_type = error.notify_type;
    if init.survey {
        // It tells no more than the refusal that led to it.
    } else if notify_type == NotifyType::NO_PROPOSAL_CHOSEN || notify_type == NotifyType::INVALID_KE_PAYLOAD {
        let ours = offer_ike(&init.proposals, None);
        context.find(match error_group(error) {
            Some(group) => FindingKind::GroupDemanded {
                layer: Layer::Ike,
                theirs: group,
                ours: describe_kind(&ours, TransformType::KE),
            },
            None => FindingKind::NoProposalInCommon {
                layer: Layer::Ike,
                ours: describe(&ours),
                theirs: None,
            },
        });
    } else {
        let detail = format!("the peer refused the first message with {notify_type:?}");
        context.complain(DownReason::PeerNotResponding, detail);
    }
    // The second equal one ends the attempt: it is not authenticated, but neither is it chance.
    if init.refused_with == Some(notify_type.0) {
        sa.state = State::Dead;
        if let Some(connection) = &mut context.connection {
            if notify_type == NotifyType::NO_PROPOSAL_CHOSEN || notify_type == NotifyType::INVALID_KE_PAYLOAD
            {
                connection.tally.ike_survey.ask();
            }
            connection.ike_pause.after_failure(context.host, context.now);
        }
    } else {
        init.refused_with = Some(notify_type.0);
        sa.state = State::InitSent(init);
    }
}

/// The group that a refusal demands, in words.
fn error_group(error: &NotifyPayload) -> Option<String> {
    let id: [u8; 2] = match error.notify_type {
        NotifyType::INVALID_KE_PAYLOAD => error.data.as_slice().try_into().ok()?,
        _ => return None,
    };
    let transform = Transform::new(TransformType::KE, TransformId(u16::from_be_bytes(id)));
    Some(describe_transform(&transform))
}

/// The group that an INVALID_KE_PAYLOAD names.
pub(crate) fn suggested_group(notify: &NotifyPayload) -> Option<DhGroup> {
    let id: [u8; 2] = notify.data.as_slice().try_into().ok()?;
    group_of(TransformId(u16::from_be_bytes(id)))
}

fn accept(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    init: &mut InitSent,
    datagram: &Datagram<'_>,
    parts: Parts,
) -> Result<State, IkeError> {
    let responder_spi = datagram.message.header.responder_spi;
    if responder_spi == IkeSpi::ZERO {
        return Err(IkeError::Violation(Violation::Spi));
    }
    let answered = required(parts.sa, PayloadType::SA)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    let nonce_responder = required(parts.nonce, PayloadType::NONCE)?;
    if init.survey {
        if let Some(connection) = &mut context.connection {
            let found = evidence::no_ike_proposal(&connection.config, &answered);
            connection.diary.find(found);
            connection.ike_pause.after_failure(context.host, context.now);
        }
        return Ok(State::Dead);
    }
    let suite = match answered.as_slice() {
        [one] => choose_ike(&init.proposals, std::slice::from_ref(one)).map(|chosen| chosen.suite),
        [] | [_, ..] => None,
    };
    let suite = suite.ok_or(IkeError::Violation(Violation::BeyondRequest))?;
    if suite.dh != init.dh.group() || ke.method != group_id(suite.dh) {
        return Err(IkeError::Violation(Violation::BeyondRequest));
    }
    let secret = init
        .dh
        .agree(&ke.data)
        .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    sa.remote_spi = responder_spi;
    let spis = sa.spis();
    let nonces = Nonces {
        initiator: &init.nonce,
        responder: &nonce_responder,
    };
    let seed = first_seed(suite.prf, &nonces, &secret);
    let keys = ike_keys(&suite, &seed, &nonces, spis)?;
    context.host.tell_keys(spis, suite.cipher, &keys);
    let mut channel = Channel::new(Role::Initiator, spis, &suite, &keys, 1)?;
    let extensions = init.extensions.agreed(&parts.notifies);
    let can_be_childless = parts
        .notifies
        .iter()
        .any(|notify| notify.notify_type == NotifyType::CHILDLESS_IKEV2_SUPPORTED);
    let childless = can_be_childless
        && context
            .connection
            .as_ref()
            .is_some_and(|connection| connection.config.options.childless);
    if !suite.additional.is_empty() && !extensions.intermediate {
        return Err(IkeError::Violation(Violation::BeyondRequest));
    }
    channel.set_datagram_limit(extensions.datagram_limit(datagram.remote));
    let local = SocketAddr::new(context.host.local_for(sa.path.remote.ip()), sa.path.local_port);
    sa.path.nat = NatStatus {
        forced: sa.path.nat.forced,
        ..nat::detect(&parts.notifies, spis, local, datagram.remote)
    };
    if sa.path.nat.encapsulates() {
        sa.path.local_port = NAT_PORT;
        if sa.path.remote.port() == IKE_PORT {
            sa.path.remote.set_port(NAT_PORT);
        }
    }
    intermediate::proceed(
        context,
        sa,
        Handshake {
            channel,
            suite,
            keys,
            init_request: std::mem::take(&mut init.request),
            init_response: datagram.bytes.to_vec(),
            nonce_initiator: std::mem::take(&mut init.nonce),
            nonce_responder,
            accepts: Accepts::read(&parts.notifies),
            additional_done: 0,
            transcript: Transcript::default(),
            childless,
        },
    )
}
