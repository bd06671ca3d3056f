//! The profile file: where the API is and the key to log in with.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use isthmus_types::{Secret, secret};
use serde::{Deserialize, Serialize};

/// Where the API is and the key to log in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Address of the API, such as `http://127.0.0.1:8730`.
    pub url: String,
    /// The API key.
    #[serde(with = "secret::revealed")]
    pub api_key: Secret,
}

/// Why a profile cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The address is none that this client can use.
    #[error("{url:?} is no http:// address")]
    Address {
        /// What the profile says.
        url: String,
    },
    /// The text is no profile.
    #[error("{path} is no profile: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a value, since one of them is the key.
        reason: String,
    },
    /// There is no such file.
    #[error(
        "there is no profile at {path}; `isthmus up` and `isthmus server` write one into their state directory, \
         which --state-dir, --profile or ISTHMUS_PROFILE name"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the profile {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("the profile {path} cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Profile {
    /// Reads the profile at `path`.
    ///
    /// # Errors
    /// [`ProfileError`] if there is none or it cannot be read.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProfileError::Missing {
                    path: path.to_owned(),
                });
            }
            Err(source) => {
                return Err(ProfileError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        toml::from_str(&text).map_err(|error| ProfileError::Malformed {
            path: path.to_owned(),
            reason: error.message().to_owned(),
        })
    }

    /// Writes the profile to `path`, which only the owner can read, in one step: a reader sees the old or the new
    /// content.
    ///
    /// # Errors
    /// [`ProfileError::Write`].
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        let failed = |source| ProfileError::Write {
            path: path.to_owned(),
            source,
        };
        let text = toml::to_string(self).map_err(|error| failed(io::Error::other(error)))?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = PathBuf::from(name);
        let write = || {
            let mut file = fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(failed).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn written_profile_reads_back_and_is_private() {
        let directory = std::env::temp_dir().join(format!("isthmus-profile-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("credentials.toml");
        let profile = Profile {
            url: "http://127.0.0.1:1".to_owned(),
            api_key: Secret::new("key".to_owned()),
        };
        profile.save(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let found = Profile::load(&path);
        let files = fs::read_dir(&directory).unwrap().count();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.unwrap(), profile);
        assert_eq!((mode, files), (0o600, 1));
    }

    #[test]
    fn missing_profile_says_what_to_do() {
        let error = Profile::load(Path::new("/nowhere/credentials.toml")).unwrap_err();
        assert!(matches!(error, ProfileError::Missing { .. }));
        assert!(error.to_string().contains("--state-dir"));
    }

    #[test]
    fn key_is_not_in_an_error() {
        let error = toml::from_str::<Profile>("url = 1\napi_key = \"hush\"").unwrap_err();
        assert!(!error.message().contains("hush"));
    }
}
