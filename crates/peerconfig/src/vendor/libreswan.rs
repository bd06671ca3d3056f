//! libreswan: `ipsec.conf` and `ipsec.secrets`.
//!
//! Source: the manual pages `ipsec.conf(5)` and `ipsec.secrets(5)` of release 4.10, and what its daemon says of algorithms when it
//! reads a connection: as Debian builds it there is no group 2, and IKEv1 has neither AES-GCM nor ChaCha20-Poly1305 for
//! its own messages, nor the latter for ESP.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cipher, DhGroup, Encryption, IkeVersion, Integrity, Prf};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded, with_one_group};
use crate::text::{
    ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, from_the_country_down, hex, without,
};
use crate::view::{Encapsulation, Method, Phase1, View, ranges};

const DEVICE: &str = "libreswan";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let ike = Worded::of(&view.ike.suites, |suite| ike_word(suite, view.version));
    let (pfs, esp) = with_one_group(&view.esp.suites, |suite| esp_word(suite, view.version));
    let local_id = identity(PEER_IDENTITY, &view.local_id)?;
    let remote_id = identity(OUR_IDENTITY, &view.remote_id)?;
    let mut text = format!("# /etc/ipsec.d/{}.conf\n", view.name);
    if view.version == IkeVersion::V1 {
        text.push_str("# `config setup` must have ikev1-policy=accept.\n");
    }
    text.push_str(&view.ike.remark("#", "IKE"));
    text.push_str(&ike.remark("#", DEVICE, IKE_PROPOSALS)?);
    text.push_str(&view.esp.remark("#", "ESP"));
    text.push_str(&esp.remark("#", DEVICE, ESP_PROPOSALS)?);
    let method = match (view.method, view.version) {
        (Method::SharedKey, _) => "authby=secret".to_owned(),
        (Method::Certificates, version) => {
            text.push_str(
                "# The certificate of this name, its key and the authority must be in its NSS database.\n",
            );
            let kinds = match version {
                IkeVersion::V1 => "rsasig",
                IkeVersion::V2 => "rsasig,ecdsa",
            };
            format!(
                "authby={kinds}\n    leftcert={}\n    leftsendcert=always\n    leftrsasigkey=%cert\n    rightrsasigkey=%cert\n    rightca=%same",
                view.name
            )
        }
    };
    let mut more = String::new();
    if view.phase_1 == Phase1::Aggressive {
        more.push_str("    aggressive=yes\n");
    }
    if view.encapsulation == Encapsulation::Always {
        more.push_str("    encapsulation=yes\n");
    }
    let _ = write!(
        text,
        "conn {name}
    ikev2={version}
    {method}
    left={local}
    leftid={local_id}
    leftsubnets={{{local_ranges}}}
    right={remote}
    rightid={remote_id}
    rightsubnets={{{remote_ranges}}}
    ike={ike}
    phase2=esp
    phase2alg={esp}
    pfs={pfs}
{more}    ikelifetime={ike_lifetime}s
    salifetime={esp_lifetime}s
    dpddelay={dpd_delay}
    dpdtimeout={dpd_timeout}
    dpdaction=restart
    auto=start
",
        name = view.name,
        version = match view.version {
            IkeVersion::V1 => "no",
            IkeVersion::V2 => "insist",
        },
        local = view.local_address(DEVICE)?.unwrap_or("%defaultroute"),
        local_ranges = ranges(&view.local_ranges, " "),
        remote = view.remote_address,
        remote_ranges = ranges(&view.remote_ranges, " "),
        ike = ike.words.join(","),
        esp = esp.words.join(","),
        pfs = if pfs.is_some() { "yes" } else { "no" },
        ike_lifetime = view.ike_lifetime,
        esp_lifetime = view.esp_lifetime,
        dpd_delay = view.dpd_delay,
        dpd_timeout = view.dpd_timeout,
    );
    if view.method == Method::SharedKey {
        let _ = write!(
            text,
            "
# /etc/ipsec.d/{name}.secrets
# {local_id} {remote_id} : PSK {key}
",
            name = view.name,
            key = secret(view.any_key()),
        );
    }
    Ok(text)
}

/// In IKEv1 it protects messages with CBC alone, and has elliptic curves for the IKE SA but not for Child SAs. It has group 2 in
/// neither.
fn ike_word(suite: &IkeSuite, version: IkeVersion) -> Option<String> {
    if version == IkeVersion::V1 && suite.encryption.is_aead() {
        return None;
    }
    if suite.dh == DhGroup::Modp1024 || suite.additional.is_some() {
        return None;
    }
    let cipher = cipher(suite.encryption)?;
    let suits = suite
        .integrity
        .is_none_or(|integrity| integrity.prf() == suite.prf);
    suits.then(|| format!("{cipher}-{}-{}", prf(suite.prf), group(suite.dh)))
}

fn esp_word(suite: &EspSuite, version: IkeVersion) -> Option<String> {
    let cipher = cipher(suite.encryption)?;
    let integrity = match suite.integrity {
        Some(integrity) => format!("-{}", hash(integrity)),
        None => "-null".to_owned(),
    };
    if suite.pfs == Some(DhGroup::Modp1024) || suite.additional.is_some() {
        return None;
    }
    let modular = suite.pfs.is_none_or(|pfs| pfs.number() < 19);
    if version == IkeVersion::V1 && (!modular || suite.encryption == Encryption::ChaCha20Poly1305) {
        return None;
    }
    let group = suite
        .pfs
        .map_or_else(String::new, |pfs| format!("-{}", group(pfs)));
    Some(format!("{cipher}{integrity}{group}"))
}

fn cipher(encryption: Encryption) -> Option<String> {
    match encryption.cipher() {
        Cipher::AesCbc => encryption.key_bits().map(|bits| format!("aes{bits}")),
        Cipher::AesGcm { icv_len: 16 } => encryption.key_bits().map(|bits| format!("aes_gcm{bits}")),
        Cipher::AesGcm { icv_len: icv } => encryption.key_bits().map(|bits| format!("aes_gcm_{icv}_{bits}")),
        Cipher::ChaCha20Poly1305 => Some("chacha20_poly1305".into()),
        Cipher::TripleDesCbc => Some("3des".into()),
    }
}

const fn hash(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacMd5_96 => "md5",
        Integrity::HmacSha1_96 => "sha1",
        Integrity::HmacSha2_256_128 => "sha2_256",
        Integrity::HmacSha2_384_192 => "sha2_384",
        Integrity::HmacSha2_512_256 => "sha2_512",
    }
}

const fn prf(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacMd5 => "md5",
        Prf::HmacSha1 => "sha1",
        Prf::HmacSha2_256 => "sha2_256",
        Prf::HmacSha2_384 => "sha2_384",
        Prf::HmacSha2_512 => "sha2_512",
    }
}

fn group(group: DhGroup) -> String {
    format!("dh{}", group.number())
}

/// Nothing can be escaped, in quotes or without.
fn identity(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let word = |text| {
        without(DEVICE, field, text, |character| {
            character.is_whitespace() || "\"'#@,:{}%".contains(character)
        })
    };
    Ok(match identity {
        IkeIdentity::Address(address) => address.to_string(),
        IkeIdentity::Email(text) => match text.split_once('@') {
            Some((name, host)) => format!("{}@{}", word(name)?, word(host)?),
            None => return Err(Inexpressible::new(DEVICE, field, format!("{text} has no @"))),
        },
        IkeIdentity::DistinguishedName(text) => {
            format!("\"{}\"", from_the_country_down(DEVICE, field, text)?)
        }
        IkeIdentity::Fqdn(text) => format!("@{}", word(text)?),
        IkeIdentity::KeyId(bytes) => format!("@#{}", hex(bytes)),
    })
}

/// Nothing is escaped between quotes: a key with both kinds of them is written as its bytes.
fn secret(key: &str) -> String {
    if !key.contains(|character: char| character == '"' || character.is_control()) {
        format!("\"{key}\"")
    } else if !key.contains(|character: char| character == '\'' || character.is_control()) {
        format!("'{key}'")
    } else {
        format!("0x{}", hex(key.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_quoted_with_what_it_does_not_have() {
        assert_eq!(secret("a\\b"), "\"a\\b\"");
        assert_eq!(secret("a\"b"), "'a\"b'");
        assert_eq!(secret("\"'"), "0x2227");
    }
}
