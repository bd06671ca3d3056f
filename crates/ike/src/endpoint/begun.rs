//! What peers began: found by who repeats a first message, and counted by where from, so that a stranger's message costs
//! the same however many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isthmus_wire::ike::IkeSpi;

use crate::sa::SaId;

/// What one owner has many addresses of: 24 bits of IPv4, 56 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix(u128);

impl Prefix {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
            IpAddr::V6(address) => 1 << 127 | address.to_bits() >> 72,
        })
    }
}

/// How many handshakes that nobody proved yet there are, and of whom.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HalfOpen {
    all: usize,
    /// Without zeroes.
    of_prefix: BTreeMap<Prefix, usize>,
}

impl HalfOpen {
    pub(super) fn add(&mut self, prefix: Prefix) {
        self.all += 1;
        *self.of_prefix.entry(prefix).or_default() += 1;
    }

    pub(super) fn remove(&mut self, prefix: Prefix) {
        if let Some(count) = self.of_prefix.get_mut(&prefix) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.of_prefix.remove(&prefix);
            }
        }
    }

    pub(super) const fn all(&self) -> usize {
        self.all
    }

    pub(super) fn of(&self, prefix: Prefix) -> usize {
        self.of_prefix.get(&prefix).copied().unwrap_or_default()
    }
}

impl FromIterator<Prefix> for HalfOpen {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        let mut counts = Self::default();
        for prefix in prefixes {
            counts.add(prefix);
        }
        counts
    }
}

/// IKE SAs that peers began, by their address and SPI at that time: finds repeated first messages.
#[derive(Default)]
pub(super) struct Begun {
    by_origin: BTreeMap<(IpAddr, IkeSpi), SaId>,
    origins: BTreeMap<SaId, (IpAddr, IkeSpi)>,
}

impl Begun {
    pub(super) fn find(&self, address: IpAddr, spi: IkeSpi) -> Option<SaId> {
        self.by_origin.get(&(address, spi)).copied()
    }

    pub(super) fn insert(&mut self, address: IpAddr, spi: IkeSpi, sa: SaId) {
        let origin = (address, spi);
        if let Some(old) = self.by_origin.insert(origin, sa) {
            self.origins.remove(&old);
        }
        self.origins.insert(sa, origin);
    }

    /// The IKE SA is gone.
    pub(super) fn remove(&mut self, sa: SaId) {
        if let Some(origin) = self.origins.remove(&sa) {
            self.by_origin.remove(&origin);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_origin.len()
    }

    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = SaId> {
        self.by_origin.values().copied()
    }
}
