//! The key that seals secrets, in a file of its own.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use isthmus_crypto::seal::SealingKey;
use isthmus_runtime::private_file;
use zeroize::Zeroizing;

use crate::error::StoreError;

/// Reads the sealing key at `path`, or makes one there (mode 0600, flushed to disk before it is used).
///
/// Whoever loses this file loses every stored secret; whoever copies it can read them.
///
/// # Errors
/// [`StoreError`] if the file cannot be read or made, holds no key, or is open to other users.
pub fn load_or_create_key(path: &Path) -> Result<SealingKey, StoreError> {
    let file_error = |source| StoreError::KeyFile {
        path: path.to_owned(),
        source,
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SealingKey::generate().map_err(|error| file_error(io::Error::other(error)))?;
            private_file::replace(path, key.reveal()).map_err(file_error)?;
            return Ok(key);
        }
        Err(error) => return Err(file_error(error)),
    };
    let mode = fs::metadata(path).map_err(file_error)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyExposed {
            path: path.to_owned(),
        });
    }
    let bytes: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| StoreError::KeyMalformed {
            path: path.to_owned(),
        })?;
    Ok(SealingKey::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.key");
        let made = load_or_create_key(&path).unwrap();
        let read = load_or_create_key(&path).unwrap();
        assert_eq!(made.reveal(), read.reveal());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn exposed_and_malformed_key_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.key");
        load_or_create_key(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_create_key(&path),
            Err(StoreError::KeyExposed { .. })
        ));
        private_file::replace(&path, b"short").unwrap();
        assert!(matches!(
            load_or_create_key(&path),
            Err(StoreError::KeyMalformed { .. })
        ));
        assert!(matches!(
            load_or_create_key(&directory.path().join("missing/store.key")),
            Err(StoreError::KeyFile { .. })
        ));
    }
}
