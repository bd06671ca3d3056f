//! Certificates at both ends: every kind of key and name, and every refusal with its reason where it was decided.

use isthmus_ike::{CertificateFault, ConnectionConfig, DownReason, FindingKind, IkeIdentity};
use isthmus_simnet::pki::rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, SerialNumber, date_time_ymd,
};
use isthmus_simnet::pki::{Authority, Issued, KeyChoice, gateway, options, subject};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::CertificateOptions;

use crate::{LONG, connect_with, reason};

const P256: KeyChoice = KeyChoice::P256;
const SIDES: [Side; 2] = [Side::Left, Side::Right];

/// What `side` has by default: its address as alternative name, from a common authority.
fn default_for(side: Side) -> CertificateParams {
    gateway(&format!("{side:?}"), side.address())
}

fn connect(pair: &mut Pair, of: impl Fn(Side) -> CertificateOptions) {
    connect_with(pair, |side, config| config.options.certificate = Some(of(side)));
}

fn findings(pair: &Pair, side: Side) -> Vec<FindingKind> {
    let status = pair
        .peer(side)
        .endpoint
        .status(side.connection())
        .expect("each end has its connection");
    status.findings.into_iter().map(|finding| finding.kind).collect()
}

/// The right end has `bad`; the left one must refuse it for `fault`, and the right one hear no more than that.
fn check(
    authority: &Authority,
    bad: CertificateOptions,
    change_left: impl Fn(&mut CertificateOptions),
    fault: CertificateFault,
    words: &str,
) {
    // Whoever begins, the reason shows where it was decided.
    for first in SIDES {
        let mut pair = Pair::new(1, Link::clean());
        let good = authority.issue(&default_for(Side::Left), P256);
        let mut left = Pair::config(Side::Left);
        let mut own = options(&good, &[], authority);
        change_left(&mut own);
        left.options.certificate = Some(own);
        let mut right = Pair::config(Side::Right);
        right.options.certificate = Some(bad.clone());
        let passive = |config: &mut ConnectionConfig, side| {
            if side != first {
                config.establish = isthmus_ike::EstablishMode::PeerOnly;
            }
        };
        passive(&mut left, Side::Left);
        passive(&mut right, Side::Right);
        pair.upsert(
            first.other(),
            if first == Side::Left {
                right.clone()
            } else {
                left.clone()
            },
        );
        pair.upsert(first, if first == Side::Left { left } else { right });
        pair.run_for(std::time::Duration::from_secs(20));
        let found = findings(&pair, Side::Left);
        let told = found.iter().find_map(|kind| {
            if let FindingKind::CertificateRefused { fault, .. } = kind {
                Some((*fault, kind.sentence()))
            } else {
                None
            }
        });
        let (seen, sentence) = told.unwrap_or_else(|| panic!("{first:?} began: {found:?}"));
        assert_eq!(seen, fault, "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert_eq!(reason(&pair, Side::Left), Some(DownReason::AuthenticationFailed));
        for side in SIDES {
            assert!(!pair.peer(side).is_up());
            assert!(pair.peer(side).children.is_empty() || side == Side::Right);
        }
        if first == Side::Right {
            assert!(
                findings(&pair, Side::Right)
                    .iter()
                    .any(|kind| matches!(kind, FindingKind::AuthenticationRefusedByPeer { .. })),
                "{:?}",
                findings(&pair, Side::Right)
            );
        }
    }
}

fn bad(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateOptions {
    let mut parameters = default_for(Side::Right);
    change(&mut parameters);
    options(&authority.issue(&parameters, P256), &[], authority)
}

#[test]
fn every_kind_of_key_authenticates() {
    for key in KeyChoice::ALL {
        let authority = Authority::root("Root", key);
        let mut pair = Pair::new(1, Link::clean());
        connect(&mut pair, |side| {
            options(&authority.issue(&default_for(side), key), &[], &authority)
        });
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{key:?}: {:?}",
            pair.discord()
        );
    }
}

#[test]
fn ends_with_different_keys_and_authorities_authenticate() {
    let ours = Authority::root("Ours", KeyChoice::Rsa2048);
    let theirs = Authority::root("Theirs", KeyChoice::P384);
    let middle = theirs.below("Middle", KeyChoice::P521);
    let lower = middle.below("Lower", KeyChoice::Rsa3072);
    let left = ours.issue(&default_for(Side::Left), KeyChoice::Rsa4096);
    let right = lower.issue(&default_for(Side::Right), KeyChoice::Ed25519);
    let mut pair = Pair::new(1, Link::clean());
    connect(&mut pair, |side| match side {
        Side::Left => options(&left, &[], &theirs),
        Side::Right => options(&right, &[&lower, &middle], &ours),
    });
    assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
}

#[test]
fn an_authentication_survives_any_one_lost_datagram() {
    let authority = Authority::root("Root", KeyChoice::Rsa2048);
    let issued = SIDES.map(|side| authority.issue(&default_for(side), KeyChoice::Rsa2048));
    for lost in 0..8 {
        let mut pair = Pair::new(lost, Link::losing(usize::try_from(lost).unwrap()));
        connect(&mut pair, |side| {
            options(&issued[usize::from(side == Side::Right)], &[], &authority)
        });
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{lost}: {:?}",
            pair.discord()
        );
    }
}

#[test]
fn names_mail_addresses_and_distinguished_names_are_proved_by_certificates() {
    let authority = Authority::root("Root", P256);
    let mut named = subject("left");
    named.subject_alt_names = vec![SanType::DnsName("left.example".try_into().unwrap())];
    let mut mailed = subject("left");
    mailed.subject_alt_names = vec![SanType::Rfc822Name("ops@left.example".try_into().unwrap())];
    for (identity, parameters) in [
        (IkeIdentity::Fqdn("left.example".into()), named),
        (IkeIdentity::Email("ops@left.example".into()), mailed),
        (
            IkeIdentity::DistinguishedName("CN=left, O=Isthmus".into()),
            subject("left"),
        ),
    ] {
        let left = authority.issue(&parameters, P256);
        let right = authority.issue(&default_for(Side::Right), P256);
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |side, config| {
            let (own, id) = match side {
                Side::Left => (&left, &mut config.local_identity),
                Side::Right => (&right, &mut config.peer_identity),
            };
            *id = identity.clone();
            config.options.certificate = Some(options(own, &[], &authority));
        });
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "{identity}: {:?}",
            pair.discord()
        );
    }
}

#[test]
fn expired_and_early_certificates_are_refused() {
    let authority = Authority::root("Root", P256);
    let expired = bad(&authority, |new| new.not_after = date_time_ymd(2026, 6, 1));
    check(
        &authority,
        expired,
        |_| (),
        CertificateFault::Expired,
        "until 2026-06-01",
    );
    let early = bad(&authority, |new| new.not_before = date_time_ymd(2026, 8, 1));
    check(
        &authority,
        early,
        |_| (),
        CertificateFault::NotYetValid,
        "from 2026-08-01",
    );
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    let authority = Authority::root("Root", P256);
    let other = Authority::root("Somebody else", P256);
    let mut theirs = options(&other.issue(&default_for(Side::Right), P256), &[], &other);
    theirs.authorities = authority.pem();
    check(
        &authority,
        theirs,
        |_| (),
        CertificateFault::UnknownIssuer,
        "CN=Somebody else",
    );
    // One between is not sent.
    let middle = authority.below("Middle", P256);
    let alone = options(&middle.issue(&default_for(Side::Right), P256), &[], &authority);
    check(
        &authority,
        alone,
        |_| (),
        CertificateFault::UnknownIssuer,
        "CN=Middle",
    );
}

#[test]
fn revoked_certificates_and_missing_or_stale_lists_are_refused() {
    let authority = Authority::root("Root", P256);
    let serial = |new: &mut CertificateParams| new.serial_number = Some(SerialNumber::from(0xfa_ce));
    let revoked = authority.revocation_list(&[0xfa_ce], (2027, 1, 1));
    check(
        &authority,
        bad(&authority, serial),
        |own| own.revocation_lists = revoked.clone(),
        CertificateFault::Revoked,
        "face",
    );
    check(
        &authority,
        bad(&authority, |_| ()),
        |own| own.require_revocation_list = true,
        CertificateFault::RevocationListMissing,
        "CN=Root",
    );
    let stale = authority.revocation_list(&[], (2026, 6, 1));
    check(
        &authority,
        bad(&authority, |_| ()),
        |own| {
            own.require_revocation_list = true;
            own.revocation_lists = stale.clone();
        },
        CertificateFault::RevocationListStale,
        "2026-06-01",
    );
}

#[test]
fn weak_misused_and_unreadable_certificates_are_refused() {
    let authority = Authority::root("Root", P256);
    let usage = bad(&authority, |new| {
        new.key_usages = vec![KeyUsagePurpose::KeyEncipherment]
    });
    check(&authority, usage, |_| (), CertificateFault::Purpose, "key usage");
    let purpose = bad(&authority, |new| {
        new.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    });
    check(
        &authority,
        purpose,
        |_| (),
        CertificateFault::Purpose,
        "extended key usage",
    );
    let is_authority = bad(&authority, |new| {
        new.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    check(
        &authority,
        is_authority,
        |_| (),
        CertificateFault::Purpose,
        "authority",
    );
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 7], vec![5, 0]);
    extension.set_criticality(true);
    let critical = bad(&authority, |new| new.custom_extensions.push(extension));
    check(
        &authority,
        critical,
        |_| (),
        CertificateFault::UnsupportedExtension,
        "1.3.6.1.4.1.99999.7",
    );
}

#[test]
fn a_weakly_signed_certificate_is_refused() {
    let authority = Authority::root("Root", KeyChoice::Rsa2048);
    let mut issued = authority.issue(&default_for(Side::Right), P256);
    let named = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
    let places: Vec<usize> = (0..issued.der.len() - named.len())
        .filter(|place| issued.der[*place..].starts_with(named))
        .collect();
    for place in places {
        issued.der[place + 8] = 5;
    }
    issued.certificate = pem(&issued);
    let weak = options(&issued, &[], &authority);
    check(&authority, weak, |_| (), CertificateFault::Weak, "SHA-1");
}

fn pem(issued: &Issued) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut column = 0;
    for group in issued.der.chunks(3) {
        let mut bits = [0u8; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let value = u32::from_be_bytes(bits);
        for place in 0..4 {
            let digit = DIGITS[(value >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { digit } else { '=' });
        }
        column += 4;
        if column % 64 == 0 {
            text.push('\n');
        }
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

#[test]
fn an_identity_that_the_certificate_does_not_have_is_refused() {
    let authority = Authority::root("Root", P256);
    // The peer checks itself first, so an honest one never gets that far: its own words must be wrong too.
    let mut pair = Pair::new(1, Link::clean());
    connect_with(&mut pair, |side, config| {
        let issued = authority.issue(&gateway("gw", "198.51.100.9".parse().unwrap()), P256);
        config.options.certificate = Some(options(&issued, &[], &authority));
        assert_eq!(config.local_identity, IkeIdentity::Address(side.address()));
    });
    pair.run_for(std::time::Duration::from_secs(5));
    for side in SIDES {
        assert_eq!(reason(&pair, side), Some(DownReason::AuthenticationFailed));
        let sentences: Vec<String> = findings(&pair, side).iter().map(FindingKind::sentence).collect();
        assert!(
            sentences.iter().any(|text| text.contains("198.51.100.9")),
            "{sentences:?}"
        );
    }
    assert_eq!(pair.sent, 0);
}

#[test]
fn keys_and_certificates_do_not_meet() {
    let authority = Authority::root("Root", P256);
    for first in SIDES {
        let mut pair = Pair::new(1, Link::clean());
        let mut left = Pair::config(Side::Left);
        left.options.certificate = Some(options(
            &authority.issue(&default_for(Side::Left), P256),
            &[],
            &authority,
        ));
        let mut right = Pair::config(Side::Right);
        let passive = if first == Side::Left {
            &mut right
        } else {
            &mut left
        };
        passive.establish = isthmus_ike::EstablishMode::PeerOnly;
        pair.upsert(Side::Left, left);
        pair.upsert(Side::Right, right);
        pair.run_for(std::time::Duration::from_secs(20));
        let judge = first.other();
        assert!(
            findings(&pair, judge)
                .iter()
                .any(|kind| matches!(kind, FindingKind::MethodMismatch { .. })),
            "{judge:?}: {:?}",
            findings(&pair, judge)
        );
        for side in SIDES {
            assert!(!pair.peer(side).is_up());
            assert_eq!(reason(&pair, side), Some(DownReason::AuthenticationFailed));
        }
    }
}

#[test]
fn without_a_date_no_certificate_is_accepted() {
    let authority = Authority::root("Root", P256);
    let now = Pair::new(1, Link::clean()).now();
    let mut ends = SIDES.map(|side| isthmus_ike::Endpoint::new(side.address(), [7; 32], now));
    for (end, side) in ends.iter_mut().zip(SIDES) {
        let mut config = Pair::config(side);
        config.options.certificate = Some(options(
            &authority.issue(&default_for(side), P256),
            &[],
            &authority,
        ));
        if side == Side::Right {
            config.establish = isthmus_ike::EstablishMode::PeerOnly;
        }
        end.upsert_connection(config, now);
    }
    for _ in 0..8 {
        for index in 0..2 {
            while let Some(sent) = ends[index].poll_transmit() {
                let from = std::net::SocketAddr::new(SIDES[index].address(), sent.local_port);
                ends[1 - index].handle_datagram(sent.destination.port(), from, &sent.payload, now);
            }
        }
    }
    let status = ends[1].status(Side::Right.connection()).unwrap();
    assert_eq!(status.ike_sas, 0);
    assert!(
        status
            .findings
            .iter()
            .any(|finding| finding.kind.sentence().contains("date")),
        "{:?}",
        status.findings
    );
}
