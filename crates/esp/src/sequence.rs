//! How far the numbers of an SA reach: the width of its sequence numbers and its lifetime in bytes and packets
//! (RFC 4303 section 3.3.3, RFC 4301 section 4.4.2.1).

use isthmus_crypto::suite::CipherSuite;

/// Width of the sequence numbers of an SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SequenceNumbers {
    /// 64 bits, of which the low half is sent (RFC 4303 section 2.2.1).
    Extended,
    /// 32 bits.
    #[default]
    Short,
}

impl SequenceNumbers {
    /// The last number of that width that may be used.
    pub const fn last(self) -> u64 {
        match self {
            Self::Extended => u64::MAX,
            Self::Short => u32::MAX as u64,
        }
    }
}

/// When an SA should be replaced, and when it must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Bytes of inner packets after which it should be replaced.
    pub soft_bytes: u64,
    /// Bytes of inner packets after which it carries nothing more.
    pub hard_bytes: u64,
    /// Packets after which it should be replaced.
    pub soft_packets: u64,
    /// Packets after which it carries nothing more.
    pub hard_packets: u64,
}

/// Bytes that a cipher with blocks of 64 bits may encrypt under one key: collisions of blocks tell about the plaintext
/// long before their number is used up (CVE-2016-2183).
const SHORT_BLOCK_BYTES: u64 = 2 << 30;

impl Lifetime {
    /// An SA that should be replaced after `bytes` or `packets`, as far as its cipher and its sequence numbers reach,
    /// and carries a quarter more.
    pub fn new(
        suite: CipherSuite,
        numbers: SequenceNumbers,
        bytes: Option<u64>,
        packets: Option<u64>,
    ) -> Self {
        let most_bytes = if suite.block_len() == 8 && !suite.encryption().is_aead() {
            SHORT_BLOCK_BYTES
        } else {
            u64::MAX / 5 * 4
        };
        let soft_bytes = bytes.unwrap_or(u64::MAX).min(most_bytes);
        let last = numbers.last();
        let (soft_packets, hard_packets) = match packets.map(|asked| asked.min(last / 4 * 3)) {
            Some(soft) => (soft, soft + (soft / 4).max(1)),
            None => (last / 4 * 3, last),
        };
        Self {
            soft_bytes,
            hard_bytes: soft_bytes.saturating_add(soft_bytes / 4),
            soft_packets,
            hard_packets,
        }
    }

    /// The same for the side that receives: it lets the sender be the first to ask for a replacement.
    #[must_use]
    pub const fn of_receiver(self) -> Self {
        Self {
            soft_bytes: self.soft_bytes.saturating_add(self.soft_bytes / 8),
            soft_packets: self.soft_packets.saturating_add(self.soft_packets / 8),
            ..self
        }
    }

    pub(crate) const fn is_soft_passed(&self, packets: u64, bytes: u64) -> bool {
        packets >= self.soft_packets || bytes >= self.soft_bytes
    }

    pub(crate) const fn is_hard_passed(&self, packets: u64, bytes: u64) -> bool {
        packets >= self.hard_packets || bytes >= self.hard_bytes
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::{Encryption, Integrity};

    use super::*;

    fn suite(encryption: Encryption, integrity: Option<Integrity>) -> CipherSuite {
        CipherSuite::new(encryption, integrity).unwrap()
    }

    #[test]
    fn without_limits_the_numbers_and_the_cipher_set_them() {
        let gcm = suite(Encryption::Aes128Gcm16, None);
        let short = Lifetime::new(gcm, SequenceNumbers::Short, None, None);
        assert_eq!(short.soft_packets, u64::from(u32::MAX) / 4 * 3);
        assert_eq!(short.hard_packets, u64::from(u32::MAX));
        let extended = Lifetime::new(gcm, SequenceNumbers::Extended, None, None);
        assert!(extended.soft_packets > 1 << 63);
        assert!(extended.soft_bytes > 1 << 62);
        let triple = suite(Encryption::TripleDes, Some(Integrity::HmacSha1_96));
        let short = Lifetime::new(triple, SequenceNumbers::Extended, None, None);
        assert_eq!((short.soft_bytes, short.hard_bytes), (2 << 30, 5 << 29));
    }

    #[test]
    fn what_is_asked_for_counts_and_the_receiver_waits_longer() {
        let gcm = suite(Encryption::Aes128Gcm16, None);
        let asked = Lifetime::new(gcm, SequenceNumbers::Short, Some(8000), Some(16));
        assert_eq!((asked.soft_bytes, asked.hard_bytes), (8000, 10_000));
        assert_eq!((asked.soft_packets, asked.hard_packets), (16, 20));
        let receiver = asked.of_receiver();
        assert_eq!((receiver.soft_bytes, receiver.soft_packets), (9000, 18));
        assert_eq!(receiver.hard_bytes, asked.hard_bytes);
    }
}
