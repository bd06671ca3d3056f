//! Who may speak to IKE: what the control thread is spared when strangers send as fast as they can.
//!
//! Messages of IKE SAs that there are pass. First messages pass only from where a peer is expected, and only so many
//! may wait at a time: the rest of the control thread's queue stays free for established peers. Everything else is no
//! message that anybody would answer.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// First messages of strangers that may wait for the control thread.
const MAX_WAITING: usize = 512;
/// Length of an IKE header (RFC 7296 section 3.1, the same in RFC 2408 section 3.1).
const HEADER_LEN: usize = 28;

/// Where first messages are expected from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedPeers {
    /// Addresses of peers.
    pub addresses: HashSet<IpAddr>,
    /// Whether a peer may come from any address.
    pub anywhere: bool,
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It belongs to an IKE SA of ours.
    Known,
    /// It may begin one. The place that it takes is free again when the ticket is dropped.
    Stranger(Ticket),
    /// It is of nobody that concerns us, or too many wait.
    Refused,
}

/// A place among the strangers that wait.
#[derive(Debug)]
pub struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Judges messages by their header.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Our SPIs of the IKE SAs that there are.
    spis: HashSet<u64>,
    expected: ExpectedPeers,
    waiting: Arc<AtomicUsize>,
}

impl Gate {
    pub(super) fn open(&mut self, spi: u64) {
        self.spis.insert(spi);
    }

    pub(super) fn close(&mut self, spi: u64) {
        self.spis.remove(&spi);
    }

    pub(super) fn expect(&mut self, peers: ExpectedPeers) {
        self.expected = peers;
    }

    pub(super) fn judge(&self, remote: IpAddr, message: &[u8]) -> Verdict {
        let Some((&[initiator, responder], _)) = message.get(..HEADER_LEN).and_then(|header| {
            header
                .as_chunks::<8>()
                .0
                .first_chunk::<2>()
                .map(|spis| (spis, ()))
        }) else {
            return Verdict::Refused;
        };
        let (initiator, responder) = (u64::from_be_bytes(initiator), u64::from_be_bytes(responder));
        if self.spis.contains(&responder) || self.spis.contains(&initiator) {
            return Verdict::Known;
        }
        let may_begin = responder == 0
            && (self.expected.anywhere || self.expected.addresses.contains(&remote.to_canonical()));
        if !may_begin || self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            if may_begin {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            return Verdict::Refused;
        }
        Verdict::Stranger(Ticket(Arc::clone(&self.waiting)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(initiator: u64, responder: u64) -> Vec<u8> {
        let mut message = [initiator.to_be_bytes(), responder.to_be_bytes()].concat();
        message.resize(HEADER_LEN, 0);
        message
    }

    fn here() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    #[test]
    fn messages_of_our_ike_sas_pass_from_anywhere_until_they_are_gone() {
        let mut gate = Gate::default();
        gate.open(7);
        assert!(matches!(gate.judge(here(), &message(7, 9)), Verdict::Known));
        assert!(matches!(gate.judge(here(), &message(9, 7)), Verdict::Known));
        assert!(matches!(gate.judge(here(), &message(7, 0)), Verdict::Known));
        assert!(matches!(gate.judge(here(), &message(8, 9)), Verdict::Refused));
        gate.close(7);
        assert!(matches!(gate.judge(here(), &message(7, 9)), Verdict::Refused));
    }

    #[test]
    fn first_messages_pass_only_from_expected_peers() {
        let mut gate = Gate::default();
        assert!(matches!(gate.judge(here(), &message(1, 0)), Verdict::Refused));
        gate.expect(ExpectedPeers {
            addresses: [here()].into(),
            anywhere: false,
        });
        assert!(matches!(gate.judge(here(), &message(1, 0)), Verdict::Stranger(_)));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(matches!(gate.judge(mapped, &message(1, 0)), Verdict::Stranger(_)));
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert!(matches!(gate.judge(elsewhere, &message(1, 0)), Verdict::Refused));
        gate.expect(ExpectedPeers {
            addresses: HashSet::new(),
            anywhere: true,
        });
        assert!(matches!(
            gate.judge(elsewhere, &message(1, 0)),
            Verdict::Stranger(_)
        ));
        assert!(matches!(
            gate.judge(elsewhere, &message(1, 0)[..27]),
            Verdict::Refused
        ));
    }

    #[test]
    fn strangers_wait_in_limited_number() {
        let mut gate = Gate::default();
        gate.expect(ExpectedPeers {
            addresses: HashSet::new(),
            anywhere: true,
        });
        let waiting: Vec<Verdict> = (1..=MAX_WAITING as u64)
            .map(|number| gate.judge(here(), &message(number, 0)))
            .collect();
        assert!(
            waiting
                .iter()
                .all(|verdict| matches!(verdict, Verdict::Stranger(_)))
        );
        assert!(matches!(gate.judge(here(), &message(1, 0)), Verdict::Refused));
        assert!(matches!(gate.judge(here(), &message(1, 0)), Verdict::Refused));
        drop(waiting);
        assert!(matches!(gate.judge(here(), &message(1, 0)), Verdict::Stranger(_)));
    }
}
