//! Signatures of a peer that are made with SHA-1.

use isthmus_crypto::signature::{Hash, Scheme, identifier_of};
use isthmus_simnet::pki::{self, Authority, KeyChoice};
use isthmus_wire::ike::{AuthMethod, AuthPayload};

use super::*;
use crate::auth::encode_identity;
use crate::channel::{Channel, Role};
use crate::finding::{CertificateFault, FindingKind};
use crate::negotiate::KeyExchange;

/// Ends that trust one authority, up to the left one's IKE_AUTH, which is on its way.
fn with_certificates() -> Ends {
    let authority = Authority::root("Root", KeyChoice::P256);
    let mut ends = Ends::new();
    let with_certificate = |side| {
        let issued = authority.issue(&pki::gateway("gateway", side), KeyChoice::Rsa2048);
        let mut config = config(side);
        config.options.certificate = Some(pki::options(&issued, &[], &authority));
        config
    };
    ends.left.set_date(pki::DATE, ends.now);
    ends.right.set_date(pki::DATE, ends.now);
    ends.right.upsert_connection(with_certificate(RIGHT), ends.now);
    ends.left.upsert_connection(with_certificate(LEFT), ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().expect("an answer");
    ends.deliver_left(&answer);
    ends
}

/// An IKE_AUTH of the left end with another proof than its own.
fn with_proof(ends: &mut Ends, proof: AuthPayload) -> Vec<u8> {
    let connection = &ends.left.connections[&connection()];
    let identity = encode_identity(&connection.config.local_identity);
    let certificates = connection.method.certificates();
    let sa = only_sa(&mut ends.left);
    let spis = sa.spis();
    let State::AuthSent(auth) = &sa.state else {
        panic!("IKE_AUTH is sent");
    };
    let mut payloads = vec![Payload::IdInitiator(identity)];
    payloads.extend(certificates);
    payloads.push(Payload::Auth(proof));
    let child = auth.child.as_ref().expect("a child goes with it");
    payloads.extend(child.payloads(KeyExchange::Absent));
    let mut channel = Channel::new(Role::Initiator, spis, &auth.suite, &auth.keys, 1).unwrap();
    let (_, sealed) = channel.request(ExchangeType::IKE_AUTH, &payloads).unwrap();
    sealed.0.concat()
}

/// What a signature with this hash is named by RFC 7427, with something in its place.
fn signature_named(hash: u8) -> AuthPayload {
    let mut identifier = identifier_of(Scheme::RsaPkcs1(Hash::Sha256)).to_vec();
    // The last arc of the object identifier, before the NULL.
    let place = identifier.len() - 3;
    assert_eq!(identifier[place], 11, "sha256WithRSAEncryption");
    identifier[place] = hash;
    AuthPayload {
        method: AuthMethod::DIGITAL_SIGNATURE,
        data: [&[15][..], &identifier, &[0x42; 256]].concat(),
    }
}

fn refusal(proof: AuthPayload) -> (CertificateFault, String) {
    let mut ends = with_certificates();
    let request = with_proof(&mut ends, proof);
    ends.answer_to(&request).expect("an answer");
    let status = ends.right.status(connection()).expect("a connection");
    assert!(status.children.is_empty() && status.ike_sas == 0);
    let refused = status.findings.into_iter().find_map(|finding| {
        let words = finding.kind.explanation();
        if let FindingKind::CertificateRefused { fault, .. } = finding.kind {
            Some((fault, words))
        } else {
            None
        }
    });
    let (reason, detail) = down(&ends.right);
    assert_eq!(reason, DownReason::AuthenticationFailed);
    let (fault, words) = refused.expect("the certificate's owner is refused");
    assert_eq!(detail, words);
    (fault, words)
}

#[test]
fn a_signature_with_sha_1_is_refused_as_weak_and_others_for_what_they_are() {
    const SHA1_WITH_RSA: u8 = 5;
    const SHA256_WITH_RSA: u8 = 11;
    let (fault, words) = refusal(signature_named(SHA1_WITH_RSA));
    assert_eq!(fault, CertificateFault::Weak);
    assert!(words.contains("SHA-1"), "{words}");
    let (fault, _) = refusal(signature_named(SHA256_WITH_RSA));
    assert_eq!(fault, CertificateFault::OtherKey);
}
