//! The server with a dialect that does what a test needs.

use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// Answers with the path; `/panic` panics, `/wait` answers once the gate is open.
struct Echo {
    entered: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Dialect for Echo {
    fn serves(&self, _: &str) -> bool {
        true
    }

    fn answer(
        self: Arc<Self>,
        exchange: Exchange,
    ) -> Pin<Box<dyn Future<Output = Response<Vec<u8>>> + Send>> {
        Box::pin(async move {
            assert_ne!(exchange.path, "/panic", "as asked for");
            if exchange.path == "/wait" {
                self.entered.add_permits(1);
                let _open = self.gate.acquire().await;
            }
            Response::new(exchange.path.into_bytes())
        })
    }

    fn refuse(&self, refusal: Refusal, path: &str, _: &str) -> Response<Vec<u8>> {
        let mut response = Response::new(format!("{refusal:?} at {path}").into_bytes());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    /// Has a permit for each request to `/wait` that runs.
    entered: Arc<Semaphore>,
    gate: Arc<Semaphore>,
    ended: JoinHandle<()>,
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entered = Arc::new(Semaphore::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let dialects: Vec<Arc<dyn Dialect>> = vec![Arc::new(Echo {
        entered: Arc::clone(&entered),
        gate: Arc::clone(&gate),
    })];
    let shutdown = Shutdown::new();
    let ended = tokio::spawn(run(listener, dialects.into(), limits, shutdown.clone()));
    Running {
        address,
        shutdown,
        entered,
        gate,
        ended,
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap()
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Reads until the answer's body, which ends with `end`, is there.
async fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with(end) {
        let count = soon(stream.read(&mut buffer)).await.unwrap();
        assert_ne!(count, 0, "the connection ended after {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_nothing_else() {
    let server = start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask(&mut stream, "/panic").await;
    let refused = answer(&mut stream, "Internal at /panic").await;
    assert!(
        refused.starts_with("HTTP/1.1 500") && refused.contains("x-request-id: "),
        "{refused}"
    );
    ask(&mut stream, "/after%2Fwards").await;
    let text = answer(&mut stream, "/after%2Fwards").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let server = start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    ask(&mut first, "/one").await;
    answer(&mut first, "/one").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    ask(&mut second, "/two").await;
    let mut byte = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(100), second.peek(&mut byte)).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    answer(&mut second, "/two").await;
}

#[tokio::test]
async fn shutdown_lets_a_running_request_end_and_drops_idle_connections() {
    let server = start(Limits::default()).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    ask(&mut idle, "/idle").await;
    answer(&mut idle, "/idle").await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    ask(&mut busy, "/wait").await;
    soon(server.entered.acquire()).await.unwrap().forget();
    server.shutdown.trigger();
    let mut rest = Vec::new();
    soon(idle.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
    server.gate.add_permits(1);
    let text = answer(&mut busy, "/wait").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    soon(server.ended).await.unwrap();
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let server = start(Limits {
        drain_time: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    ask(&mut busy, "/wait").await;
    soon(server.entered.acquire()).await.unwrap().forget();
    server.shutdown.trigger();
    soon(server.ended).await.unwrap();
}
