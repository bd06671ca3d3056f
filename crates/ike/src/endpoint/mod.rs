//! The endpoint: all connections and IKE SAs of one local address.

mod followup;
mod footprint;
mod receive;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_types::{IkeVersion, Timestamp, VpnConnectionId};

use self::table::{Agenda, SaTable};
use crate::algorithm::EspSuite;
use crate::begun::Begun;
use crate::child::ChildPhase;
use crate::config::{Change, ConnectionConfig, PeerEndpoint};
use crate::connection::Connection;
use crate::cookie::CookieJar;
use crate::diary;
use crate::event::{ChildId, Event, Transmit};
use crate::evidence;
use crate::exchange::{ike_sa_init, request, timeout};
use crate::finding::{End, EventKind, Finding, FindingKind, Note};
use crate::host::{Context, Host};
use crate::sa::{IkeSa, Phase, SaId, State};
use crate::status::{ChildStatus, ConnectionState, ConnectionStatus};
use crate::timer::Timer;
use crate::v1;

pub use footprint::Footprint;

/// UDP port of IKE.
pub const IKE_PORT: u16 = 500;
/// UDP port of IKE and ESP where there is a NAT.
pub const NAT_PORT: u16 = 4500;

/// Pause between two questions for the address behind a name.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
/// How often one look at what happened may lead to another one.
const MAX_LOOKS: usize = 4;

/// One end of any number of connections. See the crate's documentation for how to drive it.
pub struct Endpoint {
    host: Host,
    cookies: CookieJar,
    connections: BTreeMap<VpnConnectionId, Connection>,
    sas: SaTable,
    agenda: Agenda,
    begun_by_peers: Begun,
    /// Everything of the connections whose version is 1.
    v1: v1::Machine,
    /// The latest `now`.
    clock: Instant,
}

impl Endpoint {
    /// An endpoint at `local`. `seed` must come from the operating system: SPIs and nonces are drawn from it.
    pub fn new(local: IpAddr, seed: [u8; 32], now: Instant) -> Self {
        let mut host = Host::new(local, seed);
        let cookies = CookieJar::new(&mut host.rng, now);
        Self {
            host,
            cookies,
            connections: BTreeMap::new(),
            sas: SaTable::default(),
            agenda: Agenda::default(),
            begun_by_peers: Begun::default(),
            v1: v1::Machine::default(),
            clock: now,
        }
    }

    /// Gives the endpoint an address of the other IP version too, or takes it away. Each peer is spoken to from the address
    /// of its own version.
    pub const fn set_other_address(&mut self, address: Option<IpAddr>) {
        self.host.set_other_local(address);
    }

    /// Whether to tell the keys of every IKE SA that is made from now on by [`Event::IkeKeysAgreed`]. Off at first.
    pub const fn tell_keys(&mut self, wanted: bool) {
        self.host.tells_keys = wanted;
    }

    /// Handshakes that others began and have not proved themselves in yet.
    pub const fn half_open(&self) -> usize {
        self.sas.half_open().all() + self.v1.half_open().all()
    }

    /// Handshakes that were answered with a cookie.
    pub const fn cookies_sent(&self) -> u64 {
        self.cookies.made()
    }

    /// Tells the date, that certificates are checked at. Without it none is accepted. Tell it again when the clock was
    /// set and now and then, since `now` may not count the time that the machine sleeps.
    pub fn set_date(&mut self, date: Timestamp, now: Instant) {
        self.host.date = Some((date, now));
    }

    /// Adds a connection or changes it. What does not differ keeps running; an equal configuration changes nothing.
    pub fn upsert_connection(&mut self, config: ConnectionConfig, now: Instant) {
        self.clock = now;
        let id = config.connection;
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.config == config {
                return;
            }
            let change = connection.config.change_to(&config);
            if connection.config.reset_count != config.reset_count && config.is_active() {
                connection.diary.note(EventKind::Reset);
            }
            if change == Change::Everything {
                // Still with the old configuration.
                self.close_sas_of(id, now);
            }
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.configure(config);
            }
            if change == Change::Children {
                self.replace_children_of(id, now);
                self.with_v1(now, |v1, scope| v1.replace_children(scope, id));
            }
        } else {
            self.connections.insert(id, Connection::new(config));
        }
        self.agenda.touch(id);
        self.settle(now);
    }

    /// Removes a connection: its children are removed now, its peer is told.
    pub fn remove_connection(&mut self, connection: VpnConnectionId, now: Instant) {
        self.clock = now;
        self.close_sas_of(connection, now);
        self.connections.remove(&connection);
        self.agenda.set(connection, None);
        self.settle(now);
    }

    /// Traffic asks for the connection.
    pub fn acquire(&mut self, connection: VpnConnectionId, now: Instant) {
        self.clock = now;
        if let Some(found) = self.connections.get_mut(&connection)
            && !found.wanted
        {
            found.wanted = true;
            found.ike_pause.reset();
            self.agenda.touch(connection);
        }
        self.settle(now);
    }

    /// An authentic ESP packet came on this child.
    pub fn note_inbound(&mut self, child: ChildId, now: Instant) {
        self.clock = now;
        let Some((connection, sa)) = self.host.owners.get(&child).copied() else {
            return;
        };
        if self.is_v1(connection) {
            self.with_v1(now, |v1, scope| v1.note_inbound(scope, connection, child));
            self.settle(now);
            return;
        }
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.saw_traffic(&mut self.host, child);
        }
        self.sas.edit(sa, |sa| {
            if let Some(established) = sa.established_mut() {
                established.last_heard = now;
            }
        });
    }

    /// The newest authentic ESP packet of this child came from another address or port.
    pub fn note_peer_address(&mut self, child: ChildId, remote: SocketAddr, now: Instant) {
        self.clock = now;
        let Some((connection, sa)) = self.host.owners.get(&child).copied() else {
            return;
        };
        if self.is_v1(connection) {
            self.with_v1(now, |v1, scope| v1.note_peer_address(scope, connection, remote));
            return;
        }
        let events = &mut self.host.events;
        let connections = &mut self.connections;
        self.sas.edit(sa, |sa| {
            if sa.path.nat.remote && sa.path.remote != remote {
                sa.path.remote = remote;
                let children = sa
                    .established()
                    .map(|established| established.children.iter().map(|child| child.id).collect())
                    .unwrap_or_default();
                if let Some(connection) = connections.get_mut(&connection) {
                    connection.diary.note(EventKind::PeerMoved { to: remote });
                }
                events.push_back(Event::PeerMoved {
                    connection,
                    children,
                    encapsulation: sa.path.encapsulation(),
                    remote,
                });
            }
        });
    }

    /// The answer to [`Event::ResolvePeer`]; none if the name has no address.
    pub fn peer_resolved(&mut self, connection: VpnConnectionId, address: Option<IpAddr>, now: Instant) {
        self.clock = now;
        self.agenda.touch(connection);
        if let Some(connection) = self.connections.get_mut(&connection)
            && let PeerEndpoint::Name(name) = &connection.config.peer
        {
            if address.is_some() {
                connection.ike_pause.reset();
                connection
                    .diary
                    .disprove(|kind| matches!(kind, FindingKind::AddressUnknown { .. }));
            } else {
                let name = name.clone();
                connection.diary.find(FindingKind::AddressUnknown { name });
            }
            connection.peer_address = address.map(|address| address.to_canonical());
        }
        self.settle(now);
    }

    /// Replaces a child soon, such as when it has carried many packets.
    pub fn rekey_child(&mut self, child: ChildId, now: Instant) {
        self.clock = now;
        if let Some((connection, sa)) = self.host.owners.get(&child).copied() {
            if self.is_v1(connection) {
                self.with_v1(now, |v1, scope| v1.rekey_child(scope, connection, child));
            }
            self.with_established(sa, now, |established| {
                if let Some(child) = established.child_mut(child)
                    && child.phase == ChildPhase::Live
                {
                    child.phase = ChildPhase::Outdated;
                }
            });
        }
        self.settle(now);
    }

    /// Deletes a Child SA at the peer: it has carried as much as it may.
    pub fn delete_child(&mut self, child: ChildId, now: Instant) {
        self.clock = now;
        if let Some((connection, sa)) = self.host.owners.get(&child).copied() {
            if self.is_v1(connection) {
                self.with_v1(now, |v1, scope| v1.delete_child(scope, connection, child));
            }
            self.with_established(sa, now, |established| {
                if let Some(child) = established.child_mut(child)
                    && child.is_in_use()
                {
                    child.phase = ChildPhase::Condemned;
                }
            });
        }
        self.settle(now);
    }

    /// Replaces the IKE SAs of a connection.
    pub fn rekey_ike(&mut self, connection: VpnConnectionId, now: Instant) {
        self.clock = now;
        self.with_v1(now, |v1, scope| v1.rekey_ike(scope, connection));
        for sa in self.sas_of(connection) {
            self.with_established(sa, now, |established| {
                established.wants.rekey = established.phase == Phase::Live;
            });
        }
        self.settle(now);
    }

    /// Takes a datagram that arrived at `local_port` from `remote`, without the non-ESP marker.
    pub fn handle_datagram(&mut self, local_port: u16, remote: SocketAddr, bytes: &[u8], now: Instant) {
        self.clock = now;
        // The upper half of this byte is the major version, in all versions.
        if bytes.get(17).is_some_and(|version| version >> 4 == 1) {
            self.with_v1(now, |v1, scope| v1.receive(scope, local_port, remote, bytes));
        } else {
            self.receive(local_port, remote, bytes, now);
        }
        self.settle(now);
    }

    /// Acts on everything that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = now;
        self.host.clear_graves(now);
        for id in self.agenda.take_due(now) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.handle_timeout(&mut self.host, now);
                self.agenda.touch(id);
            }
        }
        for id in self.sas.due(now) {
            self.keep_if_needed(id, now);
            self.with_sa(id, now, timeout::handle);
        }
        self.with_v1(now, v1::Machine::handle_timeout);
        self.settle(now);
    }

    /// Deletes every SA at its peer and forgets all connections. [`Endpoint::is_idle`] tells when all peers know.
    pub fn close(&mut self, now: Instant) {
        let ids: Vec<VpnConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.remove_connection(id, now);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.host.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.host.events.pop_front()
    }

    /// The next thing that happened to a connection, for a log. Few are kept if nobody asks for them.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.host.next_note()
    }

    /// When to call [`Endpoint::handle_timeout`] next, and why. At once if output is waiting to be polled.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if !self.host.transmits.is_empty() || !self.host.events.is_empty() {
            return Some((self.clock, "output is waiting"));
        }
        let sas = self.sas.next_timeout();
        let connections = self.agenda.next().map(|at| (at, "next attempt"));
        let graves = self.host.next_grave().map(|at| (at, "retired Child SA"));
        [sas, connections, graves, self.v1.next_timeout()]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    /// Where first messages of peers are expected from: the addresses that are known, and whether a peer may come from
    /// any.
    pub fn expected_peers(&self) -> (BTreeSet<IpAddr>, bool) {
        let mut addresses = BTreeSet::new();
        let mut anywhere = false;
        for connection in self.connections.values() {
            match connection.peer_address {
                Some(address) => drop(addresses.insert(address)),
                None => anywhere = true,
            }
        }
        (addresses, anywhere)
    }

    /// Whether no IKE SA is left, not even one that waits for its peer's answer to a delete.
    pub fn is_idle(&self) -> bool {
        self.sas.is_empty() && self.v1.is_idle()
    }

    /// All about a connection.
    pub fn status(&self, connection: VpnConnectionId) -> Option<ConnectionStatus> {
        let found = self.connections.get(&connection)?;
        let live: Vec<_> = self
            .sas
            .of(connection)
            .filter_map(|sa| sa.established().map(|established| (sa, established)))
            .filter(|(_, established)| established.is_usable())
            .collect();
        let children: Vec<ChildStatus> = live
            .iter()
            .flat_map(|(_, established)| &established.children)
            .filter(|child| child.is_in_use())
            .map(|child| ChildStatus {
                child: child.id,
                lane: child.lane,
                inbound_spi: child.inbound_spi,
                outbound_spi: child.outbound_spi,
                suite: child.suite,
                local_selectors: child.traffic.local.clone(),
                remote_selectors: child.traffic.remote.clone(),
                installed_at: child.installed_at,
                rekey_at: child.rekey_at,
                expire_at: child.expire_at,
            })
            .collect();
        let esp_suite: Option<EspSuite> = children.last().map(|child| child.suite);
        let newest = live.last();
        let mut status = ConnectionStatus {
            connection,
            state: found.state(),
            warning: found.complaint(),
            ike_suite: newest.map(|(_, established)| established.suite),
            esp_suite,
            remote: newest.map(|(sa, _)| sa.path.remote),
            nat: newest.map(|(sa, _)| sa.path.nat),
            ike_sas: live.len(),
            findings: self.findings_of(found, &children),
            events: found.diary.events(),
            established_at: newest.map(|(_, established)| established.established_at),
            last_heard: newest.map(|(_, established)| established.last_heard),
            children,
        };
        if found.config.version == IkeVersion::V1 {
            self.v1.describe(&mut status);
            status.findings = self.findings_of(found, &status.children);
        }
        Some(status)
    }

    /// The state of a connection.
    pub fn state(&self, connection: VpnConnectionId) -> Option<ConnectionState> {
        self.connections.get(&connection).map(Connection::state)
    }

    /// What was found, with what the children that there are tell by themselves.
    fn findings_of(&self, connection: &Connection, children: &[ChildStatus]) -> Vec<Finding> {
        let mut findings = connection.diary.findings(self.clock);
        findings.extend(
            evidence::narrowed(&connection.config, children).map(|(kind, since)| Finding {
                kind,
                first_at: since,
                last_at: self.clock,
                times: 1,
            }),
        );
        diary::sort(&mut findings);
        findings
    }

    fn is_v1(&self, connection: VpnConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| connection.config.version == IkeVersion::V1)
    }

    /// Lets `act` use what runs the connections whose version is 1.
    fn with_v1<R>(&mut self, now: Instant, act: impl FnOnce(&mut v1::Machine, &mut v1::Scope<'_>) -> R) -> R {
        let mut scope = v1::Scope::new(&mut self.host, &mut self.connections, now);
        let result = act(&mut self.v1, &mut scope);
        for id in scope.touched {
            self.agenda.touch(id);
        }
        result
    }

    fn sas_of(&self, connection: VpnConnectionId) -> Vec<SaId> {
        self.sas.of(connection).map(|sa| sa.id).collect()
    }

    /// Lets `act` work on an IKE SA together with its connection, and cleans up if it dies of it.
    fn with_sa(&mut self, id: SaId, now: Instant, act: impl FnOnce(&mut Context<'_>, &mut IkeSa)) {
        let Some(mut sa) = self.sas.take(id) else {
            return;
        };
        let connection = sa.connection.and_then(|id| self.connections.get_mut(&id));
        let mut context = Context {
            host: &mut self.host,
            connection,
            now,
        };
        act(&mut context, &mut sa);
        self.put_back(sa);
    }

    fn put_back(&mut self, sa: IkeSa) {
        if matches!(sa.state, State::Dead) {
            self.host.free_ike_spi(sa.local_spi);
            self.begun_by_peers.remove(sa.id);
        } else {
            self.sas.put(sa);
        }
    }

    /// Lets `act` change an established IKE SA, then sends what became due.
    fn with_established(&mut self, id: SaId, now: Instant, act: impl FnOnce(&mut crate::sa::Established)) {
        self.with_sa(id, now, |context, sa| {
            if let Some(mut established) = sa.take_established() {
                act(&mut established);
                request::pump_or_die(context, sa, established);
            }
        });
    }

    /// Ends all of a connection: children are removed now, peers are told.
    fn close_sas_of(&mut self, connection: VpnConnectionId, now: Instant) {
        self.with_v1(now, |v1, scope| v1.close(scope, connection));
        for id in self.sas_of(connection) {
            self.with_sa(id, now, |context, sa| {
                match std::mem::replace(&mut sa.state, State::Dead) {
                    State::Established(mut established) => {
                        let ids: Vec<ChildId> = established.children.iter().map(|child| child.id).collect();
                        for id in ids {
                            established.bury(context, id, Duration::ZERO);
                        }
                        established.phase = Phase::Closing;
                        context.note(EventKind::IkeDeleted { by: End::Ours });
                        request::pump_or_die(context, sa, established);
                    }
                    // The peer may have accepted already: the answer decides, and is then taken back.
                    State::AuthSent(auth) => {
                        sa.state = State::AuthSent(auth);
                        sa.connection = None;
                    }
                    State::Dead
                    | State::InitAnswered(_)
                    | State::InitSent(_)
                    | State::IntermediateSent(_)
                    | State::Refused(_) => {}
                }
            });
        }
        self.host.clear_graves(now);
    }

    /// Children of the old configuration go: at once where they carry what they no longer may, else when those of the
    /// new one carry their traffic.
    fn replace_children_of(&mut self, connection: VpnConnectionId, now: Instant) {
        let Some(whole) = self.connections.get_mut(&connection).map(|connection| {
            connection.revision += 1;
            connection.demand.whole().clone()
        }) else {
            return;
        };
        for id in self.sas_of(connection) {
            self.with_established(id, now, |established| {
                for child in &mut established.children {
                    child.stale = true;
                    if child.is_in_use() && !whole.covers(&child.traffic) {
                        child.phase = ChildPhase::Condemned;
                    }
                }
            });
        }
    }

    /// A redundant IKE SA stays if the one that made it redundant is gone.
    fn keep_if_needed(&mut self, id: SaId, now: Instant) {
        let needed = self.sas.get(id).is_some_and(|sa| {
            sa.timers.is_due(Timer::Redundant, now)
                && sa
                    .established()
                    .is_some_and(|established| established.phase == Phase::Live)
        }) && !self.has_better(id);
        if needed {
            self.sas.edit(id, |sa| sa.timers.clear(Timer::Redundant));
        }
    }

    /// Makes every connection that something happened to have what it should have, as far as that is due, and reports
    /// states.
    fn settle(&mut self, now: Instant) {
        self.follow_up(now);
        for _ in 0..MAX_LOOKS {
            let mut ids = self.agenda.take();
            ids.append(&mut self.sas.take_touched());
            if ids.is_empty() {
                return;
            }
            for id in ids {
                self.ensure(id, now);
                self.follow_up(now);
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.report(&mut self.host, now);
                    self.agenda.set(id, connection.next_timeout(now));
                }
            }
        }
    }

    fn ensure(&mut self, id: VpnConnectionId, now: Instant) {
        if self.is_v1(id) {
            if self.with_v1(now, |v1, scope| v1.ensure(scope, id)) {
                self.start(id, now);
            }
            return;
        }
        let mut in_contact = false;
        let mut attempting = false;
        for sa in self.sas.of(id) {
            match &sa.state {
                State::Established(_) => in_contact = true,
                State::AuthSent(_) | State::InitSent(_) | State::IntermediateSent(_) => attempting = true,
                State::Dead | State::InitAnswered(_) | State::Refused(_) => {}
            }
        }
        if self.sas.of(id).filter(|sa| sa.established().is_some()).count() > 1 {
            self.arm_redundant(id, now);
        }
        let best = self.best_of(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.in_contact = in_contact;
        if !connection.wanted {
            return;
        }
        let may_initiate = connection.may_initiate() && !attempting && connection.ike_pause.is_over(now);
        match best {
            Some(sa) => {
                let outdated = self
                    .sas
                    .get(sa)
                    .and_then(IkeSa::established)
                    .is_some_and(|established| established.outdated);
                self.ensure_children(id, sa, now);
                if outdated && may_initiate {
                    self.start(id, now);
                }
            }
            None if may_initiate => self.start(id, now),
            None => {}
        }
    }

    /// Asks for the next child that is missing, and lets those of an older configuration go that are no longer needed.
    fn ensure_children(&mut self, id: VpnConnectionId, sa: SaId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let Some(established) = self.sas.get(sa).and_then(IkeSa::established) else {
            return;
        };
        if established.outstanding.is_some() || established.phase != Phase::Live || !connection.may_rekey() {
            return;
        }
        let carried = established
            .wanted_children()
            .map(|child| (&child.traffic, child.lane));
        connection
            .demand
            .note_missing(carried.clone().map(|(traffic, _)| traffic), now);
        let missing = connection.demand.next(carried, now);
        let superseded: Vec<ChildId> = established
            .children
            .iter()
            .filter(|child| child.stale && child.is_in_use())
            .filter(|child| {
                established
                    .wanted_children()
                    .any(|other| other.traffic.overlaps(&child.traffic))
            })
            .map(|child| child.id)
            .collect();
        let missing = missing.filter(|_| connection.child_pause.is_over(now) && !established.outdated);
        if missing.is_some() {
            self.with_established(sa, now, |established| established.wants.child = missing);
        } else if !superseded.is_empty() {
            self.with_established(sa, now, |established| {
                for child in &mut established.children {
                    if superseded.contains(&child.id) {
                        child.phase = ChildPhase::Condemned;
                    }
                }
            });
        }
    }

    fn start(&mut self, id: VpnConnectionId, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.peer_address.is_none()
            && let PeerEndpoint::Name(name) = &connection.config.peer
        {
            self.host.events.push_back(Event::ResolvePeer {
                connection: id,
                name: name.clone(),
            });
            connection.ike_pause.at_least(RESOLVE_INTERVAL, now);
            return;
        }
        if connection.config.version == IkeVersion::V1 {
            if connection.peer_address.is_some() {
                self.with_v1(now, |v1, scope| v1.start(scope, id));
            }
            return;
        }
        let mut context = Context {
            host: &mut self.host,
            connection: Some(connection),
            now,
        };
        match ike_sa_init::start(&mut context) {
            Ok(sa) => self.sas.put(sa),
            Err(error) => {
                context.complain(error.down_reason(), error.to_string());
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.ike_pause.after_failure(&mut self.host, now);
                }
            }
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("local", &self.host.local())
            .field("connections", &self.connections.len())
            .field("ike_sas", &self.sas.len())
            .finish_non_exhaustive()
    }
}
