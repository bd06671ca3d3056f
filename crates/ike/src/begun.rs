//! What peers began, in either version: found by who repeats a first message, and counted by where from, so that a stranger's
//! message costs the same however many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isthmus_wire::ike::IkeSpi;

use crate::sa::SaId;

/// What one owner has many addresses of: 24 bits of IPv4, 56 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix(u128);

impl Prefix {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => u128::from(address.to_bits() >> 8),
            IpAddr::V6(address) => 1 << 127 | address.to_bits() >> 72,
        })
    }
}

/// How many handshakes that nobody proved yet there are, and where from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HalfOpen<O> {
    all: usize,
    /// Without zeroes.
    of_origin: BTreeMap<O, usize>,
}

impl<O: Ord> HalfOpen<O> {
    pub(crate) fn add(&mut self, origin: O) {
        self.all += 1;
        *self.of_origin.entry(origin).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, origin: &O) {
        if let Some(count) = self.of_origin.get_mut(origin) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.of_origin.remove(origin);
            }
        }
    }

    pub(crate) const fn all(&self) -> usize {
        self.all
    }

    pub(crate) fn of(&self, origin: &O) -> usize {
        self.of_origin.get(origin).copied().unwrap_or_default()
    }
}

impl<O> Default for HalfOpen<O> {
    fn default() -> Self {
        Self {
            all: 0,
            of_origin: BTreeMap::new(),
        }
    }
}

impl<O: Ord> FromIterator<O> for HalfOpen<O> {
    fn from_iter<I: IntoIterator<Item = O>>(origins: I) -> Self {
        let mut counts = Self::default();
        for origin in origins {
            counts.add(origin);
        }
        counts
    }
}

/// IKE SAs that peers began, by their address and SPI at that time: finds repeated first messages.
#[derive(Default)]
pub(crate) struct Begun {
    by_origin: BTreeMap<(IpAddr, IkeSpi), SaId>,
    origins: BTreeMap<SaId, (IpAddr, IkeSpi)>,
}

impl Begun {
    pub(crate) fn find(&self, address: IpAddr, spi: IkeSpi) -> Option<SaId> {
        self.by_origin.get(&(address, spi)).copied()
    }

    pub(crate) fn insert(&mut self, address: IpAddr, spi: IkeSpi, sa: SaId) {
        let origin = (address, spi);
        if let Some(old) = self.by_origin.insert(origin, sa) {
            self.origins.remove(&old);
        }
        self.origins.insert(sa, origin);
    }

    /// The IKE SA is gone.
    pub(crate) fn remove(&mut self, sa: SaId) {
        if let Some(origin) = self.origins.remove(&sa) {
            self.by_origin.remove(&origin);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_origin.len()
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> impl Iterator<Item = SaId> {
        self.by_origin.values().copied()
    }
}
