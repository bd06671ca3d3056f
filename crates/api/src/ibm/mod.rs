//! The IBM Cloud VPC API on the server: token exchange, bearer check, and the codec of `isthmus_ibm`.

mod iam;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use isthmus_ibm::{Ask, Decoded, Fault, Scene};
use isthmus_ops::{
    Caller, OpError, Operation, Outcome, Query, Request, UpdateConnectionOptions, UpdateGatewayOptions, Via,
};
use isthmus_runtime::clock;
use isthmus_types::{AccountId, RegionName, ResourceBits, Timestamp, UserId};

use crate::ServeError;
use crate::backend::Backend;
use crate::dialect::{Dialect, Refusal};
use crate::exchange::Exchange;
use crate::facts::{self, ConnectionFacts, Subject};
use crate::options;
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
        if exchange.path == facts::METRICS_PATH {
            return self.metrics(exchange);
        }
        let (subject, method, path) = match Subject::at(&exchange.method, &exchange.path) {
            None => (None, &exchange.method, exchange.path.clone()),
            // The resource is found as the provider's API finds it for reading.
            Some(found) => found.map(|(subject, path)| (Some(subject), &Method::GET, path))?,
        };
        let matched = isthmus_ibm::find_route(method, &path)?;
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
        if let Some(subject) = subject {
            return self.answer_own(subject, exchange, caller, &decoded).await;
        }
        let result = match decoded.ask {
            Ask::Answer(response) => return Ok(*response),
            Ask::Operation(operation) => self.execute(caller, *operation).await,
            Ask::Query(query) => self.backend.query(&caller, &query),
        };
        Ok(isthmus_ibm::encode(&result, &decoded.render))
    }

    /// Answers at one of our own paths about the resource that `decoded` reads, if the caller may read that.
    async fn answer_own(
        &self,
        subject: Subject,
        exchange: &Exchange,
        caller: Caller,
        decoded: &Decoded,
    ) -> Result<Response<Vec<u8>>, Fault> {
        let Ask::Query(query) = &decoded.ask else {
            return Err(facts::unknown());
        };
        let facts = self.facts.as_deref();
        let (connection, tell): (_, fn(&dyn ConnectionFacts, _) -> _) = match (subject, &**query) {
            (Subject::Doctor, Query::VpnConnection { connection, .. }) => {
                (*connection, |facts, id| facts.doctor(id))
            }
            (Subject::Settings, Query::VpnConnection { connection, .. }) => {
                (*connection, |facts, id| facts.settings(id))
            }
            (Subject::Options, _) => {
                let result = self.options(exchange, caller, query).await?;
                let shown = result.as_ref().ok().and_then(options::answer);
                return Ok(shown.unwrap_or_else(|| isthmus_ibm::encode(&result, &decoded.render)));
            }
            (Subject::Reset, Query::VpnConnection { gateway, connection }) => {
                options::nothing_but_an_object(&exchange.body)?;
                let operation = Operation::ResetVpnConnection {
                    gateway: *gateway,
                    connection: *connection,
                    if_match: isthmus_ibm::if_match(&exchange.headers),
                };
                let result = self.execute(caller, operation).await;
                let mut response = isthmus_ibm::encode(&result, &decoded.render);
                if result.is_ok() {
                    // The host is still to do it.
                    *response.status_mut() = StatusCode::ACCEPTED;
                }
                return Ok(response);
            }
            (Subject::Doctor | Subject::Reset | Subject::Settings, _) => return Err(facts::unknown()),
        };
        let allowed = self.backend.query(&caller, query);
        if allowed.is_err() {
            return Ok(isthmus_ibm::encode(&allowed, &decoded.render));
        }
        let found = facts
            .and_then(|facts| tell(facts, connection))
            .ok_or_else(facts::unknown)?;
        let mut response = Response::new(found.to_string().into_bytes());
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json; charset=utf-8"),
        );
        Ok(response)
    }

    /// Metrics for whoever shows a token, or an API key: scrapers send what they are given and cannot exchange it.
    fn metrics(&self, exchange: &Exchange) -> Result<Response<Vec<u8>>, Fault> {
        if exchange.method != Method::GET {
            return Err(Fault::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_route",
                format!("this path knows GET, not {}", exchange.method),
            ));
        }
        let by_token = self.authenticate(&exchange.headers, clock::now());
        let (account, _) = by_token.or_else(|fault| {
            bearer(&exchange.headers)
                .ok()
                .and_then(|key| self.backend.account_of_api_key(key))
                .ok_or(fault)
        })?;
        let found = self
            .facts
            .as_deref()
            .and_then(|facts| facts.metrics(account))
            .ok_or_else(facts::unknown)?;
        let mut response = Response::new(found.text.into_bytes());
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(found.content_type));
        Ok(response)
    }

    /// Reads or changes the options of the resource that `resource` reads.
    async fn options(
        &self,
        exchange: &Exchange,
        caller: Caller,
        resource: &Query,
    ) -> Result<Result<Outcome, OpError>, Fault> {
        let change = exchange.method == Method::PATCH;
        let if_match = isthmus_ibm::if_match(&exchange.headers);
        let operation = if let Query::VpnConnection { gateway, connection } = *resource {
            if !change {
                let query = Query::ConnectionOptions { gateway, connection };
                return Ok(self.backend.query(&caller, &query));
            }
            Operation::UpdateConnectionOptions(UpdateConnectionOptions {
                gateway,
                connection,
                change: options::connection_change(&exchange.body)?,
                if_match,
            })
        } else if let Query::VpnGateway(gateway) = *resource {
            if !change {
                return Ok(self.backend.query(&caller, &Query::GatewayOptions(gateway)));
            }
            let change = options::gateway_change(&exchange.body)?;
            Operation::UpdateGatewayOptions(UpdateGatewayOptions {
                gateway,
                key_log: change.key_log,
                ipv6: change.ipv6,
                if_match,
            })
        } else {
            return Err(facts::unknown());
        };
        Ok(self.execute(caller, operation).await)
    }

    async fn execute(&self, caller: Caller, operation: Operation) -> Result<Outcome, OpError> {
        let request = Request {
            caller,
            operation,
            idempotency_token: None,
        };
        self.backend.execute(request).await
    }

    fn authenticate(&self, headers: &HeaderMap, now: Timestamp) -> Result<(AccountId, UserId), Fault> {
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(anonymous) = self.anonymous
        {
            return Ok(anonymous);
        }
        self.tokens
            .verify(bearer(headers)?, now)
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

/// What the header `Authorization` bears.
fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let given = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Fault::unauthenticated("the header Authorization is missing"))?;
    given
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Fault::unauthenticated("the header Authorization must be Bearer and a token"))
}

fn is_authority(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

impl Dialect for Ibm {
    fn serves(&self, path: &str) -> bool {
        path == iam::TOKEN_PATH
            || path == facts::METRICS_PATH
            || path.starts_with("/v1/")
            || path.starts_with("/isthmus/")
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
