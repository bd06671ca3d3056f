//! How large an inner packet may be.

use isthmus_crypto::suite::CipherSuite;
use isthmus_wire::esp::{ESP_HEADER_LEN, ESP_TRAILER_LEN};
use isthmus_wire::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN};
use isthmus_wire::udp::UDP_HEADER_LEN;

/// What stands before an ESP packet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// IPv4.
    Ipv4,
    /// IPv4 and UDP (RFC 3948).
    Ipv4Udp,
    /// IPv6.
    Ipv6,
    /// IPv6 and UDP.
    Ipv6Udp,
}

impl Encapsulation {
    /// Bytes before the ESP header.
    pub const fn header_len(self) -> usize {
        match self {
            Self::Ipv4 => IPV4_HEADER_LEN,
            Self::Ipv4Udp => IPV4_HEADER_LEN + UDP_HEADER_LEN,
            Self::Ipv6 => IPV6_HEADER_LEN,
            Self::Ipv6Udp => IPV6_HEADER_LEN + UDP_HEADER_LEN,
        }
    }
}

/// Largest inner packet whose outer packet fits `outer_mtu` bytes; zero if none does.
pub fn inner_mtu(suite: CipherSuite, encapsulation: Encapsulation, outer_mtu: u16) -> u16 {
    let fixed = encapsulation.header_len() + ESP_HEADER_LEN + suite.iv_len() + suite.icv_len();
    let ciphertext = usize::from(outer_mtu).saturating_sub(fixed);
    let aligned = ciphertext - ciphertext % suite.esp_alignment();
    u16::try_from(aligned.saturating_sub(ESP_TRAILER_LEN)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use isthmus_types::{Encryption, Integrity};

    use super::*;

    #[test]
    fn inner_packets_on_a_1500_byte_link() {
        let table = [
            (Encryption::Aes128Gcm16, None, [1446, 1438, 1426, 1418]),
            (Encryption::Aes256Gcm8, None, [1454, 1446, 1434, 1426]),
            (Encryption::Aes128Gcm12, None, [1450, 1442, 1430, 1422]),
            (Encryption::ChaCha20Poly1305, None, [1446, 1438, 1426, 1418]),
            (
                Encryption::Aes256Cbc,
                Some(Integrity::HmacSha1_96),
                [1438, 1422, 1422, 1406],
            ),
            (
                Encryption::Aes128Cbc,
                Some(Integrity::HmacSha2_256_128),
                [1438, 1422, 1406, 1406],
            ),
            (
                Encryption::Aes128Cbc,
                Some(Integrity::HmacSha2_384_192),
                [1422, 1422, 1406, 1390],
            ),
            (
                Encryption::Aes128Cbc,
                Some(Integrity::HmacSha2_512_256),
                [1422, 1406, 1390, 1390],
            ),
            (
                Encryption::TripleDes,
                Some(Integrity::HmacSha1_96),
                [1446, 1438, 1430, 1422],
            ),
        ];
        for (encryption, integrity, expected) in table {
            let suite = CipherSuite::new(encryption, integrity).unwrap();
            let found = [
                Encapsulation::Ipv4,
                Encapsulation::Ipv4Udp,
                Encapsulation::Ipv6,
                Encapsulation::Ipv6Udp,
            ]
            .map(|encapsulation| inner_mtu(suite, encapsulation, 1500));
            assert_eq!(found, expected, "{suite}");
        }
    }

    #[test]
    fn a_link_too_small_for_the_headers_carries_nothing() {
        let suite = CipherSuite::new(Encryption::Aes128Gcm16, None).unwrap();
        assert_eq!(inner_mtu(suite, Encapsulation::Ipv6Udp, 40), 0);
    }
}
