//! SAs as strongSwan lists them.

use serde_json::Value;

/// An IKE SA as strongSwan lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwanIkeSa {
    /// `ESTABLISHED`, `CONNECTING`, `REKEYED`, …
    pub state: String,
    /// SPI of the original initiator, hexadecimal.
    pub initiator_spi: String,
    /// SPI of the original responder, hexadecimal.
    pub responder_spi: String,
    /// Algorithms: encryption with key length, integrity if any, PRF, group.
    pub suite: String,
    /// Its Child SAs.
    pub children: Vec<SwanChildSa>,
}

/// A Child SA as strongSwan lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwanChildSa {
    /// `INSTALLED`, `REKEYING`, `REKEYED`, `DELETED`, …
    pub state: String,
    /// SPI that it receives on, hexadecimal.
    pub inbound_spi: String,
    /// SPI that it sends with, hexadecimal.
    pub outbound_spi: String,
    /// Algorithms: encryption with key length, integrity if any, PFS group if any was used.
    pub suite: String,
    /// Ranges on its side.
    pub local_ranges: Vec<String>,
    /// Ranges on the peer's side.
    pub remote_ranges: Vec<String>,
}

pub(super) fn ike_sa(value: &Value) -> SwanIkeSa {
    SwanIkeSa {
        state: text(&value["state"]),
        initiator_spi: text(&value["initiator-spi"]),
        responder_spi: text(&value["responder-spi"]),
        suite: suite(value, &["prf-alg", "dh-group"]),
        children: value["child-sas"]
            .as_object()
            .into_iter()
            .flat_map(|children| children.values())
            .map(|child| SwanChildSa {
                state: text(&child["state"]),
                inbound_spi: text(&child["spi-in"]),
                outbound_spi: text(&child["spi-out"]),
                suite: suite(child, &["dh-group"]),
                local_ranges: texts(&child["local-ts"]),
                remote_ranges: texts(&child["remote-ts"]),
            })
            .collect(),
    }
}

fn suite(value: &Value, rest: &[&str]) -> String {
    let mut words = vec![format!(
        "{}_{}",
        text(&value["encr-alg"]),
        text(&value["encr-keysize"])
    )];
    words.extend(
        ["integ-alg"]
            .iter()
            .chain(rest)
            .filter_map(|key| value[*key].as_str())
            .map(str::to_owned),
    );
    words.join("/")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
