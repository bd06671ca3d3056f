//! What a connection should have, and commands from outside.

use std::net::SocketAddr;

use isthmus_types::VpnConnectionId;

use super::sa::Sa;
use super::tunnel::Pair;
use super::turns::TURN;
use super::{Machine, Owner, Scope, quick};
use crate::event::ChildId;
use crate::nat::NatStatus;
use crate::status::{ChildStatus, ConnectionStatus, DownReason};

/// Quick modes that we have under way at once: strongSwan keeps the state of three exchanges, the peer's own and informational
/// ones among them, and can no longer read what belongs to an older one.
const MAX_ASKED: usize = 1;

impl Machine {
    /// Sends what is missing under an SA that there is. True if phase 1 must begin.
    pub(crate) fn ensure(&mut self, scope: &mut Scope<'_>, id: VpnConnectionId) -> bool {
        let sas = self.sas_of(id);
        let established = self.established_of(Some(id));
        let Some(connection) = scope.connections.get_mut(&id) else {
            return false;
        };
        connection.in_contact = !established.is_empty();
        let may = connection.may_initiate() && connection.wanted;
        let (ike_over, child_over) = (
            connection.ike_pause.is_over(scope.now),
            connection.child_pause.is_over(scope.now),
        );
        let wanted = Pair::wanted(&connection.config);
        let live = self.live_of(id);
        let peer_begins = self.peer_is_at_it(id, scope.now);
        let between = live.is_some() && self.is_between_sas(id, scope.now);
        let mut start = false;
        if may {
            let attempting = sas.iter().any(|id| self.sas.get(id).is_some_and(Sa::is_attempt));
            let needed = live.and_then(|id| self.sas.get(&id)).is_none_or(|sa| {
                sa.established()
                    .is_some_and(|established| established.wants_rekey)
            });
            start = needed && !attempting && ike_over && !peer_begins;
            if needed && peer_begins {
                connection.ike_pause.at_least(TURN, scope.now);
            }
            if between {
                connection.child_pause.at_least(TURN, scope.now);
            } else if let Some(live) = live
                && child_over
            {
                self.ask_for(scope, live, id, wanted);
            }
        }
        let next = self.tunnels.get(&id).and_then(|tunnel| tunnel.next_timeout());
        self.arm(Owner::Tunnel(id), next);
        start
    }

    /// Begins quick modes for the pairs that have no child, or one that is to be replaced.
    fn ask_for(
        &mut self,
        scope: &mut Scope<'_>,
        live: crate::sa::SaId,
        id: VpnConnectionId,
        mut wanted: Vec<Pair>,
    ) {
        let turn = self.tunnels.entry(id).or_default().pair_turn;
        let first = turn.checked_rem(wanted.len()).unwrap_or(0);
        wanted.rotate_left(first);
        let mut asked: Vec<Pair> = self
            .sas_of(id)
            .iter()
            .filter_map(|id| self.sas.get(id))
            .filter_map(Sa::established)
            .flat_map(|established| established.quick.values())
            .filter_map(|quick| quick.asks_for().cloned())
            .collect();
        for pair in wanted {
            if asked.len() >= MAX_ASKED {
                return;
            }
            let tunnel = self.tunnels.entry(id).or_default();
            let under_way = asked.contains(&pair)
                || tunnel
                    .children
                    .iter()
                    .any(|child| child.pair == pair && !child.ready);
            let fresh = tunnel.in_use(&pair).any(|child| !child.outdated);
            if under_way || fresh {
                continue;
            }
            let group_turn = tunnel.group_turn;
            let replaces = self.in_use(Some(id), &pair);
            asked.push(pair.clone());
            let started = self.with_sa(scope, live, |_, scope, sa| {
                quick::start(scope, sa, pair, replaces, group_turn)
            });
            if let Some(Err(fault)) = started
                && let Some(connection) = scope.connections.get_mut(&id)
            {
                connection.complain(DownReason::Internal, fault.to_string());
                connection.child_pause.after_failure(scope.host, scope.now);
                return;
            }
        }
    }

    /// An authentic ESP packet came: so the peer has the child too.
    pub(crate) fn note_inbound(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        child: ChildId,
    ) {
        let now = scope.now;
        let mut waits = false;
        if let Some(tunnel) = self.tunnels.get_mut(&connection)
            && let Some(found) = tunnel.child(child)
        {
            waits = !found.ready;
            if found.doubted_at.is_some() {
                // A timer that was armed for the doubt comes too early, which does no harm.
                tunnel.trust(now);
            }
        }
        if waits {
            self.make_ready(scope, Some(connection), child);
        }
        if let Some(live) = self.live_of(connection)
            && let Some(established) = self.sas.get_mut(&live).and_then(Sa::established_mut)
        {
            // The timer that was armed for an earlier sign comes too early, which does no harm.
            established.last_heard = now;
            established.probe = None;
        }
    }

    /// Packets of a child come from elsewhere.
    pub(crate) fn note_peer_address(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        remote: SocketAddr,
    ) {
        if let Some(live) = self.live_of(connection) {
            self.with_sa(scope, live, |machine, scope, sa| {
                if sa.path.nat.remote && sa.path.remote != remote {
                    machine.move_peer(scope, sa, remote);
                }
            });
        }
    }

    /// Replaces a child soon.
    pub(crate) fn rekey_child(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId, child: ChildId) {
        if let Some(child) = self
            .tunnels
            .get_mut(&connection)
            .and_then(|tunnel| tunnel.child_mut(child))
        {
            child.outdated = true;
            scope.touched.insert(connection);
        }
    }

    /// Deletes a child at the peer.
    pub(crate) fn delete_child(
        &mut self,
        scope: &mut Scope<'_>,
        connection: VpnConnectionId,
        child: ChildId,
    ) {
        self.delete(scope, connection, child, std::time::Duration::ZERO);
        scope.host.clear_graves(scope.now);
    }

    /// Replaces the SA of a connection.
    pub(crate) fn rekey_ike(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId) {
        if let Some(live) = self.live_of(connection) {
            self.with_sa(scope, live, |_, _, sa| {
                if let Some(established) = sa.established_mut() {
                    established.wants_rekey = true;
                }
            });
        }
    }

    /// The configuration of the children changed: those of pairs that are no more go, the others are replaced.
    pub(crate) fn replace_children(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId) {
        let Some(wanted) = scope
            .connections
            .get(&connection)
            .map(|connection| Pair::wanted(&connection.config))
        else {
            return;
        };
        let Some(tunnel) = self.tunnels.get_mut(&connection) else {
            return;
        };
        tunnel.group_turn = 0;
        tunnel.refused_groups.clear();
        let mut gone = Vec::new();
        for child in &mut tunnel.children {
            if wanted.contains(&child.pair) {
                child.outdated = true;
            } else {
                gone.push(child.id);
            }
        }
        for id in gone {
            self.delete(scope, connection, id, crate::host::GRACE);
        }
        scope.touched.insert(connection);
    }

    /// Fills in what this version knows about a connection.
    pub(crate) fn describe(&self, status: &mut ConnectionStatus) {
        let id = status.connection;
        let live: Vec<&Sa> = self
            .sas_of(id)
            .into_iter()
            .filter_map(|id| self.sas.get(&id))
            .filter(|sa| sa.is_live())
            .collect();
        status.ike_sas = live.len();
        if let Some(sa) = self.live_of(id).and_then(|id| self.sas.get(&id))
            && let Some(established) = sa.established()
        {
            status.ike_suite = Some(established.suite);
            status.remote = Some(sa.path.remote);
            status.nat = Some(NatStatus { ..sa.path.nat });
            status.established_at = Some(established.established_at);
            status.last_heard = Some(established.last_heard);
        }
        let children = self
            .tunnels
            .get(&id)
            .into_iter()
            .flat_map(|tunnel| &tunnel.children);
        status.children = children
            .filter(|child| child.is_in_use())
            .map(|child| ChildStatus {
                child: child.id,
                lane: 0,
                inbound_spi: child.inbound_spi,
                outbound_spi: child.outbound_spi,
                suite: child.suite,
                local_selectors: vec![child.pair.local.clone()],
                remote_selectors: vec![child.pair.remote.clone()],
                installed_at: child.installed_at,
                rekey_at: child.rekey_at,
                expire_at: child.expire_at,
            })
            .collect();
        status.esp_suite = status.children.last().map(|child| child.suite);
    }
}
