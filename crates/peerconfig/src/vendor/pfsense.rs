//! pfSense: the fields of its pages, as it has no other way in.
//!
//! Words as on its pages of IPsec tunnels (phase 1 and phase 2 settings), release 2.7, not checked against a device.
//! Its daemon is strongSwan: the ciphers with their own integrity check stand in phase 1 of IKEv2 only. A phase 2 has
//! one PFS key group, and one family.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cipher, DhGroup, IkeVersion, Integrity, Prf};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded, with_one_group};
use crate::text::{ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, plain};
use crate::view::{Encapsulation, Method, Phase1, View};

const DEVICE: &str = "pfSense";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let ike = Worded::of(&view.ike.suites, |suite| ike_words(suite, view.version));
    let (pfs, esp) = with_one_group(&view.esp.suites, esp_words);
    let mut text = String::from("VPN > IPsec > Tunnels > Add P1\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<24} {value}");
    };
    line("Description", &view.name);
    line("Key Exchange version", &format!("IKEv{}", view.version_number()));
    line("Internet Protocol", family_of(view.remote_address.is_ipv6()));
    line("Remote Gateway", &view.remote_address.to_string());
    let method = match view.method {
        Method::Certificates => "Mutual Certificate",
        Method::SharedKey => "Mutual PSK",
    };
    line("Authentication Method", method);
    if view.version == IkeVersion::V1 {
        let mode = match view.phase_1 {
            Phase1::Aggressive => "Aggressive",
            Phase1::Main => "Main",
        };
        line("Negotiation mode", mode);
    }
    line("My identifier", &identity(PEER_IDENTITY, &view.local_id)?);
    line("Peer identifier", &identity(OUR_IDENTITY, &view.remote_id)?);
    match view.method {
        Method::SharedKey => line("Pre-Shared Key", view.key(DEVICE)?),
        Method::Certificates => {
            line("My Certificate", "its certificate, imported with its key");
            line("Peer Certificate Authority", "the authority of ours");
        }
    }
    for words in &ike.words {
        line("Encryption Algorithm", words);
    }
    line("Life Time", &view.ike_lifetime.to_string());
    line("Dead Peer Detection", &format!("on, Delay {}", view.dpd_delay));
    let nat = match view.encapsulation {
        Encapsulation::Always => "Force",
        Encapsulation::BehindNat => "Auto",
    };
    line("NAT Traversal", nat);
    text.push_str(&view.ike.remark("  #", "IKE"));
    text.push_str(&ike.remark("  #", DEVICE, IKE_PROPOSALS)?);
    for (local, remote) in view.pairs() {
        text.push_str("VPN > IPsec > Tunnels > Show Phase 2 Entries > Add P2\n");
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<24} {value}");
        };
        line(
            "Mode",
            &format!("Tunnel {}", family_of(local.network().is_ipv6())),
        );
        line("Local Network", &local.to_string());
        line("Remote Network", &remote.to_string());
        line("Protocol", "ESP");
        for words in &esp.words {
            line("Encryption Algorithm", words);
        }
        line("PFS key group", &pfs.map_or_else(|| "off".to_owned(), group));
        line("Life Time", &view.esp_lifetime.to_string());
    }
    text.push_str(&view.esp.remark("  #", "ESP"));
    text.push_str(&esp.remark("  #", DEVICE, ESP_PROPOSALS)?);
    Ok(text)
}

const fn family_of(is_ipv6: bool) -> &'static str {
    if is_ipv6 { "IPv6" } else { "IPv4" }
}

fn ike_words(suite: &IkeSuite, version: IkeVersion) -> Option<String> {
    if version == IkeVersion::V1 && suite.encryption.is_aead() {
        return None;
    }
    let cipher = cipher(suite.encryption)?;
    let check = match suite.integrity {
        Some(integrity) => format!("Hash {}, PRF {}", hash(integrity), prf(suite.prf)),
        None => format!("Hash {} (used as PRF)", prf(suite.prf)),
    };
    suite
        .additional
        .is_none()
        .then(|| format!("{cipher}, {check}, DH Group {}", group(suite.dh)))
}

fn esp_words(suite: &EspSuite) -> Option<String> {
    let cipher = cipher(suite.encryption)?;
    if suite.additional.is_some() {
        return None;
    }
    Some(match suite.integrity {
        Some(integrity) => format!("{cipher}, Hash {}", hash(integrity)),
        None => cipher,
    })
}

fn cipher(encryption: isthmus_types::Encryption) -> Option<String> {
    match encryption.cipher() {
        Cipher::AesCbc => encryption.key_bits().map(|bits| format!("AES {bits} bits")),
        Cipher::AesGcm { icv_len: icv } => encryption
            .key_bits()
            .map(|bits| format!("AES{bits}-GCM {} bits", u16::from(icv) * 8)),
        Cipher::ChaCha20Poly1305 => Some("CHACHA20-POLY1305".into()),
        Cipher::TripleDesCbc => Some("3DES".into()),
    }
}

const fn hash(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacMd5_96 => "MD5",
        Integrity::HmacSha1_96 => "SHA1",
        Integrity::HmacSha2_256_128 => "SHA256",
        Integrity::HmacSha2_384_192 => "SHA384",
        Integrity::HmacSha2_512_256 => "SHA512",
    }
}

const fn prf(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacMd5 => "MD5",
        Prf::HmacSha1 => "SHA1",
        Prf::HmacSha2_256 => "SHA256",
        Prf::HmacSha2_384 => "SHA384",
        Prf::HmacSha2_512 => "SHA512",
    }
}

fn group(group: DhGroup) -> String {
    format!("{} ({group})", group.number())
}

fn identity(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let text = plain(DEVICE, field, identity)?;
    Ok(match identity {
        IkeIdentity::Address(_) => format!("IP address {text}"),
        IkeIdentity::Fqdn(_) => format!("Fully qualified domain name {text}"),
        IkeIdentity::DistinguishedName(_) => format!("ASN.1 distinguished Name {text}"),
        IkeIdentity::Email(_) => format!("User fully qualified domain name {text}"),
        IkeIdentity::KeyId(_) => format!("KeyID tag {text}"),
    })
}
