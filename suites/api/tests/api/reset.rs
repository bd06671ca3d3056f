//! Resets of connections at our own path.

use isthmus_api_suite::{Client, Server, World};
use isthmus_ops::{Caller, ConnectionState, ConnectionStatus, Operation, Request, StatusUpdate, Via};
use isthmus_types::Timestamp;
use serde_json::{Value, json};

/// The host says that the only connection is up, after every reset.
async fn say_up(server: &Server) {
    let snapshot = server.store.snapshot();
    let connection = snapshot.vpn_connections().next().unwrap();
    let status = ConnectionStatus {
        state: ConnectionState::Up,
        since: Timestamp(5),
        reset_count: connection.reset_count,
        ike_suite: String::new(),
        esp_suite: String::new(),
    };
    let updates = vec![StatusUpdate::VpnConnection {
        connection: connection.id,
        status,
    }];
    let caller = Caller {
        account: connection.meta.account,
        user: None,
        via: Via::System,
        request_id: "reset".to_owned(),
    };
    let request = Request {
        caller,
        operation: Operation::RecordStatus(updates),
        idempotency_token: None,
    };
    server.store.execute(request).await.unwrap();
}

#[tokio::test]
async fn a_reset_is_accepted_audited_and_reads_down_until_the_host_has_done_it() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = format!("/isthmus{}/reset", world.connection_path());
    say_up(&server).await;
    let before = client.get(&world.connection_path()).await.unwrap();
    assert_eq!(before.json["status"], "up", "{}", before.text);
    let revision = server.revision();
    // With a body and without one; one after the other.
    let first = client.post(&path, json!({})).await.unwrap();
    let query = "version=2026-10-06&generation=2";
    let token = format!("Bearer {}", client.token.as_deref().unwrap());
    let raw = async |tag: Option<&str>, body: &str| {
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend(tag.map(|tag| ("If-Match", tag)));
        let body = body.as_bytes().to_vec();
        client
            .raw("POST", &format!("{path}?{query}"), &headers, body)
            .await
            .unwrap()
    };
    let second = raw(None, "").await;
    for reply in [first, second] {
        let reply = reply.expect(202).unwrap();
        assert_eq!(reply.json["id"], world.connection.as_str());
        assert_eq!(reply.json["status"], "down");
        assert_eq!(reply.json["status_reasons"][0]["code"], "peer_not_responding");
        assert_eq!(reply.header("etag"), before.header("etag"));
    }
    let audit = server.store.audit(revision, 10).await.unwrap();
    let resets = audit
        .iter()
        .filter(|entry| entry.operation == "reset_vpn_connection");
    assert_eq!(resets.count(), 2);
    say_up(&server).await;
    let after = client.get(&world.connection_path()).await.unwrap();
    assert_eq!(after.text, before.text);

    // The state that it was meant for.
    let revision = server.revision();
    assert_eq!(raw(Some("W/\"77\""), "").await.status, 412);
    assert_eq!(server.revision(), revision);
    let tag = before.header("etag");
    assert_eq!(raw(Some(tag), "").await.status, 202);
    assert_eq!(raw(Some("*"), "{}").await.status, 202);

    let revision = server.revision();
    for body in ["[]", "now", "{\"force\": true}", "{\"reset_count\": 9}"] {
        let reply = raw(None, body).await.expect(400).unwrap();
        assert_eq!(reply.json["errors"][0]["code"], "bad_field", "{}", reply.text);
    }
    assert_eq!(server.revision(), revision);
}

#[tokio::test]
async fn a_reset_is_for_its_account_alone_and_for_what_is_switched_on() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let path = format!("/isthmus{}/reset", world.connection_path());
    let stranger = server.add_account("stranger").await.unwrap();
    let stranger = server.client_of(&stranger).await.unwrap();
    let nobody = Client::new(server.address);
    let revision = server.revision();
    let status = async |client: &Client, path: &str| -> u16 {
        client
            .post(path, Value::Object(Default::default()))
            .await
            .unwrap()
            .status
    };
    assert_eq!(status(&stranger, &path).await, 404);
    assert_eq!(status(&nobody, &path).await, 401);
    let of_gateway = format!("/isthmus/v1/vpn_gateways/{}/reset", world.gateway);
    let of_nothing = format!(
        "/isthmus/v1/vpn_gateways/{}/connections/0717-none/reset",
        world.gateway
    );
    for absent in [of_gateway, of_nothing] {
        assert_eq!(status(&client, &absent).await, 404, "{absent}");
    }
    assert_eq!(client.get(&path).await.unwrap().status, 405);
    assert_eq!(client.delete(&path).await.unwrap().status, 405);
    assert_eq!(client.patch(&path, json!({})).await.unwrap().status, 405);
    assert_eq!(server.revision(), revision);

    let off = json!({"admin_state_up": false});
    let connection = world.connection_path();
    client.patch(&connection, off).await.unwrap().expect(200).unwrap();
    let revision = server.revision();
    let refused = client.post(&path, json!({})).await.unwrap().expect(409).unwrap();
    let error = &refused.json["errors"][0];
    assert_eq!(error["code"], "invalid_state", "{}", refused.text);
    assert!(refused.text.contains("switch it on"), "{}", refused.text);
    assert_eq!(server.revision(), revision);
}
