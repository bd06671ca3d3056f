//! strongSwan: `swanctl.conf`.
//!
//! Source: strongSwan's manual pages `swanctl.conf(5)` and its documentation of identities and proposals, release 5.9. An
//! identity with a kind before it is taken as it is, so a distinguished name, which must become DER, has none: it is recognised
//! by its form, and written from the country down.

use std::fmt::Write as _;

use isthmus_hostplan::IkeIdentity;
use isthmus_types::IkeVersion;

use crate::error::Inexpressible;
use crate::suites::{EspSuite, IkeSuite, Worded};
use crate::text::{
    ESP_PROPOSALS, IKE_PROPOSALS, OUR_IDENTITY, PEER_IDENTITY, from_the_country_down, hex, one_line, quoted,
};
use crate::view::{Encapsulation, Method, Phase1, View, ranges};

const DEVICE: &str = "strongSwan";

pub(crate) fn render(view: &View) -> Result<String, Inexpressible> {
    let ike = Worded::of(&view.ike.suites, |suite| ike_word(suite, view.version));
    let esp = Worded::of(&view.esp.suites, |suite| Some(esp_word(suite)));
    let mut text = String::from("# /etc/swanctl/conf.d/: load with `swanctl --load-all`.\n");
    text.push_str(&view.ike.remark("#", "IKE"));
    text.push_str(&ike.remark("#", DEVICE, IKE_PROPOSALS)?);
    text.push_str(&view.esp.remark("#", "ESP"));
    text.push_str(&esp.remark("#", DEVICE, ESP_PROPOSALS)?);
    let local_id = identity(PEER_IDENTITY, &view.local_id)?;
    let remote_id = identity(OUR_IDENTITY, &view.remote_id)?;
    let (local_auth, remote_auth) = match view.method {
        Method::SharedKey => ("auth = psk", "auth = psk"),
        Method::Certificates => {
            text.push_str(
                "# /etc/swanctl/x509/peer.pem, /etc/swanctl/private/ and /etc/swanctl/x509ca/ca.pem: its certificate, its key and\n\
                 # the authority of both ends.\n",
            );
            (
                "auth = pubkey\n      certs = peer.pem",
                "auth = pubkey\n      cacerts = ca.pem",
            )
        }
    };
    let mut more = String::new();
    if view.phase_1 == Phase1::Aggressive {
        more.push_str("    aggressive = yes\n");
    }
    if view.encapsulation == Encapsulation::Always {
        more.push_str("    encap = yes\n");
    }
    let _ = write!(
        text,
        "connections {{
  {name} {{
    version = {version}
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = {ike}
{more}    rekey_time = {ike_rekey}s
    over_time = {ike_over}s
    dpd_delay = {dpd_delay}s
    dpd_timeout = {dpd_timeout}s
    local {{
      {local_auth}
      id = {local_id}
    }}
    remote {{
      {remote_auth}
      id = {remote_id}
    }}
    children {{
{children}    }}
  }}
}}
",
        name = view.name,
        version = view.version_number(),
        local = view.local_address(DEVICE)?.unwrap_or("%any"),
        remote = view.remote_address,
        ike = ike.words.join(","),
        ike_rekey = view.ike_lifetime - view.ike_lifetime / 10,
        ike_over = view.ike_lifetime / 10,
        dpd_delay = view.dpd_delay,
        dpd_timeout = view.dpd_timeout,
        children = children(view, &esp.words.join(",")),
    );
    if view.method == Method::SharedKey {
        let _ = write!(
            text,
            "secrets {{
  ike-{name} {{
    id-local = {local_id}
    id-remote = {remote_id}
    secret = {key}
  }}
}}
",
            name = view.name,
            key = secret(view.any_key()),
        );
    }
    Ok(text)
}

/// One child with all ranges, or in IKEv1 one for each pair.
fn children(view: &View, esp: &str) -> String {
    let child = |name: String, local: String, remote: String| {
        format!(
            "      {name} {{
        local_ts = {local}
        remote_ts = {remote}
        esp_proposals = {esp}
        rekey_time = {rekey}s
        life_time = {life}s
        dpd_action = restart
        start_action = start
      }}
",
            rekey = view.esp_lifetime - view.esp_lifetime / 10,
            life = view.esp_lifetime,
        )
    };
    match view.version {
        IkeVersion::V2 => child(
            "net".into(),
            ranges(&view.local_ranges, ","),
            ranges(&view.remote_ranges, ","),
        ),
        IkeVersion::V1 => view
            .pairs()
            .enumerate()
            .map(|(number, (local, remote))| {
                child(format!("net{number}"), local.to_string(), remote.to_string())
            })
            .collect(),
    }
}

/// In IKEv1 its messages are protected by CBC alone, and there is one key exchange.
fn ike_word(suite: &IkeSuite, version: IkeVersion) -> Option<String> {
    if version == IkeVersion::V1 && (suite.encryption.is_aead() || suite.additional.is_some()) {
        return None;
    }
    let mut words = vec![suite.encryption.word()];
    words.extend(suite.integrity.map(isthmus_types::Integrity::word));
    // In IKEv1 the hash is the pseudo-random function.
    if version == IkeVersion::V2 {
        words.push(suite.prf.word());
    }
    words.push(suite.dh.word());
    let additional = suite.additional.map(|additional| format!("-ke1_{additional}"));
    Some(words.join("-") + &additional.unwrap_or_default())
}

fn esp_word(suite: &EspSuite) -> String {
    let mut words = vec![suite.encryption.word()];
    words.extend(suite.integrity.map(isthmus_types::Integrity::word));
    words.extend(suite.pfs.map(isthmus_types::DhGroup::word));
    let additional = suite.additional.map(|additional| format!("-ke1_{additional}"));
    words.join("-") + &additional.unwrap_or_default()
}

/// Between quotes, with the kind before the text so that nothing is guessed.
fn identity(field: &'static str, identity: &IkeIdentity) -> Result<String, Inexpressible> {
    Ok(match identity {
        IkeIdentity::Address(address) => address.to_string(),
        IkeIdentity::Fqdn(text) => quoted(&format!("fqdn:{}", one_line(DEVICE, field, text)?)),
        IkeIdentity::DistinguishedName(text) => quoted(&from_the_country_down(DEVICE, field, text)?),
        IkeIdentity::Email(text) => quoted(&format!("email:{}", one_line(DEVICE, field, text)?)),
        IkeIdentity::KeyId(bytes) => quoted(&format!("keyid:#{}", hex(bytes))),
    })
}

/// A key is taken for hexadecimal or Base64 after `0x` and `0s`: such a one, and one that is not one line, is written as its bytes.
fn secret(key: &str) -> String {
    if key.starts_with("0x") || key.starts_with("0s") || key.contains(char::is_control) {
        format!("0x{}", hex(key.as_bytes()))
    } else {
        quoted(key)
    }
}
