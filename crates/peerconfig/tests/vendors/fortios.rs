//! The words of FortiOS.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::FortiOs;

#[test]
fn groups_and_ciphers_are_those_of_its_lists() {
    let ike = [
        "aes192gcm16-prfsha256-ecp256",
        "aes256gcm16-prfsha384-ecp384",
        "aes256-sha512-prfsha512-x25519",
    ];
    let esp = [
        "aes256gcm16-ecp384",
        "aes256gcm8-ecp384",
        "aes256-sha256-modp2048",
        "aes256-sha256",
    ];
    let text = printed(VENDOR, IkeVersion::V2, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes192gcm16-prfsha256-ecp256\n",
            "set proposal aes256gcm-prfsha384 aes256-sha512\n",
            "set dhgrp 20 31\n",
            "(ESP): aes256gcm8-ecp384, aes256-sha256\n",
            "set proposal aes256gcm aes256-sha256\n",
            "set pfs enable\n",
            "set dhgrp 20 14\n",
        ],
    );
    let text = printed(VENDOR, IkeVersion::V1, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "set mode main\n",
            "set proposal aes256-sha512\n",
            "set dhgrp 31\n",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &ike[..2], &esp)
    });
    assert_inexpressible(none, "ike_proposals", "aes256gcm16");
}

#[test]
fn names_keys_and_identities_stand_between_quotes() {
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.peer_identity = identity
        })
    };
    let text = with(IkeIdentity::Fqdn("a\"b".into())).unwrap();
    assert_has(&text, &["set localid-type fqdn\n", "set localid \"a\\\"b\"\n"]);
    let text = with(IkeIdentity::DistinguishedName("CN=gw,C=CH".into())).unwrap();
    assert_has(
        &text,
        &["set localid-type asn1dn\n", "set localid \"CN=gw,C=CH\"\n"],
    );
    assert_inexpressible(with(IkeIdentity::KeyId(vec![0])), "peer_identity", "");
    assert_inexpressible(printed_with_key(VENDOR, IkeVersion::V2, "a\nb"), "psk", "'\\n'");
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        peering.plan.options.aggressive_mode = true;
        peering.plan.force_encapsulation = true;
        peering.plan.local_identity = IkeIdentity::Fqdn("us.example".into());
    });
    assert_has(
        &text.unwrap(),
        &[
            "set mode aggressive\n",
            "set nattraversal forced\n",
            "set peertype one\n",
            "set peerid \"us.example\"\n",
        ],
    );
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &[
            "set authmethod signature\n",
            "set certificate office-berlin\n",
            "set peertype peer\n",
        ],
    );
    assert_lacks(&certified, &["psksecret"]);
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "set ip-version 6\n",
            "set remote-gw6 2001:db8:1::2\n",
            "set src-addr-type subnet6\n        set src-subnet6 fd00:2::/64\n",
            "set dst-addr-type subnet6\n        set dst-subnet6 fd00:1::/64\n",
            "set src-subnet 10.2.0.0 255.255.255.0\n        set dst-subnet 10.1.0.0 255.255.255.0\n",
        ],
    );
    // Families do not mix in a pair.
    assert_eq!(text.matches("set phase1name").count(), 2);
}
