//! Connections, limits and the way of each request through its dialect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use isthmus_runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Limits;
use crate::dialect::{Dialect, Refusal};
use crate::exchange::{self, Exchange};

const HEALTH_PATH: &str = "/healthz";

/// Pause after a failed accept, which means that the process or the machine is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts and serves connections until `shutdown`, then lets running requests end. The first dialect also answers for
/// paths that no dialect serves.
pub(crate) async fn run(
    listener: TcpListener,
    dialects: Arc<[Arc<dyn Dialect>]>,
    limits: Limits,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut ended = pin!(shutdown.wait());
    loop {
        while connections.try_join_next().is_some() {}
        let slot = tokio::select! {
            () = &mut ended => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let accepted = tokio::select! {
            () = &mut ended => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let task = connection(stream, peer, Arc::clone(&dialects), limits, shutdown.wait());
                connections.spawn(async move {
                    task.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_time, drained).await.is_err() {
        tracing::warn!("connections were cut off at shutdown");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    dialects: Arc<[Arc<dyn Dialect>]>,
    limits: Limits,
    ended: impl Future<Output = ()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not switch off delay");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let dialects = Arc::clone(&dialects);
        async move { Ok::<_, Infallible>(respond(request, peer, &dialects, limits).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let mut ended = pin!(ended);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = &mut ended => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

async fn respond(
    request: Request<Incoming>,
    peer: SocketAddr,
    dialects: &[Arc<dyn Dialect>],
    limits: Limits,
) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let request_id = exchange::request_id(&parts.headers);
    let dialect = dialects
        .iter()
        .find(|dialect| dialect.serves(path))
        .or_else(|| dialects.first());
    let mut response = match dialect {
        _ if path == HEALTH_PATH => health(),
        Some(dialect) => match read(body, limits).await {
            Ok(body) => {
                let exchange = Exchange::new(&parts, body, request_id.clone(), peer);
                // In a task of its own: it runs to its end even if the client goes away, and a panic ends only itself.
                let answer = tokio::spawn(Arc::clone(dialect).answer(exchange));
                answer.await.unwrap_or_else(|error| {
                    tracing::error!(
                        request_id,
                        panicked = error.is_panic(),
                        "a request's task broke off"
                    );
                    dialect.refuse(Refusal::Internal, path, &request_id)
                })
            }
            Err(refusal) => dialect.refuse(refusal, path, &request_id),
        },
        None => status_only(StatusCode::NOT_FOUND),
    };
    exchange::complete(&mut response, &request_id, &parts.headers);
    // The query is not logged: some APIs carry credentials there.
    tracing::info!(
        method = %parts.method,
        path,
        status = response.status().as_u16(),
        micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        request_id,
        %peer,
        "request"
    );
    response.map(|body| Full::new(Bytes::from(body)))
}

async fn read(body: Incoming, limits: Limits) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(limits.body_time, Limited::new(body, limits.body).collect()).await;
    match collected {
        Err(_) => Err(Refusal::BodyTooSlow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) => Err(Refusal::BodyUnreadable),
    }
}

fn health() -> Response<Vec<u8>> {
    let mut response = Response::new(br#"{"status":"ok"}"#.to_vec());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

fn status_only(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
