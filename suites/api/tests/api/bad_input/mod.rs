//! Requests that must be refused: each row says how, and afterwards nothing has changed.

mod network;
mod vpn;

use isthmus_api_suite::{Client, NESTED, PSK, Server, World};
use serde_json::Value;

struct Row {
    method: &'static str,
    path: String,
    date: &'static str,
    body: Vec<u8>,
    expected: (u16, &'static str),
}

fn row(method: &'static str, path: &str, body: Value, status: u16, code: &'static str) -> Row {
    Row {
        method,
        path: path.to_owned(),
        date: NESTED,
        body: if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        },
        expected: (status, code),
    }
}

fn at(date: &'static str, row: Row) -> Row {
    Row { date, ..row }
}

fn raw(method: &'static str, path: &str, body: &[u8], status: u16, code: &'static str) -> Row {
    Row {
        method,
        path: path.to_owned(),
        date: NESTED,
        body: body.to_vec(),
        expected: (status, code),
    }
}

async fn check(server: &Server, client: &Client, rows: Vec<Row>) {
    let count = rows.len();
    for Row {
        method,
        path,
        date,
        body,
        expected,
    } in rows
    {
        let before = server.revision();
        let case = format!(
            "{method} {path} at {date} with {}",
            String::from_utf8_lossy(&body)
        );
        let reply = client
            .at(date)
            .call_bytes(method, &path, &[], body)
            .await
            .unwrap();
        assert_eq!((reply.status, reply.code()), expected, "{case}: {}", reply.text);
        assert_eq!(server.revision(), before, "{case} changed something");
        assert!(!reply.text.contains(PSK), "{case} repeats a key");
    }
    println!("{count} rows of bad input refused, nothing changed");
}

#[tokio::test]
async fn malformed_bodies() {
    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let prefixes = format!("/v1/vpcs/{}/address_prefixes", world.vpc);
    let mut rows = Vec::new();
    for path in [
        "/v1/vpcs",
        "/v1/subnets",
        "/v1/instances",
        "/v1/vpn_gateways",
        "/v1/ike_policies",
        "/v1/ipsec_policies",
        prefixes.as_str(),
        world.connections_path().as_str(),
    ] {
        for body in [
            b"".as_slice(),
            b"{",
            b"nonsense",
            b"[]",
            b"null",
            b"7",
            b"{\"name\":\"a\"}}",
            b"{'name':'a'}",
            b"\xff\xfe",
            b"{\"name\":\"\xff\"}",
        ] {
            rows.push(raw("POST", path, body, 400, "validation_failure"));
        }
    }
    for path in [format!("/v1/vpcs/{}", world.vpc), world.connection_path()] {
        rows.push(raw("PATCH", &path, b"[]", 400, "validation_failure"));
        rows.push(raw("PATCH", &path, b"", 400, "validation_failure"));
    }
    check(&server, &client, rows).await;
}
