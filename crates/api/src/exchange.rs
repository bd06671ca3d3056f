//! One request, read whole.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use isthmus_runtime::random;

const REQUEST_ID: &str = "x-request-id";
const CORRELATION_ID: &str = "x-correlation-id";
const NO_CACHE: HeaderValue = HeaderValue::from_static("max-age=0, no-cache, no-store, must-revalidate");

/// One request, read whole.
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// The path as the client sent it, undecoded.
    pub path: String,
    /// The query string, undecoded, without the question mark.
    pub query: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Identifies the request in logs and errors.
    pub request_id: String,
    /// The client's address.
    pub peer: SocketAddr,
}

/// Headers, query and body may hold credentials, so they are not shown.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.method, self.path, self.request_id)
    }
}

/// The client's request id if it is one that we may repeat, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_plain_id(text))
        .map_or_else(|| random::resource_bits().to_uuid(), str::to_owned)
}

fn is_plain_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl Exchange {
    pub(crate) fn new(parts: &Parts, body: Bytes, request_id: String, peer: SocketAddr) -> Self {
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
            body,
            request_id,
            peer,
        }
    }
}

/// Adds the headers that every answer has.
pub(crate) fn complete(response: &mut Response<Vec<u8>>, request_id: &str, request_headers: &HeaderMap) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(correlation) = request_headers
        .get(CORRELATION_ID)
        .filter(|value| value.len() <= 128)
    {
        headers.insert(CORRELATION_ID, correlation.clone());
    }
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_request_ids_are_taken_over() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(text).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("Abc-9_z"), "Abc-9_z");
        for strange in ["", "a b", "a;b", &"x".repeat(65)] {
            let made = id(strange);
            assert_ne!(made, strange);
            assert!(is_plain_id(&made));
        }
    }
}
