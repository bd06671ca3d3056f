//! Requests and answers.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use isthmus_runtime::Profile;
use isthmus_types::{Secret, secret};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::error::{ClientError, login_refused, refused};

/// The date of the API that this client speaks: it decides how the server renders resources.
pub const API_VERSION: &str = "2026-10-06";

/// Root of what only this server has.
pub(crate) const OWN_ROOT: &str = "/isthmus/";

const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one server, logged in with one key.
#[derive(Debug)]
pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    url: String,
    api_key: Secret,
    token: Mutex<Option<Token>>,
}

#[derive(Clone, Debug)]
struct Token {
    text: Secret,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(with = "secret::revealed")]
    access_token: Secret,
    expires_in: u64,
}

impl Client {
    /// A client for the server and key of the profile at `path`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError`] if there is no profile, or none that can be used.
    pub fn from_profile(path: &Path) -> Result<Self, ClientError> {
        match Profile::load(path).map_err(ClientError::Profile)? {
            Some(profile) => Self::new(&profile),
            None => Err(ClientError::NoProfile {
                path: path.to_owned(),
            }),
        }
    }

    /// A client for the server and key of `profile`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Address`] if the address is none that this client can use.
    pub fn new(profile: &Profile) -> Result<Self, ClientError> {
        let url = profile.url.trim_end_matches('/');
        let usable = url
            .parse::<Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        if !usable {
            return Err(ClientError::Address {
                url: profile.url.clone(),
            });
        }
        Ok(Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            url: url.to_owned(),
            api_key: profile.api_key.clone(),
            token: Mutex::new(None),
        })
    }

    /// Address of the API.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.call(Method::GET, path, None).await?;
        decode(Method::GET, path, &body)
    }

    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.call(Method::POST, path, Some(encode(path, body)?)).await?;
        decode(Method::POST, path, &answer)
    }

    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.call(Method::PATCH, path, Some(encode(path, body)?)).await?;
        decode(Method::PATCH, path, &answer)
    }

    pub(crate) async fn put(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::PUT, path, None).await.map(drop)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// Every page of the list at `path`, whose items are under `array`.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        array: &str,
    ) -> Result<Vec<T>, ClientError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut page = format!("{path}{separator}limit=100");
        let mut items = Vec::new();
        loop {
            let mut answer: Map<String, Value> = self.read(&page).await?;
            let found = answer.remove(array).unwrap_or_default();
            let found: Vec<T> =
                serde_json::from_value(found).map_err(|source| undecodable(&Method::GET, path, source))?;
            items.extend(found);
            let Some(start) = answer
                .get("next")
                .and_then(|next| next["href"].as_str())
                .and_then(start_of)
            else {
                return Ok(items);
            };
            let start: String = form_urlencoded::byte_serialize(start.as_bytes()).collect();
            page = format!("{path}{separator}limit=100&start={start}");
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Bytes>) -> Result<Bytes, ClientError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let root = if path.starts_with(OWN_ROOT) { "" } else { "/v1" };
        let target = format!(
            "{}{root}{path}{separator}version={API_VERSION}&generation=2",
            self.url
        );
        let name = format!("{method} {path}");
        let mut renewed = false;
        loop {
            let token = self.token(renewed).await?;
            let mut request = Request::builder()
                .method(method.clone())
                .uri(&target)
                .header(ACCEPT, "application/json")
                .header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
            if body.is_some() {
                request = request.header(CONTENT_TYPE, "application/json");
            }
            let (status, answer) = self.send(request, body.clone().unwrap_or_default()).await?;
            match status {
                200..=299 => return Ok(answer),
                401 if !renewed => renewed = true,
                _ => return Err(refused(&name, status, &answer)),
            }
        }
    }

    // `fresh` distrusts the token at hand: the server may have restarted with another signing secret.
    async fn token(&self, fresh: bool) -> Result<Secret, ClientError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref()
            && !fresh
            && Instant::now() < token.renew_at
        {
            return Ok(token.text.clone());
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "urn:ibm:params:oauth:grant-type:apikey")
            .append_pair("apikey", self.api_key.reveal())
            .append_pair("response_type", "cloud_iam")
            .finish();
        let begin = Instant::now();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/identity/token", self.url))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let (status, body) = self.send(request, form.into()).await?;
        if status != 200 {
            return Err(login_refused(status, &body));
        }
        let answer: TokenAnswer = decode(Method::POST, "/identity/token", &body)?;
        *held = Some(Token {
            text: answer.access_token.clone(),
            renew_at: begin + Duration::from_secs(answer.expires_in) * 4 / 5,
        });
        Ok(answer.access_token)
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<(u16, Bytes), ClientError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Unreachable {
            url: self.url.clone(),
            source,
        };
        let request = request.body(Full::new(body)).map_err(|e| unreachable(e.into()))?;
        let exchange = async {
            let answer = self
                .http
                .request(request)
                .await
                .map_err(|e| unreachable(e.into()))?;
            let status = answer.status().as_u16();
            let body = answer
                .into_body()
                .collect()
                .await
                .map_err(|e| unreachable(e.into()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout {
                url: self.url.clone(),
                limit: PATIENCE,
            }),
        }
    }
}

fn encode(path: &str, body: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|source| undecodable(&Method::POST, path, source))
}

fn decode<T: DeserializeOwned>(method: Method, path: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| undecodable(&method, path, source))
}

fn undecodable(method: &Method, path: &str, source: serde_json::Error) -> ClientError {
    ClientError::Decode {
        request: format!("{method} {path}"),
        source,
    }
}

// The `start` parameter of a link to the next page.
fn start_of(href: &str) -> Option<String> {
    let (_, query) = href.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "start")
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_addresses_are_taken() {
        for (url, usable) in [
            ("http://127.0.0.1:8730", true),
            ("http://127.0.0.1:8730/", true),
            ("https://127.0.0.1", false),
            ("127.0.0.1:8730", false),
            ("", false),
        ] {
            let profile = Profile {
                url: url.to_owned(),
                api_key: Secret::new(String::new()),
                account: None,
                user: None,
            };
            assert_eq!(Client::new(&profile).is_ok(), usable, "{url}");
        }
    }

    #[test]
    fn missing_profile_says_what_to_do() {
        let error = Client::from_profile(Path::new("/nowhere/credentials.toml")).unwrap_err();
        assert!(matches!(error, ClientError::NoProfile { .. }));
        assert!(error.to_string().contains("--state-dir"));
    }

    #[test]
    fn start_is_read_from_the_link() {
        assert_eq!(
            start_of("http://x/v1/vpcs?limit=3&start=a%2Fb"),
            Some("a/b".to_owned())
        );
        assert_eq!(start_of("http://x/v1/vpcs"), None);
    }

    #[test]
    fn key_is_not_in_the_debug_text() {
        let profile = Profile {
            url: "http://127.0.0.1".to_owned(),
            api_key: Secret::new("hush".to_owned()),
            account: None,
            user: None,
        };
        assert!(!format!("{:?}", Client::new(&profile).unwrap()).contains("hush"));
    }
}
