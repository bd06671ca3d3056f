//! The token exchange: an API key for a bearer token, in the identity service's own shapes.

use http::{HeaderValue, Method, Response, StatusCode, header};
use isthmus_types::{Secret, Timestamp};
use serde_json::{Value, json};

use crate::backend::Backend;
use crate::dialect::Refusal;
use crate::exchange::Exchange;
use crate::token::TokenKey;

/// Path of the exchange.
pub(super) const TOKEN_PATH: &str = "/identity/token";

const GRANT_TYPE: &str = "urn:ibm:params:oauth:grant-type:apikey";

/// Seconds that a token is valid.
const LIFETIME: u64 = 3600;

const UNKNOWN_KEY: &str = "BXNIM0415E";
const BAD_REQUEST: &str = "BXNIM0109E";
const FAILED: &str = "BXNIM0100E";

/// Answers a request to [`TOKEN_PATH`]. Client credentials in `Authorization` are not looked at.
pub(super) fn exchange_token(
    exchange: &Exchange,
    backend: &Backend,
    tokens: &TokenKey,
    now: Timestamp,
) -> Response<Vec<u8>> {
    let refuse = |status, code, message: &str| error(status, code, message, &exchange.request_id);
    if exchange.method != Method::POST {
        return refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            BAD_REQUEST,
            "Tokens are asked for with POST.",
        );
    }
    let mut grant_type = None;
    let mut api_key = None;
    for (name, value) in form_urlencoded::parse(&exchange.body) {
        match name.as_ref() {
            "grant_type" => grant_type = Some(value.into_owned()),
            "apikey" => api_key = Some(Secret::new(value.into_owned())),
            _ => {}
        }
    }
    match grant_type.as_deref() {
        Some(GRANT_TYPE) => {}
        Some(_) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                BAD_REQUEST,
                "This grant_type is not supported.",
            );
        }
        None => {
            return refuse(
                StatusCode::BAD_REQUEST,
                BAD_REQUEST,
                "The property grant_type is missing.",
            );
        }
    }
    let Some(api_key) = api_key else {
        return refuse(
            StatusCode::BAD_REQUEST,
            BAD_REQUEST,
            "The property apikey is missing.",
        );
    };
    // Revealed to be looked up by its hash.
    let Some((account, user)) = backend.account_of_api_key(api_key.reveal()) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            UNKNOWN_KEY,
            "The provided API key could not be found.",
        );
    };
    match tokens.mint(account, user, now, LIFETIME) {
        Ok(token) => json_response(
            StatusCode::OK,
            &json!({
                "access_token": token,
                "refresh_token": "not_supported",
                "token_type": "Bearer",
                "expires_in": LIFETIME,
                "expiration": now.0 / 1000 + LIFETIME,
                "scope": "ibm openid",
            }),
        ),
        Err(_) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            FAILED,
            "The token could not be made.",
        ),
    }
}

/// The answer to a request that the server itself turns down.
pub(super) fn refuse(refusal: Refusal, request_id: &str) -> Response<Vec<u8>> {
    let (status, code, message) = match refusal {
        Refusal::BodyTooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            BAD_REQUEST,
            "The body is too large.",
        ),
        Refusal::BodyTooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            BAD_REQUEST,
            "The body did not arrive in time.",
        ),
        Refusal::BodyUnreadable => (StatusCode::BAD_REQUEST, BAD_REQUEST, "The body broke off."),
        Refusal::Internal => (StatusCode::INTERNAL_SERVER_ERROR, FAILED, "The server failed."),
    };
    error(status, code, message, request_id)
}

fn error(status: StatusCode, code: &str, message: &str, request_id: &str) -> Response<Vec<u8>> {
    let body = json!({
        "errorCode": code,
        "errorMessage": message,
        "context": {
            "requestId": request_id,
            "requestType": "incoming.Identity_Token",
            "url": TOKEN_PATH,
        },
    });
    json_response(status, &body)
}

fn json_response(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}
