//! A child that we are asked for, and our answer.

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::DhGroup;
use isthmus_wire::ike::{KePayload, Payload, Proposal, TrafficSelector};
use zeroize::Zeroizing;

use super::{free_lane, shares_traffic, usable_spi};
use crate::algorithm::group_id;
use crate::channel::Role;
use crate::child::{Agreement, Child, Parent};
use crate::demand::MAX_LANES;
use crate::error::{IkeError, Mismatch, Refusal, Violation};
use crate::event::OutboundUse;
use crate::evidence;
use crate::exchange::followup_ke::UnfinishedChild;
use crate::finding::FindingKind;
use crate::host::Context;
use crate::keys::Nonces;
use crate::negotiate::{KeyExchange, choose_esp, describe, offer_esp};
use crate::selector::{self, Traffic};

/// A child that we were asked for.
pub(crate) struct ChildRequest {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) ts_initiator: Vec<TrafficSelector>,
    pub(crate) ts_responder: Vec<TrafficSelector>,
    pub(crate) ke: Option<KePayload>,
    pub(crate) exchange: KeyExchange,
    /// It may be one of several for the same traffic: what the peer tells of it.
    pub(crate) shares: Option<Vec<u8>>,
    /// The lane of the child that it replaces.
    pub(crate) replaced_lane: Option<u8>,
}

/// The responder's part of a key exchange; nothing without forward secrecy.
#[derive(Default)]
struct OwnExchange {
    secret: Option<Zeroizing<Vec<u8>>>,
    public: Option<KePayload>,
}

/// What an answer made.
pub(crate) enum Made {
    /// A child that is installed.
    Child(Child),
    /// One that needs more key exchanges.
    Unfinished(Box<UnfinishedChild>),
}

impl ChildRequest {
    /// Chooses, narrows, installs if there is no further key exchange, and says so. With a key exchange the answer has Nr and KEr.
    pub(crate) fn answer(
        &self,
        context: &mut Context<'_>,
        parent: &Parent<'_>,
        nonces: &Nonces<'_>,
        children: &[Child],
    ) -> Result<(Made, Vec<Payload>), IkeError> {
        let config = &context
            .connection
            .as_ref()
            .ok_or(IkeError::Refused(Refusal::Temporary))?
            .config;
        let chosen = choose_esp(
            &config.esp_proposals,
            &self.proposals,
            self.exchange,
            config.options.extended_sequence_numbers,
        )
        .ok_or_else(|| {
            let ours = offer_esp(
                &config.esp_proposals,
                0,
                self.exchange,
                config.options.extended_sequence_numbers,
            );
            IkeError::Mismatch(Mismatch::Esp(format!(
                "the peer offers {}; accepted here: {}. Make the IPsec policies and their PFS groups equal",
                describe(&self.proposals),
                describe(&ours)
            )))
        })?;
        if let Some(connection) = &mut context.connection {
            evidence::on_common_proposal(connection, self.exchange);
        }
        let config = &context
            .connection
            .as_ref()
            .ok_or(IkeError::Refused(Refusal::Temporary))?
            .config;
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
        let traffic = Traffic { local, remote };
        let lane = self.lane(&traffic, children)?;
        let outbound_spi = usable_spi(&chosen.peer_spi, children)?;
        let OwnExchange { secret, public } = self.exchange_keys(chosen.suite.pfs)?;
        let spi = context.host.new_esp_spi();
        let agreement = Agreement {
            suite: chosen.suite,
            inbound_spi: spi,
            outbound_spi,
            traffic: traffic.clone(),
            lane,
            nonces: Nonces {
                initiator: nonces.initiator,
                responder: nonces.responder,
            },
            secret: secret.as_deref().map(Vec::as_slice),
            additional_secrets: &[],
            begun_by: Role::Responder,
            outbound_use: OutboundUse::Wait,
        };
        let made = if chosen.suite.additional.is_empty() {
            match Child::install(context, parent, agreement) {
                Ok(child) => Made::Child(child),
                Err(error) => {
                    context.host.free_esp_spi(spi);
                    return Err(error);
                }
            }
        } else {
            Made::Unfinished(Box::new(UnfinishedChild::new(&agreement)))
        };
        let mut payloads = vec![Payload::Sa(vec![Proposal {
            spi: spi.to_be_bytes().to_vec(),
            ..chosen.answer
        }])];
        if self.exchange == KeyExchange::Negotiated {
            payloads.push(Payload::Nonce(nonces.responder.to_vec()));
            payloads.extend(public.map(Payload::Ke));
        }
        payloads.push(Payload::TsInitiator(selector::encode(&traffic.remote)));
        payloads.push(Payload::TsResponder(selector::encode(&traffic.local)));
        if self.shares.is_some() {
            if let Some(connection) = &mut context.connection {
                connection.demand.note_lanes(true);
            }
            payloads.push(shares_traffic(lane));
        }
        Ok((made, payloads))
    }

    /// Tells the connection's status why the request was refused.
    pub(crate) fn report(&self, context: &mut Context<'_>, error: &IkeError) {
        let Some(connection) = &mut context.connection else {
            return;
        };
        let config = &connection.config;
        let kind = match error {
            IkeError::Mismatch(Mismatch::Esp(_)) => {
                evidence::no_esp_proposal(config, &self.proposals, self.exchange)
            }
            IkeError::Mismatch(Mismatch::Selectors(_)) => evidence::no_selectors(
                config,
                &selector::decode(&self.ts_responder),
                &selector::decode(&self.ts_initiator),
            ),
            // The peer asks again with the group that the answer names, or makes no sense.
            IkeError::Mismatch(Mismatch::Group(_)) => return,
            IkeError::Authentication(_)
            | IkeError::Internal(_)
            | IkeError::Malformed(_)
            | IkeError::Mismatch(Mismatch::Ike(_))
            | IkeError::Refused(_)
            | IkeError::Violation(_) => FindingKind::Other {
                reason: error.down_reason(),
                detail: error.to_string(),
            },
        };
        let transport = |known: &FindingKind| matches!(known, FindingKind::TransportModeAsked { .. });
        if matches!(kind, FindingKind::SelectorsRefused { .. }) && connection.diary.holds(transport) {
            connection
                .diary
                .find(FindingKind::TransportModeAsked { refused: true });
        }
        connection.diary.find(kind);
    }

    fn lane(&self, traffic: &Traffic, children: &[Child]) -> Result<u8, IkeError> {
        let same = children
            .iter()
            .filter(|child| child.is_in_use() && child.traffic == *traffic);
        match (self.replaced_lane, self.shares.as_deref()) {
            (Some(lane), _) => Ok(lane),
            (None, Some(_)) if same.count() >= usize::from(MAX_LANES) => {
                Err(IkeError::Refused(Refusal::LaneLimit))
            }
            // A number of the peer's: so both ends give the same one to a child, and see if they made two of it.
            (None, Some([lane])) if *lane < MAX_LANES => Ok(*lane),
            (None, Some(_)) => free_lane(traffic, children).ok_or(IkeError::Refused(Refusal::LaneLimit)),
            (None, None) => Ok(0),
        }
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
