//! The end of an ISAKMP SA. Nothing confirms a delete, so the peer is told several times, and nothing is kept for that but the
//! messages.

use std::time::{Duration, Instant};

use isthmus_wire::isakmp::{DeletePayload, Payload, ProtocolId};

use super::sa::Sa;
use super::{Machine, Owner, Scope, informational};
use crate::nat::Path;

/// From the first delete to those that follow.
const AGAIN: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(7),
];
/// Deletes that wait, of all SAs: beyond that the peers are told once.
const MAX_WAITING: usize = 1 << 12;

/// A delete to send once more.
pub(super) struct Farewell {
    at: Instant,
    path: Path,
    message: Vec<u8>,
}

impl Machine {
    /// Tells the peer that the ISAKMP SA is gone, now and some more times.
    pub(super) fn delete_sa(&mut self, scope: &mut Scope<'_>, sa: &mut Sa) {
        let delete = [Payload::Delete(DeletePayload::one(ProtocolId::ISAKMP, sa.spi()))];
        informational::send(scope.host, sa, &delete);
        if self.farewells.len() >= MAX_WAITING {
            return;
        }
        for after in AGAIN {
            // Each with a message id of its own: the same bytes again would count as a replay.
            let message = informational::protect(scope.host, sa, &delete);
            self.farewells.extend(message.map(|message| Farewell {
                at: scope.now + after,
                path: sa.path,
                message,
            }));
        }
        self.arm_farewells();
    }

    /// Sends the deletes that are due.
    pub(super) fn say_farewells(&mut self, scope: &mut Scope<'_>) {
        let (due, later) = std::mem::take(&mut self.farewells)
            .into_iter()
            .partition(|farewell| farewell.at <= scope.now);
        self.farewells = later;
        let due: Vec<Farewell> = due;
        for farewell in due {
            scope.host.send(&farewell.path, farewell.message);
        }
        self.arm_farewells();
    }

    fn arm_farewells(&mut self) {
        let next = self.farewells.iter().map(|farewell| farewell.at).min();
        self.arm(Owner::Farewells, next);
    }
}
