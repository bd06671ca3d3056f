//! IKE_FOLLOWUP_KE: the additional key exchanges of a CREATE_CHILD_SA (RFC 9370 section 2.2.4).
//!
//! The SA comes into being with the last of them. Until then each end keeps what was agreed: the initiator in its
//! attempt, the responder in [`Awaited`].

use std::time::{Duration, Instant};

use isthmus_crypto::kem::DecapsulationKey;
use isthmus_wire::ike::{KePayload, NotifyPayload, NotifyType, Payload, PayloadType};
use zeroize::Zeroizing;

use crate::algorithm::{AdditionalKeyExchanges, EspSuite, additional_id};
use crate::channel::Role;
use crate::child::{Agreement, Parent};
use crate::error::{IkeError, Refusal, Violation};
use crate::event::{ChildId, OutboundUse};
use crate::exchange::intermediate::{encapsulate_to, generate};
use crate::exchange::rekey_ike::UnfinishedIke;
use crate::exchange::{create_child, rekey_ike};
use crate::host::{Context, Host};
use crate::keys::Nonces;
use crate::parts::{Parts, required};
use crate::sa::{Established, IkeSa, Phase};
use crate::selector::Traffic;

/// How long the responder keeps an SA whose key exchanges are not all done.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the link between the exchanges that we give.
const LINK_LEN: usize = 8;
/// Most bytes of a link that a peer may give.
const MAX_LINK_LEN: usize = 64;

/// The initiator's key exchanges after that in CREATE_CHILD_SA.
#[derive(Default)]
pub(crate) struct Followup {
    running: Option<Box<Running>>,
    secrets: Option<Zeroizing<Vec<u8>>>,
}

struct Running {
    methods: AdditionalKeyExchanges,
    done: usize,
    key: DecapsulationKey,
    link: Vec<u8>,
    secrets: Zeroizing<Vec<u8>>,
    /// The answer to CREATE_CHILD_SA.
    answer: Parts,
}

/// What an answer makes necessary.
pub(crate) enum Turn {
    /// All key exchanges are done, or there is an error: the answer to CREATE_CHILD_SA, or the error.
    Answer(Box<Parts>),
    /// Another IKE_FOLLOWUP_KE with this content.
    Ask(Vec<Payload>),
}

impl Followup {
    /// The secrets of all key exchanges but the first, one after the other; none if there was only one.
    pub(crate) fn secrets(&self) -> Option<&[u8]> {
        self.secrets.as_deref().map(Vec::as_slice)
    }

    /// Whether an IKE_FOLLOWUP_KE was sent.
    pub(crate) const fn has_begun(&self) -> bool {
        self.running.is_some()
    }

    /// Takes the answer to CREATE_CHILD_SA, in which `methods` were agreed on, or to an IKE_FOLLOWUP_KE.
    pub(crate) fn advance(
        &mut self,
        methods: AdditionalKeyExchanges,
        parts: Parts,
    ) -> Result<Turn, IkeError> {
        let running = match self.running.take() {
            Some(_) if parts.error().is_some() => return Ok(Turn::Answer(Box::new(parts))),
            Some(mut running) => {
                let ke = required(parts.ke.as_ref(), PayloadType::KE)?;
                if ke.method != additional_id(running.key.method()) {
                    return Err(IkeError::Violation(Violation::BeyondRequest));
                }
                let secret = running
                    .key
                    .decapsulate(&ke.data)
                    .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
                running.secrets = Zeroizing::new([running.secrets.as_slice(), secret.as_slice()].concat());
                running.done += 1;
                let Some(method) = running.methods.after(running.done) else {
                    self.secrets = Some(running.secrets);
                    return Ok(Turn::Answer(Box::new(running.answer)));
                };
                running.key = generate(method)?;
                running.link = link_of(&parts)?;
                running
            }
            None => {
                let Some(method) = methods.after(0) else {
                    return Ok(Turn::Answer(Box::new(parts)));
                };
                Box::new(Running {
                    methods,
                    done: 0,
                    key: generate(method)?,
                    link: link_of(&parts)?,
                    secrets: Zeroizing::default(),
                    answer: parts,
                })
            }
        };
        let payloads = vec![
            Payload::Ke(KePayload {
                method: additional_id(running.key.method()),
                data: running.key.public().to_vec(),
            }),
            link_notify(&running.link),
        ];
        self.running = Some(running);
        Ok(Turn::Ask(payloads))
    }
}

/// The responder's part of an SA whose key exchanges are not all done.
pub(crate) struct Awaited {
    methods: AdditionalKeyExchanges,
    done: usize,
    link: Vec<u8>,
    secrets: Zeroizing<Vec<u8>>,
    what: Unfinished,
    /// When it is forgotten.
    pub(crate) until: Instant,
}

/// What comes into being with the last key exchange.
pub(crate) enum Unfinished {
    Child(Box<UnfinishedChild>),
    Ike(Box<UnfinishedIke>),
}

/// A child that was agreed on but for its last secrets.
pub(crate) struct UnfinishedChild {
    pub(crate) suite: EspSuite,
    inbound_spi: u32,
    outbound_spi: u32,
    traffic: Traffic,
    lane: u8,
    nonce_initiator: Vec<u8>,
    nonce_responder: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
    /// The child in whose place it comes.
    pub(crate) replaces: Option<ChildId>,
}

impl UnfinishedChild {
    pub(crate) fn new(agreement: &Agreement<'_>) -> Self {
        Self {
            suite: agreement.suite,
            inbound_spi: agreement.inbound_spi,
            outbound_spi: agreement.outbound_spi,
            traffic: agreement.traffic.clone(),
            lane: agreement.lane,
            nonce_initiator: agreement.nonces.initiator.to_vec(),
            nonce_responder: agreement.nonces.responder.to_vec(),
            secret: Zeroizing::new(agreement.secret.unwrap_or_default().to_vec()),
            replaces: None,
        }
    }

    /// The lower nonce of the exchange.
    pub(crate) fn nonce_min(&self) -> Vec<u8> {
        self.nonce_initiator.clone().min(self.nonce_responder.clone())
    }

    fn agreement<'a>(&'a self, additional_secrets: &'a [u8]) -> Agreement<'a> {
        Agreement {
            suite: self.suite,
            inbound_spi: self.inbound_spi,
            outbound_spi: self.outbound_spi,
            traffic: self.traffic.clone(),
            lane: self.lane,
            nonces: Nonces {
                initiator: &self.nonce_initiator,
                responder: &self.nonce_responder,
            },
            secret: Some(&self.secret),
            additional_secrets,
            begun_by: Role::Responder,
            outbound_use: OutboundUse::Wait,
        }
    }
}

impl Awaited {
    /// Keeps what was agreed, and gives the notify that leads to it.
    pub(crate) fn new(
        context: &mut Context<'_>,
        methods: AdditionalKeyExchanges,
        what: Unfinished,
    ) -> (Box<Self>, Payload) {
        let link = new_link(context.host);
        let notify = link_notify(&link);
        let awaited = Self {
            methods,
            done: 0,
            link,
            secrets: Zeroizing::default(),
            what,
            until: context.now + PATIENCE,
        };
        (Box::new(awaited), notify)
    }

    /// Whether it takes the place of the IKE SA: then children must not be between two states.
    pub(crate) const fn is_ike(&self) -> bool {
        matches!(self.what, Unfinished::Ike(_))
    }

    /// Forgets it.
    pub(crate) fn abandon(self, host: &mut Host) {
        match self.what {
            Unfinished::Child(child) => host.free_esp_spi(child.inbound_spi),
            Unfinished::Ike(ike) => ike.abandon(host),
        }
    }

    fn take(&mut self, ke: Option<&KePayload>) -> Result<Payload, IkeError> {
        let method = self
            .methods
            .after(self.done)
            .ok_or(IkeError::Internal("no key exchange is due"))?;
        let (answer, secret) = encapsulate_to(method, required(ke, PayloadType::KE)?)?;
        self.secrets = Zeroizing::new([self.secrets.as_slice(), secret.as_slice()].concat());
        self.done += 1;
        Ok(Payload::Ke(answer))
    }
}

/// Answers an IKE_FOLLOWUP_KE.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &IkeSa,
    established: &mut Established,
    parts: &Parts,
) -> Result<Vec<Payload>, IkeError> {
    let link = parts
        .notify(NotifyType::ADDITIONAL_KEY_EXCHANGE)
        .map(|notify| notify.data.as_slice());
    let Some(mut awaited) = established
        .awaited
        .take_if(|awaited| Some(awaited.link.as_slice()) == link)
    else {
        return Err(IkeError::Refused(Refusal::StateNotFound));
    };
    let answer = if established.phase == Phase::Live {
        awaited.take(parts.ke.as_ref())
    } else {
        Err(IkeError::Refused(Refusal::Temporary))
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            awaited.abandon(context.host);
            return Err(error);
        }
    };
    if awaited.methods.after(awaited.done).is_some() {
        awaited.link = new_link(context.host);
        awaited.until = context.now + PATIENCE;
        let notify = link_notify(&awaited.link);
        established.awaited = Some(awaited);
        return Ok(vec![answer, notify]);
    }
    let Awaited { secrets, what, .. } = *awaited;
    match what {
        Unfinished::Child(child) => {
            let parent = Parent {
                id: sa.id,
                suite: &established.suite,
                derive: &established.derive,
                path: &sa.path,
            };
            let made = crate::child::Child::install(context, &parent, child.agreement(&secrets));
            match made {
                Ok(made) => create_child::add(context, established, made, child.replaces),
                Err(error) => {
                    context.host.free_esp_spi(child.inbound_spi);
                    return Err(error);
                }
            }
        }
        Unfinished::Ike(ike) => rekey_ike::finish(context, sa, established, &ike, &secrets)?,
    }
    Ok(vec![answer])
}

fn new_link(host: &mut Host) -> Vec<u8> {
    let mut link = host.nonce();
    link.truncate(LINK_LEN);
    link
}

fn link_of(parts: &Parts) -> Result<Vec<u8>, IkeError> {
    parts
        .notify(NotifyType::ADDITIONAL_KEY_EXCHANGE)
        .map(|notify| notify.data.clone())
        .filter(|link| link.len() <= MAX_LINK_LEN)
        .ok_or(IkeError::Violation(Violation::Missing(PayloadType::NOTIFY)))
}

fn link_notify(link: &[u8]) -> Payload {
    Payload::Notify(NotifyPayload::new(
        NotifyType::ADDITIONAL_KEY_EXCHANGE,
        link.to_vec(),
    ))
}
