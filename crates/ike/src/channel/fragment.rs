//! Messages that come in fragments (RFC 7383 section 2.6).
//!
//! Only verified fragments get here. There is at most one set, of one message: it is bounded in count and in bytes,
//! and it is forgotten after a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use isthmus_wire::ike::{FragmentNumber, PayloadType};
use zeroize::Zeroizing;

use super::Content;

/// Most fragments of one message. The longest message in the smallest datagrams of IPv4 has fewer.
pub(super) const MAX_FRAGMENTS: u16 = 160;
/// How long a set waits for the rest of its message.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The fragments of one message.
#[derive(Default)]
pub(super) struct Reassembly(Option<Set>);

struct Set {
    message_id: u32,
    total: u16,
    /// What only the first fragment tells.
    first: Option<First>,
    pieces: BTreeMap<u16, Zeroizing<Vec<u8>>>,
    len: usize,
    since: Instant,
}

struct First {
    digest: [u8; 32],
    first_inside: PayloadType,
    clear: Vec<u8>,
}

/// What is known of a verified fragment beside its content.
pub(super) struct Fragment {
    pub(super) message_id: u32,
    pub(super) place: FragmentNumber,
    /// Of the bytes of its datagram.
    pub(super) digest: [u8; 32],
}

/// A message that is complete.
pub(super) struct Whole {
    /// Of the bytes of its datagram or first fragment.
    pub(super) digest: [u8; 32],
    pub(super) first_inside: PayloadType,
    /// The header and the payloads in clear.
    pub(super) clear: Vec<u8>,
    pub(super) data: Zeroizing<Vec<u8>>,
}

impl Reassembly {
    /// Whether the fragment would be added if it were authentic: not if there are too many, if it is there already,
    /// or if the message came in more fragments meanwhile.
    pub(super) fn wants(&self, message_id: u32, fragment: FragmentNumber, now: Instant) -> bool {
        if fragment.total > MAX_FRAGMENTS {
            return false;
        }
        match self.current(message_id, now) {
            Some(set) if fragment.total == set.total => !set.pieces.contains_key(&fragment.number),
            Some(set) => fragment.total > set.total,
            None => true,
        }
    }

    /// Adds a verified fragment that is wanted, unless the message gets longer than `limit` bytes, and gives the message if it was the last one missing.
    pub(super) fn add(
        &mut self,
        fragment: &Fragment,
        content: Content,
        limit: usize,
        now: Instant,
    ) -> Option<Whole> {
        let FragmentNumber { number, total } = fragment.place;
        let goes_on = self
            .current(fragment.message_id, now)
            .is_some_and(|set| set.total == total);
        if !goes_on {
            self.0 = None;
        }
        let set = self.0.get_or_insert_with(|| Set {
            message_id: fragment.message_id,
            total,
            first: None,
            pieces: BTreeMap::new(),
            len: 0,
            since: now,
        });
        set.len += content.data.len();
        if set.len > limit {
            self.0 = None;
            return None;
        }
        if number == 1 {
            set.first = Some(First {
                digest: fragment.digest,
                first_inside: content.first_inside,
                clear: content.clear,
            });
        }
        set.pieces.insert(number, content.data);
        if set.pieces.len() < usize::from(set.total) {
            return None;
        }
        let set = self.0.take()?;
        let first = set.first?;
        let mut data = Zeroizing::new(Vec::with_capacity(set.len));
        for piece in set.pieces.values() {
            data.extend_from_slice(piece);
        }
        Some(Whole {
            digest: first.digest,
            first_inside: first.first_inside,
            clear: first.clear,
            data,
        })
    }

    /// Forgets a set that waits for too long.
    pub(super) fn forget_stale(&mut self, now: Instant) {
        if self.0.as_ref().is_some_and(|set| set.is_stale(now)) {
            self.0 = None;
        }
    }

    fn current(&self, message_id: u32, now: Instant) -> Option<&Set> {
        self.0
            .as_ref()
            .filter(|set| set.message_id == message_id && !set.is_stale(now))
    }
}

impl Set {
    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= PATIENCE
    }
}
