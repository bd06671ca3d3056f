//! What happens when something runs out.

use isthmus_api::Limits;
use isthmus_api_suite::{Client, Server, World};
use isthmus_model::{Quotas, Settings};
use serde_json::json;

async fn free(client: &Client, subnet: &str) -> u64 {
    let reply = client
        .get(&format!("/v1/subnets/{subnet}"))
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    reply.json["available_ipv4_address_count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_gateway_takes_eight_addresses_and_gives_them_back() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let subnet = World::subnet(&client, &world.vpc, "fresh", "10.1.5.0/24")
        .await
        .unwrap();
    assert_eq!(free(&client, &subnet).await, 251);
    let gateway = World::gateway(&client, "another", &subnet).await.unwrap();
    assert_eq!(gateway["lifecycle_state"], "pending");
    assert!(gateway["public_ip"]["address"].is_string());
    assert_eq!(free(&client, &subnet).await, 243);
    let path = format!("/v1/vpn_gateways/{}", gateway["id"].as_str().unwrap());
    let refused = client.delete(&path).await.unwrap();
    assert_eq!(
        (refused.status, refused.code()),
        (409, "vpn_gateway_invalid_state")
    );
    server.host_pass().await.unwrap();
    assert_eq!(client.get(&path).await.unwrap().json["lifecycle_state"], "stable");
    assert_eq!(client.delete(&path).await.unwrap().status, 202);
    assert_eq!(
        client.get(&path).await.unwrap().json["lifecycle_state"],
        "deleting"
    );
    let in_use = client.delete(&format!("/v1/subnets/{subnet}")).await.unwrap();
    assert_eq!(
        (in_use.status, in_use.code()),
        (409, "subnet_in_use_vpn_gateway_exists")
    );
    server.host_pass().await.unwrap();
    assert_eq!(client.get(&path).await.unwrap().code(), "vpn_gateway_not_found");
    assert_eq!(free(&client, &subnet).await, 251);
    assert_eq!(
        client
            .delete(&format!("/v1/subnets/{subnet}"))
            .await
            .unwrap()
            .status,
        204
    );
}

#[tokio::test]
async fn a_subnet_without_free_addresses_refuses_and_keeps_its_state() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    assert_eq!(free(&client, &world.small_subnet).await, 3);
    for name in ["one", "two", "three"] {
        let body = World::instance_body(name, &world.image, &world.small_subnet);
        client
            .post("/v1/instances", body)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
    }
    let before = server.revision();
    let body = World::instance_body("four", &world.image, &world.small_subnet);
    let reply = client.post("/v1/instances", body).await.unwrap();
    assert_eq!(
        (reply.status, reply.code()),
        (409, "subnet_out_of_ip_addresses"),
        "{}",
        reply.text
    );
    assert_eq!(server.revision(), before);
    assert_eq!(free(&client, &world.small_subnet).await, 0);

    let body = json!({ "vpc": { "id": world.vpc }, "total_ipv4_address_count": 65536, "zone": { "name": "us-south-1" } });
    let reply = client.post("/v1/subnets", body).await.unwrap();
    assert_eq!(
        (reply.status, reply.code()),
        (409, "insufficient_space_for_subnet"),
        "{}",
        reply.text
    );
    assert_eq!(server.revision(), before);
}

#[tokio::test]
async fn an_exhausted_public_pool_refuses_gateways() {
    let settings = Settings {
        public_pool: "203.0.113.0/29".parse().unwrap(),
        quotas: Quotas::unlimited(),
        ..Settings::default()
    };
    let server = Server::start_with(settings, false, Limits::default())
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    let vpc = World::vpc(&client, "v").await.unwrap();
    let prefix = json!({ "cidr": "10.1.0.0/16", "zone": { "name": "us-south-1" } });
    client
        .post(&format!("/v1/vpcs/{vpc}/address_prefixes"), prefix)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let subnet = World::subnet(&client, &vpc, "net", "10.1.0.0/24").await.unwrap();
    let mut addresses = Vec::new();
    let refused = loop {
        let before = server.revision();
        let body = json!({ "subnet": { "id": subnet }, "mode": "policy" });
        let reply = client.post("/v1/vpn_gateways", body).await.unwrap();
        if reply.status != 201 {
            assert_eq!(server.revision(), before);
            break reply;
        }
        let address = reply.json["public_ip"]["address"].as_str().unwrap().to_owned();
        assert!(!addresses.contains(&address), "{address} was given twice");
        addresses.push(address);
    };
    assert_eq!(
        (refused.status, refused.code()),
        (409, "over_quota"),
        "{}",
        refused.text
    );
    assert!((1..=6).contains(&addresses.len()), "{addresses:?}");
}

#[tokio::test]
async fn quotas_are_kept() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    for name in ["gw-2", "gw-3"] {
        World::gateway(&client, name, &world.gateway_subnet)
            .await
            .unwrap();
    }
    let body = json!({ "subnet": { "id": world.gateway_subnet }, "mode": "policy" });
    let reply = client.post("/v1/vpn_gateways", body).await.unwrap();
    assert_eq!((reply.status, reply.code()), (409, "vpn_gateways_quota_exceeded"));
    for number in 0..9 {
        let body = World::connection_body(
            &format!("c-{number}"),
            &format!("198.51.100.{}", 20 + number),
            "10.1.0.0/24",
            &format!("10.{}.0.0/16", 60 + number),
        );
        client
            .post(&world.connections_path(), body)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
    }
    let body = World::connection_body("c-10", "198.51.100.40", "10.1.0.0/24", "10.99.0.0/16");
    let reply = client.post(&world.connections_path(), body).await.unwrap();
    assert_eq!(
        (reply.status, reply.code()),
        (409, "vpn_connections_quota_exceeded"),
        "{}",
        reply.text
    );
    let policy = json!({ "ike_version": 2, "authentication_algorithm": "sha256",
                         "encryption_algorithm": "aes128", "dh_group": 14 });
    for _ in 0..19 {
        client
            .post("/v1/ike_policies", policy.clone())
            .await
            .unwrap()
            .expect(201)
            .unwrap();
    }
    let reply = client.post("/v1/ike_policies", policy).await.unwrap();
    assert_eq!((reply.status, reply.code()), (409, "ike_policies_quota_exceeded"));
}
