//! CREATE_CHILD_SA for Child SAs, new or instead of old ones, and the child of IKE_AUTH (RFC 7296 sections 1.3.1,
//! 1.3.3, 2.8, 2.9 and 2.17).

use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::{DhGroup, EspProposal};
use isthmus_wire::ike::{
    KePayload, NotifyPayload, NotifyType, Payload, PayloadType, Proposal, TrafficSelector,
};
use zeroize::Zeroizing;

use crate::algorithm::group_id;
use crate::channel::Role;
use crate::child::{Agreement, Child, ChildPhase, Parent};
use crate::config::ExtendedSequenceNumbers;
use crate::error::{IkeError, Mismatch, Refusal, Violation};
use crate::event::{ChildId, OutboundUse};
use crate::exchange::ike_auth::refusal_reason;
use crate::exchange::ike_sa_init::suggested_group;
use crate::exchange::request;
use crate::host::{Context, GRACE, Host, RESERVED_SPIS};
use crate::keys::Nonces;
use crate::negotiate::{KeyExchange, choose_esp, describe, offer_esp};
use crate::parts::{Parts, required};
use crate::sa::{Established, Exchange, IkeSa, Phase};
use crate::selector;
use crate::status::DownReason;

/// Most children of one IKE SA.
const MAX_CHILDREN: usize = 16;
/// Group retries of one attempt.
const MAX_ROUNDS: u32 = 3;
/// How long the peer may take to delete a child that it replaced.
const REMOVAL_TIME: Duration = Duration::from_secs(10);

/// A child that we ask for.
pub(crate) struct ChildAttempt {
    pub(crate) replaces: Option<ChildId>,
    /// Our inbound SPI.
    pub(crate) spi: u32,
    nonce: Vec<u8>,
    dh: Option<PrivateKey>,
    proposals: Vec<EspProposal>,
    esn: ExtendedSequenceNumbers,
    local: Vec<selector::Selector>,
    remote: Vec<selector::Selector>,
    rounds: u32,
    /// What the peer did with the same child meanwhile.
    collision: Option<Collision>,
}

/// The peer replaced the child that we are replacing.
struct Collision {
    /// Its new child.
    child: ChildId,
    /// The lower nonce of its exchange.
    nonce_min: Vec<u8>,
}

/// A child that we were asked for.
pub(crate) struct ChildRequest {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) ts_initiator: Vec<TrafficSelector>,
    pub(crate) ts_responder: Vec<TrafficSelector>,
    pub(crate) ke: Option<KePayload>,
    pub(crate) exchange: KeyExchange,
}

/// Why an answer gave no child.
pub(crate) struct ChildRefused {
    pub(crate) why: Refused,
    /// The peer believes to have a child with this inbound SPI of ours.
    pub(crate) installed_at_peer: Option<u32>,
}

/// What the answer said or had wrong.
pub(crate) enum Refused {
    ByPeer(NotifyType),
    ByUs(IkeError),
}

/// What was asked, in words.
pub(crate) struct Asked {
    proposals: String,
    selectors: String,
}

impl ChildAttempt {
    /// The child that goes with IKE_AUTH.
    pub(crate) fn first(context: &mut Context<'_>) -> Result<Self, IkeError> {
        Self::of_configuration(context, None)
    }

    fn of_configuration(context: &mut Context<'_>, replaces: Option<ChildId>) -> Result<Self, IkeError> {
        let config = &context
            .connection
            .as_ref()
            .ok_or(IkeError::Internal("a child without a connection"))?
            .config;
        Ok(Self {
            replaces,
            spi: context.host.new_esp_spi(),
            nonce: context.host.nonce(),
            dh: None,
            proposals: config.esp_proposals.clone(),
            esn: config.extended_sequence_numbers,
            local: selector::configured(&config.local_cidrs),
            remote: selector::configured(&config.peer_cidrs),
            rounds: 0,
            collision: None,
        })
    }

    /// Adds a private value of `group`.
    fn with_group(mut self, group: Option<DhGroup>) -> Result<Self, IkeError> {
        self.dh = match group {
            Some(group) => Some(
                PrivateKey::generate(group)
                    .map_err(|_| IkeError::Internal("no private value could be made"))?,
            ),
            None => None,
        };
        Ok(self)
    }

    pub(crate) fn abandon(&self, host: &mut Host) {
        host.free_esp_spi(self.spi);
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked {
            proposals: describe(&offer_esp(
                &self.proposals,
                self.spi,
                KeyExchange::Negotiated,
                self.esn,
            )),
            selectors: format!(
                "{} === {}",
                selector::describe(&self.local),
                selector::describe(&self.remote)
            ),
        }
    }

    /// SA, with a key exchange of its own Ni and KEi, and the selectors.
    pub(crate) fn payloads(&self, exchange: KeyExchange) -> Vec<Payload> {
        let mut payloads = vec![Payload::Sa(offer_esp(
            &self.proposals,
            self.spi,
            exchange,
            self.esn,
        ))];
        if exchange == KeyExchange::Negotiated {
            payloads.push(Payload::Nonce(self.nonce.clone()));
            payloads.extend(self.dh.as_ref().map(|dh| {
                Payload::Ke(KePayload {
                    method: group_id(dh.group()),
                    data: dh.public().to_vec(),
                })
            }));
        }
        payloads.push(Payload::TsInitiator(selector::encode(&self.local)));
        payloads.push(Payload::TsResponder(selector::encode(&self.remote)));
        payloads
    }

    /// Takes the answer. `children` are those that the IKE SA has.
    pub(crate) fn accept(
        self,
        context: &mut Context<'_>,
        parent: &Parent<'_>,
        parts: &mut Parts,
        nonces: &Nonces<'_>,
        exchange: KeyExchange,
        children: &[Child],
    ) -> Result<Child, ChildRefused> {
        let (Some(answered), Some(ts_initiator), Some(ts_responder)) = (
            parts.sa.take(),
            parts.ts_initiator.take(),
            parts.ts_responder.take(),
        ) else {
            return Err(ChildRefused {
                why: match parts.error() {
                    Some(error) => Refused::ByPeer(error.notify_type),
                    None => Refused::ByUs(IkeError::Violation(Violation::Missing(PayloadType::SA))),
                },
                installed_at_peer: None,
            });
        };
        let spi = self.spi;
        self.check(&answered, &ts_initiator, &ts_responder, parts, exchange, children)
            .and_then(|checked| {
                Child::install(
                    context,
                    parent,
                    Agreement {
                        suite: checked.suite,
                        inbound_spi: spi,
                        outbound_spi: checked.outbound_spi,
                        local: checked.local,
                        remote: checked.remote,
                        nonces: Nonces {
                            initiator: nonces.initiator,
                            responder: nonces.responder,
                        },
                        secret: checked.secret.as_deref().map(Vec::as_slice),
                        begun_by: Role::Initiator,
                        outbound_use: match &self.collision {
                            Some(collision) if is_lower(nonces, &collision.nonce_min) => OutboundUse::Wait,
                            Some(_) | None => OutboundUse::Now,
                        },
                    },
                )
            })
            .map_err(|error| ChildRefused {
                why: Refused::ByUs(error),
                installed_at_peer: Some(spi),
            })
    }

    fn check(
        &self,
        answered: &[Proposal],
        ts_initiator: &[TrafficSelector],
        ts_responder: &[TrafficSelector],
        parts: &Parts,
        exchange: KeyExchange,
        children: &[Child],
    ) -> Result<Checked, IkeError> {
        let beyond = IkeError::Violation(Violation::BeyondRequest);
        let [one] = answered else {
            return Err(beyond);
        };
        let chosen = choose_esp(&self.proposals, std::slice::from_ref(one), exchange, self.esn)
            .ok_or_else(|| beyond.clone())?;
        let secret = match (chosen.suite.pfs, &self.dh) {
            (None, _) => None,
            (Some(group), Some(dh)) if dh.group() == group => {
                let ke = parts
                    .ke
                    .as_ref()
                    .filter(|ke| ke.method == group_id(group))
                    .ok_or(IkeError::Violation(Violation::Missing(PayloadType::KE)))?;
                Some(
                    dh.agree(&ke.data)
                        .map_err(|_| IkeError::Violation(Violation::PublicValue))?,
                )
            }
            (Some(_), Some(_) | None) => return Err(beyond),
        };
        let local = selector::decode(ts_initiator);
        let remote = selector::decode(ts_responder);
        if !selector::is_within(&local, &self.local) || !selector::is_within(&remote, &self.remote) {
            return Err(beyond);
        }
        Ok(Checked {
            suite: chosen.suite,
            outbound_spi: usable_spi(&chosen.peer_spi, children)?,
            local,
            remote,
            secret,
        })
    }
}

struct Checked {
    suite: crate::algorithm::EspSuite,
    outbound_spi: u32,
    local: Vec<selector::Selector>,
    remote: Vec<selector::Selector>,
    secret: Option<Zeroizing<Vec<u8>>>,
}

/// The responder's part of a key exchange; nothing without forward secrecy.
#[derive(Default)]
struct OwnExchange {
    secret: Option<Zeroizing<Vec<u8>>>,
    public: Option<KePayload>,
}

impl ChildRequest {
    /// Chooses, narrows, installs and says so. With a key exchange the answer has Nr and KEr.
    pub(crate) fn answer(
        &self,
        context: &mut Context<'_>,
        parent: &Parent<'_>,
        nonces: &Nonces<'_>,
        children: &[Child],
    ) -> Result<(Child, Vec<Payload>), IkeError> {
        let config = &context
            .connection
            .as_ref()
            .ok_or(IkeError::Refused(Refusal::Temporary))?
            .config;
        let chosen = choose_esp(
            &config.esp_proposals,
            &self.proposals,
            self.exchange,
            config.extended_sequence_numbers,
        )
        .ok_or_else(|| {
            let ours = offer_esp(
                &config.esp_proposals,
                0,
                self.exchange,
                config.extended_sequence_numbers,
            );
            IkeError::Mismatch(Mismatch::Esp(format!(
                "the peer offers {}; accepted here: {}. Make the IPsec policies and their PFS groups equal",
                describe(&self.proposals),
                describe(&ours)
            )))
        })?;
        let (offered_remote, offered_local) = (
            selector::decode(&self.ts_initiator),
            selector::decode(&self.ts_responder),
        );
        let remote = selector::narrow(&offered_remote, &selector::configured(&config.peer_cidrs));
        let local = selector::narrow(&offered_local, &selector::configured(&config.local_cidrs));
        if remote.is_empty() || local.is_empty() {
            return Err(IkeError::Mismatch(Mismatch::Selectors(format!(
                "the peer asks for {} on its side and {} on ours; configured here are {} and {}",
                selector::describe(&offered_remote),
                selector::describe(&offered_local),
                selector::describe(&selector::configured(&config.peer_cidrs)),
                selector::describe(&selector::configured(&config.local_cidrs)),
            ))));
        }
        let outbound_spi = usable_spi(&chosen.peer_spi, children)?;
        let OwnExchange { secret, public } = self.exchange_keys(chosen.suite.pfs)?;
        let spi = context.host.new_esp_spi();
        let installed = Child::install(
            context,
            parent,
            Agreement {
                suite: chosen.suite,
                inbound_spi: spi,
                outbound_spi,
                local: local.clone(),
                remote: remote.clone(),
                nonces: Nonces {
                    initiator: nonces.initiator,
                    responder: nonces.responder,
                },
                secret: secret.as_deref().map(Vec::as_slice),
                begun_by: Role::Responder,
                outbound_use: OutboundUse::Wait,
            },
        );
        let child = match installed {
            Ok(child) => child,
            Err(error) => {
                context.host.free_esp_spi(spi);
                return Err(error);
            }
        };
        let mut payloads = vec![Payload::Sa(vec![Proposal {
            spi: spi.to_be_bytes().to_vec(),
            ..chosen.answer
        }])];
        if self.exchange == KeyExchange::Negotiated {
            payloads.push(Payload::Nonce(nonces.responder.to_vec()));
            payloads.extend(public.map(Payload::Ke));
        }
        payloads.push(Payload::TsInitiator(selector::encode(&remote)));
        payloads.push(Payload::TsResponder(selector::encode(&local)));
        Ok((child, payloads))
    }

    fn exchange_keys(&self, group: Option<DhGroup>) -> Result<OwnExchange, IkeError> {
        let Some(group) = group else {
            return Ok(OwnExchange::default());
        };
        let ke = self
            .ke
            .as_ref()
            .filter(|ke| ke.method == group_id(group))
            .ok_or(IkeError::Mismatch(Mismatch::Group(group)))?;
        let dh =
            PrivateKey::generate(group).map_err(|_| IkeError::Internal("no private value could be made"))?;
        let secret = dh
            .agree(&ke.data)
            .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
        let public = KePayload {
            method: ke.method,
            data: dh.public().to_vec(),
        };
        Ok(OwnExchange {
            secret: Some(secret),
            public: Some(public),
        })
    }
}

impl ChildRefused {
    /// Tells the connection's status.
    pub(crate) fn report(&self, context: &mut Context<'_>, asked: &Asked) {
        let (reason, detail) = match &self.why {
            Refused::ByPeer(notify) => {
                let reason = refusal_reason(*notify);
                let detail = match reason {
                    DownReason::IpsecProposalMismatch => format!(
                        "the peer accepts none of our ESP proposals: {}. Make the IPsec policies and their PFS \
                         groups equal",
                        asked.proposals
                    ),
                    DownReason::SelectorMismatch => format!(
                        "the peer refused our address ranges: {}. They must mirror each other",
                        asked.selectors
                    ),
                    DownReason::AuthenticationFailed
                    | DownReason::IkeProposalMismatch
                    | DownReason::Internal
                    | DownReason::Negotiating
                    | DownReason::PeerNotResponding => {
                        format!("the peer refused the Child SA with {notify:?}")
                    }
                };
                (reason, detail)
            }
            Refused::ByUs(error) => (
                error.down_reason(),
                format!("the peer's Child SA is unusable: {error}"),
            ),
        };
        context.complain(reason, detail);
        if let Some(connection) = &mut context.connection {
            connection.child_pause.after_failure(context.host, context.now);
        }
    }
}

/// Begins a child of the connection's configuration, or one instead of `replaces` with its selectors.
pub(crate) fn begin(
    context: &mut Context<'_>,
    replaced: Option<&Child>,
) -> Result<(Box<ChildAttempt>, Vec<Payload>), IkeError> {
    let mut attempt = ChildAttempt::of_configuration(context, replaced.map(|child| child.id))?;
    let mut payloads = Vec::new();
    if let Some(child) = replaced {
        attempt.local.clone_from(&child.local);
        attempt.remote.clone_from(&child.remote);
        payloads.push(Payload::Notify(NotifyPayload::about_esp(
            NotifyType::REKEY_SA,
            child.inbound_spi,
        )));
    }
    let group = attempt
        .proposals
        .iter()
        .find_map(|proposal| proposal.pfs.first().copied());
    let attempt = Box::new(attempt.with_group(group)?);
    payloads.extend(attempt.payloads(KeyExchange::Negotiated));
    Ok((attempt, payloads))
}

/// Answers a request for a child.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    mut parts: Parts,
) -> Result<Vec<Payload>, IkeError> {
    if established.phase != Phase::Live {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    if matches!(
        established
            .outstanding
            .as_ref()
            .map(|outstanding| &outstanding.exchange),
        Some(Exchange::RekeyIke(_))
    ) {
        return Err(IkeError::Refused(Refusal::Temporary));
    }
    let replaced = match parts.notify(NotifyType::REKEY_SA) {
        Some(notify) => Some(replaceable(established, notify)?),
        None => None,
    };
    if established.children.len() >= MAX_CHILDREN {
        return Err(IkeError::Refused(Refusal::NoAdditionalSas));
    }
    let nonce_initiator = required(parts.nonce.take(), PayloadType::NONCE)?;
    let nonce_responder = context.host.nonce();
    let nonces = Nonces {
        initiator: &nonce_initiator,
        responder: &nonce_responder,
    };
    let asked = ChildRequest {
        proposals: required(parts.sa.take(), PayloadType::SA)?,
        ts_initiator: required(parts.ts_initiator.take(), PayloadType::TSI)?,
        ts_responder: required(parts.ts_responder.take(), PayloadType::TSR)?,
        ke: parts.ke.take(),
        exchange: KeyExchange::Negotiated,
    };
    let parent = Parent {
        id: sa.id,
        suite: &established.suite,
        derive: &established.derive,
        path: &sa.path,
    };
    let (child, payloads) = asked
        .answer(context, &parent, &nonces, &established.children)
        .inspect_err(|error| context.complain(error.down_reason(), error.to_string()))?;
    if let Some(replaced) = replaced {
        note_replacement(context, established, replaced, &child);
    }
    established.children.push(child);
    established.wants.child = false;
    if let Some(connection) = &mut context.connection {
        connection.child_pause.reset();
        connection.forget_complaint();
    }
    Ok(payloads)
}

/// The child that a REKEY_SA notify names, if it may be replaced now.
fn replaceable(established: &Established, notify: &NotifyPayload) -> Result<ChildId, IkeError> {
    let spi = notify.spi_u32().unwrap_or(0);
    let child = established
        .children
        .iter()
        .find(|child| child.outbound_spi == spi)
        .ok_or(IkeError::Refused(Refusal::ChildNotFound { spi }))?;
    match child.phase {
        ChildPhase::Live | ChildPhase::Outdated => Ok(child.id),
        ChildPhase::Condemned | ChildPhase::Deleting | ChildPhase::Replaced { .. } => {
            Err(IkeError::Refused(Refusal::Temporary))
        }
    }
}

fn note_replacement(context: &Context<'_>, established: &mut Established, replaced: ChildId, new: &Child) {
    if let Some(Exchange::CreateChild(attempt)) = established
        .outstanding
        .as_mut()
        .map(|outstanding| &mut outstanding.exchange)
        && attempt.replaces == Some(replaced)
    {
        attempt.collision = Some(Collision {
            child: new.id,
            nonce_min: new.nonce_min.clone(),
        });
        return;
    }
    await_removal(context, established, replaced);
}

fn await_removal(context: &Context<'_>, established: &mut Established, child: ChildId) {
    let until = context.now + REMOVAL_TIME;
    if let Some(child) = established.child_mut(child) {
        child.phase = ChildPhase::Replaced { until };
    }
}

/// Takes the answer to our request for a child.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    attempt: Box<ChildAttempt>,
    mut parts: Parts,
) -> Result<(), IkeError> {
    if established.phase == Phase::Closing {
        // The peer's child goes with the IKE SA.
        attempt.abandon(context.host);
        return Ok(());
    }
    if let Some(group) = retry_group(&attempt, &parts) {
        return retry(context, sa, established, *attempt, group);
    }
    let nonce_initiator = attempt.nonce.clone();
    let nonce_responder = parts.nonce.take().unwrap_or_default();
    let nonces = Nonces {
        initiator: &nonce_initiator,
        responder: &nonce_responder,
    };
    let replaces = attempt.replaces;
    let spi = attempt.spi;
    let asked = attempt.asked();
    let collision = attempt
        .collision
        .as_ref()
        .map(|collision| (collision.child, is_lower(&nonces, &collision.nonce_min)));
    let parent = Parent {
        id: sa.id,
        suite: &established.suite,
        derive: &established.derive,
        path: &sa.path,
    };
    let result = if nonce_responder.is_empty() && parts.sa.is_some() {
        Err(ChildRefused {
            why: Refused::ByUs(IkeError::Violation(Violation::Missing(PayloadType::NONCE))),
            installed_at_peer: Some(spi),
        })
    } else {
        attempt.accept(
            context,
            &parent,
            &mut parts,
            &nonces,
            KeyExchange::Negotiated,
            &established.children,
        )
    };
    match result {
        Ok(child) => settle(context, established, child, replaces, collision),
        Err(refused) => give_up(
            context,
            established,
            &refused,
            spi,
            replaces,
            collision.is_some(),
            &asked,
        ),
    }
    Ok(())
}

/// Decides which children stay after our exchange made `new`. `collision` names the peer's child for the same old
/// one, and whether ours is the redundant one.
fn settle(
    context: &mut Context<'_>,
    established: &mut Established,
    mut new: Child,
    replaces: Option<ChildId>,
    collision: Option<(ChildId, bool)>,
) {
    match (replaces, collision) {
        (Some(old), Some((_, true))) => {
            new.phase = ChildPhase::Condemned;
            await_removal(context, established, old);
        }
        (Some(old), other) => {
            if let Some(old) = established.child_mut(old) {
                old.phase = ChildPhase::Condemned;
            }
            if let Some((theirs, _)) = other {
                await_removal(context, established, theirs);
            }
        }
        (None, _) => {}
    }
    established.children.push(new);
    if let Some(connection) = &mut context.connection {
        connection.child_pause.reset();
        connection.forget_complaint();
    }
}

fn give_up(
    context: &mut Context<'_>,
    established: &mut Established,
    refused: &ChildRefused,
    spi: u32,
    replaces: Option<ChildId>,
    collided: bool,
    asked: &Asked,
) {
    match refused.installed_at_peer {
        Some(spi) => request::delete_unaccepted(established, spi),
        None => context.host.free_esp_spi(spi),
    }
    let notify = match &refused.why {
        Refused::ByPeer(notify) => Some(*notify),
        Refused::ByUs(_) => None,
    };
    if collided {
        // The peer's child takes the place.
        if let Some(old) = replaces {
            await_removal(context, established, old);
        }
        return;
    }
    match (replaces, notify) {
        (Some(old), Some(NotifyType::CHILD_SA_NOT_FOUND)) => established.bury(context, old, GRACE),
        (Some(old), Some(NotifyType::TEMPORARY_FAILURE)) => postpone(context, established, old),
        (None, Some(NotifyType::TEMPORARY_FAILURE)) => {
            if let Some(connection) = &mut context.connection {
                connection.child_pause.after_failure(context.host, context.now);
            }
        }
        (_, Some(NotifyType::NO_ADDITIONAL_SAS)) => {
            // The peer makes children only with a new IKE SA.
            refused.report(context, asked);
            established.phase = Phase::Closing;
        }
        (Some(old), _) => {
            refused.report(context, asked);
            postpone(context, established, old);
        }
        (None, _) => refused.report(context, asked),
    }
}

/// Tries to replace a child again after a few seconds.
fn postpone(context: &mut Context<'_>, established: &mut Established, child: ChildId) {
    let again = context.now + Duration::from_secs(1) + context.host.random_below(Duration::from_secs(2));
    if let Some(child) = established.child_mut(child)
        && child.phase == ChildPhase::Outdated
    {
        child.phase = ChildPhase::Live;
        child.rekey_at = Some(again);
    }
}

fn retry_group(attempt: &ChildAttempt, parts: &Parts) -> Option<DhGroup> {
    let group = suggested_group(parts.notify(NotifyType::INVALID_KE_PAYLOAD)?)?;
    let offered = attempt
        .proposals
        .iter()
        .any(|proposal| proposal.pfs.contains(&group));
    let other = attempt.dh.as_ref().is_none_or(|dh| dh.group() != group);
    (offered && other && attempt.rounds < MAX_ROUNDS && attempt.collision.is_none()).then_some(group)
}

/// Asks again with another group: a new exchange with a new message id.
fn retry(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    established: &mut Established,
    mut attempt: ChildAttempt,
    group: DhGroup,
) -> Result<(), IkeError> {
    let mut payloads = Vec::new();
    if let Some(old) = attempt.replaces {
        let Some(old) = established.child_mut(old) else {
            // It was deleted meanwhile, and nothing came instead.
            attempt.abandon(context.host);
            return Ok(());
        };
        payloads.push(Payload::Notify(NotifyPayload::about_esp(
            NotifyType::REKEY_SA,
            old.inbound_spi,
        )));
    }
    attempt.rounds += 1;
    attempt.nonce = context.host.nonce();
    let attempt = attempt.with_group(Some(group))?;
    payloads.extend(attempt.payloads(KeyExchange::Negotiated));
    request::send_create_child(
        context,
        sa,
        established,
        Exchange::CreateChild(Box::new(attempt)),
        &payloads,
    )
}

/// Whether the lower nonce of our exchange is below that of the peer's exchange: then ours made the redundant SA
/// (RFC 7296 section 2.8.1).
pub(crate) fn is_lower(ours: &Nonces<'_>, theirs: &[u8]) -> bool {
    ours.initiator.min(ours.responder) < theirs
}

fn usable_spi(spi: &[u8], children: &[Child]) -> Result<u32, IkeError> {
    let invalid = IkeError::Violation(Violation::Spi);
    let spi = spi
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| invalid.clone())?;
    if spi <= RESERVED_SPIS || children.iter().any(|child| child.outbound_spi == spi) {
        return Err(invalid);
    }
    Ok(spi)
}
