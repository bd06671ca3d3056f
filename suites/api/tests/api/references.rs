//! Where one resource names another, the name leads to it.

use isthmus_api_suite::{Client, Server, World};
use serde_json::Value;

async fn read(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().expect(200).unwrap().json
}

fn path_of<'a>(client: &Client, href: &'a Value) -> &'a str {
    let (_, path) = href
        .as_str()
        .unwrap()
        .split_once(&client.address.to_string())
        .unwrap();
    path
}

#[tokio::test]
async fn listed_subnets_are_named_as_they_name_themselves() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    for default in ["default_network_acl", "default_routing_table"] {
        let holder = read(&client, &format!("/v1/vpcs/{}/{default}", world.vpc)).await;
        let subnets = holder["subnets"].as_array().unwrap();
        assert_eq!(subnets.len(), 3, "{default}");
        for listed in subnets {
            let whole = read(&client, path_of(&client, &listed["href"])).await;
            assert_eq!(whole["zone"]["name"], "us-south-1");
            for property in ["crn", "href", "id", "name", "resource_type"] {
                assert_eq!(listed[property], whole[property], "{property} in {default}");
            }
        }
    }
}

#[tokio::test]
async fn an_interface_is_found_from_its_address_and_its_group() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let group = read(&client, &format!("/v1/vpcs/{}/default_security_group", world.vpc)).await;
    let held = read(
        &client,
        &format!("/v1/subnets/{}/reserved_ips", world.instance_subnet),
    )
    .await;
    let from_address = held["reserved_ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ip| &ip["target"])
        .find(|target| target["id"] == world.interface)
        .unwrap();
    for target in [&group["targets"][0], from_address] {
        let interface = read(&client, path_of(&client, &target["href"])).await;
        for property in ["href", "id", "name", "resource_type"] {
            assert_eq!(target[property], interface[property], "{property}");
        }
        assert_eq!(interface["id"], world.interface);
    }
}
