//! Informational exchanges (RFC 2409 section 5.7): single messages that nobody answers. One under an established SA counts
//! only with a valid hash; one in clear is no more than a hint.

use isthmus_wire::isakmp::{
    DeletePayload, ExchangeType, IsakmpHeader, NotifyPayload, NotifyType, Payload, ProtocolId, encode_message,
};

use super::attributes::{describe_ike, esp_lifetimes, ike_lifetimes, offer_ike};
use super::fault::Fault;
use super::message::{Content, Parts, decrypt, encrypt, read};
use super::quick::{Quick, describe_groups, groups_of, new_message_id};
use super::sa::{Established, Sa, Secrets, State};
use super::{Datagram, Machine, Scope};
use crate::channel::Role;
use crate::evidence;
use crate::finding::{End, EventKind, FindingKind, Layer};
use crate::host::Host;
use crate::negotiate::{KeyExchange, describe, offer_esp};
use crate::status::DownReason;

/// Message ids of one SA that are remembered: far more than an honest peer uses.
const MAX_USED: usize = 1 << 16;

/// Sends payloads under an established SA.
pub(super) fn send(host: &mut Host, sa: &mut Sa, payloads: &[Payload]) {
    if let Some(message) = protect(host, sa, payloads) {
        host.send(&sa.path, message);
    }
}

/// The message with payloads under an established SA.
pub(super) fn protect(host: &mut Host, sa: &mut Sa, payloads: &[Payload]) -> Option<Vec<u8>> {
    let header = sa.header(ExchangeType::INFORMATIONAL, 0);
    let established = sa.established_mut()?;
    let message_id = new_message_id(host, established);
    let keys = &established.keys;
    let mut iv = keys.exchange_iv(&established.last_block, message_id);
    let content = Content::hashed(payloads, |rest| keys.hash_1(message_id, rest));
    let header = IsakmpHeader { message_id, ..header };
    Some(encrypt(keys, &mut iv, header, content))
}

/// Tells the peer of an error: protected under an established SA, else in clear.
pub(super) fn complain(host: &mut Host, sa: &mut Sa, notify_type: NotifyType, protocol: ProtocolId) {
    let notify = Payload::Notify(NotifyPayload::new(protocol, Vec::new(), notify_type, Vec::new()));
    if sa.established().is_some() {
        send(host, sa, &[notify]);
    } else {
        let id = rand::Rng::next_u32(&mut host.rng) | 1;
        let message = encode_message(sa.header(ExchangeType::INFORMATIONAL, id), &[notify]);
        host.send(&sa.path, message);
    }
}

/// Tells the peer that a Child SA is gone.
pub(super) fn delete_child(host: &mut Host, sa: &mut Sa, inbound_spi: u32) {
    let spi = inbound_spi.to_be_bytes().to_vec();
    send(
        host,
        sa,
        &[Payload::Delete(DeletePayload::one(ProtocolId::ESP, spi))],
    );
}

/// R-U-THERE.
pub(super) fn probe(host: &mut Host, sa: &mut Sa, sequence: u32) {
    let notify = NotifyPayload::new(
        ProtocolId::ISAKMP,
        sa.spi(),
        NotifyType::R_U_THERE,
        sequence.to_be_bytes().to_vec(),
    );
    send(host, sa, &[Payload::Notify(notify)]);
}

/// An informational message for an SA that there is.
pub(super) fn on_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let id = datagram.header.message_id;
    match &mut sa.state {
        State::Established(established) => {
            if !datagram.is_encrypted() || id == 0 || established.used.contains(&id) {
                return Ok(());
            }
            let keys = &established.keys;
            let iv = keys.exchange_iv(&established.last_block, id);
            let (parts, _) = decrypt(keys, &iv, datagram.header, datagram.bytes)?;
            parts.check_hash(|rest| keys.hash_1(id, rest))?;
            if established.used.len() >= MAX_USED {
                return Ok(());
            }
            established.used.insert(id);
            established.last_heard = scope.now;
            machine.on_authentic(scope, sa, datagram);
            act(machine, scope, sa, &parts);
        }
        State::IdSent(sent) if datagram.is_encrypted() => {
            // An authentic refusal ends the attempt; what cannot be read was encrypted with other keys.
            match open_early(&sent.secrets, datagram) {
                Ok(parts) => refused(machine, scope, sa, &parts),
                Err(_) => hint_of_key(scope, sa, "it answered with a message under other keys"),
            }
        }
        State::IdSent(_)
        | State::KeSent(_)
        | State::SaSent(_)
        | State::KeAnswered(_)
        | State::AggressiveAnswered(_)
            if !datagram.is_encrypted() =>
        {
            let parts = read(datagram.header, datagram.bytes)?;
            hint(scope, sa, &parts);
            let refused = parts
                .notifies
                .iter()
                .any(|notify| notify.notify_type == NotifyType::NO_PROPOSAL_CHOSEN);
            if refused && matches!(&sa.state, State::SaSent(sent) if sent.aggressive.is_none()) {
                machine.offer_more(scope, sa);
            }
        }
        State::AggressiveAnswered(_)
        | State::Dead
        | State::IdSent(_)
        | State::KeAnswered(_)
        | State::KeSent(_)
        | State::SaAnswered(_)
        | State::SaSent(_) => {}
    }
    Ok(())
}

fn open_early(secrets: &Secrets, datagram: &Datagram<'_>) -> Result<Parts, Fault> {
    let keys = &secrets.keys;
    let id = datagram.header.message_id;
    let iv = keys.exchange_iv(&secrets.iv, id);
    let (parts, _) = decrypt(keys, &iv, datagram.header, datagram.bytes)?;
    parts.check_hash(|rest| keys.hash_1(id, rest))?;
    Ok(parts)
}

/// The pre-shared keys probably differ.
pub(super) fn hint_of_key(scope: &mut Scope<'_>, sa: &Sa, sign: &str) {
    let peer = sa.path.remote;
    if let Ok(connection) = scope.connection_of(sa) {
        connection.suspect(FindingKind::KeyDoubted {
            peer,
            sign: sign.into(),
        });
        scope.touch(sa.connection);
    }
}

/// The peer refused our identity, provably.
fn refused(machine: &mut Machine, scope: &mut Scope<'_>, sa: &mut Sa, parts: &Parts) {
    let Some(error) = parts.notifies.iter().find(|notify| notify.notify_type.is_error()) else {
        return;
    };
    let error = error.notify_type;
    if let Ok(connection) = scope.connection_of(sa) {
        let kind = FindingKind::AuthenticationRefusedByPeer {
            identity: connection.config.local_identity.to_string(),
            asked: None,
            suspects: if error == NotifyType::INVALID_ID_INFORMATION {
                vec!["local_identity", "peer_identity"]
            } else {
                vec!["local_identity", "psk"]
            },
        };
        connection.diary.find(kind);
    }
    machine.fail_attempt(scope, sa);
}

/// A notification in clear during a handshake: nobody vouches for it, so it only goes into the diary.
fn hint(scope: &mut Scope<'_>, sa: &Sa, parts: &Parts) {
    let Some(error) = parts
        .notifies
        .iter()
        .map(|notify| notify.notify_type)
        .find(|notify_type| notify_type.is_error())
    else {
        return;
    };
    let proved = matches!(
        sa.state,
        State::IdSent(_) | State::KeAnswered(_) | State::AggressiveAnswered(_)
    );
    evidence::heard(&mut scope.context(sa.connection), sa.path.remote);
    let Ok(connection) = scope.connection_of(sa) else {
        return;
    };
    let kind = match error {
        NotifyType::NO_PROPOSAL_CHOSEN if !proved => {
            let config = &connection.config;
            let offered = offer_ike(&config.ike_proposals, config.ike_lifetime_seconds);
            FindingKind::NoProposalInCommon {
                layer: Layer::Ike,
                ours: describe(&describe_ike(&offered)),
                theirs: None,
            }
        }
        NotifyType::INVALID_ID_INFORMATION => FindingKind::AuthenticationRefusedByPeer {
            identity: connection.config.local_identity.to_string(),
            asked: None,
            suspects: vec!["local_identity", "peer_identity"],
        },
        NotifyType::AUTHENTICATION_FAILED
        | NotifyType::INVALID_HASH_INFORMATION
        | NotifyType::INVALID_KEY_INFORMATION
        | NotifyType::PAYLOAD_MALFORMED
            if proved =>
        {
            FindingKind::KeyDoubted {
                peer: sa.path.remote,
                sign: format!("it answered our proof with {error:?}"),
            }
        }
        other => FindingKind::Other {
            reason: DownReason::Negotiating,
            detail: format!("the peer at {} answered with {other:?}", sa.path.remote),
        },
    };
    connection.diary.find(kind);
    scope.touch(sa.connection);
}

fn act(machine: &mut Machine, scope: &mut Scope<'_>, sa: &mut Sa, parts: &Parts) {
    let own_spi = sa.spi();
    for notify in &parts.notifies {
        on_notify(machine, scope, sa, notify);
    }
    for delete in &parts.deletes {
        match delete.protocol {
            ProtocolId::ESP => {
                let spis: Vec<u32> = delete
                    .spis
                    .iter()
                    .filter_map(|spi| spi.as_slice().try_into().ok().map(u32::from_be_bytes))
                    .collect();
                for spi in spis {
                    machine.child_deleted(scope, sa.connection, spi);
                }
            }
            ProtocolId::ISAKMP if delete.spis.contains(&own_spi) => {
                let age = sa.established().map_or(std::time::Duration::ZERO, |established| {
                    scope.now.saturating_duration_since(established.established_at)
                });
                let superseded = !sa.is_live();
                let now = scope.now;
                if let Ok(connection) = scope.connection_of(sa) {
                    connection.diary.note(EventKind::IkeDeleted { by: End::Peers });
                    if !superseded {
                        evidence::on_peers_end(connection, Layer::Ike, age);
                        connection.ike_pause.at_least(super::AFTER_DELETE, now);
                    }
                }
                machine.drop_sa(scope, sa);
            }
            _ => {}
        }
    }
}

fn on_notify(machine: &mut Machine, scope: &mut Scope<'_>, sa: &mut Sa, notify: &NotifyPayload) {
    let now = scope.now;
    match notify.notify_type {
        NotifyType::R_U_THERE if notify.data.len() == 4 => {
            let ack = NotifyPayload::new(
                ProtocolId::ISAKMP,
                sa.spi(),
                NotifyType::R_U_THERE_ACK,
                notify.data.clone(),
            );
            send(scope.host, sa, &[Payload::Notify(ack)]);
        }
        NotifyType::R_U_THERE_ACK => {
            if let Some(established) = sa.established_mut()
                && established
                    .probe
                    .as_ref()
                    .is_some_and(|probe| notify.data == probe.sequence.to_be_bytes())
            {
                established.probe = None;
                if established.is_kept_spare() {
                    machine.use_spare(scope, sa);
                }
            }
        }
        NotifyType::INITIAL_CONTACT => machine.forget_older(scope, sa),
        NotifyType::RESPONDER_LIFETIME => {
            let Ok(attributes) = isthmus_wire::isakmp::Attribute::decode_list(&notify.data) else {
                return;
            };
            if notify.protocol == ProtocolId::ISAKMP {
                if let (Some(established), Some(seconds)) =
                    (sa.established_mut(), ike_lifetimes(&attributes).seconds)
                {
                    shorten(established, seconds, now);
                }
            } else if let Some(seconds) = esp_lifetimes(&attributes).seconds {
                machine.shorten_child(scope, sa.connection, &notify.spi, seconds);
            }
        }
        NotifyType::CONNECTED => {
            let waiting: Vec<_> = sa
                .established_mut()
                .into_iter()
                .flat_map(|established| established.quick.values_mut())
                .filter_map(|quick| match quick {
                    Quick::Done { commit, .. } => commit.take().map(|commit| commit.child),
                    Quick::Answered(_) | Quick::Asked(_) => None,
                })
                .collect();
            for child in waiting {
                machine.make_ready(scope, sa.connection, child);
            }
        }
        error if error.is_error() => quick_refused(machine, scope, sa, notify),
        _ => {}
    }
}

fn shorten(established: &mut Established, seconds: u64, now: std::time::Instant) {
    let lifetime = std::time::Duration::from_secs(seconds.clamp(60, u64::from(u32::MAX)));
    let expire_at = established.established_at + lifetime;
    if expire_at < established.expire_at && expire_at > now {
        established.expire_at = expire_at;
        established.rekey_at = established
            .rekey_at
            .map(|at| at.min(established.established_at + lifetime * 9 / 10));
    }
}

/// The peer refused a quick mode of ours. It rarely says which.
fn quick_refused(machine: &mut Machine, scope: &mut Scope<'_>, sa: &mut Sa, notify: &NotifyPayload) {
    let Some(established) = sa.established_mut() else {
        return;
    };
    let asked: Vec<u32> = established
        .quick
        .iter()
        .filter(|(_, quick)| quick.asks_for().is_some())
        .map(|(id, _)| *id)
        .collect();
    let mut pairs = Vec::new();
    let mut groups = Vec::new();
    for id in asked {
        if let Some(quick) = established.quick.remove(&id) {
            pairs.extend(quick.asks_for().map(ToString::to_string));
            groups.extend(quick.asked_group());
            quick.abandon(scope.host);
        }
    }
    let Ok(connection) = scope.connection_of(sa) else {
        return;
    };
    if pairs.is_empty() {
        return;
    }
    let kind = match notify.notify_type {
        NotifyType::NO_PROPOSAL_CHOSEN
        | NotifyType::ATTRIBUTES_NOT_SUPPORTED
        | NotifyType::BAD_PROPOSAL_SYNTAX => {
            let tunnel = machine.tunnels.entry(connection.id()).or_default();
            groups.retain(|group| !tunnel.refused_groups.contains(group));
            tunnel.refused_groups.extend(groups);
            FindingKind::ProposalOrGroupRefused {
                proposals: describe(&offer_esp(
                    &connection.config.esp_proposals,
                    0,
                    KeyExchange::Absent,
                    false,
                )),
                groups: describe_groups(&groups_of(&connection.config)),
            }
        }
        NotifyType::INVALID_ID_INFORMATION => FindingKind::SelectorsRefused {
            by: End::Peers,
            end: None,
            ours: pairs.join(", "),
            theirs: None,
        },
        other => FindingKind::Other {
            reason: DownReason::IpsecProposalMismatch,
            detail: format!(
                "the peer refused a Child SA for {} with {other:?}",
                pairs.join(", ")
            ),
        },
    };
    connection.diary.find(kind);
    machine.quick_failed(scope, sa.connection);
}

/// Whether a fault of this SA's handshake is a sign that the keys differ.
pub(super) const fn may_be_key(sa: &Sa) -> bool {
    match (&sa.state, sa.role) {
        (State::IdSent(_) | State::KeAnswered(_) | State::AggressiveAnswered(_), _) => true,
        (State::SaSent(sent), Role::Initiator) => sent.aggressive.is_some(),
        (
            State::Dead | State::Established(_) | State::KeSent(_) | State::SaAnswered(_) | State::SaSent(_),
            _,
        ) => false,
    }
}
