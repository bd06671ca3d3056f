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

/// One inbound SA.
pub struct InboundSa {
    spi: u32,
    opener: Opener,
    window: ReplayWindow,
    selectors: Selectors,
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
    /// An SA that has received nothing, with the SPI that we chose and a replay window of `window` packets.
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
        Ok(Self {
            spi,
            opener: Opener::new(suite, keys)?,
            window: ReplayWindow::new(window),
            selectors,
        })
    }

    /// The SPI.
    pub const fn spi(&self) -> u32 {
        self.spi
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
        let sequence = u64::from(header.sequence);
        self.window.check(sequence).map_err(|_| DropReason::Replayed)?;
        let (aad, rest) = packet.split_at_mut(ESP_HEADER_LEN);
        let (iv, rest) = rest.split_at_mut(suite.iv_len());
        let (plaintext, icv) = rest.split_at_mut(sealed);
        self.opener
            .open(aad, iv, plaintext, icv)
            .map_err(|_| DropReason::IntegrityFailed)?;
        let newest = self.window.mark(sequence).map_err(|_| DropReason::Replayed)?;
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

/// Inbound SAs by SPI, each with what its owner keeps beside it.
#[derive(Debug)]
pub struct InboundTable<T> {
    entries: HashMap<u32, (InboundSa, T), BuildHasherDefault<SpiHasher>>,
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
struct SpiHasher(u64);

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
