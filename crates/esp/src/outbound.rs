//! Sealing: from an inner packet to an ESP packet, in place (RFC 4303 section 3.3).

use isthmus_crypto::cipher::Sealer;
use isthmus_crypto::suite::{CipherSuite, KeyMaterial, SuiteError};
use isthmus_wire::esp::{self, ESP_HEADER_LEN, ESP_TRAILER_LEN, EspHeader};

use crate::drop_reason::DropReason;
use crate::sequence::{Lifetime, SequenceNumbers};

/// One outbound SA. Its owner alone counts sequence numbers, so none is ever used twice.
pub struct OutboundSa {
    spi: u32,
    sealer: Sealer,
    numbers: SequenceNumbers,
    lifetime: Lifetime,
    last_sequence: u64,
    packets: u64,
    bytes: u64,
}

impl OutboundSa {
    /// An SA that has sent nothing, with the SPI that the peer chose, short sequence numbers and no other limits than
    /// theirs and the cipher's.
    ///
    /// # Errors
    /// [`SuiteError`] if the keys do not fit the suite.
    pub fn new(spi: u32, suite: CipherSuite, keys: &KeyMaterial) -> Result<Self, SuiteError> {
        let numbers = SequenceNumbers::Short;
        Ok(Self {
            spi,
            sealer: Sealer::new(suite, keys)?,
            numbers,
            lifetime: Lifetime::new(suite, numbers, None, None),
            last_sequence: 0,
            packets: 0,
            bytes: 0,
        })
    }

    /// The same with sequence numbers of another width and another lifetime.
    #[must_use]
    pub fn with_limits(self, numbers: SequenceNumbers, lifetime: Lifetime) -> Self {
        Self {
            numbers,
            lifetime,
            ..self
        }
    }

    /// The SPI.
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// Where in the ESP packet the inner packet begins.
    pub const fn payload_offset(&self) -> usize {
        ESP_HEADER_LEN + self.sealer.suite().iv_len()
    }

    /// Length of the ESP packet around an inner packet of `inner_len` bytes.
    pub const fn sealed_len(&self, inner_len: usize) -> usize {
        let suite = self.sealer.suite();
        self.payload_offset()
            + inner_len
            + esp::padding_len(inner_len, suite.esp_alignment())
            + ESP_TRAILER_LEN
            + suite.icv_len()
    }

    /// Makes an ESP packet of `packet`, which has the length [`OutboundSa::sealed_len`] and holds `inner_len` bytes of
    /// inner packet at [`OutboundSa::payload_offset`].
    ///
    /// # Errors
    /// [`DropReason::SequenceExhausted`] before a sequence number would repeat; [`DropReason::LifetimeExpired`] after
    /// the lifetime; [`DropReason::MalformedInner`] if the lengths do not fit.
    pub fn seal(&mut self, packet: &mut [u8], inner_len: usize, next_header: u8) -> Result<(), DropReason> {
        if packet.len() != self.sealed_len(inner_len) {
            return Err(DropReason::MalformedInner);
        }
        if self.last_sequence >= self.numbers.last() {
            return Err(DropReason::SequenceExhausted);
        }
        if self.lifetime.is_hard_passed(self.packets, self.bytes) {
            return Err(DropReason::LifetimeExpired);
        }
        let sequence = self.last_sequence + 1;
        let suite = self.sealer.suite();
        let header = EspHeader {
            spi: self.spi,
            sequence: sequence as u32,
        }
        .encode();
        let (clear, rest) = packet.split_at_mut(ESP_HEADER_LEN);
        clear.copy_from_slice(&header);
        let (iv, rest) = rest.split_at_mut(suite.iv_len());
        let (plaintext, icv) = rest.split_at_mut(rest.len() - suite.icv_len());
        esp::write_trailer(plaintext, inner_len, next_header).map_err(|_| DropReason::MalformedInner)?;
        self.sealer
            .make_iv(sequence, iv)
            .and_then(|()| match self.numbers {
                SequenceNumbers::Extended => {
                    let high = (sequence >> 32) as u32;
                    self.sealer.seal_extended(&header, high, iv, plaintext, icv)
                }
                SequenceNumbers::Short => self.sealer.seal(&header, iv, plaintext, icv),
            })
            .map_err(|_| DropReason::MalformedInner)?;
        self.last_sequence = sequence;
        self.packets += 1;
        self.bytes += inner_len as u64;
        Ok(())
    }

    /// Packets sealed so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Whether so much of the sequence numbers or the lifetime is used that a new SA should be negotiated.
    pub const fn nears_exhaustion(&self) -> bool {
        self.lifetime.is_soft_passed(self.packets, self.bytes)
            || self.last_sequence >= self.numbers.last() / 4 * 3
    }

    /// Whether it will seal nothing more.
    pub const fn is_exhausted(&self) -> bool {
        self.lifetime.is_hard_passed(self.packets, self.bytes) || self.last_sequence >= self.numbers.last()
    }

    /// Uses no sequence number up to `sequence`: for who takes an SA over from another that may have used them.
    pub const fn skip_to(&mut self, sequence: u64) {
        if sequence > self.last_sequence {
            self.last_sequence = sequence;
        }
    }
}

impl std::fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutboundSa({:#010x}, {})", self.spi, self.sealer.suite())
    }
}
