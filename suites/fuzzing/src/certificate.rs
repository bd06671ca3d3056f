//! Certificates of peers, and the texts that a person configures.

use std::sync::LazyLock;

use isthmus_crypto::certificate::{Authorities, Certificate, DistinguishedName};
use isthmus_crypto::signature::{Identified, SigningKey, identifier_of, scheme_of};
use isthmus_simnet::pki;
use isthmus_types::Secret;

use crate::input::Input;

/// The root that the certificates of the corpus come from. Nobody has its key any more.
const ROOT: &str = include_str!("root.pem");

static AUTHORITIES: LazyLock<Authorities> =
    LazyLock::new(|| Authorities::from_pem(ROOT, "", false).expect("the root can be read"));

/// A chain that a peer sends, one certificate in a block; or PEM, a name or an algorithm identifier.
pub fn certificates(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => chain(&mut input),
        1 => {
            let authorities = String::from_utf8_lossy(input.block());
            let lists = String::from_utf8_lossy(input.rest());
            if let Ok(read) = Authorities::from_pem(&authorities, &lists, true) {
                let chain: Vec<&[u8]> = read.certificates().iter().map(Certificate::der).collect();
                let _ = read.verify(&chain, pki::DATE);
            }
        }
        2 => {
            let text = String::from_utf8_lossy(input.rest());
            if let Some(name) = DistinguishedName::parse(&text) {
                let der = name.to_der().expect("a name that was read can be written");
                let again = DistinguishedName::from_der(&der).expect("a name that was written can be read");
                assert_eq!(again.to_der(), Some(der), "{name}");
            }
            if let Some(name) = DistinguishedName::from_der(input.rest()) {
                let _ = (name.to_string(), name.is_empty());
            }
        }
        _ => {
            if let Identified::Scheme(scheme) = scheme_of(input.rest()) {
                let written = identifier_of(scheme);
                assert!(matches!(scheme_of(&written), Identified::Scheme(again) if again == scheme));
            }
            let text = String::from_utf8_lossy(input.rest()).into_owned();
            let _ = SigningKey::from_pem(&Secret::new(text));
        }
    }
}

fn chain(input: &mut Input<'_>) {
    let mut chain = Vec::new();
    while !input.is_empty() {
        chain.push(input.block());
    }
    for der in &chain {
        if let Ok(certificate) = Certificate::from_der(der) {
            let _ = (
                certificate.subject().to_string(),
                certificate.issuer().to_string(),
            );
            let _ = (
                certificate.serial(),
                certificate.describe_names(),
                certificate.key_hash(),
            );
            for name in certificate.names() {
                assert!(certificate.has_name(&name), "{name} is one of its names");
            }
        }
    }
    match AUTHORITIES.verify(&chain, pki::DATE) {
        Ok(verified) => assert_eq!(Some(&verified.certificate().der()), chain.first()),
        Err(refusal) => {
            let _ = (refusal.to_string(), refusal.detail());
        }
    }
}
