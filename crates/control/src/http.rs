//! The agents' door: HTTP on a Unix socket that root alone can open.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use isthmus_hostplan::{HostReport, PlanStatus};
use isthmus_types::{Generation, HostName};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::service::Control;

/// Longest time that a request for changes waits for one.
const LONG_POLL: Duration = Duration::from_secs(25);

/// Largest report that is read, bytes.
const REPORT_MAX: usize = 256 << 20;

/// How control and the host stand to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The host.
    pub host: HostName,
    /// Generation of the published plan.
    pub generation: Generation,
    /// Generation that the host's last report speaks of; none before the first report to this process.
    pub host_generation: Option<Generation>,
    /// How the host's last pass ended.
    pub status: Option<PlanStatus>,
    /// Milliseconds since anything was heard from the host; none if nothing was since this process started.
    pub heard_ms_ago: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct PlanQuery {
    host: HostName,
    after: Generation,
}

/// The routes.
///
/// - `GET /v1/plan?host=NAME&after=GENERATION`: a `PlanDelta`, at once if there is a newer generation, else as soon as
///   there is one; 204 if there is none for 25 s.
/// - `POST /v1/report` with a `HostReport`: 204 once it was recorded.
/// - `GET /v1/health`: [`Health`].
///
/// Another host's name is answered with 404.
pub(crate) fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/plan", get(plan))
        .route("/v1/report", post(report))
        .route("/v1/health", get(health))
        .layer(DefaultBodyLimit::max(REPORT_MAX))
        .with_state(control)
}

async fn plan(State(control): State<Arc<Control>>, Query(query): Query<PlanQuery>) -> Response {
    if !control.is_for(&query.host) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let deadline = Instant::now() + LONG_POLL;
    let mut published = control.published();
    loop {
        // Marked as seen before looking, so that a change in between is not missed.
        published.borrow_and_update();
        if let Some(delta) = control.delta(query.after) {
            return Json(delta).into_response();
        }
        let changed = tokio::select! {
            changed = timeout_at(deadline, published.changed()) => matches!(changed, Ok(Ok(()))),
            () = control.ending() => false,
        };
        if !changed {
            return StatusCode::NO_CONTENT.into_response();
        }
    }
}

async fn report(State(control): State<Arc<Control>>, Json(report): Json<HostReport>) -> StatusCode {
    if !control.is_for(&report.host) {
        return StatusCode::NOT_FOUND;
    }
    control.hear(report).await;
    StatusCode::NO_CONTENT
}

async fn health(State(control): State<Arc<Control>>) -> Json<Health> {
    Json(control.health())
}
