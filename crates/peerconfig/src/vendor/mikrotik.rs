//! MikroTik RouterOS 7.
//!
//! Source: MikroTik's manual of IPsec, RouterOS 7 (`/ip ipsec profile`, `proposal`, `peer`, `identity`, `policy`). The groups are 1
//! to 5 and 14 to 21. A profile has one hash, and no cipher with its own integrity check; a proposal has one group for
//! PFS and no SHA-384. A policy is of one family.

use std::fmt::Write as _;
use std::net::IpAddr;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cipher, DhGroup, IkeVersion, Integrity};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded, with_one_group};
use crate::text::{AUTHENTICATION, ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, plain};
use crate::view::{Method, Phase1, View};

const DEVICE: &str = "RouterOS";

/// One combination for a profile.
#[derive(PartialEq)]
struct Phase1Words {
    cipher: String,
    hash: &'static str,
    group: &'static str,
}

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let first = view.ike.suites.iter().find_map(ike_words);
    let hash = first.map_or("sha256", |words| words.hash);
    // Of one hash all: a profile has no other.
    let ike = Worded::of(&view.ike.suites, |suite| {
        ike_words(suite).filter(|words| words.hash == hash)
    });
    let (pfs, esp) = with_one_group(&view.esp.suites, esp_words);
    let name = &view.name;
    let mut text = String::from("# Exempt the ranges from source NAT before this.\n");
    text.push_str(&view.ike.remark("#", "IKE"));
    text.push_str(&ike.remark("#", DEVICE, IKE_PROPOSALS)?);
    text.push_str(&view.esp.remark("#", "ESP"));
    text.push_str(&esp.remark("#", DEVICE, ESP_PROPOSALS)?);
    let _ = writeln!(
        text,
        "/ip ipsec profile add name={name} enc-algorithm={} hash-algorithm={hash} dh-group={} lifetime={}s \
         dpd-interval={}s nat-traversal=yes",
        distinct(ike.words.iter().map(|words| words.cipher.as_str())),
        distinct(ike.words.iter().map(|words| words.group)),
        view.ike_lifetime,
        view.dpd_delay
    );
    let hashes = distinct(esp.words.iter().filter_map(|words| words.1));
    let _ = writeln!(
        text,
        "/ip ipsec proposal add name={name} enc-algorithms={} auth-algorithms={} pfs-group={} lifetime={}s",
        distinct(esp.words.iter().map(|words| words.0.as_str())),
        if hashes.is_empty() { "null" } else { &hashes },
        pfs.and_then(group).unwrap_or("none"),
        view.esp_lifetime
    );
    let _ = writeln!(
        text,
        "/ip ipsec peer add name={name} address={}/{} profile={name} exchange-mode={}",
        view.remote_address,
        match view.remote_address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        },
        match (view.version, view.phase_1) {
            (IkeVersion::V1, Phase1::Aggressive) => "aggressive",
            (IkeVersion::V1, Phase1::Main) => "main",
            (IkeVersion::V2, _) => "ike2",
        }
    );
    let method = match (view.method, view.version) {
        (Method::SharedKey, _) => format!("pre-shared-key secret={}", quoted(view.any_key())),
        (Method::Certificates, IkeVersion::V2) => {
            text.push_str("# The certificate of this name and its authority must be imported.\n");
            format!("digital-signature certificate={name}")
        }
        (Method::Certificates, IkeVersion::V1) => {
            return Err(Inexpressible::new(
                DEVICE,
                AUTHENTICATION,
                "certificates are documented for IKEv2 here: use that",
            ));
        }
    };
    let _ = writeln!(
        text,
        "/ip ipsec identity add peer={name} auth-method={method} my-id={} remote-id={}",
        identity(PEER_IDENTITY, &view.local_id)?,
        identity(OUR_IDENTITY, &view.remote_id)?
    );
    for (local, remote) in view.pairs() {
        let _ = writeln!(
            text,
            "/ip ipsec policy add peer={name} proposal={name} tunnel=yes level=unique src-address={local} \
             dst-address={remote}"
        );
    }
    Ok(text)
}

fn ike_words(suite: &IkeSuite) -> Option<Phase1Words> {
    let integrity = suite
        .integrity
        .filter(|integrity| suite.additional.is_none() && integrity.prf() == suite.prf)?;
    let cipher = match suite.encryption.cipher() {
        Cipher::AesCbc => format!("aes-{}", suite.encryption.key_bits()?),
        Cipher::TripleDesCbc => "3des".into(),
        Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => return None,
    };
    Some(Phase1Words {
        cipher,
        hash: hash(integrity)?,
        group: group(suite.dh)?,
    })
}

fn esp_words(suite: &EspSuite) -> Option<(String, Option<&'static str>)> {
    if suite.additional.is_some() || suite.pfs.is_some_and(|pfs| group(pfs).is_none()) {
        return None;
    }
    let cipher = match suite.encryption.cipher() {
        Cipher::AesCbc => format!("aes-{}-cbc", suite.encryption.key_bits()?),
        Cipher::AesGcm { icv_len: 16 } => format!("aes-{}-gcm", suite.encryption.key_bits()?),
        Cipher::TripleDesCbc => "3des".into(),
        Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => return None,
    };
    match suite.integrity {
        Some(integrity) => Some((cipher, Some(hash(integrity)?))),
        None => Some((cipher, None)),
    }
}

const fn hash(integrity: Integrity) -> Option<&'static str> {
    match integrity {
        Integrity::HmacMd5_96 => Some("md5"),
        Integrity::HmacSha1_96 => Some("sha1"),
        Integrity::HmacSha2_256_128 => Some("sha256"),
        Integrity::HmacSha2_512_256 => Some("sha512"),
        Integrity::HmacSha2_384_192 => None,
    }
}

const fn group(group: DhGroup) -> Option<&'static str> {
    match group {
        DhGroup::Modp1024 => Some("modp1024"),
        DhGroup::Modp1536 => Some("modp1536"),
        DhGroup::Modp2048 => Some("modp2048"),
        DhGroup::Modp3072 => Some("modp3072"),
        DhGroup::Modp4096 => Some("modp4096"),
        DhGroup::Modp6144 => Some("modp6144"),
        DhGroup::Modp8192 => Some("modp8192"),
        DhGroup::Ecp256 => Some("ecp256"),
        DhGroup::Ecp384 => Some("ecp384"),
        DhGroup::Ecp521 => Some("ecp521"),
        DhGroup::X25519 => None,
    }
}

/// Each once, with commas between.
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<&str> = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found.join(",")
}

fn identity(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let text = plain(DEVICE, field, identity)?;
    Ok(match identity {
        IkeIdentity::Address(_) => format!("address:{text}"),
        IkeIdentity::Fqdn(_) => quoted(&format!("fqdn:{text}")),
        IkeIdentity::DistinguishedName(_) => quoted(&format!("dn:{text}")),
        IkeIdentity::Email(_) => quoted(&format!("user-fqdn:{text}")),
        IkeIdentity::KeyId(_) => quoted(&format!("key-id:{text}")),
    })
}

/// Text between double quotes. What a script would act on stands after a backslash, and what cannot be seen as two digits.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' | '$' | '?' => {
                quoted.push('\\');
                quoted.push(character);
            }
            other if other.is_control() && other.is_ascii() => {
                let _ = write!(quoted, "\\{:02X}", u32::from(other));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
