//! A Child SA of an IKE SA.

use std::time::{Duration, Instant};

use isthmus_types::VpnConnectionId;

use crate::algorithm::{EspSuite, IkeSuite};
use crate::channel::Role;
use crate::error::IkeError;
use crate::event::{ChildDirection, ChildId, ChildLifetime, ChildSa, Event, OutboundUse};
use crate::evidence;
use crate::host::Context;
use crate::keys::{Nonces, child_keys};
use crate::nat::Path;
use crate::sa::{SaId, rekey_after};
use crate::selector::Traffic;

/// A pair of ESP SAs that the peer has too.
pub(crate) struct Child {
    pub(crate) id: ChildId,
    pub(crate) connection: VpnConnectionId,
    pub(crate) suite: EspSuite,
    pub(crate) inbound_spi: u32,
    pub(crate) outbound_spi: u32,
    pub(crate) traffic: Traffic,
    /// Which of several for the same traffic.
    pub(crate) lane: u8,
    pub(crate) phase: ChildPhase,
    /// It is of an older configuration, and goes as soon as another one carries its traffic.
    pub(crate) stale: bool,
    /// Who began the exchange that made it.
    pub(crate) begun_by: Role,
    /// The lower nonce of that exchange.
    pub(crate) nonce_min: Vec<u8>,
    pub(crate) rekey_at: Option<Instant>,
    pub(crate) expire_at: Instant,
    pub(crate) installed_at: Instant,
}

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildPhase {
    /// We shall delete it with the next request.
    Condemned,
    /// We asked the peer to delete it.
    Deleting,
    /// In use.
    Live,
    /// We shall replace it with the next request.
    Outdated,
    /// Replaced by the peer, which shall delete it; we do so at the given time.
    Replaced {
        /// When we lose patience.
        until: Instant,
    },
}

/// What two ends agreed on.
pub(crate) struct Agreement<'a> {
    pub(crate) suite: EspSuite,
    pub(crate) inbound_spi: u32,
    pub(crate) outbound_spi: u32,
    pub(crate) traffic: Traffic,
    /// Which of several for the same traffic.
    pub(crate) lane: u8,
    pub(crate) nonces: Nonces<'a>,
    pub(crate) secret: Option<&'a [u8]>,
    /// Of the key exchanges after the first, one after the other.
    pub(crate) additional_secrets: &'a [u8],
    /// Who began the exchange.
    pub(crate) begun_by: Role,
    /// Whether we may send on it at once.
    pub(crate) outbound_use: OutboundUse,
}

/// The IKE SA that a child is made under.
pub(crate) struct Parent<'a> {
    pub(crate) id: SaId,
    pub(crate) suite: &'a IkeSuite,
    pub(crate) derive: &'a [u8],
    pub(crate) path: &'a Path,
}

impl Child {
    /// Derives the keys, tells the shell to install them, and arms the lifetime.
    pub(crate) fn install(
        context: &mut Context<'_>,
        parent: &Parent<'_>,
        agreement: Agreement<'_>,
    ) -> Result<Self, IkeError> {
        let now = context.now;
        let connection = context
            .connection
            .as_deref_mut()
            .ok_or(IkeError::Internal("a child without a connection"))?;
        let keys = child_keys(
            parent.suite.prf,
            parent.derive,
            agreement.suite.cipher,
            agreement.secret,
            agreement.additional_secrets,
            &agreement.nonces,
        )?;
        let (outbound_keys, inbound_keys) = match agreement.begun_by {
            Role::Initiator => (keys.from_initiator, keys.from_responder),
            Role::Responder => (keys.from_responder, keys.from_initiator),
        };
        let expire_after = Duration::from_secs(u64::from(connection.config.esp_lifetime_seconds.max(2)));
        let rekey_after = connection
            .may_rekey()
            .then(|| rekey_after(expire_after, context.host));
        let id = context.host.new_child();
        let outbound_use = match agreement.outbound_use {
            OutboundUse::Now => {
                connection.add_ready_in(agreement.lane, id, &agreement.traffic);
                OutboundUse::Now
            }
            OutboundUse::Wait if connection.add_waiting(id, &agreement.traffic, agreement.lane, now) => {
                OutboundUse::Now
            }
            OutboundUse::Wait => OutboundUse::Wait,
        };
        evidence::on_child(
            connection,
            &agreement.suite,
            agreement.begun_by,
            agreement.inbound_spi,
        );
        context.host.owners.insert(id, (connection.id(), parent.id));
        context
            .host
            .events
            .push_back(Event::ChildInstalled(Box::new(ChildSa {
                connection: connection.id(),
                child: id,
                suite: agreement.suite.cipher,
                sequence_numbers: agreement.suite.sequence_numbers,
                inbound: ChildDirection {
                    spi: agreement.inbound_spi,
                    keys: inbound_keys,
                },
                outbound: ChildDirection {
                    spi: agreement.outbound_spi,
                    keys: outbound_keys,
                },
                outbound_use,
                local_selectors: agreement.traffic.local.clone(),
                remote_selectors: agreement.traffic.remote.clone(),
                encapsulation: parent.path.encapsulation(),
                remote: parent.path.remote.ip(),
                lane: agreement.lane,
                lifetime: ChildLifetime {
                    rekey_after,
                    expire_after,
                },
            })));
        let nonce_min = agreement
            .nonces
            .initiator
            .min(agreement.nonces.responder)
            .to_vec();
        Ok(Self {
            id,
            connection: connection.id(),
            suite: agreement.suite,
            inbound_spi: agreement.inbound_spi,
            outbound_spi: agreement.outbound_spi,
            traffic: agreement.traffic,
            lane: agreement.lane,
            phase: ChildPhase::Live,
            stale: false,
            begun_by: agreement.begun_by,
            nonce_min,
            rekey_at: rekey_after.map(|after| now + after),
            expire_at: now + expire_after,
            installed_at: now,
        })
    }

    /// Stops sending at once and receiving after `grace`.
    pub(crate) fn bury(self, context: &mut Context<'_>, grace: Duration) {
        if let Some(connection) = &mut context.connection {
            connection.retire(context.host, self.id);
        }
        context
            .host
            .bury(self.connection, self.id, self.inbound_spi, context.now + grace);
    }

    /// Whether it carries traffic and nothing was decided against it.
    pub(crate) const fn is_in_use(&self) -> bool {
        matches!(self.phase, ChildPhase::Live | ChildPhase::Outdated)
    }

    /// The earliest moment that something falls due; nothing does while it is being deleted.
    pub(crate) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        match (self.phase, self.rekey_at) {
            (ChildPhase::Live, Some(rekey_at)) => Some((rekey_at.min(self.expire_at), "Child SA rekey")),
            (ChildPhase::Replaced { until }, _) => Some((until.min(self.expire_at), "replaced Child SA")),
            (ChildPhase::Live | ChildPhase::Outdated, _) => Some((self.expire_at, "Child SA expires")),
            (ChildPhase::Condemned | ChildPhase::Deleting, _) => None,
        }
    }

    /// Decides what must be done with it at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            ChildPhase::Live | ChildPhase::Outdated if self.expire_at <= now => {
                self.phase = ChildPhase::Condemned;
            }
            ChildPhase::Live if self.rekey_at.is_some_and(|at| at <= now) => {
                self.phase = ChildPhase::Outdated;
            }
            ChildPhase::Replaced { until } if until.min(self.expire_at) <= now => {
                self.phase = ChildPhase::Condemned;
            }
            ChildPhase::Condemned
            | ChildPhase::Deleting
            | ChildPhase::Live
            | ChildPhase::Outdated
            | ChildPhase::Replaced { .. } => {}
        }
    }
}
