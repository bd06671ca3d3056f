//! Which of several connections a peer means that begins with main mode.
//!
//! The key of the right one is needed to read the identity that tells it (RFC 2409 section 5.4), so each key of a connection
//! whose peer may be where the message came from is tried.

use isthmus_types::{Secret, VpnConnectionId};
use isthmus_wire::isakmp::Identification;
use zeroize::Zeroizing;

use super::keys::Keys;
use super::message::{Parts, decrypt};
use super::proof::{accepts, check_proof};
use super::sa::{KeAnswered, Sa, Secrets};
use super::{Datagram, Scope};
use crate::algorithm::IkeSuite;
use crate::channel::Role;
use crate::connection::Connection;
use crate::keys::Nonces;

/// Most keys that one handshake is tried with: somebody who has none of them makes us try all.
const MOST_KEYS: usize = 64;
/// Most messages of one handshake that are tried with them: who has one of the keys needs no more than one.
const MOST_TRIES: u8 = 3;

/// What keys are derived from, beside the pre-shared one.
pub(super) struct Exchanged {
    secret: Zeroizing<Vec<u8>>,
    nonce_initiator: Vec<u8>,
    nonce_responder: Vec<u8>,
    tries_left: u8,
}

impl Exchanged {
    pub(super) fn new(secret: Zeroizing<Vec<u8>>, nonces: &Nonces<'_>) -> Self {
        Self {
            secret,
            nonce_initiator: nonces.initiator.to_vec(),
            nonce_responder: nonces.responder.to_vec(),
            tries_left: MOST_TRIES,
        }
    }
}

/// Reads the peer's proof with the keys of other connections than the one that was taken so far. If one is right, the SA is
/// that connection's from now on.
pub(super) fn read_with_another_key(
    scope: &Scope<'_>,
    sa: &mut Sa,
    answered: &mut KeAnswered,
    datagram: &Datagram<'_>,
) -> Option<(Parts, Vec<u8>, Identification)> {
    let mut exchanged = answered.exchanged.take()?;
    let nonces = Nonces {
        initiator: &exchanged.nonce_initiator,
        responder: &exchanged.nonce_responder,
    };
    let mut found = None;
    for (id, psk) in others(scope, sa, &answered.handshake.suite) {
        let keys = Keys::derive(
            &answered.handshake.suite,
            psk.reveal().as_bytes(),
            &exchanged.secret,
            &nonces,
            sa.cookies(),
        )
        .ok()?;
        let secrets = Secrets {
            keys,
            public_initiator: answered.secrets.public_initiator.clone(),
            public_responder: answered.secrets.public_responder.clone(),
            iv: answered.secrets.iv.clone(),
            nonce_min: answered.secrets.nonce_min.clone(),
        };
        let Ok((parts, iv)) = decrypt(&secrets.keys, &secrets.iv, datagram.header, datagram.bytes) else {
            continue;
        };
        if let Ok(identity) = check_proof(sa, &answered.handshake, &secrets, &parts, Role::Initiator) {
            found = Some((id, secrets, parts, iv, identity));
            break;
        }
    }
    let Some((id, secrets, parts, iv, identity)) = found else {
        exchanged.tries_left -= 1;
        answered.exchanged = (exchanged.tries_left > 0).then_some(exchanged);
        return None;
    };
    sa.connection = Some(id);
    answered.secrets = secrets;
    Some((parts, iv, identity))
}

/// Whether there is any other connection that this peer could mean, with another key.
pub(super) fn has_others(scope: &Scope<'_>, sa: &Sa, suite: &IkeSuite) -> bool {
    !others(scope, sa, suite).is_empty()
}

// One connection for each key.
fn others<'a>(scope: &'a Scope<'_>, sa: &Sa, suite: &IkeSuite) -> Vec<(VpnConnectionId, &'a Secret)> {
    let address = sa.path.remote.ip();
    let taken = sa.connection.and_then(|id| scope.connections.get(&id));
    let mut candidates: Vec<&Connection> = scope
        .connections
        .values()
        .filter(|other| other.may_be_at_v1(address) && accepts(other, suite))
        .collect();
    candidates.sort_by_key(|other| other.remoteness());
    let mut found: Vec<(VpnConnectionId, &Secret)> = Vec::new();
    for other in candidates {
        let psk = &other.config.psk;
        let is_known = taken.is_some_and(|taken| taken.config.psk == *psk)
            || found.iter().any(|(_, known)| *known == psk);
        if !is_known && found.len() < MOST_KEYS {
            found.push((other.id(), psk));
        }
    }
    found
}
