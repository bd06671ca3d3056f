//! libreswan: `ipsec.conf` and `ipsec.secrets`.

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{DhGroup, Encryption, IkeVersion, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, group_number, key_bits, same_hash};
use crate::view::{View, plain, ranges};

const DEVICE: &str = "libreswan";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, |suite| ike_word(suite, view.version));
    let esp = Worded::of(&view.esp, |suite| esp_word(suite, view.version));
    let pfs = view.esp.iter().any(|suite| suite.pfs.is_some());
    let mut text = format!("# /etc/ipsec.d/{}.conf\n", view.name);
    text.push_str(&ike.comment("#", DEVICE, "IKE"));
    text.push_str(&esp.comment("#", DEVICE, "ESP"));
    text.push_str(&format!(
        "conn {name}
    ikev2={version}
    authby=secret
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
    ikelifetime={ike_lifetime}s
    salifetime={esp_lifetime}s
    dpddelay={dpd_delay}
    dpdtimeout={dpd_timeout}
    dpdaction=restart
    auto=start

# /etc/ipsec.d/{name}.secrets
# {local_id} {remote_id} : PSK {key}
",
        name = view.name,
        version = match view.version {
            IkeVersion::V1 => "no",
            IkeVersion::V2 => "insist",
        },
        local = view.local_address.as_deref().unwrap_or("%defaultroute"),
        local_id = identity(&view.local_id),
        local_ranges = ranges(&view.local_ranges, " "),
        remote = view.remote_address,
        remote_id = identity(&view.remote_id),
        remote_ranges = ranges(&view.remote_ranges, " "),
        ike = ike.words.join(","),
        esp = esp.words.join(","),
        pfs = if pfs { "yes" } else { "no" },
        ike_lifetime = view.ike_lifetime,
        esp_lifetime = view.esp_lifetime,
        dpd_delay = view.dpd_delay,
        dpd_timeout = view.dpd_timeout,
        key = secret(view.key()),
    ));
    text
}

/// In IKEv1 it protects messages with CBC alone, and has elliptic curves for the IKE SA but not for Child SAs. It has group 2 in
/// neither.
fn ike_word(suite: &IkeSuite, version: IkeVersion) -> Option<String> {
    if version == IkeVersion::V1 && suite.encryption.is_aead() {
        return None;
    }
    let cipher = cipher(suite.encryption)?;
    let suits = suite
        .integrity
        .is_none_or(|integrity| same_hash(integrity, suite.prf));
    (suits && suite.additional.is_none()).then(|| format!("{cipher}-{}-{}", prf(suite.prf), group(suite.dh)))
}

fn esp_word(suite: &EspSuite, version: IkeVersion) -> Option<String> {
    let cipher = cipher(suite.encryption)?;
    let integrity = match suite.integrity {
        Some(integrity) => format!("-{}", hash(integrity)),
        None => "-null".to_owned(),
    };
    if suite.pfs == Some(DhGroup::Modp1024) {
        return None;
    }
    let modular = suite.pfs.is_none_or(|pfs| group_number(pfs) < 19);
    if version == IkeVersion::V1 && (!modular || suite.encryption == Encryption::ChaCha20Poly1305) {
        return None;
    }
    let group = suite
        .pfs
        .map_or_else(String::new, |pfs| format!("-{}", group(pfs)));
    suite
        .additional
        .is_none()
        .then(|| format!("{cipher}{integrity}{group}"))
}

fn cipher(encryption: Encryption) -> Option<String> {
    match family(encryption) {
        Family::Cbc => key_bits(encryption).map(|bits| format!("aes{bits}")),
        Family::Gcm(16) => key_bits(encryption).map(|bits| format!("aes_gcm{bits}")),
        Family::Gcm(icv) => key_bits(encryption).map(|bits| format!("aes_gcm_{icv}_{bits}")),
        Family::ChaCha20 => Some("chacha20_poly1305".into()),
        Family::TripleDes => Some("3des".into()),
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
    format!("dh{}", group_number(group))
}

fn identity(identity: &IkeIdentity) -> String {
    let text = plain(identity);
    match identity {
        IkeIdentity::Address(_) | IkeIdentity::Email(_) => text,
        IkeIdentity::DistinguishedName(_) => format!("\"{text}\""),
        IkeIdentity::Fqdn(_) => format!("@{text}"),
        IkeIdentity::KeyId(_) => format!("@#0x{text}"),
    }
}

/// Nothing is escaped between quotes: a key with both kinds of them is written as its bytes.
fn secret(key: &str) -> String {
    if !key.contains(['"', '\n']) {
        format!("\"{key}\"")
    } else if !key.contains(['\'', '\n']) {
        format!("'{key}'")
    } else {
        let digits: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("0x{digits}")
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
