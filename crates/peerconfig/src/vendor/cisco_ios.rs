//! Cisco IOS and IOS XE: a crypto map.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cidr, IkeVersion, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, group_number, key_bits, same_hash};
use crate::view::{View, plain};

const DEVICE: &str = "IOS";

pub(crate) fn render(view: &View) -> String {
    let mut text =
        String::from("! Enter in configuration mode; apply the crypto map to the outside interface.\n");
    match view.version {
        IkeVersion::V1 => ikev1(view, &mut text),
        IkeVersion::V2 => ikev2(view, &mut text),
    }
    let name = &view.name;
    let esp = Worded::of(&view.esp, esp_word);
    text.push_str(&esp.comment("!", DEVICE, "ESP"));
    for (number, words) in esp.words.iter().enumerate() {
        let _ = writeln!(
            text,
            "crypto ipsec transform-set {name}-{number} {words}\n mode tunnel"
        );
    }
    let _ = writeln!(text, "ip access-list extended {name}-traffic");
    for (local, remote) in view.pairs() {
        let _ = writeln!(text, " permit ip {} {}", wildcard(local), wildcard(remote));
    }
    let sets: Vec<String> = (0..esp.words.len())
        .map(|number| format!("{name}-{number}"))
        .collect();
    let _ = writeln!(text, "crypto map {name}-map 10 ipsec-isakmp");
    let _ = writeln!(text, " set peer {}", view.remote_address);
    let _ = writeln!(text, " set transform-set {}", sets.join(" "));
    if view.version == IkeVersion::V2 {
        let _ = writeln!(text, " set ikev2-profile {name}-profile");
    }
    if let Some(group) = view.esp.iter().find_map(|suite| suite.pfs) {
        let _ = writeln!(text, " set pfs group{}", group_number(group));
    }
    let _ = writeln!(
        text,
        " set security-association lifetime seconds {}",
        view.esp_lifetime
    );
    let _ = writeln!(text, " match address {name}-traffic");
    text
}

fn ikev2(view: &View, text: &mut String) {
    let name = &view.name;
    let ike = Worded::of(&view.ike, ikev2_words);
    text.push_str(&ike.comment("!", DEVICE, "IKE"));
    for (number, words) in ike.words.iter().enumerate() {
        let _ = writeln!(text, "crypto ikev2 proposal {name}-{number}\n{words}");
    }
    let _ = writeln!(text, "crypto ikev2 policy {name}-policy");
    for number in 0..ike.words.len() {
        let _ = writeln!(text, " proposal {name}-{number}");
    }
    let _ = write!(
        text,
        "crypto ikev2 keyring {name}-keyring
 peer {name}
  address {remote}
  pre-shared-key {key}
crypto ikev2 profile {name}-profile
 match identity remote {remote_id}
 identity local {local_id}
 authentication remote pre-share
 authentication local pre-share
 keyring local {name}-keyring
 lifetime {lifetime}
 dpd {dpd} 5 periodic
",
        remote = view.remote_address,
        key = view.key(),
        remote_id = identity(&view.remote_id),
        local_id = identity(&view.local_id),
        lifetime = view.ike_lifetime,
        dpd = view.dpd_delay.max(10),
    );
}

fn ikev1(view: &View, text: &mut String) {
    let ike = Worded::of(&view.ike, ikev1_words);
    text.push_str(&ike.comment("!", DEVICE, "IKE"));
    for (number, words) in ike.words.iter().enumerate() {
        let _ = writeln!(
            text,
            "crypto isakmp policy {}\n{words}\n authentication pre-share\n lifetime {}",
            10 * (number + 1),
            view.ike_lifetime
        );
    }
    let _ = writeln!(
        text,
        "crypto isakmp key {} address {}",
        view.key(),
        view.remote_address
    );
    let _ = writeln!(
        text,
        "crypto isakmp keepalive {} 5 periodic",
        view.dpd_delay.max(10)
    );
    if !matches!(view.local_id, IkeIdentity::Address(_)) {
        let _ = writeln!(
            text,
            "! The identity {} is sent only if it is the router's host name.\ncrypto isakmp identity hostname",
            plain(&view.local_id)
        );
    }
}

fn ikev2_words(suite: &IkeSuite) -> Option<String> {
    if suite.additional.is_some() {
        return None;
    }
    let encryption = match family(suite.encryption) {
        Family::Cbc => format!("aes-cbc-{}", key_bits(suite.encryption)?),
        Family::Gcm(16) => match key_bits(suite.encryption)? {
            192 => return None,
            bits => format!("aes-gcm-{bits}"),
        },
        Family::TripleDes => "3des".into(),
        Family::Gcm(_) | Family::ChaCha20 => return None,
    };
    let group = group_number(suite.dh);
    if group > 21 || group == 17 || group == 18 {
        return None;
    }
    let check = match suite.integrity {
        // The integrity algorithm is the pseudo-random function too.
        Some(integrity) if same_hash(integrity, suite.prf) => format!(" integrity {}", hash(integrity)),
        Some(_) => return None,
        None => format!(" prf {}", prf(suite.prf)),
    };
    Some(format!(" encryption {encryption}\n{check}\n group {group}"))
}

fn ikev1_words(suite: &IkeSuite) -> Option<String> {
    let encryption = match family(suite.encryption) {
        Family::Cbc => format!("aes {}", key_bits(suite.encryption)?),
        Family::TripleDes => "3des".into(),
        Family::Gcm(_) | Family::ChaCha20 => return None,
    };
    let integrity = suite
        .integrity
        .filter(|integrity| same_hash(*integrity, suite.prf))?;
    let group = group_number(suite.dh);
    (group <= 21).then(|| {
        format!(
            " encryption {encryption}\n hash {}\n group {group}",
            hash(integrity).replace("sha1", "sha")
        )
    })
}

fn esp_word(suite: &EspSuite) -> Option<String> {
    if suite.additional.is_some() {
        return None;
    }
    let cipher = match (family(suite.encryption), suite.integrity) {
        (Family::Cbc, Some(_)) => format!("esp-aes {}", key_bits(suite.encryption)?),
        (Family::Gcm(16), None) => return Some(format!("esp-gcm {}", key_bits(suite.encryption)?)),
        (Family::TripleDes, Some(_)) => "esp-3des".into(),
        (Family::Cbc | Family::ChaCha20 | Family::Gcm(_) | Family::TripleDes, _) => return None,
    };
    Some(format!(
        "{cipher} esp-{}-hmac",
        hash(suite.integrity?).replace("sha1", "sha")
    ))
}

const fn hash(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacMd5_96 => "md5",
        Integrity::HmacSha1_96 => "sha1",
        Integrity::HmacSha2_256_128 => "sha256",
        Integrity::HmacSha2_384_192 => "sha384",
        Integrity::HmacSha2_512_256 => "sha512",
    }
}

const fn prf(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacMd5 => "md5",
        Prf::HmacSha1 => "sha1",
        Prf::HmacSha2_256 => "sha256",
        Prf::HmacSha2_384 => "sha384",
        Prf::HmacSha2_512 => "sha512",
    }
}

fn identity(identity: &IkeIdentity) -> String {
    let text = plain(identity);
    match identity {
        IkeIdentity::Address(_) => format!("address {text}"),
        IkeIdentity::Fqdn(_) => format!("fqdn {text}"),
        IkeIdentity::DistinguishedName(_) => format!("dn {text}"),
        IkeIdentity::Email(_) => format!("email {text}"),
        IkeIdentity::KeyId(_) => format!("key-id {text}"),
    }
}

/// Address and wildcard mask, as access lists have them.
fn wildcard(range: Cidr) -> String {
    let net = range.net();
    match (net.network(), net.hostmask()) {
        (std::net::IpAddr::V4(network), std::net::IpAddr::V4(mask)) => format!("{network} {mask}"),
        (network, _) => format!("{network}/{}", net.prefix_len()),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::Encryption;

    use super::*;

    #[test]
    fn a_cipher_without_words_is_left_out() {
        let suite = EspSuite {
            encryption: Encryption::ChaCha20Poly1305,
            integrity: None,
            pfs: None,
            additional: None,
        };
        assert_eq!(esp_word(&suite), None);
    }
}
