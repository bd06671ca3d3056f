//! How the ends of phase 1 prove who they are, and who that is to us (RFC 2409 section 5).

use isthmus_crypto::prf::constant_time_equal;
use isthmus_wire::isakmp::{Identification, NotifyType, Payload};

use super::attributes::for_version_1;
use super::fault::Fault;
use super::keys::Proven;
use super::message::Parts;
use super::sa::{Handshake, Sa, Secrets};
use super::{Scope, identity};
use crate::algorithm::IkeSuite;
use crate::auth::{describe_identity, is_identity};
use crate::channel::Role;
use crate::config::PeerEndpoint;
use crate::connection::Connection;
use crate::finding::{End, FindingKind};

pub(super) fn id_body(id: &Identification) -> Vec<u8> {
    let mut body = Vec::new();
    Payload::Id(id.clone()).encode_body(&mut body);
    body
}

/// HASH_I or HASH_R.
pub(super) fn proof(sa: &Sa, handshake: &Handshake, secrets: &Secrets, of: Role, id: &[u8]) -> Vec<u8> {
    let cookies = sa.cookies();
    let mut publics = [
        secrets.public_initiator.as_slice(),
        secrets.public_responder.as_slice(),
    ];
    let mut cookies = [cookies.initiator.0, cookies.responder.0];
    if of == Role::Responder {
        publics.reverse();
        cookies.reverse();
    }
    secrets.keys.proof(&Proven {
        publics,
        cookies,
        sa: &handshake.sa_body,
        id,
    })
}

/// The identity that the peer proved.
pub(super) fn check_proof(
    sa: &Sa,
    handshake: &Handshake,
    secrets: &Secrets,
    parts: &Parts,
    of: Role,
) -> Result<Identification, Fault> {
    let [(id, body), ..] = parts.ids.as_slice() else {
        return Err(Fault::Missing("ID"));
    };
    let received = parts.hash.as_deref().ok_or(Fault::Missing("hash"))?;
    if constant_time_equal(received, &proof(sa, handshake, secrets, of, body)) {
        Ok(id.clone())
    } else {
        Err(Fault::Hash)
    }
}

/// Whether the identity is the one that the connection expects.
pub(super) fn expect_identity(scope: &mut Scope<'_>, sa: &Sa, id: &Identification) -> Result<(), Fault> {
    let connection = scope.connection_of(sa)?;
    if is_expected(connection, sa, id) {
        return Ok(());
    }
    let received = describe_identity(&identity::as_version_2(id));
    let expected = connection.config.peer_identity.to_string();
    let may_be_anybody = sa.role == Role::Responder && connection.config.peer == PeerEndpoint::Anywhere;
    Err(Fault::Found(
        NotifyType::INVALID_ID_INFORMATION,
        Box::new(if may_be_anybody {
            FindingKind::UnknownPeer {
                from: sa.path.remote.ip().to_canonical(),
                received,
                expected,
            }
        } else {
            FindingKind::IdentityMismatch {
                end: End::Peers,
                received,
                expected,
            }
        }),
    ))
}

/// The same for a responder of main mode, which reads the identity last: another connection with the same key may be meant, if its
/// policy has what was agreed on before.
pub(super) fn accept_identity(
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    suite: &IkeSuite,
    id: &Identification,
) -> Result<(), Fault> {
    let connection = scope.connection_of(sa)?;
    if !is_expected(connection, sa, id) {
        let psk = connection.config.psk.clone();
        let others = scope.connections.values().filter(|other| {
            other.may_be_at_v1(sa.path.remote.ip())
                && other.config.psk == psk
                && accepts(other, suite)
                && is_expected(other, sa, id)
        });
        if let Some(meant) = others.min_by_key(|other| other.remoteness()) {
            sa.connection = Some(meant.id());
        }
    }
    expect_identity(scope, sa, id)
}

fn is_expected(connection: &Connection, sa: &Sa, id: &Identification) -> bool {
    identity::has_fitting_port(id, sa.path.nat.remote)
        && is_identity(&identity::as_version_2(id), &connection.config.peer_identity)
}

/// Whether the policy of a connection has what was agreed on.
pub(super) fn accepts(connection: &Connection, suite: &IkeSuite) -> bool {
    connection
        .config
        .ike_proposals
        .iter()
        .filter_map(for_version_1)
        .any(|proposal| {
            proposal.encryption.contains(&suite.cipher.encryption())
                && proposal.prf.contains(&suite.prf)
                && proposal.dh.contains(&suite.dh)
        })
}
