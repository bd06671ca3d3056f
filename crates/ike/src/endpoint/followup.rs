//! What concerns more than one IKE SA.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;

use super::Endpoint;
use crate::channel::Role;
use crate::child::Child;
use crate::connection::Connection;
use crate::exchange::request;
use crate::host::Followup;
use crate::sa::{Established, IkeSa, Phase, SaId, State};
use crate::timer::Timer;

/// How long the peer may take to remove an IKE SA that was replaced.
const REMOVAL_TIME: Duration = Duration::from_secs(10);
/// Two IKE SAs that both ends made at once live side by side for so long.
const REDUNDANT_TIME: Duration = Duration::from_secs(1);
/// The end that began an IKE SA that is one too many has so long to remove it; then the other end does.
const OVERRULING_TIME: Duration = Duration::from_secs(15);
/// Most IKE SAs of one connection that live side by side, until one is removed.
const MAX_IKE_SAS: usize = 8;
/// An IKE SA of at least this age is probed when the peer makes another one.
const SETTLED_AGE: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Does what the exchanges left to do.
    pub(super) fn follow_up(&mut self, now: Instant) {
        while let Some(followup) = self.host.followups.pop_front() {
            match followup {
                Followup::Adopt { children, to } => self.adopt(children, to, now),
                Followup::Insert(sa) => self.insert(*sa, now),
                Followup::AwaitRemoval(id) => {
                    self.sas
                        .edit(id, |sa| sa.timers.set(Timer::Redundant, now + REMOVAL_TIME));
                }
                Followup::Established(id) => self.on_established(id, now),
                Followup::ForgetOlder {
                    connection,
                    keep,
                    before,
                } => self.forget_older(connection, keep, before, now),
            }
        }
    }

    /// Whether there is another IKE SA of the same connection that should stay rather than this one: one with a
    /// child beats one without, then the one with the higher lower nonce stays.
    pub(super) fn has_better(&self, id: SaId) -> bool {
        let Some((owner, own)) = self.live(id).and_then(|(sa, own)| Some((sa.connection?, own))) else {
            return false;
        };
        let insists = self.peer_insists(owner);
        self.sas.of(owner).any(|other| {
            other.id != id
                && other.established().is_some_and(|other| {
                    other.phase == Phase::Live && rank(other, insists) > rank(own, insists)
                })
        })
    }

    /// The IKE SA of a connection that should stay, of those in use.
    pub(super) fn best_of(&self, connection: VpnConnectionId) -> Option<SaId> {
        let insists = self.peer_insists(connection);
        self.sas
            .of(connection)
            .filter_map(|sa| sa.established().map(|established| (sa.id, established)))
            .filter(|(_, established)| established.is_usable())
            .max_by_key(|(_, established)| (established.phase == Phase::Live, rank(established, insists)))
            .map(|(id, _)| id)
    }

    fn peer_insists(&self, connection: VpnConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(Connection::peer_insists)
    }

    fn live(&self, id: SaId) -> Option<(&IkeSa, &Established)> {
        let sa = self.sas.get(id)?;
        let established = sa.established()?;
        (established.phase == Phase::Live).then_some((sa, established))
    }

    fn adopt(&mut self, children: Vec<Child>, to: SaId, now: Instant) {
        for child in &children {
            if let Some((_, owner)) = self.host.owners.get_mut(&child.id) {
                *owner = to;
            }
        }
        let mut left = Some(children);
        self.with_established(to, now, |established| {
            if established.phase == Phase::Pending {
                established.phase = Phase::Live;
            }
            established.children.extend(left.take().into_iter().flatten());
        });
        // The successor is gone already: so are the children.
        for child in left.into_iter().flatten() {
            if let Some(connection) = self.connections.get_mut(&child.connection) {
                connection.retire(&mut self.host, child.id);
                self.agenda.touch(child.connection);
            }
            self.host.bury(child.connection, child.id, child.inbound_spi, now);
        }
    }

    fn insert(&mut self, sa: IkeSa, now: Instant) {
        let id = sa.id;
        self.sas.put(sa);
        // One that is not wanted begins with its delete.
        self.with_established(id, now, |_| {});
    }

    fn on_established(&mut self, id: SaId, now: Instant) {
        let Some((sa, _)) = self.live(id) else {
            return;
        };
        let Some(owner) = sa.connection else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&owner) {
            connection.wanted = true;
            connection.ike_pause.reset();
            connection.demand.begin_anew();
        }
        for other in self.sas_of(owner) {
            if other == id {
                continue;
            }
            self.with_sa(other, now, |context, sa| {
                // Nobody but us knows of an attempt without an answer: it is not needed any more.
                if matches!(sa.state, State::InitSent(_)) {
                    sa.state = State::Dead;
                }
                if let Some(mut established) = sa.take_established() {
                    let age = now.saturating_duration_since(established.established_at);
                    if age >= SETTLED_AGE && established.phase == Phase::Live {
                        established.wants.probe = true;
                    }
                    request::pump_or_die(context, sa, established);
                }
            });
        }
    }

    /// Of several IKE SAs of one connection all but the best go. Each is removed by the end that began it, so that no two
    /// ends remove different ones; by the other end only after a time in which the first one does not. Beyond a number the
    /// worst go at once.
    pub(super) fn arm_redundant(&mut self, connection: VpnConnectionId, now: Instant) {
        for id in self.sas_of(connection) {
            let Some((sa, established)) = self.live(id) else {
                continue;
            };
            let ours = established.begun_by == Role::Initiator || established.outdated;
            let time = if ours { REDUNDANT_TIME } else { OVERRULING_TIME };
            if self.has_better(id) && !sa.timers.is_set(Timer::Redundant) {
                self.sas
                    .edit(id, |sa| sa.timers.set(Timer::Redundant, now + time));
            }
        }
        let insists = self.peer_insists(connection);
        let mut live: Vec<(&IkeSa, &Established)> = self
            .sas
            .of(connection)
            .filter_map(|sa| self.live(sa.id))
            .collect();
        live.sort_by_key(|(_, established)| Reverse(rank(established, insists)));
        let surplus: Vec<SaId> = live.iter().skip(MAX_IKE_SAS).map(|(sa, _)| sa.id).collect();
        for id in surplus {
            if self
                .sas
                .get(id)
                .is_some_and(|sa| !sa.timers.is_due(Timer::Redundant, now))
            {
                self.sas.edit(id, |sa| sa.timers.set(Timer::Redundant, now));
            }
        }
    }

    /// The peer has lost everything before `before`: no delete is due.
    fn forget_older(&mut self, connection: VpnConnectionId, keep: SaId, before: Instant, now: Instant) {
        for id in self.sas_of(connection) {
            if id == keep {
                continue;
            }
            self.with_sa(id, now, |context, sa| {
                let older = sa
                    .established()
                    .is_some_and(|established| established.established_at < before);
                if older && let Some(established) = sa.take_established() {
                    established.die(context, sa, Duration::ZERO);
                }
            });
        }
        self.host.clear_graves(now);
    }
}

/// What decides which IKE SA stays: the highest.
fn rank(established: &Established, peer_insists: bool) -> (bool, bool, bool, &[u8]) {
    let has_child = established.children.iter().any(Child::is_in_use);
    let insisted_on = peer_insists && established.begun_by == Role::Responder;
    (
        !established.outdated,
        has_child,
        insisted_on,
        &established.nonce_min,
    )
}
