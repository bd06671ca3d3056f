//! The IBM Cloud VPC API on the server: token exchange, bearer check, and the codec of `isthmus_ibm`.

mod iam;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use isthmus_ibm::{Ask, Decoded, Fault, Scene};
use isthmus_ops::{Caller, Outcome, Query, Request, Via};
use isthmus_runtime::clock;
use isthmus_types::{AccountId, RegionName, ResourceBits, Timestamp, UserId};

use crate::ServeError;
use crate::backend::Backend;
use crate::dialect::{Dialect, Refusal};
use crate::exchange::Exchange;
use crate::facts::{self, ConnectionFacts, Fact};
use crate::token::TokenKey;

/// The mounted dialect.
pub(crate) struct Ibm {
    backend: Backend,
    tokens: TokenKey,
    anonymous: Option<(AccountId, UserId)>,
    public_url: Option<String>,
    address: SocketAddr,
    region: RegionName,
    facts: Option<Arc<dyn ConnectionFacts>>,
}

impl Ibm {
    pub(crate) fn new(
        backend: Backend,
        tokens: TokenKey,
        anonymous: Option<(AccountId, UserId)>,
        public_url: Option<String>,
        address: SocketAddr,
        facts: Option<Arc<dyn ConnectionFacts>>,
    ) -> Result<Self, ServeError> {
        let caller = Caller {
            account: ResourceBits::from_random(0).into(),
            user: None,
            via: Via::System,
            request_id: "start".to_owned(),
        };
        let regions = match backend.query(&caller, &Query::Regions) {
            Ok(Outcome::Regions(regions)) => regions,
            Ok(_) | Err(_) => Vec::new(),
        };
        let region = regions.into_iter().next().ok_or(ServeError::NoRegion)?.name;
        Ok(Self {
            backend,
            tokens,
            anonymous,
            public_url,
            address,
            region,
            facts,
        })
    }

    async fn carry_out(&self, exchange: &Exchange) -> Result<Response<Vec<u8>>, Fault> {
        let (fact, path) = match Fact::at(&exchange.method, &exchange.path) {
            None => (None, exchange.path.clone()),
            Some(found) => found.map(|(fact, path)| (Some(fact), path))?,
        };
        let matched = isthmus_ibm::find_route(&exchange.method, &path)?;
        let now = clock::now();
        let (account, user) = self.authenticate(&exchange.headers, now)?;
        let request = isthmus_ibm::Request {
            matched: &matched,
            query: &exchange.query,
            headers: &exchange.headers,
            body: &exchange.body,
            scene: Scene {
                base_url: self.base_url(&exchange.headers),
                region: self.region.clone(),
                account,
                now,
                trace: exchange.request_id.clone(),
            },
        };
        let decoded = isthmus_ibm::decode(&request)?;
        let caller = Caller {
            account,
            user: Some(user),
            via: Via::Ibm,
            request_id: exchange.request_id.clone(),
        };
        if let Some(fact) = fact {
            return self.tell(fact, &caller, &decoded);
        }
        let result = match decoded.ask {
            Ask::Answer(response) => return Ok(*response),
            Ask::Operation(operation) => {
                let request = Request {
                    caller,
                    operation: *operation,
                    idempotency_token: None,
                };
                self.backend.execute(request).await
            }
            Ask::Query(query) => self.backend.query(&caller, &query),
        };
        Ok(isthmus_ibm::encode(&result, &decoded.render))
    }

    /// Tells a fact about the connection that `ask` reads, if the caller may read that.
    fn tell(&self, fact: Fact, caller: &Caller, decoded: &Decoded) -> Result<Response<Vec<u8>>, Fault> {
        let Ask::Query(query) = &decoded.ask else {
            return Err(facts::unknown());
        };
        let Query::VpnConnection { connection, .. } = **query else {
            return Err(facts::unknown());
        };
        let allowed = self.backend.query(caller, query);
        if allowed.is_err() {
            return Ok(isthmus_ibm::encode(&allowed, &decoded.render));
        }
        let found = self
            .facts
            .as_deref()
            .and_then(|facts| fact.read(facts, connection))
            .ok_or_else(facts::unknown)?;
        let mut response = Response::new(found.to_string().into_bytes());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json; charset=utf-8"),
        );
        Ok(response)
    }

    fn authenticate(&self, headers: &HeaderMap, now: Timestamp) -> Result<(AccountId, UserId), Fault> {
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return self
                .anonymous
                .ok_or_else(|| Fault::unauthenticated("the header Authorization is missing"));
        };
        let token = given
            .to_str()
            .ok()
            .and_then(|text| text.trim().split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| Fault::unauthenticated("the header Authorization must be Bearer and a token"))?;
        self.tokens
            .verify(token, now)
            .map_err(|error| Fault::unauthenticated(error.to_string()))
    }

    // Links lead to the configured address, else to where the client says it found us.
    fn base_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .filter(|host| is_authority(host))
            .map_or_else(|| self.address.to_string(), str::to_owned);
        format!("http://{host}")
    }
}

fn is_authority(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

impl Dialect for Ibm {
    fn serves(&self, path: &str) -> bool {
        path == iam::TOKEN_PATH || path.starts_with("/v1/") || path.starts_with("/isthmus/")
    }

    fn answer(
        self: Arc<Self>,
        exchange: Exchange,
    ) -> Pin<Box<dyn Future<Output = Response<Vec<u8>>> + Send>> {
        Box::pin(async move {
            if exchange.path == iam::TOKEN_PATH {
                return iam::exchange_token(&exchange, &self.backend, &self.tokens, clock::now());
            }
            match self.carry_out(&exchange).await {
                Ok(response) => response,
                Err(fault) => {
                    let mut response = fault.response(&exchange.request_id);
                    if fault.status == StatusCode::UNAUTHORIZED {
                        let scheme = HeaderValue::from_static("Bearer");
                        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                    }
                    response
                }
            }
        })
    }

    fn refuse(&self, refusal: Refusal, path: &str, request_id: &str) -> Response<Vec<u8>> {
        if path == iam::TOKEN_PATH {
            return iam::refuse(refusal, request_id);
        }
        let fault = match refusal {
            Refusal::BodyTooLarge => Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "validation_failure",
                "the request body is too large",
            ),
            Refusal::BodyTooSlow => Fault::new(
                StatusCode::REQUEST_TIMEOUT,
                "validation_failure",
                "the request body did not arrive in time",
            ),
            Refusal::BodyUnreadable => Fault::new(
                StatusCode::BAD_REQUEST,
                "validation_failure",
                "the request body broke off",
            ),
            Refusal::Internal => Fault::internal(),
        };
        fault.response(request_id)
    }
}
