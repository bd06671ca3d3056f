//! MikroTik RouterOS 7.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{DhGroup, IkeVersion, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, key_bits, same_hash};
use crate::view::{View, plain, quoted};

const DEVICE: &str = "RouterOS";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, ike_words);
    let esp = Worded::of(&view.esp, esp_words);
    let name = &view.name;
    let mut text = String::from("# Exempt the ranges from source NAT before this.\n");
    text.push_str(&ike.comment("#", DEVICE, "IKE"));
    text.push_str(&esp.comment("#", DEVICE, "ESP"));
    let list = |place: usize| -> String {
        let mut found: Vec<&str> = Vec::new();
        for words in &ike.words {
            if !found.contains(&words[place].as_str()) {
                found.push(words[place].as_str());
            }
        }
        found.join(",")
    };
    if ike.words.iter().any(|words| words[1] != ike.words[0][1]) {
        text.push_str("# A profile has one hash: the first is entered, the others are left out.\n");
    }
    let hash = ike.words.first().map_or("sha256", |words| words[1].as_str());
    let _ = writeln!(
        text,
        "/ip ipsec profile add name={name} enc-algorithm={} hash-algorithm={hash} dh-group={} lifetime={}s \
         dpd-interval={}s nat-traversal=yes",
        list(0),
        list(2),
        view.ike_lifetime,
        view.dpd_delay
    );
    let ciphers: Vec<&str> = distinct(esp.words.iter().map(|words| words.0.as_str()));
    let hashes: Vec<&str> = distinct(esp.words.iter().filter_map(|words| words.1));
    let pfs = esp.words.first().map_or("none", |words| words.2);
    let _ = writeln!(
        text,
        "/ip ipsec proposal add name={name} enc-algorithms={} auth-algorithms={} pfs-group={pfs} lifetime={}s",
        ciphers.join(","),
        if hashes.is_empty() {
            "null".to_owned()
        } else {
            hashes.join(",")
        },
        view.esp_lifetime
    );
    let _ = writeln!(
        text,
        "/ip ipsec peer add name={name} address={}/32 profile={name} exchange-mode={}",
        view.remote_address,
        match view.version {
            IkeVersion::V1 => "main",
            IkeVersion::V2 => "ike2",
        }
    );
    let _ = writeln!(
        text,
        "/ip ipsec identity add peer={name} auth-method=pre-shared-key secret={} my-id={} remote-id={}",
        view.quoted_key().replace('$', "\\$"),
        identity(&view.local_id),
        identity(&view.remote_id)
    );
    for (local, remote) in view.pairs() {
        let _ = writeln!(
            text,
            "/ip ipsec policy add peer={name} proposal={name} tunnel=yes level=unique src-address={local} \
             dst-address={remote}"
        );
    }
    text
}

fn ike_words(suite: &IkeSuite) -> Option<[String; 3]> {
    let integrity = suite
        .integrity
        .filter(|integrity| same_hash(*integrity, suite.prf))?;
    let cipher = match family(suite.encryption) {
        Family::Cbc => format!("aes-{}", key_bits(suite.encryption)?),
        Family::TripleDes => "3des".into(),
        Family::Gcm(_) | Family::ChaCha20 => return None,
    };
    let hash = match (integrity, suite.prf) {
        (Integrity::HmacMd5_96, _) => "md5",
        (Integrity::HmacSha1_96, _) => "sha1",
        (Integrity::HmacSha2_256_128, Prf::HmacSha2_256) => "sha256",
        (Integrity::HmacSha2_384_192, _) => "sha384",
        (Integrity::HmacSha2_512_256 | Integrity::HmacSha2_256_128, _) => "sha512",
    };
    let dh = group(suite.dh)?;
    suite
        .additional
        .is_none()
        .then(|| [cipher, hash.to_owned(), dh.to_owned()])
}

fn esp_words(suite: &EspSuite) -> Option<(String, Option<&'static str>, &'static str)> {
    if suite.additional.is_some() {
        return None;
    }
    let pfs = match suite.pfs {
        Some(pfs) => group(pfs)?,
        None => "none",
    };
    let cipher = match family(suite.encryption) {
        Family::Cbc => format!("aes-{}-cbc", key_bits(suite.encryption)?),
        Family::Gcm(16) => format!("aes-{}-gcm", key_bits(suite.encryption)?),
        Family::TripleDes => "3des".into(),
        Family::ChaCha20 => "chacha20poly1305".into(),
        Family::Gcm(_) => return None,
    };
    let hash = match suite.integrity {
        Some(Integrity::HmacMd5_96) => Some("md5"),
        Some(Integrity::HmacSha1_96) => Some("sha1"),
        Some(Integrity::HmacSha2_256_128) => Some("sha256"),
        Some(Integrity::HmacSha2_512_256) => Some("sha512"),
        Some(Integrity::HmacSha2_384_192) => return None,
        None => None,
    };
    Some((cipher, hash, pfs))
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
        DhGroup::X25519 => Some("x25519"),
    }
}

fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

fn identity(identity: &IkeIdentity) -> String {
    let text = plain(identity);
    match identity {
        IkeIdentity::Address(_) => format!("address:{text}"),
        IkeIdentity::Fqdn(_) => quoted(&format!("fqdn:{text}")),
        IkeIdentity::DistinguishedName(_) => quoted(&format!("dn:{text}")),
        IkeIdentity::Email(_) => quoted(&format!("user-fqdn:{text}")),
        IkeIdentity::KeyId(_) => quoted(&format!("key-id:{text}")),
    }
}
