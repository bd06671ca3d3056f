//! What requests mean.

use http::{HeaderMap, HeaderValue, Method, header};
use isthmus_ibm::Ask;
use isthmus_ops::*;
use isthmus_types::*;

use crate::samples::{FLAT, NESTED, PSK, bits, cidr, read, read_with, regional, zonal};

fn operation(method: Method, path: &str, date: &str, body: &str) -> Operation {
    match read(method, path, date, body).unwrap().ask {
        Ask::Operation(operation) => *operation,
        other => panic!("not an operation: {other:?}"),
    }
}

fn query(path: &str) -> Query {
    match read(Method::GET, path, NESTED, "").unwrap().ask {
        Ask::Query(query) => *query,
        other => panic!("not a query: {other:?}"),
    }
}

fn connections() -> String {
    format!("/v1/vpn_gateways/{}/connections", zonal(20))
}

#[test]
fn both_forms_of_a_connection_mean_the_same() {
    let flat = format!(
        r#"{{"psk":"{PSK}","peer_address":"203.0.113.9","local_cidrs":["10.240.0.0/24","166.9.0.0/14"],"peer_cidrs":["0.0.0.0/0"]}}"#
    );
    let nested = format!(
        r#"{{"psk":"{PSK}","peer":{{"address":"203.0.113.9","cidrs":["0.0.0.0/0"]}},"local":{{"cidrs":["10.240.0.0/24","166.9.0.0/14"]}}}}"#
    );
    let flat_date = operation(Method::POST, &connections(), "2024-04-29", &flat);
    let nested_date = operation(Method::POST, &connections(), "2024-04-30", &nested);
    assert_eq!(flat_date, nested_date);
    let Operation::CreateVpnConnection(new) = nested_date else {
        panic!()
    };
    assert_eq!(new.local_cidrs, [cidr("10.240.0.0/24"), cidr("166.8.0.0/14")]);
    assert_eq!(new.psk.reveal(), PSK);
    assert_eq!(new.gateway, VpnGatewayId::from(bits(20)));
    assert!(new.admin_state_up && new.ike_policy.is_none());
}

#[test]
fn dead_peer_detection_defaults_to_that_of_the_date() {
    let flat = |more: &str| {
        format!(
            r#"{{"psk":"{PSK}","peer_address":"203.0.113.9","local_cidrs":["10.0.0.0/24"],"peer_cidrs":["10.1.0.0/24"]{more}}}"#
        )
    };
    for (date, more, action, interval, timeout) in [
        (FLAT, "", DeadPeerAction::None, 30, 120),
        ("2020-09-07", "", DeadPeerAction::None, 30, 120),
        ("2020-09-08", "", DeadPeerAction::Restart, 2, 10),
        (
            FLAT,
            r#","dead_peer_detection":{"action":"clear","interval":7}"#,
            DeadPeerAction::Clear,
            7,
            120,
        ),
        (
            "2021-01-01",
            r#","dead_peer_detection":{"action":"hold"}"#,
            DeadPeerAction::Hold,
            2,
            10,
        ),
    ] {
        let Operation::CreateVpnConnection(new) = operation(Method::POST, &connections(), date, &flat(more))
        else {
            panic!()
        };
        assert_eq!(
            new.dead_peer_detection,
            DeadPeerDetection {
                action,
                interval,
                timeout
            },
            "{date} {more}"
        );
    }
    let wrong = flat(r#","dead_peer_detection":{"interval":20}"#);
    let fault = read(Method::POST, &connections(), "2021-01-01", &wrong).unwrap_err();
    assert_eq!((fault.status.as_u16(), fault.code), (400, "bad_field"));
}

#[test]
fn a_null_policy_returns_to_automatic_negotiation() {
    let one = format!("{}/{}", connections(), zonal(30));
    let policy = regional(40);
    let changes = |body: &str| match operation(Method::PATCH, &one, NESTED, body) {
        Operation::UpdateVpnConnection(update) => (update.ike_policy, update.ipsec_policy),
        other => panic!("{other:?}"),
    };
    assert_eq!(changes("{}"), (None, None));
    assert_eq!(changes(r#"{"ike_policy":null}"#), (Some(None), None));
    let attach = format!(
        r#"{{"ike_policy":{{"id":"{policy}"}},"ipsec_policy":{{"href":"https://x.test/v1/ipsec_policies/{policy}"}}}}"#
    );
    assert_eq!(
        changes(&attach),
        (Some(Some(bits(40).into())), Some(Some(bits(40).into())))
    );
}

#[test]
fn an_identity_may_be_an_id_a_crn_or_an_href() {
    let vpc = regional(10);
    for identity in [
        format!(r#"{{"id":"{vpc}"}}"#),
        format!(r#"{{"crn":"crn:v1:bluemix:public:is:us-south:a/any::vpc:{vpc}"}}"#),
        format!(r#"{{"href":"https://elsewhere.test/v1/vpcs/{vpc}"}}"#),
        format!(r#"{{"id":"{vpc}","href":"https://elsewhere.test/v1/vpcs/{vpc}"}}"#),
    ] {
        let body = format!(
            r#"{{"vpc":{identity},"total_ipv4_address_count":256,"zone":{{"href":"https://x.test/v1/regions/us-south/zones/us-south-2"}}}}"#
        );
        let Operation::CreateSubnet(new) = operation(Method::POST, "/v1/subnets", NESTED, &body) else {
            panic!()
        };
        assert_eq!(new.vpc, VpcId::from(bits(10)), "{identity}");
        assert_eq!(new.zone, Some(ZoneName::new("us-south-2").unwrap()));
        assert_eq!(new.range, SubnetRange::Count(256));
    }
    let contradictory = format!(
        r#"{{"vpc":{{"id":"{vpc}","href":"https://x.test/v1/vpcs/{}"}},"ipv4_cidr_block":"10.0.0.0/24"}}"#,
        regional(11)
    );
    assert!(read(Method::POST, "/v1/subnets", NESTED, &contradictory).is_err());
}

#[test]
fn both_path_forms_of_a_range_mean_the_same() {
    let one = format!("{}/{}", connections(), zonal(30));
    let expected = Operation::AddConnectionCidr {
        gateway: bits(20).into(),
        connection: bits(30).into(),
        side: Side::Peer,
        cidr: cidr("10.9.0.0/16"),
    };
    for path in [
        "peer_cidrs/10.9.0.0/16",
        "peer/cidrs/10.9.0.0%2F16",
        "peer/cidrs/10.9.0.0%2f16",
    ] {
        assert_eq!(
            operation(Method::PUT, &format!("{one}/{path}"), NESTED, "ignored"),
            expected
        );
    }
    let service = operation(
        Method::DELETE,
        &format!("{one}/local_cidrs/166.9.0.0/14"),
        FLAT,
        "",
    );
    let Operation::RemoveConnectionCidr {
        cidr: removed,
        side: Side::Local,
        ..
    } = service
    else {
        panic!()
    };
    assert_eq!(removed, cidr("166.8.0.0/14"));
}

#[test]
fn a_gateway_takes_eight_addresses() {
    let body = format!(r#"{{"subnet":{{"id":"{}"}},"name":"gw"}}"#, zonal(11));
    let Operation::CreateVpnGateway(new) = operation(Method::POST, "/v1/vpn_gateways", FLAT, &body) else {
        panic!()
    };
    assert_eq!(new.reserved_addresses, 8);
    assert_eq!(new.subnet, SubnetId::from(bits(11)));
}

#[test]
fn policies_keep_the_order_of_their_lists() {
    let body = r#"{"ike_version":2,"authentication_algorithms":["sha512","sha256"],"encryption_algorithms":["aes256","aes128"],"dh_groups":[31,19,22]}"#;
    let Operation::CreateIkePolicy(new) = operation(Method::POST, "/v1/ike_policies", NESTED, body) else {
        panic!()
    };
    assert_eq!(
        new.integrity,
        [Integrity::HmacSha2_512_256, Integrity::HmacSha2_256_128]
    );
    assert_eq!(new.encryption, [Encryption::Aes256Cbc, Encryption::Aes128Cbc]);
    assert_eq!(new.dh, [PolicyGroup(31), PolicyGroup(19), PolicyGroup(22)]);
    assert_eq!(new.key_lifetime, 28_800);

    let body =
        r#"{"authentication_algorithm":"disabled","encryption_algorithm":"aes256gcm16","pfs":"disabled"}"#;
    let Operation::CreateIpsecPolicy(new) = operation(Method::POST, "/v1/ipsec_policies", NESTED, body)
    else {
        panic!()
    };
    assert!(new.integrity.is_empty() && new.pfs.is_empty());
    assert_eq!(new.key_lifetime, 3600);

    let body = r#"{"authentication_algorithm":"md5","encryption_algorithm":"triple_des","pfs":"group_2"}"#;
    let Operation::CreateIpsecPolicy(new) = operation(Method::POST, "/v1/ipsec_policies", FLAT, body) else {
        panic!()
    };
    assert_eq!(new.encryption, [Encryption::TripleDes]);
    assert_eq!(new.pfs, [PolicyGroup(2)]);
}

#[test]
fn if_match_names_versions() {
    let path = format!("/v1/vpcs/{}", regional(10));
    for (tag, expected) in [
        (None, None),
        (Some("*"), None),
        (Some("W/\"17\""), Some(vec![17])),
        (Some("W/\"17\", \"18\""), Some(vec![17, 18])),
        (Some("W/\"other\", W/\"17\""), Some(vec![17])),
        (Some("\"17\""), Some(vec![17])),
        (Some("17"), Some(vec![])),
        (Some("W/\"other\""), Some(vec![])),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(tag) = tag {
            headers.insert(header::IF_MATCH, HeaderValue::from_str(tag).unwrap());
        }
        let decoded = read_with(Method::DELETE, &path, NESTED, "", &headers).unwrap();
        let Ask::Operation(operation) = decoded.ask else {
            panic!()
        };
        assert_eq!(
            *operation,
            Operation::DeleteVpc(DeleteVpc {
                vpc: bits(10).into(),
                if_match: expected
            })
        );
    }
}

#[test]
fn lists_have_pages_and_filters() {
    let vpc = regional(10);
    let Query::Subnets { filter, page } = query(&format!("/v1/subnets?vpc.id={vpc}&limit=7&start=a%2Fb"))
    else {
        panic!()
    };
    assert_eq!(filter.vpc, Some(bits(10).into()));
    assert_eq!((page.limit.get(), page.start.as_deref()), (7, Some("a/b")));
    let Query::VpnGateways { sort, page, .. } = query("/v1/vpn_gateways") else {
        panic!()
    };
    assert_eq!((sort, page.limit.get()), (GatewaySort::CreatedDescending, 50));
}

#[test]
fn the_default_group_is_a_filter_like_any_other() {
    let own = format!("{:032x}", bits(1).value());
    for (text, expected) in [
        (String::new(), None),
        (format!("resource_group.id={own}"), Some(GroupFilter::Default)),
        (
            "resource_group.id=group-1".to_owned(),
            Some(GroupFilter::Labelled("group-1".to_owned())),
        ),
    ] {
        let Query::Vpcs { filter, .. } = query(&format!("/v1/vpcs?{text}")) else {
            panic!()
        };
        assert_eq!(filter.resource_group, expected, "{text}");
        let Query::IkePolicies { resource_group, .. } = query(&format!("/v1/ike_policies?{text}")) else {
            panic!()
        };
        assert_eq!(resource_group, expected, "{text}");
    }
}

#[test]
fn version_and_generation_come_before_ids_and_body() {
    let matched = isthmus_ibm::find_route(&Method::POST, "/v1/vpcs/nothing/address_prefixes").unwrap();
    let headers = HeaderMap::new();
    for (parameters, code) in [
        ("generation=2", "missing_version"),
        ("version=&generation=2", "missing_version"),
        ("version=2020-13-40&generation=2", "invalid_version"),
        ("version=2018-01-01&generation=2", "invalid_version_range"),
        ("version=9999-01-01&generation=2", "invalid_version_range"),
        ("version=2026-10-06", "missing_generation_parameter"),
        ("version=2026-10-06&generation=1", "invalid_generation_parameter"),
        ("version=2026-10-06&generation=2&maturity=beta", "not_found"),
    ] {
        let fault = isthmus_ibm::decode(&isthmus_ibm::Request {
            matched: &matched,
            query: parameters,
            headers: &headers,
            body: b"{",
            scene: crate::samples::scene(),
        })
        .unwrap_err();
        assert_eq!(fault.code, code, "{parameters}");
    }
}
