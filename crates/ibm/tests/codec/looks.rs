//! How outcomes look at different dates.

use http::Method;
use isthmus_ibm::encode;
use isthmus_ops::*;
use isthmus_types::*;
use serde_json::json;

use crate::samples::*;

#[test]
fn one_connection_has_a_flat_and_a_nested_look() {
    let path = format!("/v1/vpn_gateways/{}/connections/{}", zonal(20), zonal(30));
    let outcome = || Outcome::VpnConnection(connection(ConnectionState::Up));
    let shared = json!({
        "id": zonal(30), "href": format!("https://vpc.example.test{path}"), "name": "to-right",
        "resource_type": "vpn_gateway_connection", "created_at": "2026-11-18T11:06:40.000Z", "mode": "policy",
        "authentication_mode": "psk", "psk": PSK, "admin_state_up": true, "establish_mode": "bidirectional",
        "dead_peer_detection": { "action": "restart", "interval": 2, "timeout": 10 },
        "status": "up", "status_reasons": [],
    });
    let with = |more: serde_json::Value| {
        let mut value = shared.clone();
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        value
    };
    let flat = with(json!({
        "local_cidrs": ["10.240.0.0/24"], "peer_cidrs": ["10.241.0.0/24"],
        "peer_address": "203.0.113.9", "route_mode": "policy",
    }));
    let nested = with(json!({
        "local": {
            "cidrs": ["10.240.0.0/24"],
            "ike_identities": [{ "type": "ipv4_address", "value": "198.51.100.7" }],
        },
        "peer": {
            "type": "address", "address": "203.0.113.9", "cidrs": ["10.241.0.0/24"],
            "ike_identity": { "type": "ipv4_address", "value": "203.0.113.9" },
        },
    }));
    for date in [FLAT, "2023-12-01", "2024-04-29"] {
        assert_eq!(shown(&path, date, outcome()), flat, "{date}");
    }
    for date in ["2024-04-30", NESTED] {
        assert_eq!(shown(&path, date, outcome()), nested, "{date}");
    }
}

#[test]
fn reasons_say_why_a_connection_is_down() {
    let path = format!("/v1/vpn_gateways/{}/connections/{}", zonal(20), zonal(30));
    let reasons = |reason, up| {
        let mut view = connection(ConnectionState::Down {
            reason,
            detail: "AUTHENTICATION_FAILED received".into(),
        });
        view.admin_state_up = up;
        let value = shown(&path, NESTED, Outcome::VpnConnection(view));
        assert_eq!(value["status"], "down");
        value["status_reasons"].clone()
    };
    use ConnectionDownReason as Reason;
    for (reason, code) in [
        (Reason::AuthenticationFailed, "cannot_authenticate_connection"),
        (Reason::AwaitingPeer, "peer_not_responding"),
        (Reason::IkePolicyMismatch, "ike_policy_mismatch"),
        (Reason::Internal, "internal_error"),
        (Reason::IpsecPolicyMismatch, "ipsec_policy_mismatch"),
        (Reason::Negotiating, "peer_not_responding"),
        (Reason::PeerNotResponding, "peer_not_responding"),
        (Reason::SelectorMismatch, "ike_v2_local_remote_cidr_mismatch"),
    ] {
        assert_eq!(reasons(reason, true)[0]["code"], code);
        assert_eq!(reasons(reason, false), json!([]));
    }
    assert_eq!(reasons(Reason::AdminDown, true), json!([]));
    assert!(
        reasons(Reason::Negotiating, true)[0]["message"]
            .as_str()
            .unwrap()
            .contains("under way")
    );
    assert!(
        reasons(Reason::AwaitingPeer, true)[0]["message"]
            .as_str()
            .unwrap()
            .contains("The peer alone may begin, and has not. AUTHENTICATION_FAILED received.")
    );
    assert!(
        reasons(Reason::AuthenticationFailed, true)[0]["message"]
            .as_str()
            .unwrap()
            .contains("received")
    );
}

#[test]
fn a_selector_mismatch_is_named_after_the_ike_version() {
    let path = format!("/v1/vpn_gateways/{}/connections/{}", zonal(20), zonal(30));
    for (ike_version, code) in [
        (None, "ike_v2_local_remote_cidr_mismatch"),
        (Some(IkeVersion::V1), "ike_v1_id_local_remote_cidr_mismatch"),
        (Some(IkeVersion::V2), "ike_v2_local_remote_cidr_mismatch"),
    ] {
        let mut view = connection(ConnectionState::Down {
            reason: ConnectionDownReason::SelectorMismatch,
            detail: String::new(),
        });
        view.ike_version = ike_version;
        let value = shown(&path, NESTED, Outcome::VpnConnection(view));
        assert_eq!(value["status_reasons"][0]["code"], code, "{ike_version:?}");
    }
}

#[test]
fn a_gateway_shows_status_only_at_older_dates() {
    let path = format!("/v1/vpn_gateways/{}", zonal(20));
    for (lifecycle, status, stable, health) in [
        (Lifecycle::Pending, "pending", "pending", "inapplicable"),
        (Lifecycle::Ready, "available", "stable", "ok"),
        (
            Lifecycle::Failed {
                reason: "no device".into(),
            },
            "failed",
            "stable",
            "faulted",
        ),
        (Lifecycle::Deleting, "deleting", "deleting", "inapplicable"),
    ] {
        let old = shown(
            &path,
            "2023-10-09",
            Outcome::VpnGateway(gateway(lifecycle.clone())),
        );
        let new = shown(&path, "2023-10-10", Outcome::VpnGateway(gateway(lifecycle)));
        assert_eq!(
            (&old["status"], &old["members"][1]["status"]),
            (&json!(status), &json!(status))
        );
        assert!(new.get("status").is_none() && new["members"][0].get("status").is_none());
        for value in [&old, &new] {
            assert_eq!(
                (&value["lifecycle_state"], &value["health_state"]),
                (&json!(stable), &json!(health))
            );
            assert_eq!(value["public_ip"], json!({ "address": "198.51.100.7" }));
            assert_eq!(value["members"][0]["role"], "active");
            assert_eq!(value["members"][0]["public_ip"]["address"], "198.51.100.7");
            assert_eq!(value["members"][1]["role"], "standby");
            assert_eq!(value["members"][1]["public_ip"]["address"], "0.0.0.0");
            assert_eq!(value["members"][1]["private_ip"]["address"], "10.240.0.5");
            assert_eq!(
                value["members"][1]["private_ip"]["subnet"]["id"],
                json!(zonal(11))
            );
            assert_eq!(value["connections"][0]["id"], json!(zonal(30)));
            assert_eq!(
                value["crn"],
                json!(format!(
                    "crn:v1:bluemix:public:is:us-south:a/{}::vpn:{}",
                    bits(1),
                    zonal(20)
                ))
            );
        }
    }
}

#[test]
fn members_are_a_page_and_each_can_be_read() {
    let base = format!("/v1/vpn_gateways/{}/members", zonal(20));
    let outcome = || Outcome::VpnGateway(gateway(Lifecycle::Ready));
    let first = shown(&format!("{base}?limit=1"), NESTED, outcome());
    assert_eq!(
        (&first["total_count"], &first["members"][0]["role"]),
        (&json!(2), &json!("active"))
    );
    assert_eq!(
        first["next"]["href"],
        json!(format!("https://vpc.example.test{base}?limit=1&start=1"))
    );
    let second = shown(&format!("{base}?limit=1&start=1"), NESTED, outcome());
    assert_eq!(second["members"][0]["role"], "standby");
    assert!(second.get("next").is_none());
    assert_eq!(
        shown(&format!("{base}/{}", zonal(22)), NESTED, outcome())["role"],
        "standby"
    );
    let decoded = read(Method::GET, &format!("{base}/{}", zonal(23)), NESTED, "").unwrap();
    assert_eq!(encode(&Ok(outcome()), &decoded.render).status(), 404);
}

#[test]
fn policies_show_both_forms() {
    let mut policy = IkePolicyView {
        id: bits(40).into(),
        common: common("p"),
        version: IkeVersion::V2,
        encryption: vec![Encryption::TripleDes],
        integrity: vec![Integrity::HmacMd5_96],
        dh: vec![PolicyGroup(5)],
        key_lifetime: 28_800,
        connections: vec![(bits(20).into(), reference(30, "to-right"))],
    };
    let path = format!("/v1/ike_policies/{}", regional(40));
    let one = shown(&path, NESTED, Outcome::IkePolicy(policy.clone()));
    assert_eq!(one["encryption_algorithm"], "triple_des");
    assert_eq!(one["encryption_algorithms"], json!(["triple_des"]));
    assert_eq!((&one["dh_group"], &one["dh_groups"]), (&json!(5), &json!([5])));
    assert_eq!(
        one["connections"][0]["href"],
        json!(format!(
            "https://vpc.example.test/v1/vpn_gateways/{}/connections/{}",
            zonal(20),
            zonal(30)
        ))
    );
    policy.dh.push(PolicyGroup(31));
    policy.integrity.push(Integrity::HmacSha2_256_128);
    let many = shown(&path, FLAT, Outcome::IkePolicy(policy));
    assert_eq!(
        (&many["dh_group"], &many["dh_groups"]),
        (&json!(65535), &json!([5, 31]))
    );
    assert_eq!(many["authentication_algorithm"], "multiple");

    let policy = IpsecPolicyView {
        id: bits(41).into(),
        common: common("q"),
        encryption: vec![Encryption::Aes128Gcm16],
        integrity: vec![],
        pfs: vec![],
        key_lifetime: 3600,
        connections: vec![],
    };
    let value = shown(
        &format!("/v1/ipsec_policies/{}", regional(41)),
        NESTED,
        Outcome::IpsecPolicy(policy),
    );
    assert_eq!(
        (
            &value["authentication_algorithm"],
            &value["authentication_algorithms"]
        ),
        (&json!("disabled"), &json!(["disabled"]))
    );
    assert_eq!(
        (&value["pfs"], &value["pfs_groups"]),
        (&json!("disabled"), &json!(["disabled"]))
    );
    assert_eq!(
        (&value["encapsulation_mode"], &value["transform_protocol"]),
        (&json!("tunnel"), &json!("esp"))
    );
}

#[test]
fn a_page_links_to_the_next_with_the_callers_filters() {
    let page = |next: Option<&str>| {
        Outcome::VpnGateways(PageOf {
            items: vec![gateway(Lifecycle::Ready)],
            total: 3,
            next: next.map(str::to_owned),
        })
    };
    let value = shown("/v1/vpn_gateways?sort=name&limit=1", NESTED, page(Some("a/b&c")));
    assert_eq!((&value["limit"], &value["total_count"]), (&json!(1), &json!(3)));
    assert_eq!(
        value["first"]["href"],
        "https://vpc.example.test/v1/vpn_gateways?sort=name&limit=1"
    );
    assert_eq!(
        value["next"]["href"],
        "https://vpc.example.test/v1/vpn_gateways?sort=name&limit=1&start=a%2Fb%26c"
    );
    let last = shown("/v1/vpn_gateways", NESTED, page(None));
    assert!(last.get("next").is_none());
    assert_eq!(last["limit"], 50);
}

#[test]
fn rules_for_everything_follow_the_date() {
    let path = format!("/v1/vpcs/{}/default_network_acl", regional(10));
    let acl = || {
        Outcome::NetworkAcl(NetworkAclView {
            id: bits(12).into(),
            common: common("acl"),
            vpc: reference(10, "left"),
            subnets: vec![PlacedSubnet {
                subnet: reference(11, "net"),
                zone: ZoneName::new("us-south-2").unwrap(),
            }],
        })
    };
    for (date, word) in [
        (FLAT, "all"),
        ("2025-12-08", "all"),
        ("2025-12-09", "icmp_tcp_udp"),
        (NESTED, "icmp_tcp_udp"),
    ] {
        let value = shown(&path, date, acl());
        assert_eq!(value["rules"][0]["protocol"], word, "{date}");
        assert_eq!(value["rules"][0]["name"], "allow-inbound");
        assert_eq!(value["rules"][1]["name"], "allow-outbound");
        let crn = format!(
            "crn:v1:bluemix:public:is:us-south-2:a/{}::subnet:{}",
            bits(1),
            zonal(11)
        );
        assert_eq!(value["subnets"][0]["crn"], crn, "{date}");
        assert_ne!(value["rules"][0]["id"], value["rules"][1]["id"]);
    }
}

#[test]
fn etags_carry_the_version_and_errors_the_trace() {
    let path = format!("/v1/vpn_gateways/{}/connections/{}", zonal(20), zonal(30));
    let decoded = read(Method::GET, &path, NESTED, "").unwrap();
    let good = encode(
        &Ok(Outcome::VpnConnection(connection(ConnectionState::Up))),
        &decoded.render,
    );
    assert_eq!(good.headers()["etag"], "W/\"3\"");
    let error = OpError::not_found(ResourceKind::VpnConnection, VpnConnectionId::from(bits(30)));
    let bad = encode(&Err(error), &decoded.render);
    let value: serde_json::Value = serde_json::from_slice(bad.body()).unwrap();
    assert_eq!((bad.status().as_u16(), &value["trace"]), (404, &json!("trace-1")));
    assert_eq!(value["errors"][0]["code"], "vpn_connection_not_found");
    assert_eq!(value["errors"][0]["target"]["value"], json!(zonal(30)));
}

#[test]
fn answers_without_content_are_empty() {
    let base = format!("/v1/vpn_gateways/{}", zonal(20));
    let one = format!("{base}/connections/{}", zonal(30));
    for (method, path, outcome, status) in [
        (Method::DELETE, base.clone(), Outcome::Done, 202),
        (Method::DELETE, one.clone(), Outcome::Done, 202),
        (
            Method::DELETE,
            format!("/v1/vpcs/{}", regional(10)),
            Outcome::Done,
            204,
        ),
        (
            Method::PUT,
            format!("{one}/peer/cidrs/10.0.0.0%2F24"),
            Outcome::CidrAdded(Addition::Added),
            201,
        ),
        (
            Method::PUT,
            format!("{one}/peer/cidrs/10.0.0.0%2F24"),
            Outcome::CidrAdded(Addition::AlreadyThere),
            204,
        ),
        (
            Method::PUT,
            format!("{one}/peer_cidrs/10.0.0.0/24"),
            Outcome::CidrAdded(Addition::Added),
            204,
        ),
        (
            Method::GET,
            format!("{one}/peer_cidrs/10.0.0.0/24"),
            Outcome::Done,
            204,
        ),
        (
            Method::DELETE,
            format!("{one}/local/cidrs/10.0.0.0%2F24"),
            Outcome::Done,
            204,
        ),
    ] {
        let decoded = read(method.clone(), &path, NESTED, "").unwrap();
        let response = encode(&Ok(outcome), &decoded.render);
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert!(response.body().is_empty());
    }
    let flat = shown(
        &format!("{one}/local_cidrs"),
        FLAT,
        Outcome::Cidrs(vec![cidr("10.0.0.0/24")]),
    );
    assert_eq!(flat, json!({ "local_cidrs": ["10.0.0.0/24"] }));
    let nested = shown(
        &format!("{one}/local/cidrs"),
        NESTED,
        Outcome::Cidrs(vec![cidr("10.0.0.0/24")]),
    );
    assert_eq!(nested, json!({ "cidrs": ["10.0.0.0/24"] }));
}
