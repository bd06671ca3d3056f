//! Juniper Junos: a route-based tunnel with traffic selectors.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{IkeVersion, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, group_number, key_bits, same_hash};
use crate::view::{View, plain, quoted};

const DEVICE: &str = "Junos";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, ike_words);
    let esp = Worded::of(&view.esp, esp_words);
    let name = &view.name;
    let mut text = String::from("# Choose the outside interface and a free st0 unit.\n");
    text.push_str(&ike.comment("#", DEVICE, "IKE"));
    text.push_str(&esp.comment("#", DEVICE, "ESP"));
    for (number, words) in ike.words.iter().enumerate() {
        let proposal = format!("set security ike proposal {name}-{number}");
        let _ = writeln!(text, "{proposal} authentication-method pre-shared-keys");
        for word in words {
            let _ = writeln!(text, "{proposal} {word}");
        }
        let _ = writeln!(text, "{proposal} lifetime-seconds {}", view.ike_lifetime);
    }
    let policy = format!("set security ike policy {name}");
    if view.version == IkeVersion::V1 {
        let _ = writeln!(text, "{policy} mode main");
    }
    for number in 0..ike.words.len() {
        let _ = writeln!(text, "{policy} proposals {name}-{number}");
    }
    let _ = writeln!(text, "{policy} pre-shared-key ascii-text {}", view.quoted_key());
    let gateway = format!("set security ike gateway {name}");
    let _ = writeln!(text, "{gateway} ike-policy {name}");
    let _ = writeln!(text, "{gateway} address {}", view.remote_address);
    let _ = writeln!(text, "{gateway} external-interface ge-0/0/0.0");
    let _ = writeln!(text, "{gateway} local-identity {}", identity(&view.local_id));
    let _ = writeln!(text, "{gateway} remote-identity {}", identity(&view.remote_id));
    let _ = writeln!(
        text,
        "{gateway} version {}",
        match view.version {
            IkeVersion::V1 => "v1-only",
            IkeVersion::V2 => "v2-only",
        }
    );
    let _ = writeln!(
        text,
        "{gateway} dead-peer-detection interval {} threshold {}",
        view.dpd_delay.clamp(10, 60),
        (view.dpd_timeout / view.dpd_delay.max(1)).clamp(1, 5)
    );
    for (number, words) in esp.words.iter().enumerate() {
        let proposal = format!("set security ipsec proposal {name}-{number}");
        let _ = writeln!(text, "{proposal} protocol esp");
        for word in words {
            let _ = writeln!(text, "{proposal} {word}");
        }
        let _ = writeln!(text, "{proposal} lifetime-seconds {}", view.esp_lifetime);
    }
    let policy = format!("set security ipsec policy {name}");
    for number in 0..esp.words.len() {
        let _ = writeln!(text, "{policy} proposals {name}-{number}");
    }
    if let Some(group) = view.esp.iter().find_map(|suite| suite.pfs) {
        let _ = writeln!(
            text,
            "{policy} perfect-forward-secrecy keys group{}",
            group_number(group)
        );
    }
    let vpn = format!("set security ipsec vpn {name}");
    let _ = writeln!(text, "{vpn} bind-interface st0.0");
    let _ = writeln!(text, "{vpn} ike gateway {name}");
    let _ = writeln!(text, "{vpn} ike ipsec-policy {name}");
    for (number, (local, remote)) in view.pairs().enumerate() {
        let _ = writeln!(
            text,
            "{vpn} traffic-selector net{number} local-ip {local} remote-ip {remote}"
        );
    }
    let _ = writeln!(text, "{vpn} establish-tunnels immediately");
    text
}

fn ike_words(suite: &IkeSuite) -> Option<Vec<String>> {
    let group = group_number(suite.dh);
    if suite.additional.is_some() || group == 17 || group == 18 || group == 31 {
        return None;
    }
    let mut words = vec![format!("dh-group group{group}")];
    let bits = key_bits(suite.encryption);
    match (family(suite.encryption), suite.integrity) {
        (Family::Cbc, Some(integrity)) if same_hash(integrity, suite.prf) => {
            words.push(format!("authentication-algorithm {}", hash(integrity)));
            words.push(format!("encryption-algorithm aes-{}-cbc", bits?));
        }
        (Family::TripleDes, Some(integrity)) if same_hash(integrity, suite.prf) => {
            words.push(format!("authentication-algorithm {}", hash(integrity)));
            words.push("encryption-algorithm 3des-cbc".into());
        }
        // With these the pseudo-random function is not chosen: it is SHA-256.
        (Family::Gcm(16), None) if suite.prf == Prf::HmacSha2_256 && bits != Some(192) => {
            words.push(format!("encryption-algorithm aes-{}-gcm", bits?));
        }
        (Family::Cbc | Family::ChaCha20 | Family::Gcm(_) | Family::TripleDes, _) => return None,
    }
    Some(words)
}

fn esp_words(suite: &EspSuite) -> Option<Vec<String>> {
    if suite.additional.is_some() {
        return None;
    }
    let bits = key_bits(suite.encryption);
    Some(match (family(suite.encryption), suite.integrity) {
        (Family::Cbc, Some(integrity)) => vec![
            format!("authentication-algorithm {}", esp_hash(integrity)?),
            format!("encryption-algorithm aes-{}-cbc", bits?),
        ],
        (Family::TripleDes, Some(integrity)) => vec![
            format!("authentication-algorithm {}", esp_hash(integrity)?),
            "encryption-algorithm 3des-cbc".into(),
        ],
        (Family::Gcm(16), None) => vec![format!("encryption-algorithm aes-{}-gcm", bits?)],
        (Family::Cbc | Family::ChaCha20 | Family::Gcm(_) | Family::TripleDes, _) => return None,
    })
}

const fn hash(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacMd5_96 => "md5",
        Integrity::HmacSha1_96 => "sha1",
        Integrity::HmacSha2_256_128 => "sha-256",
        Integrity::HmacSha2_384_192 => "sha-384",
        Integrity::HmacSha2_512_256 => "sha-512",
    }
}

const fn esp_hash(integrity: Integrity) -> Option<&'static str> {
    match integrity {
        Integrity::HmacMd5_96 => Some("hmac-md5-96"),
        Integrity::HmacSha1_96 => Some("hmac-sha1-96"),
        Integrity::HmacSha2_256_128 => Some("hmac-sha-256-128"),
        Integrity::HmacSha2_384_192 => Some("hmac-sha-384"),
        Integrity::HmacSha2_512_256 => Some("hmac-sha-512"),
    }
}

fn identity(identity: &IkeIdentity) -> String {
    let text = quoted(&plain(identity));
    match identity {
        IkeIdentity::Address(_) => format!("inet {}", plain(identity)),
        IkeIdentity::Fqdn(_) => format!("hostname {text}"),
        IkeIdentity::DistinguishedName(_) => format!("distinguished-name container {text}"),
        IkeIdentity::Email(_) => format!("user-at-hostname {text}"),
        IkeIdentity::KeyId(_) => format!("key-id {text}"),
    }
}
