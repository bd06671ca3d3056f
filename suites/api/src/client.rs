//! An HTTP client that changes nothing: paths go out as given, answers are shown as they came.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::NESTED;

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Sent as bearer token, if any.
    pub token: Option<String>,
    /// Sent as `version`.
    pub date: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON, null if it is none.
    pub json: Value,
}

impl Reply {
    /// `code` of the first error, empty if there is none.
    pub fn code(&self) -> &str {
        self.json["errors"][0]["code"].as_str().unwrap_or_default()
    }

    /// `id` of the object that was answered, empty if there is none.
    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    /// A header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The reply itself if it has this status.
    ///
    /// # Errors
    /// When the status is another one.
    pub fn expect(self, status: u16) -> Result<Self> {
        anyhow::ensure!(
            self.status == status,
            "wanted {status}, got {} {}",
            self.status,
            self.text
        );
        Ok(self)
    }
}

impl Client {
    /// A client without a token, speaking at a current date.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            token: None,
            date: NESTED.to_owned(),
        }
    }

    /// The same client at another date.
    #[must_use]
    pub fn at(&self, date: &str) -> Self {
        Self {
            date: date.to_owned(),
            ..self.clone()
        }
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn exchange(&self, api_key: &str) -> Result<Reply> {
        let body = format!(
            "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&response_type=cloud_iam&apikey={api_key}"
        );
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        self.raw("POST", "/identity/token", &headers, body.into_bytes())
            .await
    }

    /// GET.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.call("GET", path, None).await
    }

    /// POST.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        self.call("POST", path, Some(body)).await
    }

    /// PATCH.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn patch(&self, path: &str, body: Value) -> Result<Reply> {
        self.call("PATCH", path, Some(body)).await
    }

    /// PUT without a body.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn put(&self, path: &str) -> Result<Reply> {
        self.call("PUT", path, None).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn delete(&self, path: &str) -> Result<Reply> {
        self.call("DELETE", path, None).await
    }

    /// A request at the client's date with the client's token.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Reply> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.call_bytes(method, path, &[], bytes).await
    }

    /// As [`Client::call`], with more headers and any body.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn call_bytes(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{mark}version={}&generation=2", self.date);
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut all = headers.to_vec();
        if let Some(bearer) = &bearer {
            all.push(("Authorization", bearer));
        }
        self.raw(method, &target, &all, body).await
    }

    /// A request exactly as given.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn raw(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("Host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = sender
            .send_request(request)
            .await
            .with_context(|| format!("{method} {target}"))?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        driver.abort();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }
}
