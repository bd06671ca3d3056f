//! Key derivation and hashes of IKEv1 with pre-shared keys (RFC 2409 sections 5 and 5.5, appendix B).

#[cfg(test)]
mod recorded;

use isthmus_crypto::cipher::BareCbc;
use isthmus_crypto::prf::{hash, prf, prf_len};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_types::Prf;
use isthmus_wire::isakmp::ProtocolId;
use zeroize::Zeroizing;

use crate::algorithm::IkeSuite;
use crate::error::IkeError;
use crate::keys::{Nonces, SpiPair};

/// The keys of an ISAKMP SA.
pub(super) struct Keys {
    prf: Prf,
    skeyid: Zeroizing<Vec<u8>>,
    derive: Zeroizing<Vec<u8>>,
    authenticate: Zeroizing<Vec<u8>>,
    cipher: BareCbc,
    block_len: usize,
    /// What the cipher was made of.
    #[cfg(test)]
    encrypt: Zeroizing<Vec<u8>>,
}

/// What one end proves to have sent in phase 1.
pub(super) struct Proven<'a> {
    /// Public value of the end that proves, then that of the other.
    pub(super) publics: [&'a [u8]; 2],
    /// Cookies in the same order.
    pub(super) cookies: [u64; 2],
    /// Body of the initiator's SA payload.
    pub(super) sa: &'a [u8],
    /// Body of the identification payload of the end that proves.
    pub(super) id: &'a [u8],
}

impl Keys {
    pub(super) fn derive(
        suite: &IkeSuite,
        psk: &[u8],
        secret: &[u8],
        nonces: &Nonces<'_>,
        cookies: SpiPair,
    ) -> Result<Self, IkeError> {
        let function = suite.prf;
        let initiator = cookies.initiator.0.to_be_bytes();
        let responder = cookies.responder.0.to_be_bytes();
        let skeyid = prf(function, psk, &[nonces.initiator, nonces.responder]);
        let next = |before: &[u8], number: u8| {
            prf(
                function,
                &skeyid,
                &[before, secret, &initiator, &responder, &[number]],
            )
        };
        let derive = next(&[], 0);
        let authenticate = next(&derive, 1);
        let encrypt = next(&authenticate, 2);
        let key = expand_encryption(function, &encrypt, suite.cipher.encryption_key_len());
        let cipher = BareCbc::new(suite.cipher.encryption(), &key)
            .map_err(|_| IkeError::Internal("the key does not fit the cipher of phase 1"))?;
        Ok(Self {
            prf: function,
            skeyid,
            derive,
            authenticate,
            cipher,
            block_len: suite.cipher.block_len(),
            #[cfg(test)]
            encrypt: Zeroizing::new(key.to_vec()),
        })
    }

    /// All that must be erased, by name.
    #[cfg(test)]
    pub(super) fn secrets(&self) -> Vec<(&'static str, &[u8])> {
        vec![
            ("SKEYID", &self.skeyid),
            ("SKEYID_d", &self.derive),
            ("SKEYID_a", &self.authenticate),
            ("the key of SKEYID_e", &self.encrypt),
        ]
    }

    pub(super) const fn cipher(&self) -> &BareCbc {
        &self.cipher
    }

    pub(super) const fn block_len(&self) -> usize {
        self.block_len
    }

    /// HASH_I or HASH_R.
    pub(super) fn proof(&self, proven: &Proven<'_>) -> Vec<u8> {
        let [own, other] = proven.publics;
        let [own_cookie, other_cookie] = proven.cookies.map(u64::to_be_bytes);
        prf(
            self.prf,
            &self.skeyid,
            &[own, other, &own_cookie, &other_cookie, proven.sa, proven.id],
        )
        .to_vec()
    }

    /// The IV of the first encrypted message of phase 1.
    pub(super) fn first_iv(&self, public_initiator: &[u8], public_responder: &[u8]) -> Vec<u8> {
        let mut iv = hash(self.prf, &[public_initiator, public_responder]);
        iv.truncate(self.block_len);
        iv
    }

    /// The IV of the first message of an exchange after phase 1.
    pub(super) fn exchange_iv(&self, last_block: &[u8], message_id: u32) -> Vec<u8> {
        let mut iv = hash(self.prf, &[last_block, &message_id.to_be_bytes()]);
        iv.truncate(self.block_len);
        iv
    }

    /// HASH(1) of quick mode, and that of informational messages: over what follows the hash payload.
    pub(super) fn hash_1(&self, message_id: u32, rest: &[u8]) -> Vec<u8> {
        prf(self.prf, &self.authenticate, &[&message_id.to_be_bytes(), rest]).to_vec()
    }

    /// HASH(2) of quick mode.
    pub(super) fn hash_2(&self, message_id: u32, nonce_initiator: &[u8], rest: &[u8]) -> Vec<u8> {
        let id = message_id.to_be_bytes();
        prf(self.prf, &self.authenticate, &[&id, nonce_initiator, rest]).to_vec()
    }

    /// HASH(3) of quick mode.
    pub(super) fn hash_3(&self, message_id: u32, nonces: &Nonces<'_>) -> Vec<u8> {
        let id = message_id.to_be_bytes();
        let parts = [&[0][..], &id, nonces.initiator, nonces.responder];
        prf(self.prf, &self.authenticate, &parts).to_vec()
    }

    /// The keys of the ESP SA whose receiver chose `spi`.
    pub(super) fn child(
        &self,
        cipher: CipherSuite,
        secret: Option<&[u8]>,
        spi: u32,
        nonces: &Nonces<'_>,
    ) -> KeyMaterial {
        let wanted = cipher.encryption_key_len() + cipher.integrity_key_len();
        let spi = spi.to_be_bytes();
        let secret = secret.unwrap_or_default();
        let mut stream = Zeroizing::new(Vec::with_capacity(wanted + prf_len(self.prf)));
        let mut block = Zeroizing::new(Vec::new());
        while stream.len() < wanted {
            let parts = [
                &block[..],
                secret,
                &[ProtocolId::ESP.0],
                &spi,
                nonces.initiator,
                nonces.responder,
            ];
            block = prf(self.prf, &self.derive, &parts);
            stream.extend_from_slice(&block);
        }
        let (encryption, rest) = stream.split_at(cipher.encryption_key_len());
        let integrity = rest.get(..cipher.integrity_key_len()).unwrap_or_default();
        KeyMaterial::new(
            Zeroizing::new(encryption.to_vec()),
            Zeroizing::new(integrity.to_vec()),
        )
    }
}

/// The cipher's key out of SKEYID_e, which is made longer where it is too short (appendix B).
fn expand_encryption(function: Prf, encrypt: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    if len <= encrypt.len() {
        return Zeroizing::new(encrypt[..len].to_vec());
    }
    let mut out = Zeroizing::new(Vec::with_capacity(len + prf_len(function)));
    let mut block = prf(function, encrypt, &[&[0]]);
    out.extend_from_slice(&block);
    while out.len() < len {
        block = prf(function, encrypt, &[&block]);
        out.extend_from_slice(&block);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_skeyid_e_is_expanded_and_a_long_one_cut() {
        let key = [3; 20];
        let first = prf(Prf::HmacSha1, &key, &[&[0]]);
        let second = prf(Prf::HmacSha1, &key, &[&first]);
        let expected = [first.as_slice(), &second].concat();
        let expanded = expand_encryption(Prf::HmacSha1, &key, 32);
        assert_eq!(expanded.as_slice(), &expected[..32]);
        assert_eq!(expand_encryption(Prf::HmacSha1, &key, 16).as_slice(), &key[..16]);
        assert_eq!(expand_encryption(Prf::HmacSha1, &key, 20).as_slice(), &key[..20]);
    }
}
