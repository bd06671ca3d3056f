//! Why a call failed.

use std::path::PathBuf;
use std::time::Duration;

use isthmus_runtime::ProfileError;
use serde::Deserialize;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the API is none that this client can use.
    #[error("{url:?} is no http:// address")]
    Address {
        /// What the profile says.
        url: String,
    },
    /// The API refused the request.
    #[error("{message} ({code})")]
    Api {
        /// HTTP status.
        status: u16,
        /// Code of the first error that the API lists.
        code: String,
        /// Its message.
        message: String,
        /// What it is about.
        target: Option<ErrorTarget>,
    },
    /// The answer is not what this client expects.
    #[error("the answer to {request} cannot be read")]
    Decode {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The API key was not accepted.
    #[error("logging in failed: {reason}")]
    Login {
        /// What the server said.
        reason: String,
    },
    /// There is no profile.
    #[error(
        "there is no profile at {}; `isthmus up` and `isthmus server` write one into their state directory: \
         name that with --state-dir, or a profile with --profile",
        path.display()
    )]
    NoProfile {
        /// Where it should be.
        path: PathBuf,
    },
    /// The profile cannot be read.
    #[error(transparent)]
    Profile(ProfileError),
    /// No answer in time.
    #[error("{url} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// Where the API should be.
        url: String,
        /// How long we waited.
        limit: Duration,
    },
    /// The server cannot be reached.
    #[error("cannot reach the API at {url}; is `isthmus up` or `isthmus server` running?")]
    Unreachable {
        /// Where the API should be.
        url: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server answered with something that is no API answer.
    #[error("{request} was answered with HTTP status {status}")]
    Unexpected {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
    },
}

impl ClientError {
    /// The HTTP status that the API refused with.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } | Self::Unexpected { status, .. } => Some(*status),
            Self::Address { .. }
            | Self::Decode { .. }
            | Self::NoProfile { .. }
            | Self::Login { .. }
            | Self::Profile(_)
            | Self::Timeout { .. }
            | Self::Unreachable { .. } => None,
        }
    }

    /// Whether the resource in the request's path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

/// What an error of the API is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorTarget {
    /// `field`, `parameter` or `header`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Dotted path of the field, or name of the parameter or header.
    pub name: String,
}

#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: String,
    message: String,
    target: Option<ErrorTarget>,
}

#[derive(Deserialize)]
struct LoginErrorBody {
    #[serde(rename = "errorMessage")]
    message: String,
}

/// Reads the body of a refused request.
pub(crate) fn refused(request: &str, status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(body).map(|body| body.errors.into_iter().next()) {
        Ok(Some(first)) => ClientError::Api {
            status,
            code: first.code,
            message: first.message,
            target: first.target,
        },
        Ok(None) | Err(_) => ClientError::Unexpected {
            request: request.to_owned(),
            status,
        },
    }
}

/// Reads the body of a refused token exchange.
pub(crate) fn login_refused(status: u16, body: &[u8]) -> ClientError {
    let reason = serde_json::from_slice::<LoginErrorBody>(body)
        .map_or_else(|_| format!("HTTP status {status}"), |body| body.message);
    ClientError::Login { reason }
}
