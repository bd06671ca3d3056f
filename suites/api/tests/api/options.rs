//! Options of connections and gateways at our own paths.

use isthmus_api_suite::{Client, Server, World};
use isthmus_simnet::pki::{Authority, Issued, KeyChoice, gateway, subject};
use serde_json::{Value, json};

struct Lab {
    server: Server,
    client: Client,
    world: World,
    options: String,
    gateway_options: String,
    authority: Authority,
}

impl Lab {
    async fn new() -> Self {
        let server = Server::start().await.unwrap();
        let client = server.client().await.unwrap();
        let world = World::make(&server, &client).await.unwrap();
        Self {
            options: format!("/isthmus{}/options", world.connection_path()),
            gateway_options: format!("/isthmus/v1/vpn_gateways/{}/options", world.gateway),
            authority: Authority::root("Root", KeyChoice::P256),
            server,
            client,
            world,
        }
    }

    async fn own(&self) -> Issued {
        let path = format!("/v1/vpn_gateways/{}", self.world.gateway);
        let found = self.client.get(&path).await.unwrap();
        let address = found.json["public_ip"]["address"].as_str().unwrap();
        let parameters = gateway("left", address.parse().unwrap());
        self.authority.issue(&parameters, KeyChoice::P256)
    }

    fn certificate(&self, own: &Issued) -> Value {
        json!({"certificate": {"chain": own.certificate, "private_key": own.key.reveal(),
            "authorities": self.authority.pem()}})
    }
}

#[tokio::test]
async fn options_are_changed_by_merge_patch_and_shown_without_the_private_key() {
    let lab = Lab::new().await;
    let client = &lab.client;
    let before = client.get(&lab.options).await.unwrap().expect(200).unwrap();
    assert_eq!(before.header("etag"), "W/\"1\"");
    assert_eq!(
        before.json,
        json!({"aggressive_mode": false, "certificate": null, "childless": false, "verify_pfs": false,
            "extended_sequence_numbers": true, "replay_window": 1024, "selectors": "automatic",
            "parallel_child_sas": 1, "esp_lifetime_bytes": null, "esp_lifetime_packets": null,
            "fragment_size": 1280, "dscp": "copy", "dont_fragment": "set", "ml_kem": "off",
            "encapsulation": "forced", "local_id": null, "peer_id": null,
            "peer_location": "fixed"})
    );
    let shown_before = client.get(&lab.world.connection_path()).await.unwrap();

    let own = lab.own().await;
    let mut patch = lab.certificate(&own);
    patch["ml_kem"] = json!("on");
    patch["replay_window"] = json!(64);
    let after = client
        .patch(&lab.options, patch)
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(after.header("etag"), "W/\"2\"");
    assert_eq!(after.json["ml_kem"], "on");
    assert!(!after.text.contains("PRIVATE KEY"), "{}", after.text);
    assert!(
        after.json["certificate"]["holder"]["subject"]
            .as_str()
            .unwrap()
            .contains("CN=left")
    );
    let read = client.get(&lab.options).await.unwrap();
    assert_eq!((&read.json, read.header("etag")), (&after.json, "W/\"2\""));

    // Null is the default; what is missing stays.
    let patch = json!({"replay_window": null});
    let reset = client
        .patch(&lab.options, patch)
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(
        (&reset.json["replay_window"], &reset.json["ml_kem"]),
        (&json!(1024), &json!("on"))
    );
    // What was read can be sent back, and changes nothing.
    let revision = lab.server.revision();
    client
        .patch(&lab.options, reset.json.clone())
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(lab.server.revision(), revision);

    // The provider's API shows what it showed before.
    let shown = client.get(&lab.world.connection_path()).await.unwrap();
    assert_eq!(shown.text, shown_before.text);
    assert_eq!(shown.header("etag"), shown_before.header("etag"));
}

#[tokio::test]
async fn a_bad_value_is_named_and_changes_nothing() {
    let lab = Lab::new().await;
    let own = lab.own().await;
    let stranger = lab.authority.issue(&subject("elsewhere"), KeyChoice::P256);
    let other_key = json!({"certificate": {"chain": own.certificate, "private_key": stranger.key.reveal(),
        "authorities": lab.authority.pem()}});
    let revision = lab.server.revision();
    for (patch, field) in [
        (json!({"replay_window": 63}), "replay_window"),
        (json!({"replay_window": "wide"}), "replay_window"),
        (json!({"parallel_child_sas": 17}), "parallel_child_sas"),
        (json!({"fragment_size": 100}), "fragment_size"),
        (json!({"childless": 1}), "childless"),
        (json!({"no_such_option": true}), "no_such_option"),
        (json!({"local_id": {"kind": "fqdn", "value": "a b"}}), "local_id"),
        (
            json!({"certificate": {"chain": own.certificate}}),
            "certificate.private_key",
        ),
        (lab.certificate(&stranger), "certificate.chain"),
        (other_key, "certificate.private_key"),
        // A good value beside a bad one.
        (json!({"childless": true, "replay_window": 0}), "replay_window"),
    ] {
        let reply = lab
            .client
            .patch(&lab.options, patch)
            .await
            .unwrap()
            .expect(400)
            .unwrap();
        assert_eq!(reply.json["errors"][0]["target"]["name"], field, "{}", reply.text);
        assert!(!reply.text.contains("PRIVATE"), "{}", reply.text);
    }
    assert_eq!(lab.server.revision(), revision);
}

#[tokio::test]
async fn a_peer_that_may_be_anywhere_is_known_by_an_identity_that_no_api_takes_away() {
    let lab = Lab::new().await;
    let client = &lab.client;
    let connection = lab.world.connection_path();
    let shown_before = client.get(&connection).await.unwrap();
    // All that is known of the peer is an address.
    let patch = async |patch: Value, status: u16| {
        let reply = client.patch(&lab.options, patch).await.unwrap();
        reply.expect(status).unwrap()
    };
    for (id, field) in [
        (json!(null), "peer_id"),
        (json!({"kind": "address", "value": "0.0.0.0"}), "peer_id"),
        (json!({"kind": "fqdn", "value": "*"}), "peer_id"),
    ] {
        let revision = lab.server.revision();
        let refused = patch(json!({"peer_location": "anywhere", "peer_id": id}), 400).await;
        assert_eq!(
            refused.json["errors"][0]["target"]["name"], field,
            "{}",
            refused.text
        );
        assert_eq!(lab.server.revision(), revision);
    }
    let set = json!({"peer_location": "anywhere", "peer_id": {"kind": "fqdn", "value": "van.example"}});
    let after = patch(set, 200).await;
    assert_eq!(after.json["peer_location"], "anywhere");
    let read = client.get(&lab.options).await.unwrap();
    assert_eq!(read.json, after.json);
    // The provider's API shows the peer as it was given.
    let shown = client.get(&connection).await.unwrap();
    assert_eq!(shown.json["peer"], shown_before.json["peer"]);

    // Two that are known by their names: the provider's API cannot make the names equal.
    let connections = format!("/v1/vpn_gateways/{}/connections", lab.world.gateway);
    let mut made = Vec::new();
    for number in [1, 2] {
        let body = json!({"name": format!("van-{number}"), "psk": "a-shared-key",
            "local": {"cidrs": ["10.240.9.0/24"]},
            "peer": {"fqdn": format!("van{number}.example"), "cidrs": [format!("10.77.{number}.0/24")]}});
        let reply = client.post(&connections, body).await.unwrap();
        let id = reply.expect(201).unwrap().json["id"].as_str().unwrap().to_owned();
        let options = format!("/isthmus{connections}/{id}/options");
        let set = json!({"peer_location": "anywhere"});
        client.patch(&options, set).await.unwrap().expect(200).unwrap();
        made.push(format!("{connections}/{id}"));
    }
    let revision = lab.server.revision();
    let equal = json!({"peer": {"fqdn": "van1.example"}});
    let refused = client.patch(&made[1], equal).await.unwrap().expect(409).unwrap();
    let error = &refused.json["errors"][0];
    assert_eq!(error["code"], "invalid_state", "{}", refused.text);
    assert_eq!(error["target"]["value"], "van1.example", "{}", refused.text);
    assert_eq!(lab.server.revision(), revision);
    let other = json!({"peer": {"fqdn": "van3.example"}});
    client.patch(&made[1], other).await.unwrap().expect(200).unwrap();
    // Null is where the provider's API says again.
    let back = patch(json!({"peer_location": null}), 200).await;
    assert_eq!(back.json["peer_location"], "fixed");
}

#[tokio::test]
async fn a_change_names_the_state_that_it_was_made_for() {
    let lab = Lab::new().await;
    let body = json!({"verify_pfs": true}).to_string().into_bytes();
    let path = format!("{}?version=2026-10-06&generation=2", lab.options);
    let token = format!("Bearer {}", lab.client.token.as_deref().unwrap());
    let patch = async |tag: &str| {
        let headers = [("Authorization", token.as_str()), ("If-Match", tag)];
        lab.client
            .raw("PATCH", &path, &headers, body.clone())
            .await
            .unwrap()
    };
    assert_eq!(patch("W/\"5\"").await.status, 412);
    assert_eq!(patch("W/\"1\"").await.status, 200);
    assert_eq!(patch("W/\"1\"").await.status, 412);
    assert_eq!(patch("*").await.status, 200);
}

#[tokio::test]
async fn a_gateway_s_key_log_is_switched_audited_and_for_its_account_alone() {
    let lab = Lab::new().await;
    let read = lab
        .client
        .get(&lab.gateway_options)
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    let off = json!({"key_log": false, "ipv6": false, "ipv6_address": null});
    assert_eq!(read.json, off);
    let revision = lab.server.revision();
    let on = json!({"key_log": true});
    let reply = lab
        .client
        .patch(&lab.gateway_options, on.clone())
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    assert_eq!(
        reply.json,
        json!({"key_log": true, "ipv6": false, "ipv6_address": null})
    );
    let audit = lab.server.store.audit(revision, 10).await.unwrap();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].operation, "update_gateway_options");
    let reply = lab
        .client
        .patch(&lab.gateway_options, json!({"key_log": "yes"}))
        .await
        .unwrap();
    assert_eq!(reply.status, 400);

    let stranger = lab.server.add_account("stranger").await.unwrap();
    let stranger = lab.server.client_of(&stranger).await.unwrap();
    let nobody = Client::new(lab.server.address);
    let revision = lab.server.revision();
    for path in [&lab.options, &lab.gateway_options] {
        assert_eq!(stranger.get(path).await.unwrap().status, 404);
        assert_eq!(stranger.patch(path, json!({})).await.unwrap().status, 404);
        assert_eq!(nobody.get(path).await.unwrap().status, 401);
        assert_eq!(nobody.patch(path, json!({})).await.unwrap().status, 401);
        assert_eq!(lab.client.delete(path).await.unwrap().status, 405);
    }
    let of_vpc = format!("/isthmus/v1/vpcs/{}/options", lab.world.vpc);
    assert_eq!(lab.client.get(&of_vpc).await.unwrap().status, 404);
    assert_eq!(lab.server.revision(), revision);
}

#[tokio::test]
async fn a_gateway_gets_an_ipv6_address_and_a_connection_to_a_peer_at_one() {
    let lab = Lab::new().await;
    let client = &lab.client;
    let connections = format!("/v1/vpn_gateways/{}/connections", lab.world.gateway);
    let new = |peer: &str| {
        json!({
            "name": "over-ipv6",
            "psk": "a-shared-key",
            "local": {"cidrs": ["10.240.0.0/24"]},
            "peer": {"address": peer, "cidrs": ["10.77.0.0/24"]},
        })
    };
    let reply = client.post(&connections, new("2001:db8::9")).await.unwrap();
    let reply = reply.expect(400).unwrap();
    let message = reply.json["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("switch its option ipv6 on first"), "{message}");

    let on = client
        .patch(&lab.gateway_options, json!({"ipv6": true}))
        .await
        .unwrap();
    let on = on.expect(200).unwrap();
    assert_eq!(on.json["ipv6_address"], "2001:db8:113::2");
    assert_eq!(client.get(&lab.gateway_options).await.unwrap().json, on.json);
    for peer in [
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "2001:db8:113::2",
    ] {
        let reply = client.post(&connections, new(peer)).await.unwrap();
        reply.expect(400).unwrap();
    }
    let made = client.post(&connections, new("2001:db8::9")).await.unwrap();
    let made = made.expect(201).unwrap().json;
    assert_eq!(made["peer"]["address"], "2001:db8::9");
    let identity = |address: &str| json!({"type": "ipv6_address", "value": address});
    assert_eq!(made["peer"]["ike_identity"], identity("2001:db8::9"));
    assert_eq!(
        made["local"]["ike_identities"],
        json!([identity("2001:db8:113::2")])
    );

    let off = json!({"ipv6": false});
    client
        .patch(&lab.gateway_options, off)
        .await
        .unwrap()
        .expect(409)
        .unwrap();
}
