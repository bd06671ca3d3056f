//! Key derivation (RFC 7296 sections 2.14, 2.17 and 2.18).

use isthmus_crypto::prf::{prf, prf_len, prf_plus};
use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_types::Prf;
use isthmus_wire::ike::IkeSpi;
use zeroize::Zeroizing;

use crate::algorithm::IkeSuite;
use crate::channel::Role;
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

impl SpiPair {
    /// Of an end that has this role, its own one first.
    pub(crate) const fn of(role: Role, local: IkeSpi, remote: IkeSpi) -> Self {
        match role {
            Role::Initiator => Self {
                initiator: local,
                responder: remote,
            },
            Role::Responder => Self {
                initiator: remote,
                responder: local,
            },
        }
    }
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

#[cfg(test)]
mod tests {
    use isthmus_types::{DhGroup, Encryption, Integrity};

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter_map(|digit| digit.to_digit(16))
            .map(|digit| u8::try_from(digit).unwrap())
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// NIST CAVP, SP 800-135 IKEv2 with SHA-1: the first case. Its 132 bytes are exactly what AES-128 with HMAC-SHA1 takes.
    #[test]
    fn keys_match_the_vectors_of_sp_800_135() {
        let (ni, nr) = (bytes("3651fef5c9c35e93"), bytes("c09a8b90a3f04d59"));
        let nonces = Nonces {
            initiator: &ni,
            responder: &nr,
        };
        let spis = SpiPair {
            initiator: IkeSpi(0x8e5c_3ae5_0722_1684),
            responder: IkeSpi(0xb1f2_01bb_155c_3acd),
        };
        let secret = bytes(
            "d084a30166a50fb7325c3960874a839449ef9741c2f4f947d0201dd8c1269273
             d79509f37e3ca3eb4fa2fe2a28254e289cd3f34dad4eb4df1a07685a4b8a94fa
             61e2491f7598b3ce65547ff133b3f63d1ac4175eaa695033f3cedb026a6873a3
             6455172a8540b8a5d23a0143bed0390ee49b168269d75fffee9fb62be965993c",
        );
        let new_secret = bytes(
            "52f00ab174c25d5b7139ae5ff4e8e9eddee5992d2e36adf8a559ffd90dab1442
             e4fbe429d320c0f33552a17d1557fa41ea70e8fb916c4fa27ed52b5f8ebd8461
             afa78f1159159a64055ac5f6319e29c28eae58cbc6847770f32c3fed1d047504
             84f854790f95e9ec01bc5bc461f24966462e359511329305038e94deb6dd42c2",
        );
        let cipher =
            |encryption, integrity| CipherSuite::new(encryption, Some(integrity)).expect("they go together");
        let suite = IkeSuite {
            cipher: cipher(Encryption::Aes128Cbc, Integrity::HmacSha1_96),
            prf: Prf::HmacSha1,
            dh: DhGroup::Modp1024,
            additional: Default::default(),
        };

        let seed = first_seed(suite.prf, &nonces, &secret);
        assert_eq!(*seed, bytes("cd2e8050137832245f1dbacc6e4f0a92f94d45d6"));
        let keys = ike_keys(&suite, &seed, &nonces, spis).unwrap();
        let all = [
            &keys.derive,
            keys.initiator.integrity(),
            keys.responder.integrity(),
            keys.initiator.encryption(),
            keys.responder.encryption(),
            &keys.prove_initiator,
            &keys.prove_responder,
        ]
        .concat();
        assert_eq!(
            all,
            bytes(
                "6f1b12cad3cbe097b35430356d869d54cddb0198ec859174d53ceb92dddedbe2
                 436db69f60977c58fa63bbb667f8d36920b109baae8f6c61a9ac49feda018432
                 25d080ec5539d5881a25521ffb2a0a91874a9c0a27fcc2d717eb8963a9e3a89c
                 7ab264757284c28cf8c3ca40576f4220b052b1fb8e9ad60ba3c80557323331a8
                 cbb89f20"
            )
        );

        let child = |secret: Option<&[u8]>| {
            let cipher = cipher(Encryption::Aes256Cbc, Integrity::HmacSha2_256_128);
            let keys = child_keys(suite.prf, &keys.derive, cipher, secret, &[], &nonces).unwrap();
            [
                keys.from_initiator.encryption(),
                keys.from_initiator.integrity(),
                keys.from_responder.encryption(),
                keys.from_responder.integrity(),
            ]
            .concat()
        };
        let without = bytes(
            "4727dc0ef94eb326ce131cf282fb652faa638ad0ddae3786a11bcc0309876009
             f8c485de011ad962c5b1ca8a41ff8145445749079c5686e26ffebbc342f06981
             f3da745e11ca0976424d1f8caec623d59dc7186deb20a27b411d1dcb70a36544
             0bf7de905088b0692e8addc094e18d1939bdb67e89798ca6b239e2ccb81c2409",
        );
        assert_eq!(child(None), without);
        let with = bytes(
            "b109c21ad4c0797768c1cec9e63554681e48f224bca7f23c20c4ea7041983451
             e9aa1d5408656c8a975ff1b9d9a12c75ffeb64bdecb30174664cccb4e14f1c37
             7b7f6d1525af77c7092aac3e47f917ebae8297fb5539d2008ce830823a09cc19
             7361d4a289c72745f6ce9fefe812be5bf55b3200fbb82e41a4a40877d3fe106d",
        );
        assert_eq!(child(Some(&new_secret)), with);
        assert_eq!(
            *rekey_seed(suite.prf, &keys.derive, &nonces, &new_secret, &[]),
            bytes("3b03bce748c96d5e8306918d2ff89b68f0648da3")
        );
    }
}
