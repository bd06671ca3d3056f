//! What dialects may ask of the rest of the server.

use isthmus_ops::{Caller, OpError, OpErrorCode, Outcome, Query, Request};
use isthmus_store::Store;
use isthmus_types::{AccountId, UserId};

/// The store as dialects see it.
#[derive(Clone)]
pub struct Backend {
    store: Store,
}

impl Backend {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Carries out an operation; it is durable when this returns.
    ///
    /// # Errors
    /// [`OpError`] if it was refused; nothing was changed then.
    pub async fn execute(&self, request: Request) -> Result<Outcome, OpError> {
        let request_id = request.caller.request_id.clone();
        let result = self.store.execute(request).await;
        if let Err(error) = &result {
            log_refusal(error, &request_id);
        }
        result
    }

    /// Answers a question from memory.
    ///
    /// # Errors
    /// [`OpError`] if there is no such thing for this caller.
    pub fn query(&self, caller: &Caller, query: &Query) -> Result<Outcome, OpError> {
        let result = self.store.query(caller, query);
        if let Err(error) = &result {
            log_refusal(error, &caller.request_id);
        }
        result
    }

    /// Who an API key belongs to.
    pub fn account_of_api_key(&self, key: &str) -> Option<(AccountId, UserId)> {
        self.store.account_of_api_key(key)
    }
}

fn log_refusal(error: &OpError, request_id: &str) {
    let detail = error.private.as_deref().unwrap_or_default();
    if error.code == OpErrorCode::Internal {
        tracing::error!(request_id, message = %error.message, detail, "request failed");
    } else {
        tracing::debug!(request_id, code = ?error.code, message = %error.message, detail, "request refused");
    }
}
