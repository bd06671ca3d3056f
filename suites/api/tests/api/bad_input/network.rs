//! VPCs, address prefixes, subnets, instances.

use isthmus_api_suite::{Server, World};
use serde_json::{Value, json};

use super::{check, row};

#[tokio::test]
async fn vpcs_and_prefixes() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let prefixes = format!("/v1/vpcs/{}/address_prefixes", world.vpc);
    let prefix = |cidr: &str, status, code| {
        row(
            "POST",
            &prefixes,
            json!({ "cidr": cidr, "zone": { "name": "us-south-1" } }),
            status,
            code,
        )
    };
    let vpc = format!("/v1/vpcs/{}", world.vpc);
    let rows = vec![
        row(
            "POST",
            "/v1/vpcs",
            json!({ "name": "left" }),
            409,
            "validation_unique_failed",
        ),
        row(
            "POST",
            "/v1/vpcs",
            json!({ "name": 7 }),
            400,
            "validation_invalid_field_type",
        ),
        row(
            "PATCH",
            &vpc,
            json!({ "name": "empty" }),
            409,
            "validation_unique_failed",
        ),
        row("DELETE", &vpc, Value::Null, 409, "vpc_in_use"),
        row(
            "DELETE",
            "/v1/vpcs/r006-0c6a1f9e-5b0d-4a53-9d6f-2f3f8f6f2a11",
            Value::Null,
            404,
            "not_found",
        ),
        prefix("10.1.128.0/17", 409, "address_prefix_conflict"),
        prefix("10.0.0.0/8", 400, "validation_invalid_cidr"),
        prefix("10.7.0.0/30", 400, "validation_invalid_cidr"),
        prefix("10.7.0.1/24", 400, "validation_invalid_cidr"),
        prefix("127.0.0.0/16", 400, "validation_invalid_cidr"),
        prefix("161.26.0.0/16", 400, "validation_invalid_cidr"),
        prefix("166.8.0.0/16", 400, "validation_invalid_cidr"),
        prefix("169.254.0.0/16", 400, "validation_invalid_cidr"),
        prefix("224.0.0.0/9", 400, "validation_invalid_cidr"),
        row(
            "POST",
            &prefixes,
            json!({ "cidr": "10.7.0.0/16", "zone": { "name": "mars-1" } }),
            400,
            "invalid_zone",
        ),
        row(
            "POST",
            &prefixes,
            json!({ "cidr": "10.7.0.0/16", "zone": { "name": "us-south-1" }, "is_default": true }),
            409,
            "address_prefix_conflict",
        ),
        row(
            "DELETE",
            &format!("{prefixes}/{}", world.prefix),
            Value::Null,
            409,
            "address_prefix_in_use",
        ),
    ];
    check(&server, &client, rows).await;
}

#[tokio::test]
async fn subnets() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let subnet = |more: Value, status, code| {
        let mut body = json!({ "vpc": { "id": world.vpc } });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        row("POST", "/v1/subnets", body, status, code)
    };
    let in_zone = |cidr: &str, zone: &str| json!({ "ipv4_cidr_block": cidr, "zone": { "name": zone } });
    let rows = vec![
        subnet(
            json!({ "ipv4_cidr_block": "10.1.0.128/25" }),
            409,
            "subnet_conflict",
        ),
        subnet(
            json!({ "ipv4_cidr_block": "10.1.1.0/24", "name": "x" }),
            409,
            "subnet_conflict",
        ),
        subnet(
            json!({ "ipv4_cidr_block": "10.2.0.0/24" }),
            400,
            "not_in_address_prefix",
        ),
        subnet(
            json!({ "ipv4_cidr_block": "10.1.3.1/24" }),
            400,
            "validation_invalid_cidr",
        ),
        subnet(
            json!({ "ipv4_cidr_block": "10.1.3.0/30" }),
            400,
            "validation_invalid_cidr",
        ),
        subnet(
            json!({ "ipv4_cidr_block": "10.1.3.0/24", "name": "app-net" }),
            409,
            "validation_unique_failed",
        ),
        subnet(in_zone("10.1.3.0/24", "us-south-2"), 400, "zone_inconsistency"),
        subnet(in_zone("10.1.3.0/24", "mars-1"), 400, "invalid_zone"),
        subnet(
            json!({ "total_ipv4_address_count": 16, "zone": { "name": "us-south-3" } }),
            400,
            "no_default_address_prefix",
        ),
        subnet(
            json!({ "total_ipv4_address_count": 131_072, "zone": { "name": "us-south-1" } }),
            409,
            "insufficient_space_for_subnet",
        ),
        row(
            "POST",
            "/v1/subnets",
            json!({ "vpc": { "id": world.gateway } }),
            400,
            "bad_field",
        ),
        row(
            "DELETE",
            &format!("/v1/subnets/{}", world.gateway_subnet),
            Value::Null,
            409,
            "subnet_in_use_vpn_gateway_exists",
        ),
        row(
            "DELETE",
            &format!("/v1/subnets/{}", world.instance_subnet),
            Value::Null,
            409,
            "subnet_in_use_network_interface_exists",
        ),
        row(
            "PATCH",
            &format!("/v1/subnets/{}", world.small_subnet),
            json!({ "name": "app-net" }),
            409,
            "validation_unique_failed",
        ),
    ];
    check(&server, &client, rows).await;
}

#[tokio::test]
async fn instances() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let with = |pointer: &str, value: Value, status, code| {
        let mut body = World::instance_body("other", &world.image, &world.instance_subnet);
        if let Some(place) = body.pointer_mut(pointer) {
            *place = value;
        } else {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap()[name] = value;
        }
        row("POST", "/v1/instances", body, status, code)
    };
    let nic = "/primary_network_interface";
    let address = |text: &str| (format!("{nic}/primary_ip"), json!({ "address": text }));
    let mut rows = vec![
        with("/name", json!("app"), 409, "instance_name_exists"),
        with("/zone/name", json!("us-south-2"), 400, "zone_inconsistency"),
        with(
            "/vpc",
            json!({ "id": world.empty_vpc }),
            400,
            "vpc_resource_separation",
        ),
        with("/image/id", json!(world.vpc), 400, "bad_field"),
        with("/profile/name", json!("nope"), 400, "bad_field"),
        with(&format!("{nic}/subnet/id"), json!(world.vpc), 400, "bad_field"),
        row(
            "POST",
            &format!("/v1/instances/{}/actions", world.instance),
            json!({ "type": "start" }),
            409,
            "invalid_state",
        ),
        row(
            "POST",
            &format!("/v1/instances/{}/actions", world.instance),
            json!({ "type": "fly" }),
            400,
            "validation_enum",
        ),
    ];
    for taken in [
        "10.1.1.0",
        "10.1.1.1",
        "10.1.1.2",
        "10.1.1.3",
        "10.1.1.255",
        "10.1.0.9",
    ] {
        let (pointer, value) = address(taken);
        rows.push(with(&pointer, value, 400, "bad_field"));
    }
    let (pointer, value) = address("10.1.1.4");
    rows.push(with(&pointer, value, 409, "address_is_already_reserved"));
    let (pointer, value) = address("10.1.1.400");
    rows.push(with(&pointer, value, 400, "validation_invalid_ipv4_address"));
    check(&server, &client, rows).await;
}
