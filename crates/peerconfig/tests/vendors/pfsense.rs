//! The words of pfSense's pages.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::PfSense;

#[test]
fn a_phase_2_has_one_group_and_phase_1_of_ikev1_no_cipher_with_its_own_check() {
    let ike = ["aes256gcm16-prfsha256-ecp256", "aes256-sha256-prfsha256-modp2048"];
    let esp = ["aes256gcm16-ecp256", "aes256-sha256-modp2048"];
    let text = printed(VENDOR, IkeVersion::V1, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "Negotiation mode         Main\n",
            "Encryption Algorithm     AES 256 bits, Hash SHA256, PRF SHA256, DH Group 14 (modp2048)\n",
            "(IKE): aes256gcm16-prfsha256-ecp256\n",
            "Encryption Algorithm     AES256-GCM 128 bits\n",
            "PFS key group            19 (ecp256)\n",
            "(ESP): aes256-sha256-modp2048\n",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &ike[..1], &esp)
    });
    assert_inexpressible(none, "ike_proposals", "aes256gcm16");
    let hybrid = ["aes256gcm16-prfsha256-ecp256-mlkem768"];
    let none = printed(VENDOR, IkeVersion::V2, |peering| {
        proposing(peering, &hybrid, &esp)
    });
    assert_inexpressible(none, "ike_proposals", "mlkem768");
}

#[test]
fn a_field_holds_one_line() {
    assert_inexpressible(printed_with_key(VENDOR, IkeVersion::V2, "a\nb"), "psk", "'\\n'");
    let with = |identity| {
        printed(VENDOR, IkeVersion::V2, |peering| {
            peering.plan.local_identity = identity
        })
    };
    assert_inexpressible(with(IkeIdentity::Email("a\nb".into())), "local_identity", "'\\n'");
    assert_has(
        &with(IkeIdentity::KeyId(b"b7".to_vec())).unwrap(),
        &["Peer identifier          KeyID tag b7\n"],
    );
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        peering.plan.options.aggressive_mode = true;
        peering.plan.force_encapsulation = true;
    });
    assert_has(
        &text.unwrap(),
        &[
            "Negotiation mode         Aggressive\n",
            "NAT Traversal            Force\n",
        ],
    );
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &[
            "Mutual Certificate\n",
            "My Certificate",
            "Peer Certificate Authority",
        ],
    );
    assert_lacks(&certified, &["Pre-Shared Key"]);
    let text = printed(VENDOR, IkeVersion::V2, v6).unwrap();
    assert_has(
        &text,
        &[
            "Internet Protocol        IPv6\n",
            "Mode                     Tunnel IPv6\n  Local Network            fd00:2::/64\n",
            "Mode                     Tunnel IPv4\n  Local Network            10.2.0.0/24\n",
        ],
    );
}
