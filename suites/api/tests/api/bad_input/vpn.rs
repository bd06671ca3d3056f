//! VPN gateways, policies, connections.

use isthmus_api_suite::{FLAT, PSK, Server, World};
use serde_json::{Value, json};

use super::{at, check, row};

#[tokio::test]
async fn gateways_and_policies() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let gateway = |subnet: &str, name: &str, status, code| {
        let body = json!({ "subnet": { "id": subnet }, "name": name, "mode": "policy" });
        row("POST", "/v1/vpn_gateways", body, status, code)
    };
    let ike = format!("/v1/ike_policies/{}", world.ike_policy);
    let ipsec = format!("/v1/ipsec_policies/{}", world.ipsec_policy);
    let foreign = "0717-0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11";
    let new_ike = json!({ "name": "ike", "ike_version": 2, "authentication_algorithm": "sha256",
                          "encryption_algorithm": "aes128", "dh_group": 14 });
    let new_ipsec = json!({ "name": "esp", "authentication_algorithm": "sha256",
                            "encryption_algorithm": "aes128", "pfs": "disabled" });
    let rows = vec![
        gateway(&world.gateway_subnet, "gw", 409, "vpn_gateway_duplicate_name"),
        gateway(&world.small_subnet, "tiny", 409, "subnet_out_of_ip_addresses"),
        gateway(foreign, "x", 400, "vpn_gateway_subnet_not_found"),
        gateway(&world.gateway_subnet, "Bad_Name", 400, "vpn_gateway_invalid_name"),
        row(
            "PATCH",
            &format!("/v1/vpn_gateways/{foreign}"),
            json!({}),
            404,
            "vpn_gateway_not_found",
        ),
        row(
            "POST",
            "/v1/ike_policies",
            new_ike,
            409,
            "ike_policy_duplicate_name",
        ),
        row(
            "POST",
            "/v1/ipsec_policies",
            new_ipsec,
            409,
            "ipsec_policy_duplicate_name",
        ),
        row("DELETE", &ike, Value::Null, 409, "ike_policy_in_use"),
        row("DELETE", &ipsec, Value::Null, 409, "ipsec_policy_in_use"),
        row(
            "PATCH",
            &ike,
            json!({ "key_lifetime": 1799 }),
            400,
            "validation_min_value",
        ),
        row("PATCH", &ike, json!({ "dh_groups": [] }), 400, "bad_field"),
        row(
            "PATCH",
            &ike,
            json!({ "encryption_algorithm": "triple_des" }),
            400,
            "bad_field",
        ),
        row(
            "PATCH",
            &ipsec,
            json!({ "encryption_algorithm": "aes128gcm16" }),
            400,
            "bad_field",
        ),
        row(
            "PATCH",
            &ipsec,
            json!({ "authentication_algorithm": "disabled" }),
            400,
            "bad_field",
        ),
        row(
            "GET",
            "/v1/ike_policies/x",
            Value::Null,
            404,
            "ike_policy_not_found",
        ),
        row(
            "GET",
            "/v1/ipsec_policies/x",
            Value::Null,
            404,
            "ipsec_policy_not_found",
        ),
        row(
            "GET",
            "/v1/vpn_gateways?start=x",
            Value::Null,
            400,
            "invalid_id_format",
        ),
        row("GET", "/v1/vpcs?start=x", Value::Null, 400, "invalid_id_format"),
    ];
    check(&server, &client, rows).await;
}

#[tokio::test]
async fn new_connections() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let all = world.connections_path();
    let other = World::connection_body("other", "198.51.100.77", "10.1.1.0/24", "10.3.0.0/16");
    let with = |pointer: &str, value: Value, status, code| {
        let mut body = other.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        row("POST", &all, body, status, code)
    };
    let key = "vpn_connection_invalid_psk_format";
    let overlap = "vpn_connection_cidr_overlap";
    let not_valid = "vpn_connection_cidr_not_valid";
    let sixteen: Vec<String> = (0..16).map(|n| format!("10.{}.0.0/16", 40 + n)).collect();
    let rows = vec![
        with("/name", json!("to-right"), 409, "vpn_connection_duplicate_name"),
        with("/name", json!("Bad_Name"), 400, "vpn_connection_invalid_name"),
        with("/psk", json!(""), 400, key),
        with("/psk", json!("k".repeat(129)), 400, key),
        with("/psk", json!("five5"), 400, key),
        with("/psk", json!("0xabcdef"), 400, key),
        with("/psk", json!("a space"), 400, key),
        with("/psk", json!([PSK]), 400, "validation_invalid_field_type"),
        with(
            "/peer/address",
            json!("999.1.1.1"),
            400,
            "validation_invalid_ipv4_address",
        ),
        with(
            "/peer/cidrs",
            json!([]),
            400,
            "vpn_connection_peer_cidrs_required",
        ),
        with(
            "/local/cidrs",
            json!([]),
            400,
            "vpn_connection_local_cidrs_required",
        ),
        with("/peer/cidrs", json!(["192.168.1.5/24"]), 400, not_valid),
        with(
            "/peer/cidrs",
            json!(["10.3.0.0/16", "10.3.0.0/16"]),
            400,
            "vpn_connection_cidr_duplicated",
        ),
        with("/peer/cidrs", json!(["10.1.1.0/24"]), 409, overlap),
        with("/peer/cidrs", json!(["10.2.5.0/24"]), 409, overlap),
        with(
            "/local/cidrs",
            json!(["10.1.1.0/24", "10.1.1.128/25"]),
            409,
            overlap,
        ),
        with(
            "/peer/cidrs",
            json!(sixteen),
            409,
            "vpn_connection_peer_subnets_quota_exceeded",
        ),
    ];
    check(&server, &client, rows).await;
}

#[tokio::test]
async fn changed_connections() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let all = world.connections_path();
    let one = world.connection_path();
    let other = World::connection_body("other", "198.51.100.77", "10.1.1.0/24", "10.3.0.0/16");
    let key = "vpn_connection_invalid_psk_format";
    let unknown = "0717-0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11";
    let rows = vec![
        row(
            "POST",
            &format!("/v1/vpn_gateways/{unknown}/connections"),
            other.clone(),
            404,
            "vpn_gateway_not_found",
        ),
        row(
            "GET",
            &format!("{all}/{unknown}"),
            Value::Null,
            404,
            "vpn_connection_not_found",
        ),
        row(
            "GET",
            &format!("/v1/vpn_gateways/{unknown}/connections/{}", world.connection),
            Value::Null,
            404,
            "vpn_gateway_not_found",
        ),
        row("PATCH", &one, json!({ "psk": "short" }), 400, key),
        row(
            "PATCH",
            &one,
            json!({ "ike_policy": { "id": world.ipsec_policy } }),
            400,
            "bad_field",
        ),
        row(
            "PATCH",
            &one,
            json!({ "peer": { "fqdn": "vpn.example.test" } }),
            400,
            "bad_field",
        ),
        row(
            "PATCH",
            &one,
            json!({ "dead_peer_detection": { "interval": 60 } }),
            400,
            "bad_field",
        ),
        row(
            "PATCH",
            &one,
            json!({ "peer": { "cidrs": ["10.9.0.0/16"] } }),
            400,
            "vpn_connection_update_cidrs_not_permitted",
        ),
        row(
            "PATCH",
            &one,
            json!({ "peer_address": "198.51.100.8" }),
            400,
            "bad_field",
        ),
        at(FLAT, row("POST", &all, other.clone(), 400, "bad_field")),
    ];
    check(&server, &client, rows).await;
}

#[tokio::test]
async fn ranges() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let one = world.connection_path();
    let overlap = "vpn_connection_cidr_overlap";
    let not_valid = "vpn_connection_cidr_not_valid";
    let rows = vec![
        row(
            "DELETE",
            &format!("{one}/local/cidrs/10.1.0.0%2F16"),
            Value::Null,
            409,
            "vpn_connection_cidr_not_deleted",
        ),
        row(
            "DELETE",
            &format!("{one}/peer/cidrs/10.77.0.0%2F16"),
            Value::Null,
            404,
            "vpn_connection_cidr_not_found",
        ),
        row(
            "GET",
            &format!("{one}/peer/cidrs/10.2.0.0%2F17"),
            Value::Null,
            404,
            "vpn_connection_cidr_not_found",
        ),
        row(
            "PUT",
            &format!("{one}/peer/cidrs/10.2.0.5%2F16"),
            Value::Null,
            400,
            not_valid,
        ),
        row(
            "PUT",
            &format!("{one}/peer/cidrs/10.1.9.0%2F24"),
            Value::Null,
            409,
            overlap,
        ),
        row(
            "PUT",
            &format!("{one}/local/cidrs/10.1.9.0%2F24"),
            Value::Null,
            409,
            overlap,
        ),
        at(
            FLAT,
            row(
                "PUT",
                &format!("{one}/local_cidrs/10.1.9.0/24"),
                Value::Null,
                409,
                overlap,
            ),
        ),
        at(
            FLAT,
            row(
                "PUT",
                &format!("{one}/peer_cidrs/10.2.9.0/x"),
                Value::Null,
                400,
                not_valid,
            ),
        ),
    ];
    check(&server, &client, rows).await;
}
