//! What only hosts know about a connection, and the paths where it is read.

use http::{Method, StatusCode};
use isthmus_ibm::Fault;
use isthmus_types::VpnConnectionId;
use serde_json::Value;

/// Root of our own paths.
pub(crate) const ROOT: &str = "/isthmus";

/// Where facts about connections come from. The server asks only for connections that the caller may read.
pub trait ConnectionFacts: Send + Sync {
    /// State, findings, SAs and last events, without secrets; none if nothing is known.
    fn doctor(&self, connection: VpnConnectionId) -> Option<Value>;

    /// Every setting as the gateway runs it, without secrets; none if it is not planned.
    fn settings(&self, connection: VpnConnectionId) -> Option<Value>;
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Doctor,
    Settings,
}

impl Fact {
    /// The fact at `path`, and the path of the connection that it is about in the provider's API; none for other paths.
    pub(crate) fn at(method: &Method, path: &str) -> Option<Result<(Self, String), Fault>> {
        let rest = path.strip_prefix(ROOT)?;
        let found = rest
            .strip_suffix("/doctor")
            .map(|connection| (Self::Doctor, connection))
            .or_else(|| {
                rest.strip_suffix("/settings")
                    .map(|connection| (Self::Settings, connection))
            });
        Some(match found {
            None => Err(unknown()),
            Some(_) if *method != Method::GET => Err(Fault::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_route",
                format!("this path knows GET, not {method}"),
            )),
            Some((fact, connection)) => Ok((fact, connection.to_owned())),
        })
    }

    /// Asks for it.
    pub(crate) fn read(self, facts: &dyn ConnectionFacts, connection: VpnConnectionId) -> Option<Value> {
        match self {
            Self::Doctor => facts.doctor(connection),
            Self::Settings => facts.settings(connection),
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
    fn a_path_names_a_connection_and_a_fact() {
        let path = "/isthmus/v1/vpn_gateways/g/connections/c/doctor";
        let (fact, connection) = Fact::at(&Method::GET, path).unwrap().unwrap();
        assert_eq!(fact, Fact::Doctor);
        assert_eq!(connection, "/v1/vpn_gateways/g/connections/c");
        assert!(Fact::at(&Method::DELETE, path).unwrap().is_err());
        assert!(Fact::at(&Method::GET, "/isthmus/v1/vpcs").unwrap().is_err());
        assert!(Fact::at(&Method::GET, "/v1/vpcs/doctor").is_none());
    }
}
