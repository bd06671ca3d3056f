//! An ISAKMP SA: the state of phase 1, and what it carries once it is established.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::{Secret, VpnConnectionId};
use isthmus_wire::ike::IkeSpi;
use isthmus_wire::isakmp::{ExchangeType, IsakmpFlags, IsakmpHeader, PayloadType};

use super::candidate::Exchanged;
use super::keys::Keys;
use super::quick::Quick;
use super::turns::Postponed;
use crate::algorithm::IkeSuite;
use crate::channel::{Role, Sealed};
use crate::error::IkeError;
use crate::host::Host;
use crate::keys::{Nonces, SpiPair};
use crate::nat::{KEEPALIVE_INTERVAL, Path};
use crate::retransmit::Retransmission;
use crate::sa::SaId;

/// How often an answer is given again because its request came again.
const ANSWERS: u8 = 8;
/// How long our SA stays that was made at the same time as the peer's and is not used. strongSwan may move its Child SAs to
/// it and then removes its own after ten seconds: so ours must not go before.
const CROSSED_GRACE: Duration = Duration::from_secs(13);
/// When a spare is looked at: a peer that follows our rules has removed it before.
const SPARE_CHECK: Duration = Duration::from_secs(16);
/// How often a peer is told in clear that its proof is wrong.
const TELLINGS: u8 = 3;

pub(super) struct Sa {
    pub(super) id: SaId,
    pub(super) role: Role,
    pub(super) local_cookie: IkeSpi,
    /// Zero until the responder told it.
    pub(super) remote_cookie: IkeSpi,
    pub(super) connection: Option<VpnConnectionId>,
    pub(super) path: Path,
    pub(super) features: Features,
    pub(super) state: State,
    /// Our message of phase 1 that waits for an answer.
    pub(super) request: Option<Request>,
    /// The peer's last message of phase 1 that we answered.
    pub(super) answered: Option<Answered>,
    /// When the handshake must be over.
    pub(super) until: Instant,
    /// When its first message was sent or came.
    pub(super) begun_at: Instant,
    /// ISAKMP SAs that were there when it began.
    pub(super) replaces: Vec<SaId>,
    /// How often we told in clear that a proof is wrong.
    pub(super) told: u8,
    /// A message of phase 1 that another SA comes before.
    pub(super) postponed: Option<Postponed>,
}

/// What the peer can do, as its vendor ids say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    pub(super) nat_traversal: bool,
    pub(super) dead_peer_detection: bool,
    /// It decides by the nonces which of two Child SAs made at once stays.
    pub(super) nonce_rule: bool,
}

pub(super) enum State {
    Dead,
    Established(Box<Established>),
    /// Initiator, message 5.
    IdSent(Box<IdSent>),
    /// Responder, message 4.
    KeAnswered(Box<KeAnswered>),
    /// Initiator, message 3.
    KeSent(Box<KeSent>),
    /// Responder, message 2.
    SaAnswered(Handshake),
    /// Initiator, message 1. In aggressive mode with the key exchange.
    SaSent(SaSent),
    /// Responder of aggressive mode, message 2.
    AggressiveAnswered(Box<KeAnswered>),
}

/// What phase 1 agreed on first.
pub(super) struct Handshake {
    pub(super) suite: IkeSuite,
    /// Body of the initiator's SA payload.
    pub(super) sa_body: Vec<u8>,
    /// The peer's wish.
    pub(super) lifetime: Option<Duration>,
}

pub(super) struct SaSent {
    pub(super) sa_body: Vec<u8>,
    /// In aggressive mode: what else the first message had.
    pub(super) aggressive: Option<Box<AggressiveSent>>,
}

pub(super) struct AggressiveSent {
    pub(super) dh: PrivateKey,
    pub(super) nonce: Vec<u8>,
    pub(super) id_body: Vec<u8>,
}

pub(super) struct KeSent {
    pub(super) handshake: Handshake,
    pub(super) dh: PrivateKey,
    pub(super) nonce: Vec<u8>,
}

/// What phase 1 agreed on in secret.
pub(super) struct Secrets {
    pub(super) keys: Keys,
    pub(super) public_initiator: Vec<u8>,
    pub(super) public_responder: Vec<u8>,
    /// The IV of the next message of phase 1.
    pub(super) iv: Vec<u8>,
    /// The lower nonce.
    pub(super) nonce_min: Vec<u8>,
}

pub(super) struct IdSent {
    pub(super) handshake: Handshake,
    pub(super) secrets: Secrets,
}

pub(super) struct KeAnswered {
    pub(super) handshake: Handshake,
    pub(super) secrets: Secrets,
    /// In aggressive mode: body of our peer's identification payload.
    pub(super) id_body: Vec<u8>,
    /// In main mode, if the peer may mean another connection with another key.
    pub(super) exchanged: Option<Exchanged>,
}

pub(super) struct Established {
    pub(super) suite: IkeSuite,
    pub(super) keys: Keys,
    /// The last block of phase 1.
    pub(super) last_block: Vec<u8>,
    pub(super) nonce_min: Vec<u8>,
    pub(super) quick: BTreeMap<u32, Quick>,
    /// Message ids that were used, so that nothing is accepted twice.
    pub(super) used: BTreeSet<u32>,
    pub(super) established_at: Instant,
    pub(super) last_heard: Instant,
    pub(super) rekey_at: Option<Instant>,
    pub(super) expire_at: Instant,
    pub(super) wants_rekey: bool,
    /// Another one is in use; this one goes then if that still holds.
    pub(super) superseded_at: Option<Instant>,
    /// Since when another one is in use although the peer, which began this one, may have Child SAs on it.
    pub(super) spare_since: Option<Instant>,
    /// Made at the same time as the one that is in use.
    pub(super) crossed: bool,
    pub(super) keepalive_at: Option<Instant>,
    pub(super) probe: Option<Probe>,
    /// Sequence number of our next R-U-THERE.
    pub(super) sequence: u32,
}

/// R-U-THERE without an answer so far.
pub(super) struct Probe {
    pub(super) sequence: u32,
    pub(super) first_at: Instant,
    pub(super) again_at: Instant,
    pub(super) tries: u32,
}

pub(super) struct Request {
    pub(super) retransmission: Retransmission,
    pub(super) at: Instant,
}

pub(super) struct Answered {
    digest: [u8; 32],
    reply: Vec<u8>,
    left: u8,
}

/// What both ends have told each other, and what they made of it.
pub(super) struct Exchange<'a> {
    pub(super) public_initiator: &'a [u8],
    pub(super) public_responder: &'a [u8],
    pub(super) secret: &'a [u8],
    pub(super) nonces: &'a Nonces<'a>,
}

impl Secrets {
    pub(super) fn derive(
        suite: &IkeSuite,
        psk: &Secret,
        exchange: &Exchange<'_>,
        cookies: SpiPair,
    ) -> Result<Self, IkeError> {
        let Exchange {
            public_initiator,
            public_responder,
            secret,
            nonces,
        } = exchange;
        let keys = Keys::derive(suite, psk.reveal().as_bytes(), secret, nonces, cookies)?;
        Ok(Self {
            iv: keys.first_iv(public_initiator, public_responder),
            keys,
            public_initiator: public_initiator.to_vec(),
            public_responder: public_responder.to_vec(),
            nonce_min: nonces.initiator.min(nonces.responder).to_vec(),
        })
    }

    /// The same, once a message was read that leaves this IV.
    pub(super) fn after(self, iv: Vec<u8>) -> Self {
        Self { iv, ..self }
    }
}

impl Request {
    pub(super) fn new(host: &mut Host, bytes: Vec<u8>, patience: Duration, now: Instant) -> Self {
        let retransmission = Retransmission::new(Sealed::from(bytes), patience, now);
        let at = retransmission.next_at(host.jitter(), now);
        Self { retransmission, at }
    }

    /// Sends it again if it is time, or says that time is over.
    pub(super) fn again(&mut self, host: &mut Host, path: &Path, now: Instant) -> bool {
        if self.at > now {
            return true;
        }
        let Some(message) = self.retransmission.again(now).cloned() else {
            return false;
        };
        self.at = self.retransmission.next_at(host.jitter(), now);
        host.send(path, message);
        true
    }
}

impl Answered {
    pub(super) const fn new(digest: [u8; 32], reply: Vec<u8>) -> Self {
        Self {
            digest,
            reply,
            left: ANSWERS,
        }
    }

    /// The answer.
    pub(super) fn reply(&self) -> Vec<u8> {
        self.reply.clone()
    }

    /// The answer once more, if this is the same message again.
    pub(super) fn repeat(&mut self, digest: &[u8; 32]) -> Option<Vec<u8>> {
        if self.digest != *digest || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(self.reply.clone())
    }

    pub(super) fn is_for(&self, digest: &[u8; 32]) -> bool {
        self.digest == *digest
    }
}

impl Established {
    /// What phase 1 has led to, used for nothing yet.
    pub(super) fn new(
        host: &mut Host,
        suite: IkeSuite,
        secrets: Secrets,
        expire_at: Instant,
        now: Instant,
    ) -> Self {
        Self {
            suite,
            keys: secrets.keys,
            last_block: secrets.iv,
            nonce_min: secrets.nonce_min,
            quick: BTreeMap::new(),
            used: BTreeSet::new(),
            established_at: now,
            last_heard: now,
            rekey_at: None,
            expire_at,
            wants_rekey: false,
            superseded_at: None,
            spare_since: None,
            crossed: false,
            keepalive_at: None,
            probe: None,
            sequence: rand::Rng::next_u32(&mut host.rng) >> 1,
        }
    }

    /// When a peer without a sign is asked whether it is there; for a spare when a peer that follows our rules has removed
    /// it.
    pub(super) fn probe_at(&self, interval: Duration) -> Instant {
        let silent = self.last_heard + interval;
        self.spare_since
            .map(|since| since + SPARE_CHECK)
            .filter(|check| self.last_heard < *check)
            .map_or(silent, |check| check.min(silent))
    }

    /// Whether it is a spare that the peer has kept.
    pub(super) fn is_kept_spare(&self) -> bool {
        self.spare_since
            .is_some_and(|since| self.last_heard >= since + SPARE_CHECK)
    }

    /// Another one, made at the same time, is used.
    pub(super) fn lose(&mut self, begun_by: Role, now: Instant) {
        self.crossed = true;
        match begun_by {
            Role::Initiator => self.superseded_at = Some(now + CROSSED_GRACE),
            Role::Responder => self.spare_since = Some(now),
        }
    }
}

impl Sa {
    pub(super) const fn cookies(&self) -> SpiPair {
        SpiPair::of(self.role, self.local_cookie, self.remote_cookie)
    }

    /// The header of our next message.
    pub(super) const fn header(&self, exchange: ExchangeType, message_id: u32) -> IsakmpHeader {
        let cookies = self.cookies();
        IsakmpHeader {
            initiator_cookie: cookies.initiator,
            responder_cookie: cookies.responder,
            next_payload: PayloadType::NONE,
            minor_version: 0,
            exchange,
            flags: IsakmpFlags::NONE,
            message_id,
            length: 0,
        }
    }

    /// Both cookies, as notifications and deletes name the SA.
    pub(super) fn spi(&self) -> Vec<u8> {
        let cookies = self.cookies();
        [
            cookies.initiator.0.to_be_bytes(),
            cookies.responder.0.to_be_bytes(),
        ]
        .concat()
    }

    pub(super) const fn established(&self) -> Option<&Established> {
        match &self.state {
            State::Established(established) => Some(established),
            State::Dead
            | State::IdSent(_)
            | State::KeAnswered(_)
            | State::KeSent(_)
            | State::SaAnswered(_)
            | State::SaSent(_)
            | State::AggressiveAnswered(_) => None,
        }
    }

    pub(super) const fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.state {
            State::Established(established) => Some(established),
            State::Dead
            | State::IdSent(_)
            | State::KeAnswered(_)
            | State::KeSent(_)
            | State::SaAnswered(_)
            | State::SaSent(_)
            | State::AggressiveAnswered(_) => None,
        }
    }

    /// Whether it is in use and nothing was decided against it.
    pub(super) fn is_live(&self) -> bool {
        self.established().is_some_and(|established| {
            established.superseded_at.is_none() && established.spare_since.is_none()
        })
    }

    /// Whether it is good to send with: also one that goes soon because it was made at the same time as another, as the peer
    /// may hold to the newest.
    pub(super) fn is_good(&self) -> bool {
        self.established()
            .is_some_and(|established| established.superseded_at.is_none() || established.crossed)
    }

    /// Whether our first message was sent again without an answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.request
            .as_ref()
            .is_some_and(|request| request.retransmission.tries() > 1)
    }

    /// Whether we began it and it is not established yet.
    pub(super) fn is_attempt(&self) -> bool {
        self.role == Role::Initiator && !matches!(self.state, State::Dead | State::Established(_))
    }

    /// Whether the peer began it and it is not established yet.
    pub(super) fn is_half_open(&self) -> bool {
        self.role == Role::Responder && !matches!(self.state, State::Dead | State::Established(_))
    }

    /// Whether the peer may be told once more, in clear, that its proof is wrong.
    pub(super) const fn may_tell(&mut self) -> bool {
        self.told = self.told.saturating_add(1);
        self.told <= TELLINGS
    }

    /// Sends a message of phase 1 that waits for an answer.
    pub(super) fn ask(&mut self, host: &mut Host, bytes: Vec<u8>, patience: Duration, now: Instant) {
        host.send(&self.path, bytes.clone());
        self.request = Some(Request::new(host, bytes, patience, now));
    }

    /// Answers a message of phase 1.
    pub(super) fn answer(&mut self, host: &mut Host, digest: [u8; 32], reply: Vec<u8>) {
        host.send(&self.path, reply.clone());
        self.answered = Some(Answered::new(digest, reply));
    }

    pub(super) fn keepalive_after(&self, now: Instant) -> Option<Instant> {
        self.path.nat.local.then(|| now + KEEPALIVE_INTERVAL)
    }

    /// When it wants attention next. `interval` is that of liveness checks.
    pub(super) fn next_timeout(&self, interval: Option<Duration>) -> Option<Instant> {
        let request = self.request.as_ref().map(|request| request.at);
        match self.established() {
            Some(established) => {
                let quick = established.quick.values().filter_map(Quick::next_timeout).min();
                let liveness = interval
                    .filter(|_| self.features.dead_peer_detection && established.superseded_at.is_none())
                    .map(|interval| {
                        established
                            .probe
                            .as_ref()
                            .map_or_else(|| established.probe_at(interval), |probe| probe.again_at)
                    });
                let rekey = established
                    .rekey_at
                    .filter(|_| !established.wants_rekey && self.is_live());
                [
                    quick,
                    liveness,
                    rekey,
                    established.superseded_at,
                    established.keepalive_at,
                    Some(established.expire_at),
                ]
                .into_iter()
                .flatten()
                .min()
            }
            None => {
                let postponed = self.postponed.as_ref().map(|postponed| postponed.at);
                [request, postponed, Some(self.until)].into_iter().flatten().min()
            }
        }
    }
}
