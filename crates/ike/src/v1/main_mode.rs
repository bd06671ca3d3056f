//! Main mode with a pre-shared key (RFC 2409 section 5.4): six messages, the last two encrypted.

use std::net::SocketAddr;
use std::time::Duration;

use isthmus_crypto::dh::{PrivateKey, public_len};
use isthmus_types::VpnConnectionId;
use isthmus_wire::ike::IkeSpi;
use isthmus_wire::isakmp::{
    ExchangeType, NotifyPayload, NotifyType, Payload, ProtocolId, SaPayload, encode_message,
};

use super::attributes::{self, describe_ike, offers_ike, pick_ike};
use super::candidate::{self, Exchanged};
use super::fault::Fault;
use super::message::{Content, Parts, decrypt, encrypt, read};
use super::proof::{accept_identity, check_proof, expect_identity, id_body, proof};
use super::sa::{Exchange, Features, Handshake, IdSent, KeAnswered, KeSent, Sa, SaSent, Secrets, State};
use super::{Datagram, Machine, Scope, identity, nat};
use crate::channel::Role;
use crate::connection::Connection;
use crate::endpoint::{IKE_PORT, NAT_PORT};
use crate::error::IkeError;
use crate::evidence;
use crate::finding::{EventKind, FindingKind};
use crate::keys::Nonces;
use crate::nat::{NatStatus, Path};
use crate::status::DownReason;

/// NAT traversal (RFC 3947 section 3.1).
pub(super) const VENDOR_NAT_T: [u8; 16] = [
    0x4a, 0x13, 0x1c, 0x81, 0x07, 0x03, 0x58, 0x45, 0x5c, 0x57, 0x28, 0xf2, 0x0e, 0x95, 0x45, 0x2f,
];
/// Dead peer detection 1.0 (RFC 3706 section 5.1).
pub(super) const VENDOR_DPD: [u8; 16] = [
    0xaf, 0xca, 0xd7, 0x13, 0x68, 0xa1, 0xf1, 0xc9, 0x6b, 0x86, 0x96, 0xfc, 0x77, 0x57, 0x01, 0x00,
];
/// Of Child SAs that both ends make at once the one with the higher nonce stays. The first half of the SHA-256 of "Isthmus
/// IKEv1: of two that cross the higher nonce stays".
pub(super) const VENDOR_NONCE_RULE: [u8; 16] = [
    0xf7, 0x96, 0x90, 0xc9, 0x3f, 0xfe, 0x31, 0x3e, 0x04, 0xb4, 0x42, 0xfd, 0xe3, 0xc3, 0xfd, 0x8e,
];
/// How long a handshake that a peer began may take.
pub(super) const HALF_OPEN: Duration = Duration::from_secs(30);

/// What we can do.
pub(super) fn vendor_ids() -> [Payload; 3] {
    [VENDOR_NAT_T, VENDOR_DPD, VENDOR_NONCE_RULE].map(|id| Payload::VendorId(id.to_vec()))
}

impl Features {
    pub(super) fn learn(&mut self, vendor_ids: &[Vec<u8>]) {
        self.nat_traversal |= vendor_ids.iter().any(|id| *id == VENDOR_NAT_T);
        self.dead_peer_detection |= vendor_ids.iter().any(|id| *id == VENDOR_DPD);
        self.nonce_rule |= vendor_ids.iter().any(|id| *id == VENDOR_NONCE_RULE);
    }
}

/// Begins phase 1 with the peer of a connection, on the way that is in use if there is one: a translator may let nothing
/// else pass.
pub(super) fn start(
    scope: &mut Scope<'_>,
    id: VpnConnectionId,
    replaces: Vec<crate::sa::SaId>,
    in_use: Option<Path>,
    offer_turn: usize,
) -> Result<Sa, Fault> {
    let connection = scope
        .connections
        .get_mut(&id)
        .ok_or(IkeError::Internal("a connection that does not exist"))?;
    let address = connection
        .peer_address
        .ok_or(IkeError::Internal("the peer has no address"))?;
    let offers = offers_ike(
        &connection.config.ike_proposals,
        connection.config.ike_lifetime_seconds,
    );
    let turn = offer_turn.checked_rem(offers.len()).unwrap_or(0);
    let Some(offer) = offers.into_iter().nth(turn) else {
        return Err(Fault::Found(
            NotifyType::NO_PROPOSAL_CHOSEN,
            Box::new(FindingKind::Other {
                reason: DownReason::IkeProposalMismatch,
                detail: "no IKE proposal here can be used with IKE version 1, which knows only CBC ciphers with a \
                         hash: choose such a policy, or version 2 at both ends"
                    .into(),
            }),
        ));
    };
    let patience = connection.patience();
    let (local_port, remote) = in_use.map_or((IKE_PORT, SocketAddr::new(address, IKE_PORT)), |path| {
        (path.local_port, path.remote)
    });
    connection
        .diary
        .note(EventKind::NegotiationStarted { peer: remote });
    let aggressive = connection.config.options.aggressive_mode;
    let config = connection.config.clone();
    let (sa_id, cookie) = scope.host.new_sa();
    let mut sa = Sa {
        id: sa_id,
        role: Role::Initiator,
        local_cookie: cookie,
        remote_cookie: IkeSpi::ZERO,
        connection: Some(id),
        path: Path {
            local_port,
            remote,
            nat: NatStatus {
                forced: config.force_encapsulation,
                ..NatStatus::default()
            },
        },
        features: Features::default(),
        state: State::Dead,
        request: None,
        answered: None,
        until: scope.now + patience + HALF_OPEN,
        begun_at: scope.now,
        replaces,
        told: 0,
        postponed: None,
    };
    if aggressive {
        if let Err(fault) = super::aggressive::first(scope, &mut sa, &config, patience) {
            scope.host.free_ike_spi(cookie);
            return Err(fault);
        }
        return Ok(sa);
    }
    let mut sa_body = Vec::new();
    Payload::Sa(offer.clone()).encode_body(&mut sa_body);
    let mut payloads = vec![Payload::Sa(offer)];
    payloads.extend(vendor_ids());
    let message = encode_message(sa.header(ExchangeType::MAIN, 0), &payloads);
    sa.state = State::SaSent(SaSent {
        sa_body,
        aggressive: None,
    });
    sa.ask(scope.host, message, patience, scope.now);
    Ok(sa)
}

/// Answers the first message of a peer, for the first of the connections that takes a proposal.
pub(super) fn respond(
    scope: &mut Scope<'_>,
    candidates: &[VpnConnectionId],
    datagram: &Datagram<'_>,
    parts: &Parts,
) -> Result<Sa, Fault> {
    let (offered, sa_body) = parts.sa.as_ref().ok_or(Fault::Missing("SA"))?;
    let (id, chosen) = choose(scope, candidates, offered)?;
    let handshake = Handshake {
        suite: chosen.suite,
        sa_body: sa_body.clone(),
        lifetime: chosen.lifetimes.seconds.map(Duration::from_secs),
    };
    let mut sa = incoming(scope, id, datagram);
    sa.features.learn(&parts.vendor_ids);
    let mut payloads = vec![Payload::Sa(SaPayload::ipsec(vec![chosen.answer]))];
    payloads.extend(vendor_ids());
    let message = encode_message(sa.header(ExchangeType::MAIN, 0), &payloads);
    sa.state = State::SaAnswered(handshake);
    sa.answer(scope.host, datagram.digest, message);
    Ok(sa)
}

/// The first of the connections that takes a proposal, and its choice.
pub(super) fn choose(
    scope: &mut Scope<'_>,
    candidates: &[VpnConnectionId],
    offered: &SaPayload,
) -> Result<(VpnConnectionId, attributes::Chosen<crate::algorithm::IkeSuite>), Fault> {
    let mut kind = None;
    for id in candidates {
        let Some(connection) = scope.connections.get_mut(id) else {
            continue;
        };
        if let Some(chosen) = pick_ike(&connection.config.ike_proposals, offered) {
            return Ok((*id, chosen));
        }
        let mut config = connection.config.clone();
        config.ike_proposals = config
            .ike_proposals
            .iter()
            .filter_map(attributes::for_version_1)
            .collect();
        let found = evidence::no_ike_proposal(&config, &describe_ike(offered));
        connection.suspect(found.clone());
        scope.touched.insert(*id);
        kind = Some(found);
    }
    let kind = kind.ok_or(IkeError::Internal("no connection to answer for"))?;
    Err(Fault::Found(NotifyType::NO_PROPOSAL_CHOSEN, Box::new(kind)))
}

/// A new SA that a peer begins.
pub(super) fn incoming(scope: &mut Scope<'_>, id: VpnConnectionId, datagram: &Datagram<'_>) -> Sa {
    let (sa_id, cookie) = scope.host.new_sa();
    let forced = scope
        .connections
        .get(&id)
        .is_some_and(|connection| connection.config.force_encapsulation);
    Sa {
        id: sa_id,
        role: Role::Responder,
        local_cookie: cookie,
        remote_cookie: datagram.header.initiator_cookie,
        connection: Some(id),
        path: Path {
            local_port: datagram.local_port,
            remote: datagram.remote,
            nat: NatStatus {
                forced,
                ..NatStatus::default()
            },
        },
        features: Features::default(),
        state: State::Dead,
        request: None,
        answered: None,
        until: scope.now + HALF_OPEN,
        begun_at: scope.now,
        replaces: Vec::new(),
        told: 0,
        postponed: None,
    }
}

/// A message of main mode for an SA that there is. The state after it, and what was wrong.
pub(super) fn on_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    match std::mem::replace(&mut sa.state, State::Dead) {
        State::SaSent(sent) if sent.aggressive.is_none() => {
            let result = on_sa(scope, sa, &sent, datagram);
            sa.state = match result {
                Ok(next) => State::KeSent(Box::new(next)),
                Err(fault) => {
                    sa.state = State::SaSent(sent);
                    return Err(fault);
                }
            };
            Ok(())
        }
        State::SaAnswered(handshake) => match on_key_exchange(scope, sa, &handshake, datagram) {
            Ok((secrets, exchanged)) => {
                sa.state = State::KeAnswered(Box::new(KeAnswered {
                    handshake,
                    secrets,
                    id_body: Vec::new(),
                    exchanged,
                }));
                Ok(())
            }
            Err(fault) => {
                sa.state = State::SaAnswered(handshake);
                Err(fault)
            }
        },
        State::KeSent(sent) => match on_key_answer(scope, sa, &sent, datagram) {
            Ok(secrets) => {
                sa.state = State::IdSent(Box::new(IdSent {
                    handshake: sent.handshake,
                    secrets,
                }));
                Ok(())
            }
            Err(fault) => {
                sa.state = State::KeSent(sent);
                Err(fault)
            }
        },
        State::KeAnswered(mut answered) => {
            let guessed = sa.connection;
            match check_identity(scope, sa, &mut answered, datagram) {
                Ok((parts, iv)) => {
                    let (handshake, mut secrets) = (answered.handshake, answered.secrets.after(iv));
                    if sa.connection != guessed {
                        machine.note_connection(sa);
                        scope.is_initial_contact = machine.has_nothing(sa);
                    }
                    // The peer may still have what we lost.
                    let contact = scope.is_initial_contact;
                    let reply = identity_message(scope, sa, &handshake, &mut secrets, contact)?;
                    sa.answer(scope.host, datagram.digest, reply);
                    machine.establish(scope, sa, handshake, secrets, &parts);
                    Ok(())
                }
                Err(fault) => {
                    sa.state = State::KeAnswered(answered);
                    Err(fault)
                }
            }
        }
        State::IdSent(sent) if sa.connection.is_none() => match check_unwanted(sa, &sent, datagram) {
            Ok(iv) => {
                machine.take_back(scope, sa, &sent.handshake, sent.secrets.after(iv));
                Ok(())
            }
            Err(fault) => {
                sa.state = State::IdSent(sent);
                Err(fault)
            }
        },
        State::IdSent(sent) => match check_answer(scope, sa, &sent, datagram) {
            Ok((parts, iv)) => {
                machine.establish(scope, sa, sent.handshake, sent.secrets.after(iv), &parts);
                Ok(())
            }
            Err(fault) => {
                sa.state = State::IdSent(sent);
                Err(fault)
            }
        },
        other @ (State::AggressiveAnswered(_) | State::Dead | State::Established(_) | State::SaSent(_)) => {
            sa.state = other;
            Ok(())
        }
    }
}

/// Message 2.
fn on_sa(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    sent: &SaSent,
    datagram: &Datagram<'_>,
) -> Result<KeSent, Fault> {
    let parts = read(datagram.header, datagram.bytes)?;
    let (answer, _) = parts.sa.as_ref().ok_or(Fault::Missing("SA"))?;
    let connection = scope.connection_of(sa)?;
    let handshake = agreed(connection, answer, &sent.sa_body)?;
    let patience = connection.patience();
    let forced = connection.config.force_encapsulation;
    let mut context = scope.context(sa.connection);
    evidence::heard(&mut context, datagram.remote);
    let dh = PrivateKey::generate(handshake.suite.dh)
        .map_err(|_| IkeError::Internal("no private value could be made"))?;
    sa.remote_cookie = datagram.header.responder_cookie;
    sa.features.learn(&parts.vendor_ids);
    let nonce = scope.host.nonce();
    let mut payloads = vec![Payload::Ke(dh.public().to_vec()), Payload::Nonce(nonce.clone())];
    if sa.features.nat_traversal {
        payloads.extend(nat::payloads(
            handshake.suite.prf,
            sa.cookies(),
            scope.host.local_for(sa.path.remote.ip()),
            &sa.path,
            forced,
        ));
    }
    let message = encode_message(sa.header(ExchangeType::MAIN, 0), &payloads);
    sa.ask(scope.host, message, patience, scope.now);
    Ok(KeSent { handshake, dh, nonce })
}

/// What the responder chose of ours.
pub(super) fn agreed(
    connection: &Connection,
    answer: &SaPayload,
    sa_body: &[u8],
) -> Result<Handshake, Fault> {
    let single = matches!(answer.proposals.as_slice(), [proposal] if proposal.transforms.len() == 1);
    let chosen = pick_ike(&connection.config.ike_proposals, answer)
        .filter(|_| single)
        .ok_or_else(|| {
            Fault::Found(
                NotifyType::NO_PROPOSAL_CHOSEN,
                Box::new(FindingKind::Other {
                    reason: DownReason::IkeProposalMismatch,
                    detail: "the peer chose an IKE proposal that was not offered".into(),
                }),
            )
        })?;
    Ok(Handshake {
        suite: chosen.suite,
        sa_body: sa_body.to_vec(),
        lifetime: chosen.lifetimes.seconds.map(Duration::from_secs),
    })
}

/// Message 3.
fn on_key_exchange(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    handshake: &Handshake,
    datagram: &Datagram<'_>,
) -> Result<(Secrets, Option<Exchanged>), Fault> {
    let parts = read(datagram.header, datagram.bytes)?;
    let public = required_public(&parts, handshake)?;
    let nonce_initiator = parts.nonce.as_deref().ok_or(Fault::Missing("nonce"))?;
    let dh = PrivateKey::generate(handshake.suite.dh)
        .map_err(|_| IkeError::Internal("no private value could be made"))?;
    let secret = dh.agree(public).map_err(|_| Fault::Invalid("the public value"))?;
    let connection = scope.connection_of(sa)?;
    let forced = connection.config.force_encapsulation;
    let psk = connection.config.psk.clone();
    let nonce = scope.host.nonce();
    let nonces = Nonces {
        initiator: nonce_initiator,
        responder: &nonce,
    };
    let exchange = Exchange {
        public_initiator: public,
        public_responder: dh.public(),
        secret: &secret,
        nonces: &nonces,
    };
    let secrets = Secrets::derive(&handshake.suite, &psk, &exchange, sa.cookies())?;
    let mut payloads = vec![Payload::Ke(dh.public().to_vec()), Payload::Nonce(nonce.clone())];
    if sa.features.nat_traversal && !parts.nat_d.is_empty() {
        sa.path.nat = nat::detect(
            handshake.suite.prf,
            &parts.nat_d,
            sa.cookies(),
            scope.host.local_for(sa.path.remote.ip()),
            &sa.path,
            forced,
        );
        payloads.extend(nat::payloads(
            handshake.suite.prf,
            sa.cookies(),
            scope.host.local_for(sa.path.remote.ip()),
            &sa.path,
            forced,
        ));
    }
    let message = encode_message(sa.header(ExchangeType::MAIN, 0), &payloads);
    sa.answer(scope.host, datagram.digest, message);
    let exchanged =
        candidate::has_others(scope, sa, &handshake.suite).then(|| Exchanged::new(secret, &nonces));
    Ok((secrets, exchanged))
}

pub(super) fn required_public<'a>(parts: &'a Parts, handshake: &Handshake) -> Result<&'a [u8], Fault> {
    let public = parts.ke.as_deref().ok_or(Fault::Missing("KE"))?;
    if public.len() == public_len(handshake.suite.dh) {
        Ok(public)
    } else {
        Err(Fault::Invalid("the public value"))
    }
}

/// Message 4.
fn on_key_answer(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    sent: &KeSent,
    datagram: &Datagram<'_>,
) -> Result<Secrets, Fault> {
    let parts = read(datagram.header, datagram.bytes)?;
    let public = required_public(&parts, &sent.handshake)?;
    let nonce_responder = parts.nonce.as_deref().ok_or(Fault::Missing("nonce"))?;
    let secret = sent
        .dh
        .agree(public)
        .map_err(|_| Fault::Invalid("the public value"))?;
    let connection = scope.connection_of(sa)?;
    let patience = connection.patience();
    let forced = connection.config.force_encapsulation;
    let psk = connection.config.psk.clone();
    let nonces = Nonces {
        initiator: &sent.nonce,
        responder: nonce_responder,
    };
    let exchange = Exchange {
        public_initiator: sent.dh.public(),
        public_responder: public,
        secret: &secret,
        nonces: &nonces,
    };
    let mut secrets = Secrets::derive(&sent.handshake.suite, &psk, &exchange, sa.cookies())?;
    if sa.features.nat_traversal && !parts.nat_d.is_empty() {
        sa.path.nat = nat::detect(
            sent.handshake.suite.prf,
            &parts.nat_d,
            sa.cookies(),
            scope.host.local_for(sa.path.remote.ip()),
            &sa.path,
            forced,
        );
    }
    let floats = sa.path.local_port == IKE_PORT;
    if floats && sa.path.nat.encapsulates() && sa.features.nat_traversal {
        sa.path.local_port = NAT_PORT;
        sa.path.remote.set_port(NAT_PORT);
    }
    let contact = scope.is_initial_contact;
    let message = identity_message(scope, sa, &sent.handshake, &mut secrets, contact)?;
    sa.ask(scope.host, message, patience, scope.now);
    Ok(secrets)
}

/// Message 5 or 6, by our role.
fn identity_message(
    scope: &mut Scope<'_>,
    sa: &Sa,
    handshake: &Handshake,
    secrets: &mut Secrets,
    initial_contact: bool,
) -> Result<Vec<u8>, Fault> {
    let connection = scope.connection_of(sa)?;
    let id = identity::encode(&connection.config.local_identity);
    let hash = proof(sa, handshake, secrets, sa.role, &id_body(&id));
    let mut payloads = vec![Payload::Id(id), Payload::Hash(hash)];
    if initial_contact {
        payloads.push(Payload::Notify(NotifyPayload::new(
            ProtocolId::ISAKMP,
            sa.spi(),
            NotifyType::INITIAL_CONTACT,
            Vec::new(),
        )));
    }
    let header = sa.header(ExchangeType::MAIN, 0);
    Ok(encrypt(
        &secrets.keys,
        &mut secrets.iv,
        header,
        Content::of(&payloads),
    ))
}

/// Message 5: the peer's key and its identity tell which of several connections it means.
fn check_identity(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    answered: &mut KeAnswered,
    datagram: &Datagram<'_>,
) -> Result<(Parts, Vec<u8>), Fault> {
    let secrets = &answered.secrets;
    let read =
        decrypt(&secrets.keys, &secrets.iv, datagram.header, datagram.bytes).and_then(|(parts, iv)| {
            let id = check_proof(sa, &answered.handshake, secrets, &parts, Role::Initiator)?;
            Ok((parts, iv, id))
        });
    let (parts, iv, id) = match read {
        Ok(read) => read,
        Err(fault) => candidate::read_with_another_key(scope, sa, answered, datagram).ok_or(fault)?,
    };
    accept_identity(scope, sa, &answered.handshake.suite, &id)?;
    // From here on the peer is where its authentic message came from.
    sa.path.local_port = datagram.local_port;
    sa.path.remote = datagram.remote;
    Ok((parts, iv))
}

/// Message 6.
fn check_answer(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    sent: &IdSent,
    datagram: &Datagram<'_>,
) -> Result<(Parts, Vec<u8>), Fault> {
    let secrets = &sent.secrets;
    let (parts, iv) = decrypt(&secrets.keys, &secrets.iv, datagram.header, datagram.bytes)?;
    let id = check_proof(sa, &sent.handshake, secrets, &parts, Role::Responder)?;
    expect_identity(scope, sa, &id)?;
    Ok((parts, iv))
}

/// Message 6 where nobody asks any more whose SA it is. Yields the IV that follows.
fn check_unwanted(sa: &Sa, sent: &IdSent, datagram: &Datagram<'_>) -> Result<Vec<u8>, Fault> {
    let secrets = &sent.secrets;
    let (parts, iv) = decrypt(&secrets.keys, &secrets.iv, datagram.header, datagram.bytes)?;
    check_proof(sa, &sent.handshake, secrets, &parts, Role::Responder)?;
    Ok(iv)
}
