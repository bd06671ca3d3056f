//! Juniper Junos: a route-based tunnel with traffic selectors.
//!
//! Source: the Junos CLI reference (`[edit security ike]`, `[edit security ipsec]`), edition of 2024. The groups are 1, 2, 5, 14,
//! 15, 16, 19, 20, 21 and 24, for PFS too; GCM for IKE has keys of 128 and 256 bits, stands in IKEv2 only and takes SHA-256 as
//! its pseudo-random function. A device shows a distinguished name only out of its certificate.

use std::fmt::Write as _;
use std::net::IpAddr;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cipher, DhGroup, IkeVersion, Integrity, Prf};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded, with_one_group};
use crate::text::{ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, plain, quoted};
use crate::view::{Method, Phase1, View};

const DEVICE: &str = "Junos";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let ike = Worded::of(&view.ike.suites, |suite| ike_words(suite, view.version));
    let (pfs, esp) = with_one_group(&view.esp.suites, esp_words);
    let name = &view.name;
    let mut text = String::from("# Choose the outside interface and a free st0 unit.\n");
    if view.method == Method::Certificates {
        text.push_str("# The certificate and the authority (ca-profile) of this name must be loaded.\n");
    }
    text.push_str(&view.ike.remark("#", "IKE"));
    text.push_str(&ike.remark("#", DEVICE, IKE_PROPOSALS)?);
    text.push_str(&view.esp.remark("#", "ESP"));
    text.push_str(&esp.remark("#", DEVICE, ESP_PROPOSALS)?);
    let method = match (view.method, view.version) {
        (Method::SharedKey, _) => "pre-shared-keys",
        (Method::Certificates, IkeVersion::V1) => "rsa-signatures",
        (Method::Certificates, IkeVersion::V2) => "certificates",
    };
    for (number, words) in ike.words.iter().enumerate() {
        let proposal = format!("set security ike proposal {name}-{number}");
        let _ = writeln!(text, "{proposal} authentication-method {method}");
        for word in words {
            let _ = writeln!(text, "{proposal} {word}");
        }
        let _ = writeln!(text, "{proposal} lifetime-seconds {}", view.ike_lifetime);
    }
    let policy = format!("set security ike policy {name}");
    if view.version == IkeVersion::V1 {
        let mode = match view.phase_1 {
            Phase1::Aggressive => "aggressive",
            Phase1::Main => "main",
        };
        let _ = writeln!(text, "{policy} mode {mode}");
    }
    for number in 0..ike.words.len() {
        let _ = writeln!(text, "{policy} proposals {name}-{number}");
    }
    match view.method {
        Method::SharedKey => {
            let key = quoted(view.key(DEVICE)?);
            let _ = writeln!(text, "{policy} pre-shared-key ascii-text {key}");
        }
        Method::Certificates => {
            let _ = writeln!(text, "{policy} certificate local-certificate {name}");
            let _ = writeln!(text, "{policy} certificate trusted-ca ca-profile {name}");
        }
    }
    gateway(view, &mut text)?;
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
    if let Some(group) = pfs {
        let _ = writeln!(
            text,
            "{policy} perfect-forward-secrecy keys group{}",
            group.number()
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
    Ok(text)
}

fn gateway(view: &View, text: &mut String) -> Result<(), Inexpressible> {
    let name = &view.name;
    let gateway = format!("set security ike gateway {name}");
    let _ = writeln!(text, "{gateway} ike-policy {name}");
    let _ = writeln!(text, "{gateway} address {}", view.remote_address);
    let _ = writeln!(text, "{gateway} external-interface ge-0/0/0.0");
    let local = match &view.local_id {
        IkeIdentity::DistinguishedName(_) if view.method == Method::Certificates => {
            "distinguished-name".to_owned()
        }
        IkeIdentity::DistinguishedName(_) => {
            return Err(Inexpressible::new(
                DEVICE,
                PEER_IDENTITY,
                "it shows a distinguished name only out of its certificate",
            ));
        }
        other @ (IkeIdentity::Address(_)
        | IkeIdentity::Email(_)
        | IkeIdentity::Fqdn(_)
        | IkeIdentity::KeyId(_)) => identity(PEER_IDENTITY, other)?,
    };
    let _ = writeln!(text, "{gateway} local-identity {local}");
    let _ = writeln!(
        text,
        "{gateway} remote-identity {}",
        identity(OUR_IDENTITY, &view.remote_id)?
    );
    let version = match view.version {
        IkeVersion::V1 => "v1-only",
        IkeVersion::V2 => "v2-only",
    };
    let _ = writeln!(text, "{gateway} version {version}");
    let _ = writeln!(
        text,
        "{gateway} dead-peer-detection interval {} threshold {}",
        view.dpd_delay.clamp(10, 60),
        (view.dpd_timeout / view.dpd_delay.max(1)).clamp(1, 5)
    );
    Ok(())
}

const fn has_group(group: DhGroup) -> bool {
    matches!(group.number(), 2 | 5 | 14 | 15 | 16 | 19 | 20 | 21)
}

fn ike_words(suite: &IkeSuite, version: IkeVersion) -> Option<Vec<String>> {
    if suite.additional.is_some() || !has_group(suite.dh) {
        return None;
    }
    let mut words = vec![format!("dh-group group{}", suite.dh.number())];
    let bits = suite.encryption.key_bits();
    match (suite.encryption.cipher(), suite.integrity) {
        (Cipher::AesCbc, Some(integrity)) if integrity.prf() == suite.prf => {
            words.push(format!("authentication-algorithm {}", hash(integrity)));
            words.push(format!("encryption-algorithm aes-{}-cbc", bits?));
        }
        (Cipher::TripleDesCbc, Some(integrity)) if integrity.prf() == suite.prf => {
            words.push(format!("authentication-algorithm {}", hash(integrity)));
            words.push("encryption-algorithm 3des-cbc".into());
        }
        (Cipher::AesGcm { icv_len: 16 }, None)
            if version == IkeVersion::V2 && suite.prf == Prf::HmacSha2_256 && bits != Some(192) =>
        {
            words.push(format!("encryption-algorithm aes-{}-gcm", bits?));
        }
        (Cipher::AesCbc | Cipher::ChaCha20Poly1305 | Cipher::AesGcm { .. } | Cipher::TripleDesCbc, _) => {
            return None;
        }
    }
    Some(words)
}

fn esp_words(suite: &EspSuite) -> Option<Vec<String>> {
    if suite.additional.is_some() || !suite.pfs.is_none_or(has_group) {
        return None;
    }
    let bits = suite.encryption.key_bits();
    Some(match (suite.encryption.cipher(), suite.integrity) {
        (Cipher::AesCbc, Some(integrity)) => vec![
            format!("authentication-algorithm {}", esp_hash(integrity)?),
            format!("encryption-algorithm aes-{}-cbc", bits?),
        ],
        (Cipher::TripleDesCbc, Some(integrity)) => vec![
            format!("authentication-algorithm {}", esp_hash(integrity)?),
            "encryption-algorithm 3des-cbc".into(),
        ],
        (Cipher::AesGcm { icv_len: 16 }, None) => vec![format!("encryption-algorithm aes-{}-gcm", bits?)],
        (Cipher::AesCbc | Cipher::ChaCha20Poly1305 | Cipher::AesGcm { .. } | Cipher::TripleDesCbc, _) => {
            return None;
        }
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

fn identity(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let text = plain(DEVICE, field, identity)?;
    Ok(match identity {
        IkeIdentity::Address(IpAddr::V4(_)) => format!("inet {text}"),
        IkeIdentity::Address(IpAddr::V6(_)) => format!("inet6 {text}"),
        IkeIdentity::Fqdn(_) => format!("hostname {}", quoted(&text)),
        IkeIdentity::DistinguishedName(_) => format!("distinguished-name container {}", quoted(&text)),
        IkeIdentity::Email(_) => format!("user-at-hostname {}", quoted(&text)),
        IkeIdentity::KeyId(_) => format!("key-id {}", quoted(&text)),
    })
}
