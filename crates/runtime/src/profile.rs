//! The profile file: where the API is and what to log in with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isthmus_types::{AccountId, Secret, UserId, secret};
use serde::{Deserialize, Serialize};

use crate::private_file;

/// What a client of the API needs. Stored as TOML, readable by its owner alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Address of the API, such as `http://127.0.0.1:8480`.
    pub url: String,
    /// The API key.
    #[serde(with = "secret::revealed")]
    pub api_key: Secret,
    /// Account that the key belongs to; only the server needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// User that the key belongs to; only the server needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file could not be read or written.
    #[error("{}: {step} the profile failed", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no profile. Its content is not shown: it may hold a key.
    #[error("{}: not a profile: it needs the keys url and api_key", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Profile {
    /// Reads a profile; none if the file does not exist.
    ///
    /// # Errors
    /// [`ProfileError`] if it exists and is no profile, or cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, ProfileError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Secret::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ProfileError::File {
                    path: path.to_owned(),
                    step: "reading",
                    source,
                });
            }
        };
        match toml::from_str(text.reveal()) {
            Ok(profile) => Ok(Some(profile)),
            Err(_) => Err(ProfileError::Malformed {
                path: path.to_owned(),
            }),
        }
    }

    /// Writes the profile.
    ///
    /// # Errors
    /// [`ProfileError::File`].
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        let text = toml::to_string(self)
            .map(Secret::new)
            .map_err(|_| ProfileError::Malformed {
                path: path.to_owned(),
            })?;
        private_file::replace(path, text.reveal().as_bytes()).map_err(|source| ProfileError::File {
            path: path.to_owned(),
            step: "writing",
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::ResourceBits;

    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_hides_the_content_of_a_bad_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.toml");
        assert_eq!(Profile::load(&path).unwrap(), None);
        let profile = Profile {
            url: "http://127.0.0.1:8480".to_owned(),
            api_key: Secret::new("k-1".to_owned()),
            account: Some(AccountId(ResourceBits::from_random(1))),
            user: None,
        };
        profile.save(&path).unwrap();
        assert_eq!(Profile::load(&path).unwrap(), Some(profile));
        fs::write(&path, "api_key = \"hush\"").unwrap();
        let message = Profile::load(&path).unwrap_err().to_string();
        assert!(!message.contains("hush"), "{message}");
    }
}
