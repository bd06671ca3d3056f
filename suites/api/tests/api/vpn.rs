//! The life of gateways, connections, their ranges and versions.

use isthmus_api_suite::{FLAT, Server, World};
use serde_json::json;

#[tokio::test]
async fn both_path_forms_of_ranges_work() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let one = world.connection_path();
    let nested = format!("{one}/peer/cidrs/192.168.9.0%2F24");
    for (method, status) in [
        ("GET", 404),
        ("PUT", 201),
        ("PUT", 204),
        ("GET", 204),
        ("DELETE", 204),
        ("DELETE", 404),
        ("GET", 404),
    ] {
        let reply = client.call(method, &nested, None).await.unwrap();
        assert_eq!(reply.status, status, "{method} {nested}: {}", reply.text);
        if status < 300 {
            assert!(reply.text.is_empty());
        } else {
            assert_eq!(reply.code(), "vpn_connection_cidr_not_found");
        }
    }
    let old = client.at(FLAT);
    let flat = format!("{one}/local_cidrs/192.168.9.0/24");
    for (method, status) in [
        ("GET", 404),
        ("PUT", 204),
        ("PUT", 204),
        ("GET", 204),
        ("DELETE", 204),
        ("GET", 404),
        ("DELETE", 404),
    ] {
        let reply = old.call(method, &flat, None).await.unwrap();
        assert_eq!(reply.status, status, "{method} {flat}: {}", reply.text);
    }
    old.put(&flat).await.unwrap().expect(204).unwrap();
    let listed = old.get(&format!("{one}/local_cidrs")).await.unwrap().json;
    assert_eq!(
        listed,
        json!({ "local_cidrs": ["10.1.0.0/16", "192.168.9.0/24"] })
    );
    let same = client.get(&format!("{one}/local/cidrs")).await.unwrap().json;
    assert_eq!(same, json!({ "cidrs": ["10.1.0.0/16", "192.168.9.0/24"] }));
    let whole = client.get(&one).await.unwrap().json;
    assert_eq!(whole["local"]["cidrs"], same["cidrs"]);
    // The one range with host bits that is accepted, under both its spellings.
    client
        .put(&format!("{one}/local/cidrs/166.9.0.0%2F14"))
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    old.call("GET", &format!("{one}/local_cidrs/166.8.0.0/14"), None)
        .await
        .unwrap()
        .expect(204)
        .unwrap();
    old.call("DELETE", &format!("{one}/local_cidrs/166.9.0.0/14"), None)
        .await
        .unwrap()
        .expect(204)
        .unwrap();
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    for path in [
        format!("/v1/vpcs/{}", world.vpc),
        format!("/v1/instances/{}", world.instance),
        world.connection_path(),
    ] {
        let first = client.get(&path).await.unwrap().expect(200).unwrap();
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with("W/\""), "{path} has no ETag");
        let patch = |name: &str, tag: &str| {
            let body = json!({ "name": name }).to_string().into_bytes();
            let (client, path, tag) = (client.clone(), path.clone(), tag.to_owned());
            async move {
                client
                    .call_bytes("PATCH", &path, &[("If-Match", &tag)], body)
                    .await
                    .unwrap()
            }
        };
        let changed = patch("first-change", &tag).await.expect(200).unwrap();
        let new_tag = changed.header("etag").to_owned();
        assert_ne!(new_tag, tag);
        let before = server.revision();
        let several = format!("{tag}, W/\"999\"");
        for stale in [tag.as_str(), "W/\"999\"", "\"other\"", "junk", several.as_str()] {
            let reply = patch("second-change", stale).await;
            assert_eq!(
                (reply.status, reply.code()),
                (412, "precondition_failed"),
                "{path} with {stale}"
            );
        }
        let refused = client
            .call_bytes("DELETE", &path, &[("If-Match", &tag)], vec![])
            .await
            .unwrap();
        assert_eq!(refused.status, 412);
        assert_eq!(server.revision(), before);
        assert_eq!(client.get(&path).await.unwrap().header("etag"), new_tag);
        let one_of_several = format!("{tag}, {new_tag}");
        patch("second-change", &one_of_several).await.expect(200).unwrap();
        patch("third-change", "*").await.expect(200).unwrap();
        let unchanged = client.patch(&path, json!({})).await.unwrap().expect(200).unwrap();
        assert_eq!(unchanged.json["name"], "third-change");
    }
}

#[tokio::test]
async fn status_alone_does_not_change_an_etag() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let body = World::instance_body("late", &world.image, &world.instance_subnet);
    let made = client
        .post("/v1/instances", body)
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let path = format!("/v1/instances/{}", made.id());
    assert_eq!(made.json["status"], "pending");
    server.host_pass().await.unwrap();
    let running = client.get(&path).await.unwrap();
    assert_eq!(running.json["status"], "running");
    assert_eq!(running.header("etag"), made.header("etag"));
}

#[tokio::test]
async fn a_connection_is_made_changed_and_deleted() {
    let mut server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    server.play_host();
    let one = world.connection_path();
    let made = client.get(&one).await.unwrap().expect(200).unwrap().json;
    assert_eq!(
        (&made["status"], &made["authentication_mode"]),
        (&json!("down"), &json!("psk"))
    );
    assert_eq!(made["status_reasons"][0]["code"], "peer_not_responding");
    assert_eq!(
        made["peer"]["ike_identity"],
        json!({ "type": "ipv4_address", "value": "198.51.100.9" })
    );
    let gateway = client
        .get(&format!("/v1/vpn_gateways/{}", world.gateway))
        .await
        .unwrap()
        .json;
    assert_eq!(
        made["local"]["ike_identities"][0]["value"],
        gateway["public_ip"]["address"]
    );

    let off = client
        .patch(&one, json!({ "admin_state_up": false }))
        .await
        .unwrap()
        .expect(200)
        .unwrap()
        .json;
    assert_eq!(
        (&off["status"], &off["status_reasons"]),
        (&json!("down"), &json!([]))
    );
    let changed = client
        .patch(
            &one,
            json!({ "admin_state_up": true, "ike_policy": null, "psk": "another-key",
                    "dead_peer_detection": { "timeout": 40 }, "establish_mode": "peer_only",
                    "peer": { "address": "198.51.100.10" } }),
        )
        .await
        .unwrap()
        .expect(200)
        .unwrap()
        .json;
    assert!(changed.get("ike_policy").is_none() && changed.get("ipsec_policy").is_some());
    assert_eq!(changed["psk"], "another-key");
    assert_eq!(
        changed["dead_peer_detection"],
        json!({ "action": "restart", "interval": 2, "timeout": 40 })
    );
    assert_eq!(
        (&changed["establish_mode"], &changed["peer"]["address"]),
        (&json!("peer_only"), &json!("198.51.100.10"))
    );
    let policy = format!("/v1/ike_policies/{}", world.ike_policy);
    assert_eq!(client.get(&policy).await.unwrap().json["connections"], json!([]));
    assert_eq!(client.delete(&policy).await.unwrap().status, 204);

    assert_eq!(client.delete(&one).await.unwrap().status, 202);
    assert_eq!(client.get(&one).await.unwrap().code(), "vpn_connection_not_found");
    let policy = format!("/v1/ipsec_policies/{}", world.ipsec_policy);
    assert_eq!(client.delete(&policy).await.unwrap().status, 204);
    let empty = client.get(&world.connections_path()).await.unwrap().json;
    assert_eq!(empty["connections"], json!([]));
}

#[tokio::test]
async fn deleting_a_gateway_frees_its_policies() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let gateway = format!("/v1/vpn_gateways/{}", world.gateway);
    assert_eq!(client.delete(&gateway).await.unwrap().status, 202);
    assert!(matches!(client.delete(&gateway).await.unwrap().status, 202 | 404));
    assert_eq!(client.get(&world.connection_path()).await.unwrap().status, 404);
    server.host_pass().await.unwrap();
    server.host_pass().await.unwrap();
    assert_eq!(
        client.get(&gateway).await.unwrap().code(),
        "vpn_gateway_not_found"
    );
    for path in [
        format!("/v1/ike_policies/{}", world.ike_policy),
        format!("/v1/ipsec_policies/{}", world.ipsec_policy),
        format!("/v1/subnets/{}", world.gateway_subnet),
    ] {
        assert_eq!(client.delete(&path).await.unwrap().status, 204, "{path}");
    }
}

#[tokio::test]
async fn an_instance_goes_through_its_states() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = format!("/v1/instances/{}", world.instance);
    let status = || async {
        client.get(&path).await.unwrap().json["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let act = |word: &str| {
        let (client, path, body) = (client.clone(), format!("{path}/actions"), json!({ "type": word }));
        async move { client.post(&path, body).await.unwrap() }
    };
    assert_eq!(status().await, "running");
    let action = act("stop").await.expect(201).unwrap().json;
    assert_eq!(action["type"], "stop");
    assert_eq!(status().await, "stopping");
    server.host_pass().await.unwrap();
    assert_eq!(status().await, "stopped");
    let refused = act("stop").await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "invalid_state"),
        "{}",
        refused.text
    );
    act("start").await.expect(201).unwrap();
    assert_eq!(status().await, "starting");
    server.host_pass().await.unwrap();
    assert_eq!(status().await, "running");
    act("reboot").await.expect(201).unwrap();
    assert_eq!(status().await, "restarting");
    server.host_pass().await.unwrap();
    server.host_pass().await.unwrap();
    assert_eq!(status().await, "running");
    let interfaces = client
        .get(&format!("{path}/network_interfaces"))
        .await
        .unwrap()
        .expect(200)
        .unwrap()
        .json;
    assert_eq!(interfaces["network_interfaces"][0]["id"], json!(world.interface));
    assert_eq!(
        interfaces["network_interfaces"][0]["attachment"],
        json!({ "kind": "namespace" })
    );
    let one = client
        .get(&format!("{path}/network_interfaces/{}", world.interface))
        .await
        .unwrap()
        .json;
    assert_eq!(one, interfaces["network_interfaces"][0]);
    assert_eq!(client.delete(&path).await.unwrap().status, 204);
    server.host_pass().await.unwrap();
    assert_eq!(client.get(&path).await.unwrap().status, 404);
    let subnet = format!("/v1/subnets/{}", world.instance_subnet);
    assert_eq!(
        client.get(&subnet).await.unwrap().json["available_ipv4_address_count"],
        251
    );
    assert_eq!(client.delete(&subnet).await.unwrap().status, 204);
}
