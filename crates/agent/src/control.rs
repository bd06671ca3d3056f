//! The way to control: HTTP over its Unix socket, one connection for each request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use isthmus_hostplan::{HostReport, PlanDelta};
use isthmus_types::{Generation, HostName};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longer than control holds a request for news (25 s).
const NEWS_PATIENCE: Duration = Duration::from_secs(40);
const REPORT_PATIENCE: Duration = Duration::from_secs(10);

/// Why control could not be asked or told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The answer could not be understood.
    #[error("control sent a plan that cannot be read")]
    Answer(#[source] serde_json::Error),
    /// There is no connection.
    #[error("connecting to control failed")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error("the exchange with control failed")]
    Exchange(#[source] hyper::Error),
    /// Control refused.
    #[error("control answered {status}: {text}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        text: String,
    },
    /// The report has no JSON form.
    #[error("writing the report as JSON failed")]
    Render(#[source] serde_json::Error),
    /// The request could not be formed.
    #[error("forming a request failed")]
    Request(#[source] http::Error),
    /// No answer in time.
    #[error("control did not answer in time")]
    Time,
}

/// The way to control.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    socket: PathBuf,
}

impl Control {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Waits for a plan later than `after`; none if there was none for a while.
    pub(crate) async fn plan(
        &self,
        host: &HostName,
        after: Generation,
    ) -> Result<Option<PlanDelta>, ControlError> {
        let path = format!("/v1/plan?host={host}&after={after}");
        let (status, body) = timeout(NEWS_PATIENCE, self.exchange(Method::GET, &path, Vec::new()))
            .await
            .map_err(|_| ControlError::Time)??;
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(ControlError::Answer),
            status => Err(refused(status, &body)),
        }
    }

    /// Tells what was observed.
    pub(crate) async fn report(&self, report: &HostReport) -> Result<(), ControlError> {
        let body = serde_json::to_vec(report).map_err(ControlError::Render)?;
        let (status, body) = timeout(REPORT_PATIENCE, self.exchange(Method::POST, "/v1/report", body))
            .await
            .map_err(|_| ControlError::Time)??;
        if status.is_success() {
            Ok(())
        } else {
            Err(refused(status, &body))
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(ControlError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ControlError::Exchange)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "control")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(ControlError::Request)?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok((status, body))
        };
        tokio::pin!(exchange);
        // The connection makes progress only while it is polled; dropping it closes the socket.
        let mut connection = std::pin::pin!(connection);
        let mut open = true;
        loop {
            tokio::select! {
                result = &mut exchange => return result.map_err(ControlError::Exchange),
                _ = &mut connection, if open => open = false,
            }
        }
    }
}

fn refused(status: StatusCode, body: &[u8]) -> ControlError {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    ControlError::Refused { status, text }
}
