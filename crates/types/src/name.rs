//! Names that people choose.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no name of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A character that this kind of name does not allow, or one that may not stand there.
    #[error("has a character that is not allowed there")]
    Character,
    /// No character at all.
    #[error("is empty")]
    Empty,
    /// More characters than this kind of name may have.
    #[error("is too long")]
    Long,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $check:ident);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps `text`.
            ///
            /// # Errors
            /// [`NameError`] says what is wrong with it.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                $check(&text).map(|()| Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    )+};
}

names! {
    /// The name of a resource: 1 to 255 characters, none of them a control character. A dialect may allow less.
    ResourceName, printable_255;
    /// The name of a region, such as `us-south`: lower-case letters, digits and hyphens, at most 32.
    RegionName, label_32;
    /// The name of a zone of a region, such as `us-south-1`: lower-case letters, digits and hyphens, at most 32.
    ZoneName, label_32;
    /// The name of a host that carries packets: a DNS label of at most 32 characters.
    HostName, label_32;
    /// The mark of one Isthmus installation on a host: 1 to 12 lower-case letters and digits, a letter first.
    ///
    /// Every namespace that an installation creates carries its realm, so several can share a machine.
    Realm, realm_12;
}

fn printable_255(text: &str) -> Result<(), NameError> {
    bounded(text, 255)?;
    if text.chars().any(char::is_control) {
        Err(NameError::Character)
    } else {
        Ok(())
    }
}

fn label_32(text: &str) -> Result<(), NameError> {
    bounded(text, 32)?;
    let ok = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if ok && !text.starts_with('-') && !text.ends_with('-') {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

fn realm_12(text: &str) -> Result<(), NameError> {
    bounded(text, 12)?;
    let ok = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if ok && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

fn bounded(text: &str, most: usize) -> Result<(), NameError> {
    match text.chars().count() {
        0 => Err(NameError::Empty),
        count if count > most => Err(NameError::Long),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(ResourceName::new(""), Err(NameError::Empty));
        assert_eq!(ResourceName::new("x".repeat(256)), Err(NameError::Long));
        assert_eq!(ResourceName::new("a\nb"), Err(NameError::Character));
        assert_eq!(Realm::new("1abc"), Err(NameError::Character));
        assert_eq!(ZoneName::new("us-south-"), Err(NameError::Character));
        assert!(ZoneName::new("us-south-1").is_ok());
    }
}
