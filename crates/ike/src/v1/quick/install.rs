//! What both ends have agreed on becomes a Child SA.

use std::time::Duration;

use super::{ChildId, Fault};
use crate::algorithm::EspSuite;
use crate::channel::Role;
use crate::error::IkeError;
use crate::event::{ChildDirection, ChildLifetime, ChildSa, Event, OutboundUse};
use crate::evidence;
use crate::keys::Nonces;
use crate::sa::rekey_after;
use crate::v1::attributes::Lifetimes;
use crate::v1::sa::Sa;
use crate::v1::tunnel::{Child, Pair};
use crate::v1::{Machine, Scope};

/// Shortest lifetime that a peer can impose.
const MIN_LIFETIME: Duration = Duration::from_secs(2);

/// What both ends know after the second message.
pub(super) struct Agreement<'a> {
    pub(super) pair: Pair,
    pub(super) suite: EspSuite,
    pub(super) inbound_spi: u32,
    pub(super) outbound_spi: u32,
    pub(super) secret: Option<&'a [u8]>,
    pub(super) nonces: Nonces<'a>,
    pub(super) begun_by: Role,
    pub(super) lifetimes: Lifetimes,
    pub(super) replaces: Vec<ChildId>,
    pub(super) outbound_use: OutboundUse,
}

/// Derives the keys, tells the shell to install them, and arms the lifetime.
pub(super) fn install(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &Sa,
    agreement: Agreement<'_>,
) -> Result<ChildId, Fault> {
    let now = scope.now;
    let established = sa
        .established()
        .ok_or(IkeError::Internal("quick mode before phase 1"))?;
    let cipher = agreement.suite.cipher;
    let keys_for = |spi| {
        established
            .keys
            .child(cipher, agreement.secret, spi, &agreement.nonces)
    };
    let id = scope.host.new_child();
    let connection_id = sa
        .connection
        .ok_or(IkeError::Internal("a child without a connection"))?;
    let connection = scope
        .connections
        .get_mut(&connection_id)
        .ok_or(IkeError::Internal("a child without a connection"))?;
    let ours = Duration::from_secs(u64::from(connection.config.esp_lifetime_seconds));
    let expire_after = agreement
        .lifetimes
        .seconds
        .map_or(ours, |seconds| ours.min(Duration::from_secs(seconds)))
        .max(MIN_LIFETIME);
    let rekey_after = connection
        .may_initiate()
        .then(|| rekey_after(expire_after, scope.host));
    evidence::on_child(
        connection,
        &agreement.suite,
        agreement.begun_by,
        agreement.inbound_spi,
    );
    evidence::on_own_exchange(connection);
    let traffic = agreement.pair.traffic();
    if agreement.outbound_use == OutboundUse::Now {
        connection.add_ready(id, &traffic);
    }
    scope.host.owners.insert(id, (connection_id, sa.id));
    scope
        .host
        .events
        .push_back(Event::ChildInstalled(Box::new(ChildSa {
            connection: connection_id,
            child: id,
            suite: cipher,
            sequence_numbers: agreement.suite.sequence_numbers,
            inbound: ChildDirection {
                spi: agreement.inbound_spi,
                keys: keys_for(agreement.inbound_spi),
            },
            outbound: ChildDirection {
                spi: agreement.outbound_spi,
                keys: keys_for(agreement.outbound_spi),
            },
            outbound_use: agreement.outbound_use,
            local_selectors: traffic.local,
            remote_selectors: traffic.remote,
            encapsulation: sa.path.encapsulation(),
            remote: sa.path.remote.ip(),
            lane: 0,
            lifetime: ChildLifetime {
                rekey_after,
                expire_after,
            },
        })));
    let nonces = &agreement.nonces;
    machine.add_child(
        connection_id,
        Child {
            id,
            pair: agreement.pair,
            suite: agreement.suite,
            inbound_spi: agreement.inbound_spi,
            outbound_spi: agreement.outbound_spi,
            begun_by: agreement.begun_by,
            nonce_min: nonces.initiator.min(nonces.responder).to_vec(),
            ready: false,
            waits: agreement.outbound_use == OutboundUse::Wait,
            replaces: agreement.replaces,
            installed_at: now,
            rekey_at: rekey_after.map(|after| now + after),
            expire_at: now + expire_after,
            outdated: false,
            superseded_at: None,
            leaves: false,
            doubted_at: None,
            hangs: false,
            made_under: sa.id,
        },
    );
    Ok(id)
}
