//! IKEv1 (RFC 2407, 2408, 2409, with 3706 and 3947): main mode and, where allowed, aggressive mode with a pre-shared key,
//! quick mode, informational exchanges.
//!
//! The [`Machine`] runs the connections whose version is 1. Unlike in IKEv2 Child SAs do not belong to the SA that they
//! were made under: they stay when it goes, and each pair of ranges has its own. Nothing in IKEv1 confirms the end of an
//! exchange or a delete, so each end decides by itself, by rules that give both the same result.
//!
//! What was begun is finished, so that nothing half done is left at the peer, but not said again once it has become needless:
//! see [`Machine::is_needless`]. An SA that nobody can use any more when it is established goes at once. Deletes are said
//! several times, over fifteen seconds. A peer that says it has lost everything (INITIAL-CONTACT) may have lost less: strongSwan
//! says so too when a quick mode reached it while it replaced its ISAKMP SA, because it drops the old one then. So Child SAs
//! that it may have lost stay until others are in use, or until nothing has come on them for a while.

mod aggressive;
mod attributes;
mod candidate;
mod farewell;
mod fault;
mod identity;
mod informational;
mod keys;
mod main_mode;
mod message;
mod nat;
mod phase_2;
mod proof;
mod quick;
mod receive;
mod sa;
mod timeout;
mod tunnel;
mod turns;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;
use isthmus_wire::isakmp::NotifyType;

use self::farewell::Farewell;
use self::fault::Fault;
use self::message::Parts;
use self::receive::Datagram;
use self::sa::{Established, Handshake, Sa, Secrets, State};
use self::tunnel::Tunnel;
use self::turns::TURN;
use crate::begun::{Begun, HalfOpen};
use crate::channel::Role;
use crate::connection::Connection;
use crate::error::IkeError;
use crate::evidence;
use crate::finding::{End, EventKind};
use crate::host::{Context, Host};
use crate::sa::{SaId, rekey_after};
use crate::status::DownReason;

/// Pause before we begin again what the peer deleted.
const AFTER_DELETE: Duration = Duration::from_millis(500);
/// How long the initiator of phase 1 has to ask for Child SAs before we do.
const PEER_FIRST: Duration = Duration::from_secs(2);
/// How long an SA that we replaced stays.
const OWN_GRACE: Duration = Duration::from_secs(3);
/// How long one stays that the peer should remove: its message may have been lost.
const PEERS_GRACE: Duration = Duration::from_secs(6);
/// An ISAKMP SA that is begun so soon after another one was established may have been decided on before.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Shortest lifetime of phase 1 that a peer can impose.
const MIN_IKE_LIFETIME: Duration = Duration::from_secs(60);

/// All of IKEv1 at one endpoint.
#[derive(Default)]
pub(crate) struct Machine {
    sas: BTreeMap<SaId, Sa>,
    of_connection: BTreeSet<(VpnConnectionId, SaId)>,
    tunnels: BTreeMap<VpnConnectionId, Tunnel>,
    begun: Begun,
    half_open: HalfOpen<IpAddr>,
    /// Deletes that are sent once more.
    farewells: Vec<Farewell>,
    due: BTreeSet<(Instant, Owner)>,
    armed: BTreeMap<Owner, Instant>,
}

/// How much a machine holds.
pub(crate) struct Counts {
    pub(crate) sas: usize,
    pub(crate) begun: usize,
    pub(crate) tunnels: usize,
}

/// What has timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Farewells,
    Sa(SaId),
    Tunnel(VpnConnectionId),
}

/// What the machine works with.
pub(crate) struct Scope<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) connections: &'a mut BTreeMap<VpnConnectionId, Connection>,
    /// Connections that something happened to.
    pub(crate) touched: BTreeSet<VpnConnectionId>,
    pub(crate) now: Instant,
    /// Whether the peer is to forget what it has of us.
    is_initial_contact: bool,
}

impl<'a> Scope<'a> {
    pub(crate) const fn new(
        host: &'a mut Host,
        connections: &'a mut BTreeMap<VpnConnectionId, Connection>,
        now: Instant,
    ) -> Self {
        Self {
            host,
            connections,
            touched: BTreeSet::new(),
            now,
            is_initial_contact: false,
        }
    }

    fn connection_of(&mut self, sa: &Sa) -> Result<&mut Connection, IkeError> {
        sa.connection
            .and_then(|id| self.connections.get_mut(&id))
            .ok_or(IkeError::Internal("an SA without a connection"))
    }

    fn context(&mut self, connection: Option<VpnConnectionId>) -> Context<'_> {
        Context {
            host: self.host,
            connection: connection.and_then(|id| self.connections.get_mut(&id)),
            now: self.now,
        }
    }

    fn touch(&mut self, connection: Option<VpnConnectionId>) {
        self.touched.extend(connection);
    }

    fn complain(&mut self, connection: Option<VpnConnectionId>, error: &IkeError) {
        self.context(connection)
            .complain(DownReason::Internal, error.to_string());
    }
}

impl Machine {
    /// The earliest moment that something falls due.
    pub(crate) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        self.due.first().map(|(at, owner)| {
            let why = match owner {
                Owner::Farewells => "delete of an ISAKMP SA",
                Owner::Sa(_) => "ISAKMP SA",
                Owner::Tunnel(_) => "Child SAs of IKEv1",
            };
            (*at, why)
        })
    }

    /// Whether no ISAKMP SA is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.sas.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sas: self.sas.len(),
            begun: self.begun.len(),
            tunnels: self.tunnels.len(),
        }
    }

    /// The secrets of the established SAs, by name.
    #[cfg(test)]
    pub(crate) fn secrets(&self) -> Vec<(&'static str, &[u8])> {
        let established = self.sas.values().filter_map(Sa::established);
        established
            .flat_map(|established| established.keys.secrets())
            .collect()
    }

    /// How many SAs are half open.
    pub(crate) const fn half_open(&self) -> &HalfOpen<IpAddr> {
        &self.half_open
    }

    /// The same, counted.
    #[cfg(test)]
    pub(crate) fn recounted_half_open(&self) -> HalfOpen<IpAddr> {
        self.sas.values().filter_map(half_open).collect()
    }

    /// Begins phase 1 for a connection.
    pub(crate) fn start(&mut self, scope: &mut Scope<'_>, id: VpnConnectionId) {
        let replaces = self.established_of(Some(id));
        let in_use = self
            .live_of(id)
            .and_then(|id| self.sas.get(&id))
            .map(|sa| sa.path);
        let turn = self.tunnels.get(&id).map_or(0, |tunnel| tunnel.offer_turn);
        match main_mode::start(scope, id, replaces, in_use, turn) {
            Ok(sa) => self.put(scope, sa),
            Err(fault) => {
                if let Some(connection) = scope.connections.get_mut(&id) {
                    match fault {
                        Fault::Found(_, kind) => connection.diary.find(*kind),
                        Fault::Hash
                        | Fault::Internal(_)
                        | Fault::Invalid(_)
                        | Fault::Malformed
                        | Fault::Missing(_) => connection.complain(DownReason::Internal, fault.to_string()),
                    }
                    connection.ike_pause.after_failure(scope.host, scope.now);
                }
            }
        }
    }

    fn arm(&mut self, owner: Owner, at: Option<Instant>) {
        if let Some(old) = self.armed.remove(&owner) {
            self.due.remove(&(old, owner));
        }
        if let Some(at) = at {
            self.armed.insert(owner, at);
            self.due.insert((at, owner));
        }
    }

    fn put(&mut self, scope: &mut Scope<'_>, sa: Sa) {
        scope.touch(sa.connection);
        if matches!(sa.state, State::Dead) {
            scope.host.free_ike_spi(sa.local_cookie);
            if sa.role == Role::Responder {
                self.begun.remove(sa.id);
            }
            return;
        }
        let interval = sa
            .connection
            .and_then(|id| scope.connections.get(&id))
            .and_then(Connection::liveness_interval);
        self.arm(Owner::Sa(sa.id), sa.next_timeout(interval));
        self.of_connection
            .extend(sa.connection.map(|connection| (connection, sa.id)));
        if let Some(address) = half_open(&sa) {
            self.half_open.add(address);
        }
        self.sas.insert(sa.id, sa);
    }

    /// Lets `act` work on an SA, and cleans up if it dies of it.
    fn with_sa<R>(
        &mut self,
        scope: &mut Scope<'_>,
        id: SaId,
        act: impl FnOnce(&mut Self, &mut Scope<'_>, &mut Sa) -> R,
    ) -> Option<R> {
        let mut sa = self.sas.remove(&id)?;
        if let Some(address) = half_open(&sa) {
            self.half_open.remove(&address);
        }
        self.arm(Owner::Sa(id), None);
        if let Some(connection) = sa.connection {
            self.of_connection.remove(&(connection, id));
            scope.touched.insert(connection);
        }
        let result = act(self, scope, &mut sa);
        self.put(scope, sa);
        Some(result)
    }

    /// The SAs of a connection, oldest first.
    fn sas_of(&self, connection: VpnConnectionId) -> Vec<SaId> {
        self.of_connection
            .range((connection, SaId(u64::MIN))..=(connection, SaId(u64::MAX)))
            .map(|(_, id)| *id)
            .collect()
    }

    fn established_of(&self, connection: Option<VpnConnectionId>) -> Vec<SaId> {
        let mut ids = connection.map_or_else(Vec::new, |connection| self.sas_of(connection));
        ids.retain(|id| self.sas.get(id).is_some_and(|sa| sa.established().is_some()));
        ids
    }

    /// The SA to send with: the newest.
    fn live_of(&self, connection: VpnConnectionId) -> Option<SaId> {
        self.sas_of(connection)
            .into_iter()
            .filter_map(|id| self.sas.get(&id))
            .filter(|sa| sa.is_good())
            .max_by_key(|sa| sa.established().map(|established| established.established_at))
            .map(|sa| sa.id)
    }

    /// Whether we have nothing else with the peer of this SA.
    fn has_nothing(&self, sa: &Sa) -> bool {
        sa.connection.is_some_and(|id| {
            self.established_of(Some(id)).is_empty()
                && self
                    .tunnels
                    .get(&id)
                    .is_none_or(|tunnel| tunnel.children.is_empty())
        })
    }

    /// Which connection the peer means is known only now: what its new SA replaces is that connection's.
    fn note_connection(&self, sa: &mut Sa) {
        sa.replaces = self
            .established_of(sa.connection)
            .into_iter()
            .filter(|id| {
                self.sas
                    .get(id)
                    .and_then(Sa::established)
                    .is_some_and(|established| established.established_at <= sa.begun_at)
            })
            .collect();
    }

    /// Phase 1 is over: the peer is who it says.
    fn establish(
        &mut self,
        scope: &mut Scope<'_>,
        sa: &mut Sa,
        handshake: Handshake,
        secrets: Secrets,
        parts: &Parts,
    ) {
        let now = scope.now;
        sa.request = None;
        let path = sa.path;
        let initial = parts
            .notifies
            .iter()
            .any(|notify| notify.notify_type == NotifyType::INITIAL_CONTACT);
        if let Some(connection) = sa.connection {
            self.tunnels.entry(connection).or_default().nonce_rule = sa.features.nonce_rule;
        }
        let mut context = scope.context(sa.connection);
        evidence::on_established(&mut context, &path, &handshake.suite, sa.role);
        let Some(connection) = context.connection else {
            sa.state = State::Dead;
            return;
        };
        connection.wanted = true;
        connection.in_contact = true;
        connection.ike_pause.reset();
        if sa.role == Role::Responder {
            // Who begins phase 1 wants Child SAs: what is missing after a while we ask for. Our last message may be lost, too,
            // and strongSwan does not recover a quick mode that comes before it.
            connection.child_pause.at_least(PEER_FIRST, now);
        }
        if !self.established_of(sa.connection).is_empty() {
            // The peer moves its Child SAs to the new SA first.
            connection.child_pause.at_least(TURN, now);
        }
        let ours = Duration::from_secs(u64::from(connection.config.ike_lifetime_seconds));
        let lifetime = handshake
            .lifetime
            .map_or(ours, |theirs| ours.min(theirs.max(MIN_IKE_LIFETIME)));
        let may_initiate = connection.may_initiate();
        let mut established = Established::new(context.host, handshake.suite, secrets, now + lifetime, now);
        established.rekey_at = may_initiate.then(|| now + rekey_after(lifetime, context.host));
        established.keepalive_at = sa.keepalive_after(now);
        sa.state = State::Established(Box::new(established));
        if initial {
            self.forget_older(scope, sa);
        }
        if sa.role == Role::Initiator && !may_initiate && !self.has_children(sa.connection) {
            // We were allowed to begin when we did. Now there is nothing that we could do with it.
            self.end(scope, sa);
            return;
        }
        self.supersede_siblings(scope, sa);
    }

    fn has_children(&self, connection: Option<VpnConnectionId>) -> bool {
        let tunnel = connection.and_then(|id| self.tunnels.get(&id));
        tunnel.is_some_and(|tunnel| tunnel.children.iter().any(|child| child.doubted_at.is_none()))
    }

    /// Whether a handshake of ours is not to be said again: the peer cannot have established its SA yet, and either we may not
    /// begin any more, or the peer has made another SA since, and has not answered this one.
    fn is_needless(&self, scope: &Scope<'_>, sa: &Sa) -> bool {
        let (unanswered, begun) = match &sa.state {
            State::SaSent(_) => (true, true),
            State::KeSent(_) => (false, true),
            State::AggressiveAnswered(_)
            | State::Dead
            | State::Established(_)
            | State::IdSent(_)
            | State::KeAnswered(_)
            | State::SaAnswered(_) => (false, false),
        };
        let forbidden = sa
            .connection
            .and_then(|id| scope.connections.get(&id))
            .is_none_or(|connection| !connection.may_initiate());
        let another = || {
            let others = self.established_of(sa.connection);
            others.iter().any(|id| !sa.replaces.contains(id))
        };
        begun && forbidden || unanswered && another()
    }

    /// The answer of a peer to the last message of a handshake whose connection has gone down: the peer has an SA now, which goes
    /// at once.
    fn take_back(&mut self, scope: &mut Scope<'_>, sa: &mut Sa, handshake: &Handshake, secrets: Secrets) {
        let now = scope.now;
        sa.request = None;
        let established = Established::new(scope.host, handshake.suite, secrets, now, now);
        sa.state = State::Established(Box::new(established));
        self.delete_sa(scope, sa);
        sa.state = State::Dead;
    }

    /// Of several SAs of a connection one is used: the newest, as far as it can be told. Those that were there when it began go,
    /// and those that were finished before it. Where both are of the same moment, because one did not wait for the other, it is
    /// the one with the higher nonce, which both ends see alike; the other one goes if it is ours, and is a spare if it is the
    /// peer's, as there are peers whose Child SAs go with it.
    fn supersede_siblings(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let Some(connection) = sa.connection else {
            return;
        };
        let now = scope.now;
        let own_role = sa.role;
        let replaces = std::mem::take(&mut sa.replaces);
        let mut superseded = Vec::new();
        let mut crossed = false;
        let begun_at = sa.begun_at;
        for id in self.sas_of(connection) {
            self.with_sa(scope, id, |_, _, other| {
                let other_role = other.role;
                crossed |= other
                    .established()
                    .is_some_and(|other| begun_at < other.established_at + AT_ONCE);
                let unanswered = other.is_unanswered();
                match &mut other.state {
                    State::Established(established)
                        if replaces.contains(&id) || established.established_at + TURN / 2 <= now =>
                    {
                        superseded.push(id);
                        let at = match own_role {
                            Role::Initiator => now + OWN_GRACE,
                            Role::Responder => now + PEERS_GRACE,
                        };
                        let earlier = established.superseded_at.filter(|earlier| *earlier < at);
                        established.superseded_at = earlier.or(Some(at));
                        established.crossed = false;
                    }
                    State::Established(established)
                        if established.superseded_at.is_none() && established.spare_since.is_none() =>
                    {
                        let Some(own) = sa.established_mut() else {
                            return;
                        };
                        if established.nonce_min < own.nonce_min {
                            established.lose(other_role, now);
                        } else {
                            own.lose(own_role, now);
                        }
                    }
                    // The peer knows nothing of it. Others go on, so that nothing half done is left at the peer.
                    State::SaSent(_) if unanswered => other.state = State::Dead,
                    State::AggressiveAnswered(_)
                    | State::Dead
                    | State::Established(_)
                    | State::IdSent(_)
                    | State::KeAnswered(_)
                    | State::KeSent(_)
                    | State::SaAnswered(_)
                    | State::SaSent(_) => {}
                }
            });
        }
        self.make_anew_what_hangs_on(scope, connection, &superseded, begun_at, crossed);
    }

    /// The peer keeps a spare, so it keeps what is on it: ours goes instead.
    fn use_spare(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let now = scope.now;
        let Some(connection) = sa.connection else {
            return;
        };
        if let Some(established) = sa.established_mut() {
            established.spare_since = None;
        }
        for id in self.sas_of(connection) {
            self.with_sa(scope, id, |_, _, other| {
                if other.role == Role::Initiator
                    && let Some(established) = other.established_mut()
                {
                    established.superseded_at.get_or_insert(now);
                }
            });
        }
    }

    /// A handshake is over without success.
    fn fail_attempt(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let initiator = sa.role == Role::Initiator;
        sa.state = State::Dead;
        let context = scope.context(sa.connection);
        if let Some(connection) = context.connection
            && initiator
        {
            connection.ike_pause.after_failure(context.host, context.now);
        }
    }

    /// The peer takes nothing of this part of our offer: the next part follows at once, or after the last one a pause.
    fn offer_more(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let Ok(connection) = scope.connection_of(sa) else {
            return;
        };
        let config = &connection.config;
        let parts = attributes::offers_ike(&config.ike_proposals, config.ike_lifetime_seconds).len();
        if parts < 2 {
            return;
        }
        let tunnel = self.tunnels.entry(connection.id()).or_default();
        tunnel.offer_turn = (tunnel.offer_turn + 1) % parts;
        if tunnel.offer_turn == 0 {
            self.fail_attempt(scope, sa);
        } else {
            sa.state = State::Dead;
        }
    }

    /// An SA that we do not want goes, at the peer too.
    fn end(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        self.delete_sa(scope, sa);
        if let Ok(connection) = scope.connection_of(sa) {
            connection.diary.note(EventKind::IkeDeleted { by: End::Ours });
        }
        self.drop_sa(scope, sa);
    }

    /// An SA goes without a word; one that it made redundant stays.
    fn drop_sa(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let was_live = sa.is_live();
        let connection = sa.connection;
        if let State::Established(established) = std::mem::replace(&mut sa.state, State::Dead) {
            for (_, quick) in established.quick {
                match &quick {
                    quick::Quick::Answered(answered) => {
                        self.forget_unready(scope, connection, answered.child);
                    }
                    quick::Quick::Done {
                        commit: Some(commit), ..
                    } => self.make_ready(scope, connection, commit.child),
                    quick::Quick::Asked(_) | quick::Quick::Done { commit: None, .. } => {}
                }
                quick.abandon(scope.host);
            }
        }
        if was_live && let Some(connection) = connection {
            let newest = self
                .established_of(Some(connection))
                .into_iter()
                .max_by_key(|id| {
                    self.sas
                        .get(id)
                        .and_then(Sa::established)
                        .map(|established| established.established_at)
                });
            if let Some(id) = newest {
                self.with_sa(scope, id, |_, _, sa| {
                    if let Some(established) = sa.established_mut() {
                        established.superseded_at = None;
                        established.spare_since = None;
                    }
                });
            }
        }
    }

    /// The peer has lost everything that was there before this SA began: no delete is due for an ISAKMP SA. What came to be while
    /// it was being made is not meant, as both ends may have begun at once. Child SAs are replaced before they go: a peer that
    /// has lost only its ISAKMP SA says the same.
    fn forget_older(&mut self, scope: &mut Scope<'_>, sa: &Sa) {
        let Some(connection) = sa.connection else {
            return;
        };
        let before = sa.begun_at;
        for id in self.sas_of(connection) {
            self.with_sa(scope, id, |machine, scope, other| {
                let older = other
                    .established()
                    .is_some_and(|established| established.established_at < before);
                if older {
                    machine.drop_sa(scope, other);
                }
            });
        }
        self.doubt_children(scope, connection, before);
    }

    /// An authentic message came: behind a NAT the peer is where it came from.
    fn on_authentic(&mut self, scope: &mut Scope<'_>, sa: &mut Sa, datagram: &Datagram<'_>) {
        if sa.path.nat.remote && sa.path.remote != datagram.remote {
            self.move_peer(scope, sa, datagram.remote);
        }
    }
}

/// Where the peer of a half-open SA is.
fn half_open(sa: &Sa) -> Option<IpAddr> {
    sa.is_half_open().then(|| sa.path.remote.ip().to_canonical())
}
