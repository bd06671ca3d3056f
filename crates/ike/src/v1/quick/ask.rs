//! The end that asks for a Child SA.

use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::DhGroup;
use isthmus_wire::isakmp::{Attribute, ExchangeType, IsakmpFlags, NotifyPayload, NotifyType, Payload};

use super::install::install;
use super::{Agreement, Asked, Commit, Quick, REMEMBER, REPEAT_AFTER, chosen_spi, mode, new_message_id};
use crate::channel::Role;
use crate::config::ConnectionConfig;
use crate::connection::Connection;
use crate::error::IkeError;
use crate::event::{ChildId, OutboundUse};
use crate::finding::{End, FindingKind};
use crate::keys::Nonces;
use crate::status::DownReason;
use crate::v1::attributes::{Lifetimes, esp_lifetimes, offer_esp, pick_esp, takes};
use crate::v1::fault::Fault;
use crate::v1::message::{Content, Parts, decrypt, encrypt};
use crate::v1::sa::{Answered, Request, Sa};
use crate::v1::tunnel::Pair;
use crate::v1::{Datagram, Machine, Scope, identity};

/// How long we wait before we send on an SA whose responder set the commit bit.
const COMMIT_AT_MOST: Duration = Duration::from_secs(3);
/// How long we go on with the SA that is replaced, unless the peer sends on the new one before: its responder may install that
/// only when it has read our third message.
const HANDOVER: Duration = Duration::from_millis(500);

/// Sends the first message for a pair.
pub(in crate::v1) fn start(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    pair: Pair,
    replaces: Vec<ChildId>,
    group_turn: usize,
) -> Result<(), Fault> {
    let connection = scope.connection_of(sa)?;
    let config = connection.config.clone();
    let patience = connection.patience();
    let group = group_of_turn(&config, group_turn);
    let dh = match group {
        Some(group) => Some(
            PrivateKey::generate(group).map_err(|_| IkeError::Internal("no private value could be made"))?,
        ),
        None => None,
    };
    let spi = scope.host.new_esp_spi();
    let nonce = scope.host.nonce();
    let lifetimes = Lifetimes {
        seconds: Some(u64::from(config.esp_lifetime_seconds)),
        kilobytes: config
            .options
            .esp_lifetime_bytes
            .map(|bytes| (bytes / 1024).max(1)),
    };
    let offer = offer_esp(&config.esp_proposals, group, spi, mode(sa), lifetimes);
    let mut payloads = vec![Payload::Sa(offer), Payload::Nonce(nonce.clone())];
    if let Some(dh) = &dh {
        payloads.push(Payload::Ke(dh.public().to_vec()));
    }
    payloads.push(Payload::Id(identity::encode_selector(&pair.local)));
    payloads.push(Payload::Id(identity::encode_selector(&pair.remote)));
    let header = sa.header(ExchangeType::QUICK, 0);
    let path = sa.path;
    let established = sa
        .established_mut()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let id = new_message_id(scope.host, established);
    let keys = &established.keys;
    let mut iv = keys.exchange_iv(&established.last_block, id);
    let content = Content::hashed(&payloads, |rest| keys.hash_1(id, rest));
    let header = isthmus_wire::isakmp::IsakmpHeader {
        message_id: id,
        ..header
    };
    let message = encrypt(keys, &mut iv, header, content);
    scope.host.send(&path, message.clone());
    let request = Request::new(scope.host, message, patience, scope.now);
    established.quick.insert(
        id,
        Quick::Asked(Box::new(Asked {
            pair,
            replaces,
            request,
            spi,
            group: dh,
            nonce,
            iv,
        })),
    );
    Ok(())
}

/// Groups for perfect forward secrecy that the configuration knows, in its order.
fn group_of_turn(config: &ConnectionConfig, turn: usize) -> Option<DhGroup> {
    let groups = groups_of(config);
    groups.get(turn % groups.len().max(1)).copied().flatten()
}

/// The groups that the configuration allows for perfect forward secrecy, in its order; none where it goes without.
pub(in crate::v1) fn groups_of(config: &ConnectionConfig) -> Vec<Option<DhGroup>> {
    let mut groups: Vec<Option<DhGroup>> = Vec::new();
    for proposal in &config.esp_proposals {
        let choices: Vec<Option<DhGroup>> = if proposal.pfs.is_empty() {
            vec![None]
        } else {
            proposal.pfs.iter().copied().map(Some).collect()
        };
        for group in choices {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    groups
}

/// The same in words.
pub(in crate::v1) fn describe_groups(groups: &[Option<DhGroup>]) -> String {
    let words: Vec<String> = groups
        .iter()
        .map(|group| group.map_or_else(|| "none".into(), |group| group.to_string()))
        .collect();
    words.join(", ")
}

/// The peer accepted this group: if it refused others of ours before, these are of no use.
fn note_group(machine: &mut Machine, connection: &mut Connection, accepted: Option<DhGroup>) {
    let tunnel = machine.tunnels.entry(connection.id()).or_default();
    let refused = std::mem::take(&mut tunnel.refused_groups);
    // What was refused only at times was refused for something else.
    if !refused.is_empty() && !refused.contains(&accepted) {
        connection.diary.find(FindingKind::GroupAccepted {
            refused: describe_groups(&refused),
            accepted: describe_groups(&[accepted]),
        });
    }
}

/// The second message, of the responder.
pub(super) fn on_second(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    asked: &Asked,
    datagram: &Datagram<'_>,
) -> Result<Quick, Fault> {
    let id = datagram.header.message_id;
    let mode = mode(sa);
    let now = scope.now;
    let established = sa
        .established_mut()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let keys = &established.keys;
    let (parts, iv) = decrypt(keys, &asked.iv, datagram.header, datagram.bytes)?;
    parts.check_hash(|rest| keys.hash_2(id, &asked.nonce, rest))?;
    established.last_heard = now;
    let beyond = |detail: &str| {
        Fault::Found(
            NotifyType::NO_PROPOSAL_CHOSEN,
            Box::new(FindingKind::Other {
                reason: DownReason::IpsecProposalMismatch,
                detail: detail.into(),
            }),
        )
    };
    let connection = scope.connection_of(sa)?;
    let (answer, _) = parts
        .sa
        .as_ref()
        .ok_or_else(|| beyond("the peer chose no ESP proposal"))?;
    let single = matches!(answer.proposals.as_slice(), [proposal] if proposal.transforms.len() == 1);
    let group = asked.group.as_ref().map(PrivateKey::group);
    let fitting: Vec<_> = connection
        .config
        .esp_proposals
        .iter()
        .filter(|proposal| takes(proposal, group))
        .cloned()
        .collect();
    let mut chosen = pick_esp(&fitting, answer, mode)
        .filter(|chosen| single && chosen.suite.pfs == group)
        .ok_or_else(|| beyond("the peer chose an ESP proposal that was not offered"))?;
    let outbound_spi = chosen_spi(&chosen)?;
    check_pair(&asked.pair, &parts)?;
    let nonce_responder = parts
        .nonce
        .as_deref()
        .ok_or_else(|| beyond("the peer sent no nonce"))?;
    let secret = match (&asked.group, parts.ke.as_deref()) {
        (Some(dh), Some(public)) => Some(
            dh.agree(public)
                .map_err(|_| beyond("the peer's public value is not valid"))?,
        ),
        (Some(_), None) => return Err(beyond("the peer sent no public value")),
        (None, _) => None,
    };
    chosen.lifetimes.seconds = shortest(chosen.lifetimes.seconds, &parts.notifies);
    let committed = datagram.header.flags.contains(IsakmpFlags::COMMIT);
    let wait = if committed {
        Some(COMMIT_AT_MOST)
    } else {
        (!asked.replaces.is_empty()).then_some(HANDOVER)
    };
    let nonces = Nonces {
        initiator: &asked.nonce,
        responder: nonce_responder,
    };
    let agreement = Agreement {
        pair: asked.pair.clone(),
        suite: chosen.suite,
        inbound_spi: asked.spi,
        outbound_spi,
        secret: secret.as_ref().map(|secret| secret.as_slice()),
        nonces,
        begun_by: Role::Initiator,
        lifetimes: chosen.lifetimes,
        replaces: asked.replaces.clone(),
        outbound_use: wait.map_or(OutboundUse::Now, |_| OutboundUse::Wait),
    };
    let hash = {
        let established = sa
            .established()
            .ok_or(IkeError::Internal("quick mode before phase 1"))?;
        established.keys.hash_3(id, &agreement.nonces)
    };
    note_group(machine, scope.connection_of(sa)?, group);
    let child = install(machine, scope, sa, agreement)?;
    let header = sa.header(ExchangeType::QUICK, id);
    let path = sa.path;
    let established = sa
        .established_mut()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let mut iv = iv;
    let message = encrypt(
        &established.keys,
        &mut iv,
        header,
        Content::of(&[Payload::Hash(hash)]),
    );
    scope.host.send(&path, message.clone());
    if wait.is_none() {
        machine.make_ready(scope, sa.connection, child);
    }
    Ok(Quick::Done {
        last: Some(Answered::new(datagram.digest, message)),
        until: now + REMEMBER,
        commit: wait.map(|wait| Commit {
            child,
            until: now + wait,
            again: (!committed).then_some(now + REPEAT_AFTER),
        }),
    })
}

/// The responder must repeat our ranges.
fn check_pair(asked: &Pair, parts: &Parts) -> Result<(), Fault> {
    let same = match parts.ids.as_slice() {
        [] => true,
        [(ours, _), (theirs, _), ..] => {
            identity::decode_selector(ours).as_ref() == Some(&asked.local)
                && identity::decode_selector(theirs).as_ref() == Some(&asked.remote)
        }
        [_] => false,
    };
    if same {
        return Ok(());
    }
    Err(Fault::Found(
        NotifyType::INVALID_ID_INFORMATION,
        Box::new(FindingKind::SelectorsRefused {
            by: End::Ours,
            end: None,
            ours: asked.to_string(),
            theirs: None,
        }),
    ))
}

/// The shortest of the lifetime agreed on and those that notifications state.
fn shortest(agreed: Option<u64>, notifies: &[NotifyPayload]) -> Option<u64> {
    let stated = notifies
        .iter()
        .filter(|notify| notify.notify_type == NotifyType::RESPONDER_LIFETIME)
        .filter_map(|notify| Attribute::decode_list(&notify.data).ok())
        .filter_map(|attributes| esp_lifetimes(&attributes).seconds);
    agreed.into_iter().chain(stated).min()
}
