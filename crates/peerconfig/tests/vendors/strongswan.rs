//! strongSwan's words. Those for identities and keys were tried with the real daemon: see the interoperability suite.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, everything, printed, printed_with_key,
    proposing, v6,
};

const VENDOR: Vendor = Vendor::StrongSwan;

#[test]
fn identities_have_their_kind_before_them_but_names_that_become_der() {
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.peer_identity = identity
        })
    };
    for (identity, expected) in [
        (IkeIdentity::Fqdn("gw.example".into()), "id = \"fqdn:gw.example\""),
        (
            IkeIdentity::Email("gw@example.org".into()),
            "id = \"email:gw@example.org\"",
        ),
        (IkeIdentity::KeyId(vec![1, 0xab]), "id = \"keyid:#01ab\""),
        (
            IkeIdentity::DistinguishedName("CN=gateway,O=Example,C=CH".into()),
            "id = \"C=CH, O=Example, CN=gateway\"",
        ),
        (
            IkeIdentity::Address("192.0.2.1".parse().unwrap()),
            "id = 192.0.2.1\n",
        ),
    ] {
        let text = with(identity).unwrap();
        assert_has(&text, &["local {", expected, "remote {"]);
        assert_lacks(&text, &["asn1dn", "keyid:0x"]);
    }
    let escaped = IkeIdentity::DistinguishedName("CN=a\\,b,C=CH".into());
    assert_inexpressible(with(escaped), "peer_identity", "'\\\\'");
    let broken = IkeIdentity::Fqdn("a\nb".into());
    assert_inexpressible(with(broken), "peer_identity", "'\\n'");
}

#[test]
fn ciphers_with_their_own_check_are_left_out_of_phase_1_of_ikev1() {
    let ike = ["aes256gcm16-prfsha256-ecp256", "aes256-sha256-prfsha256-modp2048"];
    let esp = ["aes256gcm16-modp2048"];
    let text = printed(VENDOR, IkeVersion::V1, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "# Left out, strongSwan has no words for it (IKE): aes256gcm16-prfsha256-ecp256",
            "proposals = aes256-sha256-modp2048\n",
            "esp_proposals = aes256gcm16-modp2048\n",
        ],
    );
    let alone = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &ike[..1], &esp)
    });
    assert_inexpressible(alone, "ike_proposals", "aes256gcm16-prfsha256-ecp256");
}

#[test]
fn a_key_that_could_be_taken_for_bytes_or_for_lines_is_written_as_bytes() {
    let with = |key| printed_with_key(VENDOR, IkeVersion::V2, key).unwrap();
    assert_has(&with("a \"b\" \\"), &["secret = \"a \\\"b\\\" \\\\\"\n"]);
    assert_has(&with("0x61"), &["secret = 0x30783631\n"]);
    assert_has(&with("0sYQ=="), &["secret = 0x3073"]);
    assert_has(&with("a\nb"), &["secret = 0x610a62\n"]);
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &["aes128-sha1-prfsha1-modp2048"], &["aes128-sha1"]);
        peering.plan.options.aggressive_mode = true;
        peering.plan.force_encapsulation = true;
    });
    assert_has(&text.unwrap(), &["aggressive = yes", "encap = yes"]);
    let plain = printed(VENDOR, IkeVersion::V2, |_| {}).unwrap();
    assert_lacks(&plain, &["aggressive", "encap", "combinations"]);
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &[
            "auth = pubkey",
            "certs = peer.pem",
            "auth = pubkey",
            "cacerts = ca.pem",
        ],
    );
    assert_lacks(&certified, &["psk", "secrets"]);
    let many = printed(VENDOR, IkeVersion::V2, everything).unwrap();
    assert_has(
        &many,
        &["# 8 of the ", " combinations of the IKE proposals are listed"],
    );
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "local_addrs = 2001:db8:2::2",
            "remote_addrs = 2001:db8:1::2",
            "local_ts = fd00:2::/64,10.2.0.0/24",
        ],
    );
}
