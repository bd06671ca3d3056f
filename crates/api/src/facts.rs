//! Our own paths beside the provider's: what only hosts know about a connection, and options that the provider lacks.

use http::{Method, StatusCode};
use isthmus_ibm::Fault;
use isthmus_types::{AccountId, VpnConnectionId};
use serde_json::Value;

/// Where metrics are read.
pub(crate) const METRICS_PATH: &str = "/metrics";

/// Root of our own paths.
pub(crate) const ROOT: &str = "/isthmus";

/// Where facts about connections come from. The server asks only for connections that the caller may read.
pub trait ConnectionFacts: Send + Sync {
    /// State, findings, SAs and last events, without secrets; none if nothing is known.
    fn doctor(&self, connection: VpnConnectionId) -> Option<Value>;

    /// Every setting as the gateway runs it, without secrets; none if it is not planned.
    fn settings(&self, connection: VpnConnectionId) -> Option<Value>;

    /// Metrics of what belongs to `account`, in the text form that scrapers read; none if there are none yet.
    fn metrics(&self, account: AccountId) -> Option<Metrics>;
}

/// Metrics in a form that scrapers read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Type of the text.
    pub content_type: &'static str,
    /// All of them.
    pub text: String,
}

/// What one of our own paths is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Doctor,
    Options,
    Reset,
    Settings,
}

impl Subject {
    /// The subject of `path`, and the path of the connection or gateway that it is of in the provider's API; none for
    /// other paths.
    pub(crate) fn at(method: &Method, path: &str) -> Option<Result<(Self, String), Fault>> {
        const SUBJECTS: [(&str, Subject); 4] = [
            ("/doctor", Subject::Doctor),
            ("/options", Subject::Options),
            ("/reset", Subject::Reset),
            ("/settings", Subject::Settings),
        ];
        let rest = path.strip_prefix(ROOT)?;
        let found = SUBJECTS
            .into_iter()
            .find_map(|(suffix, subject)| rest.strip_suffix(suffix).map(|resource| (subject, resource)));
        Some(match found {
            None => Err(unknown()),
            Some((subject, _)) if !subject.methods().contains(method) => {
                let known: Vec<&str> = subject.methods().iter().map(Method::as_str).collect();
                Err(Fault::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "invalid_route",
                    format!("this path knows {}, not {method}", known.join(" and ")),
                ))
            }
            Some((subject, resource)) => Ok((subject, resource.to_owned())),
        })
    }

    const fn methods(self) -> &'static [Method] {
        match self {
            Self::Doctor | Self::Settings => &[Method::GET],
            Self::Options => &[Method::GET, Method::PATCH],
            Self::Reset => &[Method::POST],
        }
    }
}

/// The answer for what is not there.
pub(crate) fn unknown() -> Fault {
    Fault::new(
        StatusCode::NOT_FOUND,
        "invalid_route",
        "there is nothing at this path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_resource_and_what_is_asked_of_it() {
        let path = "/isthmus/v1/vpn_gateways/g/connections/c/doctor";
        let (subject, connection) = Subject::at(&Method::GET, path).unwrap().unwrap();
        assert_eq!(subject, Subject::Doctor);
        assert_eq!(connection, "/v1/vpn_gateways/g/connections/c");
        assert!(Subject::at(&Method::DELETE, path).unwrap().is_err());
        assert!(Subject::at(&Method::PATCH, path).unwrap().is_err());
        let path = "/isthmus/v1/vpn_gateways/g/options";
        let (subject, gateway) = Subject::at(&Method::PATCH, path).unwrap().unwrap();
        assert_eq!(
            (subject, gateway.as_str()),
            (Subject::Options, "/v1/vpn_gateways/g")
        );
        assert!(Subject::at(&Method::GET, "/isthmus/v1/vpcs").unwrap().is_err());
        assert!(Subject::at(&Method::GET, "/v1/vpcs/doctor").is_none());
    }
}
