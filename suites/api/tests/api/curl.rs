//! The requests of the first VPN example, with `curl` itself: no JSON content type, both path forms.

use std::process::Stdio;

use isthmus_api_suite::{FLAT, PSK, Server, World};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs `curl` and gives status and body.
async fn curl(arguments: &[&str], input: &str) -> (u16, Value) {
    let mut child = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .await
        .unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "curl failed on {arguments:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

/// The example's reader with a token.
struct Reader {
    base: String,
    header: String,
}

impl Reader {
    async fn log_in(server: &Server) -> Self {
        let base = format!("http://{}", server.address);
        // The key goes through the pipe, not through the argument list.
        let form = format!(
            "grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={}",
            server.account.api_key.reveal()
        );
        let url = format!("{base}/identity/token");
        let (status, token) = curl(&["-X", "POST", &url, "-d", "@-"], &form).await;
        assert_eq!(status, 200);
        let header = format!(
            "Authorization: Bearer {}",
            token["access_token"].as_str().unwrap()
        );
        Self { base, header }
    }

    /// `curl -X METHOD URL -H AUTHORIZATION [-d BODY]`.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}?version={FLAT}&generation=2", self.base);
        let body = body.map(|body| body.to_string());
        let mut arguments = vec!["-X", method, &url, "-H", &self.header];
        if let Some(body) = &body {
            arguments.extend(["-d", body]);
        }
        curl(&arguments, "").await
    }
}

#[tokio::test]
async fn the_first_vpn_example_works_as_written() {
    let mut server = Server::start().await.unwrap();
    let setup = server.client().await.unwrap();
    let world = World::make(&server, &setup).await.unwrap();
    server.play_host();
    let reader = Reader::log_in(&server).await;

    let (status, body) = reader.call("GET", "/v1/vpcs", None).await;
    assert_eq!((status, &body["limit"]), (200, &json!(50)));
    let (status, body) = reader
        .call("POST", "/v1/vpcs", Some(json!({ "name": "by-curl" })))
        .await;
    assert_eq!((status, &body["name"]), (201, &json!("by-curl")));

    let body = json!({ "name": "vpn-gateway-1", "subnet": { "id": world.gateway_subnet } });
    let (status, gateway) = reader.call("POST", "/v1/vpn_gateways", Some(body)).await;
    assert_eq!(
        (status, &gateway["status"]),
        (201, &json!("pending")),
        "{gateway}"
    );
    for property in [
        "id",
        "crn",
        "href",
        "name",
        "created_at",
        "subnet",
        "public_ip",
        "resource_group",
        "connections",
    ] {
        assert!(!gateway[property].is_null(), "{property} is missing");
    }
    let connections = format!("/v1/vpn_gateways/{}/connections", gateway["id"].as_str().unwrap());
    let connection = new_connection(&reader, &connections).await;
    let one = format!("{connections}/{connection}");
    ranges(&reader, &one).await;

    let body = json!({ "name": "my-ike-policy", "authentication_algorithm": "md5", "dh_group": 5,
                       "encryption_algorithm": "triple_des", "ike_version": 1 });
    let (status, policy) = reader.call("POST", "/v1/ike_policies", Some(body)).await;
    assert_eq!(
        (status, &policy["negotiation_mode"]),
        (201, &json!("main")),
        "{policy}"
    );
    assert_eq!(policy["key_lifetime"], 28800);

    let body = json!({ "admin_state_up": false, "peer_address": "198.51.100.45" });
    let (status, patched) = reader.call("PATCH", &one, Some(body)).await;
    assert_eq!(
        (status, &patched["peer_address"]),
        (200, &json!("198.51.100.45")),
        "{patched}"
    );
    assert_eq!(reader.call("DELETE", &one, None).await.0, 202);
    let (status, body) = reader.call("GET", "/v1/nowhere", None).await;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (404, &json!("invalid_route"))
    );
}

async fn new_connection(reader: &Reader, connections: &str) -> String {
    let body = json!({
        "name": "vpn-connection-1", "psk": PSK, "peer_address": "198.51.100.44",
        "local_cidrs": ["10.1.0.0/24", "166.9.0.0/14", "161.26.0.0/16"], "peer_cidrs": ["192.168.0.0/24"],
    });
    let (status, connection) = reader.call("POST", connections, Some(body)).await;
    assert_eq!(status, 201, "{connection}");
    assert_eq!(
        connection["dead_peer_detection"],
        json!({ "action": "none", "interval": 30, "timeout": 120 })
    );
    assert_eq!(
        (&connection["route_mode"], &connection["admin_state_up"]),
        (&json!("policy"), &json!(true))
    );
    assert_eq!(
        (&connection["status"], &connection["psk"]),
        (&json!("down"), &json!(PSK))
    );
    connection["id"].as_str().unwrap().to_owned()
}

async fn ranges(reader: &Reader, one: &str) {
    for (method, path, status) in [
        ("PUT", "local_cidrs/192.168.9.0/24", 204),
        ("GET", "local_cidrs/192.168.9.0/24", 204),
        ("DELETE", "local_cidrs/192.168.9.0/24", 204),
        ("GET", "local_cidrs/192.168.9.0/24", 404),
        ("PUT", "peer/cidrs/172.16.0.0%2F16", 201),
        ("GET", "peer_cidrs/172.16.0.0/16", 204),
        ("DELETE", "peer/cidrs/172.16.0.0%2F16", 204),
    ] {
        let (answered, body) = reader.call(method, &format!("{one}/{path}"), None).await;
        assert_eq!(answered, status, "{method} {path}: {body}");
    }
    let (status, body) = reader.call("GET", &format!("{one}/peer_cidrs"), None).await;
    assert_eq!((status, body), (200, json!({ "peer_cidrs": ["192.168.0.0/24"] })));
}
