//! libreswan's words, release 4.10. Its daemon has read such files: see the interoperability suite.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::Libreswan;

#[test]
fn what_it_lacks_is_left_out() {
    let ike = [
        "aes128-sha1-prfsha1-modp1024",
        "aes256gcm16-prfsha256-ecp256",
        "aes128-sha1-prfsha1-modp2048",
    ];
    let esp = [
        "chacha20poly1305-modp2048",
        "aes128-sha1-ecp256",
        "aes128-sha1-modp2048",
        "aes128-sha1-modp1024",
    ];
    let text = printed(VENDOR, IkeVersion::V1, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes128-sha1-prfsha1-modp1024, aes256gcm16-prfsha256-ecp256\n",
            "(ESP): chacha20poly1305-modp2048, aes128-sha1-ecp256, aes128-sha1-modp1024\n",
            "ikev2=no",
            "ike=aes128-sha1-dh14\n",
            "phase2alg=aes128-sha1-dh14\n",
        ],
    );
    let text = printed(VENDOR, IkeVersion::V2, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes128-sha1-prfsha1-modp1024\n",
            "ike=aes_gcm256-sha2_256-dh19,aes128-sha1-dh14\n",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V2, |peering| {
        proposing(peering, &ike[..1], &esp)
    });
    assert_inexpressible(none, "ike_proposals", "modp1024");
}

#[test]
fn identities_are_words_or_refused() {
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.peer_identity = identity
        })
    };
    for (identity, expected) in [
        (IkeIdentity::Fqdn("gw.example".into()), "leftid=@gw.example\n"),
        (
            IkeIdentity::Email("gw@example.org".into()),
            "leftid=gw@example.org\n",
        ),
        (IkeIdentity::KeyId(vec![1, 0xab]), "leftid=@#01ab\n"),
        (
            IkeIdentity::DistinguishedName("CN=a b,C=CH".into()),
            "leftid=\"C=CH, CN=a b\"\n",
        ),
    ] {
        assert_has(&with(identity).unwrap(), &[expected]);
    }
    assert_inexpressible(
        with(IkeIdentity::Fqdn("two words".into())),
        "peer_identity",
        "' '",
    );
    assert_inexpressible(
        with(IkeIdentity::DistinguishedName("CN=\"a\"".into())),
        "peer_identity",
        "'\"'",
    );
}

#[test]
fn a_key_is_quoted_with_what_it_does_not_have() {
    let with = |key| printed_with_key(VENDOR, IkeVersion::V2, key).unwrap();
    assert_has(&with("a\\b"), &[": PSK \"a\\b\"\n"]);
    assert_has(&with("a\"b"), &[": PSK 'a\"b'\n"]);
    assert_has(&with("\"'"), &[": PSK 0x2227\n"]);
    assert_has(&with("a\nb"), &[": PSK 0x610a62\n"]);
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &["aes128-sha1-prfsha1-modp2048"], &["aes128-sha1"]);
        peering.plan.options.aggressive_mode = true;
        peering.plan.force_encapsulation = true;
    });
    assert_has(
        &text.unwrap(),
        &[
            "ikev1-policy=accept",
            "pfs=no",
            "aggressive=yes",
            "encapsulation=yes",
        ],
    );
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &["authby=rsasig,ecdsa", "leftcert=office-berlin", "rightca=%same"],
    );
    assert_lacks(&certified, &["PSK", "secrets"]);
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "left=2001:db8:2::2",
            "leftsubnets={fd00:2::/64 10.2.0.0/24}",
            "right=2001:db8:1::2",
        ],
    );
}
