//! Phase 1 that both ends begin at once: one SA is finished after the other.
//!
//! A peer may bind its Child SAs to the ISAKMP SAs, and move them to a new one when it is established. If two are established
//! in the same moment nobody can tell which of them the peer has moved its Child SAs to: strongSwan goes by the order in which it
//! has worked off the last messages. So these messages are spaced: each SA has one that waits until the other SA has been there for
//! [`TURN`]. Then the one that was established last is the one to stay, for every peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_crypto::prf::sha256;
use isthmus_types::VpnConnectionId;
use isthmus_wire::isakmp::{ExchangeType, IsakmpHeader};

use super::receive::Datagram;
use super::sa::{Sa, State};
use super::{Machine, Scope};
use crate::channel::Role;

/// From one SA to the next one of a connection.
pub(super) const TURN: Duration = Duration::from_millis(200);
/// A handshake that is older keeps no other one waiting.
const FRESH: Duration = Duration::from_secs(3);
/// How long a message waits at most for another SA.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often it is seen whether the other SA is there.
const LOOK: Duration = Duration::from_millis(25);

/// A message of phase 1 that is read later.
pub(super) struct Postponed {
    bytes: Vec<u8>,
    local_port: u16,
    remote: SocketAddr,
    /// When to look whether its turn has come.
    pub(super) at: Instant,
    /// When it is read in any case.
    until: Instant,
}

impl Sa {
    fn is_fresh(&self, now: Instant) -> bool {
        now < self.begun_at + FRESH
    }

    /// Whether the peer has answered from where it says to be.
    const fn is_answered_half_open(&self) -> bool {
        matches!(self.state, State::KeAnswered(_))
    }
}

impl Machine {
    /// Puts a message off whose turn has not come. True if that was done.
    pub(super) fn postpone(&self, scope: &Scope<'_>, sa: &mut Sa, datagram: &Datagram<'_>) -> bool {
        if datagram.header.exchange != ExchangeType::MAIN {
            return false;
        }
        let now = scope.now;
        let waits = |postponed: &Postponed| postponed.at > now && postponed.until > now;
        if sa.postponed.as_ref().is_some_and(waits) {
            // Sent again.
            return true;
        }
        let until = sa
            .postponed
            .take()
            .map_or(now + PATIENCE, |postponed| postponed.until);
        let Some(at) = self.turn_of(sa, now).filter(|_| now < until) else {
            return false;
        };
        sa.postponed = Some(Postponed {
            bytes: datagram.bytes.to_vec(),
            local_port: datagram.local_port,
            remote: datagram.remote,
            at: at.min(until),
            until,
        });
        true
    }

    /// Reads what was put off, if it is time.
    pub(super) fn resume(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let now = scope.now;
        let Some(postponed) = sa.postponed.take_if(|postponed| postponed.at <= now) else {
            return;
        };
        let Ok(header) = IsakmpHeader::decode(&postponed.bytes) else {
            return;
        };
        let bytes = postponed.bytes.clone();
        let datagram = Datagram {
            local_port: postponed.local_port,
            remote: postponed.remote,
            bytes: &bytes,
            header: &header,
            digest: sha256(&[&bytes]),
        };
        sa.postponed = Some(postponed);
        self.on_message(scope, sa, &datagram);
        sa.postponed.take_if(|postponed| postponed.at <= now);
    }

    /// When to look again whether the SA may be finished; none if it may.
    fn turn_of(&self, sa: &Sa, now: Instant) -> Option<Instant> {
        let others = self
            .sas_of(sa.connection?)
            .into_iter()
            .filter(|id| *id != sa.id && !sa.replaces.contains(id))
            .filter_map(|id| self.sas.get(&id));
        others.filter_map(|other| comes_before(other, sa, now)).max()
    }

    /// Whether a new ISAKMP SA of the connection is being made, so that Child SAs had better wait for it.
    pub(super) fn is_between_sas(&self, connection: VpnConnectionId, now: Instant) -> bool {
        self.sas_of(connection)
            .iter()
            .filter_map(|id| self.sas.get(id))
            .any(|sa| sa.is_fresh(now) && (sa.is_attempt() || sa.is_answered_half_open()))
    }

    /// Whether the peer is making a new ISAKMP SA.
    pub(super) fn peer_is_at_it(&self, connection: VpnConnectionId, now: Instant) -> bool {
        self.sas_of(connection)
            .iter()
            .filter_map(|id| self.sas.get(id))
            .any(|sa| sa.is_fresh(now) && sa.is_answered_half_open())
    }
}

/// When to look again, if `other` is to be established before `sa`, of which the message that decides has come.
fn comes_before(other: &Sa, sa: &Sa, now: Instant) -> Option<Instant> {
    let is_first = match (&sa.state, &other.state) {
        (State::KeSent(_) | State::KeAnswered(_), State::Established(established)) => {
            let turn = established.established_at + TURN;
            return (turn > now).then_some(turn);
        }
        // Both ends see the same order in the cookies.
        (State::KeSent(_), State::SaAnswered(_) | State::KeAnswered(_)) => {
            other.cookies().initiator.0 < sa.cookies().initiator.0
        }
        // The peer may have established it already.
        (State::KeAnswered(_), State::IdSent(_)) => other.role == Role::Initiator,
        (
            State::AggressiveAnswered(_)
            | State::Dead
            | State::Established(_)
            | State::IdSent(_)
            | State::KeAnswered(_)
            | State::KeSent(_)
            | State::SaAnswered(_)
            | State::SaSent(_),
            _,
        ) => false,
    };
    (is_first && other.is_fresh(now)).then_some(now + LOOK)
}
