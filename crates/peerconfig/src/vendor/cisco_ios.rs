//! Cisco IOS and IOS XE: a crypto map.
//!
//! Words as in Cisco's command references "Security" for IOS XE 17, against which the lists below were not checked
//! again (`crypto ikev2 proposal`, `crypto ikev2 profile`, `crypto isakmp policy`, `crypto ipsec transform-set`, `set
//! pfs`, `set aggressive-mode`). The groups are 1, 2, 5, 14, 15, 16, 19, 20, 21 and 24; GCM for IKE has keys of 128 and
//! 256 bits; IKEv1 protects its messages by CBC. A crypto map carries IPv4. The name of a certificate is not entered:
//! the router takes it from the certificate, and matches others by a certificate map.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cidr, Cipher, DhGroup, IkeVersion, Integrity, Prf};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded, with_one_group};
use crate::text::{ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, SHARED_KEY, plain, without};
use crate::view::{Method, Phase1, View};

const DEVICE: &str = "IOS";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    view.require_ipv4(
        DEVICE,
        "a crypto map carries IPv4 only: use a virtual tunnel interface with mode ipsec ipv6",
    )?;
    let mut text =
        String::from("! Enter in configuration mode; apply the crypto map to the outside interface.\n");
    if view.method == Method::Certificates {
        text.push_str(
            "! The trustpoint of this name must hold the router's certificate and the authority.\n",
        );
    }
    text.push_str(&view.ike.remark("!", "IKE"));
    match view.version {
        IkeVersion::V1 => ikev1(view, &mut text)?,
        IkeVersion::V2 => ikev2(view, &mut text)?,
    }
    let name = &view.name;
    let (pfs, esp) = with_one_group(&view.esp.suites, esp_word);
    text.push_str(&view.esp.remark("!", "ESP"));
    text.push_str(&esp.remark("!", DEVICE, ESP_PROPOSALS)?);
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
    if let Some(group) = pfs {
        let _ = writeln!(text, " set pfs group{}", group.number());
    }
    let _ = writeln!(
        text,
        " set security-association lifetime seconds {}",
        view.esp_lifetime
    );
    let _ = writeln!(text, " match address {name}-traffic");
    Ok(text)
}

fn ikev2(view: &View, text: &mut String) -> Result<(), Inexpressible> {
    let name = &view.name;
    let ike = Worded::of(&view.ike.suites, ikev2_words);
    text.push_str(&ike.remark("!", DEVICE, IKE_PROPOSALS)?);
    for (number, words) in ike.words.iter().enumerate() {
        let _ = writeln!(text, "crypto ikev2 proposal {name}-{number}\n{words}");
    }
    let _ = writeln!(text, "crypto ikev2 policy {name}-policy");
    for number in 0..ike.words.len() {
        let _ = writeln!(text, " proposal {name}-{number}");
    }
    let remote_id = identity(OUR_IDENTITY, &view.remote_id, view.method)?;
    let local_id = identity(PEER_IDENTITY, &view.local_id, view.method)?;
    if view.method == Method::SharedKey {
        let _ = write!(
            text,
            "crypto ikev2 keyring {name}-keyring
 peer {name}
  address {remote}
  pre-shared-key {key}
",
            remote = view.remote_address,
            key = key(view)?,
        );
    }
    let _ = writeln!(text, "crypto ikev2 profile {name}-profile");
    match remote_id {
        Some(words) => {
            let _ = writeln!(text, " match identity remote {words}");
        }
        None => {
            let _ = writeln!(text, " match certificate {name}-map");
        }
    }
    let _ = writeln!(text, " identity local {}", local_id.as_deref().unwrap_or("dn"));
    let (method, credentials) = match view.method {
        Method::SharedKey => ("pre-share", format!("keyring local {name}-keyring")),
        Method::Certificates => ("rsa-sig", format!("pki trustpoint {name}")),
    };
    let _ = write!(
        text,
        " authentication remote {method}
 authentication local {method}
 {credentials}
 lifetime {lifetime}
 dpd {dpd} 5 periodic
",
        lifetime = view.ike_lifetime,
        dpd = view.dpd_delay.max(10),
    );
    Ok(())
}

fn ikev1(view: &View, text: &mut String) -> Result<(), Inexpressible> {
    let ike = Worded::of(&view.ike.suites, ikev1_words);
    text.push_str(&ike.remark("!", DEVICE, IKE_PROPOSALS)?);
    let method = match view.method {
        Method::SharedKey => "pre-share",
        Method::Certificates => "rsa-sig",
    };
    for (number, words) in ike.words.iter().enumerate() {
        let _ = writeln!(
            text,
            "crypto isakmp policy {}\n{words}\n authentication {method}\n lifetime {}",
            10 * (number + 1),
            view.ike_lifetime
        );
    }
    let aggressive = view.phase_1 == Phase1::Aggressive;
    if view.method == Method::SharedKey {
        let key = without(DEVICE, SHARED_KEY, key(view)?, char::is_whitespace)?;
        if aggressive {
            let _ = writeln!(
                text,
                "crypto isakmp peer address {}\n set aggressive-mode password {key}\n set aggressive-mode client-endpoint {}",
                view.remote_address,
                client_endpoint(&view.local_id)?
            );
        }
        let _ = writeln!(text, "crypto isakmp key {key} address {}", view.remote_address);
    }
    let _ = writeln!(
        text,
        "crypto isakmp keepalive {} 5 periodic",
        view.dpd_delay.max(10)
    );
    match &view.local_id {
        IkeIdentity::Address(_) => {}
        IkeIdentity::DistinguishedName(_) if view.method == Method::Certificates => {
            text.push_str("crypto isakmp identity dn\n");
        }
        IkeIdentity::Fqdn(_) => {
            let _ = writeln!(
                text,
                "! The identity {} is sent only if it is the router's host name.\ncrypto isakmp identity hostname",
                plain(DEVICE, PEER_IDENTITY, &view.local_id)?
            );
        }
        IkeIdentity::Email(_) if aggressive => {}
        other @ (IkeIdentity::DistinguishedName(_) | IkeIdentity::Email(_) | IkeIdentity::KeyId(_)) => {
            return Err(Inexpressible::new(
                DEVICE,
                PEER_IDENTITY,
                format!(
                    "in IKEv1 main mode it shows its address or its host name, not {}",
                    plain(DEVICE, PEER_IDENTITY, other)?
                ),
            ));
        }
    }
    Ok(())
}

fn client_endpoint(identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let text = word(PEER_IDENTITY, identity)?;
    match identity {
        IkeIdentity::Address(_) => Ok(format!("ipv4-address {text}")),
        IkeIdentity::Fqdn(_) => Ok(format!("fqdn {text}")),
        IkeIdentity::Email(_) => Ok(format!("user-fqdn {text}")),
        IkeIdentity::DistinguishedName(_) | IkeIdentity::KeyId(_) => Err(Inexpressible::new(
            DEVICE,
            PEER_IDENTITY,
            "in aggressive mode it shows an address, a name or a mail address",
        )),
    }
}

/// A question mark asks for help, whatever stands before it.
fn key(view: &View) -> Result<&str, Inexpressible> {
    without(DEVICE, SHARED_KEY, view.key(DEVICE)?, |character| {
        character == '?'
    })
}

const fn has_group(group: DhGroup) -> bool {
    matches!(group.number(), 2 | 5 | 14 | 15 | 16 | 19 | 20 | 21)
}

fn ikev2_words(suite: &IkeSuite) -> Option<String> {
    if suite.additional.is_some() || !has_group(suite.dh) {
        return None;
    }
    let encryption = match suite.encryption.cipher() {
        Cipher::AesCbc => format!("aes-cbc-{}", suite.encryption.key_bits()?),
        Cipher::AesGcm { icv_len: 16 } => match suite.encryption.key_bits()? {
            192 => return None,
            bits => format!("aes-gcm-{bits}"),
        },
        Cipher::TripleDesCbc => "3des".into(),
        Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => return None,
    };
    let check = match suite.integrity {
        // The integrity algorithm is the pseudo-random function too.
        Some(integrity) if integrity.prf() == suite.prf => format!(" integrity {}", hash(integrity)),
        Some(_) => return None,
        None => format!(" prf {}", prf(suite.prf)),
    };
    let group = suite.dh.number();
    Some(format!(" encryption {encryption}\n{check}\n group {group}"))
}

fn ikev1_words(suite: &IkeSuite) -> Option<String> {
    if suite.additional.is_some() || !has_group(suite.dh) {
        return None;
    }
    let encryption = match suite.encryption.cipher() {
        Cipher::AesCbc => format!("aes {}", suite.encryption.key_bits()?),
        Cipher::TripleDesCbc => "3des".into(),
        Cipher::AesGcm { .. } | Cipher::ChaCha20Poly1305 => return None,
    };
    let integrity = suite.integrity.filter(|integrity| integrity.prf() == suite.prf)?;
    Some(format!(
        " encryption {encryption}\n hash {}\n group {}",
        hash(integrity).replace("sha1", "sha"),
        suite.dh.number()
    ))
}

fn esp_word(suite: &EspSuite) -> Option<String> {
    if suite.additional.is_some() || !suite.pfs.is_none_or(has_group) {
        return None;
    }
    let cipher = match (suite.encryption.cipher(), suite.integrity) {
        (Cipher::AesCbc, Some(_)) => format!("esp-aes {}", suite.encryption.key_bits()?),
        (Cipher::AesGcm { icv_len: 16 }, None) => {
            return Some(format!("esp-gcm {}", suite.encryption.key_bits()?));
        }
        (Cipher::TripleDesCbc, Some(_)) => "esp-3des".into(),
        (Cipher::AesCbc | Cipher::ChaCha20Poly1305 | Cipher::AesGcm { .. } | Cipher::TripleDesCbc, _) => {
            return None;
        }
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

/// The words for an identity; none for a name that is taken from a certificate.
fn identity(
    field: &'static str,
    identity: &IkeIdentity,
    method: Method,
) -> Result<Option<String>, Inexpressible> {
    let kind = match identity {
        IkeIdentity::Address(_) => "address",
        IkeIdentity::Fqdn(_) => "fqdn",
        IkeIdentity::Email(_) => "email",
        IkeIdentity::KeyId(_) => "key-id",
        IkeIdentity::DistinguishedName(_) if method == Method::Certificates => return Ok(None),
        IkeIdentity::DistinguishedName(_) => {
            return Err(Inexpressible::new(
                DEVICE,
                field,
                "a distinguished name comes from a certificate only",
            ));
        }
    };
    Ok(Some(format!("{kind} {}", word(field, identity)?)))
}

fn word(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    let text = plain(DEVICE, field, identity)?;
    let is_wrong = |character: char| character.is_whitespace() || "?\"".contains(character);
    without(DEVICE, field, &text, is_wrong).map(str::to_owned)
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
