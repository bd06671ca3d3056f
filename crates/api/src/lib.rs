//! The HTTP server: limits, credentials, and the way of a request to its dialect and back.
//!
//! A request is read whole within limits, handed to the [`Dialect`] that its path belongs to, and answered. A dialect
//! checks credentials in its own manner and turns the request into an operation or a query for the store through
//! [`Backend`]; the codec of each provider's API lives in a crate of its own. Adding a provider means implementing
//! [`Dialect`] and naming it in [`serve`].
//!
//! This crate must not know hosts, SQL, nor any rule about resources. How to drive it: bind a listener, fill
//! [`Options`], call [`serve`]; it ends after [`Shutdown`] is triggered and running requests are answered.

mod backend;
mod dialect;
mod exchange;
mod facts;
mod ibm;
mod options;
mod server;
mod token;

use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::Shutdown;
use isthmus_store::Store;
use isthmus_types::{AccountId, UserId};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

pub use backend::Backend;
pub use dialect::{Dialect, Refusal};
pub use exchange::Exchange;
pub use facts::{ConnectionFacts, Metrics};
pub use token::{TokenError, TokenKey};

/// What the server needs to know.
pub struct Options {
    /// What requests are carried out on.
    pub store: Store,
    /// Secret that bearer tokens are signed with; must survive restarts for tokens to do so.
    pub token_key: Zeroizing<[u8; 32]>,
    /// Who a request without credentials acts as. `None`, the default everywhere, refuses such requests.
    pub anonymous: Option<(AccountId, UserId)>,
    /// Address under which clients reach the server, such as `https://vpc.example.test`; the request's `Host` if none.
    pub public_url: Option<String>,
    /// Limits on clients.
    pub limits: Limits,
    /// What only hosts know about connections; without it that is not served.
    pub facts: Option<Arc<dyn ConnectionFacts>>,
}

/// Limits on what clients may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest body, bytes.
    pub body: usize,
    /// Connections open at one time; more wait in the kernel's queue.
    pub connections: usize,
    /// Longest time for a request's header, or for a kept connection to stay idle.
    pub header_time: Duration,
    /// Longest time for a request's body.
    pub body_time: Duration,
    /// Longest time that running requests have after shutdown was asked for.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            connections: 512,
            header_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(5),
        }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store does not say which region this is.
    #[error("the store names no region")]
    NoRegion,
    /// The listener is unusable.
    #[error("the listening socket is unusable")]
    Listener(#[source] std::io::Error),
}

/// Serves HTTP on `listener` until `shutdown`.
///
/// # Errors
/// [`ServeError`] if it cannot start; once it runs, nothing that a client does ends it.
pub async fn serve(listener: TcpListener, options: Options, shutdown: Shutdown) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let limits = options.limits;
    let backend = Backend::new(options.store);
    let ibm = ibm::Ibm::new(
        backend,
        TokenKey::new(&options.token_key),
        options.anonymous,
        options.public_url.map(|url| url.trim_end_matches('/').to_owned()),
        address,
        options.facts,
    )?;
    let dialects: Vec<Arc<dyn Dialect>> = vec![Arc::new(ibm)];
    server::run(listener, dialects.into(), limits, shutdown).await;
    Ok(())
}
