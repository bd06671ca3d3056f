//! Whatever a client sends, the codec answers and does not panic.

use http::{HeaderMap, HeaderValue, Method, header};
use isthmus_ibm::{Ask, decode, find_route, routes};
use proptest::prelude::*;
use serde_json::Value;

use crate::samples::{regional, scene, zonal};

/// JSON made of the words that requests are made of, so that it gets past the first check.
fn json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("10.0.0.0/24".to_owned()),
        Just("203.0.113.9".to_owned()),
        Just("us-south-1".to_owned()),
        Just("sha256".to_owned()),
        Just(zonal(1)),
        Just(regional(1)),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..40).prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "name",
        "id",
        "crn",
        "href",
        "vpc",
        "zone",
        "subnet",
        "cidr",
        "psk",
        "peer",
        "local",
        "cidrs",
        "address",
        "fqdn",
        "ike_policy",
        "ike_version",
        "authentication_algorithm",
        "authentication_algorithms",
        "encryption_algorithm",
        "encryption_algorithms",
        "dh_group",
        "dh_groups",
        "pfs",
        "pfs_groups",
        "mode",
        "image",
        "primary_network_interface",
        "attachment",
        "kind",
        "interface",
        "ipv4_cidr_block",
        "total_ipv4_address_count",
        "dead_peer_detection",
        "interval",
        "timeout",
        "action",
        "type",
        "value",
        "ike_identity",
        "ike_identities",
        "peer_address",
        "peer_cidrs",
        "local_cidrs",
        "key_lifetime",
    ]);
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..10).prop_map(|pairs| {
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<Value>()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_path_finds_a_route_or_a_refusal(path in "(/v1)?(/|%2F|%|vpcs|regions|[^ ]{0,6}){0,12}") {
        if let Err(fault) = find_route(&Method::GET, &path) {
            prop_assert!(matches!(fault.status.as_u16(), 404 | 405));
        }
    }

    #[test]
    fn any_request_to_any_route_is_decoded_or_refused(
        index in 0..routes().len(),
        ids in prop::collection::vec(prop_oneof![Just(zonal(1)), Just(regional(1)), "[^/]{1,20}"], 4),
        query in prop_oneof![Just(String::new()), ".{0,40}", "(limit|start|sort|vpc.id)=[^&]{0,8}"],
        date in prop::sample::select(vec!["2020-02-14", "2022-02-08", "2026-10-06"]),
        tag in ".{0,12}",
        body in prop_oneof![json().prop_map(|value| value.to_string().into_bytes()), prop::collection::vec(any::<u8>(), 0..64)],
    ) {
        let route = &routes()[index];
        let mut ids = ids.into_iter();
        let path: Vec<String> = route
            .template
            .split('/')
            .map(|part| match part.starts_with('{') {
                true => ids.next().unwrap_or_default(),
                false => part.to_owned(),
            })
            .collect();
        let path = path.join("/");
        let Ok(matched) = find_route(&route.method, &path) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::IF_MATCH, tag);
        }
        let query = format!("version={date}&generation=2&{query}");
        let request = isthmus_ibm::Request {
            matched: &matched,
            query: &query,
            headers: &headers,
            body: &body,
            scene: scene(),
        };
        match decode(&request) {
            Err(fault) => {
                prop_assert!(fault.status.is_client_error());
                let answer = fault.response("t");
                prop_assert!(serde_json::from_slice::<Value>(answer.body()).is_ok());
            }
            Ok(decoded) => if let Ask::Answer(answer) = decoded.ask {
                prop_assert!(serde_json::from_slice::<Value>(answer.body()).is_ok());
            },
        }
    }
}
