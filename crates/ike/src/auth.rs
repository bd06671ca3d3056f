//! Who the ends are and how they prove it (RFC 7296 section 2.15): by pre-shared key here, by certificate in a module.

pub(crate) mod certificate;
mod identity;

use isthmus_crypto::prf::{constant_time_equal, prf};
use isthmus_types::{Prf, Secret, Timestamp};
use isthmus_wire::ike::{AuthMethod, AuthPayload, Identification};
use zeroize::Zeroizing;

pub(crate) use self::certificate::{Accepts, Method, own_credentials};
pub(crate) use self::identity::{describe_identity, encode_identity, is_identity};
use crate::connection::Connection;
use crate::error::{AuthenticationFailure, IkeError};

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// What one side proves to have sent.
#[derive(Clone, Copy)]
pub(crate) struct SignedOctets<'a> {
    /// The side's last IKE_SA_INIT message, as sent.
    pub(crate) message: &'a [u8],
    /// The other side's nonce.
    pub(crate) other_nonce: &'a [u8],
    /// SK_pi or SK_pr of the side.
    pub(crate) prove_key: &'a [u8],
    /// Body of the side's identification payload, as sent.
    pub(crate) identity: &'a [u8],
    /// What stands for the exchanges between IKE_SA_INIT and IKE_AUTH (RFC 9242 section 3.3.2); empty without any.
    pub(crate) intermediate: &'a [u8],
}

impl SignedOctets<'_> {
    /// What is signed, or proved with the key.
    pub(crate) fn octets(&self, function: Prf) -> Vec<u8> {
        let identity = prf(function, self.prove_key, &[self.identity]);
        [self.message, self.other_nonce, &identity, self.intermediate].concat()
    }
}

/// What the peer showed to prove who it is.
pub(crate) struct Shown<'a> {
    /// Its identity.
    pub(crate) identity: &'a Identification,
    /// Its certificate, then others.
    pub(crate) certificates: &'a [Vec<u8>],
    /// Its proof.
    pub(crate) proof: &'a AuthPayload,
}

/// Our proof for a connection, in a way that the peer takes.
pub(crate) fn prove(
    connection: &Connection,
    function: Prf,
    accepts: &Accepts,
    signed: &SignedOctets<'_>,
) -> Result<AuthPayload, IkeError> {
    match &connection.method {
        Method::Certificate(signing) => signing.prove(function, accepts, signed),
        Method::SharedKey => Ok(make_proof(function, &connection.config.psk, signed)),
        Method::Unusable(why) => Err(own_credentials(why.clone())),
    }
}

/// Whether the peer is the one that the connection expects, as far as its proof goes.
pub(crate) fn check(
    connection: &Connection,
    function: Prf,
    shown: &Shown<'_>,
    signed: &SignedOctets<'_>,
    date: Option<Timestamp>,
) -> Result<(), IkeError> {
    match &connection.method {
        Method::Certificate(signing) => signing.check(
            function,
            shown.certificates,
            shown.identity,
            signed,
            shown.proof,
            date,
        ),
        Method::SharedKey => check_proof(function, &connection.config.psk, signed, shown.proof),
        Method::Unusable(why) => Err(own_credentials(why.clone())),
    }
}

fn make_proof(function: Prf, psk: &Secret, signed: &SignedOctets<'_>) -> AuthPayload {
    AuthPayload {
        method: AuthMethod::SHARED_KEY,
        data: proof(function, psk, signed).to_vec(),
    }
}

pub(crate) fn check_proof(
    function: Prf,
    psk: &Secret,
    signed: &SignedOctets<'_>,
    received: &AuthPayload,
) -> Result<(), IkeError> {
    // Computed in any case, so that the time taken does not tell why a proof is refused.
    let expected = proof(function, psk, signed);
    if received.method != AuthMethod::SHARED_KEY {
        return Err(IkeError::Authentication(AuthenticationFailure::Method));
    }
    if constant_time_equal(&expected, &received.data) {
        Ok(())
    } else {
        Err(IkeError::Authentication(AuthenticationFailure::Key))
    }
}

fn proof(function: Prf, psk: &Secret, signed: &SignedOctets<'_>) -> Zeroizing<Vec<u8>> {
    let key = prf(function, psk.reveal().as_bytes(), &[KEY_PAD]);
    prf(function, &key, &[&signed.octets(function)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_only_for_its_key_and_octets() {
        let psk = Secret::new("secret".into());
        let signed = SignedOctets {
            message: b"message",
            other_nonce: b"nonce",
            prove_key: b"key",
            identity: b"identity",
            intermediate: b"intermediate",
        };
        let proof = make_proof(Prf::HmacSha2_256, &psk, &signed);
        assert!(check_proof(Prf::HmacSha2_256, &psk, &signed, &proof).is_ok());
        let other = Secret::new("Secret".into());
        assert_eq!(
            check_proof(Prf::HmacSha2_256, &other, &signed, &proof),
            Err(IkeError::Authentication(AuthenticationFailure::Key))
        );
        for changed in [
            SignedOctets {
                other_nonce: b"noncf",
                ..signed
            },
            SignedOctets {
                intermediate: b"",
                ..signed
            },
        ] {
            assert!(check_proof(Prf::HmacSha2_256, &psk, &changed, &proof).is_err());
        }
    }
}
