//! Configuration: a TOML file over defaults, and command-line flags over both.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use isthmus_types::{HostName, Realm};
use serde::{Deserialize, Serialize};

/// Everything that an operator may choose. A file may leave out any of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Mark of this installation, part of the name of every namespace that it makes.
    pub realm: Realm,
    /// Name of this host.
    pub host: HostName,
    /// Address that the API listens on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Address of the API as clients see it, if not the one it listens on.
    pub public_url: Option<String>,
    /// Answers every request as the first administrator, without credentials. Only for a machine of one's own.
    pub no_auth: bool,
    /// What is logged, such as `info` or `warn,isthmus_agent=debug`.
    pub log: String,
    /// Every other key: what the installation offers (region, zones, public range, quotas). Whoever interprets it
    /// refuses keys that nobody knows.
    #[serde(flatten)]
    pub offer: toml::Table,
}

/// Values from the command line, which win over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// For [`Config::realm`].
    pub realm: Option<Realm>,
    /// For [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// For [`Config::log`].
    pub log: Option<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not what a configuration looks like.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        message: String,
    },
    /// The file could not be read.
    #[error("{}: reading the configuration failed", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            realm: Realm::new("isthmus").expect("the literal is a realm"),
            host: HostName::new("local").expect("the literal is a host name"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8480),
            public_url: None,
            no_auth: false,
            log: "info".to_owned(),
            offer: toml::Table::new(),
        }
    }
}

impl Config {
    /// Reads `file`, or `fallback` if none is named and that one exists, and puts `overrides` on top.
    ///
    /// # Errors
    /// [`ConfigError`] if a named file is missing, or a value has another form than its key needs.
    pub fn load(file: Option<&Path>, fallback: &Path, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => Self::read(path)?,
            None => match Self::read(fallback) {
                Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Self::default()
                }
                other => other?,
            },
        };
        if let Some(realm) = overrides.realm {
            config.realm = realm;
        }
        if let Some(listen) = overrides.listen {
            config.listen = listen;
        }
        if let Some(log) = overrides.log {
            config.log = log;
        }
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path), Path::new("/nonexistent"), overrides)
    }

    #[test]
    fn defaults_hold_without_any_file() {
        let config = Config::load(None, Path::new("/nonexistent/config.toml"), Overrides::default());
        assert_eq!(config.unwrap(), Config::default());
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            ..Overrides::default()
        };
        let config = load("realm = \"lab\"\nlisten = \"127.0.0.1:1\"\n", overrides).unwrap();
        assert_eq!(config.realm.as_str(), "lab");
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.host, Config::default().host);
        assert!(config.offer.is_empty());
    }

    #[test]
    fn keys_about_the_offer_are_handed_on() {
        let config = load(
            "zones = [\"a-1\"]\n[quotas]\nvpcs = 20000\n",
            Overrides::default(),
        )
        .unwrap();
        assert_eq!(config.offer["quotas"]["vpcs"].as_integer(), Some(20_000));
        assert_eq!(config.offer.len(), 2);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        for (text, expected) in [
            ("realm = \"Not A Realm\"", "not allowed"),
            ("no_auth = 1", "boolean"),
            ("listen = ", "line 1"),
        ] {
            let message = load(text, Overrides::default()).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let missing = Config::load(
            Some(Path::new("/nonexistent/x.toml")),
            Path::new("/"),
            Overrides::default(),
        );
        assert!(matches!(missing, Err(ConfigError::Read { .. })));
    }
}
