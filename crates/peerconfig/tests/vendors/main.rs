//! What is printed for each vendor: a file of facts for each, and the whole text of one connection compared with files.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "only the crate does without files, not what compares its output with them; what is wrong shall stop a test"
)]

mod anywhere;
mod cisco_ios;
mod fortios;
mod golden;
mod junos;
mod libreswan;
mod mikrotik;
mod pfsense;
mod strongswan;

use isthmus_hostplan::{ConnectionPlan, DpdAction, EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_peerconfig::{Inexpressible, Peering, Vendor, configuration};
use isthmus_types::{
    AdditionalKeyExchange, CertificateOptions, DhGroup, Encryption, EspProposal, IkeProposal, IkeVersion,
    Integrity, Prf, ResourceBits, Secret, TunnelOptions, VpnConnectionId,
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

fn certificate() -> CertificateOptions {
    CertificateOptions {
        chain: "a chain".to_owned(),
        private_key: Secret::new("very private".to_owned()),
        authorities: "an authority".to_owned(),
        revocation_lists: String::new(),
        require_revocation_list: false,
    }
}

/// What is printed for a vendor after `change`, without the key.
fn printed(
    vendor: Vendor,
    version: IkeVersion,
    change: impl FnOnce(&mut Peering),
) -> Result<String, Inexpressible> {
    let mut peering = peering(version);
    change(&mut peering);
    configuration(vendor, &peering, None)
}

/// What is printed for a vendor with this key.
fn printed_with_key(vendor: Vendor, version: IkeVersion, key: &str) -> Result<String, Inexpressible> {
    configuration(vendor, &peering(version), Some(&Secret::new(key.to_owned())))
}

/// The same with proposals in our words alone: `aes256gcm16-prfsha384-ecp384`, `aes256-sha256-modp2048`.
fn proposing(peering: &mut Peering, ike: &[&str], esp: &[&str]) {
    peering.plan.ike_proposals = ike.iter().map(|words| ike_proposal(words)).collect();
    peering.plan.esp_proposals = esp.iter().map(|words| esp_proposal(words)).collect();
}

fn found<T>(words: &str, of_word: impl Fn(&str) -> Option<T>) -> Vec<T> {
    words.split('-').filter_map(of_word).collect()
}

fn ike_proposal(words: &str) -> IkeProposal {
    IkeProposal {
        encryption: found(words, Encryption::from_word),
        integrity: found(words, Integrity::from_word),
        prf: found(words, Prf::from_word),
        dh: found(words, DhGroup::from_word),
        additional: found(words, AdditionalKeyExchange::from_word),
    }
}

fn esp_proposal(words: &str) -> EspProposal {
    EspProposal {
        encryption: found(words, Encryption::from_word),
        integrity: found(words, Integrity::from_word),
        pfs: found(words, DhGroup::from_word),
        additional: found(words, AdditionalKeyExchange::from_word),
    }
}

/// Makes sure that every part stands in the text, in this order.
fn assert_has(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("no {part:?}, or not after the parts before it, in\n{text}");
        };
        rest = after;
    }
}

fn assert_lacks(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(!text.contains(part), "{part:?} in\n{text}");
    }
}

/// Makes sure that there is no text but an error about `field`.
fn assert_inexpressible(outcome: Result<String, Inexpressible>, field: &str, why: &str) {
    let error = outcome.unwrap_err();
    assert!(error.field == field && error.why.contains(why), "{error}");
    assert!(error.to_string().contains(field), "{error}");
}

fn v6(peering: &mut Peering) {
    peering.public_address = "2001:db8:1::2".parse().unwrap();
    peering.plan.peer = PeerEndpoint::Address {
        address: "2001:db8:2::2".parse().unwrap(),
    };
    peering.plan.local_identity = IkeIdentity::Address("2001:db8:1::2".parse().unwrap());
    peering.plan.peer_identity = IkeIdentity::Address("2001:db8:2::2".parse().unwrap());
    peering.plan.local_cidrs = vec!["fd00:1::/64".parse().unwrap(), "10.1.0.0/24".parse().unwrap()];
    peering.plan.peer_cidrs = vec!["fd00:2::/64".parse().unwrap(), "10.2.0.0/24".parse().unwrap()];
}

/// Every combination of a long list, as automatic negotiation has it.
fn everything(peering: &mut Peering) {
    peering.plan.ike_proposals = vec![IkeProposal {
        encryption: Encryption::ALL.to_vec(),
        integrity: Integrity::ALL.to_vec(),
        prf: Prf::ALL.to_vec(),
        dh: DhGroup::ALL.to_vec(),
        additional: Vec::new(),
    }];
}
