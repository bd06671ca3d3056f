//! What is printed for each vendor, compared with files. `REGENERATE=1` writes them anew.

use std::fs;
use std::path::PathBuf;

use isthmus_hostplan::{IkeIdentity, PeerEndpoint};
use isthmus_peerconfig::{Peering, Vendor, configuration};
use isthmus_types::{IkeVersion, Secret};

use crate::{certificate, peering};

#[test]
fn every_vendor_gets_what_its_file_says() {
    let regenerate = std::env::var_os("REGENERATE").is_some();
    for vendor in Vendor::ALL {
        for (version, suffix) in [(IkeVersion::V2, ""), (IkeVersion::V1, "-ikev1")] {
            let text = configuration(vendor, &peering(version), None).unwrap();
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
    let given = Secret::new("kept-to-ourselves".to_owned());
    for vendor in Vendor::ALL {
        let peering = peering(IkeVersion::V2);
        let without = configuration(vendor, &peering, None).unwrap();
        assert!(
            !without.contains(given.reveal()) && !without.contains("quoted"),
            "{without}"
        );
        assert!(without.contains("REPLACE-WITH-THE-SHARED-KEY"), "{without}");
        let with = configuration(vendor, &peering, Some(&given)).unwrap();
        assert!(with.contains(given.reveal()), "{with}");
    }
}

#[test]
fn what_is_handed_out_has_no_secrets() {
    let mut full = peering(IkeVersion::V2);
    full.plan.options.certificate = Some(certificate());
    let bare = Peering::without_secrets(full.public_address, full.plan);
    assert_eq!(bare.plan.psk.reveal(), "");
    let certificate = bare.plan.options.certificate.unwrap();
    assert_eq!(certificate.private_key.reveal(), "");
    assert!(!certificate.chain.is_empty());
}

#[test]
fn no_private_key_and_no_shared_key_is_printed_where_certificates_are_used() {
    for vendor in Vendor::ALL {
        let mut peering = peering(IkeVersion::V2);
        peering.plan.options.certificate = Some(certificate());
        let text = configuration(vendor, &peering, Some(&Secret::new("kept".to_owned()))).unwrap();
        assert!(!text.contains("very private") && !text.contains("kept"), "{text}");
        assert!(!text.contains("REPLACE-WITH"), "{text}");
    }
}

/// Whatever somebody has put into a name, an identity or a key: the number of lines, and what they begin with, stay the same.
#[test]
fn nothing_that_was_typed_begins_a_line() {
    for vendor in Vendor::ALL {
        for version in [IkeVersion::V1, IkeVersion::V2] {
            for evil in [
                "\nevil",
                "\r\nevil",
                "\"\nevil",
                "'\nevil {",
                "\u{2028}evil",
                "a\u{0}evil",
            ] {
                let key = Secret::new(format!("key{evil}"));
                for place in 0..4 {
                    let mut peering = peering(version);
                    match place {
                        0 => peering.plan.name = format!("name{evil}"),
                        1 => peering.plan.peer_identity = IkeIdentity::Fqdn(format!("name{evil}")),
                        2 => peering.plan.local_identity = IkeIdentity::KeyId(evil.as_bytes().to_vec()),
                        _ => {
                            peering.plan.peer = PeerEndpoint::Name {
                                fqdn: evil.to_owned(),
                            }
                        }
                    }
                    let shown = (place == 0).then_some(&key);
                    let Ok(text) = configuration(vendor, &peering, shown) else {
                        continue;
                    };
                    for line in text.lines() {
                        assert!(!line.trim_start().starts_with("evil"), "{text}");
                    }
                }
            }
        }
    }
}

#[test]
fn words_name_vendors() {
    for vendor in Vendor::ALL {
        assert_eq!(Vendor::from_word(vendor.word()), Some(vendor));
    }
    assert_eq!(Vendor::from_word("netscreen"), None);
}
