//! Lists in pages.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use isthmus_api::Limits;
use isthmus_api_suite::{Client, Server, World};
use isthmus_model::{Quotas, Settings};
use serde_json::{Value, json};

/// Reads all pages, following the links as a client does, and gives the ids in order.
async fn walk(client: &Client, path: &str, key: &str, limit: usize, total: usize) -> Vec<String> {
    let mark = if path.contains('?') { '&' } else { '?' };
    let first = format!("{path}{mark}limit={limit}");
    let mut target = first.clone();
    let mut ids = Vec::new();
    loop {
        let page = client.get(&target).await.unwrap().expect(200).unwrap().json;
        assert_eq!(page["limit"], json!(limit));
        assert_eq!(page["total_count"], json!(total), "{path}");
        let expected = format!("http://{}{path}", client.address);
        assert!(
            page["first"]["href"]
                .as_str()
                .unwrap()
                .starts_with(expected.split('?').next().unwrap())
        );
        let items = page[key].as_array().unwrap();
        assert!(items.len() <= limit);
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.get("next") else {
            return ids;
        };
        assert_eq!(items.len(), limit, "a page before the last is full");
        let href = next["href"].as_str().unwrap();
        target = href
            .strip_prefix(&format!("http://{}", client.address))
            .unwrap()
            .to_owned();
    }
}

#[tokio::test]
async fn every_list_gives_each_item_once() {
    let settings = Settings {
        quotas: Quotas::unlimited(),
        ..Settings::default()
    };
    let server = Server::start_with(settings, false, Limits::default())
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    for number in 0..5 {
        World::vpc(&client, &format!("vpc-{number}")).await.unwrap();
        let cidr = format!("10.1.{}.0/24", 16 + number);
        World::subnet(&client, &world.vpc, &format!("net-{number}"), &cidr)
            .await
            .unwrap();
        let prefix =
            json!({ "cidr": format!("10.{}.0.0/16", 100 + number), "zone": { "name": "us-south-2" } });
        client
            .post(&format!("/v1/vpcs/{}/address_prefixes", world.vpc), prefix)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
        let instance = World::instance_body(&format!("app-{number}"), &world.image, &world.instance_subnet);
        client
            .post("/v1/instances", instance)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
        World::gateway(&client, &format!("gw-{number}"), &world.gateway_subnet)
            .await
            .unwrap();
        let mut connection = World::connection_body(
            &format!("c-{number}"),
            &format!("198.51.100.{}", 20 + number),
            "10.1.0.0/24",
            &format!("10.{}.0.0/16", 60 + number),
        );
        connection["ike_policy"] = json!({ "id": world.ike_policy });
        client
            .post(&world.connections_path(), connection)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
        let ike = json!({ "ike_version": 2, "authentication_algorithm": "sha256",
                          "encryption_algorithm": "aes128", "dh_group": 14 });
        client
            .post("/v1/ike_policies", ike)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
        let ipsec = json!({ "authentication_algorithm": "sha256", "encryption_algorithm": "aes128", "pfs": "disabled" });
        client
            .post("/v1/ipsec_policies", ipsec)
            .await
            .unwrap()
            .expect(201)
            .unwrap();
    }
    let prefixes = format!("/v1/vpcs/{}/address_prefixes", world.vpc);
    let in_vpc = format!("/v1/subnets?vpc.id={}", world.vpc);
    let reserved = format!("/v1/subnets/{}/reserved_ips", world.small_subnet);
    let members = format!("/v1/vpn_gateways/{}/members", world.gateway);
    let users = format!("/v1/ike_policies/{}/connections", world.ike_policy);
    for (path, key, total) in [
        ("/v1/vpcs", "vpcs", 7),
        (prefixes.as_str(), "address_prefixes", 6),
        ("/v1/subnets", "subnets", 8),
        (in_vpc.as_str(), "subnets", 8),
        ("/v1/subnets?vpc.name=empty", "subnets", 0),
        (reserved.as_str(), "reserved_ips", 5),
        ("/v1/instances", "instances", 6),
        ("/v1/instances?name=app-3", "instances", 1),
        ("/v1/vpn_gateways", "vpn_gateways", 6),
        ("/v1/vpn_gateways?sort=name", "vpn_gateways", 6),
        ("/v1/vpn_gateways?mode=route", "vpn_gateways", 0),
        (members.as_str(), "members", 2),
        (world.connections_path().as_str(), "connections", 6),
        (users.as_str(), "connections", 6),
        ("/v1/ike_policies", "ike_policies", 6),
        ("/v1/ipsec_policies", "ipsec_policies", 6),
        ("/v1/images", "images", 1),
        ("/v1/keys", "keys", 0),
    ] {
        let whole = walk(&client, path, key, 100, total).await;
        assert_eq!(whole.len(), total, "{path}");
        for limit in [1, 3, 4] {
            let pages = walk(&client, path, key, limit, total).await;
            assert_eq!(pages, whole, "{path} with pages of {limit}");
        }
        assert_eq!(
            whole.iter().collect::<BTreeSet<_>>().len(),
            total,
            "{path} repeats an item"
        );
    }
}

/// Creation times have milliseconds: what is made in the same one has no order.
fn next_millisecond() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let begin = clock();
    while clock() == begin {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn gateways_are_sorted_newest_first_or_by_name() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    for name in ["b", "a"] {
        next_millisecond();
        World::gateway(&client, name, &world.gateway_subnet)
            .await
            .unwrap();
    }
    for (path, order) in [
        ("/v1/vpn_gateways", ["a", "b", "gw"]),
        ("/v1/vpn_gateways?sort=-created_at", ["a", "b", "gw"]),
        ("/v1/vpn_gateways?sort=created_at", ["gw", "b", "a"]),
        ("/v1/vpn_gateways?sort=name", ["a", "b", "gw"]),
        ("/v1/vpn_gateways?sort=-name", ["gw", "b", "a"]),
    ] {
        let reply = client.get(path).await.unwrap();
        let names: Vec<&Value> = reply.json["vpn_gateways"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gateway| &gateway["name"])
            .collect();
        assert_eq!(names, order, "{path}");
    }
}

#[tokio::test]
async fn lists_narrow_to_the_default_group_and_to_others() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let vpc = client.get(&format!("/v1/vpcs/{}", world.vpc)).await.unwrap().json;
    let default = vpc["resource_group"]["id"].as_str().unwrap();
    let group = || json!({ "id": "group-1" });
    let ike = json!({ "ike_version": 2, "authentication_algorithm": "sha256",
                      "encryption_algorithm": "aes256", "dh_group": 19, "resource_group": group() });
    let esp = json!({ "authentication_algorithm": "sha256", "encryption_algorithm": "aes256",
                      "pfs": "group_19", "resource_group": group() });
    let mut instance = World::instance_body("other", &world.image, &world.instance_subnet);
    instance["resource_group"] = group();
    for (path, key, body) in [
        ("/v1/vpcs", "vpcs", json!({ "resource_group": group() })),
        (
            "/v1/subnets",
            "subnets",
            json!({ "vpc": { "id": world.vpc }, "ipv4_cidr_block": "10.1.9.0/24", "resource_group": group() }),
        ),
        ("/v1/instances", "instances", instance),
        (
            "/v1/vpn_gateways",
            "vpn_gateways",
            json!({ "subnet": { "id": world.gateway_subnet }, "mode": "policy", "resource_group": group() }),
        ),
        ("/v1/ike_policies", "ike_policies", ike),
        ("/v1/ipsec_policies", "ipsec_policies", esp),
    ] {
        let before = client.get(path).await.unwrap().expect(200).unwrap().json;
        let made = client.post(path, body).await.unwrap().expect(201).unwrap();
        let ids = |filter: &str| {
            let (client, target) = (client.clone(), format!("{path}?resource_group.id={filter}"));
            async move {
                let list = client.get(&target).await.unwrap().expect(200).unwrap().json;
                let items = list[key].as_array().unwrap();
                assert_eq!(list["total_count"], items.len(), "{target}");
                items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
            }
        };
        let unlabelled: Vec<Value> = before[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].clone())
            .collect();
        assert!(!unlabelled.is_empty(), "{path}");
        assert_eq!(ids(default).await, unlabelled, "{path}");
        assert_eq!(ids("group-1").await, [made.id()], "{path}");
        assert!(ids("group-2").await.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn what_comes_and_goes_between_pages_moves_nothing() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let mut there = BTreeSet::new();
    for number in 0..6 {
        there.insert(World::vpc(&client, &format!("vpc-{number}")).await.unwrap());
    }
    let mut seen = Vec::new();
    let mut target = "/v1/vpcs?limit=2".to_owned();
    for round in 0.. {
        let page = client.get(&target).await.unwrap().expect(200).unwrap().json;
        seen.extend(
            page["vpcs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|vpc| vpc["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page.get("next") else { break };
        target = next["href"]
            .as_str()
            .unwrap()
            .split_once("/v1")
            .map(|(_, rest)| format!("/v1{rest}"))
            .unwrap();
        // One more appears, and the one that the page ended with goes away.
        World::vpc(&client, &format!("late-{round}")).await.unwrap();
        let last = seen.last().unwrap().clone();
        assert_eq!(
            client.delete(&format!("/v1/vpcs/{last}")).await.unwrap().status,
            204
        );
    }
    let distinct: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "an item was repeated");
    assert!(there.is_subset(&distinct), "an item was skipped");
}
