//! The words of Junos.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::Junos;

#[test]
fn groups_and_ciphers_are_those_of_its_lists() {
    let ike = [
        "aes256gcm16-prfsha384-ecp384",
        "aes256gcm16-prfsha256-ecp384",
        "aes256-sha256-prfsha256-modp8192",
        "aes256-sha256-prfsha256-x25519",
    ];
    let esp = [
        "aes256gcm16-x25519",
        "aes256gcm16-ecp521",
        "aes256-sha256-modp2048",
    ];
    let text = printed(VENDOR, IkeVersion::V2, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes256gcm16-prfsha384-ecp384, aes256-sha256-prfsha256-modp8192, aes256-sha256-prfsha256-x25519\n",
            "(ESP): aes256gcm16-x25519, aes256-sha256-modp2048\n",
            "dh-group group20\n",
            "encryption-algorithm aes-256-gcm\n",
            "perfect-forward-secrecy keys group21\n",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V1, |peering| proposing(peering, &ike, &esp));
    assert_inexpressible(none, "ike_proposals", "aes256gcm16");
}

#[test]
fn identities_keys_and_methods_are_those_of_its_lists() {
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.peer_identity = identity
        })
    };
    assert_has(
        &with(IkeIdentity::Email("a@b.example".into())).unwrap(),
        &["local-identity user-at-hostname \"a@b.example\"\n"],
    );
    assert_has(
        &with(IkeIdentity::KeyId(b"b 7".to_vec())).unwrap(),
        &["local-identity key-id \"b 7\"\n"],
    );
    assert_inexpressible(with(IkeIdentity::KeyId(vec![0xff])), "peer_identity", "0xff");
    let name = IkeIdentity::DistinguishedName("CN=gw".into());
    assert_inexpressible(with(name.clone()), "peer_identity", "certificate");
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
        peering.plan.peer_identity = name.clone();
        peering.plan.local_identity = name;
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &[
            "authentication-method certificates\n",
            "certificate local-certificate office-berlin\n",
            "local-identity distinguished-name\n",
            "remote-identity distinguished-name container \"CN=gw\"\n",
        ],
    );
    assert_lacks(&certified, &["pre-shared"]);
    assert_inexpressible(printed_with_key(VENDOR, IkeVersion::V2, "a\tb"), "psk", "'\\t'");
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        peering.plan.options.aggressive_mode = true
    });
    assert_has(
        &text.unwrap(),
        &["policy office-berlin mode aggressive\n", "version v1-only\n"],
    );
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "address 2001:db8:1::2\n",
            "local-identity inet6 2001:db8:2::2\n",
            "local-ip fd00:2::/64 remote-ip fd00:1::/64\n",
            "local-ip 10.2.0.0/24 remote-ip 10.1.0.0/24\n",
        ],
    );
    assert_lacks(&text, &["local-ip fd00:2::/64 remote-ip 10."]);
}
