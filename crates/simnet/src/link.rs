//! What the network does to datagrams.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha20Rng;

/// Faults of the network. Each datagram is treated independently.
#[derive(Clone, Debug)]
pub struct Link {
    /// Shortest time in flight.
    pub delay: Duration,
    /// Up to this is added at random, so that datagrams overtake each other.
    pub jitter: Duration,
    /// Datagrams lost of 100.
    pub loss_percent: u32,
    /// Datagrams that arrive twice of 100.
    pub duplicate_percent: u32,
    /// The IKE datagram with this number (from 0) is lost.
    pub lose_number: Option<usize>,
    /// The IKE datagrams with these numbers (from 0) are in flight for so much longer.
    pub late: Option<(RangeInclusive<usize>, Duration)>,
}

impl Link {
    /// Five milliseconds each way and no faults.
    pub const fn clean() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss_percent: 0,
            duplicate_percent: 0,
            lose_number: None,
            late: None,
        }
    }

    /// Clean but for one datagram.
    pub const fn losing(number: usize) -> Self {
        Self {
            lose_number: Some(number),
            ..Self::clean()
        }
    }

    /// Loss, duplication and reordering.
    pub const fn hostile() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(400),
            loss_percent: 15,
            duplicate_percent: 15,
            lose_number: None,
            late: None,
        }
    }

    /// The times in flight of the copies that arrive of IKE datagram `number`.
    pub(crate) fn pass(&self, number: usize, rng: &mut ChaCha20Rng) -> Vec<Duration> {
        if self.lose_number == Some(number) || roll(rng, self.loss_percent) {
            return Vec::new();
        }
        let copies = if roll(rng, self.duplicate_percent) { 2 } else { 1 };
        let lateness = match &self.late {
            Some((numbers, by)) if numbers.contains(&number) => *by,
            Some(_) | None => Duration::ZERO,
        };
        (0..copies).map(|_| self.flight(rng) + lateness).collect()
    }

    /// Time in flight of one datagram.
    pub(crate) fn flight(&self, rng: &mut ChaCha20Rng) -> Duration {
        self.delay + self.jitter * (rng.next_u32() % 256) / 256
    }
}

fn roll(rng: &mut ChaCha20Rng, percent: u32) -> bool {
    rng.next_u32() % 100 < percent
}
