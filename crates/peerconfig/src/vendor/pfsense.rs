//! pfSense: the fields of its pages, as it has no other way in.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{DhGroup, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, group_number, key_bits};
use crate::view::{View, plain};

const DEVICE: &str = "pfSense";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, ike_words);
    let esp = Worded::of(&view.esp, esp_words);
    let mut text = String::from("VPN > IPsec > Tunnels > Add P1\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<24} {value}");
    };
    line("Description", &view.name);
    line("Key Exchange version", &format!("IKEv{}", view.version_number()));
    line("Remote Gateway", &view.remote_address);
    line("Authentication Method", "Mutual PSK");
    line("My identifier", &identity(&view.local_id));
    line("Peer identifier", &identity(&view.remote_id));
    line("Pre-Shared Key", view.key());
    for words in &ike.words {
        line("Encryption Algorithm", words);
    }
    line("Life Time", &view.ike_lifetime.to_string());
    line("Dead Peer Detection", &format!("on, Delay {}", view.dpd_delay));
    text.push_str(&ike.comment("  #", DEVICE, "IKE"));
    for (local, remote) in view.pairs() {
        text.push_str("VPN > IPsec > Tunnels > Show Phase 2 Entries > Add P2\n");
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<24} {value}");
        };
        line("Mode", "Tunnel IPv4");
        line("Local Network", &local.to_string());
        line("Remote Network", &remote.to_string());
        line("Protocol", "ESP");
        for words in &esp.words {
            line("Encryption Algorithm", words);
        }
        let pfs = view.esp.iter().find_map(|suite| suite.pfs);
        line("PFS key group", &pfs.map_or_else(|| "off".to_owned(), group));
        line("Life Time", &view.esp_lifetime.to_string());
    }
    text.push_str(&esp.comment("  #", DEVICE, "ESP"));
    text
}

fn ike_words(suite: &IkeSuite) -> Option<String> {
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
    match family(encryption) {
        Family::Cbc => key_bits(encryption).map(|bits| format!("AES {bits} bits")),
        Family::Gcm(icv) => {
            key_bits(encryption).map(|bits| format!("AES{bits}-GCM {} bits", u16::from(icv) * 8))
        }
        Family::ChaCha20 => Some("CHACHA20-POLY1305".into()),
        Family::TripleDes => Some("3DES".into()),
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
    format!("{} ({group})", group_number(group))
}

fn identity(identity: &IkeIdentity) -> String {
    let text = plain(identity);
    match identity {
        IkeIdentity::Address(_) => format!("IP address {text}"),
        IkeIdentity::Fqdn(_) => format!("Fully qualified domain name {text}"),
        IkeIdentity::DistinguishedName(_) => format!("ASN.1 distinguished Name {text}"),
        IkeIdentity::Email(_) => format!("User fully qualified domain name {text}"),
        IkeIdentity::KeyId(_) => format!("KeyID tag {text}"),
    }
}
