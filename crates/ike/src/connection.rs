//! A connection: its configuration, which of its children send, and what went wrong.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use isthmus_types::{IkeVersion, VpnConnectionId};

use crate::auth::Method;
use crate::config::{ConnectionConfig, DpdAction, EstablishMode, PeerEndpoint};
use crate::demand::Demand;
use crate::diary::Diary;
use crate::event::{ChildId, Event};
use crate::evidence::Tally;
use crate::finding::{FindingKind, Severity};
use crate::host::Host;
use crate::selector::Traffic;
use crate::status::{ConnectionState, DownReason};

/// A child that only waits for a sign of the peer sends after this time without one.
const WAIT_AT_MOST: Duration = Duration::from_secs(3);
/// The same where the peer shows that it has not got our answer yet.
const WAIT_LONGEST: Duration = Duration::from_secs(10);
/// For so long we remember that we closed an IKE SA of the peer's making.
const OVERRULED_FOR: Duration = Duration::from_secs(300);
/// Longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long requests wait for a response if the configuration does not say.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Connection {
    pub(crate) config: ConnectionConfig,
    /// How both ends prove themselves, made from the configuration.
    pub(crate) method: Method,
    pub(crate) peer_address: Option<IpAddr>,
    /// Children that may send or wait to, in the order in which they became so.
    outbound: Vec<Sender>,
    /// Whether we should have SAs (given that we may start them).
    pub(crate) wanted: bool,
    /// Whether there is an authenticated IKE SA.
    pub(crate) in_contact: bool,
    pub(crate) ike_pause: Pause,
    pub(crate) child_pause: Pause,
    /// What was found out about it and what happened to it.
    pub(crate) diary: Diary,
    pub(crate) tally: Tally,
    pub(crate) demand: Demand,
    /// Grows with each change that children must follow.
    pub(crate) revision: u32,
    /// How often the peer came again after we closed an IKE SA of its making that was one too many, and when last.
    overruled: Option<(u32, Instant)>,
    reported: ConnectionState,
}

struct Sender {
    child: ChildId,
    traffic: Traffic,
    lane: u8,
    state: Outbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outbound {
    Ready,
    Waiting { since: Instant, until: Instant },
}

/// Pauses between attempts that grow with each failure.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Pause {
    /// Attempts may start at once.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// Waits longer than the last time.
    pub(crate) fn after_failure(&mut self, host: &mut Host, now: Instant) {
        let base = Duration::from_millis(500) * (1 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + (base + host.random_below(base / 2)).min(MAX_PAUSE));
    }

    /// Waits for the given time.
    pub(crate) fn at_least(&mut self, pause: Duration, now: Instant) {
        let until = now + pause;
        self.until = Some(self.until.map_or(until, |old| old.max(until)));
    }

    fn next(&self) -> Option<Instant> {
        self.until
    }
}

impl Connection {
    pub(crate) fn new(config: ConnectionConfig) -> Self {
        let peer_address = fixed_address(&config);
        Self {
            method: Method::of(&config),
            demand: Demand::new(&config),
            revision: 0,
            overruled: None,
            config,
            peer_address,
            outbound: Vec::new(),
            wanted: true,
            in_contact: false,
            ike_pause: Pause::default(),
            child_pause: Pause::default(),
            diary: Diary::default(),
            tally: Tally::default(),
            // What a shell takes for granted.
            reported: negotiating_state(),
        }
    }

    /// Takes a new configuration; what it makes necessary is the caller's.
    pub(crate) fn configure(&mut self, config: ConnectionConfig) {
        if self.config.peer != config.peer {
            self.peer_address = fixed_address(&config);
        }
        if self.config.options.certificate != config.options.certificate
            || self.config.local_identity != config.local_identity
        {
            self.method = Method::of(&config);
        }
        self.demand.configure(&config);
        self.config = config;
        self.wanted = true;
        self.ike_pause.reset();
        self.child_pause.reset();
        // What was found out need not hold any more.
        self.diary.disprove(|_| true);
        self.tally = Tally::default();
    }

    pub(crate) fn id(&self) -> VpnConnectionId {
        self.config.connection
    }

    /// Whether messages of version 2 from `address` may belong to it.
    pub(crate) fn may_be_at(&self, address: IpAddr) -> bool {
        self.config.version == IkeVersion::V2 && self.is_expected_at(address)
    }

    /// The same for messages of version 1.
    pub(crate) fn may_be_at_v1(&self, address: IpAddr) -> bool {
        self.config.version == IkeVersion::V1 && self.is_expected_at(address)
    }

    fn is_expected_at(&self, address: IpAddr) -> bool {
        self.config.is_active()
            && self
                .peer_address
                .is_none_or(|peer| peer == address.to_canonical())
    }

    /// Whether we may begin a handshake. Nobody can go to a peer that may be anywhere.
    pub(crate) fn may_initiate(&self) -> bool {
        self.may_rekey() && self.config.peer != PeerEndpoint::Anywhere
    }

    /// Whether we may make children, and replace them and the IKE SA.
    pub(crate) fn may_rekey(&self) -> bool {
        self.config.is_active() && self.config.establish == EstablishMode::Bidirectional
    }

    /// A child was agreed on: `answered` of `asked`.
    pub(crate) fn note_accepted(&mut self, asked: &Traffic, answered: &Traffic, more_possible: bool) {
        self.child_pause.reset();
        self.forget_complaint();
        self.demand.note_accepted(asked, answered, more_possible);
    }

    /// We close an IKE SA of the peer's making that was one too many.
    pub(crate) fn note_overruling(&mut self, now: Instant) {
        let count = match self.overruled {
            Some((count, at)) if now < at + OVERRULED_FOR => count,
            Some(_) | None => 0,
        };
        self.overruled = Some((count.saturating_add(1), now));
    }

    /// Whether the peer makes its IKE SA again and again although we close it: then ours goes instead.
    pub(crate) fn peer_insists(&self) -> bool {
        self.overruled.is_some_and(|(count, _)| count >= 2)
    }

    /// How long our requests wait for a response.
    pub(crate) fn patience(&self) -> Duration {
        match self.config.dpd_action {
            DpdAction::Clear | DpdAction::Hold | DpdAction::Restart => {
                Duration::from_secs(u64::from(self.config.dpd_timeout_seconds.max(1)))
            }
            DpdAction::None => DEFAULT_PATIENCE,
        }
    }

    /// Time of silence before a probe.
    pub(crate) fn liveness_interval(&self) -> Option<Duration> {
        match self.config.dpd_action {
            DpdAction::Clear | DpdAction::Hold | DpdAction::Restart => Some(Duration::from_secs(u64::from(
                self.config.dpd_interval_seconds.max(1),
            ))),
            DpdAction::None => None,
        }
    }

    /// Records what went wrong where no [`FindingKind`] says it better.
    pub(crate) fn complain(&mut self, reason: DownReason, detail: String) {
        self.diary.find(FindingKind::Other { reason, detail });
    }

    /// It works: what was wrong is not any more. Forward secrecy alone needs more to be proved.
    pub(crate) fn forget_complaint(&mut self) {
        self.diary.disprove(|kind| {
            let needs_more = matches!(kind, FindingKind::PfsMismatch { .. });
            let is_other = matches!(kind, FindingKind::Other { .. });
            !needs_more && (is_other || kind.severity() == Severity::Error)
        });
    }

    /// Records what speaks against somebody who knocked and has proved nothing. Where the peer may be anywhere and is in
    /// contact, it was somebody else.
    pub(crate) fn suspect(&mut self, kind: FindingKind) {
        if self.config.peer != PeerEndpoint::Anywhere || !self.in_contact {
            self.diary.find(kind);
        }
    }

    /// Which of several connections that `address` may belong to comes first: those whose peer is known to be there, then
    /// those whose peer may be anywhere.
    pub(crate) fn remoteness(&self) -> u8 {
        match (&self.config.peer, self.peer_address) {
            (PeerEndpoint::Address(_), _) | (PeerEndpoint::Name(_), Some(_)) => 0,
            (PeerEndpoint::Anywhere, _) => 1,
            (PeerEndpoint::Name(_), None) => 2,
        }
    }

    /// What explains best why it is down.
    pub(crate) fn complaint(&self) -> Option<(DownReason, String)> {
        self.diary
            .leading()
            .map(|kind| (kind.reason(), kind.explanation()))
    }

    /// A child was installed that may send at once. It comes before all others.
    pub(crate) fn add_ready(&mut self, child: ChildId, traffic: &Traffic) {
        self.add_ready_in(0, child, traffic);
    }

    /// The same in a lane: beside children for the same traffic that are in others.
    pub(crate) fn add_ready_in(&mut self, lane: u8, child: ChildId, traffic: &Traffic) {
        self.add(child, traffic, lane, Outbound::Ready);
    }

    /// A child was installed by the peer. If no other one sends such traffic it may send at once (true).
    pub(crate) fn add_waiting(&mut self, child: ChildId, traffic: &Traffic, lane: u8, now: Instant) -> bool {
        let alone = !self.sends_any_of(traffic);
        let state = if alone {
            Outbound::Ready
        } else {
            Outbound::Waiting {
                since: now,
                until: now + WAIT_AT_MOST,
            }
        };
        self.add(child, traffic, lane, state);
        alone
    }

    fn add(&mut self, child: ChildId, traffic: &Traffic, lane: u8, state: Outbound) {
        self.outbound.push(Sender {
            child,
            traffic: traffic.clone(),
            lane,
            state,
        });
    }

    /// The peer uses the child: so may we.
    pub(crate) fn saw_traffic(&mut self, host: &mut Host, child: ChildId) {
        let Some(place) = self.outbound.iter().position(|sender| sender.child == child) else {
            return;
        };
        if self.outbound[place].state == Outbound::Ready {
            return;
        }
        // The last one that became ready is preferred.
        let mut sender = self.outbound.remove(place);
        sender.state = Outbound::Ready;
        self.outbound.push(sender);
        host.events.push_back(Event::ChildOutboundReady {
            connection: self.id(),
            child,
        });
    }

    /// The peer asks for the child once more: it has not got our answer yet.
    pub(crate) fn prolong_wait(&mut self, child: ChildId, now: Instant) {
        for sender in self.outbound.iter_mut().filter(|sender| sender.child == child) {
            if let Outbound::Waiting { since, until } = &mut sender.state {
                *until = (now + WAIT_AT_MOST).min(*since + WAIT_LONGEST);
            }
        }
    }

    /// A child that is one too many does not begin to send, and sends no more if another one does.
    pub(crate) fn withhold(&mut self, host: &mut Host, child: ChildId) {
        let Some(place) = self.outbound.iter().position(|sender| sender.child == child) else {
            return;
        };
        if self.outbound[place].state != Outbound::Ready {
            self.outbound.remove(place);
            return;
        }
        let traffic = &self.outbound[place].traffic;
        let others_send = self.outbound.iter().any(|other| {
            other.child != child && other.state == Outbound::Ready && other.traffic.covers(traffic)
        });
        if others_send {
            self.retire(host, child);
        }
    }

    /// The child sends no more. Those that wait for traffic that nobody sends any more begin to, the newest first; so does
    /// one that takes its place in its lane, before the flows of the lane would go elsewhere and overtake each other.
    pub(crate) fn retire(&mut self, host: &mut Host, child: ChildId) {
        let Some(place) = self.outbound.iter().position(|sender| sender.child == child) else {
            return;
        };
        let retired = self.outbound.remove(place);
        let waiting: Vec<ChildId> = self.outbound.iter().rev().map(|sender| sender.child).collect();
        for id in waiting {
            let alone = self
                .outbound
                .iter()
                .find(|sender| sender.child == id)
                .is_some_and(|sender| {
                    let succeeds = sender.lane == retired.lane && sender.traffic.overlaps(&retired.traffic);
                    !self.sends_any_of(&sender.traffic)
                        || succeeds && !self.sends_in_lane(sender.lane, &sender.traffic)
                });
            if alone {
                self.saw_traffic(host, id);
            }
        }
        host.events.push_back(Event::ChildRetired {
            connection: self.id(),
            child,
        });
    }

    pub(crate) fn handle_timeout(&mut self, host: &mut Host, now: Instant) {
        let due: Vec<ChildId> = self
            .outbound
            .iter()
            .filter(|sender| matches!(sender.state, Outbound::Waiting { until, .. } if until <= now))
            .map(|sender| sender.child)
            .collect();
        for child in due {
            self.saw_traffic(host, child);
        }
    }

    /// The earliest moment that something of the connection itself falls due after `now`.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let waiting = self.outbound.iter().filter_map(|sender| match sender.state {
            Outbound::Ready => None,
            Outbound::Waiting { until, .. } => Some(until),
        });
        let pauses = [self.ike_pause.next(), self.child_pause.next()]
            .into_iter()
            .flatten()
            .filter(|at| *at > now);
        waiting.chain(pauses).chain(self.demand.next_timeout(now)).min()
    }

    /// The state now, and an event if it is another one than last reported.
    pub(crate) fn report(&mut self, host: &mut Host, now: Instant) {
        self.diary.stamp(self.id(), host, now);
        let state = self.state();
        if state != self.reported {
            self.reported = state.clone();
            host.events.push_back(Event::ConnectionStateChanged {
                connection: self.id(),
                state,
            });
        }
    }

    pub(crate) fn state(&self) -> ConnectionState {
        if !self.config.admin_up {
            return ConnectionState::AdminDown;
        }
        if !self.outbound.is_empty() {
            return ConnectionState::Up;
        }
        match self.complaint() {
            Some((reason, detail)) => ConnectionState::Down { reason, detail },
            None => waiting_state(&self.config),
        }
    }

    /// Whether a child of this lane sends some of `traffic`.
    fn sends_in_lane(&self, lane: u8, traffic: &Traffic) -> bool {
        self.outbound.iter().any(|sender| {
            sender.lane == lane && sender.state == Outbound::Ready && sender.traffic.overlaps(traffic)
        })
    }

    /// Whether a child sends some of `traffic`.
    fn sends_any_of(&self, traffic: &Traffic) -> bool {
        self.outbound
            .iter()
            .any(|sender| sender.state == Outbound::Ready && sender.traffic.overlaps(traffic))
    }
}

fn negotiating_state() -> ConnectionState {
    ConnectionState::Down {
        reason: DownReason::Negotiating,
        detail: "negotiation is under way or waits for the peer".into(),
    }
}

fn waiting_state(config: &ConnectionConfig) -> ConnectionState {
    let detail = match (&config.peer, config.establish) {
        (PeerEndpoint::Anywhere, _) => format!(
            "waits for the peer, which may be anywhere and so must begin: it is known by its identity, {}",
            config.peer_identity
        ),
        (PeerEndpoint::Address(_) | PeerEndpoint::Name(_), EstablishMode::PeerOnly) => {
            "waits for the peer, which alone may begin".to_owned()
        }
        (PeerEndpoint::Address(_) | PeerEndpoint::Name(_), EstablishMode::Bidirectional) => {
            return negotiating_state();
        }
    };
    ConnectionState::Down {
        reason: DownReason::AwaitingPeer,
        detail,
    }
}

fn fixed_address(config: &ConnectionConfig) -> Option<IpAddr> {
    match &config.peer {
        PeerEndpoint::Address(address) => Some(address.to_canonical()),
        PeerEndpoint::Anywhere | PeerEndpoint::Name(_) => None,
    }
}
