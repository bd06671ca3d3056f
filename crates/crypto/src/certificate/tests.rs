use isthmus_simnet::pki::rcgen::{
    self, BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType, SerialNumber, date_time_ymd,
};
use isthmus_simnet::pki::{Authority, DATE, Issued, KeyChoice, gateway, subject};
use isthmus_types::Timestamp;

use super::*;

const P256: KeyChoice = KeyChoice::P256;

fn root() -> Authority {
    Authority::root("Root", P256)
}

fn trust(authority: &Authority) -> Authorities {
    Authorities::from_pem(&authority.pem(), "", false).unwrap()
}

fn refusal(authorities: &Authorities, chain: &[&[u8]]) -> CertificateRefusal {
    authorities
        .verify(chain, DATE)
        .map(|_| ())
        .expect_err("the certificate must be refused")
}

/// The refusal of a certificate that `change` was applied to.
fn refusal_of(change: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateRefusal {
    let root = root();
    let mut parameters = gateway("gw", "192.0.2.1".parse().unwrap());
    change(&mut parameters);
    let issued = root.issue(&parameters, P256);
    refusal(&trust(&root), &[&issued.der])
}

#[test]
fn every_kind_of_key_is_accepted_in_every_place() {
    for key in KeyChoice::ALL {
        let root = Authority::root("Root", key);
        let middle = root.below("Middle", key);
        let issued = middle.issue(&gateway("gw", "192.0.2.1".parse().unwrap()), key);
        let verified = trust(&root).verify(&[&issued.der, &middle.der()], DATE).unwrap();
        let credentials = Credentials::from_pem(&issued.certificate, &issued.key).unwrap();
        let scheme = credentials
            .key()
            .scheme_for(&crate::signature::Hash::ALL, true)
            .unwrap();
        let signature = credentials.key().sign(scheme, b"message").unwrap();
        assert_eq!(
            verified.key().verify(scheme, b"message", &signature),
            Ok(()),
            "{key:?}"
        );
    }
}

#[test]
fn chains_are_followed_in_any_order_and_not_without_what_is_between() {
    let root = root();
    let (upper, other) = (root.below("Upper", P256), root.below("Other", P256));
    let lower = upper.below("Lower", KeyChoice::Rsa2048);
    let issued = lower.issue(&subject("gw"), P256);
    let authorities = trust(&root);
    let (upper, lower, other) = (upper.der(), lower.der(), other.der());
    for above in [[&lower, &upper, &other], [&other, &upper, &lower]] {
        let chain: Vec<&[u8]> = std::iter::once(&issued.der)
            .chain(above)
            .map(Vec::as_slice)
            .collect();
        assert!(authorities.verify(&chain, DATE).is_ok());
    }
    let refused = refusal(&authorities, &[&issued.der, &lower]);
    assert!(
        matches!(&refused, CertificateRefusal::UnknownIssuer { issuer, .. } if issuer.contains("CN=Lower")),
        "{refused:?}"
    );
    let many: Vec<&[u8]> = std::iter::once(&issued.der[..])
        .chain(std::iter::repeat_n(&lower[..], MAX_CERTIFICATES))
        .collect();
    assert!(matches!(
        refusal(&authorities, &many),
        CertificateRefusal::TooLong { .. }
    ));
}

#[test]
fn a_self_signed_certificate_can_be_trusted_itself() {
    let key = P256.generate();
    let own = subject("gw").self_signed(&key).unwrap();
    let authorities = Authorities::from_pem(&own.pem(), "", false).unwrap();
    assert!(authorities.verify(&[own.der()], DATE).is_ok());
}

#[test]
fn expired_and_early_certificates_are_told_with_their_dates() {
    let expired = refusal_of(|parameters| parameters.not_after = date_time_ymd(2026, 6, 1));
    assert!(
        matches!(&expired, CertificateRefusal::Expired { subject, now, .. } if subject.contains("CN=gw") && *now == DATE)
    );
    assert!(
        expired.to_string().contains("expired at 2026-06-01T00:00:00"),
        "{expired}"
    );
    let early = refusal_of(|parameters| parameters.not_before = date_time_ymd(2026, 8, 1));
    assert!(
        matches!(&early, CertificateRefusal::NotYetValid { .. }),
        "{early:?}"
    );
    assert!(early.to_string().contains("2026-08-01T00:00:00.000Z"), "{early}");

    // The same for the authority itself, and for one between.
    let mut parameters = Authority::parameters("Root");
    parameters.not_after = date_time_ymd(2026, 6, 1);
    let old = Authority::root_of(parameters.clone(), P256);
    let issued = old.issue(&subject("gw"), P256);
    let refused = refusal(&trust(&old), &[&issued.der]);
    assert!(matches!(&refused, CertificateRefusal::Expired { subject, .. } if subject.contains("CN=Root")));
    let before = Timestamp(DATE.0 - 40 * 86_400_000);
    assert!(trust(&old).verify(&[&issued.der], before).is_ok());

    let root = root();
    parameters.distinguished_name.push(DnType::CommonName, "Middle");
    let middle = root.below_of(parameters, P256);
    let issued = middle.issue(&subject("gw"), P256);
    let refused = refusal(&trust(&root), &[&issued.der, &middle.der()]);
    assert!(matches!(&refused, CertificateRefusal::Expired { subject, .. } if subject.contains("CN=Middle")));
}

#[test]
fn strangers_and_impostors_are_told_apart() {
    let (ours, theirs) = (root(), Authority::root("Somebody else", P256));
    let issued = theirs.issue(&subject("gw"), P256);
    let refused = refusal(&trust(&ours), &[&issued.der]);
    assert!(
        matches!(&refused, CertificateRefusal::UnknownIssuer { issuer, .. } if issuer.contains("Somebody else")),
        "{refused:?}"
    );
    // The name of our authority with another key.
    let issued = root().issue(&subject("gw"), P256);
    let refused = refusal(&trust(&ours), &[&issued.der]);
    assert!(
        matches!(refused, CertificateRefusal::BadSignature { .. }),
        "{refused:?}"
    );
    assert_eq!(refusal(&trust(&ours), &[]), CertificateRefusal::None);
    assert_eq!(
        refusal(&trust(&ours), &[b"rubbish"]),
        CertificateRefusal::Malformed
    );
}

#[test]
fn no_change_and_no_truncation_of_a_certificate_is_accepted() {
    let root = root();
    let authorities = trust(&root);
    let issued = root.issue(&gateway("gw", "192.0.2.1".parse().unwrap()), P256);
    for index in 0..issued.der.len() {
        let mut changed = issued.der.clone();
        changed[index] ^= 1;
        assert!(authorities.verify(&[&changed], DATE).is_err(), "byte {index}");
        assert!(authorities.verify(&[&issued.der[..index]], DATE).is_err());
    }
}

#[test]
fn broken_hashes_and_short_keys_are_too_weak() {
    let root = Authority::root("Root", KeyChoice::Rsa2048);
    let mut issued = root.issue(&subject("gw"), P256);
    // sha256WithRSAEncryption becomes sha1WithRSAEncryption and md5WithRSAEncryption, in both places.
    let named = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
    for (arc, name) in [(5, "SHA-1"), (4, "MD5")] {
        let places: Vec<usize> = (0..issued.der.len() - named.len())
            .filter(|place| issued.der[*place..].starts_with(&named[..8]))
            .collect();
        assert_eq!(places.len(), 2);
        for place in places {
            issued.der[place + 8] = arc;
        }
        let refused = refusal(&trust(&root), &[&issued.der]);
        assert!(
            matches!(&refused, CertificateRefusal::Weak { detail, .. } if detail.contains(name)),
            "{refused:?}"
        );
    }
    let refused = refusal(&trust(&root), &[&short_key(&root).der]);
    assert!(
        matches!(&refused, CertificateRefusal::Weak { detail, .. } if detail.contains("1024 bits")),
        "{refused:?}"
    );
}

/// A certificate over an RSA key of 1024 bits that nobody has.
fn short_key(root: &Authority) -> Issued {
    struct Short(Vec<u8>);
    impl rcgen::PublicKeyData for Short {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }
        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }
    let mut key = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    key.extend([0xff; 128]);
    key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    let der = root.sign(&subject("gw"), &Short(key));
    Issued {
        certificate: String::new(),
        key: Secret::new(String::new()),
        der,
    }
}

#[test]
fn usages_and_purposes_that_do_not_suit_are_refused() {
    let purpose = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let refused = refusal_of(change);
        assert!(
            matches!(refused, CertificateRefusal::Purpose { .. }),
            "{refused:?}"
        );
        refused.to_string()
    };
    assert!(purpose(&|new| new.key_usages = vec![KeyUsagePurpose::KeyEncipherment]).contains("key usage"));
    assert!(
        purpose(&|new| new.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning])
            .contains("extended key usage")
    );
    assert!(purpose(&|new| new.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).contains("authority"));
    let root = root();
    for suits in [
        vec![],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::CodeSigning,
        ],
        vec![ExtendedKeyUsagePurpose::Any],
        vec![ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17])],
    ] {
        let mut parameters = subject("gw");
        parameters.extended_key_usages = suits.clone();
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let issued = root.issue(&parameters, P256);
        assert!(trust(&root).verify(&[&issued.der], DATE).is_ok(), "{suits:?}");
    }
}

#[test]
fn only_authorities_may_stand_between() {
    let root = root();
    let mut plain = Authority::parameters("Middle");
    plain.is_ca = IsCa::ExplicitNoCa;
    let mut cannot_sign = Authority::parameters("Middle");
    cannot_sign.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for parameters in [plain, cannot_sign] {
        let middle = root.below_of(parameters, P256);
        let issued = middle.issue(&subject("gw"), P256);
        let refused = refusal(&trust(&root), &[&issued.der, &middle.der()]);
        assert!(
            matches!(&refused, CertificateRefusal::Purpose { subject, .. } if subject.contains("Middle")),
            "{refused:?}"
        );
    }
    let mut short = Authority::parameters("Root");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Authority::root_of(short, P256);
    let upper = root.below("Upper", P256);
    let mut bound = Authority::parameters("Bound");
    bound.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let lower = upper.below_of(bound, P256).below("Lower", P256);
    let issued = lower.issue(&subject("gw"), P256);
    assert!(
        trust(&root)
            .verify(&[&issued.der, &lower.der(), &upper.der()], DATE)
            .is_err()
    );
}

#[test]
fn critical_extensions_that_nobody_knows_are_refused_by_name() {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 7], vec![5, 0]);
    extension.set_criticality(true);
    let refused = refusal_of(|new| new.custom_extensions.push(extension));
    assert!(
        matches!(&refused, CertificateRefusal::UnsupportedExtension { detail, .. } if detail.contains("1.3.6.1.4.1.99999.7")),
        "{refused:?}"
    );
}

#[test]
fn constraints_of_an_authority_bind_the_names_below_it() {
    let mut parameters = Authority::parameters("Root");
    parameters.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("inside.example".into())],
        excluded_subtrees: vec![],
    });
    let root = Authority::root_of(parameters, P256);
    let mut inside = subject("gw");
    inside.subject_alt_names = vec![SanType::DnsName("gw.inside.example".try_into().unwrap())];
    let mut outside = subject("gw");
    outside.subject_alt_names = vec![SanType::DnsName("gw.outside.example".try_into().unwrap())];
    assert!(
        trust(&root)
            .verify(&[&root.issue(&inside, P256).der], DATE)
            .is_ok()
    );
    let refused = refusal(&trust(&root), &[&root.issue(&outside, P256).der]);
    assert!(
        matches!(&refused, CertificateRefusal::NameConstraint { names, .. } if names.contains("gw.outside.example")),
        "{refused:?}"
    );
}

#[test]
fn revoked_certificates_are_told_with_their_serial_number() {
    let root = root();
    let middle = root.below("Middle", P256);
    let issue = |serial: u64| {
        let mut parameters = subject("gw");
        parameters.serial_number = Some(SerialNumber::from(serial));
        middle.issue(&parameters, P256)
    };
    let (good, bad) = (issue(0x1001), issue(0xfa_ce));
    let list = middle.revocation_list(&[0xfa_ce], (2027, 1, 1));
    for require in [false, true] {
        let lists = format!("{list}{}", root.revocation_list(&[], (2027, 1, 1)));
        let authorities = Authorities::from_pem(&root.pem(), &lists, require).unwrap();
        assert!(authorities.verify(&[&good.der, &middle.der()], DATE).is_ok());
        let refused = refusal(&authorities, &[&bad.der, &middle.der()]);
        assert!(
            matches!(&refused, CertificateRefusal::Revoked { serial, issuer, .. }
                if serial.ends_with("face") && issuer.contains("Middle")),
            "{refused:?}"
        );
    }
    // A list that is out of date still revokes.
    let old = middle.revocation_list(&[0xfa_ce], (2025, 1, 1));
    let authorities = Authorities::from_pem(&root.pem(), &old, false).unwrap();
    assert!(matches!(
        refusal(&authorities, &[&bad.der, &middle.der()]),
        CertificateRefusal::Revoked { .. }
    ));
}

#[test]
fn a_required_revocation_list_must_be_there_in_force_and_genuine() {
    let root = root();
    let issued = root.issue(&subject("gw"), P256);
    let with = |lists: &str| Authorities::from_pem(&root.pem(), lists, true).unwrap();
    assert!(
        with(&root.revocation_list(&[], (2027, 1, 1)))
            .verify(&[&issued.der], DATE)
            .is_ok()
    );
    let other = Authority::root("Other", P256).revocation_list(&[], (2027, 1, 1));
    for lists in ["", &other] {
        let refused = refusal(&with(lists), &[&issued.der]);
        assert!(
            matches!(&refused, CertificateRefusal::RevocationListMissing { issuer, .. } if issuer.contains("Root")),
            "{refused:?}"
        );
    }
    let refused = refusal(&with(&root.revocation_list(&[], (2026, 6, 1))), &[&issued.der]);
    assert!(
        matches!(&refused, CertificateRefusal::RevocationListStale { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("2026-06-01"), "{refused}");
    let forged = self::root().revocation_list(&[], (2027, 1, 1));
    let refused = refusal(&with(&forged), &[&issued.der]);
    assert!(
        matches!(refused, CertificateRefusal::BadSignature { .. }),
        "{refused:?}"
    );
}

#[test]
fn names_are_those_of_the_subject_and_of_the_alternatives() {
    let mut parameters = gateway("gw", "2001:db8::1".parse().unwrap());
    parameters.subject_alt_names.extend([
        SanType::DnsName("GW.example".try_into().unwrap()),
        SanType::DnsName("*.wild.example".try_into().unwrap()),
        SanType::Rfc822Name("ops@example".try_into().unwrap()),
    ]);
    let certificate = Certificate::from_der(&root().issue(&parameters, P256).der).unwrap();
    let fqdn = |text: &str| CertificateName::Fqdn(text.into());
    let dn = |text: &str| CertificateName::DistinguishedName(DistinguishedName::parse(text).unwrap());
    for has in [
        CertificateName::Address("2001:db8::1".parse().unwrap()),
        fqdn("gw.example"),
        CertificateName::Email("ops@example".into()),
        dn("CN=gw,O=Isthmus"),
        dn("cn=GW, o=isthmus"),
    ] {
        assert!(certificate.has_name(&has), "{has}");
    }
    for lacks in [
        CertificateName::Address("2001:db8::2".parse().unwrap()),
        fqdn("gw"),
        fqdn("any.wild.example"),
        fqdn("ops@example"),
        dn("O=Isthmus,CN=gw"),
        dn("CN=gw"),
        dn("CN=gw,O=Isthmus,C=CH"),
    ] {
        assert!(!certificate.has_name(&lacks), "{lacks}");
    }
    assert_eq!(
        certificate.describe_names(),
        "distinguished name CN=gw,O=Isthmus, address 2001:db8::1, name GW.example, name *.wild.example, e-mail ops@example"
    );
}

#[test]
fn credentials_that_do_not_fit_together_are_refused() {
    let root = root();
    let (one, other) = (root.issue(&subject("gw"), P256), root.issue(&subject("gw"), P256));
    assert_eq!(
        Credentials::from_pem(&one.certificate, &other.key).map(|_| ()),
        Err(CredentialsError::OtherKey("CN=gw,O=Isthmus".into()))
    );
    assert_eq!(
        Credentials::from_pem("", &one.key).map(|_| ()),
        Err(CredentialsError::NoCertificate)
    );
    assert!(Credentials::from_pem(&one.certificate, &Secret::new("no key".into())).is_err());
    assert_eq!(
        Authorities::from_pem("", "", false).map(|_| ()),
        Err(CredentialsError::NoAuthority)
    );
    let broken = one
        .certificate
        .replacen("MII", "AAA", 1)
        .replacen("MIIB", "AAAA", 1);
    assert!(Authorities::from_pem(&broken, "", false).is_err());
    let sent = Credentials::from_pem(&format!("{}{}", one.certificate, root.pem()), &one.key).unwrap();
    assert_eq!(sent.sent().count(), 1);
}
