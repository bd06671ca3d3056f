//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::IpAddr;

/// A running one's complement sum, not yet folded to 16 bits.
///
/// Pieces are added in order; each but the last has an even number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(u64);

impl Checksum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds the addresses, protocol and length that TCP and UDP put before their own bytes (RFC 9293 section 3.1,
    /// RFC 8200 section 8.1).
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Self {
        let addresses = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.bytes(&source.octets()).bytes(&destination.octets())
            }
            (source, destination) => self.bytes(&v6_octets(source)).bytes(&v6_octets(destination)),
        };
        addresses.word(u16::from(protocol)).long(length)
    }

    /// Adds bytes. An odd last byte counts as the high half of a word.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = 0u64;
        let mut wide = bytes.chunks_exact(32);
        let mut lanes = [0u64; 8];
        for chunk in &mut wide {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        for lane in lanes {
            sum += lane;
        }
        let mut words = wide.remainder().chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(self.0 + fold_once(sum))
    }

    /// Adds one word.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// Adds two words, the high one first.
    #[must_use]
    pub const fn long(self, long: u32) -> Self {
        Self(self.0 + long.to_be() as u64)
    }

    /// The sum folded to 16 bits, not complemented: what a "partial" checksum field carries.
    pub const fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the folded sum. Over data that includes its right checksum it is zero.
    pub const fn finish(self) -> u16 {
        !self.folded()
    }
}

/// The checksum after one word that it covers changed from `old` to `new` (RFC 1624 equation 3).
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = (!checksum) as u32 + (!old) as u32 + new as u32;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The checksum of one IPv4 header or ICMP message.
pub fn of(bytes: &[u8]) -> u16 {
    Checksum::new().bytes(bytes).finish()
}

const fn fold_once(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn agrees_with_the_plain_definition_for_every_length() {
        let data: Vec<u8> = (0..2000u32).map(|n| ((n * 7919) >> 3) as u8).collect();
        for length in 0..data.len() {
            assert_eq!(of(&data[..length]), naive(&data[..length]), "{length} bytes");
        }
        assert_eq!(of(&[0xff; 1500]), 0);
    }

    #[test]
    fn matches_the_example_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::new().bytes(&example).folded(), 0xddf2);
    }

    #[test]
    fn an_update_equals_a_new_computation() {
        let mut data = [0x45u8, 0, 0x12, 0x34, 0xab, 0xcd, 0, 0, 0x40, 0x06];
        let before = of(&data);
        let old = u16::from_be_bytes([data[2], data[3]]);
        data[2..4].copy_from_slice(&0xfeedu16.to_be_bytes());
        assert_eq!(update(before, old, 0xfeed), of(&data));
    }
}
