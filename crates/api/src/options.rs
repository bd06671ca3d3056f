//! Options of connections and gateways as JSON: shown without secrets, changed by merge patch (RFC 7396).
//!
//! A member that is `null` returns to its default; a member that is missing stays.

use http::{HeaderValue, Response, StatusCode, header};
use isthmus_ibm::{Fault, Target};
use isthmus_ops::{
    CertificateChange, ConnectionOptions, ConnectionOptionsChange, ConnectionOptionsView, GatewayOptionsView,
    Outcome,
};
use isthmus_types::{Secret, TunnelOptions};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What is shown of a connection's options. The private key is left out.
pub(crate) fn show(view: &ConnectionOptionsView) -> Value {
    let options = &view.options;
    let plain = TunnelOptions {
        certificate: None,
        ..options.tunnel.clone()
    };
    let mut shown = json!(plain);
    shown["certificate"] = match &options.tunnel.certificate {
        None => Value::Null,
        Some(certificate) => json!({
            "chain": certificate.chain,
            "authorities": certificate.authorities,
            "revocation_lists": certificate.revocation_lists,
            "require_revocation_list": certificate.require_revocation_list,
            "holder": view.holder.as_ref().map(|holder| json!({
                "subject": holder.subject,
                "names": holder.names,
                "expires_at": holder.expires_at.to_string(),
            })),
        }),
    };
    shown["ml_kem"] = json!(options.ml_kem);
    shown["encapsulation"] = json!(options.encapsulation);
    shown["local_id"] = json!(options.local_id);
    shown["peer_id"] = json!(options.peer_id);
    shown["peer_location"] = json!(options.peer_location);
    shown
}

/// What is shown of a gateway's options. An address that is out of use is left out.
fn show_gateway(view: &GatewayOptionsView) -> Value {
    json!({
        "key_log": view.key_log,
        "ipv6": view.ipv6,
        "ipv6_address": view.ipv6_address.filter(|_| view.ipv6),
    })
}

/// The answer that shows options; none for any other outcome.
pub(crate) fn answer(outcome: &Outcome) -> Option<Response<Vec<u8>>> {
    let (shown, version) = if let Outcome::ConnectionOptions(view) = outcome {
        (show(view), view.version)
    } else if let Outcome::GatewayOptions(view) = outcome {
        (show_gateway(view), view.version)
    } else {
        return None;
    };
    let mut response = Response::new(shown.to_string().into_bytes());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    if let Ok(tag) = HeaderValue::from_str(&isthmus_ibm::entity_tag(version)) {
        headers.insert(header::ETAG, tag);
    }
    Some(response)
}

/// Reads a change of a connection's options.
pub(crate) fn connection_change(body: &[u8]) -> Result<ConnectionOptionsChange, Fault> {
    let default = ConnectionOptions::default();
    let tunnel = &default.tunnel;
    let mut change = ConnectionOptionsChange::default();
    for (name, value) in &object(body)? {
        let of = Member { path: name, value };
        match name.as_str() {
            "aggressive_mode" => change.aggressive_mode = Some(of.flag(tunnel.aggressive_mode)?),
            "certificate" => change.certificate = Some(certificate(of)?),
            "childless" => change.childless = Some(of.flag(tunnel.childless)?),
            "dont_fragment" => {
                change.dont_fragment = Some(of.read(tunnel.dont_fragment, "clear, copy or set")?);
            }
            "dscp" => change.dscp = Some(of.read(tunnel.dscp, "clear or copy")?),
            "encapsulation" => {
                change.encapsulation = Some(of.read(default.encapsulation, "automatic or forced")?);
            }
            "esp_lifetime_bytes" => change.esp_lifetime_bytes = Some(of.read(None, LIFETIME)?),
            "esp_lifetime_packets" => change.esp_lifetime_packets = Some(of.read(None, LIFETIME)?),
            "extended_sequence_numbers" => {
                change.extended_sequence_numbers = Some(of.flag(tunnel.extended_sequence_numbers)?);
            }
            "fragment_size" => {
                let words = "a whole number from 576 to 65535, or 0";
                change.fragment_size = Some(of.read(tunnel.fragment_size, words)?);
            }
            "local_id" => change.local_id = Some(of.read(None, IDENTITY)?),
            "ml_kem" => change.ml_kem = Some(of.read(default.ml_kem, "off, on or required")?),
            "parallel_child_sas" => {
                let words = "a whole number from 1 to 16";
                change.parallel_child_sas = Some(of.read(tunnel.parallel_child_sas, words)?);
            }
            "peer_id" => change.peer_id = Some(of.read(None, IDENTITY)?),
            "peer_location" => {
                change.peer_location = Some(of.read(default.peer_location, "anywhere or fixed")?);
            }
            "replay_window" => {
                let words = "a whole number from 64 to 4096";
                change.replay_window = Some(of.read(tunnel.replay_window, words)?);
            }
            "selectors" => {
                let words = "automatic, per_pair or together";
                change.selectors = Some(of.read(tunnel.selectors, words)?);
            }
            "verify_pfs" => change.verify_pfs = Some(of.flag(tunnel.verify_pfs)?),
            _ => return Err(of.unknown()),
        }
    }
    Ok(change)
}

/// A change of a gateway's options.
#[derive(Default)]
pub(crate) struct GatewayChange {
    pub(crate) key_log: Option<bool>,
    pub(crate) ipv6: Option<bool>,
}

/// Reads a change of a gateway's options.
pub(crate) fn gateway_change(body: &[u8]) -> Result<GatewayChange, Fault> {
    let mut change = GatewayChange::default();
    for (name, value) in &object(body)? {
        let of = Member { path: name, value };
        match name.as_str() {
            "ipv6" => change.ipv6 = Some(of.flag(false)?),
            "key_log" => change.key_log = Some(of.flag(false)?),
            _ => return Err(of.unknown()),
        }
    }
    Ok(change)
}

/// Refuses a body that asks for something: for what takes none.
pub(crate) fn nothing_but_an_object(body: &[u8]) -> Result<(), Fault> {
    if body.is_empty() {
        return Ok(());
    }
    match object(body)?.iter().next() {
        None => Ok(()),
        Some((path, value)) => Err(Member { path, value }.unknown()),
    }
}

const LIFETIME: &str = "a whole number";
const IDENTITY: &str = "an object with kind (address, distinguished_name, email, fqdn or key_id) and value";
const PEM: &str = "a text in PEM";

fn certificate(member: Member<'_>) -> Result<Option<CertificateChange>, Fault> {
    let Value::Object(members) = member.value else {
        return if member.value.is_null() {
            Ok(None)
        } else {
            Err(member.refuse("an object or null"))
        };
    };
    let mut change = CertificateChange::default();
    for (name, value) in members {
        let path = format!("certificate.{name}");
        let of = Member { path: &path, value };
        match name.as_str() {
            "authorities" => change.authorities = Some(of.text()?),
            "chain" => change.chain = Some(of.text()?),
            // Shown for people; not to be changed.
            "holder" => {}
            "private_key" => change.private_key = Some(Secret::new(of.text()?)),
            "require_revocation_list" => change.require_revocation_list = Some(of.flag(false)?),
            "revocation_lists" => change.revocation_lists = Some(of.read(String::new(), PEM)?),
            _ => return Err(of.unknown()),
        }
    }
    Ok(Some(change))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        // A parse error could quote a key.
        Ok(_) | Err(_) => Err(bad("the request body is not a JSON object".to_owned())),
    }
}

/// A member of the body. Its value may be secret: errors do not quote it.
#[derive(Clone, Copy)]
struct Member<'a> {
    path: &'a str,
    value: &'a Value,
}

impl Member<'_> {
    fn flag(self, default: bool) -> Result<bool, Fault> {
        self.read(default, "true or false")
    }

    fn text(self) -> Result<String, Fault> {
        self.value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| self.refuse(PEM))
    }

    fn read<T: DeserializeOwned>(self, default: T, words: &str) -> Result<T, Fault> {
        if self.value.is_null() {
            return Ok(default);
        }
        T::deserialize(self.value).map_err(|_| self.refuse(words))
    }

    fn refuse(self, words: &str) -> Fault {
        bad(format!("{} must be {words}", self.path)).at(Target::field(self.path))
    }

    fn unknown(self) -> Fault {
        let path: String = self.path.chars().take(80).collect();
        bad(format!("there is no option {}", path.escape_debug())).at(Target::field(path))
    }
}

fn bad(message: String) -> Fault {
    Fault::new(StatusCode::BAD_REQUEST, "bad_field", message)
}

#[cfg(test)]
mod tests {
    use isthmus_ops::{MlKem, PeerLocation};
    use isthmus_types::CertificateOptions;

    use super::*;

    fn change(body: &Value) -> Result<ConnectionOptionsChange, Fault> {
        connection_change(body.to_string().as_bytes())
    }

    #[test]
    fn missing_members_stay_and_null_is_the_default() {
        let read = change(
            &json!({"childless": true, "replay_window": null, "esp_lifetime_bytes": null,
            "certificate": null, "ml_kem": "required", "peer_location": "anywhere"}),
        )
        .unwrap();
        assert_eq!(
            read,
            ConnectionOptionsChange {
                childless: Some(true),
                replay_window: Some(1024),
                esp_lifetime_bytes: Some(None),
                certificate: Some(None),
                ml_kem: Some(MlKem::Required),
                peer_location: Some(PeerLocation::Anywhere),
                ..ConnectionOptionsChange::default()
            }
        );
    }

    #[test]
    fn wrong_values_are_named_but_not_quoted() {
        for (body, field) in [
            (json!({"childless": "hush"}), "childless"),
            (json!({"replay_window": 70_000}), "replay_window"),
            (json!({"replay_window": -1}), "replay_window"),
            (json!({"dscp": "hush"}), "dscp"),
            (json!({"peer_location": "hush"}), "peer_location"),
            (
                json!({"certificate": {"private_key": ["hush"]}}),
                "certificate.private_key",
            ),
            (
                json!({"certificate": {"private_key": null}}),
                "certificate.private_key",
            ),
            (json!({"certificate": "hush"}), "certificate"),
            (json!({"local_id": {"kind": "hush", "value": "x"}}), "local_id"),
            (json!({"psk": "hush"}), "psk"),
        ] {
            let fault = change(&body).unwrap_err();
            assert_eq!(fault.status, StatusCode::BAD_REQUEST);
            assert!(!fault.message.contains("hush"), "{}", fault.message);
            assert_eq!(fault.target.unwrap().name, field);
        }
        assert!(connection_change(b"[1]").is_err() && connection_change(b"").is_err());
    }

    #[test]
    fn what_is_shown_can_be_sent_back_and_holds_no_key() {
        let mut view = ConnectionOptionsView {
            options: ConnectionOptions::default(),
            version: 3,
            holder: None,
        };
        view.options.tunnel.certificate = Some(CertificateOptions {
            chain: "chain".to_owned(),
            private_key: Secret::new("hush".to_owned()),
            authorities: "authorities".to_owned(),
            revocation_lists: String::new(),
            require_revocation_list: false,
        });
        let response = answer(&Outcome::ConnectionOptions(view)).unwrap();
        assert_eq!(response.headers()[header::ETAG], "W/\"3\"");
        let body = String::from_utf8(response.into_body()).unwrap();
        assert!(!body.contains("hush"), "{body}");
        let read = connection_change(body.as_bytes()).unwrap();
        let certificate = read.certificate.unwrap().unwrap();
        assert_eq!(certificate.private_key, None);
        assert_eq!(certificate.chain.as_deref(), Some("chain"));
        assert_eq!(read.replay_window, Some(1024));
    }
}
