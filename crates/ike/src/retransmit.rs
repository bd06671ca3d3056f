//! A request that waits for its response (RFC 7296 sections 2.1 and 2.4).

use std::time::{Duration, Instant};

use crate::channel::Sealed;

const FIRST_INTERVAL: Duration = Duration::from_millis(500);
const MAX_INTERVAL: Duration = Duration::from_secs(4);

/// A request, sent again with growing intervals until its time is over.
#[derive(Debug)]
pub(crate) struct Retransmission {
    sealed: Sealed,
    interval: Duration,
    give_up_at: Instant,
    tries: u32,
}

impl Retransmission {
    /// A request that was just sent for the first time.
    pub(crate) fn new(sealed: Sealed, patience: Duration, now: Instant) -> Self {
        Self {
            sealed,
            interval: FIRST_INTERVAL,
            give_up_at: now + patience,
            tries: 1,
        }
    }

    /// When to look at it next. `jitter` is up to 255: it spreads the interval by up to an eighth.
    pub(crate) fn next_at(&self, jitter: u8, now: Instant) -> Instant {
        let spread = self.interval * u32::from(jitter) / (8 * 256);
        (now + self.interval + spread).min(self.give_up_at)
    }

    /// What to send again, or nothing if it is time to give up.
    pub(crate) fn again(&mut self, now: Instant) -> Option<&Sealed> {
        if now >= self.give_up_at {
            return None;
        }
        self.interval = (self.interval * 9 / 5).min(MAX_INTERVAL);
        self.tries = self.tries.saturating_add(1);
        Some(&self.sealed)
    }

    /// How often it was sent.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// Bytes of its longest datagram.
    pub(crate) fn longest(&self) -> usize {
        self.sealed.0.iter().map(Vec::len).max().unwrap_or(0)
    }
}
