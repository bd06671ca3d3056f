//! A child that we ask for, and its answer.

use std::time::{Duration, Instant};

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::{DhGroup, EspProposal};
use isthmus_wire::ike::{KePayload, Payload, PayloadType, Proposal, TrafficSelector, TransformType};
use zeroize::Zeroizing;

use super::refusal::{Asked, ChildRefused, Refused};
use super::{shares_traffic, usable_spi};
use crate::algorithm::{AdditionalKeyExchanges, EspSuite, group_id};
use crate::channel::Role;
use crate::child::{Agreement, Child, Parent};
use crate::demand::Wanted;
use crate::error::{IkeError, Violation};
use crate::event::{ChildId, OutboundUse};
use crate::evidence;
use crate::exchange::followup_ke::Followup;
use crate::host::{Context, Host};
use crate::keys::Nonces;
use crate::nearest::describe_kind;
use crate::negotiate::{KeyExchange, choose_esp, describe, offer_esp};
use crate::parts::Parts;
use crate::selector::{self, Traffic};

/// A child of the peer's making is meant to stay if it has stayed for so long.
const MEANT_AFTER: Duration = Duration::from_secs(2);

/// A child that we ask for.
pub(crate) struct ChildAttempt {
    pub(crate) replaces: Option<ChildId>,
    /// Our inbound SPI.
    pub(crate) spi: u32,
    pub(super) nonce: Vec<u8>,
    pub(super) dh: Option<PrivateKey>,
    pub(super) proposals: Vec<EspProposal>,
    pub(super) extended_sequence_numbers: bool,
    pub(super) traffic: Traffic,
    /// Which of several for the same traffic.
    pub(super) lane: u8,
    /// Whether it says that there may be several.
    pub(super) shares: bool,
    pub(super) rounds: u32,
    /// Of the configuration that it follows.
    revision: u32,
    /// Whether it only finds out what the peer accepts.
    pub(super) survey: bool,
    /// What the peer did with the same child meanwhile.
    pub(super) collision: Option<Collision>,
    pub(super) followup: Followup,
}

/// The peer replaced the child that we are replacing.
pub(super) struct Collision {
    /// Its new child; none if its key exchanges are not all done.
    pub(super) child: Option<ChildId>,
    /// The lower nonce of its exchange.
    pub(super) nonce_min: Vec<u8>,
}

struct Checked {
    suite: EspSuite,
    outbound_spi: u32,
    traffic: Traffic,
    secret: Option<Zeroizing<Vec<u8>>>,
}

impl ChildAttempt {
    /// The child that goes with IKE_AUTH.
    pub(crate) fn first(context: &mut Context<'_>) -> Result<Self, IkeError> {
        let connection = context
            .connection
            .as_ref()
            .ok_or(IkeError::Internal("a child without a connection"))?;
        let wanted = connection.demand.first();
        Self::new(context, wanted, None)
    }

    pub(super) fn new(
        context: &mut Context<'_>,
        wanted: Wanted,
        replaces: Option<ChildId>,
    ) -> Result<Self, IkeError> {
        let connection = context
            .connection
            .as_ref()
            .ok_or(IkeError::Internal("a child without a connection"))?;
        let config = &connection.config;
        Ok(Self {
            replaces,
            spi: context.host.new_esp_spi(),
            nonce: context.host.nonce(),
            dh: None,
            proposals: config.esp_proposals.clone(),
            extended_sequence_numbers: config.options.extended_sequence_numbers,
            traffic: wanted.traffic,
            lane: wanted.lane,
            shares: connection.demand.wants_lanes() || wanted.lane > 0,
            rounds: 0,
            revision: connection.revision,
            survey: false,
            collision: None,
            followup: Followup::default(),
        })
    }

    /// Adds a private value of `group`.
    pub(super) fn with_group(mut self, group: Option<DhGroup>) -> Result<Self, IkeError> {
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

    /// What it asks for. `children` are those that the IKE SA has: what was accepted for one of them need not be the cause of
    /// a refusal.
    pub(crate) fn asked(&self, children: &[Child], now: Instant) -> Asked {
        let offer = offer_esp(
            &self.proposals,
            self.spi,
            KeyExchange::Negotiated,
            self.extended_sequence_numbers,
        );
        Asked {
            proposals: describe(&offer),
            groups: describe_kind(&offer, TransformType::KE),
            accepted_before: children.iter().any(|child| {
                // A peer may ask for one only to learn what we accept, and delete it at once.
                let is_meant = child.begun_by == Role::Initiator || now >= child.installed_at + MEANT_AFTER;
                is_meant
                    && child.suite.pfs.is_none()
                    && self
                        .proposals
                        .iter()
                        .any(|proposal| proposal.encryption.contains(&child.suite.cipher.encryption()))
            }),
            selectors: self.traffic.to_string(),
            traffic: self.traffic.clone(),
            lane: self.lane,
            shares: self.shares,
        }
    }

    /// SA, with a key exchange of its own Ni and KEi, and the selectors.
    pub(crate) fn payloads(&self, exchange: KeyExchange) -> Vec<Payload> {
        let mut payloads = vec![Payload::Sa(offer_esp(
            &self.proposals,
            self.spi,
            exchange,
            self.extended_sequence_numbers,
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
        payloads.push(Payload::TsInitiator(selector::encode(&self.traffic.local)));
        payloads.push(Payload::TsResponder(selector::encode(&self.traffic.remote)));
        payloads.extend(self.shares.then(|| shares_traffic(self.lane)));
        payloads
    }

    /// The additional key exchanges that an answer agrees on.
    pub(super) fn additional(&self, parts: &Parts) -> AdditionalKeyExchanges {
        choose_esp(
            &self.proposals,
            parts.sa.as_deref().unwrap_or_default(),
            KeyExchange::Negotiated,
            self.extended_sequence_numbers,
        )
        .map_or_else(AdditionalKeyExchanges::default, |chosen| chosen.suite.additional)
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
        let (spi, revision) = (self.spi, self.revision);
        if self.survey
            && let Some(connection) = &context.connection
        {
            return Err(ChildRefused {
                why: Refused::Surveyed(Box::new(evidence::no_esp_proposal(
                    &connection.config,
                    &answered,
                    exchange,
                ))),
                installed_at_peer: Some(spi),
            });
        }
        self.check(&answered, &ts_initiator, &ts_responder, parts, exchange, children)
            .and_then(|checked| {
                Child::install(
                    context,
                    parent,
                    Agreement {
                        suite: checked.suite,
                        inbound_spi: spi,
                        outbound_spi: checked.outbound_spi,
                        traffic: checked.traffic,
                        lane: self.lane,
                        nonces: Nonces {
                            initiator: nonces.initiator,
                            responder: nonces.responder,
                        },
                        secret: checked.secret.as_deref().map(Vec::as_slice),
                        additional_secrets: self.followup.secrets().unwrap_or_default(),
                        begun_by: Role::Initiator,
                        outbound_use: match &self.collision {
                            Some(collision) if is_lower(nonces, &collision.nonce_min) => OutboundUse::Wait,
                            Some(_) | None => OutboundUse::Now,
                        },
                    },
                )
            })
            .map(|child| Child {
                stale: context
                    .connection
                    .as_ref()
                    .is_some_and(|connection| connection.revision != revision),
                ..child
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
        let chosen = choose_esp(
            &self.proposals,
            std::slice::from_ref(one),
            exchange,
            self.extended_sequence_numbers,
        )
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
        if chosen.suite.additional.is_empty() != self.followup.secrets().is_none() {
            return Err(beyond);
        }
        let traffic = Traffic {
            local: selector::decode(ts_initiator),
            remote: selector::decode(ts_responder),
        };
        if !self.traffic.covers(&traffic) {
            return Err(beyond);
        }
        Ok(Checked {
            suite: chosen.suite,
            outbound_spi: usable_spi(&chosen.peer_spi, children)?,
            traffic,
            secret,
        })
    }
}

/// Whether the lower nonce of our exchange is below that of the peer's exchange: then ours made the redundant SA
/// (RFC 7296 section 2.8.1).
pub(crate) fn is_lower(ours: &Nonces<'_>, theirs: &[u8]) -> bool {
    ours.initiator.min(ours.responder) < theirs
}
