//! The end that is asked for a Child SA.

use std::time::Duration;

use isthmus_crypto::dh::{PrivateKey, public_len};
use isthmus_wire::isakmp::{
    Attribute, ExchangeType, NotifyPayload, NotifyType, Payload, ProtocolId, SaPayload,
};

use super::install::install;
use super::{Agreement, AnsweredQuick, Quick, chosen_spi, mode};
use crate::algorithm::EspSuite;
use crate::channel::Role;
use crate::connection::Connection;
use crate::error::IkeError;
use crate::event::OutboundUse;
use crate::evidence;
use crate::finding::{End, FindingKind};
use crate::keys::Nonces;
use crate::negotiate::KeyExchange;
use crate::selector;
use crate::v1::attributes::{Chosen, Mode, describe_esp, esp_seconds, is_transport, pick_esp};
use crate::v1::fault::Fault;
use crate::v1::message::{Content, Parts, decrypt, encrypt};
use crate::v1::sa::{Answered, Request, Sa};
use crate::v1::tunnel::Pair;
use crate::v1::{Datagram, Machine, Scope, identity};

/// Exchanges of a peer that may be under way at once.
const MAX_ANSWERED: usize = 128;
/// For how long an answer waits for the third message.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// The first message of a peer.
pub(super) fn on_first(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let id = datagram.header.message_id;
    let mode = mode(sa);
    let established = sa
        .established()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let keys = &established.keys;
    let iv = keys.exchange_iv(&established.last_block, id);
    let (parts, iv) = decrypt(keys, &iv, datagram.header, datagram.bytes)?;
    parts.check_hash(|rest| keys.hash_1(id, rest))?;
    // Authentic from here on.
    let under_way = established
        .quick
        .values()
        .filter(|quick| matches!(quick, Quick::Answered(_)))
        .count();
    let now = scope.now;
    if let Some(established) = sa.established_mut() {
        established.last_heard = now;
        established.used.insert(id);
    }
    if under_way >= MAX_ANSWERED {
        return Ok(());
    }
    let own = scope.host.local_for(sa.path.remote.ip());
    let connection = scope.connection_of(sa)?;
    let (chosen, offered) = choose(connection, &parts, mode)?;
    evidence::on_common_proposal(connection, KeyExchange::Negotiated);
    let pair = wanted_pair(connection, sa, &parts, own)?;
    let outbound_spi = chosen_spi(&chosen)?;
    let nonce_initiator = parts.nonce.as_deref().ok_or(Fault::Missing("nonce"))?;
    let (dh, secret) = match (chosen.suite.pfs, parts.ke.as_deref()) {
        (Some(group), Some(public)) if public.len() == public_len(group) => {
            let dh = PrivateKey::generate(group)
                .map_err(|_| IkeError::Internal("no private value could be made"))?;
            let secret = dh.agree(public).map_err(|_| Fault::Invalid("the public value"))?;
            (Some(dh), Some(secret))
        }
        (Some(_), _) => return Err(Fault::Invalid("the public value")),
        (None, Some(_)) => {
            let kind = evidence::no_esp_proposal(
                &connection.config,
                &describe_esp(offered),
                KeyExchange::Negotiated,
            );
            return Err(Fault::Found(NotifyType::NO_PROPOSAL_CHOSEN, Box::new(kind)));
        }
        (None, None) => (None, None),
    };
    let ours = connection.config.esp_lifetime_seconds;
    let replaces = machine.known_to_peer(sa.connection, &pair);
    let nonce = scope.host.nonce();
    let inbound_spi = scope.host.new_esp_spi();
    let mut answer = chosen.answer.clone();
    answer.spi = inbound_spi.to_be_bytes().to_vec();
    let mut payloads = vec![
        Payload::Sa(SaPayload::ipsec(vec![answer])),
        Payload::Nonce(nonce.clone()),
    ];
    if let Some(dh) = &dh {
        payloads.push(Payload::Ke(dh.public().to_vec()));
    }
    payloads.extend(parts.ids.iter().map(|(id, _)| Payload::Id(id.clone())));
    if chosen
        .lifetimes
        .seconds
        .is_some_and(|theirs| theirs > u64::from(ours))
    {
        payloads.push(Payload::Notify(NotifyPayload::new(
            ProtocolId::ESP,
            inbound_spi.to_be_bytes().to_vec(),
            NotifyType::RESPONDER_LIFETIME,
            Attribute::encode_list(&esp_seconds(ours)),
        )));
    }
    let agreement = Agreement {
        pair,
        suite: chosen.suite,
        inbound_spi,
        outbound_spi,
        secret: secret.as_ref().map(|secret| secret.as_slice()),
        nonces: Nonces {
            initiator: nonce_initiator,
            responder: &nonce,
        },
        begun_by: Role::Responder,
        lifetimes: chosen.lifetimes,
        replaces,
        outbound_use: OutboundUse::Wait,
    };
    let child = install(machine, scope, sa, agreement)?;
    let header = sa.header(ExchangeType::QUICK, id);
    let path = sa.path;
    let established = sa
        .established_mut()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let keys = &established.keys;
    let mut iv = iv;
    let content = Content::hashed(&payloads, |rest| keys.hash_2(id, nonce_initiator, rest));
    let message = encrypt(keys, &mut iv, header, content);
    scope.host.send(&path, message.clone());
    let request = Request::new(scope.host, message.clone(), ANSWER_PATIENCE, now);
    established.quick.insert(
        id,
        Quick::Answered(Box::new(AnsweredQuick {
            child,
            request,
            first: Answered::new(datagram.digest, message),
            nonce_initiator: nonce_initiator.to_vec(),
            nonce_responder: nonce,
            iv,
        })),
    );
    Ok(())
}

fn choose<'a>(
    connection: &Connection,
    parts: &'a Parts,
    mode: Mode,
) -> Result<(Chosen<EspSuite>, &'a SaPayload), Fault> {
    let (offered, _) = parts.sa.as_ref().ok_or(Fault::Missing("SA"))?;
    if let Some(chosen) = pick_esp(&connection.config.esp_proposals, offered, mode) {
        return Ok((chosen, offered));
    }
    let kind = if is_transport(offered) {
        FindingKind::TransportModeAsked { refused: true }
    } else {
        evidence::no_esp_proposal(
            &connection.config,
            &describe_esp(offered),
            KeyExchange::Negotiated,
        )
    };
    Err(Fault::Found(NotifyType::NO_PROPOSAL_CHOSEN, Box::new(kind)))
}

/// The pair that the peer asks for, if it is one of ours: there is no narrowing in IKEv1.
fn wanted_pair(
    connection: &Connection,
    sa: &Sa,
    parts: &Parts,
    own: std::net::IpAddr,
) -> Result<Pair, Fault> {
    let config = &connection.config;
    let asked = match parts.ids.as_slice() {
        [] => Some(Pair {
            local: identity::host(own),
            remote: identity::host(sa.path.remote.ip()),
        }),
        [(theirs, _), (ours, _)] => identity::decode_selector(ours)
            .zip(identity::decode_selector(theirs))
            .map(|(local, remote)| Pair { local, remote }),
        [_] | [_, _, _, ..] => return Err(Fault::Missing("ID")),
    };
    let wanted = Pair::wanted(config);
    if let Some(pair) = asked.clone().filter(|pair| wanted.contains(pair)) {
        return Ok(pair);
    }
    let local = selector::configured(&config.local_cidrs);
    let remote = selector::configured(&config.peer_cidrs);
    let (end, ours, theirs) = match &asked {
        Some(pair) if !local.contains(&pair.local) => (Some(End::Ours), local, Some(pair.local.to_string())),
        Some(pair) => (Some(End::Peers), remote, Some(pair.remote.to_string())),
        None => (None, local, None),
    };
    Err(Fault::Found(
        NotifyType::INVALID_ID_INFORMATION,
        Box::new(FindingKind::SelectorsRefused {
            by: End::Ours,
            end,
            ours: selector::describe(&ours),
            theirs,
        }),
    ))
}
