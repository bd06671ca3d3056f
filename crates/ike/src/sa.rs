//! An IKE SA: its states, and what an established one holds.

use std::time::{Duration, Instant};

use isthmus_crypto::dh::PrivateKey;
use isthmus_crypto::kem::DecapsulationKey;
use isthmus_types::{DhGroup, IkeProposal, VpnConnectionId};
use isthmus_wire::ike::{IkeSpi, NotifyType};
use zeroize::Zeroizing;

use crate::algorithm::IkeSuite;
use crate::auth::Accepts;
use crate::channel::{Channel, Role, Sealed};
use crate::child::Child;
use crate::connection::Connection;
use crate::demand::Wanted;
use crate::event::ChildId;
use crate::exchange::create_child::ChildAttempt;
use crate::exchange::followup_ke::Awaited;
use crate::exchange::ike_auth::Handshake;
use crate::exchange::intermediate::Transcript;
use crate::exchange::rekey_ike::IkeAttempt;
use crate::extension::Extensions;
use crate::host::{Context, Host};
use crate::keys::{IkeKeys, Nonces, SpiPair};
use crate::nat::{KEEPALIVE_INTERVAL, Path};
use crate::parts::Parts;
use crate::retransmit::Retransmission;
use crate::timer::{Timer, Timers};

/// A responder that wants a new authentication more often does not get it.
const MIN_AUTH_LIFETIME: Duration = Duration::from_secs(30);

/// An IKE SA, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SaId(pub(crate) u64);

/// One IKE SA of an endpoint, from its first message on.
pub(crate) struct IkeSa {
    pub(crate) id: SaId,
    pub(crate) role: Role,
    pub(crate) local_spi: IkeSpi,
    /// Zero until the responder answered.
    pub(crate) remote_spi: IkeSpi,
    pub(crate) path: Path,
    /// Known from the start to the initiator, after IKE_AUTH to the responder.
    pub(crate) connection: Option<VpnConnectionId>,
    pub(crate) timers: Timers,
    pub(crate) state: State,
}

/// Where an IKE SA is in its life. Each state owns what only it needs.
pub(crate) enum State {
    /// IKE_AUTH sent, no answer yet.
    AuthSent(Box<AuthSent>),
    /// To be removed from the endpoint.
    Dead,
    /// Authenticated.
    Established(Box<Established>),
    /// IKE_SA_INIT answered, no IKE_AUTH yet.
    InitAnswered(Box<InitAnswered>),
    /// IKE_SA_INIT sent, no answer yet.
    InitSent(Box<InitSent>),
    /// IKE_INTERMEDIATE sent, no answer yet.
    IntermediateSent(Box<IntermediateSent>),
    /// IKE_AUTH answered with an error; the answer is kept for a while.
    Refused(Box<Channel>),
}

pub(crate) struct InitSent {
    pub(crate) proposals: Vec<IkeProposal>,
    pub(crate) dh: PrivateKey,
    pub(crate) nonce: Vec<u8>,
    pub(crate) cookie: Option<Vec<u8>>,
    /// The last message, as it enters AUTH.
    pub(crate) request: Vec<u8>,
    pub(crate) retransmission: Retransmission,
    /// What we announce.
    pub(crate) extensions: Extensions,
    /// Cookie and group retries so far.
    pub(crate) rounds: u32,
    /// The unauthenticated error that was received last.
    pub(crate) refused_with: Option<u16>,
    /// Whether it only finds out what the peer accepts.
    pub(crate) survey: bool,
}

pub(crate) struct InitAnswered {
    pub(crate) channel: Channel,
    pub(crate) suite: IkeSuite,
    pub(crate) keys: IkeKeys,
    pub(crate) nonce_initiator: Vec<u8>,
    pub(crate) nonce_responder: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    /// Signatures that the peer takes.
    pub(crate) accepts: Accepts,
    pub(crate) begun_at: Instant,
    /// Additional key exchanges that are done.
    pub(crate) additional_done: usize,
    pub(crate) transcript: Transcript,
}

pub(crate) struct IntermediateSent {
    pub(crate) handshake: Handshake,
    pub(crate) key: DecapsulationKey,
    /// Our message as it is authenticated.
    pub(crate) request: Vec<u8>,
    pub(crate) message_id: u32,
    pub(crate) retransmission: Retransmission,
}

pub(crate) struct AuthSent {
    pub(crate) channel: Channel,
    pub(crate) message_id: u32,
    pub(crate) suite: IkeSuite,
    pub(crate) keys: IkeKeys,
    pub(crate) nonce_initiator: Vec<u8>,
    pub(crate) nonce_responder: Vec<u8>,
    /// The responder's IKE_SA_INIT message, as it enters AUTH.
    pub(crate) init_response: Vec<u8>,
    /// What of the exchanges since enters AUTH.
    pub(crate) intermediate: Vec<u8>,
    /// None if it comes with an exchange of its own.
    pub(crate) child: Option<ChildAttempt>,
    pub(crate) retransmission: Retransmission,
}

pub(crate) struct Established {
    pub(crate) channel: Channel,
    pub(crate) suite: IkeSuite,
    pub(crate) derive: Zeroizing<Vec<u8>>,
    pub(crate) phase: Phase,
    pub(crate) wants: Wants,
    pub(crate) outstanding: Option<Outstanding>,
    /// What the peer makes with several key exchanges.
    pub(crate) awaited: Option<Box<Awaited>>,
    pub(crate) children: Vec<Child>,
    /// Our inbound SPIs of children that the peer installed and we did not.
    pub(crate) unaccepted: Vec<u32>,
    /// Inbound SPIs of the peer that it deleted before we knew of them, while a child was asked for.
    pub(crate) deleted_early: Vec<u32>,
    /// The lower nonce of the exchange that made it: decides which of two goes.
    pub(crate) nonce_min: Vec<u8>,
    /// Whether we began the exchange that made it.
    pub(crate) begun_by: Role,
    pub(crate) established_at: Instant,
    pub(crate) last_heard: Instant,
    /// The peer makes no more children with it: another one is to take its place.
    pub(crate) outdated: bool,
}

/// What an established IKE SA is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is being deleted by us.
    Closing,
    /// It is in use.
    Live,
    /// It was made by the peer while we also make one; the nonces will decide.
    Pending,
    /// It was replaced; the peer deletes it.
    Replaced,
}

/// What we want to do as soon as no request is outstanding. What a child needs stands in the child.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    pub(crate) child: Option<Wanted>,
    pub(crate) probe: bool,
    pub(crate) rekey: bool,
}

/// Our request that waits for its response.
pub(crate) struct Outstanding {
    pub(crate) message_id: u32,
    pub(crate) exchange: Exchange,
    pub(crate) retransmission: Retransmission,
}

/// What we asked.
pub(crate) enum Exchange {
    /// CREATE_CHILD_SA for a new child or instead of an old one.
    CreateChild(Box<ChildAttempt>),
    /// INFORMATIONAL that deletes children.
    DeleteChildren(Vec<ChildId>),
    /// INFORMATIONAL that deletes the IKE SA.
    DeleteIke,
    /// Empty INFORMATIONAL.
    Probe,
    /// CREATE_CHILD_SA for a new IKE SA.
    RekeyIke(Box<IkeAttempt>),
}

impl IkeSa {
    pub(crate) fn spis(&self) -> SpiPair {
        SpiPair::of(self.role, self.local_spi, self.remote_spi)
    }

    pub(crate) const fn established(&self) -> Option<&Established> {
        match &self.state {
            State::Established(established) => Some(established),
            State::AuthSent(_)
            | State::Dead
            | State::InitAnswered(_)
            | State::InitSent(_)
            | State::IntermediateSent(_)
            | State::Refused(_) => None,
        }
    }

    pub(crate) const fn established_mut(&mut self) -> Option<&mut Established> {
        match &mut self.state {
            State::Established(established) => Some(established),
            State::AuthSent(_)
            | State::Dead
            | State::InitAnswered(_)
            | State::InitSent(_)
            | State::IntermediateSent(_)
            | State::Refused(_) => None,
        }
    }

    /// Takes the state out if it is established; it must be put back, or the IKE SA is dead.
    pub(crate) fn take_established(&mut self) -> Option<Box<Established>> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Established(established) => Some(established),
            other @ (State::AuthSent(_)
            | State::Dead
            | State::InitAnswered(_)
            | State::InitSent(_)
            | State::IntermediateSent(_)
            | State::Refused(_)) => {
                self.state = other;
                None
            }
        }
    }

    /// As [`IkeSa::take_established`] for a handshake that we answered.
    pub(crate) fn take_init_answered(&mut self) -> Option<Box<InitAnswered>> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::InitAnswered(init) => Some(init),
            other @ (State::AuthSent(_)
            | State::Dead
            | State::Established(_)
            | State::InitSent(_)
            | State::IntermediateSent(_)
            | State::Refused(_)) => {
                self.state = other;
                None
            }
        }
    }

    /// Whether it is a handshake that somebody else began and nobody proved yet.
    pub(crate) const fn is_half_open(&self) -> bool {
        matches!(self.state, State::InitAnswered(_) | State::Refused(_))
    }

    /// Sends a request for the first time and arms its retransmission.
    pub(crate) fn send_request(&mut self, context: &mut Context<'_>, message: Sealed) -> Retransmission {
        let patience = context
            .connection
            .as_ref()
            .map_or(Duration::from_secs(4), |connection| connection.patience());
        let retransmission = Retransmission::new(message.clone(), patience, context.now);
        let jitter = context.host.jitter();
        self.timers
            .set(Timer::Retransmit, retransmission.next_at(jitter, context.now));
        self.send(context.host, message, context.now);
        retransmission
    }

    pub(crate) fn send(&mut self, host: &mut Host, message: Sealed, now: Instant) {
        host.send(&self.path, message);
        self.arm_keepalive(now);
    }

    pub(crate) fn arm_keepalive(&mut self, now: Instant) {
        if self.path.nat.local && self.path.local_port == crate::endpoint::NAT_PORT {
            self.timers.set(Timer::Keepalive, now + KEEPALIVE_INTERVAL);
        }
    }

    /// Has us authenticate anew before the time that a responder gives in AUTH_LIFETIME (RFC 4478).
    pub(crate) fn note_auth_lifetime(&mut self, context: &mut Context<'_>, parts: &Parts) {
        let seconds = parts
            .notify(NotifyType::AUTH_LIFETIME)
            .and_then(|notify| notify.data.as_slice().try_into().ok())
            .map(u32::from_be_bytes);
        if let Some(seconds) = seconds {
            let after = rekey_after(
                Duration::from_secs(u64::from(seconds)).max(MIN_AUTH_LIFETIME),
                context.host,
            );
            self.timers.set(Timer::Reauthenticate, context.now + after);
        }
    }

    /// Arms the timers of an IKE SA that just came into use.
    pub(crate) fn arm_lifetime(&mut self, context: &mut Context<'_>) {
        let now = context.now;
        self.timers.clear(Timer::HalfOpen);
        let Some(connection) = &context.connection else {
            return;
        };
        let lifetime = Duration::from_secs(u64::from(connection.config.ike_lifetime_seconds.max(2)));
        let may_rekey = connection.may_rekey();
        let interval = connection.liveness_interval();
        self.timers.set(Timer::Expire, now + lifetime);
        if may_rekey {
            let after = rekey_after(lifetime, context.host);
            self.timers.set(Timer::Rekey, now + after);
        } else {
            self.timers.clear(Timer::Rekey);
        }
        match interval {
            Some(interval) => self.timers.set(Timer::Liveness, now + interval),
            None => self.timers.clear(Timer::Liveness),
        }
        self.arm_keepalive(now);
    }
}

/// When to replace something that lives for `lifetime`: a margin earlier, less a random part, so that the two ends
/// seldom begin at once.
pub(crate) fn rekey_after(lifetime: Duration, host: &mut Host) -> Duration {
    let margin = (lifetime / 10).min(Duration::from_secs(540));
    lifetime
        .saturating_sub(margin)
        .saturating_sub(host.random_below(margin))
}

impl Established {
    /// Made by this exchange, with nothing on it yet.
    pub(crate) fn new(
        mut channel: Channel,
        suite: IkeSuite,
        keys: &IkeKeys,
        nonces: &Nonces<'_>,
        begun_by: Role,
        now: Instant,
    ) -> Self {
        channel.trust();
        Self {
            channel,
            suite,
            derive: keys.derive.clone(),
            phase: Phase::Live,
            wants: Wants::default(),
            outstanding: None,
            awaited: None,
            children: Vec::new(),
            unaccepted: Vec::new(),
            deleted_early: Vec::new(),
            nonce_min: nonces.initiator.min(nonces.responder).to_vec(),
            begun_by,
            established_at: now,
            last_heard: now,
            outdated: false,
        }
    }

    /// Whether it is or will be in use, so that no other one is needed.
    pub(crate) const fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Pending)
    }

    /// The children in use that the configuration asks for.
    pub(crate) fn wanted_children(&self) -> impl Iterator<Item = &Child> + Clone {
        self.children
            .iter()
            .filter(|child| child.is_in_use() && !child.stale)
    }

    /// Whether a request for a child waits for its answer.
    pub(crate) fn asks_for_child(&self) -> bool {
        self.outstanding
            .as_ref()
            .is_some_and(|outstanding| matches!(outstanding.exchange, Exchange::CreateChild(_)))
    }

    pub(crate) fn child_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// Forgets what the peer did not finish.
    pub(crate) fn forget_awaited(&mut self, host: &mut Host) {
        if let Some(awaited) = self.awaited.take() {
            awaited.abandon(host);
        }
    }

    /// Ends the IKE SA: its children send no more and receive for `grace`.
    pub(crate) fn die(mut self, context: &mut Context<'_>, sa: &mut IkeSa, grace: Duration) {
        for child in std::mem::take(&mut self.children) {
            child.bury(context, grace);
        }
        for spi in std::mem::take(&mut self.unaccepted) {
            context.host.free_esp_spi(spi);
        }
        self.forget_awaited(context.host);
        match self.outstanding.take().map(|outstanding| outstanding.exchange) {
            Some(Exchange::CreateChild(attempt)) => attempt.abandon(context.host),
            Some(Exchange::RekeyIke(attempt)) => attempt.abandon(context.host),
            Some(Exchange::DeleteChildren(_) | Exchange::DeleteIke | Exchange::Probe) | None => {}
        }
        sa.state = State::Dead;
    }

    /// Takes a child out and lets it receive for a while.
    pub(crate) fn bury(&mut self, context: &mut Context<'_>, id: ChildId, grace: Duration) {
        let Some(place) = self.children.iter().position(|child| child.id == id) else {
            return;
        };
        let child = self.children.remove(place);
        child.bury(context, grace);
    }

    /// The group of our key exchange when we replace this IKE SA.
    pub(crate) fn rekey_group(&self, connection: &Connection) -> DhGroup {
        let offered = connection
            .config
            .ike_proposals
            .iter()
            .flat_map(|proposal| proposal.dh.iter().copied());
        let mut first = None;
        for group in offered {
            if group == self.suite.dh {
                return group;
            }
            first.get_or_insert(group);
        }
        first.unwrap_or(self.suite.dh)
    }
}
