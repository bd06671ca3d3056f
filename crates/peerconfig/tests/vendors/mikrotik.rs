//! The words of RouterOS 7.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::MikroTik;

#[test]
fn a_profile_has_one_hash_and_a_proposal_one_group() {
    let ike = [
        "aes256gcm16-prfsha256-ecp256",
        "aes256-sha512-prfsha512-ecp256",
        "aes128-sha256-prfsha256-modp2048",
        "aes128-sha512-prfsha512-modp2048",
        "aes256-sha512-prfsha512-x25519",
    ];
    let esp = [
        "chacha20poly1305-ecp256",
        "aes256gcm16-ecp256",
        "aes256-sha384-ecp256",
        "aes256-sha256-modp2048",
    ];
    let text = printed(VENDOR, IkeVersion::V2, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes256gcm16-prfsha256-ecp256, aes128-sha256-prfsha256-modp2048, aes256-sha512-prfsha512-x25519\n",
            "(ESP): chacha20poly1305-ecp256, aes256-sha384-ecp256, aes256-sha256-modp2048\n",
            "enc-algorithm=aes-256,aes-128 hash-algorithm=sha512 dh-group=ecp256,modp2048 ",
            "enc-algorithms=aes-256-gcm auth-algorithms=null pfs-group=ecp256 ",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V2, |peering| {
        proposing(peering, &ike[..1], &esp)
    });
    assert_inexpressible(none, "ike_proposals", "aes256gcm16");
}

#[test]
fn what_a_script_would_act_on_is_escaped() {
    let text = printed_with_key(VENDOR, IkeVersion::V2, "a\"$b?\\\nc").unwrap();
    assert_has(&text, &["secret=\"a\\\"\\$b\\?\\\\\\0Ac\" "]);
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.peer_identity = identity
        })
    };
    assert_has(
        &with(IkeIdentity::Fqdn("a$b".into())).unwrap(),
        &["my-id=\"fqdn:a\\$b\" "],
    );
    assert_inexpressible(with(IkeIdentity::Fqdn("a\nb".into())), "peer_identity", "'\\n'");
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        peering.plan.options.aggressive_mode = true
    });
    assert_has(&text.unwrap(), &["exchange-mode=aggressive\n"]);
    let with = |version| {
        printed(VENDOR, version, |peering| {
            peering.plan.options.certificate = Some(certificate())
        })
    };
    let certified = with(IkeVersion::V2).unwrap();
    assert_has(
        &certified,
        &["auth-method=digital-signature certificate=office-berlin my-id="],
    );
    assert_lacks(&certified, &["secret="]);
    assert_inexpressible(with(IkeVersion::V1), "auth_method", "IKEv2");
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "address=2001:db8:1::2/128 ",
            "src-address=fd00:2::/64 dst-address=fd00:1::/64\n",
            "src-address=10.2.0.0/24",
        ],
    );
}
