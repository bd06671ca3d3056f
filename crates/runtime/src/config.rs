//! Configuration: a TOML file over defaults, and command-line flags over both.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use isthmus_types::{Cidr, HostName, Realm, RegionName, ZoneName};
use serde::{Deserialize, Serialize};

/// Everything that an operator may choose. A file may leave out any of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Mark of this installation, part of the name of every namespace that it makes.
    pub realm: Realm,
    /// Name of this host.
    pub host: HostName,
    /// Name of the region.
    pub region: RegionName,
    /// Names of its zones, in order, at least one.
    pub zones: Vec<ZoneName>,
    /// Range of the public addresses.
    pub public_pool: Cidr,
    /// Address that the API listens on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Address of the API as clients see it, if not the one it listens on.
    pub public_url: Option<String>,
    /// Answers every request as the first administrator, without credentials. Only for a machine of one's own.
    pub no_auth: bool,
    /// Offers and accepts obsolete algorithms (MD5, SHA-1, 3DES, groups 2 and 5) in automatic negotiation.
    pub legacy_algorithms: bool,
    /// What is logged, such as `info` or `warn,isthmus_agent=debug`.
    pub log: String,
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
    /// A value that cannot work.
    #[error("configuration key {key}: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        message: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            realm: Realm::new("isthmus").expect("the literal is a realm"),
            host: HostName::new("local").expect("the literal is a host name"),
            region: RegionName::new("us-south").expect("the literal is a region name"),
            zones: (1..=3)
                .map(|n| ZoneName::new(format!("us-south-{n}")).expect("the format is a zone name"))
                .collect(),
            public_pool: "203.0.113.0/24".parse().expect("the literal is a range"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8480),
            public_url: None,
            no_auth: false,
            legacy_algorithms: true,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads `file`, or `fallback` if none is named and that one exists, and puts `overrides` on top.
    ///
    /// # Errors
    /// [`ConfigError`] if a named file is missing, or a value cannot work.
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
        config.check()?;
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

    fn check(&self) -> Result<(), ConfigError> {
        if self.zones.is_empty() {
            return Err(value("zones", "at least one zone is needed"));
        }
        if self
            .zones
            .iter()
            .enumerate()
            .any(|(index, zone)| self.zones[..index].contains(zone))
        {
            return Err(value("zones", "a zone is listed twice"));
        }
        match self.public_pool.v4() {
            Some(net) if net.prefix_len() <= 29 => Ok(()),
            Some(_) | None => Err(value(
                "public_pool",
                "an IPv4 range of at least eight addresses is needed",
            )),
        }
    }
}

fn value(key: &'static str, message: &str) -> ConfigError {
    ConfigError::Value {
        key,
        message: message.to_owned(),
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
        assert_eq!(config.region.as_str(), "us-south");
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        for (text, expected) in [
            ("relm = \"x\"", "relm"),
            ("realm = \"Not A Realm\"", "line 1"),
            ("zones = []", "zones"),
            ("zones = [\"a\", \"a\"]", "zones"),
            ("public_pool = \"203.0.113.0/30\"", "public_pool"),
            ("public_pool = \"2001:db8::/64\"", "public_pool"),
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
