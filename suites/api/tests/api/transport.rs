//! What holds for every request: credentials, versions, errors, headers, limits.

use std::time::Duration;

use isthmus_api::{Limits, TokenKey};
use isthmus_api_suite::{Client, Reply, Server, World};
use isthmus_model::Settings;
use isthmus_runtime::clock;
use isthmus_types::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.code()), (status, code), "{}", reply.text);
    assert_eq!(
        reply.json["trace"].as_str().unwrap(),
        reply.header("x-request-id")
    );
    assert!(!reply.json["errors"][0]["message"].as_str().unwrap().is_empty());
    assert!(reply.header("content-type").starts_with("application/json"));
}

#[tokio::test]
async fn an_api_key_is_exchanged_for_a_token_that_works() {
    let server = Server::start().await.unwrap();
    let client = Client::new(server.address);
    let good = client.exchange(server.account.api_key.reveal()).await.unwrap();
    assert_eq!(good.status, 200);
    assert_eq!(good.json["token_type"], "Bearer");
    assert_eq!(good.json["refresh_token"], "not_supported");
    assert_eq!(good.json["expires_in"], 3600);
    assert_eq!(good.json["scope"], "ibm openid");
    assert_eq!(good.json["access_token"].as_str().unwrap().split('.').count(), 3);

    let wrong = client.exchange("not-a-key").await.unwrap();
    assert_eq!(
        (wrong.status, &wrong.json["errorCode"]),
        (400, &json!("BXNIM0415E"))
    );
    assert!(!wrong.text.contains("not-a-key"));
    for body in [
        "",
        "grant_type=password&apikey=x",
        "apikey=x",
        "grant_type=refresh_token&refresh_token=x",
    ] {
        let reply = client
            .raw("POST", "/identity/token", &[], body.into())
            .await
            .unwrap();
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.json["errorMessage"].is_string());
    }
    let grant = "grant_type=urn:ibm:params:oauth:grant-type:apikey";
    let reply = client
        .raw("POST", "/identity/token", &[], grant.into())
        .await
        .unwrap();
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn only_tokens_of_this_server_open_it() {
    let server = Server::start().await.unwrap();
    let mut client = server.client().await.unwrap();
    let token = client.token.clone().unwrap();
    assert_eq!(client.get("/v1/vpcs").await.unwrap().status, 200);

    let own = TokenKey::new(&server.token_key);
    let other = TokenKey::new(&[1; 32]);
    let (account, user, now) = (server.account.id, server.account.user, clock::now());
    let expired = own
        .mint(account, user, Timestamp(now.0 - 7_200_000), 3600)
        .unwrap();
    let foreign = other.mint(account, user, now, 3600).unwrap();
    let tampered = format!("{}AAAA{}", &token[..40], &token[44..]);
    for (header, status) in [
        (format!("Bearer {token}"), 200),
        (format!("bearer {token}"), 200),
        (format!("BEARER  {token}"), 200),
        (token.clone(), 401),
        (format!("Basic {token}"), 401),
        (format!("Bearer {expired}"), 401),
        (format!("Bearer {foreign}"), 401),
        (format!("Bearer {tampered}"), 401),
        ("Bearer".to_owned(), 401),
        ("garbage".to_owned(), 401),
    ] {
        let target = "/v1/vpcs?version=2026-10-06&generation=2";
        let reply = client
            .raw("GET", target, &[("Authorization", &header)], vec![])
            .await
            .unwrap();
        assert_eq!(reply.status, status, "{header}");
        if status == 401 {
            assert_error(&reply, 401, "not_authorized");
            assert!(!reply.text.contains(&token), "the token is repeated");
        }
    }
    client.token = None;
    assert_error(&client.get("/v1/vpcs").await.unwrap(), 401, "not_authorized");
}

#[tokio::test]
async fn a_server_may_be_opened_to_requests_without_credentials() {
    let server = Server::start_with(Settings::default(), true, Limits::default())
        .await
        .unwrap();
    let client = Client::new(server.address);
    let made = client
        .post("/v1/vpcs", json!({ "name": "open" }))
        .await
        .unwrap()
        .expect(201)
        .unwrap();
    let path = format!("/v1/vpcs/{}", made.id());
    assert_eq!(client.get(&path).await.unwrap().json["name"], "open");
    assert_eq!(
        client
            .patch(&path, json!({ "name": "opened" }))
            .await
            .unwrap()
            .json["name"],
        "opened"
    );
    assert_eq!(client.delete(&path).await.unwrap().status, 204);
    assert_error(&client.get(&path).await.unwrap(), 404, "not_found");
}

#[tokio::test]
async fn version_and_generation_are_required_of_every_method() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let vpc = World::vpc(&client, "here").await.unwrap();
    let bearer = format!("Bearer {}", client.token.clone().unwrap());
    let before = server.revision();
    for (query, code) in [
        ("generation=2", "missing_version"),
        ("version=&generation=2", "missing_version"),
        ("version=2020-13-40&generation=2", "invalid_version"),
        ("version=yesterday&generation=2", "invalid_version"),
        ("version=2018-01-01&generation=2", "invalid_version_range"),
        ("version=9999-01-01&generation=2", "invalid_version_range"),
        ("version=2026-10-06", "missing_generation_parameter"),
        ("version=2026-10-06&generation=1", "invalid_generation_parameter"),
        ("version=2026-10-06&generation=3", "invalid_generation_parameter"),
    ] {
        for (method, path) in [
            ("GET", "/v1/regions".to_owned()),
            ("GET", format!("/v1/vpcs/{vpc}")),
            ("POST", "/v1/vpcs".to_owned()),
            ("PATCH", format!("/v1/vpcs/{vpc}")),
            ("DELETE", format!("/v1/vpcs/{vpc}")),
        ] {
            let target = format!("{path}?{query}");
            let reply = client
                .raw(method, &target, &[("Authorization", &bearer)], b"{}".to_vec())
                .await
                .unwrap();
            assert_error(&reply, 400, code);
            let target = &reply.json["errors"][0]["target"];
            assert_eq!(target["type"], "parameter");
            let name = if code.contains("generation") {
                "generation"
            } else {
                "version"
            };
            assert_eq!(target["name"], name);
        }
    }
    assert_eq!(server.revision(), before);
}

#[tokio::test]
async fn unknown_paths_and_methods_have_json_errors() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/load_balancers", 404),
        ("GET", "/v1/vpcs/", 404),
        ("GET", "/v2/vpcs", 404),
        ("PUT", "/v1/vpcs", 405),
        ("DELETE", "/v1/regions", 405),
        ("HEAD", "/v1/vpcs", 405),
    ] {
        let reply = client.call(method, path, None).await.unwrap();
        assert_eq!(reply.status, status, "{method} {path}");
        if method != "HEAD" {
            assert_error(&reply, status, "invalid_route");
        }
    }
    let health = client.raw("GET", "/healthz", &[], vec![]).await.unwrap();
    assert_eq!((health.status, &health.json["status"]), (200, &json!("ok")));
}

#[tokio::test]
async fn answers_carry_the_headers_of_the_contract() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let given = [("X-Request-Id", "my-request_1"), ("X-Correlation-ID", "corr 7")];
    let reply = client
        .call_bytes("GET", "/v1/regions", &given, vec![])
        .await
        .unwrap();
    assert_eq!(reply.header("x-request-id"), "my-request_1");
    assert_eq!(reply.header("x-correlation-id"), "corr 7");
    assert_eq!(
        reply.header("cache-control"),
        "max-age=0, no-cache, no-store, must-revalidate"
    );
    let strange = [("X-Request-Id", "not an id!")];
    let reply = client
        .call_bytes("GET", "/v1/nothing", &strange, vec![])
        .await
        .unwrap();
    assert_ne!(reply.header("x-request-id"), "not an id!");
    assert_error(&reply, 404, "invalid_route");
    assert!(
        !client
            .get("/v1/regions")
            .await
            .unwrap()
            .header("x-request-id")
            .is_empty()
    );
}

#[tokio::test]
async fn links_lead_to_where_the_client_found_the_server() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let reply = client.get("/v1/regions").await.unwrap();
    let expected = format!("http://{}/v1/regions/us-south", server.address);
    assert_eq!(reply.json["regions"][0]["href"], json!(expected));
    assert_eq!(reply.json["regions"][0]["zones"][0]["name"], "us-south-1");
    let bearer = format!("Bearer {}", client.token.clone().unwrap());
    let headers = [("Authorization", bearer.as_str()), ("Host", "evil\"><x")];
    let target = "/v1/regions?version=2026-10-06&generation=2";
    let reply = client.raw("GET", target, &headers, vec![]).await.unwrap();
    assert!(!reply.text.contains("evil"));
}

#[tokio::test]
async fn oversized_and_slow_requests_are_turned_down() {
    let limits = Limits {
        body: 4096,
        body_time: Duration::from_millis(300),
        header_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start_with(Settings::default(), false, limits)
        .await
        .unwrap();
    let client = server.client().await.unwrap();
    let before = server.revision();
    let large = format!("{{\"name\":\"{}\"}}", "a".repeat(5000)).into_bytes();
    let reply = client.call_bytes("POST", "/v1/vpcs", &[], large).await.unwrap();
    assert_error(&reply, 413, "validation_failure");

    let mut slow_body = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head =
        "POST /v1/vpcs?version=2026-10-06&generation=2 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{";
    slow_body.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), slow_body.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut slow_head = tokio::net::TcpStream::connect(server.address).await.unwrap();
    slow_head.write_all(b"GET /v1/vpcs HTTP/1.1\r\nHo").await.unwrap();
    let mut rest = Vec::new();
    // Closed by the server, with or without an answer.
    tokio::time::timeout(Duration::from_secs(10), slow_head.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.revision(), before);
}
