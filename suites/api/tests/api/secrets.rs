//! What the log must not hold.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use isthmus_api_suite::{PSK, Server, World};
use serde_json::json;
use tracing_subscriber::filter::LevelFilter;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_key_and_no_token_is_logged_at_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let server = Server::start().await.unwrap();
    let client = server.client().await.unwrap();
    let world = World::make(&server, &client).await.unwrap();
    let one = world.connection_path();
    client
        .patch(&one, json!({ "psk": "changed-Key-1" }))
        .await
        .unwrap()
        .expect(200)
        .unwrap();
    client
        .patch(&one, json!({ "psk": "too bad a key" }))
        .await
        .unwrap()
        .expect(400)
        .unwrap();
    client
        .exchange("wrong-api-key")
        .await
        .unwrap()
        .expect(400)
        .unwrap();
    let mut tampered = client.clone();
    tampered.token = Some("header.tampered-claims.signature".to_owned());
    tampered.get("/v1/vpcs").await.unwrap().expect(401).unwrap();
    // A credential that a client puts where none belongs.
    client
        .get("/v1/vpcs?apikey=misplaced-key")
        .await
        .unwrap()
        .expect(200)
        .unwrap();

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for outcome in ["status=200", "status=201", "status=400", "status=401"] {
        assert!(text.contains(outcome), "the log lacks requests: {text}");
    }
    for secret in [
        PSK,
        "changed-Key-1",
        "too bad a key",
        "wrong-api-key",
        "tampered-claims",
        "misplaced-key",
        server.account.api_key.reveal(),
        client.token.as_deref().unwrap(),
    ] {
        assert!(!text.contains(secret), "the log holds {secret}");
    }
}
