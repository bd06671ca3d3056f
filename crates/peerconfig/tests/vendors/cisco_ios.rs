//! The words of Cisco IOS and IOS XE.

use isthmus_hostplan::IkeIdentity;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{
    assert_has, assert_inexpressible, assert_lacks, certificate, printed, printed_with_key, proposing, v6,
};

const VENDOR: Vendor = Vendor::CiscoIos;

#[test]
fn groups_and_ciphers_are_those_of_its_lists() {
    let ike = [
        "aes192gcm16-prfsha256-ecp256",
        "aes256gcm16-prfsha384-ecp384",
        "aes256-sha256-prfsha256-modp6144",
        "aes256-sha256-prfsha256-x25519",
        "chacha20poly1305-prfsha256-ecp256",
    ];
    let esp = [
        "aes256gcm16-x25519",
        "aes256gcm16-ecp384",
        "aes256-sha256-ecp384",
        "aes256-sha256-ecp256",
    ];
    let text = printed(VENDOR, IkeVersion::V2, |peering| proposing(peering, &ike, &esp)).unwrap();
    assert_has(
        &text,
        &[
            "(IKE): aes192gcm16-prfsha256-ecp256, aes256-sha256-prfsha256-modp6144, aes256-sha256-prfsha256-x25519, ",
            " encryption aes-gcm-256\n prf sha384\n group 20\n",
            // One setting for all: that of the first which it has words for.
            "(ESP): aes256gcm16-x25519, aes256-sha256-ecp256\n",
            "-0 esp-gcm 256\n",
            "-1 esp-aes 256 esp-sha256-hmac\n",
            " set pfs group20\n",
        ],
    );
    let none = printed(VENDOR, IkeVersion::V2, |peering| {
        proposing(peering, &ike[1..2], &esp[..1])
    });
    assert_inexpressible(none, "esp_proposals", "x25519");
    let none = printed(VENDOR, IkeVersion::V1, |peering| {
        proposing(peering, &ike[1..2], &esp[1..2])
    });
    assert_inexpressible(none, "ike_proposals", "aes256gcm16");
}

#[test]
fn identities_are_those_that_it_can_show() {
    let with = |version, identity| printed(VENDOR, version, |peering| peering.plan.peer_identity = identity);
    let v2 = |identity| with(IkeVersion::V2, identity);
    assert_has(
        &v2(IkeIdentity::KeyId(b"branch7".to_vec())).unwrap(),
        &[" identity local key-id branch7\n"],
    );
    assert_has(
        &v2(IkeIdentity::Email("a@b.example".into())).unwrap(),
        &[" identity local email a@b.example\n"],
    );
    assert_inexpressible(v2(IkeIdentity::KeyId(vec![1])), "peer_identity", "");
    assert_inexpressible(v2(IkeIdentity::Fqdn("a?b".into())), "peer_identity", "'?'");
    assert_inexpressible(v2(IkeIdentity::Fqdn("a b".into())), "peer_identity", "' '");
    let name = IkeIdentity::DistinguishedName("CN=gw".into());
    assert_inexpressible(v2(name.clone()), "peer_identity", "certificate");
    assert_inexpressible(with(IkeVersion::V1, name), "peer_identity", "host name");
}

#[test]
fn a_key_that_would_be_read_as_something_else_is_refused() {
    let with = |version, key| printed_with_key(VENDOR, version, key);
    assert_inexpressible(with(IkeVersion::V2, "a?b"), "psk", "'?'");
    assert_inexpressible(with(IkeVersion::V2, "a\nb"), "psk", "'\\n'");
    assert_inexpressible(with(IkeVersion::V1, "two words"), "psk", "' '");
    assert_has(
        &with(IkeVersion::V2, "two words").unwrap(),
        &[" pre-shared-key two words\n"],
    );
}

#[test]
fn what_a_connection_asks_for_is_said() {
    let text = printed(VENDOR, IkeVersion::V1, |peering| {
        peering.plan.options.aggressive_mode = true
    });
    assert_has(
        &text.unwrap(),
        &[
            "crypto isakmp peer address 198.51.100.2\n set aggressive-mode password ",
            " set aggressive-mode client-endpoint fqdn berlin.example\n",
        ],
    );
    let certified = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.options.certificate = Some(certificate());
        peering.plan.peer_identity = IkeIdentity::DistinguishedName("CN=gw".into());
    });
    let certified = certified.unwrap();
    assert_has(
        &certified,
        &[
            " identity local dn\n",
            " authentication local rsa-sig\n",
            " pki trustpoint office-berlin\n",
        ],
    );
    assert_lacks(&certified, &["keyring", "pre-share"]);
    assert_inexpressible(
        printed(VENDOR, IkeVersion::V2, v6),
        "gateway_address",
        "IPv4 only",
    );
    let inside = printed(VENDOR, IkeVersion::V2, |peering| {
        peering.plan.peer_cidrs = vec!["fd00:2::/64".parse().unwrap()];
    });
    assert_inexpressible(inside, "cidrs", "IPv4 only");
}
