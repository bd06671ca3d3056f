//! Shared keys: read from where no other user sees them, or generated. Never from the command line.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, bail};
use clap::Args;
use isthmus_runtime::random;
use isthmus_types::Secret;

/// Characters of a generated key, six random bits each.
const GENERATED_LENGTH: usize = 44;

/// Where a shared key comes from.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct KeySource {
    /// Read the shared key from a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Read the shared key from an environment variable.
    #[arg(long, value_name = "VARIABLE")]
    pub key_env: Option<String>,
}

impl KeySource {
    /// The key, if a source is named. One line end at its end is not part of it.
    pub fn read(&self) -> anyhow::Result<Option<Secret>> {
        let text = match (&self.key_file, &self.key_env) {
            (Some(path), _) if path == Path::new("-") => {
                let mut text = String::new();
                io::stdin()
                    .read_to_string(&mut text)
                    .context("the key cannot be read from standard input")?;
                text
            }
            (Some(path), _) => fs::read_to_string(path)
                .with_context(|| format!("the key cannot be read from {}", path.display()))?,
            (None, Some(variable)) => env::var(variable)
                .with_context(|| format!("the environment variable {variable} holds no key"))?,
            (None, None) => return Ok(None),
        };
        let text = Secret::new(text);
        let key = text.reveal().strip_suffix('\n').unwrap_or(text.reveal());
        let key = key.strip_suffix('\r').unwrap_or(key);
        if key.is_empty() {
            bail!("the key is empty");
        }
        Ok(Some(Secret::new(key.to_owned())))
    }
}

/// A new key that no one has seen.
pub fn generate() -> Secret {
    loop {
        let key = random::secret_word(GENERATED_LENGTH);
        // The API takes what begins so for an encoding.
        if !key.reveal().starts_with("0x") && !key.reveal().starts_with("0s") {
            return key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_what_the_api_takes() {
        for _ in 0..100 {
            let key = generate();
            let text = key.reveal();
            assert!((6..=128).contains(&text.len()));
            // The API's characters are more, and `_` and `-` are among them.
            assert!(
                text.chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            );
        }
        assert_ne!(generate(), generate());
    }

    #[test]
    fn one_line_end_is_not_part_of_the_key() {
        let path = env::temp_dir().join(format!("isthmus-key-{}", std::process::id()));
        let source = KeySource {
            key_file: Some(path.clone()),
            key_env: None,
        };
        let mut found = Vec::new();
        for content in ["abcdef", "abcdef\n", "abcdef\r\n"] {
            fs::write(&path, content).unwrap();
            found.push(source.read().unwrap().unwrap());
        }
        fs::write(&path, "\n").unwrap();
        let empty = source.read();
        fs::remove_file(&path).unwrap();
        assert!(found.iter().all(|key| key.reveal() == "abcdef"));
        assert!(empty.is_err());
    }
}
