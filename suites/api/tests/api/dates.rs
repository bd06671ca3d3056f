//! One stored object at several dates.

use isthmus_api_suite::{FLAT, NESTED, Server, World};
use serde_json::{Value, json};

#[tokio::test]
async fn a_gateway_and_its_connection_look_as_their_date_says() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let gateway = format!("/v1/vpn_gateways/{}", world.gateway);
    let before = server.revision();
    for (date, status, flat) in [
        (FLAT, true, true),
        ("2020-11-13", true, true),
        ("2022-02-08", true, true),
        ("2023-10-09", true, true),
        ("2023-10-10", false, true),
        ("2024-04-29", false, true),
        ("2024-04-30", false, false),
        (NESTED, false, false),
    ] {
        let client = client.at(date);
        let shown = client.get(&gateway).await.unwrap().expect(200).unwrap().json;
        assert_eq!(
            shown.get("status"),
            status.then_some(&json!("available")),
            "{date}"
        );
        assert_eq!(
            shown["members"][0].get("status"),
            status.then_some(&json!("available")),
            "{date}"
        );
        assert_eq!(shown["lifecycle_state"], "stable");
        assert!(shown["public_ip"]["address"].is_string());

        let one = client
            .get(&world.connection_path())
            .await
            .unwrap()
            .expect(200)
            .unwrap();
        let listed = client
            .get(&world.connections_path())
            .await
            .unwrap()
            .expect(200)
            .unwrap()
            .json;
        let users = format!("/v1/ike_policies/{}/connections", world.ike_policy);
        let of_policy = client.get(&users).await.unwrap().expect(200).unwrap().json;
        assert_eq!(listed["connections"][0], one.json);
        assert_eq!(of_policy["connections"][0], one.json);
        let shown = &one.json;
        if flat {
            assert_eq!(shown["local_cidrs"], json!(["10.1.0.0/16"]), "{date}");
            assert_eq!(shown["peer_cidrs"], json!(["10.2.0.0/16"]));
            assert_eq!(shown["peer_address"], "198.51.100.9");
            assert_eq!(shown["route_mode"], "policy");
            assert!(shown.get("local").is_none() && shown.get("peer").is_none());
        } else {
            assert_eq!(shown["local"]["cidrs"], json!(["10.1.0.0/16"]), "{date}");
            assert_eq!(shown["peer"]["cidrs"], json!(["10.2.0.0/16"]));
            assert_eq!(shown["peer"]["type"], "address");
            assert!(shown.get("local_cidrs").is_none() && shown.get("route_mode").is_none());
        }
        assert_eq!(
            shown["dead_peer_detection"],
            json!({ "action": "restart", "interval": 2, "timeout": 10 })
        );
    }
    assert_eq!(
        server.revision(),
        before,
        "reading at another date changed something"
    );
}

#[tokio::test]
async fn older_dates_make_and_newer_dates_read_legacy_policies() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let body = json!({ "name": "old", "ike_version": 1, "authentication_algorithm": "md5",
                       "encryption_algorithm": "triple_des", "dh_group": 2 });
    let refused = client.post("/v1/ike_policies", body.clone()).await.unwrap();
    assert_eq!((refused.status, refused.code()), (400, "bad_field"));
    let made = client
        .at("2023-05-17")
        .post("/v1/ike_policies", body)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let path = format!("/v1/ike_policies/{}", made.id());
    let read = client.get(&path).await.unwrap().expect(200).unwrap().json;
    assert_eq!(
        (&read["authentication_algorithm"], &read["dh_groups"]),
        (&json!("md5"), &json!([2]))
    );
    assert_eq!(read["encryption_algorithm"], "triple_des");
    let renamed = client
        .patch(&path, json!({ "name": "older" }))
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(renamed.json["name"], "older");
    let collapsed = client
        .patch(
            &path,
            json!({ "ike_version": 2, "authentication_algorithms": ["sha512", "sha256"],
                              "encryption_algorithm": "aes256", "dh_groups": [19, 31] }),
        )
        .await
        .unwrap()
        .expect(200)
        .unwrap()
        .json;
    assert_eq!(
        (&collapsed["authentication_algorithm"], &collapsed["dh_group"]),
        (&json!("multiple"), &json!(65535))
    );
    let single = client
        .patch(&path, json!({ "dh_group": 31 }))
        .await
        .unwrap()
        .expect(200)
        .unwrap()
        .json;
    assert_eq!(
        (&single["dh_group"], &single["dh_groups"]),
        (&json!(31), &json!([31]))
    );
}

#[tokio::test]
async fn instances_show_their_address_in_the_form_of_the_date() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = format!("/v1/instances/{}", world.instance);
    let shown = |value: Value| value["primary_network_interface"].clone();
    let old = shown(client.at("2022-03-28").get(&path).await.unwrap().json);
    let new = shown(client.at("2022-03-29").get(&path).await.unwrap().json);
    assert_eq!(old["primary_ipv4_address"], "10.1.1.4");
    assert!(new.get("primary_ipv4_address").is_none());
    assert_eq!(new["primary_ip"]["address"], "10.1.1.4");
}

#[tokio::test]
async fn default_rules_read_in_the_words_of_the_date() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let vpc = client
        .post("/v1/vpcs", json!({ "name": "v" }))
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    for (date, word) in [("2025-12-08", "all"), ("2025-12-09", "icmp_tcp_udp")] {
        let client = client.at(date);
        let base = format!("/v1/vpcs/{}", vpc.id());
        let acl = client
            .get(&format!("{base}/default_network_acl"))
            .await
            .unwrap()
            .expect(200)
            .unwrap()
            .json;
        let group = client
            .get(&format!("{base}/default_security_group"))
            .await
            .unwrap()
            .expect(200)
            .unwrap()
            .json;
        let table = client
            .get(&format!("{base}/default_routing_table"))
            .await
            .unwrap()
            .expect(200)
            .unwrap()
            .json;
        assert_eq!(acl["rules"][0]["protocol"], word);
        assert_eq!(group["rules"][0]["protocol"], word);
        assert_eq!(table["is_default"], true);
        for (value, default) in [
            (&acl, "default_network_acl"),
            (&group, "default_security_group"),
            (&table, "default_routing_table"),
        ] {
            assert_eq!(value["id"], vpc.json[default]["id"]);
            let href = value["href"].as_str().unwrap();
            let by_href = client
                .get(href.split_once(&client.address.to_string()).unwrap().1)
                .await
                .unwrap();
            assert_eq!(by_href.expect(200).unwrap().json["id"], value["id"]);
        }
    }
    let prefixes = client
        .get(&format!("/v1/vpcs/{}/address_prefixes", vpc.id()))
        .await
        .unwrap()
        .json;
    let mut cidrs: Vec<&str> = prefixes["address_prefixes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["cidr"].as_str().unwrap())
        .collect();
    cidrs.sort_unstable();
    assert_eq!(cidrs, ["10.240.0.0/18", "10.240.128.0/18", "10.240.64.0/18"]);
}
