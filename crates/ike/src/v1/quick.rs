//! Quick mode (RFC 2409 section 5.5): one pair of ranges, three messages, each encrypted and with a hash.

use std::time::{Duration, Instant};

use isthmus_crypto::dh::{PrivateKey, public_len};
use isthmus_types::DhGroup;
use isthmus_wire::isakmp::{
    Attribute, ExchangeType, IsakmpFlags, NotifyPayload, NotifyType, Payload, ProtocolId, SaPayload,
};

use super::attributes::{
    Chosen, Lifetimes, Mode, describe_esp, esp_lifetimes, esp_seconds, is_transport, offer_esp, pick_esp,
    takes,
};
use super::fault::Fault;
use super::message::{Content, Parts, decrypt, encrypt};
use super::sa::{Answered, Established, Request, Sa};
use super::tunnel::{Child, Pair};
use super::{Datagram, Machine, Scope, identity};
use crate::algorithm::EspSuite;
use crate::channel::Role;
use crate::connection::Connection;
use crate::error::IkeError;
use crate::event::{ChildDirection, ChildId, ChildLifetime, ChildSa, Event, OutboundUse};
use crate::evidence;
use crate::finding::{End, FindingKind};
use crate::host::RESERVED_SPIS;
use crate::keys::Nonces;
use crate::negotiate::KeyExchange;
use crate::sa::rekey_after;
use crate::selector;
use crate::status::DownReason;

/// How long the message ids of exchanges that are over are remembered together with the last message.
const REMEMBER: Duration = Duration::from_secs(60);
/// Exchanges of a peer that may be under way at once.
const MAX_ANSWERED: usize = 128;
/// How long we wait before we send on an SA whose responder set the commit bit.
const COMMIT_AT_MOST: Duration = Duration::from_secs(3);
/// How long we go on with the SA that is replaced, unless the peer sends on the new one before: its responder may install that
/// only when it has read our third message.
const HANDOVER: Duration = Duration::from_millis(500);
/// For how long an answer waits for the third message.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// Shortest lifetime that a peer can impose.
const MIN_LIFETIME: Duration = Duration::from_secs(2);

/// A quick mode that is under way, or was.
pub(super) enum Quick {
    /// We are the responder and wait for the third message.
    Answered(Box<AnsweredQuick>),
    /// We are the initiator and wait for the second message.
    Asked(Box<Asked>),
    /// Over: the same message again gets the same answer.
    Done {
        last: Option<Answered>,
        until: Instant,
        /// A child that waits for word of the responder until then.
        commit: Option<(ChildId, Instant)>,
    },
}

pub(super) struct Asked {
    pub(super) pair: Pair,
    pub(super) replaces: Vec<ChildId>,
    pub(super) request: Request,
    spi: u32,
    group: Option<PrivateKey>,
    nonce: Vec<u8>,
    iv: Vec<u8>,
}

pub(super) struct AnsweredQuick {
    pub(super) child: ChildId,
    pub(super) request: Request,
    first: Answered,
    nonce_initiator: Vec<u8>,
    nonce_responder: Vec<u8>,
    iv: Vec<u8>,
}

impl Quick {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(match self {
            Self::Answered(answered) => answered.request.at,
            Self::Asked(asked) => asked.request.at,
            Self::Done { until, commit, .. } => commit.as_ref().map_or(*until, |(_, at)| (*at).min(*until)),
        })
    }

    pub(super) const fn asks_for(&self) -> Option<&Pair> {
        match self {
            Self::Asked(asked) => Some(&asked.pair),
            Self::Answered(_) | Self::Done { .. } => None,
        }
    }

    /// Gives up what it holds of the host.
    pub(super) fn abandon(self, host: &mut crate::host::Host) {
        if let Self::Asked(asked) = self {
            host.free_esp_spi(asked.spi);
        }
    }
}

/// Sends the first message for a pair.
pub(super) fn start(
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
fn group_of_turn(config: &crate::config::ConnectionConfig, turn: usize) -> Option<DhGroup> {
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
    groups.get(turn % groups.len().max(1)).copied().flatten()
}

/// A message id that was not used on this SA.
pub(super) fn new_message_id(host: &mut crate::host::Host, established: &mut Established) -> u32 {
    loop {
        let id = rand::Rng::next_u32(&mut host.rng);
        if id != 0 && established.used.insert(id) {
            return id;
        }
    }
}

const fn mode(sa: &Sa) -> Mode {
    if sa.path.nat.encapsulates() && sa.features.nat_traversal {
        Mode::UdpTunnel
    } else {
        Mode::Tunnel
    }
}

/// A message of quick mode.
pub(super) fn on_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let id = datagram.header.message_id;
    let path = sa.path;
    let Some(established) = sa.established_mut() else {
        return Ok(());
    };
    if !datagram.is_encrypted() || id == 0 {
        return Ok(());
    }
    match established.quick.remove(&id) {
        None if established.used.contains(&id) => Ok(()),
        None => on_first(machine, scope, sa, datagram),
        Some(Quick::Asked(asked)) => match on_second(machine, scope, sa, &asked, datagram) {
            Ok(done) => {
                if let Some(established) = sa.established_mut() {
                    established.quick.insert(id, done);
                }
                Ok(())
            }
            Err(Fault::Found(notify, kind)) => {
                // Authentic: there is no sense in asking again.
                scope.host.free_esp_spi(asked.spi);
                Err(Fault::Found(notify, kind))
            }
            Err(fault) => {
                if let Some(established) = sa.established_mut() {
                    established.quick.insert(id, Quick::Asked(asked));
                }
                Err(fault)
            }
        },
        Some(Quick::Answered(mut answered)) => {
            if let Some(reply) = answered.first.repeat(&datagram.digest) {
                scope.host.send(&path, reply);
            } else if check_third(established, &answered, datagram).is_ok() {
                established.last_heard = scope.now;
                established.quick.insert(
                    id,
                    Quick::Done {
                        last: None,
                        until: scope.now + REMEMBER,
                        commit: None,
                    },
                );
                let connection = sa.connection;
                machine.make_ready(scope, connection, answered.child);
                return Ok(());
            }
            established.quick.insert(id, Quick::Answered(answered));
            Ok(())
        }
        Some(Quick::Done {
            mut last,
            until,
            commit,
        }) => {
            if let Some(reply) = last.as_mut().and_then(|last| last.repeat(&datagram.digest)) {
                scope.host.send(&path, reply);
            }
            established.quick.insert(id, Quick::Done { last, until, commit });
            Ok(())
        }
    }
}

fn check_third(
    established: &Established,
    answered: &AnsweredQuick,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let keys = &established.keys;
    let (parts, _) = decrypt(keys, &answered.iv, datagram.header, datagram.bytes)?;
    let nonces = Nonces {
        initiator: &answered.nonce_initiator,
        responder: &answered.nonce_responder,
    };
    parts.check_hash(|_| keys.hash_3(datagram.header.message_id, &nonces))
}

/// What both ends know after the second message.
struct Agreement<'a> {
    pair: Pair,
    suite: EspSuite,
    inbound_spi: u32,
    outbound_spi: u32,
    secret: Option<&'a [u8]>,
    nonces: Nonces<'a>,
    begun_by: Role,
    lifetimes: Lifetimes,
    replaces: Vec<ChildId>,
    outbound_use: OutboundUse,
}

/// The first message of a peer.
fn on_first(
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
    let own = scope.host.local;
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
    let replaces = machine.in_use(sa.connection, &pair);
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

fn chosen_spi(chosen: &Chosen<EspSuite>) -> Result<u32, Fault> {
    <[u8; 4]>::try_from(chosen.answer.spi.as_slice())
        .ok()
        .map(u32::from_be_bytes)
        .filter(|spi| *spi > RESERVED_SPIS)
        .ok_or(Fault::Invalid("the SPI"))
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

/// The second message, of the responder.
fn on_second(
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
    let wait = if datagram.header.flags.contains(IsakmpFlags::COMMIT) {
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
        commit: wait.map(|wait| (child, now + wait)),
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

/// Derives the keys, tells the shell to install them, and arms the lifetime.
fn install(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &Sa,
    agreement: Agreement<'_>,
) -> Result<ChildId, Fault> {
    let now = scope.now;
    let established = sa
        .established()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let cipher = agreement.suite.cipher;
    let keys_for = |spi| {
        established
            .keys
            .child(cipher, agreement.secret, spi, &agreement.nonces)
    };
    let id = scope.host.new_child();
    let connection_id = sa
        .connection
        .ok_or(IkeError::Internal("a child without a connection"))?;
    let connection = scope
        .connections
        .get_mut(&connection_id)
        .ok_or(IkeError::Internal("a child without a connection"))?;
    let ours = Duration::from_secs(u64::from(connection.config.esp_lifetime_seconds));
    let expire_after = agreement
        .lifetimes
        .seconds
        .map_or(ours, |seconds| ours.min(Duration::from_secs(seconds)))
        .max(MIN_LIFETIME);
    let rekey_after = connection
        .may_initiate()
        .then(|| rekey_after(expire_after, scope.host));
    evidence::on_child(
        connection,
        &agreement.suite,
        agreement.begun_by,
        agreement.inbound_spi,
    );
    evidence::on_own_exchange(connection);
    let traffic = agreement.pair.traffic();
    if agreement.outbound_use == OutboundUse::Now {
        connection.add_ready(id, &traffic);
    }
    scope.host.owners.insert(id, (connection_id, sa.id));
    scope
        .host
        .events
        .push_back(Event::ChildInstalled(Box::new(ChildSa {
            connection: connection_id,
            child: id,
            suite: cipher,
            sequence_numbers: agreement.suite.sequence_numbers,
            inbound: ChildDirection {
                spi: agreement.inbound_spi,
                keys: keys_for(agreement.inbound_spi),
            },
            outbound: ChildDirection {
                spi: agreement.outbound_spi,
                keys: keys_for(agreement.outbound_spi),
            },
            outbound_use: agreement.outbound_use,
            local_selectors: traffic.local,
            remote_selectors: traffic.remote,
            encapsulation: sa.path.encapsulation(),
            remote: sa.path.remote.ip(),
            lane: 0,
            lifetime: ChildLifetime {
                rekey_after,
                expire_after,
            },
        })));
    let nonces = &agreement.nonces;
    machine.add_child(
        connection_id,
        Child {
            id,
            pair: agreement.pair,
            suite: agreement.suite,
            inbound_spi: agreement.inbound_spi,
            outbound_spi: agreement.outbound_spi,
            begun_by: agreement.begun_by,
            nonce_min: nonces.initiator.min(nonces.responder).to_vec(),
            ready: false,
            waits: agreement.outbound_use == OutboundUse::Wait,
            replaces: agreement.replaces,
            installed_at: now,
            rekey_at: rekey_after.map(|after| now + after),
            expire_at: now + expire_after,
            outdated: false,
            superseded_at: None,
            leaves: false,
            made_under: sa.id,
        },
    );
    Ok(id)
}
