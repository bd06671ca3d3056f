//! Key derivation (RFC 7296 sections 2.14, 2.17 and 2.18).

use isthmus_crypto::prf::{prf, prf_len, prf_plus};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_types::Prf;
use isthmus_wire::ike::IkeSpi;
use zeroize::Zeroizing;

use crate::algorithm::IkeSuite;
use crate::error::IkeError;

/// All keys of an IKE SA.
pub(crate) struct IkeKeys {
    pub(crate) derive: Zeroizing<Vec<u8>>,
    /// Of messages from the original initiator.
    pub(crate) initiator: KeyMaterial,
    /// Of messages from the original responder.
    pub(crate) responder: KeyMaterial,
    pub(crate) prove_initiator: Zeroizing<Vec<u8>>,
    pub(crate) prove_responder: Zeroizing<Vec<u8>>,
}

/// The nonces of an exchange.
pub(crate) struct Nonces<'a> {
    pub(crate) initiator: &'a [u8],
    pub(crate) responder: &'a [u8],
}

/// The SPIs of an IKE SA.
#[derive(Clone, Copy)]
pub(crate) struct SpiPair {
    pub(crate) initiator: IkeSpi,
    pub(crate) responder: IkeSpi,
}

/// Keys of both directions of a Child SA.
pub(crate) struct ChildKeys {
    /// From the initiator of the exchange to its responder.
    pub(crate) from_initiator: KeyMaterial,
    /// From the responder of the exchange to its initiator.
    pub(crate) from_responder: KeyMaterial,
}

/// SKEYSEED of a first IKE SA.
pub(crate) fn first_seed(function: Prf, nonces: &Nonces<'_>, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = Zeroizing::new([nonces.initiator, nonces.responder].concat());
    prf(function, &key, &[secret])
}

/// SKEYSEED of an IKE SA that replaces one whose PRF is `old_prf`. `additional_secrets` are those of the key exchanges
/// after the first, one after the other (RFC 9370 section 2.2.4). The same gives the seed of an IKE SA after an
/// IKE_INTERMEDIATE, with the secret of that (section 2.2.2).
pub(crate) fn rekey_seed(
    old_prf: Prf,
    old_derive: &[u8],
    nonces: &Nonces<'_>,
    secret: &[u8],
    additional_secrets: &[u8],
) -> Zeroizing<Vec<u8>> {
    let octets = [secret, nonces.initiator, nonces.responder, additional_secrets];
    prf(old_prf, old_derive, &octets)
}

/// The keys of an IKE SA.
pub(crate) fn ike_keys(
    suite: &IkeSuite,
    seed: &[u8],
    nonces: &Nonces<'_>,
    spis: SpiPair,
) -> Result<IkeKeys, IkeError> {
    let prove_len = prf_len(suite.prf);
    let integrity_len = suite.cipher.integrity_key_len();
    let encryption_len = suite.cipher.encryption_key_len();
    let total = 3 * prove_len + 2 * integrity_len + 2 * encryption_len;
    let (spi_i, spi_r) = (spis.initiator.0.to_be_bytes(), spis.responder.0.to_be_bytes());
    let stream = prf_plus(
        suite.prf,
        seed,
        &[nonces.initiator, nonces.responder, &spi_i, &spi_r],
        total,
    )
    .map_err(|_| IkeError::Internal("the suite needs more keys than the PRF gives"))?;
    let mut pieces = Pieces(&stream);
    let derive = pieces.take(prove_len);
    let (integrity_i, integrity_r) = (pieces.take(integrity_len), pieces.take(integrity_len));
    let (encryption_i, encryption_r) = (pieces.take(encryption_len), pieces.take(encryption_len));
    Ok(IkeKeys {
        derive,
        initiator: KeyMaterial::new(encryption_i, integrity_i),
        responder: KeyMaterial::new(encryption_r, integrity_r),
        prove_initiator: pieces.take(prove_len),
        prove_responder: pieces.take(prove_len),
    })
}

/// The keys of a Child SA. `secret` is that of the exchange's own key exchange, `additional_secrets` are those of the
/// key exchanges after it.
pub(crate) fn child_keys(
    function: Prf,
    derive: &[u8],
    cipher: CipherSuite,
    secret: Option<&[u8]>,
    additional_secrets: &[u8],
    nonces: &Nonces<'_>,
) -> Result<ChildKeys, IkeError> {
    let encryption_len = cipher.encryption_key_len();
    let integrity_len = cipher.integrity_key_len();
    let stream = prf_plus(
        function,
        derive,
        &[
            secret.unwrap_or_default(),
            nonces.initiator,
            nonces.responder,
            additional_secrets,
        ],
        2 * (encryption_len + integrity_len),
    )
    .map_err(|_| IkeError::Internal("the suite needs more keys than the PRF gives"))?;
    let mut pieces = Pieces(&stream);
    let mut direction = || {
        let encryption = pieces.take(encryption_len);
        KeyMaterial::new(encryption, pieces.take(integrity_len))
    };
    Ok(ChildKeys {
        from_initiator: direction(),
        from_responder: direction(),
    })
}

/// Cuts a stream of known length.
struct Pieces<'a>(&'a [u8]);

impl Pieces<'_> {
    fn take(&mut self, len: usize) -> Zeroizing<Vec<u8>> {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        Zeroizing::new(head.to_vec())
    }
}
