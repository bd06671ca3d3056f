//! The seam between the server and the providers' APIs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Response;

use crate::exchange::Exchange;

/// A provider's API, mounted on the server.
pub trait Dialect: Send + Sync + 'static {
    /// Whether a path (undecoded, without query) belongs to this dialect.
    fn serves(&self, path: &str) -> bool;

    /// Answers a request: credentials, decoding, carrying out, encoding.
    fn answer(self: Arc<Self>, exchange: Exchange)
    -> Pin<Box<dyn Future<Output = Response<Vec<u8>>> + Send>>;

    /// The answer, in this API's shape, to a request that the server itself turns down.
    fn refuse(&self, refusal: Refusal, path: &str, request_id: &str) -> Response<Vec<u8>>;
}

/// Why the server itself turns a request down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body broke off or was malformed HTTP.
    BodyUnreadable,
    /// We failed.
    Internal,
}
