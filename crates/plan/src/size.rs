//! How large a packet may be so that it still fits a 1500-byte link when sealed.

use std::net::IpAddr;

use isthmus_hostplan::PeerEndpoint;
use isthmus_types::{Encryption, EspProposal, Integrity};

/// Largest packet of the links between gateways, bytes.
const LINK: usize = 1500;
/// Outer IP header.
const IPV4: usize = 20;
const IPV6: usize = 40;
/// UDP header, and SPI with sequence number (RFC 3948, RFC 4303 section 2).
const WRAPPING: usize = 8 + 8;
/// Pad length and next header at the end of the ciphertext (RFC 4303 section 2).
const TRAILER: usize = 2;

/// Largest packet that fits one of the proposals of a connection on the way to its peer, bytes. Without any, that of an AEAD.
///
/// Where another proposal is agreed on, the tunnel daemon holds packets to the limit of the SA: it tells their senders, or
/// cuts them. So no connection is held to the limit of a suite that only another one uses.
pub(crate) fn largest_inner_packet<'a>(
    connections: impl Iterator<Item = (&'a PeerEndpoint, &'a [EspProposal])>,
) -> u16 {
    connections
        .flat_map(|(peer, proposals)| {
            proposals
                .iter()
                .map(move |proposal| (outer_header(peer), proposal))
        })
        .flat_map(|(header, proposal)| {
            proposal.encryption.iter().flat_map(move |cipher| {
                let hashes: Vec<_> = if proposal.integrity.is_empty() {
                    vec![None]
                } else {
                    proposal.integrity.iter().copied().map(Some).collect()
                };
                hashes
                    .into_iter()
                    .map(move |hash| inner_packet(header, *cipher, hash))
            })
        })
        .max()
        .unwrap_or_else(|| inner_packet(IPV4, Encryption::Aes256Gcm16, None))
}

const fn outer_header(peer: &PeerEndpoint) -> usize {
    match peer {
        PeerEndpoint::Address {
            address: IpAddr::V6(_),
        } => IPV6,
        PeerEndpoint::Address { .. } | PeerEndpoint::Anywhere | PeerEndpoint::Name { .. } => IPV4,
    }
}

const fn inner_packet(header: usize, cipher: Encryption, hash: Option<Integrity>) -> u16 {
    let check = match hash {
        None => cipher.aead_icv_len(),
        Some(hash) => hash.icv_len(),
    };
    let room = LINK - header - WRAPPING - cipher.iv_len() - check;
    (room - room % cipher.esp_alignment() - TRAILER) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_packet_layout() {
        for (cipher, hash, expected) in [
            (Encryption::Aes128Gcm16, None, 1438),
            (Encryption::Aes128Gcm8, None, 1446),
            (Encryption::Aes256Gcm12, None, 1442),
            (Encryption::ChaCha20Poly1305, None, 1438),
            (Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96), 1422),
            (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_256_128), 1422),
            (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_384_192), 1422),
            (Encryption::Aes256Cbc, Some(Integrity::HmacSha2_512_256), 1406),
            (Encryption::TripleDes, Some(Integrity::HmacSha1_96), 1438),
        ] {
            assert_eq!(inner_packet(IPV4, cipher, hash), expected, "{cipher} {hash:?}");
        }
    }
}
