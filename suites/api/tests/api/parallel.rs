//! Many clients at once.

use std::collections::BTreeSet;

use isthmus_api::Limits;
use isthmus_api_suite::{Server, World};
use isthmus_model::{Quotas, Settings};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_creates_with_one_name_one_succeeds() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        tasks.spawn(async move {
            let reply = client
                .post("/v1/vpcs", json!({ "name": "wanted" }))
                .await
                .unwrap();
            (reply.status, reply.code().to_owned())
        });
    }
    let mut made = 0;
    while let Some(outcome) = tasks.join_next().await {
        match outcome.unwrap() {
            (201, _) => made += 1,
            (status, code) => assert_eq!((status, code.as_str()), (409, "validation_unique_failed")),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_creates_share_no_address() {
    let settings = Settings {
        quotas: Quotas::unlimited(),
        ..Settings::default()
    };
    let server = Server::start_with(settings, false, Limits::default())
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    let vpc = World::vpc(&client, "v").await.unwrap();
    let prefix = json!({ "cidr": "10.1.0.0/16", "zone": { "name": "us-south-1" }, "is_default": true });
    client
        .post(&format!("/v1/vpcs/{vpc}/address_prefixes"), prefix)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let gateways = World::subnet(&client, &vpc, "gateways", "10.1.0.0/24")
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let (client, vpc, gateways) = (client.clone(), vpc.clone(), gateways.clone());
        tasks.spawn(async move {
            if number % 2 == 0 {
                let body = json!({ "vpc": { "id": vpc }, "total_ipv4_address_count": 64, "zone": { "name": "us-south-1" } });
                let made = client.post("/v1/subnets", body).await.unwrap().expect(201).unwrap();
                made.json["ipv4_cidr_block"].as_str().unwrap().to_owned()
            } else {
                let body = json!({ "subnet": { "id": gateways }, "mode": "policy" });
                let made = client.post("/v1/vpn_gateways", body).await.unwrap().expect(201).unwrap();
                made.json["public_ip"]["address"].as_str().unwrap().to_owned()
            }
        });
    }
    let mut taken = BTreeSet::new();
    while let Some(value) = tasks.join_next().await {
        let value = value.unwrap();
        assert!(taken.insert(value.clone()), "{value} was given twice");
    }
    assert_eq!(taken.len(), 40);
}
