//! CREATE_CHILD_SA that replaces the IKE SA (RFC 7296 sections 1.3.2, 2.18 and 2.25).

use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::{DhGroup, IkeProposal};
use isthmus_wire::ike::{IkeSpi, KePayload, NotifyType, Payload, PayloadType, Proposal};
use zeroize::Zeroizing;

use crate::algorithm::{AdditionalKeyExchanges, IkeSuite, group_id};
use crate::channel::{Channel, Role};
use crate::error::{IkeError, Mismatch, Refusal, Violation};
use crate::evidence;
use crate::exchange::create_child::is_lower;
use crate::exchange::followup_ke::{Awaited, Followup, Turn, Unfinished};
use crate::exchange::ike_sa_init::suggested_group;
use crate::exchange::request;
use crate::finding::{EventKind, Layer};
use crate::host::{Context, Followup as HostFollowup, Host};
use crate::keys::{Nonces, SpiPair, ike_keys, rekey_seed};
use crate::negotiate::{choose_ike, describe, offer_ike};
use crate::parts::{Parts, required};
use crate::sa::{Established, Exchange, IkeSa, Phase, SaId, State, Wants};
use crate::timer::{Timer, Timers};

const MAX_ROUNDS: u32 = 3;

/// An IKE SA that we ask for.
pub(crate) struct IkeAttempt {
    id: SaId,
    spi: IkeSpi,
    nonce: Vec<u8>,
    dh: PrivateKey,
    proposals: Vec<IkeProposal>,
    rounds: u32,
    /// What the peer did meanwhile.
    collision: Option<Collision>,
    followup: Followup,
}

/// An IKE SA that the peer asked for and that was agreed on but for its last secrets.
pub(crate) struct UnfinishedIke {
    ends: Ends,
    suite: IkeSuite,
    nonce_initiator: Vec<u8>,
    nonce_responder: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
}

impl UnfinishedIke {
    /// Forgets it.
    pub(crate) fn abandon(&self, host: &mut Host) {
        host.free_ike_spi(self.ends.local_spi);
    }

    fn collision(&self, sa: Option<SaId>) -> Collision {
        Collision {
            sa,
            nonce_min: self.nonce_initiator.clone().min(self.nonce_responder.clone()),
        }
    }
}

/// The peer replaced the IKE SA that we are replacing.
struct Collision {
    /// Its new IKE SA; none if its key exchanges are not all done.
    sa: Option<SaId>,
    /// The lower nonce of its exchange.
    nonce_min: Vec<u8>,
}

impl IkeAttempt {
    pub(crate) fn abandon(&self, host: &mut Host) {
        host.free_ike_spi(self.spi);
        host.followups
            .extend(self.rival().map(HostFollowup::AwaitRemoval));
    }

    /// As [`IkeAttempt::abandon`], when the peer's IKE SA takes over.
    pub(crate) fn forget(self, host: &mut Host) {
        host.free_ike_spi(self.spi);
    }

    /// The IKE SA that the peer made in the place of the same old one.
    pub(crate) fn rival(&self) -> Option<SaId> {
        self.collision.as_ref().and_then(|collision| collision.sa)
    }

    /// The additional key exchanges that an answer agrees on.
    fn additional(&self, parts: &Parts) -> AdditionalKeyExchanges {
        choose_ike(&self.proposals, parts.sa.as_deref().unwrap_or_default())
            .map_or_else(AdditionalKeyExchanges::default, |chosen| chosen.suite.additional)
    }

    fn payloads(&self) -> Vec<Payload> {
        vec![
            Payload::Sa(offer_ike(&self.proposals, Some(self.spi))),
            Payload::Nonce(self.nonce.clone()),
            Payload::Ke(KePayload {
                method: group_id(self.dh.group()),
                data: self.dh.public().to_vec(),
            }),
        ]
    }
}

/// Begins to replace the IKE SA.
pub(crate) fn begin(
    context: &mut Context<'_>,
    established: &Established,
) -> Result<(Box<IkeAttempt>, Vec<Payload>), IkeError> {
    let connection = context
        .connection
        .as_deref()
        .ok_or(IkeError::Internal("an IKE SA without a connection"))?;
    let dh = generate(established.rekey_group(connection))?;
    let proposals = connection.config.ike_proposals.clone();
    let (id, spi) = context.host.new_sa();
    let attempt = IkeAttempt {
        id,
        spi,
        nonce: context.host.nonce(),
        dh,
        proposals,
        rounds: 0,
        collision: None,
        followup: Followup::default(),
    };
    let payloads = attempt.payloads();
    Ok((Box::new(attempt), payloads))
}

/// Answers a request to replace the IKE SA.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    parts: Parts,
) -> Result<Vec<Payload>, IkeError> {
    let busy = match established
        .outstanding
        .as_ref()
        .map(|outstanding| &outstanding.exchange)
    {
        Some(Exchange::CreateChild(_) | Exchange::DeleteChildren(_) | Exchange::DeleteIke) => true,
        // A second request for the same IKE SA while the first is undecided.
        Some(Exchange::RekeyIke(attempt)) => attempt.collision.is_some() || attempt.followup.has_begun(),
        Some(Exchange::Probe) | None => false,
    };
    if busy || established.phase != Phase::Live {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    let connection = context
        .connection
        .as_deref()
        .ok_or(IkeError::Refused(Refusal::Temporary))?;
    let offered = required(parts.sa, PayloadType::SA)?;
    let nonce_initiator = required(parts.nonce, PayloadType::NONCE)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    let chosen = choose_ike(&connection.config.ike_proposals, &offered)
        .ok_or_else(|| IkeError::Mismatch(Mismatch::Ike(describe(&offered))))?;
    if ke.method != group_id(chosen.suite.dh) {
        return Err(IkeError::Mismatch(Mismatch::Group(chosen.suite.dh)));
    }
    let remote_spi = usable_spi(&chosen.peer_spi)?;
    let dh = generate(chosen.suite.dh)?;
    let secret = dh
        .agree(&ke.data)
        .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    let nonce_responder = context.host.nonce();
    let (id, local_spi) = context.host.new_sa();
    let ends = Ends {
        id,
        local_spi,
        remote_spi,
        role: Role::Responder,
    };
    let unfinished = UnfinishedIke {
        ends,
        suite: chosen.suite,
        nonce_initiator,
        nonce_responder: nonce_responder.clone(),
        secret,
    };
    let mut payloads = vec![
        Payload::Sa(vec![Proposal {
            spi: local_spi.0.to_be_bytes().to_vec(),
            ..chosen.answer
        }]),
        Payload::Nonce(nonce_responder),
        Payload::Ke(KePayload {
            method: ke.method,
            data: dh.public().to_vec(),
        }),
    ];
    if unfinished.suite.additional.is_empty() {
        finish(context, sa, established, &unfinished, &[])?;
    } else {
        if let Some(attempt) = own_attempt(established) {
            attempt.collision = Some(unfinished.collision(None));
        }
        let methods = unfinished.suite.additional;
        let (awaited, link) = Awaited::new(context, methods, Unfinished::Ike(Box::new(unfinished)));
        established.awaited = Some(awaited);
        payloads.push(link);
    }
    Ok(payloads)
}

/// Makes the IKE SA that the peer asked for, when all secrets are there.
pub(crate) fn finish(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    unfinished: &UnfinishedIke,
    additional_secrets: &[u8],
) -> Result<(), IkeError> {
    let id = unfinished.ends.id;
    if let Some(connection) = &mut context.connection {
        let age = context.now.saturating_duration_since(established.established_at);
        evidence::on_peers_end(connection, Layer::Ike, age);
    }
    let made = successor(
        context,
        sa,
        established,
        &unfinished.ends,
        unfinished.suite,
        &Nonces {
            initiator: &unfinished.nonce_initiator,
            responder: &unfinished.nonce_responder,
        },
        (&unfinished.secret, additional_secrets),
    );
    let mut new = match made {
        Ok(new) => new,
        Err(error) => {
            unfinished.abandon(context.host);
            return Err(error);
        }
    };
    if let Some(attempt) = own_attempt(established) {
        attempt.collision = Some(unfinished.collision(Some(id)));
        if let Some(new) = new.established_mut() {
            new.phase = Phase::Pending;
        }
        context
            .host
            .followups
            .push_back(HostFollowup::Insert(Box::new(new)));
    } else {
        context
            .host
            .followups
            .push_back(HostFollowup::Insert(Box::new(new)));
        hand_over(context, established, id);
        context
            .host
            .followups
            .push_back(HostFollowup::AwaitRemoval(sa.id));
    }
    Ok(())
}

/// Our own request to replace the same IKE SA.
fn own_attempt(established: &mut Established) -> Option<&mut IkeAttempt> {
    match &mut established.outstanding.as_mut()?.exchange {
        Exchange::RekeyIke(attempt) => Some(attempt),
        Exchange::CreateChild(_) | Exchange::DeleteChildren(_) | Exchange::DeleteIke | Exchange::Probe => {
            None
        }
    }
}

/// Takes the answer to our request.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    mut attempt: Box<IkeAttempt>,
    parts: Parts,
) -> Result<(), IkeError> {
    if established.phase == Phase::Live
        && let Some(group) = retry_group(&attempt, &parts)
    {
        return retry(context, sa, established, *attempt, group);
    }
    let refused = parts.error().map(|error| error.notify_type);
    let methods = attempt.additional(&parts);
    if !methods.is_empty() && loses_quietly(context, sa, established, &attempt, &parts) {
        return Ok(());
    }
    let accepted = match attempt.followup.advance(methods, parts) {
        Ok(Turn::Answer(parts)) => accept(context, sa, established, &attempt, *parts),
        Ok(Turn::Ask(_)) if established.phase != Phase::Live => {
            // It was to go meanwhile: its successor does not come into being.
            attempt.abandon(context.host);
            return Ok(());
        }
        Ok(Turn::Ask(payloads)) => {
            let exchange = Exchange::RekeyIke(attempt);
            return request::send_followup(context, sa, established, exchange, &payloads);
        }
        Err(error) => Err(error),
    };
    match accepted {
        Ok((mut new, redundant)) => {
            let id = new.id;
            match (attempt.rival(), redundant) {
                (rival, _)
                    if established.phase == Phase::Closing
                        || (rival.is_none() && established.phase != Phase::Live) =>
                {
                    // It was to go meanwhile: so is its successor.
                    if let Some(new) = new.established_mut() {
                        new.phase = Phase::Closing;
                    }
                    context
                        .host
                        .followups
                        .push_back(HostFollowup::Insert(Box::new(new)));
                }
                (Some(rival), true) => {
                    if let Some(new) = new.established_mut() {
                        new.phase = Phase::Closing;
                    }
                    context
                        .host
                        .followups
                        .push_back(HostFollowup::Insert(Box::new(new)));
                    hand_over(context, established, rival);
                    context
                        .host
                        .followups
                        .push_back(HostFollowup::AwaitRemoval(sa.id));
                }
                (rival, _) => {
                    context
                        .host
                        .followups
                        .push_back(HostFollowup::Insert(Box::new(new)));
                    hand_over(context, established, id);
                    established.phase = Phase::Closing;
                    context
                        .host
                        .followups
                        .extend(rival.map(HostFollowup::AwaitRemoval));
                }
            }
        }
        Err(error) => {
            context.host.free_ike_spi(attempt.spi);
            if let Some(rival) = attempt.rival() {
                hand_over(context, established, rival);
                context
                    .host
                    .followups
                    .push_back(HostFollowup::AwaitRemoval(sa.id));
                return Ok(());
            }
            let transient = matches!(
                refused,
                Some(NotifyType::TEMPORARY_FAILURE | NotifyType::STATE_NOT_FOUND)
            );
            if !transient {
                let detail = match refused {
                    Some(notify) => format!("the peer refused to replace the IKE SA with {notify:?}"),
                    None => format!("the IKE SA could not be replaced: {error}"),
                };
                context.complain(error.down_reason(), detail);
            }
            try_again_later(context, sa);
        }
    }
    Ok(())
}

fn try_again_later(context: &mut Context<'_>, sa: &mut IkeSa) {
    let again = context.now + Duration::from_secs(1) + context.host.random_below(Duration::from_secs(3));
    sa.timers.set(Timer::Rekey, again);
}

/// Whether the peer replaces the same IKE SA and its exchange wins: then ours ends before its IKE SA comes into being.
/// If ours wins, the peer does not go on with its own.
fn loses_quietly(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    attempt: &IkeAttempt,
    parts: &Parts,
) -> bool {
    let (Some(collision), Some(nonce_responder)) = (&attempt.collision, &parts.nonce) else {
        return false;
    };
    let nonces = Nonces {
        initiator: &attempt.nonce,
        responder: nonce_responder,
    };
    if !is_lower(&nonces, &collision.nonce_min) {
        established.forget_awaited(context.host);
        return false;
    }
    context.host.free_ike_spi(attempt.spi);
    if let Some(rival) = collision.sa {
        hand_over(context, established, rival);
        context
            .host
            .followups
            .push_back(HostFollowup::AwaitRemoval(sa.id));
    } else {
        // In case the peer does not finish.
        try_again_later(context, sa);
    }
    true
}

/// The children move to the successor; the old IKE SA waits for its removal.
pub(crate) fn hand_over(context: &mut Context<'_>, established: &mut Established, to: SaId) {
    if established.phase == Phase::Live {
        established.phase = Phase::Replaced;
    }
    established.wants = Wants::default();
    established.forget_awaited(context.host);
    context.host.followups.push_back(HostFollowup::Adopt {
        children: std::mem::take(&mut established.children),
        to,
    });
}

fn accept(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &Established,
    attempt: &IkeAttempt,
    parts: Parts,
) -> Result<(IkeSa, bool), IkeError> {
    let beyond = IkeError::Violation(Violation::BeyondRequest);
    let answered = required(parts.sa, PayloadType::SA)?;
    let nonce_responder = required(parts.nonce, PayloadType::NONCE)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    let [one] = answered.as_slice() else {
        return Err(beyond);
    };
    let chosen = choose_ike(&attempt.proposals, std::slice::from_ref(one)).ok_or_else(|| beyond.clone())?;
    if chosen.suite.dh != attempt.dh.group() || ke.method != group_id(chosen.suite.dh) {
        return Err(beyond);
    }
    let remote_spi = usable_spi(&chosen.peer_spi)?;
    let secret = attempt
        .dh
        .agree(&ke.data)
        .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    let nonces = Nonces {
        initiator: &attempt.nonce,
        responder: &nonce_responder,
    };
    let redundant = attempt
        .collision
        .as_ref()
        .is_some_and(|collision| is_lower(&nonces, &collision.nonce_min));
    let ends = Ends {
        id: attempt.id,
        local_spi: attempt.spi,
        remote_spi,
        role: Role::Initiator,
    };
    let additional_secrets = attempt.followup.secrets();
    if chosen.suite.additional.is_empty() != additional_secrets.is_none() {
        return Err(beyond);
    }
    let secrets = (secret.as_slice(), additional_secrets.unwrap_or_default());
    let new = successor(context, sa, established, &ends, chosen.suite, &nonces, secrets)?;
    Ok((new, redundant))
}

struct Ends {
    id: SaId,
    local_spi: IkeSpi,
    remote_spi: IkeSpi,
    role: Role,
}

/// An IKE SA that inherits everything from the old one but keys and message ids.
fn successor(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &Established,
    ends: &Ends,
    suite: IkeSuite,
    nonces: &Nonces<'_>,
    (secret, additional_secrets): (&[u8], &[u8]),
) -> Result<IkeSa, IkeError> {
    let spis = SpiPair::of(ends.role, ends.local_spi, ends.remote_spi);
    let seed = rekey_seed(
        established.suite.prf,
        &established.derive,
        nonces,
        secret,
        additional_secrets,
    );
    let keys = ike_keys(&suite, &seed, nonces, spis)?;
    context.host.tell_keys(spis, suite.cipher, &keys);
    let mut channel = Channel::new(ends.role, spis, &suite, &keys, 0)?;
    channel.set_datagram_limit(established.channel.datagram_limit());
    let successor = Established::new(channel, suite, &keys, nonces, ends.role, context.now);
    let mut new = IkeSa {
        id: ends.id,
        role: ends.role,
        local_spi: ends.local_spi,
        remote_spi: ends.remote_spi,
        path: sa.path,
        connection: sa.connection,
        timers: Timers::default(),
        state: State::Established(Box::new(successor)),
    };
    new.arm_lifetime(context);
    // New keys are no new authentication.
    if let Some(at) = sa.timers.due(Timer::Reauthenticate) {
        new.timers.set(Timer::Reauthenticate, at);
    }
    context.note(EventKind::IkeReplaced {
        by: ends.role.begun_by(),
        suite: suite.to_string(),
    });
    Ok(new)
}

fn retry_group(attempt: &IkeAttempt, parts: &Parts) -> Option<DhGroup> {
    let group = suggested_group(parts.notify(NotifyType::INVALID_KE_PAYLOAD)?)?;
    let offered = attempt
        .proposals
        .iter()
        .any(|proposal| proposal.dh.contains(&group));
    let retry = offered && attempt.dh.group() != group && attempt.rounds < MAX_ROUNDS;
    (retry && attempt.collision.is_none()).then_some(group)
}

fn retry(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    mut attempt: IkeAttempt,
    group: DhGroup,
) -> Result<(), IkeError> {
    attempt.rounds += 1;
    attempt.nonce = context.host.nonce();
    attempt.dh = generate(group)?;
    let payloads = attempt.payloads();
    request::send_create_child(
        context,
        sa,
        established,
        Exchange::RekeyIke(Box::new(attempt)),
        &payloads,
    )
}

fn generate(group: DhGroup) -> Result<PrivateKey, IkeError> {
    PrivateKey::generate(group).map_err(|_| IkeError::Internal("no private value could be made"))
}

fn usable_spi(spi: &[u8]) -> Result<IkeSpi, IkeError> {
    match spi.try_into().map(u64::from_be_bytes) {
        Ok(spi) if spi != 0 => Ok(IkeSpi(spi)),
        Ok(_) | Err(_) => Err(IkeError::Violation(Violation::Spi)),
    }
}
