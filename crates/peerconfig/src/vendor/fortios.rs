//! Fortinet FortiOS: a route-based tunnel.
//!
//! Words as in Fortinet's CLI reference, release 7 (`config vpn ipsec phase1-interface`, `phase2-interface`). Names
//! have at most 15 characters, as its administration guide says; the lists of algorithms were not checked against it
//! again. The groups are 1, 2, 5, 14 to 21 and 27 to 32. GCM with keys of 128 and 256 bits and ChaCha20-Poly1305 stand
//! in phase 1 of IKEv2 only, and in phase 2 of both versions.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cidr, Cipher, IkeVersion, Integrity, Prf};

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded};
use crate::text::{AUTHENTICATION, ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, plain, quoted};
use crate::view::{Encapsulation, Method, Phase1, View};

const DEVICE: &str = "FortiOS";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let ike = Worded::of(&view.ike.suites, |suite| ike_word(suite, view.version));
    let groups = groups(
        view.ike
            .suites
            .iter()
            .filter(|suite| ike_word(suite, view.version).is_some())
            .map(|suite| suite.dh),
    );
    let name = &view.name;
    let mut text =
        String::from("# Choose the outside interface; routes and firewall policies are the device's own.\n");
    text.push_str(&view.ike.remark("#", "IKE"));
    text.push_str(&ike.remark("#", DEVICE, IKE_PROPOSALS)?);
    if groups.len() > 1 && ike.words.len() > 1 {
        text.push_str("# Every proposal is offered with every group.\n");
    }
    let (ip, gateway) = match view.remote_address {
        std::net::IpAddr::V4(address) => ("4", format!("remote-gw {address}")),
        std::net::IpAddr::V6(address) => ("6", format!("remote-gw6 {address}")),
    };
    let local_id = plain(DEVICE, PEER_IDENTITY, &view.local_id)?;
    let _ = write!(
        text,
        "config vpn ipsec phase1-interface
    edit {name}
        set interface \"wan1\"
        set ip-version {ip}
        set ike-version {version}
",
        version = view.version_number(),
    );
    if view.version == IkeVersion::V1 {
        let mode = match view.phase_1 {
            Phase1::Aggressive => "aggressive",
            Phase1::Main => "main",
        };
        let _ = writeln!(text, "        set mode {mode}");
    }
    let _ = write!(
        text,
        "        set net-device disable
        set proposal {ike}
        set dhgrp {groups}
        set keylife {lifetime}
        set dpd on-idle
        set dpd-retryinterval {dpd}
        set nattraversal {nat}
        set localid-type {local_type}
        set localid {local_id}
        set {gateway}
",
        ike = ike.words.join(" "),
        groups = groups.join(" "),
        lifetime = view.ike_lifetime,
        dpd = view.dpd_delay,
        nat = match view.encapsulation {
            Encapsulation::Always => "forced",
            Encapsulation::BehindNat => "enable",
        },
        local_type = identity_type(&view.local_id),
        local_id = quoted(&local_id),
    );
    authentication(view, &mut text)?;
    text.push_str("    next\nend\n");
    phase_2(view, &mut text)?;
    Ok(text)
}

fn authentication(view: &View, text: &mut String) -> Result<(), Inexpressible> {
    let is_address = matches!(view.remote_id, IkeIdentity::Address(_));
    match view.method {
        Method::SharedKey => {
            let kind = if is_address { "any" } else { "one" };
            let _ = writeln!(text, "        set peertype {kind}");
            if !is_address {
                let id = plain(DEVICE, OUR_IDENTITY, &view.remote_id)?;
                let _ = writeln!(text, "        set peerid {}", quoted(&id));
            }
            let _ = writeln!(text, "        set psksecret {}", quoted(view.key(DEVICE)?));
        }
        Method::Certificates if view.phase_1 == Phase1::Aggressive => {
            return Err(Inexpressible::new(
                DEVICE,
                AUTHENTICATION,
                "certificates go with main mode or IKEv2",
            ));
        }
        Method::Certificates => {
            let name = &view.name;
            let _ = write!(
                text,
                "        # The certificate of this name, and a peer (config user peer) with the authority of ours.
        set authmethod signature
        set certificate {name}
        set peertype peer
        set peer {name}
"
            );
        }
    }
    Ok(())
}

fn phase_2(view: &View, text: &mut String) -> Result<(), Inexpressible> {
    let name = &view.name;
    // With a group or without is one setting; groups are a list of their own.
    let first = view.esp.suites.iter().find(|suite| esp_word(suite).is_some());
    let with_pfs = first.is_some_and(|suite| suite.pfs.is_some());
    let esp = Worded::of(&view.esp.suites, |suite| {
        (suite.pfs.is_some() == with_pfs)
            .then(|| esp_word(suite))
            .flatten()
    });
    let groups = groups(
        view.esp
            .suites
            .iter()
            .filter(|suite| esp_word(suite).is_some())
            .filter_map(|suite| suite.pfs),
    );
    text.push_str(&view.esp.remark("#", "ESP"));
    text.push_str(&esp.remark("#", DEVICE, ESP_PROPOSALS)?);
    text.push_str("config vpn ipsec phase2-interface\n");
    for (number, (local, remote)) in view.pairs().enumerate() {
        let pfs = if with_pfs {
            format!("        set pfs enable\n        set dhgrp {}\n", groups.join(" "))
        } else {
            "        set pfs disable\n".to_owned()
        };
        let _ = write!(
            text,
            "    edit {name}-{number}
        set phase1name {name}
        set proposal {esp}
{pfs}        set keylifeseconds {lifetime}
        set auto-negotiate enable
{src}{dst}    next
",
            esp = esp.words.join(" "),
            lifetime = view.esp_lifetime,
            src = subnet("src", local),
            dst = subnet("dst", remote),
        );
    }
    text.push_str("end\n");
    Ok(())
}

fn groups(groups: impl Iterator<Item = isthmus_types::DhGroup>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for group in groups.map(|group| group.number().to_string()) {
        if !found.contains(&group) {
            found.push(group);
        }
    }
    found
}

fn ike_word(suite: &IkeSuite, version: IkeVersion) -> Option<String> {
    if suite.additional.is_some() || (version == IkeVersion::V1 && suite.encryption.is_aead()) {
        return None;
    }
    let check = match suite.integrity {
        Some(integrity) if integrity.prf() == suite.prf => hash(integrity).to_owned(),
        Some(_) => return None,
        None => format!("prf{}", prf(suite.prf)?),
    };
    let bits = suite.encryption.key_bits();
    match suite.encryption.cipher() {
        Cipher::AesCbc => bits.map(|bits| format!("aes{bits}-{check}")),
        Cipher::AesGcm { icv_len: 16 } => bits
            .filter(|bits| *bits != 192)
            .map(|bits| format!("aes{bits}gcm-{check}")),
        Cipher::ChaCha20Poly1305 => Some(format!("chacha20poly1305-{check}")),
        Cipher::TripleDesCbc => Some(format!("3des-{check}")),
        Cipher::AesGcm { .. } => None,
    }
}

fn esp_word(suite: &EspSuite) -> Option<String> {
    if suite.additional.is_some() {
        return None;
    }
    let bits = suite.encryption.key_bits();
    match (suite.encryption.cipher(), suite.integrity) {
        (Cipher::AesCbc, Some(integrity)) => bits.map(|bits| format!("aes{bits}-{}", hash(integrity))),
        (Cipher::TripleDesCbc, Some(integrity)) => Some(format!("3des-{}", hash(integrity))),
        (Cipher::AesGcm { icv_len: 16 }, None) => bits
            .filter(|bits| *bits != 192)
            .map(|bits| format!("aes{bits}gcm")),
        (Cipher::ChaCha20Poly1305, None) => Some("chacha20poly1305".into()),
        (Cipher::AesCbc | Cipher::ChaCha20Poly1305 | Cipher::AesGcm { .. } | Cipher::TripleDesCbc, _) => None,
    }
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

const fn prf(prf: Prf) -> Option<&'static str> {
    match prf {
        Prf::HmacMd5 => None,
        Prf::HmacSha1 => Some("sha1"),
        Prf::HmacSha2_256 => Some("sha256"),
        Prf::HmacSha2_384 => Some("sha384"),
        Prf::HmacSha2_512 => Some("sha512"),
    }
}

const fn identity_type(identity: &IkeIdentity) -> &'static str {
    match identity {
        IkeIdentity::Address(_) => "address",
        IkeIdentity::Fqdn(_) => "fqdn",
        IkeIdentity::DistinguishedName(_) => "asn1dn",
        IkeIdentity::Email(_) => "user-fqdn",
        IkeIdentity::KeyId(_) => "keyid",
    }
}

fn subnet(end: &str, range: Cidr) -> String {
    let net = range.net();
    match net.network() {
        std::net::IpAddr::V4(network) => {
            format!("        set {end}-subnet {network} {}\n", net.netmask())
        }
        std::net::IpAddr::V6(_) => {
            format!("        set {end}-addr-type subnet6\n        set {end}-subnet6 {range}\n")
        }
    }
}
