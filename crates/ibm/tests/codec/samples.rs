//! Requests and outcomes that the tests share.

use std::net::Ipv4Addr;

use http::{HeaderMap, Method};
use isthmus_ibm::{Decoded, Fault, Scene, decode, encode, find_route};
use isthmus_ops::*;
use isthmus_types::*;
use serde_json::Value;

/// A current date and one from the time of the flat forms.
pub const NESTED: &str = "2026-10-06";
pub const FLAT: &str = "2020-02-14";

pub const PSK: &str = "Example.Key-1";

pub fn bits(number: u128) -> ResourceBits {
    ResourceBits::from_random(number)
}

pub fn zonal(number: u128) -> String {
    format!("0717-{}", bits(number).to_uuid())
}

pub fn regional(number: u128) -> String {
    format!("r006-{}", bits(number).to_uuid())
}

pub fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

pub fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

pub fn scene() -> Scene {
    Scene {
        base_url: "https://vpc.example.test".to_owned(),
        region: RegionName::new("us-south").unwrap(),
        account: bits(1).into(),
        now: Timestamp(1_795_250_000_000),
        trace: "trace-1".to_owned(),
    }
}

/// Decodes a request at a version date. `path` may have a query of its own.
pub fn read_with(
    method: Method,
    path: &str,
    date: &str,
    body: &str,
    headers: &HeaderMap,
) -> Result<Decoded, Fault> {
    let (path, more) = path.split_once('?').unwrap_or((path, ""));
    let matched = find_route(&method, path)?;
    decode(&isthmus_ibm::Request {
        matched: &matched,
        query: &format!("version={date}&generation=2&{more}"),
        headers,
        body: body.as_bytes(),
        scene: scene(),
    })
}

pub fn read(method: Method, path: &str, date: &str, body: &str) -> Result<Decoded, Fault> {
    read_with(method, path, date, body, &HeaderMap::new())
}

/// The answer to a GET whose outcome is given.
pub fn shown(path: &str, date: &str, outcome: Outcome) -> Value {
    let decoded = read(Method::GET, path, date, "").unwrap();
    let response = encode(&Ok(outcome), &decoded.render);
    assert_eq!(
        response.status(),
        200,
        "{}",
        String::from_utf8_lossy(response.body())
    );
    serde_json::from_slice(response.body()).unwrap()
}

pub fn common(text: &str) -> Common {
    Common {
        account: bits(1).into(),
        name: name(text),
        created_at: Timestamp(1_795_000_000_000),
        resource_group: None,
        version: 3,
    }
}

pub fn reference<Id: From<ResourceBits>>(number: u128, text: &str) -> Reference<Id> {
    Reference {
        id: bits(number).into(),
        name: name(text),
    }
}

pub fn gateway(lifecycle: Lifecycle) -> VpnGatewayView {
    let member = |number: u128, active, last| GatewayMemberView {
        id: bits(number).into(),
        active,
        private_address: Ipv4Addr::new(10, 240, 0, last),
        reserved_ip: reference(number + 100, "held"),
    };
    VpnGatewayView {
        id: bits(20).into(),
        common: common("left-gw"),
        vpc: reference(10, "left"),
        subnet: reference(11, "gw-net"),
        zone: ZoneName::new("us-south-1").unwrap(),
        lifecycle,
        public_address: Ipv4Addr::new(198, 51, 100, 7),
        members: [member(21, true, 4), member(22, false, 5)],
        connections: vec![reference(30, "to-right")],
    }
}

pub fn connection(state: ConnectionState) -> VpnConnectionView {
    VpnConnectionView {
        id: bits(30).into(),
        common: common("to-right"),
        gateway: bits(20).into(),
        gateway_address: Ipv4Addr::new(198, 51, 100, 7),
        psk: Secret::new(PSK.to_owned()),
        peer: PeerAddress::Address(Ipv4Addr::new(203, 0, 113, 9).into()),
        local_cidrs: vec![cidr("10.240.0.0/24")],
        peer_cidrs: vec![cidr("10.241.0.0/24")],
        admin_state_up: true,
        dead_peer_detection: DeadPeerDetection {
            action: DeadPeerAction::Restart,
            interval: 2,
            timeout: 10,
        },
        ike_policy: None,
        ike_version: None,
        ipsec_policy: None,
        establish: Establish::Bidirectional,
        local_identity: Identity::Address(Ipv4Addr::new(198, 51, 100, 7).into()),
        peer_identity: Identity::Address(Ipv4Addr::new(203, 0, 113, 9).into()),
        state,
        state_since: Timestamp(1_795_000_000_000),
        ike_suite: String::new(),
        esp_suite: String::new(),
    }
}
