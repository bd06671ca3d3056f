//! Authentication by certificate (RFC 7296 section 2.15, RFC 7427, RFC 4754, RFC 4945): our proof, and whether the peer's
//! certificate, name and proof are good.

use isthmus_crypto::certificate::{
    Authorities, CertificateName, CertificateRefusal, Credentials, DistinguishedName, KEY_HASH_LEN,
    VerifiedCertificate,
};
use isthmus_crypto::signature::{
    Hash, Identified, KeyKind, Scheme, SignatureError, identifier_of, scheme_of,
};
use isthmus_types::{CertificateOptions, Prf, Timestamp};
use isthmus_wire::ike::{
    AuthMethod, AuthPayload, CertificateEncoding, CertificatePayload, HashAlgorithm, IdType, Identification,
    NotifyPayload, NotifyType, Payload,
};

use super::SignedOctets;
use super::identity::{describe_identity, encode_identity};
use crate::config::{ConnectionConfig, IkeIdentity};
use crate::connection::Connection;
use crate::error::{AuthenticationFailure, IkeError};

/// Hashes that we take, as the notify lists them.
const HASHES: [(HashAlgorithm, Option<Hash>); 4] = [
    (HashAlgorithm::SHA2_256, Some(Hash::Sha256)),
    (HashAlgorithm::SHA2_384, Some(Hash::Sha384)),
    (HashAlgorithm::SHA2_512, Some(Hash::Sha512)),
    (HashAlgorithm::IDENTITY, None),
];

/// How the ends of a connection prove themselves.
pub(crate) enum Method {
    /// By certificates.
    Certificate(Box<Signing>),
    /// By the shared key.
    SharedKey,
    /// By certificates, but what is configured cannot be used: why.
    Unusable(String),
}

/// What a connection with certificates works with.
pub(crate) struct Signing {
    own: Credentials,
    identity: Identification,
    authorities: Authorities,
}

/// The digital signatures that the peer takes; nothing if it does not know them (RFC 7427).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepts {
    announced: bool,
    hashes: Vec<Hash>,
    /// Messages without a hash, as Ed25519 signs them (RFC 8420).
    identity: bool,
}

impl Method {
    pub(crate) fn of(config: &ConnectionConfig) -> Self {
        let Some(options) = &config.options.certificate else {
            return Self::SharedKey;
        };
        match Signing::new(options, &config.local_identity) {
            Ok(signing) => Self::Certificate(Box::new(signing)),
            Err(why) => Self::Unusable(why),
        }
    }

    /// What IKE_SA_INIT tells about the signatures that we take.
    pub(crate) fn announcement(&self) -> Option<Payload> {
        let Self::Certificate(_) = self else {
            return None;
        };
        let list = HASHES.iter().flat_map(|(id, _)| id.0.to_be_bytes()).collect();
        Some(Payload::Notify(NotifyPayload::new(
            NotifyType::SIGNATURE_HASH_ALGORITHMS,
            list,
        )))
    }

    /// Which authorities the peer's certificate may come from.
    pub(crate) fn request(&self) -> Option<Payload> {
        let Self::Certificate(signing) = self else {
            return None;
        };
        let hashes = signing.authorities.certificates().iter();
        Some(Payload::CertificateRequest(CertificatePayload {
            encoding: CertificateEncoding::X509_SIGNATURE,
            data: hashes
                .filter_map(|authority| authority.key_hash().ok())
                .flatten()
                .collect(),
        }))
    }

    /// Our certificates, as the peer is sent them.
    pub(crate) fn certificates(&self) -> Vec<Payload> {
        let Self::Certificate(signing) = self else {
            return Vec::new();
        };
        signing
            .own
            .sent()
            .map(|certificate| {
                Payload::Certificate(CertificatePayload {
                    encoding: CertificateEncoding::X509_SIGNATURE,
                    data: certificate.der().to_vec(),
                })
            })
            .collect()
    }

    /// Our identity as we present it: a distinguished name in the very bytes of our certificate.
    pub(crate) fn own_identity(&self, configured: &IkeIdentity) -> Identification {
        match self {
            Self::Certificate(signing) => signing.identity.clone(),
            Self::SharedKey | Self::Unusable(_) => encode_identity(configured),
        }
    }
}

impl Signing {
    fn new(options: &CertificateOptions, identity: &IkeIdentity) -> Result<Self, String> {
        let own =
            Credentials::from_pem(&options.chain, &options.private_key).map_err(|error| error.to_string())?;
        let authorities = Authorities::from_pem(
            &options.authorities,
            &options.revocation_lists,
            options.require_revocation_list,
        )
        .map_err(|error| error.to_string())?;
        let mut encoded = encode_identity(identity);
        let leaf = own.certificate().ok_or("no certificate is configured")?;
        if !name_of(&encoded).is_some_and(|name| leaf.has_name(&name)) {
            return Err(format!(
                "our identity is {identity}, our certificate has {}: change one of them",
                leaf.describe_names()
            ));
        }
        if encoded.id_type == IdType::DER_ASN1_DN {
            encoded.data = leaf
                .subject()
                .to_der()
                .ok_or("the subject of our certificate cannot be written")?;
        }
        Ok(Self {
            own,
            identity: encoded,
            authorities,
        })
    }

    /// Proves that we sent `signed`, in a way that the peer takes.
    pub(crate) fn prove(
        &self,
        function: Prf,
        accepts: &Accepts,
        signed: &SignedOctets<'_>,
    ) -> Result<AuthPayload, IkeError> {
        let key = self.own.key();
        let octets = signed.octets(function);
        let unable = || {
            own_credentials(format!(
                "the peer takes no signature that our {} key makes",
                key.kind()
            ))
        };
        if accepts.announced {
            let scheme = key
                .scheme_for(&accepts.hashes, accepts.identity)
                .ok_or_else(unable)?;
            let identifier = identifier_of(scheme);
            let length = u8::try_from(identifier.len()).map_err(|_| unable())?;
            let signature = key.sign(scheme, &octets).map_err(|_| unable())?;
            return Ok(AuthPayload {
                method: AuthMethod::DIGITAL_SIGNATURE,
                data: [&[length][..], &identifier, &signature].concat(),
            });
        }
        let method = match key.kind() {
            KeyKind::Rsa { .. } => AuthMethod::RSA_SIGNATURE,
            KeyKind::P256 => AuthMethod::ECDSA_P256_SHA256,
            KeyKind::P384 => AuthMethod::ECDSA_P384_SHA384,
            KeyKind::P521 => AuthMethod::ECDSA_P521_SHA512,
            KeyKind::Ed25519 => return Err(unable()),
        };
        let made = if method == AuthMethod::RSA_SIGNATURE {
            key.sign(Scheme::RsaPkcs1(Hash::Sha256), &octets)
        } else {
            key.sign_fixed_ecdsa(&octets)
        };
        Ok(AuthPayload {
            method,
            data: made.map_err(|_| unable())?,
        })
    }

    /// Whether the peer's certificate leads to an authority, bears the identity that the peer presents, and its key made
    /// the proof.
    pub(crate) fn check(
        &self,
        function: Prf,
        certificates: &[Vec<u8>],
        identity: &Identification,
        signed: &SignedOctets<'_>,
        received: &AuthPayload,
        date: Option<Timestamp>,
    ) -> Result<(), IkeError> {
        if received.method == AuthMethod::SHARED_KEY {
            return Err(IkeError::Authentication(AuthenticationFailure::SharedKey));
        }
        let date = date.ok_or_else(|| own_credentials("the date is not known".into()))?;
        let chain: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let refused = |refusal| IkeError::Authentication(AuthenticationFailure::Certificate(refusal));
        let verified = self.authorities.verify(&chain, date).map_err(refused)?;
        let certificate = verified.certificate();
        if !name_of(identity).is_some_and(|name| certificate.has_name(&name)) {
            return Err(refused(CertificateRefusal::WrongName {
                subject: certificate.subject().to_string(),
                presented: describe_identity(identity),
                names: certificate.describe_names(),
            }));
        }
        check_signature(&verified, &signed.octets(function), received).map_err(|error| {
            IkeError::Authentication(AuthenticationFailure::Signature {
                subject: certificate.subject().to_string(),
                error,
            })
        })
    }
}

impl Accepts {
    /// Reads the peer's IKE_SA_INIT.
    pub(crate) fn read(notifies: &[NotifyPayload]) -> Self {
        let Some(list) = notifies
            .iter()
            .find(|notify| notify.notify_type == NotifyType::SIGNATURE_HASH_ALGORITHMS)
        else {
            return Self::default();
        };
        let has = |wanted: HashAlgorithm| {
            list.data
                .chunks_exact(2)
                .any(|pair| pair == wanted.0.to_be_bytes())
        };
        Self {
            announced: true,
            hashes: HASHES
                .iter()
                .filter(|(id, _)| has(*id))
                .filter_map(|(_, hash)| *hash)
                .collect(),
            identity: has(HashAlgorithm::IDENTITY),
        }
    }
}

impl Accepts {
    /// What the answer to an IKE_SA_INIT tells about certificates, if it may be for one of `candidates` that uses them.
    pub(crate) fn answer(&self, candidates: &[&mut Connection]) -> Vec<Payload> {
        let methods = || candidates.iter().map(|connection| &connection.method);
        let announcement = methods()
            .find_map(Method::announcement)
            .filter(|_| self.announced);
        let mut hashes: Vec<u8> = Vec::new();
        let mut asks = false;
        for request in methods().filter_map(Method::request) {
            if let Payload::CertificateRequest(request) = request {
                asks = true;
                for hash in request.data.chunks(KEY_HASH_LEN) {
                    if !hashes.chunks(KEY_HASH_LEN).any(|known| known == hash) {
                        hashes.extend_from_slice(hash);
                    }
                }
            }
        }
        let request = asks.then_some(Payload::CertificateRequest(CertificatePayload {
            encoding: CertificateEncoding::X509_SIGNATURE,
            data: hashes,
        }));
        announcement.into_iter().chain(request).collect()
    }
}

fn check_signature(
    verified: &VerifiedCertificate,
    octets: &[u8],
    received: &AuthPayload,
) -> Result<(), SignatureError> {
    let key = verified.key();
    match received.method {
        AuthMethod::DIGITAL_SIGNATURE => {
            let (length, rest) = received.data.split_first().ok_or(SignatureError::Bad)?;
            let (identifier, signature) = rest
                .split_at_checked(usize::from(*length))
                .ok_or(SignatureError::Bad)?;
            match scheme_of(identifier) {
                Identified::Scheme(scheme) => key.verify(scheme, octets, signature),
                Identified::Unknown => Err(SignatureError::OtherKeyKind),
                Identified::Weak => Err(SignatureError::Weak),
            }
        }
        AuthMethod::RSA_SIGNATURE => key.verify_unnamed_rsa(octets, &received.data),
        AuthMethod::ECDSA_P256_SHA256 | AuthMethod::ECDSA_P384_SHA384 | AuthMethod::ECDSA_P521_SHA512 => {
            let fits = match received.method {
                AuthMethod::ECDSA_P256_SHA256 => KeyKind::P256,
                AuthMethod::ECDSA_P384_SHA384 => KeyKind::P384,
                _ => KeyKind::P521,
            };
            if key.kind() == fits {
                key.verify_fixed_ecdsa(octets, &received.data)
            } else {
                Err(SignatureError::OtherKeyKind)
            }
        }
        _ => Err(SignatureError::OtherKeyKind),
    }
}

/// The name that a certificate must have for this identity; none for one that no certificate can bear.
fn name_of(identity: &Identification) -> Option<CertificateName> {
    let text = || String::from_utf8(identity.data.clone()).ok();
    match identity.id_type {
        IdType::IPV4_ADDR => <[u8; 4]>::try_from(identity.data.as_slice())
            .ok()
            .map(|octets| CertificateName::Address(octets.into())),
        IdType::IPV6_ADDR => <[u8; 16]>::try_from(identity.data.as_slice())
            .ok()
            .map(|octets| CertificateName::Address(octets.into())),
        IdType::FQDN => text().map(CertificateName::Fqdn),
        IdType::RFC822_ADDR => text().map(CertificateName::Email),
        IdType::DER_ASN1_DN => {
            DistinguishedName::from_der(&identity.data).map(CertificateName::DistinguishedName)
        }
        _ => None,
    }
}

pub(crate) const fn own_credentials(why: String) -> IkeError {
    IkeError::Authentication(AuthenticationFailure::OwnCredentials(why))
}

#[cfg(test)]
mod tests {
    use isthmus_simnet::pki::{Authority, DATE, KeyChoice, gateway, options};

    use super::*;

    const PRF: Prf = Prf::HmacSha2_256;
    const SIGNED: SignedOctets<'static> = SignedOctets {
        message: b"message",
        other_nonce: b"nonce",
        prove_key: b"key",
        identity: b"identity",
        intermediate: b"",
    };

    struct End {
        signing: Signing,
        certificates: Vec<Vec<u8>>,
        identity: Identification,
    }

    fn end(authority: &Authority, key: KeyChoice) -> End {
        let address = "192.0.2.1".parse().unwrap();
        let issued = authority.issue(&gateway("gw", address), key);
        let identity = IkeIdentity::Address(address);
        End {
            signing: Signing::new(&options(&issued, &[], authority), &identity).unwrap(),
            certificates: vec![issued.der],
            identity: encode_identity(&identity),
        }
    }

    impl End {
        fn check(&self, identity: &Identification, proof: &AuthPayload) -> Result<(), IkeError> {
            self.signing
                .check(PRF, &self.certificates, identity, &SIGNED, proof, Some(DATE))
        }
    }

    fn accepts(ids: &[HashAlgorithm]) -> Accepts {
        let list = ids.iter().flat_map(|id| id.0.to_be_bytes()).collect();
        Accepts::read(&[NotifyPayload::new(NotifyType::SIGNATURE_HASH_ALGORITHMS, list)])
    }

    fn method_of(end: &End, accepts: &Accepts) -> Option<AuthMethod> {
        let proof = end.signing.prove(PRF, accepts, &SIGNED).ok()?;
        assert_eq!(end.check(&end.identity, &proof), Ok(()));
        Some(proof.method)
    }

    #[test]
    fn the_method_is_one_that_the_peer_takes() {
        let authority = Authority::root("Root", KeyChoice::P256);
        let digital = Some(AuthMethod::DIGITAL_SIGNATURE);
        for (key, id, old) in [
            (
                KeyChoice::Rsa2048,
                HashAlgorithm::SHA2_512,
                Some(AuthMethod::RSA_SIGNATURE),
            ),
            (
                KeyChoice::P256,
                HashAlgorithm::SHA2_256,
                Some(AuthMethod::ECDSA_P256_SHA256),
            ),
            (
                KeyChoice::P384,
                HashAlgorithm::SHA2_384,
                Some(AuthMethod::ECDSA_P384_SHA384),
            ),
            (
                KeyChoice::P521,
                HashAlgorithm::SHA2_512,
                Some(AuthMethod::ECDSA_P521_SHA512),
            ),
            (KeyChoice::Ed25519, HashAlgorithm::IDENTITY, None),
        ] {
            let end = end(&authority, key);
            assert_eq!(method_of(&end, &accepts(&[id])), digital, "{key:?}");
            assert_eq!(method_of(&end, &Accepts::default()), old, "{key:?}");
            assert_eq!(method_of(&end, &accepts(&[HashAlgorithm::SHA1])), None, "{key:?}");
        }
    }

    #[test]
    fn an_identity_that_the_certificate_lacks_is_refused_before_the_proof() {
        let end = end(&Authority::root("Root", KeyChoice::P256), KeyChoice::P256);
        let proof = end
            .signing
            .prove(PRF, &accepts(&[HashAlgorithm::SHA2_256]), &SIGNED)
            .unwrap();
        for identity in [
            IkeIdentity::Address("192.0.2.2".parse().unwrap()),
            IkeIdentity::Fqdn("192.0.2.1".into()),
            IkeIdentity::DistinguishedName("CN=other,O=Isthmus".into()),
            IkeIdentity::KeyId(vec![192, 0, 2, 1]),
        ] {
            let Err(IkeError::Authentication(AuthenticationFailure::Certificate(
                CertificateRefusal::WrongName { names, .. },
            ))) = end.check(&encode_identity(&identity), &proof)
            else {
                panic!("{identity} is accepted or refused for something else");
            };
            assert_eq!(names, "distinguished name CN=gw,O=Isthmus, address 192.0.2.1");
        }
    }

    #[test]
    fn proofs_of_other_keys_other_octets_and_cut_ones_are_refused() {
        let authority = Authority::root("Root", KeyChoice::P256);
        let (end, other) = (
            end(&authority, KeyChoice::Rsa2048),
            end(&authority, KeyChoice::Rsa2048),
        );
        let bad = |proof: &AuthPayload| match end.check(&end.identity, proof) {
            Err(IkeError::Authentication(AuthenticationFailure::Signature { error, .. })) => error,
            decided => panic!("{decided:?}"),
        };
        let takes = accepts(&[HashAlgorithm::SHA2_256]);
        assert_eq!(
            bad(&other.signing.prove(PRF, &takes, &SIGNED).unwrap()),
            SignatureError::Bad
        );
        let altered = SignedOctets {
            other_nonce: b"noncf",
            ..SIGNED
        };
        let mut proof = end.signing.prove(PRF, &takes, &altered).unwrap();
        assert_eq!(bad(&proof), SignatureError::Bad);
        // The identifier of SHA-1 with RSA.
        proof.data[13] = 5;
        assert_eq!(bad(&proof), SignatureError::Weak);
        proof = end.signing.prove(PRF, &takes, &SIGNED).unwrap();
        for length in 0..proof.data.len() {
            let cut = AuthPayload {
                method: proof.method,
                data: proof.data[..length].to_vec(),
            };
            assert!(end.check(&end.identity, &cut).is_err(), "{length}");
        }
        for method in [
            AuthMethod(0),
            AuthMethod(3),
            AuthMethod::ECDSA_P256_SHA256,
            AuthMethod(255),
        ] {
            let data = proof.data.clone();
            assert_eq!(bad(&AuthPayload { method, data }), SignatureError::OtherKeyKind);
        }
    }

    #[test]
    fn credentials_must_bear_our_own_identity() {
        let authority = Authority::root("Root", KeyChoice::P256);
        let issued = authority.issue(&gateway("gw", "192.0.2.1".parse().unwrap()), KeyChoice::P256);
        let options = options(&issued, &[], &authority);
        let dn = IkeIdentity::DistinguishedName("cn=GW,o=isthmus".into());
        let signing = Signing::new(&options, &dn).unwrap();
        // In the bytes of the certificate, not in ours.
        assert!(signing.identity.data.windows(7).any(|bytes| bytes == b"Isthmus"));
        let refused = Signing::new(&options, &IkeIdentity::Fqdn("gw".into()))
            .err()
            .unwrap();
        assert!(
            refused.contains("name gw") && refused.contains("192.0.2.1"),
            "{refused}"
        );
    }
}
