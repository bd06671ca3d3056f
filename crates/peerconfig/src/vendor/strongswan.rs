//! strongSwan: `swanctl.conf`.

use isthmus_hostplan::IkeIdentity;
use isthmus_types::IkeVersion;

use crate::suites::{EspSuite, IkeSuite, Worded};
use crate::view::{View, plain, quoted, ranges};

const DEVICE: &str = "strongSwan";

pub(crate) fn render(view: &View) -> String {
    let ike = Worded::of(&view.ike, |suite| Some(ike_word(suite, view.version)));
    let esp = Worded::of(&view.esp, |suite| Some(esp_word(suite)));
    let mut text = String::from("# /etc/swanctl/conf.d/: load with `swanctl --load-all`.\n");
    text.push_str(&ike.comment("#", DEVICE, "IKE"));
    text.push_str(&esp.comment("#", DEVICE, "ESP"));
    let (local_id, remote_id) = (identity(&view.local_id), identity(&view.remote_id));
    text.push_str(&format!(
        "connections {{
  {name} {{
    version = {version}
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = {ike}
    rekey_time = {ike_rekey}s
    over_time = {ike_over}s
    dpd_delay = {dpd_delay}s
    dpd_timeout = {dpd_timeout}s
    local {{
      auth = psk
      id = {local_id}
    }}
    remote {{
      auth = psk
      id = {remote_id}
    }}
    children {{
{children}    }}
  }}
}}
secrets {{
  ike-{name} {{
    id-local = {local_id}
    id-remote = {remote_id}
    secret = {key}
  }}
}}
",
        name = view.name,
        version = view.version_number(),
        local = view.local_address.as_deref().unwrap_or("%any"),
        remote = view.remote_address,
        ike = ike.words.join(","),
        ike_rekey = view.ike_lifetime - view.ike_lifetime / 10,
        ike_over = view.ike_lifetime / 10,
        dpd_delay = view.dpd_delay,
        dpd_timeout = view.dpd_timeout,
        children = children(view, &esp.words.join(",")),
        key = view.quoted_key(),
    ));
    text
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

fn ike_word(suite: &IkeSuite, version: IkeVersion) -> String {
    let mut words = vec![suite.encryption.word()];
    words.extend(suite.integrity.map(isthmus_types::Integrity::word));
    // In IKEv1 the hash is the pseudo-random function.
    if version == IkeVersion::V2 {
        words.push(suite.prf.word());
    }
    words.push(suite.dh.word());
    let additional = suite.additional.map(|additional| format!("-ke1_{additional}"));
    words.join("-") + &additional.unwrap_or_default()
}

fn esp_word(suite: &EspSuite) -> String {
    let mut words = vec![suite.encryption.word()];
    words.extend(suite.integrity.map(isthmus_types::Integrity::word));
    words.extend(suite.pfs.map(isthmus_types::DhGroup::word));
    let additional = suite.additional.map(|additional| format!("-ke1_{additional}"));
    words.join("-") + &additional.unwrap_or_default()
}

/// The kind is written before the text, so that nothing is guessed.
fn identity(identity: &IkeIdentity) -> String {
    let text = plain(identity);
    match identity {
        IkeIdentity::Address(_) => text,
        IkeIdentity::Fqdn(_) => quoted(&format!("fqdn:{text}")),
        IkeIdentity::DistinguishedName(_) => quoted(&format!("asn1dn:{text}")),
        IkeIdentity::Email(_) => quoted(&format!("email:{text}")),
        IkeIdentity::KeyId(_) => quoted(&format!("keyid:0x{text}")),
    }
}
