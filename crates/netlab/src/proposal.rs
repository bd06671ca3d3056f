//! Proposals in the words that strongSwan uses too, such as `aes128-sha1-prfsha1-modp2048`.

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_types::{AdditionalKeyExchange, DhGroup, Encryption, EspProposal, IkeProposal, Integrity, Prf};

#[derive(Default)]
struct Words {
    encryption: Vec<Encryption>,
    integrity: Vec<Integrity>,
    prf: Vec<Prf>,
    dh: Vec<DhGroup>,
    additional: Vec<AdditionalKeyExchange>,
}

fn parse(text: &str) -> Result<Words> {
    let mut words = Words::default();
    for word in text.split('-') {
        if let Some(found) = Encryption::from_word(word) {
            words.encryption.push(found);
        } else if let Some(found) = Integrity::from_word(word) {
            words.integrity.push(found);
        } else if let Some(found) = Prf::from_word(word) {
            words.prf.push(found);
        } else if let Some(found) = DhGroup::from_word(word) {
            words.dh.push(found);
        } else if let Some(found) = AdditionalKeyExchange::from_word(word) {
            words.additional.push(found);
        } else {
            bail!("{word:?} in {text:?} names no algorithm");
        }
    }
    let first = words
        .encryption
        .first()
        .with_context(|| format!("no cipher in {text:?}"))?;
    ensure!(
        first.is_aead() == words.integrity.is_empty(),
        "integrity and cipher of {text:?} do not go together"
    );
    Ok(words)
}

/// Reads an IKE proposal; PRF and group must be named.
///
/// # Errors
/// When a word is unknown, or a kind of algorithm is missing.
pub fn ike(text: &str) -> Result<IkeProposal> {
    let words = parse(text)?;
    ensure!(!words.prf.is_empty(), "no PRF in {text:?}");
    ensure!(!words.dh.is_empty(), "no group in {text:?}");
    Ok(IkeProposal {
        encryption: words.encryption,
        integrity: words.integrity,
        prf: words.prf,
        dh: words.dh,
        additional: words.additional,
    })
}

/// Reads an ESP proposal; a group means perfect forward secrecy.
///
/// # Errors
/// When a word is unknown or makes no sense for ESP.
pub fn esp(text: &str) -> Result<EspProposal> {
    let words = parse(text)?;
    ensure!(words.prf.is_empty(), "a PRF in the ESP proposal {text:?}");
    Ok(EspProposal {
        encryption: words.encryption,
        integrity: words.integrity,
        pfs: words.dh,
        additional: words.additional,
    })
}

/// Largest inner packet, bytes, that any choice from `proposal` fits into an IPv4 packet of `outer` bytes as ESP in UDP
/// (RFC 4303 section 2, RFC 3948 section 2.1).
pub fn inner_mtu(proposal: &EspProposal, outer: u16) -> u16 {
    proposal
        .encryption
        .iter()
        .map(|cipher| {
            let check_value = proposal
                .integrity
                .iter()
                .map(|integrity| integrity.icv_len())
                .max()
                .unwrap_or(cipher.aead_icv_len());
            let (ip_and_udp, spi_and_sequence, trailer) = (28, 8, 2);
            let room = usize::from(outer) - ip_and_udp - spi_and_sequence - cipher.iv_len() - check_value;
            (room - room % cipher.esp_alignment() - trailer) as u16
        })
        .min()
        .unwrap_or(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_packets_are_those_of_the_formats() {
        for (words, expected) in [
            ("aes128gcm16", 1438),
            ("aes256gcm16-x25519", 1438),
            ("aes128-sha1", 1422),
            ("aes256-sha256", 1422),
            ("aes256-sha512", 1406),
            ("3des-sha1", 1438),
        ] {
            assert_eq!(inner_mtu(&esp(words).unwrap(), 1500), expected, "{words}");
        }
    }

    #[test]
    fn refuses_what_makes_no_proposal() {
        assert!(ike("aes128-sha1-modp2048").is_err());
        assert!(ike("aes128gcm16-sha1-prfsha1-modp2048").is_err());
        assert!(esp("aes128").is_err());
        assert!(esp("aes128gcm16-prfsha256").is_err());
        assert!(esp("rot13-sha1").is_err());
    }
}
