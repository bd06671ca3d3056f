//! What happens when time passes.

use std::time::Duration;

use isthmus_types::VpnConnectionId;

use super::quick::{Commit, Quick, REPEAT_AFTER};
use super::sa::{Probe, Sa, State};
use super::{Machine, Owner, Scope, informational};
use crate::config::DpdAction;
use crate::endpoint::IKE_PORT;
use crate::finding::{End, EventKind, FindingKind, Unanswered};

/// Between two R-U-THERE for the same silence, at most.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// How soon an SA is looked at again that goes when nothing hangs on it any more.
const CARRIED: Duration = Duration::from_secs(1);

impl Machine {
    /// Acts on everything that is due.
    pub(crate) fn handle_timeout(&mut self, scope: &mut Scope<'_>) {
        let due: Vec<Owner> = self
            .due
            .iter()
            .take_while(|(at, _)| *at <= scope.now)
            .map(|(_, owner)| *owner)
            .collect();
        for owner in due {
            match owner {
                Owner::Farewells => self.say_farewells(scope),
                Owner::Sa(id) => {
                    self.with_sa(scope, id, |machine, scope, sa| machine.sa_timeout(scope, sa));
                }
                Owner::Tunnel(id) => self.tunnel_timeout(scope, id),
            }
        }
    }

    fn sa_timeout(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        if sa.established().is_some() {
            self.established_timeout(scope, sa);
            return;
        }
        self.resume(scope, sa);
        if sa.established().is_some() || matches!(sa.state, State::Dead) {
            return;
        }
        let now = scope.now;
        let path = sa.path;
        if sa.request.as_ref().is_some_and(|request| request.at <= now) && self.is_needless(scope, sa) {
            sa.state = State::Dead;
            return;
        }
        let mut tries = 0;
        let goes_on = sa.request.as_mut().is_none_or(|request| {
            tries = request.retransmission.tries();
            request.again(scope.host, &path, now)
        });
        if goes_on && sa.until > now {
            if tries > 1 && sa.is_attempt() {
                no_answer(scope, sa, tries);
            }
            return;
        }
        if sa.is_attempt() {
            no_answer(scope, sa, tries);
        }
        self.fail_attempt(scope, sa);
    }

    fn established_timeout(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let now = scope.now;
        let path = sa.path;
        let connection = sa.connection;
        let Some(established) = sa.established_mut() else {
            return;
        };
        if established.expire_at <= now {
            self.delete_sa(scope, sa);
            self.drop_sa(scope, sa);
            return;
        }
        if established.superseded_at.is_some_and(|at| at <= now) {
            let better = connection.and_then(|connection| self.live_of(connection));
            match better {
                Some(live) if self.carries_children(live, connection, now) => {
                    established.superseded_at = Some(now + CARRIED);
                }
                Some(_) => {
                    self.delete_sa(scope, sa);
                    self.drop_sa(scope, sa);
                    return;
                }
                None => established.superseded_at = None,
            }
        }
        if established.rekey_at.is_some_and(|at| at <= now) {
            established.wants_rekey = true;
        }
        if established.keepalive_at.is_some_and(|at| at <= now) {
            scope.host.send_keepalive(&path);
            established.keepalive_at = Some(now + crate::nat::KEEPALIVE_INTERVAL);
        }
        if !self.quick_timeouts(scope, sa) || !self.check_liveness(scope, sa) {
            self.peer_died(scope, sa);
        }
    }

    /// False if the peer did not answer.
    fn quick_timeouts(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) -> bool {
        let now = scope.now;
        let path = sa.path;
        let connection = sa.connection;
        let Some(established) = sa.established_mut() else {
            return true;
        };
        let due: Vec<u32> = established
            .quick
            .iter()
            .filter(|(_, quick)| quick.next_timeout().is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        let mut alive = true;
        for id in due {
            match established.quick.remove(&id) {
                Some(Quick::Asked(mut asked)) => {
                    alive &= asked.request.again(scope.host, &path, now);
                    established.quick.insert(id, Quick::Asked(asked));
                }
                Some(Quick::Answered(mut answered)) => {
                    if answered.request.again(scope.host, &path, now) {
                        established.quick.insert(id, Quick::Answered(answered));
                    } else {
                        self.forget_unready(scope, connection, answered.child);
                    }
                }
                Some(Quick::Done {
                    last,
                    until,
                    mut commit,
                }) => {
                    if let (Some(commit), Some(last)) = (&mut commit, &last)
                        && commit.again.is_some_and(|at| at <= now)
                    {
                        scope.host.send(&path, last.reply());
                        commit.again = Some(now + REPEAT_AFTER);
                    }
                    if let Some(Commit { child, until, .. }) = commit
                        && until <= now
                    {
                        commit = None;
                        self.make_ready(scope, connection, child);
                    }
                    if until > now {
                        established.quick.insert(id, Quick::Done { last, until, commit });
                    }
                }
                None => {}
            }
        }
        alive
    }

    /// Asks a silent peer whether it is there (RFC 3706). False if it is not.
    fn check_liveness(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) -> bool {
        let now = scope.now;
        let superseded = sa
            .established()
            .is_none_or(|established| established.superseded_at.is_some());
        if !sa.features.dead_peer_detection || superseded {
            return true;
        }
        let Ok(connection) = scope.connection_of(sa) else {
            return true;
        };
        let (Some(interval), patience) = (connection.liveness_interval(), connection.patience()) else {
            return true;
        };
        let Some(established) = sa.established_mut() else {
            return true;
        };
        if established.probe_at(interval) > now {
            established.probe = None;
            return true;
        }
        let sequence = match &mut established.probe {
            None => {
                established.sequence = established.sequence.wrapping_add(1);
                established.probe = Some(Probe {
                    sequence: established.sequence,
                    first_at: now,
                    again_at: now + PROBE_INTERVAL.min(interval),
                    tries: 1,
                });
                established.sequence
            }
            Some(probe) if probe.first_at + patience <= now => return false,
            Some(probe) if probe.again_at <= now => {
                probe.again_at = (now + PROBE_INTERVAL.min(interval)).min(probe.first_at + patience);
                probe.tries += 1;
                probe.sequence
            }
            Some(_) => return true,
        };
        informational::probe(scope.host, sa, sequence);
        true
    }

    /// The peer is gone: nothing that we have with it is worth anything.
    fn peer_died(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let now = scope.now;
        let silence = sa.established().map_or(Duration::ZERO, |established| {
            now.saturating_duration_since(established.last_heard)
        });
        let tries = sa
            .established()
            .and_then(|established| established.probe.as_ref())
            .map_or(1, |probe| probe.tries);
        let was_live = sa.is_live();
        let peer = sa.path.remote;
        if was_live && let Ok(connection) = scope.connection_of(sa) {
            connection.diary.find(FindingKind::NoAnswer {
                peer,
                to: Unanswered::Request { silence },
                tries,
            });
            connection.wanted = match connection.config.dpd_action {
                DpdAction::None | DpdAction::Restart => true,
                DpdAction::Clear | DpdAction::Hold => false,
            };
        }
        let connection = sa.connection;
        self.drop_sa(scope, sa);
        if let Some(connection) = connection
            && self.live_of(connection).is_none()
        {
            self.forget_children(scope, connection, |_| true);
        }
    }

    /// Ends all of a connection: children go now, the peer is told.
    pub(crate) fn close(&mut self, scope: &mut Scope<'_>, connection: VpnConnectionId) {
        let children: Vec<_> = self
            .tunnels
            .get(&connection)
            .map(|tunnel| tunnel.children.iter().map(|child| child.id).collect())
            .unwrap_or_default();
        for id in children {
            self.delete(scope, connection, id, Duration::ZERO);
        }
        for id in self.sas_of(connection) {
            self.with_sa(scope, id, |machine, scope, sa| {
                if matches!(sa.state, State::IdSent(_)) {
                    // The peer may have established it already: the answer decides, and is then taken back.
                    sa.connection = None;
                    return;
                }
                machine.delete_sa(scope, sa);
                if let State::Established(established) = std::mem::replace(&mut sa.state, State::Dead) {
                    if let Ok(connection) = scope.connection_of(sa) {
                        connection.diary.note(EventKind::IkeDeleted { by: End::Ours });
                    }
                    for (_, quick) in established.quick {
                        quick.abandon(scope.host);
                    }
                }
            });
        }
        self.tunnels.remove(&connection);
        self.arm(Owner::Tunnel(connection), None);
        scope.host.clear_graves(scope.now);
    }
}

/// What a silent handshake tells, unless something is known already that explains it better.
fn no_answer(scope: &mut Scope<'_>, sa: &Sa, tries: u32) {
    if scope
        .connection_of(sa)
        .is_ok_and(|connection| connection.in_contact)
    {
        // Another negotiation succeeded meanwhile.
        return;
    }
    let peer = sa.path.remote;
    let proving = matches!(sa.state, State::IdSent(_));
    let bytes = sa
        .request
        .as_ref()
        .map_or(0, |request| request.retransmission.longest());
    if proving && peer.port() == IKE_PORT {
        // It answered until it had to decrypt something.
        informational::hint_of_key(scope, sa, "it answered until we sent our proof, and not any more");
        return;
    }
    let Ok(connection) = scope.connection_of(sa) else {
        return;
    };
    let refused = connection
        .diary
        .leading()
        .is_some_and(|kind| !matches!(kind, FindingKind::NoAnswer { .. }));
    if refused {
        return;
    }
    let to = if proving {
        Unanswered::Authentication { bytes }
    } else {
        Unanswered::FirstMessage
    };
    connection.diary.find(FindingKind::NoAnswer { peer, to, tries });
    if proving {
        informational::hint_of_key(scope, sa, "it answered until we sent our proof, and not any more");
    }
}
