//! Opening: from an ESP packet to a checked inner packet, in place (RFC 4303 section 3.4).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use isthmus_crypto::cipher::Opener;
use isthmus_crypto::suite::{CipherSuite, KeyMaterial, SuiteError};
use isthmus_wire::esp::{self, ESP_HEADER_LEN, ESP_TRAILER_LEN, EspHeader};
use isthmus_wire::ip::{self, IpHeader};

use crate::drop_reason::DropReason;
use crate::ecn;
use crate::replay::ReplayWindow;
use crate::selector::{Flow, Selectors};
use crate::sequence::{Lifetime, SequenceNumbers};

/// Failed integrity checks in a row after which a packet is also tried with the next high half of its sequence number.
const FAILURES_BEFORE_RESYNC: u32 = 16;
/// Longest packet that is tried twice.
const MAX_RESYNC_LEN: usize = 2048;

/// One inbound SA.
pub struct InboundSa {
    spi: u32,
    opener: Opener,
    window: ReplayWindow,
    selectors: Selectors,
    numbers: SequenceNumbers,
    lifetime: Lifetime,
    packets: u64,
    bytes: u64,
    // Integrity failures since the last authentic packet.
    failures: u32,
}

/// What an authentic ESP packet held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing: it was sent to hide when there is traffic (section 2.6).
    Dummy,
    /// An inner packet, checked against the SA's selectors.
    Inner {
        /// Where in the ESP packet it begins.
        offset: usize,
        /// Its header; `header.total_len` is its length, padding for traffic flow confidentiality excluded.
        header: IpHeader,
    },
}

/// An authentic ESP packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// What it held.
    pub opened: Opened,
    /// Whether its sequence number is the highest so far: only then may the peer's address be learnt from it.
    pub newest: bool,
}

impl InboundSa {
    /// An SA that has received nothing, with the SPI that we chose, a replay window of `window` packets, short sequence
    /// numbers and no other limits than theirs and the cipher's.
    ///
    /// # Errors
    /// [`SuiteError`] if the keys do not fit the suite.
    pub fn new(
        spi: u32,
        suite: CipherSuite,
        keys: &KeyMaterial,
        selectors: Selectors,
        window: u32,
    ) -> Result<Self, SuiteError> {
        let numbers = SequenceNumbers::Short;
        Ok(Self {
            spi,
            opener: Opener::new(suite, keys)?,
            window: ReplayWindow::new(window),
            selectors,
            numbers,
            lifetime: Lifetime::new(suite, numbers, None, None).of_receiver(),
            packets: 0,
            bytes: 0,
            failures: 0,
        })
    }

    /// The same with sequence numbers of another width and another lifetime.
    #[must_use]
    pub fn with_limits(self, numbers: SequenceNumbers, lifetime: Lifetime) -> Self {
        Self {
            numbers,
            lifetime: lifetime.of_receiver(),
            ..self
        }
    }

    /// The SPI.
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// Whether so much of the lifetime is used that a new SA should be negotiated.
    pub const fn nears_exhaustion(&self) -> bool {
        self.lifetime.is_soft_passed(self.packets, self.bytes)
    }

    /// Whether it will open nothing more.
    pub const fn is_exhausted(&self) -> bool {
        self.lifetime.is_hard_passed(self.packets, self.bytes)
    }

    /// Opens `packet` in place. `traffic_class` is that of the outer header.
    ///
    /// # Errors
    /// The [`DropReason`]. The window moves only for authentic packets.
    pub fn open(&mut self, packet: &mut [u8], traffic_class: u8) -> Result<Arrival, DropReason> {
        let suite = self.opener.suite();
        let header = EspHeader::decode(packet).map_err(|_| DropReason::MalformedEsp)?;
        let offset = ESP_HEADER_LEN + suite.iv_len();
        let sealed = packet
            .len()
            .checked_sub(offset + suite.icv_len())
            .ok_or(DropReason::MalformedEsp)?;
        if sealed < ESP_TRAILER_LEN || sealed % suite.esp_alignment() != 0 {
            return Err(DropReason::MalformedEsp);
        }
        let sequence = match self.numbers {
            SequenceNumbers::Extended => self.window.expand(header.sequence),
            SequenceNumbers::Short => u64::from(header.sequence),
        };
        self.window.check(sequence).map_err(|_| DropReason::Replayed)?;
        if self.is_exhausted() {
            return Err(DropReason::LifetimeExpired);
        }
        let sequence = self.authenticate(packet, sealed, sequence)?;
        let newest = self.window.mark(sequence).map_err(|_| DropReason::Replayed)?;
        self.packets += 1;
        self.bytes += sealed as u64;
        let plaintext = &mut packet[offset..offset + sealed];
        let (inner_len, next_header) = esp::read_trailer(plaintext).map_err(|_| DropReason::BadTrailer)?;
        if next_header == ip::NO_NEXT_HEADER {
            return Ok(Arrival {
                opened: Opened::Dummy,
                newest,
            });
        }
        let header = self.admit(&mut plaintext[..inner_len], next_header, traffic_class)?;
        Ok(Arrival {
            opened: Opened::Inner { offset, header },
            newest,
        })
    }

    /// Verifies and decrypts; returns the sequence number that was authenticated.
    fn authenticate(&mut self, packet: &mut [u8], sealed: usize, sequence: u64) -> Result<u64, DropReason> {
        let lost_track = self.failures >= FAILURES_BEFORE_RESYNC
            && self.numbers == SequenceNumbers::Extended
            && sequence > self.window.top()
            && packet.len() <= MAX_RESYNC_LEN;
        let opened = if lost_track {
            self.decrypt_twice(packet, sealed, sequence)
        } else {
            self.decrypt(packet, sealed, sequence).map(|()| sequence)
        };
        match opened {
            Ok(_) => self.failures = 0,
            Err(_) => self.failures = self.failures.saturating_add(1),
        }
        opened
    }

    fn decrypt(&self, packet: &mut [u8], sealed: usize, sequence: u64) -> Result<(), DropReason> {
        let suite = self.opener.suite();
        let (header, rest) = packet
            .split_first_chunk_mut::<ESP_HEADER_LEN>()
            .ok_or(DropReason::MalformedEsp)?;
        let (iv, rest) = rest.split_at_mut(suite.iv_len());
        let (plaintext, icv) = rest.split_at_mut(sealed);
        match self.numbers {
            SequenceNumbers::Extended => {
                let high = (sequence >> 32) as u32;
                self.opener.open_extended(header, high, iv, plaintext, icv)
            }
            SequenceNumbers::Short => self.opener.open(header, iv, plaintext, icv),
        }
        .map_err(|_| DropReason::IntegrityFailed)
    }

    /// After a loss of most of 2^32 packets in a row the high half is one more than it seems (RFC 4303 appendix A3).
    #[cold]
    fn decrypt_twice(&self, packet: &mut [u8], sealed: usize, sequence: u64) -> Result<u64, DropReason> {
        let mut copy = [0; MAX_RESYNC_LEN];
        let copy = &mut copy[..packet.len()];
        copy.copy_from_slice(packet);
        if self.decrypt(packet, sealed, sequence).is_ok() {
            return Ok(sequence);
        }
        packet.copy_from_slice(copy);
        let next = sequence.wrapping_add(1 << 32);
        self.decrypt(packet, sealed, next).map(|()| next)
    }

    fn admit(&self, inner: &mut [u8], next_header: u8, outer_class: u8) -> Result<IpHeader, DropReason> {
        let mut header = IpHeader::decode(inner).map_err(|_| DropReason::BadInnerPacket)?;
        if header.version_protocol() != next_header {
            return Err(DropReason::BadInnerPacket);
        }
        let admitted = self.selectors.admit_inbound(&Flow::of(&header, inner))
            || Flow::of_quoted(&header, inner).is_some_and(|flow| self.selectors.admit_inbound(&flow));
        if !admitted {
            return Err(DropReason::SelectorMismatch);
        }
        let class = ecn::decapsulate(header.traffic_class, outer_class).ok_or(DropReason::Congestion)?;
        if class != header.traffic_class {
            ip::set_traffic_class(inner, class);
            header.traffic_class = class;
        }
        Ok(header)
    }
}

impl std::fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InboundSa({:#010x}, {})", self.spi, self.opener.suite())
    }
}

/// What is kept by SPI of ours.
pub type SpiMap<T> = HashMap<u32, T, BuildHasherDefault<SpiHasher>>;

/// Inbound SAs by SPI, each with what its owner keeps beside it.
#[derive(Debug)]
pub struct InboundTable<T> {
    entries: SpiMap<(InboundSa, T)>,
}

impl<T> Default for InboundTable<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
        }
    }
}

impl<T> InboundTable<T> {
    /// Adds an SA; one with the same SPI is replaced.
    pub fn insert(&mut self, sa: InboundSa, context: T) {
        self.entries.insert(sa.spi(), (sa, context));
    }

    /// Removes the SA with that SPI, if there is one.
    pub fn remove(&mut self, spi: u32) -> Option<(InboundSa, T)> {
        self.entries.remove(&spi)
    }

    /// The SA with that SPI.
    pub fn find(&mut self, spi: u32) -> Option<&mut (InboundSa, T)> {
        self.entries.get_mut(&spi)
    }

    /// How many SAs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// SPIs of inbound SAs are random numbers of our own: they need no further mixing than a spread over all bits.
#[derive(Debug, Default)]
pub struct SpiHasher(u64);

impl Hasher for SpiHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, spi: u32) {
        self.0 = (self.0 ^ u64::from(spi)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests;
