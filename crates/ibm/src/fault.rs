//! Errors in the shape that clients of this API read.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable word for what is wrong.
    pub code: &'static str,
    /// A sentence for people; never holds a secret.
    pub message: String,
    /// The part of the request at fault.
    pub target: Option<Target>,
}

/// The part of a request that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which part of the request.
    pub kind: TargetKind,
    /// Name in that part; a dotted path for a property of the body.
    pub name: String,
    /// The offending value, unless it is secret.
    pub value: Option<String>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A property of the body.
    Field,
    /// A header.
    Header,
    /// A parameter of the query or a variable of the path.
    Parameter,
}

impl Target {
    /// A property of the body.
    pub fn field(name: impl Into<String>) -> Self {
        Self::new(TargetKind::Field, name)
    }

    /// A header.
    pub fn header(name: impl Into<String>) -> Self {
        Self::new(TargetKind::Header, name)
    }

    /// A query parameter or a path variable.
    pub fn parameter(name: impl Into<String>) -> Self {
        Self::new(TargetKind::Parameter, name)
    }

    fn new(kind: TargetKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            value: None,
        }
    }

    /// Adds the offending value, cut to a bearable length.
    #[must_use]
    pub fn with_value(mut self, value: impl AsRef<str>) -> Self {
        self.value = Some(value.as_ref().chars().take(256).collect());
        self
    }
}

impl Fault {
    /// An error without a target.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            target: None,
        }
    }

    /// A 400 answer.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Who asks is not known: 401.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorized", message)
    }

    /// Our own fault: 500. The sentence is fixed, so nothing leaks.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the server failed to answer this request; nothing is known about its effect",
        )
    }

    /// Names the part of the request at fault.
    #[must_use]
    pub fn at(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The answer; `trace` identifies the request.
    pub fn response(&self, trace: &str) -> http::Response<Vec<u8>> {
        let mut entry = json!({ "code": self.code, "message": self.message });
        if let Some(target) = &self.target {
            let mut shown = json!({ "type": target.kind.word(), "name": target.name });
            if let Some(value) = &target.value {
                shown["value"] = Value::from(value.as_str());
            }
            entry["target"] = shown;
        }
        let body = json!({ "errors": [entry], "trace": trace });
        let mut response = json_response(self.status, &body);
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl TargetKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Field => "field",
            Self::Header => "header",
            Self::Parameter => "parameter",
        }
    }
}

/// A JSON answer.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> http::Response<Vec<u8>> {
    let mut response = http::Response::new(body.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}
