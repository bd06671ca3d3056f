//! What is printed for each vendor, compared with files. `REGENERATE=1` writes them anew.

#![expect(
    clippy::disallowed_methods,
    reason = "only the crate does without files, not what compares its output with them"
)]

use std::fs;
use std::path::PathBuf;

use isthmus_hostplan::{ConnectionPlan, DpdAction, EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_peerconfig::{Peering, Vendor, configuration};
use isthmus_types::{
    DhGroup, Encryption, EspProposal, IkeProposal, IkeVersion, Integrity, Prf, ResourceBits, Secret,
    TunnelOptions, VpnConnectionId,
};

const KEY: &str = "a \"quoted\" key";

fn peering(version: IkeVersion) -> Peering {
    let plan = ConnectionPlan {
        connection: VpnConnectionId::from(ResourceBits::from_random(1)),
        name: "Office Berlin".to_owned(),
        admin_up: true,
        reset_count: 0,
        version,
        peer: PeerEndpoint::Address {
            address: "203.0.113.2".parse().expect("it is one"),
        },
        local_identity: IkeIdentity::Address("198.51.100.2".parse().expect("it is one")),
        peer_identity: IkeIdentity::Fqdn("berlin.example".to_owned()),
        psk: Secret::new(KEY.to_owned()),
        establish: EstablishMode::Bidirectional,
        ike_proposals: vec![
            IkeProposal {
                encryption: vec![Encryption::Aes256Cbc],
                integrity: vec![Integrity::HmacSha2_256_128],
                prf: vec![Prf::HmacSha2_256],
                dh: vec![DhGroup::Modp2048, DhGroup::Ecp256],
                additional: Vec::new(),
            },
            IkeProposal {
                encryption: vec![Encryption::ChaCha20Poly1305],
                integrity: Vec::new(),
                prf: vec![Prf::HmacSha2_256],
                dh: vec![DhGroup::X25519],
                additional: Vec::new(),
            },
        ],
        esp_proposals: vec![
            EspProposal {
                encryption: vec![Encryption::Aes256Gcm16, Encryption::Aes128Gcm12],
                integrity: Vec::new(),
                pfs: vec![DhGroup::Modp2048],
                additional: Vec::new(),
            },
            EspProposal {
                encryption: vec![Encryption::Aes256Cbc],
                integrity: vec![Integrity::HmacSha2_256_128],
                pfs: vec![DhGroup::Modp2048],
                additional: Vec::new(),
            },
        ],
        local_cidrs: vec![
            "10.1.0.0/24".parse().expect("it is one"),
            "10.1.1.0/24".parse().expect("it is one"),
        ],
        peer_cidrs: vec!["10.2.0.0/16".parse().expect("it is one")],
        ike_lifetime_seconds: 28_800,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::Restart,
        dpd_interval_seconds: 10,
        dpd_timeout_seconds: 30,
        force_encapsulation: false,
        options: TunnelOptions::default(),
    };
    Peering {
        public_address: "198.51.100.2".parse().expect("it is one"),
        plan,
    }
}

#[test]
fn every_vendor_gets_what_its_file_says() {
    let regenerate = std::env::var_os("REGENERATE").is_some();
    for vendor in Vendor::ALL {
        for (version, suffix) in [(IkeVersion::V2, ""), (IkeVersion::V1, "-ikev1")] {
            let text = configuration(vendor, &peering(version), None);
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("tests/golden")
                .join(format!("{}{suffix}.txt", vendor.word()));
            if regenerate {
                fs::write(&path, &text).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(text, expected, "{}", path.display());
        }
    }
}

#[test]
fn the_key_is_shown_only_if_it_is_given() {
    let given = Secret::new("kept to ourselves".to_owned());
    for vendor in Vendor::ALL {
        let peering = peering(IkeVersion::V2);
        let without = configuration(vendor, &peering, None);
        assert!(
            !without.contains(given.reveal()) && !without.contains("quoted"),
            "{without}"
        );
        assert!(without.contains("REPLACE-WITH-THE-SHARED-KEY"), "{without}");
        assert!(configuration(vendor, &peering, Some(&given)).contains(given.reveal()));
    }
}

#[test]
fn what_is_handed_out_has_no_secrets() {
    let full = peering(IkeVersion::V2);
    let bare = Peering::without_secrets(full.public_address, full.plan);
    assert_eq!(bare.plan.psk.reveal(), "");
    assert_eq!(bare.plan.options.certificate, None);
}

#[test]
fn a_key_cannot_break_out_of_its_quotes() {
    let key = Secret::new("x\"\n}\\".to_owned());
    let text = configuration(Vendor::StrongSwan, &peering(IkeVersion::V2), Some(&key));
    assert!(text.contains("secret = \"x\\\"\n}\\\\\""), "{text}");
}

#[test]
fn words_name_vendors() {
    for vendor in Vendor::ALL {
        assert_eq!(Vendor::from_word(vendor.word()), Some(vendor));
    }
    assert_eq!(Vendor::from_word("netscreen"), None);
}
