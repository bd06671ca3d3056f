//! Fortinet FortiOS: a route-based tunnel.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::{Cidr, Integrity, Prf};

use crate::suites::{EspSuite, Family, IkeSuite, Worded, family, group_number, key_bits, same_hash};
use crate::view::{View, plain, quoted};

const DEVICE: &str = "FortiOS";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, ike_word);
    let esp = Worded::of(&view.esp, esp_word);
    let groups = Worded::of(
        &view.ike.iter().map(|suite| suite.dh).collect::<Vec<_>>(),
        |group| Some(group_number(*group).to_string()),
    );
    let pfs: Vec<_> = view.esp.iter().filter_map(|suite| suite.pfs).collect();
    let pfs = Worded::of(&pfs, |group| Some(group_number(*group).to_string()));
    let name = &view.name;
    let mut text =
        String::from("# Choose the outside interface; routes and firewall policies are the device's own.\n");
    text.push_str(&ike.comment("#", DEVICE, "IKE"));
    text.push_str(&esp.comment("#", DEVICE, "ESP"));
    let _ = write!(
        text,
        "config vpn ipsec phase1-interface
    edit {name}
        set interface \"wan1\"
        set ike-version {version}
        set peertype {peertype}
        set net-device disable
        set proposal {ike}
        set dhgrp {groups}
        set keylife {lifetime}
        set dpd on-idle
        set dpd-retryinterval {dpd}
        set localid-type {local_type}
        set localid {local_id}
        set remote-gw {remote}
        set psksecret {key}
",
        version = view.version_number(),
        peertype = if matches!(view.remote_id, IkeIdentity::Address(_)) {
            "any"
        } else {
            "one"
        },
        ike = ike.words.join(" "),
        groups = groups.words.join(" "),
        lifetime = view.ike_lifetime,
        dpd = view.dpd_delay,
        local_type = identity_type(&view.local_id),
        local_id = quoted(&plain(&view.local_id)),
        remote = view.remote_address,
        key = view.quoted_key(),
    );
    if !matches!(view.remote_id, IkeIdentity::Address(_)) {
        let _ = writeln!(text, "        set peerid {}", quoted(&plain(&view.remote_id)));
    }
    text.push_str("    next\nend\nconfig vpn ipsec phase2-interface\n");
    for (number, (local, remote)) in view.pairs().enumerate() {
        let _ = write!(
            text,
            "    edit {name}-{number}
        set phase1name {name}
        set proposal {esp}
        set pfs {pfs_state}
{pfs_groups}        set keylifeseconds {lifetime}
        set auto-negotiate enable
        set src-subnet {src}
        set dst-subnet {dst}
    next
",
            esp = esp.words.join(" "),
            pfs_state = if pfs.words.is_empty() { "disable" } else { "enable" },
            pfs_groups = if pfs.words.is_empty() {
                String::new()
            } else {
                format!("        set dhgrp {}\n", pfs.words.join(" "))
            },
            lifetime = view.esp_lifetime,
            src = subnet(local),
            dst = subnet(remote),
        );
    }
    text.push_str("end\n");
    text
}

fn ike_word(suite: &IkeSuite) -> Option<String> {
    if suite.additional.is_some() {
        return None;
    }
    let check = match suite.integrity {
        Some(integrity) if same_hash(integrity, suite.prf) => hash(integrity).to_owned(),
        Some(_) => return None,
        None => format!("prf{}", prf(suite.prf)?),
    };
    let bits = key_bits(suite.encryption);
    match family(suite.encryption) {
        Family::Cbc => bits.map(|bits| format!("aes{bits}-{check}")),
        Family::Gcm(16) => bits
            .filter(|bits| *bits != 192)
            .map(|bits| format!("aes{bits}gcm-{check}")),
        Family::ChaCha20 => Some(format!("chacha20poly1305-{check}")),
        Family::TripleDes => Some(format!("3des-{check}")),
        Family::Gcm(_) => None,
    }
}

fn esp_word(suite: &EspSuite) -> Option<String> {
    if suite.additional.is_some() {
        return None;
    }
    let bits = key_bits(suite.encryption);
    match (family(suite.encryption), suite.integrity) {
        (Family::Cbc, Some(integrity)) => bits.map(|bits| format!("aes{bits}-{}", hash(integrity))),
        (Family::TripleDes, Some(integrity)) => Some(format!("3des-{}", hash(integrity))),
        (Family::Gcm(16), None) => bits
            .filter(|bits| *bits != 192)
            .map(|bits| format!("aes{bits}gcm")),
        (Family::ChaCha20, None) => Some("chacha20poly1305".into()),
        (Family::Cbc | Family::ChaCha20 | Family::Gcm(_) | Family::TripleDes, _) => None,
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

fn subnet(range: Cidr) -> String {
    let net = range.net();
    format!("{} {}", net.network(), net.netmask())
}
