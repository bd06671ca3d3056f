//! The Child SAs of all connections: which are in use, which go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;

use super::sa::Sa;
use super::tunnel::{Child, Pair};
use super::{AFTER_DELETE, Machine, OWN_GRACE, PEER_FIRST, PEERS_GRACE, Scope};
use crate::channel::Role;
use crate::event::{ChildId, Event};
use crate::evidence;
use crate::finding::{End, EventKind, Layer};
use crate::host::GRACE;
use crate::sa::SaId;

/// From the first delete to those that follow. What the peer sends until the second of them is still received.
const DELETES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(7),
    Duration::from_secs(15),
];
/// From the last packet on a child to its delete, which must not overtake it.
const QUIET: Duration = Duration::from_millis(500);
/// The peer may have begun an ISAKMP SA so long before we hear of it.
const UNHEARD: Duration = Duration::from_millis(200);
/// For so long an ISAKMP SA is kept for Child SAs that may go with it.
const CARRYING: Duration = Duration::from_secs(30);

impl Machine {
    pub(super) fn add_child(&mut self, connection: VpnConnectionId, child: Child) {
        self.tunnels.entry(connection).or_default().children.push(child);
    }

    /// The children of a pair that are in use.
    pub(super) fn in_use(&self, connection: Option<VpnConnectionId>, pair: &Pair) -> Vec<ChildId> {
        connection
            .and_then(|id| self.tunnels.get(&id))
            .map(|tunnel| tunnel.in_use(pair).map(|child| child.id).collect())
            .unwrap_or_default()
    }

    /// The children of a pair that the peer knew when it sent a message that comes now: those in use, and those of ours of which
    /// it has got the last message, although we wait before we send on them.
    pub(super) fn known_to_peer(&self, connection: Option<VpnConnectionId>, pair: &Pair) -> Vec<ChildId> {
        let tunnel = connection.and_then(|id| self.tunnels.get(&id));
        let children = tunnel.into_iter().flat_map(|tunnel| &tunnel.children);
        children
            .filter(|child| child.pair == *pair && child.superseded_at.is_none())
            .filter(|child| child.ready || child.begun_by == Role::Initiator)
            .map(|child| child.id)
            .collect()
    }

    /// The peer has the child too: it sends from now on, and the others of the pair go in time. Those that it replaces go;
    /// of two that were made at once one stays, see [`Child::outlives`].
    pub(super) fn make_ready(
        &mut self,
        scope: &mut Scope<'_>,
        connection: Option<VpnConnectionId>,
        id: ChildId,
    ) {
        let now = scope.now;
        let Some(connection) = connection.and_then(|id| scope.connections.get_mut(&id)) else {
            return;
        };
        let connection_id = connection.id();
        let Some(tunnel) = self.tunnels.get_mut(&connection_id) else {
            return;
        };
        let Some(child) = tunnel
            .child_mut(id)
            .filter(|child| !child.ready && child.superseded_at.is_none())
        else {
            return;
        };
        child.ready = true;
        let pair = child.pair.clone();
        let begun_by = child.begun_by;
        let replaces = std::mem::take(&mut child.replaces);
        if child.waits {
            connection.add_ready(id, &pair.traffic());
            scope.host.events.push_back(Event::ChildOutboundReady {
                connection: connection_id,
                child: id,
            });
        }
        let nonce_rule = tunnel.nonce_rule;
        let Some(mut child) = tunnel.take(id) else {
            return;
        };
        for other in &mut tunnel.children {
            if other.pair != pair || other.superseded_at.is_some() {
                continue;
            }
            if replaces.contains(&other.id) {
                // The peer does not remove what it has lost.
                let grace = other
                    .doubted_at
                    .map_or_else(|| grace(begun_by), |_| Duration::ZERO);
                other.superseded_at = Some(now + grace);
            } else if !other.ready {
                continue;
            } else if child.outlives(other, nonce_rule) {
                other.superseded_at = Some(now + grace(other.begun_by));
            } else {
                child.superseded_at = Some(now + grace(begun_by));
            }
        }
        tunnel.children.push(child);
        match begun_by {
            Role::Initiator => connection.child_pause.reset(),
            // It may ask for more.
            Role::Responder => connection.child_pause.at_least(PEER_FIRST, now),
        }
        let complete = Pair::wanted(&connection.config)
            .iter()
            .all(|pair| tunnel.in_use(pair).next().is_some());
        if complete {
            connection.forget_complaint();
        }
        scope.touched.insert(connection_id);
    }

    /// The peer deleted the child on which we send with this SPI.
    pub(super) fn child_deleted(
        &mut self,
        scope: &mut Scope<'_>,
        connection: Option<VpnConnectionId>,
        outbound_spi: u32,
    ) {
        let Some(connection_id) = connection else {
            return;
        };
        let Some(child) = self.tunnels.get_mut(&connection_id).and_then(|tunnel| {
            let id = tunnel
                .children
                .iter()
                .find(|child| child.outbound_spi == outbound_spi)?
                .id;
            tunnel.take(id)
        }) else {
            return;
        };
        let age = scope.now.saturating_duration_since(child.installed_at);
        if let Some(connection) = scope.connections.get_mut(&connection_id) {
            connection.diary.note(EventKind::ChildDeleted {
                by: End::Peers,
                spi: child.inbound_spi,
            });
            if child.is_in_use() {
                evidence::on_peers_end(connection, Layer::Esp, age);
                connection.child_pause.at_least(AFTER_DELETE, scope.now);
            }
        }
        let pair = child.pair.clone();
        bury(scope, connection_id, child, GRACE);
        self.keep_newest(connection_id, &pair);
    }

    /// If no child of a pair is in use, the newest that was to go stays, unless the peer has lost it.
    fn keep_newest(&mut self, connection: VpnConnectionId, pair: &Pair) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        if tunnel.in_use(pair).next().is_some() {
            return;
        }
        if let Some(child) = tunnel
            .children
            .iter_mut()
            .filter(|child| child.pair == *pair && child.ready && !child.leaves && child.doubted_at.is_none())
            .max_by_key(|child| child.id)
        {
            child.superseded_at = None;
        }
    }

    /// A child that never came into use goes.
    pub(super) fn forget_unready(
        &mut self,
        scope: &mut Scope<'_>,
        connection: Option<VpnConnectionId>,
        id: ChildId,
    ) {
        if let Some(connection) = connection {
            self.forget_children(scope, connection, |child| child.id == id && !child.ready);
        }
    }

    /// The peer says that it has lost the children that were installed before. They are replaced, and go in any case if the
    /// peer does not send on them.
    pub(super) fn doubt_children(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        before: Instant,
    ) {
        let now = scope.now;
        let tunnel = self.tunnels.get_mut(&connection);
        let children = tunnel.into_iter().flat_map(|tunnel| &mut tunnel.children);
        for child in children.filter(|child| child.installed_at < before) {
            child.outdated = true;
            child.doubted_at.get_or_insert(now);
        }
        scope.touched.insert(connection);
    }

    /// Children go now and without a word.
    pub(super) fn forget_children(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        which: impl Fn(&Child) -> bool,
    ) {
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let (gone, left): (Vec<Child>, Vec<Child>) =
            std::mem::take(&mut tunnel.children).into_iter().partition(which);
        tunnel.children = left;
        for child in gone {
            bury(scope, connection, child, Duration::ZERO);
        }
        scope.host.clear_graves(scope.now);
        scope.touched.insert(connection);
    }

    /// Takes a child out of use and tells the peer.
    pub(super) fn delete(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        id: ChildId,
        grace: Duration,
    ) {
        let Some(child) = self
            .tunnels
            .get_mut(&connection)
            .and_then(|tunnel| tunnel.take(id))
        else {
            return;
        };
        self.send_delete(scope, connection, child.inbound_spi);
        if let Some(tunnel) = self.tunnels.get_mut(&connection) {
            let later = DELETES.map(|after| (scope.now + after, child.inbound_spi));
            tunnel.farewells.extend(later);
        }
        if let Some(connection) = scope.connections.get_mut(&connection) {
            connection.diary.note(EventKind::ChildDeleted {
                by: End::Ours,
                spi: child.inbound_spi,
            });
        }
        bury(scope, connection, child, grace);
        scope.touched.insert(connection);
    }

    /// On every ISAKMP SA that there is, as the peer may look for the child only under the one to which it belongs there.
    fn send_delete(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId, inbound_spi: u32) {
        for id in self.established_of(Some(connection)) {
            self.with_sa(scope, id, |_, scope, sa| {
                super::informational::delete_child(scope.host, sa, inbound_spi);
            });
        }
    }

    /// The peer's lifetime for a child is shorter than ours.
    pub(super) fn shorten_child(
        &mut self,
        scope: &mut Scope<'_>,
        connection: Option<VpnConnectionId>,
        spi: &[u8],
        seconds: u64,
    ) {
        let Some(tunnel) = connection.and_then(|id| self.tunnels.get_mut(&id)) else {
            return;
        };
        let lifetime = Duration::from_secs(seconds.clamp(60, u64::from(u32::MAX)));
        for child in &mut tunnel.children {
            let end = child.installed_at + lifetime;
            if child.outbound_spi.to_be_bytes() == spi && end < child.expire_at && end > scope.now {
                child.expire_at = end;
                child.rekey_at = child
                    .rekey_at
                    .map(|at| at.min(child.installed_at + lifetime * 9 / 10));
            }
        }
        scope.touch(connection);
    }

    /// A quick mode came to nothing: the next one comes later and with the next group.
    pub(super) fn quick_failed(&mut self, scope: &mut Scope<'_>, connection: Option<VpnConnectionId>) {
        let context = scope.context(connection);
        if let Some(connection) = context.connection {
            connection.child_pause.after_failure(context.host, context.now);
            let tunnel = self.tunnels.entry(connection.id()).or_default();
            tunnel.group_turn = tunnel.group_turn.wrapping_add(1);
            tunnel.pair_turn = tunnel.pair_turn.wrapping_add(1);
        }
        scope.touch(connection);
    }

    /// The peer's packets come from elsewhere now.
    pub(super) fn move_peer(&mut self, scope: &mut Scope<'_>, sa: &mut Sa, remote: SocketAddr) {
        sa.path.remote = remote;
        let Some(connection) = sa.connection else {
            return;
        };
        if let Some(connection) = scope.connections.get_mut(&connection) {
            connection.diary.note(EventKind::PeerMoved { to: remote });
        }
        let children = self
            .tunnels
            .get(&connection)
            .map(|tunnel| tunnel.children.iter().map(|child| child.id).collect())
            .unwrap_or_default();
        scope.host.events.push_back(Event::PeerMoved {
            connection,
            children,
            encapsulation: sa.path.encapsulation(),
            remote,
        });
    }

    /// What is due for the children of a connection.
    pub(super) fn tunnel_timeout(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId) {
        let now = scope.now;
        scope.touched.insert(connection);
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        let mut over = Vec::new();
        let mut superseded = Vec::new();
        for child in &mut tunnel.children {
            if child.expire_at <= now || child.is_lost(now) {
                over.push(child.id);
            } else if is_due(child.superseded_at, now) {
                // One that never came into use will not.
                let is_over = child.leaves || !child.ready;
                superseded.push((child.id, child.pair.clone(), is_over));
            } else if is_due(child.rekey_at, now) {
                child.outdated = true;
            }
        }
        let farewells = std::mem::take(&mut tunnel.farewells);
        let (again, later): (Vec<_>, Vec<_>) = farewells.into_iter().partition(|(at, _)| *at <= now);
        tunnel.farewells = later;
        for (_, spi) in again {
            self.send_delete(scope, connection, spi);
        }
        for id in over {
            self.delete(scope, connection, id, Duration::ZERO);
        }
        for (id, pair, is_over) in superseded {
            if is_over {
                self.delete(scope, connection, id, GRACE);
                continue;
            }
            self.keep_newest(connection, &pair);
            if !self.in_use(Some(connection), &pair).contains(&id) {
                self.quiet(scope, connection, id);
            }
        }
        scope.host.clear_graves(now);
    }
}

impl Machine {
    /// Sends nothing more on a child that goes, and lets what is on the way arrive before it goes.
    fn quiet(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId, id: ChildId) {
        if let Some(connection) = scope.connections.get_mut(&connection) {
            connection.retire(scope.host, id);
        }
        if let Some(child) = self
            .tunnels
            .get_mut(&connection)
            .and_then(|tunnel| tunnel.child_mut(id))
        {
            child.leaves = true;
            child.superseded_at = Some(scope.now + QUIET);
        }
    }

    /// Replaces the children of which nobody knows whether the peer has moved them to the new ISAKMP SA: those that were made
    /// under SAs that go while their successor was being made, and all if two SAs were made at about the same time (`crossed`).
    pub(super) fn make_anew_what_hangs_on(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        superseded: &[SaId],
        successor_begun_at: Instant,
        crossed: bool,
    ) {
        let may = scope
            .connections
            .get(&connection)
            .is_some_and(|connection| connection.may_initiate());
        let Some(tunnel) = self.tunnels.get_mut(&connection).filter(|_| may) else {
            return;
        };
        for child in &mut tunnel.children {
            let made_meanwhile =
                superseded.contains(&child.made_under) && child.installed_at + UNHEARD > successor_begun_at;
            if child.is_in_use() && (crossed || made_meanwhile) {
                child.outdated = true;
                child.hangs = true;
            }
        }
    }

    /// Whether there are children that are to be replaced because they may go with an ISAKMP SA. `live` is its successor.
    pub(super) fn carries_children(
        &self,
        live: SaId,
        connection: Option<VpnConnectionId>,
        now: Instant,
    ) -> bool {
        let is_recent = self
            .sas
            .get(&live)
            .and_then(Sa::established)
            .is_some_and(|live| now < live.established_at + CARRYING);
        let tunnel = connection.and_then(|connection| self.tunnels.get(&connection));
        is_recent
            && tunnel.is_some_and(|tunnel| {
                tunnel
                    .children
                    .iter()
                    .any(|child| child.hangs && child.is_in_use())
            })
    }
}

fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}

const fn grace(role: Role) -> Duration {
    match role {
        Role::Initiator => OWN_GRACE,
        Role::Responder => PEERS_GRACE,
    }
}

/// Stops sending at once and receiving after `grace`.
fn bury(scope: &mut Scope<'_>, connection: VpnConnectionId, child: Child, grace: Duration) {
    if let Some(connection) = scope.connections.get_mut(&connection) {
        connection.retire(scope.host, child.id);
    }
    scope
        .host
        .bury(connection, child.id, child.inbound_spi, scope.now + grace);
}
