//! The whole service on a socket, over a store in memory, with a host on the other side.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use isthmus_crypto::seal::SealingKey;
use isthmus_hostplan::PlanDelta;
use isthmus_ops::{ConnectionState, Operation, Outcome};
use isthmus_runtime::{Shutdown, clock};
use isthmus_store::{MemoryEngine, Store};
use isthmus_types::Generation;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::world::*;
use crate::{ControlError, Health, serve};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running service.
struct Service {
    store: Store,
    socket: PathBuf,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), ControlError>>,
}

impl Service {
    async fn start(store: Store, directory: &Path) -> Self {
        let socket = directory.join("control.sock");
        let shutdown = Shutdown::new();
        let task = {
            let (store, socket, shutdown) = (store.clone(), socket.clone(), shutdown.clone());
            tokio::spawn(async move { serve(store, &socket, shutdown).await })
        };
        let service = Self {
            store,
            socket,
            shutdown,
            task,
        };
        timeout(PATIENCE, async {
            while UnixStream::connect(&service.socket).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the socket is served in time");
        service
    }

    async fn stop(self) -> Store {
        self.shutdown.trigger();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        assert!(!self.socket.exists());
        self.store
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "control")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = timeout(PATIENCE, sender.send_request(request))
            .await
            .unwrap()
            .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        connection.await.unwrap().unwrap();
        (status, body)
    }

    async fn plan(&self, after: Generation) -> PlanDelta {
        let path = format!("/v1/plan?host={}&after={after}", settings().host);
        let (status, body) = self.call(Method::GET, &path, Vec::new()).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }

    async fn report(&self, host: &FakeHost) {
        let body = serde_json::to_vec(&host.report()).unwrap();
        let (status, _) = self.call(Method::POST, "/v1/report", body).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }

    async fn ask(&self, operation: Operation) -> Outcome {
        self.store.execute(request(operation)).await.unwrap()
    }

    /// Fetches and reports until the plan holds what `done` wants.
    async fn fetch_until(&self, host: &mut FakeHost, done: impl Fn(&FakeHost) -> bool) {
        timeout(PATIENCE, async {
            while !done(host) {
                host.take(self.plan(host.generation()).await);
            }
        })
        .await
        .expect("the plan gets there in time");
        self.report(host).await;
    }
}

fn store() -> Store {
    Store::with_engine(
        Box::new(MemoryEngine::new()),
        SealingKey::generate().unwrap(),
        settings(),
        clock::now,
    )
    .unwrap()
}

fn has_connections(count: usize) -> impl Fn(&FakeHost) -> bool {
    move |host| {
        let gateways = host.plan.vpcs.values().flat_map(|plan| &plan.gateways);
        gateways.map(|gateway| gateway.connections.len()).sum::<usize>() == count
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_at_once_and_what_it_reports_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(store(), directory.path()).await;
    let mode = std::fs::metadata(&service.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    service.ask(create_account()).await;
    let vpc = vpc_of(service.ask(create_vpc()).await);
    service.ask(create_prefix(vpc, 1)).await;
    let subnet = subnet_of(service.ask(create_subnet(vpc, 1)).await);
    let gateway = gateway_of(service.ask(create_gateway(subnet)).await);
    let mut host = FakeHost::new();
    service
        .fetch_until(&mut host, |host| !host.plan.vpcs.is_empty())
        .await;

    // An agent that waits already learns of the connection with the next packet.
    let waiting = service.plan(host.generation());
    let asking = async {
        let begun = Instant::now();
        let connection = connection_of(service.ask(create_connection(gateway, 1, 1)).await);
        (begun, connection)
    };
    let (delta, (begun, connection)) = tokio::join!(waiting, asking);
    let took = begun.elapsed();
    assert!(!delta.whole);
    host.take(delta);
    assert!(has_connections(1)(&host));
    assert!(took < Duration::from_secs(2), "{took:?}");
    service.report(&host).await;
    // The report is answered once it is recorded.
    let status = service.store.snapshot().connection_status(connection).cloned();
    assert_eq!(status.unwrap().state, ConnectionState::Up);

    // A new process knows as much, and deletion goes its way through it.
    let store = service.stop().await;
    let service = Service::start(store, directory.path()).await;
    service
        .ask(Operation::DeleteVpnConnection {
            gateway,
            connection,
            if_match: None,
        })
        .await;
    assert!(service.store.snapshot().vpn_connection(connection).is_some());
    service.fetch_until(&mut host, has_connections(0)).await;
    assert!(service.store.snapshot().vpn_connection(connection).is_none());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_nonsense_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(store(), directory.path()).await;
    for (method, path, body, expected) in [
        (
            Method::GET,
            "/v1/plan?host=other&after=0",
            "",
            StatusCode::NOT_FOUND,
        ),
        (Method::GET, "/v1/plan?host=host-1", "", StatusCode::BAD_REQUEST),
        (
            Method::GET,
            "/v1/plan?host=host-1&after=x",
            "",
            StatusCode::BAD_REQUEST,
        ),
        (Method::POST, "/v1/report", "{", StatusCode::BAD_REQUEST),
        (Method::POST, "/v1/report", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::GET, "/v2/plan", "", StatusCode::NOT_FOUND),
    ] {
        let (status, _) = service.call(method, path, body.into()).await;
        assert_eq!(status, expected, "{path} {body}");
    }
    let (status, body) = service.call(Method::GET, "/v1/health", Vec::new()).await;
    assert_eq!(status, StatusCode::OK);
    let health: Health = serde_json::from_slice(&body).unwrap();
    assert_eq!((health.host, health.heard_ms_ago), (settings().host, None));
    service.stop().await;
}
