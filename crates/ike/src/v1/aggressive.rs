//! Aggressive mode with a pre-shared key (RFC 2409 section 5.4): three messages, identities in clear. Only where a
//! connection allows it: everybody on the way gets a hash to try keys against.

use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::{DhGroup, VpnConnectionId};
use isthmus_wire::isakmp::{ExchangeType, Payload, SaPayload, encode_message};

use super::attributes::offer_ike;
use super::fault::Fault;
use super::main_mode::{agreed, choose, incoming, required_public, vendor_ids};
use super::message::{Content, Parts, decrypt, encrypt, read};
use super::proof::{check_proof, expect_identity, id_body, proof};
use super::sa::{AggressiveSent, Exchange, Handshake, KeAnswered, Sa, SaSent, Secrets, State};
use super::{Datagram, Machine, Scope, identity, nat};
use crate::auth::is_identity;
use crate::channel::Role;
use crate::config::ConnectionConfig;
use crate::endpoint::{IKE_PORT, NAT_PORT};
use crate::error::IkeError;
use crate::keys::Nonces;

/// Sends the first message. All proposals must be in one group: the first of the configuration.
pub(super) fn first(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    config: &ConnectionConfig,
    patience: Duration,
) -> Result<(), Fault> {
    let group = config
        .ike_proposals
        .iter()
        .filter_map(super::attributes::for_version_1)
        .find_map(|proposal| proposal.dh.first().copied())
        .ok_or(IkeError::Internal("no group to begin aggressive mode with"))?;
    let offer = offer_ike(&in_group(config, group), config.ike_lifetime_seconds);
    let dh = PrivateKey::generate(group).map_err(|_| IkeError::Internal("no private value could be made"))?;
    let nonce = scope.host.nonce();
    let id = identity::encode(&config.local_identity);
    let mut sa_body = Vec::new();
    Payload::Sa(offer.clone()).encode_body(&mut sa_body);
    let id_body = id_body(&id);
    let mut payloads = vec![
        Payload::Sa(offer),
        Payload::Ke(dh.public().to_vec()),
        Payload::Nonce(nonce.clone()),
        Payload::Id(id),
    ];
    payloads.extend(vendor_ids());
    let message = encode_message(sa.header(ExchangeType::AGGRESSIVE, 0), &payloads);
    sa.state = State::SaSent(SaSent {
        sa_body,
        aggressive: Some(Box::new(AggressiveSent { dh, nonce, id_body })),
    });
    sa.ask(scope.host, message, patience, scope.now);
    Ok(())
}

fn in_group(config: &ConnectionConfig, group: DhGroup) -> Vec<isthmus_types::IkeProposal> {
    config
        .ike_proposals
        .iter()
        .filter(|proposal| proposal.dh.contains(&group))
        .map(|proposal| isthmus_types::IkeProposal {
            dh: vec![group],
            ..proposal.clone()
        })
        .collect()
}

/// Answers the first message of a peer.
pub(super) fn respond(
    scope: &mut Scope<'_>,
    candidates: &[VpnConnectionId],
    datagram: &Datagram<'_>,
    parts: &Parts,
) -> Result<Sa, Fault> {
    let (offered, sa_body) = parts.sa.as_ref().ok_or(Fault::Missing("SA"))?;
    let [(id, peer_id_body), ..] = parts.ids.as_slice() else {
        return Err(Fault::Missing("ID"));
    };
    // The identity comes in clear: of several connections those are meant that expect it.
    let received = identity::as_version_2(id);
    let meant: Vec<VpnConnectionId> = candidates
        .iter()
        .copied()
        .filter(|candidate| {
            scope
                .connections
                .get(candidate)
                .is_some_and(|connection| is_identity(&received, &connection.config.peer_identity))
        })
        .collect();
    let candidates = if meant.is_empty() { candidates } else { &meant };
    let (connection, chosen) = choose(scope, candidates, offered)?;
    let handshake = Handshake {
        suite: chosen.suite,
        sa_body: sa_body.clone(),
        lifetime: chosen.lifetimes.seconds.map(Duration::from_secs),
    };
    let public = required_public(parts, &handshake)?;
    let nonce_initiator = parts.nonce.as_deref().ok_or(Fault::Missing("nonce"))?;
    let mut sa = incoming(scope, connection, datagram);
    let made = answer(
        scope,
        &mut sa,
        &Asked {
            id,
            nonce: nonce_initiator,
            public,
        },
        &handshake,
        chosen.answer,
        parts,
    );
    let (secrets, message) = match made {
        Ok(made) => made,
        Err(fault) => {
            scope.host.free_ike_spi(sa.local_cookie);
            return Err(fault);
        }
    };
    sa.state = State::AggressiveAnswered(Box::new(KeAnswered {
        handshake,
        secrets,
        id_body: peer_id_body.clone(),
        exchanged: None,
    }));
    sa.answer(scope.host, datagram.digest, message);
    Ok(sa)
}

struct Asked<'a> {
    id: &'a isthmus_wire::isakmp::Identification,
    nonce: &'a [u8],
    public: &'a [u8],
}

fn answer(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    asked: &Asked<'_>,
    handshake: &Handshake,
    chosen: isthmus_wire::isakmp::Proposal,
    parts: &Parts,
) -> Result<(Secrets, Vec<u8>), Fault> {
    expect_identity(scope, sa, asked.id)?;
    sa.features.learn(&parts.vendor_ids);
    let dh = PrivateKey::generate(handshake.suite.dh)
        .map_err(|_| IkeError::Internal("no private value could be made"))?;
    let secret = dh
        .agree(asked.public)
        .map_err(|_| Fault::Invalid("the public value"))?;
    let config = scope.connection_of(sa)?.config.clone();
    let nonce = scope.host.nonce();
    let nonces = Nonces {
        initiator: asked.nonce,
        responder: &nonce,
    };
    let exchange = Exchange {
        public_initiator: asked.public,
        public_responder: dh.public(),
        secret: &secret,
        nonces: &nonces,
    };
    let secrets = Secrets::derive(&handshake.suite, &config.psk, &exchange, sa.cookies())?;
    let own_id = identity::encode(&config.local_identity);
    let hash = proof(sa, handshake, &secrets, Role::Responder, &id_body(&own_id));
    let mut payloads = vec![
        Payload::Sa(SaPayload::ipsec(vec![chosen])),
        Payload::Ke(dh.public().to_vec()),
        Payload::Nonce(nonce),
        Payload::Id(own_id),
        Payload::Hash(hash),
    ];
    payloads.extend(vendor_ids());
    if sa.features.nat_traversal {
        payloads.extend(nat::payloads(
            handshake.suite.prf,
            sa.cookies(),
            scope.host.local_for(sa.path.remote.ip()),
            &sa.path,
            config.force_encapsulation,
        ));
    }
    let message = encode_message(sa.header(ExchangeType::AGGRESSIVE, 0), &payloads);
    Ok((secrets, message))
}

/// Message 2 or 3.
pub(super) fn on_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    match std::mem::replace(&mut sa.state, State::Dead) {
        State::SaSent(SaSent {
            sa_body,
            aggressive: Some(sent),
        }) => match on_answer(scope, sa, &sa_body, &sent, datagram) {
            Ok((handshake, secrets, parts)) => {
                machine.establish(scope, sa, handshake, secrets, &parts);
                Ok(())
            }
            Err(fault) => {
                sa.state = State::SaSent(SaSent {
                    sa_body,
                    aggressive: Some(sent),
                });
                Err(fault)
            }
        },
        State::AggressiveAnswered(answered) => match on_proof(scope, sa, &answered, datagram) {
            Ok((parts, iv)) => {
                machine.establish(scope, sa, answered.handshake, answered.secrets.after(iv), &parts);
                Ok(())
            }
            Err(fault) => {
                sa.state = State::AggressiveAnswered(answered);
                Err(fault)
            }
        },
        other @ (State::Dead
        | State::Established(_)
        | State::IdSent(_)
        | State::KeAnswered(_)
        | State::KeSent(_)
        | State::SaAnswered(_)
        | State::SaSent(_)) => {
            sa.state = other;
            Ok(())
        }
    }
}

/// Message 2: everything of the responder. Message 3 follows, encrypted.
fn on_answer(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    sa_body: &[u8],
    sent: &AggressiveSent,
    datagram: &Datagram<'_>,
) -> Result<(Handshake, Secrets, Parts), Fault> {
    let parts = read(datagram.header, datagram.bytes)?;
    let (answer, _) = parts.sa.as_ref().ok_or(Fault::Missing("SA"))?;
    let connection = scope.connection_of(sa)?;
    let handshake = agreed(connection, answer, sa_body)?;
    let config = connection.config.clone();
    let public = required_public(&parts, &handshake)?;
    let nonce_responder = parts.nonce.as_deref().ok_or(Fault::Missing("nonce"))?;
    if handshake.suite.dh != sent.dh.group() {
        return Err(Fault::Invalid("the group"));
    }
    let secret = sent
        .dh
        .agree(public)
        .map_err(|_| Fault::Invalid("the public value"))?;
    sa.remote_cookie = datagram.header.responder_cookie;
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
    let mut secrets = Secrets::derive(&handshake.suite, &config.psk, &exchange, sa.cookies())?;
    let checked = check_proof(sa, &handshake, &secrets, &parts, Role::Responder)
        .and_then(|id| expect_identity(scope, sa, &id));
    if let Err(fault) = checked {
        sa.remote_cookie = isthmus_wire::ike::IkeSpi::ZERO;
        return Err(fault);
    }
    sa.features.learn(&parts.vendor_ids);
    let hash = proof(sa, &handshake, &secrets, Role::Initiator, &sent.id_body);
    let mut payloads = vec![Payload::Hash(hash)];
    if sa.features.nat_traversal && !parts.nat_d.is_empty() {
        let (function, cookies) = (handshake.suite.prf, sa.cookies());
        let local = scope.host.local_for(sa.path.remote.ip());
        let forced = config.force_encapsulation;
        sa.path.nat = nat::detect(function, &parts.nat_d, cookies, local, &sa.path, forced);
        payloads.extend(nat::payloads(function, cookies, local, &sa.path, forced));
        if sa.path.local_port == IKE_PORT && sa.path.nat.encapsulates() {
            sa.path.local_port = NAT_PORT;
            sa.path.remote.set_port(NAT_PORT);
        }
    }
    let header = sa.header(ExchangeType::AGGRESSIVE, 0);
    let message = encrypt(&secrets.keys, &mut secrets.iv, header, Content::of(&payloads));
    sa.answer(scope.host, datagram.digest, message);
    Ok((handshake, secrets, parts))
}

/// Message 3.
fn on_proof(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    answered: &KeAnswered,
    datagram: &Datagram<'_>,
) -> Result<(Parts, Vec<u8>), Fault> {
    let secrets = &answered.secrets;
    let encrypted = datagram.is_encrypted();
    let (parts, iv) = if encrypted {
        decrypt(&secrets.keys, &secrets.iv, datagram.header, datagram.bytes)?
    } else {
        (read(datagram.header, datagram.bytes)?, secrets.iv.clone())
    };
    let received = parts.hash.as_deref().ok_or(Fault::Missing("hash"))?;
    let expected = proof(
        sa,
        &answered.handshake,
        secrets,
        Role::Initiator,
        &answered.id_body,
    );
    if !isthmus_crypto::prf::constant_time_equal(received, &expected) {
        return Err(Fault::Hash);
    }
    if sa.features.nat_traversal && !parts.nat_d.is_empty() {
        let config_forced = scope.connection_of(sa)?.config.force_encapsulation;
        // The payloads speak of the addresses that the message has now.
        sa.path.local_port = datagram.local_port;
        sa.path.remote = datagram.remote;
        let local = scope.host.local_for(datagram.remote.ip());
        // They were made before the ports changed.
        let mut seen = sa.path;
        if datagram.local_port == NAT_PORT && datagram.remote.port() == NAT_PORT {
            seen.local_port = IKE_PORT;
            seen.remote.set_port(IKE_PORT);
        }
        sa.path.nat = nat::detect(
            answered.handshake.suite.prf,
            &parts.nat_d,
            sa.cookies(),
            local,
            &seen,
            config_forced,
        );
    }
    Ok((parts, iv))
}
